//! A document that several people write at once: its fields, its versions, and what happens where two writers meet.
//!
//! ```text
//!   update on the present version     written                                          version + 1
//!   update on an older one            three ways, field by field: the base, the incoming value, the present one
//!     as in the base                  not touched by this writer
//!     present as in the base          written                                          version + 1 for all of them together
//!     both changed, to one value      agreed: nothing to do
//!     both changed, to two values     a conflict, for the document's strategy
//!       last-write-wins               the greater of (timestamp, user, value) stands; the loser is told
//!       reject                        nothing of the update is written
//!       manual                        the present value stands, the incoming one is kept until somebody decides
//!   update on one that is not kept    refused, with what the document is now
//! ```
//!
//! Invariants: the version rises by one for every update that changed something, and for no other; the values of the last versions are
//! kept, so that any base from `horizon` on is compared exactly; what is written never depends on in which order writes of one base came,
//! where the last write wins; nothing written by another is overwritten unseen, unless a conflict says so. Time and chance are arguments.

pub mod access;
pub mod encode;
mod rule;
pub mod stored;

pub use crate::profile::file::Strategy;
pub use rule::{DocumentRule, DocumentSettings};

use super::history::Epoch;
use super::refusal::Refusal;
use crate::base::{
    limit,
    time::{Instant, UnixMs},
};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

/// When and by whom something was written, as the writer has it: what the last write is decided by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp {
    pub at: UnixMs,
    pub user: Rc<str>,
}

impl Stamp {
    /// A writer's clock may be ahead, but not so far that it wins for ever: [`limit::DOCUMENT_AHEAD_MAX`] at most.
    pub fn new(at: Option<UnixMs>, user: Rc<str>, now: UnixMs) -> Stamp {
        let latest = UnixMs(now.0 + limit::DOCUMENT_AHEAD_MAX.as_millis() as u64);
        Stamp { at: at.unwrap_or(now).min(latest), user }
    }
}

/// What a client wants written.
pub struct Update<'a> {
    /// The version its writer had before it.
    pub base: u64,
    /// The life of the document it had, where it says so.
    pub epoch: Option<Epoch>,
    /// In the order of their names, each once; the values are raw JSON, validated.
    pub fields: Vec<(Cow<'a, str>, &'a str)>,
    pub stamp: Stamp,
    /// Whose writes come in order: one who writes on before its last write is answered has no conflict with itself.
    pub writer: u64,
    /// By which it is known when it is sent again.
    pub key: u64,
}

/// What came of an update or a decision.
#[derive(Debug, Default)]
pub struct Outcome {
    pub version: u64,
    /// Fields that were written, with their values: what others are told. Empty: the version is what it was.
    pub written: Vec<(Rc<str>, Rc<str>)>,
    pub clash: Option<Clash>,
    /// Conflicts that a decision has closed.
    pub closed: Vec<u64>,
    /// It was here before, and nothing was done.
    pub again: bool,
}

/// The fields of one update that another had changed.
#[derive(Clone, Debug)]
pub struct Clash {
    pub strategy: Strategy,
    /// In the order of their names.
    pub fields: Vec<Dispute>,
    /// The conflict's number, where it waits for somebody to decide.
    pub kept: Option<u64>,
}

#[derive(Clone, Debug)]
pub struct Dispute {
    pub name: Rc<str>,
    pub original: Rc<str>,
    pub incoming: Rc<str>,
    /// None: nobody has decided.
    pub resolved: Option<Rc<str>>,
}

/// A conflict that waits for somebody to decide.
#[derive(Debug)]
pub struct Conflict {
    pub number: u64,
    pub stamp: Stamp,
    pub base: u64,
    pub fields: BTreeMap<Rc<str>, Rc<str>>,
    writer: u64,
}

#[derive(Debug)]
struct Field {
    value: Rc<str>,
    /// The version that gave it this value.
    version: u64,
    /// The latest of all who have written this value.
    stamp: Stamp,
    /// Who has written this version.
    writer: u64,
    /// What it was before, oldest first.
    past: VecDeque<Was>,
}

