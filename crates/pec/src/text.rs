//! Every Italian sentence that a user reads: the models of the texts, the reasons, the errors.
//!
//! PEC-FMT-11: the data in a model are an obligation, the words are a model; these are the words of
//! RT §6.3.2 to §6.5.3, with an ASCII apostrophe. No machine may parse them (PEC-GEN-11). What a
//! user can choose, such as a subject, is put in on one line and never read as a model itself.

use mail::Address;

use crate::access::{FieldFault, Refusal};
use crate::delivery::Failure;
use crate::exchange::{Exchange, RecipientKind};
use crate::incoming::AnomalyReason;
use crate::moment::Moment;
use crate::receipt::{Event, Notice};

/// The subject of a report that a message did not reach an ordinary recipient.
pub const UNDELIVERED_SUBJECT: &str = "Mancato recapito di un messaggio";
/// Its text, before the recipients and what was said of each.
pub const UNDELIVERED: &str = "\
Il messaggio non e' stato recapitato ai seguenti destinatari di posta\r
ordinaria, e non verra' ritentato. Accanto a ciascuno, il motivo.";

/// The subject of the report that a message was handed over for ordinary recipients (RFC 3461 §5.2.2).
pub const RELAYED_SUBJECT: &str = "Messaggio affidato al sistema di destinazione";
/// Its text, before the recipients and what was said of each.
pub const RELAYED: &str = "\
Il messaggio e' stato affidato, per i seguenti destinatari di posta\r
ordinaria, a un sistema che non da' altra notizia della consegna. Questo\r
avviso non e' una ricevuta di posta certificata.";

/// The same to whoever wrote to certified mailboxes that did not take his ordinary mail.
pub const NOT_TAKEN: &str = "\
Il messaggio non e' stato consegnato alle seguenti caselle di posta\r
certificata, e non verra' ritentato. Accanto a ciascuna, il motivo.";

/// A model: the title of its HTML form, and its lines.
///
/// In braces: `data`, `ora`, `zona`, `oggetto`, `mittente`, `destinatario`, `identificativo`,
/// `motivo`; and, alone on a line, `destinatari`, which becomes a line for each recipient, and
/// `destinatari e tipi`, which adds the kind of each.
struct Model {
    title: &'static str,
    lines: &'static str,
}

const ACCEPTANCE: Model = Model {
    title: "Ricevuta di accettazione",
    lines: "\
Ricevuta di accettazione
Il giorno {data} alle ore {ora} ({zona}) il messaggio
\"{oggetto}\" proveniente da \"{mittente}\"
ed indirizzato a:
{destinatari e tipi}
è stato accettato dal sistema ed inoltrato.
Identificativo messaggio: {identificativo}",
};

const NON_ACCEPTANCE: Model = Model {
    title: "Avviso di non accettazione",
    lines: "\
Errore nell'accettazione del messaggio
Il giorno {data} alle ore {ora} ({zona}) nel messaggio
\"{oggetto}\" proveniente da \"{mittente}\"
ed indirizzato a:
{destinatari}
è stato rilevato un problema che ne impedisce l'accettazione
a causa di {motivo}.
Il messaggio non è stato accettato.
Identificativo messaggio: {identificativo}",
};

const NON_ACCEPTANCE_VIRUS: Model = Model {
    title: "Avviso di non accettazione per virus",
    lines: "\
Errore nell'accettazione del messaggio per presenza di virus
Il giorno {data} alle ore {ora} ({zona}) nel messaggio
\"{oggetto}\" proveniente da \"{mittente}\"
ed indirizzato a:
{destinatari}
è stato rilevato un problema di sicurezza {motivo}.
Il messaggio non è stato accettato.
Identificativo messaggio: {identificativo}",
};

const TRANSPORT: Model = Model {
    title: "Messaggio di posta certificata",
    lines: "\
Messaggio di posta certificata
Il giorno {data} alle ore {ora} ({zona}) il messaggio
\"{oggetto}\" è stato inviato da \"{mittente}\"
indirizzato a:
{destinatari}
Il messaggio originale è incluso in allegato.
Identificativo messaggio: {identificativo}",
};

