//! Small file systems that a test can fill and make read-only.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

const INSIDE: &str = "TCC_OWN_MOUNTS";

/// Returns whether this process may mount file systems that no other process sees. If it may not, runs the test again in a
/// process that may, and returns `false` after that has passed: the test is complete then.
pub fn has_own_mounts(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    let flags: &[&str] = if root { &["--mount"] } else { &["--user", "--map-root-user", "--mount"] };
    let mut command = Command::new("unshare");
    command.args(flags).arg(std::env::current_exe().unwrap()).args([
        test,
        "--exact",
        "--nocapture",
        "--test-threads=1",
    ]);
    let output = command.env(INSIDE, "1").output().expect("unshare is not installed: it is part of util-linux");
    let [told, why] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    assert!(
        output.status.success() && told.contains("1 passed"),
        "{test} fails in a mount namespace, or needs root or user namespaces to make one:\n{told}{why}"
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
