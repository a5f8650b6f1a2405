//! The only writer of files: what appears under its final name is whole and on the disk.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};

use crate::error::{Kind, Result};

/// Writes a file through a temporary sibling: temp, fsync, rename, fsync of the folder.
/// Parent folders are made. On error nothing is left under either name.
pub fn publish_file(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>,
) -> Result<()> {
    let draft = Draft::begin(path)?;
    let outcome = write(&mut draft.lock());
    outcome.map_err(|error| Kind::Environment.at(path).io(&error))?;
    draft.publish()
}

/// A file that grows piece by piece under a temporary name beside its own. It appears when it is
/// published; dropped before, it leaves nothing.
pub struct Draft {
    path: PathBuf,
    temp: PathBuf,
    out: DraftOut,
}

/// Writes into a draft. Clones write into the same file, for writers that keep what they are given.
#[derive(Clone)]
pub struct DraftOut(Arc<Mutex<BufWriter<File>>>);

impl Draft {
    /// Parent folders are made.
    pub fn begin(path: &Path) -> Result<Self> {
        let temp = temporary_sibling(path)?;
        let file = File::create(&temp).map_err(|error| Kind::Environment.at(path).io(&error))?;
        let out = DraftOut(Arc::new(Mutex::new(BufWriter::new(file))));
        Ok(Draft { path: path.to_path_buf(), temp, out })
    }

    pub fn out(&self) -> DraftOut {
        self.out.clone()
    }

    /// Flush, fsync, rename, fsync of the folder.
    pub fn publish(self) -> Result<()> {
        let publish = || {
            let mut out = self.lock();
            out.flush()?;
            out.get_ref().sync_all()?;
            fs::rename(&self.temp, &self.path)?;
            sync_folder(&self.path)
        };
        publish().map_err(|error| Kind::Environment.at(&self.path).io(&error))
    }

    fn lock(&self) -> MutexGuard<'_, BufWriter<File>> {
        self.out.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Draft {
    /// What was published is no longer there under its temporary name.
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.temp);
    }
}

impl Write for DraftOut {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).flush()
    }
}

/// A folder for what is needed only while this process works. It is empty at first, nothing in it
/// is synced to the disk, and it vanishes with its owner.
pub struct Scratch(PathBuf);

impl Scratch {
    /// Takes the place of what a killed process left there.
    pub fn make(path: &Path) -> Result<Self> {
        remove_folder(path)?;
        create_folder(path)?;
        Ok(Scratch(path.to_path_buf()))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A new file in the folder.
    pub fn create(&self, name: &str) -> Result<BufWriter<File>> {
        let path = self.0.join(name);
        let file = File::create(&path).map_err(|error| Kind::Environment.at(&path).io(&error))?;
        Ok(BufWriter::new(file))
    }

    /// Removes a file that is no longer needed.
    pub fn remove(&self, name: &str) -> Result<()> {
        let path = self.0.join(name);
        fs::remove_file(&path).map_err(|error| Kind::Environment.at(&path).io(&error))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Where the scratch folder of what makes a file lies: `.NAME.scratch` beside it.
pub fn scratch_beside(path: &Path) -> Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| Kind::Usage.at(path).msg("is no name for a file"))?;
    Ok(path.with_file_name(format!(".{}.scratch", name.to_string_lossy())))
}

/// Like [`publish_file`] for a whole folder. An existing folder of that name is replaced.
pub fn publish_folder(path: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let temp = temporary_sibling(path)?;
    let at = |error: std::io::Error| Kind::Environment.at(path).io(&error);
    fs::create_dir(&temp).map_err(at)?;
    let outcome = write(&temp).and_then(|()| {
        sync_tree(&temp).map_err(at)?;
        if path.exists() {
            let old = temporary_sibling(path)?;
            fs::rename(path, &old).map_err(at)?;
            fs::rename(&temp, path).map_err(at)?;
            fs::remove_dir_all(&old).map_err(at)?;
        } else {
            fs::rename(&temp, path).map_err(at)?;
        }
        sync_folder(path).map_err(at)
    });
    if outcome.is_err() {
        let _ = fs::remove_dir_all(&temp);
    }
    outcome
}

/// A whole file published from bytes in memory.
pub fn publish_bytes(path: &Path, bytes: &[u8]) -> Result<()> {
    publish_file(path, |out| out.write_all(bytes))
}

/// Opens a log for appending; logs are the one kind of file that grows under its final name.
pub fn open_append(path: &Path) -> Result<File> {
    let open = || {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        OpenOptions::new().create(true).append(true).open(path)
    };
    open().map_err(|error| Kind::Environment.at(path).io(&error))
}

/// Opens a log that several processes read and append to, each under [`File::lock`].
pub fn open_shared_log(path: &Path) -> Result<File> {
    let open = || {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        OpenOptions::new().create(true).read(true).append(true).open(path)
    };
    open().map_err(|error| Kind::Environment.at(path).io(&error))
}

/// A file that says by its lock that its owner lives. The system lets go of it however the owner
/// ends, `kill -9` included.
pub struct Held(#[expect(dead_code, reason = "held, not read")] File);

/// Takes the lock of a file, which is made where it is missing; None if a living process (or
/// another owner in this one) has it.
pub fn hold(path: &Path) -> Result<Option<Held>> {
    let file = open_shared_log(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(Held(file))),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(Kind::Environment.at(path).io(&error)),
    }
}

pub fn create_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|error| Kind::Environment.at(path).io(&error))
}

