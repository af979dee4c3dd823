//! A provider of two domains and a few accounts, on the model store, with a clock that stands still
//! and a key of its own.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use crypto::{Authority, LocalSigner, SignError, Signer};
use mail::{Address, ReversePath};
use pec::Certification;
use store::memory::MemoryStore;
use store::{
    AccountChange, LogFilter, LogRecord, MailboxName, NewAccount, Owner, Quota, Role, Store,
    Timestamp, UidSet,
};

use crate::clock::Clock;
use crate::config::Config;
use crate::flow::access::{self, Submitted, Trace};
use crate::flow::reception::{self, Arrival, Received};
use crate::flow::wishes::Wishes;
use crate::site::Site;

const NOW: &str = "2026-09-14T07:30:12Z";
pub(super) const ROSSI: &str = "rossi@pec.alfa.example";
pub(super) const BIANCHI: &str = "bianchi@pec.alfa.example";
pub(super) const VERDI: &str = "verdi@pec.beta.example";
pub(super) const POSTMASTER: &str = "postmaster@pec.alfa.example";
pub(super) const SERVICE: &str = "ricevute@pec.alfa.example";
pub(super) const AUTHOR: &str = "posta-certificata@pec.alfa.example";
pub(super) const BODY: &str = "Si allega istanza.\r\n";

/// The provider.
pub(super) struct Scene {
    pub(super) site: Arc<Site>,
    pub(super) clock: Clock,
    /// The site's store.
    pub(super) memory: Arc<MemoryStore>,
    _folder: tempfile::TempDir,
}

pub(super) fn now() -> Timestamp {
    NOW.parse().unwrap()
}

pub(super) fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

/// Keys are made once: they take a second.
fn keys() -> &'static [String; 5] {
    static KEYS: OnceLock<[String; 5]> = OnceLock::new();
    KEYS.get_or_init(|| {
        let at = "2026-01-01T00:00:00Z".parse().unwrap();
        let authority = Authority::new("Prova CA", at).unwrap();
        let (certificate, key) = authority.issue_provider("Alfa PEC S.p.A.", AUTHOR, at).unwrap();
        let (tls, tls_key) = authority.issue_tls(&["localhost"], &[], at).unwrap();
        [
            authority.certificate().to_pem(),
            certificate.to_pem(),
            key.as_str().to_owned(),
            tls.to_pem(),
            tls_key.as_str().to_owned(),
        ]
    })
}

impl Scene {
    pub(super) fn new() -> Self {
        Self::signing_with(&keys()[2])
    }

    /// The same, with a key that its certificate knows nothing of.
    pub(super) fn with_a_strange_key() -> Self {
        let at = "2026-01-01T00:00:00Z".parse().unwrap();
        let (_, key) = Authority::new("Altra CA", at).unwrap().to_pem().unwrap();
        Self::signing_with(key.as_str())
    }

    fn signing_with(key: &str) -> Self {
        Self::signing_by(Arc::new(LocalSigner::from_pem(key.as_bytes()).unwrap()))
    }

