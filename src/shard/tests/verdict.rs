//! Joins that the backend decides: one question, one answer, for whoever waits and for a while after; closed without one.

use super::*;
use crate::shard::app::{Args, Context};
use crate::shard::io::{Answer, Ask, TicketKey};
use crate::shard::refusal::Refusal;
use crate::shard::verdict::VerdictSettings;
use crate::wire::json;

const ALLOWED: Answer = Answer::Allowed { ttl: None };
const DENIED: Answer = Answer::Denied { ttl: None };

/// `join` asks the backend about its argument, and answers with the verdict.
fn rig(change: impl FnOnce(&mut VerdictSettings)) -> Rig {
    let join = |socket: &mut Context<'_>, args: Args<'_>| {
        let room = args.first().and_then(json::string).unwrap_or_default().into_owned();
        socket.join_authorized(&room, "join", |socket, joined| match joined {
            Ok(()) => socket.ack("true"),
            Err(refusal) => socket.refuse(&refusal),
        });
    };
    let authenticate = |socket: &mut Context<'_>, args: Args<'_>| {
        let token = args.first().and_then(json::string).unwrap_or_default();
        let renewed = socket.authenticate(&token).is_ok();
        socket.ack(if renewed { "true" } else { "false" });
    };
    let app = App::new().namespace("/", |namespace| {
        namespace.on("join", join).on("authenticate", authenticate);
    });
    let mut verdicts = VerdictSettings {
        timeout: Duration::from_secs(6),
        allowed_for: Duration::from_secs(60),
        denied_for: Duration::from_secs(5),
        known_max: 3,
    };
    change(&mut verdicts);
    Rig::of(app, |settings| settings.verdicts = Some(verdicts))
}

impl Rig {
    fn guest(&mut self, tenant: &str, user: &str) -> ConnKey {
        let conn = self.open(Wire::WebSocket, None);
        let token = self.token(tenant, user);
        self.say(conn, &format!("40{{\"token\":\"{token}\"}}"));
        self.take(conn);
        conn
    }

