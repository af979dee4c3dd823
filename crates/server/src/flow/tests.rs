//! The life of a message through all points of one provider, on the model store, with a clock that
//! stands still and a key of its own.

use std::sync::{Arc, OnceLock};

use crypto::{Authority, LocalSigner};
use mail::{Address, Message};
use pec::Certification;
use pec::certification::CertifiedKind;
use pec::receipt::ReceiptKind;
use store::memory::MemoryStore;
use store::{
    AccountChange, LogFilter, MailboxName, NewAccount, Owner, Quota, Role, State, Store, Timestamp,
    TrackState, UidSet,
};

use super::access::{Submitted, Trace};
use crate::clock::Clock;
use crate::config::Config;
use crate::site::Site;

const NOW: &str = "2026-09-14T07:30:12Z";
const ROSSI: &str = "rossi@pec.alfa.example";
const BIANCHI: &str = "bianchi@pec.alfa.example";
const VERDI: &str = "verdi@pec.beta.example";
const SERVICE: &str = "ricevute@pec.alfa.example";
const BODY: &str = "Si allega istanza.\r\n";

/// A provider of two domains and a few accounts.
struct Scene {
    site: Arc<Site>,
    _folder: tempfile::TempDir,
}

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

/// Keys are made once: they take a second.
fn keys() -> &'static (String, String, String, String, String) {
    static KEYS: OnceLock<(String, String, String, String, String)> = OnceLock::new();
    KEYS.get_or_init(|| {
        let at = "2026-01-01T00:00:00Z".parse().unwrap();
        let authority = Authority::new("Prova CA", at).unwrap();
        let (certificate, key) =
            authority.issue_provider("Alfa PEC S.p.A.", "posta-certificata@pec.alfa.example", at).unwrap();
        let (tls, tls_key) = authority.issue_tls(&["localhost"], &[], at).unwrap();
        (
            authority.certificate().to_pem(),
            certificate.to_pem(),
            key.as_str().to_owned(),
            tls.to_pem(),
            tls_key.as_str().to_owned(),
        )
    })
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (ca, certificate, key, tls, tls_key) = keys();
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
            (SERVICE, Role::ServiceMailbox, 1 << 30),
            ("posta-certificata@pec.alfa.example", Role::Author, 1 << 30),
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
        let signer = Arc::new(LocalSigner::from_pem(key.as_bytes()).unwrap());
        let site = crate::serve::assemble(config, store, signer, Clock::set(now())).unwrap();
        Self { site, _folder: folder }
    }

    /// Submits, as a session does after the end of data.
    fn submit(&self, from: &str, to: &[&str], message: &str) -> String {
        let mut spool = self.site.store.spool().unwrap();
        spool.write(message.as_bytes()).unwrap();
        let submitted = Submitted {
            reverse_path: address(from),
            forward_paths: to.iter().copied().map(address).collect(),
            trace: Trace {
                hello: "pc.example".to_owned(),
                peer: [192, 0, 2, 10].into(),
                protocol: "ESMTPSA",
            },
        };
        match super::access::take(&self.site, &submitted, spool) {
            Ok(id) => id,
            Err(super::access::Refusal::Say(reply)) => panic!("{reply}"),
            Err(super::access::Refusal::Fault(error)) => panic!("{error:#}"),
        }
    }

    /// Does jobs until none is due.
    fn run(&self) {
        loop {
            let due = self.site.store.jobs_due(now(), None, 100).unwrap();
            if due.is_empty() {
                return;
            }
            for job in due {
                super::perform(&self.site, &job).unwrap();
            }
        }
    }

    /// The messages of an account's INBOX.
    fn inbox(&self, of: &str) -> Vec<Vec<u8>> {
        let store = &self.site.store;
        let account = store.account_by_address(&address(of)).unwrap().unwrap();
        let inbox = store.mailbox(account.id, &MailboxName::inbox()).unwrap();
        let all = store.summaries(inbox.id, &UidSet::all(), 1000).unwrap();
        all.iter().map(|m| store.read(m.blob, 0, m.octets).unwrap()).collect()
    }

    /// What the receipts in an account's INBOX certify, in their order.
    fn certified(&self, of: &str) -> Vec<Certification> {
        self.inbox(of).iter().map(|octets| certification(octets)).collect()
    }

    fn events(&self, message_id: &str) -> Vec<String> {
        let filter =
            LogFilter { message_id: Some(message_id.to_owned()), ..LogFilter::default() };
        let records = self.site.store.log(&filter, 0, 100).unwrap();
        records.into_iter().map(|(_, record)| record.event).collect()
    }
}

