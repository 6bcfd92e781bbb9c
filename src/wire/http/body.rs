//! Request bodies as they arrive: by Content-Length or in chunks (RFC 9112 sections 6 and 7).
//!
//! ```text
//!  Size -> [Extension] -> SizeEnd -> Data -> DataCr -> DataLf -> Size        chunk of more than 0 bytes
//!                            `-----> LineStart -> [Trailer -> TrailerEnd -> LineStart] -> LastLf -> Done
//! ```
//! Invariant: at most the given number of bytes is ever appended, and the lines between chunks are bounded as a whole, so that a peer
//! cannot keep a reader busy with framing alone. Trailers and chunk extensions are read past.

use super::{Error, request::BodyLength};

/// Bytes of one chunk's size and extensions.
const CHUNK_LINE_BYTES_MAX: u32 = 256;
/// Bytes of all trailers.
const TRAILER_BYTES_MAX: u32 = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Counted bytes left of a body with a Content-Length.
    Counted(u64),
    /// In the hexadecimal size of a chunk; `digits` of it were read.
    Size {
        size: u64,
        digits: u8,
    },
    Extension(u64),
    SizeEnd(u64),
    Data(u64),
    DataCr,
    DataLf,
    LineStart,
    Trailer,
    TrailerEnd,
    LastLf,
    Done,
}

/// Reads one body. 32 bytes.
#[derive(Debug)]
pub struct Reader {
    state: State,
    /// Bytes that may still be appended.
    room: u64,
    /// Bytes of the present chunk line, or of the trailers.
    line_bytes: u32,
}

