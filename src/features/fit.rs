//! Learns the statistics of all features from the train part.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::derive::{self, Layout, WINDOWED};
use super::scale::FittedNumber;
use crate::config::FeatureSpec;
use crate::error::{Kind, Result};
use crate::panel::{AttributeCells, Fold, MONTHS_MAX, Panel, Part, Snapshots};
use crate::seeds::Seeds;

/// Train rows that statistics are made from. More would move a median by less than 1/500 of a
/// standard deviation.
const SAMPLE_ROWS_MAX: usize = 200_000;

/// Values of a category that the network sees month by month, as one-hot columns.
const DATED_VALUES_MAX: u32 = 32;

/// Everything that was learned about the features; nothing else carries statistics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FittedFeatures {
    pub spec: FeatureSpec,
    /// The panel must hold exactly these measures, in this order.
    pub measures: Vec<String>,
    pub static_numbers: Vec<FittedNumber>,
    pub static_categories: Vec<FittedCategory>,
    pub month_numbers: Vec<FittedNumber>,
    /// One-hot, since they change from month to month.
    pub month_categories: Vec<FittedCategory>,
    pub window_numbers: Vec<FittedNumber>,
}

/// The codes of a category: 0 = missing, 1 = rare or unknown, 2.. = `values`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FittedCategory {
    pub name: String,
    /// Most frequent first.
    pub values: Vec<String>,
}

/// Codes that stand before the named values.
pub const RESERVED_CODES: usize = 2;

/// That of rare and unknown values.
pub const UNKNOWN_CODE: u32 = 1;

impl FittedCategory {
    pub fn code(&self, value: Option<&str>) -> u32 {
        let Some(value) = value else { return 0 };
        let named = self.values.iter().position(|v| v == value);
        named.map_or(UNKNOWN_CODE, |at| (at + RESERVED_CODES) as u32)
    }

    /// Number of codes.
    pub fn codes(&self) -> usize {
        self.values.len() + RESERVED_CODES
    }
}

impl FittedFeatures {
    pub fn static_width(&self) -> usize {
        width(&self.static_numbers)
    }

    pub fn month_width(&self) -> usize {
        let one_hot = self.month_categories.iter().map(FittedCategory::codes).sum::<usize>();
        width(&self.month_numbers) + one_hot
    }

    pub fn window_width(&self) -> usize {
        width(&self.window_numbers)
    }

    /// Borders of the bins of each number of a customer, in the order in which they are encoded;
    /// empty for a column without bins.
    pub fn static_borders(&self) -> Vec<Vec<f32>> {
        borders(&self.static_numbers).collect()
    }

    /// The same of each number of a snapshot.
    pub fn snapshot_borders(&self) -> Vec<Vec<f32>> {
        let one_hot = self.month_width() - width(&self.month_numbers);
        borders(&self.static_numbers)
            .chain(borders(&self.month_numbers))
            .chain(std::iter::repeat_n(Vec::new(), one_hot))
            .chain(borders(&self.window_numbers))
            .collect()
    }

    /// Number of codes of each static category.
    pub fn category_codes(&self) -> Vec<usize> {
        self.static_categories.iter().map(FittedCategory::codes).collect()
    }

    /// What is wrong with statistics that come from elsewhere, if anything is.
    pub fn fault(&self) -> Option<String> {
        let windows = &self.spec.windows;
        let longest = 1..=MONTHS_MAX as u32;
        if let Some(window) = windows.iter().find(|window| !longest.contains(window)) {
            return Some(format!("a window of {window} months"));
        }
        let windowed = self.measures.len() * windows.len() * WINDOWED.len();
        if self.window_numbers.len() != windowed {
            let have = self.window_numbers.len();
            return Some(format!("it has {have} aggregates of windows, expected {windowed}"));
        }
        let numbers = [&self.static_numbers, &self.month_numbers, &self.window_numbers];
        numbers.into_iter().flatten().find_map(FittedNumber::fault)
    }

