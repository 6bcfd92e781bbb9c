//! Swarm testing: what is on in a run, and how often, is drawn from its seed. No run has everything, and together they have every pair.

use tenantcast::base::chance::Chance;

/// One of the separate streams of a seed: what one concern draws does not move what another does.
pub fn stream(seed: u64, concern: u8) -> Chance {
    let mut bytes = [concern; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    Chance::new(bytes)
}

/// Something a client does of its own accord.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Publish,
    PublishUnnamed,
    PublishEphemeral,
    Subscribe,
    Unsubscribe,
    History,
    Presence,
    Status,
    Typing,
    Garbage,
    Flood,
    Renew,
    Leave,
    /// Something binary, which the server says again.
    Mirror,
    /// Somebody tells every session of every tenant.
    Announce,
    ApiPublish,
    ApiKick,
    ApiAsk,
    /// Opens one that others write to, writes to it, decides its conflicts, closes it.
    Document,
}

const ACTS: [(Act, u64); 18] = [
    (Act::Publish, 60),
    (Act::PublishUnnamed, 20),
    (Act::PublishEphemeral, 20),
    (Act::Subscribe, 40),
    (Act::Unsubscribe, 15),
    (Act::History, 8),
    (Act::Presence, 8),
    (Act::Status, 8),
    (Act::Typing, 12),
    (Act::Garbage, 2),
    (Act::Flood, 1),
    (Act::Renew, 6),
    (Act::Leave, 4),
    (Act::Mirror, 12),
    (Act::Announce, 3),
    (Act::ApiPublish, 20),
    (Act::ApiKick, 1),
    (Act::ApiAsk, 5),
];

#[derive(Clone, Debug)]
pub struct Swarm {
    pub seed: u64,
    pub shards: u8,
    pub tenants: usize,
    pub clients: usize,
    /// Seconds in which clients act and faults happen.
    pub active_s: u64,
    pub act_every_ms: u64,
    /// Weights of Socket.IO over WebSocket, over polling, `/ws`, `/events`.
    pub kinds: [u64; 4],
    /// In a hundred: bad tokens only; token in the head; a polling client that upgrades.
    pub hostile: u64,
    pub head_token: u64,
    pub upgrades: u64,
    pub acts: Vec<(Act, u64)>,
    /// Milliseconds between faults of a kind over all connections; 0: none.
    pub cut_every_ms: u64,
    pub half_open_every_ms: u64,
    pub stall_every_ms: u64,
    /// In a thousand: a handoff or a parcel finds the mesh full.
    pub mesh_full: u64,
    /// Inputs a turn takes at most.
    pub turn_inputs: u64,
    pub turn_us: u64,
    pub latency_us: u64,
    pub lane_us: u64,
    pub pad_bytes: u64,
    pub outbox_bytes: u32,
    pub events_burst: u32,
    pub per_user: u32,
    pub recovery_s: u64,
    pub history_events: u32,
    pub history_s: u64,
    pub ping_s: u64,
    pub token_s: u64,
    pub grace_s: u64,
    /// Above so many sockets presence is told in lists.
    pub batch_over: u32,
    /// Who is in the rooms `r*` is told there.
    pub watched: bool,
    pub drain: bool,
    /// Events that wait for a user, and how long.
    pub offline_events: u64,
    pub offline_s: u64,
    /// A pong acknowledges them, not the client.
    pub offline_proof: bool,
}

impl Swarm {
    pub fn draw(seed: u64) -> Swarm {
        let mut chance = stream(seed, 1);
        let c = &mut chance;
        let mut pick = |list: &[u64]| list[c.below(list.len() as u64) as usize];
        let mut swarm = Swarm {
            seed,
            shards: pick(&[1, 2, 3, 4]) as u8,
            tenants: pick(&[2, 3, 5]) as usize,
            clients: pick(&[20, 60, 120]) as usize,
            active_s: pick(&[30, 60, 120]),
            act_every_ms: pick(&[700, 2000, 5000]),
            kinds: [pick(&[0, 3, 6]), pick(&[0, 2, 5]), pick(&[0, 2, 3]), pick(&[0, 1, 2])],
            hostile: pick(&[0, 0, 5, 15]),
            head_token: pick(&[0, 30, 100]),
            upgrades: pick(&[0, 60, 100]),
            acts: Vec::new(),
            cut_every_ms: pick(&[0, 200, 1000, 4000]),
            half_open_every_ms: pick(&[0, 0, 1000, 5000]),
            stall_every_ms: pick(&[0, 0, 500, 2000]),
            mesh_full: pick(&[0, 0, 20, 200]),
            turn_inputs: pick(&[1, 3, 1000]),
            turn_us: pick(&[1, 300, 5000]),
            latency_us: pick(&[100, 20_000, 200_000]),
            lane_us: pick(&[10, 2_000, 50_000]),
            pad_bytes: pick(&[0, 200, 3000]),
            outbox_bytes: pick(&[20_000, 100_000, 1_048_576]) as u32,
            events_burst: pick(&[60, 500]) as u32,
            per_user: pick(&[0, 3, 50]) as u32,
            recovery_s: pick(&[0, 15, 120, 400]),
            history_events: pick(&[5, 30, 100]) as u32,
            history_s: pick(&[10, 300]),
            ping_s: pick(&[5, 25]),
            token_s: pick(&[40, 90, 3600]),
            drain: pick(&[0, 0, 1]) == 1,
            grace_s: 0,
            batch_over: 0,
            watched: false,
            offline_events: 0,
            offline_s: 0,
            offline_proof: false,
        };
        if swarm.kinds == [0; 4] {
            swarm.kinds = [1; 4];
        }
        for (act, weight) in ACTS {
            let times = pick(&[0, 1, 1, 3]);
            if times > 0 {
                swarm.acts.push((act, weight * times));
            }
        }
        if swarm.acts.is_empty() {
            swarm.acts.push((Act::Publish, 1));
        }
        swarm.grace_s = pick(&[0, 2, 10]);
        swarm.batch_over = pick(&[0, 10, 1000]) as u32;
        swarm.watched = pick(&[0, 1]) == 1;
        swarm.offline_events = pick(&[0, 3, 1000, 1000]);
        swarm.offline_s = pick(&[120, 3600]);
        swarm.offline_proof = pick(&[0, 0, 1]) == 1;
        let documents = pick(&[0, 30, 30, 90]);
        if documents > 0 {
            swarm.acts.push((Act::Document, documents));
        }
        swarm
    }

    /// A small run with everything regular on and no faults: the ground on which the checker is shown able to fail.
    pub fn calm(seed: u64) -> Swarm {
        Swarm {
            shards: 2,
            tenants: 2,
            clients: 16,
            active_s: 20,
            act_every_ms: 500,
            kinds: [3, 1, 1, 0],
            hostile: 0,
            head_token: 0,
            acts: vec![(Act::Publish, 3), (Act::Subscribe, 2), (Act::Mirror, 1), (Act::Document, 2)],
            cut_every_ms: 0,
            half_open_every_ms: 0,
            stall_every_ms: 0,
            mesh_full: 0,
            turn_inputs: 3,
            latency_us: 20_000,
            outbox_bytes: 1_048_576,
            events_burst: 500,
            per_user: 0,
            recovery_s: 120,
            history_events: 100,
            history_s: 300,
            token_s: 3600,
            drain: false,
            offline_events: 1000,
            offline_s: 3600,
            offline_proof: false,
            ..Swarm::draw(seed)
        }
    }
}
