//! `document:update`, `document:get`, `document:open`, `document:close` and `conflict:resolve`.

use super::{Acknowledged, act, argument, ok};
use crate::base::{limit, time::UnixMs};
use crate::profile::Emit;
use crate::shard::app::{Args, Context};
use crate::shard::document::access::{Deed, Edit, Known, is_name};
use crate::shard::history::Epoch;
use crate::shard::refusal::Refusal;
use crate::wire::json;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;

const OPEN_TAKES: &str = "document:open takes {document, version?, fields?: {name: value}}";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Change<'a> {
    #[serde(borrow)]
    document: Cow<'a, str>,
    base_version: u64,
    #[serde(borrow)]
    fields: &'a RawValue,
    #[serde(borrow, default)]
    timestamp: Option<&'a RawValue>,
    #[serde(borrow, default)]
    epoch: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow)]
    document: Cow<'a, str>,
    #[serde(default)]
    version: Option<u64>,
    #[serde(borrow, default)]
    fields: Option<&'a RawValue>,
}

/// What goes on when the store has said what came of a request: as where it is answered at once.
fn answered(
    socket: &Context<'_>,
    reply: Option<&Emit>,
    args: Args<'_>,
) -> impl FnOnce(&mut Context<'_>, Result<String, Refusal>) + 'static {
    let reply = reply.map(|emit| (emit.event.clone(), act::shaped(socket, emit.data.as_ref(), args)));
    move |socket, answer| match answer {
        Ok(answer) => {
            if let Some((event, data)) = reply {
                socket.emit(&event, &data);
            }
            socket.ack(&answer);
        }
        Err(refusal) => socket.refuse(&refusal),
    }
}

/// Writes fields of a document: on the version its writer has, merged with what others have written since. None, as of the others: it is
/// answered later.
pub fn update(socket: &mut Context<'_>, reply: Option<&Emit>, args: Args<'_>) -> Result<Option<String>, Refusal> {
    const TAKES: &str = "document:update takes {document, baseVersion, fields: {name: value}, timestamp?, epoch?}";
    write(socket, reply, args, TAKES, Deed::Update)
}

/// Decides conflicts: the values of these fields.
pub fn resolve(socket: &mut Context<'_>, reply: Option<&Emit>, args: Args<'_>) -> Result<Option<String>, Refusal> {
    const TAKES: &str = "conflict:resolve takes {document, baseVersion, fields: {name: value}, timestamp?, epoch?}";
    write(socket, reply, args, TAKES, Deed::Resolve)
}

fn write(
    socket: &mut Context<'_>,
    reply: Option<&Emit>,
    args: Args<'_>,
    takes: &'static str,
    deed: Deed,
) -> Result<Option<String>, Refusal> {
    let change: Change<'_> = argument(args, takes)?;
    let fields = fields(change.fields.get()).filter(|fields| !fields.is_empty());
    let fields = fields.ok_or(Refusal::InvalidArgument(takes))?;
    let timestamp = change.timestamp.map_or("null", RawValue::get);
    let at = time(timestamp).ok_or(Refusal::InvalidArgument("timestamp is milliseconds since 1970, or RFC 3339"))?;
    // An epoch nobody gave out is of no document.
    let epoch = change.epoch.map(|epoch| Epoch::parse(&epoch).unwrap_or(Epoch(u64::MAX)));
    let raw = (timestamp, change.fields.get());
    let edit = Edit { base: change.base_version, epoch, fields, at, raw };
    if socket.is_among_nodes() {
        let then = answered(socket, reply, args);
        return socket.write_shared(&change.document, deed, &edit, then).map(|()| None);
    }
    socket.write_document(&change.document, deed, edit).map(Some)
}

/// A document as it is.
pub fn get(socket: &mut Context<'_>, reply: Option<&Emit>, args: Args<'_>) -> Result<Option<String>, Refusal> {
    let Named { document, .. } = argument(args, "document:get takes {document}")?;
    if socket.is_among_nodes() {
        let then = answered(socket, reply, args);
        return socket.read_shared(&document, then).map(|()| None);
    }
    socket.read_document(&document).map(Some)
}

/// Joins a document's room and answers what the document is; what the server does not know, the client may bring. None: it is answered when
/// the application's backend has decided, or the store.
pub fn open(
    socket: &mut Context<'_>,
    own: &str,
    reply: Option<&Emit>,
    args: Args<'_>,
) -> Result<Option<String>, Refusal> {
    let named: Named<'_> = argument(args, OPEN_TAKES)?;
    let raw = named.fields.map(RawValue::get);
    let Some(room) = socket.asks_to_open(&named.document)? else {
        let copy = copy(named.version, raw)?;
        if socket.is_among_nodes() {
            let then = answered(socket, reply, args);
            return socket.open_shared(&named.document, copy.as_ref(), then).map(|()| None);
        }
        return socket.open_document(&named.document, copy).map(Some);
    };
    let then = answered(socket, reply, args);
    let (document, raw) = (named.document.into_owned(), raw.map(str::to_owned));
    socket.join_authorized(&room, own, move |socket, joined| {
        let copy = joined.and_then(|()| copy(named.version, raw.as_deref()));
        let answer = match copy {
            Ok(copy) if socket.is_among_nodes() => {
                let opens = socket.open_shared(&document, copy.as_ref(), then);
                return if let Err(refusal) = opens {
                    socket.refuse(&refusal)
                };
            }
            copy => copy.and_then(|copy| socket.open_document(&document, copy)),
        };
        if answer.is_err() {
            socket.count_refused_room();
        }
        then(socket, answer);
    });
    Ok(None)
}

/// The document as a client has it.
fn copy(version: Option<u64>, raw: Option<&str>) -> Result<Option<Known<'_>>, Refusal> {
    let Some(raw) = raw else { return Ok(None) };
    let version = version.unwrap_or(1);
    let fields = fields(raw).filter(|_| (1..=limit::DOCUMENT_VERSION_OPENED_MAX).contains(&version));
    Ok(Some(Known { version, fields: fields.ok_or(Refusal::InvalidArgument(OPEN_TAKES))? }))
}

