//! The index of providers (*indice dei gestori*): who is in the circuit, with which domains and
//! certificates.
//!
//! PEC-IDX, RT §7.5, RFC 6109 §4.5. Three maps, built at once: domain to record, certificate to
//! records, and in each record its service mailbox. Not here: how the file is fetched, and the
//! signature on it; whether a certificate is valid now (PEC-IDX-12: the index also holds those that
//! are not).

mod ldif;

use std::collections::HashMap;

use mail::{Address, Domain};

pub use ldif::{Entry, LDIF_OCTETS_MAX, LdifError, parse_dn, parse_ldif, write_ldif};

use crate::exchange::RecipientKind;
use crate::reduce::sha1_hex;

/// The root of the index (PEC-IDX-02).
const BASE: &str = "o=postacert";

/// Said of a record without domains: whoever was its user is typed as a user of ordinary mail.
const NO_DOMAINS: &str = "it has no managedDomains: only its certificates are used";

/// One environment of one provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderRecord {
    /// `providerName`
    pub name: String,
    /// `providerUnit`, in secondary environments only (PEC-IDX-03)
    pub unit: Option<String>,
    /// `providerCertificate`, DER; old ones too (PEC-IDX-12)
    pub certificates: Vec<Vec<u8>>,
    /// `mailReceipt`: where its take-charge receipts and virus notices go
    pub mail_receipt: Address,
    /// `managedDomains`
    pub domains: Vec<Domain>,
    /// `LDIFLocationURL`, in main environments only (PEC-IDX-04)
    pub location: Option<String>,
    /// `description`
    pub description: Option<String>,
}

impl ProviderRecord {
    /// Whether it manages a domain: the whole name, no suffix (PEC-AP-19).
    pub fn manages(&self, domain: &Domain) -> bool {
        self.domains.contains(domain)
    }

    /// SHA-1 of each certificate, in upper case as the samples have it.
    pub fn hashes(&self) -> Vec<String> {
        self.certificates.iter().map(|der| certificate_hash(der)).collect()
    }

    /// The distinguished name (PEC-IDX-02).
    pub fn dn(&self) -> String {
        let name = format!("providerName={},{BASE}", ldif::escape_dn(&self.name));
        match &self.unit {
            Some(unit) => format!("providerUnit={},{name}", ldif::escape_dn(unit)),
            None => name,
        }
    }
}

/// The key of a certificate in the index: SHA-1 in hexadecimal, upper case.
pub fn certificate_hash(der: &[u8]) -> String {
    sha1_hex(der).to_ascii_uppercase()
}

/// Why a whole index is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// It is no LDIF.
    #[error(transparent)]
    Ldif(#[from] LdifError),
    /// Two records manage one domain.
    #[error("{0} is managed by `{1}` and by `{2}`")]
    DomainTwice(Domain, String, String),
    /// Two records have one name.
    #[error("there are two records `{0}`")]
    RecordTwice(String),
}

/// Why one record of an index is left out, or what of it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{dn}: {fault}")]
pub struct RecordFault {
    /// Its distinguished name.
    pub dn: String,
    /// What is wrong with it.
    pub fault: &'static str,
}

/// All providers, ready to be asked.
#[derive(Debug, Clone, Default)]
pub struct Index {
    records: Vec<ProviderRecord>,
    location: Option<String>,
    by_domain: HashMap<Domain, usize>,
    by_hash: HashMap<String, Vec<usize>>,
}

impl Index {
    /// Reads an index from LDIF. Records that are wrong in themselves are left out and told of; of one that manages
    /// nothing its certificates stay, since what they signed is looked at for years (PEC-IDX-12).
    ///
    /// # Errors
    ///
    /// An [`IndexError`], when the file cannot be trusted as a whole.
    pub fn from_ldif(octets: &[u8]) -> Result<(Self, Vec<RecordFault>), IndexError> {
        let mut records = Vec::new();
        let mut location = None;
        let mut faults = Vec::new();
        for entry in parse_ldif(octets)? {
            if !entry.is_a("provider") {
                if same_dn(&entry.dn, BASE) {
                    location = entry.text("LDIFLocationURL");
                } else if is_meant_as_provider(&entry) {
                    let fault = "its objectClass is not provider";
                    faults.push(RecordFault { dn: entry.dn, fault });
                }
                continue;
            }
            match record(&entry) {
                Ok(record) => {
                    if record.domains.is_empty() {
                        faults.push(RecordFault { dn: entry.dn, fault: NO_DOMAINS });
                    }
                    records.push(record);
                }
                Err(fault) => faults.push(RecordFault { dn: entry.dn, fault }),
            }
        }
        Ok((Self::new(records, location)?, faults))
    }

