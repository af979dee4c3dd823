//! Connections to the database, as code that may block uses them.
//!
//! The driver is asynchronous: a thread of its own moves the octets of all connections. Who asks
//! waits on their own thread, for a time that is bounded: a database that is silent is a refusal, and
//! never a call that hangs.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{FromSql, ToSql};
use tokio_postgres::{Client, Config, NoTls, Row, SimpleQueryMessage, Statement};

use crate::StoreError;

/// How long one statement may take: commits of thousands of messages are done in a few seconds, and
/// the clients of protocols wait for minutes.
pub(super) const STATEMENT_TIME_MAX: Duration = Duration::from_secs(30);
/// How long the database may take to take up a connection.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a call may wait for one of the connections.
const TURN_TIME_MAX: Duration = Duration::from_secs(20);
/// Statements that a connection keeps prepared: all that this crate has, and some to spare.
const STATEMENTS_MAX: usize = 256;

/// Begins a transaction in which all that is asked is of one commit.
pub(super) const SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// What each connection is told first. A commit is on disk when it returns, whatever the database's
/// own setting is; what this side gave up on, the other gives up on too.
const BEGINNING: &str = "SET synchronous_commit = on; SET statement_timeout = '30s';
    SET lock_timeout = '15s'; SET idle_in_transaction_session_timeout = '60s';
    SET default_transaction_isolation = 'read committed'; SET client_min_messages = warning;";

/// Waits for what a future makes, on this thread, until then. It needs no runtime of its own: what
/// it waits for is moved by the threads of the store's.
pub(super) fn wait<F: Future>(future: F, until: Instant) -> Option<F::Output> {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        let left = until.checked_duration_since(Instant::now())?;
        thread::park_timeout(left);
    }
}

/// The threads that move octets between this node and all others.
pub(super) struct Io(Option<Runtime>);

impl Io {
    pub(super) fn start() -> Result<Self, StoreError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("store-io")
            .enable_all()
            .build()?;
        Ok(Self(Some(runtime)))
    }

    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.0 {
            runtime.spawn(work);
        }
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        // Without waiting: the last to let go of the store may be a task of another runtime.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// A parameter of a statement.
pub(super) type Value<'a> = &'a (dyn ToSql + Sync);

/// One connection, in use by one call.
pub(super) struct Db {
    client: Client,
    statements: RefCell<HashMap<String, Statement>>,
    /// Nobody knows what the other side thinks of it.
    broken: Cell<bool>,
    /// The last error was one that another try may not meet.
    again: Cell<bool>,
    /// A transaction is open.
    within: Cell<bool>,
}

