//! ceralacca: one binary, one provider of certified mail.

mod config;
mod control;
mod http;
mod ready;

fn main() {}
