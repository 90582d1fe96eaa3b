//! Whether others have their turn while much is sent.

use std::net::Ipv4Addr;
use std::thread;

use logd_protocol::{BatchBuilder, Decoded, TopicName, decode_batch};
use rustix::net::RecvFlags;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;

use super::*;
use crate::disk::OsDisk;
use crate::log::{Log, LogConfig};

const BATCH_BYTES: usize = 32 * 1024 * 1024;
const BATCHES: usize = 4;
const ANSWERS: usize = 4;

fn bytes_sent(stats: &Stats) -> usize {
    let lines = stats.lines(0);
    let line = lines.lines().find_map(|line| line.strip_prefix("bytes.out: "));
    line.expect("it is counted").parse().expect("it is a number")
}

/// A topic with a few large batches.
fn log(dir: &std::path::Path) -> Log {
    let config = LogConfig { partition_bytes: 1 << 30, partitions: 2, flush_batches: 0 };
    let (log, _) = Log::open(std::sync::Arc::new(OsDisk::new(0o600)), dir, config).unwrap();
    let mut builder = BatchBuilder::new(&TopicName::default(), 2 * BATCH_BYTES);
    builder.push(&vec![b'x'; BATCH_BYTES]).unwrap();
    let batch = builder.finish().unwrap().bytes().to_vec();
    let Decoded::Whole { value, .. } = decode_batch(&batch, 2 * BATCH_BYTES) else { panic!("it is a batch") };
    for _ in 0..BATCHES {
        log.append(&value.check().unwrap(), 1).unwrap();
    }
    log
}

/// A peer that takes everything as fast as it comes.
async fn greedy_peer() -> (Socket, thread::JoinHandle<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (peer, _) = listener.accept().await.unwrap();
    let peer = peer.into_std().unwrap();
    peer.set_nonblocking(false).unwrap();
    let taking = thread::spawn(move || {
        let mut room = vec![0; 8 * 1024 * 1024];
        // What is to be thrown away needs no copy.
        while rustix::net::recv(&peer, &mut *room, RecvFlags::TRUNC).is_ok_and(|(_, bytes)| bytes > 0) {}
    });
    (Socket::Watched(stream), taking)
}

#[test]
fn others_have_their_turn_while_a_peer_takes_everything() {
    let dir = tempfile::tempdir().unwrap();
    let log = log(dir.path());
    let selection = log.view().select_oldest(BATCHES as u64, &mut Vec::new()).unwrap();
    assert_eq!(selection.batches, BATCHES as u64);
    let stats = Stats::default();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let longest = runtime.block_on(async {
        let (socket, taking) = greedy_peer().await;
        let mut output = Output::new(&socket, &stats, Duration::from_secs(60));
        let send = async {
            for _ in 0..ANSWERS {
                output.flush_and_send(&selection).await.unwrap();
            }
        };
        let watch = async {
            let (mut longest, mut seen) = (0, 0);
            while seen < ANSWERS * BATCH_BYTES * BATCHES {
                let now = bytes_sent(&stats);
                longest = longest.max(now - seen);
                seen = now;
                tokio::task::yield_now().await;
            }
            longest
        };
        let ((), longest) = tokio::join!(biased; send, watch);
        drop(socket);
        taking.join().unwrap();
        longest
    });
    assert!(longest <= TURN_BYTES + PIECE_BYTES, "{longest} bytes were sent without a turn for others");
}
