//! Answers in pages: however much there is, no answer and no side holds more than a page of it.

use serde::Serialize;

/// Members of a page at most.
pub(super) const PAGE_MEMBERS_MAX: usize = 100;
/// Octets of a page as JSON at most, unless its only member has more: an answer may have eight
/// times as many.
const PAGE_OCTETS_MAX: usize = 8 * 1024 * 1024;

/// The page that begins with the first of these numbered members, and the number after which the
/// next begins; none when this is the last.
pub(super) fn page<T: Serialize>(
    members: Vec<(u64, T)>,
) -> Result<(Vec<T>, Option<u64>), serde_json::Error> {
    let full = members.len() >= PAGE_MEMBERS_MAX;
    let (mut page, mut last, mut octets) = (Vec::with_capacity(members.len()), None, 0);
    for (number, member) in members {
        octets += serde_json::to_vec(&member)?.len();
        if octets > PAGE_OCTETS_MAX && !page.is_empty() {
            return Ok((page, last));
        }
        page.push(member);
        last = Some(number);
    }
    Ok((page, last.filter(|_| full)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_ends_with_its_members_or_its_octets() {
        let members = |count: u64, octets: usize| -> Vec<(u64, String)> {
            (1..=count).map(|number| (number, "x".repeat(octets))).collect()
        };
        let told = |members| page(members).map(|(page, next)| (page.len(), next)).unwrap();
        assert_eq!(told(members(0, 0)), (0, None));
        let full = PAGE_MEMBERS_MAX as u64;
        assert_eq!(told(members(full - 1, 1)), (PAGE_MEMBERS_MAX - 1, None));
        assert_eq!(told(members(full, 1)), (PAGE_MEMBERS_MAX, Some(full)));
        // Quotes count.
        assert_eq!(told(members(2, PAGE_OCTETS_MAX / 2 - 2)), (2, None));
        assert_eq!(told(members(2, PAGE_OCTETS_MAX / 2 - 1)), (1, Some(1)));
        assert_eq!(told(members(3, PAGE_OCTETS_MAX + 1)), (1, Some(1)));
    }
}
