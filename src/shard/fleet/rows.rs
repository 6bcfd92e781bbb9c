//! A tenant's part of the stream that nodes share with servers of another make: events of the nodes and broadcasts of the others, in the order
//! of its rows.
//!
//! ```text
//!  Envelope, with its row    applied in the tenant's order, or held (stream.rs)     what waits behind it keeps the row's order
//!  Foreign::Event, a row     delivered at once, or behind what is held     so is what another node says behind an event, in a row
//!  Missed                    as well: what somebody missed is up to there, and what follows comes to it as to everybody
//! ```
//!
//! Where rows may have gone unread, the tenant's place is asked: up to there its events are read back, and what comes meanwhile waits.
//!
//! Invariants: nothing of a row is delivered before what the rows before it brought this tenant, so that the row a client keeps says what it
//! has; what waits is bounded, and beyond it is given without a place of its own.

use super::{Job, stream::State};
use crate::base::limit::{HELD_BYTES_MAX, HELD_MAX};
use crate::shard::Shard;
use crate::shard::count::Count;
use crate::shard::foreign::{Missed, Wanted, Whom};
use crate::shard::history::Token;
use crate::shard::relay::{Reading, Relay, Ticket, Unavailable};
use crate::shard::tenant::TenantKey;
use crate::wire::{
    adapter::{Payload, streams::Offset},
    envelope::Frame,
};
use std::collections::VecDeque;

/// What a tenant's rows have brought.
#[derive(Default)]
pub struct Rows {
    /// The highest sequence of its events that a row has brought here.
    pub heard: u64,
    /// So far the stream is known otherwise: rows that bring what is before it are passed over.
    pub known: u64,
    /// Of the event that is being delivered; none: it came another way.
    pub landing: Option<Offset>,
    /// The newest whose event was delivered.
    at: Offset,
    /// Behind the event with this sequence.
    behind: VecDeque<(u64, Behind)>,
    bytes: usize,
    /// Rows may have gone unread.
    doubt: Doubt,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Doubt {
    #[default]
    None,
    /// It is asked, of what number, where the tenant's stream stands.
    Asked(Ticket),
    /// It could not be asked yet.
    Open,
    /// All that was lost comes up to there, and perhaps some that a row will bring.
    To(u64),
}

enum Behind {
    Event(Whom, Row),
    /// Of another node.
    Word(Box<[u8]>),
    Missed(Ticket, Result<Box<Missed>, Unavailable>),
}

/// A broadcast of another server.
#[derive(Clone)]
pub struct Row {
    pub event: Box<str>,
    pub args: Payload<'static>,
    pub volatile: bool,
    pub row: Offset,
}

pub type Come = Box<dyn FnOnce(&mut Shard, Option<Box<Missed>>)>;

impl Rows {
    pub fn is_idle(&self) -> bool {
        self.behind.is_empty()
    }

    /// Rows have brought events behind `here`, the last that was applied, or may have gone unread.
    fn has_more(&self, here: u64) -> bool {
        self.heard > here || self.is_in_doubt(here)
    }

    /// Events of the tenant may be missing that no row will bring: behind `here`, the last that was applied.
    fn is_in_doubt(&self, here: u64) -> bool {
        match self.doubt {
            Doubt::None => false,
            Doubt::Asked(_) | Doubt::Open => true,
            Doubt::To(sequence) => sequence > here,
        }
    }
}

impl Behind {
    fn bytes(&self) -> usize {
        match self {
            Behind::Event(_, row) => row.bytes(),
            Behind::Word(frame) => frame.len(),
            Behind::Missed(..) => 0,
        }
    }
}

impl Row {
    fn bytes(&self) -> usize {
        size_of::<Row>()
            + self.event.len()
            + self.args.json.len()
            + self.args.attachments.iter().map(Vec::len).sum::<usize>()
    }
}

impl Shard {
    /// Whether events come from the stream that is shared with servers of another make.
    pub(in crate::shard) fn reads_rows(&self) -> bool {
        self.fleet.as_ref().is_some_and(|fleet| fleet.settings.reads_rows)
    }

    /// What a client of this tenant keeps that has all there has been.
    pub(in crate::shard) fn token_now(&self, key: TenantKey) -> Token {
        let Some(fleet) = self.fleet.as_ref().filter(|fleet| fleet.settings.reads_rows) else { return Token::Own };
        let tenant = &self.tenants[key];
        let row = match &tenant.stream {
            Some(stream) if stream.rows.has_more(tenant.sequence) || !stream.rows.is_idle() => stream.rows.at,
            _ => fleet.row,
        };
        if row.is_first() { Token::Unmoved } else { Token::Row(row) }
    }

    /// What a client keeps of the event that is being delivered.
    pub(super) fn token_of_landing(&self, key: TenantKey, late: bool) -> Token {
        if !self.reads_rows() {
            return Token::Own;
        }
        let rows = self.tenants[key].stream.as_ref().map(|stream| &stream.rows);
        rows.and_then(|rows| rows.landing).filter(|_| !late).map_or(Token::Unmoved, Token::Row)
    }

