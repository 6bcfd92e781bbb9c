//! What the backplane does for documents that several nodes write: a case of its suite.

use crate::fleet::{Fleet, body, tenant};
use tenantcast::base::time::Duration;
use tenantcast::shard::relay::document::{Act, Answer, Write};
use tenantcast::shard::relay::{self, Relay, Report, Ticket};
use tenantcast::wire::envelope::Frame;

const LONG: Duration = Duration::from_secs(60);

/// A body as it is kept: the first sixteen bytes say which writing it is.
fn kept(mark: u8, text: &str) -> Box<[u8]> {
    [&[mark; 16][..], text.as_bytes()].concat().into()
}

fn share(name: &str, act: Act) -> Relay {
    let act = Box::new(relay::Act::Document(act));
    Relay::Share { tenant: tenant(name), ticket: Some(Ticket(0)), act }
}

/// Asks, and gives the answer and what was heard of it before.
fn ask(fleet: &mut dyn Fleet, node: usize, name: &str, act: Act) -> Answer {
    fleet.ask(node, share(name, act));
    loop {
        match fleet.hear(node) {
            Report::Shared { result, .. } => match result.expect("the store is there") {
                relay::Answer::Document(answer) => return answer,
                other => panic!("{other:?}"),
            },
            // An edition of an earlier write may come late.
            Report::Envelope { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

fn read(fleet: &mut dyn Fleet, node: usize, name: &str, document: &str) -> Option<Box<[u8]>> {
    match ask(fleet, node, name, Act::Read { document: document.into(), keep: None }) {
        Answer::Read(body) => body,
        other => panic!("{other:?}"),
    }
}

fn write(document: &str, on: &[u8], body: Box<[u8]>, edition: Box<[u8]>, keep: Duration) -> Act {
    Act::Write(Box::new(Write { document: document.into(), on: on.into(), body, keep, edition }))
}

pub fn writes(fleet: &mut dyn Fleet) {
    const NAME: &str = "documents";
    fleet.open(0, NAME);
    fleet.open(1, NAME);
    let silent = || Box::from(&b""[..]);
    assert_eq!(read(fleet, 0, NAME, "d"), None);
    let one = kept(1, "one");
    let on_nothing = |body| write("d", b"", body, silent(), LONG);
    assert!(matches!(ask(fleet, 0, NAME, on_nothing(one.clone())), Answer::Written));
    assert!(matches!(ask(fleet, 0, NAME, on_nothing(one.clone())), Answer::Written), "it was done");
    match ask(fleet, 1, NAME, on_nothing(kept(2, "two"))) {
        Answer::Other(there) => assert_eq!(there.as_deref(), Some(&*one)),
        other => panic!("{other:?}"),
    }
    assert_eq!(read(fleet, 1, NAME, "d"), Some(one.clone()));
    // Both hear of a write that says something, who wrote it too, and nobody hears of one that was not done.
    let said = body(1, "edition");
    let act = || write("d", &one[..16], kept(3, ""), said.clone(), LONG);
    fleet.ask(0, share(NAME, act()));
    let (mut answered, mut heard) = (false, false);
    while !(answered && heard) {
        match fleet.hear(0) {
            Report::Shared { result: Ok(relay::Answer::Document(Answer::Written)), .. } => answered = true,
            Report::Envelope { frame, .. } => {
                assert_eq!(Frame::decode(&frame).map(|frame| (frame.place, frame.body)), Ok((None, &*said)));
                heard = true;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(fleet.envelope(1).text, "edition");
    assert!(matches!(ask(fleet, 1, NAME, act()), Answer::Written), "it was done");
    assert!(matches!(ask(fleet, 1, NAME, write("d", &one[..16], kept(4, ""), said, LONG)), Answer::Other(Some(_))));
    fleet.ask(1, Relay::Tell { tenant: tenant(NAME), body: body(2, "last"), in_row: false });
    assert_eq!(fleet.envelope(0).text, "last", "nothing in between");
    // What is gone is said to be.
    match ask(fleet, 0, NAME, write("gone", b"something before", kept(5, ""), silent(), LONG)) {
        Answer::Other(None) => {}
        other => panic!("{other:?}"),
    }
}

pub fn ends(fleet: &mut dyn Fleet) {
    const NAME: &str = "documents that end";
    let short = Duration::from_millis(30);
    let silent = || Box::from(&b""[..]);
    for document in ["short", "kept", "read"] {
        assert!(matches!(ask(fleet, 0, NAME, write(document, b"", kept(1, "x"), silent(), LONG)), Answer::Written));
    }
    let documents = vec![("short".into(), short), ("never".into(), LONG)];
    assert!(matches!(ask(fleet, 0, NAME, Act::Keep { documents }), Answer::Kept));
    let documents = vec![("read".into(), Duration::from_secs(1)), ("kept".into(), LONG)];
    assert!(matches!(ask(fleet, 0, NAME, Act::Keep { documents }), Answer::Kept));
    let kept_on = Act::Read { document: "read".into(), keep: Some(LONG) };
    assert!(matches!(ask(fleet, 0, NAME, kept_on), Answer::Read(Some(_))));
    fleet.until("a document ends", &mut |fleet| read(fleet, 0, NAME, "short").is_none());
    assert!(read(fleet, 1, NAME, "kept").is_some() && read(fleet, 1, NAME, "read").is_some());
    assert_eq!(read(fleet, 1, NAME, "never"), None);
}
