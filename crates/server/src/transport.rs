//! Mail to other hosts: takes due jobs from the lanes of the queue and has them sent.
//!
//! Each destination has a lane of its own ([`store::Lane`]): one that is slow or gone slows nobody
//! else down. One task looks through the lanes in turn and opens connections where there are jobs and
//! room; a connection then does one job of its lane after another. What is under way is known in
//! memory only: after a crash every job is due again. A message that a peer has answered `250` for is
//! sent again only when the crash fell between that answer and the commit, which is the very next
//! thing that happens (`docs/crash-states.md`); it has the same `Message-ID` then. A store that refuses
//! that commit is asked again until it takes it, and the job is under way all the while.
//!
//! | file | is |
//! | --- | --- |
//! | [`places`] | how many connections there are, and whose turn it is |
//! | [`lane`] | how many connections a destination is good for |
//! | [`names`] | DNS, and how far its answers are proved |
//! | [`way`] | routes, MX records, addresses and TLSA records |
//! | [`demand`] | what a host must show before it gets anything |
//! | [`opening`] | the first host that shows it |
//! | [`policies`] | what domains want of their hosts by MTA-STS, fetched and kept |
//! | [`web`] | how the web servers of other domains are reached |
//! | [`tally`], [`reports`] | what became of TLS, counted, and told to who asks; [`dkim`] signs that |
//! | [`chores`] | what is done beside the mail |
//! | [`peer`] | a connection: socket, TLS, and the machine of [`smtp::client`] |
//! | [`outcome`] | what a peer's answers become, in one commit |
//! | [`retry`] | when a message is tried again, and when no more |

mod chores;
mod demand;
mod dkim;
mod guard;
mod lane;
mod names;
mod opening;
mod outcome;
mod peer;
mod places;
mod policies;
mod reports;
mod retry;
mod tally;
mod way;
mod web;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use smtp::Outgoing;
use smtp::client::{Fate, Fault, Why};
use store::{Job, Timestamp};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::flow::Task;
use crate::flow::dispatch::Relay;
use crate::site::Site;
use crate::submission::{blocking, stopped};
pub(crate) use dkim::{DkimKey, sign};
use guard::{Held, UnderWay};
use lane::Lane;
use names::Names;
pub(crate) use opening::Waits;
use opening::{Opened, Past, Purpose};
pub(crate) use outcome::record;
use outcome::{Asked, Verdicts};
use peer::Peer;
use places::{Kind, Places, Turns};
use policies::Policies;
use tally::Tally;
use way::Ways;
use web::Web;
pub(crate) use web::authorities;

/// Messages that one connection carries before it makes room for another destination's.
pub(crate) const MESSAGES_MAX: usize = 200;
/// Addresses of a destination that a message is offered to in one attempt, at most: RFC 5321 §5.1 has
/// a sender try at least two.
const HOSTS_OFFERED_MAX: usize = 2;
/// Jobs of a lane that are given up in one portion, at most: they are in memory at once.
const GIVEN_UP_AT_ONCE: usize = 64;
/// Lanes that are looked at in one read of the store.
const LANES_AT_ONCE: usize = 64;
/// Between tries of a commit that the store refused, at most: shorter than the wait for connections when
/// the program stops, so that there is one more then.
const COMMIT_AGAIN_MAX: Duration = Duration::from_secs(4);
/// Without a word of new jobs, the lanes are looked at this often, for those put off.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Between two looks, however many jobs come: what comes meanwhile is found by the second.
const LOOK_AT_MOST_EVERY: Duration = Duration::from_millis(10);

/// What is under way to other hosts: told of new jobs from any thread.
pub(crate) struct Transport {
    changed: Notify,
    lanes: Mutex<HashMap<String, Lane>>,
    places: Places,
    policies: Policies,
    tally: Tally,
}

impl Transport {
    /// With what is kept in the folder of the data.
    pub(crate) fn open(data: &std::path::Path, now: Timestamp) -> Arc<Self> {
        Arc::new(Self {
            changed: Notify::new(),
            lanes: Mutex::default(),
            places: Places::new(),
            policies: Policies::open(data, now),
            tally: Tally::open(data),
        })
    }

    /// There may be new jobs in a lane.
    pub(crate) fn wake(&self) {
        self.changed.notify_one();
    }

