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
        Command::Mail { path, options } => {
            let path = match path {
                ReversePath::Null => String::new(),
                ReversePath::Address(address) => address.to_string(),
            };
            let size = options.size.map_or_else(String::new, |size| format!(" SIZE={size}"));
            let body = if options.eight_bit { " BODY=8BITMIME" } else { "" };
            let tls = if options.dsn.require_tls { " REQUIRETLS" } else { "" };
            let utf8 = if options.utf8 { " SMTPUTF8" } else { "" };
            format!("MAIL FROM:<{path}>{size}{body}{tls}{utf8}{}", options.dsn)
        }
        // What was beyond ASCII is written in A-labels, and is another command then.
        Command::Rcpt { beyond_ascii: true, .. } => return,
        // So is ORCPT, in ASCII: what is kept of it is read again as itself.
        Command::Rcpt { orcpt_beyond_ascii: true, dsn, .. } => {
            let written = format!("RCPT TO:<postmaster>{dsn}");
            let read = Command::parse(written.as_bytes());
            assert!(matches!(read, Ok(Command::Rcpt { dsn: kept, .. }) if kept == *dsn));
            return;
        }
        Command::Rcpt { path: ForwardPath::Postmaster, dsn, .. } => {
            format!("RCPT TO:<postmaster>{dsn}")
        }
        Command::Rcpt { path: ForwardPath::Address(address), dsn, .. } => {
            format!("RCPT TO:<{address}>{dsn}")
        }
        Command::Bdat { octets, last } => {
            format!("BDAT {octets}{}", if *last { " LAST" } else { "" })
        }
        _ => return,
    };
    assert_eq!(Command::parse(written.as_bytes()), Ok(command));
});
