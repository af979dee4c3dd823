//! What it costs to have every message scanned by clamd, and to have the key in a device: certified
//! messages a second with each, as a part of those without, in one run on the same machine.
//!
//! A round without either stands before and after each of the others, so that a machine that slows down
//! meanwhile is seen. clamd has one signature of its own: what a real database costs is clamd's own time,
//! which `clamdscan` tells. The device is SoftHSM, which signs on the same cores: its own ceiling is
//! measured too.
//!
//! `BENCH_MESSAGES`, `BENCH_CONNECTIONS` and `BENCH_OCTETS` change the load of each round.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use benches::throughput::{self, Load, SIGNATURES_EACH, counted};
use benches::{say, setting};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, ObjectClass};
use cryptoki::session::UserType;
use cryptoki::types::AuthPin;
use scenarios::Demo;
use scenarios::demo::free_port_base;
use scenarios::peers::{self, Clamd};
use scenarios::tools::{run, tool};

const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
const PIN: &str = "1234";
/// Set: this process only tells what the device signs.
const DEVICE_ONLY: &str = "BENCH_DEVICE_ONLY";

fn main() -> anyhow::Result<()> {
    if std::env::var_os(DEVICE_ONLY).is_some() {
        writeln!(std::io::stdout(), "{}", count_signatures_of_device()?)?;
        return Ok(());
    }
    let load = Load::of(setting("BENCH_MESSAGES", 2000));
    let folder = tempfile::tempdir()?;
    let root = folder.path();
    let data = root.join("demo");
    let base = free_port_base()?;
    ensure!(Demo::start_with(&data, base, &[])?.stop()?.success(), "the demo did not stop");
    let config = data.join("ceralacca.toml");
    let plain = std::fs::read_to_string(&config)?;
    let eicar = format!("Prova.Eicar:0:*:{}\n", peers::hex(&peers::eicar()));
    let clamd = Clamd::start(root, &[("prova.ndb", eicar)])?;
    let scanned = format!("{plain}\n[antivirus]\nclamd = \"{}\"\n", clamd.place());
    let uri = token(root, &data.join("signing.key"))?;
    let with_device = format!("{plain}\n[signing]\nkey = \"{uri}\"\n");
    let softhsm_conf = root.join("softhsm2.conf");
    let env = [("SOFTHSM2_CONF", softhsm_conf.to_str().context("a path that is no text")?)];

    let key = std::fs::read(data.join("signing.key"))?;
    let of_file = throughput::signatures_a_second(&key)?;
    let round = |text: &str| -> anyhow::Result<f64> {
        std::fs::write(&config, text)?;
        let demo = Demo::start_with(&data, base, &env)?;
        let rate = throughput::certified_a_second(&demo, &load)?.certified;
        ensure!(demo.stop()?.success(), "the demo did not stop");
        Ok(rate)
    };
    let rates = [&plain, &scanned, &plain, &with_device, &plain].map(|text| round(text));
    let [first, clamd_on, second, device, third] = rates;
    let (first, clamd_on, second, device, third) = (first?, clamd_on?, second?, device?, third?);
    let of_device = signatures_of_device(root)?;

    say("messages, octets each, connections, in each round", &load);
    say("without, three times", format!("{first:.0}, {second:.0}, {third:.0}"));
    say("every message scanned twice by clamd", format!("{clamd_on:.0}"));
    say("  as a part of those without", format!("{:.2}", clamd_on / f64::midpoint(first, second)));
    say("the key in a device", format!("{device:.0}"));
    say("  as a part of those without", format!("{:.2}", device / f64::midpoint(second, third)));
    let signed = format!("{of_file:.0}, {of_device:.0}");
    say("signatures a second, all cores: of the file, of the device", signed);
    let of_ceilings = [second * SIGNATURES_EACH / of_file, device * SIGNATURES_EACH / of_device];
    let [file, device] = of_ceilings.map(|ratio| format!("{ratio:.2}"));
    say("ratio to the ceiling of each", format!("{file}, {device}"));
    Ok(())
}

/// SoftHSM's own command, on the tokens of this folder.
fn softhsm(root: &Path, arguments: &[&str]) -> anyhow::Result<()> {
    let mut util = tool("softhsm2-util", "softhsm2")?;
    util.env("SOFTHSM2_CONF", root.join("softhsm2.conf")).args(arguments);
    run(&mut util)?.ok()?;
    Ok(())
}

/// A token that holds this key; how the configuration names it.
fn token(root: &Path, key: &Path) -> anyhow::Result<String> {
    std::fs::create_dir(root.join("tokens"))?;
    let settings = format!("directories.tokendir = {}\n", root.join("tokens").display());
    std::fs::write(root.join("softhsm2.conf"), settings)?;
    let pin_file = root.join("pin");
    std::fs::write(&pin_file, format!("{PIN}\n"))?;
    let key = key.to_str().context("a path that is no text")?;
    softhsm(
        root,
        &["--init-token", "--free", "--label", "Prova", "--so-pin", "4321", "--pin", PIN],
    )?;
    let import = ["--import", key, "--token", "Prova", "--label", "firma", "--id", "01"];
    softhsm(root, &[&import[..], &["--pin", PIN]].concat())?;
    let pin = pin_file.display();
    Ok(format!("pkcs11:token=Prova;object=firma?module-path={MODULE}&pin-source={pin}"))
}

/// What the cores sign with the key in that token when they do nothing else: told by this same program as
/// another process, for SoftHSM reads its settings from the environment.
fn signatures_of_device(root: &Path) -> anyhow::Result<f64> {
    let mut again = Command::new(std::env::current_exe()?);
    again.env("SOFTHSM2_CONF", root.join("softhsm2.conf")).env(DEVICE_ONLY, "1");
    let told = again.output()?;
    ensure!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    Ok(String::from_utf8(told.stdout)?.trim().parse()?)
}

fn count_signatures_of_device() -> anyhow::Result<f64> {
    let device = Pkcs11::new(MODULE)?;
    device.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))?;
    let slot = *device.get_slots_with_token()?.first().context("no token")?;
    let pin = AuthPin::new(PIN.to_owned().into());
    counted(|| {
        let session = device.open_ro_session(slot)?;
        // Sessions of one program sign in together: all but the first hear so.
        let _ = session.login(UserType::User, Some(&pin));
        let wanted = [Attribute::Class(ObjectClass::PRIVATE_KEY)];
        let key = *session.find_objects(&wanted)?.first().context("no key")?;
        Ok(move || session.sign(&Mechanism::Sha256RsaPkcs, key, &[7; 150]).is_ok())
    })
}
