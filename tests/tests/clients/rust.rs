//! async-imap, the library that Delta Chat reads its mail with, inside this process.

use std::sync::Arc;

use async_imap::Session;
use async_imap::extensions::idle::IdleResponse;
use async_imap::imap_proto::{BodyStructure, MailboxDatum, Response};
use async_imap::types::{Fetch, Flag, Name, QuotaResourceName};
use futures_util::{Stream, TryStreamExt};
use rustls_pki_types::ServerName;
use scenarios::demo::PASSWORD;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::lab::{Lab, MARIO, VERDI};

type Tls = TlsStream<TcpStream>;

/// Connects, and proves who it is.
async fn sign_in(lab: &Lab) -> Session<Tls> {
    let stream = TcpStream::connect(lab.demo.address("imaps").unwrap()).await.unwrap();
    let tls = TlsConnector::from(Arc::clone(&lab.demo.tls()));
    let stream = tls.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap();
    let mut client = async_imap::Client::new(stream);
    let greeting = client.read_response().await.unwrap().unwrap();
    assert!(matches!(greeting.parsed(), Response::Data { .. }), "{greeting:?}");
    let (error, client) = client.login("mrossi", "sbagliata").await.unwrap_err();
    assert!(error.to_string().contains("User name or password not right"), "{error}");
    client.login("mrossi", PASSWORD).await.map_err(|(error, _)| error).unwrap()
}

async fn all<T, E: std::fmt::Debug>(stream: impl Stream<Item = Result<T, E>>) -> Vec<T> {
    stream.try_collect().await.unwrap()
}

/// The structure of a message as an outline: types, with what is inside them.
fn outline(part: &BodyStructure<'_>) -> String {
    let (common, inside) = match part {
        BodyStructure::Basic { common, .. } | BodyStructure::Text { common, .. } => {
            (common, vec![])
        }
        BodyStructure::Message { common, body, .. } => (common, vec![outline(body)]),
        BodyStructure::Multipart { common, bodies, .. } => {
            (common, bodies.iter().map(outline).collect())
        }
    };
    let kind = format!("{}/{}", common.ty.ty, common.ty.subtype).to_lowercase();
    if inside.is_empty() { kind } else { format!("{kind}({})", inside.join(" ")) }
}

fn keywords(message: &Fetch) -> Vec<String> {
    let mut flags: Vec<_> = message.flags().map(|flag| format!("{flag:?}")).collect();
    flags.sort();
    flags
}

#[test]
fn async_imap_spends_a_day() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let lab = Lab::new();
    lab.two_receipts();
    runtime.block_on(a_day(&lab));
    assert_eq!(lab.headers("mrossi", "X-Ricevuta"), ["avvenuta-consegna", ""]);
    let kept = [r"$PecAccettazione", "Protocollato", r"\Seen"];
    assert_eq!(lab.flags("mrossi", "Archivio"), [kept]);
    let mut imap = lab.demo.imap_as("mrossi").unwrap();
    assert_eq!(imap.messages("Bozze").unwrap()[0].1, DRAFT);
}

const DRAFT: &[u8] = b"From: a@example.org\r\nSubject: Bozza\r\n\r\nTesto\r\n";

async fn a_day(lab: &Lab) {
    let mut imap = sign_in(lab).await;
    let capabilities = imap.capabilities().await.unwrap();
    for capability in ["IMAP4rev1", "IDLE", "MOVE", "QUOTA", "CONDSTORE", "COMPRESS=DEFLATE"] {
        assert!(capabilities.has_str(capability), "{capability}");
    }
    let server = imap.id([("name", Some("async-imap"))]).await.unwrap().unwrap();
    assert_eq!(server["name"], "ceralacca");
    let names: Vec<Name> = all(imap.list(Some(""), Some("*")).await.unwrap()).await;
    let names: Vec<_> = names.iter().map(Name::name).collect();
    assert_eq!(
        names,
        ["INBOX", "Archivio", "Bozze", "Cestino", "Posta indesiderata", "Posta inviata"]
    );
    let (roots, quotas) = imap.get_quota_root("INBOX").await.unwrap();
    assert_eq!((roots.len(), quotas.len()), (1, 1));
    let storage = &quotas[0].resources[0];
    assert_eq!((&storage.name, storage.limit), (&QuotaResourceName::Storage, 1 << 20));
    assert!(storage.usage > 0, "{storage:?}");

    let inbox = imap.select_condstore("INBOX").await.unwrap();
    assert_eq!((inbox.exists, inbox.uid_next), (2, Some(3)));
    assert!(inbox.highest_modseq.is_some(), "{inbox:?}");
    let items = "(UID FLAGS ENVELOPE BODYSTRUCTURE RFC822.SIZE BODY.PEEK[])";
    let messages: Vec<Fetch> = all(imap.fetch("1:*", items).await.unwrap()).await;
    assert_eq!(messages.len(), 2);
    let delivery = &messages[1];
    let subject = delivery.envelope().unwrap().subject.as_deref().unwrap();
    assert_eq!(subject, b"CONSEGNA: Offerta");
    assert_eq!(delivery.size, delivery.body().map(|body| u32::try_from(body.len()).unwrap()));
    assert_eq!(
        outline(delivery.bodystructure().unwrap()),
        "multipart/signed(multipart/mixed(multipart/alternative(text/plain text/html) \
         application/xml message/rfc822(text/plain)) application/pkcs7-signature)"
    );
    assert_eq!(keywords(delivery), [r#"Custom("$PecConsegna")"#, "Recent"]);
    let found = imap.uid_search("KEYWORD $PecAccettazione BODY \"accettato dal sistema\"").await;
    assert_eq!(found.unwrap().into_iter().collect::<Vec<_>>(), [1]);

    let stored = imap.uid_store("1", r"+FLAGS (\Seen Protocollato)").await.unwrap();
    let stored = all(stored).await;
    assert!(stored[0].flags().any(|flag| flag == Flag::Seen), "{stored:?}");
    let when = "\"02-Mar-2026 09:00:00 +0100\"";
    imap.append("Bozze", Some(r"(\Draft)"), Some(when), DRAFT).await.unwrap();
    imap.uid_mv("1", "Archivio").await.unwrap();
    let archive = imap.status("Archivio", "(MESSAGES UIDNEXT)").await.unwrap();
    assert_eq!((archive.exists, archive.uid_next), (1, Some(2)));

    let mut idle = imap.idle();
    idle.init().await.unwrap();
    lab.submit("sverdi", VERDI, MARIO, "Risposta");
    loop {
        let (told, _stop) = idle.wait_with_timeout(std::time::Duration::from_secs(30));
        let IdleResponse::NewData(data) = told.await.unwrap() else { panic!("nothing was told") };
        if let Response::MailboxData(MailboxDatum::Exists(2)) = data.parsed() {
            break;
        }
    }
    let mut imap = idle.done().await.unwrap();
    let new: Vec<Fetch> = all(imap.fetch("2", "ENVELOPE").await.unwrap()).await;
    let subject = new[0].envelope().unwrap().subject.as_deref().unwrap();
    assert_eq!(subject, b"POSTA CERTIFICATA: Risposta");
    imap.logout().await.unwrap();
}
