//! A peer's bytes to messages.
//!
//! [`Decoder::decode`] looks at the first frame of the caller's buffer. A whole message is unmasked in place and handed out as a slice of
//! that buffer; only the fragments of a message that came in several frames are copied, into a buffer that lives as long as the message.
//! Whatever can be refused is refused as soon as it is known: header faults with the first two bytes, size with the header, UTF-8 with
//! each fragment.

use std::io::Cursor;

use tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Control, Data, OpCode},
};

use super::{Error, apply_mask, close_code_is_valid};

/// Which end reads. A server takes only masked frames, a client only frames without a mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Server,
    Client,
}

/// What one frame amounted to. Messages are whole and texts are valid UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
    /// To be answered with a pong of the same payload (at most 125 bytes).
    Ping(&'a [u8]),
    Pong,
    /// Code and reason, if the peer gave them. To be answered with a close frame, once; frames after it mean nothing.
    Close(Option<(u16, &'a str)>),
    /// A fragment was taken; its message is still open.
    Partial,
}

/// The receiving half of one connection. 16 bytes; a fragmented message adds its own bytes while it is open.
#[derive(Debug)]
pub struct Decoder {
    open: Option<Box<Fragments>>,
    role: Role,
}

/// A message that came in more than one frame.
#[derive(Debug)]
struct Fragments {
    bytes: Vec<u8>,
    /// For a text: bytes known to be whole characters. At most three bytes, the start of a character, come after them.
    valid: usize,
    text: bool,
    /// The last fragment has come and the message was handed out; the next call frees it.
    complete: bool,
}

/// A frame's header that passed every check.
struct Head {
    opcode: OpCode,
    fin: bool,
    mask: Option<[u8; 4]>,
    bytes: usize,
    payload_bytes: usize,
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder::new(Role::Server)
    }
}

impl Decoder {
    pub const fn new(role: Role) -> Decoder {
        Decoder { open: None, role }
    }

    /// Reads the first frame of `input`: what it is and how many bytes it took, or `None` if it is not whole yet. Then `input` is
    /// unchanged: append to it ([`Decoder::needed`] says how much) and call again. Call until `None`, which also frees the
    /// buffer of an assembled message.
    ///
    /// # Errors
    /// Whatever RFC 6455 has a peer closed for, and [`Error::TooBig`] for a message above `message_bytes_max`, as soon as the header
    /// is there. The connection is over then.
    pub fn decode<'a>(
        &'a mut self,
        input: &'a mut [u8],
        message_bytes_max: usize,
    ) -> Result<Option<(Event<'a>, usize)>, Error> {
        if self.open.as_ref().is_some_and(|open| open.complete) {
            self.open = None;
        }
        let Some(head) = self.head(input, message_bytes_max)? else { return Ok(None) };
        let used = head.bytes.saturating_add(head.payload_bytes);
        let Some(payload) = input.get_mut(head.bytes..used) else { return Ok(None) };
        if let Some(mask) = head.mask {
            apply_mask(payload, mask);
        }
        let event = match head.opcode {
            OpCode::Control(Control::Ping) => Event::Ping(payload),
            OpCode::Control(Control::Pong) => Event::Pong,
            OpCode::Control(_) => Event::Close(close(payload)?),
            OpCode::Data(Data::Text) if head.fin => Event::Text(str::from_utf8(payload).map_err(|_| Error::Utf8)?),
            OpCode::Data(Data::Binary) if head.fin => Event::Binary(payload),
            OpCode::Data(kind) => {
                let text = kind == Data::Text;
                let open = self
                    .open
                    .get_or_insert_with(|| Box::new(Fragments { bytes: Vec::new(), valid: 0, text, complete: false }));
                open.append(payload, head.fin)?;
                if head.fin { open.message()? } else { Event::Partial }
            }
        };
        Ok(Some((event, used)))
    }

    /// Bytes `input` must have before [`Decoder::decode`] can say more: the whole first frame, or its header while that is incomplete.
    /// To be asked after `decode` answered `None`, when the length is known to be allowed.
    pub fn needed(&self, input: &[u8]) -> usize {
        if let Ok(Some((header, length))) = FrameHeader::parse(&mut Cursor::new(input)) {
            return header.len(length).saturating_add(usize::try_from(length).unwrap_or(usize::MAX));
        }
        let &[_, second, ..] = input else { return 2 };
        let length_bytes = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + length_bytes + if second & 0x80 == 0 { 0 } else { 4 }
    }

    /// Whether a fragmented message is open.
    pub fn is_idle(&self) -> bool {
        self.open.as_ref().is_none_or(|open| open.complete)
    }

    fn head(&self, input: &[u8], message_bytes_max: usize) -> Result<Option<Head>, Error> {
        let &[first, second, ..] = input else { return Ok(None) };
        let (fin, reserved, opcode) = (first & 0x80 != 0, first & 0x70 != 0, OpCode::from(first & 0x0f));
        let (masked, length_code) = (second & 0x80 != 0, second & 0x7f);
        if reserved {
            return Err(Error::ReservedBits);
        }
        match opcode {
            OpCode::Control(Control::Reserved(_)) | OpCode::Data(Data::Reserved(_)) => return Err(Error::Opcode),
            OpCode::Control(_) if !fin || length_code > 125 => return Err(Error::Control),
            OpCode::Data(kind) if (kind == Data::Continue) != self.open.is_some() => return Err(Error::Continuation),
            OpCode::Control(_) | OpCode::Data(_) => {}
        }
        if masked != (self.role == Role::Server) {
            return Err(Error::Mask);
        }

        let mut cursor = Cursor::new(input);
        // Opcodes are all this parser refuses, and they are known to be good.
        let Some((header, length)) = FrameHeader::parse(&mut cursor).map_err(|_| Error::Opcode)? else {
            return Ok(None);
        };
        let shortest = match length_code {
            126 => 126,
            127 => 65_536,
            _ => 0,
        };
        if length < shortest || length > i64::MAX as u64 {
            return Err(Error::Length);
        }
        let assembled = self.open.as_ref().map_or(0, |open| open.bytes.len());
        let payload_bytes = usize::try_from(length).map_err(|_| Error::TooBig)?;
        if matches!(opcode, OpCode::Data(_)) && payload_bytes > message_bytes_max.saturating_sub(assembled) {
            return Err(Error::TooBig);
        }
        Ok(Some(Head { opcode, fin, mask: header.mask, bytes: cursor.position() as usize, payload_bytes }))
    }
}

