//! Limits and signals, from outside: one connection too many, guessed passwords, SIGTERM under load,
//! SIGHUP with a new certificate, and a disk that is full.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use scenarios::ledger::{ACCOUNTS, Attempt, Ledger};
use scenarios::load::{self, Ends, Random, message};
use scenarios::process::open_service_mailbox;
use scenarios::wire::{self, Wire};
use scenarios::{Demo, Imap, Smtp};

const MARIO: &str = ACCOUNTS[0];
const COMUNE: &str = ACCOUNTS[3];
const SERVICE_PASSWORD: &str = "ricevute-di-prova";
/// Another address of this machine, as a stranger's.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// What the demo's configuration says of limits.
const LIMITS: &str = "unthrottled = [\"127.0.0.0/8\"]";
/// What is said to one connection too many from one address.
const TOO_MANY_HERE: &str =
    "421 4.7.0 Too many connections from your address: close some, or try again in 300 seconds";
/// What is said to one too many of all, or of all strangers.
const TOO_MANY: &str = "421 4.7.0 Too many connections: close some, or try again in 60 seconds";

/// A demo whose `[limits]` are these.
fn limited(data: &Path, limits: &str) -> anyhow::Result<Demo> {
    Demo::start_changed(data, &[(LIMITS, limits)], "")
}

/// Connects from another address.
fn from(address: Ipv4Addr, to: SocketAddr) -> anyhow::Result<Wire> {
    wire::connect_from(address, to)
}

fn hears(wire: &mut Wire, expected: &str) -> anyhow::Result<()> {
    let line = String::from_utf8(wire.line()?)?;
    ensure!(line == expected, "expected {expected:?}, heard {line:?}");
    Ok(())
}

#[test]
fn one_connection_too_many_is_told_so_and_served_when_another_ends() -> anyhow::Result<()> {
    const GREETING: &str = "220 pec.alfa.example ESMTP ceralacca";
    let folder = tempfile::tempdir()?;
    let limits = "unthrottled = []\nconnections_per_address_max = 4\nconnections_max = 8";
    let demo = limited(&folder.path().join("demo"), limits)?;
    let smtp = demo.address("smtp")?;
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut wire = Wire::clear(smtp)?;
        hears(&mut wire, GREETING)?;
        held.push(wire);
    }
    // The fifth from here, on each port: inside TLS nothing can be said.
    for (service, words) in [
        ("smtp", Some(TOO_MANY_HERE)),
        ("submission", Some(TOO_MANY_HERE)),
        ("imap", Some("* BYE [LIMIT] Too many connections: close some or try again later")),
        ("imaps", None),
        ("submissions", None),
    ] {
        let mut wire = Wire::clear(demo.address(service)?)?;
        if let Some(words) = words {
            hears(&mut wire, words)?;
        }
        wire.closed().with_context(|| service.to_owned())?;
    }
    // From elsewhere two more, then all six are taken that strangers may have: a quarter is left to users.
    for _ in 0..2 {
        let mut wire = from(ELSEWHERE, smtp)?;
        hears(&mut wire, GREETING)?;
        held.push(wire);
    }
    let mut wire = from(ELSEWHERE, smtp)?;
    hears(&mut wire, TOO_MANY)?;
    wire.closed()?;
    for _ in 0..2 {
        let mut wire = from(ELSEWHERE, demo.address("submission")?)?;
        hears(&mut wire, GREETING)?;
        held.push(wire);
    }
    let third = Ipv4Addr::new(127, 0, 0, 3);
    let mut wire = from(third, demo.address("submission")?)?;
    hears(&mut wire, TOO_MANY)?;
    wire.closed()?;
    // Those that were let in are served, and one that ends makes room.
    held[0].write(b"QUIT\r\n")?;
    hears(&mut held[0], "221 2.0.0 Closing, goodbye")?;
    held[0].closed()?;
    wire::until("room for one more", || {
        let line = Wire::clear(smtp)?.line()?;
        Ok((line == GREETING.as_bytes()).then_some(()))
    })?;
    // The pages have a limit of their own.
    ensure!(demo.page("/ready")? == (200, "ready\n".to_owned()));
    drop(held);
    ensure!(demo.stop()?.success());
    Ok(())
}

