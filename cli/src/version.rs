//! `log-cli version`: which version this is. It asks no server.

use crate::exit::{Exit, Failure};
use crate::output::print;

pub(crate) async fn run() -> Result<Exit, Failure> {
    print(concat!("log-cli ", env!("CARGO_PKG_VERSION"), "\n").as_bytes()).await?;
    Ok(Exit::Success)
}
