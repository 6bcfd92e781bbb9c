//! Attachments of binary packets: their messages collected, their placeholders checked.
//!
//! Invariants: an [`Assembler`] holds at most one packet of at most
//! [`ATTACHMENTS_MAX`](crate::base::limit::ATTACHMENTS_MAX) attachments and `bytes_max` bytes; binary messages are taken in order, number 0
//! first; after an error it is empty.

use super::{Error, Kind, Packet, json};
use crate::base::limit::JSON_DEPTH_MAX;
use smallvec::SmallVec;
use std::borrow::Cow;

/// Puts a session's binary packets together. Idle, which it nearly always is, it is one empty pointer.
#[derive(Debug, Default)]
pub struct Assembler(Option<Box<Assembled>>);

/// A binary packet with all its attachments.
#[derive(Debug, PartialEq, Eq)]
pub struct Assembled {
    kind: Kind,
    namespace: Box<str>,
    id: Option<u64>,
    expected: u8,
    payload: Box<str>,
    /// In the order of the placeholders' numbers.
    pub attachments: SmallVec<[Vec<u8>; 2]>,
}

impl Assembled {
    /// The packet, its placeholders still in the payload.
    pub fn packet(&self) -> Packet<'_> {
        let Assembled { kind, namespace, id, expected, payload, .. } = self;
        let name = match kind {
            Kind::BinaryEvent => json::elements(payload).next().unwrap_or_default(),
            _ => "",
        };
        Packet { kind: *kind, namespace, id: *id, attachments: *expected, payload, name }
    }

    fn bytes(&self) -> usize {
        self.payload.len() + self.attachments.iter().map(Vec::len).sum::<usize>()
    }
}

impl Assembler {
    /// Takes a decoded packet: given back if it is complete, kept if attachments follow. `bytes_max` bounds payload and attachments together.
    ///
    /// An error while attachments are awaited leaves nothing behind; the connection is to be closed.
    pub fn text<'a>(&mut self, packet: Packet<'a>, bytes_max: usize) -> Result<Option<Packet<'a>>, Error> {
        if self.0.take().is_some() {
            return Err(Error::TextBetweenAttachments);
        }
        if packet.attachments == 0 {
            return Ok(Some(packet));
        }
        if packet.payload.len() > bytes_max {
            return Err(Error::TooLarge);
        }
        self.0 = Some(Box::new(Assembled {
            kind: packet.kind,
            namespace: packet.namespace.into(),
            id: packet.id,
            expected: packet.attachments,
            payload: packet.payload.into(),
            attachments: SmallVec::new(),
        }));
        Ok(None)
    }

    /// Takes a binary message; the last one of a packet gives the packet.
    pub fn binary(&mut self, bytes: Cow<'_, [u8]>, bytes_max: usize) -> Result<Option<Box<Assembled>>, Error> {
        let mut assembled = self.0.take().ok_or(Error::UnexpectedBinary)?;
        if assembled.bytes().saturating_add(bytes.len()) > bytes_max {
            return Err(Error::TooLarge);
        }
        assembled.attachments.push(bytes.into_owned());
        if assembled.attachments.len() >= usize::from(assembled.expected) {
            return Ok(Some(assembled));
        }
        self.0 = Some(assembled);
        Ok(None)
    }

    /// Whether attachments are awaited.
    pub fn is_waiting(&self) -> bool {
        self.0.is_some()
    }
}

