//! Messages to frames. Every message is one frame: a server has no use for fragments.
//!
//! [`frame_header`] is apart from the payload so that a frame whose payload is already in memory can be written without a copy.

use super::apply_mask;

/// Bytes of the longest header of a frame without a mask.
pub const HEADER_BYTES_MAX: usize = 10;
/// Bytes of a control frame's payload (RFC 6455 section 5.5).
const CONTROL_BYTES_MAX: usize = 125;
const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;

/// What a frame is (RFC 6455 section 5.2); reserved opcodes cannot be named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    Continuation = 0,
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

/// The header of a whole message from a server with a payload of `length` bytes, and how many bytes of the array it takes.
pub fn frame_header(opcode: Opcode, length: usize) -> ([u8; HEADER_BYTES_MAX], usize) {
    header(FIN | opcode as u8, 0, length)
}

/// Appends a whole message from a server.
pub fn encode(opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
    let control = matches!(opcode, Opcode::Close | Opcode::Ping | Opcode::Pong);
    debug_assert!(!control || payload.len() <= CONTROL_BYTES_MAX, "a control frame's payload is at most 125 bytes");
    let (header, used) = frame_header(opcode, payload.len());
    out.reserve(used + payload.len());
    out.extend_from_slice(&header[..used]);
    out.extend_from_slice(payload);
}

/// Appends a close frame. The reason is cut to the 123 bytes that fit, between characters.
pub fn encode_close(code: u16, reason: &str, out: &mut Vec<u8>) {
    debug_assert!(super::close_code_is_valid(code), "{code} must not be sent");
    let mut end = reason.len().min(CONTROL_BYTES_MAX - 2);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let (header, used) = frame_header(Opcode::Close, 2 + end);
    out.extend_from_slice(&header[..used]);
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(&reason.as_bytes()[..end]);
}

/// Appends one frame as a client sends it: for tests and load generators. `fin` is false for all but the last fragment of a message.
pub fn encode_masked(opcode: Opcode, fin: bool, mask: [u8; 4], payload: &[u8], out: &mut Vec<u8>) {
    let (header, used) = header(if fin { FIN | opcode as u8 } else { opcode as u8 }, MASKED, payload.len());
    out.extend_from_slice(&header[..used]);
    out.extend_from_slice(&mask);
    let start = out.len();
    out.extend_from_slice(payload);
    apply_mask(&mut out[start..], mask);
}

fn header(first: u8, masked: u8, length: usize) -> ([u8; HEADER_BYTES_MAX], usize) {
    let mut header = [0; HEADER_BYTES_MAX];
    header[0] = first;
    if length <= 125 {
        header[1] = masked | length as u8;
        (header, 2)
    } else if let Ok(length) = u16::try_from(length) {
        header[1] = masked | 126;
        header[2..4].copy_from_slice(&length.to_be_bytes());
        (header, 4)
    } else {
        header[1] = masked | 127;
        header[2..10].copy_from_slice(&(length as u64).to_be_bytes());
        (header, 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers() {
        for (opcode, length, expected) in [
            (Opcode::Text, 0, &[0x81, 0][..]),
            (Opcode::Text, 5, &[0x81, 5]),
            (Opcode::Ping, 125, &[0x89, 125]),
            (Opcode::Binary, 126, &[0x82, 126, 0, 126]),
            (Opcode::Binary, 65_535, &[0x82, 126, 0xff, 0xff]),
            (Opcode::Binary, 65_536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let (header, used) = frame_header(opcode, length);
            assert_eq!(&header[..used], expected);
        }
    }

    #[test]
    fn frames_are_those_of_tungstenite() {
        use tungstenite::protocol::frame::{
            Frame,
            coding::{Data, OpCode},
        };
        for length in [0, 1, 125, 126, 127, 65_535, 65_536] {
            let payload = vec![b'x'; length];
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            encode(Opcode::Text, &payload, &mut ours);
            Frame::message(payload, OpCode::Data(Data::Text), true).format(&mut theirs).unwrap();
            assert_eq!(ours, theirs, "{length}");
        }
    }

    #[test]
    fn the_examples_of_the_rfc() {
        // Section 5.7.
        let mut out = Vec::new();
        encode(Opcode::Text, b"Hello", &mut out);
        assert_eq!(out, [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
        out.clear();
        encode_masked(Opcode::Text, true, [0x37, 0xfa, 0x21, 0x3d], b"Hello", &mut out);
        assert_eq!(out, [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        for (reason, expected) in
            [("", 0), ("bye", 3), (&"x".repeat(200), 123), (&"é".repeat(100), 122), (&"😀".repeat(40), 120)]
        {
            let mut out = Vec::new();
            encode_close(1000, reason, &mut out);
            assert_eq!(out[..4], [0x88, 2 + expected, 0x03, 0xe8]);
            assert_eq!(std::str::from_utf8(&out[4..]).unwrap(), &reason[..usize::from(expected)]);
        }
    }
}
