//! What `init` and the first `demo` make: keys, certificates, configuration, index, empty store.
//!
//! All of it is made in `.new` inside the folder and moved out when it is whole and on disk, the
//! configuration last: a folder with a `ceralacca.toml` is complete, and what a crash left
//! unfinished is made anew by the next call. The folder is locked meanwhile. Files that are a
//! secret are readable by their owner only, from the instant they exist.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, bail};
use crypto::Authority;
use mail::{Address, Domain};
use pec::providers::{Index, ProviderRecord};
use store::embedded::{EmbeddedStore, Options};
use store::{NewAccount, Owner, Quota, Role, Store, StoreError, Timestamp};

use crate::config::{self, Config, OrdinaryMail, PROVIDER_NAME_MAX};
use crate::control::Kept;

/// Where all is made before it is moved into place.
const UNFINISHED: &str = ".new";
/// What is moved into place, in this order.
const FILES: [&str; 12] = [
    "ca.key",
    "ca.pem",
    "crl.pem",
    "tls.key",
    "tls.pem",
    "signing.key",
    "signing.pem",
    "timestamp.key",
    "timestamp.pem",
    "providers.ldif",
    "store",
    config::FILE_NAME,
];
/// Days that a TLS certificate lasts: Apple's clients take none of more than 825.
const TLS_DAYS: u32 = 820;
/// What a holder's account may hold when nothing else is said.
const HOLDER_QUOTA_OCTETS: u64 = 1 << 30;
/// What a service account may hold: nothing that comes to it is ever refused for want of room.
const SERVICE_QUOTA_OCTETS: u64 = 1 << 40;

/// A provider to be made.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) name: String,
    pub(crate) domains: Vec<Domain>,
    pub(crate) port_base: u16,
    pub(crate) ordinary_mail: OrdinaryMail,
    /// Networks that no limit slows down.
    pub(crate) unthrottled: Vec<&'static str>,
    /// Accounts beside those that every provider has.
    pub(crate) accounts: Vec<PlannedAccount>,
}

/// An account to be made with its provider.
#[derive(Debug)]
pub(crate) struct PlannedAccount {
    pub(crate) address: Address,
    pub(crate) user_id: String,
    pub(crate) password: String,
    pub(crate) quota_octets: u64,
}

/// Whether there is a whole provider in `folder`.
pub(crate) fn is_complete(folder: &Path) -> bool {
    folder.join(config::FILE_NAME).exists()
}

/// Makes a provider in `folder`, which must not exist, be empty, or hold what a crash left of an
/// earlier call.
///
/// # Errors
///
/// When there is something else in it, or it cannot be written.
pub(crate) fn create(folder: &Path, plan: &Plan, at: Timestamp) -> anyhow::Result<()> {
    config::check_provider_name(&plan.name).map_err(anyhow::Error::msg)?;
    let folder = &std::path::absolute(folder)?;
    // What is written is what every command reads: a mistake shows before anything is made.
    Config::parse(&folder.join(config::FILE_NAME), &configuration(plan))?;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("the folder {} cannot be made", folder.display()))?;
    let lock = File::open(folder)?;
    if rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
        bail!("another ceralacca is working on {}: wait for it", folder.display());
    }
    clear(folder)?;
    let unfinished = folder.join(UNFINISHED);
    DirBuilder::new().mode(0o700).create(&unfinished)?;
    lock.sync_all()?;
    make(&unfinished, plan, at)
        .with_context(|| format!("the provider could not be made in {}", folder.display()))?;
    File::open(&unfinished)?.sync_all()?;
    for name in FILES {
        fs::rename(unfinished.join(name), folder.join(name))?;
        if name == "store" {
            // Before the configuration says that all is there.
            lock.sync_all()?;
        }
    }
    fs::remove_dir(&unfinished)?;
    lock.sync_all()?;
    if let Some(parent) = folder.parent() {
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

/// Removes what a crash left; refuses a folder with anything else in it.
fn clear(folder: &Path) -> anyhow::Result<()> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder)? {
        names.insert(entry?.file_name());
    }
    let left_behind = names.iter().any(|name| name == UNFINISHED);
    let ours = |name: &std::ffi::OsString| {
        left_behind && (name == UNFINISHED || FILES.iter().any(|file| name == file))
    };
    if names.iter().any(|name| name == config::FILE_NAME) {
        bail!(
            "there is a provider in {} already: start it with `ceralacca serve --config {}`",
            folder.display(),
            folder.join(config::FILE_NAME).display()
        );
    }
    if let Some(other) = names.iter().find(|name| !ours(name)) {
        bail!(
            "{} is not empty ({} is in it): name a folder that is",
            folder.display(),
            other.display()
        );
    }
    // The mark goes last: until then, what is there is known to be a leftover.
    for name in names.iter().filter(|name| *name != UNFINISHED) {
        remove(&folder.join(name))?;
    }
    if left_behind {
        remove(&folder.join(UNFINISHED))?;
    }
    Ok(())
}

