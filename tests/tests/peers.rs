//! Postfix, Exim and OpenSMTPD as Debian has them, in both directions: what they hand to us, what we hand
//! to them, and what becomes of it when one of the two is not there or says no.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, ensure};
use scenarios::dns::Dns;
use scenarios::mta::{Kind, Mta, Setting, free_address};
use scenarios::pair::pair;
use scenarios::process::run;
use scenarios::smtp::stuffed;
use scenarios::{Demo, Smtp, wire};

const MARIO: &str = "mario.rossi@pec.alfa.example";
const VERDI: &str = "studio.verdi@pec.beta.example";
const CLIENT: &str = "cliente@ordinary.example";
/// The domain of Mario, for the routes of a peer.
const ALFA: &str = "pec.alfa.example";
/// What the demo's configuration says of ordinary mail.
const POLICY: &str = "policy = \"deliver\"";

/// Each scenario with each peer, as a test of its own; with none where nobody may start them.
macro_rules! with_each_peer {
    ($($scenario:ident),+ $(,)?) => {
        mod postfix {
            $(#[test] fn $scenario() -> anyhow::Result<()> { super::with(super::Kind::Postfix, super::$scenario) })+
        }
        mod exim {
            $(#[test] fn $scenario() -> anyhow::Result<()> { super::with(super::Kind::Exim, super::$scenario) })+
        }
        mod opensmtpd {
            $(#[test] fn $scenario() -> anyhow::Result<()> { super::with(super::Kind::OpenSmtpd, super::$scenario) })+
        }
    };
}

with_each_peer!(
    ordinary_mail_comes_over_tls_and_is_enclosed_whatever_it_says_of_itself,
    what_we_refuse_is_reported_by_the_peer_in_our_words,
    certified_mail_passes_through_a_peer_and_keeps_its_octets,
    an_ordinary_recipient_gets_the_envelope_octet_for_octet_by_route_and_by_mx,
    a_peer_that_is_down_and_then_puts_off_gets_one_copy,
    what_a_peer_cannot_deliver_comes_back_as_a_report,
);

fn with(kind: Kind, scenario: fn(Kind) -> anyhow::Result<()>) -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        scenarios::say(&format!("{} not run: only root starts it", kind.name()));
        return Ok(());
    }
    scenario(kind)
}

/// A demo that sends mail for these domains there.
fn demo(data: &Path, routes: &[(&str, SocketAddr)], more: &str) -> anyhow::Result<Demo> {
    let routes: String = routes.iter().map(|(to, at)| format!("{to:?} = \"{at}\"\n")).collect();
    Demo::start_changed(data, &[], &format!("\n[routes]\n{routes}{more}"))
}

/// A peer that keeps the mail of `ordinary.example` and `mx.example`.
fn setting(listen: SocketAddr, routes: &[(&str, SocketAddr)]) -> Setting {
    Setting {
        listen,
        keeps: vec!["ordinary.example".to_owned(), "mx.example".to_owned()],
        routes: routes.iter().map(|(to, at)| ((*to).to_owned(), *at)).collect(),
        puts_off: false,
        tls: None,
        more: String::new(),
    }
}

fn letter(from: &str, to: &[&str], more: &str) -> Vec<u8> {
    format!(
        "{more}From: {from}\r\nTo: {}\r\nSubject: Offerta\r\nMessage-ID: <1@pc.example>\r\n\
         Date: Mon, 14 Sep 2026 09:30:01 +0200\r\n\r\nSi allega.\r\n.\r\n..fine\r\n",
        to.join(", ")
    )
    .into_bytes()
}

/// Has the peer take a message, as a client of its own network.
fn bring(mta: &Mta, from: &str, to: &str, message: &[u8]) -> anyhow::Result<()> {
    let mut smtp = Smtp::connect_clear(mta.listen())?;
    smtp.hello()?;
    smtp.command(&format!("MAIL FROM:<{from}>"), "250")?;
    smtp.command(&format!("RCPT TO:<{to}>"), "250")?;
    smtp.command("DATA", "354")?;
    smtp.wire.write(&stuffed(message))?;
    smtp.expect("250")?;
    smtp.command("QUIT", "221")?;
    Ok(())
}

/// The messages of an INBOX, once there are so many.
fn inbox(demo: &Demo, login: &str, count: u64) -> anyhow::Result<Vec<String>> {
    let mut imap = demo.imap_as(login)?;
    imap.wait_for_count("INBOX", count)?;
    let messages = imap.messages("INBOX")?;
    Ok(messages.into_iter().map(|(_, octets)| String::from_utf8_lossy(&octets).into()).collect())
}

/// A command on the provider in `data`: one JSON object a line.
fn told(data: &Path, arguments: &[&str]) -> anyhow::Result<Vec<serde_json::Value>> {
    let config = data.join("ceralacca.toml");
    let config = config.to_str().context("a path that is no text")?;
    let output = run(&[arguments, &["--json", "--config", config]].concat(), "")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout)?;
    lines.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// The records of an event, in the log of what happened to this message.
fn records(data: &Path, id: &str, event: &str) -> anyhow::Result<Vec<serde_json::Value>> {
    let mut records = told(data, &["log", "find", "--message-id", id])?;
    records.retain(|record| record["event"] == event);
    Ok(records)
}

/// A header field's value, of the message's own header.
fn field<'a>(message: &'a str, name: &str) -> Option<&'a str> {
    let (header, _) = message.split_once("\r\n\r\n")?;
    header.split("\r\n").find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

