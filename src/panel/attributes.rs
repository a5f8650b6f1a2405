//! Static facts of customers, in versions where a source says from when a row is true.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::build::{LEFT_OUT, Reader};
use crate::clock::Month;
use crate::config::{ColumnType, SourceSpec};
use crate::error::{Kind, Result};
use crate::source::{Cells, Wanted};

/// One attributes source.
#[derive(Debug, Clone)]
pub struct AttributeTable {
    pub source: String,
    /// True when a customer may have several versions.
    pub versioned: bool,
    /// Customer `c` owns the versions `offsets[c]..offsets[c + 1]`, oldest first.
    pub offsets: Vec<u32>,
    /// The month from which each version holds.
    pub valid_from: Vec<Month>,
    pub columns: Vec<AttributeColumn>,
}

#[derive(Debug, Clone)]
pub struct AttributeColumn {
    pub name: String,
    /// One cell per version.
    pub cells: AttributeCells,
}

#[derive(Debug, Clone)]
pub enum AttributeCells {
    /// NaN is missing.
    Number(Vec<f32>),
    /// Codes into sorted `values`; None is missing.
    Category { codes: Vec<Option<u32>>, values: Vec<String> },
    /// Days since 1970-01-01.
    Date(Vec<Option<i32>>),
}

impl AttributeCells {
    /// Codes of texts.
    pub(super) fn categories<'t>(texts: impl Iterator<Item = Option<&'t str>> + Clone) -> Self {
        let mut ranks: BTreeMap<&str, u32> =
            texts.clone().flatten().map(|text| (text, 0)).collect();
        ranks.values_mut().zip(0..).for_each(|(to, rank)| *to = rank);
        let codes = texts.map(|text| text.map(|text| ranks[text])).collect();
        AttributeCells::Category { codes, values: ranks.into_keys().map(str::to_owned).collect() }
    }
}

impl From<Cells> for AttributeCells {
    fn from(cells: Cells) -> Self {
        match cells {
            Cells::Number(cells) => {
                AttributeCells::Number(cells.into_iter().map(|cell| cell as f32).collect())
            }
            Cells::Date(cells) => AttributeCells::Date(cells),
            Cells::Category(texts) => {
                AttributeCells::categories((0..texts.len()).map(|row| texts.get(row)))
            }
        }
    }
}

impl AttributeTable {
    /// The version of a customer that is true at the end of `month`; None if there is none yet.
    pub fn version(&self, customer: usize, month: Month) -> Option<usize> {
        if !self.versioned {
            return self.oldest(customer);
        }
        let (from, to) = (self.offsets[customer] as usize, self.offsets[customer + 1] as usize);
        let valid = self.valid_from[from..to].partition_point(|&start| start <= month);
        valid.checked_sub(1).map(|index| from + index)
    }

    /// A customer's oldest version, which is the only one where there are no versions.
    pub fn oldest(&self, customer: usize) -> Option<usize> {
        let (from, to) = (self.offsets[customer] as usize, self.offsets[customer + 1] as usize);
        (from < to).then_some(from)
    }

    pub(super) fn bytes(&self) -> usize {
        let cells = |column: &AttributeColumn| match &column.cells {
            AttributeCells::Number(cells) => size_of_val(cells.as_slice()),
            AttributeCells::Category { codes, values } => {
                let texts = values.iter().map(|value| size_of::<String>() + value.capacity());
                size_of_val(codes.as_slice()) + texts.sum::<usize>()
            }
            AttributeCells::Date(cells) => size_of_val(cells.as_slice()),
        };
        size_of_val(self.offsets.as_slice())
            + size_of_val(self.valid_from.as_slice())
            + self.columns.iter().map(cells).sum::<usize>()
    }

    pub(super) fn hash_into(&self, hash: &mut Sha256) {
        self.offsets.iter().for_each(|o| hash.update(o.to_le_bytes()));
        self.valid_from.iter().for_each(|m| hash.update(m.0.to_le_bytes()));
        for column in &self.columns {
            hash.update(column.name.as_bytes());
            match &column.cells {
                AttributeCells::Number(cells) => {
                    cells.iter().for_each(|v| hash.update(v.to_bits().to_le_bytes()));
                }
                AttributeCells::Category { codes, values } => {
                    values.iter().for_each(|v| hash.update(v.as_bytes()));
                    let code = |c: &Option<u32>| c.map_or(-1, i64::from).to_le_bytes();
                    codes.iter().for_each(|c| hash.update(code(c)));
                }
                AttributeCells::Date(cells) => {
                    let day = |d: &Option<i32>| d.map_or(i64::MIN, i64::from).to_le_bytes();
                    cells.iter().for_each(|d| hash.update(day(d)));
                }
            }
        }
    }
}

