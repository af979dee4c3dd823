//! Any text as an address and as an address list: what is read is written and read again alike, and
//! the strict list agrees with the lenient one.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mail::message::{ADDRESSES_MAX, ListItem, Message, lenient_address_list};
use mail::{Address, Domain};

fuzz_target!(|octets: &[u8]| {
    if let Ok(text) = std::str::from_utf8(octets) {
        if let Ok(address) = Address::parse(text) {
            assert_eq!(Address::parse(&address.to_string()).as_ref(), Ok(&address));
        }
        if let Ok(domain) = Domain::parse(text) {
            assert_eq!(Domain::parse(domain.as_str()).as_ref(), Ok(&domain));
        }
    }

    let items = lenient_address_list(octets);
    assert!(items.len() <= ADDRESSES_MAX);
    let starts = items.iter().filter(|item| matches!(item, ListItem::GroupStart(_))).count();
    let ends = items.iter().filter(|item| **item == ListItem::GroupEnd).count();
    assert_eq!(starts, ends);

    let header = [b"To:", octets].concat();
    let message = Message::lenient(&header);
    let Some(field) = message.field("To") else { return };
    let Ok(mailboxes) = field.mailboxes() else { return };
    let shown: Vec<Address> = lenient_address_list(field.value)
        .into_iter()
        .filter_map(|item| match item {
            ListItem::Mailbox { local, domain, .. } => {
                Some(Address::parse(&format!("{local}@{domain}")).expect("the strict list took it"))
            }
            ListItem::GroupStart(_) | ListItem::GroupEnd => None,
        })
        .collect();
    // Ends of groups count as elements in the lenient list only.
    if starts == 0 {
        assert_eq!(shown, mailboxes.into_iter().map(|m| m.address).collect::<Vec<_>>());
    }
});
