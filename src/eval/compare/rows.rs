//! Test rows of two models laid on each other, and refused where they are not the same.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use super::{Paired, PairedFold};
use crate::clock::Month;
use crate::error::{Error, Kind, Result};

/// Rows of each kind of difference that an error shows.
const EXAMPLES_MAX: usize = 2;

/// What one model predicts for one test row.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub fold: u32,
    pub customer: String,
    pub as_of: Option<Month>,
    /// None where the table does not tell; the other one must.
    pub label: Option<bool>,
    pub risk: f64,
}

/// One model's test rows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Predicted {
    /// As errors call it.
    pub name: String,
    pub rows: Vec<Row>,
    /// Rows trained on, by fold, where they are known.
    pub train_rows: BTreeMap<u32, u64>,
}

impl Row {
    fn place(&self) -> (u32, &str, Option<Month>) {
        (self.fold, &self.customer, self.as_of)
    }

    fn describe(&self) -> String {
        let as_of = self.as_of.map_or(String::new(), |month| format!(" as of {month}"));
        format!("customer `{}`{as_of} in fold {}", self.customer, self.fold)
    }
}

/// Lays the rows of A on those of B. Where one of the tables names no as-of month at all, customer
/// and fold are enough.
///
/// # Errors
/// [`Kind::Data`] if a row stands twice, or in one table only, or with another label.
pub fn pair(mut a: Predicted, mut b: Predicted) -> Result<Paired> {
    let is_undated = |of: &Predicted| of.rows.iter().all(|row| row.as_of.is_none());
    let undated = is_undated(&a) || is_undated(&b);
    for table in [&mut a, &mut b] {
        if undated {
            table.rows.iter_mut().for_each(|row| row.as_of = None);
        }
        table.rows.sort_by(|x, y| x.place().cmp(&y.place()));
        distinct(table, undated)?;
    }
    let mut differences = Differences::default();
    let mut pairs: Vec<(&Row, &Row)> = Vec::new();
    let (mut left, mut right) = (a.rows.iter().peekable(), b.rows.iter().peekable());
    loop {
        let order = match (left.peek(), right.peek()) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(x), Some(y)) => x.place().cmp(&y.place()),
        };
        match order {
            Ordering::Less => differences.only[0].extend(left.next()),
            Ordering::Greater => differences.only[1].extend(right.next()),
            Ordering::Equal => pairs.extend(left.next().zip(right.next())),
        }
    }
    let relabelled = |(x, y): &&(&Row, &Row)| x.label.zip(y.label).is_some_and(|(x, y)| x != y);
    differences.labels = pairs.iter().filter(relabelled).map(|(x, _)| *x).collect();
    differences.refuse(&a, &b)?;
    paired(&pairs, [&a, &b])
}

fn distinct(table: &Predicted, undated: bool) -> Result<()> {
    let twice = table.rows.windows(2).find(|pair| pair[0].place() == pair[1].place());
    match (twice, table.rows.is_empty()) {
        (Some(pair), _) => {
            let text = format!("{} holds {} twice", table.name, pair[0].describe());
            let error = Kind::Data.msg(text);
            Err(match undated {
                true => error.hint("one of the tables names no `as_of` months: add them"),
                false => error.hint("a row is one customer, as-of month and fold"),
            })
        }
        (None, true) => Err(Kind::Data.msg(format!("{} holds no test row", table.name))),
        (None, false) => Ok(()),
    }
}

/// Rows that are not the same in both tables.
#[derive(Default)]
struct Differences<'a> {
    /// In A, in B.
    only: [Vec<&'a Row>; 2],
    labels: Vec<&'a Row>,
}

impl Differences<'_> {
    fn refuse(&self, a: &Predicted, b: &Predicted) -> Result<()> {
        let kinds = [
            (&self.only[0], format!("only in {}", a.name)),
            (&self.only[1], format!("only in {}", b.name)),
            (&self.labels, "with another label".to_owned()),
        ];
        let found = kinds.iter().filter(|(rows, _)| !rows.is_empty());
        let tell = |(rows, what): &(&Vec<&Row>, String)| {
            let shown = rows.iter().take(EXAMPLES_MAX).map(|row| row.describe());
            let more = if rows.len() > EXAMPLES_MAX { ", ..." } else { "" };
            format!("{} {what} ({}{more})", rows.len(), shown.collect::<Vec<_>>().join(", "))
        };
        let told: Vec<String> = found.map(tell).collect();
        if told.is_empty() {
            return Ok(());
        }
        let text = format!("the test rows are not the same: {}", told.join("; "));
        Err(self.hint(Kind::Data.msg(text), a, b))
    }

    /// Where whole folds are missing, the others can be compared.
    fn hint(&self, error: Error, a: &Predicted, b: &Predicted) -> Error {
        let folds = |of: &Predicted| of.rows.iter().map(|row| row.fold).collect::<BTreeSet<u32>>();
        let both: BTreeSet<u32> = &folds(a) & &folds(b);
        let in_both = self.only.iter().flatten().any(|row| both.contains(&row.fold));
        if self.labels.is_empty() && !in_both && !both.is_empty() {
            let list: Vec<String> = both.iter().map(u32::to_string).collect();
            return error
                .hint(format!("compare the folds that both have: --folds {}", list.join(",")));
        }
        error.hint("compare models of one data set, label and split")
    }
}

