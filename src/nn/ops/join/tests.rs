//! Dropout as a random draw, and the join against composed tensor operations.

use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor, TensorData};
use rand_distr::{Distribution, Uniform};

use super::{Noise, dropout, join};
use crate::seeds::Seeds;

const SHARES: [f32; 3] = [0.1, 0.5, 0.8];

/// The smallest, neighbours, and seeds that use both halves of their bits.
const SEEDS: [u64; 5] = [0, 1, 41, 0x9e37_79b9_7f4a_7c15, u64::MAX - 1];

/// Several chunks of 2^14, and not a multiple of one.
const COUNT: usize = 100_003;

fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec_as().expect("f32")
}

/// Whether each of many ones was kept.
fn kept(noise: Noise) -> Vec<bool> {
    let ones = tensor(vec![1.0; COUNT], [COUNT], &Device::flex());
    let factors = numbers(dropout(ones, Some(noise)));
    assert!(factors.iter().all(|&x| x == 0.0 || x == noise.scale()), "{noise:?}");
    factors.into_iter().map(|x| x != 0.0).collect()
}

/// The correlation of two rows of draws, in standard deviations of what independent draws show:
/// 1 over the root of their number.
fn sigmas(share: f32, a: &[bool], b: &[bool]) -> f64 {
    let mean = 1.0 - f64::from(share);
    let from_mean = |kept: bool| f64::from(u8::from(kept)) - mean;
    let products: f64 = a.iter().zip(b).map(|(&a, &b)| from_mean(a) * from_mean(b)).sum();
    let count = a.len().min(b.len()) as f64;
    products / (mean * (1.0 - mean)) / count.sqrt()
}

#[test]
fn draws_are_independent_and_of_the_given_share() {
    for share in SHARES {
        for seed in SEEDS {
            let noise = Noise { share, seed, first_row: 0 };
            let here = kept(noise);
            let mean = 1.0 - f64::from(share);
            let count = here.iter().filter(|&&kept| kept).count() as f64;
            let off = count - mean * COUNT as f64;
            let deviation = (COUNT as f64 * mean * (1.0 - mean)).sqrt();
            assert!(off.abs() <= 4.0 * deviation, "{noise:?}: {count} kept");
            // Neighbours, the same unit of the next row or month, the other halves of a chunk.
            for step in [1, 2, 3, 8, 16, 64, 100, 128, 1 << 13, 1 << 14] {
                let off = sigmas(share, &here, &here[step..]);
                assert!(off.abs() <= 4.0, "{noise:?}: {off} sigma at a distance of {step}");
            }
            // Draws of one step and of successive steps.
            check_seeds_apart(noise, &here, &[1, 2, 3, 1 << 16, 1 << 31, 0x9e37_79b9_7f4a_7c15]);
        }
    }
}

#[track_caller]
fn check_seeds_apart(noise: Noise, here: &[bool], steps: &[u64]) {
    for &step in steps {
        let other = kept(Noise { seed: noise.seed.wrapping_add(step), ..noise });
        let off = sigmas(noise.share, here, &other);
        assert!(off.abs() <= 4.0, "{noise:?}: {off} sigma at a seed {step} later");
    }
}

/// A seed is all of its 64 bits.
#[test]
fn seeds_that_differ_in_their_upper_half_draw_independently() {
    for share in SHARES {
        for seed in SEEDS {
            let noise = Noise { share, seed, first_row: 0 };
            check_seeds_apart(noise, &kept(noise), &[1 << 32, 2 << 32, 1 << 48, 1 << 63]);
        }
    }
}

#[test]
fn a_seed_decides_the_mask() {
    let noise = |seed: u64| Noise { share: 0.5, seed, first_row: 0 };
    for seed in SEEDS {
        assert!(kept(noise(seed)) == kept(noise(seed)), "{seed}");
        assert!(kept(noise(seed)) != kept(noise(seed.wrapping_add(1))), "{seed}");
    }
}

