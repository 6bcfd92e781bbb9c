//! What is wrong with a profile: its line, its key, and why.

use super::lines::{Lines, line};
use super::nearest::nearest;
use std::fmt;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// From 1; 0 where it is not known.
    pub line: usize,
    /// Its path: `client_events.join_project.room`. Empty: the text is not TOML.
    pub key: String,
    pub reason: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.key {
            "" => f.write_str(&self.reason),
            key => write!(f, "{key}: {}", self.reason),
        }
    }
}

impl std::error::Error for Error {}

impl Error {
    /// The text is not TOML.
    pub fn syntax(text: &str, error: &toml::de::Error) -> Error {
        let line = error.span().map_or(0, |span| line(text, span.start));
        Error { line, key: String::new(), reason: format!("not TOML: {}", error.message()) }
    }

    /// It is TOML, but no profile: an unknown key, a value of the wrong type, something missing.
    pub fn shape(text: &str, lines: &Lines, error: &toml::de::Error) -> Error {
        let span = error.span().unwrap_or(0..text.len());
        let message = error.message();
        let path = lines.path_of(&span);
        let unknown = |what: &str, verb: &str| {
            let rest = message.strip_prefix(what)?;
            let mut names = rest.split('`').skip(1).step_by(2);
            let name = names.next()?;
            let meant = nearest(name, names);
            let hint = meant.map(|meant| format!(", did you mean `{meant}`?")).unwrap_or_default();
            Some(format!("{verb} `{name}`{hint}"))
        };
        let reason = unknown("unknown field", "unknown key")
            .or_else(|| unknown("unknown variant", "cannot be"))
            .unwrap_or_else(|| message.to_owned());
        Error {
            line: line(text, span.start),
            key: if path.is_empty() { "profile".into() } else { path.into() },
            reason,
        }
    }
}
