//! Bad input, from outside: each piece of it gets its protocol error within its limit, costs no
//! memory to speak of, holds up nobody else, and nothing is lost or delivered by it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use scenarios::ledger::ACCOUNTS;
use scenarios::load::message;
use scenarios::wire::{self, Wire};
use scenarios::{Demo, Imap, Smtp};

const MARIO: &str = ACCOUNTS[0];
const COMUNE: &str = ACCOUNTS[3];
/// KiB by which the server may have grown after an attack: buffers of some connections, and what
/// the allocator keeps.
const GROWTH_KIB_MAX: u64 = 48 * 1024;
/// A client in good faith is served within this time, whatever others do.
const GOOD_WAIT: Duration = Duration::from_secs(30);

fn demo() -> anyhow::Result<(tempfile::TempDir, Demo)> {
    let folder = tempfile::tempdir()?;
    let demo = Demo::start(&folder.path().join("demo"))?;
    Ok((folder, demo))
}

/// The next lines, whole and in this order.
fn hears(wire: &mut Wire, lines: &[&str]) -> anyhow::Result<()> {
    for (number, expected) in lines.iter().enumerate() {
        let line = wire.line().with_context(|| format!("instead of line {number}: {expected}"))?;
        let line = String::from_utf8(line)?;
        ensure!(line == *expected, "expected {expected:?}, heard {line:?}");
    }
    Ok(())
}

/// A clear connection, its greeting heard.
fn clear(demo: &Demo, service: &str) -> anyhow::Result<Wire> {
    let mut wire = Wire::clear(demo.address(service)?)?;
    wire.line()?;
    Ok(wire)
}

/// A TLS connection, its greeting heard.
fn inside(demo: &Demo, service: &str) -> anyhow::Result<Wire> {
    let mut wire = Wire::tls(demo.address(service)?, &demo.tls())?;
    wire.line()?;
    Ok(wire)
}

/// A message from the good client arrives, receipts and all, and is the only one that does.
fn a_good_message_is_all_that_arrives(demo: &Demo) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut smtp = demo.submit_as(MARIO)?;
    smtp.submit(MARIO, &[COMUNE], &message(MARIO, &[COMUNE], "<buono@cliente.example>", 100))?;
    demo.imap_as(MARIO)?.wait_for_count("INBOX", 2)?;
    demo.settle()?;
    for (account, count) in [(MARIO, 2), (COMUNE, 1), (ACCOUNTS[1], 0), (ACCOUNTS[2], 0)] {
        let found = demo.imap_as(account)?.count("INBOX")?;
        ensure!(found == count, "{account} has {found} messages and should have {count}");
    }
    ensure!(began.elapsed() < GOOD_WAIT, "it took {:?}", began.elapsed());
    Ok(())
}

fn has_not_grown(demo: &Demo, before_kib: u64) -> anyhow::Result<()> {
    let now_kib = demo.resident_kib()?;
    ensure!(now_kib < before_kib + GROWTH_KIB_MAX, "from {before_kib} KiB to {now_kib} KiB");
    Ok(())
}

/// Writes `count` octets that end nothing; false when the server closed meanwhile.
fn pour(wire: &mut Wire, count: usize) -> bool {
    let piece = [b'a'; 64 * 1024];
    (0..count / piece.len()).all(|_| wire.write(&piece).is_ok())
}

#[test]
fn an_over_long_line_is_dropped_as_it_comes() -> anyhow::Result<()> {
    const TOO_LONG: &str = "500 5.5.2 Command line too long: at most 512 octets";
    let (_folder, demo) = demo()?;
    let before = demo.resident_kib()?;
    for service in ["smtp", "submission"] {
        let mut smtp = clear(&demo, service)?;
        smtp.write(format!("NOOP {}\r\nNOOP\r\n", "a".repeat(600)).as_bytes())?;
        hears(&mut smtp, &[TOO_LONG, "250 2.0.0 Done"])?;
        ensure!(pour(&mut smtp, 32 << 20));
        has_not_grown(&demo, before)?;
        smtp.write(b"\r\nNOOP\r\n")?;
        hears(&mut smtp, &[TOO_LONG, "250 2.0.0 Done"])?;
    }
    let mut imap = clear(&demo, "imap")?;
    imap.write(format!("a NOOP {}\r\nb NOOP\r\n", "a".repeat(9000)).as_bytes())?;
    hears(&mut imap, &["a BAD The command is too long: send it in parts", "b OK NOOP completed"])?;
    // One of more than a mebibyte is not read to its end.
    pour(&mut imap, 32 << 20);
    has_not_grown(&demo, before)?;
    let mut signed_in = demo.imap_as(MARIO)?;
    pour(&mut signed_in.wire, 32 << 20);
    has_not_grown(&demo, before)?;
    let mut imap = clear(&demo, "imap")?;
    imap.write(&[b'a'; 1024 * 1024 + 64])?;
    hears(&mut imap, &["* BYE The command is too long: send shorter ones"])?;
    a_good_message_is_all_that_arrives(&demo)
}

