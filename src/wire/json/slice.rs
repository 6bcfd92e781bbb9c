//! Raw slices of validated JSON: elements, members, tokens.
//!
//! Invariants: one pass, no allocation, no recursion. The answers rely on a validated text; the safety relies on nothing, and nonsense ends the
//! iteration. A slice has no blanks around it.

use super::scan::quote_or_backslash;

/// The elements of a validated array, raw and without the blanks around them. Anything but an array has none.
pub fn elements(array: &str) -> Elements<'_> {
    let mut cursor = Cursor::new(array);
    Elements { open: cursor.eat(b'['), first: true, cursor }
}

/// The elements of a validated array behind one that [`elements`] gave.
pub fn elements_behind<'a>(array: &'a str, element: &str) -> Elements<'a> {
    let at = (element.as_ptr() as usize + element.len()).wrapping_sub(array.as_ptr() as usize);
    let mut cursor = Cursor { text: array, at };
    // Of another text there are none.
    let open = array.is_char_boundary(at) && cursor.another(b']') == Some(true);
    Elements { open, first: false, cursor }
}

/// The members of a validated object: the key with its quotes, and the value, both raw. Anything but an object has none.
///
/// A key may come twice; in JavaScript the last one counts.
pub fn members(object: &str) -> Members<'_> {
    let mut cursor = Cursor::new(object);
    Members { open: cursor.eat(b'{'), first: true, cursor }
}

/// See [`elements`].
#[derive(Clone, Debug)]
pub struct Elements<'a> {
    cursor: Cursor<'a>,
    open: bool,
    first: bool,
}

impl<'a> Elements<'a> {
    fn step(&mut self) -> Option<&'a str> {
        if std::mem::take(&mut self.first) && self.cursor.eat(b']') {
            return None;
        }
        let element = self.cursor.value()?;
        self.open = self.cursor.another(b']')?;
        Some(element)
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if !self.open {
            return None;
        }
        let step = self.step();
        self.open &= step.is_some();
        step
    }
}

/// See [`members`].
#[derive(Clone, Debug)]
pub struct Members<'a> {
    cursor: Cursor<'a>,
    open: bool,
    first: bool,
}

