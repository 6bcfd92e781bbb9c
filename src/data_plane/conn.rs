//! One connection: bytes in, inputs for the shard out. No socket here: [`Conn::feed`] is given what was read and appends what is owed to
//! `out`, so a test can cut a conversation into any pieces.
//!
//! ```text
//!            +------------ answer, connection stays ------------+
//!            v                                                  |
//!  accept -> Head -> [Body] -> Waiting for the shard's answer --+--> Closing -> Lingering -> gone
//!                                 |        |                           ^
//!                                 |        +--- Upgrade -> WebSocket --+
//!                                 +------------ Stream --> Stream -----+
//! ```
//!
//! Invariants: one request at a time, the next is decoded when the answer has left; what waits undecoded is bounded by [`UNREAD_MAX`] or by
//! the message being read; control frames owed are bounded by [`CONTROL_MAX`]; an idle connection owns no buffer.

use super::{
    MeshMessage, Settings,
    count::{Count, PlaneCounts},
    inbox::Inbox,
    loan::{Lent, Tie},
    request::{self, Exchange, Step},
};
use crate::base::{
    buffer::Buffer,
    id::{ConnKey, ReplyTo, ShardId},
    limit::{CLOSE_LINGER, HEAD_BYTES_MAX, KEEP_ALIVE_IDLE},
    time::{Clock, Instant, Now},
};
use crate::bridge::Bridge;
use crate::shard::io::{Hangup, Input, Message};
use crate::wire::{
    http::{self, Response},
    websocket::{self, Decoder, Event, Opcode},
};
use std::{net::IpAddr, os::fd::RawFd};

/// Bytes kept for later while a request waits for its answer; above, the connection is not read.
const UNREAD_MAX: usize = 64 * 1024;
/// Bytes of pongs owed; above, only the latest is kept (RFC 6455 section 5.5.3 allows that).
const CONTROL_MAX: usize = 2048;

pub struct Conn {
    /// Open as long as the entry is there.
    pub fd: RawFd,
    pub address: IpAddr,
    pub phase: Phase,
    /// Bytes owed to the socket, before the shard's.
    pub out: Buffer,
    /// When the present phase must have ended, or [`Instant::NEVER`].
    pub deadline: Instant,
    /// The nearest look the wheel will have at this connection, or [`Instant::NEVER`].
    pub armed: Instant,
    /// Read and not decoded.
    unread: Buffer,
    /// The request being read or answered.
    exchange: Option<Box<Exchange>>,
    /// Pongs owed.
    control: Buffer,
    /// Its socket or its session is on another shard.
    pub tie: Option<Box<Tie>>,
    /// Came in on the admin port.
    pub admin: bool,
    /// The shard knows it: it must hear of the end.
    pub known: bool,
    /// The socket did not take everything it was given and has not said yet that it takes more.
    pub blocked: bool,
    /// In the batch of writes being gathered.
    pub writing: bool,
    /// The socket may have bytes to read.
    pub readable: bool,
    /// The socket has said that the peer has ended its side, or that it has failed: it is read until it says so itself.
    pub peer_ended: bool,
    /// The last of the shard's bytes that were taken end inside a frame.
    pub inside_frame: bool,
    /// The peer has ended its side; it still gets what it asked for.
    pub ended: bool,
    /// `unread` cannot be decoded before more is read.
    tried: bool,
    /// Bytes of a request have come, so its deadline stands.
    started: bool,
}

const _: () = assert!(size_of::<Conn>() <= 112, "an idle connection is its entry, its task and its stream");

pub enum Phase {
    /// Between requests, or inside a request's head.
    Head,
    /// Inside a request's body.
    Body,
    /// The shard, or another one, has the request.
    Waiting,
    WebSocket(Decoder),
    /// Server-sent events: what the peer says is ignored.
    Stream,
    /// What is owed is written, then the connection ends.
    Closing,
    /// Our side is shut; the peer's bytes are read to their end.
    Lingering,
}

impl Phase {
    pub fn is_closing(&self) -> bool {
        matches!(self, Phase::Closing | Phase::Lingering)
    }

    pub fn is_body(&self) -> bool {
        matches!(self, Phase::Body)
    }
}

/// What a connection needs to know to decode: everything but itself.
pub struct World<'a> {
    pub shard: ShardId,
    pub settings: &'a Settings,
    pub bridge: &'a Bridge<MeshMessage>,
    pub clock: &'a dyn Clock,
    pub draining: bool,
}

