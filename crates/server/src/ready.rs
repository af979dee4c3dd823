//! What is said once every listener accepts: a line for programs, or what a person needs to set a
//! mail client up.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;

use serde::Serialize;

use crate::config::Config;
use crate::registry;

/// How it is said, and the accounts that are told with it.
#[derive(Debug, Clone)]
pub(crate) struct Ready {
    json: bool,
    accounts: Vec<DemoAccount>,
}

/// An account of the demo, with a password that is no secret.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct DemoAccount {
    pub(crate) address: String,
    pub(crate) user_id: String,
    pub(crate) password: String,
}

#[derive(Serialize)]
struct Line<'a> {
    ready: bool,
    pid: u32,
    provider: &'a str,
    domains: Vec<&'a str>,
    data: &'a Path,
    config: &'a Path,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca: Option<&'a Path>,
    index: &'a Path,
    listeners: &'a BTreeMap<&'static str, SocketAddr>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    accounts: &'a [DemoAccount],
}

impl Ready {
    /// For `serve`.
    pub(crate) const fn serve(json: bool) -> Self {
        Self { json, accounts: Vec::new() }
    }

    /// For `demo`.
    pub(crate) const fn demo(json: bool, accounts: Vec<DemoAccount>) -> Self {
        Self { json, accounts }
    }

    /// Says on standard output that these listeners accept.
    ///
    /// # Errors
    ///
    /// When nobody can hear it.
    pub(crate) fn announce(
        &self,
        config: &Config,
        listeners: &BTreeMap<&'static str, SocketAddr>,
    ) -> anyhow::Result<()> {
        let text = self.text(config, listeners, std::process::id())?;
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()?;
        Ok(())
    }

    fn text(
        &self,
        config: &Config,
        listeners: &BTreeMap<&'static str, SocketAddr>,
        pid: u32,
    ) -> anyhow::Result<String> {
        if self.json {
            let index = registry::kept(config);
            let line = Line {
                ready: true,
                pid,
                provider: &config.provider.name,
                domains: config.provider.domains.iter().map(|domain| domain.as_str()).collect(),
                data: &config.data,
                config: &config.file,
                ca: ca(config),
                index: &index,
                listeners,
                accounts: &self.accounts,
            };
            return Ok(serde_json::to_string(&line)? + "\n");
        }
        Ok(self.for_people(config, listeners))
    }

    fn for_people(
        &self,
        config: &Config,
        listeners: &BTreeMap<&'static str, SocketAddr>,
    ) -> String {
        let mut text = format!("{} is ready.\n\n", config.provider.name);
        for (name, what) in [
            ("imaps", "read   IMAP, SSL/TLS"),
            ("imap", "       IMAP, STARTTLS"),
            ("submissions", "send   SMTP, SSL/TLS"),
            ("submission", "       SMTP, STARTTLS"),
            ("smtp", "       SMTP, other providers"),
            ("pop3s", "       POP3, SSL/TLS"),
            ("http", "pages  health, metrics"),
        ] {
            if let Some(address) = listeners.get(name) {
                text += &format!("  {what:<28} {address}\n");
            }
        }
        text.push('\n');
        if let Some(account) = self.accounts.first() {
            text += "  accounts\n";
            for account in &self.accounts {
                text += &format!("    {:<32} {}\n", account.address, account.user_id);
            }
            text += &format!(
                "  sign in by address or user ID; every password is {}\n\n",
                account.password
            );
        }
        if let Some(ca) = ca(config) {
            text += &format!("  let your mail client trust {}\n", ca.display());
        }
        text += &format!("  all is kept in {}; stop with Ctrl-C\n", config.data.display());
        text
    }
}

/// The authority that issued what this provider shows and signs with; the first, when a certificate
/// of another one is shown to clients.
fn ca(config: &Config) -> Option<&Path> {
    let issuer = std::fs::read(&config.tls.certificate)
        .ok()
        .and_then(|pem| crypto::Certificate::from_pem(&pem).ok())
        .map(|shown| shown.issuer());
    let issued = |file: &&std::path::PathBuf| {
        let authorities = std::fs::read(file).ok();
        let authorities = authorities.and_then(|pem| crypto::Certificate::all_from_pem(&pem).ok());
        authorities.is_some_and(|all| all.iter().any(|one| Some(one.subject()) == issuer))
    };
    let authorities = &config.trust.authorities;
    authorities.iter().find(issued).or(authorities.first()).map(AsRef::as_ref)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::IndexSource;

    fn config() -> Config {
        let text = "[provider]\nname = \"Alfa\"\ndomains = [\"pec.alfa.example\"]\n";
        Config::parse(Path::new("/d/ceralacca.toml"), text).unwrap()
    }

    fn listeners() -> BTreeMap<&'static str, SocketAddr> {
        BTreeMap::from([
            ("imaps", "127.0.0.1:10993".parse().unwrap()),
            ("http", "127.0.0.1:10080".parse().unwrap()),
        ])
    }

    fn accounts() -> Vec<DemoAccount> {
        vec![DemoAccount {
            address: "anna@pec.alfa.example".to_owned(),
            user_id: "abianchi".to_owned(),
            password: "p".to_owned(),
        }]
    }

    #[test]
    fn a_program_reads_one_line() {
        let text = Ready::demo(true, accounts()).text(&config(), &listeners(), 4711).unwrap();
        assert_eq!(
            text,
            concat!(
                r#"{"ready":true,"pid":4711,"provider":"Alfa","domains":["pec.alfa.example"],"#,
                r#""data":"/d","config":"/d/ceralacca.toml","ca":"/d/ca.pem","#,
                r#""index":"/d/providers.ldif","#,
                r#""listeners":{"http":"127.0.0.1:10080","imaps":"127.0.0.1:10993"},"#,
                r#""accounts":[{"address":"anna@pec.alfa.example","user_id":"abianchi","#,
                r#""password":"p"}]}"#,
                "\n"
            )
        );
        // An index that is fetched has its last good copy.
        let mut fetched = config();
        fetched.index.source = IndexSource::Url("https://indice.example/".to_owned());
        let text = Ready::serve(true).text(&fetched, &listeners(), 1).unwrap();
        assert!(text.contains(r#""index":"/d/providers.copy.ldif","#), "{text}");
        let text = Ready::serve(true).text(&config(), &listeners(), 1).unwrap();
        assert!(!text.contains("accounts") && text.lines().count() == 1);
    }

    #[test]
    fn a_person_reads_how_to_set_a_client_up() {
        let text = Ready::demo(false, accounts()).text(&config(), &listeners(), 1).unwrap();
        assert_eq!(
            text,
            "Alfa is ready.\n\n  \
               read   IMAP, SSL/TLS         127.0.0.1:10993\n  \
               pages  health, metrics       127.0.0.1:10080\n\n  \
               accounts\n    \
                 anna@pec.alfa.example            abianchi\n  \
               sign in by address or user ID; every password is p\n\n  \
               let your mail client trust /d/ca.pem\n  \
               all is kept in /d; stop with Ctrl-C\n"
        );
    }
}
