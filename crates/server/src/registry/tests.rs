//! Indexes that are signed or not, good or bad.

use std::path::Path;

use super::*;

const CERTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../certs");
const NOW: &str = "2026-03-02T09:00:00Z";

fn config(more: &str) -> Config {
    let text = format!(
        "[provider]\nname = \"Alfa\"\ndomains = [\"a.example\"]\n\
         [trust]\nauthorities = [\"{CERTS}/ca.pem\"]\n{more}"
    );
    Config::parse(Path::new("/etc/ceralacca.toml"), &text).unwrap()
}

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn certificate(name: &str) -> Certificate {
    Certificate::from_pem(&std::fs::read(format!("{CERTS}/{name}.pem")).unwrap()).unwrap()
}

fn record(name: &str, certificates: &[&str], domains: &[&str]) -> ProviderRecord {
    ProviderRecord {
        name: name.to_owned(),
        unit: None,
        certificates: certificates.iter().map(|c| certificate(c).to_der().to_vec()).collect(),
        mail_receipt: mail::Address::parse("ricevute@a.example").unwrap(),
        domains: domains.iter().map(|domain| mail::Domain::parse(domain).unwrap()).collect(),
        location: None,
        description: None,
    }
}

fn index(records: Vec<ProviderRecord>) -> Index {
    Index::new(records, None).unwrap()
}

fn signed(ldif: &str, by: &str) -> Vec<u8> {
    let key = std::fs::read(format!("{CERTS}/{by}.key")).unwrap();
    let signer = crypto::LocalSigner::from_pem(&key).unwrap();
    let identity = crypto::Identity::new(certificate(by), Vec::new()).unwrap();
    identity.sign_attached(&signer, ldif.as_bytes(), now()).unwrap()
}

// PEC-IDX-07 PEC-IDX-08
#[test]
fn a_signed_index_is_read_when_its_signer_may_sign_one() {
    let ldif = index(vec![record("Alfa", &["provider-a"], &["a.example"])]).to_ldif();
    let p7m = signed(&ldif, "provider-b");
    let (read_in, faults) = read(&config(""), &p7m, now()).unwrap();
    assert!(faults.is_empty());
    assert_eq!(read_in.records()[0].name, "Alfa");
    let named = format!("signers = [\"{CERTS}/provider-b.pem\"]");
    assert!(read(&config(&named), &p7m, now()).is_ok());
    // Somebody else whom the authority certified.
    let other = format!("signers = [\"{CERTS}/provider-a.pem\"]");
    let error = format!("{:#}", read(&config(&other), &p7m, now()).unwrap_err());
    assert!(error.starts_with("its signature does not hold: no certification path"), "{error}");
    let error = format!("{:#}", read(&config(""), &signed(&ldif, "stranger"), now()).unwrap_err());
    assert!(error.starts_with("its signature does not hold"), "{error}");
    let mut altered = p7m.clone();
    let place = altered.windows(9).position(|window| window == b"a.example").unwrap();
    altered[place] = b'b';
    assert!(read(&config(""), &altered, now()).is_err());
    assert!(read(&config(""), ldif.as_bytes(), now()).is_ok(), "a file of the operator's");
}

// PEC-IDX-08 PEC-IDX-12
#[test]
fn an_index_that_lost_most_of_its_providers_is_no_good_one() {
    let many = |count: usize| {
        let domain = |n: usize| format!("d{n}.example");
        let records = (0..count).map(|n| record(&format!("P{n}"), &["provider-a"], &[&domain(n)]));
        index(records.collect())
    };
    let gone = |old: usize, new: usize| compare(&many(old), &many(new), false).map(|n| n.len());
    assert_eq!(gone(4, 4).unwrap(), 0);
    assert_eq!(gone(4, 2).unwrap(), 2);
    assert_eq!(gone(2, 1).unwrap(), 1);
    let error = gone(4, 1).unwrap_err().to_string();
    assert!(error.starts_with("it holds 1 providers where there were 4"), "{error}");
    assert_eq!(compare(&many(4), &many(1), true).unwrap().len(), 3);
    assert!(compare(&many(1), &many(0), true).is_err());
    let old = index(vec![record("A", &["provider-a", "provider-b"], &["a.example"])]);
    let new = index(vec![record("A", &["provider-a"], &["a.example"])]);
    let notes = compare(&old, &new, false).unwrap();
    assert_eq!(notes, ["providerName=A,o=postacert has 1 certificates less"]);
    let other = || record("B", &["provider-b"], &["b.example"]);
    let old = index(vec![record("A", &["provider-a"], &["a.example"]), other()]);
    let new = index(vec![record("A", &["provider-a"], &[]), other()]);
    let notes = compare(&old, &new, false).unwrap();
    assert_eq!(notes, ["providerName=A,o=postacert manages no domain any more"]);
    let nobody = index(vec![record("A", &["provider-a"], &[])]);
    assert_eq!(compare(&old, &nobody, true).unwrap_err().to_string(), "it holds no provider");
}