    /// An index of these records.
    ///
    /// # Errors
    ///
    /// [`IndexError::DomainTwice`] and [`IndexError::RecordTwice`].
    pub fn new(records: Vec<ProviderRecord>, location: Option<String>) -> Result<Self, IndexError> {
        let mut by_domain: HashMap<Domain, usize> = HashMap::new();
        let mut by_hash: HashMap<String, Vec<usize>> = HashMap::new();
        let mut names = std::collections::HashSet::new();
        for (index, record) in records.iter().enumerate() {
            let dn = record.dn();
            if !names.insert(dn.to_lowercase()) {
                return Err(IndexError::RecordTwice(dn));
            }
            for domain in &record.domains {
                match by_domain.insert(domain.clone(), index) {
                    Some(other) if other != index => {
                        let other: &ProviderRecord = &records[other];
                        return Err(IndexError::DomainTwice(domain.clone(), other.dn(), dn));
                    }
                    _ => {}
                }
            }
            for hash in record.hashes() {
                let holders = by_hash.entry(hash).or_default();
                if holders.last() != Some(&index) {
                    holders.push(index);
                }
            }
        }
        Ok(Self { records, location, by_domain, by_hash })
    }

    /// All records.
    pub fn records(&self) -> &[ProviderRecord] {
        &self.records
    }

    /// Where the whole index is published, when it says so.
    pub fn location(&self) -> Option<&str> {
        self.location.as_deref()
    }

    /// The record that manages a domain.
    pub fn by_domain(&self, domain: &Domain) -> Option<&ProviderRecord> {
        self.by_domain.get(domain).map(|&index| &self.records[index])
    }

    /// Whether a domain is certified or ordinary (PEC-AP-18).
    pub fn kind(&self, domain: &Domain) -> RecipientKind {
        match self.by_domain(domain) {
            Some(_) => RecipientKind::Certified,
            None => RecipientKind::Ordinary,
        }
    }

    /// The records that hold a certificate: found by its hash, then compared octet by octet
    /// (PEC-PR-02). There can be several (PEC-IDX-13).
    pub fn by_certificate(&self, der: &[u8]) -> Vec<&ProviderRecord> {
        let found = self.by_hash.get(&certificate_hash(der)).map_or(&[][..], Vec::as_slice);
        let records = found.iter().map(|&index| &self.records[index]);
        records.filter(|record| record.certificates.iter().any(|c| c == der)).collect()
    }

    /// The index with some records added, or put in the place of those with the same name.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new): then nothing is changed.
    pub fn with(&self, changes: Vec<ProviderRecord>) -> Result<Self, IndexError> {
        let key = |record: &ProviderRecord| record.dn().to_lowercase();
        let changed: std::collections::HashSet<String> = changes.iter().map(key).collect();
        let kept = self.records.iter().filter(|record| !changed.contains(&key(record)));
        let records = kept.cloned().chain(changes).collect();
        Self::new(records, self.location.clone())
    }

    /// The index as LDIF, base entry first.
    pub fn to_ldif(&self) -> String {
        let mut base = Entry::new(BASE);
        for (name, value) in [
            ("objectClass", "top"),
            ("objectClass", "organization"),
            ("objectClass", "LDIFLocationURLObject"),
            ("o", "postacert"),
        ] {
            base.push(name, value.as_bytes());
        }
        if let Some(location) = &self.location {
            base.push("LDIFLocationURL", location.as_bytes());
        }
        let entries: Vec<Entry> =
            std::iter::once(base).chain(self.records.iter().map(entry)).collect();
        write_ldif(&entries)
    }
}

/// Some records as LDIF, without the base entry: what a provider publishes of itself (PEC-IDX-10).
pub fn records_to_ldif(records: &[ProviderRecord]) -> String {
    write_ldif(&records.iter().map(entry).collect::<Vec<_>>())
}

