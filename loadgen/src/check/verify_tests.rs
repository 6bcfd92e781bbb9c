//! Two tenants, two rooms, members 0 and 1 in room 0, member 2 in room 1. Publishers: 0 (member 0) and 1 (member 1) in room 0, 2 in room 1.
//! Each row is what a server did, and the faults that must be reported for it: those, and no others.

use super::super::delivery::Payload;
use super::*;

#[derive(Clone, Copy)]
enum Step {
    /// Publisher sends its next.
    Send(usize),
    /// Ack: publisher, sequence, offset.
    Ack(usize, u64, u64),
    Refuse(usize, u64),
    /// Delivery to a member: publisher, sequence, offset.
    Get(usize, u32, u32, u64),
    /// The same, in a new epoch.
    GetAnew(usize, u32, u32, u64),
    /// Claims another (tenant, room) than its publisher's.
    Claim(usize, u32, u32),
}
use Step::*;

fn run(steps: &[Step]) -> Tally {
    let mut verifier = Verifier::new(&Plan {
        room_tenants: vec![0, 1],
        member_rooms: vec![0, 0, 1],
        publisher_members: vec![0, 1, 2],
    });
    let room_of = [0, 0, 1];
    let delivery = |publisher: u32, sequence, offset, epoch| {
        let room = room_of.get(publisher as usize).copied().unwrap_or(0);
        Delivery { payload: Payload { tenant: room, room, publisher, sequence, at_us: 0 }, offset, epoch }
    };
    for step in steps {
        match *step {
            Send(publisher) => {
                verifier.published(publisher);
            }
            Ack(publisher, sequence, offset) => {
                verifier.acked(publisher, sequence, offset, 7);
            }
            Refuse(publisher, sequence) => {
                verifier.refused(publisher, sequence);
            }
            Get(member, publisher, sequence, offset) => {
                verifier.delivered(member, &delivery(publisher, sequence, offset, 7));
            }
            GetAnew(member, publisher, sequence, offset) => {
                verifier.delivered(member, &delivery(publisher, sequence, offset, 8));
            }
            Claim(member, tenant, room) => {
                let payload = Payload { tenant, room, publisher: 0, sequence: 0, at_us: 0 };
                verifier.delivered(member, &Delivery { payload, offset: 1, epoch: 7 });
            }
        }
    }
    verifier.finish()
}

/// Three publishes of publisher 0, all acked as 1, 2, 3, all delivered to member 1; the row says what member 0 saw, and what else happened.
fn check(steps: &[Step], expected: &str) {
    let before = [Send(0), Send(0), Send(0), Ack(0, 0, 1), Ack(0, 1, 2), Ack(0, 2, 3)];
    let other = [Get(1, 0, 0, 1), Get(1, 0, 1, 2), Get(1, 0, 2, 3)];
    let tally = run(&[&before[..], &other[..], steps].concat());
    assert_eq!(tally.faults_line(), expected, "{tally:?}");
    assert_eq!(tally.examples.is_empty(), expected.is_empty(), "{tally:?}");
}

const FIRST: Step = Get(0, 0, 0, 1);
const SECOND: Step = Get(0, 0, 1, 2);
const THIRD: Step = Get(0, 0, 2, 3);

#[test]
fn a_right_stream_has_no_faults() {
    check(&[FIRST, SECOND, THIRD], "");
    check(&[FIRST, SECOND, THIRD, Send(2), Ack(2, 0, 900), Get(2, 2, 0, 900)], "");
    let tally = run(&[Send(0), Get(0, 0, 0, 5), Get(1, 0, 0, 5), Ack(0, 0, 5)]);
    assert_eq!((tally.expected, tally.received, tally.acked, tally.faults_line().as_str()), (2, 2, 1, ""));
}

#[test]
fn lost() {
    check(&[], "3 lost");
    check(&[FIRST, SECOND], "1 lost");
    check(&[FIRST, THIRD], "1 lost");
    check(&[SECOND, THIRD], "1 lost");
    check(&[THIRD], "2 lost");
    // Known only from another member's delivery, never acked: it must still reach everybody.
    check(&[FIRST, SECOND, THIRD, Send(1), Get(0, 1, 0, 4)], "1 unacked, 1 lost");
}

