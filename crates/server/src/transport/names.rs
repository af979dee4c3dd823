//! Asks DNS, and says how far each answer is proved.
//!
//! Where DNSSEC is in use, every answer is followed to the keys of the root (RFC 4035 §5): what is
//! secure can say whom to believe (RFC 7672 §2.1.1), what is provably unsigned is taken as it comes,
//! and what ought to be signed and does not hold is no answer at all. `dns.dnssec = "auto"` waits for
//! servers that pass proofs on: those that strip them would make everything look forged.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::dnssec::Proof;
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};

use super::way::NoWay;
use crate::config::{Dns, Dnssec};
use crate::dns;

/// How long one question to DNS may take, aliases that are followed and proofs included.
const DNS_WAIT: Duration = Duration::from_secs(20);
/// Aliases that are followed from a name.
const ALIASES_MAX: usize = 16;
/// How often servers that pass no proofs on are asked again whether they do.
const PROBE_EVERY: Duration = Duration::from_secs(600);

/// What DNS has of a name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Found {
    /// Of the kind that was asked for; empty when the name has none.
    pub(crate) data: Vec<RData>,
    /// Whether all of it is proved: aliases on the way too, and that there is nothing.
    pub(crate) is_secure: bool,
    /// Whether what the name itself has is proved, be it an alias.
    pub(crate) is_own_secure: bool,
    /// Where aliases lead, when there are any.
    pub(crate) alias: Option<String>,
}

/// Whoever is asked.
pub(crate) struct Names {
    plain: Result<TokioResolver, String>,
    secure: Option<Secure>,
    /// For one question.
    wait: Duration,
}

struct Secure {
    resolver: TokioResolver,
    always: bool,
    proved: AtomicBool,
    probed: tokio::sync::Mutex<Option<Instant>>,
}

impl Names {
    /// As the configuration has it. In the runtime only.
    pub(crate) fn new(config: &Dns, plain: anyhow::Result<TokioResolver>) -> Self {
        let told = |error: anyhow::Error| format!("{error:#}");
        let plain = plain.map_err(told);
        if config.dnssec == Dnssec::Off {
            return Self { plain, secure: None, wait: DNS_WAIT };
        }
        let always = config.dnssec == Dnssec::On;
        let made = dns::anchors(config.trust_anchor.as_deref())
            .and_then(|anchors| dns::validating(&config.nameservers, anchors));
        match made {
            Ok(resolver) => {
                let proved = AtomicBool::new(always);
                let secure = Secure { resolver, always, proved, probed: Default::default() };
                Self { plain, secure: Some(secure), wait: DNS_WAIT }
            }
            // What must be proved and cannot is not believed.
            Err(error) if always => Self { plain: Err(told(error)), secure: None, wait: DNS_WAIT },
            Err(error) => {
                tracing::warn!(target: "transport", error = %told(error), "answers of DNS cannot be proved");
                Self { plain, secure: None, wait: DNS_WAIT }
            }
        }
    }

    /// What DNS has of this kind.
    ///
    /// # Errors
    ///
    /// [`NoWay`]: for good when there is no such name.
    pub(crate) async fn ask(&self, name: &str, kind: RecordType) -> Result<Found, NoWay> {
        let secure = match &self.secure {
            Some(secure) if secure.is_in_use().await => Some(secure),
            _ => None,
        };
        let plain = self.plain.as_ref();
        let resolver = match secure {
            Some(secure) => &secure.resolver,
            None => {
                plain.map_err(|why| NoWay::later(format!("no name server can be asked: {why}")))?
            }
        };
        // With the dot it is a whole name: no search list is tried.
        let asked = resolver.lookup(format!("{name}."), kind);
        let asked = tokio::time::timeout(self.wait, asked).await;
        match asked {
            Err(_) => Err(NoWay::later(format!("DNS did not answer for {name} in time"))),
            Ok(Ok(found)) => match secure {
                Some(_) => proved(name, kind, &found),
                None => Ok(Found { data: of_kind(&found, kind), ..Found::default() }),
            },
            Ok(Err(error)) if secure.is_some() && is_beside(name, kind, &error) => {
                Err(NoWay::unproved(name))
            }
            Ok(Err(error)) => nothing(name, &error),
        }
    }
}