// PEC-BA-01
fn ordinary_mail_comes_over_tls_and_is_enclosed_whatever_it_says_of_itself(
    kind: Kind,
) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let demo = demo(&folder.path().join("demo"), &[], "")?;
    let routes = [(ALFA, demo.address("smtp")?)];
    let mta = Mta::started(kind, setting(free_address(2525)?, &routes))?;
    bring(&mta, CLIENT, MARIO, &letter(CLIENT, &[MARIO], ""))?;
    let arrived = inbox(&demo, "mrossi", 1).with_context(|| mta.log())?;
    ensure!(field(&arrived[0], "X-Trasporto") == Some("errore"), "{}", arrived[0]);
    ensure!(field(&arrived[0], "Return-Path") == Some(&format!("<{CLIENT}>")), "{}", arrived[0]);
    ensure!(arrived[0].contains("\r\nSi allega.\r\n.\r\n..fine\r\n"), "{}", arrived[0]);
    // It was enclosed with the trace of both hosts, and of the TLS between them.
    let by = format!("by {}.example", kind.name());
    ensure!(arrived[0].contains(&by) && arrived[0].contains("with ESMTPS"), "{}", arrived[0]);

    // What calls itself certified and is signed by nobody is no other.
    let claims = "X-Trasporto: posta-certificata\r\nX-Riferimento-Message-ID: <0@pc.example>\r\n";
    bring(&mta, CLIENT, MARIO, &letter(CLIENT, &[MARIO], claims))?;
    let arrived = inbox(&demo, "mrossi", 2).with_context(|| mta.log())?;
    ensure!(field(&arrived[1], "X-Trasporto") == Some("errore"), "{}", arrived[1]);
    ensure!(arrived[1].contains("\r\nX-Trasporto: posta-certificata\r\n"), "{}", arrived[1]);
    Ok(())
}

// PEC-GEN-17
fn what_we_refuse_is_reported_by_the_peer_in_our_words(kind: Kind) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("demo");
    let demo = Demo::start_changed(&data, &[(POLICY, "policy = \"reject\"")], "")?;
    let routes = [(ALFA, demo.address("smtp")?)];
    let mta = Mta::started(kind, setting(free_address(2525)?, &routes))?;
    bring(&mta, CLIENT, MARIO, &letter(CLIENT, &[MARIO], ""))?;
    // Its sender is kept by the same peer.
    let report = String::from_utf8_lossy(&mta.wait_for(1)?[0]).into_owned();
    // Blanks are where each likes.
    let dense = |text: &str| text.split_whitespace().collect::<String>();
    let recipient = format!("Final-Recipient: rfc822; {MARIO}");
    for part in ["message/delivery-status", "Action: failed", recipient.as_str(), REFUSED] {
        ensure!(dense(&report).contains(&dense(part)), "no {part:?} in {report}");
    }
    ensure!(demo.imap_as("mrossi")?.count("INBOX")? == 0);
    Ok(())
}

