//! What of a message is in memory while it comes in, whatever store it comes to.

/// A spool keeps this much in memory: most messages never see a file. What it held before it had a file
/// may stay with the allocator, so this counts for the whole life of a connection, which shall take less
/// than 256 KiB.
pub(crate) const MEMORY_OCTETS_MAX: usize = 96 * 1024;
/// Octets in one piece of that memory. Pieces do not grow and are not copied into larger ones, which
/// would leave as much again behind in the allocator.
const PIECE_OCTETS: usize = 32 * 1024;

/// The beginning of a message; all of it if it is short.
#[derive(Default)]
pub(crate) struct Inflow {
    /// Each full but the last.
    pieces: Vec<Vec<u8>>,
    /// Nothing more is kept.
    shut: bool,
}

impl Inflow {
    /// Keeps octets; `false`, and none of them, when that would be more than [`MEMORY_OCTETS_MAX`].
    pub(crate) fn keep(&mut self, mut octets: &[u8]) -> bool {
        let kept: usize = self.pieces.iter().map(Vec::len).sum();
        if self.shut || kept + octets.len() > MEMORY_OCTETS_MAX {
            return false;
        }
        while !octets.is_empty() {
            let piece = match self.pieces.pop() {
                Some(piece) if piece.len() < PIECE_OCTETS => piece,
                full => {
                    self.pieces.extend(full);
                    Vec::with_capacity(PIECE_OCTETS)
                }
            };
            self.pieces.push(piece);
            let Some(piece) = self.pieces.last_mut() else { break };
            let (now, rest) = octets.split_at(octets.len().min(PIECE_OCTETS - piece.len()));
            piece.extend_from_slice(now);
            octets = rest;
        }
        true
    }

    /// From now on it keeps nothing more.
    pub(crate) fn shut(&mut self) {
        self.shut = true;
    }

    /// Gives up what it holds, piece by piece.
    pub(crate) fn take(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.pieces)
    }

    /// All octets. Most messages are one piece, and are not copied.
    pub(crate) fn into_octets(mut self) -> Vec<u8> {
        match self.pieces.len() {
            0 | 1 => self.pieces.pop().unwrap_or_default(),
            _ => self.pieces.concat(),
        }
    }

    /// Octets of memory that it takes.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.pieces.iter().map(Vec::capacity).sum()
    }
}
