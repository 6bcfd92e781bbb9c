//! How documents are served: which, by which strategy, within which bounds. Every id is served by the first rule that fits it, or not at all.

use crate::base::time::Duration;
use crate::profile::{
    Profile,
    file::Strategy,
    template::{Template, quoted},
};
use crate::wire::auth::Pattern;

/// Which documents are served, and how; the first pattern that fits a document's id decides. None: `documents_unavailable`.
#[derive(Clone, Debug)]
pub struct DocumentSettings {
    pub rules: Vec<(Pattern, DocumentRule)>,
}

impl DocumentSettings {
    /// As a profile says.
    pub fn of(profile: &Profile) -> DocumentSettings {
        let rule = |(pattern, document): (&Pattern, &crate::profile::Document)| {
            let rule = DocumentRule {
                strategy: document.strategy,
                room: document.room.clone(),
                update_event: document.updated.clone(),
                ..DocumentRule::default()
            };
            (pattern.clone(), rule)
        };
        DocumentSettings { rules: profile.documents.iter().map(rule).collect() }
    }
}

impl Default for DocumentSettings {
    /// Every document, and the last write wins.
    fn default() -> DocumentSettings {
        let all = Pattern::parse("*").expect("a pattern");
        DocumentSettings { rules: vec![(all, DocumentRule::default())] }
    }
}

#[derive(Clone, Debug)]
pub struct DocumentRule {
    /// What becomes of a field that two writers changed.
    pub strategy: Strategy,
    /// Whoever is in this room has the document open; `{document}` stands for its id.
    pub room: Template,
    /// The event that tells the others who have it open of an update.
    pub update_event: Box<str>,
    /// Fields of one document. Above: `document_too_large`.
    pub fields_max: usize,
    /// Bytes of a document's names, values and open conflicts; its past may have as many again. Above: `document_too_large`.
    pub bytes_max: usize,
    /// How long a document that nobody has open is remembered at least; at most twice as long.
    pub kept: Duration,
    /// How many versions back the base of an update may be, at most
    /// [`DOCUMENT_VERSIONS_MAX`](crate::base::limit::DOCUMENT_VERSIONS_MAX). An older one is `version_too_old`.
    pub versions_kept: u64,
}

impl Default for DocumentRule {
    fn default() -> DocumentRule {
        DocumentRule {
            strategy: Strategy::LastWriteWins,
            room: Template::parse("document:{document}").expect("a template"),
            update_event: "document:updated".into(),
            fields_max: 256,
            bytes_max: 65_536,
            kept: Duration::from_secs(3600),
            versions_kept: 100,
        }
    }
}

impl DocumentRule {
    /// The room of a document whose id is a name; no room where it is none.
    pub fn room_of(&self, document: &str) -> String {
        self.room.text(&|_| Some(quoted(document))).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever holds a shard without a profile has the documents of the default one.
    #[test]
    fn the_default_profile_serves_every_document() {
        let of_profile = DocumentSettings::of(&Profile::default());
        assert_eq!(format!("{of_profile:?}"), format!("{:?}", DocumentSettings::default()));
        let (pattern, rule) = &of_profile.rules[0];
        assert!(pattern.matches("invoice:7") && rule.room_of("invoice:7") == "document:invoice:7");
        assert_eq!(rule.room_of("{document}\""), "document:{document}\"");
    }
}