#[test]
fn an_endless_header_ends_at_the_limit_of_a_message() -> anyhow::Result<()> {
    let (_folder, demo) = demo()?;
    let mut smtp = demo.submit_as(MARIO)?;
    let before = demo.resident_kib()?;
    smtp.command(&format!("MAIL FROM:<{MARIO}>"), "250")?;
    smtp.command(&format!("RCPT TO:<{COMUNE}>"), "250")?;
    smtp.command("DATA", "354")?;
    smtp.wire.write(b"Subject: ")?;
    // Past the 104857600 octets that SIZE announces.
    ensure!(pour(&mut smtp.wire, 101 << 20));
    has_not_grown(&demo, before)?;
    smtp.wire.write(b"\r\n.\r\nNOOP\r\n")?;
    hears(
        &mut smtp.wire,
        &["552 5.3.4 Message too large: see SIZE in the reply to EHLO", "250 2.0.0 Done"],
    )?;
    has_not_grown(&demo, before)?;
    a_good_message_is_all_that_arrives(&demo)
}

#[test]
fn a_refused_literal_that_comes_all_the_same_does_nothing() -> anyhow::Result<()> {
    const TOO_BIG: &str = "a NO [TOOBIG] The literals of a command are too long: send shorter ones";
    let (_folder, demo) = demo()?;
    let before = demo.resident_kib()?;
    // Synchronizing: refused at once; what comes then is no command, until enough came.
    let mut imap = inside(&demo, "imaps")?;
    imap.write(b"a LOGIN {100000}\r\n")?;
    hears(&mut imap, &[TOO_BIG])?;
    imap.write(&b"\0\0\0\0\r\n".repeat(100))?;
    let mut lines = vec!["* BAD A tag, a space and a command are needed"; 25];
    lines.push("* BYE Too many commands that are none");
    hears(&mut imap, &lines)?;
    imap.closed()?;
    // Not synchronizing: read to its end and thrown away, commands in it and all.
    let mut imap = inside(&demo, "imaps")?;
    let literal = "x LOGOUT\r\n".repeat(10_000);
    imap.write(format!("a LOGIN {{{}+}}\r\n{literal} b\r\n", literal.len()).as_bytes())?;
    imap.write(b"b NOOP\r\n")?;
    hears(&mut imap, &["a BAD The command is too long: send it in parts", "b OK NOOP completed"])?;
    // More than is read and thrown away.
    let mut imap = inside(&demo, "imaps")?;
    imap.write(b"a LOGIN {4000000000+}\r\n")?;
    hears(&mut imap, &["* BYE The command is too long: send shorter ones"])?;
    // A message that is too long for the mailbox's limits, announced and sent.
    let mut imap = demo.imap_as(MARIO)?;
    imap.wire.write(b"a APPEND Bozze {104857601}\r\n")?;
    hears(&mut imap.wire, &["a NO [TOOBIG] The message is too long to be kept here"])?;
    imap.wire.write(b"b APPEND Bozze {104857601+}\r\n")?;
    ensure!(pour(&mut imap.wire, 100 << 20));
    imap.wire.write(b"a\r\nc STATUS Bozze (MESSAGES)\r\n")?;
    hears(
        &mut imap.wire,
        &[
            "b NO [TOOBIG] The message is too long to be kept here",
            "* STATUS \"Bozze\" (MESSAGES 0)",
            "c OK STATUS completed",
        ],
    )?;
    has_not_grown(&demo, before)?;
    a_good_message_is_all_that_arrives(&demo)
}

