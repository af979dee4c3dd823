//! `[store]`, where other machines use the same store.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use store::shared;
use toml::de::DeValue;

use super::reader::{Reader, Section, Wrong};
use super::sections::read_path;
use super::values::{read_number, read_text};

/// The schema, where none is named.
const SCHEMA: &str = "ceralacca";
/// Connections of a gateway, where nothing is said: PostgreSQL takes 100 of all together by default.
const CONNECTIONS: u64 = 16;
/// The region that requests are signed for, where none is named.
const REGION: &str = "us-east-1";

/// A store that other machines use too.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SharedStore {
    /// The address of the database, without a password.
    pub(crate) database: String,
    /// The file with the password.
    pub(crate) password: Option<PathBuf>,
    /// The schema in it.
    pub(crate) schema: String,
    /// Connections of this machine to it at most.
    pub(crate) connections: usize,
    /// Where octets are.
    pub(crate) octets: OctetsPlace,
}

impl SharedStore {
    /// The files in which its secrets are.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &PathBuf> {
        let of_bucket = match &self.octets {
            OctetsPlace::Bucket { secret, .. } => Some(secret),
            OctetsPlace::Folder(_) => None,
        };
        self.password.iter().chain(of_bucket)
    }
}

impl fmt::Debug for SharedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedStore({}, {:?})", self.schema, self.octets)
    }
}

/// Where octets are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OctetsPlace {
    /// In a folder that all machines see.
    Folder(PathBuf),
    /// In a bucket.
    Bucket {
        endpoint: String,
        region: String,
        name: String,
        /// Empty, or with a `/` at its end.
        prefix: String,
        key_id: String,
        /// The file with the secret half of the key.
        secret: PathBuf,
    },
}

/// Reads what `[store]` says of a store that is shared.
pub(super) fn read_store(
    reader: &Reader<'_>,
    section: &mut Section<'_, '_>,
    folder: &Path,
) -> Option<SharedStore> {
    let database = section.get("database", read_database);
    let password = section.get("password", |v| read_path(v, folder));
    let schema = section.get("schema", read_schema);
    let connections = section.get("connections", |v| read_number(v, 2..=1_000));
    let local = section.get("octets", |v| read_path(v, folder));
    let bucket = section.has("s3").then(|| read_bucket(section.section("s3"), folder));
    if !section.has("database") {
        let of_it = ["password", "schema", "connections", "octets", "s3"];
        if let Some(key) = of_it.into_iter().find(|key| section.has(key)) {
            let what = format!("store.{key}: only a shared store has it, and that has a database");
            let suggestion = "add `database = \"host=/run/postgresql user=ceralacca\"`".to_owned();
            reader.complain(section.line_of(key), what, suggestion);
        }
        return None;
    }
    for key in ["key", "earlier_keys", "archive"] {
        if section.has(key) {
            let what = format!("store.{key}: a shared store has none");
            let suggestion = format!("take {key} away, or database");
            reader.complain(section.line_of(key), what, suggestion);
        }
    }
    let octets = match (section.has("octets"), section.has("s3")) {
        (true, false) => local.map(OctetsPlace::Folder),
        (false, true) => bucket.flatten(),
        _ => {
            let what = "store: a shared store has its octets in one place".to_owned();
            let suggestion = "add `octets = \"FOLDER\"`, or [store.s3], and not both".to_owned();
            reader.complain(section.line_of("database"), what, suggestion);
            None
        }
    };
    Some(SharedStore {
        database: database?,
        password,
        schema: schema.unwrap_or_else(|| SCHEMA.into()),
        connections: usize::try_from(connections.unwrap_or(CONNECTIONS)).unwrap_or(usize::MAX),
        octets: octets?,
    })
}

fn read_database(value: &DeValue<'_>) -> Result<String, Wrong> {
    let text = read_text(value)?;
    match shared::check_address(text) {
        Ok(()) => Ok(text.to_owned()),
        Err(what) => Err((
            what,
            "write \"host=/run/postgresql user=ceralacca dbname=ceralacca\"; a password goes into a \
             file, which store.password names"
                .into(),
        )),
    }
}

fn read_schema(value: &DeValue<'_>) -> Result<String, Wrong> {
    let text = read_text(value)?;
    match shared::check_schema(text) {
        Ok(()) => Ok(text.to_owned()),
        Err(what) => Err((what, format!("write \"{SCHEMA}\""))),
    }
}

fn read_bucket(mut section: Section<'_, '_>, folder: &Path) -> Option<OctetsPlace> {
    let example = "endpoint = \"https://s3.eu-south-1.amazonaws.com\"";
    let endpoint = section.require("endpoint", example, read_endpoint);
    let mut text =
        |key, example| section.require(key, example, |v| read_text(v).map(str::to_owned));
    let name = text("bucket", "bucket = \"pec\"");
    let key_id = text("key_id", "key_id = \"AKIA...\"");
    let region = section.get("region", |v| read_text(v).map(str::to_owned));
    let prefix = section.get("prefix", read_prefix);
    let secret = section.require("secret", "secret = \"s3.key\"", |v| read_path(v, folder));
    section.finish();
    Some(OctetsPlace::Bucket {
        endpoint: endpoint?,
        region: region.unwrap_or_else(|| REGION.into()),
        name: name?,
        prefix: prefix.unwrap_or_default(),
        key_id: key_id?,
        secret: secret?,
    })
}

/// Over `https`, or on this machine.
fn read_endpoint(value: &DeValue<'_>) -> Result<String, Wrong> {
    let text = read_text(value)?;
    let is_safe = match text.split_once("://") {
        Some(("https", _)) => true,
        Some(("http", rest)) if !rest.contains('@') => {
            let host = rest.split('/').next().unwrap_or_default();
            // What follows the last colon is the port, unless that colon is of the address.
            let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
            let host = host.trim_start_matches('[').trim_end_matches(']');
            host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
        }
        _ => false,
    };
    if is_safe {
        return Ok(text.to_owned());
    }
    let what = format!("`{text}` is not https, and not of this machine");
    Err((what, "write \"https://...\": messages go there".into()))
}

/// What names of objects begin with, and a `/`.
fn read_prefix(value: &DeValue<'_>) -> Result<String, Wrong> {
    let text = read_text(value)?.trim_end_matches('/');
    let letter = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let is_plain = |part: &str| !part.is_empty() && part.bytes().all(letter);
    match text.split('/').all(is_plain) {
        true => Ok(format!("{text}/")),
        false => Err((
            format!("`{text}` is no prefix"),
            "write letters, digits, `-` and `_`, with `/` between".into(),
        )),
    }
}
