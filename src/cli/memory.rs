//! How much memory the machine has, how much a training may take, and how much it took.

use crate::config::{Config, EventMeasure, ModelKind, SourceKind, SourceSpec};
use crate::panel::Cut;
use crate::quality::Size;

/// Of the budget, what the encoded months of one partition may take: the one that trains, the one
/// that waits, the panel it is made from, and as much again for what the allocator keeps.
const PARTITION_SHARE: u64 = 8;

/// Customers from whom statistics are learned where the whole does not fit: with 24 months each
/// more than twice the snapshots that `features::fit` looks at.
const SAMPLE_CUSTOMERS: u64 = 20_000;

/// Of the budget, what the panel of the sample may take where histories are long.
const SAMPLE_SHARE: u64 = 8;

/// Where the machine does not tell: half of 8 GB.
const BUDGET_UNKNOWN: u64 = 4 << 30;

/// Bytes that panel and encoded data may take.
pub fn budget(config: &Config) -> u64 {
    let asked = (config.train.memory_gb * f64::from(1 << 30)) as u64;
    match asked {
        0 => field("/proc/meminfo", "MemTotal:").map_or(BUDGET_UNKNOWN, |bytes| bytes / 2),
        asked => asked,
    }
}

/// The largest resident size that this process has had, file-mapped pages included. Linux only.
pub fn peak() -> Option<u64> {
    field("/proc/self/status", "VmHWM:")
}

/// A line such as `VmHWM:   123 kB`, in bytes.
fn field(file: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes << 10)
}

/// Into how many partitions the customers must be divided; None if all fit into the budget.
pub fn cut(config: &Config, size: Size, budget: u64) -> Option<Cut> {
    let Bytes { panel, encoded } = estimate(config, size);
    // In memory the train and the validation part are encoded each by itself.
    if panel + 2 * encoded <= budget {
        return None;
    }
    let partitions = (PARTITION_SHARE * encoded).div_ceil(budget).max(2);
    let sample_bytes =
        (budget / SAMPLE_SHARE).min(panel / size.customers.max(1) * SAMPLE_CUSTOMERS);
    let sample_one_in = (panel / sample_bytes.max(1)).max(1);
    Some(Cut { partitions: partitions as usize, sample_one_in })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bytes {
    panel: u64,
    /// All months of all customers, once.
    encoded: u64,
}

/// As if every customer were there from the first month to the last.
fn estimate(config: &Config, size: Size) -> Bytes {
    let of = |source: &SourceSpec| match source.kind {
        SourceKind::Attributes => 0,
        SourceKind::Activity => source.columns.len(),
        SourceKind::Events => source.measures.values().map(|_: &EventMeasure| 1).sum(),
    };
    let measures = config.sources.iter().map(of).sum::<usize>() as u64;
    let attributes = |source: &&SourceSpec| source.kind == SourceKind::Attributes;
    let attributes =
        config.sources.iter().filter(attributes).map(|s| s.columns.len()).sum::<usize>() as u64;
    let months = size.customers * size.months;
    // A level, two changes, a silence; a fifth more for indicators, a few for the calendar.
    let sequence = 5 * measures + attributes + 4;
    let windows = 6 * measures * config.features.windows.len() as u64;
    let width = |kind: &ModelKind| match kind {
        ModelKind::Static => attributes,
        ModelKind::Mlp => sequence + windows + attributes,
        ModelKind::Gru | ModelKind::Hybrid => sequence,
    };
    let width = config.models.kinds.iter().map(width).max().unwrap_or(sequence);
    // What a hazard head adds: a label a month, a target and a weight each.
    let hazards = config.hazards() as u64 - 1;
    // A panel's row beside its cells: a snapshot of ten bytes, and a share of the attributes.
    Bytes {
        panel: months * (4 * measures + 14 + hazards),
        encoded: months * 4 * (width + 2 * hazards),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Overrides};

    #[test]
    fn a_small_budget_cuts_and_a_large_one_does_not() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/telecom.toml");
        let hybrid = ("models.use".to_owned(), "[\"hybrid\"]".to_owned());
        let config = config::load(&path, &Overrides { sets: &[hybrid], env: &|_| None });
        let config = config.expect("the preset").config;
        let size = Size { customers: 2_000_000, months: 36 };
        // 72 million months: a panel of 3.5 GB and more, 72 numbers each encoded.
        let Bytes { panel, encoded } = estimate(&config, size);
        assert!((3_456_000_000..4_600_000_000).contains(&panel), "{panel}");
        assert_eq!(encoded, 72_000_000 * 4 * 72);
        assert_eq!(cut(&config, size, 64 << 30), None);
        let cut = cut(&config, size, 1 << 30).expect("it does not fit");
        assert_eq!((cut.partitions, cut.sample_one_in), (155, 100));
    }
}
