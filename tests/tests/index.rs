//! The index of providers from where others keep it: signed, over https to a server that wants our
//! certificate; a directory; and the revocation lists of whom it names.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

use std::path::{Path, PathBuf};

use scenarios::demo::free_port_base;
use scenarios::peers::{Slapd, Web};
use scenarios::tools::{run, tool};
use scenarios::{Demo, process, wire};
use serde_json::Value;

const MARIO: &str = "mario.rossi@pec.alfa.example";
const VERDI: &str = "studio.verdi@pec.beta.example";

/// The folder of a demo provider, made and stopped.
struct Provider {
    _folder: tempfile::TempDir,
    root: PathBuf,
    data: PathBuf,
    base: u16,
}

impl Provider {
    fn make() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_owned();
        let (data, base) = (root.join("demo"), free_port_base().unwrap());
        assert!(Demo::start_with(&data, base, &[]).unwrap().stop().unwrap().success());
        Self { _folder: folder, root, data, base }
    }

    fn start(&self) -> Demo {
        Demo::start_with(&self.data, self.base, &[]).unwrap()
    }

    /// Puts one text of the configuration in the place of another.
    fn configure(&self, old: &str, new: &str) {
        let file = self.data.join("ceralacca.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains(old), "{text}");
        std::fs::write(&file, text.replace(old, new)).unwrap();
    }

    /// A command on its index: whether it was done, standard output and standard error.
    fn index(&self, arguments: &[&str]) -> (bool, String, String) {
        let config = self.data.join("ceralacca.toml");
        let all = [&["index"], arguments, &["--config", config.to_str().unwrap()]].concat();
        let output = process::run(&all, "").unwrap();
        let text = |octets: Vec<u8>| String::from_utf8(octets).unwrap();
        (output.status.success(), text(output.stdout), text(output.stderr))
    }

    /// Names of the providers that are known.
    fn known(&self) -> Vec<String> {
        let (done, shown, error) = self.index(&["show", "--json"]);
        assert!(done, "{error}");
        let all: Vec<Value> = serde_json::from_str(&shown).unwrap();
        all.iter().map(|record| record["provider"].as_str().unwrap().to_owned()).collect()
    }

    /// The own record with another provider's beside it: the samples' Beta.
    fn two_providers(&self) -> String {
        let own = std::fs::read_to_string(self.data.join("providers.ldif")).unwrap();
        let sample = include_str!("../../crates/pec/examples/index/provider-index-sample.ldif");
        let start = sample.find("dn: providerName=Beta").unwrap();
        let end = sample[start..].find("\n\n").map_or(sample.len(), |length| start + length + 1);
        format!("{}\n\n{}", own.trim_end(), &sample[start..end])
    }

    /// A certificate by the demo's authority for its own TLS key's kind of thing: name, and files.
    fn certify(&self, name: &str, extensions: &str) {
        let openssl = |arguments: &str| {
            let mut openssl = tool("openssl", "openssl").unwrap();
            openssl.current_dir(&self.root).args(arguments.split(' '));
            run(&mut openssl).unwrap().ok().unwrap();
        };
        std::fs::write(self.root.join("ext"), extensions).unwrap();
        openssl(&format!(
            "req -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.csr -subj /CN={name}"
        ));
        openssl(&format!(
            "x509 -req -in {name}.csr -CA demo/ca.pem -CAkey demo/ca.key -days 30 -extfile ext \
             -out {name}.pem"
        ));
    }

    /// Signs an index as `name`, into a folder that a web server shows.
    fn publish(&self, name: &str, ldif: &str) {
        std::fs::create_dir_all(self.root.join("web")).unwrap();
        std::fs::write(self.root.join("index.ldif"), ldif).unwrap();
        let mut sign = tool("openssl", "openssl").unwrap();
        sign.current_dir(&self.root).args(["cms", "-sign", "-binary", "-nodetach"]);
        sign.args(["-signer", &format!("{name}.pem"), "-inkey", &format!("{name}.key")]);
        sign.args(["-outform", "DER", "-in", "index.ldif", "-out", "web/new"]);
        run(&mut sign).unwrap().ok().unwrap();
        std::fs::rename(self.root.join("web/new"), self.root.join("web/igpec.ldif.p7m")).unwrap();
    }
}

