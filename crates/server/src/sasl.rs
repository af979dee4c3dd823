//! The mechanisms of SASL, for SMTP and IMAP alike: PLAIN (RFC 4616), LOGIN, SCRAM-SHA-256 (RFC 7677)
//! and the same bound to its TLS connection (RFC 5802 §6, RFC 9266), EXTERNAL (RFC 4422 appendix A)
//! for machines with a certificate. Framing and base64 are the
//! sessions'; passwords are [`crate::login`]'s.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use crypto::{ChannelBinding, ScramChallenge, ScramServer};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use store::{Account, AccountId};

/// The mechanisms; IMAP offers those that need nothing of the connection but TLS.
pub(crate) use smtp::Mechanism;

use crate::abuse::abroad;
use crate::login::{Denied, Logins, admit};
use crate::site::Site;

/// Octets of a user name at most.
const LOGIN_OCTETS_MAX: usize = 512;

/// What the connection itself can vouch for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Channel {
    /// Its `tls-exporter` value (RFC 9266 §2), where SCRAM-SHA-256-PLUS is offered.
    pub(crate) exporter: Option<Vec<u8>>,
    /// The certificate, in DER, whose key the client has proved to have.
    pub(crate) certificate: Option<Vec<u8>>,
}

impl Channel {
    /// What a client that chose `plus` or not is held to. One that could have chosen it and says
    /// that it was not offered has been lied to: RFC 5802 §6.
    fn binding(self, plus: bool) -> Option<ChannelBinding> {
        match (plus, self.exporter) {
            (true, Some(exporter)) => Some(ChannelBinding::Chosen(exporter)),
            (true, None) => None,
            (false, Some(_)) => Some(ChannelBinding::Declined),
            (false, None) => Some(ChannelBinding::NotOffered),
        }
    }
}

/// An exchange that is going on: what the next response of the client is.
pub(crate) enum Exchange {
    /// The initial response, or its absence.
    Begin(Mechanism, Channel),
    /// PLAIN's one message, after an empty challenge.
    Plain,
    /// LOGIN's user name.
    LoginUser,
    /// LOGIN's password.
    LoginPassword(String),
    /// EXTERNAL's one message, after an empty challenge: the certificate is there already.
    External(Option<Vec<u8>>),
    /// SCRAM's first message, after an empty challenge.
    ScramFirst(ChannelBinding),
    /// SCRAM's last.
    ScramFinal { challenge: Box<ScramChallenge>, login: String, account: Option<Box<Account>> },
}

/// What comes of a response.
pub(crate) enum Outcome {
    /// Ask on with these octets.
    Challenge(Exchange, Vec<u8>),
    /// It is this account; with data of the mechanism's for the client.
    Success(Box<Account>, Option<Vec<u8>>),
    /// It is not; as whom it tried, for the count of failures.
    Failure(Denied, String),
}

