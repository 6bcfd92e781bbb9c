//! One client from the opened WebSocket to its room: a state machine over bytes. No socket and no clock: the driver owns those.
//!
//! ```text
//! Connecting --writable--> Upgrading --101--> Opening --0{}--> Joining --40{}--> Subscribing --43 ok--> Ready
//!                                                                  `-------- nothing to subscribe to ------^
//! ```
//! Any refusal or broken byte ends it, with a reason short enough to be counted by.

use crate::frame::{self, Frame};
use crate::packet::{self, Answer, Packet};

/// The ack id of `subscribe`; publish `s` has the id `s + 1`.
pub const SUBSCRIBE_ACK: u64 = 0;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Connecting,
    Upgrading,
    Opening,
    Joining,
    Subscribing,
    Ready,
    Closed,
}

/// What a client says on its way in; asked for when it is said, so that nobody keeps ten thousand tokens.
pub trait Greeting {
    /// For the CONNECT packet; `None` if it went into the query.
    fn auth_token(&self) -> Option<String>;
    /// `None`: stay in the automatic rooms.
    fn room(&self) -> Option<String>;
}

/// What one packet meant to the driver.
#[derive(Debug, PartialEq, Eq)]
pub enum Occurrence<'a> {
    Nothing,
    Ready,
    /// An ack of a publish: its id and JSON arguments.
    Ack(u64, &'a [u8]),
    /// An event: its JSON array.
    Event(&'a [u8]),
}

/// Handles one frame in a phase at or after `Opening`. Replies are appended to `out` as masked frames.
pub fn handle<'a>(
    phase: &mut Phase,
    frame: Frame<'a>,
    greeting: &impl Greeting,
    mask: [u8; 4],
    out: &mut Vec<u8>,
) -> Result<Occurrence<'a>, String> {
    let text = match frame {
        Frame::Text(text) => text,
        Frame::Ping(payload) => {
            frame::encode_pong(payload, mask, out);
            return Ok(Occurrence::Nothing);
        }
        Frame::Pong => return Ok(Occurrence::Nothing),
        Frame::Binary(_) => return Err("a binary frame".to_owned()),
        Frame::Close(code) => return Err(format!("closed by the server: {code}")),
    };
    let packet = packet::decode(text).map_err(|error| error.to_string())?;
    match (*phase, packet) {
        (_, Packet::Ping) => frame::encode_text(b"3", mask, out),
        (_, Packet::Noop) => {}
        (_, Packet::Close) => return Err("closed by the server".to_owned()),
        (_, Packet::ConnectError(json)) => return Err(format!("refused: {}", String::from_utf8_lossy(json))),
        (Phase::Opening, Packet::Open) => {
            let connect = match greeting.auth_token() {
                Some(token) => format!("40{{\"token\":\"{token}\"}}"),
                None => "40".to_owned(),
            };
            frame::encode_text(connect.as_bytes(), mask, out);
            *phase = Phase::Joining;
        }
        (Phase::Joining, Packet::Connect) => {
            let Some(room) = greeting.room() else {
                *phase = Phase::Ready;
                return Ok(Occurrence::Ready);
            };
            let subscribe = format!("42{SUBSCRIBE_ACK}[\"subscribe\",{{\"rooms\":[\"{room}\"]}}]");
            frame::encode_text(subscribe.as_bytes(), mask, out);
            *phase = Phase::Subscribing;
        }
        (Phase::Subscribing, Packet::Ack { id: SUBSCRIBE_ACK, arguments }) => {
            let answer = Answer::decode(arguments).map_err(|error| format!("subscribe: {error}"))?;
            if !answer.ok {
                return Err(format!("subscribe refused: {}", answer.reason()));
            }
            if let Some(denied) = answer.denied.as_ref().and_then(|denied| denied.first()) {
                return Err(format!("subscribe denied: {denied}"));
            }
            *phase = Phase::Ready;
            return Ok(Occurrence::Ready);
        }
        (Phase::Ready, Packet::Ack { id, arguments }) => return Ok(Occurrence::Ack(id, arguments)),
        (Phase::Joining | Phase::Subscribing | Phase::Ready, Packet::Event(json)) => {
            return Ok(Occurrence::Event(json));
        }
        (phase, packet) => return Err(format!("{packet:?} while {phase:?}").chars().take(80).collect()),
    }
    Ok(Occurrence::Nothing)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (token, room)
    struct Says(Option<&'static str>, Option<&'static str>);

    impl Greeting for Says {
        fn auth_token(&self) -> Option<String> {
            self.0.map(str::to_owned)
        }

        fn room(&self) -> Option<String> {
            self.1.map(str::to_owned)
        }
    }

    const BOTH: Says = Says(Some("a.b.c"), Some("room:7"));

    /// Runs text frames through from `Opening`; returns the phase after the last and what was sent (a mask of zeros leaves text readable).
    fn converse(texts: &[&str], greeting: &Says) -> (Result<Phase, String>, String) {
        let (mut phase, mut out) = (Phase::Opening, Vec::new());
        let mut sent = String::new();
        for text in texts {
            let outcome = handle(&mut phase, Frame::Text(text.as_bytes()), greeting, [0; 4], &mut out);
            if !out.is_empty() {
                sent.push_str(&String::from_utf8_lossy(&out[6..]));
                sent.push('\n');
                out.clear();
            }
            if let Err(reason) = outcome {
                return (Err(reason), sent);
            }
        }
        (Ok(phase), sent)
    }

    #[test]
    fn the_way_in() {
        let texts = ["0{}", "40{\"sid\":\"x\"}", "42[\"connected\",{}]", "2", "430[{\"ok\":true,\"denied\":[]}]"];
        let (phase, sent) = converse(&texts, &BOTH);
        assert_eq!(phase, Ok(Phase::Ready));
        assert_eq!(sent, "40{\"token\":\"a.b.c\"}\n420[\"subscribe\",{\"rooms\":[\"room:7\"]}]\n3\n");
        let (phase, sent) = converse(&["0{}", "40{}"], &Says(None, None));
        assert_eq!((phase, sent.as_str()), (Ok(Phase::Ready), "40\n"));
    }

    #[test]
    fn refusals() {
        for (texts, reason) in [
            (&["0{}", "44{\"message\":\"bad\"}"][..], "refused: {\"message\":\"bad\"}"),
            (&["0{}", "40{}", "430[{\"ok\":false,\"code\":\"forbidden\"}]"], "subscribe refused: forbidden"),
            (
                &["0{}", "40{}", "430[{\"ok\":true,\"denied\":[{\"room\":\"r\"}]}]"],
                "subscribe denied: {\"room\":\"r\"}",
            ),
            (&["0{}", "40{}", "430[]"], "subscribe: "),
            (&["40{}"], "Connect while Opening"),
            (&["0{}", "0{}"], "Open while Joining"),
            (&["0{}", "1"], "closed by the server"),
            (&["hello"], "not a Socket.IO packet: hello"),
        ] {
            let error = converse(texts, &BOTH).0.unwrap_err();
            assert!(error.starts_with(reason), "{error}");
        }
        let mut phase = Phase::Ready;
        let close = handle(&mut phase, Frame::Close(4503), &BOTH, [0; 4], &mut Vec::new());
        assert_eq!(close, Err("closed by the server: 4503".to_owned()));
    }
}
