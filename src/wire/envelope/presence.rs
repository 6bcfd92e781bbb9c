//! The store's own words, which no node has made: who came, went or changed, as a script saw it over all nodes and published it.
//!
//! ```text
//! frame   0       version, 1
//!         1       3: noted
//!         ..      entries, to the end
//!
//! entry   but     the process whose own clients were told of it while the store was away, in hexadecimal; empty: none    \
//!         room    empty: it is about the tenant                                                                         | each behind its
//!         user                                                                                                          | length, 2 bytes,
//!         from    how the user was; empty: it was not there                                                             | big endian
//!         to      how it is; empty: it is not there any more                                                            /
//!         seen    its last sign of life, Unix ms, 8 bytes                     big endian
//! ```

use super::VERSION;

/// What became of one user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry<'a> {
    pub but: &'a str,
    pub room: &'a str,
    pub user: &'a str,
    pub from: &'a [u8],
    pub to: &'a [u8],
    pub seen: u64,
}

/// The entries of a frame, where it is one of these.
pub fn noted(frame: &[u8]) -> Option<&[u8]> {
    match frame {
        [VERSION, 3, entries @ ..] => Some(entries),
        _ => None,
    }
}

/// A frame with these entries: what a script writes.
pub fn frame(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut out = vec![VERSION, 3];
    for entry in entries {
        for field in [entry.but.as_bytes(), entry.room.as_bytes(), entry.user.as_bytes(), entry.from, entry.to] {
            out.extend_from_slice(&u16::try_from(field.len()).unwrap_or(u16::MAX).to_be_bytes());
            out.extend_from_slice(field);
        }
        out.extend_from_slice(&entry.seen.to_be_bytes());
    }
    out
}

/// All entries, or none where one cannot be read.
pub fn decode(mut bytes: &[u8]) -> Option<Vec<Entry<'_>>> {
    let mut entries = Vec::new();
    while !bytes.is_empty() {
        let (but, room, user) = (text(&mut bytes)?, text(&mut bytes)?, text(&mut bytes)?);
        let (from, to) = (field(&mut bytes)?, field(&mut bytes)?);
        let (seen, rest) = bytes.split_first_chunk()?;
        bytes = rest;
        entries.push(Entry { but, room, user, from, to, seen: u64::from_be_bytes(*seen) });
    }
    Some(entries)
}

fn field<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = bytes.split_first_chunk()?;
    let (field, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    *bytes = rest;
    Some(field)
}

fn text<'a>(bytes: &mut &'a [u8]) -> Option<&'a str> {
    std::str::from_utf8(field(bytes)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_read_back_and_what_is_cut_is_none() {
        let list = [
            Entry { but: "ff", room: "r", user: "ana", from: b"", to: b"x", seen: 1_763_700_000_123 },
            Entry { user: "ben", from: b"x", ..Entry::default() },
        ];
        let bytes = frame(&list);
        let entries = noted(&bytes).unwrap();
        assert_eq!(decode(entries).unwrap(), list);
        let whole = [0, entries.len() - frame(&list[1..]).len() + 2, entries.len()];
        for cut in 0..=entries.len() {
            assert_eq!(decode(&entries[..cut]).is_some(), whole.contains(&cut), "{cut}");
        }
        assert_eq!((noted(&[1, 1, 2]), noted(&[1])), (None, None));
        assert_eq!(decode(&[0, 1, 255, 0, 0, 0, 0, 0, 0, 0, 0]), None, "not a text");
    }
}
