//! How well a model did: metrics, curves, and the document that holds them.

pub mod curves;
pub mod metrics;
pub mod results;
pub mod survival;

pub use metrics::{Metrics, metrics};
pub use results::{FoldMetrics, ModelMetrics, RunMetrics};
pub use survival::{CurveMetrics, Curves, curve_metrics, months_expected};
