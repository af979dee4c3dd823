//! Many sessions on the same mailboxes, doing anything at all: each client, which believes only what it is
//! told, ends up knowing exactly what is there. From seeds, and with threads.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

use std::collections::BTreeMap;
use std::sync::Arc;

use imap::{SaslAnswer, Session, Settings, Step, Views};
use store::memory::MemoryStore;
use store::{
    AccountId, Keyword, MailboxName, NewAccount, Owner, Quota, Role, Store, SystemFlags, Timestamp,
    UidSet,
};

const MAILBOXES: [&str; 2] = ["INBOX", "Archivio"];
const FLAGS: [&str; 6] = ["\\Seen", "\\Deleted", "\\Flagged", "\\Answered", "$Uno", "Due"];
/// Messages in a mailbox beyond which nothing is added: enough to number, few enough to compare.
const MESSAGES_MAX: usize = 60;

fn now() -> Timestamp {
    "2026-03-02T08:00:00Z".parse().unwrap()
}

/// SplitMix64: what it gives is decided by its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % end as u64) as usize
    }

    fn of<'s>(&mut self, all: &[&'s str]) -> &'s str {
        all[self.below(all.len())]
    }
}

struct World {
    store: Arc<MemoryStore>,
    account: AccountId,
    settings: Arc<Settings>,
}

impl World {
    fn new() -> Self {
        let store = Arc::new(MemoryStore::new());
        let account = NewAccount {
            address: mail::Address::parse("anna@pec.example").unwrap(),
            user_id: None,
            owner: Owner::Holder,
            role: Role::None,
            credentials: None,
            quota: Quota { octets_max: 1 << 30, messages_max: None, receipt_reserve_octets: 0 },
            ordinary_mail: None,
        };
        let account = store.add_account(account, now()).unwrap();
        let settings = Settings {
            host: "imap.pec.example".to_owned(),
            version: "0.1.0".to_owned(),
            append_octets_max: 1 << 20,
            channel_binding: false,
            background: true,
            saved_messages_max: imap::limits::SAVED_MESSAGES_MAX,
            command_messages_max: imap::limits::COMMAND_MESSAGES_MAX,
            unauthenticate: true,
            views: Views::of(&*store),
            zone: jiff::tz::TimeZone::UTC,
        };
        Self { store, account, settings: Arc::new(settings) }
    }

    /// What is there: UIDs and flags, in their order.
    fn truth(&self, mailbox: &str) -> Vec<(u32, String)> {
        let name = MailboxName::parse(mailbox).unwrap();
        let mailbox = self.store.mailbox(self.account, &name).unwrap().id;
        let all = self.store.summaries(mailbox, &UidSet::all(), usize::MAX).unwrap();
        let shown = |flags: &store::Flags| {
            let system = [
                (SystemFlags::ANSWERED, "\\Answered"),
                (SystemFlags::FLAGGED, "\\Flagged"),
                (SystemFlags::DELETED, "\\Deleted"),
                (SystemFlags::SEEN, "\\Seen"),
            ];
            let system = system.iter().filter(|(flag, _)| flags.system.contains(*flag));
            let words = system.map(|(_, name)| *name);
            words.chain(flags.keywords.iter().map(Keyword::as_str)).collect::<Vec<_>>().join(" ")
        };
        all.iter().map(|message| (message.uid.0.get(), shown(&message.flags))).collect()
    }
}

/// A client that believes what it is told.
struct Client {
    session: Session,
    mailbox: &'static str,
    /// What it knows of each message: UID, flags and mod-sequence, once told.
    known: Vec<Option<(u32, String, u64)>>,
    idles: bool,
    commands: u32,
}

impl Client {
    fn new(world: &World, mailbox: &'static str) -> Self {
        let mut session = Session::new(Arc::clone(&world.settings), true);
        session.handle_octets(b"a LOGIN anna x\r\nb ENABLE CONDSTORE\r\n");
        while let Some(step) = session.poll() {
            if matches!(step, Step::Sasl(_)) {
                session.authenticated(SaslAnswer::Success { account: world.account, data: None });
            }
        }
        let mut client = Self { session, mailbox, known: Vec::new(), idles: false, commands: 0 };
        client.select(world, mailbox);
        client
    }

