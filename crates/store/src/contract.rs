//! What every store must do, as plain functions that any store can be put through.
//!
//! Each case gets a function that makes empty stores, and panics where a store does not keep its
//! word. Not here: what only a store on a disk can do wrong.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    missing_docs,
    reason = "these are tests; they are not under `cfg(test)` so that other crates' stores can be put through them"
)]

pub mod accounts;
pub mod log;
pub mod mailboxes;
pub mod messages;
pub mod pipeline;
pub mod quarantine;
pub mod quota;
pub mod tracker;

use std::sync::Arc;

use mail::Address;

use crate::{
    AccountId, Appended, Charge, Delivery, Flags, Keyword, MailboxId, MailboxName, NewAccount,
    NewMailbox, NewMessage, Octets, Owner, Quota, Role, Source, Store, StoreError, SystemFlags,
    Timestamp, Transaction, Uid, UidSet,
};

/// Makes empty stores.
pub type Make<'a> = &'a dyn Fn() -> Box<dyn Store>;

/// Names every case to another macro.
#[macro_export]
macro_rules! contract_cases {
    ($then:ident ! ($($with:tt)*)) => {
        $then! { ($($with)*)
            accounts::an_address_or_user_id_is_taken_once,
            accounts::an_account_is_found_by_any_login_case_aside,
            accounts::an_account_begins_with_its_folders_subscribed,
            accounts::each_property_changes,
            accounts::a_removed_account_takes_its_mail_along,
            accounts::an_account_that_is_not_there_is_named_so,
            mailboxes::parents_are_created,
            mailboxes::a_name_comes_back_with_a_higher_uid_validity,
            mailboxes::system_folders_stay,
            mailboxes::a_mailbox_with_children_stays,
            mailboxes::a_rename_moves_what_is_below,
            mailboxes::a_rename_is_refused_where_the_name_is_taken_or_too_long,
            mailboxes::renaming_inbox_moves_its_messages,
            mailboxes::subscriptions_outlive_their_mailbox,
            mailboxes::one_mailbox_too_many_is_refused,
            mailboxes::one_subscription_too_many_is_refused,
            mailboxes::hostile_names_are_only_names,
            mailboxes::annotations_are_kept_with_what_they_are_about,
            mailboxes::annotations_are_bounded,
            messages::what_is_appended_is_read_back,
            messages::several_are_added_together_or_not_at_all,
            messages::one_is_replaced_by_another_in_one_step,
            messages::octets_are_read_in_pieces,
            messages::a_spool_is_stored_at_any_size,
            messages::summaries_come_in_order_and_bounded,
            messages::flags_change_and_count,
            messages::flags_change_only_where_nothing_else_did,
            messages::one_keyword_too_many_is_refused,
            messages::changes_are_told_since_any_time,
            messages::recent_is_told_once,
            messages::copies_keep_flags_and_dates,
            messages::moves_vanish_here_and_appear_there,
            messages::only_what_is_deleted_is_expunged,
            messages::a_mailbox_that_is_gone_is_named_so,
            messages::octets_live_as_long_as_somebody_refers_to_them,
            messages::octets_that_are_held_are_read_although_nobody_refers_to_them,
            messages::listeners_hear_of_each_change,
            messages::digests_live_as_long_as_their_octets,
            messages::texts_are_found_where_they_are_indexed,
            quota::a_message_is_charged_when_it_appears,
            quota::copies_charge_and_moves_do_not,
            quota::what_goes_is_given_back,
            quota::receipts_have_a_reserve_and_the_provider_no_limit,
            quota::messages_are_limited_too,
            quota::a_lowered_quota_lets_nothing_in,
            quota::parallel_deliveries_stop_at_the_edge,
            quarantine::an_infected_message_is_kept_as_it_came,
            quarantine::no_infected_message_goes_before_its_time,
            quarantine::a_step_moves_what_a_job_holds_into_the_quarantine,
            pipeline::a_step_does_all_it_says,
            pipeline::a_refused_step_leaves_nothing,
            pipeline::a_job_is_done_once,
            pipeline::two_threads_do_a_job_once,
            pipeline::jobs_come_when_due_in_order,
            pipeline::a_job_is_put_off,
            pipeline::a_lane_holds_up_nobody_else,
            pipeline::in_a_lane_accounts_take_turns,
            pipeline::in_a_lane_what_was_put_off_waits_for_its_time,
            pipeline::a_lane_tells_who_has_waited_longest,
            pipeline::a_job_is_done_in_part,
            pipeline::a_job_keeps_its_octets,
            tracker::the_tracker_never_goes_back,
            tracker::the_tracker_knows_only_what_it_sent,
            tracker::what_is_due_is_found_in_its_order,
            tracker::a_notice_is_given_once,
            tracker::what_happened_is_marked_once,
            tracker::marks_are_forgotten_when_they_are_old,
            log::it_is_found_by_any_identifier,
            log::it_is_found_by_account_and_period,
            log::it_is_told_by_time_in_pages,
            log::records_are_kept_as_they_were_hashed,
            log::seals_continue_each_other,
            log::a_seal_is_stamped_once,
            log::records_of_a_seal_expire_and_the_seal_stays,
        }
    };
}