/// A value a field had since a version, until the next one's.
#[derive(Debug)]
struct Was {
    since: u64,
    value: Rc<str>,
}

/// An update that is known when it is sent again.
#[derive(Clone, Copy, Debug)]
struct Receipt {
    key: u64,
    version: u64,
    kept: Option<u64>,
}

#[derive(Debug)]
pub struct Document {
    /// Its life: forgotten and written again, it has another.
    pub epoch: Epoch,
    /// When somebody last opened it or wrote to it, or was found to have it open.
    touched: Instant,
    /// Since then it was found to be open to nobody, and `touched` is when.
    idle: bool,
    version: u64,
    /// The oldest version that an update may be based on.
    horizon: u64,
    fields: BTreeMap<Rc<str>, Field>,
    /// Oldest first, at most [`limit::DOCUMENT_CONFLICTS_MAX`].
    conflicts: Vec<Conflict>,
    conflicts_ever: u64,
    /// Oldest first, at most [`limit::DOCUMENT_RECEIPTS_MAX`].
    receipts: VecDeque<Receipt>,
    /// Of names, values and conflicts.
    bytes: usize,
    past_bytes: usize,
}

/// What an update does, before anything is done.
#[derive(Default)]
struct Plan<'a> {
    write: Vec<(&'a str, &'a str)>,
    /// Agreed with what stands; the later of both stamps counts.
    agree: Vec<&'a str>,
    disputes: Vec<Dispute>,
}

