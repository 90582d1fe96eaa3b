//! The stream of a consumer: what comes next, and waiting for it.
//!
//! A message is handed out without a lock and without asking the tracker, as long as there is room in the window, as far as
//! is known, and nothing else is to be done. Else everything is looked at, in order: errors, reading anew, what comes
//! again, and what is new.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::FutureExt;
use logd_statehandlers::Position;
use tokio::time::{Instant, sleep_until};

use super::Consumer;
use super::lot::{Lot, Mark, Span};
use super::received::Received;
use super::shared::State;
use super::tracker::{Amount, Handed};
use crate::error::{Error, ErrorKind};
use crate::scanner::{Fetched, Scanner, Start};

/// What the stream yields.
type Item = Option<Result<Received, Error>>;

/// The batch whose messages are handed out.
#[derive(Debug)]
pub(super) struct Current {
    lot: Arc<Lot>,
    /// The next message.
    mark: Mark,
}

impl Current {
    /// The next message; `None` behind the last.
    fn span(&self) -> Option<Span> {
        self.lot.span(self.mark)
    }
}

/// What the consumer can do next.
enum Step {
    Yield(Item),
    /// Look again.
    Again,
    /// Wait: for a batch if one is wanted, until then if there is a time, or for news.
    Wait {
        wants_batch: bool,
        at: Option<Instant>,
    },
}

impl Consumer {
    /// The next message to work on: one that comes again, or a new one. `None` at the end of a topic that is not followed
    /// or of the limit, when nothing is in hand any more, and after an error that ended it.
    ///
    /// While as many are in hand as the window has, this waits until some are done: work on several at once in tasks of
    /// their own.
    ///
    /// # Errors
    /// - what a [`Scanner`](crate::Scanner) yields; behind an error for which [`Error::is_skippable`] is true, the next call
    ///   goes on, and from then on the checkpoint passes what is missing
    /// - [`ErrorKind::Gap`] where what comes next is gone, or the topic is another one; it ends the stream, unless
    ///   [`WhenGone::Jump`](super::WhenGone::Jump) has it go on
    /// - [`ErrorKind::State`] when another reader has taken over, which ends the stream; or when the store has failed for
    ///   too long, or the checkpoint of a [transactional](super::ConsumerBuilder::transactional) consumer was moved, behind
    ///   which the next call goes on
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped: the next call yields the message.
    pub async fn next(&mut self) -> Option<Result<Received, Error>> {
        match self.hand_out() {
            Some(received) => Some(Ok(received)),
            None => self.look_for_next().await,
        }
    }

    /// The next message of the batch in hand, if nothing else is to be looked at.
    fn hand_out(&mut self) -> Option<Received> {
        let has_room = self.room.messages > 0 && self.room.bytes > 0;
        if !has_room || self.is_careful || self.shared.is_noted.load(Ordering::Acquire) {
            return None;
        }
        let span = self.current.as_ref()?.span()?;
        self.hand_out_span(span).map(Received::new)
    }

    fn hand_out_span(&mut self, span: Span) -> Option<Handed> {
        self.move_behind(span);
        self.wanted = self.wanted.saturating_sub(1);
        let lot = Arc::clone(&self.current.as_ref()?.lot);
        Some(Handed { lot, span, returned: 0 })
    }

    /// The message counts as handed out.
    fn move_behind(&mut self, span: Span) {
        let Some(current) = &mut self.current else { return };
        let mark = Lot::behind(span);
        let bytes = u64::from(mark.delta - span.delta);
        current.lot.hand_out(mark);
        current.mark = mark;
        self.handed.messages += 1;
        self.handed.bytes += bytes;
        self.room.messages = self.room.messages.saturating_sub(1);
        self.room.bytes = self.room.bytes.saturating_sub(bytes);
    }

    async fn look_for_next(&mut self) -> Item {
        loop {
            match self.step() {
                Step::Yield(item) => return item,
                Step::Again => continue,
                Step::Wait { at, .. } if self.lost.is_some() => {
                    let shared = Arc::clone(&self.shared);
                    tokio::select! {
                        biased;
                        () = self.find_out() => {}
                        () = shared.news.notified() => {}
                        () = reached(at) => {}
                    }
                    continue;
                }
                Step::Wait { wants_batch: true, .. } => {
                    let ready = self.scanner.as_mut().and_then(|scanner| scanner.next_batch().now_or_never());
                    if let Some(scanned) = ready {
                        match self.take(scanned) {
                            Some(item) => return item,
                            None => continue,
                        }
                    }
                }
                Step::Wait { .. } => {}
            }
            if let Some(item) = self.wait().await {
                return item;
            }
        }
    }

