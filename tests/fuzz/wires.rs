//! Every decoder of floor 1, and the configuration file.

use crate::mutate::mutate;
use crate::rounds;
use tenantcast::base::chance::Chance;
use tenantcast::base::limit::HEAD_BYTES_MAX;
use tenantcast::base::time::UnixMs;
use tenantcast::config::{Config, Sources};
use tenantcast::profile::{Profile, builtin};
use tenantcast::wire::adapter::channel::Classic;
use tenantcast::wire::adapter::{Broken, Message, Names, Packet, Payload, Reach, What, classic, cluster, streams};
use tenantcast::wire::auth::{ApiKeys, Keys, Mint, Pattern, Policy, mint, verify};
use tenantcast::wire::http::{Reader, decode};
use tenantcast::wire::socket_io::Assembler;
use tenantcast::wire::{api, engine_io, json, socket_io, websocket};

const HTTP: &[&[u8]] = &[
    b"GET /socket.io/?EIO=4&transport=polling&t=abc HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /socket.io/?EIO=4&transport=websocket&sid=AAAAAAAAAAAAAAAAAAAA HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: bearer, a.b.c\r\n\r\n",
    b"POST /api/v1/tenants/acme/events HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer k\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[]",
    b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nTrailer: x\r\n\r\n",
    b"GET /events?rooms=a,%2Fb&token=x.y.z HTTP/1.0\r\nLast-Event-ID: 1-2\r\nOrigin: http://a\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\nAccess-Control-Request-Method: GET\r\n\r\n",
    b"GET http://a:3000/api/v1/tenants/a%20b/rooms/r/history?since=1-2&limit=9 HTTP/1.1\r\nHost: a\r\n\r\n",
];

#[test]
fn http_heads_and_bodies() {
    let mut chance = Chance::new([11; 32]);
    for _ in 0..rounds(60_000) {
        let bytes = mutate(&mut chance, HTTP);
        let Ok(Some((request, used))) = decode(&bytes) else { continue };
        assert!(used <= bytes.len() && used <= HEAD_BYTES_MAX);
        let _ = request.segments().count() + request.query().iter().count();
        // Whole or cut in two, a head is the same head, or is not there yet.
        let cut = chance.below(used as u64) as usize;
        assert!(!matches!(decode(&bytes[..cut]), Ok(Some((_, shorter))) if shorter > cut));
        let Ok(mut reader) = Reader::new(request.length, 10_000) else { continue };
        let (mut at, mut body) = (used, Vec::new());
        while at < bytes.len() {
            let end = (at + 1 + chance.below(20) as usize).min(bytes.len());
            let Ok((taken, done)) = reader.feed(&bytes[at..end], &mut body) else { break };
            assert!(taken <= end - at && body.len() <= 10_000);
            at += taken;
            if done || taken == 0 {
                break;
            }
        }
    }
}

#[test]
fn websocket_frames() {
    let mut corpus: Vec<Vec<u8>> = Vec::new();
    for (opcode, fin, payload) in [
        (websocket::Opcode::Text, true, &b"2probe"[..]),
        (websocket::Opcode::Text, false, b"42[\"a\""),
        (websocket::Opcode::Binary, true, &[7; 300]),
        (websocket::Opcode::Text, true, "40{\"token\":\"\u{e9}\"}".as_bytes()),
    ] {
        let mut bytes = Vec::new();
        websocket::encode_masked(opcode, fin, [1, 2, 3, 4], payload, &mut bytes);
        corpus.push(bytes);
    }
    corpus.push(b"\x88\x82\0\0\0\0\x03\xe8".to_vec());
    corpus.push(b"\x80\x81\0\0\0\0]\x89\x80\0\0\0\0".to_vec());
    let corpus: Vec<&[u8]> = corpus.iter().map(Vec::as_slice).collect();
    let mut chance = Chance::new([12; 32]);
    for _ in 0..rounds(60_000) {
        let mut bytes = [mutate(&mut chance, &corpus), mutate(&mut chance, &corpus)].concat();
        let mut decoder = websocket::Decoder::default();
        let mut at = 0;
        while let Ok(Some((_, used))) = decoder.decode(&mut bytes[at..], 1000) {
            assert!(used >= 2 && at + used <= bytes.len());
            at += used;
        }
        assert!(decoder.needed(&bytes[at..]) >= 2);
    }
}

