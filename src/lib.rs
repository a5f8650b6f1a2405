//! `churn`: from raw customer data to a retention decision.
//!
//! The modules stand in the order in which data flows through them; each uses only what stands
//! above it (`tests/tidy.rs` holds that). See ARCHITECTURE.md for the map.

pub mod clock;
pub mod error;
pub mod fsx;
pub mod seeds;

pub mod config;

pub mod simulate;
pub mod source;

pub mod quality;

pub mod panel;

pub mod features;

pub mod tensors;

pub mod nn;

pub mod baseline;
pub mod train;
pub mod tune;

pub mod eval;

pub mod bundle;

pub mod onnx;
pub mod torch;

pub mod mlflow;

pub mod track;

pub mod score;

pub mod report;

pub mod cli;
