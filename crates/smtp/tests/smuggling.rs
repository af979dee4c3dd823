//! SMTP smuggling: whatever a sender writes around a lone dot, it is one message or a refusal, and
//! never two messages. RFC 5321 §2.3.8 and §4.1.1.4.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

mod common;

use common::{Shell, settings};
use smtp::Role;

/// Line ends and what somebody's server might take for one.
const ENDS: [&str; 8] = ["\n", "\r", "\r\n", "\0", "\r\0\n", "\r\r\n", "\n\r", "\0\r\n"];

const TRANSACTION: &str = "MAIL FROM:<x@relay.example>\r\nRCPT TO:<anna@pec.example>\r\nDATA\r\n";

/// A second transaction that the first one's content hides, and a true end.
const HIDDEN: &str = "MAIL FROM:<y@relay.example>\r\nRCPT TO:<bruno@pec.example>\r\nDATA\r\n\
                      smuggled\r\n.\r\n";

fn shell(tls_started: bool) -> Shell {
    let mut shell = Shell::new(settings(Role::Transport), false);
    if tls_started {
        shell.feed(b"STARTTLS\r\n");
        shell.start_tls();
    }
    shell.feed(b"HELO relay.example\r\n");
    shell.take_sent();
    shell
}

#[test]
fn one_message_or_a_refusal_and_never_two() {
    for tls_started in [false, true] {
        for before in ENDS {
            for after in ENDS {
                if (before, after) == ("\r\n", "\r\n") {
                    continue;
                }
                for size in [1, 2, 7, 10_000] {
                    let label = format!("{before:?}.{after:?} by {size}, TLS {tls_started}");
                    let content = format!("Subject: one\r\n\r\ntext{before}.{after}{HIDDEN}");
                    // One after the other, and all in a row.
                    for pipelined in [false, true] {
                        let mut shell = shell(tls_started);
                        let stream = format!("{TRANSACTION}{content}");
                        let first = if pipelined { stream.len() } else { TRANSACTION.len() };
                        for part in [&stream[..first], &stream[first..]] {
                            part.as_bytes().chunks(size).for_each(|segment| shell.feed(segment));
                        }
                        let sent = shell.take_sent();
                        let codes: Vec<_> = sent.lines().map(|line| &line[..9]).collect();
                        let refused = ["250 2.1.0", "250 2.1.5", "354 Send ", "550 5.6.0"];
                        assert_eq!(codes[..4], refused, "{label}: {sent}");
                        assert_eq!(codes[4..], ["421 4.7.0"], "{label}: {sent}");
                        assert_eq!(shell.accepted, [], "{label}");
                        assert!(shell.closed && shell.discards == 1, "{label}");
                    }
                }
            }
        }
    }
}

/// In chunks (RFC 3030) the length says where a message ends, and nothing in it can say otherwise.
#[test]
fn a_chunk_is_as_long_as_it_says_and_holds_no_other_line_end() {
    for tls_started in [false, true] {
        for before in ENDS {
            for after in ENDS {
                for size in [1, 2, 7, 10_000] {
                    let label = format!("{before:?}.{after:?} by {size}, TLS {tls_started}");
                    let content = format!("Subject: one\r\n\r\ntext{before}.{after}{HIDDEN}");
                    let envelope = TRANSACTION.strip_suffix("DATA\r\n").unwrap();
                    // In one chunk, and in two that part anywhere around the dot.
                    for first in [0, 18, 19, 20, 21, 22] {
                        let (head, tail) = content.split_at(first);
                        let parts = [
                            envelope.to_owned(),
                            format!("BDAT {}\r\n{head}", head.len()),
                            format!("BDAT {} LAST\r\n{tail}", tail.len()),
                            "NOOP\r\n".to_owned(),
                        ];
                        let mut replies = Vec::new();
                        // One after the other, and all in a row.
                        for parts in [&parts[..], &[parts.concat()]] {
                            let mut shell = shell(tls_started);
                            for part in parts {
                                let segments = part.as_bytes().chunks(size);
                                segments.for_each(|segment| shell.feed(segment));
                            }
                            replies.push((shell.take_sent(), shell));
                        }
                        let (sent, shell) = replies.swap_remove(0);
                        assert_eq!(sent, replies[0].0, "{label} after {first}");
                        assert_eq!(shell.accepted, replies[0].1.accepted, "{label} after {first}");
                        assert_eq!(shell.discards, replies[0].1.discards, "{label} after {first}");
                        let codes: Vec<_> = sent.lines().map(|line| &line[..9]).collect();
                        if (before, after) == ("\r\n", "\r\n") {
                            let contents: Vec<_> =
                                shell.accepted.iter().map(|m| m.content.as_slice()).collect();
                            assert_eq!(contents, [content.as_bytes()], "{label}");
                            continue;
                        }
                        // Refused with the chunk that shows it; the rest finds no transaction.
                        assert_eq!(codes[..2], ["250 2.1.0", "250 2.1.5"], "{label}: {sent}");
                        let rest = &codes[2..];
                        assert!(
                            rest == ["250 2.0.0", "550 5.6.0", "250 2.0.0"]
                                || rest == ["550 5.6.0", "503 5.5.1", "250 2.0.0"],
                            "{label} after {first}: {sent}"
                        );
                        assert_eq!((shell.accepted.len(), shell.discards), (0, 1), "{label}");
                    }
                }
            }
        }
    }
}

/// Fed in these parts, before TLS and inside it: one after the other, and all in a row.
fn each_way(parts: &[&str], expect: impl Fn(Shell)) {
    for tls_started in [false, true] {
        for parts in [parts, &[&parts.concat()[..]]] {
            let mut shell = shell(tls_started);
            parts.iter().for_each(|part| shell.feed(part.as_bytes()));
            expect(shell);
        }
    }
}

#[test]
fn the_true_end_is_the_only_one() {
    each_way(&[TRANSACTION, "text\r\n.\r\n", HIDDEN], |shell| {
        let contents: Vec<_> = shell.accepted.iter().map(|m| m.content.as_slice()).collect();
        assert_eq!(contents, [b"text\r\n".as_slice(), b"smuggled\r\n"]);
    });
}

#[test]
fn no_command_is_split_at_another_line_end() {
    for end in ENDS.into_iter().filter(|end| !end.ends_with("\r\n")) {
        for command in ["NOOP", "RSET", "HELO x.example", "QUIT", "STARTTLS", "DATA", "BDAT 5"] {
            let hidden = format!("{command}{end}MAIL FROM:<x@relay.example>");
            each_way(&[&hidden, "\r\n", "NOOP\r\n"], |mut shell| {
                let sent = shell.take_sent();
                let bare = "500 5.5.2 Bare CR, LF or NUL in a command: end each line with CRLF";
                assert_eq!(sent, format!("{bare}\r\n250 2.0.0 Done\r\n"), "{hidden:?}");
                assert_eq!((shell.asked.len(), shell.closed), (0, false), "{hidden:?}");
            });
        }
    }
}