impl World<'_> {
    /// Only HTTP reads the clock; a frame's time is its turn's.
    pub fn now(&self) -> Now {
        self.clock.now()
    }
}

impl Conn {
    pub fn new(fd: RawFd, address: IpAddr, admin: bool) -> Conn {
        Conn {
            fd,
            address: address.to_canonical(),
            phase: Phase::Head,
            out: Buffer::default(),
            deadline: Instant::NEVER,
            armed: Instant::NEVER,
            unread: Buffer::default(),
            exchange: None,
            control: Buffer::default(),
            tie: None,
            admin,
            known: false,
            blocked: false,
            writing: false,
            readable: false,
            peer_ended: false,
            inside_frame: false,
            ended: false,
            tried: false,
            started: true,
        }
    }

    /// One whose socket is on another shard: what it says comes decoded, what it is told goes there.
    pub fn remote(address: IpAddr, tie: Tie) -> Conn {
        let conn = Conn::new(-1, address, false);
        Conn { phase: Phase::Waiting, known: true, tie: Some(Box::new(tie)), ..conn }
    }

    /// Decodes what an earlier read left, then `bytes`, as far as the phase lets it.
    pub fn feed(&mut self, key: ConnKey, bytes: &mut [u8], world: &World, inbox: &mut Inbox, counts: &mut PlaneCounts) {
        let tried = std::mem::replace(&mut self.tried, true);
        match self.phase {
            Phase::Stream | Phase::Closing | Phase::Lingering => {
                self.unread = Buffer::default();
                return;
            }
            Phase::Waiting => return self.unread.append_slice(bytes),
            // While a head is incomplete, only the end of a line can complete it.
            Phase::Head
                if tried
                    && !self.unread.is_empty()
                    && self.unread.len() + bytes.len() < HEAD_BYTES_MAX
                    && !bytes.contains(&b'\n') =>
            {
                return self.unread.append_slice(bytes);
            }
            _ => {}
        }
        if self.unread.is_empty() {
            let used = self.decode(key, bytes, world, inbox, counts);
            if !self.phase.is_closing() {
                self.unread.append_slice(&bytes[used..]);
            }
            return;
        }
        let mut unread = std::mem::take(&mut self.unread);
        unread.extend_from_slice(bytes);
        let used = self.decode(key, &mut unread, world, inbox, counts);
        if used < unread.len() && !self.phase.is_closing() {
            unread.drain(..used);
            // One long message must not leave its buffer to the short ones after it.
            if unread.capacity() > 4 * unread.len() + 4096 {
                unread.shrink_to_fit();
            }
            self.unread = unread;
        }
    }

    /// How many bytes were used.
    fn decode(
        &mut self,
        key: ConnKey,
        input: &mut [u8],
        world: &World,
        inbox: &mut Inbox,
        counts: &mut PlaneCounts,
    ) -> usize {
        let mut at = 0;
        loop {
            let rest = &mut input[at..];
            match &mut self.phase {
                Phase::Head => {
                    // The answer before leaves first.
                    if rest.is_empty() || !self.out.is_empty() {
                        self.tried = rest.is_empty();
                        return at;
                    }
                    if !std::mem::replace(&mut self.started, true) {
                        self.deadline = world.settings.handshake_deadline(world.now().at);
                    }
                    match http::decode(rest) {
                        Ok(None) => return at,
                        Ok(Some((request, used))) => {
                            at += used;
                            counts.up(Count::Requests);
                            let (exchange, step) =
                                request::begin(request, self.address, self.admin, self.reply_to(key, world), world);
                            self.exchange = Some(Box::new(exchange));
                            self.step(step, world, inbox, counts);
                        }
                        Err(error) => {
                            tracing::debug!(address = %self.address, reason = %error, "refused: no HTTP request");
                            counts.up(Count::RequestsBroken);
                            self.answer(&error.response(), world);
                        }
                    }
                }
                Phase::Body => {
                    if rest.is_empty() {
                        return at;
                    }
                    let from = self.reply_to(key, world);
                    // A body without its exchange cannot be.
                    let Some(exchange) = &mut self.exchange else { return at };
                    let (used, step) = exchange.read(rest, from, world);
                    at += used;
                    self.step(step, world, inbox, counts);
                }
                Phase::WebSocket(decoder) => {
                    let max = match world.settings.limits.frame_bytes {
                        0 => usize::MAX,
                        max => max as usize,
                    };
                    let event = match decoder.decode(rest, max) {
                        Ok(None) => return at,
                        Ok(Some((event, used))) => {
                            at += used;
                            event
                        }
                        Err(error) => {
                            tracing::debug!(address = %self.address, reason = %error, "closed: WebSocket protocol");
                            counts.up(Count::FramesBroken);
                            self.hang_up(key, Hangup::Broken, error.code(), "", world, inbox);
                            return input.len();
                        }
                    };
                    match event {
                        Event::Text(text) => inbox.text(key, text),
                        Event::Binary(bytes) => inbox.binary(key, bytes),
                        Event::Pong => inbox.push(Input::Message { conn: key, message: Message::Pong }),
                        Event::Partial => {}
                        Event::Ping(payload) => {
                            if self.control.len() + payload.len() + 2 > CONTROL_MAX {
                                self.control.clear();
                            }
                            websocket::encode(Opcode::Pong, payload, &mut self.control);
                        }
                        Event::Close(reason) => {
                            // Echoed with its code (RFC 6455 section 5.5.1); 1000 answers a frame without one.
                            let code = reason.map_or(1000, |(code, _)| code);
                            self.hang_up(key, Hangup::Closed, code, "", world, inbox);
                            return input.len();
                        }
                    }
                }
                Phase::Waiting => return at,
                Phase::Stream | Phase::Closing | Phase::Lingering => return input.len(),
            }
        }
    }

