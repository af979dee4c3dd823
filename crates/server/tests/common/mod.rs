//! Helpers of tests that start the program as a person or a script does.

#![allow(dead_code, reason = "each test program uses some of them")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, which may")]

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

/// Exit status of what was refused, or is not valid.
pub(crate) const REFUSED: i32 = 1;
/// Exit status of wrong use.
pub(crate) const USED_WRONGLY: i32 = 2;

/// The program, with nothing on standard input.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ceralacca"));
    command.stdin(Stdio::null());
    command
}

/// Runs the program to its end.
pub(crate) fn run(arguments: &[&str], folder: &Path) -> Output {
    program().args(arguments).current_dir(folder).output().unwrap()
}

/// As [`run`], with this on standard input.
pub(crate) fn feed(arguments: &[&str], folder: &Path, input: &str) -> Output {
    let mut command = program();
    command.args(arguments).current_dir(folder);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// Its exit status.
pub(crate) fn status(output: &Output) -> i32 {
    output.status.code().unwrap()
}

/// What it printed.
pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What it said of errors.
pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// What a command that was done printed.
pub(crate) fn done(output: &Output) -> String {
    assert_eq!((status(output), stderr(output)), (0, String::new()));
    stdout(output)
}

/// The sentence of a command that was refused.
pub(crate) fn refused(output: &Output) -> String {
    assert_eq!((status(output), stdout(output)), (REFUSED, String::new()));
    stderr(output)
}

/// A base such that all ports are free now.
pub(crate) fn port_base() -> String {
    for _ in 0..200 {
        let base = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let free = |port: &u16| TcpListener::bind(("127.0.0.1", base + port)).is_ok();
        if base < 64_000 && [25, 80, 143, 465, 587, 993, 995].iter().all(free) {
            return base.to_string();
        }
    }
    panic!("no free ports")
}

/// A folder with a provider in it, made by `init`.
pub(crate) fn provider() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let init = ["init", ".", "--provider", "Alfa", "--domain", "pec.alfa.example", "--port-base"];
    done(&run(&[&init[..], &[&port_base()]].concat(), folder.path()));
    folder
}

/// A provider that runs, killed when dropped.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a command and waits for its ready line.
pub(crate) fn start(arguments: &[&str], folder: &Path) -> (Running, serde_json::Value) {
    start_with(arguments, folder, &[])
}

/// As [`start`], with these variables in its environment.
pub(crate) fn start_with(
    arguments: &[&str],
    folder: &Path,
    variables: &[(&str, &str)],
) -> (Running, serde_json::Value) {
    let log = std::fs::File::create(folder.join("log.txt")).unwrap();
    let mut child = program()
        .args(arguments)
        .envs(variables.iter().copied())
        .current_dir(folder)
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let running = Running(child);
    let told = std::fs::read_to_string(folder.join("log.txt")).unwrap();
    let ready = serde_json::from_str(&line);
    (running, ready.unwrap_or_else(|error| panic!("{error}: {line}; {told}")))
}

/// Stops it in order.
pub(crate) fn stop(mut running: Running) {
    let pid = running.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(running.0.wait().unwrap().code(), Some(0));
}
