//! Templates: the text and the JSON that a profile writes with holes in them, `project:{projectId}`.
//!
//! Invariants: a template is parsed once, at start, and everything that can be wrong with it is said there. What fills a hole is a peer's
//! JSON: into a [`Template`] (the name of a room, an id) goes only a string or a number that is not empty and has no control character, or the
//! template has no text at all; into a [`Shape`] goes any value, and what comes out is always JSON.
//!
//! ```text
//! {path}     a hole. Its path is names joined by dots: user · tenant · sid · 0 · 1 · projectId · data.contact.id
//! {{  }}     the braces themselves
//! ```
//!
//! Both are filled through a function from a path to *raw JSON* (`"7"` with its quotes, `7`, `{"a":1}`), so that one function serves both;
//! [`quoted`] makes raw JSON of a plain text, [`lookup`] finds a path in a text. What paths there are is the caller's business.

use crate::wire::json;
use serde_json::Value;
use std::borrow::Cow;

/// Raw JSON by path; `None`: there is no such value.
pub type Raw<'a> = dyn Fn(&str) -> Option<Cow<'a, str>> + 'a;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("`{0}` opens a hole that is not closed; `{{{{` is a brace itself")]
    Open(Box<str>),
    #[error("`{0}` has a `}}` that closes nothing; `}}}}` is a brace itself")]
    Close(Box<str>),
    #[error("`{{{0}}}` names nothing: a path is names joined by dots, without blanks, quotes and braces")]
    Path(Box<str>),
}

/// Why a [`Template`] has no text now. For the peer who caused it: names the path, never the value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    #[error("{0} is missing")]
    Absent(Box<str>),
    #[error("{0} is neither a string nor a number")]
    Kind(Box<str>),
    #[error("{0} is empty")]
    Empty(Box<str>),
    #[error("{0} has control characters")]
    Control(Box<str>),
}

impl Missing {
    /// The hole that could not be filled.
    pub fn path(&self) -> &str {
        match self {
            Missing::Absent(path) | Missing::Kind(path) | Missing::Empty(path) | Missing::Control(path) => path,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Hole(Box<str>),
}

/// A text with holes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Box<[Part]>,
}

impl Template {
    pub fn parse(text: &str) -> Result<Template, TemplateError> {
        let (mut parts, mut plain, mut rest) = (Vec::new(), String::new(), text);
        while let Some(at) = rest.find(['{', '}']) {
            let (before, brace) = rest.split_at(at);
            plain.push_str(before);
            if let Some(after) = brace.strip_prefix("{{") {
                plain.push('{');
                rest = after;
            } else if let Some(after) = brace.strip_prefix("}}") {
                plain.push('}');
                rest = after;
            } else if let Some(hole) = brace.strip_prefix('{') {
                let (path, after) = hole.split_once('}').ok_or_else(|| TemplateError::Open(text.into()))?;
                if !is_path(path) {
                    return Err(TemplateError::Path(path.into()));
                }
                if !plain.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut plain).into()));
                }
                parts.push(Part::Hole(path.into()));
                rest = after;
            } else {
                return Err(TemplateError::Close(text.into()));
            }
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain.into()));
        }
        Ok(Template { parts: parts.into() })
    }

    /// The text with every hole filled, or which one could not be.
    pub fn text(&self, raw: &Raw<'_>) -> Result<String, Missing> {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Hole(path) => {
                    let value = raw(path).ok_or_else(|| Missing::Absent(path.clone()))?;
                    out.push_str(&name_of(path, value.trim_matches(is_blank))?);
                }
            }
        }
        Ok(out)
    }

    /// The text, where there are no holes.
    pub fn literal(&self) -> Option<&str> {
        match &*self.parts {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Every hole, in order: for the check that each can be filled.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Hole(path) => Some(&**path),
        })
    }

    /// The path, where the whole template is one hole.
    fn whole(&self) -> Option<&str> {
        match &*self.parts {
            [Part::Hole(path)] => Some(path),
            _ => None,
        }
    }
}

/// A piece of what a shape writes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    /// JSON as it stands: a text is taken apart at start, so that writing it is copying.
    Json(Box<[u8]>),
    /// The value of a path; `null` where there is none.
    Value(Box<str>),
    /// A string of several parts.
    String(Template),
}

/// A JSON value whose strings are templates. A string that is one hole and nothing else becomes the value itself, whatever its kind; any
/// other string stays a string. The keys of objects are as they stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    pieces: Box<[Piece]>,
}

impl Shape {
    /// By value, as `From` has it; it can be refused, as `From` cannot.
    pub fn from(value: Value) -> Result<Shape, TemplateError> {
        let (mut pieces, mut json) = (Vec::new(), Vec::new());
        take_apart(&value, &mut pieces, &mut json)?;
        if !json.is_empty() {
            pieces.push(Piece::Json(json.into()));
        }
        Ok(Shape { pieces: pieces.into() })
    }

