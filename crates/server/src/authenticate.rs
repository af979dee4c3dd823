//! What the owner of a domain says of mail that names it: SPF (RFC 7208), DKIM (RFC 6376), DMARC
//! (RFC 7489) and ARC (RFC 8617), asked of mail that is not certified.
//!
//! What they say is written down as an `Authentication-Results` field (RFC 8601) and in the log
//! record. Refused is only what the owner of the domain wants refused, and in words that say what
//! to mend. When no answer comes, nothing is refused for that (RFC 7208 §8.6 leaves the choice).

use std::net::IpAddr;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use mail::{Message, ReversePath};

use mail_auth::dmarc::Policy;
use mail_auth::dmarc::verify::DmarcParameters;
use mail_auth::spf::verify::SpfParameters;
use mail_auth::{
    ArcOutput, AuthenticatedMessage, AuthenticationResults, DkimOutput, DkimResult, DmarcOutput,
    DmarcResult, MessageAuthenticator, SpfOutput, SpfResult,
};
use smtp::{Reply, Status};
use tokio::sync::Semaphore;

use crate::config::{Authentication, Refuse};
use crate::flow::reception::Authenticated;

/// All questions of one message together: RFC 7208 §4.6.4 wants 20 seconds at least for SPF alone,
/// and a client waits ten minutes for the end of data (RFC 5321 §4.5.3.2.6).
const ANSWERS_WAIT: Duration = Duration::from_secs(30);
/// Messages at once whose domains are being asked about: each holds one of the runtime's threads for
/// blocking work while a name server thinks, and users need those too.
const ASKING_MAX: usize = 64;
static ASKING: Semaphore = Semaphore::const_new(ASKING_MAX);
/// KiB of those messages together, each in memory meanwhile: a name server that does not answer shall
/// not hold more of what strangers have room for (`memory.rs`), or certified mail would wait for it.
/// A larger message is asked about alone.
const ASKING_KIB_MAX: u32 = 64 * 1024;
static ASKING_KIB: Semaphore = Semaphore::const_new(ASKING_KIB_MAX as usize);
/// Signatures of DKIM in a message at most: each costs a question and a hash of the whole body
/// (RFC 6376 §6.1 lets a verifier set a limit).
const DKIM_SIGNATURES_MAX: usize = 10;
/// Sets of ARC in a message at most; RFC 8617 §4.2.1 has 50 as the most there can be.
const ARC_SETS_MAX: usize = 10;
/// Addresses in `From` at most.
const AUTHORS_MAX: usize = 10;

/// Whence a message came, as far as it matters here.
pub(crate) struct Origin {
    pub(crate) peer: IpAddr,
    pub(crate) hello: String,
    pub(crate) reverse_path: ReversePath,
    /// Our own name.
    pub(crate) host: String,
}

/// Asks, and decides. Blocks, on a thread of the runtime's where that is allowed.
///
/// # Errors
///
/// What the client is told instead of `250`.
pub(crate) fn authenticate(
    resolver: TokioResolver,
    policy: &Authentication,
    origin: &Origin,
    message: &[u8],
) -> Result<Authenticated, Reply> {
    authenticate_within(ANSWERS_WAIT, resolver, policy, origin, message)
}

fn authenticate_within(
    wait: Duration,
    resolver: TokioResolver,
    policy: &Authentication,
    origin: &Origin,
    message: &[u8],
) -> Result<Authenticated, Reply> {
    let Ok(_turn) = ASKING.try_acquire() else { return Err(smtp::reply::DNS_BUSY) };
    let kib = u32::try_from(message.len() / 1024).unwrap_or(u32::MAX).saturating_add(1);
    let room = ASKING_KIB.try_acquire_many(kib.min(ASKING_KIB_MAX));
    let Ok(_room) = room else { return Err(smtp::reply::DNS_BUSY) };
    let asking = MessageAuthenticator(resolver);
    let Ok(runtime) = tokio::runtime::Handle::try_current() else {
        return Err(smtp::reply::LOCAL_ERROR);
    };
    let verdict = runtime.block_on(async {
        tokio::time::timeout(wait, ask(&asking, policy, origin, message)).await
    });
    match verdict {
        Ok(verdict) => verdict,
        // An outage of the DNS is nobody's fault that a sender could mend.
        Err(_) => Ok(Authenticated {
            results: format!("{}; spf=temperror; dkim=temperror; dmarc=temperror", origin.host),
            vouched: false,
        }),
    }
}

