//! THREAD=REFERENCES: RFC 5256 §3, "REFERENCES", step by step. Iterative: who writes messages decides how deep
//! threads are.

use std::collections::HashMap;

use super::{Entry, Forest, Gathered};

/// How deep a thread is followed: a reply below that begins a thread of its own. Conversations are shorter,
/// and looking for loops costs as much as it is deep.
const DEPTH_MAX: usize = 1_000;
/// No container.
const NONE: u32 = u32::MAX;

/// Finds out who is whose parent. A container is a message, or what others refer to and is not here; those of the messages
/// come first.
pub(super) struct Linker {
    found: Vec<Entry>,
    references: Vec<u32>,
    /// The container of each identifier.
    by_id: Vec<u32>,
    /// The parent of each container.
    parents: Vec<u32>,
    /// The next message to be linked.
    at: usize,
}

/// A tree of the root set while subjects are compared.
#[derive(Debug, Default)]
struct Node {
    message: Option<usize>,
    children: Vec<usize>,
}

impl Linker {
    /// Of messages in the order of the mailbox.
    pub(super) fn new(gathered: Gathered) -> Self {
        let Gathered { entries: found, references, ids, .. } = gathered;
        let mut by_id = vec![NONE; ids.numbers.len()];
        drop(ids);
        // All messages first, so that a message is where its identifier is; of two with the same identifier
        // the second counts as without one.
        for (at, entry) in (0..).zip(&found) {
            if let Some(id) = entry.message_id
                && by_id[id as usize] == NONE
            {
                by_id[id as usize] = at;
            }
        }
        let parents = vec![NONE; found.len()];
        Self { found, references, by_id, parents, at: 0 }
    }

    /// Step 1, for as many messages as take so many steps; whether that was all.
    pub(super) fn link(&mut self, steps: usize) -> bool {
        let mut taken = 0;
        while taken < steps
            && let Some(entry) = self.found.get(self.at)
        {
            let here = u32::try_from(self.at).unwrap_or(NONE);
            self.at += 1;
            let mut above = NONE;
            for at in entry.references.clone() {
                let id = self.references[at as usize] as usize;
                if self.by_id[id] == NONE {
                    self.by_id[id] = u32::try_from(self.parents.len()).unwrap_or(NONE);
                    self.parents.push(NONE);
                }
                let named = self.by_id[id];
                // Step 1.A: a link that is there already stays.
                if above != NONE
                    && self.parents[named as usize] == NONE
                    && may_hang(&self.parents, named, above, &mut taken)
                {
                    self.parents[named as usize] = above;
                }
                above = named;
                taken += 1;
            }
            taken += 1;
            // Step 1.B: what the message itself says counts more than what others say of it.
            if above != NONE {
                self.parents[here as usize] = NONE;
                if may_hang(&self.parents, here, above, &mut taken) {
                    self.parents[here as usize] = above;
                }
            }
        }
        self.at == self.found.len()
    }

    /// The other steps.
    pub(super) fn threads(self) -> Forest {
        let Self { found, references, by_id, parents, .. } = self;
        drop((references, by_id));
        let (mut nodes, mut roots) = prune(parents, found.len());
        order(&mut nodes, &mut roots, &found);
        merge(&mut nodes, &mut roots, &found);
        order(&mut nodes, &mut roots, &found);
        let number =
            |node: &Node| node.message.and_then(|at| found.get(at)).map(|entry| entry.number);
        let nodes = nodes.into_iter().map(|node| (number(&node), node.children)).collect();
        Forest { nodes, roots }
    }
}

/// Whether a container can be put below another: not below itself, and not too deep.
fn may_hang(parents: &[u32], child: u32, parent: u32, steps: &mut usize) -> bool {
    let mut at = parent;
    for _ in 0..DEPTH_MAX {
        *steps += 1;
        if at == child {
            return false;
        }
        match parents.get(at as usize) {
            Some(&above) if above != NONE => at = above,
            _ => return true,
        }
    }
    false
}

/// Steps 2 and 3: the root set, without those that are not here; but one of which more than one hangs
/// stays at the root.
fn prune(mut parents: Vec<u32>, messages: usize) -> (Vec<Node>, Vec<usize>) {
    let mut nodes: Vec<Node> = (0..parents.len()).map(|_| Node::default()).collect();
    let mut roots = Vec::new();
    let mut dummies = Vec::new();
    let mut path = Vec::new();
    for at in 0..messages {
        nodes[at].message = Some(at);
        let mut parent = parents[at];
        // The nearest that is here, or the topmost.
        while parent != NONE && parent as usize >= messages && parents[parent as usize] != NONE {
            path.push(parent);
            parent = parents[parent as usize];
        }
        // Nobody goes that way again: what is not here can be as deep as there are messages.
        for passed in path.drain(..) {
            parents[passed as usize] = parent;
        }
        if parent == NONE {
            roots.push(at);
            continue;
        }
        let parent = parent as usize;
        if parent >= messages && nodes[parent].children.is_empty() {
            dummies.push(parent);
        }
        nodes[parent].children.push(at);
    }
    for dummy in dummies {
        match nodes[dummy].children.as_slice() {
            [only] => roots.push(*only),
            _ => roots.push(dummy),
        }
    }
    (nodes, roots)
}

