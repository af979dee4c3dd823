//! Every reply that is ever sent. A text says what to do.
//!
//! Codes: RFC 5321 §4.2.3; enhanced status codes: RFC 3463 and its registry, carried by every
//! 2xx, 4xx and 5xx reply save the greeting and the answers to HELO and EHLO (RFC 2034 §4).
//! Only EHLO's answer has more than one line, and it is written by the session.

use std::borrow::Cow;
use std::fmt;

/// Octets of a reply line at most, with its CRLF: RFC 5321 §4.5.3.1.5.
pub const REPLY_LINE_OCTETS_MAX: usize = 512;
/// Octets of the one variable part of a reply at most, so that the line stays within its limit.
const VARIABLE_OCTETS_MAX: usize = 320;

/// An enhanced status code: class, subject, detail (RFC 3463 §2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status(pub u8, pub u16, pub u16);

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// One reply of one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    code: u16,
    status: Option<Status>,
    text: Cow<'static, str>,
}

impl Reply {
    /// The two codes agree in class (RFC 2034 §4), or a constant made of them does not compile.
    pub const fn new(code: u16, status: Status, text: &'static str) -> Self {
        assert!(code / 100 == status.0 as u16);
        Self { code, status: Some(status), text: Cow::Borrowed(text) }
    }

    /// A reply that never carries an enhanced status code: greeting, HELO, 3xx.
    const fn plain(code: u16, text: &'static str) -> Self {
        Self { code, status: None, text: Cow::Borrowed(text) }
    }

    /// With one variable part; whatever could end the line early does not pass.
    fn variable(code: u16, status: Option<Status>, before: &str, part: &str, after: &str) -> Self {
        let part = part.chars().map(|c| if matches!(c, ' '..='~') { c } else { '?' });
        let part: String = part.take(VARIABLE_OCTETS_MAX).collect();
        Self { code, status, text: Cow::Owned(format!("{before}{part}{after}")) }
    }

    /// `220`: a new connection.
    pub fn greeting(host: &str) -> Self {
        Self::variable(220, None, "", host, " ESMTP ceralacca")
    }

    /// `250` to HELO.
    pub(crate) fn helo(host: &str) -> Self {
        Self::variable(250, None, "", host, "")
    }

    /// `250` to the end of data: the message is ours, and `id` is how to ask about it.
    pub fn accepted(id: &str) -> Self {
        Self::variable(250, Some(Status(2, 0, 0)), "Accepted as ", id, "")
    }

    /// `250` to a chunk that is not the last: RFC 3030 §2.
    pub(crate) fn chunk(octets: u64) -> Self {
        Self::variable(250, Some(Status(2, 0, 0)), "", &octets.to_string(), " octets received")
    }

    /// A refusal of ordinary mail, or one that names a limit: `part` is the shell's to choose.
    pub fn refusal(code: u16, status: Status, part: &str) -> Self {
        // Never a yes, and never codes that disagree (RFC 2034 §4).
        match code / 100 {
            4 | 5 if code / 100 == u16::from(status.0) => {
                Self::variable(code, Some(status), "", part, "")
            }
            _ => LOCAL_ERROR,
        }
    }

    /// `454`: failed logins of this account or network are too many, and none is looked at for so
    /// many seconds.
    pub fn auth_later(secs: u64) -> Self {
        let status = Some(Status(4, 7, 0));
        let (before, after) = ("Too many failed logins: try again in ", " seconds");
        Self::variable(454, status, before, &secs.to_string(), after)
    }

    /// `334` with a challenge in base64; a challenge of nothing keeps its space, RFC 4954 §4.
    pub(crate) fn challenge(octets: &[u8]) -> Self {
        Self { code: 334, status: None, text: Cow::Owned(crate::sasl::encode(octets)) }
    }

    /// The three digits.
    pub const fn code(&self) -> u16 {
        self.code
    }

    /// The enhanced status code, where there is one.
    pub const fn status(&self) -> Option<Status> {
        self.status
    }

    /// What follows the codes.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it says no: 4xx or 5xx.
    pub const fn is_refusal(&self) -> bool {
        self.code >= 400
    }

    /// Whether the connection ends with it: RFC 5321 §3.8.
    pub const fn closes(&self) -> bool {
        self.code == 421
    }

