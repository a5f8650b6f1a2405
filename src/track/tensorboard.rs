//! TensorBoard event files.
//!
//! Records are framed and checksummed by tensorboard-rs (`RecordWriter`, masked CRC-32C). Its
//! `SummaryWriter` is not used: it panics on every input or output error, and where the file
//! cannot be made it panics again while it unwinds, which aborts the process and cannot be caught
//! (0.5.9, `EventFileWriter::new` and its `Drop`; 82 of 500 processes died over a folder that
//! took no files). Two of its writers in one second and folder also truncate each other's file.

use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::time::Duration;

use tensorboard_rs::record_writer::RecordWriter;

use super::proto;
use crate::clock::Clock;
use crate::error::{Kind, Result};
use crate::fsx;
use crate::train::sink::Sink;

/// Records that may wait for the disk: an epoch's worth at one reading per 20 steps, about 400 KB.
/// A disk that is further behind than this loses records rather than holding up the training.
const QUEUE_RECORDS_MAX: usize = 4096;

/// A disk that hangs (a lost network mount) may hold up the end of an epoch for this long.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// Writes `events.out.tfevents.*` into a folder, from a thread of its own.
///
/// Scalars are stored as 32-bit floats; one that is not finite (as such) is left out.
pub struct TensorBoard {
    queue: SyncSender<Job>,
    clock: Arc<dyn Clock>,
    /// The clock's two readings at opening: events are dated by their difference.
    opened_unix_s: u64,
    opened: Duration,
    folder: PathBuf,
    /// Records that found the queue full.
    dropped: u64,
}

enum Job {
    Record(Vec<u8>),
    /// Empty the buffer, then say so.
    Flush(SyncSender<()>),
}

impl TensorBoard {
    /// One folder per model and fold. A folder that cannot be written to is a warning, see
    /// [`Sink`].
    pub fn open(folder: &Path, clock: Arc<dyn Clock>) -> Self {
        let (queue, jobs) = sync_channel(QUEUE_RECORDS_MAX);
        let sink = Self {
            queue,
            opened_unix_s: clock.unix_seconds(),
            opened: clock.elapsed(),
            clock,
            folder: folder.to_path_buf(),
            dropped: 0,
        };
        let path = folder.join(file_name(sink.opened_unix_s));
        let warn = move |path: &Path, why: &str| {
            tracing::warn!("{}: no more TensorBoard events are written: {why}", path.display());
        };
        let version = proto::version_event(sink.wall_s());
        let spawned = std::thread::Builder::new().name("tensorboard".into()).spawn({
            let path = path.clone();
            move || {
                if let Err(error) = write_all(&path, &version, &jobs) {
                    warn(&path, &error.message);
                }
            }
        });
        if let Err(error) = spawned {
            warn(&path, &error.to_string());
        }
        sink
    }

    fn wall_s(&self) -> f64 {
        let since = self.clock.elapsed().saturating_sub(self.opened);
        self.opened_unix_s as f64 + since.as_secs_f64()
    }

    /// A writer that has given up has said why; here only the one that is too slow speaks.
    fn push(&mut self, record: Vec<u8>) {
        if let Err(TrySendError::Full(_)) = self.queue.try_send(Job::Record(record)) {
            if self.dropped == 0 {
                let folder = self.folder.display();
                tracing::warn!("{folder}: the disk is too slow, TensorBoard events are dropped");
            }
            self.dropped += 1;
        }
    }
}

impl Sink for TensorBoard {
    fn scalar(&mut self, name: &str, step: u64, value: f64) {
        let value = value as f32;
        if value.is_finite() {
            self.push(proto::scalar_event(self.wall_s(), step, name, value));
        }
    }

    fn hparams(&mut self, pairs: &[(String, String)]) {
        self.push(proto::hparams_event(self.wall_s(), pairs));
    }

    fn flush(&mut self) {
        let (done, wait) = sync_channel(1);
        if self.queue.try_send(Job::Flush(done)).is_ok() {
            // Ends when flushed, when the writer gave up (its end is dropped), or by the limit.
            let _ = wait.recv_timeout(WAIT_MAX);
        }
    }
}

impl Drop for TensorBoard {
    fn drop(&mut self) {
        self.flush();
        if self.dropped > 0 {
            let (folder, n) = (self.folder.display(), self.dropped);
            tracing::warn!("{folder}: {n} TensorBoard events were dropped");
        }
    }
}

/// Unique in this process and, through the process id and the second, among its restarts.
fn file_name(unix_s: u64) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("events.out.tfevents.{unix_s:010}.churn.{}.{count}", std::process::id())
}

