//! A key in a device: PKCS#11, named by a URI of RFC 7512 (PEC-SIG-06).
//!
//! `pkcs11:token=Alfa;object=firma?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=/etc/...`:
//! the token and the private key by their labels, the device's library, and the file that has the
//! PIN, which is in no argument and no environment. The library is loaded by the signing process, and
//! by commands that sign while no server runs; never by the process that talks to strangers.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, bail};
use crypto::signer::{SignError, Signer};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::{Attribute, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;

/// What such a URI begins with.
pub(crate) const SCHEME: &str = "pkcs11:";
/// Octets of a PIN at most.
const PIN_OCTETS_MAX: u64 = 256;

/// Where a key in a device is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeviceKey {
    /// The label of the token.
    token: String,
    /// The label of the private key.
    object: String,
    /// The device's library.
    module: PathBuf,
    /// The file with the PIN.
    pub(crate) pin_file: PathBuf,
}

impl DeviceKey {
    /// Reads a URI (RFC 7512 §2.3): `token`, `object`, `module-path` and `pin-source` are needed,
    /// others are refused rather than overlooked.
    ///
    /// # Errors
    ///
    /// A phrase that says what is wrong with it.
    pub(crate) fn parse(uri: &str) -> Result<Self, String> {
        let rest = uri.strip_prefix(SCHEME).ok_or("it does not begin with pkcs11:")?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let attributes = path.split(';').chain(query.split('&')).filter(|part| !part.is_empty());
        let (mut token, mut object, mut module, mut pin_file) = (None, None, None, None);
        for attribute in attributes {
            let (name, value) =
                attribute.split_once('=').ok_or_else(|| format!("`{attribute}` has no value"))?;
            let value = decode(value).ok_or_else(|| format!("`{value}` is badly encoded"))?;
            let place = match name {
                "token" => &mut token,
                "object" => &mut object,
                "module-path" => &mut module,
                "pin-source" => &mut pin_file,
                "type" if value == "private" => continue,
                "pin-value" => return Err("a PIN does not belong here: write pin-source".into()),
                other => return Err(format!("`{other}` is not looked at")),
            };
            if place.replace(value).is_some() {
                return Err(format!("`{name}` is there twice"));
            }
        }
        let need = |value: Option<String>, name: &str| {
            value.filter(|value| !value.is_empty()).ok_or_else(|| format!("{name} is missing"))
        };
        let path = |text: String| {
            let path = PathBuf::from(text.strip_prefix("file:").unwrap_or(&text));
            match path.is_absolute() {
                true => Ok(path),
                false => Err(format!("{} is no absolute path", path.display())),
            }
        };
        Ok(Self {
            token: need(token, "token")?,
            object: need(object, "object")?,
            module: path(need(module, "module-path")?)?,
            pin_file: path(need(pin_file, "pin-source")?)?,
        })
    }
}

impl DeviceKey {
    /// Which key it is, without what a change of the device's library or PIN would change.
    pub(crate) fn name(&self) -> String {
        format!("token {}, key {}", self.token, self.object)
    }
}

/// Undoes percent-encoding, RFC 3986 §2.1.
fn decode(text: &str) -> Option<String> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        octets.push(match octet {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                let digits = std::str::from_utf8(&digits).ok()?;
                if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                    return None;
                }
                u8::from_str_radix(digits, 16).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(octets).ok().filter(|text| !text.chars().any(char::is_control))
}

/// Signs in the device. Each thread that signs has a session of its own, kept for the next.
pub(crate) struct DeviceSigner {
    device: Pkcs11,
    slot: Slot,
    pin: AuthPin,
    object: String,
    idle: Mutex<Vec<(Session, ObjectHandle)>>,
}

