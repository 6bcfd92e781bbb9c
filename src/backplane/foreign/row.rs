//! Rows of the fleet's stream, as they are added: one command that waits, on a connection of its own.
//!
//! Invariants: every row that is added after the first look is read once and in order, as long as the stream keeps it; whether it has kept what
//! comes next is seen by whether it still has what came before; whoever takes them slowly is waited for.

use crate::backplane::{Settings, link};
use crate::wire::adapter::streams::Offset;
use redis::{Pipeline, Value};
use std::{sync::Arc, time};
use tokio::{sync::mpsc, time::sleep};

/// Rows of one answer.
const ROWS_MAX: usize = 100;
/// How long the store waits for a row before it answers that there is none: less than an answer may take.
const BLOCK_MS: u64 = 2000;
/// How soon it is tried again where nothing could be read, and where it could: then a connection has broken.
const RETRY_EVERY: (time::Duration, time::Duration) = (time::Duration::from_secs(1), time::Duration::from_millis(20));

/// A row: its id and its fields.
#[derive(Debug, PartialEq, Eq)]
pub struct Row {
    pub id: String,
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Read {
    Rows(Vec<Row>),
    /// What is read comes after this row; there may have been rows behind it that are no more.
    Anew(Offset),
}

/// Reads until nobody takes. `begins`: a stream without rows gets one, for nobody, so that there is a row to come back to.
pub async fn read(settings: Arc<Settings>, stream: String, begins: bool, taker: mpsc::Sender<Read>) {
    let mut reader = Reader { stream, begins, last: None, seen: None };
    while !taker.is_closed() {
        let mut has_read = false;
        if let Ok(wire) = link::connect_to_wait(&settings).await {
            let mut found = reader.look(&wire).await;
            // What is refused is tried again: the store may be loading, or another master be found, or the user's rights be changed.
            while let Some(reads) = found {
                for read in reads {
                    if taker.send(read).await.is_err() {
                        return;
                    }
                }
                found = reader.next(&wire).await;
                has_read |= found.is_some();
            }
        }
        sleep(if has_read { RETRY_EVERY.1 } else { RETRY_EVERY.0 }).await;
    }
}

struct Reader {
    stream: String,
    begins: bool,
    /// Where it was read up to: from there it goes on when the store is back.
    last: Option<Offset>,
    /// A row that was there when all up to `last` had been read. Rows go from the oldest on: as long as this one is there, so is what follows.
    seen: Option<Offset>,
}

impl Reader {
    async fn ask(&self, wire: &link::Wire, fill: impl FnOnce(&mut Pipeline, &str)) -> Option<Vec<Value>> {
        let mut pipeline = redis::pipe();
        fill(&mut pipeline, &self.stream);
        wire.clone().send(pipeline, self.stream.clone()).await.ok()
    }

    /// Where the stream stands; none: it could not be asked.
    async fn look(&mut self, wire: &link::Wire) -> Option<Vec<Read>> {
        if self.begins {
            self.begin(wire).await?;
        }
        let answers = self.ask(wire, |ask, stream| {
            ask.cmd("XREVRANGE").arg(stream).arg("+").arg("-").arg("COUNT").arg(1);
            if let Some(seen) = self.seen {
                ask.cmd("XRANGE").arg(stream).arg(seen.to_string()).arg(seen.to_string());
            }
        });
        let mut answers = answers.await?.into_iter().map(rows);
        let newest = answers.next()??.pop().and_then(|row| row.offset());
        let is_whole = answers.next().flatten().is_some_and(|rows| !rows.is_empty());
        // Another stream than before, on a clock that is behind: its rows come before those that were read.
        let is_other = self.last.is_some_and(|last| last > newest.unwrap_or_default());
        let last = self.last.filter(|_| !is_other).or(newest).unwrap_or_default();
        let tells = self.last.is_none() || is_other || (self.seen.is_some() && !is_whole);
        self.last = Some(last);
        self.seen = newest.filter(|newest| is_whole || *newest == last).map(|_| last);
        Some(tells.then_some(Read::Anew(last)).into_iter().collect())
    }