fn certification(octets: &[u8]) -> Certification {
    let examination = pec::examine(octets);
    let parts = examination.parts().unwrap();
    Certification::parse(&parts.certifications[0].decoded(1 << 20).unwrap()).unwrap()
}

fn kinds(data: &[Certification]) -> Vec<&'static str> {
    let mut kinds: Vec<&str> = data.iter().map(|data| data.kind.tipo()).collect();
    kinds.sort_unstable();
    kinds
}

fn message(from: &str, to: &[&str], subject: &str) -> String {
    format!(
        "From: {from}\r\nTo: {}\r\nSubject: {subject}\r\nDate: Mon, 14 Sep 2026 09:30:01 +0200\r\n\
         Message-ID: <cliente.1@pc.example>\r\n\r\n{BODY}",
        to.join(", ")
    )
}

/// Submits "Offerta" from Rossi.
fn offer(scene: &Scene, to: &[&str]) -> String {
    scene.submit(ROSSI, to, &message(ROSSI, to, "Offerta"))
}

// PEC-GEN-09 PEC-AP-28 PEC-PR-19 PEC-PR-21 PEC-PC-02 PEC-PR-25
#[test]
fn a_message_within_one_domain_goes_through_every_point() {
    let scene = Scene::new();
    let id = offer(&scene, &[BIANCHI]);
    scene.run();
    assert_eq!(kinds(&scene.certified(ROSSI)), ["accettazione", "avvenuta-consegna"]);
    assert_eq!(kinds(&scene.certified(BIANCHI)), ["posta-certificata"]);
    assert_eq!(kinds(&scene.certified(SERVICE)), ["presa-in-carico"]);
    for data in [ROSSI, BIANCHI, SERVICE].iter().flat_map(|of| scene.certified(of)) {
        assert_eq!(data.identifier.as_str(), id);
        assert_eq!(data.msgid.as_deref(), Some("<cliente.1@pc.example>"));
        assert_eq!(data.sender, address(ROSSI));
    }
    assert_eq!(
        scene.events(&id),
        [
            "accettazione",
            "posta-certificata",
            "presa-in-carico",
            "consegna",
            "consegna",
            "avvenuta-consegna",
            "consegna"
        ]
    );
    let tracked = scene.site.store.tracked(&id).unwrap();
    assert_eq!(tracked.len(), 1);
    assert_eq!(tracked[0].state, TrackState::Delivered);
}

// PEC-AP-29
#[test]
fn what_was_acknowledged_is_stored_with_its_identity_before_any_step() {
    let scene = Scene::new();
    let id = offer(&scene, &[BIANCHI]);
    assert_eq!(scene.events(&id), ["accettazione", "posta-certificata"]);
    let due = scene.site.store.jobs_due(now(), None, 100).unwrap();
    assert_eq!(due.len(), 1);
    let original = super::octets_of(&scene.site, &due[0]).unwrap();
    let original = Message::parse(&original).unwrap();
    assert_eq!(original.field("Message-ID").unwrap().unfolded(), format!("<{id}>"));
    assert_eq!(original.body(), BODY.as_bytes());
    assert_eq!(scene.site.store.tracked(&id).unwrap()[0].state, TrackState::Sent);
}

