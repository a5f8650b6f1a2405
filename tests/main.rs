//! The integration tests: one binary, since every link holds polars and wgpu.

mod attacks;
mod bad_input;
mod bundle;
mod choices;
mod common;
mod compare;
mod device;
mod differences;
mod engines;
mod hazard;
mod onnx;
mod ops;
mod panel;
mod partitions;
mod pipe;
mod portable;
mod replicas;
mod resume;
mod score_folder;
mod tables;
mod tidy;
mod tracking;
mod tune;
