//! The command line: what was asked for, as values, and the commands that need no server.
//!
//! stdout carries results only (`ok`, a token, a profile), so that it can be piped; everything said to a person goes to stderr.
//! Exit codes: 0 done, 2 the command line or the configuration is wrong.

use crate::base::time::UnixMs;
use crate::config::{Config, Env, Error, Sources};
use crate::profile::{Profile, builtin};
use crate::wire::auth::{Mint, MintError, Reject, mint, verify};
use clap::{Args, Parser, Subcommand};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Exit code of a wrong command line or configuration, as clap's own.
const WRONG: u8 = 2;

/// One real-time server for Socket.IO applications with tenants.
#[derive(Debug, Parser)]
#[command(name = "tenantcast", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the server (also without a command).
    Serve(Settings),
    /// Validates the configuration: prints `ok`, or the first error with its file, key and reason.
    Check(Settings),
    /// Mints a token with the configured secret and prints it.
    Token(Token),
    /// Lists the built-in application profiles.
    Profiles {
        #[command(subcommand)]
        command: Option<Profiles>,
    },
}

#[derive(Debug, Subcommand)]
enum Profiles {
    /// Prints one.
    Show { name: String },
    /// Prints the JSON Schema of a profile's file, for editors.
    Schema,
}

/// Flags of the configuration; each overrides its environment variable and its key in the file.
#[derive(Debug, Default, Args)]
struct Settings {
    /// Configuration in TOML [env: TENANTCAST_CONFIG].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Application profile: a built-in name [env: PROFILE].
    #[arg(long, value_name = "NAME_OR_FILE")]
    profile: Option<String>,
    /// Address to listen on [env: HOST].
    #[arg(long, value_name = "ADDRESS")]
    host: Option<String>,
    /// Public port, 0 for any [env: PORT].
    #[arg(long)]
    port: Option<String>,
    /// Address of the admin port.
    #[arg(long, value_name = "ADDRESS")]
    admin_host: Option<String>,
    /// Admin port, 0 for any [env: ADMIN_PORT].
    #[arg(long, value_name = "PORT")]
    admin_port: Option<String>,
    /// Threads that serve sockets, 0 for one a processor [env: SHARDS].
    #[arg(long, value_name = "COUNT")]
    shards: Option<String>,
    /// Number of this process in a fleet.
    #[arg(long, value_name = "NUMBER")]
    node: Option<String>,
    /// Listens on ports that another process of this user listens on, which drains next, and lets the next one do so.
    #[arg(long)]
    takeover: bool,
    /// Origins a browser may come from, with commas [env: FRONTEND_URL].
    #[arg(long, value_name = "URLS")]
    frontend_url: Option<String>,
    /// off, error, warn, info, debug, trace, or directives [env: LOG_LEVEL].
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
}

#[derive(Debug, Args)]
struct Token {
    #[arg(long)]
    tenant: String,
    #[arg(long)]
    user: String,
    /// May be repeated.
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
    /// May be repeated: `publish`, `publish:project:*`.
    #[arg(long = "permission", value_name = "PERMISSION")]
    permissions: Vec<String>,
    /// A pattern of rooms the bearer may join; may be repeated. Without any: every room of the tenant.
    #[arg(long = "room", value_name = "PATTERN")]
    rooms: Vec<String>,
    /// Of a service's token; may be repeated: `publish`.
    #[arg(long = "scope", value_name = "SCOPE")]
    scope: Vec<String>,
    /// How long it counts: `90s`, `1h`, `7d`.
    #[arg(long, default_value = "1h", value_parser = humantime::parse_duration)]
    ttl: Duration,
    #[command(flatten)]
    settings: Settings,
}

