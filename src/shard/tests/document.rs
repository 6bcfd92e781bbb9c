//! Documents as clients see them: what is answered, who is told, in which order.

use super::*;
use crate::profile::template::Template;
use crate::shard::document::{DocumentRule, Strategy};
use crate::wire::auth::Pattern;

/// Documents `m*` by hand, `r*` never over another's write, all others by time.
fn rig() -> Rig {
    Rig::with(|settings| {
        let rule = |strategy| DocumentRule { strategy, ..DocumentRule::default() };
        let rules = &mut settings.documents.rules;
        rules.insert(0, (Pattern::parse("m*").unwrap(), rule(Strategy::Manual)));
        rules.insert(1, (Pattern::parse("r*").unwrap(), rule(Strategy::Reject)));
    })
}

impl Rig {
    /// Emits and gives the answer; what else came before it stays for [`Rig::told`].
    fn ask(&mut self, conn: ConnKey, event: &str, argument: &str) -> String {
        self.say(conn, &format!("427[\"{event}\",{argument}]"));
        let inbox = self.inbox.entry(conn).or_default();
        let at = inbox.iter().position(|packet| packet.starts_with("437[")).expect("an answer");
        let answer = inbox.remove(at);
        answer["437[".len()..answer.len() - 1].to_owned()
    }

    fn told(&mut self, conn: ConnKey) -> Vec<String> {
        let hidden = |packet: &String| !packet.contains("\"user:online\"");
        let strip = |packet: String| packet.replace(&format!(",\"epoch\":\"{}\"", epoch(&packet)), "");
        self.take(conn).into_iter().filter(hidden).map(strip).collect()
    }

    fn update(&mut self, conn: ConnKey, document: &str, base: u64, at: u64, fields: &str) -> String {
        let argument =
            format!("{{\"document\":\"{document}\",\"baseVersion\":{base},\"fields\":{fields},\"timestamp\":{at}}}");
        let answer = self.ask(conn, "document:update", &argument);
        answer.replace(&format!(",\"epoch\":\"{}\"", epoch(&answer)), "")
    }

    fn opened(&mut self, user: &str, document: &str) -> ConnKey {
        let conn = self.client("acme", user);
        self.ask(conn, "document:open", &format!("{{\"document\":\"{document}\"}}"));
        conn
    }
}

fn epoch(text: &str) -> String {
    if text.contains("\"epoch\"") { field(text, "epoch").to_owned() } else { "none".to_owned() }
}

const AT: u64 = 1_699_999_999_000;

#[test]
fn an_update_is_told_to_the_others() {
    let mut rig = rig();
    let (a, b) = (rig.opened("a", "d"), rig.opened("b", "d"));
    let elsewhere = rig.client("globex", "c");
    rig.ask(elsewhere, "document:open", "{\"document\":\"d\"}");
    rig.drop_all();
    assert_eq!(rig.update(a, "d", 0, AT, "{\"t\":\"x\",\"n\":1}"), "{\"ok\":true,\"document\":\"d\",\"version\":1}");
    assert_eq!(rig.update(b, "d", 1, AT, "{\"n\":{\"a\": 2}}"), "{\"ok\":true,\"document\":\"d\",\"version\":2}");
    // Merged: it gets what it has not seen.
    let merged = rig.update(a, "d", 1, AT, "{\"t\":\"y\"}");
    assert_eq!(merged, "{\"ok\":true,\"document\":\"d\",\"version\":3,\"fields\":{\"n\":{\"a\": 2}}}");
    assert_eq!(
        rig.told(b),
        [
            format!(
                "42[\"document:updated\",{{\"document\":\"d\",\"version\":1,\"fields\":{{\"n\":1,\"t\":\"x\"}},\"user\":\"a\",\"timestamp\":{AT}}}]"
            ),
            format!(
                "42[\"document:updated\",{{\"document\":\"d\",\"version\":3,\"fields\":{{\"t\":\"y\"}},\"user\":\"a\",\"timestamp\":{AT}}}]"
            ),
        ]
    );
    assert_eq!(rig.told(a).len(), 1, "not its own");
    assert_eq!(rig.told(elsewhere), [""; 0], "another tenant's document of the same name is another document");
    let whole = rig.ask(elsewhere, "document:get", "{\"document\":\"d\"}");
    assert_eq!(field(&whole, "code"), "unknown_document");
    let whole = rig.ask(b, "document:get", "{\"document\":\"d\"}");
    assert!(whole.ends_with("\"fields\":{\"n\":{\"a\": 2},\"t\":\"y\"},\"conflicts\":[]}"), "{whole}");
    rig.ask(b, "document:close", "{\"document\":\"d\"}");
    rig.update(a, "d", 3, AT, "{\"t\":\"z\"}");
    assert_eq!(rig.told(b), [""; 0], "closed");
}