impl DeviceSigner {
    /// Opens the device, signs in, and finds the key.
    ///
    /// # Errors
    ///
    /// What is not there or does not work.
    pub(crate) fn open(key: &DeviceKey) -> anyhow::Result<Self> {
        let (device, slot, pin) = open(key)?;
        let signer = Self { device, slot, pin, object: key.object.clone(), idle: Mutex::default() };
        let first = signer.session()?;
        signer.keep(first);
        Ok(signer)
    }

    /// A session that has signed in, and the key in it.
    fn session(&self) -> anyhow::Result<(Session, ObjectHandle)> {
        let session =
            self.device.open_ro_session(self.slot).context("the device opens no session")?;
        match session.login(UserType::User, Some(&self.pin)) {
            // Sessions of one program sign in together.
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {}
            Err(error) => return Err(error).context("the device does not take the PIN"),
        }
        let wanted = [
            Attribute::Class(ObjectClass::PRIVATE_KEY),
            Attribute::KeyType(KeyType::RSA),
            Attribute::Label(self.object.as_bytes().to_vec()),
        ];
        let keys = session.find_objects(&wanted).context("the device finds no keys")?;
        match keys[..] {
            [key] => Ok((session, key)),
            [] => bail!("the token holds no private RSA key called {}", self.object),
            _ => bail!("the token holds several private RSA keys called {}", self.object),
        }
    }

    fn keep(&self, session: (Session, ObjectHandle)) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(session);
    }
}

impl Signer for DeviceSigner {
    fn sign(&self, octets: &[u8]) -> Result<Vec<u8>, SignError> {
        let unavailable = |error: &dyn std::fmt::Display| SignError::Unavailable(error.to_string());
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some((session, key)) = idle
            && let Ok(signature) = session.sign(&Mechanism::Sha256RsaPkcs, key, octets)
        {
            self.keep((session, key));
            return Ok(signature);
        }
        // None was idle, or the device was reset and the session is gone with it: another, once.
        let (session, key) = self.session().map_err(|error| unavailable(&format!("{error:#}")))?;
        let signature = session
            .sign(&Mechanism::Sha256RsaPkcs, key, octets)
            .map_err(|error| unavailable(&error))?;
        self.keep((session, key));
        Ok(signature)
    }
}

/// Loads the device's library, and finds the token and its PIN.
fn open(key: &DeviceKey) -> anyhow::Result<(Pkcs11, Slot, AuthPin)> {
    let module = key.module.display();
    let device = Pkcs11::new(&key.module)
        .with_context(|| format!("the device's library {module} cannot be loaded"))?;
    device
        .initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))
        .with_context(|| format!("{module} does not begin"))?;
    let mut found = None;
    for slot in device.get_slots_with_token().context("the device tells no slots")? {
        let token = device.get_token_info(slot).context("a token tells nothing")?;
        if token.label().trim_end() == key.token && found.replace(slot).is_some() {
            bail!("two tokens of {module} are called {}", key.token);
        }
    }
    let slot = found.with_context(|| format!("no token of {module} is called {}", key.token))?;
    let pin = read_pin(&key.pin_file)?;
    Ok((device, slot, pin))
}

/// Octets of the nonce and of the tag of AES-GCM.
const NONCE_OCTETS: usize = 12;
const TAG_BITS: u64 = 128;

/// Encrypts and decrypts with an AES key in the device: a store's keys lie under it. AES-GCM with a
/// nonce by chance: so few are ever encrypted that none comes twice (NIST SP 800-38D §8.3).
pub(crate) struct MasterCipher {
    session: Session,
    key: ObjectHandle,
    /// Held as long as the session.
    _device: Pkcs11,
}

