//! The embedded store, put through the contract and held against the model.

use std::cell::Cell;

use tempfile::TempDir;

use super::*;
use crate::contract::{Make, as_tests};

/// Small segments, so that tests see many.
pub(super) fn small() -> Options {
    Options { segment_octets: 64 * 1024, readers: 4 }
}

fn run(case: fn(Make<'_>)) {
    let dir = TempDir::new().unwrap();
    let made = Cell::new(0);
    case(&|| {
        made.set(made.get() + 1);
        let dir = dir.path().join(made.get().to_string());
        Box::new(EmbeddedStore::open(&dir, small()).unwrap())
    });
}

crate::contract_cases!(as_tests!(run));