impl Secure {
    /// Whether answers are proved: always, or since the servers have once passed a proof on.
    async fn is_in_use(&self) -> bool {
        if self.proved.load(Ordering::Relaxed) {
            return true;
        }
        let mut probed = self.probed.lock().await;
        if probed.is_some_and(|last| last.elapsed() < PROBE_EVERY) {
            return self.proved.load(Ordering::Relaxed);
        }
        *probed = Some(Instant::now());
        let asked = self.resolver.lookup(".", RecordType::SOA);
        let is_proved = match tokio::time::timeout(DNS_WAIT, asked).await {
            Ok(Ok(found)) => {
                let answers = found.answers().iter();
                let mut soa = answers.filter(|record| record.record_type() == RecordType::SOA);
                soa.next().is_some_and(|soa| soa.proof.is_secure())
            }
            _ => false,
        };
        if is_proved {
            self.proved.store(true, Ordering::Relaxed);
            tracing::info!(target: "transport", "answers of DNS are proved by DNSSEC from now on");
        } else {
            tracing::warn!(target: "transport", "the name servers pass no DNSSEC proofs on: TLSA records are not used");
        }
        debug_assert!(!self.always);
        is_proved
    }
}

fn of_kind(found: &Lookup, kind: RecordType) -> Vec<RData> {
    let records = found.answers().iter().filter(|record| record.record_type() == kind);
    records.map(|record| record.data.clone()).collect()
}

/// An answer of the resolver that proves them.
fn proved(name: &str, kind: RecordType, found: &Lookup) -> Result<Found, NoWay> {
    // Each record is proved for itself; those of other names answer nothing, however well proved.
    let chain = chain(found);
    let counts = |record: &&Record| {
        [kind, RecordType::CNAME].contains(&record.record_type()) && chain.contains(&record.name)
    };
    let records = || found.answers().iter().filter(counts);
    if records().any(|record| matches!(record.proof, Proof::Bogus | Proof::Indeterminate)) {
        return Err(NoWay::unproved(name));
    }
    let asked = found.query().name();
    let own = || records().filter(|record| record.name == *asked);
    let mut aliases = records().filter_map(|record| match &record.data {
        RData::CNAME(target) => Some(target.to_ascii().trim_end_matches('.').to_ascii_lowercase()),
        _ => None,
    });
    let of_kind = records().filter(|record| record.record_type() == kind);
    Ok(Found {
        data: of_kind.map(|record| record.data.clone()).collect(),
        is_secure: records().next().is_some() && records().all(|record| record.proof.is_secure()),
        is_own_secure: own().next().is_some() && own().all(|record| record.proof.is_secure()),
        alias: aliases.next_back(),
    })
}

/// The name that was asked for, and those that aliases lead to from there, in order.
fn chain(found: &Lookup) -> Vec<Name> {
    let mut chain = vec![found.query().name().clone()];
    while chain.len() <= ALIASES_MAX {
        let here = chain.last();
        let next = found.answers().iter().find_map(|record| match &record.data {
            RData::CNAME(target) if Some(&record.name) == here => Some(target.0.clone()),
            _ => None,
        });
        match next {
            Some(next) if !chain.contains(&next) => chain.push(next),
            _ => break,
        }
    }
    chain
}

/// Whether "there is nothing" is said by a zone that has no say about the name, and proves nothing.
/// Of hosts and their policies only: what an alias leads to may be of another zone.
fn is_beside(name: &str, kind: RecordType, error: &NetError) -> bool {
    let NetError::Dns(DnsError::NoRecordsFound(none)) = error else { return false };
    let (Ok(asked), Some(soa)) = (Name::from_ascii(format!("{name}.")), &none.soa) else {
        return false;
    };
    [RecordType::MX, RecordType::TLSA].contains(&kind)
        && !soa.proof.is_secure()
        && !soa.name.zone_of(&asked)
}

/// What an error of the resolver means: that there is nothing, or that it cannot be told.
fn nothing(name: &str, error: &NetError) -> Result<Found, NoWay> {
    let (code, is_secure) = match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => {
            let soa = none.soa.as_ref().is_some_and(|soa| soa.proof.is_secure());
            (none.response_code, soa)
        }
        // Proved as far as it can be, and no further.
        NetError::Dns(DnsError::Nsec { response, proof: Proof::Insecure, .. }) => {
            (response.response_code, false)
        }
        NetError::Dns(DnsError::DnssecBogus | DnsError::Nsec { .. }) => {
            return Err(NoWay::unproved(name));
        }
        _ => return Err(NoWay::later(format!("DNS does not tell about {name}: {error}"))),
    };
    match code {
        ResponseCode::NoError => Ok(Found { is_secure, ..Found::default() }),
        ResponseCode::NXDomain => Err(NoWay::never(format!("there is no {name} in DNS"))),
        other => Err(NoWay::later(format!("DNS says {other} of {name}"))),
    }
}

