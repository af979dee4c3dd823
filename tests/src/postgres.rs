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
        // One that does nothing would not hear of it either; one that is gone already need not.
        if let Err(error) = self.freeze(false) {
            crate::say(&format!("{error:#}"));
        }
        drop(guard.stdin.take());
        guard.wait().map(drop).context("PostgreSQL does not end")
    }

    /// The processor time of all its processes since it was started.
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn processor_time(&self) -> Result<Duration> {
        // Of the first those that ended too, of the others what they took themselves.
        let mut ticks = 0;
        for (number, (_, stat)) in self.processes()?.into_iter().enumerate() {
            ticks += stat.own + if number == 0 { stat.ended } else { 0 };
        }
        Ok(Duration::from_millis(ticks * 1000 / TICKS_A_SECOND))
    }

    /// Has it do nothing, and answer nothing, until it is to go on: a way that is cut looks so.
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn freeze(&self, frozen: bool) -> Result<()> {
        use rustix::process::{Pid, Signal, kill_process};
        let signal = if frozen { Signal::STOP } else { Signal::CONT };
        for (pid, _) in self.processes()? {
            let pid = Pid::from_raw(i32::try_from(pid)?).context("no such process")?;
            match kill_process(pid, signal) {
                // It ended meanwhile.
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Its processes, the first one first.
    fn processes(&self) -> Result<Vec<(u32, Stat)>> {
        let file = self.folder.path().join("data").join("postmaster.pid");
        let first = std::fs::read_to_string(file).context("PostgreSQL does not run")?;
        let first: u32 = first.lines().next().context("no number")?.parse()?;
        let mut found = vec![(first, stat(first)?.context("PostgreSQL does not run")?)];
        for entry in std::fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
            found.extend(stat(pid)?.filter(|stat| stat.parent == first).map(|stat| (pid, stat)));
        }
        Ok(found)
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

/// What Linux counts processor time in, on every machine (`USER_HZ`).
const TICKS_A_SECOND: u64 = 100;

/// A process as `/proc/PID/stat` tells of it.
struct Stat {
    parent: u32,
    own: u64,
    /// Of its children that ended.
    ended: u64,
}

fn stat(pid: u32) -> Result<Option<Stat>> {
    // It may have ended since it was listed.
    let Ok(text) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return Ok(None) };
    let (_, rest) = text.rsplit_once(')').context("no name in stat")?;
    let words: Vec<&str> = rest.split_whitespace().collect();
    let number = |at: usize| -> Result<u64> { Ok(words.get(at).context("a short stat")?.parse()?) };
    let sum = |at: usize| -> Result<u64> { Ok(number(at)? + number(at + 1)?) };
    Ok(Some(Stat { parent: u32::try_from(number(1)?)?, own: sum(11)?, ended: sum(13)? }))
}

/// The processor time of a process, and of its children that ended.
///
/// # Errors
///
/// When there is none.
pub fn processor_time_of(pid: u32) -> Result<Duration> {
    let stat = stat(pid)?.context("no such process")?;
    Ok(Duration::from_millis((stat.own + stat.ended) * 1000 / TICKS_A_SECOND))
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
