//! Randomness as a function: every draw is decided by (master seed, stream name, index), so that
//! a resumed or replayed run draws exactly what the first one drew.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

/// The source of all random streams of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seeds {
    master: u64,
}

impl Seeds {
    pub fn new(master: u64) -> Self {
        Self { master }
    }

    /// An independent generator for draw `index` of the stream `name`.
    pub fn stream(&self, name: &str, index: u64) -> ChaCha8Rng {
        let mut hash = Sha256::new();
        hash.update(self.master.to_le_bytes());
        hash.update(name.as_bytes());
        hash.update([0]);
        hash.update(index.to_le_bytes());
        ChaCha8Rng::from_seed(hash.finalize().into())
    }

    /// One number, for libraries that want a seed.
    pub fn number(&self, name: &str, index: u64) -> u64 {
        self.stream(name, index).next_u64()
    }

    /// Seeds of a sub-task, e.g. one model of a run.
    pub fn child(&self, name: &str, index: u64) -> Seeds {
        Seeds { master: self.number(name, index) }
    }

    /// At most `most` of `0..n`, drawn at random, rising; all of them where there are no more.
    pub fn drawn(&self, name: &str, most: usize, n: usize) -> Vec<u32> {
        let mut drawn = self.shuffled(name, 0, n);
        drawn.truncate(most);
        drawn.sort_unstable();
        drawn
    }

    /// `0..n` in random order (Fisher-Yates).
    pub fn shuffled(&self, name: &str, index: u64, n: usize) -> Vec<u32> {
        let mut rng = self.stream(name, index);
        let mut order: Vec<u32> = (0..n as u32).collect();
        for i in (1..n).rev() {
            let j = (rng.next_u64() % (i as u64 + 1)) as usize;
            order.swap(i, j);
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_decided_by_its_three_names() {
        let draw = |master, name, index| Seeds::new(master).number(name, index);
        let all = [draw(1, "a", 0), draw(2, "a", 0), draw(1, "b", 0), draw(1, "a", 1)];
        for (i, x) in all.iter().enumerate() {
            assert!(all[i + 1..].iter().all(|y| y != x), "streams {all:?} are not distinct");
        }
        assert_eq!(draw(1, "a", 0), draw(1, "a", 0));
    }

    #[test]
    fn shuffled_is_a_permutation() {
        let mut order = Seeds::new(3).shuffled("order", 0, 1000);
        assert_ne!(order[..10], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        order.sort_unstable();
        assert!(order.iter().enumerate().all(|(i, &x)| i as u32 == x));
    }
}
