//! An ordinary mail host of a test's own: takes mail in clear or over STARTTLS, and remembers how it
//! came.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::wire::ANSWER_WAIT;

/// A message as it came.
#[derive(Debug, Clone)]
pub struct Taken {
    /// Whether it came over TLS.
    pub over_tls: bool,
    /// MAIL and RCPT.
    pub envelope: Vec<String>,
    /// The content, unstuffed.
    pub content: String,
}

/// It listens until it is dropped.
pub struct Host {
    /// Where it listens.
    pub address: SocketAddr,
    taken: Arc<Mutex<Vec<Taken>>>,
    ends: Arc<AtomicBool>,
}

impl Host {
    /// Starts it there (port 0: any). With a chain and key, in PEM, it offers STARTTLS.
    ///
    /// # Errors
    ///
    /// When it cannot listen, or the pair is no pair.
    pub fn start(address: SocketAddr, pair: Option<(&str, &str)>) -> anyhow::Result<Self> {
        let tls = pair.map(|(chain, key)| server(chain, key)).transpose()?;
        let listener = TcpListener::bind(address).with_context(|| address.to_string())?;
        let address = listener.local_addr()?;
        let host = Self { address, taken: Arc::default(), ends: Arc::default() };
        let (taken, ends) = (host.taken.clone(), host.ends.clone());
        std::thread::spawn(move || {
            while let Ok((socket, _)) = listener.accept() {
                if ends.load(Ordering::Relaxed) {
                    break;
                }
                let (tls, taken) = (tls.clone(), taken.clone());
                // A sender that breaks off ends its connection and no more.
                std::thread::spawn(move || serve(socket, tls.as_ref(), &taken));
            }
        });
        Ok(host)
    }

    /// What it has taken so far.
    pub fn taken(&self) -> Vec<Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        // Wakes it.
        let _ = TcpStream::connect(self.address);
    }
}

pub(crate) fn server(chain: &str, key: &str) -> anyhow::Result<Arc<ServerConfig>> {
    let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(Arc::new(config))
}

fn serve(
    socket: TcpStream,
    tls: Option<&Arc<ServerConfig>>,
    taken: &Mutex<Vec<Taken>>,
) -> io::Result<()> {
    socket.set_read_timeout(Some(ANSWER_WAIT))?;
    let mut clear = socket.try_clone()?;
    clear.write_all(b"220 mx.example\r\n")?;
    let mut reader = BufReader::new(socket);
    if converse(&mut reader, &mut clear, tls.is_some(), taken, false)? {
        let Some(tls) = tls else { return Ok(()) };
        clear.write_all(b"220 go\r\n")?;
        let connection = ServerConnection::new(tls.clone()).map_err(io::Error::other)?;
        let mut stream = BufReader::new(StreamOwned::new(connection, clear));
        let mut heard = String::new();
        let mut dialogue = Dialogue { over_tls: true, ..Dialogue::default() };
        while stream.read_line(&mut heard)? > 0 {
            let answer = dialogue.line(&heard, false, taken);
            heard.clear();
            stream.get_mut().write_all(answer.as_bytes())?;
            if answer.starts_with("221") {
                break;
            }
        }
    }
    Ok(())
}

/// In clear; whether it goes over to TLS.
fn converse(
    reader: &mut BufReader<TcpStream>,
    writer: &mut TcpStream,
    offers: bool,
    taken: &Mutex<Vec<Taken>>,
    over_tls: bool,
) -> io::Result<bool> {
    let mut dialogue = Dialogue { over_tls, ..Dialogue::default() };
    let mut heard = String::new();
    while reader.read_line(&mut heard)? > 0 {
        if offers && heard.eq_ignore_ascii_case("STARTTLS\r\n") {
            return Ok(true);
        }
        let answer = dialogue.line(&heard, offers, taken);
        heard.clear();
        writer.write_all(answer.as_bytes())?;
        if answer.starts_with("221") {
            break;
        }
    }
    Ok(false)
}

#[derive(Default)]
struct Dialogue {
    over_tls: bool,
    envelope: Vec<String>,
    content: Option<String>,
}

impl Dialogue {
    fn line(&mut self, line: &str, offers: bool, taken: &Mutex<Vec<Taken>>) -> String {
        if let Some(content) = &mut self.content {
            if line != ".\r\n" {
                content.push_str(line.strip_prefix('.').unwrap_or(line));
                return String::new();
            }
            let (content, over_tls) = (self.content.take().unwrap_or_default(), self.over_tls);
            let envelope = std::mem::take(&mut self.envelope);
            let message = Taken { over_tls, envelope, content };
            taken.lock().unwrap_or_else(PoisonError::into_inner).push(message);
            return "250 2.0.0 taken\r\n".to_owned();
        }
        let verb = line.split([' ', ':', '\r']).next().unwrap_or_default().to_ascii_uppercase();
        match verb.as_str() {
            "EHLO" if self.over_tls => "250-mx.example\r\n250 REQUIRETLS\r\n".to_owned(),
            "EHLO" if offers => "250-mx.example\r\n250 STARTTLS\r\n".to_owned(),
            "MAIL" | "RCPT" => {
                self.envelope.push(line.trim_end().to_owned());
                "250 2.1.0 ok\r\n".to_owned()
            }
            "DATA" => {
                self.content = Some(String::new());
                "354 go\r\n".to_owned()
            }
            "QUIT" => "221 bye\r\n".to_owned(),
            _ => "250 mx.example\r\n".to_owned(),
        }
    }
}
