//! Heap bytes of an idle, authenticated session in its shard: 15,000 Socket.IO sessions of 50 tenants, each in one room of its own choice.
//! What the data plane and the allocator add is seen from outside: `cargo run --release -p loadgen -- idle --connections 15000`.
//!
//! `cargo bench --bench session_bytes` prints bytes and allocations a session, and the size classes they are in.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use tenantcast::base::{
    id::{ConnKey, ReplyTo, ShardId},
    slab::Key,
    time::{Instant, Now, UnixMs},
};
use tenantcast::shard::{
    Auth, Settings, Shard, default_app,
    io::{Input, Message, Open, Wire},
};
use tenantcast::wire::auth::{Keys, Mint, Policy, mint};

struct Counting;

/// Live bytes and blocks by power of two.
static LIVE: [AtomicI64; 40] = [const { AtomicI64::new(0) }; 40];
static BLOCKS: [AtomicI64; 40] = [const { AtomicI64::new(0) }; 40];

fn class(size: usize) -> usize {
    size.next_power_of_two().trailing_zeros() as usize
}

// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE[class(layout.size())].fetch_add(layout.size() as i64, Relaxed);
        BLOCKS[class(layout.size())].fetch_add(1, Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE[class(layout.size())].fetch_sub(layout.size() as i64, Relaxed);
        BLOCKS[class(layout.size())].fetch_sub(1, Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const SESSIONS: u32 = 15_000;
const TENANTS: u32 = 50;

fn main() {
    let keys = Keys::from_secret(&[7; 32]).expect("a secret");
    let settings = Settings { auth: Some(Auth { keys: keys.clone(), policy: Policy::default() }), ..Settings::new() };
    let now = Now { at: Instant(1), unix: UnixMs(1_700_000_000_000) };
    let tokens: Vec<String> = (0..SESSIONS)
        .map(|n| {
            let (tenant, user) = (format!("tenant-{}", n % TENANTS), format!("user-{n}"));
            let permissions = ["publish".to_owned()];
            let claims = Mint {
                tenant: &tenant,
                user: &user,
                roles: &[],
                permissions: &permissions,
                rooms: &[],
                scope: &[],
                ttl: Some(std::time::Duration::from_secs(3600)),
            };
            mint(&claims, &keys, &Policy::default(), now.unix).expect("a token")
        })
        .collect();
    let before: Vec<(i64, i64)> =
        LIVE.iter().zip(&BLOCKS).map(|(live, blocks)| (live.load(Relaxed), blocks.load(Relaxed))).collect();
    let mut shard = Shard::new(settings, default_app(["/"]), [1; 32]);
    for (n, token) in (0..).zip(&tokens) {
        let conn = ConnKey::new(n, 0);
        let open = Open {
            from: ReplyTo { shard: ShardId(0), conn },
            wire: Wire::WebSocket,
            token: None,
            admission: None,
            hops: 0,
            address: [127, 0, 0, 1].into(),
            crowded: false,
            rooms: Vec::new(),
            last_event_id: None,
        };
        turn(&mut shard, now, Input::Open(Box::new(open)));
        let connect = format!("40{{\"token\":\"{token}\"}}");
        turn(&mut shard, now, Input::Message { conn, message: Message::Text(&connect) });
        let subscribe = format!("421[\"subscribe\",{{\"rooms\":[\"room:{}\"]}}]", n / TENANTS % 4);
        turn(&mut shard, now, Input::Message { conn, message: Message::Text(&subscribe) });
    }
    println!("{:>12} {:>14} {:>16}", "class", "bytes/session", "blocks/session");
    let mut sum = (0, 0);
    for (class, before) in before.iter().enumerate() {
        let (live, blocks) = (LIVE[class].load(Relaxed) - before.0, BLOCKS[class].load(Relaxed) - before.1);
        sum = (sum.0 + live, sum.1 + blocks);
        if live > 0 {
            println!(
                "{:>12} {:>14.1} {:>16.3}",
                1u64 << class,
                live as f64 / f64::from(SESSIONS),
                blocks as f64 / f64::from(SESSIONS)
            );
        }
    }
    println!("{:>12} {:>14.1} {:>16.3}", "all", sum.0 as f64 / f64::from(SESSIONS), sum.1 as f64 / f64::from(SESSIONS));
}

fn turn(shard: &mut Shard, now: Now, input: Input<'_>) {
    let mut outputs = Vec::new();
    shard.handle(now, input, &mut outputs);
    shard.end_turn(now, &mut outputs);
    while let Some(conn) = shard.next_dirty() {
        let bytes = shard.pending(conn).len();
        shard.wrote(now, conn, bytes, &mut outputs);
    }
    shard.end_writes(&mut outputs);
}
