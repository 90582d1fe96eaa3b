//! Reading anew where an administrator has put the checkpoint, and what must not be taken over from before; and gaps, which
//! are passed only once they were told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use logd_client::{
    Capabilities, Checkpoint, Claim, Claimant, Committed, Consumer, ConsumerKey, Done, Error, ErrorKind,
    Fence, LeaseHandler, MemoryState, Position, Received, SqliteState, StateAdmin, StateError,
    StateErrorKind, StateHandler, WhenGone, async_trait,
};
use logd_server::Config;

use super::gone::{make_anew, other};
use super::life::{all, builder, fill, key, next, positions, some, text, until, write};
use crate::in_process::{TestServer, within};

/// Notes a checkpoint that is further on than what was handed out since the lease was granted.
#[derive(Debug)]
struct Judge {
    inner: MemoryState,
    positions: Vec<Position>,
    handed_out: AtomicUsize,
    handed_out_before: AtomicUsize,
    is_wrong: AtomicBool,
}

#[async_trait]
impl StateHandler for Judge {
    async fn get(&self, key: &ConsumerKey) -> Result<Option<Checkpoint>, StateError> {
        self.inner.get(key).await
    }

    async fn complete(
        &self,
        key: &ConsumerKey,
        checkpoint: &Checkpoint,
        fence: Fence,
    ) -> Result<Committed, StateError> {
        let stored = self.inner.complete(key, checkpoint, fence).await?;
        let passed = self.positions.iter().filter(|position| **position < checkpoint.next).count();
        let before = self.handed_out_before.load(Ordering::SeqCst);
        if passed > self.handed_out.load(Ordering::SeqCst) - before {
            self.is_wrong.store(true, Ordering::SeqCst);
        }
        Ok(stored)
    }

    fn leases(&self) -> Option<&dyn LeaseHandler> {
        Some(self)
    }

    fn admin(&self) -> Option<&dyn StateAdmin> {
        self.inner.admin()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
}

#[async_trait]
impl LeaseHandler for Judge {
    async fn start(
        &self,
        key: &ConsumerKey,
        claimant: &Claimant,
        ttl: Duration,
    ) -> Result<Claim, StateError> {
        let granted = self.inner.start(key, claimant, ttl).await;
        self.handed_out_before.store(self.handed_out.load(Ordering::SeqCst), Ordering::SeqCst);
        granted
    }

    async fn renew(&self, key: &ConsumerKey, fence: Fence, ttl: Duration) -> Result<(), StateError> {
        self.inner.renew(key, fence, ttl).await
    }

