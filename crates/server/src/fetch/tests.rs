//! A server that says what it is told to, and what we make of it.

use std::sync::Mutex;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

const BOUNDS: Bounds = Bounds { octets: 10, total: Duration::from_secs(30), redirects: 2 };

fn fetcher(networks: Networks) -> Fetcher {
    Fetcher {
        tls: crypto::tls::client_config(&[], None).unwrap(),
        resolve: system_resolver(),
        networks,
        plain: true,
    }
}

/// Gives each connection the next of these answers; tells what it was asked.
async fn serve(answers: Vec<String>) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let heard = asked.clone();
    tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.windows(4).any(|w| w == b"\r\n\r\n") {
                let mut piece = [0; 1024];
                let octets = stream.read(&mut piece).await.unwrap();
                request.extend_from_slice(&piece[..octets]);
            }
            heard.lock().unwrap().push(String::from_utf8(request).unwrap());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (port, asked)
}

async fn fetch(answers: Vec<String>) -> (Result<Fetched, FetchError>, Vec<String>) {
    let (port, asked) = serve(answers).await;
    let url = format!("http://127.0.0.1:{port}/lists/ca.crl?day=1");
    let fetched = fetcher(Networks::Any).fetch(&Wanted::get(&url), BOUNDS).await;
    let asked = asked.lock().unwrap().clone();
    (fetched, asked)
}

fn answer(head: &str, body: &str) -> String {
    format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn a_document_is_fetched_whole() {
    let (fetched, asked) =
        fetch(vec![answer("200 OK\r\nContent-Type: application/pkix-crl", "0123456789")]).await;
    let fetched = fetched.unwrap();
    assert_eq!(fetched.octets, b"0123456789");
    assert_eq!(fetched.media.as_deref(), Some("application/pkix-crl"));
    assert!(asked[0].starts_with("GET /lists/ca.crl?day=1 HTTP/1.1\r\nhost: 127.0.0.1:"));
}

#[tokio::test]
async fn one_octet_too_many_is_refused_told_of_or_not() {
    for answer in [
        answer("200 OK", "0123456789X"),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nB\r\n0123456789X\r\n0\r\n\r\n".into(),
    ] {
        let (fetched, _) = fetch(vec![answer]).await;
        assert!(matches!(fetched, Err(FetchError::TooLarge(_, 10))), "{fetched:?}");
    }
}

#[tokio::test]
async fn what_ends_early_or_is_no_http_is_no_document() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n0123",
        "220 mail.example ESMTP\r\n",
        "HTTP/1.1 200 OK\r\n",
    ] {
        let (fetched, _) = fetch(vec![answer.to_owned()]).await;
        assert!(matches!(fetched, Err(FetchError::Http(..))), "{fetched:?}");
    }
    let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(HEADER_OCTETS_MAX + 1));
    let (fetched, _) = fetch(vec![long]).await;
    assert!(matches!(fetched, Err(FetchError::Http(..))), "{fetched:?}");
    let (fetched, _) = fetch(vec![answer("404 Not Found", "")]).await;
    assert!(matches!(fetched, Err(FetchError::Status(_, StatusCode::NOT_FOUND))));
}

#[tokio::test]
async fn redirects_are_followed_twice_and_not_a_third_time() {
    let away = || answer("302 Found\r\nLocation: /elsewhere", "");
    let (fetched, asked) = fetch(vec![away(), away(), answer("200 OK", "here")]).await;
    assert_eq!(fetched.unwrap().octets, b"here");
    assert!(asked[2].starts_with("GET /elsewhere "));
    let (fetched, _) = fetch(vec![away(), away(), away()]).await;
    assert!(matches!(fetched, Err(FetchError::Redirects(_))));
    for (place, why) in [
        ("file:///etc/passwd", "no http"),
        ("//evil.example/", "no scheme"),
        ("http://user:pass@host.example/", "a password"),
    ] {
        let (fetched, _) = fetch(vec![answer(&format!("301 Away\r\nLocation: {place}"), "")]).await;
        assert!(matches!(fetched, Err(FetchError::Url(..))), "{why}: {fetched:?}");
    }
    let secure = Target::parse("https://host.example/a").unwrap();
    assert!(matches!(secure.redirected("http://host.example/b"), Err(FetchError::Url(..))));
}

#[tokio::test]
async fn a_silent_server_is_not_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let bounds = Bounds { total: Duration::from_millis(50), ..BOUNDS };
    let fetched = fetcher(Networks::Any).fetch(&Wanted::get(&url), bounds).await;
    assert!(matches!(fetched, Err(FetchError::TimedOut(_))));
}

#[tokio::test]
async fn a_strangers_url_leads_into_no_private_network() {
    for host in
        ["127.0.0.1", "10.0.0.1", "169.254.169.254", "[::1]", "[::ffff:10.0.0.1]", "[fe80::1]"]
    {
        let url = format!("http://{host}:9/");
        let fetched = fetcher(Networks::Public).fetch(&Wanted::get(&url), BOUNDS).await;
        assert!(matches!(fetched, Err(FetchError::Private(_))), "{host}: {fetched:?}");
    }
    // A name is no way around it.
    let mut fetcher = fetcher(Networks::Public);
    fetcher.resolve = Arc::new(|_, port| {
        Box::pin(async move { Ok(vec![SocketAddr::new([192, 168, 0, 1].into(), port)]) })
    });
    let fetched = fetcher.fetch(&Wanted::get("http://ca.example/ca.crl"), BOUNDS).await;
    assert!(matches!(fetched, Err(FetchError::Private(_))), "{fetched:?}");
}

#[tokio::test]
async fn plain_http_is_asked_for_or_refused() {
    let fetcher = Fetcher { plain: false, ..fetcher(Networks::Any) };
    let fetched = fetcher.fetch(&Wanted::get("http://127.0.0.1:9/"), BOUNDS).await;
    assert!(matches!(fetched, Err(FetchError::Url(..))));
}

#[test]
fn public_addresses_are_told_from_others() {
    for (text, public) in [
        ("8.8.8.8", true),
        ("100.63.255.255", true),
        ("100.64.0.1", false),
        ("172.15.0.1", true),
        ("172.16.0.1", false),
        ("192.0.0.8", false),
        ("198.18.0.1", false),
        ("198.20.0.1", true),
        ("203.0.113.9", false),
        ("224.0.0.1", false),
        ("255.255.255.255", false),
        ("0.0.0.0", false),
        ("2a00:1450::1", true),
        ("2001:db8::1", false),
        ("2001::1", false),
        ("fc00::1", false),
        ("ff02::1", false),
        ("::", false),
        ("64:ff9b::808:808", true),
        ("64:ff9b::7f00:1", false),
        ("2002:7f00:1::", false),
        ("2002:808:808::", true),
    ] {
        assert_eq!(is_public(text.parse().unwrap()), public, "{text}");
    }
}

#[test]
fn a_url_is_taken_apart_or_refused() {
    let target = Target::parse("https://[2a00::1]:8443/a?b").unwrap();
    assert_eq!((&*target.host, target.port, &*target.path), ("2a00::1", 8443, "/a?b"));
    assert_eq!(Target::parse("http://ca.example").unwrap().port, 80);
    let long = format!("http://ca.example/{}", "a".repeat(URL_OCTETS_MAX));
    for text in ["", "ca.example/x", "ldap://ca.example/", "http:///x", &long] {
        assert!(Target::parse(text).is_err(), "{text}");
    }
}
