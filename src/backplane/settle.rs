//! What becomes of a batch when its answer has come, or none.

use super::{
    command::{self, BEHIND, Done, Fate, NOSCRIPT},
    count::Count,
    journal::{Flight, Job},
    link::backoff,
    run::Core,
    script::KNOWS_NONE,
};
use crate::base::{id::TenantId, time::Duration};
use crate::shard::relay::Report;
use redis::{RedisError, Value};
use std::collections::BTreeSet;

/// How long a slot of a Cluster may fail before the whole link is made anew, which all tenants notice. The client follows the slots by itself:
/// this is for when it has lost its way.
const SLOT_PATIENCE: Duration = Duration::from_secs(60);

impl Core {
    pub(super) fn answered(&mut self, flight: Flight, result: Result<Vec<Value>, RedisError>) {
        let now = self.now();
        let is_cluster = self.link.as_ref().is_some_and(|link| link.is_cluster);
        let values = match result {
            Ok(values) => values,
            Err(error) if !is_cluster => return self.broke(&error.to_string()),
            Err(error) => {
                self.flights.remove(&flight);
                self.say("CLUSTER", &error.to_string());
                let rests = backoff(self.journal.failures(flight) + 1, &mut self.chance);
                self.repeat(flight, Some(now + rests));
                let failing = *self.failing_since.get_or_insert(now);
                if now.since(failing) > SLOT_PATIENCE {
                    self.broke("a slot of the Cluster does not answer");
                }
                return self.show_health();
            }
        };
        let (counts, mut knows) = self.flights.remove(&flight).unwrap_or_default();
        let mut values = values.into_iter();
        let mut again = Vec::new();
        // Tenants with an append that was not done: what they read would be without it.
        let mut behind: BTreeSet<TenantId> = BTreeSet::new();
        let mut passing: Option<Box<str>> = None;
        for (job, count) in self.journal.landed(flight).into_iter().zip(counts) {
            let answers: Vec<Value> = values.by_ref().take(count).collect();
            let is_behind = matches!(&job, Job::Read { tenant, .. } if behind.contains(tenant));
            let fate = if is_behind { Fate::Again(BEHIND.into()) } else { command::decode(&job, answers) };
            match fate {
                Fate::Done(done) => {
                    self.journal.forget(&job);
                    self.done(&job, done);
                }
                Fate::Again(code) => {
                    if let Job::Append { tenant, .. } = &job {
                        behind.insert(tenant.clone());
                    }
                    match &*code {
                        BEHIND => {}
                        NOSCRIPT => knows = KNOWS_NONE,
                        _ => {
                            self.count(Count::Refused);
                            passing = Some(code);
                        }
                    }
                    again.push(job);
                }
                Fate::Failed(why) => {
                    self.say(why.split(' ').next().unwrap_or_default(), &why);
                    self.journal.forget(&job);
                    self.refuse(&job);
                    if let Job::Place { tenant, stamp } = &job {
                        let mut steps = Vec::new();
                        self.tenants.unplaced(tenant, *stamp, now, &mut steps);
                        self.take(steps);
                    }
                }
            }
        }
        let rests_until = passing.as_ref().map(|_| now + backoff(self.journal.failures(flight) + 1, &mut self.chance));
        self.journal.put_back(flight, again, rests_until, knows);
        if let Some(code) = passing {
            self.say(&code, command::advice(&code));
            // Behind the same address there may be a master by now, or Sentinel names another.
            if !is_cluster && matches!(&*code, "READONLY" | "NOAUTH") {
                self.broke(&code);
                self.connect_at = now + backoff(4, &mut self.chance);
                return;
            }
        }
        self.show_health();
    }

    fn done(&mut self, job: &Job, done: Done) {
        self.tell_placed(job, &done);
        match job {
            Job::Append { .. } => self.count(Count::Appended),
            Job::Tell { .. } => self.count(Count::Told),
            Job::Read { .. } => self.count(Count::Read),
            Job::Claim { .. } => self.count(Count::Claimed),
            _ => {}
        }
        let now = self.now();
        let mut steps = Vec::new();
        match done {
            Done::Nothing => {}
            Done::Placed { tenant, stamp, place } => {
                self.tenants.placed(&tenant, stamp, place, now, &mut self.chance, &mut steps);
            }
            Done::Stands { tenant, stamp, place } => self.tenants.stands(&tenant, stamp, place, now, &mut steps),
            Done::Answer { from, report } => {
                if let (Report::Appended { result: Ok(at), .. }, Some(tenant)) = (&report, job.tenant()) {
                    self.tenants.appended(tenant, at.sequence);
                }
                self.tell(from, job.tenant(), report);
            }
        }
        self.take(steps);
    }
}
