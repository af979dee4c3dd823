//! The second process, alone with the provider's key, and the [`Signer`] that asks it.
//!
//! PEC-SIG-06: signing is apart from everything that reads what a stranger wrote. The main process
//! never opens the key file; this one opens nothing else, listens to one socket, and does nothing
//! but sign. What it is asked to sign is short (the DER of CMS signed attributes), and opaque to it.
//!
//! Frames, both ways: length of the rest (`u32`), number of the request (`u64`), octets. An answer
//! starts with one octet: 0, and the signature follows; 1, and the reason follows.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use anyhow::Context;
use crypto::signer::{LocalSigner, SignError, Signer};
use device::{DeviceKey, DeviceSigner};

/// Octets of a frame at most: signed attributes are some 150, an RSA-4096 signature 512.
const FRAME_OCTETS_MAX: usize = 16 * 1024;
/// How long a signature may take before the step is given up and tried again later.
const SIGN_WAIT: Duration = Duration::from_secs(30);
/// How long the process may take none of a request: it reads as fast as it signs.
const WRITE_WAIT: Duration = Duration::from_secs(10);
/// How long after its death the process is started again.
const RESTART_AFTER: Duration = Duration::from_secs(1);

pub(crate) mod device;

// --- the process that has the key

/// The key in a file, or in a device that a URI names.
///
/// # Errors
///
/// When it cannot be used.
pub(crate) fn open(key: &Path) -> anyhow::Result<Box<dyn Signer>> {
    if let Some(uri) = device_uri(key) {
        let key = DeviceKey::parse(uri).map_err(anyhow::Error::msg)?;
        return Ok(Box::new(DeviceSigner::open(&key)?));
    }
    let pem = std::fs::read(key)
        .with_context(|| format!("the signing key {} cannot be read", key.display()))?;
    Ok(Box::new(LocalSigner::from_pem(&pem)?))
}

/// The URI that stands where a file could.
pub(crate) fn device_uri(key: &Path) -> Option<&str> {
    key.to_str().filter(|text| text.starts_with(device::SCHEME))
}

/// Runs in the second process until the first closes the socket, which is standard input.
///
/// # Errors
///
/// When the key cannot be read, or the socket fails.
pub(crate) fn run_child(key: &Path) -> anyhow::Result<()> {
    // No core file and no debugger: other processes of this user shall not read the key either.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .context("the signing process cannot protect its memory")?;
    let signer: Arc<dyn Signer> = open(key)?.into();
    let input = std::io::stdin();
    let socket = UnixStream::from(
        rustix::io::dup(&input).context("the signing process has no socket to listen to")?,
    );
    let output = Arc::new(Mutex::new(socket.try_clone()?));
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let (queue, requests) = mpsc::sync_channel::<(u64, Vec<u8>)>(threads * 4);
    let requests = Arc::new(Mutex::new(requests));
    let mut workers = Vec::with_capacity(threads);
    for _ in 0..threads {
        let (signer, output, requests) = (signer.clone(), output.clone(), requests.clone());
        workers.push(std::thread::spawn(move || {
            loop {
                let next = lock(&requests).recv();
                let Ok((number, octets)) = next else { return };
                let answer = match signer.sign(&octets) {
                    Ok(signature) => [&[0][..], &signature].concat(),
                    Err(error) => [&[1][..], error.to_string().as_bytes()].concat(),
                };
                if write_frame(&lock(&output), number, &answer).is_err() {
                    return;
                }
            }
        }));
    }
    // The last of them ends the queue: `send` must not wait for workers that are gone.
    drop(requests);
    let mut socket = socket;
    let heard = loop {
        match read_frame(&mut socket) {
            Ok(Some(request)) => {
                if queue.send(request).is_err() {
                    break Ok(());
                }
            }
            Ok(None) => break Ok(()),
            Err(error) => break Err(error.into()),
        }
    };
    // OpenSSL tidies up at the process's end, and hangs when a thread signs meanwhile: a process
    // that has the key would outlive the one that it serves.
    drop(queue);
    for worker in workers {
        if worker.join().is_err() {
            anyhow::bail!("a thread of the signing process had panicked");
        }
    }
    heard
}

// --- the process that asks

type Waiting = Arc<Mutex<HashMap<u64, mpsc::SyncSender<Result<Vec<u8>, String>>>>>;

