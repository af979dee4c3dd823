//! A name server of a test's own: what it knows is a table of text records, and it can fail.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often it looks whether it is to end.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const TXT: [u8; 2] = [0, 16];

/// Answers on a free port of the loopback until it is dropped.
pub struct Dns {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    texts: Mutex<HashMap<String, String>>,
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

    /// From now on `name` has this text.
    pub fn set(&self, name: &str, text: &str) {
        let mut texts = self.shared.texts.lock().unwrap_or_else(PoisonError::into_inner);
        texts.insert(name.to_ascii_lowercase(), text.to_owned());
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
        let texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        let text = texts.get(&labels.join("."));
        let is_text = query.get(at..at + 2)? == TXT;
        let (code, found) = match text {
            _ if self.fails.load(Ordering::Relaxed) => (2, None),
            None => (3, None),
            Some(text) => (0, is_text.then_some(text)),
        };
        let mut answer = query.get(..2)?.to_vec();
        answer.extend([0x85, 0x80 | code, 0, 1, 0, u8::from(found.is_some()), 0, 0, 0, 0]);
        answer.extend_from_slice(question);
        if let Some(text) = found {
            let mut strings = Vec::new();
            for part in text.as_bytes().chunks(255) {
                strings.push(u8::try_from(part.len()).ok()?);
                strings.extend_from_slice(part);
            }
            // The name is that of the question, twelve octets in.
            answer.extend([0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 1]);
            answer.extend(u16::try_from(strings.len()).ok()?.to_be_bytes());
            answer.extend(strings);
        }
        Some(answer)
    }
}
