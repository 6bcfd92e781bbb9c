//! What the real packages wrote to a stand-in for Redis that records, byte for byte, each line with what the server was asked to do:
//! `<what> <channel, stream or key> <base64 of the message, or the row's fields>`.
//!
//! socket.io 4.8.3 with @socket.io/redis-adapter 8.3.0 (classic, classic-specific: `publishOnSpecificResponseChannel` and key `app`, sharded,
//! sharded-static: `subscriptionMode`), @socket.io/redis-streams-adapter 0.3.1 (streams03) and 0.2.3 (streams02), @socket.io/redis-emitter 5.1.0
//! (emitter), @socket.io/redis-streams-emitter 0.1.1, built from its source (streams-emitter). Two servers, one client with one socket.

use super::*;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

const CLASSIC: &str = include_str!("classic.txt");
const CLASSIC_SPECIFIC: &str = include_str!("classic-specific.txt");
const SHARDED: &str = include_str!("sharded.txt");
const SHARDED_STATIC: &str = include_str!("sharded-static.txt");
const STREAMS_03: &str = include_str!("streams03.txt");
const STREAMS_02: &str = include_str!("streams02.txt");
const EMITTER: &str = include_str!("emitter.txt");
const STREAMS_EMITTER: &str = include_str!("streams-emitter.txt");

struct Line {
    asked: &'static str,
    place: &'static str,
    /// Under the name `""`, where it is no row.
    fields: Vec<(&'static str, Vec<u8>)>,
}

fn lines(text: &'static str) -> impl Iterator<Item = Line> {
    text.lines().map(|line| {
        let mut columns = line.split('\t');
        let mut column = || columns.next().expect("three columns");
        let (asked, place, written) = (column(), column(), column());
        let bytes = |text: &str| STANDARD.decode(text).expect("base64");
        let fields = match written.starts_with("uid=") {
            true => written.split(' ').filter_map(|field| field.split_once('=')).map(|(k, v)| (k, bytes(v))).collect(),
            false => vec![("", bytes(written))],
        };
        Line { asked, place, fields }
    })
}

/// A message without what is drawn by chance, its JSON with sorted keys.
fn summary(message: &Message<'_>) -> String {
    let Message { nsp, from: _, what } = owned(message);
    let json = |payload: &Payload<'_>| {
        let held: Vec<String> = payload.attachments.iter().map(|bytes| format!("{bytes:?}")).collect();
        match held.is_empty() {
            true => payload.json.to_string(),
            false => format!("{} with {}", payload.json, held.join("")),
        }
    };
    let to = |to: &Audience<'_>| {
        let mut out = format!("to {}", to.rooms.join("+"));
        if !to.except.is_empty() {
            out += &format!(" not {}", to.except.join("+"));
        }
        if to.flags != Flags::default() {
            let Flags { volatile, compress, timeout_ms } = to.flags;
            out += &format!(" {volatile} {compress:?} {timeout_ms:?}");
        }
        out
    };
    let event = |packet: &Packet<'_>| format!("{}({})", packet.event, json(&packet.args));
    let what = match &what {
        What::Broadcast { packet, to: whom, request } => {
            format!("{} {}{}", event(packet), to(whom), if request.is_some() { ", asked" } else { "" })
        }
        What::ClientCount { count, .. } => format!("{count} clients"),
        What::Ack { answer, .. } => format!("ack {}", json(answer)),
        What::Join { to: whom, rooms, .. } => format!("join {} {}", rooms.join("+"), to(whom)),
        What::Leave { to: whom, rooms, .. } => format!("leave {} {}", rooms.join("+"), to(whom)),
        What::Disconnect { to: whom, close, .. } => format!("disconnect {close} {}", to(whom)),
        What::Fetch { to: whom, .. } => format!("fetch {}", to(whom)),
        What::Fetched { sockets, .. } => {
            let socket = |socket: &Socket<'_>| {
                assert!(socket.handshake.contains(r#""xdomain":false"#) && Sid::parse(&socket.id).is_some());
                assert_eq!(socket.rooms[0], socket.id);
                format!(" {} {}", socket.rooms[1..].join("+"), json(&socket.data))
            };
            format!("fetched{}", sockets.iter().map(socket).collect::<String>())
        }
        What::ServerSideEmit { packet, request } => {
            format!("emit {}{}", event(packet), if request.is_some() { ", asked" } else { "" })
        }
        What::ServerSideEmitted { answer, .. } => format!("emitted {}", json(answer)),
        What::Rooms { .. } => "rooms".into(),
        What::RoomsFound { rooms, .. } => format!("rooms {}", rooms[1..].join("+")),
        What::Greeting => "greeting".into(),
        What::Heartbeat => "heartbeat".into(),
        What::Close => "close".into(),
        What::Done { .. } | What::Sids { .. } | What::SidsFound { .. } => unreachable!("nothing here asks for it"),
    };
    if nsp == "/" { what } else { format!("{nsp} {what}") }
}

