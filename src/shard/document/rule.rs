//! How documents are served: which, by which strategy, within which bounds. Every id is served by the first rule that fits it, or not at all.

use crate::base::time::Duration;
use crate::wire::auth::Pattern;

/// Which documents are served, and how; the first pattern that fits a document's id decides. None: `documents_unavailable`.
#[derive(Clone, Debug)]
pub struct DocumentSettings {
    pub rules: Vec<(Pattern, DocumentRule)>,
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
    pub strategy: Strategy,
    /// Whoever is in this room has the document open; `{document}` stands for its id.
    pub room: Box<str>,
    /// The event that tells the others who have it open of an update.
    pub update_event: Box<str>,
    /// Fields of one document. Above: `document_too_large`.
    pub fields_max: usize,
    /// Bytes of a document's names, values and open conflicts; its past may have as many again. Above: `document_too_large`.
    pub bytes_max: usize,
    /// How long a document that nobody has open is remembered at least; at most twice as long.
    pub kept: Duration,
    /// How many versions back the base of an update may be, at most [`limit::DOCUMENT_VERSIONS_MAX`]. An older one is `version_too_old`.
    pub versions_kept: u64,
}

impl Default for DocumentRule {
    fn default() -> DocumentRule {
        DocumentRule {
            strategy: Strategy::LastWriteWins,
            room: "document:{document}".into(),
            update_event: "document:update".into(),
            fields_max: 256,
            bytes_max: 65_536,
            kept: Duration::from_secs(3600),
            versions_kept: 100,
        }
    }
}

impl DocumentRule {
    pub fn room_of(&self, document: &str) -> String {
        self.room.replace("{document}", document)
    }
}

/// What becomes of a field that two writers changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    LastWriteWins,
    Reject,
    Manual,
}

impl Strategy {
    pub const ALL: [Strategy; 3] = [Strategy::LastWriteWins, Strategy::Reject, Strategy::Manual];

    pub fn as_str(self) -> &'static str {
        match self {
            Strategy::LastWriteWins => "last-write-wins",
            Strategy::Reject => "reject",
            Strategy::Manual => "manual",
        }
    }

    pub fn parse(text: &str) -> Option<Strategy> {
        Strategy::ALL.into_iter().find(|strategy| strategy.as_str() == text)
    }
}
