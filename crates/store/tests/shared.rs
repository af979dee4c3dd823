//! The shared store, on a PostgreSQL that is started here: what every store must do, with octets in a
//! folder and in S3, and what several nodes on one database must do.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

mod shared {
    pub(super) mod check;
    pub(super) mod chunks;
    pub(super) mod contract;
    pub(super) mod filling;
    pub(super) mod lost;
    pub(super) mod nodes;
}

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use scenarios::bucket;
use scenarios::postgres::Postgres;
use store::shared::{Bucket, Options, Place, SharedStore};
use tempfile::TempDir;

/// The database of all tests here: each has a schema of its own in it.
fn database() -> &'static Postgres {
    static DATABASE: OnceLock<Postgres> = OnceLock::new();
    DATABASE.get_or_init(|| Postgres::start().unwrap())
}

/// The S3 of all tests here.
fn service() -> &'static bucket::Bucket {
    static SERVICE: OnceLock<bucket::Bucket> = OnceLock::new();
    SERVICE.get_or_init(|| bucket::Bucket::start().unwrap())
}

/// A schema that nobody had before.
fn schema() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A store in a schema, on a database, with octets in a folder.
fn in_folder(database: &Postgres, schema: &str, folder: &TempDir) -> Options {
    let segments = folder.path().join("segments");
    std::fs::create_dir_all(&segments).unwrap();
    Options {
        database: database.address(),
        password: None,
        schema: schema.to_owned(),
        connections: 8,
        octets: Place::Folder(segments),
        quiet: Duration::from_secs(600),
        spool: folder.path().join("spool"),
        serves: true,
    }
}

/// The same with octets in S3.
fn in_bucket(database: &Postgres, schema: &str, folder: &TempDir) -> Options {
    let bucket = Bucket {
        endpoint: service().endpoint(),
        region: "eu-south-1".into(),
        name: bucket::NAME.into(),
        prefix: format!("{schema}/"),
        key_id: bucket::KEY.0.into(),
        secret: bucket::KEY.1.into(),
    };
    Options { octets: Place::Bucket(bucket), ..in_folder(database, schema, folder) }
}

/// Objects in the bucket of these options.
fn service_objects(options: &Options) -> usize {
    fn walk(folder: &std::path::Path) -> usize {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
        let count = |entry: std::fs::DirEntry| match entry.file_type().unwrap().is_dir() {
            true => walk(&entry.path()),
            // By which a store knows that they are its own.
            false => usize::from(entry.file_name() != "store.id"),
        };
        entries.map(count).sum()
    }
    match &options.octets {
        Place::Bucket(bucket) => walk(&service().folder().join(&bucket.prefix)),
        Place::Folder(folder) => walk(folder),
    }
}

/// Octets that nothing makes smaller, the same each time.
fn noise(octets: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    (0..octets).map(|_| next()).collect()
}

fn open(options: &Options) -> SharedStore {
    SharedStore::open(options).unwrap()
}