    /// The same, with whatever signs.
    pub(super) fn signing_by(signer: Arc<dyn Signer>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [ca, certificate, key, tls, tls_key] = keys();
        let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        put("ca.pem", ca);
        put("signing.pem", certificate);
        put("tls.pem", tls);
        put("tls.key", tls_key);
        let record = pec::providers::ProviderRecord {
            name: "Alfa PEC S.p.A.".to_owned(),
            unit: None,
            certificates: vec![
                crypto::Certificate::from_pem(certificate.as_bytes()).unwrap().to_der().to_vec(),
            ],
            mail_receipt: address(SERVICE),
            domains: ["pec.alfa.example", "pec.beta.example"]
                .map(|name| mail::Domain::parse(name).unwrap())
                .into(),
            location: None,
            description: None,
        };
        put("providers.ldif", &pec::providers::records_to_ldif(&[record]));
        put("signing.key", key);
        let toml = r#"
            [provider]
            name = "Alfa PEC S.p.A."
            domains = ["pec.alfa.example", "pec.beta.example"]
            [trust]
            authorities = ["ca.pem"]
            [signing]
            key = "signing.key"
            certificate = "signing.pem"
            [tls]
            key = "tls.key"
            certificate = "tls.pem"
        "#;
        let config = Config::parse(&folder.path().join("ceralacca.toml"), toml).unwrap();
        let store = Arc::new(MemoryStore::new());
        for (name, role, octets_max) in [
            (ROSSI, Role::None, 1 << 30),
            (BIANCHI, Role::None, 1 << 30),
            (VERDI, Role::None, 1 << 30),
            ("piena@pec.beta.example", Role::None, 4096),
            ("postmaster@pec.alfa.example", Role::None, 1 << 30),
            (SERVICE, Role::ServiceMailbox, 1 << 30),
            (AUTHOR, Role::Author, 1 << 30),
        ] {
            let account = NewAccount {
                address: address(name),
                user_id: None,
                owner: if role == Role::None { Owner::Holder } else { Owner::Provider },
                role,
                credentials: None,
                quota: Quota { octets_max, messages_max: None, receipt_reserve_octets: 1 << 20 },
                ordinary_mail: None,
            };
            store.add_account(account, now()).unwrap();
        }
        let clock = Clock::set(now());
        let site = crate::serve::assemble(config, store.clone(), signer, clock.clone()).unwrap();
        Self { site, clock, memory: store, _folder: folder }
    }

    /// The certificate, in PEM, of who issues those for TLS.
    pub(super) fn authority(&self) -> &'static str {
        &keys()[0]
    }

    /// A certificate for TLS and its key, in PEM.
    pub(super) fn tls_pair(&self) -> (&'static str, &'static str) {
        let [.., certificate, key] = keys();
        (certificate, key)
    }

    /// Submits, as a session does after the end of data.
    pub(super) fn submit(&self, from: &str, to: &[&str], message: &str) -> String {
        match self.try_submit(from, to, message) {
            Ok(id) => id,
            Err(access::Refusal::Say(reply)) => panic!("{reply}"),
            Err(access::Refusal::Fault(error)) => panic!("{error:#}"),
        }
    }

    /// The same, where it may be refused.
    pub(super) fn try_submit(
        &self,
        from: &str,
        to: &[&str],
        message: &str,
    ) -> Result<String, access::Refusal> {
        self.submit_wishing(from, to, message, Wishes::default())
    }

    /// The same, of a sender who asks to be told this and that.
    pub(super) fn submit_wishing(
        &self,
        from: &str,
        to: &[&str],
        message: &str,
        wishes: Wishes,
    ) -> Result<String, access::Refusal> {
        let mut spool = self.site.store.spool().unwrap();
        spool.write(message.as_bytes()).unwrap();
        let submitted = Submitted {
            reverse_path: address(from),
            forward_paths: to.iter().copied().map(address).collect(),
            wishes,
            trace: Trace {
                hello: "pc.example".to_owned(),
                peer: [192, 0, 2, 10].into(),
                protocol: "ESMTPSA",
            },
        };
        access::take(&self.site, &submitted, spool)
    }

    /// Brings a message to port 25, as another host does.
    pub(super) fn bring(&self, from: &str, to: &[&str], message: &[u8]) -> Result<String, String> {
        let mut spool = self.site.store.spool().unwrap();
        spool.write(message).unwrap();
        let received = Received {
            reverse_path: match from {
                "" => ReversePath::Null,
                from => ReversePath::Address(address(from)),
            },
            forward_paths: to.iter().copied().map(address).collect(),
            wishes: Wishes::default(),
            arrival: Arrival {
                hello: "mx.example.org".to_owned(),
                peer: [192, 0, 2, 25].into(),
                protocol: "ESMTPS",
                tls: Some("TLSv1_3".to_owned()),
                authenticate: None,
            },
        };
        match reception::take(&self.site, received, spool) {
            Ok(id) => Ok(id),
            Err(access::Refusal::Say(reply)) => Err(reply.to_string()),
            Err(access::Refusal::Fault(error)) => panic!("{error:#}"),
        }
    }

    /// What a holder does with ordinary mail from now on.
    pub(super) fn ordinary_mail(&self, of: &str, policy: &str) {
        let account = self.site.store.account_by_address(&address(of)).unwrap().unwrap();
        let change = AccountChange::OrdinaryMail(Some(policy.to_owned()));
        self.site.store.change_account(account.id, change).unwrap();
    }

    /// Does the oldest job that is due; false when there is none.
    pub(super) fn step(&self) -> bool {
        let due = self.site.store.jobs_due(now(), None, 1).unwrap();
        for job in &due {
            crate::flow::perform(&self.site, job).unwrap();
        }
        !due.is_empty()
    }

    /// Does jobs until none is due.
    pub(super) fn run(&self) {
        while self.step() {}
    }

    /// The messages of an account's INBOX.
    pub(super) fn inbox(&self, of: &str) -> Vec<Vec<u8>> {
        let store = &self.site.store;
        let account = store.account_by_address(&address(of)).unwrap().unwrap();
        let inbox = store.mailbox(account.id, &MailboxName::inbox()).unwrap();
        let all = store.summaries(inbox.id, &UidSet::all(), 1000).unwrap();
        all.iter().map(|m| store.read(m.blob, 0, m.octets).unwrap()).collect()
    }

    /// What the receipts in an account's INBOX certify, in their order.
    pub(super) fn certified(&self, of: &str) -> Vec<Certification> {
        self.inbox(of).iter().map(|octets| certification(octets)).collect()
    }

    /// The log records of a message, in their order.
    pub(super) fn records(&self, message_id: &str) -> Vec<LogRecord> {
        let filter = LogFilter { message_id: Some(message_id.to_owned()), ..LogFilter::default() };
        let records = self.site.store.log(&filter, 0, 100).unwrap();
        records.into_iter().map(|(_, record)| record).collect()
    }

    pub(super) fn events(&self, message_id: &str) -> Vec<String> {
        self.records(message_id).into_iter().map(|record| record.event).collect()
    }
}

