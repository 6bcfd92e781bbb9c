//! The application: namespaces and their event handlers.
pub struct App {}
