//! Risk curves as columns of a table.

use crate::eval::months_expected;
use crate::source::write::OutColumn;

/// `risk_1` to `risk_K`, the risk of churn up to each of the `months` K of the horizon, and
/// `months_expected`, how many of them begin with the customer still there. `curves` is
/// `[rows, K]`; without curves all cells are null. No columns for K = 1, where the risk says all.
pub fn curve_columns(curves: &[f64], rows: usize, months: usize) -> Vec<(String, OutColumn)> {
    if months < 2 {
        return Vec::new();
    }
    let column = |cell: &dyn Fn(&[f64]) -> f64| match curves.is_empty() {
        true => OutColumn::MaybeNumber(vec![None; rows]),
        false => OutColumn::MaybeNumber(
            curves.chunks_exact(months).map(|curve| Some(cell(curve))).collect(),
        ),
    };
    let up_to = |month: usize| (format!("risk_{}", month + 1), column(&|curve| curve[month]));
    let mut columns: Vec<(String, OutColumn)> = (0..months).map(up_to).collect();
    columns.push(("months_expected".into(), column(&months_expected)));
    columns
}
