use std::time::Duration;

use jiff::SignedDuration;
use rustls::crypto::aws_lc_rs;

use super::*;
use crate::testing::today;
use crate::{Authority, Certificate};

const HOST: &str = "mx.altrove.example";

/// What a host shows, and its authority's certificate.
struct Shown {
    own: CertificateDer<'static>,
    authority: CertificateDer<'static>,
}

fn der(certificate: &Certificate) -> CertificateDer<'static> {
    CertificateDer::from(certificate.to_der().to_vec())
}

/// A certificate for these names, issued `days` before today; valid for thirty.
fn shown(names: &[&str], days: i64) -> Shown {
    let at = today() - SignedDuration::from_hours(24 * days);
    let authority = Authority::new("Altrove CA", at).unwrap().valid_for(30);
    let (own, _) = authority.issue_tls(names, &[], at).unwrap();
    let (pem, _) = authority.to_pem().unwrap();
    Shown { own: der(&own), authority: der(&Certificate::from_pem(pem.as_bytes()).unwrap()) }
}

/// The data of a record that is right for this certificate.
fn data(selector: u8, matching: u8, certificate: &CertificateDer<'_>) -> Vec<u8> {
    let certificate = Certificate::from_der(certificate).unwrap();
    let selected = match selector {
        0 => certificate.to_der().to_vec(),
        _ => certificate.public_key_der().unwrap(),
    };
    match matching {
        0 => selected,
        1 => openssl::sha::sha256(&selected).to_vec(),
        _ => openssl::sha::sha512(&selected).to_vec(),
    }
}

fn tlsa(usage: u8, selector: u8, matching: u8, data: Vec<u8>) -> Tlsa {
    Tlsa { usage, selector, matching, data }
}

fn names(names: &[&str]) -> Vec<ServerName<'static>> {
    names.iter().map(|name| ServerName::try_from((*name).to_owned()).unwrap()).collect()
}

fn judged(records: &[Tlsa], shown: &Shown, with_authority: bool) -> Result<(), Error> {
    let dane = Dane::new(records, names(&[HOST, "altrove.example"])).unwrap();
    let chain: &[_] = if with_authority { std::slice::from_ref(&shown.authority) } else { &[] };
    let now = UnixTime::since_unix_epoch(Duration::from_secs(today().as_second() as u64));
    dane.verify(&shown.own, chain, now, &Arc::new(aws_lc_rs::default_provider()))
}

const EVERY: [(u8, u8); 6] = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)];

// RFC 7671 §5.1
#[test]
fn a_host_that_names_its_own_certificate_or_key_is_known_by_it_alone() {
    // Under another name, and long expired: neither counts.
    let (shown, other) = (shown(&["other.example"], 300), shown(&[HOST], 0));
    for (selector, matching) in EVERY {
        let record = |of: &Shown| tlsa(3, selector, matching, data(selector, matching, &of.own));
        judged(&[record(&shown)], &shown, false).unwrap();
        // One of several is enough: the next key is announced before it is used.
        judged(&[record(&other), record(&shown)], &shown, true).unwrap();
        judged(&[record(&other)], &shown, true).unwrap_err();
    }
}

// RFC 7671 §5.2, RFC 7672 §3.1.2
#[test]
fn an_authority_that_the_host_names_vouches_for_names_and_dates_too() {
    let good = shown(&[HOST], 1);
    let other = shown(&[HOST], 1);
    for (selector, matching) in EVERY {
        let data = |of: &Shown| data(selector, matching, &of.authority);
        let record = tlsa(2, selector, matching, data(&good));
        judged(std::slice::from_ref(&record), &good, true).unwrap();
        judged(&[tlsa(2, selector, matching, data(&other))], &good, true).unwrap_err();
        judged(std::slice::from_ref(&record), &other, true).unwrap_err();
        // Who does not show his authority is known only where the record has all of it.
        assert_eq!(judged(&[record], &good, false).is_ok(), matching == 0, "{selector} {matching}");
    }
    let by_authority = |shown: &Shown| {
        let record = tlsa(2, 0, 1, data(0, 1, &shown.authority));
        judged(&[record], shown, true)
    };
    // RFC 7672 §3.2.2: the name of the domain will do as well as that of the host.
    by_authority(&shown(&["altrove.example"], 1)).unwrap();
    let stranger = by_authority(&shown(&["other.example"], 1)).unwrap_err();
    assert!(stranger.to_string().contains("not valid for name"), "{stranger}");
    let expired = by_authority(&shown(&[HOST], 31)).unwrap_err();
    assert!(expired.to_string().contains("expired"), "{expired}");
    // The record of an authority is none of the host's own certificate, nor the other way about.
    judged(&[tlsa(2, 0, 1, data(0, 1, &good.own))], &good, true).unwrap_err();
    judged(&[tlsa(3, 0, 1, data(0, 1, &good.authority))], &good, true).unwrap_err();
}

// RFC 7672 §3.1.3, RFC 6698 §4.1
#[test]
fn a_record_that_cannot_be_used_counts_as_none() {
    let shown = shown(&[HOST], 1);
    let digest = data(1, 1, &shown.own);
    for unusable in [
        tlsa(0, 1, 1, digest.clone()),
        tlsa(1, 1, 1, digest.clone()),
        tlsa(255, 1, 1, digest.clone()),
        tlsa(3, 2, 1, digest.clone()),
        tlsa(3, 1, 3, digest.clone()),
        tlsa(3, 1, 1, digest[..31].to_vec()),
        tlsa(3, 1, 2, digest.clone()),
        tlsa(3, 1, 1, Vec::new()),
        tlsa(3, 0, 0, digest.clone()),
        tlsa(2, 1, 0, digest.clone()),
        tlsa(2, 1, 0, vec![0x30, 0x84, 0xff, 0xff, 0xff, 0xff]),
    ] {
        let records = [unusable];
        assert!(Dane::new(&records, names(&[HOST])).is_none(), "{records:?}");
        let [unusable] = records;
        judged(&[unusable, tlsa(3, 1, 1, digest.clone())], &shown, true).unwrap();
    }
    assert!(Dane::new(&[], names(&[HOST])).is_none());
}

// RFC 7671 §9
#[test]
fn of_two_digests_the_stronger_counts() {
    let shown = shown(&[HOST], 1);
    let good = |matching| tlsa(3, 1, matching, data(1, matching, &shown.own));
    let bad = tlsa(3, 1, 2, vec![7; 64]);
    judged(&[good(1), bad.clone()], &shown, false).unwrap_err();
    judged(&[good(1), bad.clone(), good(2)], &shown, false).unwrap();
    // What is compared whole counts beside any digest; another selector has digests of its own.
    judged(&[good(0), bad.clone()], &shown, false).unwrap();
    judged(&[tlsa(3, 0, 1, data(0, 1, &shown.own)), bad], &shown, false).unwrap();
}

#[test]
fn records_past_the_bound_are_not_looked_at() {
    let shown = shown(&[HOST], 1);
    let mut records = vec![tlsa(3, 1, 1, vec![7; 32]); RECORDS_MAX - 1];
    records.push(tlsa(3, 1, 1, data(1, 1, &shown.own)));
    judged(&records, &shown, false).unwrap();
    records.insert(0, tlsa(3, 1, 1, vec![7; 32]));
    judged(&records, &shown, false).unwrap_err();
}
