//! How well a model did: metrics, curves, and the document that holds them.

pub mod blend;
pub mod calibrate;
mod choices;
pub mod compare;
pub mod curves;
pub mod metrics;
pub mod results;
pub mod survival;

pub use calibrate::{Calibrated, Calibrator};
pub use choices::{Ablation, LossTrial};
pub use metrics::{Metrics, metrics};
pub use results::{Calibration, FoldMetrics, ModelMetrics, RunMetrics};
pub use survival::{CurveMetrics, Curves, curve_metrics, months_expected};
