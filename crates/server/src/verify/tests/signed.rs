//! Examples that a provider of our own signs, as another provider would have made them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crypto::{Identity, LocalSigner};
use pec::providers::ProviderRecord;

use super::*;

pub(super) const A: &[u8] = include_bytes!("../../../../../certs/provider-a.pem");
pub(super) const A_KEY: &[u8] = include_bytes!("../../../../../certs/provider-a.key");
pub(super) const OWN_CA: &[u8] = include_bytes!("../../../../../certs/ca.pem");
const OWN_CRL: &[u8] = include_bytes!("../../../../../certs/crl.pem");
pub(super) const A_ADDRESS: &str = "posta-certificata@a.example";

/// Whom those believe who know provider A too, and for whom it signs in the name of all others
/// (PEC-IDX-13): who may speak for whom is looked at elsewhere.
pub(super) fn ground_with_a() -> Ground {
    let Ground { index, .. } = ground_with_a_alone();
    let mut records = index.unwrap().records().to_vec();
    for record in &mut records {
        record.certificates = vec![Certificate::from_pem(A).unwrap().to_der().to_vec()];
    }
    Ground { index: Some(Index::new(records, None).unwrap()), ..ground_with_a_alone() }
}

/// The same, and it speaks for its own domain.
pub(super) fn ground_with_a_alone() -> Ground {
    let authorities = Certificate::all_from_pem(OWN_CA).unwrap();
    let mut records = Index::from_ldif(INDEX).unwrap().0.records().to_vec();
    records.push(ProviderRecord {
        name: "Gestore A S.p.A.".to_owned(),
        unit: None,
        certificates: vec![Certificate::from_pem(A).unwrap().to_der().to_vec()],
        mail_receipt: mail::Address::parse("ricevute@a.example").unwrap(),
        domains: vec![mail::Domain::parse("a.example").unwrap()],
        location: None,
        description: None,
    });
    Ground {
        trust: Trust::new(authorities, vec![Crl::read(OWN_CRL).unwrap()]).unwrap(),
        index: Some(Index::new(records, None).unwrap()),
        ..ground()
    }
}

/// An example taken apart: what is signed, and the header around it by provider A.
pub(super) struct Apart {
    header: String,
    boundary: String,
    pub(super) entity: String,
}

impl Apart {
    pub(super) fn of(example: &[u8]) -> Self {
        let text = String::from_utf8(example.to_vec()).unwrap();
        let (header, _) = text.split_once("\r\n\r\n").unwrap();
        let (_, boundary) = header.split_once("boundary=\"").unwrap();
        let boundary = boundary.split('"').next().unwrap().to_owned();
        let mut header = header.to_owned();
        for other in ["posta-certificata@alfapec.example", "posta-certificata@betacert.example"] {
            header = header.replace(other, A_ADDRESS);
        }
        let entity = examine(example).entity().unwrap().to_vec();
        Self { header, boundary, entity: String::from_utf8(entity).unwrap() }
    }

    /// With other certification data.
    pub(super) fn data(mut self, from: &str, to: &str) -> Self {
        let (before, part) = self.entity.split_once("name=\"daticert.xml\"").unwrap();
        let (head, rest) = part.split_once("\r\n\r\n").unwrap();
        let (body, after) = rest.split_once("\r\n--").unwrap();
        let xml = STANDARD.decode(body.replace("\r\n", "")).unwrap();
        let xml = String::from_utf8(xml).unwrap();
        assert!(xml.contains(from), "{from}: {xml}");
        let encoded = STANDARD.encode(xml.replacen(from, to, 1));
        let lines: Vec<&str> =
            encoded.as_bytes().chunks(76).map(|line| std::str::from_utf8(line).unwrap()).collect();
        self.entity = format!(
            "{before}name=\"daticert.xml\"{head}\r\n\r\n{}\r\n\r\n--{after}",
            lines.join("\r\n")
        );
        self
    }

