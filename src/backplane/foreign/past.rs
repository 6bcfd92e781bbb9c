//! The stream that is shared with servers of another make: its rows on their way to the shards, and what of it somebody missed who comes back.
//!
//! Invariants: between what was missed and the rows that follow nothing is missing, and nothing twice: it is read up to the row that the shards
//! have been given last, which is no older than the newest when it was asked, and no other is given before it. What is not found in time, or is
//! too much, is answered as not there.

use super::{Foreign, row, row::Row};
use crate::backplane::{count::Count, link::Link};
use crate::base::{
    id::{ShardId, Sid, TenantId},
    limit::{FLEET_MISSED_BYTES_MAX, FLEET_MISSED_ROWS_MAX},
    time::Instant,
};
use crate::shard::foreign::{Foreign as Words, Missed, Past, Wanted};
use crate::shard::relay::{Report, Ticket, Unavailable};
use crate::wire::{
    adapter::{
        self, Audience, Payload, What,
        streams::{self, Offset},
    },
    envelope::{Body, Frame, in_row},
};
use redis::Value;
use std::borrow::Cow;

/// Who is looked for at a time: they are answered from one reading.
const ASKS_MAX: usize = 128;
/// Rows of one answer.
const ROWS_MAX: usize = 1000;

/// What somebody missed is asked.
#[derive(Debug)]
pub struct Ask {
    pub from: ShardId,
    pub tenant: TenantId,
    pub ticket: Ticket,
    pub wanted: Box<Wanted>,
    pub due: Instant,
    /// The newest row after it was asked: who asks may know events up to there without their rows, and passes over those when they come.
    pub newest: Option<Offset>,
}

impl Ask {
    /// So far the shards have to have been given what is in the stream.
    fn needs(&self) -> Offset {
        self.wanted.after.max(self.newest.unwrap_or_default())
    }
}

/// One ask while the stream is read.
struct Search {
    ask: Ask,
    is_there: bool,
    first: Option<(u64, u64)>,
    past: Vec<Past>,
    bytes: usize,
}

impl Foreign {
    /// Rows as they were added.
    pub(super) fn rows(&mut self, rows: &[Row]) {
        let recovers = self.fleet.recovers();
        for row in rows {
            self.row = row.offset().filter(|_| recovers);
            self.read = self.row.unwrap_or(self.read);
            self.row(row);
        }
        self.row = None;
        if recovers {
            let row = self.read;
            for way in &mut self.ways {
                way.put(Report::Foreign(Box::new(Words::Read { row })));
            }
        }
    }

    /// Rows may have gone before they were read: what events of ours they brought is read back by the shards.
    pub(super) fn read_anew(&mut self, row: Offset) {
        if !self.fleet.recovers() {
            return;
        }
        if !self.read.is_first() {
            self.count(Count::RowsMissed);
            tracing::warn!(
                "rows of the fleet's stream may have gone before they were read: it was trimmed, or is another one"
            );
        }
        self.read = row;
        for way in &mut self.ways {
            way.put(Report::Foreign(Box::new(Words::Anew { row })));
        }
    }

    /// Whether the shards take more; where nothing may be lost on the way to them.
    pub(super) fn takes_rows(&self) -> bool {
        !self.fleet.recovers() || self.ways.iter().all(super::way::Way::has_room)
    }

    /// Gives an event of ours to its tenant's shard; false: it is none.
    pub(super) fn placed(&mut self, row: &Row) -> bool {
        let Some((tenant, frame)) = own(row) else { return false };
        self.begin.errands.count(Count::Envelopes as usize);
        let home = tenant.home(self.begin.shards);
        if let Some(way) = self.ways.get_mut(home.index()) {
            way.put(Report::Envelope { tenant, frame });
        }
        true
    }

    pub(super) fn next_ask_due(&self) -> Option<Instant> {
        self.asks.iter().map(|ask| ask.due).min()
    }

    /// Nothing can be looked for.
    pub(super) fn refuse_asks(&mut self) {
        for ask in std::mem::take(&mut self.asks) {
            self.answer(ask.from, ask.ticket, Err(Unavailable));
        }
        self.flush();
    }

