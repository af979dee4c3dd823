//! Octets in a bucket of S3, an object for each message.
//!
//! An object is written once, under a name that no other ever had, and never changed. The bucket
//! answers only when it is durable.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, SystemTime};

use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{
    ClientOptions, Error, ObjectStore as _, ObjectStoreExt as _, PutMode, PutOptions, RetryConfig,
};

use super::connection::Io;
use super::octets::{self, Medium, OWNER, OWNER_OCTETS_MAX, Place};
use crate::StoreError;

/// How long one request may take.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(30);
/// How long a call waits for the bucket, with all that is tried again.
const CALL_TIME_MAX: Duration = Duration::from_secs(60);
/// How often a request is tried again.
const RETRIES_MAX: usize = 3;
/// Objects that are told at a time.
const OLD_AT_ONCE: usize = 1000;

/// Where the bucket is, and what opens it.
#[derive(Clone)]
pub struct Bucket {
    /// Of the service: `https://...`; `http://` only where nobody listens.
    pub endpoint: String,
    /// Its region, as requests are signed for it.
    pub region: String,
    /// Its name.
    pub name: String,
    /// What all names of objects begin with.
    pub prefix: String,
    /// The public half of the key.
    pub key_id: String,
    /// The other half.
    pub secret: String,
}

impl std::fmt::Debug for Bucket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bucket({} at {})", self.name, self.endpoint)
    }
}

/// A bucket.
pub(super) struct S3 {
    io: Arc<Io>,
    bucket: Arc<AmazonS3>,
    prefix: String,
    node: u64,
    next: AtomicU64,
    /// Beyond which no transaction names an object that did not.
    quiet: Duration,
}

impl S3 {
    pub(super) fn open(
        bucket: &Bucket,
        node: u64,
        quiet: Duration,
        io: Arc<Io>,
    ) -> Result<Self, StoreError> {
        let options = ClientOptions::new()
            .with_allow_http(bucket.endpoint.starts_with("http://"))
            .with_timeout(REQUEST_TIME_MAX)
            .with_connect_timeout(Duration::from_secs(5));
        let retry = RetryConfig {
            max_retries: RETRIES_MAX,
            retry_timeout: CALL_TIME_MAX / 2,
            ..RetryConfig::default()
        };
        let built = AmazonS3Builder::new()
            .with_client_options(options)
            .with_endpoint(&bucket.endpoint)
            .with_region(&bucket.region)
            .with_bucket_name(&bucket.name)
            .with_access_key_id(&bucket.key_id)
            .with_secret_access_key(&bucket.secret)
            .with_retry(retry)
            .build()
            .map_err(|error| StoreError::Medium(format!("the bucket: {error}")))?;
        let prefix = bucket.prefix.clone();
        Ok(Self { io, bucket: Arc::new(built), prefix, node, next: AtomicU64::new(0), quiet })
    }

    /// A name that no object ever had, with what begins it spread evenly.
    fn name(&self) -> String {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut name = blake3::Hasher::new();
        for part in [self.node, self.next.fetch_add(1, Ordering::Relaxed)] {
            name.update(&part.to_le_bytes());
        }
        name.update(&now.as_nanos().to_le_bytes()).update(&std::process::id().to_le_bytes());
        let name = name.finalize().to_hex();
        format!("{}/{}", &name[..2], &name[2..40])
    }

    /// Where all objects are.
    fn whole(&self) -> Option<Path> {
        let prefix = self.prefix.trim_end_matches('/');
        (!prefix.is_empty()).then(|| Path::from(prefix))
    }

    fn path(&self, object: &str) -> Path {
        Path::from(format!("{}{object}", self.prefix))
    }

    /// Has the runtime do something with the bucket, and waits for it.
    fn ask<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<Result<T, Error>, StoreError> {
        let (answer, answered) = sync_channel(1);
        self.io.spawn(async move {
            let done = tokio::time::timeout(CALL_TIME_MAX, work).await;
            answer.send(done).unwrap_or_default();
        });
        let silent = || StoreError::Unavailable("the bucket does not answer".into());
        answered.recv().map_err(|_| silent())?.map_err(|_| silent())
    }
}

/// Whether an object can be one of ours, as [`S3::name`] names them.
fn is_name(object: String) -> bool {
    let parts = object.split_once('/');
    parts.is_some_and(|(begin, rest)| {
        let is_hex = |text: &str| text.bytes().all(|b| b.is_ascii_hexdigit());
        (begin.len(), rest.len()) == (2, 38) && is_hex(begin) && is_hex(rest)
    })
}

fn said(error: &Error) -> String {
    format!("the bucket: {error}")
}

