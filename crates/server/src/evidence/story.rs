//! What the page of a bundle tells, taken from the manifest and the history alone: whoever verifies the
//! bundle takes it again.

use pec::Moment;
use pec::evidence::{Story, Told, file};
use store::Statement;

use super::bundle::{HISTORY, Manifest};
use crate::seal::history::History;

/// The story of a bundle.
///
/// # Errors
///
/// When a record or a seal cannot be read.
pub(crate) fn of(manifest: &Manifest, history: &History) -> anyhow::Result<Story> {
    let records = history.log()?;
    let time = |at: store::Timestamp| pec::evidence::moment(Moment::of(at));
    let known = records.iter().find(|record| record.mittente.is_some());
    let events = records.iter().zip(&history.records).map(|(record, proved)| Told {
        time: time(record.time),
        event: record.event.clone(),
        concerns: match (&record.consegna, &record.ricezione[..]) {
            (Some(one), _) => vec![one.clone()],
            (None, some) => some.to_vec(),
        },
        provider: record.gestore.clone(),
        error: record.errore.as_ref().filter(|error| *error != "nessuno").map(|error| {
            let text = record.errore_esteso.as_deref().unwrap_or_default();
            format!("{error} {text}").trim().to_owned()
        }),
        place: match proved.seal {
            Some(seal) => format!("riga {}, sigillo {seal}", proved.number),
            None => format!("riga {}, non ancora sigillata", proved.number),
        },
    });
    let mut seals = Vec::with_capacity(history.seals.len());
    for text in &history.seals {
        let seal = text.seal()?;
        let said = Statement::parse(&seal.octets)?;
        let stamp = match seal.stamp.as_deref().map(crypto::told_time) {
            Some(Some(at)) => format!("con marca temporale del {}", time(at)),
            Some(None) => "con marca temporale illeggibile".to_owned(),
            None => "ancora senza marca temporale".to_owned(),
        };
        seals.push(format!(
            "Sigillo {}, dal {} al {}: {} righe, {stamp}",
            said.number,
            time(said.since),
            time(said.until),
            said.records
        ));
    }
    let files = manifest.files.iter().map(|listed| {
        let kind = if listed.name == HISTORY { "registro" } else { &listed.kind };
        (listed.name.clone(), kind.to_owned(), listed.sha256.to_string())
    });
    let missing = manifest.missing.iter().map(|missing| match missing.split_once(' ') {
        Some((kind, id)) => format!("{} {id}", file(kind)),
        None => missing.clone(),
    });
    Ok(Story {
        identifier: manifest.identificativo.clone(),
        provider: history.provider.clone(),
        made: time(manifest.made),
        sender: known.and_then(|record| record.mittente.clone()),
        recipients: known
            .map(|record| {
                let all = record.destinatari.iter();
                all.map(|to| (to.address.clone(), to.tipo.clone())).collect()
            })
            .unwrap_or_default(),
        subject: known.and_then(|record| record.oggetto.clone()),
        events: events.collect(),
        files: files.collect(),
        missing: missing.collect(),
        seals,
    })
}
