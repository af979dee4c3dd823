//! The recipients of the open transaction, and what its sender asks to be told of each.

use std::collections::BTreeMap;

use mail::Address;
use mail::address::AddressError;
use smtp::RecipientDsn;

/// Octets that the recipients of one transaction may weigh in memory, whatever their number: a hundred of
/// the longest (a path of 254 octets, `ORCPT` of 500, `NOTIFY` in full), which RFC 5321 §4.5.3.1.8 wants
/// to be taken, and five hundred of 100 octets.
const RECIPIENTS_OCTETS_MAX: usize = 88 * 1024;
/// From here on a message with them keeps nothing in memory beside them: both together would be more than
/// a connection shall take.
const LIGHT_OCTETS: usize = 16 * 1024;
/// What one weighs beside its text: its place in the list, and what the allocator adds.
const EACH_OCTETS: usize = 32;

/// Recipients in the order in which they came. As text: an address in its parts takes twice the memory,
/// and they may wait long for their message.
#[derive(Default)]
pub(super) struct Recipients {
    /// Address, and after a line end the parameters, each with a space before it, if there are any.
    lines: Vec<Box<str>>,
    octets: usize,
}

impl Recipients {
    /// One more; `false`, and it is not there, when they would weigh more than [`RECIPIENTS_OCTETS_MAX`].
    pub(super) fn add(&mut self, address: &Address, dsn: &RecipientDsn) -> bool {
        let mut line = address.to_string();
        if *dsn != RecipientDsn::default() {
            line = format!("{line}\n{dsn}");
        }
        let octets = self.octets + line.len() + EACH_OCTETS;
        if octets > RECIPIENTS_OCTETS_MAX {
            return false;
        }
        self.octets = octets;
        self.lines.push(line.into_boxed_str());
        true
    }

    /// Forgets the one that came last: something else speaks against it.
    pub(super) fn forget_last(&mut self) {
        if let Some(line) = self.lines.pop() {
            self.octets -= line.len() + EACH_OCTETS;
        }
    }

    /// Whether one before the last is in the domain of that.
    pub(super) fn has_another_there(&self) -> bool {
        fn domain(line: &str) -> Option<&str> {
            let address = line.split_once('\n').map_or(line, |(address, _)| address);
            address.rsplit_once('@').map(|(_, domain)| domain)
        }
        self.lines
            .split_last()
            .is_some_and(|(last, others)| others.iter().any(|other| domain(other) == domain(last)))
    }

    /// Forgets all of them.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Octets that they weigh.
    pub(super) fn octets(&self) -> usize {
        self.octets
    }

    /// Whether a message may stay in memory beside them.
    pub(super) fn are_light(&self) -> bool {
        self.octets <= LIGHT_OCTETS
    }

    /// All of them, and of each that has any its parameters, by address.
    ///
    /// # Errors
    ///
    /// When one is no address any more, which was one when it was added.
    pub(super) fn take(
        &mut self,
    ) -> Result<(Vec<Address>, BTreeMap<String, String>), AddressError> {
        let (mut addresses, mut wishes) = (Vec::new(), BTreeMap::new());
        for line in std::mem::take(self).lines {
            let (address, parameters) = line.split_once('\n').unwrap_or((&line, ""));
            addresses.push(Address::parse(address)?);
            if !parameters.is_empty() {
                wishes.insert(address.to_owned(), parameters.to_owned());
            }
        }
        Ok((addresses, wishes))
    }
}

#[cfg(test)]
mod tests {
    use smtp::dsn::{Notify, ORCPT_OCTETS_MAX};

    use super::*;

    fn of(address: &str) -> Address {
        Address::parse(address).unwrap()
    }

    #[test]
    fn recipients_come_back_as_they_were_said() {
        let mut recipients = Recipients::default();
        let dsn = RecipientDsn {
            notify: Some(Notify::NEVER),
            orcpt: Some("rfc822;a+2Bb@c.example".to_owned()),
        };
        let said = ["Anna@b.example", "\"a b\\\"\"@b.example", "anna@xn--caf-dma.example"];
        for (at, address) in said.iter().enumerate() {
            let dsn = if at == 1 { dsn.clone() } else { RecipientDsn::default() };
            assert!(recipients.add(&of(address), &dsn));
        }
        let (addresses, wishes) = recipients.take().unwrap();
        assert_eq!(addresses.iter().map(ToString::to_string).collect::<Vec<_>>(), said);
        let asked = (said[1].to_owned(), " NOTIFY=NEVER ORCPT=rfc822;a+2Bb@c.example".to_owned());
        assert_eq!(wishes, BTreeMap::from([asked]));
        assert_eq!((recipients.octets(), recipients.take().unwrap().0.len()), (0, 0));
    }

    #[test]
    fn a_hundred_of_the_longest_recipients_are_taken_and_one_octet_past_the_bound_is_not() {
        let mut recipients = Recipients::default();
        let notify = Notify { success: true, failure: true, delay: true };
        let orcpt = format!("rfc822;{}", "o".repeat(ORCPT_OCTETS_MAX - "rfc822;".len()));
        let dsn = RecipientDsn { notify: Some(notify), orcpt: Some(orcpt) };
        let domain = format!("{}.example", [&*"d".repeat(60); 3].join("."));
        let longest = of(&format!("{}@{domain}", "u".repeat(254 - 1 - domain.len())));
        assert_eq!(longest.to_string().len(), 254);
        for number in 0..100 {
            assert!(recipients.add(&longest, &dsn), "{number}");
        }
        // What is left, to the octet.
        let address = of("u@b.example");
        let beside = EACH_OCTETS + "u@b.example\n ORCPT=".len();
        let of_octets = |octets: usize| {
            let orcpt = Some("o".repeat(octets - beside));
            RecipientDsn { notify: None, orcpt }
        };
        while RECIPIENTS_OCTETS_MAX - recipients.octets() > 600 {
            assert!(recipients.add(&address, &of_octets(300)));
        }
        let left = RECIPIENTS_OCTETS_MAX - recipients.octets();
        assert!(!recipients.add(&address, &of_octets(left + 1)));
        assert!(recipients.add(&address, &of_octets(left)));
        assert_eq!(recipients.octets(), RECIPIENTS_OCTETS_MAX);
        assert!(!recipients.add(&address, &RecipientDsn::default()));
        recipients.forget_last();
        assert!(recipients.add(&address, &of_octets(left)));
        // Room again for the next message.
        recipients.clear();
        assert!(recipients.add(&longest, &dsn) && recipients.are_light());
    }
}
