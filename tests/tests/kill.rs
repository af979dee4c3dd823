//! Durability (RFC 5321 §6.1): the program is killed at random moments under load, again and again
//! on the same data, and in the end every acknowledgement is held to.
//!
//! `CERALACCA_KILL_ROUNDS` says how often (200), `CERALACCA_KILL_SEED` repeats a run's choices, as
//! far as they are ours.

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use scenarios::ledger::{ACCOUNTS, Ledger, Tally};
use scenarios::load::{self, Ends, Random};
use scenarios::process::{SERVICE_MAILBOX, open_service_mailbox};
use scenarios::shelf::{Shelf, numbers, prove_quota};
use scenarios::{Demo, Imap, say, wire};

/// The password that the service mailbox is opened with.
const SERVICE_PASSWORD: &str = "ricevute-di-prova";
/// Who submits at the same time.
const SENDERS: [&str; 6] =
    [ACCOUNTS[0], ACCOUNTS[1], ACCOUNTS[2], ACCOUNTS[3], ACCOUNTS[0], ACCOUNTS[2]];
/// Milliseconds of load before the kill.
const DELAYS: std::ops::Range<usize> = 10..400;
/// How often the signing process is killed.
const SIGNER_ROUNDS: usize = 5;

fn from_environment(name: &str, otherwise: u64) -> anyhow::Result<u64> {
    match std::env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name}={text}")),
        Err(_) => Ok(otherwise),
    }
}

fn seed() -> anyhow::Result<u64> {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
    from_environment("CERALACCA_KILL_SEED", u64::try_from(nanos & 0xffff_ffff)?)
}

/// What is expected in the end.
struct Books {
    ledger: Ledger,
    shelves: Vec<Shelf>,
    /// Of every mailbox that mail comes to, as it was in the beginning.
    validities: Vec<(&'static str, u32)>,
}

impl Books {
    fn open(demo: &Demo) -> anyhow::Result<Self> {
        let validity = |account: &'static str| -> anyhow::Result<(&'static str, u32)> {
            Ok((account, numbers(&mut demo.imap_as(account)?, "INBOX")?.0))
        };
        Ok(Self {
            ledger: Ledger::default(),
            shelves: vec![Shelf::new(ACCOUNTS[1]), Shelf::new(ACCOUNTS[3])],
            validities: ACCOUNTS.into_iter().map(validity).collect::<Result<_, _>>()?,
        })
    }

    /// Lets everybody work while `meanwhile` runs; tells who was told no.
    fn work(
        &mut self,
        demo: &Demo,
        label: &str,
        random: &mut Random,
        meanwhile: impl FnOnce(&Ends) -> anyhow::Result<()>,
    ) -> anyhow::Result<Vec<String>> {
        let ends = Ends::default();
        let (ledger, shelves, ends_here) = (&self.ledger, &mut self.shelves, &ends);
        std::thread::scope(|scope| {
            for (number, sender) in SENDERS.into_iter().enumerate() {
                let (label, mut random) = (format!("{label}.{number}"), random.fork());
                scope.spawn(move || {
                    let ended = load::submit(demo, sender, &label, ledger, &mut random, ends_here);
                    ends_here.end(sender, ended);
                });
            }
            for shelf in shelves {
                let mut random = random.fork();
                scope.spawn(move || {
                    let ended = shelf.work(demo, &mut random, ends_here);
                    ends_here.end(shelf.account(), ended);
                });
            }
            let done = meanwhile(ends_here);
            ends_here.enough();
            done
        })?;
        Ok(ends.told())
    }

    /// Proves all of it on a demo that has settled.
    fn prove(&mut self, demo: &Demo) -> anyhow::Result<Tally> {
        let tally = self.ledger.prove(demo, SERVICE_PASSWORD)?;
        for shelf in &mut self.shelves {
            shelf.prove(demo)?;
        }
        let mut imap = Imap::connect(demo.address("imaps")?, &demo.tls())?;
        imap.login(SERVICE_MAILBOX, SERVICE_PASSWORD)?;
        prove_quota(demo, &mut imap, SERVICE_MAILBOX)?;
        for (account, before) in &self.validities {
            let mut imap = demo.imap_as(account)?;
            let now = numbers(&mut imap, "INBOX")?.0;
            ensure!(now == *before, "UIDVALIDITY of {account} was {before} and is {now}");
            prove_quota(demo, &mut imap, account)?;
        }
        Ok(tally)
    }

