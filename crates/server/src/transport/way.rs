//! Where mail for a domain goes: the operator's routes first, then DNS.
//!
//! RFC 5321 §5.1: the hosts of the MX records by preference, or the domain itself when it has none; a
//! null MX takes no mail (RFC 7505 §3). Where DNSSEC proves all of the way, a host's TLSA records come with
//! it (RFC 7672 §2.2). Every list that DNS gives is bounded. Anybody may write any address into his own
//! zone: those of this machine and of the networks behind it are the operator's to name, by a route.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crypto::tls::dane::{RECORDS_MAX, Tlsa};
use hickory_resolver::proto::rr::{RData, RecordType};

use super::names::{Found, Names};
use crate::config::Route;
use crate::fetch::{Networks, is_public};

/// Hosts of a domain that are tried at most: RFC 5321 §5.1 has a sender try at least two.
const HOSTS_MAX: usize = 8;
/// Addresses of a host that are tried at most.
const ADDRESSES_MAX: usize = 4;

/// A host to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Host {
    /// By which its certificate is looked at.
    pub(super) name: String,
    /// IPv6 and IPv4 as they came.
    pub(super) addresses: Vec<SocketAddr>,
    /// Whether the operator or DNSSEC says that it is a host of this domain.
    pub(super) is_proved: bool,
    /// What it has published of its certificate.
    pub(super) published: Published,
}

/// What a host says of its certificate in DNS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Published {
    /// Nothing that is proved.
    Nothing,
    /// These records, under the name that its certificate is looked at by then (RFC 7672 §2.2.3).
    Records { base: String, records: Vec<Tlsa> },
    /// It cannot be told: then nothing is sent there (RFC 7672 §2.1.1).
    Unknown(NoWay),
}

/// Why there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NoWay {
    /// Whether asking again is of no use.
    pub(crate) is_permanent: bool,
    /// Whether what DNS said does not hold against its proof.
    pub(crate) is_unproved: bool,
    /// Why.
    pub(crate) why: String,
}

impl NoWay {
    pub(super) fn later(why: String) -> Self {
        Self { is_permanent: false, is_unproved: false, why }
    }

    pub(super) fn never(why: String) -> Self {
        Self { is_permanent: true, is_unproved: false, why }
    }

    /// Forged, or its owner's mistake: nobody can tell, and both may pass.
    pub(super) fn unproved(name: &str) -> Self {
        let why = format!("what DNS says of {name} does not hold against its DNSSEC proof");
        Self { is_permanent: false, is_unproved: true, why }
    }
}

/// Whoever finds ways.
pub(super) struct Ways {
    names: Arc<Names>,
    /// The port of hosts that DNS names.
    port: u16,
}

impl Ways {
    pub(super) fn new(names: Arc<Names>, port: u16) -> Self {
        Self { names, port }
    }

    /// The hosts to try for a domain, in their order: those that DNS names in these networks only. `with_records`: together with what they have
    /// published.
    pub(super) async fn to(
        &self,
        domain: &str,
        route: Option<&Route>,
        networks: Networks,
        with_records: bool,
    ) -> Result<Vec<Host>, NoWay> {
        if let Some(route) = route {
            // Whom to believe there is for the operator to know, who wrote the route.
            let host = self.host(&route.host, route.port, false).await?;
            return Ok(vec![Host { is_proved: true, ..host }]);
        }
        let (names, is_secure) = self.exchangers(domain).await?;
        let with_records = with_records && is_secure;
        let mut hosts = Vec::new();
        let mut failures = Vec::new();
        for name in names {
            let host = self.host(&name, self.port, with_records).await;
            match host.and_then(|host| within(networks, host)) {
                Ok(host) => hosts.push(Host { is_proved: is_secure, ..host }),
                Err(no_way) => failures.push(no_way),
            }
        }
        match worst(failures) {
            Some(no_way) if hosts.is_empty() => Err(no_way),
            _ => Ok(hosts),
        }
    }

