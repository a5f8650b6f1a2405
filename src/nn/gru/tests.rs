//! Every shape of the networks over months: they look back only, and all of their parameters learn.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use rand_distr::{Distribution, Normal};

use crate::config::{Fusion, GruSpec, History, MlpShape, ModelKind};
use crate::nn::{Architecture, Network};
use crate::seeds::Seeds;
use crate::tensors::{Batch, Dice};

const ROWS: usize = 4;
const MONTHS: usize = 6;
const MEASURES: usize = 3;
const HAZARDS: usize = 2;

fn shapes() -> Vec<Architecture> {
    let mut all = Vec::new();
    for layers in [1, 2] {
        for history in [History::Last, History::Pooled] {
            let fusions = [Fusion::Concatenate, Fusion::Initial, Fusion::Gated];
            let hybrids = fusions.map(|fusion| (ModelKind::Hybrid, fusion));
            let gru = [(ModelKind::Gru, Fusion::Concatenate)];
            for (kind, fusion) in gru.into_iter().chain(hybrids) {
                all.push(Architecture {
                    kind,
                    mlp: MlpShape {
                        width: 6,
                        blocks: 1,
                        members: 1,
                        bins: 0,
                        ..MlpShape::default()
                    },
                    gru: GruSpec { hidden: 5, layers, dropout: 0.2, history, fusion },
                    numbers: 2,
                    borders: vec![Vec::new(); 2],
                    categories: vec![3],
                    relevance: Vec::new(),
                    months: MEASURES,
                    hazards: HAZARDS,
                });
            }
        }
    }
    all
}

fn draw(name: &str, size: usize) -> Vec<f32> {
    let law = Normal::new(0.0, 1.0).expect("valid");
    let mut rng = Seeds::new(4).stream(name, 0);
    (0..size).map(|_| law.sample(&mut rng)).collect()
}

/// The first months of a batch.
fn batch(months: usize, device: &Device) -> Batch {
    let all = draw("months", ROWS * MONTHS * MEASURES);
    let rows = all.chunks(MONTHS * MEASURES);
    let values: Vec<f32> = rows.flat_map(|row| &row[..months * MEASURES]).copied().collect();
    let codes: Vec<i32> = (0..ROWS as i32).map(|row| row % 3).collect();
    let ones = Tensor::ones([ROWS, months, HAZARDS], device);
    Batch {
        numbers: Tensor::from_data(TensorData::new(draw("numbers", ROWS * 2), [ROWS, 2]), device),
        codes: Some(Tensor::from_data(TensorData::new(codes, [ROWS, 1]), device)),
        months: Some(Tensor::from_data(TensorData::new(values, [ROWS, months, MEASURES]), device)),
        targets: ones.clone(),
        weights: ones,
        noise: None,
    }
}

fn log_odds(network: &Network, batch: &Batch) -> Vec<f32> {
    network.forward(batch).into_data().try_into_vec_as().expect("f32")
}

/// As padding behind a customer's last month must.
#[test]
fn later_months_change_nothing_before_them() {
    let device = Device::flex();
    for architecture in shapes() {
        let network = architecture.init(&Seeds::new(1), &device);
        let whole = log_odds(&network, &batch(MONTHS, &device));
        let short = log_odds(&network, &batch(MONTHS - 2, &device));
        let both = whole.chunks(MONTHS * HAZARDS).zip(short.chunks((MONTHS - 2) * HAZARDS));
        for (whole, short) in both {
            assert!(
                whole.iter().zip(short).all(|(a, b)| (a - b).abs() < 1e-6),
                "{architecture:?}: {whole:?} and {short:?}"
            );
        }
        let (first, last) = (&whole[..HAZARDS], &whole[(MONTHS - 1) * HAZARDS..][..HAZARDS]);
        assert_ne!(first, last, "{architecture:?}");
    }
}

/// Paths of parameters without a gradient, or with one of zeros.
struct Idle<'a> {
    gradients: &'a Gradients,
    path: Vec<String>,
    found: Vec<String>,
}

impl ModuleVisitor for Idle<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let gradient = param.val().grad(self.gradients);
        let size = gradient.map_or(0.0, |gradient| gradient.abs().sum().into_scalar::<f32>());
        // NaN is no gradient either.
        if !matches!(size.partial_cmp(&0.0), Some(std::cmp::Ordering::Greater)) {
            self.found.push(self.path.join("."));
        }
    }
}

#[test]
fn all_parameters_learn() {
    let device = Device::flex();
    for architecture in shapes() {
        let network = architecture.init(&Seeds::new(1), &device.clone().autodiff());
        let batch = batch(MONTHS, &device).tracked(Dice { seed: 5, first_row: 0 });
        let gradients = network.forward(&batch).powf_scalar(2.0).sum().backward();
        let mut idle = Idle { gradients: &gradients, path: Vec::new(), found: Vec::new() };
        network.visit(&mut idle);
        assert!(idle.found.is_empty(), "{architecture:?}: {:?}", idle.found);
    }
}

/// The shapes differ in what they compute, not only in name.
#[test]
fn shapes_differ() {
    let device = Device::flex();
    let of = |architecture: &Architecture| {
        log_odds(&architecture.init(&Seeds::new(1), &device), &batch(MONTHS, &device))
    };
    let all: Vec<Vec<f32>> = shapes().iter().map(of).collect();
    for (at, one) in all.iter().enumerate() {
        assert!(all[..at].iter().all(|other| other != one), "{:?}", shapes()[at]);
    }
}
