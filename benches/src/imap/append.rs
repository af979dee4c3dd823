//! Messages added by many at once, each acknowledged when it is on disk.

use std::time::{Duration, Instant};

use super::Bench;
use super::client::Client;
use super::corpus;
use super::figures::{Better, rate, tell};
use super::party::Party;

const SESSIONS: usize = 32;
const OCTETS: usize = 20_000;

pub(super) fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let each = bench.size(20, 60);
    let mut figures: Vec<_> = bench.parties.iter().map(|party| (party.kind, Vec::new())).collect();
    for round in 0..bench.rounds {
        for (party, (_, rates)) in bench.parties.iter_mut().zip(&mut figures) {
            let texts: Vec<Vec<Vec<u8>>> = (0..SESSIONS)
                .map(|session| {
                    let first = (round * SESSIONS + session) * each;
                    (first..first + each).map(|number| corpus::plain(number, OCTETS)).collect()
                })
                .collect();
            let took = together(party, &texts)?;
            rates.push(rate(SESSIONS * each, took));
        }
    }
    let what = format!("APPEND of 20 KB, {SESSIONS} sessions");
    tell(&what, "a second", Better::More, &figures);
    Ok(())
}

/// Each session adds its own, to a mailbox of its own user.
fn together(party: &mut Party, texts: &[Vec<Vec<u8>>]) -> anyhow::Result<Duration> {
    let mut clients = Vec::new();
    for number in 0..texts.len() {
        party.fill(number, "aggiunti", &[])?;
        clients.push(party.enter(number)?);
    }
    let began = Instant::now();
    at_once(clients.into_iter().zip(texts), |(client, texts)| {
        let mut add =
            |text: &Vec<u8>| client.with_literals(&[("APPEND aggiunti", text.as_slice())]);
        texts.iter().try_for_each(|text| add(text).map(drop))
    })?;
    Ok(began.elapsed())
}

/// Does something for each in a thread of its own.
fn at_once<'t>(
    each: impl Iterator<Item = (Client, &'t Vec<Vec<u8>>)>,
    work: impl Fn((&mut Client, &Vec<Vec<u8>>)) -> anyhow::Result<()> + Sync,
) -> anyhow::Result<()> {
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = each
            .map(|(mut client, texts)| scope.spawn(move || work((&mut client, texts))))
            .collect();
        threads.into_iter().try_for_each(|thread| {
            thread.join().map_err(|_| anyhow::anyhow!("a client panicked"))?
        })
    })
}