const TAKE_CHARGE: Model = Model {
    title: "Ricevuta di presa in carico",
    lines: "\
Ricevuta di presa in carico
Il giorno {data} alle ore {ora} ({zona}) il messaggio
\"{oggetto}\" proveniente da \"{mittente}\"
ed indirizzato a:
{destinatari}
è stato accettato dal sistema.
Identificativo messaggio: {identificativo}",
};

const DELIVERY_COMPLETE: Model = Model {
    title: "Ricevuta di avvenuta consegna",
    lines: "\
Ricevuta di avvenuta consegna
Il giorno {data} alle ore {ora} ({zona}) il messaggio
\"{oggetto}\" proveniente da \"{mittente}\"
ed indirizzato a \"{destinatario}\"
è stato consegnato nella casella di destinazione.
Identificativo messaggio: {identificativo}",
};

const DELIVERY_BRIEF: Model = Model {
    title: "Ricevuta breve di avvenuta consegna",
    lines: "\
Ricevuta breve di avvenuta consegna
Il giorno {data} alle ore {ora} ({zona}) il messaggio
\"{oggetto}\" proveniente da \"{mittente}\"
ed indirizzato a \"{destinatario}\"
è stato consegnato nella casella di destinazione.
Identificativo messaggio: {identificativo}",
};

const DELIVERY_CONCISE: Model = Model {
    title: "Ricevuta sintetica di avvenuta consegna",
    lines: "\
Ricevuta sintetica di avvenuta consegna
Il giorno {data} alle ore {ora} ({zona}) il messaggio
\"{oggetto}\" proveniente da \"{mittente}\"
ed indirizzato a \"{destinatario}\"
è stato consegnato nella casella di destinazione.
Identificativo messaggio: {identificativo}",
};

const NON_DELIVERY: Model = Model {
    title: "Avviso di mancata consegna",
    lines: "\
Avviso di mancata consegna
Il giorno {data} alle ore {ora} ({zona}) nel messaggio
\"{oggetto}\" proveniente da \"{mittente}\"
e destinato all'utente \"{destinatario}\"
è stato rilevato un errore {motivo}.
Il messaggio è stato rifiutato dal sistema.
Identificativo messaggio: {identificativo}",
};

const NON_DELIVERY_VIRUS: Model = Model {
    title: "Avviso di mancata consegna per virus",
    lines: "\
Avviso di mancata consegna per virus
Il giorno {data} alle ore {ora} ({zona}) nel messaggio
\"{oggetto}\" destinato all'utente \"{destinatario}\"
è stato rilevato un problema di sicurezza {motivo}.
Il messaggio non è stato consegnato.
Identificativo messaggio: {identificativo}",
};

const VIRUS_FOUND: Model = Model {
    title: "Avviso di rilevazione virus",
    lines: "\
Avviso di rilevazione virus informatico
Il giorno {data} alle ore {ora} ({zona}) nel messaggio
\"{oggetto}\" proveniente da \"{mittente}\"
e destinato all'utente \"{destinatario}\"
è stato rilevato un problema di sicurezza {motivo}.
Identificativo messaggio: {identificativo}",
};

const LATE_FIRST: Model = Model {
    title: "Avviso di mancata consegna",
    lines: "\
Avviso di mancata consegna
Il giorno {data} alle ore {ora} ({zona}) il messaggio
\"{oggetto}\" proveniente da \"{mittente}\"
e destinato all'utente \"{destinatario}\"
non è stato consegnato nelle prime dodici ore dal suo invio. Non
escludendo che questo possa avvenire in seguito, si ritiene utile
considerare che l'invio del messaggio potrebbe non andare a buon fine. Il
sistema provvederà comunque ad inviare un ulteriore avviso di mancata
consegna se nelle prossime dodici ore non vi sarà la conferma della
ricezione da parte del destinatario.
Identificativo messaggio: {identificativo}",
};

const LATE_SECOND: Model = Model {
    title: "Avviso di mancata consegna",
    lines: "\
Avviso di mancata consegna
Il giorno {data} alle ore {ora} ({zona}) il messaggio
\"{oggetto}\" proveniente da \"{mittente}\"
e destinato all'utente \"{destinatario}\"
non è stato consegnato nelle ventiquattro ore successive al suo invio. Si
ritiene che la spedizione debba considerarsi non andata a buon fine.
Identificativo messaggio: {identificativo}",
};

