//! From files to features: formats agree, order does not matter, and nothing looks ahead.

use std::fmt::Write as _;
use std::path::Path;

use churn::config::{self, Config, Overrides};
use churn::features::{Encoder, FittedFeatures, design, fit};
use churn::panel::{self, Extent, Inputs, Intake, Panel, Part, Snapshots};
use churn::seeds::Seeds;
use polars::prelude::*;
use proptest::prelude::*;

const CUSTOMERS: usize = 40;
const MONTHS: u32 = 14;

/// A panel with all kinds of columns, as CSV text by file name.
struct Tables {
    customers: Vec<String>,
    plans: Vec<String>,
    activity: Vec<String>,
    tickets: Vec<String>,
}

fn tables() -> Tables {
    let (mut customers, mut plans) = (Vec::new(), Vec::new());
    let (mut activity, mut tickets) = (Vec::new(), Vec::new());
    for c in 0..CUSTOMERS {
        let age = if c % 7 == 0 { String::new() } else { (20 + c).to_string() };
        let churn = if c % 5 == 0 { format!("2024-{:02}-15", 3 + c % 9) } else { String::new() };
        customers.push(format!(
            "c{c:03},{age},{},2022-{:02}-03,{churn}",
            ["x", "y"][c % 2],
            1 + c % 12
        ));
        plans.push(format!("c{c:03},2023-11-01,10,basic"));
        plans.push(format!("c{c:03},2024-0{}-01,20,plus", 1 + c % 8));
        for m in 0..MONTHS {
            let (year, month) = (2023 + (m + 10) / 12, (m + 10) % 12 + 1);
            let gone = c % 5 == 0 && year == 2024 && month > 3 + c as u32 % 9;
            if gone || (c + m as usize).is_multiple_of(11) {
                continue;
            }
            let (usage, bill) = ((c * 31 + m as usize * 17) % 23, 5 + c % 4);
            let known = if (c + m as usize).is_multiple_of(13) {
                "2025-06-01".into()
            } else {
                format!("{year}-{month:02}-28")
            };
            activity.push(format!("c{c:03},{year}-{month:02}-01,{usage},{bill}.5,{known}"));
            if (c + m as usize).is_multiple_of(6) {
                tickets.push(format!(
                    "c{c:03},{year}-{month:02}-10T08:00:00,{},{}",
                    ["billing", "tech"][m as usize % 2],
                    m
                ));
                tickets.push(format!("c{c:03},{year}-{month:02}-20T08:00:00,tech,{}", m + 1));
            }
        }
    }
    Tables { customers, plans, activity, tickets }
}

const HEADERS: [(&str, &str); 4] = [
    ("customers", "customer_id,age,region,signup,left"),
    ("plans", "customer_id,since,price,plan"),
    ("activity", "customer_id,month,usage,bill,known"),
    ("tickets", "customer_id,opened,topic,minutes"),
];

fn config_text(extension: &str) -> String {
    format!(
        r#"
name = "all_kinds"
[[source]]
name = "customers"
kind = "attributes"
path = "customers.{extension}"
columns = {{ age = "number", region = "category", signup = "date" }}
[[source]]
name = "plans"
kind = "attributes"
path = "plans.{extension}"
valid_from = "since"
columns = {{ price = "number", plan = "category" }}
[[source]]
name = "activity"
kind = "activity"
path = "activity.{extension}"
time = "month"
known_at = "known"
absent = "zero"
columns = {{ usage = "number", bill = "number" }}
[[source]]
name = "tickets"
kind = "events"
path = "tickets.{extension}"
time = "opened"
columns = {{ topic = "category", minutes = "number" }}
[source.measures]
tickets = {{ agg = "count" }}
minutes_sum = {{ agg = "sum", column = "minutes" }}
minutes_mean = {{ agg = "mean", column = "minutes" }}
minutes_max = {{ agg = "max", column = "minutes" }}
minutes_last = {{ agg = "last", column = "minutes" }}
topics = {{ agg = "distinct", column = "topic" }}
[label]
kind = "event"
source = "customers"
column = "left"
horizon = 2
[split]
kind = "time"
validation_months = 1
test_months = 2
[features]
category_rows_min = 1
"#
    )
}

fn write_csv(folder: &Path, tables: &Tables) {
    let rows = [&tables.customers, &tables.plans, &tables.activity, &tables.tickets];
    for ((name, header), rows) in HEADERS.iter().zip(rows) {
        let text = format!("{header}\n{}\n", rows.join("\n"));
        std::fs::write(folder.join(format!("{name}.csv")), text).expect("written");
    }
}

struct Built {
    config: Config,
    intake: Intake,
    panel: Panel,
    snapshots: Snapshots,
    fold: panel::Fold,
}

