//! Octets in files of this machine, or of a file system that all nodes share.
//!
//! Each node appends to a segment of its own, `NODE-NUMBER`, a group at a time, with one flush for
//! all that have gathered. A segment in which nothing is alive any more is unlinked. Not here, as it
//! is in the embedded store: storing equal pieces once, compressing them, and copying what is alive
//! out of a segment that is mostly dead.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use super::octets::{self, Medium, OWNER, OWNER_OCTETS_MAX, Place};
use crate::StoreError;

/// Octets after which the next segment is begun.
const SEGMENT_OCTETS: u64 = 64 * 1024 * 1024;
/// Calls whose octets are flushed together at most.
const GROUP_MAX: usize = 256;
/// Segments that are told at a time.
const OLD_AT_ONCE: usize = 256;
/// Names that are tried for the next segment: a database that was put back to an earlier time gives the numbers of
/// nodes again, whose segments are there.
const NAMES_MAX: u64 = 100_000;

type Answer = Result<Vec<Place>, StoreError>;

/// A call's octets, and where its answer goes.
struct Request {
    octets: Vec<Arc<[u8]>>,
    answer: SyncSender<Answer>,
}

/// The segments in a folder.
pub(super) struct Local {
    folder: PathBuf,
    requests: Option<Sender<Request>>,
    appender: Option<JoinHandle<()>>,
    /// The segment that is appended to.
    active: Arc<Mutex<String>>,
    /// After which nothing is appended to a segment any more, and no transaction names what is in it that did not.
    quiet: Duration,
}

/// The end of the segment that is appended to.
struct Segment {
    name: String,
    file: File,
    end: u64,
    written: Instant,
    /// Something in it is not flushed.
    dirty: bool,
}

impl Local {
    /// In a folder that is there.
    pub(super) fn open(folder: &Path, node: u64, quiet: Duration) -> Result<Self, StoreError> {
        let (requests, taken) = channel::<Request>();
        let active = Arc::new(Mutex::new(String::new()));
        let appender = {
            let (folder, active) = (folder.to_owned(), Arc::clone(&active));
            std::thread::Builder::new()
                .name("store-segments".into())
                .spawn(move || append(&folder, (node, quiet), &taken, &active))?
        };
        let (requests, appender) = (Some(requests), Some(appender));
        Ok(Self { folder: folder.to_owned(), requests, appender, active, quiet })
    }

    fn path(&self, object: &str) -> Result<PathBuf, StoreError> {
        // Names come from the database, and are no paths.
        match object.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-') && !object.is_empty() {
            true => Ok(self.folder.join(object)),
            false => Err(StoreError::Medium("a segment has a name that is none".into())),
        }
    }
}

/// Appends what callers bring, until they are gone.
fn append(
    folder: &Path,
    (node, quiet): (u64, Duration),
    requests: &Receiver<Request>,
    active: &Mutex<String>,
) {
    let (mut segment, mut number): (Option<Segment>, u64) = (None, 0);
    while let Ok(first) = requests.recv() {
        let mut group = vec![first];
        group.extend(requests.try_iter().take(GROUP_MAX - 1));
        let mut roll = || {
            let last = number.saturating_add(NAMES_MAX);
            loop {
                number += 1;
                let name = format!("{node:x}-{number:x}");
                name.clone_into(&mut active.lock().unwrap_or_else(PoisonError::into_inner));
                match begin(folder, name) {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < last => {
                    }
                    begun => return begun,
                }
            }
        };
        let places = write(&mut segment, &group, quiet, &mut roll);
        if places.is_err() {
            // Nobody knows what of it is on disk, and nothing refers to it: the next is another file.
            segment = None;
        }
        let mut places = places.map(Vec::into_iter);
        for Request { octets, answer } in group {
            let result = match &mut places {
                Ok(places) => Ok(places.by_ref().take(octets.len()).collect()),
                Err(error) => Err(io::Error::new(error.kind(), error.to_string()).into()),
            };
            // Nobody listens any more only when the caller's thread is gone.
            answer.send(result).unwrap_or_default();
        }
    }
}

fn begin(folder: &Path, name: String) -> io::Result<Segment> {
    let options = OpenOptions::new().write(true).create_new(true).mode(0o600).clone();
    let file = options.open(folder.join(&name))?;
    File::open(folder)?.sync_all()?;
    Ok(Segment { name, file, end: 0, written: Instant::now(), dirty: false })
}

