//! What a network of a shape holds, counted before any of it is made: a shape that comes from
//! elsewhere may ask for more than there is memory.

use super::{Architecture, inputs};
use crate::config::{Fusion, History, ModelKind};
use crate::features::FittedFeatures;

impl Architecture {
    /// Numbers that it learns. Sums that do not fit saturate, and so equal no count of a file.
    pub fn parameters(&self) -> u64 {
        let (mlp, gru) = (&self.mlp, &self.gru);
        let [width, blocks, members] = [mlp.width, mlp.blocks, mlp.members].map(|n| n as u64);
        let [hidden, layers, hazards] = [gru.hidden, gru.layers, self.hazards].map(|n| n as u64);
        let history = match gru.history {
            History::Last => hidden,
            History::Pooled => product(&[3, hidden]),
        };
        let (inputs, embedded) = self.inputs();
        let months = self.months as u64;
        let recurrent = |inputs: u64| {
            sum(&[product(&[3, hidden, inputs]), linear(hidden, 3 * hidden), 3 * hidden])
        };
        let stack = || sum(&[recurrent(months), product(&[layers - 1, recurrent(hidden)])]);
        match self.kind {
            ModelKind::Static | ModelKind::Mlp => {
                let parted = if mlp.early { inputs } else { width };
                let later = product(&[blocks - 1, linear(width, width)]);
                let heads = linear(width, product(&[members, hazards]));
                sum(&[embedded, linear(inputs, width), later, product(&[members, parted]), heads])
            }
            ModelKind::Gru => sum(&[stack(), linear(history, hazards)]),
            ModelKind::Hybrid => {
                let block = sum(&[2 * width, product(&[2, linear(width, width)])]);
                let trunk = [embedded, linear(inputs, width), product(&[blocks, block]), 2 * width];
                let to =
                    if gru.fusion == Fusion::Initial { product(&[layers, hidden]) } else { width };
                let gate = match gru.fusion {
                    Fusion::Gated => sum(&[linear(history, width), product(&[width, width])]),
                    Fusion::Concatenate | Fusion::Initial => 0,
                };
                let joined =
                    [linear(history, width), product(&[width, to]), gate, linear(width, hazards)];
                sum(&[sum(&trunk), stack(), sum(&joined)])
            }
        }
    }

    /// Columns of the joined inputs, and the numbers that embed them.
    fn inputs(&self) -> (u64, u64) {
        let most = self.mlp.embedding_max;
        let binned: Vec<u64> = self
            .borders
            .iter()
            .filter(|one| !one.is_empty())
            .map(|one| one.len() as u64 - 1)
            .collect();
        let [count, width] = [binned.len(), self.mlp.piece_width].map(|n| n as u64);
        let bins = binned.iter().copied().max().unwrap_or(0);
        let pieces = product(&[count, width, bins.saturating_add(2)]);
        // Without numbers the batch holds one column of zeros.
        let plain = (self.borders.len() as u64 - count).max(u64::from(self.borders.is_empty()));
        let embedded = |&codes: &usize| {
            product(&[codes as u64, inputs::embedded_width(&[codes], most) as u64])
        };
        let tables: Vec<u64> = self.categories.iter().map(embedded).collect();
        let widths =
            self.categories.iter().map(|&codes| inputs::embedded_width(&[codes], most) as u64);
        let widths = widths.fold(0, u64::saturating_add);
        (sum(&[product(&[count, width]), plain, widths]), sum(&[pieces, sum(&tables)]))
    }

    /// What is wrong with its sizes, if anything is: none may be 0 or beyond what is meant.
    pub(super) fn fault_of_sizes(&self) -> Option<String> {
        let mlp = &self.mlp;
        let blocks_min = usize::from(!self.kind.is_sequence());
        let sizes = [
            ("mlp.width", mlp.width, 1),
            ("mlp.blocks", mlp.blocks, blocks_min),
            ("mlp.piece_width", mlp.piece_width, 1),
            ("gru.hidden", self.gru.hidden, 1),
            ("gru.layers", self.gru.layers, 1),
            ("hazards", self.hazards, 1),
        ];
        let wrong = sizes.iter().find(|(_, size, least)| !(*least..=SIZE_MAX).contains(size));
        wrong.map(|(name, size, _)| format!("the network has {size} as `{name}`"))
    }

    /// What is wrong with it beside the features that it is to read, if anything is.
    pub fn misfit(&self, features: &FittedFeatures) -> Option<String> {
        let numbers = match self.kind {
            ModelKind::Mlp => {
                features.static_width() + features.month_width() + features.window_width()
            }
            ModelKind::Static | ModelKind::Gru | ModelKind::Hybrid => features.static_width(),
        };
        let fits = self.numbers == numbers
            && self.months == features.month_width()
            && self.categories == features.category_codes();
        (!fits).then(|| "the network was fitted on other features".to_owned())
    }
}

/// Largest width, depth or number of anything in a network: no setting comes near.
const SIZE_MAX: usize = 1 << 20;

fn linear(from: u64, to: u64) -> u64 {
    product(&[to, from.saturating_add(1)])
}

fn product(factors: &[u64]) -> u64 {
    factors.iter().fold(1, |product, factor| product.saturating_mul(*factor))
}

fn sum(terms: &[u64]) -> u64 {
    terms.iter().fold(0, |sum, term| sum.saturating_add(*term))
}
