//! The fleet's wires: what the real packages wrote is read and written again, what strangers may write is refused.

mod fixture;

use super::channel::{Classic, Cluster};
use super::streams::{Row, Session};
use super::*;
use crate::base::chance::Chance;
use crate::base::id::{NodeId, ShardId};
use crate::base::limit::{FLEET_MESSAGE_BYTES_MAX, JSON_DEPTH_MAX};

fn texts(list: &[&str]) -> Vec<Cow<'static, str>> {
    list.iter().map(|text| Cow::Owned((*text).to_owned())).collect()
}

fn to(rooms: &[&str], except: &[&str]) -> Audience<'static> {
    Audience { rooms: texts(rooms), except: texts(except), flags: Flags::default() }
}

fn said(event: &str, args: &str) -> Packet<'static> {
    Packet { event: Cow::Owned(event.to_owned()), args: Payload::json(args.to_owned()) }
}

fn message<'a>(nsp: &'a str, from: Option<&'a str>, what: What<'a>) -> Message<'a> {
    Message { nsp: nsp.into(), from: from.map(Cow::Borrowed), what }
}

const REQUEST: Classic<'static> = Classic::Request { nsp: "/" };
const RESPONSE: Classic<'static> = Classic::Response { nsp: "/", to: None };
const BROADCAST: Classic<'static> = Classic::Broadcast { nsp: "/", room: None };

#[test]
fn rooms_name_their_tenant() {
    let single = TenantId::parse("main");
    type Row<'a> = (&'a str, Option<&'a TenantId>, Option<(&'a str, &'a str)>);
    let table: [Row<'_>; 16] = [
        ("acme/project:7", None, Some(("acme", "project:7"))),
        ("acme/a/b", None, Some(("acme", "a/b"))),
        ("acme/", None, None),
        ("/x", None, None),
        ("//x", None, None),
        ("acme", None, None),
        ("project:7", None, None),
        ("", None, None),
        ("a\u{7}b/x", None, None),
        ("project:7", single.as_ref(), Some(("main", "project:7"))),
        ("main/project:7", single.as_ref(), Some(("main", "project:7"))),
        // With one tenant there is no other: a slash is a part of the name.
        ("acme/project:7", single.as_ref(), Some(("main", "acme/project:7"))),
        ("main/main/x", single.as_ref(), Some(("main", "main/x"))),
        ("/x", single.as_ref(), Some(("main", "/x"))),
        ("main/", single.as_ref(), None),
        ("", single.as_ref(), None),
    ];
    for (room, single, want) in table {
        let got = address(room, single);
        assert_eq!(got.as_ref().map(|(tenant, name)| (tenant.as_str(), *name)), want, "{room}");
        // What is found by a name is called by a name that finds it.
        let Some((tenant, name)) = got else { continue };
        let called = room_name(&tenant, name, single);
        assert_eq!(address(&called, single), Some((tenant, name)), "{called}");
    }
    let acme = TenantId::parse("acme").unwrap();
    assert_eq!(room_name(&acme, "a", None), "acme/a");
    assert_eq!(room_name(single.as_ref().unwrap(), "a", single.as_ref()), "a");
    assert_eq!(room_name(single.as_ref().unwrap(), "main/x", single.as_ref()), "main/main/x");
}

#[test]
fn a_socket_is_a_room() {
    let sid = Sid::new(NodeId(3), ShardId(1), &mut Chance::new([1; 32]));
    for (room, want) in [
        (sid.to_string(), Some(sid)),
        (format!("acme/{sid}"), Some(sid)),
        (format!("{sid}x"), None),
        ("acme/a".to_owned(), None),
        (String::new(), None),
    ] {
        assert_eq!(socket(&room), want, "{room}");
    }
}

#[test]
fn a_handshake_has_what_nodes_has_and_no_token() {
    let text = handshake("::1", crate::base::time::UnixMs(1_700_000_000_123), true);
    let keys: Vec<&str> = json::members(&text).map(|(key, _)| key.trim_matches('"')).collect();
    assert_eq!(keys, ["headers", "time", "address", "xdomain", "secure", "issued", "url", "query", "auth"]);
    assert!(json::validate(&text));
}