#[test]
fn the_last_write_wins_and_everybody_is_told() {
    let mut rig = rig();
    let (a, b, c) = (rig.opened("a", "d"), rig.opened("b", "d"), rig.client("acme", "c"));
    rig.update(a, "d", 0, AT, "{\"t\":1,\"n\":1}");
    rig.update(a, "d", 1, AT + 10, "{\"t\":2}");
    rig.drop_all();
    // c has it not open, and loses one of two fields.
    let answer = rig.update(c, "d", 1, AT + 9, "{\"t\":3,\"n\":3}");
    let clash = "\"strategy\":\"last-write-wins\",\"conflictedFields\":[\"t\"],\"originalValue\":{\"t\":2},\"incomingValue\":{\"t\":3},\"resolvedValue\":{\"t\":2}";
    assert_eq!(answer, format!("{{\"ok\":true,\"document\":\"d\",\"version\":3,{clash},\"fields\":{{\"t\":2}}}}"));
    let head = format!("{{\"document\":\"d\",\"version\":3,\"user\":\"c\",\"timestamp\":{},", AT + 9);
    assert_eq!(rig.told(c), [format!("42[\"document:conflict\",{head}{clash}}}]")]);
    for conn in [a, b] {
        let told = rig.told(conn);
        assert!(told[0].starts_with("42[\"document:updated\"") && told[0].contains("\"fields\":{\"n\":3}"), "{told:?}");
        assert_eq!(told[1..], [format!("42[\"conflict:resolved\",{head}{clash}}}]")]);
    }
    // A clock that is an hour ahead is believed for a minute.
    let ahead = rig.now.unix.0 + 3_600_000;
    rig.update(a, "d", 3, ahead, "{\"t\":4}");
    let told = rig.told(b);
    assert!(told[0].ends_with(&format!("\"timestamp\":{}}}]", rig.now.unix.0 + 60_000)), "{told:?}");
    rig.now = rig.now.later(Duration::from_secs(61));
    let now = rig.now.unix.0;
    let won = rig.update(b, "d", 3, now, "{\"t\":5}");
    assert!(won.contains("\"version\":5") && won.contains("\"resolvedValue\":{\"t\":5}"), "{won}");
}

#[test]
fn nothing_is_written_over_another_where_that_is_rejected() {
    let mut rig = rig();
    let (a, b) = (rig.opened("a", "r"), rig.opened("b", "r"));
    rig.update(a, "r", 0, AT, "{\"t\":1,\"n\":1}");
    rig.update(a, "r", 1, AT, "{\"t\":2}");
    rig.drop_all();
    let answer = rig.update(b, "r", 1, AT + 5, "{\"t\":3,\"n\":3}");
    assert!(answer.starts_with("{\"ok\":false,\"code\":\"conflict\",\"message\":"), "{answer}");
    assert!(answer.ends_with("\"resolvedValue\":{\"t\":2},\"fields\":{\"t\":2}}"), "{answer}");
    assert_eq!((field(&answer, "version"), field(&answer, "strategy")), ("2", "reject"));
    assert!(rig.told(b)[0].starts_with("42[\"document:conflict\",{\"document\":\"r\",\"version\":2"));
    assert_eq!(rig.told(a), [""; 0], "nothing has happened");
    assert_eq!(rig.update(b, "r", 2, AT + 5, "{\"t\":3,\"n\":3}"), "{\"ok\":true,\"document\":\"r\",\"version\":3}");
}

