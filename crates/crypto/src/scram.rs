//! SCRAM-SHA-256, the server's part: a proof of the password without the password.
//!
//! RFC 5802 (the exchange, §5; its grammar, §7), RFC 7677 (with SHA-256), RFC 9266 §2 (the
//! `tls-exporter` binding). A state is a type: from [`ScramServer`], which knows who wants to come
//! in, to [`ScramChallenge`], which knows whether they may. Base64 of SASL around the messages is
//! the protocols' own.
//!
//! Whoever has no account is led through the same exchange with keys that open nothing
//! ([`ScramKeys::unknown`]), the same each time, so that nothing tells who has one.

use std::num::NonZeroU32;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::random::random;

/// Past anything a client sends: two names of a mail address' length, nonces, and a binding.
pub const MESSAGE_OCTETS_MAX: usize = 4096;
/// RFC 7677 §3 asks for 4096 at least. The more, the less a stolen store is worth; but Cyrus SASL,
/// which mbsync and others log in with, refuses more than 65,536. The client computes it at each
/// login, the server once, when the password is set.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(50_000).unwrap();
/// What a stored secret is held to: RFC 7677 §3.
const ITERATIONS_MIN: u32 = 4096;

const HASH_OCTETS: usize = digest::SHA256_OUTPUT_LEN;

/// Why a client was not let in. All are the client's doing; what it is told is one and the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScramError {
    /// Past [`MESSAGE_OCTETS_MAX`].
    #[error("a SCRAM message is too long")]
    TooLong,
    /// Not the grammar of RFC 5802 §7.
    #[error("not a SCRAM message")]
    Malformed,
    /// A mandatory extension, of which RFC 5802 §5.1 defines none.
    #[error("a SCRAM extension that is not known")]
    Extension,
    /// Bound to another channel, or bound, or not bound, when it should not be.
    #[error("SCRAM channel binding does not agree")]
    ChannelBinding,
    /// Wants to act as another.
    #[error("the authorization identity is another's")]
    AuthorizationIdentity,
    /// Does not know the password.
    #[error("the SCRAM proof is wrong")]
    Proof,
}

/// What is kept of a password for SCRAM: RFC 5802 §3. Prints as `[redacted]`.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramKeys {
    salt: Vec<u8>,
    iterations: NonZeroU32,
    stored_key: [u8; HASH_OCTETS],
    server_key: [u8; HASH_OCTETS],
}

impl std::fmt::Debug for ScramKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ScramKeys([redacted])")
    }
}

impl ScramKeys {
    /// From a password that SASLprep has prepared.
    pub(crate) fn derive(password: &str, salt: &[u8]) -> Self {
        Self::derive_with(password, salt, ITERATIONS)
    }

    fn derive_with(password: &str, salt: &[u8], iterations: NonZeroU32) -> Self {
        let mut salted = [0; HASH_OCTETS];
        let algorithm = pbkdf2::PBKDF2_HMAC_SHA256;
        pbkdf2::derive(algorithm, iterations, salt, password.as_bytes(), &mut salted);
        Self {
            salt: salt.to_vec(),
            iterations,
            stored_key: sha256(&mac(&salted, &[b"Client Key"])),
            server_key: mac(&salted, &[b"Server Key"]),
        }
    }

    /// Keys for a user who is not there. They open nothing, and are the same each time for the
    /// same `secret` (the server's, 32 random octets kept between runs) and name.
    #[must_use]
    pub fn unknown(secret: &[u8], user: &str) -> Self {
        let part = |label: &[u8]| mac(secret, &[label, user.as_bytes()]);
        Self {
            salt: part(b"salt\0")[..16].to_vec(),
            iterations: ITERATIONS,
            stored_key: part(b"stored\0"),
            server_key: part(b"server\0"),
        }
    }