const ANOMALY: Model = Model {
    title: "Anomalia nel messaggio",
    lines: "\
Anomalia nel messaggio
Il giorno {data} alle ore {ora} ({zona}) è stato ricevuto
il messaggio \"{oggetto}\" proveniente da \"{mittente}\"
ed indirizzato a:
{destinatari}
Tali dati non sono stati certificati per il seguente errore:
{motivo}
Il messaggio originale è incluso in allegato.",
};

/// The text part of a message of ours, before it is encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    title: &'static str,
    lines: Vec<String>,
}

impl Text {
    /// What a certified event reads like. `reason` is that of the event ([`Event::reason`]).
    pub fn of(event: &Event<'_>, exchange: &Exchange, at: Moment, reason: Option<&str>) -> Self {
        let (model, recipient) = match event {
            Event::Transport => (&TRANSPORT, None),
            Event::Acceptance => (&ACCEPTANCE, None),
            Event::NonAcceptance { .. } => (&NON_ACCEPTANCE, None),
            Event::NonAcceptanceVirus { .. } => (&NON_ACCEPTANCE_VIRUS, None),
            Event::TakeCharge { .. } => (&TAKE_CHARGE, None),
            Event::Delivery { recipient, form } => {
                use crate::exchange::DeliveryForm as Form;
                let model = match form {
                    Form::Complete => &DELIVERY_COMPLETE,
                    Form::Brief => &DELIVERY_BRIEF,
                    Form::Concise => &DELIVERY_CONCISE,
                };
                (model, Some(*recipient))
            }
            Event::NonDelivery { recipient, .. } => (&NON_DELIVERY, Some(*recipient)),
            Event::NonDeliveryVirus { recipient, .. } => (&NON_DELIVERY_VIRUS, Some(*recipient)),
            Event::VirusFound { recipient, .. } => (&VIRUS_FOUND, Some(*recipient)),
            Event::Late { recipient, notice: Notice::First } => (&LATE_FIRST, Some(*recipient)),
            Event::Late { recipient, notice: Notice::Second } => (&LATE_SECOND, Some(*recipient)),
        };
        let recipients: Vec<Line<'_>> = match event {
            Event::TakeCharge { recipients } => recipients.iter().map(|a| (a, None)).collect(),
            _ => exchange.recipients.iter().map(|r| (&r.address, Some(r.kind))).collect(),
        };
        let values = Values {
            at,
            subject: exchange.subject_text(),
            sender: exchange.sender.to_string(),
            recipient: recipient.map(ToString::to_string).unwrap_or_default(),
            identifier: exchange.identifier.as_str(),
            reason: reason.unwrap_or_default(),
            recipients,
        };
        model.fill(&values)
    }

    /// What an anomaly envelope reads like. `sender` is empty when the reverse-path is.
    pub fn anomaly(
        subject: &str,
        sender: &str,
        recipients: &[Address],
        reason: AnomalyReason,
        at: Moment,
    ) -> Self {
        let values = Values {
            at,
            subject,
            sender: sender.to_owned(),
            recipient: String::new(),
            identifier: "",
            reason: anomaly_reason(reason),
            recipients: recipients.iter().map(|address| (address, None)).collect(),
        };
        ANOMALY.fill(&values)
    }

    /// The lines, without line ends.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// The lines as they are read back, with the losses of ISO-8859-1 and no blanks at their ends.
    pub fn latin1_lines(&self) -> Vec<String> {
        let line = |line: &String| line.chars().map(|c| char::from(latin1(c))).collect::<String>();
        self.lines.iter().map(|l| line(l).trim_end().to_owned()).collect()
    }

    /// `text/plain` in ISO-8859-1 with CRLF line ends; `?` for what the charset lacks
    /// (PEC-FMT-09).
    pub fn plain(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for line in &self.lines {
            out.extend(line.chars().map(latin1));
            out.extend_from_slice(b"\r\n");
        }
        out
    }

    /// `text/html` with the same information, and nothing to load or to run (PEC-FMT-03).
    pub fn html(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut push = |text: &str| out.extend(text.chars().map(latin1));
        push("<html>\r\n<head><title>");
        push(self.title);
        push("</title></head>\r\n<body>\r\n<p>");
        for (index, line) in self.lines.iter().enumerate() {
            push(if index == 0 { "" } else { "<br>\r\n" });
            push(&escape(line));
        }
        push("</p>\r\n</body>\r\n</html>\r\n");
        out
    }
}

