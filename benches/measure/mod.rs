//! What the benches share: contenders run in turns, medians of CPU time and allocations counted.
//!
//! Invariants: the contenders of a group take turns in every round, so that a machine that slows down slows all of them; what is told is
//! the median of the rounds with their least and most; time is the CPU's (of the thread, or of the process where a group says so), because
//! other programs share the cores. The allocator is the server's.
//!
//! `cargo bench --bench NAME [-- PART]` measures, the groups whose title holds PART where one is given. Without `--bench` among its
//! arguments, as under `cargo test --benches`, everything runs once and nothing is measured.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;

/// The server's allocator, and how often this thread asked it.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

static MIMALLOC: mimalloc::MiMalloc = mimalloc::MiMalloc;

// SAFETY: everything is passed on as it came; the cell has no destructor, so it is there as long as its thread.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise is passed on.
        unsafe { MIMALLOC.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { MIMALLOC.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise is passed on.
        unsafe { MIMALLOC.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ROUNDS: usize = 11;
/// CPU time of one contender's turn: long beside the clock's own cost (0.2 us), short beside a neighbour's bursts.
const TURN_NS: u64 = 15_000_000;

/// Whose time counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    Thread,
    /// All threads': where the work is spread over several.
    Process,
}

pub struct Bench {
    /// `None`: run everything once.
    rounds: Option<usize>,
    part: Option<String>,
}

pub struct Group<'a> {
    unit: &'a str,
    of: Of,
    contenders: Vec<Contender<'a>>,
}

struct Contender<'a> {
    name: String,
    /// Units that one run does.
    units: f64,
    run: Box<dyn FnMut() + 'a>,
}

/// What one contender's turns gave, a unit each.
#[derive(Default)]
struct Turns {
    ns: Vec<f64>,
    wall_ns: Vec<f64>,
    allocations: f64,
}

impl Bench {
    pub fn from_arguments() -> Bench {
        let (flags, parts): (Vec<String>, Vec<String>) = std::env::args().skip(1).partition(|one| one.starts_with('-'));
        let rounds = flags.iter().any(|flag| flag == "--bench").then_some(ROUNDS);
        Bench { rounds, part: parts.into_iter().next() }
    }

    /// Measures what `add` puts into a group, and prints it. `unit` is what a number is for: `event`, `member`.
    pub fn group<'a>(&self, title: &str, unit: &'a str, add: impl FnOnce(&mut Group<'a>)) {
        if self.part.as_ref().is_some_and(|part| !title.contains(part.as_str())) {
            return;
        }
        let mut group = Group { unit, of: Of::Thread, contenders: Vec::new() };
        add(&mut group);
        let Some(rounds) = self.rounds else {
            group.contenders.iter_mut().for_each(|contender| (contender.run)());
            println!("{title}: ran once");
            return;
        };
        let counts: Vec<u64> = group.contenders.iter_mut().map(|contender| calibrate(contender, group.of)).collect();
        let mut turns: Vec<Turns> = group.contenders.iter().map(|_| Turns::default()).collect();
        for round in 0..rounds {
            for at in 0..counts.len() {
                // Who comes first changes, so that nobody always follows the same neighbour.
                let at = (at + round) % counts.len();
                turn(&mut group.contenders[at], counts[at], group.of, &mut turns[at]);
            }
        }
        group.print(title, &mut turns);
    }
}

impl<'a> Group<'a> {
    /// Whose time counts in this group; the thread's where nothing is said.
    pub fn time_of(&mut self, of: Of) {
        self.of = of;
    }

    /// One more contender; the first is what the others are compared with. `run` does `units` units of work.
    pub fn add(&mut self, name: impl Into<String>, units: usize, run: impl FnMut() + 'a) {
        self.contenders.push(Contender { name: name.into(), units: units as f64, run: Box::new(run) });
    }

    fn print(&self, title: &str, turns: &mut [Turns]) {
        let wall = if self.of == Of::Process { "   wall ns" } else { "" };
        let head = format!("ns/{}", self.unit);
        println!("\n{title}\n{:<44}{head:>14}{:>22}{:>13}{:>9}{wall}", "", "least - most", "allocations", "ratio");
        let first = turns.first_mut().map_or(1.0, |first| median(&mut first.ns));
        for (contender, turns) in self.contenders.iter().zip(turns) {
            let middle = median(&mut turns.ns);
            // Sorted by the median.
            let (least, most) = (turns.ns.first().unwrap_or(&0.0), turns.ns.last().unwrap_or(&0.0));
            let range = format!("{} - {}", short(*least), short(*most));
            let allocations = turns.allocations;
            print!("{:<44}{:>14}{range:>22}{allocations:>13.2}{:>9.2}", contender.name, short(middle), middle / first);
            match self.of {
                Of::Process => println!("{:>10}", short(median(&mut turns.wall_ns))),
                Of::Thread => println!(),
            }
        }
    }
}

fn short(ns: f64) -> String {
    match ns {
        0.0..10.0 => format!("{ns:.2}"),
        10.0..999.5 => format!("{ns:.0}"),
        _ => {
            let digits = format!("{ns:.0}");
            let (thousands, rest) = digits.split_at(digits.len().saturating_sub(3));
            format!("{thousands},{rest}")
        }
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// How many runs make one turn.
fn calibrate(contender: &mut Contender<'_>, of: Of) -> u64 {
    let mut count = 1;
    loop {
        let mut turns = Turns::default();
        turn(contender, count, of, &mut turns);
        let ns = (turns.ns[0] * contender.units * count as f64) as u64;
        if ns * 2 >= TURN_NS {
            return count;
        }
        count = (count * TURN_NS / ns.max(1)).clamp(count + 1, count * 20);
    }
}

fn turn(contender: &mut Contender<'_>, count: u64, of: Of, turns: &mut Turns) {
    let clock = match of {
        Of::Thread => libc::CLOCK_THREAD_CPUTIME_ID,
        Of::Process => libc::CLOCK_PROCESS_CPUTIME_ID,
    };
    let allocations = ALLOCATIONS.get();
    let (wall, cpu) = (now_ns(libc::CLOCK_MONOTONIC), now_ns(clock));
    for _ in 0..count {
        (contender.run)();
    }
    let units = contender.units * count as f64;
    turns.ns.push((now_ns(clock) - cpu) as f64 / units);
    turns.wall_ns.push((now_ns(libc::CLOCK_MONOTONIC) - wall) as f64 / units);
    turns.allocations = (ALLOCATIONS.get() - allocations) as f64 / units;
}

fn now_ns(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec that outlives the call; a clock that is not there leaves it zero.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
