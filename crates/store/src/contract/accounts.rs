//! Accounts.

use super::*;
use crate::{AccountChange, Credentials, SpecialUse, State, assert_refused};

pub fn an_address_or_user_id_is_taken_once(make: Make<'_>) {
    let store = make();
    let mut anna = holder("Anna@pec.example", octets_max(9));
    anna.user_id = Some("AR01".into());
    let id = store.add_account(anna.clone(), at(0)).unwrap();
    assert_refused!(store.add_account(anna.clone(), at(0)), StoreError::AccountExists);
    let same = holder("ANNA@PEC.example", octets_max(9));
    assert_refused!(store.add_account(same, at(0)), StoreError::AccountExists);
    let mut bruno = holder("bruno@pec.example", octets_max(9));
    bruno.user_id = Some("ar01".into());
    assert_refused!(store.add_account(bruno.clone(), at(0)), StoreError::AccountExists);
    // Logins are one name space: nobody signs in with another's address.
    bruno.user_id = Some("anna@pec.example".into());
    assert_refused!(store.add_account(bruno.clone(), at(0)), StoreError::AccountExists);
    bruno.user_id = None;
    let second = store.add_account(bruno, at(0)).unwrap();
    assert!(second > id);
    let all: Vec<String> =
        store.accounts().unwrap().iter().map(|account| account.address.to_string()).collect();
    assert_eq!(all, ["Anna@pec.example", "bruno@pec.example"]);
}

pub fn an_account_is_found_by_any_login_case_aside(make: Make<'_>) {
    let store = make();
    let mut anna = holder("Anna@pec.example", octets_max(9));
    anna.user_id = Some("AR01".into());
    anna.owner = Owner::Provider;
    anna.role = Role::ServiceMailbox;
    anna.credentials = Some(Credentials { phc: "p".into(), scram: "s".into() });
    anna.ordinary_mail = Some("refuse".into());
    let id = store.add_account(anna.clone(), at(7)).unwrap();
    for login in ["anna@pec.example", "ANNA@PEC.EXAMPLE", "ar01", "AR01", "\"anna\"@pec.example"] {
        let found = store.account_by_login(login).unwrap().unwrap();
        assert_eq!(found.id, id, "{login}");
    }
    for login in ["", "anna", "ar02", "anna@pec.example "] {
        assert!(store.account_by_login(login).unwrap().is_none(), "{login}");
    }
    let found = store.account_by_address(&address("ANNA@pec.example")).unwrap().unwrap();
    assert_eq!(found.address.to_string(), "Anna@pec.example");
    assert_eq!(found.user_id.as_deref(), Some("AR01"));
    assert_eq!((found.owner, found.role), (Owner::Provider, Role::ServiceMailbox));
    assert_eq!((found.state, found.created), (State::Active, at(7)));
    assert_eq!(found.credentials, anna.credentials);
    assert_eq!(found.quota, anna.quota);
    assert_eq!(found.ordinary_mail.as_deref(), Some("refuse"));
    assert!(store.account_by_address(&address("ar01@pec.example")).unwrap().is_none());
    assert!(store.account(AccountId(99)).unwrap().is_none());
}

pub fn an_account_begins_with_its_folders_subscribed(make: Make<'_>) {
    let (store, anna, _) = with_anna(make);
    let mailboxes = store.mailboxes(anna).unwrap();
    let seen: Vec<_> = mailboxes.iter().map(|m| (m.name.as_str(), m.special_use)).collect();
    let expected = [
        ("INBOX", None),
        ("Archivio", Some(SpecialUse::Archive)),
        ("Bozze", Some(SpecialUse::Drafts)),
        ("Cestino", Some(SpecialUse::Trash)),
        ("Posta indesiderata", Some(SpecialUse::Junk)),
        ("Posta inviata", Some(SpecialUse::Sent)),
    ];
    assert_eq!(seen, expected);
    assert!(mailboxes.iter().all(|m| m.system && m.account == anna && m.created == at(0)));
    let mut subscribed: Vec<_> = mailboxes.iter().map(|m| m.name.clone()).collect();
    subscribed.sort();
    assert_eq!(store.subscriptions(anna).unwrap(), subscribed);
    let status = store.status(mailboxes[0].id).unwrap();
    assert_eq!((status.messages, status.uid_next, status.mod_seq.0), (0, uid(1), 0));
}

pub fn each_property_changes(make: Make<'_>) {
    let (store, anna, _) = with_anna(make);
    let now = || store.account(anna).unwrap().unwrap();
    let credentials = Some(Credentials { phc: "p".into(), scram: "s".into() });
    store.change_account(anna, AccountChange::Credentials(credentials.clone())).unwrap();
    assert_eq!(now().credentials, credentials);
    store.change_account(anna, AccountChange::Credentials(None)).unwrap();
    assert_eq!(now().credentials, None);
    let quota = Quota { octets_max: u64::MAX, messages_max: Some(3), receipt_reserve_octets: 4 };
    store.change_account(anna, AccountChange::Quota(quota)).unwrap();
    assert_eq!(now().quota, quota);
    assert_eq!(store.usage(anna).unwrap().quota, quota);
    store.change_account(anna, AccountChange::State(State::Suspended)).unwrap();
    assert_eq!(now().state, State::Suspended);
    store.change_account(anna, AccountChange::State(State::Active)).unwrap();
    assert_eq!(now().state, State::Active);
    store.change_account(anna, AccountChange::OrdinaryMail(Some("deliver".into()))).unwrap();
    assert_eq!(now().ordinary_mail.as_deref(), Some("deliver"));
}

pub fn a_removed_account_takes_its_mail_along(make: Make<'_>) {
    let (store, anna, inbox) = with_anna(make);
    let uid_validity = store.status(inbox).unwrap().uid_validity;
    append(&*store, inbox, b"mail");
    let blob = store.summaries(inbox, &UidSet::all(), 1).unwrap()[0].blob;
    store.remove_account(anna).unwrap();
    assert!(store.account(anna).unwrap().is_none());
    assert!(store.account_by_login("anna@pec.example").unwrap().is_none());
    assert_refused!(store.status(inbox), StoreError::NoSuchMailbox);
    assert_refused!(store.read(blob, 0, 9), StoreError::NoSuchMessage);
    let again = store.add_account(holder("anna@pec.example", octets_max(9)), at(0)).unwrap();
    assert!(again > anna);
    assert_eq!(held(&*store, again), (0, 0));
    let inbox = store.mailbox(again, &MailboxName::inbox()).unwrap();
    assert!(inbox.uid_validity > uid_validity);
}

pub fn an_account_that_is_not_there_is_named_so(make: Make<'_>) {
    let store = make();
    let nobody = AccountId(7);
    let new = NewMailbox { name: name("x"), special_use: None };
    assert_refused!(store.usage(nobody), StoreError::NoSuchAccount);
    assert_refused!(store.mailboxes(nobody), StoreError::NoSuchAccount);
    assert_refused!(store.create_mailbox(nobody, new, at(0)), StoreError::NoSuchAccount);
    assert_refused!(store.mailbox(nobody, &name("INBOX")), StoreError::NoSuchMailbox);
    assert_refused!(store.subscriptions(nobody), StoreError::NoSuchAccount);
    assert_refused!(store.subscribe(nobody, &name("x"), true), StoreError::NoSuchAccount);
    assert_refused!(store.remove_account(nobody), StoreError::NoSuchAccount);
    let change = AccountChange::State(State::Suspended);
    assert_refused!(store.change_account(nobody, change), StoreError::NoSuchAccount);
}
