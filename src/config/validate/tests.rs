use expect_test::{Expect, expect};

use super::*;

const SMALL: &str = r#"
name = "a"

[[source]]
name = "customers"
kind = "attributes"
path = "customers.csv"
columns = { plan = "category", age = "number" }

[[source]]
name = "activity"
kind = "activity"
path = "activity.csv"
time = "month"
columns = { calls = "number", plan_then = "category" }

[[source]]
name = "tickets"
kind = "events"
path = "tickets.csv"
time = "opened_at"
columns = { severity = "number", topic = "category" }
measures = { tickets = { agg = "count" }, worst = { agg = "max", column = "severity" } }

[label]
kind = "event"
source = "customers"
column = "left_on"

[split]
kind = "time"

[[check]]
source = "customers"
rule = "unique"
column = "customer_id"

[[check]]
source = "customers"
rule = "future_dates"
column = "left_on"

[[check]]
source = "tickets"
rule = "relationships"
to = "customers"
"#;

/// The faults of the small configuration after replacements, one a line.
#[track_caller]
pub fn check(replacements: &[(&str, &str)], expect: Expect) {
    let mut text = SMALL.to_owned();
    for (from, to) in replacements {
        assert!(text.contains(from), "{from} is not in the text");
        text = text.replacen(from, to, 1);
    }
    let config: Config = toml::from_str(&text).expect("the shape is right");
    let faults: String = faults(&config)
        .into_iter()
        .map(|fault| {
            assert!(fault.message.starts_with(&format!("`{}`: ", fault.path)), "{fault:?}");
            let hint = fault.hint.map(|hint| format!("; {hint}")).unwrap_or_default();
            format!("{}{hint}\n", fault.message)
        })
        .collect();
    expect.assert_eq(&faults);
}

/// The same with a section at the end.
#[track_caller]
fn check_section(section: &str, expect: Expect) {
    check(&[("[split]", &format!("{section}\n[split]"))], expect);
}

