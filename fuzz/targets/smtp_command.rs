//! Any octets as a command line: what is read is written and read again alike, and what is refused
//! is told so in one line.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mail::{ForwardPath, ReversePath};
use smtp::command::{Command, HELLO_OCTETS_MAX};

fuzz_target!(|octets: &[u8]| {
    let command = match Command::parse(octets) {
        Ok(command) => command,
        Err(reply) => {
            assert!(reply.is_refusal() && !reply.closes());
            assert!(reply.to_octets().len() <= smtp::reply::REPLY_LINE_OCTETS_MAX);
            return;
        }
    };
    let written = match &command {
        Command::Ehlo(name) | Command::Helo(name) => {
            assert!(!name.is_empty() && name.len() <= HELLO_OCTETS_MAX);
            assert!(name.bytes().all(|octet| octet.is_ascii_graphic()));
            return;
        }
        Command::Mail { path, size } => {
            let path = match path {
                ReversePath::Null => String::new(),
                ReversePath::Address(address) => address.to_string(),
            };
            let size = size.map_or_else(String::new, |size| format!(" SIZE={size}"));
            format!("MAIL FROM:<{path}>{size}")
        }
        Command::Rcpt(ForwardPath::Postmaster) => "RCPT TO:<postmaster>".to_owned(),
        Command::Rcpt(ForwardPath::Address(address)) => format!("RCPT TO:<{address}>"),
        _ => return,
    };
    assert_eq!(Command::parse(written.as_bytes()), Ok(command));
});
