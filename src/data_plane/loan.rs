//! A tenant that is spread: its logic is on one shard, its home; the sockets of its connections are on all.
//!
//! Nearly all the work of a delivery is the kernel's send. So a connection of such a tenant stays on the shard that accepted it, which
//! lends it to the home: it reads and decodes for it, and writes what the home says. (What others call I/O threads.)
//!
//! ```text
//!            lender: socket, decoder, bytes of the window         home: session, rooms, history, outbox
//!  lend      hand_off, socket stays ------------ Handoff ------->  borrow: an entry without a socket
//!            bind: decodes from now on <-------- Freight ---------
//!  in        feed -> Inbox for that home ------- Heard --------->  Shard::handle
//!  out       unload: one submission <----------- Freight ---------  gather -> Freight for that lender
//!            socket took a quarter ------------- Heard --------->  window has room: Input::Writable
//!  end       end of file, failure, close frame - Heard --------->  Input::Hangup
//!            the rest, the close frame, lingers <- Freight --------  Output::Close
//! ```
//!
//! Each direction is one message a turn for each pair of shards, of which at most [`BATCHES_MAX`] are on their way. Beyond, they are put
//! off and grow until they are full, and then the lender does not read those connections, and for the home they are blocked.
//!
//! Invariants: whoever ends a connection says so to the other and forgets it; what still comes for it finds nothing under its key. A
//! connection is lent once: the shard that borrows it never passes it on, but closes it.
//!
//! This file holds what both sides need and the lender's side; the home's is in `remote.rs`.

use super::{
    Plane, State,
    count::Count,
    freight::{Freight, Item, Span},
    handoff::{Moved, Reference},
    inbox::Inbox,
    mesh::{Heard, Mesh, MeshMessage},
    socket::Write,
    window::{Account, Window},
};
use crate::base::{
    id::{ConnKey, ShardId},
    time::Now,
};
use crate::shard::{
    Shard,
    io::{Hangup, Input, Output},
};
use std::sync::Arc;

/// Messages of one direction between two shards that may be on their way: enough to keep the receiver busy while the sender takes a turn.
const BATCHES_MAX: usize = 4;

/// What ties a connection to another shard.
pub enum Tie {
    Lent(Lent),
    Remote(Remote),
}

/// The socket is here, the session is there.
pub struct Lent {
    pub home: ShardId,
    /// Its key there. Nothing is decoded before it is known.
    pub key: Option<ConnKey>,
    pub account: Account,
    /// Among those that are not read until the inbox for its home has left.
    pub paused: bool,
}

/// The session is here, the socket is there.
pub struct Remote {
    pub lender: ShardId,
    pub conn: ConnKey,
    pub window: Window,
}

/// What a shard lends and borrows.
pub struct Loans {
    peers: Box<[Peer]>,
    /// There may be something to send.
    touched: bool,
    /// What remote connections took since the last submission: the shard is told after it.
    pub taken: Vec<(ConnKey, usize)>,
    /// The bytes of the freight being unloaded.
    pub unloading: Vec<u8>,
    /// Connections lent, and borrowed.
    pub lent: usize,
    pub remote: usize,
}

/// What goes to one other shard.
#[derive(Default)]
pub struct Peer {
    heard: Inbox,
    acknowledged: Vec<(ConnKey, u32)>,
    /// Connections that are not read until the inbox has left.
    paused: Vec<ConnKey>,
    pub freight: Freight,
    /// Connections that are blocked until the freight has left.
    pub stalled: Vec<ConnKey>,
    // A clone travels with each message, so their number is that of the messages the other shard has yet to see: the one thing about them
    // that both threads know.
    heard_under_way: Arc<()>,
    freight_under_way: Arc<()>,
}

impl Loans {
    pub fn new(shards: u8) -> Loans {
        Loans {
            peers: (0..shards).map(|_| Peer::default()).collect(),
            touched: false,
            taken: Vec::new(),
            unloading: Vec::new(),
            lent: 0,
            remote: 0,
        }
    }

    /// What goes to a shard: to be put into.
    pub fn peer(&mut self, shard: ShardId) -> &mut Peer {
        self.touched = true;
        &mut self.peers[shard.index()]
    }

