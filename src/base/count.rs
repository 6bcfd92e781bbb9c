//! Counts, by name: a list of them is the enum that code counts with and the names that metrics have, which cannot part ways.

/// Declares `Count`, and `NAMES` in the same order.
macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident $text:literal;)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Count { $($(#[$doc])* $name,)* }
        const NAMES: &[&str] = &[$($text,)*];
    };
}

pub(crate) use counts;
