//! Operations of our own, each one node of the autodiff graph.

/// Lets the backends without kernels of ours run an operation, and its backward pass, by the
/// default bodies in tensor primitives.
macro_rules! by_primitives {
    ($ops:ident $(, $kernel:ident)?) => {
        #[cfg(feature = "gpu")]
        impl $ops for burn_wgpu::CubeBackend {}

        #[cfg(feature = "ndarray")]
        #[expect(deprecated, reason = "kept selectable on purpose, see ARCHITECTURE.md")]
        impl $ops for burn_ndarray::NdArray {}

        $(
            #[cfg(feature = "gpu")]
            impl $kernel for burn_wgpu::CubeBackend {}

            #[cfg(feature = "gpu")]
            impl $kernel for burn::backend::fusion::Fusion<burn_wgpu::CubeBackend> {}

            #[cfg(feature = "ndarray")]
            #[expect(deprecated, reason = "kept selectable on purpose, see ARCHITECTURE.md")]
            impl $kernel for burn_ndarray::NdArray {}
        )?
    };
}

use burn::backend::Backend;
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::tensor::FloatTensor;

pub mod adamw;
#[cfg(feature = "gpu")]
mod gpu;
pub mod gru;
pub mod history;
pub mod join;
pub mod linear;
pub mod loss;
pub mod members;
pub(super) mod native;
pub mod norm;
pub mod pieces;

/// The kernels themselves, for `churn bench`.
pub mod kernels {
    pub use super::native::bare;
    pub use super::native::linear::{Activation, Shape, Upstream, backward, forward};
}

/// Hands the gradients that a node found to those of its parents that want one.
fn register<B: Backend, const N: usize>(
    grads: &mut Gradients,
    parents: [Option<NodeId>; N],
    found: [Option<FloatTensor<B>>; N],
) {
    for (parent, gradient) in parents.into_iter().zip(found) {
        if let (Some(parent), Some(gradient)) = (parent, gradient) {
            grads.register::<B>(parent, gradient);
        }
    }
}

/// Runs a training step on a thread of the pool that the CPU kernels use. From any other thread,
/// each of the step's kernels would hand its work over and sleep until it is done, which takes
/// longer than a small kernel does.
pub fn on_worker<R: Send>(step: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| step())
}