    fn answer(&mut self, from: ShardId, ticket: Ticket, result: Result<Box<Missed>, Unavailable>) {
        if let Some(way) = self.ways.get_mut(from.index()) {
            way.put(Report::Missed { ticket, result });
        }
    }

    /// Answers who may be answered: whose row the shards have been given.
    pub(super) async fn look_back(&mut self, link: &Link) -> Result<(), String> {
        let now = self.now();
        if self.asks.iter().any(|ask| ask.newest.is_none()) {
            let newest = self.newest(link).await?;
            self.asks.iter_mut().for_each(|ask| ask.newest = ask.newest.or(Some(newest)));
        }
        while !self.asks.is_empty() {
            let (read, mut searches) = (self.read, Vec::new());
            let mut later = Vec::new();
            for ask in std::mem::take(&mut self.asks) {
                if ask.needs() <= read && searches.len() < ASKS_MAX {
                    searches.push(Search { ask, is_there: false, first: None, past: Vec::new(), bytes: 0 });
                } else if ask.needs() > read && ask.due <= now {
                    self.answer(ask.from, ask.ticket, Err(Unavailable));
                } else {
                    later.push(ask);
                }
            }
            self.asks = later;
            if searches.is_empty() {
                break;
            }
            let found = self.search(link, &mut searches).await;
            for Search { ask, is_there, first, past, bytes } in searches {
                let is_whole = found.is_ok() && is_there && bytes <= FLEET_MISSED_BYTES_MAX;
                let result = is_whole.then(|| Box::new(Missed { first, past })).ok_or(Unavailable);
                self.answer(ask.from, ask.ticket, result);
            }
            found?;
        }
        Ok(())
    }

    async fn newest(&self, link: &Link) -> Result<Offset, String> {
        let stream = self.fleet.stream.to_string();
        let mut pipeline = redis::pipe();
        pipeline.cmd("XREVRANGE").arg(&stream).arg("+").arg("-").arg("COUNT").arg(1);
        let answer = link.commands().send(pipeline, stream).await.map_err(|error| error.to_string())?;
        let rows = answer.into_iter().next().and_then(row::rows).ok_or("a row cannot be read")?;
        Ok(rows.first().and_then(Row::offset).unwrap_or_default())
    }

    async fn search(&mut self, link: &Link, searches: &mut [Search]) -> Result<(), String> {
        let stream = self.fleet.stream.to_string();
        let send = |pipeline| {
            let (commands, stream) = (link.commands(), stream.clone());
            async move { commands.send(pipeline, stream).await.map_err(|error| error.to_string()) }
        };
        let look = |searches: &[Search]| {
            let mut pipeline = redis::pipe();
            for search in searches {
                let after = search.ask.wanted.after.to_string();
                pipeline.cmd("XRANGE").arg(&stream).arg(&after).arg(&after);
            }
            send(pipeline)
        };
        let is_found = |answer: Value| matches!(answer, Value::Array(rows) if !rows.is_empty());
        let answers = look(searches).await?;
        for (search, answer) in searches.iter_mut().zip(answers) {
            search.is_there = is_found(answer);
        }
        let firsts = searches.iter().filter(|search| search.is_there).map(|search| search.ask.wanted.after);
        let Some(mut after) = firsts.min() else { return Ok(()) };
        let mut left = FLEET_MISSED_ROWS_MAX;
        let mut has_read = false;
        while after < self.read {
            has_read = true;
            let mut pipeline = redis::pipe();
            let range = pipeline.cmd("XRANGE").arg(&stream).arg(format!("({after}")).arg(self.read.to_string());
            range.arg("COUNT").arg(ROWS_MAX);
            let answer = send(pipeline).await?.into_iter().next();
            let rows = answer.and_then(row::rows).ok_or("a row cannot be read")?;
            for row in &rows {
                after = row.offset().ok_or("a row has no id")?;
                self.look_at(row, after, searches);
            }
            if rows.len() < ROWS_MAX {
                break;
            }
            left = left.saturating_sub(rows.len());
            if left == 0 {
                // Nobody who began before this has all of it.
                searches.iter_mut().for_each(|search| search.is_there = false);
                break;
            }
        }
        if has_read {
            // Rows go from the oldest on: where it is still there, so were those behind it.
            let answers = look(searches).await?;
            for (search, answer) in searches.iter_mut().zip(answers) {
                search.is_there &= is_found(answer);
            }
        }
        Ok(())
    }

