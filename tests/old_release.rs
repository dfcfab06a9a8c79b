//! Servers of f06e5ac and of this release on one Postgres, during an update and after it was undone.
//!
//! `scripts/old-release` builds f06e5ac, and runs this with the folder of its examples in `OLD_RELEASE`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests, which may

mod common;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::servers::Postgres;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use tempfile::TempDir;

/// How long a change at one server may take to reach the others. Longer than the second that a machine at rest needs.
const PATIENCE: Duration = Duration::from_secs(30);

/// Every setting of a client, as f06e5ac imports it.
const MOST: &str = include_str!("../src/registration/record/first_release/most.json");

/// The settings of both releases, except for the scopes that exist.
const SETTINGS: &str = r#"listen = "127.0.0.1:0"
issuer = "http://127.0.0.1:3000"

[keys]
sign = "KEY"

[tokens]
SCOPES

[[resources]]
audience = "https://api.example.test/"

[[routes]]
path = "/api/read"
scope = "read"
"#;

/// The examples of a release.
struct Release {
    programs: PathBuf,
    /// The setting for the scopes that exist.
    scopes: &'static str,
}

impl Release {
    fn old() -> Self {
        let programs = std::env::var_os("OLD_RELEASE").expect("run scripts/old-release, which builds f06e5ac first");
        Self { programs: programs.into(), scopes: r#"scopes = ["read", "write"]"# }
    }

    fn this() -> Self {
        let mut programs = std::env::current_exe().unwrap();
        programs.pop(); // the test
        programs.pop(); // deps
        Self { programs: programs.join("examples"), scopes: r#"scope = "read write""# }
    }

    fn program(&self, name: &str) -> Command {
        let path = self.programs.join(name);
        assert!(path.exists(), "{} is not built", path.display());
        Command::new(path)
    }

    /// Runs the tool `clients` and returns its output, or the error.
    fn clients(&self, store: &str, arguments: &[&str]) -> Result<String, String> {
        let run = self.program("clients").args(arguments).env("TCC_STORE", store).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim_end().to_owned();
        if run.status.success() { Ok(text(run.stdout)) } else { Err(text(run.stderr)) }
    }

    fn serve(&self, store: &str, folder: &Path) -> Server {
        let settings = folder.join("standalone.toml");
        let key = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keys/p256.pem");
        fs::write(&settings, SETTINGS.replace("KEY", key).replace("SCOPES", self.scopes)).unwrap();
        let mut command = self.program("standalone");
        command.arg("--config").arg(&settings).env("TCC_STORE", store).env("RUST_LOG", "off");
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim_end().strip_prefix("listening on http://").unwrap().parse().unwrap();
        Server { child, address }
    }
}

/// A process, which ends when this is dropped.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    async fn send(&self, request: http::request::Builder, body: String) -> (StatusCode, Bytes) {
        let http = Client::builder(TokioExecutor::new()).build_http();
        let answer = http.request(request.body(Full::<Bytes>::from(body)).unwrap()).await.unwrap();
        let status = answer.status();
        (status, answer.into_body().collect().await.unwrap().to_bytes())
    }

    async fn post(&self, path: &str, (id, secret): (&str, &str), form: String) -> (StatusCode, Bytes) {
        let request = Request::post(format!("http://{}{path}", self.address))
            .header(AUTHORIZATION, format!("Basic {}", STANDARD.encode(format!("{id}:{secret}"))))
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.send(request, form).await
    }

    async fn ask(&self, client: (&str, &str)) -> StatusCode {
        self.post("/token", client, "grant_type=client_credentials&scope=read".to_owned()).await.0
    }

    async fn token(&self, client: (&str, &str)) -> String {
        let (status, body) = self.post("/token", client, "grant_type=client_credentials&scope=read".to_owned()).await;
        assert_eq!(status, StatusCode::OK, "{body:?}");
        serde_json::from_slice::<Value>(&body).unwrap()["access_token"].as_str().unwrap().to_owned()
    }

    async fn read(&self, token: &str) -> StatusCode {
        let request = Request::get(format!("http://{}/api/read", self.address));
        self.send(request.header(AUTHORIZATION, format!("Bearer {token}")), String::new()).await.0
    }

