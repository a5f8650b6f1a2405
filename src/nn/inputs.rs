//! The columns of a batch as one row for a dense layer: numbers by piecewise-linear embeddings,
//! categories by tables.

use burn::module::{Module, Param};
use burn::nn::{Embedding, EmbeddingConfig};
use burn::tensor::{Device, Int, Tensor, TensorData};

use super::Architecture;
use super::ops::native::mlp as native;
use super::ops::native::pieces::{Bins, Shape, Table, Weights};
use super::ops::pieces::{Grid, NO_BIN, PieceWeights, pieces};

/// Joins embedded numbers, numbers as they are, and embedded categories.
#[derive(Module, Debug)]
pub struct Inputs {
    pieces: Option<Pieces>,
    embeddings: Vec<Embedding>,
}

impl Inputs {
    pub fn new(architecture: &Architecture, device: &Device) -> Self {
        let embedding = |&codes: &usize| {
            let width = embedding_width(codes, architecture.mlp.embedding_max);
            EmbeddingConfig::new(codes, width).init(device)
        };
        Inputs {
            pieces: Pieces::new(architecture, device),
            embeddings: architecture.categories.iter().map(embedding).collect(),
        }
    }

    /// Columns that it makes of the columns of a batch.
    pub fn width(architecture: &Architecture) -> usize {
        let embedded = embedded_width(&architecture.categories, architecture.mlp.embedding_max);
        let binned = architecture.borders.iter().filter(|borders| !borders.is_empty()).count();
        // Without numbers the batch holds one column of zeros.
        let plain = architecture.numbers.max(1) - binned;
        plain + binned * architecture.mlp.piece_width + embedded
    }

    /// The same for one row after the other on a CPU.
    pub fn native(&self, numbers: usize) -> native::Inputs {
        // Without numbers there is one column of zeros.
        let numbers = numbers.max(1);
        let columns = self.pieces.as_ref().and_then(|pieces| pieces.columns.as_ref());
        let (binned, plain) = match (columns, &self.pieces) {
            (Some(columns), _) => (places(&columns.binned), places(&columns.plain)),
            (None, Some(_)) => ((0..numbers).collect(), Vec::new()),
            (None, None) => (Vec::new(), (0..numbers).collect()),
        };
        let table = |embedding: &Embedding| {
            let weight = embedding.weight.val();
            let width = weight.dims()[1];
            (values(weight), width)
        };
        native::Inputs {
            numbers,
            pieces: self.pieces.as_ref().map(|pieces| (binned, pieces.native())),
            plain,
            embeddings: self.embeddings.iter().map(table).collect(),
        }
    }

    /// `numbers [B, F]`, `codes [B, C]` to `[B, width]`.
    pub fn forward(&self, numbers: Tensor<2>, codes: Option<Tensor<2, Int>>) -> Tensor<2> {
        let mut parts = match &self.pieces {
            Some(pieces) => pieces.forward(numbers),
            None => vec![numbers],
        };
        if let Some(codes) = codes {
            let columns = codes.chunk(self.embeddings.len(), 1);
            for (embedding, column) in self.embeddings.iter().zip(columns) {
                let [rows, _] = column.dims();
                let width = embedding.weight.dims()[1];
                parts.push(embedding.forward(column).reshape([rows, width]));
            }
        }
        if parts.len() == 1 { parts.remove(0) } else { Tensor::cat(parts, 1) }
    }
}

/// The numbers of a tensor, on the host.
pub fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec_as().expect("networks are made of f32")
}

fn places(columns: &Tensor<1, Int>) -> Vec<usize> {
    let places: Vec<i32> = columns.clone().into_data().try_into_vec_as().expect("column numbers");
    places.into_iter().map(|place| place as usize).collect()
}

/// What is known of each number and each category, for every column that [`Inputs`] makes of them.
pub fn spread_over(architecture: &Architecture, numbers: &[f32], categories: &[f32]) -> Vec<f32> {
    let with = |binned: bool, width: usize| {
        let columns = architecture.borders.iter().zip(numbers);
        columns
            .filter(move |(borders, _)| borders.is_empty() != binned)
            .flat_map(move |(_, &value)| std::iter::repeat_n(value, width))
    };
    let embedded = architecture.categories.iter().zip(categories).flat_map(|(&codes, &value)| {
        std::iter::repeat_n(value, embedding_width(codes, architecture.mlp.embedding_max))
    });
    let binned = with(true, architecture.mlp.piece_width);
    // Without numbers the batch holds one column of zeros.
    let zeros = numbers.is_empty().then_some(0.0);
    binned.chain(with(false, 1)).chain(zeros).chain(embedded).collect()
}

