//! Who churned when: one snapshot per (customer, as-of month) that has a label.
//!
//! The label window of an as-of month `a` is the months `a + gap + 1 ..= a + gap + horizon`. A
//! snapshot exists only if its whole window is observed, so that a customer whose future is not
//! yet known never counts as one who stayed.

use std::path::Path;

use super::{Calendar, Declared, Inputs, Intake, Panel};
use crate::clock::Month;
use crate::config::{ColumnType, LabelSpec, OnBad, Paths, SourceSpec, SplitSpec};
use crate::error::{Error, Kind, Result};
use crate::source::read::column_names;
use crate::source::{self, Batch, Cells, DataFile, Wanted, scan};

/// All labelled examples, ordered by customer, then month.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshots {
    pub customers: Vec<u32>,
    /// Calendar index of the as-of month.
    pub months: Vec<u16>,
    /// True if churn falls in the window.
    pub churned: Vec<bool>,
    /// Length of the label tensor's last axis.
    pub horizon: usize,
    /// `[snapshots, horizon]`: 1 = churned in that month, 0 = still a customer after it, -1 = no
    /// longer at risk.
    pub hazards: Vec<i8>,
    /// Part as written in the snapshot table, if it has one.
    pub declared_parts: Vec<String>,
    /// Windows that the panel's end cuts off, ordered by customer, then month. They are no
    /// snapshots, but what was seen of them can judge a risk curve.
    pub open: Vec<OpenWindow>,
}

/// What is known of a window: the months that were seen, to the churn or to the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FollowUp {
    /// From 1. With a churn, it fell in the last of them; without, the customer stayed for all.
    pub months: u16,
    pub churned: bool,
}

/// A (customer, as-of month) pair whose window is seen in part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenWindow {
    pub customer: u32,
    /// Calendar index of the as-of month.
    pub month: u16,
    pub follow_up: FollowUp,
}

impl Snapshots {
    pub fn len(&self) -> usize {
        self.customers.len()
    }

    pub fn is_empty(&self) -> bool {
        self.customers.is_empty()
    }

    /// Snapshots to be scored: (customer, calendar index) pairs, by rising customer.
    pub fn unlabelled(places: impl Iterator<Item = (usize, usize)>) -> Self {
        let mut snapshots = Snapshots { horizon: 1, ..Default::default() };
        places.for_each(|(customer, month)| snapshots.push(customer, month, None));
        snapshots
    }

    /// The customer of a snapshot, and the months from its first row to the as-of month.
    pub fn place(&self, panel: &Panel, snapshot: usize) -> (usize, usize) {
        let customer = self.customers[snapshot] as usize;
        let since = self.months[snapshot].checked_sub(panel.starts[customer]);
        (customer, since.expect("a snapshot lies in its customer's history") as usize)
    }

    /// The label of a snapshot by month of its horizon, see [`Snapshots::hazards`].
    pub fn hazards_of(&self, snapshot: usize) -> &[i8] {
        &self.hazards[snapshot * self.horizon..][..self.horizon]
    }

    /// Share that churned in each month of the horizon among those of the `chosen` who were still
    /// there. Half a churn and half a stay are added, so that no month has a rate of 0 or 1.
    pub fn hazard_rates(&self, chosen: &[u32]) -> Vec<f64> {
        let rate = |month: usize| {
            let labels = chosen.iter().map(|&s| self.hazards_of(s as usize)[month]);
            let (mut churned, mut at_risk) = (0.5, 1.0);
            for hazard in labels.filter(|&hazard| hazard >= 0) {
                churned += f64::from(hazard);
                at_risk += 1.0;
            }
            churned / at_risk
        };
        (0..self.horizon).map(rate).collect()
    }

    pub fn follow_up(&self, snapshot: usize) -> FollowUp {
        let seen = self.hazards_of(snapshot).iter().filter(|&&hazard| hazard >= 0).count();
        FollowUp { months: seen as u16, churned: self.churned[snapshot] }
    }

