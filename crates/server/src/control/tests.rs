//! Commands on accounts, on a store and over the socket.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex};

use pec::providers::Index;
use store::memory::MemoryStore;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;

use super::serving::REQUEST_OCTETS_MAX;
use super::*;

const AT: Timestamp = Timestamp::UNIX_EPOCH;

fn rules() -> Rules {
    Rules {
        domains: vec![Domain::parse("pec.alfa.example").unwrap()],
        postmaster: Address::parse("postmaster@pec.alfa.example").unwrap(),
        receipt_reserve: 4096,
        provider: "Alfa PEC S.p.A.".to_owned(),
        forward_to: None,
    }
}

fn add(address: &str, user_id: Option<&str>) -> Request {
    Request::Add {
        address: address.to_owned(),
        user_id: user_id.map(str::to_owned),
        quota_octets: None,
        ordinary_mail: None,
        password: None,
    }
}

fn text(store: &MemoryStore, request: Request) -> Result<String, String> {
    match perform(store, &rules(), request, AT).0 {
        Response::Done { text } => Ok(text),
        Response::Refused { text } => Err(text),
        Response::Accounts { accounts } => Ok(serde_json::to_string(&accounts).unwrap()),
        other => Ok(format!("{other:?}")),
    }
}

fn service(store: &MemoryStore) {
    let account = NewAccount {
        address: Address::parse("posta-certificata@pec.alfa.example").unwrap(),
        user_id: None,
        owner: Owner::Provider,
        role: Role::Author,
        credentials: None,
        quota: Quota { octets_max: 0, messages_max: None, receipt_reserve_octets: 0 },
        ordinary_mail: None,
    };
    store.add_account(account, AT).unwrap();
}

#[test]
fn an_account_is_added_shown_changed_and_removed() {
    let store = MemoryStore::new();
    let anna = "anna@pec.alfa.example";
    assert_eq!(
        text(&store, add("Anna@PEC.alfa.example", Some("abianchi"))).unwrap(),
        "Anna@pec.alfa.example is added; nobody can sign in until `ceralacca account passwd \
         Anna@pec.alfa.example`"
    );
    let quota = Request::Quota { address: anna.into(), quota_octets: 2048 };
    assert_eq!(text(&store, quota).unwrap(), "Anna@pec.alfa.example may hold 2048 octets");
    let suspend = Request::Suspend { address: anna.into() };
    assert_eq!(text(&store, suspend).unwrap(), "Anna@pec.alfa.example is suspended");
    let password = Some(Kept { phc: "p".into(), scram: "s".into() });
    let passwd = Request::Passwd { address: anna.into(), password };
    assert_eq!(text(&store, passwd).unwrap(), "the password of Anna@pec.alfa.example is changed");
    assert_eq!(
        text(&store, Request::Show { address: anna.into() }).unwrap(),
        r#"[{"address":"Anna@pec.alfa.example","user_id":"abianchi","state":"suspended","login":true,"service":false,"ordinary_mail":null,"created":"1970-01-01T00:00:00Z","quota":{"octets":2048,"messages":null,"receipt_reserve_octets":4096},"usage":{"octets":0,"messages":0}}]"#
    );
    let resume = Request::Resume { address: anna.into() };
    assert_eq!(text(&store, resume).unwrap(), "Anna@pec.alfa.example is active");
    let remove = Request::Remove { address: anna.into() };
    assert_eq!(
        text(&store, remove).unwrap(),
        "Anna@pec.alfa.example is removed with all its messages"
    );
    assert_eq!(text(&store, Request::List).unwrap(), "[]");
}

