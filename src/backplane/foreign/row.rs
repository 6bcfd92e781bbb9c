//! Rows of the fleet's stream, as they are added: one command that waits, on a connection of its own.
//!
//! Invariant: every row that is added after the first look is read once and in order, as long as the stream keeps it; whoever takes them slowly
//! is waited for.

use crate::backplane::{Settings, link};
use crate::wire::adapter::streams::Offset;
use redis::Value;
use std::{sync::Arc, time};
use tokio::{sync::mpsc, time::sleep};

/// Rows of one answer.
const ROWS_MAX: usize = 100;
/// How long the store waits for a row before it answers that there is none: less than an answer may take.
const BLOCK_MS: u64 = 2000;
const RETRY_EVERY: time::Duration = time::Duration::from_secs(1);

/// A row: its id and its fields.
#[derive(Debug, PartialEq, Eq)]
pub struct Row {
    pub id: String,
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Reads until nobody takes. `begins`: a stream without rows gets one, for nobody, so that there is a row to come back to.
pub async fn read(settings: Arc<Settings>, stream: String, begins: bool, taker: mpsc::Sender<Vec<Row>>) {
    // Where it was read up to: from there it goes on when the store is back.
    let mut last: Option<String> = None;
    while !taker.is_closed() {
        if let Ok(wire) = link::connect_to_wait(&settings).await
            && (!begins || begin(&wire, &stream).await.is_some())
        {
            // What is refused is tried again: the store may be loading, or another master be found, or the user's rights be changed.
            while let Some(rows) = next(&wire, &stream, &mut last).await {
                if !rows.is_empty() && taker.send(rows).await.is_err() {
                    return;
                }
            }
        }
        sleep(RETRY_EVERY).await;
    }
}

async fn begin(wire: &link::Wire, stream: &str) -> Option<()> {
    let mut pipeline = redis::pipe();
    pipeline.cmd("XLEN").arg(stream);
    if let [Value::Int(0)] = wire.clone().send(pipeline, stream.to_owned()).await.ok()?[..] {
        let mut pipeline = redis::pipe();
        pipeline.cmd("XADD").arg(stream).arg("*").arg("nsp").arg("");
        wire.clone().send(pipeline, stream.to_owned()).await.ok()?;
    }
    Some(())
}

/// The rows after the last one; none: it could not be asked.
async fn next(wire: &link::Wire, stream: &str, last: &mut Option<String>) -> Option<Vec<Row>> {
    let mut pipeline = redis::pipe();
    match last {
        None => pipeline.cmd("XREVRANGE").arg(stream).arg("+").arg("-").arg("COUNT").arg(1),
        Some(last) => {
            let read = pipeline.cmd("XREAD").arg("COUNT").arg(ROWS_MAX).arg("BLOCK").arg(BLOCK_MS);
            read.arg("STREAMS").arg(stream).arg(&*last)
        }
    };
    let answer = wire.clone().send(pipeline, stream.to_owned()).await.ok()?.into_iter().next()?;
    if last.is_none() {
        let newest = rows(answer)?.pop().map(|row| row.id);
        // Nothing in it is for anybody: it says from where on rows are read.
        let found = newest.iter().map(|id| Row { id: id.clone(), fields: Vec::new() }).collect();
        *last = Some(newest.unwrap_or_else(|| "0-0".into()));
        return Some(found);
    }
    let found = match answer {
        Value::Nil => return Some(Vec::new()),
        // By stream: there is one.
        Value::Map(streams) => streams.into_iter().next()?.1,
        Value::Array(streams) => match streams.into_iter().next()? {
            Value::Array(parts) => parts.into_iter().nth(1)?,
            _ => return None,
        },
        _ => return None,
    };
    let found = rows(found)?;
    if let Some(newest) = found.last() {
        *last = Some(newest.id.clone());
    }
    Some(found)
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