    /// The fleet's stream has been read so far, and there is nothing in it for this shard.
    pub(in crate::shard) fn read_to(&mut self, row: Offset) {
        if let Some(fleet) = &mut self.fleet {
            fleet.row = fleet.row.max(row);
        }
    }

    /// Events of this tenant are on their way that came before what comes now.
    fn is_held_up(&self, key: TenantKey) -> bool {
        let tenant = &self.tenants[key];
        tenant.stream.as_ref().is_some_and(|stream| stream.is_heard() && stream.rows.has_more(tenant.sequence))
    }

    /// An event of the nodes' own is here with its row.
    pub(super) fn came_placed(&mut self, key: TenantKey, sequence: u64, row: Offset) {
        let before = self.fleet.as_ref().map_or(row, |fleet| fleet.row);
        let tenant = &mut self.tenants[key];
        let here = tenant.sequence;
        if let Some(stream) = &mut tenant.stream {
            if stream.rows.heard <= here && stream.rows.is_idle() && !stream.rows.is_in_doubt(here) {
                // As far as all of this tenant has been delivered, should this one have to wait.
                stream.rows.at = stream.rows.at.max(before);
            }
            stream.rows.heard = stream.rows.heard.max(sequence);
            // What came while it was not known how many are missing came before this one.
            for (of, _) in stream.rows.behind.iter_mut().rev().take_while(|(of, _)| *of >= sequence) {
                *of = sequence - 1;
            }
        }
        self.read_to(row);
    }

    /// The event of a row has been delivered to this tenant.
    pub(in crate::shard) fn came_in_row(&mut self, key: TenantKey, row: Offset) {
        if let Some(stream) = &mut self.tenants[key].stream {
            stream.rows.at = stream.rows.at.max(row);
        }
    }

    /// A broadcast of another server, to tenants that have nothing before it.
    pub(in crate::shard) fn event_in_row(&mut self, to: Whom, row: Row) {
        self.read_to(row.row);
        let tenants = self.tenants_of(&to);
        if !tenants.iter().any(|key| self.is_held_up(*key)) {
            return self.deliver_row(&to, &row, Some(row.row));
        }
        for key in tenants {
            let to = self.part_of(&to, key);
            self.behind(key, Behind::Event(to, row.clone()));
        }
    }

    /// What another node tells, behind what came before it.
    pub(super) fn word_in_row(&mut self, key: TenantKey, frame: Box<[u8]>) {
        self.behind(key, Behind::Word(frame));
    }

    fn behind(&mut self, key: TenantKey, what: Behind) {
        if !self.is_held_up(key) {
            return self.go_behind(key, what);
        }
        let bytes = what.bytes();
        let Some(stream) = &mut self.tenants[key].stream else { return };
        let is_full = stream.rows.behind.len() >= HELD_MAX || stream.rows.bytes + bytes > HELD_BYTES_MAX;
        match what {
            Behind::Event(to, row) if is_full => {
                self.counts.up(Count::ForeignRefused);
                self.deliver_row(&to, &row, None);
            }
            what @ Behind::Word(_) if is_full => self.go_behind(key, what),
            what => {
                stream.rows.bytes += bytes;
                let is_unknown = matches!(stream.rows.doubt, Doubt::Asked(_) | Doubt::Open);
                let sequence = if is_unknown { u64::MAX } else { stream.rows.heard };
                stream.rows.behind.push_back((sequence, what));
            }
        }
    }

    fn go_behind(&mut self, key: TenantKey, what: Behind) {
        match what {
            Behind::Event(to, row) => {
                // Behind an event whose row comes later, it is no place to come back to.
                let is_passed = self.tenants[key].stream.as_ref().is_some_and(|stream| stream.rows.at > row.row);
                let place = Some(row.row).filter(|_| !is_passed);
                self.deliver_row(&to, &row, place);
            }
            Behind::Word(frame) => {
                if let Ok(frame) = Frame::decode(&frame) {
                    self.told(key, frame.body);
                }
            }
            Behind::Missed(ticket, result) => self.came_missed(key, ticket, result),
        }
    }

    /// Rows of the shared stream may have gone unread; what follows comes behind this one.
    pub(in crate::shard) fn read_anew(&mut self, row: Offset) {
        let Some(fleet) = &mut self.fleet else { return };
        fleet.row = row;
        let keys: Vec<TenantKey> = self.tenants.iter().map(|(key, _)| key).collect();
        for key in keys {
            let is_behind = self.is_held_up(key);
            let Some(stream) = &mut self.tenants[key].stream else { continue };
            stream.rows.at = if is_behind || !stream.rows.is_idle() { stream.rows.at.min(row) } else { row };
            stream.rows.doubt = Doubt::Open;
            self.ask_unread(key);
        }
    }

