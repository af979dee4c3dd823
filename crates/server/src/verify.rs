//! `verify`: what a saved message proves, offline.
//!
//! Signature, path, origin and form, each a check with the rule that asks for it. The time of the
//! message counts, not today's: a certificate that ended since is no fault (PEC-IDX-12). What could
//! not be checked, or is of an older practice, is a note; `--strict` makes notes count.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use anyhow::Context;
use crypto::{Certificate, Crl, Digest, Revocation, Trust, VerifyError};
use jiff::SignedDuration;
use pec::inspect::{examine, with_crlf};
use pec::providers::Index;
use pec::reduce::Hashed;
use pec::verification::brief::{self, Hashes};
use pec::verification::mandate::mandate;
use pec::verification::{self, Check, Known, Verification};
use pec::{DeliveryForm, ReceiptKind};
use serde::Serialize;
use store::Timestamp;

use crate::args;
use crate::config::Config;
use crate::evidence::bundle::is_one;
use crate::material;

mod bundle;

/// Octets of a message at most: the largest that this program takes in, as a client sends it,
/// comes back inside an envelope with some KiB around it.
const MESSAGE_OCTETS_MAX: u64 = 256 * 1024 * 1024;

/// How far the time of a message may be ahead of the clock here: that of a provider is a second off at
/// most (PEC-DT-06), that of whoever verifies may be some minutes.
const AHEAD_MAX: SignedDuration = SignedDuration::from_mins(10);
/// How far the time that the signature tells may be from the one that is certified: a message is signed
/// when it is made, or, after a fault, within the day in which it must leave (PEC-BT-14).
const SIGNED_APART_MAX: SignedDuration = SignedDuration::from_hours(24);

/// What is believed.
pub(crate) struct Ground {
    pub(crate) trust: Trust,
    /// Who may issue the certificates of those who stamp times.
    pub(crate) stampers: Trust,
    pub(crate) index: Option<Index>,
}

/// Whether a message holds, by the ground of a configuration; and its kind.
pub(crate) fn holds(octets: &[u8], ground: &Ground, now: Timestamp) -> Option<&'static str> {
    let found = report(Path::new(""), octets, ground, false, now);
    found.kind.filter(|_| found.verdict == VALID)
}

/// What was found out about one file.
#[derive(Debug, Serialize)]
struct Report {
    file: String,
    verdict: &'static str,
    kind: Option<&'static str>,
    /// All empty when there is no `daticert.xml` that can be read.
    #[serde(flatten)]
    certified: Certified,
    signer: Option<Signer>,
    /// Whether a brief receipt was asked for.
    #[serde(skip)]
    is_brief: bool,
    checks: Vec<Check>,
    notes: Vec<String>,
    /// What nobody could tell of who signed, for want of something to believe: a reader of notes
    /// finds it there, a person in the first line.
    #[serde(skip)]
    unproved: Vec<&'static str>,
}

/// What `daticert.xml` says.
#[derive(Debug, Default, Serialize)]
struct Certified {
    identificativo: Option<String>,
    gestore: Option<String>,
    mittente: Option<String>,
    destinatari: Vec<Recipient>,
    oggetto: Option<String>,
    time: Option<String>,
}

#[derive(Debug, Serialize)]
struct Recipient {
    address: String,
    tipo: &'static str,
}

#[derive(Debug, Serialize)]
struct Signer {
    subject: String,
    email: Option<String>,
    sha1: String,
    not_after: String,
}

/// Verifies each file and prints what was found. `false`: something does not hold.
///
/// # Errors
///
/// When index or authorities cannot be read.
pub(crate) fn run(arguments: &args::Verify) -> anyhow::Result<bool> {
    let ground = ground(arguments)?;
    let mut all_hold = true;
    let now = Timestamp::now();
    let originals = originals(&arguments.files);
    let mut out = std::io::stdout().lock();
    for file in &arguments.files {
        let looked_at = is_one(file).and_then(|is_bundle| match is_bundle {
            true => bundle::report(file, &ground, arguments.strict, now),
            false => {
                let octets = read(file)?;
                let mut report = report(file, &octets, &ground, arguments.strict, now);
                look_at_brief(&mut report, &octets, &originals, arguments.strict);
                Ok(report)
            }
        });
        let told = match looked_at {
            Ok(report) => {
                all_hold &= report.verdict == VALID;
                if arguments.json { report.line()? } else { report.text() }
            }
            Err(error) => {
                all_hold = false;
                writeln!(std::io::stderr(), "ceralacca: {error:#}")?;
                if arguments.json { unreadable(file, &error).line()? } else { String::new() }
            }
        };
        out.write_all(told.as_bytes())?;
    }
    Ok(all_hold)
}

