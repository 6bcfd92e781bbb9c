//! Jobs as commands, and answers as what they mean.
//!
//! ```text
//!  Place, Append, Claim, Save     one script each        (Check: HMGET, it must not write; Forget is Save of nothing)
//!  Read                           the script of Place, then for each room XREVRANGE of its newest, ZSCORE, and XREVRANGE of what is asked for
//!  Tell                           PUBLISH, SPUBLISH
//!  Refresh                        PEXPIRE
//!  Share                          as share.rs has it
//! ```
//!
//! A script's first use in a batch carries its text until it is known that the store has it, so that no restart and no promoted replica can
//! be without it.
//!
//! Invariant: whatever the store answers, nothing here panics: what cannot be read is a refusal.

use super::{
    foreign::Outward,
    journal::Job,
    key::{BATCH_TTL_MS, CLAIM_TTL_MS, Keys, TENANT_TTL_MS},
    script::{Known, Name, Scripts, bytes, ms, number},
    share,
};
use crate::base::{
    chance::Chance,
    id::{ShardId, TenantId},
    limit::{READ_EVENTS_MAX, STORE_ROOMS_MAX},
    time::{Instant, UnixMs},
};
use crate::shard::{
    history::Epoch,
    relay::{Append, Appended, Place, Reading, Report, RoomRead, Stored, Unavailable},
};
use crate::wire::envelope::{self, record};
use redis::{Cmd, Pipeline, ServerError, Value};
use std::collections::BTreeMap;

/// What the commands of a batch have in common.
pub struct Encoder<'a> {
    pub keys: &'a Keys,
    pub scripts: &'a Scripts,
    /// Where events are written to the fleet's stream, too.
    pub outward: Option<&'a Outward>,
    /// SPUBLISH in place of PUBLISH.
    pub sharded: bool,
    pub now: Instant,
    pub chance: &'a mut Chance,
    /// Where this process has seen a tenant's stream.
    pub seen: &'a dyn Fn(&TenantId) -> Option<Place>,
    /// The scripts that the store knows.
    pub knows: Known,
}

/// A batch as the store gets it.
#[derive(Default)]
pub struct Batch {
    pub pipeline: Pipeline,
    /// Of each job.
    pub commands: Vec<usize>,
    /// Any of its keys, for the way in a Cluster.
    pub key: String,
    /// The scripts that the store knows once this is done.
    pub knows: Known,
}

/// What became of a job.
#[derive(Debug)]
pub enum Fate {
    Done(Done),
    /// Not done, and worth another try: the code it was refused with.
    Again(Box<str>),
    /// Not done, and not to be tried again.
    Failed(Box<str>),
}

#[derive(Debug)]
pub enum Done {
    Nothing,
    Placed {
        tenant: TenantId,
        stamp: u64,
        place: Place,
    },
    Stands {
        tenant: TenantId,
        stamp: u64,
        /// `None`: the store does not know the tenant.
        place: Option<Place>,
    },
    Answer {
        from: ShardId,
        report: Report,
    },
}

/// One before it in its tenant was not done, so it was not either.
pub const BEHIND: &str = "BEHIND";
pub const NOSCRIPT: &str = "NOSCRIPT";

