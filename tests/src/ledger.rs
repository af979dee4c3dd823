//! What was submitted, and the proof of what it led to: each acknowledged message delivered exactly
//! once with each receipt exactly once, and no other twice.
//!
//! Messages are told apart by the client's Message-ID, receipts and envelopes by the
//! `identificativo` in their certification data.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::process::SERVICE_MAILBOX;
use crate::{Demo, Imap};

/// The accounts of the demo.
pub const ACCOUNTS: [&str; 5] = [
    "mario.rossi@pec.alfa.example",
    "anna.bianchi@pec.alfa.example",
    "studio.verdi@pec.beta.example",
    "comune@pec.beta.example",
    "piena@pec.beta.example",
];
/// An address of the demo's domain that nobody has.
pub const NOBODY: &str = "nessuno@pec.beta.example";
/// The account that is soon full.
pub const SOON_FULL: &str = "piena@pec.beta.example";

/// One message that somebody tried to submit.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// Whose.
    pub sender: String,
    /// For whom.
    pub recipients: Vec<String>,
    /// Whether it passes the formal checks.
    pub proper: bool,
    /// What `250` called it.
    pub acknowledged: Option<String>,
}

/// Every attempt, by the Message-ID of the client.
#[derive(Default)]
pub struct Ledger(Mutex<HashMap<String, Attempt>>);

/// What the proof counted.
#[derive(Debug, Default)]
pub struct Tally {
    /// Messages that were tried.
    pub tried: usize,
    /// Those that `250` was said to.
    pub acknowledged: usize,
    /// Those that were taken, which `250` may not have reached.
    pub taken: usize,
    /// Envelopes in mailboxes.
    pub delivered: usize,
    /// Non-delivery notices.
    pub undelivered: usize,
    /// Non-acceptance notices.
    pub refused: usize,
}

/// A message of the pipeline, as far as the proof cares.
#[derive(Debug)]
struct Certified {
    /// `X-Ricevuta`, or `busta` for the transport envelope.
    kind: String,
    id: String,
    msgid: String,
    recipient: String,
}

impl Ledger {
    /// Somebody tries.
    pub fn tried(&self, msgid: &str, attempt: Attempt) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(msgid.to_owned(), attempt);
    }

    /// It was answered `250`.
    pub fn acknowledged(&self, msgid: &str, id: &str) {
        let mut attempts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(attempt) = attempts.get_mut(msgid) {
            attempt.acknowledged = Some(id.to_owned());
        }
    }

    /// How many were answered `250`.
    pub fn acknowledgements(&self) -> usize {
        let attempts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        attempts.values().filter(|attempt| attempt.acknowledged.is_some()).count()
    }

    /// Reads every mailbox of a demo whose queue is empty, and proves it.
    ///
    /// # Errors
    ///
    /// What does not hold, all of it.
    pub fn prove(&self, demo: &Demo, service_password: &str) -> anyhow::Result<Tally> {
        let attempts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Whose INBOX holds what of which message, and how often.
        let mut found: BTreeMap<String, BTreeMap<(String, String, String), usize>> =
            BTreeMap::new();
        let mut ids: HashMap<String, BTreeSet<String>> = HashMap::new();
        let mut faults = Vec::new();
        for account in ACCOUNTS.into_iter().chain([SERVICE_MAILBOX]) {
            let mut imap = if account == SERVICE_MAILBOX {
                let mut imap = Imap::connect(demo.address("imaps")?, &demo.tls())?;
                imap.login(account, service_password)?;
                imap
            } else {
                demo.imap_as(account)?
            };
            imap.each_message("INBOX", "BODY.PEEK[]", &mut |uid, octets| {
                let read = Certified::read(octets)
                    .with_context(|| format!("message {uid} of {account}"))?;
                if !attempts.contains_key(&read.msgid) {
                    faults.push(format!("{account} holds {read:?}, which nobody sent"));
                }
                ids.entry(read.msgid).or_default().insert(read.id.clone());
                let place = (read.kind, account.to_owned(), read.recipient);
                *found.entry(read.id).or_default().entry(place).or_default() += 1;
                Ok(())
            })?;
        }
        let mut tally = Tally { tried: attempts.len(), ..Tally::default() };
        for (msgid, attempt) in attempts.iter() {
            let ids = ids.remove(msgid).unwrap_or_default();
            if let Some(id) = &attempt.acknowledged {
                tally.acknowledged += 1;
                if !ids.contains(id) {
                    faults.push(format!("{msgid} was acknowledged as {id} and is nowhere"));
                }
            }
            if ids.len() > 1 {
                faults.push(format!("{msgid} was taken more than once: {ids:?}"));
            }
            for id in ids {
                tally.taken += 1;
                let found = found.remove(&id).unwrap_or_default();
                if let Err(fault) = attempt.check(&found, &mut tally) {
                    faults.push(format!("{msgid}, {id}: {fault}"));
                }
            }
        }
        ensure!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
        Ok(tally)
    }
}

