//! `churn score`.

use super::args::ScoreArgs;
use super::output;
use crate::bundle;
use crate::error::Result;
use crate::panel::Inputs;
use crate::score::Detail;
use crate::{score, tensors};

pub fn run(args: &ScoreArgs) -> Result<()> {
    let device = tensors::choose(args.device.parse()?)?;
    let bundle = bundle::load(&args.bundle, &device.device)?;
    let intake = &bundle.model.intake;
    let inputs = match args.input.as_slice() {
        [folder] if folder.is_dir() => Inputs::under(folder, intake)?,
        files => Inputs::matched(files, intake)?,
    };
    let detail = if args.curve { Detail::Curve } else { Detail::Risk };
    let scores = score::score(&bundle, &inputs, args.as_of, detail)?;
    let (rows, gone, as_of) = (scores.rows.len(), scores.gone, scores.as_of);
    score::write(scores, &bundle.manifest.bundle_id, &args.output)?;
    let when = as_of.map_or(String::new(), |month| format!(" at the end of {month}"));
    let left = if gone > 0 { format!(", {gone} had left before") } else { String::new() };
    output::print(&format!("{rows} customers scored{when}{left}: {}", args.output.display()))
}