const PACKETS: &[&[u8]] = &[
    b"40{\"token\":\"a.b.c\",\"pid\":\"AAAAAAAAAAAAAAAAAAAA\",\"offset\":\"1-2\"}",
    b"42/chat,17[\"publish\",{\"room\":\"r\",\"type\":\"note\",\"data\":{\"a\":[1,2.5e3,null,true,\"\\ud83d\\ude00\"]}}]",
    b"451-[\"x\",{\"_placeholder\":true,\"num\":0}]",
    b"462-3[{\"_placeholder\":true,\"num\":1},{\"_placeholder\":true,\"num\":0}]",
    b"43/a,9[]\x1e2\x1e3probe\x1ebAQIDBA==\x1e6\x1e1",
    b"41\x1e44{\"message\":\"m\"}\x1e5",
    b"42[\"e\",\"\\u0000\\\"\\\\\"]",
];

#[test]
fn packets_and_json() {
    let mut chance = Chance::new([13; 32]);
    for _ in 0..rounds(80_000) {
        let bytes = mutate(&mut chance, PACKETS);
        let Ok(body) = std::str::from_utf8(&bytes) else { continue };
        let mut assembler = Assembler::default();
        for packet in engine_io::payload(body) {
            match packet {
                Ok(engine_io::Packet::Message(text)) => {
                    let valid = json::validate(text);
                    // Two judges of one text; numbers beyond a float are the only thing they may see differently.
                    assert!(!valid || serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok(), "{text:?}");
                    let Ok(packet) = socket_io::decode(text) else { continue };
                    let _ = (packet.event(), packet.arguments().count());
                    let _ = assembler.text(packet, 10_000);
                }
                Ok(engine_io::Packet::Binary(bytes)) => drop(assembler.binary(bytes, 10_000)),
                _ => {}
            }
        }
        let _ = (json::string(body), json::elements(body).count(), json::members(body).count());
    }
}

