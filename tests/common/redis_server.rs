//! A real Redis or Valkey of the test's own, on a free port and in a scratch folder, as an unprivileged user.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// What keeps all that it acknowledged.
pub const DURABLE: [&str; 6] = ["--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction"];

/// A server, which is gone with the value.
pub struct RedisServer {
    child: Child,
    folder: TempDir,
    address: SocketAddr,
    settings: Vec<String>,
}

impl RedisServer {
    /// One that keeps all that it acknowledged.
    pub fn start() -> Self {
        Self::start_with(&DURABLE)
    }

    pub fn start_with(settings: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("redis-").tempdir().unwrap();
        if is_root() {
            chown(folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let settings: Vec<_> = settings.iter().map(ToString::to_string).collect();
        let child = spawn(folder.path(), free, &settings);
        let server = Self { child, folder, address: free, settings };
        server.wait();
        server
    }

    pub fn url(&self) -> String {
        format!("redis://{}/", self.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it with SIGKILL: it cannot write another byte.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again on the same port and with the same data.
    pub fn restart(&mut self) {
        self.child = spawn(self.folder.path(), self.address, &self.settings);
        self.wait();
    }

    /// Starts it again without its data.
    pub fn restart_empty(&mut self) {
        for entry in std::fs::read_dir(self.folder.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { std::fs::remove_dir_all(path).unwrap() } else { std::fs::remove_file(path).unwrap() }
        }
        self.restart();
    }

    /// One command by hand, and the first bytes of the answer.
    pub fn ask(&self, command: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(format!("{command}\r\n").as_bytes())?;
        let mut answer = [0; 4096];
        let length = stream.read(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
    }

    fn wait(&self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !self.ask("PING").is_ok_and(|answer| answer.starts_with("+PONG") || answer.starts_with("-NOAUTH")) {
            assert!(Instant::now() < deadline, "redis-server did not come up at {}", self.address);
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// The number that a command answers with.
pub fn count(server: &RedisServer, command: &str) -> u64 {
    server.ask(command).ok().and_then(|answer| answer.strip_prefix(':')?.trim_end().parse().ok()).unwrap_or(0)
}

const NOBODY: u32 = 65_534;

fn is_root() -> bool {
    let me = std::fs::metadata("/proc/self").unwrap();
    std::os::unix::fs::MetadataExt::uid(&me) == 0
}

fn spawn(folder: &Path, address: SocketAddr, settings: &[String]) -> Child {
    let program = ["redis-server", "valkey-server"].into_iter().find(|name| in_path(name));
    let mut command = Command::new(program.expect("redis-server is missing: apt-get install redis-server"));
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.args(["--bind", "127.0.0.1", "--save", "", "--daemonize", "no", "--loglevel", "warning"]);
    command.arg("--port").arg(address.port().to_string()).arg("--dir").arg(folder).args(settings);
    command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap()
}

fn in_path(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).exists()))
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