    /// What connections lent to a home have heard.
    pub fn inbox(&mut self, home: ShardId) -> &mut Inbox {
        &mut self.peer(home).heard
    }

    /// Whether something could not be sent yet.
    pub fn wait(&self) -> bool {
        self.touched
    }

    /// A connection is tied to nobody any more.
    pub fn untied(&mut self, tie: &Tie) {
        match tie {
            Tie::Lent(_) => self.lent -= 1,
            Tie::Remote(_) => self.remote -= 1,
        }
    }

    /// Addresses of frames may mean others now.
    pub fn forget_frames(&mut self) {
        self.peers.iter_mut().for_each(|peer| peer.freight.forget());
    }
}

impl State {
    /// Leaves a connection where it is and gives its home a reference; none when it is gone.
    pub fn lend(&mut self, plane: &Plane, key: ConnKey, home: ShardId) -> Option<Moved> {
        // One that is closing has told this shard so: nobody would tell the home.
        let conn = self.conns.get_mut(key).filter(|conn| !conn.phase.is_closing())?;
        conn.tie = Some(Box::new(Tie::Lent(Lent { home, key: None, account: Account::default(), paused: false })));
        conn.known = true;
        self.loans.lent += 1;
        Some(Moved::Lent(Reference { lender: plane.id, conn: key, address: conn.address }))
    }

    /// The home has it: what it says is decoded from now on.
    fn bind(&mut self, key: ConnKey, from: ShardId, home: ConnKey) {
        if let Some(Tie::Lent(lent)) = self.conns.get_mut(key).and_then(|conn| conn.tie.as_deref_mut())
            && lent.home == from
        {
            lent.key = Some(home);
            self.ready.push(key);
        } else {
            // Its socket failed on the way.
            self.loans.inbox(from).push(Input::Hangup { conn: home, cause: Hangup::Failed });
        }
    }

    /// Does what a home says, in its order, and writes.
    pub fn unload(
        &mut self,
        plane: &Plane,
        shard: &mut Shard,
        now: Now,
        from: ShardId,
        freight: Freight,
        outputs: &mut Vec<Output>,
    ) {
        self.loans.unloading = freight.bytes;
        for item in freight.items {
            let key = item.conn();
            if let Item::Bind { home, .. } = item {
                self.bind(key, from, home);
                continue;
            }
            let Some(conn) = self.conns.get_mut(key).filter(|conn| conn.is_lent_to(from)) else { continue };
            if conn.writing {
                // Its bytes before these are on their way to the socket: whether they get there decides what becomes of these.
                self.complete(shard, now, outputs);
            }
            let world = plane.world(self.draining);
            let Some(conn) = self.conns.get_mut(key).filter(|conn| conn.is_lent_to(from)) else { continue };
            match item {
                Item::Bind { .. } => {}
                Item::Write { span, whole, .. } => {
                    self.write_lent(key, span, whole);
                    if self.ring.is_full() {
                        self.complete(shard, now, outputs);
                    }
                    continue;
                }
                Item::Upgrade { .. } => conn.upgrade(),
                Item::Stream { .. } => conn.stream(),
                Item::Answer { response, .. } => {
                    conn.respond(&response, &world);
                    self.untie(key);
                }
                Item::Close { closing, .. } => {
                    conn.finish(&closing.rest, closing.number, closing.text, now.at);
                    self.untie(key);
                }
            }
            self.flush.push(key);
        }
        self.complete(shard, now, outputs);
        self.loans.unloading = Vec::new();
    }

