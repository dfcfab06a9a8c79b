//! The example `standalone`: its error messages about invalid files, and its shutdown.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)] // helpers of tests, which may

#[path = "standalone/administration.rs"]
mod administration;
#[path = "standalone/audit.rs"]
mod audit;
#[path = "standalone/check.rs"]
mod check;
#[path = "common/http2.rs"]
#[allow(dead_code, unreachable_pub, clippy::indexing_slicing)] // another test uses the rest
mod http2;
#[path = "standalone/idle.rs"]
mod idle;
#[cfg_attr(not(all(feature = "file", feature = "sqlite")), allow(dead_code, unused_imports))]
#[path = "standalone/keys.rs"]
mod keys;
#[path = "standalone/monitoring.rs"]
mod monitoring;
#[path = "standalone/places.rs"]
mod places;
#[path = "standalone/reload.rs"]
mod reload;
#[cfg(feature = "postgres")]
#[path = "common/servers.rs"]
#[allow(dead_code, unreachable_pub, clippy::indexing_slicing)] // another test uses the rest
mod servers;
#[path = "standalone/tls.rs"]
mod tls;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use self::http2::{ACK, DATA, END_HEADERS, END_STREAM, HEADERS, Http2, PING, RST_STREAM, block, frame};

/// A valid file, which tests break in one place.
const GOOD: &str = r#"listen = "127.0.0.1:0"

[keys]
generate = "ES256"

[tokens]
scope = "read"

[[resources]]
audience = "https://api.example.test/"

[[clients]]
client_id = "billing"
client_secret_env = "BILLING_SECRET"
scope = "read"

[[routes]]
path = "/api/read"
scope = "read"
"#;

/// Random enough, and used nowhere else.
const HASH: &str = "$sha256$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// The example, built by `cargo test` together with this test.
fn standalone() -> Command {
    let mut path = std::env::current_exe().unwrap();
    path.pop(); // the test
    path.pop(); // deps
    path.push("examples/standalone");
    assert!(path.exists(), "{} is not built: cargo build --example standalone", path.display());
    let mut command = Command::new(path);
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("TCC_") {
            command.env_remove(variable);
        }
    }
    command.env("BILLING_SECRET", "correct horse").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A file of this test only.
fn file(test: &str, content: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("standalone-{test}.toml"));
    fs::write(&path, content).unwrap();
    path
}

/// Returns the error about a file, without the folder of the file.
fn refusal(test: &str, content: &str, environment: &[(&str, &str)]) -> String {
    let path = file(test, content);
    let mut command = standalone();
    command.arg("--config").arg(&path).envs(environment.iter().copied()).env("RUST_LOG", "off");
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "it accepted {content}");
    assert!(output.stdout.is_empty(), "it listened before the configuration was checked");
    said.replace(&path.display().to_string(), "FILE").trim_end().to_owned()
}

