//! The servers that other tests need can be started here, and restarted after `kill -9`.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use common::servers::{Port, Postgres, Redis, listens};

#[test]
fn a_port_is_assigned_once_while_it_is_held() {
    let held: Vec<Port> = (0..50).map(|_| Port::free()).collect();
    let numbers: std::collections::HashSet<u16> = held.iter().map(Port::number).collect();
    assert_eq!(numbers.len(), held.len());
}

#[cfg(target_os = "linux")]
#[test]
fn another_process_that_listens_on_the_port_of_a_server_is_not_mistaken_for_it() {
    let port = Port::free();
    assert!(!listens(std::process::id(), port.number()));
    let _listener = TcpListener::bind(("127.0.0.1", port.number())).unwrap();
    assert!(listens(std::process::id(), port.number()));
    let other = Redis::start();
    assert!(!listens(std::process::id(), other.port()));
}

#[test]
fn a_postgres_restarts_on_the_same_port_after_it_was_killed() {
    let mut postgres = Postgres::start();
    let port = postgres.port();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_ok());
    postgres.kill();
    postgres.restart();
    assert_eq!(postgres.port(), port);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_ok());
    drop(postgres);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "it outlives the test");
}

#[test]
fn a_redis_keeps_what_it_acknowledged_before_it_was_killed() {
    let mut redis = Redis::start();
    assert_eq!(ask(&redis, "SET a 1\r\n"), "+OK\r\n");
    redis.kill();
    redis.restart();
    assert_eq!(ask(&redis, "GET a\r\n"), "$1\r\n1\r\n");
}

fn ask(redis: &Redis, command: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", redis.port())).unwrap();
    stream.write_all(command.as_bytes()).unwrap();
    let mut answer = [0; 64];
    let length = stream.read(&mut answer).unwrap();
    String::from_utf8_lossy(&answer[..length]).into_owned()
}
