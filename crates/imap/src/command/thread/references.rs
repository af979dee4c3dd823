//! THREAD=REFERENCES: RFC 5256 §3, "REFERENCES", step by step. Iterative: who writes messages decides how deep
//! threads are.

use std::collections::HashMap;

use super::{Entry, Forest};

/// How deep a thread is followed: a reply below that begins a thread of its own. Conversations are shorter,
/// and looking for loops costs as much as it is deep.
const DEPTH_MAX: usize = 1_000;

/// A message, or one that others refer to and that is not here.
#[derive(Debug, Default)]
struct Container {
    /// Which of the messages found.
    message: Option<usize>,
    parent: Option<usize>,
}

/// A tree of the root set while subjects are compared.
#[derive(Debug, Default)]
struct Node {
    message: Option<usize>,
    children: Vec<usize>,
}

/// Gathers messages, which come in the order of the mailbox.
pub(super) fn threads(found: Vec<Entry>) -> Forest {
    let containers = link(&found);
    let (mut nodes, mut roots) = prune(&containers, found.len());
    order(&mut nodes, &mut roots, &found);
    merge(&mut nodes, &mut roots, &found);
    order(&mut nodes, &mut roots, &found);
    let number = |node: &Node| node.message.and_then(|at| found.get(at)).map(|entry| entry.number);
    let nodes = nodes.into_iter().map(|node| (number(&node), node.children)).collect();
    Forest { nodes, roots }
}

/// Step 1: who is whose parent.
fn link(found: &[Entry]) -> Vec<Container> {
    let mut containers: Vec<Container> = Vec::with_capacity(found.len());
    let mut by_id: HashMap<&str, usize> = HashMap::new();
    // All messages first, so that a message is where its identifier is; of two with the same identifier the
    // second counts as without one.
    for (at, entry) in found.iter().enumerate() {
        containers.push(Container { message: Some(at), parent: None });
        if let Some(id) = &entry.message_id {
            by_id.entry(id).or_insert(at);
        }
    }
    for (at, entry) in found.iter().enumerate() {
        let mut above: Option<usize> = None;
        for id in &entry.references {
            let here = *by_id.entry(id).or_insert_with(|| {
                containers.push(Container::default());
                containers.len() - 1
            });
            // Step 1.A: a link that is there already stays.
            if let Some(above) = above
                && containers[here].parent.is_none()
                && may_hang(&containers, here, above)
            {
                containers[here].parent = Some(above);
            }
            above = Some(here);
        }
        // Step 1.B: what the message itself says counts more than what others say of it.
        let before = containers[at].parent.take();
        match above {
            Some(above) if may_hang(&containers, at, above) => containers[at].parent = Some(above),
            Some(_) | None => {}
        }
        if above.is_none() {
            // It says nothing: then others may.
            containers[at].parent = before;
        }
    }
    containers
}

/// Whether a container can be put below another: not below itself, and not too deep.
fn may_hang(containers: &[Container], child: usize, parent: usize) -> bool {
    let mut at = parent;
    for _ in 0..DEPTH_MAX {
        if at == child {
            return false;
        }
        match containers.get(at).and_then(|container| container.parent) {
            Some(above) => at = above,
            None => return true,
        }
    }
    false
}

/// Steps 2 and 3: the root set, without those that are not here; but one of which more than one hangs
/// stays at the root.
fn prune(containers: &[Container], messages: usize) -> (Vec<Node>, Vec<usize>) {
    let mut nodes: Vec<Node> = (0..containers.len()).map(|_| Node::default()).collect();
    let mut roots = Vec::new();
    let mut dummies = Vec::new();
    for at in 0..messages {
        nodes[at].message = containers[at].message;
        let mut parent = containers[at].parent;
        // The nearest that is here, or the topmost.
        while let Some(above) = parent
            && containers[above].message.is_none()
            && let Some(next) = containers[above].parent
        {
            parent = Some(next);
        }
        match parent {
            None => roots.push(at),
            Some(parent) => {
                if parent >= messages && nodes[parent].children.is_empty() {
                    dummies.push(parent);
                }
                nodes[parent].children.push(at);
            }
        }
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
fn subject<'f>(node: &Node, nodes: &[Node], found: &'f [Entry]) -> Option<(&'f str, bool)> {
    let first = node.children.first().and_then(|&child| nodes.get(child)?.message);
    let entry = found.get(node.message.or(first)?)?;
    (!entry.subject.is_empty()).then_some((entry.subject.as_str(), entry.replies))
}

/// Step 5: trees of the same subject become one.
fn merge(nodes: &mut Vec<Node>, roots: &mut Vec<usize>, found: &[Entry]) {
    let mut by_subject: HashMap<&str, usize> = HashMap::new();
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
        let Some(&chosen) = by_subject.get(text) else { continue };
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

    /// `id references... subject`, sent in their order; a subject that begins with a `+` is a reply's.
    fn entries(lines: &[&str]) -> Vec<Entry> {
        let entry = |(at, line): (usize, &&str)| {
            let mut words: Vec<&str> = line.split(' ').collect();
            let subject = words.pop().unwrap();
            let id = words.remove(0);
            Entry {
                number: at as u32 + 1,
                sent: at as i64,
                subject: subject.trim_start_matches('+').to_owned(),
                replies: subject.starts_with('+'),
                message_id: (id != "-").then(|| id.to_owned()),
                references: words.into_iter().map(str::to_owned).collect(),
            }
        };
        lines.iter().enumerate().map(entry).collect()
    }

    fn threaded(lines: &[&str]) -> String {
        let shown = shown(&threads(entries(lines)));
        shown.trim_start_matches("* THREAD").trim().to_owned()
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
        let roots = threads(entries(&lines)).roots.len();
        assert_eq!(roots, 3);
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