impl Db {
    fn timed<T>(
        &self,
        future: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, StoreError> {
        match wait(future, Instant::now() + STATEMENT_TIME_MAX) {
            Some(Ok(output)) => {
                self.again.set(false);
                Ok(output)
            }
            Some(Err(error)) => {
                let retried = [
                    SqlState::T_R_SERIALIZATION_FAILURE,
                    SqlState::T_R_DEADLOCK_DETECTED,
                    SqlState::UNIQUE_VIOLATION,
                ];
                self.again.set(error.code().is_some_and(|code| retried.contains(code)));
                self.broken.set(self.broken.get() || error.code().is_none());
                Err(error.into())
            }
            None => {
                self.broken.set(true);
                self.again.set(false);
                Err(StoreError::Unavailable("the database does not answer".into()))
            }
        }
    }

    fn statement(&self, sql: &str) -> Result<Statement, StoreError> {
        if let Some(statement) = self.statements.borrow().get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.timed(self.client.prepare(sql))?;
        let mut statements = self.statements.borrow_mut();
        if statements.len() < STATEMENTS_MAX {
            statements.insert(sql.to_owned(), statement.clone());
        }
        Ok(statement)
    }

    /// The rows that a statement returns.
    pub(super) fn query(&self, sql: &str, values: &[Value<'_>]) -> Result<Vec<Row>, StoreError> {
        let statement = self.statement(sql)?;
        self.timed(self.client.query(&statement, values))
    }

    /// The first of them.
    pub(super) fn first(&self, sql: &str, values: &[Value<'_>]) -> Result<Option<Row>, StoreError> {
        Ok(self.query(sql, values)?.into_iter().next())
    }

    /// How many rows a statement changed.
    pub(super) fn execute(&self, sql: &str, values: &[Value<'_>]) -> Result<u64, StoreError> {
        let statement = self.statement(sql)?;
        self.timed(self.client.execute(&statement, values))
    }

    /// Statements without parameters, parted by semicolons.
    pub(super) fn batch(&self, sql: &str) -> Result<(), StoreError> {
        self.timed(self.client.batch_execute(sql))
    }

    /// Whether the error that came last is one that another try may not meet: two calls were in each
    /// other's way. It asks once.
    pub(super) fn take_again(&self) -> bool {
        self.again.take()
    }

    /// Does something in a transaction that begins so, and ends it: kept when the work succeeds.
    pub(super) fn transaction<T>(
        &self,
        begin: &str,
        work: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.within.set(true);
        self.batch(begin)?;
        match work() {
            Ok(done) => {
                self.batch("COMMIT")?;
                self.within.set(false);
                Ok(done)
            }
            Err(error) => {
                let again = self.again.get();
                if self.batch("ROLLBACK").is_ok() {
                    self.within.set(false);
                }
                self.again.set(again);
                Err(error)
            }
        }
    }

    /// The same, where it matters to know what became of it when the answer to the commit is lost.
    pub(super) fn numbered_transaction<T>(
        &self,
        work: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<Ended<T>, StoreError> {
        self.within.set(true);
        let begun = self.timed(self.client.simple_query("BEGIN; SELECT txid_current()::text"))?;
        let number = begun.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        });
        let made = match work() {
            Ok(made) => made,
            Err(error) => {
                let again = self.again.get();
                if self.batch("ROLLBACK").is_ok() {
                    self.within.set(false);
                }
                self.again.set(again);
                return Err(error);
            }
        };
        match (self.batch("COMMIT"), number) {
            (Ok(()), _) => {
                self.within.set(false);
                Ok(Ended::Kept(made))
            }
            (Err(error @ StoreError::Unavailable(_)), Some(number)) if !self.again.get() => {
                Ok(Ended::Unknown { number, made, error })
            }
            (Err(error), _) => Err(error),
        }
    }

    /// Whether it is as it was when it was opened.
    fn is_usable(&self) -> bool {
        !self.broken.get() && !self.within.get() && !self.client.is_closed()
    }
}

/// How a transaction ended that was to be kept.
pub(super) enum Ended<T> {
    /// It is on the database's disk.
    Kept(T),
    /// The commit was sent and not answered.
    Unknown {
        /// By which the database knows it.
        number: String,
        /// What it made, if it was kept.
        made: T,
        /// Why there is no answer.
        error: StoreError,
    },
}

/// A column, by its place.
pub(super) fn get<'a, T: FromSql<'a>>(row: &'a Row, at: usize) -> Result<T, StoreError> {
    Ok(row.try_get(at)?)
}

/// A column of numbers that are not negative.
pub(super) fn number(row: &Row, at: usize) -> Result<u64, StoreError> {
    Ok(get::<i64>(row, at)?.cast_unsigned())
}

/// A column of numbers of 32 bits.
pub(super) fn short(row: &Row, at: usize) -> Result<u32, StoreError> {
    u32::try_from(get::<i64>(row, at)?)
        .map_err(|_| StoreError::Medium("a number in the database is out of its range".into()))
}

impl From<tokio_postgres::Error> for StoreError {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.code() {
            Some(code) if *code == SqlState::DISK_FULL => Self::NoSpace,
            // It stops, it starts, it is full of connections, it stands by, or it took too long.
            Some(code)
                if ["08", "57", "53", "55", "40"].contains(&&code.code()[..2])
                    || *code == SqlState::READ_ONLY_SQL_TRANSACTION =>
            {
                Self::Unavailable(format!("database: {}", told(&error)))
            }
            Some(_) => Self::Medium(format!("database: {}", told(&error))),
            None if error.is_closed() => Self::Unavailable("the database is gone".into()),
            None if has_io(&error) => Self::Unavailable(format!("database: {}", told(&error))),
            None => Self::Medium(format!("database: {}", told(&error))),
        }
    }
}

/// Whether it is the way to the database that failed.
fn has_io(error: &tokio_postgres::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(one) = cause {
        if one.is::<std::io::Error>() {
            return true;
        }
        cause = one.source();
    }
    false
}

/// An error with its causes.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(one) = cause {
        text = format!("{text}: {one}");
        cause = one.source();
    }
    text
}