async fn ask(
    asking: &MessageAuthenticator,
    policy: &Authentication,
    origin: &Origin,
    message: &[u8],
) -> Result<Authenticated, Reply> {
    let sender = match &origin.reverse_path {
        ReversePath::Null => String::new(),
        ReversePath::Address(address) => address.to_string(),
    };
    // RFC 7208 §2.4: of nobody's mail the host's own name is asked.
    let spf = asking
        .verify_spf(if sender.is_empty() {
            SpfParameters::verify_ehlo(origin.peer, &origin.hello, &origin.host)
        } else {
            SpfParameters::verify_mail_from(origin.peer, &origin.hello, &origin.host, &sender)
        })
        .await;
    let spf_domain = sender.rsplit_once('@').map_or(origin.hello.as_str(), |(_, domain)| domain);
    if spf.result() == SpfResult::Fail && policy.spf == Refuse::Yes {
        return Err(failed_spf(spf_domain, origin.peer));
    }
    let results = AuthenticationResults::new(&origin.host);
    let results = match sender.is_empty() {
        true => results.with_spf_ehlo_result(&spf, origin.peer, &origin.hello),
        false => results.with_spf_mailfrom_result(&spf, origin.peer, &sender, &origin.hello),
    };
    let parsed = is_bounded(message).then(|| AuthenticatedMessage::parse(message)).flatten();
    let Some(parsed) = parsed else {
        let results = format!("{results}; dkim=policy; dmarc=permerror");
        return Ok(Authenticated { results, vouched: is_vouched(&sender, &spf, &[]) });
    };
    let dkim = asking.verify_dkim(&parsed).await;
    let arc = asking.verify_arc(&parsed).await;
    let dmarc = asking.verify_dmarc(DmarcParameters::new(&parsed, &dkim, spf_domain, &spf)).await;
    if policy.dmarc == Refuse::Yes && is_to_be_refused(&dmarc, &dkim, &spf) {
        return Err(failed_dmarc(dmarc.domain()));
    }
    let results = match dkim.is_empty() {
        true => format!("{results};\r\n\tdkim=none"),
        false => results.with_dkim_results(&dkim, parsed.from()).to_string(),
    };
    let arc = in_three_words(arc);
    let rest = AuthenticationResults::new("").with_arc_result(&arc, origin.peer);
    let results = format!("{results}{}", rest.with_dmarc_result(&dmarc));
    // A signature says who wrote, and anybody can bring what was signed with another reverse-path.
    let signed = match parsed.from().eq_ignore_ascii_case(&sender) {
        true => &dkim[..],
        false => &[],
    };
    Ok(Authenticated { results, vouched: is_vouched(&sender, &spf, signed) })
}