    fn look_at(&mut self, row: &Row, at: Offset, searches: &mut [Search]) {
        let mut searches = searches.iter_mut().filter(|search| search.is_there && search.ask.wanted.after < at);
        let single = self.fleet.profile.claims.single_tenant.clone();
        if let Some((tenant, frame)) = own(row) {
            let Ok(Frame { place: Some(place), body, .. }) = Frame::decode(&frame) else { return };
            let Ok((_, Body::Post(post))) = Body::decode(body) else { return };
            let name = adapter::room_name(&tenant, post.room, single.as_ref());
            for search in searches.filter(|search| search.ask.tenant == tenant) {
                search.first.get_or_insert((place.epoch, place.sequence));
                if search.ask.wanted.rooms.iter().any(|room| **room == *name) {
                    search.add(Past::Placed(frame.clone()));
                }
            }
            return;
        }
        let fields = row.fields.iter().map(|(name, value)| (&name[..], &value[..]));
        let Some(Ok(read)) = streams::Row::of(fields) else { return };
        // As Node has it: what is read as a broadcast only when it is added has another text here.
        if read.kind != "3" || read.uid.starts_with(&self.family) {
            return;
        }
        let mut buffer = Vec::new();
        if let Ok(message) = streams::decode(&read, &mut buffer)
            && let What::Broadcast { packet, to, request: None } = &message.what
            && !to.flags.volatile
        {
            for search in &mut searches {
                let Ask { tenant, wanted, .. } = &search.ask;
                let rooms = match *wanted.namespace == *message.nsp {
                    true => meant(to, tenant, &wanted.rooms, single.as_ref()),
                    false => Vec::new(),
                };
                if !rooms.is_empty() {
                    let (json, attachments) = (packet.args.json.to_string(), packet.args.attachments.clone());
                    let args = Payload { json: Cow::Owned(json), attachments };
                    search.add(Past::Event { rooms, event: (*packet.event).into(), args, row: at });
                }
            }
        }
    }
}

impl Search {
    fn add(&mut self, past: Past) {
        self.bytes += past.bytes();
        if self.bytes <= FLEET_MISSED_BYTES_MAX {
            self.past.push(past);
        }
    }
}

/// The event of ours that a row carries, with the row that clients keep of it: the last of those that say it.
fn own(row: &Row) -> Option<(TenantId, Box<[u8]>)> {
    let text = |name| row.field(name).and_then(|value| std::str::from_utf8(value).ok());
    let (frame, tenant) = (row.field("frame")?, TenantId::parse(text("tenant")?)?);
    let rows: u64 = text("rows")?.parse().ok()?;
    let Offset { ms, nth } = row.offset()?;
    let last = Offset { ms, nth: nth.checked_add(rows.checked_sub(1)?)? };
    Some((tenant, in_row(frame, last)?.into()))
}

