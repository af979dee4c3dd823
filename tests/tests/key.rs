//! The provider's key lives in a process of its own: the one that talks to strangers never has it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fs::File;
use std::os::unix::fs::FileExt;

use scenarios::Demo;

/// A first prime of an RSA-3072 key; half of it is more than chance can repeat.
const PRIME_PART: usize = 96;

// PEC-SIG-06
#[test]
fn the_key_is_in_the_signing_process_and_in_no_other() {
    let folder = tempfile::tempdir().unwrap();
    // The first start makes the keys; even then the serving process ends up without them.
    for _ in 0..2 {
        let demo = Demo::start(&folder.path().join("demo")).unwrap();
        exchange(&demo);
        let secret = prime(&std::fs::read(demo.data.join("signing.key")).unwrap());
        let signer = child_of(demo.pid());
        assert!(!holds(demo.pid(), &secret), "the serving process has the key in its memory");
        assert!(holds(signer, &secret), "the search finds the key where it is");
        let opened = std::fs::read_dir(format!("/proc/{}/fd", demo.pid())).unwrap();
        for entry in opened.flatten() {
            let target = std::fs::read_link(entry.path()).unwrap_or_default();
            assert!(!target.ends_with("signing.key"));
        }
        // Other processes of the same user may not look into it: it is not dumpable, so its memory
        // belongs to root.
        let owner = std::fs::metadata(format!("/proc/{signer}/mem")).unwrap();
        assert_eq!(std::os::unix::fs::MetadataExt::uid(&owner), 0);
        assert!(demo.stop().unwrap().success());
    }
}

fn exchange(demo: &Demo) {
    let from = "mario.rossi@pec.alfa.example";
    let to = "studio.verdi@pec.beta.example";
    let text = format!("From: {from}\r\nTo: {to}\r\nSubject: Prova\r\n\r\nBuongiorno.\r\n");
    let mut inbox = demo.imap_as("mrossi").unwrap();
    let before = inbox.count("INBOX").unwrap();
    demo.submit_as("mrossi").unwrap().submit(from, &[to], text.as_bytes()).unwrap();
    inbox.wait_for_count("INBOX", before + 2).unwrap();
}

/// Octets of the first prime of a PKCS#8 RSA key, in the order in which a big number is kept in
/// memory: least significant limb first.
fn prime(pem: &[u8]) -> Vec<u8> {
    let key = openssl::rsa::Rsa::private_key_from_pem(pem).unwrap();
    let mut octets = key.p().unwrap().to_vec();
    octets.reverse();
    octets.truncate(PRIME_PART);
    octets
}

fn child_of(pid: u32) -> u32 {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let all = threads.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let found: Vec<u32> = all
        .chain([children])
        .flat_map(|l| l.split_whitespace().map(|n| n.parse().unwrap()).collect::<Vec<_>>())
        .collect();
    *found.first().unwrap_or_else(|| panic!("no signing process"))
}

/// Whether the memory of a process holds these octets.
fn holds(pid: u32, wanted: &[u8]) -> bool {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let ranges = maps.lines().filter_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let readable = rest.starts_with('r') && !rest.ends_with("[vvar]");
        let bound = |text| u64::from_str_radix(text, 16).ok();
        readable.then(|| Some((bound(start)?, bound(end)?)))?
    });
    ranges.into_iter().any(|(start, end)| {
        let mut octets = vec![0; usize::try_from(end - start).unwrap()];
        // A mapping may be gone meanwhile, or be of a device: then it holds nothing.
        memory.read_exact_at(&mut octets, start).is_ok()
            && memchr::memmem::find(&octets, wanted).is_some()
    })
}