#[test]
fn audiences_include_and_leave_out() {
    for (rooms, except, mine, want) in [
        (&["a", "b"][..], &[][..], &["b"][..], true),
        (&["a"], &[], &["b"], false),
        (&[], &[], &["b"], true),
        (&[], &[], &[], true),
        (&["a"], &["b"], &["a", "b"], false),
        (&[], &["b"], &["a"], true),
    ] {
        assert_eq!(to(rooms, except).includes(mine), want, "{rooms:?} {except:?} {mine:?}");
    }
}

#[test]
fn classic_json() {
    let request = || Cow::Borrowed("r1");
    let socket = Socket {
        id: "s1".into(),
        handshake: r#"{"auth":{"token":"x"}}"#.into(),
        rooms: texts(&["s1", "acme/a"]),
        data: Payload::json(r#"{"n":[1]}"#),
    };
    let table: Vec<(Classic<'_>, &str, Option<&str>, What<'_>)> = vec![
        (REQUEST, r#"{"uid":"ab12cd","requestId":"r1","type":0,"rooms":["a"]}"#, Some("ab12cd"), {
            What::Sids { request: request(), rooms: texts(&["a"]) }
        }),
        (REQUEST, r#"{"uid":"ab12cd","requestId":"r1","type":1}"#, Some("ab12cd"), What::Rooms { request: request() }),
        (REQUEST, r#"{"uid":"u","type":2,"opts":{"rooms":["acme/a",7],"except":["s1"]},"rooms":["b"]}"#, Some("u"), {
            What::Join { to: to(&["acme/a", "7"], &["s1"]), rooms: texts(&["b"]), request: None }
        }),
        (REQUEST, r#"{"type":3,"opts":{"rooms":[],"except":[]},"rooms":["b"]}"#, None, {
            What::Leave { to: to(&[], &[]), rooms: texts(&["b"]), request: None }
        }),
        (REQUEST, r#"{"type":2,"sid":"s1","room":"b","requestId":"r1"}"#, None, {
            What::Join { to: to(&["s1"], &[]), rooms: texts(&["b"]), request: Some(request()) }
        }),
        (REQUEST, r#"{"type":4,"sid":"s1","close":true,"requestId":"r1"}"#, None, {
            What::Disconnect { to: to(&["s1"], &[]), close: true, request: Some(request()) }
        }),
        (REQUEST, r#"{"type":4,"opts":{"rooms":["a"],"except":[]},"close":false}"#, None, {
            What::Disconnect { to: to(&["a"], &[]), close: false, request: None }
        }),
        (REQUEST, r#"{"uid":"u","requestId":"r1","type":5,"opts":{"rooms":["a"],"except":[]}}"#, Some("u"), {
            What::Fetch { request: request(), to: to(&["a"], &[]) }
        }),
        (REQUEST, r#"{"uid":"emitter","type":6,"data":["e", {"a":1} , "x" ]}"#, Some("emitter"), {
            What::ServerSideEmit { packet: said("e", r#"{"a":1} , "x""#), request: None }
        }),
        (REQUEST, r#"{"uid":"u","requestId":"r1","type":6,"data":["e"]}"#, Some("u"), {
            What::ServerSideEmit { packet: said("e", ""), request: Some(request()) }
        }),
        (RESPONSE, r#"{"requestId":"r1","sockets":["s1","s2"]}"#, None, {
            What::SidsFound { request: request(), sids: texts(&["s1", "s2"]) }
        }),
        (RESPONSE, r#"{"requestId":"r1","sockets":[]}"#, None, {
            What::Fetched { request: request(), sockets: vec![] }
        }),
        (
            RESPONSE,
            r#"{"requestId":"r1","sockets":[{"id":"s1","handshake":{"auth":{"token":"x"}},"rooms":["s1","acme/a"],"data":{"n":[1]}}]}"#,
            None,
            What::Fetched { request: request(), sockets: vec![socket] },
        ),
        (RESPONSE, r#"{"requestId":"r1","rooms":["s1","a"]}"#, None, {
            What::RoomsFound { request: request(), rooms: texts(&["s1", "a"]) }
        }),
        (RESPONSE, r#"{"requestId":"r1"}"#, None, What::Done { request: request() }),
        (RESPONSE, r#"{"type":6,"requestId":"r1","data":[1,{}]}"#, None, {
            What::ServerSideEmitted { request: request(), answer: Payload::json("[1,{}]") }
        }),
        (RESPONSE, r#"{"type":6,"requestId":"r1"}"#, None, {
            What::ServerSideEmitted { request: request(), answer: Payload::default() }
        }),
        (RESPONSE, r#"{"type":8,"requestId":"r1","clientCount":3}"#, None, {
            What::ClientCount { request: request(), count: 3 }
        }),
        // A fleet whose packer is JSON.
        (
            BROADCAST,
            r#"["u",{"type":2,"data":["e",1,"\u00e9"],"nsp":"/"},{"rooms":["a"],"except":[],"flags":{"volatile":true,"compress":false,"timeout":5}}]"#,
            Some("u"),
            {
                let flags = Flags { volatile: true, compress: Some(false), timeout_ms: Some(5) };
                What::Broadcast {
                    packet: said("e", "1,\"\\u00e9\""),
                    to: Audience { flags, ..to(&["a"], &[]) },
                    request: None,
                }
            },
        ),
        // Fields that are null are not there; of equal ones the last counts; what is not known is nothing.
        (
            REQUEST,
            r#"{"type":1,"x":[{}],"requestId":"r0","requestId":"r1","uid":null}"#,
            None,
            What::Rooms { request: request() },
        ),
    ];
    for (on, text, from, what) in table {
        let want = message("/", from, what);
        let got = classic::decode(on, text.as_bytes());
        assert_eq!(got.as_ref(), Ok(&want), "{text}");
        again(&want, on);
    }
}