    fn push(&mut self, customer: usize, month: usize, churned_in: Option<usize>) {
        self.customers.push(customer as u32);
        self.months.push(month as u16);
        self.churned.push(churned_in.is_some());
        self.hazards.extend((0..self.horizon).map(|k| match churned_in {
            Some(churn) if k == churn => 1,
            Some(churn) if k > churn => -1,
            _ => 0,
        }));
    }
}

/// Makes the snapshots that the configuration declares.
pub fn label(panel: &Panel, declared: &Declared) -> Result<Snapshots> {
    let Declared { intake, inputs, root, label: spec, split, .. } = *declared;
    let snapshots = match spec {
        LabelSpec::Column { source, column } => {
            let (files, source) = (inputs.of(intake, source)?, intake.source(source)?);
            by_column(panel, intake, &Column { files, source, column })?
        }
        LabelSpec::Snapshots { path, as_of, column } => {
            let part = match split {
                SplitSpec::Snapshots { column } => Some(column.as_str()),
                _ => None,
            };
            by_table(panel, intake, root, &Table { path, as_of, column, part })?
        }
        LabelSpec::Event { source, column, gap, horizon } => {
            let (files, source) = (inputs.of(intake, source)?, intake.source(source)?);
            let dates = churn_months(panel, intake, &Column { files, source, column })?;
            by_event(panel, &dates, *gap as usize, *horizon as usize)
        }
        LabelSpec::Inactivity { measure, months, below, trailing, gap } => {
            let measure = panel.measure(measure).ok_or_else(|| {
                Kind::Config.msg(format!("label.measure: there is no measure `{measure}`"))
            })?;
            let rule = Inactivity {
                measure,
                months: *months as usize,
                below: *below,
                trailing: *trailing as usize,
                gap: *gap as usize,
            };
            by_inactivity(panel, &rule)
        }
    };
    Ok(snapshots)
}

/// The error for a data set without any snapshot.
pub fn nothing_labelled(calendar: &Calendar, spec: &LabelSpec) -> Error {
    let needed = spec.gap() + spec.window();
    let error = Kind::Data.msg("no customer has a label");
    if calendar.dated && needed >= calendar.months {
        return error.hint(format!(
            "the label looks {needed} months ahead, the panel has {} months ({} to {})",
            calendar.months,
            calendar.first,
            calendar.last()
        ));
    }
    error.hint("check that the label's customers and months are those of the other sources")
}

fn by_column(panel: &Panel, intake: &Intake, place: &Column) -> Result<Snapshots> {
    let cells = read_column(panel, intake, place, ColumnType::Category)?;
    let mut snapshots = Snapshots { horizon: 1, ..Default::default() };
    let last = panel.calendar.months as usize - 1;
    for (customer, cell) in cells.into_iter().enumerate() {
        if let Cell::Label(churned) = cell {
            snapshots.push(customer, last, churned.then_some(0));
        }
    }
    Ok(snapshots)
}

struct Table<'a> {
    path: &'a str,
    as_of: &'a str,
    column: &'a str,
    part: Option<&'a str>,
}

