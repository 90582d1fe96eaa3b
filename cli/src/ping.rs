//! `log-cli ping`: whether the server is there, and how quickly it answers on a connection that is made already.

use std::time::Instant;

use crate::args::Common;
use crate::connect::connect;
use crate::exit::{Exit, Failure};
use crate::output::print;

pub(crate) async fn run(common: &Common) -> Result<Exit, Failure> {
    let mut client = connect(common).await?;
    let start = Instant::now();
    client.ping().await?;
    let milliseconds = start.elapsed().as_secs_f64() * 1000.0;
    print(format!("ok {milliseconds:.3} ms\n").as_bytes()).await?;
    Ok(Exit::Success)
}
