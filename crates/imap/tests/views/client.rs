//! A client that believes what it is told, and what it asks for.

use std::collections::BTreeMap;
use std::sync::Arc;

use imap::{SaslAnswer, Session, Step};

use super::{FLAGS, MAILBOXES, MESSAGES_MAX, Random, World, now, random_mailbox};

/// How a client hears of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// By numbers, with mod-sequences: RFC 7162 §3.1.
    Condstore,
    /// By UIDs of what vanished; it keeps what it knows of a mailbox and comes back to it: RFC 7162 §3.2.
    Qresync,
    /// It knows no numbers at all: RFC 9586 §3.
    UidOnly,
    /// At once: RFC 5465 §6.1.1.
    Selected,
    /// At once, but for what renumbers: RFC 5465 §6.1.2.
    SelectedDelayed,
    /// At once, and of the other mailbox by its numbers: RFC 5465 §6.5.
    Personal,
}

impl Kind {
    pub(crate) const ALL: [Self; 6] = [
        Self::Condstore,
        Self::Qresync,
        Self::UidOnly,
        Self::Selected,
        Self::SelectedDelayed,
        Self::Personal,
    ];

    fn is_notified(self) -> bool {
        matches!(self, Self::Selected | Self::SelectedDelayed | Self::Personal)
    }

    /// Whether it knows messages by their UIDs alone.
    fn by_uid(self) -> bool {
        matches!(self, Self::Qresync | Self::UidOnly)
    }
}

/// What is known of a message: no UID, when EXISTS alone told of it; no flags, when it set them itself.
#[derive(Debug, Clone, Default)]
struct Known {
    uid: Option<u32>,
    flags: Option<String>,
    mod_seq: u64,
}

/// What a client with QRESYNC knew of a mailbox when it left.
type Memory = (String, u64, BTreeMap<u32, Known>);

pub(crate) struct Client {
    kind: Kind,
    session: Session,
    mailbox: &'static str,
    /// By number.
    known: Vec<Known>,
    /// By UID, and how many there are.
    by_uid: BTreeMap<u32, Known>,
    count: usize,
    uid_validity: String,
    /// Up to where all is known.
    highest: u64,
    memories: BTreeMap<&'static str, Memory>,
    /// What STATUS told of the other mailbox.
    other: BTreeMap<String, u64>,
    idles: bool,
    pub(crate) commands: u32,
    /// How often it came back to a mailbox that it knew.
    pub(crate) returned: u32,
}

impl Client {
    pub(crate) fn new(world: &World, kind: Kind, mailbox: &'static str) -> Self {
        let mut session = Session::new(Arc::clone(&world.settings), true);
        session.handle_octets(b"a LOGIN anna x\r\nb ENABLE CONDSTORE\r\n");
        while let Some(step) = session.poll() {
            if matches!(step, Step::Sasl(_)) {
                session.authenticated(SaslAnswer::Success { account: world.account, data: None });
            }
        }
        let mut client = Self {
            kind,
            session,
            mailbox,
            known: Vec::new(),
            by_uid: BTreeMap::new(),
            count: 0,
            uid_validity: String::new(),
            highest: 0,
            memories: BTreeMap::new(),
            other: BTreeMap::new(),
            idles: false,
            commands: 0,
            returned: 0,
        };
        let new = "MessageNew (UID FLAGS MODSEQ) MessageExpunge FlagChange";
        let asks = match kind {
            Kind::Condstore => None,
            Kind::Qresync => Some("ENABLE QRESYNC".to_owned()),
            Kind::UidOnly => Some("ENABLE UIDONLY".to_owned()),
            Kind::Selected => Some(format!("NOTIFY SET (SELECTED ({new}))")),
            Kind::SelectedDelayed => Some(format!("NOTIFY SET (SELECTED-DELAYED ({new}))")),
            Kind::Personal => Some(format!(
                "NOTIFY SET (SELECTED ({new})) (PERSONAL (MessageNew MessageExpunge FlagChange))"
            )),
        };
        if let Some(asks) = asks {
            client.command(world, &asks, true);
        }
        client.select(world, mailbox, false);
        client
    }

