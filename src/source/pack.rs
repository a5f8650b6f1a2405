//! Vectors to bytes and back, for scratch files: little-endian, lengths first, nothing else.

use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};

use super::texts::Texts;
use crate::error::{Error, Kind, Result};

/// Bytes that are turned at a time.
const CHUNK_BYTES: usize = 1 << 16;

/// A number of fixed size.
pub trait Plain: Copy {
    const BYTES: usize;
    fn put(self, out: &mut Vec<u8>);
    /// Of exactly `BYTES` bytes.
    fn get(bytes: &[u8]) -> Self;
}

macro_rules! plain {
    ($($kind:ty),*) => {$(
        impl Plain for $kind {
            const BYTES: usize = size_of::<$kind>();
            fn put(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            fn get(bytes: &[u8]) -> Self {
                <$kind>::from_le_bytes(bytes.try_into().expect("cut to this size"))
            }
        }
    )*};
}

plain!(u8, i8, u16, u32, i32, u64, f32, f64);

/// Writes vectors.
pub struct Packer<W> {
    out: W,
    path: PathBuf,
    bytes: Vec<u8>,
}

impl<W: Write> Packer<W> {
    /// `path` is for messages.
    pub fn new(out: W, path: &Path) -> Self {
        Packer { out, path: path.to_path_buf(), bytes: Vec::with_capacity(CHUNK_BYTES) }
    }

    pub fn number<T: Plain>(&mut self, value: T) -> Result<()> {
        self.bytes.clear();
        value.put(&mut self.bytes);
        self.emit()
    }

    pub fn numbers<T: Plain>(&mut self, values: &[T]) -> Result<()> {
        self.number(values.len() as u64)?;
        for chunk in values.chunks(CHUNK_BYTES / T::BYTES) {
            self.bytes.clear();
            chunk.iter().for_each(|value| value.put(&mut self.bytes));
            self.emit()?;
        }
        Ok(())
    }

    pub fn texts(&mut self, texts: &Texts) -> Result<()> {
        self.numbers(&texts.iter().map(|text| text.len() as u32).collect::<Vec<_>>())?;
        let bytes = texts.joined().as_bytes();
        self.out.write_all(bytes).map_err(|e| Kind::Environment.at(&self.path).io(&e))
    }

    pub fn finish(mut self) -> Result<()> {
        self.out.flush().map_err(|error| Kind::Environment.at(&self.path).io(&error))
    }

    fn emit(&mut self) -> Result<()> {
        self.out.write_all(&self.bytes).map_err(|e| Kind::Environment.at(&self.path).io(&e))
    }
}

/// Reads what a [`Packer`] wrote, in the same order. No length is believed that the rest of the
/// file cannot hold.
pub struct Unpacker {
    input: BufReader<std::fs::File>,
    path: PathBuf,
    left: u64,
}

impl Unpacker {
    pub fn open(path: &Path) -> Result<Self> {
        let at = |error: std::io::Error| Kind::Environment.at(path).io(&error);
        let file = std::fs::File::open(path).map_err(at)?;
        let left = file.metadata().map_err(at)?.len();
        let input = BufReader::with_capacity(CHUNK_BYTES, file);
        Ok(Unpacker { input, path: path.to_path_buf(), left })
    }

    pub fn is_at_end(&self) -> bool {
        self.left == 0
    }

    pub fn number<T: Plain>(&mut self) -> Result<T> {
        let mut bytes = [0u8; 8];
        self.read(&mut bytes[..T::BYTES])?;
        Ok(T::get(&bytes[..T::BYTES]))
    }

    pub fn numbers<T: Plain>(&mut self) -> Result<Vec<T>> {
        let mut left = self.length(T::BYTES)?;
        let mut values = Vec::with_capacity(left);
        let mut bytes = vec![0u8; CHUNK_BYTES.min(left * T::BYTES)];
        while left > 0 {
            let count = left.min(CHUNK_BYTES / T::BYTES);
            let bytes = &mut bytes[..count * T::BYTES];
            self.read(bytes)?;
            values.extend(bytes.chunks_exact(T::BYTES).map(T::get));
            left -= count;
        }
        Ok(values)
    }

    pub fn texts(&mut self) -> Result<Texts> {
        let lengths: Vec<u32> = self.numbers()?;
        let bytes: u64 = lengths.iter().map(|&length| u64::from(length)).sum();
        if bytes > self.left {
            return Err(self.corrupt());
        }
        let mut joined = vec![0u8; bytes as usize];
        self.read(&mut joined)?;
        let joined = String::from_utf8(joined).map_err(|_| self.corrupt())?;
        Texts::cut(joined, &lengths).ok_or_else(|| self.corrupt())
    }

    fn length(&mut self, bytes_each: usize) -> Result<usize> {
        let length: u64 = self.number()?;
        match length.checked_mul(bytes_each as u64) {
            Some(bytes) if bytes <= self.left => Ok(length as usize),
            _ => Err(self.corrupt()),
        }
    }

    fn read(&mut self, bytes: &mut [u8]) -> Result<()> {
        if bytes.len() as u64 > self.left {
            return Err(self.corrupt());
        }
        self.left -= bytes.len() as u64;
        self.input.read_exact(bytes).map_err(|e| Kind::Environment.at(&self.path).io(&e))
    }

    /// For a reader that finds what it has read impossible.
    pub fn corrupt(&self) -> Error {
        Kind::Corrupt.at(&self.path).msg("a scratch file is not as it was written")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_packed_comes_back() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("a");
        let numbers: Vec<f32> = (0..40_000).map(|i| i as f32 / 7.0).collect();
        let texts = Texts::from_iter(["é", "", "no"]);
        let mut out = Packer::new(Vec::new(), &path);
        out.numbers(&numbers).expect("written");
        out.number(-3i32).expect("written");
        out.texts(&texts).expect("written");
        std::fs::write(&path, &out.out).expect("written");
        let mut input = Unpacker::open(&path).expect("there");
        assert_eq!(input.numbers::<f32>().expect("numbers"), numbers);
        assert_eq!(input.number::<i32>().expect("a number"), -3);
        assert_eq!(input.texts().expect("texts"), texts);
        assert!(input.is_at_end());

        // A file that was cut off says so, and no length in it is believed.
        std::fs::write(&path, &out.out[..1000]).expect("written");
        let error = Unpacker::open(&path).and_then(|mut input| input.numbers::<f32>());
        assert_eq!(error.expect_err("cut off").kind, Kind::Corrupt);
    }
}
