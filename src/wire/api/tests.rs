//! Every answer of the API, as tables; and that no bytes make it panic.

use super::*;
use crate::base::chance::Chance;
use crate::base::limit::JSON_DEPTH_MAX;
use crate::wire::auth::{Mint, mint};
use crate::wire::http;

const NOW: UnixMs = UnixMs(1_800_000_000_000);

/// What a test asks; [`ask`] sends it through the HTTP decoder, as the data plane does.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub method: &'a str,
    /// Path and query, as on the wire.
    pub target: &'a str,
    pub body: &'a [u8],
    pub content_type: Option<&'a str>,
    pub bearer: Option<&'a str>,
}

/// `None`: no HTTP request, the HTTP decoder has refused it.
pub(super) fn head(asked: Asked<'_>) -> Option<Request> {
    let mut text = format!("{} {} HTTP/1.1\r\nHost: test\r\n", asked.method, asked.target);
    for (name, value) in [("Content-Type: ", asked.content_type), ("Authorization: Bearer ", asked.bearer)] {
        text.extend(value.into_iter().flat_map(|value| [name, value, "\r\n"]));
    }
    text.push_str("\r\n");
    http::decode(text.as_bytes()).ok()?.map(|(request, _)| request)
}

fn ask(asked: Asked<'_>, access: &Access) -> Result<Decoded, Error> {
    read(&head(asked).expect("a request"), asked.body, access, NOW)
}

/// One of each. The match keeps the list complete: a new variant does not compile until it is here.
pub(super) fn every_error() -> Vec<Error> {
    let all = vec![
        Error::parameter("limit", "must be 1 to 300"),
        Error::Json("expected value at line 1 column 1".into()),
        Error::Event { pointer: "/type".into(), message: "is missing".into() },
        Error::WrongTenant,
        Error::ScopeMissing(PUBLISH),
        Error::NotFound,
        Error::MethodNotAllowed { allow: "GET".into() },
        Error::BodyTooLarge { max: 1 },
        Error::BatchTooLarge,
        Error::UnsupportedMediaType,
        Error::RateLimited { retry_after: Duration::from_millis(1500) },
        Error::CacheUnavailable,
        Error::JobsUnavailable,
        Error::TooManyReceivers,
        Error::TooManyDeliveries,
        Error::Busy,
        Error::Draining,
    ];
    let all: Vec<_> = all.into_iter().chain(Reject::ALL.iter().map(|reject| Error::Token(*reject))).collect();
    let mut variants = std::collections::HashSet::new();
    for error in &all {
        match error {
            Error::Parameter { .. } | Error::Json(_) | Error::Event { .. } | Error::Token(_) => {}
            Error::WrongTenant | Error::ScopeMissing(_) | Error::NotFound | Error::MethodNotAllowed { .. } => {}
            Error::BodyTooLarge { .. } | Error::BatchTooLarge | Error::UnsupportedMediaType => {}
            Error::RateLimited { .. }
            | Error::CacheUnavailable
            | Error::JobsUnavailable
            | Error::TooManyReceivers
            | Error::TooManyDeliveries
            | Error::Busy
            | Error::Draining => {}
        }
        variants.insert(std::mem::discriminant(error));
    }
    assert_eq!(variants.len(), 18, "one of each variant");
    all
}

fn keys() -> Keys {
    Keys::from_secret(b"a secret of at least thirty-two bytes").unwrap()
}

fn access() -> Access {
    Access {
        api_keys: ApiKeys::parse(["everywhere", "acme=ours", "globex=theirs"]).unwrap(),
        keys: Some(keys()),
        policy: Policy::default(),
        bounds: Bounds { room_name_bytes: 32, body_bytes: 100_000 },
    }
}

fn token(tenant: &str, scope: &[&str], ttl: u64, now: UnixMs) -> String {
    let scope: Vec<_> = scope.iter().map(|&scope| scope.to_owned()).collect();
    let claims =
        Mint { tenant, user: "backend", scope: &scope, ttl: Some(Duration::from_secs(ttl)), ..Mint::default() };
    mint(&claims, &keys(), &Policy::default(), now).unwrap()
}