#[test]
fn a_sound_configuration_has_no_fault() {
    check(&[], expect![[""]]);
    let config: Config = toml::from_str(SMALL).expect("the shape is right");
    assert!(validate(&config).is_ok());
    let mut broken = config;
    broken.seed = u64::MAX;
    broken.train.device = crate::config::Devices::One("tpu".into());
    expect![[r#"
        `seed`: must lie in (.., 9223372036854775807], is 18446744073709551615
        `train.device`: there is no device `tpu`; one of auto, gpu, gpu:N, cpu, ndarray"#]]
    .assert_eq(&validate(&broken).expect_err("faults").to_string());
}

#[test]
fn sources() {
    check(
        &[("name = \"a\"", "name = \"../a\"")],
        expect![[r#"
        `name`: letters, digits, `_` and `-` only, since it names folders
    "#]],
    );
    check(
        &[("name = \"tickets\"", "name = \"activity\"")],
        expect![[r#"
        `source.2.name`: there are two sources named `activity`
        `check.2.source`: there is no source `tickets`; known are customers, activity, activity
    "#]],
    );
    check(
        &[("name = \"tickets\"", "name = \"a.b\"")],
        expect![[r#"
        `source.2.name`: must be a name without dots, slashes and quotes
        `check.2.source`: there is no source `tickets`; known are customers, activity, a.b
    "#]],
    );
    check(
        &[("path = \"activity.csv\"", "path = []")],
        expect![[r#"
        `source.1.path`: must name a file
    "#]],
    );
    check(
        &[("time = \"month\"\n", "")],
        expect![[r#"
        `source.1.time`: a source of activity needs the column that dates its rows
    "#]],
    );
    check(
        &[("time = \"opened_at\"\n", "")],
        expect![[r#"
        `source.2.time`: a source of events needs the column that dates its rows
    "#]],
    );
    check(
        &[("path = \"customers.csv\"", "path = \"c\"\ntime = \"day\"\nabsent = \"missing\"")],
        expect![[r#"
            `source.0.time`: a source of attributes has no time; use `valid_from` where a customer has several rows over time
            `source.0.absent`: is for monthly sources, not for attributes
        "#]],
    );
    check(
        &[("time = \"month\"", "time = \"month\"\nvalid_from = \"day\"")],
        expect![[r#"
        `source.1.valid_from`: is for attributes only, this is a source of activity
    "#]],
    );
    check(
        &[("time = \"month\"", "time = \"month\"\nmeasures = { n = { agg = \"count\" } }")],
        expect![[r#"
            `source.1.measures`: is for events only, this is a source of activity
        "#]],
    );
    check(
        &[("columns = { calls = \"number\", plan_then = \"category\" }\n", "")],
        expect![[r#"
        `source.1.columns`: a source of activity needs a column
    "#]],
    );
    check(
        &[("age = \"number\"", "customer_id = \"number\"")],
        expect![[r#"
        `source.0.columns.customer_id`: the customer key cannot be a feature
    "#]],
    );
    check(
        &[("[[source]]\nname = \"tickets\"", "[[source]]\nkey = \"topic\"\nname = \"tickets\"")],
        expect![[r#"
        `source.2.columns.topic`: the customer key cannot be a feature
    "#]],
    );
}

#[test]
fn measures() {
    check(
        &[("tickets = { agg = \"count\" }, worst = { agg = \"max\", column = \"severity\" }", "")],
        expect![[r#"
        `source.2.measures`: a source of events needs a measure; for example [source.measures] tickets_count = { agg = "count" }
    "#]],
    );
    check(
        &[("agg = \"count\"", "agg = \"sum\"")],
        expect![[r#"
        `source.2.measures.tickets.column`: every aggregation but `count` needs a column
    "#]],
    );
    check(
        &[("column = \"severity\"", "column = \"severty\"")],
        expect![[r#"
        `source.2.measures.worst.column`: `severty` is not among the columns of `tickets`; did you mean `severity`?
    "#]],
    );
    check(
        &[("column = \"severity\"", "column = \"topic\"")],
        expect![[r#"
        `source.2.measures.worst.column`: `topic` is no number, and only numbers can be so aggregated; use `count` or `distinct`
    "#]],
    );
    check(
        &[("agg = \"max\", column = \"severity\"", "agg = \"distinct\", column = \"topic\"")],
        expect![[r#""#]],
    );
    check(
        &[("worst =", "calls =")],
        expect![[r#"
        `source.2.measures.calls`: the source `activity` has a measure of that name already
    "#]],
    );
}

#[test]
fn labels() {
    check(
        &[("source = \"customers\"", "source = \"costumers\"")],
        expect![[r#"
        `label.source`: there is no source `costumers`; did you mean `customers`?
        `check.1.column`: `left_on` is not among the columns of `customers`; known are age, plan
    "#]],
    );
    check(
        &[("source = \"customers\"", "source = \"activity\"")],
        expect![[r#"
        `label.source`: `activity` is a source of activity; a label per customer stands in a source of attributes
        `check.1.column`: `left_on` is not among the columns of `customers`; known are age, plan
    "#]],
    );
    check(
        &[("column = \"left_on\"", "column = \"age\"")],
        expect![[r#"
        `source.0.columns.age`: is the label; as a feature it would leak what is to be predicted; take it out of `columns`; the label is read without
        `check.1.column`: `left_on` is not among the columns of `customers`; known are age, plan
    "#]],
    );
    check(
        &[("column = \"left_on\"", "column = \"left_on\"\nhorizon = 0\ngap = 121")],
        expect![[r#"
        `label.gap`: must lie in (.., 120], is 121
        `label.horizon`: must lie in [1, 120], is 0
    "#]],
    );
    let event = "kind = \"event\"\nsource = \"customers\"\ncolumn = \"left_on\"";
    let without_dates =
        ("rule = \"future_dates\"\ncolumn = \"left_on\"", "rule = \"not_null\"\ncolumn = \"age\"");
    let other = |label: &'static str| [(event, label), without_dates];
    check(&other("kind = \"inactivity\"\nmeasure = \"calls\"\nmonths = 2"), expect![[""]]);
    check(
        &other("kind = \"inactivity\"\nmeasure = \"worst\"\nmonths = 2\nbelow = 0.4"),
        expect![[""]],
    );
    check(
        &other("kind = \"inactivity\"\nmeasure = \"cals\"\nmonths = 2"),
        expect![[r#"
        `label.measure`: there is no measure `cals`; did you mean `calls`?
    "#]],
    );
    check(
        &other("kind = \"inactivity\"\nmeasure = \"plan_then\"\nmonths = 2"),
        expect![[r#"
        `label.measure`: `plan_then` is no number
    "#]],
    );
    check(
        &other(
            "kind = \"inactivity\"\nmeasure = \"calls\"\nmonths = 121\ntrailing = 0\nbelow = 1.0",
        ),
        expect![[r#"
        `label.months`: must lie in [1, 120], is 121
        `label.below`: must lie in [0, 1), is 1
        `label.trailing`: must lie in [1, 120], is 0
    "#]],
    );
    check(
        &other("kind = \"snapshots\"\npath = \"\"\ncolumn = \"as_of\""),
        expect![[r#"
        `label.path`: must name a file
        `label.column`: must be named, and not be the `as_of` column
    "#]],
    );
    check(
        &other("kind = \"column\"\nsource = \"customers\"\ncolumn = \"churned\""),
        expect![[r#"
            `split.kind`: `time` needs labels over time, but there is one per customer; split by `folds` or `random`, or use another kind of label
        "#]],
    );
}

#[test]
fn splits() {
    let split = "[split]\nkind = \"time\"";
    let cases = [
        (
            "[split]\nkind = \"time\"\ntest_months = 0\nvalidation_months = 200",
            expect![[r#"
            `split.validation_months`: must lie in [1, 120], is 200
            `split.test_months`: must lie in [1, 120], is 0
        "#]],
        ),
        (
            "[split]\nkind = \"rolling\"\norigins = 1\nstep_months = 0\ntrain_months = 200\nembargo_months = 121",
            expect![[r#"
            `split.origins`: must lie in [2, 100], is 1
            `split.step_months`: must lie in [1, 120], is 0
            `split.train_months`: must lie in [1, 120], is 200
            `split.embargo_months`: must lie in (.., 120], is 121
        "#]],
        ),
        (
            "[split]\nkind = \"snapshots\"",
            expect![[r#"
            `split.kind`: `snapshots` needs a label of kind snapshots
        "#]],
        ),
        (
            "[split]\nkind = \"folds\"\npath = \"\"",
            expect![[r#"
            `split.path`: must name a file
        "#]],
        ),
        (
            "[split]\nkind = \"random\"\nfolds = 2",
            expect![[r#"
            `split.folds`: must lie in [3, 100], is 2
        "#]],
        ),
        ("[split]\nkind = \"random\"", expect![[""]]),
    ];
    for (other, expect) in cases {
        check(&[(split, other)], expect);
    }
}

#[test]
fn ranges() {
    check_section(
        "[data]\nkey = \"\"\ncolumns_max = 0",
        expect![[r#"
        `data.key`: must name the column of the customer key
        `data.columns_max`: must lie in [1, ..), is 0
        `check.0.column`: `customer_id` is not among the columns of `customers`; known are age, plan
    "#]],
    );
    check_section(
        "[panel]\nfirst = \"2020-02\"\nlast = \"2020-01\"",
        expect![[r#"
        `panel.first`: 2020-02 is after the last month, 2020-01
    "#]],
    );
    check_section("[features]\nwindows = []", expect![[""]]);
    check_section(
        "[features]\nwindows = [0, 3, 3, 121]\nlog_above_skewness = -1.0\ncategory_values_max = 0",
        expect![[r#"
        `features.log_above_skewness`: must lie in [0, ..), is -1
        `features.category_values_max`: must lie in [1, 1048576], is 0
        `features.windows`: must lie in [1, 120], is 0
        `features.windows`: holds 3 twice
        `features.windows`: must lie in [1, 120], is 121
    "#]],
    );
    check_section("[features]\nlog_above_skewness = inf", expect![[""]]);
    check_section(
        "[models.mlp]\nwidth = 0\nblocks = 0\ndropout = 1.0\nembedding_max = 0",
        expect![[r#"
        `models.mlp.width`: must lie in [1, 16384], is 0
        `models.mlp.blocks`: must lie in [1, 64], is 0
        `models.mlp.dropout`: must lie in [0, 1), is 1
        `models.mlp.embedding_max`: must lie in [1, 16384], is 0
    "#]],
    );
    check_section(
        "[models.gru]\nhidden = 0\nlayers = 3\ndropout = -0.1",
        expect![[r#"
        `models.gru.hidden`: must lie in [1, 16384], is 0
        `models.gru.layers`: must lie in [1, 2], is 3
        `models.gru.dropout`: must lie in [0, 1), is -0.1
    "#]],
    );
    check_section(
        "[models]\nuse = []",
        expect![[r#"
            `models.use`: must name at least one of static, mlp, gru, hybrid
        "#]],
    );
    check_section(
        "[models]\nuse = [\"mlp\", \"mlp\"]",
        expect![[r#"
        `models.use`: holds mlp twice
    "#]],
    );
    check_section(
        "[train]\nepochs_max = 0\nbatch_snapshots = 0\nbatch_customers = 0\nlearning_rate = 0.0\nweight_decay = -1.0\nwarmup = 1.0\nclip_norm = 0.0\npatience = 0\nfocal_gamma = nan\npositive_weight = inf\nlog_steps = 0",
        expect![[r#"
            `train.epochs_max`: must lie in [1, 100000], is 0
            `train.batch_snapshots`: must lie in [1, 1048576], is 0
            `train.batch_customers`: must lie in [1, 1048576], is 0
            `train.learning_rate`: must lie in (0, 1], is 0
            `train.weight_decay`: must lie in [0, inf), is -1
            `train.warmup`: must lie in [0, 1), is 1
            `train.clip_norm`: must lie in (0, inf), is 0
            `train.patience`: must lie in [1, 100000], is 0
            `train.focal_gamma`: must lie in [0, inf), is NaN
            `train.positive_weight`: must lie in (0, inf), is inf
            `train.log_steps`: must lie in [1, ..), is 0
        "#]],
    );
    check_section("[train]\nlearning_rate = 1.0\nwarmup = 0.0", expect![[""]]);
    check_section(
        "[eval]\ncontact_share = 1.0",
        expect![[r#"
        `eval.contact_share`: must lie in (0, 1), is 1
    "#]],
    );
}

#[test]
fn sequence_models_need_months() {
    let mut config: Config = toml::from_str(SMALL).expect("the shape is right");
    config.sources.truncate(1);
    config.checks.truncate(1);
    expect![[r#"
        `models.use`: gru needs a source of activity or events; set use = ["mlp"]
        `models.use`: hybrid needs a source of activity or events; set use = ["mlp"]"#]]
    .assert_eq(&validate(&config).expect_err("faults").to_string());
    config.sources.clear();
    config.checks.clear();
    expect![[r#"
        `source`: at least one table is needed
        `label.source`: there is no source `customers`
        `models.use`: gru needs a source of activity or events; set use = ["mlp"]
        `models.use`: hybrid needs a source of activity or events; set use = ["mlp"]"#]]
    .assert_eq(&validate(&config).expect_err("faults").to_string());
}
