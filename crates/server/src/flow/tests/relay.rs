//! Mail for other hosts: what a peer does to a connection, and what becomes of the message.

mod give_up;
mod lane;
mod over_tls;
mod refused;
mod reports;
mod waits;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use jiff::SignedDuration;
use mail::{Address, Domain, ReversePath};
use pec::exchange::PecId;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use store::{LogFilter, Octets, Source, Transaction};

use super::scene::{BIANCHI, ROSSI, Scene, address, message, now};
use crate::config::{OrdinaryMail, Route};
use crate::flow::dispatch::{Content, Parcel, relays};
use crate::flow::octets_of;
use crate::transport::Waits;

const DOMAIN: &str = "altrove.example";
const TO: &str = "c@altrove.example";

/// What a peer does in one connection.
#[derive(Clone, Default)]
struct Script {
    /// Goes away after so many octets, taken and sent.
    cut: Option<usize>,
    /// Answers the command that begins so with this instead; `""` is the connection, `.` the end of
    /// the content.
    instead: Vec<(&'static str, String)>,
    /// Reads on at this command, and answers nothing.
    mute_at: Option<&'static str>,
    /// After its `220` to STARTTLS it reads on, and begins no handshake.
    holds_tls: bool,
    /// Reads nothing more once content comes, until it meets the test.
    stops_in_content: Option<Arc<Barrier>>,
    /// Meets the test twice at this command, before it answers it.
    meets: Option<(&'static str, Arc<Barrier>)>,
    /// Lines of its answer to EHLO.
    offers: Vec<&'static str>,
    /// What TLS it speaks, when it is asked to.
    tls: Option<Arc<ServerConfig>>,
    /// How many octets had come and gone when TLS stood.
    tls_stood: Arc<AtomicUsize>,
}

/// A peer on the loopback that takes mail in clear, one connection after another.
struct Host {
    address: SocketAddr,
    scripts: Sender<Script>,
    /// The content of each message that came whole, and whether all of its `250` was sent.
    taken: Arc<Mutex<Vec<(String, bool)>>>,
    connections: Arc<AtomicUsize>,
}

impl Host {
    fn start() -> Self {
        Self::at("127.0.0.1:0")
    }

    fn at(place: &str) -> Self {
        let listener = TcpListener::bind(place).unwrap();
        let address = listener.local_addr().unwrap();
        let (scripts, next) = channel();
        let taken = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(AtomicUsize::new(0));
        let host =
            Self { address, scripts, taken: taken.clone(), connections: connections.clone() };
        std::thread::spawn(move || serve(&listener, &next, &taken, &connections));
        host
    }

    /// The next connection goes so; those that nothing was said of go well.
    fn next(&self, script: Script) {
        self.scripts.send(script).unwrap();
    }

    fn taken(&self) -> Vec<(String, bool)> {
        std::mem::take(&mut *self.taken.lock().unwrap())
    }
}

fn serve(
    listener: &TcpListener,
    next: &Receiver<Script>,
    taken: &Mutex<Vec<(String, bool)>>,
    connections: &AtomicUsize,
) {
    while let Ok((socket, _)) = listener.accept() {
        connections.fetch_add(1, Ordering::SeqCst);
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let script = next.try_recv().unwrap_or_default();
        let left = script.cut.unwrap_or(usize::MAX);
        let wire = Box::new(Cut { socket, left });
        // That the sender went away, or the cut came, ends this connection and no more.
        let _ = Session { wire, script }.run(taken);
    }
}

/// A connection that ends after so many octets, whichever way they go.
struct Cut {
    socket: TcpStream,
    left: usize,
}

impl Cut {
    fn next(&mut self, octets: usize) -> io::Result<usize> {
        match octets.min(self.left) {
            0 => Err(io::ErrorKind::BrokenPipe.into()),
            count => Ok(count),
        }
    }
}

impl Read for Cut {
    fn read(&mut self, octets: &mut [u8]) -> io::Result<usize> {
        let count = self.next(octets.len())?;
        let count = self.socket.read(&mut octets[..count])?;
        self.left -= count;
        Ok(count)
    }
}

impl Write for Cut {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let count = self.next(octets.len())?;
        let count = self.socket.write(&octets[..count])?;
        self.left -= count;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

trait Wire: Read + Write {
    /// The same connection over TLS, and how many octets are left of it then.
    fn over_tls(self: Box<Self>, tls: Arc<ServerConfig>) -> io::Result<(Box<dyn Wire>, usize)>;
}

impl Wire for Cut {
    fn over_tls(mut self: Box<Self>, tls: Arc<ServerConfig>) -> io::Result<(Box<dyn Wire>, usize)> {
        let mut session = ServerConnection::new(tls).map_err(io::Error::other)?;
        while session.is_handshaking() {
            session.complete_io(&mut *self)?;
        }
        let left = self.left;
        Ok((Box::new(StreamOwned::new(session, *self)), left))
    }
}

impl Wire for StreamOwned<ServerConnection, Cut> {
    fn over_tls(self: Box<Self>, _: Arc<ServerConfig>) -> io::Result<(Box<dyn Wire>, usize)> {
        Err(io::Error::other("TLS is on already"))
    }
}

struct Session {
    wire: Box<dyn Wire>,
    script: Script,
}

type Ended<T> = Result<T, ()>;

impl Session {
    fn run(mut self, taken: &Mutex<Vec<(String, bool)>>) -> Ended<()> {
        self.answer("", "220 mx.altrove.example")?;
        loop {
            let line = self.line()?;
            let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
            match verb.as_str() {
                "EHLO" => {
                    let mut lines = vec!["250-mx.altrove.example".to_owned()];
                    lines.extend(self.script.offers.iter().map(|word| format!("250-{word}")));
                    lines.push("250 HELP".to_owned());
                    self.answer("EHLO", &lines.join("\r\n"))?;
                }
                "DATA" => {
                    if self.answer("DATA", "354 go")? != "354 go" {
                        continue;
                    }
                    if let Some(barrier) = &self.script.stops_in_content {
                        barrier.wait();
                        return Err(());
                    }
                    let mut content = String::new();
                    loop {
                        match self.line()?.as_str() {
                            "." => break,
                            line => content += &format!("{line}\r\n"),
                        }
                    }
                    self.take(content, taken)?;
                }
                "BDAT" => {
                    let words: Vec<&str> = line.split(' ').collect();
                    // No message of these tests is longer than one chunk.
                    let &[_, octets, "LAST"] = words.as_slice() else { return Err(()) };
                    let mut content = vec![0; octets.parse().map_err(drop)?];
                    self.wire.read_exact(&mut content).map_err(drop)?;
                    self.take(String::from_utf8(content).map_err(drop)?, taken)?;
                }
                "QUIT" => return self.answer("QUIT", "221 bye").map(drop),
                "STARTTLS" => {
                    let tls = self.script.tls.clone();
                    let usual = if tls.is_some() { "220 go" } else { "454 not now" };
                    let said = self.answer("STARTTLS", usual)?;
                    match tls {
                        Some(tls) if said.starts_with("220") => {
                            let (wire, left) = self.wire.over_tls(tls).map_err(drop)?;
                            self.wire = wire;
                            let gone = self.script.cut.unwrap_or(usize::MAX) - left;
                            self.script.tls_stood.store(gone, Ordering::SeqCst);
                            self.script.offers.retain(|word| *word != "STARTTLS");
                        }
                        None if self.script.holds_tls => {
                            let mut octets = [0; 4096];
                            while self.wire.read(&mut octets).map_err(drop)? > 0 {}
                            return Ok(());
                        }
                        // And then no handshake.
                        None if said.starts_with("220") => return Ok(()),
                        _ => {}
                    }
                }
                // A whole line may have an answer of its own.
                other => {
                    let own = self.script.instead.iter().any(|(said, _)| *said == line);
                    self.answer(if own { &line } else { other }, "250 ok").map(drop)?;
                }
            }
        }
    }

    /// A message that came whole.
    fn take(&mut self, content: String, taken: &Mutex<Vec<(String, bool)>>) -> Ended<()> {
        let place = {
            let mut taken = taken.lock().unwrap();
            taken.push((content, false));
            taken.len() - 1
        };
        let told = self.answer(".", "250 2.0.0 taken")?;
        if told.starts_with("250") {
            taken.lock().unwrap()[place].1 = true;
        } else {
            taken.lock().unwrap().remove(place);
        }
        Ok(())
    }

    fn answer(&mut self, to: &str, usual: &str) -> Ended<String> {
        if let Some((verb, barrier)) = &self.script.meets
            && *verb == to
        {
            barrier.wait();
            barrier.wait();
        }
        if self.script.mute_at == Some(to) {
            let mut octets = [0; 4096];
            while self.wire.read(&mut octets).map_err(drop)? > 0 {}
            return Err(());
        }
        let said = self.script.instead.iter().find(|(verb, _)| *verb == to);
        let said = said.map_or(usual, |(_, text)| text).to_owned();
        self.wire.write_all(format!("{said}\r\n").as_bytes()).map_err(drop)?;
        // Over TLS only this says that it went.
        self.wire.flush().map_err(drop)?;
        if said.starts_with("421") { Err(()) } else { Ok(said) }
    }

    fn line(&mut self) -> Ended<String> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut octet = [0];
            self.wire.read_exact(&mut octet).map_err(drop)?;
            line.push(octet[0]);
        }
        line.truncate(line.len() - 2);
        String::from_utf8(line).map_err(drop)
    }
}

/// Has mail for [`DOMAIN`] go to this host.
fn route(scene: &Scene, to: SocketAddr) {
    let mut config = (**scene.site.config.load()).clone();
    let route = Route { host: to.ip().to_string(), port: to.port() };
    config.transport.routes.insert(Domain::parse(DOMAIN).unwrap(), route);
    config.ordinary_mail.policy = OrdinaryMail::Deliver(None);
    scene.site.config.store(Arc::new(config));
}

/// Has what is due sent, once; then an hour passes.
fn pass(scene: &Scene) {
    send(scene);
    let later = scene.site.clock.now() + SignedDuration::from_hours(1);
    scene.clock.turn_to(later);
}

/// The same, and no time passes.
fn send(scene: &Scene) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(crate::transport::once(&scene.site, Waits::default()));
}

