//! `log-cli stats`: the server's counters, a line each, in the server's order.

use crate::args::Common;
use crate::connect::connect;
use crate::exit::{Exit, Failure};
use crate::output::{pairs, print};

pub(crate) async fn run(common: &Common) -> Result<Exit, Failure> {
    let stats = connect(common).await?.stats().await?;
    print(pairs(&stats).as_bytes()).await?;
    Ok(Exit::Success)
}