macro_rules! run_all {
    (($make:ident) $($group:ident::$case:ident,)*) => { $($group::$case($make);)* };
}

/// Makes each case a `#[test]` of its name; `$run` puts it through a store.
#[cfg(test)]
macro_rules! as_tests {
    (($run:path) $($group:ident::$case:ident,)*) => {
        $(#[test] fn $case() { $run($crate::contract::$group::$case); })*
    };
}
#[cfg(test)]
pub(crate) use as_tests;

/// Puts a store through every case.
pub fn all(make: Make<'_>) {
    contract_cases!(run_all!(make));
}

/// An address.
pub fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

/// A time: so many seconds into the test.
pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

/// The name of a mailbox.
pub fn name(text: &str) -> MailboxName {
    MailboxName::parse(text).unwrap()
}

/// A quota of octets, and nothing else.
pub fn octets_max(octets_max: u64) -> Quota {
    Quota { octets_max, messages_max: None, receipt_reserve_octets: 0 }
}

/// A holder with a quota.
pub fn holder(text: &str, quota: Quota) -> NewAccount {
    NewAccount {
        address: address(text),
        user_id: None,
        owner: Owner::Holder,
        role: Role::None,
        credentials: None,
        quota,
        ordinary_mail: None,
    }
}

/// A store with anna in it, who may hold as much as she likes.
pub fn with_anna(make: Make<'_>) -> (Box<dyn Store>, AccountId, MailboxId) {
    let store = make();
    let anna = store.add_account(holder("anna@pec.example", octets_max(1 << 40)), at(0)).unwrap();
    let inbox = store.mailbox(anna, &MailboxName::inbox()).unwrap().id;
    (store, anna, inbox)
}

/// Creates a mailbox.
pub fn create(store: &dyn Store, account: AccountId, text: &str) -> MailboxId {
    let new = NewMailbox { name: name(text), special_use: None };
    store.create_mailbox(account, new, at(1)).unwrap().id
}

/// Octets in memory.
pub fn inline(octets: &[u8]) -> Octets {
    Octets::Inline(Arc::from(octets))
}

/// A message with flags, received at second 10 and added at second 20.
pub fn message(octets: &[u8], flags: Flags) -> NewMessage {
    NewMessage { octets: inline(octets), flags, received: at(10), at: at(20) }
}

/// Appends a message without flags.
pub fn append(store: &dyn Store, mailbox: MailboxId, octets: &[u8]) -> Uid {
    store.append(mailbox, message(octets, Flags::default())).unwrap().uid
}

/// A UID.
pub fn uid(number: u32) -> Uid {
    crate::rules::uid(number)
}

/// A set of UIDs.
pub fn uids(numbers: &[u32]) -> UidSet {
    numbers.iter().map(|number| uid(*number)).collect()
}

/// IMAP's flags.
pub fn system(system: SystemFlags) -> Flags {
    Flags { system, ..Flags::default() }
}

/// Keywords.
pub fn keywords(keywords: &[&str]) -> Flags {
    let keywords = keywords.iter().map(|keyword| Keyword::parse(keyword).unwrap()).collect();
    Flags { keywords, ..Flags::default() }
}

/// A delivery of the transaction's first octets.
pub fn delivery(to: &str, charge: Charge) -> Delivery {
    Delivery {
        to: address(to),
        mailbox: MailboxName::inbox(),
        octets: Source::New(0),
        flags: Flags::default(),
        charge,
    }
}

/// Delivers octets to an account's INBOX.
pub fn deliver(
    store: &dyn Store,
    to: &str,
    octets: &[u8],
    charge: Charge,
) -> Result<Appended, StoreError> {
    let transaction = Transaction {
        at: at(30),
        octets: vec![inline(octets)],
        deliver: vec![delivery(to, charge)],
        ..Transaction::default()
    };
    Ok(store.commit(transaction)?.delivered[0])
}

/// Octets and messages that an account holds.
pub fn held(store: &dyn Store, account: AccountId) -> (u64, u64) {
    let usage = store.usage(account).unwrap();
    (usage.octets, usage.messages)
}

/// Asserts that a call is refused with an error.
#[macro_export]
macro_rules! assert_refused {
    ($call:expr, $error:pat $(if $when:expr)?) => {
        match $call {
            Err($error) $(if $when)? => {}
            other => panic!("not refused with {}: {other:?}", stringify!($error)),
        }
    };
}