fn waiting(scene: &Scene) -> u64 {
    scene.site.store.jobs_waiting().unwrap().0
}

/// Queues a short message of ours, without the pipeline before it.
fn queue(scene: &Scene, id: &str) {
    queue_to(scene, id, &[address(TO)]);
}

fn queue_to(scene: &Scene, id: &str, recipients: &[Address]) {
    let octets = format!("Message-ID: <{id}>\r\n\r\n.\r\nhi\r\n").into_bytes();
    let parcel = Parcel {
        reverse_path: &ReversePath::Address(address(ROSSI)),
        recipients,
        content: Content::Anomaly(PecId::parse(id).unwrap()),
        account: &address(ROSSI),
    };
    let step = Transaction {
        at: scene.site.clock.now(),
        enqueue: relays(&scene.site, &parcel, Source::New(0)).unwrap(),
        octets: vec![Octets::Inline(octets.into())],
        ..Transaction::default()
    };
    scene.site.store.commit(step).unwrap();
}

fn events(scene: &Scene) -> Vec<(String, Option<String>)> {
    let log = scene.site.store.log(&LogFilter::default(), 0, 10_000).unwrap();
    let relayed = log.into_iter().filter(|(_, r)| r.event.ends_with("trasmissione"));
    relayed.map(|(_, record)| (record.event, record.errore_esteso)).collect()
}

