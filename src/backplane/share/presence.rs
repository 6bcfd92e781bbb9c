//! Who is there, over all nodes: what is asked, as the scripts `presence.lua` and `roster.lua` take it.

use super::Script;
use crate::backplane::key::TENANT_TTL_MS;
use crate::backplane::script::{Name, bytes, number};
use crate::base::{
    id::TenantId,
    limit::{PRESENCE_REAP_MAX, USERS_REMEMBERED_MAX},
    time::UnixMs,
};
use crate::shard::relay::presence::{Act, Answer, Change, Found, Member, Question, Row, Said, Stance, Totals};
use crate::wire::envelope::Origin;
use redis::{Cmd, Value};

/// Users that are forgotten at a time, where too many are remembered.
const FORGOTTEN: usize = USERS_REMEMBERED_MAX / 100;

/// The commands of an act. A question first takes away what does not count any more.
pub fn encode(script: &mut Script<'_>, tenant: &TenantId, act: &Act) {
    let base = script.keys.channel(tenant);
    let (origin, terms, changes) = match act {
        Act::Say { origin, terms, changes } => (format!("{:x}", origin.0), terms, &changes[..]),
        Act::Ask { terms, .. } => (String::new(), terms, &[][..]),
    };
    let mut cmd = script.begin(Name::Presence, std::slice::from_ref(&base));
    cmd.arg(origin).arg(terms.valid.as_millis() as u64).arg(terms.remember.as_millis() as u64);
    cmd.arg(USERS_REMEMBERED_MAX).arg(FORGOTTEN).arg(script.publish).arg(TENANT_TTL_MS).arg(PRESENCE_REAP_MAX);
    for change in changes {
        say(&mut cmd, change);
    }
    script.pipeline.add_command(cmd);
    let Act::Ask { terms, what } = act else { return };
    let mut cmd = script.begin(Name::Roster, std::slice::from_ref(&base));
    let (name, valid) = (what.name(), terms.valid.as_millis() as u64);
    cmd.arg(name).arg(valid);
    match what {
        Question::Room { room, count } | Question::Nodes { room, count } => cmd.arg(&**room).arg(*count),
        Question::Users(users) => users.iter().fold(&mut cmd, |cmd, user| cmd.arg(&**user)),
        Question::Rooms { count } => cmd.arg(*count),
        Question::Totals => &mut cmd,
    };
    script.pipeline.add_command(cmd);
}

impl Question {
    /// As the script knows it.
    fn name(&self) -> &'static str {
        match self {
            Question::Room { .. } => "room",
            Question::Users(_) => "users",
            Question::Nodes { .. } => "nodes",
            Question::Rooms { .. } => "rooms",
            Question::Totals => "totals",
        }
    }
}

fn say(cmd: &mut Cmd, change: &Change) {
    let mut flags = String::with_capacity(3);
    for (flag, is_so) in [('s', change.sets), ('k', change.known), ('t', change.told)] {
        if is_so {
            flags.push(flag);
        }
    }
    let row = change.row.as_ref().map(pack).unwrap_or_default();
    cmd.arg(&*change.user).arg(flags).arg(&change.stance.encode()[..]).arg(row).arg(change.seen.0);
}

/// A row as the scripts read it.
fn pack(row: &Row) -> Vec<u8> {
    let mut out = Vec::with_capacity(12 + row.seats.len() * 24);
    out.extend_from_slice(&row.sessions.to_be_bytes());
    out.extend_from_slice(&row.seen.0.to_be_bytes());
    for seat in &row.seats {
        // A name is bounded far below; one that is not is left out.
        let Ok(length) = u16::try_from(seat.room.len()) else { continue };
        out.extend_from_slice(&seat.sockets.to_be_bytes());
        out.push(u8::from(seat.watched));
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(seat.room.as_bytes());
    }
    out
}