    /// For the store: `SCRAM-SHA-256$50000:salt$stored:server`, as PostgreSQL keeps them too.
    #[must_use]
    pub fn encode(&self) -> String {
        format!(
            "SCRAM-SHA-256${}:{}${}:{}",
            self.iterations,
            BASE64.encode(&self.salt),
            BASE64.encode(self.stored_key),
            BASE64.encode(self.server_key),
        )
    }

    /// From the store. Nothing when it is not such a string.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (costs, keys) = text.strip_prefix("SCRAM-SHA-256$")?.split_once('$')?;
        let (iterations, salt) = costs.split_once(':')?;
        let (stored_key, server_key) = keys.split_once(':')?;
        let iterations: NonZeroU32 = iterations.parse().ok()?;
        let salt = BASE64.decode(salt).ok()?;
        if iterations.get() < ITERATIONS_MIN || salt.is_empty() {
            return None;
        }
        let key = |text| BASE64.decode(text).ok()?.try_into().ok();
        Some(Self { salt, iterations, stored_key: key(stored_key)?, server_key: key(server_key)? })
    }
}

/// What the server offered, and the client chose, of channel binding: RFC 5802 §6.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChannelBinding {
    /// SCRAM-SHA-256-PLUS was not offered.
    NotOffered,
    /// It was, and the client chose SCRAM-SHA-256.
    Declined,
    /// The client chose SCRAM-SHA-256-PLUS; this is the connection's `tls-exporter` value.
    Chosen(Vec<u8>),
}

/// After the client's first message: who it says it is.
#[derive(Debug)]
pub struct ScramServer {
    user: String,
    client_first_bare: String,
    client_nonce: String,
    /// What `c=` must decode to: the GS2 header, and the binding after it.
    binding: Vec<u8>,
}

impl ScramServer {
    /// Reads the client's first message, `n,,n=user,r=nonce`.
    ///
    /// # Errors
    ///
    /// When it is not one, or not one that can be gone on with.
    pub fn start(client_first: &[u8], binding: ChannelBinding) -> Result<Self, ScramError> {
        let message = text(client_first)?;
        let mut parts = message.splitn(3, ',');
        let flag = parts.next().ok_or(ScramError::Malformed)?;
        let authzid = parts.next().ok_or(ScramError::Malformed)?;
        let bare = parts.next().ok_or(ScramError::Malformed)?;
        let mut bound = message.as_bytes()[..message.len() - bare.len()].to_vec();
        match (flag, binding) {
            ("n", ChannelBinding::NotOffered | ChannelBinding::Declined)
            | ("y", ChannelBinding::NotOffered) => {}
            ("p=tls-exporter", ChannelBinding::Chosen(exporter)) => bound.extend(exporter),
            // A client that could bind and saw no offer, when there was one, was deceived: §6.
            ("n" | "y", _) => return Err(ScramError::ChannelBinding),
            (other, _) if other.starts_with("p=") => return Err(ScramError::ChannelBinding),
            _ => return Err(ScramError::Malformed),
        }

        let mut attributes = bare.split(',');
        let name = attributes.next().ok_or(ScramError::Malformed)?;
        if name.starts_with("m=") {
            return Err(ScramError::Extension);
        }
        let user = name.strip_prefix("n=").and_then(saslname).ok_or(ScramError::Malformed)?;
        let nonce = attributes.next().and_then(|nonce| nonce.strip_prefix("r="));
        let client_nonce = nonce.filter(|nonce| is_nonce(nonce)).ok_or(ScramError::Malformed)?;
        if !attributes.all(is_extension) {
            return Err(ScramError::Malformed);
        }
        match authzid.strip_prefix("a=").map(saslname) {
            None if authzid.is_empty() => {}
            Some(Some(identity)) if identity == user => {}
            Some(Some(_)) => return Err(ScramError::AuthorizationIdentity),
            _ => return Err(ScramError::Malformed),
        }
        Ok(Self {
            user,
            client_first_bare: bare.to_owned(),
            client_nonce: client_nonce.to_owned(),
            binding: bound,
        })
    }

