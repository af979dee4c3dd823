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

/// A record that is left out is named, with what is wrong with it, for people and for programs.
fn talk_of_a_bad_record(folder: &Path) {
    let place = folder.join("providers.ldif");
    let good = std::fs::read_to_string(&place).unwrap();
    let bad = "\ndn: providerName=Gamma,o=postacert\nobjectClass: provider\nproviderName: Gamma\n\
               mailReceipt: ricevute@pec.gamma.example\nmanagedDomains: pec.gamma.example\n";
    std::fs::write(&place, format!("{good}{bad}")).unwrap();
    let why = "providerName=Gamma,o=postacert: it has no providerCertificate";
    let told = done(&run(&["index", "refresh"], folder));
    let expected = "the index of providers was refreshed: 1 records; left out: ";
    assert_eq!(told, format!("{expected}{why}\n"));
    let told = done(&run(&["index", "refresh", "--json"], folder));
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&told).unwrap(),
        serde_json::json!({"records": 1, "faults": [why], "notes": []})
    );
    let shown = run(&["index", "show"], folder);
    assert_eq!(common::stderr(&shown), format!("ceralacca: left out: {why}\n"));
    std::fs::write(&place, format!("{good}\ndn: providerName=Gamma,o=postacert\nmanagedDo\n"))
        .unwrap();
    let told = refused(&run(&["index", "refresh"], folder));
    let why = "is no attribute, in the record `providerName=Gamma,o=postacert`";
    assert!(told.contains(why), "{told}");
    std::fs::write(&place, good).unwrap();
}

#[test]
fn a_bad_record_of_an_index_is_named_with_the_server_stopped_and_running() {
    let folder = provider();
    talk_of_a_bad_record(folder.path());
    let (running, _) = start(&["serve", "--json"], folder.path());
    talk_of_a_bad_record(folder.path());
    stop(running);
}

/// The same answers with the server stopped and running, but for the numbers.
fn talk_to_programs(folder: &Path, backup: &str) {
    let ask = |arguments: &[&str]| {
        let told = done(&run(&[arguments, &["--json"]].concat(), folder));
        assert_eq!(told.lines().count(), 1, "{told}");
        serde_json::from_str::<serde_json::Value>(&told).unwrap()
    };
    assert_eq!(ask(&["queue", "retry"]), serde_json::json!({"due_now": 0}));
    let compacted = serde_json::json!({"segments": 0, "moved_octets": 0, "freed_octets": 0});
    assert_eq!(ask(&["store", "compact"]), compacted);
    let copied = ask(&["store", "backup", backup]);
    assert_eq!(copied["folder"], backup);
    assert!(copied["octets"].is_u64(), "{copied}");
    let export = ["log", "export", "--message-id", "1@pec.alfa.example", "--output", "h.json"];
    let sealed = ask(&["log", "seal"]);
    assert!(sealed["seal"].as_u64() >= Some(1) && sealed["unstamped"].is_null(), "{sealed}");
    let again = ask(&["log", "seal"]);
    assert_eq!(again["sealed"], false);
    let exported = serde_json::json!({"file": "h.json", "records": 1, "unsealed": 0});
    assert_eq!(ask(&export), exported);
    let expire = ["log", "expire", "--before", "2020-01-01T00:00:00Z"];
    assert_eq!(ask(&expire), serde_json::json!({"removed": 0}));
}

#[test]
fn programs_read_what_was_done() {
    let folder = provider();
    let record = LogRecord {
        time: "2026-07-01T10:00:00Z".parse::<Timestamp>().unwrap(),
        event: "accettazione".to_owned(),
        identificativo: Some("1@pec.alfa.example".to_owned()),
        ..LogRecord::default()
    };
    commit(folder.path(), Transaction { log: vec![record], ..Transaction::default() });
    talk_to_programs(folder.path(), "first");
    let (running, _) = start(&["serve", "--json"], folder.path());
    talk_to_programs(folder.path(), "second");
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
    // What is in use is shown, whatever the file says by now; without a server it is the file.
    let (export, names) = (["index", "export"], ["index", "show", "--json"]);
    let own = done(&run(&export, alfa.path()));
    let written = index();
    let place = alfa.path().join("providers.ldif");
    let begin = written.find("dn: providerName=Beta").unwrap();
    std::fs::write(&place, &written[..begin]).unwrap();
    assert_eq!(done(&run(&names, alfa.path())).matches("\"provider\":").count(), 2);
    std::fs::write(&place, "version: 1\n").unwrap();
    assert_eq!(done(&run(&export, alfa.path())), own);
    std::fs::write(&place, &written[..begin]).unwrap();
    stop(running);
    assert_eq!(done(&run(&names, alfa.path())).matches("\"provider\":").count(), 1);
    std::fs::write(&place, written).unwrap();
    assert_eq!(status(&run(&["check"], alfa.path())), 0);
}
