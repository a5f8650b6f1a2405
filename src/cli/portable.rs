//! `churn export`: a bundle as a file or folder for other programs.

use super::args::ExportArgs;
use super::output;
use super::run_folder::bundle_of;
use crate::bundle::{self, Contents, Manifest};
use crate::error::{Kind, Result};
use crate::{fsx, mlflow, onnx, tensors, torch};

pub fn run(args: &ExportArgs) -> Result<()> {
    let export = match args.format.as_str() {
        "onnx" => as_onnx,
        "safetensors" => as_safetensors,
        "mlflow" => as_mlflow,
        other => {
            let error = Kind::Usage.msg(format!("there is no format `{other}`"));
            return Err(error.hint("write --format onnx, safetensors or mlflow"));
        }
    };
    let styled = args.signature != onnx::Signature::Columns || args.unroll.is_some();
    if args.format != "onnx" && styled {
        let error = Kind::Usage.msg("--signature and --unroll belong to --format onnx");
        return Err(error.hint("leave them out"));
    }
    let cpu = tensors::choose(tensors::Want::Cpu)?;
    let folder = bundle_of(&args.from);
    let (bundle, contents) = bundle::open(&folder, &cpu.device)?;
    let manifest = &bundle.manifest;
    let told = export(args, manifest, &contents)?;
    let (model, id, out) = (&manifest.model, &manifest.bundle_id, args.out.display());
    output::print(&format!("{model} of bundle {id}: {out}\n{told}"))
}

fn as_onnx(args: &ExportArgs, manifest: &Manifest, contents: &Contents) -> Result<String> {
    let style = onnx::Style { signature: args.signature, unroll: args.unroll };
    let exported = onnx::export(contents, manifest.identity(), style)?;
    fsx::publish_bytes(&args.out, &exported.bytes)?;
    Ok(format!(
        "  {:.1} MB, {} operators, opset {} and ai.onnx.ml {}\n  inputs   {}\n  outputs  {}",
        exported.bytes.len() as f64 / 1e6,
        exported.nodes,
        onnx::OPSET,
        onnx::OPSET_ML,
        exported.inputs.join(", "),
        exported.outputs.join(", "),
    ))
}

fn as_safetensors(args: &ExportArgs, manifest: &Manifest, contents: &Contents) -> Result<String> {
    let exported = torch::export(contents, manifest.identity())?;
    fsx::publish_bytes(&args.out, &exported.bytes)?;
    let megabytes = exported.bytes.len() as f64 / 1e6;
    Ok(format!("  {megabytes:.1} MB, {} tensors, named as in PyTorch", exported.tensors))
}

fn as_mlflow(args: &ExportArgs, manifest: &Manifest, contents: &Contents) -> Result<String> {
    // A folder of that name is replaced, so that it had better be such a model.
    if args.out.exists() && !args.out.join(mlflow::MLMODEL).is_file() {
        let error = Kind::Usage.at(&args.out).msg("is there and is no MLflow model");
        return Err(error.hint("choose another --out"));
    }
    let files = mlflow::files(contents, manifest)?;
    fsx::publish_folder(&args.out, |temp| {
        files.iter().try_for_each(|(name, bytes)| {
            let path = temp.join(name);
            path.parent().map_or(Ok(()), fsx::create_folder)?;
            fsx::publish_bytes(&path, bytes)
        })
    })?;
    let names: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
    Ok(format!("  {}", names.join(", ")))
}