#[cfg(test)]
mod tests {
    use hickory_resolver::net::NoRecords;
    use hickory_resolver::proto::op::Query;
    use hickory_resolver::proto::rr::rdata::{CNAME, MX, SOA};

    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn record(owner: &str, data: RData, proof: Proof) -> Record {
        let mut record = Record::from_rdata(name(owner), 60, data);
        record.proof = proof;
        record
    }

    fn mx(owner: &str, host: &str, proof: Proof) -> Record {
        record(owner, RData::MX(MX::new(10, name(host))), proof)
    }

    fn found(records: Vec<Record>) -> Result<Found, NoWay> {
        let query = Query::query(name("a.example."), RecordType::MX);
        proved("a.example", RecordType::MX, &Lookup::new_with_max_ttl(query, records))
    }

    // RFC 7672 §2.1.1
    #[test]
    fn what_is_proved_of_another_name_answers_nothing_and_takes_nothing_away() {
        let own = || mx("a.example.", "mx.a.example.", Proof::Secure);
        for strange in [
            mx("evil.example.", "mx.evil.example.", Proof::Secure),
            mx("evil.example.", "mx.evil.example.", Proof::Insecure),
        ] {
            let found = found(vec![strange, own()]).unwrap();
            assert_eq!(found.data, [own().data]);
            assert!(found.is_secure && found.is_own_secure);
        }
        assert!(found(vec![mx("a.example.", "mx.a.example.", Proof::Bogus)]).is_err());
    }

    #[test]
    fn aliases_are_followed_from_the_name_that_was_asked_and_not_for_ever() {
        let alias =
            |from: &str, to: &str| record(from, RData::CNAME(CNAME(name(to))), Proof::Secure);
        let there = || mx("b.example.", "mx.b.example.", Proof::Secure);
        let followed = found(vec![alias("a.example.", "b.example."), there()]).unwrap();
        assert_eq!(
            (followed.data, followed.alias),
            (vec![there().data], Some("b.example".to_owned()))
        );
        let around = vec![alias("a.example.", "b.example."), alias("b.example.", "a.example.")];
        assert!(found(around).unwrap().data.is_empty());
        // One alias more than are followed.
        let hop =
            |n: usize| if n == 0 { "a.example.".to_owned() } else { format!("h{n}.example.") };
        let chain = |hops: usize| -> Vec<Record> {
            let all = (0..hops).map(|n| alias(&hop(n), &hop(n + 1)));
            all.chain([mx(&hop(hops), "mx.b.example.", Proof::Secure)]).collect()
        };
        assert_eq!(found(chain(ALIASES_MAX)).unwrap().data.len(), 1);
        assert!(found(chain(ALIASES_MAX + 1)).unwrap().data.is_empty());
    }

    #[test]
    fn a_zone_beside_the_name_cannot_say_that_there_is_nothing() {
        let said = |zone: &str, proof: Proof| {
            let soa = SOA::new(name("ns.example."), name("who.example."), 1, 1, 1, 1, 1);
            let mut soa = Record::from_rdata(name(zone), 60, soa);
            soa.proof = proof;
            let query = Query::query(name("a.example."), RecordType::MX);
            let mut none = NoRecords::new(query, ResponseCode::NXDomain);
            none.soa = Some(Box::new(soa));
            NetError::Dns(DnsError::NoRecordsFound(none))
        };
        let beside = |kind, error: &NetError| is_beside("a.example", kind, error);
        for kind in [RecordType::MX, RecordType::TLSA] {
            assert!(beside(kind, &said("evil.test.", Proof::Insecure)));
            assert!(!beside(kind, &said("example.", Proof::Insecure)));
            assert!(!beside(kind, &said("evil.test.", Proof::Secure)));
        }
        assert!(!beside(RecordType::AAAA, &said("hosting.test.", Proof::Insecure)));
    }

    #[tokio::test]
    async fn a_question_has_its_time_and_no_more() {
        let mute = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let nameservers = vec![mute.local_addr().unwrap()];
        let config =
            Dns { nameservers: nameservers.clone(), dnssec: Dnssec::Off, trust_anchor: None };
        let names = Names::new(&config, dns::resolver(&nameservers));
        assert_eq!(names.wait, DNS_WAIT);
        let names = Names { wait: Duration::from_millis(100), ..names };
        let began = Instant::now();
        let no_way = names.ask("a.example", RecordType::MX).await.unwrap_err();
        assert_eq!(no_way, NoWay::later("DNS did not answer for a.example in time".to_owned()));
        assert!((names.wait..Duration::from_secs(3)).contains(&began.elapsed()));
    }
}