/// Removes a folder that is there; a missing one is no error.
pub fn remove_folder(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Kind::Environment.at(path).io(&error))
        }
        _ => Ok(()),
    }
}

/// Reads a whole file of at most `bytes_max` bytes.
pub fn read_limited(path: &Path, bytes_max: u64) -> Result<Vec<u8>> {
    let at = |error: std::io::Error| Kind::Data.at(path).io(&error);
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(at)?;
    file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(at)?;
    if bytes.len() as u64 > bytes_max {
        return Err(Kind::Data.at(path).msg(format!("larger than {bytes_max} bytes")));
    }
    Ok(bytes)
}

pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Sha256 and size of a file, read in pieces.
pub fn sha256_file(path: &Path) -> Result<(String, u64)> {
    let at = |error: std::io::Error| Kind::Data.at(path).io(&error);
    let mut file = File::open(path).map_err(at)?;
    let (mut hash, mut size) = (Sha256::new(), 0);
    let mut buffer = vec![0u8; 1 << 16];
    loop {
        let n = file.read(&mut buffer).map_err(at)?;
        if n == 0 {
            return Ok((hex(&hash.finalize()), size));
        }
        hash.update(&buffer[..n]);
        size += n as u64;
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// `.NAME.tmp-PID-COUNT` beside `path`, so that the rename stays on one file system.
fn temporary_sibling(path: &Path) -> Result<PathBuf> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let name = path
        .file_name()
        .ok_or_else(|| Kind::Usage.at(path).msg("is no name for a file"))?
        .to_string_lossy();
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    create_folder(parent)?;
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    Ok(parent.join(format!(".{name}.tmp-{}-{count}", std::process::id())))
}

fn sync_folder(of: &Path) -> std::io::Result<()> {
    let parent = of.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Windows cannot open a folder as a file; its rename is durable without.
    if cfg!(unix) { File::open(parent)?.sync_all() } else { Ok(()) }
}

fn sync_tree(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_tree(&entry.path())?;
        } else {
            File::open(entry.path())?.sync_all()?;
        }
    }
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_nothing() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("a.txt");
        let failed = publish_file(&path, |_| Err(std::io::Error::other("disk on fire")));
        assert!(failed.is_err());
        assert_eq!(fs::read_dir(dir.path()).expect("a listing").count(), 0);

        let failed = publish_folder(&dir.path().join("b"), |temp| {
            publish_bytes(&temp.join("half"), b"x")?;
            Err(Kind::Internal.msg("stopped in the middle"))
        });
        assert!(failed.is_err());
        assert_eq!(fs::read_dir(dir.path()).expect("a listing").count(), 0);
    }

    #[test]
    fn a_lock_is_held_once_and_ends_with_its_owner() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("workers/1.lock");
        let first = hold(&path).expect("a file");
        assert!(first.is_some());
        assert!(hold(&path).expect("a file").is_none());
        drop(first);
        assert!(hold(&path).expect("a file").is_some());
    }

    #[test]
    fn a_folder_is_replaced_as_a_whole() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("bundle");
        for name in ["one", "two"] {
            publish_folder(&path, |temp| publish_bytes(&temp.join(name), b"x")).expect("written");
        }
        assert!(path.join("two").exists() && !path.join("one").exists());
        assert_eq!(fs::read_dir(dir.path()).expect("a listing").count(), 1);
    }
}