impl MasterCipher {
    /// Opens the device, signs in, and finds the key.
    ///
    /// # Errors
    ///
    /// What is not there or does not work.
    pub(crate) fn open(key: &DeviceKey) -> anyhow::Result<Self> {
        let (device, slot, pin) = open(key)?;
        let session = device.open_ro_session(slot).context("the device opens no session")?;
        session.login(UserType::User, Some(&pin)).context("the device does not take the PIN")?;
        let wanted = [
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::AES),
            Attribute::Label(key.object.as_bytes().to_vec()),
        ];
        let keys = session.find_objects(&wanted).context("the device finds no keys")?;
        match keys[..] {
            [key] => Ok(Self { session, key, _device: device }),
            [] => bail!("the token holds no AES key called {}", key.object),
            _ => bail!("the token holds several AES keys called {}", key.object),
        }
    }

    /// Encrypts octets: nonce, what they became, tag.
    ///
    /// # Errors
    ///
    /// When the device does not.
    pub(crate) fn conceal(&self, octets: &[u8]) -> anyhow::Result<Vec<u8>> {
        let mut nonce = crypto::random::<NONCE_OCTETS>();
        let mut sealed = nonce.to_vec();
        let how = Mechanism::AesGcm(GcmParams::new(&mut nonce, &[], TAG_BITS.into())?);
        sealed.extend(
            self.session.encrypt(&how, self.key, octets).context("the device does not encrypt")?,
        );
        Ok(sealed)
    }

    /// Decrypts them.
    ///
    /// # Errors
    ///
    /// When the device does not, or they were encrypted under another key.
    pub(crate) fn reveal(&self, sealed: &[u8]) -> anyhow::Result<Vec<u8>> {
        let Some((nonce, rest)) = sealed.split_first_chunk::<NONCE_OCTETS>() else {
            bail!("this was not encrypted by the device");
        };
        let mut nonce = *nonce;
        let how = Mechanism::AesGcm(GcmParams::new(&mut nonce, &[], TAG_BITS.into())?);
        self.session
            .decrypt(&how, self.key, rest)
            .context("it lies under another key than the device's, or is damaged")
    }
}

/// The first line of the file.
fn read_pin(file: &Path) -> anyhow::Result<AuthPin> {
    let unreadable = || format!("the PIN {} cannot be read", file.display());
    if fs::metadata(file).with_context(unreadable)?.len() > PIN_OCTETS_MAX {
        bail!("{} is larger than any PIN", file.display());
    }
    let text = fs::read_to_string(file).with_context(unreadable)?;
    let pin = text.lines().next().unwrap_or_default();
    if pin.is_empty() {
        bail!("{} holds no PIN", file.display());
    }
    Ok(AuthPin::new(pin.to_owned().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_names_a_key_or_is_refused() {
        let key = DeviceKey::parse(
            "pkcs11:token=Alfa%20PEC;object=firma;type=private?module-path=/lib/p.so&\
             pin-source=file:/etc/pin",
        );
        let expected = DeviceKey {
            token: "Alfa PEC".to_owned(),
            object: "firma".to_owned(),
            module: "/lib/p.so".into(),
            pin_file: "/etc/pin".into(),
        };
        assert_eq!(key, Ok(expected));
        for (uri, why) in [
            ("signing.key", "it does not begin with pkcs11:"),
            ("pkcs11:", "token is missing"),
            ("pkcs11:token=a;object=b", "module-path is missing"),
            ("pkcs11:token=a;object=b?module-path=/m", "pin-source is missing"),
            ("pkcs11:token=a;object=b?module-path=m&pin-source=/p", "m is no absolute path"),
            ("pkcs11:token=a;token=b", "`token` is there twice"),
            ("pkcs11:token", "`token` has no value"),
            ("pkcs11:token=%2", "`%2` is badly encoded"),
            ("pkcs11:token=%+1", "`%+1` is badly encoded"),
            ("pkcs11:token=%0a", "`%0a` is badly encoded"),
            ("pkcs11:slot-id=1", "`slot-id` is not looked at"),
            ("pkcs11:token=a?pin-value=1234", "a PIN does not belong here: write pin-source"),
        ] {
            assert_eq!(DeviceKey::parse(uri), Err(why.to_owned()), "{uri}");
        }
    }
}
