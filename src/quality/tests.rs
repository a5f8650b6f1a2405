//! Small tables, rules as a user declares them, and the report that he reads.

use expect_test::{Expect, expect};

use super::*;
use crate::source::write::{OutColumn, write_table};

const HEAD: &str = r#"
name = "a"
label = { kind = "inactivity", measure = "calls", months = 1 }
split = { kind = "random" }

[[source]]
name = "customers"
kind = "attributes"
path = "customers.*"
columns = { age = "number", plan = "category", joined = { type = "date", on_bad = "null" } }

[[source]]
name = "activity"
kind = "activity"
path = "activity.csv"
time = "month"
columns = { calls = "number" }
"#;

const CUSTOMERS: &str = "customer_id,age,plan,joined,left\n\
    A,30,pro,2024-01-05,0\nB,41,free,2024-03-01,1\nC,,pro,,0\nD,200,gold,2024-05-09,0\n";

const ACTIVITY: &str = "customer_id,month,calls\n\
    A,2024-01,5\nA,2024-02,4\nA,2024-03,3\nB,2024-01,9\nB,2024-04,0\nE,2024-02,1\n";

fn config(rules: &[&str]) -> Config {
    let rules: String = rules.iter().map(|rule| format!("[[check]]\n{rule}\n")).collect();
    toml::from_str(&format!("{HEAD}{rules}")).expect("a configuration")
}

fn check_files(files: &[(&str, &str)], rules: &[&str]) -> Result<Report> {
    let dir = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).expect("written");
    }
    run(&config(rules), dir.path()).map_err(|mut error| {
        error.path = error.path.map(|path| path.file_name().expect("a name").into());
        error
    })
}

/// One rule over the two tables; only its own finding.
#[track_caller]
fn check(rule: &str, expect: Expect) {
    let files = [("customers.csv", CUSTOMERS), ("activity.csv", ACTIVITY)];
    let mut report = check_files(&files, &[rule]).expect("readable tables");
    let declared = config(&[rule]).checks.remove(0);
    report.findings.retain(|finding| {
        finding.source == declared.source
            && finding.rule == plan::rule_name(declared.rule)
            && finding.column == declared.column
    });
    let [finding] = &report.findings[..] else { panic!("one finding: {report:?}") };
    assert_eq!(report.errors() + report.warnings(), usize::from(!finding.passed));
    let (verdict, failed, rows) = (finding.verdict(), finding.failed, finding.rows);
    let example = finding.example.as_ref().map(|example| format!(", {example}"));
    expect.assert_eq(&format!("{verdict} {failed}/{rows}{}", example.unwrap_or_default()));
}

/// The whole report over changed tables.
#[track_caller]
fn check_all(customers: &str, activity: &str, rules: &[&str], expect: Expect) {
    let files = [("customers.csv", customers), ("activity.csv", activity)];
    expect.assert_eq(&check_files(&files, rules).expect("readable tables").to_text());
}

const ON_CUSTOMERS: &str = "source = \"customers\"\n";