/// The writer thread: until the sink is gone, or a write fails. The buffer is emptied whenever no
/// job waits, so that curves can be watched and a crash costs nothing that was told before.
fn write_all(path: &Path, version: &[u8], jobs: &Receiver<Job>) -> Result<()> {
    let at = |error: std::io::Error| Kind::Environment.at(path).io(&error);
    let mut writer = RecordWriter::new(BufWriter::new(fsx::open_append(path)?));
    let mut next = Ok(Job::Record(version.to_vec()));
    loop {
        match next {
            Ok(Job::Record(record)) => writer.write(&record).map_err(at)?,
            Ok(Job::Flush(done)) => {
                writer.flush().map_err(at)?;
                // The one who waited may have lost patience.
                let _ = done.send(());
            }
            Err(TryRecvError::Disconnected) => return writer.flush().map_err(at),
            Err(TryRecvError::Empty) => {
                writer.flush().map_err(at)?;
                next = jobs.recv().map_err(|_| TryRecvError::Disconnected);
                continue;
            }
        }
        next = jobs.try_recv();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use tensorboard_rs::masked_crc32c::masked_crc32c;

    /// Ten seconds after its epoch, ever.
    struct Fixed;

    impl Clock for Fixed {
        fn unix_seconds(&self) -> u64 {
            1_700_000_000
        }
        fn elapsed(&self) -> Duration {
            Duration::from_secs(10)
        }
    }

    /// The records of the only file of a folder, their checksums checked.
    fn records(folder: &Path) -> Vec<Vec<u8>> {
        let mut files = std::fs::read_dir(folder).expect("a folder");
        let file = files.next().expect("a file").expect("an entry").path();
        assert!(files.next().is_none(), "more than one file");
        let bytes = std::fs::read(file).expect("read");
        let mut rest = &bytes[..];
        let mut take = |n: usize| {
            let (head, tail) = rest.split_at(n);
            rest = tail;
            head
        };
        let mut found = Vec::new();
        let mut read = 0;
        while read < bytes.len() {
            let length = take(8);
            assert_eq!(take(4), masked_crc32c(length).to_le_bytes());
            let length = u64::from_le_bytes(length.try_into().expect("8 bytes")) as usize;
            let data = take(length).to_vec();
            assert_eq!(take(4), masked_crc32c(&data).to_le_bytes());
            found.push(data);
            read += 16 + length;
        }
        found
    }

    #[test]
    fn what_was_told_is_on_the_disk_after_a_flush() {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = dir.path().join("tensorboard/mlp-0");
        let mut sink = TensorBoard::open(&folder, Arc::new(Fixed));
        sink.hparams(&[("train.patience".into(), "8".into())]);
        sink.scalar("train/loss", 20, 0.5);
        for no_number in [f64::NAN, f64::INFINITY, 1e300] {
            sink.scalar("train/loss", 40, no_number);
        }
        sink.flush();
        let found = records(&folder);
        let wall_s = 1_700_000_000.0;
        assert_eq!(found.len(), 3);
        assert_eq!(found[0], proto::version_event(wall_s));
        assert_eq!(found[2], proto::scalar_event(wall_s, 20, "train/loss", 0.5));
    }

    #[test]
    fn nothing_is_lost_when_the_sink_goes() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut sink = TensorBoard::open(dir.path(), Arc::new(Fixed));
        for step in 0..1000 {
            sink.scalar("a", step, 1.0);
        }
        drop(sink);
        assert_eq!(records(dir.path()).len(), 1001);
    }

    #[test]
    fn two_sinks_of_one_second_do_not_share_a_file() {
        let names = [file_name(5), file_name(5)];
        assert!(names[0].starts_with("events.out.tfevents.0000000005.churn."));
        assert_ne!(names[0], names[1]);
    }

    /// Five hundred times: tensorboard-rs' own writer kills the process here in one try of six.
    #[test]
    fn a_folder_that_cannot_be_made_does_not_stop() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("file");
        std::fs::write(&file, "").expect("written");
        for _ in 0..500 {
            let mut sink = TensorBoard::open(&file.join("below"), Arc::new(Fixed));
            sink.scalar("a", 1, 1.0);
            sink.flush();
            sink.scalar("a", 2, 1.0);
        }
    }

    #[test]
    fn a_removed_folder_does_not_stop() {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = dir.path().join("mlp");
        let mut sink = TensorBoard::open(&folder, Arc::new(Fixed));
        sink.flush();
        std::fs::remove_dir_all(&folder).expect("removed");
        sink.scalar("a", 1, 1.0);
        sink.flush();
        assert!(!folder.exists());
    }

    /// Linux's device whose every write fails with "no space left" stands for a full disk.
    #[test]
    fn a_full_disk_stops_the_writer_only() {
        let full = Path::new("/dev/full");
        if !full.exists() {
            return;
        }
        let (queue, jobs) = sync_channel(8);
        queue.send(Job::Record(b"x".to_vec())).expect("room");
        let error = write_all(full, b"version", &jobs).expect_err("no space");
        assert_eq!(error.kind, Kind::Environment);
        assert!(error.message.contains("No space left"), "{error}");
    }
}