    /// The names of the hosts that take mail for a domain, and whether that is proved.
    async fn exchangers(&self, domain: &str) -> Result<(Vec<String>, bool), NoWay> {
        let mut found: Vec<(u16, String)> = Vec::new();
        let asked = self.names.ask(domain, RecordType::MX).await?;
        for data in asked.data {
            if let RData::MX(mx) = data {
                let name = mx.exchange.to_ascii();
                found.push((mx.preference, name.trim_end_matches('.').to_ascii_lowercase()));
            }
        }
        if found.is_empty() {
            // RFC 5321 §5.1: as if its one MX were itself.
            return Ok((vec![domain.to_owned()], asked.is_secure));
        }
        // RFC 7505 §3: alone, the root says that no mail is taken.
        found.retain(|(_, name)| !name.is_empty());
        if found.is_empty() {
            return Err(NoWay::never(format!("{domain} says in DNS that it takes no mail")));
        }
        Ok((in_order(found), asked.is_secure))
    }

    async fn host(&self, name: &str, port: u16, with_records: bool) -> Result<Host, NoWay> {
        let socket = |ip: IpAddr| SocketAddr::new(ip, port);
        let plain = |addresses| Host {
            name: name.to_owned(),
            addresses,
            is_proved: false,
            published: Published::Nothing,
        };
        if let Ok(ip) = name.parse::<IpAddr>() {
            return Ok(plain(vec![socket(ip)]));
        }
        if name.eq_ignore_ascii_case("localhost") {
            // RFC 6761 §6.3: nobody is asked.
            return Ok(plain(vec![socket(IpAddr::from([127, 0, 0, 1]))]));
        }
        let (six, four) = tokio::join!(
            self.names.ask(name, RecordType::AAAA),
            self.names.ask(name, RecordType::A)
        );
        let mut host = plain(Vec::new());
        let failed =
            worst([&six, &four].into_iter().filter_map(|asked| asked.as_ref().err().cloned()));
        let mut bases = Vec::new();
        for found in [six, four].into_iter().filter_map(Result::ok) {
            if !found.data.is_empty() && bases.is_empty() {
                bases = bases_of(name, &found);
            }
            for data in found.data.into_iter().take(ADDRESSES_MAX / 2) {
                match data {
                    RData::AAAA(ip) => host.addresses.push(socket(IpAddr::V6(ip.0))),
                    RData::A(ip) => host.addresses.push(socket(IpAddr::V4(ip.0))),
                    _ => {}
                }
            }
        }
        if host.addresses.is_empty() {
            return Err(failed.unwrap_or_else(|| {
                NoWay::never(format!("the host {name} has no address in DNS"))
            }));
        }
        // RFC 7672 §2.2.2: where addresses are not proved nothing else is asked for.
        if with_records {
            host.published = self.published(&bases, port).await;
        }
        Ok(host)
    }

    /// The TLSA records of a host under the first of these names that has any, RFC 7672 §2.2.3.
    async fn published(&self, bases: &[String], port: u16) -> Published {
        for base in bases {
            let asked = self.names.ask(&format!("_{port}._tcp.{base}"), RecordType::TLSA).await;
            let found = match asked {
                Ok(found) => found,
                Err(no_way) if no_way.is_permanent => continue,
                Err(no_way) => return Published::Unknown(no_way),
            };
            if !found.is_secure {
                continue;
            }
            let records: Vec<Tlsa> =
                found.data.into_iter().filter_map(tlsa).take(RECORDS_MAX).collect();
            if !records.is_empty() {
                return Published::Records { base: base.clone(), records };
            }
        }
        Published::Nothing
    }
}

/// Under which names a host may have TLSA records: where its aliases lead, when all of them are
/// proved, and then its own; none where nothing is proved.
fn bases_of(name: &str, found: &Found) -> Vec<String> {
    let alias = found.alias.iter().filter(|_| found.is_secure).cloned();
    let own = found.is_own_secure.then(|| name.to_owned());
    alias.chain(own).collect()
}

fn tlsa(data: RData) -> Option<Tlsa> {
    match data {
        RData::TLSA(tlsa) => Some(Tlsa {
            usage: tlsa.cert_usage.into(),
            selector: tlsa.selector.into(),
            matching: tlsa.matching.into(),
            data: tlsa.cert_data.clone(),
        }),
        _ => None,
    }
}

