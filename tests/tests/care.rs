//! Caring for the store from outside: looked over, counted, compacted and copied while the server
//! runs and while it does not; damaged, which is named; and put back from the copy.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Output;

use anyhow::{Context, ensure};
use scenarios::ledger::ACCOUNTS;
use scenarios::load::message;
use scenarios::{Demo, process, tools};

const MARIO: &str = ACCOUNTS[0];
const COMUNE: &str = ACCOUNTS[3];

fn store(data: &Path, arguments: &[&str]) -> anyhow::Result<Output> {
    let config = data.join("ceralacca.toml");
    let config = config.to_str().context("a path that is no text")?;
    process::run(&[&["store"], arguments, &["--config", config]].concat(), "")
}

/// What a command that does well prints.
fn printed(data: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    let output = store(data, arguments)?;
    ensure!(
        output.status.code() == Some(0) && output.stderr.is_empty(),
        "{arguments:?}: {output:?}"
    );
    Ok(String::from_utf8(output.stdout)?)
}

/// A figure of `store stats --json`.
fn figure(data: &Path, name: &str) -> anyhow::Result<u64> {
    let figures: serde_json::Value = serde_json::from_str(&printed(data, &["stats", "--json"])?)?;
    figures[name].as_u64().with_context(|| format!("{name} in {figures}"))
}

fn send(demo: &Demo, serials: std::ops::Range<u64>) -> anyhow::Result<()> {
    let mut smtp = demo.submit_as(MARIO)?;
    for serial in serials {
        let msgid = format!("<{serial}@cliente.example>");
        smtp.submit(MARIO, &[COMUNE], &message(MARIO, &[COMUNE], &msgid, 30_000))?;
    }
    demo.settle()
}

#[test]
fn a_store_is_looked_over_copied_damaged_and_put_back() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("demo");
    let copy = folder.path().join("copy");
    let copy_name = copy.to_str().context("a path that is no text")?;
    let demo = Demo::start(&data)?;
    send(&demo, 0..6)?;

    // While it runs.
    let holds = printed(&data, &["check"])?;
    ensure!(holds.ends_with(" octets read: everything holds\n"), "{holds}");
    let messages = figure(&data, "messages")?;
    ensure!(messages >= 24, "{messages}");
    // Three copies of each message, and boilerplate.
    let (octets, stored) = (figure(&data, "message_octets")?, figure(&data, "stored_octets")?);
    ensure!(stored * 3 < octets, "{stored} octets for {octets}");
    let compacted = printed(&data, &["compact"])?;
    ensure!(
        compacted.ends_with(" octets freed\n") || compacted.starts_with("nothing to bring back"),
        "{compacted}"
    );
    let copied = printed(&data, &["backup", copy_name])?;
    let expected = format!(" octets and their index are copied to {copy_name}\n");
    ensure!(copied.ends_with(&expected), "{copied}");
    let again = store(&data, &["backup", copy_name])?;
    ensure!(again.status.code() == Some(1) && again.stdout.is_empty(), "{again:?}");
    let said = String::from_utf8(again.stderr)?;
    ensure!(said.contains("is there already: name another folder"), "{said}");
    // What is sent after the copy is not in it.
    send(&demo, 6..8)?;
    ensure!(figure(&data, "messages")? == messages + 8);
    ensure!(demo.stop()?.success());

    // While it does not.
    let json = printed(&data, &["check", "--json"])?;
    ensure!(
        json.starts_with("{\"findings\":0,\"messages\":") && json.lines().count() == 1,
        "{json}"
    );
    printed(&data, &["compact"])?;
    ensure!(figure(&data, "dead_octets")? * 2 <= figure(&data, "live_octets")? * 2 + 8192);

    // Damaged: it is named, with who has it.
    let segments = data.join("store").join("segments");
    let segment = std::fs::read_dir(&segments)?.next().context("no segment")??.path();
    let mut octets = std::fs::read(&segment)?;
    let written = octets.iter().rposition(|octet| *octet != 0).context("an empty segment")?;
    octets[written - 40] ^= 0xff;
    std::fs::write(&segment, octets)?;
    let damaged = store(&data, &["check", "--json"])?;
    ensure!(damaged.status.code() == Some(1), "{damaged:?}");
    let said = String::from_utf8(damaged.stdout)?;
    ensure!(
        said.starts_with("{\"part\":\"octets\",\"finding\":\"piece ")
            && said.lines().count() == 2
            && said.contains(" is damaged: "),
        "{said}"
    );

    // Put back from the copy.
    std::fs::remove_dir_all(data.join("store"))?;
    std::fs::rename(&copy, data.join("store"))?;
    printed(&data, &["check"])?;
    let demo = Demo::start(&data)?;
    ensure!(figure(&data, "messages")? == messages);
    let read = demo.imap_as(COMUNE)?.messages("INBOX")?;
    ensure!(read.len() == 6 && read.iter().all(|(_, octets)| octets.starts_with(b"Return-Path: ")));
    send(&demo, 8..9)?;
    printed(&data, &["check"])?;
    ensure!(demo.stop()?.success());
    Ok(())
}

