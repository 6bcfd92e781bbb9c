//! The house's rules, held by a program: who may import whom, what the pure floors may not say, how files look.
//!
//! Each rule is a function from a file's text to complaints, and each has a snippet it refuses. An exception is a row with its reason.

use std::fs;
use std::path::{Path, PathBuf};

/// Rooms of the house by their first path segment, with their floor. Siblings on floor 4 never import each other.
const FLOORS: &[(&str, u8)] = &[
    ("base", 0),
    ("wire", 1),
    ("profile", 1),
    ("shard", 2),
    ("bridge", 3),
    ("data_plane", 4),
    ("backplane", 4),
    ("control_plane", 4),
    ("boot", 5),
    ("boot_tests", 5),
    ("main", 5),
    ("lib", 5),
    ("config", 5),
    ("cli", 5),
    ("demo", 5),
];

/// Crates that a floor and all above it may name; what is not listed, floors 4 and 5 may.
const CRATES: &[(u8, &[&str])] = &[
    (0, &["ahash", "rand_chacha", "rand_core", "base64", "smallvec", "humantime"]),
    (
        1,
        &[
            "httparse",
            "tungstenite",
            "jsonwebtoken",
            "serde",
            "serde_json",
            "percent_encoding",
            "rmp",
            "sha2",
            "memchr",
            "ulid",
            "thiserror",
            "toml",
            "schemars",
            "jsonschema",
            "crc32fast",
            "strsim",
        ],
    ),
    (2, &[]),
    (3, &["atomic_waker", "crossbeam_queue"]),
    (
        4,
        &[
            "glommio",
            "io_uring",
            "tokio",
            "libc",
            "socket2",
            "tracing",
            "redis",
            "rustls",
            "hyper",
            "hyper_util",
            "hyper_rustls",
            "aws_lc_rs",
        ],
    ),
];

/// What no pure floor says, outside tests.
const BANNED: &[&str] = &[
    "async fn",
    "async move",
    ".await",
    "Arc<",
    "Arc::",
    "Mutex",
    "RwLock",
    "RefCell",
    "Atomic",
    "Instant::now",
    "SystemTime::now",
    "std::thread",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "std::fs",
    "std::env",
    "println!",
    ".unwrap()",
    "todo!",
    "unimplemented!",
    "dbg!",
];

/// (file, what it says, why it may).
const EXCEPTIONS: &[(&str, &str, &str)] = &[("src/bridge.rs", "Mutex", "floor 3 is where threads meet")];

const LINES_MAX: usize = 600;

fn floor(room: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == room).map(|(_, floor)| *floor)
}

/// The room a file is in: `src/wire/http.rs` is in `wire`.
fn room(path: &str) -> &str {
    let rest = path.strip_prefix("src/").unwrap_or(path);
    rest.split('/').next().unwrap_or(rest).trim_end_matches(".rs")
}

/// Code without comments and without tests: what a rule about code looks at.
fn code(text: &str) -> String {
    let mut out = String::new();
    let mut skip: Option<i32> = None;
    let mut test = false;
    for line in text.lines() {
        let line = if line.trim_start().starts_with("//") { "" } else { line };
        let line = line.split(" // ").next().unwrap_or(line);
        if let Some(depth) = &mut skip {
            *depth += line.matches('{').count() as i32 - line.matches('}').count() as i32;
            if *depth <= 0 && (line.contains('}') || line.contains(';')) {
                skip = None;
            }
        } else if line.trim() == "#[cfg(test)]" {
            test = true;
            continue;
        } else if std::mem::take(&mut test) {
            let depth = line.matches('{').count() as i32 - line.matches('}').count() as i32;
            skip = (depth > 0).then_some(depth);
        } else {
            out.push_str(line);
        }
        out.push('\n');
    }
    out
}

fn is_test(path: &str) -> bool {
    path.starts_with("tests/") || path.ends_with("tests.rs") || path.contains("/tests/")
}

/// Imports point down.
fn imports(path: &str, text: &str) -> Vec<String> {
    let here = room(path);
    let Some(mine) = floor(here) else { return vec![format!("{path}: {here} has no floor in tests/tidy.rs")] };
    let code = code(text);
    let mut wrong = Vec::new();
    for part in code.split("crate::").skip(1) {
        let inside = part.strip_prefix('{').unwrap_or(part);
        let names: Vec<&str> = if inside.len() < part.len() { top_names(inside) } else { vec![first_name(part)] };
        for name in names {
            let Some(theirs) = floor(name) else { continue };
            let sibling = theirs == mine && mine == 4 && name != here;
            if theirs > mine || sibling {
                wrong.push(format!("{path}: {here} (floor {mine}) imports {name} (floor {theirs})"));
            }
        }
    }
    wrong
}