// PEC-PC-03 PEC-PIC-01 PEC-PR-23
#[test]
fn every_recipient_gets_the_envelope_and_the_sender_a_receipt_for_each() {
    let scene = Scene::new();
    let id = offer(&scene, &[BIANCHI, VERDI]);
    scene.run();
    assert_eq!(
        kinds(&scene.certified(ROSSI)),
        ["accettazione", "avvenuta-consegna", "avvenuta-consegna"]
    );
    let taken = &scene.certified(SERVICE)[..];
    assert_eq!(taken.len(), 1);
    assert_eq!(taken[0].taken, [address(BIANCHI), address(VERDI)]);
    let mut delivered: Vec<Address> =
        scene.certified(ROSSI).into_iter().filter_map(|data| data.delivery).collect();
    delivered.sort();
    assert_eq!(delivered, [address(BIANCHI), address(VERDI)]);
    assert_eq!(scene.inbox(BIANCHI), scene.inbox(VERDI));
    assert_eq!(scene.site.store.tracked(&id).unwrap().len(), 2);
}

// PEC-GEN-05 PEC-MBX-02 PEC-RC-08
#[test]
fn the_octets_submitted_are_the_octets_in_postacert() {
    let scene = Scene::new();
    let odd = "X-Odd:  kept \t as\r\n  it  is\r\n";
    let text = format!("{odd}{}", message(ROSSI, &[BIANCHI], "Offerta"));
    scene.submit(ROSSI, &[BIANCHI], &text);
    scene.run();
    let after = text.split("Message-ID").next().unwrap();
    for octets in [&scene.inbox(BIANCHI)[0], &scene.inbox(ROSSI)[1]] {
        let examination = pec::examine(octets);
        let parts = examination.parts().unwrap();
        let original = parts.originals[0].decoded(1 << 20).unwrap().into_owned();
        let original = String::from_utf8(original).unwrap();
        assert!(original.contains(after), "{original}");
        assert!(original.ends_with(BODY), "{original}");
    }
}

// PEC-AP-10 PEC-NA-04
#[test]
fn what_fails_a_formal_check_is_answered_with_a_notice_and_goes_nowhere() {
    let scene = Scene::new();
    let id = scene.submit(ROSSI, &[BIANCHI, VERDI], &message(ROSSI, &[BIANCHI], "Offerta"));
    scene.run();
    let notices = scene.certified(ROSSI);
    assert_eq!(kinds(&notices), ["non-accettazione"]);
    assert_eq!(notices[0].recipients.len(), 2);
    assert!(notices[0].error_text.as_deref().unwrap().contains(VERDI));
    assert!(scene.inbox(BIANCHI).is_empty() && scene.inbox(VERDI).is_empty());
    assert!(scene.inbox(SERVICE).is_empty());
    assert!(pec::examine(&scene.inbox(ROSSI)[0]).parts().unwrap().originals.is_empty());
    assert_eq!(scene.events(&id), ["non-accettazione"]);
}

// PEC-MC-01 PEC-MC-03 PEC-PR-30
#[test]
fn a_recipient_that_is_not_there_full_or_suspended_gets_the_sender_a_notice() {
    let scene = Scene::new();
    let store = &scene.site.store;
    let verdi = store.account_by_address(&address(VERDI)).unwrap().unwrap();
    store.change_account(verdi.id, AccountChange::State(State::Suspended)).unwrap();
    for (to, code) in [
        ("nessuno@pec.alfa.example", "5.1.1 - Alfa PEC S.p.A. - indirizzo non valido"),
        ("piena@pec.beta.example", "5.2.2 - Alfa PEC S.p.A. - casella piena"),
        (VERDI, "5.2.1 - Alfa PEC S.p.A. - casella disattivata"),
    ] {
        let id = offer(&scene, &[to]);
        scene.run();
        let notices = scene.certified(ROSSI);
        let notice = notices.last().unwrap();
        assert_eq!(notice.kind, CertifiedKind::Receipt(ReceiptKind::NonDelivery));
        assert_eq!(notice.identifier.as_str(), id);
        assert_eq!(notice.delivery, Some(address(to)));
        assert_eq!(notice.error_text.as_deref(), Some(code));
        assert_eq!(store.tracked(&id).unwrap()[0].state, TrackState::Failed);
    }
    assert!(scene.inbox("piena@pec.beta.example").is_empty());
}

