//! Submissions to a demo provider that make it emit every kind of message, and what came of them.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use scenarios::demo::PASSWORD;
use scenarios::process::{self, SERVICE_MAILBOX};
use scenarios::{Demo, Smtp};

use super::message::{Message, PARTS};

pub(crate) const AUTHOR: &str = "posta-certificata@pec.alfa.example";
const MARIO: &str = "mario.rossi@pec.alfa.example";
const VERDI: &str = "studio.verdi@pec.beta.example";
const COMUNE: &str = "comune@pec.beta.example";
const ANNA: &str = "anna.bianchi@pec.alfa.example";
const PIENA: &str = "piena@pec.beta.example";
const NOBODY: &str = "nessuno@pec.beta.example";

/// Subjects, as they are in the header.
pub(crate) const COMPLETE: &str = "=?utf-8?Q?Offerta_=E2=80=9C5_=E2=82=AC=E2=80=9D?=";
pub(crate) const BRIEF: &str = "Breve";

/// Fields that a user has no business to send.
pub(crate) const FORGED: &str = "X-Riferimento-Message-ID: <falso@client.example>\r\n\
    X-Ricevuta: avvenuta-consegna\r\nX-Trasporto: posta-certificata\r\n";

/// Subject and cause of what is not accepted.
pub(crate) const REFUSED: [(&str, &str); 10] = [
    (
        "Altro mittente",
        "un errore nel mittente: l'indirizzo del mittente nei dati di instradamento non coincide con il campo From",
    ),
    (
        "Due mittenti",
        "un errore nel mittente: il campo From è assente o non valido: contiene più indirizzi, lasciarne uno solo",
    ),
    (
        "Senza From",
        "un errore nel mittente: il campo From è assente o non valido: manca, indicarvi l'indirizzo del mittente",
    ),
    (
        "Senza To",
        "un errore nei destinatari: il campo To è assente o non valido: manca, indicarvi almeno un destinatario",
    ),
    (
        "Nascosto",
        "un errore nei destinatari: il destinatario comune@pec.beta.example non compare nei campi To e Cc del messaggio",
    ),
    (
        "Non instradato",
        "un errore nei destinatari: l'indirizzo comune@pec.beta.example nei campi To e Cc non compare nei dati di instradamento: inviare il messaggio anche a questo indirizzo, oppure toglierlo",
    ),
    ("Bcc", "un errore nei destinatari: il messaggio contiene destinatari nel campo Bcc"),
    (
        "Grande",
        "un errore nelle dimensioni: ecceduta la dimensione massima del messaggio, che è di 15728640 byte per 2 destinatari: ridurre gli allegati oppure inviare a meno destinatari per volta",
    ),
    (
        "Due volte",
        "un errore nel formato: il campo To compare più volte nell'intestazione del messaggio: lasciarne uno solo",
    ),
    (
        "Firmato a 8 bit",
        "un errore nel formato: il messaggio firmato contiene caratteri non codificati a 7 bit: codificarli prima di firmare il messaggio",
    ),
];

/// What is left when the provider has stopped.
pub(crate) struct Scene {
    pub(crate) messages: Vec<Message>,
    /// Those that the submissions were answered with.
    pub(crate) identifiers: HashSet<String>,
    pub(crate) ca: Vec<u8>,
    pub(crate) index: Vec<u8>,
    submitted: HashMap<String, String>,
}

/// The scene, played when first asked for.
pub(crate) fn scene() -> &'static Scene {
    static SCENE: LazyLock<Scene> = LazyLock::new(Scene::play);
    &SCENE
}

impl Scene {
    /// Messages of a kind.
    pub(crate) fn of(&self, kind: &str) -> impl Iterator<Item = &Message> {
        self.messages.iter().filter(move |message| message.kind() == kind)
    }