impl Exchange {
    /// Takes the client's next response; `None` is an initial response that is absent. Blocks.
    pub(crate) fn step(self, response: Option<Vec<u8>>, logins: &Logins, from: IpAddr) -> Outcome {
        match (self, response) {
            (Self::Begin(Mechanism::Plain, _), None) => Outcome::Challenge(Self::Plain, Vec::new()),
            (Self::Begin(Mechanism::Plain, _) | Self::Plain, Some(message)) => {
                plain(&message, logins, from)
            }
            (Self::Begin(Mechanism::Login, _), None) => {
                // To the letter: Outlook compares them.
                Outcome::Challenge(Self::LoginUser, b"Username:".to_vec())
            }
            (Self::Begin(Mechanism::Login, _) | Self::LoginUser, Some(user)) => match text(&user) {
                // Outlook may end the name with a space.
                Some(user) => Outcome::Challenge(
                    Self::LoginPassword(user.trim().to_owned()),
                    b"Password:".to_vec(),
                ),
                None => Outcome::Failure(Denied::Malformed, String::new()),
            },
            (Self::LoginPassword(user), Some(password)) => match text(&password) {
                Some(password) => check(&user, password, logins, from),
                None => Outcome::Failure(Denied::Malformed, user),
            },
            (
                Self::Begin(
                    mechanism @ (Mechanism::ScramSha256 | Mechanism::ScramSha256Plus),
                    channel,
                ),
                response,
            ) => {
                let plus = mechanism == Mechanism::ScramSha256Plus;
                match (channel.binding(plus), response) {
                    (Some(binding), None) => {
                        Outcome::Challenge(Self::ScramFirst(binding), Vec::new())
                    }
                    (Some(binding), Some(first)) => scram_first(&first, binding, logins, from),
                    // What is not offered cannot be chosen.
                    (None, _) => Outcome::Failure(Denied::Malformed, String::new()),
                }
            }
            (Self::ScramFirst(binding), Some(first)) => scram_first(&first, binding, logins, from),
            (Self::ScramFinal { challenge, login, account }, Some(last)) => {
                scram_final(*challenge, login, account, &last, logins, from)
            }
            // Answered before it comes here: see `step`.
            (Self::Begin(Mechanism::External, _) | Self::External(_), Some(_)) => {
                Outcome::Failure(Denied::Malformed, String::new())
            }
            // The sessions give `None` only with `Begin`.
            (_, None) => Outcome::Failure(Denied::Malformed, String::new()),
        }
    }
}

/// `[authzid] NUL authcid NUL passwd`, RFC 4616 §2.
fn plain(message: &[u8], logins: &Logins, from: IpAddr) -> Outcome {
    let mut parts = message.splitn(3, |&octet| octet == 0).map(text);
    let (Some(Some(authzid)), Some(Some(user)), Some(Some(password))) =
        (parts.next(), parts.next(), parts.next())
    else {
        return Outcome::Failure(Denied::Malformed, String::new());
    };
    check_as(authzid, user, password, logins, from)
}

/// Whether an authorization identity names this account, by its address or its user name. To act as
/// somebody else is for administrators of other servers; here each is itself.
fn is_named(authzid: &str, account: &Account) -> bool {
    authzid.is_empty()
        || authzid.eq_ignore_ascii_case(&account.address.to_string())
        || account.user_id.as_deref().is_some_and(|id| id.eq_ignore_ascii_case(authzid))
}

/// The way in with user name and password, whatever brought them.
pub(crate) fn check(user: &str, password: &str, logins: &Logins, from: IpAddr) -> Outcome {
    check_as("", user, password, logins, from)
}

/// The same for who says as whom he comes. Who has the password and names another account is told no
/// more than who has not.
fn check_as(authzid: &str, user: &str, password: &str, logins: &Logins, from: IpAddr) -> Outcome {
    if user.is_empty() || user.len() > LOGIN_OCTETS_MAX {
        return Outcome::Failure(Denied::Wrong, String::new());
    }
    match logins.check(user, password, from) {
        Ok(account) if !is_named(authzid, &account) => {
            Outcome::Failure(Denied::Wrong, user.to_owned())
        }
        Ok(account) => {
            logins.succeeded(user, from);
            Outcome::Success(Box::new(account), None)
        }
        Err(denied) => Outcome::Failure(denied, user.to_owned()),
    }
}

fn scram_first(first: &[u8], binding: ChannelBinding, logins: &Logins, from: IpAddr) -> Outcome {
    let Ok(server) = ScramServer::start(first, binding) else {
        return Outcome::Failure(Denied::Malformed, String::new());
    };
    let login = server.user().to_owned();
    if login.len() > LOGIN_OCTETS_MAX {
        return Outcome::Failure(Denied::Wrong, String::new());
    }
    match logins.scram_keys(&login, from) {
        Ok((account, keys)) => {
            let (challenge, octets) = server.challenge(keys);
            let account = account.map(Box::new);
            Outcome::Challenge(
                Exchange::ScramFinal { challenge: Box::new(challenge), login, account },
                octets,
            )
        }
        Err(denied) => Outcome::Failure(denied, login),
    }
}

