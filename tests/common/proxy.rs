//! A proxy between a store and its server, which delays, breaks, half-closes or stalls their connections.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// The treatment of bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Line {
    /// They pass.
    Up,
    /// They pass after that time, in each direction.
    Slow(Duration),
    /// They wait, and neither end is notified.
    Stalled,
    /// Connections break, and so do new ones.
    Cut,
}

/// One end of a connection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum End {
    Client,
    Server,
}

#[derive(Debug)]
pub struct Proxy {
    pub port: u16,
    target: Arc<AtomicU16>,
    line: watch::Sender<Line>,
    /// Connections with an earlier number are stalled.
    age: watch::Sender<u32>,
    half_closed: watch::Sender<(u32, End)>,
    open: Arc<AtomicU32>,
    round_trips: Arc<AtomicU32>,
}

impl Proxy {
    /// Starts a proxy in front of a port of this machine.
    pub async fn before(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let target = Arc::new(AtomicU16::new(target));
        let (line, watched) = watch::channel(Line::Up);
        let (age, current) = watch::channel(0);
        let (half_closed, ends) = watch::channel((0, End::Client));
        let (open, round_trips) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let (to, count, trips) = (target.clone(), open.clone(), round_trips.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (target, watched, current, ends) =
                    (to.load(Ordering::SeqCst), watched.clone(), current.clone(), ends.clone());
                let (count, trips) = (count.clone(), trips.clone());
                tokio::spawn(async move {
                    count.fetch_add(1, Ordering::SeqCst);
                    let _ = connect(stream, target, watched, current, ends, &trips).await;
                    count.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { port, target, line, age, half_closed, open, round_trips }
    }

    pub fn set(&self, line: Line) {
        self.line.send_replace(line);
    }

    /// Directs new connections to another port, like a DNS change. The old ones stay.
    pub fn point_to(&self, port: u16) {
        self.target.store(port, Ordering::SeqCst);
    }

    /// Stalls the current connections for ever, without telling either end. New connections are not affected.
    pub fn strand(&self) {
        self.age.send_modify(|age| *age += 1);
    }

    /// Tells one end of each connection that the other end writes no more. Data that either end still writes are lost, and the
    /// other end is not notified. New connections are not affected.
    pub fn half_close(&self, end: End) {
        self.half_closed.send_modify(|half| *half = (half.0 + 1, end));
    }

    /// Returns how many times a client has sent something and the server has answered, on all connections.
    pub fn round_trips(&self) -> u32 {
        self.round_trips.load(Ordering::SeqCst)
    }

    /// Returns the number of connections.
    pub fn open(&self) -> u32 {
        self.open.load(Ordering::SeqCst)
    }
}

async fn connect(
    client: TcpStream,
    target: u16,
    line: watch::Receiver<Line>,
    age: watch::Receiver<u32>,
    half_closed: watch::Receiver<(u32, End)>,
    round_trips: &AtomicU32,
) -> io::Result<()> {
    let born = *age.borrow();
    let alive = move || *age.borrow() == born;
    // Whether the client has sent something that the server has not answered.
    let asked = AtomicBool::new(false);
    let passes = |to: End| {
        let was_asked = asked.swap(to == End::Server, Ordering::SeqCst);
        round_trips.fetch_add(u32::from(was_asked && to == End::Client), Ordering::SeqCst);
    };

    let mut cut = line.clone();
    let carried = async {
        let server = TcpStream::connect(("127.0.0.1", target)).await?;
        let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
        tokio::select! {
            ended = carry(from_client, to_server, End::Server, line.clone(), &alive, &passes, half_closed.clone()) => ended,
            ended = carry(from_server, to_client, End::Client, line.clone(), &alive, &passes, half_closed) => ended,
        }
    };
    tokio::select! {
        ended = carried => ended,
        _ = cut.wait_for(|line| *line == Line::Cut) => Ok(()),
    }
}

async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    end: End,
    mut line: watch::Receiver<Line>,
    alive: &impl Fn() -> bool,
    passes: &impl Fn(End),
    mut half_closed: watch::Receiver<(u32, End)>,
) -> io::Result<()> {
    let mut bytes = vec![0; 16 * 1024];
    let born = half_closed.borrow().0;
    loop {
        let half = async { half_closed.wait_for(|half| half.0 != born).await.map(|half| half.1) };
        let length = tokio::select! {
            length = from.read(&mut bytes) => length?,
            half = half => {
                let half = half.map_err(io::Error::other)?;
                if half == end {
                    to.shutdown().await?;
                }
                // The end that the other side closes in response is not passed on: only the client can end the connection.
                while from.read(&mut bytes).await? > 0 {}
                if end == End::Client {
                    std::future::pending::<()>().await;
                }
                return Ok(());
            }
        };
        if length == 0 {
            return Ok(());
        }
        let now = *line.borrow();
        if let Line::Slow(time) = now {
            tokio::time::sleep(time).await;
        }
        line.wait_for(|line| *line != Line::Stalled).await.map_err(io::Error::other)?;
        if !alive() {
            std::future::pending::<()>().await;
        }
        passes(end);
        to.write_all(&bytes[..length]).await?;
    }
}
