//! The quarantine's own upkeep: what has been kept for thirty months is removed, and the log says so.
//!
//! Not here: how messages come into it ([`crate::flow`]), and how operators look at it
//! ([`crate::control`]).

use store::{Infected, LogRecord, StoreError, Transaction};

use crate::site::Site;

/// Messages removed in one commit at most.
const BATCH: usize = 100;

/// Removes what may go by now (PEC-VIR-01: never earlier), each with its log record.
///
/// # Errors
///
/// When the store fails.
pub(crate) fn remove_ended(site: &Site) -> Result<(), StoreError> {
    let at = site.clock.now();
    loop {
        let ended = site.store.quarantine_ended(at, BATCH)?;
        if ended.is_empty() {
            return Ok(());
        }
        let transaction = Transaction {
            at,
            discard: ended.iter().map(|infected| infected.id).collect(),
            log: ended.iter().map(|infected| record(site, infected, at)).collect(),
            ..Transaction::default()
        };
        site.store.commit(transaction)?;
        tracing::info!(target: "antivirus", count = ended.len(), "infected messages were removed after their time");
    }
}

fn record(site: &Site, infected: &Infected, at: store::Timestamp) -> LogRecord {
    let of = &infected.infection;
    LogRecord {
        time: at,
        event: "eliminazione-virus".to_owned(),
        identificativo: of.identificativo.clone(),
        mittente: Some(of.mittente.clone()),
        oggetto: of.oggetto.clone(),
        gestore: Some(site.provider.name.clone()),
        errore: Some("virus".to_owned()),
        errore_esteso: Some(of.virus.clone()),
        msgid: of.msgid.clone(),
        notes: vec![format!(
            "found {}, kept until {}, SHA-256 {}",
            infected.found, infected.keep_until, of.sha256
        )],
        ..LogRecord::default()
    }
}