    /// The questions since the last time.
    fn questions(&mut self) -> Vec<(TicketKey, String)> {
        let asks = std::mem::take(&mut self.asks);
        asks.into_iter()
            .map(|ask| match ask {
                Ask::Authorize { ticket, question } => (ticket, question.into()),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    /// The one ticket since the last time.
    fn ticket(&mut self) -> TicketKey {
        let questions = self.questions();
        assert_eq!(questions.len(), 1, "{questions:?}");
        questions[0].0
    }

    fn answer(&mut self, ticket: TicketKey, answer: Answer) {
        self.input(Input::Answered { ticket, answer });
    }

    fn is_in(&self, tenant: &str, room: &str) -> usize {
        let tenant = self.shard.tenant_keys[&TenantId::parse(tenant).unwrap()];
        self.shard.tenants[tenant].rooms.get(room).map_or(0, |room| self.shard.rooms[*room].members.len())
    }
}

fn code(packets: &[String]) -> Vec<String> {
    packets
        .iter()
        .map(|packet| if packet.contains("[true]") { "ok".into() } else { field(packet, "code").to_owned() })
        .collect()
}

#[test]
fn the_ack_waits_for_the_verdict() {
    let table = [
        (Some(ALLOWED), "ok", 1),
        (Some(DENIED), "forbidden", 0),
        (Some(Answer::Unavailable), "backend_unavailable", 0),
        (None, "backend_unavailable", 0),
    ];
    for (answer, want, members) in table {
        let mut rig = rig(|_| {});
        let a = rig.guest("acme", "a\"n");
        rig.say(a, "421[\"join\",\"project:7\"]");
        assert_eq!(rig.take(a), Vec::<String>::new(), "nobody knows yet");
        let questions = rig.questions();
        assert_eq!(
            questions[0].1,
            r#"{"tenant":"acme","user":"a\"n","room":"project:7","event":"join","roles":[],"permissions":["publish"]}"#
        );
        assert_eq!(rig.is_in("acme", "project:7"), 0);
        match answer {
            Some(answer) => rig.answer(questions[0].0, answer),
            None => rig.advance(Duration::from_millis(6_010)),
        }
        let packets = rig.take(a);
        assert!(packets.len() == 1 && packets[0].starts_with("431["), "{packets:?}");
        assert_eq!(code(&packets), [want]);
        assert_eq!(rig.is_in("acme", "project:7"), members);
        // An answer that comes when all is over, or again, is nobody's.
        rig.answer(questions[0].0, ALLOWED);
        assert_eq!((rig.take(a).len(), rig.is_in("acme", "project:7"), rig.shard.verdicts.waiting()), (0, members, 0));
    }
}

#[test]
fn an_answer_counts_for_a_while() {
    let seconds = |s| Some(Duration::from_secs(s));
    let table = [
        (ALLOWED, 59, 0),
        (ALLOWED, 61, 1),
        (DENIED, 4, 0),
        (DENIED, 6, 1),
        (Answer::Allowed { ttl: seconds(0) }, 0, 1),
        (Answer::Allowed { ttl: seconds(90) }, 89, 0),
        (Answer::Allowed { ttl: seconds(90) }, 91, 1),
        (Answer::Denied { ttl: seconds(90) }, 89, 0),
        (Answer::Allowed { ttl: seconds(u64::MAX) }, 86_399, 0),
        (Answer::Allowed { ttl: seconds(u64::MAX) }, 86_401, 1),
        (Answer::Unavailable, 0, 1),
    ];
    for (answer, after, asked) in table {
        let mut rig = rig(|_| {});
        let a = rig.guest("acme", "a");
        rig.say(a, "421[\"join\",\"r\"]");
        let ticket = rig.ticket();
        rig.answer(ticket, answer);
        let first = code(&rig.take(a));
        // Another of the user's connections, because this one may be in the room.
        rig.now = rig.now.later(Duration::from_secs(after));
        let again = rig.guest("acme", "a");
        rig.say(again, "422[\"join\",\"r\"]");
        assert_eq!(rig.questions().len(), asked, "{answer:?} after {after} s");
        if asked == 0 {
            assert_eq!(code(&rig.take(again)), first, "known, so in the same turn");
        }
    }
}

#[test]
fn one_question_for_all_who_ask_it() {
    let mut rig = rig(|_| {});
    let conns = [rig.guest("acme", "a"), rig.guest("acme", "a"), rig.guest("acme", "b"), rig.guest("globex", "a")];
    for conn in conns {
        rig.say(conn, "421[\"join\",\"r\"]");
    }
    let questions = rig.questions();
    assert_eq!(questions.len(), 3, "one for each user of each tenant: {questions:?}");
    rig.answer(questions[0].0, ALLOWED);
    let answered: Vec<usize> = conns.iter().map(|conn| rig.take(*conn).len()).collect();
    assert_eq!(answered, [1, 1, 0, 0]);
    rig.answer(questions[2].0, DENIED);
    assert_eq!(code(&rig.take(conns[3])), ["forbidden"]);
    // Who is in is asked about no more, and what is remembered is bounded.
    rig.say(conns[0], "422[\"join\",\"r\"]");
    assert_eq!((rig.questions().len(), code(&rig.take(conns[0]))), (0, vec!["ok".to_owned()]));
    for room in ["1", "2", "3", "4"] {
        rig.say(conns[0], &format!("423[\"join\",\"{room}\"]"));
        let ticket = rig.ticket();
        rig.answer(ticket, ALLOWED);
    }
    rig.say(conns[1], "424[\"join\",\"4\"]");
    assert_eq!(rig.questions().len(), 0);
    rig.say(conns[1], "425[\"join\",\"1\"]");
    assert_eq!(rig.questions().len(), 1, "three are remembered");
}

#[test]
fn fresh_rights_are_a_fresh_question() {
    let mut rig = rig(|_| {});
    let a = rig.guest("acme", "a");
    rig.say(a, "421[\"join\",\"r\"]");
    let ticket = rig.ticket();
    rig.answer(ticket, DENIED);
    let mint_of = Mint {
        tenant: "acme",
        user: "a",
        roles: &["admin".to_owned()],
        permissions: &[],
        rooms: &[],
        scope: &[],
        ttl: Some(Duration::from_secs(60)),
    };
    let token = mint(&mint_of, &rig.keys, &Policy::default(), rig.now.unix).unwrap();
    rig.say(a, &format!("422[\"authenticate\",\"{token}\"]"));
    rig.take(a);
    rig.say(a, "423[\"join\",\"r\"]");
    let questions = rig.questions();
    assert!(questions.len() == 1 && questions[0].1.contains("\"roles\":[\"admin\"]"), "{questions:?}");
}

#[test]
fn whoever_is_gone_is_not_waited_for() {
    let mut rig = rig(|_| {});
    let (a, b) = (rig.guest("acme", "a"), rig.guest("acme", "a"));
    for conn in [a, b] {
        rig.say(conn, "421[\"join\",\"r\"]");
    }
    let ticket = rig.ticket();
    rig.input(Input::Hangup { conn: a, cause: Hangup::Closed });
    // Its place may be somebody else's by now.
    let c = rig.guest("acme", "c");
    rig.answer(ticket, ALLOWED);
    assert_eq!((rig.is_in("acme", "r"), rig.take(b).len(), rig.take(c).len()), (1, 1, 0));
    assert_eq!(rig.shard.verdicts.waiting(), 0);
}

#[test]
fn waiting_is_bounded() {
    let mut rig = rig(|_| {});
    let a = rig.guest("acme", "a");
    let most = limit::VERDICT_WAITS_PER_SOCKET_MAX;
    for n in 0..=most {
        rig.say(a, &format!("42{n}[\"join\",\"r{n}\"]"));
    }
    assert_eq!(code(&rig.take(a)), ["too_many_items"]);
    let questions = rig.questions();
    assert_eq!(questions.len(), most as usize);
    rig.answer(questions[0].0, DENIED);
    rig.take(a);
    rig.say(a, "429[\"join\",\"more\"]");
    assert_eq!(rig.questions().len(), 1, "one has been answered");
    // And nothing is left of them.
    rig.advance(Duration::from_secs(7));
    assert_eq!(rig.take(a).len(), most as usize);
    assert_eq!((rig.shard.verdicts.waiting(), rig.shard.census()[7].1), (0, 0), "{:?}", rig.shard.census());
}

#[test]
fn names_are_checked_and_without_a_backend_nobody_joins() {
    let mut rig = rig(|_| {});
    let a = rig.guest("acme", "a");
    rig.say(a, "421[\"join\",\"\"]");
    rig.say(a, "422[\"join\",\"a\\u0000b\"]");
    assert_eq!(code(&rig.take(a)), ["room_name_invalid", "room_name_invalid"]);
    rig.shard.settings.verdicts = None;
    rig.say(a, "423[\"join\",\"r\"]");
    assert_eq!(code(&rig.take(a)), [Refusal::BackendUnavailable.code()]);
    assert!(rig.asks.is_empty());
}
