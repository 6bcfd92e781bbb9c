//! Request targets (RFC 9112 section 3.2): `/path?query`, `http://host/path?query` as proxies send it, and `*` for OPTIONS.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use super::{Error, request::Method};

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target<'a> {
    /// Of the absolute form: it replaces the Host line.
    pub authority: Option<&'a str>,
    pub raw_path: &'a str,
    pub query: &'a str,
}

pub(super) fn split(method: Method, target: &str) -> Result<Target<'_>, Error> {
    const BROKEN: Error = Error::Malformed("request target is not a path");
    if target.contains('#') {
        return Err(BROKEN);
    }
    if target == "*" {
        return if method == Method::Options {
            Ok(Target { authority: None, raw_path: target, query: "" })
        } else {
            Err(BROKEN)
        };
    }
    let (authority, rest) = match target.split_once("://") {
        Some((scheme, rest)) if ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) => {
            let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
            (Some(authority), rest)
        }
        _ => (None, target),
    };
    let (raw_path, query) = rest.split_once('?').unwrap_or((rest, ""));
    match (authority, raw_path) {
        (Some(""), _) => Err(BROKEN),
        (Some(_), "") => Ok(Target { authority, raw_path: "/", query }),
        (_, path) if path.starts_with('/') => Ok(Target { authority, raw_path, query }),
        _ => Err(BROKEN),
    }
}

/// Percent-decoded text of a path or of a part of one; an escape that is none stands for itself.
pub(super) fn decode(raw: &str) -> Result<Cow<'_, str>, Error> {
    let text = percent_decode_str(raw).decode_utf8().map_err(|_| Error::Malformed("path is not UTF-8"))?;
    if text.bytes().any(|byte| byte.is_ascii_control()) {
        return Err(Error::Malformed("path has control characters"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        let target = |authority, raw_path, query| Some(Target { authority, raw_path, query });
        for (method, text, expected) in [
            (Method::Get, "/", target(None, "/", "")),
            (Method::Get, "/a/b?c=d?e", target(None, "/a/b", "c=d?e")),
            (Method::Get, "//a", target(None, "//a", "")),
            (Method::Get, "/a?u=http://b", target(None, "/a", "u=http://b")),
            (Method::Get, "http://h:1/a?b", target(Some("h:1"), "/a", "b")),
            (Method::Get, "HTTP://h", target(Some("h"), "/", "")),
            (Method::Get, "http://h?b", target(Some("h"), "/", "b")),
            (Method::Options, "*", target(None, "*", "")),
            (Method::Get, "*", None),
            (Method::Get, "a", None),
            (Method::Get, "?a", None),
            (Method::Get, "/a#b", None),
            (Method::Get, "http:///a", None),
            (Method::Get, "ftp://h/a", None),
            (Method::Get, "h:443", None),
        ] {
            assert_eq!(split(method, text).ok(), expected, "{text}");
        }
    }
}
