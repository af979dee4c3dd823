//! What leaves a provider proves itself: the sealed log and evidence bundles of a running and a stopped
//! demo, verified by the program alone, by `openssl`, and by Python's reader of archives; and an
//! authority for time stamps that is somebody else's program.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use scenarios::tools::{self, tool};
use scenarios::{Demo, process, wire};
use serde_json::Value;

const MARIO: &str = "mario.rossi@pec.alfa.example";
const VERDI: &str = "studio.verdi@pec.beta.example";
const NOBODY: &str = "nessuno@pec.beta.example";

/// Runs a command on a demo's provider: its status, what it printed, what it complained of.
fn run(demo: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let config = demo.join("ceralacca.toml");
    let all = [arguments, &["--config", config.to_str().unwrap()]].concat();
    let output = process::run(&all, "").unwrap();
    let text = |octets| String::from_utf8(octets).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// What a command that was done printed.
fn done(demo: &Path, arguments: &[&str]) -> String {
    let (status, out, err) = run(demo, arguments);
    assert_eq!((status, err.as_str()), (Some(0), ""), "{arguments:?}: {out}");
    out
}

/// The same, read.
fn told(demo: &Path, arguments: &[&str]) -> Value {
    serde_json::from_str(&done(demo, arguments)).unwrap()
}

/// `verify` without any configuration, in a folder of its own.
fn verify(file: &Path, more: &[&str]) -> (Option<i32>, Value) {
    let arguments = [&["verify", file.to_str().unwrap(), "--json"], more].concat();
    let output = process::run(&arguments, "").unwrap();
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap())
}

fn submit(demo: &Demo, to: &[&str], subject: &str) -> String {
    let message = format!(
        "From: {MARIO}\r\nTo: {}\r\nSubject: {subject}\r\nMessage-ID: <{subject}@client.example>\r\n\
         \r\nCiao <b>mondo</b>.\r\n",
        to.join(", ")
    );
    let mut smtp = demo.submit_as("mrossi").unwrap();
    let id = smtp.submit(MARIO, to, message.as_bytes()).unwrap();
    demo.settle().unwrap();
    id
}

fn wrong(report: &Value) -> Vec<(String, String)> {
    let checks = report["checks"].as_array().unwrap().iter().filter(|check| check["ok"] == false);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    checks.map(|check| (text(&check["rule"]), text(&check["text"]))).collect()
}

/// An archive with one of its files replaced by Python.
fn replaced(file: &Path, name: &str, edit: &str) -> PathBuf {
    let out = file.with_extension("edited.zip");
    let script = format!(
        "import sys, zipfile\nsource = zipfile.ZipFile(sys.argv[1])\n\
         target = zipfile.ZipFile(sys.argv[2], 'w', zipfile.ZIP_DEFLATED)\n\
         for name in source.namelist():\n    octets = source.read(name)\n    \
         if name.startswith({name:?}):\n        {edit}\n    target.writestr(name, octets)\n\
         target.close()\n"
    );
    let mut python = tool("python3", "python3").unwrap();
    python.arg("-c").arg(script).arg(file).arg(&out);
    tools::run(&mut python).unwrap().ok().unwrap();
    out
}

