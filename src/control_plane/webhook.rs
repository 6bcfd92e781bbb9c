//! Webhooks: an event is told to a URL, again and again until it is taken or there is no hope.
//!
//! ```text
//!             at most `waiting_max`       at most `at_once`
//!  event ---> line -----------------> attempt ---- 2xx ----------------------------------> delivered
//!               ^                        |  \----- 4xx but 408 and 429, or the last try --> dead: counted, and said by name
//!               +------- pause ----------+ network, timeout, 408, 429, 5xx
//! ```
//!
//! Invariants: a line that is full refuses what is new and keeps what it has; a pause holds no place among those at once, so an event that
//! fails does not hold up the others; each is delivered at least once or counted as dead or dropped; no order is promised.

use super::{
    Plane,
    count::Count,
    post::{BadEndpoint, Endpoint, Fault, Reply, Secret},
};
use crate::base::{limit::RETRY_AFTER_MAX, time::Duration};
use hyper::body::Bytes;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::sync::Semaphore;

#[derive(Clone, Debug)]
pub struct HookSettings {
    /// For logs.
    pub name: Box<str>,
    pub url: Box<str>,
    pub secret: Secret,
    /// Of one attempt.
    pub timeout: Duration,
    /// At least 1.
    pub attempts: u32,
    /// Attempts at once, at least 1.
    pub at_once: u32,
    /// Events that wait for their first attempt or the next; beyond, new ones are dropped and counted.
    pub waiting_max: u32,
    /// The first pause; each is twice the one before, less up to half of it by chance, so that events that failed together do not come
    /// back together.
    pub backoff: Duration,
    pub backoff_max: Duration,
}

impl HookSettings {
    pub fn new(name: &str, url: &str, secret: Secret) -> HookSettings {
        HookSettings {
            name: name.into(),
            url: url.into(),
            secret,
            timeout: Duration::from_secs(10),
            attempts: 8,
            at_once: 8,
            waiting_max: 1000,
            backoff: Duration::from_secs(1),
            backoff_max: Duration::from_secs(60),
        }
    }
}

pub struct Hook {
    settings: HookSettings,
    endpoint: Endpoint,
    at_once: Semaphore,
    /// Events in the line, in attempts and in pauses.
    held: AtomicUsize,
    dead: AtomicUsize,
}

impl Hook {
    pub fn new(settings: HookSettings) -> Result<Hook, BadEndpoint> {
        let endpoint = Endpoint::new(&settings.url, &settings.secret)?;
        let at_once = Semaphore::new(settings.at_once.max(1) as usize);
        Ok(Hook { settings, endpoint, at_once, held: AtomicUsize::new(0), dead: AtomicUsize::new(0) })
    }

    pub fn name(&self) -> &str {
        &self.settings.name
    }

    pub fn is_secure(&self) -> bool {
        self.endpoint.is_secure()
    }

    /// A place for one more event, unless the line is full.
    pub fn admit(self: &Arc<Hook>) -> Option<Place> {
        let max = self.settings.at_once.max(1) as usize + self.settings.waiting_max as usize;
        let held =
            self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| (held < max).then_some(held + 1));
        held.is_ok().then(|| Place { hook: self.clone() })
    }
}