/// When a tree was sent, for its place among others: without a message at its root, its first child's.
fn when(node: &Node, nodes: &[Node], found: &[Entry]) -> (i64, u32) {
    let first = node.children.first().and_then(|&child| nodes.get(child)?.message);
    let entry = node.message.or(first).and_then(|at| found.get(at));
    entry.map_or((0, 0), |entry| (entry.sent, entry.number))
}

/// Steps 4 and 6: siblings by when they were sent.
fn order(nodes: &mut [Node], roots: &mut [usize], found: &[Entry]) {
    let sent: Vec<Option<(i64, u32)>> = nodes
        .iter()
        .map(|node| node.message.and_then(|at| found.get(at)))
        .map(|entry| entry.map(|entry| (entry.sent, entry.number)))
        .collect();
    // Only a root can have no message, so that all children have their time.
    for node in nodes.iter_mut() {
        node.children.sort_by_key(|&child| sent.get(child).copied().flatten());
    }
    roots.sort_by_cached_key(|&root| when(&nodes[root], nodes, found));
}

/// The subject of a tree, and whether it is one of a reply.
fn subject(node: &Node, nodes: &[Node], found: &[Entry]) -> Option<(u32, bool)> {
    let first = node.children.first().and_then(|&child| nodes.get(child)?.message);
    let entry = found.get(node.message.or(first)?)?;
    entry.subject.map(|subject| (subject, entry.replies))
}