impl Reader {
    /// # Errors
    /// [`Error::BodyTooLarge`] if the announced length is above `bytes_max`.
    pub fn new(length: BodyLength, bytes_max: usize) -> Result<Reader, Error> {
        let room = bytes_max as u64;
        let state = match length {
            BodyLength::None | BodyLength::Length(0) => State::Done,
            BodyLength::Length(length) if length > room => return Err(Error::BodyTooLarge),
            BodyLength::Length(length) => State::Counted(length),
            BodyLength::Chunked => State::Size { size: 0, digits: 0 },
        };
        Ok(Reader { state, room, line_bytes: 0 })
    }

    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Appends what `input` has of the body to `out`: how many bytes of `input` were read, and whether the body is whole. All of `input`
    /// is read unless the body ends in it; what is left is the next request.
    ///
    /// # Errors
    /// [`Error::BodyTooLarge`] for chunks above the bound, as soon as the size of the one that is too much is known;
    /// [`Error::Malformed`] for broken chunks.
    pub fn feed(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(usize, bool), Error> {
        let mut rest = input;
        while self.state != State::Done {
            if let State::Counted(left) | State::Data(left) = self.state {
                let most = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                let (now, later) = rest.split_at(most);
                out.extend_from_slice(now);
                rest = later;
                self.state = match (self.state, left - now.len() as u64) {
                    (State::Counted(_), 0) => State::Done,
                    (State::Counted(_), left) => State::Counted(left),
                    (_, 0) => State::DataCr,
                    (_, left) => State::Data(left),
                };
                if rest.is_empty() {
                    break;
                }
                continue;
            }
            let Some((&byte, later)) = rest.split_first() else { break };
            rest = later;
            self.state = self.framing(byte)?;
        }
        Ok((input.len() - rest.len(), self.is_done()))
    }

    /// One byte of what stands between the data of chunks.
    fn framing(&mut self, byte: u8) -> Result<State, Error> {
        self.line_bytes += 1;
        let line_bytes_max = match self.state {
            State::LineStart | State::Trailer | State::TrailerEnd | State::LastLf => TRAILER_BYTES_MAX,
            _ => CHUNK_LINE_BYTES_MAX,
        };
        if self.line_bytes > line_bytes_max {
            return Err(Error::Malformed("chunk line or trailer is too long"));
        }
        Ok(match (self.state, byte) {
            (State::Size { size, digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                if digits == 16 {
                    return Err(Error::Malformed("chunk size has too many digits"));
                }
                let digit = match byte {
                    b'0'..=b'9' => byte - b'0',
                    _ => (byte | 0x20) - b'a' + 10,
                };
                State::Size { size: size << 4 | u64::from(digit), digits: digits + 1 }
            }
            (State::Size { size, digits: 1.. }, b'\r') => State::SizeEnd(size),
            (State::Size { size, digits: 1.. }, b';') => State::Extension(size),
            (State::Extension(size), b'\r') => State::SizeEnd(size),
            // A line feed alone ends a line for some readers and not for others.
            (State::Extension(size), byte) if byte != b'\n' => State::Extension(size),
            (State::SizeEnd(size), b'\n') => {
                self.line_bytes = 0;
                self.room = self.room.checked_sub(size).ok_or(Error::BodyTooLarge)?;
                if size == 0 { State::LineStart } else { State::Data(size) }
            }
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => {
                self.line_bytes = 0;
                State::Size { size: 0, digits: 0 }
            }
            (State::LineStart, b'\r') => State::LastLf,
            (State::LineStart | State::Trailer, byte) if byte != b'\r' && byte != b'\n' => State::Trailer,
            (State::Trailer, b'\r') => State::TrailerEnd,
            (State::TrailerEnd, b'\n') => State::LineStart,
            (State::LastLf, b'\n') => State::Done,
            _ => return Err(Error::Malformed("broken chunk")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::chance::Chance;

    const MAX: usize = 20;

    /// The body and what is left of `input`, whatever the pieces it comes in.
    fn check(length: BodyLength, input: &[u8], expected: Result<Option<(&str, &str)>, Error>) {
        for piece in [1, 2, 3, 7, usize::MAX] {
            let (mut out, mut at) = (Vec::new(), 0);
            let result = Reader::new(length, MAX).and_then(|mut reader| {
                for part in input.chunks(piece) {
                    let (used, done) = reader.feed(part, &mut out)?;
                    at += used;
                    if done {
                        break;
                    }
                    assert_eq!(used, part.len());
                }
                Ok(reader.is_done())
            });
            let text = String::from_utf8_lossy(&out);
            let left = String::from_utf8_lossy(&input[at..]);
            assert_eq!(result.map(|done| done.then_some((&*text, &*left))), expected, "{input:?} in pieces of {piece}");
            assert!(out.len() <= MAX);
        }
    }

    #[test]
    fn a_reader_is_small() {
        assert!(size_of::<Reader>() <= 32);
    }

    #[test]
    fn counted() {
        check(BodyLength::None, b"GET", Ok(Some(("", "GET"))));
        check(BodyLength::Length(0), b"GET", Ok(Some(("", "GET"))));
        check(BodyLength::Length(3), b"abcGET", Ok(Some(("abc", "GET"))));
        check(BodyLength::Length(20), b"abc", Ok(None));
        check(BodyLength::Length(21), b"abc", Err(Error::BodyTooLarge));
        check(BodyLength::Length(u64::MAX), b"abc", Err(Error::BodyTooLarge));
    }

    #[test]
    fn chunked() {
        let broken = Err(Error::Malformed("broken chunk"));
        for (input, expected) in [
            ("0\r\n\r\nGET", Ok(Some(("", "GET")))),
            ("3\r\nabc\r\n0\r\n\r\n", Ok(Some(("abc", "")))),
            ("3\r\nabc\r\nA\r\n0123456789\r\n000\r\n\r\nG", Ok(Some(("abc0123456789", "G")))),
            ("3;a=b;c=\"d\"\r\na\r\n\r\n0\r\nTrailer: x\r\nOther: y\r\n\r\nG", Ok(Some(("a\r\n", "G")))),
            ("3\r\nabc\r\n0\r\n", Ok(None)),
            ("14\r\n01234567890123456789\r\n0\r\n\r\n", Ok(Some(("01234567890123456789", "")))),
            ("15\r\n", Err(Error::BodyTooLarge)),
            ("13\r\n0123456789012345678\r\n2\r\n", Err(Error::BodyTooLarge)),
            ("ffffffffffffffff\r\n", Err(Error::BodyTooLarge)),
            ("00000000000000003\r\n", Err(Error::Malformed("chunk size has too many digits"))),
            ("\r\n", broken),
            (";a\r\n", broken),
            ("-1\r\n", broken),
            ("0x3\r\n", broken),
            ("3 \r\nabc", broken),
            ("3\nabc\n", broken),
            ("3;a\nabc\n", broken),
            ("3\r\nabcd\r\n", broken),
            ("3\r\nabc\n0\r\n\r\n", broken),
            ("0\r\nA: b\n\r\n", broken),
            ("0\r\n\n", broken),
        ] {
            check(BodyLength::Chunked, input.as_bytes(), expected);
        }
        let long = Err(Error::Malformed("chunk line or trailer is too long"));
        check(BodyLength::Chunked, format!("3;{}\r\n", "x".repeat(300)).as_bytes(), long);
        check(BodyLength::Chunked, format!("0\r\n{}", "a: b\r\n".repeat(1000)).as_bytes(), long);
    }

    #[test]
    fn garbage_is_refused_or_read_but_never_panics() {
        let chance = &mut Chance::new([5; 32]);
        for _ in 0..20_000 {
            let alphabet = b"0123456789abcdefF\r\n\r\n;x\r\n";
            let input: Vec<u8> =
                (0..chance.below(60)).map(|_| alphabet[chance.below(alphabet.len() as u64) as usize]).collect();
            let mut out = Vec::new();
            let mut reader = Reader::new(BodyLength::Chunked, MAX).unwrap();
            if let Ok((used, done)) = reader.feed(&input, &mut out) {
                assert!(done || used == input.len());
            }
            assert!(out.len() <= MAX);
        }
    }
}