// PEC-GEN-17
#[test]
fn the_folder_of_a_policy_is_there_from_the_start() {
    let store = MemoryStore::new();
    service(&store);
    let anna = Address::parse("anna@pec.alfa.example").unwrap();
    text(&store, add("anna@pec.alfa.example", None)).unwrap();
    let account = store.account_by_address(&anna).unwrap().unwrap().id;
    let policy = |text: &str| Request::OrdinaryMail {
        address: anna.to_string(),
        policy: Some(text.to_owned()),
    };
    for (said, told) in [
        (
            "deliver:Da altri/Ordinaria",
            "ordinary mail for anna@pec.alfa.example: deliver:Da altri/Ordinaria; its folder Da \
             altri/Ordinaria is new",
        ),
        (
            "deliver:Da altri/Ordinaria",
            "ordinary mail for anna@pec.alfa.example: deliver:Da altri/Ordinaria",
        ),
        ("deliver:INBOX", "ordinary mail for anna@pec.alfa.example: deliver:INBOX"),
        ("reject", "ordinary mail for anna@pec.alfa.example: reject"),
    ] {
        assert_eq!(text(&store, policy(said)).unwrap(), told);
    }
    let name = store::MailboxName::parse("Da altri/Ordinaria").unwrap();
    assert!(store.mailbox(account, &name).is_ok());
    assert!(store.subscriptions(account).unwrap().contains(&name));
    let Request::Add { address, user_id, quota_octets, password, .. } =
        add("bruno@pec.alfa.example", None)
    else {
        unreachable!()
    };
    let ordinary_mail = Some("deliver:Altra".to_owned());
    let request = Request::Add { address, user_id, quota_octets, ordinary_mail, password };
    assert!(text(&store, request).unwrap().starts_with(
        "bruno@pec.alfa.example is added; its folder Altra is new; nobody can sign in"
    ));
}

// PEC-MBX-01 PEC-SEC-10: a mailbox of another domain, or none of a domain, is not made.
#[test]
fn what_cannot_be_done_is_refused_with_a_sentence() {
    let store = MemoryStore::new();
    service(&store);
    text(&store, add("anna@pec.alfa.example", Some("anna"))).unwrap();
    text(&store, add("postmaster@pec.alfa.example", None)).unwrap();
    let long = "u".repeat(USER_ID_MAX + 1);
    let table = [
        (
            add("anna@pec.beta.example", None),
            "pec.beta.example is not a domain of this provider: take one of pec.alfa.example",
        ),
        (
            add("anna", None),
            "`anna` is no address (an address is local-part@domain): write local-part@domain",
        ),
        (
            add("ANNA@pec.alfa.example", None),
            "the address or the user ID is taken: see `ceralacca account list`",
        ),
        (
            add("b@pec.alfa.example", Some("ANNA")),
            "the address or the user ID is taken: see `ceralacca account list`",
        ),
        (
            add("b@pec.alfa.example", Some("b@c")),
            "`b@c` is no user ID: take 1 to 64 letters, digits, dots, hyphens or underscores",
        ),
        (
            Request::Show { address: "x@pec.alfa.example".into() },
            "there is no account x@pec.alfa.example: see `ceralacca account list`",
        ),
        (
            Request::Remove { address: "posta-certificata@pec.alfa.example".into() },
            "posta-certificata@pec.alfa.example is a service address, which certified mail cannot \
             work without: leave it as it is",
        ),
        (
            Request::Suspend { address: "posta-certificata@pec.alfa.example".into() },
            "posta-certificata@pec.alfa.example is a service address, which certified mail cannot \
             work without: leave it as it is",
        ),
        (
            Request::Remove { address: "postmaster@pec.alfa.example".into() },
            "postmaster@pec.alfa.example gets the mail to postmaster: name another account in \
             provider.postmaster first",
        ),
    ];
    for (request, expected) in table {
        assert_eq!(text(&store, request).unwrap_err(), expected);
    }
    assert!(text(&store, add("c@pec.alfa.example", Some(&long))).is_err());
    assert!(text(&store, add("c@pec.alfa.example", Some(&long[1..]))).is_ok());
}

#[test]
fn a_service_address_can_be_opened_to_the_operator() {
    let store = MemoryStore::new();
    service(&store);
    let password = Some(Kept { phc: "p".into(), scram: "s".into() });
    let address = "posta-certificata@pec.alfa.example".to_owned();
    assert!(text(&store, Request::Passwd { address, password }).is_ok());
}

#[test]
fn no_password_is_printed() {
    let kept = Kept::of("segretissima").unwrap();
    let request = Request::Passwd { address: "a@b.example".into(), password: Some(kept) };
    assert_eq!(
        format!("{request:?}"),
        r#"Passwd { address: "a@b.example", password: Some([redacted]) }"#
    );
}

fn config() -> Arc<Config> {
    let text = "[provider]\nname = \"Alfa\"\ndomains = [\"pec.alfa.example\"]\n";
    Arc::new(Config::parse(Path::new("/x/ceralacca.toml"), text).unwrap())
}