    /// The line as it is sent, CRLF included. The shell needs it where there is no session yet,
    /// for [`TOO_MANY_CONNECTIONS`].
    pub fn to_octets(&self) -> Vec<u8> {
        format!("{self}\r\n").into_bytes()
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            Some(status) => write!(f, "{} {status} {}", self.code, self.text),
            None => write!(f, "{} {}", self.code, self.text),
        }
    }
}

// What the session itself says.
/// To QUIT.
pub const QUIT: Reply = Reply::new(221, Status(2, 0, 0), "Closing, goodbye");
/// To STARTTLS: the handshake follows.
pub const STARTTLS: Reply = Reply::new(220, Status(2, 0, 0), "Ready to start TLS");
/// To HELP.
pub const HELP: Reply = Reply::new(
    214,
    Status(2, 0, 0),
    "Commands: EHLO HELO STARTTLS AUTH MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT",
);
/// The end of a good AUTH exchange.
pub const AUTHENTICATED: Reply = Reply::new(235, Status(2, 7, 0), "Authentication succeeded");
/// To NOOP and RSET.
pub const DONE: Reply = Reply::new(250, Status(2, 0, 0), "Done");
/// To MAIL.
pub const SENDER_OK: Reply = Reply::new(250, Status(2, 1, 0), "Sender accepted");
/// To RCPT.
pub const RECIPIENT_OK: Reply = Reply::new(250, Status(2, 1, 5), "Recipient accepted");
/// To VRFY: RFC 5321 §3.5.3 lets a server keep its users to itself.
pub const VRFY: Reply =
    Reply::new(252, Status(2, 0, 0), "Cannot verify, but will take a message and try: send RCPT");
/// To DATA.
pub const START_INPUT: Reply = Reply::plain(354, "Send the message, end it with <CRLF>.<CRLF>");

// Ends of a connection: 421, then it is closed (RFC 5321 §3.8).
/// The shell ran out of patience.
pub const IDLE: Reply =
    Reply::new(421, Status(4, 4, 2), "Idle for too long, closing: connect again");
/// A graceful stop.
pub const STOPPING: Reply =
    Reply::new(421, Status(4, 3, 2), "This server is stopping: try again later");
/// Suspended, removed or given another password while it was signed in.
pub const ACCOUNT_CHANGED: Reply =
    Reply::new(421, Status(4, 7, 0), "Your account was changed, closing: sign in again");
/// After [`ERRORS_MAX`](crate::server::ERRORS_MAX) of them.
pub const TOO_MANY_ERRORS: Reply =
    Reply::new(421, Status(4, 7, 0), "Too many bad commands, closing");
/// After [`LOGINS_MAX`](crate::server::LOGINS_MAX) failures.
pub const TOO_MANY_LOGINS: Reply = Reply::new(
    421,
    Status(4, 7, 0),
    "Too many failed logins, closing: check user name and password",
);
/// The peer, or a shell that reads on, does not heed the limit of what waits.
pub const TOO_FAST: Reply =
    Reply::new(421, Status(4, 5, 0), "Wait for the replies before you send more, closing");
/// After [`BARE_CR`], [`BARE_LF`] or [`NUL`]: the two sides may not agree where messages end.
pub const FRAMING_IN_DOUBT: Reply =
    Reply::new(421, Status(4, 7, 0), "What follows such a message cannot be trusted, closing");
/// Instead of a greeting, when there are as many connections as there may be. Where there is so little
/// room, those that say nothing end by themselves after a minute.
pub const TOO_MANY_CONNECTIONS: Reply = Reply::new(
    421,
    Status(4, 7, 0),
    "Too many connections: close some, or try again in 60 seconds",
);
/// The same, of those from one address: while there is room for others, those of another host that say
/// nothing end by themselves after five minutes.
pub const TOO_MANY_CONNECTIONS_HERE: Reply = Reply::new(
    421,
    Status(4, 7, 0),
    "Too many connections from your address: close some, or try again in 300 seconds",
);

// Commands that are wrong in themselves.
/// No such verb.
pub const UNKNOWN_COMMAND: Reply =
    Reply::new(500, Status(5, 5, 2), "Command not recognized: see HELP");
/// RFC 5321 §4.5.3.1.4.
pub const LINE_TOO_LONG: Reply =
    Reply::new(500, Status(5, 5, 2), "Command line too long: at most 512 octets");
