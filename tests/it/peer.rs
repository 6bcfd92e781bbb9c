//! A client that can do wrong: bytes as they are, resets, silence.

use crate::server::SOON;
use socket2::SockRef;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

pub struct Peer {
    pub stream: TcpStream,
}

/// How a connection ended, seen from here.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// With a close frame of this code.
    Code(u16),
    /// Without one.
    Closed,
}

impl Peer {
    pub fn connect(address: SocketAddr) -> Peer {
        let stream = TcpStream::connect_timeout(&address, SOON).expect("connects");
        stream.set_read_timeout(Some(SOON)).expect("a live socket");
        stream.set_write_timeout(Some(SOON)).expect("a live socket");
        stream.set_nodelay(true).expect("a live socket");
        Peer { stream }
    }

    /// Opens a WebSocket and reads its 101.
    pub fn websocket(address: SocketAddr, target: &str) -> Peer {
        let mut peer = Peer::connect(address);
        peer.send(upgrade(target));
        let head = peer.read_head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{target}: {head}");
        peer
    }

    /// A Socket.IO client that is connected: its welcome is read.
    pub fn socket_io(address: SocketAddr, token: &str) -> Peer {
        let mut peer = Peer::websocket(address, "/socket.io/?EIO=4&transport=websocket");
        peer.send_frame(0x81, format!("40{{\"token\":\"{token}\"}}").as_bytes());
        for start in ["0{", "40{", "42[\"connected\""] {
            let text = peer.next_text();
            assert!(text.starts_with(start), "{text}");
        }
        peer
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("sends");
    }

    /// Sends what a peer that may be gone already takes.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// A masked frame; `first` is its first byte.
    pub fn send_frame(&mut self, first: u8, payload: &[u8]) {
        self.send(frame(first, payload));
    }

    pub fn read_head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).expect("a head");
            head.push(byte[0]);
        }
        String::from_utf8(head).expect("text")
    }

    /// One answer with a `Content-Length`.
    pub fn read_answer(&mut self) -> String {
        let head = self.read_head();
        let length =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        self.stream.read_exact(&mut body).expect("a body");
        head + &String::from_utf8_lossy(&body)
    }

    /// Everything until the other side closes, orderly or not. Fails when it stays open.
    pub fn read_to_end(&mut self) -> String {
        String::from_utf8_lossy(&self.bytes_to_end()).into_owned()
    }

    fn bytes_to_end(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        let mut bytes = [0; 65536];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return all,
                Ok(count) => all.extend_from_slice(&bytes[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    panic!("not closed within {SOON:?}; came: {}", String::from_utf8_lossy(&all))
                }
                Err(_) => return all,
            }
        }
    }

    /// Reads one unmasked frame: its first byte and its payload.
    pub fn next_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut head = [0; 2];
        self.stream.read_exact(&mut head).ok()?;
        assert_eq!(head[1] & 0x80, 0, "a server does not mask");
        let length = match head[1] {
            126 => {
                let mut bytes = [0; 2];
                self.stream.read_exact(&mut bytes).ok()?;
                usize::from(u16::from_be_bytes(bytes))
            }
            127 => {
                let mut bytes = [0; 8];
                self.stream.read_exact(&mut bytes).ok()?;
                u64::from_be_bytes(bytes) as usize
            }
            length => usize::from(length),
        };
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).ok()?;
        Some((head[0], payload))
    }

    pub fn next_text(&mut self) -> String {
        let (first, payload) = self.next_frame().expect("a frame");
        assert_eq!(first, 0x81);
        String::from_utf8(payload).expect("text")
    }

    /// Reads to the end: the code of the close frame, if there is one.
    pub fn end(&mut self) -> End {
        while let Some((first, payload)) = self.next_frame() {
            if first == 0x88 {
                let code = payload.first_chunk().map_or(1005, |bytes| u16::from_be_bytes(*bytes));
                self.bytes_to_end();
                return End::Code(code);
            }
        }
        End::Closed
    }

    /// Whether the other side closes within `time`, without a byte read counted against it.
    pub fn is_closed_within(&mut self, time: Duration) -> bool {
        self.end_within(time).is_some()
    }

    /// How the other side ends within `time`, and what it said before.
    pub fn end_within(&mut self, time: Duration) -> Option<String> {
        self.stream.set_read_timeout(Some(time)).expect("a live socket");
        let mut bytes = [0; 4096];
        let mut said = Vec::new();
        let end = loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => break Some("end of file".to_owned()),
                Ok(count) => said.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break None,
                Err(error) => break Some(error.to_string()),
            }
        };
        self.stream.set_read_timeout(Some(SOON)).ok();
        end.map(|end| format!("{end} after {:?}", String::from_utf8_lossy(&said)))
    }

    /// Ends with a reset, as a killed process with unread bytes does.
    pub fn reset(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("a live socket");
    }

    /// Says that nothing more comes, and still reads.
    pub fn finish(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }
}

pub fn upgrade(target: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// A masked frame (RFC 6455 section 5.2); `first` holds FIN, RSV and the opcode.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [7, 99, 200, 1];
    let mut out = vec![first];
    match payload.len() {
        length @ 0..126 => out.push(0x80 | length as u8),
        length @ 126..0x1_0000 => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&MASK);
    out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    out
}
