//! IMAP side by side with Dovecot, in one run on one machine: see `benches/src/imap.rs`.

fn main() -> anyhow::Result<()> {
    benches::imap::run()
}
