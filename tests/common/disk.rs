//! Small file systems that a test can fill and make read-only, and files that cannot be written.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// Set in a process that runs a single test.
const INSIDE: &str = "TCC_INSIDE";

/// Returns whether this process may mount file systems that no other process sees. If it may not, runs the test again in a
/// process that may, and returns `false` after that has passed: the test is complete then.
pub fn has_own_mounts(test: &str) -> bool {
    let root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    let flags: &[&str] = if root { &["--mount"] } else { &["--user", "--map-root-user", "--mount"] };
    is_inside("unshare", flags, test)
}

/// Returns whether this process survives [`fail_writes`]. If it does not, runs the test again in a process that does, and
/// returns `false` after that has passed.
pub fn may_fail_writes(test: &str) -> bool {
    is_inside("sh", &["-c", r#"trap "" XFSZ; exec "$0" "$@""#], test)
}

/// Makes each write to a file fail from now on, also to files that are open, or not.
pub fn fail_writes(fail: bool) {
    let limit = if fail { "--fsize=0:unlimited" } else { "--fsize=unlimited:unlimited" };
    let output = Command::new("prlimit").args(["--pid", &std::process::id().to_string(), limit]).output().unwrap();
    assert!(output.status.success(), "prlimit: {}", String::from_utf8_lossy(&output.stderr));
}

/// Returns whether this process was started by this function. Otherwise runs the test in such a process.
fn is_inside(program: &str, arguments: &[&str], test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let mut command = Command::new(program);
    command.args(arguments).arg(std::env::current_exe().unwrap()).args([
        test,
        "--exact",
        "--nocapture",
        "--test-threads=1",
    ]);
    let output = command.env(INSIDE, "1").output().unwrap_or_else(|error| panic!("{program}: {error}"));
    let [told, why] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    assert!(
        output.status.success() && told.contains("1 passed"),
        "{test} fails in a process that {program} starts, or {program} may not start it:\n{told}{why}"
    );
    print!("{told}");
    false
}

/// A file system in memory.
#[derive(Debug)]
pub struct Disk(TempDir);

impl Disk {
    /// Creates a file system of this size in bytes.
    pub fn of(bytes: u64) -> Self {
        let folder = TempDir::new().unwrap();
        mount(&["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"], folder.path());
        Self(folder)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn read_only(&self, is_read_only: bool) {
        mount(&["-o", if is_read_only { "remount,ro" } else { "remount,rw" }], self.path());
    }

    /// Uses all free space except 100,000 bytes.
    pub fn fill(&self) {
        let mut ballast = fs::File::create(self.ballast()).unwrap();
        for size in [65_536, 4_096, 1] {
            while ballast.write_all(&vec![0; size]).is_ok() {}
        }
        let length = ballast.metadata().unwrap().len();
        ballast.set_len(length - 100_000).unwrap();
    }

    pub fn make_room(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

fn mount(arguments: &[&str], at: &Path) {
    let output = Command::new("mount").args(arguments).arg(at).output().unwrap();
    assert!(output.status.success(), "mount {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}