    /// Whether this destination could not be reached, and is left alone for a while.
    pub(crate) fn is_held(&self, destination: &str, now: Timestamp) -> bool {
        let lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.get(destination).is_some_and(|lane| lane.is_held(now))
    }

    /// This destination, or all, may be tried at once.
    pub(crate) fn release(&self, destination: Option<&str>) {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        match destination {
            Some(destination) => {
                lanes.get_mut(destination).into_iter().for_each(Lane::release);
            }
            None => lanes.values_mut().for_each(Lane::release),
        }
        drop(lanes);
        self.wake();
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

    /// Jobs of a lane that nobody is at, at most `count`.
    fn take(
        site: &Arc<Site>,
        destination: &str,
        count: usize,
    ) -> Result<Vec<(Job, UnderWay)>, store::StoreError> {
        let now = site.clock.now();
        let under_way = site.transport.with_lane(destination, now, |lane| lane.under_way.len());
        // What is under way is in the lane still: room for that, and for both kinds of jobs.
        let due = site.store.lane_due(now, destination, 2 * (under_way + count))?;
        let mut taken = keep(site, destination, due, count)?;
        // Put off by whoever was at it meanwhile.
        taken.retain(|(job, _)| job.due <= now);
        Ok(taken)
    }

    /// Jobs of a lane that were queued until then and nobody is at, at most [`GIVEN_UP_AT_ONCE`], due
    /// or not.
    fn take_queued(
        site: &Arc<Site>,
        destination: &str,
        until: Timestamp,
    ) -> Result<Vec<(Job, UnderWay)>, store::StoreError> {
        let now = site.clock.now();
        let under_way = site.transport.with_lane(destination, now, |lane| lane.under_way.len());
        let queued = site.store.lane_queued(until, destination, under_way + GIVEN_UP_AT_ONCE)?;
        keep(site, destination, queued, GIVEN_UP_AT_ONCE)
    }
}

/// Those of these jobs that nobody is at, at most `count`, as they are now: between the look that found
/// them and this, one may have been done, put off or given up by whoever was at it then.
fn keep(
    site: &Arc<Site>,
    destination: &str,
    found: Vec<Job>,
    count: usize,
) -> Result<Vec<(Job, UnderWay)>, store::StoreError> {
    let mut kept = Vec::new();
    for job in found {
        if kept.len() == count {
            break;
        }
        if let Some(under_way) = UnderWay::begin(site, destination, job.id)
            && let Some(job) = site.store.job(job.id)?
        {
            kept.push((job, under_way));
        }
    }
    Ok(kept)
}

/// What [`keep`] keeps of these jobs.
#[cfg(test)]
pub(crate) fn kept(site: &Arc<Site>, destination: &str, found: Vec<Job>) -> Vec<Job> {
    let count = found.len();
    keep(site, destination, found, count).unwrap().into_iter().map(|(job, _)| job).collect()
}

/// Does `work` while nobody sends this job; `false`, and nothing is done, when somebody is at it.
pub(crate) fn unless_under_way(
    site: &Arc<Site>,
    destination: &str,
    job: store::JobId,
    work: &mut dyn FnMut(),
) -> bool {
    match UnderWay::begin(site, destination, job) {
        Some(_under_way) => {
            work();
            true
        }
        None => false,
    }
}

/// Hands mail over to other hosts until the program stops.
pub(crate) async fn run(site: Arc<Site>, mut stop: watch::Receiver<bool>) {
    let outside = outside(&site, Waits::default());
    let (chores, ending) = (outside.clone(), stop.clone());
    let here = site.clone();
    let chores = tokio::spawn(async move { chores::run(&here, &chores, ending).await });
    let mut connections = JoinSet::new();
    let mut turns = Turns::default();
    loop {
        let looked = look(&site, &outside, &mut turns, &mut connections, &stop).await;
        match looked {
            Ok(Looked::More) => {
                if *stop.borrow() {
                    break;
                }
                continue;
            }
            // The next look begins where this one ended: all destinations have their turn.
            Ok(Looked::Full | Looked::All) => {}
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
    if chores.await.is_err() {
        tracing::error!(target: "transport", "what is done beside the mail had panicked");
    }
}

/// Has what is due sent, once, and waits until it is.
#[cfg(test)]
pub(crate) async fn once(site: &Arc<Site>, waits: Waits) {
    let outside = outside(site, waits);
    let (_running, stop) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut turns = Turns::default();
    while let Looked::More =
        look(site, &outside, &mut turns, &mut connections, &stop).await.unwrap()
    {}
    while let Some(ended) = connections.join_next().await {
        ended.unwrap();
    }
}

/// What is beyond this provider, as it is reached.
struct Outside {
    ways: Ways,
    web: Web,
    waits: Waits,
}

/// As the configuration has it.
fn outside(site: &Site, waits: Waits) -> Arc<Outside> {
    let config = site.config.load();
    let names = Arc::new(Names::new(&config.dns, site.resolver()));
    let ways = Ways::new(names.clone(), config.transport.port);
    Arc::new(Outside { ways, web: Web::new(names, &config), waits })
}

/// How far a look at the lanes came.
enum Looked {
    /// To some lane; there are more.
    More,
    /// To some lane: more connections than these there may not be.
    Full,
    /// To the last.
    All,
}

/// What kind of destination this is.
fn kind_of(site: &Site, destination: &str) -> Kind {
    let is_certified = mail::Domain::parse(destination)
        .is_ok_and(|domain| site.providers.load().kind(&domain) == pec::RecipientKind::Certified);
    if is_certified { Kind::Certified } else { Kind::Ordinary }
}

/// Looks at the next lanes, and opens connections for those that have jobs and room.
async fn look(
    site: &Arc<Site>,
    outside: &Arc<Outside>,
    turns: &mut Turns,
    connections: &mut JoinSet<()>,
    stop: &watch::Receiver<bool>,
) -> anyhow::Result<Looked> {
    let (here, from) = (site.clone(), turns.after.clone());
    let lanes = blocking(move || here.store.lanes(from.as_deref(), LANES_AT_ONCE)).await??;
    let more = lanes.len() == LANES_AT_ONCE;
    for destination in lanes {
        let now = site.clock.now();
        let kind = kind_of(site, &destination);
        let room = site.transport.with_lane(&destination, now, |lane| lane.room(now));
        if room == 0 || turns.is_over_for(kind, &destination) {
            turns.after = Some(destination);
            continue;
        }
        let free = site.transport.places.free(kind);
        if free == 0 {
            if site.transport.places.free(Kind::Certified) == 0 {
                // Connections that end wake us.
                return Ok(Looked::Full);
            }
            turns.no_more_ordinary();
            turns.after = Some(destination);
            continue;
        }
        turns.had(kind, &destination);
        let count = (room as usize).min(free);
        let (here, name) = (site.clone(), destination.clone());
        let jobs = blocking(move || Transport::take(&here, &name, count)).await??;
        for (job, under_way) in jobs {
            let Some(place) = site.transport.places.take(kind) else { break };
            let connection = Connection {
                site: site.clone(),
                outside: outside.clone(),
                stop: stop.clone(),
                held: Held::new(site, &destination, place),
                destination: destination.clone(),
            };
            connections.spawn(connection.serve(job, under_way));
        }
        turns.after = Some(destination);
    }
    if more {
        return Ok(Looked::More);
    }
    turns.is_at_end();
    Ok(Looked::All)
}

/// What one connection needs.
struct Connection {
    site: Arc<Site>,
    outside: Arc<Outside>,
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
        let mut past = Past::new();
        let purpose = Purpose::of(&first)?;
        let Opened { mut peer, more } = match self.open(&mut past, purpose).await {
            Ok(opened) => opened,
            Err(no_way) => {
                self.fails();
                tracing::info!(target: "transport", destination = %self.destination, why = %no_way.why, "no way to a host");
                // A provider of the index has hosts: an answer that it has none is a mistake of
                // somebody's, and its mail waits for its whole time (PEC-BT-14).
                let is_certified = kind_of(&self.site, &self.destination) == Kind::Certified;
                let for_good = no_way.is_permanent && !is_certified;
                let fate = if for_good { Fate::Failed } else { Fate::Deferred };
                let told = |_: &mail::Address| (Some(fate), no_way.why.clone());
                self.conclude(&first, told, Asked::default()).await?;
                drop(under_way);
                return self.give_up(fate, &no_way.why).await;
            }
        };
        let mut next = Some((first, under_way));
        let mut carried = 0;
        while let Some((job, under_way)) = next.take() {
            let put_off = self.hand_over(&mut peer, job, more).await?;
            if let Some(put_off) = put_off {
                peer.quit().await;
                return self.elsewhere(put_off, past).await;
            }
            drop(under_way);
            carried += 1;
            // What a host need not show for a report it must for all else.
            let goes_on =
                carried < MESSAGES_MAX && !*self.stop.borrow() && purpose == Purpose::Mail;
            if !goes_on || !peer.takes_another() {
                break;
            }
            let (here, name) = (self.site.clone(), self.destination.clone());
            next = blocking(move || Transport::take(&here, &name, 1)).await??.pop();
        }
        let broke_off = peer.is_over();
        peer.quit().await;
        match broke_off {
            true => self.give_up(Fate::Deferred, "the host breaks off").await,
            false => Ok(()),
        }
    }

    /// What one host put off is offered to the next ones, which are there for this (RFC 5321 §5.1).
    async fn elsewhere(&self, mut put_off: PutOff, mut past: Past) -> anyhow::Result<()> {
        let purpose = Purpose::of(&put_off.job)?;
        for offered in 2..=HOSTS_OFFERED_MAX {
            let opened = self.open(&mut past, purpose).await;
            let Ok(Opened { mut peer, more }) = opened else { break };
            let more = more && offered < HOSTS_OFFERED_MAX;
            let again = self.hand_over(&mut peer, put_off.job, more).await?;
            peer.quit().await;
            match again {
                Some(again) => put_off = again,
                None => return Ok(()),
            }
        }
        let PutOff { job, fates, asked, broke_off } = put_off;
        self.write_down(&job, told(&fates), asked).await;
        if broke_off {
            self.fails();
            self.give_up(Fate::Deferred, "the host breaks off").await?;
        }
        Ok(())
    }

    /// After a failure of a destination as a whole: gives up what waits in its lane in vain, whether
    /// it is its turn or not. When the answer is for good, that is all of it; otherwise what has
    /// waited for its whole time (PEC-BT-14), which at one job for each failure would take a long
    /// lane days.
    async fn give_up(&self, fate: Fate, why: &str) -> anyhow::Result<()> {
        while !*self.stop.borrow() {
            let until = match fate {
                Fate::Failed => Timestamp::MAX,
                Fate::Deferred | Fate::Delivered => {
                    let idle_max = self.site.config.load().deadlines.queue;
                    self.site.clock.now().checked_sub(idle_max).unwrap_or(Timestamp::MIN)
                }
            };
            let (here, name) = (self.site.clone(), self.destination.clone());
            let jobs = blocking(move || Transport::take_queued(&here, &name, until)).await??;
            if jobs.is_empty() {
                break;
            }
            for (job, under_way) in jobs {
                let told = |_: &mail::Address| (Some(fate), why.to_owned());
                self.conclude(&job, told, Asked::default()).await?;
                drop(under_way);
            }
        }
        Ok(())
    }

    fn fails(&self) {
        let now = self.site.clock.now();
        self.site.transport.with_lane(&self.destination, now, |lane| lane.fails(now));
        metrics::counter!("ceralacca_relay_hosts_failed_total").increment(1);
    }

    /// Hands one message over, and writes down what became of it before anything else happens. With
    /// `more` hosts to try, what this one puts off is given back for them instead; but not what it may
    /// have taken (RFC 5321 §4.5.3.2.6): that would be there twice.
    async fn hand_over(
        &self,
        peer: &mut Peer,
        job: Job,
        more: bool,
    ) -> anyhow::Result<Option<PutOff>> {
        let relay = read(&job)?;
        if relay.wishes.require_tls && !peer.is_authentic() {
            return self.keep_from(peer, job, &relay, more).await;
        }
        let blob = job.blob.context("the job has no octets")?;
        let site = self.site.clone();
        let begun = blocking(move || {
            let octets = site.store.octets(blob)?;
            Ok((octets, site.store.read(blob, 0, octets.min(peer::PIECE_OCTETS))?))
        });
        let (octets, first) = match begun.await? {
            Ok(begun) => begun,
            // Cancelled, or done by somebody else: with the job went its hold on the octets.
            Err(store::StoreError::NoSuchMessage) => return Ok(None),
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
            // What we certify, sign and forward is 7-bit, and nothing else is carried.
            eight_bit: false,
            require_tls: relay.wishes.require_tls,
            parameters: relay.wishes.mail.clone(),
        };
        let verdicts = peer.send(&self.site, outgoing, blob, first).await;
        // What the peer has now is sent again if we end before the commit: `docs/crash-states.md`.
        let answered = std::time::Instant::now();
        let committed = || {
            metrics::histogram!("ceralacca_relay_commit_seconds")
                .record(answered.elapsed().as_secs_f64());
        };
        let (mut works, mut doubt, mut may_have_it) = (false, false, false);
        let mut fates = Fates::new();
        for (address, verdict) in addressed.into_iter().zip(verdicts) {
            works |= matches!(verdict.why, Why::Replied(..)) && verdict.fate != Fate::Deferred;
            doubt |= verdict.why == Why::Fault(Fault::InDoubt);
            may_have_it |= match &verdict.why {
                Why::Replied(..) | Why::Fault(Fault::Lost | Fault::TimedOut(_)) => false,
                Why::Fault(_) => verdict.fate == Fate::Deferred,
            };
            fates.insert(address, (verdict.fate, verdict.why.to_string()));
        }
        let asked = Asked { notes: vec![peer.described()], tells: peer.tells() };
        let (mut put_off, others): (Fates, Fates) =
            fates.into_iter().partition(|(_, (fate, _))| *fate == Fate::Deferred);
        if more && !may_have_it && !put_off.is_empty() {
            let job = if others.is_empty() {
                Some(job)
            } else {
                // What the peer has, or never will, is written down first.
                self.write_down(&job, told(&others), asked.clone()).await;
                committed();
                let (site, id) = (self.site.clone(), job.id);
                blocking(move || site.store.job(id)).await??
            };
            peer.settle().await;
            let broke_off = peer.is_over();
            return Ok(job.map(|job| PutOff { job, fates: put_off, asked, broke_off }));
        }
        put_off.extend(others);
        self.write_down(&job, told(&put_off), asked).await;
        committed();
        // Only now is it known whether the connection is still of use.
        peer.settle().await;
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
        Ok(None)
    }

    /// The same of what a host has answered, which is true whatever the store says: nobody else may
    /// have the job before it is committed, or the host would have the message twice. It is tried until
    /// it is done; only the end of the program leaves it undone.
    async fn write_down(
        &self,
        job: &Job,
        told: impl Fn(&mail::Address) -> (Option<Fate>, String),
        asked: Asked,
    ) {
        let mut pause = self.outside.waits.commit_again;
        let mut refused = false;
        while let Err(error) = self.conclude(job, &told, asked.clone()).await {
            if !refused {
                tracing::error!(target: "transport", job = job.id.0, destination = %self.destination, error = %format!("{error:#}"), "what a host answered cannot be written down yet");
            }
            refused = true;
            tokio::time::sleep(pause).await;
            pause = (2 * pause).min(COMMIT_AGAIN_MAX);
            let (site, id) = (self.site.clone(), job.id);
            // A commit whose end the store did not know may have been made.
            if let Ok(Ok(Some(kept))) = blocking(move || site.store.job(id)).await
                && kept.attempts != job.attempts
            {
                break;
            }
        }
        if refused {
            tracing::info!(target: "transport", job = job.id.0, destination = %self.destination, "what a host answered is written down");
        }
    }

    /// The commit of what became of a job, and nothing before it.
    async fn conclude(
        &self,
        job: &Job,
        told: impl Fn(&mail::Address) -> (Option<Fate>, String),
        asked: Asked,
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
        blocking(move || outcome::conclude(&site, &job, &relay, &verdicts, &asked)).await?
    }
}

/// What a peer said of each recipient.
type Fates = HashMap<mail::Address, (Fate, String)>;

/// A job whose recipients one host put off.
struct PutOff {
    job: Job,
    fates: Fates,
    asked: Asked,
    /// The connection broke off.
    broke_off: bool,
}

/// What becomes of a recipient: nothing yet of one that nothing was said of.
fn told(fates: &Fates) -> impl Fn(&mail::Address) -> (Option<Fate>, String) {
    |address| match fates.get(address) {
        Some((fate, why)) => (Some(*fate), why.clone()),
        None => (None, "more recipients than one transaction takes".to_owned()),
    }
}

/// What a job of a lane is.
fn read(job: &Job) -> anyhow::Result<Relay> {
    match serde_json::from_slice(&job.payload).context("the job cannot be read")? {
        Task::Relay(relay) => Ok(relay),
        _ => anyhow::bail!("a job of the pipeline is in a lane"),
    }
}
