//! The index of providers as a directory: LDAP over TLS, read into LDIF (RFC 4511, RFC 2849).
//!
//! The codec and the search are `ldap3`'s; the connection is ours, so that it believes the same
//! authorities as all else, and so that a server can send no more than an index may have.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use hyper::Uri;
use ldap3::adapters::{Adapter, EntriesOnly, PagedResults};
use ldap3::{LdapConnAsync, LdapConnSettings, Scope, SearchEntry, StdStream};
use pec::providers::{Entry, LDIF_OCTETS_MAX, write_ldif};
use rustls_pki_types::ServerName;
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;

use crate::fetch::{self, Networks, system_resolver};

/// Entries of a page.
const PAGE: i32 = 200;
/// Where the index begins when the URL does not say (PEC-IDX-02).
const BASE: &str = "o=postacert";
/// Providers, and the entry that they are below.
const FILTER: &str = "(|(objectClass=provider)(objectClass=LDIFLocationURLObject))";

/// All entries of the index below the name in the URL, as LDIF.
///
/// # Errors
///
/// When the directory cannot be reached, or does not give all of it in time.
pub(super) async fn entries(
    url: &str,
    tls: Arc<rustls::ClientConfig>,
    wait: Duration,
) -> anyhow::Result<Vec<u8>> {
    match tokio::time::timeout(wait, search(url, tls)).await {
        Ok(found) => found,
        Err(_) => bail!("it takes too long"),
    }
}

async fn search(url: &str, tls: Arc<rustls::ClientConfig>) -> anyhow::Result<Vec<u8>> {
    let uri: Uri = url.parse().context("it is no URL")?;
    let host = uri.host().context("it names no host")?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = uri.port_u16().unwrap_or(636);
    let base = match uri.path().trim_matches('/') {
        "" => BASE,
        other => other,
    };
    let stream = fetch::connect(&system_resolver(), Networks::Any, &host, port, url).await?;
    let name = ServerName::try_from(host)?;
    let stream = tokio_rustls::TlsConnector::from(tls).connect(name, stream).await?;

    // `ldap3` speaks to one end of a pair of sockets; what the other end hears goes through TLS.
    let (theirs, ours) = std::os::unix::net::UnixStream::pair()?;
    theirs.set_nonblocking(true)?;
    ours.set_nonblocking(true)?;
    let bridge = tokio::spawn(carry(UnixStream::from_std(ours)?, stream));
    let settings = LdapConnSettings::new().set_std_stream(StdStream::Unix(theirs));
    let (connection, mut ldap) = LdapConnAsync::with_settings(settings, "ldapi:///").await?;
    let driver = tokio::spawn(connection.drive());
    let found = read_all(&mut ldap, base).await;
    // The answer is there: how the connection ends is no matter.
    let _ = ldap.unbind().await;
    driver.abort();
    bridge.abort();
    found
}

/// Carries octets both ways until one side ends: never more than an index may have from there.
async fn carry<S>(near: UnixStream, far: S)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let (mut near_read, mut near_write) = near.into_split();
    let (far_read, mut far_write) = tokio::io::split(far);
    // Names and lengths of LDAP are less than those of LDIF, and base64 has a third more.
    let mut far_read = far_read.take(LDIF_OCTETS_MAX as u64);
    // An end, or an error: the search on the other side hears of either as the end.
    tokio::select! {
        _ = tokio::io::copy(&mut near_read, &mut far_write) => {}
        _ = tokio::io::copy(&mut far_read, &mut near_write) => {}
    }
}

async fn read_all(ldap: &mut ldap3::Ldap, base: &str) -> anyhow::Result<Vec<u8>> {
    let adapters: Vec<Box<dyn Adapter<'_, &str, Vec<&str>>>> =
        vec![Box::new(EntriesOnly::new()), Box::new(PagedResults::new(PAGE))];
    let attributes = vec!["*", "providerCertificate;binary"];
    let mut search =
        ldap.streaming_search_with(adapters, base, Scope::Subtree, FILTER, attributes).await?;
    let mut entries = Vec::new();
    while let Some(found) = search.next().await? {
        entries.push(entry(SearchEntry::construct(found)));
    }
    search.finish().await.success()?;
    Ok(write_ldif(&entries).into_bytes())
}

/// Every value that came, under its name.
fn entry(found: SearchEntry) -> Entry {
    let mut entry = Entry::new(&found.dn);
    let mut attributes: Vec<(String, Vec<u8>)> = Vec::new();
    for (name, values) in found.attrs {
        attributes.extend(values.into_iter().map(|value| (name.clone(), value.into_bytes())));
    }
    for (name, values) in found.bin_attrs {
        attributes.extend(values.into_iter().map(|value| (name.clone(), value)));
    }
    // In an order that does not change from one fetch to the next.
    attributes.sort();
    for (name, value) in &attributes {
        entry.push(name, value);
    }
    entry
}
