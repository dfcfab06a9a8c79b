//! A proxy between a store and its server, which cuts their connections or lets them stall.

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What becomes of bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Line {
    /// They pass.
    Up,
    /// They wait, and nobody is told.
    Stalled,
    /// Connections break, and new ones too.
    Cut,
}

#[derive(Debug)]
pub struct Proxy {
    pub port: u16,
    line: watch::Sender<Line>,
    /// Connections of an earlier one are stranded.
    age: watch::Sender<u32>,
}

impl Proxy {
    /// In front of a port of this machine.
    pub async fn before(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (line, watched) = watch::channel(Line::Up);
        let (age, current) = watch::channel(0);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(connect(stream, target, watched.clone(), current.clone()));
            }
        });
        Self { port, line, age }
    }

    pub fn set(&self, line: Line) {
        self.line.send_replace(line);
    }

    /// What is connected now carries nothing any more, for ever, and nobody is told; new connections are as usual.
    pub fn strand(&self) {
        self.age.send_modify(|age| *age += 1);
    }
}

async fn connect(
    client: TcpStream,
    target: u16,
    line: watch::Receiver<Line>,
    age: watch::Receiver<u32>,
) -> io::Result<()> {
    let born = *age.borrow();
    let alive = move || *age.borrow() == born;

    let mut cut = line.clone();
    let carried = async {
        let server = TcpStream::connect(("127.0.0.1", target)).await?;
        let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
        tokio::select! {
            ended = carry(from_client, to_server, line.clone(), &alive) => ended,
            ended = carry(from_server, to_client, line.clone(), &alive) => ended,
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
    mut line: watch::Receiver<Line>,
    alive: &impl Fn() -> bool,
) -> io::Result<()> {
    let mut bytes = vec![0; 16 * 1024];
    loop {
        let length = from.read(&mut bytes).await?;
        if length == 0 {
            return Ok(());
        }
        line.wait_for(|line| *line != Line::Stalled).await.map_err(io::Error::other)?;
        if !alive() {
            std::future::pending::<()>().await;
        }
        to.write_all(&bytes[..length]).await?;
    }
}