/// A server over a memory store, what it told sessions of, and its end.
fn start(path: &Path) -> (Arc<Mutex<Vec<AccountId>>>, watch::Sender<bool>) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let (stop, stopping) = watch::channel(false);
    let server = Server::bind(path).unwrap();
    let heard = told.clone();
    let desk = Desk {
        store: Arc::new(MemoryStore::new()),
        config: Arc::new(config),
        on_change: Arc::new(move |id| heard.lock().unwrap().push(id)),
        index: Arc::new(Damaged),
        holds: Arc::new(jobs::NoHolds),
        seal_log: Arc::new(|| Ok(Sealed { sealed: true, seal: Some(1), unstamped: None })),
    };
    tokio::spawn(serve(server, desk, stopping));
    (told, stop)
}

/// An index that nothing can be done with.
struct Damaged;

impl IndexDesk for Damaged {
    fn in_use(&self) -> (Arc<Index>, Arc<Vec<String>>) {
        (Arc::default(), Arc::default())
    }

    fn reload(&self) -> anyhow::Result<()> {
        anyhow::bail!("it is damaged")
    }

    fn refresh(&self, _force: bool) -> anyhow::Result<Refreshed> {
        anyhow::bail!("it is damaged")
    }

    fn sign_own(&self) -> anyhow::Result<Vec<u8>> {
        anyhow::bail!("it is damaged")
    }
}

async fn asked(path: &Path, request: Request) -> Option<Response> {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || ask(&path, &request).unwrap()).await.unwrap()
}

#[tokio::test]
async fn the_socket_answers_as_the_store_does() {
    let folder = tempfile::tempdir().unwrap();
    // Longer than any sun_path.
    for path in [folder.path().to_owned(), folder.path().join("long/".repeat(30))] {
        std::fs::create_dir_all(&path).unwrap();
        let path = path.join("control.sock");
        assert_eq!(asked(&path, Request::List).await, None);
        let (told, stop) = start(&path);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let done = asked(&path, add("anna@pec.alfa.example", None)).await.unwrap();
        assert!(matches!(done, Response::Done { .. }));
        let Some(Response::Accounts { accounts }) = asked(&path, Request::List).await else {
            panic!("no list")
        };
        assert_eq!(accounts.len(), 1);
        assert_eq!(told.lock().unwrap().len(), 1);
        let kept = "the running server keeps the old index: it is damaged".to_owned();
        let reloaded = asked(&path, Request::ReloadIndex).await;
        assert_eq!(reloaded, Some(Response::Refused { text: kept.clone() }));
        let refreshed = asked(&path, Request::RefreshIndex { force: false }).await;
        assert_eq!(refreshed, Some(Response::Refused { text: kept }));
        let unsigned = "the running server cannot sign it: it is damaged".to_owned();
        let signed = asked(&path, Request::SignIndex).await;
        assert_eq!(signed, Some(Response::Refused { text: unsigned }));
        assert!(Server::bind(&path).is_err(), "a second server");
        stop.send(true).unwrap();
        while path.exists() {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn what_a_killed_server_left_is_no_server() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    assert_eq!(asked(&path, Request::List).await, None);
    let (_told, _stop) = start(&path);
    assert!(asked(&path, Request::List).await.is_some());
}

#[tokio::test]
async fn a_line_that_is_too_long_or_no_request_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    let (_told, _stop) = start(&path);
    let refused = r#"{"result":"refused","text":"the running server does not know this command: restart it"}"#;
    let endless = vec![b' '; usize::try_from(REQUEST_OCTETS_MAX).unwrap()];
    for line in [&b"{\"command\":\"dance\"}\n"[..], b"\n", &endless] {
        let mut stream = tokio::net::UnixStream::connect(&path).await.unwrap();
        stream.write_all(line).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer.trim_end(), refused);
    }
}

fn records(store: &MemoryStore, wanted: &Wanted, after: u64) -> (Vec<LogRecord>, Option<u64>) {
    let request = Request::FindRecords { wanted: wanted.clone(), after };
    match perform(store, &rules(), request, AT).0 {
        Response::Records { records, next } => (records, next),
        other => panic!("{other:?}"),
    }
}

