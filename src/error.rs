//! One error type for the library: what happened, where, and what to do about it.
//!
//! ```
//! # use churn::error::Kind;
//! let error = Kind::Schema.at("activity.csv").line(812)
//!     .msg("column `tenure` holds \"x\", expected a number")
//!     .hint("fix the export, or set on_bad = \"null\" for the column");
//! assert!(error.to_string().starts_with("activity.csv:812: column `tenure`"));
//! ```

use std::fmt;
use std::path::{Path, PathBuf};

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What class of failure this is; it decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A bug of ours, or a failure of the machine that is no one's input.
    Internal,
    /// The command line asks for something that does not exist.
    Usage,
    /// The configuration is wrong.
    Config,
    /// A table does not have the declared shape or types.
    Schema,
    /// The values are readable but unusable.
    Data,
    /// A bundle or checkpoint is damaged or was changed.
    Corrupt,
    /// A check with a pass mark was not passed.
    Gate,
    /// Device, disk or another part of the environment is missing or full.
    Environment,
    /// Refused because going on could do harm.
    Unsafe,
    /// Stopped by SIGINT.
    Interrupted,
    /// Stopped by SIGTERM.
    Terminated,
}

impl Kind {
    /// The process exit code, a contract with schedulers (see README).
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Internal => 1,
            Kind::Usage => 2,
            Kind::Config | Kind::Schema | Kind::Data | Kind::Corrupt => 3,
            Kind::Gate => 4,
            Kind::Environment => 5,
            Kind::Unsafe => 78,
            Kind::Interrupted => 130,
            Kind::Terminated => 143,
        }
    }

    pub fn msg(self, message: impl Into<String>) -> Error {
        Error { kind: self, path: None, line: None, message: message.into(), hint: None }
    }

    /// Starts an error that names a file.
    pub fn at(self, path: impl AsRef<Path>) -> Place {
        Place { kind: self, path: path.as_ref().to_path_buf(), line: None }
    }
}

/// A place that still lacks its message.
#[derive(Debug)]
pub struct Place {
    kind: Kind,
    path: PathBuf,
    line: Option<u64>,
}

impl Place {
    /// One-based line number.
    pub fn line(mut self, line: u64) -> Self {
        self.line = Some(line);
        self
    }

    pub fn msg(self, message: impl Into<String>) -> Error {
        let Place { kind, path, line } = self;
        Error { kind, path: Some(path), line, message: message.into(), hint: None }
    }

    /// An input or output failure; a full disk, a missing permission and the like are the
    /// environment's, a missing or unreadable input is the data's.
    pub fn io(self, error: &std::io::Error) -> Error {
        use std::io::ErrorKind as E;
        let mut place = self;
        if matches!(
            error.kind(),
            E::StorageFull | E::QuotaExceeded | E::ReadOnlyFilesystem | E::PermissionDenied
        ) {
            place.kind = Kind::Environment;
        }
        place.msg(error.to_string())
    }
}

/// An error with its place and its remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Error {
    pub kind: Kind,
    pub path: Option<PathBuf>,
    pub line: Option<u64>,
    pub message: String,
    pub hint: Option<String>,
}

impl Error {
    /// What the reader can do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = &self.path {
            write!(f, "{}", path.display())?;
            if let Some(line) = self.line {
                write!(f, ":{line}")?;
            }
            write!(f, ": ")?;
        }
        write!(f, "{}", self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, "; {hint}")?;
        }
        Ok(())
    }
}
