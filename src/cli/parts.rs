//! Partitions as a training sees them: read, divided and encoded when their turn comes.

use crate::config::ModelKind;
use crate::error::Result;
use crate::features::{Encoder, FittedFeatures};
use crate::panel::{Division, Part, Shards};
use crate::tensors::{Examples, Prepared, count_batches};
use crate::train::{PartSize, Parts};

/// One part (train or validation) of every partition.
pub struct FoldParts<'a> {
    shards: &'a Shards,
    division: &'a Division,
    features: &'a FittedFeatures,
    kind: ModelKind,
    part: Part,
    sizes: Vec<PartSize>,
}

impl<'a> FoldParts<'a> {
    /// The train part and the validation part, counted in one pass over the partitions.
    pub fn count(
        shards: &'a Shards,
        division: &'a Division,
        features: &'a FittedFeatures,
        (kind, batch_rows): (ModelKind, usize),
    ) -> Result<[Self; 2]> {
        let of = |part| FoldParts { shards, division, features, kind, part, sizes: Vec::new() };
        let mut parts = [of(Part::Train), of(Part::Validation)];
        for at in 0..shards.count() {
            let shard = shards.load(at)?;
            let fold = division.fold(&shard.snapshots);
            for part in &mut parts {
                let chosen = fold.members(part.part);
                let batches = match chosen.len() {
                    0 => 0,
                    _ => {
                        let rows = (kind, batch_rows);
                        count_batches(&shard.panel, &shard.snapshots, &chosen, rows)
                    }
                };
                part.sizes.push(PartSize { snapshots: chosen.len(), batches });
            }
        }
        Ok(parts)
    }
}

impl Parts for FoldParts<'_> {
    fn sizes(&self) -> &[PartSize] {
        &self.sizes
    }

    fn prepare(&self, part: usize) -> Result<Prepared> {
        let shard = self.shards.load(part)?;
        let chosen = self.division.fold(&shard.snapshots).members(self.part);
        let encoder = Encoder::new(self.features, &shard.panel)?;
        let examples = Examples { encoder: &encoder, snapshots: &shard.snapshots, chosen: &chosen };
        Ok(Prepared::encode(&examples, self.kind))
    }
}