#[test]
fn a_conflict_waits_until_somebody_decides() {
    let mut rig = rig();
    let (a, b) = (rig.opened("a", "m"), rig.opened("b", "m"));
    rig.update(a, "m", 0, AT, "{\"t\":1,\"n\":1}");
    rig.update(a, "m", 1, AT, "{\"t\":2}");
    rig.drop_all();
    let answer = rig.update(b, "m", 1, AT + 5, "{\"t\":3,\"n\":3}");
    assert!(answer.starts_with("{\"ok\":false,\"code\":\"conflict\""), "{answer}");
    assert_eq!(
        (field(&answer, "version"), field(&answer, "conflict"), field(&answer, "resolvedValue")),
        ("3", "1", "null")
    );
    assert_eq!(rig.update(b, "m", 1, AT + 5, "{\"t\":3,\"n\":3}").matches("\"conflict\":1").count(), 1, "the same one");
    for (conn, count) in [(a, 2), (b, 1)] {
        let told = rig.told(conn);
        assert_eq!(told.len(), count, "{told:?}");
        assert!(told[count - 1].starts_with("42[\"document:conflict\""), "{told:?}");
    }
    let whole = rig.ask(b, "document:get", "{\"document\":\"m\"}");
    let open = format!(
        "\"fields\":{{\"n\":3,\"t\":2}},\"conflicts\":[{{\"conflict\":1,\"user\":\"b\",\"timestamp\":{},\"baseVersion\":1,\"fields\":{{\"t\":3}}}}]}}",
        AT + 5
    );
    assert!(whole.ends_with(&open), "{whole}");
    let unknown = rig.ask(a, "conflict:resolve", "{\"document\":\"m\",\"baseVersion\":3,\"fields\":{\"n\":9}}");
    assert_eq!(field(&unknown, "code"), "unknown_conflict");
    let decided = rig.ask(a, "conflict:resolve", "{\"document\":\"m\",\"baseVersion\":3,\"fields\":{\"t\":4}}");
    assert!(decided.starts_with("{\"ok\":true,\"document\":\"m\",\"version\":4"), "{decided}");
    for (conn, count) in [(a, 1), (b, 2)] {
        let told = rig.told(conn);
        assert_eq!(told.len(), count, "{told:?}");
        let resolved = &told[count - 1];
        assert!(resolved.starts_with("42[\"conflict:resolved\",{\"document\":\"m\",\"version\":4"), "{resolved}");
        assert!(
            resolved.contains("\"incomingValue\":{\"t\":3},\"resolvedValue\":{\"t\":4},\"conflicts\":[1]}"),
            "{resolved}"
        );
    }
}

#[test]
fn what_is_refused_is_told_to_the_sender_alone() {
    let mut rig = rig();
    let (a, b) = (rig.opened("a", "d"), rig.opened("b", "d"));
    rig.update(a, "d", 0, AT, "{\"t\":1}");
    rig.drop_all();
    let big = format!("{{\"x\":\"{}\"}}", "x".repeat(66_000));
    for (event, argument, code) in [
        ("document:update", "{}", "invalid_argument"),
        ("document:update", "{\"document\":\"d\",\"baseVersion\":1,\"fields\":{}}", "invalid_argument"),
        ("document:update", "{\"document\":\"d\",\"baseVersion\":1,\"fields\":[1]}", "invalid_argument"),
        ("document:update", "{\"document\":\"d\",\"baseVersion\":1,\"fields\":{\"\":1}}", "invalid_argument"),
        ("document:update", "{\"document\":\"d\",\"baseVersion\":-1,\"fields\":{\"t\":1}}", "invalid_argument"),
        ("document:update", "{\"document\":\"d\",\"fields\":{\"t\":1}}", "invalid_argument"),
        ("document:update", "{\"document\":\"\",\"baseVersion\":1,\"fields\":{\"t\":1}}", "invalid_argument"),
        (
            "document:update",
            "{\"document\":\"d\",\"baseVersion\":1,\"fields\":{\"t\":1},\"timestamp\":\"noon\"}",
            "invalid_argument",
        ),
        ("document:update", "{\"document\":\"d\",\"baseVersion\":2,\"fields\":{\"t\":2}}", "version_unknown"),
        (
            "document:update",
            "{\"document\":\"d\",\"baseVersion\":1,\"fields\":{\"t\":2},\"epoch\":\"?\"}",
            "version_unknown",
        ),
        ("document:update", "{\"document\":\"e\",\"baseVersion\":1,\"fields\":{\"t\":2}}", "unknown_document"),
        (
            "document:update",
            &format!("{{\"document\":\"d\",\"baseVersion\":1,\"fields\":{big}}}"),
            "document_too_large",
        ),
        ("document:get", "{\"document\":\"e\"}", "unknown_document"),
        ("document:get", "7", "invalid_argument"),
        ("document:open", "{\"document\":\"e\",\"version\":0,\"fields\":{\"t\":1}}", "invalid_argument"),
        ("document:open", "{\"document\":\"e\",\"version\":9007199254740993,\"fields\":{}}", "invalid_argument"),
        ("document:open", &format!("{{\"document\":\"e\",\"fields\":{big}}}"), "document_too_large"),
        ("conflict:resolve", "{\"document\":\"e\",\"baseVersion\":0,\"fields\":{\"t\":1}}", "unknown_document"),
        ("conflict:resolve", "{\"document\":\"d\",\"baseVersion\":1,\"fields\":{\"t\":1}}", "unknown_conflict"),
    ] {
        let answer = rig.ask(a, event, argument);
        assert_eq!(field(&answer, "code"), code, "{event} {argument:.80}: {answer}");
    }
    // Whoever is behind is told what it needs to write again; without an acknowledgement it is an error like another.
    let stale = rig.ask(a, "document:update", "{\"document\":\"d\",\"baseVersion\":9,\"fields\":{\"t\":2}}");
    assert!(stale.ends_with("\"fields\":{\"t\":1}}") && field(&stale, "version") == "1", "{stale}");
    rig.say(a, "42[\"document:update\",{\"document\":\"d\",\"baseVersion\":9,\"fields\":{\"t\":2}}]");
    assert!(rig.told(a).iter().any(|packet| packet.starts_with("42[\"error\",{\"code\":\"version_unknown\"")));
    assert_eq!(rig.told(b), [""; 0]);
    let mut none = Rig::with(|settings| settings.documents.rules.clear());
    let c = none.client("acme", "c");
    let answer = none.ask(c, "document:update", "{\"document\":\"d\",\"baseVersion\":0,\"fields\":{\"t\":1}}");
    assert_eq!(field(&answer, "code"), "documents_unavailable");
}