/// RFC 4954 §4.
pub const AUTH_LINE_TOO_LONG: Reply =
    Reply::new(500, Status(5, 5, 6), "Authentication line too long: at most 12288 octets");
/// RFC 5321 §2.3.8: only CRLF ends a line.
pub const BARE_LINE_END: Reply =
    Reply::new(500, Status(5, 5, 2), "Bare CR, LF or NUL in a command: end each line with CRLF");
/// Known verb, bad arguments.
pub const BAD_SYNTAX: Reply =
    Reply::new(501, Status(5, 5, 4), "Syntax error in the arguments: see RFC 5321 section 4.1");
/// What follows is a chunk of nobody knows what length, so the connection ends: RFC 3030 §2.
pub const BAD_CHUNK: Reply = Reply::new(
    501,
    Status(5, 5, 4),
    "Syntax error: BDAT, the octets of the chunk, and LAST or not",
);
/// RSET, DATA, QUIT and STARTTLS stand alone.
pub const NO_ARGUMENTS: Reply = Reply::new(501, Status(5, 5, 4), "This command takes no arguments");
/// EHLO or HELO without a name.
pub const NO_HELLO_NAME: Reply =
    Reply::new(501, Status(5, 5, 4), "Say who you are: EHLO your.host.name");
/// The reverse-path does not parse.
pub const BAD_SENDER: Reply =
    Reply::new(501, Status(5, 1, 7), "Bad sender address: MAIL FROM:<local-part@domain>");
/// The forward-path does not parse.
pub const BAD_RECIPIENT: Reply =
    Reply::new(501, Status(5, 1, 3), "Bad recipient address: RCPT TO:<local-part@domain>");
/// RFC 6531 §3.5: what MAIL is told; RCPT, in a transaction that did not say SMTPUTF8, [`ADDRESS_NOT_ASCII`].
pub const SENDER_NOT_ASCII: Reply = Reply::new(
    550,
    Status(5, 6, 7),
    "Address beyond ASCII: say SMTPUTF8 in MAIL, where EHLO announced it",
);
/// RFC 6531 §3.5, whatever was said.
pub const SENDER_LOCAL_PART_NOT_ASCII: Reply =
    Reply::new(550, Status(5, 6, 7), "What an address has before its @ must be ASCII here");
/// RFC 6531 §3.5, in a transaction that did not say SMTPUTF8.
pub const ADDRESS_NOT_ASCII: Reply = Reply::new(
    553,
    Status(5, 6, 7),
    "Address beyond ASCII: say SMTPUTF8 in MAIL, where EHLO announced it",
);
/// RFC 6531 §3.5, whatever was said.
pub const LOCAL_PART_NOT_ASCII: Reply =
    Reply::new(553, Status(5, 6, 7), "What an address has before its @ must be ASCII here");
/// Verbs we know and do not do.
pub const NOT_IMPLEMENTED: Reply = Reply::new(502, Status(5, 5, 1), "Command not implemented");
/// RFC 5321 §4.1.1.11.
pub const UNKNOWN_PARAMETER: Reply =
    Reply::new(555, Status(5, 5, 4), "Parameter not supported: use those that EHLO announced");
/// To the verbs of HTTP: a browser that was tricked into talking to us.
pub const NOT_SMTP: Reply = Reply::new(421, Status(4, 7, 0), "This is an SMTP server, closing");

// Commands at the wrong time.
/// MAIL or AUTH before EHLO, RFC 5321 §4.1.4.
pub const HELLO_FIRST: Reply = Reply::new(503, Status(5, 5, 1), "Send EHLO first");
/// A second MAIL, RFC 5321 §4.1.4.
pub const NESTED_MAIL: Reply =
    Reply::new(503, Status(5, 5, 1), "A transaction is open: finish it or send RSET");
/// RCPT or DATA without a transaction.
pub const MAIL_FIRST: Reply = Reply::new(503, Status(5, 5, 1), "Send MAIL first");
/// RCPT or DATA after BDAT, RFC 3030 §2.
pub const CHUNKS_BEGUN: Reply =
    Reply::new(503, Status(5, 5, 1), "The message comes in chunks: go on with BDAT or send RSET");
/// DATA or BDAT when no RCPT was accepted.
pub const NO_RECIPIENTS: Reply =
    Reply::new(554, Status(5, 5, 1), "No valid recipients: send RCPT first");
