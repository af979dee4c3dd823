//! A lane as a whole: what waits in it too long, a second host, and destinations that are mute.

use std::net::UdpSocket;

use store::Timestamp;

use super::*;
use crate::transport::MESSAGES_MAX;

const DAY: SignedDuration = SignedDuration::from_hours(24);

// PEC-BT-14
#[test]
fn one_failure_of_a_host_gives_up_all_that_has_waited_its_time_and_nothing_else() {
    let scene = Scene::new();
    // Nobody listens there.
    route(&scene, TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    // More than one portion, and most were never tried: the lane was held.
    for n in 0..150 {
        queue(&scene, &format!("m{n}@pec.alfa.example"));
    }
    scene.clock.turn_to(now() + DAY - SignedDuration::from_secs(1));
    queue(&scene, "young@pec.alfa.example");
    let in_lane = || scene.site.store.lane_queued(Timestamp::MAX, DOMAIN, 999).unwrap().len();
    send(&scene);
    assert_eq!(in_lane(), 151, "a second before its time is over nothing is given up");
    scene.site.transport.forget();
    scene.clock.turn_to(now() + DAY);
    send(&scene);
    assert_eq!(in_lane(), 1);
    let events = events(&scene);
    assert_eq!(events.len(), 150);
    for (event, why) in events {
        assert_eq!(event, "errore-trasmissione");
        assert!(why.unwrap().starts_with("the time in the queue is over; last "));
    }
}

#[test]
fn an_answer_that_is_for_good_ends_all_that_waits_in_the_lane() {
    let scene = Scene::new();
    for n in 0..3 {
        let id = PecId::parse(&format!("m{n}@pec.alfa.example")).unwrap();
        let parcel = Parcel {
            reverse_path: &ReversePath::Address(address(ROSSI)),
            recipients: &[address(TO)],
            content: Content::Anomaly(id),
            account: &address(ROSSI),
        };
        let mut enqueue = relays(&scene.site, &parcel, Source::New(0)).unwrap();
        // What no host can be found for, ever.
        enqueue[0].lane.as_mut().unwrap().destination = "no domain".to_owned();
        let octets = vec![Octets::Inline((*b"Subject: x\r\n\r\n").into())];
        let step = Transaction { at: now(), enqueue, octets, ..Transaction::default() };
        let job = scene.site.store.commit(step).unwrap().enqueued[0];
        if n == 2 {
            scene.site.store.postpone(job, now() + DAY, "not now").unwrap();
        }
    }
    pass(&scene);
    assert_eq!(waiting(&scene), 0);
    assert!(events(&scene).iter().all(|(event, _)| event == "errore-trasmissione"));
    assert_eq!(events(&scene).len(), 3);
}

/// A connection is used again and again, and then makes room for those of other destinations.
#[test]
fn a_connection_carries_one_message_after_another_up_to_its_bound() {
    let (scene, host) = (Scene::new(), Host::start());
    route(&scene, host.address);
    // After a failure one connection, and no second, finds out whether the host is back.
    queue(&scene, "m@pec.alfa.example");
    host.next(Script { cut: Some(0), ..Script::default() });
    pass(&scene);
    assert_eq!((host.connections.load(Ordering::SeqCst), waiting(&scene)), (1, 1));
    for n in 0..MESSAGES_MAX {
        queue(&scene, &format!("m{n}@pec.alfa.example"));
    }
    send(&scene);
    assert_eq!(host.connections.load(Ordering::SeqCst), 2);
    assert_eq!(host.taken().len(), MESSAGES_MAX);
    assert_eq!(waiting(&scene), 1, "one past the bound waits for a connection of its own");
    send(&scene);
    assert_eq!(host.connections.load(Ordering::SeqCst), 3);
    assert_eq!((host.taken().len(), waiting(&scene)), (1, 0));
    // A host that says how many it takes (RFC 9422 §4.1) is asked for no more.
    for n in 0..4 {
        queue(&scene, &format!("few{n}@pec.alfa.example"));
    }
    // As at first: both connections of a fresh lane fail, and one finds out.
    scene.site.transport.forget();
    host.next(Script { cut: Some(0), ..Script::default() });
    host.next(Script { cut: Some(0), ..Script::default() });
    pass(&scene);
    assert_eq!((host.taken().len(), waiting(&scene)), (0, 4));
    let before = host.connections.load(Ordering::SeqCst);
    host.next(Script { offers: vec!["LIMITS MAILMAX=2"], ..Script::default() });
    send(&scene);
    assert_eq!((host.taken().len(), waiting(&scene)), (2, 2));
    assert_eq!(host.connections.load(Ordering::SeqCst), before + 1);
}

// PEC-BT-14
#[test]
fn certified_mail_waits_out_an_answer_that_there_is_no_such_host() {
    for (is_certified, left) in [(false, 0), (true, 2)] {
        let scene = Scene::new();
        let mut config = (**scene.site.config.load()).clone();
        config.dns.nameservers = vec![name_server(&[])];
        scene.site.config.store(Arc::new(config));
        if is_certified {
            let index = scene.site.providers.load_full();
            let mut other = index.records()[0].clone();
            "Altrove".clone_into(&mut other.name);
            other.domains = vec![Domain::parse(DOMAIN).unwrap()];
            let records = index.records().iter().cloned().chain([other]).collect();
            let index = pec::providers::Index::new(records, None).unwrap();
            scene.site.providers.store(Arc::new(index));
        }
        queue(&scene, "m1@pec.alfa.example");
        queue(&scene, "m2@pec.alfa.example");
        send(&scene);
        assert_eq!(waiting(&scene), left, "{is_certified}");
        scene.site.transport.forget();
        scene.clock.turn_to(now() + DAY);
        send(&scene);
        assert_eq!(waiting(&scene), 0, "its time is over");
        let events = events(&scene);
        assert_eq!(events.len(), 2);
        assert!(events.iter().all(|(event, _)| event == "errore-trasmissione"));
    }
}

/// A name server that knows one host, by these addresses on the loopback; without any it says that
/// there is no such name.
fn name_server(addresses: &'static [u8]) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let place = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut question = [0; 1500];
        while let Ok((length, from)) = socket.recv_from(&mut question) {
            let _ = socket.send_to(&answer(&question[..length], addresses), from);
        }
    });
    place
}

