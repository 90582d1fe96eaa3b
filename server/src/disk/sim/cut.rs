//! What is left of a simulated disk after a kill, a power cut or a failed sync.
//!
//! Of a directory's unsynced changes the first ones are left, of a file's any: each write as a whole, in part, or not
//! at all, and where a later one is left behind one that is not, there are zeros, or what was there before.

use std::collections::BTreeMap;

use super::tree::{Change, DirNode, FileNode, Names, Node, NodeId, ROOT, Tree, write_bytes};

/// What becomes of that which was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// All of it stays, and stays unsynced: the process was killed, the operating system lives on.
    KeepAll,
    /// All of it is lost: the power was cut, and nothing had been written that was not asked for.
    LoseUnsynced,
    /// Any part of it is left, as this seed and the disk's decide: the power was cut.
    Seeded(u64),
}

/// The bytes that a disk writes as a whole.
const SECTOR_BYTES: usize = 512;

/// Small and good enough numbers that look random: splitmix64.
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number from 0 to `max`.
    fn up_to(&mut self, max: usize) -> usize {
        let bound = (max as u64).saturating_add(1);
        usize::try_from(self.next() % bound).unwrap_or(max)
    }

    fn coin(&mut self) -> bool {
        self.next().is_multiple_of(2)
    }
}

/// The tree as it is after the cut.
pub(super) fn survivors(tree: &Tree, cut: Cut, seed: u64) -> Tree {
    let mut random = match cut {
        Cut::KeepAll => return tree.without_handles(),
        Cut::LoseUnsynced => None,
        Cut::Seeded(cut_seed) => Some(Random::new(seed ^ cut_seed.rotate_left(32))),
    };
    let mut nodes = BTreeMap::new();
    let mut found = vec![ROOT];
    while let Some(id) = found.pop() {
        match tree.nodes.get(&id) {
            Some(Node::File(file)) => {
                let contents = contents_left(file, random.as_mut());
                nodes.insert(id, Node::File(FileNode::synced(contents, file.modified())));
            }
            Some(Node::Dir(dir)) => {
                let names = names_left(dir, random.as_mut());
                found.extend(names.values().filter(|node| is_there(tree, **node)));
                let dir = DirNode { seen: names.clone(), synced: names, unsynced: Vec::new() };
                nodes.insert(id, Node::Dir(dir));
            }
            None => {}
        }
    }
    tree.with_nodes(nodes)
}

fn is_there(tree: &Tree, node: NodeId) -> bool {
    tree.nodes.contains_key(&node)
}

impl Tree {
    /// A sync that fails: some of what was not synced is on the disk, and the rest is forgotten.
    pub(super) fn sync_in_part(&mut self, node: NodeId, random: &mut Random) {
        match self.nodes.get_mut(&node) {
            Some(Node::File(file)) => {
                file.synced = contents_left(file, Some(random));
                file.unsynced.clear();
            }
            Some(Node::Dir(dir)) => {
                dir.synced = names_left(dir, Some(random));
                dir.unsynced.clear();
            }
            None => {}
        }
    }
}

fn names_left(dir: &DirNode, random: Option<&mut Random>) -> Names {
    let mut names = dir.synced.clone();
    let count = random.map_or(0, |random| random.up_to(dir.unsynced.len()));
    for change in dir.unsynced.iter().take(count) {
        change.apply(&mut names);
    }
    names
}

fn contents_left(file: &FileNode, random: Option<&mut Random>) -> Vec<u8> {
    let mut contents = file.synced.clone();
    if let Some(random) = random {
        for change in &file.unsynced {
            leave_part(change, &mut contents, random);
        }
    }
    contents
}

/// Applies as much of a change as the seed decides: half of the time all of it.
fn leave_part(change: &Change, contents: &mut Vec<u8>, random: &mut Random) {
    if random.coin() {
        change.apply(contents);
        return;
    }
    let Change::Write { at, bytes } = change else { return };
    match random.up_to(3) {
        0 => {}
        // The file has its new length, but not the data.
        1 => contents.resize(contents.len().max(at + bytes.len()), 0),
        2 => write_bytes(contents, bytes.get(..random.up_to(bytes.len())).unwrap_or_default(), *at),
        _ => {
            contents.resize(contents.len().max(at + bytes.len()), 0);
            for (index, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
                if random.coin() {
                    write_bytes(contents, sector, at + index * SECTOR_BYTES);
                }
            }
        }
    }
}
