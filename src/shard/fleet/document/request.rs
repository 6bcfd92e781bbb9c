//! What clients ask of documents, among nodes: it outlives their packets.

use super::{Request, Shared, Then, Wish};
use crate::base::limit;
use crate::shard::app::Context;
use crate::shard::document::access::{Deed, Edit, Known};
use crate::shard::document::{Stamp, Update};
use crate::shard::history::Epoch;
use crate::shard::refusal::Refusal;
use std::borrow::Cow;
use std::rc::Rc;

pub type Fields = Vec<(Box<str>, Box<str>)>;

/// An update that outlives its packet.
pub struct Draft {
    pub deed: Deed,
    pub base: u64,
    pub epoch: Option<Epoch>,
    pub fields: Fields,
    stamp: Stamp,
    writer: u64,
    key: u64,
}

impl Draft {
    pub fn update(&self) -> Update<'_> {
        Update {
            base: self.base,
            epoch: self.epoch,
            fields: self.fields.iter().map(|(name, value)| (Cow::Borrowed(&**name), &**value)).collect(),
            stamp: self.stamp.clone(),
            writer: self.writer,
            key: self.key,
        }
    }
}

/// By which an update is known on every node when it is sent again: FNV-1a, since only who sends both could make two of them one.
fn fingerprint(parts: [&[u8]; 4]) -> u64 {
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    let part = |hash, part: &[u8]| part.len().to_be_bytes().iter().chain(part).fold(hash, fold);
    parts.into_iter().fold(0xcbf2_9ce4_8422_2325, part)
}

fn owned(fields: &[(Cow<'_, str>, &str)]) -> (Fields, usize) {
    let fields: Fields = fields.iter().map(|(name, value)| ((**name).into(), (*value).into())).collect();
    let bytes = fields.iter().map(|(name, value)| name.len() + value.len()).sum();
    (fields, bytes)
}

impl Context<'_> {
    /// As [`write_document`](Self::write_document), among nodes: `then` is told.
    pub(in crate::shard) fn write_shared(
        &mut self,
        id: &str,
        deed: Deed,
        edit: &Edit<'_>,
        then: impl FnOnce(&mut Context<'_>, Result<String, Refusal>) + 'static,
    ) -> Result<(), Refusal> {
        let (rule, room) = self.enter(id)?;
        self.shard.pace_tenant(self.shard.tenant_of(self.socket))?;
        let user: Rc<str> = (*self.identity().user).into();
        let (fields, bytes) = owned(&edit.fields);
        if bytes > self.shard.settings.documents.rules[rule].1.bytes_max {
            // It could never be part of it, and need not wait to be told so.
            return Err(Refusal::DocumentTooLarge);
        }
        let deed_byte = [deed as u8];
        let base = edit.base.to_be_bytes();
        let raw = [edit.raw.0, "\0", edit.raw.1].concat();
        let draft = Draft {
            deed,
            base: edit.base,
            epoch: edit.epoch,
            fields,
            stamp: Stamp::new(edit.at, user.clone(), self.shard.now.unix),
            // A socket that comes back to another node is the same writer.
            writer: fingerprint([self.sid().as_bytes(), b"", b"", b""]),
            key: fingerprint([&deed_byte, user.as_bytes(), &base, raw.as_bytes()]),
        };
        self.request(id, rule, &room, Wish::Write(draft), bytes, then)
    }

    /// As [`read_document`](Self::read_document), among nodes.
    pub(in crate::shard) fn read_shared(
        &mut self,
        id: &str,
        then: impl FnOnce(&mut Context<'_>, Result<String, Refusal>) + 'static,
    ) -> Result<(), Refusal> {
        let (rule, room) = self.enter(id)?;
        self.request(id, rule, &room, Wish::Get, 0, then)
    }

    /// As [`open_document`](Self::open_document), among nodes.
    pub(in crate::shard) fn open_shared(
        &mut self,
        id: &str,
        copy: Option<&Known<'_>>,
        then: impl FnOnce(&mut Context<'_>, Result<String, Refusal>) + 'static,
    ) -> Result<(), Refusal> {
        let (rule, room) = self.enter(id)?;
        let (version, (fields, bytes)) = copy.map_or_else(Default::default, |copy| (copy.version, owned(&copy.fields)));
        let rule_of = &self.shard.settings.documents.rules[rule].1;
        if bytes > rule_of.bytes_max || fields.len() > rule_of.fields_max {
            return Err(Refusal::DocumentTooLarge);
        }
        let wish = Wish::Open(copy.map(|_| (version, fields)));
        self.request(id, rule, &room, wish, bytes, then)
    }

    fn request(
        &mut self,
        id: &str,
        rule: usize,
        room: &str,
        wish: Wish,
        bytes: usize,
        then: impl FnOnce(&mut Context<'_>, Result<String, Refusal>) + 'static,
    ) -> Result<(), Refusal> {
        let (key, now) = (self.shard.tenant_of(self.socket), self.shard.now.at);
        let desk = &mut self.shard.tenants[key].stream.get_or_insert_default().documents;
        let waiting = desk.known.get(id).map_or(0, |shared| shared.queue.len());
        if waiting >= limit::DOCUMENT_WAITS_MAX || desk.bytes + bytes > limit::DOCUMENT_WAITS_BYTES_MAX {
            return Err(Refusal::DocumentBusy);
        }
        let id: Rc<str> = match desk.known.get_key_value(id) {
            Some((id, _)) => id.clone(),
            None => id.into(),
        };
        desk.known.entry(id.clone()).or_insert_with(|| Shared::new(rule, room, now));
        let asker = Some((self.socket, self.ack.take(), Box::new(then) as Then));
        self.shard.enqueue(key, &id, Request { wish, asker, bytes });
        Ok(())
    }
}
