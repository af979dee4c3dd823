//! Generated traffic between two providers over simulated days: what must hold whatever is sent,
//! lost, repeated, held up or restarted. Each run is made of one number, which a failure prints.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;
use mail::Message;
use store::{LogRecord, Store as _};

use super::scene::certification;
use super::world::{Fate, Passage, World, at, kind, message};

/// Runs; each is a few messages over three days and what follows.
const RUNS: u64 = 3_000;
/// Threads that share them.
const THREADS: u64 = 4;

/// SplitMix64: small, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.roll(of.len() as u64) as usize]
    }
}

/// What was counted in all runs.
#[derive(Default)]
struct Counts {
    messages: usize,
    recipients: usize,
    delivered: usize,
    failed: usize,
    expired: usize,
    late: usize,
    repeated: usize,
    restarts: usize,
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.messages += other.messages;
        self.recipients += other.recipients;
        self.delivered += other.delivered;
        self.failed += other.failed;
        self.expired += other.expired;
        self.late += other.late;
        self.repeated += other.repeated;
        self.restarts += other.restarts;
    }
}

const SENDERS: [&str; 4] = ["rossi@a", "bianchi@a", "verdi@b", "neri@b"];
const RECIPIENTS: [&str; 8] =
    ["rossi@a", "bianchi@a", "verdi@b", "neri@b", "piena@b", "piena@a", "nessuno@b", "info@x"];

/// A message that was submitted: whose it is, and whether it was sent.
struct Sent {
    id: String,
    from: String,
    certified: BTreeSet<String>,
}

fn play(seed: u64) -> Counts {
    let mut dice = Dice(seed);
    let mut world = World::new(at("2026-09-14T07:30:12Z"));
    let (mut sent, mut counts) = (Vec::new(), Counts::default());
    let rounds = 6;
    let messages = 1 + dice.roll(3);
    for round in 0..rounds {
        if round < messages {
            let from = *dice.pick(&SENDERS);
            let mut to = BTreeSet::new();
            for _ in 0..=dice.roll(2) {
                to.insert(*dice.pick(&RECIPIENTS));
            }
            let to: Vec<&str> = to.into_iter().collect();
            let id = world.submit(from, &to, &message(from, &to, &format!("Offerta{round}")));
            let certified = to.iter().filter(|to| !to.ends_with("@x"));
            sent.push(Sent {
                id,
                from: World::full(from),
                certified: certified.map(|to| World::full(to)).collect(),
            });
        }
        let mut fates = |passage: &Passage| match (passage.to, dice.roll(20)) {
            (None, _) => Fate::Arrives,
            (_, 0..2) => Fate::Lost,
            (_, 2..5) => Fate::Twice,
            (_, 5..8) => Fate::Held,
            (_, 8..11) => Fate::Down,
            _ => Fate::Arrives,
        };
        world.run(&mut fates);
        if dice.roll(3) == 0 {
            world.release();
        }
        if dice.roll(3) == 0 {
            world.restart(dice.roll(2) as usize);
            counts.restarts += 1;
        }
        // Mostly forward, now and then a little back.
        match dice.roll(8) {
            0 => world.later(-SignedDuration::from_mins(30)),
            hours => world.later(SignedDuration::from_hours(2 * hours as i64)),
        }
    }
    // The network heals, and time goes by.
    world.release();
    for _ in 0..3 {
        world.run(&mut |_| Fate::Arrives);
        world.later(SignedDuration::from_hours(24));
    }
    world.run(&mut |_| Fate::Arrives);
    check(&world, &sent, &mut counts);
    counts
}

