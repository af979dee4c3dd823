use proptest::prelude::*;

use super::*;
use crate::testing::{INDEX, address};

const RFC: &[u8] = include_bytes!("../../examples/index/rfc6109-index-sample.ldif");

fn domain(text: &str) -> Domain {
    Domain::parse(text).unwrap()
}

fn index() -> Index {
    let (index, faults) = Index::from_ldif(INDEX).unwrap();
    assert_eq!(faults, []);
    index
}

// PEC-IDX-02 PEC-IDX-03 PEC-IDX-04
#[test]
fn the_sample_is_read() {
    let index = index();
    let [alfa, beta, unit] = index.records() else { panic!("three records") };
    assert_eq!(alfa.dn(), "providerName=Alfa PEC S.p.A.,o=postacert");
    assert_eq!(alfa.mail_receipt, address("ricevute@alfapec.example"));
    assert_eq!(alfa.domains, [domain("alfapec.example"), domain("pec.rossi.example")]);
    assert_eq!(alfa.hashes(), ["45AF91C7B83FA984AE99204A56BDE59488492C37"]);
    assert_eq!(beta.location.as_deref(), Some("https://betacert.example/beta.ldif.p7m"));
    assert_eq!(unit.unit.as_deref(), Some("Ambiente Secondario"));
    assert_eq!(
        unit.dn(),
        "providerUnit=Ambiente Secondario,providerName=Beta Certificata S.r.l.,o=postacert"
    );
    assert_eq!(index.location(), Some("https://indice.registro.example/indice.ldif.p7m"));
}

// PEC-AP-18 PEC-AP-19
#[test]
fn a_domain_is_found_whole_and_without_case() {
    let index = index();
    assert_eq!(index.kind(&domain("PEC.Comune.example")), RecipientKind::Certified);
    for other in ["comune.example", "x.pec.comune.example", "xpec.comune.example"] {
        assert_eq!(index.kind(&domain(other)), RecipientKind::Ordinary);
    }
    let record = index.by_domain(&domain("personale.betacert.example")).unwrap();
    assert_eq!(record.mail_receipt, address("presaincarico@sec.betacert.example"));
}

// PEC-PR-02
#[test]
fn a_certificate_is_found_by_hash_and_then_compared() {
    let mut index = index();
    let der = index.records()[1].certificates[0].clone();
    assert_eq!(index.by_certificate(&der), [&index.records()[1]]);
    let mut other = der.clone();
    other.push(0);
    assert_eq!(index.by_certificate(&other), Vec::<&ProviderRecord>::new());
    // Found by its hash, it is still another certificate.
    index.by_hash.insert(certificate_hash(&other), vec![1]);
    assert_eq!(index.by_certificate(&other), Vec::<&ProviderRecord>::new());
}

// PEC-IDX-05 PEC-IDX-13
#[test]
fn the_sample_of_rfc_6109_is_read_with_its_flaws() {
    let (index, faults) = Index::from_ldif(RFC).unwrap();
    assert_eq!(faults, []);
    let [main, unit, other] = index.records() else { panic!("three records") };
    assert_eq!(unit.unit.as_deref(), Some("Secondary Environment"));
    // Hashes in upper and in lower case
    assert_eq!(other.hashes(), ["E00FDD9D88BE0E2CC766B893315CAF93D5701A6A"]);
    // One certificate in two records
    assert_eq!(index.by_certificate(&main.certificates[0]), [main, unit]);
}

// PEC-IDX-05 PEC-IDX-12
#[test]
fn a_record_holds_old_certificates_beside_new_ones() {
    let index = index();
    let mut record = index.records()[0].clone();
    record.certificates.push(index.records()[1].certificates[0].clone());
    let index = index.with(vec![record.clone()]).unwrap();
    let (again, faults) = Index::from_ldif(index.to_ldif().as_bytes()).unwrap();
    assert_eq!(faults, []);
    assert_eq!(again.by_domain(&domain("alfapec.example")), Some(&record));
    assert_eq!(again.by_certificate(&record.certificates[0]), [&record]);
    assert_eq!(again.by_certificate(&record.certificates[1]).len(), 2);
}