type Line<'a> = (&'a Address, Option<RecipientKind>);

/// What is put into a model.
struct Values<'a> {
    at: Moment,
    subject: &'a str,
    sender: String,
    recipient: String,
    identifier: &'a str,
    reason: &'a str,
    recipients: Vec<Line<'a>>,
}

impl Model {
    /// Each placeholder is replaced once; what comes in its place is not looked at again.
    fn fill(&self, values: &Values<'_>) -> Text {
        let mut lines = Vec::new();
        for line in self.lines.lines() {
            match line {
                "{destinatari}" => {
                    lines.extend(values.recipients.iter().map(|(a, _)| one_line(&a.to_string())));
                }
                "{destinatari e tipi}" => {
                    lines.extend(values.recipients.iter().map(|(a, kind)| {
                        let kind = match kind {
                            Some(RecipientKind::Ordinary) => "posta ordinaria",
                            _ => "posta certificata",
                        };
                        format!("{} (\"{kind}\")", one_line(&a.to_string()))
                    }))
                }
                line => lines.push(values.put_into(line)),
            }
        }
        Text { title: self.title, lines }
    }
}

impl Values<'_> {
    fn put_into(&self, line: &str) -> String {
        let mut out = String::with_capacity(line.len() + 64);
        let mut rest = line;
        while let Some((before, after)) = rest.split_once('{') {
            out.push_str(before);
            let Some((name, after)) = after.split_once('}') else { break };
            match name {
                "data" => out.push_str(&self.at.date()),
                "ora" => out.push_str(&self.at.time()),
                "zona" => out.push_str(&self.at.zone()),
                "oggetto" => out.push_str(&one_line(self.subject)),
                "mittente" => out.push_str(&one_line(&self.sender)),
                "destinatario" => out.push_str(&one_line(&self.recipient)),
                "identificativo" => out.push_str(&one_line(self.identifier)),
                _ => out.push_str(&one_line(self.reason)),
            }
            rest = after;
        }
        out.push_str(rest);
        out
    }
}

/// A value on one line: control characters, and what breaks lines elsewhere, become spaces.
fn one_line(value: &str) -> String {
    let breaks = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    value.chars().map(|c| if breaks(c) { ' ' } else { c }).collect()
}

fn latin1(c: char) -> u8 {
    u8::try_from(u32::from(c)).unwrap_or(b'?')
}

/// A text as HTML or XML character data.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            c => out.push(c),
        }
    }
    out
}

/// Why the access point refuses, to be read after `a causa di` (PEC-NA-02): what is wrong as a noun,
/// then what it is exactly, with the limit where there is one, and what to change.
pub fn refusal(refusal: &Refusal) -> String {
    let wrong = match refusal {
        Refusal::From(_) | Refusal::Sender => "un errore nel mittente",
        Refusal::To(_)
        | Refusal::Cc
        | Refusal::Bcc
        | Refusal::Hidden(_)
        | Refusal::NotRouted(_)
        | Refusal::Recipients(_)
        | Refusal::NoRecipient
        | Refusal::ServiceAddress(_) => "un errore nei destinatari",
        Refusal::Size { .. } => "un errore nelle dimensioni",
        Refusal::HeaderTooLong(_)
        | Refusal::TooManyFields(_)
        | Refusal::NotAField
        | Refusal::Control
        | Refusal::Repeated(_)
        | Refusal::HeaderNotAscii
        | Refusal::SignedNotAscii
        | Refusal::Nul
        | Refusal::LineTooLong(_)
        | Refusal::NotConvertible
        | Refusal::Structure => "un errore nel formato",
    };
    match cause_and_remedy(refusal) {
        (cause, "") => format!("{wrong}: {cause}"),
        (cause, remedy) => format!("{wrong}: {cause}: {remedy}"),
    }
}