// PEC-PR-28
#[test]
fn a_step_that_is_done_again_does_nothing() {
    let scene = Scene::new();
    offer(&scene, &[BIANCHI]);
    // Each job is done twice, as if the memory of it had been lost with the process.
    loop {
        let due = scene.site.store.jobs_due(now(), None, 100).unwrap();
        if due.is_empty() {
            break;
        }
        for job in due {
            super::perform(&scene.site, &job).unwrap();
            super::perform(&scene.site, &job).unwrap();
        }
    }
    assert_eq!(scene.inbox(ROSSI).len(), 2);
    assert_eq!(scene.inbox(BIANCHI).len(), 1);
    assert_eq!(scene.inbox(SERVICE).len(), 1);
}

// PEC-GEN-10 PEC-DT-07
#[test]
fn receipt_envelope_and_log_of_an_acceptance_have_one_time() {
    let scene = Scene::new();
    let id = offer(&scene, &[BIANCHI]);
    scene.run();
    let records = scene.site.store.log(&LogFilter::default(), 0, 100).unwrap();
    for (_, record) in records.iter().filter(|(_, r)| r.identificativo.as_deref() == Some(&id)) {
        assert_eq!(record.time, now());
    }
    for octets in [&scene.inbox(ROSSI)[0], &scene.inbox(BIANCHI)[0]] {
        let message = Message::parse(octets).unwrap();
        assert_eq!(message.field("Date").unwrap().unfolded(), "Mon, 14 Sep 2026 09:30:12 +0200");
        let data = certification(octets);
        assert_eq!((data.at.date(), data.at.time()), ("14/09/2026".into(), "09:30:12".into()));
    }
}

// PEC-PIC-02 PEC-PR-22 PEC-GEN-07
#[test]
fn the_service_mailbox_holds_take_charge_receipts_and_users_hold_none() {
    let scene = Scene::new();
    offer(&scene, &[BIANCHI]);
    scene.submit(BIANCHI, &[SERVICE], &message(BIANCHI, &[SERVICE], "Risposta automatica"));
    scene.run();
    assert_eq!(kinds(&scene.certified(SERVICE)), ["presa-in-carico"]);
    for of in [ROSSI, BIANCHI] {
        assert!(!kinds(&scene.certified(of)).contains(&"presa-in-carico"));
    }
    assert_eq!(kinds(&scene.certified(BIANCHI)), ["non-accettazione", "posta-certificata"]);
}

#[test]
fn a_receipt_that_finds_the_mailbox_full_waits_and_comes_when_there_is_room() {
    let scene = Scene::new();
    let store = &scene.site.store;
    let rossi = store.account_by_address(&address(ROSSI)).unwrap().unwrap();
    let none = Quota { octets_max: 0, messages_max: None, receipt_reserve_octets: 0 };
    store.change_account(rossi.id, AccountChange::Quota(none)).unwrap();
    offer(&scene, &[BIANCHI]);
    for _ in 0..5 {
        for job in store.jobs_due(now(), None, 100).unwrap() {
            // Receipts for the full mailbox fail; everything else is done.
            let _ = super::perform(&scene.site, &job);
        }
    }
    assert!(scene.inbox(ROSSI).is_empty());
    assert_eq!(scene.inbox(BIANCHI).len(), 1);
    assert_eq!(store.jobs_waiting().unwrap().0, 2);
    store.change_account(rossi.id, AccountChange::Quota(rossi.quota)).unwrap();
    scene.run();
    assert_eq!(kinds(&scene.certified(ROSSI)), ["accettazione", "avvenuta-consegna"]);
}

#[test]
fn every_signed_message_verifies_against_the_authority() {
    let scene = Scene::new();
    offer(&scene, &[BIANCHI]);
    offer(&scene, &["nessuno@pec.alfa.example"]);
    scene.run();
    let all = [ROSSI, BIANCHI, SERVICE].iter().flat_map(|of| scene.inbox(of));
    let mut count = 0;
    for octets in all {
        let examination = pec::examine(&octets);
        let (entity, signature) = (examination.entity().unwrap(), examination.signature().unwrap());
        let verified = crypto::verify(signature, entity, &scene.site.trust, now()).unwrap();
        assert_eq!(verified.signer.emails(), ["posta-certificata@pec.alfa.example"]);
        count += 1;
    }
    assert_eq!(count, 7);
}
