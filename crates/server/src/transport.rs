//! Mail to other hosts: takes due jobs from the lanes of the queue and has them sent.
//!
//! Each destination has a lane of its own ([`store::Lane`]): one that is slow or gone slows nobody
//! else down. One task looks through the lanes in turn and opens connections where there are jobs and
//! room; a connection then does one job of its lane after another. What is under way is known in
//! memory only: after a crash every job is due again. A message that a peer has answered `250` for is
//! sent again only when the crash fell between that answer and the commit, which is the very next
//! thing that happens (`docs/crash-states.md`); it has the same `Message-ID` then.
//!
//! | file | is |
//! | --- | --- |
//! | [`lane`] | how many connections a destination is good for |
//! | [`way`] | routes, MX records and addresses |
//! | [`peer`] | a connection: socket, TLS, and the machine of [`smtp::client`] |
//! | [`outcome`] | what a peer's answers become, in one commit |
//! | [`retry`] | when a message is tried again, and when no more |

mod lane;
mod outcome;
mod peer;
mod retry;
mod way;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use smtp::Outgoing;
use smtp::client::{Fate, Fault, TlsUse, Why};
use store::{Job, JobId, Timestamp};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use crate::flow::Task;
use crate::flow::dispatch::Relay;
use crate::site::Site;
use crate::submission::{blocking, stopped};
use lane::Lane;
use outcome::Verdicts;
use peer::{OpenFailure, Peer};
use way::{Host, NoWay, Ways};

/// Connections to other hosts at the same time, all destinations together: each holds a socket, a TLS
/// session and a piece of a message.
const CONNECTIONS_MAX: usize = 128;
/// Messages that one connection carries before it makes room for another destination's.
const MESSAGES_MAX: usize = 200;
/// Lanes that are looked at in one read of the store.
const LANES_AT_ONCE: usize = 64;
/// Without a word of new jobs, the lanes are looked at this often, for those put off.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Between two looks, however many jobs come: what comes meanwhile is found by the second.
const LOOK_AT_MOST_EVERY: Duration = Duration::from_millis(10);

/// What is under way to other hosts: told of new jobs from any thread.
pub(crate) struct Transport {
    changed: Notify,
    lanes: Mutex<HashMap<String, Lane>>,
    connections: Arc<Semaphore>,
}

impl Transport {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            changed: Notify::new(),
            lanes: Mutex::default(),
            connections: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        })
    }

    /// There may be new jobs in a lane.
    pub(crate) fn wake(&self) {
        self.changed.notify_one();
    }

    /// As after a restart.
    #[cfg(test)]
    pub(crate) fn forget(&self) {
        self.lanes.lock().unwrap().clear();
    }

    fn with_lane<T>(
        &self,
        destination: &str,
        now: Timestamp,
        work: impl FnOnce(&mut Lane) -> T,
    ) -> T {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        if !lanes.contains_key(destination) {
            lane::make_room(&mut lanes, now);
        }
        work(lanes.entry(destination.to_owned()).or_default())
    }

    /// Jobs of a lane that nobody is at, at most `count`; they are under way from now on.
    fn take(
        &self,
        site: &Site,
        destination: &str,
        count: usize,
    ) -> Result<Vec<Job>, store::StoreError> {
        let now = site.clock.now();
        let under_way = self.with_lane(destination, now, |lane| lane.under_way.len());
        // What is under way is in the lane still: room for that, and for both kinds of jobs.
        let due = site.store.lane_due(now, destination, 2 * (under_way + count))?;
        Ok(self.with_lane(destination, now, |lane| {
            let free = due.into_iter().filter(|job| lane.under_way.insert(job.id));
            free.take(count).collect()
        }))
    }
}

