//! The profiles that come with the server: one for each application it was built for, and the default for all others.

pub const DEFAULT: &str = include_str!("builtin/default.toml");

/// Name and text, the default first.
pub const BUILTIN: &[(&str, &str)] = &[
    ("default", DEFAULT),
    ("travel-umroh", include_str!("builtin/travel-umroh.toml")),
    ("support-desk", include_str!("builtin/support-desk.toml")),
    ("project-hub", include_str!("builtin/project-hub.toml")),
    ("whatsapp-crm", include_str!("builtin/whatsapp-crm.toml")),
    ("construction-erp", include_str!("builtin/construction-erp.toml")),
];

/// The text of a built-in profile.
pub fn text(name: &str) -> Option<&'static str> {
    BUILTIN.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}
