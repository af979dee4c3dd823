//! What clients keep beside a mailbox or an account: entries with a value. RFC 5464 §3.

use std::collections::BTreeMap;

use crate::StoreError;

/// Octets of an entry's name at most.
pub const ENTRY_OCTETS_MAX: usize = 256;
/// Octets of a value at most.
pub const ANNOTATION_OCTETS_MAX: usize = 16 * 1024;
/// Entries of one mailbox, and of an account itself, at most.
pub const ANNOTATIONS_MAX: usize = 100;
/// Octets of all names and values of one account at most: they are in no quota, so they are few.
pub const ANNOTATIONS_OCTETS_MAX: usize = 1024 * 1024;

/// Values by the names of their entries, which are in lower case.
pub type Annotations = BTreeMap<String, Vec<u8>>;

/// Octets of names and values.
pub(crate) fn octets(annotations: &Annotations) -> usize {
    annotations.iter().map(|(entry, value)| entry.len() + value.len()).sum()
}

/// `annotations` with these changed or, for `None`, removed, while all others of the account have
/// `elsewhere` octets; whether anything is other than before.
pub(crate) fn change(
    annotations: &mut Annotations,
    changes: Vec<(String, Option<Vec<u8>>)>,
    elsewhere: usize,
) -> Result<bool, StoreError> {
    let before = annotations.clone();
    for (entry, value) in changes {
        match value {
            Some(value) => annotations.insert(entry, value),
            None => annotations.remove(&entry),
        };
    }
    let too_long = annotations.iter().any(|(entry, value)| {
        entry.len() > ENTRY_OCTETS_MAX || value.len() > ANNOTATION_OCTETS_MAX
    });
    let too_many = annotations.len() > ANNOTATIONS_MAX;
    if too_long || too_many || octets(annotations) + elsewhere > ANNOTATIONS_OCTETS_MAX {
        return Err(StoreError::TooManyAnnotations);
    }
    Ok(*annotations != before)
}