/// An event's place with its hook, given back when it is dropped.
pub struct Place {
    hook: Arc<Hook>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.hook.held.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Tells a hook of one event. `dice`: the chance of all its pauses.
pub async fn deliver(plane: &Plane, place: Place, id: &str, body: Bytes, dice: u64) {
    let hook = &*place.hook;
    let HookSettings { name, timeout, .. } = &hook.settings;
    for attempt in 1.. {
        let outcome = {
            // It is never closed.
            let Ok(_at_once) = hook.at_once.acquire().await else { return };
            let now = plane.clock.now().unix;
            plane.client.post(&hook.endpoint, Some(id), body.clone(), now, *timeout).await
        };
        match after(&hook.settings, &outcome, attempt, dice) {
            Next::Delivered => return plane.count(Count::WebhooksDelivered),
            Next::Again(pause) => {
                plane.count(Count::WebhooksRetried);
                tracing::debug!(hook = %name, id, attempt, outcome = %describe(&outcome), ?pause, "a webhook failed, again later");
                tokio::time::sleep(pause).await;
            }
            Next::Dead => {
                plane.count(Count::WebhooksDead);
                let dead = hook.dead.fetch_add(1, Ordering::Relaxed) + 1;
                let outcome = describe(&outcome);
                // Each time there are twice as many: a hook that is gone must not fill the log.
                if dead.is_power_of_two() {
                    tracing::warn!(hook = %name, id, attempt, %outcome, dead, "a webhook does not take an event");
                } else {
                    tracing::debug!(hook = %name, id, attempt, %outcome, dead, "a webhook does not take an event");
                }
                return;
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Next {
    Delivered,
    Again(Duration),
    Dead,
}

/// What an attempt's outcome leads to; attempts are counted from 1.
fn after(settings: &HookSettings, outcome: &Result<Reply, Fault>, attempt: u32, dice: u64) -> Next {
    let (again, asked) = match outcome {
        Ok(Reply { status: 200..=299, .. }) => return Next::Delivered,
        Ok(reply) => (matches!(reply.status, 408 | 429 | 500..=599), reply.retry_after),
        Err(_) => (true, None),
    };
    if !again || attempt >= settings.attempts {
        return Next::Dead;
    }
    let asked = asked.unwrap_or_default().min(RETRY_AFTER_MAX);
    Next::Again(pause(settings, attempt, dice).max(asked))
}

/// Between half and all of the backoff, by 16 bits of the dice, others for each attempt.
fn pause(settings: &HookSettings, attempt: u32, dice: u64) -> Duration {
    let doubled = settings.backoff.saturating_mul(1u32.checked_shl(attempt - 1).unwrap_or(u32::MAX));
    let half = doubled.min(settings.backoff_max) / 2;
    let share = dice.rotate_right(attempt.wrapping_mul(16) % 64) as u16;
    half + half.mul_f64(f64::from(share) / f64::from(u16::MAX))
}

/// For the log.
fn describe(outcome: &Result<Reply, Fault>) -> String {
    match outcome {
        Ok(reply) => format!("status {}", reply.status),
        Err(fault) => fault.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> HookSettings {
        let secret = Secret::parse("0123456789abcdef").unwrap();
        HookSettings { attempts: 3, at_once: 2, waiting_max: 3, ..HookSettings::new("h", "http://a/", secret) }
    }

    fn reply(status: u16, retry_after_s: Option<u64>) -> Result<Reply, Fault> {
        Ok(Reply { status, retry_after: retry_after_s.map(Duration::from_secs), body: None })
    }

    #[test]
    fn what_an_outcome_leads_to() {
        let second = |s| Next::Again(Duration::from_secs(s));
        let table = [
            (reply(200, None), 1, Next::Delivered),
            (reply(204, Some(9)), 3, Next::Delivered),
            (reply(301, None), 1, Next::Dead),
            (reply(400, Some(9)), 1, Next::Dead),
            (reply(410, None), 1, Next::Dead),
            (reply(408, None), 1, second(1)),
            (reply(429, None), 2, second(2)),
            (reply(429, Some(30)), 2, second(30)),
            (reply(429, Some(1)), 2, second(2)),
            (reply(503, Some(u64::MAX)), 1, Next::Again(RETRY_AFTER_MAX)),
            (reply(500, None), 3, Next::Dead),
            (Err(Fault::Timeout), 1, second(1)),
            (Err(Fault::Network("refused".into())), 2, second(2)),
            (Err(Fault::Timeout), 3, Next::Dead),
        ];
        for (outcome, attempt, want) in table {
            // All bits set: the whole pause.
            assert_eq!(after(&settings(), &outcome, attempt, u64::MAX), want, "{outcome:?} {attempt}");
        }
    }

    #[test]
    fn pauses_double_up_to_their_bound() {
        let settings = settings();
        for (attempt, full) in [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (32, 60), (33, 60), (1000, 60)] {
            let full = Duration::from_secs(full);
            assert_eq!(pause(&settings, attempt, 0), full / 2, "{attempt}");
            assert_eq!(pause(&settings, attempt, u64::MAX), full, "{attempt}");
            let some = pause(&settings, attempt, 0x1234_5678_9abc_def0);
            assert!(full / 2 < some && some < full, "{attempt}: {some:?}");
        }
    }

    #[test]
    fn a_full_line_refuses_what_is_new() {
        let hook = Arc::new(Hook::new(settings()).unwrap());
        let mut places: Vec<Place> = (0..10).map_while(|_| hook.admit()).collect();
        assert_eq!(places.len(), 5, "two at once and three that wait");
        places.pop();
        assert!(hook.admit().is_some(), "and it is given back at once");
        places.push(hook.admit().unwrap());
        assert!(hook.admit().is_none());
        drop(places);
        assert_eq!(hook.held.load(Ordering::Relaxed), 0);
    }
}
