//! Certified messages a second, and signatures a second, for the benchmarks that ask about either.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use crypto::{LocalSigner, Signer};
use scenarios::{Demo, wire};

use crate::{message, setting};

/// Acceptance receipt, transport envelope, take-charge receipt, delivery receipt.
pub const SIGNATURES_EACH: f64 = 4.0;
/// How long signatures are counted.
const CEILING_TIME: Duration = Duration::from_secs(4);
const FROM: &str = "mario.rossi@pec.alfa.example";
const TO: &str = "studio.verdi@pec.beta.example";

/// What is sent, and by how many at once.
pub struct Load {
    messages: usize,
    octets: usize,
    connections: usize,
}

impl Load {
    /// How many.
    pub fn messages(&self) -> usize {
        self.messages
    }

    /// So many messages, of `BENCH_OCTETS` by `BENCH_CONNECTIONS`.
    pub fn of(messages: usize) -> Self {
        let octets = setting("BENCH_OCTETS", 20_000);
        Self { messages, octets, connections: setting("BENCH_CONNECTIONS", 64) }
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x {} / {}", self.messages, self.octets, self.connections)
    }
}

/// Messages a second.
pub struct Rate {
    /// To the last `250`.
    pub acknowledged: f64,
    /// To the last receipt.
    pub certified: f64,
}

/// What the cores sign with this key (PEM) when they do nothing else.
///
/// # Errors
///
/// When it is no key.
pub fn signatures_a_second(key: &[u8]) -> anyhow::Result<f64> {
    let signer = Arc::new(LocalSigner::from_pem(key)?);
    counted(|| {
        let signer = signer.clone();
        Ok(move || signer.sign(&[7; 150]).is_ok())
    })
}

/// How often a second, on all cores together, what `make` gives each of them can be done.
///
/// # Errors
///
/// What `make` fails with.
pub fn counted<W: FnMut() -> bool + Send>(
    make: impl Fn() -> anyhow::Result<W>,
) -> anyhow::Result<f64> {
    let cores = std::thread::available_parallelism()?.get();
    let each = (0..cores).map(|_| make()).collect::<anyhow::Result<Vec<W>>>()?;
    let began = Instant::now();
    let count: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = each
            .into_iter()
            .map(|mut work| {
                scope.spawn(move || {
                    let mut count = 0;
                    while began.elapsed() < CEILING_TIME && work() {
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).sum()
    });
    Ok(rate(count, began))
}

/// Sends, and waits for every receipt.
///
/// # Errors
///
/// When a message is refused, or the receipts do not come.
pub fn certified_a_second(demo: &Demo, load: &Load) -> anyhow::Result<Rate> {
    certified_through(&[demo], load)
}

/// The same through several gateways on one store, in turns.
///
/// # Errors
///
/// As [`certified_a_second`]; when there is no gateway.
pub fn certified_through(demos: &[&Demo], load: &Load) -> anyhow::Result<Rate> {
    let mut watch = demos.first().context("no gateway")?.imap_as("mrossi")?;
    let mut clients = Vec::with_capacity(load.connections);
    for demo in demos.iter().cycle().take(load.connections) {
        clients.push(demo.submit_as("mrossi")?);
    }
    let there = watch.count("INBOX")?;
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
                        if number >= load.messages {
                            return Ok(());
                        }
                        let text = message(FROM, TO, &format!("prova{number}"), load.octets);
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
    let acknowledged = rate(load.messages, began);
    // Two receipts for each message: the last one may come well after the last `250`.
    let wanted = there + 2 * load.messages as u64;
    while watch.count("INBOX")? < wanted {
        wire::pause();
    }
    Ok(Rate { acknowledged, certified: rate(load.messages, began) })
}

#[expect(clippy::cast_precision_loss, reason = "some thousands")]
fn rate(count: usize, since: Instant) -> f64 {
    count as f64 / since.elapsed().as_secs_f64()
}
