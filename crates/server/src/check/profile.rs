//! Where a signing certificate departs from the profile of PEC-CRT-01 to PEC-CRT-09.
//!
//! Asked of our own certificate only, and never a reason not to start: PEC-CRT-10. Whether it holds
//! the author's address (PEC-CRT-02) is one, and asked with the rest that serve needs.

use crypto::Certificate;
use x509_cert::der::Decode;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::ext::pkix::{AuthorityKeyIdentifier, KeyUsage};

const SUBJECT_KEY_IDENTIFIER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.14");
const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
const SUBJECT_ALT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");
const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");
const AUTHORITY_KEY_IDENTIFIER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.35");

/// Each departure, as the end of a sentence that begins with the certificate.
pub(super) fn departures(certificate: &Certificate, provider: &str) -> Vec<String> {
    let mut told = Vec::new();
    let named = [certificate.common_name(), certificate.organisation()];
    if !named.iter().flatten().any(|name| name == provider) {
        told.push(format!("does not name {provider} in its subject (PEC-CRT-01)"));
    }
    let Ok(read) = x509_cert::Certificate::from_der(certificate.to_der()) else {
        told.push("cannot be read in all its parts".to_owned());
        return told;
    };
    let extensions = read.tbs_certificate.extensions.unwrap_or_default();
    let find = |oid| extensions.iter().find(|extension| extension.extn_id == oid);
    for (oid, name, rule) in [
        (KEY_USAGE, "key usage", "PEC-CRT-03"),
        (AUTHORITY_KEY_IDENTIFIER, "authority key identifier", "PEC-CRT-03"),
        (SUBJECT_KEY_IDENTIFIER, "subject key identifier", "PEC-CRT-03"),
        (SUBJECT_ALT_NAME, "subject alternative name", "PEC-CRT-03"),
    ] {
        if find(oid).is_none() {
            told.push(format!("has no {name} ({rule})"));
        }
    }
    if let Some(usage) = find(KEY_USAGE) {
        let bits = KeyUsage::from_der(usage.extn_value.as_bytes());
        let right = bits.is_ok_and(|bits| bits.digital_signature() && !bits.non_repudiation());
        if !usage.critical || !right {
            told.push(
                "has not the critical key usage digitalSignature without nonRepudiation \
                 (PEC-CRT-04)"
                    .to_owned(),
            );
        }
    }
    if let Some(authority) = find(AUTHORITY_KEY_IDENTIFIER) {
        let read = AuthorityKeyIdentifier::from_der(authority.extn_value.as_bytes());
        if !read.is_ok_and(|read| read.key_identifier.is_some()) {
            told.push("has no keyIdentifier of its authority (PEC-CRT-05)".to_owned());
        }
    }
    if find(BASIC_CONSTRAINTS).is_some() {
        told.push("has basic constraints (PEC-CRT-08)".to_owned());
    }
    for extension in extensions.iter().filter(|extension| extension.critical) {
        if extension.extn_id != KEY_USAGE {
            told.push(format!("has the critical extension {} (PEC-CRT-09)", extension.extn_id));
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use crypto::Authority;
    use store::Timestamp;

    use super::*;

    #[test]
    fn what_init_makes_has_no_departure() {
        let authority = Authority::new("Alfa CA", Timestamp::now()).unwrap();
        let email = "posta-certificata@a.example";
        let (certificate, _) = authority.issue_provider("Alfa", email, Timestamp::now()).unwrap();
        assert_eq!(departures(&certificate, "Alfa"), [""; 0]);
        assert_eq!(
            departures(&certificate, "Beta"),
            ["does not name Beta in its subject (PEC-CRT-01)"]
        );
    }

    #[test]
    fn each_departure_is_told() {
        let authority = Authority::new("Alfa CA", Timestamp::now()).unwrap();
        assert_eq!(
            departures(authority.certificate(), "Alfa CA"),
            [
                "has no authority key identifier (PEC-CRT-03)",
                "has no subject alternative name (PEC-CRT-03)",
                "has not the critical key usage digitalSignature without nonRepudiation \
                 (PEC-CRT-04)",
                "has basic constraints (PEC-CRT-08)",
                "has the critical extension 2.5.29.19 (PEC-CRT-09)"
            ]
        );
    }
}