fn by_table(panel: &Panel, intake: &Intake, root: &Path, table: &Table) -> Result<Snapshots> {
    if !panel.calendar.dated {
        return Err(Kind::Config.msg("a snapshot table needs an activity or event source"));
    }
    let files = source::expand(root, &Paths::One(table.path.to_owned()), None)?;
    let wanted = |name: &str, kind| Wanted { name: name.into(), kind, on_bad: OnBad::Error };
    let mut columns =
        vec![wanted(table.as_of, ColumnType::Date), wanted(table.column, ColumnType::Category)];
    columns.extend(table.part.map(|name| wanted(name, ColumnType::Category)));
    let mut found: Vec<(usize, usize, bool, String)> = Vec::new();
    scan(&files, &intake.data.key, &columns, &intake.limits(), &mut |batch| {
        let (Cells::Date(days), Cells::Category(labels)) = (&batch.cells[0], &batch.cells[1])
        else {
            unreachable!("columns come back as they were wanted")
        };
        for (row, key) in batch.keys.iter().enumerate() {
            let at = |message: String| batch.error(Kind::Data, row, message);
            let (Some(day), Some(text)) = (days[row], labels.get(row)) else {
                return Err(at("as-of month and label must both be there".into()));
            };
            let churned = truth(text).ok_or_else(|| no_truth(&batch, row, text))?;
            let part = match batch.cells.get(2) {
                Some(Cells::Category(parts)) => parts[row].to_owned(),
                _ => String::new(),
            };
            let month = Month::of_day(day);
            let place = panel.customer(key).and_then(|customer| {
                let index = panel.calendar.index(month)?;
                panel.row(customer, index).map(|_| (customer, index))
            });
            let (customer, index) = place.ok_or_else(|| {
                at(format!("customer `{key}` has no history at {month}"))
                    .hint("set panel.start = \"calendar\", or drop the snapshot")
            })?;
            found.push((customer, index, churned, part));
        }
        Ok(())
    })?;
    found.sort();
    if let Some(pair) = found.windows(2).find(|p| (p[0].0, p[0].1) == (p[1].0, p[1].1)) {
        let (id, month) = (&panel.customers[pair[0].0], panel.calendar.month(pair[0].1));
        return Err(Kind::Data
            .msg(format!("`{}` has two snapshots of customer `{id}` in {month}", table.path)));
    }
    let mut snapshots = Snapshots { horizon: 1, ..Default::default() };
    for (customer, month, churned, part) in found {
        snapshots.push(customer, month, churned.then_some(0));
        snapshots.declared_parts.push(part);
    }
    Ok(snapshots)
}

/// Calendar index of each customer's churn, None if it stayed. Negative: before the panel.
fn churn_months(panel: &Panel, intake: &Intake, place: &Column) -> Result<Vec<Option<i32>>> {
    let cells = read_column(panel, intake, place, ColumnType::Date)?;
    let index = |cell| match cell {
        Cell::Day(day) => Some(Month::of_day(day).0 - panel.calendar.first.0),
        _ => None,
    };
    Ok(cells.into_iter().map(index).collect())
}

fn by_event(panel: &Panel, churn: &[Option<i32>], gap: usize, horizon: usize) -> Snapshots {
    let mut snapshots = Snapshots { horizon, ..Default::default() };
    let months = panel.calendar.months as usize;
    for (customer, churn) in churn.iter().enumerate() {
        let start = panel.starts[customer] as usize;
        for month in start..months.saturating_sub(gap + 1) {
            // Gone by the as-of month, or in the gap: no longer a customer when the window opens.
            let ahead = churn.map(|churn| churn - (month + gap + 1) as i32);
            if ahead.is_some_and(|ahead| ahead < 0) {
                break;
            }
            let seen = (months - 1 - gap - month).min(horizon);
            let churned_in = ahead.map(|ahead| ahead as usize).filter(|&k| k < seen);
            if seen == horizon {
                snapshots.push(customer, month, churned_in);
                continue;
            }
            let months = churned_in.map_or(seen, |k| k + 1) as u16;
            snapshots.open.push(OpenWindow {
                customer: customer as u32,
                month: month as u16,
                follow_up: FollowUp { months, churned: churned_in.is_some() },
            });
        }
    }
    snapshots
}

/// Which customers are still there at the end of the panel's last month, and so can still leave:
/// those without a churn date up to then, or active in the trailing months of an inactivity
/// label. The other labels do not tell.
pub fn still_there(
    panel: &Panel,
    intake: &Intake,
    inputs: &Inputs,
    spec: &LabelSpec,
) -> Result<Vec<bool>> {
    let all = vec![true; panel.customers.len()];
    let last = panel.calendar.months as usize - 1;
    match spec {
        LabelSpec::Event { source, column, .. } => {
            if !tells_who_left(intake, inputs, spec)? {
                return Ok(all);
            }
            let files = inputs.of(intake, source)?;
            let place = Column { files, source: intake.source(source)?, column };
            let churn = churn_months(panel, intake, &place)?;
            Ok(churn.iter().map(|churn| churn.is_none_or(|month| month > last as i32)).collect())
        }
        LabelSpec::Inactivity { measure, trailing, .. } => {
            let Some(measure) = panel.measure(measure) else { return Ok(all) };
            let active = |customer: usize| {
                let rows = panel.offsets[customer]..panel.offsets[customer + 1];
                rows.rev().take(*trailing as usize).any(|row| panel.at(row)[measure] > 0.0)
            };
            Ok((0..panel.customers.len()).map(active).collect())
        }
        LabelSpec::Column { .. } | LabelSpec::Snapshots { .. } => Ok(all),
    }
}

