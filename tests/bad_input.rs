//! What can be wrong with tables, configurations and flags, and what the program says to each.
//!
//! A case takes a sound world of 60 customers, breaks one thing and runs one command. Either the
//! command refuses with the right exit code and words that let the reader find the place, or it
//! repairs, and says what it did where that could matter. It never panics.

use std::fmt::Write as _;
use std::path::PathBuf;

use churn::source::write::{OutColumn, write_table};
use tempfile::TempDir;

use crate::common::{self, Shared, run_ok};

const CUSTOMERS: usize = 60;
const MONTHS: usize = 12;

const CONFIG: &str = r#"name = "bad"
seed = 3

[[source]]
name = "customers"
kind = "attributes"
path = "customers.csv"
[source.columns]
plan = "category"
age = "number"

[[source]]
name = "activity"
kind = "activity"
path = "activity.csv"
time = "month"
[source.columns]
usage = "number"
calls = "number"

[[source]]
name = "tickets"
kind = "events"
path = "tickets.ndjson"
time = "opened_on"
[source.columns]
hours = "number"
[source.measures]
tickets = { agg = "count" }
ticket_hours = { agg = "sum", column = "hours" }

[label]
kind = "event"
source = "customers"
column = "churn_date"

[split]
kind = "time"
validation_months = 2
test_months = 2

[models]
use = ["mlp"]
trees = false
[models.mlp]
width = 4
blocks = 1
[train]
epochs_max = 1
device = "cpu"
"#;

/// Instead of `[label]` and `[split]`: labels and parts from a table of snapshots.
const SNAPSHOTS: &str = r#"[label]
kind = "snapshots"
path = "snapshots.csv"

[split]
kind = "snapshots"
"#;

/// Instead of `[label]` and `[split]`: one label per customer, folds from a table.
const FOLDS: &str = r#"[label]
kind = "column"
source = "customers"
column = "churned"

[split]
kind = "folds"
path = "folds.csv"
"#;

/// A folder with tables and a configuration that train, until something is broken.
struct World {
    folder: TempDir,
}

impl World {
    fn new() -> Self {
        let world = World { folder: tempfile::tempdir().expect("a folder") };
        world.write("bad.toml", CONFIG);
        let (mut customers, mut activity, mut tickets) =
            ("customer_id,plan,age,churned,churn_date\n".to_owned(), String::new(), String::new());
        activity += "customer_id,month,usage,calls\n";
        for i in 1..=CUSTOMERS {
            let plan = ["basic", "plus", "pro"][i % 3];
            let churn = (i % 3 == 0).then_some(2 + (i / 3) % (MONTHS - 2));
            let date = churn.map_or(String::new(), |m| format!("2024-{:02}-15", m + 1));
            let churned = u8::from(churn.is_some());
            writeln!(customers, "C{i:03},{plan},{},{churned},{date}", 20 + i % 50).expect("text");
            for m in 0..=churn.unwrap_or(MONTHS - 1) {
                let (usage, calls, month) = (10 + i % 7 + m, (i + m) % 4, m + 1);
                writeln!(activity, "C{i:03},2024-{month:02},{usage},{calls}").expect("text");
                if calls == 0 {
                    let day = format!("2024-{month:02}-{:02}", 1 + i % 28);
                    let hours = 0.5 * i as f64;
                    let ticket = format!(
                        "{{\"customer_id\":\"C{i:03}\",\"opened_on\":\"{day}\",\"hours\":{hours}}}"
                    );
                    writeln!(tickets, "{ticket}").expect("text");
                }
            }
        }
        world.write("customers.csv", customers);
        world.write("activity.csv", activity);
        world.write("tickets.ndjson", tickets);
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), bytes).expect("written");
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).expect("text")
    }

    fn append(&self, name: &str, text: &str) {
        self.write(name, self.read(name) + text);
    }

    fn remove(&self, name: &str) {
        std::fs::remove_file(self.path(name)).expect("removed");
    }

    /// Replaces text that must be there.
    fn replace(&self, name: &str, from: &str, to: &str) {
        let text = self.read(name);
        assert!(text.contains(from), "{name} holds no {from:?}");
        self.write(name, text.replace(from, to));
    }

    /// Changes one line, counted from 1.
    fn line(&self, name: &str, line: usize, change: impl Fn(&str) -> String) {
        let text = self.read(name);
        let lines = text.lines().enumerate();
        let lines = lines.map(|(at, l)| if at + 1 == line { change(l) } else { l.to_owned() });
        self.write(name, lines.collect::<Vec<_>>().join("\n") + "\n");
    }

    /// Changes one cell; lines count from 1, columns from 0.
    fn cell(&self, name: &str, line: usize, column: usize, value: &str) {
        self.line(name, line, |l| {
            let mut cells: Vec<&str> = l.split(',').collect();
            cells[column] = value;
            cells.join(",")
        });
    }

    /// Every cell of a column but the header's.
    fn column(&self, name: &str, column: usize, value: &str) {
        for line in 2..=self.read(name).lines().count() {
            self.cell(name, line, column, value);
        }
    }

    fn config(&self, from: &str, to: &str) {
        self.replace("bad.toml", from, to);
    }

    fn rule(&self, text: &str) {
        self.append("bad.toml", &format!("\n[[check]]\n{text}\n"));
    }

    /// Replaces the sections `[label]` and `[split]`.
    fn question(&self, text: &str) {
        let config = self.read("bad.toml");
        let (from, to) = (config.find("[label]"), config.find("[models]"));
        let (from, to) = (from.expect("a label"), to.expect("models"));
        self.write("bad.toml", format!("{}{text}\n{}", &config[..from], &config[to..]));
    }

    /// Labels from `snapshots.csv`: the first half trains, a quarter validates, a quarter tests.
    fn snapshots(&self) {
        self.question(SNAPSHOTS);
        let mut table = "customer_id,as_of,churned,split\n".to_owned();
        for i in 1..=40 {
            let part = ["train", "train", "validation", "test"][i % 4];
            writeln!(table, "C{i:03},2024-02,{},{part}", (i / 4) % 2).expect("text");
        }
        self.write("snapshots.csv", table);
    }

    /// Labels from the customers' table, parts from `folds.csv`.
    fn folds(&self) {
        self.question(FOLDS);
        let mut table = "customer_id,split_0\n".to_owned();
        for i in 1..=CUSTOMERS {
            let part = ["train", "train", "valid", "test"][i / 3 % 4];
            writeln!(table, "C{i:03},{part}").expect("text");
        }
        self.write("folds.csv", table);
    }

    /// The activity as Parquet, and the configuration that reads it.
    fn parquet(&self) {
        let n = CUSTOMERS as i64 * MONTHS as i64;
        let customer = |i: i64| format!("C{:03}", 1 + i / MONTHS as i64);
        let month = |i: i64| format!("2024-{:02}", 1 + i % MONTHS as i64);
        let columns = vec![
            ("customer_id", OutColumn::Text((0..n).map(customer).collect())),
            ("month", OutColumn::Text((0..n).map(month).collect())),
            ("usage", OutColumn::Number((0..n).map(|i| (i % 17) as f64).collect())),
            ("calls", OutColumn::Integer((0..n).map(|i| i % 5).collect())),
        ];
        write_table(&self.path("activity.parquet"), columns).expect("written");
        self.config("activity.csv", "activity.parquet");
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).expect("bytes")
    }
}

