//! One pass over a CSV file before polars reads it: proves that every record has as many fields
//! as the header, that the text is UTF-8, and that no cell is absurdly long, each with its line.
//!
//! polars pads short records with nulls and names no line; a customer table in which half a
//! record silently became "missing" is worse than one that is refused.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use crate::error::{Error, Kind, Result};
use crate::source::read::Limits;

/// What the pass found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CsvShape {
    pub header: Vec<String>,
    /// False when some quoted cell spans lines, so that a row's number does not give its line.
    pub rows_are_lines: bool,
    pub rows: u64,
    /// Blank lines behind the last record. polars reads each of them as a row without values.
    pub blank_lines: u64,
}

/// Checks a whole file. Fields are separated by commas and quoted as in RFC 4180.
pub fn check(path: &Path, limits: &Limits) -> Result<CsvShape> {
    let (mut state, mut reader) = State::open(path, limits)?;
    let header = state.header(&mut reader)?;
    let (mut rows, mut blank_lines) = (0, 0);
    let mut bytes = Vec::new();
    loop {
        let first_line = state.line + 1;
        let Some(record) = state.record(&mut reader, &mut bytes)? else { break };
        if record.is_empty() {
            blank_lines += 1; // Harmless at the end of the file.
            continue;
        }
        if blank_lines > 0 {
            let line = first_line - blank_lines;
            return Err(state.error(line, "is blank").hint("delete the line, or fix the export"));
        }
        rows += 1;
        state.check_fields(record, header.len(), first_line)?;
    }
    Ok(CsvShape { header, rows_are_lines: state.rows_are_lines, rows, blank_lines })
}

/// Names of the columns; of the file no more than that is read.
pub fn columns(path: &Path, limits: &Limits) -> Result<Vec<String>> {
    let (mut state, mut reader) = State::open(path, limits)?;
    state.header(&mut reader)
}

struct State<'a> {
    path: &'a Path,
    limits: &'a Limits,
    /// Lines read so far.
    line: u64,
    rows_are_lines: bool,
}

impl<'a> State<'a> {
    fn open(path: &'a Path, limits: &'a Limits) -> Result<(Self, BufReader<File>)> {
        let file = File::open(path).map_err(|error| Kind::Data.at(path).io(&error))?;
        let reader = BufReader::with_capacity(1 << 20, file);
        Ok((State { path, limits, line: 0, rows_are_lines: true }, reader))
    }

    fn header(&mut self, reader: &mut impl BufRead) -> Result<Vec<String>> {
        let mut bytes = Vec::new();
        let Some(header) = self.record(reader, &mut bytes)? else {
            let error = Kind::Data.at(self.path).msg("is empty");
            return Err(error.hint("a CSV file starts with a header"));
        };
        let header = header.trim_start_matches('\u{feff}');
        if header.is_empty() {
            return Err(self.error(1, "is blank").hint("a CSV file starts with a header"));
        }
        let header = split(header);
        self.check_header(&header)?;
        Ok(header)
    }

    fn error(&self, line: u64, message: impl Into<String>) -> Error {
        Kind::Schema.at(self.path).line(line).msg(message)
    }