    fn reply_to(&self, key: ConnKey, world: &World) -> ReplyTo {
        ReplyTo { shard: world.shard, conn: key }
    }

    fn step(&mut self, step: Step, world: &World, inbox: &mut Inbox, counts: &mut PlaneCounts) {
        match step {
            Step::More => {
                self.phase = Phase::Body;
                if let Some(exchange) = &mut self.exchange {
                    exchange.go_ahead(&mut self.out);
                }
            }
            Step::Ask(input) => {
                self.wait();
                inbox.push(input);
            }
            Step::Post { from, sid, body } => {
                self.wait();
                inbox.post(from, sid, &body);
            }
            Step::Answer(response) => self.answer(&response, world),
            Step::Refuse(error) => {
                tracing::debug!(address = %self.address, reason = %error, "refused: no Engine.IO handshake");
                counts.up(Count::RequestsBroken);
                http::refuse_upgrade(&mut self.out, error.message());
                self.exchange = None;
                self.close(world.now().at);
            }
        }
    }

    fn wait(&mut self) {
        self.phase = Phase::Waiting;
        self.known = true;
        self.deadline = Instant::NEVER;
    }

    /// Answers the present request; the connection goes on or ends as request and answer want it.
    pub fn answer(&mut self, response: &Response, world: &World) {
        let exchange = self.exchange.take().unwrap_or_default();
        let keep_alive = exchange.keep_alive && !response.close && !world.draining && !self.ended;
        response.encode(keep_alive, exchange.head_only, exchange.cors.as_ref(), &mut self.out);
        let now = world.now().at;
        self.known = false;
        if keep_alive {
            self.phase = Phase::Head;
            self.started = false;
            self.tried = false;
            self.deadline = now + KEEP_ALIVE_IDLE;
        } else {
            self.close(now);
        }
    }

    /// The shard's answer to the request that waits; nothing if none does.
    pub fn respond(&mut self, response: &Response, world: &World) {
        if matches!(self.phase, Phase::Waiting) {
            self.answer(response, world);
        }
    }

    /// 101: what was read behind the request are frames.
    pub fn upgrade(&mut self) {
        let Some(exchange) = self.exchange.take() else { return };
        let Some(accept) = &exchange.accept else { return };
        http::switching_protocols(&mut self.out, accept, exchange.protocol);
        self.phase = Phase::WebSocket(Decoder::default());
        self.tried = false;
    }

    /// 200 without an end.
    pub fn stream(&mut self) {
        let Some(exchange) = self.exchange.take() else { return };
        http::event_stream(&mut self.out, exchange.cors.as_ref());
        self.phase = Phase::Stream;
        self.unread = Buffer::default();
    }

