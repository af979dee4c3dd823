//! How many messages a second come in from another host over TLS and are in their reader's mailbox,
//! durably, when nothing is to be signed.
//!
//! Ours are delivery receipts of another provider, signed before the clock starts: each is taken at port
//! 25, verified as every certified message is, and delivered, and gets no receipt itself (PEC-PR-26), so
//! that the program that is shipped does all of its work but signing. Postfix takes messages of the same
//! size and hands them to Dovecot.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use crypto::{Certificate, Identity, LocalSigner};
use mail::{Address, ReversePath};
use pec::incoming::{Class, Routing, SignedBy};
use pec::providers::{Index, ProviderRecord};
use pec::reduce::Hashed;
use pec::{Draft, Fresh, Limits, Moment, PecId, Provider, RecipientKind};
use scenarios::demo::PASSWORD;
use scenarios::pair::{Made, pair};
use scenarios::smtp::stuffed;
use scenarios::{Demo, Imap, wire};
use store::Timestamp;
use tempfile::TempDir;

use super::submission::{CONNECTIONS, one_to_postfix};
use super::{Bodies, Mailboxes, OCTETS, Until, begin, clients, folder, load, postfix, rate, send};

const MARIO: &str = "mario@pec.alfa.example";
const VERDI: &str = "verdi@pec.beta.example";
const AUTHOR: &str = "posta-certificata@pec.beta.example";

/// Receipts that another provider signed, each of its own.
pub struct Receipts {
    all: Vec<Vec<u8>>,
    beta: Made,
    _folder: TempDir,
}

impl Receipts {
    /// Signs so many.
    ///
    /// # Errors
    ///
    /// When the other provider cannot be made, or a receipt not be signed.
    pub fn sign(bodies: &Bodies, count: usize) -> anyhow::Result<Self> {
        let folder = folder()?;
        let (_, beta) = pair(folder.path(), &[], &["verdi"])?;
        let certificate = Certificate::from_pem(&std::fs::read(beta.data.join("signing.pem"))?)?;
        let identity = Identity::new(certificate, Vec::new())?;
        let signer = LocalSigner::from_pem(&std::fs::read(beta.data.join("signing.key"))?)?;
        let provider = provider("beta", AUTHOR)?;
        let at = Moment::of(Timestamp::now());
        let octets = envelope(bodies, at)?;
        let recipient = address(VERDI)?;
        let examination = pec::examine(&octets);
        let record = ProviderRecord {
            name: provider.name.clone(),
            unit: None,
            certificates: Vec::new(),
            mail_receipt: provider.service_mailbox.clone(),
            domains: Vec::new(),
            location: None,
            description: None,
        };
        let emails = [examination.author().context("no author")?.to_string()];
        let index = Index::default();
        let signed_by =
            SignedBy { records: &[&record], emails: &emails, index: &index, strict_author: false };
        let reverse_path = ReversePath::Address(address(MARIO)?);
        let routing = Routing { reverse_path: &reverse_path, forward_paths: &[] };
        let Class::Envelope(envelope) = pec::judge(&examination, Ok(signed_by), &routing) else {
            bail!("no envelope");
        };
        let mut all = Vec::with_capacity(count);
        for token in 0..count {
            let message_id = PecId::of(&format!("bench{token}"), provider.author.domain());
            let fresh = Fresh { message_id, token: token as u128 };
            let unsigned = pec::receipt::delivery(
                &envelope,
                &octets,
                &recipient,
                Hashed::default(),
                &provider,
                at,
                fresh,
            );
            let signature = identity.sign(&signer, unsigned.entity(), at.instant())?;
            all.push(stuffed(&unsigned.seal(&signature)));
        }
        Ok(Self { all, beta, _folder: folder })
    }

    /// Octets of one.
    pub fn octets(&self) -> usize {
        self.all.first().map_or(0, Vec::len)
    }

    /// Ours, in one run: all of them, until the last is in the mailbox.
    ///
    /// # Errors
    ///
    /// When one is refused or does not arrive.
    pub fn ours(&self) -> anyhow::Result<f64> {
        let folder = folder()?;
        let (runs, mut imap) = self.receiver(folder.path())?;
        let mut clients = clients(runs.address("smtp")?, &runs.tls(), CONNECTIONS)?;
        let began = Instant::now();
        load(&mut clients, Until::Count(self.all.len()), |smtp, number| {
            send(smtp, AUTHOR, MARIO, &self.all[number])
        })?;
        while imap.count("INBOX")? < self.all.len() as u64 {
            wire::pause();
        }
        Ok(rate(self.all.len(), began.elapsed()))
    }