/// What is read is written so that it is read again, on each wire that has a word for it.
fn again(message: &Message<'_>, on: Classic<'_>) {
    let answered = |mut message: Message<'static>| {
        // What was asked of one socket is asked of a room when it is written again, and nothing is owed.
        if let What::Join { request, .. } | What::Leave { request, .. } | What::Disconnect { request, .. } =
            &mut message.what
        {
            *request = None;
        }
        message
    };
    let mut want = answered(owned(message));
    if let Some(bytes) = classic::encode(message) {
        let got = classic::decode(on, &bytes).map(|got| owned(&got));
        let mut want = want.clone();
        want.from = match on {
            Classic::Response { .. } => None,
            _ => Some(want.from.unwrap_or_default()),
        };
        if let What::Join { to, .. } | What::Leave { to, .. } | What::Disconnect { to, .. } | What::Fetch { to, .. } =
            &mut want.what
        {
            to.flags = Flags::default();
        }
        if !cluster::has_binary(&want.what) || matches!(want.what, What::Broadcast { .. } | What::Ack { .. }) {
            assert_eq!(got, Ok(want), "classic {}", String::from_utf8_lossy(&bytes));
        }
    }
    want.from = Some(want.from.unwrap_or_default());
    for bytes in [cluster::encode(message), cluster::encode_packed(message)].into_iter().flatten() {
        let got = cluster::decode(&bytes).map(|got| owned(&got));
        assert_eq!(got.as_ref(), Ok(&want), "cluster {}", String::from_utf8_lossy(&bytes));
    }
    if let Some(fields) = streams::encode(message) {
        let row = Row::of(fields.iter().map(|(name, value)| (name.as_bytes(), &value[..])));
        let row = row.expect("it has a namespace").expect("it is a row");
        let mut buffer = Vec::new();
        let got = streams::decode(&row, &mut buffer).map(|got| owned(&got));
        assert_eq!(got.as_ref(), Ok(&want), "row {row:?}");
    }
}

