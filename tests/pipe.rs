//! The Arrow pipe: the scores of files, bit by bit, however the rows are cut into batches; and what
//! happens to streams that are not as they should be.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Stdio};

use churn::bundle::{self, Bundle, GoldenRow};
use churn::clock::Month;
use churn::panel::raw::RawCell;
use churn::score::Detail;
use churn::score::pipe::{Fault, Piped, pipe};
use churn::source::stream::{ArrowInput, ArrowOutput};
use churn::{fsx, seeds::Seeds, tensors};
use polars::prelude::*;

use crate::common::{Shared, Tiny, churn, outcome, run_ok};

/// Networks of every kind, and an average with trees: what they share is all that is computed.
const MODELS: [(&str, &[&str]); 4] = [
    ("mlp", &["models.use=[\"mlp\"]", "models.trees=false", "models.champion=mlp"]),
    (
        "gated",
        &[
            "models.use=[\"hybrid\"]",
            "models.trees=false",
            "models.champion=hybrid",
            "models.gru.fusion=gated",
        ],
    ),
    (
        "initial",
        &[
            "models.use=[\"hybrid\"]",
            "models.trees=false",
            "models.champion=hybrid",
            "models.gru.fusion=initial",
        ],
    ),
    ("average", &["models.use=[\"hybrid\"]", "models.champion=ensemble"]),
];

/// A model, the customers that it scored out of files, and their risks.
struct Scored {
    bundle: Bundle,
    table: DataFrame,
    risks: Vec<f64>,
}

struct Trained {
    tiny: Tiny,
    models: Vec<Scored>,
}

static TRAINED: Shared<Trained> = Shared::new();

impl Trained {
    fn new() -> Self {
        let tiny = Tiny::new();
        let models = MODELS.iter().map(|&(name, sets)| Scored::new(&tiny, name, sets)).collect();
        Trained { tiny, models }
    }

    /// The command that scores a stream with the first model.
    fn command(&self) -> std::process::Command {
        let mut command = churn();
        let bundle = Path::new(&self.tiny.path("mlp")).join("bundle");
        command.arg("score").arg("--bundle").arg(bundle);
        command.args(["--stdin", "arrow", "--stdout", "arrow"]);
        command
    }
}

impl Scored {
    fn new(tiny: &Tiny, name: &str, sets: &[&str]) -> Self {
        let more: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
        let trained = outcome(&mut tiny.train(name, "cpu", "\"hybrid\"", &more));
        assert_eq!(trained.0, 0, "{}", trained.2);
        let bundle = tiny.path(&format!("{name}/bundle"));
        let (rows, csv) = (tiny.path(&format!("{name}.jsonl")), tiny.path(&format!("{name}.csv")));
        let input = tiny.folder.path().to_str().expect("UTF-8");
        run_ok(&[
            "score", "--bundle", &bundle, "--input", input, "--output", &csv, "--rows", &rows,
        ]);
        let bytes = fsx::read_limited(Path::new(&rows), 1 << 24).expect("rows");
        let rows = bundle::parse_rows(&bytes, Path::new(&rows)).expect("rows");
        assert!(rows.len() >= 40, "{} customers", rows.len());
        let device = tensors::choose("cpu".parse().expect("a device")).expect("a device").device;
        Scored {
            bundle: bundle::load(Path::new(&bundle), &device).expect("a bundle"),
            table: table(&rows),
            risks: rows.iter().map(|row| row.risk).collect(),
        }
    }

    /// Scores the table, cut before the given rows.
    fn pipe(&self, cuts: &[usize]) -> Vec<f64> {
        let input = stream(&self.table, cuts);
        let mut output = Vec::new();
        let piped = pipe(&self.bundle, Detail::Risk, &input[..], &mut output).expect("scores");
        let batches = batches(&output);
        assert_eq!(piped, Piped { batches: cuts.len() as u64 + 1, rows: self.risks.len() as u64 });
        let heights: Vec<usize> = batches.iter().map(DataFrame::height).collect();
        let bounds = [&[0], cuts, &[self.risks.len()]].concat();
        assert_eq!(heights, bounds.windows(2).map(|b| b[1] - b[0]).collect::<Vec<_>>());
        let risks = |batch: &DataFrame| -> Vec<f64> {
            batch.column("risk").expect("risks").f64().expect("numbers").iter().flatten().collect()
        };
        batches.iter().flat_map(risks).collect()
    }
}

