//! What the engines of jobs, cache and Redis channels will read, and whom requests go to.

use super::{Check, Checked};
use crate::profile::file::{self, File};
use crate::profile::lines::quoted;
use crate::profile::{Channel, Target};

impl Check<'_> {
    pub(super) fn job(&self, queue_key: &str, queue: &str, job_key: &str, job: &str, file: &File) -> Checked<()> {
        let known = file.queues.keys().map(String::as_str);
        let Some(found) = file.queues.get(queue) else { return Err(self.unknown(queue_key, "queue", queue, known)) };
        match found.jobs.is_empty() || found.jobs.iter().any(|known| known == job) {
            true => Ok(()),
            false => Err(self.unknown(job_key, "job of the queue", job, found.jobs.iter().map(String::as_str))),
        }
    }

    pub(super) fn channel(&self, name: &str, channel: &file::Channel, file: &File) -> Checked<Channel> {
        let key = format!("channels.{}", quoted(name));
        let at = |name: &str| format!("{key}.{name}");
        self.event_name(&at("type"), &channel.kind)?;
        let to = match (&channel.user, &channel.room) {
            (Some(user), None) => Target::User(self.template(&at("user"), user)?),
            (None, Some(room)) => Target::Room(self.template(&at("room"), room)?),
            _ => return Err(self.error(&key, "goes to a `user` or to a `room`: one of the two")),
        };
        if channel.tenant.is_none() && file.claims.single_tenant.is_none() {
            return Err(self.error(&key, "needs `tenant`, a template over the message, or `claims.single_tenant`"));
        }
        Ok(Channel {
            name: name.into(),
            tenant: channel.tenant.as_deref().map(|text| self.template(&at("tenant"), text)).transpose()?,
            to,
            kind: channel.kind.as_str().into(),
            data: self.shape(&at("data"), channel.data.as_ref())?,
        })
    }

    /// Whom requests go to.
    pub(super) fn addresses(&self, file: &File) -> Checked<()> {
        let url = |key: &str, url: &str| {
            let is_variable = url.strip_prefix("{env:").is_some_and(|rest| rest.ends_with('}') && rest.len() > 1);
            match is_variable || url.starts_with("https://") || url.starts_with("http://") {
                true => Ok(()),
                false => Err(self.error(key, "must be an http:// or https:// address, or {env:NAME}")),
            }
        };
        if let Some(backend) = &file.backend {
            url("backend.url", &backend.url)?;
            self.number("backend.timeout_ms", backend.timeout_ms, 10, 60_000)?;
            self.number("backend.cache_ttl_s", backend.cache_ttl_s, 0, 86_400)?;
        }
        for (name, hook) in &file.webhooks {
            let key = format!("webhooks.{}", quoted(name));
            url(&format!("{key}.url"), &hook.url)?;
            self.number(&format!("{key}.timeout_ms"), hook.timeout_ms, 10, 600_000)?;
            self.number(&format!("{key}.attempts"), hook.attempts.map(u64::from), 1, 100)?;
            self.number(&format!("{key}.at_once"), hook.at_once.map(u64::from), 1, 1000)?;
        }
        Ok(())
    }

    /// Queues, schedules and cache: their engines come later, their faults are said now.
    pub(super) fn jobs(&self, file: &File) -> Checked<()> {
        for (name, queue) in &file.queues {
            let key = format!("queues.{}", quoted(name));
            self.number(&format!("{key}.concurrency"), queue.concurrency.map(u64::from), 1, 10_000)?;
            self.number(&format!("{key}.attempts"), queue.attempts.map(u64::from), 1, 1000)?;
            if let Some(dead) = &queue.dead_letter
                && !file.queues.contains_key(dead)
            {
                let known = file.queues.keys().map(String::as_str);
                return Err(self.unknown(&format!("{key}.dead_letter"), "queue", dead, known));
            }
        }
        for (name, schedule) in &file.schedules {
            let key = format!("schedules.{}", quoted(name));
            let at = |name: &str| format!("{key}.{name}");
            self.job(&at("queue"), &schedule.queue, &at("job"), &schedule.job, file)?;
            match (&schedule.cron, schedule.every_s) {
                (Some(cron), None) => cron_fields(cron).map_err(|reason| self.error(&at("cron"), reason))?,
                (None, Some(1..)) => {}
                _ => return Err(self.error(&key, "has `cron`, or `every_s` of at least 1: one of the two")),
            }
        }
        for (name, cache) in &file.cache {
            let key = format!("cache.{}", quoted(name));
            self.number(&format!("{key}.ttl_s"), Some(cache.ttl_s), 1, 366 * 86_400)?;
            if let Some(text) = &cache.key {
                let template = self.own_template(&format!("{key}.key"), text, &["tenant", "id", "user"])?;
                if file.claims.single_tenant.is_none() && !template.paths().any(|path| path == "tenant") {
                    return Err(self.error(&format!("{key}.key"), "must have `{tenant}` in it: tenants share nothing"));
                }
            }
        }
        Ok(())
    }
}

/// Five fields of numbers, `*`, lists, ranges and steps, each in its range (crontab(5)).
fn cron_fields(text: &str) -> Result<(), String> {
    const FIELDS: [(&str, u32, u32); 5] =
        [("minute", 0, 59), ("hour", 0, 23), ("day of month", 1, 31), ("month", 1, 12), ("day of week", 0, 7)];
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    if fields.len() != FIELDS.len() {
        return Err("must have five fields: minute, hour, day of month, month, day of week".into());
    }
    for (field, (name, least, most)) in fields.iter().zip(FIELDS) {
        let number = |text: &str| text.parse::<u32>().is_ok_and(|number| (least..=most).contains(&number));
        let fits = field.split(',').all(|part| {
            let (range, step) = part.split_once('/').unwrap_or((part, "1"));
            let is_range = || range.split_once('-').is_some_and(|(from, to)| number(from) && number(to));
            step.parse::<u32>().is_ok_and(|step| step > 0) && (range == "*" || number(range) || is_range())
        });
        if !fits {
            return Err(format!(
                "the {name} is `{field}`: must be numbers from {least} to {most}, `*`, lists, ranges or steps"
            ));
        }
    }
    Ok(())
}
