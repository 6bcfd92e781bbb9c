//! Tenants: what is told, in which order, and what is not.

use super::*;
use crate::wire::envelope;

const CHANNEL: &[u8] = b"tc:{t}";

/// One tenant at one shard, driven by hand. Steps are shown as text.
struct Rig {
    tenants: Tenants,
    now: Instant,
    chance: Chance,
}

impl Rig {
    fn new() -> Rig {
        Rig { tenants: Tenants::default(), now: Instant(0), chance: Chance::new([1; 32]) }
    }

    fn tenant() -> TenantId {
        TenantId::parse("t").unwrap()
    }

    fn run(&mut self, act: impl FnOnce(&mut Rig, &mut Vec<Step>)) -> Vec<String> {
        let mut steps = Vec::new();
        act(self, &mut steps);
        let show = |step: Step| match step {
            Step::Tell(_, Report::Opened { place: Ok(place), .. }) => {
                format!("opened {}-{}", place.epoch.0, place.sequence)
            }
            Step::Tell(_, Report::Opened { .. }) => "away".into(),
            Step::Tell(_, Report::Envelope { frame, .. }) => match Frame::decode(&frame).unwrap().place {
                Some(place) => format!("event {}-{}", place.epoch, place.sequence),
                None => "word".into(),
            },
            Step::Place(_, asked) => format!("place? {asked}"),
            Step::Check(..) => "check?".into(),
            Step::Gap => "gap".into(),
            other => format!("{other:?}"),
        };
        steps.into_iter().map(show).collect()
    }

    fn open(&mut self, is_up: bool) -> Vec<String> {
        self.run(|rig, steps| rig.tenants.open(Rig::tenant(), "tc:{t}", ShardId(0), is_up, steps))
    }

    fn subscribed(&mut self, confirmed: bool) -> Vec<String> {
        let changes = self.tenants.changes(10);
        assert!(!changes.is_empty(), "there is something to subscribe");
        let now = self.now;
        self.run(|rig, steps| {
            changes.iter().for_each(|change| rig.tenants.subscribed(change, confirmed, now, steps));
        })
    }

    fn place(epoch: u64, sequence: u64) -> Place {
        Place { epoch: Epoch(epoch), sequence }
    }

    /// The answer to the newest question, or with `late` to the one before.
    fn placed(&mut self, epoch: u64, sequence: u64, late: bool) -> Vec<String> {
        let asked = self.tenants.tenants[&Rig::tenant()].asked - u64::from(late);
        let now = self.now;
        self.run(|rig, steps| {
            let Rig { tenants, chance, .. } = rig;
            tenants.placed(&Rig::tenant(), asked, Rig::place(epoch, sequence), now, chance, steps);
        })
    }

    fn event(&mut self, epoch: u64, sequence: u64) -> Vec<String> {
        let place = envelope::Place { epoch, sequence, room_epoch: 1, offset: 1 };
        let frame = envelope::placed(place, b"").into_boxed_slice();
        self.run(|rig, steps| {
            rig.tenants.envelope(CHANNEL, frame, steps);
        })
    }

    fn stands(&mut self, place: Option<(u64, u64)>) -> Vec<String> {
        let stamp = self.tenants.tenants[&Rig::tenant()].stamp;
        let place = place.map(|(epoch, sequence)| Rig::place(epoch, sequence));
        let now = self.now;
        self.run(|rig, steps| rig.tenants.stands(&Rig::tenant(), stamp, place, now, steps))
    }

    /// Goes to the next deadline.
    fn due(&mut self) -> Vec<String> {
        self.now = self.tenants.next_deadline().expect("something is planned");
        let now = self.now;
        self.run(|rig, steps| rig.tenants.due(now, steps))
    }

    fn heard() -> Rig {
        let mut rig = Rig::new();
        assert!(rig.open(true).is_empty());
        assert_eq!(rig.subscribed(true), ["place? 2"]);
        assert_eq!(rig.placed(7, 5, false), ["opened 7-5"]);
        rig
    }
}

#[test]
fn what_comes_before_the_place_is_known_is_told_after_it() {
    let mut rig = Rig::new();
    rig.open(true);
    assert!(rig.event(7, 4).is_empty(), "subscribed, and not yet confirmed");
    rig.subscribed(true);
    assert!(rig.event(7, 5).is_empty());
    assert_eq!(rig.placed(7, 4, false), ["opened 7-4", "event 7-4", "event 7-5"]);
    assert_eq!(rig.event(7, 6), ["event 7-6"]);
    let strange = rig.run(|rig, steps| assert!(rig.tenants.envelope(b"tc:{u}", (*b"x").into(), steps)));
    assert!(strange.is_empty());
    rig.tenants.close(&Rig::tenant(), "tc:{t}");
    assert!(rig.event(7, 7).is_empty());
    assert_eq!(rig.tenants.changes(10).len(), 1);
    assert_eq!(rig.tenants.next_deadline(), None, "nothing of it is left");
}

