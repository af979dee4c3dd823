//! Makes the test authority and its certificates anew: `cargo run -p crypto --example make-certs`.
//!
//! Writes into the folder `certs` at the root of the project, over what is there. Keys and serial
//! numbers are new each time; names and dates are not, because tests rely on them.

use std::path::Path;

use crypto::{Authority, Certificate, KeyPem};
use jiff::Timestamp;

/// To the first days of 2046, with the five leap days between.
const DAYS: u32 = 20 * 365 + 5;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../certs");
    let at: Timestamp = "2026-01-01T00:00:00Z".parse()?;
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text);
    let pair = |name: &str, (certificate, key): (Certificate, KeyPem)| {
        write(&format!("{name}.pem"), &certificate.to_pem())?;
        write(&format!("{name}.key"), key.as_str())
    };

    let ca = Authority::new("Autorita di prova", at)?
        .valid_for(DAYS)
        .crl_at("http://ca.example/crl.der");
    let (certificate, key) = ca.to_pem()?;
    write("ca.pem", &certificate)?;
    write("ca.key", key.as_str())?;
    pair("provider-a", ca.issue_provider("Gestore A S.p.A.", "posta-certificata@a.example", at)?)?;
    pair("provider-b", ca.issue_provider("Gestore B S.r.l.", "posta-certificata@b.example", at)?)?;
    let revoked = ca.issue_provider("Gestore R S.r.l.", "posta-certificata@r.example", at)?;
    write("crl.pem", &ca.crl(&[&revoked.0.serial()?], at)?.to_pem())?;
    pair("revoked", revoked)?;
    let names = ["mail.a.example", "mail.b.example", "localhost"];
    let addresses = ["127.0.0.1".parse()?, "::1".parse()?];
    pair("tls", ca.issue_tls(&names, &addresses, at)?)?;

    let stranger = Authority::new("Autorita straniera", at)?.valid_for(DAYS);
    let (certificate, key) = stranger.to_pem()?;
    write("stranger-ca.pem", &certificate)?;
    write("stranger-ca.key", key.as_str())?;
    let provider = "posta-certificata@a.example";
    pair("stranger", stranger.issue_provider("Gestore A S.p.A.", provider, at)?)?;
    Ok(())
}