/// Another session removes messages whose octets still wait to be sent: they come whole.
#[test]
fn messages_that_are_expunged_while_they_are_fetched_come_whole() -> anyhow::Result<()> {
    const MESSAGES: usize = 12;
    const OCTETS: usize = 4_000_000;
    let (_folder, demo) = demo()?;
    let mut phone = demo.imap_as(COMUNE)?;
    let bodies: Vec<Vec<u8>> = (0..MESSAGES)
        .map(|number| {
            let line = |at: usize| format!("{number} {at:060}\r\n").into_bytes();
            let mut body = b"Subject: lungo\r\n\r\n".to_vec();
            body.extend((0..).flat_map(line).take(OCTETS - body.len() - 2));
            body.extend_from_slice(b"\r\n");
            body
        })
        .collect();
    for body in &bodies {
        phone.wire.write(format!("a APPEND Bozze {{{}+}}\r\n", body.len()).as_bytes())?;
        phone.wire.write(body)?;
        phone.wire.write(b"\r\n")?;
        let told = String::from_utf8(phone.wire.line()?)?;
        ensure!(told.starts_with("a OK "), "{told}");
    }
    let mut desk = demo.imap_as(COMUNE)?;
    for imap in [&mut phone, &mut desk] {
        imap.ok("SELECT Bozze")?;
    }
    // More than the sockets between them hold: most of it is read from the store later.
    desk.wire.write(b"f FETCH 1:* BODY.PEEK[]\r\n")?;
    let first = desk.response()?;
    phone.ok("STORE 1:* +FLAGS.SILENT (\\Deleted)")?;
    phone.ok("EXPUNGE")?;
    // What dies moves, or goes.
    phone.ok("NOOP")?;
    let mut came = vec![first];
    let end = loop {
        let response = desk.response()?;
        if response.starts_with(b"f ") {
            break String::from_utf8(response)?;
        }
        if response.ends_with(b")") && response.contains(&b'{') {
            came.push(response);
        }
    };
    // Those whose turn came before they were gone, each whole; and it says if some were gone.
    for (number, (response, body)) in came.iter().zip(&bodies).enumerate() {
        let expected =
            [format!("* {} FETCH (BODY[] {{{OCTETS}}}\r\n", number + 1).as_bytes(), body, b")"]
                .concat();
        ensure!(*response == expected, "message {} is not whole", number + 1);
    }
    match came.len() {
        MESSAGES => ensure!(end.starts_with("f OK "), "{end}"),
        _ => ensure!(end.starts_with("f NO [EXPUNGEISSUED] "), "{} and {end}", came.len()),
    }
    ensure!(desk.ok("NOOP")?.tagged == "OK NOOP completed");
    let log = std::fs::read_to_string(&demo.log)?;
    ensure!(!log.contains("cannot be read"), "{log}");
    Ok(())
}