impl Fragments {
    fn append(&mut self, payload: &[u8], last: bool) -> Result<(), Error> {
        self.bytes.extend_from_slice(payload);
        self.complete = last;
        if !self.text {
            return Ok(());
        }
        // Only what is new is validated, so that many small fragments do not make it quadratic.
        match str::from_utf8(self.bytes.get(self.valid..).unwrap_or_default()) {
            Ok(_) => self.valid = self.bytes.len(),
            Err(error) if error.error_len().is_none() && !last => self.valid += error.valid_up_to(),
            Err(_) => return Err(Error::Utf8),
        }
        Ok(())
    }

    fn message(&self) -> Result<Event<'_>, Error> {
        if self.text {
            str::from_utf8(&self.bytes).map(Event::Text).map_err(|_| Error::Utf8)
        } else {
            Ok(Event::Binary(&self.bytes))
        }
    }
}

/// RFC 6455 section 5.5.1: nothing, or two bytes of code and a reason in UTF-8.
fn close(payload: &[u8]) -> Result<Option<(u16, &str)>, Error> {
    match payload {
        [] => Ok(None),
        [_] => Err(Error::CloseCode),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            if !close_code_is_valid(code) {
                return Err(Error::CloseCode);
            }
            Ok(Some((code, str::from_utf8(reason).map_err(|_| Error::Utf8)?)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Opcode, encode, encode_close, encode_masked};
    use super::*;
    use crate::base::chance::Chance;

    const MASK: [u8; 4] = [1, 2, 3, 4];
    const MAX: usize = 100_000;

    fn frame(opcode: Opcode, fin: bool, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode_masked(opcode, fin, MASK, payload, &mut out);
        out
    }

    /// Everything in `input`, as text; stops at an error or at bytes that are not a whole frame.
    fn events(decoder: &mut Decoder, input: &mut [u8]) -> (Vec<String>, usize, Result<(), Error>) {
        let (mut events, mut at) = (Vec::new(), 0);
        loop {
            match decoder.decode(&mut input[at..], MAX) {
                Ok(Some((event, used))) => {
                    events.push(format!("{event:?}"));
                    at += used;
                }
                Ok(None) => return (events, at, Ok(())),
                Err(error) => return (events, at, Err(error)),
            }
        }
    }

    #[test]
    fn an_idle_connection_is_small() {
        assert!(size_of::<Decoder>() <= 16);
    }

    #[test]
    fn conversations() {
        use Opcode::*;
        let long = "x".repeat(70_000);
        let table: &[(&[Vec<u8>], &[&str])] = &[
            (&[frame(Text, true, b"hi"), frame(Binary, true, &[1])], &["Text(\"hi\")", "Binary([1])"]),
            (&[frame(Text, true, b"")], &["Text(\"\")"]),
            (&[frame(Text, true, long.as_bytes())], &[&format!("Text({long:?})")]),
            (&[frame(Ping, true, b"p"), frame(Pong, true, b"q")], &["Ping([112])", "Pong"]),
            (&[frame(Close, true, b"")], &["Close(None)"]),
            (&[frame(Close, true, b"\x03\xe8bye")], &["Close(Some((1000, \"bye\")))"]),
            // Control frames may stand between fragments, and a character may be cut by them.
            (
                &[
                    frame(Text, false, "a😀".as_bytes().split_at(3).0),
                    frame(Ping, true, b""),
                    frame(Continuation, false, b""),
                    frame(Continuation, true, "a😀".as_bytes().split_at(3).1),
                    frame(Binary, false, b""),
                    frame(Continuation, true, &[7]),
                    frame(Text, true, b"z"),
                ],
                &["Partial", "Ping([])", "Partial", "Text(\"a😀\")", "Partial", "Binary([7])", "Text(\"z\")"],
            ),
        ];
        for (frames, expected) in table {
            let mut input = frames.concat();
            let mut decoder = Decoder::default();
            let (events, used, result) = events(&mut decoder, &mut input);
            assert_eq!(result, Ok(()));
            assert_eq!(events, *expected);
            assert_eq!(used, input.len());
            assert!(decoder.is_idle() && decoder.open.is_none());
        }
    }

    #[test]
    fn faults() {
        use Opcode::*;
        let masked = |head: &[u8]| [head, &MASK].concat();
        let close = |code: u16| frame(Close, true, &code.to_be_bytes());
        let table: &[(Vec<u8>, Error, u16)] = &[
            (vec![0xc1, 0x80], Error::ReservedBits, 1002),
            (vec![0xa1, 0x80], Error::ReservedBits, 1002),
            (vec![0x91, 0x80], Error::ReservedBits, 1002),
            (vec![0x83, 0x80], Error::Opcode, 1002),
            (vec![0x87, 0x80], Error::Opcode, 1002),
            (vec![0x8b, 0x80], Error::Opcode, 1002),
            (vec![0x8f, 0x80], Error::Opcode, 1002),
            (vec![0x89, 0xfe], Error::Control, 1002),
            (vec![0x09, 0x80], Error::Control, 1002),
            (vec![0x08, 0x80], Error::Control, 1002),
            (vec![0x81, 0x02], Error::Mask, 1002),
            (vec![0x80, 0x80], Error::Continuation, 1002),
            (vec![0x00, 0x80], Error::Continuation, 1002),
            ([frame(Text, false, b"a"), vec![0x81, 0x80]].concat(), Error::Continuation, 1002),
            (
                [frame(Text, false, b"a"), frame(Continuation, true, b""), vec![0x80, 0x80]].concat(),
                Error::Continuation,
                1002,
            ),
            (masked(&[0x81, 0xfe, 0, 125]), Error::Length, 1002),
            (masked(&[0x81, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff]), Error::Length, 1002),
            (masked(&[0x81, 0xff, 0x80, 0, 0, 0, 0, 1, 0, 0]), Error::Length, 1002),
            (masked(&[0x81, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), Error::TooBig, 1009),
            (masked(&[0x82, 0xff, 0, 0, 0, 0, 0, 1, 0x86, 0xa1]), Error::TooBig, 1009),
            ([frame(Binary, false, &[0; 99_999]), masked(&[0x80, 0x82])].concat(), Error::TooBig, 1009),
            (frame(Close, true, &[3]), Error::CloseCode, 1002),
            (close(999), Error::CloseCode, 1002),
            (close(1005), Error::CloseCode, 1002),
            (close(2999), Error::CloseCode, 1002),
            (close(5000), Error::CloseCode, 1002),
            (frame(Close, true, b"\x03\xe8\xff"), Error::Utf8, 1007),
            (frame(Text, true, b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80"), Error::Utf8, 1007),
            (frame(Text, true, b"\xf0\x9f\x98"), Error::Utf8, 1007),
            // A fragment is enough to know: nothing waits for the end of the message.
            (frame(Text, false, b"a\xff"), Error::Utf8, 1007),
            ([frame(Text, false, b"\xf4"), frame(Continuation, false, b"\x90")].concat(), Error::Utf8, 1007),
            ([frame(Text, false, b"\xf0\x9f"), frame(Continuation, true, b"\x98")].concat(), Error::Utf8, 1007),
        ];
        for (input, expected, code) in table {
            let (_, _, result) = events(&mut Decoder::default(), &mut input.clone());
            assert_eq!(result, Err(*expected), "{:x?}", &input[..input.len().min(20)]);
            assert_eq!(expected.code(), *code);
        }
    }

    #[test]
    fn an_incomplete_frame_is_unchanged_and_says_what_it_needs() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let whole = frame(Opcode::Binary, true, &vec![9; length]);
            let head = whole.len() - length;
            for cut in (0..whole.len()).filter(|&cut| cut <= head + 1 || cut % 4099 == 0) {
                let mut input = whole[..cut].to_vec();
                let decoder = &mut Decoder::default();
                assert_eq!(decoder.decode(&mut input, MAX), Ok(None));
                assert_eq!(input, whole[..cut]);
                let expected = if cut < 2 {
                    2
                } else if cut < head {
                    head
                } else {
                    whole.len()
                };
                assert_eq!(decoder.needed(&input), expected, "{length} {cut}");
            }
        }
    }

    #[test]
    fn a_client_reads_what_a_server_writes() {
        let mut input = Vec::new();
        encode(Opcode::Text, b"hello", &mut input);
        encode_close(4401, "no", &mut input);
        let (seen, ..) = events(&mut Decoder::new(Role::Client), &mut input);
        assert_eq!(seen, ["Text(\"hello\")", "Close(Some((4401, \"no\")))"]);
        let masked = &mut frame(Opcode::Text, true, b"x");
        assert_eq!(Decoder::new(Role::Client).decode(masked, MAX), Err(Error::Mask));
    }

    /// A valid stream of messages, some in fragments with control frames between them.
    fn stream(chance: &mut Chance) -> Vec<u8> {
        let mut out = Vec::new();
        for _ in 0..20 {
            let text = chance.below(2) == 0;
            let letters = ["a", "é", "漢", "😀"];
            let longest = [8, 200, 3000][chance.below(3) as usize];
            let length = chance.below(longest);
            let message: String = (0..length).map(|_| letters[chance.below(4) as usize]).collect();
            let mut opcode = if text { Opcode::Text } else { Opcode::Binary };
            let mut rest = message.as_bytes();
            loop {
                let mask = (chance.u64() as u32).to_ne_bytes();
                let (now, later) = rest.split_at(chance.below(rest.len() as u64 + 1) as usize);
                let fin = later.is_empty();
                encode_masked(opcode, fin, mask, now, &mut out);
                if chance.below(3) == 0 {
                    let control = if chance.below(2) == 0 { Opcode::Ping } else { Opcode::Pong };
                    encode_masked(control, true, mask, &now[..now.len().min(125)], &mut out);
                }
                if fin {
                    break;
                }
                (opcode, rest) = (Opcode::Continuation, later);
            }
        }
        out
    }

    #[test]
    fn cuts_do_not_change_the_events() {
        let chance = &mut Chance::new([7; 32]);
        for _ in 0..60 {
            let stream = stream(chance);
            let (expected, used, result) = events(&mut Decoder::default(), &mut stream.clone());
            assert_eq!((used, result), (stream.len(), Ok(())));
            assert!(expected.len() >= 20);

            let (mut decoder, mut buffer, mut seen) = (Decoder::default(), Vec::new(), Vec::new());
            let mut rest = stream.as_slice();
            while !rest.is_empty() {
                let most = [2, 40, 1500][chance.below(3) as usize];
                let (now, later) = rest.split_at((1 + chance.below(most) as usize).min(rest.len()));
                buffer.extend_from_slice(now);
                let (new, used, result) = events(&mut decoder, &mut buffer);
                result.unwrap();
                seen.extend(new);
                buffer.drain(..used);
                assert!(decoder.needed(&buffer) > buffer.len());
                rest = later;
            }
            assert_eq!(seen, expected);
        }
    }

    #[test]
    fn garbage_is_refused_or_read_but_never_panics() {
        let chance = &mut Chance::new([8; 32]);
        let mut faults = 0;
        for round in 0..4000 {
            let mut input = if round % 2 == 0 {
                let mut bytes = vec![0; chance.below(64) as usize];
                chance.fill(&mut bytes);
                bytes
            } else {
                let mut bytes = stream(chance);
                bytes.truncate(chance.below(400) as usize);
                for _ in 0..=chance.below(4) {
                    let at = chance.below(bytes.len().max(1) as u64) as usize;
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte = chance.u64() as u8;
                    }
                }
                bytes
            };
            let decoder = &mut Decoder::default();
            let (_, used, result) = events(decoder, &mut input);
            faults += usize::from(result.is_err());
            let _ = decoder.needed(&input[used..]);
        }
        assert!(faults > 1000, "{faults}");
    }
}