fn build(folder: &Path, extension: &str) -> Built {
    let file = folder.join("config.toml");
    std::fs::write(&file, config_text(extension)).expect("written");
    let resolved = config::load(&file, &Overrides { sets: &[], env: &|_| None }).expect("valid");
    let config = resolved.config.clone();
    let intake = Intake::from(&config);
    let inputs = Inputs::under(folder, &intake).expect("files");
    let panel = panel::build(&intake, &inputs, &Extent::all()).expect("a panel");
    let declared = panel::Declared {
        intake: &intake,
        inputs: &inputs,
        root: folder,
        label: &config.label,
        split: &config.split,
        seeds: &Seeds::new(1),
    };
    let snapshots = panel::label(&panel, &declared).expect("labels");
    let fold = panel::split(&panel, &snapshots, &declared).expect("a split").remove(0);
    Built { config, intake, panel, snapshots, fold }
}

/// Everything that any model sees of every snapshot.
fn seen(built: &Built, features: &FittedFeatures) -> (Vec<f32>, Vec<f32>, Vec<u32>) {
    let encoder = Encoder::new(features, &built.panel).expect("the panel it was fitted on");
    let all: Vec<u32> = (0..built.snapshots.len() as u32).collect();
    let matrix = design(&encoder, &built.snapshots, &all);
    let (mut months, mut codes) = (Vec::new(), Vec::new());
    for customer in 0..built.panel.customers.len() {
        let mut history = vec![0.0; built.panel.months_of(customer) * features.month_width()];
        encoder.months(customer, &mut history);
        months.extend(history);
        let mut row = vec![0; features.static_categories.len()];
        encoder.codes(customer, &mut row);
        codes.extend(row);
    }
    (matrix.values, months, codes)
}