/// Who promises something and never sends it is let go when the time for it is over.
#[test]
fn what_never_comes_is_not_waited_for_without_end() -> anyhow::Result<()> {
    let (_folder, demo) = demo()?;
    let patience = Duration::from_secs(90);
    let mut ends: Vec<(Wire, &[&str], Duration)> = Vec::new();
    let strangers = Duration::from_secs(60);
    let mut imap = inside(&demo, "imaps")?;
    imap.write(b"a LOGIN {10}\r\n")?;
    hears(&mut imap, &["+ Go on"])?;
    ends.push((imap, &["* BYE Nothing came for too long: connect again"], strangers));
    let mut imap = clear(&demo, "imap")?;
    imap.write(b"a LOGIN {10+}\r\nmar")?;
    ends.push((imap, &["* BYE Nothing came for too long: connect again"], strangers));
    let mut smtp = clear(&demo, "smtp")?;
    smtp.write(b"EHLO clie")?;
    ends.push((smtp, &["421 4.4.2 Idle for too long, closing: connect again"], strangers));
    let mut smtp = inside(&demo, "submissions")?;
    smtp.write(b"AUTH PLAIN\r\n")?;
    hears(&mut smtp, &["503 5.5.1 Send EHLO first"])?;
    ends.push((smtp, &["421 4.4.2 Idle for too long, closing: connect again"], strangers));
    // Half a handshake, where nothing can be said: the first octets of a ClientHello, promised 512.
    for service in ["imaps", "submissions"] {
        let mut raw = Wire::clear(demo.address(service)?)?;
        raw.write(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")?;
        ends.push((raw, &[], Duration::from_secs(10)));
    }
    let began = Instant::now();
    a_good_message_is_all_that_arrives(&demo)?;
    ends.sort_by_key(|(_, _, wait)| *wait);
    for (mut wire, words, wait) in ends {
        wire.patience(patience)?;
        hears(&mut wire, words)?;
        wire.closed()?;
        let waited = began.elapsed();
        let late = wait + Duration::from_secs(60);
        ensure!(waited + Duration::from_secs(5) > wait && waited < late, "{words:?}: {waited:?}");
    }
    Ok(())
}

#[test]
fn what_is_no_handshake_is_cut_off() -> anyhow::Result<()> {
    let (_folder, demo) = demo()?;
    for service in ["imaps", "submissions"] {
        for garbage in
            [&b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..], &[0xff; 4096], b"EHLO a\r\n"]
        {
            let mut socket = TcpStream::connect(demo.address(service)?)?;
            socket.set_read_timeout(Some(wire::ANSWER_WAIT))?;
            socket.write_all(garbage)?;
            let mut answer = Vec::new();
            // Octets that nobody read make the close a reset.
            let _ = socket.read_to_end(&mut answer);
            // At most an alert of TLS: its type, the version, two octets; no word in clear.
            ensure!(answer.is_empty() || (answer[0] == 21 && answer.len() == 7), "{answer:?}");
        }
        // A handshake that ends in the middle, by the client's will.
        let mut socket = TcpStream::connect(demo.address(service)?)?;
        socket.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")?;
        drop(socket);
    }
    // After STARTTLS the same: nothing is said in clear any more.
    for (service, command, go_on) in [
        ("imap", "a STARTTLS", "a OK Begin TLS now"),
        ("submission", "STARTTLS", "220 2.0.0 Ready to start TLS"),
        ("smtp", "STARTTLS", "220 2.0.0 Ready to start TLS"),
    ] {
        let mut wire = clear(&demo, service)?;
        if service != "imap" {
            wire.write(b"EHLO client.example\r\n")?;
            while wire.line()?.get(3) == Some(&b'-') {}
        }
        wire.write(format!("{command}\r\n").as_bytes())?;
        hears(&mut wire, &[go_on])?;
        wire.write(b"NOOP\r\nNOOP\r\nNOOP\r\n")?;
        let Wire::Clear(socket) = &mut wire else { unreachable!("no TLS was started") };
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer);
        ensure!(answer.is_empty() || answer[0] == 21, "{service}: {answer:?}");
    }
    a_good_message_is_all_that_arrives(&demo)
}

#[test]
fn wrong_and_missing_credentials_open_nothing() -> anyhow::Result<()> {
    const WRONG: &str =
        "535 5.7.8 Authentication credentials invalid: check user name and password";
    const NO_LOGIN: &str = "NO [AUTHENTICATIONFAILED] User name or password not right";
    let (_folder, demo) = demo()?;
    let mut smtp = Smtp::connect(demo.address("submissions")?, &demo.tls())?;
    smtp.hello()?;
    // Missing: nothing can be sent without AUTH.
    smtp.wire.write(format!("MAIL FROM:<{MARIO}>\r\nRCPT TO:<{COMUNE}>\r\nDATA\r\n").as_bytes())?;
    hears(&mut smtp.wire, &["530 5.7.0 Authentication required: send AUTH first"; 3])?;
    // Wrong password, unknown user, nothing at all, no base64, no such mechanism: five failures
    // that are logins end it.
    for (command, replies) in [
        ("AUTH PLAIN AG1yb3NzaQBzYmFnbGlhdGE=", &[WRONG][..]),
        ("AUTH PLAIN AG5lc3N1bm8AY2VyYWxhY2NhLWRlbW8=", &[WRONG]),
        ("AUTH PLAIN AAA=", &[WRONG]),
        ("AUTH PLAIN ???", &["501 5.5.2 Not valid base64: start AUTH again"]),
        ("AUTH CRAM-MD5", &["504 5.5.4 Mechanism not supported: use one that EHLO announced"]),
        ("AUTH LOGIN", &["334 VXNlcm5hbWU6"]),
        ("bXJvc3Np", &["334 UGFzc3dvcmQ6"]),
        ("", &[WRONG]),
        (
            "AUTH PLAIN AG1yb3NzaQA=",
            &[WRONG, "421 4.7.0 Too many failed logins, closing: check user name and password"],
        ),
    ] {
        smtp.wire.write(format!("{command}\r\n").as_bytes())?;
        hears(&mut smtp.wire, replies).with_context(|| command.to_owned())?;
    }
    smtp.wire.closed()?;
    let mut imap = Imap::connect(demo.address("imaps")?, &demo.tls())?;
    for (command, reply) in [
        ("SELECT INBOX", "BAD Sign in first"),
        ("LOGIN mrossi sbagliata", NO_LOGIN),
        ("LOGIN nessuno ceralacca-demo", NO_LOGIN),
        ("LOGIN \"\" \"\"", NO_LOGIN),
        ("FETCH 1 BODY[]", "BAD Sign in first"),
        ("AUTHENTICATE PLAIN AG1yb3NzaQBzYmFnbGlhdGE=", NO_LOGIN),
        // A service address has no login until the operator opens it.
        ("LOGIN posta-certificata@pec.alfa.example \"\"", NO_LOGIN),
    ] {
        let replies = imap.command(command)?;
        ensure!(replies.tagged == reply && replies.untagged.is_empty(), "{command}: {replies:?}");
    }
    hears(&mut imap.wire, &["* BYE Too many failed attempts: connect again later"])?;
    imap.wire.closed()?;
    // In clear no credentials are taken at all (PEC-AP-01).
    let mut smtp = Smtp::connect_clear(demo.address("submission")?)?;
    smtp.hello()?;
    smtp.wire.write(b"AUTH PLAIN AG1yb3NzaQBjZXJhbGFjY2EtZGVtbw==\r\n")?;
    hears(&mut smtp.wire, &["538 5.7.11 Encryption required: send STARTTLS before AUTH"])?;
    let mut imap = clear(&demo, "imap")?;
    imap.write(b"a LOGIN mrossi ceralacca-demo\r\n")?;
    hears(&mut imap, &["a NO [PRIVACYREQUIRED] TLS first: use STARTTLS, or port 993"])?;
    a_good_message_is_all_that_arrives(&demo)
}

