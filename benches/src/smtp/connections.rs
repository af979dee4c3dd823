//! What a connection costs in memory, and whether ten thousand slow ones starve the others.

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use scenarios::Demo;

use super::submission::stop_signing;
use super::{Bodies, OCTETS, Until, folder, load, rate, send};
use crate::resident_kib;

const FROM: &str = "mario.rossi@pec.alfa.example";
const TO: &str = "studio.verdi@pec.beta.example";
/// What the demo's configuration says of limits.
const LIMITS: &str = "unthrottled = [\"127.0.0.0/8\"]";
/// Connections in the middle of a message.
const SENDING: usize = 500;
/// KiB that each has sent of it when memory is read: within what a spool keeps, and past it.
const SENT_KIB: [usize; 7] = [64, 127, 192, 255, 383, 700, 1000];
/// Octets to one connection before it is the next one's turn.
const TURN_OCTETS: usize = 16 * 1024;
/// Connections that say next to nothing.
pub const SLOW: usize = 10_000;
/// Clients that work beside them.
const GOOD: usize = 16;
const TIME: Duration = Duration::from_secs(5);

/// KiB of resident memory for each connection with TLS that has sent a part of a message: the most that it
/// was at any of `SENT_KIB`.
///
/// # Errors
///
/// When one is refused.
pub fn memory(bodies: &Bodies) -> anyhow::Result<f64> {
    let folder = folder()?;
    let demo = Demo::start(&folder.path().join("demo"))?;
    // A first login takes the memory of the password's hash, which is not a connection's.
    drop(super::signed_in(&demo, "mrossi", 8)?);
    let before = resident_kib(demo.pid())?;
    let mut held = Vec::with_capacity(SENDING);
    for _ in 0..SENDING {
        let mut smtp = demo.submit_as("mrossi")?;
        let commands = format!("MAIL FROM:<{FROM}>\r\nRCPT TO:<{TO}>\r\nDATA\r\n");
        smtp.wire.write(commands.as_bytes())?;
        for code in ["250", "250", "354"] {
            smtp.expect(code)?;
        }
        held.push(smtp);
    }
    let largest = SENT_KIB.into_iter().max().unwrap_or_default() * 1024;
    // Whole lines: a little more, so that there is enough.
    let text = bodies.message(FROM, TO, 0, largest + 1024);
    let (mut sent, mut most) = (0, 0);
    for until in SENT_KIB.map(|kib| kib * 1024) {
        for turn in text[sent..until].chunks(TURN_OCTETS) {
            for smtp in &mut held {
                smtp.wire.write(turn)?;
            }
        }
        sent = until;
        let after = settled(demo.pid())?.saturating_sub(before);
        crate::say(&format!("KiB of {SENDING} connections at {} KiB", until / 1024), after);
        most = after.max(most);
    }
    drop(held);
    #[expect(clippy::cast_precision_loss, reason = "some thousands")]
    Ok(most as f64 / SENDING as f64)
}

/// The resident memory of a process once it does not change any more.
fn settled(pid: u32) -> anyhow::Result<u64> {
    let mut last = resident_kib(pid)?;
    for _ in 0..20 {
        std::thread::sleep(Duration::from_millis(250));
        let now = resident_kib(pid)?;
        if now == last {
            break;
        }
        last = now;
    }
    Ok(last)
}

/// Submissions answered a second beside so many slow connections.
///
/// # Errors
///
/// When a good client is refused.
pub fn beside(bodies: &Bodies, slow: usize) -> anyhow::Result<f64> {
    let folder = folder()?;
    let more = format!("{LIMITS}\nconnections_max = {}", SLOW + 100);
    let demo = Demo::start_changed(&folder.path().join("demo"), &[(LIMITS, &more)], "")?;
    let services = ["smtp", "submission", "submissions"];
    let mut held = Vec::with_capacity(slow);
    for number in 0..slow {
        let address = demo.address(services[number % services.len()])?;
        held.push(TcpStream::connect(address)?);
    }
    let mut clients = super::signed_in(&demo, "mrossi", GOOD)?;
    stop_signing(&demo)?;
    let over = AtomicBool::new(false);
    let (count, took) = std::thread::scope(|scope| {
        scope.spawn(|| {
            // An octet from each in every second.
            while !over.load(Ordering::Relaxed) {
                let began = Instant::now();
                for socket in &mut held {
                    // The server may have enough of it: that is its right.
                    let _ = std::io::Write::write_all(socket, b"E");
                }
                std::thread::sleep(Duration::from_secs(1).saturating_sub(began.elapsed()));
            }
        });
        let done = load(&mut clients, Until::Time(TIME), |smtp, number| {
            send(smtp, FROM, TO, &bodies.message(FROM, TO, number, OCTETS))
        });
        over.store(true, Ordering::Relaxed);
        done
    })?;
    demo.kill()?;
    Ok(rate(count, took))
}
