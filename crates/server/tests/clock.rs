//! What the program makes of what a machine says of its clock, with programs that say what they are
//! told to in the place of chronyc and timedatectl.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, which may")]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{done, program, provider, start_with, stop};

const NEAR: &str = "echo 'C0A80001,192.0.2.1,3,1789370000.5,0.25,0,0,1.5,0,0.1,0.5,0.25,64,Normal'";
const FAR: &str = "echo 'C0A80001,192.0.2.1,3,1789370000.5,1.5,0,0,1.5,0,0.1,0.5,0.25,64,Normal'";
const ADRIFT: &str =
    "echo 'C0A80001,192.0.2.1,3,1789370000.5,0,0,0,1.5,0,0.1,0,0,64,Not synchronised'";
const GONE: &str = "echo '506 Cannot talk to daemon'; exit 1";
const HANGS: &str = "exec sleep 600";

const OFF: &str = "doubt  this machine's clock may be 2.000 s from UTC, and one second is allowed \
                   (DM 2 Nov 2005 art. 9): receipts attest its time, so look at chrony";
const NOT_KEPT: &str = "doubt  this machine's clock is not synchronised: receipts attest its time, \
                        so look at chrony";
const UNKNOWN: &str = "doubt  whether this machine's clock is synchronised cannot be told: receipts \
                       attest its time, so run chrony or systemd-timesyncd";

/// Puts a script in the place of a program.
fn put(folder: &Path, name: &str, script: &str) {
    let file = folder.join(name);
    std::fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// The path with these scripts, and with nothing else but what scripts need.
fn path(chronyc: &str, timedatectl: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "chronyc", chronyc);
    put(folder.path(), "timedatectl", timedatectl);
    let path = format!("{}:/usr/bin:/bin", folder.path().display());
    (folder, path)
}

// PEC-DT-06
#[test]
fn check_doubts_a_clock_that_is_off_or_that_nobody_knows() {
    let folder = provider();
    let marked = Path::new("/run/systemd/timesync/synchronized").exists();
    for (chronyc, timedatectl, expected) in [
        (NEAR, "echo NTPSynchronized=no", None),
        (FAR, "echo NTPSynchronized=yes", Some(OFF)),
        (ADRIFT, "echo NTPSynchronized=yes", Some(NOT_KEPT)),
        // No chrony: what the kernel holds its clock for.
        (GONE, "echo NTPSynchronized=yes", None),
        (GONE, "echo NTPSynchronized=no", Some(NOT_KEPT)),
        (HANGS, "echo NTPSynchronized=no", Some(NOT_KEPT)),
        (GONE, GONE, Some(UNKNOWN)),
    ] {
        // This very machine may have another who knows.
        if expected == Some(UNKNOWN) && marked {
            continue;
        }
        let (_programs, path) = path(chronyc, timedatectl);
        let began = Instant::now();
        let output =
            program().arg("check").current_dir(folder.path()).env("PATH", path).output().unwrap();
        assert!(began.elapsed() < Duration::from_secs(60), "{chronyc}");
        let told = done(&output);
        let of_clock = told.lines().find(|line| line.contains("machine's clock"));
        assert_eq!(of_clock, expected, "{chronyc}; {timedatectl}");
    }
}

// PEC-DT-06
#[test]
fn a_server_tells_how_far_its_clock_is_off() {
    let folder = provider();
    let (_programs, path) = path(FAR, GONE);
    let (running, ready) = start_with(&["serve", "--json"], folder.path(), &[("PATH", &path)]);
    let address = ready["listeners"]["http"].as_str().unwrap();
    let metrics = || {
        let mut socket = TcpStream::connect(address).unwrap();
        socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut told = String::new();
        socket.read_to_string(&mut told).unwrap();
        told
    };
    let until = Instant::now() + Duration::from_secs(60);
    let told = loop {
        let told = metrics();
        if told.contains("ceralacca_clock_off_seconds") || Instant::now() > until {
            break told;
        }
        // Each round asks the server, which takes its time.
        std::thread::yield_now();
    };
    let value = |name: &str| told.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    assert_eq!(value("ceralacca_clock_off_seconds "), Some("2"), "{told}");
    assert_eq!(value("ceralacca_clock_synchronised "), Some("0"), "{told}");
    stop(running);
    let log = std::fs::read_to_string(folder.path().join("log.txt")).unwrap();
    assert!(log.contains("the clock is not within one second of UTC"), "{log}");
}