/// A chain holds, does not, or is not there (RFC 8617 §4.4); or a question had no answer.
fn in_three_words(arc: ArcOutput<'_>) -> ArcOutput<'_> {
    match arc.result().clone() {
        DkimResult::Neutral(why) | DkimResult::PermError(why) => {
            arc.with_result(DkimResult::Fail(why))
        }
        _ => arc,
    }
}

/// Whether the domain of the reverse-path vouches for the message: by the host that brought it, or by
/// a signature of its own or of a domain above it, on a message that the reverse-path wrote.
fn is_vouched(sender: &str, spf: &SpfOutput, dkim: &[DkimOutput<'_>]) -> bool {
    let Some((_, domain)) = sender.rsplit_once('@') else { return false };
    let signed = dkim.iter().filter(|one| *one.result() == DkimResult::Pass);
    let mut signers = signed.filter_map(|one| one.signature());
    spf.result() == SpfResult::Pass || signers.any(|signature| is_of(domain, &signature.d))
}

/// Whether who signs as `signer` answers for `domain`: the same, or one above it that is no top-level
/// domain (RFC 7489 §3.1.1 has the relaxed alignment).
fn is_of(domain: &str, signer: &str) -> bool {
    let (domain, signer) = (domain.to_ascii_lowercase(), signer.to_ascii_lowercase());
    let above = domain.strip_suffix(&signer).is_some_and(|rest| rest.ends_with('.'));
    domain == signer || (above && signer.contains('.'))
}

/// Whether there are no more signatures than are looked at.
fn is_bounded(message: &[u8]) -> bool {
    let message = Message::lenient(message);
    let bounded = |name: &str, max: usize| message.all(name).nth(max).is_none();
    bounded("DKIM-Signature", DKIM_SIGNATURES_MAX)
        && ["ARC-Seal", "ARC-Message-Signature", "ARC-Authentication-Results"]
            .into_iter()
            .all(|name| bounded(name, ARC_SETS_MAX))
        && bounded("From", 1)
        && message
            .field("From")
            .is_none_or(|from| from.addresses().is_ok_and(|all| all.len() <= AUTHORS_MAX))
}

/// Both ways failed, the domain asks for refusal, and no answer is outstanding that could have
/// changed it.
fn is_to_be_refused(dmarc: &DmarcOutput, dkim: &[DkimOutput<'_>], spf: &SpfOutput) -> bool {
    let passed = |result: &DmarcResult| *result == DmarcResult::Pass;
    let pending = |result: &DmarcResult| matches!(result, DmarcResult::TempError(_));
    let both = [dmarc.spf_result(), dmarc.dkim_result()];
    dmarc.policy() == Policy::Reject
        && !both.into_iter().any(passed)
        && !both.into_iter().any(pending)
        && spf.result() != SpfResult::TempError
        && !dkim.iter().any(|one| matches!(one.result(), DkimResult::TempError(_)))
}

/// RFC 7372 §3.2 has the code.
fn failed_spf(domain: &str, peer: IpAddr) -> Reply {
    Reply::refusal(
        550,
        Status(5, 7, 23),
        &format!(
            "Recipient address rejected: Failed SPF check for {domain}: {peer} is not permitted; \
             add it to the SPF record or send through a host that the record names"
        ),
    )
}

/// RFC 7372 §3.4.
fn failed_dmarc(domain: &str) -> Reply {
    Reply::refusal(
        550,
        Status(5, 7, 26),
        &format!(
            "Recipient address rejected: Failed DMARC check for {domain}: neither SPF nor DKIM \
             vouches for it; sign as {domain} or send through a host that its SPF record names"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What there is of both kinds at once, in their two tests one after the other.
    static ONE_TEST: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

    fn origin() -> Origin {
        Origin {
            peer: [192, 0, 2, 1].into(),
            hello: "a.example".to_owned(),
            reverse_path: ReversePath::Null,
            host: "pec.example".to_owned(),
        }
    }

    /// A name server that answers nothing takes no longer than the wait, and costs nobody his message.
    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn without_an_answer_in_time_a_message_is_taken_and_nothing_is_said_for_it() {
        let _alone = ONE_TEST.lock().await;
        assert_eq!(ANSWERS_WAIT.as_secs(), 30);
        let mute = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let resolver = crate::dns::resolver(&[mute.local_addr().unwrap()]).unwrap();
        let asked = tokio::task::spawn_blocking(move || {
            let (policy, wait) = (Authentication::default(), Duration::from_millis(100));
            let began = std::time::Instant::now();
            let message = b"From: a@b.example\r\n\r\n";
            let taken = authenticate_within(wait, resolver, &policy, &origin(), message);
            (taken, began.elapsed())
        });
        let (taken, took) = asked.await.unwrap();
        let Ok(Authenticated { results, vouched }) = taken else { panic!("it is refused") };
        assert_eq!(results, "pec.example; spf=temperror; dkim=temperror; dmarc=temperror");
        assert!(!vouched && took < Duration::from_secs(3), "{took:?}");
    }

    fn put_off() -> Result<Authenticated, Reply> {
        let resolver = crate::dns::resolver(&["127.0.0.1:9".parse().unwrap()]).unwrap();
        let origin = origin();
        let policy = Authentication::default();
        authenticate(resolver, &policy, &origin, b"From: a@b.example\r\n\r\n")
    }

    #[tokio::test]
    async fn one_message_past_those_that_are_asked_about_is_put_off() {
        let _alone = ONE_TEST.lock().await;
        let _held = ASKING.try_acquire_many(ASKING_MAX as u32).unwrap();
        assert_eq!(put_off().unwrap_err(), smtp::reply::DNS_BUSY);
    }

    #[tokio::test]
    async fn one_octet_past_the_messages_that_are_asked_about_is_put_off() {
        let _alone = ONE_TEST.lock().await;
        let _held = ASKING_KIB.try_acquire_many(ASKING_KIB_MAX).unwrap();
        assert_eq!(put_off().unwrap_err(), smtp::reply::DNS_BUSY);
    }

    /// A name server that knows one text, under this name: to every other question there is nothing.
    fn name_server(name: &'static str, text: String) -> std::net::SocketAddr {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut question = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut question) {
                // RFC 1035 §4.1: the header, the question again, the answer.
                let (mut asked, mut end) = (String::new(), 12);
                while question[end] != 0 {
                    let next = end + 1 + usize::from(question[end]);
                    asked +=
                        &(String::from_utf8_lossy(&question[end + 1..next]).to_lowercase() + ".");
                    end = next;
                }
                let is_known = asked.trim_end_matches('.') == name && question[end + 2] == 16;
                let (code, count) = if is_known { (0, 1) } else { (3, 0) };
                let mut answer = question[..2].to_vec();
                answer.extend([0x84, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0]);
                answer.extend_from_slice(&question[12..end + 5]);
                if is_known {
                    let strings = text.as_bytes().chunks(255);
                    let data: Vec<u8> = strings
                        .flat_map(|string| {
                            [&[u8::try_from(string.len()).unwrap()], string].concat()
                        })
                        .collect();
                    answer.extend([0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 60]);
                    answer.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
                    answer.extend(data);
                }
                assert!(length > end);
                // Who asked may be gone.
                let _ = socket.send_to(&answer, from);
            }
        });
        address
    }

    /// Anybody can bring what somebody else signed, and name a third as who sends it: a report would go to
    /// who never wrote.
    #[tokio::test]
    async fn a_signature_vouches_for_a_reverse_path_that_is_the_author_and_for_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let now = store::Timestamp::now();
        let (_, pem) = crypto::Authority::new("Chiave", now).unwrap().to_pem().unwrap();
        let key = folder.path().join("dkim.key");
        std::fs::write(&key, pem.as_str()).unwrap();
        let public = crypto::LocalSigner::from_pem(pem.as_bytes()).unwrap().public_key_der();
        let public = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, public.unwrap());
        let record = format!("v=DKIM1; k=rsa; p={public}");
        let server = name_server("s1._domainkey.ordinaria.example", record);
        let resolver = crate::dns::resolver(&[server]).unwrap();
        let message = "From: Info <info@ordinaria.example>\r\nTo: b@pec.example\r\nSubject: ciao\r\n\
            Date: Mon, 2 Mar 2026 09:00:00 +0100\r\nMessage-ID: <1@ordinaria.example>\r\n\r\nciao\r\n";
        let dkim = crate::transport::DkimKey { selector: "s1".to_owned(), key };
        let signed =
            crate::transport::sign(&dkim, "ordinaria.example", message.as_bytes()).unwrap();
        let signed = signed + message;
        for (reverse_path, vouched) in [
            ("info@ordinaria.example", true),
            ("INFO@Ordinaria.example", true),
            ("altri@ordinaria.example", false),
            ("info@posta.ordinaria.example", false),
            ("vittima@altrove.example", false),
        ] {
            let address = mail::Address::parse(reverse_path).unwrap();
            let origin = Origin {
                peer: [192, 0, 2, 1].into(),
                hello: "a.example".to_owned(),
                reverse_path: ReversePath::Address(address),
                host: "pec.example".to_owned(),
            };
            let asking = MessageAuthenticator(resolver.clone());
            let policy = Authentication::default();
            let asked = ask(&asking, &policy, &origin, signed.as_bytes()).await.unwrap();
            assert!(asked.results.contains("dkim=pass"), "{}", asked.results);
            assert_eq!(asked.vouched, vouched, "{reverse_path}");
        }
    }

    #[test]
    fn a_signature_vouches_for_its_own_domain_and_those_below_it() {
        for (domain, signer, is) in [
            ("ordinaria.example", "ordinaria.example", true),
            ("Ordinaria.Example", "ordinaria.EXAMPLE", true),
            ("posta.ordinaria.example", "ordinaria.example", true),
            ("ordinaria.example", "posta.ordinaria.example", false),
            ("straordinaria.example", "ordinaria.example", false),
            ("ordinaria.example", "example", false),
            ("ordinaria.example", "", false),
        ] {
            assert_eq!(is_of(domain, signer), is, "{signer} for {domain}");
        }
    }

    #[test]
    fn one_signature_or_author_past_the_bound_is_not_looked_into() {
        let message = |name: &str, count: usize| format!("{name}: a@b.example\r\n").repeat(count);
        for (name, max) in [
            ("DKIM-Signature", DKIM_SIGNATURES_MAX),
            ("ARC-Seal", ARC_SETS_MAX),
            ("ARC-Message-Signature", ARC_SETS_MAX),
            ("ARC-Authentication-Results", ARC_SETS_MAX),
            ("From", 1),
        ] {
            assert!(is_bounded(message(name, max).as_bytes()), "{name}");
            assert!(!is_bounded(message(name, max + 1).as_bytes()), "{name}");
        }
        let authors = |count: usize| format!("From: {}\r\n", vec!["a@b.example"; count].join(", "));
        assert!(is_bounded(authors(AUTHORS_MAX).as_bytes()));
        assert!(!is_bounded(authors(AUTHORS_MAX + 1).as_bytes()));
    }
}
