//! Working on several messages at once.

use std::pin::pin;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;

#[cfg(doc)]
use super::ConsumerBuilder;
use super::{Consumer, Nack, Shutdown};
use crate::error::Error;
use crate::scanner::Message;

/// How long after a message of [`Consumer::for_each_concurrent`] failed it comes again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl Consumer {
    /// Works on the messages, `count` at a time; the checkpoint stays behind the first that is not done. What fails comes
    /// again a second later, and goes to the dead letters after as many returns as
    /// [`deliveries_max`](ConsumerBuilder::deliveries_max) says. Ends as the stream does, and then
    /// [shuts down](Consumer::shutdown).
    ///
    /// ```no_run
    /// # async fn example(consumer: logd_client::Consumer) -> Result<(), Box<dyn std::error::Error>> {
    /// consumer
    ///     .for_each_concurrent(8, |message| async move {
    ///         println!("{}", message.bytes.escape_ascii());
    ///         Ok::<(), std::io::Error>(())
    ///     })
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The error that ended the stream. What can be skipped is logged, and skipped.
    ///
    /// # Cancel safety
    /// When the future is dropped, the work that has begun is dropped with it, and comes again.
    pub async fn for_each_concurrent<E, F>(
        self,
        count: usize,
        work: impl Fn(Message) -> F,
    ) -> Result<Shutdown, Error>
    where
        E: std::fmt::Display,
        F: Future<Output = Result<(), E>>,
    {
        self.for_each_until(std::future::pending(), count, work).await
    }

    /// As [`Consumer::for_each_concurrent`], until `stop` is ready: then no more is begun, what is worked on is finished,
    /// and the consumer [shuts down](Consumer::shutdown).
    ///
    /// # Errors
    /// As [`Consumer::for_each_concurrent`].
    ///
    /// # Cancel safety
    /// As [`Consumer::for_each_concurrent`].
    pub async fn for_each_until<E, F>(
        mut self,
        stop: impl Future<Output = ()>,
        count: usize,
        work: impl Fn(Message) -> F,
    ) -> Result<Shutdown, Error>
    where
        E: std::fmt::Display,
        F: Future<Output = Result<(), E>>,
    {
        let work = &work;
        let mut stop = pin!(stop);
        let mut running = FuturesUnordered::new();
        let ended = loop {
            tokio::select! {
                biased;
                () = &mut stop => break Ok(()),
                Some(()) = running.next(), if !running.is_empty() => {}
                next = self.next(), if running.len() < count.max(1) => match next {
                    Some(Ok(delivery)) => running.push(async move {
                        match work(delivery.message()).await {
                            Ok(()) => delivery.ack(),
                            Err(error) => {
                                tracing::warn!(id = %delivery.id(), %error, "a message was not done; it comes again");
                                delivery.nack(Nack::Retry { after: RETRY_AFTER });
                            }
                        }
                    }),
                    Some(Err(error)) if error.is_skippable() => tracing::warn!(%error, "skipped"),
                    Some(Err(error)) => break Err(error),
                    None => break Ok(()),
                },
            }
        };
        while running.next().await.is_some() {}
        drop(running);
        let shutdown = self.shutdown(Duration::ZERO).await;
        ended.and(shutdown)
    }
}
