//! Where a string goes on as it is. Most strings of a message are a few bytes, where a search that is made for long texts costs more to begin
//! than the string takes.

/// Bytes after which a long search is worth its beginning.
const SHORT_BYTES: usize = 64;

/// How many bytes from the first on stand for themselves in a string: up to a quote, a backslash or a control character. Eight at a time, as
/// long as there are eight.
pub fn plain(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    let mut at = 0;
    while let Some(eight) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let eight = u64::from_le_bytes(*eight);
        // The lowest of the bits is right; one above it may be set by a borrow.
        let below = |bytes: u64, bound: u64| bytes.wrapping_sub(ONES * bound) & !bytes;
        let equal = |byte: u8| below(eight ^ (ONES * u64::from(byte)), 1);
        let ends = (below(eight, 0x20) | equal(b'"') | equal(b'\\')) & HIGH;
        if ends != 0 {
            return at + ends.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let rest = bytes[at..].iter().take_while(|&&byte| byte >= 0x20 && byte != b'"' && byte != b'\\');
    at + rest.count()
}

/// Where the first quote or backslash is. Of a text that is not validated also where a control character is.
pub fn quote_or_backslash(bytes: &[u8]) -> Option<usize> {
    let (short, long) = bytes.split_at(bytes.len().min(SHORT_BYTES));
    match plain(short) {
        at if at < short.len() => Some(at),
        at => memchr::memchr2(b'"', b'\\', long).map(|found| at + found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_ends_it_is_found_at_every_place() {
        for before in (0..20).chain(SHORT_BYTES - 9..SHORT_BYTES + 9) {
            for neighbour in ["x", "!", "#", "[", "]", "\u{7f}", "é", " "] {
                let plain_part = neighbour.repeat(before);
                for end in ["\"", "\\", "\0", "\u{1f}", "\n", ""] {
                    for behind in ["", "\"", "xxxxxxxxx\\"] {
                        let text = format!("{plain_part}{end}{behind}");
                        let is_end = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
                        let want = text.bytes().position(is_end);
                        assert_eq!(plain(text.as_bytes()), want.unwrap_or(text.len()), "{text:?}");
                        let is_mark = |byte: u8| byte == b'"' || byte == b'\\';
                        let found = quote_or_backslash(text.as_bytes());
                        assert!(found == want || found == text.bytes().position(is_mark), "{text:?}: {found:?}");
                    }
                }
            }
        }
    }
}
