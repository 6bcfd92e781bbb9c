//! What a report must say.