/// RFC 3207 §4.
pub const TLS_FIRST: Reply =
    Reply::new(530, Status(5, 7, 0), "Must issue a STARTTLS command first");
/// RFC 4954 §6.
pub const AUTH_FIRST: Reply =
    Reply::new(530, Status(5, 7, 0), "Authentication required: send AUTH first");
/// A second STARTTLS.
pub const ALREADY_TLS: Reply = Reply::new(503, Status(5, 5, 1), "TLS is active already");
/// RFC 3207 §4: what was said in clear is forgotten, so nothing may have been accepted.
pub const TLS_BEFORE_MAIL: Reply =
    Reply::new(503, Status(5, 5, 1), "A transaction is open: send STARTTLS before MAIL");
/// RFC 4954 §6.
pub const AUTH_NEEDS_TLS: Reply =
    Reply::new(538, Status(5, 7, 11), "Encryption required: send STARTTLS before AUTH");
/// RFC 4954 §4.
pub const ALREADY_AUTHENTICATED: Reply = Reply::new(503, Status(5, 5, 1), "Authenticated already");
/// RFC 4954 §4.
pub const AUTH_IN_TRANSACTION: Reply =
    Reply::new(503, Status(5, 5, 1), "A transaction is open: send AUTH before MAIL");
/// RFC 4954 §4.
pub const UNKNOWN_MECHANISM: Reply =
    Reply::new(504, Status(5, 5, 4), "Mechanism not supported: use one that EHLO announced");
/// RFC 4954 §4.
pub const BAD_BASE64: Reply =
    Reply::new(501, Status(5, 5, 2), "Not valid base64: start AUTH again");
/// The client sent `*`.
pub const AUTH_CANCELLED: Reply = Reply::new(501, Status(5, 7, 0), "Authentication cancelled");
/// RFC 5321 §4.5.3.1.10.
pub const TOO_MANY_RECIPIENTS: Reply =
    Reply::new(452, Status(4, 5, 3), "Too many recipients: send the rest in another message");

// Content that is not taken. Sent once its true end has come.
/// RFC 1870 §6.1; PEC-AP-17 wants the refusal here, where no notice can be made.
pub const TOO_LARGE: Reply =
    Reply::new(552, Status(5, 3, 4), "Message too large: see SIZE in the reply to EHLO");
/// RFC 5321 §2.3.8. Refused, never mended: what is signed is what was sent.
pub const BARE_CR: Reply =
    Reply::new(550, Status(5, 6, 0), "Bare CR in the message: end each line with CRLF");
/// The same.
pub const BARE_LF: Reply =
    Reply::new(550, Status(5, 6, 0), "Bare LF in the message: end each line with CRLF");
/// RFC 5322 §4 has it as obsolete; nothing that is signed may hold one.
pub const NUL: Reply =
    Reply::new(550, Status(5, 6, 0), "NUL in the message: encode binary content as base64");

// What the shell answers.
/// The store, the signer or the scanner is out of order: nothing was taken.
pub const LOCAL_ERROR: Reply =
    Reply::new(451, Status(4, 3, 0), "Temporary failure of this server: try again later");
/// Who manages a domain may be told by the index of providers of tomorrow.
pub const INDEX_LAGS: Reply = Reply::new(
    451,
    Status(4, 7, 1),
    "The index of providers that is in use says that another manages that domain: try again later",
);
/// The disk.
pub const STORAGE_FULL: Reply =
    Reply::new(452, Status(4, 3, 1), "No space left on this server: try again later");
/// Nothing is taken unscanned, and clamd does not answer.
pub const NOT_SCANNED: Reply =
    Reply::new(451, Status(4, 7, 0), "Messages cannot be scanned for viruses now, try again later");
/// clamd takes no message of this size (its StreamMaxLength), now and later.
pub const TOO_LARGE_TO_SCAN: Reply =
    Reply::new(552, Status(5, 3, 4), "The message is too large to be scanned for viruses");
/// Ordinary mail with a virus.
pub const INFECTED: Reply =
    Reply::new(554, Status(5, 7, 0), "The message has a virus: clean it and send it again");