#[test]
fn a_wrong_record_is_left_out_and_told_of() {
    let text = String::from_utf8(INDEX.to_vec()).unwrap();
    for (from, to, fault) in [
        ("45AF91C7", "45AF91C8", "providerCertificateHash is not the hash of providerCertificate"),
        (
            "providerCertificateHash: 45AF91C7B83FA984AE99204A56BDE59488492C37\n",
            "",
            "providerCertificateHash is not the hash of providerCertificate",
        ),
        ("ricevute@alfapec.example", "ricevute", "mailReceipt is no address"),
        (
            "managedDomains: pec.rossi.example",
            "managedDomains: a b",
            "one of managedDomains is no domain",
        ),
        (
            "dn: providerName=Alfa PEC S.p.A.,o=postacert",
            "dn: providerName=Alfa PEC S.p.A.,o=altro",
            "its name is not providerName=...,o=postacert",
        ),
        (
            "dn: providerName=Alfa PEC S.p.A.,o=postacert",
            "dn: Alfa",
            "its name is no distinguished name",
        ),
        (
            "mailReceipt: ricevute",
            "providerUnit: x\nmailReceipt: ricevute",
            "providerUnit is in its name or in the record, and not in both",
        ),
    ] {
        assert!(text.contains(from));
        let (index, faults) = Index::from_ldif(text.replacen(from, to, 1).as_bytes()).unwrap();
        assert_eq!(faults.iter().map(|f| f.fault).collect::<Vec<_>>(), [fault]);
        assert_eq!(index.records().len(), 2);
    }
    // The last one, too, and one that says of itself that it is something else.
    let last = format!(
        "{text}\ndn: providerName=Gamma,o=postacert\nobjectClass: top\nobjectClass: organization\n\
         managedDomains: pec.gamma.example\n"
    );
    let (index, faults) = Index::from_ldif(last.as_bytes()).unwrap();
    assert_eq!(index.records().len(), 3);
    assert_eq!(
        faults.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["providerName=Gamma,o=postacert: its objectClass is not provider"]
    );
    let cut = format!("{text}\ndn: providerName=Gamma,o=postacert\nobjectClass: top\nmanagedDo\n");
    let lines = cut.lines().count();
    assert_eq!(
        Index::from_ldif(cut.as_bytes()).unwrap_err().to_string(),
        format!(
            "line {lines} of the LDIF file is no attribute, in the record \
             `providerName=Gamma,o=postacert`"
        )
    );
    // PEC-IDX-04
    let located = text.replace(
        "providerUnit: Ambiente Secondario\n",
        "providerUnit: Ambiente Secondario\nLDIFLocationURL: https://x.example/\n",
    );
    let (_, faults) = Index::from_ldif(located.as_bytes()).unwrap();
    assert_eq!(faults[0].fault, "a secondary environment has LDIFLocationURL");
}

// PEC-IDX-12 PEC-AP-18
#[test]
fn of_a_record_that_manages_nothing_any_more_the_certificates_stay() {
    let text = String::from_utf8(INDEX.to_vec()).unwrap();
    let domains = "managedDomains: alfapec.example\nmanagedDomains: pec.rossi.example\n";
    assert!(text.contains(domains));
    let (index, faults) = Index::from_ldif(text.replacen(domains, "", 1).as_bytes()).unwrap();
    assert_eq!(
        faults.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "providerName=Alfa PEC S.p.A.,o=postacert: it has no managedDomains: only its certificates are used"
        ]
    );
    let record = &index.records()[0];
    assert_eq!((record.name.as_str(), record.domains.as_slice()), ("Alfa PEC S.p.A.", &[][..]));
    assert!(index.by_certificate(&record.certificates[0]).contains(&record));
    assert_eq!(index.kind(&domain("alfapec.example")), RecipientKind::Ordinary);
    // The copy that is kept of it says the same.
    let (again, told) = Index::from_ldif(index.to_ldif().as_bytes()).unwrap();
    assert_eq!((again.records(), told), (index.records(), faults));
}

#[test]
fn a_file_that_contradicts_itself_is_refused_whole() {
    let text = String::from_utf8(INDEX.to_vec()).unwrap();
    let twice = text.replace("managedDomains: betacert.example", "managedDomains: AlfaPEC.example");
    assert_eq!(
        Index::from_ldif(twice.as_bytes()).unwrap_err(),
        IndexError::DomainTwice(
            domain("alfapec.example"),
            "providerName=Alfa PEC S.p.A.,o=postacert".into(),
            "providerName=Beta Certificata S.r.l.,o=postacert".into()
        )
    );
    let record = index().records()[0].clone();
    assert_eq!(
        Index::new(vec![record.clone(), record], None).unwrap_err(),
        IndexError::RecordTwice("providerName=Alfa PEC S.p.A.,o=postacert".into())
    );
    let mut taken = index().records()[0].clone();
    taken.name = "Altro".into();
    assert!(matches!(index().with(vec![taken]), Err(IndexError::DomainTwice(..))));
}

// PEC-IDX-02 PEC-IDX-04
#[test]
fn what_is_written_is_read_back() {
    for octets in [INDEX, RFC] {
        let (index, _) = Index::from_ldif(octets).unwrap();
        let written = index.to_ldif();
        assert!(written.lines().all(|line| line.len() <= 76));
        let (again, faults) = Index::from_ldif(written.as_bytes()).unwrap();
        assert_eq!(faults, []);
        assert_eq!(again.location(), index.location());
        for (record, other) in again.records().iter().zip(index.records()) {
            assert_eq!(record, other);
        }
    }
    let mut record = index().records()[0].clone();
    record.name = " #Società, \"Più\" = <a>+b;c\\ ".trim_start().to_owned() + "x";
    let one = records_to_ldif(std::slice::from_ref(&record));
    let (again, faults) = Index::from_ldif(one.as_bytes()).unwrap();
    assert_eq!(faults, []);
    assert_eq!(again.records(), [record]);
}

