//! The files and directories of a simulated disk: as they are seen, as they are on the disk, and what lies between.
//!
//! A file has the bytes that readers see, the bytes that are certainly on the disk, and the changes since the last
//! sync; a directory the same for its names. A node stays for as long as the tree does: a name that was removed without
//! a sync can come back, and those who have it open go on reading it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path};

use rustix::io::Errno;

use super::super::Entry;

/// The longest file, in bytes; it is all in memory.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NodeId(u64);

/// The directory at the top.
pub(super) const ROOT: NodeId = NodeId(0);

/// A file or a directory.
#[derive(Debug, Clone)]
pub(super) enum Node {
    File(FileNode),
    Dir(DirNode),
}

/// A file.
#[derive(Debug, Clone, Default)]
pub(super) struct FileNode {
    /// What readers see.
    pub(super) seen: Vec<u8>,
    /// What is certainly on the disk.
    pub(super) synced: Vec<u8>,
    /// What was done to the file since then, in order.
    pub(super) unsynced: Vec<Change>,
    modified: u64,
    has_name: bool,
    handles: usize,
}

/// A change of a file.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Write { at: usize, bytes: Vec<u8> },
    SetLen(usize),
}

/// A directory; the fields are as those of a file.
#[derive(Debug, Clone, Default)]
pub(super) struct DirNode {
    pub(super) seen: Names,
    pub(super) synced: Names,
    pub(super) unsynced: Vec<NameChange>,
}

/// The names of a directory.
pub(super) type Names = BTreeMap<String, NodeId>;

/// A change of a directory.
#[derive(Debug, Clone)]
pub(super) enum NameChange {
    Add(String, NodeId),
    Remove(String),
    Rename { from: String, to: String },
}

impl Change {
    pub(super) fn apply(&self, contents: &mut Vec<u8>) {
        match self {
            Self::Write { at, bytes } => write_bytes(contents, bytes, *at),
            Self::SetLen(len) => contents.resize(*len, 0),
        }
    }
}

/// Writes `bytes` at `at`, after zeros where the contents end before it.
pub(super) fn write_bytes(contents: &mut Vec<u8>, bytes: &[u8], at: usize) {
    let end = at + bytes.len();
    if contents.len() < end && !bytes.is_empty() {
        contents.resize(end, 0);
    }
    if let Some(place) = contents.get_mut(at..end) {
        place.copy_from_slice(bytes);
    }
}

impl NameChange {
    pub(super) fn apply(&self, names: &mut Names) {
        match self {
            Self::Add(name, node) => {
                names.insert(name.clone(), *node);
            }
            Self::Remove(name) => {
                names.remove(name);
            }
            Self::Rename { from, to } => {
                if let Some(node) = names.remove(from) {
                    names.insert(to.clone(), node);
                }
            }
        }
    }
}

impl FileNode {
    /// A file whose contents are on the disk.
    pub(super) fn synced(contents: Vec<u8>, modified: u64) -> Self {
        Self { seen: contents.clone(), synced: contents, modified, has_name: true, ..Self::default() }
    }

    pub(super) fn len(&self) -> u64 {
        self.seen.len() as u64
    }

    /// When the file was last changed, in seconds of the tree's clock, which counts the changes.
    pub(super) fn modified(&self) -> u64 {
        self.modified
    }

    pub(super) fn read(&self, buffer: &mut [u8], at: u64) -> usize {
        let rest = usize::try_from(at).ok().and_then(|at| self.seen.get(at..)).unwrap_or_default();
        let read = rest.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..read), rest.get(..read)) {
            to.copy_from_slice(from);
        }
        read
    }

    fn change(&mut self, change: Change, clock: u64) {
        change.apply(&mut self.seen);
        self.unsynced.push(change);
        self.modified = clock;
    }
}

impl DirNode {
    fn change(&mut self, change: NameChange) {
        change.apply(&mut self.seen);
        self.unsynced.push(change);
    }
}

/// A tree of directories with files.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    pub(super) nodes: BTreeMap<NodeId, Node>,
    next: u64,
    clock: u64,
}

impl Tree {
    pub(super) fn new() -> Self {
        Self { nodes: BTreeMap::from([(ROOT, Node::Dir(DirNode::default()))]), next: 1, clock: 0 }
    }

