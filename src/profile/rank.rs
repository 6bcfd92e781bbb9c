//! Values by pattern, the most specific pattern first: a name without wildcards before any pattern, then the one that spells out more.

use crate::wire::auth::Pattern;

#[derive(Clone, Debug)]
pub struct Ranked<T>(Box<[(Pattern, T)]>);

impl<T> Ranked<T> {
    /// Two patterns that spell out as much stay in the order given.
    pub fn new(entries: impl IntoIterator<Item = (Pattern, T)>) -> Ranked<T> {
        let mut entries: Vec<(Pattern, T)> = entries.into_iter().collect();
        entries.sort_by_key(|(pattern, _)| std::cmp::Reverse(weight(pattern.as_str())));
        Ranked(entries.into())
    }

    pub fn of(&self, name: &str) -> Option<&T> {
        self.0.iter().find(|(pattern, _)| pattern.matches(name)).map(|(_, value)| value)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Pattern, &T)> {
        self.0.iter().map(|(pattern, value)| (pattern, value))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T> Default for Ranked<T> {
    fn default() -> Ranked<T> {
        Ranked(Box::default())
    }
}

/// How much a pattern says: whether all of it is literal, then how many characters are.
pub fn weight(pattern: &str) -> (bool, usize) {
    let wild = pattern.chars().filter(|c| matches!(c, '*' | '?')).count();
    (wild == 0, pattern.chars().count() - wild)
}