#[test]
fn ldif_is_read_as_rfc_2849_has_it() {
    let file = "version: 1\r\n# comment\r\n  folded\r\ndn: o=a\r\nX: uno\r\n  due\r\n\
        y::  Y2lhbw==\r\nz:\r\n\r\n\r\ndn:: bz1i\nX;binary:x\n";
    let entries = parse_ldif(file.as_bytes()).unwrap();
    assert_eq!(entries.len(), 2);
    let attributes: Vec<(&str, &[u8])> =
        entries[0].attributes.iter().map(|(n, v)| (&n[..], &v[..])).collect();
    assert_eq!(attributes, [("X", &b"uno due"[..]), ("y", b"ciao"), ("z", b"")]);
    assert_eq!(entries[1].dn, "o=b");
    assert_eq!(entries[1].text("x").as_deref(), Some("x"));
    let within = |error| LdifError::In("o=a".to_owned(), Box::new(error));
    for (file, error) in [
        ("dn: o=a\nX:< file:///etc/passwd\n", within(LdifError::Url(2))),
        ("dn: o=a\nX:<http://a/\n", within(LdifError::Url(2))),
        ("dn: o=a\nX:: !!\n", within(LdifError::Base64(2))),
        ("dn: o=a\nX\n", within(LdifError::Line(2))),
        ("dn: o=a\n: x\n", within(LdifError::Line(2))),
        (" x\n", LdifError::Line(1)),
        ("X: y\n", LdifError::NoEntry(1)),
        ("dn: o=a\ndn: o=b\n", within(LdifError::NoEntry(2))),
        ("dn: o=a\nchangetype: delete\n", within(LdifError::NoEntry(2))),
        ("version: 2\n", LdifError::Version),
    ] {
        assert_eq!(parse_ldif(file.as_bytes()), Err(error), "{file}");
    }
    let long = format!("dn: {}\nX\n", "a".repeat(1000));
    assert!(parse_ldif(long.as_bytes()).unwrap_err().to_string().len() < 300);
    assert_eq!(parse_ldif(b"dn: \xff\n"), Err(LdifError::NotUtf8));
    assert_eq!(parse_ldif(&vec![b'\n'; LDIF_OCTETS_MAX + 1]), Err(LdifError::TooLong));
}

#[test]
fn distinguished_names_are_read_as_rfc_4514_has_it() {
    let parts = |dn: &str| {
        let parts = parse_dn(dn)?;
        Some(parts.iter().map(|(n, v)| format!("{n}|{v}")).collect::<Vec<_>>())
    };
    for (dn, expected) in [
        ("o=postacert", vec!["o|postacert"]),
        (
            "providerName=Anonymous Certified Mail S.p.A., o=postacert",
            vec!["providerName|Anonymous Certified Mail S.p.A.", "o|postacert"],
        ),
        ("a=Rossi\\, Bianchi \\+ C.,o=b", vec!["a|Rossi, Bianchi + C.", "o|b"]),
        ("a=\\C3\\A8\\20 , o= b ", vec!["a|è ", "o|b"]),
    ] {
        assert_eq!(parts(dn), Some(expected.iter().map(|p| (*p).to_owned()).collect()), "{dn}");
    }
    for dn in ["", "a", "=b", "a=", "a=b,", "a=b+c=d", "a=\\", "a=\\FF", "a=\"b\"", "a b=c"] {
        assert_eq!(parts(dn), None, "{dn}");
    }
    assert_eq!(parse_dn(&"a=b,".repeat(1_000_000)), None);
}

proptest! {
    #[test]
    fn entries_are_read_back(
        values in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..120), "[ -~è<:]{0,120}"), 0..5),
        name in "[ -~è]{1,40}",
    ) {
        let mut entry = Entry::new(&format!("o={}", ldif::escape_dn(&name)));
        for (octets, text) in values {
            entry.push("binary", &octets);
            entry.push("text", text.as_bytes());
        }
        let written = write_ldif(std::slice::from_ref(&entry));
        prop_assert_eq!(parse_ldif(written.as_bytes()), Ok(vec![entry.clone()]));
        prop_assert_eq!(parse_dn(&entry.dn), Some(vec![("o".to_owned(), name)]));
    }

    #[test]
    fn any_octets_are_read_or_refused(text in "(dn:|::|: |\n| |o=a|,|\\\\|Y2lh|[ -~]){0,40}") {
        let _ = Index::from_ldif(text.as_bytes());
    }
}
