//! Which connections are lent to their tenant's home, and which go there.

use super::*;

const HOME: ShardId = ShardId(1);

/// The first shard of two, on which everybody arrives here. `acme` is spread, and so is what begins with `big-`.
struct First {
    shard: Shard,
    now: Now,
    rig: Rig,
}

impl First {
    fn new() -> First {
        let rig = Rig::new();
        let settings = Settings {
            auth: Some(Auth { keys: rig.keys.clone(), policy: Policy::default() }),
            shards: 2,
            spread: ["acme", "big-*"].map(|text| crate::wire::auth::Pattern::parse(text).unwrap()).into(),
            ..Settings::new()
        };
        First { shard: Shard::new(settings, default_app(["/"]), [3; 32]), now: rig.now, rig }
    }

    /// What comes of these inputs in one turn.
    fn turn(&mut self, inputs: Vec<Input<'_>>) -> Vec<Output> {
        let mut outputs = Vec::new();
        inputs.into_iter().for_each(|input| self.shard.handle(self.now, input, &mut outputs));
        self.shard.end_turn(self.now, &mut outputs);
        outputs
    }

    fn open(&self, conn: u32, wire: Wire, token: Option<String>) -> Input<'static> {
        Input::Open(Box::new(Open {
            from: ReplyTo { shard: ShardId(0), conn: ConnKey::new(conn, 0) },
            wire,
            token: token.map(Into::into),
            address: "10.0.0.1".parse().unwrap(),
            admission: None,
            hops: 0,
            crowded: false,
            rooms: Vec::new(),
            last_event_id: None,
        }))
    }
}

/// Whether each connection that goes to the home is lent to it.
fn lent(outputs: &[Output]) -> Vec<bool> {
    let handoffs = outputs.iter().filter_map(|output| match output {
        Output::Handoff { to, lend, conns, .. } if *to == HOME => Some(vec![*lend; conns.len()]),
        _ => None,
    });
    handoffs.flatten().collect()
}

/// A tenant of this name that lives on the other shard.
fn tenant(start: &str) -> String {
    let mut names = std::iter::once(start.to_owned()).chain((0..).map(|n| format!("{start}{n}")));
    names.find(|name| TenantId::parse(name).unwrap().home(2) == HOME).unwrap()
}

#[test]
fn who_is_lent() {
    for (name, lend) in [(tenant("big-"), true), (tenant("small-"), false), (tenant("not-big-"), false)] {
        let mut first = First::new();
        let token = first.rig.token(&name, "ana");
        // The token is in the request.
        for wire in [Wire::Plain, Wire::Events, Wire::WebSocket] {
            let open = first.open(1, wire, Some(token.clone()));
            assert_eq!(lent(&first.turn(vec![open])), [lend], "{name} {wire:?}");
        }
        // It comes with CONNECT.
        let open = first.open(2, Wire::WebSocket, None);
        assert!(lent(&first.turn(vec![open])).is_empty(), "nobody knows yet whose it is");
        let connect = format!("40{{\"token\":\"{token}\"}}");
        let message = Input::Message { conn: ConnKey::new(2, 0), message: Message::Text(&connect) };
        assert_eq!(lent(&first.turn(vec![message])), [lend], "{name}");
    }
}

#[test]
fn a_probe_is_lent_where_its_session_has_gone_to_a_spread_tenant() {
    for (name, lend) in [(tenant("big-"), true), (tenant("small-"), false)] {
        let mut first = First::new();
        let from = |conn| ReplyTo { shard: ShardId(0), conn: ConnKey::new(conn, 0) };
        let connect = format!("40{{\"token\":\"{}\"}}", first.rig.token(&name, "ana"));
        let open = first.open(1, Wire::Polling, None);
        let outputs = first.turn(vec![open]);
        let Some(Output::Respond { response, .. }) = outputs.first() else { panic!("{outputs:?}") };
        let body = String::from_utf8_lossy(&response.body).into_owned();
        let sid = Sid::parse(&body[9..29]).unwrap();
        let post = Input::Post { from: from(2), sid, body: &connect };
        let early = first.open(3, Wire::Probe(sid), None);
        assert_eq!(lent(&first.turn(vec![post, early])), [lend], "{name}: it goes after its session");
        let late = first.open(4, Wire::Probe(sid), None);
        assert_eq!(lent(&first.turn(vec![late])), [lend], "{name}");
        // Of another shard's session nothing is known here: the connection goes there whole.
        let theirs = Sid::new(NodeId(0), HOME, &mut Chance::new([5; 32]));
        let probe = first.open(5, Wire::Probe(theirs), None);
        assert_eq!(lent(&first.turn(vec![probe])), [false], "{name}");
    }
}
