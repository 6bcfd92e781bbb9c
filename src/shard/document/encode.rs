//! What is said of documents: answers, and the events that tell others. Values go out byte for byte as they came in.

use super::{Clash, Conflict, Dispute, Document, Outcome, Stamp, Strategy, Update};
use crate::shard::refusal::Refusal;
use crate::wire::json;
use std::io::Write;

/// Who did what to which document: the head of everything that is said of it.
pub struct About<'a> {
    pub id: &'a str,
    pub document: &'a Document,
    pub version: u64,
}

impl About<'_> {
    /// `"document":..,"version":..,"epoch":..`
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\"document\":");
        json::write_string(out, self.id);
        let _ = write!(out, ",\"version\":{},\"epoch\":\"{}\"", self.version, self.document.epoch);
    }
}

fn text(parts: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::with_capacity(256);
    parts(&mut out);
    // Made of texts only.
    String::from_utf8(out).unwrap_or_default()
}

/// `{"name":value,..}`
fn write_fields<'a>(out: &mut Vec<u8>, fields: impl IntoIterator<Item = (&'a str, &'a str)>) {
    out.push(b'{');
    for (nth, (name, value)) in fields.into_iter().enumerate() {
        if nth > 0 {
            out.push(b',');
        }
        json::write_string(out, name);
        out.push(b':');
        out.extend_from_slice(value.as_bytes());
    }
    out.push(b'}');
}

fn write_who(out: &mut Vec<u8>, stamp: &Stamp) {
    out.extend_from_slice(b",\"user\":");
    json::write_string(out, &stamp.user);
    let _ = write!(out, ",\"timestamp\":{}", stamp.at.0);
}

/// As a profile has it.
fn strategy_name(strategy: Strategy) -> &'static str {
    match strategy {
        Strategy::LastWriteWins => "last-write-wins",
        Strategy::Reject => "reject",
        Strategy::Manual => "manual",
    }
}

/// `"strategy":..,"conflictedFields":[..],"originalValue":{..},"incomingValue":{..},"resolvedValue":{..}`; the last is null where nobody has
/// decided.
fn write_clash(out: &mut Vec<u8>, clash: &Clash) {
    let _ = write!(out, "\"strategy\":\"{}\"", strategy_name(clash.strategy));
    if let Some(number) = clash.kept {
        let _ = write!(out, ",\"conflict\":{number}");
    }
    if clash.fields.is_empty() {
        return;
    }
    out.extend_from_slice(b",\"conflictedFields\":[");
    for (nth, Dispute { name, .. }) in clash.fields.iter().enumerate() {
        if nth > 0 {
            out.push(b',');
        }
        json::write_string(out, name);
    }
    out.extend_from_slice(b"],\"originalValue\":");
    write_fields(out, clash.fields.iter().map(|dispute| (&*dispute.name, &*dispute.original)));
    out.extend_from_slice(b",\"incomingValue\":");
    write_fields(out, clash.fields.iter().map(|dispute| (&*dispute.name, &*dispute.incoming)));
    out.extend_from_slice(b",\"resolvedValue\":");
    if clash.fields.iter().all(|dispute| dispute.resolved.is_none()) {
        out.extend_from_slice(b"null");
    } else {
        let resolved = |dispute: &Dispute| dispute.resolved.as_deref().unwrap_or("null").to_owned();
        let values: Vec<String> = clash.fields.iter().map(resolved).collect();
        write_fields(out, clash.fields.iter().zip(&values).map(|(dispute, value)| (&*dispute.name, &**value)));
    }
}

