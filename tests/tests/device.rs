//! A provider whose key is in a device: SoftHSM, over PKCS#11. No file has the key.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use scenarios::demo::free_port_base;
use scenarios::tools::{run, tool};
use scenarios::{Demo, process};

const MARIO: &str = "mario.rossi@pec.alfa.example";
const VERDI: &str = "studio.verdi@pec.beta.example";
const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";

/// SoftHSM's own command, on the tokens of this folder.
fn softhsm(folder: &Path, arguments: &[&str]) {
    let mut util = tool("softhsm2-util", "softhsm2").unwrap();
    util.env("SOFTHSM2_CONF", folder.join("softhsm2.conf")).args(arguments);
    run(&mut util).unwrap().ok().unwrap();
}

// PEC-SIG-06
#[test]
fn a_key_in_a_device_signs_and_nothing_else_does() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let (data, base) = (root.join("demo"), free_port_base().unwrap());
    assert!(Demo::start_with(&data, base, &[]).unwrap().stop().unwrap().success());

    std::fs::create_dir(root.join("tokens")).unwrap();
    let settings = format!("directories.tokendir = {}\n", root.join("tokens").display());
    std::fs::write(root.join("softhsm2.conf"), settings).unwrap();
    std::fs::write(root.join("pin"), "1234\n").unwrap();
    let key = data.join("signing.key");
    let file = key.to_str().unwrap();
    softhsm(
        root,
        &["--init-token", "--free", "--label", "Prova", "--so-pin", "4321", "--pin", "1234"],
    );
    softhsm(
        root,
        &["--import", file, "--token", "Prova", "--label", "firma", "--id", "01", "--pin", "1234"],
    );
    std::fs::remove_file(&key).unwrap();
    let config = data.join("ceralacca.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let pin = root.join("pin");
    let signing = |object: &str| {
        let uri = format!(
            "pkcs11:token=Prova;object={object}?module-path={MODULE}&pin-source={}",
            pin.display()
        );
        std::fs::write(&config, format!("{text}\n[signing]\nkey = \"{uri}\"\n")).unwrap();
    };
    signing("firma");
    let softhsm_conf = root.join("softhsm2.conf");
    let env = [("SOFTHSM2_CONF", softhsm_conf.to_str().unwrap())];

    let demo = Demo::start_with(&data, base, &env).unwrap();
    let message = format!("From: {MARIO}\r\nTo: {VERDI}\r\nSubject: Prova\r\n\r\nCiao.\r\n");
    let mut smtp = demo.submit_as("mrossi").unwrap();
    for _ in 0..20 {
        smtp.submit(MARIO, &[VERDI], message.as_bytes()).unwrap();
    }
    let mut imap = demo.imap_as("mrossi").unwrap();
    imap.wait_for_count("INBOX", 40).unwrap();
    for (_, receipt) in imap.messages("INBOX").unwrap() {
        std::fs::write(root.join("receipt.eml"), &receipt).unwrap();
        let mut verify = tool("openssl", "openssl").unwrap();
        verify.current_dir(root).args(["cms", "-verify", "-in", "receipt.eml"]);
        verify.args(["-CAfile", "demo/ca.pem", "-out", "content"]);
        run(&mut verify).unwrap().ok().unwrap();
    }
    assert!(demo.stop().unwrap().success());

    // Another key, no key, a wrong PIN: nothing starts, and it says why.
    let refused = |why: &str| match Demo::start_with(&data, base, &env) {
        Ok(_) => panic!("it started: {why}"),
        Err(error) => assert!(error.to_string().contains(why), "{why}: {error}"),
    };
    signing("altra");
    refused("the token holds no private RSA key called altra");
    let other = root.join("other.key");
    let mut make = tool("openssl", "openssl").unwrap();
    make.args(["genpkey", "-algorithm", "RSA", "-out"]).arg(&other);
    run(&mut make).unwrap().ok().unwrap();
    let file = other.to_str().unwrap();
    softhsm(
        root,
        &["--import", file, "--token", "Prova", "--label", "altra", "--id", "02", "--pin", "1234"],
    );
    refused("is not the key of");
    signing("firma");
    std::fs::write(&pin, "9999\n").unwrap();
    refused("the device does not take the PIN");
}

