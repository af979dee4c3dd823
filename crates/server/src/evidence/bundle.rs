//! The file that an evidence bundle is: a ZIP archive of a few files with fixed names.
//!
//! It comes from anywhere when it is verified, so: names are compared with those we write and are never
//! paths; how many files, and how large each and all of them are, is bounded before anything is
//! unpacked, and again while it is. Not here: what the files say.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, Write};
use std::path::Path;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use store::Timestamp;
use store::tree::Hash;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipArchive, ZipWriter};

/// What the bundle holds: a [`Manifest`].
pub(crate) const MANIFEST: &str = "fascicolo.json";
/// The history of the message, as `log export` writes it.
pub(crate) const HISTORY: &str = "registro.json";
/// The page for a person.
pub(crate) const PAGE: &str = "leggimi.html";
/// The certificates of the authorities.
pub(crate) const AUTHORITIES: &str = "autorita.pem";
/// The records of the index of providers.
pub(crate) const INDEX: &str = "indice.ldif";
/// Where messages are.
pub(crate) const MESSAGES: &str = "messaggi/";
/// Where revocation lists are.
pub(crate) const LISTS: &str = "crl/";

/// Files at most: five messages for each of 500 recipients, and some more.
pub(crate) const FILES_MAX: usize = 4096;
/// Octets of one file at most: a message of the largest size, in an envelope.
const FILE_OCTETS_MAX: u64 = 256 * 1024 * 1024;
/// Octets of all files together at most.
const ALL_OCTETS_MAX: u64 = 2 * 1024 * 1024 * 1024;
/// Letters of a name at most.
const NAME_MAX: usize = 80;

/// How a bundle is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Format {
    /// With pages of other words, in programs of before 28 November 2026: not read any more, since nobody could tell
    /// such a page from one that was altered.
    #[serde(rename = "ceralacca-evidence-1")]
    One,
    /// The one that is written: its page is what [`pec::evidence::page`] makes.
    #[serde(rename = "ceralacca-evidence-2")]
    Two,
}

/// What a bundle holds, and what it could not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    pub(crate) format: Format,
    /// The version of the program that made it.
    pub(crate) program: String,
    /// The PEC identifier.
    pub(crate) identificativo: String,
    /// When it was made.
    pub(crate) made: Timestamp,
    /// Every file but this and the page.
    pub(crate) files: Vec<Listed>,
    /// Messages that the log tells of and that are not there any more.
    pub(crate) missing: Vec<String>,
}

/// One of the files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Listed {
    pub(crate) name: String,
    /// `registro`, `autorita`, `crl`, `indice`, or the kind of a message.
    pub(crate) kind: String,
    pub(crate) sha256: Hash,
    /// Of a message, its Message-ID without angle brackets.
    pub(crate) message_id: Option<String>,
}

/// Whether a file is an archive, by its first octets.
///
/// # Errors
///
/// When it cannot be read.
pub(crate) fn is_one(file: &Path) -> anyhow::Result<bool> {
    let unreadable = || format!("{} cannot be read", file.display());
    let mut first = Vec::new();
    File::open(file)
        .and_then(|file| file.take(4).read_to_end(&mut first))
        .with_context(unreadable)?;
    Ok(first == b"PK\x03\x04")
}

/// Writes a bundle: these files in this order.
///
/// # Errors
///
/// When it cannot be written.
pub(crate) fn write<'f>(
    out: impl Write + Seek,
    files: impl Iterator<Item = (&'f str, &'f [u8])>,
) -> anyhow::Result<()> {
    let mut archive = ZipWriter::new(out);
    // The same files make the same archive: no time of the machine in it.
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .last_modified_time(DateTime::default())
        .unix_permissions(0o644);
    for (name, octets) in files {
        archive.start_file(name, options)?;
        archive.write_all(octets)?;
    }
    archive.finish()?;
    Ok(())
}

/// A bundle that can be read: its names and sizes are such as we write.
pub(crate) struct Bundle<R> {
    archive: ZipArchive<R>,
    /// Where each file is.
    places: BTreeMap<String, usize>,
}

impl Bundle<BufReader<File>> {
    /// Opens one.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or is none of ours.
    pub(crate) fn open(file: &Path) -> anyhow::Result<Self> {
        let opened = File::open(file);
        let opened = opened.with_context(|| format!("{} cannot be read", file.display()))?;
        Self::new(BufReader::new(opened))
    }
}

impl<R: Read + Seek> Bundle<R> {
    /// The same, of octets anywhere.
    ///
    /// # Errors
    ///
    /// As [`open`](Bundle::open).
    pub(crate) fn new(octets: R) -> anyhow::Result<Self> {
        let mut archive = ZipArchive::new(octets).context("not an evidence bundle")?;
        if archive.len() > FILES_MAX {
            bail!("more than {FILES_MAX} files: not an evidence bundle");
        }
        let (mut places, mut all) = (BTreeMap::new(), 0u64);
        for place in 0..archive.len() {
            let file = archive.by_index(place).context("a file of the bundle cannot be read")?;
            let name = file.name().to_owned();
            if !is_ours(&name) {
                bail!("a file that does not belong into an evidence bundle: {name:?}");
            }
            all = all.saturating_add(file.size());
            if file.size() > FILE_OCTETS_MAX || all > ALL_OCTETS_MAX {
                bail!("{name} is larger than any file of an evidence bundle");
            }
            drop(file);
            if places.insert(name.clone(), place).is_some() {
                bail!("{name} is there twice");
            }
        }
        Ok(Self { archive, places })
    }