    /// Ours, one after the other: from the last octet of each to the EXISTS that an idling client reads.
    ///
    /// # Errors
    ///
    /// As [`ours`](Self::ours).
    pub fn until_told(&self) -> anyhow::Result<Vec<Duration>> {
        let folder = folder()?;
        let (runs, mut imap) = self.receiver(folder.path())?;
        imap.ok("SELECT INBOX")?;
        imap.begin_idle()?;
        let mut clients = clients(runs.address("smtp")?, &runs.tls(), 1)?;
        let smtp = clients.first_mut().context("no client")?;
        let mut times = Vec::with_capacity(self.all.len());
        for (number, receipt) in self.all.iter().enumerate() {
            begin(smtp, AUTHOR, MARIO)?;
            smtp.wire.write(receipt)?;
            let began = Instant::now();
            imap.until_exists(number + 1)?;
            times.push(began.elapsed());
            smtp.expect("250")?;
        }
        Ok(times)
    }

    /// The provider that receives them, and a client of the one they are for.
    fn receiver(&self, folder: &Path) -> anyhow::Result<(Demo, Imap)> {
        let alfa = Made::new(folder, "alfa", &["mario"])?;
        alfa.meet(&self.beta)?;
        let runs = Demo::serve(&alfa.data)?;
        let mut imap = Imap::connect(runs.address("imaps")?, &runs.tls())?;
        imap.login(MARIO, PASSWORD)?;
        Ok((runs, imap))
    }
}

/// Postfix's, in one run: so many messages of so many octets, until the last is in its mailbox.
///
/// # Errors
///
/// As [`Receipts::ours`].
pub fn theirs(
    bodies: &Bodies,
    demo: &Demo,
    mailboxes: &Mailboxes,
    (count, octets): (usize, usize),
) -> anyhow::Result<f64> {
    let more = mailboxes.transport();
    let mta = postfix(&demo.data, &more)?;
    let mut clients = clients(mta.listen(), &demo.tls(), CONNECTIONS)?;
    let before = mailboxes.messages()?;
    let began = Instant::now();
    load(&mut clients, Until::Count(count), |smtp, number| {
        one_to_postfix(smtp, number, bodies, octets)
    })?;
    wire::until_within("the last delivery", Duration::from_secs(120), || {
        Ok((mailboxes.messages()? >= before + count).then_some(()))
    })?;
    Ok(rate(count, began.elapsed()))
}

fn address(text: &str) -> anyhow::Result<Address> {
    Ok(Address::parse(text)?)
}

fn provider(name: &str, author: &str) -> anyhow::Result<Provider> {
    let author = address(author)?;
    let service_mailbox = address(&format!("ricevute@{}", author.domain()))?;
    Ok(Provider { name: format!("{name} PEC S.p.A."), author, service_mailbox })
}

/// The transport envelope that the receipts are about. Nobody looks at its signature any more.
fn envelope(bodies: &Bodies, at: Moment) -> anyhow::Result<Vec<u8>> {
    let provider = provider("alfa", "posta-certificata@pec.alfa.example")?;
    let (reverse_path, forward_paths) = (address(MARIO)?, [address(VERDI)?]);
    let text = bodies.message(MARIO, VERDI, 0, OCTETS);
    let text = text.strip_suffix(b".\r\n").unwrap_or(&text);
    let draft = Draft {
        reverse_path: &reverse_path,
        forward_paths: &forward_paths,
        octets: text,
        trace: b"",
    };
    let id = PecId::of("bench", provider.author.domain());
    let kind = |_: &mail::Domain| RecipientKind::Certified;
    let Ok(submission) = pec::admit(&draft, &provider, &Limits::default(), &kind, id, at) else {
        bail!("the message is not acceptable");
    };
    let (accepted, original) = (submission.accepted(), submission.original());
    Ok(pec::envelope::enclose(accepted, original, &provider, 7).seal(b"none"))
}
