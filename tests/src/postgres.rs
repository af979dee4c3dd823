//! A PostgreSQL of the tests' own: in a temporary folder, on a Unix socket, and gone with the process
//! that started it, however that ends.
//!
//! It keeps its promises: nothing of it is turned off that makes a commit last. It refuses to run as
//! root, so that root runs it as `nobody`.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;

/// Who the database knows us as.
const USER: &str = "ceralacca";
/// How long it may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs the server as long as somebody holds the other end of its standard input; then takes it down
/// at once, as a crash would.
const GUARD: &str = r#"exec 3<&0
"$@" </dev/null 3<&- &
cat <&3 >/dev/null
kill -QUIT $! 2>/dev/null
wait"#;

/// A database server.
pub struct Postgres {
    folder: TempDir,
    guard: Option<Child>,
}

impl Postgres {
    /// A new one, that listens.
    ///
    /// # Errors
    ///
    /// When PostgreSQL is not installed, or does not start.
    pub fn start() -> Result<Self> {
        let folder = TempDir::with_prefix("pg")?;
        let own = folder.path();
        if is_root() {
            run(Command::new("chown").arg("nobody:nogroup").arg(own))?;
        }
        let data = own.join("data");
        let mut initdb = unprivileged(&program("initdb")?);
        initdb.args(["--auth=trust", "--encoding=UTF8", "--locale=C", "--username", USER]);
        run(initdb.arg("--pgdata").arg(&data).current_dir(own))?;
        let mut server = Self { folder, guard: None };
        server.run()?;
        Ok(server)
    }

    /// How clients reach it.
    pub fn address(&self) -> String {
        format!("host={} user={USER} dbname=postgres", self.folder.path().display())
    }

    /// Starts it, after [`kill`](Self::kill).
    ///
    /// # Errors
    ///
    /// When it does not listen in time.
    pub fn run(&mut self) -> Result<()> {
        let own = self.folder.path();
        let server = unprivileged(&program("postgres")?);
        let mut guard = Command::new("sh");
        guard.arg("-c").arg(GUARD).arg("sh").arg(server.get_program()).args(server.get_args());
        guard.arg("-D").arg(own.join("data")).arg("-k").arg(own);
        guard.args(["-c", "listen_addresses=", "-c", "max_connections=200"]);
        guard.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        self.guard = Some(guard.current_dir(own).spawn().context("sh")?);
        let until = Instant::now() + PATIENCE;
        while !self.answers()? {
            ensure!(Instant::now() < until, "PostgreSQL does not listen");
            crate::wire::pause();
        }
        Ok(())
    }

    fn answers(&self) -> Result<bool> {
        let mut asked = Command::new(program("pg_isready")?);
        asked.arg("--quiet").arg("--host").arg(self.folder.path());
        Ok(asked.status()?.success())
    }

    /// Takes it down at once: what it had not written is lost, connections end unanswered.
    ///
    /// # Errors
    ///
    /// When it does not end.
    pub fn kill(&mut self) -> Result<()> {
        let Some(mut guard) = self.guard.take() else { return Ok(()) };
        drop(guard.stdin.take());
        guard.wait().map(drop).context("PostgreSQL does not end")
    }

    /// What a statement answers, as `psql` prints it.
    ///
    /// # Errors
    ///
    /// When it is refused.
    pub fn ask(&self, statement: &str) -> Result<String> {
        let mut psql = Command::new(program("psql")?);
        psql.args(["--no-psqlrc", "--tuples-only", "--no-align", "--quiet"]);
        psql.args(["--username", USER, "--dbname=postgres", "--host"]);
        psql.arg(self.folder.path()).arg("--file=-");
        psql.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut asked = psql.spawn()?;
        asked.stdin.take().context("psql listens")?.write_all(statement.as_bytes())?;
        let told = asked.wait_with_output()?;
        ensure!(told.stderr.is_empty(), "{}", String::from_utf8_lossy(&told.stderr));
        Ok(String::from_utf8(told.stdout)?.trim_end().to_owned())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            crate::say(&format!("{error:#}"));
        }
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A program as somebody whom PostgreSQL accepts.
fn unprivileged(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", "--"]).arg(program);
    command
}

/// A program of PostgreSQL, whose folder is on no path: Debian has one for each version.
fn program(name: &str) -> Result<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").context("is PostgreSQL installed?")?;
    let mut found = Vec::new();
    for version in versions {
        let program = version?.path().join("bin").join(name);
        if program.is_file() {
            found.push(program);
        }
    }
    match found.into_iter().max() {
        Some(program) => Ok(program),
        None => bail!("PostgreSQL has no {name} here"),
    }
}

fn run(command: &mut Command) -> Result<()> {
    let told = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    ensure!(told.status.success(), "{command:?}: {}", String::from_utf8_lossy(&told.stderr));
    Ok(())
}