/// A running service, which ends with the test.
struct Service {
    child: Child,
    stdout: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Service {
    /// Starts with the valid file and a few settings from the environment.
    fn start(test: &str, environment: &[(&str, &str)]) -> Self {
        Self::start_with(&file(test, GOOD), environment)
    }

    fn start_with(config: &Path, environment: &[(&str, &str)]) -> Self {
        let mut command = standalone();
        command.arg("--config").arg(config).envs(environment.iter().copied());
        command.env("RUST_LOG", "off").stderr(Stdio::inherit());
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        // With a log in JSON, the line is an object.
        let message = |line: Value| line.get("message").and_then(Value::as_str).unwrap_or_default().to_owned();
        let said = serde_json::from_str(&line).map_or(line, message);
        let address = said.trim_end().strip_prefix("listening on ").and_then(|url| url.split("://").nth(1));
        let address = address.expect("an address").parse().unwrap();
        Self { child, stdout, address }
    }

    /// Returns what it logs at `warn` while it starts, and stops it.
    fn warnings_of(config: &Path, environment: &[(&str, &str)]) -> String {
        let mut command = standalone();
        command.arg("--config").arg(config).envs(environment.iter().copied()).env("RUST_LOG", "warn");
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(line.starts_with("listening on "), "it did not start: {said}");
        said.replace(&config.display().to_string(), "FILE")
    }

    /// Starts with the valid file, and logs at every level into a file of this test.
    fn start_logging(test: &str) -> (Self, PathBuf) {
        let log = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("standalone-{test}.log"));
        let mut command = standalone();
        command.arg("--config").arg(file(test, GOOD)).env("RUST_LOG", "trace").stderr(fs::File::create(&log).unwrap());
        (Self::spawn(command), log)
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// Sends one request on a new connection, and returns the whole response.
    fn send(&self, request: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned() // gRPC-Web has binary bodies
    }

    fn json(&self, path: &str) -> Value {
        let answer = self.get(path);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        serde_json::from_str(body).unwrap()
    }

    fn get(&self, path: &str) -> String {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"))
    }

    /// Sends a token request without the last byte of its body, for which the service waits.
    fn begin_token_request(&self) -> TcpStream {
        let mut stream = self.connect();
        // `billing:correct+horse`
        let head = "POST /token HTTP/1.1\r\nHost: h\r\nAuthorization: Basic YmlsbGluZzpjb3JyZWN0K2hvcnNl\r\n\
            Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 29\r\nExpect: 100-continue\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        let mut interim = [0; 25];
        stream.read_exact(&mut interim).unwrap();
        assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n", "the service reads the body");
        stream.write_all(b"grant_type=client_credential").unwrap();
        stream
    }

    fn terminate(&mut self) {
        self.signal("TERM");
        let line = self.line();
        assert!(line == "draining" || line.contains("\"message\":\"draining\""), "{line}");
    }

    /// Sends SIGHUP, and returns the line about the reload.
    fn reload(&mut self) -> String {
        self.signal("HUP");
        self.line()
    }

    fn signal(&self, signal: &str) {
        let (command, pid) = (format!("kill -{signal} $0"), self.child.id().to_string());
        assert!(Command::new("sh").args(["-c", &command, &pid]).status().unwrap().success());
    }

    /// Requests a token for `billing`, whose secret is `correct horse`, and returns the whole response.
    fn request_token(&self) -> String {
        self.send(
            "POST /token HTTP/1.1\r\nHost: h\r\nConnection: close\r\nAuthorization: Basic YmlsbGluZzpjb3JyZWN0K2hvcnNl\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 40\r\n\r\ngrant_type=client_credentials&scope=read",
        )
    }

    fn token(&self) -> String {
        let answer = self.request_token();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let body: Value = serde_json::from_str(body).unwrap();
        body.get("access_token").and_then(Value::as_str).unwrap_or_else(|| panic!("no token: {answer}")).to_owned()
    }

    /// Returns the status of `/api/read` with this token.
    fn reads(&self, token: &str) -> String {
        let head = format!("GET /api/read HTTP/1.1\r\nHost: h\r\nConnection: close\r\nAuthorization: Bearer {token}");
        self.send(&format!("{head}\r\n\r\n")).split(' ').nth(1).unwrap().to_owned()
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[allow(clippy::too_many_lines)] // a table
fn a_bad_file_is_refused_with_its_line_and_how_to_fix_it() {
    for (name, right, wrong, line, fix) in [
        ("syntax", "[keys]", "[keys", 3, "]"),
        ("unknown-key", "listen =", "lisen =", 1, "unknown field `lisen`, expected one of `listen`"),
        ("unknown-table", "[keys]", "[kees]", 3, "expected one of `listen`"),
        ("address", "127.0.0.1:0", "localhost:0", 1, "such as 127.0.0.1:3000"),
        ("issuer", "\n\n[keys]", "\nissuer = \"http://auth.example.test\"\n[keys]", 2, "loopback"),
        ("plain-issuer", "\n\n[keys]", "\nissuer = \"http://auth:3000\"\n[keys]", 2, "dangerous_plain_http"),
        ("no-prefix", "\n\n[keys]", "\nproxy_strips_issuer_path = true\n[keys]", 2, "has no path"),
        ("list-for-table", "\n[keys]\ngenerate = \"ES256\"\n", "keys = [\"ES256\"]\n", 2, "make it a table, [keys]"),
        ("public-url", "\n\n[keys]", "\npublic_url = \"auth\"\n[keys]", 2, "such as https://"),
        ("path", "[keys]", "[paths]\ntoken = \"token\"\n[keys]", 4, "must begin with a slash"),
        ("path-twice", "[keys]", "[paths]\ntoken = \"/t\"\njwks = \"/t\"\n[keys]", 3, "a path of its own"),
        (
            "skew",
            "[[clients]]",
            "[assertions]\nclock_skew_seconds = 9\n\n[[clients]]",
            12,
            "ClientAssertions::clock_skew",
        ),
        ("limit", "[keys]", "[limits]\nbody_bytes = -1\n[keys]", 4, "integer `-1`"),
        ("no-connections", "[keys]", "[limits]\nconnections = 0\n[keys]", 4, "nonzero"),
        ("no-key", "generate = \"ES256\"", "", 3, "generate = \"ES256\""),
        ("created-and-generated", "generate", "load_or_create = \"k.pem\"\ngenerate", 4, "keep one of them"),
        ("created-and-signs", "generate = \"ES256\"", "load_or_create = \"k\"\nsign = \"s\"", 5, "keep one of them"),
        ("created-nowhere", "generate = \"ES256\"", "load_or_create = \"none/k.pem\"", 4, "folder must exist"),
        ("two-keys", "generate", "sign = \"k.pem\"\ngenerate", 4, "keep one of them"),
        ("rotates-and-generates", "generate", "rotate_days = 90\ngenerate", 4, "keep one of them"),
        ("rotates-plainly", "generate = \"ES256\"", "rotate_days = 90", 4, "set either encryption_key_file or"),
        ("rotates-never", "generate = \"ES256\"", "rotate_days = 0", 4, "nonzero"),
        ("rotates-and-trusts", "generate = \"ES256\"", "rotate_days = 90\ntrust = [\"k\"]", 5, "remove keys.trust"),
        (
            "encrypts-nothing",
            "generate",
            "encryption_key_file = \"k\"\ngenerate",
            4,
            "keys.rotate_days or assertions.client_secret_jwt",
        ),
        (
            "ring-variable",
            "generate = \"ES256\"",
            "rotate_days = 90\nencryption_key_env = \"NO_SUCH_VARIABLE\"",
            5,
            "NO_SUCH_VARIABLE is not set",
        ),
        ("algorithm", "ES256", "ES255", 4, "is not an algorithm; use one of ES256, ES384"),
        ("key-file", "generate = \"ES256\"", "sign = \"nothing-here.pem\"", 4, "nothing-here.pem"),
        ("trusted-key", "generate = \"ES256\"", "generate = \"ES256\"\ntrust = [\"nothing.pem\"]", 5, "public key"),
        ("lifetime", "scope = \"read\"\n\n[[res", "scope = \"read\"\nlifetime_seconds = 0\n\n[[res", 8, "365 days"),
        ("scope", "scope = \"read\"\n\n[[res", "scope = \"réad\"\n\n[[res", 7, "visible ASCII characters"),
        (
            "scope-list",
            "scope = \"read\"\n\n[[res",
            "scope = [\"read\"]\n\n[[res",
            7,
            "in one string, separated by spaces",
        ),
        ("audience", "https://api.example.test/", "api.example.test", 10, "absolute URI"),
        (
            "no-secret",
            "client_secret_env = \"BILLING_SECRET\"",
            "",
            12,
            "give it one of client_secret_hash, client_secret_env",
        ),
        (
            "two-secrets",
            "client_secret_env",
            "client_secret_file = \"s\"\nclient_secret_env",
            12,
            "keep one of client_secret_hash, client_secret_env",
        ),
        (
            "proxy-range",
            "[keys]",
            "[proxies]\nheader = \"Forwarded\"\ntrusted = [\"10.0.0.1/8\"]\n[keys]",
            5,
            "use `10.0.0.0/8`",
        ),
        ("proxy-all", "[keys]", "[proxies]\nheader = \"Forwarded\"\ntrusted = [\"::/0\"]\n[keys]", 5, "every address"),
        (
            "proxy-header",
            "[keys]",
            "[proxies]\ntrusted = [\"10.0.0.0/8\"]\nheader = \"X-Real-IP\"\n[keys]",
            5,
            "`X-Forwarded-For`",
        ),
        (
            "proxy-no-header",
            "[keys]",
            "[proxies]\ntrusted = [\"10.0.0.0/8\"]\n[keys]",
            4,
            "header of the trusted proxies is missing",
        ),
        ("proxy-no-range", "[keys]", "[proxies]\nheader = \"Forwarded\"\n[keys]", 3, "no range of trusted proxies"),
        (
            "not-random",
            "client_secret_env",
            "random_client_secret = true\nclient_secret_env",
            12,
            "BILLING_SECRET: a random secret must have at least 22",
        ),
        (
            "random-hash",
            "client_secret_env = \"BILLING_SECRET\"",
            "random_client_secret = true\nclient_secret_hash = \"hunter2\"",
            12,
            "$sha256$",
        ),
        ("no-variable", "BILLING_SECRET", "NOBODY_SETS_THIS", 12, "NOBODY_SETS_THIS is not set"),
        ("no-file", "client_secret_env", "client_secret_file", 12, "put the secret there"),
        ("plain-hash", "client_secret_env = \"BILLING_SECRET\"", "client_secret_hash = \"hunter2\"", 12, "$sha256$"),
        (
            "method",
            "scope = \"read\"\n\n[[rou",
            "token_endpoint_auth_method = \"basic\"\n\n[[rou",
            15,
            "client_secret_post",
        ),
        ("client-id", "\"billing\"", "\"é\"", 12, "client id"),
        ("unknown-scope", "scope = \"read\"\n\n[[rou", "scope = \"write\"\n\n[[rou", 12, "`write`"),
        ("default-scope", "client_secret_env", "default_scope = \"x\"\nclient_secret_env", 12, "`x`"),
        ("route-path", "/api/read", "/api/{id}", 17, "write one like /api/read"),
        ("route-taken", "/api/read", "/health/live", 17, "a path of its own"),
        (
            "route-scope",
            "/api/read\"\nscope = \"read\"",
            "/api/read\"\nscope = \"write\"",
            17,
            "add it to tokens.scope",
        ),
        ("no-audience", "[[resources]]\naudience = \"https://api.example.test/\"\n", "", 10, "no default audience"),
    ] {
        let content = GOOD.replacen(right, wrong, 1);
        assert_ne!(content, GOOD, "{name} breaks nothing");
        let said = refusal(name, &content, &[]);
        assert!(said.starts_with(&format!("FILE:{line}: ")), "{name}: not line {line}: {said}");
        assert!(said.contains(fix), "{name}: `{fix}` is not in: {said}");
        assert!(!said.contains("hunter2"), "a secret is shown: {said}");
    }
}

#[test]
fn no_value_in_a_client_is_shown_since_it_may_be_a_secret_under_a_wrong_name() {
    for (name, member, value, part) in [
        ("secret-number", "dangerous_plain_client_secret", "4815162342", "expected a string"),
        ("secret-list", "dangerous_plain_client_secret", "[4815162342]", "expected a string"),
        ("secret-bare", "dangerous_plain_client_secret", "hunter2", "string"),
        ("secret-switch", "random_client_secret", "\"hunter2\"", "expected a boolean"),
        ("secret-quoted", "random_client_secret", "'hunter2, expected \"hunter2\"'", "expected a boolean"),
        ("secret-method", "token_endpoint_auth_method", "\"hunter2\"", "`client_secret_basic`"),
        ("secret-ticks", "token_endpoint_auth_method", "\"`, expected hunter2\"", "client_secret_"),
        ("secret-former", "method", "\"hunter2\"", "`client_secret_basic`"),
        ("secret-audience", "audiences", "[\"hunter2\"]", "expected an absolute URI"),
        ("secret-scope", "default_scope", "\"hunter2 é\"", "separated by spaces"),
        ("secret-lifetime", "token_lifetime", "4815162342", "expected u32"),
        ("secret-on", "enabled", "4815162342.5", "expected a boolean"),
    ] {
        let setting = format!("{member} = {value}\nclient_secret_env");
        let said = refusal(name, &GOOD.replacen("client_secret_env", &setting, 1), &[]);
        println!("{member} = {value} ⇒ {said}");
        assert!(said.lines().any(|line| line.starts_with("FILE:14: ")), "{said}");
        assert!(!said.contains("hunter2") && !said.contains("4815162342"), "a secret is shown: {said}");
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn a_wide_range_of_trusted_proxies_causes_a_warning_and_one_of_every_address_is_rejected() {
    let config = |ranges: &str| {
        GOOD.replacen("[keys]", &format!("[proxies]\nheader = \"Forwarded\"\ntrusted = {ranges}\n[keys]"), 1)
    };
    let said = refusal("proxies-all", &config(r#"["0.0.0.0/1", "128.0.0.0/1"]"#), &[]);
    assert!(said.starts_with("FILE:5: ") && said.contains("together contain every address of IPv4"), "{said}");
    let wide = file("proxies-wide", &config(r#"["10.0.0.0/7", "2000::/15", "192.0.2.0/24", "2001:db8::/32"]"#));
    let said = Service::warnings_of(&wide, &[]);
    let wide = |range: &str| said.contains(&format!("trusted proxies `{range}` is very wide"));
    assert!(wide("10.0.0.0/7") && wide("2000::/15"), "{said}");
    assert!(!wide("192.0.2.0/24") && !wide("2001:db8::/32"), "{said}");
}

#[test]
fn a_list_is_not_read_as_a_client() {
    let content = "listen = \"127.0.0.1:0\"\nclients = [[\"billing\", \"hunter2\"]]\n\n[keys]\ngenerate = \"ES256\"\n";
    let said = refusal("list-for-client", content, &[]);
    assert!(said.starts_with("FILE:2: ") && said.contains("[[clients]]") && !said.contains("hunter2"), "{said}");
}

#[test]
fn an_invalid_or_unavailable_store_is_rejected_without_showing_its_password() {
    for (url, why) in [
        ("mysql://u:hunter2@h/d", "unknown store `mysql:`"),
        ("nonsense", "invalid store URL; use one of"),
        ("redis://:hunter2@127.0.0.1:1/", "refused"),
        ("postgres://u:hunter2@127.0.0.1:1/d", "refused"),
        ("file:nowhere.toml", "nowhere.toml: cannot read it"),
    ] {
        let said = refusal("store", GOOD, &[("TCC_STORE", url)]);
        assert!(said.starts_with("TCC_STORE: ") && said.contains(why) && !said.contains("hunter2"), "{said}");
    }
}

#[test]
fn a_revoked_token_stays_revoked_after_a_restart() {
    let key = format!("sign = {:?}", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keys/p256.pem"));
    let good = GOOD.replace("generate = \"ES256\"", &key);
    let config = file("started-again", &format!("issuer = \"http://127.0.0.1:3000\"\n{good}"));
    for ending in ["db", "db-wal", "db-shm"] {
        let _ = fs::remove_file(config.with_extension(ending));
    }
    let ask = |service: &Service, path: &str, form: &str| {
        service.send(&format!(
            "POST {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nAuthorization: Basic YmlsbGluZzpjb3JyZWN0K2hvcnNl\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
            form.len()
        ))
    };
    let read = |service: &Service, token: &str| {
        let head =
            format!("GET /api/read HTTP/1.1\r\nHost: h\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n");
        service.send(&head).split(' ').nth(1).unwrap().to_owned()
    };
    let service = Service::start_with(&config, &[]);
    let tokens = ["first", "second"].map(|_| {
        let answer = ask(&service, "/token", "grant_type=client_credentials&scope=read");
        let body: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
        body["access_token"].as_str().unwrap().to_owned()
    });
    assert!(ask(&service, "/revoke", &format!("token={}", tokens[0])).starts_with("HTTP/1.1 200 "));
    assert_eq!([read(&service, &tokens[0]), read(&service, &tokens[1])], ["401", "200"]);
    drop(service);
    let service = Service::start_with(&config, &[]);
    assert_eq!([read(&service, &tokens[0]), read(&service, &tokens[1])], ["401", "200"]);
}

/// A random secret, and a load balancer in front: settings in the file and in the environment.
#[test]
fn a_random_secret_is_never_locked_out_and_callers_behind_a_proxy_are_distinguished() {
    const RANDOM: &str = "jR3uWc0sYk8p4hT1nQ7vZ2xB6mD9fG5a-LqEoHiKwXs";
    let config = file("proxies", &GOOD.replace("client_secret_env", "random_client_secret = true\nclient_secret_env"));
    let trust = [
        ("TCC_PROXIES_TRUSTED", "127.0.0.0/8 10.0.0.0/8"),
        ("TCC_PROXIES_HEADER", "x-forwarded-for"),
        ("TCC_STORE", "memory:"),
        ("BILLING_SECRET", RANDOM),
    ];
    let service = Service::start_with(&config, &trust);
    let ask = |secret: &str, caller: &str| {
        let form = "grant_type=client_credentials&client_id=billing&scope=read";
        let credentials = STANDARD.encode(format!("billing:{secret}"));
        let answer = service.send(&format!(
            "POST /token HTTP/1.1\r\nHost: h\r\nConnection: close\r\nAuthorization: Basic {credentials}\r\n\
             X-Forwarded-For: {caller}\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: {}\r\n\r\n{form}",
            form.len()
        ));
        answer.split(' ').nth(1).unwrap().to_owned()
    };
    // Twice as many, since the minute of the counter may end in between.
    let statuses: Vec<String> = (0..202).map(|_| ask("wrong", "203.0.113.1")).collect();
    assert!(statuses.iter().any(|status| status == "429"), "{statuses:?}");
    assert_eq!([ask("wrong", "203.0.113.2"), ask(RANDOM, "203.0.113.1")], ["401", "200"]);
}

#[test]
fn a_duplicate_client_and_a_second_default_resource_are_rejected_with_their_line() {
    let client = format!("\n[[clients]]\nclient_id = \"billing\"\nclient_secret_hash = \"{HASH}\"\n");
    let said = refusal("client-twice", &(GOOD.to_owned() + &client), &[]);
    assert!(said.starts_with("FILE:21: ") && said.contains("give each client its own id"), "{said}");

    let resource = "default = true\n\n[[resources]]\naudience = \"https://b.example\"\ndefault = true\n\n[[clients]]";
    let said = refusal("second-default", &GOOD.replacen("\n[[clients]]", resource, 1), &[]);
    assert!(said.starts_with("FILE:13: ") && said.contains("mark only one"), "{said}");
}

#[cfg(unix)]
#[test]
fn a_named_pipe_in_place_of_a_secret_or_a_key_is_rejected_at_once() {
    let pipe = tempfile::tempdir().unwrap();
    let path = pipe.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    for (name, right, wrong) in [
        ("pipe-secret", "client_secret_env = \"BILLING_SECRET\"", format!("client_secret_file = {path:?}")),
        ("pipe-trust", "generate = \"ES256\"", format!("generate = \"ES256\"\ntrust = [{path:?}]")),
        ("pipe-sign", "generate = \"ES256\"", format!("sign = {path:?}")),
    ] {
        let content = GOOD.replacen(right, &wrong, 1);
        let (done, is_done) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            // Sending fails if the test has already failed.
            let _ = done.send(refusal(name, &content, &[]));
        });
        let said = is_done.recv_timeout(Duration::from_secs(30)).expect("it waits for a writer");
        assert!(said.starts_with("FILE:") && said.contains("not a regular file"), "{name}: {said}");
    }
}

#[cfg(feature = "sqlite")]
#[test]
fn a_client_that_is_both_listed_and_in_the_store_is_rejected_until_it_is_in_one_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("clients.db").display());
    let clients = |arguments: &[&str]| {
        let mut path = std::env::current_exe().unwrap();
        path.pop(); // the test
        path.pop(); // deps
        let output =
            Command::new(path.join("examples/clients")).env("TCC_STORE", &url).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    clients(&["create", "reports", "--audience", "https://api.example.test/"]);
    drop(Service::start("in-one", &[("TCC_STORE", &url)]));
    clients(&["create", "billing"]);
    // If it were disabled in the store alone, it would still get tokens.
    clients(&["disable", "billing"]);
    let said = refusal("in-both", GOOD, &[("TCC_STORE", &url)]);
    assert!(said.starts_with("FILE:12: client `billing` is in the store as well"), "{said}");
    assert!(said.contains("remove it from this file") && said.contains("`clients delete billing`"), "{said}");
    clients(&["delete", "billing"]);
    drop(Service::start("in-one-again", &[("TCC_STORE", &url)]));
}

#[test]
fn a_bad_variable_is_rejected_by_its_name() {
    for (variable, value, fix) in [
        ("TCC_LISTEN", "3000", "such as 127.0.0.1:3000"),
        ("TCC_LISTNE", "127.0.0.1:0", "there is no such setting"),
        ("TCC_LIMITS_BODY_BYTES", "much", "a whole number"),
        ("TCC_TOKENS_SCOPE", "read \"", "visible ASCII"),
        ("TCC_TOKENS_SCOPES", "read \"", "visible ASCII"),
        ("TCC_SERVICE_PORTAL", "1", "there is no such setting"),
        ("TCC_REPORT", "1", "there is no such setting"),
        ("TCC_ISSUER", "auth.example.test", "https://"),
        ("TCC_TOKENS_LIFETIME_SECONDS", "0", "365 days"),
        ("TCC_ASSERTIONS_CLOCK_SKEW_SECONDS", "short", "a whole number"),
        ("TCC_ASSERTIONS_MAX_LIFETIME_SECONDS", "long", "a whole number"),
        ("TCC_ASSERTIONS_ALGORITHMS", "HS256", "is not an algorithm"),
        ("TCC_ASSERTIONS_CLIENT_KEY_URLS", "some", "is not one of off"),
        ("TCC_ASSERTIONS_CLIENT_SECRET_JWT", "yes", "true or false"),
        ("TCC_KEYS_GENERATE", "", "there is no key"),
    ] {
        let said = refusal(&variable.to_lowercase(), GOOD, &[(variable, value)]);
        // The last one falls back to the file, since an empty variable counts as absent.
        assert!(said.starts_with(&format!("{variable}: ")) || value.is_empty(), "{said}");
        assert!(said.contains(fix), "{variable}: {said}");
    }
}

#[test]
fn former_names_are_accepted_with_a_warning_that_gives_the_new_name() {
    let mut former = GOOD.to_owned();
    for (name, former_name) in [
        ("scope = \"read\"\n\n[[res", "scopes = [\"read\"]\ndefault_scopes = [\"read\"]\n\n[[res"),
        ("\n\n[[clients]]", "\nscopes = [\"read\"]\n\n[[clients]]"),
        ("client_id", "id"),
        ("client_secret_env", "secret_env"),
        (
            "scope = \"read\"\n\n[[rou",
            "scopes = [\"read\"]\ndefault_scopes = [\"read\"]\nmethod = \"client_secret_post\"\n\
             token_lifetime_seconds = 9\nwithout_grant = false\ndisabled = false\n\n[[rou",
        ),
    ] {
        assert!(former.contains(name), "{name}");
        former = former.replacen(name, former_name, 1);
    }
    let config = file("former-names", &former);
    let said = Service::warnings_of(&config, &[("TCC_STORE", "memory:"), ("TCC_TOKENS_DEFAULT_SCOPES", "read")]);
    for (line, table, former, name) in [
        (7, "tokens", "scopes", "scope"),
        (8, "tokens", "default_scopes", "default_scope"),
        (12, "resources", "scopes", "scope"),
        (15, "clients", "id", "client_id"),
        (16, "clients", "secret_env", "client_secret_env"),
        (17, "clients", "scopes", "scope"),
        (18, "clients", "default_scopes", "default_scope"),
        (19, "clients", "method", "token_endpoint_auth_method"),
        (20, "clients", "token_lifetime_seconds", "token_lifetime"),
        (21, "clients", "without_grant", "grant"),
        (22, "clients", "disabled", "enabled"),
    ] {
        let warning = format!("FILE:{line}: `{former}` in `{table}` is now called `{name}`");
        assert!(said.contains(&warning), "{warning}\nis not in\n{said}");
    }
    assert!(said.contains("TCC_TOKENS_DEFAULT_SCOPES is now called TCC_TOKENS_DEFAULT_SCOPE;"), "{said}");

    let service = Service::start_with(&config, &[("TCC_STORE", "memory:")]);
    let form = "grant_type=client_credentials&client_id=billing&client_secret=correct+horse";
    let answer = service.send(&format!(
        "POST /token HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
        form.len()
    ));
    let body: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!((&body["scope"], &body["expires_in"]), (&"read".into(), &9.into()), "{body}");
}

#[test]
fn a_former_name_together_with_the_new_one_is_rejected() {
    let said = refusal("both-names", &GOOD.replacen("client_id", "id = \"b\"\nclient_id", 1), &[]);
    assert!(said.starts_with("FILE:13: ") && said.contains("both are set; keep `client_id`"), "{said}");
    let both = [("TCC_TOKENS_SCOPES", "read"), ("TCC_TOKENS_SCOPE", "read")];
    let said = refusal("both-variables", GOOD, &both);
    assert!(said.starts_with("TCC_TOKENS_SCOPES: ") && said.contains("keep TCC_TOKENS_SCOPE"), "{said}");
}

#[test]
fn its_own_file_has_no_former_name() {
    let example = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/standalone.toml"));
    let environment = [("TCC_LISTEN", "127.0.0.1:0"), ("TCC_ISSUER", ""), ("TCC_STORE", "memory:")];
    let said = Service::warnings_of(example, &environment);
    assert!(!said.contains("former name"), "{said}");
}

/// As Kubernetes sets them in each pod for a service named `tcc`, and for one named `tcc-mail`.
#[test]
fn variables_that_kubernetes_sets_for_a_service_do_not_stop_the_start() {
    let environment = [
        ("TCC_PORT", "tcp://10.0.0.1:80"),
        ("TCC_SERVICE_HOST", "10.0.0.1"),
        ("TCC_SERVICE_PORT", "80"),
        ("TCC_SERVICE_PORT_HTTP", "80"),
        ("TCC_PORT_80_TCP", "tcp://10.0.0.1:80"),
        ("TCC_PORT_80_TCP_PROTO", "tcp"),
        ("TCC_PORT_80_TCP_PORT", "80"),
        ("TCC_PORT_80_TCP_ADDR", "10.0.0.1"),
        ("TCC_MAIL_SERVICE_HOST", "10.0.0.2"),
        ("TCC_MAIL_PORT_53_UDP_ADDR", "10.0.0.2"),
    ];
    let said = Service::warnings_of(&file("kubernetes", GOOD), &environment);
    for (variable, _) in environment {
        assert!(said.contains(&format!("{variable} is not a setting")), "{variable}\nis not in\n{said}");
    }
}

#[test]
fn a_generated_key_causes_a_warning_that_says_how_to_keep_a_key() {
    let said = Service::warnings_of(&file("generated-key", GOOD), &[]);
    for part in ["keys.generate", "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256", "keys.sign"] {
        assert!(said.contains(part), "{part}\nis not in\n{said}");
    }
    let sign = format!("sign = {:?}", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keys/p256.pem"));
    let kept = file("kept-key", &GOOD.replace("generate = \"ES256\"", &sign));
    let said = Service::warnings_of(&kept, &[]);
    assert!(!said.contains("openssl"), "{said}");
}

#[test]
fn an_issuer_without_a_scheme_is_rejected_with_an_issuer_as_the_example() {
    let said = refusal("issuer-example", GOOD, &[("TCC_ISSUER", "auth.example.test")]);
    assert!(said.contains("https://auth.example.com") && !said.contains("https://api."), "{said}");
}

#[cfg(all(feature = "legacy_hashes", feature = "sqlite"))]
#[test]
fn the_hash_of_an_older_system_is_replaced_in_the_store_when_its_secret_is_used() {
    use tower_client_credentials::secret::StoredSecret;
    use tower_client_credentials::store::{ClientAdmin as _, SqliteStore};
    use tower_client_credentials::{Client, ClientId, ClientStore as _};

    let config = file("legacy", &GOOD.replace("billing", "someone"));
    for ending in ["db", "db-wal", "db-shm"] {
        let _ = fs::remove_file(config.with_extension(ending));
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let url = format!("sqlite://{}", config.with_extension("db").display());
    let store = runtime.block_on(SqliteStore::open(&url)).unwrap();
    let bcrypt: StoredSecret = "$2b$04$u/mWKFMpDHcv4.JavTZaAe8Hmybpmq4oNOGJmHFJk9sdgydrWCqIe".parse().unwrap();
    let client = Client::new("billing", bcrypt).audience("https://api.example.test/").register().unwrap();
    runtime.block_on(store.create(client)).unwrap();

    let service = Service::start_with(&config, &[]);
    let mut request = service.begin_token_request();
    request.write_all(b"s").unwrap();
    let mut answer = [0; 12];
    request.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    let billing = ClientId::from_static("billing");
    let is_replaced = async {
        loop {
            let client = store.find(&billing).await.unwrap().unwrap();
            if client.secrets()[0].stored().to_phc_string().starts_with("$argon2id$") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let in_time = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), is_replaced).await });
    assert!(in_time.is_ok(), "the hash is still that of bcrypt");
}

#[test]
fn without_a_file_it_prints_its_usage() {
    let output = standalone().output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("--config <FILE.toml>"));
    let output = standalone().args(["--config", "nothing-here.toml"]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("examples/standalone.toml"));
}

#[test]
fn its_own_file_is_valid_and_the_environment_overrides_it() {
    let example = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/standalone.toml"));
    let service = Service::start_with(
        example,
        &[
            ("TCC_LISTEN", "127.0.0.1:0"),
            ("TCC_ISSUER", "http://127.0.0.1:7/tenant"),
            ("TCC_PUBLIC_URL", "https://edge.example.test/auth"),
            ("TCC_PATHS_TOKEN", "/oauth/token"),
            ("TCC_PATHS_JWKS", "off"),
        ],
    );
    let metadata = service.json("/.well-known/oauth-authorization-server/tenant");
    assert_eq!(metadata["issuer"], "http://127.0.0.1:7/tenant");
    assert_eq!(metadata["token_endpoint"], "https://edge.example.test/auth/oauth/token");
    assert_eq!(metadata.get("jwks_uri"), None);
}

#[test]
fn an_issuer_behind_a_proxy_that_strips_its_path_needs_one_setting_and_plain_http_a_dangerous_one() {
    let settings = [
        ("TCC_ISSUER", "http://tokens.mesh.test/auth"),
        ("TCC_DANGEROUS_PLAIN_HTTP", "true"),
        ("TCC_PROXY_STRIPS_ISSUER_PATH", "true"),
    ];
    let service = Service::start("stripped", &settings);
    let metadata = service.json("/.well-known/oauth-authorization-server/auth");
    assert_eq!(metadata["issuer"], "http://tokens.mesh.test/auth");
    assert_eq!(metadata["token_endpoint"], "http://tokens.mesh.test/auth/token");
    assert_eq!(metadata["jwks_uri"], "http://tokens.mesh.test/auth/.well-known/jwks.json");
    assert!(service.json("/.well-known/jwks.json")["keys"].is_array());
}

#[test]
fn a_key_that_it_creates_is_used_again_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    for (name, algorithm, expected) in [("default.pem", "", "ES256"), ("chosen.pem", "EdDSA", "EdDSA")] {
        let path = folder.path().join(name);
        let settings = [
            ("TCC_KEYS_GENERATE", ""),
            ("TCC_KEYS_LOAD_OR_CREATE", path.to_str().unwrap()),
            ("TCC_KEYS_ALGORITHM", algorithm),
        ];
        let key_set = || Service::start("created-key", &settings).json("/.well-known/jwks.json");
        let first = key_set();
        assert_eq!(first["keys"][0]["alg"], expected);
        assert!(path.exists());
        assert_eq!(key_set(), first);
    }
}

#[test]
fn keys_are_read_from_files_relative_to_the_configuration() {
    let keys = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keys");
    let own = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("standalone-own.jwk");
    fs::copy(format!("{keys}/rfc8037-a1.jwk"), own).unwrap();
    for (sign, algorithm, expected) in [
        ("standalone-own.jwk".to_owned(), "", "EdDSA"),
        (format!("{keys}/p384.sec1.pem"), "", "ES384"),
        (format!("{keys}/p256.der"), "", "ES256"),
        (format!("{keys}/rsa2048.pem"), "PS256", "PS256"),
    ] {
        let trusted = format!("{keys}/p256.pub.pem {keys}/rfc7515-a2.public.jwk");
        let service = Service::start(
            &format!("keys-{expected}"),
            &[
                ("TCC_KEYS_GENERATE", ""),
                ("TCC_KEYS_SIGN", &sign),
                ("TCC_KEYS_ALGORITHM", algorithm),
                ("TCC_KEYS_TRUST", &trusted),
            ],
        );
        let set = service.json("/.well-known/jwks.json");
        assert_eq!(set["keys"][0]["alg"], expected, "the first key is the one that signs: {set}");
        assert!(set["keys"].as_array().unwrap().len() >= 2, "{set}");
    }
}

#[test]
fn the_limits_are_enforced() {
    let service = Service::start("limits", &[("TCC_LIMITS_BODY_BYTES", "28"), ("TCC_LIMITS_BODY_SECONDS", "1")]);
    // The announced length is one byte too many, and the last byte of the other body is not sent within a second.
    let long = "POST /token HTTP/1.1\r\nHost: h\r\nContent-Type: application/x-www-form-urlencoded\r\n\
        Connection: close\r\nContent-Length: 29\r\n\r\ngrant_type=client_credentials";
    assert!(service.send(long).starts_with("HTTP/1.1 413 "));
    let slow = long.replace("Length: 29", "Length: 28").replace("credentials", "");
    assert!(service.send(&slow).starts_with("HTTP/1.1 408 "));
}

#[test]
fn a_connection_without_requests_is_closed() {
    let service = Service::start("silence", &[("TCC_LIMITS_HEAD_SECONDS", "0")]);
    let mut stream = service.connect();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0, "the end of the stream");
}

#[test]
fn it_is_live_and_ready_until_sigterm_and_then_no_longer_ready() {
    let mut service = Service::start("health", &[("TCC_LIMITS_NOTICE_SECONDS", "60")]);
    assert!(service.get("/health/live").starts_with("HTTP/1.1 204 "));
    assert!(service.get("/health/ready").starts_with("HTTP/1.1 204 "));
    service.terminate();
    assert!(service.get("/health/live").starts_with("HTTP/1.1 204 "));
    assert!(service.get("/health/ready").starts_with("HTTP/1.1 503 "));
    assert!(service.get("/api/read").starts_with("HTTP/1.1 401 "), "it still serves requests");
}

#[test]
fn a_route_for_a_forward_auth_proxy_refuses_grpc_by_the_http_status() {
    let refusal = |route: &str| {
        let config = GOOD.replace("/api/read\"\nscope = \"read\"\n", &format!("/api/read\"\n{route}"));
        assert!(config.contains(route), "{config}");
        let service = Service::start_with(&file("grpc", &config), &[]);
        service.send(
            "POST /api/read HTTP/1.1\r\nHost: h\r\nContent-Type: application/grpc-web\r\nContent-Length: 0\r\n\
             Connection: close\r\n\r\n",
        )
    };
    let as_grpc = refusal("scope = \"read\"\n");
    assert!(as_grpc.starts_with("HTTP/1.1 200 ") && as_grpc.contains("grpc-status:16"), "{as_grpc}");
    let as_http = refusal("scope = \"read\"\ngrpc_refusals = false\n");
    assert!(as_http.starts_with("HTTP/1.1 401 ") && !as_http.contains("grpc-status"), "{as_http}");
}

#[test]
fn http_2_without_tls_is_on_the_same_port() {
    let service = Service::start("h2c", &[]);
    let mut stream = service.connect();
    // RFC 9113 §3.4: the client's preface with empty SETTINGS. The server sends its SETTINGS first.
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    let mut frame = [0; 9];
    stream.read_exact(&mut frame).unwrap();
    assert_eq!(frame[3], 4, "a SETTINGS frame: {frame:?}");
}

#[test]
fn sigterm_lets_a_request_in_progress_finish_and_accepts_no_other() {
    let mut service = Service::start("drain", &[]);
    let mut request = service.begin_token_request();
    service.terminate();
    request.write_all(b"s").unwrap();
    let mut answer = String::new();
    request.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains("access_token"), "{answer}");
    assert_eq!(service.line(), "drained");
    assert!(service.child.wait().unwrap().success());
    assert!(TcpStream::connect(service.address).is_err());
}

#[test]
fn draining_has_a_time_limit() {
    let mut service = Service::start("bounded", &[("TCC_LIMITS_DRAIN_SECONDS", "0")]);
    let _request = service.begin_token_request();
    service.terminate();
    assert_eq!(service.line(), "aborted the requests that were still in progress");
    assert!(service.child.wait().unwrap().success());
}

/// Sends a request over HTTP/2 (RFC 9113) with these fields, including requests that client libraries refuse to send. Returns
/// after the service has answered or reset it.
fn send_over_http_2(service: &Service, fields: &[(&str, &str)], body: &str) {
    let mut connection = Http2::connect(service.address, &[]);
    let end = if body.is_empty() { END_STREAM } else { 0 };
    connection.send(&frame(HEADERS, END_HEADERS | end, 1, &block(fields)));
    if !body.is_empty() {
        connection.send(&frame(DATA, END_STREAM, 1, body.as_bytes()));
    }
    connection.send(&frame(PING, 0, 0, b"are you?"));
    // Until the PING is acknowledged, and the stream has ended by a response or by a reset.
    let (mut pinged, mut ended) = (false, false);
    while !(pinged && ended) {
        let frame = connection.receive().expect("a frame");
        pinged |= frame.kind == PING && frame.flags == ACK;
        let is_last = matches!(frame.kind, HEADERS | DATA) && frame.flags & END_STREAM != 0;
        ended |= frame.stream == 1 && (frame.kind == RST_STREAM || is_last);
    }
}

#[test]
fn no_secret_and_no_token_is_in_the_log_at_any_level() {
    // The secrets in `client_secret=…` in the query and in the body, in `access_token=…` in the query, and in malformed
    // requests.
    const SECRETS: [&str; 6] =
        ["secret-in-query", "secret-in-body", "token-in-query", "secret-in-target", "secret-in-path", "secret-in-te"];
    const BASIC: &str = "YmlsbGluZzpjb3JyZWN0K2hvcnNl"; // `billing:correct+horse`
    const FORM: &str = "application/x-www-form-urlencoded";
    let [in_query, in_body, token_in_query, in_target, in_path, in_te] = SECRETS;
    let (mut service, log) = Service::start_logging("secrets");
    let send = |head: &str, body: &str| {
        let length = body.len();
        let rest = format!("Host: h\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}");
        service.send(&format!("{head}\r\n{rest}"))
    };
    let posted = |uri: &str, body: &str| {
        send(&format!("POST {uri} HTTP/1.1\r\nContent-Type: {FORM}\r\nAuthorization: Basic {BASIC}"), body)
    };
    let grant = "grant_type=client_credentials&scope=read";
    let answer = posted("/token", grant);
    let (_, json) = answer.split_once("\r\n\r\n").unwrap();
    let token = serde_json::from_str::<Value>(json).unwrap()["access_token"].as_str().unwrap().to_owned();
    let status = |answer: String| answer.split(' ').nth(1).unwrap().to_owned();
    let bearer = format!("GET /api/read HTTP/1.1\r\nAuthorization: Bearer {token}");
    assert_eq!(status(send(&bearer, "")), "200");
    assert_eq!(status(posted(&format!("/token?client_secret={in_query}"), grant)), "400");
    assert_eq!(status(posted(&format!("/nowhere?client_secret={in_query}"), grant)), "404");
    assert_eq!(status(posted("/token", &format!("{grant}&client_secret={in_body}"))), "400");
    assert_eq!(status(posted("/introspect", &format!("token={token}"))), "400", "billing may not");
    assert_eq!(status(send(&format!("GET /api/read?access_token={token_in_query} HTTP/1.1"), "")), "401");
    assert_eq!(status(send(&format!("GET /api/read?access_token={token} HTTP/1.1"), "")), "401");
    assert_eq!(status(send(&format!("GET /health/live?access_token={token} HTTP/1.1"), "")), "204");
    assert_eq!(status(send(&format!("GET /api/read?access_token={in_target} HTTP/9.9"), "")), "400");

    let basic = format!("Basic {BASIC}");
    let over_http_2 = |method: &str, path: &str, fields: &[(&str, &str)], body: &str| {
        let pseudo = [(":method", method), (":scheme", "http"), (":authority", "h"), (":path", path)];
        send_over_http_2(&service, &[&pseudo, fields].concat(), body);
    };
    let credentials = [("authorization", &*basic), ("content-type", FORM)];
    over_http_2("POST", "/token", &credentials, grant);
    over_http_2("POST", "/token", &credentials, &format!("{grant}&client_secret={in_body}"));
    over_http_2("POST", &format!("/token?client_secret={in_query}"), &credentials, grant);
    over_http_2("GET", &format!("/api/read?access_token={token}"), &[], "");
    over_http_2("GET", "/api/read", &[("authorization", &format!("Bearer {token}"))], "");
    over_http_2("GET", &format!("/api/read?access_token={in_path} x"), &[], "");
    over_http_2("GET", "/api/read", &[("te", in_te)], "");
    assert_eq!(status(posted("/revoke", &format!("token={token}"))), "200");
    service.terminate();
    assert!(service.child.wait().unwrap().success());

    let log = fs::read_to_string(log).unwrap();
    for logged in
        ["path=\"/token\"", "path=\"/api/read\"", "refused a client", "answered a client", "admitted a request"]
    {
        assert!(log.contains(logged), "`{logged}` is not in {log}");
    }
    let parts = token.split('.').skip(1);
    for secret in SECRETS.into_iter().chain(parts).chain([BASIC, "correct+horse", "correct horse"]) {
        let lines: Vec<_> = log.lines().filter(|line| line.contains(secret)).collect();
        assert!(lines.is_empty(), "`{secret}` is in {} lines of the log, such as {}", lines.len(), lines[0]);
    }
}

#[test]
fn settings_of_the_documents_and_of_the_audience_parameter_take_effect() {
    let metadata = |service: &Service| service.json("/.well-known/oauth-authorization-server");
    let token = |service: &Service, form: &str| {
        service.send(&format!(
            "POST /token HTTP/1.1\r\nHost: h\r\nConnection: close\r\nAuthorization: Basic YmlsbGluZzpjb3JyZWN0K2hvcnNl\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
            form.len()
        ))
    };
    let stray = "grant_type=client_credentials&audience=https://stray.example";
    let service = Service::start("defaults", &[]);
    assert_eq!(metadata(&service)["response_types_supported"], serde_json::json!(["none"]));
    assert_eq!(metadata(&service).get("authorization_endpoint"), None);
    assert!(token(&service, stray).starts_with("HTTP/1.1 200 "), "it is ignored");

    let service = Service::start(
        "not-defaults",
        &[
            ("TCC_PATHS_AUTHORIZATION", "/authorize"),
            ("TCC_METADATA_RESPONSE_TYPES_SUPPORTED", ""),
            ("TCC_TOKENS_ACCEPT_AUDIENCE_PARAMETER", "true"),
        ],
    );
    assert_eq!(metadata(&service).get("response_types_supported"), None);
    let endpoint = metadata(&service)["authorization_endpoint"].as_str().unwrap().to_owned();
    assert_eq!(endpoint, format!("http://{}/authorize", service.address));
    let answer = service.get("/authorize?response_type=code");
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("unsupported_response_type"), "{answer}");
    assert!(token(&service, stray).starts_with("HTTP/1.1 400 "), "it is not its audience");
}
