//! Documents against a model that keeps every version whole, and replicas that know only what they are told.

use super::*;
use crate::base::chance::Chance;

type State = BTreeMap<String, String>;

const STRATEGIES: [Strategy; 3] = [Strategy::LastWriteWins, Strategy::Reject, Strategy::Manual];
const START: Instant = Instant(1_000_000);

fn rule(strategy: Strategy) -> DocumentRule {
    DocumentRule { strategy, ..DocumentRule::default() }
}

fn document(version: u64, fields: &[(&'static str, &'static str)]) -> Document {
    Document::new(Epoch(7), version, fields.iter().copied(), START)
}

fn update<'a>(writer: u64, base: u64, at: u64, fields: &[(&'a str, &'a str)]) -> Update<'a> {
    let mut fields: Vec<_> = fields.iter().map(|(name, value)| (Cow::from(*name), *value)).collect();
    fields.sort();
    let stamp = Stamp { at: UnixMs(at), user: format!("u{writer}").into() };
    // As unlike another's as its hash would be.
    let key = writer << 48 | base << 32 | at;
    Update { base, epoch: None, fields, stamp, writer, key }
}

fn state(document: &Document) -> State {
    document.fields().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn names(clash: &Clash) -> Vec<&str> {
    clash.fields.iter().map(|dispute| &*dispute.name).collect()
}

/// One update on what is written in the first row of each: version 5 of {a: 1, b: 1, c: 1}, of which version 6 has set a to 2 at time 100.
#[test]
fn three_ways() {
    use Strategy::{LastWriteWins, Manual, Reject};
    type Row =
        (Strategy, u64, u64, &'static [(&'static str, &'static str)], u64, &'static str, &'static [&'static str]);
    let table: &[Row] = &[
        // On the present version everything is written, whatever its time.
        (Reject, 6, 1, &[("a", "3")], 7, "3 1 1", &[]),
        (Manual, 6, 1, &[("a", "3"), ("d", "4")], 7, "3 1 1 4", &[]),
        // Other fields are merged.
        (Reject, 5, 1, &[("b", "3")], 7, "2 3 1", &[]),
        (Reject, 5, 1, &[("a", "1"), ("b", "3")], 7, "2 3 1", &[]),
        // The same value is no conflict, and no new version.
        (Reject, 5, 1, &[("a", "2")], 6, "2 1 1", &[]),
        (Reject, 5, 1, &[("b", "1"), ("c", "1")], 6, "2 1 1", &[]),
        // The same field.
        (LastWriteWins, 5, 101, &[("a", "3"), ("b", "3")], 7, "3 3 1", &["a"]),
        (LastWriteWins, 5, 99, &[("a", "3"), ("b", "3")], 7, "2 3 1", &["a"]),
        (LastWriteWins, 5, 99, &[("a", "3")], 6, "2 1 1", &["a"]),
        (Reject, 5, 101, &[("a", "3"), ("b", "3")], 6, "2 1 1", &["a"]),
        (Manual, 5, 101, &[("a", "3"), ("b", "3")], 7, "2 3 1", &["a"]),
        (Manual, 5, 101, &[("a", "3")], 6, "2 1 1", &["a"]),
        // Of writes at the same time the one of the later user wins.
        (LastWriteWins, 5, 100, &[("a", "3")], 7, "3 1 1", &["a"]),
    ];
    for (strategy, base, at, fields, version, want, disputed) in table {
        let mut document = document(5, &[("a", "1"), ("b", "1"), ("c", "1")]);
        let first = document.update(&rule(*strategy), &update(1, 5, 100, &[("a", "2")])).unwrap();
        assert_eq!((first.version, first.written.len()), (6, 1));
        let outcome = document.update(&rule(*strategy), &update(2, *base, *at, fields)).unwrap();
        let have: Vec<String> = state(&document).into_values().collect();
        let case = format!("{strategy:?} {base} {at} {fields:?}");
        assert_eq!((outcome.version, &*have.join(" ")), (*version, *want), "{case}");
        assert_eq!(outcome.clash.as_ref().map(names).unwrap_or_default(), *disputed, "{case}");
        assert_eq!(document.conflicts().len(), usize::from(*strategy == Manual && !disputed.is_empty()), "{case}");
    }
}