#[test]
fn only_who_may_join_the_room_may_have_the_document() {
    let mut rig =
        Rig::with(|settings| settings.documents.rules[0].1.room = Template::parse("user:{document}").unwrap());
    let (a, b) = (rig.client("acme", "a"), rig.client("acme", "b"));
    for (event, rest) in [
        ("document:open", ""),
        ("document:get", ""),
        ("document:close", ""),
        ("document:update", ",\"baseVersion\":0,\"fields\":{\"t\":1}"),
        ("conflict:resolve", ",\"baseVersion\":0,\"fields\":{\"t\":1}"),
    ] {
        let answer = rig.ask(b, event, &format!("{{\"document\":\"a\"{rest}}}"));
        assert_eq!(field(&answer, "code"), "forbidden", "{event}");
    }
    rig.drop_all();
    let answer = rig.update(a, "a", 0, AT, "{\"t\":1}");
    assert_eq!((field(&answer, "version"), rig.told(b)), ("1", Vec::new()));
}

/// A client that has a document from elsewhere brings it; what the server knows is not replaced.
#[test]
fn a_document_is_brought_and_forgotten() {
    let mut rig = Rig::with(|settings| settings.documents.rules[0].1.kept = Duration::from_secs(600));
    let a = rig.client("acme", "a");
    let open = "{\"document\":\"d\",\"version\":41,\"fields\":{\"t\":1}}";
    let first = rig.ask(a, "document:open", open);
    let second = rig.ask(a, "document:open", "{\"document\":\"d\",\"version\":7,\"fields\":{\"t\":2}}");
    assert_eq!(first, second);
    assert!(first.contains("\"version\":41") && first.contains("\"fields\":{\"t\":1}"), "{first}");
    assert!(rig.update(a, "d", 41, AT, "{\"t\":2}").contains("\"version\":42"));
    assert_eq!(field(&rig.update(a, "d", 40, AT, "{\"t\":3}"), "code"), "version_too_old");
    let documents = |rig: &Rig| rig.shard.census().iter().find(|(name, _)| *name == "documents").unwrap().1;
    for _ in 0..95 {
        rig.say(a, "3");
        rig.advance(Duration::from_secs(20));
    }
    assert_eq!((documents(&rig), rig.closed.len()), (1, 0), "somebody has it open");
    rig.say(a, "1");
    rig.advance(Duration::from_secs(599));
    assert_eq!(documents(&rig), 1);
    rig.advance(Duration::from_secs(700));
    assert_eq!(documents(&rig), 0);
    let a = rig.client("acme", "a");
    let again = rig.ask(a, "document:open", open);
    assert_ne!(field(&again, "epoch"), field(&first, "epoch"), "another life");
}

