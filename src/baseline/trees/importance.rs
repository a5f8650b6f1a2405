//! How much of what trees find is found in each column.

use super::Table;
use super::bins::Borders;
use super::boost::{Part, Setting, boost};
use super::grow::Shape;
use crate::seeds::Seeds;

/// Small trees on half of the columns each: a column that another one could stand for shows too.
const SETTING: Setting = Setting {
    shape: Shape::Leafwise,
    leaves_max: 8,
    depth_max: 8,
    learning_rate: 0.05,
    l2: 1.0,
    rows_min: 20.0,
    rows_share: 0.8,
    columns_share: 0.5,
};

/// Of each column, by how much its splits lowered the squared error of boosted trees (Friedman
/// 2001, section 8.1), the validation part saying how many; from 0 to the best column's 1. All are
/// 0 where trees find nothing, or one part has no rows.
///
/// # Panics
/// If a table's lengths do not fit together, or the two differ in columns.
pub fn importance(train: &Table, validation: &Table, seeds: &Seeds) -> Vec<f32> {
    assert_eq!(train.kinds, validation.kinds, "both parts have the same columns");
    let learnable = train.labels.iter().any(|&y| y != train.labels[0]);
    if !learnable || validation.rows() == 0 {
        return vec![0.0; train.kinds.len()];
    }
    let borders = Borders::learn(train);
    let parts = [train, validation].map(|table| Part::new(&borders, table));
    let gains = boost(&borders, parts.each_ref(), &SETTING, seeds).gains;
    let most = gains.iter().copied().fold(0.0, f64::max);
    gains.iter().map(|gain| if most > 0.0 { (gain / most) as f32 } else { 0.0 }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::RawKind;

    /// Column 0 decides with one mistake in ten, column 1 tells the rest of it, 2 nothing, and 3 is
    /// always the same.
    fn table(from: usize, rows: usize) -> (Vec<f32>, Vec<bool>) {
        let noise = |at: usize, k: f64| (((from + at) as f64 + 1.0) * k).fract() as f32;
        let label = |at: usize| (noise(at, 0.754_877) > 0.5) != (noise(at, 0.569_84) > 0.9);
        let row = |at| [noise(at, 0.754_877), noise(at, 0.569_84), noise(at, 0.618_034), 3.0];
        ((0..rows).flat_map(row).collect(), (0..rows).map(label).collect())
    }

    #[test]
    fn columns_that_tell_more_count_for_more() {
        let [train, validation] = [table(0, 3000), table(3000, 1000)];
        let kinds = [RawKind::Number; 4];
        let [train, validation] =
            [&train, &validation].map(|(values, labels)| Table { values, kinds: &kinds, labels });
        let found = importance(&train, &validation, &Seeds::new(1));
        assert_eq!((found[0], found[3]), (1.0, 0.0));
        assert!(found[1] > 0.1 && found[1] < 1.0 && found[2] < 0.05, "{found:?}");
        assert_eq!(found, importance(&train, &validation, &Seeds::new(1)));
    }

    #[test]
    fn nothing_to_find_is_nothing() {
        let kinds = [RawKind::Number];
        let one = Table { values: &[1.0, 2.0], kinds: &kinds, labels: &[true, true] };
        let none = Table { values: &[], kinds: &kinds, labels: &[] };
        let two = Table { values: &[1.0, 2.0], kinds: &kinds, labels: &[true, false] };
        for (train, validation) in [(one, two), (two, none), (none, two), (two, two)] {
            assert_eq!(importance(&train, &validation, &Seeds::new(1)), [0.0]);
        }
    }
}
