//! The home's side of a loan: connections that are here in everything but their socket.

use super::{
    State,
    conn::Conn,
    freight::{Closing, Item, Same},
    handoff::Reference,
    loan::{Remote, Tie},
    window::Window,
};
use crate::base::{id::ConnKey, time::Now};
use crate::shard::{Shard, io::Output, outbox::Pending};

impl State {
    /// Takes in a connection whose socket stays where it is, and tells its lender under which key.
    pub fn borrow(&mut self, reference: &Reference) -> ConnKey {
        let Reference { lender, conn, address } = *reference;
        let remote = Remote { lender, conn, window: Window::default() };
        let home = self.conns.insert(Conn::remote(address, Tie::Remote(remote)));
        self.loans.remote += 1;
        self.loans.peer(lender).freight.push(Item::Bind { conn, home });
        home
    }

    fn remote(&mut self, key: ConnKey) -> Option<&mut Remote> {
        match self.conns.get_mut(key)?.tie.as_deref_mut() {
            Some(Tie::Remote(remote)) => Some(remote),
            _ => None,
        }
    }

    /// Passes something on to the lender of a connection. False: its socket is here.
    pub fn pass(&mut self, key: ConnKey, item: impl FnOnce(ConnKey) -> Item) -> bool {
        let Some((lender, conn)) = self.remote(key).map(|remote| (remote.lender, remote.conn)) else { return false };
        self.loans.peer(lender).freight.push(item(conn));
        true
    }

    /// Passes on the last thing there is to say: from now on the connection is the lender's alone.
    pub fn pass_last(&mut self, key: ConnKey, item: impl FnOnce(ConnKey) -> Item) -> bool {
        let passed = self.pass(key, item);
        if passed {
            self.forget_remote(key);
        }
        passed
    }

    /// A remote connection is over.
    pub fn forget_remote(&mut self, key: ConnKey) {
        if self.remote(key).is_some() {
            self.remove(key);
        }
    }

    /// Closes a remote connection that would have to move once more: its session's first token was of another tenant, and its client comes
    /// back with the second. It is told first what it was not told yet.
    pub fn give_back(&mut self, key: ConnKey, unsent: Vec<u8>) {
        let closing = Closing { rest: unsent, number: 1001, text: "" };
        self.pass_last(key, |conn| Item::Close { conn, closing: Box::new(closing) });
    }

    /// Its lender's socket has taken bytes. True if it was blocked and takes more now.
    pub fn acknowledged(&mut self, key: ConnKey, bytes: u32) -> bool {
        let Some(remote) = self.remote(key) else { return false };
        remote.window.acknowledged(bytes);
        self.conns.get_mut(key).is_some_and(|conn| std::mem::replace(&mut conn.blocked, false))
    }

    /// Whether the window of a remote connection takes anything.
    pub fn has_room(&mut self, key: ConnKey) -> bool {
        self.remote(key).is_some_and(|remote| remote.window.room() > 0)
    }

    /// Packs what the shard has for a remote connection, as much as its window takes.
    pub fn gather_remote(&mut self, shard: &mut Shard, key: ConnKey) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        if conn.blocked || conn.writing {
            return;
        }
        let Some(Tie::Remote(remote)) = conn.tie.as_deref_mut() else { return };
        let peer = self.loans.peer(remote.lender);
        if peer.freight.is_full() {
            conn.blocked = true;
            return peer.stalled.push(key);
        }
        let pending = shard.pending_write(key);
        let bytes = pending.bytes();
        let taken = bytes.len().min(remote.window.room());
        let same = match pending {
            Pending::Frame(frame) => Same::Frame(frame.as_ptr().addr()),
            Pending::Joined { again, .. } => Same::Joined(self.batch.joined(again)),
        };
        if bytes.is_empty() {
            return;
        }
        let whole = taken == bytes.len();
        conn.blocked = !whole;
        if taken > 0 {
            peer.freight.write(remote.conn, &bytes[..taken], if whole { same } else { Same::Never }, whole);
            remote.window.sent(taken);
            // Told in `complete`: until then the shard frees nothing that others' writes point at.
            conn.writing = true;
            self.loans.taken.push((key, taken));
        }
    }

    /// Says what remote connections took.
    pub fn tell_taken(&mut self, shard: &mut Shard, now: Now, outputs: &mut Vec<Output>) {
        if self.loans.taken.is_empty() {
            return;
        }
        for (key, taken) in std::mem::take(&mut self.loans.taken) {
            if let Some(conn) = self.conns.get_mut(key) {
                conn.writing = false;
            }
            shard.wrote(now, key, taken, outputs);
        }
        self.loans.forget_frames();
    }
}