const VALID: &str = "valid";
const INVALID: &str = "invalid";

/// What the options name, and for what they do not name what the configuration does, if there is
/// one.
fn ground(arguments: &args::Verify) -> anyhow::Result<Ground> {
    let config = match (&arguments.index, &arguments.ca) {
        (Some(_), Some(_)) => None,
        _ => arguments.config.existing().map(|file| Config::load(&file)).transpose()?,
    };
    let trust = match (&arguments.ca, &config) {
        (Some(file), _) => named_trust(file)?,
        (None, Some(config)) => material::trust(config)?,
        (None, None) => Trust::new(Vec::new(), Vec::new())?,
    };
    let stampers = match (&arguments.ca, &config) {
        (Some(file), _) => named_trust(file)?,
        (None, Some(config)) => material::stamp_trust(config)?,
        (None, None) => Trust::new(Vec::new(), Vec::new())?,
    };
    let index = match (&arguments.index, &config) {
        (Some(file), _) => Some(material::index_file(file)?.0),
        (None, Some(config)) => Some(material::index(config)?.0),
        (None, None) => None,
    };
    Ok(Ground { trust, stampers, index })
}

/// The authorities in a file, with the revocation list that may stand beside them.
pub(crate) fn named_trust(file: &Path) -> anyhow::Result<Trust> {
    let pem = material::octets(file)?;
    let has_list = String::from_utf8_lossy(&pem).contains("-----BEGIN X509 CRL-----");
    let crls = if has_list { vec![Crl::read(&pem)?] } else { Vec::new() };
    Ok(Trust::new(material::certificates(file)?, crls)?)
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    let unreadable = || format!("{} cannot be read", file.display());
    let opened = File::open(file).with_context(unreadable)?;
    let mut octets = Vec::new();
    opened.take(MESSAGE_OCTETS_MAX + 1).read_to_end(&mut octets).with_context(unreadable)?;
    if octets.len() as u64 > MESSAGE_OCTETS_MAX {
        anyhow::bail!("{} is larger than any message", file.display());
    }
    Ok(octets)
}

/// The original messages in the transport envelopes among these files, by their identifiers: a brief
/// receipt names their attachments by hash. What cannot be read is told when its turn comes.
fn originals(files: &[std::path::PathBuf]) -> BTreeMap<String, Vec<u8>> {
    let mut originals = BTreeMap::new();
    if files.len() < 2 {
        return originals;
    }
    let mut room = MESSAGE_OCTETS_MAX;
    for file in files {
        let Ok(octets) = read(file) else { continue };
        let Some((of, original)) = original(&octets) else { continue };
        if let Some(left) = room.checked_sub(original.len() as u64) {
            room = left;
            originals.insert(of, original);
        }
    }
    originals
}

/// The original message in a transport envelope, with its identifier.
fn original(octets: &[u8]) -> Option<(String, Vec<u8>)> {
    let octets = with_crlf(octets);
    let examination = examine(&octets);
    examination.message().field("X-Trasporto")?;
    let parts = examination.parts()?;
    let [original] = &parts.originals[..] else { return None };
    let message = mail::Message::lenient(original.body());
    let id = message.field("Message-ID")?.unfolded();
    let id = id.trim().trim_start_matches('<').trim_end_matches('>').to_owned();
    Some((id, original.body().to_vec()))
}

/// Holds a brief receipt's hashes against the message that they are of, when that is there.
fn look_at_brief(
    report: &mut Report,
    octets: &[u8],
    originals: &BTreeMap<String, Vec<u8>>,
    strict: bool,
) {
    let octets = with_crlf(octets);
    let examination = examine(&octets);
    let Some(parts) = examination.parts() else { return };
    let delivery = ReceiptKind::Delivery.x_ricevuta();
    let reduced = match &parts.originals[..] {
        [reduced] if report.kind == Some(delivery) && report.is_brief => reduced.body(),
        _ => return,
    };
    let of = report.certified.identificativo.as_ref().and_then(|id| originals.get(id));
    match of.map(|original| brief::hashes(reduced, original)) {
        Some(found) => {
            let (ok, text) = match found {
                Hashes::None => (true, "the message has no attachment"),
                Hashes::Of(Hashed::Encoded) => {
                    (true, "the hashes are those of the attachments, as they are encoded")
                }
                Hashes::Of(Hashed::File) => (true, "the hashes are those of the attached files"),
                Hashes::Other => (false, "the hashes are not those of the message's attachments"),
            };
            report.checks.push(Check { rule: "PEC-RB-03", ok, text: text.to_owned() });
        }
        None => report.notes.push(
            "a brief receipt: verify it together with its transport envelope to compare the hashes"
                .to_owned(),
        ),
    }
    let holds = report.checks.iter().all(|check| check.ok);
    report.verdict = if holds && (!strict || report.notes.is_empty()) { VALID } else { INVALID };
}

