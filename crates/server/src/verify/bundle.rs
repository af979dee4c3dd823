//! An evidence bundle, held together: every message with its signature, every record of the log with its
//! proof, each against the other.
//!
//! Nothing is believed for being in the bundle: not its page, which is made again and compared, and not
//! its authorities and index of providers. These are used where nobody named others, and then it is
//! said that who signed is not proved.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::bail;
use crypto::{Certificate, Crl, Trust};
use pec::providers::Index;
use pec::verification::Check;
use store::Timestamp;
use store::tree::Hash;

use super::{Certified, Ground, INVALID, Report, VALID};
use crate::command::plain;
use crate::evidence::bundle::{
    AUTHORITIES, Bundle, Format, HISTORY, INDEX, LISTS, MANIFEST, Manifest, PAGE,
};
use crate::evidence::story;
use crate::seal::check::Believed;
use crate::seal::history::History;

/// What a bundle is called among the kinds of messages.
const KIND: &str = "fascicolo";

/// Looks at a bundle.
///
/// # Errors
///
/// When it cannot be read as one.
pub(super) fn report(
    file: &Path,
    ground: &Ground,
    strict: bool,
    now: Timestamp,
) -> anyhow::Result<Report> {
    let mut bundle = Bundle::open(file)?;
    let manifest: Manifest = serde_json::from_slice(&bundle.read(MANIFEST)?)?;
    if manifest.format == Format::One {
        bail!(
            "it is a bundle of an earlier program, whose page had other words: make it again with \
             `ceralacca evidence '<{}>' -o prove.zip` where the message is kept",
            plain(&manifest.identificativo)
        );
    }
    let history = History::read(&bundle.read(HISTORY)?)?;
    let mut found = Found { checks: Vec::new(), notes: Vec::new(), unproved: Vec::new() };

    look_at_files(&mut found, &mut bundle, &manifest)?;
    let ground = &own_ground(&mut bundle, ground, &mut found)?;

    let certified = look_at_messages(&mut found, &mut bundle, &manifest, &history, ground, now)?;
    let believed = Believed { signers: &ground.trust, stampers: &ground.stampers };
    look_at_history(&mut found, history.check(believed));
    let page = pec::evidence::page(&story::of(&manifest, &history)?);
    // Whatever version the manifest tells: whoever wrote the page may have written that too. How the
    // page is made belongs to the format of the bundle.
    let same = bundle.read(PAGE)? == page.as_bytes();
    let text = if same { "says what the other files say" } else { "says something else" };
    found.check("PEC-LOG-02", same, format!("{PAGE} {text}"));
    for missing in &manifest.missing {
        found.note(format!("not in the bundle: {missing}"));
    }
    let holds = found.checks.iter().all(|check| check.ok) && (!strict || found.notes.is_empty());
    Ok(Report {
        file: file.display().to_string(),
        verdict: if holds { VALID } else { INVALID },
        kind: Some(KIND),
        certified: Certified {
            identificativo: Some(manifest.identificativo),
            ..certified.unwrap_or_default()
        },
        signer: None,
        is_brief: false,
        checks: found.checks,
        notes: found.notes,
        unproved: found.unproved,
    })
}

/// What is found on the way.
struct Found {
    checks: Vec<Check>,
    notes: Vec<String>,
    unproved: Vec<&'static str>,
}

impl Found {
    fn check(&mut self, rule: &'static str, ok: bool, text: String) {
        self.checks.push(Check { rule, ok, text });
    }

    /// Once, however many messages have it.
    fn note(&mut self, text: String) {
        if !self.notes.contains(&text) {
            self.notes.push(text);
        }
    }
}

type Opened = Bundle<std::io::BufReader<std::fs::File>>;

/// The files are those that the manifest lists, octet for octet.
fn look_at_files(
    found: &mut Found,
    bundle: &mut Opened,
    manifest: &Manifest,
) -> anyhow::Result<()> {
    let mut others: BTreeSet<String> = bundle.names().into_iter().collect();
    others.remove(MANIFEST);
    others.remove(PAGE);
    let mut same = true;
    for listed in &manifest.files {
        let there = others.remove(&listed.name);
        if !there || Hash::of(&bundle.read(&listed.name)?) != listed.sha256 {
            let text = format!("{} is not the file that the bundle was made with", listed.name);
            found.check("PEC-LOG-02", false, text);
            same = false;
        }
    }
    for other in others {
        found.check("PEC-LOG-02", false, format!("{other} was not in the bundle"));
        same = false;
    }
    if same {
        let text = format!("{} files, as the bundle was made with", manifest.files.len());
        found.check("PEC-LOG-02", true, text);
    }
    Ok(())
}

