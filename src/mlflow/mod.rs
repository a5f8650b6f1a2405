//! A bundle in the layout of an MLflow model, so that `mlflow.pyfunc.load_model(DIR).predict(df)`
//! works: the ONNX file, a short loader for it, what MLflow wants to know of both, and an example.
//!
//! MLflow's own flavour for ONNX hands every column over as one flat array, which the shapes of a
//! model with months (`[N, T]`) are not; hence the loader.

mod example;

use serde_json::{Value, json};

use crate::bundle::{Contents, Manifest};
use crate::error::{Kind, Result};
use crate::onnx::{self, AS_OF, Column, Columns, HISTORY, Holds, Style};

/// The file that makes a folder an MLflow model.
pub const MLMODEL: &str = "MLmodel";

const LOADER: &str = include_str!("churn_pyfunc.py");

/// What the layout was tested with (`scripts/interop/mlflow_parity.py`).
const MLFLOW: &str = "3.17.2";
const PYTHON: &str = "3.11.7";
const REQUIREMENTS: [&str; 3] = ["numpy==2.4.6", "onnxruntime==1.32.0", "pandas==3.1.1"];

/// Paths in the folder and what stands there. The same contents give the same bytes.
///
/// # Errors
/// Those of [`onnx::export`].
pub fn files(contents: &Contents, manifest: &Manifest) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let style = Style::default();
    let exported = onnx::export(contents, manifest.identity(), style)?;
    let columns = Columns::new(&contents.model, &contents.features, style.signature)?;
    let read = |name: &str| exported.inputs.iter().any(|input| input == name);
    let inputs = Inputs {
        columns: columns.all().filter(|column| read(&column.name)).cloned().collect(),
        history: read(HISTORY),
        as_of: read(AS_OF),
    };
    let outputs = outputs(contents.model.curve_months());
    let requirements = format!("mlflow=={MLFLOW}\n{}\n", REQUIREMENTS.join("\n"));
    Ok(vec![
        (MLMODEL, mlmodel(&inputs, &outputs, manifest).into_bytes()),
        ("model.onnx", exported.bytes),
        ("code/churn_pyfunc.py", LOADER.as_bytes().to_vec()),
        ("requirements.txt", requirements.into_bytes()),
        ("python_env.yaml", python_env().into_bytes()),
        ("conda.yaml", conda().into_bytes()),
        ("input_example.json", bytes(&example::split(&inputs, &contents.golden)?)?),
    ])
}

/// What a data frame must hold.
struct Inputs {
    columns: Vec<Column>,
    /// Whether the model wants the length of a history, and the as-of month.
    history: bool,
    as_of: bool,
}

impl Inputs {
    /// The schema of MLflow: 64-bit numbers, as data frames hold them, and texts.
    fn schema(&self) -> Value {
        let mut all: Vec<Value> = self.columns.iter().map(of_column).collect();
        if self.history {
            // The length of the lists says it, where there are any.
            let required = !self.columns.iter().any(|column| column.monthly);
            all.push(json!({ "type": "long", "name": HISTORY, "required": required }));
        }
        if self.as_of {
            all.push(json!({ "type": "long", "name": AS_OF, "required": true }));
        }
        Value::Array(all)
    }
}

fn of_column(column: &Column) -> Value {
    let of = if column.holds == Holds::Number { "double" } else { "string" };
    match column.monthly {
        true => json!({
            "type": "array", "items": { "type": of }, "name": column.name, "required": true
        }),
        false => json!({ "type": of, "name": column.name, "required": true }),
    }
}

/// `risk`, and the risk up to each month where the model knows it.
fn outputs(curve_months: usize) -> Value {
    let months = if curve_months > 1 { curve_months } else { 0 };
    let names = std::iter::once("risk".to_owned()).chain((1..=months).map(|k| format!("risk_{k}")));
    names.map(|name| json!({ "type": "double", "name": name, "required": true })).collect()
}

/// JSON texts are YAML texts, so that nothing has to be quoted by hand.
fn mlmodel(inputs: &Inputs, outputs: &Value, manifest: &Manifest) -> String {
    let text = |value: &Value| Value::String(value.to_string()).to_string();
    format!(
        "flavors:\n  python_function:\n    loader_module: churn_pyfunc\n    code: code\n    \
         data: model.onnx\n    python_version: {PYTHON}\n    env:\n      conda: conda.yaml\n      virtualenv: python_env.yaml\n\
         mlflow_version: {MLFLOW}\nmodel_uuid: {id}\nmetadata:\n  bundle_id: {id}\n  model: {model}\n\
         saved_input_example_info:\n  artifact_path: input_example.json\n  \
         pandas_orient: split\n  type: dataframe\nsignature:\n  inputs: {inputs}\n  \
         outputs: {outputs}\n  params: null\n",
        id = Value::String(manifest.bundle_id.clone()),
        model = Value::String(manifest.model.clone()),
        inputs = text(&inputs.schema()),
        outputs = text(outputs),
    )
}

fn python_env() -> String {
    format!(
        "python: \"{PYTHON}\"\nbuild_dependencies:\n- pip\ndependencies:\n- -r requirements.txt\n"
    )
}

fn conda() -> String {
    format!(
        "name: churn\nchannels:\n- conda-forge\ndependencies:\n- python={PYTHON}\n- pip\n- pip:\n  \
         - -r requirements.txt\n"
    )
}

fn bytes(value: &Value) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Kind::Internal.msg(error.to_string()))
}
