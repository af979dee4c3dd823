//! How many certified messages a second, from submission to the delivery receipt in the sender's
//! INBOX, all durable; and how near that is to what signing alone allows.
//!
//! The ceiling is measured in the same run with the same key on the same cores. The load comes from this
//! process, which takes its share of the same cores. `BENCH_MESSAGES`, `BENCH_CONNECTIONS` and
//! `BENCH_OCTETS` change it. What a scanner and a device for the key cost is `certified_with`'s question.

use benches::throughput::{self, Load, SIGNATURES_EACH};
use benches::{say, setting};
use scenarios::Demo;

fn main() -> anyhow::Result<()> {
    let load = Load::of(setting("BENCH_MESSAGES", 6000));
    let folder = tempfile::tempdir()?;
    let demo = Demo::start(&folder.path().join("demo"))?;

    let key = std::fs::read(demo.data.join("signing.key"))?;
    let before = throughput::signatures_a_second(&key)?;
    let certified = throughput::certified_a_second(&demo, &load)?;
    let after = throughput::signatures_a_second(&key)?;
    let ceiling = f64::midpoint(before, after) / SIGNATURES_EACH;

    say("messages, octets each, connections", &load);
    say("signatures a second, all cores, before and after", format!("{before:.0}, {after:.0}"));
    say("ceiling: certified messages a second by signing alone", format!("{ceiling:.0}"));
    say("submitted and acknowledged a second", format!("{:.0}", certified.acknowledged));
    say("certified messages a second, measured", format!("{:.0}", certified.certified));
    say("ratio to the ceiling", format!("{:.2}", certified.certified / ceiling));
    demo.stop()?;
    Ok(())
}
