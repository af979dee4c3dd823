//! How much resident memory one idle IMAP connection with TLS takes, at thousands of them: signed
//! in, INBOX selected, idling.

use benches::{resident_kib, say, setting};
use scenarios::{Demo, Imap};

fn main() -> anyhow::Result<()> {
    let connections = setting("BENCH_CONNECTIONS", 5000);
    scenarios::demo::raise_descriptor_limit()?;
    let folder = tempfile::tempdir()?;
    let demo = Demo::start(&folder.path().join("demo"))?;
    // Before the first connection: what is made once counts too, so the figure is an upper bound.
    let before = resident_kib(demo.pid())?;
    let mut held: Vec<Imap> = Vec::with_capacity(connections);
    for _ in 0..connections {
        held.push(idling(&demo)?);
    }
    let after = resident_kib(demo.pid())?;
    #[expect(clippy::cast_precision_loss, reason = "some thousands")]
    let each = (after - before) as f64 / connections as f64;
    say("idle IMAP connections with TLS", connections);
    say("resident memory before, KiB", before);
    say("resident memory after, KiB", after);
    say("for each connection, KiB", format!("{each:.1}"));
    drop(held);
    demo.stop()?;
    Ok(())
}

fn idling(demo: &Demo) -> anyhow::Result<Imap> {
    let mut imap = demo.imap_as("mrossi")?;
    imap.ok("SELECT INBOX")?;
    imap.wire.write(b"i IDLE\r\n")?;
    imap.response()?;
    Ok(imap)
}
