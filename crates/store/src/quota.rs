//! What an account may hold, and what counts.

/// Octets of storage and number of messages that an account may hold; RFC 9208 §5.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Octets of all its messages together.
    pub octets_max: u64,
    /// Its messages; `None`: as many as fit.
    pub messages_max: Option<u64>,
    /// Octets of receipts beyond `octets_max` (`limits.receipt_reserve`).
    pub receipt_reserve_octets: u64,
}

/// Which limit a message is held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Charge {
    /// The quota.
    Quota,
    /// The quota and the reserve for receipts.
    Receipt,
    /// No limit: mail of the provider to itself. It counts all the same.
    Unlimited,
}

/// What an account holds. Every message counts with all its octets in each mailbox it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Octets.
    pub octets: u64,
    /// Messages.
    pub messages: u64,
    /// The limits.
    pub quota: Quota,
}

impl Usage {
    /// Whether `octets` more in `messages` more messages stay within what `charge` allows.
    pub fn has_room(&self, octets: u64, messages: u64, charge: Charge) -> bool {
        let octets_max = match charge {
            Charge::Unlimited => return true,
            Charge::Quota => self.quota.octets_max,
            Charge::Receipt => {
                self.quota.octets_max.saturating_add(self.quota.receipt_reserve_octets)
            }
        };
        let messages_fit = self.quota.messages_max.is_none_or(|max| {
            charge == Charge::Receipt || self.messages.saturating_add(messages) <= max
        });
        messages_fit && self.octets.saturating_add(octets) <= octets_max
    }
}