/// RFC 1035 §4.1: the header, the question again, the answers.
fn answer(question: &[u8], addresses: &[u8]) -> Vec<u8> {
    let end = 12 + question[12..].iter().position(|&octet| octet == 0).unwrap() + 1;
    let is_a = question[end..end + 2] == [0, 1];
    let code = if addresses.is_empty() { 3 } else { 0 };
    let addresses = if is_a { addresses } else { &[] };
    let mut out = question[..2].to_vec();
    out.extend([0x84, 0x80 | code, 0, 1, 0, u8::try_from(addresses.len()).unwrap(), 0, 0, 0, 0]);
    out.extend_from_slice(&question[12..end + 4]);
    for last in addresses {
        // The name is that of the question, at octet 12.
        out.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, *last]);
    }
    out
}

/// As many hosts of one name, all on one port.
fn hosts(scene: &Scene, addresses: &'static [u8]) -> Vec<Host> {
    let first = Host::start();
    let port = first.address.port();
    let others = addresses[1..].iter().map(|last| Host::at(&format!("127.0.0.{last}:{port}")));
    let hosts = std::iter::once(first).chain(others).collect();
    let mut config = (**scene.site.config.load()).clone();
    config.dns.nameservers = vec![name_server(addresses)];
    let route = Route { host: "mx.altrove.example".to_owned(), port };
    config.transport.routes.insert(Domain::parse(DOMAIN).unwrap(), route);
    scene.site.config.store(Arc::new(config));
    hosts
}

fn says(verb: &'static str, reply: &str) -> Script {
    Script { instead: vec![(verb, reply.to_owned())], ..Script::default() }
}

fn connections(host: &Host) -> usize {
    host.connections.load(Ordering::SeqCst)
}

/// Two hosts of the destination: the one that is asked first, and the other.
fn two_hosts(scene: &Scene) -> (Host, Host) {
    let mut hosts = hosts(scene, &[1, 2]);
    queue(scene, "m0@pec.alfa.example");
    pass(scene);
    let first = hosts.iter().position(|host| host.taken().len() == 1).unwrap();
    let first = hosts.remove(first);
    (first, hosts.remove(0))
}

// RFC 5321 §5.1
#[test]
fn what_one_host_puts_off_is_offered_to_the_next_at_once() {
    let scene = Scene::new();
    let (first, other) = two_hosts(&scene);
    for (n, verb) in ["", "EHLO", "MAIL", "RCPT", "DATA", "."].into_iter().enumerate() {
        queue(&scene, &format!("m{n}@pec.alfa.example"));
        let mut script = says(verb, "451 4.7.1 come back later");
        script.instead.push(("HELO", "451 4.7.1 come back later".to_owned()));
        first.next(script);
        pass(&scene);
        assert_eq!((first.taken().len(), other.taken().len()), (0, 1), "{verb}");
        assert_eq!(waiting(&scene), 0, "{verb}");
        assert_eq!((connections(&first), connections(&other)), (n + 2, n + 1), "{verb}");
    }
}

#[test]
fn what_a_host_took_for_some_is_offered_to_the_next_for_the_others_only() {
    let scene = Scene::new();
    let (first, other) = two_hosts(&scene);
    queue_to(
        &scene,
        "m1@pec.alfa.example",
        &["c1@altrove.example", "c2@altrove.example"].map(address),
    );
    for host in [&first, &other] {
        host.next(says("RCPT TO:<c2@altrove.example>", "452 4.2.2 full"));
    }
    pass(&scene);
    // Both put the second off, and the first one has it once.
    assert_eq!((first.taken().len(), other.taken().len()), (1, 0));
    assert_eq!(events(&scene).len(), 2, "the one before, and this one once");
    let jobs = scene.site.store.jobs(None, 9).unwrap();
    assert!(jobs[0].last_error.as_ref().unwrap().ends_with("452 4.2.2 full"), "{jobs:?}");
    assert_eq!((connections(&first), connections(&other)), (2, 1));
    pass(&scene);
    assert_eq!((waiting(&scene), events(&scene).len()), (0, 3));
}