/// RFC 3207 §4.2, RFC 9051 §6.2.1: what was said in clear is forgotten, and what stands behind
/// STARTTLS is never answered inside TLS.
#[test]
fn commands_behind_starttls_are_not_obeyed() -> anyhow::Result<()> {
    let (_folder, demo) = demo()?;
    for service in ["smtp", "submission"] {
        let mut smtp = Smtp::connect_clear(demo.address(service)?)?;
        smtp.hello()?;
        let behind = format!("RSET\r\nMAIL FROM:<{MARIO}>\r\nQUIT\r\n");
        smtp.wire.write(format!("STARTTLS\r\n{behind}").as_bytes())?;
        hears(&mut smtp.wire, &["220 2.0.0 Ready to start TLS"])?;
        let mut smtp = Smtp { wire: smtp.wire.start_tls(&demo.tls())? };
        // The first words inside are the answers to what is said inside; EHLO is to come again.
        smtp.wire.write(b"AUTH PLAIN AG1yb3NzaQBjZXJhbGFjY2EtZGVtbw==\r\nNOOP\r\n")?;
        hears(&mut smtp.wire, &["503 5.5.1 Send EHLO first", "250 2.0.0 Done"])?;
    }
    let mut imap = clear(&demo, "imap")?;
    imap.write(b"a STARTTLS\r\nb LOGIN mrossi ceralacca-demo\r\nc LOGOUT\r\n")?;
    hears(&mut imap, &["a OK Begin TLS now"])?;
    let mut imap = imap.start_tls(&demo.tls())?;
    imap.write(b"d SELECT INBOX\r\n")?;
    hears(&mut imap, &["d BAD Sign in first"])?;
    a_good_message_is_all_that_arrives(&demo)
}

/// At a door, where MAIL may be said.
fn at(demo: &Demo, door: &str) -> anyhow::Result<Smtp> {
    let (service, starttls) = match door.split_once(", then STARTTLS") {
        Some((service, _)) => (service, true),
        None => (door, false),
    };
    if service == "submissions" {
        return demo.submit_as(MARIO);
    }
    let mut smtp = Smtp::connect_clear(demo.address(service)?)?;
    smtp.hello()?;
    if starttls {
        smtp = smtp.start_tls(&demo.tls())?;
        smtp.hello()?;
    }
    if service == "submission" {
        smtp.login(MARIO, scenarios::demo::PASSWORD)?;
    }
    Ok(smtp)
}

