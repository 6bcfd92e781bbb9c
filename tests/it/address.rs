//! What the backplane counts of addresses: a case of its suite.

use crate::fleet::{Fleet, tenant};
use tenantcast::base::{id::ShardId, time::Duration};
use tenantcast::shard::relay::address::{Act, Answer};
use tenantcast::shard::relay::{self, Relay, Report, Ticket};
use tenantcast::wire::envelope::Origin;

fn hold(fleet: &mut dyn Fleet, node: usize, address: &str, shard: u8, count: u32, lease: Duration) -> u64 {
    let act = Act::Hold { origin: Origin(node as u64 + 1), shard: ShardId(shard), count, lease };
    let act = Box::new(relay::Act::Address(act));
    fleet.ask(node, Relay::Share { tenant: tenant(address), ticket: Some(Ticket(0)), act });
    match fleet.hear(node) {
        Report::Shared { result: Ok(relay::Answer::Address(Answer::Held { total })), .. } => total,
        other => panic!("{other:?}"),
    }
}

pub fn counts(fleet: &mut dyn Fleet) {
    let (long, short) = (Duration::from_secs(60), Duration::from_millis(30));
    for address in ["10.0.0.1", "2001:db8::"] {
        assert_eq!(hold(fleet, 0, address, 0, 2, long), 2);
        assert_eq!(hold(fleet, 1, address, 0, 1, long), 3);
        assert_eq!(hold(fleet, 0, address, 1, 4, long), 7, "another shard");
        assert_eq!(hold(fleet, 0, address, 0, 3, long), 8, "what was said before does not count again");
        assert_eq!(hold(fleet, 0, address, 1, 0, long), 4);
        assert_eq!(hold(fleet, 1, "10.0.0.2", 0, 1, long), 1, "another address");
        assert_eq!(hold(fleet, 1, "10.0.0.2", 0, 0, long), 0);
    }
    hold(fleet, 1, "10.0.0.3", 0, 5, short);
    fleet.until("a node that says nothing any more does not count", &mut |fleet| {
        hold(fleet, 0, "10.0.0.3", 0, 1, long) == 1
    });
}