    /// The same tree with other nodes of the same numbers.
    pub(super) fn with_nodes(&self, nodes: BTreeMap<NodeId, Node>) -> Self {
        Self { nodes, next: self.next, clock: self.clock }
    }

    /// The same tree after all who had files open are gone.
    pub(super) fn without_handles(&self) -> Self {
        let mut tree = self.clone();
        for node in tree.nodes.values_mut() {
            if let Node::File(file) = node {
                file.handles = 0;
            }
        }
        tree
    }

    pub(super) fn create_dir(&mut self, path: &Path) -> io::Result<()> {
        let mut dir = ROOT;
        for name in names(path)? {
            let next = self.dir(dir)?.seen.get(name).copied();
            dir = match next {
                Some(node) => self.dir(node).map(|_| node)?,
                None => self.add(dir, name, Node::Dir(DirNode::default()))?,
            };
        }
        Ok(())
    }

    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let dir = self.dir(self.find(path)?)?;
        let entry = |(name, node): (&String, &NodeId)| Entry {
            name: name.clone(),
            is_dir: matches!(self.nodes.get(node), Some(Node::Dir(_))),
        };
        Ok(dir.seen.iter().map(entry).collect())
    }

    /// Opens a file that is there.
    pub(super) fn open(&mut self, path: &Path) -> io::Result<NodeId> {
        let node = self.find(path)?;
        self.file_mut(node)?.handles += 1;
        Ok(node)
    }

    pub(super) fn create_new(&mut self, path: &Path) -> io::Result<NodeId> {
        let (dir, name) = self.split(path)?;
        if self.dir(dir)?.seen.contains_key(name) {
            return Err(Errno::EXIST.into());
        }
        let file = FileNode { handles: 1, has_name: true, modified: self.tick(), ..FileNode::default() };
        self.add(dir, name, Node::File(file))
    }

    pub(super) fn truncate(&mut self, path: &Path) -> io::Result<NodeId> {
        match self.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.create_new(path),
            Err(error) => Err(error),
            Ok(node) => self.set_len(node, 0, None).map(|()| node),
        }
    }

    pub(super) fn close(&mut self, node: NodeId) {
        if let Ok(file) = self.file_mut(node) {
            file.handles = file.handles.saturating_sub(1);
        }
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let node = self.find(from)?;
        let (from_dir, from_name) = self.split(from)?;
        let (to_dir, to_name) = self.split(to)?;
        let replaced = self.dir(to_dir)?.seen.get(to_name).copied();
        if replaced == Some(node) {
            return Ok(());
        }
        if let Some(replaced) = replaced {
            self.file(node)?;
            self.file_mut(replaced)?.has_name = false;
        }
        if from_dir == to_dir {
            let change = NameChange::Rename { from: from_name.to_owned(), to: to_name.to_owned() };
            self.dir_mut(from_dir)?.change(change);
        } else {
            self.dir_mut(to_dir)?.change(NameChange::Add(to_name.to_owned(), node));
            self.dir_mut(from_dir)?.change(NameChange::Remove(from_name.to_owned()));
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        let node = self.find(path)?;
        self.file_mut(node)?.has_name = false;
        let (dir, name) = self.split(path)?;
        self.dir_mut(dir)?.change(NameChange::Remove(name.to_owned()));
        Ok(())
    }

    pub(super) fn remove_dir(&mut self, path: &Path) -> io::Result<()> {
        if !self.dir(self.find(path)?)?.seen.is_empty() {
            return Err(Errno::NOTEMPTY.into());
        }
        let (dir, name) = self.split(path)?;
        self.dir_mut(dir)?.change(NameChange::Remove(name.to_owned()));
        Ok(())
    }

    /// How many of the `bytes` bytes to be written at `at` there is room for.
    pub(super) fn room(
        &self,
        node: NodeId,
        at: u64,
        bytes: usize,
        capacity: Option<u64>,
    ) -> io::Result<usize> {
        let Some(capacity) = capacity else { return Ok(bytes) };
        let free = capacity.saturating_sub(self.used());
        let end_max = self.file(node)?.len().saturating_add(free);
        Ok(usize::try_from(end_max.saturating_sub(at)).unwrap_or(usize::MAX).min(bytes))
    }

    pub(super) fn write(&mut self, node: NodeId, bytes: &[u8], at: u64) -> io::Result<()> {
        let clock = self.tick();
        let file = self.file_mut(node)?;
        check_len(at.saturating_add(bytes.len() as u64))?;
        file.change(Change::Write { at: check_len(at)?, bytes: bytes.to_vec() }, clock);
        Ok(())
    }

    pub(super) fn set_len(&mut self, node: NodeId, bytes: u64, capacity: Option<u64>) -> io::Result<()> {
        let grown = bytes.saturating_sub(self.file(node)?.len());
        if grown > 0 && capacity.is_some_and(|capacity| self.used().saturating_add(grown) > capacity) {
            return Err(Errno::NOSPC.into());
        }
        let clock = self.tick();
        let len = check_len(bytes)?;
        self.file_mut(node)?.change(Change::SetLen(len), clock);
        Ok(())
    }

    /// Secures all of a file's contents or a directory's names.
    pub(super) fn sync(&mut self, node: NodeId) {
        match self.nodes.get_mut(&node) {
            Some(Node::File(file)) => {
                for change in file.unsynced.drain(..) {
                    change.apply(&mut file.synced);
                }
            }
            Some(Node::Dir(dir)) => {
                for change in dir.unsynced.drain(..) {
                    change.apply(&mut dir.synced);
                }
            }
            None => {}
        }
    }

    pub(super) fn find_dir(&self, path: &Path) -> io::Result<NodeId> {
        let node = self.find(path)?;
        self.dir(node).map(|_| node)
    }

    pub(super) fn file(&self, node: NodeId) -> io::Result<&FileNode> {
        match self.nodes.get(&node) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Dir(_)) => Err(Errno::ISDIR.into()),
            None => Err(Errno::BADF.into()),
        }
    }

    fn file_mut(&mut self, node: NodeId) -> io::Result<&mut FileNode> {
        match self.nodes.get_mut(&node) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Dir(_)) => Err(Errno::ISDIR.into()),
            None => Err(Errno::BADF.into()),
        }
    }

    fn dir(&self, node: NodeId) -> io::Result<&DirNode> {
        match self.nodes.get(&node) {
            Some(Node::Dir(dir)) => Ok(dir),
            _ => Err(Errno::NOTDIR.into()),
        }
    }

    fn dir_mut(&mut self, node: NodeId) -> io::Result<&mut DirNode> {
        match self.nodes.get_mut(&node) {
            Some(Node::Dir(dir)) => Ok(dir),
            _ => Err(Errno::NOTDIR.into()),
        }
    }

    fn find(&self, path: &Path) -> io::Result<NodeId> {
        names(path)?.into_iter().try_fold(ROOT, |dir, name| {
            self.dir(dir)?.seen.get(name).copied().ok_or_else(|| Errno::NOENT.into())
        })
    }

    /// The directory that has, or is to have, the path's last name, and that name.
    fn split<'a>(&self, path: &'a Path) -> io::Result<(NodeId, &'a str)> {
        let name = names(path)?.pop().ok_or(Errno::ISDIR)?;
        let dir = self.find(path.parent().unwrap_or(Path::new("")))?;
        Ok((self.dir(dir).map(|_| dir)?, name))
    }

    fn add(&mut self, dir: NodeId, name: &str, node: Node) -> io::Result<NodeId> {
        let id = NodeId(self.next);
        self.dir_mut(dir)?.change(NameChange::Add(name.to_owned(), id));
        self.next += 1;
        self.nodes.insert(id, node);
        Ok(id)
    }

    /// The bytes of all files that have a name or are open.
    fn used(&self) -> u64 {
        self.nodes
            .values()
            .map(|node| match node {
                Node::File(file) if file.has_name || file.handles > 0 => file.len(),
                Node::File(_) | Node::Dir(_) => 0,
            })
            .sum()
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }
}

fn check_len(bytes: u64) -> io::Result<usize> {
    match usize::try_from(bytes) {
        Ok(len) if bytes <= FILE_BYTES_MAX => Ok(len),
        _ => Err(Errno::FBIG.into()),
    }
}

fn names(path: &Path) -> io::Result<Vec<&str>> {
    let name = |component| match component {
        Component::RootDir | Component::CurDir => None,
        Component::Normal(name) => Some(name.to_str().ok_or_else(|| Errno::ILSEQ.into())),
        Component::ParentDir | Component::Prefix(_) => Some(Err(Errno::INVAL.into())),
    };
    path.components().filter_map(name).collect()
}