    fn select(&mut self, world: &World, mailbox: &'static str) {
        self.mailbox = mailbox;
        self.known.clear();
        self.command(world, &format!("SELECT {mailbox}"), true);
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

    /// Has a command carried out; `renumbers` says whether messages may be renumbered meanwhile.
    fn command(&mut self, world: &World, command: &str, renumbers: bool) -> String {
        assert!(!self.idles);
        self.commands += 1;
        let tag = format!("c{}", self.commands);
        self.session.handle_octets(format!("{tag} {command}\r\n").as_bytes());
        let answer = self.drain(world);
        assert!(renumbers || !answer.contains(" EXPUNGE\r\n"), "{command}: {answer}");
        let last = answer.lines().last().unwrap_or_default();
        assert!(last.starts_with(&format!("{tag} ")), "{command}: {answer}");
        assert!(!last.contains(" BAD "), "{command}: {answer}");
        self.believe(&answer);
        answer
    }

    fn believe(&mut self, answer: &str) {
        for line in answer.lines() {
            let words: Vec<&str> = line.splitn(4, ' ').collect();
            match words[..] {
                ["*", number, "EXISTS"] => {
                    let number: usize = number.parse().unwrap();
                    assert!(number >= self.known.len(), "{line}, {} known", self.known.len());
                    self.known.resize(number, None);
                }
                ["*", number, "EXPUNGE"] => {
                    let number: usize = number.parse().unwrap();
                    assert!((1..=self.known.len()).contains(&number), "{line}");
                    self.known.remove(number - 1);
                }
                ["*", number, "FETCH", rest] => {
                    let number: usize = number.parse().unwrap();
                    assert!((1..=self.known.len()).contains(&number), "{line}");
                    self.believe_flags(number - 1, rest);
                }
                _ => {}
            }
        }
    }

    fn believe_flags(&mut self, place: usize, rest: &str) {
        let between =
            |start: &str, end: &str| Some(rest.split_once(start)?.1.split_once(end)?.0.to_owned());
        let uid: u32 = between("UID ", " ").unwrap().parse().unwrap();
        let mod_seq: u64 = between("MODSEQ (", ")").unwrap().parse().unwrap();
        let known = self.known[place].take();
        if let Some((known_uid, _, known_seq)) = &known {
            assert_eq!(*known_uid, uid, "{rest}");
            assert!(mod_seq >= *known_seq, "{rest}: {known_seq} was told before");
        }
        // A silent STORE tells the mod-sequence alone.
        let flags = match between("FLAGS (", ")") {
            Some(flags) => flags.replace("\\Recent ", "").replace("\\Recent", "").trim().to_owned(),
            None => return self.known[place] = None,
        };
        self.known[place] = Some((uid, flags, mod_seq));
    }

    /// Learns what it was not told yet, and compares it with what is there.
    fn compare(&mut self, world: &World) {
        self.stop_idling(world);
        self.command(world, "NOOP", true);
        let unknown = |known: &[Option<_>]| known.iter().position(Option::is_none);
        if unknown(&self.known).is_some() {
            self.command(world, "FETCH 1:* (UID FLAGS MODSEQ)", false);
        }
        let known: Vec<(u32, String)> =
            self.known.iter().flatten().map(|(uid, flags, _)| (*uid, flags.clone())).collect();
        assert_eq!(known, world.truth(self.mailbox), "{}", self.mailbox);
    }

    fn stop_idling(&mut self, world: &World) {
        if std::mem::take(&mut self.idles) {
            self.session.handle_octets(b"DONE\r\n");
            let answer = self.drain(world);
            self.believe(&answer);
        }
    }

    /// Does something.
    fn act(&mut self, world: &World, random: &mut Random) {
        if self.idles {
            if random.below(3) > 0 {
                self.session.handle_changed();
                let told = self.drain(world);
                return self.believe(&told);
            }
            self.stop_idling(world);
        }
        let other = MAILBOXES[usize::from(self.mailbox == MAILBOXES[0])];
        let count = self.known.len();
        if count == 0 || random.below(12) == 0 {
            return match random.below(4) {
                0 => self.select(world, random_mailbox(random)),
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
        let uid = self.known[from - 1].as_ref().map_or(from as u32, |known| known.0);
        let (flag, sign) = (random.of(&FLAGS), random.of(&["+", "-", ""]));
        let silent = random.of(&["", ".SILENT"]);
        match random.below(14) {
            0..=3 => {
                let store = format!("STORE {from}:{to} {sign}FLAGS{silent} ({flag})");
                self.command(world, &store, false);
            }
            4 | 5 => {
                let store = format!("UID STORE {uid},{} {sign}FLAGS{silent} ({flag})", uid + 3);
                self.command(world, &store, true);
            }
            6 => drop(self.command(world, &format!("FETCH {from}:{to} (UID FLAGS MODSEQ)"), false)),
            7 => drop(self.command(world, "EXPUNGE", true)),
            8 => drop(self.command(world, &format!("UID EXPUNGE {uid}:{}", uid + 5), true)),
            9 if count < MESSAGES_MAX => {
                let copy = format!("COPY {from} {}", random.of(&MAILBOXES));
                self.command(world, &copy, true);
            }
            10 => drop(self.command(world, &format!("MOVE {from} {other}"), true)),
            11 => {
                let answer = self.command(world, &format!("SEARCH {from}:{to}"), false);
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

fn random_mailbox(random: &mut Random) -> &'static str {
    MAILBOXES[random.below(MAILBOXES.len())]
}

#[test]
fn every_client_knows_what_is_there_from_seeds() {
    let mut acts: BTreeMap<u64, usize> = BTreeMap::new();
    for seed in 0..12 {
        let world = World::new();
        let mut random = Random(seed);
        let sessions = [2, 5, 40][seed as usize % 3];
        let mut clients: Vec<Client> =
            (0..sessions).map(|at| Client::new(&world, MAILBOXES[at % 2])).collect();
        for step in 0..1_500 {
            let at = random.below(clients.len());
            clients[at].act(&world, &mut random);
            if step % 250 == 249 {
                clients.iter_mut().for_each(|client| client.compare(&world));
            }
        }
        clients.iter_mut().for_each(|client| client.compare(&world));
        acts.insert(seed, clients.iter().map(|client| client.commands as usize).sum());
    }
    // Seeds on which nothing happens would show nothing.
    assert!(acts.values().all(|commands| *commands > 900), "{acts:?}");
}

#[test]
fn every_client_knows_what_is_there_with_threads() {
    for seed in 0..3 {
        let world = World::new();
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8_u64)
                .map(|thread| {
                    let world = &world;
                    scope.spawn(move || {
                        let mut random = Random(seed << 8 | thread);
                        let mut clients: Vec<Client> =
                            (0..12).map(|at| Client::new(world, MAILBOXES[at % 2])).collect();
                        for _ in 0..400 {
                            let at = random.below(clients.len());
                            clients[at].act(world, &mut random);
                        }
                        clients
                    })
                })
                .collect();
            let clients: Vec<Vec<Client>> =
                threads.into_iter().map(|thread| thread.join().unwrap()).collect();
            clients.into_iter().flatten().for_each(|mut client| client.compare(&world));
        });
    }
}
