//! Documents that several nodes write to.

use crate::base::{
    limit::{DOCUMENTS_BYTES_MAX, DOCUMENTS_MAX},
    time::{Instant, Now},
};
use crate::shard::document::stored;
use crate::shard::relay::document::{Act, Answer, Write};
use std::collections::BTreeMap;

/// What a tenant has of it: bodies, and until when they are kept.
#[derive(Default)]
pub struct Store {
    known: BTreeMap<Box<str>, (Box<[u8]>, Instant)>,
    /// What is to be published of the last write.
    pub edition: Option<Box<[u8]>>,
}

impl Store {
    pub fn act(&mut self, now: Now, act: Act) -> Answer {
        self.known.retain(|_, (_, until)| *until > now.at);
        match act {
            Act::Read { document, keep } => {
                let Some((body, until)) = self.known.get_mut(&document) else { return Answer::Read(None) };
                if let Some(keep) = keep {
                    *until = now.at + keep;
                }
                Answer::Read(Some(body.clone()))
            }
            Act::Write(write) => self.write(now.at, *write),
            Act::Keep { documents } => {
                for (document, keep) in documents {
                    if let Some((_, until)) = self.known.get_mut(&document) {
                        *until = now.at + keep;
                    }
                }
                Answer::Kept
            }
        }
    }

    fn write(&mut self, now: Instant, write: Write) -> Answer {
        let Write { document, on, body, keep, edition } = write;
        let known = self.known.get(&document).map(|(body, _)| body);
        let head = known.map_or(&[][..], |body| stored::head(body));
        if head == stored::head(&body) {
            return Answer::Written;
        }
        if head != &*on {
            return Answer::Other(known.cloned());
        }
        let weight: usize = self.known.values().map(|(body, _)| body.len()).sum();
        let before = known.map_or(0, |body| body.len());
        let grows = body.len() > before && weight - before + body.len() > DOCUMENTS_BYTES_MAX;
        if grows || (known.is_none() && self.known.len() >= DOCUMENTS_MAX) {
            return Answer::Full;
        }
        self.known.insert(document, (body, now + keep));
        self.edition = Some(edition).filter(|edition| !edition.is_empty());
        Answer::Written
    }
}
