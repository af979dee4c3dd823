//! The store's own keys, and what is done with them: encryption at rest.
//!
//! The operator has a *master key*, in a file or in a device. Under it lie, in the table `keys`, the
//! keys that the store makes itself: number 0 for what is in the index, and from 1 on those for
//! pieces. New pieces are encrypted under the one with the highest number; those under an earlier one
//! are readable as long as there are any, and compaction brings them under the newest. Another master
//! key is told with the one before it: what lay under that is put under the new one, and another
//! piece key is begun.
//!
//! ```text
//! number of the key (4, little-endian)  chance (24)  what was encrypted, and its tag of 16 octets
//! ```
//!
//! AES-256-GCM (NIST SP 800-38D) must never see a nonce twice under one key. Here every piece has a
//! key of its own, made by keyed BLAKE3 from the store's key and the 192 bits of chance that lie
//! before it; so the nonce can be a constant, and a crash, a copy of the store or a group that is
//! written over another can repeat nothing. Pieces that are equal are found by a keyed hash: who has
//! not the key can neither see nor guess what is stored, save for lengths, and that two messages
//! have a piece in common.
//!
//! It is for a disk or a copy that falls into other hands. Who can write to the disk of a store that
//! goes on can put an older piece into the place of a newer: that is not prevented here.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::rand;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::disk::Disk;
use super::octets::Hash;
use super::wipe;
use crate::StoreError;

/// Octets of every key here.
pub const KEY_OCTETS: usize = 32;
/// Octets by which encryption makes something longer.
pub(super) const SEALED_MORE_OCTETS: usize = 4 + PASSING_MORE_OCTETS;
/// The same, without the number of the key.
pub(super) const PASSING_MORE_OCTETS: usize = CHANCE_OCTETS + TAG_OCTETS;
const CHANCE_OCTETS: usize = 24;
const TAG_OCTETS: usize = 16;
/// The key for what is in the index; those for pieces come after.
const INDEX_KEY: u32 = 0;
/// The first octet of a digest that is encrypted: no version of a plain one.
const DIGEST_MARK: u8 = 0xe1;
const FOR_HASHES: &str = "ceralacca 2026 store: hashes of pieces";
const FOR_DIGESTS: &str = "ceralacca 2026 store: digests";
const FOR_PIECES: &str = "ceralacca 2026 store: pieces";
const FOR_WRAPPING: &str = "ceralacca 2026 store: keys under a key in a file";
const FOR_NAMES: &str = "ceralacca 2026 store: name of a key in a file";

pub(super) const TABLES: &str = "
-- The store's keys, each under the master key of this name. No row: nothing is encrypted.
CREATE TABLE IF NOT EXISTS keys (
    id INTEGER PRIMARY KEY, under TEXT NOT NULL, wrapped BLOB NOT NULL);
-- Under which key the records of a segment are; not there: in clear.
CREATE TABLE IF NOT EXISTS segment_keys (segment INTEGER PRIMARY KEY, key INTEGER NOT NULL);
CREATE TRIGGER IF NOT EXISTS segments_gone AFTER DELETE ON segments
    BEGIN DELETE FROM segment_keys WHERE segment = old.id; END;
";

/// 32 octets that are secret: no text shows them.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretKey(pub [u8; KEY_OCTETS]);

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

impl SecretKey {
    /// A new one, by chance.
    fn random() -> Result<Self, StoreError> {
        Ok(Self(chance()?))
    }

    fn derive(&self, purpose: &str) -> Self {
        Self(blake3::derive_key(purpose, &self.0))
    }
}

/// A key of the operator's, under which the store's keys are kept.
pub trait MasterKey: Send + Sync {
    /// What tells it from other master keys: it is kept beside what lies under the key, and shown.
    fn name(&self) -> String;
    /// Puts a key under it.
    ///
    /// # Errors
    ///
    /// A sentence that says why it cannot be done.
    fn conceal(&self, key: &SecretKey) -> Result<Vec<u8>, String>;
    /// Takes a key out from under it.
    ///
    /// # Errors
    ///
    /// A sentence that says why it cannot be done: also when it lies under another key.
    fn reveal(&self, concealed: &[u8]) -> Result<SecretKey, String>;
}

/// A master key whose octets are known: one in a file.
#[derive(Debug)]
pub struct KnownKey {
    name: String,
    wrapping: SecretKey,
}

