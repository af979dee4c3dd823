//! The program as a person or a script starts it: what it prints, and its exit status.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, which may")]

mod common;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use common::{
    REFUSED, Running, USED_WRONGLY, done, feed, port_base, program, provider, refused, run, start,
    status, stderr, stdout, stop,
};

#[test]
fn help_has_an_example_and_status_0() {
    let folder = tempfile::tempdir().unwrap();
    for command in [
        "",
        "demo",
        "init",
        "serve",
        "check",
        "account",
        "account add",
        "log",
        "log find",
        "verify",
    ] {
        let arguments: Vec<&str> = command.split_whitespace().chain(["--help"]).collect();
        let text = done(&run(&arguments, folder.path()));
        assert!(text.contains("Example: ceralacca "), "{command}");
        assert!(!text.contains("signer"), "{command}");
    }
}

#[test]
fn used_wrongly_is_status_2() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [
        &[][..],
        &["dance"],
        &["init", "x"],
        &["init", "x", "--provider", "X", "--domain", "not a domain"],
        &["init", "x", "--provider", "X", "--domain", "a.example", "A.Example"],
        &["account", "add"],
        &["account", "add", "a@b.example", "--password", "secret"],
        &["demo", "--port-base", "65000"],
        &["log", "find"],
        &["queue", "cancel"],
        &["index", "import"],
        &["log", "find", "--since", "yesterday"],
    ] {
        let output = run(arguments, folder.path());
        assert_eq!((status(&output), stdout(&output)), (USED_WRONGLY, String::new()));
        assert!(!stderr(&output).is_empty());
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn init_makes_what_check_approves_and_nothing_twice() {
    let folder = provider();
    let told = done(&run(&["check"], folder.path()));
    assert!(told.ends_with("serve would start\n"), "{told}");
    let json: serde_json::Value =
        serde_json::from_str(&done(&run(&["check", "--json"], folder.path()))).unwrap();
    assert_eq!(json["starts"], true);
    assert_eq!(json["faults"], serde_json::json!([]));

    let again = ["init", ".", "--provider", "Beta", "--domain", "pec.beta.example"];
    let sentence = refused(&run(&again, folder.path()));
    assert!(sentence.starts_with("ceralacca: there is a provider in "), "{sentence}");
}

#[test]
fn a_mistake_is_told_with_file_line_and_what_to_write() {
    let folder = provider();
    let file = folder.path().join("ceralacca.toml");
    let text = std::fs::read_to_string(&file).unwrap().replace("port_base", "portbase");
    std::fs::write(&file, text).unwrap();
    let file = file.canonicalize().unwrap();
    let expected = format!(
        "{}:9: there is no key `portbase` in [listen]; did you mean `port_base`?\n",
        file.display()
    );
    for arguments in [&["serve"][..], &["account", "list"]] {
        assert_eq!(refused(&run(arguments, folder.path())), expected);
    }
    let output = run(&["check"], folder.path());
    assert_eq!(status(&output), REFUSED);
    assert_eq!(stdout(&output), format!("fault  {expected}serve would not start\n"));
    let sentence = refused(&run(&["serve", "--config", "none.toml"], folder.path()));
    assert!(sentence.contains("none.toml: cannot be read ("), "{sentence}");
    assert!(sentence.contains("make one with `ceralacca init`"), "{sentence}");
}

// PEC-MBX-03
#[test]
fn an_account_may_hold_a_gigabyte_unless_told_otherwise() {
    let folder = provider();
    let anna = "anna@pec.alfa.example";
    done(&run(&["account", "add", anna, "--no-password"], folder.path()));
    let show = done(&run(&["account", "show", anna, "--json"], folder.path()));
    let show: serde_json::Value = serde_json::from_str(&show).unwrap();
    assert_eq!(show["quota"]["octets"], 1 << 30);
}

/// The same conversation with the server stopped and running.
fn talk_of_accounts(folder: &Path) {
    let anna = "anna@pec.alfa.example";
    let add = ["account", "add", anna, "--user-id", "abianchi", "--quota", "2 MiB"];
    let add = [&add[..], &["--password-stdin"]].concat();
    assert_eq!(done(&feed(&add, folder, "segreta\n")), format!("{anna} is added\n"));
    assert_eq!(
        refused(&feed(&add, folder, "segreta\n")),
        "ceralacca: the address or the user ID is taken: see `ceralacca account list`\n"
    );
    let show = done(&run(&["account", "show", anna, "--json"], folder));
    let mut show: serde_json::Value = serde_json::from_str(&show).unwrap();
    show["created"].take();
    assert_eq!(
        show,
        serde_json::json!({
            "address": anna, "user_id": "abianchi", "state": "active", "login": true,
            "service": false, "ordinary_mail": null, "created": null,
            "quota": {"octets": 2_097_152, "messages": null, "receipt_reserve_octets": 1_048_576},
            "usage": {"octets": 0, "messages": 0}
        })
    );
    for (arguments, told) in [
        (&["quota", anna, "1 KiB"][..], format!("{anna} may hold 1024 octets\n")),
        (&["suspend", anna], format!("{anna} is suspended\n")),
        (&["resume", anna], format!("{anna} is active\n")),
        (&["passwd", anna, "--no-password"], format!("nobody can sign in as {anna} any more\n")),
    ] {
        assert_eq!(done(&run(&[&["account"], arguments].concat(), folder)), told);
    }
    let passwd = ["account", "passwd", anna, "--password-stdin"];
    assert_eq!(
        done(&feed(&passwd, folder, "nuova\n")),
        format!("the password of {anna} is changed\n")
    );
    assert_eq!(
        refused(&feed(&passwd, folder, "\n")),
        "ceralacca: standard input holds no password: its first line is empty\n"
    );
    // Before anybody is asked for a password.
    assert_eq!(
        refused(&run(&["account", "passwd", "nessuno@pec.alfa.example"], folder)),
        "ceralacca: there is no account nessuno@pec.alfa.example: see `ceralacca account list`\n"
    );
    assert_eq!(
        refused(&run(&["account", "add", "anna@altrove.example"], folder)),
        "ceralacca: altrove.example is not a domain of this provider: take one of \
         pec.alfa.example\n"
    );
    assert_eq!(
        refused(&run(&["account", "passwd", anna], folder)),
        "ceralacca: there is no terminal to ask for the password: say --password-stdin\n"
    );
    let list = done(&run(&["account", "list", "--json"], folder));
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    let addresses: Vec<_> =
        list.as_array().unwrap().iter().map(|one| one["address"].as_str().unwrap()).collect();
    let locals = ["anna", "posta-certificata", "postmaster", "ricevute"];
    assert_eq!(addresses, locals.map(|local| format!("{local}@pec.alfa.example")));
    assert_eq!(
        refused(&run(&["account", "remove", "ricevute@pec.alfa.example"], folder)),
        "ceralacca: ricevute@pec.alfa.example is a service address, which certified mail cannot \
         work without: leave it as it is\n"
    );
    assert_eq!(
        done(&run(&["account", "remove", anna], folder)),
        format!("{anna} is removed with all its messages\n")
    );
}

// PEC-MBX-01 PEC-SEC-10
#[test]
fn accounts_with_the_server_stopped_and_running() {
    let folder = provider();
    talk_of_accounts(folder.path());
    let (running, ready) = start(&["serve", "--json"], folder.path());
    assert_eq!(ready["provider"], "Alfa");
    assert!(ready.get("accounts").is_none());
    talk_of_accounts(folder.path());
    let told = done(&run(&["check"], folder.path()));
    assert!(told.contains("note   the server is running"), "{told}");
    stop(running);
    talk_of_accounts(folder.path());
}

#[test]
fn a_server_that_was_killed_is_no_server() {
    let folder = provider();
    let (running, _) = start(&["serve", "--json"], folder.path());
    drop(running);
    assert!(folder.path().join("control.sock").exists());
    talk_of_accounts(folder.path());
    let (running, _) = start(&["serve", "--json"], folder.path());
    stop(running);
    assert!(!folder.path().join("control.sock").exists());
}

#[test]
fn the_demo_is_ready_with_all_that_is_promised() {
    let folder = tempfile::tempdir().unwrap();
    let base = port_base();
    let demo = ["demo", "--port-base", &base, "--json"];
    let (running, ready) = start(&demo, folder.path());
    let data = folder.path().canonicalize().unwrap().join("demo");
    assert_eq!(ready["ready"], true);
    assert_eq!(ready["pid"], running.0.id());
    assert_eq!(ready["provider"], "Demo PEC S.p.A.");
    assert_eq!(ready["domains"], serde_json::json!(["pec.alfa.example", "pec.beta.example"]));
    for (name, file) in
        [("data", ""), ("config", "ceralacca.toml"), ("ca", "ca.pem"), ("index", "providers.ldif")]
    {
        let path = Path::new(ready[name].as_str().unwrap()).canonicalize().unwrap();
        assert_eq!(path, data.join(file).canonicalize().unwrap());
    }
    let base: u16 = base.parse().unwrap();
    let expected: serde_json::Map<_, _> = [
        ("imaps", 993),
        ("imap", 143),
        ("submissions", 465),
        ("submission", 587),
        ("smtp", 25),
        ("http", 80),
    ]
    .into_iter()
    .map(|(name, port)| (name.to_owned(), format!("127.0.0.1:{}", base + port).into()))
    .collect();
    assert_eq!(ready["listeners"], serde_json::Value::Object(expected));
    let accounts: Vec<_> = ready["accounts"].as_array().unwrap().iter().collect();
    assert_eq!(accounts.len(), 5);
    assert_eq!(
        *accounts[0],
        serde_json::json!({
            "address": "mario.rossi@pec.alfa.example", "user_id": "mrossi",
            "password": "ceralacca-demo"
        })
    );
    stop(running);

    // The same again on the next start, and no keys are made anew.
    let ca = std::fs::read(data.join("ca.pem")).unwrap();
    let (running, again) = start(&demo, folder.path());
    assert_eq!(again["accounts"], ready["accounts"]);
    assert_eq!(std::fs::read(data.join("ca.pem")).unwrap(), ca);
    stop(running);
}

#[test]
fn verify_says_what_does_not_hold() {
    let folder = tempfile::tempdir().unwrap();
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let examples = project.join("crates/pec/examples");
    let path = |path: &Path| path.canonicalize().unwrap().to_str().unwrap().to_owned();
    let index = path(&examples.join("index/provider-index-sample.ldif"));
    let ca = path(&project.join("certs/spec/test-ca.pem"));
    let good = path(&examples.join("eml/06-avvenuta-consegna-completa.eml"));
    let bad = path(&examples.join("eml/01-originale-sottomesso.eml"));
    let ground = ["verify", "--index", &index, "--ca", &ca];

    let told = done(&run(&[&ground[..], &[&good]].concat(), folder.path()));
    assert!(told.starts_with(&format!("{good}: valid\n")), "{told}");
    let json = done(&run(&[&ground[..], &["--json", &good]].concat(), folder.path()));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["kind"], "avvenuta-consegna");

    // Several files: the worst decides.
    let output = run(&[&ground[..], &[&bad, &good]].concat(), folder.path());
    assert_eq!(status(&output), REFUSED);
    assert!(stdout(&output).contains(": invalid\n") && stdout(&output).contains(": valid\n"));
    // No revocation list was named: a note, that counts when it is told to.
    let strict = run(&[&ground[..], &["--strict", &good]].concat(), folder.path());
    assert_eq!(status(&strict), REFUSED);
    let none = run(&["verify", "none.eml"], folder.path());
    assert!(refused(&none).starts_with("ceralacca: none.eml cannot be read: "));
}