/// Rows of one attributes source as they came.
pub(super) struct RawAttributes {
    keys: Vec<u32>,
    valid_from: Vec<Month>,
    columns: Vec<Cells>,
}

impl Reader<'_> {
    /// Reads an attributes source. The first one says who is a customer.
    pub(super) fn attributes(&mut self, at: usize) -> Result<RawAttributes> {
        let source = &self.intake.sources[at];
        let mut wanted = feature_columns(source);
        if let Some(name) = &source.valid_from {
            wanted.push(Wanted {
                name: name.clone(),
                kind: ColumnType::Date,
                on_bad: source.on_bad,
            });
        }
        let columns = wanted.iter().map(|w| Cells::none(w.kind)).collect();
        let mut raw = RawAttributes { keys: Vec::new(), valid_from: Vec::new(), columns };
        self.scan(at, &wanted, &mut |reader, mut batch| {
            let days = source.valid_from.as_ref().and_then(|_| batch.cells.pop());
            let mut kept = Vec::with_capacity(batch.keys.len());
            for (row, key) in batch.keys.iter().enumerate() {
                if let Some(customer) = reader.customer(key) {
                    raw.keys.push(customer);
                    kept.push(row);
                }
            }
            for &row in &kept {
                raw.valid_from.push(match &days {
                    Some(Cells::Date(days)) => days[row].map_or(Month(i32::MIN), Month::of_day),
                    _ => Month(i32::MIN),
                });
            }
            for (all, some) in raw.columns.iter_mut().zip(&batch.cells) {
                all.take(some, &kept);
            }
            Ok(())
        })?;
        if source.valid_from.is_some() {
            raw.columns.pop();
        }
        Ok(raw)
    }
}

impl RawAttributes {
    /// Sorts versions by customer and time. `rank` turns ids of arrival into final ones.
    pub(super) fn finish(
        self,
        source: &SourceSpec,
        rank: &[u32],
        customers: &[String],
    ) -> Result<AttributeTable> {
        let versioned = source.valid_from.is_some();
        let mut order: Vec<u32> = (0..self.keys.len() as u32).collect();
        let key = |i: u32| (rank[self.keys[i as usize] as usize], self.valid_from[i as usize]);
        order.retain(|&i| key(i).0 != LEFT_OUT);
        order.sort_by_key(|&i| key(i));
        if let Some(pair) = order.windows(2).find(|pair| key(pair[0]) == key(pair[1])) {
            let (customer, month) = key(pair[0]);
            let id = &customers[customer as usize];
            let when = if versioned { format!(" valid from {month}") } else { String::new() };
            return Err(Kind::Data
                .msg(format!("source `{}` has two rows of customer `{id}`{when}", source.name))
                .hint("keep one, or declare `valid_from` if the rows follow each other in time"));
        }
        let mut offsets = vec![0u32; customers.len() + 1];
        order.iter().for_each(|&i| offsets[key(i).0 as usize + 1] += 1);
        (1..offsets.len()).for_each(|c| offsets[c] += offsets[c - 1]);
        let names = feature_columns(source).into_iter().map(|w| w.name);
        let columns = names
            .zip(self.columns)
            .map(|(name, cells)| AttributeColumn { name, cells: permute(cells, &order) })
            .collect();
        let valid_from = order.iter().map(|&i| self.valid_from[i as usize]).collect();
        Ok(AttributeTable { source: source.name.clone(), versioned, offsets, valid_from, columns })
    }
}

/// The declared columns of a source, in the order of their names.
pub(super) fn feature_columns(source: &SourceSpec) -> Vec<Wanted> {
    let wanted = |(name, spec): (&String, &crate::config::ColumnSpec)| Wanted {
        name: name.clone(),
        kind: spec.kind(),
        on_bad: spec.on_bad(source.on_bad),
    };
    source.columns.iter().map(wanted).collect()
}

fn permute(cells: Cells, order: &[u32]) -> AttributeCells {
    match cells {
        Cells::Number(cells) => {
            AttributeCells::Number(order.iter().map(|&i| cells[i as usize] as f32).collect())
        }
        Cells::Date(cells) => {
            AttributeCells::Date(order.iter().map(|&i| cells[i as usize]).collect())
        }
        Cells::Category(cells) => {
            AttributeCells::categories(order.iter().map(|&i| cells.get(i as usize)))
        }
    }
}