#[test]
fn too_much_before_the_place_is_known_is_asked_again() {
    let mut rig = Rig::new();
    rig.open(true);
    rig.subscribed(true);
    let heavy = vec![1; OPENING_BYTES_MAX].into_boxed_slice();
    rig.event(7, 1);
    assert!(rig.run(|rig, steps| assert!(!rig.tenants.envelope(CHANNEL, heavy, steps))).is_empty());
    assert_eq!(rig.placed(7, 0, false), ["place? 3"]);
    assert!(rig.event(7, 3).is_empty());
    assert_eq!(rig.placed(7, 2, false), ["opened 7-2", "event 7-3"]);
}

#[test]
fn away_is_said_once_and_the_place_when_it_is_back() {
    let mut rig = Rig::heard();
    assert_eq!(rig.run(|rig, steps| rig.tenants.away(steps)), ["away"]);
    assert!(rig.run(|rig, steps| rig.tenants.away(steps)).is_empty());
    assert_eq!(rig.open(false), ["away"], "asked again, it is told again");
    assert!(rig.placed(7, 5, false).is_empty(), "an answer of before");
    assert_eq!(rig.subscribed(false).len(), 0, "refused: it is said already");
    assert_eq!(rig.due(), Vec::<String>::new());
    rig.subscribed(true);
    assert!(rig.placed(7, 8, true).is_empty(), "an answer of before");
    assert_eq!(rig.placed(7, 9, false), ["opened 7-9"]);
    // A subscription that is closed and opened again is another one.
    rig.tenants.close(&Rig::tenant(), "tc:{t}");
    rig.open(true);
    let changes = rig.tenants.changes(10);
    assert_eq!(
        changes.iter().map(|change| change.subscribe).collect::<Vec<_>>(),
        [false],
        "one of each tenant at once"
    );
    assert_eq!(rig.subscribed(true).len(), 1);
}

#[test]
fn no_room_on_the_way_to_the_shard() {
    let mut rig = Rig::heard();
    rig.tenants.lost(&Rig::tenant());
    assert!(rig.event(7, 6).is_empty());
    assert_eq!(rig.run(|rig, steps| rig.tenants.regain(ShardId(1), steps)), Vec::<String>::new());
    assert_eq!(rig.run(|rig, steps| rig.tenants.regain(ShardId(0), steps)), ["place? 3"]);
    rig.tenants.lost(&Rig::tenant());
    assert!(rig.placed(7, 6, false).is_empty(), "lost again meanwhile");
    rig.run(|rig, steps| rig.tenants.regain(ShardId(0), steps));
    assert!(rig.event(7, 8).is_empty());
    assert_eq!(rig.placed(7, 7, false), ["opened 7-7", "event 7-8"]);
    assert_eq!(rig.run(|rig, steps| rig.tenants.dropped(CHANNEL, steps)), ["place? 5"]);
}

#[test]
fn a_silent_gap_is_found_and_an_envelope_under_way_is_none() {
    let mut rig = Rig::heard();
    assert_eq!(rig.due(), ["check?"]);
    assert!(rig.stands(Some((7, 5))).is_empty());
    let planned = rig.tenants.next_deadline();
    assert_eq!(rig.due(), ["check?"]);
    assert!(rig.stands(Some((7, 6))).is_empty(), "it may be under way");
    assert!(rig.tenants.next_deadline() < planned.map(|at| at + CHECK_EVERY), "looked at again soon");
    rig.event(7, 6);
    assert_eq!(rig.due(), ["check?"]);
    assert!(rig.stands(Some((7, 6))).is_empty(), "it was");
    assert_eq!(rig.due(), ["check?"]);
    rig.stands(Some((7, 8)));
    assert_eq!(rig.due(), ["check?"]);
    assert_eq!(rig.stands(Some((7, 9))), ["gap", "opened 7-9"], "two have not come");
    assert_eq!(rig.tenants.checks.len(), 1, "one look is planned, however many were made");
    // Another epoch, and none at all.
    rig.due();
    rig.stands(Some((8, 1)));
    rig.due();
    assert_eq!(rig.stands(Some((8, 1))), ["gap", "opened 8-1"]);
    assert_eq!(rig.stands(None), ["place? 3"]);
    assert_eq!(rig.placed(9, 0, false), ["opened 9-0"]);
}

#[test]
fn a_store_that_went_back_gets_a_new_epoch() {
    let mut rig = Rig::heard();
    rig.due();
    // The answer was on its way when this came.
    rig.event(7, 6);
    assert!(rig.stands(Some((7, 5))).is_empty());
    rig.due();
    assert_eq!(rig.stands(Some((7, 5))), ["place? 3"], "6 had been seen before it was asked");
    assert_eq!(rig.tenants.seen(&Rig::tenant()), Some(Rig::place(7, 6)), "which the question says");
    assert_eq!(rig.placed(8, 5, false), ["opened 8-5"]);
}
