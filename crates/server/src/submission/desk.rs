//! Where a session's questions are answered: who signs in, who may send what to whom and how much, and
//! where the content goes.

use std::sync::Arc;

use mail::{Address, ForwardPath, ReversePath};
use smtp::{
    Answer, Dsn, MailOptions, Question, RecipientDsn, Reply, SaslAnswer, SaslStep, Status, reply,
};
use store::{Account, AccountId, Spool, State, StoreError};

use super::blocking;
use super::recipients::Recipients;
use crate::abuse::{self, Deed, Frozen, Verdict};
use crate::authenticate;
use crate::drive::Connection;
use crate::flow::wishes::Wishes;
use crate::flow::{access, reception};
use crate::limits::{Counted, CountedSession, Service, has_room_for_receipts};
use crate::login::Denied;
use crate::memory::Bearer;
use crate::rates::{Exceeded, Rate, Subject, What};
use crate::sasl::{self, Exchange, Outcome};
use crate::site::Site;

/// Octets of content collected before they go to the spool, which keeps them in memory or writes to disk.
/// Beside what it keeps this is all that a connection holds of a message.
const SPOOL_PIECE_OCTETS: usize = 48 * 1024;

/// What the session says about itself for the trace field.
pub(super) struct Trace {
    pub(super) protocol: &'static str,
    pub(super) hello: String,
    /// Version and cipher suite.
    pub(super) tls: Option<String>,
}

/// Where the session's questions are answered.
pub(super) struct Desk {
    pub(super) site: Arc<Site>,
    peer: std::net::SocketAddr,
    pub(super) exchange: Option<Exchange>,
    pub(super) account: Option<Box<Account>>,
    /// Its connection counts, as a stranger's or not.
    place: Counted,
    /// While it is signed in, its session counts.
    counted: Option<CountedSession>,
    /// Since when another host is at its present message: on port 25, from its name on.
    pub(super) stranger_since: Option<tokio::time::Instant>,
    /// Of the open transaction.
    reverse_path: Option<ReversePath>,
    recipients: Recipients,
    /// What its sender asks to be told of the message.
    dsn: Dsn,
    spool: Option<Box<dyn Spool>>,
    /// Content that has not gone to the spool yet: at most [`SPOOL_PIECE_OCTETS`], in memory that is used
    /// again for the next.
    piece: Vec<u8>,
    /// The spool failed: the message will be refused so at its end.
    spool_failed: Option<Reply>,
}

impl Desk {
    pub(super) fn new(site: Arc<Site>, connection: &Connection, place: Counted) -> Self {
        Self {
            site,
            peer: connection.peer(),
            exchange: None,
            account: None,
            place,
            counted: None,
            stranger_since: None,
            reverse_path: None,
            recipients: Recipients::default(),
            dsn: Dsn::default(),
            spool: None,
            piece: Vec::new(),
            spool_failed: None,
        }
    }

    /// Whether its connection counts among those of strangers.
    pub(super) fn is_stranger(&self) -> bool {
        self.place.is_stranger()
    }

    /// Whether a message was begun, and did not come to its end yet.
    pub(super) fn is_at_work(&self) -> bool {
        self.reverse_path.is_some()
    }

    /// Drops what an exchange left, an identity that it had just proved included.
    pub(super) fn sign_out(&mut self) {
        self.exchange = None;
        self.account = None;
        self.counted = None;
    }

    pub(super) async fn answer(
        &mut self,
        question: Question,
        trace: Trace,
        channel: sasl::Channel,
    ) -> Answer {
        // Whichever of its sessions it was in: MAIL asks the store, which an operator may have told otherwise.
        if !matches!(question, Question::Sasl(_) | Question::Mail { .. })
            && let Some(account) = &self.account
            && let Some(frozen) = self.site.watch.frozen(account.id)
        {
            self.discard();
            return Answer::Refuse(suspended(Some(&frozen.reason)));
        }
        match question {
            Question::Sasl(step) => self.sasl(step, channel).await,
            Question::Mail { path, options } => self.mail(path, options).await,
            Question::Recipient { path, dsn } => self.recipient(path, dsn).await,
            Question::Data => self.open_spool().await,
            Question::EndOfData { octets } => self.end_of_data(octets, trace).await,
        }
    }