#[test]
fn a_store_is_encrypted_and_asks_for_its_key() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("demo");
    let demo = Demo::start(&data)?;
    send(&demo, 0..2)?;
    ensure!(demo.stop()?.success());
    let config = data.join("ceralacca.toml");
    let text = std::fs::read_to_string(&config)?;
    let configure = |store: &str| std::fs::write(&config, format!("{text}\n[store]\n{store}\n"));
    let refused = |expected: &str| -> anyhow::Result<()> {
        match Demo::start(&data) {
            Ok(_) => anyhow::bail!("it started: {expected}"),
            Err(error) => ensure!(format!("{error:#}").contains(expected), "{error:#}"),
        }
        Ok(())
    };
    configure("key = \"store.key\"")?;
    refused("is not there: make one with `head -c 32 /dev/urandom > ")?;
    let key = |name: &str, octet: u8| -> anyhow::Result<()> {
        let file = data.join(name);
        std::fs::write(&file, [octet; 32])?;
        Ok(std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600))?)
    };
    key("store.key", 7)?;
    let demo = Demo::start(&data)?;
    send(&demo, 2..4)?;
    ensure!(demo.stop()?.success());
    printed(&data, &["compact"])?;
    printed(&data, &["check"])?;
    let holding = |text: &[u8]| -> anyhow::Result<bool> {
        for segment in std::fs::read_dir(data.join("store").join("segments"))? {
            let octets = std::fs::read(segment?.path())?;
            if octets.windows(text.len()).any(|window| window == text) {
                return Ok(true);
            }
        }
        Ok(false)
    };
    ensure!(!holding(b"cliente.example")?);

    // Without the key nothing is started or checked; with the next one all goes on.
    configure("")?;
    refused("and the configuration names none: name that key as store.key")?;
    let unchecked = store(&data, &["check"])?;
    ensure!(unchecked.status.code() == Some(1), "{unchecked:?}");
    key("next.key", 8)?;
    configure("key = \"next.key\"\nearlier_keys = [\"store.key\"]")?;
    let demo = Demo::start(&data)?;
    send(&demo, 4..5)?;
    printed(&data, &["check"])?;
    printed(&data, &["compact"])?;
    ensure!(demo.imap_as(COMUNE)?.messages("INBOX")?.len() == 5);
    ensure!(demo.stop()?.success());
    configure("key = \"next.key\"")?;
    printed(&data, &["check"])?;
    Ok(())
}

#[test]
fn a_store_is_put_back_to_a_moment() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("demo");
    ensure!(Demo::start(&data)?.stop()?.success());
    let config = data.join("ceralacca.toml");
    let text = std::fs::read_to_string(&config)?;
    std::fs::write(&config, format!("{text}\n[store]\narchive = \"../archive\"\n"))?;
    let demo = Demo::start(&data)?;
    // Moments before the first copy of the index is made cannot be had back.
    let archived = folder.path().join("archive");
    scenarios::wire::until("an archive is begun", || {
        let Ok(mut histories) = std::fs::read_dir(&archived) else { return Ok(None) };
        let head = histories.next().transpose()?.map(|one| one.path().join("00000001/head"));
        Ok(head.filter(|head| head.exists()))
    })?;
    send(&demo, 0..3)?;
    let messages = figure(&data, "messages")?;
    let now = tools::run(tools::tool("date", "coreutils")?.args(["-u", "+%FT%T.%NZ"]))?.ok()?;
    let moment = now.trim().to_owned();
    send(&demo, 3..5)?;
    // What is archived after a kill is a second behind; an orderly end leaves nothing out.
    ensure!(demo.stop()?.success());

    let (archive, back) = (folder.path().join("archive"), folder.path().join("back"));
    let [archive, back_name] = [&archive, &back].map(|path| path.display().to_string());
    let restore = ["store", "restore", "--from", &archive, "--to", &moment, &back_name];
    let restored = process::run(&restore, "")?;
    ensure!(restored.status.success() && restored.stderr.is_empty(), "{restored:?}");
    let said = String::from_utf8(restored.stdout)?;
    ensure!(said.ends_with(&format!(" is in {back_name}\n")) && !said.contains("gap"), "{said}");
    let again = process::run(&restore, "")?;
    ensure!(again.status.code() == Some(1), "{again:?}");
    std::fs::remove_dir_all(data.join("store"))?;
    std::fs::rename(&back, data.join("store"))?;
    printed(&data, &["check"])?;
    ensure!(figure(&data, "messages")? == messages);
    let demo = Demo::start(&data)?;
    ensure!(demo.imap_as(COMUNE)?.messages("INBOX")?.len() == 3);
    send(&demo, 5..6)?;
    ensure!(demo.stop()?.success());
    Ok(())
}