impl Encoder<'_> {
    pub fn encode(mut self, jobs: &[Job]) -> Batch {
        let mut batch = Batch::default();
        let mut carried = self.knows;
        // The newest append of each tenant in this batch: the next one must not pass it.
        let mut before: BTreeMap<&TenantId, Before> = BTreeMap::new();
        for job in jobs {
            let commands = batch.pipeline.len();
            let last = job.tenant().and_then(|tenant| before.get(tenant).copied()).unwrap_or_default();
            self.job(job, last, &mut batch.pipeline, &mut carried);
            if let Job::Append { tenant, number, append, .. } = job {
                let keeps = last.keeps || !has_receipt(append);
                before.insert(tenant, Before { number: Some(*number), keeps });
            }
            batch.commands.push(batch.pipeline.len() - commands);
        }
        if let Some(tenant) = jobs.iter().find_map(Job::tenant) {
            batch.key = self.keys.channel(tenant);
        }
        batch.knows = carried;
        batch
    }

    fn job(&mut self, job: &Job, before: Before, pipeline: &mut Pipeline, carried: &mut Known) {
        let keys = self.keys;
        match job {
            Job::Void => {}
            Job::Place { tenant, .. } => {
                let open = self.open(tenant, carried);
                pipeline.add_command(open);
            }
            Job::Check { tenant, .. } => {
                pipeline.cmd("HMGET").arg(keys.hash(tenant)).arg("e").arg("s");
            }
            Job::Append { tenant, append, number, .. } => {
                let mut names =
                    vec![keys.hash(tenant), keys.rooms(tenant), keys.stream(tenant, &append.room), keys.batch(tenant)];
                let waits_or_told = append.wait.is_some() || append.track.is_some();
                match &append.id {
                    Some(id) => names.push(keys.receipt(tenant, id)),
                    None if waits_or_told => names.push(keys.hash(tenant)),
                    None => {}
                }
                if waits_or_told {
                    names.extend(keys.waiting(tenant).into_iter().chain(keys.tracked(tenant)));
                }
                let row = self.outward.map(|outward| outward.row(tenant, &append.body, self.chance));
                names.extend(self.outward.map(|outward| outward.stream.to_string()));
                let mut cmd = self.scripts.command(Name::Append, carried, &names);
                self.seen(tenant, &mut cmd);
                cmd.arg(keys.origin()).arg(*number);
                match before.number {
                    Some(before) => cmd.arg(before),
                    None => cmd.arg(""),
                };
                cmd.arg(&*append.room).arg(&append.body[..]).arg(append.keep.max(1)).arg(ms(append.linger));
                cmd.arg(append.id_ttl.as_millis() as u64).arg(TENANT_TTL_MS);
                match &row {
                    Some(row) => cmd.arg(row.len()).arg("XADD"),
                    None => cmd.arg(keys.channel(tenant)).arg(self.publish()),
                };
                match before.keeps || has_receipt(append) {
                    false => cmd.arg(BATCH_TTL_MS),
                    true => cmd.arg(""),
                };
                cmd.arg(STORE_ROOMS_MAX.0).arg(STORE_ROOMS_MAX.1);
                if waits_or_told {
                    share::queue::append(&mut cmd, append);
                }
                cmd.arg(row);
                pipeline.add_command(cmd);
            }
            Job::Tell { tenant, body, in_row } => {
                if let Some(outward) = self.outward.filter(|_| *in_row) {
                    return outward.tell(tenant, &envelope::told(body), pipeline.cmd("XADD"));
                }
                pipeline.cmd(self.publish()).arg(keys.channel(tenant)).arg(envelope::told(body));
            }
            Job::Read { tenant, rooms, .. } => {
                let open = self.open(tenant, carried);
                pipeline.add_command(open);
                for wanted in rooms {
                    let stream = keys.stream(tenant, &wanted.room);
                    pipeline.cmd("XREVRANGE").arg(&stream).arg("+").arg("-").arg("COUNT").arg(1);
                    pipeline.cmd("ZSCORE").arg(keys.rooms(tenant)).arg(&*wanted.room);
                    if let Some(after) = wanted.after {
                        let after = format!("({after}-{}", u64::MAX);
                        pipeline.cmd("XREVRANGE").arg(&stream).arg("+").arg(after).arg("COUNT").arg(READ_EVENTS_MAX);
                    }
                }
            }
            Job::Save { tenant, pid, generation, body, until, .. } => {
                let mut names = vec![keys.socket(tenant, *pid)];
                let mut body = &body[..];
                if let Some(outward) = self.outward.filter(|_| record::generation(body) == record::FOREIGN) {
                    names.push(outward.session(*pid));
                    body = &body[4..];
                }
                let mut cmd = self.scripts.command(Name::Save, carried, &names);
                cmd.arg(*generation).arg(body).arg(ms(until.since(self.now)));
                pipeline.add_command(cmd);
            }
            Job::Refresh { tenant, pids, until } => {
                let left = ms(until.since(self.now));
                for pid in pids {
                    pipeline.cmd("PEXPIRE").arg(keys.socket(tenant, *pid)).arg(left);
                }
            }
            Job::Forget { tenant, pid, generation } => {
                let mut cmd = self.scripts.command(Name::Save, carried, &[keys.socket(tenant, *pid)]);
                cmd.arg(*generation).arg("").arg(0);
                pipeline.add_command(cmd);
            }
            Job::Claim { tenant, pid, number, .. } => {
                let mut names = vec![keys.socket(tenant, *pid), keys.claim(tenant, *number)];
                names.extend(self.outward.map(|outward| outward.session(*pid)));
                let mut cmd = self.scripts.command(Name::Claim, carried, &names);
                cmd.arg(CLAIM_TTL_MS);
                pipeline.add_command(cmd);
            }
            Job::Share { tenant, act, .. } => {
                let (publish, scripts) = (self.publish(), self.scripts);
                let mut script = share::Script { keys, publish, scripts, carried, pipeline };
                share::encode(&mut script, tenant, act);
            }
        }
    }

    fn open(&mut self, tenant: &TenantId, carried: &mut Known) -> Cmd {
        let mut cmd = self.scripts.command(Name::Open, carried, &[self.keys.hash(tenant)]);
        self.seen(tenant, &mut cmd);
        cmd.arg(TENANT_TTL_MS);
        cmd
    }

    /// A new epoch, and what is known of the old one. 48 bits: sums with sequences are exact in doubles.
    fn seen(&mut self, tenant: &TenantId, cmd: &mut Cmd) {
        cmd.arg((self.chance.u64() >> 16).max(1));
        match (self.seen)(tenant) {
            Some(place) => cmd.arg(place.epoch.0).arg(place.sequence),
            None => cmd.arg("").arg(0),
        };
    }

    fn publish(&self) -> &'static str {
        if self.sharded { "SPUBLISH" } else { "PUBLISH" }
    }
}

