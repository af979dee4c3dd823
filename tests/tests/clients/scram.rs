//! SCRAM bound to the connection of IMAP over TLS. No client of Debian's, PyPI's or npm's binds: this one
//! takes what TLS exports (RFC 9266 §2) from rustls, as such a client would.

use scenarios::demo::PASSWORD;
use scenarios::scram::{self, Said};
use scenarios::{Demo, Imap};

use super::lab::Lab;

/// What AUTHENTICATE is answered.
fn authenticate(
    demo: &Demo,
    mechanism: &str,
    header: &str,
    own_exporter: bool,
) -> anyhow::Result<String> {
    let mut imap = Imap::connect(demo.address("imaps")?, &demo.tls())?;
    let bound = match (own_exporter, header.starts_with("p=")) {
        (true, _) => imap.wire.exporter()?.to_vec(),
        (false, true) => vec![7; 32],
        (false, false) => Vec::new(),
    };
    let mut begin = format!("a AUTHENTICATE {mechanism} ");
    scram::sign_in(("mrossi", PASSWORD), header, &bound, |text| {
        imap.wire.write(format!("{}{text}\r\n", std::mem::take(&mut begin)).as_bytes())?;
        let reply = String::from_utf8(imap.wire.line()?)?;
        Ok(match reply.strip_prefix("+ ") {
            Some(challenge) => Said::Challenge(challenge.to_owned()),
            None => Said::End(reply),
        })
    })
}

// RFC 5802 §6, RFC 9266 §2
#[test]
fn imap_signs_in_bound_to_its_connection_and_no_other() {
    const GOOD: &str = "a OK [CAPABILITY IMAP4rev1 ";
    const WRONG: &str = "a NO [AUTHENTICATIONFAILED] ";
    const NONE: &str = "a BAD Not a response of this mechanism";
    let lab = Lab::new();
    let plus = "SCRAM-SHA-256-PLUS";
    for (name, mechanism, header, own, expected) in [
        ("bound", plus, "p=tls-exporter,,", true, GOOD),
        ("bound to another connection", plus, "p=tls-exporter,,", false, WRONG),
        ("bound to what was not offered", plus, "p=tls-unique,,", true, NONE),
        ("not bound at all", plus, "n,,", false, NONE),
        ("a client that cannot", "SCRAM-SHA-256", "n,,", false, GOOD),
        ("a client that was told we cannot", "SCRAM-SHA-256", "y,,", false, NONE),
    ] {
        let end = authenticate(&lab.demo, mechanism, header, own).unwrap();
        assert!(end.starts_with(expected), "{name}: {end}");
    }
}