/// What ordinary mail is told where its recipient takes none.
const REFUSED: &str = "This mailbox takes certified mail only";

// PEC-BT-13
fn certified_mail_passes_through_a_peer_and_keeps_its_octets(kind: Kind) -> anyhow::Result<()> {
    let (mario, anna) = ("mario@pec.alfa.example", "anna@pec.alfa.example");
    let verdi = "verdi@pec.beta.example";
    let folder = tempfile::tempdir()?;
    let (alfa, beta) = pair(folder.path(), &["mario", "anna"], &["verdi"])?;
    // Alfa sends to Beta by way of the peer; Beta answers straight.
    let beta_at = SocketAddr::from(([127, 0, 0, 1], beta.smtp));
    let routes = [("pec.beta.example", beta_at)];
    let mta = Mta::started(kind, setting(free_address(2525)?, &routes))?;
    let text = std::fs::read_to_string(alfa.config())?;
    let (straight, around) = (format!("\"{beta_at}\""), format!("\"{}\"", mta.listen()));
    ensure!(text.contains(&straight), "{text}");
    std::fs::write(alfa.config(), text.replace(&straight, &around))?;
    let (alfa_runs, beta_runs) = (Demo::serve(&alfa.data)?, Demo::serve(&beta.data)?);
    let to = [verdi, anna];
    let mut smtp = alfa_runs.submit_as(mario)?;
    let id = smtp.submit(mario, &to, &letter(mario, &to, ""))?;
    if !mta.serves_tls() {
        scenarios::say("this machine has no OpenSMTPD that TLS works with: it must get nothing");
        // Between providers nothing travels in clear: it waits for a handshake that works.
        wire::until("a handshake that fails", || {
            let jobs = told(&alfa.data, &["queue", "list"])?;
            let why = jobs.iter().find_map(|job| job["last_error"].as_str());
            Ok(why.filter(|why| why.contains("TLS handshake failed")).map(|_| ()))
        })?;
        ensure!(records(&alfa.data, &id, "trasmissione")?.is_empty());
        ensure!(beta_runs.imap_as(verdi)?.count("INBOX")? == 0);
        return Ok(());
    }
    let received = inbox(&beta_runs, verdi, 1).with_context(|| mta.log())?;
    let beside = inbox(&alfa_runs, anna, 1)?;
    same_envelope(&received[0], &beside[0])?;
    // Acceptance, and the delivery to both: Beta's tests found the signature whole.
    let receipts = inbox(&alfa_runs, mario, 3)?;
    let mut kinds: Vec<_> = receipts.iter().filter_map(|text| field(text, "X-Ricevuta")).collect();
    kinds.sort_unstable();
    ensure!(kinds == ["accettazione", "avvenuta-consegna", "avvenuta-consegna"], "{kinds:?}");
    let sent = records(&alfa.data, &id, "trasmissione")?;
    ensure!(sent.len() == 1 && sent[0]["consegna"] == verdi, "{sent:?}");
    ensure!(sent[0].to_string().contains(&format!("[{}] with TLS", mta.listen())), "{sent:?}");
    Ok(())
}

/// Whether two copies of one envelope differ in nothing but the trace above them.
fn same_envelope(theirs: &str, ours: &str) -> anyhow::Result<()> {
    let trace = ["Return-Path:", "Received:", "Delivered-To:", "X-Original-To:"];
    let without = |text: &str| -> anyhow::Result<String> {
        let mut rest = text;
        while trace.iter().any(|name| rest.starts_with(name)) {
            loop {
                let (_, after) = rest.split_once("\r\n").context("a header without an end")?;
                rest = after;
                if !rest.starts_with([' ', '\t']) {
                    break;
                }
            }
        }
        Ok(rest.to_owned())
    };
    let (theirs, ours) = (without(theirs)?, without(ours)?);
    ensure!(ours.starts_with("X-Trasporto: posta-certificata\r\n"), "{ours}");
    ensure!(theirs == ours, "they have\n{theirs}\nwhere we have\n{ours}");
    Ok(())
}