/// Those of a socket's rooms that an audience means, none where it is in a room that is excepted; a name alone is a socket's.
fn meant(to: &Audience<'_>, tenant: &TenantId, rooms: &[Box<str>], single: Option<&TenantId>) -> Vec<Box<str>> {
    let sid = |room: &str| Sid::parse(room);
    let is_same = |named: &str, room: &str| {
        named == room
            || match (sid(room), adapter::address(named, single)) {
                (Some(sid), Some((of, name))) => of == *tenant && Sid::parse(name) == Some(sid),
                (None, named) => named.is_some() && named == adapter::address(room, single),
                (Some(_), None) => false,
            }
    };
    let is_in = |list: &[Cow<'_, str>], room: &str| list.iter().any(|named| is_same(named, room));
    if rooms.iter().any(|room| is_in(&to.except, room)) {
        return Vec::new();
    }
    match to.is_everybody() {
        // Where there are several tenants it is nobody.
        true if single == Some(tenant) => rooms.into(),
        true => Vec::new(),
        false => rooms.iter().filter(|room| is_in(&to.rooms, room)).cloned().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(rooms: &[&str], except: &[&str], single: Option<&str>) -> String {
        let list = |list: &[&str]| list.iter().map(|room| Cow::Owned((*room).to_owned())).collect::<Vec<_>>();
        let to = Audience { rooms: list(rooms), except: list(except), ..Audience::default() };
        let (single, acme) = (single.and_then(TenantId::parse), TenantId::parse("acme").unwrap());
        let own: [Box<str>; 3] = match single {
            Some(_) => ["a".into(), "b".into(), "abcdefghijklmnopqrst".into()],
            None => ["acme/a".into(), "acme/b".into(), "abcdefghijklmnopqrst".into()],
        };
        meant(&to, &acme, &own, single.as_ref()).join(" ")
    }

    #[test]
    fn a_socket_is_meant_by_its_rooms_and_its_id_in_its_tenant() {
        let sid = "abcdefghijklmnopqrst";
        for (rooms, except, single, want) in [
            (&["acme/a"][..], &[][..], None, "acme/a"),
            (&["acme/a", "acme/b", "acme/c"], &["acme/c"], None, "acme/a acme/b"),
            (&["acme/a"], &["acme/b"], None, ""),
            (&["acme/a"], &[sid], None, ""),
            (&["beta/a", "a"], &[], None, ""),
            (&[sid], &[], None, sid),
            (&["acme/abcdefghijklmnopqrst"], &[], None, sid),
            (&["beta/abcdefghijklmnopqrst"], &[], None, ""),
            (&[], &[], None, ""),
            (&[], &[], Some("acme"), "a b abcdefghijklmnopqrst"),
            (&[], &["acme/a"], Some("acme"), ""),
            (&["acme/a", "b", "beta/a"], &[], Some("acme"), "a b"),
        ] {
            assert_eq!(shown(rooms, except, single), want, "{rooms:?} {except:?} {single:?}");
        }
    }

    #[test]
    fn a_row_of_ours_is_read_and_others_are_none() {
        let place = crate::wire::envelope::Place { epoch: 1, sequence: 2, room_epoch: 3, offset: 4 };
        let frame = crate::wire::envelope::placed(place, b"body");
        let row = |id: &str, tenant: &str, rows: &str, frame: &[u8]| Row {
            id: id.into(),
            fields: vec![
                (b"tenant".to_vec(), tenant.into()),
                (b"rows".to_vec(), rows.into()),
                (b"frame".to_vec(), frame.into()),
            ],
        };
        let (tenant, bytes) = own(&row("5-7", "acme", "3", &frame)).expect("a row of ours");
        let read = Frame::decode(&bytes).expect("a frame");
        assert_eq!((tenant.as_str(), read.place, read.body), ("acme", Some(place), &b"body"[..]));
        assert_eq!(read.row, Some(Offset { ms: 5, nth: 9 }), "the last of its rows");
        let told = crate::wire::envelope::told(b"word");
        let (_, bytes) = own(&row("5-7", "acme", "1", &told)).expect("what is said behind one, too");
        let read = Frame::decode(&bytes).expect("a frame");
        assert_eq!((read.place, read.row, read.body), (None, Some(Offset { ms: 5, nth: 7 }), &b"word"[..]));
        for bad in [
            row("5-7", "acme", "0", &frame),
            row("5-18446744073709551615", "acme", "2", &frame),
            row("5", "acme", "1", &frame),
            row("5-7", "", "1", &frame),
            row("5-7", "acme", "1", b"no frame"),
        ] {
            assert!(own(&bad).is_none(), "{bad:?}");
        }
    }
}
