//! A name server of a test's own: what it knows is a table of text records, hosts and addresses, and it
//! can fail.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often it looks whether it is to end.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const A: u16 = 1;
const MX: u16 = 15;
const TXT: u16 = 16;

/// Answers on a free port of the loopback until it is dropped.
pub struct Dns {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

/// The kinds of records, and what they hold.
type Records = Vec<(u16, Vec<u8>)>;

#[derive(Default)]
struct Shared {
    /// Of each name.
    records: Mutex<HashMap<String, Records>>,
    fails: AtomicBool,
    asked: AtomicUsize,
    ends: AtomicBool,
}

impl Dns {
    /// Starts it with these names and their text records.
    ///
    /// # Errors
    ///
    /// When there is no port for it.
    pub fn start(texts: &[(&str, &str)]) -> anyhow::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_read_timeout(Some(LOOK_EVERY))?;
        let address = socket.local_addr()?;
        let shared = Arc::new(Shared::default());
        let dns = Self { address, shared: shared.clone() };
        for (name, text) in texts {
            dns.set(name, text);
        }
        std::thread::spawn(move || {
            let mut question = [0; 1500];
            while !shared.ends.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut question) else { continue };
                if let Some(answer) = shared.answer(&question[..length]) {
                    // Who asked asks again when this is lost.
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Ok(dns)
    }

    /// From now on `name` has this text, in strings of 255 octets at most (RFC 1035 §3.3.14).
    pub fn set(&self, name: &str, text: &str) {
        let mut strings = Vec::new();
        for part in text.as_bytes().chunks(255) {
            strings.extend(u8::try_from(part.len()));
            strings.extend_from_slice(part);
        }
        self.record(name, TXT, strings);
    }

    /// From now on mail for `name` goes to `host` (RFC 1035 §3.3.9).
    pub fn set_mx(&self, name: &str, host: &str) {
        let mut data = vec![0, 10];
        for label in host.split('.') {
            data.extend(u8::try_from(label.len()));
            data.extend_from_slice(label.as_bytes());
        }
        data.push(0);
        self.record(name, MX, data);
    }

    /// From now on `name` has this address.
    pub fn set_address(&self, name: &str, address: Ipv4Addr) {
        self.record(name, A, address.octets().to_vec());
    }

    /// From now on there is no `name`.
    pub fn unset(&self, name: &str) {
        let mut records = self.shared.records.lock().unwrap_or_else(PoisonError::into_inner);
        records.remove(&name.to_ascii_lowercase());
    }

    /// Sets the one record of this kind.
    fn record(&self, name: &str, kind: u16, data: Vec<u8>) {
        let mut records = self.shared.records.lock().unwrap_or_else(PoisonError::into_inner);
        let of_name = records.entry(name.to_ascii_lowercase()).or_default();
        of_name.retain(|(other, _)| *other != kind);
        of_name.push((kind, data));
    }

    /// From now on every answer is that it cannot be told (SERVFAIL), or no longer so.
    pub fn fail(&self, fails: bool) {
        self.shared.fails.store(fails, Ordering::Relaxed);
    }

    /// How many questions came.
    pub fn asked(&self) -> usize {
        self.shared.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    /// RFC 1035 §4.1: a header of twelve octets, the question again, and a record if there is one.
    fn answer(&self, query: &[u8]) -> Option<Vec<u8>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let (mut at, mut labels) = (12, Vec::new());
        loop {
            let length = usize::from(*query.get(at)?);
            at += 1;
            if length == 0 {
                break;
            }
            labels.push(String::from_utf8_lossy(query.get(at..at + length)?).to_ascii_lowercase());
            at += length;
        }
        let question = query.get(12..at + 4)?;
        let kind = u16::from_be_bytes(query.get(at..at + 2)?.try_into().ok()?);
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let (code, found) = match records.get(&labels.join(".")) {
            _ if self.fails.load(Ordering::Relaxed) => (2, None),
            None => (3, None),
            Some(of_name) => (0, of_name.iter().find(|(of, _)| *of == kind)),
        };
        let mut answer = query.get(..2)?.to_vec();
        answer.extend([0x85, 0x80 | code, 0, 1, 0, u8::from(found.is_some()), 0, 0, 0, 0]);
        answer.extend_from_slice(question);
        if let Some((kind, data)) = found {
            // The name is that of the question, twelve octets in.
            answer.extend([0xc0, 12]);
            answer.extend(kind.to_be_bytes());
            answer.extend([0, 1, 0, 0, 0, 1]);
            answer.extend(u16::try_from(data.len()).ok()?.to_be_bytes());
            answer.extend(data);
        }
        Some(answer)
    }
}