/// 400 tickets with whole hours from the 200th on, and one more.
fn late(world: &World, last: &str) {
    let hours = |i: usize| if i < 200 { String::new() } else { format!(",\"hours\":{i}") };
    let line = |i: usize, more: &str| {
        format!("{{\"customer_id\":\"C{:03}\",\"opened_on\":\"2024-03-01\"{more}}}\n", 1 + i % 60)
    };
    let lines = (0..400).map(|i| line(i, &hours(i))).chain([line(0, &format!(",{last}"))]);
    world.write("tickets.ndjson", lines.collect::<String>());
}

/// The bundle that scoring cases score with.
struct Trained {
    world: World,
}

static TRAINED: Shared<Trained> = Shared::new();

fn trained() -> Trained {
    let world = World::new();
    let (config, out) = (world.path("bad.toml"), world.path("run"));
    run_ok(&["train", config.to_str().expect("UTF-8"), "--out", out.to_str().expect("UTF-8")]);
    Trained { world }
}

/// One thing that is wrong.
struct Case {
    name: &'static str,
    verb: &'static str,
    args: Vec<&'static str>,
    damage: fn(&World),
    code: i32,
    words: Vec<&'static str>,
}

/// `{}` in arguments stands for the world's folder, `{bundle}` for a sound bundle.
fn case(verb: &'static str, name: &'static str, damage: fn(&World)) -> Case {
    let args = match verb {
        "train" => vec!["train", "{}/bad.toml", "--out", "{}/out"],
        "check" => vec!["check", "{}/bad.toml", "--out", "{}/out/quality.json"],
        "score" => vec!["score", "--bundle", "{bundle}", "--output", "{}/out/scores.csv"],
        _ => vec![verb],
    };
    Case { name, verb, args, damage, code: 0, words: Vec::new() }
}

fn train(name: &'static str, damage: fn(&World)) -> Case {
    case("train", name, damage)
}

fn check(name: &'static str, damage: fn(&World)) -> Case {
    case("check", name, damage)
}

/// Scores the world's folder.
fn score(name: &'static str, damage: fn(&World)) -> Case {
    case("score", name, damage).with(&["--input", "{}"])
}

