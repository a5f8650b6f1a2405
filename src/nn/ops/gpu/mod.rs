//! Kernels for GPUs, written in CubeCL, which makes WGSL of them for whatever wgpu finds.
//!
//! Why not burn's products: they are tuned, once per shape and process, by compiling and timing
//! some ten kernels each; a first step took longer than the whole training then does (measured,
//! docs/benchmarks.md). Ours are one kernel a kind, with bias, relu, its mask and the bias'
//! gradient inside.
//!
//! Numbers are f32. Limits are those that WebGPU guarantees: 256 threads and 16 KiB a workgroup,
//! 65,535 workgroups along an axis. Nothing assumes how many threads run in step.

use burn::prelude::Shape;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

pub mod product;
pub mod recurrence;
pub mod row_products;

/// Four numbers, which a GPU moves at once.
type Quad = Vector<f32, Const<4>>;

/// A workgroup of a product makes a tile of 64 x 64, each of its 16 x 16 threads 4 x 4 of it.
const SIDE: usize = 64;
const THREADS: usize = 16;
/// Steps of a product for which a workgroup holds both factors: 8 KiB.
const DEPTH: usize = 16;

/// A contiguous tensor whose numbers are still to be written.
pub fn empty<const D: usize>(like: &CubeTensor, shape: [usize; D]) -> CubeTensor {
    let (client, device) = (like.client.clone(), like.device.clone());
    empty_device_contiguous_dtype(client, device, Shape::new(shape), like.dtype)
}
