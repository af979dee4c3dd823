//! THREAD, UID THREAD: the messages that are as asked, as conversations.
//!
//! RFC 5256 §3 and §4. REFERENCES goes by what messages refer to; a receipt of certified mail belongs under the
//! message that it is about (see [`Keys`]). No octets are read.

mod references;

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::ops::Range;

use self::references::Linker;
use super::Work;
use super::search::{Query, check_time};
use super::sort::{check_size, sent, with_keys};
use crate::digest::Keys;
use crate::enabled::Enabled;
use crate::grammar::words::Words;
use crate::job::{Context, Done, Flow};
use crate::refusal::Refusal;
use crate::response::Output;
use crate::selected::Tell;
use crate::session::limits::ORDER_OCTETS_MAX;

/// How messages are gathered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    OrderedSubject,
    References,
}

/// Octets of memory that a message takes until its thread is told, at most: it, its place among trees, and its
/// neighbours there.
const MESSAGE_OCTETS: usize = 256;
/// The same of what a message refers to.
const REFERENCE_OCTETS: usize = 2 * size_of::<u32>();
/// The same of an identifier or a subject, beside its text: the first time that it comes.
const NAME_OCTETS: usize = 80;
/// Steps that one job takes to find out who is whose parent: some tenths of a second.
const LINK_STEPS: usize = 10_000_000;

/// A message that was found; texts by their numbers.
#[derive(Debug, Clone, Default)]
pub(super) struct Entry {
    pub(super) number: u32,
    /// When it was sent, in seconds.
    pub(super) sent: i64,
    /// Its base subject, if any.
    pub(super) subject: Option<u32>,
    /// It is a reply or a forward.
    pub(super) replies: bool,
    pub(super) message_id: Option<u32>,
    /// Which of [`Gathered::references`].
    pub(super) references: Range<u32>,
}

/// A number for each text: many messages have the same.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) numbers: HashMap<Box<str>, u32>,
    /// What they take in memory.
    octets: usize,
}

impl Names {
    fn number(&mut self, text: String) -> u32 {
        let next = u32::try_from(self.numbers.len()).unwrap_or(u32::MAX);
        match self.numbers.entry(text.into_boxed_str()) {
            Slot::Occupied(known) => *known.get(),
            Slot::Vacant(slot) => {
                self.octets += NAME_OCTETS + slot.key().len();
                *slot.insert(next)
            }
        }
    }
}

/// The messages that were found, in the order of the mailbox.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) entries: Vec<Entry>,
    /// What they refer to.
    pub(super) references: Vec<u32>,
    pub(super) ids: Names,
    subjects: Names,
}

impl Gathered {
    fn add(&mut self, number: u32, sent: i64, keys: Keys) {
        let end = |references: &Vec<u32>| u32::try_from(references.len()).unwrap_or(u32::MAX);
        let first = end(&self.references);
        let message_id = keys.message_id.map(|id| self.ids.number(id));
        for id in keys.references {
            self.references.push(self.ids.number(id));
        }
        let references = first..end(&self.references);
        let subject = Some(keys.subject).filter(|subject| !subject.is_empty());
        let subject = subject.map(|subject| self.subjects.number(subject));
        let replies = keys.replies;
        self.entries.push(Entry { number, sent, subject, replies, message_id, references });
    }

    /// Octets of memory that they take, and their threads until they are told.
    fn octets(&self) -> usize {
        self.entries.len() * MESSAGE_OCTETS
            + self.references.len() * REFERENCE_OCTETS
            + self.ids.octets
            + self.subjects.octets
    }
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
    found: Gathered,
    /// All are found, and some have their parents.
    linker: Option<Linker>,
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
        Ok(Self { algorithm, query, by_uid, found: Gathered::default(), linker: None })
    }

    pub(crate) fn asks_mod_seq(&self) -> bool {
        self.query.by_mod_seq
    }

    pub(crate) fn holds_octets(&self) -> u64 {
        self.query.holds_octets()
    }

    /// Octets of memory that it takes at most from one job to the next.
    pub(crate) fn keeps_octets(&self) -> u64 {
        ORDER_OCTETS_MAX as u64
    }

    pub(crate) fn progress(&self) -> Option<(usize, usize)> {
        self.query.progress()
    }

    pub(crate) fn run(mut self, context: &mut Context<'_>) -> Result<Flow, Refusal> {
        let forest = match self.gather(context)? {
            Some(forest) => forest,
            None => return Ok(Flow::More(Work::Thread(Box::new(self)))),
        };
        forest.write(context.out);
        let tell = if self.query.renumbers { Tell::All } else { Tell::NoExpunges };
        let done = Done::text(self.query.completed("THREAD completed"));
        Ok(done.numbered(self.by_uid).tell(tell).into())
    }

    /// Does a part of it; the threads once they are there.
    fn gather(&mut self, context: &mut Context<'_>) -> Result<Option<Forest>, Refusal> {
        let mut linker = match self.linker.take() {
            Some(linker) => {
                check_time(context)?;
                linker
            }
            None if !self.look(context)? => return Ok(None),
            None => {
                let found = std::mem::take(&mut self.found);
                match self.algorithm {
                    Algorithm::OrderedSubject => return Ok(Some(by_subject(found.entries))),
                    Algorithm::References => Linker::new(found),
                }
            }
        };
        if linker.link(LINK_STEPS) {
            return Ok(Some(linker.threads()));
        }
        self.linker = Some(linker);
        Ok(None)
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
        let (gathered, by_uid) = (&mut self.found, self.by_uid);
        with_keys(found, true, context, &mut |place, summary, keys| {
            let number = u32::try_from(place + 1).unwrap_or(u32::MAX);
            let number = if by_uid { summary.uid.0.get() } else { number };
            gathered.add(number, sent(summary, &keys), keys);
        })
        .map_err(Refusal::selected)?;
        check_size(self.found.entries.len(), self.found.octets())?;
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
            subject: subject.bytes().next().map(u32::from),
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

    /// A reference takes some octets: its text once, however many messages have it.
    #[test]
    fn what_is_gathered_weighs_what_it_takes() {
        assert!(size_of::<Entry>() <= 48);
        let keys = |name: &str| Keys {
            subject: "s".to_owned(),
            message_id: Some(name.to_owned()),
            references: (0..100).map(|at| format!("{name}{at}")).collect(),
            ..Keys::default()
        };
        let (mut same, mut other) = (Gathered::default(), Gathered::default());
        for at in 0..1_000 {
            same.add(at, 0, keys("a"));
            other.add(at, 0, keys(&format!("{at}-")));
        }
        let (same, other) = (same.octets(), other.octets());
        assert!((1_000 * 1_056..1_000 * 1_100).contains(&same), "{same}");
        assert!((1_000 * 9_000..1_000 * 10_000).contains(&other), "{other}");
        // Some kilobytes a message have an end long before as many messages as may be.
        assert!(check_size(500, ORDER_OCTETS_MAX + 1).is_err());
        assert!(check_size(13_000, other * 13).is_ok() && check_size(15_000, other * 15).is_err());
    }
}
