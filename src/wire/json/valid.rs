//! Whether a text is JSON (RFC 8259), in one pass without recursion and without a value made of it.
//!
//! It takes 0.6 to 0.95 of what a pass of `serde_json` into `IgnoredAny` takes, half of what simd-json does (`cargo bench --bench codec`),
//! and it bounds the depth as it goes. Its answers are `serde_json`'s, which the tests of [`super`] hold it to.

use super::scan::plain;
use crate::base::limit::JSON_DEPTH_MAX;

/// A bit for each level that is open: 1 for an object. The lowest is the innermost.
type Levels = u128;

const _: () = assert!(JSON_DEPTH_MAX <= Levels::BITS as usize);

/// Whether `text` is one value, with blanks around it or not, whose arrays and objects nest at most [`JSON_DEPTH_MAX`] deep.
pub fn validate(text: &str) -> bool {
    let mut reader = Reader { bytes: text.as_bytes(), at: 0 };
    reader.document().is_some() && reader.at == text.len()
}

/// Passes what it reads; `None` where something else stands there.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    /// A value and the blanks around it.
    fn document(&mut self) -> Option<()> {
        let (mut levels, mut depth): (Levels, usize) = (0, 0);
        loop {
            // A value begins.
            match self.after_blanks()? {
                b'"' => self.string()?,
                b'-' | b'0'..=b'9' => self.number()?,
                b't' => self.word(b"true")?,
                b'f' => self.word(b"false")?,
                b'n' => self.word(b"null")?,
                bracket @ (b'{' | b'[') if depth < JSON_DEPTH_MAX => {
                    let is_object = bracket == b'{';
                    (levels, depth) = (levels << 1 | Levels::from(is_object), depth + 1);
                    self.at += 1;
                    if self.after_blanks()? != closing(is_object) {
                        if is_object {
                            self.key()?;
                        }
                        continue;
                    }
                }
                _ => return None,
            }
            // A value has ended, or an empty one is about to.
            loop {
                if depth == 0 {
                    self.after_blanks();
                    return Some(());
                }
                let is_object = levels & 1 == 1;
                match self.after_blanks()? {
                    b',' => {
                        self.at += 1;
                        if is_object {
                            self.key()?;
                        }
                        break;
                    }
                    byte if byte == closing(is_object) => {
                        self.at += 1;
                        (levels, depth) = (levels >> 1, depth - 1);
                    }
                    _ => return None,
                }
            }
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// The byte that comes behind any blanks, which are passed.
    fn after_blanks(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
        self.peek()
    }

    fn key(&mut self) -> Option<()> {
        if self.after_blanks()? != b'"' {
            return None;
        }
        self.string()?;
        (self.after_blanks()? == b':').then(|| self.at += 1)
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        self.bytes[self.at..].starts_with(word).then(|| self.at += word.len())
    }

    fn number(&mut self) -> Option<()> {
        self.at += usize::from(self.peek() == Some(b'-'));
        match self.peek()? {
            b'0' => self.at += 1,
            _ => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?;
        }
        Some(())
    }

    /// One or more.
    fn digits(&mut self) -> Option<()> {
        let from = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        (self.at > from).then_some(())
    }

    /// A string, from its quote on.
    fn string(&mut self) -> Option<()> {
        self.at += 1;
        loop {
            self.at += plain(&self.bytes[self.at..]);
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    return Some(());
                }
                b'\\' => self.escape()?,
                // A control character stands for itself nowhere.
                _ => return None,
            }
        }
    }

    /// From its backslash on. Half of a surrogate pair is let through.
    fn escape(&mut self) -> Option<()> {
        let length = match self.bytes.get(self.at + 1)? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => 2,
            b'u' => {
                let digits = self.bytes.get(self.at + 2..self.at + 6)?;
                digits.iter().all(u8::is_ascii_hexdigit).then_some(6)?
            }
            _ => return None,
        };
        self.at += length;
        Some(())
    }
}

fn closing(is_object: bool) -> u8 {
    if is_object { b'}' } else { b']' }
}