const NOTE: &str = r#"note({"":{},"a":1,"below":-40000000000,"large":9007199254740992,"list":[true,false,null,-1,1.5,"é😀\n"],"time":1700000000123},"x") to acme/project:7"#;
const DATE: &str = r#""2023-11-14T22:13:20.123Z""#;

/// What each wire says when a server, or an emitter, is asked to do it; what is the same on all.
fn expected(asked: &str) -> Vec<String> {
    let text: &[&str] = match asked {
        "start" => &["greeting", "heartbeat", "/chat greeting", "/chat heartbeat"],
        "close" => &["close", "/chat close"],
        "emit" => &["hello() to "],
        "to" => &[NOTE],
        "many" => &[r#"x(1,[2],"3") to acme/a+beta/b not acme/c true Some(false) None"#],
        "chat" => &["/chat nothing() to acme/r"],
        "ask" => &["ask(1) to acme/project:7 false None Some(1000), asked", "1 clients", r#"ack {"got":1}"#],
        "askb" => &[
            "askb() to acme/project:7 false None Some(1000), asked",
            "1 clients",
            r#"ack {"_placeholder":true,"num":0} with [1, 2, 250]"#,
        ],
        "askn" => &["askn() to acme/project:7 false None Some(1000), asked", "1 clients", "ack "],
        "join" => &["join acme/r2+acme/r3 to acme/project:7 not acme/z", "join acme/r2 to acme/project:7 not acme/z"],
        "leave" => &["leave acme/r3 to acme/project:7"],
        "fetchnone" => &["fetch to acme/none", "fetched"],
        "sse" => &[r#"emit sse({"a":1},"b")"#],
        "ssea" => &["emit sse(7), asked", r#"emitted {"answer":2}"#],
        "ssen" => &["emit ssen(), asked", "emitted "],
        "rooms" => &["rooms", "rooms acme/project:7+acme/r+acme/r2"],
        "disconnect" => &["disconnect true to acme/project:7"],
        _ => &[],
    };
    let one = |nth: u8| format!("{{\"_placeholder\":true,\"num\":{nth}}}");
    let mut all: Vec<String> = text.iter().map(|text| (*text).to_owned()).collect();
    all.extend(match asked {
        // An ArrayBuffer: notepack has it, @msgpack makes an object of it; emitters were not given one.
        "binary" => vec![
            format!("b({},{{\"deep\":[{},{}]}},{DATE} with [1, 2, 3][9, 8][7]) to acme/r", one(0), one(1), one(2)),
            format!("b({},{{\"deep\":[{{}},{}]}},{DATE} with [1, 2, 3][7]) to acme/r", one(0), one(1)),
            format!("b({},{{\"deep\":[{}]}},{DATE} with [1, 2, 3][7]) to acme/r", one(0), one(1)),
        ],
        "dates" => {
            let dates = "\"1970-01-01T00:00:00.000Z\",\"1969-12-31T23:59:59.999Z\",\"+275760-09-13T00:00:00.000Z\",\"2001-09-09T01:46:40.000Z\"";
            vec![format!("d({dates},{} with [0]) to acme/r", one(0))]
        }
        "long" => {
            let numbers: Vec<String> = (0..20).map(|nth| (nth * 1000).to_string()).collect();
            let (x, y, bytes) = ("x".repeat(40), "y".repeat(300), vec![5u8; 300]);
            vec![format!("l(\"{x}\",\"{y}\",{},[{}] with {bytes:?}) to acme/r", one(0), numbers.join(","))]
        }
        // notepack writes 64 bits of a number that has more.
        "number" => vec!["n(0,1e+21) to 42".into(), "n(0,3875820019684212736) to 42".into()],
        "fetch" => {
            let data = format!("{{\"role\":\"agent\",\"seen\":{DATE}}}");
            vec!["fetch to acme/project:7".into(), format!("fetched acme/project:7+acme/r+acme/r2 {data}")]
        }
        _ => vec![],
    });
    all
}

/// What a fixture's line says is what is expected of it, goes where it went, and is written again: to the same bytes, unless told otherwise.
fn check(line: &Line, message: &Message<'_>, place: &str, again: Option<&[(&str, Vec<u8>)]>) {
    let said = summary(message);
    assert!(expected(line.asked).contains(&said), "{}: {said}", line.asked);
    assert_eq!(place, line.place, "{said}");
    if let Some(again) = again {
        let text = |fields: &[(&str, Vec<u8>)]| -> Vec<String> {
            fields.iter().map(|(name, bytes)| format!("{name}={}", String::from_utf8_lossy(bytes))).collect()
        };
        assert!(again.iter().eq(line.fields.iter()), "\n{:#?}\n{:#?}", text(again), text(&line.fields));
    }
}

/// Dates, and rooms that are numbers, are texts when they are written again; so is a number whose form in JSON is another.
fn same_again(asked: &str) -> bool {
    !matches!(asked, "binary" | "dates" | "number")
}

#[test]
fn the_classic_adapter_and_its_emitter() {
    let mut counts = [0; 2];
    for (text, prefix, specific) in
        [(CLASSIC, "socket.io", false), (CLASSIC_SPECIFIC, "app", true), (EMITTER, "socket.io", false)]
    {
        let names = Names::new(prefix);
        let mut asker = String::new();
        for line in lines(text) {
            let on = names.read_classic(line.place, &["/", "/chat"]).expect("a channel's name");
            let message = classic::decode(on, &line.fields[0].1).expect(line.asked);
            if let (Some(from), false) = (&message.from, message.what.is_answer()) {
                asker = from.to_string();
            }
            let place = names.classic_channel(&message, specific.then_some(&asker));
            let written = vec![("", classic::encode(&message).expect("it has a word for it"))];
            let same = text != EMITTER && same_again(line.asked);
            check(&line, &message, &place, same.then_some(&written));
            counts[usize::from(same)] += 1;
        }
    }
    assert_eq!(counts, [3 + 9, 28 + 7], "lines, of which the second are written to the same bytes");
}

#[test]
fn the_sharded_adapter() {
    let (names, mut counts) = (Names::default(), [0; 2]);
    for (text, mode) in [(SHARDED, Mode::Dynamic), (SHARDED_STATIC, Mode::Static)] {
        let mut asker = String::new();
        for line in lines(text) {
            assert!(names.read_cluster(line.place, &["/", "/chat"]).is_some());
            let message = cluster::decode(&line.fields[0].1).expect(line.asked);
            if !message.what.is_answer() {
                asker = message.from.as_deref().unwrap_or_default().to_owned();
            }
            let place = names.cluster_channel(&message, mode, &asker);
            let written = vec![("", cluster::encode(&message).expect("it has a word for it"))];
            check(&line, &message, &place, same_again(line.asked).then_some(&written));
            counts[usize::from(same_again(line.asked))] += 1;
        }
    }
    assert_eq!(counts, [3, 26 + 4]);
}

#[test]
fn the_streams_adapters_and_their_emitter() {
    let (names, mut counts) = (Names::default(), [0; 2]);
    for text in [STREAMS_03, STREAMS_02, STREAMS_EMITTER] {
        let mut asker = String::new();
        for line in lines(text) {
            let mut buffer = Vec::new();
            if line.asked == "session" {
                let key = format!("{}ABCDEFGHIJKLMNOPQRST", streams::SESSION_PREFIX);
                assert_eq!(line.place, key);
                let session = streams::decode_session(&line.fields[0].1, &mut buffer).expect("a session");
                assert_eq!((&*session.sid, &*session.pid), ("abcdefghijklmnopqrst", "ABCDEFGHIJKLMNOPQRST"));
                assert_eq!(session.rooms, ["abcdefghijklmnopqrst", "acme/r"]);
                let json = format!("{{\"n\":1,\"when\":{DATE},\"raw\":{{\"_placeholder\":true,\"num\":0}}}}");
                let data = super::super::value::Value::parse_pack(&session.data).and_then(|data| data.payload());
                assert_eq!(data, Ok(Payload { json: json.into(), attachments: vec![vec![1]] }));
                // What Node wrote is given back as it was.
                let again = streams::encode_session(&session);
                assert_eq!(streams::decode_session(&again, &mut Vec::new()), Ok(session.clone()));
                continue;
            }
            let is_row = line.fields[0].0 == "uid";
            let message = if is_row {
                let row = Row::of(line.fields.iter().map(|(name, value)| (name.as_bytes(), &value[..])));
                streams::decode(&row.expect("a row").expect("a right one"), &mut buffer)
            } else {
                cluster::decode(&line.fields[0].1)
            };
            let message = message.expect(line.asked);
            let (place, written) = if is_row {
                (streams::stream("socket.io", 1, &message.nsp), streams::encode(&message))
            } else {
                if !message.what.is_answer() {
                    asker = message.from.as_deref().unwrap_or_default().to_owned();
                }
                let place = names.cluster_channel(&message, Mode::Static, &asker);
                (place, cluster::encode_packed(&message).map(|bytes| vec![("", bytes)]))
            };
            // Emitters order a packet's and an audience's members in another way; an undefined answer is nil to @msgpack, and a date a date.
            let undefined = !is_row && matches!(line.asked, "askn" | "ssen" | "fetch") && message.what.is_answer();
            let same = same_again(line.asked)
                && !undefined
                && !(text == STREAMS_EMITTER && matches!(message.what, What::Broadcast { .. }));
            check(&line, &message, &place, same.then_some(written.as_deref()).flatten());
            counts[usize::from(same)] += 1;
            if text == STREAMS_03 {
                assert_eq!(streams::is_row(&message.what), is_row, "{}", line.asked);
            }
        }
    }
    assert_eq!(counts, [15, 70]);
}