    /// Opens a mailbox; with what it knew of it when it left, when that is to be used.
    fn select(&mut self, world: &World, mailbox: &'static str, resumes: bool) {
        if self.kind == Kind::Qresync && !self.uid_validity.is_empty() {
            let memory =
                (self.uid_validity.clone(), self.highest, std::mem::take(&mut self.by_uid));
            self.memories.insert(self.mailbox, memory);
        }
        self.mailbox = mailbox;
        self.known.clear();
        self.by_uid.clear();
        self.count = 0;
        self.highest = 0;
        let mut select = format!("SELECT {mailbox}");
        if let Some((uid_validity, highest, known)) =
            self.memories.remove(mailbox).filter(|_| resumes)
        {
            self.returned += 1;
            select += &format!(" (QRESYNC ({uid_validity} {highest}");
            if highest % 2 == 0 && !known.is_empty() {
                let uids: Vec<String> = known.keys().map(u32::to_string).collect();
                select += &format!(" {}", uids.join(","));
            }
            select += "))";
            self.by_uid = known;
        }
        let answer = self.command(world, &select, true);
        let (_, validity) = answer.split_once("[UIDVALIDITY ").unwrap();
        self.uid_validity = validity.split_once(']').unwrap().0.to_owned();
        if self.kind == Kind::Personal {
            self.other.clear();
            let items = "MESSAGES UIDNEXT UNSEEN HIGHESTMODSEQ";
            self.command(world, &format!("STATUS {} ({items})", self.other_mailbox()), true);
        }
    }

