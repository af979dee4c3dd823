//! How long a session may be silent, and how long it may take in all.

use std::time::Duration;

use tokio::time::Instant;

/// How long a client may be silent: RFC 5321 §4.5.3.2.7 wants five minutes at least.
const IDLE_WAIT: Duration = Duration::from_secs(300);
/// Before it has said who it is, it has less: this is where strangers hold connections open. A host that
/// comes with mail says its name at once.
const IDLE_WAIT_BEFORE_LOGIN: Duration = Duration::from_secs(60);
/// How long signing in may take in all: an octet a minute shall not hold a connection for ever.
const LOGIN_WAIT: Duration = Duration::from_secs(180);
/// How long another host may take from its name to its first message, from one message to the next, or to
/// the end of the first: at this rate the largest one still comes through 256 kbit/s.
const STRANGER_WAIT: Duration = Duration::from_secs(3_600);

/// What sessions are waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Waits {
    /// Between two commands, or two pieces of content.
    pub(crate) idle: Duration,
    /// The same of somebody who has not said who it is.
    pub(crate) idle_before_login: Duration,
    /// Until somebody has, in all.
    pub(crate) login: Duration,
    /// Another host, for one message in all.
    pub(crate) stranger: Duration,
}

impl Default for Waits {
    fn default() -> Self {
        Self {
            idle: IDLE_WAIT,
            idle_before_login: IDLE_WAIT_BEFORE_LOGIN,
            login: LOGIN_WAIT,
            stranger: STRANGER_WAIT,
        }
    }
}

/// Who is at the other end, as far as waiting goes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Who {
    /// It has signed in.
    Account,
    /// Another host on port 25: it has said its name, and has been at its present message since then.
    Stranger { since: Instant },
    /// The same where there is little room left: it has the short wait, and while it has begun no message
    /// (`at_work`) no more time in all than who is to sign in.
    Crowd { since: Instant, at_work: bool },
    /// Connected since then, and nothing is known.
    Nobody { since: Instant },
}

impl Waits {
    /// Until when `who`, that was heard last just now, may be silent.
    pub(super) fn until(&self, who: Who, now: Instant) -> Instant {
        match who {
            Who::Account => now + self.idle,
            Who::Stranger { since } => (since + self.stranger).min(now + self.idle),
            Who::Crowd { since, at_work } => {
                let in_all = if at_work { self.stranger } else { self.login };
                (since + in_all).min(now + self.idle_before_login)
            }
            Who::Nobody { since } => (since + self.login).min(now + self.idle_before_login),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds after the beginning until which who was heard last at `now` may be silent.
    fn until(who: impl Fn(Instant) -> Who, now: u64) -> u64 {
        let began = Instant::now();
        let until = Waits::default().until(who(began), began + Duration::from_secs(now));
        until.duration_since(began).as_secs()
    }

    #[test]
    fn each_has_its_time_between_two_words_and_in_all() {
        let nobody = |since| Who::Nobody { since };
        let stranger = |since| Who::Stranger { since };
        assert_eq!(until(nobody, 0), IDLE_WAIT_BEFORE_LOGIN.as_secs());
        assert_eq!(until(nobody, 119), 179);
        assert_eq!(until(nobody, 121), LOGIN_WAIT.as_secs(), "whatever it goes on to say");
        assert_eq!(until(stranger, 0), IDLE_WAIT.as_secs());
        assert_eq!(until(stranger, 3_299), 3_599);
        assert_eq!(until(stranger, 3_301), STRANGER_WAIT.as_secs());
        let crowd = |at_work| move |since| Who::Crowd { since, at_work };
        assert_eq!(until(crowd(false), 0), IDLE_WAIT_BEFORE_LOGIN.as_secs());
        assert_eq!(until(crowd(false), 121), LOGIN_WAIT.as_secs(), "whatever it goes on to say");
        assert_eq!(until(crowd(true), 121), 181);
        assert_eq!(until(crowd(true), 3_541), STRANGER_WAIT.as_secs());
        for now in [0, 3_301, 1_000_000] {
            assert_eq!(until(|_| Who::Account, now), now + IDLE_WAIT.as_secs());
        }
        assert!(IDLE_WAIT >= Duration::from_secs(5 * 60), "RFC 5321 §4.5.3.2.7");
    }

    /// Who is one too many is told to come when the silent ones have ended.
    #[test]
    fn replies_name_the_times_that_hold() {
        let seconds = |wait: Duration| format!("try again in {} seconds", wait.as_secs());
        for (reply, wait) in [
            (smtp::reply::TOO_MANY_CONNECTIONS, IDLE_WAIT_BEFORE_LOGIN),
            (smtp::reply::TOO_MANY_CONNECTIONS_HERE, IDLE_WAIT),
            (smtp::reply::TOO_MANY_SESSIONS, IDLE_WAIT),
        ] {
            assert!(reply.text().ends_with(&seconds(wait)), "{reply}");
        }
    }
}
