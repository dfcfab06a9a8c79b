//! The example `clients`, run as people and scripts run it, against each durable store.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests, which may

mod common;

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use common::forge::Draft;
use common::servers::{Postgres, Redis};
use p256::ecdsa::SigningKey;
use p256::pkcs8::DecodePrivateKey as _;
use serde_json::Value;
use sqlx::Connection as _;
use tempfile::TempDir;
use tower_client_credentials::ClientSecret;
use tower_client_credentials::secret::StoredSecret;

/// The tool, against one store.
struct Tool {
    url: String,
}

impl Tool {
    /// Returns the output and the exit code.
    fn output(&self, arguments: &[&str], input: &str) -> Output {
        let mut path = std::env::current_exe().unwrap();
        path.pop(); // the test
        path.pop(); // deps
        path.push("examples/clients");
        assert!(path.exists(), "{} is not built: cargo build --all-features --example clients", path.display());
        let mut command = Command::new(path);
        command.env("TCC_STORE", &self.url).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // The process may have ended already if it does not read its input.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }

    /// Returns the lines on stdout of a command that must succeed.
    fn lines(&self, arguments: &[&str]) -> Vec<String> {
        let output = self.output(arguments, "");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let lines = self.lines(&[arguments, &["--json"]].concat());
        assert_eq!(lines.len(), 1, "{lines:?}");
        serde_json::from_str(&lines[0]).unwrap()
    }

    /// Returns the code and the text of a command that must fail.
    fn refusal(&self, arguments: &[&str], input: &str) -> (i32, String) {
        let output = self.output(arguments, input);
        assert!(output.stdout.is_empty(), "{arguments:?}");
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    }

    /// Returns the stored form of a client's secret with this label, as `import` accepts it.
    fn kept(&self, id: &str, label: &str) -> StoredSecret {
        let record = self.json(&["show", id, "--with-hashes"]);
        let secrets = record["client_secrets"].as_array().unwrap();
        let secret = secrets.iter().find(|secret| secret["label"] == label);
        secret.unwrap()["hash"].as_str().unwrap().parse().unwrap()
    }
}

/// The whole life of a client, and the output that scripts rely on.
fn it_does_its_work(url: String) {
    let tool = Tool { url };
    let secret = tool.lines(&["create", "billing", "--scope", "read", "--scope", "write", "--audience", API]);
    let [secret] = secret.as_slice() else { panic!("the secret alone is on stdout: {secret:?}") };
    assert_eq!(tool.kept("billing", "1"), ClientSecret::new(secret.as_str()).unwrap().to_stored().unwrap());

    let (code, said) = tool.refusal(&["create", "billing"], "");
    assert!(code == 4 && said.contains("client `billing` already exists; choose another id"), "{code}: {said}");
    assert_eq!(tool.refusal(&["show", "absent"], "").0, 3);
    assert_eq!(tool.refusal(&["create", "b", "--audience", "api"], "").0, 2);
    assert_eq!(tool.refusal(&["create", "b", "--default-scope", "other"], "").0, 5);

    let shown = tool.lines(&["show", "billing"]).join("\n");
    assert!(shown.contains("read write") && !shown.contains(secret.as_str()) && !shown.contains("$sha256$"), "{shown}");

    let rotated = tool.json(&["rotate-secret", "billing", "--keep", "3600"]);
    assert_eq!(rotated["label"], "2");
    let new = ClientSecret::new(rotated["client_secret"].as_str().unwrap()).unwrap();
    assert_eq!(tool.kept("billing", "2"), new.to_stored().unwrap());
    let record = tool.json(&["show", "billing"]);
    let ends: Vec<_> = record["client_secrets"].as_array().unwrap().iter().map(|s| s["expires_at"].is_u64()).collect();
    assert_eq!(ends, [true, false], "{record}");
    tool.json(&["rotate-secret", "billing", "--keep", "0", "--label", "third"]);
    tool.json(&["rotate-secret", "billing", "--keep", "0"]);
    let record = tool.json(&["show", "billing"]);
    let labels: Vec<_> = record["client_secrets"].as_array().unwrap().iter().map(|s| s["label"].clone()).collect();
    assert_eq!(labels, ["1"], "without a remaining time, the old secrets are removed");

    updates(&tool);
    credentials(&tool);
    doctor(&tool);
    audience_report(&tool);
    expired_secrets(&tool);
    useless_clients(&tool);
    let disabled = tool.output(&["disable", "billing"], "");
    let said = String::from_utf8(disabled.stderr).unwrap();
    assert!(disabled.status.success() && said.contains("client `billing` is disabled\n"), "{said}");
    assert!(said.contains("that follow the revocations of this store") && said.contains("until they expire"), "{said}");
    assert!(said.contains("remove them from its list of keys"), "{said}");
    assert_eq!(tool.json(&["disable", "billing"])["done"], "disabled");
    assert_eq!(tool.json(&["show", "billing"])["enabled"], false);
    assert_eq!(tool.lines(&["list"]), ["billing\tread write\tdisabled"]);
    tool.lines(&["enable", "billing"]);
    tool.lines(&["revoke-tokens", "billing"]);
    assert_eq!(tool.refusal(&["revoke-tokens", "absent"], "").0, 3);

    let records: String = (0..2_500).map(|n| entry(&format!("c{n:04}")) + "\n").collect();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("clients.jsonl");
    fs::write(&file, &records).unwrap();
    let imported = tool.json(&["import", file.to_str().unwrap()]);
    assert_eq!((&imported["created"], &imported["passed_over"]), (&2_500.into(), &0.into()));
    let again = tool.output(&["import", "-", "--json"], &(records + &entry("late") + "\n\n"));
    assert_eq!(String::from_utf8(again.stdout).unwrap().trim_end(), r#"{"created":1,"passed_over":2500}"#);
    assert_eq!(tool.lines(&["list"]).len(), 2_502);
    assert_eq!(tool.lines(&["list", "--after", "c2498", "--limit", "1"]), ["c2499\t"]);
    let exported = tool.lines(&["list", "--json", "--with-hashes", "--after", "c2499"]).join("\n");
    assert!(exported.contains(HASH) && exported.contains(r#""client_id":"late""#), "{exported}");

    let broken = format!("{}\n{{\"client_id\":\"x\",\"client_secrets\":\"hunter2\"}}\n", entry("new"));
    for arguments in [&["import", "-"][..], &["import", "-", "--dry-run"]] {
        let (code, said) = tool.refusal(arguments, &format!("{broken}{broken}"));
        assert!(code == 5 && said.contains("-:2: client_secrets: ") && !said.contains("hunter2"), "{code}: {said}");
        assert!(said.contains("-:4: ") && said.contains("2 invalid lines; 0 clients were added"), "every line: {said}");
    }
    let dry = tool.output(&["import", "-", "--dry-run", "--json"], &format!("{}\n", entry("dry")));
    assert_eq!(String::from_utf8(dry.stdout).unwrap().trim_end(), r#"{"valid":1}"#);
    let (code, said) = tool.refusal(&["show", "dry"], "");
    assert!(code == 3 && said.contains("client `dry` not found"), "{code}: {said}");
    messages(&tool);

    tool.lines(&["delete", "billing"]);
    assert_eq!(tool.refusal(&["delete", "billing"], "").0, 3);
}

/// Messages say what to do with this tool.
fn messages(tool: &Tool) {
    let (code, said) = tool.refusal(&["create", "two", "--scope", "a b"], "");
    assert!(code == 2 && said.contains("repeat the option for each scope"), "{code}: {said}");
    let (code, said) = tool.refusal(&["create", "two", "--default-scope", "a"], "");
    assert!(code == 5 && said.contains("--scope") && !said.contains(".scope("), "{code}: {said}");
    let (code, said) = tool.refusal(&["rotate-secret", "late", "--keep", "tomorrow"], "");
    assert!(code == 2 && said.contains("24h"), "{code}: {said}");
    tool.json(&["rotate-secret", "late", "--keep", "90m"]);
    let shown = tool.lines(&["show", "late"]).join("\n");
    assert!(shown.contains("\"expires_at\":\"20") && shown.contains("Z\""), "{shown}");
    let output = tool.output(&["keys", "status"], "");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("the key-encryption key of the token service") && !said.contains("openssl"), "{said}");
    assert!(tool.lines(&["--version"])[0].starts_with("clients "));
    // One token: what the store tells its followers.
    let (id, jti) = ("late", "Jw5vS1qk0Zt8mYc3xRb7uL");
    assert_eq!(tool.json(&["revoke-token", id, jti])["client_id"], id);
}

const ENCRYPTION_KEYS: [&str; 2] =
    ["AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=", "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8="];

/// The credentials other than the secrets that a client sends.
fn credentials(tool: &Tool) {
    let folder = TempDir::new().unwrap();
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let keys = ["one", "other"].map(|name| file(name, ENCRYPTION_KEYS[usize::from(name == "other")]));
    let jwks = file("jwks", include_str!("clients/keys/svc-key.jwks.json"));
    let listed = || tool.lines(&["credentials", "list", "billing"]).join("; ");
    let before = listed();

    tool.lines(&["credentials", "add-keys", "billing", "--jwks", &jwks, "--label", "key"]);
    tool.lines(&["credentials", "add-keys", "billing", "--jwks-uri", "https://billing.example/keys", "--label", "url"]);
    let with_key = ["--encryption-key-file", &keys[0]];
    let made = tool.json(&[&["credentials", "add-hmac", "billing", "--label", "hmac"], &with_key[..]].concat());
    let secret = made["client_secret"].as_str().unwrap();
    assert!(made["label"] == "hmac" && secret.len() >= 64, "{made}");
    assert_eq!(listed(), format!("{before}; key\tprivate_key_jwt; url\tprivate_key_jwt; hmac\tclient_secret_jwt"));

    for label in ["second", "third", "fourth"] {
        tool.json(&[&["credentials", "add-hmac", "billing", "--label", label], &with_key[..]].concat());
    }
    let (code, said) = tool.refusal(&[&["credentials", "add-hmac", "billing"], &with_key[..]].concat(), "");
    assert!(
        code == 5 && said.contains("it has 5 credentials for `client_secret_jwt`, and only 4 are tried"),
        "{code}: {said}"
    );
    for label in ["second", "third", "fourth"] {
        tool.lines(&["credentials", "remove", "billing", label]);
    }

    // The secret is in the store only under the key, and not even its ciphertext is shown without being asked for.
    let with_hashes = tool.lines(&["show", "billing", "--with-hashes"]).join("\n");
    let shown = tool.lines(&["show", "billing"]).join("\n");
    assert!(with_hashes.contains("encrypted_secret") && !with_hashes.contains(secret), "{with_hashes}");
    assert!(!shown.contains("encrypted_secret") && shown.contains("encrypted_by"), "{shown}");

    let by = || tool.json(&["show", "billing"])["credentials"][2]["encrypted_by"].clone();
    let first = by();
    let other_key = ["--encryption-key-file", &keys[1]];
    let (code, said) = tool.refusal(&[&["credentials", "reseal"], &other_key[..]].concat(), "");
    assert!(code == 5 && said.contains("--previous-encryption-key-file") && by() == first, "{code}: {said}");
    let both = ["--previous-encryption-key-file", &keys[0]];
    let resealed = tool.json(&[&["credentials", "reseal"], &other_key[..], &both[..]].concat());
    assert!(resealed["resealed"] == 1 && by() != first, "{resealed}");

    let (code, said) = tool.refusal(&["credentials", "add-hmac", "billing", "--encryption-key-env", "NO_SUCH"], "");
    assert!(code == 2 && said.contains("NO_SUCH"), "{code}: {said}");
    let short = file("short", "q8Zr2mVx7Lk4Tc1Hb9Yd6Ns3Wf5Gj0Pa-_uEoIiR");
    let arguments = ["credentials", "add-hmac", "billing", "--algorithm", "HS512", "--secret-file", &short];
    let (code, said) = tool.refusal(&[&arguments, &with_key[..]].concat(), "");
    assert!(code == 5 && said.contains("64 bytes") && !said.contains("q8Zr"), "{code}: {said}");
    let (code, said) = tool.refusal(&["credentials", "remove", "billing", "none"], "");
    assert!(code == 5 && said.contains("`hmac`"), "{code}: {said}");
    assert_eq!(tool.refusal(&["credentials", "remove", "unknown", "1"], "").0, 3);

    let removed = tool.lines(&["credentials", "remove", "billing", "hmac", "--revoke", "--json"]);
    assert!(removed.len() == 2 && removed[1].contains("its tokens are revoked"), "{removed:?}");
    for label in ["key", "url"] {
        tool.lines(&["credentials", "remove", "billing", label]);
    }
    assert_eq!(listed(), before);
}

/// The clients that need their allowance, as the server has recorded it.
fn audience_report(tool: &Tool) {
    let record = |id: &str, used: &str| {
        format!(
            r#"{{"client_id":"{id}","version":2,"must_understand":["legacy_assertions_until"],"legacy_assertions_until":4000000000{used}}}"#
        )
    };
    let records = [record("old-a", r#","legacy_audience_used_at":1700000000"#), record("old-b", "")].join("\n");
    assert!(tool.output(&["import", "-"], &records).status.success());
    assert_eq!(
        tool.lines(&["audience-report"]),
        [
            "old-a\tlast used at 2023-11-14T22:13:20Z\tallowed until 2096-10-02T07:06:40Z",
            "old-b\tnever used\tallowed until 2096-10-02T07:06:40Z"
        ]
    );
    let report = tool.lines(&["audience-report", "--json"]);
    assert_eq!(report[0], r#"{"allowed_until":4000000000,"client_id":"old-a","last_use":1700000000}"#);
    for id in ["old-a", "old-b"] {
        tool.lines(&["delete", id]);
    }
    assert!(tool.lines(&["audience-report"]).is_empty());
}

/// What has expired is marked, and is removed with one command.
fn expired_secrets(tool: &Tool) {
    let secret = |label: &str, end: &str| format!(r#"{{"label":"{label}","hash":"{HASH}"{end}}}"#);
    let secrets = [
        secret("old", r#","expires_at":1700000000"#),
        secret("next", r#","expires_at":4000000000"#),
        secret("new", ""),
    ];
    let record =
        format!(r#"{{"client_id":"rotating","audiences":["{API}"],"client_secrets":[{}]}}"#, secrets.join(","));
    assert!(tool.output(&["import", "-"], &record).status.success());
    let left = ["next\tclient_secret_basic\texpires at 2096-10-02T07:06:40Z", "new\tclient_secret_basic"];
    let listed = || tool.lines(&["credentials", "list", "rotating"]);
    assert_eq!(listed(), [&["old\tclient_secret_basic\texpired at 2023-11-14T22:13:20Z"], &left[..]].concat());
    let json = tool.lines(&["credentials", "list", "rotating", "--json"]);
    assert!(json[0].contains(r#""expires_at":1700000000,"has_expired":true"#), "{json:?}");
    let removed = tool.output(&["credentials", "remove", "rotating", "--expired"], "");
    let said = String::from_utf8(removed.stderr).unwrap();
    assert!(removed.status.success() && said.contains("`old` removed"), "{said}");
    assert_eq!(listed(), left);
    let again = tool.json(&["credentials", "remove", "rotating", "--expired"]);
    assert!(again["done"].as_str().unwrap().contains("none of its credentials has expired"), "{again}");
    let (code, said) = tool.refusal(&["credentials", "remove", "absent", "--expired"], "");
    assert!(code == 3 && said.contains("client `absent` not found"), "{code}: {said}");
    assert_eq!(tool.refusal(&["credentials", "remove", "rotating"], "").0, 2);
    assert_eq!(tool.refusal(&["credentials", "remove", "rotating", "next", "--expired"], "").0, 2);
    let rotated = tool.output(&["rotate-secret", "rotating"], "");
    let said = String::from_utf8(rotated.stderr).unwrap();
    assert!(
        said.contains("an API accepts an old secret as an API key") && said.contains("`clients revoke-tokens`"),
        "{said}"
    );
    tool.lines(&["delete", "rotating"]);
}

/// Clients whose tokens would be of no use, or that get none.
fn useless_clients(tool: &Tool) {
    let warnings = |arguments: &[&str]| {
        let output = tool.output(&[&["create", "useless"], arguments].concat(), "");
        tool.lines(&["delete", "useless"]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && output.stdout.len() > 40, "{said}");
        ["no audience", "no scope"].map(|what| said.contains(&format!("warning: client `useless` has {what}")))
    };
    assert_eq!(warnings(&[]), [true, true]);
    assert_eq!(warnings(&["--json"]), [true, true], "programs have stdout");
    assert_eq!(warnings(&["--scope", "read"]), [true, false]);
    assert_eq!(warnings(&["--audience", API]), [false, true]);
    assert_eq!(warnings(&["--audience", API, "--scope", "read"]), [false, false]);
    assert_eq!(warnings(&["--without-grant", "--introspects", API]), [false, false]);
}

/// The diagnosis of an assertion, for a person and for a script.
fn doctor(tool: &Tool) {
    let folder = TempDir::new().unwrap();
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let jwks = file("jwks", include_str!("clients/keys/svc-key.jwks.json"));
    tool.lines(&["create", "signer", "--audience", API]);
    tool.lines(&["credentials", "add-keys", "signer", "--jwks", &jwks]);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let signed = |name: &str, audience: &str| {
        let claims = serde_json::json!({
            // Long enough for a slow machine.
            "iss": "signer", "sub": "signer", "aud": audience, "iat": now, "exp": now + 200, "jti": "one",
        });
        let draft = Draft { header: r#"{"alg":"ES256","kid":"svc-key-1"}"#.to_owned(), claims: claims.to_string() };
        let key = SigningKey::from_pkcs8_pem(include_str!("clients/keys/svc-key.pem")).unwrap();
        let assertion = draft.sign_with(&key);
        (file(name, &assertion), assertion.rsplit('.').next().unwrap().to_owned())
    };
    let ask = |path: &str, client: &str| {
        let arguments = ["doctor", "--assertion", path, "--client", client, "--issuer", "https://auth.example.com"];
        let output = tool.output(&[&arguments[..], &["--json"]].concat(), "");
        let lines = String::from_utf8(output.stdout).unwrap();
        let rules: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (output.status.code().unwrap(), rules, lines + &String::from_utf8(output.stderr).unwrap())
    };
    let with = |rules: &[Value], result: &str| -> Vec<String> {
        let found = rules.iter().filter(|rule| rule["result"] == result);
        found.map(|rule| rule["rule"].as_str().unwrap().to_owned()).collect()
    };

    let (good, signature) = signed("good", "https://auth.example.com");
    for _ in 0..2 {
        let (code, rules, said) = ask(&good, "signer");
        assert_eq!((code, with(&rules, "failed")), (0, vec![]), "{said}");
        assert_eq!(with(&rules, "not checked"), ["assertion_type", "replay"], "nothing is recorded: {said}");
        assert!(rules.len() > 20 && !said.contains(&signature), "{said}");
    }
    let (wrong, signature) = signed("wrong", "https://auth.example.com/token");
    let (code, rules, said) = ask(&wrong, "signer");
    assert_eq!((code, with(&rules, "failed")), (5, vec!["audience".to_owned()]), "{said}");
    let audience = rules.iter().find(|rule| rule["rule"] == "audience").unwrap();
    assert_eq!(audience["found"], "\"https://auth.example.com/token\"");
    for part in ["\"https://auth.example.com\"", "legacy_assertions_until"] {
        assert!(audience["text"].as_str().unwrap().contains(part), "{audience}");
    }
    assert!(!said.contains(&signature), "{said}");
    let (code, rules, said) = ask(&good, "unknown");
    assert_eq!((code, with(&rules, "failed")), (5, vec!["client_id".to_owned(), "client".to_owned()]), "{said}");
    let (code, rules, said) = ask(&file("none", "a secret that is no assertion"), "signer");
    assert_eq!((code, with(&rules, "failed")), (5, vec!["form".to_owned()]), "{said}");
    assert!(!said.contains("a secret"), "{said}");
    let arguments = ["doctor", "--assertion", &good, "--client", "signer", "--issuer", "auth"];
    assert_eq!(tool.refusal(&arguments, "").0, 2);
    tool.lines(&["delete", "signer"]);
}

/// The settings that `update` sets, adds and removes.
fn updates(tool: &Tool) {
    const OTHER: &str = "https://other.example.com";
    let update = |arguments: &[&str]| {
        assert_eq!(tool.json(&[&["update", "billing"], arguments].concat())["done"], "changed");
        tool.json(&["show", "billing"])
    };
    assert_eq!(update(&["--scope", "read"])["scope"], "read", "it sets");
    assert_eq!(update(&["--add-scope", "write", "--add-scope", "admin"])["scope"], "read write admin");
    assert_eq!(update(&["--remove-scope", "admin"])["scope"], "read write");
    assert_eq!(update(&["--default-scope", "read"])["default_scope"], "read");
    assert!(update(&["--no-default-scope"]).get("default_scope").is_none());
    assert_eq!(update(&["--add-audience", OTHER])["audiences"], serde_json::json!([API, OTHER]));
    assert_eq!(update(&["--remove-audience", OTHER])["audiences"], serde_json::json!([API]));
    assert_eq!(update(&["--audience", OTHER, "--audience", API])["default_audience"], OTHER);
    assert_eq!(update(&["--audience", API])["audiences"], serde_json::json!([API]));
    assert_eq!(update(&["--add-introspects", API])["introspects"], serde_json::json!([API]));
    assert!(update(&["--remove-introspects", API]).get("introspects").is_none());
    let changed = update(&["--token-lifetime", "60", "--subject", "svc", "--authentication", "client_secret_post"]);
    assert_eq!((&changed["token_lifetime"], &changed["subject"]), (&60.into(), &"svc".into()));
    assert_eq!(changed["token_endpoint_auth_method"], "client_secret_post");
    assert_eq!(update(&["--grant", "false"])["grant"], false);
    let changed = update(&["--no-token-lifetime", "--no-subject", "--grant", "true"]);
    assert!(["token_lifetime", "subject", "grant"].iter().all(|name| changed.get(*name).is_none()), "{changed}");

    for (arguments, code, why) in [
        (["--remove-scope", "admin"], 5, "does not have the scope `admin`"),
        (["--remove-audience", OTHER], 5, "does not have the audience"),
        (["--default-scope", "admin"], 5, "default scope `admin`"),
        (["--authentication", "none"], 5, "`client_secret_basic` or `client_secret_post`"),
        (["--audience", "api"], 2, "api"),
    ] {
        let refusal = tool.refusal(&[&["update", "billing"], &arguments[..]].concat(), "");
        assert!(refusal.0 == code && refusal.1.contains(why), "{refusal:?}");
    }
    assert_eq!(tool.refusal(&["update", "billing", "--scope", "a", "--add-scope", "b"], "").0, 2);
    assert_eq!(tool.refusal(&["update", "unknown", "--scope", "a"], "").0, 3);
    assert_eq!(tool.json(&["show", "billing"])["scope"], "read write", "a failed command changes nothing");
    removes_the_last_audience(tool);
    may_grant(tool);
}

/// Each option is a member of the record.
fn may_grant(tool: &Tool) {
    let update = |arguments: &[&str]| tool.output(&[&["update", "billing"], arguments].concat(), "").status.code();
    let options = [
        ["--may-grant-scope", "read"].as_slice(),
        &["--may-grant-spiffe-id", "spiffe://example.org/a/*", "--may-grant-spiffe-id", "spiffe://example.org/b"],
        &["--may-grant-platform-subject", "https://ci.example", "repo:a/b"],
        &["--may-grant-platform-subject-prefix", "https://ci.example", "repo:a/"],
        &["--may-grant-platform-subject-prefix", "https://ci.example", "repo:b/"],
    ];
    assert_eq!(update(&options.concat()), Some(0));
    let expected = serde_json::json!({
        "scope": "read",
        "spiffe_ids": ["spiffe://example.org/a/*", "spiffe://example.org/b"],
        "platform_workloads": [
            {"issuer": "https://ci.example", "subject": "repo:a/b"},
            {"issuer": "https://ci.example", "subject_prefix": "repo:a/"},
            {"issuer": "https://ci.example", "subject_prefix": "repo:b/"},
        ],
    });
    assert_eq!(tool.json(&["show", "billing"])["may_grant"], expected);
    for option in &options {
        for other in ["--may-grant-everything", "--may-grant-nothing"] {
            assert_eq!(update(&[option, [other].as_slice()].concat()), Some(2), "{option:?} {other}");
        }
    }
    assert_eq!(update(&["--may-grant-everything", "--may-grant-nothing"]), Some(2));
    assert_eq!(update(&["--may-grant-spiffe-id", "spiffe://example.org/a*"]), Some(2));
    assert_eq!(update(&["--may-grant-platform-subject", "https://ci.example"]), Some(2));
    assert_eq!(update(&["--may-grant-nothing"]), Some(0));
    assert!(tool.json(&["show", "billing"]).get("may_grant").is_none());
}

/// Without audiences, the client would get the server's default audience.
fn removes_the_last_audience(tool: &Tool) {
    let update = |arguments: &[&str]| {
        assert_eq!(tool.json(&[&["update", "billing"], arguments].concat())["done"], "changed");
        tool.json(&["show", "billing"])
    };
    let widening = |arguments: &[&str]| {
        let (code, said) = tool.refusal(&[&["update", "billing"], arguments].concat(), "");
        let ways = ["`billing`: no audience is left", "--add-audience", "--server-default-audience", "--grant false"];
        assert!(code == 5 && ways.iter().all(|way| said.contains(way)), "{code}: {said}");
        assert!(!said.contains(".without_grant()"), "it names the options of this program: {said}");
    };
    let audiences = || tool.json(&["show", "billing"]).get("audiences").cloned();
    widening(&["--remove-audience", API]);
    assert_eq!(audiences(), Some(serde_json::json!([API])));
    assert!(update(&["--remove-audience", API, "--grant", "false"]).get("audiences").is_none());
    widening(&["--grant", "true"]);
    assert_eq!(update(&["--grant", "true", "--add-audience", API])["audiences"], serde_json::json!([API]));
    assert!(update(&["--server-default-audience"]).get("audiences").is_none());
    assert_eq!(update(&["--subject", "svc"])["subject"], "svc", "setting the current default changes nothing else");
    assert_eq!(tool.refusal(&["update", "billing", "--server-default-audience", "--add-audience", API], "").0, 2);
    assert_eq!(update(&["--add-audience", API, "--no-subject"])["audiences"], serde_json::json!([API]));
}

const API: &str = "https://api.example.com";

/// Random enough, and used nowhere else.
const HASH: &str = "$sha256$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

fn entry(id: &str) -> String {
    format!(r#"{{"client_id":"{id}","audiences":["{API}"],"client_secrets":[{{"label":"1","hash":"{HASH}"}}]}}"#)
}

#[test]
fn text_from_a_store_does_not_control_the_terminal() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("clients.toml");
    let tool = Tool { url: in_folder("file:", folder.path(), "clients.toml") };
    // Sequences that set the colour in two ways, delete, and reverse the order.
    let controls = ['\u{1b}', '\u{9b}', '\u{7f}', '\u{202e}', '\n'];
    let raw = |text: &str| text.trim_end().chars().any(|c| controls.contains(&c));
    let subject = r"\u001b[31m\u009b31mred\u007f\u202e \\ 'x' \u00e9\nlast";
    let entry = format!("client_id = \"a\"\nsubject = \"{subject}\"\n");
    fs::write(
        &file,
        format!("[[clients]]\n{entry}client_secrets = [{{ label = \"\u{202e}l\", hash = \"{HASH}\" }}]\n"),
    )
    .unwrap();
    let shown = tool.lines(&["show", "a"]);
    let line = shown.iter().find(|line| line.starts_with("subject ")).unwrap();
    assert!(line.ends_with(r"\u{1b}[31m\u{9b}31mred\u{7f}\u{202e} \ 'x' é\nlast"), "{line:?}");
    assert!(!shown.iter().any(|line| raw(line)), "{shown:?}");
    let json = tool.lines(&["show", "a", "--json"]).join("");
    assert!(!raw(&json) && json.contains(r"\u001b[31m\u009b31mred\u007f\u202e"), "{json:?}");
    let read: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(read["subject"], "\u{1b}[31m\u{9b}31mred\u{7f}\u{202e} \\ 'x' é\nlast");
    fs::write(&file, "[[clients]]\nclient_id = \"a\"\naudiences = [\"\\u001b[31m\\u009b\\u202e\"]\n").unwrap();
    for arguments in [&["show", "a"][..], &["list"]] {
        let (code, said) = tool.refusal(arguments, "");
        assert!(code == 1 && !raw(&said) && said.contains(r"\u{1b}[31m\u{9b}\u{202e}"), "{code}: {said:?}");
    }
}

fn in_folder(scheme: &str, folder: &Path, name: &str) -> String {
    format!("{scheme}{}", folder.join(name).display())
}

#[test]
fn it_works_on_sqlite() {
    let folder = TempDir::new().unwrap();
    it_does_its_work(in_folder("sqlite://", folder.path(), "clients.db"));
}

#[test]
fn it_works_on_a_file() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("clients.toml"), "clients = []\n").unwrap();
    it_does_its_work(in_folder("file:", folder.path(), "clients.toml"));
}

#[test]
fn it_works_on_postgres() {
    let server = Postgres::start();
    it_does_its_work(server.url());
}

#[test]
fn it_works_on_redis() {
    let server = Redis::start();
    it_does_its_work(server.url());
}

#[test]
fn only_commands_that_add_clients_create_a_store() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("typo.db");
    let tool = Tool { url: in_folder("sqlite://", folder.path(), "typo.db") };
    for arguments in [
        &["list"][..],
        &["show", "billing"],
        &["update", "billing", "--add-scope", "read"],
        &["rotate-secret", "billing"],
        &["disable", "billing"],
        &["delete", "billing"],
        &["revoke-tokens", "billing"],
        &["revoke-token", "billing", "jti"],
        &["audience-report"],
        &["credentials", "list", "billing"],
        &["keys", "status"],
    ] {
        let (code, said) = tool.refusal(arguments, "");
        let is_named = said.contains(&format!("the store {} does not exist", file.display()));
        assert!(code == 1 && is_named && said.contains("--store") && !file.exists(), "{arguments:?}: {code}: {said}");
    }
    let dry = tool.output(&["import", "-", "--dry-run"], &format!("{}\n", entry("dry")));
    assert!(dry.status.success() && !file.exists(), "{dry:?}");
    let created = tool.output(&["create", "billing", "--audience", API], "");
    let said = String::from_utf8(created.stderr).unwrap();
    assert!(created.status.success() && said.contains(&format!("creating the store {}", file.display())), "{said}");
    assert_eq!(tool.lines(&["list"]), ["billing\t"]);
    let (code, said) = Tool { url: in_folder("file:", folder.path(), "typo.toml") }.refusal(&["list"], "");
    assert!(code == 1 && said.contains("typo.toml"), "{code}: {said}");
}

/// A record that this release cannot read, between two that it can. `write` replaces the record of a client.
async fn an_unreadable_record_is_listed(url: &str, write: impl AsyncFn(&str, &str)) {
    let tool = Tool { url: url.to_owned() };
    for id in ["a", "b", "c"] {
        tool.lines(&["create", id, "--audience", API, "--scope", "read"]);
    }
    write("b", r#"{"client_id":"b","version":2,"client_secrets":"hunter2"}"#).await;
    let listed = tool.lines(&["list"]);
    assert!(
        listed.len() == 3 && listed[1].starts_with("b\tunreadable: ") && !listed[1].contains("hunter2"),
        "{listed:?}"
    );
    assert_eq!([&*listed[0], &*listed[2]], ["a\tread", "c\tread"]);
    let page = tool.lines(&["list", "--after", "a", "--limit", "1", "--json"]);
    let entry: Value = serde_json::from_str(&page[0]).unwrap();
    assert_eq!((&entry["client_id"], &entry["is_unreadable"], page.len()), (&"b".into(), &true.into(), 1));
    assert_eq!(tool.refusal(&["show", "b"], "").0, 1);
    // The record of another client under this id cannot be used, either.
    write("b", r#"{"client_id":"z","client_secrets":[],"audiences":["https://api.example.com"]}"#).await;
    let listed = tool.lines(&["list"]);
    assert!(listed.len() == 3 && listed[1].starts_with("b\tunreadable: "), "{listed:?}");
    assert_eq!(tool.refusal(&["show", "b"], "").0, 1);
    tool.lines(&["delete", "b"]);
    assert_eq!(tool.lines(&["list"]), ["a\tread", "c\tread"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_record_does_not_hide_the_others_on_sqlite() {
    let folder = TempDir::new().unwrap();
    let url = in_folder("sqlite://", folder.path(), "clients.db");
    an_unreadable_record_is_listed(&url, async |id, record| {
        let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
        let update = sqlx::query("UPDATE tcc_clients SET record = ?2 WHERE id = ?1").bind(id).bind(record);
        assert_eq!(update.execute(&mut connection).await.unwrap().rows_affected(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_record_does_not_hide_the_others_on_postgres() {
    let server = Postgres::start();
    an_unreadable_record_is_listed(&server.url(), async |id, record| {
        let mut connection = sqlx::PgConnection::connect(&server.url()).await.unwrap();
        let update = sqlx::query("UPDATE tcc_clients SET record = $2 WHERE id = $1").bind(id).bind(record);
        assert_eq!(update.execute(&mut connection).await.unwrap().rows_affected(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_record_does_not_hide_the_others_on_redis() {
    let server = Redis::start();
    an_unreadable_record_is_listed(&server.url(), async |id, record| {
        let record = format!("7 {record}").replace('"', "\\\"");
        assert_eq!(server.ask(&format!("HSET {{tcc}}:clients {id} \"{record}\"")), ":0\r\n");
    })
    .await;
}

#[test]
fn an_unknown_or_unavailable_store_is_reported_without_a_password() {
    let failure = |url: &str| Tool { url: url.to_owned() }.refusal(&["list"], "");
    assert_eq!(failure("").0, 2);
    for (url, part) in [
        ("postgres://u:hunter2@127.0.0.1:1/d", "refused"),
        ("redis://:hunter2@127.0.0.1:1/", "refused"),
        ("mysql://u:hunter2@h/d", "unknown store `mysql:`"),
        ("file:/nowhere/clients.toml", "/nowhere/clients.toml"),
    ] {
        let (code, said) = failure(url);
        assert!(code == 1 && said.contains(part) && !said.contains("hunter2"), "{url}: {code}: {said}");
    }
}
