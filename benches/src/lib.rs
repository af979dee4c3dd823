//! What the benchmarks share: messages to send, figures to print, memory to read.
//!
//! A benchmark prints what it measured and asserts nothing about time: absolute times do not hold
//! on machines that others use too, so what counts is a ratio of two figures of the same run.

pub mod dovecot;
pub mod imap;
pub mod smtp;
pub mod throughput;

use std::time::Duration;

use anyhow::Context;

/// A message of about `octets` octets, in lines of text as people write them.
pub fn message(from: &str, to: &str, subject: &str, octets: usize) -> Vec<u8> {
    let header = format!(
        "From: {from}\r\nTo: {to}\r\nSubject: {subject}\r\n\
         Date: Mon, 14 Sep 2026 09:30:01 +0200\r\nMessage-ID: <{subject}@bench.example>\r\n\
         MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
    );
    let mut out = header.into_bytes();
    let line = b"Si trasmette in allegato quanto richiesto, e si resta in attesa di riscontro.\r\n";
    while out.len() + line.len() <= octets {
        out.extend_from_slice(line);
    }
    out
}

/// A line of results: what, and how much.
pub fn say(what: &str, figure: impl std::fmt::Display) {
    #[expect(clippy::print_stdout, reason = "it is what a benchmark is for")]
    {
        println!("{what:<58} {figure:>12}");
    }
}

/// The smallest, the middle and the largest.
pub fn spread(mut times: Vec<Duration>) -> Option<(Duration, Duration, Duration)> {
    times.sort_unstable();
    Some((*times.first()?, *times.get(times.len() / 2)?, *times.last()?))
}

/// Resident memory of a process and of its children, in KiB.
///
/// # Errors
///
/// When the process is gone.
pub fn resident_kib(pid: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
    let kib = line.split_whitespace().nth(1).context("no figure")?.parse()?;
    Ok(kib)
}

/// A figure from the environment, or what is usual.
pub fn setting(name: &str, usual: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}