/// Customers as the pipe takes them.
fn table(rows: &[GoldenRow]) -> DataFrame {
    let text = |cell: &RawCell| match cell {
        RawCell::Text(text) => Some(text.clone()),
        _ => None,
    };
    let number = |cell: &RawCell| match cell {
        RawCell::Number(number) => Some(*number),
        _ => None,
    };
    let customers = || rows.iter().map(|row| &row.customer);
    let cell = |name: &str| {
        let cell = move |c: &bundle::GoldenRow| c.customer.attributes[0].values[name].clone();
        rows.iter().map(cell).collect::<Vec<RawCell>>()
    };
    let ids: Vec<&str> = customers().map(|c| c.customer_id.as_str()).collect();
    let as_of: Vec<i32> = customers()
        .map(|c| c.start.expect("dated").plus(c.length as i32 - 1))
        .map(|month: Month| month.year() * 100 + month.of_year() as i32)
        .collect();
    let plans: Vec<Option<String>> = cell("plan").iter().map(text).collect();
    let ages: Vec<Option<f32>> = cell("age").iter().map(number).collect();
    let calls: Vec<Series> =
        customers().map(|c| Series::new("".into(), &c.months["calls"])).collect();
    DataFrame::new_infer_height(vec![
        Column::new("calls".into(), calls),
        Column::new("unknown".into(), vec![1i64; rows.len()]),
        Column::new("customer_id".into(), ids),
        Column::new("plan".into(), plans),
        Column::new("age".into(), ages),
        Column::new("as_of".into(), as_of),
    ])
    .expect("a table")
}

/// A table as a stream of batches, cut before the given rows.
fn stream(table: &DataFrame, cuts: &[usize]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut out = ArrowOutput::begin(&mut bytes, table).expect("written");
    let bounds = [&[0], cuts, &[table.height()]].concat();
    for pair in bounds.windows(2) {
        out.write(table.slice(pair[0] as i64, pair[1] - pair[0])).expect("written");
    }
    out.finish().expect("written");
    bytes
}

fn batches(bytes: &[u8]) -> Vec<DataFrame> {
    let (mut input, _) = ArrowInput::open(bytes, &|_| true).expect("a schema");
    std::iter::from_fn(|| input.read().expect("a batch")).collect()
}

fn bits(risks: &[f64]) -> Vec<u64> {
    risks.iter().map(|risk| risk.to_bits()).collect()
}

#[test]
fn a_stream_scores_as_files_do_bit_by_bit_however_it_is_cut() {
    let trained = TRAINED.get(Trained::new);
    for (scored, (name, _)) in trained.models.iter().zip(MODELS) {
        let rows = scored.risks.len();
        assert_eq!(bits(&scored.pipe(&[])), bits(&scored.risks), "{name}: files");
        let every: Vec<usize> = (1..rows).collect();
        assert_eq!(bits(&scored.pipe(&every)), bits(&scored.risks), "{name}: one by one");
        // 1,000 in all; the rest goes to the model with the most operations.
        let draws = if name == "average" { 850 } else { 50 };
        for draw in 0..draws {
            let seeds = Seeds::new(draw);
            let count = 1 + seeds.number("count", 0) as usize % 12;
            let mut cuts: Vec<usize> =
                (0..count as u64).map(|i| seeds.number("cut", i) as usize % (rows + 1)).collect();
            cuts.sort_unstable();
            assert_eq!(bits(&scored.pipe(&cuts)), bits(&scored.risks), "{name}: {cuts:?}");
        }
    }
}

#[test]
fn a_stream_of_no_batches_has_a_schema() {
    let trained = TRAINED.get(Trained::new);
    let scored = &trained.models[0];
    let whole = stream(&scored.table, &[]);
    let mut schema = Vec::new();
    ArrowOutput::begin(&mut schema, &scored.table).and_then(ArrowOutput::finish).expect("written");
    assert!(schema.len() < whole.len());
    let mut output = Vec::new();
    let piped = pipe(&scored.bundle, Detail::Risk, &schema[..], &mut output).expect("nothing");
    assert_eq!(piped, Piped { batches: 0, rows: 0 });
    let (mut input, columns) = ArrowInput::open(&output[..], &|_| true).expect("a schema");
    assert_eq!(columns.iter_names().collect::<Vec<_>>(), ["customer_id", "risk", "bundle_id"]);
    assert!(input.read().expect("the end").is_none());
}

