//! A bundle as one ONNX file: raw columns in, calibrated risk out, in any runtime.
//!
//! The graph is made from what the bundle holds (fitted features, learned numbers, calibrator), by
//! code that mirrors the code that computes them here. Where a decision hangs on a number (trees,
//! window aggregates) the graph computes it bit by bit as we do; elsewhere risks agree to 1e-5.
//!
//! | file | holds |
//! |---|---|
//! | `proto` | the messages of the format |
//! | `graph` | the builder: values, names, constants, the file |
//! | `ops` | operators as methods |
//! | `inputs` | raw columns, by name or as one matrix |
//! | `state` | what a customer's next month needs of those before, for month by month |
//! | `history`, `windows`, `scale`, `blocks` | features |
//! | `networks`, `trees`, `logistic` | models |
//! | `outlook` | members to a risk and its course, average, calibration |
//! | `facts` | what the file says of itself |

mod blocks;
mod facts;
mod graph;
mod history;
mod inputs;
mod logistic;
mod networks;
mod ops;
mod outlook;
mod proto;
mod scale;
mod state;
mod trees;
mod windows;

use crate::bundle::{Contents, Form, Identity, Learned, Member};
use crate::config::ModelKind;
use crate::error::{Kind, Result};
use crate::features::FittedFeatures;
use blocks::{Blocks, Reads};
use graph::{Attr, Axis, Call, Graph, ML};
use inputs::Inputs;
use networks::Weights;
use outlook::Uncalibrated;
use proto::ElementType::F64;
use state::{STATE_OUT, State};

pub use graph::{OPSET, OPSET_ML};
pub use inputs::{AS_OF, Column, Columns, HISTORY, Holds};

/// What the model is called with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Signature {
    /// An input for each raw column.
    #[default]
    Columns,
    /// One matrix of numbers `[N, F]`; for models without months.
    Matrix,
    /// An input for each raw column with the value of one month, and what is kept of the months
    /// before: state in, state out. For models with months.
    Step,
}

impl Signature {
    pub fn name(self) -> &'static str {
        match self {
            Signature::Columns => "columns",
            Signature::Matrix => "matrix",
            Signature::Step => "step",
        }
    }
}

impl std::str::FromStr for Signature {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "columns" => Ok(Signature::Columns),
            "matrix" => Ok(Signature::Matrix),
            "step" => Ok(Signature::Step),
            _ => Err(format!("`{text}` is neither columns, matrix nor step")),
        }
    }
}

/// How a model is written.
#[derive(Debug, Clone, Copy, Default)]
pub struct Style {
    pub signature: Signature,
    /// Months that the GRU is written out for, step by step, so that a runtime needs no operator
    /// for it; then the months' axis has this length. None for the operator and any months.
    pub unroll: Option<usize>,
}

/// Months a GRU may be written out for: 15 operators for each month and layer.
const UNROLL_MAX: usize = 240;

/// A model as a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Exported {
    pub bytes: Vec<u8>,
    /// Names, in their order.
    pub inputs: Vec<String>,
    pub outputs: Vec<&'static str>,
    pub nodes: usize,
}

/// Makes the file. The same contents give the same bytes.
///
/// # Errors
/// [`Kind::Usage`] for what cannot be exported, with what to do; [`Kind::Corrupt`] if the contents
/// do not fit together.
pub fn export(contents: &Contents, identity: Identity, style: Style) -> Result<Exported> {
    let (model, fitted) = (&contents.model, &contents.features);
    check_unroll(style, &contents.model.members)?;
    let mut graph = Graph::default();
    let g = &mut graph;
    let columns = Columns::new(model, fitted, style.signature)?;
    let reads = model.members.iter().map(reads).max().unwrap_or(Reads::Nothing);
    check_step(style, (reads, &columns))?;
    let inputs = Inputs::declare(g, columns.clone(), style)?;
    let mut blocks = Blocks::new(g, fitted, inputs, reads)?;
    let mut shares = Vec::new();
    let mut curve = None;
    for (member, learned) in model.members.iter().zip(&contents.learned) {
        let found = g.within(&member.name, |g| of_member(g, &mut blocks, member, learned))?;
        shares.push((member.weight, found.log_odds));
        // An average of models has no curve.
        curve = found.curve.filter(|_| model.members.len() == 1);
    }
    let mean = g.within("average", |g| outlook::blend(g, &shares));
    let scope = format!("calibration/{}", model.calibrator.name());
    let log_odds = g.within(&scope, |g| outlook::calibrated(g, &model.calibrator, &mean));
    let risk = g.within("sigmoid", |g| outlook::risk(g, &log_odds));
    let mut outputs = vec![RISK];
    let shown = g.within("shown", |g| outlook::shown(g, &risk));
    g.output(&shown, RISK, &[Axis::Any("N"), Axis::Fixed(1)], facts::RISK_MEANING);
    if let Some(curve) = curve {
        let bent = g.within("course", |g| outlook::end_at(g, &curve, &risk));
        let bent = g.within("course", |g| outlook::shown(g, &bent));
        let axes = [Axis::Any("N"), Axis::Fixed(model.curve_months())];
        g.output(&bent, CURVE, &axes, facts::CURVE_MEANING);
        outputs.push(CURVE);
    }
    let state = blocks.inputs.state.as_ref();
    if let Some(state) = state {
        state.finish(g);
        outputs.push(STATE_OUT);
    }
    let (read, width) = (graph.read_inputs(), state.map(State::width));
    let facts = facts::facts(contents, identity, (style, &columns), (&read, width))?;
    let finished = graph.finish("churn", facts::DESCRIPTION, &facts);
    Ok(Exported { bytes: finished.bytes, inputs: finished.inputs, outputs, nodes: finished.nodes })
}

