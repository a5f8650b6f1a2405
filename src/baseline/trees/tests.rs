use super::*;
use crate::seeds::Seeds;

const KINDS: [RawKind; 3] = [RawKind::Number, RawKind::Category { codes: 6 }, RawKind::Number];

/// Leavers are those of category 3, those with a number above 0.5 of category 4, and half of those
/// whose second number is missing.
fn world(rows: usize, stream: &str) -> (Vec<f32>, Vec<bool>) {
    let (mut values, mut labels) = (Vec::new(), Vec::new());
    for row in 0..rows as u64 {
        let draw = |what: &str| {
            let number = Seeds::new(5).child(stream, 0).number(what, row);
            (number >> 40) as f32 / (1u64 << 24) as f32
        };
        let (number, code) = (draw("number"), (draw("code") * 6.0).floor());
        let other = if draw("missing") < 0.2 { f32::NAN } else { draw("other") };
        values.extend([number, code, other]);
        let leaves =
            code == 3.0 || code == 4.0 && number > 0.5 || other.is_nan() && draw("coin") < 0.5;
        labels.push(leaves);
    }
    (values, labels)
}

fn table<'a>((values, labels): &'a (Vec<f32>, Vec<bool>)) -> Table<'a> {
    Table { values, kinds: &KINDS, labels }
}

fn fitted() -> Trees {
    let (train, validation) = (world(1500, "train"), world(300, "validation"));
    fit(&table(&train), &table(&validation), 4, &Seeds::new(1)).expect("a sound world")
}

#[test]
fn thresholds_codes_and_missing_values_are_found() {
    let trees = fitted();
    assert_eq!(trees.fault(), None);
    let risk = |row: [f32; 3]| 1.0 / (1.0 + (-trees.log_odds(&row)[0]).exp());
    for (row, low, high) in [
        ([0.9, 3.0, 0.5], 0.8, 1.0),
        ([0.1, 4.0, 0.5], 0.0, 0.2),
        ([0.9, 4.0, 0.5], 0.8, 1.0),
        ([0.9, 2.0, 0.5], 0.0, 0.2),
        // About 300 train rows: three standard errors of a half are 0.09; shrinkage adds to it.
        ([0.1, 2.0, f32::NAN], 0.3, 0.7),
        // Codes beyond those that were fitted are those of rare values.
        ([0.1, 1.0, 0.5], 0.0, 0.2),
    ] {
        assert!((low..=high).contains(&risk(row)), "{row:?}: {}", risk(row));
    }
}

#[test]
fn the_same_trees_for_any_number_of_threads() {
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let small = || {
        let (train, validation) = (world(300, "train"), world(100, "validation"));
        fit(&table(&train), &table(&validation), 4, &Seeds::new(1)).expect("a sound world")
    };
    let one = pool(1).expect("a pool").install(small);
    let three = pool(3).expect("a pool").install(small);
    assert_eq!(one, three);
}

#[test]
fn odd_tables() {
    let labels = |rows: usize| (0..rows).map(|row| row % 3 == 0).collect::<Vec<bool>>();
    for (name, value) in [
        ("constant", [1.0f32, 0.0, 2.0]),
        ("missing", [f32::NAN, 0.0, f32::NAN]),
        ("huge", [f32::MAX, 5.0, f32::MIN]),
    ] {
        let values: Vec<f32> = value.into_iter().cycle().take(60 * 3).collect();
        let own = (values, labels(60));
        let trees = fit(&table(&own), &table(&own), 4, &Seeds::new(0)).expect(name);
        let found = trees.log_odds(&own.0);
        assert!(found.iter().all(|x| (x - 0.5f64.ln()).abs() < 1e-6), "{name}: {:?}", found[0]);
    }
    let (none, some) = ((Vec::new(), Vec::new()), world(50, "a"));
    let one_class = (some.0.clone(), vec![true; 50]);
    for (train, validation) in [(&none, &some), (&some, &none), (&one_class, &some)] {
        assert!(fit(&table(train), &table(validation), 4, &Seeds::new(0)).is_err());
    }
}

#[test]
fn json_comes_back_whole_and_hostile_trees_are_refused() {
    let trees = fitted();
    let text = serde_json::to_string(&trees).expect("plain numbers");
    assert_eq!(serde_json::from_str::<Trees>(&text).expect("ours"), trees);
    let at = trees.trees.iter().position(|tree| tree.columns.len() > 1).expect("a tree of nodes");
    type Spoil = fn(&mut Tree);
    let spoil: [(&str, Spoil); 8] = [
        ("a loop", |tree| tree.children[1] = [0, 0]),
        ("itself", |tree| tree.children[0] = [0, 0]),
        ("a node beyond", |tree| tree.children[0][1] = i32::MAX),
        ("a leaf beyond", |tree| tree.children[0][1] = i32::MIN),
        ("a column beyond", |tree| tree.columns[0] = 99),
        ("a short list", |tree| tree.thresholds.truncate(1)),
        ("no leaf", |tree| tree.leaves.clear()),
        ("a leaf of NaN", |tree| tree.leaves[0] = f32::NAN),
    ];
    for (name, spoil) in spoil {
        let mut bad = trees.clone();
        spoil(&mut bad.trees[at]);
        assert!(bad.fault().is_some(), "{name}");
    }
}