// Wherever the connection ends, a message arrives; and twice only when it ended between the end of
// the content and its answer, with the same identifier (RFC 5321 §4.5.3.2.6 knows why). Whatever the host
// offers: one word after another, all at once (RFC 2920), and the content with them (RFC 3030).
#[test]
fn a_connection_that_is_cut_at_any_octet_loses_nothing_and_doubles_nothing_but_in_the_window() {
    std::thread::scope(|scope| {
        for offers in [&[][..], &["PIPELINING"], &["PIPELINING", "CHUNKING"]] {
            scope.spawn(|| cut_at_any_octet(offers));
        }
    });
}

fn cut_at_any_octet(offers: &[&'static str]) {
    // Chunks are as they are; else the dot is doubled.
    let dot = if offers.contains(&"CHUNKING") { "." } else { ".." };
    let scene = Scene::new();
    let host = Host::start();
    route(&scene, host.address);
    let (mut whole, mut cut, mut doubled) = (false, 0, 0);
    while !whole {
        let id = format!("m{cut}@pec.alfa.example");
        queue(&scene, &id);
        host.next(Script { cut: Some(cut), offers: offers.to_vec(), ..Script::default() });
        pass(&scene);
        let first = host.taken();
        whole = waiting(&scene) == 0;
        // What is answered is done, and nothing else is.
        assert_eq!(whole, first.iter().any(|(_, answered)| *answered), "{offers:?}: cut at {cut}");
        // The process begins again: it knows no more than the store does.
        scene.site.transport.forget();
        if !whole {
            host.next(Script { offers: offers.to_vec(), ..Script::default() });
        }
        pass(&scene);
        let second = host.taken();
        assert_eq!(waiting(&scene), 0, "{offers:?}: cut at {cut}");
        assert_eq!(second.len(), usize::from(!whole), "{offers:?}: cut at {cut}");
        assert!(first.len() + second.len() >= 1);
        doubled += usize::from(first.len() + second.len() == 2);
        for (content, _) in first.iter().chain(&second) {
            assert_eq!(content, &format!("Message-ID: <{id}>\r\n\r\n{dot}\r\nhi\r\n"));
        }
        cut += 1;
    }
    // The window is as long as the answer, and nothing before it.
    assert_eq!(doubled, "250 2.0.0 taken\r\n".len());
    assert!(cut > 200, "{offers:?}: {cut}");
    assert!(events(&scene).iter().all(|(event, _)| event == "trasmissione"));
    assert_eq!(events(&scene).len(), cut);
}

#[test]
fn what_a_peer_says_no_to_is_tried_again_or_given_up_as_it_says() {
    for verb in ["", "EHLO", "MAIL", "RCPT", "DATA", "."] {
        for (code, gives_up) in [("451 4.3.0 later", false), ("554 5.3.0 never", true)] {
            let scene = Scene::new();
            let host = Host::start();
            route(&scene, host.address);
            queue(&scene, "m1@pec.alfa.example");
            let mut instead = vec![(verb, code.to_owned())];
            if verb == "EHLO" {
                instead.push(("HELO", code.to_owned()));
            }
            host.next(Script { instead, ..Script::default() });
            pass(&scene);
            // A host that takes no mail at all may be one of several, or be mended: it is not the
            // message that was said no to.
            let gives_up = gives_up && !["", "EHLO"].contains(&verb);
            let jobs = scene.site.store.jobs(None, 9).unwrap();
            if gives_up {
                let failed = &events(&scene)[0];
                assert_eq!(failed.0, "errore-trasmissione");
                assert!(failed.1.as_ref().unwrap().ends_with(code), "{failed:?}");
            } else {
                assert_eq!(jobs.len(), 1, "{verb} {code}");
                assert_eq!(jobs[0].attempts, 1);
                assert!(jobs[0].last_error.as_ref().unwrap().ends_with(code), "{jobs:?}");
                pass(&scene);
                assert_eq!(host.taken().len(), 1);
                assert_eq!(events(&scene), [("trasmissione".to_owned(), None)]);
                assert_eq!(waiting(&scene), 0);
            }
        }
    }
}

#[test]
fn a_peer_that_does_not_speak_smtp_is_left_and_the_message_waits() {
    for (verb, said, why) in [
        ("", "2".repeat(3_000_000), "a reply line is too long"),
        ("EHLO", "250-x\r\n".repeat(2000), "a reply has too many lines"),
        ("MAIL", "250-a\r\n550 b".to_owned(), "a reply has two codes"),
        ("RCPT", "OK".to_owned(), "a reply has no code"),
        ("DATA", "354 go\r\n250 done".to_owned(), "the peer answered what it was not asked"),
        (".", "421 4.3.2 bye".to_owned(), "421 4.3.2 bye"),
    ] {
        let scene = Scene::new();
        let host = Host::start();
        route(&scene, host.address);
        queue(&scene, "m1@pec.alfa.example");
        host.next(Script { instead: vec![(verb, said)], ..Script::default() });
        pass(&scene);
        let jobs = scene.site.store.jobs(None, 9).unwrap();
        assert_eq!(jobs.len(), 1, "{verb}");
        assert!(jobs[0].last_error.as_ref().unwrap().contains(why), "{verb}: {jobs:?}");
        pass(&scene);
        assert_eq!(waiting(&scene), 0);
    }
}

// RFC 7435 §3; PEC-BT-13 PEC-SEC-03
#[test]
fn tls_that_is_offered_and_fails_is_done_without_only_where_it_is_no_must() {
    let scene = Scene::new();
    let host = Host::start();
    route(&scene, host.address);
    queue(&scene, "m1@pec.alfa.example");
    let lies = || Script { offers: vec!["STARTTLS"], ..Script::default() };
    // It says no after all; or 220, and then no handshake.
    for said in ["454 not now", "220 go"] {
        host.next(Script { instead: vec![("STARTTLS", said.to_owned())], ..lies() });
        pass(&scene);
        assert_eq!((host.taken().len(), waiting(&scene)), (1, 0), "{said}");
        queue(&scene, "m2@pec.alfa.example");
    }
    // The same domain, now a provider's.
    let record = pec::providers::ProviderRecord {
        name: "Altrove PEC".to_owned(),
        unit: None,
        certificates: vec![scene.site.identity.certificate().to_der().to_vec()],
        mail_receipt: address("ricevute@altrove.example"),
        domains: vec![Domain::parse(DOMAIN).unwrap()],
        location: None,
        description: None,
    };
    let index = scene.site.providers.load().with(vec![record]).unwrap();
    scene.site.providers.store(Arc::new(index));
    for (script, why) in [
        (Script::default(), "the peer does not offer STARTTLS, which is required"),
        (
            Script { instead: vec![("STARTTLS", "454 no".to_owned())], ..lies() },
            "to STARTTLS: 454 no",
        ),
        (Script { instead: vec![("STARTTLS", "220 go".to_owned())], ..lies() }, "TLS handshake"),
    ] {
        host.next(script);
        pass(&scene);
        let jobs = scene.site.store.jobs(None, 9).unwrap();
        assert!(jobs[0].last_error.as_ref().unwrap().contains(why), "{why}: {jobs:?}");
        assert!(host.taken().is_empty());
    }
}

// PEC-BT-14, doubt D-11
#[test]
fn after_a_day_in_the_queue_a_message_has_failed_and_of_a_receipt_nobody_is_told() {
    let scene = Scene::new();
    // Nobody listens there.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    route(&scene, gone);
    let id = PecId::parse("r1@pec.alfa.example").unwrap();
    let parcel = Parcel {
        reverse_path: &ReversePath::Address(address("posta-certificata@pec.alfa.example")),
        recipients: &[address(TO)],
        content: Content::Receipt { id: id.clone(), about: id },
        account: &address(BIANCHI),
    };
    let step = Transaction {
        at: now(),
        enqueue: relays(&scene.site, &parcel, Source::New(0)).unwrap(),
        octets: vec![Octets::Inline(message(ROSSI, &[TO], "x").into_bytes().into())],
        ..Transaction::default()
    };
    scene.site.store.commit(step).unwrap();
    let mut hours = 0;
    while waiting(&scene) > 0 {
        assert!(hours <= 24, "still tried after {hours} hours");
        let jobs = scene.site.store.jobs(None, 9).unwrap();
        assert!(octets_of(&scene.site, &jobs[0]).is_ok());
        pass(&scene);
        hours += 1;
    }
    assert_eq!(hours, 25, "the last try is when the day is over");
    let failed = &events(&scene)[0];
    assert_eq!(failed.0, "errore-trasmissione");
    assert!(failed.1.as_ref().unwrap().contains("the time in the queue is over"), "{failed:?}");
}

#[test]
fn of_many_recipients_each_has_an_outcome_of_its_own_and_only_the_others_are_tried_again() {
    let scene = Scene::new();
    let host = Host::start();
    route(&scene, host.address);
    let many: Vec<Address> = (0..101).map(|n| address(&format!("c{n}@altrove.example"))).collect();
    queue_to(&scene, "m1@pec.alfa.example", &many);
    pass(&scene);
    // A hundred in one transaction (RFC 5321 §4.5.3.1.8), and the last in the next, at once.
    assert_eq!(host.taken().len(), 2);
    assert_eq!(events(&scene).len(), 101);
    assert_eq!(waiting(&scene), 0);
}