/// Where other providers have a sentence, it stands as it is, or begins what is said; those without a
/// remedy name what to change themselves.
fn cause_and_remedy(refusal: &Refusal) -> (String, &'static str) {
    use FieldFault::{Missing, NoAddress, Several};
    match refusal {
        Refusal::From(fault) => (
            "il campo From è assente o non valido".into(),
            match fault {
                Missing => "manca, indicarvi l'indirizzo del mittente",
                NoAddress => "non contiene un indirizzo corretto, correggerlo",
                Several => "contiene più indirizzi, lasciarne uno solo",
            },
        ),
        Refusal::To(fault) => (
            "il campo To è assente o non valido".into(),
            match fault {
                Missing => "manca, indicarvi almeno un destinatario",
                NoAddress | Several => {
                    "non contiene indirizzi corretti, indicarvi almeno un destinatario"
                }
            },
        ),
        Refusal::Cc => {
            ("il campo Cc non è valido".into(), "non contiene indirizzi corretti, correggerlo")
        }
        Refusal::Sender => (
            "l'indirizzo del mittente nei dati di instradamento non coincide con il campo From"
                .into(),
            "",
        ),
        Refusal::Hidden(address) => {
            (format!("il destinatario {address} non compare nei campi To e Cc del messaggio"), "")
        }
        Refusal::NotRouted(address) => (
            format!(
                "l'indirizzo {address} nei campi To e Cc non compare nei dati di instradamento"
            ),
            "inviare il messaggio anche a questo indirizzo, oppure toglierlo",
        ),
        Refusal::Bcc => ("il messaggio contiene destinatari nel campo Bcc".into(), ""),
        Refusal::Size { octets_max, recipients: 1 } => (
            format!(
                "ecceduta la dimensione massima del messaggio, che è di {octets_max} byte per un \
                 destinatario"
            ),
            "ridurre gli allegati",
        ),
        Refusal::Size { octets_max, recipients } => (
            format!(
                "ecceduta la dimensione massima del messaggio, che è di {octets_max} byte per \
                 {recipients} destinatari"
            ),
            "ridurre gli allegati oppure inviare a meno destinatari per volta",
        ),
        Refusal::Recipients(most) => (
            format!("i destinatari del messaggio sono più del massimo consentito, {most}"),
            "inviare a meno destinatari per volta",
        ),
        Refusal::NoRecipient => ("il messaggio non ha destinatari".into(), "indicarne almeno uno"),
        Refusal::HeaderTooLong(most) => (
            format!("l'intestazione del messaggio supera il massimo consentito, {most} byte"),
            "accorciarne i campi più lunghi",
        ),
        Refusal::TooManyFields(most) => (
            format!("l'intestazione del messaggio ha più campi del massimo consentito, {most}"),
            "toglierne",
        ),
        Refusal::NotAField => (
            "l'intestazione del messaggio contiene una riga che non è un campo".into(),
            "correggere o togliere la riga",
        ),
        Refusal::Control => {
            ("l'intestazione del messaggio contiene caratteri di controllo".into(), "toglierli")
        }
        Refusal::Repeated(name) => (
            format!("il campo {name} compare più volte nell'intestazione del messaggio"),
            "lasciarne uno solo",
        ),
        Refusal::HeaderNotAscii => (
            "l'intestazione del messaggio contiene caratteri non codificati a 7 bit".into(),
            "codificarli secondo la RFC 2047, o scriverli senza accenti",
        ),
        Refusal::SignedNotAscii => (
            "il messaggio firmato contiene caratteri non codificati a 7 bit".into(),
            "codificarli prima di firmare il messaggio",
        ),
        Refusal::Nul => ("il messaggio contiene caratteri nulli".into(), "toglierli"),
        Refusal::LineTooLong(most) => (
            format!("il messaggio contiene una riga di oltre {most} caratteri"),
            "spezzare la riga, o codificare la parte che la contiene",
        ),
        Refusal::NotConvertible => (
            "il messaggio contiene caratteri non codificati a 7 bit".into(),
            "codificare le parti che li contengono",
        ),
        Refusal::Structure => (
            "la struttura del messaggio è troppo complessa".into(),
            "ridurre le parti del messaggio, o allegarle in un archivio",
        ),
        Refusal::ServiceAddress(address) => (
            format!("l'indirizzo {address} è riservato al servizio di posta certificata"),
            "toglierlo dai destinatari",
        ),
    }
}

/// Why a message is not certified: the line before the last of an anomaly envelope (PEC-BA-05).
pub fn anomaly_reason(reason: AnomalyReason) -> &'static str {
    match reason {
        AnomalyReason::NotSigned => {
            "il messaggio non proviene da un gestore di posta elettronica certificata"
        }
        AnomalyReason::NotAProvider => {
            "la firma del messaggio non appartiene a un gestore di posta elettronica certificata"
        }
        AnomalyReason::NotValid => "la firma digitale del messaggio non risulta attendibile",
        AnomalyReason::Form => "il formato del messaggio non è conforme",
    }
}

