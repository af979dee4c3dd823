//! What an operator asks of a provider, running or stopped: its log, its queue, its index.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, which may")]

mod common;

use std::path::Path;

use common::{done, port_base, provider, refused, run, start, status, stop};
use store::embedded::{EmbeddedStore, Options};
use store::{LogRecord, NewJob, Octets, Source, Store, Timestamp, Transaction};

/// Commits this to the store of a stopped provider.
fn commit(folder: &Path, transaction: Transaction) {
    let store = EmbeddedStore::open(&folder.join("store"), Options::default()).unwrap();
    store.commit(transaction).unwrap();
}

/// The same conversation with the server stopped and running.
fn talk_of_the_log(folder: &Path) {
    let find = |arguments: &[&str]| done(&run(&[&["log", "find"], arguments].concat(), folder));
    let receipt = "2026-07-01 12:00:00 +02:00  accettazione       anna@pec.alfa.example -> -  \
                   1@pec.alfa.example\n";
    let refusal = "2026-12-01 12:00:00 +01:00  non-accettazione   bruno@pec.alfa.example -> -  \
                   2@pec.alfa.example  altro: un motivo\n";
    // The sender's own identifier finds it, and the receipt's, with brackets or without.
    for id in ["<prova@client.example>", "r1@pec.alfa.example", "1@pec.alfa.example"] {
        assert_eq!(find(&["--message-id", id]), receipt);
    }
    assert_eq!(find(&["--account", "BRUNO@pec.alfa.example"]), refusal);
    let july = "2026-07-01T12:00:00+02:00";
    assert_eq!(find(&["--since", july]), [receipt, refusal].concat());
    assert_eq!(find(&["--since", "2026-07-01T10:00:01Z"]), refusal);
    assert_eq!(find(&["--since", july, "--until", july]), "");
    assert_eq!(find(&["--account", "nessuno@pec.alfa.example", "--json"]), "");
    let json = find(&["--message-id", "1@pec.alfa.example", "--json"]);
    assert_eq!(json.lines().count(), 1);
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&json).unwrap(),
        serde_json::json!({
            "time": july, "event": "accettazione", "identificativo": "1@pec.alfa.example",
            "message_id": "r1@pec.alfa.example", "mittente": "anna@pec.alfa.example",
            "destinatari": [], "oggetto": "Prova", "gestore": null, "consegna": null,
            "ricezione": [], "errore": null, "errore_esteso": null,
            "msgid": "prova@client.example", "notes": []
        })
    );
    assert_eq!(
        refused(&run(&["log", "find", "--account", "anna"], folder)),
        "ceralacca: `anna` is no address (an address is local-part@domain): write \
         local-part@domain\n"
    );
}

#[test]
fn the_log_with_the_server_stopped_and_running() {
    let folder = provider();
    let text = |text: &str| Some(text.to_owned());
    let receipt = LogRecord {
        time: "2026-07-01T10:00:00Z".parse::<Timestamp>().unwrap(),
        event: "accettazione".to_owned(),
        identificativo: text("1@pec.alfa.example"),
        message_id: text("r1@pec.alfa.example"),
        mittente: text("anna@pec.alfa.example"),
        oggetto: text("Prova"),
        msgid: text("prova@client.example"),
        ..LogRecord::default()
    };
    let refusal = LogRecord {
        time: "2026-12-01T11:00:00Z".parse::<Timestamp>().unwrap(),
        event: "non-accettazione".to_owned(),
        identificativo: text("2@pec.alfa.example"),
        mittente: text("bruno@pec.alfa.example"),
        errore: text("altro"),
        errore_esteso: text("un motivo"),
        ..LogRecord::default()
    };
    let log = vec![receipt, refusal];
    commit(folder.path(), Transaction { log, ..Transaction::default() });
    talk_of_the_log(folder.path());
    let (running, _) = start(&["serve", "--json"], folder.path());
    talk_of_the_log(folder.path());
    stop(running);
}

