//! The doors, on the wire: how long a session may be silent, and how long it may take in all. Each test
//! makes one wait short and the others long.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ClientConnection, StreamOwned};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use smtp::Role;
use store::{AccountChange, Credentials};

use super::scene::{ROSSI, Scene, address};
use crate::drive::Connection;
use crate::limits::Door;
use crate::submission::{Waits, serve_with};

/// Long enough for a machine that is busy with other tests.
const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(300);
const PATIENT: Waits = Waits { idle: LONG, idle_before_login: LONG, login: LONG, stranger: LONG };

const GREETING: &str = "220 pec.alfa.example ESMTP ceralacca";
/// What is said when the time is over, before the connection ends.
const IDLE: &str = "421 4.4.2 Idle for too long, closing: connect again";
const DONE: &str = "250 2.0.0 Done";

/// The client's end of one connection.
struct Client<S: Read + Write> {
    wire: BufReader<S>,
    /// When something was said last.
    said: Instant,
}

/// Connects to a door that waits so long, and is served until the connection ends.
fn connect(scene: &Scene, role: Role, tls: bool, waits: Waits) -> Client<Box<dyn Wire>> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    let site = scene.site.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (socket, peer) = listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        runtime.block_on(async move {
            let socket = tokio::net::TcpStream::from_std(socket).unwrap();
            let mut connection = Connection::new(socket, peer).unwrap();
            if tls {
                let acceptor = site.tls.submission_acceptor(&site.config.load());
                connection.start_tls(acceptor).await.unwrap();
            }
            let door = if role == Role::Transport { Door::Hosts } else { Door::Users };
            let place = site.connections.enter(peer.ip(), door).unwrap();
            let (_running, stop) = tokio::sync::watch::channel(false);
            serve_with(site, connection, place, role, stop, waits).await;
        });
    });
    let socket = TcpStream::connect(to).unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    let wire: Box<dyn Wire> = if tls { over_tls(scene, socket) } else { Box::new(socket) };
    let mut client = Client { wire: BufReader::new(wire), said: Instant::now() };
    assert_eq!(client.line(), GREETING);
    client
}

trait Wire: Read + Write {}
impl<S: Read + Write> Wire for S {}

fn over_tls(scene: &Scene, socket: TcpStream) -> Box<dyn Wire> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(scene.authority().as_bytes()).unwrap()).unwrap();
    let config = rustls::ClientConfig::builder().with_root_certificates(roots);
    let config = Arc::new(config.with_no_client_auth());
    let session = ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap();
    Box::new(StreamOwned::new(session, socket))
}

impl<S: Read + Write> Client<S> {
    /// The next line without its CRLF; empty when the connection has ended.
    fn line(&mut self) -> String {
        let mut line = String::new();
        // One that ended while something of ours was under way ends with an error.
        let _ = self.wire.read_line(&mut line);
        line.trim_end_matches("\r\n").to_owned()
    }

    fn say(&mut self, text: &str) -> String {
        self.said = Instant::now();
        // It may have ended by now: then its last words are still to be read.
        let _ = self.wire.get_mut().write_all(text.as_bytes());
        let _ = self.wire.get_mut().flush();
        loop {
            let line = self.line();
            if line.as_bytes().get(3) != Some(&b'-') {
                return line;
            }
        }
    }

    /// Says no more, and is told that it was silent too long, not sooner than after this.
    fn ends_after(mut self, wait: Duration) {
        assert_eq!(self.line(), IDLE);
        let silent = self.said.elapsed();
        assert!(silent >= wait, "{silent:?}");
        assert_eq!(self.line(), "", "and nothing more");
    }

    /// Goes on and on with what is always answered so, until it is told that this was too long.
    fn goes_on_until_left(mut self, text: &str, answer: &str) {
        loop {
            match self.say(text) {
                told if told == answer => {}
                told => {
                    assert_eq!(told, IDLE);
                    assert_eq!(self.line(), "", "and nothing more");
                    return;
                }
            }
        }
    }
}

// RFC 5321 §4.5.3.2.7
#[test]
fn who_has_said_nothing_is_left_after_the_short_wait_on_each_door() {
    let scene = Scene::new();
    let waits = Waits { idle_before_login: SHORT, ..PATIENT };
    for (role, tls) in
        [(Role::Transport, false), (Role::Submission, false), (Role::Submission, true)]
    {
        connect(&scene, role, tls, waits).ends_after(SHORT);
        // What is no name says nothing of who it is.
        let mut client = connect(&scene, role, tls, waits);
        assert_eq!(client.say("NOOP\r\n"), DONE);
        client.ends_after(SHORT);
    }
}

#[test]
fn another_host_that_has_said_its_name_has_the_wait_of_the_rfc_and_a_user_has_not() {
    let scene = Scene::new();
    // Time enough to say a name, and less than silence may last after it.
    let (name, idle) = (Duration::from_secs(1), Duration::from_millis(1_200));
    let waits = Waits { idle, idle_before_login: name, ..PATIENT };
    let mut host = connect(&scene, Role::Transport, false, waits);
    assert_eq!(host.say("EHLO mx.example.org\r\n"), "250 STARTTLS");
    host.ends_after(idle);
    let waits = Waits { idle_before_login: SHORT, login: LONG, ..PATIENT };
    let mut user = connect(&scene, Role::Submission, false, waits);
    assert_eq!(user.say("EHLO pc.example\r\n"), "250 STARTTLS");
    user.ends_after(SHORT);
}

