//! Binary packets: a client asks for something binary, and hears it again with every byte in its place.

use crate::client::{Kind, Request};
use crate::parse::Packet;
use crate::world::{Up, World};
use base64::engine::{Engine, general_purpose::STANDARD};
use serde_json::{Value, json};

impl World {
    /// One binary message.
    pub fn say_binary(&mut self, c: usize, bytes: Vec<u8>) {
        match self.clients[c].main {
            Some(conn) => {
                self.show(c, "says", &bytes);
                self.send(conn, Up::Binary(bytes));
            }
            None => self.say(c, format!("b{}", STANDARD.encode(bytes))),
        }
    }

    /// Asks for the same attachments back; `/ws` has none.
    pub fn mirror(&mut self, c: usize, mut parts: Vec<Vec<u8>>) {
        if self.clients[c].kind == Some(Kind::Plain) {
            parts.clear();
        }
        let client = &self.clients[c];
        let holders: Vec<Value> = (0..parts.len()).map(|num| json!({ "_placeholder": true, "num": num })).collect();
        let data = json!({ "id": client.next_ack, "parts": holders });
        if parts.is_empty() {
            return self.emit(c, "mirror", &data, Request::Mirror { parts, said: false });
        }
        let nsp = if client.nsp == "/" { String::new() } else { format!("{},", client.nsp) };
        let text = format!("45{}-{nsp}{}{}", parts.len(), client.next_ack, json!(["mirror", data]));
        let client = &mut self.clients[c];
        client.pending.insert(client.next_ack, Request::Mirror { parts: parts.clone(), said: false });
        client.next_ack += 1;
        self.say(c, text);
        for part in parts {
            self.say_binary(c, part);
        }
    }

    /// Waits until all attachments have come.
    pub fn assemble(&mut self, c: usize, packet: Packet) {
        let client = &mut self.clients[c];
        match (client.partial.take(), packet) {
            (None, Packet::Binary { attachments, packet }) => client.partial = Some((attachments, *packet, Vec::new())),
            (Some((count, packet, mut parts)), Packet::Attachment(bytes)) => {
                parts.push(bytes);
                if parts.len() < count {
                    client.partial = Some((count, packet, parts));
                } else {
                    self.whole(c, packet, &parts);
                }
            }
            (None, packet @ Packet::Attachment(_)) => self.fail(format!("{packet:?} belongs to nothing")),
            // A session may be closed before all of them have come.
            (None, packet) | (Some(_), packet @ Packet::Close) => self.whole(c, packet, &[]),
            (Some((count, partial, parts)), packet) => {
                self.fail(format!("{packet:?} after {} of {count} attachments of {partial:?}", parts.len()));
            }
        }
    }

    fn whole(&mut self, c: usize, packet: Packet, parts: &[Vec<u8>]) {
        let mirrored = match &packet {
            Packet::Event { name, args, .. } if name == "mirrored" => Some((args, false)),
            Packet::Ack { id, args, .. } if args.first().is_some_and(|data| data["id"] == *id) => Some((args, true)),
            _ => None,
        };
        match mirrored {
            Some((args, acked)) => {
                let mirrored = self.mirrored(c, args, parts, acked);
                self.check(mirrored);
            }
            None if !parts.is_empty() => self.fail(format!("nobody asked for something binary: {packet:?}")),
            None => self.understand(c, packet),
        }
    }

    /// What a client asked to hear again comes as it was said: once as an event, then as the answer.
    fn mirrored(&mut self, c: usize, args: &[Value], parts: &[Vec<u8>], acked: bool) -> Result<(), String> {
        let client = &mut self.clients[c];
        let [data] = args else { return Err(format!("one argument was said, and heard are {args:?}")) };
        let holders = (0..parts.len()).map(|num| json!({ "_placeholder": true, "num": num })).collect::<Vec<_>>();
        let request = data["id"].as_u64().and_then(|id| client.pending.get_mut(&id));
        let Some(Request::Mirror { parts: asked, said }) = request else {
            return Err(format!("{} never asked for {data}", client.name));
        };
        if *said != acked || asked != parts || data["parts"] != json!(holders) {
            return Err(format!("{} said {asked:?} and hears {data} with {parts:?}, acked {acked}", client.name));
        }
        *said = true;
        if acked {
            client.pending.remove(&data["id"].as_u64().unwrap_or_default());
            self.model.mirrored += 1;
        }
        Ok(())
    }
}
