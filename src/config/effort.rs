//! What is left to `auto`: from one dial and the data's size to the settings of a network.
//!
//! The formulas are documented in docs/configuration.md, and what they gave is logged at the start
//! of a training and kept in the run's `settings` folder.

use std::fmt::{self, Display};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::model::{ModelKind, Models, TrainSpec};

/// Most bins of a number: the borders are the quantiles between which a 48th of the train values
/// lie each (TabM's default).
pub const BINS_MAX: usize = 48;

/// How much computing a network may take, before the data's size is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Effort {
    /// About a third of normal: to try things.
    Quick,
    #[default]
    Normal,
    /// About four times normal.
    Thorough,
}

impl Effort {
    /// Most epochs; patience ends most trainings before.
    pub fn epochs_max(self) -> u32 {
        match self {
            Effort::Quick => 20,
            Effort::Normal => 60,
            Effort::Thorough => 120,
        }
    }

    /// Settings of trees that are averaged, each of which takes as long as the others.
    pub fn trees_averaged(self) -> usize {
        match self {
            Effort::Quick => 1,
            Effort::Normal | Effort::Thorough => 4,
        }
    }
}

/// What the settings of a network follow from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Examples of the train part.
    pub examples: usize,
    /// Numbers that have bins.
    pub numbers: usize,
    /// All other columns: indicators, months of a one-hot category, embeddings.
    pub others: usize,
}

/// The dense network with all its numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MlpShape {
    pub width: usize,
    pub blocks: usize,
    pub dropout: f64,
    pub embedding_max: usize,
    /// Members that share the weights.
    pub members: usize,
    /// Most bins of a number.
    pub bins: usize,
    /// Width of a number's embedding.
    pub piece_width: usize,
    /// Whether the members part before the first layer.
    pub early: bool,
}

impl Display for MlpShape {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let MlpShape { width, blocks, dropout, members, bins, piece_width, .. } = self;
        write!(formatter, "{members} members of {blocks} x {width}, dropout {dropout}")?;
        if *bins > 0 {
            write!(formatter, ", numbers in {piece_width} x {bins} bins")?;
        }
        Ok(())
    }
}

impl Default for MlpShape {
    fn default() -> Self {
        let size = Size { examples: 0, numbers: 0, others: 0 };
        shape(ModelKind::Mlp, &Models::default(), size)
    }
}

/// What one network trains with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    pub learning_rate: f64,
    /// Customers of sequence models, snapshots of the MLP.
    pub batch_rows: usize,
    pub epochs_max: u32,
}

/// A step of the dense network is shared by all members: above this many examples half as many
/// members do, since a training then has steps enough to make each of them good.
const MEMBERS_HALVED_ABOVE: usize = 50_000;

/// Columns of the first layer that all bins together may make.
const PIECES_WIDTH: usize = 256;

/// The first layer is computed for each member up to this many columns; with more of them the
/// members part behind it.
const EARLY_COLUMNS_MAX: usize = 400;

/// The dense network, or the static branch of the hybrid.
pub fn shape(kind: ModelKind, models: &Models, size: Size) -> MlpShape {
    let spec = &models.mlp;
    let alone = matches!(kind, ModelKind::Static | ModelKind::Mlp);
    let width = match models.effort {
        Effort::Quick => 64,
        Effort::Normal => 128,
        Effort::Thorough => 256,
    };
    let members = match (alone, models.effort) {
        (false, _) => 1,
        (true, Effort::Quick) => 8,
        (true, _) if size.examples > MEMBERS_HALVED_ABOVE => 8,
        (true, Effort::Normal) => 16,
        (true, Effort::Thorough) => 32,
    };
    let piece_width = (PIECES_WIDTH / size.numbers.max(1)).clamp(2, 16);
    let bins = spec.bins.or(if alone { BINS_MAX } else { 0 });
    let piece_width = spec.piece_width.or(piece_width);
    let columns = size.others + size.numbers * if bins > 0 { piece_width } else { 1 };
    MlpShape {
        width: spec.width.or(width),
        blocks: spec.blocks.or(2),
        dropout: spec.dropout.or(0.2),
        embedding_max: spec.embedding_max,
        members: if alone { spec.members.or(members) } else { 1 },
        bins,
        piece_width,
        early: columns <= EARLY_COLUMNS_MAX,
    }
}

/// How a network trains.
pub fn recipe(kind: ModelKind, effort: Effort, train: &TrainSpec, examples: usize) -> Recipe {
    let epochs_max = train.epochs_max.or(effort.epochs_max());
    let batch_snapshots = match examples {
        0..=20_000 => 256,
        20_001..=500_000 => 512,
        _ => 1024,
    };
    match kind {
        ModelKind::Static | ModelKind::Mlp => Recipe {
            learning_rate: train.learning_rate.or(4e-3),
            batch_rows: train.batch_snapshots.or(batch_snapshots),
            epochs_max,
        },
        ModelKind::Gru | ModelKind::Hybrid => Recipe {
            learning_rate: train.learning_rate.or(2e-3),
            batch_rows: train.batch_customers,
            epochs_max,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Auto;

    const SMALL: Size = Size { examples: 4000, numbers: 10, others: 20 };

    #[test]
    fn what_is_given_is_kept() {
        let mut models = Models::default();
        models.mlp.width = Auto::Given(24);
        models.mlp.members = Auto::Given(3);
        models.mlp.bins = Auto::Given(0);
        let found = shape(ModelKind::Mlp, &models, SMALL);
        assert_eq!((found.width, found.members, found.bins), (24, 3, 0));
        let train = TrainSpec {
            learning_rate: Auto::Given(0.5),
            batch_snapshots: Auto::Given(7),
            ..TrainSpec::default()
        };
        let found = recipe(ModelKind::Mlp, Effort::Normal, &train, 4000);
        assert_eq!((found.learning_rate, found.batch_rows), (0.5, 7));
    }

    /// Members times rows of a batch times the widest layer: what a step holds in memory.
    #[test]
    fn more_effort_computes_more_and_more_data_no_more_memory() {
        let cost = |effort, size: Size| {
            let models = Models { effort, ..Models::default() };
            let shape = shape(ModelKind::Mlp, &models, size);
            shape.members * shape.width * shape.width * shape.blocks
        };
        let wide = Size { examples: 2_000_000, numbers: 300, others: 100 };
        for size in [SMALL, wide] {
            assert!(cost(Effort::Quick, size) < cost(Effort::Normal, size));
            assert!(cost(Effort::Normal, size) < cost(Effort::Thorough, size));
        }
        assert!(cost(Effort::Normal, wide) <= cost(Effort::Normal, SMALL));
    }

    #[test]
    fn a_hybrid_has_one_member_and_the_rate_of_sequences() {
        let found = shape(ModelKind::Hybrid, &Models::default(), SMALL);
        assert_eq!(found.members, 1);
        let train = TrainSpec::default();
        let rate = |kind| recipe(kind, Effort::Normal, &train, 4000).learning_rate;
        assert!(rate(ModelKind::Hybrid) < rate(ModelKind::Mlp));
        assert_eq!(
            recipe(ModelKind::Gru, Effort::Quick, &train, 4000).batch_rows,
            train.batch_customers
        );
    }
}
