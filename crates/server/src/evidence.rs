//! `evidence`: all that proves what became of a message, in one file that proves itself.
//!
//! The envelope and the receipts that are still kept, the records of the log with their proofs, seals
//! and time stamps, the certificates of the authorities, revocation lists, the records of the index of
//! providers, and a page for a person. Everything is looked for by what the log tells; what the log
//! tells of and is not there any more is said. The bundle is verified before it has its name. Not here:
//! how it is verified elsewhere, which is `verify`'s.

pub(crate) mod bundle;
pub(crate) mod story;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crypto::Trust;
use pec::providers::{Index, ProviderRecord, records_to_ldif};
use serde::Serialize;
use store::tree::Hash;
use store::{LogRecord, Timestamp};

use self::bundle::{
    AUTHORITIES, Format, HISTORY, INDEX, LISTS, Listed, MANIFEST, MESSAGES, Manifest, PAGE,
};
use crate::args;
use crate::command::log::write;
use crate::command::plain;
use crate::config::Config;
use crate::control::{self, Reach, Request, Response, Shelved, unexpected};
use crate::material;
use crate::seal::history::History;
use crate::verify::{Ground, holds};

/// How often the log is sealed for one bundle at most: a message has few records at a time.
const SEALINGS_MAX: usize = 5;

/// Makes a bundle. `false`: it was refused, and the reason is printed.
///
/// # Errors
///
/// When neither the server nor the store can be reached, or the file cannot be written.
pub(crate) fn run(asked: &args::Evidence) -> anyhow::Result<bool> {
    let config = Config::load(&asked.config.path())?;
    let now = Timestamp::now();
    let mut reach = Reach::new(&config);
    let message_id = asked.message_id.clone();
    let history = match sealed_history(&mut reach, &message_id)? {
        Response::History { history } => history,
        other => return control::refused(other),
    };
    let records = history.log()?;
    let identificativo = the_one(&records, &message_id)?;
    let ground = Ground {
        trust: material::trust(&config)?,
        stampers: material::stamp_trust(&config)?,
        index: Some(material::index(&config)?.0),
    };
    let messages = messages(&mut reach, &message_id, &ground, now)?;
    if messages.is_empty() {
        bail!(
            "no message of {} is kept any more: `ceralacca log export` takes its records out",
            plain(&message_id)
        );
    }
    let made = assemble(&identificativo, &history, &records, messages, &ground, now)?;
    let output = asked.output.clone().unwrap_or_else(|| default_name(&identificativo));
    let mut archive = Cursor::new(Vec::new());
    bundle::write(&mut archive, made.files.iter().map(|(name, octets)| (&**name, &**octets)))?;
    write(&output, archive.get_ref())?;
    tell(&output, &made.manifest, history.records.len(), asked.json)?;
    Ok(true)
}

/// The records of a message, all of them under a seal: what happened today shall prove itself too, and
/// a record without a seal proves nothing. While a message is under way its next record may come
/// between the seal and the look.
fn sealed_history(reach: &mut Reach<'_>, message_id: &str) -> anyhow::Result<Response> {
    for _ in 0..SEALINGS_MAX {
        if let refused @ Response::Refused { .. } = reach.seal_log()? {
            return Ok(refused);
        }
        let request = Request::LogHistory { message_id: message_id.to_owned() };
        match reach.ask(request)? {
            Response::History { history }
                if history.records.iter().any(|record| record.seal.is_none()) => {}
            other => return Ok(other),
        }
    }
    bail!(
        "{} is under way, and its records come faster than they are sealed: try again",
        plain(message_id)
    )
}

#[derive(Serialize)]
struct Answer<'a> {
    file: &'a Path,
    identificativo: &'a str,
    messages: usize,
    records: usize,
    missing: &'a [String],
}

