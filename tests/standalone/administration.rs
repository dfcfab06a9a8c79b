//! `[administration]`, and the example `clients` with `--server` against it.

#![cfg(all(feature = "sqlite", feature = "remote"))]
#![allow(clippy::indexing_slicing)] // helpers of tests, which may

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::{GOOD, Service, file, refusal};

const AUDIENCE: &str = "https://tokens.example.test/clients";
const SCOPES: [&str; 6] = ["--scope", "clients:read", "--scope", "clients:write", "--scope", "clients:administrators"];

fn with_administration(settings: &str) -> String {
    GOOD.replace("[tokens]", &format!("[administration]\n{settings}\n\n[tokens]"))
}

/// The tool, at the store or at a running service.
struct Clients {
    place: Vec<String>,
    secret: String,
}

impl Clients {
    fn at_the_store(store: &str) -> Self {
        Self { place: vec!["--store".to_owned(), store.to_owned()], secret: String::new() }
    }

    fn over_http(service: &Service, administrator: &str, secret: &str) -> Self {
        let url = format!("http://{}/clients", service.address);
        let place = ["--server", &url, "--as", administrator, "--server-audience", AUDIENCE].map(str::to_owned);
        Self { place: place.to_vec(), secret: secret.to_owned() }
    }

    fn for_administrators(mut self) -> Self {
        self.place.push("--administrators".to_owned());
        self
    }

    fn output(&self, arguments: &[&str]) -> Output {
        let mut path = std::env::current_exe().unwrap();
        path.pop(); // the test
        path.pop(); // deps
        path.push("examples/clients");
        let mut command = Command::new(path);
        command.args(&self.place).args(arguments).env_remove("TCC_STORE").env("ADMINISTRATOR_SECRET", &self.secret);
        command.output().unwrap()
    }

    fn lines(&self, arguments: &[&str]) -> Vec<String> {
        let output = self.output(arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let lines = self.lines(&[arguments, &["--json"]].concat());
        assert_eq!(lines.len(), 1, "{lines:?}");
        serde_json::from_str(&lines[0]).unwrap()
    }

    fn refusal(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.output(arguments);
        assert!(output.stdout.is_empty(), "{arguments:?}");
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    }
}

/// A service with a store of this test only, and the first administrator.
fn service(test: &str) -> (Service, Clients, Clients) {
    service_with(test, "")
}

fn service_with(test: &str, settings: &str) -> (Service, Clients, Clients) {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let database = folder.join(format!("standalone-{test}.db"));
    for ending in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(folder.join(format!("standalone-{test}.db{ending}")));
    }
    let store = format!("sqlite://{}", database.display());
    let at_the_store = Clients::at_the_store(&store);
    let secret = at_the_store
        .lines(&[&["create", "root", "--audience", AUDIENCE, "--may-grant-everything"], &SCOPES[..]].concat());
    let config = file(test, &with_administration(&format!("audience = \"{AUDIENCE}\"\n{settings}")));
    let service = Service::start_with(&config, &[("TCC_STORE", &store)]);
    let root = Clients::over_http(&service, "root", &secret[0]);
    (service, at_the_store, root)
}

#[test]
fn the_tool_does_over_http_what_it_does_at_the_store() {
    let (service, at_the_store, root) = service("administration");
    let create = ["create", "reports/1", "--scope", "read", "--audience", "https://api.example.test/"];
    let (code, said) = root.refusal(&create);
    assert!(code == 5 && said.contains("--administrators") && said.contains("omit the id"), "{code}: {said}");
    let chooses = Clients::over_http(&service, "root", &root.secret).for_administrators();
    let secret = chooses.lines(&[&create[..], &["--name", "Reports", "--metadata", "team=a=b"]].concat());
    assert_eq!(secret.len(), 1, "the secret alone is on stdout: {secret:?}");
    let (code, said) = chooses.refusal(&create);
    assert!(code == 4 && said.contains("a client with the id `reports/1` exists"), "{code}: {said}");
    assert_eq!(root.refusal(&["show", "unknown"]).0, 3);

    let shown = at_the_store.json(&["show", "reports/1"]);
    assert_eq!((&shown["client_name"], &shown["metadata"]["team"]), (&"Reports".into(), &"a=b".into()), "{shown}");
    assert_eq!(root.json(&["show", "reports/1"])["scope"], "read");
    assert_eq!(root.lines(&["list"]), ["reports/1\tread", "root\tclients:read clients:write clients:administrators"]);
    assert_eq!(root.lines(&["list", "--limit", "1"]).len(), 1);

    root.lines(&["update", "reports/1", "--token-lifetime", "60", "--default-scope", "read"]);
    let shown = at_the_store.json(&["show", "reports/1"]);
    assert_eq!((&shown["token_lifetime"], &shown["default_scope"]), (&60.into(), &"read".into()), "{shown}");
    assert_eq!(shown["client_name"], "Reports", "the rest stays");
    let (code, said) = root.refusal(&["update", "reports/1", "--add-scope", "unknown"]);
    assert!(code == 5 && said.contains("`unknown`"), "{code}: {said}");

    let rotated = root.json(&["rotate-secret", "reports/1", "--keep", "0", "--label", "new"]);
    assert_eq!(rotated["label"], "new");
    let secrets = at_the_store.json(&["show", "reports/1"])["client_secrets"].clone();
    assert_eq!(secrets.as_array().unwrap().len(), 1, "{secrets}");
    root.lines(&["disable", "reports/1"]);
    assert_eq!(at_the_store.json(&["show", "reports/1"])["enabled"], false);
    root.lines(&["enable", "reports/1"]);
    root.lines(&["refresh-keys", "reports/1"]);
    root.lines(&["revoke-tokens", "reports/1"]);
    root.lines(&["delete", "reports/1"]);
    assert_eq!(at_the_store.refusal(&["show", "reports/1"]).0, 3);

    let (code, said) = root.refusal(&["list", "--with-hashes"]);
    assert!(code == 2 && said.contains("use --store"), "{code}: {said}");
    // A client of the configuration file cannot be taken: the service would not start again.
    assert_eq!(chooses.refusal(&["create", "billing", "--audience", "https://api.example.test/"]).0, 4);
    let wrong = Clients::over_http(&service, "root", "tcc_wrong");
    assert_ne!(wrong.refusal(&["list"]).0, 0);
}