fn fitted(built: &Built) -> FittedFeatures {
    fit(&built.panel, &built.snapshots, &built.fold, &built.config.features).expect("fitted")
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

#[test]
fn the_panel_is_what_the_tables_say() {
    let dir = folder();
    write_csv(dir.path(), &tables());
    let Built { panel, .. } = build(dir.path(), "csv");
    assert_eq!(panel.calendar.first.to_string(), "2023-11");
    assert_eq!(panel.calendar.months, MONTHS);
    assert_eq!(panel.measures[..2], ["bill", "usage"]);
    let of = |customer: &str, month: usize, measure: &str| {
        let row = panel.row(panel.customer(customer).expect("known"), month).expect("a row");
        panel.at(row)[panel.measure(measure).expect("a measure")]
    };
    // c001 in month 5: 31 + 85 = 116 modulo 23; two tickets, of topics "tech" twice.
    assert_eq!(of("c001", 5, "usage"), (116 % 23) as f32);
    assert_eq!(of("c001", 5, "tickets"), 2.0);
    assert_eq!(of("c001", 5, "minutes_sum"), 11.0);
    assert_eq!(of("c001", 5, "minutes_mean"), 5.5);
    assert_eq!(of("c001", 5, "minutes_last"), 6.0);
    assert_eq!(of("c001", 5, "topics"), 1.0);
    assert_eq!(of("c002", 10, "topics"), 2.0_f32.min(of("c002", 10, "topics")));
    // (1 + 10) % 11 = 0: no row, so zero. (1 + 12) % 13 = 0: known too late, so missing.
    assert_eq!(of("c001", 10, "usage"), 0.0);
    assert!(of("c001", 12, "usage").is_nan());
    assert!(panel.report.rows_late > 0);
    // Plans change: basic at first, plus from 2024-02 on for c001.
    let plans = &panel.attributes[1];
    let price = |month: &str| {
        let version = plans.version(1, month.parse().expect("a month")).expect("valid");
        let churn::panel::AttributeCells::Number(cells) = &plans.columns[1].cells else {
            panic!("price is a number")
        };
        cells[version]
    };
    assert_eq!([price("2023-12"), price("2024-01"), price("2024-02")], [10.0, 10.0, 20.0]);
}

#[test]
fn all_formats_give_the_same_panel() {
    let dir = folder();
    write_csv(dir.path(), &tables());
    let from_csv = build(dir.path(), "csv");
    for extension in ["parquet", "arrow", "ndjson"] {
        for (name, _) in HEADERS {
            convert(dir.path(), name, extension);
        }
        let other = build(dir.path(), extension);
        assert_eq!(other.panel.sha256(), from_csv.panel.sha256(), "{extension}");
        assert_eq!(other.snapshots, from_csv.snapshots, "{extension}");
    }
}

fn convert(folder: &Path, name: &str, extension: &str) {
    let path = folder.join(format!("{name}.csv"));
    let place = PlRefPath::new(path.to_str().expect("UTF-8"));
    let mut frame = LazyCsvReader::new(place).finish().expect("CSV").collect().expect("CSV");
    let out = std::fs::File::create(folder.join(format!("{name}.{extension}"))).expect("a file");
    match extension {
        "parquet" => drop(ParquetWriter::new(out).finish(&mut frame).expect("written")),
        "arrow" => IpcWriter::new(out).finish(&mut frame).expect("written"),
        _ => JsonWriter::new(out)
            .with_json_format(JsonFormat::JsonLines)
            .finish(&mut frame)
            .expect("written"),
    }
}

#[test]
fn files_in_partitions_are_one_table() {
    let dir = folder();
    let all = tables();
    write_csv(dir.path(), &all);
    let whole = build(dir.path(), "csv").panel.sha256();
    let (one, two) = all.activity.split_at(all.activity.len() / 3);
    std::fs::remove_file(dir.path().join("activity.csv")).expect("removed");
    for (part, rows) in [("part=a", one), ("part=b", two)] {
        let sub = dir.path().join("activity.csv").join(part);
        std::fs::create_dir_all(&sub).expect("made");
        let text = format!("{}\n{}\n", HEADERS[2].1, rows.join("\n"));
        std::fs::write(sub.join("rows.csv"), text).expect("written");
    }
    assert_eq!(build(dir.path(), "csv").panel.sha256(), whole);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, failure_persistence: None, ..Default::default() })]

    #[test]
    fn row_order_changes_nothing(seed in 0u64..1000) {
        let dir = folder();
        let mut all = tables();
        write_csv(dir.path(), &all);
        let straight = build(dir.path(), "csv");
        let straight_features = fitted(&straight);
        for rows in [&mut all.customers, &mut all.plans, &mut all.activity, &mut all.tickets] {
            let order = Seeds::new(seed).shuffled("rows", rows.len() as u64, rows.len());
            *rows = order.iter().map(|&i| rows[i as usize].clone()).collect();
        }
        write_csv(dir.path(), &all);
        let shuffled = build(dir.path(), "csv");
        prop_assert_eq!(shuffled.panel.sha256(), straight.panel.sha256());
        prop_assert_eq!(&shuffled.snapshots, &straight.snapshots);
        prop_assert_eq!(&fitted(&shuffled), &straight_features);
    }

    /// Perturbs everything that is dated after an as-of month, and looks for any effect at it.
    #[test]
    fn nothing_after_the_as_of_month_moves_a_feature(month in 1u32..12) {
        let dir = folder();
        let all = tables();
        write_csv(dir.path(), &all);
        let before = build(dir.path(), "csv");
        let features = fitted(&before);
        let as_of = before.panel.calendar.month(month as usize);
        let later = |row: &String, column: usize| {
            let day: churn::clock::Month =
                row.split(',').nth(column).expect("a cell").parse().expect("a date");
            day > as_of
        };
        let mut changed = Tables {
            customers: all.customers.clone(),
            plans: all.plans.iter().filter(|row| !later(row, 1)).cloned().collect(),
            activity: all.activity.iter().filter(|row| !later(row, 1)).cloned().collect(),
            tickets: all.tickets.iter().filter(|row| !later(row, 1)).cloned().collect(),
        };
        for c in 0..CUSTOMERS {
            // The last month of the panel stays the same, with absurd values.
            changed.activity.push(format!("c{c:03},2024-12-01,99999,-99999,2024-12-02"));
            changed.tickets.push(format!("c{c:03},2024-12-05,other,5000"));
            changed.plans.push(format!("c{c:03},2024-12-09,777,other"));
        }
        write_csv(dir.path(), &changed);
        let after = build(dir.path(), "csv");
        let places = (0..before.snapshots.len()).filter(|&s| u32::from(before.snapshots.months[s]) <= month);
        let (seen_before, seen_after) = (seen(&before, &features), seen(&after, &features));
        let width = seen_before.0.len() / before.snapshots.len();
        let months_width = features.month_width();
        for s in places {
            let (customer, since) = before.snapshots.place(&before.panel, s);
            let first = before.panel.offsets[customer];
            let row = first + since;
            prop_assert_eq!(
                &seen_before.0[s * width..][..width],
                &seen_after.0[s * width..][..width],
                "snapshot {} of month {}", s, before.snapshots.months[s]
            );
            prop_assert_eq!(
                &seen_before.1[first * months_width..(row + 1) * months_width],
                &seen_after.1[first * months_width..(row + 1) * months_width]
            );
        }
    }
}