impl KnownKey {
    /// The key of these octets. Its name has half of their hash: enough to tell a file from another.
    pub fn new(key: &SecretKey) -> Self {
        let name: String =
            key.derive(FOR_NAMES).0[..8].iter().map(|octet| format!("{octet:02x}")).collect();
        Self { name: format!("file {name}"), wrapping: key.derive(FOR_WRAPPING) }
    }
}

impl MasterKey for KnownKey {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn conceal(&self, key: &SecretKey) -> Result<Vec<u8>, String> {
        let mut sealed = Vec::new();
        seal(&self.wrapping, &key.0, &mut sealed).map_err(|error| error.to_string())?;
        Ok(sealed)
    }

    fn reveal(&self, concealed: &[u8]) -> Result<SecretKey, String> {
        let octets = open(&self.wrapping, concealed).ok_or("it lies under another key")?;
        octets.try_into().map(SecretKey).map_err(|_| "it is no key".to_owned())
    }
}

/// The master keys that the configuration names: none, and the store is not encrypted.
#[derive(Clone, Default)]
pub struct MasterKeys {
    /// The one in use.
    pub current: Option<Arc<dyn MasterKey>>,
    /// Those before it, as long as something lies under them.
    pub earlier: Vec<Arc<dyn MasterKey>>,
}

impl std::fmt::Debug for MasterKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.all().map(MasterKey::name)).finish()
    }
}

impl MasterKeys {
    fn all(&self) -> impl Iterator<Item = &dyn MasterKey> {
        self.current.iter().chain(&self.earlier).map(|key| &**key)
    }
}

/// The store's keys, taken out from under the master key. None: nothing is encrypted.
#[derive(Default)]
pub(super) struct Keys {
    index: Option<IndexKeys>,
    pieces: BTreeMap<u32, SecretKey>,
}

/// What is made of the key for the index.
struct IndexKeys {
    hashes: [u8; KEY_OCTETS],
    digests: SecretKey,
}

/// A row of the table.
struct Row {
    id: u32,
    under: String,
    wrapped: Vec<u8>,
}

