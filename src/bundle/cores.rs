//! Chunks of work on all cores, each computed by one thread alone: kernels that share a small piece
//! of work among threads wait for each other longer than they compute.

use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::{Kind, Result};

/// Pools of one thread. What asks rayon for threads inside of one gets that thread only.
pub struct Cores(Vec<ThreadPool>);

impl Cores {
    /// As many as the process's pool has threads.
    pub fn new() -> Result<Self> {
        let pool = |_| ThreadPoolBuilder::new().num_threads(1).build();
        let pools = (0..rayon::current_num_threads()).map(pool).collect::<Result<Vec<_>, _>>();
        pools.map(Cores).map_err(|error| Kind::Environment.msg(error.to_string()))
    }

    /// What `work` makes of each of `count` chunks, in their order.
    pub fn map<R: Send>(&self, count: usize, work: impl Fn(usize) -> R + Sync) -> Vec<R> {
        let next = AtomicUsize::new(0);
        let taken = || std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
        let share = &|| -> Vec<(usize, R)> {
            taken().take_while(|&at| at < count).map(|at| (at, work(at))).collect()
        };
        let mut done: Vec<(usize, R)> = std::thread::scope(|scope| {
            let of_core = |pool| scope.spawn(move || ThreadPool::install(pool, share));
            let running: Vec<_> = self.0.iter().map(of_core).collect();
            let joined = running.into_iter().map(|thread| match thread.join() {
                Ok(share) => share,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            joined.flatten().collect()
        });
        done.sort_by_key(|(at, _)| *at);
        done.into_iter().map(|(_, made)| made).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_come_back_in_their_order() {
        let cores = Cores::new().expect("threads");
        let made = cores.map(100, |at| (at, rayon::current_num_threads()));
        assert_eq!(made, (0..100).map(|at| (at, 1)).collect::<Vec<_>>());
        assert!(cores.map(0, |at| at).is_empty());
    }
}
