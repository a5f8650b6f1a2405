//! Partitions as a training sees them: read, divided and encoded when their turn comes.

use crate::config::ModelKind;
use crate::error::Result;
use crate::features::{Encoder, FittedFeatures};
use crate::nn::Architecture;
use crate::panel::{Division, Fold, HazardExamples, Part, Shards, Snapshots};
use crate::tensors::{Examples, Prepared, Targets, count_batches};
use crate::train::{PartSize, Parts};

/// One part (train or validation) of every partition.
pub struct FoldParts<'a> {
    shards: &'a Shards,
    division: &'a Division,
    features: &'a FittedFeatures,
    kind: ModelKind,
    part: Part,
    hazards: usize,
    sizes: Vec<PartSize>,
}

/// The snapshots with which a network trains or validates, and what it learns of them.
pub fn examples(
    snapshots: &Snapshots,
    fold: &Fold,
    part: Part,
    hazards: usize,
) -> (Vec<u32>, Targets) {
    if part == Part::Train && hazards > 1 {
        let HazardExamples { chosen, complete_to } = HazardExamples::of(snapshots, fold);
        return (chosen, Targets::Hazards { complete_to });
    }
    (fold.members(part), Targets::Window)
}

impl<'a> FoldParts<'a> {
    /// The train part and the validation part, counted in one pass over the partitions.
    pub fn count(
        shards: &'a Shards,
        division: &'a Division,
        features: &'a FittedFeatures,
        (architecture, batch_rows): (&Architecture, usize),
    ) -> Result<[Self; 2]> {
        let Architecture { kind, hazards, .. } = *architecture;
        let of =
            |part| FoldParts { shards, division, features, kind, part, hazards, sizes: Vec::new() };
        let mut parts = [of(Part::Train), of(Part::Validation)];
        for at in 0..shards.count() {
            let shard = shards.load(at)?;
            let fold = division.fold(&shard.snapshots);
            for part in &mut parts {
                let (chosen, _) = examples(&shard.snapshots, &fold, part.part, hazards);
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
        let snapshots = &shard.snapshots;
        let fold = self.division.fold(snapshots);
        let (chosen, targets) = examples(snapshots, &fold, self.part, self.hazards);
        let encoder = Encoder::new(self.features, &shard.panel)?;
        let examples = Examples { encoder: &encoder, snapshots, chosen: &chosen, targets };
        Ok(Prepared::encode(&examples, self.kind))
    }
}