/// Why a command ends without a result.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Config(#[from] Error),
    #[error(transparent)]
    Mint(#[from] MintError),
    #[error("the server would refuse this token: {0}")]
    Refused(#[from] Reject),
    #[error("no profile is called `{0}`; `tenantcast profiles` lists them")]
    NoProfile(String),
}

/// Does what the process's arguments ask for. `serve` runs the server until it ends; it is the caller's, who knows every plane.
pub fn run(now: UnixMs, serve: impl FnOnce(Config) -> ExitCode) -> ExitCode {
    let cli = Cli::parse();
    let env = Env::new(std::env::vars_os());
    let result = match cli.command {
        None => return started(cli.settings.load(env), serve),
        Some(Command::Serve(settings)) => return started(settings.load(env), serve),
        Some(Command::Check(settings)) => check(settings, env),
        Some(Command::Token(token)) => self::token(token, env, now),
        Some(Command::Profiles { command: None }) => {
            Ok(builtin::BUILTIN.iter().map(|(name, text)| described(name, text)).collect::<Vec<_>>().join("\n"))
        }
        Some(Command::Profiles { command: Some(Profiles::Show { name }) }) => profile(name),
        Some(Command::Profiles { command: Some(Profiles::Schema) }) => Ok(Profile::schema()),
    };
    match result {
        Ok(text) => {
            // `println!` panics where the reader has gone, as `| head -1` does.
            match writeln!(std::io::stdout(), "{}", text.trim_end()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            }
        }
        Err(failure) => wrong(&failure),
    }
}

fn started(config: Result<Config, Error>, serve: impl FnOnce(Config) -> ExitCode) -> ExitCode {
    match config {
        Ok(config) => serve(config),
        Err(error) => wrong(&error.into()),
    }
}

fn wrong(failure: &Failure) -> ExitCode {
    eprintln!("tenantcast: {failure}");
    ExitCode::from(WRONG)
}

fn check(settings: Settings, env: Env) -> Result<String, Failure> {
    let config = settings.load(env)?;
    for warning in &config.warnings {
        eprintln!("tenantcast: warning: {warning}");
    }
    if config.is_development() {
        eprintln!("tenantcast: no key and no file: the server would start in development mode, on loopback");
    }
    Ok("ok".into())
}

/// A token that the server with the same configuration admits now.
fn token(token: Token, env: Env, now: UnixMs) -> Result<String, Failure> {
    let config = token.settings.load(env)?;
    let (keys, policy) = (config.keys()?, &config.auth.policy);
    let claims = Mint {
        tenant: &token.tenant,
        user: &token.user,
        roles: &token.roles,
        permissions: &token.permissions,
        rooms: &token.rooms,
        scope: &token.scope,
        ttl: Some(token.ttl),
    };
    let text = mint(&claims, &keys, policy, now)?;
    verify(&text, &keys, policy, now)?;
    Ok(text)
}

fn profile(name: String) -> Result<String, Failure> {
    builtin::text(&name).map(str::to_owned).ok_or(Failure::NoProfile(name))
}

/// Its name and what it says of itself.
fn described(name: &str, text: &str) -> String {
    let about = Profile::parse(text).map(|profile| profile.about).unwrap_or_default();
    format!("{name:<18}{about}")
}

impl Settings {
    fn load(self, env: Env) -> Result<Config, Error> {
        let flags = [
            ("--profile", "server.profile", self.profile),
            ("--host", "server.host", self.host),
            ("--port", "server.port", self.port),
            ("--admin-host", "server.admin_host", self.admin_host),
            ("--admin-port", "server.admin_port", self.admin_port),
            ("--shards", "server.shards", self.shards),
            ("--node", "server.node", self.node),
            ("--takeover", "server.takeover", self.takeover.then(|| "true".into())),
            ("--frontend-url", "server.frontend_url", self.frontend_url),
            ("--log-level", "server.log_level", self.log_level),
        ];
        let flags = flags.into_iter().filter_map(|(flag, path, value)| Some((flag, path, value?))).collect();
        Config::load(&Sources { file: self.config, flags, env })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    const NOW: UnixMs = UnixMs(1_700_000_000_000);

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    fn env(variables: &[(&str, &str)]) -> Env {
        Env::new(variables.iter().map(|&(name, value)| (name.into(), value.into())))
    }

    /// What a command line prints, or says is wrong; `serve` shows its address.
    fn outcome(line: &str, variables: &[(&str, &str)]) -> Result<String, String> {
        let result = match parse(line).map_err(|error| error.to_string())?.command {
            None => parse(line)
                .unwrap()
                .settings
                .load(env(variables))
                .map(|c| c.server.address.to_string())
                .map_err(Failure::from),
            Some(Command::Serve(settings)) => {
                settings.load(env(variables)).map(|config| config.server.address.to_string()).map_err(Failure::from)
            }
            Some(Command::Check(settings)) => check(settings, env(variables)),
            Some(Command::Token(token)) => self::token(token, env(variables), NOW),
            Some(Command::Profiles { command: Some(Profiles::Show { name }) }) => profile(name),
            Some(Command::Profiles { command: Some(Profiles::Schema) }) => Ok(Profile::schema()),
            Some(Command::Profiles { command: None }) => Ok(String::new()),
        };
        result.map_err(|failure| failure.to_string())
    }

    #[test]
    fn definitions_hold_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn commands() {
        let secret = ("JWT_SECRET", "a-shared-secret-of-the-tests-32-b");
        for (line, variables, expected) in [
            ("tenantcast", &[][..], Ok("127.0.0.1:3000")),
            ("tenantcast --port 7", &[], Ok("127.0.0.1:7")),
            ("tenantcast --takeover --port 7", &[], Ok("127.0.0.1:7")),
            ("tenantcast serve --port 7", &[("PORT", "8")], Ok("127.0.0.1:7")),
            ("tenantcast serve --host 0.0.0.0", &[secret], Ok("0.0.0.0:3000")),
            (
                "tenantcast serve --host 0.0.0.0",
                &[],
                Err("auth.secret: no key to verify tokens with, and development mode"),
            ),
            ("tenantcast serve --config /nonexistent.toml", &[], Err("/nonexistent.toml: cannot be read")),
            (
                "tenantcast check",
                &[("TENANTCAST_CONFIG", "/nonexistent.toml")],
                Err("/nonexistent.toml: cannot be read"),
            ),
            ("tenantcast check", &[secret], Ok("ok")),
            ("tenantcast check --shards 300", &[secret], Err("--shards: server.shards: must be")),
            ("tenantcast check --profile nope", &[secret], Err("--profile: server.profile: no such profile")),
            ("tenantcast check --config", &[], Err("error: a value is required for '--config <FILE>'")),
            (
                "tenantcast profiles show default",
                &[],
                Ok("# The profile of every application that has none of its own: tenants, rooms"),
            ),
            ("tenantcast profiles show nope", &[], Err("no profile is called `nope`")),
            (
                "tenantcast token --tenant t",
                &[secret],
                Err("error: the following required arguments were not provided"),
            ),
            (
                "tenantcast token --tenant a/b --user u",
                &[secret],
                Err("the server would refuse this token: the token cannot be read"),
            ),
            (
                "tenantcast token --tenant t --user u --ttl 0s",
                &[secret],
                Err("the server would refuse this token: the token has expired"),
            ),
            ("tenantcast token --tenant t --user u --ttl soon", &[secret], Err("error: invalid value 'soon'")),
            ("tenantcast token --tenant t --user u", &[secret], Ok("ey")),
        ] {
            match (outcome(line, variables), expected) {
                (Ok(text), Ok(start)) => assert!(text.starts_with(start), "{line}: {text}"),
                (Err(text), Err(start)) => assert!(text.starts_with(start), "{line}: {text}"),
                (result, _) => panic!("{line}: {result:?}"),
            }
        }
    }

    #[test]
    fn a_token_says_what_was_asked_for() {
        let secret = "a-shared-secret-of-the-tests-32-b";
        let line = "tenantcast token --tenant acme --user ann --role admin --role editor --permission publish:p:* --room p:* --scope publish --ttl 2h";
        let variables =
            [("JWT_SECRET", secret), ("JWT_AUDIENCE", "rt"), ("TENANTCAST_AUTH__TENANT_CLAIMS", "workspace")];
        let token = outcome(line, &variables).unwrap();
        let config = Settings::default().load(env(&variables)).unwrap();
        let who = verify(&token, &config.keys().unwrap(), &config.auth.policy, NOW).unwrap();
        assert_eq!((who.tenant.as_str(), &*who.user), ("acme", "ann"));
        assert_eq!(who.expires_at, Some(UnixMs(NOW.0 + 7_200_000)));
        assert!(who.has_role("admin") && who.has_role("editor") && who.has_scope("publish"));
        assert!(who.may_publish("p:1") && who.opens_room("p:1") && !who.opens_room("other"));
    }

    #[test]
    fn development_shares_its_key_between_shells() {
        let place = std::env::temp_dir().join(format!("tenantcast-test-{}-cli", std::process::id()));
        std::fs::create_dir_all(&place).unwrap();
        let variables = [("XDG_RUNTIME_DIR", place.to_str().unwrap())];
        let token = outcome("tenantcast token --tenant t --user u", &variables).unwrap();
        let server = Settings::default().load(env(&variables)).unwrap();
        assert!(server.is_development());
        assert!(verify(&token, &server.keys().unwrap(), &server.auth.policy, NOW).is_ok());
        std::fs::remove_dir_all(&place).unwrap();
    }
}