    /// Waits until the client gets this status.
    async fn gives(&self, client: (&str, &str), expected: StatusCode) {
        let begun = Instant::now();
        loop {
            let status = self.ask(client).await;
            if status == expected {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "`{}` gets {status} and not {expected}", client.0);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Direct access to the table of clients, to write what a later release would write.
struct Table(PgConnection);

impl Table {
    async fn record(&mut self, id: &str) -> String {
        sqlx::query_scalar("SELECT record FROM tcc_clients WHERE id = $1")
            .bind(id)
            .fetch_one(&mut self.0)
            .await
            .unwrap()
    }

    /// Adds members to the record of a client, like a later release would.
    async fn add(&mut self, id: &str, members: Value) {
        let mut record: Value = serde_json::from_str(&self.record(id).await).unwrap();
        let Value::Object(members) = members else { panic!("not an object") };
        record.as_object_mut().unwrap().extend(members);
        let update = "UPDATE tcc_clients SET record = $2 WHERE id = $1";
        sqlx::query(update).bind(id).bind(record.to_string()).execute(&mut self.0).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_of_f06e5ac_and_of_this_release_share_one_postgres_also_after_a_roll_back() {
    let (old, this, postgres, folder) = (Release::old(), Release::this(), Postgres::start(), TempDir::new().unwrap());
    let url = postgres.url();
    let create = |release: &Release, id: &str| {
        let create = ["create", id, "--scope", "read", "--audience", "https://api.example.test/"];
        release.clients(&url, &create).unwrap()
    };

    // The tables are those of f06e5ac, and so are the first clients.
    let secrets = [create(&old, "billing"), create(&old, "listed"), create(&old, "noted")];
    let [billing, listed, noted] = [0, 1, 2].map(|at| (["billing", "listed", "noted"][at], secrets[at].as_str()));
    let most = folder.path().join("most.json");
    fs::write(&most, MOST.replace(r#""client_id":"billing""#, r#""client_id":"most""#)).unwrap();
    old.clients(&url, &["import", most.to_str().unwrap()]).unwrap();
    let mut table = Table(PgConnection::connect(&url).await.unwrap());
    let golden = table.record("most").await;
    assert_eq!(
        golden.replace(r#""client_id":"most""#, r#""client_id":"billing""#),
        MOST.trim_end(),
        "the golden record"
    );

    // The update: one server of each release. Each accepts the tokens of the other.
    let (former, server) = (old.serve(&url, folder.path()), this.serve(&url, folder.path()));
    for (issuer, verifier) in [(&former, &server), (&server, &former)] {
        assert_eq!(verifier.read(&issuer.token(billing).await).await, StatusCode::OK);
    }
    // A client that either release creates or changes works at both, and its record stays one that f06e5ac can read.
    let secret = create(&this, "reports");
    former.gives(("reports", &secret), StatusCode::OK).await;
    this.clients(&url, &["update", "most", "--add-scope", "later"]).unwrap();
    assert_eq!(table.record("most").await, golden.replace("read write", "read write later"));
    old.clients(&url, &["show", "most"]).unwrap();
    for release in [&this, &old] {
        let secret = release.clients(&url, &["rotate-secret", "billing"]).unwrap();
        for server in [&former, &server] {
            server.gives(("billing", &secret), StatusCode::OK).await;
        }
    }
    let token = server.token(billing).await;
    assert_eq!(former.post("/revoke", billing, format!("token={token}")).await.0, StatusCode::OK);
    let begun = Instant::now();
    while server.read(&token).await == StatusCode::OK {
        assert!(begun.elapsed() < PATIENCE, "a token revoked at the other release is accepted");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    // A later release adds members to two clients. What must be understood stops its client at both releases. What need
    // not be understood stops it at f06e5ac only. The other clients are served.
    table.add("listed", json!({ "version": 2, "must_understand": ["networks"], "networks": ["10.0.0.0/8"] })).await;
    table.add("noted", json!({ "version": 2, "note": { "team": "b" } })).await;
    drop((former, server)); // with their caches
    let (former, server) = (old.serve(&url, folder.path()), this.serve(&url, folder.path()));
    for server in [&former, &server] {
        assert_eq!(server.ask(listed).await, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(server.ask(billing).await, StatusCode::OK);
    }
    assert_eq!(former.ask(noted).await, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(server.ask(noted).await, StatusCode::OK);
    let error = this.clients(&url, &["show", "listed"]).unwrap_err();
    assert!(error.contains("this release does not know the member `networks`"), "{error}");
    old.clients(&url, &["rotate-secret", "noted"]).unwrap_err();
    this.clients(&url, &["update", "noted", "--add-scope", "write"]).unwrap();
    let kept: Value = serde_json::from_str(&table.record("noted").await).unwrap();
    assert_eq!(
        (&kept["note"], &kept["version"], &kept["scope"]),
        (&json!({ "team": "b" }), &json!(2), &json!("read write"))
    );

    // The update is undone, and then done again.
    drop(server);
    let another = old.serve(&url, folder.path());
    for former in [&former, &another] {
        former.gives(("reports", &secret), StatusCode::OK).await;
        assert_eq!(former.ask(billing).await, StatusCode::OK);
        assert_eq!(former.ask(noted).await, StatusCode::SERVICE_UNAVAILABLE);
    }
    old.clients(&url, &["disable", "reports"]).unwrap();
    drop((former, another));
    let server = this.serve(&url, folder.path());
    server.gives(("reports", &secret), StatusCode::UNAUTHORIZED).await;
    assert_eq!(server.ask(noted).await, StatusCode::OK);
    assert_eq!(server.ask(listed).await, StatusCode::SERVICE_UNAVAILABLE);
}
