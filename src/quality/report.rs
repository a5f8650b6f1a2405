//! What was found, for people and for `quality.json`.

use serde::{Deserialize, Serialize};

use super::checkers::Tally;
use crate::config::Severity;

/// All findings, source by source in the order of the configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub findings: Vec<Finding>,
    /// Not part of the document.
    #[serde(skip)]
    pub size: Size,
}

/// How much data there is, as counted on the way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    pub customers: u64,
    /// From the first dated row to the last.
    pub months: u64,
}

/// What one rule found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    pub source: String,
    /// The rule's name in the configuration, or `readable`.
    pub rule: String,
    pub column: Option<String>,
    pub severity: Severity,
    /// Share of rows that must keep the rule.
    pub mostly: f64,
    pub passed: bool,
    /// Rows that the rule judged; those without a value are not judged, except by `not_null` and
    /// `not_constant`. For `gap_months` the months between each customer's first and last row.
    pub rows: u64,
    /// Of these, the ones that break the rule; of equal rows all but one.
    pub failed: u64,
    /// (rows - failed) / rows; 1 if no row was judged.
    pub share_kept: f64,
    /// The first offender: place, value and customer; an unreadable cell if there is no other.
    /// Of `gap_months` the first customer by name.
    pub example: Option<String>,
}

/// What a finding is about, and what it must reach.
pub(super) struct Rule<'r> {
    pub source: &'r str,
    pub name: &'r str,
    pub column: Option<&'r str>,
    pub severity: Severity,
    pub mostly: f64,
}

impl Finding {
    pub(super) fn new(rule: &Rule, tally: &Tally, example: Option<String>) -> Self {
        // Kept rows are compared, not failed ones: 9 / 10 is the same number as `mostly = 0.9`,
        // while 1 - 0.9 falls short of 1 / 10.
        let share_kept = match tally.rows {
            0 => 1.0,
            rows => (rows - tally.failed) as f64 / rows as f64,
        };
        Finding {
            source: rule.source.into(),
            rule: rule.name.into(),
            column: rule.column.map(str::to_owned),
            severity: rule.severity,
            mostly: rule.mostly,
            passed: share_kept >= rule.mostly,
            rows: tally.rows,
            failed: tally.failed,
            share_kept,
            example,
        }
    }

    pub(super) fn verdict(&self) -> &'static str {
        match (self.passed, self.severity) {
            (true, _) => "ok",
            (false, Severity::Error) => "error",
            (false, Severity::Warn) => "warn",
        }
    }
}

impl Report {
    /// Broken rules of severity error.
    pub fn errors(&self) -> usize {
        self.broken(Severity::Error)
    }

    /// Broken rules of severity warn.
    pub fn warnings(&self) -> usize {
        self.broken(Severity::Warn)
    }

    fn broken(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|f| !f.passed && f.severity == severity).count()
    }

    /// A table with aligned columns: a header, then one line a finding.
    pub fn to_text(&self) -> String {
        let header = ["", "source", "rule", "failed", "of", "mostly", "first offender"];
        let mut lines = vec![header.map(str::to_owned)];
        lines.extend(self.findings.iter().map(cells));
        let mut widths = [0; 7];
        for line in &lines {
            for (width, cell) in widths.iter_mut().zip(line) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut text = String::new();
        for [verdict, source, rule, failed, of, mostly, example] in &lines {
            let [a, b, c, d, e, f, _] = widths;
            let left = format!("{verdict:<a$}  {source:<b$}  {rule:<c$}");
            let line = format!("{left}  {failed:>d$}  {of:>e$}  {mostly:>f$}  {example}");
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    /// Indented JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("findings are plain data with text keys")
    }
}

fn cells(finding: &Finding) -> [String; 7] {
    let rule = match &finding.column {
        Some(column) => format!("{}({column})", finding.rule),
        None => finding.rule.clone(),
    };
    [
        finding.verdict().into(),
        finding.source.clone(),
        rule,
        finding.failed.to_string(),
        finding.rows.to_string(),
        finding.mostly.to_string(),
        finding.example.clone().unwrap_or_default(),
    ]
}
