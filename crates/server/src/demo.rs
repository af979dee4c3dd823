//! `demo`: a whole provider on this machine, made on the first run and used again on the next.

use std::io::{IsTerminal, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use anyhow::Context;
use mail::{Address, Domain};
use store::Timestamp;

use crate::config::{self, Config, ConfigErrors, DEFAULT_PORT_BASE, OrdinaryMail};
use crate::ready::{DemoAccount, Ready};
use crate::setup::{self, Plan, PlannedAccount};

const PROVIDER: &str = "Demo PEC S.p.A.";
const DOMAINS: [&str; 2] = ["pec.alfa.example", "pec.beta.example"];
/// No secret: it is printed at every start.
const PASSWORD: &str = "ceralacca-demo";
/// Address, user ID and quota of each account; the last is there to be full.
const ACCOUNTS: [(&str, &str, u64); 5] = [
    ("mario.rossi@pec.alfa.example", "mrossi", 1 << 30),
    ("anna.bianchi@pec.alfa.example", "abianchi", 1 << 30),
    ("studio.verdi@pec.beta.example", "sverdi", 1 << 30),
    ("comune@pec.beta.example", "comune", 1 << 30),
    ("piena@pec.beta.example", "piena", 64 << 10),
];

/// The demo provider in `folder`, made if it is not there, and how to tell of it.
///
/// # Errors
///
/// When it cannot be made, or what is there cannot be used.
pub(crate) fn prepare(
    folder: &Path,
    port_base: Option<u16>,
    json: bool,
) -> anyhow::Result<(Config, Ready)> {
    let plan = plan(port_base)?;
    if !setup::is_complete(folder) {
        let mut err = std::io::stderr();
        if err.is_terminal() {
            writeln!(err, "Making keys, certificates and mailboxes in {} ...", folder.display())?;
        }
        setup::create(folder, &plan, Timestamp::now())?;
    }
    let mut config = Config::load(&folder.join(config::FILE_NAME))
        .map_err(|errors: ConfigErrors| anyhow::Error::new(errors))
        .context("the demo's configuration was changed and cannot be used")?;
    if (&config.provider.name, &config.provider.domains) != (&plan.name, &plan.domains) {
        anyhow::bail!(
            "{} holds {}, which is not the demo: start it with `ceralacca serve --config {}`, or \
             name another folder with --data",
            folder.display(),
            config.provider.name,
            config.file.display()
        );
    }
    // For this run only; and never on any other address, whatever the file says.
    config.listen.address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    if let Some(base) = port_base {
        config.listen.port_base = base;
        config.listen.overrides.clear();
    }
    let off_this_machine = |address: &std::net::SocketAddr| !address.ip().is_loopback();
    if let Some(address) = config.listen.overrides.values().find(|a| off_this_machine(a)) {
        anyhow::bail!(
            "the demo listens on this machine only, not on {address}: change [listen] in {}",
            config.file.display()
        );
    }
    let accounts = ACCOUNTS.into_iter().map(|(address, user_id, _)| DemoAccount {
        address: address.to_owned(),
        user_id: user_id.to_owned(),
        password: PASSWORD.to_owned(),
    });
    Ok((config, Ready::demo(json, accounts.collect())))
}

fn plan(port_base: Option<u16>) -> anyhow::Result<Plan> {
    let mut accounts = Vec::new();
    for (address, user_id, quota_octets) in ACCOUNTS {
        accounts.push(PlannedAccount {
            address: Address::parse(address)?,
            user_id: user_id.to_owned(),
            password: PASSWORD.to_owned(),
            quota_octets,
        });
    }
    Ok(Plan {
        name: PROVIDER.to_owned(),
        domains: DOMAINS.into_iter().map(Domain::parse).collect::<Result<_, _>>()?,
        port_base: port_base.unwrap_or(DEFAULT_PORT_BASE),
        ordinary_mail: OrdinaryMail::Deliver(None),
        unthrottled: vec!["127.0.0.0/8"],
        accounts,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Service;

    #[test]
    fn the_second_run_uses_what_the_first_made() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("demo");
        let (config, _) = prepare(&folder, None, true).unwrap();
        assert_eq!(config.listen_addr(Service::Imaps).to_string(), "127.0.0.1:10993");
        assert_eq!(config.ordinary_mail.policy, OrdinaryMail::Deliver(None));
        assert!(config.limits.unthrottled[0].contains([127, 0, 0, 1].into()));
        let ca = std::fs::read(folder.join("ca.pem")).unwrap();

        // An option wins for its run and changes nothing in the file.
        let (config, _) = prepare(&folder, Some(20_000), true).unwrap();
        assert_eq!(config.listen_addr(Service::Imaps).to_string(), "127.0.0.1:20993");
        let (config, _) = prepare(&folder, None, true).unwrap();
        assert_eq!(config.listen_addr(Service::Imaps).to_string(), "127.0.0.1:10993");
        assert_eq!(std::fs::read(folder.join("ca.pem")).unwrap(), ca);
    }

    #[test]
    fn another_provider_is_not_the_demo() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("demo");
        let mut other = plan(None).unwrap();
        "Alfa".clone_into(&mut other.name);
        setup::create(&folder, &other, Timestamp::now()).unwrap();
        let refused = prepare(&folder, None, true).unwrap_err().to_string();
        let file = folder.join(config::FILE_NAME);
        let expected = format!(
            "{} holds Alfa, which is not the demo: start it with `ceralacca serve --config {}`, or \
             name another folder with --data",
            folder.display(),
            file.display()
        );
        assert_eq!(refused, expected);
        let text = std::fs::read_to_string(&file).unwrap();
        let text = text.replace("\"Alfa\"", "\"Demo PEC S.p.A.\"");
        std::fs::write(&file, &text).unwrap();
        assert!(prepare(&folder, None, true).is_ok());
        std::fs::write(&file, text.replace(", \"pec.beta.example\"", "")).unwrap();
        assert!(prepare(&folder, None, true).is_err());
    }

    #[test]
    fn it_listens_on_this_machine_only() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("demo");
        prepare(&folder, None, true).unwrap();
        let file = folder.join(config::FILE_NAME);
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text.replace("127.0.0.1\"", "0.0.0.0\"")).unwrap();
        let (config, _) = prepare(&folder, None, true).unwrap();
        assert_eq!(config.listen_addr(Service::Imaps).to_string(), "127.0.0.1:10993");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text.replace("[listen]", "[listen]\nsmtp = \"0.0.0.0:25\"")).unwrap();
        assert!(prepare(&folder, None, true).is_err());
    }
}
