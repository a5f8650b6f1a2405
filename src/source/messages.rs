//! The messages of an Arrow stream, each read whole and checked before it is handed on: the reader
//! behind allocates what a message claims, and here no claim is larger than what is there.

use std::io::{Error, ErrorKind, Read, Result, Seek, SeekFrom};

use polars_arrow::io::ipc::format::ipc::planus::ReadAsRoot;
use polars_arrow::io::ipc::format::ipc::{FieldRef, MessageHeaderRef, MessageRef, RecordBatchRef};

use super::bounds::{INFLATED_BYTES_MAX, INFLATION_MAX};

/// Largest description of a schema or batch: tens of thousands of columns.
const META_BYTES_MAX: usize = 16 << 20;

/// Largest body of a batch, also when it is decompressed; with what is made of it, about half a
/// gigabyte.
const BODY_BYTES_MAX: usize = 128 << 20;

/// Most rows of a batch.
const ROWS_MAX: i64 = 1 << 21;

/// Most values of a list column, nulls included.
const VALUES_MAX: i64 = 1 << 24;

/// Deepest nesting of a column; a list of numbers has two levels.
const DEPTH_MAX: usize = 8;

/// What stands before a message.
const CONTINUATION: [u8; 4] = [0xff; 4];

/// A reader of checked messages. It can step forward, as the reader of batches does over padding.
pub struct Messages<R> {
    input: R,
    message: Vec<u8>,
    /// Bytes of the message that were read.
    at: usize,
}

impl<R: Read> Messages<R> {
    pub fn new(input: R) -> Self {
        Messages { input, message: Vec::new(), at: 0 }
    }

    /// Reads a batch of a file, whose size bounds all but what is compressed.
    pub fn check_inflation(mut self) -> Result<()> {
        let (meta_at, body_at) = self.whole(usize::MAX)?.ok_or_else(|| wrong(LIES))?;
        let (meta, body) = self.message[meta_at..].split_at(body_at - meta_at);
        let message = MessageRef::read_as_root(meta).map_err(lies)?;
        let inflated = match message.header().map_err(lies)? {
            Some(MessageHeaderRef::RecordBatch(batch)) => inflated_bytes(&batch, body)?,
            Some(MessageHeaderRef::DictionaryBatch(dictionary)) => {
                let batch = dictionary.data().map_err(lies)?.ok_or_else(|| wrong(LIES))?;
                inflated_bytes(&batch, body)?
            }
            _ => return Err(wrong("a message is no batch")),
        } as u64;
        if inflated > INFLATED_BYTES_MAX && inflated / INFLATION_MAX > body.len() as u64 {
            return Err(wrong("a batch is more than a hundred times as large once decompressed"));
        }
        Ok(())
    }

    /// Takes the place of the last message; leaves none at the end of the input.
    fn fetch(&mut self) -> Result<()> {
        let Some((meta_at, body_at)) = self.whole(BODY_BYTES_MAX)? else { return Ok(()) };
        let (meta, body) = self.message[meta_at..].split_at(body_at - meta_at);
        check(meta, body)
    }

    /// Reads a message: where its description begins, and its body; None at the end.
    fn whole(&mut self, body_bytes_max: usize) -> Result<Option<(usize, usize)>> {
        self.message.clear();
        self.at = 0;
        let mut length = [0; 4];
        match self.take(4)? {
            0 => return Ok(None),
            4 => length.copy_from_slice(&self.message),
            _ => return Err(cut_off()),
        }
        if length == CONTINUATION {
            self.need(4)?;
            length.copy_from_slice(&self.message[4..]);
        }
        let meta_bytes = match usize::try_from(i32::from_le_bytes(length)) {
            Ok(0) => return Ok(None), // The mark of the end, which goes on as it is.
            Ok(bytes) if bytes <= META_BYTES_MAX => bytes,
            _ => return Err(wrong("it is no Arrow stream, or a message of it is too long")),
        };
        let meta_at = self.message.len();
        self.need(meta_bytes)?;
        let body_at = self.message.len();
        let body_bytes = body_bytes(&self.message[meta_at..])?;
        if body_bytes > body_bytes_max {
            return Err(wrong("a batch is larger than 128 MiB"));
        }
        self.need(body_bytes)?;
        Ok(Some((meta_at, body_at)))
    }

    /// Appends up to so many bytes of the input, in pieces, so that a length that is a lie costs
    /// nothing.
    fn take(&mut self, bytes: usize) -> Result<usize> {
        (&mut self.input).take(bytes as u64).read_to_end(&mut self.message)
    }

