//! WebSocket frames of a client (RFC 6455, section 5): what a server sent is borrowed from the read buffer, what goes out is masked.
//!
//! A whole message is one frame: the servers measured here never fragment, and a fragment is reported instead of reassembled.

use std::io::Cursor;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// One frame of the server.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    Text(&'a [u8]),
    Binary(&'a [u8]),
    Ping(&'a [u8]),
    Pong,
    /// The status code, 1005 when the frame carries none.
    Close(u16),
}

/// Bytes no server may send to a client.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("a frame with a reserved bit or opcode")]
    Reserved,
    #[error("a masked frame from the server")]
    Masked,
    #[error("a fragmented message")]
    Fragmented,
    #[error("a frame of {0} bytes")]
    TooLong(u64),
}

/// The first frame of `bytes` and its length in them; `None` when more bytes are needed. A frame above `bytes_max` is an error.
#[inline]
pub fn decode(bytes: &[u8], bytes_max: usize) -> Result<Option<(Frame<'_>, usize)>, FrameError> {
    // Nearly every frame is a whole text of less than 64 KiB; a general header's parser takes longer than the rest of a delivery's way.
    let (length, start) = match *bytes {
        [0x81, length @ 0..=125, ..] => (usize::from(length), 2),
        [0x81, 126, high, low, ..] => (usize::from(u16::from_be_bytes([high, low])), 4),
        _ => return decode_any(bytes, bytes_max),
    };
    if length > bytes_max {
        return Err(FrameError::TooLong(length as u64));
    }
    Ok(bytes.get(start..start + length).map(|text| (Frame::Text(text), start + length)))
}

fn decode_any(bytes: &[u8], bytes_max: usize) -> Result<Option<(Frame<'_>, usize)>, FrameError> {
    let mut cursor = Cursor::new(bytes);
    let Some((header, length)) = FrameHeader::parse(&mut cursor).map_err(|_| FrameError::Reserved)? else {
        return Ok(None);
    };
    if header.mask.is_some() {
        return Err(FrameError::Masked);
    }
    if header.rsv1 || header.rsv2 || header.rsv3 {
        return Err(FrameError::Reserved);
    }
    if length > bytes_max as u64 {
        return Err(FrameError::TooLong(length));
    }
    let start = cursor.position() as usize;
    let end = start + length as usize;
    let Some(payload) = bytes.get(start..end) else { return Ok(None) };
    let frame = match header.opcode {
        OpCode::Data(_) if !header.is_final => return Err(FrameError::Fragmented),
        OpCode::Data(Data::Text) => Frame::Text(payload),
        OpCode::Data(Data::Binary) => Frame::Binary(payload),
        OpCode::Data(Data::Continue) => return Err(FrameError::Fragmented),
        OpCode::Control(Control::Ping) => Frame::Ping(payload),
        OpCode::Control(Control::Pong) => Frame::Pong,
        OpCode::Control(Control::Close) => {
            Frame::Close(payload.first_chunk::<2>().map_or(1005, |code| u16::from_be_bytes(*code)))
        }
        OpCode::Data(Data::Reserved(_)) | OpCode::Control(Control::Reserved(_)) => return Err(FrameError::Reserved),
    };
    Ok(Some((frame, end)))
}

/// Appends a masked text frame.
pub fn encode_text(text: &[u8], mask: [u8; 4], out: &mut Vec<u8>) {
    encode(OpCode::Data(Data::Text), text, mask, out);
}

/// Appends a masked pong.
pub fn encode_pong(payload: &[u8], mask: [u8; 4], out: &mut Vec<u8>) {
    encode(OpCode::Control(Control::Pong), payload, mask, out);
}

fn encode(opcode: OpCode, payload: &[u8], mask: [u8; 4], out: &mut Vec<u8>) {
    let header = FrameHeader { is_final: true, opcode, mask: Some(mask), ..FrameHeader::default() };
    header.format(payload.len() as u64, out).expect("writing to a Vec cannot fail");
    let start = out.len();
    out.extend_from_slice(payload);
    let (wholes, rest) = out[start..].as_chunks_mut::<4>();
    for whole in wholes {
        *whole = (u32::from_ne_bytes(*whole) ^ u32::from_ne_bytes(mask)).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_what_a_server_may_send_and_nothing_else() {
        let long = [&[0x81, 126, 0, 200][..], &[b'x'; 200]].concat();
        type Answer<'a> = Result<Option<(Frame<'a>, usize)>, FrameError>;
        let table: &[(&[u8], Answer<'_>)] = &[
            (b"", Ok(None)),
            (b"\x81", Ok(None)),
            (b"\x81\x02h", Ok(None)),
            (b"\x81\x02hi!", Ok(Some((Frame::Text(b"hi"), 4)))),
            (b"\x82\x01\xff", Ok(Some((Frame::Binary(b"\xff"), 3)))),
            (b"\x89\x01p", Ok(Some((Frame::Ping(b"p"), 3)))),
            (b"\x8a\x00", Ok(Some((Frame::Pong, 2)))),
            (b"\x88\x00", Ok(Some((Frame::Close(1005), 2)))),
            (b"\x88\x02\x11\x94", Ok(Some((Frame::Close(4500), 4)))),
            (&long, Ok(Some((Frame::Text(&long[4..]), 204)))),
            (&long[..4], Ok(None)),
            (b"\x81\x82abcdhi", Err(FrameError::Masked)),
            (b"\xc1\x00", Err(FrameError::Reserved)),
            (b"\x83\x00", Err(FrameError::Reserved)),
            (b"\x01\x01a", Err(FrameError::Fragmented)),
            (b"\x80\x01a", Err(FrameError::Fragmented)),
            (b"\x81\x7f\xff\xff\xff\xff\xff\xff\xff\xff", Err(FrameError::TooLong(u64::MAX))),
            (b"\x81\x7e\x10\x00", Err(FrameError::TooLong(4096))),
        ];
        for (bytes, expected) in table {
            assert_eq!(&decode(bytes, 1024), expected, "{bytes:x?}");
        }
    }

    #[test]
    fn what_goes_out_is_masked() {
        let mut out = Vec::new();
        encode_text(b"hello", [1, 2, 3, 4], &mut out);
        assert_eq!(out, b"\x81\x85\x01\x02\x03\x04igohn");
    }
}
