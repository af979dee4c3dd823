//! Opening the store and closing it.

use std::fmt;
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::str::FromStr as _;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use tokio_postgres::Config;
use tokio_postgres::config::Host;

use super::connection::{Io, Pool, number};
use super::local::Local;
use super::notices::{self, Ears};
use super::octets::{Medium, Room, Spools};
use super::s3::{Bucket, S3};
use super::{SharedStore, schema, upkeep};
use crate::StoreError;

/// How often a node looks for what nothing refers to.
const SWEEP_EVERY: Duration = Duration::from_secs(10);
/// And how often among all there is.
const ORPHANS_EVERY: Duration = Duration::from_secs(3600);
/// How long a node that no beat of its own reached is still believed to reach the database.
const SILENT_TIME_MAX: Duration = Duration::from_secs(10);

/// Where octets are.
#[derive(Debug, Clone)]
pub enum Place {
    /// In files of this folder, which all nodes see.
    Folder(PathBuf),
    /// In a bucket of S3.
    Bucket(Bucket),
}

/// Where a shared store is.
#[derive(Clone)]
pub struct Options {
    /// Of the database, as `postgresql://user:password@host/database`.
    pub database: String,
    /// The schema in it: lower-case letters, digits and `_`, at most 40 of them.
    pub schema: String,
    /// Connections of this node at most, one for listening aside.
    pub connections: usize,
    /// Where octets are.
    pub octets: Place,
    /// A folder of this node alone, for messages that are still coming in.
    pub spool: PathBuf,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Options({}, {:?})", self.schema, self.octets)
    }
}

/// The database's address, when the way to it is safe: what goes there is not encrypted.
fn safe(database: &str) -> Result<Config, StoreError> {
    let refused = |why: &str| StoreError::Medium(format!("the address of the database {why}"));
    // The error may hold the password.
    let config = Config::from_str(database).map_err(|_| refused("cannot be read"))?;
    let is_here = |host: &Host| match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost" || IpAddr::from_str(name).is_ok_and(|ip| ip.is_loopback())
        }
    };
    let addresses = config.get_hostaddrs();
    if config.get_hosts().is_empty() && addresses.is_empty() {
        return Err(refused("names no host"));
    }
    if !config.get_hosts().iter().all(is_here) || !addresses.iter().all(IpAddr::is_loopback) {
        return Err(refused(
            "is of another machine: give it one of this machine, with a tunnel behind it that \
             encrypts",
        ));
    }
    Ok(config)
}

impl SharedStore {
    /// Opens the store, and makes its tables where there are none.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] when the database does not answer; [`StoreError::Medium`] when the
    /// options are none, or the tables are of another program.
    pub fn open(options: &Options) -> Result<Self, StoreError> {
        let config = safe(&options.database)?;
        if !schema::is_name(&options.schema) {
            return Err(StoreError::Medium("the name of the schema is none".into()));
        }
        let io = Arc::new(Io::start()?);
        let schema = options.schema.clone();
        let pool = Pool::new(Arc::clone(&io), config, schema.clone(), options.connections);
        let pool = Arc::new(pool);
        let node = pool.with(|db| {
            schema::make(db, &schema)?;
            let next = db.first("SELECT nextval('node_numbers')", &[])?;
            let node = next.map_or(Ok(0), |row| number(&row, 0))?;
            notices::beat(db, node)?;
            Ok(node)
        })?;
        let medium: Arc<dyn Medium> = match &options.octets {
            Place::Folder(folder) => Arc::new(Local::open(folder, node)?),
            Place::Bucket(bucket) => Arc::new(S3::open(bucket, node, io)?),
        };
        let folder = options.spool.clone();
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let spools = Arc::new(Spools { folder, next: AtomicU64::new(0) });
        let ears = Arc::new(Ears {
            pool: Arc::clone(&pool),
            channel: schema,
            node,
            listeners: RwLock::default(),
            stopping: AtomicBool::new(false),
            beaten: AtomicI64::new(0),
            born: Instant::now(),
        });
        let upkeep = Arc::new(upkeep::Done::default());
        let listening = Arc::clone(&ears);
        let ready = std::sync::mpsc::sync_channel(1);
        let mut threads = vec![
            std::thread::Builder::new()
                .name("store-listener".into())
                .spawn(move || listening.run(&ready.0))?,
        ];
        // From here on this node hears of every change.
        ready
            .1
            .recv_timeout(SILENT_TIME_MAX)
            .map_err(|_| StoreError::Unavailable("the database cannot be listened to".into()))?;
        let (of, what, done) = (Arc::clone(&ears), Arc::clone(&medium), Arc::clone(&upkeep));
        threads.push(
            std::thread::Builder::new()
                .name("store-upkeep".into())
                .spawn(move || of.keep_up(&*what, &done))?,
        );
        Ok(Self { pool, ears, medium, room: Room::default(), spools, upkeep, threads })
    }
}

