//! The command line: what each command prints, where, and with which exit code.

use crate::server::{SECRET, Server, command, run, until};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// Exit code, and what stdout and stderr must hold.
fn check(args: &[&str], env: &[(&str, &str)], code: i32, stdout: &str, stderr: &[&str]) {
    let output = run(args, env);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{args:?}: {out}{err}");
    match stdout {
        "" => assert_eq!(out, "", "{args:?}"),
        part => assert!(out.contains(part), "{args:?}: stdout is `{out}`"),
    }
    for part in stderr {
        assert!(err.contains(part), "{args:?}: stderr is `{err}`, without `{part}`");
    }
}

#[test]
fn commands_say_what_is_wrong_and_end_with_2() {
    let place = std::env::temp_dir().join(format!("tenantcast-it-{}", std::process::id()));
    std::fs::create_dir_all(&place).expect("a directory");
    let file = |name: &str, text: &str| {
        let path = place.join(name);
        std::fs::write(&path, text).expect("a file");
        path.to_str().expect("text").to_owned()
    };
    let secret = ("JWT_SECRET", SECRET);
    let good = file("good.toml", "[limits]\nframe_bytes = 2000\n");
    let unknown = file("unknown.toml", "[limits]\n\nframe_byte = 2000\n");
    let section = file("section.toml", "[limit]\nframe_bytes = 2000\n");
    let kind = file("kind.toml", "[limits]\nframe_bytes = \"many\"\n");
    let broken = file("broken.toml", "[limits\n");
    check(&["check"], &[secret], 0, "ok", &[]);
    check(&["check", "--config", &good], &[secret], 0, "ok", &[]);
    for command in ["check", "serve"] {
        check(
            &[command, "--config", &unknown],
            &[secret],
            2,
            "",
            &["unknown.toml:3", "limits.frame_byte", "limits.frame_bytes"],
        );
        check(&[command, "--config", &section], &[secret], 2, "", &["section.toml:1", "limit", "limits"]);
        check(&[command, "--config", &kind], &[secret], 2, "", &["kind.toml:2", "limits.frame_bytes"]);
        check(&[command, "--config", &broken], &[secret], 2, "", &["broken.toml"]);
        check(&[command, "--config", "/nonexistent.toml"], &[secret], 2, "", &["/nonexistent.toml"]);
        check(&[command, "--config", &good], &[], 2, "", &["auth.secret"]);
        check(&[command], &[("HOST", "0.0.0.0")], 2, "", &["auth.secret"]);
        check(&[command], &[secret, ("PORT", "many")], 2, "", &["PORT", "server.port"]);
        check(
            &[command],
            &[secret, ("TENANTCAST_LIMITS__FRAME_BYTE", "1")],
            2,
            "",
            &["TENANTCAST_LIMITS__FRAME_BYTES"],
        );
        check(&[command, "--nope"], &[secret], 2, "", &["--nope"]);
    }
    check(&["nope"], &[secret], 2, "", &["nope"]);
    check(&["--version"], &[], 0, env!("CARGO_PKG_VERSION"), &[]);
    check(&["profiles"], &[], 0, "default", &[]);
    check(&["profiles", "show", "default"], &[], 0, "subscribe", &[]);
    check(&["profiles", "show", "nope"], &[], 2, "", &["nope"]);
    std::fs::remove_dir_all(&place).expect("its own directory");
}

#[test]
fn tokens() {
    let secret = ("JWT_SECRET", SECRET);
    let output = run(&["token", "--tenant", "acme", "--user", "ana"], &[secret]);
    let token = String::from_utf8(output.stdout).expect("text");
    assert_eq!(token.trim().split('.').count(), 3, "{token}");
    assert_eq!(token.lines().count(), 1, "it can be piped");
    check(&["token", "--tenant", "acme"], &[secret], 2, "", &["--user"]);
    check(&["token", "--tenant", "acme", "--user", "ana", "--ttl", "soon"], &[secret], 2, "", &["soon"]);
    check(&["token", "--tenant", "acme", "--user", "ana"], &[("HOST", "0.0.0.0")], 2, "", &["auth.secret"]);
}

#[test]
fn a_port_that_is_taken_is_said() {
    let server = Server::start(&[]);
    let port = server.address.port().to_string();
    let env = [("HOST", "127.0.0.1"), ("ADMIN_PORT", "0"), ("JWT_SECRET", SECRET)];
    let output = run(&["serve", "--port", &port], &env);
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.contains(&port) && err.contains("server.port"), "{err}");
    assert!(output.stdout.is_empty(), "it was never ready");
}

/// Ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// As under `tenantcast 2>&1 | head -1`: whoever read the log has gone. What is logged is lost, and nothing else.
#[test]
fn a_log_that_nobody_reads_ends_nothing() {
    let mut command = command(&[("HOST", "127.0.0.1"), ("PORT", "0"), ("ADMIN_PORT", "0"), ("JWT_SECRET", SECRET)]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
    let Running(child) = &mut Running(child);
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("the ready line");
    drop(child.stderr.take());
    let terminated = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    assert!(terminated.expect("kill starts").success());
    // It says that it drains, to nobody.
    let mut code = None;
    until("it has drained", || {
        code = child.try_wait().expect("its state");
        code.is_some()
    });
    assert_eq!(code.and_then(|status| status.code()), Some(0), "{line}");
}