/// Columns of all embedded categories.
pub fn embedded_width(categories: &[usize], most: usize) -> usize {
    categories.iter().map(|&codes| embedding_width(codes, most)).sum()
}

fn embedding_width(codes: usize, most: usize) -> usize {
    codes.div_ceil(2).min(most).max(1)
}

/// The piecewise-linear embeddings of the numbers that have bins.
#[derive(Module, Debug)]
struct Pieces {
    /// `[F, E]`, constants; they follow from the architecture.
    lows: Tensor<2>,
    inverses: Tensor<2>,
    /// Columns with bins, and those without; None if all have some.
    columns: Option<Columns>,
    /// `[F, E, D]`; zero at first, so that an embedding begins as a line.
    weight: Param<Tensor<3>>,
    /// `[F, D]`.
    slope: Param<Tensor<2>>,
    bias: Param<Tensor<2>>,
}

#[derive(Module, Debug)]
struct Columns {
    binned: Tensor<1, Int>,
    plain: Tensor<1, Int>,
}

impl Pieces {
    /// None without any bins.
    fn new(architecture: &Architecture, device: &Device) -> Option<Self> {
        let (binned, plain): (Vec<usize>, Vec<usize>) = (0..architecture.borders.len())
            .partition(|&column| !architecture.borders[column].is_empty());
        let most = binned.iter().map(|&column| architecture.borders[column].len() - 1).max()?;
        let (mut lows, mut inverses) = (Vec::new(), Vec::new());
        for &column in &binned {
            let bins = architecture.borders[column].windows(2);
            let end = lows.len() + most;
            lows.extend(bins.clone().map(|bin| bin[0]));
            inverses.extend(bins.map(|bin| 1.0 / (bin[1] - bin[0])));
            lows.resize(end, NO_BIN);
            inverses.resize(end, 0.0);
        }
        let (count, width) = (binned.len(), architecture.mlp.piece_width);
        let matrix = |values| Tensor::from_data(TensorData::new(values, [count, most]), device);
        let index = |columns: Vec<usize>| {
            let columns: Vec<i32> = columns.into_iter().map(|column| column as i32).collect();
            let count = columns.len();
            Tensor::from_data(TensorData::new(columns, [count]), device)
        };
        let line = || Param::from_tensor(Tensor::zeros([count, width], device));
        Some(Pieces {
            lows: matrix(lows),
            inverses: matrix(inverses),
            columns: (!plain.is_empty())
                .then(|| Columns { binned: index(binned), plain: index(plain) }),
            weight: Param::from_tensor(Tensor::zeros([count, most, width], device)),
            slope: line(),
            bias: line(),
        })
    }

    fn native(&self) -> Table<'static> {
        let [numbers, bins, width] = self.weight.val().dims();
        let [lows, inverses] = [&self.lows, &self.inverses].map(|tensor| values(tensor.clone()));
        let weight = values(self.weight.val());
        let [slope, bias] = [&self.slope, &self.bias].map(|line| values(line.val()));
        let weights = Weights { weight: &weight, slope: &slope, bias: &bias };
        let bins_at = Bins { lows: &lows, inverses: &inverses };
        Table::new(Shape { numbers, bins, width }, bins_at, &weights).into_owned()
    }

    /// Embedded numbers, and numbers as they are where there are any.
    fn forward(&self, numbers: Tensor<2>) -> Vec<Tensor<2>> {
        let (binned, plain) = match &self.columns {
            Some(columns) => (
                numbers.clone().select(1, columns.binned.clone()),
                Some(numbers.select(1, columns.plain.clone())),
            ),
            None => (numbers, None),
        };
        let grid = Grid { lows: self.lows.clone(), inverses: self.inverses.clone() };
        let weights = PieceWeights {
            weight: self.weight.val(),
            slope: self.slope.val(),
            bias: self.bias.val(),
        };
        [Some(pieces(binned, grid, weights)), plain].into_iter().flatten().collect()
    }
}
