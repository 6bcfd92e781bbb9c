//! The layers of a configuration before their values mean anything: file below environment below flags, each value with its origin.
//!
//! Invariant: every entry's path is in [`KEYS`]. A getter answers with the default where nothing was given, and checks type and range.

use super::error::{Error, Origin};
use super::key::{self, KEYS, Key};
use crate::profile::{
    lines::{Lines, line},
    nearest::nearest,
};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use toml::Value;

#[derive(Default)]
pub struct Raw {
    entries: BTreeMap<&'static str, Entry>,
    /// Lines of the file by path, `history.rooms[1].events` among them.
    lines: Lines,
    #[cfg(test)]
    pub read: std::cell::RefCell<std::collections::BTreeSet<&'static str>>,
}

struct Entry {
    given: Given,
    origin: Origin,
}

enum Given {
    /// From the environment or a flag: typed by whoever reads it.
    Text(String),
    Toml(Value),
}

impl Raw {
    /// Lays a file's values over what is there. `path` is for errors only.
    pub fn add_file(&mut self, path: &Path, text: &str) -> Result<(), Error> {
        let syntax = |error: toml::de::Error| Error::Syntax {
            origin: Origin::File { path: path.into(), line: error.span().map_or(0, |span| line(text, span.start)) },
            reason: error.message().to_owned(),
        };
        self.lines = Lines::of(text).map_err(syntax)?;
        let table: toml::Table = text.parse().map_err(syntax)?;
        for (section, value) in table {
            let Value::Table(table) = value else {
                return Err(self.unknown(path, &section));
            };
            if !KEYS.iter().any(|key| key.section() == section) {
                return Err(self.unknown(path, &section));
            }
            for (name, value) in table {
                let full = format!("{section}.{name}");
                let Some(key) = key::find(&full) else { return Err(self.unknown(path, &full)) };
                let origin = self.at(path, &full);
                self.entries.insert(key.path, Entry { given: Given::Toml(value), origin });
            }
        }
        Ok(())
    }

    /// Lays one value of the environment or the command line over what is there.
    pub fn add_text(&mut self, key: &Key, text: String, origin: Origin) {
        self.entries.insert(key.path, Entry { given: Given::Text(text), origin });
    }

    pub fn is_set(&self, path: &'static str) -> bool {
        self.entry(path).is_some()
    }

    /// The value's error, with its origin; without one, the default's.
    pub fn error(&self, path: &'static str, reason: impl Into<String>) -> Error {
        let reason = reason.into();
        match self.entries.get(path) {
            Some(entry) => Error::Value { origin: entry.origin.clone(), key: path.into(), reason },
            None => Error::Missing { key: path, reason },
        }
    }

    pub fn number(&self, path: &'static str, default: u64, range: RangeInclusive<u64>) -> Result<u64, Error> {
        debug_assert!(range.contains(&default), "{path}");
        let number = match self.entry(path) {
            None => return Ok(default),
            Some(Given::Text(text)) => text.trim().parse::<u64>().ok(),
            Some(Given::Toml(value)) => value.as_integer().and_then(|number| u64::try_from(number).ok()),
        };
        number.filter(|number| range.contains(number)).ok_or_else(|| self.error(path, out_of(&range)))
    }

    pub fn flag(&self, path: &'static str, default: bool) -> Result<bool, Error> {
        let flag = match self.entry(path) {
            None => return Ok(default),
            Some(Given::Text(text)) => match text.trim() {
                "true" | "1" => Some(true),
                "false" | "0" => Some(false),
                _ => None,
            },
            Some(Given::Toml(value)) => value.as_bool(),
        };
        flag.ok_or_else(|| self.error(path, "must be true or false"))
    }

    pub fn text(&self, path: &'static str) -> Result<Option<String>, Error> {
        let text = match self.entry(path) {
            None => return Ok(None),
            Some(Given::Text(text)) => text.clone(),
            Some(Given::Toml(Value::String(text))) => text.clone(),
            Some(Given::Toml(other)) => return Err(self.error(path, format!("must be a string, not {}", kind(other)))),
        };
        if text.trim().is_empty() {
            return Err(self.error(path, "is set, but empty"));
        }
        Ok(Some(text))
    }

