//! Who is there, over all nodes.

/// What is done.
#[derive(Debug)]
pub enum Act {}

/// What came of it.
#[derive(Debug)]
pub enum Answer {}

impl Act {
    /// What it weighs while it waits.
    pub fn bytes(&self) -> usize {
        match *self {}
    }
}

impl Answer {
    /// As [`Act::bytes`].
    pub fn bytes(&self) -> usize {
        match *self {}
    }
}
