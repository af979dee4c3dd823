//! What every store must do.

use store::contract::Make;
use tempfile::TempDir;

use crate::{database, in_bucket, in_folder, open, schema};

macro_rules! as_tests {
    (($run:path) $($group:ident::$case:ident,)*) => {
        $(#[test] fn $case() { $run(store::contract::$group::$case); })*
    };
}

fn folder(case: fn(Make<'_>)) {
    let folder = TempDir::new().unwrap();
    case(&|| Box::new(open(&in_folder(database(), &schema(), &folder))));
}

fn bucket(case: fn(Make<'_>)) {
    let folder = TempDir::new().unwrap();
    case(&|| Box::new(open(&in_bucket(database(), &schema(), &folder))));
}

mod octets_in_a_folder {
    store::contract_cases!(as_tests!(super::folder));
}

mod octets_in_s3 {
    store::contract_cases!(as_tests!(super::bucket));
}
