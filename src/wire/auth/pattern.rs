//! Patterns over room names: `*` is any text, `?` is one character, everything else is itself. There is no escape.
//!
//! Matching never recurses and keeps one point to return to, so its cost is bounded by pattern length times text length, whoever wrote
//! the pattern (a token's bearer cannot, its issuer can).

use std::fmt;

/// Bytes of a pattern: as long as the longest name an operator would match with it.
pub const PATTERN_BYTES_MAX: usize = 256;

/// A parsed pattern. The three shapes nearly all patterns have are compared without a search.
#[derive(Clone, PartialEq, Eq)]
pub struct Pattern {
    text: Box<str>,
    shape: Shape,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Any,
    Exact,
    /// `text*`
    Prefix,
    Glob,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    #[error("a pattern cannot be empty")]
    Empty,
    #[error("a pattern has at most {PATTERN_BYTES_MAX} bytes")]
    TooLong,
    #[error("a pattern cannot have control characters")]
    Control,
}

impl Pattern {
    pub fn parse(text: &str) -> Result<Pattern, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        if text.len() > PATTERN_BYTES_MAX {
            return Err(PatternError::TooLong);
        }
        if text.chars().any(char::is_control) {
            return Err(PatternError::Control);
        }
        let shape = match text.find(['*', '?']) {
            None => Shape::Exact,
            Some(0) if text == "*" => Shape::Any,
            Some(at) if at + 1 == text.len() && text.ends_with('*') => Shape::Prefix,
            Some(_) => Shape::Glob,
        };
        Ok(Pattern { text: text.into(), shape })
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn matches(&self, text: &str) -> bool {
        match self.shape {
            Shape::Any => true,
            Shape::Exact => *self.text == *text,
            Shape::Prefix => text.starts_with(&self.text[..self.text.len() - 1]),
            Shape::Glob => glob(&self.text, text),
        }
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Whether `text` as a whole matches `pattern`.
pub fn glob(pattern: &str, text: &str) -> bool {
    let (mut pattern, mut text) = (pattern.chars(), text.chars());
    // After the last `*` seen: the pattern behind it, and the text it has not swallowed yet.
    let mut star: Option<(std::str::Chars<'_>, std::str::Chars<'_>)> = None;
    loop {
        let uneaten = text.clone();
        let matched = match (pattern.next(), text.next()) {
            (None, None) => return true,
            (Some('*'), _) => {
                text = uneaten;
                star = Some((pattern.clone(), text.clone()));
                continue;
            }
            (Some('?'), Some(_)) => true,
            (Some(want), Some(have)) => want == have,
            (None, Some(_)) => false,
            // The text has ended and the pattern wants more: a longer bite of the star would only make it shorter.
            (Some(_), None) => return false,
        };
        if matched {
            continue;
        }
        match &mut star {
            None => return false,
            Some((rest, bite)) => {
                bite.next();
                pattern = rest.clone();
                text = bite.clone();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, matching, other) in [
            ("*", &["", "a", "a:b", "ü"][..], &[][..]),
            ("a", &["a"], &["", "b", "aa", "A"]),
            ("project:*", &["project:", "project:7", "project:7:x"], &["project", "projects:7", "xproject:7"]),
            ("project:?", &["project:7", "project:ü"], &["project:", "project:77"]),
            ("*:7", &["project:7", ":7", ":7:7"], &["7", "project:7 ", "project:77"]),
            ("a*b*c", &["abc", "aXbXc", "abbcc", "abcbc"], &["ab", "acb", "abcd"]),
            ("a**c", &["ac", "abc"], &["ab"]),
            ("*?", &["a", "ab"], &[""]),
            ("?*?", &["ab", "aüb"], &["a", ""]),
            ("*ü?", &["xüy", "üüü"], &["ü", "xüyz"]),
            ("***", &["", "abc"], &[]),
        ] {
            let parsed = Pattern::parse(pattern).unwrap();
            for text in matching {
                assert!(parsed.matches(text) && glob(pattern, text), "{pattern} {text:?}");
            }
            for text in other {
                assert!(!parsed.matches(text) && !glob(pattern, text), "{pattern} {text:?}");
            }
        }
    }

    /// The textbook definition, exponential and obviously right, against the one in use, over every short pattern and text.
    #[test]
    fn agrees_with_the_definition() {
        fn defined(pattern: &[u8], text: &[u8]) -> bool {
            match (pattern.first(), text.first()) {
                (None, None) => true,
                (Some(b'*'), _) => defined(&pattern[1..], text) || (!text.is_empty() && defined(pattern, &text[1..])),
                (Some(b'?'), Some(_)) => defined(&pattern[1..], &text[1..]),
                (Some(want), Some(have)) => want == have && defined(&pattern[1..], &text[1..]),
                _ => false,
            }
        }
        fn words(letters: &str, longest: usize) -> Vec<String> {
            let mut all = vec![String::new()];
            let mut from = 0;
            for _ in 0..longest {
                let to = all.len();
                for at in from..to {
                    all.extend(letters.chars().map(|letter| format!("{}{letter}", all[at])).collect::<Vec<_>>());
                }
                from = to;
            }
            all
        }
        let texts = words("ab", 5);
        for pattern in words("ab*?", 4) {
            for text in &texts {
                assert_eq!(glob(&pattern, text), defined(pattern.as_bytes(), text.as_bytes()), "{pattern:?} {text:?}");
            }
        }
    }

    #[test]
    fn a_hostile_pattern_ends() {
        let pattern = "*a".repeat(127) + "b";
        assert!(!Pattern::parse(&pattern).unwrap().matches(&"a".repeat(100_000)));
    }

    #[test]
    fn what_is_not_a_pattern() {
        for (text, error) in [
            (String::new(), PatternError::Empty),
            ("x".repeat(257), PatternError::TooLong),
            ("a\nb".into(), PatternError::Control),
        ] {
            assert_eq!(Pattern::parse(&text), Err(error));
        }
    }
}
