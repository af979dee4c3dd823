//! What several tests have in common: the test authority and its certificates.

use std::process::Command;

use jiff::Timestamp;

use crate::{Authority, Certificate, Crl, Identity, LocalSigner, Trust};

pub(crate) const CA: &[u8] = include_bytes!("../../../certs/ca.pem");
pub(crate) const CA_KEY: &[u8] = include_bytes!("../../../certs/ca.key");
pub(crate) const CRL: &[u8] = include_bytes!("../../../certs/crl.pem");
pub(crate) const A: &[u8] = include_bytes!("../../../certs/provider-a.pem");
pub(crate) const A_KEY: &[u8] = include_bytes!("../../../certs/provider-a.key");

pub(crate) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A day on which all the test certificates are valid.
pub(crate) fn today() -> Timestamp {
    at("2026-03-02T09:00:00Z")
}

pub(crate) fn certificate(pem: &[u8]) -> Certificate {
    Certificate::from_pem(pem).unwrap()
}

pub(crate) fn identity(pem: &[u8]) -> Identity {
    Identity::new(certificate(pem), vec![certificate(CA)]).unwrap()
}

pub(crate) fn signer(pem: &[u8]) -> LocalSigner {
    LocalSigner::from_pem(pem).unwrap()
}

pub(crate) fn trust() -> Trust {
    Trust::new(vec![certificate(CA)], vec![Crl::read(CRL).unwrap()]).unwrap()
}

pub(crate) fn authority() -> Authority {
    Authority::from_pem(CA, CA_KEY).unwrap()
}

/// Runs the `openssl` of the system, an implementation that is not ours, among `files`. What it
/// wrote into a file `out`, if anything; or what it complained of.
pub(crate) fn openssl(files: &[(&str, Vec<u8>)], arguments: &[&str]) -> Result<Vec<u8>, String> {
    let folder = tempfile::tempdir().unwrap();
    for (name, octets) in files {
        std::fs::write(folder.path().join(name), octets).unwrap();
    }
    let ran = Command::new("openssl").args(arguments).current_dir(folder.path()).output().unwrap();
    if ran.status.success() {
        Ok(std::fs::read(folder.path().join("out")).unwrap_or_default())
    } else {
        Err(String::from_utf8_lossy(&ran.stderr).into_owned())
    }
}
