//! What the control plane does over real sockets: webhooks signed, repeated, bounded and given up; a backend that decides who joins.
//!
//! The server is of this process, because its settings come from a profile otherwise. The application is a listener that answers as it is told.

use crate::peer::Peer;
use crate::server::{API_KEY, SECRET, SOON, token, until};
use aws_lc_rs::hmac;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
    mpsc,
};
use std::thread;
use std::time::Duration;
use tenantcast::boot::{Handle, Server, unix_now};
use tenantcast::config::{Config, Env, Sources};
use tenantcast::control_plane::{BackendSettings, HookSettings, Secret, Settings};
use tenantcast::data_plane::Ended;
use tenantcast::profile::template::Template;
use tenantcast::shard::app::{App, Args, Context};
use tenantcast::shard::default_app;
use tenantcast::shard::listener::{Action, ListenerSettings};
use tenantcast::wire::{auth::Pattern, json};

const KEY: &str = "the application's key of 32 bytes";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// A request that the application has got.
#[derive(Debug)]
struct Request {
    path: String,
    head: Vec<String>,
    body: String,
    /// How many there were when it came, this one too.
    at_once: usize,
}

impl Request {
    fn header(&self, name: &str) -> &str {
        let line = self.head.iter().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        line.unwrap_or_else(|| panic!("no {name} in {:?}", self.head))
    }

    /// Checked as any receiver would, with nothing but the key.
    fn assert_signed(&self) {
        let signature = self.header("tenantcast-signature");
        let (t, v1) = signature.strip_prefix("t=").and_then(|rest| rest.split_once(",v1=")).expect("t and v1");
        let tag: Vec<u8> =
            (0..v1.len() / 2).map(|n| u8::from_str_radix(&v1[2 * n..2 * n + 2], 16).expect("hex")).collect();
        let key = hmac::Key::new(hmac::HMAC_SHA256, KEY.as_bytes());
        hmac::verify(&key, format!("{t}.{}", self.body).as_bytes(), &tag).expect("the signature is of this body");
        assert!(unix_now().seconds().abs_diff(t.parse().expect("a number")) < 60);
    }
}

/// An application's HTTP server.
struct Application {
    address: SocketAddr,
    requests: mpsc::Receiver<Request>,
}

