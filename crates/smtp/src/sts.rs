//! MTA-STS: what a domain's TXT record and policy say of the hosts that take its mail.
//!
//! RFC 8461 §3.1, §3.2 and §4.1. Read with a bound on everything; fetched, believed and kept
//! elsewhere.

use std::fmt;

use thiserror::Error;

/// Octets of a policy at most: RFC 8461 §3.2 has 64 KiB do for any.
pub const POLICY_OCTETS_MAX: usize = 64 * 1024;
/// Patterns of a policy at most: more hosts than any domain has.
pub const PATTERNS_MAX: usize = 128;
/// Seconds that a policy lasts at most, RFC 8461 §3.2: a year.
pub const MAX_AGE_SECS_MAX: u32 = 31_557_600;
/// Octets of a name, RFC 1035 §2.3.4.
const NAME_OCTETS_MAX: usize = 253;

/// The `id` in the TXT record at `_mta-sts.`: another one is another policy. Of several records that
/// begin so, or one that cannot be read, the domain has no policy (RFC 8461 §3.1).
#[must_use]
pub fn record_id<'t>(texts: impl IntoIterator<Item = &'t [u8]>) -> Option<String> {
    let mut records = texts.into_iter().filter_map(|text| {
        let text = std::str::from_utf8(text).ok()?;
        let (version, rest) = text.split_once(';')?;
        (version.trim_end() == "v=STSv1").then_some(rest)
    });
    let (Some(record), None) = (records.next(), records.next()) else { return None };
    let mut fields = record.split(';').filter_map(|field| field.split_once('='));
    let (_, id) = fields.find(|(name, _)| name.trim() == "id")?;
    let id = id.trim();
    let is_id = (1..=32).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric());
    is_id.then(|| id.to_owned())
}

/// What becomes of mail when a host is not as the policy has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It is not sent there.
    Enforce,
    /// It is, and reported.
    Testing,
    /// Nothing: the domain takes its policy back.
    None,
}

impl Mode {
    const fn word(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Testing => "testing",
            Self::None => "none",
        }
    }

    const ALL: [Self; 3] = [Self::Enforce, Self::Testing, Self::None];
}

/// A policy, RFC 8461 §3.2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    mode: Mode,
    patterns: Vec<String>,
    max_age_secs: u32,
}

/// Why a text is no policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PolicyError {
    /// More than [`POLICY_OCTETS_MAX`].
    #[error("it is too long")]
    TooLong,
    /// It is not ASCII, or not made of keys and values.
    #[error("line {0} is no `key: value`")]
    Line(usize),
    /// There is no `version: STSv1` in it.
    #[error("it is not of version STSv1")]
    Version,
    /// The mode is missing, or none of the three.
    #[error("it has no mode that is known")]
    Mode,
    /// `max_age` is missing, or no number of seconds.
    #[error("it has no max_age in seconds")]
    MaxAge,
    /// A pattern is no host's name.
    #[error("line {0} names no host")]
    Pattern(usize),
    /// No pattern, or more than [`PATTERNS_MAX`].
    #[error("it names no host, or too many")]
    Patterns,
}

