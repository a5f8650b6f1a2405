//! One source and its rules: which columns they need, one pass over the files, the findings.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::checkers::{self, Checker, Offender, Slot, Tally, Value, hash_of};
use super::plan;
use super::report::{Finding, Rule};
use crate::clock::{Month, parse_day};
use crate::config::{
    Check, CheckRule, ColumnType, Config, Format, LabelSpec, OnBad, Severity, SourceSpec,
};
use crate::error::{Error, Kind, Result};
use crate::source::{self, Batch, Cells, DataFile, Limits, ScanStats, Wanted, csv_scan};

/// A source that is ready to be read.
pub(super) struct Table<'c> {
    pub source: &'c SourceSpec,
    pub rules: Vec<Check>,
    key: &'c str,
    root: &'c Path,
    files: Vec<DataFile>,
    limits: Limits,
    wanted: Vec<Wanted>,
    label: &'c LabelSpec,
}

/// A source that was read.
pub(super) struct Scanned<'t> {
    /// One for each rule.
    checkers: Vec<Box<dyn Checker + 't>>,
    stats: ScanStats,
    /// The first and the last month of the time column.
    pub first_month: Option<Month>,
    pub last_month: Option<Month>,
}

impl Scanned<'_> {
    pub(super) fn rows(&self) -> u64 {
        self.stats.rows
    }
}

impl<'c> Table<'c> {
    pub(super) fn open(config: &'c Config, root: &'c Path, source: &'c SourceSpec) -> Result<Self> {
        let key = source.key.as_deref().unwrap_or(&config.data.key);
        let rules = plan::rules(config, source, key);
        Ok(Table {
            source,
            key,
            root,
            files: source::expand(root, &source.path, source.format)?,
            limits: Limits::from(&config.data),
            wanted: plan::wanted(source, &config.label, (key, &rules)),
            label: &config.label,
            rules,
        })
    }

    pub(super) fn has_rule(&self, rule: CheckRule) -> bool {
        self.rules.iter().any(|r| r.rule == rule)
    }

    /// Hashes of all customers.
    pub(super) fn customers(&self) -> Result<HashSet<u64>> {
        let mut customers = HashSet::new();
        self.read(&[], &mut |batch| {
            customers.extend(batch.keys.iter().map(|key| hash_of(Value::Text(key))));
            Ok(())
        })?;
        Ok(customers)
    }

