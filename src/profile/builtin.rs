//! The profiles that come with the server: one for each application it was built for, and the default for all others.

pub const DEFAULT: &str = include_str!("builtin/default.toml");

/// Name and text, the default first.
pub const BUILTIN: &[(&str, &str)] = &[("default", DEFAULT)];

/// The text of a built-in profile.
pub fn text(name: &str) -> Option<&'static str> {
    BUILTIN.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}
