//! Many sessions on the same mailboxes, doing anything at all: each client, which believes only what it is
//! told, ends up knowing exactly what is there, however it hears of it. From seeds, and with threads.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

#[path = "views/client.rs"]
mod client;

use std::collections::BTreeMap;
use std::sync::Arc;

use client::{Client, Kind};
use imap::{Settings, Views};
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

    /// What STATUS would say.
    fn status(&self, mailbox: &str) -> BTreeMap<&'static str, u64> {
        let name = MailboxName::parse(mailbox).unwrap();
        let mailbox = self.store.mailbox(self.account, &name).unwrap().id;
        let status = self.store.status(mailbox).unwrap();
        BTreeMap::from([
            ("MESSAGES", status.messages),
            ("UIDNEXT", status.uid_next.0.get().into()),
            ("UNSEEN", status.unseen),
            // One above the store's: that of a mailbox in which nothing ever happened is not zero.
            ("HIGHESTMODSEQ", status.mod_seq.0 + 1),
        ])
    }
}

fn random_mailbox(random: &mut Random) -> &'static str {
    MAILBOXES[random.below(MAILBOXES.len())]
}

#[test]
fn every_client_knows_what_is_there_from_seeds() {
    let mut acts: BTreeMap<u64, usize> = BTreeMap::new();
    let mut returned = 0;
    for seed in 0..12 {
        let world = World::new();
        let mut random = Random(seed);
        let sessions = [2, 5, 40][seed as usize % 3];
        let mut clients: Vec<Client> = (0..sessions)
            .map(|at| {
                Client::new(&world, Kind::ALL[(at + seed as usize) % 6], MAILBOXES[at / 6 % 2])
            })
            .collect();
        for step in 0..1_500 {
            let at = random.below(clients.len());
            clients[at].act(&world, &mut random);
            if step % 250 == 249 {
                clients.iter_mut().for_each(|client| client.compare(&world));
            }
        }
        clients.iter_mut().for_each(|client| client.compare(&world));
        returned += clients.iter().map(|client| client.returned).sum::<u32>();
        acts.insert(seed, clients.iter().map(|client| client.commands as usize).sum());
    }
    // Seeds on which nothing happens would show nothing.
    assert!(acts.values().all(|commands| *commands > 900), "{acts:?}");
    assert!(returned > 50, "only {returned} times a client came back with what it knew");
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
                        let client =
                            |at: usize| Client::new(world, Kind::ALL[at % 6], MAILBOXES[at / 6]);
                        let mut clients: Vec<Client> = (0..12).map(client).collect();
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
