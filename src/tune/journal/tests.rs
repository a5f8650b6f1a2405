use super::*;
use crate::tune::Params;
use crate::tune::study::Fit;

fn begin(trial: u32) -> Record {
    let params: Params = [("train.learning_rate".to_owned(), toml::Value::Float(1e-3))].into();
    Record::Begin { trial, rung: 0, worker: 0, params: Some(params) }
}

fn report(trial: u32) -> Record {
    let loss = 0.1 + 0.2 + f64::from(trial);
    let fit = Fit { network: "mlp".into(), fold: 0, epochs: 3, loss };
    Record::Report { trial, rung: 0, worker: 0, seconds: 1.5, fits: vec![fit] }
}

fn write(journal: &mut Journal, records: Vec<Record>) {
    journal.turn(|_| Ok((records, ()))).expect("written");
}

#[test]
fn what_was_written_is_read_back() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut first = Journal::open(dir.path()).expect("opened");
    write(&mut first, vec![Record::Worker { worker: 0 }, begin(0), report(0), begin(1)]);
    let mut second = Journal::open(dir.path()).expect("opened");
    write(&mut second, Vec::new());
    assert_eq!(first.study(), second.study());
    assert_eq!(second.study().trials[0].reports[0].loss, 0.1 + 0.2);
    // Each sees what the other adds.
    write(&mut second, vec![report(1)]);
    write(&mut first, Vec::new());
    assert_eq!(first.study(), second.study());
    assert_eq!(first.study().trials[1].reports.len(), 1);
}

/// Whatever a killed writer left of its line, what stood before it is there, and what comes after
/// it too.
#[test]
fn a_torn_line_is_no_record() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join(Journal::NAME);
    write(&mut Journal::open(dir.path()).expect("opened"), vec![begin(0), report(0)]);
    let whole = std::fs::read(&path).expect("a file");
    let line = serde_json::to_vec(&begin(1)).expect("JSON");
    for length in 1..=line.len() {
        std::fs::write(&path, [&whole[..], &line[..length]].concat()).expect("written");
        let mut journal = Journal::open(dir.path()).expect("opened");
        write(&mut journal, Vec::new());
        // A line that lacks its end only is whole.
        let trials = if length == line.len() { 2 } else { 1 };
        assert_eq!(journal.study().trials.len(), trials, "{length} of {} bytes", line.len());
        write(&mut journal, vec![begin(trials as u32)]);
        let mut again = Journal::open(dir.path()).expect("opened");
        write(&mut again, Vec::new());
        assert_eq!(again.study(), journal.study(), "{length} of {} bytes", line.len());
        assert_eq!(again.study().trials.len(), trials + 1);
    }
}

#[test]
fn records_that_cannot_be_are_told_with_their_line() {
    let whole = |record: &Record| serde_json::to_string(record).expect("JSON");
    for (lines, expected) in [
        (vec!["{\"kind\":\"dance\"}".to_owned()], "journal.jsonl:1: is no record: unknown variant"),
        (vec![whole(&begin(0)), whole(&begin(2))], "journal.jsonl:2: a new trial out of order"),
        (
            vec![whole(&begin(0)).replace("rung", "rang")],
            "journal.jsonl:1: is no record: unknown field `rang`",
        ),
        (vec![whole(&Record::Worker { worker: 7 })], "journal.jsonl:1: a `worker` out of order"),
    ] {
        let dir = tempfile::tempdir().expect("a folder");
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        std::fs::write(dir.path().join(Journal::NAME), text).expect("written");
        let mut journal = Journal::open(dir.path()).expect("opened");
        let error = journal.turn(|_| Ok((Vec::new(), ()))).expect_err("refused");
        assert_eq!(error.kind, Kind::Corrupt);
        assert!(error.to_string().contains(expected), "{error}");
    }
}

/// Four writers at once, each adding trials as fast as it can: no number twice, none left out.
#[test]
fn writers_take_turns() {
    let dir = tempfile::tempdir().expect("a folder");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut journal = Journal::open(dir.path()).expect("opened");
                for _ in 0..25 {
                    let next = |study: &Study| {
                        let trial = study.trials.len() as u32;
                        Ok((vec![begin(trial), report(trial)], ()))
                    };
                    journal.turn(next).expect("a turn");
                }
            });
        }
    });
    let mut journal = Journal::open(dir.path()).expect("opened");
    write(&mut journal, Vec::new());
    let numbers: Vec<u32> = journal.study().trials.iter().map(|trial| trial.number).collect();
    assert_eq!(numbers, (0..100).collect::<Vec<u32>>());
}
