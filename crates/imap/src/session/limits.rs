//! The bounds of a session, each with its reason. Tests go one past each.

use std::time::Duration;

/// Octets of a command's line at most, and of each of its lines between literals. Clients send long
/// UID sets: other servers take as much.
pub const LINE_OCTETS_MAX: usize = 64 * 1024;
/// The same before login, where no command is long.
pub const LINE_OCTETS_MAX_BEFORE_LOGIN: usize = 8 * 1024;
/// Octets of all literals of one command, the message of an APPEND aside.
pub const LITERAL_OCTETS_MAX: usize = 128 * 1024;
/// The same before login, in LOGIN, AUTHENTICATE and ID: a user name and a password, or what a client says of
/// itself. No other command may have one then.
pub const LITERAL_OCTETS_MAX_BEFORE_LOGIN: usize = 4 * 1024;
/// Octets of a refused command that are read and dropped before the connection ends instead.
pub const DISCARD_OCTETS_MAX: usize = 1024 * 1024;
/// Octets of a refused message that are read and dropped, beyond those of one that is not refused; and of all
/// those messages of an APPEND that are past what one command takes.
pub const DISCARD_MESSAGE_OCTETS_MAX: u64 = 64 * 1024 * 1024;
/// Messages that one COPY or APPEND adds at most: they are one commit, while which no other is made, and
/// this many take a second or two. Announced as SAVELIMIT, which RFC 9738 §3 would not have below 1,000.
pub const SAVED_MESSAGES_MAX: u64 = 100_000;
/// Messages that one command looks at at most, of those that name messages: what a client that asks for a
/// whole mailbox keeps busy has an end, and no mailbox that people read comes near it. Announced as
/// MESSAGELIMIT; the configuration may have it lower.
pub const COMMAND_MESSAGES_MAX: u64 = 1_000_000;
/// The lowest that it may be: RFC 9738 §3.
pub const COMMAND_MESSAGES_LEAST: u64 = 1_000;
/// Octets that the messages of one APPEND weigh at most: each takes memory until all are there, and a long
/// one a file.
pub const APPEND_WEIGHT_MAX: u64 = 25 * 1024 * 1024;
/// What a message weighs at least: what is known of it.
pub const APPEND_WEIGHT_LEAST: u64 = 256;
/// What a message weighs at most: the rest of it is in a file.
pub const APPEND_WEIGHT_MOST: u64 = 256 * 1024;
/// Octets that wait to be looked at before the session wants no more; see
/// [`Session::wants_octets`](super::Session::wants_octets).
pub const PENDING_OCTETS_MAX: usize = 64 * 1024;
/// Octets that wait at most, when the shell does not ask first: then the connection ends.
pub const PENDING_OCTETS_LIMIT: usize = 1024 * 1024;
/// Octets of answers that wait to be sent before the next command is read, of those that a client sends ahead:
/// some commands are answered at fifty times their length. One answer more can be there, and a job's.
pub const QUEUED_OCTETS_MAX: usize = 64 * 1024;
/// Commands in a row that are none: then the connection ends. A program that speaks something else
/// is told early, and one that is only a little wrong is not.
pub const BAD_COMMANDS_MAX: u32 = 25;
/// How long the jobs of one command may be at work, waiting aside, before it is refused between two of them:
/// SEARCH, SORT, THREAD, and a FETCH that only measures. They can take long and answer little; what other
/// commands take goes with what they tell or change. A search of some gigabytes of texts takes less.
pub const WORK_TIME_MAX: Duration = Duration::from_secs(120);
/// Octets of memory that SORT or THREAD take for the messages that they put in order, with what these are ordered
/// by: as much as some hundred thousand usual messages. A command that begins has a place for so much, so that
/// sessions take no more together than there are places: see [`Job::keeps_octets`](crate::Job::keeps_octets).
pub const ORDER_OCTETS_MAX: usize = 128 * 1024 * 1024;
/// Failed logins of one connection: then it ends.
pub const LOGIN_FAILURES_MAX: u32 = 5;
/// Octets of an APPENDed message that are gathered before they are written.
pub const SPOOL_OCTETS: usize = 128 * 1024;
