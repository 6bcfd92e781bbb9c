//! What waits for users who are not there, over all nodes: the script of waiting.lua; and who is told of receipts: the script of receipt.lua.

use super::Script;
use crate::backplane::script::Name;
use crate::base::{
    id::TenantId,
    limit::{OFFLINE_EVENT_COST, OFFLINE_TENANT_BYTES_MAX, OFFLINE_USER_BYTES_MAX, RECEIPT_USERS_MAX, RECEIPTS_MAX},
    time::{Duration, UnixMs},
};
use crate::shard::{
    history::Epoch,
    receipt::Told,
    relay::{
        Append, Place, Stored,
        queue::{Act, Answer, Entry, Wait, Waiting},
    },
};
use redis::{Cmd, Value};

/// Bytes of an entry before its user's name, see queue.lua.
const HEAD_BYTES: usize = 4 * 8 + 1 + 4 + 2;

/// A user's name without the byte 0, which ends it in the store.
fn name(user: &str) -> String {
    user.replace('%', "%25").replace('\0', "%00")
}

fn bounds(cmd: &mut Cmd, wait: &Wait) {
    cmd.arg((wait.ttl.as_millis() as u64).max(1)).arg(wait.per_user.max(1));
    cmd.arg(OFFLINE_USER_BYTES_MAX).arg(OFFLINE_TENANT_BYTES_MAX).arg(OFFLINE_EVENT_COST);
}

/// What the script of an append has to know of one that waits, or whose sender is told.
pub fn append(cmd: &mut Cmd, append: &Append) {
    match &append.wait {
        Some(wait) => {
            cmd.arg(name(&wait.user));
            bounds(cmd, wait);
        }
        None => {
            cmd.arg("").arg(0).arg(0).arg(0).arg(0).arg(0);
        }
    }
    match &append.track {
        Some(track) => {
            cmd.arg(&*track.sender).arg(&*track.id).arg((track.ttl.as_millis() as u64).max(1)).arg(RECEIPTS_MAX);
        }
        None => {
            cmd.arg("");
        }
    }
}

/// The commands of an act.
pub fn encode(script: &mut Script<'_>, tenant: &TenantId, act: &Act) {
    let mut names = vec![script.keys.hash(tenant)];
    let cmd = match act {
        Act::Read { user } => {
            names.extend(script.keys.waiting(tenant));
            let mut cmd = script.begin(Name::Waiting, &names);
            cmd.arg("read").arg(name(user));
            cmd
        }
        Act::Done { epoch, sequences, told } => {
            names.extend(script.keys.waiting(tenant));
            let mut cmd = script.begin(Name::Waiting, &names);
            cmd.arg("done").arg(epoch.0);
            match told {
                Some((user, dropped)) => cmd.arg(name(user)).arg(*dropped),
                None => cmd.arg("").arg(0),
            };
            cmd.arg(&sequences[..]);
            cmd
        }
        Act::Keep { epoch, room, sequences, wait } => {
            names.extend(script.keys.waiting(tenant));
            names.push(script.keys.stream(tenant, room));
            let mut cmd = script.begin(Name::Waiting, &names);
            cmd.arg("keep").arg(epoch.0).arg(name(&wait.user));
            bounds(&mut cmd, wait);
            cmd.arg(&sequences[..]);
            cmd
        }
        Act::Tell { user, told, ids, rooms, number } => {
            let mut cmd = script.begin(Name::Receipt, &script.keys.tracked(tenant));
            let told = match told {
                Told::Delivered => 1,
                Told::Read => 2,
            };
            cmd.arg(&**user).arg(told).arg(*number).arg(RECEIPT_USERS_MAX);
            match rooms {
                Some(rooms) => cmd.arg(rooms.len()),
                None => cmd.arg(""),
            };
            for text in rooms.iter().flatten().chain(ids) {
                cmd.arg(&**text);
            }
            cmd
        }
    };
    script.pipeline.add_command(cmd);
}

/// What its answers say; none: they cannot be read.
pub fn decode(act: &Act, values: Vec<Value>) -> Option<Answer> {
    match (act, values.into_iter().next()?) {
        (Act::Read { .. }, Value::Array(fields)) => waiting(fields).map(Answer::Waiting),
        (Act::Done { .. } | Act::Keep { .. }, Value::Int(0 | 1)) => Some(Answer::Nothing),
        (Act::Tell { .. }, Value::Array(fields)) => {
            let texts: Option<Vec<Box<str>>> = fields.into_iter().map(text).collect();
            let pairs = texts?;
            Some(Answer::Tell(pairs.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()))
        }
        _ => None,
    }
}

fn waiting(fields: Vec<Value>) -> Option<Waiting> {
    let mut fields = fields.into_iter();
    let epoch = text(fields.next()?)?;
    let mut number = || text(fields.next()?)?.parse::<u64>().ok();
    let (sequence, dropped, now) = (number()?, number()?, number()?);
    let place = match &*epoch {
        "" => None,
        epoch => Some(Place { epoch: Epoch(epoch.parse().ok()?), sequence }),
    };
    let mut entries = Vec::new();
    while let (Some(sequence), Some(raw)) = (fields.next(), fields.next()) {
        let (sequence, Value::BulkString(raw)) = (text(sequence)?.parse().ok()?, raw) else { return None };
        // Too old, and not forgotten yet.
        entries.extend(entry(sequence, &raw, now)?);
    }
    Some(Waiting { place, dropped, entries })
}

/// `None`: it is none; `Some(None)`: its time is over.
#[expect(clippy::option_option, reason = "broken and over are two things")]
fn entry(sequence: u64, raw: &[u8], now: u64) -> Option<Option<Entry>> {
    let (head, rest) = raw.split_at_checked(HEAD_BYTES)?;
    let number =
        |from: usize, to: usize| head[from..to].iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
    let body = rest.get(number(37, 39) as usize..)?;
    let until = number(24, 32);
    let stored = Stored { sequence, offset: number(8, 16), at: UnixMs(number(16, 24)), body: body.into() };
    Some((until > now).then(|| Entry {
        stored,
        room_epoch: Epoch(number(0, 8)),
        left: Duration::from_millis(until - now),
        in_doubt: head[32] != 0,
    }))
}

fn text(value: Value) -> Option<Box<str>> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok().map(Into::into),
        Value::SimpleString(text) => Some(text.into()),
        _ => None,
    }
}
