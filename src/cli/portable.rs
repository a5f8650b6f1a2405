//! `churn export`: a bundle as a file for other programs.

use std::path::{Path, PathBuf};

use super::args::ExportArgs;
use super::output;
use crate::error::{Kind, Result};
use crate::{bundle, fsx, onnx, tensors};

pub fn run(args: &ExportArgs) -> Result<()> {
    let cpu = tensors::choose(tensors::Want::Cpu)?;
    let folder = bundle_of(&args.from);
    let (bundle, contents) = bundle::open(&folder, &cpu.device)?;
    let manifest = &bundle.manifest;
    let identity = onnx::Identity { bundle_id: &manifest.bundle_id, model: &manifest.model };
    let exported = match args.format.as_str() {
        "onnx" => onnx::export(&contents, identity, args.signature)?,
        other => {
            let error = Kind::Usage.msg(format!("there is no format `{other}`"));
            return Err(error.hint("write --format onnx"));
        }
    };
    fsx::publish_bytes(&args.out, &exported.bytes)?;
    output::print(&format!(
        "{} of bundle {}: {}\n  {:.1} MB, {} operators, opset {} and ai.onnx.ml {}\n  inputs   \
         {}\n  outputs  {}",
        manifest.model,
        manifest.bundle_id,
        args.out.display(),
        exported.bytes.len() as f64 / 1e6,
        exported.nodes,
        onnx::OPSET,
        onnx::OPSET_ML,
        exported.inputs.join(", "),
        exported.outputs.join(", "),
    ))
}

/// The folder itself, or the bundle inside a run.
fn bundle_of(folder: &Path) -> PathBuf {
    let inside = folder.join("bundle");
    if inside.is_dir() { inside } else { folder.to_owned() }
}