/// Step 5: trees of the same subject become one.
fn merge(nodes: &mut Vec<Node>, roots: &mut Vec<usize>, found: &[Entry]) {
    let mut by_subject: HashMap<u32, usize> = HashMap::new();
    for &root in roots.iter() {
        let Some((text, replies)) = subject(&nodes[root], nodes, found) else { continue };
        by_subject
            .entry(text)
            .and_modify(|chosen| {
                let here = &nodes[*chosen];
                let other = subject(here, nodes, found).is_some_and(|(_, replies)| replies);
                let is_dummy = nodes[root].message.is_none();
                if (is_dummy && here.message.is_some()) || (other && !replies) {
                    *chosen = root;
                }
            })
            .or_insert(root);
    }
    let mut kept = Vec::with_capacity(roots.len());
    // Where a tree that was chosen is now: below a new one, once two equal ones have met.
    let mut moved: HashMap<usize, usize> = HashMap::new();
    for &root in roots.iter() {
        let Some((text, replies)) = subject(&nodes[root], nodes, found) else {
            kept.push(root);
            continue;
        };
        let Some(&chosen) = by_subject.get(&text) else { continue };
        if chosen == root {
            kept.push(root);
            continue;
        }
        let target = moved.get(&chosen).copied().unwrap_or(chosen);
        let target_replies =
            subject(&nodes[target], nodes, found).is_some_and(|(_, replies)| replies);
        match (nodes[target].message, nodes[root].message) {
            (None, None) => {
                let children = std::mem::take(&mut nodes[root].children);
                nodes[target].children.extend(children);
            }
            (None, Some(_)) => nodes[target].children.push(root),
            _ if replies && !target_replies && nodes[root].message.is_some() => {
                nodes[target].children.push(root);
            }
            _ => {
                // Neither is the other's: both hang of one that is not here. What has no message gives its
                // children.
                let mut children = vec![target];
                match nodes[root].message {
                    Some(_) => children.push(root),
                    None => children.extend(std::mem::take(&mut nodes[root].children)),
                }
                moved.insert(chosen, nodes.len());
                nodes.push(Node { message: None, children });
            }
        }
    }
    *roots = kept.iter().map(|root| moved.get(root).copied().unwrap_or(*root)).collect();
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::shown;
    use super::*;
    use crate::digest::Keys;

    /// `id references... subject`, sent in their order; a subject that begins with a `+` is a reply's.
    fn gathered(lines: &[&str]) -> Gathered {
        let mut gathered = Gathered::default();
        for (at, line) in (0..).zip(lines) {
            let mut words: Vec<&str> = line.split(' ').collect();
            let subject = words.pop().unwrap();
            let id = words.remove(0);
            let keys = Keys {
                subject: subject.trim_start_matches('+').to_owned(),
                replies: subject.starts_with('+'),
                message_id: (id != "-").then(|| id.to_owned()),
                references: words.into_iter().map(str::to_owned).collect(),
                ..Keys::default()
            };
            gathered.add(at + 1, i64::from(at), keys);
        }
        gathered
    }

    fn threads(lines: &[&str], steps: usize) -> Forest {
        let mut linker = Linker::new(gathered(lines));
        while !linker.link(steps) {}
        linker.threads()
    }

    /// However many steps are taken at once, it comes to the same.
    fn threaded(lines: &[&str]) -> String {
        let once = shown(&threads(lines, usize::MAX));
        assert_eq!(shown(&threads(lines, 1)), once);
        once.trim_start_matches("* THREAD").trim().to_owned()
    }

    #[test]
    fn messages_hang_of_what_they_refer_to() {
        for (lines, expected) in [
            (&[][..], ""),
            (&["a x", "b y"][..], "(1)(2)"),
            (&["a x", "b a +x", "c a b +x", "d a +x"], "(1 (2 3)(4))"),
            // In any order, and through one that is not here.
            (&["c a b x", "a x"], "(2 1)"),
            (&["c a b x", "d b y", "e b z"], "((1)(2)(3))"),
            // One that is not here, and of which one hangs, is not shown.
            (&["c gone x"], "(1)"),
            // The same identifier twice, none, and one's own.
            (&["a x", "a y", "- a z", "d d w"], "(1 3)(2)(4)"),
            // A loop is not followed.
            (&["a b x", "b a y"], "(2 1)"),
            (&["c b a x", "a z", "b a y"], "(3 2 1)"),
            // What a message says itself counts more than what another says of it.
            (&["c a b x", "b d y", "d z", "a w"], "(3 2 1)(4)"),
        ] {
            assert_eq!(threaded(lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn threads_of_one_subject_become_one() {
        for (lines, expected) in [
            (&["a x", "b +x"][..], "(1 2)"),
            (&["b +x", "a x"], "(2 1)"),
            (&["a x", "b x", "c x"], "((1)(2)(3))"),
            (&["a +x", "b +x"], "((1)(2))"),
            (&["a gone x", "b gone y", "c x"], "((1)(2)(3))"),
            (&["a one x", "b one y", "c two x", "d two z"], "((1)(2)(3)(4))"),
            (&["a x", "b b2 y", "c +x", "d +y"], "(1 3)(2 4)"),
            // Without a subject nothing is the same.
            (&["a ", "b "], "(1)(2)"),
        ] {
            assert_eq!(threaded(lines), expected, "{lines:?}");
        }
    }

    /// PEC-AP-22: receipts name the message that they are about, whether it is here or not.
    #[test]
    fn receipts_are_in_the_thread_of_the_message_they_are_about() {
        let here = ["m offerta", "r1 m accettazione", "r2 m consegna", "r3 m consegna"];
        assert_eq!(threaded(&here), "(1 (2)(3)(4))");
        assert_eq!(threaded(&here[1..]), "((1)(2)(3))");
    }

    #[test]
    fn a_thread_is_followed_only_so_deep() {
        let lines: Vec<String> = (0..DEPTH_MAX as u32 * 3)
            .map(|at| match at {
                0 => "0 s0".to_owned(),
                _ => format!("{at} {} s{at}", at - 1),
            })
            .collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        assert_eq!(threads(&lines, usize::MAX).roots.len(), 3);
    }

    /// A message that is not here can be below as many others as there are messages, with as many below it.
    #[test]
    fn what_is_not_here_is_gone_through_once() {
        let count = 100_000;
        let below = (0..count).map(|at| format!("m{at} d0 s{at}"));
        let above = (0..count).map(|at| format!("n{at} d{} d{at} t{at}", at + 1));
        let lines: Vec<String> = below.chain(above).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        // All hang of the topmost: ten thousand million steps, if each went all the way.
        let forest = threads(&lines, usize::MAX);
        assert_eq!(forest.roots.len(), 1);
        assert_eq!(forest.nodes[forest.roots[0]].1.len(), 2 * count);
    }

    proptest! {
        /// Each message is in exactly one place, whatever messages say of each other.
        #[test]
        fn every_message_is_shown_once(
            lines in prop::collection::vec(
                ("[a-f-]", prop::collection::vec("[a-h]", 0..4), "\\+?[xyz]?"), 0..20)
        ) {
            let lines: Vec<String> = lines
                .into_iter()
                .map(|(id, references, subject)| {
                    let words = std::iter::once(id).chain(references).chain([subject]);
                    words.collect::<Vec<_>>().join(" ")
                })
                .collect();
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            let shown = threaded(&lines);
            let mut numbers: Vec<usize> =
                shown.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect();
            numbers.sort_unstable();
            prop_assert_eq!(numbers, (1..=lines.len()).collect::<Vec<_>>(), "{}", shown);
        }
    }
}
