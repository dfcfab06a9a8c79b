//! Real servers, Postgres and Redis, each on its own port and in its own folder, removed after the test.
//!
//! If the programs are missing, the tests fail and are not skipped: `scripts/test` installs them.

use std::fs;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long a server may take to start, also on a machine under load.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server that listens on a port of this machine after [`Server::start`].
#[derive(Debug)]
struct Server {
    name: &'static str,
    program: PathBuf,
    arguments: Vec<String>,
    folder: TempDir,
    port: Port,
    child: Option<Child>,
}

impl Server {
    fn new(name: &'static str, program: &str) -> Self {
        let folder = tempfile::Builder::new().prefix(&format!("tcc-{name}-")).tempdir().unwrap();
        if let Some(user) = unprivileged() {
            chown(folder.path(), Some(user), None).unwrap();
        }
        Self { name, program: find(program), arguments: Vec::new(), folder, port: Port::free(), child: None }
    }

    /// A folder for its data, which does not exist yet.
    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// Starts the process, and restarts it while it ends: a process that was just killed may still hold its port or its folder.
    fn start(&mut self, answers: impl Fn(u16) -> bool) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if self.child.is_none() {
                self.child = Some(self.spawn());
            }
            let ended = self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_some());
            if ended {
                self.child = None;
            } else if self.listens() && answers(self.port.number()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        panic!("{} does not answer within {PATIENCE:?}:\n{log}", self.name);
    }

    /// Returns whether this process listens on the port, and not another one that took it.
    fn listens(&self) -> bool {
        self.child.as_ref().is_some_and(|child| listens(child.id(), self.port.number()))
    }

    fn spawn(&self) -> Child {
        let log = fs::File::options().create(true).append(true).open(self.log()).unwrap();
        let mut command = as_unprivileged(&self.program);
        command.args(&self.arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
    }

    /// Like `kill -9`: nothing more is written.
    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A Postgres with one superuser, `postgres`, whose password is [`Postgres::PASSWORD`].
#[derive(Debug)]
pub struct Postgres(Server);

impl Postgres {
    /// Contains characters that a URL must encode.
    pub const PASSWORD: &str = "p@ss/w:rd %";
    const ENCODED_PASSWORD: &str = "p%40ss%2Fw%3Ard%20%25";

    pub fn start() -> Self {
        Self::with(&[])
    }

    /// The folder with everything that it writes.
    pub fn folder(&self) -> &Path {
        self.0.folder.path()
    }

    /// Starts it with settings, such as `fsync=off`.
    pub fn with(settings: &[&str]) -> Self {
        let mut server = Server::new("postgres", "postgres");
        let (data, password) = (server.data(), server.folder.path().join("password"));
        fs::write(&password, Self::PASSWORD).unwrap();
        if let Some(user) = unprivileged() {
            chown(&password, Some(user), None).unwrap();
        }
        let made = as_unprivileged(&find("initdb"))
            // The password is sent in plain text: SCRAM digests take an unoptimized client a long time.
            .args(["--username=postgres", "--auth=password", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"])
            .arg("--pwfile")
            .arg(&password)
            .arg("--pgdata")
            .arg(&data)
            .current_dir(server.folder.path())
            .output()
            .unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        server.arguments =
            vec!["-D".to_owned(), data.display().to_string(), "-p".to_owned(), server.port.number().to_string()];
        let own = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=100"];
        server
            .arguments
            .extend(own.iter().chain(settings).flat_map(|setting| ["-c".to_owned(), (*setting).to_owned()]));
        let mut this = Self(server);
        this.restart();
        this
    }

    pub fn port(&self) -> u16 {
        self.0.port.number()
    }

    /// The URL of the database `postgres`.
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    pub fn url_of(&self, database: &str) -> String {
        Self::url_at(self.port(), database)
    }

    /// The URL with another port, such as that of a proxy.
    pub fn url_at(port: u16, database: &str) -> String {
        format!("postgres://postgres:{}@127.0.0.1:{port}/{database}?sslmode=disable", Self::ENCODED_PASSWORD)
    }

    /// From its next start on, it accepts no writes and waits for those of a primary that does not exist.
    pub fn demote(&self) {
        fs::write(self.0.data().join("standby.signal"), "").unwrap();
    }

    /// Kills the postmaster with -9. Its children detect that and end.
    pub fn kill(&mut self) {
        self.0.kill();
    }

    /// Shuts down immediately (`pg_ctl -m immediate`): no process writes anything more.
    pub fn stop_immediately(&mut self) {
        let stopped = self.program("pg_ctl", &["stop", "--mode=immediate", "--silent", "--pgdata", &self.data()]);
        assert!(stopped.status.success(), "pg_ctl: {}", String::from_utf8_lossy(&stopped.stderr));
        self.kill();
    }

    /// Restarts it on the same port and data.
    pub fn restart(&mut self) {
        self.0.start(postgres_answers);
    }

    /// Creates a standby of this server, which follows it by streaming replication.
    #[allow(clippy::indexing_slicing)] // its arguments are made above
    pub fn standby(&self) -> Self {
        let mut server = Server::new("standby", "postgres");
        let (folder, port) = (server.data().display().to_string(), self.port().to_string());
        let from = ["--host=127.0.0.1", "--username=postgres", "--port", &port, "--wal-method=stream"];
        let to = ["--checkpoint=fast", "--write-recovery-conf", "--no-sync", "--pgdata", &folder];
        let copied = self.program("pg_basebackup", &[&from[..], &to[..]].concat());
        assert!(copied.status.success(), "pg_basebackup: {}", String::from_utf8_lossy(&copied.stderr));
        server.arguments.clone_from(&self.0.arguments);
        server.arguments[1].clone_from(&folder);
        server.arguments[3] = server.port.number().to_string();
        let mut this = Self(server);
        this.restart();
        this
    }

    /// Runs a Postgres program that connects to this server or works on its data.
    pub fn program(&self, name: &str, arguments: &[&str]) -> std::process::Output {
        let mut command = as_unprivileged(&find(name));
        command.args(arguments).env("PGPASSWORD", Self::PASSWORD).current_dir(self.0.folder.path());
        command.output().unwrap()
    }

    fn data(&self) -> String {
        self.0.data().display().to_string()
    }
}

/// Returns whether it accepts connections. While it starts, it answers with the error `57P03`.
fn postgres_answers(port: u16) -> bool {
    let startup = b"\0\x03\0\0user\0postgres\0database\0postgres\0\0"; // protocol 3.0
    let length = u32::try_from(startup.len() + 4).unwrap().to_be_bytes();
    // Any other response begins with R: it asks for the password.
    said(port, &[&length[..], startup].concat()).is_some_and(|answer| answer.starts_with(b"R"))
}

/// A Redis that writes each command to disk before it answers.
#[derive(Debug)]
pub struct Redis(Server);

impl Redis {
    /// Starts it with `appendonly yes`, `appendfsync always` and `maxmemory-policy noeviction`.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// Starts it with further settings, such as `--maxmemory 1mb`. If two contradict each other, the last one applies.
    pub fn with(settings: &[&str]) -> Self {
        let mut server = Server::new("redis", "redis-server");
        let folder = server.folder.path().display().to_string();
        let port = server.port.number().to_string();
        let own = ["--port", &port, "--bind", "127.0.0.1", "--dir", &folder, "--save", "", "--appendonly", "yes"];
        let own = own.into_iter().chain(["--appendfsync", "always", "--maxmemory-policy", "noeviction"]);
        server.arguments = own.chain(settings.iter().copied()).map(ToOwned::to_owned).collect();
        let mut this = Self(server);
        this.restart();
        this
    }

    /// The folder with everything that it writes.
    pub fn folder(&self) -> &Path {
        self.0.folder.path()
    }

    pub fn port(&self) -> u16 {
        self.0.port.number()
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port())
    }

    pub fn kill(&mut self) {
        self.0.kill();
    }

    /// Restarts it on the same port and data.
    pub fn restart(&mut self) {
        self.0.start(redis_answers);
    }

    /// Restarts it without the data.
    pub fn restart_empty(&mut self) {
        // Redis 6 has a single file, and later versions have a folder.
        let is_removed = fs::remove_dir_all(self.0.folder.path().join("appendonlydir")).is_ok()
            || fs::remove_file(self.0.folder.path().join("appendonly.aof")).is_ok();
        assert!(is_removed, "the server has not written a file");
        self.restart();
    }

    /// Truncates the file that it wrote, as a crash of the machine may.
    pub fn cut_off(&self, bytes: u64) {
        let files = fs::read_dir(self.0.folder.path().join("appendonlydir")).into_iter().flatten();
        let mut files = files.map(|file| file.unwrap().path());
        let file = files.find(|path| path.to_string_lossy().ends_with(".incr.aof"));
        let file = file.unwrap_or_else(|| self.0.folder.path().join("appendonly.aof")); // Redis 6
        let file = fs::File::options().write(true).open(file).unwrap();
        let length = file.metadata().unwrap().len();
        file.set_len(length - bytes).unwrap();
    }

    /// Sends one raw command, and returns the first bytes of the answer.
    pub fn ask(&self, command: &str) -> String {
        let answer = said(self.port(), format!("{command}\r\n").as_bytes()).unwrap_or_default();
        String::from_utf8_lossy(&answer).into_owned()
    }
}

/// Returns whether it has loaded its data. While loading, it answers `-LOADING`. A server that requires a password counts as
/// up.
fn redis_answers(port: u16) -> bool {
    said(port, b"PING\r\n").is_some_and(|answer| answer.starts_with(b"+PONG") || answer.starts_with(b"-NOAUTH"))
}

/// The first bytes of an answer.
fn said(port: u16, question: &[u8]) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
    stream.write_all(question).ok()?;
    let mut answer = vec![0; 64];
    let length = stream.read(&mut answer).ok()?;
    answer.truncate(length);
    Some(answer)
}

/// A TCP port on 127.0.0.1. No other test gets it while the value is held, even if its server is down.
#[derive(Debug)]
pub struct Port {
    number: u16,
    /// A UDP socket with the same number reserves the port: it does not conflict with the server's TCP port, and can be bound
    /// only once.
    _claim: UdpSocket,
}

impl Port {
    /// Below the ports that Linux gives to connections by default, from 32,768 on.
    const RANGE: std::ops::Range<u16> = 20_000..32_000;

    pub fn free() -> Self {
        let start = RandomState::new().hash_one("port") % u64::from(Self::RANGE.end - Self::RANGE.start);
        let start = Self::RANGE.start + u16::try_from(start).unwrap();
        let claim = |number| UdpSocket::bind(("127.0.0.1", number)).ok().map(|claim| Self { number, _claim: claim });
        let is_free = |port: &Self| TcpListener::bind(("127.0.0.1", port.number)).is_ok();
        let numbers = (start..Self::RANGE.end).chain(Self::RANGE.start..start);
        numbers.filter_map(claim).find(is_free).expect("no port is free")
    }

    pub fn number(&self) -> u16 {
        self.number
    }
}

/// Returns whether a process listens on a port of 127.0.0.1. Without Linux' `/proc`, another process may be mistaken for it.
pub fn listens(process: u32, port: u16) -> bool {
    let Ok(sockets) = fs::read_to_string("/proc/net/tcp") else { return true };
    let address = format!("0100007F:{port:04X}");
    let listening = sockets.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let listening = listening.filter(|fields| fields.get(1) == Some(&address.as_str()) && fields.get(3) == Some(&"0A"));
    let names: Vec<PathBuf> = listening
        .filter_map(|fields| fields.get(9).map(|number| PathBuf::from(format!("socket:[{number}]"))))
        .collect();
    let files = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
    files.filter_map(|file| fs::read_link(file.path()).ok()).any(|file| names.contains(&file))
}

/// Finds a program in the search path, or in Debian's folders for Postgres, the newest version first.
fn find(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    versions.sort();
    folders.extend(versions.into_iter().rev());
    let found = folders.iter().map(|folder| folder.join(program)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{program} is not installed: scripts/test installs it"))
}

/// The user that runs the servers if the tests run as root, which `initdb` refuses.
fn unprivileged() -> Option<u32> {
    const NOBODY: u32 = 65_534;
    let root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    root.then_some(NOBODY)
}

fn as_unprivileged(program: &Path) -> Command {
    let Some(user) = unprivileged() else { return Command::new(program) };
    let mut command = Command::new("setpriv");
    command.arg(format!("--reuid={user}")).arg(format!("--regid={user}")).arg("--clear-groups").arg(program);
    command
}
