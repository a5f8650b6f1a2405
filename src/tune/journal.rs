//! `journal.jsonl`: all that happened in a study, one record a line, appended by many processes.
//!
//! Whoever reads or writes holds the lock of the file. A record is one write and on the disk before
//! the lock is let go, so that a killed process leaves whole lines and at most one torn one behind
//! them; the next writer closes that line, and nobody takes it for a record. The system lets go of
//! the lock of a process however it ends.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::study::{Record, Study};
use crate::error::{Error, Kind, Result};
use crate::fsx;

/// A record is some hundred bytes, a hundred thousand trials some hundred megabytes.
const BYTES_MAX: u64 = 1 << 30;

/// An open journal, and the study as its lines tell it.
pub struct Journal {
    path: PathBuf,
    file: File,
    /// Bytes and lines that are in the study already.
    read: u64,
    lines: u64,
    study: Study,
}

impl Journal {
    pub const NAME: &str = "journal.jsonl";

    /// The journal of a study's folder, which is made where it is missing.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(Self::NAME);
        let file = fsx::open_shared_log(&path)?;
        Ok(Journal { path, file, read: 0, lines: 0, study: Study::default() })
    }

    /// As of the last turn.
    pub fn study(&self) -> &Study {
        &self.study
    }

    /// One look at the study, and one answer to it, while nobody else can do the same: reads what
    /// others have written, asks `decide`, and appends the records that it returns.
    pub fn turn<T>(
        &mut self,
        decide: impl FnOnce(&Study) -> Result<(Vec<Record>, T)>,
    ) -> Result<T> {
        self.file.lock().map_err(|error| {
            let error = Kind::Environment.at(&self.path).msg(format!("cannot be locked: {error}"));
            error.hint("put the study on a file system with locks")
        })?;
        let outcome = self.locked_turn(decide);
        self.file.unlock().map_err(|error| self.failed(&error))?;
        outcome
    }

    fn locked_turn<T>(
        &mut self,
        decide: impl FnOnce(&Study) -> Result<(Vec<Record>, T)>,
    ) -> Result<T> {
        self.close_torn_line().map_err(|error| self.failed(&error))?;
        self.catch_up()?;
        let (records, answer) = decide(&self.study)?;
        self.append(&records)?;
        self.catch_up()?;
        Ok(answer)
    }

    fn close_torn_line(&mut self) -> std::io::Result<()> {
        let length = self.file.seek(SeekFrom::End(0))?;
        if length == 0 {
            return Ok(());
        }
        let mut last = [0];
        self.file.seek(SeekFrom::Start(length - 1))?;
        self.file.read_exact(&mut last)?;
        if last == *b"\n" { Ok(()) } else { self.file.write_all(b"\n") }
    }

    fn catch_up(&mut self) -> Result<()> {
        self.file.seek(SeekFrom::Start(self.read)).map_err(|error| self.failed(&error))?;
        let mut rest = BufReader::new((&self.file).take(BYTES_MAX));
        let mut line = Vec::new();
        loop {
            line.clear();
            let bytes = rest.read_until(b'\n', &mut line).map_err(|error| self.failed(&error))?;
            if bytes == 0 {
                break;
            }
            self.read += bytes as u64;
            self.lines += 1;
            if let Some(record) = parse(&line, (&self.path, self.lines))? {
                let place = |error: Error| Error {
                    path: Some(self.path.clone()),
                    line: Some(self.lines),
                    ..error
                };
                self.study.apply(record).map_err(place)?;
            }
        }
        if self.read >= BYTES_MAX {
            return Err(Kind::Data.at(&self.path).msg(format!("is larger than {BYTES_MAX} bytes")));
        }
        Ok(())
    }

    fn append(&mut self, records: &[Record]) -> Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let mut text = Vec::new();
        for record in records {
            serde_json::to_writer(&mut text, record)
                .map_err(|error| Kind::Internal.at(&self.path).msg(error.to_string()))?;
            text.push(b'\n');
        }
        let write = self.file.write_all(&text).and_then(|()| self.file.sync_data());
        write.map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &std::io::Error) -> Error {
        Kind::Environment.at(&self.path).io(error)
    }
}

/// None for a line that was cut off when its writer was killed: the beginning of an object is no
/// JSON.
fn parse(line: &[u8], (path, number): (&Path, u64)) -> Result<Option<Record>> {
    let line = line.trim_ascii();
    let Ok(json) = serde_json::from_slice::<serde_json::Value>(line) else {
        if !line.is_empty() {
            tracing::warn!("{}:{number}: skipping a line that was cut off", path.display());
        }
        return Ok(None);
    };
    serde_json::from_value(json).map(Some).map_err(|error| {
        let error = Kind::Corrupt.at(path).line(number).msg(format!("is no record: {error}"));
        error.hint("go on with the version that began the study, or choose another folder")
    })
}

#[cfg(test)]
mod tests;