    /// Who wants to come in, prepared by SASLprep: to look up keys for, or, if there are none,
    /// to take [`ScramKeys::unknown`].
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The server's first message, `r=nonce,s=salt,i=iterations`, and what waits for the answer.
    #[must_use]
    pub fn challenge(self, keys: ScramKeys) -> (ScramChallenge, Vec<u8>) {
        self.challenge_with(keys, &BASE64.encode(random::<18>()))
    }

    fn challenge_with(self, keys: ScramKeys, server_nonce: &str) -> (ScramChallenge, Vec<u8>) {
        let nonce = format!("{}{server_nonce}", self.client_nonce);
        let salt = BASE64.encode(&keys.salt);
        let server_first = format!("r={nonce},s={salt},i={}", keys.iterations);
        let sent = server_first.clone().into_bytes();
        let so_far = format!("{},{server_first},", self.client_first_bare);
        (ScramChallenge { keys, nonce, so_far, binding: self.binding }, sent)
    }
}

/// After the server's first message: waits for the proof.
#[derive(Debug)]
pub struct ScramChallenge {
    keys: ScramKeys,
    nonce: String,
    /// `client-first-message-bare "," server-first-message ","`, where AuthMessage begins.
    so_far: String,
    binding: Vec<u8>,
}

impl ScramChallenge {
    /// Reads the client's last message, `c=binding,r=nonce,p=proof`. The server's last message,
    /// `v=signature`, is the answer: to hold it is to know that the client has the password.
    ///
    /// # Errors
    ///
    /// When it is no such message, or not of this exchange, or the proof is wrong.
    pub fn finish(self, client_final: &[u8]) -> Result<Vec<u8>, ScramError> {
        let message = text(client_final)?;
        let (without_proof, proof) = message.rsplit_once(",p=").ok_or(ScramError::Malformed)?;
        let mut attributes = without_proof.split(',');
        let binding = attributes.next().and_then(|binding| binding.strip_prefix("c="));
        let binding = binding.and_then(|binding| BASE64.decode(binding).ok());
        let binding = binding.ok_or(ScramError::Malformed)?;
        let nonce = attributes.next().and_then(|nonce| nonce.strip_prefix("r="));
        let nonce = nonce.ok_or(ScramError::Malformed)?;
        if !attributes.all(is_extension) {
            return Err(ScramError::Malformed);
        }
        let proof: [u8; HASH_OCTETS] = BASE64
            .decode(proof)
            .ok()
            .and_then(|proof| proof.try_into().ok())
            .ok_or(ScramError::Malformed)?;
        if binding != self.binding {
            return Err(ScramError::ChannelBinding);
        }
        if nonce != self.nonce {
            return Err(ScramError::Proof);
        }

        let signature =
            mac(&self.keys.stored_key, &[self.so_far.as_bytes(), without_proof.as_bytes()]);
        let mut client_key = proof;
        for (octet, mask) in client_key.iter_mut().zip(signature) {
            *octet ^= mask;
        }
        verify_slices_are_equal(&sha256(&client_key), &self.keys.stored_key)
            .map_err(|_| ScramError::Proof)?;
        let answer =
            mac(&self.keys.server_key, &[self.so_far.as_bytes(), without_proof.as_bytes()]);
        Ok(format!("v={}", BASE64.encode(answer)).into_bytes())
    }
}

fn text(message: &[u8]) -> Result<&str, ScramError> {
    if message.len() > MESSAGE_OCTETS_MAX {
        return Err(ScramError::TooLong);
    }
    std::str::from_utf8(message)
        .ok()
        .filter(|text| !text.contains('\0'))
        .ok_or(ScramError::Malformed)
}