#[test]
fn a_share_of_nothing_drops_nothing() {
    assert!(kept(Noise { share: 0.0, seed: 7, first_row: 0 }).iter().all(|&kept| kept));
}

/// What was dropped on the way forward is dropped on the way back, and the rest scaled alike.
#[test]
fn the_gradient_passes_where_the_number_did() {
    let device = Device::flex().autodiff();
    for share in SHARES {
        let noise = Noise { share, seed: 5, first_row: 0 };
        let x = tensor(vec![1.0; COUNT], [COUNT], &device).reshape([1, COUNT]).detach();
        let x = x.require_grad();
        let y = dropout(x.clone(), Some(noise));
        let probe = draw("probe", COUNT);
        let grads = (y.clone() * tensor(probe.clone(), [1, COUNT], &device)).sum().backward();
        let gradient = numbers(x.grad(&grads).expect("tracked"));
        let wanted: Vec<f32> = numbers(y).iter().zip(&probe).map(|(f, g)| f * g).collect();
        assert!(gradient == wanted, "{noise:?}");
    }
}

/// Devices that share a batch draw the masks that one device would.
#[test]
fn rows_keep_their_masks_wherever_they_lie() {
    let [rows, months, width] = [7, 5, 3];
    let device = Device::flex();
    let (x, fixed) = (draw("states", rows * months * width), draw("fixed", rows * width));
    let noise = |first_row| Noise { share: 0.5, seed: 11, first_row };
    let of = |from: usize, to: usize| {
        let x = x[from * months * width..to * months * width].to_vec();
        let x = tensor(x, [to - from, months, width], &device);
        let fixed = fixed[from * width..to * width].to_vec();
        let fixed = tensor(fixed, [to - from, width], &device);
        let joined = numbers(join(x.clone(), fixed, Some(noise(from))));
        (numbers(dropout(x, Some(noise(from)))), joined)
    };
    let (whole, first, second) = (of(0, rows), of(0, 3), of(3, rows));
    assert_eq!(whole.0, [first.0, second.0].concat());
    assert_eq!(whole.1, [first.1, second.1].concat());
    let elsewhere = of(2, rows).0;
    assert_eq!(whole.0[2 * months * width..], elsewhere[..]);
    assert!(elsewhere.contains(&0.0), "nothing was dropped");
}

#[test]
fn no_noise_is_the_identity() {
    let x = draw("x", 30);
    let y = dropout(tensor(x.clone(), [2, 3, 5], &Device::flex()), None);
    assert_eq!(y.dims(), [2, 3, 5]);
    assert_eq!(numbers(y), x);
}

/// Multiples of 1/8 up to 1, whose sums are exact in any order.
fn draw(name: &str, size: usize) -> Vec<f32> {
    let law = Uniform::new_inclusive(-8i8, 8).expect("valid");
    let mut rng = Seeds::new(1).stream(name, 0);
    (0..size).map(|_| f32::from(law.sample(&mut rng)) / 8.0).collect()
}

type Join = fn(Tensor<3>, Tensor<2>, Option<Noise>) -> Tensor<3>;

fn composed(states: Tensor<3>, fixed: Tensor<2>, _: Option<Noise>) -> Tensor<3> {
    relu(states + fixed.unsqueeze_dim::<3>(1))
}

/// Result, and gradients by states and fixed.
fn run(f: Join, [rows, months, width]: [usize; 3], noise: Option<Noise>) -> [Vec<f32>; 3] {
    run_on(&Device::flex(), f, [rows, months, width], noise)
}

