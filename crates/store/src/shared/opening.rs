//! Opening the store and closing it.

use std::fmt;
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::str::FromStr as _;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use tokio_postgres::Config;
use tokio_postgres::config::Host;

use super::connection::{Db, Io, Pool, number};
use super::hold::{Leases, RENEW_EVERY};
use super::local::Local;
use super::notices::{self, Ears};
use super::octets::{Medium, Room, Spools};
use super::s3::{Bucket, S3};
use super::{SharedStore, schema, upkeep};
use crate::{Share, StoreError};

/// How often a node looks for what nothing refers to.
const SWEEP_EVERY: Duration = Duration::from_secs(10);
/// And how often among all there is.
const ORPHANS_EVERY: Duration = Duration::from_secs(3600);
/// How long a node whose last beat is so old still tries to reach the database with each call: then it
/// refuses at once, or every call of every client would wait out the time of a statement.
const SILENT_TIME_MAX: Duration = Duration::from_secs(10);

/// Where octets are.
#[derive(Debug, Clone)]
pub enum Place {
    /// In files of this folder, which is there and which all nodes see.
    Folder(PathBuf),
    /// In a bucket of S3.
    Bucket(Bucket),
}

impl Place {
    /// How long octets stay that nothing names, as is usual.
    #[must_use]
    pub const fn quiet(&self) -> Duration {
        match self {
            Self::Folder(_) => Duration::from_secs(600),
            // What a bucket says of times may be of another clock.
            Self::Bucket(_) => Duration::from_secs(3600),
        }
    }
}

/// Where a shared store is.
#[derive(Clone)]
pub struct Options {
    /// Of the database, without a password, as [`check_address`] takes it.
    pub database: String,
    /// The password there, if it asks for one.
    pub password: Option<String>,
    /// The schema in it: lower-case letters, digits and `_`, at most 40 of them.
    pub schema: String,
    /// Connections of this node at most, one for listening aside.
    pub connections: usize,
    /// Where octets are.
    pub octets: Place,
    /// How long octets stay that nothing names, as [`Place::quiet`] says: a transaction that would name
    /// octets that have been on their medium for more than half of this is refused. The same at all nodes.
    pub quiet: Duration,
    /// A folder of this node alone, for messages that are still coming in.
    pub spool: PathBuf,
    /// Whether this node works on the store as long as it is open: one that opens it for a single command
    /// has no part in what is done once for all ([`Share`]).
    pub serves: bool,
}

/// Which half of a store cannot be used, and why.
#[derive(Debug, thiserror::Error)]
pub enum Unreachable {
    /// The database.
    #[error("{0}")]
    Database(StoreError),
    /// What octets are on.
    #[error("{0}")]
    Octets(StoreError),
}

/// Whether an address of a database can be used: one of this machine, without a password.
///
/// # Errors
///
/// What is wrong with it; never the address itself, which may hold a password.
pub fn check_address(database: &str) -> Result<(), String> {
    safe(database).map(drop)
}

/// Whether a schema can have this name.
///
/// # Errors
///
/// What names there are.
pub fn check_schema(name: &str) -> Result<(), String> {
    match schema::is_name(name) {
        true => Ok(()),
        false => Err("a schema is named by 1 to 40 lower-case letters, digits and `_`".into()),
    }
}

/// Whether a store can be opened, without changing anything: `false` where its tables have still to be made.
///
/// # Errors
///
/// Which half of it cannot be used.
pub fn look(options: &Options) -> Result<bool, Unreachable> {
    let (io, pool) = pool(options).map_err(Unreachable::Database)?;
    let name = pool.with(|db| schema::look(db, &options.schema)).map_err(Unreachable::Database)?;
    let medium = medium(options, 0, io).map_err(Unreachable::Octets)?;
    let owner = medium.owner().map_err(Unreachable::Octets)?;
    let has_octets = match name {
        Some(_) => pool.with(has_octets).map_err(Unreachable::Database)?,
        None => false,
    };
    is_of(owner.as_deref(), name.as_deref(), has_octets).map_err(Unreachable::Octets)?;
    Ok(name.is_some())
}

