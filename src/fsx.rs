//! The only writer of files: what appears under its final name is whole and on the disk.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};

use crate::error::{Kind, Result};

/// Writes a file through a temporary sibling: temp, fsync, rename, fsync of the folder.
/// Parent folders are made. On error nothing is left under either name.
pub fn publish_file(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>,
) -> Result<()> {
    let temp = temporary_sibling(path)?;
    let outcome = (|| {
        let mut out = BufWriter::new(File::create(&temp)?);
        write(&mut out)?;
        out.into_inner().map_err(|e| e.into_error())?.sync_all()?;
        fs::rename(&temp, path)?;
        sync_folder(path)
    })();
    outcome.map_err(|error| {
        let _ = fs::remove_file(&temp);
        Kind::Environment.at(path).io(&error)
    })
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
