//! An S3 of the tests' own: s3s-fs, whose buckets are folders.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

/// What opens it.
pub const KEY: (&str, &str) = ("ceralacca", "ceralacca-secret");
/// The one bucket.
pub const NAME: &str = "pec";
/// How long it may take to start.
const PATIENCE: Duration = Duration::from_secs(20);
/// Runs the server as long as somebody holds the other end of its standard input.
const GUARD: &str = r#"exec 3<&0
"$@" </dev/null 3<&- &
cat <&3 >/dev/null
kill -KILL $! 2>/dev/null
wait"#;

/// A server with one bucket.
pub struct Bucket {
    folder: TempDir,
    port: u16,
    guard: Option<Child>,
}

impl Bucket {
    /// A new one, that listens.
    ///
    /// # Errors
    ///
    /// When s3s-fs is not installed, or does not start.
    pub fn start() -> Result<Self> {
        let folder = TempDir::with_prefix("s3")?;
        std::fs::create_dir(folder.path().join(NAME))?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut server = Self { folder, port, guard: None };
        server.run()?;
        Ok(server)
    }

    /// How clients reach it.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The folder in which objects are files.
    pub fn folder(&self) -> PathBuf {
        self.folder.path().join(NAME)
    }

    /// How many objects there are.
    ///
    /// # Errors
    ///
    /// When the folder cannot be read.
    pub fn objects(&self) -> Result<usize> {
        fn count(folder: &Path) -> Result<usize> {
            let mut objects = 0;
            for entry in std::fs::read_dir(folder)? {
                let entry = entry?;
                objects += if entry.file_type()?.is_dir() { count(&entry.path())? } else { 1 };
            }
            Ok(objects)
        }
        count(&self.folder())
    }

    /// Starts it, after [`kill`](Self::kill).
    ///
    /// # Errors
    ///
    /// When it does not listen in time.
    pub fn run(&mut self) -> Result<()> {
        let mut guard = Command::new("sh");
        guard.args(["-c", GUARD, "sh", "s3s-fs", "--host", "127.0.0.1", "--port"]);
        guard.arg(self.port.to_string()).args(["--access-key", KEY.0, "--secret-key", KEY.1]);
        guard.arg(self.folder.path());
        guard.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        self.guard = Some(guard.spawn().context("sh")?);
        let until = Instant::now() + PATIENCE;
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            ensure!(Instant::now() < until, "s3s-fs does not listen: is it installed?");
            crate::wire::pause();
        }
        Ok(())
    }

    /// Takes it down at once.
    ///
    /// # Errors
    ///
    /// When it does not end.
    pub fn kill(&mut self) -> Result<()> {
        let Some(mut guard) = self.guard.take() else { return Ok(()) };
        drop(guard.stdin.take());
        guard.wait().map(drop).context("s3s-fs does not end")
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            crate::say(&format!("{error:#}"));
        }
    }
}
