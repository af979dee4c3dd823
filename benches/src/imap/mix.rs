//! What a house full of clients does, all at once: many sessions, several on each mailbox, each with commands by chance.

use std::time::{Duration, Instant};

use anyhow::ensure;
use scenarios::load::Random;

use super::Bench;
use super::client::{Answer, Client};
use super::corpus;
use super::figures::{Better, Figures, millis, percentile, rate, tell};
use super::party::{Door, Party};

const SESSIONS: usize = 32;
const USERS: usize = 8;
/// Messages of each mailbox at the beginning.
const MESSAGES: usize = 200;
/// Messages that a list shows at once.
const PAGE: usize = 20;

pub(super) fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let steps = bench.size(40, 250);
    let empty: Figures = bench.parties.iter().map(|party| (party.kind, Vec::new())).collect();
    let (mut rates, mut slow, mut middle) = (empty.clone(), empty.clone(), empty);
    for round in 0..bench.rounds {
        for (at, party) in bench.parties.iter_mut().enumerate() {
            let (times, took) = together(party, round, steps)?;
            rates[at].1.push(rate(times.len(), took));
            slow[at].1.extend(percentile(&times, 99));
            middle[at].1.extend(percentile(&times, 50));
        }
    }
    let what = format!("mix, {SESSIONS} sessions");
    tell(&what, "commands a second", Better::More, &rates);
    tell(&format!("{what}, median of a command"), "ms", Better::Less, &middle);
    tell(&format!("{what}, p99 of a command"), "ms", Better::Less, &slow);
    Ok(())
}

/// How long each command took, and all.
fn together(party: &mut Party, round: usize, steps: usize) -> anyhow::Result<(Vec<f64>, Duration)> {
    let texts: Vec<Vec<u8>> = (0..MESSAGES).map(corpus::message).collect();
    for number in 0..USERS {
        party.fill(number, "misto", &texts)?;
        party.fill(number, "copie", &[])?;
    }
    let door = party.door()?;
    let sessions = (0..SESSIONS).map(|number| {
        let random = Random::new((round * SESSIONS + number) as u64);
        Session::new(&door, number % USERS, random)
    });
    let mut sessions = sessions.collect::<anyhow::Result<Vec<_>>>()?;
    let began = Instant::now();
    std::thread::scope(|scope| {
        let work = |session: &mut Session| (0..steps).try_for_each(|_| session.step());
        let threads: Vec<_> =
            sessions.iter_mut().map(|session| scope.spawn(move || work(session))).collect();
        threads.into_iter().try_for_each(|thread| {
            thread.join().map_err(|_| anyhow::anyhow!("a client panicked"))?
        })
    })?;
    let took = began.elapsed();
    let refused: usize = sessions.iter().map(|session| session.refused).sum();
    let times: Vec<f64> = sessions.into_iter().flat_map(|session| session.times).collect();
    // What another session has expunged may be asked for, and refused.
    ensure!(refused * 20 < times.len(), "{refused} of {} commands were refused", times.len());
    Ok((times, took))
}

/// One client.
struct Session {
    door: Door,
    user: usize,
    client: Client,
    random: Random,
    /// UIDs as last heard of.
    uids: Vec<u32>,
    times: Vec<f64>,
    refused: usize,
    serial: usize,
}

impl Session {
    fn new(door: &Door, user: usize, random: Random) -> anyhow::Result<Self> {
        let client = door.enter(user)?;
        let (door, uids, times) = (door.clone(), Vec::new(), Vec::new());
        let mut session = Self { door, user, client, random, uids, times, refused: 0, serial: 0 };
        session.open()?;
        session.times.clear();
        Ok(session)
    }

    fn step(&mut self) -> anyhow::Result<()> {
        match self.random.below(100) {
            0..2 => self.sign_in(),
            2..8 => self.open(),
            8..38 => {
                let page = self.some(PAGE);
                self.ask(&format!("UID FETCH {page} (FLAGS RFC822.SIZE ENVELOPE BODYSTRUCTURE)"))
            }
            38..50 => {
                let one = self.some(1);
                self.ask(&format!("UID FETCH {one} (BODY.PEEK[])"))
            }
            50..55 => {
                let one = self.some(1);
                self.ask(&format!("UID FETCH {one} (BODY.PEEK[HEADER] BODY.PEEK[1])"))
            }
            55..67 => {
                let one = self.some(1);
                let flag = ["\\Seen", "\\Flagged", "\\Answered"][self.random.below(3)];
                let sign = ["+", "-"][self.random.below(2)];
                self.ask(&format!("UID STORE {one} {sign}FLAGS ({flag})"))
            }
            67..75 => self.append(),
            75..80 => {
                let some = self.some(3);
                self.ask(&format!("UID COPY {some} copie"))
            }
            80..84 => {
                let some = self.some(2);
                self.ask(&format!("UID STORE {some} +FLAGS.SILENT (\\Deleted)"))?;
                self.ask("EXPUNGE")
            }
            84..90 => {
                let key = ["UNSEEN", "FLAGGED", "SUBJECT fattura", "SINCE 20-Sep-2026 UNSEEN"];
                let key = key[self.random.below(key.len())];
                self.ask(&format!("UID SEARCH {key}"))
            }
            90..95 => self.ask("STATUS copie (MESSAGES UNSEEN UIDNEXT)"),
            _ => {
                let began = Instant::now();
                self.client.idle()?;
                self.client.done()?;
                self.times.push(millis(began.elapsed()));
                Ok(())
            }
        }
    }

    /// Comes anew.
    fn sign_in(&mut self) -> anyhow::Result<()> {
        let began = Instant::now();
        self.client = self.door.enter(self.user)?;
        self.times.push(millis(began.elapsed()));
        self.open()
    }

    fn open(&mut self) -> anyhow::Result<()> {
        self.ask("SELECT misto")?;
        let began = Instant::now();
        let found = self.client.text("UID SEARCH ALL")?;
        self.times.push(millis(began.elapsed()));
        let found =
            found.lines().find_map(|line| line.strip_prefix("* SEARCH")).unwrap_or_default();
        self.uids = found.split_whitespace().filter_map(|uid| uid.parse().ok()).collect();
        ensure!(!self.uids.is_empty(), "nothing is left");
        Ok(())
    }

    /// So many messages that follow each other.
    fn some(&mut self, count: usize) -> String {
        let first = self.random.below(self.uids.len());
        let last = (first + count - 1).min(self.uids.len() - 1);
        format!("{}:{}", self.uids[first], self.uids[last])
    }

    fn append(&mut self) -> anyhow::Result<()> {
        self.serial += 1;
        let text = corpus::message(1_000_000 + self.user * 10_000 + self.serial);
        let began = Instant::now();
        self.client.with_literals(&[("APPEND misto (\\Seen)", &text)])?;
        self.times.push(millis(began.elapsed()));
        Ok(())
    }

    fn ask(&mut self, command: &str) -> anyhow::Result<()> {
        let began = Instant::now();
        let Answer { ok, .. } = self.client.any(command)?;
        self.times.push(millis(began.elapsed()));
        self.refused += usize::from(!ok);
        Ok(())
    }
}
