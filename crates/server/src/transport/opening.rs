//! Opens a connection to the first host of a domain that shows what it must, and counts how TLS went.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

use smtp::client::{Fate, TlsUse};
use store::Job;

use super::demand::{self, Demand};
use super::outcome::Asked;
use super::peer::{CONNECT_WAIT, HANDSHAKE_WAIT, LAST_WORDS_WAIT, OPEN_WAIT, OpenFailure, Peer};
use super::policies::Wants;
use super::tally::{Held, Place, Problem, period_of};
use super::way::{Host, NoWay};
use super::{Connection, PutOff};
use crate::flow::dispatch::{Content, Relay, RelayRecipient};

/// How long it may take to come to where messages can be sent, all hosts of a destination and all their
/// addresses together: after that the rest is for the next attempt.
const WAY_WAIT: Duration = Duration::from_secs(15 * 60);

/// How long a commit that the store refused waits before it is tried again: at first, and twice as long
/// each time.
const COMMIT_AGAIN_FIRST: Duration = Duration::from_secs(1);

/// How long another host is waited for, and the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Waits {
    /// For a connection.
    pub(crate) connect: Duration,
    /// For a TLS handshake.
    pub(crate) handshake: Duration,
    /// From a connection to where messages can be sent.
    pub(crate) host: Duration,
    /// All hosts of a destination.
    pub(crate) way: Duration,
    /// For an answer, at most: less where RFC 5321 §4.5.3.2 has less.
    pub(crate) answer: Duration,
    /// Until a block of content is taken.
    pub(crate) block: Duration,
    /// After a block was not taken: for what the host has to say of that.
    pub(crate) last_words: Duration,
    /// Until a commit that the store refused is tried again, first.
    pub(crate) commit_again: Duration,
}

impl Default for Waits {
    fn default() -> Self {
        Self {
            connect: CONNECT_WAIT,
            handshake: HANDSHAKE_WAIT,
            host: OPEN_WAIT,
            way: WAY_WAIT,
            answer: Duration::MAX,
            block: smtp::client::wait::BLOCK,
            last_words: LAST_WORDS_WAIT,
            commit_again: COMMIT_AGAIN_FIRST,
        }
    }
}

/// Addresses that were tried in this attempt: no more than a few of a few hosts.
pub(super) type Past = HashSet<SocketAddr>;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Mail.
    Mail,
    /// One report of how TLS went. It is sent whatever TLS does, and how it went with that is in no
    /// report (RFC 8460 §3); only between providers, or where the operator wants certificates that
    /// hold, it is as all else.
    Report,
}

impl Purpose {
    /// Of a connection whose first job is this one.
    pub(super) fn of(job: &Job) -> anyhow::Result<Self> {
        Ok(match super::read(job)?.content {
            Content::TlsReport => Self::Report,
            _ => Self::Mail,
        })
    }
}

/// A connection that messages can be sent on, and whether there are other addresses to try.
pub(super) struct Opened {
    pub(super) peer: Peer,
    pub(super) more: bool,
}