    /// Puts bytes of the freight being unloaded into the batch, or behind what the socket has not taken yet.
    fn write_lent(&mut self, key: ConnKey, span: Span, whole: bool) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        let Some(Tie::Lent(lent)) = conn.tie.as_deref_mut() else { return };
        let bytes = span.of(&self.loans.unloading);
        lent.account.received(bytes.len());
        conn.inside_frame = !whole;
        if conn.blocked {
            conn.out.append_slice(bytes);
        } else if conn.owes() {
            conn.out.append_slice(bytes);
            self.flush.push(key);
        } else {
            conn.writing = true;
            // SAFETY: `unloading` is not touched before `complete`, with which unloading ends.
            unsafe { self.ring.write(conn.fd, bytes) };
            self.batch.push(Write { key, own: 0, theirs: bytes.len(), span: Some(span) });
        }
    }

    /// Whether a connection has to wait until its home has taken what was heard before: then it is looked at again.
    pub fn is_paused(&mut self, key: ConnKey) -> bool {
        let Some(Tie::Lent(lent)) = self.conns.get_mut(key).and_then(|conn| conn.tie.as_deref_mut()) else {
            return false;
        };
        let peer = self.loans.peer(lent.home);
        let full = peer.heard.is_full();
        if full && !std::mem::replace(&mut lent.paused, true) {
            peer.paused.push(key);
        }
        full
    }

    /// Tells the home what a lent connection's socket has taken, when it is enough to tell.
    pub fn acknowledge(&mut self, key: ConnKey) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        let waiting = conn.out.len();
        if let Some(Tie::Lent(Lent { home, key: Some(there), account, .. })) = conn.tie.as_deref_mut()
            && let Some(bytes) = account.due(waiting)
        {
            let (home, there) = (*home, *there);
            self.loans.peer(home).acknowledged.push((there, bytes));
        }
    }

    /// Its peer has ended it, and its home was told: what is left to write is the lender's own business.
    pub fn untie(&mut self, key: ConnKey) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        if let Some(tie) = conn.tie.take() {
            self.loans.untied(&tie);
        }
    }

    /// Sends what has come together in this turn to the shards it is for, unless they are behind.
    pub fn ship(&mut self, plane: &Plane, mesh: &mut Mesh) {
        if !std::mem::take(&mut self.loans.touched) {
            return;
        }
        let (from, bridge) = (plane.id, &*plane.bridge);
        let (mut waits, mut unstalled) = (0, Vec::new());
        for (index, peer) in self.loans.peers.iter_mut().enumerate() {
            let to = ShardId(index as u8);
            if !peer.heard.is_empty() || !peer.acknowledged.is_empty() {
                let under_way = peer.heard_under_way.clone();
                if Arc::strong_count(&under_way) > BATCHES_MAX + 1 {
                    waits += 1;
                } else {
                    let (inbox, acknowledged) =
                        (std::mem::take(&mut peer.heard), std::mem::take(&mut peer.acknowledged));
                    let heard = Box::new(Heard { inbox, acknowledged, under_way });
                    match mesh.send(bridge, to, MeshMessage::Heard(heard)) {
                        Ok(()) => {
                            for key in &peer.paused {
                                let tie = self.conns.get_mut(*key).and_then(|conn| conn.tie.as_deref_mut());
                                if let Some(Tie::Lent(lent)) = tie {
                                    lent.paused = false;
                                }
                            }
                            self.ready.append(&mut peer.paused);
                        }
                        Err(MeshMessage::Heard(heard)) => {
                            (peer.heard, peer.acknowledged) = (heard.inbox, heard.acknowledged);
                            waits += 1;
                        }
                        Err(_) => unreachable!("the message comes back"),
                    }
                }
            }
            if !peer.freight.is_empty() {
                let under_way = peer.freight_under_way.clone();
                if Arc::strong_count(&under_way) > BATCHES_MAX + 1 {
                    waits += 1;
                } else {
                    let freight = Box::new(std::mem::take(&mut peer.freight));
                    match mesh.send(bridge, to, MeshMessage::Freight { from, freight, under_way }) {
                        Ok(()) => unstalled.append(&mut peer.stalled),
                        Err(MeshMessage::Freight { freight, .. }) => {
                            peer.freight = *freight;
                            waits += 1;
                        }
                        Err(_) => unreachable!("the message comes back"),
                    }
                }
            }
        }
        self.counts.add(Count::LoansPutOff, waits);
        self.loans.touched = waits > 0;
        for key in unstalled {
            if self.has_room(key) {
                self.unblock(key);
            }
        }
    }
}

#[cfg(test)]
#[path = "loan_tests.rs"]
mod tests;
