//! Runs an ONNX file with tract: a batch per line in, its outputs per line out.
//!
//!     tract-run churn.onnx < batches.jsonl > outputs.jsonl
//!
//! A batch names the model's inputs, each with its shape and its cells; null is NaN. Outputs have
//! the same form.
//!
//!     {"contract": {"texts": [[2, 1], ["monthly", ""]]}, "age": {"numbers": [[2, 1], [41, null]]}}

mod trees;

use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::{anyhow, bail};

fn main() -> TractResult<()> {
    let path = std::env::args().nth(1).ok_or_else(|| anyhow!("usage: tract-run MODEL"))?;
    let mut onnx = tract_onnx::onnx();
    onnx.op_register.insert(trees::NAME, trees::read);
    let model = onnx.model_for_path(path)?;
    let mut plan = None;
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let inputs = tensors(&model, serde_json::from_str(&line?)?)?;
        let shapes = inputs.iter().map(|tensor| tensor.shape().to_vec()).collect();
        let ready = match plan.take().filter(|ready: &Ready| ready.shapes == shapes) {
            Some(ready) => ready,
            None => Ready::new(&model, &inputs, shapes)?,
        };
        let outputs = ready.runs.run(inputs.into_iter().map(IntoTValue::into_tvalue).collect())?;
        plan = Some(ready);
        serde_json::to_writer(&mut out, &named(&model, &outputs)?)?;
        out.write_all(b"\n")?;
        out.flush()?;
    }
    Ok(())
}

/// Shape and cells of a tensor.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Values {
    Numbers(Vec<usize>, Vec<Option<f32>>),
    Integers(Vec<usize>, Vec<i64>),
    Texts(Vec<usize>, Vec<String>),
}

impl Values {
    fn tensor(self) -> TractResult<Tensor> {
        match self {
            Values::Numbers(shape, cells) => {
                let cells: Vec<f32> = cells.iter().map(|cell| cell.unwrap_or(f32::NAN)).collect();
                tensor1(&cells).into_shape(&shape)
            }
            Values::Integers(shape, cells) => tensor1(&cells).into_shape(&shape),
            Values::Texts(shape, cells) => tensor1(&cells).into_shape(&shape),
        }
    }
}

/// A model that is optimised for inputs of these shapes: tract's GRU wants to know how many rows
/// there are.
struct Ready {
    shapes: Vec<Vec<usize>>,
    runs: Arc<TypedRunnableModel>,
}

impl Ready {
    fn new(
        model: &InferenceModel,
        inputs: &[Tensor],
        shapes: Vec<Vec<usize>>,
    ) -> TractResult<Self> {
        let mut model = model.clone();
        for (at, input) in inputs.iter().enumerate() {
            let fact = InferenceFact::dt_shape(input.datum_type(), input.shape());
            model.set_input_fact(at, fact)?;
        }
        Ok(Ready { shapes, runs: model.into_optimized()?.into_runnable()? })
    }
}

/// The inputs in the order of the model.
fn tensors(
    model: &InferenceModel,
    mut batch: BTreeMap<String, Values>,
) -> TractResult<Vec<Tensor>> {
    let mut tensors = Vec::new();
    for outlet in model.input_outlets()? {
        let name = &model.node(outlet.node).name;
        let values = batch.remove(name).ok_or_else(|| anyhow!("there is no input `{name}`"))?;
        tensors.push(values.tensor()?);
    }
    if let Some(name) = batch.keys().next() {
        bail!("the model has no input `{name}`");
    }
    Ok(tensors)
}

fn named(model: &InferenceModel, outputs: &[TValue]) -> TractResult<BTreeMap<String, Values>> {
    let name = |outlet: &OutletId| model.outlet_label(*outlet).unwrap_or_default().to_owned();
    let values = |output: &TValue| -> TractResult<Values> {
        let cells = output.to_plain_array_view::<f32>()?;
        let cells = cells.iter().map(|&cell| (!cell.is_nan()).then_some(cell)).collect();
        Ok(Values::Numbers(output.shape().to_vec(), cells))
    };
    let outlets = model.output_outlets()?.iter().map(name);
    outlets.zip(outputs).map(|(name, output)| Ok((name, values(output)?))).collect()
}