#[test]
fn one_session_too_many_of_an_account_is_refused_and_others_are_not() -> anyhow::Result<()> {
    const LOGIN: &str = "LOGIN mrossi ceralacca-demo";
    let folder = tempfile::tempdir()?;
    let limits = "unthrottled = []\naccount_sessions_max = 2";
    let demo = limited(&folder.path().join("demo"), limits)?;
    let connect = || Imap::connect(demo.address("imaps")?, &demo.tls());
    let (mut one, mut two, mut three) = (connect()?, connect()?, connect()?);
    one.ok(LOGIN)?;
    two.ok(LOGIN)?;
    let refused = three.command(LOGIN)?;
    ensure!(
        refused.tagged == "NO [LIMIT] Too many connections or attempts: try again later",
        "{refused:?}"
    );
    // Neither another account nor those that are there are the worse for it.
    three.ok("LOGIN comune ceralacca-demo")?;
    two.ok("NOOP")?;
    // Who signs out makes room, and so does who goes.
    two.ok("UNAUTHENTICATE")?;
    three.ok("UNAUTHENTICATE")?;
    // The answer to UNAUTHENTICATE leaves as it came, compressed perhaps: room is made after it.
    wire::until("room for who signs in again", || {
        Ok(three.command(LOGIN)?.tagged.starts_with("OK ").then_some(()))
    })?;
    ensure!(two.command(LOGIN)?.tagged == refused.tagged);
    one.ok("LOGOUT")?;
    drop(one);
    wire::until("room for one more", || {
        Ok(connect()?.command(LOGIN)?.tagged.starts_with("OK ").then_some(()))
    })?;
    ensure!(demo.stop()?.success());
    Ok(())
}

#[test]
fn guesses_are_answered_later_and_later_and_then_not_at_all() -> anyhow::Result<()> {
    const WRONG: &str =
        "535 5.7.8 Authentication credentials invalid: check user name and password";
    const LATER: &str = "454 4.7.0 Too many failed logins: try again in ";
    const RIGHT: &[u8] = b"AUTH PLAIN AG1yb3NzaQBjZXJhbGFjY2EtZGVtbw==\r\n";
    let folder = tempfile::tempdir()?;
    let limits = "unthrottled = []\nlogin_failures_max = 3\nlogin_window = \"6s\"";
    let demo = limited(&folder.path().join("demo"), limits)?;
    let mut smtp = Smtp::connect(demo.address("submissions")?, &demo.tls())?;
    smtp.hello()?;
    for delay in [250, 500, 1000] {
        let began = Instant::now();
        smtp.wire.write(b"AUTH PLAIN AG1yb3NzaQBzYmFnbGlhdGE=\r\n")?;
        hears(&mut smtp.wire, WRONG)?;
        let took = began.elapsed();
        ensure!(took >= Duration::from_millis(delay), "{took:?} and not {delay} ms");
    }
    // Now not even the right password is looked at, for this account and from this address.
    smtp.wire.write(RIGHT)?;
    let told = smtp.reply()?;
    let secs = told.strip_prefix(LATER).and_then(|rest| rest.strip_suffix(" seconds"));
    let secs: u64 = secs.with_context(|| told.clone())?.parse()?;
    // A second of the six has gone by, in which the third answer was held back.
    ensure!((1..=5).contains(&secs), "{told}");
    let mut imap = Imap::connect(demo.address("imaps")?, &demo.tls())?;
    let replies = imap.command("LOGIN comune ceralacca-demo")?;
    ensure!(
        replies.tagged == "NO [LIMIT] Too many connections or attempts: try again later",
        "{replies:?}"
    );
    // From elsewhere nobody is the worse for it: neither another account nor this one.
    let elsewhere = || -> anyhow::Result<Imap> {
        let imap = from(ELSEWHERE, demo.address("imaps")?)?.start_tls(&demo.tls())?;
        let mut imap = Imap::on(imap);
        imap.response()?;
        Ok(imap)
    };
    ensure!(elsewhere()?.command("LOGIN comune ceralacca-demo")?.tagged.starts_with("OK "));
    ensure!(elsewhere()?.command("LOGIN mrossi ceralacca-demo")?.tagged.starts_with("OK "));
    // Nor is who signed in there, when somebody beside him guesses at other names.
    for _ in 0..3 {
        let told = elsewhere()?.command("LOGIN abianchi sbagliata")?.tagged;
        ensure!(told.starts_with("NO [AUTHENTICATIONFAILED] "), "{told}");
    }
    ensure!(elsewhere()?.command("LOGIN sverdi ceralacca-demo")?.tagged.starts_with("NO [LIMIT] "));
    ensure!(elsewhere()?.command("LOGIN mrossi ceralacca-demo")?.tagged.starts_with("OK "));
    // And it passes.
    wire::until("the end of the window", || {
        let mut smtp = Smtp::connect(demo.address("submissions")?, &demo.tls())?;
        smtp.hello()?;
        smtp.wire.write(RIGHT)?;
        Ok(smtp.reply()?.starts_with("235 2.7.0 ").then_some(()))
    })?;
    ensure!(demo.stop()?.success());
    Ok(())
}