/// What is told of an object that cannot be read.
fn read_error(error: Error) -> StoreError {
    match error {
        Error::NotFound { .. } => StoreError::NoSuchMessage,
        error => StoreError::Unavailable(said(&error)),
    }
}

impl Medium for S3 {
    fn put(&self, octets: Vec<Arc<[u8]>>) -> Result<Vec<Place>, StoreError> {
        let names: Vec<String> = octets.iter().map(|_| self.name()).collect();
        let puts = names.iter().zip(octets).map(|(name, octets)| {
            let (bucket, path) = (Arc::clone(&self.bucket), self.path(name));
            async move {
                let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
                match bucket.put_opts(&path, octets.to_vec().into(), options).await {
                    // A first try was done and its answer lost: nobody else has the name.
                    Err(Error::AlreadyExists { .. }) => Ok(()),
                    put => put.map(drop),
                }
            }
        });
        let puts: Vec<_> = puts.collect();
        self.ask(async move {
            let running: Vec<_> = puts.into_iter().map(tokio::spawn).collect();
            for one in running {
                one.await.map_err(|source| Error::JoinError { source })??;
            }
            Ok(())
        })?
        .map_err(|error| StoreError::Unavailable(said(&error)))?;
        Ok(names.into_iter().map(|object| Place { object, start: 0 }).collect())
    }

    fn read(&self, object: &str, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        let (bucket, path) = (Arc::clone(&self.bucket), self.path(object));
        let read = self.ask(async move { bucket.get_range(&path, range).await })?;
        read.map(|octets| octets.to_vec()).map_err(read_error)
    }

    fn is_over(&self, _object: &str) -> Result<bool, StoreError> {
        // An object is written once.
        Ok(true)
    }

    fn remove(&self, object: &str) -> Result<u64, StoreError> {
        let (bucket, path) = (Arc::clone(&self.bucket), self.path(object));
        let removed = self.ask(async move {
            let octets = match bucket.head(&path).await {
                Err(Error::NotFound { .. }) => return Ok(0),
                head => head?.size,
            };
            bucket.delete(&path).await.map(|()| octets)
        })?;
        removed.map_err(read_error)
    }

    fn owner(&self) -> Result<Option<String>, StoreError> {
        use futures_util::StreamExt as _;
        let (bucket, path) = (Arc::clone(&self.bucket), self.path(OWNER));
        // A bucket that is not there answers as an object that is not: only a list tells.
        let whole = self.whole();
        let found = self.ask(async move {
            if let Some(object) = bucket.list(whole.as_ref()).next().await {
                object?;
            }
            match bucket.get_range(&path, 0..OWNER_OCTETS_MAX).await {
                Err(Error::NotFound { .. }) => Ok(None),
                found => found.map(Some),
            }
        })?;
        let found = found.map_err(|error| StoreError::Unavailable(said(&error)))?;
        found.map(|octets| octets::owner(octets.to_vec())).transpose()
    }

    fn give_to(&self, store: &str) -> Result<(), StoreError> {
        let (bucket, path) = (Arc::clone(&self.bucket), self.path(OWNER));
        let name = store.to_owned();
        let given = self.ask(async move {
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            match bucket.put_opts(&path, name.into(), options).await {
                Err(Error::AlreadyExists { .. }) => Ok(()),
                put => put.map(drop),
            }
        })?;
        given.map_err(|error| StoreError::Unavailable(said(&error)))
    }

    fn old(&self, after: Option<&str>) -> Result<(Vec<String>, Option<String>), StoreError> {
        use futures_util::StreamExt as _;
        let bucket = Arc::clone(&self.bucket);
        let from = after.map(|after| self.path(after));
        let whole = self.whole();
        let found = self.ask(async move {
            let mut listed = match &from {
                Some(from) => bucket.list_with_offset(whole.as_ref(), from),
                None => bucket.list(whole.as_ref()),
            };
            let mut found = Vec::new();
            while found.len() < OLD_AT_ONCE
                && let Some(object) = listed.next().await
            {
                found.push(object?);
            }
            Ok(found)
        })?;
        let found = found.map_err(read_error)?;
        let name = |path: &Path| path.as_ref().strip_prefix(&self.prefix).map(str::to_owned);
        let last = found.last().and_then(|object| name(&object.location));
        let now = SystemTime::now();
        // What else is in the bucket is somebody else's.
        let ours = found.into_iter().filter(|object| name(&object.location).is_some_and(is_name));
        let old = ours.filter(|object| {
            let written: SystemTime = object.last_modified.into();
            now.duration_since(written).is_ok_and(|since| since > self.quiet)
        });
        Ok((old.filter_map(|object| name(&object.location)).collect(), last))
    }
}