#[test]
fn histories_may_be_padded_and_ids_may_be_numbers() {
    let trained = TRAINED.get(Trained::new);
    let scored = &trained.models[1];
    let mut table = scored.table.clone();
    let lengths: Vec<i64> = vec![4; table.height()];
    let calls = table.column("calls").expect("a column").list().expect("lists").clone();
    let padded: Vec<Series> = calls
        .amortized_iter()
        .map(|list| {
            let list = list.expect("a list").deep_clone();
            let mut padded = Series::new("".into(), &[99.0f32, f32::NAN]);
            padded.append(&list).expect("appended");
            padded
        })
        .collect();
    table.with_column(Column::new("calls".into(), padded)).expect("put");
    table.with_column(Column::new("history_months".into(), lengths)).expect("put");
    let ids: Vec<i64> = (0..table.height() as i64).collect();
    table.with_column(Column::new("customer_id".into(), &ids)).expect("put");
    let mut output = Vec::new();
    pipe(&scored.bundle, Detail::Risk, &stream(&table, &[])[..], &mut output).expect("scores");
    let found = batches(&output).remove(0);
    assert_eq!(
        found.column("customer_id").expect("ids"),
        table.column("customer_id").expect("ids")
    );
    let risks = found.column("risk").expect("risks").f64().expect("numbers");
    assert_eq!(bits(&risks.iter().flatten().collect::<Vec<_>>()), bits(&scored.risks));
}

/// What a change of the table's third row or of a whole column is told as.
#[track_caller]
fn check(change: impl FnOnce(&mut DataFrame), batch: Option<u64>, column: &str, row: Option<u64>) {
    let trained = TRAINED.get(Trained::new);
    let mut table = trained.models[0].table.clone();
    change(&mut table);
    let input = stream(&table, &[1]);
    let mut output = Vec::new();
    let fault = pipe(&trained.models[0].bundle, Detail::Risk, &input[..], &mut output);
    let fault = fault.expect_err("a fault");
    let found = (fault.batch, fault.column.as_deref(), fault.row);
    assert_eq!(found, (batch, Some(column), row), "{fault:?}");
    assert_eq!(fault.error.kind.exit_code(), 3, "{fault:?}");
}

fn put<T, P: ?Sized>(table: &mut DataFrame, name: &str, cells: T)
where
    Series: NamedFrom<T, P>,
{
    table.with_column(Column::new(name.into(), cells)).expect("put");
}

#[test]
fn faults_name_batch_row_and_column() {
    let all = TRAINED.get(Trained::new).models[0].table.height();
    check(|table| put(table, "age", vec![f64::INFINITY; all]), Some(1), "age", Some(1));
    let third = |table: &DataFrame| (0..table.height()).map(|row| row == 2).collect::<Vec<bool>>();
    check(
        |table| {
            let texts = third(table)
                .into_iter()
                .map(|it| if it { "old" } else { "31" })
                .collect::<Vec<_>>();
            put(table, "age", texts);
        },
        Some(2),
        "age",
        Some(2),
    );
    check(
        |table| {
            let months = third(table).into_iter().map(|it| if it { 202413 } else { 202404 });
            put(table, "as_of", months.collect::<Vec<_>>());
        },
        Some(2),
        "as_of",
        Some(2),
    );
    check(
        |table| {
            let ids = third(table).into_iter().map(|it| (!it).then_some("c"));
            put(table, "customer_id", ids.collect::<Vec<_>>());
        },
        Some(2),
        "customer_id",
        Some(2),
    );
    check(
        |table| {
            let lists = third(table)
                .into_iter()
                .map(|it| Series::new("".into(), if it { vec![] } else { vec![1.0f32] }));
            put(table, "calls", lists.collect::<Vec<_>>());
        },
        Some(2),
        "calls",
        Some(2),
    );
    // What the schema shows is told before any batch.
    check(|table| put(table, "calls", vec![1.0f32; all]), None, "calls", None);
    check(|table| drop(table.drop_in_place("plan").expect("there")), None, "plan", None);
}

