//! Certificates of hosts that are not ours, made and looked at by OpenSSL's own command.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::tools::{run, tool};

/// An authority of a test's own, in a folder.
pub struct Issuer {
    folder: PathBuf,
    /// Its certificate, in PEM.
    pub certificate: String,
}

/// A certificate and its key, in PEM.
pub struct Pair {
    /// The certificate, and below it its authority's.
    pub chain: String,
    /// The certificate alone.
    pub certificate: String,
    /// The key.
    pub key: String,
}

impl Issuer {
    /// Makes one, called as its folder is.
    ///
    /// # Errors
    ///
    /// When OpenSSL is not there.
    pub fn new(folder: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let name = folder.file_name().and_then(OsStr::to_str).unwrap_or("authority");
        let arguments = format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN={name} \
             -keyout ca.key -out ca.pem -addext basicConstraints=critical,CA:TRUE \
             -addext keyUsage=keyCertSign"
        );
        openssl(folder, &arguments)?;
        Ok(Self {
            folder: folder.to_owned(),
            certificate: std::fs::read_to_string(folder.join("ca.pem"))?,
        })
    }

    /// A certificate for these names.
    ///
    /// # Errors
    ///
    /// When OpenSSL refuses.
    pub fn issue(&self, names: &[&str]) -> anyhow::Result<Pair> {
        let names: Vec<String> = names.iter().map(|name| format!("DNS:{name}")).collect();
        let arguments = format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 20 -subj /CN=host \
             -CA ca.pem -CAkey ca.key -keyout host.key -out host.pem \
             -addext basicConstraints=critical,CA:FALSE -addext subjectAltName={}",
            names.join(",")
        );
        openssl(&self.folder, &arguments)?;
        let certificate = std::fs::read_to_string(self.folder.join("host.pem"))?;
        Ok(Pair {
            chain: format!("{certificate}{}", self.certificate),
            certificate,
            key: std::fs::read_to_string(self.folder.join("host.key"))?,
        })
    }

    /// SHA-256 of the public key of a certificate, in hexadecimal: selector 1, matching type 1.
    ///
    /// # Errors
    ///
    /// When OpenSSL cannot read it.
    pub fn key_sha256(&self, certificate: &str) -> anyhow::Result<String> {
        std::fs::write(self.folder.join("asked.pem"), certificate)?;
        openssl(&self.folder, "x509 -in asked.pem -noout -pubkey -out asked.pub")?;
        openssl(&self.folder, "pkey -pubin -in asked.pub -outform DER -out asked.der")?;
        self.digest()
    }

    /// SHA-256 of a certificate, in hexadecimal: selector 0, matching type 1.
    ///
    /// # Errors
    ///
    /// When OpenSSL cannot read it.
    pub fn sha256(&self, certificate: &str) -> anyhow::Result<String> {
        std::fs::write(self.folder.join("asked.pem"), certificate)?;
        openssl(&self.folder, "x509 -in asked.pem -outform DER -out asked.der")?;
        self.digest()
    }

    fn digest(&self) -> anyhow::Result<String> {
        let told = openssl(&self.folder, "dgst -sha256 -r asked.der")?;
        Ok(told.split(' ').next().unwrap_or_default().to_owned())
    }
}

fn openssl(folder: &Path, arguments: &str) -> anyhow::Result<String> {
    let mut command = tool("openssl", "openssl")?;
    run(command.args(arguments.split_whitespace()).current_dir(folder))?.ok()
}