    /// Asks where the tenant's stream stands, if rows may have gone unread and that is not asked.
    pub(super) fn ask_unread(&mut self, key: TenantKey) {
        let Some(stream) = &self.tenants[key].stream else { return };
        if stream.rows.doubt == Doubt::Open && stream.state == State::Live && !stream.away {
            let ticket = self.ticket(Job::Unread { tenant: key });
            let tenant = (*self.tenants[key].id).clone();
            self.relay(Relay::Read { tenant, ticket, rooms: Vec::new() });
            if let Some(stream) = &mut self.tenants[key].stream {
                stream.rows.doubt = Doubt::Asked(ticket);
            }
        }
    }

    pub(super) fn stands_unread(&mut self, key: TenantKey, ticket: Ticket, result: Result<Reading, Unavailable>) {
        let Some(tenant) = self.tenants.get_mut(key) else { return };
        let Some(stream) = &mut tenant.stream else { return };
        let rows = &mut stream.rows;
        if rows.doubt != Doubt::Asked(ticket) {
            return;
        }
        match result {
            Ok(Reading { place, .. }) if stream.state == State::Live && place.epoch == tenant.epoch => {
                rows.doubt = Doubt::To(place.sequence);
                rows.heard = rows.heard.max(place.sequence);
                let heard = rows.heard;
                rows.behind.iter_mut().for_each(|(sequence, _)| *sequence = heard.min(*sequence));
                self.stir(key);
            }
            // Another stream, or the store is away: it is asked again when that is known.
            Ok(_) | Err(Unavailable) => {
                rows.doubt = Doubt::Open;
                if stream.state == State::Live {
                    self.ask_place(key);
                }
            }
        }
    }

    /// `place`: what who gets it keeps of it.
    fn deliver_row(&mut self, to: &Whom, row: &Row, place: Option<Offset>) {
        self.foreign_event(to, &row.event, &row.args, row.volatile, None, place);
    }

    /// Gives what waited behind events that have come, or that will not come now.
    pub(super) fn flow_behind(&mut self, key: TenantKey) {
        while let Some(tenant) = self.tenants.get_mut(key) {
            let here = tenant.sequence;
            let Some(stream) = &mut tenant.stream else { return };
            match stream.rows.behind.front() {
                Some((sequence, _)) if *sequence <= here || !stream.is_heard() => {}
                _ => return,
            }
            let Some((_, what)) = stream.rows.behind.pop_front() else { return };
            stream.rows.bytes -= what.bytes();
            self.go_behind(key, what);
        }
    }

    /// The stream begins anew: only what is held of it is still to come.
    pub(super) fn rows_begin(&mut self, key: TenantKey, place: u64, heard: u64) {
        let Some(stream) = &mut self.tenants[key].stream else { return };
        (stream.rows.heard, stream.rows.known) = (heard, place);
        stream.rows.landing = None;
        if matches!(stream.rows.doubt, Doubt::To(_)) {
            stream.rows.doubt = Doubt::None;
        }
        for (sequence, _) in &mut stream.rows.behind {
            *sequence = heard.min(*sequence);
        }
    }

    /// Asks what somebody has missed, and goes on with it where nothing of what follows has been delivered yet. Only in a fleet.
    pub(super) fn when_missed(&mut self, key: TenantKey, wanted: Option<Wanted>, then: Come) {
        let Some(wanted) = wanted else { return then(self, None) };
        self.tenants[key].stream.get_or_insert_default().owed += 1;
        let known = self.tenants[key].sequence;
        let ticket = self.ticket(Job::Missed { tenant: key, known, then });
        let tenant = (*self.tenants[key].id).clone();
        self.relay(Relay::Missed { tenant, ticket, wanted: Box::new(wanted) });
    }

    pub(super) fn missed_came(&mut self, ticket: Ticket, result: Result<Box<Missed>, Unavailable>) {
        let job = self.fleet.as_ref().and_then(|fleet| fleet.jobs.get(&ticket));
        let Some(Job::Missed { tenant, .. }) = job else { return };
        let key = *tenant;
        if let Some(tenant) = self.tenants.get(key) {
            // Where what follows is not known it cannot be said what is between: it is told that it was not recovered.
            let is_in_doubt = tenant
                .stream
                .as_ref()
                .is_some_and(|stream| stream.is_heard() && stream.rows.is_in_doubt(tenant.sequence));
            if is_in_doubt {
                return self.came_missed(key, ticket, Err(Unavailable));
            }
            self.behind(key, Behind::Missed(ticket, result));
        }
    }

    fn came_missed(&mut self, key: TenantKey, ticket: Ticket, result: Result<Box<Missed>, Unavailable>) {
        let Some(Job::Missed { known, then, .. }) = self.job(ticket) else { return };
        let mut missed = result.ok();
        if let Some(stream) = &mut self.tenants[key].stream {
            stream.owed -= 1;
            // Rows that are still to come are passed over, and are not in it.
            missed = missed.filter(|_| stream.rows.known <= known);
        }
        then(self, missed);
        self.end_what_handlers_ended();
        if self.tenants.contains(key) {
            self.stir(key);
            self.tend_tenant(key);
        }
    }
}