// PEC-IDX-06 PEC-IDX-07 PEC-IDX-08 PEC-IDX-09 PEC-IDX-11
#[test]
fn a_signed_index_comes_over_https_and_a_bad_one_never_replaces_it() {
    let provider = Provider::make();
    provider.certify("registro", "keyUsage=critical,digitalSignature");
    provider.certify("gestore", "extendedKeyUsage=clientAuth");
    provider.publish("registro", &provider.two_providers());
    let (tls, key) = (provider.data.join("tls.pem"), provider.data.join("tls.key"));
    let ca = provider.data.join("ca.pem");
    let web = Web::start(&provider.root.join("web"), Some([&tls, &key, &ca])).unwrap();
    let source = format!(
        "source = \"https://localhost:{}/igpec.ldif.p7m\"\n\
         client_certificate = \"../gestore.pem\"\nclient_key = \"../gestore.key\"",
        web.port
    );
    provider.configure("source = \"providers.ldif\"", &source);
    provider.configure("[trust]\n", "[trust]\nsigners = [\"../registro.pem\"]\n");

    let demo = provider.start();
    // Who reads the ready line finds the index, though nobody has written one by hand.
    let told = PathBuf::from(demo.ready["index"].as_str().unwrap());
    assert_eq!(told, provider.data.join("providers.copy.ldif"));
    assert!(std::fs::read_to_string(told).unwrap().contains("betacert.example"));
    let (done, text, error) = provider.index(&["refresh"]);
    assert!(done && text.starts_with("the index of providers was refreshed: 2 records"), "{error}");
    let both = ["Demo PEC S.p.A.", "Beta Certificata S.r.l."];
    assert_eq!(provider.known(), both);
    let copy = provider.data.join("providers.copy.ldif");
    let good = std::fs::read(&copy).unwrap();

    // Signed by somebody else, altered, without ourselves: the old one stays, in memory and on disk.
    let refused = |why: &str| {
        let (done, _, error) = provider.index(&["refresh"]);
        assert!(!done && error.contains(why), "{why}: {error}");
        assert_eq!(std::fs::read(&copy).unwrap(), good);
        assert_eq!(provider.known(), both);
    };
    provider.publish("gestore", &provider.two_providers());
    refused("its signature does not hold");
    provider.publish("registro", &provider.two_providers());
    let file = provider.root.join("web/igpec.ldif.p7m");
    let mut octets = std::fs::read(&file).unwrap();
    let place = octets.windows(8).position(|window| window == b"betacert").unwrap();
    octets[place] = b'x';
    std::fs::write(&file, octets).unwrap();
    refused("its signature does not hold");
    std::fs::write(&file, provider.two_providers()).unwrap();
    refused("is not signed");
    let two = provider.two_providers();
    let beta = two.find("dn: providerName=Beta").unwrap();
    provider.publish("registro", &two[beta..]);
    refused("the signing certificate is in no record");
    let twice = two.replace("managedDomains: betacert.example", "managedDomains: pec.alfa.example");
    provider.publish("registro", &twice);
    refused("is managed by");
    let (_, metrics) = demo.page("/metrics").unwrap();
    let refused = "ceralacca_index_refreshes_total{result=\"refused\"} ";
    let refused = metrics.lines().find_map(|line| line.strip_prefix(refused)).unwrap();
    // The server's own refresh may have come meanwhile, too.
    assert!(refused.parse::<u32>().unwrap() >= 5, "{metrics}");
    assert!(demo.stop().unwrap().success());

    // The source is down: a start has the last good copy.
    drop(web);
    let demo = provider.start();
    assert_eq!(provider.known(), both);
    demo.submit_as("mrossi").unwrap();
    assert!(demo.stop().unwrap().success());
    let (done, _, error) = provider.index(&["refresh"]);
    assert!(!done && error.contains("cannot be reached"), "{error}");
}

// PEC-IDX-10 PEC-IDX-07
#[test]
fn the_own_record_is_exported_signed_and_imported_elsewhere() {
    let provider = Provider::make();
    let file = provider.root.join("alfa.ldif.p7m");
    let export = ["export", "--signed", file.to_str().unwrap()];
    let opened = || {
        let mut verify = tool("openssl", "openssl").unwrap();
        verify.current_dir(&provider.root).args(["cms", "-verify", "-binary", "-inform", "DER"]);
        verify.args(["-in", "alfa.ldif.p7m", "-CAfile", "demo/ca.pem", "-purpose", "any"]);
        run(&mut verify).unwrap().ok().unwrap()
    };
    let (_, own, _) = provider.index(&["export"]);
    assert!(provider.index(&export).0);
    assert_eq!(opened(), own);
    std::fs::remove_file(&file).unwrap();
    let demo = provider.start();
    let (done, _, error) = provider.index(&export);
    assert!(done, "{error}");
    assert_eq!(opened(), own);
    let (done, text, error) = provider.index(&["import", file.to_str().unwrap()]);
    assert!(done && text.starts_with("unchanged"), "{text} {error}");
    assert!(demo.stop().unwrap().success());
}

