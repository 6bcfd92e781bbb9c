//! A bounded map that forgets what was not asked for the longest.
//!
//! Invariant: at most `max` entries; every slot is in the ring from newest to oldest exactly once. What is forgotten leaves its slot to what
//! comes, so nothing is ever moved.

use super::chance::Map;
use ahash::RandomState;
use std::rc::Rc;

const NONE: u32 = u32::MAX;

pub struct Lru<V> {
    places: Map<Rc<str>, u32>,
    slots: Vec<Slot<V>>,
    newest: u32,
    oldest: u32,
    max: usize,
}

struct Slot<V> {
    key: Rc<str>,
    value: V,
    newer: u32,
    older: u32,
}

impl<V> Lru<V> {
    /// One that holds at most `max` entries; with 0 it holds none.
    pub fn new(max: u32, hasher: RandomState) -> Lru<V> {
        let max = max.min(NONE - 1) as usize;
        Lru { places: Map::with_hasher(hasher), slots: Vec::new(), newest: NONE, oldest: NONE, max }
    }

    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The value of a key, which is the newest from now on.
    pub fn get(&mut self, key: &str) -> Option<&V> {
        let place = *self.places.get(key)?;
        self.touch(place);
        Some(&self.slots[place as usize].value)
    }

    /// Puts a value in, as the newest; in a full map the oldest leaves.
    pub fn insert(&mut self, key: Rc<str>, value: V) {
        if let Some(&place) = self.places.get(&key) {
            self.slots[place as usize].value = value;
            return self.touch(place);
        }
        if self.slots.len() < self.max {
            let place = self.slots.len() as u32;
            self.slots.push(Slot { key: key.clone(), value, newer: NONE, older: NONE });
            self.places.insert(key, place);
            self.link_newest(place);
        } else if self.oldest != NONE {
            let place = self.oldest;
            self.touch(place);
            let slot = &mut self.slots[place as usize];
            slot.value = value;
            let forgotten = std::mem::replace(&mut slot.key, key.clone());
            self.places.remove(&forgotten);
            self.places.insert(key, place);
        }
    }

    fn touch(&mut self, place: u32) {
        if self.newest == place {
            return;
        }
        let Slot { newer, older, .. } = self.slots[place as usize];
        // It is not the newest, so there is a newer one.
        self.slots[newer as usize].older = older;
        match older {
            NONE => self.oldest = newer,
            older => self.slots[older as usize].newer = newer,
        }
        self.link_newest(place);
    }

    fn link_newest(&mut self, place: u32) {
        let before = std::mem::replace(&mut self.newest, place);
        let slot = &mut self.slots[place as usize];
        (slot.newer, slot.older) = (NONE, before);
        match before {
            NONE => self.oldest = place,
            before => self.slots[before as usize].newer = place,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::chance::Chance;

    /// Against a list that is searched.
    #[test]
    fn it_forgets_what_was_not_asked_for_the_longest() {
        let mut chance = Chance::new([5; 32]);
        for max in [0usize, 1, 2, 3, 7] {
            let mut lru = Lru::new(max as u32, chance.hasher());
            let mut model: Vec<(u64, u64)> = Vec::new();
            for round in 0..4000 {
                let key = chance.below(12);
                let known = model.iter().position(|(known, _)| *known == key);
                if chance.below(2) == 0 {
                    let got = lru.get(&key.to_string()).copied();
                    assert_eq!(got, known.map(|at| model[at].1));
                    if let Some(at) = known {
                        let row = model.remove(at);
                        model.push(row);
                    }
                } else {
                    lru.insert(key.to_string().into(), round);
                    known.map(|at| model.remove(at));
                    model.push((key, round));
                    if model.len() > max {
                        model.remove(0);
                    }
                }
                assert_eq!((lru.len(), lru.is_empty()), (model.len(), model.is_empty()));
                assert_eq!(lru.places.len(), lru.len());
            }
        }
    }
}