    /// The shard has closed: what it still had to say, then the close frame where there are frames.
    pub fn finish(&mut self, rest: &[u8], number: u16, text: &str, now: Instant) {
        self.out.append_slice(rest);
        if matches!(self.phase, Phase::WebSocket(_)) {
            self.append_control();
            websocket::encode_close(number, text, &mut self.out);
        }
        self.close(now);
    }

    /// The peer has ended the WebSocket, or broken it: a close frame answers, where one may stand.
    fn hang_up(&mut self, key: ConnKey, cause: Hangup, code: u16, text: &str, world: &World, inbox: &mut Inbox) {
        if !self.inside_frame {
            self.append_control();
            websocket::encode_close(code, text, &mut self.out);
        }
        inbox.push(Input::Hangup { conn: key, cause });
        self.close(world.now().at);
    }

    /// Nothing is said any more but what is owed already.
    pub fn close(&mut self, now: Instant) {
        self.phase = Phase::Closing;
        self.known = false;
        self.control = Buffer::default();
        self.unread = Buffer::default();
        self.deadline = now + CLOSE_LINGER;
    }

    /// The deadline has passed. True: the connection is to be dropped; otherwise it owes an answer.
    pub fn expire(&mut self, world: &World) -> bool {
        let request = match self.phase {
            Phase::Head => !self.unread.is_empty(),
            Phase::Body => true,
            _ => false,
        };
        if request {
            let response =
                Response { close: true, ..Response::error_json(408, "request_timeout", "the request took too long") };
            self.answer(&response, world);
        }
        !request
    }

    /// Whether bytes read earlier can be decoded now.
    pub fn resumes(&self) -> bool {
        let decodes = match self.phase {
            Phase::Head => self.out.is_empty(),
            Phase::WebSocket(_) | Phase::Body => true,
            _ => false,
        };
        decodes && !self.tried && !self.unread.is_empty()
    }

    /// Where its session is, if that is another shard that knows it already.
    pub fn home(&self) -> Option<(ShardId, ConnKey)> {
        match self.tie.as_deref() {
            Some(Tie::Lent(Lent { home, key, .. })) => key.map(|key| (*home, key)),
            _ => None,
        }
    }

    /// Whether nothing may be decoded: its home does not know it yet, or its socket is not here.
    pub fn is_deaf(&self) -> bool {
        self.tie.is_some() && self.home().is_none()
    }

    /// Whether its socket is here for that shard.
    pub fn is_lent_to(&self, shard: ShardId) -> bool {
        matches!(self.tie.as_deref(), Some(Tie::Lent(lent)) if lent.home == shard)
    }

    pub fn is_remote(&self) -> bool {
        matches!(self.tie.as_deref(), Some(Tie::Remote(_)))
    }

    /// Whether more may be read.
    pub fn reads(&self) -> bool {
        let room = match self.phase {
            Phase::Head => self.out.is_empty() || self.unread.len() < UNREAD_MAX,
            Phase::Waiting => self.unread.len() < UNREAD_MAX,
            _ => true,
        };
        room && !self.ended
    }

    /// Whether it is between requests: nothing is lost when it closes.
    pub fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Head) && self.unread.is_empty() && self.out.is_empty()
    }

    /// A peer that ends its side after a request still reads the answer (RFC 9112 section 9.6). One that waits for events has gone.
    pub fn outlives_end_of_file(&self) -> bool {
        match self.phase {
            Phase::Closing => true,
            Phase::Waiting => self.exchange.as_ref().is_some_and(|exchange| exchange.is_short),
            Phase::Head => !self.out.is_empty(),
            _ => false,
        }
    }

    /// Whether the shard's bytes are for this connection's socket.
    pub fn takes_shard_bytes(&self) -> bool {
        matches!(self.phase, Phase::WebSocket(_) | Phase::Stream)
    }

    /// Puts the control frames owed behind `out`; to be called between the shard's frames.
    pub fn append_control(&mut self) {
        self.out.append_slice(&std::mem::take(&mut self.control));
    }

    pub fn owes(&self) -> bool {
        !self.out.is_empty() || !self.control.is_empty() || matches!(self.phase, Phase::Closing)
    }

    /// Whether something was read that is not decoded.
    pub fn has_unread(&self) -> bool {
        !self.unread.is_empty()
    }

    /// Arrived on another shard.
    pub fn land(&mut self, fd: RawFd) {
        self.fd = fd;
        self.armed = Instant::NEVER;
        self.tried = false;
    }
}

#[cfg(test)]
#[path = "conn_tests.rs"]
mod tests;