// PEC-LOG-01 PEC-LOG-02 PEC-LOG-03
#[test]
fn evidence_proves_itself_and_what_is_tampered_with_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let demo = Demo::start(&folder.path().join("demo")).unwrap();
    let data = demo.data.clone();
    let id = submit(&demo, &[VERDI, NOBODY], "Offerta");
    let bundle = folder.path().join("prove.zip");
    let bundle_text = bundle.to_str().unwrap();

    // While it runs, by the identifier that the sender's client gave.
    let made = told(&data, &["evidence", "<Offerta@client.example>", "-o", bundle_text, "--json"]);
    assert_eq!(made["identificativo"].as_str().unwrap(), id.trim_matches(['<', '>']));
    assert_eq!(made["missing"].as_array().unwrap().len(), 0, "{made}");
    // Acceptance, envelope, take-charge, delivery, non-delivery.
    assert_eq!(made["messages"], 5, "{made}");
    let found = told(&data, &["log", "verify", "--json"]);
    assert_eq!((&found["verdict"], &found["unsealed"]), (&"valid".into(), &0.into()), "{found}");
    assert_eq!(found["notes"].as_array().unwrap().len(), 0, "{found}");

    // Elsewhere: with whom to believe, and without.
    let text = |name: &str| demo.ready[name].as_str().unwrap().to_owned();
    let (ca, index) = (text("ca"), text("index"));
    let named = ["--ca", &ca, "--index", &index];
    let (status, report) = verify(&bundle, &named);
    assert_eq!((status, &report["verdict"]), (Some(0), &"valid".into()), "{report}");
    assert_eq!(report["kind"], "fascicolo");
    assert_eq!(report["mittente"], MARIO);
    assert_eq!(wrong(&report), []);
    let (status, report) = verify(&bundle, &[]);
    assert_eq!(status, Some(0), "{report}");
    let notes = report["notes"].to_string();
    assert!(notes.contains("no authority was named: those in the bundle were believed"), "{notes}");
    assert_eq!(verify(&bundle, &["--strict"]).0, Some(1));
    let output = process::run(&["verify", bundle_text], "").unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.lines().next().unwrap().contains("NOT checked: who issued"), "{said}");

    // An archive for anybody's program, with a page for anybody.
    let mut python = tool("python3", "python3").unwrap();
    python.args(["-m", "zipfile", "-e", bundle_text]).arg(folder.path().join("out"));
    tools::run(&mut python).unwrap().ok().unwrap();
    let page = std::fs::read_to_string(folder.path().join("out/leggimi.html")).unwrap();
    for said in ["Offerta", MARIO, VERDI, "ricevuta di avvenuta consegna", "marca temporale"] {
        assert!(page.contains(said), "{said}: {page}");
    }
    for kind in ["accettazione", "posta-certificata", "presa-in-carico", "avvenuta-consegna"] {
        let messages = std::fs::read_dir(folder.path().join("out/messaggi")).unwrap();
        let named = |name: &str| name.ends_with(&format!("-{kind}.eml"));
        let file = messages.map(|entry| entry.unwrap().path());
        let file = file.into_iter().find(|path| named(path.to_str().unwrap())).unwrap();
        let mut openssl = tool("openssl", "openssl").unwrap();
        openssl.args(["cms", "-verify", "-in"]).arg(&file).args(["-CAfile", &ca]);
        openssl.arg("-out").arg(folder.path().join("content"));
        tools::run(&mut openssl).unwrap().ok().unwrap();
    }

    // Whatever is altered is named.
    let flip = "octets = octets[:-3] + bytes([octets[-3] ^ 1]) + octets[-2:]";
    for (name, edit, rule, words) in [
        ("messaggi/01", "octets = octets.replace(b'Il giorno', b'Un giorno')", "PEC-PR-03", "01-"),
        ("messaggi/01", flip, "PEC-LOG-02", "is not the file that the bundle was made with"),
        ("registro.json", "octets = octets.replace(b'mario', b'maria')", "PEC-LOG-03", "record"),
        (
            "leggimi.html",
            "octets = octets.replace(b'Offerta', b'Rinuncia')",
            "PEC-LOG-02",
            "leggimi",
        ),
        ("indice.ldif", "octets += b'\\n'", "PEC-LOG-02", "indice.ldif"),
        ("crl/01", "name = 'crl/02.pem'", "PEC-LOG-02", "crl/02.pem was not in the bundle"),
    ] {
        let (status, report) = verify(&replaced(&bundle, name, edit), &named);
        assert_eq!(status, Some(1), "{name}: {report}");
        let named = wrong(&report);
        let hit = named.iter().any(|(of, text)| of == rule && text.contains(words));
        assert!(hit, "{name}: {named:?}");
    }
    let gone = replaced(&bundle, "leggimi", "name = '../leggimi.html'");
    assert_eq!(verify(&gone, &named).0, Some(1));

    // The log's own history, and the day.
    let history = folder.path().join("history.json");
    let history_text = history.to_str().unwrap();
    done(&data, &["log", "export", "--message-id", &id, "-o", history_text]);
    for file in [history_text, bundle_text] {
        let output = process::run(&["log", "verify", file, "--ca", &ca], "").unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && said.starts_with("valid: "), "{said}");
    }
    let today = String::from_utf8(
        tools::run(tool("date", "coreutils").unwrap().args(["-u", "+%F"])).unwrap().out,
    );
    let day = told(&data, &["log", "verify", "--day", today.unwrap().trim(), "--json"]);
    assert_eq!(day["verdict"], "valid", "{day}");
    assert!(day["records"].as_u64().unwrap() >= 5, "{day}");

    // Stopped, the same; but what a holder threw away is gone, and said to be.
    let mut imap = demo.imap_as("sverdi").unwrap();
    imap.ok("SELECT INBOX").unwrap();
    imap.ok("STORE 1:* +FLAGS (\\Deleted)").unwrap();
    imap.ok("EXPUNGE").unwrap();
    drop(imap);
    assert!(demo.stop().unwrap().success());
    let made = told(&data, &["evidence", &id, "-o", bundle_text, "--json"]);
    assert_eq!(made["messages"], 4, "{made}");
    let missing: Vec<_> = made["missing"].as_array().unwrap().iter().collect();
    assert_eq!(missing.len(), 1, "{made}");
    assert!(missing[0].as_str().unwrap().ends_with(id.trim_matches(['<', '>'])), "{made}");
    let (status, report) = verify(&bundle, &named);
    assert_eq!((status, wrong(&report)), (Some(0), vec![]), "{report}");
    assert!(report["notes"].to_string().contains("not in the bundle: "), "{report}");
    let (status, _, said) = run(&data, &["evidence", "<nobody@client.example>"]);
    let expected = "ceralacca: the log has no record of <nobody@client.example>\n";
    assert_eq!((status, said.as_str()), (Some(1), expected));
    let (status, _, said) = run(&data, &["log", "expire", "--before", "2090-01-01T00:00:00Z"]);
    assert_eq!(status, Some(1));
    assert!(said.contains("must be kept for 30 months (PEC-LOG-02)"), "{said}");
}

