//! The application's profile: a built-in one by its name, or a file.

use super::error::{Error, Origin};
use super::raw::Raw;
use crate::profile::{Profile, builtin, nearest::nearest};
use std::path::{Path, PathBuf};

/// A name with a slash or with `.toml` at its end is a file, relative to whoever names it.
pub fn load(raw: &Raw) -> Result<Profile, Error> {
    let key = "server.profile";
    let name = raw.text(key)?.unwrap_or_else(|| "default".into());
    if let Some(text) = builtin::text(&name) {
        return parse(Path::new(&format!("{name} (built in)")), text);
    }
    if !name.contains('/') && !name.ends_with(".toml") {
        let names: Vec<&str> = builtin::BUILTIN.iter().map(|(name, _)| *name).collect();
        let hint = nearest(&name, names.iter().copied()).map(|meant| format!(", did you mean `{meant}`?"));
        let reason = format!(
            "no such profile{}; built in: {}; or a file, `./mine.toml`",
            hint.unwrap_or_default(),
            names.join(", ")
        );
        return Err(raw.error(key, reason));
    }
    let file = match raw.origin(key) {
        Some(Origin::File { path, .. }) => path.parent().unwrap_or(Path::new("")).join(&name),
        _ => PathBuf::from(&name),
    };
    let text = std::fs::read_to_string(&file)
        .map_err(|error| raw.error(key, format!("{} cannot be read: {error}", file.display())))?;
    parse(&file, &text)
}

fn parse(file: &Path, text: &str) -> Result<Profile, Error> {
    Profile::parse(text).map_err(|error| {
        let origin = Origin::File { path: file.into(), line: error.line };
        match error.key.is_empty() {
            true => Error::Syntax { origin, reason: error.reason },
            false => Error::Value { origin, key: error.key, reason: error.reason },
        }
    })
}