// PEC-GEN-16 RFC 5321 §5.1
fn an_ordinary_recipient_gets_the_envelope_octet_for_octet_by_route_and_by_mx(
    kind: Kind,
) -> anyhow::Result<()> {
    let by_mx = "cliente@mx.example";
    let folder = tempfile::tempdir()?;
    let mta = Mta::started(kind, setting(free_address(25)?, &[]))?;
    let SocketAddr::V4(listen) = mta.listen() else { anyhow::bail!("no IPv4") };
    let dns = Dns::start(&[])?;
    dns.set_mx("mx.example", "mail.mx.example");
    dns.set_address("mail.mx.example", *listen.ip());
    let names = format!(
        "\n[dns]\nnameservers = [\"{}\"]\n[transport]\nprivate_networks = true\n",
        dns.address
    );
    let data = folder.path().join("demo");
    let demo = demo(&data, &[("ordinary.example", mta.listen())], &names)?;
    let to = [VERDI, CLIENT, by_mx];
    let id = demo.submit_as("mrossi")?.submit(MARIO, &to, &letter(MARIO, &to, ""))?;
    let kept = mta.wait_for(2)?;
    let ours = inbox(&demo, "sverdi", 1)?;
    for copy in &kept {
        same_envelope(&String::from_utf8_lossy(copy), &ours[0])?;
    }
    demo.settle()?;
    let sent = records(&data, &id, "trasmissione")?;
    let mut whom: Vec<_> = sent.iter().filter_map(|record| record["consegna"].as_str()).collect();
    whom.sort_unstable();
    ensure!(whom == [by_mx, CLIENT], "{sent:?}");
    // Whose TLS does not work gets ordinary mail in clear, and the log says so (RFC 7435 §3).
    let how = if mta.serves_tls() { "] with TLSv1_3 " } else { "] in clear" };
    ensure!(sent.iter().all(|record| record.to_string().contains(how)), "{sent:?}");
    ensure!(mta.inbox()?.len() == 2 && dns.asked() > 0);
    Ok(())
}

// PEC-BT-14 RFC 5321 §4.5.4.1
fn a_peer_that_is_down_and_then_puts_off_gets_one_copy(kind: Kind) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let mut mta = Mta::new(kind, setting(free_address(2525)?, &[]))?;
    let data = folder.path().join("demo");
    let demo = demo(&data, &[("ordinary.example", mta.listen())], "")?;
    let id = demo.submit_as("mrossi")?.submit(MARIO, &[CLIENT], &letter(MARIO, &[CLIENT], ""))?;
    let waits_for = |reason: &str| {
        wire::until(reason, || {
            let jobs = told(&data, &["queue", "list"])?;
            let why = jobs.iter().find_map(|job| job["last_error"].as_str());
            Ok(why.filter(|why| why.contains(reason)).map(|_| ()))
        })
    };
    waits_for("Connection refused")?;
    mta.puts_off(true);
    mta.start()?;
    waits_for("Greylisted, come back")?;
    mta.stop()?;
    ensure!(mta.inbox()?.is_empty() && records(&data, &id, "trasmissione")?.is_empty());
    mta.puts_off(false);
    mta.start()?;
    let kept = mta.wait_for(1)?;
    let kept = String::from_utf8_lossy(&kept[0]);
    ensure!(field(&kept, "Message-ID") == Some(format!("<{id}>").as_str()), "{kept}");
    demo.settle()?;
    ensure!(records(&data, &id, "trasmissione")?.len() == 1);
    ensure!(told(&data, &["queue", "list"])?.is_empty());
    ensure!(mta.inbox()?.len() == 1);
    Ok(())
}

