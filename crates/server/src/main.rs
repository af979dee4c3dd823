//! ceralacca: one binary, one provider of certified mail.

mod config;

fn main() {}