#[test]
fn what_is_refused_changes_nothing() {
    let rule = DocumentRule { fields_max: 2, bytes_max: 100, versions_kept: 2, ..rule(Strategy::Manual) };
    let mut document = document(3, &[("a", "1")]);
    for (n, value) in ["2", "3", "4"].into_iter().enumerate() {
        document.update(&rule, &update(1, 3 + n as u64, 10 + n as u64, &[("a", value)])).unwrap();
    }
    let (before, version, weight) = (state(&document), document.version(), document.weight());
    let long = "1".repeat(99);
    for (base, fields, want) in [
        (7, &[("a", "5")][..], Refusal::VersionUnknown),
        (3, &[("a", "5")], Refusal::VersionTooOld),
        (6, &[("b", "1"), ("c", "1")], Refusal::DocumentTooLarge),
        (6, &[("b", &*long)], Refusal::DocumentTooLarge),
        (4, &[("a", &*long)], Refusal::DocumentTooLarge),
    ] {
        let refused = document.update(&rule, &update(2, base, 50, fields)).unwrap_err();
        assert_eq!(refused, want, "{base} {fields:?}");
        assert_eq!((state(&document), document.version(), document.weight()), (before.clone(), version, weight));
    }
    let elsewhere = Update { epoch: Some(Epoch(8)), ..update(2, 6, 50, &[("a", "5")]) };
    assert_eq!(document.update(&rule, &elsewhere).unwrap_err(), Refusal::VersionUnknown);
    assert_eq!(document.resolve(&rule, &update(2, 6, 50, &[("a", "5")])).unwrap_err(), Refusal::UnknownConflict);
    let here = Update { epoch: Some(Epoch(7)), ..update(2, 4, 50, &[("b", "5")]) };
    assert_eq!(document.update(&rule, &here).unwrap().version, 7);
}

/// Whoever sends an update again is told what it was told before, whatever has happened since.
#[test]
fn a_retry_is_the_same_update() {
    for strategy in STRATEGIES {
        let rule = rule(strategy);
        let mut document = document(1, &[("a", "1")]);
        let mine = || update(1, 1, 10, &[("a", "2")]);
        assert_eq!(document.update(&rule, &mine()).unwrap().version, 2);
        assert_eq!(document.update(&rule, &mine()).unwrap().version, 2);
        // Its clock is slow, but it has seen what it changes.
        assert_eq!(document.update(&rule, &update(2, 2, 5, &[("a", "3")])).unwrap().version, 3);
        let again = document.update(&rule, &mine()).unwrap();
        assert!(again.again && again.clash.is_none() && again.written.is_empty() && again.version == 2, "{again:?}");
        assert_eq!((document.version(), &*state(&document)["a"]), (3, "3"), "{strategy:?}");
    }
    let rule = rule(Strategy::Manual);
    let mut document = document(1, &[("a", "1")]);
    document.update(&rule, &update(1, 1, 10, &[("a", "2")])).unwrap();
    for _ in 0..3 {
        let outcome = document.update(&rule, &update(2, 1, 11, &[("a", "3")])).unwrap();
        assert_eq!(outcome.clash.and_then(|clash| clash.kept), Some(1));
    }
    assert_eq!(document.conflicts().len(), 1);
    for _ in 0..3 {
        let outcome = document.resolve(&rule, &update(1, 2, 12, &[("a", "4")])).unwrap();
        assert_eq!((outcome.version, document.version(), document.conflicts().len()), (3, 3, 0));
    }
}

/// Somebody types faster than the server answers.
#[test]
fn nobody_has_a_conflict_with_itself() {
    for strategy in STRATEGIES {
        let rule = rule(strategy);
        let mut document = document(1, &[("a", "1")]);
        for (n, value) in ["2", "3", "1", "4"].into_iter().enumerate() {
            let outcome = document.update(&rule, &update(1, 1, 10 - n as u64, &[("a", value)])).unwrap();
            assert!(outcome.clash.is_none() && outcome.version == 2 + n as u64, "{strategy:?}: {outcome:?}");
        }
        assert_eq!(state(&document)["a"], "4");
        // What is said to a document that another has written to is no monologue.
        document.update(&rule, &update(2, 5, 100, &[("a", "5")])).unwrap();
        assert!(document.update(&rule, &update(1, 1, 1, &[("a", "6")])).unwrap().clash.is_some());
    }
}

