//! Reports of how TLS went, to domains that ask for them: one a domain and day.
//!
//! RFC 8460. What was counted ([`super::tally`]) goes out after the day has ended, at a time that
//! differs from domain to domain, to the places of the TXT record at `_smtp._tls.` (§3): to a web
//! server by POST (§5.4), or by mail (§5.3), which must be signed by DKIM and is not sent without a key
//! for that. Mail with a report goes however TLS goes (§3). A report that no place takes within another
//! day is given up.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use hickory_resolver::proto::rr::RecordType;
use mail::{Address, ReversePath};
use pec::moment::Moment;
use serde_json::{Value, json};
use smtp::tls_report::{Place, places};
use store::{Octets, Source, Timestamp, Transaction};

use super::Outside;
use super::chores::abreast;
use super::policies::texts;
use super::tally::{Count, period_of};
use super::web::Web;
use crate::config::{Config, TlsReports};
use crate::fetch::{Bounds, Wanted};
use crate::flow::dispatch::{Content, Parcel, relays};
use crate::site::Site;
use crate::submission::blocking;

/// Domains that are reported to in one look at most: what is left has its turn at the next.
const AT_ONCE_MAX: usize = 100;
/// Times in a period that a report is tried, at most: in a day, every half hour.
const RETRIES: i64 = 48;
/// How long one report may take, all its places together.
const REPORT_WAIT: Duration = Duration::from_secs(120);
/// How long a web server may take to take a report.
const POST_WAIT: Duration = Duration::from_secs(30);
/// Octets of its answer that are read.
const ANSWER_OCTETS_MAX: usize = 64 * 1024;
/// A report leaves within this part of a period after it has ended: of a day, four hours.
const SCATTER_PART: i64 = 6;
/// Characters of a line of base64, RFC 2045 §6.8.
const LINE: usize = 76;

/// Reports that no place took, by period and domain, and when they are tried again.
#[derive(Debug, Default)]
pub(super) struct Waits(HashMap<(i64, String), Timestamp>);

impl Waits {
    /// Of these those whose turn it is, [`AT_ONCE_MAX`] at most.
    fn next(
        &mut self,
        ended: Vec<(i64, String)>,
        now: Timestamp,
        every: i64,
    ) -> Vec<(i64, String)> {
        self.0.retain(|_, until| *until > now);
        let is_due =
            |(period, domain): &(i64, String)| now.as_second() >= due(*period, domain, every);
        let free =
            ended.into_iter().filter(|report| is_due(report) && !self.0.contains_key(report));
        free.take(AT_ONCE_MAX).collect()
    }

    /// What is tried now has its next turn later: a few that nobody takes must not keep the others
    /// from theirs.
    fn put_off(&mut self, reports: &[(i64, String)], now: Timestamp, every: i64) {
        let until = now.as_second().saturating_add((every / RETRIES).max(1));
        let until = Timestamp::from_second(until).unwrap_or(Timestamp::MAX);
        self.0.extend(reports.iter().map(|report| (report.clone(), until)));
    }
}

/// Sends what is due.
pub(super) async fn send_due(site: &Arc<Site>, outside: &Arc<Outside>, waits: &mut Waits) {
    let config = site.config.load_full();
    let Some(reports) = &config.tls_reports else { return };
    let every = reports.every_secs();
    let now = site.clock.now();
    let ended = site.transport.tally.before(period_of(now, every));
    let due = waits.next(ended, now, every);
    waits.put_off(&due, now, every);
    let works = due.into_iter().map(|(period, domain)| {
        let (site, outside, reports) = (site.clone(), outside.clone(), reports.clone());
        async move { send_one(&site, &outside.web, &reports, period, &domain).await }
    });
    abreast(works, REPORT_WAIT).await;
}

async fn send_one(site: &Arc<Site>, web: &Web, reports: &TlsReports, period: i64, domain: &str) {
    let now = site.clock.now();
    let is_over = now.as_second() >= due_last(period, domain, reports.every_secs());
    let counts = site.transport.tally.counts(period, domain);
    match send(site, web, reports, period, domain, &counts, now).await {
        Ok(()) => site.transport.tally.forget(period, domain),
        Err(error) if is_over => {
            tracing::warn!(target: "transport", domain, error = %format!("{error:#}"), "a report on TLS is given up");
            site.transport.tally.forget(period, domain);
        }
        Err(error) => {
            tracing::info!(target: "transport", domain, error = %format!("{error:#}"), "a report on TLS waits");
        }
    }
}