/// Puts other words into the configuration.
fn change(folder: &Path, from: &str, to: &str) {
    let file = folder.join("ceralacca.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(&file, text.replace(from, to)).unwrap();
}

#[test]
fn serve_does_not_start_with_what_check_calls_a_fault() {
    let folder = provider();
    change(folder.path(), "[\"pec.alfa.example\"]", "[\"pec.alfa.example\", \"b.example\"]");
    let fault = "the provider's own record in the index does not manage b.example: add it there, \
                 or take it out of provider.domains\n";
    assert_eq!(refused(&run(&["serve"], folder.path())), format!("ceralacca: {fault}"));
    let check = run(&["check"], folder.path());
    assert_eq!(status(&check), REFUSED);
    assert!(stdout(&check).starts_with(&format!("fault  {fault}")), "{}", stdout(&check));

    // The key is only ever read by the other process, and still told from another's.
    let (folder, other) = (provider(), provider());
    std::fs::copy(other.path().join("signing.key"), folder.path().join("signing.key")).unwrap();
    let data = folder.path().canonicalize().unwrap();
    assert_eq!(
        refused(&run(&["serve"], folder.path())),
        format!(
            "ceralacca: {}/signing.key is not the key of {}/signing.pem: give the pair that \
             belongs together\n",
            data.display(),
            data.display()
        )
    );
    std::fs::remove_dir_all(folder.path().join("store")).unwrap();
    let sentence = refused(&run(&["serve"], folder.path()));
    assert!(sentence.starts_with("ceralacca: there is no store in "), "{sentence}");
    assert!(!folder.path().join("store").exists());
}

#[test]
fn a_store_has_one_server() {
    let folder = provider();
    let (running, _) = start(&["serve", "--json"], folder.path());
    let store = folder.path().canonicalize().unwrap().join("store");
    assert_eq!(
        refused(&run(&["serve"], folder.path())),
        format!(
            "ceralacca: a server runs on the store {} already: stop that one first, or start this \
             one in another folder\n",
            store.display()
        )
    );
    stop(running);
}

#[test]
fn the_demo_is_no_other_provider() {
    let folder = provider();
    let sentence = refused(&run(&["demo", "--data", "."], folder.path()));
    assert!(sentence.starts_with("ceralacca: . holds Alfa, which is not the demo: "), "{sentence}");
}

#[test]
fn sighup_takes_what_it_can_and_names_what_needs_a_restart() {
    let folder = provider();
    change(folder.path(), "[trust]", "[log]\nformat = \"json\"\n\n[trust]");
    let mut command = program();
    command.args(["serve", "--json"]).current_dir(folder.path());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let running = Running(child);
    let mut ready = String::new();
    BufReader::new(out).read_line(&mut ready).unwrap();
    assert!(ready.contains("\"ready\":true"), "{ready}");
    let mut log = BufReader::new(err).lines();
    // What it tells of one SIGHUP; the TLS certificate is the last of it.
    let mut hangup = || {
        let pid = running.0.id().to_string();
        assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
        let mut told = Vec::new();
        loop {
            let line = log.next().unwrap().unwrap();
            let event: serde_json::Value = serde_json::from_str(&line).unwrap();
            let fields = &event["fields"];
            let word = |name: &str| fields[name].as_str().unwrap_or_default().to_owned();
            match word("message").as_str() {
                "ready" => {}
                // Of this machine, and at its own time.
                message if message.starts_with("nobody can tell whether the clock") => {}
                "TLS certificate read again" => return told,
                message => told.push((message.to_owned(), word("section") + &word("error"))),
            }
        }
    };
    let read = || ("configuration read again".to_owned(), String::new());
    assert_eq!(hangup(), [read()]);

    change(folder.path(), "name = \"Alfa\"", "name = \"Beta\"");
    change(folder.path(), "address = \"127.0.0.1\"", "address = \"127.0.0.2\"");
    change(folder.path(), "[trust]", "[signing]\nkey = \"other.key\"\n\n[trust]");
    change(folder.path(), "[trust]", "[store]\ndirectory = \"elsewhere\"\n\n[trust]");
    let restart =
        |section: &str| ("changed, and in use after a restart only".to_owned(), section.to_owned());
    let expected = [&[read()][..], &["provider", "listen", "signing", "store"].map(restart)];
    assert_eq!(hangup(), expected.concat());

    // Another's index, and a section that there is not: nothing is taken.
    let (index, other) = (folder.path().join("providers.ldif"), provider());
    let own = std::fs::read(&index).unwrap();
    std::fs::copy(other.path().join("providers.ldif"), &index).unwrap();
    let stays = |error: &str| ("the old configuration stays".to_owned(), error.to_owned());
    assert_eq!(
        hangup(),
        [stays(
            "the signing certificate is in no record of the index of providers: add it to the \
             provider's own"
        )]
    );
    std::fs::write(&index, own).unwrap();
    change(folder.path(), "[trust]", "[dance]\nsteps = 3\n\n[trust]");
    let [(message, error)] = &hangup()[..] else { panic!("one line") };
    assert_eq!(message, "the old configuration stays");
    assert!(error.contains("dance"), "{error}");
    stop(running);
}
