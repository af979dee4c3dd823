//! What makes a message the same one when it comes again (PEC-PR-28): the marks that the store
//! keeps of what was taken.
//!
//! Decided by what is signed, never by the outer header. A mark is kept for [`KEPT_FOR`], and then
//! forgotten: what comes again after that is too old to be believed.

use crypto::sha256;
use jiff::SignedDuration;
use mail::Address;
use pec::exchange::PecId;
use pec::incoming::{AHEAD_MAX, BELIEVED_FOR};
use store::{Digest, Mark, StoreError};

use crate::site::Site;

/// How long what was believed when it came may wait here until it is looked up: a queue that stood
/// still for weeks.
const WAITS_FOR: SignedDuration = SignedDuration::from_hours(24 * 29);
/// How long a mark is kept: longer than what it marks can be believed, so that nothing is taken for
/// new because its mark is gone. A mark is made no earlier than [`AHEAD_MAX`] before the time that was
/// certified, and looked up no later than [`BELIEVED_FOR`] and [`WAITS_FOR`] after it.
pub(crate) const KEPT_FOR: SignedDuration =
    SignedDuration::from_secs(BELIEVED_FOR.as_secs() + AHEAD_MAX.as_secs() + WAITS_FOR.as_secs());
/// Marks that are forgotten in one commit at most: others wait for it meanwhile.
const FORGOTTEN_AT_ONCE: usize = 1_000;

/// Forgets the marks of what cannot come again.
///
/// # Errors
///
/// When the store fails: what is left is forgotten the next time.
pub(crate) fn forget_old(site: &Site) -> Result<(), StoreError> {
    let Ok(before) = site.clock.now().checked_sub(KEPT_FOR) else { return Ok(()) };
    while site.store.forget_marks(before, FORGOTTEN_AT_ONCE)? == FORGOTTEN_AT_ONCE {}
    Ok(())
}

/// An envelope for one recipient: the same provider means the same message when it gives the same
/// identifier (PEC-AP-20). The value tells whether it is the same in every signed octet too.
pub(super) fn envelope(signer: &str, id: &PecId, recipient: &Address, entity: &[u8]) -> Mark {
    Mark {
        key: digest(&["envelope", signer, id.as_str(), &case(recipient)]),
        value: sha256(entity),
    }
}

/// A receipt for one mailbox.
pub(super) fn receipt(entity: &[u8], to: &Address) -> Mark {
    let value = sha256(entity);
    let signed: String = value.iter().map(|octet| format!("{octet:02x}")).collect();
    Mark { key: digest(&["receipt", &signed, &case(to)]), value }
}

fn case(address: &Address) -> String {
    address.to_string().to_ascii_lowercase()
}

/// Of words none of which can run into the next.
fn digest(words: &[&str]) -> Digest {
    let mut octets = Vec::new();
    for word in words {
        octets.extend_from_slice(&(word.len() as u64).to_be_bytes());
        octets.extend_from_slice(word.as_bytes());
    }
    sha256(&octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    // PEC-PR-28
    #[test]
    fn what_is_the_same_has_the_same_mark_and_nothing_else() {
        let address = |text: &str| Address::parse(text).unwrap();
        let id = |text: &str| PecId::parse(text).unwrap();
        let first = envelope("Beta", &id("1@b.example"), &address("a@a.example"), b"x");
        assert_eq!(first, envelope("Beta", &id("1@b.example"), &address("A@A.example"), b"x"));
        let edited = envelope("Beta", &id("1@b.example"), &address("a@a.example"), b"y");
        assert_eq!(first.key, edited.key);
        assert_ne!(first.value, edited.value);
        for other in [
            envelope("Gamma", &id("1@b.example"), &address("a@a.example"), b"x"),
            envelope("Beta", &id("2@b.example"), &address("a@a.example"), b"x"),
            envelope("Beta", &id("1@b.example"), &address("b@a.example"), b"x"),
            receipt(b"x", &address("a@a.example")),
        ] {
            assert_ne!(first.key, other.key);
        }
        assert_eq!(receipt(b"x", &address("a@a.example")), receipt(b"x", &address("A@a.example")));
        assert_ne!(
            receipt(b"x", &address("a@a.example")).key,
            receipt(b"x", &address("b@a.example")).key
        );
        assert_ne!(
            receipt(b"x", &address("a@a.example")).key,
            receipt(b"y", &address("a@a.example")).key
        );
        assert_ne!(digest(&["ab", "c"]), digest(&["a", "bc"]));
    }
}