/// `{ok, document, version, epoch, fields, conflicts}`.
pub fn whole(about: &About<'_>) -> String {
    text(|out| {
        out.extend_from_slice(b"{\"ok\":true,");
        about.write(out);
        out.extend_from_slice(b",\"fields\":");
        write_fields(out, about.document.fields());
        out.extend_from_slice(b",\"conflicts\":[");
        for (nth, conflict) in about.document.conflicts().iter().enumerate() {
            let Conflict { number, stamp, base, fields, .. } = conflict;
            let _ = write!(out, "{}{{\"conflict\":{number}", if nth > 0 { "," } else { "" });
            write_who(out, stamp);
            let _ = write!(out, ",\"baseVersion\":{base},\"fields\":");
            write_fields(out, fields.iter().map(|(name, value)| (&**name, &**value)));
            out.push(b'}');
        }
        out.extend_from_slice(b"]}");
    })
}

/// The answer to an update or a decision. `fields` are those of others that its writer may not have: what it had, its own fields, and these
/// over them are the document at `version`.
pub fn answer(about: &About<'_>, base: u64, outcome: &Outcome, refused: bool) -> String {
    text(|out| {
        if refused {
            out.extend_from_slice(
                b"{\"ok\":false,\"code\":\"conflict\",\"message\":\"another has changed these fields\",",
            );
        } else {
            out.extend_from_slice(b"{\"ok\":true,");
        }
        about.write(out);
        if let Some(clash) = &outcome.clash
            && (refused || clash.strategy == Strategy::LastWriteWins)
        {
            out.push(b',');
            write_clash(out, clash);
        }
        let mine = (!outcome.written.is_empty()).then_some(outcome.version);
        let mut theirs = about.document.since(base, mine);
        if !outcome.again
            && let Some(first) = theirs.next()
        {
            out.extend_from_slice(b",\"fields\":");
            write_fields(out, std::iter::once(first).chain(theirs));
        }
        out.push(b'}');
    })
}

/// The answer to an update on a version that is not kept, or never was: with all that its writer needs to write again.
pub fn rebase(about: &About<'_>, refusal: &Refusal) -> String {
    text(|out| {
        out.extend_from_slice(b"{\"ok\":false,");
        refusal.write_members(out);
        out.push(b',');
        about.write(out);
        out.extend_from_slice(b",\"fields\":");
        write_fields(out, about.document.fields());
        out.push(b'}');
    })
}

/// The answer to who opens a document of which nothing is known: it may be written to.
pub fn nothing(id: &str) -> String {
    text(|out| {
        out.extend_from_slice(b"{\"ok\":true,\"document\":");
        json::write_string(out, id);
        out.extend_from_slice(b",\"version\":0,\"fields\":{},\"conflicts\":[]}");
    })
}

/// What the others who have it open are told: `{document, version, epoch, fields, user, timestamp}`.
pub fn updated(about: &About<'_>, update: &Update<'_>, outcome: &Outcome) -> String {
    text(|out| {
        out.push(b'{');
        about.write(out);
        out.extend_from_slice(b",\"fields\":");
        write_fields(out, outcome.written.iter().map(|(name, value)| (&**name, &**value)));
        write_who(out, &update.stamp);
        out.push(b'}');
    })
}

/// One [`updated`] for all that came after a version; none: nothing did.
pub fn caught_up(about: &About<'_>, since: u64) -> Option<String> {
    let newest = about.document.fields.values().max_by_key(|field| field.version)?;
    about.document.since(since, None).next()?;
    Some(text(|out| {
        out.push(b'{');
        about.write(out);
        out.extend_from_slice(b",\"fields\":");
        write_fields(out, about.document.since(since, None));
        write_who(out, &newest.stamp);
        out.push(b'}');
    }))
}

/// `document:conflict` and `conflict:resolved`; `user` is who wrote, or who decided.
pub fn clashed(about: &About<'_>, update: &Update<'_>, clash: &Clash, closed: &[u64]) -> String {
    text(|out| {
        out.push(b'{');
        about.write(out);
        write_who(out, &update.stamp);
        out.push(b',');
        write_clash(out, clash);
        if !closed.is_empty() {
            let _ = write!(out, ",\"conflicts\":{closed:?}");
        }
        out.push(b'}');
    })
}