    /// The next record without its line end, in `bytes`; None at the end of the file. A quoted
    /// field may hold line ends.
    fn record<'b>(
        &mut self,
        reader: &mut impl BufRead,
        bytes: &'b mut Vec<u8>,
    ) -> Result<Option<&'b str>> {
        let first_line = self.line + 1;
        let bytes_max = self.limits.cell_bytes_max.saturating_mul(4).max(1 << 20);
        let mut quotes = 0;
        bytes.clear();
        loop {
            let start = bytes.len();
            let read = std::io::Read::take(&mut *reader, (bytes_max - start) as u64 + 1)
                .read_until(b'\n', bytes)
                .map_err(|error| Kind::Data.at(self.path).io(&error))?;
            if bytes.len() > bytes_max {
                return Err(self
                    .error(first_line, format!("a record is longer than {bytes_max} bytes"))
                    .hint("a quote is probably not closed; or raise `data.cell_bytes_max`"));
            }
            if read == 0 {
                if start == 0 {
                    return Ok(None);
                }
                return Err(self.error(first_line, "a quoted field is not closed"));
            }
            self.line += 1;
            quotes += bytes[start..].iter().filter(|&&b| b == b'"').count();
            if quotes % 2 == 0 {
                break;
            }
            self.rows_are_lines = false;
        }
        while matches!(bytes.last(), Some(b'\n' | b'\r')) {
            bytes.pop();
        }
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(self
                .error(first_line, "is not UTF-8")
                .hint("convert it, e.g. iconv -f latin1 -t utf-8")),
        }
    }

    fn check_header(&self, header: &[String]) -> Result<()> {
        if header.len() > self.limits.columns_max {
            let (n, max) = (header.len(), self.limits.columns_max);
            return Err(self
                .error(1, format!("has {n} columns, at most {max} are read"))
                .hint("raise `data.columns_max` if that is meant"));
        }
        let mut sorted: Vec<&String> = header.iter().collect();
        sorted.sort();
        match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(self.error(1, format!("has two columns `{}`", pair[0]))),
            None => Ok(()),
        }
    }

    fn check_fields(&self, record: &str, expected: usize, line: u64) -> Result<()> {
        let (mut fields, mut quoted, mut start) = (1, false, 0);
        let mut longest = 0;
        for (i, byte) in record.bytes().enumerate() {
            match byte {
                b'"' => quoted = !quoted,
                b',' if !quoted => {
                    fields += 1;
                    longest = longest.max(i - start);
                    start = i + 1;
                }
                _ => {}
            }
        }
        longest = longest.max(record.len() - start);
        if fields != expected {
            return Err(self
                .error(line, format!("has {fields} fields, the header has {expected}"))
                .hint("quote cells that hold a comma, or fix the export"));
        }
        if longest > self.limits.cell_bytes_max {
            let max = self.limits.cell_bytes_max;
            return Err(
                self.error(line, format!("a cell has {longest} bytes, at most {max} are read"))
            );
        }
        Ok(())
    }
}

/// The fields of one record, unquoted.
fn split(record: &str) -> Vec<String> {
    let (mut fields, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut chars = record.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                field.push('"');
                chars.next();
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            c => field.push(c),
        }
    }
    fields.push(field);
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn run(bytes: &[u8]) -> Result<CsvShape> {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("t.csv");
        std::fs::write(&path, bytes).expect("written");
        check(&path, &Limits { columns_max: 4, cell_bytes_max: 16 }).map_err(|mut error| {
            error.path = None;
            error
        })
    }

    #[test]
    fn well_formed_files_pass() {
        for (text, rows) in [
            ("a,b\n1,2\n", 1),
            ("a,b\r\n1,2\r\n3,4", 2),
            ("\u{feff}a,b\n1,\"x,y\"\n", 1),
            ("a,b\n1,\"two\nlines\"\n", 1),
            ("a,b\n", 0),
            ("a,b\n1,2\n\n", 1),
        ] {
            assert_eq!(run(text.as_bytes()).map(|s| s.rows), Ok(rows), "{text:?}");
        }
        assert_eq!(run(b"\xef\xbb\xbfa,\"b\"\"c\"\n").expect("fine").header, ["a", "b\"c"]);
        assert!(!run(b"a,b\n1,\"two\nlines\"\n").expect("fine").rows_are_lines);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (bytes, line, words) in [
            (&b"a,b\n1,2\n1\n"[..], Some(3), "has 1 fields, the header has 2"),
            (b"a,b\n1,2,3\n", Some(2), "has 3 fields"),
            (b"a,b\n1,\xff\n", Some(2), "is not UTF-8"),
            (b"a,b\n1,\"open\n", Some(2), "not closed"),
            (b"a,b,c,d,e\n", Some(1), "has 5 columns"),
            (b"a,a\n", Some(1), "two columns `a`"),
            (b"a,b\n1,aaaaaaaaaaaaaaaaaaaaaaaaa\n", Some(2), "a cell has 25 bytes"),
            (b"", None, "is empty"),
            (b"\n\na,b\n1,2\n", Some(1), "is blank"),
            (b"a,b\n1,2\n\n\n3,4\n", Some(3), "is blank"),
        ] {
            let error = run(bytes).expect_err("refused");
            assert_eq!(error.line, line, "{error}");
            assert!(error.message.contains(words), "{error}");
        }
    }
}