#[test]
fn conflicts_wait_for_a_decision() {
    let rule = rule(Strategy::Manual);
    let mut document = document(1, &[("a", "1"), ("b", "1")]);
    document.update(&rule, &update(1, 1, 10, &[("a", "2"), ("b", "2")])).unwrap();
    document.update(&rule, &update(2, 1, 11, &[("a", "3"), ("b", "3")])).unwrap();
    document.update(&rule, &update(3, 1, 12, &[("a", "4")])).unwrap();
    // A later proposal of one writer takes the place of its earlier one.
    document.update(&rule, &update(3, 1, 13, &[("a", "5")])).unwrap();
    let open: Vec<u64> = document.conflicts().iter().map(|conflict| conflict.number).collect();
    assert_eq!((open, document.version()), (vec![1, 3], 2));
    let outcome = document.resolve(&rule, &update(4, 2, 20, &[("a", "5")])).unwrap();
    assert_eq!((outcome.version, outcome.closed, outcome.written.len()), (3, vec![3], 1));
    let dispute = &outcome.clash.unwrap().fields[0];
    assert_eq!((&*dispute.original, &*dispute.incoming, dispute.resolved.as_deref()), ("2", "5", Some("5")));
    // The other field has changed since somebody last looked.
    document.update(&rule, &update(1, 3, 21, &[("b", "9")])).unwrap();
    let stale = document.resolve(&rule, &update(4, 3, 22, &[("b", "3")])).unwrap();
    assert!(stale.written.is_empty() && stale.clash.is_some() && document.conflicts().len() == 1, "{stale:?}");
    let outcome = document.resolve(&rule, &update(4, 4, 23, &[("b", "3")])).unwrap();
    assert_eq!((outcome.version, outcome.closed, &*state(&document)["b"]), (5, vec![1], "3"));
    let bytes: usize = document.fields().map(|(name, value)| name.len() + value.len()).sum();
    assert_eq!(document.bytes, bytes, "nothing is counted that is gone");
    for writer in 10..10 + limit::DOCUMENT_CONFLICTS_MAX as u64 {
        document.update(&rule, &update(writer, 4, 30, &[("b", "7")])).unwrap();
    }
    let refused = document.update(&rule, &update(99, 4, 30, &[("b", "7")]));
    assert_eq!(refused.unwrap_err(), Refusal::TooManyConflicts);
    assert!(document.update(&rule, &update(10, 4, 31, &[("b", "8")])).is_ok(), "in the place of its own");
}

#[test]
fn objects_are_compared_and_not_their_spelling() {
    for (one, other, want) in [
        ("{\"a\":1,\"b\":[2]}", "{ \"b\": [2], \"a\":1 }", true),
        ("\"\\u0041\"", "\"A\"", true),
        ("[1,2]", "[2,1]", false),
        ("1", "\"1\"", false),
        ("1", "2", false),
        ("\"\\ud800\"", "\"\\ud800\"", true),
        ("\"\\ud800\"", "\"\\ud801\"", false),
        ("null", "null", true),
    ] {
        assert_eq!(same(one, other), want, "{one} {other}");
    }
}

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const VALUES: [&str; 4] = ["1", "2", "\"x\"", "null"];

fn pick<'a>(chance: &mut Chance, list: &[&'a str]) -> &'a str {
    list[chance.below(list.len() as u64) as usize]
}

fn some_fields(chance: &mut Chance) -> Vec<(&'static str, &'static str)> {
    let mut fields = BTreeMap::new();
    for _ in 0..=chance.below(3) {
        fields.insert(pick(chance, &NAMES), pick(chance, &VALUES));
    }
    fields.into_iter().collect()
}

/// Writes of one base come to the same fields in whatever order they come, where the last write wins.
#[test]
fn the_last_write_wins_in_every_order() {
    let mut chance = Chance::new([21; 32]);
    let rule = rule(Strategy::LastWriteWins);
    let mut disputes = 0;
    for case in 0..3000 {
        let mut first = vec![(99, 0, 500, some_fields(&mut chance))];
        first.extend((0..chance.below(3)).map(|n| (98, 1 + n, 1000 - n, some_fields(&mut chance))));
        let start = || {
            let mut document = document(0, &[]);
            for (writer, base, at, fields) in &first {
                document.update(&rule, &update(*writer, (*base).min(document.version()), *at, fields)).unwrap();
            }
            document
        };
        let mut base = start().version();
        // Not on the last version only.
        base -= chance.below(base + 1);
        let mut writes: Vec<_> =
            (0..2 + chance.below(4)).map(|writer| (writer, 490 + chance.below(20), some_fields(&mut chance))).collect();
        let mut want = None;
        for _ in 0..8 {
            for at in (1..writes.len()).rev() {
                writes.swap(at, chance.below(at as u64 + 1) as usize);
            }
            let mut document = start();
            for (writer, at, fields) in &writes {
                let outcome = document.update(&rule, &update(*writer, base, *at, fields)).unwrap();
                disputes += outcome.clash.map_or(0, |clash| clash.fields.len());
            }
            let have = state(&document);
            assert_eq!(*want.get_or_insert_with(|| have.clone()), have, "case {case}: {first:?}, {base}, {writes:?}");
        }
    }
    assert!(disputes > 10_000, "they do meet: {disputes}");
}

