//! One event in each of the forms in which a member may read it.
//!
//! ```text
//! Socket.IO   42/nsp,["name",data,meta,"<position>"]     the position is what recovery sends back, where recovery is on
//! /ws         {"event":"name","data":data,"meta":meta}
//! /events     id: <position>
//!             event: name
//!             data: {"event":"name","data":data,"meta":meta}
//! ```

use super::history::{Position, Token};
use super::outbox::Frame;
use super::room::Variant;
use crate::wire::{json, socket_io};
use std::io::Write;

/// Variants that are no namespace of Socket.IO.
pub const PLAIN: Variant = Variant(0);
pub const EVENTS: Variant = Variant(1);
const NAMESPACES_FROM: u8 = 2;

/// The variant of a Socket.IO namespace.
pub fn variant_of(namespace: u8) -> Variant {
    Variant(NAMESPACES_FROM + namespace)
}

/// Whether binary messages may follow a packet: in a stream of text events their bytes would be torn lines.
pub fn has_attachments(variant: Variant) -> bool {
    variant.0 >= NAMESPACES_FROM
}

pub fn variant_count(namespaces: usize) -> usize {
    usize::from(NAMESPACES_FROM) + namespaces
}

/// An event on its way to clients. All parts but the name are raw JSON.
#[derive(Clone, Copy, Default)]
pub struct Outgoing<'a> {
    pub name: &'a str,
    /// The arguments, joined by commas; may be empty.
    pub args: &'a str,
    /// The envelope without data; empty for what is not stored.
    pub meta: &'a str,
    pub position: Option<Position>,
    /// Asks for an acknowledgement.
    pub id: Option<u64>,
    pub attachments: &'a [Vec<u8>],
}

impl Outgoing<'_> {
    /// The frame for one variant; `names` are the namespaces.
    pub fn encode(&self, variant: Variant, names: &[Box<str>], text: &mut Vec<u8>) -> Frame {
        text.clear();
        match variant {
            PLAIN => {
                self.object(text);
                Frame::text(text)
            }
            EVENTS => {
                if let Some(position) = self.position {
                    let _ = writeln!(text, "id: {position}");
                }
                // A name with a line break would forge fields; the wires refuse such names.
                let _ = write!(text, "event: {}\ndata: ", self.name.replace(['\n', '\r'], " "));
                let start = text.len();
                self.object(text);
                // JSON may hold line breaks between its tokens, and only there: blanks mean the same.
                text[start..].iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
                text.extend_from_slice(b"\n\n");
                Frame::raw(text)
            }
            Variant(socket_io) => {
                let namespace = names.get(usize::from(socket_io - NAMESPACES_FROM)).map_or("/", |name| &**name);
                socket_io::binary_event(text, namespace, self.id, self.attachments.len(), |out| {
                    json::write_string(out, self.name);
                    for part in [self.args, self.meta] {
                        if !part.is_empty() {
                            out.push(b',');
                            out.extend_from_slice(part.as_bytes());
                        }
                    }
                    let _ = match self.position {
                        Some(position @ Position { token: Token::Own, .. }) => write!(out, ",\"{position}\""),
                        Some(Position { token: Token::Row(row), .. }) => write!(out, ",\"{row}\""),
                        Some(Position { token: Token::Unmoved, .. }) | None => Ok(()),
                    };
                });
                Frame::text(text)
            }
        }
    }

    fn object(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"event\":");
        json::write_string(out, self.name);
        out.extend_from_slice(b",\"data\":");
        out.extend_from_slice(if self.args.is_empty() { b"null" } else { self.args.as_bytes() });
        if !self.meta.is_empty() {
            out.extend_from_slice(b",\"meta\":");
            out.extend_from_slice(self.meta.as_bytes());
        }
        if let Some(id) = self.id {
            let _ = write!(out, ",\"id\":{id}");
        }
        out.push(b'}');
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::Epoch;
    use super::*;

    #[test]
    fn one_event_in_every_form() {
        let names = ["/".into(), "/chat".into()];
        let stored = Outgoing {
            name: "paid",
            args: "{\"n\":\n1}",
            meta: "{\"offset\":3}",
            position: Some(Position::new(Epoch(36), 35)),
            ..Outgoing::default()
        };
        let plain = Outgoing { name: "hi", ..Outgoing::default() };
        for (event, variant, want) in [
            (stored, variant_of(0), "42[\"paid\",{\"n\":\n1},{\"offset\":3},\"10-z\"]"),
            (stored, variant_of(1), "42/chat,[\"paid\",{\"n\":\n1},{\"offset\":3},\"10-z\"]"),
            (stored, PLAIN, "{\"event\":\"paid\",\"data\":{\"n\":\n1},\"meta\":{\"offset\":3}}"),
            (
                stored,
                EVENTS,
                "id: 10-z\nevent: paid\ndata: {\"event\":\"paid\",\"data\":{\"n\": 1},\"meta\":{\"offset\":3}}\n\n",
            ),
            (plain, variant_of(0), "42[\"hi\"]"),
            (plain, PLAIN, "{\"event\":\"hi\",\"data\":null}"),
            (Outgoing { id: Some(4), ..plain }, variant_of(0), "424[\"hi\"]"),
        ] {
            let frame = event.encode(variant, &names, &mut Vec::new());
            assert_eq!(std::str::from_utf8(frame.payload()), Ok(want));
        }
    }
}
