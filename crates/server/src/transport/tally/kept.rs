//! How counts lie on disk: each policy once, by its number.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Count, Failures, Held, Periods};

/// Octets of the file at most; a larger one is none of ours.
pub(super) const FILE_OCTETS_MAX: u64 = 256 * 1024 * 1024;

#[derive(Serialize, Deserialize)]
struct File {
    policies: Vec<Held>,
    periods: BTreeMap<i64, BTreeMap<String, Vec<Kept>>>,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    policy: usize,
    successes: u64,
    failed: u64,
    failures: Vec<Failures>,
}

/// What is written.
pub(super) fn octets(periods: &Periods) -> io::Result<Vec<u8>> {
    let (mut policies, mut numbers) = (Vec::new(), HashMap::new());
    let mut kept = |count: &Count| Kept {
        policy: *numbers.entry(count.held.clone()).or_insert_with(|| {
            policies.push(Held::clone(&count.held));
            policies.len() - 1
        }),
        successes: count.successes,
        failed: count.failed,
        failures: count.failures.clone(),
    };
    let mut all: BTreeMap<i64, BTreeMap<String, Vec<Kept>>> = BTreeMap::new();
    for (period, domains) in periods {
        let here = all.entry(*period).or_default();
        for (domain, counts) in domains {
            here.insert(domain.clone(), counts.iter().map(&mut kept).collect());
        }
    }
    Ok(serde_json::to_vec(&File { policies, periods: all })?)
}

/// What was.
pub(super) fn read(file: &Path) -> io::Result<Periods> {
    if std::fs::metadata(file)?.len() > FILE_OCTETS_MAX {
        return Err(io::Error::other("it is too large"));
    }
    let File { policies, periods } = serde_json::from_slice(&std::fs::read(file)?)?;
    let policies: Vec<Arc<Held>> = policies.into_iter().map(Arc::new).collect();
    let count = |kept: Kept| {
        let held =
            policies.get(kept.policy).ok_or_else(|| io::Error::other("a policy is missing"))?;
        let Kept { successes, failed, failures, .. } = kept;
        Ok(Count { held: held.clone(), successes, failed, failures })
    };
    let counts = |kept: Vec<Kept>| kept.into_iter().map(count).collect::<io::Result<Vec<_>>>();
    let mut all = Periods::new();
    for (period, domains) in periods {
        let domains = domains.into_iter().map(|(domain, kept)| Ok((domain, counts(kept)?)));
        all.insert(period, domains.collect::<io::Result<_>>()?);
    }
    Ok(all)
}