/// The reverse-path must be an address that the account may use: PEC-AP-02.
pub const SENDER_NOT_YOURS: Reply = Reply::new(
    550,
    Status(5, 7, 1),
    "Sender address is not one of this account's: correct it in your mail program",
);
/// The sender's own mailbox has no room for the receipts: RFC 3463 §3.3 has the code for it.
pub const SENDER_FULL: Reply = Reply::new(
    452,
    Status(4, 2, 2),
    "Your mailbox is full, and receipts must fit: delete messages and try again",
);
/// The sender's own mailbox has no room for the copy that is kept there.
pub const COPY_TOO_LARGE: Reply = Reply::new(
    452,
    Status(4, 2, 2),
    "Your mailbox is full, and a copy of what you send must fit: delete messages and try again",
);
/// A stranger uses one of our own addresses.
pub const SENDER_REFUSED: Reply = Reply::new(
    550,
    Status(5, 7, 1),
    "Sender address belongs to this server: authenticate to use it",
);
/// A recipient elsewhere, without AUTH.
pub const NO_RELAY: Reply = Reply::new(
    550,
    Status(5, 7, 1),
    "This server does not relay: authenticate, or send to one of its own domains",
);
/// PEC-NOT-01, group 1.
pub const UNKNOWN_ACCOUNT: Reply =
    Reply::new(550, Status(5, 1, 1), "No such address here: check it");
/// PEC-NOT-01, group 2: it exists and is suspended.
pub const ACCOUNT_DISABLED: Reply =
    Reply::new(550, Status(5, 2, 1), "This mailbox is disabled and takes no messages");
/// PEC-NOT-01, group 3.
pub const MAILBOX_FULL: Reply = Reply::new(552, Status(5, 2, 2), "The mailbox is full");
/// Ordinary mail, which the holder chose not to receive: PEC-GEN-19.
pub const ORDINARY_MAIL_REFUSED: Reply =
    Reply::new(550, Status(5, 7, 1), "This mailbox takes certified mail only");
/// What could not be made 7-bit safe.
pub const NOT_SEVEN_BIT: Reply = Reply::new(
    554,
    Status(5, 6, 3),
    "8-bit content that cannot be converted: send it in 7 bits (base64 or quoted-printable)",
);
/// Content that no part of us can take.
pub const MALFORMED: Reply = Reply::new(
    550,
    Status(5, 6, 0),
    "The message cannot be read: check its header and MIME structure",
);
/// More `Received` fields than a message that is not in a loop has: RFC 5321 §6.3.
pub const LOOP: Reply =
    Reply::new(554, Status(5, 4, 6), "The message passed too many hosts: it is in a loop");
/// Other messages wait for name servers already.
pub const DNS_BUSY: Reply = Reply::new(
    451,
    Status(4, 4, 3),
    "Too many messages wait for the DNS to be asked about them: try again later",
);
/// The same words for an unknown user and a wrong password.
pub const AUTH_FAILED: Reply = Reply::new(
    535,
    Status(5, 7, 8),
    "Authentication credentials invalid: check user name and password",
);
/// RFC 5248 §2.4 registers 5.7.13: the password is right, the account is suspended.
pub const ACCOUNT_SUSPENDED: Reply =
    Reply::new(525, Status(5, 7, 13), "This account is suspended: ask your provider");
/// The accounts cannot be read.
pub const AUTH_UNAVAILABLE: Reply =
    Reply::new(454, Status(4, 7, 0), "Authentication is not possible now: try again later");
/// The password is right, and the account is bound to other networks.
pub const AUTH_ELSEWHERE: Reply =
    Reply::new(535, Status(5, 7, 8), "This account may not sign in from your address");
/// The account has as many sessions as it may. One that is idle ends by itself after five minutes.
pub const TOO_MANY_SESSIONS: Reply = Reply::new(
    454,
    Status(4, 7, 0),
    "Too many sessions of this account: close some, or try again in 300 seconds",
);