impl Case {
    fn with(mut self, args: &[&'static str]) -> Self {
        self.args.extend(args);
        self
    }

    /// Refused with this exit code and these words.
    fn fails(mut self, code: i32, words: &[&'static str]) -> Self {
        (self.code, self.words) = (code, words.to_vec());
        self
    }

    /// Goes through, and says these words.
    fn works(self, words: &[&'static str]) -> Self {
        self.fails(0, words)
    }

    /// What is not as it should be; None if all is well.
    fn complaint(&self, bundle: &str) -> Option<String> {
        let world = World::new();
        (self.damage)(&world);
        let folder = world.folder.path().to_str().expect("UTF-8");
        let place = |arg: &&str| arg.replace("{bundle}", bundle).replace("{}", folder);
        let args: Vec<String> = self.args.iter().map(place).collect();
        let (code, out, err) = common::run(&args.iter().map(String::as_str).collect::<Vec<_>>());
        let said = format!("{out}{err}");
        let mut wrong = Vec::new();
        if code != self.code {
            wrong.push(format!("exit code {code}, expected {}", self.code));
        }
        if said.contains("panicked") || said.contains("RUST_BACKTRACE") {
            wrong.push("it panicked".to_owned());
        }
        if self.code != 0 && !err.lines().any(|line| line.starts_with("error: ")) {
            wrong.push("no line begins with `error: `".to_owned());
        }
        for word in self.words.iter().filter(|word| !said.contains(**word)) {
            wrong.push(format!("it does not say `{word}`"));
        }
        // What was refused leaves nothing that looks finished.
        let result = match self.verb {
            "train" => "out/metrics.json",
            "score" => "out/scores.csv",
            _ => return self.report(wrong, &said),
        };
        if world.path(result).exists() != (self.code == 0) {
            wrong.push(format!("{result} is there, or is not, against what it said"));
        }
        self.report(wrong, &said)
    }

    fn report(&self, wrong: Vec<String>, said: &str) -> Option<String> {
        let all = wrong.join("; ");
        (!wrong.is_empty()).then(|| format!("== {} {}: {all}\n{said}", self.verb, self.name))
    }
}

/// Runs all cases before it fails, so that one run tells all.
#[track_caller]
fn run(cases: &[Case]) {
    let trained = TRAINED.get(trained);
    let bundle = trained.world.path("run/bundle");
    let bundle = bundle.to_str().expect("UTF-8");
    let complaints: Vec<String> = cases.iter().filter_map(|case| case.complaint(bundle)).collect();
    assert!(
        complaints.is_empty(),
        "{} of {}\n{}",
        complaints.len(),
        cases.len(),
        complaints.join("\n")
    );
}

#[test]
fn the_sound_world() {
    run(&[
        train("nothing", |_| {}).works(&["mlp", "logistic", "bundle"]),
        check("nothing", |_| {}).works(&["duplicate_month", "unique(customer_id)"]),
        score("nothing", |_| {})
            .works(&["40 customers scored at the end of 2024-12, 20 had left before"]),
        train("snapshots", World::snapshots).works(&["mlp"]),
        train("folds", World::folds).works(&["mlp"]),
        train("parquet", World::parquet).works(&["mlp"]),
    ]);
}

#[test]
fn the_shape_of_csv_files() {
    run(&[
        train("missing column", |w| w.cell("customers.csv", 1, 2, "agee"))
            .fails(3, &["customers.csv", "no column `age`", "did you mean `agee`"]),
        train("another separator", |w| w.replace("customers.csv", ",", ";"))
            .fails(3, &["customers.csv", "no column `customer_id`", "customer_id;plan"]),
        train("short record", |w| w.line("customers.csv", 7, |_| "C006,basic,30,0".into()))
            .fails(3, &["customers.csv:7: has 4 fields, the header has 5", "quote"]),
        train("long record", |w| w.line("activity.csv", 9, |l| format!("{l},1")))
            .fails(3, &["activity.csv:9: has 5 fields, the header has 4"]),
        train("two columns of a name", |w| w.cell("customers.csv", 1, 3, "age"))
            .fails(3, &["customers.csv:1: has two columns `age`"]),
        train("quote left open", |w| w.cell("customers.csv", 5, 1, "\"basic"))
            .fails(3, &["customers.csv:5", "not closed"]),
        train("empty file", |w| w.write("activity.csv", "")).fails(3, &["activity.csv: is empty"]),
        train("nothing but line ends", |w| w.write("customers.csv", "\n\n\n"))
            .fails(3, &["customers.csv:1: is blank", "starts with a header"]),
        train("header only, attributes", |w| {
            w.write("customers.csv", "customer_id,plan,age,churned,churn_date\n");
        })
        .fails(3, &["hold no customer", "are the files empty?"]),
        train("header only, activity and events", |w| {
            w.write("activity.csv", "customer_id,month,usage,calls\n");
            w.config("tickets.ndjson", "tickets.csv");
            w.write("tickets.csv", "customer_id,opened_on,hours\n");
        })
        .fails(3, &["the dated sources hold no row"]),
        train("not UTF-8", |w| {
            let bytes = w.bytes("customers.csv");
            let latin1 = |b: &u8| if *b == b'g' { 0xe9 } else { *b };
            w.write("customers.csv", bytes.iter().map(latin1).collect::<Vec<_>>());
        })
        .fails(3, &["customers.csv:1: is not UTF-8", "iconv"]),
        train("UTF-16", |w| {
            let text = format!("\u{feff}{}", w.read("customers.csv"));
            let bytes = text.encode_utf16().flat_map(u16::to_le_bytes);
            w.write("customers.csv", bytes.collect::<Vec<_>>());
        })
        .fails(3, &["customers.csv:1: is not UTF-8"]),
        train("huge cell", |w| w.cell("customers.csv", 4, 1, &"x".repeat(70_000)))
            .fails(3, &["customers.csv:4: a cell has 70000 bytes, at most 65536"]),
        train("huge record", |w| w.cell("customers.csv", 4, 1, &"x".repeat(2_000_000)))
            .fails(3, &["customers.csv:4: a record is longer than"]),
        train("too many columns", |w| {
            w.line("customers.csv", 1, |l| format!("{l},{}", ["x"; 5000].join(",")));
        })
        .fails(3, &["customers.csv:1: has 5005 columns, at most 4096", "data.columns_max"]),
        train("byte order mark", |w| {
            w.write("customers.csv", format!("\u{feff}{}", w.read("customers.csv")));
        })
        .works(&["mlp"]),
        train("line ends of Windows", |w| w.replace("activity.csv", "\n", "\r\n")).works(&["mlp"]),
        check("line end in a quoted cell", |w| w.cell("customers.csv", 4, 1, "\"ba\nsic\""))
            .works(&["ok  customers  unique(customer_id)       0   60"]),
        train("blank line", |w| w.line("customers.csv", 4, |l| format!("\n{l}")))
            .fails(3, &["customers.csv:4: is blank", "delete the line"]),
        check("blank lines at the end", |w| w.append("customers.csv", "\n\r\n\n"))
            .works(&["ok  customers  unique(customer_id)       0   60"]),
        check("bad cell behind a quoted line end", |w| {
            w.cell("customers.csv", 4, 1, "\"ba\nsic\"");
            w.cell("customers.csv", 9, 2, "old");
        })
        .fails(4, &["customers.csv: row 7: column `age` holds \"old\""]),
        check("no line end at the end", |w| {
            w.write("customers.csv", w.read("customers.csv").trim_end());
        })
        .works(&["ok  customers  unique(customer_id)       0   60"]),
    ]);
}

#[test]
fn the_values_of_cells() {
    run(&[
        train("text for a number", |w| w.cell("customers.csv", 5, 2, "old"))
            .fails(4, &["customers.csv:5: column `age` holds \"old\", expected a finite number"]),
        check("text for a number", |w| w.cell("customers.csv", 5, 2, "old"))
            .fails(4, &["error", "readable(age)", "customers.csv:5", "\"old\""]),
        train("text for a number, to be set missing", |w| {
            w.cell("customers.csv", 5, 2, "old");
            w.config("age = \"number\"", "age = { type = \"number\", on_bad = \"null\" }");
        })
        .works(&["unreadable cells set missing: 1"]),
        train("infinite", |w| w.cell("activity.csv", 8, 2, "-inf"))
            .fails(4, &["activity.csv:8: column `usage` holds \"-inf\", expected a finite number"]),
        train("too large for a 64-bit number", |w| w.cell("activity.csv", 8, 2, "1e999"))
            .fails(4, &["activity.csv:8: column `usage` holds \"1e999\""]),
        train("too large for a 32-bit number", |w| w.cell("activity.csv", 8, 2, "1e300"))
            .fails(4, &["activity.csv:8: column `usage` holds \"1e300\""]),
        train("large, but not too large", |w| w.cell("activity.csv", 8, 2, "3e38")).works(&["mlp"]),
        check("NaN is missing", |w| {
            w.cell("customers.csv", 5, 2, "NaN");
            w.rule("source = \"customers\"\nrule = \"not_null\"\ncolumn = \"age\"");
        })
        .fails(4, &["not_null(age)", "customers.csv:5"]),
        train("NaN is missing", |w| w.cell("customers.csv", 5, 2, "NaN")).works(&["mlp"]),
        train("customer key missing", |w| w.cell("activity.csv", 4, 0, ""))
            .fails(3, &["activity.csv:4: the customer key `customer_id` is empty"]),
        train("no such day", |w| w.cell("customers.csv", 4, 4, "2024-02-31"))
            .fails(4, &["customers.csv:4: column `churn_date` holds \"2024-02-31\", expected a date"]),
        train("no such month", |w| w.cell("activity.csv", 6, 1, "2024-13"))
            .fails(4, &["activity.csv:6: column `month` holds \"2024-13\", expected a date"]),
        train("day of another country", |w| w.cell("customers.csv", 4, 4, "31.12.2024"))
            .fails(4, &["customers.csv:4", "\"31.12.2024\"", "2024-03-31"]),
        train("no month", |w| w.cell("activity.csv", 6, 1, ""))
            .fails(3, &["activity.csv:6", "a dated row has no date"]),
        train("year 9999", |w| w.cell("activity.csv", 6, 1, "9999-01"))
            .fails(3, &["2024-01 to 9999-01", "more than 1200 months", "find the wrong date"]),
        train("year 0001", |w| w.cell("activity.csv", 6, 1, "0001-01"))
            .fails(3, &["0001-01 to 2024-12", "more than 1200 months"]),
        train("duplicate customer-month", |w| w.cell("activity.csv", 4, 1, "2024-02"))
            .fails(4, &["duplicate_month", "activity.csv:4: 2024-02-01, customer \"C001\""]),
        train("duplicate customer-month, tolerated by a rule", |w| {
            w.cell("activity.csv", 4, 1, "2024-02");
            w.rule("source = \"activity\"\nrule = \"duplicate_month\"\nseverity = \"warn\"");
        })
        .fails(3, &["`activity` has two rows of customer `C001` in 2024-02", "remove one"]),
        train("duplicate customer", |w| w.cell("customers.csv", 9, 0, "C001"))
            .fails(4, &["unique(customer_id)", "customers.csv:9: customer \"C001\""]),
        train("rows of unknown customers", |w| {
            w.append("activity.csv", "Z1,2024-02,1,1\nZ1,2024-03,1,1\n");
        })
        .works(&["rows of unknown customers: 2"]),
        train("keys written in another way", |w| w.replace("activity.csv", "\nC", "\nc"))
            .works(&["rows of `activity` belong to no customer"]),
        score("keys written in another way", |w| w.replace("activity.csv", "\nC", "\nc"))
            .works(&["rows of `activity` belong to no customer"]),
        score("late rows and odd cells", |w| w.append("activity.csv", "X,2024-03,1,1\n"))
            .works(&["rows of unknown customers: 1"]),
        check("a churn date that is none", |w| w.cell("customers.csv", 4, 4, "2024-13-01"))
            .fails(4, &["readable(churn_date)", "customers.csv:4"]),
        check("a label that is not there", |w| w.config("column = \"churn_date\"", "column = \"churn\""))
            .fails(3, &["has no column `churn`", "did you mean"]),
        check("columns apart by semicolons", |w| {
            w.write("customers.csv", w.read("customers.csv").replace(',', ";"));
        })
        .fails(3, &["separate the columns by commas"]),
        check("rows of unknown customers, forbidden", |w| {
            w.append("activity.csv", "Z1,2024-02,1,1\n");
            w.rule("source = \"activity\"\nrule = \"relationships\"\nto = \"customers\"");
        })
        .fails(4, &["relationships", "customer \"Z1\""]),
        check("missing months", |w| {
            w.cell("activity.csv", 4, 0, "C999");
            w.rule("source = \"activity\"\nrule = \"gap_months\"\nseverity = \"warn\"");
        })
        .works(&["warn", "gap_months", "C001"]),
        train("a column without any value", |w| w.column("customers.csv", 2, "")).works(&["mlp"]),
        train("a measure without any value", |w| w.column("activity.csv", 2, "")).works(&["mlp"]),
        check("a column with one value", |w| {
            w.column("customers.csv", 1, "basic");
            w.rule("source = \"customers\"\nrule = \"not_constant\"\ncolumn = \"plan\"\nseverity = \"warn\"");
        })
        .works(&["warn", "not_constant(plan)", "basic"]),
        train("columns with one value", |w| {
            w.column("customers.csv", 1, "basic");
            w.column("customers.csv", 2, "7");
            w.column("activity.csv", 2, "7");
        })
        .works(&["mlp"]),
    ]);
}

#[test]
fn files_that_are_not_what_they_should_be() {
    run(&[
        train("no such file", |w| w.remove("activity.csv"))
            .fails(3, &["activity.csv: no such file", "`path` and `data.root`"]),
        train("pattern without a match", |w| w.config("activity.csv", "activity-*.parquet"))
            .fails(3, &["activity-*.parquet: no such file"]),
        train("unknown extension", |w| {
            w.write("activity.xls", "x");
            w.config("activity.csv", "activity.xls");
        })
        .fails(3, &["activity.xls", "names no format", "csv, parquet, ndjson or arrow"]),
        train("a folder without tables", |w| {
            w.remove("customers.csv");
            std::fs::create_dir(w.path("customers.csv")).expect("made");
        })
        .fails(3, &["customers.csv: no such file, or no data file under it"]),
        train("Parquet that is none", |w| {
            w.parquet();
            w.write("activity.parquet", "customer_id,month\n");
        })
        .fails(3, &["activity.parquet: cannot be read"]),
        train("Parquet cut short", |w| {
            w.parquet();
            let bytes = w.bytes("activity.parquet");
            w.write("activity.parquet", &bytes[..bytes.len() / 2]);
        })
        .fails(3, &["activity.parquet: cannot be read"]),
        train("Parquet with damaged pages", |w| {
            w.parquet();
            let mut bytes = w.bytes("activity.parquet");
            let end = bytes.len() / 2;
            bytes[4..end].iter_mut().for_each(|b| *b ^= 0x5a);
            w.write("activity.parquet", bytes);
        })
        .fails(3, &["activity.parquet: cannot be read"]),
        train("Parquet with a damaged footer", |w| {
            w.parquet();
            let mut bytes = w.bytes("activity.parquet");
            let end = bytes.len() - 8;
            bytes[end - 200..end].iter_mut().for_each(|b| *b ^= 0x5a);
            w.write("activity.parquet", bytes);
        })
        .fails(3, &["activity.parquet: cannot be read"]),
        train("Arrow that is none", |w| {
            w.config("activity.csv", "activity.arrow");
            w.write("activity.arrow", "ARROW1\0\0 and then nothing of the kind");
        })
        .fails(3, &["activity.arrow: cannot be read"]),
        train("NDJSON with a broken line", |w| {
            w.line("tickets.ndjson", 3, |_| "{\"customer_id\"".into())
        })
        .fails(3, &["tickets.ndjson:3: is no JSON object"]),
        train("NDJSON without a column", |w| w.replace("tickets.ndjson", "hours", "minutes"))
            .fails(3, &["tickets.ndjson: has no column `hours`", "minutes"]),
        train("NDJSON with text for a number", |w| {
            w.line("tickets.ndjson", 2, |l| {
                l.split(",\"hours").next().expect("a part").to_owned() + ",\"hours\":\"many\"}"
            });
        })
        .fails(4, &["tickets.ndjson", "column `hours` holds \"many\""]),
        train("NDJSON of nested values", |w| {
            w.replace("tickets.ndjson", "\"hours\":", "\"hours\":[1],\"x\":")
        })
        .fails(4, &["tickets.ndjson", "`hours`"]),
        train("NDJSON of values that do not fit each other", |w| {
            w.line("tickets.ndjson", 1, |l| l.replace("\"hours\":", "\"hours\":[1],\"x\":"));
        })
        .fails(3, &["tickets.ndjson: cannot be read"]),
        train("NDJSON with an infinite number", |w| {
            w.line("tickets.ndjson", 2, |l| l.replace("\"hours\":", "\"hours\":1e999,\"x\":"));
        })
        .fails(3, &["tickets.ndjson:2: is no JSON object: number out of range"]),
        train("NDJSON whose first fraction and first key come late", |w| {
            late(w, "\"hours\":2.5");
        })
        .works(&["mlp"]),
        train("NDJSON whose first text comes late", |w| late(w, "\"hours\":\"many\""))
            .fails(4, &["tickets.ndjson: row 401: column `hours` holds \"many\""]),
        train("NDJSON without customers", |w| w.replace("tickets.ndjson", "\"C001\"", "null"))
            .fails(3, &["tickets.ndjson", "row 1: the customer key `customer_id` is empty"]),
        train("the name says CSV, the file is Parquet", |w| {
            w.parquet();
            w.config("activity.parquet", "activity.csv");
            w.write("activity.csv", w.bytes("activity.parquet"));
        })
        .fails(3, &["activity.csv:1: is not UTF-8"]),
    ]);
}

#[test]
fn configurations_and_flags() {
    run(&[
        train("unknown key", |w| w.config("epochs_max = 1", "epoch_max = 1"))
            .fails(3, &["bad.toml:49", "`epoch_max`", "did you mean `epochs_max`?"]),
        train("unknown name", |w| w.config("kind = \"activity\"", "kind = \"actvity\""))
            .fails(3, &["bad.toml:14", "actvity", "did you mean `activity`?"]),
        train("wrong type", |w| w.config("epochs_max = 1", "epochs_max = \"many\""))
            .fails(3, &["bad.toml:49", "epochs_max"]),
        train("no TOML", |w| w.config("seed = 3", "seed = = 3")).fails(3, &["bad.toml:2"]),
        train("not UTF-8", |w| w.write("bad.toml", b"name = \"a\"\n# \xff\n"))
            .fails(3, &["bad.toml:2: is not UTF-8"]),
        train("no configuration", |w| w.remove("bad.toml")).fails(3, &["bad.toml"]),
        train("a folder for a configuration", |w| {
            w.remove("bad.toml");
            std::fs::create_dir(w.path("bad.toml")).expect("made");
        })
        .fails(3, &["bad.toml"]),
        train("label without its source", |w| {
            w.config("source = \"customers\"", "source = \"custmers\"")
        })
        .fails(3, &["bad.toml:34", "no source `custmers`", "did you mean `customers`?"]),
        train("label among the features", |w| {
            w.config("age = \"number\"", "churn_date = \"date\"")
        })
        .fails(3, &["bad.toml:10", "is the label", "leak"]),
        train("key among the features", |w| {
            w.config("age = \"number\"", "customer_id = \"category\"")
        })
        .fails(3, &["bad.toml:10", "the customer key cannot be a feature"]),
        train("network of negative width", |w| w.config("width = 4", "width = -4"))
            .fails(3, &["bad.toml:46", "width"]),
        train("network of no width", |_| {})
            .with(&["--set", "models.mlp.width=0"])
            .fails(2, &["--set models.mlp.width", "must lie in [1, 16384], is 0"]),
        train("learning rate of nothing", |_| {})
            .with(&["--set", "train.learning_rate=0.0"])
            .fails(2, &["train.learning_rate", "(0, 1]"]),
        train("learning rate that is no number", |_| {})
            .with(&["--set", "train.learning_rate=nan"])
            .fails(2, &["train.learning_rate", "NaN"]),
        train("flag without a value", |_| {})
            .with(&["--set", "train.patience"])
            .fails(2, &["--set train.patience has no `=`", "a.b=value"]),
        train("flag for nothing", |_| {})
            .with(&["--set", "train.patiance=3"])
            .fails(2, &["train.patiance", "did you mean `patience`?"]),
        train("flag for a source that is not there", |_| {})
            .with(&["--set", "source.activty.absent=missing"])
            .fails(2, &["activty"]),
        train("no such device", |_| {})
            .with(&["--device", "tpu"])
            .fails(2, &["tpu", "auto, gpu, gpu:N, cpu"]),
        train("one of several devices that is none", |_| {})
            .with(&["--devices", "cpu,tpu"])
            .fails(2, &["there is no device `tpu`", "auto, gpu, gpu:N, cpu"]),
        train("auto beside another device", |_| {})
            .with(&["--devices", "auto,cpu"])
            .fails(2, &["`auto` stands alone"]),
        train("a GPU that may be two", |_| {})
            .with(&["--devices", "gpu,gpu:1"])
            .fails(2, &["train.device", "by number"]),
        train("no device, in a list", |w| w.config("\"cpu\"", "[]"))
            .fails(3, &["bad.toml:50", "must name 1 to 16 devices, names 0"]),
        train("a GPU that is not there", |_| {})
            .with(&["--devices", "cpu,gpu:97"])
            .fails(5, &["gpu:97", "--device cpu"]),
        train("no batches in a step", |_| {})
            .with(&["--set", "train.accumulate=0"])
            .fails(2, &["train.accumulate", "must lie in [1, 1024], is 0"]),
        train("no such device, in the file", |w| w.config("\"cpu\"", "\"tpu\""))
            .fails(3, &["bad.toml:50", "there is no device `tpu`"]),
        train("a run folder in use", |w| {
            std::fs::create_dir(w.path("out")).expect("made");
            w.write("out/notes.txt", "mine");
        })
        .fails(2, &["out: is not empty", "choose another"]),
        train("a run that ended at its checks", |w| {
            std::fs::create_dir(w.path("out")).expect("made");
            w.write("out/quality.json", "{}");
        })
        .works(&[]),
        train("a rule about nothing", |w| {
            w.rule("source = \"customers\"\nrule = \"unique\"\ncolumn = \"aeg\"")
        })
        .fails(3, &["`aeg` is not among the columns of `customers`"]),
        train("data root without its variable", |w| {
            w.config("seed = 3", "seed = 3\n[data]\nroot = \"${CHURN_NO_SUCH_VARIABLE}\"");
        })
        .fails(3, &["bad.toml:4", "CHURN_NO_SUCH_VARIABLE"]),
        case("simulate", "no such industry", |_| {})
            .with(&["telco", "--out", "{}/out"])
            .fails(2, &["telco", "telecom"]),
        case("simulate", "no customers", |_| {})
            .with(&["telecom", "--customers", "0", "--out", "{}/out"])
            .fails(2, &["customers"]),
        case("simulate", "no months", |_| {})
            .with(&["telecom", "--months", "0", "--out", "{}/out"])
            .fails(2, &["months"]),
        case("forecast", "no such verb", |_| {}).fails(2, &["forecast"]),
    ]);
}

#[test]
fn labels_and_splits() {
    run(&[
        train("label window past the data", |w| w.config("\"churn_date\"\n", "\"churn_date\"\nhorizon = 12\n"))
            .fails(3, &["no customer has a label", "looks 12 months ahead", "2024-01 to 2024-12"]),
        train("too few months", |w| w.config("\"churn_date\"\n", "\"churn_date\"\nhorizon = 4\n"))
            .fails(3, &["12 months are too few", "split.validation_months"]),
        train("nobody churns", |w| w.column("customers.csv", 4, ""))
            .fails(3, &["in the train part nobody churns", "one class"]),
        train("everybody churns", |w| {
            w.folds();
            w.column("customers.csv", 3, "1");
        })
        .fails(3, &["in the train part of fold 0 everybody churns"]),
        train("label that is none", |w| {
            w.folds();
            w.cell("customers.csv", 8, 3, "maybe");
        })
        .fails(3, &["customers.csv:8: label `maybe` is not 0 or 1", "true or false"]),
        train("no label column", |w| {
            w.folds();
            w.cell("customers.csv", 1, 3, "churn");
        })
        .fails(3, &["no column `churned`", "did you mean `churn`?"]),
        train("snapshot of an unknown customer", |w| {
            w.snapshots();
            w.cell("snapshots.csv", 3, 0, "Z1");
        })
        .fails(3, &["snapshots.csv:3: customer `Z1` has no history at 2024-02", "panel.start"]),
        train("snapshot before the history", |w| {
            w.snapshots();
            w.cell("snapshots.csv", 3, 1, "2023-02");
        })
        .fails(3, &["snapshots.csv:3: customer `C002` has no history at 2023-02"]),
        train("snapshot twice", |w| {
            w.snapshots();
            w.cell("snapshots.csv", 3, 0, "C001");
        })
        .fails(3, &["snapshots.csv", "two snapshots of customer `C001` in 2024-02"]),
        train("snapshot label that is none", |w| {
            w.snapshots();
            w.cell("snapshots.csv", 3, 2, "2");
        })
        .fails(3, &["snapshots.csv:3: label `2` is not 0 or 1"]),
        train("snapshot without a label", |w| {
            w.snapshots();
            w.cell("snapshots.csv", 3, 2, "");
        })
        .fails(3, &["snapshots.csv:3", "must both be there"]),
        train("snapshot of an unknown part", |w| {
            w.snapshots();
            w.cell("snapshots.csv", 3, 3, "holdout");
        })
        .fails(3, &["`split`", "`holdout`", "train, validation or test"]),
        train("part without snapshots", |w| {
            w.snapshots();
            w.replace("snapshots.csv", "validation", "train");
        })
        .fails(3, &["the validation part holds no snapshot"]),
        train("fold of an unknown part", |w| {
            w.folds();
            w.cell("folds.csv", 5, 1, "dev");
        })
        .fails(3, &["folds.csv:5: `split_0` of customer `C004` is `dev`", "train, valid or test"]),
        train("no fold", |w| {
            w.folds();
            w.cell("folds.csv", 1, 1, "split");
        })
        .fails(3, &["folds.csv: has no column `split_0`"]),
        train("fold of other customers", |w| {
            w.folds();
            w.replace("folds.csv", "\nC", "\nK");
        })
        .fails(3, &["the train part of fold 0 holds no snapshot"]),
        train("measure that is not there", |w| {
            w.question("[label]\nkind = \"inactivity\"\nmeasure = \"usge\"\nmonths = 1\n[split]\nkind = \"time\"\n");
        })
        .fails(3, &["bad.toml:34", "no measure `usge`", "did you mean `usage`?"]),
    ]);
}

#[test]
fn scoring() {
    run(&[
        score("values never seen in training", |w| w.cell("customers.csv", 5, 1, "platinum"))
            .works(&["40 customers scored"]),
        score("more customers than in training", |w| {
            w.append("customers.csv", "N1,basic,30,0,\n");
            w.append("activity.csv", "N1,2024-12,3,1\n");
        })
        .works(&["41 customers scored"]),
        score("without the columns of the label", |w| {
            let without = |l: &str| l.split(',').take(3).collect::<Vec<_>>().join(",") + "\n";
            w.write(
                "customers.csv",
                w.read("customers.csv").lines().map(without).collect::<String>(),
            );
        })
        .works(&["60 customers scored"]),
        score("as of an earlier month", |_| {})
            .with(&["--as-of", "2024-06"])
            .works(&["scored at the end of 2024-06"]),
        score("without a source", |w| w.remove("activity.csv"))
            .fails(3, &["activity.csv: no such file"]),
        case("score", "without a source, files by name", |_| {})
            .with(&["--input", "{}/customers.csv", "{}/activity.csv"])
            .fails(2, &["no input file for the source `tickets`"]),
        case("score", "a file of no source", |w| w.write("other.csv", "a\n"))
            .with(&["--input", "{}/customers.csv", "{}/activity.csv", "{}/other.csv"])
            .fails(2, &["other.csv", "belongs to no source", "customers, activity, tickets"]),
        score("without a column", |w| w.cell("activity.csv", 1, 2, "use"))
            .fails(3, &["activity.csv: has no column `usage`"]),
        score("text for a number", |w| w.cell("activity.csv", 7, 2, "much"))
            .fails(3, &["activity.csv:7: column `usage` holds \"much\""]),
        score("duplicate customer", |w| w.cell("customers.csv", 9, 0, "C001"))
            .fails(3, &["`customers` has two rows of customer `C001`"]),
        score("duplicate customer-month", |w| w.cell("activity.csv", 4, 1, "2024-02"))
            .fails(3, &["`activity` has two rows of customer `C001` in 2024-02"]),
        score("no customers", |w| w.write("customers.csv", "customer_id,plan,age\n"))
            .fails(3, &["holds no customer"]),
        score("before the data", |_| {})
            .with(&["--as-of", "2020-01"])
            .fails(3, &["no customer who could still leave", "as-of"]),
        score("far behind the data", |_| {})
            .with(&["--as-of", "9999-01"])
            .fails(3, &["as-of month 9999-01 lies after the data"]),
        score("no month", |_| {})
            .with(&["--as-of", "June"])
            .fails(2, &["`June` is no month", "2017-03"]),
        score("no such device", |_| {}).with(&["--device", "tpu"]).fails(2, &["no device `tpu`"]),
        case("score", "no input", |_| {}).fails(2, &["--input"]),
        case("score", "no such input", |_| {})
            .with(&["--input", "{}/nothing"])
            .fails(2, &["nothing"]),
    ]);
}

/// Outputs and bundles that cannot be.
#[test]
fn scoring_to_and_from_nowhere() {
    let trained = TRAINED.get(trained);
    let (data, bundle) = (trained.world.path(""), trained.world.path("run/bundle"));
    let run = |bundle: &PathBuf, output: &PathBuf| {
        let args = [
            "score",
            "--bundle",
            bundle.to_str().expect("UTF-8"),
            "--input",
            data.to_str().expect("UTF-8"),
        ];
        common::run(&[&args[..], &["--output", output.to_str().expect("UTF-8")]].concat())
    };
    let elsewhere = tempfile::tempdir().expect("a folder");
    let (code, _, err) = run(&bundle, &elsewhere.path().join("scores.xls"));
    assert!(
        code == 2 && err.contains("scores.xls: has no format that we write; name it .csv"),
        "{code} {err}"
    );
    let (code, _, err) = run(&elsewhere.path().join("none"), &elsewhere.path().join("scores.csv"));
    assert!(code == 3 && err.contains("none: is no bundle"), "{code} {err}");
    let (code, _, err) = run(&bundle, &PathBuf::from("/proc/no/scores.csv"));
    assert!(code == 5 && err.contains("/proc/no"), "{code} {err}");
    assert_eq!(std::fs::read_dir(elsewhere.path()).expect("a listing").count(), 0);
}
