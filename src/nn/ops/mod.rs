//! Operations of our own, each one node of the autodiff graph.

pub mod adamw;
pub mod gru;
pub mod join;
pub mod linear;
pub mod loss;
mod native;

/// Runs a training step on a thread of the pool that the CPU kernels use. From any other thread,
/// each of the step's kernels would hand its work over and sleep until it is done, which takes
/// longer than a small kernel does.
pub fn on_worker<R: Send>(step: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| step())
}