pub(super) fn pool(options: &Options) -> Result<(Arc<Io>, Arc<Pool>), StoreError> {
    check_schema(&options.schema).map_err(StoreError::Medium)?;
    let mut config = safe(&options.database).map_err(StoreError::Medium)?;
    if let Some(password) = &options.password {
        config.password(password);
    }
    let io = Arc::new(Io::start()?);
    let schema = options.schema.clone();
    let pool = Arc::new(Pool::new(Arc::clone(&io), config, schema, options.connections));
    Ok((io, pool))
}

pub(super) fn medium(
    options: &Options,
    node: u64,
    io: Arc<Io>,
) -> Result<Arc<dyn Medium>, StoreError> {
    Ok(match &options.octets {
        Place::Folder(folder) => Arc::new(Local::open(folder, node, options.quiet)?),
        Place::Bucket(bucket) => Arc::new(S3::open(bucket, node, options.quiet, io)?),
    })
}

pub(super) fn has_octets(db: &Db) -> Result<bool, StoreError> {
    Ok(db.first("SELECT 1 FROM blobs LIMIT 1", &[])?.is_some())
}

/// Makes sure that what octets are on is this store's.
pub(super) fn own(medium: &dyn Medium, store: &str, has_octets: bool) -> Result<(), StoreError> {
    let owner = medium.owner()?;
    is_of(owner.as_deref(), Some(store), has_octets)?;
    if owner.is_none() {
        medium.give_to(store)?;
        // Another may have been first.
        is_of(medium.owner()?.as_deref(), Some(store), true)?;
    }
    Ok(())
}

/// Whether what octets are on is this store's, or nobody's and there are none yet. On a disk that is not
/// mounted, or in another's bucket, messages would be missing, and those of the other swept away.
pub(super) fn is_of(
    owner: Option<&str>,
    store: Option<&str>,
    has_octets: bool,
) -> Result<(), StoreError> {
    let wrong = |text: &str| Err(StoreError::Medium(text.into()));
    match (owner, store) {
        (Some(_), None) => wrong("the octets there are of another store"),
        (Some(owner), Some(store)) if owner != store => {
            wrong("the octets there are of another store")
        }
        (None, Some(_)) if has_octets => wrong("the octets of this store are not there"),
        _ => Ok(()),
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Options({}, {:?})", self.schema, self.octets)
    }
}