impl Document {
    /// As somebody has it who knows it: `fields` at `version`.
    pub fn new<'a>(
        epoch: Epoch,
        version: u64,
        fields: impl IntoIterator<Item = (&'a str, &'a str)>,
        now: Instant,
    ) -> Document {
        let nobody = Stamp { at: UnixMs(0), user: "".into() };
        let mut bytes = 0;
        let field = |(name, value): (&str, &str)| {
            bytes += name.len() + value.len();
            let past = VecDeque::new();
            (name.into(), Field { value: value.into(), version, stamp: nobody.clone(), writer: u64::MAX, past })
        };
        let fields = fields.into_iter().map(field).collect();
        Document {
            epoch,
            touched: now,
            idle: false,
            version,
            horizon: version,
            fields,
            conflicts: Vec::new(),
            conflicts_ever: 0,
            receipts: VecDeque::new(),
            bytes,
            past_bytes: 0,
        }
    }

    /// Somebody has it open, or writes to it.
    pub fn touch(&mut self, now: Instant) {
        (self.touched, self.idle) = (now, false);
    }

    /// Whether it is to be forgotten. Nobody says when the last one has closed it, so it is found closed twice, `kept` apart: it is kept
    /// for as long as its rule says after that, and at most twice as long.
    pub fn is_over(&mut self, now: Instant, rule: &DocumentRule, is_open: impl FnOnce() -> bool) -> bool {
        if self.touched + rule.kept > now {
            return false;
        }
        let was_idle = std::mem::replace(&mut self.idle, !is_open());
        if was_idle && self.idle {
            return true;
        }
        self.touched = now;
        false
    }

    pub fn version(&self) -> u64 {
        self.version
    }

    pub fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.iter().map(|(name, field)| (&**name, &*field.value))
    }

    /// Fields that changed after a version, but not in `except`, with what they are now.
    pub fn since(&self, version: u64, except: Option<u64>) -> impl Iterator<Item = (&str, &str)> {
        let fields = self.fields.iter();
        fields
            .filter(move |(_, field)| field.version > version && Some(field.version) != except)
            .map(|(name, field)| (&**name, &*field.value))
    }

    pub fn conflicts(&self) -> &[Conflict] {
        &self.conflicts
    }

    /// Bytes it holds, about: what a tenant's bound counts.
    pub fn weight(&self) -> usize {
        let receipts = self.receipts.len() * size_of::<Receipt>();
        size_of::<Document>() + self.fields.len() * size_of::<Field>() + self.bytes + self.past_bytes + receipts
    }

    /// Whether it has grown beyond its rule: asked where it was not written field by field.
    pub fn is_too_large(&self, rule: &DocumentRule) -> bool {
        self.fields.len() > rule.fields_max || self.bytes > rule.bytes_max
    }

    /// Takes an update. An error changes nothing.
    pub fn update(&mut self, rule: &DocumentRule, update: &Update<'_>) -> Result<Outcome, Refusal> {
        if let Some(outcome) = self.again(update.key) {
            return Ok(outcome);
        }
        self.check_base(update)?;
        let mut plan = self.plan(update);
        let mut kept = None;
        match rule.strategy {
            Strategy::LastWriteWins => self.judge(update, &mut plan),
            _ if plan.disputes.is_empty() => {}
            Strategy::Reject => {
                for dispute in &mut plan.disputes {
                    dispute.resolved = Some(dispute.original.clone());
                }
                let clash = Clash { strategy: Strategy::Reject, fields: plan.disputes, kept: None };
                return Ok(Outcome { version: self.version, clash: Some(clash), ..Outcome::default() });
            }
            Strategy::Manual => {
                self.check_conflicts(update, &plan.disputes)?;
                kept = Some(self.conflicts_ever + 1);
            }
        }
        self.check_growth(rule, &plan, kept.is_some())?;
        // From here on nothing is refused.
        if let Some(number) = kept {
            self.keep_conflict(number, update, &plan.disputes);
        }
        for name in plan.agree {
            if let Some(field) = self.fields.get_mut(name)
                && field.stamp < update.stamp
            {
                field.stamp = update.stamp.clone();
            }
        }
        let written = self.write(rule, update, &plan.write);
        let strategy = rule.strategy;
        let clash = (!plan.disputes.is_empty()).then_some(Clash { strategy, fields: plan.disputes, kept });
        self.note(Receipt { key: update.key, version: self.version, kept });
        Ok(Outcome { version: self.version, written, clash, ..Outcome::default() })
    }

    /// Takes a decision: these values for fields that are in conflict. Where one has changed since the base, nothing is done and the outcome
    /// says what it is now. An error changes nothing.
    pub fn resolve(&mut self, rule: &DocumentRule, update: &Update<'_>) -> Result<Outcome, Refusal> {
        if let Some(outcome) = self.again(update.key) {
            return Ok(outcome);
        }
        self.check_base(update)?;
        let mut stale = Vec::new();
        let mut decided = Vec::new();
        for (name, value) in &update.fields {
            let proposed = self.conflicts.iter().rev().find_map(|conflict| conflict.fields.get(&**name));
            let (Some(proposed), Some((name, field))) = (proposed, self.fields.get_key_value(&**name)) else {
                return Err(Refusal::UnknownConflict);
            };
            let dispute =
                |incoming, resolved| Dispute { name: name.clone(), original: field.value.clone(), incoming, resolved };
            if field.version > update.base && field.writer != update.writer && !same(&field.value, value) {
                stale.push(dispute((*value).into(), None));
            } else {
                decided.push(dispute(proposed.clone(), Some((*value).into())));
            }
        }
        if !stale.is_empty() {
            let clash = Clash { strategy: Strategy::Manual, fields: stale, kept: None };
            return Ok(Outcome { version: self.version, clash: Some(clash), ..Outcome::default() });
        }
        let write = update.fields.iter().map(|(name, value)| (&**name, *value)).collect();
        let plan = Plan { write, ..Plan::default() };
        self.check_growth(rule, &plan, false)?;
        let mut closed = Vec::new();
        let bytes = &mut self.bytes;
        self.conflicts.retain_mut(|conflict| {
            conflict.drop_fields(|name| update.value_of(name).is_some(), bytes);
            let open = !conflict.fields.is_empty();
            if !open {
                closed.push(conflict.number);
            }
            open
        });
        let written = self.write(rule, update, &plan.write);
        self.note(Receipt { key: update.key, version: self.version, kept: None });
        let clash = Clash { strategy: Strategy::Manual, fields: decided, kept: None };
        Ok(Outcome { version: self.version, written, clash: Some(clash), closed, again: false })
    }

    /// An update that came before.
    fn again(&self, key: u64) -> Option<Outcome> {
        let receipt = self.receipts.iter().find(|receipt| receipt.key == key)?;
        let clash = |kept| Clash { strategy: Strategy::Manual, fields: Vec::new(), kept: Some(kept) };
        let clash = receipt.kept.map(clash);
        Some(Outcome { version: receipt.version, clash, again: true, ..Outcome::default() })
    }

    fn note(&mut self, receipt: Receipt) {
        if self.receipts.len() == limit::DOCUMENT_RECEIPTS_MAX {
            self.receipts.pop_front();
        }
        self.receipts.push_back(receipt);
    }

    fn check_base(&self, update: &Update<'_>) -> Result<(), Refusal> {
        if update.base > self.version || update.epoch.is_some_and(|epoch| epoch != self.epoch) {
            Err(Refusal::VersionUnknown)
        } else if update.base < self.horizon {
            Err(Refusal::VersionTooOld)
        } else {
            Ok(())
        }
    }

    /// Three ways, field by field.
    fn plan<'a>(&self, update: &'a Update<'_>) -> Plan<'a> {
        let mut plan = Plan::default();
        for (name, value) in &update.fields {
            let Some((known, field)) = self.fields.get_key_value(&**name) else {
                plan.write.push((name, value));
                continue;
            };
            // Its writer has seen its own last write.
            let seen = field.version <= update.base || field.writer == update.writer;
            let base = if seen { Some(&*field.value) } else { field.at(update.base) };
            if base.is_some_and(|base| same(base, value)) {
                continue;
            }
            if seen {
                plan.write.push((name, value));
            } else if same(&field.value, value) {
                plan.agree.push(name);
            } else {
                plan.disputes.push(Dispute {
                    name: known.clone(),
                    original: field.value.clone(),
                    incoming: (*value).into(),
                    resolved: None,
                });
            }
        }
        plan
    }

    /// The last write wins.
    fn judge<'a>(&self, update: &'a Update<'_>, plan: &mut Plan<'a>) {
        for dispute in &mut plan.disputes {
            let Some(field) = self.fields.get(&dispute.name) else { continue };
            let wins = (&update.stamp, &dispute.incoming) > (&field.stamp, &field.value);
            dispute.resolved = Some(if wins { dispute.incoming.clone() } else { dispute.original.clone() });
            if wins {
                plan.write.extend(update.value_of(&dispute.name));
            }
        }
    }

    fn check_growth(&self, rule: &DocumentRule, plan: &Plan<'_>, keeps: bool) -> Result<(), Refusal> {
        let (mut fields, mut bytes) = (self.fields.len(), self.bytes);
        for (name, value) in &plan.write {
            bytes += value.len();
            match self.fields.get(*name) {
                Some(field) => bytes -= field.value.len(),
                None => {
                    bytes += name.len();
                    fields += 1;
                }
            }
        }
        if keeps {
            bytes += plan.disputes.iter().map(|dispute| dispute.name.len() + dispute.incoming.len()).sum::<usize>();
        }
        // One that was too large already, by an earlier rule, may become smaller.
        let grows = fields > self.fields.len() || bytes > self.bytes;
        if grows && (fields > rule.fields_max || bytes > rule.bytes_max) {
            return Err(Refusal::DocumentTooLarge);
        }
        Ok(())
    }

    fn write(&mut self, rule: &DocumentRule, update: &Update<'_>, fields: &[(&str, &str)]) -> Vec<(Rc<str>, Rc<str>)> {
        if fields.is_empty() {
            return Vec::new();
        }
        self.version += 1;
        let mut written = Vec::with_capacity(fields.len());
        for (name, value) in fields {
            let value: Rc<str> = (*value).into();
            self.bytes += value.len();
            let new = Field {
                value: value.clone(),
                version: self.version,
                stamp: update.stamp.clone(),
                writer: update.writer,
                past: VecDeque::new(),
            };
            let name = match self.fields.get_key_value(*name) {
                Some((name, _)) => name.clone(),
                None => {
                    self.bytes += name.len();
                    Rc::from(*name)
                }
            };
            if let Some(old) = self.fields.insert(name.clone(), new)
                && let Some(field) = self.fields.get_mut(&name)
            {
                self.bytes -= old.value.len();
                self.past_bytes += old.value.len() + size_of::<Was>();
                field.past = old.past;
                field.past.push_back(Was { since: old.version, value: old.value });
            }
            written.push((name, value));
        }
        self.forget_past(rule);
        written
    }

    /// Keeps the past within its bounds: in versions, and in bytes.
    fn forget_past(&mut self, rule: &DocumentRule) {
        let kept = rule.versions_kept.min(limit::DOCUMENT_VERSIONS_MAX);
        let mut horizon = self.horizon.max(self.version.saturating_sub(kept));
        loop {
            if horizon > self.horizon {
                self.horizon = horizon;
                for field in self.fields.values_mut() {
                    self.past_bytes -= field.forget_before(horizon);
                }
            }
            if self.past_bytes <= rule.bytes_max || horizon == self.version {
                return;
            }
            horizon += 1;
        }
    }

    /// Room for one more conflict; a writer's earlier proposals for the same fields are no others.
    fn check_conflicts(&self, update: &Update<'_>, disputes: &[Dispute]) -> Result<(), Refusal> {
        let stays = |conflict: &&Conflict| {
            conflict.writer != update.writer || conflict.fields.keys().any(|name| !disputed(disputes, name))
        };
        if self.conflicts.iter().filter(stays).count() >= limit::DOCUMENT_CONFLICTS_MAX {
            return Err(Refusal::TooManyConflicts);
        }
        Ok(())
    }

    fn keep_conflict(&mut self, number: u64, update: &Update<'_>, disputes: &[Dispute]) {
        let bytes = &mut self.bytes;
        self.conflicts.retain_mut(|conflict| {
            if conflict.writer == update.writer {
                conflict.drop_fields(|name| disputed(disputes, name), bytes);
            }
            !conflict.fields.is_empty()
        });
        let proposed = |dispute: &Dispute| (dispute.name.clone(), dispute.incoming.clone());
        let fields: BTreeMap<_, _> = disputes.iter().map(proposed).collect();
        self.bytes += fields.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        self.conflicts_ever = number;
        let Update { base, writer, .. } = *update;
        self.conflicts.push(Conflict { number, stamp: update.stamp.clone(), base, fields, writer });
    }
}