    async fn sasl(&mut self, step: SaslStep, channel: sasl::Channel) -> Answer {
        let (exchange, response) = match step {
            SaslStep::Start { mechanism, initial } => {
                (Exchange::Begin(mechanism, channel), initial)
            }
            SaslStep::Response(response) => match self.exchange.take() {
                Some(exchange) => (exchange, Some(response)),
                None => return Answer::Sasl(SaslAnswer::Failure(reply::AUTH_FAILED)),
            },
        };
        let outcome = sasl::step(&self.site, exchange, response, self.peer.ip()).await;
        Answer::Sasl(match outcome {
            Outcome::Challenge(exchange, octets) => {
                self.exchange = Some(exchange);
                SaslAnswer::Challenge(octets)
            }
            Outcome::Success(account, data) => {
                tracing::info!(target: "smtp", peer = %self.peer, account = %account.address, "signed in");
                match self.site.connections.enter_as(Service::Sending, account.id, self.peer.ip()) {
                    Some(counted) => {
                        self.counted = Some(counted);
                        self.place.sign_in();
                        self.account = Some(account);
                        SaslAnswer::Success(data)
                    }
                    None => SaslAnswer::Failure(reply::TOO_MANY_SESSIONS),
                }
            }
            Outcome::Failure(denied, login) => {
                tracing::info!(target: "smtp", peer = %self.peer, ?login, ?denied, "login refused");
                SaslAnswer::Failure(match denied {
                    Denied::Wrong | Denied::Malformed => reply::AUTH_FAILED,
                    Denied::Suspended => reply::ACCOUNT_SUSPENDED,
                    Denied::Elsewhere => reply::AUTH_ELSEWHERE,
                    Denied::Later(wait) => Reply::auth_later(wait.as_secs() + 1),
                    Denied::Unavailable(_) => reply::AUTH_UNAVAILABLE,
                })
            }
        })
    }

    /// PEC-AP-02: the reverse-path is an address that the account may use.
    async fn mail(&mut self, path: ReversePath, options: MailOptions) -> Answer {
        self.recipients.clear();
        self.reverse_path = None;
        self.dsn = options.dsn;
        let Some(account) = &self.account else {
            let (from, limits) = (self.peer.ip(), self.site.connections.limits());
            let counted = self
                .count(Subject::address(from), What::Messages, limits.address_messages)
                .and_then(|()| {
                    self.count(Subject::network(from), What::Messages, limits.network_messages)
                });
            if let Err(over) = counted {
                return Answer::Refuse(over.reply());
            }
            // Our users' mail goes within this provider, and never comes from outside: who says that
            // it does is nobody's user. Networks of the operator's are his to answer for.
            let policy = &self.site.config.load().authentication;
            if let ReversePath::Address(address) = &path
                && self.site.manages(address.domain())
                && !policy.trusts(self.peer.ip().to_canonical())
            {
                return Answer::Refuse(reply::SENDER_REFUSED);
            }
            // Other hosts come for anybody, and for nobody: RFC 5321 §4.5.5.
            self.reverse_path = Some(path);
            return Answer::Accept;
        };
        // Nobody but the PEC engine writes as a service address.
        if account.role != store::Role::None {
            return Answer::Refuse(reply::SENDER_NOT_YOURS);
        }
        match path {
            ReversePath::Address(address) if address == account.address => {
                let (store, id) = (self.site.store.clone(), account.id);
                let before = self.site.watch.frozen(id);
                match blocking(move || Ok::<_, StoreError>((store.account(id)?, store.usage(id)?)))
                    .await
                {
                    Ok(Ok((now, usage))) => {
                        if let Some(refusal) = self.suspension(id, now.as_ref(), before.as_ref()) {
                            self.discard();
                            return Answer::Refuse(refusal);
                        }
                        if !has_room_for_receipts(&usage) {
                            return Answer::Refuse(reply::SENDER_FULL);
                        }
                    }
                    Ok(Err(error)) => return self.fault(&error),
                    Err(error) => return self.fault(&error),
                }
                self.message_of_an_account(ReversePath::Address(address)).await
            }
            _ => Answer::Refuse(reply::SENDER_NOT_YOURS),
        }
    }