#[test]
fn an_administrator_of_a_team_gives_only_what_it_may_grant() {
    let (service, at_the_store, root) = service("administration-team");
    let team = [
        "create",
        "team",
        "--audience",
        AUDIENCE,
        "--scope",
        "clients:read",
        "--scope",
        "clients:write",
        "--may-grant-scope",
        "read",
        "--may-grant-audience",
        "https://api.example.test/",
    ];
    // Without the scope for administrators, the token of the first administrator creates no other one.
    assert_eq!(root.refusal(&team).0, 5);
    let secret = root.for_administrators().lines(&team);
    let team = Clients::over_http(&service, "team", &secret[0]);
    assert_eq!(team.refusal(&["create", "reports", "--scope", "read", "--audience", "https://api.example.test/"]).0, 5);
    let created = team.json(&["create", "--scope", "read", "--audience", "https://api.example.test/"]);
    let id = created["client_id"].as_str().unwrap();
    assert_eq!(at_the_store.json(&["show", id])["scope"], "read", "{created}");
    assert_eq!(at_the_store.refusal(&["create"]).0, 2, "the tool at the store generates no id");
    team.lines(&["create", "--scope", "read", "--audience", "https://api.example.test/"]);
    let (code, said) = team.refusal(&["create", "--scope", "read", "--audience", "https://other.example.test/"]);
    assert!(code == 5 && said.contains("may_grant"), "{code}: {said}");
    assert_eq!(team.refusal(&["rotate-secret", "root"]).0, 5);
    assert_eq!(team.refusal(&["delete", "team"]).0, 5);
    // The tool at the store can do everything.
    at_the_store.lines(&["delete", "root"]);
}

#[test]
fn a_private_url_of_keys_can_be_registered_if_the_service_may_fetch_from_it() {
    for (urls, expected) in [("public", "400"), ("private", "201")] {
        let settings = format!("\n[assertions]\nclient_key_urls = \"{urls}\"");
        let (service, _, root) = service_with(&format!("administration-{urls}"), &settings);
        let send = |path: &str, authorization: &str, content_type: &str, body: &str| {
            service.send(&format!(
                "POST {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nAuthorization: {authorization}\r\n\
                 Content-Type: {content_type}\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ))
        };
        let pair = STANDARD.encode(format!("root:{}", root.secret));
        let form = "grant_type=client_credentials&scope=clients:write";
        let answer = send("/token", &format!("Basic {pair}"), "application/x-www-form-urlencoded", form);
        let (_, token) = answer.split_once("\r\n\r\n").unwrap();
        let token: Value = serde_json::from_str(token).unwrap_or_else(|_| panic!("{answer}"));
        let token = token["access_token"].as_str().unwrap();
        let body = r#"{"audiences":["https://api.example.test/"],"jwks_uri":"https://127.0.0.1/jwks"}"#;
        let answer = send("/clients", &format!("Bearer {token}"), "application/json", body);
        assert_eq!(answer.split(' ').nth(1), Some(expected), "{urls}: {answer}");
        assert_eq!(answer.contains("address of a private network"), urls == "public", "{answer}");
    }
}

#[test]
fn an_invalid_administration_is_rejected_with_its_setting() {
    for (settings, says) in [
        ("path = \"/clients\"", "FILE:7: has no effect without `audience`"),
        ("audience = \"clients\"", "FILE:7: invalid audience `clients`"),
        ("audience = \"https://api.example.test/\"", "must not be a resource"),
        ("audience = \"https://a.test/c\"\npath = \"clients\"", "FILE:8: invalid path `clients`"),
        ("audience = \"https://a.test/c\"\nscope = \"x\"", "unknown field `scope`"),
    ] {
        let said = refusal("administration-invalid", &with_administration(settings), &[("TCC_STORE", "memory:")]);
        assert!(said.contains(says), "{settings}: {said}");
    }
}