pub fn close(socket: &mut Context<'_>, args: Args<'_>) -> Result<Acknowledged, Refusal> {
    let Named { document, .. } = argument(args, "document:close takes {document}")?;
    socket.close_document(&document)?;
    Ok(ok())
}

/// The fields of an object in the order of their names; of a name that comes twice the last, as JavaScript has it.
fn fields(raw: &str) -> Option<Vec<(Cow<'_, str>, &str)>> {
    if !raw.starts_with('{') {
        return None;
    }
    let mut fields = BTreeMap::new();
    for (name, value) in json::members(raw) {
        fields.insert(json::string(name).filter(|name| is_name(name))?, value);
    }
    Some(fields.into_iter().collect())
}

/// Milliseconds or RFC 3339; inside, none: the writer does not say.
fn time(raw: &str) -> Option<Option<UnixMs>> {
    if raw == "null" {
        return Some(None);
    }
    let at = match json::string(raw) {
        Some(text) => UnixMs::parse_rfc3339(&text)?,
        None => UnixMs(raw.parse::<f64>().ok().filter(|ms| ms.is_finite() && *ms >= 0.0)? as u64),
    };
    Some(Some(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps() {
        for (raw, want) in [
            ("null", Some(None)),
            ("1700000000123", Some(Some(1_700_000_000_123))),
            ("1700000000123.9", Some(Some(1_700_000_000_123))),
            ("1.7e12", Some(Some(1_700_000_000_000))),
            ("0", Some(Some(0))),
            ("1e999", None),
            ("-1", None),
            ("true", None),
            ("{}", None),
            ("\"2023-11-14T22:13:20.123Z\"", Some(Some(1_700_000_000_123))),
            ("\"yesterday\"", None),
            ("1e300", Some(Some(u64::MAX))),
        ] {
            assert_eq!(time(raw), want.map(|at| at.map(UnixMs)), "{raw}");
        }
    }

    #[test]
    fn fields_are_named_once_and_in_order() {
        type Fields = Option<&'static [(&'static str, &'static str)]>;
        let table: [(&str, Fields); 7] = [
            ("{\"b\":1,\"a\" : [2] }", Some(&[("a", "[2]"), ("b", "1")])),
            ("{\"a\":1,\"\\u0061\":2}", Some(&[("a", "2")])),
            ("{}", Some(&[])),
            ("[1]", None),
            ("1", None),
            ("{\"\":1}", None),
            ("{\"a\\n\":1}", None),
        ];
        for (raw, want) in table {
            let have = fields(raw);
            let have = have.as_ref().map(|fields| fields.iter().map(|(name, value)| (&**name, *value)).collect());
            assert_eq!(have, want.map(<[_]>::to_vec), "{raw}");
        }
    }
}
