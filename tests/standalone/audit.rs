//! `[audit]`: the events for auditors.

use std::fs;

use serde_json::Value;

use super::{GOOD, Service, file, refusal, standalone};

/// The caller that the proxy reports.
const CALLER: &str = "198.51.100.7";

fn ask(service: &Service, path: &str, authorization: &str, form: &str) -> String {
    service.send(&format!(
        "POST {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nX-Forwarded-For: {CALLER}\r\nAuthorization: {authorization}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
        form.len()
    ))
}

#[test]
fn each_decision_is_a_line_with_the_client_the_key_the_rule_and_the_caller_behind_the_proxy_and_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let audit = folder.path().join("audit.jsonl");
    let config = file("audit", GOOD);
    let environment = [
        ("TCC_STORE", "memory:"),
        ("TCC_AUDIT_FILE", audit.to_str().unwrap()),
        ("TCC_PROXIES_TRUSTED", "127.0.0.0/8"),
        ("TCC_PROXIES_HEADER", "X-Forwarded-For"),
    ];
    let mut service = Service::start_with(&config, &environment);
    let (right, wrong) = ("Basic YmlsbGluZzpjb3JyZWN0K2hvcnNl", "Basic YmlsbGluZzp3cm9uZw==");
    let form = "grant_type=client_credentials&scope=read";
    let answer = ask(&service, "/token", right, form);
    let body: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    let token = body["access_token"].as_str().unwrap();
    ask(&service, "/token", wrong, form);
    ask(&service, "/revoke", right, &format!("token={token}"));
    ask(&service, "/api/read", &format!("Bearer {token}"), "");
    service.terminate();
    assert!(service.child.wait().unwrap().success());

    let text = fs::read_to_string(&audit).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let [issued, failed, revoked, rejected] = lines.as_slice() else { panic!("{text}") };
    assert_eq!(
        [issued, failed, revoked, rejected].map(|line| line["event"].as_str().unwrap()),
        ["issued", "authentication_failed", "revoked", "rejected"]
    );
    assert!(lines.iter().all(|line| line["caller"] == CALLER), "{text}");
    assert!(lines.iter().all(|line| line["time"].as_str().unwrap().ends_with('Z')), "{text}");
    assert!(
        issued["client_id"] == "billing" && issued["authenticated"] == true && issued["scope"] == "read",
        "{issued}"
    );
    assert!(issued["method"] == "client_secret_basic" && issued["credential"].is_string(), "{issued}");
    let (jti, kid) = (issued["token_id"].as_str().unwrap(), issued["key_id"].as_str().unwrap());
    let header = token.split('.').next().unwrap();
    let header = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, header).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&header).unwrap()["kid"], kid);
    assert!(
        failed["reason"] == "invalid_client" && failed["authenticated"] == false && failed["status"] == 401,
        "{failed}"
    );
    assert_eq!(revoked["token_id"], jti);
    let detail = rejected["detail"].as_str().unwrap();
    assert!(rejected["reason"] == "revoked" && detail.contains(jti) && detail.contains("billing"), "{rejected}");
    for secret in ["correct", "YmlsbGluZ", "wrong", token] {
        assert!(!text.contains(secret), "`{secret}` is in {text}");
    }
}

#[test]
fn an_audit_log_that_cannot_be_written_stops_the_start_and_standard_output_is_a_choice() {
    let missing = [("TCC_STORE", "memory:"), ("TCC_AUDIT_FILE", "/nowhere/at/all/audit.jsonl")];
    let said = refusal("audit-nowhere", GOOD, &missing);
    assert!(said.starts_with("TCC_AUDIT_FILE: cannot write /nowhere/at/all/audit.jsonl"), "{said}");
    let mut check = standalone();
    check.arg("--config").arg(file("audit-check", GOOD)).arg("--check").envs(missing);
    assert!(!check.output().unwrap().status.success());

    let config = file("audit-stdout", GOOD);
    let mut service = Service::start_with(&config, &[("TCC_STORE", "memory:"), ("TCC_AUDIT_FILE", "-")]);
    service.token();
    let line: Value = serde_json::from_str(&service.line()).unwrap();
    assert_eq!((&line["event"], &line["caller"]), (&"issued".into(), &"127.0.0.1".into()));
}
