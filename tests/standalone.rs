//! The example `standalone`: what it says about a file that is wrong, and how it ends.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)] // helpers of tests, which may

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

/// A file that is right, for tests that break it in one place.
const GOOD: &str = r#"listen = "127.0.0.1:0"

[keys]
generate = "ES256"

[tokens]
scopes = ["read"]

[[resources]]
audience = "https://api.example.test/"

[[clients]]
id = "billing"
secret_env = "BILLING_SECRET"
scopes = ["read"]

[[routes]]
path = "/api/read"
scope = "read"
"#;

/// Random enough, and of no use anywhere else.
const HASH: &str = "$sha256$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// The example, built by `cargo test` beside this test.
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

/// A file of this test alone.
fn file(test: &str, content: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("standalone-{test}.toml"));
    fs::write(&path, content).unwrap();
    path
}

/// What is said about a file, without the folder that it is in.
fn refusal(test: &str, content: &str, environment: &[(&str, &str)]) -> String {
    let path = file(test, content);
    let output = standalone().arg("--config").arg(&path).envs(environment.iter().copied()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "it took {content}");
    assert!(output.stdout.is_empty(), "it listened before it was sure");
    said.replace(&path.display().to_string(), "FILE").trim_end().to_owned()
}

/// A running service, which is gone with the test.
struct Service {
    child: Child,
    stdout: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Service {
    /// The good file, with a few settings from the environment.
    fn start(test: &str, environment: &[(&str, &str)]) -> Self {
        Self::start_with(&file(test, GOOD), environment)
    }

    fn start_with(config: &Path, environment: &[(&str, &str)]) -> Self {
        let mut command = standalone();
        command.arg("--config").arg(config).envs(environment.iter().copied());
        command.env("RUST_LOG", "off").stderr(Stdio::inherit());
        let mut child = command.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let address = line.trim_end().strip_prefix("listening on http://").expect("an address").parse().unwrap();
        Self { child, stdout, address }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// One request on a connection of its own; the whole answer.
    fn send(&self, request: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
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

    /// A request for a token, of which the service waits for the last byte of the body.
    fn begin_token_request(&self) -> TcpStream {
        let mut stream = self.connect();
        // `billing:correct+horse`
        let head = "POST /token HTTP/1.1\r\nHost: h\r\nAuthorization: Basic YmlsbGluZzpjb3JyZWN0K2hvcnNl\r\n\
            Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 29\r\nExpect: 100-continue\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        let mut interim = [0; 25];
        stream.read_exact(&mut interim).unwrap();
        assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n", "the service reads the body now");
        stream.write_all(b"grant_type=client_credential").unwrap();
        stream
    }

    fn terminate(&mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("sh").args(["-c", "kill -TERM $0", &pid]).status().unwrap().success());
        assert_eq!(self.line(), "draining");
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
fn a_bad_file_is_refused_with_line_and_mend() {
    for (name, right, wrong, line, mend) in [
        ("syntax", "[keys]", "[keys", 3, "]"),
        ("unknown-key", "listen =", "lisen =", 1, "unknown field `lisen`, expected one of `listen`"),
        ("unknown-table", "[keys]", "[kees]", 3, "expected one of `listen`"),
        ("address", "127.0.0.1:0", "localhost:0", 1, "such as 127.0.0.1:3000"),
        ("issuer", "\n\n[keys]", "\nissuer = \"http://auth.example.test\"\n[keys]", 2, "loopback"),
        ("public-url", "\n\n[keys]", "\npublic_url = \"auth\"\n[keys]", 2, "such as https://"),
        ("path", "[keys]", "[paths]\ntoken = \"token\"\n[keys]", 4, "must begin with a slash"),
        ("path-twice", "[keys]", "[paths]\ntoken = \"/t\"\njwks = \"/t\"\n[keys]", 3, "a path of its own"),
        ("limit", "[keys]", "[limits]\nbody_bytes = -1\n[keys]", 4, "integer `-1`"),
        ("no-connections", "[keys]", "[limits]\nconnections = 0\n[keys]", 4, "nonzero"),
        ("no-key", "generate = \"ES256\"", "", 3, "generate = \"ES256\""),
        ("two-keys", "generate", "sign = \"k.pem\"\ngenerate", 4, "keep one of them"),
        ("algorithm", "ES256", "ES255", 4, "none of the algorithms ES256, ES384"),
        ("key-file", "generate = \"ES256\"", "sign = \"nothing-here.pem\"", 4, "nothing-here.pem"),
        ("trusted-key", "generate = \"ES256\"", "generate = \"ES256\"\ntrust = [\"nothing.pem\"]", 5, "public key"),
        (
            "lifetime",
            "scopes = [\"read\"]\n\n[[res",
            "scopes = [\"read\"]\nlifetime_seconds = 0\n\n[[res",
            8,
            "365 days",
        ),
        ("scope", "scopes = [\"read\"]\n\n[[res", "scopes = [\"re ad\"]\n\n[[res", 7, "visible ASCII characters"),
        ("audience", "https://api.example.test/", "api.example.test", 10, "absolute URI"),
        ("no-secret", "secret_env = \"BILLING_SECRET\"", "", 12, "give it one of secret_hash, secret_env"),
        ("two-secrets", "secret_env", "secret_file = \"s\"\nsecret_env", 12, "keep one of secret_hash, secret_env"),
        ("no-variable", "BILLING_SECRET", "NOBODY_SETS_THIS", 12, "NOBODY_SETS_THIS is not set"),
        ("no-file", "secret_env", "secret_file", 12, "put the secret there"),
        ("plain-hash", "secret_env = \"BILLING_SECRET\"", "secret_hash = \"hunter2\"", 12, "$sha256$"),
        ("method", "secret_env", "method = \"basic\"\nsecret_env", 14, "client_secret_post"),
        ("client-id", "\"billing\"", "\"é\"", 12, "client id"),
        ("unknown-scope", "scopes = [\"read\"]\n\n[[rou", "scopes = [\"write\"]\n\n[[rou", 12, "`write`"),
        ("default-scope", "secret_env", "default_scopes = [\"x\"]\nsecret_env", 12, "`x`"),
        ("route-path", "/api/read", "/api/{id}", 17, "write one like /api/read"),
        ("route-taken", "/api/read", "/health/live", 17, "a path of its own"),
        ("route-scope", "scope = \"read\"\n", "scope = \"write\"\n", 17, "add it to tokens.scopes"),
        ("no-audience", "[[resources]]\naudience = \"https://api.example.test/\"\n", "", 10, "no audience"),
    ] {
        let content = GOOD.replacen(right, wrong, 1);
        assert_ne!(content, GOOD, "{name} breaks nothing");
        let said = refusal(name, &content, &[]);
        assert!(said.starts_with(&format!("FILE:{line}: ")), "{name}: not line {line}: {said}");
        assert!(said.contains(mend), "{name}: `{mend}` is not in: {said}");
        assert!(!said.contains("hunter2"), "a secret is shown: {said}");
    }
}

#[test]
fn a_store_that_is_none_or_that_is_away_is_refused_without_its_password() {
    for (url, why) in [
        ("mysql://u:hunter2@h/d", "`mysql:` names no store"),
        ("nonsense", "a store is one of"),
        ("redis://:hunter2@127.0.0.1:1/", "refused"),
        ("postgres://u:hunter2@127.0.0.1:1/d", "refused"),
        ("file:nowhere.toml", "nowhere.toml: cannot read it"),
    ] {
        let said = refusal("store", GOOD, &[("TCC_STORE", url)]);
        assert!(said.starts_with("TCC_STORE: ") && said.contains(why) && !said.contains("hunter2"), "{said}");
    }
}

#[test]
fn what_was_revoked_stays_so_when_the_service_starts_again() {
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

#[test]
fn a_client_registered_twice_and_a_second_default_are_found_where_they_are() {
    let client = format!("\n[[clients]]\nid = \"billing\"\nsecret_hash = \"{HASH}\"\n");
    let said = refusal("client-twice", &(GOOD.to_owned() + &client), &[]);
    assert!(said.starts_with("FILE:21: ") && said.contains("an id of its own"), "{said}");

    let resource = "default = true\n\n[[resources]]\naudience = \"https://b.example\"\ndefault = true\n\n[[clients]]";
    let said = refusal("second-default", &GOOD.replacen("\n[[clients]]", resource, 1), &[]);
    assert!(said.starts_with("FILE:13: ") && said.contains("mark one only"), "{said}");
}

#[test]
fn a_bad_variable_is_refused_by_its_name() {
    for (variable, value, mend) in [
        ("TCC_LISTEN", "3000", "such as 127.0.0.1:3000"),
        ("TCC_LISTNE", "127.0.0.1:0", "there is no such setting"),
        ("TCC_LIMITS_BODY_BYTES", "much", "a whole number"),
        ("TCC_TOKENS_SCOPES", "read \"", "visible ASCII"),
        ("TCC_ISSUER", "auth.example.test", "https://"),
        ("TCC_TOKENS_LIFETIME_SECONDS", "0", "365 days"),
        ("TCC_KEYS_GENERATE", "", "there is no key"),
    ] {
        let said = refusal(&variable.to_lowercase(), GOOD, &[(variable, value)]);
        // The last one goes back to the file, since an empty variable is as if it were left out.
        assert!(said.starts_with(&format!("{variable}: ")) || value.is_empty(), "{said}");
        assert!(said.contains(mend), "{variable}: {said}");
    }
}

#[test]
fn without_a_file_it_says_how_to_call_it() {
    let output = standalone().output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("--config FILE.toml"));
    let output = standalone().args(["--config", "nothing-here.toml"]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("examples/standalone.toml"));
}

#[test]
fn the_file_that_comes_with_it_is_right_and_the_environment_has_the_last_word() {
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
fn keys_come_from_files_whose_paths_begin_at_the_file() {
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
fn limits_hold() {
    let service = Service::start("limits", &[("TCC_LIMITS_BODY_BYTES", "28"), ("TCC_LIMITS_BODY_SECONDS", "1")]);
    // One byte too many is announced, and a byte of another body does not come within a second.
    let long = "POST /token HTTP/1.1\r\nHost: h\r\nContent-Type: application/x-www-form-urlencoded\r\n\
        Connection: close\r\nContent-Length: 29\r\n\r\ngrant_type=client_credentials";
    assert!(service.send(long).starts_with("HTTP/1.1 413 "));
    let slow = long.replace("Length: 29", "Length: 28").replace("credentials", "");
    assert!(service.send(&slow).starts_with("HTTP/1.1 408 "));
}

#[test]
fn a_connection_on_which_nobody_asks_is_closed() {
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
    assert!(service.get("/api/read").starts_with("HTTP/1.1 401 "), "it still serves those who come");
}

#[test]
fn a_route_for_a_forward_auth_proxy_refuses_grpc_by_the_http_status() {
    let refusal = |route: &str| {
        let config = GOOD.replace("scope = \"read\"\n", route);
        let service = Service::start_with(&file("grpc", &config), &[]);
        service.send(
            "POST /api/read HTTP/1.1\r\nHost: h\r\nContent-Type: application/grpc-web\r\nContent-Length: 0\r\n\
             Connection: close\r\n\r\n",
        )
    };
    let as_grpc = refusal("scope = \"read\"\n");
    assert!(as_grpc.starts_with("HTTP/1.1 200 ") && as_grpc.contains("grpc-status: 16"), "{as_grpc}");
    let as_http = refusal("scope = \"read\"\ngrpc_refusals = false\n");
    assert!(as_http.starts_with("HTTP/1.1 401 ") && !as_http.contains("grpc-status"), "{as_http}");
}

#[test]
fn http_2_without_tls_is_on_the_same_port() {
    let service = Service::start("h2c", &[]);
    let mut stream = service.connect();
    // RFC 9113 §3.4: the preface of the client, with empty SETTINGS; the server's SETTINGS come first of all.
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    let mut frame = [0; 9];
    stream.read_exact(&mut frame).unwrap();
    assert_eq!(frame[3], 4, "a SETTINGS frame: {frame:?}");
}

#[test]
fn sigterm_lets_a_request_under_way_end_and_takes_no_other() {
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
fn draining_has_an_end() {
    let mut service = Service::start("bounded", &[("TCC_LIMITS_DRAIN_SECONDS", "0")]);
    let _request = service.begin_token_request();
    service.terminate();
    assert_eq!(service.line(), "cut off what was still under way");
    assert!(service.child.wait().unwrap().success());
}