#[test]
fn records_come_in_pages_and_by_any_identifier() {
    let store = MemoryStore::new();
    let record = |number: usize| LogRecord {
        identificativo: Some(format!("{number}@pec.alfa.example")),
        msgid: Some(format!("prova.{number}@client.example")),
        mittente: Some("Anna@pec.alfa.example".to_owned()),
        ..LogRecord::default()
    };
    let log = (0..250).map(record).collect();
    store.commit(store::Transaction { log, ..store::Transaction::default() }).unwrap();

    let anna = Wanted { account: Some("anna@pec.alfa.example".into()), ..Wanted::default() };
    let (mut all, mut pages, mut after) = (Vec::new(), 0, Some(0));
    while let Some(number) = after {
        let (page, next) = records(&store, &anna, number);
        (pages, after) = (pages + 1, next);
        all.extend(page);
    }
    assert_eq!((pages, all), (3, (0..250).map(record).collect()));

    for id in ["7@pec.alfa.example", "<7@pec.alfa.example>", " <prova.7@client.example> "] {
        let wanted = Wanted { message_id: Some(id.into()), ..Wanted::default() };
        assert_eq!(records(&store, &wanted, 0), (vec![record(7)], None), "{id}");
    }
    let nobody = Wanted { account: Some("anna".into()), ..Wanted::default() };
    assert_eq!(
        text(&store, Request::FindRecords { wanted: nobody, after: 0 }).unwrap_err(),
        "`anna` is no address (an address is local-part@domain): write local-part@domain"
    );
}

#[test]
fn jobs_are_shown_and_hastened_page_by_page() {
    let store = MemoryStore::new();
    let later: Timestamp = "2100-01-01T00:00:00Z".parse().unwrap();
    let job = |payload: &str, octets| store::NewJob {
        due: later,
        payload: payload.as_bytes().to_vec(),
        octets,
        lane: None,
    };
    let place = r#"{"Place":{"to":"anna@pec.alfa.example"}}"#;
    let message = b"Message-ID: <r1@pec.alfa.example>\r\n\r\nx".to_vec();
    let mut enqueue = vec![job(place, Some(store::Source::New(0)))];
    enqueue.extend((0..149).map(|_| job("of another version", None)));
    let octets = vec![store::Octets::Inline(message.into())];
    store.commit(store::Transaction { octets, enqueue, ..store::Transaction::default() }).unwrap();
    let ask = |request| perform(&store, &rules(), request, AT).0;

    let Response::Jobs { jobs, next } = ask(Request::ListJobs { after: 0 }) else { panic!("jobs") };
    assert_eq!((jobs.len(), next), (100, Some(100)));
    let shown = JobView {
        job: 1,
        step: "place".to_owned(),
        message_id: Some("r1@pec.alfa.example".to_owned()),
        recipients: vec!["anna@pec.alfa.example".to_owned()],
        queued: AT,
        due: later,
        attempts: 0,
        last_error: None,
        octets: Some(38),
    };
    assert_eq!(jobs[0], shown);
    assert_eq!((jobs[1].step.as_str(), jobs[1].octets), ("unknown", None));
    let Response::Jobs { jobs, next } = ask(Request::ListJobs { after: 100 }) else {
        panic!("jobs")
    };
    assert_eq!((jobs.len(), jobs[49].job, next), (50, 150, None));

    let retried = |count, next| Response::Retried { count, next };
    assert_eq!(ask(Request::RetryJob { job: 1 }), retried(1, None));
    assert_eq!(ask(Request::RetryJob { job: 1 }), retried(0, None));
    let hastened = JobView { due: AT, attempts: 1, ..shown };
    let jobs = vec![hastened];
    assert_eq!(ask(Request::ShowJob { job: 1 }), Response::Jobs { jobs, next: None });
    assert_eq!(ask(Request::RetryJobs { after: 0 }), retried(99, Some(100)));
    assert_eq!(ask(Request::RetryJobs { after: 100 }), retried(50, None));
    assert_eq!(ask(Request::RetryJobs { after: 0 }), retried(0, Some(100)));
    for request in [Request::ShowJob { job: 151 }, Request::RetryJob { job: 0 }] {
        let number = if matches!(request, Request::ShowJob { .. }) { 151 } else { 0 };
        assert_eq!(
            text(&store, request).unwrap_err(),
            format!("there is no job {number}, or it is done: see `ceralacca queue list`")
        );
    }
}