#[test]
fn not_null() {
    let on = |column: &str| format!("{ON_CUSTOMERS}rule = \"not_null\"\ncolumn = {column:?}");
    check(&on("plan"), expect!["ok 0/4"]);
    check(&on("customer_id"), expect!["ok 0/4"]);
    check(&on("age"), expect![[r#"error 1/4, customers.csv:4: no value, customer "C""#]]);
    check(&on("joined"), expect![[r#"error 1/4, customers.csv:4: no value, customer "C""#]]);
    check(
        &(on("age") + "\nmostly = 0.75"),
        expect![[r#"ok 1/4, customers.csv:4: no value, customer "C""#]],
    );
    check(
        &(on("age") + "\nmostly = 0.76\nseverity = \"warn\""),
        expect![[r#"warn 1/4, customers.csv:4: no value, customer "C""#]],
    );
}

#[test]
fn unique() {
    let on = |column: &str| format!("{ON_CUSTOMERS}rule = \"unique\"\ncolumn = {column:?}");
    check(&on("customer_id"), expect!["ok 0/4"]);
    check(&on("age"), expect!["ok 0/3"]);
    check(&on("plan"), expect![[r#"error 1/4, customers.csv:4: "pro", customer "C""#]]);
    let keys = "source = \"activity\"\nrule = \"unique\"\ncolumn = \"customer_id\"";
    check(keys, expect![[r#"error 3/6, activity.csv:3: customer "A""#]]);
    let months = "source = \"activity\"\nrule = \"unique\"\ncolumn = \"month\"";
    check(months, expect![[r#"error 2/6, activity.csv:5: 2024-01-01, customer "B""#]]);
}

#[test]
fn accepted_values() {
    let on = |rest: &str| format!("{ON_CUSTOMERS}rule = \"accepted_values\"\n{rest}");
    check(&on("column = \"plan\"\nvalues = [\"pro\", \"free\", \"gold\"]"), expect!["ok 0/4"]);
    check(
        &on("column = \"plan\"\nvalues = [\"pro\", \"free\"]"),
        expect![[r#"error 1/4, customers.csv:5: "gold", customer "D""#]],
    );
    check(&on("column = \"left\"\nvalues = [\"0\", \"1\"]"), expect!["ok 0/4"]);
    check(&on("column = \"age\"\nvalues = [\"30.0\", \"41\", \"200\"]"), expect!["ok 0/3"]);
    check(
        &on("column = \"customer_id\"\nvalues = [\"A\", \"B\"]"),
        expect![[r#"error 2/4, customers.csv:4: customer "C""#]],
    );
    check(
        &on("column = \"joined\"\nvalues = [\"2024-01-05\"]"),
        expect![[r#"error 2/3, customers.csv:3: 2024-03-01, customer "B""#]],
    );
}

#[test]
fn between() {
    let on = |rest: &str| format!("{ON_CUSTOMERS}rule = \"between\"\n{rest}");
    check(&on("column = \"age\"\nmin = 30.0\nmax = 200.0"), expect!["ok 0/3"]);
    check(
        &on("column = \"age\"\nmax = 120.0"),
        expect![[r#"error 1/3, customers.csv:5: 200, customer "D""#]],
    );
    check(
        &on("column = \"age\"\nmin = 40.5"),
        expect![[r#"error 1/3, customers.csv:2: 30, customer "A""#]],
    );
    check(
        &on("column = \"left\"\nmin = 0.0\nmax = 0.5\nseverity = \"warn\""),
        expect![[r#"warn 1/4, customers.csv:3: 1, customer "B""#]],
    );
}

#[test]
fn relationships() {
    let from = |a: &str, b: &str| format!("source = {a:?}\nrule = \"relationships\"\nto = {b:?}");
    check(&from("activity", "customers"), expect![[r#"error 1/6, activity.csv:7: customer "E""#]]);
    check(&from("customers", "activity"), expect![[r#"error 2/4, customers.csv:4: customer "C""#]]);
    check(
        &(from("customers", "activity") + "\nmostly = 0.5"),
        expect![[r#"ok 2/4, customers.csv:4: customer "C""#]],
    );
}

#[test]
fn months() {
    let on = |rule: &str| format!("source = \"activity\"\nrule = {rule:?}\n");
    check(&on("duplicate_month"), expect!["ok 0/6"]);
    check(&on("gap_months"), expect![[r#"error 2/8, no row of 2024-02, customer "B""#]]);
    check(
        &(on("gap_months") + "mostly = 0.7"),
        expect![[r#"ok 2/8, no row of 2024-02, customer "B""#]],
    );
}

#[test]
fn not_constant() {
    let on = |column: &str| format!("{ON_CUSTOMERS}rule = \"not_constant\"\ncolumn = {column:?}");
    check(&on("plan"), expect!["ok 0/4"]);
    check(&on("customer_id"), expect!["ok 0/4"]);
    check_all(
        "customer_id,age,plan,joined\nA,7,x,\nB,7.0,x,\nC,,x,\n",
        ACTIVITY,
        &[&on("age"), &on("plan"), &on("joined")],
        expect![[r#"
                   source     rule                  failed  of  mostly  first offender
            ok     customers  unique(customer_id)        0   3       1
            error  customers  not_constant(age)          3   3       1  every value is 7
            error  customers  not_constant(plan)         3   3       1  every value is "x"
            error  customers  not_constant(joined)       3   3       1  there is no value
            ok     activity   duplicate_month            0   6       1
        "#]],
    );
}

/// Without `panel.last` the last month is April, the last one of the activity.
#[test]
fn future_dates() {
    let joined = format!("{ON_CUSTOMERS}rule = \"future_dates\"\ncolumn = \"joined\"");
    check(&joined, expect![[r#"error 1/3, customers.csv:5: 2024-05-09, customer "D""#]]);
    check("source = \"activity\"\nrule = \"future_dates\"\ncolumn = \"month\"", expect!["ok 0/6"]);
    let earlier = format!("{joined}\n[panel]\nlast = \"2024-02\"");
    check(&earlier, expect![[r#"error 2/3, customers.csv:3: 2024-03-01, customer "B""#]]);
    let files = [("customers.csv", CUSTOMERS), ("activity.csv", "customer_id,month,calls\n")];
    let error = check_files(&files, &[&joined]).expect_err("nothing to compare with");
    assert!(error.message.contains("no month to compare with"), "{error}");
}

#[test]
fn the_rules_that_always_run() {
    let customers = "customer_id,age,plan,joined\nA,1,x,\nB,2,y,\nA,3,x,\n";
    let activity = "customer_id,month,calls\nA,2024-01,5\nA,2024-01-31,4\nB,2024-01,1\n";
    check_all(
        customers,
        activity,
        &[],
        expect![[r#"
               source     rule                 failed  of  mostly  first offender
        error  customers  unique(customer_id)       1   3       1  customers.csv:4: customer "A"
        error  activity   duplicate_month           1   3       1  activity.csv:3: 2024-01-31, customer "A"
    "#]],
    );
    let own = [
        "source = \"activity\"\nrule = \"duplicate_month\"\nmostly = 0.5",
        "source = \"customers\"\nrule = \"unique\"\ncolumn = \"customer_id\"\nseverity = \"warn\"",
    ];
    check_all(
        customers,
        activity,
        &own,
        expect![[r#"
              source     rule                 failed  of  mostly  first offender
        warn  customers  unique(customer_id)       1   3       1  customers.csv:4: customer "A"
        ok    activity   duplicate_month           1   3     0.5  activity.csv:3: 2024-01-31, customer "A"
    "#]],
    );
}

/// `joined` may hold anything; `age`, `calls` and `month` may not.
#[test]
fn unreadable_cells() {
    check_all(
        "customer_id,age,plan,joined\nA,young,x,soon\nB,30,y,2024-01-01\nC,old,x,2024-09-01\n",
        "customer_id,month,calls\nA,2024-01,5\nA,2024-13,4\nB,2024-01,\"so\nmany\"\n",
        &[
            "source = \"customers\"\nrule = \"between\"\ncolumn = \"age\"\nmin = 0.0",
            "source = \"customers\"\nrule = \"between\"\ncolumn = \"age\"\nmin = 31.0",
            "source = \"customers\"\nrule = \"not_null\"\ncolumn = \"age\"",
            "source = \"customers\"\nrule = \"accepted_values\"\ncolumn = \"age\"\nvalues = [\"30\"]",
            "source = \"customers\"\nrule = \"future_dates\"\ncolumn = \"joined\"",
            "source = \"customers\"\nrule = \"not_null\"\ncolumn = \"joined\"\nmostly = 0.5",
        ],
        expect![[r#"
                   source     rule                  failed  of  mostly  first offender
            error  customers  readable(age)              2   3       1  customers.csv:2: column `age` holds "young", expected a finite number
            ok     customers  unique(customer_id)        0   3       1
            error  customers  between(age)               2   3       1  customers.csv:2: column `age` holds "young", expected a finite number
            error  customers  between(age)               3   3       1  customers.csv:3: 30, customer "B"
            error  customers  not_null(age)              2   3       1  customers.csv:2: no value, customer "A"
            error  customers  accepted_values(age)       2   3       1  customers.csv:2: column `age` holds "young", expected a finite number
            error  customers  future_dates(joined)       2   3       1  customers.csv:4: 2024-09-01, customer "C"
            ok     customers  not_null(joined)           1   3     0.5  customers.csv:2: no value, customer "A"
            error  activity   readable(month)            1   3       1  activity.csv: row 2: column `month` holds "2024-13", expected a date such as 2024-03-31
            error  activity   readable(calls)            1   3       1  activity.csv: row 3: column `calls` holds "so many", expected a finite number
            ok     activity   duplicate_month            0   2       1
        "#]],
    );
}

#[test]
fn counts_do_not_depend_on_the_order_of_rows() {
    let rules = [
        "source = \"customers\"\nrule = \"unique\"\ncolumn = \"plan\"",
        "source = \"customers\"\nrule = \"between\"\ncolumn = \"age\"\nmax = 35.0",
        "source = \"customers\"\nrule = \"future_dates\"\ncolumn = \"joined\"",
        "source = \"activity\"\nrule = \"gap_months\"",
        "source = \"activity\"\nrule = \"relationships\"\nto = \"customers\"",
        "source = \"activity\"\nrule = \"not_constant\"\ncolumn = \"calls\"",
    ];
    let activity = format!("{ACTIVITY}B,2024-01,3\nE,2024-02,8\nF,2024-02,x\n");
    let reversed = |text: &str| {
        let mut lines: Vec<&str> = text.lines().collect();
        lines[1..].reverse();
        lines.join("\n")
    };
    let counts = |customers: &str, activity: &str| {
        let report =
            check_files(&[("customers.csv", customers), ("activity.csv", activity)], &rules);
        let findings = report.expect("readable tables").findings;
        findings.into_iter().map(|f| (f.rule, f.rows, f.failed, f.passed)).collect::<Vec<_>>()
    };
    let there = counts(CUSTOMERS, &activity);
    assert_eq!(there, counts(&reversed(CUSTOMERS), &reversed(&activity)));
    assert!(there.iter().filter(|(_, _, failed, _)| *failed > 0).count() >= 6, "{there:?}");
}

/// 9 of 10 rows are enough for 0.9, which no binary number equals.
#[test]
fn mostly_is_met_by_the_very_share() {
    let ages: String = (1..10).map(|i| format!("c{i},{i},x,\n")).collect();
    let customers = format!("customer_id,age,plan,joined\n{ages}c10,,x,\n");
    let rule = format!("{ON_CUSTOMERS}rule = \"not_null\"\ncolumn = \"age\"");
    let rules = [rule.clone() + "\nmostly = 0.9", rule + "\nmostly = 0.91"];
    check_all(
        &customers,
        ACTIVITY,
        &[&rules[0], &rules[1]],
        expect![[r#"
               source     rule                 failed  of  mostly  first offender
        ok     customers  unique(customer_id)       0  10       1
        ok     customers  not_null(age)             1  10     0.9  customers.csv:11: no value, customer "c10"
        error  customers  not_null(age)             1  10    0.91  customers.csv:11: no value, customer "c10"
        ok     activity   duplicate_month           0   6       1
    "#]],
    );
}

#[test]
fn files_and_batches_are_one_table() {
    let rows = |from: u32, to: u32| (from..to).map(|i| format!("{i},1,x,\n")).collect::<String>();
    let header = "customer_id,age,plan,joined\n";
    let first = format!("{header}{}", rows(0, 10));
    let second = format!("{header}{}9,1,x,\n70009,1,,\n", rows(10, 70_000));
    let files =
        [("customers.1.csv", &*first), ("customers.2.csv", &second), ("activity.csv", ACTIVITY)];
    let rule = format!("{ON_CUSTOMERS}rule = \"not_null\"\ncolumn = \"plan\"");
    expect![[r#"
               source     rule                 failed     of  mostly  first offender
        error  customers  unique(customer_id)       1  70002       1  customers.2.csv:69992: customer "9"
        error  customers  not_null(plan)            1  70002       1  customers.2.csv:69993: no value, customer "70009"
        ok     activity   duplicate_month           0      6       1
    "#]].assert_eq(&check_files(&files, &[&rule]).expect("readable tables").to_text());
}

#[test]
fn offenders_of_tables_without_lines_have_a_row() {
    let dir = tempfile::tempdir().expect("a folder");
    let column = |cells: &[&str]| OutColumn::Text(cells.iter().map(|c| c.to_string()).collect());
    let columns = vec![
        ("customer_id", column(&["A", "B", "A"])),
        ("age", OutColumn::Number(vec![1.0, f64::NAN, 3.0])),
        ("plan", column(&["x", "y", "x"])),
        ("joined", OutColumn::Day(vec![0, 19_000, 20_000])),
    ];
    write_table(&dir.path().join("customers.parquet"), columns).expect("written");
    let activity = "customer_id,month,calls\nA,2024-01,\"1\n\"\nA,2024-01,2\n";
    std::fs::write(dir.path().join("activity.csv"), activity).expect("written");
    let age = format!("{ON_CUSTOMERS}rule = \"not_null\"\ncolumn = \"age\"");
    let report = run(&config(&[&age]), dir.path()).expect("readable tables");
    expect![[r#"
               source     rule                 failed  of  mostly  first offender
        error  customers  unique(customer_id)       1   3       1  customers.parquet: row 3: customer "A"
        error  customers  not_null(age)             1   3       1  customers.parquet: row 2: no value, customer "B"
        error  activity   duplicate_month           1   2       1  activity.csv: row 2: 2024-01-01, customer "A"
    "#]].assert_eq(&report.to_text());
}

#[test]
fn a_table_of_the_wrong_shape_is_an_error() {
    let wrong_type = "source = \"customers\"\nrule = \"between\"\ncolumn = \"plan\"\nmin = 0.0";
    let wrong_value =
        "source = \"customers\"\nrule = \"accepted_values\"\ncolumn = \"age\"\nvalues = [\"x\"]";
    let no_column = "source = \"customers\"\nrule = \"not_null\"\ncolumn = \"left\"";
    for (customers, rule, expect) in [
        (
            "customer_id,age,plan,joined\nA,1\n",
            no_column,
            expect![
                "customers.csv:2: has 2 fields, the header has 4; quote cells that hold a comma, or fix the export"
            ],
        ),
        (
            "customer_id,age,plan,joined\n,1,x,\n",
            "source = \"customers\"\nrule = \"not_null\"\ncolumn = \"plan\"",
            expect!["customers.csv:2: the customer key `customer_id` is empty"],
        ),
        (
            "customer_id,age,plan,joined\nA,1,x,\n",
            no_column,
            expect![
                "customers.csv: has no column `left`; its columns are customer_id, age, plan, joined"
            ],
        ),
        (
            "customer_id,age,plan,joined\nA,1,x,\n",
            wrong_type,
            expect!["`customers`: between(plan) is for numbers, its column is none"],
        ),
        (
            "customer_id,age,plan,joined\nA,1,x,\n",
            wrong_value,
            expect![[r#"`customers`: accepted_values(age) accepts "x", unlike its column's type"#]],
        ),
    ] {
        let files = [("customers.csv", customers), ("activity.csv", ACTIVITY)];
        expect.assert_eq(&check_files(&files, &[rule]).expect_err("no report").to_string());
    }
    let error = check_files(&[("customers.csv", CUSTOMERS)], &[]).expect_err("no file");
    assert_eq!(
        (error.kind, error.message.as_str()),
        (Kind::Data, "no such file, or no data file under it")
    );
}

#[test]
fn json_holds_what_the_report_says() {
    let files = [("customers.csv", CUSTOMERS), ("activity.csv", ACTIVITY)];
    let report = check_files(&files, &[]).expect("readable tables");
    let back: Report = serde_json::from_str(&report.to_json()).expect("JSON");
    assert_eq!(back.findings, report.findings);
    let json: serde_json::Value = serde_json::from_str(&report.to_json()).expect("JSON");
    expect![[r#"{"column":"customer_id","example":null,"failed":0,"mostly":1.0,"passed":true,"rows":4,"rule":"unique","severity":"error","share_kept":1.0,"source":"customers"}"#]].assert_eq(&json["findings"][0].to_string());
}
