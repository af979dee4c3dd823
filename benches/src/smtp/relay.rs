//! How many messages a second are handed on to another host, each in a transaction of its own.
//!
//! One submission goes to a hundred domains, so that ours is certified once and handed over a hundred
//! times; all domains lead to one host, which takes everything and keeps nothing. In clear on both
//! sides: what is compared is the queue, not the cipher.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use scenarios::{Demo, Smtp, wire};

use super::{Bodies, OCTETS, STRANGER, folder, postfix, rate};

/// Messages in one run, and the domains that each goes to.
const MESSAGES: usize = 40;
const DOMAINS: usize = 100;
const FROM: &str = "mario.rossi@pec.alfa.example";

/// A host that takes every message and forgets it.
pub struct Sink {
    /// Where it listens.
    pub address: SocketAddr,
    taken: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
}

impl Sink {
    /// Starts it.
    ///
    /// # Errors
    ///
    /// When there is no port for it.
    pub fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let sink =
            Self { address: listener.local_addr()?, taken: Arc::default(), over: Arc::default() };
        let (taken, over) = (sink.taken.clone(), sink.over.clone());
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let taken = taken.clone();
                // A connection that breaks is the sender's affair: its messages are not counted.
                std::thread::spawn(move || drop(serve(socket, &taken)));
            }
        });
        Ok(sink)
    }

    /// Messages so far.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// When the first message and then the last of so many have come.
    fn time_of(&self, count: usize) -> anyhow::Result<Duration> {
        let wait = Duration::from_secs(120);
        wire::until_within("the first message", wait, || Ok((self.taken() > 0).then_some(())))?;
        let (began, first) = (Instant::now(), self.taken());
        wire::until_within("the last message", wait, || Ok((self.taken() >= count).then_some(())))?;
        anyhow::ensure!(first < count / 20, "{first} came at once");
        Ok(began.elapsed())
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // Whoever comes wakes it.
        let _ = TcpStream::connect(self.address);
    }
}

/// RFC 5321 §4.1.1 as far as a sender of mail needs it.
fn serve(socket: TcpStream, taken: &AtomicUsize) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let mut out = socket.try_clone()?;
    let mut input = BufReader::with_capacity(64 * 1024, socket);
    out.write_all(b"220 sink.example ESMTP\r\n")?;
    let mut line = Vec::new();
    loop {
        line.clear();
        if input.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let word = line.get(..4).unwrap_or_default().to_ascii_uppercase();
        let reply: &[u8] = match word.as_slice() {
            b"EHLO" => b"250-sink.example\r\n250-PIPELINING\r\n250-SIZE\r\n250 8BITMIME\r\n",
            b"DATA" => {
                out.write_all(b"354 go on\r\n")?;
                take(&mut input, &mut line)?;
                taken.fetch_add(1, Ordering::Relaxed);
                b"250 2.0.0 taken\r\n"
            }
            b"QUIT" => {
                out.write_all(b"221 2.0.0 bye\r\n")?;
                return Ok(());
            }
            _ => b"250 2.0.0 fine\r\n",
        };
        out.write_all(reply)?;
    }
}

