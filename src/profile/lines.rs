//! Where in a TOML text each key stands, by its path: `history.rooms[1].events`.

use std::collections::BTreeMap;
use toml::de::{DeTable, DeValue, Error};

#[derive(Clone, Debug, Default)]
pub struct Lines {
    lines: BTreeMap<String, usize>,
    /// Bytes that a key and its value take, and its path; inner ones after outer ones.
    spans: Vec<(std::ops::Range<usize>, String)>,
}

impl Lines {
    pub fn of(text: &str) -> Result<Lines, Error> {
        let table = DeTable::parse(text)?;
        let mut lines = Lines::default();
        lines.note(text, "", table.get_ref());
        Ok(lines)
    }

    /// The line of a key, from 1; of the nearest outer one where it is not there itself, 0 where none is.
    pub fn line(&self, path: &str) -> usize {
        let mut path = path;
        loop {
            if let Some(line) = self.lines.get(path) {
                return *line;
            }
            match path.rfind(['.', '[']) {
                Some(end) => path = &path[..end],
                None => return 0,
            }
        }
    }

    /// As [`line`](Self::line), of a key that is there.
    pub fn get(&self, path: &str) -> Option<usize> {
        self.lines.get(path).copied()
    }

    /// The innermost key whose text or value holds all these bytes; none where they are of the whole text.
    pub fn path_of(&self, bytes: &std::ops::Range<usize>) -> &str {
        let holds =
            |span: &std::ops::Range<usize>| span.start <= bytes.start && bytes.end <= span.end && !bytes.is_empty();
        self.spans.iter().rev().find(|(span, _)| holds(span)).map_or("", |(_, path)| path)
    }

    fn note(&mut self, text: &str, prefix: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let key = quoted(name.get_ref());
            let path = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
            self.lines.insert(path.clone(), line(text, name.span().start));
            self.spans.push((name.span(), path.clone()));
            self.note_value(text, path, value.span(), value.get_ref());
        }
    }

    fn note_value(&mut self, text: &str, path: String, span: std::ops::Range<usize>, value: &DeValue<'_>) {
        self.spans.push((span, path.clone()));
        match value {
            DeValue::Table(table) => self.note(text, &path, table),
            DeValue::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    let path = format!("{path}[{index}]");
                    self.lines.insert(path.clone(), line(text, item.span().start));
                    self.note_value(text, path, item.span(), item.get_ref());
                }
            }
            _ => {}
        }
    }
}

/// A key as TOML has it written: bare, or in quotes where it has other characters.
pub fn quoted(key: &str) -> String {
    let is_bare = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if is_bare { key.to_owned() } else { format!("\"{key}\"") }
}

/// The line of a byte, from 1.
pub fn line(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|&byte| byte == b'\n').count() + 1
}