/// Whether the label's column is in the input: a scoring input need not say who has left already.
pub fn tells_who_left(intake: &Intake, inputs: &Inputs, spec: &LabelSpec) -> Result<bool> {
    let LabelSpec::Event { source, column, .. } = spec else { return Ok(false) };
    let limits = intake.limits();
    for file in inputs.of(intake, source)? {
        if !column_names(file, &limits)?.contains(column) {
            return Ok(false);
        }
    }
    Ok(true)
}

struct Inactivity {
    measure: usize,
    months: usize,
    below: f64,
    trailing: usize,
    gap: usize,
}

fn by_inactivity(panel: &Panel, rule: &Inactivity) -> Snapshots {
    let mut snapshots = Snapshots { horizon: 1, ..Default::default() };
    for customer in 0..panel.customers.len() {
        let start = panel.starts[customer] as usize;
        let rows = panel.offsets[customer]..panel.offsets[customer + 1];
        let series: Vec<f64> =
            rows.map(|row| f64::from(panel.at(row)[rule.measure]).max(0.0)).collect();
        for now in 0..series.len().saturating_sub(rule.gap + rule.months) {
            let before = &series[(now + 1).saturating_sub(rule.trailing)..=now];
            let after = &series[now + rule.gap + 1..=now + rule.gap + rule.months];
            if before.iter().all(|&x| x == 0.0) {
                continue; // Not active: nothing that could end.
            }
            // A customer younger than the trailing window was worth nothing before it came.
            let mean_before = before.iter().sum::<f64>() / rule.trailing as f64;
            let mean_after = after.iter().sum::<f64>() / rule.months as f64;
            let churned =
                mean_after == 0.0 || (rule.below > 0.0 && mean_after < rule.below * mean_before);
            snapshots.push(customer, start + now, churned.then_some(0));
        }
    }
    snapshots
}

#[derive(PartialEq, Eq)]
enum Cell {
    Missing,
    Label(bool),
    Day(i32),
}

/// A column of an attributes source, and where its table lies.
struct Column<'a> {
    files: &'a [DataFile],
    source: &'a SourceSpec,
    column: &'a str,
}

/// One cell per customer.
fn read_column(
    panel: &Panel,
    intake: &Intake,
    place: &Column,
    kind: ColumnType,
) -> Result<Vec<Cell>> {
    let key = intake.key(place.source);
    let wanted = [Wanted { name: place.column.into(), kind, on_bad: OnBad::Error }];
    let mut cells: Vec<Cell> = panel.customers.iter().map(|_| Cell::Missing).collect();
    // Most tables are sorted by customer.
    let mut next = 0;
    scan(place.files, key, &wanted, &intake.limits(), &mut |batch| {
        for (row, key) in batch.keys.iter().enumerate() {
            let follows = panel.customers.get(next).is_some_and(|id| id == key);
            let found = if follows { Some(next) } else { panel.customer(key) };
            let Some(customer) = found else { continue };
            next = customer + 1;
            let cell = match &batch.cells[0] {
                Cells::Category(texts) => match texts.get(row) {
                    Some(text) => {
                        let churned = truth(text).ok_or_else(|| no_truth(&batch, row, text))?;
                        Some(Cell::Label(churned))
                    }
                    None => None,
                },
                Cells::Date(days) => days[row].map(Cell::Day),
                Cells::Number(_) => unreachable!("labels are read as text or dates"),
            };
            let Some(cell) = cell else { continue };
            if cells[customer] != Cell::Missing && cells[customer] != cell {
                let message = format!("customer `{key}` has two different `{}`", place.column);
                return Err(batch.error(Kind::Data, row, message).hint("a label has one value"));
            }
            cells[customer] = cell;
        }
        Ok(())
    })?;
    Ok(cells)
}