impl Connection {
    /// A connection to the first address that answers as it should, of those that are not `past`;
    /// there go those that were tried.
    pub(super) async fn open(&self, past: &mut Past, purpose: Purpose) -> Result<Opened, NoWay> {
        let config = self.site.config.load_full();
        let destination = self.destination.as_str();
        let domain =
            mail::Domain::parse(destination).map_err(|error| NoWay::never(error.to_string()))?;
        let route = config.transport.routes.get(&domain);
        // Between providers nothing travels in clear: PEC-BT-13. What else a host must show is for
        // ordinary domains to say: for providers the signature on each message counts.
        let certified = self.site.providers.load().kind(&domain) == pec::RecipientKind::Certified;
        let says_itself = !certified && route.is_none() && purpose == Purpose::Mail;
        let with_records = config.transport.dane && says_itself;
        let networks = config.transport.networks();
        let hosts = self.outside.ways.to(destination, route, networks, with_records).await?;
        let wants = if says_itself && config.transport.mta_sts {
            let now = self.site.clock.now();
            let policies = &self.site.transport.policies;
            policies.of(&self.outside.web, &config, destination, now).await
        } else {
            Wants::default()
        };
        let counts = says_itself && config.tls_reports.is_some();
        let policy = wants.policy.as_ref().map(|known| &known.policy);
        if let Some(problem) = wants.failed.as_ref().filter(|_| counts) {
            let held = Held { kind: "sts".to_owned(), ..Held::nothing() };
            self.count(&held, &Place::default(), Err(problem));
        }
        let mut last = None;
        let until = tokio::time::Instant::now() + self.outside.waits.way;
        for host in &hosts {
            let held = demand::held(host, policy);
            let here = |address: Option<SocketAddr>| Place {
                host: Some(host.name.clone()),
                address: address.map(|address| address.ip()),
            };
            let (web, required) = (self.outside.web.roots(), config.transport.verify_required);
            let demand = match certified {
                true => Ok(Demand::of_provider(web, required)),
                false => Demand::of(destination, host, policy, web, required),
            };
            let demand = match demand {
                Ok(demand) => demand,
                Err(problem) => {
                    if counts {
                        self.count(&held, &here(None), Err(&problem));
                    }
                    last = Some(format!("{}: {}", host.name, problem.why));
                    continue;
                }
            };
            let Host { name, addresses, .. } = host;
            for address in addresses {
                if !past.insert(*address) {
                    continue;
                }
                let opening = self.open_at(name, *address, &demand);
                let Ok((opened, problem)) = tokio::time::timeout_at(until, opening).await else {
                    let why = format!("{name} [{address}]: the time for finding a host is over");
                    return Err(NoWay::later(why));
                };
                let problem = problem.or_else(|| demand::doubt(destination, host, policy, &demand));
                if counts && (opened.is_ok() || problem.is_some()) {
                    let became = problem.as_ref().map_or(Ok(()), Err);
                    self.count(&held, &here(Some(*address)), became);
                }
                match opened {
                    Ok(mut peer) => {
                        peer.is_named(demand::is_named(host, policy));
                        let mut all = hosts.iter().flat_map(|host| &host.addresses);
                        let more = all.any(|address| !past.contains(address));
                        return Ok(Opened { peer, more });
                    }
                    Err(failure) => last = Some(format!("{name} [{address}]: {}", failure.why)),
                }
            }
        }
        let why = last.unwrap_or_else(|| format!("{destination} has no host"));
        Err(NoWay::later(why))
    }

    /// Where TLS is no must, a host whose TLS does not work is tried in clear (RFC 7435 §3). With what
    /// was wrong with TLS, if anything.
    async fn open_at(
        &self,
        name: &str,
        address: SocketAddr,
        demand: &Demand,
    ) -> (Result<Peer, OpenFailure>, Option<Problem>) {
        let waits = self.outside.waits;
        match Peer::open(&self.site, name, address, demand, demand.tls(), waits).await {
            Ok(peer) => {
                let problem = peer.problem();
                (Ok(peer), problem)
            }
            Err(failure) => {
                let problem = failure.in_tls.clone();
                if problem.is_none() || demand.tls() != TlsUse::IfOffered {
                    return (Err(failure), problem);
                }
                let clear =
                    Peer::open(&self.site, name, address, demand, TlsUse::Never, waits).await;
                (clear, problem)
            }
        }
    }

    /// A message that must not be seen on its way, at a host that may be anybody's: with no other host
    /// to try, its sender has it back (RFC 8689 §4.2.1).
    pub(super) async fn keep_from(
        &self,
        peer: &Peer,
        job: Job,
        relay: &Relay,
        more: bool,
    ) -> anyhow::Result<Option<PutOff>> {
        let why = "5.7.30 the host does not prove to be the domain's, as REQUIRETLS asks for";
        let asked = Asked { notes: vec![format!("not {}", peer.described())], tells: false };
        if more {
            let deferred = |to: &RelayRecipient| (to.address.clone(), (Fate::Deferred, why.into()));
            let fates = relay.recipients.iter().map(deferred).collect();
            return Ok(Some(PutOff { job, fates, asked, broke_off: false }));
        }
        self.conclude(&job, |_| (Some(Fate::Failed), why.to_owned()), asked).await?;
        Ok(None)
    }

    fn count(&self, held: &Held, place: &Place, became: Result<(), &Problem>) {
        let config = self.site.config.load();
        let Some(reports) = &config.tls_reports else { return };
        let period = period_of(self.site.clock.now(), reports.every_secs());
        self.site.transport.tally.count(period, &self.destination, held, place, became);
    }
}