/// From when a report is sent, in seconds since the epoch.
fn due(period: i64, domain: &str, every: i64) -> i64 {
    let [a, b, c, d, ..] = crypto::sha256(domain.as_bytes());
    let scatter = i64::from(u32::from_be_bytes([a, b, c, d])) % (every / SCATTER_PART + 1);
    (period + 1) * every + scatter
}

/// Until when.
fn due_last(period: i64, domain: &str, every: i64) -> i64 {
    due(period, domain, every) + every
}

/// Reports to every place that a domain names; done when one has it, or there is none.
async fn send(
    site: &Arc<Site>,
    web: &Web,
    reports: &TlsReports,
    period: i64,
    domain: &str,
    counts: &[Count],
    now: Timestamp,
) -> anyhow::Result<()> {
    let found = match web.names.ask(&format!("_smtp._tls.{domain}"), RecordType::TXT).await {
        Ok(found) => texts(found.data),
        Err(no_way) if no_way.is_permanent => Vec::new(),
        Err(no_way) => anyhow::bail!(no_way.why),
    };
    let places = places(found.iter().map(Vec::as_slice));
    if places.is_empty() {
        return Ok(());
    }
    let every = reports.every_secs();
    let report = Report {
        host: site.host(),
        gateway: gateway(&site.config.load()),
        organisation: site.provider.name.clone(),
        contact: site.config.load().provider.postmaster.clone(),
        domain: domain.to_owned(),
        begins: Timestamp::from_second(period * every)?,
        ends: Timestamp::from_second((period + 1) * every - 1)?,
    };
    let packed = packed(&report.json(counts))?;
    let mut failed = None;
    let mut sent = 0;
    for place in &places {
        let done = match place {
            Place::Web(url) => post(site, web, url, &packed).await,
            Place::Mail(to) => mail(site, reports, &report, to, &packed, now).await,
        };
        match done {
            Ok(()) => sent += 1,
            Err(error) => failed = Some(error),
        }
    }
    metrics::counter!("ceralacca_tls_reports_total").increment(sent);
    match failed {
        Some(error) if sent == 0 => Err(error),
        _ => Ok(()),
    }
}

/// What tells this gateway from others of the same provider, at every start: its machine and its folder.
fn gateway(config: &Config) -> Option<String> {
    config.storing.shared.as_ref()?;
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let place = format!("{}:{}", machine.trim(), config.data.display());
    let [a, b, c, d, ..] = crypto::sha256(place.as_bytes());
    Some(format!("{:08x}", u32::from_be_bytes([a, b, c, d])))
}

/// What every form of a report says.
struct Report {
    host: String,
    /// Of several that share a store, each of which tells of its own sessions.
    gateway: Option<String>,
    organisation: String,
    contact: Address,
    domain: String,
    begins: Timestamp,
    ends: Timestamp,
}

impl Report {
    /// The same for the same domain, day and gateway: whoever gets it twice can tell.
    fn id(&self) -> String {
        let begins = self.begins.strftime("%Y%m%dT%H%M%SZ");
        let gateway = self.gateway.as_ref().map(|name| format!(".{name}")).unwrap_or_default();
        format!("{begins}.{}{gateway}@{}", self.domain, self.host)
    }

    /// RFC 8460 §4.4.
    fn json(&self, counts: &[Count]) -> Value {
        let failures = |count: &Count| -> Vec<Value> {
            let all = count.failures.iter();
            all.map(|failed| {
                json!({
                    "result-type": failed.kind,
                    "receiving-mx-hostname": failed.place.host,
                    "receiving-ip": failed.place.address,
                    "failed-session-count": failed.count,
                    "failure-reason-code": failed.why,
                })
            })
            .collect()
        };
        let policies: Vec<Value> = counts
            .iter()
            .map(|count| {
                json!({
                    "policy": {
                        "policy-type": count.held.kind,
                        "policy-string": count.held.lines,
                        "policy-domain": self.domain,
                        "mx-host": count.held.hosts,
                    },
                    "summary": {
                        "total-successful-session-count": count.successes,
                        "total-failure-session-count": count.failed,
                    },
                    "failure-details": failures(count),
                })
            })
            .collect();
        json!({
            "organization-name": self.organisation,
            "date-range": {
                "start-datetime": self.begins.to_string(),
                "end-datetime": self.ends.to_string(),
            },
            "contact-info": self.contact.to_string(),
            "report-id": self.id(),
            "policies": policies,
        })
    }