fn check(world: &World, sent: &[Sent], counts: &mut Counts) {
    let ids: BTreeSet<&str> = sent.iter().map(|sent| &*sent.id).collect();
    assert_eq!(ids.len(), sent.len(), "PEC-AP-20: identifiers are unique");
    // Every message in a mailbox, by its Message-ID: receipts have one of their own (PEC-AP-24).
    let mut receipts: BTreeMap<String, (String, pec::Certification)> = BTreeMap::new();
    let mut places = BTreeSet::new();
    for host in &world.hosts {
        for (local, inbox) in host.inboxes() {
            for octets in inbox {
                let message = Message::lenient(&octets);
                let id = message.field("Message-ID").unwrap().unfolded();
                let id = id.trim_matches(['<', '>']).to_owned();
                let data = certification(&octets);
                // Nobody receives anything about what nobody sent, and no receipt has a receipt.
                assert!(ids.contains(data.identifier.as_str()), "PEC-PR-26");
                assert!(places.insert((host.name, local.clone(), id.clone())), "PEC-PR-28: {id}");
                if message.field("X-Ricevuta").is_some() {
                    assert!(!ids.contains(&*id), "PEC-AP-24");
                    let known = receipts.insert(id.clone(), (kind(&octets), data));
                    assert!(known.is_none(), "PEC-AP-24: {id}");
                } else {
                    assert_eq!(id, data.identifier.as_str(), "PEC-AP-21");
                }
            }
        }
    }
    for message in sent {
        check_message(world, message, &receipts, counts);
    }
    for host in &world.hosts {
        check_log(host.name, &host.log(), &receipts, sent, host.domain, counts);
        let waiting = host.store.jobs_waiting().unwrap().0;
        assert_eq!(waiting, 0, "{}: something is under way for ever", host.name);
        assert!(host.store.overdue(jiff::Timestamp::MAX, None, 9).unwrap().is_empty());
    }
    counts.messages += sent.len();
}

fn check_message(
    world: &World,
    message: &Sent,
    receipts: &BTreeMap<String, (String, pec::Certification)>,
    counts: &mut Counts,
) {
    let of = |word: &str| {
        let about = receipts.values().filter(|(_, data)| data.identifier.as_str() == message.id);
        about.filter(|(kind, _)| kind.starts_with(word)).map(|(_, data)| data).collect::<Vec<_>>()
    };
    assert_eq!(of("accettazione").len(), 1, "PEC-RA-01");
    let home = world.hosts.iter().find(|host| message.from.ends_with(host.domain)).unwrap();
    let tracked = home.store.tracked(&message.id).unwrap();
    let followed: BTreeSet<String> =
        tracked.iter().map(|entry| entry.recipient.to_string()).collect();
    assert_eq!(followed, message.certified, "PEC-TO");
    let taken: Vec<String> =
        of("presa-in-carico").iter().flat_map(|d| &d.taken).map(ToString::to_string).collect();
    let once: BTreeSet<&String> = taken.iter().collect();
    assert_eq!(once.len(), taken.len(), "PEC-LOG-07: each is taken in charge once at most");
    for entry in &tracked {
        let about = |word: &str| {
            of(word).iter().filter(|data| data.delivery.as_ref() == Some(&entry.recipient)).count()
        };
        let (delivered, failed) = (about("avvenuta-consegna"), about("errore-consegna"));
        let (first, second) =
            (about("preavviso-errore-consegna 12h"), about("preavviso-errore-consegna 24h"));
        counts.recipients += 1;
        counts.delivered += delivered;
        counts.failed += failed;
        counts.expired += second;
        counts.late += usize::from(second > 0 && delivered + failed > 0);
        let what = format!("{} to {}: {entry:?}", message.id, entry.recipient);
        assert!(entry.state.is_final(), "{what}");
        // One final outcome: a receipt, or the second notice; a receipt may follow that one.
        assert!(delivered + failed <= 1 && first <= 1 && second <= 1, "{what}");
        assert!(delivered + failed + second > 0, "PEC-LOG-12: {what}");
        assert_eq!(entry.state == store::TrackState::Expired, second == 1, "PEC-TO-06: {what}");
        assert!(first <= second || delivered + failed == 1, "PEC-TO-03: {what}");
    }
}

