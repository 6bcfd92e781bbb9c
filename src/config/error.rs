//! What is wrong with a configuration: where it was said, which key, and why.

use std::fmt;
use std::path::PathBuf;

/// Where a value was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    File {
        path: PathBuf,
        /// From 1; 0 where it is not known.
        line: usize,
    },
    /// An environment variable.
    Env(String),
    /// A command-line flag.
    Flag(&'static str),
}

/// Values of secrets are never part of an error.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{}: cannot be read: {error}", path.display())]
    Unreadable { path: PathBuf, error: std::io::Error },
    #[error("{origin}: not TOML: {reason}")]
    Syntax { origin: Origin, reason: String },
    #[error("{origin}: unknown key `{key}`{}", did_you_mean(.nearest))]
    UnknownKey { origin: Origin, key: String, nearest: Option<String> },
    #[error("{origin}: unknown variable{}", did_you_mean(.nearest))]
    UnknownVariable { origin: Origin, nearest: Option<String> },
    #[error("{origin}: {key}: {reason}")]
    Value { origin: Origin, key: String, reason: String },
    /// A key that has to be given, or a default that does not fit what was given.
    #[error("{key}: {reason}")]
    Missing { key: &'static str, reason: String },
    #[error("the development key in {}: {reason}", path.display())]
    DevelopmentKey { path: PathBuf, reason: String },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File { path, line: 0 } => write!(f, "{}", path.display()),
            Origin::File { path, line } => write!(f, "{}:{line}", path.display()),
            Origin::Env(name) => f.write_str(name),
            Origin::Flag(name) => f.write_str(name),
        }
    }
}

fn did_you_mean(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|name| format!(", did you mean `{name}`?")).unwrap_or_default()
}