fn run_on(
    device: &Device,
    f: Join,
    [rows, months, width]: [usize; 3],
    noise: Option<Noise>,
) -> [Vec<f32>; 3] {
    let device = device.clone().autodiff();
    let count = rows * months * width;
    let states = tensor(draw("states", count), [rows, months, width], &device).require_grad();
    let fixed = tensor(draw("fixed", rows * width), [rows, width], &device).require_grad();
    let probe = tensor(draw("probe", count), [rows, months, width], &device);
    let y = f(states.clone(), fixed.clone(), noise);
    let grads = (y.clone() * probe).sum().backward();
    [
        numbers(y),
        numbers(states.grad(&grads).expect("tracked")),
        numbers(fixed.grad(&grads).expect("tracked")),
    ]
}

const SHAPES: [[usize; 3]; 6] =
    [[1, 1, 1], [1, 5, 3], [3, 1, 17], [7, 4, 16], [65, 9, 33], [300, 2, 64]];

#[test]
fn join_equals_the_composed_version() {
    for shape in SHAPES {
        assert!(run(join, shape, None) == run(composed, shape, None), "{shape:?}");
    }
}

#[cfg(feature = "ndarray")]
#[test]
#[expect(deprecated, reason = "kept selectable on purpose, see ARCHITECTURE.md")]
fn join_equals_the_composed_version_on_ndarray() {
    for shape in SHAPES {
        let device = Device::ndarray();
        let (got, wanted) =
            (run_on(&device, join, shape, None), run_on(&device, composed, shape, None));
        assert!(got == wanted, "{shape:?}");
    }
}

/// A kept number is the scale times what there is without noise; its gradient likewise.
#[test]
fn a_noisy_join_drops_and_scales() {
    for shape @ [rows, months, width] in SHAPES {
        for share in SHARES {
            let noise = Noise { share, seed: 3, first_row: 0 };
            let [plain, ..] = run(join, shape, None);
            let [y, d_states, d_fixed] = run(join, shape, Some(noise));
            let mut summed = vec![0.0; rows * width];
            let (mut dropped, probe) = (0, draw("probe", plain.len()));
            for (at, (&y, &plain)) in y.iter().zip(&plain).enumerate() {
                let is_kept = y == plain * noise.scale();
                assert!(is_kept || y == 0.0, "{shape:?} {noise:?}: {y} from {plain}");
                dropped += usize::from(!is_kept);
                let passed = if y > 0.0 { noise.scale() } else { 0.0 };
                assert_eq!(d_states[at], probe[at] * passed, "{shape:?} {noise:?} at {at}");
                summed[at / (months * width) * width + at % width] += d_states[at];
            }
            assert!(d_fixed == summed, "{shape:?} {noise:?}");
            // Half of the sums are positive; in the largest shapes some are dropped for sure.
            assert!(dropped > 0 || plain.len() < 1000, "{shape:?} {noise:?}");
        }
    }
}

/// The places of a join are drawn like those of a dropout: each customer and month of its own.
#[test]
fn a_join_draws_the_mask_of_a_dropout() {
    let shape @ [rows, months, width] = [COUNT / 64, 4, 16];
    let (device, noise) = (Device::flex(), Noise { share: 0.5, seed: 9, first_row: 0 });
    let states = tensor(vec![1.0; rows * months * width], shape, &device);
    let fixed = tensor(vec![0.0; rows * width], [rows, width], &device);
    let joined = numbers(join(states.clone(), fixed, Some(noise)));
    assert!(joined == numbers(dropout(states, Some(noise))));
}

/// The trainer stops at a loss that is not a number; a relu that turns NaN into 0 would hide it.
#[test]
fn a_nan_goes_through() {
    let device = Device::flex();
    for (states, fixed) in [(f32::NAN, 1.0), (1.0, f32::NAN)] {
        for noise in [None, Some(Noise { share: 0.0, seed: 0, first_row: 0 })] {
            let states = tensor(vec![states; 34], [1, 2, 17], &device);
            let fixed = tensor(vec![fixed; 17], [1, 17], &device);
            let y = numbers(join(states, fixed, noise));
            assert!(y.iter().all(|y| y.is_nan()), "{noise:?}: {y:?}");
        }
    }
}