    /// The names of its files.
    pub(crate) fn names(&self) -> Vec<String> {
        self.places.keys().cloned().collect()
    }

    /// One of its files, unpacked.
    ///
    /// # Errors
    ///
    /// When it is not there, or larger than it says, or damaged.
    pub(crate) fn read(&mut self, name: &str) -> anyhow::Result<Vec<u8>> {
        let place = *self.places.get(name).with_context(|| format!("{name} is missing"))?;
        let file = self.archive.by_index(place)?;
        let said = file.size();
        let mut octets = Vec::new();
        let unpacked = file.take(said.saturating_add(1)).read_to_end(&mut octets);
        unpacked.with_context(|| format!("{name} is damaged"))?;
        if octets.len() as u64 != said {
            bail!("{name} is not as large as it says");
        }
        Ok(octets)
    }
}

/// Whether a name is one that we write: no other ever names anything here.
fn is_ours(name: &str) -> bool {
    let plain = |rest: &str| {
        let ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b);
        !rest.is_empty() && rest.bytes().all(ok) && !rest.contains("..")
    };
    name.len() <= NAME_MAX
        && ([MANIFEST, HISTORY, PAGE, AUTHORITIES, INDEX].contains(&name)
            || [MESSAGES, LISTS].iter().any(|folder| name.strip_prefix(folder).is_some_and(plain)))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut out = Cursor::new(Vec::new());
        write(&mut out, files.iter().copied()).unwrap();
        out.into_inner()
    }

    fn refused(octets: &[u8]) -> String {
        format!("{:#}", Bundle::new(Cursor::new(octets)).err().unwrap())
    }

    #[test]
    fn what_is_written_is_read_and_the_same_files_make_the_same_archive() {
        let files: [(&str, &[u8]); 3] =
            [(MANIFEST, b"{}"), ("messaggi/01-accettazione.eml", &[b'a'; 70_000]), (PAGE, b"")];
        let octets = archive(&files);
        assert_eq!(octets, archive(&files));
        let mut bundle = Bundle::new(Cursor::new(&octets[..])).unwrap();
        assert_eq!(bundle.names(), [MANIFEST, PAGE, "messaggi/01-accettazione.eml"]);
        for (name, expected) in files {
            assert_eq!(bundle.read(name).unwrap(), expected);
        }
        assert_eq!(bundle.read(HISTORY).unwrap_err().to_string(), "registro.json is missing");
    }

    #[test]
    fn a_name_that_we_do_not_write_is_refused() {
        for name in [
            "/etc/passwd",
            "../x",
            "messaggi/../x",
            "messaggi/",
            "messaggi/a/b.eml",
            "messaggi\\a.eml",
            "messaggi/A.eml",
            "C:leggimi.html",
            "leggimi.html/",
            &format!("messaggi/{}", "a".repeat(NAME_MAX - 8)),
        ] {
            let told = refused(&archive(&[(name, b"x")]));
            assert!(told.starts_with("a file that does not belong"), "{name}: {told}");
        }
        let longest = format!("messaggi/{}", "a".repeat(NAME_MAX - 9));
        assert!(Bundle::new(Cursor::new(archive(&[(&longest, b"x")]))).is_ok());
    }

    #[test]
    fn one_file_too_many_is_refused_and_so_is_what_is_no_archive() {
        let names: Vec<_> = (0..=FILES_MAX).map(|n| format!("messaggi/{n}.eml")).collect();
        let files: Vec<(&str, &[u8])> = names.iter().map(|n| (n.as_str(), &b""[..])).collect();
        assert!(Bundle::new(Cursor::new(archive(&files[..FILES_MAX]))).is_ok());
        assert!(refused(&archive(&files)).starts_with("more than 4096 files"));
        for none in [&b""[..], b"PK\x03\x04", b"%PDF"] {
            assert!(refused(none).starts_with("not an evidence bundle"));
        }
    }

    /// A file that unpacks to more than its entry says ends there.
    #[test]
    fn a_file_that_lies_about_its_size_is_refused() {
        let octets = archive(&[(PAGE, &[0; 100_000])]);
        let size = 100_000u32.to_le_bytes();
        // In the central directory, which is what counts, and beside the file.
        let lied = |claim: u32| {
            let mut octets = octets.clone();
            let places: Vec<_> = octets
                .windows(4)
                .enumerate()
                .filter(|(_, w)| *w == size)
                .map(|(at, _)| at)
                .collect();
            assert!(!places.is_empty());
            places.iter().for_each(|at| octets[*at..at + 4].copy_from_slice(&claim.to_le_bytes()));
            octets
        };
        for claim in [1, 99_999, 100_001] {
            let read = Bundle::new(Cursor::new(lied(claim))).and_then(|mut b| b.read(PAGE));
            assert!(read.is_err(), "{claim}");
        }
        let large = u32::try_from(FILE_OCTETS_MAX + 1).unwrap();
        assert!(refused(&lied(large)).ends_with("larger than any file of an evidence bundle"));
    }
}