#[test]
fn a_store_is_encrypted_under_a_key_in_a_device() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let (data, base) = (root.join("demo"), free_port_base().unwrap());
    assert!(Demo::start_with(&data, base, &[]).unwrap().stop().unwrap().success());
    std::fs::create_dir(root.join("tokens")).unwrap();
    let settings = format!("directories.tokendir = {}\n", root.join("tokens").display());
    std::fs::write(root.join("softhsm2.conf"), settings).unwrap();
    std::fs::write(root.join("pin"), "1234\n").unwrap();
    softhsm(
        root,
        &["--init-token", "--free", "--label", "Prova", "--so-pin", "4321", "--pin", "1234"],
    );
    for (label, id, octet) in [("archivio", "01", 7), ("altra", "02", 8)] {
        let file = root.join(label);
        std::fs::write(&file, [octet; 32]).unwrap();
        let import = ["--import", file.to_str().unwrap(), "--aes", "--token", "Prova", "--label"];
        softhsm(root, &[&import[..], &[label, "--id", id, "--pin", "1234"]].concat());
    }
    let config = data.join("ceralacca.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let key = |object: &str| {
        let (pin, uri) = (root.join("pin"), format!("pkcs11:token=Prova;object={object}"));
        let uri = format!("{uri}?module-path={MODULE}&pin-source={}", pin.display());
        std::fs::write(&config, format!("{text}\n[store]\nkey = \"{uri}\"\n")).unwrap();
    };
    let softhsm_conf = root.join("softhsm2.conf");
    let env = [("SOFTHSM2_CONF", softhsm_conf.to_str().unwrap())];
    let send = |count: u64| {
        let demo = Demo::start_with(&data, base, &env).unwrap();
        let message = format!("From: {MARIO}\r\nTo: {VERDI}\r\nSubject: Prova\r\n\r\nCiao.\r\n");
        demo.submit_as("mrossi").unwrap().submit(MARIO, &[VERDI], message.as_bytes()).unwrap();
        demo.imap_as("mrossi").unwrap().wait_for_count("INBOX", 2 * count).unwrap();
        assert!(demo.stop().unwrap().success());
    };
    key("archivio");
    send(1);
    send(2);
    let refused = |why: &str| match Demo::start_with(&data, base, &env) {
        Ok(_) => panic!("it started: {why}"),
        Err(error) => assert!(error.to_string().contains(why), "{why}: {error}"),
    };
    key("altra");
    refused(
        "the store is encrypted under the key `token Prova, key archivio`, and the configuration \
         names `token Prova, key altra`: name that key as store.key",
    );
    key("archivio");
    softhsm(root, &["--delete-token", "--token", "Prova"]);
    refused("no token of /usr/lib/softhsm/libsofthsm2.so is called Prova");
}

/// The certificate that signed the last message of an INBOX, by its serial number.
fn last_signer(demo: &Demo, root: &Path) -> String {
    let mut imap = demo.imap_as("mrossi").unwrap();
    let (_, last) = imap.messages("INBOX").unwrap().pop().unwrap();
    std::fs::write(root.join("receipt.eml"), &last).unwrap();
    let openssl = |arguments: &str| {
        let mut openssl = tool("openssl", "openssl").unwrap();
        openssl.current_dir(root).args(arguments.split(' '));
        run(&mut openssl).unwrap().ok().unwrap()
    };
    openssl("cms -verify -in receipt.eml -CAfile demo/ca.pem -out content -signer signer.pem");
    openssl("x509 -in signer.pem -noout -serial")
}

