//! A scanner that says what it is told to, for these tests and those of the flow.

use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use super::*;

/// A clamd that finds a virus where the text `EICAR` is, until it is told otherwise.
pub(crate) struct Told {
    pub(crate) place: String,
    /// What it answers to all that comes; nothing: by what it finds.
    pub(crate) says: Arc<Mutex<Option<&'static [u8]>>>,
    /// What it was shown.
    pub(crate) shown: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Told {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let place = listener.local_addr().unwrap().to_string();
        let (says, shown): (Arc<Mutex<_>>, Arc<Mutex<Vec<_>>>) = (Arc::default(), Arc::default());
        let (say, show) = (says.clone(), shown.clone());
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                // Who hangs up early is as good as who does not.
                let _ = answer(&mut socket.unwrap(), *say.lock().unwrap(), &show);
            }
        });
        Self { place, says, shown }
    }

    fn place(&self) -> Place {
        Place::Tcp(self.place.clone())
    }
}

fn answer(
    socket: &mut TcpStream,
    says: Option<&'static [u8]>,
    shown: &Mutex<Vec<Vec<u8>>>,
) -> io::Result<()> {
    let mut command = Vec::new();
    while command.last() != Some(&0) {
        let mut octet = [0];
        socket.read_exact(&mut octet)?;
        command.push(octet[0]);
    }
    if command == b"zVERSION\0" {
        return socket.write_all(b"ClamAV 1.4.3/27000/Mon Jan  5 10:00:00 2026\0");
    }
    assert_eq!(command, b"zINSTREAM\0");
    let mut octets = Vec::new();
    loop {
        let mut length = [0; 4];
        socket.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        if length == 0 {
            break;
        }
        assert!(length <= PIECE_OCTETS);
        let start = octets.len();
        octets.resize(start + length, 0);
        socket.read_exact(&mut octets[start..])?;
    }
    let infected = octets.windows(5).any(|window| window == b"EICAR");
    shown.lock().unwrap().push(octets);
    let found: &[u8] = if infected { b"stream: Eicar-Test FOUND\0" } else { b"stream: OK\0" };
    socket.write_all(says.unwrap_or(found))
}

fn scan_at(place: &Place, octets: &[u8]) -> Result<Verdict, ScanError> {
    Clamd::new(place, Duration::from_secs(30)).scan(octets)
}

// PEC-AP-26 PEC-GEN-18
#[test]
fn a_message_is_shown_whole_behind_a_field_of_ours() {
    let scanner = Told::start();
    let message = [b"Foo: bar\r\n\r\n".to_vec(), vec![b'x'; 3 * PIECE_OCTETS]].concat();
    assert_eq!(scan_at(&scanner.place(), &message), Ok(Verdict::Clean));
    assert_eq!(*scanner.shown.lock().unwrap(), [[HEAD, &message].concat()]);
    let infected = scan_at(&scanner.place(), b"Foo: bar\r\n\r\nEICAR\r\n");
    assert_eq!(infected, Ok(Verdict::Infected("Eicar-Test".to_owned())));
}

#[test]
fn every_reply_but_ok_is_no_clean_message() {
    for (reply, said) in [
        (&b"stream: OK"[..], Said::Clean),
        (b"stream: Win.Test.EICAR_HDB-1 FOUND", Said::Found("Win.Test.EICAR_HDB-1".to_owned())),
        (b"stream: OK FOUND", Said::Found("OK".to_owned())),
        (b"stream: a\x1b[31m\xffb FOUND", Said::Found("a?[31m?b".to_owned())),
        (b"INSTREAM size limit exceeded. ERROR", Said::TooLarge),
        (b"stream:  FOUND", Said::Other("stream:  FOUND".to_owned())),
        (b"stream: OK ERROR", Said::Other("stream: OK ERROR".to_owned())),
        (b"OK", Said::Other("OK".to_owned())),
        (b"", Said::Other(String::new())),
    ] {
        assert_eq!(read_reply(reply), said, "{}", String::from_utf8_lossy(reply));
    }
    let long = format!("stream: {} FOUND", "v".repeat(NAME_MAX + 1));
    assert_eq!(read_reply(long.as_bytes()), Said::Found("v".repeat(NAME_MAX)));
}

#[test]
fn what_does_not_answer_as_clamd_does_has_scanned_nothing() {
    let scanner = Told::start();
    let place = scanner.place();
    let long: &'static [u8] = vec![b'x'; REPLY_OCTETS_MAX + 1].leak();
    // A reply that ends before its NUL is no reply, whatever it says so far.
    for says in [&b""[..], b"UNKNOWN COMMAND\0", long, b"stream: OK", b"stream: OK\n"] {
        *scanner.says.lock().unwrap() = Some(says);
        let scanned = scan_at(&place, b"Foo: bar\r\n\r\n");
        assert!(matches!(scanned, Err(ScanError::Unavailable(..))), "{scanned:?}");
    }
    *scanner.says.lock().unwrap() = Some(b"INSTREAM size limit exceeded. ERROR\0");
    let refused = ScanError::TooLarge(place.to_string(), 12);
    assert_eq!(scan_at(&place, b"Foo: bar\r\n\r\n"), Err(refused));
    // Nobody there, and nobody who speaks.
    let nowhere = tempfile::tempdir().unwrap();
    let gone = Place::Unix(nowhere.path().join("clamd.ctl"));
    assert!(matches!(scan_at(&gone, b""), Err(ScanError::Unavailable(..))));
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = Place::Tcp(silent.local_addr().unwrap().to_string());
    let scanned = Clamd::new(&place, Duration::from_millis(50)).scan(b"Foo: bar\r\n\r\n");
    let why = "it does not answer in time".to_owned();
    assert_eq!(scanned, Err(ScanError::Unavailable(place.to_string(), why)));
}

#[test]
fn the_version_is_what_it_says() {
    let scanner = Told::start();
    let place = scanner.place();
    let version = Clamd::new(&place, Duration::from_secs(30)).version().unwrap();
    assert_eq!(version, "ClamAV 1.4.3/27000/Mon Jan  5 10:00:00 2026");
}

#[test]
fn who_finds_it_hanging_tries_alone_after_a_rest() {
    let scanner = Scanner::default();
    let (now, timeout) = (Instant::now(), Duration::from_secs(60));
    assert!(scanner.may_try(now, timeout) && scanner.may_try(now, timeout));
    *scanner.lock() = Some(now + REST);
    assert!(!scanner.may_try(now, timeout));
    let later = now + REST;
    assert!(scanner.may_try(later, timeout));
    assert!(!scanner.may_try(later, timeout), "one at a time");
    assert!(scanner.may_try(later + timeout, timeout), "also when that one never came back");
}

#[test]
fn one_scan_past_the_bound_waits_and_is_never_taken_for_clean() {
    let (told, scanner) = (Told::start(), Scanner::default());
    let settings = Antivirus { clamd: Some(told.place()), ..Antivirus::default() };
    let mut turns: Vec<_> =
        (0..SCANS_MAX).map(|_| Turn::take(&scanner.under_way).unwrap()).collect();
    for _ in 0..2 {
        let busy = ScanError::Unavailable(told.place.clone(), "it is busy with others".to_owned());
        assert_eq!(scanner.scan(&settings, b"EICAR"), Err(busy));
    }
    assert!(told.shown.lock().unwrap().is_empty(), "nobody was asked");
    turns.pop();
    let found = Verdict::Infected("Eicar-Test".to_owned());
    assert_eq!(scanner.scan(&settings, b"EICAR"), Ok(found));
}