    /// Those about one submission: found by subject, and by the recipient that they are for or about.
    pub(crate) fn find(&self, kind: &str, subject: &str, recipient: &str) -> Vec<&Message> {
        let mut found: Vec<_> =
            self.of(kind).filter(|message| message.original_subject() == subject).collect();
        found.retain(|message| {
            let login = [("studio.verdi", "sverdi"), ("comune", "comune")];
            let of_recipient = login.contains(&(recipient, message.login));
            let consegna = format!("<consegna>{recipient}@");
            recipient.is_empty() || of_recipient || message.certification().contains(&consegna)
        });
        found
    }

    /// The one there is.
    pub(crate) fn only(&self, kind: &str, subject: &str, recipient: &str) -> &Message {
        let found = self.find(kind, subject, recipient);
        let [message] = found[..] else {
            panic!("{} of {kind} {subject:?} {recipient:?}", found.len())
        };
        message
    }

    /// What was submitted with this subject.
    pub(crate) fn submitted(&self, subject: &str) -> &str {
        &self.submitted[subject]
    }

    fn play() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let demo = Demo::start(&folder.path().join("demo")).unwrap();
        process::account(&demo.data, &["suspend", ANNA], "").unwrap();
        process::open_service_mailbox(&demo.data, PASSWORD).unwrap();
        let mut play = Play {
            smtp: demo.submit_as("mrossi").unwrap(),
            identifiers: HashSet::new(),
            submitted: HashMap::new(),
        };
        play.accepted();
        play.refused();
        // Acceptances, deliveries and non-deliveries, refusals.
        let counts = [
            ("mrossi", 7 + 7 + 3 + REFUSED.len()),
            ("sverdi", 6),
            ("comune", 1),
            (SERVICE_MAILBOX, 7),
        ];
        let mut messages = Vec::new();
        for (login, count) in counts {
            let mut imap = demo.imap_as(login).unwrap();
            imap.wait_for_count("INBOX", count as u64).unwrap();
            let whole = imap.messages("INBOX").unwrap();
            let mut parts: Vec<HashMap<&'static str, Vec<u8>>> = vec![HashMap::new(); whole.len()];
            for name in PARTS {
                let all = imap.fetch_all("INBOX", &format!("BODY.PEEK[{name}]")).unwrap();
                for (parts, (_, octets)) in parts.iter_mut().zip(all) {
                    parts.insert(name, octets);
                }
            }
            let all = whole.into_iter().zip(parts);
            messages.extend(all.map(|((_, octets), parts)| Message::new(login, octets, parts)));
        }
        let file = |name: &str| std::fs::read(demo.ready[name].as_str().unwrap()).unwrap();
        let (ca, index) = (file("ca"), file("index"));
        assert!(demo.stop().unwrap().success());
        Self { messages, identifiers: play.identifiers, ca, index, submitted: play.submitted }
    }
}

struct Play {
    smtp: Smtp,
    identifiers: HashSet<String>,
    submitted: HashMap<String, String>,
}

impl Play {
    fn submit(&mut self, subject: &str, to: &[&str], message: String) {
        let id = self.smtp.submit(MARIO, to, message.as_bytes()).unwrap();
        assert!(self.identifiers.insert(id));
        assert!(self.submitted.insert(subject.to_owned(), message).is_none());
    }