/// RFC 5321 §2.3.8: only CRLF ends a line, so only CRLF.CRLF ends a message; what could be read as
/// a second one is not heard.
#[test]
fn no_other_line_end_ends_a_message_or_begins_another() -> anyhow::Result<()> {
    const BARE_CR: &str = "550 5.6.0 Bare CR in the message: end each line with CRLF";
    const BARE_LF: &str = "550 5.6.0 Bare LF in the message: end each line with CRLF";
    const CLOSING: &str = "421 4.7.0 What follows such a message cannot be trusted, closing";
    const BARE: &str = "500 5.5.2 Bare CR, LF or NUL in a command: end each line with CRLF";
    let (_folder, demo) = demo()?;
    let smuggled = message(MARIO, &[ACCOUNTS[2]], "<contrabbando@cliente.example>", 10);
    let smuggled = String::from_utf8(smuggled)?;
    let text = String::from_utf8(message(MARIO, &[COMUNE], "<esca@cliente.example>", 10))?;
    let text = text.trim_end();
    // On each door that takes mail, before TLS and inside it; one word after the other, and all in a row.
    for (door, sender) in [
        ("smtp", "x@altrove.example"),
        ("smtp, then STARTTLS", "x@altrove.example"),
        ("submissions", MARIO),
        ("submission, then STARTTLS", MARIO),
    ] {
        let behind = format!(
            "MAIL FROM:<{sender}>\r\nRCPT TO:<{}>\r\nDATA\r\n{smuggled}\r\n.\r\nQUIT\r\n",
            ACCOUNTS[2]
        );
        for (before, after, fault) in [
            ("\n", "\n", BARE_LF),
            ("\n", "\r\n", BARE_LF),
            ("\r\n", "\n", BARE_LF),
            ("\n", "\r", BARE_LF),
            ("\r", "\r", BARE_CR),
            ("\r", "\n", BARE_CR),
            ("\r", "\r\n", BARE_CR),
            ("\r\n", "\r", BARE_CR),
            ("\r\r\n", "\r\n", BARE_CR),
            ("\r\n", "\r\r\n", BARE_CR),
            ("\n\n", "\n\n", BARE_LF),
        ] {
            for pipelined in [false, true] {
                let mut smtp = at(&demo, door)?;
                let envelope = [
                    (format!("MAIL FROM:<{sender}>\r\n"), "250 2.1.0 Sender accepted"),
                    (format!("RCPT TO:<{COMUNE}>\r\n"), "250 2.1.5 Recipient accepted"),
                    ("DATA\r\n".to_owned(), "354 Send the message, end it with <CRLF>.<CRLF>"),
                ];
                let content = format!("{text}{before}.{after}{behind}");
                let label = || format!("{door}, {before:?}.{after:?}, in a row: {pipelined}");
                if pipelined {
                    let all: String = envelope.iter().map(|(said, _)| said.as_str()).collect();
                    smtp.wire.write((all + &content).as_bytes())?;
                    let replies = envelope.each_ref().map(|(_, reply)| *reply);
                    hears(&mut smtp.wire, &replies).with_context(label)?;
                } else {
                    for (said, reply) in &envelope {
                        smtp.wire.write(said.as_bytes())?;
                        hears(&mut smtp.wire, &[reply]).with_context(label)?;
                    }
                    smtp.wire.write(content.as_bytes())?;
                }
                hears(&mut smtp.wire, &[fault, CLOSING]).with_context(label)?;
                smtp.wire.closed()?;
            }
        }
    }
    // Among commands: one line, whatever is in it, and never two; before TLS and inside it.
    for command in ["NOOP\nQUIT", "NOOP\rQUIT", "NOOP\r", "\nQUIT", "NOOP\0"] {
        for mut wire in [clear(&demo, "smtp")?, inside(&demo, "submissions")?] {
            wire.write(format!("{command}\r\nNOOP\r\n").as_bytes())?;
            hears(&mut wire, &[BARE, "250 2.0.0 Done"]).with_context(|| format!("{command:?}"))?;
        }
    }
    a_good_message_is_all_that_arrives(&demo)
}

/// So many parts, one in the other.
const NESTED: usize = 10_000;

fn nested_messages() -> String {
    let level = "Content-Type: message/rfc822\r\n\r\n";
    format!("{}Subject: in fondo\r\n\r\nfine\r\n", level.repeat(NESTED))
}

fn nested_multiparts() -> String {
    let mut text = String::new();
    for level in 0..NESTED {
        text += &format!("Content-Type: multipart/mixed; boundary=b{level}\r\n\r\n--b{level}\r\n");
    }
    text + "\r\nfine\r\n"
}