/// Destinations that are left alone, and those that were released.
#[derive(Default)]
struct Held {
    held: Vec<&'static str>,
    released: Mutex<Vec<Option<String>>>,
    sent: Vec<u64>,
}

impl Holds for Held {
    fn is_held(&self, destination: &str) -> bool {
        self.held.contains(&destination)
    }

    fn release(&self, destination: Option<&str>) {
        self.released.lock().unwrap().push(destination.map(str::to_owned));
    }

    fn unless_sent(&self, _: &str, job: store::JobId, work: &mut dyn FnMut()) -> bool {
        let is_sent = self.sent.contains(&job.0);
        if !is_sent {
            work();
        }
        !is_sent
    }
}

/// A message to somebody at another host, certified or not.
fn relay(to: &str, content: crate::flow::dispatch::Content) -> store::NewJob {
    let to = Address::parse(to).unwrap();
    let anna = Address::parse("anna@pec.alfa.example").unwrap();
    let relay = crate::flow::dispatch::Relay {
        reverse_path: mail::ReversePath::Address(anna.clone()),
        domain: to.domain().to_string(),
        recipients: vec![crate::flow::dispatch::RelayRecipient { address: to, last: None }],
        content,
        wishes: crate::flow::wishes::Wishes::default(),
        account: anna,
    };
    let payload = serde_json::to_vec(&crate::flow::Task::Relay(relay)).unwrap();
    store::NewJob { due: AT, payload, octets: None, lane: None }
}

/// A job that was never tried waits for its destination, and is hastened by letting that be tried.
#[test]
fn a_job_that_waits_for_its_destination_is_hastened_with_it() {
    use crate::flow::dispatch::Content;
    let store = MemoryStore::new();
    let enqueue = vec![
        relay("a@held.example", Content::Ordinary),
        relay("b@free.example", Content::Ordinary),
    ];
    store.commit(store::Transaction { enqueue, ..store::Transaction::default() }).unwrap();
    let holds = Held { held: vec!["held.example"], ..Held::default() };
    let ask = |request| perform_with(&store, &rules(), &holds, request, AT).0;
    let retried = |count| Response::Retried { count, next: None };
    assert_eq!(ask(Request::RetryJob { job: 1 }), retried(1));
    assert_eq!(ask(Request::RetryJob { job: 2 }), retried(0));
    assert_eq!(ask(Request::RetryJobs { after: 0 }), retried(1));
    let released = holds.released.lock().unwrap().clone();
    let one = |domain: &str| Some(domain.to_owned());
    assert_eq!(released, [one("held.example"), one("free.example"), None]);
}

// PEC-LOG-01
#[test]
fn the_record_of_a_message_that_is_given_up_has_the_fields_of_any_other() {
    use crate::flow::dispatch::Content;
    let store = MemoryStore::new();
    let id = pec::exchange::PecId::parse("1@pec.alfa.example").unwrap();
    let enqueue = vec![relay("b@pec.beta.example", Content::Envelope(id))];
    store.commit(store::Transaction { enqueue, ..store::Transaction::default() }).unwrap();
    assert_eq!(text(&store, Request::CancelJob { job: 1 }).unwrap(), "job 1 is given up");
    let filter = store::LogFilter {
        message_id: Some("1@pec.alfa.example".to_owned()),
        ..store::LogFilter::default()
    };
    let records = store.log(&filter, 0, 9).unwrap();
    let expected = LogRecord {
        time: AT,
        event: "errore-trasmissione".to_owned(),
        identificativo: Some("1@pec.alfa.example".to_owned()),
        message_id: Some("1@pec.alfa.example".to_owned()),
        mittente: Some("anna@pec.alfa.example".to_owned()),
        gestore: Some("Alfa PEC S.p.A.".to_owned()),
        consegna: Some("b@pec.beta.example".to_owned()),
        errore: Some("altro".to_owned()),
        errore_esteso: Some("given up by the operator".to_owned()),
        ..LogRecord::default()
    };
    assert_eq!(records.into_iter().map(|(_, record)| record).collect::<Vec<_>>(), [expected]);
}
