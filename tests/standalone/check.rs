//! `--check`, `--help`, `--health`, and the form of the log.

use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::Value;

#[cfg(feature = "postgres")]
use super::servers::Postgres;
use super::{GOOD, Service, file, standalone};

fn check(config: &Path, environment: &[(&str, &str)]) -> Output {
    let mut command = standalone();
    command.arg("--config").arg(config).arg("--check").envs(environment.iter().copied()).env("RUST_LOG", "warn");
    command.output().unwrap()
}

/// Returns what a successful check prints.
fn shown(config: &Path, environment: &[(&str, &str)]) -> (String, toml::Table) {
    let output = check(config, environment);
    let (said, text) = (String::from_utf8_lossy(&output.stderr), String::from_utf8(output.stdout.clone()).unwrap());
    assert!(output.status.success(), "{said}");
    let table = text.parse().unwrap_or_else(|error| panic!("{error} in {text}"));
    (text, table)
}

#[test]
fn check_prints_the_effective_configuration_without_secrets() {
    let content = GOOD.replacen(
        "client_secret_env = \"BILLING_SECRET\"",
        "dangerous_plain_client_secret = \"hunter2\"",
        1,
    ) + "\n[[clients]]\nclient_id = \"other\"\nclient_secret_hash = \"$sha256$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"\n";
    let config = file("check", &content);
    let environment = [
        ("TCC_STORE", "memory:"),
        ("TCC_LISTEN", "127.0.0.1:3999"),
        ("TCC_TOKENS_LIFETIME_SECONDS", "77"),
        ("TCC_ATTEMPTS_CHOSEN_BY_CLIENT", "55"),
    ];
    let (text, table) = shown(&config, &environment);
    assert!(!text.contains("hunter2") && !text.contains("AAAAAAA") && text.contains("(not shown)"), "{text}");
    assert_eq!(table["issuer"].as_str(), Some("http://127.0.0.1:3999"));
    assert!(text.starts_with("# OK: the service would start"), "{text}");
    let paths = [&table["paths"]["token"], &table["paths"]["authorization"]].map(toml::Value::as_str);
    assert_eq!(paths, [Some("/token"), Some("off")], "the effective paths");
    assert_eq!(table["store"].as_str(), Some("memory:"));
    assert_eq!(table["tokens"]["lifetime_seconds"].as_integer(), Some(77));
    assert_eq!(table["tokens"]["scope"].as_str(), Some("read"));
    assert_eq!(table["attempts"]["chosen_by_client"].as_integer(), Some(55));
    assert_eq!(table["limits"]["streams"].as_integer(), Some(32), "a default");
    assert_eq!(table["clients"].as_array().map(Vec::len), Some(2));
    // Apart from the secrets, the output is a configuration.
    let again = file(
        "check-again",
        &text
            .replacen("\"(not shown)\"", "\"hunter2\"", 1)
            .replace("(not shown)", "$sha256$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
    );
    assert_eq!(shown(&again, &[]).1, table);
}

#[test]
fn a_trust_domain_has_one_source_of_its_bundle() {
    for (domain, variable, says) in [
        ("name = \"example.org\"", "", "exactly one of bundle_file, bundle_url and workload_api = true"),
        ("name = \"example.org\"\nworkload_api = true\nbundle_file = \"b.json\"", "unix:///a", "excludes bundle_file"),
        // The program that the tests start can have other features than the tests themselves.
        ("name = \"example.org\"\nworkload_api = true", "http://agent", "unix:///|workload_api"),
    ] {
        let config = file("domain", &format!("{GOOD}\n[[trust_domains]]\n{domain}\n"));
        let output = check(&config, &[("SPIFFE_ENDPOINT_SOCKET", variable)]);
        let said = String::from_utf8_lossy(&output.stderr);
        let is_said = says.split('|').any(|says| said.contains(says));
        assert!(!output.status.success() && is_said, "{domain}: {said}");
    }
}

#[test]
fn check_creates_neither_a_key_nor_a_store() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("service.toml");
    fs::write(&config, GOOD.replace("generate = \"ES256\"", "load_or_create = \"signing.pem\"")).unwrap();
    shown(&config, &[]);
    let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["service.toml"]);
}

#[test]
fn check_shows_no_secret_of_the_example_file_in_any_kind_of_credential() {
    let config = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/standalone.toml"));
    let secrets = ["secret-for-demonstrations", "odd secret: "];
    let content = fs::read_to_string(config).unwrap();
    let (text, _) = shown(config, &[("TCC_STORE", "memory:")]);
    for secret in secrets {
        assert!(content.contains(secret) && !text.contains(secret), "`{secret}` is in {text}");
    }
    assert_eq!(text.matches("(not shown)").count(), content.matches("dangerous_plain_client_secret = ").count());
}