impl Ears {
    /// Whether the database hears this node.
    pub(super) fn is_heard(&self) -> Result<(), StoreError> {
        if self.silent_for() > SILENT_TIME_MAX {
            return Err(StoreError::Unavailable("the database does not answer".into()));
        }
        Ok(())
    }

    /// Sweeps, until it is told to stop.
    fn keep_up(&self, medium: &dyn Medium, done: &upkeep::Done) {
        let (mut swept, mut looked) = (Instant::now(), Instant::now());
        let mut after: Option<String> = None;
        while !self.stopping.load(Ordering::Relaxed) {
            std::thread::park_timeout(Duration::from_millis(200));
            let now = Instant::now();
            if now.duration_since(swept) >= SWEEP_EVERY {
                swept = now;
                if let Err(error) = upkeep::sweep(&self.pool, medium, done) {
                    tracing::warn!(%error, "dead octets stay for now");
                }
            }
            if now.duration_since(looked) >= ORPHANS_EVERY {
                match upkeep::sweep_orphans(&self.pool, medium, done, after.as_deref()) {
                    // One portion after the other; then all over again, an hour later.
                    Ok(last) => after = last,
                    Err(error) => tracing::warn!(%error, "octets cannot be looked through"),
                }
                if after.is_none() {
                    looked = now;
                }
            }
        }
    }
}

impl Drop for SharedStore {
    fn drop(&mut self) {
        self.ears.stopping.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.thread().unpark();
            if thread.join().is_err() {
                tracing::error!("a thread of the store panicked");
            }
        }
    }
}

impl fmt::Debug for SharedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedStore")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_elsewhere_is_refused_for_nothing_hides_what_goes_there() {
        for here in [
            "postgresql://anna@localhost/pec",
            "postgresql://anna@127.0.0.1:5433/pec",
            "postgresql://anna@[::1]/pec",
            "host=/var/run/postgresql user=anna dbname=pec",
        ] {
            assert!(safe(here).is_ok(), "{here}");
        }
        for elsewhere in [
            "postgresql://anna@db.example/pec",
            "postgresql://anna@192.0.2.1/pec",
            "host=localhost hostaddr=192.0.2.1 user=anna",
            "postgresql://anna@localhost,db.example/pec",
            "user=anna dbname=pec",
            "no address",
        ] {
            assert!(safe(elsewhere).is_err(), "{elsewhere}");
        }
    }

    #[test]
    fn an_address_that_cannot_be_read_is_not_told() {
        let told = safe("postgresql://anna:secret@[").unwrap_err().to_string();
        assert!(!told.contains("secret"), "{told}");
    }

    #[test]
    fn names_of_schemas_are_plain() {
        let longest = "a".repeat(40);
        for name in ["ceralacca", "a_1", &longest] {
            assert!(schema::is_name(name), "{name}");
        }
        for name in ["", "A", "a\"b", "a b", "a-b", &format!("{longest}a")] {
            assert!(!schema::is_name(name), "{name}");
        }
    }
}
