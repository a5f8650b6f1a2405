//! Who trains, who validates, who tests.

use std::path::Path;

use super::{Calendar, Inputs, Intake, Panel, Snapshots};
use crate::config::{ColumnType, LabelSpec, OnBad, Paths, SplitSpec};
use crate::error::{Error, Kind, Result};
use crate::seeds::Seeds;
use crate::source::{self, Cells, DataFile, Wanted, read::column_names, scan};

/// The part of a snapshot in one fold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    Train,
    Validation,
    Test,
    /// Between two parts: its label window overlaps the later one.
    Purged,
}

impl Part {
    pub const LABELLED: [Part; 3] = [Part::Train, Part::Validation, Part::Test];

    pub fn name(self) -> &'static str {
        match self {
            Part::Train => "train",
            Part::Validation => "validation",
            Part::Test => "test",
            Part::Purged => "purged",
        }
    }

    fn parse(text: &str) -> Option<Part> {
        match text.trim() {
            "train" => Some(Part::Train),
            "valid" | "validation" => Some(Part::Validation),
            "test" => Some(Part::Test),
            "" | "purged" => Some(Part::Purged),
            _ => None,
        }
    }
}

/// One division of all snapshots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fold {
    /// None when there is only one division.
    pub number: Option<u32>,
    /// One per snapshot.
    pub parts: Vec<Part>,
}

impl Fold {
    /// The snapshots of one part.
    pub fn members(&self, part: Part) -> Vec<u32> {
        (0..self.parts.len() as u32).filter(|&i| self.parts[i as usize] == part).collect()
    }

    /// The snapshots of any part.
    pub fn labelled(&self) -> Vec<u32> {
        let parts = &self.parts;
        (0..parts.len() as u32).filter(|&s| parts[s as usize] != Part::Purged).collect()
    }

    pub fn counts(&self, snapshots: &Snapshots) -> PartCounts {
        Part::LABELLED.map(|part| {
            let members = self.parts.iter().zip(&snapshots.churned).filter(|(p, _)| **p == part);
            let (mut count, mut churned) = (0, 0);
            members.for_each(|(_, &c)| {
                count += 1;
                churned += u64::from(c);
            });
            (part, count, churned)
        })
    }
}

/// What snapshots and parts are made from, besides the panel.
#[derive(Clone, Copy)]
pub struct Declared<'a> {
    pub intake: &'a Intake,
    pub inputs: &'a Inputs,
    pub root: &'a Path,
    pub label: &'a LabelSpec,
    pub split: &'a SplitSpec,
    pub seeds: &'a Seeds,
}

/// Divides the snapshots as declared.
///
/// # Errors
/// [`Kind::Data`] if a part is empty or the train part holds only one class.
pub fn split(panel: &Panel, snapshots: &Snapshots, declared: &Declared) -> Result<Vec<Fold>> {
    let folds = match declared.split {
        SplitSpec::Time { .. } | SplitSpec::Rolling { .. } => {
            let last = snapshots.months.iter().max().copied().unwrap_or(0);
            let divisions = Division::all(panel.calendar, last, declared)?;
            divisions.iter().map(|division| division.fold(snapshots)).collect()
        }
        SplitSpec::Snapshots { column } => vec![by_table(snapshots, column)?],
        SplitSpec::Folds { path } => by_folds(panel, snapshots, declared, path)?,
        SplitSpec::Random { folds } => at_random(panel, snapshots, declared.seeds, *folds)?,
    };
    for fold in &folds {
        check(fold.number, &fold.counts(snapshots))?;
    }
    Ok(folds)
}

/// Snapshots of a part, and how many of them churned.
pub type PartCounts = [(Part, u64, u64); 3];

/// # Errors
/// [`Kind::Data`] if a part is empty, or all of its snapshots but the test part's are of one class.
pub fn check(fold: Option<u32>, counts: &PartCounts) -> Result<()> {
    let name = fold.map_or(String::new(), |number| format!(" of fold {number}"));
    for &(part, members, churned) in counts {
        if members == 0 {
            return Err(Kind::Data
                .msg(format!("the {} part{name} holds no snapshot", part.name()))
                .hint("give it more months or customers under [split]"));
        }
        if part != Part::Test && (churned == 0 || churned == members) {
            let what = if churned == 0 { "nobody" } else { "everybody" };
            return Err(Kind::Data
                .msg(format!("in the {} part{name} {what} churns", part.name()))
                .hint("there is nothing to learn from one class; check the label"));
        }
    }
    Ok(())
}

