//! A provider that signs whatever it likes: correct envelopes and receipts, and what is made of them
//! by editing and signing again.

use std::sync::atomic::{AtomicUsize, Ordering};

use crypto::{Identity, LocalSigner};
use mail::Address;
use mail::encoding::{base64_lines, decode_base64};
use pec::access::{Draft, Limits, Submission};
use pec::exchange::{Fresh, PecId, Provider, RecipientKind};
use pec::incoming::{Class, Routing, SignedBy};
use pec::layout::Unsigned;
use pec::moment::Moment;

use super::scene::address;
use super::world::{GAMMA_DOMAIN, GAMMA_NAME, Pair, World, at, keys, message};

pub(super) const TIME: &str = "2026-09-14T07:30:00Z";

pub(super) fn moment() -> Moment {
    Moment::of(at(TIME))
}

pub(super) fn unique() -> String {
    static LAST: AtomicUsize = AtomicUsize::new(0);
    format!("f{}", LAST.fetch_add(1, Ordering::Relaxed))
}

/// Whoever signs.
pub(super) struct Forge {
    provider: Provider,
    identity: Identity,
    signer: LocalSigner,
}

impl Forge {
    pub(super) fn with(pair: &Pair, name: &str, domain: &str) -> Self {
        let certificate = crypto::Certificate::from_pem(pair.certificate.as_bytes()).unwrap();
        Self {
            provider: Provider {
                name: name.to_owned(),
                author: address(&format!("posta-certificata@{domain}")),
                service_mailbox: address(&format!("ricevute@{domain}")),
            },
            identity: Identity::new(certificate, Vec::new()).unwrap(),
            signer: LocalSigner::from_pem(pair.key.as_bytes()).unwrap(),
        }
    }

    /// The third provider: in the index, and with a key that holds.
    pub(super) fn gamma() -> Self {
        Self::with(&keys().providers[2], GAMMA_NAME, GAMMA_DOMAIN)
    }

    pub(super) fn seal(&self, unsigned: Unsigned) -> Vec<u8> {
        let signature = self.identity.sign(&self.signer, unsigned.entity(), at(TIME)).unwrap();
        unsigned.seal(&signature)
    }

    pub(super) fn accepted(&self, from: &str, to: &[&str], text: &str) -> Submission {
        let reverse_path = address(&World::full(from));
        let forward_paths: Vec<Address> = to.iter().map(|to| address(&World::full(to))).collect();
        let draft = Draft {
            reverse_path: &reverse_path,
            forward_paths: &forward_paths,
            octets: text.as_bytes(),
            trace: b"",
        };
        let id = PecId::of(&unique(), self.provider.author.domain());
        let kind = |_: &mail::Domain| RecipientKind::Certified;
        pec::admit(&draft, &self.provider, &Limits::default(), &kind, id, moment()).unwrap()
    }

    /// A correct envelope.
    pub(super) fn envelope(&self, from: &str, to: &[&str]) -> Vec<u8> {
        let submission = self.accepted(from, to, &message(from, to, "Offerta"));
        let (accepted, original) = (submission.accepted(), submission.original());
        self.seal(pec::envelope::enclose(accepted, original, &self.provider, 7))
    }

    pub(super) fn fresh(&self) -> Fresh {
        let message_id = PecId::of(&unique(), self.provider.author.domain());
        Fresh { message_id, token: 7 }
    }

    /// A receipt about an envelope of somebody's, as if it had come here.
    pub(super) fn receipt(
        &self,
        envelope: &[u8],
        make: impl Fn(&pec::VerifiedEnvelope, &Provider, Moment, Fresh) -> Unsigned,
    ) -> Vec<u8> {
        let examination = pec::examine(envelope);
        let record = pec::providers::ProviderRecord {
            name: self.provider.name.clone(),
            unit: None,
            certificates: Vec::new(),
            mail_receipt: self.provider.service_mailbox.clone(),
            domains: Vec::new(),
            location: None,
            description: None,
        };
        let records = [&record];
        let emails = [examination.author().unwrap().to_string()];
        let data = super::scene::certification(envelope);
        let reverse_path = mail::ReversePath::Address(data.sender.clone());
        let routing = Routing { reverse_path: &reverse_path, forward_paths: &[] };
        let index = pec::providers::Index::default();
        let signed_by =
            SignedBy { records: &records, emails: &emails, index: &index, strict_author: false };
        let Class::Envelope(envelope) = pec::judge(&examination, Ok(signed_by), &routing) else {
            panic!("no envelope");
        };
        self.seal(make(&envelope, &self.provider, moment(), self.fresh()))
    }