#[test]
fn a_stop_under_load_is_orderly_and_loses_nothing() -> anyhow::Result<()> {
    const ROUNDS: usize = 5;
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("demo");
    let mut random = Random::new(1);
    let ledger = Ledger::default();
    let first = Demo::start(&data)?;
    open_service_mailbox(&data, SERVICE_PASSWORD)?;
    ensure!(first.stop()?.success());
    for round in 0..ROUNDS {
        let demo = Demo::start(&data)?;
        let ends = Ends::default();
        std::thread::scope(|scope| -> anyhow::Result<()> {
            for (number, sender) in ACCOUNTS.into_iter().take(4).enumerate() {
                let mut random = random.fork();
                let (demo, ends, ledger) = (&demo, &ends, &ledger);
                scope.spawn(move || {
                    let label = format!("t{round}.{number}");
                    ends.end(sender, load::submit(demo, sender, &label, ledger, &mut random, ends));
                });
            }
            let done = wire::until("some load", || {
                Ok((ledger.acknowledgements() > 40 * (round + 1)).then_some(()))
            });
            let done = done.and_then(|()| demo.signal(rustix::process::Signal::TERM));
            if done.is_err() {
                ends.enough();
            }
            done
        })?;
        // Who was in the middle of something was told, in these words and no others.
        for told in ends.told() {
            let stopping = "421 4.3.2 This server is stopping: try again later";
            ensure!(told.contains(stopping), "{told}");
        }
        let status = demo.stop()?;
        ensure!(status.success(), "round {round}: {status}");
    }
    let demo = Demo::start(&data)?;
    demo.settle()?;
    println!("{:?}", ledger.prove(&demo, SERVICE_PASSWORD)?);
    ensure!(demo.stop()?.success());
    Ok(())
}

#[test]
fn a_new_certificate_is_shown_to_whoever_comes_next() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (data, other) = (folder.path().join("demo"), folder.path().join("other"));
    ensure!(Demo::start(&other)?.stop()?.success());
    let demo = Demo::start(&data)?;
    let mut reading = demo.imap_as(MARIO)?;
    let mut sending = demo.submit_as(MARIO)?;
    let imaps = demo.address("imaps")?;

    // One that cannot be used changes nothing.
    let good = std::fs::read(data.join("tls.pem"))?;
    std::fs::write(data.join("tls.pem"), "-----BEGIN CERTIFICATE-----\nnone\n")?;
    demo.signal(rustix::process::Signal::HUP)?;
    wire::until("the complaint in the log", || {
        let log = std::fs::read_to_string(&demo.log)?;
        Ok(log.contains("the old TLS certificate stays").then_some(()))
    })?;
    reading.ok("NOOP")?;
    Imap::connect(imaps, &demo.tls())?;
    std::fs::write(data.join("tls.pem"), good)?;

    for file in ["tls.key", "tls.pem"] {
        std::fs::copy(other.join(file), data.join(file))?;
    }
    demo.signal(rustix::process::Signal::HUP)?;
    let trusting_other = wire::trusting(&std::fs::read(other.join("ca.pem"))?)?;
    wire::until("the new certificate", || Ok(Imap::connect(imaps, &trusting_other).ok()))?;
    // A client that knows none of the earlier connections: a session that is resumed shows none.
    let trusting_first = wire::trusting(&std::fs::read(data.join("ca.pem"))?)?;
    ensure!(Imap::connect(imaps, &trusting_first).is_err(), "the old certificate is still shown");
    let mut starttls = Smtp::connect_clear(demo.address("submission")?)?;
    starttls.hello()?;
    starttls.start_tls(&trusting_other)?.hello()?;
    // Connections from before go on.
    reading.ok("NOOP")?;
    sending.submit(MARIO, &[COMUNE], &message(MARIO, &[COMUNE], "<1@cliente.example>", 100))?;
    reading.wait_for_count("INBOX", 2)?;
    ensure!(demo.stop()?.success());
    Ok(())
}