/// Bytes on the program's stdin, which stays open.
fn start(trained: &Trained, input: &[u8]) -> Child {
    let mut command = trained.command();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    child.stdin.as_mut().expect("piped").write_all(input).expect("written");
    child
}

#[test]
fn a_bad_batch_ends_the_stream_and_the_batches_before_it_are_out() {
    let trained = TRAINED.get(Trained::new);
    let mut table = trained.models[0].table.clone();
    let ages = (0..table.height()).map(|row| if row < 20 { "30" } else { "x" });
    put(&mut table, "age", ages.collect::<Vec<_>>());
    let mut child = start(&trained, &stream(&table, &[10, 20, 30]));
    drop(child.stdin.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(3));
    let found: Vec<DataFrame> = batches(&output.stdout);
    assert_eq!(found.iter().map(DataFrame::height).collect::<Vec<_>>(), [10, 10]);
    let text = String::from_utf8(output.stderr).expect("UTF-8");
    let line = text.lines().find(|line| line.starts_with('{')).expect("a line of JSON");
    let fault: serde_json::Value = serde_json::from_str(line).expect("JSON");
    assert_eq!(
        (&fault["batch"], &fault["row"], &fault["column"]),
        (&3.into(), &1.into(), &"age".into())
    );
    let last = text.lines().last().expect("a line");
    assert!(last.starts_with("error: batch 3, row 1, column `age`: holds \"x\""), "{last}");
}

#[test]
fn a_batch_is_scored_while_the_input_is_open() {
    let trained = TRAINED.get(Trained::new);
    let scored = &trained.models[0];
    let whole = stream(&scored.table, &[10]);
    let end = stream(&scored.table.slice(0, 10), &[]).len() - 8;
    let mut child = start(&trained, &whole[..end]);
    let mut output = child.stdout.take().expect("piped");
    // Blocks for ever if the program waits for more.
    let (mut input, _) = ArrowInput::open(&mut output, &|_| true).expect("a schema");
    assert_eq!(input.read().expect("a batch").expect("a batch").height(), 10);
    child.stdin.as_mut().expect("piped").write_all(&whole[end..]).expect("written");
    drop(child.stdin.take());
    assert_eq!(input.read().expect("a batch").expect("a batch").height(), 30);
    assert!(input.read().expect("the end").is_none());
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn a_reader_that_has_gone_is_no_error() {
    let trained = TRAINED.get(Trained::new);
    let mut child = start(&trained, &[]);
    drop(child.stdout.take());
    let every: Vec<usize> = (1..40).collect();
    let mut input = child.stdin.take().expect("piped");
    // It may be gone before all is written.
    let _ = input.write_all(&stream(&trained.models[0].table, &every));
    drop(input);
    let mut text = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut text).expect("UTF-8");
    assert_eq!(child.wait().expect("it ends").code(), Some(0), "{text}");
}

#[test]
fn damaged_streams_are_refused() {
    let trained = TRAINED.get(Trained::new);
    let scored = &trained.models[0];
    let whole = stream(&scored.table, &[5, 20]);
    let run = |bytes: &[u8]| -> Result<Piped, Fault> {
        pipe(&scored.bundle, Detail::Risk, bytes, std::io::sink())
    };
    for bytes in [&b""[..], b"PAR1", b"customer_id,age\na,3\n", &[0xff; 64]] {
        let fault = run(bytes).expect_err("no stream");
        assert_eq!(fault.error.kind.exit_code(), 3, "{bytes:?}: {fault:?}");
    }
    // Cut off anywhere but between messages, and with bytes changed: never a panic, and where it is
    // refused, as bad data.
    for draw in 0..3000 {
        let seeds = Seeds::new(draw);
        let number = |name: &str, below: usize| seeds.number(name, 0) as usize % below;
        let mut bytes = whole.clone();
        match draw % 3 {
            0 => bytes.truncate(number("cut", whole.len())),
            1 => bytes[number("at", whole.len())] = number("byte", 256) as u8,
            _ => {
                let at = number("at", whole.len() - 8);
                bytes[at..at + 8].copy_from_slice(&seeds.number("word", 0).to_le_bytes());
            }
        }
        if let Err(fault) = run(&bytes) {
            assert_eq!(fault.error.kind.exit_code(), 3, "draw {draw}: {fault:?}");
        }
    }
}
