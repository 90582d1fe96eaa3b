//! Cutting what is written into lines, however the writes cut it. Pure.

/// The byte that ends a line.
const END: u8 = b'\n';

/// The beginning of a line whose end has not come.
#[derive(Debug)]
pub(super) struct Lines {
    /// At most as long as a piece can be.
    kept: Vec<u8>,
    /// The most bytes of a piece; at least 1.
    bytes_max: usize,
}

impl Lines {
    /// Nothing is kept, or allocated, yet.
    pub(super) const fn new(bytes_max: usize) -> Self {
        Self { kept: Vec::new(), bytes_max }
    }

    /// The most bytes of a piece.
    pub(super) const fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Hands every line that ends in `bytes` to `take`, without its end; a line that is too long in pieces, each as soon
    /// as it is sure that more follows. What is left is kept.
    pub(super) fn push(&mut self, bytes: &[u8], mut take: impl FnMut(&[u8])) {
        let mut rest = bytes;
        while let Some(at) = rest.iter().position(|byte| *byte == END) {
            let (line, behind) = rest.split_at(at);
            rest = behind.get(1..).unwrap_or_default();
            if self.kept.is_empty() {
                let last = self.cut(line, &mut take);
                take(last);
            } else {
                self.keep(line, &mut take);
                self.end(&mut take);
            }
        }
        if self.kept.is_empty() {
            rest = self.cut(rest, &mut take);
        }
        self.keep(rest, &mut take);
    }

    /// Hands what is kept, if anything is, to `take`: its end does not come.
    pub(super) fn end(&mut self, take: impl FnOnce(&[u8])) {
        if !self.kept.is_empty() {
            take(&self.kept);
            self.kept.clear();
        }
    }

    /// Hands over all pieces but the last, which it returns.
    fn cut<'a>(&self, mut line: &'a [u8], take: &mut impl FnMut(&[u8])) -> &'a [u8] {
        while line.len() > self.bytes_max {
            let (piece, rest) = line.split_at(cut_at(line, self.bytes_max));
            take(piece);
            line = rest;
        }
        line
    }

    /// Keeps more of a line, and hands over all pieces but the last.
    fn keep(&mut self, mut more: &[u8], take: &mut impl FnMut(&[u8])) {
        while !more.is_empty() {
            // One byte too many tells that the line goes on.
            let room = (self.bytes_max + 1).saturating_sub(self.kept.len());
            let (next, rest) = more.split_at(room.min(more.len()));
            self.kept.extend_from_slice(next);
            more = rest;
            if self.kept.len() > self.bytes_max {
                let at = cut_at(&self.kept, self.bytes_max);
                take(self.kept.get(..at).unwrap_or_default());
                self.kept.drain(..at);
            }
        }
    }
}

/// Where the first piece of at most `bytes_max` bytes ends: not within a character, where the text is UTF-8.
fn cut_at(line: &[u8], bytes_max: usize) -> usize {
    let lowest = bytes_max.saturating_sub(3).max(1);
    let is_start = |at: &usize| line.get(*at).is_some_and(|byte| byte & 0xC0 != 0x80);
    (lowest..=bytes_max).rev().find(is_start).unwrap_or(bytes_max)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The messages that come of these writes, and of the end.
    fn messages(bytes_max: usize, writes: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut lines = Lines::new(bytes_max);
        let mut messages = Vec::new();
        for bytes in writes {
            lines.push(bytes, |message| messages.push(message.to_vec()));
            assert!(lines.kept.len() <= bytes_max, "more is kept than a piece can have");
        }
        lines.end(|message| messages.push(message.to_vec()));
        messages
    }

    fn texts(bytes_max: usize, input: &str) -> Vec<String> {
        let messages = messages(bytes_max, &[input.as_bytes()]);
        messages.into_iter().map(|message| String::from_utf8(message).unwrap()).collect()
    }

    #[test]
    fn a_line_is_a_message_without_its_end() {
        assert_eq!(texts(9, ""), [""; 0]);
        assert_eq!(texts(9, "\n"), [""]);
        assert_eq!(texts(9, "a\n\nb\n"), ["a", "", "b"]);
        assert_eq!(texts(9, "a\r\nb"), ["a\r", "b"]);
    }

    #[test]
    fn a_long_line_is_several_messages_and_no_character_is_cut() {
        assert_eq!(
            texts(4, "abcd\nabcde\nabcdefgh\nabcdefghi"),
            ["abcd", "abcd", "e", "abcd", "efgh", "abcd", "efgh", "i"]
        );
        assert_eq!(texts(4, "abc\u{e9}\u{20ac}\u{1f980}x"), ["abc", "\u{e9}", "\u{20ac}", "\u{1f980}", "x"]);
        // Nothing but the inside of characters is cut anywhere.
        assert_eq!(messages(4, &[&[0x80; 9]]), [vec![0x80; 4], vec![0x80; 4], vec![0x80]]);
        assert_eq!(messages(1, &[b"ab\xc3\xa9\n"]).concat(), b"ab\xc3\xa9");
    }

    #[test]
    fn every_split_of_the_writes_makes_the_same_messages() {
        let input = "one\n\ntwo and more than fits\r\n\u{e9}\u{20ac}\u{1f980}\u{e9}\u{20ac}\u{1f980}\nrest"
            .as_bytes();
        for bytes_max in [4, 5, 7, 8, 100] {
            let whole = messages(bytes_max, &[input]);
            assert!(whole.iter().all(|message| message.len() <= bytes_max));
            for first in 0..=input.len() {
                for second in first..=input.len() {
                    let writes = [&input[..first], &input[first..second], &input[second..]];
                    assert_eq!(messages(bytes_max, &writes), whole, "split at {first} and {second}");
                }
            }
            let bytes: Vec<&[u8]> = input.chunks(1).collect();
            assert_eq!(messages(bytes_max, &bytes), whole);
        }
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_changed(
            input in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'a'), any::<u8>()], 0..200),
            size in 1_usize..50,
            bytes_max in 1_usize..40,
        ) {
            let writes: Vec<&[u8]> = input.chunks(size).collect();
            let messages = messages(bytes_max, &writes);
            prop_assert!(messages.iter().all(|message| message.len() <= bytes_max));
            let kept: Vec<u8> = input.iter().copied().filter(|byte| *byte != b'\n').collect();
            prop_assert_eq!(messages.concat(), kept);
        }
    }
}
