//! TLS by files that are replaced while the service runs. The client is that of rustls, and the certificates are from rcgen.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

#[cfg(feature = "metrics")]
use super::monitoring::{monitored, value};
use super::{GOOD, Service, refusal};

/// Writes a self-signed certificate and its key into a folder, and returns the certificate.
fn renew(folder: &Path) -> CertificateDer<'static> {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["auth.example.test".to_owned()]).unwrap();
    // The key first: a service that reads in between finds a key that belongs to no certificate, and changes nothing.
    fs::write(folder.join("tls.key"), signing_key.serialize_pem()).unwrap();
    fs::write(folder.join("tls.crt"), cert.pem()).unwrap();
    cert.der().clone()
}

/// Asks over TLS and trusts this certificate only. Returns the answer and the protocol of ALPN.
fn ask(service: &Service, trusted: &CertificateDer<'static>, protocols: &[&[u8]]) -> Result<(String, Vec<u8>), String> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    let name = ServerName::try_from("auth.example.test").unwrap();
    let stream = TcpStream::connect(service.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut tls = StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), stream);
    tls.write_all(b"GET /health/live HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").map_err(|e| e.to_string())?;
    let protocol = tls.conn.alpn_protocol().map(<[u8]>::to_vec).unwrap_or_default();
    let mut answer = Vec::new();
    let _ = tls.read_to_end(&mut answer);
    Ok((String::from_utf8_lossy(&answer).into_owned(), protocol))
}

/// Starts a service with the certificate of the folder.
fn start(folder: &Path, reread_seconds: &str) -> Service {
    let config = folder.join("service.toml");
    let tls =
        format!("[tls]\ncertificate = \"tls.crt\"\nkey = \"tls.key\"\nreread_seconds = {reread_seconds}\n\n[keys]");
    fs::write(&config, GOOD.replace("[keys]", &tls)).unwrap();
    Service::start_with(&config, &[("TCC_STORE", "memory:")])
}

#[cfg(feature = "metrics")]
#[test]
fn the_time_at_which_the_certificate_expires_is_a_metric_that_follows_a_reload() {
    let folder = tempfile::tempdir().unwrap();
    let [certificate, key] = ["tls.crt", "tls.key"].map(|name| folder.path().join(name));
    // From 2050 on, the time in a certificate has another form (RFC 5280 §4.1.2.5).
    let write = |year: i32| {
        let mut settings = rcgen::CertificateParams::new(["auth.example.test".to_owned()]).unwrap();
        settings.not_after = rcgen::date_time_ymd(year, 1, 1);
        let pair = rcgen::KeyPair::generate().unwrap();
        fs::write(&key, pair.serialize_pem()).unwrap();
        fs::write(&certificate, settings.self_signed(&pair).unwrap().pem()).unwrap();
    };
    write(2049);
    let tls = format!("[tls]\ncertificate = {certificate:?}\nkey = {key:?}\n\n[keys]");
    let (mut service, monitoring) = monitored("certificate-expiry", &GOOD.replace("[keys]", &tls), &[]);
    let expiry = || value(monitoring, "standalone_tls_certificate_expiry_timestamp_seconds");
    assert_eq!(expiry(), Some(2_493_072_000.0));
    write(2060);
    assert_eq!(service.reload(), "reloaded the configuration");
    assert_eq!(expiry(), Some(2_840_140_800.0));
}

#[test]
fn sighup_replaces_the_certificate_and_an_invalid_one_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let first = renew(folder.path());
    let mut service = start(folder.path(), "86400");
    let (answer, protocol) = ask(&service, &first, &[b"http/1.1"]).unwrap();
    assert!(answer.starts_with("HTTP/1.1 204 ") && protocol == b"http/1.1", "{answer}");
    assert_eq!(ask(&service, &first, &[b"h2", b"http/1.1"]).unwrap().1, b"h2");

    let key = fs::read_to_string(folder.path().join("tls.key")).unwrap();
    let second = renew(folder.path());
    fs::write(folder.path().join("tls.key"), key).unwrap(); // that of the first
    assert_eq!(service.reload(), "could not reload the configuration");
    assert!(ask(&service, &first, &[]).unwrap().0.starts_with("HTTP/1.1 204 "));
    assert!(ask(&service, &second, &[]).is_err());

    let third = renew(folder.path());
    assert_eq!(service.reload(), "reloaded the configuration");
    assert!(ask(&service, &third, &[]).unwrap().0.starts_with("HTTP/1.1 204 "));
    let why = ask(&service, &first, &[]).unwrap_err();
    assert!(why.contains("certificate"), "{why}");
}

#[test]
fn a_replaced_certificate_is_read_without_a_signal() {
    let folder = tempfile::tempdir().unwrap();
    renew(folder.path());
    let service = start(folder.path(), "1");
    let renewed = renew(folder.path());
    let start = Instant::now();
    while ask(&service, &renewed, &[]).is_err() {
        assert!(start.elapsed() < Duration::from_secs(120), "the certificate was not read again");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn plain_http_is_not_answered_on_a_listener_with_tls() {
    let folder = tempfile::tempdir().unwrap();
    renew(folder.path());
    let service = start(folder.path(), "60");
    let mut stream = service.connect();
    stream.write_all(b"GET /health/live HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/"), "{}", String::from_utf8_lossy(&answer));
}

#[test]
fn invalid_files_are_rejected_with_their_setting() {
    let folder = tempfile::tempdir().unwrap();
    renew(folder.path());
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (certificate, key) = (path("tls.crt"), path("tls.key"));
    let other = tempfile::tempdir().unwrap();
    renew(other.path());
    let key_of_another = other.path().join("tls.key").display().to_string();
    for (certificate, key, setting, fix) in [
        (certificate.as_str(), "", "TCC_TLS_CERTIFICATE", "set tls.key, too"),
        ("", key.as_str(), "TCC_TLS_KEY", "set tls.certificate, too"),
        ("/nowhere.crt", &key, "TCC_TLS_CERTIFICATE", "put the certificate and its chain there"),
        (&key, &key, "TCC_TLS_CERTIFICATE", "BEGIN CERTIFICATE"),
        (&certificate, &certificate, "TCC_TLS_KEY", "expected PEM without a passphrase"),
        (&certificate, &key_of_another, "TCC_TLS_KEY", "use the private key that belongs to"),
    ] {
        let environment = [("TCC_TLS_CERTIFICATE", certificate), ("TCC_TLS_KEY", key), ("TCC_STORE", "memory:")];
        let said = refusal("tls-files", GOOD, &environment);
        assert!(said.starts_with(&format!("{setting}: ")) && said.contains(fix), "{certificate} {key}: {said}");
    }
}
