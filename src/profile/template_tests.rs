//! Templates, checked by tables, by what they must never write, and by texts that mean nothing.

use super::*;
use crate::base::chance::Chance;
use serde_json::json;

/// The values the tables fill holes with.
fn raw(path: &str) -> Option<Cow<'static, str>> {
    const DATA: &str = r#"{"projectId":7,"name":"a\"b","blank":"","tab":"a\tb","no":null,"yes":true,"big":1e3,
        "list":[{"id":"x"},2],"in":{"a":{"b":"deep"}},"twice":1,"twice":"2","é\u00e9":"key","0":"zero","x.y":"never"}"#;
    match path {
        "user" => Some("\"u 1\"".into()),
        "tenant" => Some(quoted("Köln")),
        "blanks" => Some(" \"b\" ".into()),
        _ => lookup(DATA, path).map(Cow::Borrowed),
    }
}

#[test]
fn what_is_no_template() {
    let path = |text: &str| Some(TemplateError::Path(text.into()));
    let table: &[(&str, Option<TemplateError>)] = &[
        ("", None),
        ("plain", None),
        ("{user}", None),
        ("a:{user}:{data.x}", None),
        ("{{user}}", None),
        ("{{{user}}}", None),
        ("{0}", None),
        ("{a:b}", None),
        ("{", Some(TemplateError::Open("{".into()))),
        ("a{user", Some(TemplateError::Open("a{user".into()))),
        ("}", Some(TemplateError::Close("}".into()))),
        ("a}b", Some(TemplateError::Close("a}b".into()))),
        ("{user}}", Some(TemplateError::Close("{user}}".into()))),
        ("{}", path("")),
        ("{ user }", path(" user ")),
        ("{a..b}", path("a..b")),
        ("{.a}", path(".a")),
        ("{a.}", path("a.")),
        ("{a{b}", path("a{b")),
        ("{a\"b}", path("a\"b")),
        ("{a\nb}", path("a\nb")),
    ];
    for (text, want) in table {
        assert_eq!(Template::parse(text).err().as_ref(), want.as_ref(), "{text:?}");
        assert_eq!(Shape::from(json!([text])).err().as_ref(), want.as_ref(), "{text:?}");
    }
    let said = [
        (TemplateError::Open("a{b".into()), "`a{b` opens a hole that is not closed; `{{` is a brace itself"),
        (TemplateError::Close("a}b".into()), "`a}b` has a `}` that closes nothing; `}}` is a brace itself"),
    ];
    for (error, text) in said {
        assert_eq!(error.to_string(), text);
    }
    assert!(TemplateError::Path("a b".into()).to_string().starts_with("`{a b}` names nothing"));
}

#[test]
fn names() {
    let table: &[(&str, Result<&str, Missing>)] = &[
        ("", Ok("")),
        ("plain", Ok("plain")),
        ("user:{user}", Ok("user:u 1")),
        ("{tenant}/{projectId}", Ok("Köln/7")),
        ("{big}", Ok("1e3")),
        ("{{{user}}}", Ok("{u 1}")),
        ("{{user}}", Ok("{user}")),
        ("{in.a.b}", Ok("deep")),
        ("{list.0.id}", Ok("x")),
        ("{list.1}", Ok("2")),
        ("{0}", Ok("zero")),
        ("{twice}", Ok("2")),
        ("{name}", Ok("a\"b")),
        ("{éé}", Ok("key")),
        ("{blanks}", Ok("b")),
        ("{x.y}", Err(Missing::Absent("x.y".into()))),
        ("{list.2}", Err(Missing::Absent("list.2".into()))),
        ("{list.+1}", Err(Missing::Absent("list.+1".into()))),
        ("{list.id}", Err(Missing::Absent("list.id".into()))),
        ("{projectId.a}", Err(Missing::Absent("projectId.a".into()))),
        ("{nothing}", Err(Missing::Absent("nothing".into()))),
        ("{no}", Err(Missing::Absent("no".into()))),
        ("{blank}", Err(Missing::Empty("blank".into()))),
        ("{tab}", Err(Missing::Control("tab".into()))),
        ("{yes}", Err(Missing::Kind("yes".into()))),
        ("{list}", Err(Missing::Kind("list".into()))),
        ("{in}", Err(Missing::Kind("in".into()))),
    ];
    for (text, want) in table {
        let template = Template::parse(text).unwrap();
        let want = want.clone().map(str::to_owned);
        assert_eq!(template.text(&raw), want, "{text:?}");
        assert_eq!(template.literal().is_some(), template.paths().next().is_none());
        if let Err(missing) = want {
            assert_eq!(template.paths().next(), Some(missing.path()));
        }
    }
}

