//! `--health`: asks the running service whether it is ready, since a minimal container has no `curl`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::{Config, Mistake};

/// The time for the whole answer.
const LIMIT: Duration = Duration::from_secs(5);

/// Returns an error unless the service answers that it is ready.
pub(crate) async fn ask(config: &Config) -> Result<(), Mistake> {
    let address = match config.metrics.listen {
        Some(address) => address,
        None if config.tls.certificate.is_none() => config.listen,
        None => {
            let why = "the service listens with TLS only; set metrics.listen, which answers /health/ready without TLS";
            return Err(Mistake::new("--health", why));
        }
    };
    let address = reachable(address);
    let failed = |why: String| Mistake::new("--health", format!("http://{address}/health/ready: {why}"));
    let answer = timeout(LIMIT, answer(address)).await;
    let answer = answer.map_err(|_| failed(format!("no answer within {} seconds", LIMIT.as_secs())))?;
    let answer = answer.map_err(|error| failed(format!("{error}; is the service running?")))?;
    match answer.split(' ').nth(1) {
        // With keys in the store, the answer has a body about them.
        Some("200" | "204") => Ok(()),
        Some(status) => Err(failed(format!("the status is {status}, expected 200 or 204: the service is not ready"))),
        None => Err(failed("the answer is not HTTP".to_owned())),
    }
}

/// Returns the start of the answer.
async fn answer(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /health/ready HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(1024).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// A service that listens on all addresses is asked on loopback.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}