fn scram_final(
    challenge: ScramChallenge,
    login: String,
    account: Option<Box<Account>>,
    last: &[u8],
    logins: &Logins,
    from: IpAddr,
) -> Outcome {
    let (Ok(signature), Some(account)) = (challenge.finish(last), account) else {
        return Outcome::Failure(Denied::Wrong, login);
    };
    match as_it_is_now(*account, &login, logins, from) {
        Ok(account) => {
            logins.succeeded(&login, from);
            Outcome::Success(Box::new(account), Some(signature))
        }
        Err(denied) => Outcome::Failure(denied, login),
    }
}

/// Lets in who has proved to be `account`, unless that was suspended, removed or given another
/// password while the client thought about its proof.
fn as_it_is_now(
    account: Account,
    login: &str,
    logins: &Logins,
    from: IpAddr,
) -> Result<Account, Denied> {
    match logins.scram_keys(login, from)? {
        (Some(now), _) if now.credentials == account.credentials => admit(now),
        _ => Err(Denied::Wrong),
    }
}

fn text(octets: &[u8]) -> Option<&str> {
    std::str::from_utf8(octets).ok()
}

/// One step of an exchange, where blocking is allowed, and the delay that a failure costs.
pub(crate) async fn step(
    site: &Arc<Site>,
    exchange: Exchange,
    response: Option<Vec<u8>>,
    from: IpAddr,
) -> Outcome {
    match (exchange, response) {
        (Exchange::Begin(Mechanism::External, channel), None) => {
            Outcome::Challenge(Exchange::External(channel.certificate), Vec::new())
        }
        (
            Exchange::Begin(Mechanism::External, Channel { certificate, .. })
            | Exchange::External(certificate),
            Some(authzid),
        ) => {
            let here = site.clone();
            run(site, from, move |_| external(&here, certificate.as_deref(), &authzid)).await
        }
        (exchange, response) => {
            run(site, from, move |logins| exchange.step(response, logins, from)).await
        }
    }
}

/// `[authzid]`, RFC 4422 appendix A: the account that this certificate was written down for, octet
/// for octet; its dates and its issuer are not asked, since nobody else's word is needed. Blocks.
fn external(site: &Site, certificate: Option<&[u8]>, authzid: &[u8]) -> Outcome {
    let failed = |login: &str| Outcome::Failure(Denied::Wrong, login.to_owned());
    let (Some(certificate), Some(authzid)) = (certificate, text(authzid)) else {
        return failed("");
    };
    let config = site.config.load();
    let is_its = |path: &PathBuf| match std::fs::read(path)
        .map(|pem| CertificateDer::from_pem_slice(&pem))
    {
        Ok(Ok(pinned)) => pinned.as_ref() == certificate,
        Ok(Err(error)) => {
            tracing::warn!(target: "smtp", file = %path.display(), %error, "a machine's certificate cannot be read");
            false
        }
        Err(error) => {
            tracing::warn!(target: "smtp", file = %path.display(), %error, "a machine's certificate cannot be read");
            false
        }
    };
    let whose =
        config.machines.iter().find(|(_, one)| one.certificate.as_ref().is_some_and(is_its));
    let Some((address, _)) = whose else { return failed("") };
    let login = address.to_string();
    match site.store.account_by_address(address) {
        Ok(Some(account)) => {
            let is_named = is_named(authzid, &account);
            match admit(account) {
                _ if !is_named => failed(&login),
                Ok(account) => Outcome::Success(Box::new(account), None),
                Err(denied) => Outcome::Failure(denied, login),
            }
        }
        Ok(None) => failed(&login),
        Err(error) => Outcome::Failure(error.into(), login),
    }
}

/// As [`step`], for IMAP's LOGIN command, which is no exchange.
pub(crate) async fn login(
    site: &Arc<Site>,
    user: String,
    password: String,
    from: IpAddr,
) -> Outcome {
    run(site, from, move |logins| check(&user, &password, logins, from)).await
}