    /// Reads the source once for all its rules.
    pub(super) fn scan<'t>(
        &'t self,
        customers: &'t HashMap<&str, HashSet<u64>>,
    ) -> Result<Scanned<'t>> {
        let checker = |rule| self.checker(rule, customers);
        let mut checkers = self.rules.iter().map(checker).collect::<Result<Vec<_>>>()?;
        let time = self.source.time.as_deref().and_then(|name| self.place_of(name));
        let (mut first_day, mut last_day) = (None, None);
        let stats = self.read(&self.wanted, &mut |batch| {
            if let Some(Cells::Date(days)) = time.map(|at| &batch.cells[at]) {
                first_day = days.iter().copied().flatten().chain(first_day).min();
                last_day = last_day.max(days.iter().copied().flatten().max());
            }
            checkers.iter_mut().for_each(|checker| checker.observe(&batch));
            Ok(())
        })?;
        let (first_month, last_month) = (first_day.map(Month::of_day), last_day.map(Month::of_day));
        Ok(Scanned { checkers, stats, first_month, last_month })
    }

    /// Unreadable columns first, then the rules in their order.
    pub(super) fn findings(&self, scanned: Scanned, last: Option<Month>) -> Vec<Finding> {
        let Scanned { checkers, stats, .. } = scanned;
        let source = &self.source.name;
        let mut findings = Vec::new();
        for column in plan::strict_columns(self.source, self.label) {
            let Some(&failed) = stats.nulled.get(column) else { continue };
            let (severity, mostly) = (Severity::Error, 1.0);
            let rule = Rule { source, name: "readable", column: Some(column), severity, mostly };
            let tally = Tally { rows: stats.rows, failed, first: None };
            findings.push(Finding::new(&rule, &tally, Some(self.first_unreadable(column))));
        }
        for (check, checker) in self.rules.iter().zip(checkers) {
            let mut tally = checker.finish(last);
            let mut example = tally.first.take().map(|offender| self.describe(&offender));
            if let Some((column, count)) = self.unreadable_under(check, &stats) {
                tally.rows += count;
                tally.failed += count;
                example.get_or_insert_with(|| self.first_unreadable(column));
            }
            let (column, severity, mostly) =
                (check.column.as_deref(), check.severity, check.mostly);
            let rule = Rule { source, name: plan::rule_name(check.rule), column, severity, mostly };
            findings.push(Finding::new(&rule, &tally, example));
        }
        findings
    }

    fn read(
        &self,
        wanted: &[Wanted],
        consume: &mut dyn FnMut(Batch) -> Result<()>,
    ) -> Result<ScanStats> {
        source::scan(&self.files, self.key, wanted, &self.limits, consume)
    }

    fn place_of(&self, column: &str) -> Option<usize> {
        self.wanted.iter().position(|wanted| wanted.name == column)
    }

    fn checker<'t>(
        &self,
        rule: &Check,
        customers: &'t HashMap<&str, HashSet<u64>>,
    ) -> Result<Box<dyn Checker + 't>> {
        Ok(match rule.rule {
            CheckRule::NotNull => checkers::not_null(self.slot(rule)?),
            CheckRule::Unique => checkers::unique(self.slot(rule)?),
            CheckRule::NotConstant => checkers::not_constant(self.slot(rule)?),
            CheckRule::AcceptedValues => {
                checkers::member_of(self.slot(rule)?, self.accepted_values(rule)?)
            }
            CheckRule::Between => {
                let slot = self.typed_slot(rule, ColumnType::Number)?;
                checkers::between(slot, rule.min, rule.max)
            }
            CheckRule::Relationships => {
                let related = rule.to.as_deref().and_then(|name| customers.get(name));
                let related = related.ok_or_else(|| self.wrong(rule, "needs `to`"))?;
                checkers::member_of(Slot::Key, related)
            }
            CheckRule::DuplicateMonth => {
                checkers::duplicate_month(self.typed_slot(rule, ColumnType::Date)?)
            }
            CheckRule::GapMonths => checkers::gap_months(self.typed_slot(rule, ColumnType::Date)?),
            CheckRule::FutureDates => {
                checkers::future_dates(self.typed_slot(rule, ColumnType::Date)?)
            }
        })
    }

    /// Where the rule looks; keys are compared as the text that they are everywhere else.
    fn slot(&self, rule: &Check) -> Result<Slot> {
        let column = plan::column(self.source, rule);
        if column == Some(self.key) && !plan::reads_typed(rule.rule) {
            return Ok(Slot::Key);
        }
        let place = column.and_then(|name| self.place_of(name));
        place.map(Slot::Cell).ok_or_else(|| self.wrong(rule, "needs a column"))
    }

    fn typed_slot(&self, rule: &Check, kind: ColumnType) -> Result<Slot> {
        let slot = self.slot(rule)?;
        match (slot, kind) {
            (Slot::Cell(at), _) if self.wanted[at].kind == kind => Ok(slot),
            (_, ColumnType::Number) => Err(self.wrong(rule, "is for numbers, its column is none")),
            _ => Err(self.wrong(rule, "is for dates, its column is none")),
        }
    }

    /// Hashes of the set, read as the column is.
    fn accepted_values(&self, rule: &Check) -> Result<HashSet<u64>> {
        let kind = match self.slot(rule)? {
            Slot::Key => ColumnType::Category,
            Slot::Cell(at) => self.wanted[at].kind,
        };
        let read = |text: &String| {
            let value = match kind {
                ColumnType::Category => Some(Value::Text(text)),
                ColumnType::Number => text.trim().parse().ok().map(Value::number),
                ColumnType::Date => parse_day(text).map(Value::Day),
            };
            let wrong = || self.wrong(rule, &format!("accepts {text:?}, unlike its column's type"));
            value.map(hash_of).ok_or_else(wrong)
        };
        rule.values.iter().map(read).collect()
    }

    fn wrong(&self, rule: &Check, what: &str) -> Error {
        let (source, name) = (&self.source.name, plan::rule_name(rule.rule));
        let column = rule.column.as_deref().map(|column| format!("({column})"));
        Kind::Config.msg(format!("`{source}`: {name}{} {what}", column.unwrap_or_default()))
    }

    /// Cells that are there but cannot be read break a rule about values, though it never saw
    /// them: a batch holds them as missing.
    fn unreadable_under<'r>(
        &'r self,
        rule: &'r Check,
        stats: &ScanStats,
    ) -> Option<(&'r str, u64)> {
        let column =
            plan::column(self.source, rule).filter(|_| plan::judges_unreadable(rule.rule))?;
        stats.nulled.get(column).map(|count| (column, *count))
    }

    /// Reads one column again up to its first unreadable cell; only a broken table is read twice.
    fn first_unreadable(&self, column: &str) -> String {
        let wanted = self.wanted.iter().filter(|wanted| wanted.name == column);
        let wanted: Vec<Wanted> =
            wanted.map(|wanted| Wanted { on_bad: OnBad::Error, ..wanted.clone() }).collect();
        match self.read(&wanted, &mut |_| Ok(())) {
            Ok(_) => "gone at a second look: the file was changed meanwhile".into(),
            Err(error) => {
                let path = error.path.as_deref().map_or_else(String::new, |path| self.short(path));
                let line = error.line.map_or_else(String::new, |line| format!(":{line}"));
                // The message quotes the cell; a line end in it would break the report's line.
                format!("{path}{line}: {}", error.message.replace(char::is_control, " "))
            }
        }
    }

    /// `activity.csv:7: 12.5, customer "A"`; the row's number where rows are not lines.
    fn describe(&self, offender: &Offender) -> String {
        let Some((path, row)) = &offender.place else { return offender.what.clone() };
        let is_csv = |file: &&DataFile| file.path == *path && file.format == Format::Csv;
        let shape = self.files.iter().find(is_csv);
        let shape = shape.and_then(|file| csv_scan::check(&file.path, &self.limits).ok());
        let (path, what) = (self.short(path), &offender.what);
        match shape {
            Some(shape) if shape.rows_are_lines => format!("{path}:{}: {what}", row + 2),
            _ => format!("{path}: row {}: {what}", row + 1),
        }
    }

    /// Relative to the data folder, so that a report does not depend on where the folder lies.
    fn short(&self, path: &Path) -> String {
        path.strip_prefix(self.root).unwrap_or(path).display().to_string()
    }
}
