//! Asking the application's backend whether a join is permitted.
//!
//! ```text
//! POST url   {"tenant":"acme","user":"ann","room":"project:7","event":"join_project","roles":[..],"permissions":[..]}, signed
//! 200        {"allow":true}  {"allow":false}, with "ttl_s": for how long that counts
//! 4xx        no
//! else       nobody joins: another status, no such JSON, no answer in time, too many questions
//! ```
//!
//! Invariant: closed. Only `{"allow":true}` with status 200 lets anybody in. A question is asked once, not again: the client that waits can.

use super::{
    Plane,
    count::Count,
    post::{BadEndpoint, Endpoint, Fault, Reply, Secret},
};
use crate::base::{limit::VERDICT_SLACK, time::Duration};
use crate::shard::{io::Answer, verdict::VerdictSettings};
use hyper::body::Bytes;
use serde::Deserialize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::sync::Semaphore;

#[derive(Clone, Debug)]
pub struct BackendSettings {
    pub url: Box<str>,
    pub secret: Secret,
    /// From the question to the answer, with the wait for its turn.
    pub timeout: Duration,
    /// Questions at once, at least 1.
    pub at_once: u32,
    /// Questions that wait for their turn; beyond, they are refused at once.
    pub waiting_max: u32,
    /// How long a permission is remembered where the answer has no `ttl_s`.
    pub cache_ttl: Duration,
    /// How long a refusal is.
    pub denied_ttl: Duration,
    /// Answers that each shard remembers.
    pub cache_max: u32,
}

impl BackendSettings {
    pub fn new(url: &str, secret: Secret) -> BackendSettings {
        let verdicts = VerdictSettings::default();
        BackendSettings {
            url: url.into(),
            secret,
            timeout: verdicts.timeout - VERDICT_SLACK,
            at_once: 64,
            waiting_max: 1000,
            cache_ttl: verdicts.allowed_for,
            denied_ttl: verdicts.denied_for,
            cache_max: verdicts.known_max,
        }
    }

    /// What the shards are told.
    pub fn verdicts(&self) -> VerdictSettings {
        VerdictSettings {
            timeout: self.timeout + VERDICT_SLACK,
            allowed_for: self.cache_ttl,
            denied_for: self.denied_ttl,
            known_max: self.cache_max,
        }
    }
}

pub struct Backend {
    settings: BackendSettings,
    endpoint: Endpoint,
    at_once: Semaphore,
    held: AtomicUsize,
    /// The last question was not answered, and the log knows.
    down: AtomicBool,
}

impl Backend {
    pub fn new(settings: BackendSettings) -> Result<Backend, BadEndpoint> {
        let endpoint = Endpoint::new(&settings.url, &settings.secret)?;
        let at_once = Semaphore::new(settings.at_once.max(1) as usize);
        Ok(Backend { settings, endpoint, at_once, held: AtomicUsize::new(0), down: AtomicBool::new(false) })
    }

    pub fn is_secure(&self) -> bool {
        self.endpoint.is_secure()
    }

    /// Asks, and says what the answer means.
    pub async fn ask(&self, plane: &Plane, question: Bytes) -> Answer {
        plane.count(Count::BackendAsked);
        let max = self.settings.at_once.max(1) as usize + self.settings.waiting_max as usize;
        let _held = Held::new(&self.held);
        let outcome = if self.held.load(Ordering::Relaxed) > max {
            Err(Fault::Network("too many questions at once".into()))
        } else {
            let asked = async {
                // It is never closed.
                let _at_once = self.at_once.acquire().await;
                let now = plane.clock.now().unix;
                plane.client.post(&self.endpoint, None, question, now, self.settings.timeout).await
            };
            tokio::time::timeout(self.settings.timeout, asked).await.unwrap_or(Err(Fault::Timeout))
        };
        let answer = meaning(&outcome);
        let down = answer == Answer::Unavailable;
        if down {
            plane.count(Count::BackendFailed);
        }
        if self.down.swap(down, Ordering::Relaxed) != down {
            match (down, outcome) {
                (false, _) => tracing::info!("the application's backend answers again"),
                (true, Ok(reply)) => tracing::warn!(status = reply.status, "the application's backend gives no answer"),
                (true, Err(fault)) => tracing::warn!(%fault, "the application's backend gives no answer"),
            }
        }
        answer
    }
}

/// One question of those held.
struct Held<'a>(&'a AtomicUsize);

impl Held<'_> {
    fn new(held: &AtomicUsize) -> Held<'_> {
        held.fetch_add(1, Ordering::Relaxed);
        Held(held)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn meaning(outcome: &Result<Reply, Fault>) -> Answer {
    #[derive(Deserialize)]
    struct Said {
        allow: bool,
        #[serde(default)]
        ttl_s: Option<u64>,
    }
    match outcome {
        Ok(Reply { status: 200, body: Some(body), .. }) => match serde_json::from_slice(body) {
            Ok(Said { allow: true, ttl_s }) => Answer::Allowed { ttl: ttl_s.map(Duration::from_secs) },
            Ok(Said { allow: false, ttl_s }) => Answer::Denied { ttl: ttl_s.map(Duration::from_secs) },
            Err(_) => Answer::Unavailable,
        },
        // These two say that it was not asked properly, not what it thinks.
        Ok(Reply { status: 408 | 429, .. }) => Answer::Unavailable,
        Ok(Reply { status: 400..=499, .. }) => Answer::Denied { ttl: None },
        _ => Answer::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_yes_is_one() {
        let reply = |status, body: &str| {
            Ok(Reply { status, retry_after: None, body: Some(Bytes::copy_from_slice(body.as_bytes())) })
        };
        let seconds = |s| Some(Duration::from_secs(s));
        let table = [
            (reply(200, r#"{"allow":true}"#), Answer::Allowed { ttl: None }),
            (reply(200, r#" {"why":"x","allow":true,"ttl_s":7} "#), Answer::Allowed { ttl: seconds(7) }),
            (reply(200, r#"{"allow":true,"ttl_s":null}"#), Answer::Allowed { ttl: None }),
            (reply(200, r#"{"allow":false}"#), Answer::Denied { ttl: None }),
            (reply(200, r#"{"allow":false,"ttl_s":0}"#), Answer::Denied { ttl: seconds(0) }),
            (reply(403, r#"{"allow":true}"#), Answer::Denied { ttl: None }),
            (reply(404, ""), Answer::Denied { ttl: None }),
            (reply(200, ""), Answer::Unavailable),
            (reply(200, "true"), Answer::Unavailable),
            (reply(200, "{}"), Answer::Unavailable),
            (reply(200, r#"{"allow":"true"}"#), Answer::Unavailable),
            (reply(200, r#"{"allow":1}"#), Answer::Unavailable),
            (reply(200, r#"{"allow":true,"ttl_s":-1}"#), Answer::Unavailable),
            (reply(200, r#"{"allow":true}}"#), Answer::Unavailable),
            (reply(201, r#"{"allow":true}"#), Answer::Unavailable),
            (reply(302, r#"{"allow":true}"#), Answer::Unavailable),
            (reply(429, ""), Answer::Unavailable),
            (reply(500, r#"{"allow":true}"#), Answer::Unavailable),
            (Ok(Reply { status: 200, retry_after: None, body: None }), Answer::Unavailable),
            (Err(Fault::Timeout), Answer::Unavailable),
        ];
        for (outcome, want) in table {
            assert_eq!(meaning(&outcome), want, "{outcome:?}");
        }
    }
}