fn get(target: &str) -> Asked<'_> {
    Asked { method: "GET", target, body: b"", content_type: None, bearer: Some("ours") }
}

fn post(body: &[u8]) -> Asked<'_> {
    let target = "/api/v1/tenants/acme/events";
    Asked { method: "POST", target, body, content_type: Some("application/json"), bearer: Some("ours") }
}

fn publish(body: &str) -> Result<Vec<Publish>, Error> {
    match ask(post(body.as_bytes()), &access())? {
        Decoded::Call(tenant, Call::Publish(events)) => {
            assert_eq!(tenant.as_str(), "acme");
            Ok(events)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn calls() {
    let room = |room: &str| Call::Presence { room: room.into() };
    let history = |since: Option<(&str, u64)>, limit| Call::History {
        room: "project:7".into(),
        since: since.map(|(epoch, offset)| (epoch.into(), offset)),
        limit,
    };
    for (method, path, call) in [
        ("GET", "rooms", Call::Rooms),
        ("GET", "rooms/project:7/presence", room("project:7")),
        ("GET", "rooms/project%3A7/presence", room("project:7")),
        ("GET", "rooms/a%2Fb%2fc/presence", room("a/b/c")),
        ("GET", "rooms/caf%C3%A9%20+/presence", room("café +")),
        ("GET", "rooms/100%/presence", room("100%")),
        ("GET", "rooms/history/presence", room("history")),
        ("GET", "rooms/project:7/history", history(None, 100)),
        ("GET", "rooms/project:7/history?limit=300&&", history(None, 300)),
        ("GET", "rooms/project:7/history?offset=0&epoch=a%2Bb+c&limit=1", history(Some(("a+b c", 0)), 1)),
        ("GET", "rooms/project:7/history?epoch=e&offset=18446744073709551615", history(Some(("e", u64::MAX)), 100)),
        ("GET", "users/ana%40acme.test", Call::User { user: "ana@acme.test".into() }),
        ("HEAD", "rooms", Call::Rooms),
        ("DELETE", "users/ana", Call::Kick { user: "ana".into() }),
        ("GET", "stats", Call::Stats),
    ] {
        let path = format!("/api/v1/tenants/acme/{path}");
        let decoded = ask(Asked { method, ..get(&path) }, &access());
        assert_eq!(decoded, Ok(Decoded::Call(TenantId::parse("acme").unwrap(), call)), "{method} {path}");
    }
}

#[test]
fn answers_to_paths_methods_and_parameters() {
    let long = format!("tenants/acme/rooms/{}/presence", "x".repeat(33));
    let long_user = format!("tenants/acme/users/{}", "x".repeat(257));
    let long_name = format!("tenants/acme/rooms?{}=1", "x".repeat(65));
    for (method, path, status, message) in [
        ("GET", "", 404, "nothing at this path"),
        ("GET", "tenants", 404, "nothing"),
        ("GET", "tenants/acme", 404, "nothing"),
        ("GET", "tenants/acme/", 404, "nothing"),
        ("GET", "tenants/acme/nothing", 404, "nothing"),
        ("GET", "tenants/acme/rooms/", 404, "nothing"),
        ("GET", "tenants/acme/rooms//history", 404, "nothing"),
        ("GET", "tenants/acme/rooms/a/b/history", 404, "nothing"),
        ("GET", "tenants/acme/rooms/a/history/", 404, "nothing"),
        ("GET", "tenants//rooms", 404, "nothing"),
        ("GET", "tenants/a%2Fb/rooms", 404, "nothing"),
        ("GET", "openapi.json/", 404, "nothing"),
        ("GET", "tenants/acme/events", 405, "one of: POST"),
        ("PUT", "tenants/acme/users/ana", 405, "one of: GET, HEAD, DELETE"),
        ("OPTIONS", "tenants/acme/stats", 405, "one of: GET, HEAD"),
        ("PATCH", "tenants/acme/stats", 405, "one of: GET, HEAD"),
        ("HEAD", "tenants/acme/events", 405, "one of: POST"),
        ("POST", "openapi.json", 405, "one of: GET"),
        ("GET", &long, 400, "`room` must not be longer than 32 bytes"),
        ("GET", &long_user, 400, "`user` must not be longer than 256 bytes"),
        ("GET", "tenants/acme/rooms?limit=1", 400, "`limit` is not known here"),
        ("GET", &long_name, 400, "`(a long name)` is not known here"),
        ("GET", "tenants/acme/rooms/a/history?ofset=1", 400, "`ofset` is not known"),
        ("GET", "tenants/acme/rooms/a/history?limit=0", 400, "`limit` must be 1 to 300"),
        ("GET", "tenants/acme/rooms/a/history?limit=301", 400, "`limit` must be 1 to 300"),
        ("GET", "tenants/acme/rooms/a/history?limit", 400, "`limit` must be a whole number"),
        ("GET", "tenants/acme/rooms/a/history?limit=1&limit=1", 400, "`limit` is given twice"),
        ("GET", "tenants/acme/rooms/a/history?epoch=e&offset=-1", 400, "`offset` must be a whole number"),
        ("GET", "tenants/acme/rooms/a/history?epoch=e", 400, "`offset` is missing"),
        ("GET", "tenants/acme/rooms/a/history?offset=1", 400, "`epoch` is missing"),
        ("GET", "tenants/acme/rooms/a/history?epoch=&offset=1", 400, "`epoch` must not be empty"),
        ("GET", "tenants/acme/cache/project/7", 503, "needs Redis"),
        ("DELETE", "tenants/acme/cache/project/7", 503, "needs Redis"),
        ("GET", "tenants/acme/jobs", 503, "need Redis"),
        ("POST", "tenants/acme/jobs", 503, "need Redis"),
    ] {
        let full = format!("/api/v1/{path}");
        let error = ask(Asked { method, ..get(&full) }, &access()).expect_err(path);
        assert_eq!(error.row().0, status, "{method} {path}: {error}");
        assert!(error.to_string().contains(message), "{method} {path}: {error}");
    }
    assert_eq!(ask(get("/elsewhere"), &access()), Err(Error::NotFound));
    let open = Asked { bearer: None, ..get("/api/v1/openapi.json") };
    assert_eq!(ask(open, &Access::default()), Ok(Decoded::OpenApi));
}

#[test]
fn bearers() {
    let read_scope = token("acme", &["read"], 60, NOW);
    let publish_scope = token("acme", &["other", "publish"], 60, NOW);
    let admin = token("acme", &["admin"], 60, NOW);
    let none = token("acme", &[], 60, NOW);
    let stranger = token("globex", &["read", "publish", "admin"], 60, NOW);
    let old = token("acme", &["publish"], 60, UnixMs(NOW.0 - 60_000));
    let forged = format!("{}x", &publish_scope[..publish_scope.len() - 1]);
    // Publish, read, kick: the code of the refusal, or nothing.
    let table: &[(Option<&str>, [&str; 3])] = &[
        (None, ["token_missing"; 3]),
        (Some(""), ["token_missing"; 3]),
        (Some("unknown"), ["token_malformed"; 3]),
        (Some(&forged), ["token_invalid"; 3]),
        (Some(&old), ["token_expired"; 3]),
        (Some("theirs"), ["wrong_tenant"; 3]),
        (Some(&stranger), ["wrong_tenant"; 3]),
        (Some("ours"), [""; 3]),
        (Some("everywhere"), [""; 3]),
        (Some(&none), ["scope_missing"; 3]),
        (Some(&read_scope), ["scope_missing", "", "scope_missing"]),
        (Some(&publish_scope), ["", "", "scope_missing"]),
        (Some(&admin), ["scope_missing", "scope_missing", ""]),
    ];
    for (bearer, codes) in table {
        let (rooms, ana) = (get("/api/v1/tenants/acme/rooms"), get("/api/v1/tenants/acme/users/ana"));
        let requests = [post(br#"{"type":"t"}"#), rooms, Asked { method: "DELETE", ..ana }];
        for (request, code) in requests.into_iter().zip(codes) {
            let answer = ask(Asked { bearer: *bearer, ..request }, &access());
            let answer = answer.as_ref().err().map_or("", |error| error.row().1);
            assert_eq!(answer, *code, "{} by {bearer:?}", request.method);
        }
    }
    // Without keys for tokens only API keys open anything, and without either nothing does.
    let closed = Access { keys: None, ..access() };
    let request = Asked { bearer: Some(&publish_scope), ..get("/api/v1/tenants/acme/rooms") };
    assert_eq!(ask(request, &closed), Err(Error::Token(Reject::Invalid)));
    assert_eq!(ask(request, &Access::default()), Err(Error::Token(Reject::Invalid)));
    // The bearer is looked at before the body.
    assert_eq!(ask(Asked { bearer: None, ..post(b"{") }, &access()), Err(Error::Token(Reject::Missing)));
}

#[test]
fn events() {
    let base = || Publish { event: "t".into(), data: "null".into(), ..Publish::default() };
    let entity = || Some(("task".into(), "9".into()));
    for (body, events) in [
        (r#"{"type":"t"}"#, vec![base()]),
        (r#" [ {"type":"t"} ] "#, vec![base()]),
        (r#"{"type":"t","data":null}"#, vec![base()]),
        (r#"{"type":"t","room":"project:7"}"#, vec![Publish { room: Some("project:7".into()), ..base() }]),
        (r#"{"type":"t","user":"ana"}"#, vec![Publish { user: Some("ana".into()), ..base() }]),
        (r#"{"type":"t","entity":{"id":"9","type":"task"}}"#, vec![Publish { entity: entity(), ..base() }]),
        (
            r#"{"type":"t","room":"r","entity":{"type":"task","id":"9"}}"#,
            vec![Publish { room: Some("r".into()), entity: entity(), ..base() }],
        ),
        (r#"{"\u0074ype":"\u0074","id":"n-1"}"#, vec![Publish { id: Some("n-1".into()), ..base() }]),
        (r#"{"type":"t","ephemeral":true}"#, vec![Publish { ephemeral: true, ..base() }]),
        (r#"{"type":"t","ephemeral":false}"#, vec![base()]),
        (r#"{"type":"t","ack":{}}"#, vec![Publish { ack: Some(Ack { timeout_ms: 5000, retries: 2 }), ..base() }]),
        (
            r#"{"type":"t","ack":{"retries":0,"timeoutMs":100},"ephemeral":false}"#,
            vec![Publish { ack: Some(Ack { timeout_ms: 100, retries: 0 }), ..base() }],
        ),
        (
            r#"{"type":"t","to":{"permissions":["p"],"roles":["a","b"]}}"#,
            vec![Publish { to_roles: vec!["a".into(), "b".into()], to_permissions: vec!["p".into()], ..base() }],
        ),
        // The producer's own text: order, repeated keys, big numbers, escapes, blanks inside.
        (
            r#"{"type":"t","data": {"b":1, "a":12345678901234567890123,"a":"\u00e9\ud800" } }"#,
            vec![Publish { data: r#"{"b":1, "a":12345678901234567890123,"a":"\u00e9\ud800" }"#.into(), ..base() }],
        ),
        (
            r#"[{"type":"a","data":[1]},{"type":"b","data":"x"}]"#,
            vec![
                Publish { event: "a".into(), data: "[1]".into(), ..base() },
                Publish { event: "b".into(), data: "\"x\"".into(), ..base() },
            ],
        ),
    ] {
        assert_eq!(publish(body), Ok(events), "{body}");
    }
    let batch = |count: usize| format!("[{}]", vec![r#"{"type":"t"}"#; count].join(","));
    assert_eq!(publish(&batch(100)).map(|events| events.len()), Ok(100));
    assert_eq!(publish(&batch(101)), Err(Error::BatchTooLarge));
    // 128 levels: the event's own object and 127 of its data.
    let nested = |levels: usize| format!("{{\"type\":\"t\",\"data\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
    assert!(publish(&nested(JSON_DEPTH_MAX - 1)).is_ok());
    assert_eq!(publish(&nested(JSON_DEPTH_MAX)).map_err(|error| error.row().1), Err("invalid_json"));
}

#[test]
fn events_that_are_refused_name_the_value() {
    let text = |length: usize| "x".repeat(length);
    let long = |key: &str, length: usize| format!(r#"{{"type":"t","{key}":"{}"}}"#, text(length));
    let long_key = format!(r#"{{"type":"t","{}":1}}"#, text(257));
    let crowd = format!(r#"{{"type":"t","to":{{"roles":[{}]}}}}"#, vec!["\"a\""; 257].join(","));
    for (body, pointer, message) in [
        ("1", "", "must be an event or an array"),
        ("[]", "", "at least one event"),
        ("{}", "/type", "is missing"),
        ("[{\"type\":\"t\"},1]", "/1", "must be an object"),
        (r#"[{"type":"t"},{"type":"t"},{"type":"t"},{"room":"r"}]"#, "/3/type", "is missing"),
        (r#"{"type":"t","Room":"r"}"#, "/Room", "is not known; the keys are id, type,"),
        (r#"{"type":"t","a/b~c":1}"#, "/a~1b~0c", "is not known"),
        (&long_key, "", "a key is not known"),
        (r#"{"type":"t","room":"a","room":"b"}"#, "/room", "is given twice"),
        (r#"{"type":"t","room":null}"#, "/room", "must be a string"),
        (r#"{"type":"t","room":""}"#, "/room", "must not be empty"),
        (&long("room", 33), "/room", "longer than 32 bytes"),
        (&long("user", 257), "/user", "longer than 256 bytes"),
        (&long("id", 257), "/id", "longer than 256 bytes"),
        (r#"{"type":"t","id":"a b"}"#, "/id", "must be printable"),
        (r#"{"type":"t","id":"a\u0000"}"#, "/id", "must be printable"),
        (r#"{"type":"t","id":7}"#, "/id", "must be a string"),
        (r#"{"type":""}"#, "/type", "must not be empty"),
        (r#"{"type":"a\nb"}"#, "/type", "control characters"),
        (r#"{"type":"disconnecting"}"#, "/type", "reserved"),
        (r#"{"type":"t","room":"r","user":"u"}"#, "/user", "exclude each other"),
        (r#"{"type":"t","user":"u","entity":{"type":"a","id":"b"}}"#, "/entity", "exclude each other"),
        (r#"{"type":"t","entity":{"type":"a"}}"#, "/entity/id", "is missing"),
        (r#"{"type":"t","entity":{"type":"a","id":1}}"#, "/entity/id", "must be a string"),
        (r#"{"type":"t","entity":{"kind":"a","id":"b"}}"#, "/entity/kind", "the keys are type, id"),
        (r#"{"type":"t","entity":"task:9"}"#, "/entity", "must be an object"),
        (r#"{"type":"t","ephemeral":1}"#, "/ephemeral", "must be true or false"),
        (r#"{"type":"t","ack":true}"#, "/ack", "must be an object"),
        (r#"{"type":"t","ack":{"timeoutMs":99}}"#, "/ack/timeoutMs", "100 to 20000"),
        (r#"{"type":"t","ack":{"retries":6}}"#, "/ack/retries", "0 to 5"),
        (r#"{"type":"t","ack":{"retries":-1}}"#, "/ack/retries", "0 to 5"),
        (r#"{"type":"t","ack":{"tries":1}}"#, "/ack/tries", "the keys are timeoutMs, retries"),
        (r#"{"type":"t","ack":{},"ephemeral":true}"#, "/ack", "exclude each other"),
        (r#"{"type":"t","to":{}}"#, "/to", "must name roles or permissions"),
        (r#"{"type":"t","to":{"roles":[]}}"#, "/to/roles", "must not be empty"),
        (r#"{"type":"t","to":{"roles":"a"}}"#, "/to/roles", "must be an array of strings"),
        (r#"[{"type":"t","to":{"permissions":["a",2]}}]"#, "/0/to/permissions/1", "must be a string"),
        (&crowd, "/to/roles", "at most 256"),
    ] {
        match publish(body) {
            Err(Error::Event { pointer: found, message: text }) => {
                assert_eq!(found, pointer, "{body}");
                assert!(text.contains(message), "{body}: {text}");
            }
            other => panic!("{body}: {other:?}"),
        }
    }
    for reserved in RESERVED_TYPES {
        assert!(publish(&format!(r#"{{"type":"{reserved}"}}"#)).is_err(), "{reserved}");
    }
}

#[test]
fn bodies_that_are_refused_as_a_whole() {
    for (body, message) in [
        (&b""[..], "at line 1 column 0"),
        (b"{\"type\":\"t\",\n \"room\" \"r\"}", "at line 2 column 9"),
        (b"{\"type\":\"t\"} x", "trailing characters at line 1 column 14"),
        (b"{\"type\":\"t\",}", "line 1"),
        (b"\xEF\xBB\xBF{}", "line 1 column 1"),
        (b"{\"type\":\"\xFF\"}", "not UTF-8 after byte 9"),
    ] {
        match ask(post(body), &access()) {
            Err(Error::Json(text)) => assert!(text.contains(message), "{text}"),
            other => panic!("{other:?}"),
        }
    }
    let mut exact = br#"{"type":"t"}"#.to_vec();
    exact.resize(100_000, b' ');
    assert!(ask(post(&exact), &access()).is_ok());
    exact.push(b' ');
    assert_eq!(ask(post(&exact), &access()), Err(Error::BodyTooLarge { max: 100_000 }));
    let unbounded = Access { bounds: Bounds::default(), ..access() };
    assert!(ask(post(&exact), &unbounded).is_ok());

    for (content_type, fits) in [
        (Some("application/json"), true),
        (Some("Application/JSON; charset=utf-8"), true),
        (None, false),
        (Some(""), false),
        (Some("text/plain"), false),
        (Some("application/x-www-form-urlencoded"), false),
        (Some("application/jsonp"), false),
    ] {
        let answer = ask(Asked { content_type, ..post(br#"{"type":"t"}"#) }, &access());
        assert_eq!(answer.is_ok(), fits, "{content_type:?}");
        assert!(fits || answer == Err(Error::UnsupportedMediaType));
    }
}

#[test]
fn errors_as_bytes() {
    for (error, body, header) in [
        (
            Error::Event { pointer: "/3/a\"b".into(), message: "is \"wrong\"".into() },
            r#"{"code":"invalid_event","message":"is \"wrong\"","pointer":"/3/a\"b"}"#,
            None,
        ),
        (
            Error::Token(Reject::Missing),
            r#"{"code":"token_missing","message":"no token was sent","data":{"code":"token_missing"}}"#,
            Some(("WWW-Authenticate", "Bearer")),
        ),
        (
            Error::Token(Reject::Expired),
            r#"{"code":"token_expired","message":"the token has expired","data":{"code":"token_expired"}}"#,
            Some(("WWW-Authenticate", "Bearer error=\"invalid_token\"")),
        ),
        (
            Error::MethodNotAllowed { allow: "GET, HEAD, DELETE".into() },
            r#"{"code":"method_not_allowed","message":"the method is not one of: GET, HEAD, DELETE"}"#,
            Some(("Allow", "GET, HEAD, DELETE")),
        ),
        (
            Error::RateLimited { retry_after: Duration::from_millis(1001) },
            r#"{"code":"rate_limited","message":"too many events in this tenant"}"#,
            Some(("Retry-After", "2")),
        ),
    ] {
        assert_eq!(String::from_utf8(error.body()).unwrap(), body);
        assert_eq!(error.header(), header.map(|(name, value)| (name, value.to_owned())));
    }
    for error in every_error() {
        let body: serde_json::Value = serde_json::from_slice(&error.body()).unwrap();
        assert_eq!(body["code"], error.row().1);
    }
}

#[test]
fn answers_as_responses() {
    let answer = |asked: Asked<'_>| decode(&head(asked).unwrap(), asked.body, &access(), NOW);
    let document = answer(get("/api/v1/openapi.json")).unwrap_err();
    assert_eq!((document.status, document.content_type), (200, Some("application/json")));
    assert_eq!(&*document.body, openapi::TEXT.as_bytes());
    let refused = answer(Asked { bearer: None, ..get("/api/v1/tenants/acme/rooms") }).unwrap_err();
    assert_eq!((refused.status, refused.no_store), (401, true));
    assert_eq!(refused.extra, [("WWW-Authenticate", "Bearer".to_owned())]);
    let (tenant, call) = answer(get("/api/v1/tenants/acme/stats")).unwrap();
    assert_eq!((tenant.as_str(), call), ("acme", Call::Stats));
}

/// Valid requests, cut, spliced and flipped: every one is answered, none panics, and what is accepted keeps its promises.
#[test]
fn no_bytes_make_it_panic() {
    let seeds: &[&[u8]] = &[
        br#"[{"id":"1","type":"t","room":"r","entity":{"type":"a","id":"b"},"data":{"x":[1,2.5e3,"\ud83d\ude00"]},"ephemeral":true}]"#,
        br#"{"type":"t","user":"u","to":{"roles":["a"],"permissions":["b"]}}"#,
        "{\"type\":\"\u{e9}\u{1F600}\",\"data\":\"\\\\\\\"\"}".as_bytes(),
        br#"[[[{"a":"b"},{"type":1}],null,true],-0.1e-5]"#,
    ];
    let alphabet = br#"{}[]":,\ nulltruefalse0129.eE+-/%&=?~"#;
    let mut chance = Chance::new([9; 32]);
    let (mut accepted, mut refused, mut asked) = (0, 0, 0);
    let (access, publish) = (access(), head(post(b"")).unwrap());
    for _ in 0..20_000 {
        let mut bytes = seeds[chance.below(seeds.len() as u64) as usize].to_vec();
        for _ in 0..chance.below(4) {
            let at = chance.below(bytes.len() as u64 + 1) as usize;
            match chance.below(5) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, alphabet[chance.below(alphabet.len() as u64) as usize]),
                2 => bytes.insert(at, chance.below(256) as u8),
                3 if at < bytes.len() => drop(bytes.remove(at)),
                _ => {
                    let other = seeds[chance.below(seeds.len() as u64) as usize];
                    let from = chance.below(other.len() as u64) as usize;
                    bytes.splice(at.., other[from..].iter().copied());
                }
            }
        }
        match read(&publish, &bytes, &access, NOW) {
            Ok(Decoded::Call(_, Call::Publish(events))) => {
                accepted += 1;
                assert!((1..=PUBLISH_BATCH_MAX).contains(&events.len()));
                for event in events {
                    assert!(
                        !event.event.is_empty() && serde_json::from_str::<serde::de::IgnoredAny>(&event.data).is_ok()
                    );
                    assert!(String::from_utf8_lossy(&bytes).contains(&*event.data) || &*event.data == "null");
                }
            }
            Ok(other) => panic!("{other:?}"),
            Err(error) => {
                refused += 1;
                assert!([400, 413].contains(&error.row().0), "{error}");
                assert!(serde_json::from_slice::<serde_json::Value>(&error.body()).is_ok());
            }
        }
        // The same bytes as a path and a query.
        let text = String::from_utf8_lossy(&bytes);
        let targets = [
            format!("/api/v1/tenants/acme/rooms/{text}/history?{text}"),
            format!("/api/v1/tenants/acme/rooms/r/history?{text}"),
            format!("/api/v1/{text}"),
        ];
        for request in targets.iter().filter_map(|target| head(get(target))) {
            asked += 1;
            let _ = read(&request, b"", &access, NOW);
        }
    }
    assert!(asked > 1000, "{asked} paths");
    assert!(accepted > 1000 && refused > 1000, "{accepted} accepted, {refused} refused");
}