    fn need(&mut self, bytes: usize) -> Result<()> {
        if self.take(bytes)? == bytes { Ok(()) } else { Err(cut_off()) }
    }
}

impl<R: Read> Read for Messages<R> {
    fn read(&mut self, out: &mut [u8]) -> Result<usize> {
        if self.at == self.message.len() {
            self.fetch()?;
        }
        let mut rest = &self.message[self.at..];
        let read = rest.read(out)?;
        self.at += read;
        Ok(read)
    }
}

impl<R: Read> Seek for Messages<R> {
    fn seek(&mut self, to: SeekFrom) -> Result<u64> {
        let SeekFrom::Current(step) = to else { return Err(wrong("a stream has no ends")) };
        let at = (self.at as i64).checked_add(step).and_then(|at| usize::try_from(at).ok());
        self.at = at.filter(|&at| at <= self.message.len()).ok_or_else(|| wrong(LIES))?;
        Ok(self.at as u64)
    }
}

const LIES: &str = "a message does not hold what it says";

fn wrong(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, what)
}

fn cut_off() -> Error {
    wrong("it ends in the middle of a message")
}

fn lies<E>(_: E) -> Error {
    wrong(LIES)
}

fn body_bytes(meta: &[u8]) -> Result<usize> {
    let bytes = MessageRef::read_as_root(meta).and_then(|message| message.body_length());
    usize::try_from(bytes.map_err(lies)?).map_err(lies)
}

fn check(meta: &[u8], body: &[u8]) -> Result<()> {
    let message = MessageRef::read_as_root(meta).map_err(lies)?;
    match message.header().map_err(lies)? {
        Some(MessageHeaderRef::Schema(schema)) => {
            let fields = schema.fields().map_err(lies)?.ok_or_else(|| wrong(LIES))?;
            fields.iter().try_for_each(|field| check_field(&field.map_err(lies)?, 1))
        }
        Some(MessageHeaderRef::RecordBatch(batch)) => check_batch(&batch, body),
        Some(MessageHeaderRef::DictionaryBatch(dictionary)) => {
            let batch = dictionary.data().map_err(lies)?.ok_or_else(|| wrong(LIES))?;
            check_batch(&batch, body)
        }
        _ => Err(wrong("a message is neither a schema nor a batch")),
    }
}

fn check_field(field: &FieldRef, depth: usize) -> Result<()> {
    if depth > DEPTH_MAX {
        return Err(wrong("a column is nested too deep"));
    }
    let children = field.children().map_err(lies)?;
    let mut children = children.iter().flat_map(|children| children.iter());
    children.try_for_each(|child| check_field(&child.map_err(lies)?, depth + 1))
}

/// Lengths of rows, values and buffers, compressed or not.
fn check_batch(batch: &RecordBatchRef, body: &[u8]) -> Result<()> {
    let nodes = batch.nodes().map_err(lies)?.ok_or_else(|| wrong(LIES))?;
    let values_fit = nodes.iter().all(|node| (0..=VALUES_MAX).contains(&node.length()));
    if !values_fit || !(0..=ROWS_MAX).contains(&batch.length().map_err(lies)?) {
        return Err(wrong("a batch has more than 2^21 rows, or a list column of 2^24 values"));
    }
    if inflated_bytes(batch, body)? > BODY_BYTES_MAX {
        return Err(wrong("a batch is larger than 128 MiB once it is decompressed"));
    }
    Ok(())
}

/// What the compressed buffers of a batch claim to be; all buffers lie in the body.
fn inflated_bytes(batch: &RecordBatchRef, body: &[u8]) -> Result<usize> {
    let nodes = batch.nodes().map_err(lies)?.ok_or_else(|| wrong(LIES))?;
    if batch.length().map_err(lies)? < 0 || nodes.iter().any(|node| node.length() < 0) {
        return Err(wrong(LIES));
    }
    let compressed = batch.compression().map_err(lies)?.is_some();
    let mut decompressed = 0usize;
    for buffer in batch.buffers().map_err(lies)?.ok_or_else(|| wrong(LIES))?.iter() {
        let from = usize::try_from(buffer.offset()).map_err(lies)?;
        let to = usize::try_from(buffer.length()).map_err(lies)?.checked_add(from);
        let bytes = to.and_then(|to| body.get(from..to)).ok_or_else(|| wrong(LIES))?;
        if compressed && !bytes.is_empty() {
            let length = bytes.first_chunk().ok_or_else(|| wrong(LIES))?;
            // -1 says that the buffer is not compressed after all.
            let length = i64::from_le_bytes(*length).max(0);
            decompressed = decompressed.saturating_add(usize::try_from(length).map_err(lies)?);
        }
    }
    Ok(decompressed)
}
