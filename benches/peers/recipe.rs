//! What has to be there before anything is measured. What is missing is named, with the way to do without it.
//!
//! Everything built or installed lands in `target/` and in `node_modules/`.

use crate::machine::root;
use crate::server::Contender;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where the programs are.
#[derive(Default)]
pub struct Built {
    pub tenantcast: PathBuf,
    pub loadgen: PathBuf,
    pub uwebsockets: PathBuf,
    pub socketioxide: PathBuf,
    pub socket_io: PathBuf,
}

/// The crate that carries uWebSockets' sources.
const SOURCES: &str = "libuwebsockets-sys";
const C_SOURCES: [&str; 6] = ["bsd.c", "context.c", "loop.c", "socket.c", "udp.c", "eventing/epoll_kqueue.c"];

/// `fleet`: several nodes of a server will be started on a Redis.
pub fn all(contenders: &[Contender], fleet: bool) -> Result<Built> {
    if fleet {
        version(
            "redis-server",
            "it is what several nodes meet on (package redis-server); `--only` with other scenarios does without",
        )?;
    }
    // Cargo has built it for this bench, with the bench's profile, which is the release's.
    let tenantcast = PathBuf::from(env!("CARGO_BIN_EXE_tenantcast"));
    let target = tenantcast.ancestors().nth(2).context("the binary is in target/release")?.to_owned();
    let mut built = Built { tenantcast, ..Built::default() };
    built.loadgen = loadgen(&target)?;
    let peers = target.join("peers");
    if contenders.contains(&Contender::UWebSockets) {
        built.uwebsockets = uwebsockets(&peers).context(without(Contender::UWebSockets))?;
    }
    if contenders.contains(&Contender::Socketioxide) {
        built.socketioxide = socketioxide(&peers).context(without(Contender::Socketioxide))?;
    }
    if contenders.contains(&Contender::SocketIo) {
        built.socket_io = socket_io().context(without(Contender::SocketIo))?;
    }
    Ok(built)
}

fn without(contender: Contender) -> String {
    format!("cannot build {0} (`-- --without {0}` leaves it out)", contender.name())
}

fn manifest() -> PathBuf {
    root().join("benches/peers/Cargo.toml")
}

fn cargo() -> Command {
    let mut command = Command::new("nice");
    command.arg(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())).current_dir(root());
    command
}

fn loadgen(target: &Path) -> Result<PathBuf> {
    eprintln!("building loadgen");
    run(cargo().args(["build", "--release", "--package", "loadgen", "--target-dir"]).arg(target))?;
    Ok(target.join("release/loadgen"))
}

fn socketioxide(out: &Path) -> Result<PathBuf> {
    eprintln!("building socketioxide");
    let mut command = cargo();
    command.args(["build", "--release", "--locked", "--manifest-path"]).arg(manifest());
    run(command.arg("--target-dir").arg(out))?;
    Ok(out.join("release/socketioxide"))
}

/// As its own makefile builds it: -O3 and link-time optimisation, without TLS and compression, which nobody here uses.
fn uwebsockets(out: &Path) -> Result<PathBuf> {
    let out = out.join("uwebsockets");
    let server = out.join("server");
    let own = root().join("benches/peers/uwebsockets/server.cpp");
    if is_newer(&server, &[&own, &root().join("benches/peers/Cargo.lock")]) {
        return Ok(server);
    }
    eprintln!("building uwebsockets");
    for compiler in ["gcc", "g++"] {
        version(compiler, "a C++20 compiler is needed (package g++)")?;
    }
    let sources = sources()?;
    let (library, include) = (sources.join("uSockets/src"), sources.join("src"));
    fs::create_dir_all(&out)?;
    let mut objects = Vec::new();
    let flags = ["-O3", "-flto", "-march=native", "-w", "-DLIBUS_NO_SSL", "-DUWS_NO_ZLIB"];
    for source in C_SOURCES {
        let object = out.join(source.replace('/', "-")).with_extension("o");
        run(Command::new("nice")
            .args(["gcc", "-c"])
            .args(flags)
            .arg("-I")
            .arg(&library)
            .arg(library.join(source))
            .arg("-o")
            .arg(&object))?;
        objects.push(object);
    }
    let mut link = Command::new("nice");
    link.args(["g++", "-std=c++20"]).args(flags).arg("-I").arg(include).arg("-I").arg(&library);
    run(link.arg(own).args(objects).arg("-o").arg(&server))?;
    Ok(server)
}

/// Fetched and pinned by cargo, compiled by nobody but us.
fn sources() -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["metadata", "--format-version", "1", "--locked", "--manifest-path"]).arg(manifest());
    let output = command.stderr(Stdio::inherit()).output().context("cargo metadata")?;
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let package = packages.iter().find(|package| package["name"] == SOURCES);
    let manifest = package.and_then(|package| package["manifest_path"].as_str());
    let directory = manifest.and_then(|manifest| Path::new(manifest).parent());
    Ok(directory.with_context(|| format!("cargo fetched no {SOURCES}"))?.join("uWebSockets"))
}

fn socket_io() -> Result<PathBuf> {
    let directory = root().join("benches/peers/socket.io");
    let version = version("node", "Node 20 or newer is needed (package nodejs, or https://nodejs.org)")?;
    let major = version.trim_start_matches('v').split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_none_or(|major| major < 20) {
        bail!("Node 20 or newer is needed, this is {version}");
    }
    let installed = directory.join("node_modules/.package-lock.json");
    if !is_newer(&installed, &[&directory.join("package-lock.json")]) {
        eprintln!("installing socket.io");
        self::version("npm", "npm is needed to install it (package npm)")?;
        run(Command::new("nice")
            .args(["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"])
            .current_dir(&directory))?;
    }
    Ok(directory.join("server.mjs"))
}

/// The first line of `--version`.
fn version(program: &str, missing: &str) -> Result<String> {
    let output = Command::new(program).arg("--version").output();
    let output = output.with_context(|| format!("`{program}` does not start: {missing}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned())
}

fn is_newer(what: &Path, than: &[&Path]) -> bool {
    let time = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    let Some(made) = time(what) else { return false };
    than.iter().all(|path| time(path).is_some_and(|changed| changed <= made))
}

/// With its output shown: builds say what is wrong themselves.
fn run(command: &mut Command) -> Result<()> {
    let name = command.get_args().next().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let status = command.stdout(Stdio::null()).status().with_context(|| format!("starting {name}"))?;
    if status.success() { Ok(()) } else { bail!("{name} failed: {status}") }
}
