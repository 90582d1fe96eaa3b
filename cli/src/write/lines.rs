//! Lines out of blocks: pure, without I/O.
//!
//! A line is what stands before a `\n`, byte for byte, and what is left at the end of the input. Lines are slices of
//! the block; only one that goes on in the next block is copied, and never more of it than a message can have.

use memchr::memchr;

/// A line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    /// The line without its `\n`.
    pub(crate) bytes: &'a [u8],
    /// Whether the line has more bytes, which were not looked for: these alone are too many.
    pub(crate) is_cut: bool,
}

/// Splits blocks into lines.
#[derive(Debug)]
pub(crate) struct Lines {
    block: Vec<u8>,
    /// Where the next line starts in the block.
    at: usize,
    /// The beginning of a line that was in blocks before this one.
    begun: Vec<u8>,
    /// Whether `begun` was handed out.
    begun_is_done: bool,
    line_bytes_max: usize,
}

impl Lines {
    /// Lines of which those are cut that have more than `line_bytes_max` bytes and go over blocks.
    pub(crate) const fn new(line_bytes_max: usize) -> Self {
        Self { block: Vec::new(), at: 0, begun: Vec::new(), begun_is_done: false, line_bytes_max }
    }

    /// Adds a block, which is split from now on. The one before must have been split to its end.
    pub(crate) fn push(&mut self, block: Vec<u8>) {
        debug_assert!(self.at == self.block.len(), "the block before was not split to its end");
        self.block = block;
        self.at = 0;
    }

    /// The next line that ends in what there is, or one that is longer than it can be; `None` when a block is needed.
    pub(crate) fn next(&mut self) -> Option<Line<'_>> {
        if std::mem::take(&mut self.begun_is_done) {
            self.begun.clear();
        }
        let rest = self.block.get(self.at..).unwrap_or_default();
        let Some(end) = memchr(b'\n', rest) else {
            self.begun.extend_from_slice(rest);
            self.at = self.block.len();
            let is_cut = self.begun.len() > self.line_bytes_max;
            return is_cut.then_some(Line { bytes: &self.begun, is_cut });
        };
        self.at += end + 1;
        let bytes = rest.get(..end).unwrap_or_default();
        if self.begun.is_empty() {
            return Some(Line { bytes, is_cut: false });
        }
        self.begun.extend_from_slice(bytes);
        self.begun_is_done = true;
        Some(Line { bytes: &self.begun, is_cut: false })
    }

    /// What stands behind the last `\n`, when the input has ended; `None` when nothing does.
    pub(crate) fn rest(&mut self) -> Option<&[u8]> {
        if std::mem::take(&mut self.begun_is_done) {
            self.begun.clear();
        }
        (!self.begun.is_empty()).then_some(&self.begun)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All lines of `blocks`, the last one without `\n` included.
    fn split(blocks: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut lines = Lines::new(1000);
        let mut found = Vec::new();
        for block in blocks {
            lines.push(block.to_vec());
            while let Some(line) = lines.next() {
                assert!(!line.is_cut);
                found.push(line.bytes.to_vec());
            }
        }
        found.extend(lines.rest().map(<[u8]>::to_vec));
        found
    }

    /// The same, found in the simplest way.
    fn expected(input: &[u8]) -> Vec<Vec<u8>> {
        let mut lines: Vec<Vec<u8>> = input.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        if lines.last().is_some_and(Vec::is_empty) {
            lines.pop();
        }
        lines
    }

    const INPUTS: [&[u8]; 9] = [
        b"",
        b"\n",
        b"\n\n",
        b"a",
        b"a\n",
        b"a\nb",
        b"one\r\n\r\ntwo\n\nthree\r",
        b"\xff\xfe\0\n\r\n\x80",
        b"\na\n\nbc\ndef\n\n\n",
    ];

    #[test]
    fn lines_are_the_same_wherever_the_input_is_split() {
        for input in INPUTS {
            for one in 0..=input.len() {
                for two in one..=input.len() {
                    let blocks = [&input[..one], &input[one..two], &input[two..]];
                    assert_eq!(split(&blocks), expected(input), "{blocks:?}");
                }
            }
            let bytes: Vec<&[u8]> = input.chunks(1).collect();
            assert_eq!(split(&bytes), expected(input));
        }
    }

    #[test]
    fn nothing_is_no_line_and_a_newline_is_an_empty_one() {
        assert_eq!(split(&[b""]), Vec::<Vec<u8>>::new());
        assert_eq!(split(&[b"\n"]), [b""]);
        assert_eq!(split(&[b"\n\na"]), [&b""[..], b"", b"a"]);
    }

    #[test]
    fn line_of_the_longest_length_is_whole_and_a_longer_one_is_cut() {
        let mut lines = Lines::new(4);
        lines.push(b"ab".to_vec());
        assert_eq!(lines.next(), None);
        lines.push(b"cd".to_vec());
        assert_eq!(lines.next(), None);
        lines.push(b"\nab".to_vec());
        assert_eq!(lines.next(), Some(Line { bytes: b"abcd", is_cut: false }));
        assert_eq!(lines.next(), None);
        lines.push(b"cde".to_vec());
        assert_eq!(lines.next(), Some(Line { bytes: b"abcde", is_cut: true }));
    }

    proptest! {
        #[test]
        fn random_blocks_give_the_lines_of_the_whole(
            blocks in proptest::collection::vec(proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..40), 0..8)
        ) {
            let slices: Vec<&[u8]> = blocks.iter().map(Vec::as_slice).collect();
            prop_assert_eq!(split(&slices), expected(&blocks.concat()));
        }
    }
}