fn truth(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" => Some(true),
        "0" | "false" | "no" => Some(false),
        _ => None,
    }
}

fn no_truth(batch: &Batch, row: usize, text: &str) -> Error {
    batch
        .error(Kind::Data, row, format!("label `{text}` is not 0 or 1"))
        .hint("a label is 0 or 1, true or false, yes or no")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::panel::BuildReport;

    fn panel(series: &[f32], start: u16) -> Panel {
        Panel {
            customers: vec!["a".into()],
            calendar: Calendar {
                first: Month::new(2024, 1),
                months: (start as usize + series.len()) as u32,
                dated: true,
            },
            measures: vec!["spend".into()],
            offsets: vec![0, series.len()],
            starts: vec![start],
            values: series.to_vec(),
            attributes: Vec::new(),
            report: BuildReport::default(),
        }
    }

    #[test]
    fn event_windows_and_censoring() {
        // Eight months, first row in month 1; horizon 2, gap 1: the last as-of month is 7 - 3 = 4.
        let panel = panel(&[1.0; 7], 1);
        let stays = by_event(&panel, &[None], 1, 2);
        assert_eq!(stays.months, [1, 2, 3, 4]);
        assert!(stays.churned.iter().all(|c| !c));
        // Churn in month 5: window of 2 is {4, 5}, of 3 is {5, 6}; at 4 it falls in the gap.
        let leaves = by_event(&panel, &[Some(5)], 1, 2);
        assert_eq!(leaves.months, [1, 2, 3]);
        assert_eq!(leaves.churned, [false, true, true]);
        assert_eq!(leaves.hazards, [0, 0, 0, 1, 1, -1]);
        let seen = |months, churned| FollowUp { months, churned };
        let follow_ups: Vec<FollowUp> = (0..3).map(|s| leaves.follow_up(s)).collect();
        assert_eq!(follow_ups, [seen(2, false), seen(2, true), seen(1, true)]);
    }

    #[test]
    fn windows_that_the_panel_cuts_off() {
        // Eight months from 0, horizon 3, no gap: of the windows after months 5 and 6 two months
        // and one are seen, of that after month 7 none.
        let panel = panel(&[1.0; 8], 0);
        let open = |churn| {
            let snapshots = by_event(&panel, &[churn], 0, 3);
            assert_eq!(snapshots.months.last(), Some(&4), "the last whole window");
            let of = |o: &OpenWindow| (o.month, o.follow_up.months, o.follow_up.churned);
            snapshots.open.iter().map(of).collect::<Vec<_>>()
        };
        assert_eq!(open(None), [(5, 2, false), (6, 1, false)]);
        assert_eq!(open(Some(7)), [(5, 2, true), (6, 1, true)]);
        assert_eq!(open(Some(6)), [(5, 1, true)]);
        // A date beyond the panel is not seen yet.
        assert_eq!(open(Some(9)), [(5, 2, false), (6, 1, false)]);
        assert!(by_event(&panel, &[None], 0, 1).open.is_empty());
    }

    #[test]
    fn inactivity_at_zero_and_below_a_share() {
        let panel = panel(&[10.0, 10.0, 0.0, 0.0, 1.0, 1.0], 0);
        let rule = |below| Inactivity { measure: 0, months: 2, below, trailing: 2, gap: 0 };
        let zero = by_inactivity(&panel, &rule(0.0));
        // Month 3 saw no activity in its trailing months, so it is no example.
        assert_eq!(zero.months, [0, 1, 2]);
        assert_eq!(zero.churned, [false, true, false]);
        let share = by_inactivity(&panel, &rule(0.4));
        assert_eq!(share.churned, [false, true, true]);
    }
}
