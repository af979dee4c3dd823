//! The page that tells a person what an evidence bundle proves: in Italian, complete in itself, and made
//! of nothing but what else is in the bundle, so that whoever verifies it can make it again.
//!
//! Not here: what the bundle holds and whether it holds together.

use crate::moment::Moment;
use crate::text::escape;

/// What there is to tell.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Story {
    /// The PEC identifier.
    pub identifier: String,
    /// Who kept the log.
    pub provider: String,
    /// When the bundle was made.
    pub made: String,
    /// Sender of the original.
    pub sender: Option<String>,
    /// Its recipients, each with `certificato` or `esterno`.
    pub recipients: Vec<(String, String)>,
    /// Its subject.
    pub subject: Option<String>,
    /// What the log tells, by time.
    pub events: Vec<Told>,
    /// The files of the bundle: name, what it is, SHA-256.
    pub files: Vec<(String, String, String)>,
    /// Messages that the log tells of and that are not in the bundle.
    pub missing: Vec<String>,
    /// Seals: their number, interval, and whether they are stamped.
    pub seals: Vec<String>,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Told {
    /// When, as [`moment`] writes it.
    pub time: String,
    /// Its word in the log.
    pub event: String,
    /// Whom it concerns.
    pub concerns: Vec<String>,
    /// Which provider.
    pub provider: Option<String>,
    /// What went wrong.
    pub error: Option<String>,
    /// Its number in the log, and the seal that covers it.
    pub place: String,
}

/// A time as the page writes it: legal, as receipts do.
pub fn moment(at: Moment) -> String {
    at.to_string()
}

/// What a word of the log says to a person.
pub fn event(word: &str) -> &str {
    match word {
        "accettazione" => "Il gestore del mittente ha accettato il messaggio",
        "non-accettazione" => "Il messaggio non è stato accettato",
        "posta-certificata" => "La busta di trasporto è stata formata o ricevuta",
        "presa-in-carico" => "Il gestore del destinatario ha preso in carico il messaggio",
        "avvenuta-consegna" => "La ricevuta di avvenuta consegna è stata emessa o ricevuta",
        "consegna" => "Il messaggio è stato depositato nella casella",
        "errore-consegna" => "Il messaggio non è stato consegnato",
        "preavviso-errore-consegna" => "La consegna non è avvenuta entro i tempi massimi",
        "rilevazione-virus" => "È stato rilevato un virus",
        "anomalia" => "Il messaggio è stato chiuso in una busta di anomalia",
        "rifiuto" => "Il messaggio è stato rifiutato",
        other => other,
    }
}

/// What a file of the bundle is.
pub fn file(kind: &str) -> &str {
    match kind {
        "accettazione" => "ricevuta di accettazione",
        "non-accettazione" => "avviso di non accettazione",
        "posta-certificata" => "busta di trasporto, con il messaggio originale",
        "presa-in-carico" => "ricevuta di presa in carico",
        "avvenuta-consegna" => "ricevuta di avvenuta consegna",
        "errore-consegna" => "avviso di mancata consegna",
        "preavviso-errore-consegna" => {
            "avviso di mancata consegna per superamento dei tempi massimi"
        }
        "rilevazione-virus" => "avviso di rilevazione virus",
        "anomalia" => "busta di anomalia",
        "registro" => {
            "registro delle operazioni, con le prove di appartenenza, le firme e le marche \
                       temporali"
        }
        "autorita" => "certificati delle autorità di certificazione",
        "crl" => "lista dei certificati revocati",
        "indice" => "record dell'indice dei gestori",
        other => other,
    }
}

const STYLE: &str = "body{font-family:sans-serif;max-width:60em;margin:2em auto;line-height:1.4}\
                     table{border-collapse:collapse;width:100%}\
                     td,th{border:1px solid #999;padding:.3em .5em;text-align:left;vertical-align:top}\
                     code{overflow-wrap:anywhere}";

