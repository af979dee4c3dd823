//! Programs that are not ours: started with a limit on their time, their whole answer kept.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

/// Seconds that any of them may take on a busy machine.
const SECONDS_MAX: &str = "120";

/// What a program said.
pub struct Told {
    /// Its exit status; none when a signal ended it.
    pub status: Option<i32>,
    /// Standard output.
    pub out: Vec<u8>,
    /// Standard error.
    pub err: String,
    command: String,
}

impl Told {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }

    /// Standard output as text, when the status is 0.
    ///
    /// # Errors
    ///
    /// When it is another: then with all that the program said.
    pub fn ok(self) -> anyhow::Result<String> {
        if self.status != Some(0) {
            bail!("{self}");
        }
        Ok(self.text())
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}\n{}\n{}", self.command, self.status, self.text(), self.err)
    }
}

/// A command of a program that a Debian package holds, cut short when it takes too long.
///
/// # Errors
///
/// When the program is not there: the error says how to install it.
pub fn tool(program: &str, package: &str) -> anyhow::Result<Command> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if !std::env::split_paths(&path).any(|folder| folder.join(program).is_file()) {
        bail!("{program} is missing: run `sudo apt-get install {package}`");
    }
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", SECONDS_MAX, program]).stdin(Stdio::null());
    Ok(command)
}

/// Python with one of the scripts of `tests/clients`.
///
/// # Errors
///
/// As [`tool`].
pub fn script(name: &str) -> anyhow::Result<Command> {
    let mut command = tool("python3", "python3")?;
    // No `__pycache__` in the tree, and each line when it is said.
    command.args(["-B", "-u"]).arg(here().join("clients").join(name));
    Ok(command)
}

/// Python with one of the scripts of `tests/clients` and a library that `cargo xtask test` fetched.
///
/// # Errors
///
/// As [`tool`]; when the library is not there.
pub fn script_with(name: &str, library: &str) -> anyhow::Result<Command> {
    let folder = libraries("python", library)?;
    let mut command = script(name)?;
    command.env("PYTHONPATH", folder);
    Ok(command)
}

/// Node with one of the scripts of `tests/clients` and a library that `cargo xtask test` fetched:
/// its folder is the first argument of the script.
///
/// # Errors
///
/// As [`tool`]; when the library is not there.
pub fn node(name: &str, library: &str) -> anyhow::Result<Command> {
    let folder = libraries("node/node_modules", library)?;
    let mut command = tool("node", "nodejs")?;
    command.arg(here().join("clients").join(name)).arg(folder.join(library));
    Ok(command)
}

/// The folder in the target folder that holds this library among others.
fn libraries(language: &str, library: &str) -> anyhow::Result<PathBuf> {
    let test = std::env::current_exe()?;
    let target = test.ancestors().nth(3).context("a test that is in no target folder")?;
    let folder = target.join("clients").join(language);
    if !folder.join(library).is_dir() {
        bail!("{library} is not in {}: `cargo xtask test` fetches it", folder.display());
    }
    Ok(folder)
}

/// The folder of this package.
pub fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// Runs a command to its end.
///
/// # Errors
///
/// When it cannot be started. A status other than 0 is no error: see [`Told::ok`].
pub fn run(command: &mut Command) -> anyhow::Result<Told> {
    let words: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
    let words = words.join(" ");
    let output = command.output().with_context(|| words.clone())?;
    Ok(Told {
        status: output.status.code(),
        out: output.stdout,
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
        command: words,
    })
}
