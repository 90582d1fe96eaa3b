//! A connection to a server that can be cut where a test wants it to be.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use logd_statehandlers::conformance::Cut;

/// Hands everything on between clients and a server, until it is told to cut.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) port: u16,
    cut: Arc<Mutex<Option<(Cut, u32)>>>,
}

impl Proxy {
    pub(crate) fn start(server: u16) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let proxy = Self { port: listener.local_addr()?.port(), cut: Arc::default() };
        let cut = Arc::clone(&proxy.cut);
        thread::spawn(move || {
            for client in listener.incoming() {
                // Where the server does not run, the client is cut off, as it would be without us.
                if let (Ok(client), Ok(server)) = (client, TcpStream::connect(("127.0.0.1", server))) {
                    let _ = connect(&client, &server, &cut);
                }
            }
        });
        Ok(proxy)
    }

    /// Cuts the connection that sends something next, after it has sent `skip` times.
    pub(crate) fn cut(&self, at: Cut, skip: u32) {
        *self.cut.lock().unwrap_or_else(PoisonError::into_inner) = Some((at, skip));
    }
}

fn connect(client: &TcpStream, server: &TcpStream, cut: &Arc<Mutex<Option<(Cut, u32)>>>) -> io::Result<()> {
    let swallow = Arc::new(AtomicBool::new(false));
    let (mut from, mut to) = (client.try_clone()?, server.try_clone()?);
    let (cut, swallows) = (Arc::clone(cut), Arc::clone(&swallow));
    thread::spawn(move || {
        let _ = requests(&mut from, &mut to, &cut, &swallows);
        end(&from, &to);
    });
    let (mut from, mut to) = (server.try_clone()?, client.try_clone()?);
    thread::spawn(move || {
        let mut buffer = [0; 16 * 1024];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            if swallow.load(Ordering::SeqCst) || to.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        end(&from, &to);
    });
    Ok(())
}

fn requests(
    from: &mut TcpStream,
    to: &mut TcpStream,
    cut: &Mutex<Option<(Cut, u32)>>,
    swallow: &AtomicBool,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = from.read(&mut buffer)?;
        let due = {
            let mut cut = cut.lock().unwrap_or_else(PoisonError::into_inner);
            match *cut {
                Some((at, skip @ 1..)) => {
                    *cut = Some((at, skip - 1));
                    None
                }
                _ if length == 0 => None,
                _ => cut.take(),
            }
        };
        match due.map(|(at, _)| at) {
            _ if length == 0 => return Ok(()),
            Some(Cut::Before) => return Ok(()),
            Some(Cut::During) => return to.write_all(&buffer[..length / 2]),
            Some(Cut::After) => {
                swallow.store(true, Ordering::SeqCst);
                to.write_all(&buffer[..length])?;
            }
            None => to.write_all(&buffer[..length])?,
        }
    }
}

fn end(one: &TcpStream, other: &TcpStream) {
    for stream in [one, other] {
        // It may have ended already.
        let _ = stream.shutdown(Shutdown::Both);
    }
}
