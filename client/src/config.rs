//! What every connection needs to know: where to, how long to wait, how large, how often.

use std::time::Duration;

use logd_protocol::limits::{BATCH_BYTES_DEFAULT, BATCH_BYTES_MAX, BATCH_BYTES_MIN};

use crate::error::Error;
use crate::retry::RetryPolicy;

/// The settings of a [`Client`](crate::Client), a [`Writer`](crate::Writer) or a [`Scanner`](crate::Scanner).
///
/// ```
/// use std::time::Duration;
/// use logd_client::{ClientConfig, RetryPolicy};
///
/// let config = ClientConfig::new("logs.example.org:1774")
///     .timeout(Duration::from_secs(5))
///     .retry(RetryPolicy::default().attempts(None));
/// assert_eq!(config.host(), "logs.example.org:1774");
/// ```
#[derive(Debug, Clone)]
pub struct ClientConfig {
    pub(crate) host: String,
    pub(crate) connect_timeout: Duration,
    pub(crate) read_timeout: Duration,
    pub(crate) write_timeout: Duration,
    pub(crate) batch_bytes: usize,
    pub(crate) retry: RetryPolicy,
    #[cfg(feature = "simulation")]
    pub(crate) network: Option<std::sync::Arc<dyn crate::simulation::Network>>,
}

impl ClientConfig {
    /// The default address: the default port on this machine.
    pub const HOST_DEFAULT: &str = "127.0.0.1:1774";

    /// The default settings for the server at `host`, an address or a name with a port.
    pub fn new(host: impl Into<String>) -> Self {
        Self { host: host.into(), ..Self::default() }
    }

    /// How long making a connection can take, the resolution of the name included. Default: 5 seconds.
    #[must_use]
    pub const fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long the server can be silent while an answer is due. Every byte received starts the time anew, so that it
    /// does not bound large answers. Default: 15 seconds.
    #[must_use]
    pub const fn read_timeout(mut self, timeout: Duration) -> Self {
        self.read_timeout = timeout;
        self
    }

    /// How long the server can take in nothing while there is something to send. Every byte sent starts the time
    /// anew. Default: 15 seconds.
    #[must_use]
    pub const fn write_timeout(mut self, timeout: Duration) -> Self {
        self.write_timeout = timeout;
        self
    }

    /// Sets both [`read_timeout`](Self::read_timeout) and [`write_timeout`](Self::write_timeout).
    #[must_use]
    pub const fn timeout(self, timeout: Duration) -> Self {
        self.read_timeout(timeout).write_timeout(timeout)
    }

    /// The most bytes of a batch that a writer makes, envelope and body. Default: 65,536; from 512 to 64 MiB.
    #[must_use]
    pub const fn batch_bytes(mut self, bytes: usize) -> Self {
        self.batch_bytes = bytes;
        self
    }

    /// When failed requests are tried again. Default: [`RetryPolicy::default`].
    #[must_use]
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// Connects over a simulated network.
    #[cfg(feature = "simulation")]
    #[doc(hidden)]
    #[must_use]
    pub fn simulated(mut self, network: std::sync::Arc<dyn crate::simulation::Network>) -> Self {
        self.network = Some(network);
        self
    }

    /// The server that these settings are for.
    pub fn host(&self) -> &str {
        &self.host
    }
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            host: Self::HOST_DEFAULT.into(),
            connect_timeout: Duration::from_secs(5),
            read_timeout: Duration::from_secs(15),
            write_timeout: Duration::from_secs(15),
            batch_bytes: BATCH_BYTES_DEFAULT,
            retry: RetryPolicy::default(),
            #[cfg(feature = "simulation")]
            network: None,
        }
    }
}

/// Checks that an address has a port.
pub(crate) fn check_host(host: &str) -> Result<(), Error> {
    let is_whole =
        host.rsplit_once(':').is_some_and(|(name, port)| !name.is_empty() && port.parse::<u16>().is_ok());
    if is_whole {
        return Ok(());
    }
    let text = "it must be a name or an address, and a port from 0 to 65535, as `127.0.0.1:1774`";
    Err(Error::invalid(format!("the host is `{host}`: {text}")))
}

/// Checks a number of bytes that bounds batches.
pub(crate) fn check_batch_bytes(name: &str, bytes: usize) -> Result<(), Error> {
    if (BATCH_BYTES_MIN..=BATCH_BYTES_MAX).contains(&bytes) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{name} is `{bytes}`: it must be from {BATCH_BYTES_MIN} to {BATCH_BYTES_MAX}"
    )))
}
