//! Arrow streams in and out, batch by batch.

use std::cell::RefCell;
use std::io::{BufWriter, Read, Write};
use std::rc::Rc;
use std::sync::Arc;

use polars::prelude::*;
use polars_arrow::array::{Array, FixedSizeListArray, ListArray};
use polars_arrow::datatypes::{ArrowDataType, ArrowSchema, ArrowSchemaRef};
use polars_arrow::io::ipc::read::{StreamReader, StreamState, read_stream_metadata};
use polars_arrow::io::ipc::write::{StreamWriter, WriteOptions};
use polars_arrow::offset::{Offsets, OffsetsBuffer};
use polars_arrow::record_batch::RecordBatchT;

use super::messages::Messages;

/// Reads a stream.
pub struct ArrowInput<R: Read> {
    stream: StreamReader<Messages<R>>,
}

/// The columns of a stream, by name.
pub type ArrowColumns = ArrowSchema;

impl<R: Read> ArrowInput<R> {
    /// Reads the schema. Of the columns, only those that are `wanted` will be read.
    pub fn open(input: R, wanted: &dyn Fn(&str) -> bool) -> PolarsResult<(Self, ArrowColumns)> {
        let mut input = Messages::new(input);
        let metadata = read_stream_metadata(&mut input)?;
        let columns = metadata.schema.clone();
        if columns.len() != metadata.ipc_schema.fields.len() {
            return Err(polars_err!(Duplicate: "two columns have the same name"));
        }
        let places = (0..).zip(columns.iter_names()).filter(|(_, name)| wanted(name));
        let places = places.map(|(at, _)| at).collect();
        Ok((ArrowInput { stream: StreamReader::new(input, metadata, Some(places)) }, columns))
    }

    /// The next batch; None at the end.
    pub fn read(&mut self) -> PolarsResult<Option<DataFrame>> {
        match self.stream.next().transpose()? {
            Some(StreamState::Some(batch)) => frame(batch).map(Some),
            // The end of the input, with or without its mark.
            Some(StreamState::Waiting) | None => Ok(None),
        }
    }
}

/// Whether a column of this type can be read; `polars` would panic on others.
pub fn is_readable(of: &ArrowDataType) -> bool {
    use ArrowDataType as T;
    match of {
        T::Null | T::Boolean | T::Float32 | T::Float64 | T::Utf8 | T::LargeUtf8 | T::Utf8View => {
            true
        }
        T::Int8 | T::Int16 | T::Int32 | T::Int64 => true,
        T::UInt8 | T::UInt16 | T::UInt32 | T::UInt64 => true,
        T::Date32 | T::Date64 => true,
        T::Timestamp(_, zone) => zone.is_none(),
        T::Dictionary(_, values, _) => matches!(**values, T::Utf8 | T::LargeUtf8 | T::Utf8View),
        T::List(of) | T::LargeList(of) | T::FixedSizeList(of, _) => {
            !is_list(&of.dtype) && is_readable(&of.dtype)
        }
        _ => false,
    }
}

/// Whether a column holds a list in each row.
pub fn is_list(of: &ArrowDataType) -> bool {
    use ArrowDataType as T;
    matches!(of, T::List(_) | T::LargeList(_) | T::FixedSizeList(..))
}

fn frame(batch: RecordBatchT<Box<dyn Array>>) -> PolarsResult<DataFrame> {
    let height = batch.height();
    let (schema, arrays) = batch.into_schema_and_arrays();
    let column = |(name, array): (&PlSmallStr, Box<dyn Array>)| {
        let series = Series::try_from((name.clone(), as_list(array)?))?;
        PolarsResult::Ok(series.into_column())
    };
    let columns: PolarsResult<Vec<Column>> = schema.iter_names().zip(arrays).map(column).collect();
    DataFrame::new(height, columns?)
}

/// Lists of equal length become lists, which is all that polars knows here.
fn as_list(array: Box<dyn Array>) -> PolarsResult<Box<dyn Array>> {
    let Some(fixed) = array.as_any().downcast_ref::<FixedSizeListArray>() else {
        return Ok(array);
    };
    let lengths = std::iter::repeat_n(fixed.size(), fixed.len());
    let offsets = OffsetsBuffer::<i64>::from(Offsets::try_from_lengths(lengths)?);
    let of = ListArray::<i64>::default_datatype(fixed.values().dtype().clone());
    let validity = fixed.validity().cloned();
    Ok(ListArray::try_new(of, offsets, fixed.values().clone(), validity)?.boxed())
}

/// Writes a stream. Every batch is on its way when [`ArrowOutput::write`] returns.
pub struct ArrowOutput<W: Write> {
    stream: StreamWriter<Held<W>>,
    out: Held<W>,
    schema: ArrowSchemaRef,
}

impl<W: Write> ArrowOutput<W> {
    /// Writes the schema of a table, of any number of rows.
    pub fn begin(out: W, table: &DataFrame) -> PolarsResult<Self> {
        let mut out = Held(Rc::new(RefCell::new(BufWriter::new(out))));
        let schema = Arc::new(table.schema().to_arrow(COMPAT));
        let mut stream = StreamWriter::new(out.clone(), WriteOptions { compression: None });
        stream.start(&schema, None)?;
        out.flush()?;
        Ok(ArrowOutput { stream, out, schema })
    }

    /// Writes the rows of a table, which may be none, as one batch.
    pub fn write(&mut self, mut table: DataFrame) -> PolarsResult<()> {
        table.rechunk_mut();
        let arrays = table.columns().iter();
        let arrays = arrays.map(|column| column.as_materialized_series().to_arrow(0, COMPAT));
        let batch = RecordBatchT::try_new(table.height(), self.schema.clone(), arrays.collect())?;
        self.stream.write(&batch, None)?;
        Ok(self.out.flush()?)
    }

    /// Marks the end.
    pub fn finish(mut self) -> PolarsResult<()> {
        self.stream.finish()?;
        Ok(self.out.flush()?)
    }
}

/// The types that every reader of Arrow knows.
const COMPAT: CompatLevel = CompatLevel::oldest();

/// The writer of a stream keeps what it writes to; this flushes it all the same.
struct Held<W: Write>(Rc<RefCell<BufWriter<W>>>);

impl<W: Write> Clone for Held<W> {
    fn clone(&self) -> Self {
        Held(self.0.clone())
    }
}

impl<W: Write> Write for Held<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.borrow_mut().flush()
    }
}