    /// Appends the JSON with every hole filled. Within a longer string a string is its text, a missing value and `null` are nothing, and any
    /// other value is its JSON.
    pub fn write(&self, out: &mut Vec<u8>, raw: &Raw<'_>) {
        for piece in &self.pieces {
            match piece {
                Piece::Json(json) => out.extend_from_slice(json),
                Piece::Value(path) => out.extend_from_slice(raw(path).as_deref().unwrap_or("null").as_bytes()),
                Piece::String(template) => {
                    let mut text = String::new();
                    for part in &template.parts {
                        match part {
                            Part::Text(plain) => text.push_str(plain),
                            Part::Hole(path) => {
                                let value = raw(path).unwrap_or_default();
                                match json::string(value.trim_matches(is_blank)) {
                                    Some(string) => text.push_str(&string),
                                    None if value == "null" => {}
                                    None => text.push_str(&value),
                                }
                            }
                        }
                    }
                    json::write_string(out, &text);
                }
            }
        }
    }

    /// Every hole: for the check that each can be filled.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().flat_map(|piece| {
            let (value, template) = match piece {
                Piece::Json(_) => (None, None),
                Piece::Value(path) => (Some(&**path), None),
                Piece::String(template) => (None, Some(template)),
            };
            value.into_iter().chain(template.into_iter().flat_map(Template::paths))
        })
    }
}

fn take_apart(value: &Value, pieces: &mut Vec<Piece>, json: &mut Vec<u8>) -> Result<(), TemplateError> {
    match value {
        Value::String(text) => {
            let template = Template::parse(text)?;
            if let Some(literal) = template.literal() {
                json::write_string(json, literal);
                return Ok(());
            }
            if !json.is_empty() {
                pieces.push(Piece::Json(std::mem::take(json).into()));
            }
            pieces.push(match template.whole() {
                Some(path) => Piece::Value(path.into()),
                None => Piece::String(template),
            });
        }
        Value::Array(elements) => {
            json.push(b'[');
            for (nth, element) in elements.iter().enumerate() {
                if nth > 0 {
                    json.push(b',');
                }
                take_apart(element, pieces, json)?;
            }
            json.push(b']');
        }
        Value::Object(members) => {
            json.push(b'{');
            for (nth, (key, value)) in members.iter().enumerate() {
                if nth > 0 {
                    json.push(b',');
                }
                json::write_string(json, key);
                json.push(b':');
                take_apart(value, pieces, json)?;
            }
            json.push(b'}');
        }
        // Writing a number or a word to a vector cannot fail.
        Value::Null | Value::Bool(_) | Value::Number(_) => drop(serde_json::to_writer(json, value)),
    }
    Ok(())
}

/// The value at a path in a validated text, raw: names are keys of objects, numbers are also indices of arrays. Of a key that comes twice the
/// last counts, as in JavaScript.
pub fn lookup<'a>(raw: &'a str, path: &str) -> Option<&'a str> {
    path.split('.').try_fold(raw, |value, name| {
        let mut member = None;
        for (key, value) in json::members(value) {
            if json::string(key).is_some_and(|key| key == name) {
                member = Some(value);
            }
        }
        // Not a key: `usize` would also read `+1`.
        let index = || name.bytes().all(|byte| byte.is_ascii_digit()).then(|| name.parse::<usize>().ok()).flatten();
        member.or_else(|| json::elements(value).nth(index()?))
    })
}

/// A plain text as raw JSON.
pub fn quoted(text: &str) -> Cow<'static, str> {
    let mut out = Vec::with_capacity(text.len() + 2);
    json::write_string(&mut out, text);
    Cow::Owned(String::from_utf8(out).unwrap_or_default())
}

/// Whether a text may stand between the braces.
pub fn is_path(text: &str) -> bool {
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '{' | '}' | '"' | '\'' | '\\');
    text.split('.').all(|name| !name.is_empty() && name.chars().all(plain))
}

/// What JSON calls blank; a value cut out of a text has none around it, one of another source may.
fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\n' | '\t' | '\r')
}

/// What a hole of a name may hold.
fn name_of<'a>(path: &str, raw: &'a str) -> Result<Cow<'a, str>, Missing> {
    let text = match raw.bytes().next() {
        Some(b'-' | b'0'..=b'9') => return Ok(Cow::Borrowed(raw)),
        None | Some(b'n') => return Err(Missing::Absent(path.into())),
        Some(b'"') => json::string(raw).ok_or_else(|| Missing::Kind(path.into()))?,
        Some(_) => return Err(Missing::Kind(path.into())),
    };
    match &*text {
        "" => Err(Missing::Empty(path.into())),
        text if text.chars().any(char::is_control) => Err(Missing::Control(path.into())),
        _ => Ok(text),
    }
}

#[cfg(test)]
#[path = "template_tests.rs"]
mod tests;