/// Authorities and index of the bundle itself, for what nobody named; and its lists in any case.
fn own_ground(bundle: &mut Opened, named: &Ground, found: &mut Found) -> anyhow::Result<Ground> {
    let nobody = named.trust.authorities().is_empty();
    let lists = bundle.names().into_iter().filter(|name| name.starts_with(LISTS));
    let lists = lists.collect::<Vec<_>>().into_iter().map(|name| {
        let list = bundle.read(&name)?;
        Ok(Crl::read(&list)?)
    });
    let lists = lists.collect::<anyhow::Result<Vec<Crl>>>()?;
    let mut own = |named: &Trust| -> anyhow::Result<Trust> {
        let lists = lists.iter();
        if !named.authorities().is_empty() {
            // A list is its authority's word, whoever brings it; those of anybody else say nothing.
            let signed = lists.filter(|list| named.vouches_for(list));
            return Ok(named.with_crls(named.crls().iter().chain(signed).cloned().collect())?);
        }
        let lists = lists.cloned().collect();
        let authorities = Certificate::all_from_pem(&bundle.read(AUTHORITIES)?)?;
        Ok(Trust::new(authorities, lists)?)
    };
    let (trust, stampers) = (own(&named.trust)?, own(&named.stampers)?);
    if nobody {
        found.note("no authority was named: those in the bundle were believed".to_owned());
        found.unproved.push("who issued the certificates (needs --ca)");
    }
    let index = match &named.index {
        Some(index) => Index::new(index.records().to_vec(), None)?,
        None => {
            found.note("no index of providers was named: that in the bundle was believed".into());
            found.unproved.push("who signed (needs --index)");
            Index::from_ldif(&bundle.read(INDEX)?)?.0
        }
    };
    Ok(Ground { trust, stampers, index: Some(index) })
}

/// Every message holds, is about this transaction, and is in the log. Gives what is certified.
fn look_at_messages(
    found: &mut Found,
    bundle: &mut Opened,
    manifest: &Manifest,
    history: &History,
    ground: &Ground,
    now: Timestamp,
) -> anyhow::Result<Option<Certified>> {
    let records = history.log()?;
    let logged: BTreeSet<&str> = records
        .iter()
        .flat_map(|record| [&record.message_id, &record.identificativo])
        .filter_map(|id| id.as_deref())
        .collect();
    let mut certified = None;
    let envelope = manifest.files.iter().find(|listed| listed.kind == "posta-certificata");
    let original = match envelope {
        Some(listed) => super::original(&bundle.read(&listed.name)?),
        None => None,
    };
    let originals: BTreeMap<_, _> = original.into_iter().collect();
    for listed in &manifest.files {
        let Some(message_id) = &listed.message_id else { continue };
        let name = &listed.name;
        let octets = bundle.read(name)?;
        let mut looked_at = super::report(Path::new(name), &octets, ground, false, now);
        super::look_at_brief(&mut looked_at, &octets, &originals, false);
        for check in looked_at.checks.iter().filter(|check| !check.ok) {
            found.check(check.rule, false, format!("{name}: {}", check.text));
        }
        looked_at.notes.iter().for_each(|note| found.note(note.clone()));
        let kind = looked_at.kind.unwrap_or("no message of the circuit");
        if looked_at.verdict == VALID {
            found.check("PEC-PR-03", true, format!("{name}: {kind}, as it was signed"));
        }
        if kind != listed.kind {
            found.check("PEC-LOG-02", false, format!("{name} is {kind}, not {}", listed.kind));
        }
        if let Some(of) = &looked_at.certified.identificativo
            && *of != manifest.identificativo
        {
            found.check("PEC-LOG-01", false, format!("{name} is about another message, {of}"));
        }
        let said = mail::Message::lenient(&octets).field("Message-ID").map(|id| id.unfolded());
        let is_same = said.is_some_and(|said| said.trim().trim_matches(['<', '>']) == message_id);
        if !is_same || !logged.contains(message_id.as_str()) {
            found.check("PEC-LOG-01", false, format!("{name} is not in the log of this message"));
        }
        if certified.is_none() && looked_at.certified.mittente.is_some() {
            certified = Some(looked_at.certified);
        }
    }
    if manifest.files.iter().all(|listed| listed.message_id.is_none()) {
        found.check("PEC-LOG-02", false, "there is no message in the bundle".to_owned());
    }
    let mut told = records.iter().filter_map(|record| record.identificativo.as_ref()).peekable();
    if told.peek().is_none() {
        let text = format!("{HISTORY} has no record of {}", manifest.identificativo);
        found.check("PEC-LOG-01", false, text);
    }
    if let Some(other) = told.find(|of| **of != manifest.identificativo) {
        found.check("PEC-LOG-01", false, format!("a record is about another message, {other}"));
    }
    Ok(certified)
}

/// What was found out about the log's records. `evidence` seals before it writes, so none of them is
/// without a seal in a bundle that it made.
fn look_at_history(found: &mut Found, history: crate::seal::check::Found) {
    for finding in history.faults {
        found.check("PEC-LOG-03", false, format!("{HISTORY}: {}", finding.text));
    }
    if history.unsealed > 0 {
        let text = format!("{HISTORY}: records that no seal covers: {}", history.unsealed);
        found.check("PEC-LOG-03", false, text);
    }
    if found.checks.iter().all(|check| check.ok || check.rule != "PEC-LOG-03") {
        let text = format!(
            "{HISTORY}: {} records of the log, proved by {} seals",
            history.records, history.seals
        );
        found.check("PEC-LOG-03", true, text);
    }
    history.notes.into_iter().for_each(|note| found.note(format!("{HISTORY}: {note}")));
}