fn remove(path: &Path) -> std::io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn make(folder: &Path, plan: &Plan, at: Timestamp) -> anyhow::Result<()> {
    let text = configuration(plan);
    let config = Config::parse(&folder.join(config::FILE_NAME), &text)?;
    let (Some(author), Some(service_mailbox)) =
        (config.provider.author(), config.provider.service_mailbox())
    else {
        bail!("a provider has at least one domain: name it with --domain");
    };
    let first = config.provider.domains.first().map_or("localhost", |domain| domain.as_str());

    let authority = Authority::new(&authority_name(&plan.name), at)?;
    let (signing_pem, signing_key) = {
        let (certificate, key) = authority.issue_provider(&plan.name, &author.to_string(), at)?;
        let record = ProviderRecord {
            name: plan.name.clone(),
            unit: None,
            certificates: vec![certificate.to_der().to_vec()],
            mail_receipt: service_mailbox.clone(),
            domains: plan.domains.clone(),
            location: None,
            description: None,
        };
        let index = Index::new(vec![record], None)?.to_ldif();
        write(&folder.join("providers.ldif"), index.as_bytes(), 0o644)?;
        (certificate.to_pem(), key)
    };
    write(&folder.join("signing.pem"), signing_pem.as_bytes(), 0o644)?;
    write(&folder.join("signing.key"), signing_key.as_bytes(), 0o600)?;
    let (stamper, stamper_key) = authority.issue_stamper(&plan.name, &author.to_string(), at)?;
    write(&folder.join("timestamp.pem"), stamper.to_pem().as_bytes(), 0o644)?;
    write(&folder.join("timestamp.key"), stamper_key.as_bytes(), 0o600)?;
    write(&folder.join("crl.pem"), authority.crl(&[], at)?.to_pem().as_bytes(), 0o644)?;
    let (ca_pem, ca_key) = authority.to_pem()?;
    write(&folder.join("ca.pem"), ca_pem.as_bytes(), 0o644)?;
    write(&folder.join("ca.key"), ca_key.as_bytes(), 0o600)?;
    let local = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let names = ["localhost", &format!("mail.{first}")];
    let (tls, tls_key) = authority.valid_for(TLS_DAYS).issue_tls(&names, &local, at)?;
    write(&folder.join("tls.pem"), (tls.to_pem() + &ca_pem).as_bytes(), 0o644)?;
    write(&folder.join("tls.key"), tls_key.as_bytes(), 0o600)?;

    fill(&folder.join("store"), &config, plan, at)?;
    write(&folder.join(config::FILE_NAME), text.as_bytes(), 0o600)
}

/// The store with the accounts that every provider has, and those planned.
fn fill(store: &Path, config: &Config, plan: &Plan, at: Timestamp) -> anyhow::Result<()> {
    let store = EmbeddedStore::open(store, Options::default())?;
    found(&store, config, at)?;
    for planned in &plan.accounts {
        let mut new = account(config, planned.address.clone(), Role::None, planned.quota_octets);
        new.user_id = Some(planned.user_id.clone());
        new.credentials = Some(Kept::of(&planned.password)?.into());
        store.add_account(new, at)?;
    }
    Ok(())
}

