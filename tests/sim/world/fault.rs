//! What goes wrong in the world, and how it ends: cuts, lines that go silent, readers that read slowly, drains.

use super::{At, Down, Event, Fault, Up, World, state_is_api};
use tenantcast::base::time::Duration;
use tenantcast::shard::io::Input;

impl World {
    pub(super) fn next_fault(&mut self, fault: Fault) {
        let every = match fault {
            Fault::Cut => self.swarm.cut_every_ms,
            Fault::HalfOpen => self.swarm.half_open_every_ms,
            Fault::Stall => self.swarm.stall_every_ms,
        };
        if every > 0 && !self.calm {
            let at = self.now.at.0 + 1000 * (1 + self.faults.below(2 * every));
            self.schedule(at, Event::Fault(fault));
        }
    }

    pub(super) fn fault(&mut self, fault: Fault) {
        if self.calm {
            return;
        }
        self.next_fault(fault);
        let recent = self.conns.len().min(self.swarm.clients * 3);
        for _ in 0..recent.min(8) {
            let conn = self.conns.len() - 1 - self.faults.below(recent as u64) as usize;
            if self.conns[conn].dead
                || self.conns[conn].silent
                || self.conns[conn].at == At::Gone
                || state_is_api(&self.conns[conn])
            {
                continue;
            }
            match fault {
                Fault::Cut => self.cut(conn),
                Fault::HalfOpen => {
                    self.conns[conn].silent = true;
                    // Sooner or later somebody's heartbeat ends; the server's own is under test.
                    let after = 1000 * self.faults.below(2 * self.swarm.ping_s * 1000);
                    self.schedule(self.now.at.0 + after, Event::Down(conn, Down::Lost));
                    // A data plane's own deadlines, long after the shard's.
                    self.schedule(self.now.at.0 + 120_000_000, Event::Up(conn, Up::Hangup));
                }
                Fault::Stall => {
                    let (now, coin) = (self.now.at.0, self.faults.below(2) == 0);
                    let span = self.faults.below(6_000_000);
                    let slow = 1 + self.faults.below(3000);
                    let state = &mut self.conns[conn];
                    match coin {
                        true => state.stalled_until = now + span,
                        false => state.slow = Some(slow),
                    }
                }
            }
            return;
        }
    }

    /// The line is cut: what was under way is lost, both ends find out.
    pub(super) fn cut(&mut self, conn: usize) {
        self.conns[conn].dead = true;
        let (here, there) = (self.faults.below(300_000), self.faults.below(2_000_000));
        self.schedule(self.now.at.0 + here, Event::Up(conn, Up::Hangup));
        self.schedule(self.now.at.0 + there, Event::Down(conn, Down::Lost));
    }

    /// No more faults; whoever was slow reads again.
    pub fn become_calm(&mut self) {
        self.calm = true;
        for conn in &mut self.conns {
            conn.slow = None;
            conn.stalled_until = conn.stalled_until.min(self.now.at.0);
        }
        for conn in 0..self.conns.len() {
            if self.conns[conn].blocked && !self.conns[conn].silent && matches!(self.conns[conn].at, At::Shard(..)) {
                self.schedule(self.now.at.0, Event::Up(conn, Up::Writable));
            }
        }
    }

    /// Whoever hid shows up, so that presence can be compared.
    pub fn show_up(&mut self) {
        for c in 0..self.clients.len() {
            if self.clients[c].live {
                let status = serde_json::json!({ "status": "online" });
                self.emit(c, "status", &status, crate::client::Request::Other);
            }
        }
    }

    pub fn everybody_leaves(&mut self) {
        for c in 0..self.clients.len() {
            self.clients[c].gone = true;
            self.lost(c);
        }
    }

    pub fn drain(&mut self) {
        let spread = Duration::from_secs(1);
        for shard in 0..self.nodes.len() {
            let mut outputs = Vec::new();
            self.nodes[shard].shard.handle(self.now, Input::Drain { spread }, &mut outputs);
            for output in outputs {
                self.carry_out(shard, output);
            }
            self.schedule_turn(shard, self.now.at.0);
        }
    }
}
