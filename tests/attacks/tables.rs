//! Tables that claim, hold or become more than they should.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use polars::prelude::*;

use super::{TRAINED, Trained, refused};

/// A folder with one hostile table of customers beside a harmless one of activity.
struct Hostile {
    folder: tempfile::TempDir,
    activity: PathBuf,
    bundle: PathBuf,
    _trained: std::sync::Arc<Trained>,
}

impl Hostile {
    fn new() -> Self {
        let trained = TRAINED.get(Trained::new);
        Hostile {
            folder: tempfile::tempdir().expect("a folder"),
            activity: trained.tiny.path("activity.csv").into(),
            bundle: trained.bundle(),
            _trained: trained,
        }
    }

    fn path(&self, format: &str) -> PathBuf {
        self.folder.path().join(format!("customers.{format}"))
    }

    #[track_caller]
    fn check(&self, attack: &str, format: &str, bytes: &[u8], words: &str) {
        std::fs::write(self.path(format), bytes).expect("written");
        self.refused(attack, format, words);
    }

    /// The bytes, then zeros up to 1 GiB, of which the disk holds none.
    #[track_caller]
    fn check_endless(&self, attack: &str, format: &str, bytes: &[u8], words: &str) {
        let mut file = File::create(self.path(format)).expect("a file");
        file.write_all(bytes).expect("written");
        file.set_len(1 << 30).expect("longer");
        self.refused(attack, format, words);
    }

    #[track_caller]
    fn refused(&self, attack: &str, format: &str, words: &str) {
        let path = self.path(format);
        refused(attack, &self.bundle, &[&path, &self.activity], words);
        std::fs::remove_file(&path).expect("removed");
    }
}

const MILLION: usize = 1_000_000;

#[test]
fn csv() {
    let hostile = Hostile::new();
    let header = "customer_id,plan,age";
    let names: String = (0..MILLION).map(|at| format!(",x{at}")).collect();
    let cells = format!("{header}\nc00,a,1{}\n", ",1".repeat(MILLION));
    for (attack, text, words) in [
        ("a million columns", format!("{header}{names}\n"), ":1: a record is longer"),
        ("5,000 columns", format!("{header}{}\n", ",x".repeat(5000)), "has 5003 columns"),
        ("a million cells", cells, ":2: a record is longer"),
        (
            "an open quote",
            format!("{header}\nc00,\"{}", "\n".repeat(3 * MILLION)),
            "record is longer",
        ),
    ] {
        hostile.check(attack, "csv", text.as_bytes(), words);
    }
    hostile.check_endless(
        "an endless line",
        "csv",
        b"customer_id,plan,age\nc00,",
        "record is longer",
    );
}

#[test]
fn ndjson() {
    let hostile = Hostile::new();
    let columns: String =
        (0..20_000).map(|at| format!("{{\"customer_id\":\"c{at}\",\"x{at}\":1}}\n")).collect();
    let wide: String = (0..5000).map(|at| format!(",\"x{at}\":1")).collect();
    let nested = |depth: usize| {
        format!("{{\"customer_id\":\"a\",\"plan\":{}1{}}}\n", "[".repeat(depth), "]".repeat(depth))
    };
    for (attack, text, words) in [
        ("brackets", "[".repeat(MILLION), "nested more than 32 deep"),
        ("closed brackets", nested(100_000), "nested more than 32 deep"),
        ("other columns in each line", columns, "more than 4096 columns"),
        ("a wide line", format!("{{\"customer_id\":\"a\"{wide}}}\n"), "more than 4096 columns"),
        (
            "a line of 2 MB",
            format!("{{\"customer_id\":\"{}\"}}", "a".repeat(2 << 20)),
            "is longer than",
        ),
    ] {
        hostile.check(attack, "ndjson", text.as_bytes(), words);
    }
    hostile.check_endless("an endless line", "ndjson", b"{\"customer_id\":\"", "is longer than");
}

/// One customer with a text of 100 MiB.
fn huge_cell() -> DataFrame {
    df!("customer_id" => ["c00"], "plan" => ["a".repeat(100 << 20)], "age" => [1.0])
        .expect("a table")
}