/// What is known of an object, or of an array, while its values go by.
#[derive(Clone, Copy, Default)]
struct Level {
    object: bool,
    /// The key whose value comes next.
    key: Key,
    /// Whether the last `_placeholder` is `true`.
    placeholder: bool,
    /// Whether the last `num` is an attachment's number.
    attached: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Key {
    /// None read yet.
    #[default]
    Awaited,
    Placeholder,
    Num,
    Other,
}

/// Checks that each placeholder of a validated payload names one of `attachments`.
///
/// It is read the way clients' `JSON.parse` will: a key may be escaped, and of equal keys the last one counts.
pub(super) fn check_placeholders(payload: &str, attachments: u8) -> Result<(), Error> {
    let mut levels: SmallVec<[Level; 16]> = SmallVec::new();
    for token in json::tokens(payload) {
        let value = match token {
            json::Token::Close(_) => {
                let level = levels.pop().ok_or(Error::InvalidPayload)?;
                if level.placeholder && !level.attached {
                    return Err(Error::IllegalAttachments);
                }
                continue;
            }
            json::Token::String(raw) => match levels.last_mut() {
                Some(level) if level.object && level.key == Key::Awaited => {
                    level.key = match json::string(raw).as_deref() {
                        Some("_placeholder") => Key::Placeholder,
                        Some("num") => Key::Num,
                        _ => Key::Other,
                    };
                    continue;
                }
                _ => raw,
            },
            json::Token::Scalar(raw) => raw,
            json::Token::Open(_) => "",
        };
        if let Some(level) = levels.last_mut() {
            match std::mem::take(&mut level.key) {
                Key::Placeholder => level.placeholder = value == "true",
                Key::Num => level.attached = value.parse::<u8>().is_ok_and(|number| number < attachments),
                Key::Other | Key::Awaited => {}
            }
        }
        if let json::Token::Open(bracket) = token {
            if levels.len() == JSON_DEPTH_MAX {
                return Err(Error::InvalidPayload);
            }
            levels.push(Level { object: bracket == b'{', ..Level::default() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::chance::Chance;
    use crate::wire::socket_io::decode;

    #[test]
    fn placeholders_name_attachments() {
        // How many attachments the payload needs; none if no number makes it legal.
        let table = [
            (r#"["x"]"#, Some(0)),
            (r#"["x",{"_placeholder":true,"num":0}]"#, Some(1)),
            (r#"["x",{"num":1,"_placeholder":true},{"_placeholder":true,"num":0}]"#, Some(2)),
            (r#"["x",{"a":[{"b":{"_placeholder":true,"num":9}}]}]"#, Some(10)),
            (r#"["x",{"_placeholder":true,"num":0,"more":{"num":7}}]"#, Some(1)),
            // Equal keys: the last counts. Escaped keys are the same keys.
            (r#"["x",{"_placeholder":true,"num":0,"num":2}]"#, Some(3)),
            (r#"["x",{"_placeholder":true,"_placeholder":false,"num":7}]"#, Some(0)),
            (r#"["x",{"\u005fplaceholder":true,"n\u0075m":4}]"#, Some(5)),
            // No placeholders.
            (r#"["x",{"_placeholder":1,"num":7}]"#, Some(0)),
            (r#"["x",{"_placeholder":"true","num":7}]"#, Some(0)),
            (r#"["x",["_placeholder",true,"num",7]]"#, Some(0)),
            (r#"["x",{"a":"_placeholder","b":true,"num":7}]"#, Some(0)),
            (r#"["x",{"_placeholder":[true],"num":7}]"#, Some(0)),
            // Never legal.
            (r#"["x",{"_placeholder":true}]"#, None),
            (r#"["x",{"_placeholder":true,"num":"0"}]"#, None),
            (r#"["x",{"_placeholder":true,"num":-1}]"#, None),
            (r#"["x",{"_placeholder":true,"num":0.5}]"#, None),
            (r#"["x",{"_placeholder":true,"num":256}]"#, None),
            (r#"["x",{"_placeholder":true,"num":null}]"#, None),
            (r#"["x",{"_placeholder":true,"num":[0]}]"#, None),
            (r#"["x",{"_placeholder":true,"num":0,"num":{}}]"#, None),
            (r#"["x",{"_placeholder":true,"a":{"num":0}}]"#, None),
        ];
        for (payload, needed) in table {
            for attachments in 0..=10 {
                let want = needed.is_some_and(|needed| attachments >= needed);
                assert_eq!(check_placeholders(payload, attachments).is_ok(), want, "{payload} {attachments}");
            }
        }
    }

    enum Step {
        Text(&'static str),
        Binary(&'static [u8]),
    }

    #[test]
    fn packets_are_put_together() {
        use Step::{Binary, Text};
        const MAX: usize = 44;
        const ONE: &str = r#"51-/a,7["x",{"_placeholder":true,"num":0}]"#;
        const TWO: &str = r#"62-7[{"_placeholder":true,"num":1}]"#;
        // What each step gives: `-` more is needed, `p` a packet, `a` an assembled one.
        let table: [(&[Step], &str, Option<Error>); 12] = [
            (&[Text("2[\"x\"]"), Text("1"), Text("0")], "ppp", None),
            (&[Text("50-[\"x\"]"), Text("2[\"x\"]")], "pp", None),
            (&[Text(ONE), Binary(&[1, 2]), Text("2[\"x\"]")], "-ap", None),
            (&[Text(ONE), Binary(&[]), Text(TWO), Binary(&[1]), Binary(&[2])], "-a--a", None),
            (&[Text(ONE), Text("2[\"x\"]")], "-", Some(Error::TextBetweenAttachments)),
            (&[Text(TWO), Binary(&[1]), Text(ONE)], "--", Some(Error::TextBetweenAttachments)),
            (&[Binary(&[1])], "", Some(Error::UnexpectedBinary)),
            (&[Text("50-[\"x\"]"), Binary(&[1])], "p", Some(Error::UnexpectedBinary)),
            (&[Text(ONE), Binary(&[1]), Binary(&[1])], "-a", Some(Error::UnexpectedBinary)),
            (&[Text(TWO), Binary(&[0; 6]), Binary(&[0; 7])], "--a", None),
            (&[Text(TWO), Binary(&[0; 6]), Binary(&[0; 8])], "--", Some(Error::TooLarge)),
            (&[Text(r#"51-["a name that is longer than the bound of this test"]"#)], "", Some(Error::TooLarge)),
        ];
        for (index, (steps, want, error)) in table.into_iter().enumerate() {
            let mut assembler = Assembler::default();
            let mut got = String::new();
            let mut failed = None;
            for step in steps {
                let step = match step {
                    Text(text) => decode(text)
                        .and_then(|packet| assembler.text(packet, MAX))
                        .map(|whole| if whole.is_some() { 'p' } else { '-' }),
                    Binary(bytes) => {
                        assembler.binary(Cow::Borrowed(bytes), MAX).map(|whole| if whole.is_some() { 'a' } else { '-' })
                    }
                };
                match step {
                    Ok(step) => got.push(step),
                    Err(error) => failed = Some(error),
                }
                assert_eq!(assembler.is_waiting(), failed.is_none() && got.ends_with('-'));
            }
            assert_eq!((got.as_str(), failed), (want, error), "row {index}");
        }
    }

    #[test]
    fn an_assembled_packet_is_what_was_sent() {
        let (mut chance, mut assembler) = (Chance::new([6; 32]), Assembler::default());
        for count in 1..=10u8 {
            let text = format!("5{count}-/chat,{}[\"x\",{{\"_placeholder\":true,\"num\":{}}}]", count, count - 1);
            let packet = decode(&text).unwrap();
            assert_eq!(assembler.text(packet, 4096), Ok(None));
            let sent: Vec<Vec<u8>> =
                (0..count).map(|_| chance.u128().to_le_bytes()[..usize::from(count)].to_vec()).collect();
            let mut whole = None;
            for bytes in &sent {
                assert_eq!(whole, None);
                whole = assembler.binary(Cow::Borrowed(bytes), 4096).unwrap();
            }
            let whole = whole.unwrap();
            assert_eq!((whole.packet(), whole.attachments.to_vec()), (packet, sent));
        }
        assert_eq!(size_of::<Assembler>(), size_of::<usize>());
    }
}