    fn appended(&self) -> usize {
        self.shelves.iter().map(Shelf::acknowledgements).sum()
    }
}

/// Lets the clients work for so long.
fn wait_for(delay: Duration) -> anyhow::Result<()> {
    let (_alive, nothing) = sync_channel::<()>(0);
    match nothing.recv_timeout(delay) {
        Err(RecvTimeoutError::Timeout) => Ok(()),
        other => other.context("nobody sends"),
    }
}

fn kill(pid: u32) -> anyhow::Result<()> {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid)?).context("no such process")?;
    Ok(rustix::process::kill_process(pid, rustix::process::Signal::KILL)?)
}

// PEC-SLA-07
#[test]
fn what_was_acknowledged_outlives_every_kill_and_nothing_happens_twice() -> anyhow::Result<()> {
    let rounds = from_environment("CERALACCA_KILL_ROUNDS", 200)?;
    let seed = seed()?;
    say(&format!("CERALACCA_KILL_SEED={seed}"));
    let mut random = Random::new(seed);
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("demo");
    let demo = Demo::start(&data)?;
    open_service_mailbox(&data, SERVICE_PASSWORD)?;
    let mut books = Books::open(&demo)?;
    demo.kill()?;
    for round in 0..rounds {
        let demo = Demo::start(&data).with_context(|| format!("start {round}"))?;
        let pid = demo.pid();
        let delay = Duration::from_millis((DELAYS.start + random.below(DELAYS.len())) as u64);
        let told = books.work(&demo, &format!("r{round}"), &mut random, |ends| {
            wire::until("a client that is signed in", || Ok(ends.anyone().then_some(())))?;
            wait_for(delay)?;
            kill(pid)
        })?;
        ensure!(told.is_empty(), "round {round}: {told:?}");
    }
    let demo = Demo::start(&data)?;
    demo.settle()?;
    say(&format!("{:?}", books.prove(&demo)?));
    let (submitted, appended) = (books.ledger.acknowledgements(), books.appended());
    say(&format!(
        "{rounds} kills survived; {submitted} messages and {appended} appends were acknowledged"
    ));
    // With each program that was killed, the process that had its key ended.
    ensure!(demo.signer()?.is_some(), "nobody signs");
    ensure!(submitted as u64 >= rounds && appended as u64 >= rounds, "there was hardly any load");
    ensure!(demo.stop()?.success());
    Ok(())
}

#[test]
fn when_the_signing_process_is_killed_the_next_one_goes_on() -> anyhow::Result<()> {
    let seed = seed()?;
    say(&format!("CERALACCA_KILL_SEED={seed}"));
    let mut random = Random::new(seed);
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("demo");
    let demo = Demo::start(&data)?;
    open_service_mailbox(&data, SERVICE_PASSWORD)?;
    let mut books = Books::open(&demo)?;
    for round in 0..SIGNER_ROUNDS {
        let signer = wire::until("a signing process", || demo.signer())?;
        let delay = Duration::from_millis((DELAYS.start + random.below(DELAYS.len())) as u64);
        wire::until("a signing process that works", || {
            Ok((demo.page("/ready")?.0 == 200).then_some(()))
        })?;
        let attempts = books.ledger.acknowledgements();
        let told = books.work(&demo, &format!("s{round}"), &mut random, |_| {
            wait_for(delay)?;
            kill(signer)?;
            // Submission goes on without it: what is acknowledged waits.
            let next = wire::until("the next signing process", || {
                Ok(demo.signer()?.filter(|next| *next != signer))
            })?;
            ensure!(next != signer);
            Ok(())
        })?;
        ensure!(told.is_empty(), "round {round}: {told:?}");
        ensure!(books.ledger.acknowledgements() > attempts, "nothing was taken in round {round}");
    }
    demo.settle()?;
    say(&format!("{:?}", books.prove(&demo)?));
    say(&format!("{SIGNER_ROUNDS} deaths of the signing process survived"));
    ensure!(demo.stop()?.success());
    Ok(())
}