fn reads(member: &Member) -> Reads {
    match &member.form {
        Form::Network { architecture, .. } => match architecture.kind {
            ModelKind::Static => Reads::Nothing,
            ModelKind::Gru | ModelKind::Hybrid => Reads::Months,
            ModelKind::Mlp => Reads::Windows,
        },
        Form::Trees | Form::Logistic => Reads::Windows,
    }
}

const RISK: &str = "risk";
const CURVE: &str = "risk_curve";

fn of_member(
    g: &mut Graph,
    blocks: &mut Blocks,
    member: &Member,
    learned: &Learned,
) -> Result<Uncalibrated> {
    match (&member.form, learned) {
        (Form::Network { architecture, log_odds_shift }, Learned::Network(parameters)) => {
            check(architecture.months, blocks.fitted)?;
            let weights = Weights { parameters, prefix: "" };
            let outputs = networks::outputs(g, blocks, architecture, &weights)?;
            let members =
                if architecture.kind.is_sequence() { 1 } else { architecture.mlp.members };
            let size = (members, architecture.hazards);
            Ok(outlook::read(g, &outputs, size, *log_odds_shift))
        }
        (Form::Trees, Learned::Trees(trees)) => {
            let log_odds = trees::log_odds(g, blocks, trees)?;
            Ok(Uncalibrated { log_odds: g.cast(&log_odds, F64), curve: None })
        }
        (Form::Logistic, Learned::Logistic(logistic)) => {
            Ok(Uncalibrated { log_odds: logistic::log_odds(g, blocks, logistic)?, curve: None })
        }
        _ => Err(Kind::Corrupt.msg(format!("`{}` is of another form than its file", member.name))),
    }
}

fn check_unroll(style: Style, members: &[Member]) -> Result<()> {
    let is_gru = |member: &Member| match &member.form {
        Form::Network { architecture, .. } => architecture.kind.is_sequence(),
        _ => false,
    };
    match style.unroll {
        Some(_) if style.signature == Signature::Step => {
            Err(Kind::Usage.msg("a step has one month").hint("leave out --unroll"))
        }
        Some(_) if !members.iter().any(is_gru) => Err(Kind::Usage
            .msg("--unroll writes a GRU out, and this model has none")
            .hint("leave it out")),
        Some(months) if months == 0 || months > UNROLL_MAX => {
            let error =
                Kind::Usage.msg(format!("--unroll {months} is not within 1 and {UNROLL_MAX}"));
            Err(error.hint("give the months of the longest history"))
        }
        _ => Ok(()),
    }
}

fn check_step(style: Style, (reads, columns): (Reads, &Columns)) -> Result<()> {
    match style.signature {
        Signature::Step if !columns.dated || reads == Reads::Nothing => Err(Kind::Usage
            .msg("the signature `step` is for models with months, and this one has none")
            .hint("leave out --signature")),
        _ => Ok(()),
    }
}

fn check(months: usize, fitted: &FittedFeatures) -> Result<()> {
    match months == fitted.month_width() {
        true => Ok(()),
        false => Err(Kind::Corrupt.msg("the network was fitted on other months than the features")),
    }
}

#[cfg(test)]
mod tests;
