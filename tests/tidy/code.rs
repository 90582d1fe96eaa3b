//! Source without what is no code: comments and the contents of string literals, blanked, lines kept.

/// Blanks comments and the contents of string and character literals; every line break stays where it is.
pub(crate) fn code_of(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let length = blank_length(rest, code.chars().next_back());
        if length == 0 {
            let next = rest.chars().next().unwrap_or_default();
            code.push(next);
            rest = rest.get(next.len_utf8()..).unwrap_or_default();
        } else {
            let (blanked, after) = rest.split_at(length);
            code.extend(blanked.chars().map(|letter| if letter == '\n' { '\n' } else { ' ' }));
            rest = after;
        }
    }
    code
}

/// The bytes of the comment or literal that `rest` begins with; 0 where it begins with code.
fn blank_length(rest: &str, before: Option<char>) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return block_comment_length(rest);
    }
    if rest.starts_with('"') {
        return quoted_length(rest, '"');
    }
    if rest.starts_with('\'') {
        return character_length(rest);
    }
    let in_word = before.is_some_and(|letter| letter.is_alphanumeric() || letter == '_');
    if rest.starts_with('r') && (!in_word || before == Some('b')) {
        return raw_length(rest);
    }
    0
}

fn block_comment_length(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(tail) = rest.get(at..).filter(|tail| !tail.is_empty()) {
        if tail.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if tail.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += tail.chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

fn quoted_length(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, letter) in rest.char_indices().skip(1) {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if letter == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// A character literal; a lifetime has no second quote where one would be.
fn character_length(rest: &str) -> usize {
    let mut letters = rest.char_indices().skip(1);
    match (letters.next(), letters.next()) {
        (Some((_, '\\')), _) => quoted_length(rest, '\''),
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 0,
    }
}

/// A raw string: `r`, hashes, a quote.
fn raw_length(rest: &str) -> usize {
    let hashes = rest.chars().skip(1).take_while(|letter| *letter == '#').count();
    let start = 1 + hashes + 1;
    if !rest.get(1 + hashes..).is_some_and(|tail| tail.starts_with('"')) {
        return 0;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    rest.get(start..).and_then(|tail| tail.find(&end)).map_or(rest.len(), |at| start + at + end.len())
}

/// Whether `code` has `word` as a whole identifier.
pub(crate) fn has_word(code: &str, word: &str) -> bool {
    words(code).any(|found| found == word)
}

/// Whether `code` names `leaf` in the crate or module `root`, as `root::leaf` or in a `root::{…}` group.
pub(crate) fn has_path(code: &str, root: &str, leaf: &str) -> bool {
    let tight: String =
        code.split_whitespace().collect::<Vec<_>>().join(" ").replace(":: ", "::").replace(" ::", "::");
    let prefix = format!("{root}::");
    tight.match_indices(&prefix).any(|(at, _)| {
        let tail = tight.get(at + prefix.len()..).unwrap_or_default();
        if tail.starts_with('{') { has_word(group(tail), leaf) } else { words(tail).next() == Some(leaf) }
    })
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|letter: char| !(letter.is_alphanumeric() || letter == '_')).filter(|word| !word.is_empty())
}

/// The group in braces that `tail` begins with.
fn group(tail: &str) -> &str {
    let mut depth = 0_usize;
    for (at, letter) in tail.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 1 => return tail.get(..at).unwrap_or(tail),
            '}' => depth -= 1,
            _ => {}
        }
    }
    tail
}

#[test]
fn comments_and_literals_are_blanked() {
    assert_eq!(code_of("a // b\nc"), "a     \nc");
    assert_eq!(code_of("a /* b /* c\n */ */ d"), "a          \n       d");
    assert_eq!(code_of(r#"a "b \" c" d"#), "a          d");
    assert_eq!(code_of(r##"a r#"b " c"# d"##), "a            d");
    assert_eq!(code_of(r#"br"b" d"#), "b     d");
    assert_eq!(code_of(r"f('a', '\'', '/')"), "f(   ,     ,    )");
    assert_eq!(code_of("&'static str, 'a"), "&'static str, 'a");
}

#[test]
fn words_are_whole() {
    assert!(has_word("use tokio::net;", "tokio"));
    assert!(!has_word("use tokio_util::net;", "tokio"));
}

#[test]
fn paths_are_found_in_groups() {
    assert!(has_path("use std::fs;", "std", "fs"));
    assert!(has_path("std::fs::read(path)", "std", "fs"));
    assert!(has_path("use std::{\n    fs,\n    io,\n};", "std", "fs"));
    assert!(has_path("use std::{fs::File, io};", "std", "fs"));
    assert!(!has_path("use std::{io, net};", "std", "fs"));
    assert!(!has_path("use std::io; use crate::fs;", "std", "fs"));
    assert!(!has_path("use std::fsync;", "std", "fs"));
}