    /// The first element of this name in the certification data, whole.
    pub(super) fn element(&self, name: &str) -> Option<String> {
        let (_, part) = self.entity.split_once("name=\"daticert.xml\"").unwrap();
        let (_, rest) = part.split_once("\r\n\r\n").unwrap();
        let (body, _) = rest.split_once("\r\n--").unwrap();
        let xml = String::from_utf8(STANDARD.decode(body.replace("\r\n", "")).unwrap()).unwrap();
        let (_, rest) = xml.split_once(&format!("<{name}>"))?;
        let (inside, _) = rest.split_once(&format!("</{name}>"))?;
        Some(format!("<{name}>{inside}</{name}>"))
    }

    /// With other words in what is signed.
    pub(super) fn edit(mut self, from: &str, to: &str) -> Self {
        assert!(self.entity.contains(from), "{from}");
        self.entity = self.entity.replace(from, to);
        self
    }

    /// With other words in the header.
    pub(super) fn outer(mut self, from: &str, to: &str) -> Self {
        assert!(self.header.contains(from), "{from}: {}", self.header);
        self.header = self.header.replace(from, to);
        self
    }

    /// With another boundary around.
    pub(super) fn boundary(mut self, other: &str) -> Self {
        self.header = self.header.replace(&self.boundary, other);
        self.boundary = other.to_owned();
        self
    }

    /// Put together again around a signature.
    pub(super) fn around(&self, signature: &[u8], preamble: &str, part: &str) -> Vec<u8> {
        let encoded = STANDARD.encode(signature);
        let lines: Vec<&str> =
            encoded.as_bytes().chunks(76).map(|line| std::str::from_utf8(line).unwrap()).collect();
        let Self { header, boundary, entity } = self;
        format!(
            "{header}\r\n\r\n{preamble}--{boundary}\r\n{entity}\r\n--{boundary}\r\n\
             Content-Type: {part}\r\nContent-Transfer-Encoding: base64\r\n\r\n{}\r\n--{boundary}--\r\n",
            lines.join("\r\n")
        )
        .into_bytes()
    }

    /// Signed as our own messages are.
    pub(super) fn sign(&self) -> Vec<u8> {
        self.sign_at("2026-09-14T07:30:12Z".parse().unwrap())
    }

    /// The same, at another time by the signature's own word.
    pub(super) fn sign_at(&self, at: Timestamp) -> Vec<u8> {
        let chain = Certificate::all_from_pem(OWN_CA).unwrap();
        let identity = Identity::new(Certificate::from_pem(A).unwrap(), chain).unwrap();
        let signer = LocalSigner::from_pem(A_KEY).unwrap();
        let signature = identity.sign(&signer, self.entity.as_bytes(), at).unwrap();
        self.around(&signature, "", SIGNATURE)
    }

    /// Signed by OpenSSL, with these options more: as others sign.
    pub(super) fn sign_with(&self, options: &[&str]) -> Vec<u8> {
        self.around(&self.openssl(options), "", SIGNATURE)
    }

    /// The signature that OpenSSL makes.
    pub(super) fn openssl(&self, options: &[&str]) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, octets: &[u8]| std::fs::write(folder.path().join(name), octets);
        put("a.pem", A).unwrap();
        put("a.key", A_KEY).unwrap();
        put("ca.pem", OWN_CA).unwrap();
        put("in", self.entity.as_bytes()).unwrap();
        let fixed = "cms -sign -binary -signer a.pem -inkey a.key -certfile ca.pem -outform DER \
                     -in in -out out";
        let ran = std::process::Command::new("openssl")
            .args(fixed.split_whitespace().chain(options.iter().copied()))
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        std::fs::read(folder.path().join("out")).unwrap()
    }
}

pub(super) const SIGNATURE: &str = "application/pkcs7-signature; name=\"smime.p7s\"";