impl Update<'_> {
    fn value_of(&self, name: &str) -> Option<(&str, &str)> {
        let at = self.fields.binary_search_by(|(field, _)| (**field).cmp(name)).ok()?;
        Some((&self.fields[at].0, self.fields[at].1))
    }
}

fn disputed(disputes: &[Dispute], name: &str) -> bool {
    disputes.binary_search_by(|dispute| (*dispute.name).cmp(name)).is_ok()
}

impl Conflict {
    fn drop_fields(&mut self, drop: impl Fn(&str) -> bool, bytes: &mut usize) {
        self.fields.retain(|name, value| {
            let gone = drop(name);
            if gone {
                *bytes -= name.len() + value.len();
            }
            !gone
        });
    }
}

impl Field {
    /// Its value at a version that is not before the horizon; none: it was not there.
    fn at(&self, version: u64) -> Option<&str> {
        if self.version <= version {
            return Some(&self.value);
        }
        let after = self.past.partition_point(|was| was.since <= version);
        Some(&self.past[after.checked_sub(1)?].value)
    }

    /// Forgets values that no base from `horizon` on had; how many bytes they were.
    fn forget_before(&mut self, horizon: u64) -> usize {
        let mut bytes = 0;
        while let Some(oldest) = self.past.front() {
            let until = self.past.get(1).map_or(self.version, |next| next.since);
            if until > horizon {
                break;
            }
            bytes += oldest.value.len() + size_of::<Was>();
            self.past.pop_front();
        }
        bytes
    }
}

/// Whether two raw values are one: some clients write an object's members in another order each time.
fn same(one: &str, other: &str) -> bool {
    let value = |raw| serde_json::from_str::<Value>(raw).ok();
    one == other
        || (one.as_bytes().first() == other.as_bytes().first()
            && value(one).is_some_and(|one| value(other).is_some_and(|other| one == other)))
}

#[cfg(test)]
mod tests;
