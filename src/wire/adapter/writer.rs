//! Writes a message in either language.
//!
//! Invariant: who calls says how many members an object and how many elements a list has, and writes that many.

use super::msgpack;
use super::{Audience, Packet, Payload, Socket};
use crate::wire::json;
use rmp::encode;
use std::borrow::Cow;

pub(super) struct Writer {
    out: Vec<u8>,
    packed: bool,
}

impl Writer {
    pub(super) fn json() -> Writer {
        Writer { out: Vec::new(), packed: false }
    }

    pub(super) fn packed() -> Writer {
        Writer { out: Vec::new(), packed: true }
    }

    pub(super) fn done(self) -> Vec<u8> {
        self.out
    }

    /// In JSON a value that follows another has a comma before it; what was written last tells.
    fn separate(&mut self) {
        if !self.packed && !matches!(self.out.last(), None | Some(b'{' | b'[' | b':')) {
            self.out.push(b',');
        }
    }

    pub(super) fn object(&mut self, members: u32, write: impl FnOnce(&mut Writer)) {
        self.separate();
        if self.packed {
            // Writing to a vector cannot fail, here and below.
            let _ = encode::write_map_len(&mut self.out, members);
            return write(self);
        }
        self.out.push(b'{');
        write(self);
        self.out.push(b'}');
    }

    pub(super) fn list(&mut self, elements: usize, write: impl FnOnce(&mut Writer)) {
        self.separate();
        if self.packed {
            let _ = encode::write_array_len(&mut self.out, elements as u32);
            return write(self);
        }
        self.out.push(b'[');
        write(self);
        self.out.push(b']');
    }

    pub(super) fn key(&mut self, key: &str) {
        self.text(key);
        if !self.packed {
            self.out.push(b':');
        }
    }

    pub(super) fn text(&mut self, text: &str) {
        self.separate();
        if self.packed {
            let _ = encode::write_str(&mut self.out, text);
        } else {
            json::write_string(&mut self.out, text);
        }
    }

    pub(super) fn number(&mut self, number: u64) {
        self.separate();
        if self.packed {
            let _ = encode::write_uint(&mut self.out, number);
        } else {
            json::write_number(&mut self.out, number);
        }
    }

    pub(super) fn truth(&mut self, truth: bool) {
        self.separate();
        if self.packed {
            let _ = encode::write_bool(&mut self.out, truth);
        } else {
            self.out.extend_from_slice(if truth { b"true" } else { b"false" });
        }
    }

    /// Raw JSON; there is a value.
    pub(super) fn raw(&mut self, json: &str, attachments: &[Vec<u8>]) {
        self.separate();
        if self.packed {
            msgpack::write(&mut self.out, json, attachments);
        } else {
            self.out.extend_from_slice(json.as_bytes());
        }
    }

    /// A value that is written already; in MessagePack alone.
    pub(super) fn packed_value(&mut self, value: &[u8]) {
        self.out.extend_from_slice(value);
    }

    /// In MessagePack alone.
    pub(super) fn binary(&mut self, bytes: &[u8]) {
        let _ = encode::write_bin(&mut self.out, bytes);
    }

    pub(super) fn payload(&mut self, payload: &Payload<'_>) {
        self.raw(if payload.json.is_empty() { "null" } else { &payload.json }, &payload.attachments);
    }

    pub(super) fn names(&mut self, names: &[Cow<'_, str>]) {
        self.list(names.len(), |out| names.iter().for_each(|name| out.text(name)));
    }

    /// `[event, ...args]`.
    pub(super) fn event(&mut self, packet: &Packet<'_>) {
        let mut list = b"[".to_vec();
        json::write_string(&mut list, &packet.event);
        if !packet.args.json.is_empty() {
            list.push(b',');
            list.extend_from_slice(packet.args.json.as_bytes());
        }
        list.push(b']');
        self.raw(&String::from_utf8_lossy(&list), &packet.args.attachments);
    }

    /// `{type, data, nsp}`; without a namespace where the message says it.
    pub(super) fn packet(&mut self, packet: &Packet<'_>, nsp: Option<&str>) {
        self.object(2 + u32::from(nsp.is_some()), |out| {
            out.key("type");
            out.number(2);
            out.key("data");
            out.event(packet);
            if let Some(nsp) = nsp {
                out.key("nsp");
                out.text(nsp);
            }
        });
    }

    /// `{rooms, except, flags}`.
    pub(super) fn audience(&mut self, to: &Audience<'_>, with_flags: bool) {
        self.object(2 + u32::from(with_flags), |out| {
            out.key("rooms");
            out.names(&to.rooms);
            out.key("except");
            out.names(&to.except);
            if !with_flags {
                return;
            }
            let flags = &to.flags;
            out.key("flags");
            let count =
                u32::from(flags.volatile) + u32::from(flags.compress.is_some()) + u32::from(flags.timeout_ms.is_some());
            out.object(count, |out| {
                if flags.volatile {
                    out.key("volatile");
                    out.truth(true);
                }
                if let Some(compress) = flags.compress {
                    out.key("compress");
                    out.truth(compress);
                }
                if let Some(timeout) = flags.timeout_ms {
                    out.key("timeout");
                    out.number(timeout);
                }
            });
        });
    }

    pub(super) fn sockets(&mut self, sockets: &[Socket<'_>]) {
        self.list(sockets.len(), |out| {
            for socket in sockets {
                out.object(4, |out| {
                    out.key("id");
                    out.text(&socket.id);
                    out.key("handshake");
                    out.raw(if socket.handshake.is_empty() { "{}" } else { &socket.handshake }, &[]);
                    out.key("rooms");
                    out.names(&socket.rooms);
                    out.key("data");
                    out.raw(
                        if socket.data.json.is_empty() { "{}" } else { &socket.data.json },
                        &socket.data.attachments,
                    );
                });
            }
        });
    }
}