/// Signs by asking the second process, which it starts, and starts again when it dies.
pub(crate) struct SignerProcess {
    key: PathBuf,
    /// The program to start; this one, but for tests.
    program: PathBuf,
    /// How long it may take for a signature.
    patience: Duration,
    socket: Mutex<Option<UnixStream>>,
    waiting: Waiting,
    next: AtomicU64,
    closing: AtomicBool,
    child: Mutex<Option<Child>>,
}

impl SignerProcess {
    /// Starts the process.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub(crate) fn start(key: &Path) -> anyhow::Result<Arc<Self>> {
        let program = std::env::current_exe().context("the program cannot find itself")?;
        let signer = Arc::new(Self::new(program, key, SIGN_WAIT));
        let answers = signer.spawn()?;
        let supervisor = Arc::downgrade(&signer);
        std::thread::Builder::new().name("signer".to_owned()).spawn(move || {
            let mut answers = Some(answers);
            loop {
                if let Some(socket) = answers.take() {
                    let Some(waiting) = supervisor.upgrade().map(|signer| signer.waiting.clone())
                    else {
                        return;
                    };
                    route_answers(socket, &waiting);
                }
                let Some(signer) = supervisor.upgrade() else { return };
                signer.bury();
                if signer.closing.load(Ordering::Acquire) {
                    return;
                }
                tracing::error!(target: "signer", "the signing process ended; it is started again");
                metrics::counter!("ceralacca_signer_restarts_total").increment(1);
                std::thread::sleep(RESTART_AFTER);
                match signer.spawn() {
                    Ok(socket) => answers = Some(socket),
                    Err(error) => tracing::error!(target: "signer", %error, "it does not start"),
                }
            }
        })?;
        Ok(signer)
    }

    fn new(program: PathBuf, key: &Path, patience: Duration) -> Self {
        Self {
            key: key.to_owned(),
            program,
            patience,
            socket: Mutex::new(None),
            waiting: Waiting::default(),
            next: AtomicU64::new(0),
            closing: AtomicBool::new(false),
            child: Mutex::new(None),
        }
    }

    /// Whether there is a process to ask.
    pub(crate) fn is_ready(&self) -> bool {
        lock(&self.socket).is_some()
    }

    /// Ends the process: it sees its socket close and exits.
    pub(crate) fn stop(&self) {
        self.closing.store(true, Ordering::Release);
        if let Some(socket) = lock(&self.socket).take() {
            // The peer may be gone already; then there is nothing to shut down.
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
    }

    fn spawn(&self) -> anyhow::Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        let mut command = Command::new(&self.program);
        if device_uri(&self.key).is_none() {
            // A device's library finds its own configuration there.
            command.env_clear();
        }
        let child = command
            .arg("signer")
            .arg("--key")
            .arg(&self.key)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            // A group of its own: Ctrl-C at the terminal is the first process's business.
            .process_group(0)
            .spawn()
            .with_context(|| format!("{} cannot be started", self.program.display()))?;
        *lock(&self.child) = Some(child);
        ours.set_write_timeout(Some(WRITE_WAIT))?;
        let answers = ours.try_clone()?;
        *lock(&self.socket) = Some(ours);
        Ok(answers)
    }

    /// After the process's end: nobody waits for it any more.
    fn bury(&self) {
        *lock(&self.socket) = None;
        lock(&self.waiting).clear();
        if let Some(mut child) = lock(&self.child).take() {
            // It closed its socket, so it is ending; or it misbehaved, and ends now.
            let _ = child.kill();
            if let Ok(status) = child.wait() {
                tracing::debug!(target: "signer", %status, "the signing process ended");
            }
        }
    }
}

impl Signer for SignerProcess {
    fn sign(&self, octets: &[u8]) -> Result<Vec<u8>, SignError> {
        let unavailable = |why: &str| SignError::Unavailable(why.to_owned());
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = mpsc::sync_channel(1);
        lock(&self.waiting).insert(number, sender);
        let sent = {
            let mut socket = lock(&self.socket);
            let written = socket.as_ref().map(|socket| write_frame(socket, number, octets));
            if matches!(written, Some(Err(_))) {
                give_up(socket.take());
            }
            matches!(written, Some(Ok(())))
        };
        if !sent {
            lock(&self.waiting).remove(&number);
            return Err(unavailable("the signing process is not running"));
        }
        match answer.recv_timeout(self.patience) {
            Ok(Ok(signature)) => Ok(signature),
            Ok(Err(reason)) => Err(SignError::Unavailable(reason)),
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                Err(unavailable("the signing process ended"))
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {
                // Nobody has buried the process meanwhile: it lives and is silent.
                if lock(&self.waiting).remove(&number).is_some() {
                    give_up(lock(&self.socket).take());
                }
                Err(unavailable("the signing process did not answer in time"))
            }
        }
    }
}

