//! Clients that work until the server is gone, each step written down before and after it.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::Demo;
use crate::ledger::{ACCOUNTS, Attempt, Ledger, NOBODY};

/// One message of so many is large.
const LARGE_EVERY: usize = 25;
/// And has so many octets.
const LARGE_OCTETS: usize = 200 * 1024;

/// Numbers that a seed decides (Steele, Lea and Flood's SplitMix64).
pub struct Random(u64);

impl Random {
    /// From a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Another stream of numbers.
    pub fn fork(&mut self) -> Self {
        Self(self.next())
    }

    /// A number below `end`; 0 when there is none.
    pub fn below(&mut self, end: usize) -> usize {
        match u64::try_from(end) {
            Ok(end) if end > 0 => usize::try_from(self.next() % end).unwrap_or_default(),
            _ => 0,
        }
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// A message that passes the formal checks, or, from another author, one that does not.
#[must_use]
pub fn message(author: &str, to: &[&str], msgid: &str, octets: usize) -> Vec<u8> {
    let line = "Spett.le ufficio, si trasmette quanto in oggetto.\r\n";
    let body = line.repeat(1 + octets / line.len());
    format!(
        "From: {author}\r\nTo: {}\r\nSubject: prova {msgid}\r\nMessage-ID: {msgid}\r\n\
         Date: Sat, 21 Nov 2026 10:00:00 +0100\r\n\r\n{body}",
        to.join(", ")
    )
    .into_bytes()
}

/// Submits as `sender` until it is over. `label` is part of every Message-ID, and used once.
///
/// # Errors
///
/// When the connection ends or something is refused.
pub fn submit(
    demo: &Demo,
    sender: &str,
    label: &str,
    ledger: &Ledger,
    random: &mut Random,
    ends: &Ends,
) -> anyhow::Result<()> {
    let mut smtp = demo.submit_as(sender)?;
    ends.signed_in();
    for serial in 1.. {
        if ends.is_over() {
            break;
        }
        let msgid = format!("<{label}.{serial}@cliente.example>");
        let mut recipients = vec![ACCOUNTS[random.below(ACCOUNTS.len())]];
        match random.below(6) {
            0 => recipients.push(NOBODY),
            1 | 2 => {
                let other = ACCOUNTS[random.below(ACCOUNTS.len())];
                if other != recipients[0] {
                    recipients.push(other);
                }
            }
            _ => {}
        }
        let proper = random.below(8) > 0;
        // A From that is not the reverse-path fails the formal checks.
        let author = if proper { sender } else { "altri@pec.beta.example" };
        let octets = if random.below(LARGE_EVERY) == 0 { LARGE_OCTETS } else { 200 };
        let message = message(author, &recipients, &msgid, octets);
        let attempt = Attempt {
            sender: sender.to_owned(),
            recipients: recipients.iter().map(ToString::to_string).collect(),
            proper,
            acknowledged: None,
        };
        ledger.tried(&msgid, attempt);
        let id = smtp.submit(sender, &recipients, &message)?;
        ledger.acknowledged(&msgid, &id);
    }
    Ok(())
}

/// How clients' work ends.
#[derive(Default)]
pub struct Ends {
    over: AtomicBool,
    told: std::sync::Mutex<Vec<String>>,
    signed_in: AtomicUsize,
}

impl Ends {
    /// Somebody's work ended so. That the server was gone is what it should end with.
    pub fn end(&self, who: &str, ended: anyhow::Result<()>) {
        let Err(error) = ended else { return };
        let gone = error.chain().any(|cause| cause.is::<io::Error>());
        if !gone {
            let mut told = self.told.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            told.push(format!("{who}: {error:#}"));
        }
    }

    /// Everybody finishes what is begun, and no more.
    pub fn enough(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Whether it is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Somebody signed in.
    pub fn signed_in(&self) {
        self.signed_in.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether somebody did.
    #[must_use]
    pub fn anyone(&self) -> bool {
        self.signed_in.load(Ordering::Relaxed) > 0
    }

    /// What the server said no to.
    #[must_use]
    pub fn told(self) -> Vec<String> {
        self.told.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
