//! How long other hosts are waited for. Each test makes one wait short and the others long: a host that
//! is mute where that wait holds is left, and one that is not takes the message by the same waits.

use rustix::net::{AddressFamily, SocketType, bind, getsockname, listen, socket};

use super::*;

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(100);
const PATIENT: Waits = Waits {
    connect: LONG,
    handshake: LONG,
    host: LONG,
    way: LONG,
    answer: LONG,
    block: LONG,
    last_words: LONG,
    commit_again: SHORT,
};

fn once(scene: &Scene, waits: Waits) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(crate::transport::once(&scene.site, waits));
}

/// Sends one message by these waits, which ends in so many words; and then another to a host that is well,
/// by the same.
fn is_left(scene: &Scene, waits: Waits, why: &str) {
    once(scene, waits);
    let job = scene.site.store.jobs(None, 9).unwrap().pop().unwrap();
    assert!(job.last_error.as_ref().unwrap().ends_with(why), "{why}: {job:?}");
    let spoken = Host::start();
    route(scene, spoken.address);
    scene.clock.turn_to(scene.site.clock.now() + SignedDuration::from_hours(1));
    once(scene, PATIENT);
    assert_eq!(spoken.taken().len(), 1);
}

// RFC 5321 §4.5.3.2
#[test]
fn the_waits_are_those_of_the_rfc() {
    let secs = |wait: Duration| wait.as_secs();
    let Waits { connect, handshake, host, way, answer, block, last_words, commit_again } =
        Waits::default();
    assert_eq!(secs(commit_again), 1);
    assert_eq!((secs(connect), secs(handshake), secs(last_words)), (30, 30, 2));
    assert_eq!((secs(host), secs(way), secs(block)), (7 * 60, 15 * 60, 180));
    assert_eq!(answer, Duration::MAX, "each answer has a wait of its own");
}

/// A host that accepts and says nothing is left when its own time is over, or that of the way: whichever
/// comes first.
#[test]
fn a_host_and_a_way_have_their_time_and_no_more() {
    for (waits, why) in [
        (Waits { host: SHORT, ..PATIENT }, "the host takes too long to begin"),
        (Waits { way: SHORT, ..PATIENT }, "the time for finding a host is over"),
    ] {
        let scene = Scene::new();
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        route(&scene, silent.local_addr().unwrap());
        queue(&scene, "m1@pec.alfa.example");
        is_left(&scene, waits, why);
    }
}

/// One whose queue of connections is full answers nobody who knocks.
#[test]
fn a_host_that_does_not_take_the_connection_is_left_after_its_time() {
    let scene = Scene::new();
    let full = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&full, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    listen(&full, 0).unwrap();
    let address = SocketAddr::try_from(getsockname(&full).unwrap()).unwrap();
    let knock = || TcpStream::connect_timeout(&address, SHORT);
    let mut inside = Vec::new();
    while let Ok(socket) = knock() {
        inside.push(socket);
        assert!(inside.len() < 10);
    }
    route(&scene, address);
    queue(&scene, "m1@pec.alfa.example");
    is_left(&scene, Waits { connect: SHORT, ..PATIENT }, "no connection in time");
}

#[test]
fn a_host_that_begins_no_handshake_is_left_after_its_time() {
    let scene = Scene::new();
    let host = Host::start();
    route(&scene, host.address);
    let record = pec::providers::ProviderRecord {
        name: "Altrove PEC".to_owned(),
        unit: None,
        certificates: vec![scene.site.identity.certificate().to_der().to_vec()],
        mail_receipt: address("ricevute@altrove.example"),
        domains: vec![Domain::parse(DOMAIN).unwrap()],
        location: None,
        description: None,
    };
    let index = scene.site.providers.load_full();
    scene.site.providers.store(Arc::new(index.with(vec![record]).unwrap()));
    queue(&scene, "m1@pec.alfa.example");
    // It says that it begins, and then reads and says nothing.
    let instead = vec![("STARTTLS", "220 go".to_owned())];
    let script = Script { offers: vec!["STARTTLS"], instead, ..Script::default() };
    host.next(Script { holds_tls: true, ..script });
    once(&scene, Waits { handshake: SHORT, ..PATIENT });
    let job = scene.site.store.jobs(None, 9).unwrap().pop().unwrap();
    assert!(job.last_error.as_ref().unwrap().ends_with("no TLS handshake in time"), "{job:?}");
    assert_eq!(host.taken().len(), 0);
}

// RFC 5321 §4.5.3.2.1 to §4.5.3.2.4, §4.5.3.2.6
#[test]
fn a_host_that_is_mute_at_any_command_is_left_after_its_time_and_the_message_waits() {
    for (verb, expected) in [
        ("", "no answer to the connection in time"),
        ("EHLO", "no answer to EHLO in time"),
        ("MAIL", "no answer to MAIL in time"),
        ("RCPT", "no answer to RCPT in time"),
        ("DATA", "no answer to DATA in time"),
        (".", "the connection was lost after the message was sent and before it was answered"),
    ] {
        let scene = Scene::new();
        let host = Host::start();
        route(&scene, host.address);
        queue(&scene, "m1@pec.alfa.example");
        host.next(Script { mute_at: Some(verb), ..Script::default() });
        let began = std::time::Instant::now();
        once(&scene, Waits { answer: SHORT, ..PATIENT });
        let waited = began.elapsed();
        assert!((SHORT..LONG).contains(&waited), "{verb}: {waited:?}");
        let job = scene.site.store.jobs(None, 9).unwrap().pop().unwrap();
        let why = job.last_error.clone().unwrap();
        assert!(why.ends_with(expected), "{verb}: {why}");
        assert_eq!(job.attempts, 1);
    }
    // At QUIT nothing hangs on the answer.
    let scene = Scene::new();
    let host = Host::start();
    route(&scene, host.address);
    queue(&scene, "m1@pec.alfa.example");
    host.next(Script { mute_at: Some("QUIT"), ..Script::default() });
    once(&scene, Waits { answer: SHORT, ..PATIENT });
    assert_eq!((host.taken().len(), waiting(&scene)), (1, 0));
}

// RFC 5321 §4.5.3.2.5
#[test]
fn a_host_that_takes_no_block_is_left_after_its_time_and_that_for_its_last_words() {
    let scene = Scene::new();
    let host = Host::start();
    route(&scene, host.address);
    // More than the buffers of two sockets.
    let octets = format!("Subject: x\r\n\r\n{}", "0123456789\r\n".repeat(1 << 20));
    let parcel = Parcel {
        reverse_path: &ReversePath::Address(address(ROSSI)),
        recipients: &[address(TO)],
        content: Content::Anomaly(PecId::parse("m1@pec.alfa.example").unwrap()),
        account: &address(ROSSI),
    };
    let step = Transaction {
        at: scene.site.clock.now(),
        enqueue: relays(&scene.site, &parcel, Source::New(0)).unwrap(),
        octets: vec![Octets::Inline(octets.into_bytes().into())],
        ..Transaction::default()
    };
    scene.site.store.commit(step).unwrap();
    let barrier = Arc::new(Barrier::new(2));
    host.next(Script { stops_in_content: Some(barrier.clone()), ..Script::default() });
    let began = std::time::Instant::now();
    once(&scene, Waits { block: SHORT, last_words: 2 * SHORT, ..PATIENT });
    let waited = began.elapsed();
    barrier.wait();
    assert!((3 * SHORT..LONG).contains(&waited), "{waited:?}");
    let job = scene.site.store.jobs(None, 9).unwrap().pop().unwrap();
    assert_eq!((job.attempts, host.taken().len()), (1, 0), "{job:?}");
}