fn first_name(text: &str) -> &str {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("")
}

/// The first segments in `{a::b, c::{d, e}}`.
fn top_names(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut names) = (0, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                names.push(first_name(text[start..at].trim()));
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                names.push(first_name(text[start..at].trim()));
                start = at + 1;
            }
            _ => {}
        }
    }
    names
}

/// A floor names the crates it may.
fn crates(path: &str, text: &str) -> Vec<String> {
    let Some(mine) = floor(room(path)) else { return Vec::new() };
    let code = code(text);
    let named = |name: &str| {
        code.match_indices(&format!("{name}::")).any(|(at, _)| {
            let before = code[..at].chars().next_back();
            !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
        })
    };
    CRATES
        .iter()
        .filter(|(floor, _)| *floor > mine)
        .flat_map(|(floor, names)| names.iter().map(move |name| (floor, name)))
        .filter(|(_, name)| named(name))
        .map(|(floor, name)| format!("{path}: floor {mine} names {name}, which begins on floor {floor}"))
        .collect()
}

/// Pure floors are pure.
fn purity(path: &str, text: &str) -> Vec<String> {
    if floor(room(path)).is_none_or(|floor| floor > 2) || is_test(path) {
        return Vec::new();
    }
    let code = code(text);
    let excepted = |word: &str| EXCEPTIONS.iter().any(|(file, says, _)| *file == path && *says == word);
    let said = BANNED.iter().filter(|word| code.contains(**word) && !excepted(word));
    let io = code.match_indices("std::io").filter(|(at, _)| {
        // A cursor over a slice and writing into a vector are no input or output.
        let rest = &code[*at..];
        let cursor = rest.starts_with("std::io::Cursor") && path == "src/wire/websocket/decode.rs";
        !cursor && !rest.starts_with("std::io::Write")
    });
    said.map(|word| format!("{path}: a pure floor says {word}"))
        .chain(io.map(|_| format!("{path}: a pure floor uses std::io")))
        .collect()
}

/// Every file says what it is for, and is short enough to be read.
fn shape(path: &str, text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if !text.starts_with("//!") {
        wrong.push(format!("{path}: does not begin with //!"));
    }
    let lines = text.lines().count();
    if lines > LINES_MAX {
        wrong.push(format!("{path}: {lines} lines, at most {LINES_MAX}"));
    }
    wrong
}

/// Words that stand for work not done, waits that are not for an event, and names of places that hold packages.
fn words(path: &str, text: &str) -> Vec<String> {
    // Written apart so that this file does not complain about itself.
    let mut banned = vec![
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
        concat!("registry.", "npmjs"),
        concat!("index.", "crates.io"),
        concat!("static.", "crates.io"),
        concat!("pypi.", "org"),
    ];
    // What another process shows in /proc has no event to wait for: one helper looks again until it is so, or fails.
    if is_test(path) && path != "tests/it/server.rs" {
        banned.push(concat!("thread::", "sleep"));
    }
    let word = |word: &str| {
        text.match_indices(word).any(|(at, _)| {
            let around = [text[..at].chars().next_back(), text[at + word.len()..].chars().next()];
            !around.into_iter().flatten().any(|c| c.is_alphanumeric())
        })
    };
    banned.into_iter().filter(|banned| word(banned)).map(|banned| format!("{path}: says {banned}")).collect()
}

/// Every `unsafe` has its reason above it.
fn safety(path: &str, text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let mut wrong = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let opens = ["unsafe {", "unsafe impl", "unsafe fn", "unsafe extern"].iter().any(|word| line.contains(word));
        if !opens || line.trim_start().starts_with("//") || line.contains('"') {
            continue;
        }
        let above = lines[..at].iter().rev().take(6);
        if !above.into_iter().any(|line| line.contains("// SAFETY:")) {
            wrong.push(format!("{path}:{}: unsafe without // SAFETY:", at + 1));
        }
    }
    wrong
}

/// Every dependency says why it is there.
fn reasons(path: &str, text: &str) -> Vec<String> {
    let mut inside = false;
    let mut commented = false;
    let mut wrong = Vec::new();
    for line in text.lines() {
        if line.starts_with('[') {
            inside = line.contains("dependencies");
        } else if inside && line.contains('=') && !line.starts_with('#') && !line.contains(" # ") && !commented {
            wrong.push(format!("{path}: no reason for {line}"));
        }
        // A group's heading is no reason for one line.
        commented = false;
    }
    wrong
}