/// The file of `examples/deploy`, with the files of this test in place of those of a container.
#[cfg(feature = "metrics")]
#[test]
fn the_configuration_for_deployments_is_valid() {
    let config = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/deploy/tokens.toml"));
    let key = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keys/p256.pem");
    let environment =
        [("TCC_STORE", "memory:"), ("TCC_KEYS_SIGN", key), ("TCC_TLS_CERTIFICATE", ""), ("TCC_TLS_KEY", "")];
    let (_, table) = shown(config, &environment);
    assert_eq!(table["metrics"]["listen"].as_str(), Some("0.0.0.0:9464"));
    assert_eq!(table["log"]["format"].as_str(), Some("json"));
}

#[test]
fn check_refuses_what_a_start_refuses() {
    for (name, right, wrong, fix) in [
        ("check-key", "generate = \"ES256\"", "sign = \"nothing-here.pem\"", "nothing-here.pem"),
        ("check-store", "\n\n[keys]", "\nstore = \"sqlite:///nowhere/at/all.db\"\n[keys]", "FILE:2: "),
        ("check-scope", "/api/read\"\nscope = \"read\"", "/api/read\"\nscope = \"write\"", "add it to tokens.scope"),
        ("check-tls", "[keys]", "[tls]\nkey = \"k.pem\"\n[keys]", "set tls.certificate, too"),
    ] {
        let config = file(name, &GOOD.replacen(right, wrong, 1));
        let output = check(&config, &[]);
        let said = String::from_utf8_lossy(&output.stderr).replace(&config.display().to_string(), "FILE");
        assert_eq!(output.status.code(), Some(1), "{name}: {said}");
        assert!(said.contains(fix) && output.stdout.is_empty(), "{name}: {said}");
    }
}

/// A password in each place where a URL of a store may have one. No such server runs, so the configuration alone is printed by no
/// check that succeeds; the errors must not have it, either.
#[cfg(all(feature = "postgres", feature = "redis"))]
#[test]
fn check_shows_no_password_of_an_unavailable_store() {
    for url in [
        "postgres://u:hunter2@127.0.0.1:1/d",
        "redis://:hunter2@127.0.0.1:1/",
        "postgres://127.0.0.1:1/d?password=hunter2",
    ] {
        let output = check(&file("check-password", GOOD), &[("TCC_STORE", url)]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && !said.contains("hunter2"), "{said}");
    }
}

#[test]
fn help_lists_the_arguments() {
    let output = standalone().arg("--help").output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    for part in ["--config <FILE.toml>", "--check", "--health", "SIGHUP"] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
}

#[test]
fn health_says_whether_the_service_is_ready() {
    let health = |config: &Path, address: &str| {
        let mut command = standalone();
        command.arg("--config").arg(config).arg("--health").env("TCC_LISTEN", address);
        command.output().unwrap()
    };
    let service = Service::start("health", &[("TCC_STORE", "memory:")]);
    let config = file("health-asks", GOOD);
    let ready = health(&config, &service.address.to_string());
    assert!(ready.status.success(), "{}", String::from_utf8_lossy(&ready.stderr));
    // A service that listens on all addresses is asked on loopback.
    assert!(health(&config, &format!("0.0.0.0:{}", service.address.port())).status.success());
    // A port that is taken, so that no other process answers, and on which no one listens.
    let taken = tokio::net::TcpSocket::new_v4().unwrap();
    taken.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let failed = health(&config, &taken.local_addr().unwrap().to_string());
    assert_eq!(failed.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&failed.stderr).contains("is the service running?"));
}

#[test]
fn each_line_of_a_json_log_is_an_object_without_secrets() {
    let log = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("standalone-json.log");
    let mut command = standalone();
    command.arg("--config").arg(file("json-log", GOOD)).env("TCC_LOG_FORMAT", "json").env("TCC_STORE", "memory:");
    command.env("TCC_TOKENS_DEFAULT_SCOPES", "read"); // a former name, which causes a warning
    let mut service = Service::spawn({
        command.env("RUST_LOG", "debug").stderr(fs::File::create(&log).unwrap());
        command
    });
    service.token();
    service.reads("x.y.z");
    service.terminate();
    assert!(service.child.wait().unwrap().success());
    let text = fs::read_to_string(log).unwrap();
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut service.stdout, &mut rest).unwrap();
    assert!(rest.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "standard output: {rest}");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    assert!(lines.iter().all(|line| line.get("span").is_none()), "the spans are in `spans` only: {text}");
    let refused = lines.iter().find(|line| line["message"] == "refused a request to a protected route").unwrap();
    let spans = refused["spans"].to_string();
    assert!(spans.contains("\"client.address\":\"127.0.0.1\"") && spans.contains("/api/read"), "{spans}");
    let has =
        |message: &str| lines.iter().any(|line| line["message"].as_str().is_some_and(|text| text.contains(message)));
    assert!(
        has("is now called") && has("answered a client") && has("refused a request to a protected route"),
        "{text}"
    );
    assert!(lines.iter().all(|line| line["level"].is_string() && line["timestamp"].is_string()), "{text}");
    assert!(!text.contains("correct+horse") && !text.contains("YmlsbGluZ"), "{text}");
}

