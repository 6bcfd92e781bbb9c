//! (being written)
#[derive(Debug)]
pub struct Response {}