/// Every constant above, for whoever wants to look at all of them.
pub const ALL: [&Reply; 79] = [
    &NOT_SCANNED,
    &TOO_LARGE_TO_SCAN,
    &INFECTED,
    &QUIT,
    &STARTTLS,
    &HELP,
    &AUTHENTICATED,
    &DONE,
    &SENDER_OK,
    &RECIPIENT_OK,
    &VRFY,
    &START_INPUT,
    &IDLE,
    &STOPPING,
    &ACCOUNT_CHANGED,
    &TOO_MANY_ERRORS,
    &TOO_MANY_LOGINS,
    &TOO_FAST,
    &FRAMING_IN_DOUBT,
    &TOO_MANY_CONNECTIONS,
    &TOO_MANY_CONNECTIONS_HERE,
    &UNKNOWN_COMMAND,
    &LINE_TOO_LONG,
    &AUTH_LINE_TOO_LONG,
    &BARE_LINE_END,
    &BAD_SYNTAX,
    &BAD_CHUNK,
    &NO_ARGUMENTS,
    &NO_HELLO_NAME,
    &BAD_SENDER,
    &BAD_RECIPIENT,
    &SENDER_NOT_ASCII,
    &SENDER_LOCAL_PART_NOT_ASCII,
    &ADDRESS_NOT_ASCII,
    &LOCAL_PART_NOT_ASCII,
    &NOT_IMPLEMENTED,
    &UNKNOWN_PARAMETER,
    &NOT_SMTP,
    &HELLO_FIRST,
    &NESTED_MAIL,
    &MAIL_FIRST,
    &NO_RECIPIENTS,
    &CHUNKS_BEGUN,
    &TLS_FIRST,
    &AUTH_FIRST,
    &ALREADY_TLS,
    &TLS_BEFORE_MAIL,
    &AUTH_NEEDS_TLS,
    &ALREADY_AUTHENTICATED,
    &AUTH_IN_TRANSACTION,
    &UNKNOWN_MECHANISM,
    &BAD_BASE64,
    &AUTH_CANCELLED,
    &TOO_MANY_RECIPIENTS,
    &TOO_LARGE,
    &BARE_CR,
    &BARE_LF,
    &NUL,
    &LOCAL_ERROR,
    &INDEX_LAGS,
    &STORAGE_FULL,
    &SENDER_NOT_YOURS,
    &SENDER_FULL,
    &COPY_TOO_LARGE,
    &SENDER_REFUSED,
    &NO_RELAY,
    &UNKNOWN_ACCOUNT,
    &ACCOUNT_DISABLED,
    &MAILBOX_FULL,
    &ORDINARY_MAIL_REFUSED,
    &NOT_SEVEN_BIT,
    &MALFORMED,
    &LOOP,
    &DNS_BUSY,
    &AUTH_FAILED,
    &ACCOUNT_SUSPENDED,
    &AUTH_UNAVAILABLE,
    &AUTH_ELSEWHERE,
    &TOO_MANY_SESSIONS,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reply_is_one_line_within_the_limit() {
        for reply in ALL {
            let line = reply.to_octets();
            assert!(line.len() <= REPLY_LINE_OCTETS_MAX, "{reply}");
            assert!(
                line.strip_suffix(b"\r\n")
                    .is_some_and(|text| { text.iter().all(|octet| matches!(octet, b' '..=b'~')) })
            );
        }
    }

    #[test]
    fn all_but_3xx_carry_a_status_of_their_class() {
        for reply in ALL {
            match reply.status() {
                Some(status) => assert_eq!(u16::from(status.0), reply.code() / 100, "{reply}"),
                None => assert_eq!(reply.code() / 100, 3, "{reply}"),
            }
        }
    }

    #[test]
    fn a_variable_part_cannot_end_the_line_nor_pass_its_limit() {
        assert_eq!(
            Reply::accepted("a\r\n250 b\0\u{e8}").to_string(),
            "250 2.0.0 Accepted as a??250 b??"
        );
        assert_eq!(
            Reply::auth_later(u64::MAX).to_string(),
            "454 4.7.0 Too many failed logins: try again in 18446744073709551615 seconds"
        );
        let long = Reply::accepted(&"x".repeat(VARIABLE_OCTETS_MAX + 1));
        assert_eq!(long.text().len(), "Accepted as ".len() + VARIABLE_OCTETS_MAX);
        assert!(long.to_octets().len() <= REPLY_LINE_OCTETS_MAX);
    }

    #[test]
    fn a_challenge_is_nothing_but_its_base64() {
        assert_eq!(Reply::challenge(b"Username:").to_octets(), b"334 VXNlcm5hbWU6\r\n");
        assert_eq!(Reply::challenge(b"Password:").to_octets(), b"334 UGFzc3dvcmQ6\r\n");
        assert_eq!(Reply::challenge(b"").to_octets(), b"334 \r\n");
    }
}