// RFC 3464 §2: a report is mail that nobody certified, also when it is about certified mail.
fn what_a_peer_cannot_deliver_comes_back_as_a_report(kind: Kind) -> anyhow::Result<()> {
    let gone = "nessuno@gone.example";
    let folder = tempfile::tempdir()?;
    let listen = free_address(2525)?;
    let demo = demo(&folder.path().join("demo"), &[("gone.example", listen)], "")?;
    // It takes the message, and the host that it is for (ourselves) does not.
    let ours = demo.address("smtp")?;
    let mta = Mta::started(kind, setting(listen, &[(ALFA, ours), ("gone.example", ours)]))?;
    let id = demo.submit_as("mrossi")?.submit(MARIO, &[gone], &letter(MARIO, &[gone], ""))?;
    let arrived = inbox(&demo, "mrossi", 2).with_context(|| mta.log())?;
    let mut kinds: Vec<_> = arrived
        .iter()
        .filter_map(|text| field(text, "X-Ricevuta").or(field(text, "X-Trasporto")))
        .collect();
    kinds.sort_unstable();
    ensure!(kinds == ["accettazione", "errore"], "{kinds:?}");
    let report = arrived.iter().find(|text| field(text, "X-Trasporto").is_some());
    let report = report.context("no report")?;
    ensure!(field(report, "Return-Path") == Some("<>"), "{report}");
    for part in ["message/delivery-status", gone, &format!("<{id}>"), "This server does not relay"]
    {
        ensure!(report.contains(part), "no {part:?} in {report}");
    }
    Ok(())
}

/// What Postfix counted on each connection: of each command, those that it took.
fn connections(log: &str) -> Vec<Vec<(&str, usize)>> {
    let ended = log.lines().filter_map(|line| line.split_once(": disconnect from "));
    let counts = ended.map(|(_, counts)| {
        let counts = counts.split(' ').filter_map(|word| word.split_once('='));
        counts.filter_map(|(verb, count)| Some((verb, count.parse().ok()?))).collect()
    });
    counts.collect()
}

// RFC 2920 §3.1, RFC 3030 §2, RFC 5321 §4.5.4.1
#[test]
fn messages_share_a_connection_and_use_what_the_host_offers_and_nothing_else() -> anyhow::Result<()>
{
    with(Kind::Postfix, |kind| {
        const MESSAGES: usize = 8;
        // It tells of commands that came before the answer to those before them.
        let strict = "smtpd_data_restrictions = reject_unauth_pipelining\n";
        let less = "smtpd_discard_ehlo_keywords = chunking, pipelining\n";
        for (more, used, unused) in
            [(strict.to_owned(), "bdat", "data"), (strict.to_owned() + less, "data", "bdat")]
        {
            let folder = tempfile::tempdir()?;
            let more = Setting { more, ..setting(free_address(2525)?, &[]) };
            let mut mta = Mta::new(kind, more)?;
            let data = folder.path().join("demo");
            let demo = demo(&data, &[("ordinary.example", mta.listen())], "")?;
            // While the host is not there all of them gather.
            let to = [CLIENT, "altro@ordinary.example"];
            let mut smtp = demo.submit_as("mrossi")?;
            for _ in 0..MESSAGES {
                smtp.submit(MARIO, &to, &letter(MARIO, &to, ""))?;
            }
            wire::until("all of them in the queue", || {
                let waiting = told(&data, &["queue", "list"])?;
                Ok((waiting.len() == MESSAGES).then_some(()))
            })?;
            mta.start()?;
            told(&data, &["queue", "retry"])?;
            mta.wait_for(2 * MESSAGES)?;
            demo.settle()?;
            let counted = wire::until("the end of the connections", || {
                let log = mta.log();
                let all = connections(&log);
                let of = |verb: &str| -> usize {
                    all.iter().flatten().filter(|(name, _)| *name == verb).map(|(_, n)| n).sum()
                };
                let carried: Vec<usize> = all
                    .iter()
                    .filter_map(|one| one.iter().find(|(name, _)| *name == "mail"))
                    .map(|(_, count)| *count)
                    .collect();
                let counted = [of("mail"), of("rcpt"), of(used), of(unused), of("starttls")];
                Ok((counted[0] >= MESSAGES).then_some((counted, carried)))
            })?;
            let ([mail, rcpt, used, unused, tls], carried) = counted;
            ensure!((mail, rcpt) == (MESSAGES, 2 * MESSAGES), "{}", mta.log());
            ensure!((used, unused) == (MESSAGES, 0), "{}", mta.log());
            ensure!(!mta.log().contains("improper command pipelining"), "{}", mta.log());
            // TLS once for each connection, which carried several messages.
            ensure!(tls == carried.len() && carried.len() < MESSAGES, "{carried:?}");
            ensure!(carried.iter().any(|count| *count > 1), "{carried:?}");
        }
        Ok(())
    })
}
