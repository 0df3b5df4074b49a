//! What is to be stored, read in pieces of one size. Must never hold more than two of them.

use std::io::{ErrorKind, Read};

use bytes::Bytes;

use super::TargetError;

/// A source in pieces: all of the same length but the last.
pub(super) struct Pieces<'a> {
    source: &'a mut dyn Read,
    bytes: usize,
    ahead: Option<Bytes>,
}

impl<'a> Pieces<'a> {
    /// `source` in pieces of `bytes`.
    pub(super) fn new(source: &'a mut dyn Read, bytes: usize) -> Self {
        Self { source, bytes, ahead: None }
    }

    /// The next piece; empty at the end.
    pub(super) fn next(&mut self) -> Result<Bytes, TargetError> {
        let piece = match self.ahead.take() {
            Some(piece) => piece,
            None => self.fill()?,
        };
        // Read one ahead, so that it is known whether this is the last; a short piece is.
        let ahead = if piece.len() < self.bytes { Bytes::new() } else { self.fill()? };
        self.ahead = Some(ahead);
        Ok(piece)
    }

    /// Whether the piece that was given last is the last that has anything in it.
    pub(super) fn is_at_end(&self) -> bool {
        self.ahead.as_ref().is_some_and(Bytes::is_empty)
    }

    fn fill(&mut self) -> Result<Bytes, TargetError> {
        let mut piece = vec![0; self.bytes];
        let mut filled = 0;
        while filled < piece.len() {
            match self.source.read(&mut piece[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(TargetError::Source(error)),
            }
        }
        piece.truncate(filled);
        Ok(piece.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_comes_in_equal_pieces_and_its_end_is_known_with_the_last() {
        for (length, expected) in [(0, vec![0]), (3, vec![3]), (4, vec![4]), (9, vec![4, 4, 1]), (8, vec![4, 4])] {
            let content = vec![7_u8; length];
            let mut source = &content[..];
            let mut pieces = Pieces::new(&mut source, 4);
            let mut lengths = Vec::new();
            loop {
                lengths.push(pieces.next().unwrap().len());
                if pieces.is_at_end() {
                    break;
                }
            }
            assert_eq!(lengths, expected, "of {length} bytes");
            assert!(pieces.next().unwrap().is_empty());
        }
    }
}