    async fn begin(&self, wire: &link::Wire) -> Option<()> {
        let length = self.ask(wire, |ask, stream| {
            ask.cmd("XLEN").arg(stream);
        });
        if let [Value::Int(0)] = length.await?[..] {
            let added = self.ask(wire, |ask, stream| {
                ask.cmd("XADD").arg(stream).arg("*").arg("nsp").arg("");
            });
            added.await?;
        }
        Some(())
    }

    /// The rows after the last one; none: it could not be asked.
    async fn next(&mut self, wire: &link::Wire) -> Option<Vec<Read>> {
        let last = self.last.unwrap_or_default();
        let answers = self.ask(wire, |ask, stream| {
            let read = ask.cmd("XREAD").arg("COUNT").arg(ROWS_MAX).arg("BLOCK").arg(BLOCK_MS);
            read.arg("STREAMS").arg(stream).arg(last.to_string());
            if let Some(seen) = self.seen.filter(|_| self.begins) {
                ask.cmd("XRANGE").arg(stream).arg(seen.to_string()).arg(seen.to_string());
            }
        });
        let mut answers = answers.await?.into_iter();
        let found = read_rows(answers.next()?)?;
        let is_whole = match answers.next() {
            Some(seen) => !rows(seen)?.is_empty(),
            // Only what is everybody's has to come.
            None => !self.begins,
        };
        let Some(newest) = found.last() else {
            return if is_whole { Some(Vec::new()) } else { self.look(wire).await };
        };
        let newest = newest.offset()?;
        (self.last, self.seen) = (Some(newest), Some(newest));
        let anew = (!is_whole).then_some(Read::Anew(last));
        Some(anew.into_iter().chain([Read::Rows(found)]).collect())
    }
}

/// By stream: there is one.
fn read_rows(answer: Value) -> Option<Vec<Row>> {
    rows(match answer {
        Value::Nil => return Some(Vec::new()),
        Value::Map(streams) => streams.into_iter().next()?.1,
        Value::Array(streams) => match streams.into_iter().next()? {
            Value::Array(parts) => parts.into_iter().nth(1)?,
            _ => return None,
        },
        _ => return None,
    })
}

impl Row {
    pub fn offset(&self) -> Option<Offset> {
        Offset::parse(&self.id)
    }

    pub fn field(&self, name: &str) -> Option<&[u8]> {
        self.fields.iter().find(|(of, _)| of == name.as_bytes()).map(|(_, value)| &value[..])
    }
}

/// `[[id, [name, value, ..]], ..]`.
pub fn rows(value: Value) -> Option<Vec<Row>> {
    let Value::Array(entries) = value else { return None };
    let row = |entry: Value| {
        let Value::Array(parts) = entry else { return None };
        let mut parts = parts.into_iter();
        let id = String::from_utf8(bytes(parts.next()?)?).ok()?;
        let fields = match parts.next()? {
            Value::Array(fields) => fields,
            // A row that was deleted while it was read.
            _ => Vec::new(),
        };
        let mut fields = fields.into_iter();
        let mut pairs = Vec::new();
        while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
            pairs.push((bytes(name)?, bytes(value)?));
        }
        Some(Row { id, fields: pairs })
    };
    entries.into_iter().map(row).collect()
}

fn bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.into_bytes()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_and_others_are_none() {
        let text = |text: &str| Value::BulkString(text.into());
        let row = Value::Array(vec![text("5-1"), Value::Array(vec![text("uid"), text("a"), text("nsp"), text("/")])]);
        let want = Row { id: "5-1".into(), fields: vec![("uid".into(), "a".into()), ("nsp".into(), "/".into())] };
        assert_eq!(rows(Value::Array(vec![row])), Some(vec![want]));
        assert_eq!(rows(Value::Array(vec![text("5-1")])), None);
        assert_eq!(rows(Value::Int(1)), None);
    }
}