#[test]
fn parts_follow_each_other_in_time() {
    let dir = folder();
    write_csv(dir.path(), &tables());
    let Built { config, snapshots, fold, intake, .. } = build(dir.path(), "csv");
    let ahead = (config.label.gap() + config.label.window()) as u16;
    let months = |part| fold.members(part).into_iter().map(|s| snapshots.months[s as usize]);
    let mut text = String::new();
    let parts = [Part::Train, Part::Validation, Part::Test];
    for pair in parts.windows(2) {
        let last = months(pair[0]).max().expect("not empty");
        let first = months(pair[1]).min().expect("not empty");
        writeln!(text, "{:?} {last} {:?} {first}", pair[0], pair[1]).expect("text");
        assert!(last + ahead <= first, "label windows overlap: {text}");
    }
    assert_eq!(intake.sources.len(), 4);
}

#[test]
fn random_folds_split_customers_and_keep_the_classes() {
    let dir = folder();
    write_csv(dir.path(), &tables());
    let Built { config, snapshots, panel, intake, .. } = build(dir.path(), "csv");
    let inputs = Inputs::under(dir.path(), &intake).expect("files");
    let declared = panel::Declared {
        intake: &intake,
        inputs: &inputs,
        root: dir.path(),
        label: &config.label,
        split: &config::SplitSpec::Random { folds: 4 },
        seeds: &Seeds::new(3),
    };
    let folds = panel::split(&panel, &snapshots, &declared).expect("folds");
    let mut tested = vec![0; panel.customers.len()];
    for fold in &folds {
        let mut part_of = vec![None; panel.customers.len()];
        for (s, part) in fold.parts.iter().enumerate() {
            let customer = snapshots.customers[s] as usize;
            assert!(part_of[customer].is_none_or(|p| p == *part), "a customer in two parts");
            part_of[customer] = Some(*part);
        }
        let test: Vec<usize> =
            (0..tested.len()).filter(|&c| part_of[c] == Some(Part::Test)).collect();
        test.iter().for_each(|&c| tested[c] += 1);
        assert!((8..=12).contains(&test.len()), "a quarter of 40, got {}", test.len());
    }
    assert!(tested.iter().all(|&times| times == 1), "everybody is tested once");
}

/// The as-of months of each part of each fold, as `train 0-5 validation 7 test 9`.
#[track_caller]
fn rolling(split: &str) -> String {
    let dir = folder();
    write_csv(dir.path(), &tables());
    let Built { config, snapshots, panel, intake, .. } = build(dir.path(), "csv");
    let inputs = Inputs::under(dir.path(), &intake).expect("files");
    let split: config::SplitSpec = toml::from_str(split).expect("a split");
    let declared = panel::Declared {
        intake: &intake,
        inputs: &inputs,
        root: dir.path(),
        label: &config.label,
        split: &split,
        seeds: &Seeds::new(3),
    };
    let folds = match panel::split(&panel, &snapshots, &declared) {
        Ok(folds) => folds,
        Err(error) => return error.to_string(),
    };
    let mut text = String::new();
    for fold in &folds {
        write!(text, "{}:", fold.number.expect("a number")).expect("text");
        for part in Part::LABELLED {
            let members = fold.members(part);
            let months = || members.iter().map(|&s| snapshots.months[s as usize]);
            let (first, last) = (months().min().expect("one"), months().max().expect("one"));
            write!(text, " {} {first}-{last}", part.name()).expect("text");
        }
        text.push('\n');
    }
    text
}

/// Fourteen months, of which the last two are the horizon of as-of month 11.
#[test]
fn a_rolling_origin_moves_through_the_months() {
    let check = |split: &str, expect: expect_test::Expect| expect.assert_eq(&rolling(split));
    check(
        "kind = \"rolling\"",
        expect_test::expect![[r#"
            0: train 0-5 validation 7-7 test 9-9
            1: train 0-6 validation 8-8 test 10-10
            2: train 0-7 validation 9-9 test 11-11
        "#]],
    );
    check(
        "kind = \"rolling\"\norigins = 2\ntest_months = 2\nembargo_months = 1\ntrain_months = 2",
        expect_test::expect![[r#"
            0: train 1-2 validation 5-5 test 8-9
            1: train 3-4 validation 7-7 test 10-11
        "#]],
    );
    check(
        "kind = \"rolling\"\norigins = 2\ntest_months = 3\nstep_months = 1",
        expect_test::expect![[r#"
            0: train 0-4 validation 6-6 test 8-10
            1: train 0-5 validation 7-7 test 9-11
        "#]],
    );
    check(
        "kind = \"rolling\"\norigins = 9",
        expect_test::expect![
            "14 months are too few for 1 validation and 1 test months whose labels look 2 ahead at each of 9 origins; shorten split.origins, split.validation_months, split.test_months or the label's horizon"
        ],
    );
}
