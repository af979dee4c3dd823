//! How many certified messages a second, from submission to the delivery receipt in the sender's
//! INBOX, all durable; and how near that is to what signing alone allows.
//!
//! The ceiling is measured in the same run with the same key on the same cores: signatures a
//! second, divided by the signatures that one message needs (acceptance receipt, transport
//! envelope, take-charge receipt, delivery receipt). The load comes from this process, which takes
//! its share of the same cores.
//!
//! `BENCH_MESSAGES`, `BENCH_CONNECTIONS` and `BENCH_OCTETS` change the load.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use benches::{message, say, setting};
use crypto::{LocalSigner, Signer};
use scenarios::{Demo, wire};

/// Acceptance receipt, transport envelope, take-charge receipt, delivery receipt.
const SIGNATURES_EACH: f64 = 4.0;
const CEILING_TIME: Duration = Duration::from_secs(4);
const FROM: &str = "mario.rossi@pec.alfa.example";
const TO: &str = "studio.verdi@pec.beta.example";

fn main() -> anyhow::Result<()> {
    let messages = setting("BENCH_MESSAGES", 6000);
    let connections = setting("BENCH_CONNECTIONS", 64);
    let octets = setting("BENCH_OCTETS", 20_000);
    let folder = tempfile::tempdir()?;
    let demo = Demo::start(&folder.path().join("demo"))?;

    let key = std::fs::read(demo.data.join("signing.key"))?;
    let before = signatures_a_second(&key)?;
    let certified = certified_a_second(&demo, messages, connections, octets)?;
    let after = signatures_a_second(&key)?;
    let ceiling = f64::midpoint(before, after) / SIGNATURES_EACH;

    say("messages, octets each, connections", format!("{messages} x {octets} / {connections}"));
    say("signatures a second, all cores, before and after", format!("{before:.0}, {after:.0}"));
    say("ceiling: certified messages a second by signing alone", format!("{ceiling:.0}"));
    say("certified messages a second, measured", format!("{certified:.0}"));
    say("ratio to the ceiling", format!("{:.2}", certified / ceiling));
    demo.stop()?;
    Ok(())
}

/// What the cores sign with this key when they do nothing else.
fn signatures_a_second(key: &[u8]) -> anyhow::Result<f64> {
    let cores = std::thread::available_parallelism()?.get();
    let signer = Arc::new(LocalSigner::from_pem(key)?);
    let began = Instant::now();
    let count: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores)
            .map(|_| {
                let signer = signer.clone();
                scope.spawn(move || {
                    let mut count = 0;
                    while began.elapsed() < CEILING_TIME && signer.sign(&[7; 150]).is_ok() {
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).sum()
    });
    #[expect(clippy::cast_precision_loss, reason = "some thousands")]
    Ok(count as f64 / began.elapsed().as_secs_f64())
}

fn certified_a_second(
    demo: &Demo,
    messages: usize,
    connections: usize,
    octets: usize,
) -> anyhow::Result<f64> {
    let mut watch = demo.imap_as("mrossi")?;
    let mut clients = Vec::with_capacity(connections);
    for _ in 0..connections {
        clients.push(demo.submit_as("mrossi")?);
    }
    let next = Arc::new(AtomicUsize::new(0));
    let began = Instant::now();
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let threads: Vec<_> = clients
            .into_iter()
            .map(|mut client| {
                let next = next.clone();
                scope.spawn(move || -> anyhow::Result<()> {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= messages {
                            return Ok(());
                        }
                        let text = message(FROM, TO, &format!("prova{number}"), octets);
                        client.submit(FROM, &[TO], &text)?;
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
        }
        Ok(())
    })?;
    say("submitted and acknowledged a second", format!("{:.0}", rate(messages, began)));
    // Two receipts for each message: the last one may come well after the last `250`.
    let wanted = 2 * messages as u64;
    while watch.count("INBOX")? < wanted {
        wire::pause();
    }
    Ok(rate(messages, began))
}

#[expect(clippy::cast_precision_loss, reason = "some thousands")]
fn rate(count: usize, since: Instant) -> f64 {
    count as f64 / since.elapsed().as_secs_f64()
}