/// Reads to the end of data; a sender may have said QUIT already.
fn take(input: &mut impl BufRead, line: &mut Vec<u8>) -> std::io::Result<()> {
    loop {
        line.clear();
        if input.read_until(b'\n', line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if line == b".\r\n" {
            return Ok(());
        }
    }
}

fn recipients() -> Vec<String> {
    (0..DOMAINS).map(|number| format!("cliente@d{number}.example")).collect()
}

fn submit(smtp: &mut Smtp, from: &str, number: usize, bodies: &Bodies) -> anyhow::Result<()> {
    let to = recipients();
    let text = bodies.message(from, &to.join(",\r\n "), number, OCTETS);
    let mut commands = format!("MAIL FROM:<{from}>\r\n");
    for to in &to {
        commands += &format!("RCPT TO:<{to}>\r\n");
    }
    smtp.wire.write(format!("{commands}DATA\r\n").as_bytes())?;
    for _ in 0..=to.len() {
        smtp.expect("250")?;
    }
    smtp.expect("354")?;
    smtp.wire.write(&text)?;
    smtp.expect("250")?;
    Ok(())
}

/// Ours, in one run.
///
/// # Errors
///
/// When a message is refused or does not arrive.
pub fn ours(bodies: &Bodies) -> anyhow::Result<f64> {
    let (folder, sink) = (folder()?, Sink::start()?);
    let routes: String = (0..DOMAINS)
        .map(|number| format!("\"d{number}.example\" = \"{}\"\n", sink.address))
        .collect();
    let data = folder.path().join("demo");
    let demo = Demo::start_changed(&data, &[], &format!("\n[routes]\n{routes}"))?;
    let mut smtp = demo.submit_as("mrossi")?;
    let took = std::thread::scope(|scope| -> anyhow::Result<Duration> {
        let watch = scope.spawn(|| sink.time_of(MESSAGES * DOMAINS));
        for number in 0..MESSAGES {
            submit(&mut smtp, FROM, number, bodies)?;
        }
        watch.join().map_err(|_| anyhow::anyhow!("the watch panicked"))?
    })?;
    let (_, page) = demo.page("/metrics")?;
    let window = |of: f64| quantile(&page, "ceralacca_relay_commit_seconds", of);
    let (median, most) = (window(0.5)?, window(0.99)?);
    crate::say(
        "ms from a host's 250 to the commit, median and 99 of 100",
        format!("{:.1}, {:.1}", median * 1e3, most * 1e3),
    );
    demo.kill()?;
    Ok(rate(MESSAGES * DOMAINS, took))
}

/// In how many seconds that part of what a histogram counted was done; within a bucket as if all were
/// spread evenly.
#[expect(clippy::cast_precision_loss, reason = "counts of one run")]
fn quantile(page: &str, name: &str, part: f64) -> anyhow::Result<f64> {
    let start = format!("{name}_bucket{{le=\"");
    let buckets = page.lines().filter_map(|line| line.strip_prefix(&start)?.split_once("\"} "));
    let buckets: Vec<(f64, u64)> = buckets
        .map(|(end, count)| Ok((end.replace("+Inf", "inf").parse()?, count.trim().parse()?)))
        .collect::<anyhow::Result<_>>()?;
    let all = buckets.last().map_or(0, |(_, count)| *count);
    anyhow::ensure!(all > 0, "nothing counted as {name}");
    let wanted = all as f64 * part;
    let (mut from, mut below) = (0.0, 0);
    for (end, count) in buckets {
        if count as f64 >= wanted && count > below {
            let share = (wanted - below as f64) / (count - below) as f64;
            return Ok(if end.is_finite() { from + (end - from) * share } else { from });
        }
        (from, below) = (end, count);
    }
    Ok(from)
}

/// Postfix's, in one run. To it the hundred domains are one destination, the host that takes all: it may have
/// as many connections to that as ours has to all.
///
/// # Errors
///
/// As [`ours`].
pub fn theirs(bodies: &Bodies, demo: &Demo) -> anyhow::Result<f64> {
    let sink = Sink::start()?;
    let more = format!(
        "default_transport = smtp:[127.0.0.1]:{}\nsmtp_tls_security_level = none\n\
         default_destination_concurrency_limit = 64\n\
         smtp_destination_recipient_limit = 1\ntransport_maps =\n",
        sink.address.port()
    );
    let mta = postfix(&demo.data, &more)?;
    let mut smtp = Smtp::connect_clear(mta.listen())?;
    smtp.hello()?;
    let took = std::thread::scope(|scope| -> anyhow::Result<Duration> {
        let watch = scope.spawn(|| sink.time_of(MESSAGES * DOMAINS));
        for number in 0..MESSAGES {
            submit(&mut smtp, STRANGER, number, bodies)?;
        }
        watch.join().map_err(|_| anyhow::anyhow!("the watch panicked"))?
    })?;
    Ok(rate(MESSAGES * DOMAINS, took))
}

#[cfg(test)]
mod tests {
    use super::quantile;

    #[test]
    fn a_quantile_lies_within_its_bucket() {
        let page = "x_bucket{le=\"0.001\"} 0\nx_bucket{le=\"0.002\"} 50\n\
                    x_bucket{le=\"0.01\"} 90\nx_bucket{le=\"+Inf\"} 100\nx_sum 1\n";
        for (part, secs) in [(0.25, 0.0015), (0.5, 0.002), (0.7, 0.006), (0.99, 0.01)] {
            let found = quantile(page, "x", part).unwrap();
            assert!((found - secs).abs() < 1e-9, "{part}: {found}");
        }
        assert!(quantile(page, "y", 0.5).is_err());
    }
}