/// What is told of a file that cannot be read: a program must find every file that it named.
fn unreadable(file: &Path, error: &anyhow::Error) -> Report {
    Report {
        file: file.display().to_string(),
        verdict: INVALID,
        kind: None,
        certified: Certified::default(),
        signer: None,
        is_brief: false,
        checks: Vec::new(),
        notes: vec![format!("{error:#}")],
        unproved: Vec::new(),
    }
}

fn report(file: &Path, octets: &[u8], ground: &Ground, strict: bool, now: Timestamp) -> Report {
    let octets = with_crlf(octets);
    let examination = examine(&octets);
    let mut checks = Vec::new();
    let mut notes = Vec::new();
    let mut unproved = Vec::new();
    if matches!(octets, std::borrow::Cow::Owned(_)) {
        notes.push("the file has LF line ends: it was read as with CRLF".to_owned());
    }
    let mut check = |rule, ok, text: String| checks.push(Check { rule, ok, text });

    let signature = examination.entity().zip(examination.signature());
    let certificate =
        signature.and_then(|(_, signature)| crypto::signer_certificate(signature).ok());
    let emails = certificate.as_ref().map(Certificate::emails);
    let known = Known { emails: emails.as_deref(), index: ground.index.as_ref() };
    let found = verification::verify(&examination, &known);
    let certified_at = found.certification.as_ref().map(|data| data.at.instant());

    if let Some(at) = certified_at.filter(|at| at.duration_since(now) > AHEAD_MAX) {
        let text = format!("it was certified on {at}, which by the clock here is to come");
        check("PEC-DT-06", false, text);
    }
    match (signature, &certificate) {
        (Some((entity, signature)), Some(certificate)) => {
            check("PEC-PR-01", true, "the message has a signature with its certificate".to_owned());
            if let Some(index) = &ground.index {
                let author = examination.author();
                let by = (certificate, author.as_ref());
                look_at_origin(index, by, &found, &mut check, &mut notes);
            } else {
                notes.push("no index of providers: who signed was not looked up".to_owned());
                unproved.push("who signed it (needs --index)");
            }
            if ground.trust.authorities().is_empty() {
                unproved.push("who issued the certificate (needs --ca)");
            }
            let at = certified_at.unwrap_or(now);
            let verified = crypto::verify(signature, entity, &ground.trust, at);
            if let (Ok(verified), Some(at)) = (&verified, certified_at)
                && let Some(signed) = verified.signing_time
                && signed.duration_since(at).abs() > SIGNED_APART_MAX
            {
                notes.push(format!("certified on {at}, and by its own word signed on {signed}"));
            }
            look_at_signature(verified, &ground.trust, &mut check, &mut notes);
            if certificate.not_after() <= now {
                notes.push(format!("the certificate ended on {}", certificate.not_after()));
            }
        }
        _ => check("PEC-PR-01", false, "the message has no signature with its certificate".into()),
    }
    let kind = found.kind.map(verification::SystemKind::word);
    let asked = found.certification.as_ref().and_then(|data| data.requested);
    let is_brief = asked == Some(DeliveryForm::Brief);
    let certified = found.certification.as_ref().map(certified).unwrap_or_default();
    checks.extend(found.checks);
    notes.extend(found.notes);
    let holds = checks.iter().all(|check| check.ok) && (!strict || notes.is_empty());
    Report {
        file: file.display().to_string(),
        verdict: if holds { VALID } else { INVALID },
        kind,
        certified,
        signer: certificate.map(|certificate| Signer {
            subject: certificate.subject(),
            email: certificate.emails().into_iter().next(),
            sha1: certificate.sha1(),
            not_after: certificate.not_after().to_string(),
        }),
        is_brief,
        checks,
        notes,
        unproved,
    }
}