impl Attempt {
    /// Whether what was found of it is all that there must be, and nothing else.
    fn check(
        &self,
        found: &BTreeMap<(String, String, String), usize>,
        tally: &mut Tally,
    ) -> anyhow::Result<()> {
        let mut expected = BTreeMap::new();
        let mut expect = |kind: &str, place: &str, recipient: &str| {
            expected.insert((kind.to_owned(), place.to_owned(), recipient.to_owned()), 1);
        };
        if self.proper {
            expect("accettazione", &self.sender, "");
            expect("presa-in-carico", SERVICE_MAILBOX, "");
            for recipient in &self.recipients {
                let notice = |kind: &str| (kind.to_owned(), self.sender.clone(), recipient.clone());
                let failed = recipient == NOBODY
                    || (recipient == SOON_FULL && found.contains_key(&notice("errore-consegna")));
                if failed {
                    expect("errore-consegna", &self.sender, recipient);
                    tally.undelivered += 1;
                } else {
                    expect("avvenuta-consegna", &self.sender, recipient);
                    expect("busta", recipient, "");
                    tally.delivered += 1;
                }
            }
        } else {
            expect("non-accettazione", &self.sender, "");
            tally.refused += 1;
        }
        ensure!(*found == expected, "there is\n{found:#?}\nwhere should be\n{expected:#?}");
        Ok(())
    }
}

impl Certified {
    fn read(octets: &[u8]) -> anyhow::Result<Self> {
        let text = String::from_utf8_lossy(octets);
        let (header, _) = text.split_once("\r\n\r\n").context("no end of the header")?;
        let field = |name: &str| {
            let mut lines = header.split("\r\n");
            lines.find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned())
        };
        let kind = match (field("X-Ricevuta:"), field("X-Trasporto:").as_deref()) {
            (Some(kind), None) => kind,
            (None, Some("posta-certificata")) => "busta".to_owned(),
            other => bail!("neither receipt nor envelope: {other:?}"),
        };
        // The first is the message's own; one in the original message would come after it or be
        // inside postacert.eml, and no test sends one.
        let (_, data) = text.split_once("filename=\"daticert.xml\"").context("no daticert.xml")?;
        let (_, data) = data.split_once("\r\n\r\n").context("no end of a part's header")?;
        let (data, _) = data.split_once("\r\n--").context("no end of daticert.xml")?;
        let data: String = data.split("\r\n").collect();
        let xml = String::from_utf8(STANDARD.decode(data)?)?;
        let element = |name: &str| {
            let (_, rest) = xml.split_once(&format!("<{name}>"))?;
            let (value, _) = rest.split_once(&format!("</{name}>"))?;
            Some(value.replace("&lt;", "<").replace("&gt;", ">"))
        };
        Ok(Self {
            kind,
            id: element("identificativo").context("no identificativo")?,
            msgid: element("msgid").context("no msgid")?,
            recipient: element("consegna").unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_receipt_too_few_or_too_many_is_a_fault() {
        let attempt = Attempt {
            sender: ACCOUNTS[0].to_owned(),
            recipients: vec![ACCOUNTS[3].to_owned(), NOBODY.to_owned()],
            proper: true,
            acknowledged: None,
        };
        let whole: BTreeMap<_, _> = [
            ("accettazione", ACCOUNTS[0], ""),
            ("presa-in-carico", SERVICE_MAILBOX, ""),
            ("avvenuta-consegna", ACCOUNTS[0], ACCOUNTS[3]),
            ("busta", ACCOUNTS[3], ""),
            ("errore-consegna", ACCOUNTS[0], NOBODY),
        ]
        .into_iter()
        .map(|(kind, place, of)| ((kind.to_owned(), place.to_owned(), of.to_owned()), 1))
        .collect();
        let check = |found: &BTreeMap<_, _>| attempt.check(found, &mut Tally::default()).is_ok();
        assert!(check(&whole));
        for key in whole.keys() {
            let mut twice = whole.clone();
            twice.insert(key.clone(), 2);
            assert!(!check(&twice), "{key:?}");
            let mut lost = whole.clone();
            lost.remove(key);
            assert!(!check(&lost), "{key:?}");
        }
        let refused = Attempt { proper: false, ..attempt.clone() };
        assert!(refused.check(&whole, &mut Tally::default()).is_err());
        assert!(!check(&BTreeMap::new()));
    }
}