fn entry(record: &ProviderRecord) -> Entry {
    let mut entry = Entry::new(&record.dn());
    entry.push("objectClass", b"top");
    entry.push("objectClass", b"provider");
    entry.push("providerName", record.name.as_bytes());
    if let Some(unit) = &record.unit {
        entry.push("providerUnit", unit.as_bytes());
    }
    for (hash, certificate) in record.hashes().iter().zip(&record.certificates) {
        entry.push("providerCertificateHash", hash.as_bytes());
        entry.push("providerCertificate;binary", certificate);
    }
    entry.push("mailReceipt", record.mail_receipt.to_string().as_bytes());
    if let Some(location) = record.location.as_ref().filter(|_| record.unit.is_none()) {
        entry.push("LDIFLocationURL", location.as_bytes());
    }
    for domain in &record.domains {
        entry.push("managedDomains", domain.as_str().as_bytes());
    }
    if let Some(description) = &record.description {
        entry.push("description", description.as_bytes());
    }
    entry
}

/// Whether an entry of some other class has what only a provider's record has: nobody else would miss
/// it.
fn is_meant_as_provider(entry: &Entry) -> bool {
    let only_theirs = ["providerName", "providerCertificate", "mailReceipt", "managedDomains"];
    only_theirs.iter().any(|name| entry.values(name).next().is_some())
}

/// The record in an entry of class `provider`.
fn record(entry: &Entry) -> Result<ProviderRecord, &'static str> {
    let dn = parse_dn(&entry.dn).ok_or("its name is no distinguished name")?;
    let named = |attribute: &str| {
        let mut named = dn.iter().filter(|(name, _)| name.eq_ignore_ascii_case(attribute));
        named.next().map(|(_, value)| value.clone())
    };
    let (Some(dn_name), Some("postacert")) = (named("providerName"), named("o").as_deref()) else {
        return Err("its name is not providerName=...,o=postacert");
    };
    let name = entry.text("providerName").unwrap_or(dn_name);
    let unit = entry.text("providerUnit");
    if unit.is_some() != named("providerUnit").is_some() {
        return Err("providerUnit is in its name or in the record, and not in both");
    }
    if unit.is_some() && entry.text("LDIFLocationURL").is_some() {
        return Err("a secondary environment has LDIFLocationURL");
    }
    let certificates: Vec<Vec<u8>> = entry.values("providerCertificate").cloned().collect();
    if certificates.is_empty() {
        return Err("it has no providerCertificate");
    }
    // Their order is free: each hash needs its certificate, and each certificate its hash.
    let mut said: Vec<String> = entry
        .values("providerCertificateHash")
        .map(|hash| String::from_utf8_lossy(hash).trim().to_ascii_uppercase())
        .collect();
    let mut computed: Vec<String> = certificates.iter().map(|der| certificate_hash(der)).collect();
    said.sort_unstable();
    said.dedup();
    computed.sort_unstable();
    computed.dedup();
    if said != computed {
        return Err("providerCertificateHash is not the hash of providerCertificate");
    }
    let mail_receipt = entry.text("mailReceipt").and_then(|text| Address::parse(&text).ok());
    let domains: Result<Vec<Domain>, _> = entry
        .values("managedDomains")
        .map(|domain| Domain::parse(String::from_utf8_lossy(domain).trim()))
        .collect();
    let domains = domains.map_err(|_| "one of managedDomains is no domain")?;
    Ok(ProviderRecord {
        name,
        unit,
        certificates,
        mail_receipt: mail_receipt.ok_or("mailReceipt is no address")?,
        domains,
        location: entry.text("LDIFLocationURL"),
        description: entry.text("description"),
    })
}

fn same_dn(a: &str, b: &str) -> bool {
    let lower = |dn: &str| {
        let parts = parse_dn(dn)?;
        Some(parts.into_iter().map(|(n, v)| (n.to_lowercase(), v.to_lowercase())).collect())
    };
    let (a, b): (Option<Vec<(String, String)>>, _) = (lower(a), lower(b));
    a.is_some() && a == b
}

#[cfg(test)]
mod tests;
