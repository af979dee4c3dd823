//! Two gateways on one store: each sees what the other does, the death of one loses nothing and doubles
//! nothing, and without the database or what octets are on both say so.

use std::process::Output;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use scenarios::demo::PASSWORD;
use scenarios::ledger::{ACCOUNTS, Attempt, Ledger};
use scenarios::load::{self, Ends, Random};
use scenarios::nodes::{Nodes, SERVICE_PASSWORD};
use scenarios::process::{account, run};
use scenarios::wire::until_within;
use scenarios::{Demo, Imap, Smtp, say};

/// How long what happens at once may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// Seconds, by the database's clock, in which what a dead gateway was at is done: it is believed to be alive for 5, and
/// the other looks at the queue and does the work; measured, 4.6 to 5.5.
const TAKEN_OVER_SECS: f64 = 15.0;
const MARIO: &str = ACCOUNTS[0];
const ANNA: &str = ACCOUNTS[1];

/// Reads what an idling client is told, until one line holds this text.
fn told(imap: &mut Imap, text: &str) -> anyhow::Result<String> {
    until_within(text, PATIENCE, || {
        let line = String::from_utf8(imap.response()?)?;
        Ok(line.contains(text).then_some(line))
    })
}

fn send(smtp: &mut Smtp, msgid: &str) -> anyhow::Result<String> {
    smtp.submit(MARIO, &[ANNA], &load::message(MARIO, &[ANNA], msgid, 200))
}

#[test]
fn who_waits_at_one_gateway_is_told_what_happens_at_the_other() -> anyhow::Result<()> {
    let nodes = Nodes::in_folder()?;
    let [one, other] = nodes.start()?;
    let mut anna = one.imap_as(ANNA)?;
    anna.ok("SELECT INBOX")?;
    anna.begin_idle()?;
    let id = send(&mut other.submit_as(MARIO)?, "<idle@cliente.example>")?;
    told(&mut anna, "* 1 EXISTS")?;
    anna.end_idle()?;
    let read = anna.messages("INBOX")?;
    ensure!(read.len() == 1 && String::from_utf8_lossy(&read[0].1).contains(&id), "{read:?}");

    anna.ok("SELECT INBOX")?;

    // Flags go the other way.
    let mut there = other.imap_as(ANNA)?;
    there.ok("SELECT INBOX")?;
    there.begin_idle()?;
    anna.ok(&format!("UID STORE {} +FLAGS (\\Flagged)", read[0].0))?;
    let line = told(&mut there, "\\Flagged")?;
    ensure!(line.starts_with("* 1 FETCH"), "{line}");
    there.end_idle()?;

    // UIDs and mod-sequences are the same at both, whoever gives them.
    for (demo, number) in [(&one, 2), (&other, 3), (&one, 4)] {
        send(&mut demo.submit_as(MARIO)?, &format!("<{number}@cliente.example>"))?;
        other.settle()?;
    }
    let numbers = |imap: &mut Imap| -> anyhow::Result<Vec<Vec<u8>>> {
        let mut all =
            imap.ok("STATUS INBOX (MESSAGES UIDNEXT UIDVALIDITY HIGHESTMODSEQ)")?.untagged;
        all.retain(|line| line.starts_with(b"* STATUS"));
        let mut lines = imap.ok("UID FETCH 1:* (MODSEQ)")?.untagged;
        lines.retain(|line| line.windows(6).any(|word| word == b"MODSEQ"));
        all.extend(lines);
        Ok(all)
    };
    let at_each = [numbers(&mut anna)?, numbers(&mut there)?];
    ensure!(at_each[0] == at_each[1] && at_each[0].len() == 5, "{at_each:?}");

    // What an operator does to an account at one gateway ends its sessions at the other.
    there.begin_idle()?;
    account(&nodes.folders[0], &["passwd", ANNA, "--password-stdin"], "nuova-parola\n")?;
    told(&mut there, "* BYE Your account was changed")?;
    ensure!(other.imap_as(ANNA).is_err(), "the old password still opens");

    // Of two that seal one does, and the chain holds.
    let config = nodes.config(1)?;
    ensure!(run(&["log", "seal", "--config", &config], "")?.status.success());
    let verified = run(&["log", "verify", "--config", &config], "")?;
    ensure!(verified.status.success(), "{}", text(&verified));
    one.stop()?;
    other.stop()?;
    Ok(())
}

