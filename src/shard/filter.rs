//! What a member wants of a room: event types (with `*` and `?`) and entities. An absent list wants everything.

use super::history::Event;
use crate::wire::auth::Pattern;

#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub types: Box<[Pattern]>,
    pub entities: Box<[(Box<str>, Box<str>)]>,
}

impl Filter {
    pub fn is_empty(&self) -> bool {
        self.types.is_empty() && self.entities.is_empty()
    }

    /// Both lists must agree; with a list of entities, an event of no entity is not wanted.
    pub fn wants(&self, event: &Event) -> bool {
        let entity = || event.entity.as_ref().is_some_and(|entity| self.entities.contains(entity));
        (self.types.is_empty() || self.types.iter().any(|pattern| pattern.matches(&event.name)))
            && (self.entities.is_empty() || entity())
    }
}