/// PEC-LOG-05 to PEC-LOG-12: the log tells of every event, and of none that was not.
fn check_log(
    name: &str,
    log: &[LogRecord],
    receipts: &BTreeMap<String, (String, pec::Certification)>,
    sent: &[Sent],
    domain: &str,
    counts: &mut Counts,
) {
    let made = [
        "accettazione",
        "presa-in-carico",
        "avvenuta-consegna",
        "errore-consegna",
        "preavviso-errore-consegna",
    ];
    counts.repeated += log.iter().filter(|record| record.event == "doppione").count();
    let mut seen = BTreeSet::new();
    for record in log.iter().filter(|record| made.contains(&&*record.event)) {
        let id = record.message_id.clone().unwrap();
        // What was lost on its way is in no mailbox; what is in one is what the log says it is.
        if let Some((kind, data)) = receipts.get(&id) {
            assert!(kind.starts_with(&record.event), "{name}: {record:?}");
            assert_eq!(record.identificativo.as_deref(), Some(data.identifier.as_str()));
            assert_eq!(record.consegna, data.delivery.as_ref().map(ToString::to_string));
            assert_eq!(record.time, data.at.instant(), "PEC-GEN-10");
        }
        assert!(seen.insert(id), "{name}: logged twice: {record:?}");
    }
    for (id, (_, data)) in receipts {
        let ours = data.provider
            == if domain.contains("alfa") { "Alfa PEC S.p.A." } else { "Beta Certificata S.r.l." };
        assert_eq!(seen.contains(id), ours, "{name}: {id} is not logged where it was made");
    }
    for message in sent {
        let of = |event: &str| {
            let about = log.iter().filter(|r| r.identificativo.as_deref() == Some(&message.id));
            about.filter(|record| record.event == event).collect::<Vec<_>>()
        };
        let home = message.from.ends_with(domain);
        assert_eq!(of("accettazione").len(), usize::from(home), "PEC-LOG-06, PEC-LOG-11");
        let envelopes = of("posta-certificata").len();
        assert!(if home { envelopes == 1 } else { envelopes <= 1 }, "PEC-LOG-06, PEC-LOG-11");
        let mut parties = BTreeSet::new();
        for record in log.iter().filter(|r| r.identificativo.as_deref() == Some(&message.id)) {
            let to: Vec<&str> = record.destinatari.iter().map(|to| &*to.address).collect();
            parties.insert((record.mittente.clone(), to.join(" ")));
            // PEC-LOG-10
            if made.contains(&&*record.event) {
                let all = record.ricezione.iter().chain(&record.consegna);
                assert!(all.into_iter().all(|to| message.certified.contains(to)), "{record:?}");
            }
        }
        assert!(parties.len() <= 1, "PEC-LOG-05: {parties:?}");
        // Who was taken in charge here was delivered to or not, once: PEC-LOG-08.
        let taken = of("presa-in-carico");
        let mut taken: Vec<&String> = taken.iter().flat_map(|record| &record.ricezione).collect();
        let (delivered, failed) = (of("avvenuta-consegna"), of("errore-consegna"));
        let mut ended: Vec<&String> =
            delivered.iter().chain(&failed).filter_map(|record| record.consegna.as_ref()).collect();
        taken.sort();
        ended.sort();
        assert_eq!(taken, ended, "PEC-LOG-07, PEC-LOG-08");
    }
}

// PEC-LOG-05 PEC-LOG-06 PEC-LOG-07 PEC-LOG-08 PEC-LOG-10 PEC-LOG-11 PEC-LOG-12 PEC-AP-20 PEC-AP-24
// PEC-PR-26 PEC-PR-28 PEC-PIC-01 PEC-TO-03 PEC-TO-04 PEC-GEN-10
#[test]
fn whatever_is_sent_comes_to_one_end_and_the_log_tells_of_it() {
    let mut counts = Counts::default();
    std::thread::scope(|scope| {
        let share = |first: u64| {
            move || {
                let mut counts = Counts::default();
                for seed in (first..RUNS).step_by(THREADS as usize) {
                    let run = std::panic::catch_unwind(|| play(seed));
                    match run {
                        Ok(run) => counts.add(&run),
                        Err(failure) => {
                            println!("the run of seed {seed} failed");
                            std::panic::resume_unwind(failure);
                        }
                    }
                }
                counts
            }
        };
        let threads: Vec<_> = (0..THREADS).map(|first| scope.spawn(share(first))).collect();
        for thread in threads {
            counts.add(&thread.join().unwrap());
        }
    });
    let told = format!(
        "{RUNS} runs: {} messages to {} certified recipients: {} delivered, {} failed, {} given \
         up ({} of these heard of later); {} repetitions dropped; {} restarts\n",
        counts.messages,
        counts.recipients,
        counts.delivered,
        counts.failed,
        counts.expired,
        counts.late,
        counts.repeated,
        counts.restarts
    );
    // Also when the test passes, whose output is not shown: what was counted is part of the result.
    std::io::Write::write_all(&mut std::io::stderr(), told.as_bytes()).unwrap();
    assert!(counts.delivered > 100 && counts.failed > 100 && counts.expired > 50);
    assert!(counts.late > 5 && counts.repeated > 100 && counts.restarts > 100);
}