/// Wherever a connection ends the next host has the message, unless the first may have it: then the
/// recipient would have it twice.
#[test]
fn a_message_that_one_host_may_have_taken_is_offered_to_no_other() {
    let scene = Scene::new();
    let (first, other) = two_hosts(&scene);
    let (mut whole, mut cut, mut moved, mut in_doubt) = (false, 0, 0, 0);
    while !whole {
        queue(&scene, &format!("m{}@pec.alfa.example", 100 + cut));
        first.next(Script { cut: Some(cut), ..Script::default() });
        pass(&scene);
        let taken = first.taken();
        whole = taken.iter().any(|(_, answered)| *answered);
        match other.taken().len() {
            1 => {
                assert!(taken.is_empty(), "both have it, cut at {cut}");
                assert_eq!(in_doubt, 0, "cut at {cut}");
                moved += 1;
            }
            none => {
                assert_eq!(none, 0);
                assert_eq!(waiting(&scene), u64::from(!whole), "cut at {cut}");
                in_doubt += usize::from(!whole);
                pass(&scene);
                first.taken();
            }
        }
        assert_eq!(waiting(&scene), 0, "cut at {cut}");
        cut += 1;
    }
    // The doubt begins when all was said: nobody can tell how much of it the host has read.
    let content = "Message-ID: <m100@pec.alfa.example>\r\n\r\n..\r\nhi\r\n.\r\n";
    assert_eq!(in_doubt, content.len() + "250 2.0.0 taken\r\n".len());
    assert!(moved > 150, "{moved}");
    // Nor is what was answered in words that nobody understands.
    queue(&scene, "last@pec.alfa.example");
    let before = connections(&first) + connections(&other);
    [&first, &other].iter().for_each(|host| host.next(says(".", "taken, I think")));
    pass(&scene);
    assert_eq!((connections(&first) + connections(&other) - before, waiting(&scene)), (1, 1));
}

#[test]
fn a_destination_whose_hosts_all_break_off_is_left_alone_for_a_while() {
    let scene = Scene::new();
    let (first, other) = two_hosts(&scene);
    let asked = || (connections(&first), connections(&other));
    queue(&scene, "m1@pec.alfa.example");
    let cut = || Script { cut: Some(100), ..Script::default() };
    [&first, &other].iter().for_each(|host| host.next(cut()));
    send(&scene);
    assert_eq!((asked(), waiting(&scene)), ((2, 1), 1));
    queue(&scene, "m2@pec.alfa.example");
    send(&scene);
    assert_eq!((asked(), waiting(&scene)), ((2, 1), 2), "it is held");
    pass(&scene);
    scene.clock.turn_to(scene.site.clock.now() + SignedDuration::from_hours(1));
    pass(&scene);
    assert_eq!(waiting(&scene), 0);
}

/// Anybody may have domains whose hosts say nothing. Certified mail does not wait for them.
#[test]
fn mute_ordinary_hosts_hold_half_of_the_connections_at_most() {
    let scene = Scene::new();
    let (mute, certified) =
        (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let mut config = (**scene.site.config.load()).clone();
    let mut add = |name: &str, to: &TcpListener| {
        let place = to.local_addr().unwrap();
        let route = Route { host: place.ip().to_string(), port: place.port() };
        config.transport.routes.insert(Domain::parse(name).unwrap(), route);
    };
    let ordinary: Vec<String> = (0..200).map(|n| format!("d{n:03}.example")).collect();
    ordinary.iter().for_each(|name| add(name, &mute));
    add("z.example", &certified);
    scene.site.config.store(Arc::new(config));
    let record = pec::providers::ProviderRecord {
        name: "Zeta PEC".to_owned(),
        unit: None,
        certificates: vec![scene.site.identity.certificate().to_der().to_vec()],
        mail_receipt: address("ricevute@z.example"),
        domains: vec![Domain::parse("z.example").unwrap()],
        location: None,
        description: None,
    };
    let index = scene.site.providers.load().with(vec![record]).unwrap();
    scene.site.providers.store(Arc::new(index));
    let recipients: Vec<Address> = ordinary
        .iter()
        .map(String::as_str)
        .chain(["z.example"])
        .map(|name| address(&format!("c@{name}")))
        .collect();
    queue_to(&scene, "m1@pec.alfa.example", &recipients);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (_running, stop) = tokio::sync::watch::channel(false);
    runtime.spawn(crate::transport::run(scene.site.clone(), stop));
    // It comes although the lanes before it have more jobs than there are connections.
    let (_socket, _) = certified.accept().unwrap();
    runtime.shutdown_background();
    mute.set_nonblocking(true).unwrap();
    let held = std::iter::from_fn(|| mute.accept().ok()).count();
    assert!((1..=64).contains(&held), "{held} connections to mute hosts");
}