#[test]
fn documents_of_a_tenant_are_bounded() {
    let mut rig = Rig::with(|settings| {
        let rule = &mut settings.documents.rules[0].1;
        (rule.bytes_max, rule.fields_max) = (1 << 20, 10);
        (settings.limits.events_per_second, settings.limits.events_burst) = (0, 0);
    });
    let a = rig.client("acme", "a");
    let value = "x".repeat(900_000);
    let mut refused = 0;
    for n in 0..80 {
        let answer = rig.update(a, &format!("d{n}"), 0, AT, &format!("{{\"t\":\"{value}\"}}"));
        refused += usize::from(answer.contains("\"too_many_documents\""));
    }
    assert_eq!(refused, 80 - limit::DOCUMENTS_BYTES_MAX / 900_900);
    let mut rig = Rig::with(|settings| {
        (settings.limits.events_per_second, settings.limits.events_burst) = (0, 0);
    });
    let a = rig.client("acme", "a");
    for n in 0..limit::DOCUMENTS_MAX {
        rig.update(a, &format!("d{n}"), 0, AT, "{\"t\":1}");
    }
    let answer = rig.update(a, "one more", 0, AT, "{\"t\":1}");
    assert_eq!(field(&answer, "code"), "too_many_documents");
    assert_eq!(field(&rig.update(a, "d0", 1, AT, "{\"t\":2}"), "version"), "2");
}

/// An application whose backend says who may open what, under names of its own.
#[test]
fn a_profile_names_it_and_a_backend_lets_in() {
    const PROFILE: &str = r#"
name = "sheets"
about = "-"
[client_events]
sheet_open = { do = "document", action = "open", reply = { event = "sheet_opened", data = { id = "{document}" } } }
sheet_write = { do = "document", action = "update" }
[rooms."sheet:*"]
join = "backend"
[backend]
url = "http://localhost:1/may"
secret_env = "S"
[documents]
"*" = { strategy = "reject", room = "sheet:{document}", updated = "sheet_changed" }
"#;
    let profile = crate::profile::Profile::parse(PROFILE).unwrap_or_else(|error| panic!("{error}"));
    let documents = DocumentSettings::of(&profile);
    let mut rig = Rig::of(profile_app(profile, ["/"]), |settings| {
        settings.documents = documents;
        settings.verdicts = Some(crate::shard::verdict::VerdictSettings {
            timeout: Duration::from_secs(6),
            allowed_for: Duration::from_secs(60),
            denied_for: Duration::from_secs(5),
            known_max: 3,
        });
    });
    let (a, b) = (rig.client("acme", "a"), rig.client("acme", "b"));
    let write = "{\"document\":\"d\",\"baseVersion\":1,\"fields\":{\"t\":2}}";
    assert_eq!(field(&rig.ask(a, "sheet_write", write), "code"), "forbidden", "not before it is open");
    rig.drop_all();
    for (conn, answer, want) in [
        (a, io::Answer::Allowed { ttl: None }, "\"version\":1"),
        (b, io::Answer::Denied { ttl: None }, "\"code\":\"forbidden\""),
    ] {
        rig.say(conn, "421[\"sheet_open\",{\"document\":\"d\",\"fields\":{\"t\":1}}]");
        assert_eq!(rig.take(conn), [""; 0], "nobody knows yet");
        let Some(io::Ask::Authorize { ticket, question }) = rig.asks.pop() else { panic!("nobody is asked") };
        assert!(question.contains("\"room\":\"sheet:d\",\"event\":\"sheet_open\""), "{question}");
        rig.input(Input::Answered { ticket, answer });
        let told = rig.take(conn);
        assert!(told.last().is_some_and(|packet| packet.starts_with("431[") && packet.contains(want)), "{told:?}");
        assert_eq!(told.len() == 2, told[0].starts_with("42[\"sheet_opened\",{\"id\":\"d\"}"), "{told:?}");
    }
    let c = rig.client("acme", "a");
    rig.say(c, "421[\"sheet_open\",{\"document\":\"d\"}]");
    assert!(rig.asks.is_empty() && rig.take(c).iter().any(|packet| packet.starts_with("431[")), "it is remembered");
    assert_eq!(field(&rig.ask(a, "sheet_write", write), "version"), "2");
    assert!(rig.told(c)[0].starts_with("42[\"sheet_changed\",{\"document\":\"d\",\"version\":2"));
}
