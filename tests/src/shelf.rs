//! What one client keeps in two mailboxes of its own by APPEND, COPY, MOVE and EXPUNGE, and the
//! proof that what was acknowledged is so, that what was not has happened at most once, and that the
//! numbers of the mailboxes hold.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, bail, ensure};

use crate::load::{Ends, Random};
use crate::{Demo, Imap};

/// Where messages are appended.
const DRAFTS: &str = "Bozze";
/// Where they are copied and moved to.
const ARCHIVE: &str = "Archivio";
/// Messages that are kept at most, so that listing them stays short.
const KEPT: usize = 40;

/// What the client knows of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// Acknowledged to be there.
    There,
    /// To be removed, and no answer came.
    InDoubt,
    /// Acknowledged to be gone.
    Gone,
}

/// An account's two mailboxes, as its one client knows them.
pub struct Shelf {
    account: String,
    /// By mailbox and UID: the subject, and what is known.
    messages: BTreeMap<(&'static str, u32), (String, Known)>,
    /// Messages that may have come, since no answer did: mailbox and subject.
    may_have_come: Vec<(&'static str, String)>,
    /// UIDs of drafts that were being moved, with their subjects.
    may_have_moved: Vec<(u32, String)>,
    /// UIDVALIDITY and UIDNEXT as they were last seen.
    numbers: HashMap<String, (u32, u32)>,
    serial: usize,
}

impl Shelf {
    /// Of an account whose mailboxes are empty.
    #[must_use]
    pub fn new(account: &str) -> Self {
        Self {
            account: account.to_owned(),
            messages: BTreeMap::new(),
            may_have_come: Vec::new(),
            may_have_moved: Vec::new(),
            numbers: HashMap::new(),
            serial: 0,
        }
    }

    /// Whose.
    #[must_use]
    pub fn account(&self) -> &str {
        &self.account
    }

    /// How many messages were acknowledged to come.
    #[must_use]
    pub fn acknowledgements(&self) -> usize {
        self.messages.len()
    }

    /// Works until it is over.
    ///
    /// # Errors
    ///
    /// When the connection ends or a command is refused.
    pub fn work(&mut self, demo: &Demo, random: &mut Random, ends: &Ends) -> anyhow::Result<()> {
        let mut imap = demo.imap_as(&self.account)?;
        self.look_at_numbers(&mut imap)?;
        imap.ok(&format!("SELECT {DRAFTS}"))?;
        while !ends.is_over() {
            self.append(&mut imap, random)?;
            let there = self
                .messages
                .iter()
                .filter(|((mailbox, _), (_, known))| *mailbox == DRAFTS && *known == Known::There);
            let there: Vec<(u32, String)> =
                there.map(|((_, uid), (subject, _))| (*uid, subject.clone())).collect();
            let Some((uid, subject)) = there.get(random.below(there.len())).cloned() else {
                continue;
            };
            match random.below(4) {
                0 => self.copy(&mut imap, uid, subject)?,
                1 => self.transfer(&mut imap, uid, subject)?,
                2 => self.expunge(&mut imap, uid)?,
                _ if there.len() > KEPT => self.expunge(&mut imap, uid)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn append(&mut self, imap: &mut Imap, random: &mut Random) -> anyhow::Result<()> {
        self.serial += 1;
        let subject = format!("segno-{}", self.serial);
        let body = "bozza\r\n".repeat(1 + random.below(200));
        let message = format!("Subject: {subject}\r\n\r\n{body}");
        self.may_have_come.push((DRAFTS, subject));
        let command = format!("APPEND {DRAFTS} {{{}+}}\r\n{message}", message.len());
        let tagged = imap.ok(&command)?.tagged;
        let uid = code_numbers(&tagged, "APPENDUID")?.first().copied().context("no UID")?;
        self.came(DRAFTS, uid)
    }

    fn copy(&mut self, imap: &mut Imap, uid: u32, subject: String) -> anyhow::Result<()> {
        self.may_have_come.push((ARCHIVE, subject));
        let tagged = imap.ok(&format!("UID COPY {uid} {ARCHIVE}"))?.tagged;
        let [was, is] = code_numbers(&tagged, "COPYUID")?[..] else { bail!("{tagged}") };
        ensure!(was == uid, "{tagged}");
        self.came(ARCHIVE, is)
    }

    fn transfer(&mut self, imap: &mut Imap, uid: u32, subject: String) -> anyhow::Result<()> {
        self.know(uid, Known::InDoubt);
        self.may_have_moved.push((uid, subject.clone()));
        let replies = imap.ok(&format!("UID MOVE {uid} {ARCHIVE}"))?;
        let told = replies.untagged.iter().map(|line| String::from_utf8_lossy(line).into_owned());
        let told = told.chain([replies.tagged.clone()]).find(|line| line.contains("[COPYUID "));
        let told = told.context("no COPYUID")?;
        let [was, is] = code_numbers(&told, "COPYUID")?[..] else { bail!("{told}") };
        ensure!(was == uid, "{told}");
        self.may_have_moved.pop();
        self.know(uid, Known::Gone);
        self.may_have_come.push((ARCHIVE, subject));
        self.came(ARCHIVE, is)
    }

    fn expunge(&mut self, imap: &mut Imap, uid: u32) -> anyhow::Result<()> {
        imap.ok(&format!("UID STORE {uid} +FLAGS.SILENT (\\Deleted)"))?;
        self.know(uid, Known::InDoubt);
        imap.ok(&format!("UID EXPUNGE {uid}"))?;
        self.know(uid, Known::Gone);
        Ok(())
    }

    fn know(&mut self, uid: u32, known: Known) {
        if let Some((_, now)) = self.messages.get_mut(&(DRAFTS, uid)) {
            *now = known;
        }
    }

    /// The last that may have come has: under a UID above all before.
    fn came(&mut self, mailbox: &'static str, uid: u32) -> anyhow::Result<()> {
        let last = self.messages.keys().filter(|(name, _)| *name == mailbox).map(|(_, uid)| *uid);
        let last = last.max().unwrap_or_default();
        ensure!(uid > last, "{mailbox} of {}: UID {uid} after {last}", self.account);
        let (_, subject) = self.may_have_come.pop().context("nothing was to come")?;
        self.messages.insert((mailbox, uid), (subject, Known::There));
        Ok(())
    }

    /// UIDVALIDITY stays, UIDNEXT never goes back.
    fn look_at_numbers(&mut self, imap: &mut Imap) -> anyhow::Result<()> {
        for mailbox in ["INBOX", DRAFTS, ARCHIVE] {
            let now = numbers(imap, mailbox)?;
            let before = self.numbers.insert(mailbox.to_owned(), now).unwrap_or(now);
            ensure!(
                now.0 == before.0 && now.1 >= before.1,
                "{mailbox} of {}: UIDVALIDITY and UIDNEXT were {before:?} and are {now:?}",
                self.account
            );
        }
        Ok(())
    }

    /// Compares what is there with what is known.
    ///
    /// # Errors
    ///
    /// What does not hold.
    pub fn prove(&mut self, demo: &Demo) -> anyhow::Result<()> {
        let mut imap = demo.imap_as(&self.account)?;
        self.look_at_numbers(&mut imap)?;
        let mut found = BTreeMap::new();
        for mailbox in [DRAFTS, ARCHIVE] {
            imap.each_message(mailbox, "BODY.PEEK[HEADER]", &mut |uid, header| {
                let header = String::from_utf8_lossy(header);
                let subject = header.trim().strip_prefix("Subject: ").context("no subject")?;
                found.insert((mailbox, uid), subject.to_owned());
                Ok(())
            })?;
        }
        let account = &self.account;
        for (uid, subject) in &self.may_have_moved {
            let stayed = found.contains_key(&(DRAFTS, *uid));
            let moved = found.iter().filter(|((mailbox, uid), found)| {
                *mailbox == ARCHIVE
                    && *found == subject
                    && !self.messages.contains_key(&(ARCHIVE, *uid))
            });
            let moved = moved.count();
            let copied = self
                .may_have_come
                .iter()
                .filter(|(name, copied)| *name == ARCHIVE && copied == subject);
            // A copy that was not acknowledged looks the same.
            let copied = copied.count();
            let moved = if stayed { moved <= copied } else { (1..=1 + copied).contains(&moved) };
            ensure!(moved, "{account}: the move of {subject} was done by half");
        }
        let mut may_have_come = self.may_have_come.clone();
        may_have_come.extend(self.may_have_moved.iter().map(|(_, s)| (ARCHIVE, s.clone())));
        for (place, (subject, known)) in &self.messages {
            match (found.remove(place), known) {
                (Some(is), Known::There | Known::InDoubt) => {
                    ensure!(is == *subject, "{account}: {place:?} was {subject} and is {is}");
                }
                (None, Known::InDoubt | Known::Gone) => {}
                (None, Known::There) => bail!("{account}: {place:?}, {subject}, is lost"),
                (Some(_), Known::Gone) => bail!("{account}: {place:?}, {subject}, is back"),
            }
        }
        for ((mailbox, uid), subject) in found {
            let one =
                may_have_come.iter().position(|(name, may)| *name == mailbox && *may == subject);
            let one = one.with_context(|| {
                format!(
                    "{account}: nobody put {subject} into {mailbox} as {uid}, or it is there twice"
                )
            })?;
            may_have_come.swap_remove(one);
        }
        Ok(())
    }
}

/// UIDVALIDITY and UIDNEXT.
///
/// # Errors
///
/// When STATUS is refused.
pub fn numbers(imap: &mut Imap, mailbox: &str) -> anyhow::Result<(u32, u32)> {
    let replies = imap.ok(&format!("STATUS \"{mailbox}\" (UIDVALIDITY UIDNEXT)"))?;
    let line = replies.untagged.last().context("no STATUS")?;
    let line = String::from_utf8_lossy(line).into_owned();
    let number = |name: &str| -> anyhow::Result<u32> {
        let (_, rest) = line.split_once(&format!("{name} ")).with_context(|| line.clone())?;
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        Ok(digits.parse()?)
    };
    Ok((number("UIDVALIDITY")?, number("UIDNEXT")?))
}

/// The numbers of a response code after its UIDVALIDITY.
fn code_numbers(line: &str, code: &str) -> anyhow::Result<Vec<u32>> {
    let (_, rest) = line.split_once(&format!("[{code} ")).with_context(|| line.to_owned())?;
    let (inner, _) = rest.split_once(']').with_context(|| line.to_owned())?;
    let numbers = inner.split(' ').skip(1).map(|number| Ok(number.parse()?));
    numbers.collect()
}

/// Proves that the quota counts what the mailboxes of an account hold, to the octet and the message.
///
/// # Errors
///
/// When it does not.
pub fn prove_quota(demo: &Demo, imap: &mut Imap, account: &str) -> anyhow::Result<()> {
    let (mut octets, mut messages) = (0, 0);
    let listed = imap.ok("LIST \"\" \"*\"")?;
    for line in listed.untagged {
        let line = String::from_utf8(line)?;
        let name = line.rsplit('"').nth(1).with_context(|| line.clone())?.to_owned();
        imap.ok(&format!("EXAMINE \"{name}\""))?;
        if imap.count(&name)? == 0 {
            continue;
        }
        for size in imap.ok("FETCH 1:* (RFC822.SIZE)")?.untagged {
            let size = String::from_utf8(size)?;
            let Some((_, size)) = size.split_once("RFC822.SIZE ") else { continue };
            octets += size.trim_end_matches(')').parse::<u64>()?;
            messages += 1;
        }
    }
    let quota = imap.ok("GETQUOTAROOT INBOX")?;
    let quota = quota.untagged.last().context("no QUOTA")?;
    let quota = String::from_utf8_lossy(quota).into_owned();
    let told = quota.split("STORAGE ").nth(1).and_then(|rest| rest.split(' ').next());
    let told: u64 = told.with_context(|| quota.clone())?.parse()?;
    ensure!(
        told == octets.div_ceil(1024),
        "{account} holds {octets} octets, and QUOTA says {quota}"
    );
    let shown = crate::process::account(&demo.data, &["show", account, "--json"], "")?;
    let usage = &serde_json::from_str::<serde_json::Value>(&shown)?["usage"];
    ensure!(
        usage["octets"] == octets && usage["messages"] == messages,
        "{account} holds {octets} octets in {messages} messages, and is charged {usage}"
    );
    Ok(())
}
