//! A client's half of SCRAM-SHA-256, with channel binding or without: RFC 5802 §3, RFC 7677 §3.

use anyhow::{Context, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// What a server answers to a message of the client's.
pub enum Said {
    /// It wants another: what it said, still in base64.
    Challenge(String),
    /// It has decided.
    End(String),
}

/// Signs in as `user`, with this header of channel binding and these octets behind it: whatever `say` has
/// sent, in base64, it answers with what the server said. How it ended.
///
/// # Errors
///
/// When the server says what is none, or does not know the password.
pub fn sign_in(
    (user, password): (&str, &str),
    header: &str,
    bound: &[u8],
    mut say: impl FnMut(&str) -> anyhow::Result<Said>,
) -> anyhow::Result<String> {
    let hmac = |key: &[u8], text: &[u8]| -> anyhow::Result<Vec<u8>> {
        let key = openssl::pkey::PKey::hmac(key)?;
        let mut signer = openssl::sign::Signer::new(openssl::hash::MessageDigest::sha256(), &key)?;
        Ok(signer.sign_oneshot_to_vec(text)?)
    };
    let first = format!("n={user},r=fyko+d2lbbFgONRv9qkxdawL");
    let challenge = match say(&STANDARD.encode(format!("{header}{first}")))? {
        Said::Challenge(challenge) => String::from_utf8(STANDARD.decode(challenge)?)?,
        Said::End(reply) => return Ok(reply),
    };
    let part = |name: &str| {
        challenge.split(',').find_map(|part| part.strip_prefix(name)).context("a part is missing")
    };
    let (salt, rounds) = (STANDARD.decode(part("s=")?)?, part("i=")?.parse()?);
    let mut salted = [0; 32];
    let sha256 = openssl::hash::MessageDigest::sha256();
    openssl::pkcs5::pbkdf2_hmac(password.as_bytes(), &salt, rounds, sha256, &mut salted)?;
    let binding = STANDARD.encode([header.as_bytes(), bound].concat());
    let without_proof = format!("c={binding},r={}", part("r=")?);
    let signed = format!("{first},{challenge},{without_proof}");
    let key = hmac(&salted, b"Client Key")?;
    let signature = hmac(&openssl::sha::sha256(&key), signed.as_bytes())?;
    let proof: Vec<u8> = key.iter().zip(&signature).map(|(key, signed)| key ^ signed).collect();
    let last = format!("{without_proof},p={}", STANDARD.encode(proof));
    let end = match say(&STANDARD.encode(last))? {
        Said::Challenge(end) => end,
        Said::End(reply) => return Ok(reply),
    };
    let server = hmac(&hmac(&salted, b"Server Key")?, signed.as_bytes())?;
    let expected = format!("v={}", STANDARD.encode(server));
    ensure!(STANDARD.decode(end)? == expected.as_bytes(), "the server does not know the password");
    match say("")? {
        Said::End(reply) => Ok(reply),
        Said::Challenge(more) => anyhow::bail!("the server goes on: {more}"),
    }
}
