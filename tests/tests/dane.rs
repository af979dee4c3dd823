//! Mail to ordinary hosts whose TLSA records say whose certificate is theirs: names from a root of the
//! test's own that Knot signs, hosts on addresses of the loopback.

use std::net::SocketAddr;

use anyhow::ensure;
use scenarios::Demo;
use scenarios::certificates::Issuer;
use scenarios::host::Host;
use scenarios::outside::{given_up, sent, submit, submit_with, waits};
use scenarios::zone::Zones;

#[test]
fn a_host_is_held_to_what_its_proved_records_say() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let issuer = Issuer::new(&folder.path().join("issuer"))?;
    std::fs::write(folder.path().join("web.pem"), &issuer.certificate)?;
    let names = ["mx.buono.example", "mx.autorita.example", "mx.senza.example"];
    let (pair, other) = (issuer.issue(&names)?, issuer.issue(&["mx.other.example"])?);
    // All on one port, each on an address of its own.
    let first = Host::start("127.0.0.11:0".parse()?, Some((&pair.chain, &pair.key)))?;
    let port = first.address.port();
    let at = |last: u8| SocketAddr::from(([127, 0, 0, last], port));
    let host = |last| Host::start(at(last), Some((&pair.chain, &pair.key)));
    let (wrong, authority, useless) = (host(12)?, host(13)?, host(14)?);
    let (clear, broken, free) = (Host::start(at(15), None)?, host(16)?, host(17)?);

    let named = host(18)?;

    let key = issuer.key_sha256(&pair.certificate)?;
    let (other, ca) = (issuer.key_sha256(&other.certificate)?, issuer.sha256(&issuer.certificate)?);
    let records = |name: &str, last: u8, tlsa: &str| {
        format!(
            "{name}.example. MX 10 mx.{name}.example.\nmx.{name}.example. A 127.0.0.{last}\n\
             _{port}._tcp.mx.{name}.example. TLSA {tlsa}\n"
        )
    };
    let root = [
        records("buono", 11, &format!("3 1 1 {key}")),
        records("falso", 12, &format!("3 1 1 {other}")),
        records("autorita", 13, &format!("2 0 1 {ca}")),
        records("inutile", 14, &format!("1 1 1 {key}")),
        records("chiaro", 15, &format!("3 1 1 {key}")),
        // One octet of it is another when it is served: see below.
        records("rotto", 16, &format!("3 0 2 {}", "ab".repeat(64))),
        "secondo.example. MX 10 mx.falso.example.\nsecondo.example. MX 20 mx.buono.example.\n"
            .to_owned(),
        "senza.example. MX 10 mx.senza.example.\nmx.senza.example. A 127.0.0.18\n".to_owned(),
        "alias.example. MX 10 mx.alias.example.\nmx.alias.example. CNAME mx.buono.example.\n"
            .to_owned(),
    ]
    .concat();
    let unsigned = format!(
        "@ MX 10 mx.libero.example.\nmx A 127.0.0.17\n_{port}._tcp.mx TLSA 3 1 1 {other}\n"
    );
    let changed = [("ABAB".repeat(8), "ABAC".repeat(8))];
    let changed: Vec<(&str, &str)> =
        changed.iter().map(|(from, to)| (from.as_str(), to.as_str())).collect();
    let zones = Zones::start(
        &folder.path().join("dns"),
        &root,
        &[("libero.example", &unsigned)],
        &changed,
    )?;

    let more = format!(
        "{}[transport]\nport = {port}\nprivate_networks = true\nauthorities = [\"{}\"]\n",
        zones.section(),
        folder.path().join("web.pem").display()
    );
    let demo = Demo::start_changed(&folder.path().join("demo"), &[], &more)?;
    let good = ["buono", "autorita", "inutile", "secondo", "alias", "libero"];
    let bad = ["falso", "chiaro", "rotto"];
    let domains: Vec<String> =
        good.iter().chain(&bad).map(|name| format!("{name}.example")).collect();
    let domains: Vec<&str> = domains.iter().map(String::as_str).collect();
    let id = submit(&demo, &domains)?;

    // RFC 7671 §5.1 and §5.2: known by its key, by its authority, by the second of two hosts, and
    // under the name that an alias leads to (RFC 7672 §2.2.3).
    for (domain, host) in
        [("buono", "buono"), ("autorita", "autorita"), ("secondo", "buono"), ("alias", "alias")]
    {
        let told = sent(&demo, &id, &format!("{domain}.example"))?;
        let right = told.contains(&format!("sent to mx.{host}.example"))
            && told.contains("with TLSv1_3")
            && told.contains(" verified by DANE");
        ensure!(right, "{domain}: {told}");
    }
    // RFC 7672 §2.2: records of a kind that is of no use say that there is TLS, and no more.
    let told = sent(&demo, &id, "inutile.example")?;
    ensure!(told.contains("with TLSv1_3") && told.contains("not verified"), "{told}");
    // RFC 7672 §2.2.1: what is not signed says nothing.
    let told = sent(&demo, &id, "libero.example")?;
    ensure!(told.contains("with TLSv1_3") && told.contains("not verified"), "{told}");
    for host in [&authority, &useless, &free] {
        let taken = host.taken();
        ensure!(taken.len() == 1 && taken[0].over_tls, "{taken:?}");
    }

    // RFC 7672 §2.1.1 and §2.2: what does not hold is waited for, and nothing is sent meanwhile.
    for (domain, why) in [
        ("falso", "the certificate matches none of 1 TLSA records"),
        ("chiaro", "the peer does not offer STARTTLS, which is required"),
        ("rotto", "does not hold against its DNSSEC proof"),
    ] {
        let told = waits(&demo, &format!("{domain}.example"))?;
        ensure!(told.contains(why), "{domain}: {told}");
    }
    for host in [&wrong, &clear, &broken] {
        ensure!(host.taken().is_empty(), "{:?}", host.taken());
    }

    // RFC 8689 §4.2.1: what requires TLS goes where the name of the host is proved and somebody vouches
    // for its certificate: its records, or an authority of the web.
    let id =
        submit_with(&demo, " REQUIRETLS", &["buono.example", "senza.example", "libero.example"])?;
    ensure!(sent(&demo, &id, "buono.example")?.contains(" verified by DANE"));
    ensure!(sent(&demo, &id, "senza.example")?.contains(" verified"));
    let told = given_up(&demo, &id, "libero.example")?;
    ensure!(told.contains("5.7.30 the host does not prove to be the domain's"), "{told}");
    let taken = (named.taken(), free.taken().len());
    ensure!(taken.0[0].envelope[0].ends_with(" REQUIRETLS") && taken.1 == 1, "{taken:?}");
    Ok(())
}