fn look_at_origin(
    index: &Index,
    (certificate, author): (&Certificate, Option<&mail::Address>),
    found: &Verification,
    check: &mut impl FnMut(&'static str, bool, String),
    notes: &mut Vec<String>,
) {
    let records = index.by_certificate(certificate.to_der());
    if records.is_empty() {
        check("PEC-PR-02", false, "the signer is no provider of the index".to_owned());
        return;
    }
    check("PEC-PR-02", true, "the signer is a provider of the index".to_owned());
    let mandate = mandate(index, &records, author, found.certification.as_ref());
    for Check { rule, ok, text } in mandate.checks {
        check(rule, ok, text);
    }
    notes.extend(mandate.notes);
    if let Some(data) = &found.certification
        && records.iter().all(|record| record.name.trim() != data.provider.trim())
    {
        notes.push(format!(
            "gestore-emittente is not the signer's name in the index: {}",
            data.provider
        ));
    }
}

fn look_at_signature(
    verified: Result<crypto::Verified, VerifyError>,
    trust: &Trust,
    check: &mut impl FnMut(&'static str, bool, String),
    notes: &mut Vec<String>,
) {
    let signed = "the signature is of this content";
    let mut path = |ok, text: String| {
        check("PEC-PR-03", true, signed.to_owned());
        check("PEC-PR-03", ok, text);
    };
    match verified {
        Ok(verified) => {
            path(true, "the certificate was valid at the time of the message".to_owned());
            if verified.digest == Digest::Sha1 {
                notes.push("the signature is made with SHA-1, as was usual once".to_owned());
            }
            if verified.revocation == Revocation::NotAvailable {
                notes.push("no revocation list of that time: it was not looked up".to_owned());
            }
        }
        // Nobody was named who could be believed, so there is no path to look for.
        Err(VerifyError::Path(_)) if trust.authorities().is_empty() => {
            check("PEC-PR-03", true, signed.to_owned());
            notes.push("no authority was named: who issued the certificate was not checked".into());
        }
        Err(
            error @ (VerifyError::Path(_)
            | VerifyError::Expired
            | VerifyError::NotYetValid
            | VerifyError::Revoked),
        ) => path(false, error.to_string()),
        Err(
            error @ (VerifyError::NotCms
            | VerifyError::NoSigner
            | VerifyError::Signature
            | VerifyError::Fault(_)),
        ) => check("PEC-PR-03", false, error.to_string()),
    }
}

fn certified(data: &pec::Certification) -> Certified {
    let time = data.at.instant().to_zoned(pec::moment::rome().clone());
    Certified {
        identificativo: Some(data.identifier.as_str().to_owned()),
        gestore: Some(data.provider.clone()),
        mittente: Some(data.sender.to_string()),
        destinatari: data
            .recipients
            .iter()
            .map(|recipient| Recipient {
                address: recipient.address.to_string(),
                tipo: recipient.kind.tipo(),
            })
            .collect(),
        oggetto: data.subject.clone(),
        time: Some(time.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()),
    }
}

impl Report {
    /// For a program: one object on one line.
    fn line(&self) -> anyhow::Result<String> {
        Ok(serde_json::to_string(self)? + "\n")
    }

    /// The verdict for a person. Anybody can make a key and a message that agrees with itself: where
    /// nobody could tell whose key it is, "valid" alone would mislead.
    fn headline(&self) -> String {
        if self.verdict == VALID && !self.unproved.is_empty() {
            let unproved = self.unproved.join(", ");
            return format!("{VALID} as far as it could be checked. NOT checked: {unproved}");
        }
        self.verdict.to_owned()
    }

    /// For a person.
    fn text(&self) -> String {
        let mut lines = vec![format!("{}: {}", self.file, self.headline())];
        let mut line = |name: &str, value: Option<&str>| {
            if let Some(value) = value {
                lines.push(format!("  {name:<15} {value}"));
            }
        };
        let data = &self.certified;
        line("kind", self.kind);
        line("identificativo", data.identificativo.as_deref());
        line("gestore", data.gestore.as_deref());
        line("mittente", data.mittente.as_deref());
        for Recipient { address, tipo } in &data.destinatari {
            line("destinatario", Some(&format!("{address} ({tipo})")));
        }
        line("oggetto", data.oggetto.as_deref());
        line("time", data.time.as_deref());
        line("signer", self.signer.as_ref().map(|signer| &signer.subject[..]));
        for check in &self.checks {
            let word = if check.ok { "holds" } else { "WRONG" };
            lines.push(format!("  {word}  {:<10} {}", check.rule, check.text));
        }
        for note in &self.notes {
            lines.push(format!("  note   {note}"));
        }
        let mut text = String::new();
        for line in lines {
            // What a stranger wrote is shown on a terminal: nothing that steers one is.
            text.extend(line.chars().map(|c| if c.is_control() { '?' } else { c }));
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests;
