//! ceralacca: one binary, one provider of certified mail.

mod config;
mod control;

fn main() {}
