//! What the control plane counts, by name: shown with the shards' numbers.

use crate::base::count::counts;

counts! {
    WebhooksDelivered "webhooks_delivered_total";
    /// Attempts that failed and are made again.
    WebhooksRetried "webhook_attempts_retried_total";
    /// Events that a webhook did not take in any attempt, or does not want.
    WebhooksDead "webhooks_dead_total";
    /// Events that found a webhook's line full, or the server's end.
    WebhooksDropped "webhooks_dropped_total";
    BackendAsked "backend_asked_total";
    /// Questions without an answer: refused, timed out, broken, or too many at once.
    BackendFailed "backend_failed_total";
    /// Answers that found the shard's lane full until the shard had given up.
    BackendLate "backend_late_total";
}

/// In the order of [`Count`].
pub fn names() -> &'static [&'static str] {
    NAMES
}