/// The page. Nothing in it is active, and nothing leads out of it.
pub fn page(story: &Story) -> String {
    let text = escape;
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"it\">\n<head>\n<meta charset=\"utf-8\">\n\
         <title>Prove del messaggio {id}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <h1>Prove del messaggio</h1>\n\
         <p>Identificativo: <code>{id}</code></p>\n",
        id = text(&story.identifier)
    );
    page += "<table>\n";
    let mut row = |name: &str, value: String| {
        page += &format!("<tr><th>{name}</th><td>{value}</td></tr>\n");
    };
    row("Mittente", text(story.sender.as_deref().unwrap_or("non noto")));
    for (address, kind) in &story.recipients {
        let kind = match kind.as_str() {
            "certificato" => "posta certificata",
            "esterno" => "posta ordinaria",
            other => other,
        };
        row("Destinatario", format!("{} ({})", text(address), text(kind)));
    }
    row("Oggetto", text(story.subject.as_deref().unwrap_or("")));
    row("Registro tenuto da", text(&story.provider));
    row("Fascicolo formato", text(&story.made));
    page += "</table>\n<h2>Che cosa è accaduto</h2>\n<table>\n<tr><th>Quando</th><th>Evento</th>\
             <th>Destinatari interessati</th><th>Gestore</th><th>Nel registro</th></tr>\n";
    for told in &story.events {
        let concerns: Vec<_> = told.concerns.iter().map(|one| text(one)).collect();
        let error = told.error.as_deref().map(|error| format!("<br>{}", text(error)));
        page += &format!(
            "<tr><td>{}</td><td>{}{}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n",
            text(&told.time),
            text(event(&told.event)),
            error.unwrap_or_default(),
            concerns.join("<br>"),
            text(told.provider.as_deref().unwrap_or("")),
            text(&told.place),
        );
    }
    page += "</table>\n<h2>Che cosa contiene questo fascicolo</h2>\n<table>\n\
             <tr><th>File</th><th>Contenuto</th><th>SHA-256</th></tr>\n";
    for (name, kind, hash) in &story.files {
        page += &format!(
            "<tr><td><code>{}</code></td><td>{}</td><td><code>{}</code></td></tr>\n",
            text(name),
            text(file(kind)),
            text(hash)
        );
    }
    page += "</table>\n";
    if !story.missing.is_empty() {
        page += "<h2>Che cosa manca</h2>\n<p>Il registro attesta anche i messaggi che seguono, i cui \
                 originali non sono più conservati dal gestore:</p>\n<ul>\n";
        for missing in &story.missing {
            page += &format!("<li>{}</li>\n", text(missing));
        }
        page += "</ul>\n";
    }
    page += "<h2>I sigilli del registro</h2>\n<ul>\n";
    for seal in &story.seals {
        page += &format!("<li>{}</li>\n", text(seal));
    }
    page += "</ul>\n<h2>Come si verifica</h2>\n\
             <p>Le ricevute e le buste sono firmate dai gestori: qualsiasi programma che verifichi \
             firme S/MIME ne mostra l'integrità e la provenienza. Ogni riga del registro porta la prova \
             di appartenere al registro sigillato quel giorno; il sigillo è firmato dal gestore e \
             porta una marca temporale. Il programma ceralacca verifica tutto insieme, senza rete: \
             <code>ceralacca verify FASCICOLO.zip --ca AUTORITA.pem --index INDICE.ldif</code>. \
             Questa pagina è soltanto un riassunto: fanno fede i file elencati.</p>\n</body>\n</html>\n";
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    fn story() -> Story {
        Story {
            identifier: "1@pec.alfa.example".into(),
            provider: "Alfa PEC S.p.A.".into(),
            made: "27/11/2026 10:00:00 (+0100)".into(),
            sender: Some("mario@pec.alfa.example".into()),
            recipients: vec![("anna@pec.beta.example".into(), "certificato".into())],
            subject: Some("Offerta <b>".into()),
            events: vec![Told {
                time: "27/11/2026 09:00:00 (+0100)".into(),
                event: "accettazione".into(),
                place: "riga 1, sigillo 1".into(),
                ..Told::default()
            }],
            files: vec![("registro.json".into(), "registro".into(), "ab".into())],
            missing: vec!["presa-in-carico <x@y>".into()],
            seals: vec!["sigillo 1".into()],
        }
    }

    #[test]
    fn what_a_stranger_wrote_is_text_and_nothing_is_active() {
        let page = page(&story());
        assert!(page.contains("Offerta &lt;b&gt;") && page.contains("presa-in-carico &lt;x@y&gt;"));
        let lower = page.to_lowercase();
        for active in
            ["<script", "<img", "<a ", "<link", "src=", "href=", "http:", "url(", "@import"]
        {
            assert!(!lower.contains(active), "{active}");
        }
        let hostile = "\"><script>alert(1)</script>&amp;";
        let mut story = story();
        for field in [&mut story.identifier, &mut story.provider, &mut story.made] {
            *field = hostile.into();
        }
        story.sender = Some(hostile.into());
        story.recipients = vec![(hostile.into(), hostile.into())];
        story.events[0].event = hostile.into();
        story.events[0].concerns = vec![hostile.into()];
        story.events[0].error = Some(hostile.into());
        story.files = vec![(hostile.into(), hostile.into(), hostile.into())];
        let page = super::page(&story);
        assert!(!page.contains("<script"), "{page}");
        assert_eq!(page.matches("&lt;script&gt;alert(1)&lt;/script&gt;&amp;amp;").count(), 13);
    }

    #[test]
    fn it_says_what_happened_and_what_is_missing() {
        let page = page(&story());
        for said in [
            "<tr><th>Mittente</th><td>mario@pec.alfa.example</td></tr>",
            "anna@pec.beta.example (posta certificata)",
            "Il gestore del mittente ha accettato il messaggio",
            "registro delle operazioni",
            "Che cosa manca",
            "<li>sigillo 1</li>",
        ] {
            assert!(page.contains(said), "{said}\n{page}");
        }
        let whole = super::page(&Story { missing: vec![], ..story() });
        assert!(!whole.contains("Che cosa manca"));
    }
}
