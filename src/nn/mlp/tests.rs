use super::{MlpNet, WORTH_MIN};
use crate::config::{GruSpec, MlpShape, ModelKind};
use crate::nn::{Architecture, Network, params};
use crate::seeds::Seeds;
use crate::tensors::Batch;
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};

#[test]
fn columns_begin_at_what_they_are_worth() {
    let mlp = MlpShape {
        width: 4,
        members: 3,
        piece_width: 2,
        embedding_max: 2,
        early: true,
        ..MlpShape::default()
    };
    let network = |relevance: &[f32]| {
        let architecture = Architecture {
            kind: ModelKind::Mlp,
            mlp: mlp.clone(),
            gru: GruSpec::default(),
            numbers: 2,
            borders: vec![vec![], vec![0.0, 1.0, 2.0]],
            categories: vec![5],
            relevance: relevance.to_vec(),
            months: 0,
            hazards: 1,
        };
        let network = architecture.init(&Seeds::new(1), &Device::flex());
        let Network::Mlp(network) = network else { unreachable!("asked for") };
        network.scale.weight.val().into_data().try_to_vec::<f32>().expect("floats")
    };
    let signs = network(&[]);
    assert!(signs.iter().all(|sign| sign.abs() == 1.0));
    // First the number with bins, then the plain one, then the category.
    let half = WORTH_MIN + (1.0 - WORTH_MIN) / 2.0;
    let worth = [1.0f32, 1.0, WORTH_MIN, half, half];
    let found = network(&[0.0, 1.0, 0.5]);
    for ((found, sign), worth) in found.iter().zip(&signs).zip(worth.iter().cycle()) {
        assert!((found - sign * worth).abs() < 1e-6, "{found} {sign} {worth}");
    }
}

/// A network whose every parameter is some number between -1 and 1.
fn filled(architecture: &Architecture) -> MlpNet {
    let network = architecture.init(&Seeds::new(1), &Device::flex());
    let mut parameters = params::collect(&network);
    let values = parameters.values_mut().flat_map(|tensor| &mut tensor.values);
    values.enumerate().for_each(|(at, value)| *value = (at as f32 * 12.9898).sin());
    match params::load(network, &parameters).expect("its own parameters").valid() {
        Network::Mlp(network) => network,
        _ => unreachable!("asked for"),
    }
}

#[track_caller]
fn check_native(shape: MlpShape, borders: Vec<Vec<f32>>, categories: Vec<usize>, hazards: usize) {
    let architecture = Architecture {
        kind: ModelKind::Mlp,
        mlp: shape,
        gru: GruSpec::default(),
        numbers: borders.len(),
        borders,
        categories,
        relevance: Vec::new(),
        months: 0,
        hazards,
    };
    let network = filled(&architecture);
    // More than one block, and a last one that is not full.
    let rows = 103;
    let (numbers, kinds) = (architecture.numbers.max(1), &architecture.categories);
    let number = |row: usize, column: usize| match architecture.numbers {
        0 => 0.0,
        _ => ((row * 31 + column * 7) as f32).sin() * 2.0,
    };
    let code = |row: usize, column: usize| (row + column) % kinds[column];
    let all = |count: usize| (0..rows).flat_map(move |row| (0..count).map(move |c| (row, c)));
    let device = Device::flex();
    let values: Vec<f32> = all(numbers).map(|(row, column)| number(row, column)).collect();
    let codes: Vec<i32> = all(kinds.len()).map(|(row, column)| code(row, column) as i32).collect();
    let none = || Tensor::zeros([rows, 1, 1], &device);
    let batch = Batch {
        numbers: Tensor::from_data(TensorData::new(values, [rows, numbers]), &device),
        codes: (!kinds.is_empty())
            .then(|| Tensor::from_data(TensorData::new(codes, [rows, kinds.len()]), &device)),
        months: None,
        targets: none(),
        weights: none(),
        noise: None,
    };
    let wanted: Vec<f32> = super::values(network.forward(&batch));
    let found = network.native(architecture.numbers).outputs(rows, &|row, numbers, codes| {
        numbers.iter_mut().enumerate().for_each(|(c, to)| *to = number(row, c));
        codes.iter_mut().enumerate().for_each(|(c, to)| *to = code(row, c) as u32);
    });
    let bits = |numbers: &[f32]| numbers.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    assert!(wanted.iter().any(|x| *x != wanted[0]) && wanted.iter().all(|x| x.is_finite()));
    assert_eq!(bits(&found), bits(&wanted), "{:?}", architecture.mlp);
}

#[test]
fn rows_on_their_own_give_the_bits_of_the_graph() {
    let shape = |early, blocks, members, width| MlpShape {
        width,
        blocks,
        members,
        piece_width: 2,
        embedding_max: 3,
        early,
        ..MlpShape::default()
    };
    let bins = || vec![-1.5f32, -0.5, 0.0, 0.25, 1.0];
    let mixed = || vec![vec![], bins(), vec![-1.0, 1.0, 1.5], vec![]];
    for (early, blocks) in [(false, 1), (false, 2), (false, 3), (true, 1), (true, 2)] {
        check_native(shape(early, blocks, 16, 40), mixed(), vec![5, 2], 1);
    }
    check_native(shape(false, 2, 5, 24), vec![bins(); 3], vec![], 3);
    check_native(shape(true, 2, 1, 24), vec![vec![]; 3], vec![4], 2);
    check_native(shape(false, 2, 7, 300), mixed(), vec![], 1);
    check_native(MlpShape { piece_width: 3, ..shape(false, 2, 3, 1) }, mixed(), vec![], 1);
    check_native(shape(false, 2, 4, 8), vec![], vec![9, 9], 1);
}