#[test]
fn shapes() {
    let table: &[(Value, &str)] = &[
        (json!(null), "null"),
        (json!("plain"), r#""plain""#),
        (json!([]), "[]"),
        (json!({}), "{}"),
        (json!({"a": 1, "b": [true, null, 1.5], "c": {}}), r#"{"a":1,"b":[true,null,1.5],"c":{}}"#),
        (json!("{projectId}"), "7"),
        (json!("{in}"), r#"{"a":{"b":"deep"}}"#),
        (json!("{nothing}"), "null"),
        (json!("{tab}"), r#""a\tb""#),
        (json!("{name}!"), r#""a\"b!""#),
        (json!("<{nothing}{no}{blank}>"), r#""<>""#),
        (json!("{projectId}{yes}"), r#""7true""#),
        (json!("x{in.a}"), r#""x{\"b\":\"deep\"}""#),
        (json!("{{projectId}}"), r#""{projectId}""#),
        (json!({"{user}": "{user}"}), r#"{"{user}":"u 1"}"#),
        (
            json!({"id": "{projectId}", "to": ["{user}", "t/{tenant}"], "n": 1}),
            r#"{"id":7,"to":["u 1","t/Köln"],"n":1}"#,
        ),
    ];
    for (shape, want) in table {
        let mut out = b"before".to_vec();
        Shape::from(shape.clone()).unwrap().write(&mut out, &raw);
        let out = String::from_utf8(out).unwrap();
        let out = out.strip_prefix("before").unwrap();
        // Members of objects are sorted or not as `serde_json` was built.
        assert_eq!(serde_json::from_str::<Value>(out).unwrap(), serde_json::from_str::<Value>(want).unwrap(), "{out}");
        if !shape.is_object() {
            assert_eq!(out, *want);
        }
    }
    let paths = |shape: Value| Shape::from(shape).unwrap().paths().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(paths(json!(["{a}", "b", {"c": "{d}{e.f}"}])), ["a", "d", "e.f"]);
}

/// Whatever a hole is filled with, a shape writes one JSON value of the same frame, and a name has no control character and all its text.
#[test]
fn no_value_breaks_out() {
    const VALUES: &[&str] = &[
        "\"\"",
        "\"\\\"\"",
        "\"},{\\\"a\\\":1\"",
        "\"\\u0000\"",
        "\"\\ud800\"",
        "\"{user}\"",
        "-0.5e-9",
        "[1,\"]\"]",
        "{}",
        "null",
        "false",
    ];
    const BITS: &[&str] = &["a", "{v}", "{w.x}", "{{", "}}", "\"", "\\", "{none}", "é", "\u{1}"];
    let mut chance = Chance::new([3; 32]);
    for _ in 0..4000 {
        let text: String = (0..chance.below(6)).map(|_| BITS[chance.below(BITS.len() as u64) as usize]).collect();
        let (v, w) = (VALUES[chance.below(11) as usize], VALUES[chance.below(11) as usize]);
        let raw = |path: &str| match path {
            "v" => Some(Cow::Borrowed(v)),
            "w.x" => Some(Cow::Borrowed(w)),
            _ => None,
        };
        let mut out = Vec::new();
        Shape::from(json!({"k": text, "l": [text, 1]})).unwrap().write(&mut out, &raw);
        let out = String::from_utf8(out).unwrap();
        assert!(json::validate(&out), "{text:?} {v} {w}: {out}");
        assert_eq!(json::members(&out).count(), 2, "{out}");
        assert_eq!(json::elements(lookup(&out, "l").unwrap()).nth(1), Some("1"));
        match Template::parse(&text).unwrap().text(&raw) {
            Ok(name) => assert!(!text.contains("{none}") && name.chars().all(|c| !c.is_control() || text.contains(c))),
            Err(missing) => assert!(text.contains(&format!("{{{}}}", missing.path()))),
        }
    }
}

/// Nonsense is refused or read, and never panics.
#[test]
fn nonsense() {
    const BYTES: &[u8] = b"{}{}.a\"\\:0,[ ]\n";
    let mut chance = Chance::new([4; 32]);
    let mut text = |most: u64| -> String {
        (0..chance.below(most)).map(|_| BYTES[chance.below(BYTES.len() as u64) as usize] as char).collect()
    };
    for _ in 0..20_000 {
        let (template, json, path) = (text(14), text(20), text(5));
        if let Ok(template) = Template::parse(&template) {
            assert!(template.paths().all(is_path));
            let _ = template.text(&|path| lookup(&json, path).map(Cow::Borrowed));
        }
        let _ = lookup(&json, &path);
    }
}
