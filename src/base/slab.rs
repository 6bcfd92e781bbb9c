//! A generational slab: a key outlives what it named without ever naming something else.
//!
//! Invariant: a slot's generation rises on every removal, so a late timer, acknowledgement or leave finds nothing.

use std::marker::PhantomData;

/// A typed key: slot and generation. Declared with [`key!`](crate::key).
pub trait Key: Copy {
    fn new(index: u32, generation: u32) -> Self;
    fn index(self) -> u32;
    fn generation(self) -> u32;
}

/// Declares a key type for a [`Slab`].
#[macro_export]
macro_rules! key {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name {
            // One more than the slot, so that an optional key is no larger than a key.
            slot: std::num::NonZeroU32,
            generation: u32,
        }
        impl $crate::base::slab::Key for $name {
            fn new(index: u32, generation: u32) -> Self {
                $name { slot: std::num::NonZeroU32::MIN.saturating_add(index), generation }
            }
            fn index(self) -> u32 { self.slot.get() - 1 }
            fn generation(self) -> u32 { self.generation }
        }
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                use $crate::base::slab::Key;
                f.debug_struct(stringify!($name)).field("index", &self.index()).field("generation", &self.generation).finish()
            }
        }
    };
}

enum Slot<T> {
    Full { generation: u32, value: T },
    Free { generation: u32, next: Option<u32> },
}

pub struct Slab<K, T> {
    slots: Vec<Slot<T>>,
    free: Option<u32>,
    count: usize,
    key: PhantomData<K>,
}

impl<K: Key, T> Default for Slab<K, T> {
    fn default() -> Self {
        Slab { slots: Vec::new(), free: None, count: 0, key: PhantomData }
    }
}

impl<K: Key, T> Slab<K, T> {
    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn insert(&mut self, value: T) -> K {
        self.insert_with(|_| value)
    }

    /// Inserts a value that knows its own key.
    pub fn insert_with(&mut self, make: impl FnOnce(K) -> T) -> K {
        self.count += 1;
        if let Some(index) = self.free {
            let Slot::Free { generation, next } = self.slots[index as usize] else {
                unreachable!("the free list names free slots")
            };
            self.free = next;
            let key = K::new(index, generation);
            self.slots[index as usize] = Slot::Full { generation, value: make(key) };
            return key;
        }
        let index = u32::try_from(self.slots.len()).expect("a shard holds fewer than 2^32 of anything");
        let key = K::new(index, 0);
        self.slots.push(Slot::Full { generation: 0, value: make(key) });
        key
    }

    pub fn get(&self, key: K) -> Option<&T> {
        match self.slots.get(key.index() as usize)? {
            Slot::Full { generation, value } if *generation == key.generation() => Some(value),
            _ => None,
        }
    }

    pub fn get_mut(&mut self, key: K) -> Option<&mut T> {
        match self.slots.get_mut(key.index() as usize)? {
            Slot::Full { generation, value } if *generation == key.generation() => Some(value),
            _ => None,
        }
    }

    /// The key of whatever is in a slot now.
    pub fn key_at(&self, index: u32) -> Option<K> {
        match self.slots.get(index as usize)? {
            Slot::Full { generation, .. } => Some(K::new(index, *generation)),
            Slot::Free { .. } => None,
        }
    }

    pub fn contains(&self, key: K) -> bool {
        self.get(key).is_some()
    }

    pub fn remove(&mut self, key: K) -> Option<T> {
        self.get(key)?;
        let generation = key.generation().wrapping_add(1);
        let old = std::mem::replace(&mut self.slots[key.index() as usize], Slot::Free { generation, next: self.free });
        self.free = Some(key.index());
        self.count -= 1;
        match old {
            Slot::Full { value, .. } => Some(value),
            Slot::Free { .. } => unreachable!("looked at above"),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (K, &T)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| match slot {
            Slot::Full { generation, value } => Some((K::new(index as u32, *generation), value)),
            Slot::Free { .. } => None,
        })
    }

    pub fn keys(&self) -> impl Iterator<Item = K> + '_ {
        self.iter().map(|(key, _)| key)
    }
}

impl<K: Key, T> std::ops::Index<K> for Slab<K, T> {
    type Output = T;
    fn index(&self, key: K) -> &T {
        self.get(key).expect("the key names something alive")
    }
}

impl<K: Key, T> std::ops::IndexMut<K> for Slab<K, T> {
    fn index_mut(&mut self, key: K) -> &mut T {
        self.get_mut(key).expect("the key names something alive")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    key!(TestKey);

    #[test]
    fn a_key_never_names_its_successor() {
        let mut slab: Slab<TestKey, &str> = Slab::default();
        let a = slab.insert("a");
        let b = slab.insert("b");
        assert_eq!(slab.remove(a), Some("a"));
        assert_eq!(slab.remove(a), None);
        let c = slab.insert("c");
        assert_eq!(c.index(), a.index(), "the slot is used again");
        assert_eq!((slab.get(a), slab.get(b), slab.get(c)), (None, Some(&"b"), Some(&"c")));
        assert_eq!(size_of::<Option<TestKey>>(), 8);
        assert_eq!(slab.len(), 2);
        assert_eq!(slab.keys().collect::<Vec<_>>(), vec![c, b]);
    }
}
