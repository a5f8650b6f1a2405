//! Where the examples of a training come from: all of them on the device for ever, or part by
//! part, the next one read and encoded by one thread while the current one trains.

use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use burn::tensor::Device;

use crate::error::{Kind, Result};
use crate::seeds::Seeds;
use crate::tensors::{Prepared, Resident};

/// A data set in parts. Each is small enough to stand on the device while the next one waits.
pub trait Parts: Sync {
    /// Examples and batches of each part in one epoch; known without reading it.
    fn sizes(&self) -> &[PartSize];

    /// Reads and encodes one part, on the prefetch thread.
    fn prepare(&self, part: usize) -> Result<Prepared>;
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PartSize {
    pub snapshots: usize,
    pub batches: usize,
}

/// The examples of a training.
pub enum Feed<'a> {
    /// One for each device, all with the same examples.
    Resident(&'a [Resident]),
    Parts(&'a dyn Parts),
}

/// Which batches of which epoch.
pub struct Lap<'a> {
    pub seeds: &'a Seeds,
    pub epoch: u64,
    pub batch_rows: usize,
    /// Batches that were trained before.
    pub skip: usize,
}

/// Bucket and rows.
pub type BatchRows = (usize, Vec<u32>);

/// Told the part on each device and its batches; `Break` ends the epoch.
type Consume<'c> = &'c mut dyn FnMut(&[Resident], &[BatchRows]) -> Result<ControlFlow<()>>;

impl Feed<'_> {
    pub fn snapshots(&self) -> usize {
        match self {
            Feed::Resident(copies) => copies[0].snapshots,
            Feed::Parts(parts) => parts.sizes().iter().map(|size| size.snapshots).sum(),
        }
    }

    /// Batches of one epoch.
    pub fn batches(&self, batch_rows: usize) -> usize {
        match self {
            Feed::Resident(copies) => copies[0].batches(batch_rows),
            Feed::Parts(parts) => parts.sizes().iter().map(|size| size.batches).sum(),
        }
    }

    /// Hands out the batches of an epoch in random order; within parts, where there are parts.
    /// The order is a function of (seeds, epoch). Skipped parts are not read.
    pub fn epoch(&self, lap: &Lap, devices: &[Device], consume: Consume) -> Result<()> {
        let parts = match self {
            Feed::Resident(copies) => {
                let batches = copies[0].epoch(lap.seeds, lap.epoch, lap.batch_rows);
                return consume(copies, &batches[lap.skip.min(batches.len())..]).map(|_| ());
            }
            Feed::Parts(parts) => *parts,
        };
        let sizes = parts.sizes();
        let (mut skip, mut order) = (lap.skip, Vec::new());
        for part in lap.seeds.shuffled("parts", lap.epoch, sizes.len()) {
            let batches = sizes[part as usize].batches;
            if batches > skip || !order.is_empty() {
                order.push(part as usize);
            } else {
                skip -= batches;
            }
        }
        order.retain(|&part| sizes[part].batches > 0);
        prefetched(parts, &order, devices, &mut |part, copies| {
            let seeds = lap.seeds.child("part", part as u64);
            let batches = copies[0].epoch(&seeds, lap.epoch, lap.batch_rows);
            assert_eq!(batches.len(), sizes[part].batches, "counted as it is cut");
            consume(copies, &batches[std::mem::take(&mut skip)..])
        })
    }

    /// Hands out every part that holds an example, in order.
    pub fn each(
        &self,
        device: &Device,
        consume: &mut dyn FnMut(&Resident) -> Result<()>,
    ) -> Result<()> {
        match self {
            Feed::Resident(copies) => consume(&copies[0]),
            Feed::Parts(parts) => {
                let sizes = parts.sizes();
                let order: Vec<usize> =
                    (0..sizes.len()).filter(|&part| sizes[part].snapshots > 0).collect();
                prefetched(*parts, &order, std::slice::from_ref(device), &mut |_, copies| {
                    consume(&copies[0]).map(|()| ControlFlow::Continue(()))
                })
            }
        }
    }
}

/// Told a part's number and the part on each device.
type Take<'c> = &'c mut dyn FnMut(usize, &[Resident]) -> Result<ControlFlow<()>>;

/// One part trains, one waits in the hands of the thread: the channel holds none, so that no more
/// than two ever stand in memory.
fn prefetched(parts: &dyn Parts, order: &[usize], devices: &[Device], take: Take) -> Result<()> {
    let (send, receive) = sync_channel(0);
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("prefetch".into())
            .spawn_scoped(scope, move || produce(parts, order, send))
            .map_err(|error| Kind::Environment.msg(format!("cannot start a thread: {error}")))?;
        drain(receive, order, devices, take)
    })
}

/// Ends at the first error, which travels like a part, or when nobody takes parts any more.
fn produce(parts: &dyn Parts, order: &[usize], send: SyncSender<Result<Prepared>>) {
    for &part in order {
        let prepared = parts.prepare(part);
        let is_last = prepared.is_err();
        if send.send(prepared).is_err() || is_last {
            return;
        }
    }
}

/// Owns the receiver: when it returns early the thread must not wait for ever.
fn drain(
    receive: Receiver<Result<Prepared>>,
    order: &[usize],
    devices: &[Device],
    take: Take,
) -> Result<()> {
    for &part in order {
        let prepared =
            receive.recv().map_err(|_| Kind::Internal.msg("the prefetch thread died"))?;
        if take(part, &on_each(prepared?, devices))?.is_break() {
            break;
        }
    }
    Ok(())
}

/// Uploaded once and copied to the other devices.
fn on_each(prepared: Prepared, devices: &[Device]) -> Vec<Resident> {
    let [first, others @ ..] = devices else { unreachable!("a training has a device") };
    let first = prepared.upload(first);
    let copies: Vec<Resident> = others.iter().map(|device| first.copy_to(device)).collect();
    std::iter::once(first).chain(copies).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Broken(Vec<PartSize>);

    impl Parts for Broken {
        fn sizes(&self) -> &[PartSize] {
            &self.0
        }
        fn prepare(&self, part: usize) -> Result<Prepared> {
            Err(Kind::Corrupt.msg(format!("part {part} is gone")))
        }
    }

    #[test]
    fn an_error_of_the_thread_comes_back() {
        let parts = Broken(vec![PartSize { snapshots: 3, batches: 2 }; 4]);
        let (feed, device) = (Feed::Parts(&parts), Device::flex());
        assert_eq!((feed.snapshots(), feed.batches(8)), (12, 8));
        let error = feed.each(&device, &mut |_| Ok(())).expect_err("no part can be read");
        assert_eq!((error.kind, error.message.as_str()), (Kind::Corrupt, "part 0 is gone"));
        let lap = Lap { seeds: &Seeds::new(1), epoch: 0, batch_rows: 8, skip: 3 };
        let error = feed.epoch(&lap, &[device], &mut |_, _| Ok(ControlFlow::Continue(())));
        assert_eq!(error.expect_err("no part can be read").kind, Kind::Corrupt);
    }
}