    /// Waits until there is something to do.
    async fn wait(&mut self) -> Option<Item> {
        let shared = Arc::clone(&self.shared);
        let mut news = pin!(shared.news.notified());
        news.as_mut().enable();
        // Before looking: who acknowledges from here on tells it.
        shared.is_awaited.store(true, Ordering::SeqCst);
        let (wants_batch, at) = match self.step() {
            Step::Yield(item) => return Some(item),
            Step::Again => return None,
            Step::Wait { wants_batch, at } => (wants_batch, at),
        };
        if wants_batch && self.scanner.is_some() {
            shared.is_awaited.store(false, Ordering::SeqCst);
        }
        let scanned = async {
            match &mut self.scanner {
                Some(scanner) if wants_batch => scanner.next_batch().await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = news => None,
            () = reached(at) => None,
            scanned = scanned => self.take(scanned),
        }
    }

    /// What can be done without waiting.
    fn step(&mut self) -> Step {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        shared.is_noted.store(true, Ordering::Release);
        if let Some(error) = state.failures.pop_front() {
            return Step::Yield(Some(Err(error)));
        }
        if state.has_failed {
            return Step::Yield(None);
        }
        if let Some(position) = state.reload.take() {
            state.fence_before = None;
            // Here, and not when it was moved: until now more could be handed out.
            let replaced = state.replaced.take();
            let is_told = replaced.is_some_and(|(replaced, stored)| replaced.taken() != stored);
            drop(state);
            self.begin_anew(position);
            return if is_told { Step::Yield(Some(Err(shared.moved(position)))) } else { Step::Again };
        }
        if let Some(next) = self.passing.take() {
            state.tracker.pass(next);
            shared.is_unstored(&mut state);
        }
        if let Some(at) = state.tracker.again_at()
            && at <= Instant::now()
            && let Some(handed) = state.tracker.again(Instant::now())
        {
            return Step::Yield(Some(Ok(Received::new(handed))));
        }
        let at = state.tracker.again_at();
        // What comes again comes first: then every time is to be looked at.
        shared.is_noted.store(at.is_some(), Ordering::Release);
        let has_room = self.find_room(&mut state);
        let span = self.current.as_ref().and_then(Current::span);
        match span {
            Some(span) if has_room => return self.hand_out_with_care(&mut state, span),
            Some(_) => {}
            None => self.current = None,
        }
        let is_over = self.scanner.is_none() && self.current.is_none() && !self.is_jumping;
        if is_over && self.lost.is_none() && state.tracker.is_empty() {
            return Step::Yield(None);
        }
        Step::Wait { wants_batch: has_room && self.current.is_none(), at }
    }

    /// How much can be handed out, and whether that is anything.
    fn find_room(&mut self, state: &mut State) -> bool {
        if self.wanted == 0 {
            self.scanner = None;
            self.current = None;
        }
        let settled = state.tracker.settle();
        let least = u64::from(state.tracker.is_empty());
        let messages = self.window.messages.saturating_sub(self.handed.messages - settled.messages);
        let bytes = self.window.bytes.saturating_sub(self.handed.bytes - settled.bytes);
        self.room = Amount { messages: messages.max(least).min(self.wanted), bytes: bytes.max(least) };
        self.room.messages > 0 && self.room.bytes > 0
    }

    /// Hands out a message, unless it is done already, or has brought down every start.
    fn hand_out_with_care(&mut self, state: &mut State, span: Span) -> Step {
        let Some(position) = self.current.as_ref().map(|current| current.lot.position(span.delta)) else {
            return Step::Again;
        };
        self.is_careful = state.ahead.iter().any(|done| position < done.to);
        let is_done = state.ahead.iter().any(|done| done.from <= position && position < done.to);
        if is_done && let Some(current) = &self.current {
            current.lot.settle(span.index);
            self.move_behind(span);
            return Step::Again;
        }
        let is_poison = std::mem::take(&mut self.is_poison) && position == self.origin;
        match self.hand_out_span(span) {
            Some(handed) if is_poison => {
                self.shared.bury_locked(state, handed);
                Step::Again
            }
            Some(handed) => Step::Yield(Some(Ok(Received::new(handed)))),
            None => Step::Again,
        }
    }

    /// Reads from another place on.
    fn begin_anew(&mut self, position: Position) {
        self.is_jumping = false;
        self.is_poison = false;
        self.is_careful = true;
        self.lost = None;
        self.passing = None;
        self.current = None;
        self.handed = Amount::default();
        self.room = Amount::default();
        self.scan_from(position);
    }

    /// Has another scanner read.
    pub(super) fn scan_from(&mut self, position: Position) {
        let (last, skips) = {
            let state = self.shared.lock();
            (state.tracker.last_batch(), !state.ahead.is_empty())
        };
        // What is passed over is not counted.
        let limit = if skips { u64::MAX } else { self.wanted };
        match self.builder.clone().limit(limit).start(Start::At(position)).watched(last).open() {
            Ok(scanner) => self.scanner = Some(scanner),
            Err(error) => self.shared.fail(error),
        }
    }

    /// Takes what the scanner has yielded; `None` when there is nothing to tell.
    fn take(&mut self, scanned: Option<Result<Fetched, Error>>) -> Option<Item> {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        if state.reload.is_some() || state.is_closed {
            // It is of the run of before, or nobody wants it any more.
            return None;
        }
        match scanned {
            None => self.scanner = None,
            Some(Ok(fetched)) => match Lot::new(&fetched, state.generation, Arc::clone(&shared)) {
                Ok(lot) => {
                    let lot = Arc::new(lot);
                    self.current = Some(Current { mark: lot.first(), lot: Arc::clone(&lot) });
                    state.tracker.take(lot);
                    shared.is_unstored(&mut state);
                }
                Err(error) => return Some(Some(Err(self.end_with(&mut state, error)))),
            },
            Some(Err(error)) if error.is_skippable() => {
                // It is passed once it was told.
                self.passing = self.scanner.as_ref().and_then(Scanner::position);
                return Some(Some(Err(error)));
            }
            Some(Err(error)) if error.is_not_found() || matches!(error.kind(), ErrorKind::Beyond { .. }) => {
                self.scanner = None;
                self.lost = Some(error);
            }
            Some(Err(error)) => return Some(Some(Err(self.end_with(&mut state, error)))),
        }
        None
    }

    fn end_with(&mut self, state: &mut State, error: Error) -> Error {
        self.scanner = None;
        state.has_failed = true;
        error.ending()
    }
}

/// Waits until a time; without one, for ever.
async fn reached(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
