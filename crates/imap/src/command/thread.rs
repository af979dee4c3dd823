//! THREAD, UID THREAD: the messages that are as asked, as conversations.
//!
//! RFC 5256 §3 and §4. REFERENCES goes by what messages refer to; a receipt of certified mail belongs under the
//! message that it is about (see [`Keys`](crate::digest::Keys)). No octets are read.

mod references;

use super::Work;
use super::search::Query;
use super::sort::{check_size, sent, with_keys};
use crate::enabled::Enabled;
use crate::grammar::words::Words;
use crate::job::{Context, Done, Flow};
use crate::refusal::Refusal;
use crate::response::Output;
use crate::selected::Tell;

/// How messages are gathered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    OrderedSubject,
    References,
}

/// A message that was found.
#[derive(Debug, Clone, Default)]
pub(super) struct Entry {
    pub(super) number: u32,
    /// When it was sent, in seconds.
    pub(super) sent: i64,
    /// Its base subject.
    pub(super) subject: String,
    /// It is a reply or a forward.
    pub(super) replies: bool,
    pub(super) message_id: Option<String>,
    pub(super) references: Vec<String>,
}

/// Messages as trees: an index for each.
#[derive(Debug, Default)]
pub(super) struct Forest {
    /// The number of a message; `None` for one that is not here and of which more than one message
    /// hangs.
    pub(super) nodes: Vec<(Option<u32>, Vec<usize>)>,
    pub(super) roots: Vec<usize>,
}

/// `thread = ["UID" SP] "THREAD" SP thread-alg SP search-criteria`
pub(crate) struct Thread {
    algorithm: Algorithm,
    query: Query,
    by_uid: bool,
    found: Vec<Entry>,
    octets: usize,
}

impl Thread {
    /// What follows the verb.
    pub(crate) fn read(
        words: &mut Words<'_>,
        by_uid: bool,
        enabled: Enabled,
    ) -> Result<Self, Refusal> {
        words.space().ok_or_else(Refusal::malformed)?;
        let algorithm = match words.name().ok_or_else(Refusal::malformed)?.as_str() {
            "ORDEREDSUBJECT" => Algorithm::OrderedSubject,
            "REFERENCES" => Algorithm::References,
            _ => return Err(Refusal::bad("No such way to make threads: see CAPABILITY")),
        };
        words.space().ok_or_else(Refusal::malformed)?;
        let charset_known = Query::read_charset(words)?;
        let query = Query::read(words, charset_known, by_uid, enabled)?;
        Ok(Self { algorithm, query, by_uid, found: Vec::new(), octets: 0 })
    }

    pub(crate) fn asks_mod_seq(&self) -> bool {
        self.query.by_mod_seq
    }

    pub(crate) fn holds_octets(&self) -> u64 {
        self.query.holds_octets()
    }

    pub(crate) fn progress(&self) -> Option<(usize, usize)> {
        self.query.progress()
    }

    pub(crate) fn run(mut self, context: &mut Context<'_>) -> Result<Flow, Refusal> {
        if !self.look(context)? {
            return Ok(Flow::More(Work::Thread(Box::new(self))));
        }
        let forest = match self.algorithm {
            Algorithm::OrderedSubject => by_subject(self.found),
            Algorithm::References => references::threads(self.found),
        };
        forest.write(context.out);
        let tell = if self.query.renumbers { Tell::All } else { Tell::NoExpunges };
        let done = Done::text(self.query.completed("THREAD completed"));
        Ok(done.numbered(self.by_uid).tell(tell).into())
    }