#[test]
fn twice() {
    check(&[FIRST, FIRST, SECOND, THIRD], "1 duplicate");
    check(&[FIRST, SECOND, THIRD, FIRST, THIRD], "2 duplicate");
    check(&[SECOND, FIRST, FIRST, THIRD], "1 duplicate, 1 out of order");
    // The same publish under two offsets, to both members.
    check(&[FIRST, SECOND, THIRD, Get(0, 0, 2, 4), Get(1, 0, 2, 4)], "2 duplicate");
}

#[test]
fn out_of_order() {
    check(&[FIRST, THIRD, SECOND], "1 out of order");
    check(&[SECOND, FIRST, THIRD], "1 out of order");
    check(&[THIRD, SECOND, FIRST], "2 out of order");
    // The room's own order contradicts the publisher's, even where every member sees it alike.
    let swapped = [Send(0), Send(0), Ack(0, 1, 1), Ack(0, 0, 2)];
    let seen = [Get(0, 0, 1, 1), Get(0, 0, 0, 2), Get(1, 0, 1, 1), Get(1, 0, 0, 2)];
    assert_eq!(run(&[&swapped[..], &seen[..]].concat()).faults_line(), "1 out of order");
}

#[test]
fn from_elsewhere() {
    let all = [FIRST, SECOND, THIRD];
    check(&[&all[..], &[Claim(0, 1, 1)]].concat(), "1 foreign");
    check(&[&all[..], &[Claim(0, 1, 0)]].concat(), "1 foreign");
    check(&[&all[..], &[Claim(0, 0, 1)]].concat(), "1 misrouted");
    check(&[&all[..], &[Get(2, 0, 0, 1)]].concat(), "1 foreign");
}

#[test]
fn nonsense() {
    let with = |step: Step| [FIRST, SECOND, THIRD, step];
    check(&with(Get(0, 0, 3, 4)), "1 unknown");
    check(&with(Get(0, 99, 0, 4)), "1 unknown");
    check(&with(Get(0, 2, 0, 4)), "1 foreign");
    check(&with(Get(0, 0, 1, 1)), "1 unknown");
    check(&with(Get(0, 0, 0, u64::MAX)), "1 unknown");
    check(&with(Get(0, 0, 0, 1 << 60)), "1 unknown");
    check(&with(GetAnew(0, 0, 0, 1)), "1 epoch changed");
    check(&with(Ack(0, 0, 1)), "1 unknown");
    check(&with(Ack(0, 9, 4)), "1 unknown");
    check(&with(Refuse(0, 0)), "1 unknown");
    let first = run(&[Send(0), Ack(0, 0, u64::MAX)]);
    assert_eq!(first.faults_line(), "1 unknown");
}

#[test]
fn answers() {
    let all = [FIRST, SECOND, THIRD];
    check(&[&all[..], &[Send(1)]].concat(), "1 unacked");
    check(&[&all[..], &[Send(1), Refuse(1, 0)]].concat(), "1 refused");
    // Refused and yet delivered: nobody else received it either.
    check(&[&all[..], &[Send(1), Refuse(1, 0), Get(0, 1, 0, 4)]].concat(), "1 refused, 1 lost");
    // Acked under an offset that is another publish's.
    check(&[&all[..], &[Send(1), Ack(1, 0, 2)]].concat(), "1 unknown");
    // The room skips offset 4: reported once, not once a member.
    let skip = [Send(1), Ack(1, 0, 5), Get(0, 1, 0, 5), Get(1, 1, 0, 5)];
    check(&[&all[..], &skip[..]].concat(), "1 skipped offsets");
}

#[test]
fn settles_only_when_everything_is_in() {
    let mut verifier =
        Verifier::new(&Plan { room_tenants: vec![0], member_rooms: vec![0], publisher_members: vec![0] });
    assert!(verifier.is_settled());
    verifier.published(0);
    assert!(!verifier.is_settled());
    verifier.acked(0, 0, 1, 7);
    assert!(!verifier.is_settled());
    let payload = Payload { tenant: 0, room: 0, publisher: 0, sequence: 0, at_us: 0 };
    let delivery = Delivery { payload, offset: 1, epoch: 7 };
    assert_eq!(verifier.delivered(0, &delivery), Outcome::Counted);
    assert!(verifier.is_settled());
    assert_eq!(verifier.delivered(0, &delivery), Outcome::Fault);
}
