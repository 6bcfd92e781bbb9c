//! What is published, whatever the server: a mark and five numbers of fixed width, padded to the scenario's bytes.
//!
//! ```text
//! ~LG~ P 1f00aa37 0000000e 00000003 0000005c 000000018a3c9d01 xxxxxxxx...
//! mark kind run    room     place    sequence intended time    padding
//! ```
//! (without the spaces: a raw WebSocket server may split at them.) No byte needs escaping in JSON, so the same text goes through any dialect, and a
//! reader finds it by its mark without parsing what stands around it. The numbers are all a receiver needs to know whose it is, which one,
//! and when it should have been sent.

/// Bytes before the padding; a payload is never shorter.
pub const BYTES_MIN: usize = 53;
const MARK: &[u8; 4] = b"~LG~";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Goes to a room; every member's copy is verified.
    Publish,
    /// Is answered to its sender alone.
    Request,
    /// Goes to a room; copies are counted only.
    Noise,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payload {
    pub kind: Kind,
    /// Tells this run's from another's.
    pub run: u32,
    /// Index of the room, over all tenants.
    pub room: u32,
    /// The sender's place in that room.
    pub place: u32,
    /// How many the sender had sent before.
    pub sequence: u32,
    /// When it should have been sent: microseconds of the monotonic clock, whatever the real time of sending.
    pub at_us: u64,
}

impl Payload {
    /// Appends the text, padded with `x` to `bytes`.
    pub fn encode(&self, bytes: usize, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(MARK);
        out.push(match self.kind {
            Kind::Publish => b'P',
            Kind::Request => b'R',
            Kind::Noise => b'N',
        });
        for number in [self.run, self.room, self.place, self.sequence, (self.at_us >> 32) as u32, self.at_us as u32] {
            out.extend_from_slice(&digits(number));
        }
        if out.len() < start + bytes {
            out.resize(start + bytes, b'x');
        }
    }
}

/// Finds payloads in what a server sent. Remembers where the last one stood: the next one stands there too, nearly always.
pub struct Reader {
    mark: memchr::memmem::Finder<'static>,
    place: usize,
}

impl Reader {
    pub fn new() -> Reader {
        Reader { mark: memchr::memmem::Finder::new(MARK), place: 0 }
    }

    /// The payload in `text`, and where it begins.
    pub fn read(&mut self, text: &[u8]) -> Option<(Payload, usize)> {
        if let Some(payload) = text.get(self.place..).and_then(decode) {
            return Some((payload, self.place));
        }
        let place = self.mark.find(text)?;
        let payload = decode(&text[place..])?;
        self.place = place;
        Some((payload, place))
    }
}

/// The payload at the start of `text`. Digits are not looked at: a wrong one makes a number that fits nothing, and samples are compared
/// byte by byte (see [`is_intact`]).
fn decode(text: &[u8]) -> Option<Payload> {
    let head: &[u8; BYTES_MIN] = text.first_chunk()?;
    let (mark, rest) = head.split_first_chunk::<4>()?;
    if mark != MARK {
        return None;
    }
    let (&kind, numbers) = rest.split_first()?;
    let kind = match kind {
        b'P' => Kind::Publish,
        b'R' => Kind::Request,
        b'N' => Kind::Noise,
        _ => return None,
    };
    let (numbers, _) = numbers.as_chunks::<8>();
    let &[run, room, place, sequence, high, low] = numbers else { return None };
    let [run, room, place, sequence, high, low] = [run, room, place, sequence, high, low].map(number);
    Some(Payload { kind, run, room, place, sequence, at_us: u64::from(high) << 32 | u64::from(low) })
}

/// Whether the text at `place` is, byte by byte, what the sender of `payload` wrote.
pub fn is_intact(payload: &Payload, text: &[u8], place: usize, bytes: usize) -> bool {
    let mut expected = Vec::with_capacity(bytes.max(BYTES_MIN));
    payload.encode(bytes, &mut expected);
    let rest = &text[place..];
    rest.starts_with(&expected) && rest.get(expected.len()) != Some(&b'x')
}

fn digits(number: u32) -> [u8; 8] {
    std::array::from_fn(|at| b"0123456789abcdef"[(number >> (28 - 4 * at) & 15) as usize])
}

/// Eight hexadecimal digits at once: a loop over them costs more than the rest of the decoding.
fn number(digits: [u8; 8]) -> u32 {
    let text = u64::from_be_bytes(digits);
    let letter = text >> 6 & 0x0101_0101_0101_0101;
    let nibbles = (text & 0x0f0f_0f0f_0f0f_0f0f) + letter * 9;
    let bytes = (nibbles | nibbles >> 4) & 0x00ff_00ff_00ff_00ff;
    let words = (bytes | bytes >> 8) & 0x0000_ffff_0000_ffff;
    (words | words >> 16) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(kind: Kind, number: u32) -> Payload {
        let at_us = u64::from(number) << 24 | 0xfed;
        Payload { kind, run: number, room: number ^ 1, place: !number, sequence: number / 3, at_us }
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        for kind in [Kind::Publish, Kind::Request, Kind::Noise] {
            for number in [0, 1, 9, 10, 0x0123_4567, 0x89ab_cdef, u32::MAX] {
                for (bytes, expected) in [(0, BYTES_MIN), (53, 53), (54, 54), (100, 100)] {
                    let payload = payload(kind, number);
                    let mut text = b"42[\"event\",\"".to_vec();
                    payload.encode(bytes, &mut text);
                    assert_eq!(text.len(), 12 + expected);
                    text.extend_from_slice(b"\"]");
                    assert_eq!(Reader::new().read(&text), Some((payload, 12)));
                    assert!(is_intact(&payload, &text, 12, bytes));
                }
            }
        }
    }

    #[test]
    fn a_reader_follows_a_payload_that_moves() {
        let mut reader = Reader::new();
        for before in ["", "42[\"event\",\"", "431[\"", "", "42[\"event\",\""] {
            let mut text = before.as_bytes().to_vec();
            payload(Kind::Publish, 7).encode(100, &mut text);
            assert_eq!(reader.read(&text), Some((payload(Kind::Publish, 7), before.len())));
        }
        for text in
            [&b""[..], b"42[\"connected\",{}]", b"~LG~P", b"~LG~Q1f00aa370000000e000000030000005c000000018a3c9d01"]
        {
            assert_eq!(reader.read(text), None, "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn damage_is_seen() {
        let whole = payload(Kind::Publish, 7);
        let mut text = Vec::new();
        whole.encode(60, &mut text);
        for (at, byte) in [(59, b'y'), (12, b'G')] {
            let mut broken = text.clone();
            broken[at] = byte;
            let (read, place) = Reader::new().read(&broken).unwrap();
            assert!(!is_intact(&read, &broken, place, 60), "{at}");
        }
        assert!(!is_intact(&whole, &text[..58], 0, 60));
        text.push(b'x');
        assert!(!is_intact(&whole, &text, 0, 60));
    }
}
