//! The process that hands mail over is killed in the middle of the dialogue, and started again: the
//! other host has the message once; or twice, with the same identifier, when the end came between its
//! last octet and the commit that follows the `250` (`docs/crash-states.md`).
//!
//! Over TLS, as between hosts today. Every octet would take hours: places are taken evenly from the
//! whole connection, and closer to each other where the window is. Every octet, in clear and over TLS
//! and without a process of its own, has the test of the relay in package `server`.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};
use scenarios::certificates::Issuer;
use scenarios::host::Host;
use scenarios::{Demo, outside, wire};

const DOMAIN: &str = "altrove.example";
/// Places all over the connection.
const EVENLY: usize = 32;
/// And at its end: so many, each so many octets before the one before. The record of the answer to the
/// end of the content has more octets than that.
const AT_THE_END: (usize, usize) = (14, 15);
/// The last octets, of TLS's goodbye, may be lost on their way: nobody is killed there.
const GOODBYE_OCTETS: usize = 30;
/// From the end of the content on there are at most so many octets in a connection: three short
/// replies and commands in records of their own, and what TLS says at its end.
const WINDOW_OCTETS: usize = 260;

/// What the wire does next.
#[derive(Default)]
struct Plan {
    /// Octets until the kill, and whom it meets.
    until: Option<(usize, u32)>,
    /// Octets of this connection so far, both ways.
    passed: usize,
    /// Ways on which nothing comes any more.
    ended: usize,
}

impl Plan {
    fn begin(&mut self) {
        (self.passed, self.ended) = (0, 0);
    }
}

/// A wire to the host that counts octets, and kills who sends at one of them.
struct Cutter {
    address: SocketAddr,
    plan: Arc<Mutex<Plan>>,
    killed: Receiver<()>,
}

impl Cutter {
    fn start(host: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let plan = Arc::<Mutex<Plan>>::default();
        let (tell, killed) = channel();
        let wire = plan.clone();
        std::thread::spawn(move || {
            while let Ok((from, _)) = listener.accept() {
                let Ok(to) = TcpStream::connect(host) else { return };
                lock(&wire).begin();
                for (from, to) in [(&from, &to), (&to, &from)] {
                    let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else { return };
                    let (wire, tell) = (wire.clone(), tell.clone());
                    std::thread::spawn(move || {
                        // Either end may go at any time: so does the other then.
                        if let Ok(true) = carry(&from, &to, &wire) {
                            let _ = tell.send(());
                        }
                        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
                        lock(&wire).ended += 1;
                    });
                }
            }
        });
        Ok(Self { address, plan, killed })
    }

    fn kill_at(&self, octets: usize, process: u32) {
        lock(&self.plan).until = Some((octets, process));
    }
}

fn lock(plan: &Mutex<Plan>) -> std::sync::MutexGuard<'_, Plan> {
    plan.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Carries octets one way. Whether it ended with a kill.
fn carry(mut from: &TcpStream, mut to: &TcpStream, plan: &Mutex<Plan>) -> anyhow::Result<bool> {
    let mut octets = vec![0; 16 * 1024];
    loop {
        let count = from.read(&mut octets)?;
        if count == 0 {
            return Ok(false);
        }
        let mut plan = lock(plan);
        let left = plan.until.map_or(usize::MAX, |(until, _)| until.saturating_sub(plan.passed));
        let now = count.min(left);
        to.write_all(&octets[..now])?;
        plan.passed += now;
        if let Some((_, process)) = plan.until.filter(|(until, _)| plan.passed >= *until) {
            plan.until = None;
            let process = Pid::from_raw(i32::try_from(process)?).context("no process")?;
            kill_process(process, Signal::KILL)?;
            return Ok(true);
        }
    }
}

#[test]
fn a_sender_killed_in_the_middle_of_a_dialogue_brings_the_message_once_or_twice_in_the_window()
-> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let pair = Issuer::new(&folder.path().join("authority"))?.issue(&["mx.example"])?;
    let host = Host::start("127.0.0.1:0".parse()?, Some((&pair.chain, &pair.key)))?;
    let cutter = Cutter::start(host.address)?;
    let data = folder.path().join("demo");
    let route = format!("\n[routes]\n\"{DOMAIN}\" = \"{}\"\n", cutter.address);
    let mut demo = Demo::start_changed(&data, &[], &route)?;

    // A whole connection, to know how long it is.
    let id = outside::submit(&demo, &[DOMAIN])?;
    outside::sent(&demo, &id, DOMAIN)?;
    let length = wire::until("the end of the connection", || {
        let plan = lock(&cutter.plan);
        Ok((plan.ended == 2).then_some(plan.passed))
    })?;
    ensure!(length > 10_000 && host.taken().iter().all(|taken| taken.over_tls), "{length}");

    let evenly = (1..=EVENLY).map(|place| place * length / (EVENLY + 1));
    let (count, step) = AT_THE_END;
    let at_the_end = (0..count).map(|place| length - GOODBYE_OCTETS - place * step);
    let mut doubled = Vec::new();
    for place in evenly.chain(at_the_end) {
        cutter.kill_at(place, demo.pid());
        let id = outside::submit(&demo, &[DOMAIN])?;
        let killed = cutter.killed.recv_timeout(wire::ANSWER_WAIT);
        killed.with_context(|| format!("not killed at {place} of {length}"))?;
        demo.kill()?;
        demo = Demo::start(&data)?;
        demo.settle()?;
        let identifier = format!("Message-ID: <{id}>");
        let copies =
            host.taken().iter().filter(|taken| taken.content.contains(&identifier)).count();
        match copies {
            1 => {}
            2 => {
                ensure!(place + WINDOW_OCTETS > length, "twice, killed at {place} of {length}");
                doubled.push(place);
            }
            _ => anyhow::bail!("{copies} copies, killed at {place} of {length}"),
        }
        let records = outside::told(&demo, &["log", "find", "--message-id", &id])?;
        let sent = records.iter().filter(|record| record["event"] == "trasmissione").count();
        ensure!(sent == 1, "{sent} records of it, killed at {place} of {length}");
    }
    scenarios::say(&format!("{length} octets; twice when killed at {doubled:?}"));
    // The window is there, and one that nobody ever met would say that nothing was cut.
    ensure!(!doubled.is_empty(), "no kill met the window");
    Ok(())
}