    fn accepted(&mut self) {
        let with_file = |subject: &str, id: &str, more: &str| {
            format!(
                "From: \"Mario Rossi\" <{MARIO}>\r\nTo: Studio Verdi <{VERDI}>\r\n{more}\
                 Subject: {subject}\r\nMessage-ID: <{id}@client.example>\r\nMIME-Version: 1.0\r\n\
                 Content-Type: multipart/mixed; boundary=\"b\"\r\n\r\nPreambolo\r\n--b\r\n\
                 Content-Type: text/plain\r\n\r\nSi allega.\r\n--b\r\n\
                 Content-Type: application/pdf; name=\"istanza.pdf\"\r\n\
                 Content-Disposition: attachment; filename=\"istanza.pdf\"\r\n\
                 Content-Transfer-Encoding: base64\r\n\r\n{}\r\n--b--\r\n",
                "JVBERi0xLjQKJeLjz9MK\r\n".repeat(20)
            )
        };
        let more = format!("Cc: {COMUNE}\r\nReply-To: ufficio@studio.example\r\n");
        self.submit(COMPLETE, &[VERDI, COMUNE], with_file(COMPLETE, "completa", &more));
        self.submit(BRIEF, &[VERDI], with_file(BRIEF, "breve", "X-TipoRicevuta: breve\r\n"));
        for (subject, asked) in [("Sintetica", "sintetica"), ("Altra", "complet")] {
            let message = plain(subject, VERDI, &format!("X-TipoRicevuta: {asked}\r\n"));
            self.submit(subject, &[VERDI], message);
        }
        // Without subject and identifier, and with what only providers may say.
        let text = format!("{FORGED}From: {MARIO}\r\nTo: {VERDI}\r\n\r\nCiao.\r\n");
        self.submit("", &[VERDI], text);
        let body = "Perché costa 5 €.\r\n";
        let mime = "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
                    Content-Transfer-Encoding: 8bit\r\n";
        let text = plain("Otto bit", VERDI, mime).replace("Ciao.\r\n", body);
        self.submit("Otto bit", &[VERDI], text);
        // Larger than all that `piena` may hold.
        let to = [NOBODY, PIENA, ANNA];
        let text = plain("Errori", &to.join(", "), "");
        let text = text.replace("Ciao.\r\n", &"Una riga di molte.\r\n".repeat(5000));
        self.submit("Errori", &to, text);
    }

    fn refused(&mut self) {
        let both = format!("{VERDI}, {COMUNE}");
        let from = format!("From: {MARIO}\r\n");
        for (subject, _) in REFUSED {
            let text = plain(subject, VERDI, "");
            let (to, text): (&[&str], String) = match subject {
                "Altro mittente" => (&[VERDI], text.replace(MARIO, ANNA)),
                "Due mittenti" => (&[VERDI], text.replace(MARIO, &format!("{MARIO}, {ANNA}"))),
                "Senza From" => (&[VERDI], text.replace(&from, "")),
                "Senza To" => (&[VERDI], text.replace(&format!("To: {VERDI}\r\n"), "")),
                "Nascosto" => (&[VERDI, COMUNE], text),
                "Non instradato" => (&[VERDI], plain(subject, &both, "")),
                "Bcc" => (&[VERDI], plain(subject, VERDI, &format!("Bcc: {COMUNE}\r\n"))),
                // 16 MB, twice.
                "Grande" => {
                    let body = format!("{}\r\n", "x".repeat(998)).repeat(16_000);
                    (&[VERDI, COMUNE], plain(subject, &both, "").replace("Ciao.\r\n", &body))
                }
                "Due volte" => (&[VERDI], plain(subject, VERDI, &format!("To: {VERDI}\r\n"))),
                _ => {
                    let mime = "MIME-Version: 1.0\r\nContent-Type: multipart/signed; boundary=b;\r\n \
                                protocol=\"application/pkcs7-signature\"; micalg=sha-256\r\n";
                    let parts = "--b\r\nContent-Type: text/plain; charset=utf-8\r\n\
                                 Content-Transfer-Encoding: 8bit\r\n\r\nPerché\r\n--b\r\n\
                                 Content-Type: application/pkcs7-signature\r\n\
                                 Content-Transfer-Encoding: base64\r\n\r\nAAAA\r\n--b--\r\n";
                    (&[VERDI], plain(subject, VERDI, mime).replace("Ciao.\r\n", parts))
                }
            };
            self.submit(subject, to, text);
        }
    }
}

fn plain(subject: &str, to: &str, more: &str) -> String {
    let id = subject.replace(' ', ".");
    format!(
        "From: {MARIO}\r\nTo: {to}\r\nSubject: {subject}\r\n\
         Message-ID: <{id}@client.example>\r\n{more}\r\nCiao.\r\n"
    )
}