    fn other_mailbox(&self) -> &'static str {
        MAILBOXES[usize::from(self.mailbox == MAILBOXES[0])]
    }

    fn len(&self) -> usize {
        if self.kind.by_uid() { self.count } else { self.known.len() }
    }

    /// What the session does until it waits for its client.
    fn drain(&mut self, world: &World) -> String {
        let mut sent = Vec::new();
        while let Some(step) = self.session.poll() {
            match step {
                Step::Send(octets) => sent.extend(octets),
                Step::Perform(job) => {
                    let answer = job.run(&*world.store, now());
                    self.session.finish(answer);
                }
                other => panic!("{other:?}"),
            }
        }
        String::from_utf8(sent).unwrap()
    }

    /// Hears that something may have changed.
    fn hear(&mut self, world: &World) {
        if self.kind.is_notified() {
            self.session.handle_notified();
            let told = self.drain(world);
            self.believe(&told);
        }
        self.session.handle_changed();
        let told = self.drain(world);
        let delayed = self.kind == Kind::SelectedDelayed && !self.idles;
        assert!(!delayed || !told.contains(" EXPUNGE\r\n"), "{told}");
        self.believe(&told);
    }

    /// Has a command carried out; `renumbers` says whether messages may be renumbered meanwhile.
    fn command(&mut self, world: &World, command: &str, renumbers: bool) -> String {
        assert!(!self.idles);
        self.commands += 1;
        let tag = format!("c{}", self.commands);
        self.session.handle_octets(format!("{tag} {command}\r\n").as_bytes());
        let answer = self.drain(world);
        // What NOTIFY has to tell may follow at once.
        let (before, end) = answer.split_once(&format!("{tag} ")).expect(&answer);
        let renumbered = before.contains(" EXPUNGE\r\n") || before.contains("* VANISHED ");
        assert!(renumbers || !renumbered, "{command}: {answer}");
        assert!(!end.starts_with("BAD "), "{command}: {answer}");
        self.believe(&answer);
        answer
    }

    fn believe(&mut self, answer: &str) {
        for line in answer.lines() {
            let words: Vec<&str> = line.splitn(4, ' ').collect();
            match words[..] {
                ["*", number, "EXISTS"] => {
                    let number: usize = number.parse().unwrap();
                    assert!(number >= self.len(), "{line}, {} known", self.len());
                    self.count = number;
                    self.known.resize(number, Known::default());
                }
                ["*", number, "EXPUNGE"] => {
                    let number: usize = number.parse().unwrap();
                    assert!(!self.kind.by_uid(), "{line}");
                    assert!((1..=self.known.len()).contains(&number), "{line}");
                    self.known.remove(number - 1);
                }
                ["*", number, "FETCH", rest] => {
                    let number: usize = number.parse().unwrap();
                    assert!(self.kind != Kind::UidOnly, "{line}");
                    assert!((1..=self.len()).contains(&number), "{line}");
                    self.believe_flags(number - 1, None, rest);
                }
                ["*", uid, "UIDFETCH", rest] => {
                    assert!(self.kind == Kind::UidOnly, "{line}");
                    self.believe_flags(0, Some(uid.parse().unwrap()), rest);
                }
                ["*", "VANISHED", "(EARLIER)", uids] => {
                    let gone = numbers(uids);
                    self.by_uid.retain(|uid, _| !gone.contains(uid));
                }
                ["*", "VANISHED", uids] => {
                    let gone = numbers(uids);
                    assert!(self.kind.by_uid(), "{line}");
                    self.by_uid.retain(|uid, _| !gone.contains(uid));
                    self.count = self.count.checked_sub(gone.len()).expect(line);
                }
                ["*", "STATUS", name, items] if self.kind == Kind::Personal => {
                    assert_eq!(name, format!("\"{}\"", self.other_mailbox()), "{line}");
                    let items = items.trim_matches(['(', ')']).split(' ').collect::<Vec<_>>();
                    for item in items.chunks(2) {
                        self.other.insert(item[0].to_owned(), item[1].parse().unwrap());
                    }
                }
                [_, "OK", "[HIGHESTMODSEQ", rest] => {
                    self.highest = rest.split_once(']').unwrap().0.parse().unwrap();
                }
                _ => {}
            }
        }
    }

    fn believe_flags(&mut self, place: usize, uid: Option<u32>, rest: &str) {
        let between =
            |start: &str, end: &str| Some(rest.split_once(start)?.1.split_once(end)?.0.to_owned());
        let uid = uid.unwrap_or_else(|| between("UID ", " ").unwrap().parse().unwrap());
        let mod_seq: u64 = between("MODSEQ (", ")").unwrap().parse().unwrap();
        self.highest = self.highest.max(mod_seq);
        // A silent STORE tells the mod-sequence alone.
        let flags = between("FLAGS (", ")")
            .map(|flags| flags.replace("\\Recent ", "").replace("\\Recent", "").trim().to_owned());
        let known = match self.kind.by_uid() {
            true => self.by_uid.entry(uid).or_default(),
            false => &mut self.known[place],
        };
        assert!(known.uid.is_none_or(|known| known == uid), "{rest}");
        assert!(mod_seq >= known.mod_seq, "{rest}: {} was told before", known.mod_seq);
        *known = Known { uid: Some(uid), flags, mod_seq };
    }

    fn known(&self) -> Vec<&Known> {
        if self.kind.by_uid() {
            self.by_uid.values().collect()
        } else {
            self.known.iter().collect()
        }
    }

    /// Learns what it was not told yet, and compares it with what is there.
    pub(crate) fn compare(&mut self, world: &World) {
        self.stop_idling(world);
        self.hear(world);
        self.command(world, "NOOP", true);
        let all = self.known();
        if all.len() < self.len() || all.iter().any(|known| known.flags.is_none()) {
            match self.kind {
                Kind::UidOnly => self.command(world, "UID FETCH 1:* (FLAGS MODSEQ)", true),
                _ => self.command(world, "FETCH 1:* (UID FLAGS MODSEQ)", false),
            };
        }
        let known: Vec<(u32, String)> = self
            .known()
            .into_iter()
            .map(|known| (known.uid.unwrap(), known.flags.clone().unwrap()))
            .collect();
        let (kind, mailbox) = (self.kind, self.mailbox);
        assert_eq!(known, world.truth(mailbox), "{kind:?} {mailbox}");
        assert_eq!(self.len(), known.len(), "{kind:?} {mailbox}");
        let status = world.status(self.other_mailbox());
        for (item, told) in &self.other {
            let there = match item.as_str() {
                "UIDVALIDITY" => continue,
                item => status[item],
            };
            assert_eq!(*told, there, "{item} of {}", self.other_mailbox());
        }
        assert_eq!(self.other.len() >= 4, self.kind == Kind::Personal);
    }

    fn stop_idling(&mut self, world: &World) {
        if std::mem::take(&mut self.idles) {
            self.session.handle_octets(b"DONE\r\n");
            let answer = self.drain(world);
            self.believe(&answer);
        }
    }

    /// Does something.
    pub(crate) fn act(&mut self, world: &World, random: &mut Random) {
        if self.idles {
            if random.below(3) > 0 {
                return self.hear(world);
            }
            self.stop_idling(world);
        }
        if self.kind.is_notified() && random.below(3) > 0 {
            self.hear(world);
        }
        let count = self.len();
        if count == 0 || random.below(12) == 0 {
            return match random.below(4) {
                0 => self.select(world, random_mailbox(random), random.below(4) > 0),
                1 | 2 if count < MESSAGES_MAX => {
                    let flag = random.of(&FLAGS);
                    let mailbox = random.of(&MAILBOXES);
                    let append = format!("APPEND {mailbox} ({flag}) {{12+}}\r\nA: b\r\n\r\nciao");
                    self.command(world, &append, true);
                }
                _ => drop(self.command(world, "NOOP", true)),
            };
        }
        let (from, to) = (random.below(count) + 1, random.below(count) + 1);
        let uid = match self.kind.by_uid() {
            true => self.by_uid.keys().nth(from - 1).copied(),
            false => self.known[from - 1].uid,
        };
        let uid = uid.unwrap_or(from as u32);
        // Who knows no numbers names UIDs throughout.
        let by_uid = self.kind == Kind::UidOnly || random.below(4) == 0;
        let (verb, one, some) = match by_uid {
            true => ("UID ", uid.to_string(), format!("{uid}:{}", uid + 5)),
            false => ("", from.to_string(), format!("{from}:{to}")),
        };
        let (flag, sign) = (random.of(&FLAGS), random.of(&["+", "-", ""]));
        let silent = random.of(&["", ".SILENT"]);
        match random.below(14) {
            0..=3 => {
                let store = format!("{verb}STORE {some} {sign}FLAGS{silent} ({flag})");
                self.command(world, &store, by_uid);
            }
            4 | 5 => {
                let store = format!("UID STORE {uid},{} {sign}FLAGS{silent} ({flag})", uid + 3);
                self.command(world, &store, true);
            }
            6 => {
                let fetch = format!("{verb}FETCH {some} (UID FLAGS MODSEQ)");
                self.command(world, &fetch, by_uid);
            }
            7 => drop(self.command(world, "EXPUNGE", true)),
            8 => drop(self.command(world, &format!("UID EXPUNGE {uid}:{}", uid + 5), true)),
            9 if count < MESSAGES_MAX => {
                let copy = format!("{verb}COPY {one} {}", random.of(&MAILBOXES));
                self.command(world, &copy, true);
            }
            10 => {
                let to = self.other_mailbox();
                self.command(world, &format!("{verb}MOVE {one} {to}"), true);
            }
            11 => {
                let answer = self.command(
                    world,
                    &format!(
                        "{verb}SEARCH {}",
                        match by_uid {
                            true => format!("UID {some}"),
                            false => some,
                        }
                    ),
                    by_uid,
                );
                assert!(answer.contains("* SEARCH"));
            }
            12 => drop(self.command(world, "UID SORT (REVERSE ARRIVAL) UTF-8 ALL", true)),
            _ => {
                self.session.handle_octets(b"i IDLE\r\n");
                self.idles = true;
                let told = self.drain(world);
                self.believe(&told);
            }
        }
    }
}

/// The numbers of a set.
fn numbers(set: &str) -> Vec<u32> {
    let bound = |text: &str| text.parse::<u32>().unwrap();
    let range = |element: &str| match element.split_once(':') {
        Some((from, to)) => bound(from)..=bound(to),
        None => bound(element)..=bound(element),
    };
    set.split(',').flat_map(range).collect()
}