/// A division by as-of month alone, so that a partition of the customers can be divided like the
/// whole. The as-of months of a later part begin only when the last label window of the part
/// before has ended: gap + horizon months later. So all that a part learned was known by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Division {
    /// None when there is only one division.
    pub number: Option<u32>,
    /// First and last month of each part, on the calendar.
    train: (i64, i64),
    validation: (i64, i64),
    test: (i64, i64),
}

/// What a division by time is made from, in months.
struct Lengths {
    /// From the last as-of month of a part to the first of the next.
    ahead: i64,
    train: Option<u32>,
    validation: u32,
    test: u32,
}

impl Division {
    /// The divisions that a split by time or by rolling origin declares, the oldest first. `last`
    /// is the calendar index of the last as-of month that has a label.
    pub fn all(calendar: Calendar, last: u16, declared: &Declared) -> Result<Vec<Self>> {
        let ahead = (declared.label.gap() + declared.label.window()).max(1);
        let (lengths, origins, step) = match *declared.split {
            SplitSpec::Time { validation_months, test_months } => {
                let (validation, test) = (validation_months, test_months);
                (Lengths { ahead: ahead.into(), train: None, validation, test }, 1, 0)
            }
            SplitSpec::Rolling {
                origins,
                validation_months: validation,
                test_months: test,
                step_months,
                train_months: train,
                embargo_months,
            } => {
                let ahead = i64::from(ahead) + i64::from(embargo_months);
                (Lengths { ahead, train, validation, test }, origins, step_months.unwrap_or(test))
            }
            _ => return Err(Kind::Internal.msg("only a split by time divides by month")),
        };
        let of = |number: u32| {
            let earlier = i64::from(origins - 1 - number) * i64::from(step);
            let division = Self::ending(i64::from(last) - earlier, &lengths);
            Division { number: (origins > 1).then_some(number), ..division }
        };
        let divisions: Vec<Self> = (0..origins).map(of).collect();
        match divisions.iter().all(|division| division.train.1 >= 0) {
            true => Ok(divisions),
            false => Err(too_short(calendar, declared.split, &lengths)),
        }
    }

    /// The division whose last test month is `last`.
    fn ending(last: i64, lengths: &Lengths) -> Self {
        let test_from = last - i64::from(lengths.test) + 1;
        let validation_to = test_from - lengths.ahead;
        let validation_from = validation_to - i64::from(lengths.validation) + 1;
        let train_to = validation_from - lengths.ahead;
        let train_from = lengths.train.map_or(0, |months| train_to - i64::from(months) + 1);
        Division {
            number: None,
            train: (train_from, train_to),
            validation: (validation_from, validation_to),
            test: (test_from, last),
        }
    }

    pub fn part(&self, month: u16) -> Part {
        let holds = |(from, to): (i64, i64)| (from..=to).contains(&i64::from(month));
        match self {
            Division { test, .. } if holds(*test) => Part::Test,
            Division { validation, .. } if holds(*validation) => Part::Validation,
            Division { train, .. } if holds(*train) => Part::Train,
            _ => Part::Purged,
        }
    }

    /// From counts of snapshots and of churners by as-of month.
    pub fn counts(&self, by_month: &[[u64; 2]]) -> PartCounts {
        Part::LABELLED.map(|part| {
            let months = by_month.iter().enumerate();
            let of_part = months.filter(|(month, _)| self.part(*month as u16) == part);
            of_part.fold((part, 0, 0), |(part, count, churned), (_, [more, gone])| {
                (part, count + more, churned + gone)
            })
        })
    }

    pub fn fold(&self, snapshots: &Snapshots) -> Fold {
        let parts = snapshots.months.iter().map(|&month| self.part(month)).collect();
        Fold { number: self.number, parts }
    }
}

fn too_short(calendar: Calendar, split: &SplitSpec, lengths: &Lengths) -> Error {
    let Lengths { ahead, validation, test, .. } = lengths;
    let (origins, names) = match split {
        SplitSpec::Rolling { origins, .. } => {
            (format!(" at each of {origins} origins"), "split.origins, ")
        }
        _ => (String::new(), ""),
    };
    let what = match split {
        SplitSpec::Rolling { embargo_months, .. } if *embargo_months > 0 => {
            format!("whose labels and embargo look {ahead} ahead")
        }
        _ => format!("whose labels look {ahead} ahead"),
    };
    let months = calendar.months;
    Kind::Data
        .msg(format!(
            "{months} months are too few for {validation} validation and {test} test months {what}{origins}"
        ))
        .hint(format!(
            "shorten {names}split.validation_months, split.test_months or the label's horizon"
        ))
}