fn files(under: &Path, end: &str, out: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(under) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() && !["target", "node_modules", ".git"].contains(&name.as_str()) {
            files(&path, end, out);
        } else if name.ends_with(end) {
            out.push(path);
        }
    }
}

fn each(end: &str, mut rule: impl FnMut(&str, &str) -> Vec<String>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    files(root, end, &mut paths);
    paths.sort();
    assert!(!paths.is_empty(), "no {end} in {root:?}");
    let mut wrong = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path).expect("a text");
        let name = path.strip_prefix(root).expect("found under it").to_string_lossy().into_owned();
        wrong.extend(rule(&name, &text));
    }
    assert!(wrong.is_empty(), "{} complaints:\n{}", wrong.len(), wrong.join("\n"));
}

fn in_src(rule: fn(&str, &str) -> Vec<String>) -> impl FnMut(&str, &str) -> Vec<String> {
    move |path, text| if path.starts_with("src/") { rule(path, text) } else { Vec::new() }
}

#[test]
fn imports_point_down() {
    each(".rs", in_src(imports));
}

#[test]
fn floors_name_their_crates() {
    each(".rs", in_src(crates));
}

#[test]
fn pure_floors_are_pure() {
    each(".rs", in_src(purity));
}

#[test]
fn files_are_short_and_say_what_they_are_for() {
    each(".rs", shape);
}

#[test]
fn nothing_is_left_for_later() {
    each(".rs", words);
}

#[test]
fn unsafe_has_reasons() {
    each(".rs", safety);
}

#[test]
fn dependencies_have_reasons() {
    each("Cargo.toml", reasons);
}

#[test]
fn the_readme_shows_how_to_start() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let text = fs::read_to_string(readme).expect("there is a README");
    assert!(text.contains("cargo run --release"), "the README shows how to start");
}

#[test]
fn every_rule_can_refuse() {
    type Rule = fn(&str, &str) -> Vec<String>;
    let rules: &[(Rule, &str, &str, &str)] = &[
        (imports, "src/wire/x.rs", "use crate::shard::Shard;", "use crate::base::id::Sid;"),
        (
            imports,
            "src/wire/x.rs",
            "use crate::{base::id::Sid, shard::{io, Shard}};",
            "use crate::{base::{id, time}, wire::json};",
        ),
        (imports, "src/data_plane/x.rs", "let x = crate::control_plane::go();", "let x = crate::data_plane::go();"),
        (imports, "src/bridge.rs", "use crate::boot::Boot;", "// use crate::boot::Boot;"),
        (imports, "src/nowhere.rs", "", "use crate::shard::Shard;"),
        (crates, "src/shard/x.rs", "use glommio::Task;", "use smallvec::SmallVec;"),
        (crates, "src/base/x.rs", "fn f(x: serde_json::Value) {}", "fn f(x: my_serde_json::Value) {}"),
        (purity, "src/shard/x.rs", "async fn f() {}", "fn f() {}"),
        (purity, "src/wire/x.rs", "use std::net::TcpStream;", "use std::net::IpAddr;"),
        (purity, "src/wire/x.rs", "use std::io::Read;", "use std::io::Write;"),
        (purity, "src/base/x.rs", "let x = y.unwrap();", "#[cfg(test)]\nmod tests {\n fn f() { y.unwrap(); }\n}\n"),
        (purity, "src/base/x.rs", "#[cfg(test)]\nmod tests;\nlet t = Instant::now();", "let t = now.at;"),
        (shape, "src/x.rs", "use x;", "//! X.\n"),
        (words, "tests/x.rs", concat!("thread::", "sleep(d)"), "wait_for(event)"),
        (words, "src/x.rs", concat!("// TO", "DO: more"), "// ATODOB"),
        (safety, "src/x.rs", "let x = unsafe { y() };", "// SAFETY: y is.\nlet x = unsafe { y() };"),
        (
            reasons,
            "Cargo.toml",
            "[dependencies]\na = \"1\"\n",
            "[package]\nname = \"a\"\n[dependencies]\na = \"1\" # for b\n",
        ),
    ];
    for (rule, path, bad, good) in rules {
        assert!(!rule(path, bad).is_empty(), "{path}: not refused: {bad}");
        if *path != "src/nowhere.rs" {
            assert_eq!(rule(path, good), Vec::<String>::new(), "{path}: refused: {good}");
        }
    }
    assert!(!shape("src/x.rs", &format!("//!{}", "\n".repeat(LINES_MAX + 1))).is_empty());
    assert!(BANNED.iter().all(|word| !purity("src/shard/x.rs", word).is_empty()), "every banned word is refused");
}