/// `saslname`: `=2C` is a comma, `=3D` an equals sign, and no other `=` may be there.
fn saslname(name: &str) -> Option<String> {
    let mut parts = name.split('=');
    let mut plain = parts.next()?.to_owned();
    for part in parts {
        let (character, rest) = match (part.strip_prefix("2C"), part.strip_prefix("3D")) {
            (Some(rest), _) => (',', rest),
            (_, Some(rest)) => ('=', rest),
            _ => return None,
        };
        plain.push(character);
        plain.push_str(rest);
    }
    let prepared = stringprep::saslprep(&plain).ok()?;
    Some(prepared.into_owned()).filter(|name| !name.is_empty())
}

/// `printable`: ASCII that can be seen, without the comma.
fn is_nonce(nonce: &str) -> bool {
    !nonce.is_empty() && nonce.bytes().all(|octet| octet.is_ascii_graphic() && octet != b',')
}

/// `attr-val`: a letter, an equals sign and something. Optional ones may be ignored, §5.1.
fn is_extension(attribute: &str) -> bool {
    matches!(attribute.as_bytes(), [letter, b'=', _, ..] if letter.is_ascii_alphabetic())
}

fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; HASH_OCTETS] {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    for part in parts {
        context.update(part);
    }
    let mut octets = [0; HASH_OCTETS];
    octets.copy_from_slice(context.sign().as_ref());
    octets
}

