//! A lane as a whole: what waits in it too long, a second host, and destinations that are mute.

use std::net::UdpSocket;

use super::*;

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
    pass(&scene);
    assert_eq!(waiting(&scene), 151, "a second before its time is over nothing is given up");
    scene.site.transport.forget();
    scene.clock.turn_to(now() + DAY);
    pass(&scene);
    assert_eq!(waiting(&scene), 1);
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

/// A name server that knows one host, by these addresses on the loopback.
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
    let addresses = if is_a { addresses } else { &[] };
    let mut out = question[..2].to_vec();
    out.extend([0x84, 0x80, 0, 1, 0, u8::try_from(addresses.len()).unwrap(), 0, 0, 0, 0]);
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
    config.nameservers = vec![name_server(addresses)];
    let route = Route { host: "mx.altrove.example".to_owned(), port };
    config.transport.routes.insert(Domain::parse(DOMAIN).unwrap(), route);
    scene.site.config.store(Arc::new(config));
    hosts
}

fn says(verb: &'static str, reply: &str) -> Script {
    Script { instead: vec![(verb, reply.to_owned())], ..Script::default() }
}

// RFC 5321 §5.1
#[test]
fn what_one_host_puts_off_is_offered_to_the_next_at_once() {
    let scene = Scene::new();
    let hosts = hosts(&scene, &[1, 2]);
    for (n, verb) in ["MAIL", "RCPT", "DATA", "."].into_iter().enumerate() {
        // Whichever is asked first.
        for first in [0, 1] {
            queue(&scene, &format!("m{n}-{first}@pec.alfa.example"));
            hosts[first].next(says(verb, "451 4.7.1 come back later"));
            pass(&scene);
            assert_eq!(waiting(&scene), 0, "{verb}");
            let taken: usize = hosts.iter().map(|host| host.taken().len()).sum();
            assert_eq!(taken, 1, "{verb}");
        }
    }
    let connections = |n: usize| hosts[n].connections.load(Ordering::SeqCst);
    assert!(connections(0) + connections(1) > 8, "nobody was asked a second time");
}

#[test]
fn what_a_host_took_for_some_is_offered_to_the_next_for_the_others_only() {
    let scene = Scene::new();
    let hosts = hosts(&scene, &[1, 2]);
    queue_to(
        &scene,
        "m1@pec.alfa.example",
        &["c1@altrove.example", "c2@altrove.example"].map(address),
    );
    for host in &hosts {
        host.next(says("RCPT TO:<c2@altrove.example>", "452 4.2.2 full"));
    }
    pass(&scene);
    // Both put the second off, and the first one has it once.
    let taken: Vec<usize> = hosts.iter().map(|host| host.taken().len()).collect();
    assert_eq!(taken.iter().sum::<usize>(), 1, "{taken:?}");
    assert_eq!(events(&scene), [("trasmissione".to_owned(), None)]);
    let jobs = scene.site.store.jobs(None, 9).unwrap();
    assert!(jobs[0].last_error.as_ref().unwrap().ends_with("452 4.2.2 full"), "{jobs:?}");
    let connections = |n: usize| hosts[n].connections.load(Ordering::SeqCst);
    assert_eq!((connections(0), connections(1)), (1, 1));
    pass(&scene);
    assert_eq!((waiting(&scene), events(&scene).len()), (0, 2));
}

/// Wherever a connection ends the next host has the message, unless the first may have it: then the
/// recipient would have it twice.
#[test]
fn a_message_that_one_host_may_have_taken_is_offered_to_no_other() {
    let scene = Scene::new();
    let hosts = hosts(&scene, &[1, 2]);
    let connections = |n: usize| hosts[n].connections.load(Ordering::SeqCst);
    let (mut first, mut whole, mut cut, mut in_doubt) = (None, false, 0, 0);
    while !whole {
        queue(&scene, &format!("m{cut}@pec.alfa.example"));
        let Some(first) = first else {
            // Which of the two is asked first.
            pass(&scene);
            first = (0..2).find(|n| connections(*n) == 1);
            hosts.iter().for_each(|host| drop(host.taken()));
            continue;
        };
        let before = (connections(first), connections(1 - first));
        hosts[first].next(Script { cut: Some(cut), ..Script::default() });
        pass(&scene);
        assert_eq!(connections(first), before.0 + 1, "cut at {cut}");
        let taken = hosts[first].taken();
        whole = taken.iter().any(|(_, answered)| *answered);
        let elsewhere = hosts[1 - first].taken().len();
        assert_eq!(taken.len() + elsewhere, 1, "cut at {cut}");
        assert_eq!(connections(1 - first) - before.1, elsewhere, "cut at {cut}");
        if !taken.is_empty() && !whole {
            in_doubt += 1;
            assert_eq!(waiting(&scene), 1, "cut at {cut}");
            pass(&scene);
            hosts.iter().for_each(|host| drop(host.taken()));
        }
        assert_eq!(waiting(&scene), 0, "cut at {cut}");
        cut += 1;
    }
    assert_eq!(in_doubt, "250 2.0.0 taken\r\n".len());
    // Nor what was answered in words that nobody understands.
    queue(&scene, "last@pec.alfa.example");
    let before = connections(0) + connections(1);
    hosts.iter().for_each(|host| host.next(says(".", "taken, I think")));
    pass(&scene);
    assert_eq!((connections(0) + connections(1) - before, waiting(&scene)), (1, 1));
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
