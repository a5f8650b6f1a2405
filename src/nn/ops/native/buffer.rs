//! Memory that starts on a cache line, so that no vector load straddles two.

use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

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

/// A buffer that goes back to a pool when it is dropped. What a training step saves is of the same
/// size in the next step; taken from the system each time, it would be filled with zeros page by
/// page, which costs as much as the products.
#[derive(Debug, Default)]
pub struct Pooled(Buffer);

/// Buffers kept for later: two layers of a few lengths of sequences, and packed weights of as many
/// dense layers.
const POOL_MAX: usize = 16;

static POOL: Mutex<Vec<Buffer>> = Mutex::new(Vec::new());

impl Pooled {
    /// With any content: whoever takes it writes all that is read. In tests it is full of NaN, so
    /// that what was not written shows.
    pub fn dirty(len: usize) -> Self {
        let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = pool.iter().position(|buffer| buffer.len == len).map(|at| pool.remove(at));
        drop(pool);
        let mut buffer = kept.unwrap_or_else(|| Buffer::zeros(len));
        if cfg!(test) {
            buffer.fill(f32::NAN);
        }
        Pooled(buffer)
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.len() == POOL_MAX {
            pool.remove(0);
        }
        pool.push(std::mem::take(&mut self.0));
    }
}

impl Deref for Pooled {
    type Target = Buffer;

    fn deref(&self) -> &Buffer {
        &self.0
    }
}

impl DerefMut for Pooled {
    fn deref_mut(&mut self) -> &mut Buffer {
        &mut self.0
    }
}

/// Numbers that the threads of the pool make, `block` at a time, from zeros: `make` is given the
/// block's number, its numbers and its item of `with`. Cleared by the thread that fills it, memory
/// is in that thread's cache by then.
pub fn in_blocks<I>(
    len: usize,
    block: usize,
    with: I,
    make: impl Fn(usize, &mut [f32], I::Item) + Sync,
) -> Vec<f32>
where
    I: IntoParallelIterator,
    I::Iter: IndexedParallelIterator,
{
    let with = with.into_par_iter();
    assert_eq!(with.len(), len.div_ceil(block), "one item for each block");
    let mut numbers: Vec<f32> = Vec::with_capacity(len);
    numbers.spare_capacity_mut()[..len]
        .par_chunks_mut(block)
        .zip(with)
        .enumerate()
        .for_each(|(at, (numbers, with))| make(at, cleared(numbers), with));
    #[expect(unsafe_code, reason = "the only way to skip a serial pass of zeros")]
    // SAFETY: `par_chunks_mut` hands out all `len` numbers, and `cleared` has written each; were
    // `with` shorter, the assertion would stop us.
    unsafe {
        numbers.set_len(len);
    }
    numbers
}

fn cleared(numbers: &mut [MaybeUninit<f32>]) -> &mut [f32] {
    numbers.fill(MaybeUninit::new(0.0));
    #[expect(unsafe_code, reason = "see in_blocks")]
    // SAFETY: every number was written one line above, and a MaybeUninit<f32> lies like an f32.
    unsafe {
        &mut *(std::ptr::from_mut(numbers) as *mut [f32])
    }
}