/// JSON in its shortest form, and nothing borrowed.
fn owned(message: &Message<'_>) -> Message<'static> {
    fn text(text: &str) -> Cow<'static, str> {
        Cow::Owned(text.to_owned())
    }
    fn list(list: &[Cow<'_, str>]) -> Vec<Cow<'static, str>> {
        list.iter().map(|item| text(item)).collect()
    }
    fn values(json: &str) -> Cow<'static, str> {
        let list: Vec<serde_json::Value> = serde_json::from_str(&format!("[{json}]")).expect("JSON");
        let list: Vec<String> = list.iter().map(ToString::to_string).collect();
        Cow::Owned(list.join(","))
    }
    fn payload(payload: &Payload<'_>) -> Payload<'static> {
        Payload { json: values(&payload.json), attachments: payload.attachments.clone() }
    }
    fn packet(said: &Packet<'_>) -> Packet<'static> {
        Packet { event: text(&said.event), args: payload(&said.args) }
    }
    fn audience(to: &Audience<'_>) -> Audience<'static> {
        Audience { rooms: list(&to.rooms), except: list(&to.except), flags: to.flags }
    }
    let asked = |request: &Option<Cow<'_, str>>| request.as_deref().map(text);
    let what = match &message.what {
        What::Broadcast { packet: said, to, request } => {
            What::Broadcast { packet: packet(said), to: audience(to), request: asked(request) }
        }
        What::ClientCount { request, count } => What::ClientCount { request: text(request), count: *count },
        What::Ack { request, answer } => What::Ack { request: text(request), answer: payload(answer) },
        What::Join { to, rooms, request } => {
            What::Join { to: audience(to), rooms: list(rooms), request: asked(request) }
        }
        What::Leave { to, rooms, request } => {
            What::Leave { to: audience(to), rooms: list(rooms), request: asked(request) }
        }
        What::Disconnect { to, close, request } => {
            What::Disconnect { to: audience(to), close: *close, request: asked(request) }
        }
        What::Done { request } => What::Done { request: text(request) },
        What::Fetch { request, to } => What::Fetch { request: text(request), to: audience(to) },
        What::Fetched { request, sockets } => {
            let socket = |socket: &Socket<'_>| Socket {
                id: text(&socket.id),
                handshake: values(&socket.handshake),
                rooms: list(&socket.rooms),
                data: payload(&socket.data),
            };
            What::Fetched { request: text(request), sockets: sockets.iter().map(socket).collect() }
        }
        What::ServerSideEmit { packet: said, request } => {
            What::ServerSideEmit { packet: packet(said), request: asked(request) }
        }
        What::ServerSideEmitted { request, answer } => {
            What::ServerSideEmitted { request: text(request), answer: payload(answer) }
        }
        What::Sids { request, rooms } => What::Sids { request: text(request), rooms: list(rooms) },
        What::SidsFound { request, sids } => What::SidsFound { request: text(request), sids: list(sids) },
        What::Rooms { request } => What::Rooms { request: text(request) },
        What::RoomsFound { request, rooms } => What::RoomsFound { request: text(request), rooms: list(rooms) },
        What::Greeting => What::Greeting,
        What::Heartbeat => What::Heartbeat,
        What::Close => What::Close,
    };
    Message { nsp: text(&message.nsp), from: message.from.as_deref().map(text), what }
}

#[test]
fn what_strangers_write_is_refused() {
    let long_id = "x".repeat(FLEET_ID_BYTES_MAX + 1);
    let many = format!("{{\"type\":2,\"opts\":{{\"rooms\":[{}1]}},\"rooms\":[]}}", "1,".repeat(FLEET_ROOMS_MAX));
    let deep = format!("{{\"type\":6,\"data\":[\"e\",{}{}]}}", "[".repeat(JSON_DEPTH_MAX), "]".repeat(JSON_DEPTH_MAX));
    let broadcast = |packet: &str, opts: &str| format!("[\"u\",{packet},{opts}]");
    let opts = r#"{"rooms":["a"],"except":[]}"#;
    let table: Vec<(Classic<'_>, String, Broken)> = vec![
        (REQUEST, String::new(), Broken::Length),
        (REQUEST, "{".into(), Broken::Syntax),
        (REQUEST, "[]".into(), Broken::Field),
        (REQUEST, "\u{7f}x".into(), Broken::Length),
        (REQUEST, "{}".into(), Broken::Field),
        (REQUEST, r#"{"type":"5"}"#.into(), Broken::Field),
        (REQUEST, r#"{"type":-1}"#.into(), Broken::Field),
        (REQUEST, r#"{"type":8,"requestId":"r"}"#.into(), Broken::Kind),
        (REQUEST, r#"{"type":1}"#.into(), Broken::Field),
        (REQUEST, format!(r#"{{"type":1,"requestId":"{long_id}"}}"#), Broken::Field),
        (REQUEST, r#"{"type":2,"rooms":["a"]}"#.into(), Broken::Field),
        (REQUEST, r#"{"type":2,"opts":{"rooms":[null]},"rooms":["a"]}"#.into(), Broken::Field),
        (REQUEST, r#"{"type":2,"opts":{"rooms":"a"},"rooms":["a"]}"#.into(), Broken::Field),
        (REQUEST, r#"{"type":2,"opts":[],"rooms":["a"]}"#.into(), Broken::Field),
        (REQUEST, r#"{"type":6,"data":{}}"#.into(), Broken::Field),
        (REQUEST, r#"{"type":6,"data":[]}"#.into(), Broken::Field),
        (REQUEST, r#"{"type":6,"data":[{}]}"#.into(), Broken::Field),
        (REQUEST, many, Broken::Many),
        (REQUEST, deep, Broken::Syntax),
        (RESPONSE, "{}".into(), Broken::Field),
        (RESPONSE, r#"{"requestId":"r","sockets":{}}"#.into(), Broken::Field),
        (RESPONSE, r#"{"requestId":"r","sockets":[{}]}"#.into(), Broken::Field),
        (RESPONSE, r#"{"requestId":"r","type":8}"#.into(), Broken::Field),
        (BROADCAST, broadcast(r#"{"type":2,"data":["e"]}"#, "null"), Broken::Field),
        (BROADCAST, broadcast(r#"{"type":2,"data":["e"],"nsp":"/a"}"#, opts), Broken::Namespace),
        (BROADCAST, broadcast(r#"{"type":1,"data":["e"]}"#, opts), Broken::Kind),
        (BROADCAST, broadcast(r#"{"type":4,"data":["e"]}"#, opts), Broken::Kind),
        (BROADCAST, broadcast(r#"{"data":["e"]}"#, opts), Broken::Kind),
        (BROADCAST, broadcast(r#"{"type":2,"data":["connect"]}"#, opts), Broken::Reserved),
        (BROADCAST, broadcast(r#"{"type":2,"data":["dis\u0063onnect"]}"#, opts), Broken::Reserved),
        (BROADCAST, broadcast(r#"{"type":2,"data":"e"}"#, opts), Broken::Field),
        (BROADCAST, r#"["u"]"#.into(), Broken::Field),
        (BROADCAST, r#"{"uid":"u"}"#.into(), Broken::Field),
        (BROADCAST, " ".repeat(FLEET_MESSAGE_BYTES_MAX + 1), Broken::Long),
    ];
    for (on, text, want) in &table {
        let got = classic::decode(*on, text.as_bytes());
        assert_eq!(got, Err(*want), "{}", text.chars().take(80).collect::<String>());
    }
    for (text, want) in [
        (r#"{"type":3,"uid":"u","nsp":"/"}"#, Broken::Field),
        (r#"{"type":3,"uid":"u","nsp":"x","data":{}}"#, Broken::Field),
        (r#"{"type":1,"nsp":"/"}"#, Broken::Field),
        (r#"{"type":14,"uid":"u","nsp":"/"}"#, Broken::Kind),
        (r#"{"type":0,"uid":"u","nsp":"/"}"#, Broken::Kind),
        (r#"{"type":7,"uid":"u","nsp":"/","data":{"opts":{}}}"#, Broken::Field),
    ] {
        assert_eq!(cluster::decode(text.as_bytes()), Err(want), "{text}");
    }
    let mut buffer = Vec::new();
    for (kind, data, want) in [
        ("x", None, Broken::Kind),
        ("3", None, Broken::Field),
        ("3", Some("{"), Broken::Syntax),
        ("3", Some("%%"), Broken::Syntax),
        ("3", Some("gA"), Broken::Field),
        ("3", Some("wQ=="), Broken::Syntax),
    ] {
        let row = Row { uid: "u", nsp: "/", kind, data };
        assert_eq!(streams::decode(&row, &mut buffer), Err(want), "{row:?}");
    }
    assert_eq!(Row::of([(&b"a"[..], &b"b"[..])]), None);
    assert_eq!(Row::of([(&b"nsp"[..], &b"/"[..])]), Some(Err(Broken::Field)));
}

#[test]
fn placeholders_of_strangers_are_no_attachments() {
    // {"_placeholder":true,"num":N} as a map beside one true binary part.
    let forged = |number: u8| {
        let mut bytes =
            b"\x93\xa1u\x82\xa4type\x02\xa4data\x93\xa1e\xc4\x01\x05\x82\xac_placeholder\xc3\xa3num".to_vec();
        bytes.push(number);
        bytes.extend_from_slice(b"\x81\xa5rooms\x90");
        bytes
    };
    assert!(classic::decode(BROADCAST, &forged(0)).is_ok());
    assert_eq!(classic::decode(BROADCAST, &forged(1)), Err(Broken::Attachments));
}

#[test]
fn offsets_and_streams() {
    for (text, want) in [
        ("1700000000000-0", Some((1_700_000_000_000, 0))),
        ("0-18446744073709551615", Some((0, u64::MAX))),
        ("0-18446744073709551616", None),
        ("1", None),
        ("-1", None),
        ("1-", None),
        ("+1-0", None),
        ("1-0-0", None),
        ("$", None),
    ] {
        let offset = streams::Offset::parse(text);
        assert_eq!(offset.map(|offset| (offset.ms, offset.nth)), want, "{text}");
        assert_eq!(offset.map(|offset| offset.to_string()), want.map(|_| text.into()));
    }
    // Figures of the package's own hashCode, by Node.
    for (count, nsp, want) in HASHES {
        assert_eq!(streams::stream("socket.io", *count, nsp), *want, "{nsp}");
    }
}

#[test]
fn a_key_is_in_the_slot_of_its_tag() {
    for (key, want) in [("a", "a"), ("a{b}c{d}", "b"), ("{}a", "{}a"), ("a{b", "a{b"), ("}a{b}", "b"), ("{{a}}", "{a")]
    {
        assert_eq!(streams::tag(key), want);
    }
}

const HASHES: &[(u32, &str, &str)] = &[
    (1, "/", "socket.io"),
    (3, "/", "socket.io-2"),
    (3, "/chat", "socket.io-1"),
    (4, "/a-longer-namespace", "socket.io-2"),
    (5, "/é😀", "socket.io-4"),
    (7, "/notifications", "socket.io--1"),
];

#[test]
fn sessions_are_read_and_written() {
    let session = Session {
        sid: "abcdefghijklmnopqrst".into(),
        pid: "ABCDEFGHIJKLMNOPQRST".into(),
        rooms: texts(&["abcdefghijklmnopqrst", "acme/r"]),
        data: Cow::Owned(streams::pack(r#"{"n":1}"#)),
        record: None,
    };
    let of_ours = Session { record: Some(b"\0record"), ..session.clone() };
    for session in [session, of_ours] {
        let (value, mut buffer) = (streams::encode_session(&session), Vec::new());
        assert_eq!(streams::decode_session(&value, &mut buffer), Ok(session));
    }
    let mut buffer = Vec::new();
    for bad in [&b""[..], b"wA==", b"gA==", b"{}", b"\xff"] {
        assert!(streams::decode_session(bad, &mut buffer).is_err(), "{bad:?}");
    }
}

/// Any message.
fn any(chance: &mut Chance) -> (Message<'static>, Classic<'static>) {
    fn text(chance: &mut Chance) -> Cow<'static, str> {
        let choices =
            ["", "a", "acme/r", "é😀", "\"\\\n", "00", "a longer text than thirty-one bytes, for a head of its own"];
        Cow::Borrowed(choices[chance.below(choices.len() as u64) as usize])
    }
    fn list(chance: &mut Chance) -> Vec<Cow<'static, str>> {
        (0..chance.below(4)).map(|_| text(chance)).collect()
    }
    fn to(chance: &mut Chance) -> Audience<'static> {
        let flags = Flags {
            volatile: chance.below(2) == 0,
            compress: [None, Some(true), Some(false)][chance.below(3) as usize],
            timeout_ms: (chance.below(2) == 0).then(|| chance.below(1 << 40)),
        };
        Audience { rooms: list(chance), except: list(chance), flags }
    }
    fn payload(chance: &mut Chance, values: u64) -> Payload<'static> {
        let (mut json, mut attachments) = (Vec::new(), Vec::new());
        for nth in 0..values {
            if nth > 0 {
                json.push(b',');
            }
            let plain = ["null", "-7", "1.5", "[]", r#"{"a":{"b":[true,"x"]},"":0}"#, "4294967296", r#""é""#];
            match chance.below(8) {
                7 => {
                    socket_io::placeholder(&mut json, attachments.len());
                    attachments.push(vec![7; chance.below(300) as usize]);
                }
                nth => json.extend_from_slice(plain[nth as usize].as_bytes()),
            }
        }
        Payload { json: Cow::Owned(String::from_utf8(json).expect("a text")), attachments }
    }
    fn packet(chance: &mut Chance) -> Packet<'static> {
        let count = chance.below(4);
        Packet { event: text(chance), args: payload(chance, count) }
    }
    let asked = |chance: &mut Chance| (chance.below(2) == 0).then_some(Cow::Borrowed("r"));
    let request = Cow::Borrowed("r");
    let what = match chance.below(13) {
        0 => What::Broadcast { packet: packet(chance), to: to(chance), request: None },
        1 => What::Broadcast { packet: packet(chance), to: to(chance), request: Some(request) },
        2 => What::ClientCount { request, count: chance.u64() >> (11 + chance.below(53)) },
        3 => What::Ack { request, answer: payload(chance, 1) },
        4 => What::Join { to: to(chance), rooms: list(chance), request: None },
        5 => What::Leave { to: to(chance), rooms: list(chance), request: None },
        6 => What::Disconnect { to: to(chance), close: chance.below(2) == 0, request: None },
        7 => What::Fetch { request, to: to(chance) },
        8 => {
            let socket = |chance: &mut Chance| Socket {
                id: text(chance),
                handshake: r#"{"url":"/"}"#.into(),
                rooms: list(chance),
                data: payload(chance, 1),
            };
            What::Fetched { request, sockets: (0..chance.below(3)).map(|_| socket(chance)).collect() }
        }
        9 => What::ServerSideEmit { packet: packet(chance), request: asked(chance) },
        10 => What::ServerSideEmitted { request, answer: payload(chance, 1) },
        11 => What::RoomsFound { request, rooms: list(chance) },
        _ => [What::Greeting, What::Heartbeat, What::Close][chance.below(3) as usize].clone(),
    };
    let on = match &what {
        What::Broadcast { request: None, .. } => BROADCAST,
        what if what.is_answer() => RESPONSE,
        _ => REQUEST,
    };
    let mut message = Message { nsp: "/".into(), from: Some("u".into()), what };
    // A null answer is none, in both languages.
    if let What::Ack { answer, .. } | What::ServerSideEmitted { answer, .. } = &mut message.what
        && answer.json == "null"
    {
        answer.json = Cow::Borrowed("");
    }
    if let What::Fetched { sockets, .. } = &mut message.what {
        for socket in sockets {
            if socket.data.json == "null" {
                socket.data.json = Cow::Borrowed("{}");
            }
        }
    }
    (message, on)
}

#[test]
fn what_is_written_is_read_on_every_wire() {
    let mut chance = Chance::new([41; 32]);
    for _ in 0..3000 {
        let (message, on) = any(&mut chance);
        again(&message, on);
    }
}

#[test]
fn messages_go_where_they_are_heard() {
    let names = Names::default();
    let broadcast = |rooms: &[&str], request: Option<&'static str>| {
        let what = What::Broadcast { packet: said("e", ""), to: to(rooms, &[]), request: request.map(Cow::Borrowed) };
        message("/", Some("me"), what)
    };
    let emitted = What::ServerSideEmitted { request: "r".into(), answer: Payload::default() };
    let table = [
        (broadcast(&["acme/a"], None), "socket.io#/#acme/a#", "socket.io#/#acme/a#"),
        (broadcast(&[], None), "socket.io#/#", "socket.io#/#"),
        (broadcast(&["a", "b"], None), "socket.io#/#", "socket.io#/#"),
        (broadcast(&["abcdefghijklmnopqrst"], None), "socket.io#/#abcdefghijklmnopqrst#", "socket.io#/#"),
        (broadcast(&["acme/a"], Some("r")), "socket.io-request#/#", "socket.io#/#"),
        (message("/a", None, What::Rooms { request: "r".into() }), "socket.io-request#/a#", "socket.io#/a#"),
        (message("/", None, What::Fetched { request: "r".into(), sockets: vec![] }), "socket.io-response#/#", {
            "socket.io#/#asker#"
        }),
        (message("/", None, emitted), "socket.io-response#/#", "socket.io#/#asker#"),
    ];
    for (message, on_classic, on_sharded) in &table {
        let channel = names.classic_channel(message, None);
        assert_eq!(channel, *on_classic);
        assert!(names.read_classic(&channel, &["/", "/a"]).is_some());
        let channel = names.cluster_channel(message, Mode::Dynamic, "asker");
        assert_eq!(channel, *on_sharded);
        let read = names.read_cluster(&channel, &["/", "/a"]);
        assert_eq!(matches!(read, Some(Cluster::One { .. })), channel.matches('#').count() == 3);
    }
    assert_eq!(names.classic_channel(&table[6].0, Some("asker")), "socket.io-response#/#asker#");
    assert_eq!(names.classic_channel(&table[7].0, Some("asker")), "socket.io-response#/#", "whatever the option");
}