/// An authority behind HTTP that answers with `openssl ts`, once it is up.
struct Authority {
    url: String,
    up: Arc<AtomicBool>,
}

impl Authority {
    fn start(keys: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/tsa", listener.local_addr().unwrap());
        let up = Arc::new(AtomicBool::new(false));
        let is_up = up.clone();
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                answer(&mut socket.unwrap(), &keys, is_up.load(Ordering::Acquire));
            }
        });
        Self { url, up }
    }
}

fn answer(socket: &mut TcpStream, keys: &Path, up: bool) {
    socket.set_read_timeout(Some(wire::ANSWER_WAIT)).unwrap();
    let (mut request, mut octets) = (Vec::new(), [0; 4096]);
    let body = loop {
        let read = socket.read(&mut octets).unwrap();
        request.extend_from_slice(&octets[..read]);
        let Some(end) = request.windows(4).position(|w| w == b"\r\n\r\n") else { continue };
        let header = String::from_utf8(request[..end].to_vec()).unwrap().to_lowercase();
        assert!(header.contains("content-type: application/timestamp-query"), "{header}");
        let length = header.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.unwrap().parse().unwrap();
        if request.len() >= end + 4 + length {
            break request.split_off(end + 4);
        }
    };
    let (status, reply) = if up { ("200 OK", stamp(&body, keys)) } else { ("503 Later", vec![]) };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/timestamp-reply\r\nContent-Length: {}\r\n\r\n",
        reply.len()
    );
    socket.write_all(&[head.as_bytes(), &reply].concat()).unwrap();
}

fn stamp(query: &[u8], keys: &Path) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, octets: &[u8]| std::fs::write(folder.path().join(name), octets).unwrap();
    put("query", query);
    put("serial", b"01\n");
    put(
        "tsa.cnf",
        b"[tsa]\ndefault_tsa = t\n[t]\nserial = ./serial\nsigner_digest = sha256\n\
          default_policy = 1.2.3.4\ndigests = sha256\ness_cert_id_alg = sha256\n",
    );
    let mut openssl = tool("openssl", "openssl").unwrap();
    openssl
        .current_dir(folder.path())
        .args(["ts", "-reply", "-config", "tsa.cnf", "-section", "t"]);
    openssl.args(["-queryfile", "query", "-out", "reply"]);
    openssl.arg("-signer").arg(keys.join("timestamp.pem"));
    openssl.arg("-inkey").arg(keys.join("timestamp.key")).arg("-chain").arg(keys.join("ca.pem"));
    tools::run(&mut openssl).unwrap().ok().unwrap();
    std::fs::read(folder.path().join("reply")).unwrap()
}

/// RFC 3161 over HTTP, with an authority that is down at first: sealing goes on, the stamp comes later.
// PEC-LOG-03
#[test]
fn an_authority_that_was_down_stamps_later() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("demo");
    let authority = Authority::start(data.clone());
    let more = format!("\n[timestamp]\nauthority = \"{}\"\n", authority.url);
    let demo = Demo::start_changed(&data, &[], &more).unwrap();
    let id = submit(&demo, &[VERDI], "Prova");
    // What no seal covers proves nothing where the log is not.
    let history = folder.path().join("history.json");
    let text = history.to_str().unwrap();
    done(&data, &["log", "export", "--message-id", &id, "-o", text]);
    let (status, said, _) = run(&data, &["log", "verify", text]);
    let first = said.lines().next().unwrap();
    assert_eq!((status, first.split(':').next()), (Some(1), Some("NOT proved")), "{said}");
    let (status, said, _) = run(&data, &["log", "verify", text, "--json"]);
    assert_eq!(status, Some(1));
    assert!(said.starts_with(r#"{"verdict":"not proved","#), "{said}");
    let said = done(&data, &["log", "seal"]);
    assert!(said.starts_with("the log is sealed, up to seal 1; its time stamp is asked"), "{said}");
    let found = told(&data, &["log", "verify", "--json"]);
    assert_eq!(found["verdict"], "valid");
    assert_eq!(found["notes"], serde_json::json!(["no time stamp yet: seal 1"]));
    assert_eq!(run(&data, &["log", "verify", "--strict"]).0, Some(1));
    authority.up.store(true, Ordering::Release);
    wire::until("the time stamp", || {
        let found = told(&data, &["log", "verify", "--json"]);
        Ok((found["notes"] == serde_json::json!([])).then_some(()))
    })
    .unwrap();
    let (_, metrics) = demo.page("/metrics").unwrap();
    assert!(metrics.lines().any(|line| line == "ceralacca_log_seals_unstamped 0"), "{metrics}");
    assert!(demo.stop().unwrap().success());
}