/// What its answers say; none: they cannot be read.
pub fn decode(act: &Act, values: Vec<Value>) -> Option<Answer> {
    let Value::Array(answer) = values.into_iter().next_back()? else { return None };
    Some(match act {
        Act::Say { changes, .. } => {
            let Value::Array(users) = answer.first()? else { return None };
            let users = users.iter().map(said).collect::<Option<Vec<Said>>>()?;
            if users.len() != changes.len() {
                return None;
            }
            Answer::Said { users, sessions: count(answer.get(1)?)?, more: count(answer.get(2)?)? == 1 }
        }
        Act::Ask { what: Question::Room { .. }, .. } => {
            let (total, members) = answer.split_first()?;
            let members = members.chunks_exact(4).map(member).collect::<Option<_>>()?;
            Answer::Room { members, count: number(total)? as usize }
        }
        Act::Ask { what: Question::Users(users), .. } => {
            let found = answer.iter().map(found).collect::<Option<Vec<Found>>>()?;
            Answer::Users(Some(found).filter(|found| found.len() == users.len())?)
        }
        Act::Ask { what: Question::Nodes { .. }, .. } => {
            let node = |value| u64::from_str_radix(&text(value)?, 16).ok().map(Origin);
            Answer::Nodes(answer.iter().map(node).collect::<Option<_>>()?)
        }
        Act::Ask { what: Question::Rooms { .. }, .. } => {
            let (total, rooms) = answer.split_first()?;
            let room = |pair: &[Value]| Some((text(&pair[0])?, count(&pair[1])?));
            Answer::Rooms {
                rooms: rooms.chunks_exact(2).map(room).collect::<Option<_>>()?,
                count: number(total)? as usize,
            }
        }
        Act::Ask { what: Question::Totals, .. } => Answer::Totals(Totals {
            sessions: count(answer.first()?)?,
            users: count(answer.get(1)?)?,
            rooms: count(answer.get(2)?)?,
        }),
    })
}

fn count(value: &Value) -> Option<u32> {
    u32::try_from(number(value)?).ok()
}

fn text(value: &Value) -> Option<Box<str>> {
    std::str::from_utf8(bytes(value)?).ok().map(Into::into)
}

fn stance(value: &Value) -> Option<Option<Stance>> {
    match bytes(value)? {
        [] => Some(None),
        bytes => Stance::decode(bytes).map(Some),
    }
}

fn said(value: &Value) -> Option<Said> {
    let Value::Array(fields) = value else { return None };
    let there = count(fields.get(1)?)? == 1;
    Some(Said { stance: stance(fields.first()?)?, there, sessions: count(fields.get(2)?)? })
}

fn member(fields: &[Value]) -> Option<Member> {
    Some(Member {
        user: text(&fields[0])?,
        stance: stance(&fields[1])??,
        seen: UnixMs(number(&fields[2])?),
        sockets: count(&fields[3])?,
    })
}

fn found(value: &Value) -> Option<Found> {
    let Value::Array(fields) = value else { return None };
    let Value::Array(rooms) = fields.get(4)? else { return None };
    Some(Found {
        there: count(fields.first()?)? == 1,
        stance: stance(fields.get(1)?)?,
        sessions: count(fields.get(2)?)?,
        seen: number(fields.get(3)?).map(UnixMs),
        rooms: rooms.iter().map(text).collect::<Option<_>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Duration;
    use crate::shard::relay::presence::Terms;

    #[test]
    fn an_answer_that_cannot_be_read_is_none() {
        let bulk = |bytes: &[u8]| Value::BulkString(bytes.to_vec());
        let terms = Terms { valid: Duration::from_secs(1), remember: Duration::ZERO };
        let say = Act::Say { origin: Origin(1), terms, changes: Vec::new() };
        let ask = |what| Act::Ask { terms, what };
        let users = ask(Question::Users(vec!["u".into()]));
        let room = ask(Question::Room { room: "r".into(), count: 1 });
        let nodes = ask(Question::Nodes { room: "r".into(), count: 1 });
        let (totals, rooms) = (ask(Question::Totals), ask(Question::Rooms { count: 1 }));
        let none = || Value::Array(Vec::new());
        for (act, answer) in [
            (&say, none()),
            (&say, Value::Array(vec![Value::Array(vec![none()]), Value::Int(1), Value::Int(0)])),
            (&say, Value::Array(vec![Value::Array(vec![Value::Int(1)]), Value::Int(1), Value::Int(0)])),
            (&users, none()),
            (&users, Value::Array(vec![Value::Array(vec![bulk(b"1"), bulk(b"xx")])])),
            (&room, none()),
            (&nodes, Value::Array(vec![bulk(b"xyz")])),
            (&room, Value::Array(vec![Value::Int(1), bulk(b"u"), bulk(b""), bulk(b"1"), bulk(b"1")])),
            (&room, Value::Array(vec![Value::Int(1), bulk(b"\xff"), bulk(&[0; 11]), bulk(b"1"), bulk(b"1")])),
            (&totals, Value::Array(vec![Value::Int(-1), Value::Int(0), Value::Int(0)])),
            (&rooms, Value::Okay),
        ] {
            assert!(decode(act, vec![answer.clone()]).is_none(), "{act:?} {answer:?}");
        }
        assert!(decode(&totals, Vec::new()).is_none());
    }
}
