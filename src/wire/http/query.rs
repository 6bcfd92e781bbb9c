//! Query strings, decoded as they are read: nothing is allocated for a parameter without escapes.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// The raw text after `?`. Names and values are read as browsers write them (application/x-www-form-urlencoded): `+` is a space, bytes that
/// are not UTF-8 become U+FFFD, an escape that is none stands for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query<'a>(pub &'a str);

impl<'a> Query<'a> {
    /// The first value of `name`; empty for a name without `=`.
    pub fn get(&self, name: &str) -> Option<Cow<'a, str>> {
        self.pairs().find(|(raw, _)| decode(raw) == name).map(|(_, value)| decode(value))
    }

    pub fn iter(&self) -> impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)> + use<'a> {
        self.pairs().map(|(name, value)| (decode(name), decode(value)))
    }

    fn pairs(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.0.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")))
    }
}

fn decode(raw: &str) -> Cow<'_, str> {
    if !raw.contains('+') {
        return percent_decode_str(raw).decode_utf8_lossy();
    }
    // Before the escapes: an escaped plus is a plus.
    let spaced = raw.replace('+', " ");
    Cow::Owned(percent_decode_str(&spaced).decode_utf8_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters() {
        for (query, name, expected) in [
            ("", "a", None),
            ("a=1&b=2", "b", Some("2")),
            ("a=1&a=2", "a", Some("1")),
            ("a", "a", Some("")),
            ("a=", "a", Some("")),
            ("=x", "", Some("x")),
            ("&&a=1&", "a", Some("1")),
            ("a=b=c", "a", Some("b=c")),
            ("rooms=project%3A7,b+c%2Bd", "rooms", Some("project:7,b c+d")),
            ("%61=1", "a", Some("1")),
            ("a=%e2%9c%93", "a", Some("✓")),
            ("a=%ff+%zz%", "a", Some("\u{fffd} %zz%")),
            ("EIO=4&transport=polling&t=abc", "sid", None),
        ] {
            assert_eq!(Query(query).get(name).as_deref(), expected, "{query}");
        }
        assert_eq!(
            Query("a=1&b+c=%20").iter().collect::<Vec<_>>(),
            [("a".into(), "1".into()), ("b c".into(), Cow::from(" "))]
        );
        assert!(matches!(Query("sid=abc").get("sid"), Some(Cow::Borrowed("abc"))));
    }
}