#[test]
fn another_host_that_is_silent_has_the_short_wait_again_when_there_is_little_room() {
    let scene = Scene::new();
    let limits = scene.site.connections.limits();
    scene.site.connections.set_limits(crate::config::Limits {
        connections_max: 4,
        unthrottled: Vec::new(),
        ..(*limits).clone()
    });
    let waits = Waits { idle_before_login: Duration::from_secs(1), ..PATIENT };
    let mut silent = connect(&scene, Role::Transport, false, waits);
    silent.say("EHLO mx.example.org\r\n");
    let mut at_work = connect(&scene, Role::Transport, false, PATIENT);
    at_work.say("EHLO mx.example.net\r\n");
    // One of a user's more takes nothing of theirs; the third of three parts does.
    let mut user = connect(&scene, Role::Submission, false, PATIENT);
    let began = Instant::now();
    let third = scene.site.connections.enter([192, 0, 2, 1].into(), Door::Hosts).ok().unwrap();
    silent.ends_after(Duration::from_secs(1));
    assert!(began.elapsed() < LONG / 2, "{:?}", began.elapsed());
    assert_eq!(at_work.say("NOOP\r\n"), DONE);
    assert_eq!(user.say("NOOP\r\n"), DONE);
    drop(third);
}

// RFC 5321 §4.5.3.1.8
#[test]
fn recipients_that_weigh_too_much_are_for_another_message_and_a_hundred_never_do() {
    let scene = Scene::new();
    let mut host = connect(&scene, Role::Transport, false, PATIENT);
    host.say("EHLO mx.example.org\r\n");
    for _ in 0..2 {
        assert_eq!(host.say("MAIL FROM:<x@example.org>\r\n"), "250 2.1.0 Sender accepted");
        let mut taken = 0;
        let told = loop {
            let rcpt = format!(
                "RCPT TO:<{taken:060}@pec.alfa.example> NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;{}\r\n",
                "o".repeat(493)
            );
            let told = host.say(&rcpt);
            if told != "250 2.1.5 Recipient accepted" {
                break told;
            }
            taken += 1;
        };
        assert_eq!(told, "452 4.5.3 Too many recipients: send the rest in another message");
        assert!((100..200).contains(&taken), "{taken}");
        // A short one still has room, and the message goes on.
        assert_eq!(host.say(&format!("RCPT TO:<{ROSSI}>\r\n")), "250 2.1.5 Recipient accepted");
        let told = host.say("DATA\r\n");
        assert_eq!(told, "354 Send the message, end it with <CRLF>.<CRLF>");
        let told = host.say("Subject: prova\r\n\r\nprova\r\n.\r\n");
        assert!(!told.starts_with("452"), "{told}");
    }
}

#[test]
fn who_does_not_sign_in_is_left_however_much_it_says() {
    let scene = Scene::new();
    let waits = Waits { login: SHORT, ..PATIENT };
    for tls in [false, true] {
        let mut client = connect(&scene, Role::Submission, tls, waits);
        client.say("EHLO pc.example\r\n");
        client.goes_on_until_left("NOOP\r\n", DONE);
    }
    connect(&scene, Role::Transport, false, waits).goes_on_until_left("NOOP\r\n", DONE);
}

#[test]
fn another_host_that_takes_too_long_is_left_with_its_message_and_however_much_it_says() {
    let scene = Scene::new();
    let waits = Waits { stranger: SHORT, ..PATIENT };
    let mut host = connect(&scene, Role::Transport, false, waits);
    host.say("EHLO mx.example.org\r\n");
    host.goes_on_until_left("NOOP\r\n", DONE);

    let mut host = connect(&scene, Role::Transport, false, waits);
    host.say("EHLO mx.example.org\r\n");
    assert_eq!(host.say("MAIL FROM:<x@example.org>\r\n"), "250 2.1.0 Sender accepted");
    assert_eq!(host.say(&format!("RCPT TO:<{ROSSI}>\r\n")), "250 2.1.5 Recipient accepted");
    let told = host.say("DATA\r\n");
    assert_eq!(told, "354 Send the message, end it with <CRLF>.<CRLF>");
    host.wire.get_mut().write_all(b"Subject: half\r\n").unwrap();
    host.ends_after(Duration::ZERO);
    assert_eq!(scene.site.store.jobs_waiting().unwrap().0, 0, "half a message is none");
}

#[test]
fn who_has_signed_in_is_left_after_the_wait_of_the_rfc() {
    let scene = Scene::new();
    let account = scene.site.store.account_by_address(&address(ROSSI)).unwrap().unwrap();
    let secret = crypto::Secret::derive("segreto", &[7; 16]).unwrap();
    let credentials = Credentials { phc: secret.phc, scram: secret.scram.encode() };
    let change = AccountChange::Credentials(Some(credentials));
    scene.site.store.change_account(account.id, change).unwrap();
    let waits = Waits { idle: SHORT, ..PATIENT };
    let mut client = connect(&scene, Role::Submission, true, waits);
    client.say("EHLO pc.example\r\n");
    let plain = base64::Engine::encode(
        &base64::prelude::BASE64_STANDARD,
        format!("\0{ROSSI}\0segreto").as_bytes(),
    );
    let told = client.say(&format!("AUTH PLAIN {plain}\r\n"));
    assert_eq!(told, "235 2.7.0 Authentication succeeded");
    client.ends_after(SHORT);
}