/// A host without the addresses that its name has no business to be at (RFC 6890 §2.2).
fn within(networks: Networks, mut host: Host) -> Result<Host, NoWay> {
    host.addresses.retain(|address| networks == Networks::Any || is_public(address.ip()));
    if host.addresses.is_empty() {
        // Its owner may mend it, or the operator mean it.
        return Err(NoWay::later(format!(
            "the host {} is in a private network by DNS: write a route if it should be",
            host.name
        )));
    }
    Ok(host)
}

/// Of several failures one that may pass, if there is one: only when all are for good is there no way
/// for good.
fn worst(failures: impl IntoIterator<Item = NoWay>) -> Option<NoWay> {
    failures.into_iter().min_by_key(|no_way| no_way.is_permanent)
}

/// By preference, and among equals at random: RFC 5321 §5.1. Not more than [`HOSTS_MAX`].
fn in_order(found: Vec<(u16, String)>) -> Vec<String> {
    let lot = |(preference, name)| (preference, crypto::random::<8>(), name);
    let mut drawn: Vec<(u16, [u8; 8], String)> = found.into_iter().map(lot).collect();
    drawn.sort();
    drawn.truncate(HOSTS_MAX);
    drawn.into_iter().map(|(_, _, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::UdpSocket;

    use super::*;
    use crate::config::{Dns, Dnssec};

    const A: u16 = 1;
    const CNAME: u16 = 5;
    const MX: u16 = 15;
    const AAAA: u16 = 28;

    /// A name as it is on the wire, RFC 1035 §3.1.
    fn on_the_wire(name: &str) -> Vec<u8> {
        let mut wire = Vec::new();
        for label in name.split('.').filter(|label| !label.is_empty()) {
            wire.push(u8::try_from(label.len()).unwrap());
            wire.extend_from_slice(label.as_bytes());
        }
        wire.push(0);
        wire
    }

    fn mx(preference: u8, name: &str) -> (u16, Vec<u8>) {
        (MX, [&[0, preference][..], &on_the_wire(name)].concat())
    }

    fn a(last: u8) -> (u16, Vec<u8>) {
        (A, vec![192, 0, 2, last])
    }

    fn at(address: [u8; 4]) -> (u16, Vec<u8>) {
        (A, address.to_vec())
    }

    fn aaaa(last: u8) -> (u16, Vec<u8>) {
        let mut address = vec![0x20, 1, 0xd, 0xb8];
        address.extend([0; 11]);
        address.push(last);
        (AAAA, address)
    }

    // RFC 5321 §5.1: a thousand times, each of three equals is first about as often as another.
    #[test]
    fn equals_are_tried_in_any_order_and_a_better_one_before_them() {
        let found =
            [(20, "c.example"), (10, "mx3.b.example"), (10, "mx1.b.example"), (10, "x.example")];
        let found: Vec<_> = found.map(|(preference, name)| (preference, name.to_owned())).into();
        let mut firsts = BTreeMap::new();
        let mut orders = std::collections::BTreeSet::new();
        for _ in 0..1_000 {
            let order = in_order(found.clone());
            assert_eq!(order[3], "c.example");
            *firsts.entry(order[0].clone()).or_insert(0) += 1;
            orders.insert(order);
        }
        // Of 1,000 draws with a third each, fewer than 200 or more than 500 do not come about by chance.
        assert!(
            firsts.len() == 3 && firsts.values().all(|of| (200..500).contains(of)),
            "{firsts:?}"
        );
        assert_eq!(orders.len(), 6);
    }

    type Zone = BTreeMap<&'static str, Vec<(u16, Vec<u8>)>>;

    /// A name server that knows these names; others are not there, and `broken.example` is its own
    /// failure.
    fn name_server(zone: Zone) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut question = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut question) {
                let answer = answer(&zone, &question[..length]);
                let _ = socket.send_to(&answer, from);
            }
        });
        address
    }

    /// RFC 1035 §4.1: the header, the question again, the answers.
    fn answer(zone: &Zone, question: &[u8]) -> Vec<u8> {
        let mut name = String::new();
        let mut at = 12;
        while question[at] != 0 {
            let end = at + 1 + usize::from(question[at]);
            name += &(String::from_utf8_lossy(&question[at + 1..end]).to_lowercase() + ".");
            at = end;
        }
        let kind = u16::from_be_bytes([question[at + 1], question[at + 2]]);
        let asked = &question[12..at + 5];
        let known = zone.get(name.trim_end_matches('.'));
        let code = match (name.as_str(), known) {
            ("broken.example.", _) => 2,
            (_, None) => 3,
            _ => 0,
        };
        let fits = |(of, _): &&(u16, Vec<u8>)| *of == kind || *of == CNAME;
        let records: Vec<_> = known.into_iter().flatten().filter(fits).collect();
        let count = u8::try_from(records.len()).unwrap();
        let mut out = question[..2].to_vec();
        out.extend([0x84, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0]);
        out.extend_from_slice(asked);
        for (kind, data) in records {
            out.extend_from_slice(&on_the_wire(&name));
            out.extend(kind.to_be_bytes());
            out.extend([0, 1, 0, 0, 0, 60]);
            out.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
            out.extend_from_slice(data);
        }
        out
    }

    fn zone() -> Zone {
        let many = (0..20).map(|n| mx(n, "mx1.example")).collect();
        Zone::from([
            ("two.example", vec![mx(20, "mx2.example"), mx(10, "mx1.example")]),
            ("mx1.example", vec![a(1), aaaa(1)]),
            ("mx2.example", vec![a(2)]),
            ("none.example", vec![mx(0, ".")]),
            ("bare.example", vec![a(3)]),
            ("half.example", vec![mx(10, "gone.example"), mx(20, "mx2.example")]),
            ("lost.example", vec![mx(10, "gone.example")]),
            ("empty.example", vec![mx(10, "noaddress.example")]),
            ("noaddress.example", vec![]),
            ("many.example", many),
            ("inward.example", vec![mx(10, "inside.example"), mx(20, "both.example")]),
            ("hidden.example", vec![mx(10, "inside.example"), mx(20, "localhost")]),
            ("literal.example", vec![mx(10, "10.0.0.1")]),
            ("inside.example", vec![at([10, 1, 2, 3]), at([127, 0, 0, 1])]),
            ("both.example", vec![at([192, 168, 0, 1]), at([9, 9, 9, 9])]),
            ("wide.example", [1, 2, 3].map(|last| [a(last), aaaa(last)]).concat()),
            ("round.example", vec![(CNAME, on_the_wire("about.example"))]),
            ("about.example", vec![(CNAME, on_the_wire("round.example"))]),
        ])
    }

    fn asked(domain: &str, route: Option<&Route>) -> Result<Vec<String>, NoWay> {
        asked_with(domain, route, Dnssec::Auto)
    }

    fn asked_with(
        domain: &str,
        route: Option<&Route>,
        dnssec: Dnssec,
    ) -> Result<Vec<String>, NoWay> {
        // Also addresses for documentation, which are nobody's (RFC 6890 §2.2).
        asked_in(domain, route, Networks::Any, dnssec)
    }

    fn asked_in(
        domain: &str,
        route: Option<&Route>,
        networks: Networks,
        dnssec: Dnssec,
    ) -> Result<Vec<String>, NoWay> {
        let server = name_server(zone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let hosts = runtime.block_on(async {
            let dns = Dns { nameservers: vec![server], dnssec, trust_anchor: None };
            let names = Names::new(&dns, crate::dns::resolver(&[server]));
            Ways::new(Arc::new(names), 25).to(domain, route, networks, true).await
        })?;
        let told = |host: &Host| {
            let addresses: Vec<String> = host.addresses.iter().map(ToString::to_string).collect();
            format!("{} {}", host.name, addresses.join(" "))
        };
        Ok(hosts.iter().map(told).collect())
    }

    // RFC 5321 §5.1
    #[test]
    fn hosts_come_by_preference_with_both_kinds_of_addresses() {
        let (one, two) = ("mx1.example [2001:db8::1]:25 192.0.2.1:25", "mx2.example 192.0.2.2:25");
        assert_eq!(asked("two.example", None).unwrap(), [one, two]);
        assert_eq!(asked("bare.example", None).unwrap(), ["bare.example 192.0.2.3:25"]);
        // One that cannot be found does not hide the others.
        assert_eq!(asked("half.example", None).unwrap(), [two]);
    }

    #[test]
    fn a_route_comes_before_dns() {
        let route = |host: &str| Route { host: host.to_owned(), port: 2525 };
        let to = |host: &str| asked("none.example", Some(&route(host))).unwrap();
        assert_eq!(to("192.0.2.9"), ["192.0.2.9 192.0.2.9:2525"]);
        assert_eq!(to("::1"), ["::1 [::1]:2525"]);
        assert_eq!(to("localhost"), ["localhost 127.0.0.1:2525"]);
        assert_eq!(to("mx2.example"), ["mx2.example 192.0.2.2:2525"]);
    }

    #[test]
    fn what_dns_does_not_know_is_final_and_what_it_cannot_tell_is_not() {
        for (domain, is_permanent, why) in [
            // RFC 7505 §3
            ("none.example", true, "none.example says in DNS that it takes no mail"),
            ("nowhere.example", true, "there is no nowhere.example in DNS"),
            ("lost.example", true, "there is no gone.example in DNS"),
            ("empty.example", true, "the host noaddress.example has no address in DNS"),
            ("broken.example", false, "broken.example"),
        ] {
            let no_way = asked(domain, None).unwrap_err();
            assert_eq!(no_way.is_permanent, is_permanent, "{no_way:?}");
            assert!(no_way.why.contains(why), "{no_way:?}");
        }
    }

    // RFC 6890 §2.2
    #[test]
    fn dns_leads_nobody_into_private_networks_and_a_route_does() {
        let public = |domain, route| asked_in(domain, route, Networks::Public, Dnssec::Auto);
        assert_eq!(public("inward.example", None).unwrap(), ["both.example 9.9.9.9:25"]);
        for domain in ["hidden.example", "literal.example", "inside.example"] {
            let no_way = public(domain, None).unwrap_err();
            assert!(!no_way.is_permanent, "its owner may mend it: {no_way:?}");
            assert!(no_way.why.contains("is in a private network by DNS"), "{no_way:?}");
        }
        let route = Route { host: "inside.example".to_owned(), port: 2525 };
        let inside = ["inside.example 10.1.2.3:2525 127.0.0.1:2525"];
        assert_eq!(public("hidden.example", Some(&route)).unwrap(), inside);
        let inside = ["inside.example 10.1.2.3:25 127.0.0.1:25"];
        assert_eq!(asked("inside.example", None).unwrap(), inside);
    }

    #[test]
    fn of_several_failures_one_that_may_pass_decides() {
        let never = || NoWay::never("there is no such host".to_owned());
        let later = || NoWay::later("DNS did not answer".to_owned());
        assert_eq!(worst([]), None);
        assert_eq!(worst([never(), never()]), Some(never()));
        for all in [[never(), later()], [later(), never()]] {
            assert_eq!(worst(all), Some(later()));
        }
    }

    #[test]
    fn no_list_is_followed_beyond_its_bound() {
        assert_eq!(asked("many.example", None).unwrap().len(), HOSTS_MAX);
        // Of each kind of address half.
        let wide = "[2001:db8::1]:25 [2001:db8::2]:25 192.0.2.1:25 192.0.2.2:25";
        assert_eq!(asked("wide.example", None).unwrap(), [format!("wide.example {wide}")]);
        assert_eq!(wide.split(' ').count(), ADDRESSES_MAX);
        // Aliases in a circle end, and no mail is lost for it.
        assert!(asked("round.example", None).is_err());
    }

    // RFC 4035 §5: a server that strips proofs off is not believed where they are a must, and is where
    // the operator leaves it to what the server can do.
    #[test]
    fn without_proofs_there_is_no_way_where_they_are_a_must() {
        for domain in ["two.example", "bare.example", "nowhere.example"] {
            let no_way = asked_with(domain, None, Dnssec::On).unwrap_err();
            assert!(!no_way.is_permanent, "{no_way:?}");
        }
        for dnssec in [Dnssec::Auto, Dnssec::Off] {
            assert_eq!(asked_with("bare.example", None, dnssec).unwrap().len(), 1);
        }
    }
}
