//! How fast a message of 100 MB is taken in, over TLS, and what disk and TLS alone would allow.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use scenarios::{Demo, Smtp};

use super::submission::stop_signing;
use super::{Bodies, STRANGER, folder, postfix, send};

/// Octets of the message.
const LARGE: usize = 100_000_000;
const FROM: &str = "mario.rossi@pec.alfa.example";
const TO: &str = "studio.verdi@pec.beta.example";
/// What the demo's configuration says of limits, and what this row needs.
const LIMITS: &str = "unthrottled = [\"127.0.0.0/8\"]";
const WIDE: &str = "unthrottled = [\"127.0.0.0/8\"]\nmessage_octets = 200000000\n\
                    refuse_above_octets = 200000000";

/// Ours, in one run: MB a second until the `250`.
///
/// # Errors
///
/// When it is refused.
pub fn ours(bodies: &Bodies) -> anyhow::Result<f64> {
    let folder = folder()?;
    let demo = Demo::start_changed(&folder.path().join("demo"), &[(LIMITS, WIDE)], "")?;
    let mut smtp = demo.submit_as("mrossi")?;
    stop_signing(&demo)?;
    let text = bodies.message(FROM, TO, 0, LARGE);
    let began = Instant::now();
    send(&mut smtp, FROM, TO, &text)?;
    Ok(speed(began.elapsed()))
}

/// Postfix's, in one run.
///
/// # Errors
///
/// As [`ours`].
pub fn theirs(bodies: &Bodies, demo: &Demo) -> anyhow::Result<f64> {
    let mta = postfix(&demo.data, "defer_transports = virtual\n")?;
    let mut smtp = Smtp::connect_clear(mta.listen())?;
    smtp.hello()?;
    let mut smtp = smtp.start_tls(&demo.tls())?;
    smtp.hello()?;
    let to = "u1@ordinary.example";
    let text = bodies.message(STRANGER, to, 0, LARGE);
    let began = Instant::now();
    send(&mut smtp, STRANGER, to, &text)?;
    Ok(speed(began.elapsed()))
}

/// What the disk takes: written and flushed once.
///
/// # Errors
///
/// When it cannot be.
pub fn disk(bodies: &Bodies) -> anyhow::Result<f64> {
    let folder = folder()?;
    let text = bodies.message(FROM, TO, 0, LARGE);
    let began = Instant::now();
    let mut file = std::fs::File::create(folder.path().join("large"))?;
    file.write_all(&text)?;
    file.sync_all()?;
    Ok(speed(began.elapsed()))
}

/// What TLS carries between two threads of this process.
///
/// # Errors
///
/// When it does not.
pub fn tls(demo: &Demo) -> anyhow::Result<f64> {
    let certificates = CertificateDer::pem_file_iter(demo.data.join("tls.pem"))?;
    let certificates = certificates.collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_file(demo.data.join("tls.key"))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(certificates, key)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let server = std::thread::spawn(move || -> anyhow::Result<()> {
        let (socket, _) = listener.accept()?;
        let session = rustls::ServerConnection::new(Arc::new(config))?;
        let mut stream = rustls::StreamOwned::new(session, socket);
        let (mut piece, mut left) = (vec![0; 64 * 1024], LARGE);
        while left > 0 {
            let count = stream.read(&mut piece)?;
            anyhow::ensure!(count > 0, "the end came early");
            left = left.saturating_sub(count);
        }
        stream.write_all(b"taken\r\n")?;
        Ok(stream.flush()?)
    });
    let mut wire = scenarios::wire::Wire::tls(address, &demo.tls())?;
    let text = vec![b'x'; LARGE];
    let began = Instant::now();
    wire.write(&text)?;
    wire.line()?;
    let took = began.elapsed();
    server.join().map_err(|_| anyhow::anyhow!("the server panicked"))??;
    Ok(speed(took))
}

/// MB a second.
#[expect(clippy::cast_precision_loss, reason = "a hundred million")]
fn speed(took: Duration) -> f64 {
    LARGE as f64 / 1e6 / took.as_secs_f64()
}
