//! A web server of a test's own, over TLS: texts by host and path, and what was posted to it.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::host::server;
use crate::wire::ANSWER_WAIT;

/// It listens until it is dropped.
pub struct Https {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    pages: Mutex<HashMap<String, (String, String)>>,
    asked: Mutex<Vec<String>>,
    posted: Mutex<Vec<(String, Vec<u8>)>>,
    ends: AtomicBool,
}

impl Https {
    /// Starts it on a free port with this chain and key, in PEM.
    ///
    /// # Errors
    ///
    /// When it cannot listen, or the pair is no pair.
    pub fn start(chain: &str, key: &str) -> anyhow::Result<Self> {
        let tls = server(chain, key)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let https = Self { address: listener.local_addr()?, shared: Arc::default() };
        let shared = https.shared.clone();
        std::thread::spawn(move || {
            while let Ok((socket, _)) = listener.accept() {
                if shared.ends.load(Ordering::Relaxed) {
                    break;
                }
                let (tls, shared) = (tls.clone(), shared.clone());
                // A client that breaks off ends its connection and no more.
                std::thread::spawn(move || serve(socket, tls, &shared));
            }
        });
        Ok(https)
    }

    /// From now on this host has this text there, of this media type.
    pub fn set(&self, host: &str, path: &str, media: &str, text: &str) {
        let page = (media.to_owned(), text.to_owned());
        let mut pages = self.shared.pages.lock().unwrap_or_else(PoisonError::into_inner);
        pages.insert(format!("{host}{path}"), page);
    }

    /// From now on this host has nothing there.
    pub fn unset(&self, host: &str, path: &str) {
        let mut pages = self.shared.pages.lock().unwrap_or_else(PoisonError::into_inner);
        pages.remove(&format!("{host}{path}"));
    }

    /// How often something of this host was asked for.
    pub fn asked(&self, host: &str) -> usize {
        let asked = self.shared.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.iter().filter(|place| place.starts_with(host)).count()
    }

    /// What was posted: where to (host and path), and what.
    pub fn posted(&self) -> Vec<(String, Vec<u8>)> {
        self.shared.posted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Https {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::Relaxed);
        // Wakes it.
        let _ = TcpStream::connect(self.address);
    }
}

/// One request, and its answer.
fn serve(socket: TcpStream, tls: Arc<ServerConfig>, shared: &Shared) -> io::Result<()> {
    socket.set_read_timeout(Some(ANSWER_WAIT))?;
    let connection = ServerConnection::new(tls).map_err(io::Error::other)?;
    let mut stream = BufReader::new(StreamOwned::new(connection, socket));
    let (mut first, mut host, mut length) = (String::new(), String::new(), 0);
    stream.read_line(&mut first)?;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let Some((name, value)) = line.split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "host" => host = value.trim().split(':').next().unwrap_or_default().to_owned(),
            "content-length" => length = value.trim().parse().map_err(io::Error::other)?,
            _ => {}
        }
    }
    let mut words = first.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let place = format!("{host}{path}");
    shared.asked.lock().unwrap_or_else(PoisonError::into_inner).push(place.clone());
    let answer = if method == "POST" {
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        shared.posted.lock().unwrap_or_else(PoisonError::into_inner).push((place, body));
        "HTTP/1.1 201 Created\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned()
    } else {
        let pages = shared.pages.lock().unwrap_or_else(PoisonError::into_inner);
        match pages.get(&place) {
            Some((media, text)) => format!(
                "HTTP/1.1 200 OK\r\nContent-Type: {media}\r\nContent-Length: {}\r\n\
                 Connection: close\r\n\r\n{text}",
                text.len()
            ),
            None => "HTTP/1.1 404 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned(),
        }
    };
    stream.get_mut().write_all(answer.as_bytes())?;
    stream.get_mut().conn.send_close_notify();
    stream.get_mut().flush()
}
