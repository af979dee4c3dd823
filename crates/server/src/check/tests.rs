//! What is found in a provider as made, and in one that was tampered with.

use std::fs;

use jiff::ToSpan;
use mail::Domain;

use super::*;
use crate::config::{FILE_NAME, IndexSource};
use crate::setup::{Plan, create};

/// A provider in a new folder, on ports of its own choice.
fn provider() -> (tempfile::TempDir, Config) {
    let folder = tempfile::tempdir().unwrap();
    let plan = Plan {
        name: "Alfa PEC S.p.A.".to_owned(),
        domains: vec![Domain::parse("pec.alfa.example").unwrap()],
        port_base: 20_000,
        ordinary_mail: OrdinaryMail::Reject,
        unthrottled: Vec::new(),
        accounts: Vec::new(),
    };
    create(folder.path(), &plan, Timestamp::now()).unwrap();
    let mut config = Config::load(&folder.path().join(FILE_NAME)).unwrap();
    for service in Service::ALL {
        config.listen.overrides.insert(service, "127.0.0.1:0".parse().unwrap());
    }
    (folder, config)
}

fn faults(config: &Config) -> Vec<String> {
    look(config, Timestamp::now()).faults
}

#[test]
fn what_init_makes_would_start() {
    let (_folder, config) = provider();
    let found = look(&config, Timestamp::now());
    assert_eq!(found.faults, [""; 0]);
    // What is said of the clock depends on the machine: see tests/cli.rs.
    let doubts: Vec<_> =
        found.doubts.into_iter().filter(|doubt| !doubt.contains("machine's clock")).collect();
    let key = config.signing.key.display();
    assert_eq!(
        doubts,
        [
            "nothing is scanned for viruses: a provider must, before it certifies or delivers \
             (DPR 68/2005 art. 12)"
                .to_owned(),
            // PEC-SIG-06
            format!(
                "the signing key is in a file, {key}: in service the law asks for a device of its \
                 own (PEC-SIG-06), which a pkcs11: URI in signing.key names"
            )
        ]
    );
}

#[test]
fn certificates_end() {
    let (_folder, config) = provider();
    let after = |days: i64| look(&config, Timestamp::now() + (days * 24).hours());
    let soon = after(820 - 29);
    assert!(soon.faults.is_empty());
    assert!(soon.doubts.iter().any(|d| d.starts_with("the TLS certificate ends on ")));
    let late = after(3 * 365 + 1).faults;
    for expected in ["the TLS certificate ended on ", "the signing certificate ended on "] {
        assert!(late.iter().any(|fault| fault.starts_with(expected)), "{late:?}");
    }
    let early = look(&config, Timestamp::now() - 1.hour()).faults;
    assert!(early.iter().any(|f| f.starts_with("the signing certificate begins on ")), "{early:?}");
}

#[test]
fn keys_and_certificates_belong_together() {
    let (folder, config) = provider();
    let (other, _) = provider();
    fs::copy(other.path().join("signing.key"), folder.path().join("signing.key")).unwrap();
    let found = faults(&config);
    assert!(found[0].contains(" is not the key of "), "{found:?}");
    fs::copy(other.path().join("tls.key"), folder.path().join("tls.key")).unwrap();
    assert_eq!(faults(&config).len(), 2);
}

