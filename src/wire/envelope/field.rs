//! The fields of a body: numbers as LEB128, texts and bytes with their length before them, what may be missing with a byte before it.
//!
//! Invariant: a reader takes nothing beyond its bytes, and allocates nothing for a count that its bytes cannot hold.

use super::Broken;

#[derive(Default)]
pub struct Writer(pub Vec<u8>);

impl Writer {
    pub fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    pub fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    pub fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    pub fn maybe<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Writer, T)) {
        self.byte(u8::from(value.is_some()));
        if let Some(value) = value {
            write(self, value);
        }
    }

    pub fn list<T>(&mut self, values: impl ExactSizeIterator<Item = T>, mut write: impl FnMut(&mut Writer, T)) {
        self.number(values.len() as u64);
        values.for_each(|value| write(self, value));
    }
}

pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn byte(&mut self) -> Result<u8, Broken> {
        let (first, rest) = self.0.split_first().ok_or(Broken::Length)?;
        self.0 = rest;
        Ok(*first)
    }

    pub fn number(&mut self) -> Result<u64, Broken> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return Err(Broken::Field);
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Broken::Field)
    }

    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Broken> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Broken::Length)?;
        self.0 = rest;
        Ok(taken)
    }

    pub fn bytes(&mut self) -> Result<&'a [u8], Broken> {
        let length = usize::try_from(self.number()?).map_err(|_| Broken::Length)?;
        self.take(length)
    }

    pub fn text(&mut self) -> Result<&'a str, Broken> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Broken::Field)
    }

    pub fn flag(&mut self) -> Result<bool, Broken> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Broken::Field),
        }
    }

    pub fn maybe<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, Broken>) -> Result<Option<T>, Broken> {
        Ok(if self.flag()? { Some(read(self)?) } else { None })
    }

    pub fn list<T>(&mut self, mut read: impl FnMut(&mut Self) -> Result<T, Broken>) -> Result<Vec<T>, Broken> {
        let count = self.number()?;
        // Each has a byte at least.
        if count > self.0.len() as u64 {
            return Err(Broken::Length);
        }
        (0..count).map(|_| read(self)).collect()
    }

    pub fn end(&self) -> Result<(), Broken> {
        if self.0.is_empty() { Ok(()) } else { Err(Broken::Length) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_read_back() {
        let mut out = Writer::default();
        let numbers = [0, 1, 127, 128, 300, u64::from(u32::MAX), 1 << 63, u64::MAX];
        out.list(numbers.iter(), |out, number| out.number(*number));
        out.maybe(Some("é"), |out, text| out.text(text));
        out.maybe(None::<&str>, |out, text| out.text(text));
        let bytes = out.0;
        let mut reader = Reader(&bytes);
        assert_eq!(reader.list(Reader::number), Ok(numbers.to_vec()));
        assert_eq!(reader.maybe(Reader::text), Ok(Some("é")));
        assert_eq!(reader.maybe(Reader::text), Ok(None));
        assert_eq!(reader.end(), Ok(()));
        assert_eq!(reader.byte(), Err(Broken::Length));
    }

    #[test]
    fn what_is_no_field_is_refused() {
        for (bytes, want) in [
            (&[0xff; 10][..], Broken::Field),
            (&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2], Broken::Field),
            (&[0x80], Broken::Length),
        ] {
            assert_eq!(Reader(bytes).number(), Err(want), "{bytes:?}");
        }
        assert_eq!(Reader(&[5, b'a']).text(), Err(Broken::Length));
        assert_eq!(Reader(&[1, 0xff]).text(), Err(Broken::Field));
        assert_eq!(Reader(&[2, 1]).maybe(Reader::byte), Err(Broken::Field));
        assert_eq!(Reader(&[200, 1, 0]).list(Reader::byte), Err(Broken::Length), "more than there are bytes");
    }
}
