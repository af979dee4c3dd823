//! What a peer said it can do: the lines of its answer to EHLO (RFC 5321 §4.1.1.1).

/// The extensions that a client makes use of. A word that is not known changes nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extensions {
    /// RFC 2920.
    pub pipelining: bool,
    /// RFC 1870: announced, and the octets that it takes at most, when it says so.
    pub size: Option<u64>,
    /// RFC 1870: announced at all.
    pub takes_size: bool,
    /// RFC 3207.
    pub starttls: bool,
    /// RFC 3030.
    pub chunking: bool,
    /// RFC 3461.
    pub dsn: bool,
    /// RFC 6152.
    pub eight_bit_mime: bool,
    /// RFC 8689.
    pub require_tls: bool,
    /// RFC 9422: recipients of one transaction at most.
    pub recipients_max: Option<usize>,
    /// RFC 9422: transactions of one session at most.
    pub transactions_max: Option<u64>,
}

impl Extensions {
    /// Reads the lines after the first.
    pub(crate) fn read(lines: &[String]) -> Self {
        let mut found = Self::default();
        for line in lines {
            let mut words = line.split_ascii_whitespace();
            let keyword = words.next().unwrap_or_default().to_ascii_uppercase();
            match keyword.as_str() {
                "PIPELINING" => found.pipelining = true,
                "STARTTLS" => found.starttls = true,
                "CHUNKING" => found.chunking = true,
                "DSN" => found.dsn = true,
                "8BITMIME" => found.eight_bit_mime = true,
                "REQUIRETLS" => found.require_tls = true,
                "SIZE" => {
                    found.takes_size = true;
                    // RFC 1870 §4: zero is no fixed limit.
                    let size = words.next().and_then(|word| word.parse().ok());
                    found.size = size.filter(|size| *size > 0);
                }
                "LIMITS" => words.for_each(|word| found.limit(word)),
                _ => {}
            }
        }
        found
    }

    fn limit(&mut self, word: &str) {
        let Some((name, value)) = word.split_once('=') else { return };
        match name.to_ascii_uppercase().as_str() {
            // Zero means nothing that could be obeyed.
            "RCPTMAX" => self.recipients_max = value.parse().ok().filter(|max| *max > 0),
            "MAILMAX" => self.transactions_max = value.parse().ok().filter(|max| *max > 0),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_are_read_in_any_case_and_unknown_ones_mean_nothing() {
        let read = |text: &str| {
            let lines: Vec<String> = text.lines().map(str::to_owned).collect();
            Extensions::read(&lines)
        };
        let none = Extensions::default();
        assert_eq!(read(""), none);
        assert_eq!(read("XFOO\nENHANCEDSTATUSCODES\n\nAUTH PLAIN\nLIMITS\nLIMITS RCPTMAX"), none);
        assert_eq!(
            read(
                "pipelining\nSize 1000\nstartTLS\nCHUNKING\nDSN\n8BITMIME\nREQUIRETLS\nLIMITS RCPTMAX=20 MAILMAX=5 X=1"
            ),
            Extensions {
                pipelining: true,
                size: Some(1000),
                takes_size: true,
                starttls: true,
                chunking: true,
                dsn: true,
                eight_bit_mime: true,
                require_tls: true,
                recipients_max: Some(20),
                transactions_max: Some(5),
            }
        );
        for text in ["SIZE", "SIZE 0", "SIZE x", "SIZE 99999999999999999999999"] {
            assert_eq!(read(text), Extensions { takes_size: true, ..none.clone() }, "{text}");
        }
        assert_eq!(read("LIMITS RCPTMAX=0 MAILMAX=-1"), none);
    }
}
