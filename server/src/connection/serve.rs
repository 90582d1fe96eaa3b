//! A connection from its beginning to its end, on the runtime and on a thread; and those that are not served.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use logd_protocol::{Reason, Response};
use rustix::net::SendFlags;
use tokio::time::timeout;

use super::thread::run_on_thread;
use super::{Carried, End, Shared, run};
use crate::input::Input;
use crate::send::Output;
use crate::socket::Socket;
use crate::stats::Stats;
use crate::watch;

/// How long, and for how many bytes, a connection that is to be closed goes on reading. Closing a socket that holds
/// unread bytes makes the kernel throw away what was sent, and the peer would not see why it was closed.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Serves a connection until it ends, or until the server shuts down and the connection has nothing in work.
pub(crate) async fn serve(socket: Socket, shared: Arc<Shared>, shutdown: watch::Receiver<bool>) {
    let peer = socket.peer();
    tracing::debug!(?peer, "connection opened");
    match serve_to_end(socket, &shared, &shutdown).await {
        Ok(None) => tracing::debug!(?peer, "connection closed"),
        Ok(Some(mut socket)) => {
            linger(&mut socket).await;
            tracing::debug!(?peer, "connection ended by the server");
        }
        Err(error) => tracing::debug!(?peer, %error, "connection broken"),
    }
}

/// Serves a connection, on a thread while it is busy. Returns the socket where the server ends it.
async fn serve_to_end(
    mut socket: Socket,
    shared: &Arc<Shared>,
    shutdown: &watch::Receiver<bool>,
) -> io::Result<Option<Socket>> {
    let input = Input::new(Arc::clone(&shared.buffers));
    let mut carried = Carried { input, refused: None, pending: None, waits: false };
    loop {
        let mut end = run(&socket, &mut carried, shared, shutdown.clone()).await?;
        if let End::Busy(permit) = end {
            let stream;
            (stream, carried, end) =
                run_on_thread(socket.watched()?, carried, shared, shutdown, permit).await?;
            socket = Socket::Watched(stream);
        }
        match end {
            End::Closed | End::Refused => {
                // What the peer does not take any more is not kept for it.
                socket.bound_end(shared.config.timeout);
                return Ok(matches!(end, End::Refused).then_some(socket));
            }
            End::Busy(_) | End::Paused => {}
        }
    }
}

/// Tells a peer that it cannot be served, and closes the connection.
pub(crate) async fn reject(mut socket: Socket, stats: &Stats, reason: Reason) {
    let mut output = Output::new(&socket, stats, LINGER);
    output.put(&Response::Error(reason));
    let is_told = output.flush().await.is_ok();
    if is_told {
        linger(&mut socket).await;
    }
}

/// Tells a peer that it cannot be served, without waiting for anything. The buffer of a new connection has room for it.
pub(crate) fn reject_at_once(socket: &Socket, reason: Reason) {
    let mut answer = Vec::new();
    Response::Error(reason).put(&mut answer);
    // Who does not get the answer sees that the connection is closed.
    let _ = socket.raw().send(&answer, SendFlags::DONTWAIT);
}

/// Sends an end, and reads for a while what the peer still sends.
async fn linger(socket: &mut Socket) {
    if socket.shutdown().await.is_err() {
        return;
    }
    let drain = async {
        let mut buffer = vec![0; 16 * 1024];
        let mut left = LINGER_BYTES_MAX;
        while left > 0 && socket.readable().await.is_ok() {
            match socket.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => left = left.saturating_sub(read),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => break,
            }
        }
    };
    // Whether the peer has closed or the time is up, the connection is closed now.
    let _ = timeout(LINGER, drain).await;
}