/// What goes from the server to one replica, in order.
enum Told {
    Updated { version: u64, fields: State },
    Answered { sent: State, refused: bool, version: u64, disputed: Vec<String>, theirs: State },
}

/// From whom, on which version, at which time, what, and whether it is a decision.
type Sent = (usize, u64, u64, Vec<(&'static str, &'static str)>, bool);

#[derive(Default)]
struct Replica {
    version: u64,
    state: State,
    inbox: VecDeque<Told>,
    /// Updates that wait for their answer.
    asked: usize,
}

impl Replica {
    /// What a client does with what it is told, and nothing else.
    fn hear(&mut self, told: Told) {
        match told {
            Told::Updated { version, fields } => {
                assert_eq!(version, self.version + 1, "each version once, in order");
                self.version = version;
                self.state.extend(fields);
            }
            Told::Answered { sent, refused, version, disputed, theirs } => {
                self.asked -= 1;
                assert!(version == self.version || version == self.version + 1, "{version} after {}", self.version);
                self.version = version;
                self.state.extend(sent.into_iter().filter(|(name, _)| !refused || !disputed.contains(name)));
                self.state.extend(theirs);
            }
        }
    }
}

/// Replicas write to one document at once, hear of each other late, and come to the same: whatever the order, nothing is lost unseen.
#[test]
fn replicas_converge() {
    let mut chance = Chance::new([22; 32]);
    let (mut disputes, mut merged, mut decided) = (0, 0, 0);
    for case in 0..1500 {
        let strategy = STRATEGIES[case % 3];
        let rule = DocumentRule { versions_kept: 1000, ..rule(strategy) };
        let mut document = document(0, &[]);
        // Every version whole, and who has written which field when.
        let mut versions = vec![State::new()];
        let mut written: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        let mut replicas: Vec<Replica> = (0..2 + chance.below(4)).map(|_| Replica::default()).collect();
        let mut network: Vec<Sent> = Vec::new();
        for step in 0..150 {
            let one = chance.below(replicas.len() as u64) as usize;
            match chance.below(3) {
                0 if step < 120 => {
                    // Some write on before they are answered.
                    if replicas[one].asked == 0 || chance.below(4) == 0 {
                        replicas[one].asked += 1;
                        let resolves = strategy == Strategy::Manual && chance.below(4) == 0;
                        let at = 100 + chance.below(20);
                        network.push((one, replicas[one].version, at, some_fields(&mut chance), resolves));
                    }
                }
                1 if !network.is_empty() => {
                    let at = chance.below(network.len() as u64) as usize;
                    let (from, base, at, fields, resolves) = network.swap_remove(at);
                    let mut update = update(from as u64, base, at, &fields);
                    update.key = case as u64 * 1000 + step;
                    let before = document.version();
                    let took =
                        if resolves { document.resolve(&rule, &update) } else { document.update(&rule, &update) };
                    let outcome = match took {
                        Ok(outcome) => outcome,
                        Err(refusal) => {
                            assert_eq!((refusal, document.version()), (Refusal::UnknownConflict, before));
                            replicas[from].asked -= 1;
                            continue;
                        }
                    };
                    let rose = u64::from(!outcome.written.is_empty());
                    assert_eq!((outcome.version, document.version()), (before + rose, before + rose));
                    let disputed: Vec<String> =
                        outcome.clash.iter().flat_map(names).filter(|_| !resolves).map(str::to_owned).collect();
                    disputes += disputed.len();
                    decided += usize::from(resolves && rose == 1);
                    merged += usize::from(rose == 1 && base < before && disputed.is_empty());
                    let refused = match &outcome.clash {
                        None => false,
                        Some(_) if resolves => rose == 0,
                        Some(clash) => clash.strategy != Strategy::LastWriteWins,
                    };
                    let all = refused && (resolves || strategy == Strategy::Reject);
                    let now = state(&document);
                    for (name, value) in &fields {
                        let writer = written.get(*name);
                        let unseen = writer.is_some_and(|(version, writer)| *version > base && *writer != from as u64);
                        let (was, is) = (versions[before as usize].get(*name), now.get(*name));
                        assert!(was == is || !unseen || disputed.iter().any(|other| other == name));
                        // Its own last write is what it has seen, whatever it says.
                        let own = writer.is_some_and(|(_, writer)| *writer == from as u64);
                        let touched = own || versions[base as usize].get(*name).map(String::as_str) != Some(value);
                        let stands = is.map(String::as_str) == Some(value);
                        let told = outcome.clash.as_ref().is_some_and(|clash| names(clash).contains(name));
                        assert!(stands || !touched || told || all, "{fields:?}: {name}");
                    }
                    for name in now.keys().filter(|name| now.get(*name) != versions[before as usize].get(*name)) {
                        assert!(fields.iter().any(|(field, _)| field == name), "{name} is nobody's");
                    }
                    for (name, _) in &outcome.written {
                        written.insert(name.to_string(), (outcome.version, from as u64));
                    }
                    if rose == 1 {
                        versions.push(now);
                        let fields = outcome.written.iter();
                        let fields: State = fields.map(|(name, value)| (name.to_string(), value.to_string())).collect();
                        let others = replicas.iter_mut().enumerate().filter(|(other, _)| *other != from);
                        for (_, replica) in others {
                            replica.inbox.push_back(Told::Updated { version: outcome.version, fields: fields.clone() });
                        }
                    }
                    let sent: State =
                        fields.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
                    let disputed = if all { sent.keys().cloned().collect() } else { disputed };
                    let theirs = document.since(base, (rose == 1).then_some(outcome.version));
                    let theirs = theirs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
                    let version = outcome.version;
                    replicas[from].inbox.push_back(Told::Answered { sent, refused, version, disputed, theirs });
                }
                _ => {
                    if let Some(told) = replicas[one].inbox.pop_front() {
                        replicas[one].hear(told);
                    }
                }
            }
            for replica in &mut replicas {
                if chance.below(8) == 0 {
                    while let Some(told) = replica.inbox.pop_front() {
                        replica.hear(told);
                    }
                }
            }
        }
        for (nth, replica) in replicas.iter_mut().enumerate() {
            while let Some(told) = replica.inbox.pop_front() {
                replica.hear(told);
            }
            assert_eq!(replica.version, document.version(), "case {case}, replica {nth}");
            assert_eq!(replica.state, state(&document), "case {case}, replica {nth}");
        }
        // Every version that is kept is known exactly.
        for (version, state) in versions.iter().enumerate() {
            for name in NAMES {
                let have = document.fields.get(name).and_then(|field| field.at(version as u64));
                assert_eq!(have, state.get(name).map(String::as_str), "{name} at {version}");
            }
        }
    }
    assert!(disputes > 2000 && merged > 2000 && decided > 100, "{disputes} {merged} {decided}");
}