/// A process that takes no requests or gives no answers is ended: its socket is closed, and the
/// thread that reads from it buries the process and starts another. Half a frame may have been
/// written, so that nothing more can be said over this socket either.
fn give_up(socket: Option<UnixStream>) {
    if let Some(socket) = socket {
        tracing::error!(target: "signer", "the signing process hangs and is ended");
        // The peer may be gone already; then there is nothing to shut down.
        let _ = socket.shutdown(std::net::Shutdown::Both);
    }
}

/// Hands each answer to who waits for it, until the socket closes.
fn route_answers(mut socket: UnixStream, waiting: &Waiting) {
    while let Ok(Some((number, answer))) = read_frame(&mut socket) {
        let Some(sender) = lock(waiting).remove(&number) else { continue };
        let result = match answer.split_first() {
            Some((0, signature)) => Ok(signature.to_vec()),
            Some((_, reason)) => Err(String::from_utf8_lossy(reason).into_owned()),
            None => Err("the signing process sent an empty answer".to_owned()),
        };
        // Who gave up waiting does not take it.
        let _ = sender.try_send(result);
    }
}

fn write_frame(mut socket: &UnixStream, number: u64, octets: &[u8]) -> std::io::Result<()> {
    let length = u32::try_from(octets.len() + 8).map_err(std::io::Error::other)?;
    if length as usize > FRAME_OCTETS_MAX {
        return Err(std::io::Error::other("more octets than a frame may hold"));
    }
    let frame = [&length.to_be_bytes()[..], &number.to_be_bytes(), octets].concat();
    socket.write_all(&frame)
}

fn read_frame(socket: &mut UnixStream) -> std::io::Result<Option<(u64, Vec<u8>)>> {
    let mut length = [0; 4];
    match socket.read_exact(&mut length) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let length = u32::from_be_bytes(length) as usize;
    if !(8..=FRAME_OCTETS_MAX).contains(&length) {
        return Err(std::io::Error::other("a frame of a length that cannot be"));
    }
    let mut frame = vec![0; length];
    socket.read_exact(&mut frame)?;
    let mut number = [0; 8];
    number.copy_from_slice(&frame[..8]);
    frame.drain(..8);
    Ok(Some((u64::from_be_bytes(number), frame)))
}

/// A thread that panicked with the lock held left nothing half done in these maps and sockets.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_comes_out_as_it_went_in() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        write_frame(&ours, 7, b"signed attributes").unwrap();
        assert_eq!(read_frame(&mut theirs).unwrap(), Some((7, b"signed attributes".to_vec())));
        drop(ours);
        assert_eq!(read_frame(&mut theirs).unwrap(), None);
    }

    #[test]
    fn a_frame_one_octet_too_long_is_neither_written_nor_read() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        assert!(write_frame(&ours, 7, &vec![0; FRAME_OCTETS_MAX - 8 + 1]).is_err());
        let length = u32::try_from(FRAME_OCTETS_MAX + 1).unwrap();
        (&ours).write_all(&length.to_be_bytes()).unwrap();
        assert!(read_frame(&mut theirs).is_err());
    }

    #[test]
    fn a_process_that_never_answers_is_given_up() {
        let signer = SignerProcess::new(PathBuf::new(), Path::new(""), Duration::from_millis(50));
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        *lock(&signer.socket) = Some(ours);
        let refused = signer.sign(b"signed attributes").unwrap_err();
        let reason = "the signing process did not answer in time".to_owned();
        assert_eq!(refused, SignError::Unavailable(reason));
        assert!(!signer.is_ready());
        // It was asked, and then let go of: its thread here starts another.
        assert!(matches!(read_frame(&mut theirs), Ok(Some((0, _)))));
        assert!(matches!(read_frame(&mut theirs), Ok(None)));
    }

    #[test]
    fn a_process_that_takes_nothing_is_given_up() {
        let signer = SignerProcess::new(PathBuf::new(), Path::new(""), Duration::ZERO);
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        *lock(&signer.socket) = Some(ours);
        assert!(signer.sign(b"signed attributes").is_err());
        assert!(!signer.is_ready() && lock(&signer.waiting).is_empty());
    }
}
