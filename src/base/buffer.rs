//! Bytes that are nearly always none: one word while empty, where a vector takes three.
//!
//! Invariant: a buffer that was never written, or was replaced by [`Buffer::default`], owns no memory. One that was drained keeps its own.

use std::ops::{Deref, DerefMut};

/// A `Vec<u8>` behind a pointer that is there when there are bytes. Borrowed mutably, it gets its vector.
#[derive(Clone, Debug, Default)]
#[expect(clippy::box_collection, reason = "the point: 8 bytes instead of 24")]
pub struct Buffer(Option<Box<Vec<u8>>>);

const _: () = assert!(size_of::<Buffer>() == 8, "every connection has several, nearly always empty");

static EMPTY: Vec<u8> = Vec::new();

impl Buffer {
    /// Appends; nothing is allocated for nothing.
    pub fn append_slice(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.0.get_or_insert_default().extend_from_slice(bytes);
        }
    }

    pub fn into_vec(self) -> Vec<u8> {
        self.0.map_or_else(Vec::new, |bytes| *bytes)
    }
}

impl Deref for Buffer {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        self.0.as_deref().unwrap_or(&EMPTY)
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        self.0.get_or_insert_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_a_vector_once_it_is_written() {
        let mut buffer = Buffer::default();
        assert!(buffer.is_empty() && buffer.0.is_none());
        buffer.append_slice(b"");
        assert!(buffer.0.is_none());
        buffer.append_slice(b"ab");
        buffer.push(b'c');
        assert_eq!(&buffer[1..], b"bc");
        buffer.drain(..2);
        assert_eq!((buffer.len(), buffer.clone().into_vec()), (1, b"c".to_vec()));
        assert_eq!(std::mem::take(&mut buffer).into_vec(), b"c");
        assert!(buffer.0.is_none() && buffer.into_vec().is_empty());
    }
}
