//! Programs that the chores start: shown before they run, and judged by their exit status.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// A program to run in the root of the repository.
pub(crate) struct Run {
    command: Command,
    shown: String,
}

impl Run {
    /// `line` is split at blanks: program and arguments, none of which holds a blank.
    pub(crate) fn new(line: &str) -> Self {
        let mut words = line.split_whitespace();
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).current_dir(xtask::tree::root());
        Self { command, shown: line.to_owned() }
    }

    /// One more argument, as it is.
    pub(crate) fn argument(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.shown = format!("{} {}", self.shown, argument.as_ref().to_string_lossy());
        self.command.arg(argument);
        self
    }

    /// With a variable of the environment set.
    pub(crate) fn set(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// With a variable of the environment taken away.
    pub(crate) fn unset(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    /// With its standard error, which it has much of, in a file.
    ///
    /// # Errors
    ///
    /// When the file cannot be made.
    pub(crate) fn log_to(mut self, file: &Path) -> Result<Self> {
        let log = File::create(file).with_context(|| format!("cannot make {}", file.display()))?;
        self.command.stderr(log);
        Ok(self)
    }

    /// Shows the command, runs it, and shows what it prints.
    ///
    /// # Errors
    ///
    /// When it cannot be started or does not exit with 0.
    pub(crate) fn run(self) -> Result<()> {
        self.run_and_watch(|_| ())
    }

    /// The same, and hands each line of its standard output to `watch` as well.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    pub(crate) fn run_and_watch(mut self, mut watch: impl FnMut(&str)) -> Result<()> {
        println!("    $ {}", self.shown);
        let started = self.command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut child = started.with_context(|| format!("cannot start `{}`", self.shown))?;
        if let Some(output) = child.stdout.take() {
            let mut output = BufReader::new(output);
            let mut line = Vec::new();
            while output.read_until(b'\n', &mut line)? > 0 {
                let text = String::from_utf8_lossy(&line);
                print!("{text}");
                watch(text.trim_end());
                line.clear();
            }
        }
        let status = child.wait().with_context(|| format!("cannot wait for `{}`", self.shown))?;
        ensure!(status.success(), "`{}` ended with {status}", self.shown);
        Ok(())
    }

    /// Runs it without a word, and yields what it printed on standard output, or `None` when it
    /// could not be started or failed.
    pub(crate) fn quietly(mut self) -> Option<String> {
        let output = self.command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
