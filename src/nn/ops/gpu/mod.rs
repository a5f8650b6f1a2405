//! Kernels for GPUs, written in CubeCL, which makes WGSL of them for whatever wgpu finds.
//!
//! Why not burn's products: they are tuned, once per shape and process, by compiling and timing
//! some ten kernels each; a first step took longer than the whole training then does (measured,
//! docs/benchmarks.md). Ours are one kernel a kind, with bias, relu, its mask and the bias'
//! gradient inside.
//!
//! Numbers are f32. Limits are those that WebGPU guarantees: 256 threads and 16 KiB a workgroup,
//! 65,535 workgroups along an axis. Nothing assumes how many threads run in step.

#![expect(
    clippy::needless_range_loop,
    clippy::manual_is_multiple_of,
    reason = "the language of kernels has no iterators over buffers, and no such method"
)]

use burn::prelude::Shape;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

pub mod history;
pub mod join;
pub mod loss;
pub mod norm;
pub mod optimizer;
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

/// Workgroups of a sum over a whole tensor, each of which leaves a part for the next launch.
pub const PARTS: usize = 64;

/// Workgroups and threads for work that has one thread an element.
fn lines(size: usize) -> (CubeCount, CubeDim) {
    let threads = THREADS * THREADS;
    let cubes = size.div_ceil(threads).max(1);
    let down = cubes.div_ceil(LINE_MAX);
    (
        CubeCount::Static(cubes.div_ceil(down) as u32, down as u32, 1),
        CubeDim::new_1d(threads as u32),
    )
}

/// Workgroups along an axis, of which WebGPU allows 65,535.
const LINE_MAX: usize = 65_535;

/// The sum over a workgroup's 256 threads.
#[cube]
fn block_sum(value: f32) -> f32 {
    let mut memory = Shared::<[f32]>::new_slice(THREADS * THREADS);
    let unit = UNIT_POS as usize;
    memory[unit] = value;
    sync_cube();
    #[unroll]
    for step in 0..8 {
        let half = comptime!((THREADS * THREADS) >> (step + 1));
        if unit < half {
            memory[unit] += memory[unit + half];
        }
        sync_cube();
    }
    memory[0]
}
