//! A directory as an input: the files that stand in it, each behind a line with its name.
//!
//! ```text
//! --- 0.log
//! BATCH …
//! --- 0.index!
//! …
//! ```
//!
//! A name that ends in `!` or `#` has its contents made whole before they are used, as far as the target can.

/// What a line with a name begins with.
const SEPARATOR: &[u8] = b"\n--- ";

/// The longest name.
const NAME_BYTES_MAX: usize = 200;

/// The most files of an input.
const FILES_MAX: usize = 24;

/// A file of an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    /// Whether its checksums are to be made right.
    pub(crate) is_sealed: bool,
    /// Whether its counts are, too.
    pub(crate) is_counted: bool,
}

impl File {
    /// Whether the name ends in a dot and this.
    pub(crate) fn is_a(&self, kind: &str) -> bool {
        ends_in(&self.name, kind)
    }
}

/// Whether a name ends in a dot and `kind`.
pub(crate) fn ends_in(name: &str, kind: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, end)| end == kind)
}

/// The files of an input, each name once.
pub(crate) fn files(input: &[u8]) -> Vec<File> {
    let Some(mut rest) = input.strip_prefix(&SEPARATOR[1..]) else { return Vec::new() };
    let mut files: Vec<File> = Vec::new();
    while files.len() < FILES_MAX {
        let end = rest.windows(SEPARATOR.len()).position(|window| window == SEPARATOR);
        if let Some(file) = file(&rest[..end.unwrap_or(rest.len())])
            && files.iter().all(|other| other.name != file.name)
        {
            files.push(file);
        }
        let Some(end) = end else { break };
        rest = &rest[end + SEPARATOR.len()..];
    }
    files
}

fn file(text: &[u8]) -> Option<File> {
    let end = text.iter().position(|byte| *byte == b'\n').unwrap_or(text.len());
    let name = std::str::from_utf8(&text[..end]).ok()?;
    let bytes = text.get(end + 1..).unwrap_or_default().to_vec();
    let is_counted = name.ends_with('#');
    let is_sealed = is_counted || name.ends_with('!');
    let name = name.trim_end_matches(['!', '#']);
    let is_name = !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && !name.contains(['/', '\0'])
        && name != "."
        && name != "..";
    is_name.then(|| File { name: name.to_owned(), bytes, is_sealed, is_counted })
}
