//! The input's messages to the writer.
//!
//! The writer makes batches of them, and takes no more while its buffer is full: nothing more is read then.

use std::ffi::OsString;

use logd_client::{WriteError, Writer};

use super::lines::Lines;
use super::receipts::Lengths;
use crate::exit::Failure;
use crate::input::Input;

/// Why there are no more messages. The writer has those before, all of them.
#[derive(Debug)]
pub(crate) enum End {
    /// The input came to its end.
    Whole,
    /// The input was stopped; so many bytes of a line that had begun were left out.
    Stopped { left_out: usize },
    /// The next message fits no batch, could not be read, or was not taken.
    Failed(Failure),
}

/// Hands messages to a writer.
#[derive(Debug)]
pub(crate) struct Filler<'a> {
    pub(crate) writer: &'a Writer,
    pub(crate) batch_bytes: usize,
    pub(crate) lengths: &'a Lengths,
    /// How many messages the writer has taken.
    messages: u64,
}

impl<'a> Filler<'a> {
    pub(crate) const fn new(writer: &'a Writer, batch_bytes: usize, lengths: &'a Lengths) -> Self {
        Self { writer, batch_bytes, lengths, messages: 0 }
    }

    /// Writes the messages, one after the other.
    pub(crate) async fn take_messages(mut self, messages: Vec<OsString>) -> End {
        for message in messages {
            if let Err(error) = self.push(message.as_encoded_bytes()).await {
                return self.refused(&error, "message", false);
            }
        }
        End::Whole
    }

    /// Writes every line of `input`.
    pub(crate) async fn take_lines(mut self, mut input: Input) -> End {
        let mut lines = Lines::new(self.batch_bytes);
        loop {
            let block = match input.next().await {
                Ok(Some(block)) => block,
                Ok(None) => break,
                Err(failure) => return End::Failed(failure),
            };
            lines.push(block);
            while let Some(line) = lines.next() {
                if let Err(error) = self.push(line.bytes).await {
                    return self.refused(&error, "line", line.is_cut);
                }
            }
        }
        let rest = lines.rest().unwrap_or_default();
        if input.is_stopped() {
            return End::Stopped { left_out: rest.len() };
        }
        if !rest.is_empty()
            && let Err(error) = self.push(rest).await
        {
            return self.refused(&error, "line", false);
        }
        End::Whole
    }

    async fn push(&mut self, message: &[u8]) -> Result<(), WriteError> {
        // Its receipt can come as soon as it is written.
        self.lengths.add(message.len());
        self.writer.write(message).await?;
        self.messages += 1;
        Ok(())
    }

    fn refused(&self, error: &WriteError, what: &str, is_cut: bool) -> End {
        let WriteError::TooLong { bytes, bytes_max } = error else {
            return End::Failed(Failure::failed(error.to_string()));
        };
        let number = self.messages + 1;
        let more = if is_cut { "more than " } else { "" };
        End::Failed(Failure::failed(format!(
            "{what} {number} has {more}`{bytes}` bytes: the longest that fits a batch of `{}` bytes has `{bytes_max}`",
            self.batch_bytes
        )))
    }
}
