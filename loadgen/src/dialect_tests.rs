//! Templates and dialects, as tables.

use super::*;
use crate::payload::{Kind, Payload};

fn filled(template: &Template) -> String {
    let payload = Payload { kind: Kind::Publish, run: 1, room: 2, place: 3, sequence: 4, at_us: 5 };
    let names = Names { room: "lobby", tenant: "acme", user: "ana", token: "a.b.c", payload: Some((payload, 60)) };
    let mut out = Vec::new();
    template.fill(&names, &mut out);
    String::from_utf8(out).unwrap()
}

const PAYLOAD: &str = "~LG~P000000010000000200000003000000040000000000000005xxxxxxx";

#[test]
fn templates() {
    for (text, expected) in [
        ("", Ok(String::new())),
        ("join {room}", Ok("join lobby".to_owned())),
        ("{tenant}:{room}{user}", Ok("acme:lobbyana".to_owned())),
        (r#"["e",{"room":"{room}","x":{}}]"#, Ok(r#"["e",{"room":"lobby","x":{}}]"#.to_owned())),
        ("{{room}}", Ok("{lobby}".to_owned())),
        ("{room", Ok("{room".to_owned())),
        ("{}{", Ok("{}{".to_owned())),
        ("pub {room} {payload}", Ok(format!("pub lobby {PAYLOAD}"))),
        ("t={token}", Ok("t=a.b.c".to_owned())),
        ("{rooms}", Err("{rooms} is none of")),
    ] {
        match (Template::parse(text), expected) {
            (Ok(template), Ok(expected)) => assert_eq!(filled(&template), expected, "{text}"),
            (Err(error), Err(reason)) => assert!(error.contains(reason), "{text}: {error}"),
            (got, expected) => panic!("{text}: {got:?}, not {expected:?}"),
        }
    }
}

#[test]
fn presets() {
    // (preset, target, auth, join, publish, request)
    for (preset, expected) in [
        (
            "tenantcast",
            [
                "/socket.io/?EIO=4&transport=websocket",
                r#"{"token":"a.b.c"}"#,
                r#"["subscribe",{"rooms":["lobby"]}]"#,
                r#"["publish",{"room":"lobby","type":"load","data":"PAYLOAD"}]"#,
                r#"["status",{"status":"online"}]"#,
            ],
        ),
        (
            "socket.io",
            [
                "/socket.io/?EIO=4&transport=websocket",
                r#"{"token":"a.b.c"}"#,
                r#"["join","acme:lobby"]"#,
                r#"["publish",{"room":"acme:lobby","data":"PAYLOAD"}]"#,
                r#"["echo","PAYLOAD"]"#,
            ],
        ),
        ("websocket", ["/", "", "join acme:lobby", "pub acme:lobby PAYLOAD", "echo PAYLOAD"]),
    ] {
        let dialect = Dialect::compile(&Choice::Preset(preset.to_owned())).unwrap();
        let auth = dialect.auth.as_ref().map(filled).unwrap_or_default();
        let got =
            [filled(&dialect.target), auth, filled(&dialect.join), filled(&dialect.publish), filled(&dialect.request)];
        assert_eq!(got, expected.map(|text| text.replace("PAYLOAD", PAYLOAD)), "{preset}");
    }
}

#[test]
fn tables_start_from_a_preset() {
    let table: Choice = toml::from_str(
        r#"
        preset = "socket.io"
        namespace = "/chat"
        query = "token={token}"
        auth = ""
        join = '["enter",{"room":"{room}"}]'
        event = "message"
        "#,
    )
    .unwrap();
    assert_eq!(table.name(), "socket.io, adapted");
    let dialect = Dialect::compile(&table).unwrap();
    assert_eq!(filled(&dialect.target), "/socket.io/?EIO=4&transport=websocket&token=a.b.c");
    assert_eq!(filled(&dialect.join), r#"["enter",{"room":"lobby"}]"#);
    assert_eq!((dialect.auth, dialect.namespace.as_str()), (None, "/chat,"));
    assert_eq!((dialect.event_start, dialect.event), (b"42/chat,".to_vec(), b"[\"message\"".to_vec()));
    assert_eq!(dialect.request_answer, Answer::Payload);
}

#[test]
fn broken_dialects_are_named() {
    for (text, reason) in [
        ("preset = \"nats\"", "no dialect is called \"nats\""),
        ("join = 'x {room}'", "protocol is missing"),
        ("protocol = \"websocket\"", "dialect.join is missing"),
        ("preset = \"websocket\"\njoin = 'enter'", "dialect.join must contain {room}"),
        ("preset = \"websocket\"\npublish = 'x {room}'", "dialect.publish must contain {payload}"),
        ("preset = \"websocket\"\nrequest = 'ping'", "dialect.request must contain {payload}"),
        ("preset = \"socket.io\"\njoin = 'join {room}'", "dialect.join must be a JSON array"),
        ("preset = \"socket.io\"\njoin = '[7,\"{room}\"]'", "dialect.join must be a JSON array"),
        ("preset = \"socket.io\"\nnamespace = 'chat'", "dialect.namespace"),
        ("preset = \"socket.io\"\nauth = '{tokens}'", "dialect.auth: {tokens} is none of"),
    ] {
        let table: Choice = toml::from_str(text).unwrap();
        let error = Dialect::compile(&table).err().unwrap_or_default();
        assert!(error.contains(reason), "{text}: {error}");
    }
    assert!(Choice::default().needs_secret());
    assert!(!Choice::Preset("socket.io".to_owned()).needs_secret());
}