fn tell(output: &Path, manifest: &Manifest, records: usize, json: bool) -> anyhow::Result<()> {
    let messages = manifest.files.iter().filter(|listed| listed.message_id.is_some()).count();
    let mut out = std::io::stdout().lock();
    if json {
        let answer = Answer {
            file: output,
            identificativo: &manifest.identificativo,
            messages,
            records,
            missing: &manifest.missing,
        };
        writeln!(out, "{}", serde_json::to_string(&answer)?)?;
        return Ok(());
    }
    let file = output.display();
    writeln!(out, "{messages} messages and {records} records of the log are in {file}")?;
    for missing in &manifest.missing {
        writeln!(out, "not kept any more: {}", plain(missing))?;
    }
    Ok(())
}

/// The PEC identifier that all records are about.
fn the_one(records: &[LogRecord], message_id: &str) -> anyhow::Result<String> {
    let all: BTreeSet<&str> =
        records.iter().filter_map(|record| record.identificativo.as_deref()).collect();
    let mut all = all.into_iter();
    match (all.next(), all.next()) {
        (Some(one), None) => Ok(one.to_owned()),
        (None, _) => bail!("the log has no record of {}", plain(message_id)),
        (Some(first), Some(second)) => bail!(
            "{} is of several messages: name one by its PEC identifier, as {} or {}",
            plain(message_id),
            plain(first),
            plain(second)
        ),
    }
}

/// A name that is no path, whatever the identifier is.
fn default_name(identificativo: &str) -> PathBuf {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-@.".contains(c) { c } else { '-' };
    let name: String = identificativo.chars().take(100).map(plain).collect();
    PathBuf::from(format!("prove-{name}.zip"))
}

/// A message that holds.
pub(crate) struct Kept {
    pub(crate) kind: &'static str,
    pub(crate) octets: Vec<u8>,
}

/// The messages that are still there and hold, by their identifiers. Anybody can put a message with
/// any identifier into a mailbox of his own: what does not hold is no evidence.
fn messages(
    reach: &mut Reach<'_>,
    message_id: &str,
    ground: &Ground,
    now: Timestamp,
) -> anyhow::Result<BTreeMap<String, Kept>> {
    let found = match reach.ask(Request::FindMessages { message_id: message_id.to_owned() })? {
        Response::Places { places } => places,
        other => return Err(unexpected(other)),
    };
    let mut kept = BTreeMap::new();
    for Shelved { blob, message_id, .. } in found {
        if kept.contains_key(&message_id) {
            continue;
        }
        let Some(octets) = read(reach, blob)? else { continue };
        if let Some(kind) = holds(&octets, ground, now) {
            kept.insert(message_id, Kept { kind, octets });
        }
    }
    Ok(kept)
}

/// A message, piece by piece; nothing when it went meanwhile.
fn read(reach: &mut Reach<'_>, blob: u64) -> anyhow::Result<Option<Vec<u8>>> {
    let mut octets = Vec::new();
    loop {
        match reach.ask(Request::ReadOctets { blob, start: octets.len() as u64 })? {
            Response::Piece { octets: piece } if piece.is_empty() => return Ok(Some(octets)),
            Response::Piece { octets: piece } => octets.extend(STANDARD.decode(piece)?),
            Response::Refused { .. } => return Ok(None),
            other => return Err(unexpected(other)),
        }
    }
}

/// A bundle's files, in their order.
pub(crate) struct Made {
    pub(crate) manifest: Manifest,
    pub(crate) files: Vec<(String, Vec<u8>)>,
}