#[test]
fn every_warning_of_a_start_says_how_to_fix_it() {
    let config = file("warnings", GOOD);
    let environment =
        [("TCC_STORE", "memory:"), ("TCC_PORT", "tcp://10.0.0.1:80"), ("TCC_TOKENS_DEFAULT_SCOPES", "read")];
    let said = Service::warnings_of(&config, &environment);
    let fixes =
        ["enableServiceLinks: false", "rename the variable", "set `store`", "replace keys.generate with keys.sign"];
    for fix in fixes {
        assert!(said.contains(fix), "`{fix}` is not in {said}");
    }
    assert_eq!(said.lines().count(), fixes.len(), "a warning without a fix: {said}");
}

#[test]
fn the_limit_on_failed_attempts_is_a_setting() {
    let service = Service::start("attempts", &[("TCC_ATTEMPTS_CHOSEN_BY_ADDRESS", "1"), ("TCC_STORE", "memory:")]);
    let status = || {
        // `billing:wrong`
        let answer = service.send(
            "POST /token HTTP/1.1\r\nHost: h\r\nConnection: close\r\nAuthorization: Basic YmlsbGluZzp3cm9uZw==\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 29\r\n\r\ngrant_type=client_credentials",
        );
        answer.split(' ').nth(1).unwrap().to_owned()
    };
    // A minute may end in between, and the default is 10.
    let statuses: Vec<_> = (0..5).map(|_| status()).collect();
    assert!(statuses.iter().any(|status| status == "429"), "{statuses:?}");
}

/// A role that may only read. The check does what a start does with the keys in the store, and says what to grant.
#[cfg(feature = "postgres")]
#[test]
fn check_refuses_a_role_that_may_not_write_the_keys_and_changes_no_ring() {
    let server = Postgres::start();
    let rotates = GOOD.replace("generate = \"ES256\"", "rotate_days = 90");
    let config = file("check-rights", &rotates);
    let key = ("TCC_KEY_ENCRYPTION_KEY", "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=");
    let owner = server.url();
    let output = check(&config, &[("TCC_STORE", &owner), key]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let sql = |statement: &str| {
        let port = server.port().to_string();
        let arguments = ["--host=127.0.0.1", "--username=postgres", "--port", &port, "--no-psqlrc", "--tuples-only"];
        let output = server.program("psql", &[&arguments[..], &["--command", statement]].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(sql("SELECT count(*) FROM tcc_key_rings").trim(), "0", "the check creates tables and no keys");
    sql("CREATE ROLE reader LOGIN PASSWORD 'reader'; GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader");
    let reader = format!("postgres://reader:reader@127.0.0.1:{}/postgres?sslmode=disable", server.port());
    let output = check(&config, &[("TCC_STORE", &reader), key]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("permission denied") && said.contains("GRANT SELECT, INSERT"), "{said}");
}

#[test]
fn the_key_encryption_key_of_the_tool_is_the_default_and_stops_no_service_without_keys_in_its_store() {
    let key = ("TCC_KEY_ENCRYPTION_KEY", "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=");
    let rotates = file("default-key", &GOOD.replace("generate = \"ES256\"", "rotate_days = 90"));
    let (_, table) = shown(&rotates, &[("TCC_STORE", "memory:"), key]);
    assert_eq!(table["keys"]["encryption_key_env"].as_str(), Some(key.0));
    let (text, table) = shown(&file("no-default-key", GOOD), &[("TCC_STORE", "memory:"), key]);
    assert!(table["keys"].get("encryption_key_env").is_none() && !text.contains(key.1), "{text}");
    // Another place takes precedence.
    let output = check(&rotates, &[("TCC_STORE", "memory:"), key, ("TCC_KEYS_ENCRYPTION_KEY_FILE", "nothing-here")]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("nothing-here"), "{said}");
}
