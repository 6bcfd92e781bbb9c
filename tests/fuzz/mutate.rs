//! Mutations: what a broken or hostile peer makes of good bytes.

use tenantcast::base::chance::Chance;

/// One of `corpus`, with up to eight mutations; sometimes bytes of chance alone.
pub fn mutate(chance: &mut Chance, corpus: &[&[u8]]) -> Vec<u8> {
    if chance.below(20) == 0 {
        let mut bytes = vec![0; chance.below(64) as usize];
        chance.fill(&mut bytes);
        return bytes;
    }
    let mut bytes = pick(chance, corpus).to_vec();
    for _ in 0..chance.below(9) {
        let at = chance.below(bytes.len() as u64 + 1) as usize;
        match chance.below(9) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, chance.u64() as u8),
            2 if at < bytes.len() => bytes[at] ^= 1 << chance.below(8),
            3 if at < bytes.len() => drop(bytes.remove(at)),
            4 => {
                // Two of a kind.
                let end = (at + chance.below(16) as usize).min(bytes.len());
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            5 => {
                let other = pick(chance, corpus);
                let from = chance.below(other.len() as u64 + 1) as usize;
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            6 => {
                let odd: [&[u8]; 10] = [
                    b"\0",
                    b"\xff\xff",
                    b"\r\n",
                    b"\"",
                    b"\\u0000",
                    b"18446744073709551616",
                    b"{\"a\":[",
                    b"\xf0\x9f",
                    b"%00",
                    b"\x1e",
                ];
                let part = pick(chance, &odd).to_vec();
                bytes.splice(at..at, part);
            }
            7 if at < bytes.len() => bytes[at] = [0, 0x7f, 0x80, 0xff, b'/', b'-', b'9'][chance.below(7) as usize],
            _ => {
                let times = chance.below(200) as usize;
                let byte = bytes.get(at).copied().unwrap_or(b'[');
                bytes.splice(at..at, std::iter::repeat_n(byte, times));
            }
        }
    }
    bytes
}

pub fn pick<'a, T: ?Sized>(chance: &mut Chance, list: &[&'a T]) -> &'a T {
    list[chance.below(list.len() as u64) as usize]
}

#[test]
fn mutations_follow_from_their_seed_and_differ() {
    let made = |seed| {
        let mut chance = Chance::new([seed; 32]);
        (0..50).map(|_| mutate(&mut chance, &[b"GET / HTTP/1.1"])).collect::<Vec<_>>()
    };
    assert_eq!(made(1), made(1));
    assert_ne!(made(1), made(2));
}