fn write(
    segment: &mut Option<Segment>,
    group: &[Request],
    quiet: Duration,
    roll: &mut dyn FnMut() -> io::Result<Segment>,
) -> io::Result<Vec<Place>> {
    let mut places = Vec::new();
    for octets in group.iter().flat_map(|request| &request.octets) {
        let is_over = |segment: &mut Segment| {
            // One that is quiet may be swept by another node, if all in it is dead.
            segment.end >= SEGMENT_OCTETS || segment.written.elapsed() >= quiet / 2
        };
        if let Some(mut over) = segment.take_if(is_over) {
            flush(&mut over)?;
        }
        if segment.is_none() {
            *segment = Some(roll()?);
        }
        let Some(segment) = segment.as_mut() else { continue };
        segment.file.write_all_at(octets, segment.end)?;
        places.push(Place { object: segment.name.clone(), start: segment.end });
        segment.end += octets.len() as u64;
        segment.written = Instant::now();
        segment.dirty = true;
    }
    if let Some(segment) = segment {
        flush(segment)?;
    }
    Ok(places)
}

fn flush(segment: &mut Segment) -> io::Result<()> {
    // What was flushed before may be swept since: it is nobody's concern.
    if !std::mem::take(&mut segment.dirty) {
        return Ok(());
    }
    segment.file.sync_data()?;
    if segment.file.metadata()?.nlink() == 0 {
        return Err(io::Error::other(format!("segment {} was removed", segment.name)));
    }
    Ok(())
}

impl Medium for Local {
    fn put(&self, octets: Vec<Arc<[u8]>>) -> Result<Vec<Place>, StoreError> {
        let gone = || StoreError::Medium("nobody appends to segments any more".into());
        let (answer, answered) = sync_channel(1);
        let requests = self.requests.as_ref().ok_or_else(gone)?;
        requests.send(Request { octets, answer }).map_err(|_| gone())?;
        answered.recv().map_err(|_| gone())?
    }

    fn read(&self, object: &str, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        let file = match File::open(self.path(object)?) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::NoSuchMessage);
            }
            file => file?,
        };
        let length = usize::try_from(range.end - range.start)
            .map_err(|_| StoreError::Medium("octets are more than memory".into()))?;
        let mut octets = vec![0; length];
        file.read_exact_at(&mut octets, range.start)?;
        Ok(octets)
    }

    fn is_over(&self, object: &str) -> Result<bool, StoreError> {
        let path = self.path(object)?;
        let active = *self.active.lock().unwrap_or_else(PoisonError::into_inner) == object;
        Ok(!active && is_quiet(&path, self.quiet)?)
    }

    fn remove(&self, object: &str) -> Result<u64, StoreError> {
        let path = self.path(object)?;
        let octets = match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            metadata => metadata?.len(),
        };
        fs::remove_file(&path)?;
        Ok(octets)
    }

    fn owner(&self) -> Result<Option<String>, StoreError> {
        if !self.folder.is_dir() {
            let text = format!("the folder {} is not there", self.folder.display());
            return Err(StoreError::Unavailable(text));
        }
        rustix::fs::access(&self.folder, rustix::fs::Access::WRITE_OK).map_err(|error| {
            StoreError::Medium(format!("the folder {}: {error}", self.folder.display()))
        })?;
        let file = match File::open(self.folder.join(OWNER)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut octets = Vec::new();
        file.take(OWNER_OCTETS_MAX).read_to_end(&mut octets)?;
        octets::owner(octets).map(Some)
    }

    fn give_to(&self, store: &str) -> Result<(), StoreError> {
        let new = self.folder.join(format!("{OWNER}.{}", std::process::id()));
        let mut file = File::create(&new)?;
        file.write_all(store.as_bytes())?;
        file.sync_all()?;
        // Of those who do the same one is first; nobody sees a file that is not whole.
        let given = fs::hard_link(&new, self.folder.join(OWNER));
        fs::remove_file(&new)?;
        File::open(&self.folder)?.sync_all()?;
        match given {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            given => Ok(given?),
        }
    }

    fn old(&self, after: Option<&str>) -> Result<(Vec<String>, Option<String>), StoreError> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if after.is_none_or(|after| *name > *after) {
                found.push(name);
            }
        }
        found.sort();
        found.truncate(OLD_AT_ONCE);
        let last = found.last().cloned();
        let mut old = Vec::new();
        for name in found {
            // What is there and no segment of ours stays.
            if self.is_over(&name).unwrap_or(false) {
                old.push(name);
            }
        }
        Ok((old, last))
    }
}

/// Whether nobody appended for long.
fn is_quiet(path: &Path, quiet: Duration) -> Result<bool, StoreError> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        metadata => {
            let written = metadata?.modified()?;
            Ok(SystemTime::now().duration_since(written).is_ok_and(|since| since > quiet))
        }
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        drop(self.requests.take());
        if let Some(Err(_)) = self.appender.take().map(JoinHandle::join) {
            tracing::error!("what appends to segments panicked");
        }
    }
}