    /// A list: an array of strings, one string, or in the environment a comma list or an array in TOML.
    pub fn list(&self, path: &'static str) -> Result<Option<Vec<String>>, Error> {
        let value = match self.entry(path) {
            None => return Ok(None),
            Some(Given::Text(text)) if text.trim_start().starts_with('[') => self.toml(path, text)?,
            Some(Given::Text(text)) => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                return Ok(Some(items.map(str::to_owned).collect()));
            }
            Some(Given::Toml(value)) => value.clone(),
        };
        let wrong = || self.error(path, "must be a list of strings");
        match value {
            Value::String(text) => Ok(Some(vec![text])),
            Value::Array(items) => items
                .into_iter()
                .map(|item| if let Value::String(text) = item { Ok(text) } else { Err(wrong()) })
                .collect::<Result<_, _>>()
                .map(Some),
            _ => Err(wrong()),
        }
    }

    /// A list of tables, each checked against `names`. In the environment: an array of inline tables in TOML.
    pub fn tables(&self, path: &'static str, names: &[&str]) -> Result<Vec<toml::Table>, Error> {
        let value = match self.entry(path) {
            None => return Ok(Vec::new()),
            Some(Given::Text(text)) => self.toml(path, text)?,
            Some(Given::Toml(value)) => value.clone(),
        };
        let Value::Array(items) = value else { return Err(self.error(path, "must be a list of tables")) };
        items
            .into_iter()
            .enumerate()
            .map(|(index, item)| {
                let Value::Table(table) = item else { return Err(self.error(path, "must be a list of tables")) };
                match table.keys().find(|name| !names.contains(&name.as_str())) {
                    None => Ok(table),
                    Some(name) => Err(Error::UnknownKey {
                        origin: self.origin_in(path, index, Some(name)),
                        key: format!("{path}[{index}].{name}"),
                        nearest: nearest(name, names.iter().copied()).map(str::to_owned),
                    }),
                }
            })
            .collect()
    }

    /// The error of a value within a list of tables.
    pub fn error_in(&self, path: &'static str, index: usize, name: &str, reason: impl Into<String>) -> Error {
        let key = format!("{path}[{index}].{name}");
        Error::Value { origin: self.origin_in(path, index, Some(name)), key, reason: reason.into() }
    }

    /// Where `path` was given.
    pub fn origin(&self, path: &'static str) -> Option<&Origin> {
        self.entries.get(path).map(|entry| &entry.origin)
    }

    fn entry(&self, path: &'static str) -> Option<&Given> {
        debug_assert!(key::find(path).is_some(), "{path} is not in the table of keys");
        #[cfg(test)]
        self.read.borrow_mut().insert(path);
        self.entries.get(path).map(|entry| &entry.given)
    }

    /// A value of the environment that is written in TOML.
    fn toml(&self, path: &'static str, text: &str) -> Result<Value, Error> {
        let document = format!("value = {text}");
        let mut table: toml::Table = document
            .parse()
            .map_err(|error: toml::de::Error| self.error(path, format!("not TOML: {}", error.message())))?;
        table.remove("value").ok_or_else(|| self.error(path, "not TOML"))
    }

    fn origin_in(&self, path: &'static str, index: usize, name: Option<&str>) -> Origin {
        let within = name.map(|name| format!("{path}[{index}].{name}")).and_then(|name| self.lines.get(&name));
        match (self.origin(path), within.or_else(|| self.lines.get(&format!("{path}[{index}]")))) {
            (Some(Origin::File { path, .. }), Some(line)) => Origin::File { path: path.clone(), line },
            (Some(origin), _) => origin.clone(),
            (None, _) => Origin::File { path: PathBuf::new(), line: 0 },
        }
    }

    fn at(&self, file: &Path, path: &str) -> Origin {
        Origin::File { path: file.into(), line: self.lines.get(path).unwrap_or(0) }
    }

    fn unknown(&self, file: &Path, path: &str) -> Error {
        let known: Vec<&str> = if path.contains('.') {
            KEYS.iter().map(|key| key.path).collect()
        } else {
            KEYS.iter().flat_map(|key| [key.section(), key.path]).collect()
        };
        let nearest = nearest(path, known.iter().copied()).or_else(|| {
            // `[limits] connections_per_ip`: no name is near as a whole, one in the same section may be.
            let (section, name) = path.split_once('.')?;
            let mut names = KEYS.iter().filter(|key| key.section() == section).map(|key| key.path);
            names.clone().find(|path| path.contains(name)).or_else(|| {
                let first = name.split('_').next().filter(|word| word.len() > 3)?;
                names.find(|path| path.contains(first))
            })
        });
        Error::UnknownKey { origin: self.at(file, path), key: path.into(), nearest: nearest.map(str::to_owned) }
    }
}

pub fn out_of(range: &RangeInclusive<u64>) -> String {
    format!("must be a whole number from {} to {}", range.start(), range.end())
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a string",
        Value::Integer(_) => "an integer",
        Value::Float(_) => "a float",
        Value::Boolean(_) => "a boolean",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "an array",
        Value::Table(_) => "a table",
    }
}