    /// One more message of whoever has signed in, within its limits and the rule of `[abuse]`.
    async fn message_of_an_account(&mut self, path: ReversePath) -> Answer {
        let Some(account) = self.account.clone() else { return Answer::Refuse(reply::AUTH_FIRST) };
        let rate = self.rate_of(&account, What::Messages);
        if let Err(over) = self.count(Subject::Account(account.id), What::Messages, rate) {
            return Answer::Refuse(over.reply());
        }
        let hour = self.site.clock.now().to_zoned(pec::moment::rome().clone()).hour();
        if let Some(refusal) = self.note(&account, Deed::Message { hour }).await {
            return Answer::Refuse(refusal);
        }
        self.reverse_path = Some(path);
        Answer::Accept
    }

    /// The refusal of whoever was suspended after signing in, by the rule or by an operator. `before` is what
    /// was known of it before the store was asked.
    fn suspension(
        &self,
        id: AccountId,
        now: Option<&Account>,
        before: Option<&Frozen>,
    ) -> Option<Reply> {
        let watch = &self.site.watch;
        let is_active = now.is_some_and(|account| account.state == State::Active);
        let frozen = if is_active { watch.resume(id, before) } else { watch.frozen(id) };
        match frozen {
            Some(frozen) => Some(suspended(Some(&frozen.reason))),
            None => (!is_active).then(|| suspended(None)),
        }
    }

