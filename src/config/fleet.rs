//! Section `fleet`: emitters and Node servers in the same Redis, as their own options have it.

use super::{error::Error, raw::Raw, redis::Redis};
use crate::profile::nearest::nearest;
use crate::wire::adapter::{
    Mode,
    streams::{SESSION_PREFIX, tag},
};

const KEY: &str = "socket.io";
const IN_CLUSTER: &str =
    "with redis.nodes it needs the hash tag of fleet.stream, because sockets have to be in that one's slot";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fleet {
    pub adapter: Adapter,
    /// `key` of the classic adapter and of the emitter, `channelPrefix` of the others.
    pub key: String,
    /// `streamName`.
    pub stream: String,
    /// `subscriptionMode` of the sharded adapter.
    pub mode: Mode,
    /// Sockets come back to servers of another make, and theirs here.
    pub recovery: bool,
    /// `sessionKeyPrefix`.
    pub session_prefix: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adapter {
    /// Not even emitters are heard.
    Off,
    Emitter,
    Classic,
    Sharded,
    Streams,
}

const ADAPTERS: [(&str, Adapter); 5] = [
    ("emitter", Adapter::Emitter),
    ("classic", Adapter::Classic),
    ("sharded", Adapter::Sharded),
    ("streams", Adapter::Streams),
    ("off", Adapter::Off),
];

/// The third, `dynamic-private`, has a channel for each socket of the fleet: it is not served.
const MODES: [(&str, Mode); 2] = [("dynamic", Mode::Dynamic), ("static", Mode::Static)];

/// Without Redis there is nobody to hear.
pub fn load(raw: &Raw, redis: Option<&Redis>) -> Result<Fleet, Error> {
    let adapter = choice(raw, "fleet.adapter", &ADAPTERS)?;
    let needs_redis = !matches!(adapter, Adapter::Off | Adapter::Emitter);
    if needs_redis && redis.is_none() {
        return Err(raw.error("fleet.adapter", "a fleet meets in Redis: redis.url or redis.host has to say where"));
    }
    let recovery = raw.flag("fleet.recovery", false)?;
    if recovery && adapter != Adapter::Streams {
        return Err(raw.error(
            "fleet.recovery",
            "only the streams adapter keeps what was missed: fleet.adapter has to be `streams`",
        ));
    }
    let named = |path, default: &str| -> Result<String, Error> {
        let name = raw.text(path)?.unwrap_or_else(|| default.into());
        if name.len() > 256 || name.contains(char::is_control) {
            return Err(raw.error(path, "must be 1 to 256 bytes without control characters"));
        }
        Ok(name)
    };
    let name = |path| named(path, KEY);
    let fleet = Fleet {
        adapter,
        key: name("fleet.key")?,
        stream: name("fleet.stream")?,
        mode: choice(raw, "fleet.subscription_mode", &MODES)?,
        recovery,
        session_prefix: named("fleet.session_prefix", SESSION_PREFIX)?,
    };
    let is_cluster = redis.is_some_and(|redis| !redis.nodes.is_empty());
    // The names go on behind it.
    let is_beside =
        fleet.session_prefix != tag(&fleet.session_prefix) && tag(&fleet.session_prefix) == tag(&fleet.stream);
    if recovery && is_cluster && !is_beside {
        let path = if raw.text("fleet.session_prefix")?.is_some() { "fleet.session_prefix" } else { "fleet.recovery" };
        let example = format!("{{{}}}{SESSION_PREFIX}", tag(&fleet.stream));
        return Err(raw.error(
            path,
            format!("{IN_CLUSTER}: session_prefix = \"{example}\", as sessionKeyPrefix of the Node servers"),
        ));
    }
    Ok(fleet)
}

/// One of these words; the first where none is given.
fn choice<T: Copy>(raw: &Raw, path: &'static str, words: &[(&str, T)]) -> Result<T, Error> {
    let Some(text) = raw.text(path)? else { return Ok(words[0].1) };
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text.trim()) {
        return Ok(*value);
    }
    let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    let meant = nearest(text.trim(), known.iter().copied()).map(|word| format!("; did you mean `{word}`?"));
    Err(raw.error(path, format!("must be one of {}{}", known.join(", "), meant.unwrap_or_default())))
}
