//! Plays the conversations of `tests/transcripts/smtp` against the session machine, as they are
//! written and octet by octet. What their lines mean is told in `tests/transcripts/smtp/README.md`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

mod common;
mod states;

use std::collections::HashMap;
use std::path::Path;

use common::{Shell, settings};
use smtp::Role;

#[test]
fn every_transcript() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/transcripts/smtp");
    let mut names: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path: &std::path::PathBuf| path.extension().is_some_and(|end| end == "txt"));
    names.sort();
    let mut conversations = 0;
    for path in names {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        for segment_max in [usize::MAX, 1] {
            if name == states::FILE {
                for (place, row) in states::conversations(&text) {
                    conversations += play(&place, &row, segment_max);
                }
            } else {
                conversations += play(&name, &text, segment_max);
            }
        }
    }
    assert!(conversations >= 1_000, "only {conversations} conversations were found");
}

/// Plays all conversations of one file; says how many.
fn play(name: &str, text: &str, segment_max: usize) -> usize {
    let mut conversations = 0;
    let mut limits: Vec<&str> = Vec::new();
    let mut shell: Option<Shell> = None;
    let mut bound = HashMap::new();
    let mut segment = Vec::new();
    let lines: Vec<_> = text.lines().enumerate().collect();
    for (index, (number, line)) in lines.iter().enumerate() {
        let place = format!("{name}:{} (segments of {segment_max})", number + 1);
        let next_is_client = || {
            let next = lines.get(index + 1).map_or("", |(_, line)| *line);
            next.starts_with("C: ") || next.starts_with("C! ")
        };
        if line.is_empty() || line.starts_with('#') {
        } else if let Some(limit) = line.strip_prefix("given a message may have ") {
            limits.push(limit);
        } else if let Some(listener) = line.strip_prefix("given C on ") {
            if let Some(shell) = shell.take() {
                finish(shell, &place);
            }
            bound.clear();
            let mut new = connect(listener, &std::mem::take(&mut limits), &place);
            expect("220 {host} ESMTP ceralacca", &mut new, &mut bound, &place);
            shell = Some(new);
            conversations += 1;
        } else if *line == "given C is anna@pec.example" {
            log_in(here(&mut shell, &place));
        } else if let Some(text) = line.strip_prefix("C: ").or(line.strip_prefix("C! ")) {
            if line.starts_with("C: ") {
                segment.extend_from_slice(format!("{text}\r\n").as_bytes());
            } else {
                segment.extend(unescape(text, &place));
            }
            if !next_is_client() {
                for part in segment.chunks(segment_max) {
                    here(&mut shell, &place).feed(part);
                }
                segment.clear();
            }
        } else if let Some(reply) = line.strip_prefix("S: ") {
            expect(reply, here(&mut shell, &place), &mut bound, &place);
        } else if *line == "TLS starts" {
            here(&mut shell, &place).start_tls();
        } else if *line == "S closes" {
            assert!(here(&mut shell, &place).closed, "{place}: it is still open");
        } else if let Some(count) = line.strip_prefix("then messages accepted: ") {
            let accepted: Vec<_> = here(&mut shell, &place).accepted.clone();
            assert_eq!(accepted.len().to_string(), count, "{place}: {accepted:?}");
        } else if let Some(message) = line.strip_prefix("then accepted: ") {
            let last = here(&mut shell, &place)
                .accepted
                .last()
                .unwrap_or_else(|| panic!("{place}: none"))
                .clone();
            let content = last.content.escape_ascii();
            let told = format!("<{}> to {}: {content}", last.from, last.to.join(", "));
            assert_eq!(told, message, "{place}");
        } else {
            panic!("{place}: what is {line:?}?");
        }
        if let Some(shell) = &shell
            && !next_is_server(&lines, index)
        {
            let rest = shell.sent.escape_ascii();
            assert!(shell.sent.is_empty(), "{place}: nobody expected {rest}");
        }
    }
    if let Some(shell) = shell {
        finish(shell, name);
    }
    conversations
}

