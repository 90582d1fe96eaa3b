//! The first connection to the server, which tells whether it is there.
//!
//! It is not tried again: a user at a terminal wants to know at once that nothing listens, and where.

use logd_client::{Client, ErrorKind, ServerSettings};
use tracing::debug;

use crate::args::Common;
use crate::exit::Failure;

/// A client that is connected.
pub(crate) async fn connect(common: &Common) -> Result<Client, Failure> {
    Client::connect(common.client_config()).await.map_err(|error| {
        let kind = error.kind();
        let failure = Failure::from(error);
        match kind {
            ErrorKind::Connect => {
                failure.and(" (is logd running? start it with `logd`, or name another address with `--host`)")
            }
            _ => failure,
        }
    })
}

/// Makes sure that the server is there, and asks it for its settings.
pub(crate) async fn settings(common: &Common) -> Result<ServerSettings, Failure> {
    let mut client = connect(common).await?;
    let settings = client.server_config().await?;
    debug!(host = common.host, version = settings.version, features = ?settings.features, "the server is there");
    // The answer has come, and the connection ends in any case.
    let _ = client.close().await;
    Ok(settings)
}