    /// RFC 8460 §5.3, without a signature; that it needs no TLS is for hosts on its way to know
    /// (RFC 8689 §5).
    fn message(&self, to: &Address, packed: &[u8], message_id: &str, at: Moment) -> String {
        let (host, domain, id) = (&self.host, &self.domain, self.id());
        let boundary = format!("report-{}", crate::site::fresh_word());
        let (begins, ends) = (self.begins.as_second(), self.ends.as_second());
        let mut lines = String::new();
        for line in STANDARD.encode(packed).as_bytes().chunks(LINE) {
            // Writing into a string cannot fail.
            let _ = write!(lines, "{}\r\n", String::from_utf8_lossy(line));
        }
        format!(
            "From: <postmaster@{host}>\r\nTo: <{to}>\r\n\
             Subject: Report Domain: {domain}\r\n Submitter: {host}\r\n Report-ID: <{id}>\r\n\
             Date: {date}\r\nMessage-ID: {message_id}\r\n\
             TLS-Report-Domain: {domain}\r\nTLS-Report-Submitter: {host}\r\n\
             TLS-Required: No\r\nAuto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\n\
             Content-Type: multipart/report; report-type=\"tlsrpt\";\r\n\tboundary=\"{boundary}\"\r\n\
             \r\n--{boundary}\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n\
             How TLS with the mail hosts of {domain} went, as RFC 8460 has it.\r\n\r\n\
             --{boundary}\r\nContent-Type: application/tlsrpt+gzip\r\n\
             Content-Transfer-Encoding: base64\r\nContent-Disposition: attachment;\r\n\
             \tfilename=\"{host}!{domain}!{begins}!{ends}.json.gz\"\r\n\r\n{lines}\
             --{boundary}--\r\n",
            date = at.header(),
        )
    }
}

/// RFC 8460 §5.2.
fn packed(report: &Value) -> anyhow::Result<Vec<u8>> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::default());
    packer.write_all(&serde_json::to_vec(report)?)?;
    Ok(packer.finish()?)
}

async fn post(site: &Site, web: &Web, url: &str, packed: &[u8]) -> anyhow::Result<()> {
    let fetcher = web.fetcher(&site.config.load())?;
    let bounds = Bounds { octets: ANSWER_OCTETS_MAX, total: POST_WAIT, redirects: 0 };
    let post = Some(("application/tlsrpt+gzip", packed));
    fetcher.fetch(&Wanted { post, ..Wanted::get(url) }, bounds).await?;
    Ok(())
}