/// What a holder is told who signs in to a mailbox that has no room for receipts (RFC 9051 §7.1:
/// ASCII on one line).
pub const MAILBOX_FULL: &str =
    "La casella e' piena: le ricevute attendono in coda. Eliminare dei messaggi per riceverle.";

/// The description of a failed delivery, NOTA 12 (PEC-NOT-01).
pub fn failure(failure: &Failure) -> &str {
    match failure {
        Failure::UnknownMailbox => "indirizzo non valido",
        Failure::UnmanagedDomain => "dominio non gestito",
        Failure::Suspended => "casella disattivata",
        Failure::Full => "casella piena",
        Failure::Other(description) => description,
    }
}

/// The description of a notice of late delivery (PEC-TO-11).
pub fn lateness(notice: Notice) -> &'static str {
    match notice {
        Notice::First => "il messaggio non è stato consegnato nelle prime dodici ore dal suo invio",
        Notice::Second => {
            "il messaggio non è stato consegnato nelle ventiquattro ore successive al suo invio"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subject::Subject;
    use crate::testing::{at, exchange};

    fn text(subject: &str) -> Text {
        let mut exchange = exchange();
        exchange.subject = Some(Subject::from_text(subject));
        Text::of(&Event::Acceptance, &exchange, at("09:30:12"), None)
    }

    // PEC-FMT-03 PEC-FMT-11
    #[test]
    fn html_says_the_same_and_loads_and_runs_nothing() {
        let text = text("<script>alert(1)</script> & <img src=http://x/>");
        let html = String::from_utf8(text.html().iter().map(|&b| b & 127).collect()).unwrap();
        assert!(
            html.contains(
                "\"&lt;script&gt;alert(1)&lt;/script&gt; &amp; &lt;img src=http://x/&gt;\""
            )
        );
        let tags: Vec<&str> =
            html.split('<').skip(1).map(|tag| tag.split('>').next().unwrap()).collect();
        let known = ["html", "head", "title", "body", "p", "br"];
        assert!(tags.iter().all(|tag| known.contains(&tag.trim_start_matches('/'))), "{tags:?}");
        let plain = String::from_utf8_lossy(&text.plain()).into_owned();
        let body = html.split("<p>").nth(1).unwrap().split("</p>").next().unwrap();
        assert_eq!(body.split("<br>\r\n").count(), plain.lines().count());
    }

    // PEC-FMT-09
    #[test]
    fn what_iso_8859_1_lacks_becomes_a_question_mark() {
        let plain = text("citt\u{e0} \u{2013} \u{20ac} \u{1f4e7}").plain();
        assert!(plain.windows(14).any(|w| w == b"\"citt\xe0 ? ? ?\" "));
        assert_eq!(
            text("\u{20ac}").latin1_lines()[2],
            "\"?\" proveniente da \"mario.rossi@pec.rossi.example\""
        );
    }

    // PEC-FMT-11: a subject stays on its line, and is not a model
    #[test]
    fn a_subject_cannot_write_lines_of_the_model() {
        let lines =
            text("x\"\r\nIdentificativo messaggio: falso\r\n{mittente}\u{2028}y").lines().to_vec();
        assert_eq!(lines.len(), 9);
        assert_eq!(
            lines[2],
            "\"x\"  Identificativo messaggio: falso  {mittente} y\" proveniente da \
             \"mario.rossi@pec.rossi.example\""
        );
        assert_eq!(lines[8], "Identificativo messaggio: 20260914093012.4c1f9e27@alfapec.example");
    }

    #[test]
    fn each_reason_has_its_sentence() {
        for (reason, sentence) in [
            (
                AnomalyReason::NotSigned,
                "il messaggio non proviene da un gestore di posta elettronica certificata",
            ),
            (
                AnomalyReason::NotAProvider,
                "la firma del messaggio non appartiene a un gestore di posta elettronica certificata",
            ),
            (AnomalyReason::NotValid, "la firma digitale del messaggio non risulta attendibile"),
            (AnomalyReason::Form, "il formato del messaggio non \u{e8} conforme"),
        ] {
            assert_eq!(anomaly_reason(reason), sentence);
        }
    }
}