fn paired(pairs: &[(&Row, &Row)], [a, b]: [&Predicted; 2]) -> Result<Paired> {
    let mut names: Vec<&str> = pairs.iter().map(|(row, _)| row.customer.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let mut folds: BTreeMap<u32, PairedFold> = BTreeMap::new();
    for (x, y) in pairs {
        let label = x.label.or(y.label).ok_or_else(|| {
            Kind::Data
                .msg("neither table tells what happened")
                .hint("add a column `label` of 0 and 1")
        })?;
        let known = a.train_rows.get(&x.fold).or(b.train_rows.get(&x.fold));
        let new =
            || PairedFold { number: x.fold, train_rows: known.copied(), ..Default::default() };
        let fold = folds.entry(x.fold).or_insert_with(new);
        fold.labels.push(label);
        let customer = names.binary_search(&x.customer.as_str());
        fold.customers.push(customer.expect("the names are those of the pairs") as u32);
        fold.risks[0].push(x.risk);
        fold.risks[1].push(y.risk);
    }
    Ok(Paired { folds: folds.into_values().collect(), customers: names.len() })
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    /// Rows as `fold customer month label risk`, separated by commas; `-` is not there.
    fn table(name: &str, text: &str) -> Predicted {
        let row = |text: &str| {
            let cells: Vec<&str> = text.split_whitespace().collect();
            let maybe = |text: &str| (text != "-").then(|| text.to_owned());
            Row {
                fold: cells[0].parse().expect("a fold"),
                customer: cells[1].into(),
                as_of: maybe(cells[2]).map(|month| month.parse().expect("a month")),
                label: maybe(cells[3]).map(|label| label == "1"),
                risk: cells[4].parse().expect("a risk"),
            }
        };
        let rows = text.split(',').filter(|text| !text.trim().is_empty()).map(row).collect();
        Predicted { name: name.into(), rows, train_rows: BTreeMap::from([(0, 8)]) }
    }

    #[track_caller]
    fn refused(a: &str, b: &str, expect: Expect) {
        let error = pair(table("a", a), table("b", b)).expect_err("they differ");
        assert_eq!(error.kind, Kind::Data);
        expect.assert_eq(&error.to_string());
    }

    #[test]
    fn rows_meet_whatever_their_order() {
        let a = "1 y 2024-02 1 0.5, 0 y 2024-02 0 0.1, 0 x 2024-02 1 0.2, 0 x 2024-01 0 0.3";
        let b = "0 x 2024-01 - 0.7, 1 y 2024-02 - 0.6, 0 x 2024-02 - 0.8, 0 y 2024-02 - 0.9";
        let paired = pair(table("a", a), table("b", b)).expect("the same rows");
        let fold = PairedFold {
            number: 0,
            labels: vec![false, true, false],
            customers: vec![0, 0, 1],
            risks: [vec![0.3, 0.2, 0.1], vec![0.7, 0.8, 0.9]],
            train_rows: Some(8),
        };
        assert_eq!(paired.customers, 2);
        assert_eq!(paired.folds[0], fold);
        assert_eq!((paired.folds[1].number, paired.folds[1].train_rows), (1, None));
        assert_eq!(paired.folds[1].customers, [1]);
    }

    #[test]
    fn months_that_one_side_does_not_name_are_not_needed() {
        let months = "0 x 2024-01 1 0.5, 0 y 2024-01 0 0.5";
        let none = "0 x - 1 0.5, 0 y - 0 0.5";
        assert_eq!(pair(table("a", months), table("b", none)).expect("rows").rows(), 2);
        let expect = expect![
            "a holds customer `x` in fold 0 twice; one of the tables names no `as_of` months: add them"
        ];
        refused("0 x 2024-01 1 0.5, 0 x 2024-02 0 0.5", "0 x - 1 0.5", expect);
    }

    #[test]
    fn other_rows_and_labels_are_refused() {
        let expect = expect![
            "the test rows are not the same: 1 only in a (customer `x` as of 2024-01 in fold 0); 1 only in b (customer `x` as of 2024-02 in fold 0); compare models of one data set, label and split"
        ];
        refused("0 x 2024-01 1 0.5", "0 x 2024-02 1 0.5", expect);
        let expect = expect![
            "the test rows are not the same: 3 with another label (customer `x` in fold 0, customer `y` in fold 0, ...); compare models of one data set, label and split"
        ];
        refused(
            "0 x - 1 0.5, 0 y - 1 0.5, 0 z - 1 0.5",
            "0 x - 0 0.5, 0 y - 0 0.5, 0 z - 0 0.5",
            expect,
        );
        let expect = expect![
            "the test rows are not the same: 1 only in a (customer `y` in fold 1); compare the folds that both have: --folds 0"
        ];
        refused("0 x - 1 0.5, 1 y - 1 0.5", "0 x - 1 0.5", expect);
        let expect = expect![
            "b holds customer `x` in fold 0 twice; one of the tables names no `as_of` months: add them"
        ];
        refused("0 x - 1 0.5", "0 x - 1 0.5, 0 x - 1 0.6", expect);
        refused("0 x - 1 0.5", "", expect!["b holds no test row"]);
        let expect = expect!["neither table tells what happened; add a column `label` of 0 and 1"];
        refused("0 x - - 0.5", "0 x - - 0.5", expect);
    }
}
