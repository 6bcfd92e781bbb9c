//! JSON texts of peers: judged once, then sliced raw. What a client sent is forwarded byte for byte and never written again.
//!
//! Invariants:
//! - [`validate`] accepts exactly what `serde_json` accepts as any value (RFC 8259, lone surrogate escapes such as `"\ud83d"` included, which
//!   browsers do send), as long as arrays and objects nest at most
//!   [`JSON_DEPTH_MAX`](crate::base::limit::JSON_DEPTH_MAX) deep.
//! - The slicers ([`elements`], [`members`], [`string`]) allocate nothing but an unescaped string, rely on a validated text for their answers,
//!   and on nothing for their safety: nonsense ends the iteration.
//!
//! An element of a validated array is at most `JSON_DEPTH_MAX - 1` deep, which is what `serde_json` reads into a typed value.

mod scan;
mod slice;
mod valid;

pub use slice::{Elements, Members, elements, elements_behind, members};
pub(super) use slice::{Token, tokens};
pub use valid::validate;

use std::borrow::Cow;

/// The text of a raw JSON string: borrowed unless it has escapes. `None` if it is not a string.
///
/// A lone surrogate becomes U+FFFD, as when JavaScript writes such a string in UTF-8.
pub fn string(raw: &str) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    match scan::quote_or_backslash(inner.as_bytes()) {
        None => Some(Cow::Borrowed(inner)),
        Some(_) => unescape(inner).map(Cow::Owned),
    }
}

/// Appends `text` as a JSON string, escaped as `JSON.stringify` does.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    // Neither writing a string nor writing to a vector can fail.
    let _ = serde_json::to_writer(out, text);
}

/// Appends a number.
pub fn write_number(out: &mut Vec<u8>, number: u64) {
    let _ = serde_json::to_writer(out, &number);
}

fn unescape(inner: &str) -> Option<String> {
    let mut out = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some((plain, escape)) = rest.split_once('\\') {
        push_plain(&mut out, plain)?;
        let kind = escape.chars().next()?;
        rest = &escape[kind.len_utf8()..];
        out.push(match kind {
            '"' | '\\' | '/' => kind,
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let (unit, after) = code_unit(rest)?;
                rest = after;
                match unit {
                    0xd800..0xdc00 => match rest.strip_prefix("\\u").and_then(code_unit) {
                        Some((low @ 0xdc00..0xe000, after)) => {
                            rest = after;
                            char::from_u32(0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00))?
                        }
                        _ => char::REPLACEMENT_CHARACTER,
                    },
                    _ => char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER),
                }
            }
            _ => return None,
        });
    }
    push_plain(&mut out, rest)?;
    Some(out)
}

/// A quote that no escape announces ends a string: what follows it belongs to something else.
fn push_plain(out: &mut String, plain: &str) -> Option<()> {
    (!plain.contains('"')).then(|| out.push_str(plain))
}