async fn run(
    site: &Arc<Site>,
    from: IpAddr,
    work: impl FnOnce(&Logins) -> Outcome + Send + 'static,
) -> Outcome {
    let turn = site.logins.turn().await;
    let shared = site.clone();
    let outcome = tokio::task::spawn_blocking(move || work(&shared.logins)).await;
    drop(turn);
    let outcome = outcome.unwrap_or_else(|error| {
        Outcome::Failure(Denied::Unavailable(error.to_string()), String::new())
    });
    let outcome = match outcome {
        Outcome::Success(account, _) if !may_come(site, &account, from) => {
            Outcome::Failure(Denied::Elsewhere, account.address.to_string())
        }
        Outcome::Success(account, data) => match abroad::signs_in(site, &account, from).await {
            Some(denied) => Outcome::Failure(denied, account.address.to_string()),
            None => Outcome::Success(account, data),
        },
        outcome => outcome,
    };
    if let Outcome::Failure(Denied::Wrong | Denied::Malformed, login) = &outcome {
        tokio::time::sleep(site.logins.failed(login, from)).await;
    }
    outcome
}

/// Whether an account may sign in from this address: a machine's may be bound to networks.
fn may_come(site: &Site, account: &Account, from: IpAddr) -> bool {
    let config = site.config.load();
    let machine = config.machines.get(&account.address);
    machine.is_none_or(|machine| {
        machine.networks.is_empty() || machine.networks.iter().any(|one| one.contains(from))
    })
}

