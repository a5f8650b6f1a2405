//! Quality rules.

use super::Faults;
use super::data::{key_of, label_column, no_column, no_source};
use crate::config::{Check, CheckRule, ColumnType, Config, SourceKind, SourceSpec};

pub fn checks(config: &Config, faults: &mut Faults) {
    for (index, check) in config.checks.iter().enumerate() {
        let at = format!("check.{index}");
        faults.within(&format!("{at}.mostly"), check.mostly, 0.0..=1.0);
        match config.sources.iter().find(|source| source.name == check.source) {
            None => no_source(config, &check.source, &format!("{at}.source"), faults),
            Some(source) => {
                check_column(config, source, check, &at, faults);
                if matches!(check.rule, CheckRule::DuplicateMonth | CheckRule::GapMonths)
                    && source.kind != SourceKind::Activity
                {
                    let message = format!("is for activity, `{}` is not", source.name);
                    faults.add(format!("{at}.rule"), message);
                }
            }
        }
        check_settings(config, check, &at, faults);
    }
}

fn check_column(
    config: &Config,
    source: &SourceSpec,
    check: &Check,
    at: &str,
    faults: &mut Faults,
) {
    use CheckRule::{DuplicateMonth, FutureDates, GapMonths, Relationships};
    let place = format!("{at}.column");
    let Some(column) = &check.column else {
        if !matches!(check.rule, DuplicateMonth | GapMonths | Relationships) {
            faults.add(place, "the rule needs a column");
        }
        return;
    };
    let dates = [&source.time, &source.known_at, &source.valid_from];
    let is_date = dates.into_iter().flatten().any(|date| date == column);
    let label = label_column(config, source);
    let is_other = column == key_of(config, source) || label == Some(column.as_str());
    let kind = source.columns.get(column).map(|spec| spec.kind());
    if kind.is_none() && !is_date && !is_other {
        no_column(source, column, &place, faults);
    } else if check.rule == FutureDates
        && !is_date
        && matches!(kind, Some(ColumnType::Number | ColumnType::Category))
    {
        faults.add(place, format!("`{column}` is no date"));
    }
}

/// What the rule needs must be there, and what it does not read must not: it would promise a
/// check that is not made.
fn check_settings(config: &Config, check: &Check, at: &str, faults: &mut Faults) {
    let (values, between) =
        (check.rule == CheckRule::AcceptedValues, check.rule == CheckRule::Between);
    if values == check.values.is_empty() {
        let message =
            if values { "the rule needs its set of values" } else { "the rule reads no values" };
        faults.add(format!("{at}.values"), message);
    }
    match (between, check.min, check.max) {
        (true, None, None) => {
            faults.add(format!("{at}.min"), "the rule needs `min`, `max` or both");
        }
        (true, min, max) => {
            let low = min.unwrap_or(f64::NEG_INFINITY);
            let high = max.unwrap_or(f64::INFINITY);
            // Also true where one of them is no number.
            if !matches!(low.partial_cmp(&high), Some(order) if order.is_le()) {
                faults.add(format!("{at}.min"), format!("{low} is not below max, {high}"));
            }
        }
        (false, None, None) => {}
        (false, _, _) => {
            faults.add(format!("{at}.min"), "only the rule `between` reads `min` and `max`");
        }
    }
    match (check.rule == CheckRule::Relationships, &check.to) {
        (true, None) => {
            faults.add(format!("{at}.to"), "the rule needs the source that holds the customers");
        }
        (true, Some(to)) if *to == check.source => {
            faults.add(format!("{at}.to"), "is the same source");
        }
        (true, Some(to)) if !config.sources.iter().any(|source| source.name == *to) => {
            no_source(config, to, &format!("{at}.to"), faults);
        }
        (false, Some(_)) => {
            faults.add(format!("{at}.to"), "only the rule `relationships` reads it");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::config::validate::tests::check;

    #[test]
    fn quality_rules() {
        let unique = "rule = \"unique\"\ncolumn = \"customer_id\"";
        let cases = [
            (
                "rule = \"unique\"",
                expect![[r#"
                `check.0.column`: the rule needs a column
            "#]],
            ),
            (
                "rule = \"unique\"\ncolumn = \"aeg\"",
                expect![[r#"
                `check.0.column`: `aeg` is not among the columns of `customers`; known are age, plan
            "#]],
            ),
            (
                "rule = \"not_null\"\ncolumn = \"age\"\nmostly = 1.1",
                expect![[r#"
                `check.0.mostly`: must lie in [0, 1], is 1.1
            "#]],
            ),
            (
                "rule = \"accepted_values\"\ncolumn = \"plan\"",
                expect![[r#"
                `check.0.values`: the rule needs its set of values
            "#]],
            ),
            (
                "rule = \"not_null\"\ncolumn = \"plan\"\nvalues = [\"a\"]\nmin = 0.0\nto = \"tickets\"",
                expect![[r#"
                `check.0.values`: the rule reads no values
                `check.0.min`: only the rule `between` reads `min` and `max`
                `check.0.to`: only the rule `relationships` reads it
            "#]],
            ),
            (
                "rule = \"between\"\ncolumn = \"age\"",
                expect![[r#"
                `check.0.min`: the rule needs `min`, `max` or both
            "#]],
            ),
            (
                "rule = \"between\"\ncolumn = \"age\"\nmin = 3.0\nmax = 2.0",
                expect![[r#"
                `check.0.min`: 3 is not below max, 2
            "#]],
            ),
            ("rule = \"between\"\ncolumn = \"age\"\nmin = 3.0", expect![[""]]),
            (
                "rule = \"future_dates\"\ncolumn = \"age\"",
                expect![[r#"
                `check.0.column`: `age` is no date
            "#]],
            ),
            (
                "rule = \"duplicate_month\"",
                expect![[r#"
                `check.0.rule`: is for activity, `customers` is not
            "#]],
            ),
            (
                "rule = \"relationships\"",
                expect![[r#"
                `check.0.to`: the rule needs the source that holds the customers
            "#]],
            ),
            (
                "rule = \"relationships\"\nto = \"customers\"",
                expect![[r#"
                `check.0.to`: is the same source
            "#]],
            ),
            (
                "rule = \"relationships\"\nto = \"activty\"",
                expect![[r#"
                `check.0.to`: there is no source `activty`; did you mean `activity`?
            "#]],
            ),
        ];
        for (other, expect) in cases {
            check(&[(unique, other)], expect);
        }
        check(
            &[("source = \"tickets\"", "source = \"ticket\"")],
            expect![[r#"
            `check.2.source`: there is no source `ticket`; did you mean `tickets`?
        "#]],
        );
    }
}