/// Hands mail over to other hosts until the program stops.
pub(crate) async fn run(site: Arc<Site>, mut stop: watch::Receiver<bool>) {
    let ways = Arc::new(Ways::new(site.resolver()));
    let mut connections = JoinSet::new();
    let mut after: Option<String> = None;
    loop {
        let looked = look(&site, &ways, after.take(), &mut connections, &stop).await;
        match looked {
            Ok(Looked::More(last)) => {
                after = Some(last);
                if *stop.borrow() {
                    break;
                }
                continue;
            }
            // The next look begins where this one ended: all destinations have their turn.
            Ok(Looked::Full(last)) => after = last,
            Ok(Looked::All) => {}
            Err(error) => {
                tracing::error!(target: "transport", error = %format!("{error:#}"), "the lanes cannot be looked at");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = async {
                tokio::time::sleep(LOOK_AT_MOST_EVERY).await;
                site.transport.changed.notified().await;
            } => {}
            () = stopped(&mut stop) => break,
        }
        while connections.try_join_next().is_some() {}
    }
    while connections.join_next().await.is_some() {}
}

/// Has what is due sent, once, and waits until it is.
#[cfg(test)]
pub(crate) async fn once(site: &Arc<Site>) {
    let ways = Arc::new(Ways::new(site.resolver()));
    let (_running, stop) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut after = None;
    while let Looked::More(last) = look(site, &ways, after, &mut connections, &stop).await.unwrap()
    {
        after = Some(last);
    }
    while let Some(ended) = connections.join_next().await {
        ended.unwrap();
    }
}

/// How far a look at the lanes came.
enum Looked {
    /// To this one; there are more.
    More(String),
    /// To this one: more connections than these there may not be.
    Full(Option<String>),
    /// To the last.
    All,
}

/// Looks at the next lanes, and opens connections for those that have jobs and room.
async fn look(
    site: &Arc<Site>,
    ways: &Arc<Ways>,
    after: Option<String>,
    connections: &mut JoinSet<()>,
    stop: &watch::Receiver<bool>,
) -> anyhow::Result<Looked> {
    let (here, from) = (site.clone(), after.clone());
    let lanes = blocking(move || here.store.lanes(from.as_deref(), LANES_AT_ONCE)).await??;
    let more = lanes.len() == LANES_AT_ONCE;
    let mut last = after;
    for destination in lanes {
        let now = site.clock.now();
        let room = site.transport.with_lane(&destination, now, |lane| lane.room(now));
        if room == 0 {
            last = Some(destination);
            continue;
        }
        let free = site.transport.connections.available_permits();
        if free == 0 {
            // Connections that end wake us.
            return Ok(Looked::Full(last));
        }
        let count = (room as usize).min(free);
        let (here, name) = (site.clone(), destination.clone());
        let jobs = blocking(move || here.transport.take(&here, &name, count)).await??;
        for job in jobs {
            let under_way = UnderWay::new(site, &destination, job.id);
            let Ok(permit) = site.transport.connections.clone().try_acquire_owned() else { break };
            let connection = Connection {
                site: site.clone(),
                ways: ways.clone(),
                stop: stop.clone(),
                held: Held::new(site, &destination, permit),
                destination: destination.clone(),
            };
            connections.spawn(connection.serve(job, under_way));
        }
        last = Some(destination);
    }
    Ok(match last {
        Some(last) if more => Looked::More(last),
        _ => Looked::All,
    })
}

/// A job is under way as long as this lives.
struct UnderWay {
    site: Arc<Site>,
    destination: String,
    job: JobId,
}

impl UnderWay {
    fn new(site: &Arc<Site>, destination: &str, job: JobId) -> Self {
        Self { site: site.clone(), destination: destination.to_owned(), job }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let now = self.site.clock.now();
        self.site.transport.with_lane(&self.destination, now, |lane| {
            lane.under_way.remove(&self.job);
        });
    }
}

/// A connection counts as long as this lives.
struct Held {
    site: Arc<Site>,
    destination: String,
    _permit: OwnedSemaphorePermit,
}

impl Held {
    fn new(site: &Arc<Site>, destination: &str, permit: OwnedSemaphorePermit) -> Self {
        site.transport.with_lane(destination, site.clock.now(), Lane::enter);
        Self { site: site.clone(), destination: destination.to_owned(), _permit: permit }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let transport = &self.site.transport;
        transport.with_lane(&self.destination, self.site.clock.now(), Lane::leave);
        transport.wake();
    }
}

/// What one connection needs.
struct Connection {
    site: Arc<Site>,
    ways: Arc<Ways>,
    stop: watch::Receiver<bool>,
    held: Held,
    destination: String,
}

impl Connection {
    /// Does a job, and those of the same lane that follow.
    async fn serve(self, first: Job, under_way: UnderWay) {
        if let Err(error) = self.carry(first, under_way).await {
            // A fault of ours: its jobs stay as they are, and are looked for again after the hold.
            self.fails();
            tracing::error!(target: "transport", destination = %self.destination, error = %format!("{error:#}"), "mail cannot be handed over");
        }
        drop(self.held);
    }

    async fn carry(&self, first: Job, under_way: UnderWay) -> anyhow::Result<()> {
        let opened = self.open().await;
        let mut peer = match opened {
            Ok(peer) => peer,
            Err(no_way) => {
                self.fails();
                tracing::info!(target: "transport", destination = %self.destination, why = %no_way.why, "no way to a host");
                let fate = if no_way.is_permanent { Fate::Failed } else { Fate::Deferred };
                let told = |_: &mail::Address| (Some(fate), no_way.why.clone());
                self.conclude(&first, told, Vec::new()).await?;
                drop(under_way);
                return Ok(());
            }
        };
        let mut next = Some((first, under_way));
        let mut carried = 0;
        while let Some((job, under_way)) = next.take() {
            self.hand_over(&mut peer, job).await?;
            drop(under_way);
            peer.settle().await;
            carried += 1;
            let goes_on = carried < MESSAGES_MAX && !*self.stop.borrow();
            if !goes_on || !peer.takes_another() {
                break;
            }
            let (here, name) = (self.site.clone(), self.destination.clone());
            let mut jobs = blocking(move || here.transport.take(&here, &name, 1)).await??;
            next = jobs.pop().map(|job| {
                let under_way = UnderWay::new(&self.site, &self.destination, job.id);
                (job, under_way)
            });
        }
        peer.quit().await;
        Ok(())
    }

    fn fails(&self) {
        let now = self.site.clock.now();
        self.site.transport.with_lane(&self.destination, now, |lane| lane.fails(now));
        metrics::counter!("ceralacca_relay_hosts_failed_total").increment(1);
    }

    /// A connection to the first host that answers as it should.
    async fn open(&self) -> Result<Peer, NoWay> {
        let config = self.site.config.load_full();
        let domain = mail::Domain::parse(&self.destination)
            .map_err(|error| NoWay { is_permanent: true, why: error.to_string() })?;
        let route = config.transport.routes.get(&domain);
        let hosts = self.ways.to(&self.destination, route).await?;
        // Between providers nothing travels in clear: PEC-BT-13.
        let certified = pec::RecipientKind::Certified;
        let tls = if self.site.providers.load().kind(&domain) == certified {
            TlsUse::Required
        } else {
            TlsUse::IfOffered
        };
        let mut last = None;
        for Host { name, addresses } in &hosts {
            for address in addresses {
                match self.open_at(name, *address, tls).await {
                    Ok(peer) => return Ok(peer),
                    Err(failure) => last = Some(format!("{name} [{address}]: {}", failure.why)),
                }
            }
        }
        let why = last.unwrap_or_else(|| format!("{} has no host", self.destination));
        Err(NoWay { is_permanent: false, why })
    }

    /// Where TLS is no must, a host whose TLS does not work is tried in clear (RFC 7435 §3).
    async fn open_at(
        &self,
        name: &str,
        address: std::net::SocketAddr,
        tls: TlsUse,
    ) -> Result<Peer, OpenFailure> {
        match Peer::open(&self.site, name, address, tls).await {
            // Unless the operator wants certificates that hold: then clear text is no way out.
            Err(failure)
                if failure.in_tls
                    && tls == TlsUse::IfOffered
                    && !self.site.config.load().transport.verify_required =>
            {
                Peer::open(&self.site, name, address, TlsUse::Never).await
            }
            opened => opened,
        }
    }

    /// Hands one message over, and writes down what became of it before anything else happens.
    async fn hand_over(&self, peer: &mut Peer, job: Job) -> anyhow::Result<()> {
        let relay = read(&job)?;
        let blob = job.blob.context("the job has no octets")?;
        let site = self.site.clone();
        let octets = blocking(move || site.store.octets(blob)).await?;
        let octets = match octets {
            Ok(octets) => octets,
            // Cancelled, or done by somebody else: with the job went its hold on the octets.
            Err(store::StoreError::NoSuchMessage) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let tried = relay.recipients.iter().take(peer.recipients_max());
        let addressed: Vec<mail::Address> =
            tried.map(|recipient| recipient.address.clone()).collect();
        let wished = |to: &mail::Address| relay.wishes.recipients.get(&to.to_string()).cloned();
        let outgoing = Outgoing {
            reverse_path: relay.reverse_path.clone(),
            recipients: addressed
                .iter()
                .map(|to| (to.clone(), wished(to).unwrap_or_default()))
                .collect(),
            octets,
            // What we certify and sign is 7-bit, and nothing else is carried.
            eight_bit: false,
            require_tls: relay.wishes.require_tls,
            parameters: relay.wishes.mail.clone(),
        };
        let verdicts = peer.send(&self.site, outgoing, blob).await;
        let (mut works, mut doubt) = (false, false);
        let mut fates: HashMap<mail::Address, (Fate, String)> = HashMap::new();
        for (address, verdict) in addressed.into_iter().zip(verdicts) {
            works |= matches!(verdict.why, Why::Replied(..)) && verdict.fate != Fate::Deferred;
            doubt |= verdict.why == Why::Fault(Fault::InDoubt);
            fates.insert(address, (verdict.fate, verdict.why.to_string()));
        }
        let notes = vec![peer.described()];
        let told = |address: &mail::Address| match fates.get(address) {
            Some((fate, why)) => (Some(*fate), why.clone()),
            None => (None, "more recipients than one transaction takes".to_owned()),
        };
        self.conclude(&job, told, notes).await?;
        if doubt {
            metrics::counter!("ceralacca_relay_in_doubt_total").increment(1);
        }
        let now = self.site.clock.now();
        self.site.transport.with_lane(&self.destination, now, |lane| {
            if works {
                lane.works();
            } else if peer.is_over() {
                lane.fails(now);
            }
        });
        Ok(())
    }

    /// The commit of what became of a job, and nothing before it.
    async fn conclude(
        &self,
        job: &Job,
        told: impl Fn(&mail::Address) -> (Option<Fate>, String),
        notes: Vec<String>,
    ) -> anyhow::Result<()> {
        let relay = read(job)?;
        let verdicts: Verdicts = relay
            .recipients
            .iter()
            .map(|recipient| {
                let (fate, why) = told(&recipient.address);
                (recipient.address.clone(), fate, why)
            })
            .collect();
        let (site, job) = (self.site.clone(), job.clone());
        blocking(move || outcome::conclude(&site, &job, &relay, &verdicts, &notes)).await?
    }
}

/// What a job of a lane is.
fn read(job: &Job) -> anyhow::Result<Relay> {
    match serde_json::from_slice(&job.payload).context("the job cannot be read")? {
        Task::Relay(relay) => Ok(relay),
        _ => anyhow::bail!("a job of the pipeline is in a lane"),
    }
}
