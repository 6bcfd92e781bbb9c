//! What waits, byte by byte: in order, within its bound, each frame whole.

use super::*;

fn outbox(sessions: u32) -> Outbox {
    let mut outbox = Outbox::default();
    (0..sessions).for_each(|slot| outbox.open(slot));
    outbox
}

#[test]
fn a_header_is_as_the_rfc_draws_it() {
    for (len, header) in [(0usize, 2u8), (125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
        let frame = Frame::text(&vec![b'x'; len]);
        assert_eq!((frame.header, frame.payload().len(), frame.bytes[0]), (header, len, 0x81), "{len}");
    }
}

#[test]
fn neighbours_share_one_write() {
    let mut outbox = outbox(3);
    let a = outbox.frame(Frame::text(b"a"), false);
    let b = outbox.frame(Frame::text(b"b"), false);
    for slot in 0..3 {
        outbox.push(slot, a);
        outbox.push(slot, b);
    }
    let dirty = outbox.take_dirty();
    assert_eq!(dirty, [0, 1, 2]);
    for slot in dirty {
        assert_eq!(outbox.pending(slot).bytes(), b"\x81\x01a\x81\x01b");
        outbox.wrote(slot, 6);
        assert!(outbox.is_empty(slot));
    }
    assert!(outbox.end_turn(0).is_empty());
}

/// A frame once begun is finished, even when the socket takes one byte at a time over many turns.
#[test]
fn bytes_arrive_whole_and_in_order() {
    let mut outbox = outbox(1);
    let mut seen = Vec::new();
    let mut want = Vec::new();
    for turn in 0..50u8 {
        for n in 0..turn % 4 {
            let text = format!("{turn}.{n}");
            want.extend_from_slice(&Frame::text(text.as_bytes()).bytes);
            let index = outbox.frame(Frame::text(text.as_bytes()), false);
            outbox.push(0, index);
        }
        if turn % 3 == 0 {
            outbox.writable(0);
        }
        outbox.hold(0, 1 << 20).unwrap();
        for slot in outbox.take_dirty() {
            let bytes = outbox.pending(slot).bytes().to_vec();
            let taken = bytes.len().min(usize::from(turn % 5));
            seen.extend_from_slice(&bytes[..taken]);
            outbox.wrote(slot, taken);
        }
        assert!(outbox.end_turn(0).is_empty());
    }
    seen.extend(outbox.take_bytes(0));
    assert_eq!(seen, want);
}

#[test]
fn ephemeral_frames_go_first_then_the_session() {
    let mut outbox = outbox(1);
    outbox.grant(0, 0);
    let big = vec![b'x'; 600];
    for (ephemeral, want) in [(true, Ok(())), (false, Ok(())), (false, Err(Overflow))] {
        let index = outbox.frame(Frame::text(&big), ephemeral);
        outbox.push(0, index);
        assert_eq!(outbox.hold(0, 1000), want);
    }
    assert_eq!(outbox.take_counts(), (3, 1));
    assert!(outbox.take_begun(0).is_empty(), "nothing was begun");
}

/// A connection that is not written in a turn (it is gone, and the shard hears of it in the next) keeps what it had.
#[test]
fn what_is_not_written_outlives_its_turn() {
    let mut outbox = outbox(1);
    let index = outbox.frame(Frame::text(b"a"), false);
    outbox.push(0, index);
    assert_eq!(outbox.take_dirty(), [0]);
    assert!(outbox.end_turn(0).is_empty());
    assert_eq!(outbox.take_bytes(0), b"\x81\x01a");
}

#[test]
fn a_turn_of_too_many_frames_goes_on() {
    let mut outbox = outbox(2);
    for n in 0..70_000u32 {
        let index = outbox.frame(Frame::raw(&n.to_be_bytes()), false);
        outbox.push(n % 2, index);
    }
    for slot in 0..2 {
        let bytes = outbox.take_bytes(slot);
        let numbers: Vec<u32> = bytes.chunks(4).map(|n| u32::from_be_bytes(n.try_into().unwrap())).collect();
        assert!(numbers.iter().copied().eq((0..70_000).filter(|n| n % 2 == slot)));
    }
}

#[test]
fn long_polling_takes_packets_with_separators() {
    let mut outbox = outbox(1);
    for frame in [Frame::text(b"4a"), Frame::binary(&[1, 2, 3, 4]), Frame::text(b"2")] {
        let index = outbox.frame(frame, false);
        outbox.push(0, index);
    }
    assert_eq!(outbox.take_poll(0).as_deref(), Some(&b"4a\x1ebAQIDBA==\x1e2"[..]));
    assert_eq!(outbox.take_poll(0), None);
}
