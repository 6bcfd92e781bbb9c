//! The key of development mode: made once, kept in a file, so that `tenantcast token` in another shell signs what the server verifies.
//!
//! The file is `development.key` in `tenantcast-<uid>` under `$XDG_RUNTIME_DIR`, or under `/tmp`. Anyone may make names in `/tmp`, so
//! nothing there is trusted by its name: the directory must be a real one of this user with mode 0700, the file a real one of this user
//! with mode 0600, and neither is reached through a symbolic link. What fails that is an error, not a reason to write somewhere else.

use super::{Env, Error, Secret};
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const NAME: &str = "development.key";
/// 32 random bytes in hexadecimal.
const LENGTH: usize = 64;

/// Where the key of this user is kept.
pub fn directory(env: &Env) -> PathBuf {
    let base = env.get("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|base| base.is_absolute());
    base.unwrap_or_else(|| "/tmp".into()).join(format!("tenantcast-{}", user()))
}

/// The key in `directory`, made if there is none.
pub fn secret(directory: &Path) -> Result<Secret, Error> {
    let path = directory.join(NAME);
    let fail = |reason: String| Error::DevelopmentKey { path: path.clone(), reason };
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(fail(error.to_string())),
        _ => {}
    }
    let about = fs::symlink_metadata(directory).map_err(|error| fail(error.to_string()))?;
    if !about.is_dir() || !is_private(&about) {
        return Err(fail("its directory is not a directory of this user with mode 0700".into()));
    }
    match open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            make(directory, &path).map_err(|error| fail(error.to_string()))?
        }
        _ => {}
    }
    let file = open(&path).map_err(|error| fail(error.to_string()))?;
    let about = file.metadata().map_err(|error| fail(error.to_string()))?;
    if !about.is_file() || !is_private(&about) {
        return Err(fail("not a file of this user with mode 0600".into()));
    }
    let mut text = String::new();
    file.take(LENGTH as u64 + 1).read_to_string(&mut text).map_err(|error| fail(error.to_string()))?;
    if text.len() != LENGTH || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(fail(format!("not {LENGTH} hexadecimal digits: remove the file to have a new one made")));
    }
    Ok(Secret(text))
}

fn open(path: &Path) -> io::Result<File> {
    // Without O_NONBLOCK a pipe of that name would hold the start for ever.
    OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)
}

/// Writes a key beside its place and links it there: of two servers that start at once, one link succeeds and both read one key.
fn make(directory: &Path, path: &Path) -> io::Result<()> {
    let mut bytes = [0; LENGTH / 2 + 8];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let (text, unique) = hex.split_at(LENGTH);
    let draft = directory.join(format!(".{NAME}.{unique}"));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    let linked = file.write_all(text.as_bytes()).and_then(|()| fs::hard_link(&draft, path));
    fs::remove_file(&draft)?;
    match linked {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

fn is_private(about: &Metadata) -> bool {
    about.uid() == user() && about.mode() & 0o077 == 0
}

fn user() -> u32 {
    // SAFETY: geteuid has no preconditions and cannot fail; std has no call for it.
    unsafe { libc::geteuid() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    /// A directory of its own for each test, gone afterwards.
    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Place {
            let path = std::env::temp_dir().join(format!("tenantcast-test-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Place(path)
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn the_key_is_made_once_and_kept_private() {
        let place = Place::new("once");
        let directory = place.0.join("keys");
        let first = secret(&directory).unwrap();
        assert_eq!(first.0.len(), LENGTH);
        assert_eq!((mode(&directory), mode(&directory.join(NAME))), (0o700, 0o600));
        assert!(secret(&directory).unwrap() == first);
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1, "no draft stays behind");
        let other = Place::new("other");
        assert!(secret(&other.0.join("keys")).unwrap() != first);
    }

    #[test]
    fn what_is_not_private_is_not_used() {
        let chmod = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        type Spoil<'a> = &'a dyn Fn(&Path, &Path);
        let cases: [(&str, Spoil<'_>, &str); 7] = [
            ("open directory", &|keys, _| chmod(keys, 0o755), "mode 0700"),
            ("open file", &|_, key| chmod(key, 0o644), "mode 0600"),
            (
                "linked directory",
                &|keys, _| {
                    let real = keys.with_file_name("real");
                    fs::rename(keys, &real).unwrap();
                    symlink(real, keys).unwrap();
                },
                "mode 0700",
            ),
            (
                "linked file",
                &|_, key| {
                    let real = key.with_file_name("real");
                    fs::rename(key, &real).unwrap();
                    symlink(real, key).unwrap();
                },
                "symbolic link",
            ),
            (
                "a directory for a file",
                &|_, key| {
                    fs::remove_file(key).unwrap();
                    DirBuilder::new().mode(0o700).create(key).unwrap();
                },
                "mode 0600",
            ),
            ("a short key", &|_, key| fs::write(key, "abc").unwrap(), "64 hexadecimal digits"),
            ("a long key", &|_, key| fs::write(key, "a".repeat(65)).unwrap(), "64 hexadecimal digits"),
        ];
        for (name, spoil, says) in cases {
            let place = Place::new(&name.replace(' ', "-"));
            let keys = place.0.join("keys");
            secret(&keys).unwrap();
            spoil(&keys, &keys.join(NAME));
            let error = secret(&keys).unwrap_err().to_string();
            assert!(error.contains(says) && error.contains(NAME), "{name}: {error}");
        }
    }

    #[test]
    fn the_directory_is_the_users_own() {
        let env = |value: &str| Env::new([("XDG_RUNTIME_DIR".into(), value.into())]);
        let name = format!("tenantcast-{}", user());
        for (value, base) in [("/run/user/7", "/run/user/7"), ("", "/tmp"), ("relative", "/tmp")] {
            assert_eq!(directory(&env(value)), Path::new(base).join(&name), "{value:?}");
        }
    }
}