    /// A message that was changed, signed again.
    pub(super) fn resign(&self, octets: &[u8]) -> Vec<u8> {
        let examination = pec::examine(octets);
        let entity = examination.entity().unwrap();
        let signature = self.identity.sign(&self.signer, entity, at(TIME)).unwrap();
        signed_anew(octets, &signature)
    }

    /// The same by OpenSSL, with another digest than ours; `pair` is that of this provider.
    pub(super) fn resign_with(pair: &Pair, octets: &[u8], digest: &str) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, octets: &[u8]| std::fs::write(folder.path().join(name), octets);
        put("certificate", pair.certificate.as_bytes()).unwrap();
        put("key", pair.key.as_bytes()).unwrap();
        put("entity", pec::examine(octets).entity().unwrap()).unwrap();
        let ran = std::process::Command::new("openssl")
            .args("cms -sign -binary -signer certificate -inkey key -outform DER".split(' '))
            .args(["-md", digest, "-in", "entity", "-out", "signature"])
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        signed_anew(octets, &std::fs::read(folder.path().join("signature")).unwrap())
    }

    /// A correct envelope with other signed octets.
    pub(super) fn edited(&self, to: &str, from: &str, with: &str) -> Vec<u8> {
        self.resign(&replace(&self.envelope("mallory@g", &[to]), from, with))
    }

    /// A correct envelope with other certification data.
    pub(super) fn certified(&self, to: &str, from: &str, with: &str) -> Vec<u8> {
        self.with_data(&self.envelope("mallory@g", &[to]), from, with)
    }

    /// A message with other certification data, signed again.
    pub(super) fn with_data(&self, octets: &[u8], from: &str, with: &str) -> Vec<u8> {
        let range = {
            let examination = pec::examine(octets);
            examination.parts().unwrap().certifications[0].range.clone()
        };
        let xml = decode_base64(&octets[range.clone()]);
        let xml = base64_lines(&replace(&xml, from, with));
        let xml = xml.strip_suffix(b"\r\n").unwrap_or(&xml);
        self.resign(&[&octets[..range.start], xml, &octets[range.end..]].concat())
    }
}

/// A message with another signature.
fn signed_anew(octets: &[u8], signature: &[u8]) -> Vec<u8> {
    let name = rfind(octets, b"smime.p7s").unwrap();
    let start = name + find(&octets[name..], b"\r\n\r\n").unwrap() + 4;
    let end = start + find(&octets[start..], b"\r\n--").unwrap();
    let signature = base64_lines(signature);
    let signature = signature.strip_suffix(b"\r\n").unwrap_or(&signature);
    [&octets[..start], signature, &octets[end..]].concat()
}

pub(super) fn find(octets: &[u8], what: &[u8]) -> Option<usize> {
    octets.windows(what.len()).position(|window| window == what)
}

pub(super) fn rfind(octets: &[u8], what: &[u8]) -> Option<usize> {
    octets.windows(what.len()).rposition(|window| window == what)
}

/// The octets with each `from` replaced; there must be one.
pub(super) fn replace(octets: &[u8], from: &str, with: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut last = 0;
    while let Some(found) = find(&octets[last..], from.as_bytes()) {
        out.extend_from_slice(&octets[last..last + found]);
        out.extend_from_slice(with.as_bytes());
        last += found + from.len();
    }
    assert!(last > 0, "`{from}` is not there");
    out.extend_from_slice(&octets[last..]);
    out
}

/// The first `from` replaced: in the outer header, when it is there too.
pub(super) fn first(octets: &[u8], from: &str, with: &str) -> Vec<u8> {
    let found = find(octets, from.as_bytes());
    let found = found.unwrap_or_else(|| panic!("`{from}` is not there"));
    [&octets[..found], with.as_bytes(), &octets[found + from.len()..]].concat()
}