/// A file system of its own in memory, unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// Or the reason why this user may not mount.
    fn mount(options: &str) -> anyhow::Result<Result<Self, String>> {
        let folder = tempfile::tempdir()?;
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "ceralacca-test"])
            .arg(folder.path())
            .output()?;
        if !mounted.status.success() {
            return Ok(Err(String::from_utf8_lossy(&mounted.stderr).trim().to_owned()));
        }
        Ok(Ok(Self(folder)))
    }

    fn grow(&self, options: &str) -> anyhow::Result<()> {
        let options = format!("remount,{options}");
        let status = Command::new("mount").args(["-o", &options]).arg(self.0.path()).status()?;
        ensure!(status.success(), "mount: {status}");
        Ok(())
    }

    /// Takes all the space that is left.
    fn fill(&self) -> anyhow::Result<()> {
        use std::io::Write;
        let mut file = std::fs::File::create(self.0.path().join("filler"))?;
        let piece = [0; 4096];
        loop {
            match file.write(&piece) {
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::StorageFull => return Ok(()),
                Err(error) => bail!(error),
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: whatever is still open in it goes with its process.
        let unmounted = Command::new("umount").arg("-l").arg(self.0.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "the small disk stays mounted");
    }
}

#[test]
fn a_full_disk_refuses_and_forgets_nothing() -> anyhow::Result<()> {
    // A segment of 256 MiB is taken when it is begun.
    let disk = match SmallDisk::mount("size=264m")? {
        Ok(disk) => disk,
        Err(reason) => {
            scenarios::say(&format!("SKIPPED, this user cannot mount a small disk: {reason}"));
            return Ok(());
        }
    };
    let data = disk.0.path().join("demo");
    // Its log has room all the while, and is read below.
    let elsewhere = tempfile::NamedTempFile::new()?;
    let demo = Demo::start_logging_to(&data, elsewhere.path())?;
    open_service_mailbox(&data, SERVICE_PASSWORD)?;
    let ledger = Ledger::default();
    let mut serial = 0;
    let mut submit = |smtp: &mut Smtp| -> anyhow::Result<()> {
        serial += 1;
        let msgid = format!("<pieno.{serial}@cliente.example>");
        let attempt = Attempt {
            sender: MARIO.to_owned(),
            recipients: vec![COMUNE.to_owned()],
            proper: true,
            acknowledged: None,
        };
        ledger.tried(&msgid, attempt);
        let id = smtp.submit(MARIO, &[COMUNE], &message(MARIO, &[COMUNE], &msgid, 2000))?;
        ledger.acknowledged(&msgid, &id);
        Ok(())
    };
    let mut smtp = demo.submit_as(MARIO)?;
    for _ in 0..5 {
        submit(&mut smtp)?;
    }
    disk.fill()?;
    let refused = wire::until("a refusal", || Ok(submit(&mut smtp).err()))?.to_string();
    ensure!(
        refused == "expected 250, got 452 4.3.1 No space left on this server: try again later",
        "{refused}"
    );
    // What is there can be read, by those who are in and by those who come.
    let read = demo.imap_as(COMUNE)?.messages("INBOX")?;
    ensure!(read.iter().all(|(_, octets)| octets.starts_with(b"Return-Path: ")));
    let log = std::fs::read_to_string(&demo.log)?;
    ensure!(log.contains("a group of writes failed"), "the log is silent");
    // With room again it goes on by itself.
    disk.grow("size=300m")?;
    // By a connection of its own each time: what was left unanswered on the first is of no interest.
    wire::until("the store to go on", || {
        Ok(demo.submit_as(MARIO).and_then(|mut smtp| submit(&mut smtp)).ok())
    })?;
    wire::until("/ready to say so", || Ok((demo.page("/ready")?.0 == 200).then_some(())))?;
    ensure!(demo.stop()?.success());
    let demo = Demo::start(&data)?;
    let mut smtp = demo.submit_as(MARIO)?;
    submit(&mut smtp)?;
    demo.settle()?;
    let tally = ledger.prove(&demo, SERVICE_PASSWORD)?;
    println!("{tally:?}");
    ensure!(tally.acknowledged >= 6);
    ensure!(demo.stop()?.success());
    Ok(())
}

#[test]
fn a_log_that_cannot_be_written_takes_nothing_else_with_it() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("demo");
    // Every line of it fails: no space left on device.
    let demo = Demo::start_logging_to(&data, Path::new("/dev/full"))?;
    let mut smtp = demo.submit_as(MARIO)?;
    smtp.submit(MARIO, &[COMUNE], &message(MARIO, &[COMUNE], "<muto@cliente.example>", 200))?;
    demo.imap_as(COMUNE)?.wait_for_count("INBOX", 1)?;
    // Acceptance and delivery came back too: both points and the signing process go on.
    demo.imap_as(MARIO)?.wait_for_count("INBOX", 2)?;
    ensure!(demo.page("/ready")?.0 == 200);
    ensure!(demo.stop()?.success());
    Ok(())
}