    /// Checks that a panel has the columns that were fitted, in the same order.
    pub fn check(&self, panel: &Panel) -> Result<Layout> {
        let layout = Layout::new(panel, self.spec.calendar);
        let names = |numbers: &[FittedNumber]| -> Vec<String> {
            numbers.iter().map(|n| n.name.clone()).collect()
        };
        let categories = |fitted: &[FittedCategory]| -> Vec<String> {
            fitted.iter().map(|c| c.name.clone()).collect()
        };
        let of = |places: &[(usize, usize)]| -> Vec<String> {
            places.iter().map(|&at| derive::column_name(panel, at)).collect()
        };
        for (have, want) in [
            (panel.measures.clone(), self.measures.clone()),
            (of(&layout.static_numbers), names(&self.static_numbers)),
            (of(&layout.static_categories), categories(&self.static_categories)),
            (layout.month_names(panel), names(&self.month_numbers)),
            (of(&layout.dated_categories), categories(&self.month_categories)),
        ] {
            if have != want {
                return Err(Kind::Schema.msg(format!(
                    "the data gives the features {have:?}, the model was fitted on {want:?}"
                )));
            }
        }
        Ok(layout)
    }
}

/// Of all values, then nothing for their indicators.
fn borders(numbers: &[FittedNumber]) -> impl Iterator<Item = Vec<f32>> {
    let indicators = width(numbers) - numbers.len();
    let values = numbers.iter().map(|number| number.borders.clone());
    values.chain(std::iter::repeat_n(Vec::new(), indicators))
}

fn width(numbers: &[FittedNumber]) -> usize {
    numbers.iter().map(FittedNumber::width).sum()
}

/// Learns the features of one fold. Only train snapshots are looked at, and of their customers
/// only months up to the last train as-of month. The result does not depend on row order.
pub fn fit(
    panel: &Panel,
    snapshots: &Snapshots,
    fold: &Fold,
    spec: &FeatureSpec,
) -> Result<FittedFeatures> {
    let layout = Layout::new(panel, spec.calendar);
    let train = fold.members(Part::Train);
    let last_month = last_train_month(snapshots, &train);
    let sample = sample(train, snapshots);
    let mut customers: Vec<u32> = sample.iter().map(|&s| snapshots.customers[s as usize]).collect();
    customers.dedup(); // Snapshots are ordered by customer.
    let months: Vec<(usize, usize)> = history(panel, &customers, &last_month);

    let month_names = layout.month_names(panel);
    let window_names = layout.window_names(panel, &spec.windows);
    let places: Vec<(usize, usize)> = sample
        .iter()
        .map(|&s| {
            let customer = snapshots.customers[s as usize] as usize;
            (customer, snapshots.months[s as usize] as usize - panel.starts[customer] as usize)
        })
        .collect();
    Ok(FittedFeatures {
        spec: spec.clone(),
        measures: panel.measures.clone(),
        static_numbers: fit_static(panel, &layout, &customers, spec),
        static_categories: fit_categories(
            panel,
            &layout.static_categories,
            &places,
            spec,
            spec.category_values_max,
        ),
        month_numbers: fit_numbers(month_names, &months, spec, |place, out| {
            derive::month(panel, &layout, place.0, place.1, out);
        }),
        month_categories: fit_categories(
            panel,
            &layout.dated_categories,
            &places,
            spec,
            spec.category_values_max.min(DATED_VALUES_MAX),
        ),
        window_numbers: fit_numbers(window_names, &places, spec, |place, out| {
            derive::windows(panel, &spec.windows, place, out);
        }),
    })
}

/// The last train as-of month by customer, as calendar index.
fn last_train_month(snapshots: &Snapshots, train: &[u32]) -> std::collections::HashMap<u32, u16> {
    let mut last = std::collections::HashMap::new();
    for &s in train {
        // Months rise within a customer, so the last one stays.
        last.insert(snapshots.customers[s as usize], snapshots.months[s as usize]);
    }
    last
}