fn rows(db: &Connection) -> Result<Vec<Row>, StoreError> {
    let mut get = db.prepare("SELECT id, under, wrapped FROM keys ORDER BY id")?;
    let rows = get.query_map([], |row| {
        Ok(Row { id: row.get(0)?, under: row.get(1)?, wrapped: row.get(2)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The store's keys by their numbers, as they lie under the master keys.
fn revealed(rows: &[Row], masters: &MasterKeys) -> Result<BTreeMap<u32, SecretKey>, StoreError> {
    let reveal = |row: &Row| {
        let Some(master) = masters.all().find(|master| master.name() == row.under) else {
            return Err(unknown(&row.under, masters));
        };
        let key = master.reveal(&row.wrapped).map_err(|why| {
            let under = &row.under;
            StoreError::Medium(format!("the store's key {} under the key {under}: {why}", row.id))
        })?;
        Ok((row.id, key))
    };
    rows.iter().map(reveal).collect()
}

/// A sentence for who starts a store without its master key.
fn unknown(under: &str, masters: &MasterKeys) -> StoreError {
    let named: Vec<String> = masters.all().map(|master| format!("`{}`", master.name())).collect();
    let instead = match &named[..] {
        [] => "the configuration names none".to_owned(),
        named => format!("the configuration names {}", named.join(", ")),
    };
    StoreError::Medium(format!(
        "the store is encrypted under the key `{under}`, and {instead}: name that key as store.key, \
         or in store.earlier_keys when another has taken its place"
    ))
}

impl Keys {
    /// The keys of a store that is only looked at.
    pub(super) fn view(db: &Connection, masters: &MasterKeys) -> Result<Self, StoreError> {
        Ok(Self::of(&revealed(&rows(db)?, masters)?))
    }

    /// The keys of a store that is opened. The first are made now; and where the master key is
    /// another than it was, all are put under it and the next piece key is begun.
    pub(super) fn open(
        db: &Connection,
        masters: &MasterKeys,
        disk: &dyn Disk,
    ) -> Result<Self, StoreError> {
        forget_unused(db)?;
        let rows = rows(db)?;
        let mut all = revealed(&rows, masters)?;
        let Some(master) = &masters.current else {
            return match rows.first() {
                None => Ok(Self::default()),
                Some(row) => Err(unknown(&row.under, &MasterKeys::default())),
            };
        };
        wipe::overwrite_deleted(db)?;
        if rows.is_empty() || rows.iter().any(|row| row.under != master.name()) {
            let next = rows.last().map_or(INDEX_KEY, |row| row.id) + 1;
            all.insert(next, SecretKey::random()?);
            if rows.is_empty() {
                all.insert(INDEX_KEY, SecretKey::random()?);
            }
            db.execute_batch("BEGIN IMMEDIATE")?;
            let kept = keep(db, &**master, &all, rows.is_empty());
            if kept.is_err() && !db.is_autocommit() {
                db.execute_batch("ROLLBACK")?;
            }
            kept?;
            tracing::info!(under = master.name(), key = next, "the store has a new key");
        }
        wipe::wipe(db, disk)?;
        Ok(Self::of(&all))
    }

    fn of(all: &BTreeMap<u32, SecretKey>) -> Self {
        let index = all.get(&INDEX_KEY).map(|key| IndexKeys {
            hashes: key.derive(FOR_HASHES).0,
            digests: key.derive(FOR_DIGESTS),
        });
        let pieces = all.iter().filter(|(id, _)| **id != INDEX_KEY);
        Self { index, pieces: pieces.map(|(id, key)| (*id, key.derive(FOR_PIECES))).collect() }
    }

    /// Whether what is new is encrypted.
    pub(super) fn encrypt(&self) -> bool {
        self.index.is_some()
    }

    /// The number of the key that new pieces are under; 0 when they are in clear.
    pub(super) fn current(&self) -> u32 {
        self.pieces.last_key_value().map_or(0, |(id, _)| *id)
    }

    /// Notes in the index that the records of a segment are under the newest key.
    pub(super) fn note_segment(&self, db: &Connection, segment: u64) -> Result<(), StoreError> {
        if self.encrypt() {
            let note = "INSERT OR IGNORE INTO segment_keys VALUES (?, ?)";
            db.prepare_cached(note)?.execute((segment.cast_signed(), self.current()))?;
        }
        Ok(())
    }

    /// Whether the records of a segment are under the newest key, or in clear where there is none.
    pub(super) fn fits(&self, db: &Connection, segment: u64) -> Result<bool, StoreError> {
        let get = "SELECT key FROM segment_keys WHERE segment = ?";
        let key = db.query_row(get, [segment.cast_signed()], |row| row.get::<_, u32>(0));
        Ok(key.optional()?.unwrap_or(0) == self.current())
    }

    /// What a piece is known by.
    pub(super) fn hash(&self, piece: &[u8]) -> Hash {
        *self.hasher().update(piece).finalize().as_bytes()
    }

    /// The same, of octets that come bit by bit.
    pub(super) fn hasher(&self) -> blake3::Hasher {
        match &self.index {
            Some(keys) => blake3::Hasher::new_keyed(&keys.hashes),
            None => blake3::Hasher::new(),
        }
    }

    /// Encrypts a piece under the newest key; nothing when pieces are in clear.
    pub(super) fn seal_piece(&self, piece: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let Some((id, key)) = self.pieces.last_key_value() else { return Ok(None) };
        let mut sealed = Vec::with_capacity(piece.len() + SEALED_MORE_OCTETS);
        sealed.extend_from_slice(&id.to_le_bytes());
        seal(key, piece, &mut sealed)?;
        Ok(Some(sealed))
    }

    /// Whether a piece is under the newest key.
    pub(super) fn is_newest(&self, sealed: &[u8]) -> bool {
        sealed.starts_with(&self.current().to_le_bytes())
    }

    /// What a piece was before it was encrypted.
    pub(super) fn open_piece(&self, sealed: &[u8]) -> Result<Vec<u8>, StoreError> {
        let Some((id, sealed)) = sealed.split_first_chunk() else { return Err(damaged()) };
        let id = u32::from_le_bytes(*id);
        let key = self.pieces.get(&id).ok_or_else(|| {
            StoreError::Medium(format!("a piece is under key {id}, which the store has not"))
        })?;
        open(key, sealed).ok_or_else(damaged)
    }

    /// A digest as it is kept.
    pub(super) fn seal_digest(&self, digest: Vec<u8>) -> Result<Vec<u8>, StoreError> {
        let Some(keys) = &self.index else { return Ok(digest) };
        let mut sealed = Vec::with_capacity(1 + digest.len() + SEALED_MORE_OCTETS);
        sealed.push(DIGEST_MARK);
        seal(&keys.digests, &digest, &mut sealed)?;
        Ok(sealed)
    }

    /// A digest that was kept; nothing when it cannot be read: then it is made again.
    pub(super) fn open_digest(&self, kept: Vec<u8>) -> Option<Vec<u8>> {
        match &self.index {
            None => Some(kept),
            Some(keys) => open(&keys.digests, kept.strip_prefix(&[DIGEST_MARK])?),
        }
    }
}

/// Puts keys under a master key, in the transaction that is open, and ends it.
fn keep(
    db: &Connection,
    master: &dyn MasterKey,
    all: &BTreeMap<u32, SecretKey>,
    first: bool,
) -> Result<(), StoreError> {
    let failed = |why: &str| {
        let name = master.name();
        StoreError::Medium(format!("the store's keys cannot be put under the key {name}: {why}"))
    };
    for (id, key) in all {
        let wrapped = master.conceal(key).map_err(|why| failed(&why))?;
        // What could not be had again would be lost.
        if master.reveal(&wrapped).map_err(|why| failed(&why))? != *key {
            return Err(failed("it gives another back"));
        }
        let put = "INSERT OR REPLACE INTO keys (id, under, wrapped) VALUES (?, ?, ?)";
        db.execute(put, params![id, master.name(), wrapped])?;
    }
    if first {
        // They tell what is in messages, and are made again.
        db.execute("DELETE FROM digests", [])?;
        wipe::note(db)?;
    }
    Ok(db.execute_batch("COMMIT")?)
}

/// Forgets piece keys that nothing is under any more.
fn forget_unused(db: &Connection) -> Result<(), StoreError> {
    let unused = "DELETE FROM keys WHERE id > 0 AND id < (SELECT max(id) FROM keys)
                  AND id NOT IN (SELECT key FROM segment_keys)";
    db.execute(unused, [])?;
    Ok(())
}

pub(super) fn chance<const N: usize>() -> Result<[u8; N], StoreError> {
    let mut octets = [0; N];
    rand::fill(&mut octets).map_err(|_| StoreError::Medium("there is no chance".into()))?;
    Ok(octets)
}

/// The key of one piece, which no other is encrypted under.
fn once(key: &SecretKey, chance: &[u8; CHANCE_OCTETS]) -> Option<LessSafeKey> {
    let once = blake3::keyed_hash(&key.0, chance);
    Some(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, once.as_bytes()).ok()?))
}

fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

/// Encrypts `octets` to the end of `sealed`.
fn seal(key: &SecretKey, octets: &[u8], sealed: &mut Vec<u8>) -> Result<(), StoreError> {
    let failed = || StoreError::Medium("octets could not be encrypted".into());
    let chance = chance()?;
    let key = once(key, &chance).ok_or_else(failed)?;
    sealed.extend_from_slice(&chance);
    let from = sealed.len();
    sealed.extend_from_slice(octets);
    let tag = key
        .seal_in_place_separate_tag(nonce(), Aad::empty(), &mut sealed[from..])
        .map_err(|_| failed())?;
    sealed.extend_from_slice(tag.as_ref());
    Ok(())
}

/// What was encrypted; nothing when it was not, or not under this key.
fn open(key: &SecretKey, sealed: &[u8]) -> Option<Vec<u8>> {
    let (chance, rest) = sealed.split_first_chunk()?;
    let mut octets = rest.to_vec();
    let length = once(key, chance)?.open_in_place(nonce(), Aad::empty(), &mut octets).ok()?.len();
    octets.truncate(length);
    Some(octets)
}

fn damaged() -> StoreError {
    StoreError::Medium("a stored piece cannot be decrypted".into())
}

/// A key that lives as long as the program: for what is on disk only that long.
pub(super) struct PassingKey(SecretKey);

impl PassingKey {
    pub(super) fn new() -> Result<Self, StoreError> {
        SecretKey::random().map(Self)
    }

    pub(super) fn seal(&self, octets: &[u8]) -> Result<Vec<u8>, StoreError> {
        let mut sealed = Vec::with_capacity(octets.len() + PASSING_MORE_OCTETS);
        seal(&self.0, octets, &mut sealed)?;
        Ok(sealed)
    }

    pub(super) fn open(&self, sealed: &[u8]) -> Result<Vec<u8>, StoreError> {
        open(&self.0, sealed).ok_or_else(damaged)
    }
}