fn sha256(octets: &[u8]) -> [u8; HASH_OCTETS] {
    openssl::sha::sha256(octets)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::{
        BASE64, ChannelBinding, MESSAGE_OCTETS_MAX, ScramChallenge, ScramError, ScramKeys,
        ScramServer, mac, sha256,
    };
    use base64::Engine as _;

    const NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    const FIRST: &[u8] = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";

    fn keys() -> ScramKeys {
        let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        ScramKeys::derive_with("pencil", &salt, NonZeroU32::new(4096).unwrap())
    }

    fn challenge(first: &[u8], binding: ChannelBinding) -> (ScramChallenge, String) {
        let server = ScramServer::start(first, binding).unwrap();
        let (challenge, sent) = server.challenge_with(keys(), NONCE);
        (challenge, String::from_utf8(sent).unwrap())
    }

    /// What a client with the right password answers.
    fn answer(first_bare: &str, server_first: &str, binding: &[u8]) -> Vec<u8> {
        let nonce = server_first[2..].split(',').next().unwrap();
        let without_proof = format!("c={},r={nonce}", BASE64.encode(binding));
        let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let mut salted = [0; 32];
        let iterations = NonZeroU32::new(4096).unwrap();
        let algorithm = aws_lc_rs::pbkdf2::PBKDF2_HMAC_SHA256;
        aws_lc_rs::pbkdf2::derive(algorithm, iterations, &salt, b"pencil", &mut salted);
        let client_key = mac(&salted, &[b"Client Key"]);
        let message = format!("{first_bare},{server_first},{without_proof}");
        let mut proof = mac(&sha256(&client_key), &[message.as_bytes()]);
        proof.iter_mut().zip(client_key).for_each(|(octet, mask)| *octet ^= mask);
        format!("{without_proof},p={}", BASE64.encode(proof)).into_bytes()
    }

    #[test]
    fn speaks_as_rfc_7677_section_3_shows() {
        let server = ScramServer::start(FIRST, ChannelBinding::NotOffered).unwrap();
        assert_eq!(server.user(), "user");
        let (challenge, sent) = server.challenge_with(keys(), NONCE);
        assert_eq!(
            sent,
            b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
              s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
        );
        let sent = challenge.finish(
            b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
              p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
        );
        assert_eq!(sent.unwrap(), b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    #[test]
    fn refuses_what_is_no_first_message() {
        use ScramError::{AuthorizationIdentity, ChannelBinding as Binding, Extension, Malformed};
        let cases: [(&[u8], ScramError); 27] = [
            (b"", Malformed),
            (b"n", Malformed),
            (b"n,", Malformed),
            (b"n,,", Malformed),
            (b",,n=user,r=x", Malformed),
            (b"N,,n=user,r=x", Malformed),
            (b"n,,n=user", Malformed),
            (b"n,,n=user,", Malformed),
            (b"n,,n=user,r=", Malformed),
            (b"n,,n=user,r=\x7f", Malformed),
            (b"n,,n=user,r=a b", Malformed),
            (b"n,,n=,r=x", Malformed),
            (b"n,,n=us=er,r=x", Malformed),
            (b"n,,n=user=,r=x", Malformed),
            (b"n,,n=user=2c,r=x", Malformed),
            (b"n,,n=us\0er,r=x", Malformed),
            (b"n,,n=us\xffer,r=x", Malformed),
            (b"n,,n=us\x07er,r=x", Malformed),
            (b"n,,n=user,r=x,", Malformed),
            (b"n,,n=user,r=x,y", Malformed),
            (b"n,,r=x,n=user", Malformed),
            (b"n,user,n=user,r=x", Malformed),
            (b"n,a=,n=user,r=x", Malformed),
            (b"n,a=root,n=user,r=x", AuthorizationIdentity),
            (b"n,,m=1,n=user,r=x", Extension),
            (b"p=tls-exporter,,n=user,r=x", Binding),
            (b"p=tls-unique,,n=user,r=x", Binding),
        ];
        for (message, error) in cases {
            let refused = ScramServer::start(message, ChannelBinding::NotOffered).unwrap_err();
            assert_eq!(refused, error, "{}", message.escape_ascii());
        }
    }

    #[test]
    fn reads_names_and_ignores_what_it_may() {
        for (message, user) in [
            (&b"y,,n=user,r=x"[..], "user"),
            (b"n,a=user,n=user,r=x", "user"),
            (b"n,a=a=2Cb=3D,n=a=2Cb=3D,r=x,z=optional", "a,b="),
            ("n,,n=I\u{ad}X,r=x".as_bytes(), "IX"), // RFC 4013 §3, example 1
        ] {
            let server = ScramServer::start(message, ChannelBinding::NotOffered).unwrap();
            assert_eq!(server.user(), user);
        }
    }

    #[test]
    fn refuses_what_is_no_last_message() {
        use ScramError::{ChannelBinding as Binding, Malformed, Proof};
        let (_, first) = challenge(FIRST, ChannelBinding::NotOffered);
        let good = answer("n=user,r=rOprNGfwEbeRWgbNEkqO", &first, b"n,,");
        let good = String::from_utf8(good).unwrap();
        let proof = good.split_once(",p=").unwrap().1;
        let nonce = first[2..].split(',').next().unwrap();
        let zeros = BASE64.encode([0; 32]);
        let cases: [(String, ScramError); 15] = [
            (String::new(), Malformed),
            ("c".into(), Malformed),
            ("c=biws,r".into(), Malformed),
            ("c=biws".into(), Malformed),
            (",p=".into(), Malformed),
            ("c=biws,r=,p=".into(), Malformed),
            (format!("c=,p={proof}"), Malformed),
            (format!("c=!,r={nonce},p={proof}"), Malformed),
            (format!("c=biws,p={proof}"), Malformed),
            (format!("c=biws,r={nonce},p={}", BASE64.encode([0; 31])), Malformed),
            (format!("c=biws,r={nonce},,p={proof}"), Malformed),
            (format!("c=eSws,r={nonce},p={proof}"), Binding), // y,,
            (format!("c=biws,r={nonce}x,p={proof}"), Proof),
            (format!("c=biws,r={nonce},p={zeros}"), Proof),
            (format!("c=biws,r={nonce},x=signed,p={proof}"), Proof),
        ];
        for (message, error) in cases {
            let (challenge, _) = challenge(FIRST, ChannelBinding::NotOffered);
            assert_eq!(challenge.finish(message.as_bytes()).unwrap_err(), error, "{message}");
        }
    }

    #[test]
    fn refuses_a_message_one_octet_too_long() {
        let name = "x".repeat(MESSAGE_OCTETS_MAX - b"n,,n=,r=x".len());
        let longest = format!("n,,n={name},r=x");
        assert!(ScramServer::start(longest.as_bytes(), ChannelBinding::NotOffered).is_ok());
        let longer = format!("n,,n={name}x,r=x");
        let refused = ScramServer::start(longer.as_bytes(), ChannelBinding::NotOffered);
        assert_eq!(refused.unwrap_err(), ScramError::TooLong);
        let (challenge, _) = challenge(FIRST, ChannelBinding::NotOffered);
        let longer = vec![b'x'; MESSAGE_OCTETS_MAX + 1];
        assert_eq!(challenge.finish(&longer).unwrap_err(), ScramError::TooLong);
    }

    #[test]
    fn binds_to_the_channel_that_it_is_told_of() {
        let chosen = || ChannelBinding::Chosen(b"exported".to_vec());
        let first = b"p=tls-exporter,,n=user,r=x";
        for (binding, outcome) in [
            (&b"p=tls-exporter,,exported"[..], Ok(())),
            (b"p=tls-exporter,,another", Err(ScramError::ChannelBinding)),
            (b"p=tls-exporter,,", Err(ScramError::ChannelBinding)),
        ] {
            let (challenge, sent) = challenge(first, chosen());
            let answer = answer("n=user,r=x", &sent, binding);
            assert_eq!(challenge.finish(&answer).map(drop), outcome);
        }
        // PLUS was chosen without a binding, or was offered to a client that says it was not.
        for (first, binding) in [
            (&b"n,,n=user,r=x"[..], chosen()),
            (b"y,,n=user,r=x", chosen()),
            (b"y,,n=user,r=x", ChannelBinding::Declined),
            (b"p=tls-exporter,,n=user,r=x", ChannelBinding::Declined),
        ] {
            let refused = ScramServer::start(first, binding).unwrap_err();
            assert_eq!(refused, ScramError::ChannelBinding);
        }
        assert!(ScramServer::start(b"n,,n=user,r=x", ChannelBinding::Declined).is_ok());
    }

    #[test]
    fn tells_nobody_who_has_an_account() {
        let known = keys();
        let unknown = ScramKeys::unknown(b"secret", "nobody");
        assert_eq!(unknown, ScramKeys::unknown(b"secret", "nobody"));
        for other in [ScramKeys::unknown(b"secret", "nobody2"), ScramKeys::unknown(b"s", "nobody")]
        {
            assert_ne!(unknown.salt, other.salt);
        }
        assert_eq!(unknown.salt.len(), known.salt.len());
        // Cyrus SASL's bound, see ITERATIONS.
        assert!((4096..=65_536).contains(&unknown.iterations.get()));
        assert_eq!(unknown.iterations, ScramKeys::derive("x", b"sixteen octets!!").iterations);
        let server = ScramServer::start(FIRST, ChannelBinding::NotOffered).unwrap();
        let (challenge, sent) = server.challenge(unknown);
        let sent = String::from_utf8(sent).unwrap();
        let answer = answer("n=user,r=rOprNGfwEbeRWgbNEkqO", &sent, b"n,,");
        assert_eq!(challenge.finish(&answer).unwrap_err(), ScramError::Proof);
    }

    #[test]
    fn keys_are_stored_and_read_back() {
        let text = keys().encode();
        assert!(text.starts_with("SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"), "{text}");
        assert_eq!(ScramKeys::parse(&text).unwrap(), keys());
        for broken in [
            String::new(),
            text.replace("$4096", "$4095"),
            text.replace("$4096", "$0"),
            text.replace("SHA-256", "SHA-1"),
            text.replace("W22ZaJ0SNY7soEsUEjb6gQ==", ""),
            text[..text.len() - 4].to_owned(),
        ] {
            assert!(ScramKeys::parse(&broken).is_none(), "{broken}");
        }
        assert_eq!(format!("{:?}", keys()), "ScramKeys([redacted])");
    }
}
