//! What a new connection costs before and in its shard: the request's head, the token, the session.
//!
//! The numbers to watch: a token of the configured kind, and a session opened, authenticated and ended. The whole of a connection, sockets and
//! the move to its shard included, is told by `benches/peers`; the goal for that is 40 us.
//! Peers: tungstenite's own server handshake, jsonwebtoken's `decode`; `ratio` above 1 says they take longer.
//! Today (November 2026): a head 0.8 us (the peer 1.9); HS256 1.6 us, RS256 17, ES256 40, EdDSA 28, each what its signature costs; a
//! session 3.5 us and 60 allocations.

#[allow(dead_code, reason = "each bench uses its part")]
mod measure;
#[allow(dead_code, reason = "each bench uses its part")]
mod rig;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use measure::{Bench, Group};
use rig::Rig;
use std::hint::black_box;
use std::io::{Cursor, Read, Write};
use tenantcast::base::time::{Duration, UnixMs};
use tenantcast::wire::auth::{Keys, Policy, verify};
use tenantcast::wire::http;

const RSA: (&str, &str) = (include_str!("../tests/keys/rsa.private.pem"), include_str!("../tests/keys/rsa.public.pem"));
const EC: (&str, &str) = (include_str!("../tests/keys/ec.private.pem"), include_str!("../tests/keys/ec.public.pem"));
const ED: (&str, &str) = (include_str!("../tests/keys/ed.private.pem"), include_str!("../tests/keys/ed.public.pem"));
const SECRET: &[u8] = &[7; 32];
/// Far enough ahead for the peer, which reads the clock.
const EXPIRES: u64 = 4_000_000_000;

/// What a browser sends, to the line.
const HEAD: &[u8] = b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: realtime.example.com\r\nConnection: Upgrade\r\n\
Pragma: no-cache\r\nCache-Control: no-cache\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
Chrome/131.0.0.0 Safari/537.36\r\nUpgrade: websocket\r\nOrigin: https://app.example.com\r\nSec-WebSocket-Version: 13\r\n\
Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-GB,en;q=0.9\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n";

fn main() {
    let bench = Bench::from_arguments();
    bench.group("an upgrade's head to its 101", "handshake", heads);
    for algorithm in [Algorithm::HS256, Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA] {
        bench.group(&format!("verify a token, {algorithm:?}"), "token", |group| tokens(group, algorithm));
    }
    bench.group("a session: open, CONNECT, `connected`, DISCONNECT, hang up", "session", sessions);
}

/// A socket in memory: reads what was put in, forgets what is written.
struct Memory(Cursor<&'static [u8]>);

impl Read for Memory {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(out)
    }
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn heads(group: &mut Group<'_>) {
    let mut out = Vec::new();
    group.add("tenantcast", 1, move || {
        out.clear();
        let (request, used) = http::decode(black_box(HEAD)).expect("a request").expect("a whole one");
        assert_eq!(used, HEAD.len());
        let upgrade = request.upgrade.as_ref().expect("an upgrade");
        http::switching_protocols(&mut out, &upgrade.accept, None);
        black_box((request, &out));
    });
    group.add("tungstenite::accept", 1, || {
        black_box(tungstenite::accept(Memory(Cursor::new(black_box(HEAD)))).is_ok());
    });
}

fn tokens(group: &mut Group<'_>, algorithm: Algorithm) {
    let pem = |keys: (&'static str, &'static str)| (keys.0.as_bytes(), keys.1.as_bytes());
    let (sign, decode, keys) = match algorithm {
        Algorithm::RS256 => {
            let (private, public) = pem(RSA);
            (EncodingKey::from_rsa_pem(private), DecodingKey::from_rsa_pem(public), Keys::from_public_pem(RSA.1))
        }
        Algorithm::ES256 => {
            let (private, public) = pem(EC);
            (EncodingKey::from_ec_pem(private), DecodingKey::from_ec_pem(public), Keys::from_public_pem(EC.1))
        }
        Algorithm::EdDSA => {
            let (private, public) = pem(ED);
            (EncodingKey::from_ed_pem(private), DecodingKey::from_ed_pem(public), Keys::from_public_pem(ED.1))
        }
        _ => (Ok(EncodingKey::from_secret(SECRET)), Ok(DecodingKey::from_secret(SECRET)), Keys::from_secret(SECRET)),
    };
    let (sign, decode, keys) = (sign.expect("a key"), decode.expect("a key"), keys.expect("a key"));
    let claims = serde_json::json!({
        "sub": "ana", "tenant": "acme", "roles": ["editor"], "permissions": ["publish"], "iat": 1_700_000_000, "exp": EXPIRES,
    });
    let token = jsonwebtoken::encode(&Header::new(algorithm), &claims, &sign).expect("a token");
    let (ours, policy) = (token.clone(), Policy::default());
    let now = UnixMs(1_700_000_000_000);
    group.add("tenantcast", 1, move || {
        let admission = verify(black_box(&ours), &keys, &policy, now).expect("a good token");
        assert_eq!(&*admission.user, "ana");
    });
    let validation = Validation::new(algorithm);
    group.add("jsonwebtoken::decode to a value", 1, move || {
        let token = jsonwebtoken::decode::<serde_json::Value>(black_box(&token), &decode, &validation);
        black_box(token.expect("a good token"));
    });
}

fn sessions(group: &mut Group<'_>) {
    for (name, anonymous, neighbours) in [
        ("token verified, HS256", false, 0),
        ("everybody welcome, no token", true, 0),
        ("token verified, beside 10,000 connections", false, 10_000),
    ] {
        let mut rig = Rig::with(|settings| {
            if anonymous {
                settings.auth = None;
            }
            // A session that ends is forgotten at once: what is measured is its life.
            settings.recovery = Duration::ZERO;
        });
        rig.members("globex", "room", neighbours);
        let conn = rig.open();
        rig.hang_up(conn);
        let connect = format!("40{{\"token\":\"{}\"}}", rig.token("acme", "ana"));
        group.add(name, 1, move || {
            rig.open_as(conn);
            rig.end_turn();
            rig.say(conn, &connect);
            let bytes = rig.end_turn();
            assert!(bytes > 100, "CONNECT and `connected` are answered");
            rig.say(conn, "41");
            rig.hang_up(conn);
            rig.end_turn();
        });
    }
}
