//! A topic's directory on a simulated disk, made from an input.

use std::path::Path;

use logd_server::disk::{Disk, OpenMode, SimDisk};

use crate::targets::files::{File, files};
use crate::targets::reference::{checksum, number};
use crate::targets::seal::sealed;

/// The directory of the topic.
pub(super) const DIR: &str = "work/topic";

/// The bytes of an index before its entries, and what an index begins with.
const HEADER_BYTES: usize = 80;
const MAGIC: &[u8] = b"logdidx3";

/// The bytes of a record of a time.
const RECORD_BYTES: usize = 20;

/// The files of a topic.
pub(super) struct Dir {
    files: Vec<File>,
}

impl Dir {
    pub(super) fn of(input: &[u8]) -> Self {
        let files = files(input).into_iter().map(|file| if file.is_sealed { seal(file) } else { file });
        Self { files: files.collect() }
    }

    /// The number of files.
    pub(super) fn files(&self) -> u64 {
        self.files.len() as u64
    }

    /// The bytes of all of them.
    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes.len() as u64).sum()
    }

    /// Whether an index is there whose header is sound, so that it is believed.
    pub(super) fn has_index(&self) -> bool {
        self.files.iter().any(|file| {
            let (header, crc) = file.bytes.split_at_checked(HEADER_BYTES - 4).unwrap_or_default();
            file.is_a("index")
                && header.starts_with(MAGIC)
                && crc.starts_with(&checksum(header).to_le_bytes())
        })
    }

    /// A disk with these files, all of which is synced.
    pub(super) fn disk(&self) -> SimDisk {
        let disk = SimDisk::new(1);
        let fill = || -> std::io::Result<()> {
            disk.create_dir(Path::new(DIR))?;
            for File { name, bytes, .. } in &self.files {
                let file = disk.open(&Path::new(DIR).join(name), OpenMode::CreateNew)?;
                file.write_all_at(bytes, 0)?;
                file.sync()?;
            }
            for dir in ["/", "work", DIR] {
                disk.sync_dir(Path::new(dir))?;
            }
            Ok(())
        };
        fill().expect("a sound disk");
        disk
    }

    /// The partitions, with their offsets.
    fn partitions(&self) -> Vec<(u64, &[u8])> {
        let partitions = self.files.iter().filter_map(|file| {
            let start = number(file.name.strip_suffix(".log")?.as_bytes()).ok()?;
            Some((start, &file.bytes[..]))
        });
        partitions.collect()
    }

    /// Whether a partition has these bytes at the offset.
    pub(super) fn has_at(&self, offset: u64, bytes: &[u8]) -> bool {
        self.partitions().iter().any(|(start, partition)| {
            let place = offset.checked_sub(*start).and_then(|place| usize::try_from(place).ok());
            place.and_then(|place| partition.get(place..)).is_some_and(|rest| rest.starts_with(bytes))
        })
    }

    /// Offsets and lengths of the batches that each partition begins with, up to the first that `length` finds to be
    /// none, or up to the beginning of the next partition.
    pub(super) fn leading_batches(&self, length: fn(&[u8]) -> Option<usize>) -> Vec<(u64, usize)> {
        let partitions = self.partitions();
        let mut batches = Vec::new();
        for (start, bytes) in &partitions {
            let next = partitions.iter().map(|(next, _)| *next).filter(|next| next > start).min();
            let end = next.map_or(u64::MAX, |next| next - start).min(bytes.len() as u64);
            let mut rest = &bytes[..usize::try_from(end).expect("it is in the file")];
            let mut offset = *start;
            while let Some(length) = length(rest) {
                batches.push((offset, length));
                offset += length as u64;
                rest = &rest[length..];
            }
        }
        batches
    }
}

/// Makes the checksums of a file right.
fn seal(mut file: File) -> File {
    let Some((stem, kind)) = file.name.split_once('.') else { return file };
    let start = number(stem.as_bytes()).unwrap_or_default();
    match kind {
        "log" => file.bytes = sealed(&file.bytes, file.is_counted),
        "index" => seal_index(&mut file.bytes, start, file.is_counted),
        "times" => {
            for record in file.bytes.chunks_exact_mut(RECORD_BYTES) {
                let summed = [&start.to_le_bytes(), &record[..16]].concat();
                record[16..].copy_from_slice(&checksum(&summed).to_le_bytes());
            }
        }
        _ => {}
    }
    file
}

/// Makes the checksums of an index right, and what it says of its partition's beginning and its own length.
fn seal_index(bytes: &mut [u8], start: u64, is_counted: bool) {
    let Some((header, payload)) = bytes.split_at_mut_checked(HEADER_BYTES) else { return };
    if is_counted {
        header[..8].copy_from_slice(MAGIC);
        header[8..16].copy_from_slice(&start.to_le_bytes());
        let count = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("8 bytes"));
        let entries = count(48).saturating_mul(32).saturating_add(count(56).saturating_mul(16));
        let rest = (payload.len() as u64).saturating_sub(entries);
        header[64..72].copy_from_slice(&rest.to_le_bytes());
    }
    header[72..76].copy_from_slice(&checksum(payload).to_le_bytes());
    let crc = checksum(&header[..76]);
    header[76..].copy_from_slice(&crc.to_le_bytes());
}
