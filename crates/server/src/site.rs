//! What the sessions and the pipeline share: who this provider is, and what it works with.

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use crypto::{Identity, Signer, Trust};
use hickory_resolver::TokioResolver;
use mail::Domain;
use store::{Store, Timestamp};

use crate::abuse::Watch;
use crate::abuse::abroad::Abroad;
use crate::antivirus::Scanner;
use crate::clock::Clock;
use crate::config::Config;
use crate::hub::Hub;
use crate::limits::Connections;
use crate::login::Logins;
use crate::memory::Memory;
use crate::queue::Queue;
use crate::rates::Rates;
use crate::seal::Seals;
use crate::tls::Tls;
use crate::transport::Transport;

/// A key and certificate to sign with.
pub(crate) struct Signing {
    /// Asks a process that has the key.
    pub(crate) signer: Arc<dyn Signer>,
    /// The certificate that goes with it.
    pub(crate) identity: Identity,
    /// From when it is used.
    pub(crate) from: Timestamp,
}

/// A running provider.
pub(crate) struct Site {
    /// As read at start, and again on SIGHUP.
    pub(crate) config: ArcSwap<Config>,
    pub(crate) clock: Clock,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) hub: Arc<Hub>,
    /// What IMAP's sessions on one mailbox have in common.
    pub(crate) views: Arc<imap::Views>,
    pub(crate) connections: Arc<Connections>,
    pub(crate) logins: Logins,
    pub(crate) tls: Tls,
    /// Asks the second process.
    pub(crate) signer: Arc<dyn Signer>,
    /// The certificate that goes with the signer's key.
    pub(crate) identity: Identity,
    /// What takes over from both (PEC-IDX-05, PEC-SIG-12).
    pub(crate) next: Option<Signing>,
    /// Who we are, in the words of the law.
    pub(crate) provider: pec::exchange::Provider,
    /// The providers we know, ourselves included; exchanged for a newer index while running
    /// ([`use_index`](Self::use_index)).
    pub(crate) providers: ArcSwap<pec::providers::Index>,
    /// A sentence for each record that was left out of it.
    pub(crate) index_faults: ArcSwap<Vec<String>>,
    /// Whom we believe when a provider signs; exchanged likewise.
    pub(crate) trust: ArcSwap<Trust>,
    pub(crate) scanner: Scanner,
    pub(crate) queue: Arc<Queue>,
    /// How much accounts, networks and destinations have sent.
    pub(crate) rates: Rates,
    /// What accounts do, for the rule of `[abuse]`.
    pub(crate) watch: Watch,
    /// Where accounts sign in from, for the rule `abuse.countries`.
    pub(crate) abroad: Abroad,
    /// Made when it is first asked.
    pub(crate) resolver: OnceLock<TokioResolver>,
    /// Seals the log.
    pub(crate) seals: Arc<Seals>,
    pub(crate) transport: Arc<Transport>,
    /// Bounds the memory of messages that are worked on.
    pub(crate) memory: Memory,
}

impl Site {
    /// Takes another index of providers into use, and remembers what was left out of it.
    pub(crate) fn use_index(&self, index: pec::providers::Index, faults: Vec<String>) {
        self.providers.store(Arc::new(index));
        self.index_faults.store(Arc::new(faults));
    }

    /// Whether we manage this domain.
    pub(crate) fn manages(&self, domain: &Domain) -> bool {
        self.config.load().provider.domains.contains(domain)
    }

    /// The resolver of names. In the runtime only.
    ///
    /// # Errors
    ///
    /// When there is none to be had.
    pub(crate) fn resolver(&self) -> anyhow::Result<TokioResolver> {
        if let Some(resolver) = self.resolver.get() {
            return Ok(resolver.clone());
        }
        let resolver = crate::dns::resolver(&self.config.load().dns.nameservers)?;
        Ok(self.resolver.get_or_init(|| resolver).clone())
    }

    /// With which key and certificate an event of this time is signed.
    pub(crate) fn signing_at(&self, at: Timestamp) -> (&Identity, &dyn Signer) {
        match self.next.as_ref().filter(|next| next.from <= at) {
            Some(next) => (&next.identity, &*next.signer),
            None => (&self.identity, &*self.signer),
        }
    }

    /// The certificate that signs now.
    pub(crate) fn certificate_now(&self) -> &crypto::Certificate {
        self.signing_at(self.clock.now()).0.certificate()
    }

    /// The name we go by in greetings and trace fields.
    pub(crate) fn host(&self) -> String {
        match self.config.load().provider.domains.first() {
            Some(domain) => domain.to_string(),
            None => "localhost".to_owned(),
        }
    }
}

/// A fresh random word of 128 bits, in hexadecimal: for identifiers and boundaries.
pub(crate) fn fresh_word() -> String {
    crypto::random::<16>().iter().map(|octet| format!("{octet:02x}")).collect()
}
