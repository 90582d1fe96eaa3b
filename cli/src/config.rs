//! `log-cli config`: the server's settings, a line each, as the server tells them.

use crate::args::Common;
use crate::connect::connect;
use crate::exit::{Exit, Failure};
use crate::output::{pairs, print};

pub(crate) async fn run(common: &Common) -> Result<Exit, Failure> {
    let settings = connect(common).await?.server_config().await?;
    print(pairs(&settings.lines).as_bytes()).await?;
    Ok(Exit::Success)
}