impl Policy {
    /// Reads a policy as it was fetched.
    ///
    /// # Errors
    ///
    /// [`PolicyError`]; then there is no policy in it.
    pub fn parse(octets: &[u8]) -> Result<Self, PolicyError> {
        if octets.len() > POLICY_OCTETS_MAX {
            return Err(PolicyError::TooLong);
        }
        let text = std::str::from_utf8(octets).map_err(|error| {
            PolicyError::Line(
                1 + octets[..error.valid_up_to()].iter().filter(|b| **b == b'\n').count(),
            )
        })?;
        let (mut version, mut mode, mut max_age, mut patterns) = (None, None, None, Vec::new());
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim_end_matches([' ', '\t', '\r']);
            if line.is_empty() {
                continue;
            }
            let (key, value) = line.split_once(':').ok_or(PolicyError::Line(number))?;
            let value = value.trim_matches([' ', '\t']);
            // Of what may stand there once the first counts.
            match key {
                "version" => version = version.or(Some(value)),
                "mode" => mode = mode.or(Some(value)),
                "max_age" => max_age = max_age.or(Some(value)),
                "mx" => {
                    if patterns.len() == PATTERNS_MAX {
                        return Err(PolicyError::Patterns);
                    }
                    patterns.push(pattern(value).ok_or(PolicyError::Pattern(number))?);
                }
                // Extensions.
                _ => {}
            }
        }
        if version != Some("STSv1") {
            return Err(PolicyError::Version);
        }
        let mode = Mode::ALL.into_iter().find(|known| Some(known.word()) == mode);
        let mode = mode.ok_or(PolicyError::Mode)?;
        let digits = max_age.filter(|text| {
            (1..=10).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
        });
        let max_age =
            digits.and_then(|text| text.parse::<u64>().ok()).ok_or(PolicyError::MaxAge)?;
        let max_age = u32::try_from(max_age).unwrap_or(MAX_AGE_SECS_MAX).min(MAX_AGE_SECS_MAX);
        if patterns.is_empty() && mode != Mode::None {
            return Err(PolicyError::Patterns);
        }
        Ok(Self { mode, patterns, max_age_secs: max_age })
    }

    /// What becomes of mail when a host is not as it says.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// How long it lasts from when it was fetched, at most [`MAX_AGE_SECS_MAX`].
    #[must_use]
    pub const fn max_age_secs(&self) -> u32 {
        self.max_age_secs
    }

    /// The hosts it names, as patterns in lower case.
    #[must_use]
    pub fn patterns(&self) -> &[String] {
        &self.patterns
    }

    /// Whether it names this host: `*.` stands for one label, and the first only (RFC 8461 §4.1).
    #[must_use]
    pub fn names(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        self.patterns.iter().any(|pattern| match pattern.strip_prefix("*.") {
            None => *pattern == host,
            Some(parent) => host
                .split_once('.')
                .is_some_and(|(label, rest)| !label.is_empty() && rest == parent),
        })
    }
}

/// As it is kept and reported: what [`Policy::parse`] reads as the same policy.
impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "version: STSv1\nmode: {}\n", self.mode.word())?;
        for pattern in &self.patterns {
            writeln!(f, "mx: {pattern}")?;
        }
        writeln!(f, "max_age: {}", self.max_age_secs)
    }
}

