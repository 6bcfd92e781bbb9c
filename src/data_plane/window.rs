//! How many bytes of a lent connection are under way between its home and its socket: a window, as TCP and HTTP/2 have one.
//!
//! ```text
//!  home     Window:  + sent       - acknowledged          full: the connection is blocked, as with a full socket
//!  lender   Account: + received   - acknowledged          due: what its socket has taken, from a quarter of the window on
//! ```
//!
//! Invariants: the lender holds at most [`WINDOW_BYTES`] of a connection's; a home whose window is full hears of room again, because then
//! more than three quarters wait at the lender, and when they have left a quarter is due.

/// Bytes of one connection that may be under way.
pub const WINDOW_BYTES: usize = 64 * 1024;
/// Acknowledged at once, so that a small message costs no message back.
const DUE_BYTES: usize = WINDOW_BYTES / 4;

/// The home's side.
#[derive(Debug, Default)]
pub struct Window {
    under_way: u32,
}

impl Window {
    /// Bytes that may be sent now.
    pub fn room(&self) -> usize {
        WINDOW_BYTES - self.under_way as usize
    }

    pub fn sent(&mut self, bytes: usize) {
        debug_assert!(bytes <= self.room(), "what does not fit is not sent");
        self.under_way += bytes as u32;
    }

    pub fn acknowledged(&mut self, bytes: u32) {
        debug_assert!(bytes <= self.under_way, "only what was sent is acknowledged");
        self.under_way = self.under_way.saturating_sub(bytes);
    }
}

/// The lender's side.
#[derive(Debug, Default)]
pub struct Account {
    owed: u32,
}

impl Account {
    pub fn received(&mut self, bytes: usize) {
        self.owed += bytes as u32;
    }

    /// What is to be acknowledged while `waiting` bytes have not left yet. Bytes of the lender's own may be among them: then a little
    /// is acknowledged later than it could be.
    pub fn due(&mut self, waiting: usize) -> Option<u32> {
        let due = (self.owed as usize).saturating_sub(waiting);
        if due < DUE_BYTES {
            return None;
        }
        self.owed -= due as u32;
        Some(due as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::chance::Chance;

    #[test]
    fn what_is_due() {
        for (received, waiting, due) in [
            (0, 0, None),
            (100, 0, None),
            (DUE_BYTES - 1, 0, None),
            (DUE_BYTES, 0, Some(DUE_BYTES)),
            (DUE_BYTES, 1, None),
            (WINDOW_BYTES, WINDOW_BYTES, None),
            (WINDOW_BYTES, 1000, Some(WINDOW_BYTES - 1000)),
            // A pong of the lender's own waits too.
            (100, 2000, None),
        ] {
            let mut account = Account::default();
            account.received(received);
            let got = account.due(waiting).map(|due| due as usize);
            assert_eq!(got, due, "{received} received, {waiting} waiting");
            assert_eq!(account.owed as usize, received - due.unwrap_or(0));
        }
    }

    /// Whatever the socket takes and whenever acknowledgements arrive: the bound holds, and all bytes get through.
    #[test]
    fn everything_gets_through_within_the_bound() {
        let mut chance = Chance::new([7; 32]);
        for _ in 0..200 {
            let (mut window, mut account) = (Window::default(), Account::default());
            let (mut left, mut waiting, mut acks) = (2_000_000, 0, Vec::new());
            let mut idle = 0;
            while left > 0 || waiting > 0 {
                let before = (left, waiting);
                let send = window.room().min(left).min(1 + chance.below(80_000) as usize);
                window.sent(send);
                account.received(send);
                (left, waiting) = (left - send, waiting + send);
                assert!(waiting <= WINDOW_BYTES);
                waiting -= waiting.min(chance.below(50_000) as usize);
                acks.extend(account.due(waiting));
                if chance.below(3) == 0 {
                    acks.drain(..).for_each(|bytes| window.acknowledged(bytes));
                }
                idle = if before == (left, waiting) { idle + 1 } else { 0 };
                assert!(idle < 1000, "{left} left, {waiting} waiting, {window:?}, {account:?}");
            }
        }
    }
}