/// Puts a bundle together.
///
/// # Errors
///
/// When there is no index, or a record cannot be read.
pub(crate) fn assemble(
    identificativo: &str,
    history: &History,
    records: &[LogRecord],
    mut messages: BTreeMap<String, Kept>,
    ground: &Ground,
    now: Timestamp,
) -> anyhow::Result<Made> {
    let mut files: Vec<(Listed, Vec<u8>)> = Vec::new();
    let mut add = |name: String, kind: &str, message_id: Option<&str>, octets: Vec<u8>| {
        let listed = Listed {
            name,
            kind: kind.to_owned(),
            sha256: Hash::of(&octets),
            message_id: message_id.map(str::to_owned),
        };
        files.push((listed, octets));
    };
    let mut missing = Vec::new();
    let mut signers = BTreeSet::new();
    let mut told = BTreeSet::new();
    for record in records {
        let Some(id) = record.message_id.as_deref().filter(|id| told.insert(*id)) else { continue };
        match messages.remove(id) {
            Some(Kept { kind, octets }) => {
                let examination = pec::examine(&octets);
                let signature = examination.signature();
                let signer = signature.and_then(|s| crypto::signer_certificate(s).ok());
                signers.extend(signer.map(|signer| signer.to_der().to_vec()));
                let number = told.len();
                add(format!("{MESSAGES}{number:02}-{kind}.eml"), kind, Some(id), octets);
            }
            None => missing.push(format!("{} {id}", record.event)),
        }
    }
    add(HISTORY.to_owned(), "registro", None, history.octets()?);
    let mut authorities = BTreeSet::new();
    let all = ground.trust.authorities().iter().chain(ground.stampers.authorities());
    let pem: String =
        all.filter(|ca| authorities.insert(ca.to_der())).map(|ca| ca.to_pem()).collect();
    add(AUTHORITIES.to_owned(), "autorita", None, pem.into_bytes());
    for (number, list) in (1..).zip(lists(&ground.trust)) {
        add(format!("{LISTS}{number:02}.pem"), "crl", None, list.into_bytes());
    }
    let index = ground.index.as_ref().context("no index of providers")?;
    let ldif = records_to_ldif(&parties(index, records, &signers));
    add(INDEX.to_owned(), "indice", None, ldif.into_bytes());
    let manifest = Manifest {
        format: Format::Two,
        program: env!("CARGO_PKG_VERSION").to_owned(),
        identificativo: identificativo.to_owned(),
        made: now,
        files: files.iter().map(|(listed, _)| listed.clone()).collect(),
        missing,
    };
    let page = pec::evidence::page(&story::of(&manifest, history)?).into_bytes();
    let mut octets = serde_json::to_vec_pretty(&manifest)?;
    octets.push(b'\n');
    let head = [(PAGE.to_owned(), page), (MANIFEST.to_owned(), octets)];
    let files = files.into_iter().map(|(listed, octets)| (listed.name, octets));
    Ok(Made { manifest, files: head.into_iter().chain(files).collect() })
}

fn lists(trust: &Trust) -> impl Iterator<Item = String> {
    trust.crls().iter().map(crypto::Crl::to_pem)
}

/// The records of the index of those who signed, and of those who manage the parties' domains.
fn parties(
    index: &Index,
    records: &[LogRecord],
    signers: &BTreeSet<Vec<u8>>,
) -> Vec<ProviderRecord> {
    let addresses = records.iter().flat_map(|record| {
        let recipients = record.destinatari.iter().map(|to| &to.address);
        record.mittente.iter().chain(recipients)
    });
    let domains: BTreeSet<mail::Domain> = addresses
        .filter_map(|address| mail::Address::parse(address).ok())
        .map(|address| address.domain().clone())
        .collect();
    let concerned = |record: &&ProviderRecord| {
        domains.iter().any(|domain| record.manages(domain))
            || record.certificates.iter().any(|certificate| signers.contains(certificate))
    };
    index.records().iter().filter(concerned).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_no_path() {
        let name = default_name("../../etc/x\u{e0} y@pec.alfa.example");
        assert_eq!(name, PathBuf::from("prove-..-..-etc-x--y@pec.alfa.example.zip"));
        assert!(default_name(&"a".repeat(500)).as_os_str().len() < 120);
    }

    #[test]
    fn one_message_is_meant() {
        let of = |id: Option<&str>| LogRecord {
            identificativo: id.map(str::to_owned),
            ..LogRecord::default()
        };
        assert_eq!(the_one(&[of(None), of(Some("1")), of(Some("1"))], "x").unwrap(), "1");
        let told = |records: &[LogRecord]| the_one(records, "x").unwrap_err().to_string();
        assert_eq!(told(&[of(None)]), "the log has no record of x");
        let several = told(&[of(Some("1")), of(Some("2"))]);
        assert_eq!(several, "x is of several messages: name one by its PEC identifier, as 1 or 2");
    }
}
