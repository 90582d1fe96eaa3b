//! The steps of the hot paths by themselves: building and checking a batch, walking its messages, appending it, and finding
//! it again.
//!
//!     cargo bench -p logd-benches
#![expect(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use logd_protocol::{
    Batch, BatchBuilder, CheckedBatch, Decoded, Messages, Offset, RawBatch, TopicName, decode_batch,
};
use logd_server::disk::OsDisk;
use logd_server::log::{Log, LogConfig};

const MESSAGE: [u8; 100] = [b'x'; 100];
const BATCH_BYTES: usize = 64 * 1024;
/// A topic in which batches are looked up.
const LOG_BYTES: u64 = 64 * 1024 * 1024;

fn build(bytes: usize) -> Batch {
    let mut builder = BatchBuilder::new(&TopicName::default(), bytes);
    while builder.push(&MESSAGE).is_ok() {}
    builder.finish().unwrap()
}

fn raw(batch: &Batch) -> RawBatch<'_> {
    match decode_batch(batch.bytes(), usize::MAX) {
        Decoded::Whole { value, .. } => value,
        other => panic_at(&other),
    }
}

fn panic_at(decoded: &Decoded<RawBatch<'_>>) -> ! {
    unreachable!("a whole batch: {decoded:?}")
}

fn checked(batch: &Batch) -> CheckedBatch<'_> {
    raw(batch).check().unwrap()
}

fn batches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("batch of 64 KiB");
    let batch = build(BATCH_BYTES);
    group.throughput(Throughput::Bytes(batch.bytes().len() as u64));
    group.bench_function("build", |bencher| bencher.iter(|| build(black_box(BATCH_BYTES))));
    group
        .bench_function("decode and check", |bencher| bencher.iter(|| black_box(checked(&batch)).messages()));
    group.bench_function("checksum", |bencher| bencher.iter(|| raw(&batch).check_crc()));
    group.bench_function("walk", |bencher| {
        bencher.iter(|| {
            Messages::new(raw(&batch).body())
                .filter_map(Result::ok)
                .map(|message| message.bytes.len())
                .sum::<usize>()
        });
    });
    group.finish();
}

fn log(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let open = |name: &str| {
        let config = LogConfig { partition_bytes: 1 << 40, partitions: 16, flush_batches: 0 };
        Log::open(Arc::new(OsDisk::new(0o600)), folder.path().join(name), config).unwrap().0
    };
    let mut group = criterion.benchmark_group("log");
    // What was appended is dropped now and then: else the disk would fill.
    let batch = build(BATCH_BYTES);
    group.throughput(Throughput::Bytes(batch.bytes().len() as u64));
    let (mut appending, mut number, mut bytes) = (open("append-0"), 0, 0);
    group.bench_function("append 64 KiB", |bencher| {
        bencher.iter(|| {
            bytes += batch.bytes().len() as u64;
            if bytes > LOG_BYTES {
                std::fs::remove_dir_all(folder.path().join(format!("append-{number}"))).unwrap();
                number += 1;
                bytes = 0;
                appending = open(&format!("append-{number}"));
            }
            appending.append(&checked(&batch), 0).unwrap()
        });
    });
    group.throughput(Throughput::Elements(1));
    let (filled, small) = (open("look-up"), build(4096));
    let mut offsets: Vec<Offset> = Vec::new();
    while offsets.last().is_none_or(|offset| offset.as_u64() < LOG_BYTES) {
        offsets.push(filled.append(&checked(&small), 0).unwrap().offset);
    }
    let (mut scratch, mut next) = (Vec::new(), 0);
    group.bench_function("find a batch of 4 KiB", |bencher| {
        bencher.iter(|| {
            next = (next + 7919) % offsets.len();
            filled.view().select(offsets[next], 1, &mut scratch).is_ok()
        });
    });
    group.finish();
}

criterion_group!(benches, batches, log);
criterion_main!(benches);
