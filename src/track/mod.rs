//! What a training tells, written to files: [`JsonLines`] for programs, [`TensorBoard`] for eyes.
//!
//! Neither can stop a training: opening never fails, a failed write is one warning and then
//! silence. Give every model of every fold its own TensorBoard folder
//! (`tensorboard/<model>-<fold>`): a folder is one curve there.

mod json_lines;
mod proto;
mod tensorboard;

pub use json_lines::JsonLines;
pub use tensorboard::TensorBoard;