fn by_table(snapshots: &Snapshots, column: &str) -> Result<Fold> {
    let part = |text: &String| {
        Part::parse(text).ok_or_else(|| {
            Kind::Data
                .msg(format!("column `{column}` of the snapshot table holds `{text}`"))
                .hint("a part is train, validation or test")
        })
    };
    let parts = snapshots.declared_parts.iter().map(part).collect::<Result<Vec<_>>>()?;
    if parts.len() != snapshots.len() {
        return Err(Kind::Config.msg("split.kind = \"snapshots\" needs label.kind = \"snapshots\""));
    }
    Ok(Fold { number: None, parts })
}

/// How many divisions a split declares, from the configuration and the header of a table of folds.
pub fn declared_folds(intake: &Intake, root: &Path, split: &SplitSpec) -> Result<usize> {
    Ok(match split {
        SplitSpec::Time { .. } | SplitSpec::Snapshots { .. } => 1,
        SplitSpec::Rolling { origins: folds, .. } | SplitSpec::Random { folds } => *folds as usize,
        SplitSpec::Folds { path } => fold_columns(intake, root, path)?.1.len(),
    })
}

/// The files of a table of folds, and the numbers k of its columns `split_k`.
fn fold_columns(intake: &Intake, root: &Path, path: &str) -> Result<(Vec<DataFile>, Vec<u32>)> {
    let files = source::expand(root, &Paths::One(path.to_owned()), None)?;
    let names = column_names(&files[0], &intake.limits())?;
    let numbers: Vec<u32> =
        (0..names.len() as u32).take_while(|k| names.contains(&format!("split_{k}"))).collect();
    if numbers.is_empty() {
        return Err(Kind::Schema
            .at(&files[0].path)
            .msg("has no column `split_0`")
            .hint("a table of folds has one column split_k per fold: train, valid or test"));
    }
    Ok((files, numbers))
}

fn by_folds(
    panel: &Panel,
    snapshots: &Snapshots,
    declared: &Declared,
    path: &str,
) -> Result<Vec<Fold>> {
    let intake = declared.intake;
    let (files, numbers) = fold_columns(intake, declared.root, path)?;
    let wanted: Vec<Wanted> = numbers
        .iter()
        .map(|k| Wanted {
            name: format!("split_{k}"),
            kind: ColumnType::Category,
            on_bad: OnBad::Error,
        })
        .collect();
    let mut parts = vec![vec![None; panel.customers.len()]; numbers.len()];
    scan(&files, &intake.data.key, &wanted, &intake.limits(), &mut |batch| {
        for (row, key) in batch.keys.iter().enumerate() {
            let Some(customer) = panel.customer(key) else { continue };
            for (k, cells) in batch.cells.iter().enumerate() {
                let Cells::Category(texts) = cells else { unreachable!("wanted as text") };
                let text = &texts[row];
                let part = Part::parse(text).ok_or_else(|| {
                    let message = format!("`split_{k}` of customer `{key}` is `{text}`");
                    batch.error(Kind::Data, row, message).hint("a part is train, valid or test")
                })?;
                parts[k][customer] = Some(part);
            }
        }
        Ok(())
    })?;
    let fold = |(number, parts): (u32, Vec<Option<Part>>)| {
        let of = |&customer: &u32| parts[customer as usize].unwrap_or(Part::Purged);
        Fold { number: Some(number), parts: snapshots.customers.iter().map(of).collect() }
    };
    Ok(numbers.into_iter().zip(parts).map(fold).collect())
}

/// Customers are dealt to folds in random order, those who ever churn apart from the others, so
/// that every fold has its share of churn and no customer is in two parts.
fn at_random(panel: &Panel, snapshots: &Snapshots, seeds: &Seeds, folds: u32) -> Result<Vec<Fold>> {
    let mut ever = vec![false; panel.customers.len()];
    for (customer, churned) in snapshots.customers.iter().zip(&snapshots.churned) {
        ever[*customer as usize] |= churned;
    }
    let mut fold_of = vec![0u32; panel.customers.len()];
    let mut dealt = [0u32; 2];
    for customer in seeds.shuffled("folds", 0, panel.customers.len()) {
        let class = usize::from(ever[customer as usize]);
        fold_of[customer as usize] = dealt[class] % folds;
        dealt[class] += 1;
    }
    let fold = |number: u32| {
        let part = |customer: &u32| match fold_of[*customer as usize] {
            f if f == number => Part::Test,
            f if f == (number + 1) % folds => Part::Validation,
            _ => Part::Train,
        };
        Fold { number: Some(number), parts: snapshots.customers.iter().map(part).collect() }
    };
    if folds < 3 {
        return Err(Kind::Config.msg("split.folds must be at least 3: train, validation, test"));
    }
    Ok((0..folds).map(fold).collect())
}