    async fn release(
        &self,
        key: &ConsumerKey,
        fence: Fence,
        last: Option<&Checkpoint>,
    ) -> Result<(), StateError> {
        self.inner.release(key, fence, last).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_before_a_reset_is_stored_behind_it() {
    let server = TestServer::start().await;
    // Each of them is a batch.
    write(&server, (0..4000).map(|number| format!("{number:0400}")).collect()).await;
    let states = Arc::new(Judge {
        inner: MemoryState::new(),
        positions: positions(&server).await,
        handed_out: AtomicUsize::new(0),
        handed_out_before: AtomicUsize::new(0),
        is_wrong: AtomicBool::new(false),
    });
    assert!(states.positions.iter().all(|position| position.delta == 0));
    let begin = builder(&server, &states)
        .exclusive(Duration::from_secs(30))
        .commit_interval(Duration::ZERO)
        .commit_messages(1);
    let mut consumer = begin.open().await.unwrap();
    let judge = Arc::clone(&states);
    let resetting = tokio::spawn(async move {
        let start = Instant::now();
        let mut resets = 0;
        while start.elapsed() < Duration::from_secs(2) {
            judge.inner.reset(&key(), &Checkpoint::default()).await.unwrap();
            resets += 1;
            tokio::time::sleep(Duration::from_micros(700)).await;
        }
        resets
    });
    let mut runs = 0;
    let mut last = None;
    while !resetting.is_finished() {
        let next = tokio::time::timeout(Duration::from_millis(20), consumer.next()).await;
        let Ok(delivery) = next.map(|delivery| delivery.unwrap().unwrap()) else { continue };
        if last.is_some_and(|last| delivery.position() != last) {
            assert_eq!(delivery.position(), Position::ZERO, "reading begins anew where the checkpoint is");
            runs += 1;
        }
        last = Some(delivery.next());
        states.handed_out.fetch_add(1, Ordering::SeqCst);
        delivery.ack();
    }
    println!("{} resets, {runs} of them were noticed", resetting.await.unwrap());
    assert!(!states.is_wrong.load(Ordering::SeqCst), "a checkpoint has passed what was not handed out");
    assert!(runs > 10, "{runs}");
    consumer.shutdown(Duration::ZERO).await.unwrap();
}

struct Transactions {
    states: Arc<SqliteState>,
    folder: tempfile::TempDir,
}

impl Transactions {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let states = Arc::new(SqliteState::open(folder.path().join("state.db")).await.unwrap());
        Self { states, folder }
    }

    async fn open(&self, server: &TestServer) -> Consumer {
        let begin = builder(server, &self.states).transactional().exclusive(Duration::from_millis(60));
        begin.open().await.unwrap()
    }

    /// Another handle of the store, as an administrator has it.
    async fn reset(&self, to: &Checkpoint) {
        let states = SqliteState::open(self.folder.path().join("state.db")).await.unwrap();
        states.reset(&key(), to).await.unwrap();
    }

    async fn store(&self, consumer: &mut Consumer, last: &Received) -> Result<(), StateError> {
        let token = consumer.token();
        let stored = self.states.with_tx(&token, &last.checkpoint(), |_| Ok::<_, StateError>(())).await;
        let ((), token) = stored?;
        consumer.committed(&token);
        Ok(())
    }
}

#[tokio::test]
async fn what_was_in_hand_before_a_reset_is_in_no_transaction_behind_it() {
    let server = TestServer::start().await;
    let texts = fill(&server, 0..20).await;
    let positions = positions(&server).await;
    let transactions = Transactions::new().await;
    let mut consumer = transactions.open(&server).await;
    for (round, to) in [0, 1, 0].into_iter().enumerate() {
        let taken = [next(&mut consumer).await, next(&mut consumer).await];
        transactions.store(&mut consumer, &taken[0]).await.unwrap();
        transactions.reset(&Checkpoint::at(positions[to])).await;
        // Whether the consumer has noticed or not, and it does at its next renewal.
        for _ in 0..2 {
            let refused = transactions.store(&mut consumer, &taken[1]).await.unwrap_err();
            assert_eq!(refused.kind(), StateErrorKind::Fenced, "round {round}");
            until("the new fence", async || transactions.is_claimed().await).await;
        }
        let told = reset_error(&mut consumer).await;
        assert_eq!(told.kind(), ErrorKind::State(StateErrorKind::Fenced));
        assert!(told.to_string().contains("was moved to"), "{told}");
        drop(taken);
        let again = next(&mut consumer).await;
        assert_eq!(text(&again), texts[to]);
        transactions.store(&mut consumer, &again).await.unwrap();
    }
    // Where nothing is in hand, there is nothing to tell.
    transactions.reset(&Checkpoint::at(positions[17])).await;
    until("the consumer to hear of it", async || consumer.token().expected == Some(positions[17])).await;
    assert_eq!(text(&next(&mut consumer).await), texts[17]);
    consumer.shutdown(Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn what_was_acknowledged_and_not_stored_is_told_of_as_well() {
    let server = TestServer::start().await;
    let texts = fill(&server, 0..20).await;
    let transactions = Transactions::new().await;
    let mut consumer = transactions.open(&server).await;
    assert_eq!(some(&mut consumer, 2).await, texts[..2]);
    transactions.reset(&Checkpoint::default()).await;
    until("the new fence", async || transactions.is_claimed().await).await;
    let told = reset_error(&mut consumer).await;
    assert_eq!(told.kind(), ErrorKind::State(StateErrorKind::Fenced));
    assert_eq!(some(&mut consumer, 1).await, texts[..1]);
    consumer.shutdown(Duration::ZERO).await.unwrap();
}

impl Transactions {
    /// Whether the lease of after a reset is held.
    async fn is_claimed(&self) -> bool {
        let states = SqliteState::open(self.folder.path().join("state.db")).await.unwrap();
        states.list().await.unwrap().iter().any(|entry| entry.owner.is_some())
    }
}

async fn error(consumer: &mut Consumer) -> Error {
    within("the error", consumer.next()).await.unwrap().unwrap_err()
}

/// What comes before the consumer has heard of the reset is passed over.
async fn reset_error(consumer: &mut Consumer) -> Error {
    within("the error", async {
        loop {
            if let Err(error) = consumer.next().await.unwrap() {
                return error;
            }
        }
    })
    .await
}

#[tokio::test]
async fn who_stores_its_checkpoints_itself_has_nothing_to_resync() {
    let server = TestServer::start().await;
    let states = Arc::new(MemoryState::new());
    let mut consumer = builder(&server, &states).open().await.unwrap();
    assert_eq!(consumer.resync().await.unwrap_err().kind(), ErrorKind::Invalid);
}

fn small(config: Config) -> Config {
    Config { batch_bytes: 512, partition_bytes: 1024, partitions: 3, ..config }
}

#[tokio::test]
async fn a_gap_at_the_start_is_passed_once_it_was_told() {
    let server = TestServer::start_with(small).await;
    fill(&server, 0..20).await;
    let states = Arc::new(MemoryState::new());
    let mut consumer = builder(&server, &states).open().await.unwrap();
    some(&mut consumer, 5).await;
    let read = consumer.shutdown(Duration::ZERO).await.unwrap().committed;
    fill(&server, 20..400).await;
    let texts = server.messages().await;
    let begin = || builder(&server, &states).follow(false).when_gone(WhenGone::Jump);
    for is_asked in [false, true] {
        let mut consumer = begin().open().await.unwrap();
        if is_asked {
            assert!(error(&mut consumer).await.is_skippable());
        }
        let shutdown = consumer.shutdown(Duration::ZERO).await.unwrap();
        assert_eq!(shutdown.committed, read, "it was not told, or the caller ended with it in hand");
    }
    let mut consumer = begin().open().await.unwrap();
    assert!(error(&mut consumer).await.is_skippable());
    let first = next(&mut consumer).await;
    let shutdown = consumer.shutdown(Duration::ZERO).await.unwrap();
    assert_eq!(shutdown.committed, Some(first.position()));
    drop(first);
    let mut consumer = begin().open().await.unwrap();
    assert_eq!(all(&mut consumer).await, texts);
}

#[tokio::test]
async fn what_is_damaged_is_passed_once_it_was_told() {
    let mut server = TestServer::start().await;
    fill(&server, 0..60).await;
    let positions = positions(&server).await;
    // The second batch.
    let damaged = positions.iter().find(|position| position.offset.as_u64() > 0).unwrap().offset;
    let before: Vec<_> = positions.iter().filter(|position| position.offset < damaged).collect();
    server.stop().await;
    let partition = server.workdir().join("default/0.log");
    let mut bytes = std::fs::read(&partition).unwrap();
    let at = usize::try_from(damaged.as_u64()).unwrap() + 100;
    bytes[at] ^= 1;
    std::fs::write(&partition, &bytes).unwrap();
    server.start_again().await;
    let states = Arc::new(MemoryState::new());
    for _ in 0..2 {
        let mut consumer = builder(&server, &states).open().await.unwrap();
        if states.get(&key()).await.unwrap().is_none() {
            some(&mut consumer, before.len()).await;
        }
        assert!(error(&mut consumer).await.is_skippable());
        let shutdown = consumer.shutdown(Duration::ZERO).await.unwrap();
        assert_eq!(shutdown.committed.unwrap().offset, damaged);
    }
    let mut consumer = builder(&server, &states).open().await.unwrap();
    assert!(error(&mut consumer).await.is_skippable());
    let behind = next(&mut consumer).await;
    let shutdown = consumer.shutdown(Duration::ZERO).await.unwrap();
    assert_eq!(shutdown.committed, Some(behind.position()));
    assert!(behind.position().offset > damaged);
}

#[tokio::test]
async fn nothing_is_kept_of_what_a_consumer_had_in_hand() {
    let server = TestServer::start().await;
    fill(&server, 0..20).await;
    for is_shut_down in [true, false] {
        let states = Arc::new(MemoryState::new());
        let mut consumer = builder(&server, &states).open().await.unwrap();
        let held = next(&mut consumer).await;
        next(&mut consumer).await.ack();
        if is_shut_down {
            consumer.shutdown(Duration::ZERO).await.unwrap();
        } else {
            drop(consumer);
        }
        drop(held);
        until("nobody to have the store", async || Arc::strong_count(&states) == 1).await;
    }
}

#[tokio::test]
async fn the_limit_is_one_over_all_runs_of_reading() {
    let server = TestServer::start().await;
    let texts = fill(&server, 0..20).await;
    let states = Arc::new(MemoryState::new());
    let begin = builder(&server, &states).exclusive(Duration::from_millis(60)).limit(7);
    let mut consumer = begin.open().await.unwrap();
    assert_eq!(some(&mut consumer, 5).await, texts[..5]);
    states.reset(&key(), &Checkpoint::default()).await.unwrap();
    until("reading anew", async || consumer.lag().await.unwrap().acked == Position::ZERO).await;
    assert_eq!(some(&mut consumer, 2).await, texts[..2]);
    assert!(within("the end", consumer.next()).await.is_none());
}

#[tokio::test]
async fn a_shutdown_can_wait_for_ever() {
    let server = TestServer::start().await;
    fill(&server, 0..2).await;
    let states = Arc::new(MemoryState::new());
    let mut consumer = builder(&server, &states).open().await.unwrap();
    let held = next(&mut consumer).await;
    let shutdown = tokio::spawn(consumer.shutdown(Duration::MAX));
    tokio::task::yield_now().await;
    held.ack();
    let shutdown = within("the shutdown", shutdown).await.unwrap().unwrap();
    assert!(shutdown.is_drained, "{shutdown:?}");
}

#[tokio::test]
async fn what_is_done_ahead_does_not_count_for_the_limit() {
    let server = TestServer::start().await;
    let texts = fill(&server, 0..60).await;
    let positions = positions(&server).await;
    let states = Arc::new(MemoryState::new());
    let mut checkpoint = Checkpoint::default();
    checkpoint.done.push(Done { from: positions[1], to: positions[21] });
    states.complete(&key(), &checkpoint, Fence::NONE).await.unwrap();
    let mut consumer = builder(&server, &states).limit(30).open().await.unwrap();
    assert_eq!(some(&mut consumer, 30).await, [&texts[..1], &texts[21..50]].concat());
    assert!(within("the end", consumer.next()).await.is_none());
}

#[tokio::test]
async fn a_reset_is_noticed_by_an_idle_consumer_without_a_lease() {
    let server = TestServer::start().await;
    let texts = fill(&server, 0..5).await;
    let states = Arc::new(MemoryState::new());
    let mut consumer = builder(&server, &states).open().await.unwrap();
    assert_eq!(some(&mut consumer, 5).await, texts);
    until("the checkpoint", async || consumer.lag().await.unwrap().committed.is_some()).await;
    states.reset(&key(), &Checkpoint::default()).await.unwrap();
    assert_eq!(some(&mut consumer, 5).await, texts);
}

#[tokio::test]
async fn resync_goes_on_where_a_reset_has_put_it() {
    let server = TestServer::start().await;
    let texts = fill(&server, 0..20).await;
    let transactions = Transactions::new().await;
    let begin = builder(&server, &transactions.states).transactional().exclusive(Duration::from_secs(60));
    let mut consumer = begin.open().await.unwrap();
    for _ in 0..3 {
        let first = next(&mut consumer).await;
        assert_eq!(text(&first), texts[0]);
        transactions.store(&mut consumer, &first).await.unwrap();
        let second = next(&mut consumer).await;
        transactions.reset(&Checkpoint::default()).await;
        transactions.store(&mut consumer, &second).await.unwrap_err();
        assert_eq!(within("the resync", consumer.resync()).await.unwrap(), Some(Position::ZERO));
    }
    consumer.shutdown(Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn a_stream_that_ends_says_so() {
    let mut server = TestServer::start().await;
    fill(&server, 0..60).await;
    let states = Arc::new(MemoryState::new());
    let mut consumer = builder(&server, &states).open().await.unwrap();
    some(&mut consumer, 60).await;
    make_anew(&mut server, other(10)).await;
    let told = error(&mut consumer).await;
    assert!(told.ends_stream() && !told.is_skippable(), "{told}");
    consumer.shutdown(Duration::ZERO).await.unwrap();
    let failed = builder(&server, &states).open().await.unwrap_err();
    assert!(failed.ends_stream() && !failed.is_skippable(), "{failed}");

    states.reset(&key(), &Checkpoint::default()).await.unwrap();
    let consumer = builder(&server, &states).open().await.unwrap();
    let (read, mut all_read) = tokio::sync::mpsc::unbounded_channel();
    let work = tokio::spawn(consumer.for_each_concurrent(2, move |message| {
        let read = read.clone();
        async move { read.send(message).map_err(|error| error.to_string()) }
    }));
    for _ in 0..10 {
        within("a message", all_read.recv()).await.unwrap();
    }
    make_anew(&mut server, Vec::new()).await;
    let ended = within("the end", work).await.unwrap().unwrap_err();
    assert!(matches!(ended.kind(), ErrorKind::Gap { .. }), "{ended}");
}
