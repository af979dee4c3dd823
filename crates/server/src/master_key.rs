//! The master key of a store that is encrypted at rest: in a file, or in a device.
//!
//! A file has 32 octets, as they are, in hex or in base64, and is readable by its user alone. In a
//! device it is an AES key of 256 bits, named by a URI as the signing key is: then the device's
//! library is loaded by a process of its own (`ceralacca master-key`), which lives as long as one
//! question takes, and never by the process that talks to strangers. Asked is at start only: for the
//! store's own keys, which lie under it.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use store::embedded::{KEY_OCTETS, KnownKey, MasterKey, MasterKeys, SecretKey};

use crate::config::Config;
use crate::signer::device::{DeviceKey, MasterCipher};
use crate::signer::device_uri;

/// Octets of a file with a key at most: base64 with its line end, and room for a careless space.
const FILE_OCTETS_MAX: u64 = 128;
/// Octets of a question to the device's process, and of its answer, at most.
const QUESTION_OCTETS_MAX: u64 = 1024;

/// The master keys that the configuration names.
///
/// # Errors
///
/// When a file cannot be read or holds no key: it is named.
pub(crate) fn load(config: &Config) -> anyhow::Result<MasterKeys> {
    let one = |key: &Path| -> anyhow::Result<Arc<dyn MasterKey>> {
        Ok(match device_uri(key) {
            Some(uri) => Arc::new(InDevice { uri: uri.to_owned() }),
            None => Arc::new(KnownKey::new(&read(key)?)),
        })
    };
    let current = config.storing.key.as_deref().map(one).transpose()?;
    let earlier = config.storing.earlier_keys.iter().map(|key| one(key));
    Ok(MasterKeys { current, earlier: earlier.collect::<Result<_, _>>()? })
}

fn read(file: &Path) -> anyhow::Result<SecretKey> {
    let name = file.display();
    let make = format!(
        "make one with `head -c 32 /dev/urandom > {name}; chmod 600 {name}`, and keep a copy \
         elsewhere: without it nothing can be read"
    );
    let about = match std::fs::metadata(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            bail!("the store's key {name} is not there: {make}")
        }
        about => about.with_context(|| format!("the store's key {name} cannot be read"))?,
    };
    ensure!(
        about.permissions().mode() & 0o077 == 0,
        "the store's key {name} can be read by others: `chmod 600 {name}`"
    );
    ensure!(about.len() <= FILE_OCTETS_MAX, "{name} is larger than any key of 32 octets: {make}");
    let octets =
        std::fs::read(file).with_context(|| format!("the store's key {name} cannot be read"))?;
    parse(&octets).with_context(|| format!("{name} holds no key of 32 octets: {make}"))
}

/// 32 octets as they are, or written in hex or in base64.
fn parse(octets: &[u8]) -> Option<SecretKey> {
    if let Ok(key) = octets.try_into() {
        return Some(SecretKey(key));
    }
    let text = octets.trim_ascii();
    let known: Vec<u8> = if text.len() == 2 * KEY_OCTETS {
        let digit = |octet: u8| char::from(octet).to_digit(16);
        let pair = |pair: &[u8]| u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok();
        text.chunks_exact(2).map(pair).collect::<Option<_>>()?
    } else {
        STANDARD.decode(text).ok()?
    };
    known.try_into().ok().map(SecretKey)
}

/// What is asked of the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ask {
    Conceal,
    Reveal,
}

/// A master key in a device, asked through a process of its own.
struct InDevice {
    uri: String,
}

impl InDevice {
    fn ask(&self, ask: Ask, octets: &[u8]) -> anyhow::Result<Vec<u8>> {
        let program = std::env::current_exe().context("the program cannot find itself")?;
        let mut child = Command::new(&program)
            .args(["master-key", "--key", &self.uri])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("{} cannot be started", program.display()))?;
        if let Some(mut input) = child.stdin.take() {
            let word = if ask == Ask::Conceal { b'c' } else { b'r' };
            // When it has ended already, it says why.
            let _ = input.write_all(&[&[word], octets].concat());
        }
        let output = child.wait_with_output()?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{}", said.trim().strip_prefix("ceralacca: ").unwrap_or(said.trim()))
    }
}

impl MasterKey for InDevice {
    fn name(&self) -> String {
        DeviceKey::parse(&self.uri).map_or_else(|_| "device".to_owned(), |key| key.name())
    }

    fn conceal(&self, key: &SecretKey) -> Result<Vec<u8>, String> {
        self.ask(Ask::Conceal, &key.0).map_err(|error| format!("{error:#}"))
    }

    fn reveal(&self, concealed: &[u8]) -> Result<SecretKey, String> {
        let octets = self.ask(Ask::Reveal, concealed).map_err(|error| format!("{error:#}"))?;
        octets.try_into().map(SecretKey).map_err(|_| "the device gives no key back".to_owned())
    }
}

/// The process that asks the device: one question from standard input, its answer to standard output.
///
/// # Errors
///
/// When the device cannot be used, or does not do it.
pub(crate) fn run_child(key: &Path) -> anyhow::Result<()> {
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .context("the process cannot protect its memory")?;
    let uri = device_uri(key).context("this is no key in a device")?;
    let cipher = MasterCipher::open(&DeviceKey::parse(uri).map_err(anyhow::Error::msg)?)?;
    let mut question = Vec::new();
    std::io::stdin().lock().take(QUESTION_OCTETS_MAX).read_to_end(&mut question)?;
    let answer = match question.split_first() {
        Some((b'c', octets)) => cipher.conceal(octets)?,
        Some((b'r', octets)) => cipher.reveal(octets)?,
        _ => bail!("nothing is asked"),
    };
    Ok(std::io::stdout().lock().write_all(&answer)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_is_or_as_it_is_written() {
        let key = SecretKey(std::array::from_fn(|at| at as u8 * 7));
        let hex: String = key.0.iter().map(|octet| format!("{octet:02X}")).collect();
        let base64 = STANDARD.encode(key.0);
        for form in [key.0.to_vec(), hex.clone().into(), (hex.clone() + "\n").into()] {
            assert!(parse(&form).is_some_and(|read| read == key));
        }
        assert!(parse((base64 + "\r\n").as_bytes()).is_some_and(|read| read == key));
        let bad: [&[u8]; 5] = [b"", &[7; 31], &[7; 33], &hex.as_bytes()[..62], &[b'g'; 64]];
        assert!(bad.iter().all(|bad| parse(bad).is_none()));
    }

    #[test]
    fn a_file_that_is_no_key_is_refused_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("store.key");
        let refused = || read(&file).unwrap_err().to_string();
        assert!(refused().contains("is not there: make one with `head -c 32 /dev/urandom > "));
        std::fs::write(&file, [7; 32]).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(refused().contains("can be read by others: `chmod 600 "));
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(read(&file).unwrap(), SecretKey([7; 32]));
        std::fs::write(&file, [7; 40]).unwrap();
        assert!(refused().contains("holds no key of 32 octets"));
        std::fs::write(&file, [7; 400]).unwrap();
        assert!(refused().contains("is larger than any key"));
    }
}
