//! How long from the end of data to the delivery receipt in the sender's INBOX, on a machine that
//! does nothing else; and to the envelope in the recipient's. Seen by clients that idle.

use std::time::{Duration, Instant};

use benches::{message, say, setting, spread};
use scenarios::{Demo, Imap, smtp};

const FROM: &str = "mario.rossi@pec.alfa.example";
const TO: &str = "studio.verdi@pec.beta.example";

fn main() -> anyhow::Result<()> {
    let rounds = setting("BENCH_ROUNDS", 200);
    let folder = tempfile::tempdir()?;
    let demo = Demo::start(&folder.path().join("demo"))?;
    let mut client = demo.submit_as("mrossi")?;
    let mut sender = idling(&demo, "mrossi")?;
    let mut recipient = idling(&demo, "sverdi")?;
    let (mut acknowledged, mut delivered, mut receipted) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        let text = message(FROM, TO, &format!("prova{round}"), 20_000);
        client.command(&format!("MAIL FROM:<{FROM}>"), "250")?;
        client.command(&format!("RCPT TO:<{TO}>"), "250")?;
        client.command("DATA", "354")?;
        let began = Instant::now();
        client.wire.write(&smtp::stuffed(&text))?;
        client.expect("250")?;
        acknowledged.push(began.elapsed());
        let (in_sight, count) = std::thread::scope(|scope| {
            let envelope =
                scope.spawn(|| recipient.until_exists(round + 1).map(|()| began.elapsed()));
            let receipts = sender.until_exists(2 * (round + 1)).map(|()| began.elapsed());
            (envelope.join(), receipts)
        });
        delivered.push(in_sight.map_err(|_| anyhow::anyhow!("a client panicked"))??);
        receipted.push(count?);
    }
    tell("end of data to 250", acknowledged);
    tell("end of data to the envelope at an idling recipient", delivered);
    tell("end of data to the delivery receipt at an idling sender", receipted);
    demo.stop()?;
    Ok(())
}

fn idling(demo: &Demo, login: &str) -> anyhow::Result<Imap> {
    let mut imap = demo.imap_as(login)?;
    imap.ok("SELECT INBOX")?;
    imap.begin_idle()?;
    Ok(imap)
}

fn tell(what: &str, times: Vec<Duration>) {
    if let Some((least, median, most)) = spread(times) {
        let ms = |time: Duration| format!("{:.1}", time.as_secs_f64() * 1000.0);
        say(
            &format!("{what}, ms (min median max)"),
            format!("{} {} {}", ms(least), ms(median), ms(most)),
        );
    }
}