/// The appends of a tenant that are in the batch already.
#[derive(Clone, Copy, Default)]
struct Before {
    number: Option<u64>,
    /// The place of one of them is kept with the batch's.
    keeps: bool,
}

/// Whether an event's place is kept under the id that its publisher chose.
fn has_receipt(append: &Append) -> bool {
    append.id.is_some() && append.id_ttl.as_millis() > 0
}

/// What the answers of a job's commands say.
pub fn decode(job: &Job, values: Vec<Value>) -> Fate {
    if let Some(error) = values.iter().find_map(|value| match value {
        Value::ServerError(error) => Some(error),
        _ => None,
    }) {
        return refusal(error);
    }
    let done = match job {
        Job::Void | Job::Tell { .. } | Job::Refresh { .. } | Job::Forget { .. } => Some(Done::Nothing),
        Job::Save { tenant, from, pid, .. } => match values.first() {
            Some(Value::Int(0)) => {
                Some(Done::Answer { from: *from, report: Report::Replaced { tenant: tenant.clone(), pid: *pid } })
            }
            _ => Some(Done::Nothing),
        },
        Job::Share { from, ticket, act, .. } => share::decode(act, values).map(|answer| match ticket {
            Some(ticket) => {
                Done::Answer { from: *from, report: Report::Shared { ticket: *ticket, result: Ok(answer) } }
            }
            None => Done::Nothing,
        }),
        Job::Place { tenant, stamp } => values.first().and_then(marks).map(|marks| Done::Placed {
            tenant: tenant.clone(),
            stamp: *stamp,
            place: marks.place,
        }),
        Job::Check { tenant, stamp } => match values.first() {
            Some(Value::Array(fields)) => {
                let epoch = fields.first().and_then(number);
                let sequence = fields.get(1).and_then(number).unwrap_or(0);
                let place = epoch.map(|epoch| Place { epoch: Epoch(epoch), sequence });
                Some(Done::Stands { tenant: tenant.clone(), stamp: *stamp, place })
            }
            _ => None,
        },
        Job::Append { from, ticket, .. } => {
            if matches!(values.first(), Some(Value::Array(fields)) if fields.is_empty()) {
                return Fate::Again(BEHIND.into());
            }
            values.first().and_then(appended).map(|appended| Done::Answer {
                from: *from,
                report: Report::Appended { ticket: *ticket, result: Ok(appended) },
            })
        }
        Job::Read { from, ticket, rooms, .. } => {
            let wanted: Vec<bool> = rooms.iter().map(|room| room.after.is_some()).collect();
            reading(&wanted, values).map(|reading| Done::Answer {
                from: *from,
                report: Report::Read { ticket: *ticket, result: Ok(reading) },
            })
        }
        Job::Claim { from, ticket, .. } => {
            let body = match values.into_iter().next() {
                Some(Value::BulkString(body)) => Some(Some(body.into_boxed_slice())),
                Some(Value::Nil) => Some(None),
                _ => None,
            };
            body.map(|body| Done::Answer { from: *from, report: Report::Claimed { ticket: *ticket, result: Ok(body) } })
        }
    };
    done.map_or_else(|| Fate::Failed("an answer that cannot be read".into()), Fate::Done)
}