#[test]
fn tokens_keys_and_patterns() {
    let keys = Keys::from_secret(b"0123456789abcdef0123456789abcdef").unwrap();
    let (policy, now) = (Policy::default(), UnixMs(1_700_000_000_000));
    let good = mint(&Mint { tenant: "t", user: "u", ..Mint::default() }, &keys, &policy, now).unwrap();
    let none = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ1IiwidGVuYW50IjoidCJ9.";
    let mut chance = Chance::new([14; 32]);
    for _ in 0..rounds(30_000) {
        let bytes = mutate(&mut chance, &[good.as_bytes(), none.as_bytes()]);
        let text = String::from_utf8_lossy(&bytes);
        if let Ok(admission) = verify(&text, &keys, &policy, now) {
            // base64 has spare bits at its end; what is signed is never another text.
            assert_eq!(text.rsplit_once('.').unwrap().0, good.rsplit_once('.').unwrap().0);
            assert_eq!((admission.tenant.as_str(), &*admission.user), ("t", "u"));
        }
        let pattern = mutate(&mut chance, &[b"project:*", b"**a?b*", b"user:\xc3\xa9?"]);
        if let Ok(pattern) = Pattern::parse(&String::from_utf8_lossy(&pattern)) {
            let _ = pattern.matches(&text);
        }
        let jwks = mutate(&mut chance, &[br#"{"keys":[{"kty":"oct","k":"AAAA"},{"kty":"RSA","n":"AQAB","e":"AQAB"},{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}]}"#]);
        let _ = Keys::from_jwks(&String::from_utf8_lossy(&jwks));
        let pem =
            mutate(&mut chance, &[include_bytes!("../keys/ec.public.pem"), include_bytes!("../keys/rsa.public.pem")]);
        let _ = Keys::from_public_pem(&String::from_utf8_lossy(&pem));
    }
}

#[test]
fn api_requests() {
    let access = api::Access {
        api_keys: ApiKeys::parse(["0123456789abcdef0123456789abcdef"]).unwrap(),
        keys: None,
        policy: Policy::default(),
        bounds: api::Bounds { room_name_bytes: 256, body_bytes: 100_000 },
    };
    let bodies: &[&[u8]] = &[
        br#"{"id":"a","type":"note","room":"r","data":{"a":1},"ephemeral":true,"to":{"roles":["x"],"permissions":[]}}"#,
        br#"[{"type":"a","user":"u"},{"type":"b","entity":{"type":"t","id":"1"},"data":null}]"#,
        b"[]",
    ];
    let paths = [
        "events",
        "rooms",
        "rooms/a%2Fb/history?since=1-2&limit=3",
        "rooms/r/presence",
        "users/u",
        "stats",
        "cache/a/b",
        "jobs",
        "",
    ];
    let mut chance = Chance::new([15; 32]);
    for n in 0..rounds(30_000) {
        let method = ["GET", "POST", "DELETE"][chance.below(3) as usize];
        let path = paths[chance.below(paths.len() as u64) as usize];
        let head = format!(
            "{method} /api/v1/tenants/acme/{path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer 0123456789abcdef0123456789abcdef\r\nContent-Type: application/json\r\n\r\n"
        );
        let head = if n % 2 == 0 { head.into_bytes() } else { mutate(&mut chance, &[head.as_bytes()]) };
        let Ok(Some((request, _))) = decode(&head) else { continue };
        let body = mutate(&mut chance, bodies);
        if let Err(response) = api::decode(&request, &body, &access, UnixMs(1_700_000_000_000)) {
            assert!(response.status >= 400 || response.status == 200, "{response:?}");
        }
    }
}

const FLEET: &[&[u8]] = &[
    b"\x93\xa6ab12cd\x83\xa4type\x02\xa4data\x94\xa1e\xc4\x02\x01\x02\x81\xa1d\xd6\xff\0\0\0\0\xcb\x3f\xf8\0\0\0\0\0\0\xa3nsp\xa1/\x83\xa5rooms\x91\xa6acme/r\xa6except\x90\xa5flags\x81\xa8volatile\xc3",
    b"\x85\xa3uid\xa1u\xa9requestId\xa1r\xa4type\x07\xa6packet\x82\xa4type\x02\xa4data\x92\xa1e\x81\xa1a\xd4\0\0\xa4opts\x82\xa5rooms\x92\x2a\xa1b\xa6except\x90",
    b"\x83\xa4type\x09\xa9requestId\xa1r\xa6packet\xc7\x02\0\x01\x02",
    br#"{"uid":"u","requestId":"r","type":5,"opts":{"rooms":["acme/a",7],"except":[]}}"#,
    br#"{"requestId":"r","sockets":[{"id":"s","handshake":{"auth":{}},"rooms":["s"],"data":{"a":[1]}}]}"#,
    br#"{"type":3,"data":{"packet":{"type":2,"data":["e",{"a":"\u00e9"},null]},"opts":{"rooms":["acme/a"],"except":[],"flags":{"compress":false,"timeout":5}}},"uid":"0123456789abcdef","nsp":"/"}"#,
    br#"{"type":8,"data":{"requestId":"r","sockets":[{"id":"s","rooms":[]}]},"uid":"u","nsp":"/"}"#,
    b"\x84\xa4type\x0c\xa4data\x82\xa9requestId\xa1r\xa6packet\x92\xc4\x01\x07\xcf\x00\x20\0\0\0\0\0\x01\xa3uid\xa1u\xa3nsp\xa1/",
    b"hKR0eXBlDKRkYXRhgqlyZXF1ZXN0SWShcqZwYWNrZXSSxAEH",
    b"\x84\xa3sid\xb4abcdefghijklmnopqrst\xa3pid\xb4ABCDEFGHIJKLMNOPQRST\xa5rooms\x91\xa1a\xa4data\x80",
];

/// What came out may be sent to clients, and is not much longer than what came in.
fn fits(payload: &Payload<'_>, bytes: &[u8]) {
    let list = format!("[{}]", payload.json);
    assert!(json::validate(&list), "{list}");
    assert!(list.len() <= 12 * bytes.len() + 32, "{} bytes of {}", list.len(), bytes.len());
    let held: usize = payload.attachments.iter().map(Vec::len).sum();
    assert!(payload.attachments.len() <= 10 && held <= bytes.len());
}

/// Whether there was a message.
fn fleet_message(got: Result<Message<'_>, Broken>, bytes: &[u8]) -> bool {
    let Ok(message) = got else { return false };
    match &message.what {
        What::Broadcast { packet: Packet { args, .. }, to, .. } => {
            fits(args, bytes);
            let reach = Reach::of(to, None);
            assert!(reach.tenants.values().all(|part| !part.all) && reach.unknown <= to.rooms.len());
        }
        What::ServerSideEmit { packet, .. } => fits(&packet.args, bytes),
        What::Ack { answer, .. } | What::ServerSideEmitted { answer, .. } => fits(answer, bytes),
        What::Fetched { sockets, .. } => sockets.iter().for_each(|socket| fits(&socket.data, bytes)),
        _ => {}
    }
    // What was read can be written, and what is written is read.
    for again in [cluster::encode(&message), cluster::encode_packed(&message)].into_iter().flatten() {
        match cluster::decode(&again) {
            Ok(again) => assert_eq!(again.nsp, message.nsp),
            // This wire puts a level or two more around what another had at the last depth that is read.
            Err(error) => assert!(matches!(error, Broken::Deep | Broken::Syntax) && bytes.len() > 120, "{message:?}"),
        }
    }
    let _ = (classic::encode(&message), streams::encode(&message));
    let names = Names::default();
    assert!(names.read_classic(&names.classic_channel(&message, None), &[&message.nsp]).is_some());
    true
}

#[test]
fn messages_of_a_fleet() {
    let mut chance = Chance::new([17; 32]);
    let (mut buffer, mut read) = (Vec::new(), 0);
    let on = [
        Classic::Broadcast { nsp: "/", room: None },
        Classic::Request { nsp: "/" },
        Classic::Response { nsp: "/", to: None },
    ];
    let profile = Profile::parse(builtin::text("project-hub").unwrap()).unwrap();
    let heard: &[&[u8]] = &[br#"{"organizationId":"acme","userId":7,"update":{"a":["\ud83d",1e9]},"projectId":"x"}"#];
    for n in 0..rounds(60_000) {
        let bytes = mutate(&mut chance, FLEET);
        for on in on {
            let got = classic::decode(on, &bytes);
            read += u64::from(fleet_message(got, &bytes));
        }
        let got = cluster::decode(&bytes);
        read += u64::from(fleet_message(got, &bytes));
        let kind = (n % 14).to_string();
        let fields = [(&b"uid"[..], &b"u"[..]), (b"nsp", b"/"), (b"type", kind.as_bytes()), (b"data", &bytes)];
        if let Some(Ok(row)) = streams::Row::of(fields) {
            let got = streams::decode(&row, &mut buffer);
            read += u64::from(fleet_message(got, &bytes));
        }
        if let Ok(session) = streams::decode_session(&bytes, &mut buffer) {
            let (again, mut buffer) = (streams::encode_session(&session), Vec::new());
            assert!(streams::decode_session(&again, &mut buffer).is_ok_and(|again| again.sid == session.sid));
        }
        let text = String::from_utf8_lossy(&bytes);
        let _ = (streams::Offset::parse(&text), Names::default().read_cluster(&text, &["/", "/a"]));
        let bytes = mutate(&mut chance, heard);
        for name in profile.channel_names() {
            if let Some(Ok(heard)) = profile.hear(name, &bytes) {
                assert!(serde_json::from_str::<&serde_json::value::RawValue>(&heard.data).is_ok(), "{heard:?}");
            }
        }
    }
    assert!(read > rounds(60_000) / 10, "enough is read: {read}");
}

#[test]
fn configuration_files() {
    let corpus: &[&[u8]] = &[
        b"[server]\nport = 3000\nhost = \"127.0.0.1\"\nshards = 2\n[limits]\noutbox_bytes = 100000\n",
        b"[history]\nevents = 10\nttl = \"5m\"\n[[history.rooms]]\npattern = \"a*\"\nevents = 3\nttl_ms = 3\n",
        b"[auth]\nsecret = \"0123456789abcdef0123456789abcdef\"\naudience = [\"a\", 'b']\n[redis]\nurl = \"redis://a:1/0\"\n",
    ];
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz.toml");
    let mut chance = Chance::new([16; 32]);
    for _ in 0..rounds(3_000) {
        std::fs::write(&path, mutate(&mut chance, corpus)).unwrap();
        let sources = Sources { file: Some(path.clone()), ..Sources::default() };
        if let Err(error) = Config::load(&sources) {
            assert!(!error.to_string().is_empty());
        }
    }
}

/// Documents as the store keeps them: what reads is a document that writes go on from.
#[test]
fn documents() {
    use tenantcast::base::time::Instant;
    use tenantcast::shard::document::{Document, DocumentRule, Stamp, Strategy, Update};
    use tenantcast::shard::history::Epoch;
    let mut corpus: Vec<Box<[u8]>> = Vec::new();
    let update = |document: &mut Document, strategy, base, name: &'static str, value: &'static str, key: u64| {
        let rule = DocumentRule { strategy, versions_kept: 3, ..DocumentRule::default() };
        let stamp = Stamp { at: UnixMs(key), user: "u".into() };
        let fields = vec![(name.into(), value)];
        let update = Update { base, epoch: None, fields, stamp, writer: key % 3, key };
        document.update(&rule, &update).map(drop)
    };
    for strategy in [Strategy::LastWriteWins, Strategy::Reject, Strategy::Manual] {
        let mut document = Document::new(Epoch(3), 2, [("t", "{\"a\":1}")], Instant(0));
        corpus.push(document.encode(1));
        for key in 0..12 {
            let name = ["t", "u", "v"][key as usize % 3];
            let base = document.version() - key % 2;
            let _ = update(&mut document, strategy, base, name, ["1", "\"é\""][key as usize % 2], key);
        }
        corpus.push(document.encode(2));
    }
    let corpus: Vec<&[u8]> = corpus.iter().map(|bytes| &**bytes).collect();
    let mut chance = Chance::new([18; 32]);
    for _ in 0..rounds(60_000) {
        let mut bytes = mutate(&mut chance, &corpus);
        let _ = Document::decode(&bytes, Instant(0));
        // Past the checksum, too.
        if bytes.len() > 21 {
            let checksum = crc32fast::hash(&bytes[21..]).to_be_bytes();
            bytes[17..21].copy_from_slice(&checksum);
        }
        let Ok(mut document) = Document::decode(&bytes, Instant(0)) else { continue };
        let same = document.encode(7);
        assert_eq!(Document::decode(&same, Instant(0)).map(|document| document.encode(7)), Ok(same));
        for key in 100..104 {
            let base = document.version() - chance.below(2).min(document.version());
            let strategy = [Strategy::LastWriteWins, Strategy::Manual][chance.below(2) as usize];
            let _ = update(&mut document, strategy, base, "t", "2", key);
        }
        document.since(0, None).for_each(drop);
    }
}

/// What crosses nodes: a frame, its body, and a socket that is kept.
#[test]
fn envelopes_and_records() {
    use tenantcast::base::id::{NodeId, ShardId, Sid};
    use tenantcast::wire::envelope::{
        Asks, Body, Edition, Frame, Layer, Origin, Place, Post, Word, announced, in_row, placed, record, told,
    };
    let sid = Sid::new(NodeId(1), ShardId(0), &mut Chance::new([1; 32]));
    let post = Post {
        id: "01",
        event: "payment.received",
        room: "project:7",
        data: "{\"a\":[1,2]}",
        time: UnixMs(1_763_700_000_000),
        user: Some("u"),
        entity: Some(("project", "7")),
        audience: vec![Layer { roles: vec!["admin", "agent"], permissions: vec!["p"] }],
        asks: Some(Asks { timeout_ms: 5000, retries: 2, counted: true }),
    };
    let body = Body::Post(post).encode(Origin(7));
    let place = Place { epoch: 1, sequence: 2, room_epoch: 3, offset: 4 };
    let emit = Body::Emit { room: "r", event: "e", args: "1,2", ephemeral: true, except: Some(sid) }.encode(Origin(1));
    let kept = record::Record {
        generation: 1,
        sid,
        user: "u",
        namespace: "/",
        automatic: 2,
        epoch: 9,
        connected_at: 1 << 40,
        seats: vec![record::Seat {
            room: "r",
            joined_at: 3,
            filter: Some(record::Wants { types: vec!["a.*"], entities: vec![("t", "1")] }),
        }],
        data: Some(b"\x81\xa1n\x01"),
    }
    .encode();
    let edition = Edition {
        document: "d",
        room: "document:d",
        epoch: 1 << 40,
        mark: 1 << 60,
        before: Some(4),
        version: 5,
        words: vec![Word { event: "document:updated", args: "{\"document\":\"d\"}", others: true }],
    };
    let edition = announced(&Body::Edition(edition).encode(Origin(3)));
    let receivers = told(&Body::Receivers { id: "01", waiting: vec!["u", "v"], missing: vec!["w"] }.encode(Origin(4)));
    let acked = told(&Body::Acked { id: "01", users: vec!["u", "v"] }.encode(Origin(4)));
    let row = |frame| in_row(frame, streams::Offset { ms: 5, nth: 6 }).expect("a frame that rows carry");
    let rows = [row(&placed(place, &body)), row(&told(&emit))];
    let corpus = [&placed(place, &body)[..], &told(&emit), &edition, &receivers, &acked, &kept, &rows[0], &rows[1]];
    let mut chance = Chance::new([17; 32]);
    for _ in 0..rounds(60_000) {
        let mut bytes = mutate(&mut chance, &corpus);
        if let Ok(record) = record::Record::decode(&bytes) {
            assert_eq!(record::Record::decode(&record.encode()).as_ref(), Ok(&record));
        }
        let Ok(frame) = Frame::decode(&bytes) else { continue };
        let at = bytes.len() - frame.body.len();
        let _ = Body::decode(frame.body);
        // Past the checksum, too: what is behind it is what a newer node may have meant otherwise.
        let body = &mut bytes[at..];
        if body.len() > 8 {
            let length = (body.len() as u32 - 8).to_be_bytes();
            let checksum = crc32fast::hash(&body[8..]).to_be_bytes();
            body[..4].copy_from_slice(&length);
            body[4..8].copy_from_slice(&checksum);
        }
        if let Ok((origin, body)) = Body::decode(body) {
            let again = body.encode(origin);
            assert_eq!(Body::decode(&again), Ok((origin, body)));
        }
    }
}

/// What nodes say of requests for each other's sessions.
#[test]
fn messages_between_neighbours() {
    use tenantcast::base::id::{NodeId, ShardId, Sid};
    use tenantcast::wire::neighbour::{Message, Word};
    let sid = Sid::new(NodeId(1), ShardId(0), &mut Chance::new([1; 32]));
    let corpus: Vec<Vec<u8>> = [
        Word::Ask { number: 1, sid, body: None },
        Word::Ask { number: 1 << 40, sid, body: Some("42[\"a\",\u{e9}]") },
        Word::Left { number: 2 },
        Word::Release { number: 3 },
        Word::Answer { number: 4, status: 200, content_type: Some("text/html"), retry_after_s: Some(1), body: b"ok" },
        Word::Held { numbers: vec![5, 6, 7] },
    ]
    .map(|word| Message { from: NodeId(2), word }.encode())
    .into();
    let corpus: Vec<&[u8]> = corpus.iter().map(|message| &message[..]).collect();
    let mut chance = Chance::new([18; 32]);
    for _ in 0..rounds(60_000) {
        let bytes = mutate(&mut chance, &corpus);
        if let Ok(message) = Message::decode(&bytes) {
            assert_eq!(message.encode(), bytes, "one way to say it");
        }
    }
}