/// A receipt whose holder has no room waits, is seen, and is in the mailbox when there is room.
#[test]
fn the_queue_with_the_server_stopped_and_running() {
    let folder = provider();
    let file = folder.path().join("ceralacca.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text + "receipt_reserve = 0\n").unwrap();
    let ask = |arguments: &[&str]| done(&run(arguments, folder.path()));
    let anna = "anna@pec.alfa.example";
    ask(&["account", "add", anna, "--quota", "0", "--no-password"]);
    assert_eq!(ask(&["queue", "list"]), "");
    assert_eq!(ask(&["queue", "retry"]), "no job was put off\n");
    let receipt = b"Message-ID: <r1@pec.alfa.example>\r\n\r\nx".to_vec();
    let job = NewJob {
        due: "2100-01-01T00:00:00Z".parse().unwrap(),
        payload: format!(r#"{{"Place":{{"to":"{anna}"}}}}"#).into_bytes(),
        octets: Some(Source::New(0)),
        lane: None,
    };
    let transaction = Transaction {
        at: "2026-07-01T10:00:00Z".parse().unwrap(),
        octets: vec![Octets::Inline(receipt.into())],
        enqueue: vec![job],
        ..Transaction::default()
    };
    commit(folder.path(), transaction);

    let line = format!(
        "       1  place     r1@pec.alfa.example  due 2100-01-01 01:00:00 +01:00  {anna}\n"
    );
    assert_eq!(ask(&["queue", "list"]), line);
    assert_eq!(ask(&["queue", "retry", "1"]), "job 1 is due now\n");
    assert_eq!(ask(&["queue", "retry"]), "no job was put off\n");
    assert_eq!(
        refused(&run(&["queue", "show", "2"], folder.path())),
        "ceralacca: there is no job 2, or it is done: see `ceralacca queue list`\n"
    );

    let (running, _) = start(&["serve", "--json"], folder.path());
    let mut job = serde_json::Value::Null;
    for _ in 0..2000 {
        job = serde_json::from_str(&ask(&["queue", "show", "1", "--json"])).unwrap();
        if job["last_error"] == "over quota" {
            break;
        }
    }
    let put_off = job["attempts"].as_u64().unwrap();
    let (_, _) = (job["due"].take(), job["attempts"].take());
    assert_eq!(
        job,
        serde_json::json!({
            "job": 1, "step": "place", "message_id": "r1@pec.alfa.example", "recipients": [anna],
            "queued": "2026-07-01T12:00:00+02:00", "due": null, "attempts": null,
            "last_error": "over quota", "octets": 38
        })
    );
    assert!(put_off >= 2);
    ask(&["account", "quota", anna, "1 KiB"]);
    let told = ask(&["queue", "retry"]);
    // It was tried again by itself meanwhile, on a slow machine.
    assert!(["1 job is due now\n", "no job was put off\n"].contains(&&told[..]), "{told}");
    let waits = (0..2000).find(|_| ask(&["queue", "list"]).is_empty());
    assert!(waits.is_some(), "it is done");
    let account = ask(&["account", "show", anna, "--json"]);
    let account: serde_json::Value = serde_json::from_str(&account).unwrap();
    assert_eq!(account["usage"], serde_json::json!({"octets": 38, "messages": 1}));
    stop(running);
}

/// Two providers get to know each other, one stopped and one running.
#[test]
fn an_index_is_exported_and_imported_whole_or_not_at_all() {
    let (alfa, beta) = (provider(), tempfile::tempdir().unwrap());
    let init = ["init", ".", "--provider", "Beta", "--domain", "pec.beta.example", "--port-base"];
    done(&run(&[&init[..], &[&port_base()]].concat(), beta.path()));
    let ldif = done(&run(&["index", "export"], beta.path()));
    assert!(ldif.starts_with("version: 1\n\ndn: providerName=Beta,o=postacert\n"), "{ldif}");
    let file = alfa.path().join("beta.ldif");
    std::fs::write(&file, &ldif).unwrap();
    let import = ["index", "import", "beta.ldif"];
    let index = || std::fs::read_to_string(alfa.path().join("providers.ldif")).unwrap();
    let before = index();

    for (text, sentence) in [
        (ldif.replace("pec.beta.example", "pec.alfa.example"), "does not go with the index: "),
        (ldif.replace("mailReceipt: ", "mailReceipt: a b "), " is refused whole: "),
        (ldif.replace("dn: ", "nd: "), "cannot be used: "),
        ("version: 1\n".to_owned(), " holds no record of a provider"),
        ("-----BEGIN PKCS7-----\n".to_owned(), "cannot be used: its signature does not hold: "),
        (
            ldif.replace("=Beta,", "=Alfa,").replace("providerName: Beta", "providerName: Alfa"),
            "it would take the certificate that this provider signs with out of the index",
        ),
    ] {
        std::fs::write(&file, text).unwrap();
        let told = refused(&run(&import, alfa.path()));
        assert!(told.contains(sentence), "{told}");
        assert_eq!(index(), before);
    }

    std::fs::write(&file, &ldif).unwrap();
    let told = done(&run(&import, alfa.path()));
    let added = "added      providerName=Beta,o=postacert  +pec.beta.example  +certificate ";
    assert!(told.starts_with(added) && told.lines().count() == 1, "{told}");
    let unchanged = done(&run(&import, alfa.path()));
    assert_eq!(unchanged, "unchanged  providerName=Beta,o=postacert\n");

    let (running, _) = start(&["serve", "--json"], alfa.path());
    std::fs::write(&file, ldif + "managedDomains: pec.gamma.example\n").unwrap();
    let told = done(&run(&[&import[..], &["--json"]].concat(), alfa.path()));
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&told).unwrap(),
        serde_json::json!([{
            "record": "providerName=Beta,o=postacert", "change": "replaced",
            "domains_added": ["pec.gamma.example"], "domains_removed": [],
            "certificates_added": [], "certificates_removed": []
        }])
    );
    let log = std::fs::read_to_string(alfa.path().join("log.txt")).unwrap();
    assert!(log.contains("index of providers read again"), "{log}");
    let shown = done(&run(&["index", "show", "--json"], alfa.path()));
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let domains = ["pec.beta.example", "pec.gamma.example"];
    assert_eq!((&shown[0]["own"], &shown[1]["own"]), (&true.into(), &false.into()));
    assert_eq!(shown[1]["domains"], serde_json::json!(domains));
    assert_eq!(shown[1]["mail_receipt"], "ricevute@pec.beta.example");
    let page = done(&run(&["index", "show"], alfa.path()));
    let begin = "providerName=Alfa,o=postacert  (this provider)\n  receipts to  ricevute@";
    assert!(page.starts_with(begin), "{page}");
    stop(running);
    assert_eq!(status(&run(&["check"], alfa.path())), 0);
}
