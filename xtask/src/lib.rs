//! What the chores know of the tree: its files, its Rust sources, its rules and its manifests.
//!
//! The program `xtask` runs the chores; `tests/tests/tidy.rs` uses the same readers to keep the
//! tree as `ARCHITECTURE.md` draws it. Nothing of the shipped binary is in here.

pub mod debian;
pub mod manifest;
pub mod rules;
pub mod rust;
pub mod tree;
