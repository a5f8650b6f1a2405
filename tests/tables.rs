//! Every kind of table in one small data set.

use std::fmt::Write as _;
use std::path::PathBuf;

use tempfile::TempDir;

use crate::common::run_ok;
use crate::onnx::text;

/// Every kind of table: attributes with a date and with versions, months with gaps.
pub struct Tables {
    folder: TempDir,
}

const CONFIG: &str = r#"
name = "every_kind"
[data]
root = "data"
[[source]]
name = "customers"
kind = "attributes"
path = "customers.csv"
columns = { risk = "number", region = "category", signup = "date", empty = "number" }
[[source]]
name = "plans"
kind = "attributes"
path = "plans.csv"
valid_from = "since"
columns = { price = "number", plan = "category", renewed = "date" }
[[source]]
name = "activity"
kind = "activity"
path = "activity.csv"
time = "month"
absent = "missing"
columns = { usage = "number", bill = "number" }
[label]
kind = "event"
source = "customers"
column = "left"
[split]
kind = "time"
validation_months = 2
test_months = 2
[features]
windows = [2, 5]
category_rows_min = 3
[models]
effort = "quick"
mlp = { width = 16 }
gru = { hidden = 8 }
[train]
epochs_max = 2
device = "cpu"
"#;

impl Tables {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("data");
        std::fs::create_dir(&data).expect("a folder");
        let mut customers = "customer_id,risk,region,signup,empty,left\n".to_owned();
        let mut plans = "customer_id,since,price,plan,renewed\n".to_owned();
        let mut activity = "customer_id,month,usage,bill\n".to_owned();
        for c in 0..160 {
            let begins = c % 7;
            let left = if c % 3 == 0 { format!("2024-{:02}-09", 5 + c % 8) } else { String::new() };
            let region = ["north", "süd", "", "east", "r1", "r2"][c % 6];
            let signup = if c % 9 == 0 {
                String::new()
            } else {
                format!("2023-0{}-1{}", 1 + begins, c % 10)
            };
            let number = if c % 10 == 0 { String::new() } else { format!("{}.5", c * 13 % 41) };
            writeln!(customers, "C{c:03},{number},{region},{signup},,{left}").expect("text");
            for (version, since) in [(0, "2023-02"), (1, "2023-11"), (2, "2024-06")] {
                if c % (version + 2) == 0 {
                    let plan = ["basic", "plus", "max", ""][(c + version) % 4];
                    let renewed = if c % 4 == 0 { "" } else { "2023-10-31" };
                    let price = c * 7 % 23 + version;
                    writeln!(plans, "C{c:03},{since},{price},{plan},{renewed}").expect("text");
                }
            }
            let last = if c % 3 == 0 { 15 + c % 8 } else { 23 };
            for month in begins..last {
                if (c + month) % 11 == 5 {
                    continue;
                }
                let usage = if (c * month) % 5 == 0 { 0 } else { (c * 31 + month * 17) % 90 };
                let bill = if (c + month) % 6 == 0 {
                    String::new()
                } else {
                    format!("{}.25", c % 30 + month)
                };
                let (year, of_year) = (2023 + month / 12, month % 12 + 1);
                writeln!(activity, "C{c:03},{year}-{of_year:02}-01,{usage},{bill}").expect("text");
            }
        }
        for (name, text) in [("customers", &customers), ("plans", &plans), ("activity", &activity)]
        {
            std::fs::write(data.join(format!("{name}.csv")), text).expect("written");
        }
        std::fs::write(folder.path().join("tables.toml"), CONFIG).expect("written");
        Tables { folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn train(&self, champion: &str, sets: &[&str]) -> PathBuf {
        let out = self.path(champion);
        let config = self.path("tables.toml");
        let kinds = match champion {
            "logistic" | "trees" => "models.use=[\"mlp\"]".to_owned(),
            network => format!("models.use=[\"{network}\"]"),
        };
        let trees = format!("models.trees={}", champion == "trees");
        let champion = format!("models.champion={champion}");
        let mut args = vec!["train", text(&config), "--out", text(&out)];
        for set in [&*kinds, &*trees, &*champion].into_iter().chain(sets.iter().copied()) {
            args.extend(["--set", set]);
        }
        run_ok(&args);
        out.join("bundle")
    }
}
