//! Two providers on one machine that know each other, as the interface page has it.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::demo::{PASSWORD, free_port_base};
use crate::process::{account, run};

/// A provider that `init` made: its folder, domain and port base.
pub struct Made {
    /// Everything it keeps.
    pub data: PathBuf,
    /// The domain it manages.
    pub domain: String,
    /// Its SMTP port for other hosts.
    pub smtp: u16,
}

impl Made {
    /// Makes the provider `NAME` of `pec.NAME.example`, with accounts of these local parts.
    ///
    /// # Errors
    ///
    /// When a command refuses.
    pub fn new(folder: &Path, name: &str, accounts: &[&str]) -> anyhow::Result<Self> {
        let (data, domain) = (folder.join(name), format!("pec.{name}.example"));
        let base = free_port_base()?;
        let path = data.to_str().context("a path that is no text")?;
        let provider = format!("{name} PEC S.p.A.");
        let port_base = base.to_string();
        told(&[
            "init",
            path,
            "--provider",
            &provider,
            "--domain",
            &domain,
            "--port-base",
            &port_base,
        ])?;
        for local in accounts {
            let address = format!("{local}@{domain}");
            account(&data, &["add", &address, "--password-stdin"], &format!("{PASSWORD}\n"))?;
        }
        Ok(Self { data, domain, smtp: base + 25 })
    }

    /// Its configuration.
    pub fn config(&self) -> PathBuf {
        self.data.join("ceralacca.toml")
    }

    /// Adds text to its configuration. A section that is there already cannot be named again.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn configure(&self, more: &str) -> anyhow::Result<()> {
        let text = std::fs::read_to_string(self.config())?;
        Ok(std::fs::write(self.config(), format!("{text}\n{more}\n"))?)
    }

    /// A command of the program on this provider; what it printed.
    ///
    /// # Errors
    ///
    /// When it refuses.
    pub fn command(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let config = self.config();
        let config = config.to_str().context("a path that is no text")?;
        told(&[arguments, &["--config", config]].concat())
    }

    /// Has it know another provider: its record, its authority, and where it listens.
    ///
    /// # Errors
    ///
    /// When a command refuses, or a file cannot be written.
    pub fn meet(&self, other: &Self) -> anyhow::Result<()> {
        let record = self.data.join(format!("{}.ldif", other.domain));
        std::fs::write(&record, other.command(&["index", "export"])?)?;
        let text = std::fs::read_to_string(self.config())?;
        let ca = other.data.join("ca.pem");
        let ca = ca.to_str().context("a path that is no text")?;
        let known = text.replace(
            "authorities = [\"ca.pem\"]",
            &format!("authorities = [\"ca.pem\", \"{ca}\"]"),
        );
        if known == text {
            bail!("no authorities in {text}");
        }
        std::fs::write(self.config(), known)?;
        self.configure(&format!("[routes]\n\"{}\" = \"127.0.0.1:{}\"", other.domain, other.smtp))?;
        self.command(&["index", "import", record.to_str().context("a path that is no text")?])?;
        Ok(())
    }
}

/// Two providers, `pec.alfa.example` and `pec.beta.example`, that know each other.
///
/// # Errors
///
/// When they cannot be made.
pub fn pair(folder: &Path, of_alfa: &[&str], of_beta: &[&str]) -> anyhow::Result<(Made, Made)> {
    let alfa = Made::new(folder, "alfa", of_alfa)?;
    let beta = Made::new(folder, "beta", of_beta)?;
    alfa.meet(&beta)?;
    beta.meet(&alfa)?;
    Ok((alfa, beta))
}

fn told(arguments: &[&str]) -> anyhow::Result<String> {
    let output = run(arguments, "")?;
    if !output.status.success() {
        bail!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}
