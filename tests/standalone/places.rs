//! Connection limits: one address cannot take all connections.

use std::io::Read as _;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::{GOOD, Service, file};

const LIMITS: [(&str, &str); 3] =
    [("TCC_LIMITS_CONNECTIONS", "60"), ("TCC_LIMITS_CONNECTIONS_PER_ADDRESS", "40"), ("TCC_LIMITS_HEAD_SECONDS", "60")];

/// Opens a connection from this address, without a request.
fn connect_from(address: &str, service: &Service) -> TcpStream {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(address.parse().unwrap(), 0)).unwrap();
        socket.connect(service.address).await.unwrap().into_std().unwrap()
    });
    stream.set_nonblocking(false).unwrap();
    stream
}

/// Opens so many connections, and returns those that stay open.
fn held(count: usize, service: &Service) -> Vec<TcpStream> {
    let streams: Vec<_> = (0..count).map(|_| connect_from("127.0.0.1", service)).collect();
    let is_open = |stream: &TcpStream| {
        stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        (&*stream).read(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    };
    streams.into_iter().filter(is_open).collect()
}

fn asks_from(address: &str, service: &Service) -> String {
    use std::io::Write as _;
    let mut stream = connect_from(address, service);
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(b"GET /health/live HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

#[test]
fn one_address_that_opens_unlimited_connections_leaves_places_for_others() {
    let service = Service::start("places", &LIMITS);
    let connections = held(100, &service);
    assert_eq!(connections.len(), 40);
    // It stays at its limit, and further connections are closed at once.
    assert_eq!(asks_from("127.0.0.1", &service), "");
    let start = Instant::now();
    for _ in 0..20 {
        assert!(asks_from("127.0.0.2", &service).starts_with("HTTP/1.1 204 "));
    }
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    // A connection that ends frees its place.
    drop(connections);
    let start = Instant::now();
    while !asks_from("127.0.0.1", &service).starts_with("HTTP/1.1 204 ") {
        assert!(start.elapsed() < Duration::from_secs(20), "no place was released");
    }
}

#[test]
fn the_connections_of_a_trusted_proxy_are_limited_only_in_total() {
    let proxies = "[proxies]\ntrusted = [\"127.0.0.1\"]\nheader = \"X-Forwarded-For\"\n\n[keys]";
    let config = file("places-proxy", &GOOD.replace("[keys]", proxies));
    let service = Service::start_with(&config, &LIMITS);
    assert_eq!(held(59, &service).len(), 59);
}
