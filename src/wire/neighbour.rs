//! What nodes say to each other about requests for a session that another of them has: each message goes to the channel of the node it is for.
//!
//! ```text
//! 0     'n'
//! 1     kind
//! 2..4  the node that says it
//! 4..12 number of the request, chosen by who asks
//!
//! ask      0   12 method: 0 GET, 1 POST   13..28 session id   28.. body
//! left     1   nobody waits for the answer any more
//! release  2   a GET is to be answered now, whether there is something or not
//! answer   3   12..14 status   14 content type   15..17 Retry-After, 0 for none   17.. body
//! held     4   12.. more numbers, 8 bytes each: these wait here
//! ```
//! Numbers are big endian.
//!
//! Invariant: bytes are a whole message or none; what cannot be read names nobody and asks nothing.

use super::http::Response;
use crate::base::id::{NodeId, Sid};
use std::borrow::Cow;

/// Tells these messages from [envelopes](super::envelope).
const MARK: u8 = b'n';
const HEAD: usize = 12;

/// Content types an answer may have, by their number.
const CONTENT: [Option<&str>; 5] = [
    None,
    Some("text/plain; charset=UTF-8"),
    Some("text/html"),
    Some("application/json"),
    Some("text/html; charset=UTF-8"),
];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Who says it.
    pub from: NodeId,
    pub word: Word<'a>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word<'a> {
    /// `body`: of a POST; none of a GET.
    Ask {
        number: u64,
        sid: Sid,
        body: Option<&'a str>,
    },
    Left {
        number: u64,
    },
    Release {
        number: u64,
    },
    Answer {
        number: u64,
        status: u16,
        content_type: Option<&'static str>,
        retry_after_s: Option<u32>,
        body: &'a [u8],
    },
    /// At least one.
    Held {
        numbers: Vec<u64>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a message of a node")]
pub struct Broken;

impl<'a> Word<'a> {
    pub fn answer(number: u64, response: &'a Response) -> Word<'a> {
        Word::Answer {
            number,
            status: response.status,
            content_type: response.content_type,
            retry_after_s: response.retry_after_s,
            body: &response.body,
        }
    }
}

/// What an [`Word::Answer`] said, to be said again.
pub fn response(
    status: u16,
    content_type: Option<&'static str>,
    retry_after_s: Option<u32>,
    body: impl Into<Cow<'static, [u8]>>,
) -> Response {
    Response { status, content_type, retry_after_s, body: body.into(), no_store: true, ..Response::default() }
}

impl<'a> Message<'a> {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD + 16 + self.word.len());
        let kind = match &self.word {
            Word::Ask { .. } => 0,
            Word::Left { .. } => 1,
            Word::Release { .. } => 2,
            Word::Answer { .. } => 3,
            Word::Held { .. } => 4,
        };
        out.extend_from_slice(&[MARK, kind]);
        out.extend_from_slice(&self.from.0.to_be_bytes());
        match &self.word {
            Word::Ask { number, sid, body } => {
                out.extend_from_slice(&number.to_be_bytes());
                out.push(u8::from(body.is_some()));
                out.extend_from_slice(sid.as_bytes());
                out.extend_from_slice(body.unwrap_or_default().as_bytes());
            }
            Word::Left { number } | Word::Release { number } => out.extend_from_slice(&number.to_be_bytes()),
            Word::Answer { number, status, content_type, retry_after_s, body } => {
                out.extend_from_slice(&number.to_be_bytes());
                out.extend_from_slice(&status.to_be_bytes());
                out.push(CONTENT.iter().position(|known| known == content_type).unwrap_or(0) as u8);
                let seconds = u16::try_from(retry_after_s.unwrap_or(0)).unwrap_or(u16::MAX);
                out.extend_from_slice(&seconds.to_be_bytes());
                out.extend_from_slice(body);
            }
            Word::Held { numbers } => out.extend(numbers.iter().flat_map(|number| number.to_be_bytes())),
        }
        out
    }

    pub fn decode(bytes: &'a [u8]) -> Result<Message<'a>, Broken> {
        let (head, rest) = bytes.split_first_chunk::<HEAD>().ok_or(Broken)?;
        let [MARK, kind, high, low, number @ ..] = *head else { return Err(Broken) };
        let number = u64::from_be_bytes(number);
        let word = match (kind, rest) {
            (0, [method @ (0 | 1), rest @ ..]) => {
                let (sid, body) = rest.split_at_checked(size_of::<Sid>()).ok_or(Broken)?;
                let body = std::str::from_utf8(body).map_err(|_| Broken)?;
                if *method == 0 && !body.is_empty() {
                    return Err(Broken);
                }
                Word::Ask { number, sid: Sid::from_bytes(sid).ok_or(Broken)?, body: (*method == 1).then_some(body) }
            }
            (1, []) => Word::Left { number },
            (2, []) => Word::Release { number },
            (3, [s1, s0, content, r1, r0, body @ ..]) => {
                let status = u16::from_be_bytes([*s1, *s0]);
                if !(200..=599).contains(&status) {
                    return Err(Broken);
                }
                let content_type = *CONTENT.get(usize::from(*content)).ok_or(Broken)?;
                let seconds = u32::from(u16::from_be_bytes([*r1, *r0]));
                let retry_after_s = (seconds > 0).then_some(seconds);
                Word::Answer { number, status, content_type, retry_after_s, body }
            }
            (4, more) => {
                let (more, rest) = more.as_chunks::<8>();
                if !rest.is_empty() {
                    return Err(Broken);
                }
                let more = more.iter().map(|number| u64::from_be_bytes(*number));
                Word::Held { numbers: std::iter::once(number).chain(more).collect() }
            }
            _ => return Err(Broken),
        };
        Ok(Message { from: NodeId(u16::from_be_bytes([high, low])), word })
    }
}

impl Word<'_> {
    fn len(&self) -> usize {
        match self {
            Word::Ask { body, .. } => body.map_or(0, str::len),
            Word::Answer { body, .. } => body.len(),
            Word::Held { numbers } => size_of_val(&numbers[..]),
            Word::Left { .. } | Word::Release { .. } => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages() {
        let sid = Sid::parse("AgEBAQEBAQEBAQEBAQEB").unwrap();
        let of_sid = b"\x02\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01";
        let table: [(Word<'_>, Vec<u8>); 6] = [
            (Word::Ask { number: 5, sid, body: None }, [&b"n\0\x01\x02\0\0\0\0\0\0\0\x05\0"[..], of_sid].concat()),
            (
                Word::Ask { number: 5, sid, body: Some("4é") },
                [&b"n\0\x01\x02\0\0\0\0\0\0\0\x05\x01"[..], of_sid, "4é".as_bytes()].concat(),
            ),
            (Word::Left { number: 6 }, b"n\x01\x01\x02\0\0\0\0\0\0\0\x06".to_vec()),
            (Word::Release { number: 6 }, b"n\x02\x01\x02\0\0\0\0\0\0\0\x06".to_vec()),
            (
                Word::Answer {
                    number: 7,
                    status: 400,
                    content_type: Some("application/json"),
                    retry_after_s: Some(1),
                    body: b"{}",
                },
                b"n\x03\x01\x02\0\0\0\0\0\0\0\x07\x01\x90\x03\0\x01{}".to_vec(),
            ),
            (Word::Held { numbers: vec![8, 9] }, b"n\x04\x01\x02\0\0\0\0\0\0\0\x08\0\0\0\0\0\0\0\x09".to_vec()),
        ];
        for (word, bytes) in table {
            let message = Message { from: NodeId(258), word };
            assert_eq!(message.encode(), bytes, "{message:?}");
            assert_eq!(Message::decode(&bytes), Ok(message));
        }
        let broken: [&[u8]; 9] = [
            b"",
            b"n\0\x01\x02\0\0\0\0\0\0\0\x05",
            b"n\x01\x01\x02\0\0\0\0\0\0\0",
            b"m\x01\x01\x02\0\0\0\0\0\0\0\x06",
            b"n\x01\x01\x02\0\0\0\0\0\0\0\x06x",
            b"n\x05\x01\x02\0\0\0\0\0\0\0\x06",
            b"n\x03\x01\x02\0\0\0\0\0\0\0\x07\0\x90\x03\0\x01{}",
            b"n\x03\x01\x02\0\0\0\0\0\0\0\x07\x01\x90\x05\0\x01{}",
            b"n\x04\x01\x02\0\0\0\0\0\0\0\x08\0",
        ];
        for bytes in broken {
            assert_eq!(Message::decode(bytes), Err(Broken), "{bytes:?}");
        }
    }

    #[test]
    fn what_sessions_answer_crosses_whole() {
        for response in [
            Response { no_store: true, ..Response::text(200, "4hello") },
            Response { no_store: true, ..Response::new(200, "text/html", &b"ok"[..]) },
            Response {
                no_store: true,
                retry_after_s: Some(1),
                ..Response::error_json(503, "unavailable", "try again in a second")
            },
        ] {
            let bytes = Message { from: NodeId(1), word: Word::answer(9, &response) }.encode();
            let Ok(Message { word: Word::Answer { status, content_type, retry_after_s, body, .. }, .. }) =
                Message::decode(&bytes)
            else {
                panic!("{bytes:?}")
            };
            assert_eq!(super::response(status, content_type, retry_after_s, body.to_vec()), response);
        }
    }
}