/// A fixed random subset, in order; which one depends only on how many there are.
fn sample(train: Vec<u32>, snapshots: &Snapshots) -> Vec<u32> {
    if train.len() <= SAMPLE_ROWS_MAX {
        return train;
    }
    let seeds = Seeds::new(snapshots.len() as u64);
    let drawn = seeds.drawn("feature sample", SAMPLE_ROWS_MAX, train.len());
    let mut chosen: Vec<u32> = drawn.iter().map(|&i| train[i as usize]).collect();
    chosen.sort_unstable();
    chosen
}

/// (customer, month since its first row) of all months that train customers may show, thinned
/// evenly to the sample size.
fn history(
    panel: &Panel,
    customers: &[u32],
    last_month: &std::collections::HashMap<u32, u16>,
) -> Vec<(usize, usize)> {
    let mut months = Vec::new();
    for &customer in customers {
        let start = panel.starts[customer as usize];
        let last = last_month[&customer] - start;
        months.extend((0..=last as usize).map(|since| (customer as usize, since)));
    }
    let step = months.len().div_ceil(SAMPLE_ROWS_MAX).max(1);
    // A step that is coprime to the usual history lengths would still alias; drawing a random
    // member of each stretch does not.
    let seeds = Seeds::new(months.len() as u64);
    let pick = |(i, stretch): (usize, &[(usize, usize)])| {
        stretch[(seeds.number("history", i as u64) % stretch.len() as u64) as usize]
    };
    if step == 1 { months } else { months.chunks(step).enumerate().map(pick).collect() }
}

fn fit_numbers(
    names: Vec<String>,
    places: &[(usize, usize)],
    spec: &FeatureSpec,
    raw: impl Fn((usize, usize), &mut [f32]) + Sync,
) -> Vec<FittedNumber> {
    let width = names.len();
    if width == 0 {
        return Vec::new();
    }
    let mut rows = vec![0.0f32; places.len() * width];
    rows.par_chunks_mut(width).zip(places).for_each(|(row, &place)| raw(place, row));
    names
        .into_par_iter()
        .enumerate()
        .map(|(column, name)| {
            let mut values: Vec<f32> = rows.iter().skip(column).step_by(width).copied().collect();
            FittedNumber::fit(name, &mut values, spec.scaling, spec.log_above_skewness)
        })
        .collect()
}

fn fit_static(
    panel: &Panel,
    layout: &Layout,
    customers: &[u32],
    spec: &FeatureSpec,
) -> Vec<FittedNumber> {
    let fit = |&at: &(usize, usize)| {
        let (table, column) = derive::column(panel, at);
        let AttributeCells::Number(cells) = &column.cells else {
            unreachable!("the layout lists numbers here")
        };
        let value = |&customer: &u32| {
            table.oldest(customer as usize).map_or(f32::NAN, |version| cells[version])
        };
        let mut values: Vec<f32> = customers.iter().map(value).collect();
        FittedNumber::fit(column.name.clone(), &mut values, spec.scaling, spec.log_above_skewness)
    };
    layout.static_numbers.iter().map(fit).collect()
}

fn fit_categories(
    panel: &Panel,
    columns: &[(usize, usize)],
    places: &[(usize, usize)],
    spec: &FeatureSpec,
    values_max: u32,
) -> Vec<FittedCategory> {
    let fit = |&at: &(usize, usize)| {
        let (table, column) = derive::column(panel, at);
        let AttributeCells::Category { codes, values } = &column.cells else {
            unreachable!("the layout lists categories here")
        };
        let mut counts = vec![0u32; values.len()];
        for &(customer, since) in places {
            let now = panel.calendar.month(panel.starts[customer] as usize + since);
            if let Some(code) = table.version(customer, now).and_then(|version| codes[version]) {
                counts[code as usize] += 1;
            }
        }
        let mut order: Vec<usize> =
            (0..values.len()).filter(|&v| counts[v] >= spec.category_rows_min).collect();
        order.sort_by_key(|&v| (std::cmp::Reverse(counts[v]), &values[v]));
        order.truncate(values_max as usize);
        let values = order.into_iter().map(|v| values[v].clone()).collect();
        FittedCategory { name: column.name.clone(), values }
    };
    columns.iter().map(fit).collect()
}