// PEC-IDX-02 PEC-IDX-03 PEC-IDX-09
#[test]
fn a_directory_is_read_over_tls() {
    let provider = Provider::make();
    let ldif = provider.root.join("two.ldif");
    std::fs::write(&ldif, provider.two_providers()).unwrap();
    let (tls, key) = (provider.data.join("tls.pem"), provider.data.join("tls.key"));
    let slapd = Slapd::start(&provider.root, &ldif, &tls, &key).unwrap();
    let source = format!("source = \"ldaps://localhost:{}/\"", slapd.port);
    provider.configure("source = \"providers.ldif\"", &source);
    // Stopped, and then running.
    let (done, text, error) = provider.index(&["refresh"]);
    assert!(done && text.starts_with("the index of providers was refreshed: 2 records"), "{error}");
    let both = ["Demo PEC S.p.A.", "Beta Certificata S.r.l."];
    let mut known = provider.known();
    known.sort_by_key(|name| *name != both[0]);
    assert_eq!(known, both);
    let demo = provider.start();
    let (done, _, error) = provider.index(&["refresh"]);
    assert!(done, "{error}");
    drop(slapd);
    let (done, _, error) = provider.index(&["refresh"]);
    assert!(!done && error.contains("cannot be read"), "{error}");
    demo.submit_as("mrossi").unwrap();
    assert!(demo.stop().unwrap().success());
}

/// A list by the demo's authority, published.
fn publish_list(root: &Path, revoke: Option<&str>) {
    let openssl = |arguments: &[&str]| {
        let mut openssl = tool("openssl", "openssl").unwrap();
        openssl.current_dir(root).args(["ca", "-config", "ca.cnf"]).args(arguments);
        run(&mut openssl).unwrap().ok().unwrap();
    };
    if let Some(certificate) = revoke {
        openssl(&["-revoke", certificate]);
    }
    openssl(&["-gencrl", "-out", "web/new"]);
    std::fs::rename(root.join("web/new"), root.join("web/ca.crl")).unwrap();
}

// PEC-PR-03 PEC-PR-04
#[test]
fn revocation_lists_are_fetched_kept_and_renewed() {
    let provider = Provider::make();
    let root = &provider.root;
    std::fs::create_dir_all(root.join("web")).unwrap();
    std::fs::write(root.join("index.txt"), "").unwrap();
    std::fs::write(root.join("number"), "01\n").unwrap();
    let settings = "[ca]\ndefault_ca = d\n[d]\ndatabase = index.txt\ncrlnumber = number\n\
                    default_md = sha256\ndefault_crl_days = 30\ncertificate = demo/ca.pem\n\
                    private_key = demo/ca.key\n";
    std::fs::write(root.join("ca.cnf"), settings).unwrap();
    publish_list(root, None);
    let web = Web::start(&root.join("web"), None).unwrap();
    let lists = format!("crls = [\"http://127.0.0.1:{}/ca.crl\"]\ncrl_refresh = \"1s\"", web.port);
    provider.configure("crls = [\"crl.pem\"]", &lists);

    let demo = provider.start();
    wire::until("the first list", || {
        let (_, metrics) = demo.page("/metrics")?;
        Ok(metrics.contains("ceralacca_crl_fetches_total{result=\"taken\"}").then_some(()))
    })
    .unwrap();
    let kept = || std::fs::read_dir(provider.data.join("crls")).unwrap().count();
    assert_eq!(kept(), 1);
    let message = format!("From: {MARIO}\r\nTo: {VERDI}\r\nSubject: Prova\r\n\r\nCiao.\r\n");
    let mut smtp = demo.submit_as("mrossi").unwrap();
    smtp.submit(MARIO, &[VERDI], message.as_bytes()).unwrap();
    demo.settle().unwrap();
    let (_, metrics) = demo.page("/metrics").unwrap();
    assert!(!metrics.contains("ceralacca_crl_unavailable_total"), "a list was there: {metrics}");

    // The next list revokes our own certificate: nothing is signed with it any more.
    publish_list(root, Some("demo/signing.pem"));
    let config = provider.data.join("ceralacca.toml");
    wire::until("the second list", || {
        smtp.submit(MARIO, &[VERDI], message.as_bytes())?;
        let queue = ["queue", "list", "--json", "--config", config.to_str().unwrap()];
        let waiting = String::from_utf8(process::run(&queue, "")?.stdout)?;
        Ok(waiting.contains("the certificate is revoked").then_some(()))
    })
    .unwrap();
    assert_eq!(kept(), 1);
    assert!(demo.stop().unwrap().success());
    // And so it is at the next start, without the server of the lists.
    drop(web);
    let check = ["check", "--json", "--config", config.to_str().unwrap()];
    let found: Value = serde_json::from_slice(&process::run(&check, "").unwrap().stdout).unwrap();
    assert_eq!(found["starts"], false);
    assert!(found["faults"].to_string().contains("revoked"), "{found}");
}
