//! What grows old while everything works: the key that stamps the seals of the log, and the index of
//! providers.
//!
//! Neither keeps serve from starting: mail goes on without a stamp, which is asked for again, and with
//! the last good index. So both are doubts.

use crypto::Signer;
use store::Timestamp;

use super::standing::{PROBE, look_at_validity};
use super::{Findings, KeyFile};
use crate::config::{Config, IndexSource, KeyPair, StampSource};
use crate::{material, registry};

/// An index that is fetched, and was not for so many of its intervals, is not kept up any more: one
/// fetch may fail.
const INTERVALS_MAX: u64 = 2;

/// So many hours old may an index be that somebody writes into its file: the same two days.
const FILE_HOURS_MAX: u64 = 48;

/// The internal authority's key and certificate: without them the intervals of the log get no stamp
/// (PEC-LOG-03).
pub(super) fn look_at_stamps(config: &Config, at: Timestamp, found: &mut Findings) {
    let KeyPair { key, certificate: file } = match &config.timestamp.authority {
        StampSource::Internal(pair) => pair,
        StampSource::Url(url) => {
            found.note(format!("the seals of the log are stamped by {url}"));
            return;
        }
    };
    found.note(
        "the seals of the log are stamped by an authority of our own, which proves the time to nobody \
         else: name one in timestamp.authority",
    );
    let certificates = match material::certificates(file) {
        Ok(certificates) => certificates,
        Err(error) => {
            found.doubt(format!("the log gets no time stamps: {error:#}"));
            return;
        }
    };
    let Some(certificate) = certificates.first() else { return };
    match KeyFile(key).sign(PROBE) {
        Err(error) => found.doubt(format!("the log gets no time stamps: {error}")),
        Ok(signature) if !certificate.has_signed(PROBE, &signature) => found.doubt(format!(
            "the log gets no time stamps: {} is not the key of {}",
            key.display(),
            file.display()
        )),
        Ok(_) => {}
    }
    // What is a fault of a certificate that signs mail is a doubt of this one.
    let mut of_certificate = Findings::default();
    look_at_validity("time stamping", certificate, at, &mut of_certificate);
    found.doubts.extend(of_certificate.faults);
    found.doubts.extend(of_certificate.doubts);
}

/// When the index was last written or fetched (PEC-IDX-09).
pub(super) fn look_at_index(config: &Config, found: &mut Findings) {
    let Some(age) = registry::age(config) else { return };
    let hours = age / 3_600;
    match &config.index.source {
        IndexSource::Url(url) if age > INTERVALS_MAX * config.index.refresh.as_secs() => {
            found.doubt(format!(
                "the index of providers was last had from {url} {hours} hours ago, and daily is the \
                 law: `ceralacca index refresh` says why"
            ));
        }
        IndexSource::Url(url) => {
            found.note(format!("the index of providers was had from {url} {hours} hours ago"));
        }
        IndexSource::File(file) if age > FILE_HOURS_MAX * 3_600 => found.doubt(format!(
            "the index of providers in {} was written {hours} hours ago, and daily is the law: \
             import the present one, or name its URL in index.source",
            file.display()
        )),
        IndexSource::File(file) => found.note(format!(
            "the index of providers in {} was written {hours} hours ago",
            file.display()
        )),
    }
}
