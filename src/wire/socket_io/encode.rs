//! The encoders: each appends one Socket.IO packet with its Engine.IO `4`, ready for a text frame or a payload.
//!
//! Invariants: the bytes are the official server's, key for key; nothing is allocated but room in `out`. Raw JSON is the caller's word: it is
//! not looked at.

use super::{Kind, json};
use crate::wire::engine_io;

/// Appends CONNECT, the answer to a client's: `40{"sid":"..."}`. `pid` is there where sessions can be recovered.
pub fn connect(out: &mut Vec<u8>, namespace: &str, sid: &str, pid: Option<&str>) {
    head(out, Kind::Connect, None, namespace, None);
    out.extend_from_slice(b"{\"sid\":");
    json::write_string(out, sid);
    if let Some(pid) = pid {
        out.extend_from_slice(b",\"pid\":");
        json::write_string(out, pid);
    }
    out.push(b'}');
}

/// Appends CONNECT_ERROR: `44/random,{"message":"Invalid namespace"}`. `data_raw` is JSON.
pub fn connect_error(out: &mut Vec<u8>, namespace: &str, message: &str, data_raw: Option<&str>) {
    head(out, Kind::ConnectError, None, namespace, None);
    out.extend_from_slice(b"{\"message\":");
    json::write_string(out, message);
    if let Some(data) = data_raw {
        out.extend_from_slice(b",\"data\":");
        out.extend_from_slice(data.as_bytes());
    }
    out.push(b'}');
}

/// Appends DISCONNECT: `41/chat,`.
pub fn disconnect(out: &mut Vec<u8>, namespace: &str) {
    head(out, Kind::Disconnect, None, namespace, None);
}

/// Appends EVENT: `42/chat,12["name",...]`. `args` writes what is between the brackets: the name as a JSON string, then each argument behind a
/// comma.
pub fn event(out: &mut Vec<u8>, namespace: &str, id: Option<u64>, args: impl FnOnce(&mut Vec<u8>)) {
    head(out, Kind::Event, None, namespace, id);
    array(out, args);
}

/// Appends BINARY_EVENT: `452-["name",{"_placeholder":true,"num":0},...]`, or EVENT if there are no attachments. The binary messages follow
/// as frames of their own. `args` as for [`event`].
pub fn binary_event(
    out: &mut Vec<u8>,
    namespace: &str,
    id: Option<u64>,
    attachments: usize,
    args: impl FnOnce(&mut Vec<u8>),
) {
    match attachments {
        0 => head(out, Kind::Event, None, namespace, id),
        count => head(out, Kind::BinaryEvent, Some(count), namespace, id),
    }
    array(out, args);
}

/// Appends ACK: `43456[1,"2"]`, or BINARY_ACK if there are attachments: `462-456[...]`. `args_raw` is what is between the brackets.
pub fn ack(out: &mut Vec<u8>, namespace: &str, id: u64, args_raw: &str, attachments: usize) {
    match attachments {
        0 => head(out, Kind::Ack, None, namespace, Some(id)),
        count => head(out, Kind::BinaryAck, Some(count), namespace, Some(id)),
    }
    array(out, |out| out.extend_from_slice(args_raw.as_bytes()));
}

/// Appends the placeholder that stands for an attachment.
pub fn placeholder(out: &mut Vec<u8>, number: usize) {
    out.extend_from_slice(b"{\"_placeholder\":true,\"num\":");
    json::write_number(out, number as u64);
    out.push(b'}');
}

fn head(out: &mut Vec<u8>, kind: Kind, attachments: Option<usize>, namespace: &str, id: Option<u64>) {
    out.extend_from_slice(&[engine_io::MESSAGE, b'0' + kind as u8]);
    if let Some(count) = attachments {
        json::write_number(out, count as u64);
        out.push(b'-');
    }
    if namespace != "/" {
        out.extend_from_slice(namespace.as_bytes());
        out.push(b',');
    }
    if let Some(id) = id {
        json::write_number(out, id);
    }
}

fn array(out: &mut Vec<u8>, args: impl FnOnce(&mut Vec<u8>)) {
    out.push(b'[');
    args(out);
    out.push(b']');
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes the official test suite expects.
    #[test]
    fn encoders_write_the_official_bytes() {
        let raw = |args: &'static str| move |out: &mut Vec<u8>| out.extend_from_slice(args.as_bytes());
        let two = |out: &mut Vec<u8>| {
            for number in 0..2 {
                out.push(b',');
                placeholder(out, number);
            }
        };
        const TWO: &str = r#"{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}"#;
        type Write<'a> = &'a dyn Fn(&mut Vec<u8>);
        let table: [(Write<'_>, &str); 15] = [
            (&|out| connect(out, "/", "abc", None), r#"40{"sid":"abc"}"#),
            (&|out| connect(out, "/custom", "abc", Some("def")), r#"40/custom,{"sid":"abc","pid":"def"}"#),
            (
                &|out| connect_error(out, "/random", "Invalid namespace", None),
                r#"44/random,{"message":"Invalid namespace"}"#,
            ),
            (
                &|out| connect_error(out, "/", "a \"b\"", Some("{\"code\":1}")),
                r#"44{"message":"a \"b\"","data":{"code":1}}"#,
            ),
            (&|out| disconnect(out, "/"), "41"),
            (&|out| disconnect(out, "/custom"), "41/custom,"),
            (&|out| event(out, "/", None, raw(r#""auth",{}"#)), r#"42["auth",{}]"#),
            (&|out| event(out, "/nsp", None, |out| json::write_string(out, "x")), r#"42/nsp,["x"]"#),
            (&|out| event(out, "/nsp", Some(12), raw(r#""x""#)), r#"42/nsp,12["x"]"#),
            (
                &|out| {
                    binary_event(out, "/", None, 2, |out| {
                        json::write_string(out, "message-back");
                        two(out);
                    })
                },
                r#"452-["message-back",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#,
            ),
            (&|out| binary_event(out, "/a", Some(0), 1, raw(r#""x""#)), r#"451-/a,0["x"]"#),
            (&|out| binary_event(out, "/", None, 0, raw(r#""x""#)), r#"42["x"]"#),
            (&|out| ack(out, "/", 456, r#"1,"2",{"3":[false]}"#, 0), r#"43456[1,"2",{"3":[false]}]"#),
            (&|out| ack(out, "/nsp", 1, "", 0), "43/nsp,1[]"),
            (
                &|out| ack(out, "/", 789, TWO, 2),
                r#"462-789[{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#,
            ),
        ];
        for (write, want) in table {
            let mut out = b"6\x1e".to_vec();
            write(&mut out);
            assert_eq!(String::from_utf8(out).unwrap(), format!("6\x1e{want}"));
        }
    }
}