#[test]
fn keys_are_their_owners_only() {
    let (folder, config) = provider();
    let key = folder.path().join("signing.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let doubts = look(&config, Timestamp::now()).doubts;
    let expected = format!(
        "{} can be read by others (mode 644): run `chmod 600 {}`",
        key.display(),
        key.display()
    );
    assert!(doubts.contains(&expected), "{doubts:?}");
}

#[test]
fn a_port_in_use_is_named() {
    let (_folder, mut config) = provider();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    config.listen.overrides.insert(Service::Imaps, address);
    let found = faults(&config);
    let [fault] = &found[..] else { panic!("{found:?}") };
    assert!(fault.starts_with(&format!("imaps cannot listen on {address} (")), "{fault}");
}

// PEC-LOG-03
#[test]
fn the_key_that_stamps_is_looked_at_and_keeps_nothing_from_starting() {
    let (folder, config) = provider();
    let doubts = |days: i64| {
        let found = look(&config, Timestamp::now() + (days * 24).hours());
        assert!(days > 0 || found.faults.is_empty(), "{:?}", found.faults);
        found.doubts.into_iter().filter(|doubt| doubt.contains("stamp")).collect::<Vec<_>>()
    };
    assert_eq!(doubts(0), [""; 0]);
    assert!(doubts(3 * 365 - 29)[0].starts_with("the time stamping certificate ends on "));
    assert!(doubts(3 * 365 + 1)[0].starts_with("the time stamping certificate ended on "));
    let key = folder.path().join("timestamp.key");
    fs::copy(folder.path().join("signing.key"), &key).unwrap();
    let found = doubts(0);
    assert!(found[0].contains("timestamp.key is not the key of "), "{found:?}");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(doubts(0)[0].contains("timestamp.key can be read by others"));
    fs::remove_file(key).unwrap();
    assert!(doubts(0)[0].starts_with("the log gets no time stamps: "));
    fs::remove_file(folder.path().join("timestamp.pem")).unwrap();
    assert!(doubts(0)[0].contains("timestamp.pem cannot be read"));
}

// PEC-IDX-09
#[test]
fn an_index_that_was_not_fetched_for_two_days_is_doubtful() {
    let (folder, mut config) = provider();
    let told = |config: &Config| {
        let Findings { doubts, notes, .. } = look(config, Timestamp::now());
        let of_index = |text: &String| text.starts_with("the index of providers");
        [doubts, notes].map(|texts| texts.into_iter().find(of_index))
    };
    let file = folder.path().join("providers.ldif");
    let written = format!("the index of providers in {} was written 0 hours ago", file.display());
    assert_eq!(told(&config), [None, Some(written)]);
    let age = |file: &Path, hours: u64| {
        let file = fs::File::options().write(true).open(file).unwrap();
        file.set_modified(std::time::SystemTime::now() - Duration::from_secs(hours * 3_600))
            .unwrap();
    };
    age(&file, 49);
    let old = format!(
        "the index of providers in {} was written 49 hours ago, and daily is the law: import the \
         present one, or name its URL in index.source",
        file.display()
    );
    assert_eq!(told(&config), [Some(old), None]);
    config.index.source = IndexSource::Url("https://indice.example/".to_owned());
    let copy = folder.path().join("providers.copy.ldif");
    fs::copy(file, &copy).unwrap();
    let had = "the index of providers was had from https://indice.example/ 0 hours ago";
    assert_eq!(told(&config), [None, Some(had.to_owned())]);
    age(&copy, 49);
    let late = "the index of providers was last had from https://indice.example/ 49 hours ago, and \
                daily is the law: `ceralacca index refresh` says why";
    assert_eq!(told(&config), [Some(late.to_owned()), None]);
}

#[test]
fn what_is_missing_is_named() {
    for (name, expected) in [
        ("signing.key", "signing.key cannot be read"),
        ("signing.pem", "signing.pem cannot be read"),
        ("tls.pem", "tls.pem cannot be read"),
        ("ca.pem", "ca.pem cannot be read"),
        ("crl.pem", "crl.pem cannot be read"),
        ("providers.ldif", "providers.ldif cannot be read"),
    ] {
        let (folder, config) = provider();
        fs::remove_file(folder.path().join(name)).unwrap();
        let found = faults(&config);
        assert!(found.iter().any(|fault| fault.contains(expected)), "{name}: {found:?}");
    }
    let (folder, config) = provider();
    fs::remove_dir_all(folder.path().join("store")).unwrap();
    assert!(faults(&config)[0].starts_with("there is no store in "));
    assert!(!folder.path().join("store").exists(), "check changes nothing");
}

#[test]
fn the_own_record_is_in_the_index() {
    let (folder, mut config) = provider();
    config.provider.domains.push(Domain::parse("pec.beta.example").unwrap());
    assert_eq!(
        faults(&config),
        ["the provider's own record in the index does not manage pec.beta.example: add it there, \
          or take it out of provider.domains"]
    );
    let (other, _) = provider();
    let index = "providers.ldif";
    fs::copy(other.path().join(index), folder.path().join(index)).unwrap();
    assert!(faults(&config)[0].starts_with("the signing certificate is in no record"));
}

// PEC-SIG-04: the address that messages come from is in the certificate that signs them.
#[test]
fn the_certificate_speaks_for_the_author() {
    let (folder, mut config) = provider();
    config.provider.domains.insert(0, Domain::parse("pec.beta.example").unwrap());
    let expected = format!(
        "the signing certificate {} does not hold posta-certificata@pec.beta.example, which \
         messages come from (PEC-SIG-04): get one that does",
        folder.path().join("signing.pem").display()
    );
    let found = faults(&config);
    assert!(found.contains(&expected), "{found:?}");
}

#[test]
fn serve_refuses_what_check_calls_a_fault_in_the_same_words() {
    let domain = || Domain::parse("pec.beta.example").unwrap();
    let (managed_not, mut config) = provider();
    config.provider.domains.push(domain());
    let managed_not = (managed_not, config, 0);
    let (another_first, mut config) = provider();
    config.provider.domains.insert(0, domain());
    let another_first = (another_first, config, 0);
    let (another_key, config) = provider();
    let (other, _) = provider();
    fs::copy(other.path().join("signing.key"), another_key.path().join("signing.key")).unwrap();
    let another_key = (another_key, config, 0);
    let (ended, config) = provider();
    let ended = (ended, config, 3000);
    let (no_key, config) = provider();
    fs::remove_file(no_key.path().join("signing.key")).unwrap();
    let no_key = (no_key, config, 0);
    for (_folder, config, days) in [managed_not, another_first, another_key, ended, no_key] {
        let at = Timestamp::now() + (days * 24).hours();
        let found = look(&config, at).faults;
        assert!(!found.is_empty());
        let store = material::store(&config, material::Purpose::Serve).unwrap();
        let refused = before_start(&config, &KeyFile(&config.signing.key), None, &*store, at);
        assert_eq!(refused.unwrap_err().to_string(), found.join("\n"));
    }
    let (_folder, config) = provider();
    let store = material::store(&config, material::Purpose::Serve).unwrap();
    before_start(&config, &KeyFile(&config.signing.key), None, &*store, Timestamp::now()).unwrap();
}