#[test]
fn ten_thousand_parts_in_each_other_are_certified_and_read() -> anyhow::Result<()> {
    let (_folder, demo) = demo()?;
    let mut smtp = demo.submit_as(MARIO)?;
    let mut other = demo.imap_as(ACCOUNTS[1])?;
    for (count, nested) in [(1, nested_messages()), (2, nested_multiparts())] {
        let head = format!(
            "From: {MARIO}\r\nTo: {COMUNE}\r\nSubject: nido\r\nMessage-ID: <nido.{count}@cliente.example>\r\n\
             Date: Sat, 21 Nov 2026 10:00:00 +0100\r\nMIME-Version: 1.0\r\n"
        );
        let began = Instant::now();
        smtp.submit(MARIO, &[COMUNE], format!("{head}{nested}").as_bytes())?;
        let mut imap = demo.imap_as(COMUNE)?;
        imap.wait_for_count("INBOX", count)?;
        imap.ok("SELECT INBOX")?;
        for item in
            ["BODYSTRUCTURE", "ENVELOPE", "BODY", "BODY.PEEK[1.2.MIME]", "BODY.PEEK[1.2.1.1.1.1]"]
        {
            let replies = imap.ok(&format!("FETCH {count} ({item})"))?;
            ensure!(replies.untagged.len() == 1, "{item}: {} responses", replies.untagged.len());
            let fetched = String::from_utf8_lossy(&replies.untagged[0]).into_owned();
            ensure!(fetched.starts_with(&format!("* {count} FETCH (")), "{item}: {fetched:.80}");
        }
        // A path through all of it, and one that no message has.
        let path = "1.".repeat(NESTED);
        for path in [format!("{path}1"), "4294967295".to_owned()] {
            let command = format!("FETCH {count} (BODY.PEEK[{path}])");
            imap.command(&command)?;
        }
        imap.ok("SEARCH TEXT in.fondo BODY fine SUBJECT nido")?;
        let took = began.elapsed();
        ensure!(took < Duration::from_secs(60), "it took {took:?}");
        other.ok("NOOP")?;
    }
    demo.settle()?;
    // Acceptance and delivery of both.
    ensure!(demo.imap_as(MARIO)?.count("INBOX")? == 4);
    ensure!(demo.stop()?.success());
    Ok(())
}

#[test]
fn ten_thousand_slow_clients_do_not_starve_a_good_one() -> anyhow::Result<()> {
    const SLOW: usize = 10_000;
    const SECONDS: u64 = 5;
    /// What a connection may cost that says next to nothing.
    const COST_KIB_MAX: u64 = 40;
    scenarios::demo::raise_descriptor_limit()?;
    let folder = tempfile::tempdir()?;
    let limits = "unthrottled = [\"127.0.0.0/8\"]";
    let more = format!("{limits}\nconnections_max = {}", SLOW + 100);
    let demo = Demo::start_changed(&folder.path().join("demo"), &[(limits, &more)], "")?;
    let before = demo.resident_kib()?;
    let services = ["smtp", "submission", "imap", "imaps", "submissions"];
    let mut slow = Vec::new();
    for number in 0..SLOW {
        let socket = TcpStream::connect(demo.address(services[number % services.len()])?)?;
        socket.set_nodelay(true)?;
        slow.push(socket);
    }
    let second = |number: u64, began: Instant| {
        wire::until("the next second", || {
            Ok((began.elapsed() > Duration::from_secs(number)).then_some(()))
        })
    };
    for socket in &mut slow {
        socket.write_all(b"E")?;
    }
    second(1, Instant::now())?;
    // Before anybody signs in: a login takes 19 MiB for a moment (Argon2), which is not theirs.
    let cost_kib = demo.resident_kib()?.saturating_sub(before) / SLOW as u64;
    ensure!(cost_kib < COST_KIB_MAX, "{cost_kib} KiB for each");
    let began = Instant::now();
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let good = scope.spawn(|| a_good_message_is_all_that_arrives(&demo));
        for number in 1..=SECONDS {
            for socket in &mut slow {
                // The server may have enough of it: that is its right.
                let _ = socket.write_all(b"E");
            }
            second(number, began)?;
        }
        good.join().map_err(|_| anyhow::anyhow!("the good client panicked"))?
    })?;
    drop(slow);
    ensure!(demo.stop()?.success());
    Ok(())
}