impl<'a> Members<'a> {
    fn step(&mut self) -> Option<(&'a str, &'a str)> {
        if std::mem::take(&mut self.first) && self.cursor.eat(b'}') {
            return None;
        }
        let key = self.cursor.value().filter(|key| key.starts_with('"'))?;
        if !self.cursor.eat(b':') {
            return None;
        }
        let value = self.cursor.value()?;
        self.open = self.cursor.another(b'}')?;
        Some((key, value))
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<(&'a str, &'a str)> {
        if !self.open {
            return None;
        }
        let step = self.step();
        self.open &= step.is_some();
        step
    }
}

/// One thing of a text, in its order. Commas, colons and blanks are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::wire) enum Token<'a> {
    /// `[` or `{`.
    Open(u8),
    /// `]` or `}`.
    Close(u8),
    /// A string with its quotes.
    String(&'a str),
    /// A number, `true`, `false` or `null`.
    Scalar(&'a str),
}

/// The things of a validated text, in one pass however deep it nests. Nonsense ends the iteration.
pub(in crate::wire) fn tokens(text: &str) -> impl Iterator<Item = Token<'_>> {
    let mut cursor = Cursor::new(text);
    std::iter::from_fn(move || {
        loop {
            cursor.skip_blanks();
            match cursor.peek()? {
                b',' | b':' => cursor.at += 1,
                bracket @ (b'[' | b'{') => {
                    cursor.at += 1;
                    return Some(Token::Open(bracket));
                }
                bracket @ (b']' | b'}') => {
                    cursor.at += 1;
                    return Some(Token::Close(bracket));
                }
                b'"' => return cursor.value().map(Token::String),
                _ => return cursor.value().map(Token::Scalar),
            }
        }
    })
}

/// A place in a text. It only ever stops beside ASCII bytes, so every slice lies on character boundaries.
#[derive(Clone, Debug)]
struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn new(text: &'a str) -> Cursor<'a> {
        Cursor { text, at: 0 }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_blanks(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// Whether `byte` is the next thing, blanks aside; if so it is passed.
    fn eat(&mut self, byte: u8) -> bool {
        self.skip_blanks();
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// Passes what follows a value: `true` after a comma, `false` after `close`.
    fn another(&mut self, close: u8) -> Option<bool> {
        if self.eat(b',') { Some(true) } else { self.eat(close).then_some(false) }
    }

    /// Passes the next value and gives its slice.
    fn value(&mut self) -> Option<&'a str> {
        self.skip_blanks();
        let start = self.at;
        match self.peek()? {
            b'"' => self.skip_string()?,
            b'[' | b'{' => self.skip_nested()?,
            _ => self.skip_scalar(),
        }
        self.text.get(start..self.at).filter(|value| !value.is_empty())
    }

    fn skip_scalar(&mut self) {
        while let Some(byte) = self.peek()
            && !matches!(byte, b',' | b':' | b']' | b'}' | b'[' | b'{' | b'"' | b' ' | b'\t' | b'\n' | b'\r')
        {
            self.at += 1;
        }
    }

    fn skip_string(&mut self) -> Option<()> {
        let mut at = self.at + 1;
        loop {
            let rest = self.text.as_bytes().get(at..)?;
            let found = quote_or_backslash(rest)?;
            if rest[found] == b'"' {
                self.at = at + found + 1;
                return Some(());
            }
            at += found + 2;
        }
    }

    fn skip_nested(&mut self) -> Option<()> {
        let mut depth = 0usize;
        loop {
            match self.peek()? {
                b'"' => {
                    self.skip_string()?;
                    continue;
                }
                b'[' | b'{' => depth += 1,
                b']' | b'}' => depth -= 1,
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return Some(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices() {
        let table: [(&str, &[&str]); 14] = [
            ("[]", &[]),
            (" [ ] ", &[]),
            ("[1]", &["1"]),
            (" [ 1 ,\t\"a,]\" , null ]\n", &["1", "\"a,]\"", "null"]),
            (r#"["\\",["\"]",{"a":[1 , 2]}],{}]"#, &[r#""\\""#, r#"["\"]",{"a":[1 , 2]}]"#, "{}"]),
            ("[\"é\",\"😀\"]", &["\"é\"", "\"😀\""]),
            ("{\"a\":1}", &[]),
            // Nonsense: what came before it is given.
            ("[1,]", &["1"]),
            ("[1 2]", &[]),
            ("[1,2", &["1"]),
            ("[1,\"2", &["1"]),
            ("[1,[2}", &["1"]),
            ("[,]", &[]),
            ("", &[]),
        ];
        for (text, want) in table {
            assert_eq!(elements(text).collect::<Vec<_>>(), want, "{text}");
            let behind = elements(text).next().map(|first| elements_behind(text, first).collect::<Vec<_>>());
            assert_eq!(behind.as_deref(), want.get(1..).filter(|_| !want.is_empty()), "{text}");
        }
        let text = "[1,2]";
        for element in ["1", &text[5..], ""] {
            assert_eq!(elements_behind(text, element).count(), 0, "{element} is not of it");
        }
        let table: [(&str, &[(&str, &str)]); 9] = [
            ("{}", &[]),
            ("[1]", &[]),
            (r#" { "a" : 1 , "b\"}":{"c":[]} } "#, &[(r#""a""#, "1"), (r#""b\"}""#, r#"{"c":[]}"#)]),
            (r#"{"a":1,"a":2}"#, &[(r#""a""#, "1"), (r#""a""#, "2")]),
            // Nonsense.
            ("{\"a\"}", &[]),
            ("{a:1}", &[]),
            ("{\"a\":}", &[]),
            ("{\"a\":1,2}", &[("\"a\"", "1")]),
            ("{", &[]),
        ];
        for (text, want) in table {
            assert_eq!(members(text).collect::<Vec<_>>(), want, "{text}");
        }
    }

    #[test]
    fn tokens_are_in_order() {
        use Token::{Close, Open, Scalar, String};
        let want = [
            Open(b'{'),
            String("\"a\""),
            Open(b'['),
            Scalar("-1e3"),
            Scalar("true"),
            String("\"]\""),
            Close(b']'),
            String("\"b\""),
            Open(b'{'),
            Close(b'}'),
            Close(b'}'),
        ];
        assert!(tokens("{\"a\": [-1e3,true , \"]\"],\"b\":{}}").eq(want));
        assert_eq!(tokens("\"never closed").count(), 0);
    }
}
