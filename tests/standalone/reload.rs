//! SIGHUP replaces everything, or nothing.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;

use super::{GOOD, Service, file};

/// A service with a file that the test changes.
fn service(test: &str) -> (Service, PathBuf) {
    let config = file(test, GOOD);
    (Service::start_with(&config, &[("TCC_STORE", "memory:")]), config)
}

fn change(config: &PathBuf, right: &str, wrong: &str) {
    let changed = GOOD.replacen(right, wrong, 1);
    assert_ne!(changed, GOOD);
    fs::write(config, changed).unwrap();
}

const DONE: &str = "reloaded the configuration";
const FAILED: &str = "could not reload the configuration";

#[test]
fn a_reload_applies_the_changed_file_and_keeps_the_key_the_store_and_the_connections() {
    let (mut service, config) = service("reload");
    let token = service.token();
    let revoked = service.token();
    let form = format!("token={revoked}");
    let answer = service.send(&format!(
        "POST /revoke HTTP/1.1\r\nHost: h\r\nConnection: close\r\nAuthorization: Basic YmlsbGluZzpjb3JyZWN0K2hvcnNl\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
        form.len()
    ));
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let mut connection = service.begin_token_request();

    let routes = "[[routes]]\npath = \"/api/new\"\n\n[[routes]]\npath = \"/api/read\"";
    change(&config, "[[routes]]\npath = \"/api/read\"", routes);
    assert!(service.get("/api/new").starts_with("HTTP/1.1 404 "));
    assert_eq!(service.reload(), DONE);
    assert!(service.get("/api/new").starts_with("HTTP/1.1 401 "), "the new route is protected");
    assert_eq!(service.reads(&token), "200", "the generated key is the same");
    assert_eq!(service.reads(&revoked), "401", "the revocation in memory is not lost");

    // A request that began before the reload is answered.
    connection.write_all(b"s").unwrap();
    let mut answer = [0; 12];
    connection.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
}

#[test]
fn a_connection_that_stays_open_uses_the_new_state() {
    use std::io::{BufRead as _, BufReader};
    let (mut service, config) = service("reload-connection");
    let connection = service.connect();
    let mut reader = BufReader::new(connection.try_clone().unwrap());
    let mut ask = || {
        (&connection).write_all(b"GET /api/new HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        let mut status = String::new();
        reader.read_line(&mut status).unwrap();
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line.trim().is_empty() {
                break;
            }
        }
        std::io::Read::read_exact(&mut reader, &mut vec![0; length]).unwrap();
        status.split(' ').nth(1).unwrap().to_owned()
    };
    assert_eq!(ask(), "404");
    change(&config, "/api/read", "/api/new");
    assert_eq!(service.reload(), DONE);
    assert_eq!(ask(), "401");
}

#[test]
fn a_reload_that_fails_changes_nothing_at_all() {
    let (mut service, config) = service("reload-fails");
    let token = service.token();
    for (right, wrong) in [
        ("[keys]", "[keys"),
        ("generate = \"ES256\"", "sign = \"nothing-here.pem\""),
        ("client_secret_env = \"BILLING_SECRET\"", "client_secret_env = \"NO_SUCH_VARIABLE\""),
        // The last thing that is built, after keys and clients.
        ("/api/read\"\nscope = \"read\"", "/api/new\"\nscope = \"write\""),
        ("\n\n[keys]", "\nissuer = \"https://other.example.test\"\n\n[keys]"),
        ("[keys]", "[tls]\ncertificate = \"nothing-here.crt\"\nkey = \"nothing-here.key\"\n[keys]"),
    ] {
        change(&config, right, wrong);
        assert_eq!(service.reload(), FAILED, "{wrong}");
        assert_eq!(service.reads(&token), "200", "{wrong}");
        assert!(service.request_token().starts_with("HTTP/1.1 200 "), "{wrong}");
    }
    fs::remove_file(&config).unwrap();
    assert_eq!(service.reload(), FAILED);
    // It recovers when the file is valid again.
    fs::write(&config, GOOD).unwrap();
    assert_eq!(service.reload(), DONE);
    assert_eq!(service.reads(&token), "200");
}

#[test]
fn a_client_that_is_removed_from_the_file_gets_no_token_after_a_reload() {
    let (mut service, config) = service("reload-client");
    assert!(service.request_token().starts_with("HTTP/1.1 200 "));
    change(&config, "client_id = \"billing\"", "client_id = \"another\"");
    assert_eq!(service.reload(), DONE);
    assert!(service.request_token().starts_with("HTTP/1.1 401 "));
}

#[test]
fn a_setting_that_a_reload_cannot_change_makes_it_fail() {
    let (mut service, config) = service("reload-fixed");
    for (right, wrong) in [
        ("127.0.0.1:0", "127.0.0.1:1"),
        ("[keys]", "[limits]\nconnections = 7\n[keys]"),
        ("[keys]", "[log]\nformat = \"json\"\n[keys]"),
    ] {
        change(&config, right, wrong);
        assert_eq!(service.reload(), FAILED, "{wrong}");
    }
}

#[cfg(feature = "metrics")]
#[test]
fn reloads_are_counted_by_their_outcome_and_a_failure_is_logged_with_its_place() {
    use super::monitoring::{monitored, value};

    let (mut service, monitoring) = monitored("reload-counted", GOOD, &[]);
    let count = |outcome: &str| value(monitoring, &format!("standalone_reloads_total{{outcome=\"{outcome}\"}}"));
    assert_eq!((count("done"), count("failed")), (Some(0.0), Some(0.0)));
    assert_eq!(service.reload(), DONE);
    file("reload-counted", "listen = 5");
    assert_eq!(service.reload(), FAILED);
    assert_eq!((count("done"), count("failed")), (Some(1.0), Some(1.0)));
    assert!(value(monitoring, "standalone_last_reload_timestamp_seconds").unwrap() > 1e9);
}

#[test]
fn the_log_says_why_a_reload_failed_and_how_to_fix_it() {
    let (mut service, log) = Service::start_logging("reload-log");
    let config =
        file("reload-log", &GOOD.replacen("/api/read\"\nscope = \"read\"", "/api/read\"\nscope = \"write\"", 1));
    assert_eq!(service.reload(), FAILED);
    let log = fs::read_to_string(log).unwrap();
    let place = format!("{}:17: unknown scope `write`; add it to tokens.scope", config.display());
    assert!(log.contains(&place) && log.contains("send SIGHUP again"), "{log}");
}