/// However it is written to, a document and its past stay within their bounds, and what is kept is exact.
#[test]
fn the_past_is_bounded() {
    let mut chance = Chance::new([23; 32]);
    for strategy in STRATEGIES {
        let rule = DocumentRule { bytes_max: 400, fields_max: 6, versions_kept: 20, ..rule(strategy) };
        let mut document = document(0, &[]);
        let mut versions = vec![State::new()];
        let mut refused = 0;
        for n in 0..3000u64 {
            let base = document.version() - chance.below(25).min(document.version());
            let value = format!("\"{}\"", "x".repeat(chance.below(60) as usize));
            let name = format!("f{}", chance.below(8));
            let update = update(chance.below(5), base, n, &[(&name, &value)]);
            match document.update(&rule, &update) {
                Ok(outcome) if !outcome.written.is_empty() => versions.push(state(&document)),
                Ok(_) => {}
                Err(refusal) => {
                    refused += 1;
                    let known = [Refusal::VersionTooOld, Refusal::DocumentTooLarge, Refusal::TooManyConflicts];
                    assert!(known.contains(&refusal), "{refusal:?}");
                }
            }
            let bytes: usize = document.fields().map(|(name, value)| name.len() + value.len()).sum();
            let kept = document.conflicts.iter().flat_map(|conflict| &conflict.fields);
            let kept: usize = kept.map(|(name, value)| name.len() + value.len()).sum();
            assert_eq!(document.bytes, bytes + kept);
            let past = document.fields.values().flat_map(|field| &field.past);
            let past: usize = past.map(|was| was.value.len() + size_of::<Was>()).sum();
            assert_eq!(document.past_bytes, past);
            assert!(document.bytes <= 400 && past <= 400 && document.fields.len() <= 6);
            assert!(document.version - document.horizon <= 20);
            for version in document.horizon..=document.version {
                for (name, field) in &document.fields {
                    assert_eq!(field.at(version), versions[version as usize].get(&**name).map(String::as_str));
                }
            }
        }
        assert!(refused > 100 && document.version() > 100, "{refused} {}", document.version());
    }
}