/// Load at both gateways while something happens; what clients were told that was no end of a connection.
fn under_load(
    [one, other]: [&Demo; 2],
    (ledger, label): (&Ledger, &str),
    random: &mut Random,
    meanwhile: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<Vec<String>> {
    let ends = Ends::default();
    std::thread::scope(|scope| -> anyhow::Result<()> {
        for (number, demo) in [one, other, one, other].into_iter().enumerate() {
            let (sender, ends) = (ACCOUNTS[number], &ends);
            let (label, mut random) = (format!("{label}.{number}"), random.fork());
            scope.spawn(move || {
                let ended = load::submit(demo, sender, &label, ledger, &mut random, ends);
                ends.end(sender, ended);
            });
        }
        let before = ledger.acknowledgements();
        let taken = until_within("twenty messages", PATIENCE, || {
            Ok((ledger.acknowledgements() >= before + 20).then_some(()))
        });
        let happened = taken.and_then(|()| meanwhile());
        ends.enough();
        happened
    })?;
    Ok(ends.told())
}

/// What the database's clock says, in seconds.
fn clock(nodes: &Nodes) -> anyhow::Result<f64> {
    Ok(nodes.database.ask("SELECT extract(epoch FROM clock_timestamp())")?.parse()?)
}

fn seals(nodes: &Nodes) -> anyhow::Result<u64> {
    Ok(nodes.database.ask("SELECT count(*) FROM ceralacca.seals")?.parse()?)
}

#[test]
fn a_gateway_that_is_killed_under_load_loses_nothing_and_doubles_nothing() -> anyhow::Result<()> {
    const KILLS: usize = 3;
    let nodes = Nodes::in_folder()?;
    let [mut one, other] = nodes.start()?;
    let ledger = Ledger::default();
    let mut random = Random::new(7);
    for round in 0..KILLS {
        let refused =
            under_load([&one, &other], (&ledger, &round.to_string()), &mut random, || {
                one.signal(rustix::process::Signal::KILL)
            })?;
        ensure!(refused.is_empty(), "{refused:?}");
        drop(one);
        // The other does what was left over, and what only one does.
        let (killed, sealed) = (clock(&nodes)?, seals(&nodes)?);
        other.settle()?;
        let taken_over = clock(&nodes)? - killed;
        ensure!(taken_over < TAKEN_OVER_SECS, "taken over after {taken_over} s");
        say(&format!("kill {round}: nothing was left to do after {taken_over:.1} s"));
        until_within("a seal of the other", PATIENCE, || {
            Ok((seals(&nodes)? > sealed + 1).then_some(()))
        })?;
        one = Demo::serve(&nodes.folders[0])?;
    }
    let tally = ledger.prove(&one, SERVICE_PASSWORD)?;
    say(&format!("{KILLS} kills of one of two gateways: {tally:?}"));
    let verified = run(&["log", "verify", "--config", &nodes.config(1)?], "")?;
    ensure!(verified.status.success(), "{}", text(&verified));
    one.stop()?;
    other.stop()?;
    Ok(())
}

/// Whether a refusal is for a while: what a client tries again.
fn for_a_while(refused: anyhow::Result<String>) -> anyhow::Result<()> {
    let text = match refused {
        Ok(id) => anyhow::bail!("taken as {id}"),
        Err(error) => format!("{error:#}"),
    };
    ensure!(text.contains("got 4"), "{text}");
    Ok(())
}

#[test]
fn gateways_without_their_database_say_no_and_come_back_by_themselves() -> anyhow::Result<()> {
    let mut nodes = Nodes::in_folder()?;
    let both = nodes.start()?;
    let mut sessions = Vec::new();
    for demo in &both {
        let mut anna = demo.imap_as(ANNA)?;
        anna.ok("SELECT INBOX")?;
        sessions.push((anna, demo.submit_as(MARIO)?));
    }
    let mut idle = both[0].imap_as(ANNA)?;
    idle.ok("SELECT INBOX")?;
    idle.begin_idle()?;
    let mut nowhere = both[1].imap_as(ANNA)?;
    nodes.database.kill()?;
    // Nobody is told that nothing happened by a gateway that would not know.
    for imap in sessions.iter_mut().map(|(anna, _)| anna).chain([&mut nowhere]) {
        until_within("a refusal", PATIENCE, || {
            let said = imap.command("NOOP")?.tagged;
            Ok(said.starts_with("NO [UNAVAILABLE]").then_some(()))
        })?;
    }
    let bye = "* BYE [UNAVAILABLE] The mail cannot be reached now: connect again later";
    ensure!(told(&mut idle, "BYE")?.starts_with(bye), "IDLE goes on");
    nowhere.begin_idle()?;
    ensure!(told(&mut nowhere, "BYE")?.starts_with(bye), "IDLE begins");
    for (anna, mario) in &mut sessions {
        for command in ["STATUS Cestino (MESSAGES)", "CREATE Nuova", "LIST \"\" *", "SELECT INBOX"]
        {
            let refused = anna.command(command)?.tagged;
            ensure!(refused.starts_with("NO [UNAVAILABLE]"), "{command}: {refused}");
        }
        for_a_while(send(mario, "<lost@cliente.example>"))?;
    }
    for demo in &both {
        let mut imap = Imap::connect(demo.address("imaps")?, &demo.tls())?;
        let refused = imap.command(&format!("LOGIN {ANNA} {PASSWORD}"))?.tagged;
        ensure!(refused.starts_with("NO [UNAVAILABLE]"), "{refused}");
        for_a_while(demo.submit_as(MARIO).map(|_| String::new()))?;
        let (status, page) = demo.page("/ready")?;
        ensure!(status == 503, "{status} {page}");
    }
    // What `serve` would refuse is said by `check` in words that help.
    let checked = run(&["check", "--config", &nodes.config(0)?], "")?;
    let what = "cannot be used: see that it runs, and that it takes this user";
    ensure!(!checked.status.success() && text(&checked).contains(what), "{}", text(&checked));

    nodes.database.run()?;
    for (number, demo) in both.iter().enumerate() {
        until_within("a gateway that goes on", PATIENCE, || {
            let sent = demo
                .submit_as(MARIO)
                .and_then(|mut smtp| send(&mut smtp, &format!("<kept.{number}@cliente.example>")));
            Ok(sent.ok())
        })?;
    }
    // The sessions that were there all the time, too.
    for (anna, _) in &mut sessions {
        anna.wait_for_count("INBOX", 2)?;
    }
    both[0].settle()?;
    ensure!(both[1].imap_as(ANNA)?.count("INBOX")? == 2, "something came twice");
    for demo in both {
        demo.stop()?;
    }
    Ok(())
}

#[test]
fn deaths_of_the_object_store_and_of_a_gateway_lose_nothing_and_double_nothing()
-> anyhow::Result<()> {
    let mut nodes = Nodes::in_bucket()?;
    let [one, other] = nodes.start()?;
    let ledger = Ledger::default();
    let mut random = Random::new(11);
    let mut bucket = nodes.bucket.take().context("no bucket")?;
    let refused = under_load([&one, &other], (&ledger, "s3"), &mut random, || bucket.kill())?;
    ensure!(refused.iter().all(|refused| refused.contains("got 4")), "{refused:?}");
    let mut anna = one.imap_as(ANNA)?;
    let mut tries = 0;
    let mut entered = || -> anyhow::Result<String> {
        tries += 1;
        let msgid = format!("<{tries}@cliente.example>");
        let attempt = Attempt {
            sender: MARIO.to_owned(),
            recipients: vec![ANNA.to_owned()],
            proper: true,
            acknowledged: None,
        };
        ledger.tried(&msgid, attempt);
        let id = send(&mut other.submit_as(MARIO)?, &msgid)?;
        ledger.acknowledged(&msgid, &id);
        Ok(id)
    };
    for_a_while(entered())?;
    bucket.run()?;
    until_within("a gateway that goes on", PATIENCE, || Ok(entered().ok()))?;
    other.settle()?;
    let before = anna.count("INBOX")?;
    bucket.kill()?;
    anna.ok("SELECT INBOX")?;
    ensure!(before > 0, "nothing was delivered");
    let refused = anna.command("FETCH * BODY.PEEK[]");
    // What has begun to go out cannot be taken back: then the connection ends.
    let is_told = refused.as_ref().is_ok_and(|said| said.tagged.starts_with("NO [UNAVAILABLE]"));
    ensure!(is_told || refused.is_err(), "{refused:?}");
    bucket.run()?;

    let refused = under_load([&one, &other], (&ledger, "node"), &mut random, || {
        one.signal(rustix::process::Signal::KILL)
    })?;
    ensure!(refused.is_empty(), "{refused:?}");
    drop(one);
    other.settle()?;
    let tally = ledger.prove(&other, SERVICE_PASSWORD)?;
    say(&format!("one death of the object store and one of a gateway on it: {tally:?}"));
    other.stop()?;
    Ok(())
}

#[test]
fn an_embedded_store_is_moved_with_every_number_and_octet_and_back() -> anyhow::Result<()> {
    let nodes = Nodes::in_bucket()?;
    let file = nodes.folders[0].join("ceralacca.toml");
    let shared = nodes.folders[0].join("shared.toml");
    std::fs::rename(&file, &shared)?;
    std::fs::write(&file, &nodes.embedded)?;
    let to = shared.to_str().context("a path that is no text")?;
    let migrate = || run(&["store", "migrate", "--to", to, "--config", &nodes.config(0)?], "");

    let demo = Demo::serve(&nodes.folders[0])?;
    let mut mario = demo.submit_as(MARIO)?;
    for number in 0..5 {
        send(&mut mario, &format!("<{number}@cliente.example>"))?;
    }
    demo.settle()?;
    let mut anna = demo.imap_as(ANNA)?;
    anna.ok("SELECT INBOX")?;
    anna.ok("UID STORE 2 +FLAGS (\\Flagged $Importante)")?;
    anna.ok("UID STORE 4 +FLAGS (\\Deleted)")?;
    anna.ok("EXPUNGE")?;
    let picture = |demo: &Demo| -> anyhow::Result<Vec<Vec<u8>>> {
        let mut all = Vec::new();
        for login in [ANNA, MARIO] {
            let mut imap = demo.imap_as(login)?;
            all.extend(imap.ok("LIST \"\" *")?.untagged);
            let status = "STATUS INBOX (MESSAGES UIDNEXT UIDVALIDITY HIGHESTMODSEQ UNSEEN SIZE)";
            all.extend(imap.ok(status)?.untagged);
            imap.ok("EXAMINE INBOX")?;
            all.extend(imap.ok("UID FETCH 1:* (FLAGS INTERNALDATE MODSEQ BODY.PEEK[])")?.untagged);
        }
        Ok(all)
    };
    let before = picture(&demo)?;
    let refused = migrate()?;
    ensure!(!refused.status.success() && text(&refused).contains("stop the server"));
    demo.stop()?;
    let moved = migrate()?;
    ensure!(moved.status.success(), "{}", text(&moved));
    ensure!(text(&moved).contains("8 accounts"), "{}", text(&moved));

    // The archive of the old one goes on where it was: it could be served again.
    ensure!(run(&["account", "list", "--config", &nodes.config(0)?], "")?.status.success());
    let histories = std::fs::read_dir(nodes.folders[0].join("archive"))?.count();
    ensure!(histories == 1, "{histories} histories in the archive");

    std::fs::rename(&shared, &file)?;
    let demo = Demo::serve(&nodes.folders[0])?;
    let after = picture(&demo)?;
    ensure!(before == after, "{}", String::from_utf8_lossy(&after.concat()));
    send(&mut demo.submit_as(MARIO)?, "<after@cliente.example>")?;
    demo.imap_as(ANNA)?.wait_for_count("INBOX", 5)?;
    demo.settle()?;
    let verified = run(&["log", "verify", "--config", &nodes.config(0)?], "")?;
    ensure!(verified.status.success(), "{}", text(&verified));

    // And back, into a new store.
    let back = nodes.folders[0].join("back.toml");
    let aside = nodes.folders[0].join("back");
    std::fs::create_dir(&aside)?;
    let line =
        nodes.embedded.lines().find(|line| line.starts_with("directory = ")).context("none")?;
    let other = format!("directory = \"{}\"", aside.display());
    std::fs::write(&back, nodes.embedded.replace(line, &other))?;
    let to = back.to_str().context("a path that is no text")?;
    let migrate = || run(&["store", "migrate", "--to", to, "--config", &nodes.config(0)?], "");
    let before = picture(&demo)?;
    let refused = migrate()?;
    ensure!(!refused.status.success() && text(&refused).contains("stop all gateways"));
    demo.stop()?;
    let moved = migrate()?;
    ensure!(moved.status.success(), "{}", text(&moved));
    std::fs::rename(&back, &file)?;
    let demo = Demo::serve(&nodes.folders[0])?;
    let after = picture(&demo)?;
    ensure!(before == after, "{}", String::from_utf8_lossy(&after.concat()));
    send(&mut demo.submit_as(MARIO)?, "<back@cliente.example>")?;
    demo.imap_as(ANNA)?.wait_for_count("INBOX", 6)?;
    demo.stop()?;
    for words in [&["log", "verify"][..], &["store", "check"]] {
        let done = run(&[words, &["--config", &nodes.config(0)?]].concat(), "")?;
        ensure!(done.status.success(), "{}", text(&done));
    }
    Ok(())
}

/// All that a command said.
fn text(output: &Output) -> String {
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn commands_work_on_a_shared_store_or_say_that_they_do_not() -> anyhow::Result<()> {
    let mut nodes = Nodes::in_bucket()?;
    let config = nodes.config(0)?;
    let said = |words: &[&str]| -> anyhow::Result<(bool, String)> {
        let done = run(&[words, &["--config", &config]].concat(), "")?;
        let said = text(&done);
        ensure!(!said.contains(scenarios::bucket::KEY.1), "a secret is told: {said}");
        Ok((done.status.success(), said))
    };
    let (starts, checked) = said(&["check"])?;
    ensure!(starts && checked.contains("tables are made at the first start"), "{checked}");
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'ceralacca'";
    ensure!(nodes.database.ask(tables)? == "0", "check changes nothing");
    // Without a server a command opens the store itself, and makes it when it is new.
    account(&nodes.folders[0], &["add", MARIO, "--password-stdin"], &format!("{PASSWORD}\n"))?;
    let (listed, accounts) = said(&["account", "list"])?;
    ensure!(listed && accounts.contains(MARIO) && accounts.contains("ricevute@"), "{accounts}");
    for words in [
        &["log", "find", "--account", MARIO][..],
        &["queue", "list"],
        &["log", "verify"],
        &["check"],
    ] {
        let (done, said) = said(words)?;
        ensure!(done, "{words:?}: {said}");
    }
    let (holds, checked) = said(&["store", "check"])?;
    ensure!(holds && checked.contains("0 messages, 0 octets read: everything holds"), "{checked}");
    for words in [&["store", "stats"][..], &["store", "backup", "copy"]] {
        let (done, said) = said(words)?;
        ensure!(!done && said.contains("the store is in a database"), "{words:?}: {said}");
    }

    // What cannot be reached is named, with what to do; `serve` says the same.
    let mut bucket = nodes.bucket.take().context("no bucket")?;
    bucket.kill()?;
    for words in [&["check"][..], &["serve"], &["account", "list"]] {
        let (done, said) = said(words)?;
        let what = "see that http://127.0.0.1:";
        ensure!(
            !done && said.contains(what) && said.contains("the bucket `pec`"),
            "{words:?}: {said}"
        );
    }
    bucket.run()?;
    nodes.database.kill()?;
    for words in [&["check"][..], &["serve"], &["account", "list"]] {
        let (done, said) = said(words)?;
        let what = "cannot be used: see that it runs, and that it takes this user";
        ensure!(!done && said.contains(what), "{words:?}: {said}");
    }
    Ok(())
}