/// The answer of a job that is not to be done.
pub fn unavailable(job: &Job) -> Option<(ShardId, Report)> {
    match job {
        Job::Append { from, ticket, .. } => {
            Some((*from, Report::Appended { ticket: *ticket, result: Err(Unavailable) }))
        }
        Job::Read { from, ticket, .. } => Some((*from, Report::Read { ticket: *ticket, result: Err(Unavailable) })),
        Job::Claim { from, ticket, .. } => Some((*from, Report::Claimed { ticket: *ticket, result: Err(Unavailable) })),
        Job::Share { from, ticket: Some(ticket), .. } => {
            Some((*from, Report::Shared { ticket: *ticket, result: Err(Unavailable) }))
        }
        _ => None,
    }
}

/// What passes, and what to do about it. Within a script Redis 6 hides the code in the text.
const PASSING: &[(&str, &str)] = &[
    ("OOM", "it is full: raise maxmemory, and let maxmemory-policy be noeviction"),
    ("READONLY", "it is a replica: name its master, or Sentinel"),
    ("MISCONF", "it cannot write its data to disk: look at its log"),
    ("LOADING", "it is reading its data from disk"),
    ("CLUSTERDOWN", "slots of the Cluster have nobody who serves them"),
    ("TRYAGAIN", "a slot of the Cluster is being moved"),
    ("MASTERDOWN", "a replica has lost its master"),
    ("NOREPLICAS", "fewer replicas are there than min-replicas-to-write asks for"),
    ("BUSY", "a script runs there for too long"),
    ("MOVED", "slots of the Cluster are moving"),
    ("ASK", "slots of the Cluster are moving"),
    ("NOAUTH", "it asks for a password: set REDIS_PASSWORD"),
    (NOSCRIPT, "it was restarted"),
];

fn refusal(error: &ServerError) -> Fate {
    let code = error.code();
    let details = error.details().unwrap_or_default();
    let inside = |passing: &str| {
        details.match_indices(passing).any(|(at, _)| {
            let before = details[..at].chars().next_back();
            before.is_none_or(|c| c == '-' || c == ' ') && details[at + passing.len()..].starts_with(' ')
        })
    };
    let passing = PASSING.iter().find(|(passing, _)| code == *passing || code == "ERR" && inside(passing));
    match passing {
        Some((code, _)) => Fate::Again((*code).into()),
        None => Fate::Failed(format!("{code} {details}").into()),
    }
}