/// The database's address, when the way to it is safe: what goes there is not encrypted.
fn safe(database: &str) -> Result<Config, String> {
    let refused = |why: &str| format!("the address of the database {why}");
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
    if config.get_password().is_some() {
        return Err(refused("holds a password, which belongs in a file"));
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
    /// [`StoreError::Unavailable`] when the database or what octets are on does not answer;
    /// [`StoreError::Medium`] when the options are none, the tables are of another program, or the octets
    /// are of another store.
    pub fn open(options: &Options) -> Result<Self, StoreError> {
        let (io, pool) = pool(options)?;
        let (schema, serves) = (options.schema.clone(), options.serves);
        let (name, node, has_octets) = pool.with(|db| {
            let name = schema::make(db, &schema)?;
            let next = db.first("SELECT nextval('node_numbers')", &[])?;
            let node = next.map_or(Ok(0), |row| number(&row, 0))?;
            notices::beat(db, node, serves)?;
            Ok((name, node, has_octets(db)?))
        })?;
        let medium = medium(options, node, io)?;
        own(&*medium, &name, has_octets)?;
        let folder = options.spool.clone();
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let spools = Arc::new(Spools { folder, next: AtomicU64::new(0) });
        let ears = Arc::new(Ears {
            pool: Arc::clone(&pool),
            channel: schema,
            node,
            serves,
            listeners: RwLock::default(),
            elsewhere: RwLock::default(),
            share: Mutex::new(Share::NONE),
            stopping: AtomicBool::new(false),
            beaten: AtomicI64::new(0),
            deaf: AtomicBool::new(false),
            told_cut: AtomicBool::new(false),
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
        let leases = Arc::new(Leases::default());
        let (of, what, done) = (Arc::clone(&ears), Arc::clone(&medium), Arc::clone(&upkeep));
        let held = Arc::clone(&leases);
        threads.push(
            std::thread::Builder::new()
                .name("store-upkeep".into())
                .spawn(move || of.keep_up(&*what, &held, &done))?,
        );
        let (room, quiet) = (Room::default(), options.quiet);
        Ok(Self { pool, ears, medium, leases, quiet, room, spools, upkeep, threads })
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

    /// Whether this node hears what others do.
    pub(super) fn is_listening(&self) -> Result<(), StoreError> {
        if self.deaf.load(Ordering::Relaxed) {
            return Err(StoreError::Unavailable("the database is gone".into()));
        }
        self.is_heard()
    }

    /// Says what this node reads from and sweeps, if that is its part, until it is told to stop.
    fn keep_up(&self, medium: &dyn Medium, held: &Leases, done: &upkeep::Done) {
        let (mut swept, mut looked) = (Instant::now(), Instant::now());
        let mut renewed = Instant::now();
        let mut after: Option<String> = None;
        while !self.stopping.load(Ordering::Relaxed) {
            std::thread::park_timeout(Duration::from_millis(200));
            self.tell_if_cut();
            let now = Instant::now();
            if now.duration_since(renewed) >= RENEW_EVERY {
                renewed = now;
                if let Err(error) = held.renew(&self.pool) {
                    tracing::warn!(%error, "what is read from may go meanwhile");
                }
            }
            if now.duration_since(swept) >= SWEEP_EVERY {
                swept = now;
                if self.share().leads()
                    && let Err(error) = upkeep::sweep(&self.pool, medium, held, done)
                {
                    tracing::warn!(%error, "dead octets stay for now");
                }
            }
            if self.share().leads() && now.duration_since(looked) >= ORPHANS_EVERY {
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
            "postgresql://anna:secret@localhost/pec",
            "host=/run/postgresql user=anna password=secret",
            "user=anna dbname=pec",
            "no address",
        ] {
            assert!(safe(elsewhere).is_err(), "{elsewhere}");
        }
    }

    #[test]
    fn an_address_that_cannot_be_read_is_not_told() {
        for text in ["postgresql://anna:secret@[", "postgresql://anna:secret@localhost/pec"] {
            let told = safe(text).unwrap_err();
            assert!(!told.contains("secret"), "{told}");
        }
    }

    #[test]
    fn of_two_stores_that_come_at_once_one_has_the_octets() {
        let folder = tempfile::TempDir::new().unwrap();
        let bucket = scenarios::bucket::Bucket::start().unwrap();
        let quiet = Duration::from_secs(600);
        let place = Bucket {
            endpoint: bucket.endpoint(),
            region: "eu-south-1".into(),
            name: scenarios::bucket::NAME.into(),
            prefix: "pec/".into(),
            key_id: scenarios::bucket::KEY.0.into(),
            secret: scenarios::bucket::KEY.1.into(),
        };
        let media: [Box<dyn Medium>; 2] = [
            Box::new(Local::open(folder.path(), 1, quiet).unwrap()),
            Box::new(S3::open(&place, 1, quiet, Arc::new(Io::start().unwrap())).unwrap()),
        ];
        for medium in media {
            assert_eq!(medium.owner().unwrap(), None);
            // Both have seen that it is nobody's.
            medium.give_to("aa").unwrap();
            medium.give_to("bb").unwrap();
            assert_eq!(medium.owner().unwrap().as_deref(), Some("aa"));
            own(&*medium, "aa", false).unwrap();
            assert!(own(&*medium, "bb", false).is_err());
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn octets_of_another_store_are_refused_and_so_are_none_where_there_were_some() {
        for (owner, store, has_octets) in [
            (None, None, false),
            (None, Some("a"), false),
            (Some("a"), Some("a"), true),
            (Some("a"), Some("a"), false),
        ] {
            assert!(is_of(owner, store, has_octets).is_ok(), "{owner:?} {store:?}");
        }
        for (owner, store, has_octets) in
            [(Some("a"), None, false), (Some("a"), Some("b"), false), (None, Some("a"), true)]
        {
            assert!(is_of(owner, store, has_octets).is_err(), "{owner:?} {store:?}");
        }
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