/// Whether a session must end because its account was suspended, removed or given another
/// password. `None`: some changes were missed, so the account is looked at in any case.
pub(crate) async fn is_changed(
    site: &Arc<Site>,
    account: &Account,
    changed: Option<AccountId>,
) -> bool {
    if changed.is_some_and(|changed| changed != account.id) {
        return false;
    }
    let (store, id) = (site.store.clone(), account.id);
    match tokio::task::spawn_blocking(move || store.account(id)).await {
        Ok(Ok(Some(now))) => now.state != account.state || now.credentials != account.credentials,
        Ok(Ok(None)) => true,
        // We cannot tell, and the next command will fail by itself.
        Ok(Err(_)) | Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use store::{
        AccountChange, Credentials, NewAccount, Owner, Quota, Role, State, Store, Timestamp,
    };

    use super::*;
    use crate::config::Limits;
    use crate::limits::Connections;

    const FROM: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    /// One account, `anna@pec.example` with the user name `Anna.Neri` and the password `giusta`.
    fn scene() -> (Arc<store::memory::MemoryStore>, AccountId, Logins) {
        let store = Arc::new(store::memory::MemoryStore::new());
        let account = NewAccount {
            address: mail::Address::parse("anna@pec.example").unwrap(),
            user_id: Some("Anna.Neri".to_owned()),
            owner: Owner::Holder,
            role: Role::None,
            credentials: kept("giusta"),
            quota: Quota { octets_max: 1000, messages_max: None, receipt_reserve_octets: 0 },
            ordinary_mail: None,
        };
        let id = store.add_account(account, Timestamp::UNIX_EPOCH).unwrap();
        let logins =
            Logins::new(store.clone(), Connections::new(Limits::default()), b"secret".to_vec());
        (store, id, logins)
    }

    fn kept(password: &str) -> Option<Credentials> {
        let secret = crypto::Secret::derive(password, &[7; 16]).unwrap();
        Some(Credentials { phc: secret.phc, scram: secret.scram.encode() })
    }

    /// What comes of one message of PLAIN.
    fn says(message: &[u8], logins: &Logins) -> Result<AccountId, Denied> {
        let begin = Exchange::Begin(Mechanism::Plain, Channel::default());
        match begin.step(Some(message.to_vec()), logins, FROM) {
            Outcome::Success(account, None) => Ok(account.id),
            Outcome::Failure(denied, _) => Err(denied),
            Outcome::Success(..) | Outcome::Challenge(..) => unreachable!("PLAIN has one message"),
        }
    }

    // RFC 4616 §2: authzid, authcid, passwd.
    #[test]
    fn who_says_as_whom_he_comes_may_name_his_account_in_either_way_and_no_other() {
        let (store, id, logins) = scene();
        let other = NewAccount {
            address: mail::Address::parse("bruno@pec.example").unwrap(),
            user_id: Some("bruno".to_owned()),
            owner: Owner::Holder,
            role: Role::None,
            credentials: kept("giusta"),
            quota: Quota { octets_max: 1000, messages_max: None, receipt_reserve_octets: 0 },
            ordinary_mail: None,
        };
        store.add_account(other, Timestamp::UNIX_EPOCH).unwrap();
        for user in ["anna@pec.example", "anna.neri"] {
            for authzid in ["", "anna@pec.example", "ANNA@PEC.example", "Anna.Neri", "anna.neri"] {
                let said = says(format!("{authzid}\0{user}\0giusta").as_bytes(), &logins);
                assert_eq!(said, Ok(id), "{authzid} as {user}");
            }
            for authzid in ["bruno@pec.example", "bruno", "anna", "anna@pec.example ", "nessuno"] {
                let said = says(format!("{authzid}\0{user}\0giusta").as_bytes(), &logins);
                assert_eq!(said, Err(Denied::Wrong), "{authzid} as {user}");
            }
            let said = says(format!("{user}\0{user}\0sbagliata").as_bytes(), &logins);
            assert_eq!(said, Err(Denied::Wrong));
        }
        for malformed in [&b"anna@pec.example\0giusta"[..], b"", b"\xff\0anna.neri\0giusta"] {
            assert_eq!(says(malformed, &logins), Err(Denied::Malformed));
        }
    }

    #[test]
    fn a_user_name_one_octet_past_its_bound_is_not_looked_up() {
        let (store, _, logins) = scene();
        let name = |octets: usize| "n".repeat(octets);
        let account = |octets| NewAccount {
            address: mail::Address::parse(&format!("n{octets}@pec.example")).unwrap(),
            user_id: Some(name(octets)),
            owner: Owner::Holder,
            role: Role::None,
            credentials: kept("giusta"),
            quota: Quota { octets_max: 1000, messages_max: None, receipt_reserve_octets: 0 },
            ordinary_mail: None,
        };
        for (octets, opens) in [(LOGIN_OCTETS_MAX, true), (LOGIN_OCTETS_MAX + 1, false)] {
            store.add_account(account(octets), Timestamp::UNIX_EPOCH).unwrap();
            let said = says(format!("\0{}\0giusta", name(octets)).as_bytes(), &logins);
            assert_eq!(said.is_ok(), opens, "{octets}: {said:?}");
            let first = format!("n,,n={},r=abc", name(octets));
            let begin = Exchange::Begin(Mechanism::ScramSha256, Channel::default());
            let outcome = begin.step(Some(first.into_bytes()), &logins, FROM);
            assert_eq!(matches!(outcome, Outcome::Challenge(..)), opens, "{octets}");
        }
    }

    #[test]
    fn a_proof_made_before_a_suspension_or_another_password_opens_nothing() {
        let (store, id, logins) = scene();
        let login = "anna@pec.example";
        let (then, _) = logins.scram_keys(login, FROM).unwrap();
        let now = || as_it_is_now(then.clone().unwrap(), login, &logins, FROM);
        assert_eq!(now().unwrap().id, id);
        store.change_account(id, AccountChange::State(State::Suspended)).unwrap();
        assert_eq!(now().unwrap_err(), Denied::Suspended);
        store.change_account(id, AccountChange::State(State::Active)).unwrap();
        store.change_account(id, AccountChange::Credentials(kept("nuova"))).unwrap();
        assert_eq!(now().unwrap_err(), Denied::Wrong);
        store.remove_account(id).unwrap();
        assert_eq!(now().unwrap_err(), Denied::Wrong);
    }
}
