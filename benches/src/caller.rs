//! Callers over sockets and the servers that they call, each on its own cores.

use std::io::BufRead as _;
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::subject::FORM;

/// Pins this process to one core.
pub fn on_core(core: &str) {
    let this = std::process::id().to_string();
    let _ = Command::new("taskset").args(["-p", "-c", core, &this]).stdout(Stdio::null()).status();
}

/// Returns the median and the 99th percentile.
pub fn quantiles(values: &[f64]) -> (f64, f64) {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    let at = |part: f64| values.get((values.len() as f64 * part) as usize).copied().unwrap_or(f64::NAN);
    (at(0.5), at(0.99))
}

pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub async fn open(port: u16) -> Self {
        Self::open_from(Ipv4Addr::LOCALHOST, port).await
    }

    /// Connects from the given loopback address.
    pub async fn open_from(address: Ipv4Addr, port: u16) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((address, 0).into()).unwrap();
        let stream = socket.connect((Ipv4Addr::LOCALHOST, port).into()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    /// Returns the status of the response after it has arrived completely.
    pub async fn ask(&mut self, request: &[u8]) -> u16 {
        self.stream.write_all(request).await.unwrap();
        self.buffer.clear();
        loop {
            assert_ne!(self.stream.read_buf(&mut self.buffer).await.unwrap(), 0, "the server hung up");
            let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
            let head = std::str::from_utf8(&self.buffer[..end]).unwrap().to_ascii_lowercase();
            let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()).unwrap_or("0");
            if self.buffer.len() >= end + 4 + length.trim().parse::<usize>().unwrap() {
                assert!(!head.starts_with("http/1.1 503") || head.contains("retry-after"), "a 503 without Retry-After");
                return head[9..12].parse().unwrap();
            }
        }
    }
}

/// Creates a token request with that `Authorization`.
pub fn token_request(authorization: &str) -> Rc<[u8]> {
    let request = format!(
        "POST /token HTTP/1.1\r\nhost: a\r\nauthorization: {authorization}\r\n\
         content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{FORM}",
        FORM.len()
    );
    request.into_bytes().into()
}

/// The binary `serve` in a separate process, which ends when this is dropped.
pub struct Server {
    process: Child,
    pub port: u16,
    pub token_request: Rc<[u8]>,
    pub route_request: Rc<[u8]>,
}

impl Server {
    /// Starts the named server on those cores.
    pub fn start(name: &str, port: u16, cores: &str) -> Self {
        let serve = std::env::current_exe().unwrap().with_file_name("serve");
        let mut process = Command::new("taskset")
            .args(["-c", cores])
            .arg(serve)
            .args([name, &port.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = std::io::BufReader::new(process.stdout.take().unwrap()).lines();
        let (basic, bearer) = (lines.next().unwrap().unwrap(), lines.next().unwrap().unwrap());
        let route = format!("GET /invoices HTTP/1.1\r\nhost: a\r\nauthorization: {bearer}\r\n\r\n");
        Self { process, port, token_request: token_request(&basic), route_request: route.into_bytes().into() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