fn customers(rows: usize) -> DataFrame {
    df!("customer_id" => vec!["c00"; rows], "plan" => vec!["a"; rows], "age" => vec![1.0; rows])
        .expect("a table")
}

fn parquet(mut table: DataFrame) -> Vec<u8> {
    let mut bytes = Vec::new();
    ParquetWriter::new(&mut bytes).finish(&mut table).expect("written");
    bytes
}

#[test]
fn parquet_bombs() {
    let hostile = Hostile::new();
    let sound = parquet(customers(40));
    let footer = |length: u32| {
        let mut bytes = sound.clone();
        let at = bytes.len() - 8;
        bytes[at..at + 4].copy_from_slice(&length.to_le_bytes());
        bytes
    };
    let bomb = parquet(customers(20 * MILLION));
    assert!(bomb.len() < MILLION, "{} bytes", bomb.len());
    let cell = parquet(huge_cell());
    assert!(cell.len() < MILLION, "{} bytes", cell.len());
    for (attack, bytes, words) in [
        ("twenty million rows in no space", bomb, "claims 20000000 rows"),
        ("a cell of 100 MiB in no space", cell, "a column claims"),
        ("cut off", sound[..sound.len() / 2].to_vec(), "cannot be read"),
        ("a footer of 4 GB", footer(u32::MAX), "cannot be read"),
        ("an empty footer", footer(0), "cannot be read"),
        ("no Parquet at all", vec![7; 5000], "cannot be read"),
    ] {
        hostile.check(attack, "parquet", &bytes, words);
    }
}

fn arrow(mut table: DataFrame, compression: Option<IpcCompression>) -> Vec<u8> {
    let mut bytes = Vec::new();
    IpcWriter::new(&mut bytes).with_compression(compression).finish(&mut table).expect("written");
    bytes
}

#[test]
fn arrow_files() {
    let hostile = Hostile::new();
    let sound = arrow(customers(40), None);
    // Every 40 in the file is a number of rows or a length.
    let rows = |claim: u64| {
        let mut bytes = sound.clone();
        for at in 0..bytes.len() - 8 {
            if bytes[at..at + 8] == 40u64.to_le_bytes() {
                bytes[at..at + 8].copy_from_slice(&claim.to_le_bytes());
            }
        }
        assert_ne!(bytes, sound);
        bytes
    };
    let packed = arrow(customers(4000), Some(IpcCompression::LZ4));
    // A compressed buffer says in front of its first frame how long it is.
    let inflated = |claim: i64| {
        let frame = [0x04, 0x22, 0x4d, 0x18];
        let at = packed.windows(4).position(|bytes| bytes == frame).expect("a frame");
        let mut bytes = packed.clone();
        bytes[at - 8..at].copy_from_slice(&claim.to_le_bytes());
        bytes
    };
    let footer = |length: i32| {
        let mut bytes = sound.clone();
        let at = bytes.len() - 10;
        bytes[at..at + 4].copy_from_slice(&length.to_le_bytes());
        bytes
    };
    let times = "a hundred times as large";
    let zstd = Some(IpcCompression::ZSTD(Default::default()));
    for (attack, bytes, words) in [
        ("cut off", sound[..sound.len() / 2].to_vec(), "cannot be read"),
        ("no footer", sound[..sound.len() - 20].to_vec(), "cannot be read"),
        ("a footer of 2 GB", footer(i32::MAX), "cannot be read"),
        ("a negative footer", footer(-5), "cannot be read"),
        ("2^60 rows", rows(1 << 60), "cannot be read"),
        ("negative rows", rows(u64::MAX), "cannot be read"),
        ("a buffer of 2^60 bytes", inflated(1 << 60), times),
        ("a buffer of 2^36 bytes", inflated(1 << 36), times),
        ("a cell of 100 MiB in no space", arrow(huge_cell(), zstd), times),
        ("no Arrow at all", vec![7; 5000], "cannot be read"),
    ] {
        hostile.check(attack, "arrow", &bytes, words);
    }
}