/// What an operator does about a code.
pub fn advice(code: &str) -> &'static str {
    PASSING.iter().find(|(passing, _)| *passing == code).map_or("", |(_, advice)| advice)
}

/// What the script of [`Job::Place`] answers.
struct Marks {
    place: Place,
    birth: u64,
    broken: u64,
}

fn marks(value: &Value) -> Option<Marks> {
    let Value::Array(fields) = value else { return None };
    let field = |nth: usize| fields.get(nth).and_then(number);
    let place = Place { epoch: Epoch(field(0)?), sequence: field(1)? };
    Some(Marks { place, birth: field(2)?, broken: field(3)? })
}

fn appended(value: &Value) -> Option<Appended> {
    let Value::Array(fields) = value else { return None };
    let field = |nth: usize| fields.get(nth).and_then(number);
    Some(Appended { sequence: field(0)?, room_epoch: Epoch(field(1)?), offset: field(2)?, known: field(3)? == 1 })
}

fn reading(wanted: &[bool], values: Vec<Value>) -> Option<Reading> {
    let mut values = values.into_iter();
    let marks = marks(&values.next()?)?;
    let epoch = marks.place.epoch.0;
    let mut rooms = Vec::with_capacity(wanted.len());
    for &wants_entries in wanted {
        let head = entries(values.next()?)?.into_iter().next();
        let last = match values.next()? {
            Value::Nil => None,
            score => Some(number(&score)?),
        };
        let entries = if wants_entries { entries(values.next()?)? } else { Vec::new() };
        // One that was born between the questions has no head yet, but entries.
        let head = head.or_else(|| entries.first().cloned());
        // What the store lost others may have seen: what is left of such a room is not said.
        let head = head.filter(|head| head.stored.sequence > marks.broken);
        rooms.push(match head {
            Some(head) => {
                // Newest first, as they were asked for, so that of too many the oldest are missing.
                let entries = entries.into_iter().rev().map(|entry| entry.stored);
                RoomRead {
                    epoch: Epoch(head.room_epoch),
                    offset: head.stored.offset,
                    sequence: head.stored.sequence,
                    entries: entries.filter(|entry| entry.sequence > marks.broken).collect(),
                }
            }
            None => {
                // Its events are gone, up to this one: as many may be lost, and the next life begins after it.
                let mark = last.map_or(marks.birth, |last| last.min(marks.place.sequence));
                RoomRead { epoch: Epoch(epoch.wrapping_add(mark)), offset: 0, sequence: mark, entries: Vec::new() }
            }
        });
    }
    Some(Reading { place: marks.place, rooms })
}

#[derive(Clone)]
struct Entry {
    room_epoch: u64,
    stored: Stored,
}

/// A stream's entries: `[[id, [field, value, ..]], ..]`. One that is not ours makes all of them none.
fn entries(value: Value) -> Option<Vec<Entry>> {
    let Value::Array(entries) = value else { return None };
    entries.into_iter().map(entry).collect()
}

fn entry(value: Value) -> Option<Entry> {
    let Value::Array(parts) = value else { return None };
    let mut parts = parts.into_iter();
    let (id, fields) = (parts.next()?, parts.next()?);
    let (sequence, offset) = std::str::from_utf8(bytes(&id)?).ok()?.split_once('-')?;
    let (sequence, offset) = (sequence.parse().ok()?, offset.parse().ok()?);
    let Value::Array(fields) = fields else { return None };
    let (mut room_epoch, mut at, mut body) = (None, None, None);
    let mut fields = fields.into_iter();
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        match bytes(&name)? {
            b"e" => room_epoch = number(&value),
            b"t" => at = number(&value),
            b"b" => {
                body = match value {
                    Value::BulkString(body) => Some(body.into_boxed_slice()),
                    _ => None,
                }
            }
            _ => {}
        }
    }
    Some(Entry { room_epoch: room_epoch?, stored: Stored { sequence, offset, at: UnixMs(at?), body: body? } })
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
