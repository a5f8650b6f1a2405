//! Memory that starts on a cache line, so that no vector load straddles two.

use std::ops::{Deref, DerefMut};

/// Bytes of a cache line, and of the widest vector.
const LINE_BYTES: usize = 64;

/// Numbers in a line; padded widths are multiples of it, so that every vector unit divides them.
pub const LINE: usize = LINE_BYTES / size_of::<f32>();

/// Zeros, aligned.
#[derive(Debug, Clone, Default)]
pub struct Buffer {
    numbers: Vec<f32>,
    from: usize,
    len: usize,
}

impl Buffer {
    pub fn zeros(len: usize) -> Self {
        let numbers = vec![0.0; len + LINE];
        let from = numbers.as_ptr().align_offset(LINE_BYTES).min(LINE);
        Buffer { numbers, from, len }
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.numbers[self.from..self.from + self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.numbers[self.from..self.from + self.len]
    }
}

/// The next multiple of [`LINE`].
pub fn padded(width: usize) -> usize {
    width.next_multiple_of(LINE)
}
