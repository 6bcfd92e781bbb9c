//! Scenario files: TOML to a [`Scenario`]. An error names the file, the line, the key, and the name that was probably meant.
//!
//! The built-in ones are compiled in, so that the binary alone is enough; a path reads a file; `--set key=value` goes over either.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use toml::{Table, Value};

use super::Scenario;

/// By name, in the order of the documentation.
pub const BUILT_IN: &[(&str, &str)] = &[
    ("idle", include_str!("../../scenarios/idle.toml")),
    ("connect-storm", include_str!("../../scenarios/connect-storm.toml")),
    ("reconnect-storm", include_str!("../../scenarios/reconnect-storm.toml")),
    ("fan-out-small", include_str!("../../scenarios/fan-out-small.toml")),
    ("fan-out-large", include_str!("../../scenarios/fan-out-large.toml")),
    ("saturate", include_str!("../../scenarios/saturate.toml")),
    ("chat", include_str!("../../scenarios/chat.toml")),
    ("saturate-acks", include_str!("../../scenarios/saturate-acks.toml")),
    ("typing-noise", include_str!("../../scenarios/typing-noise.toml")),
    ("presence-churn", include_str!("../../scenarios/presence-churn.toml")),
    ("slow-consumers", include_str!("../../scenarios/slow-consumers.toml")),
    ("mixed", include_str!("../../scenarios/mixed.toml")),
    ("soak", include_str!("../../scenarios/soak.toml")),
];

/// The scenario of this name or path, with the dialect and the settings of the command line over it.
pub fn load(name: &str, dialect: Option<&str>, sets: &[String]) -> Result<Scenario> {
    let (place, text) = match BUILT_IN.iter().find(|(built_in, _)| *built_in == name) {
        Some((_, text)) => (name.to_owned(), (*text).to_owned()),
        None => (name.to_owned(), read(name)?),
    };
    let scenario: Scenario = parse(&place, &text)?;
    let named = |mut scenario: Scenario| {
        if scenario.name.is_empty() {
            let stem = Path::new(name).file_stem().and_then(|stem| stem.to_str());
            scenario.name = stem.unwrap_or("scenario").to_owned();
        }
        scenario
    };
    if dialect.is_none() && sets.is_empty() {
        return Ok(named(scenario));
    }
    let mut table: Table = toml::from_str(&text)?;
    if let Some(dialect) = dialect {
        table.insert("dialect".to_owned(), dialect_value(dialect)?);
    }
    for setting in sets {
        set(&mut table, setting)?;
        // After each, so that the error names the setting that is wrong.
        let checked: Result<Scenario, toml::de::Error> = table.clone().try_into();
        checked.map_err(|error| anyhow!("--set {setting}: {}", meant(error.message())))?;
    }
    let scenario = table.try_into().map_err(|error: toml::de::Error| anyhow!("{place}: {}", meant(error.message())))?;
    Ok(named(scenario))
}

/// A preset's name, or the table of a file.
fn dialect_value(name: &str) -> Result<Value> {
    if !name.ends_with(".toml") {
        return Ok(Value::String(name.to_owned()));
    }
    let text = read(name)?;
    // Read once for its errors' lines, once as the table that goes into the scenario.
    parse::<crate::dialect::Choice>(name, &text)?;
    Ok(Value::Table(toml::from_str(&text)?))
}

fn read(path: &str) -> Result<String> {
    if path.ends_with(".toml") || path.contains('/') {
        return std::fs::read_to_string(path).with_context(|| format!("reading {path}"));
    }
    let names: Vec<&str> = BUILT_IN.iter().map(|(name, _)| *name).collect();
    let near = nearest(path, names.iter().copied()).map(|near| format!(", did you mean {near:?}?")).unwrap_or_default();
    bail!("no scenario is called {path:?}{near} There are: {}; or give a .toml file", names.join(", "))
}

fn parse<T: serde::de::DeserializeOwned>(place: &str, text: &str) -> Result<T> {
    toml::from_str(text).map_err(|error: toml::de::Error| {
        let line = error.span().map_or(0, |span| 1 + text[..span.start.min(text.len())].matches('\n').count());
        anyhow!("{place}:{line}: {}", meant(error.message()))
    })
}

/// ``unknown field `conections`, expected one of `name`, `about`..`` with the name that was probably meant instead of the whole list.
fn meant(message: &str) -> String {
    let Some((what, expected)) = message.split_once(", expected ").filter(|(what, _)| what.starts_with("unknown "))
    else {
        return message.to_owned();
    };
    let what = what.replace("field", "key");
    let known: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
    match what.split('`').nth(1).and_then(|unknown| nearest(unknown, known.iter().copied())) {
        Some(near) => format!("{what}, did you mean `{near}`?"),
        None => format!("{what}; there are: {}", known.join(", ")),
    }
}

/// The name nearest to an unknown one, if it is near enough to be meant.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let distance = |known: &str| strsim::damerau_levenshtein(&name.to_ascii_lowercase(), known);
    known
        .into_iter()
        .map(|known| (distance(known), known))
        .filter(|&(distance, known)| distance * 3 <= known.len().max(3))
        .min()
        .map(|(_, known)| known)
}

/// `publish.rate=100` over a table; the value is TOML, or else a text.
fn set(table: &mut Table, setting: &str) -> Result<()> {
    let Some((path, text)) = setting.split_once('=') else { bail!("--set {setting}: write KEY=VALUE") };
    let value = format!("v = {text}").parse::<Table>().ok().and_then(|mut table| table.remove("v"));
    let value = value.unwrap_or_else(|| Value::String(text.to_owned()));
    let mut keys: Vec<&str> = path.split('.').collect();
    let last = keys.pop().context("split gives one at least")?;
    let mut inner = table;
    for key in keys {
        let entry = inner.entry(key).or_insert_with(|| Value::Table(Table::new()));
        if let (Value::String(preset), "dialect") = (&*entry, key) {
            *entry = Value::Table(Table::from_iter([("preset".to_owned(), Value::String(preset.clone()))]));
        }
        inner = entry.as_table_mut().with_context(|| format!("--set {setting}: {key} is no table"))?;
    }
    // `--set publish.in_flight=4` on a scenario with a rate means the other kind of loop.
    let other = match last {
        "in_flight" => "rate",
        "rate" => "in_flight",
        _ => "",
    };
    if path.starts_with("publish.") || path.starts_with("request.") {
        inner.remove(other);
    }
    inner.insert(last.to_owned(), value);
    Ok(())
}
