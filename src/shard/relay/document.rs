//! Documents that several nodes write to: each is bytes to the store, and whoever writes says which ones it has read.

use crate::base::time::Duration;

/// What is done.
#[derive(Debug)]
pub enum Act {
    /// What is kept of a document; for `keep` from now, where it says so.
    Read { document: Box<str>, keep: Option<Duration> },
    /// Keeps `body` in place of what begins as `on` does (nothing at all, where that is empty), and publishes `edition`, a body of
    /// [`envelope`](crate::wire::envelope), to every node that hears the tenant, this one too; where it is empty, to none. Asked again after it was
    /// done, it was done.
    Write(Box<Write>),
    /// Keeps documents for as long as they say from now, as they are.
    Keep { documents: Vec<(Box<str>, Duration)> },
}

#[derive(Debug)]
pub struct Write {
    pub document: Box<str>,
    pub on: Box<[u8]>,
    pub body: Box<[u8]>,
    pub keep: Duration,
    pub edition: Box<[u8]>,
}

/// What came of it.
#[derive(Debug)]
pub enum Answer {
    /// What is kept.
    Read(Option<Box<[u8]>>),
    Written,
    /// It was not: this is kept.
    Other(Option<Box<[u8]>>),
    /// It was not: the tenant has as many documents as it may, or as many bytes of them.
    Full,
    Kept,
}

impl Act {
    /// What it weighs while it waits.
    pub fn bytes(&self) -> usize {
        match self {
            Act::Read { document, .. } => document.len(),
            Act::Write(write) => {
                size_of::<Write>() + write.document.len() + write.on.len() + write.body.len() + write.edition.len()
            }
            Act::Keep { documents } => documents
                .iter()
                .map(|(document, keep)| document.len() + size_of_val(keep) + size_of_val(document))
                .sum(),
        }
    }
}

impl Answer {
    /// What it weighs while it waits.
    pub fn bytes(&self) -> usize {
        match self {
            Answer::Read(body) | Answer::Other(body) => body.as_ref().map_or(0, |body| body.len()),
            Answer::Written | Answer::Full | Answer::Kept => 0,
        }
    }
}
