//! A scanner as an iterator.

use std::future::poll_fn;
use std::iter::FusedIterator;
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures::Stream;
use logd_statehandlers::Position;

use crate::error::Error;
use crate::own_thread::{self, OwnThread, Stop};
use crate::park::{self, Place, wait_until};
use crate::scanner::{Message, ScannerBuilder};

/// The messages of a topic, in order, as an iterator; otherwise as the async [`Scanner`](crate::Scanner).
///
/// The thread `logd-scanner` reads ahead, so the next messages are there while the caller works on one.
///
/// ```no_run
/// use logd_client::blocking::Scanner;
/// use logd_client::{ClientConfig, Start};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let builder = logd_client::Scanner::builder(ClientConfig::new("127.0.0.1:1774"));
/// for message in Scanner::open(builder.start(Start::At("60.0".parse()?)))? {
///     println!("{}", message?.bytes.escape_ascii());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Scanner {
    // Dropped in this order: the reading ends first, and the thread after it.
    scanner: crate::Scanner,
    _stop: Stop,
}

impl Scanner {
    /// Starts a scanner with these settings.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) when a setting is out of its bounds, or when no thread can be
    /// started.
    pub fn open(builder: ScannerBuilder) -> Result<Self, Error> {
        let OwnThread { runtime, stop, .. } = own_thread::start("logd-scanner")?;
        let _entered = runtime.enter();
        Ok(Self { scanner: builder.open()?, _stop: stop })
    }

    /// Waits for the next message, for `timeout` at most: [`Poll::Pending`] when there was none until then. Otherwise as
    /// [`Iterator::next`].
    pub fn next_timeout(&mut self, timeout: Duration) -> Poll<Option<Result<Message, Error>>> {
        self.next_until(park::deadline(timeout))
    }

    fn next_until(&mut self, deadline: Option<Instant>) -> Poll<Option<Result<Message, Error>>> {
        let next = poll_fn(|context| Pin::new(&mut self.scanner).poll_next(context));
        wait_until(next, deadline, Place::Elsewhere).map_or(Poll::Pending, Poll::Ready)
    }

    /// The position of the next message, as [`Scanner::position`](crate::Scanner::position) tells it.
    pub const fn position(&self) -> Option<Position> {
        self.scanner.position()
    }
}

/// An error that [`is_skippable`](Error::is_skippable) says what is damaged or missing, and the messages behind it follow;
/// any other ends the iterator.
impl Iterator for Scanner {
    type Item = Result<Message, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.next_until(None) {
            Poll::Ready(next) => next,
            // Without a deadline there is always an answer.
            Poll::Pending => None,
        }
    }
}

impl FusedIterator for Scanner {}