/// The connections of this node.
pub(super) struct Pool {
    io: Arc<Io>,
    config: Config,
    schema: String,
    max: usize,
    state: Mutex<State>,
    returned: Condvar,
}

#[derive(Default)]
struct State {
    idle: Vec<Db>,
    open: usize,
}

impl Pool {
    pub(super) fn new(io: Arc<Io>, config: Config, schema: String, max: usize) -> Self {
        let (state, returned) = (Mutex::default(), Condvar::new());
        Self { io, config, schema, max: max.max(1), state, returned }
    }

    /// A connection of its own, in no pool, with what else it has to say.
    pub(super) fn connect(
        &self,
        mut heard: impl FnMut(tokio_postgres::AsyncMessage) + Send + 'static,
    ) -> Result<Db, StoreError> {
        let mut config = self.config.clone();
        // A database that vanished without a word is given up on.
        config.connect_timeout(CONNECT_TIME_MAX).tcp_user_timeout(STATEMENT_TIME_MAX);
        config.keepalives_idle(Duration::from_secs(5)).keepalives_interval(Duration::from_secs(5));
        let (answer, answered) = std::sync::mpsc::sync_channel(1);
        self.io.spawn(async move {
            let connected = tokio::time::timeout(CONNECT_TIME_MAX, config.connect(NoTls)).await;
            let (client, mut connection) = match connected {
                Ok(Ok(connected)) => connected,
                Ok(Err(error)) => {
                    // What is no answer of the database is that it cannot be reached.
                    let error = match error.code() {
                        Some(_) => error.into(),
                        None => StoreError::Unavailable(format!("database: {}", told(&error))),
                    };
                    return answer.send(Err(error)).unwrap_or_default();
                }
                Err(_) => {
                    let silent = StoreError::Unavailable("the database does not answer".into());
                    return answer.send(Err(silent)).unwrap_or_default();
                }
            };
            if answer.send(Ok(client)).is_err() {
                return;
            }
            while let Some(message) =
                std::future::poll_fn(|context| connection.poll_message(context)).await
            {
                match message {
                    Ok(message) => heard(message),
                    Err(error) => {
                        tracing::debug!(%error, "a connection to the database ended");
                        return;
                    }
                }
            }
        });
        let client = answered
            .recv_timeout(CONNECT_TIME_MAX * 2)
            .map_err(|_| StoreError::Unavailable("the database does not answer".into()))??;
        let db = Db {
            client,
            statements: RefCell::default(),
            broken: Cell::new(false),
            again: Cell::new(false),
            within: Cell::new(false),
        };
        db.batch(&format!("{BEGINNING} SET search_path = \"{}\"", self.schema))?;
        Ok(db)
    }

    /// Does something with a connection of the pool.
    pub(super) fn with<T>(
        &self,
        work: impl FnOnce(&Db) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut lent = Lent { pool: self, db: self.take()? };
        if lent.db.is_none() {
            lent.db = Some(self.connect(|_| ())?);
        }
        match &lent.db {
            Some(db) => work(db),
            None => Err(StoreError::Unavailable("no connection".into())),
        }
    }

    /// One that is idle, or the right to open another.
    fn take(&self) -> Result<Option<Db>, StoreError> {
        let until = Instant::now() + TURN_TIME_MAX;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            while let Some(db) = state.idle.pop() {
                if db.is_usable() {
                    return Ok(Some(db));
                }
                state.open -= 1;
            }
            if state.open < self.max {
                state.open += 1;
                return Ok(None);
            }
            let Some(left) = until.checked_duration_since(Instant::now()) else {
                return Err(StoreError::Unavailable("all connections are busy".into()));
            };
            let waited = self.returned.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// A connection that goes back, however its call ends.
struct Lent<'a> {
    pool: &'a Pool,
    db: Option<Db>,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let mut state = self.pool.state.lock().unwrap_or_else(PoisonError::into_inner);
        match self.db.take() {
            Some(db) if db.is_usable() => state.idle.push(db),
            _ => state.open -= 1,
        }
        self.pool.returned.notify_one();
    }
}