pub(super) fn certification(octets: &[u8]) -> Certification {
    let examination = pec::examine(octets);
    let parts = examination.parts().unwrap();
    Certification::parse(&parts.certifications[0].decoded(1 << 20).unwrap()).unwrap()
}

pub(super) fn kinds(data: &[Certification]) -> Vec<&'static str> {
    let mut kinds: Vec<&str> = data.iter().map(|data| data.kind.tipo()).collect();
    kinds.sort_unstable();
    kinds
}

pub(super) fn message(from: &str, to: &[&str], subject: &str) -> String {
    format!(
        "From: {from}\r\nTo: {}\r\nSubject: {subject}\r\nDate: Mon, 14 Sep 2026 09:30:01 +0200\r\n\
         Message-ID: <cliente.1@pc.example>\r\n\r\n{BODY}",
        to.join(", ")
    )
}

/// Submits "Offerta" from Rossi.
pub(super) fn offer(scene: &Scene, to: &[&str]) -> String {
    scene.submit(ROSSI, to, &message(ROSSI, to, "Offerta"))
}

/// Signs as the scene's provider does, and panics when it is told to.
pub(super) struct Unsteady {
    signer: LocalSigner,
    /// How often it still panics.
    pub(super) panics: AtomicUsize,
}

impl Unsteady {
    pub(super) fn new() -> Self {
        let signer = LocalSigner::from_pem(keys()[2].as_bytes()).unwrap();
        Self { signer, panics: AtomicUsize::new(0) }
    }
}

impl Signer for Unsteady {
    fn sign(&self, octets: &[u8]) -> Result<Vec<u8>, SignError> {
        let less = |left: usize| left.checked_sub(1);
        let panics = self.panics.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok();
        assert!(!panics, "told to");
        self.signer.sign(octets)
    }
}
