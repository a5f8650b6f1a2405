//! How well a model did: metrics, curves, and the document that holds them.

pub mod blend;
pub mod calibrate;
pub mod curves;
pub mod metrics;
pub mod results;

pub use calibrate::{Calibrated, Calibrator};
pub use metrics::{Metrics, metrics};
pub use results::{Calibration, FoldMetrics, ModelMetrics, RunMetrics};