fn here<'a>(shell: &'a mut Option<Shell>, place: &str) -> &'a mut Shell {
    shell.as_mut().unwrap_or_else(|| panic!("{place}: nobody is connected"))
}

fn next_is_server(lines: &[(usize, &str)], index: usize) -> bool {
    lines.get(index + 1).is_some_and(|(_, line)| line.starts_with("S: "))
}

fn connect(listener: &str, limits: &[&str], place: &str) -> Shell {
    let (role, tls) = match listener {
        "transport in clear" => (Role::Transport, false),
        "transport over TLS" => (Role::Transport, true),
        "submission in clear" => (Role::Submission, false),
        "submission over TLS" => (Role::Submission, true),
        other => panic!("{place}: no listener is called {other:?}"),
    };
    let mut settings = settings(role);
    settings.eight_bit = limits.contains(&"8 bits");
    settings.utf8 = limits.contains(&"UTF-8 in its header");
    for limit in limits {
        match limit.split_once(' ') {
            Some((count, "octets")) => settings.size_max = count.parse().unwrap(),
            Some((count, "recipients")) => settings.recipients_max = count.parse().unwrap(),
            Some(("8", "bits") | ("UTF-8", _)) => {}
            _ => panic!("{place}: no limit is called {limit:?}"),
        }
    }
    Shell::new(settings, tls)
}

fn log_in(shell: &mut Shell) {
    shell.feed(b"EHLO client.example\r\nAUTH PLAIN AGFubmFAcGVjLmV4YW1wbGUAc2VncmV0bw==\r\n");
    let sent = shell.take_sent();
    assert!(sent.ends_with("235 2.7.0 Authentication succeeded\r\n"), "{sent}");
}

/// Nothing may be left unsaid.
fn finish(mut shell: Shell, place: &str) {
    assert_eq!(shell.take_sent(), "", "before {place}");
}

/// Takes one line from what was sent; `{v}` binds where first seen and must match after.
fn expect(pattern: &str, shell: &mut Shell, bound: &mut HashMap<String, String>, place: &str) {
    let sent = shell.take_sent();
    let (line, rest) = sent
        .split_once("\r\n")
        .unwrap_or_else(|| panic!("{place}: expected {pattern:?}, and nothing more was sent"));
    shell.sent = rest.as_bytes().to_vec();
    let (mut pattern_rest, mut line_rest) = (pattern, line);
    while let Some((before, after)) = pattern_rest.split_once('{') {
        let (variable, after) = after.split_once('}').unwrap();
        let until = after.split('{').next().unwrap();
        let found = line_rest.strip_prefix(before).and_then(|value| {
            let end = if until.is_empty() { value.len() } else { value.find(until)? };
            Some(value.split_at(end))
        });
        let Some((value, left)) = found else { panic!("{place}: expected {pattern:?}: {line:?}") };
        let earlier = bound.entry(variable.to_owned()).or_insert_with(|| value.to_owned());
        assert_eq!(earlier, value, "{place}: {{{variable}}}");
        (pattern_rest, line_rest) = (after, left);
    }
    assert_eq!(pattern_rest, line_rest, "{place}: expected {pattern:?}: {line:?}");
}

/// `\r \n \t \0 \\ \xHH`, and `\(600*a)` for 600 times what stands there.
fn unescape(text: &str, place: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        if c != '\\' {
            octets.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let escape = rest.chars().next().unwrap_or_else(|| panic!("{place}: a lone backslash"));
        rest = &rest[escape.len_utf8()..];
        match escape {
            'r' => octets.push(b'\r'),
            'n' => octets.push(b'\n'),
            't' => octets.push(b'\t'),
            '0' => octets.push(0),
            '\\' => octets.push(b'\\'),
            'x' => {
                octets.push(u8::from_str_radix(&rest[..2], 16).unwrap());
                rest = &rest[2..];
            }
            '(' => {
                let (inner, after) = rest.split_once(')').unwrap();
                let (count, what) = inner.split_once('*').unwrap();
                octets.extend(unescape(what, place).repeat(count.parse().unwrap()));
                rest = after;
            }
            other => panic!("{place}: \\{other} means nothing"),
        }
    }
    octets
}
