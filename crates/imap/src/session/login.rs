//! Signing in: STARTTLS, AUTHENTICATE and LOGIN as a conversation. RFC 3501 §6.2.
//!
//! The words of mechanisms are in `sasl`; what a mechanism computes is the shell's.

use store::AccountId;

use super::framing::Framer;
use super::reading::Line;
use super::{Doing, Place, Session, Step, limits};
use crate::enabled::Enabled;
use crate::refusal::Refusal;
use crate::response::Code;
use crate::sasl::{self, Mechanism, SaslFailure, SaslStep, Secret};

impl Session {
    pub(super) fn start_tls(&mut self, tag: &str) {
        if self.tls {
            self.end(tag, Err(Refusal::bad("TLS is on already")));
        } else {
            self.end(tag, Ok((None, "Begin TLS now")));
            self.pending.clear();
            self.out.push(Step::StartTls);
            self.doing = Doing::Tls;
        }
    }

    pub(super) fn authenticate(&mut self, tag: String, mechanism: &str, initial: Option<Secret>) {
        if !self.may_sign_in(&tag) {
            return;
        }
        let offered =
            |mechanism: &Mechanism| *mechanism != Mechanism::ScramSha256Plus || self.binds;
        match Mechanism::parse(mechanism).filter(offered) {
            Some(mechanism) => self.ask(tag, SaslStep::Start { mechanism, initial }),
            None => {
                let text = "No such mechanism: use PLAIN, LOGIN or SCRAM-SHA-256";
                self.end(&tag, Err(Refusal::no(Code::Cannot, text)));
            }
        }
    }

    /// Whether credentials may be sent now; says why not.
    pub(super) fn may_sign_in(&mut self, tag: &str) -> bool {
        let refusal = if self.is_authenticated() {
            Refusal::bad("Signed in already")
        } else if !self.tls {
            Refusal::no(Code::PrivacyRequired, "TLS first: use STARTTLS, or port 993")
        } else {
            return true;
        };
        self.end(tag, Err(refusal));
        false
    }

    pub(super) fn ask(&mut self, tag: String, step: SaslStep) {
        self.out.push(Step::Sasl(step));
        self.doing = Doing::Sasl { tag };
    }

    pub(super) fn challenge(&mut self, octets: &[u8]) {
        self.send(format!("+ {}\r\n", sasl::encode(octets)).as_bytes());
    }

    pub(super) fn sign_in(&mut self, tag: &str, account: AccountId) {
        if let Some(text) = self.alert.take() {
            self.send(format!("* OK [ALERT] {text}\r\n").as_bytes());
        }
        self.place = Place::Authenticated(account);
        self.framer = Framer::new(true);
        self.bad = 0;
        let list = self.capabilities();
        self.end(tag, Ok((Some(Code::Capability(list)), "Signed in")));
    }

    /// Nobody is signed in any more, and nothing is left of who was: RFC 8437 §3, §4.1.
    pub(super) fn unauthenticate(&mut self, tag: &str) {
        if !self.settings.unauthenticate {
            return self.end(tag, Err(Refusal::bad("No such command: see CAPABILITY")));
        }
        self.end(tag, Ok((None, "UNAUTHENTICATE completed")));
        self.out.push(Step::SignedOut);
        self.place = Place::NotAuthenticated;
        self.framer = Framer::new(false);
        self.enabled = Enabled::default();
        self.watch = None;
        self.notified = false;
        self.changed = false;
        if std::mem::take(&mut self.compressed) {
            // What came compressed behind it is of no use.
            self.pending.clear();
        }
    }

    /// What follows is compressed both ways: RFC 4978 §3.
    pub(super) fn compress(&mut self, tag: &str) {
        if self.compressed {
            let text = "What goes both ways is compressed already";
            return self.end(tag, Err(Refusal::no(Code::CompressionActive, text)));
        }
        self.end(tag, Ok((None, "DEFLATE active")));
        self.compressed = true;
        // A client waits for the answer; what came with the command cannot be told apart.
        self.pending.clear();
        self.out.push(Step::Compress);
    }

    pub(super) fn refuse_login(&mut self, tag: &str, failure: SaslFailure) {
        let refusal = match failure {
            SaslFailure::Credentials => {
                Refusal::no(Code::AuthenticationFailed, "User name or password not right")
            }
            SaslFailure::Malformed => Refusal::bad("Not a response of this mechanism"),
            SaslFailure::Suspended => {
                Refusal::no(Code::ContactAdmin, "The account is suspended: ask your provider")
            }
            SaslFailure::TooMany => {
                Refusal::no(Code::Limit, "Too many connections or attempts: try again later")
            }
            SaslFailure::Unavailable => {
                Refusal::no(Code::Unavailable, "Sign-in is not available: try again later")
            }
        };
        let counts = !matches!(failure, SaslFailure::Unavailable);
        self.end(tag, Err(refusal));
        self.login_failures += u32::from(counts);
        if self.login_failures >= limits::LOGIN_FAILURES_MAX {
            self.close("Too many failed attempts: connect again later");
        }
    }

    pub(super) fn read_response(&mut self, tag: String, mut line: Vec<u8>) -> bool {
        match self.line(&mut line) {
            None => {
                self.doing = Doing::SaslLine { tag, line };
                return false;
            }
            Some(Line::TooLong) => {
                self.out.push(Step::Sasl(SaslStep::Abort));
                self.close("The response is too long");
                return false;
            }
            Some(Line::Whole(response)) if response == b"*" => {
                self.out.push(Step::Sasl(SaslStep::Abort));
                self.end(&tag, Err(Refusal::bad("AUTHENTICATE was cancelled")));
            }
            Some(Line::Whole(response)) => match sasl::decode(&response) {
                Some(octets) => {
                    self.ask(tag, SaslStep::Response(Secret(octets)));
                    return false;
                }
                None => {
                    self.out.push(Step::Sasl(SaslStep::Abort));
                    self.end(&tag, Err(Refusal::bad("The response is not base64")));
                }
            },
        }
        true
    }

    pub(super) fn read_last(&mut self, tag: String, mut line: Vec<u8>, account: AccountId) -> bool {
        match self.line(&mut line) {
            None => {
                self.doing = Doing::SaslLast { tag, line, account };
                return false;
            }
            Some(Line::Whole(response)) if response.is_empty() => self.sign_in(&tag, account),
            Some(Line::Whole(_)) => {
                self.end(&tag, Err(Refusal::bad("AUTHENTICATE was cancelled")));
            }
            Some(Line::TooLong) => {
                self.close("The response is too long");
                return false;
            }
        }
        true
    }
}
