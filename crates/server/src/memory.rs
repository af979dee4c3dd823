//! Room in memory for the messages that sessions bring, while they are worked on.
//!
//! A message of 100 MB is there several times over while it is judged, enclosed and stored. All of them
//! together have one budget, and who finds it used up waits. What strangers bring is held the longest,
//! for as long as name servers and the scanner like: so they have a part of it only, and our users'
//! messages never wait for strangers alone.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// KiB of messages that are being worked on at once, in memory. One more than fits waits for its
/// turn.
const WORK_KIB_MAX: u32 = 1024 * 1024;
/// And those among them that came from other hosts: the largest message still has room, once.
const STRANGERS_KIB_MAX: u32 = WORK_KIB_MAX / 2;
/// A message is in memory so many times over while it is worked on: as it came, and as it becomes.
const COPIES_IN_MEMORY: u64 = 3;

/// Who brings a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bearer {
    /// A user who has signed in.
    Account,
    /// Another host.
    Stranger,
}

/// The budget.
pub(crate) struct Memory {
    all: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
}

/// Room for one message, until it is dropped.
#[derive(Debug)]
pub(crate) struct Room {
    _strangers: Option<OwnedSemaphorePermit>,
    _all: OwnedSemaphorePermit,
}

impl Memory {
    pub(crate) fn new() -> Self {
        Self {
            all: Arc::new(Semaphore::new(WORK_KIB_MAX as usize)),
            strangers: Arc::new(Semaphore::new(STRANGERS_KIB_MAX as usize)),
        }
    }

    /// Room for work on a message of so many octets. Waits while there is none; `None` when the
    /// program ends.
    pub(crate) async fn room_for(&self, octets: u64, bearer: Bearer) -> Option<Room> {
        let kib = octets.saturating_mul(COPIES_IN_MEMORY) / 1024 + 1;
        let kib = u32::try_from(kib).unwrap_or(u32::MAX);
        // Their own part first: who waits for that waits in nobody else's way.
        let strangers = match bearer {
            Bearer::Account => None,
            Bearer::Stranger => {
                let kib = kib.min(STRANGERS_KIB_MAX);
                Some(self.strangers.clone().acquire_many_owned(kib).await.ok()?)
            }
        };
        let kib = kib.min(WORK_KIB_MAX);
        let all = self.all.clone().acquire_many_owned(kib).await.ok()?;
        Some(Room { _strangers: strangers, _all: all })
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;

    const MIB: u64 = 1024 * 1024;

    /// Room, if there is some at once.
    async fn at_once(memory: &Memory, octets: u64, bearer: Bearer) -> Option<Room> {
        tokio::select! {
            biased;
            room = memory.room_for(octets, bearer) => room,
            () = ready(()) => None,
        }
    }

    #[tokio::test]
    async fn one_message_of_strangers_past_their_part_waits_and_our_users_do_not() {
        let memory = Memory::new();
        let mut held = Vec::new();
        while let Some(room) = at_once(&memory, 20 * MIB, Bearer::Stranger).await {
            held.push(room);
        }
        // 20 MiB three times over, and one KiB each, of 512 MiB.
        assert_eq!(held.len(), 8);
        let submitted = at_once(&memory, 150 * MIB, Bearer::Account).await;
        assert!(submitted.is_some(), "nobody's message waits for strangers alone");
        assert!(
            at_once(&memory, 150 * MIB, Bearer::Account).await.is_none(),
            "nor past all there is"
        );
        held.pop();
        assert!(at_once(&memory, 20 * MIB, Bearer::Stranger).await.is_some());
    }

    #[tokio::test]
    async fn a_message_larger_than_the_budget_has_all_of_it_once() {
        let memory = Memory::new();
        for bearer in [Bearer::Stranger, Bearer::Account] {
            assert!(at_once(&memory, u64::MAX, bearer).await.is_some(), "{bearer:?}");
        }
    }
}
