//! The Rust client `rust_socketio` against the real server, over each of its transports: connect with a token, subscribe and publish with
//! acknowledgements, receive; and a refusal.
//!
//! `tenantcast-rust-client-test URL TOKEN BAD_TOKEN`. Exit code 0: everything came. Without a server: `tests/run --only rust`.

use rust_socketio::{ClientBuilder, Event, Payload, RawClient, TransportType};
use serde_json::{Value, json};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);

fn main() {
    let mut args = std::env::args().skip(1);
    let mut arg = |name| args.next().unwrap_or_else(|| panic!("the argument {name} is missing"));
    let (url, token, bad) = (arg("URL"), arg("TOKEN"), arg("BAD_TOKEN"));
    let transports = [
        ("websocket", TransportType::Websocket),
        ("polling", TransportType::Polling),
        ("polling, then websocket", TransportType::WebsocketUpgrade),
    ];
    for (nth, (name, transport)) in transports.iter().enumerate() {
        talk(&url, &token, &format!("rust:{nth}"), transport.clone());
        refused(&url, &bad, transport.clone());
        println!("ok - {name}");
    }
}

/// The arguments of an event or an answer.
fn values(payload: Payload) -> Vec<Value> {
    match payload {
        Payload::Text(values) => values,
        other => panic!("not text: {other:?}"),
    }
}

fn next(events: &Receiver<(String, Vec<Value>)>, name: &str) -> Vec<Value> {
    loop {
        let (event, args) = events.recv_timeout(SOON).unwrap_or_else(|_| panic!("no event {name}"));
        if event == name {
            return args;
        }
    }
}

fn talk(url: &str, token: &str, room: &str, transport: TransportType) {
    let (send, events) = channel();
    let client = ClientBuilder::new(url)
        .transport_type(transport)
        .auth(json!({ "token": token }))
        .on_any(move |event: Event, payload: Payload, _: RawClient| {
            if let Payload::Text(args) = payload {
                send.send((String::from(event), args)).ok();
            }
        })
        .connect()
        .expect("connects");
    let welcome = next(&events, "connected");
    assert_eq!((&welcome[0]["tenant"], &welcome[0]["user"]), (&json!("acme"), &json!("ana")));
    let ask = |event: &str, data: Value| -> Value {
        let (answer, answered) = channel();
        client
            .emit_with_ack(event, data, SOON, move |payload: Payload, _: RawClient| {
                answer.send(values(payload)).ok();
            })
            .expect("sends");
        let answer = answered.recv_timeout(SOON).unwrap_or_else(|_| panic!("no answer to {event}"));
        // This client gives the list of arguments as one argument.
        answer[0].get(0).unwrap_or(&answer[0]).clone()
    };
    let answer = ask("subscribe", json!({ "rooms": [room] }));
    assert_eq!(answer["rooms"], json!([room]), "{answer}");
    for n in 1..=10 {
        let receipt = ask("publish", json!({ "room": room, "type": "note", "data": { "n": n } }));
        assert_eq!((&receipt["ok"], &receipt["offset"]), (&json!(true), &json!(n)), "{receipt}");
        let note = next(&events, "note");
        assert_eq!(note[0], json!({ "n": n }));
        assert_eq!((&note[1]["offset"], &note[1]["id"]), (&json!(n), &receipt["id"]));
    }
    client.disconnect().expect("disconnects");
}

fn refused(url: &str, token: &str, transport: TransportType) {
    let (send, errors) = channel();
    let client = ClientBuilder::new(url)
        .transport_type(transport)
        .reconnect(false)
        .auth(json!({ "token": token }))
        .on(Event::Error, move |payload: Payload, _: RawClient| {
            send.send(format!("{payload:?}")).ok();
        })
        .connect();
    let error = match &client {
        Ok(_) => errors.recv_timeout(SOON).expect("an error"),
        Err(error) => format!("{error:?}"),
    };
    assert!(
        error.contains("token_invalid") || error.contains("ConnectError") || error.contains("signature"),
        "{error}"
    );
}