impl Application {
    /// Answers each request, by its number from 0, with what `answer` says; with nothing, it hangs up.
    fn start(answer: impl Fn(usize, &str) -> String + Send + Sync + 'static) -> Application {
        let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
        let address = listener.local_addr().expect("bound");
        let (sender, requests) = mpsc::channel();
        let (answer, number, at_once) =
            (Arc::new(answer), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, number, at_once) = (answer.clone(), number.clone(), at_once.clone());
                let sender = sender.clone();
                thread::spawn(move || {
                    let mut stream = BufReader::new(stream);
                    while let Some(mut request) = read(&mut stream) {
                        request.at_once = at_once.fetch_add(1, Ordering::SeqCst) + 1;
                        let body = request.body.clone();
                        // The test may be over.
                        let _ = sender.send(request);
                        let text = answer(number.fetch_add(1, Ordering::SeqCst), &body);
                        at_once.fetch_sub(1, Ordering::SeqCst);
                        if text.is_empty() || stream.get_mut().write_all(text.as_bytes()).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Application { address, requests }
    }

    fn next(&self) -> Request {
        self.requests.recv_timeout(SOON).expect("a request")
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

fn read(stream: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = || {
        let mut line = String::new();
        let count = stream.read_line(&mut line).ok()?;
        (count > 0).then(|| line.trim_end().to_owned())
    };
    let first = line()?;
    let mut head = Vec::new();
    loop {
        let line = line()?;
        if line.is_empty() {
            break;
        }
        head.push(line);
    }
    let length = head.iter().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    let path = first.strip_prefix("POST ")?.split(' ').next()?.to_owned();
    Some(Request { path, head, body: String::from_utf8(body).ok()?, at_once: 0 })
}

fn hook(url: String) -> HookSettings {
    let secret = Secret::parse(KEY).expect("long enough");
    HookSettings { backoff: Duration::from_millis(5), ..HookSettings::new("crm", &url, secret) }
}

fn backend(url: String) -> Settings {
    let secret = Secret::parse(KEY).expect("long enough");
    Settings { hooks: Vec::new(), backend: Some(BackendSettings::new(&url, secret)) }
}

fn hooks(hook: HookSettings) -> Settings {
    Settings { hooks: vec![hook], backend: None }
}

/// A server whose listener tells the first hook of every `ticket`, and whose event `join` asks the backend.
fn start(control: Settings) -> Handle {
    let given = [("HOST", "127.0.0.1"), ("PORT", "0"), ("ADMIN_PORT", "0"), ("SHARDS", "2"), ("JWT_SECRET", SECRET)];
    let given = given.iter().chain(&[("API_KEYS", API_KEY)]);
    let env = Env::new(given.map(|&(name, value)| (name.into(), value.into())));
    let config = Config::load(&Sources { file: None, flags: Vec::new(), env }).expect("a configuration");
    let mut actions = vec![Action::Emit {
        event: "copy".into(),
        room: Template::parse("user:{user}").expect("a template"),
        data: None,
        ephemeral: true,
    }];
    if !control.hooks.is_empty() {
        actions.push(Action::Webhook { hook: 0 });
    }
    let listener = ListenerSettings {
        name: "tickets".into(),
        on: vec![Pattern::parse("ticket").expect("a pattern")],
        when: Vec::new(),
        actions,
    };
    let server = Server::new(config).app(app).control(control).listeners([listener]);
    server.spawn().expect("starts")
}

fn app() -> App {
    default_app(["/"]).namespace("/", |namespace| {
        namespace.on("join", |socket: &mut Context<'_>, args: Args<'_>| {
            let room = args.first().and_then(json::string).unwrap_or_default().into_owned();
            socket.join_authorized(&room, "join", |socket, joined| match joined {
                Ok(()) => socket.ack("{\"ok\":true}"),
                Err(refusal) => socket.refuse(&refusal),
            });
        });
    })
}

fn connect(server: &Handle, user: &str) -> Peer {
    Peer::websocket(server.addr(), &format!("/ws?token={}", token("acme", user)))
}

/// The answer to an event.
fn ask(peer: &mut Peer, event: &str, data: &str) -> String {
    peer.send_frame(0x81, format!(r#"{{"event":"{event}","data":{data},"id":7}}"#).as_bytes());
    loop {
        let text = peer.next_text();
        if text.contains(r#""ack":7"#) {
            return text;
        }
    }
}

fn publish(peer: &mut Peer, data: &str) {
    let answer = ask(peer, "publish", &format!(r#"{{"room":"r","type":"ticket","data":{data}}}"#));
    assert!(answer.contains(r#""ok":true"#), "{answer}");
}

/// A number of `/metrics` over all shards.
fn number(server: &Handle, name: &str) -> u64 {
    let mut peer = Peer::connect(server.admin_addr());
    peer.send(format!(
        "GET /metrics HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {API_KEY}\r\nConnection: close\r\n\r\n"
    ));
    let text = peer.read_to_end();
    let lines = text.lines().filter(|line| line.starts_with(&format!("tenantcast_{name}")));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

fn end(server: Handle) {
    server.stop();
    server.wait().expect("no shard has failed");
}

#[test]
fn an_event_is_told_again_until_it_is_taken() {
    let application = Application::start(|number, _| match number {
        0 => "HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\nno".into(),
        1 => String::new(),
        2 => "HTTP/1.1 503 Later\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n".into(),
        3 => "HTTP/1.1 429 Slow\r\nContent-Length: 0\r\n\r\n".into(),
        _ => OK.into(),
    });
    let server = start(hooks(hook(application.url("/hook?a=b"))));
    let mut peer = connect(&server, "ana");
    publish(&mut peer, r#"{"id":7,"text":"é\"\n"}"#);
    let requests: Vec<Request> = (0..5).map(|_| application.next()).collect();
    for request in &requests {
        request.assert_signed();
        assert_eq!(request.path, "/hook?a=b");
        assert_eq!(request.header("content-type"), "application/json");
        assert_eq!(request.header("tenantcast-id"), requests[0].header("tenantcast-id"), "a repetition can be told");
        assert_eq!(request.body, requests[0].body);
    }
    let body = &requests[0].body;
    for part in
        [r#"{"tenant":"acme","id":""#, r#""type":"ticket""#, r#""room":"r""#, r#""user":"ana""#, r#""offset":1"#]
    {
        assert!(body.contains(part), "{part} in {body}");
    }
    assert!(body.ends_with(r#","data":{"id":7,"text":"é\"\n"}}"#), "{body}");
    until("it is counted", || number(&server, "webhooks_delivered_total") == 1);
    assert_eq!(number(&server, "webhook_attempts_retried_total"), 4);
    end(server);
}

#[test]
fn what_is_not_wanted_is_not_repeated_and_nobody_is_sent_elsewhere() {
    let elsewhere = Application::start(|_, _| OK.into());
    let location = elsewhere.url("/");
    let application = Application::start(move |number, _| match number {
        0 => format!("HTTP/1.1 307 There\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"),
        1 => "HTTP/1.1 400 No\r\nContent-Length: 0\r\n\r\n".into(),
        2 => "nonsense\r\n\r\n".into(),
        _ => OK.into(),
    });
    let server = start(hooks(HookSettings { attempts: 1, ..hook(application.url("/")) }));
    let mut peer = connect(&server, "ana");
    for dead in 1..=3 {
        publish(&mut peer, "1");
        application.next();
        until("it is given up", || number(&server, "webhooks_dead_total") == dead);
    }
    publish(&mut peer, "1");
    until("the next is taken", || number(&server, "webhooks_delivered_total") == 1);
    assert!(elsewhere.requests.try_recv().is_err());
    end(server);
}

#[test]
fn at_most_so_many_at_once_and_a_line_that_ends() {
    let (open, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let application = Application::start(move |_, _| {
        // Waits until the test lets one more go.
        let _ = gate.lock().expect("no test panicked").recv_timeout(SOON);
        OK.into()
    });
    let server = start(hooks(HookSettings { at_once: 2, waiting_max: 3, ..hook(application.url("/")) }));
    let mut peer = connect(&server, "ana");
    // The first two are with the application, three wait, two are too many. Nobody waits for them: each is acknowledged.
    for n in 0..7 {
        publish(&mut peer, &n.to_string());
    }
    until("two found the line full", || number(&server, "webhooks_dropped_total") == 2);
    let mut requests = vec![application.next(), application.next()];
    assert!(application.requests.try_recv().is_err(), "the others wait");
    for _ in 0..5 {
        open.send(()).expect("the application runs");
    }
    requests.extend((0..3).map(|_| application.next()));
    until("all are taken", || number(&server, "webhooks_delivered_total") == 5);
    assert_eq!(requests.iter().map(|request| request.at_once).max(), Some(2));
    let mut numbers: Vec<&str> = requests.iter().filter_map(|request| request.body.rsplit(":").next()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, ["0}", "1}", "2}", "3}", "4}"], "the oldest are kept");
    end(server);
}

#[test]
fn a_hook_that_never_answers_holds_up_nobody() {
    let (open, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let application = Application::start(move |_, _| {
        let _ = gate.lock().expect("no test panicked").recv_timeout(SOON);
        OK.into()
    });
    let settings = HookSettings { attempts: 2, timeout: Duration::from_millis(50), ..hook(application.url("/")) };
    let server = start(hooks(settings));
    let mut peer = connect(&server, "ana");
    publish(&mut peer, "1");
    until("it is given up", || number(&server, "webhooks_dead_total") == 1);
    assert_eq!(number(&server, "webhook_attempts_retried_total"), 1);
    publish(&mut peer, "2");
    drop(open);
    end(server);
}

#[test]
fn a_drain_delivers_what_it_can() {
    let (open, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let application = Application::start(move |_, _| {
        let _ = gate.lock().expect("no test panicked").recv_timeout(SOON);
        OK.into()
    });
    let server = start(hooks(HookSettings { at_once: 1, ..hook(application.url("/")) }));
    let mut peer = connect(&server, "ana");
    for n in 0..3 {
        publish(&mut peer, &n.to_string());
    }
    application.next();
    server.drain();
    drop(peer);
    let waits = thread::spawn(move || server.wait());
    // The second and the third are told while it drains.
    for _ in 0..3 {
        open.send(()).expect("the application runs");
    }
    application.next();
    application.next();
    assert_eq!(waits.join().expect("no panic").expect("no shard has failed"), Ended::Drained);
}

#[test]
fn the_backend_decides_who_joins() {
    let application = Application::start(|_, body| {
        let (status, answer) = match body {
            body if body.contains("\"room\":\"open\"") => ("200 OK", "{\"allow\":true}"),
            body if body.contains("\"room\":\"once\"") => ("200 OK", "{\"allow\":true,\"ttl_s\":0}"),
            body if body.contains("\"room\":\"closed\"") => ("200 OK", "{\"allow\":false}"),
            body if body.contains("\"room\":\"gone\"") => ("404 Not Found", ""),
            body if body.contains("\"room\":\"broken\"") => ("500 Oh", "{\"allow\":true}"),
            _ => ("200 OK", "{\"allow\":\"yes\"}"),
        };
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{answer}", answer.len())
    });
    let server = start(backend(application.url("/join")));
    let (mut ana, mut again, mut ben) = (connect(&server, "ana"), connect(&server, "ana"), connect(&server, "ben"));
    let (yes, no, unavailable) = ("\"ok\":true", "\"forbidden\"", "\"backend_unavailable\"");
    let asked = |server: &Handle| number(server, "backend_asked_total");
    let table = [
        (0, "open", yes, 1),
        // Another connection of the same user: known. Another user: not.
        (1, "open", yes, 0),
        (2, "open", yes, 1),
        (0, "once", yes, 1),
        (1, "once", yes, 1),
        (0, "closed", no, 1),
        (1, "closed", no, 0),
        (0, "gone", no, 1),
        (0, "broken", unavailable, 1),
        (0, "broken", unavailable, 1),
        (0, "odd", unavailable, 1),
    ];
    for (who, room, want, questions) in table {
        let before = asked(&server);
        let peer = [&mut ana, &mut again, &mut ben].into_iter().nth(who).expect("one of three");
        let answer = ask(peer, "join", &format!("\"{room}\""));
        assert!(answer.contains(want), "{room}: {answer}");
        assert_eq!(asked(&server) - before, questions, "{room}");
        if questions == 1 {
            let request = application.next();
            request.assert_signed();
            assert_eq!(request.path, "/join");
            let user = if who == 2 { "ben" } else { "ana" };
            assert_eq!(
                request.body,
                format!(
                    r#"{{"tenant":"acme","user":"{user}","room":"{room}","event":"join","roles":[],"permissions":["publish"]}}"#
                )
            );
        }
    }
    end(server);
}

#[test]
fn without_an_answer_nobody_joins() {
    // An address where nobody listens any more.
    let gone = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("binds");
    let (open, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let silent = Application::start(move |_, _| {
        let _ = gate.lock().expect("no test panicked").recv_timeout(SOON);
        String::new()
    });
    for url in [format!("http://{gone}/"), silent.url("/")] {
        let mut settings = backend(url);
        settings.backend.as_mut().expect("just made").timeout = Duration::from_millis(100);
        let server = start(settings);
        let mut peer = connect(&server, "ana");
        let answer = ask(&mut peer, "join", "\"r\"");
        assert!(answer.contains("\"backend_unavailable\""), "{answer}");
        // Everything else goes on.
        publish(&mut peer, "1");
        assert_eq!(number(&server, "backend_failed_total"), 1);
        end(server);
    }
    drop(open);
}

#[test]
fn settings_that_cannot_work_are_refused_at_start() {
    let config = || {
        let given = [("HOST", "127.0.0.1"), ("PORT", "0"), ("ADMIN_PORT", "0"), ("JWT_SECRET", SECRET)];
        let env = Env::new(given.map(|(name, value)| (name.into(), value.into())));
        Config::load(&Sources { file: None, flags: Vec::new(), env }).expect("a configuration")
    };
    let listener = ListenerSettings {
        name: "tickets".into(),
        on: Vec::new(),
        when: Vec::new(),
        actions: vec![Action::Webhook { hook: 0 }],
    };
    let error = Server::new(config()).listeners([listener]).spawn().err().expect("refused").to_string();
    assert_eq!(error, "listener `tickets` calls webhook 0, and there is none");
    let error =
        Server::new(config()).control(hooks(hook("ftp://a/".into()))).spawn().err().expect("refused").to_string();
    assert!(error.starts_with("webhook `crm`: the URL is"), "{error}");
    assert!(!error.contains(KEY));
}
