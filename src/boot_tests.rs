//! A whole server in one process: it starts, answers, drains, and two of them do not share a port.

use super::*;
use crate::config::{Env, Sources};
use std::{io::Read, net::TcpStream};

fn config() -> Config {
    let given = [("HOST", "127.0.0.1"), ("PORT", "0"), ("ADMIN_PORT", "0"), ("SHARDS", "2"), ("API_KEYS", "all,t=one")];
    let given = given.iter().chain(&[("JWT_SECRET", "a-shared-secret-of-the-tests-32-b")]);
    let env = Env::new(given.map(|&(name, value)| (name.into(), value.into())));
    Config::load(&Sources { file: None, flags: Vec::new(), env }).unwrap()
}

fn ask(address: SocketAddr, path: &str, lines: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{lines}\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_server_starts_answers_and_drains() {
    let server = Server::new(config()).demo(b"<!doctype html>".as_slice()).spawn().unwrap();
    // Enough connections for both shards to get some.
    for _ in 0..16 {
        assert!(
            ask(server.addr(), "/health/websocket", "").contains("\"service\":\"websocket\",\"connectedClients\":0")
        );
    }
    for (path, status) in [
        ("/demo", "200 OK"),
        ("/nowhere", "404 Not Found"),
        ("/metrics", "404 Not Found"),
        ("/ws", "426 Upgrade Required"),
    ] {
        assert!(ask(server.addr(), path, "").starts_with(&format!("HTTP/1.1 {status}\r\n")), "{path}");
    }
    for (bearer, status) in [("all", "200 OK"), ("one", "401 Unauthorized"), ("none", "401 Unauthorized")] {
        let answer = ask(server.admin_addr(), "/metrics", &format!("Authorization: Bearer {bearer}\r\n"));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{bearer}");
        assert_eq!(answer.contains("\ntenantcast_connections_accepted_total{shard=\"1\"} "), bearer == "all");
    }
    let mut same = config();
    same.server.address = server.addr();
    let second = Server::new(same).spawn();
    assert!(matches!(second, Err(Error::Listen { .. })), "an address is served once");
    assert_eq!(server.announce("news", "{"), Err(AnnounceError::NotJson));
    server.announce("news", "{}").unwrap();

    // A request that is half there when the drain begins is still answered, and its connection ends.
    let mut half = TcpStream::connect(server.addr()).unwrap();
    half.write_all(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\nGET /health/ready").unwrap();
    let mut first = [0; 12];
    half.read_exact(&mut first).unwrap();
    let addr = server.addr();
    server.drain();
    let drains = |answer: &str| (0..2).all(|n| answer.contains(&format!("\ntenantcast_draining{{shard=\"{n}\"}} 1\n")));
    while !drains(&ask(server.admin_addr(), "/metrics", "Authorization: Bearer all\r\n")) {}
    half.write_all(b" HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut rest = String::new();
    half.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("HTTP/1.1 503 ") && rest.contains("draining"), "{rest}");
    drop(half);
    assert_eq!(server.wait().unwrap(), Ended::Drained);
    assert!(TcpStream::connect(addr).is_err());
}

#[test]
fn a_server_stops_at_once() {
    let server = Server::new(config()).spawn().unwrap();
    let open = TcpStream::connect(server.addr()).unwrap();
    server.stop();
    assert_eq!(server.wait().unwrap(), Ended::Stopped);
    drop(open);
}

#[test]
fn the_clock_runs_and_processors_are_known() {
    let clock = SystemClock::new();
    let (a, b) = (clock.now(), clock.now());
    assert!(b.at >= a.at && a.unix.seconds() > 1_700_000_000);
    assert!(!cpus().unwrap().is_empty());
}