/// Four hexadecimal digits, and what follows them.
fn code_unit(text: &str) -> Option<(u32, &str)> {
    let digits = text.get(..4).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    Some((u32::from_str_radix(digits, 16).ok()?, &text[4..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{chance::Chance, limit::JSON_DEPTH_MAX};
    use serde::de::IgnoredAny;
    use serde_json::value::RawValue;

    /// What `validate` must say, told another way: serde_json, and a depth counted by hand.
    fn expected(text: &str) -> bool {
        let (mut depth, mut deepest, mut inside, mut escaped) = (0usize, 0, false, false);
        for byte in text.bytes() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if inside => escaped = true,
                b'"' => inside = !inside,
                _ if inside => {}
                b'[' | b'{' => depth += 1,
                b']' | b'}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            deepest = deepest.max(depth);
        }
        serde_json::from_str::<IgnoredAny>(text).is_ok() && deepest <= JSON_DEPTH_MAX
    }

    fn nested(depth: usize, pad: usize) -> String {
        format!("{}\"{}\"{}", "[".repeat(depth), "x".repeat(pad), "]".repeat(depth))
    }

    /// A random valid text; `budget` bounds its size.
    fn grow(chance: &mut Chance, budget: u64, out: &mut String) {
        const LEAVES: &[&str] = &[
            "0",
            "-0",
            "-1.5e-7",
            "1E400",
            "123456789012345678901234567890",
            "true",
            "false",
            "null",
            r#""""#,
            r#""a,]}b""#,
            r#""\"\\\/\b\f\n\r\t""#,
            r#""\ud83d""#,
            r#""\ud83d\ude00""#,
            r#""\ude00\u0041""#,
            "\"\u{7f}é漢😀\"",
            r#""\\""#,
            r#""[{\"""#,
        ];
        const BLANKS: &[&str] = &["", "", "", " ", "\n\t ", "\r"];
        let blank = |chance: &mut Chance| BLANKS[chance.below(BLANKS.len() as u64) as usize];
        out.push_str(blank(chance));
        match if budget < 2 { 9 } else { chance.below(6) } {
            kind @ (0..=3) => {
                let (count, object) = (chance.below(5), kind < 2);
                out.push(if object { '{' } else { '[' });
                for index in 0..count {
                    if index > 0 {
                        out.push(',');
                    }
                    if object {
                        out.push_str(blank(chance));
                        out.push_str(["\"k\"", "\"k\"", r#""\u006b""#, r#""a:\"b""#][chance.below(4) as usize]);
                        out.push_str(blank(chance));
                        out.push(':');
                    }
                    grow(chance, budget / count, out);
                }
                out.push_str(blank(chance));
                out.push(if object { '}' } else { ']' });
            }
            _ => out.push_str(LEAVES[chance.below(LEAVES.len() as u64) as usize]),
        }
        out.push_str(blank(chance));
    }

    /// Replaces, removes or inserts a few characters.
    fn mutate(chance: &mut Chance, text: &str) -> String {
        const BYTES: &[u8] = b"[]{}\",:\\ue0123-+.\x00\x1f \x0cntf/";
        let mut chars: Vec<char> = text.chars().collect();
        for _ in 0..=chance.below(2) {
            let (at, new) = (
                chance.below(chars.len() as u64 + 1) as usize,
                BYTES[chance.below(BYTES.len() as u64) as usize] as char,
            );
            match chance.below(3) {
                0 if at < chars.len() => chars[at] = new,
                1 if at < chars.len() => drop(chars.remove(at)),
                _ => chars.insert(at, new),
            }
        }
        chars.into_iter().collect()
    }

    fn agree(text: &str) {
        let want = expected(text);
        assert_eq!(validate(text), want, "{text:?}");
        if !want {
            // Nothing is promised of the answers but that they end.
            let _ = (elements(text).count(), members(text).count(), tokens(text).count(), string(text));
            return;
        }
        if text.trim_start().starts_with('[') {
            let raw: Vec<&RawValue> = serde_json::from_str(text).unwrap();
            assert!(elements(text).eq(raw.iter().map(|value| value.get())), "{text:?}");
            assert_eq!(members(text).count(), 0);
        }
        if text.trim_start().starts_with('{') {
            let values: Vec<String> = members(text).map(|(_, value)| value.to_owned()).collect();
            let rewritten: Vec<String> = members(text).map(|(key, value)| format!("{key}:{value}")).collect();
            let rewritten = format!("{{{}}}", rewritten.join(","));
            let strip = |text: &str| text.replace([' ', '\n', '\t', '\r'], "");
            assert_eq!(strip(&rewritten), strip(text));
            assert!(values.iter().all(|value| serde_json::from_str::<IgnoredAny>(value).is_ok()), "{text:?}");
            assert_eq!(elements(text).count(), 0);
        }
    }

    #[test]
    fn validate_is_serde_json_with_a_bound_on_depth() {
        let mut table: Vec<(String, bool)> = [
            ("", false),
            (" ", false),
            ("1", true),
            (" [ ] ", true),
            ("[1,]", false),
            ("[1 2]", false),
            ("{\"a\"}", false),
            ("01", false),
            (r#""\ud83d""#, true),
            (r#""\ud83"#, false),
            ("\"\u{1}\"", false),
            ("\u{feff}1", false),
            ("nul", false),
            ("1e999", true),
            ("[]]", false),
            ("[}", false),
            ("'a'", false),
            ("NaN", false),
            ("\u{c}1", false),
            ("-", false),
            ("1.", false),
        ]
        .map(|(text, ok)| (text.to_owned(), ok))
        .into();
        for pad in [0, 7, 8, 70_000] {
            for (depth, ok) in [
                (1, true),
                (JSON_DEPTH_MAX - 1, true),
                (JSON_DEPTH_MAX, true),
                (JSON_DEPTH_MAX + 1, false),
                (2000, false),
            ] {
                table.push((nested(depth, pad), ok));
                table.push((nested(depth, pad).replace('[', "{\"a\":").replace(']', "}"), ok));
            }
            // Brackets in a string are no levels.
            table.push((format!("[\"{}\\\"{}\"]", "[".repeat(200), "{".repeat(pad)), true));
            table.push((format!("[\"{}\",\"\\ud83d\",1e999]", "x".repeat(pad)), true));
            table.push((format!("[\"{}\",]", "x".repeat(pad)), false));
        }
        for (text, ok) in &table {
            assert_eq!(validate(text), *ok, "{} bytes {:?}", text.len(), text.chars().take(40).collect::<String>());
            assert_eq!(expected(text), *ok);
        }
    }

    /// What ends a string, or may not stand in it, at every place among eight bytes and behind every neighbour that could hide it.
    #[test]
    fn strings_end_where_they_end() {
        const NEIGHBOURS: [&str; 9] = ["x", "!", "#", "[", "]", "\u{7f}", "é", "😀", " "];
        const ENDS: [&str; 9] = ["\"", "\\", "\\\"", "\\u00e9", "\\u00g9", "\\x", "\0", "\u{1f}", "\n"];
        for neighbour in NEIGHBOURS {
            for before in 0..18 {
                for end in ENDS {
                    for after in [0, 1, 9] {
                        let (before, after) = (neighbour.repeat(before), neighbour.repeat(after));
                        agree(&format!("\"{before}{end}{after}\""));
                        agree(&format!("[\"{before}\"{end}{after}]"));
                    }
                }
            }
        }
    }

    #[test]
    fn random_and_broken_texts_get_serde_jsons_answer() {
        let mut chance = Chance::new([7; 32]);
        let mut valid = 0;
        for round in 0..6000 {
            let mut text = String::new();
            let budget = if round % 10 == 0 { 3000 } else { 60 };
            grow(&mut chance, budget, &mut text);
            assert!(expected(&text), "{text:?}");
            agree(&text);
            let mut broken = mutate(&mut chance, &text);
            agree(&broken);
            valid += u32::from(expected(&broken));
            // With more behind it its last strings are read eight bytes at a time: blanks at the end change nothing.
            broken.push_str(&" ".repeat(8));
            agree(&broken);
        }
        assert!((500..5500).contains(&valid), "mutations are neither all fatal nor all harmless: {valid}");
    }

    #[test]
    fn strings() {
        let table: &[(&str, Option<&str>)] = &[
            (r#""""#, Some("")),
            (r#""é😀""#, Some("é😀")),
            (r#""a\"b\\c\/\b\f\n\r\t""#, Some("a\"b\\c/\u{8}\u{c}\n\r\t")),
            (r#""\u0041\u00e9""#, Some("Aé")),
            (r#""\ud83d\ude00!""#, Some("😀!")),
            (r#""\ud83d""#, Some("\u{fffd}")),
            (r#""\ud83dx""#, Some("\u{fffd}x")),
            (r#""\ud83d\u0041""#, Some("\u{fffd}A")),
            (r#""\ude00\ud83d""#, Some("\u{fffd}\u{fffd}")),
            (r#""\u+041""#, None),
            (r#""\u00""#, None),
            (r#""\x""#, None),
            (r#""\"#, None),
            (r#""a","b""#, None),
            (r#""\n","b""#, None),
            ("\"", None),
            ("", None),
            ("1", None),
        ];
        for (raw, want) in table {
            assert_eq!(string(raw).as_deref(), *want, "{raw}");
            if want.is_some() && !raw.contains('\\') {
                assert!(matches!(string(raw), Some(Cow::Borrowed(_))));
            }
        }
    }

    #[test]
    fn written_strings_are_read_back() {
        let mut chance = Chance::new([8; 32]);
        for _ in 0..2000 {
            let text: String = (0..chance.below(12))
                .map(|_| {
                    let below = [0x20, 0x80, 0x2_0000][chance.below(3) as usize];
                    char::from_u32(chance.below(below) as u32).unwrap_or('"')
                })
                .collect();
            let mut out = Vec::new();
            write_string(&mut out, &text);
            let out = String::from_utf8(out).unwrap();
            assert_eq!(string(&out).as_deref(), Some(text.as_str()));
            assert_eq!(serde_json::from_str::<String>(&out).unwrap(), text);
        }
        let mut out = Vec::new();
        write_string(&mut out, "\u{1f}\u{7f}\"/\n");
        assert_eq!(out, b"\"\\u001f\x7f\\\"/\\n\"");
    }
}