    /// What an account does is held against the rule of `[abuse]`; the refusal if it is one too many,
    /// from which on nothing of the account is taken, in this session and in others.
    async fn note(&mut self, account: &Account, deed: Deed) -> Option<Reply> {
        let rule = self.site.config.load().abuse;
        let reason = match self.site.watch.note(account.id, deed, &rule, std::time::Instant::now())
        {
            Verdict::Fine => return None,
            Verdict::Frozen(reason) => return Some(suspended(Some(&reason))),
            Verdict::Freeze(reason) => reason,
        };
        let (site, account, why) = (self.site.clone(), account.clone(), reason.clone());
        match blocking(move || abuse::freeze(&site, &account, &why)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(target: "smtp", %error, reason, "an account cannot be suspended");
                return Some(reply::LOCAL_ERROR);
            }
            Err(error) => {
                tracing::error!(target: "smtp", %error, reason, "an account cannot be suspended");
                return Some(reply::LOCAL_ERROR);
            }
        }
        Some(suspended(Some(&reason)))
    }

    fn rate_of(&self, account: &Account, what: What) -> Rate {
        let (config, limits) = (self.site.config.load(), self.site.connections.limits());
        let machine = config.machines.get(&account.address);
        match what {
            What::Messages => {
                machine.and_then(|one| one.messages).unwrap_or(limits.account_messages)
            }
            What::Recipients => {
                machine.and_then(|one| one.recipients).unwrap_or(limits.account_recipients)
            }
        }
    }

    fn count(&self, subject: Subject, what: What, rate: Rate) -> Result<(), Exceeded> {
        if self.site.connections.is_unthrottled(self.peer.ip()) {
            return Ok(());
        }
        self.site.rates.count(subject, what, rate, std::time::Instant::now())
    }

    /// One more recipient of whoever it is, and of where it goes.
    fn count_recipient(&self, address: &Address) -> Result<(), Exceeded> {
        let limits = self.site.connections.limits();
        match &self.account {
            Some(account) => {
                let rate = self.rate_of(account, What::Recipients);
                self.count(Subject::Account(account.id), What::Recipients, rate)?;
            }
            None => {
                let from = self.peer.ip();
                let address = Subject::address(from);
                self.count(address, What::Recipients, limits.address_recipients)?;
                let network = Subject::network(from);
                self.count(network, What::Recipients, limits.network_recipients)?;
            }
        }
        let domain = address.domain();
        if self.site.manages(domain) {
            return Ok(());
        }
        let destination = || Subject::Destination(domain.clone());
        // A message counts once for each domain that it goes to.
        if !self.recipients.has_another_there() {
            self.count(destination(), What::Messages, limits.destination_messages)?;
        }
        self.count(destination(), What::Recipients, limits.destination_recipients)
    }

    async fn recipient(&mut self, path: ForwardPath, dsn: RecipientDsn) -> Answer {
        let address = match path {
            ForwardPath::Address(address) => address,
            ForwardPath::Postmaster => self.site.config.load().provider.postmaster.clone(),
        };
        // An unknown account of ours is taken: its sender gets a signed notice (PEC-PR-30). Beyond
        // our domains goes what a user of ours sends: ordinary recipients get the transport envelope
        // too (PEC-GEN-16).
        if self.account.is_none() && !self.site.manages(address.domain()) {
            return Answer::Refuse(reply::NO_RELAY);
        }
        if !self.recipients.add(&address, &dsn) {
            return Answer::Refuse(reply::TOO_MANY_RECIPIENTS);
        }
        let answer = self.recipient_within_limits(&address).await;
        if !matches!(answer, Answer::Accept) {
            self.recipients.forget_last();
        }
        answer
    }

    /// What else there is to ask about a recipient that there is room for.
    async fn recipient_within_limits(&mut self, address: &Address) -> Answer {
        if let Err(over) = self.count_recipient(address) {
            return Answer::Refuse(over.reply());
        }
        if let Some(account) = self.account.clone()
            && self.site.config.load().abuse.unknown_recipients != 0
            && self.site.manages(address.domain())
        {
            let (store, sought) = (self.site.store.clone(), address.clone());
            let found = match blocking(move || store.account_by_address(&sought)).await {
                Ok(Ok(found)) => found,
                Ok(Err(error)) => return self.fault(&error),
                Err(error) => return self.fault(&error),
            };
            if found.is_none()
                && let Some(refusal) = self.note(&account, Deed::UnknownRecipient).await
            {
                return Answer::Refuse(refusal);
            }
        }
        Answer::Accept
    }

    async fn open_spool(&mut self) -> Answer {
        self.discard();
        let store = self.site.store.clone();
        match blocking(move || store.spool()).await {
            Ok(Ok(mut spool)) => {
                if !self.recipients.are_light() {
                    spool.keep_nothing();
                }
                self.spool = Some(spool);
                Answer::Accept
            }
            Ok(Err(error @ StoreError::NoSpace)) => {
                tracing::error!(target: "smtp", %error, "a message cannot be spooled");
                Answer::Refuse(refusal_of(&error))
            }
            Ok(Err(error)) => self.fault(&error),
            Err(error) => self.fault(&error),
        }
    }

    pub(super) async fn content(&mut self, mut octets: &[u8]) {
        while !octets.is_empty() {
            if self.piece.capacity() == 0 {
                // Once: a buffer that doubles leaves its smaller selves behind in the allocator.
                self.piece.reserve_exact(SPOOL_PIECE_OCTETS);
            }
            let room = SPOOL_PIECE_OCTETS.saturating_sub(self.piece.len());
            let (now, rest) = octets.split_at(octets.len().min(room));
            self.piece.extend_from_slice(now);
            octets = rest;
            if self.piece.len() >= SPOOL_PIECE_OCTETS {
                self.write_piece().await;
            }
        }
    }

    async fn write_piece(&mut self) {
        let mut piece = std::mem::take(&mut self.piece);
        // When the spool has failed, what then still comes is not kept.
        let Some(mut spool) = self.spool.take() else { return };
        let written = blocking(move || {
            let written = spool.write(&piece);
            piece.clear();
            (written.map(|()| spool), piece)
        });
        match written.await {
            Ok((Ok(spool), piece)) => {
                self.spool = Some(spool);
                self.piece = piece;
            }
            Ok((Err(error), _)) => {
                tracing::error!(target: "smtp", %error, "a message cannot be spooled");
                self.spool_failed = Some(refusal_of(&error));
            }
            Err(error) => {
                self.spool_failed = Some(reply::LOCAL_ERROR);
                tracing::error!(target: "smtp", %error, "a message cannot be spooled");
            }
        }
    }

    pub(super) fn discard(&mut self) {
        self.spool = None;
        self.piece = Vec::new();
        self.spool_failed = None;
    }

    async fn end_of_data(&mut self, octets: u64, trace: Trace) -> Answer {
        self.write_piece().await;
        self.piece = Vec::new();
        let failed = self.spool_failed.take();
        let (Some(spool), None) = (self.spool.take(), &failed) else {
            return Answer::Refuse(failed.unwrap_or(reply::LOCAL_ERROR));
        };
        let Some(reverse_path) = self.reverse_path.take() else {
            return Answer::Refuse(reply::LOCAL_ERROR);
        };
        let weight = octets + self.recipients.octets() as u64;
        // Several messages of 100 MB at once shall not exhaust the memory.
        let bearer = if self.account.is_some() { Bearer::Account } else { Bearer::Stranger };
        let Some(memory) = self.site.memory.room_for(weight, bearer).await else {
            return Answer::Refuse(reply::STOPPING);
        };
        let (forward_paths, asked) = match self.recipients.take() {
            Ok(recipients) => recipients,
            Err(error) => return self.fault(&error),
        };
        let wishes = Wishes::new(&std::mem::take(&mut self.dsn), asked);
        let site = self.site.clone();
        let taken = match (&self.account, reverse_path) {
            (Some(_), ReversePath::Address(reverse_path)) => {
                let trace = access::Trace {
                    hello: trace.hello,
                    peer: self.peer.ip(),
                    protocol: trace.protocol,
                };
                let submitted = access::Submitted { reverse_path, forward_paths, wishes, trace };
                blocking(move || {
                    let _memory = memory;
                    access::take(&site, &submitted, spool)
                })
                .await
            }
            (Some(_), ReversePath::Null) => return Answer::Refuse(reply::SENDER_NOT_YOURS),
            (None, reverse_path) => {
                self.stranger_since = Some(tokio::time::Instant::now());
                let authenticate = self.authentication(&trace.hello, &reverse_path);
                let arrival = reception::Arrival {
                    hello: trace.hello,
                    peer: self.peer.ip(),
                    protocol: trace.protocol,
                    tls: trace.tls,
                    authenticate,
                };
                let received = reception::Received { reverse_path, forward_paths, wishes, arrival };
                blocking(move || {
                    let _memory = memory;
                    reception::take(&site, received, spool)
                })
                .await
            }
        };
        match taken {
            Ok(Ok(id)) => Answer::Accepted { id },
            Ok(Err(access::Refusal::Say(reply))) => Answer::Refuse(reply),
            Ok(Err(access::Refusal::Fault(error))) => {
                tracing::error!(target: "smtp", error = %format!("{error:#}"), "a message cannot be taken");
                Answer::Refuse(reply::LOCAL_ERROR)
            }
            Err(error) => self.fault(&error),
        }
    }

    /// What is asked of the DNS about this message, when it turns out not to be certified.
    fn authentication(
        &self,
        hello: &str,
        reverse_path: &ReversePath,
    ) -> Option<reception::Authenticate> {
        let policy = self.site.config.load().authentication.clone();
        let peer = self.peer.ip().to_canonical();
        if policy.trusts(peer) {
            return None;
        }
        let resolver = match self.site.resolver() {
            Ok(resolver) => resolver,
            Err(error) => {
                tracing::warn!(target: "smtp", error = %format!("{error:#}"), "nobody can be asked about ordinary mail");
                return None;
            }
        };
        let origin = authenticate::Origin {
            peer,
            hello: hello.to_owned(),
            reverse_path: reverse_path.clone(),
            host: self.site.host(),
        };
        Some(Box::new(move |message: &[u8]| {
            authenticate::authenticate(resolver, &policy, &origin, message)
        }))
    }

    fn fault(&self, error: &dyn std::fmt::Display) -> Answer {
        tracing::error!(target: "smtp", peer = %self.peer, %error, "this server failed");
        Answer::Refuse(reply::LOCAL_ERROR)
    }
}

/// What a client is told when the store did not take something.
fn refusal_of(error: &StoreError) -> Reply {
    match error {
        StoreError::NoSpace => reply::STORAGE_FULL,
        _ => reply::LOCAL_ERROR,
    }
}

/// What a client is told whose account was suspended after it had signed in; by the rule for a reason.
fn suspended(reason: Option<&str>) -> Reply {
    let why = reason.map(|reason| format!(", {reason}")).unwrap_or_default();
    let text = format!("This account is suspended{why}: ask your provider");
    Reply::refusal(550, Status(5, 7, 1), &text)
}