/// A host's name, or `*.` and one, in lower case.
fn pattern(text: &str) -> Option<String> {
    let name = text.trim_end_matches('.').to_ascii_lowercase();
    let rest = name.strip_prefix("*.").unwrap_or(&name);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    (name.len() <= NAME_OCTETS_MAX && rest.split('.').all(is_label)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\n\
                          mx: *.example.net\r\nmax_age: 604800\r\n";

    fn with(from: &str, to: &str) -> Result<Policy, PolicyError> {
        assert!(POLICY.contains(from));
        Policy::parse(POLICY.replace(from, to).as_bytes())
    }

    // RFC 8461 §3.1
    #[test]
    fn the_record_is_the_one_that_begins_as_it_should() {
        let id = |texts: &[&str]| record_id(texts.iter().map(|text| text.as_bytes()));
        let good = Some("20160831085700Z".to_owned());
        assert_eq!(id(&["v=STSv1; id=20160831085700Z;"]), good);
        assert_eq!(id(&["v=STSv1;id=20160831085700Z"]), good);
        assert_eq!(id(&["v=STSv1; a=b; id=20160831085700Z; id=2"]), good);
        assert_eq!(id(&["v=spf1 -all", "v=STSv1; id=20160831085700Z;"]), good);
        assert_eq!(id(&["v=STSv1; id=1", "v=STSv1; id=2"]), None, "two are none");
        let long = format!("v=STSv1; id={}", "a".repeat(33));
        for bad in
            ["", "v=STSv1", "v=STSv1;", "v=STSv1; id=", "v=STSv1; id=a-b", "v=STSv2; id=1", &long]
        {
            assert_eq!(id(&[bad]), None, "{bad}");
        }
        assert_eq!(record_id([&b"v=STSv1; id=\xff"[..]]), None);
    }

    // RFC 8461 §3.2
    #[test]
    fn a_policy_is_read_with_either_line_end() {
        let policy = Policy::parse(POLICY.as_bytes()).unwrap();
        assert_eq!(policy.mode(), Mode::Enforce);
        assert_eq!(policy.max_age_secs(), 604_800);
        assert_eq!(policy.patterns(), ["mail.example.com", "*.example.net"]);
        assert_eq!(Policy::parse(POLICY.replace('\r', "").as_bytes()), Ok(policy.clone()));
        assert_eq!(Policy::parse(POLICY.trim_end().as_bytes()), Ok(policy.clone()));
        assert_eq!(Policy::parse(policy.to_string().as_bytes()), Ok(policy.clone()));
        // The first of what may be there once counts; what is not known does not.
        assert_eq!(
            with("mode: enforce\r\n", "mode: enforce\r\nmode: none\r\nx: y\r\n"),
            Ok(policy)
        );
        assert_eq!(with("enforce", "testing").unwrap().mode(), Mode::Testing);
        let none = "version: STSv1\nmode: none\nmax_age: 86400\n";
        assert_eq!(Policy::parse(none.as_bytes()).unwrap().mode(), Mode::None);
        assert_eq!(with("604800", "4000000000").unwrap().max_age_secs(), MAX_AGE_SECS_MAX);
    }

    #[test]
    fn what_is_no_policy_is_none() {
        assert_eq!(Policy::parse(b""), Err(PolicyError::Version));
        assert_eq!(with("STSv1", "STSv2"), Err(PolicyError::Version));
        assert_eq!(with("enforce", "ENFORCE"), Err(PolicyError::Mode));
        assert_eq!(with("mode: enforce\r\n", ""), Err(PolicyError::Mode));
        for bad in ["-1", "", "1.5", "1e9", "99999999999"] {
            assert_eq!(with("604800", bad), Err(PolicyError::MaxAge), "{bad}");
        }
        for bad in ["", "*", "*.", "a b", "*.*.b", "a..b", "a,b", &"a".repeat(64)] {
            assert_eq!(with("mail.example.com", bad), Err(PolicyError::Pattern(3)), "{bad}");
        }
        assert_eq!(with("mode: enforce", "mode enforce"), Err(PolicyError::Line(2)));
        assert_eq!(Policy::parse(b"version: STSv1\n\xff"), Err(PolicyError::Line(2)));
        let bare = "version: STSv1\nmode: enforce\nmax_age: 1\n";
        assert_eq!(Policy::parse(bare.as_bytes()), Err(PolicyError::Patterns));
    }

    // RFC 8461 §4.1
    #[test]
    fn a_star_stands_for_one_label() {
        let policy = Policy::parse(POLICY.as_bytes()).unwrap();
        for host in ["mail.example.com", "MAIL.example.com.", "mx1.example.net", "a-b.Example.NET"]
        {
            assert!(policy.names(host), "{host}");
        }
        for host in ["example.net", ".example.net", "a.b.example.net", "mx.mail.example.com", ""] {
            assert!(!policy.names(host), "{host}");
        }
    }

    #[test]
    fn one_past_each_bound_is_no_policy() {
        let patterns = |count: usize| {
            Policy::parse(
                POLICY
                    .replace("mx: *.example.net\r\n", &"mx: a.b\r\n".repeat(count - 1))
                    .as_bytes(),
            )
        };
        assert_eq!(patterns(PATTERNS_MAX).unwrap().patterns().len(), PATTERNS_MAX);
        assert_eq!(patterns(PATTERNS_MAX + 1), Err(PolicyError::Patterns));
        let filled = |octets: usize| {
            let filler = "x: ".to_owned() + &"y".repeat(octets - POLICY.len() - 3);
            Policy::parse(format!("{POLICY}{filler}").as_bytes())
        };
        assert!(filled(POLICY_OCTETS_MAX).is_ok());
        assert_eq!(filled(POLICY_OCTETS_MAX + 1), Err(PolicyError::TooLong));
    }

    #[test]
    fn a_name_one_octet_past_the_bound_is_no_pattern() {
        let fits = format!("a{}", ".a".repeat(NAME_OCTETS_MAX / 2));
        assert_eq!(fits.len(), NAME_OCTETS_MAX);
        assert_eq!(pattern(&fits), Some(fits.clone()));
        assert_eq!(pattern(&format!("{fits}a")), None);
        assert_eq!(pattern(&format!("*.{}", &fits[..NAME_OCTETS_MAX - 2])).unwrap().len(), 253);
        assert_eq!(pattern(&format!("*.{fits}")), None);
    }
}