    /// Looks for some more; whether all are found.
    fn look(&mut self, context: &mut Context<'_>) -> Result<bool, Refusal> {
        self.query.begin(true, context)?;
        let mut found = Vec::new();
        let done = self.query.look(context, &mut |place, summary| {
            found.push((place, summary.clone()));
            false
        });
        let done = done.map_err(Refusal::selected)?;
        let (entries, octets, by_uid) = (&mut self.found, &mut self.octets, self.by_uid);
        with_keys(found, true, context, &mut |place, summary, keys| {
            let number = u32::try_from(place + 1).unwrap_or(u32::MAX);
            let entry = Entry {
                number: if by_uid { summary.uid.0.get() } else { number },
                sent: sent(summary, &keys),
                subject: keys.subject,
                replies: keys.replies,
                message_id: keys.message_id,
                references: keys.references,
            };
            let ids = entry.references.iter().chain(&entry.message_id);
            *octets += entry.subject.len() + ids.map(String::len).sum::<usize>();
            entries.push(entry);
        })
        .map_err(Refusal::selected)?;
        check_size(self.found.len(), self.octets)?;
        Ok(done)
    }
}

/// ORDEREDSUBJECT: the first message of each subject, and the others below it, by when they were sent;
/// threads by when their first was.
fn by_subject(mut found: Vec<Entry>) -> Forest {
    found.sort_by(|one, other| {
        let key = |entry: &Entry| (entry.sent, entry.number);
        one.subject.cmp(&other.subject).then(key(one).cmp(&key(other)))
    });
    let mut forest = Forest::default();
    let mut before: Option<&Entry> = None;
    let mut begun = Vec::new();
    for entry in &found {
        let node = forest.nodes.len();
        forest.nodes.push((Some(entry.number), Vec::new()));
        if before.is_some_and(|before| before.subject == entry.subject)
            && let Some((_, root)) = begun.last().copied()
            && let Some((_, children)) = forest.nodes.get_mut::<usize>(root)
        {
            children.push(node);
        } else {
            begun.push(((entry.sent, entry.number), node));
        }
        before = Some(entry);
    }
    begun.sort_unstable();
    forest.roots = begun.into_iter().map(|(_, root)| root).collect();
    forest
}

impl Forest {
    /// `thread-data = "THREAD" [SP 1*thread-list]`, RFC 5256 §5.
    fn write(&self, out: &mut Output) {
        /// What is still to be written: trees are as deep as conversations are long.
        enum Rest {
            Text(&'static str),
            Node(usize),
        }
        out.text("* THREAD");
        if !self.roots.is_empty() {
            out.text(" ");
        }
        for &root in &self.roots {
            let mut rest = vec![Rest::Text(")"), Rest::Node(root), Rest::Text("(")];
            while let Some(next) = rest.pop() {
                let node = match next {
                    Rest::Text(text) => {
                        out.text(text);
                        continue;
                    }
                    Rest::Node(node) => node,
                };
                let Some((number, children)) = self.nodes.get(node) else { continue };
                if let Some(number) = number {
                    let space = if children.is_empty() { "" } else { " " };
                    out.text(&format!("{number}{space}"));
                }
                if let [only] = children.as_slice() {
                    rest.push(Rest::Node(*only));
                    continue;
                }
                for &child in children.iter().rev() {
                    rest.extend([Rest::Text(")"), Rest::Node(child), Rest::Text("(")]);
                }
            }
        }
        out.text("\r\n");
    }
}

#[cfg(test)]
pub(super) fn shown(forest: &Forest) -> String {
    let mut out = Output::default();
    forest.write(&mut out);
    String::from_utf8(out.into_octets()).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_by_subject_begin_with_their_first_message() {
        let entry = |number: u32, sent: i64, subject: &str| Entry {
            number,
            sent,
            subject: subject.to_owned(),
            ..Entry::default()
        };
        let found = vec![
            entry(1, 30, "B"),
            entry(2, 10, "A"),
            entry(3, 20, "B"),
            entry(4, 5, "C"),
            entry(5, 40, "B"),
            entry(6, 10, "C"),
        ];
        assert_eq!(shown(&by_subject(found)), "* THREAD (4 6)(2)(3 (1)(5))\r\n");
        assert_eq!(shown(&by_subject(Vec::new())), "* THREAD\r\n");
    }
}