// PEC-IDX-05 PEC-SIG-12
#[test]
fn the_next_certificate_takes_over_at_its_instant() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let (data, base) = (root.join("demo"), free_port_base().unwrap());
    assert!(Demo::start_with(&data, base, &[]).unwrap().stop().unwrap().success());
    let openssl = |arguments: &[&str]| {
        let mut openssl = tool("openssl", "openssl").unwrap();
        openssl.current_dir(root).args(arguments);
        run(&mut openssl).unwrap().ok().unwrap()
    };
    let subject = "/C=IT/O=Demo PEC S.p.A./CN=Posta Certificata";
    openssl(&[
        "req", "-newkey", "rsa:2048", "-nodes", "-keyout", "next.key", "-out", "next.csr", "-subj",
        subject,
    ]);
    let extensions = "keyUsage=critical,digitalSignature\nextendedKeyUsage=emailProtection\n\
                      subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n\
                      subjectAltName=email:posta-certificata@pec.alfa.example\n";
    std::fs::write(root.join("ext"), extensions).unwrap();
    openssl(&[
        "x509",
        "-req",
        "-in",
        "next.csr",
        "-CA",
        "demo/ca.pem",
        "-CAkey",
        "demo/ca.key",
        "-days",
        "30",
        "-extfile",
        "ext",
        "-out",
        "next.pem",
    ]);
    let next = openssl(&["x509", "-in", "next.pem", "-noout", "-serial"]);
    let old = openssl(&["x509", "-in", "demo/signing.pem", "-noout", "-serial"]);

    // Beside the old one in the own record, well before it is used.
    let config = data.join("ceralacca.toml");
    let of_config = ["--config", config.to_str().unwrap()];
    let exported = process::run(&[&["index", "export"][..], &of_config].concat(), "").unwrap();
    let record = String::from_utf8(exported.stdout).unwrap();
    openssl(&["x509", "-in", "next.pem", "-outform", "DER", "-out", "next.der"]);
    let der = STANDARD.encode(std::fs::read(root.join("next.der")).unwrap());
    let hash = openssl(&["x509", "-in", "next.pem", "-noout", "-fingerprint", "-sha1"]);
    let hash = hash.trim().rsplit('=').next().unwrap().replace(':', "");
    let both = format!(
        "{}\nproviderCertificateHash: {hash}\nproviderCertificate;binary:: {der}\n",
        record.trim_end()
    );
    std::fs::write(root.join("both.ldif"), both).unwrap();
    let file = root.join("both.ldif");
    let import = ["index", "import", file.to_str().unwrap()];
    let imported = process::run(&[&import[..], &of_config].concat(), "").unwrap();
    assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));

    let text = std::fs::read_to_string(&config).unwrap();
    let from = |instant: &str| {
        let signing = format!(
            "\n[signing]\nnext_key = \"../next.key\"\nnext_certificate = \"../next.pem\"\n\
             next_from = \"{instant}\"\n"
        );
        std::fs::write(&config, format!("{text}{signing}")).unwrap();
    };
    let message = format!("From: {MARIO}\r\nTo: {VERDI}\r\nSubject: Prova\r\n\r\nCiao.\r\n");
    let send = |demo: &Demo| {
        let mut smtp = demo.submit_as("mrossi").unwrap();
        smtp.submit(MARIO, &[VERDI], message.as_bytes()).unwrap();
        demo.settle().unwrap();
    };
    // Far off: the old one signs.
    let instant = |when: &str| {
        let mut date = tool("date", "coreutils").unwrap();
        run(date.args(["-u", "-d", when, "+%FT%TZ"])).unwrap().ok().unwrap().trim().to_owned()
    };
    from(&instant("+10 days"));
    let demo = Demo::start_with(&data, base, &[]).unwrap();
    send(&demo);
    assert_eq!(last_signer(&demo, root), old);
    assert!(demo.stop().unwrap().success());
    from(&instant("+12 seconds"));
    let demo = Demo::start_with(&data, base, &[]).unwrap();
    // In the same process, from its instant on.
    scenarios::wire::until("the next certificate", || {
        send(&demo);
        Ok((last_signer(&demo, root) == next).then_some(()))
    })
    .unwrap();
    assert!(demo.stop().unwrap().success());
    // What the old one signed holds still, and the next start signs with the next.
    from("2026-01-01T00:00:00Z");
    let demo = Demo::start_with(&data, base, &[]).unwrap();
    send(&demo);
    assert_eq!(last_signer(&demo, root), next);
    assert!(demo.stop().unwrap().success());
    from("2099-01-01T00:00:00Z");
    let check = [&["check"][..], &of_config].concat();
    let told = process::run(&check, "").unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(told.contains("ended on") || told.contains("ends before 2099-01-01"), "{told}");
}