/// Queues a report as mail: it goes like any other to an ordinary host.
async fn mail(
    site: &Arc<Site>,
    reports: &TlsReports,
    report: &Report,
    to: &Address,
    packed: &[u8],
    now: Timestamp,
) -> anyhow::Result<()> {
    let dkim =
        reports.dkim.as_ref().context("there is no tls_reports.dkim_key to sign mail with")?;
    let at = Moment::of(now);
    let message_id = format!("<{}.{}@{}>", now.as_second(), crate::site::fresh_word(), report.host);
    let message = report.message(to, packed, &message_id, at);
    let (site, to) = (site.clone(), to.clone());
    let (dkim, domain) = (dkim.clone(), report.host.clone());
    blocking(move || {
        let signature = super::dkim::sign(&dkim, &domain, message.as_bytes())?;
        let account = site.config.load().provider.postmaster.clone();
        let parcel = Parcel {
            reverse_path: &ReversePath::Null,
            recipients: std::slice::from_ref(&to),
            content: Content::TlsReport,
            account: &account,
        };
        let enqueue = relays(&site, &parcel, Source::New(0))?;
        anyhow::ensure!(!enqueue.is_empty(), "{to} is an address of this provider");
        let octets: Arc<[u8]> = format!("{signature}{message}").into_bytes().into();
        let step = Transaction {
            at: now,
            octets: vec![Octets::Inline(octets)],
            enqueue,
            ..Transaction::default()
        };
        site.store.commit(step)?;
        site.transport.wake();
        anyhow::Ok(())
    })
    .await?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::tally::{Failures, Held, Kind};

    fn report() -> Report {
        Report {
            host: "pec.alfa.example".to_owned(),
            gateway: None,
            organisation: "Alfa PEC".to_owned(),
            contact: Address::parse("postmaster@pec.alfa.example").unwrap(),
            domain: "b.example".to_owned(),
            begins: "2026-03-02T00:00:00Z".parse().unwrap(),
            ends: "2026-03-02T23:59:59Z".parse().unwrap(),
        }
    }

    #[test]
    fn reports_of_two_gateways_are_two() {
        let one = report();
        let other = Report { gateway: Some("0a1b2c3d".to_owned()), ..report() };
        assert_eq!(one.id(), "20260302T000000Z.b.example@pec.alfa.example");
        assert_eq!(other.id(), "20260302T000000Z.b.example.0a1b2c3d@pec.alfa.example");
    }

    // RFC 8460 §4.4
    #[test]
    fn a_report_says_what_was_counted_in_the_words_of_the_rfc() {
        let place = super::super::tally::Place {
            host: Some("mx.b.example".to_owned()),
            address: Some("192.0.2.1".parse().unwrap()),
        };
        let why = "invalid peer certificate: Expired".to_owned();
        let failed = Failures { kind: Kind::CertificateExpired, place, why, count: 3 };
        let held = Held {
            kind: "sts".to_owned(),
            lines: vec!["version: STSv1".to_owned(), "mode: testing".to_owned()],
            hosts: vec!["*.b.example".to_owned()],
        };
        let count = Count { held: held.into(), successes: 5, failed: 3, failures: vec![failed] };
        assert_eq!(
            report().json(&[count]),
            json!({
                "organization-name": "Alfa PEC",
                "date-range": {
                    "start-datetime": "2026-03-02T00:00:00Z",
                    "end-datetime": "2026-03-02T23:59:59Z",
                },
                "contact-info": "postmaster@pec.alfa.example",
                "report-id": "20260302T000000Z.b.example@pec.alfa.example",
                "policies": [{
                    "policy": {
                        "policy-type": "sts",
                        "policy-string": ["version: STSv1", "mode: testing"],
                        "policy-domain": "b.example",
                        "mx-host": ["*.b.example"],
                    },
                    "summary": {
                        "total-successful-session-count": 5,
                        "total-failure-session-count": 3,
                    },
                    "failure-details": [{
                        "result-type": "certificate-expired",
                        "receiving-mx-hostname": "mx.b.example",
                        "receiving-ip": "192.0.2.1",
                        "failed-session-count": 3,
                        "failure-reason-code": "invalid peer certificate: Expired",
                    }],
                }],
            })
        );
    }

    // RFC 8460 §5.3: not all at midnight, and not for ever.
    #[test]
    fn reports_leave_within_four_hours_of_the_end_of_the_day() {
        const DAY: i64 = 86_400;
        let times: Vec<i64> =
            (0..50).map(|number| due(9, &format!("{number}.example"), DAY) - 10 * DAY).collect();
        assert!(times.iter().all(|time| (0..=DAY / 6).contains(time)), "{times:?}");
        assert!(times.iter().max().unwrap() - times.iter().min().unwrap() > 3 * 3_600);
        assert_eq!(due_last(9, "a.example", DAY) - due(9, "a.example", DAY), DAY);
    }

    /// Reports that nobody takes keep no other from its turn.
    #[test]
    fn a_report_that_waits_stands_in_nobodys_way() {
        const DAY: i64 = 86_400;
        let all: Vec<(i64, String)> =
            (0..=AT_ONCE_MAX).map(|number| (9, format!("{number}.example"))).collect();
        let at = |seconds: i64| Timestamp::from_second(11 * DAY + seconds).unwrap();
        let mut waits = Waits::default();
        let first = waits.next(all.clone(), at(0), DAY);
        assert_eq!(first, all[..AT_ONCE_MAX]);
        waits.put_off(&first, at(0), DAY);
        assert_eq!(waits.next(all.clone(), at(1), DAY), all[AT_ONCE_MAX..]);
        assert_eq!(waits.next(all.clone(), at(DAY / RETRIES), DAY), first);
        // One that was sent is in nobody's list any more.
        assert!(waits.next(Vec::new(), at(DAY), DAY).is_empty() && waits.0.is_empty());
    }
}