/// Adds the accounts that every provider has, as far as they are not there.
///
/// # Errors
///
/// When the store fails.
pub(crate) fn found(store: &dyn Store, config: &Config, at: Timestamp) -> anyhow::Result<()> {
    let none = "the first domain is too long for the service addresses";
    let service_mailbox = config.provider.service_mailbox().context(none)?;
    let postmaster = config.provider.postmaster.clone();
    let last = (config.provider.author().context(none)?, Role::Author, SERVICE_QUOTA_OCTETS);
    for (address, role, octets_max) in [
        (service_mailbox, Role::ServiceMailbox, SERVICE_QUOTA_OCTETS),
        (postmaster, Role::None, HOLDER_QUOTA_OCTETS),
        // By this one a store is known to have them all.
        last,
    ] {
        match store.add_account(account(config, address, role, octets_max), at) {
            // Of two machines that begin at once, or after one that died in between.
            Ok(_) | Err(StoreError::AccountExists) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn account(config: &Config, address: Address, role: Role, octets_max: u64) -> NewAccount {
    NewAccount {
        address,
        user_id: None,
        owner: if role == Role::None { Owner::Holder } else { Owner::Provider },
        role,
        credentials: None,
        quota: Quota {
            octets_max,
            messages_max: None,
            receipt_reserve_octets: config.limits.receipt_reserve,
        },
        ordinary_mail: None,
    }
}

/// A name for the provider's own authority that fits into a certificate.
fn authority_name(provider: &str) -> String {
    const SUFFIX: &str = " CA";
    provider.chars().take(PROVIDER_NAME_MAX - SUFFIX.len()).collect::<String>() + SUFFIX
}

fn configuration(plan: &Plan) -> String {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let list = |members: Vec<String>| format!("[{}]", members.join(", "));
    let domains = plan.domains.iter().map(|domain| quoted(domain.as_str())).collect();
    let unthrottled = plan.unthrottled.iter().map(|network| quoted(network)).collect();
    format!(
        "# Written by ceralacca. Relative paths start from this folder; `ceralacca check` says \
         what is wrong.\n\n\
         [provider]\nname = {}\ndomains = {}\n\n\
         [listen]                      # a port is base + standard port, or set by name\n\
         address = \"127.0.0.1\"\nport_base = {}\n\n\
         [index]\nsource = \"providers.ldif\"\n\n\
         [trust]\nauthorities = [\"ca.pem\"]\ncrls = [\"crl.pem\"]\n\n\
         [ordinary_mail]\npolicy = {}\n\n\
         [limits]\nunthrottled = {}\n",
        quoted(&plan.name),
        list(domains),
        plan.port_base,
        quoted(&plan.ordinary_mail.to_string()),
        list(unthrottled),
    )
}

/// A new file, on disk when this returns.
fn write(path: &Path, octets: &[u8], mode: u32) -> anyhow::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(octets)?;
    file.sync_all()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::config::Service;

    fn plan() -> Plan {
        Plan {
            name: "Alfa \"PEC\" S.p.A.".to_owned(),
            domains: vec![Domain::parse("pec.alfa.example").unwrap()],
            port_base: 20_000,
            ordinary_mail: OrdinaryMail::Reject,
            unthrottled: vec!["127.0.0.0/8"],
            accounts: vec![PlannedAccount {
                address: Address::parse("anna@pec.alfa.example").unwrap(),
                user_id: "abianchi".to_owned(),
                password: "p".to_owned(),
                quota_octets: 5,
            }],
        }
    }

    fn names(folder: &Path) -> BTreeSet<String> {
        fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn a_provider_is_made_whole() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("alfa");
        create(&folder, &plan(), Timestamp::now()).unwrap();
        assert_eq!(names(&folder), FILES.iter().map(|name| (*name).to_owned()).collect());
        for (name, mode) in
            [("", 0o700), ("ca.key", 0o600), ("tls.key", 0o600), ("signing.key", 0o600)]
        {
            let found = fs::metadata(folder.join(name)).unwrap().permissions().mode();
            assert_eq!(found & 0o777, mode, "{name}");
        }
        let config = Config::load(&folder.join(config::FILE_NAME)).unwrap();
        assert_eq!(config.provider.name, "Alfa \"PEC\" S.p.A.");
        assert_eq!(config.listen_addr(Service::Smtp).port(), 20_025);
        assert!(config.doubts.is_empty());

        let ldif = fs::read(folder.join("providers.ldif")).unwrap();
        let (index, faults) = Index::from_ldif(&ldif).unwrap();
        assert!(faults.is_empty());
        let [record] = index.records() else { panic!("one record") };
        assert_eq!(record.mail_receipt.to_string(), "ricevute@pec.alfa.example");

        let store = EmbeddedStore::open(&folder.join("store"), Options::default()).unwrap();
        let accounts = store.accounts().unwrap();
        let told: Vec<_> = accounts
            .iter()
            .map(|a| (a.address.to_string(), a.role, a.owner, a.credentials.is_some()))
            .collect();
        let expected = [
            ("anna", Role::None, Owner::Holder, true),
            ("posta-certificata", Role::Author, Owner::Provider, false),
            ("postmaster", Role::None, Owner::Holder, false),
            ("ricevute", Role::ServiceMailbox, Owner::Provider, false),
        ];
        let expected: Vec<_> = expected
            .into_iter()
            .map(|(local, role, owner, login)| {
                (format!("{local}@pec.alfa.example"), role, owner, login)
            })
            .collect();
        assert_eq!(told, expected);
    }

    #[test]
    fn a_folder_with_something_in_it_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.pem"), "mine").unwrap();
        let error = create(folder.path(), &plan(), Timestamp::now()).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "{} is not empty (ca.pem is in it): name a folder that is",
                folder.path().display()
            )
        );
        assert_eq!(fs::read(folder.path().join("ca.pem")).unwrap(), b"mine");
        fs::write(folder.path().join(config::FILE_NAME), "").unwrap();
        let error = create(folder.path(), &plan(), Timestamp::now()).unwrap_err().to_string();
        assert!(error.starts_with("there is a provider in "), "{error}");
    }

    #[test]
    fn what_a_crash_left_is_made_anew() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path();
        let unfinished = folder.join(UNFINISHED);
        // After some files were moved, before the configuration was.
        fs::create_dir(&unfinished).unwrap();
        fs::write(unfinished.join(config::FILE_NAME), "half").unwrap();
        fs::write(folder.join("ca.key"), "half").unwrap();
        fs::create_dir(folder.join("store")).unwrap();
        create(folder, &plan(), Timestamp::now()).unwrap();
        assert!(is_complete(folder) && !unfinished.exists());
        // But nothing that is not ours.
        fs::remove_file(folder.join(config::FILE_NAME)).unwrap();
        fs::create_dir(&unfinished).unwrap();
        fs::write(folder.join("thesis.tex"), "").unwrap();
        assert!(create(folder, &plan(), Timestamp::now()).is_err());
        assert!(folder.join("ca.key").exists() && folder.join("thesis.tex").exists());
    }

    #[test]
    fn one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let lock = File::open(folder.path()).unwrap();
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
        let error = create(folder.path(), &plan(), Timestamp::now()).unwrap_err().to_string();
        assert!(error.ends_with(": wait for it"), "{error}");
    }

    #[test]
    fn the_longest_name_fits_its_authority() {
        let name = "è".repeat(PROVIDER_NAME_MAX);
        assert_eq!(authority_name(&name).chars().count(), PROVIDER_NAME_MAX);
        assert!(Authority::new(&authority_name(&name), Timestamp::now()).is_ok());
    }
}
