//! Requests for sessions of another node: the backplane's part, asked of a store in memory and of a real one.

use crate::fleet::Fleet;
use tenantcast::base::chance::Chance;
use tenantcast::base::id::{ConnKey, NodeId, ReplyTo, ShardId, Sid};
use tenantcast::base::slab::Key;
use tenantcast::shard::neighbour::{Errand, News, Request, unknown};
use tenantcast::wire::http::Response;

pub fn requests(fleet: &mut dyn Fleet) {
    fleet.open(0, "neighbours");
    fleet.open(1, "neighbours");
    let mut chance = Chance::new([3; 32]);
    let sid = Sid::new(NodeId(1), ShardId(0), &mut chance);
    let at = |index| ReplyTo { shard: ShardId(0), conn: ConnKey::new(index, 0) };
    let ask = |fleet: &mut dyn Fleet, to, sid, request| fleet.errand(0, Errand::Ask { to, sid, request });
    let asked = |fleet: &mut dyn Fleet| match fleet.news(1) {
        News::Asked { from, sid: of, request } => {
            assert!(from.is_elsewhere() && of == sid);
            (from, if let Request::Post(body) = request { Some(body) } else { None })
        }
        other => panic!("{other:?}"),
    };
    let answered = |fleet: &mut dyn Fleet| match fleet.news(0) {
        News::Answered { to, response } => (to.conn.index(), *response),
        other => panic!("{other:?}"),
    };
    let text = |body: &str| Response { no_store: true, ..Response::text(200, body.to_owned()) };
    let answer = |fleet: &mut dyn Fleet, to, body| {
        fleet.errand(1, Errand::Answer { to, response: Box::new(text(body)) });
    };
    // Two at once, answered in the other order.
    ask(fleet, at(7), sid, Request::Poll);
    ask(fleet, at(8), sid, Request::Post("4é".into()));
    let ((poll, nothing), (post, body)) = (asked(fleet), asked(fleet));
    assert_eq!((nothing, body.as_deref()), (None, Some("4é")));
    answer(fleet, post, "ok");
    answer(fleet, poll, "4hello");
    assert_eq!([answered(fleet), answered(fleet)], [(8, text("ok")), (7, text("4hello"))]);
    // Each is answered once.
    answer(fleet, poll, "4again");
    // One whose client has gone is not answered.
    ask(fleet, at(7), sid, Request::Poll);
    let (gone, _) = asked(fleet);
    fleet.errand(0, Errand::Left { to: at(7) });
    match fleet.news(1) {
        News::Left { from, sid: of } => assert_eq!((from, of), (gone, sid)),
        other => panic!("{other:?}"),
    }
    answer(fleet, gone, "4late");
    // One that waits is released.
    ask(fleet, at(7), sid, Request::Poll);
    let (waits, _) = asked(fleet);
    fleet.errand(0, Errand::Release);
    match fleet.news(1) {
        News::Released { from, sid: of } => assert_eq!((from, of), (waits, sid)),
        other => panic!("{other:?}"),
    }
    answer(fleet, waits, "6");
    assert_eq!(answered(fleet), (7, text("6")));
    // A node that nobody is.
    ask(fleet, at(9), Sid::new(NodeId(900), ShardId(0), &mut chance), Request::Poll);
    assert_eq!(answered(fleet), (9, unknown()));
}
