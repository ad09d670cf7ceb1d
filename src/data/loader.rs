//! Loads batches ahead of time: a thread draws, decodes and flips pictures while the device computes.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use anyhow::{Context, Result, bail};
use rayon::prelude::*;

use crate::data::dataset::Dataset;
use crate::data::sampler::Sampler;
use crate::draw::pixels::mirror_rows;
use crate::system::panics::panic_text;

/// Pictures that are used together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Pixels: `batch x channels x resolution x resolution` bytes, planar, 0 to 255.
    pub pixels: Vec<u8>,
    /// Class of each picture, where the data set has labels.
    pub classes: Option<Vec<u32>>,
}

/// The part of each batch that one of several processes loads: `images` consecutive ones out of `every` images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Images that are loaded.
    pub images: usize,
    /// Images from the beginning of one share to that of the next.
    pub every: u64,
}

/// An endless row of batches, the next few of them already in memory.
pub struct Loader {
    /// Receives the batches; it is dropped when the loader ends, which tells the thread to stop.
    batches: Option<Receiver<Result<Batch>>>,
    thread: Option<JoinHandle<()>>,
}

impl Loader {
    /// Starts filling batches of `batch` pictures from `start_position` (in images) of the stream; up to `prefetch` (at
    /// least 1) wait to be taken, and one more is in the making.
    ///
    /// # Errors
    /// The system refuses a thread.
    ///
    /// # Panics
    /// If `batch` is zero.
    pub fn new(
        dataset: Arc<Dataset>,
        sampler: Sampler,
        batch: usize,
        start_position: u64,
        prefetch: usize,
    ) -> Result<Self> {
        Self::of_share(dataset, sampler, Share { images: batch, every: batch as u64 }, start_position, prefetch)
    }

    /// Starts filling shares of batches, the first one from `start_position` of the stream; otherwise as [`Loader::new`].
    ///
    /// # Errors
    /// The system refuses a thread.
    ///
    /// # Panics
    /// If the share is of no images.
    pub fn of_share(
        dataset: Arc<Dataset>,
        sampler: Sampler,
        share: Share,
        start_position: u64,
        prefetch: usize,
    ) -> Result<Self> {
        assert!(share.images > 0, "batches of no pictures");
        let (sender, batches) = sync_channel(prefetch.max(1));
        let work = Work { dataset, sampler, share, position: start_position };
        let thread = std::thread::Builder::new()
            .name("loader".to_owned())
            .spawn(move || work.send_all(&sender))
            .context("cannot start the thread that loads pictures; lower the number of processes")?;
        Ok(Self { batches: Some(batches), thread: Some(thread) })
    }

    /// Returns the next batch; waits for it if need be.
    ///
    /// # Errors
    /// A picture can no longer be decoded, say because it was deleted during the run, or the thread panicked. The
    /// loader has then ended: later calls fail too.
    #[allow(clippy::should_implement_trait)] // An iterator that never ends but may fail.
    pub fn next(&mut self) -> Result<Batch> {
        let received = self.batches.as_ref().map(Receiver::recv);
        match received {
            Some(Ok(Ok(batch))) => Ok(batch),
            Some(Ok(Err(error))) => {
                self.stop();
                Err(error)
            }
            _ => match self.stop() {
                Some(words) => bail!("the thread that loads pictures panicked: {words}; please report it"),
                None => bail!("no more batches: the thread that loads pictures ended after an error"),
            },
        }
    }

    /// Ends the thread; returns the words of its panic if it panicked.
    fn stop(&mut self) -> Option<String> {
        self.batches = None;
        let panic = self.thread.take()?.join().err()?;
        Some(panic_text(&*panic).to_owned())
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The fields that the loading thread owns.
struct Work {
    dataset: Arc<Dataset>,
    sampler: Sampler,
    share: Share,
    position: u64,
}

impl Work {
    fn send_all(mut self, sender: &SyncSender<Result<Batch>>) {
        loop {
            let batch = self.fill();
            let failed = batch.is_err();
            // A closed channel means that the loader was dropped.
            if sender.send(batch).is_err() || failed {
                return;
            }
        }
    }

    fn fill(&mut self) -> Result<Batch> {
        let dataset = &self.dataset;
        let (positions, sampler) = (self.position.., &mut self.sampler);
        let items: Vec<_> = positions.take(self.share.images).map(|at| sampler.item(at)).collect();
        self.position += self.share.every;
        let mut bytes = vec![0; self.share.images * dataset.picture_bytes()];
        let read = |(out, &(index, flipped)): (&mut [u8], &(usize, bool))| -> Result<()> {
            dataset.read_into(index, out)?;
            if flipped {
                mirror_rows(out, dataset.resolution() as usize);
            }
            Ok(())
        };
        if dataset.is_fully_cached() {
            // Copying is not worth waking threads that the host side of the device could use.
            bytes.chunks_exact_mut(dataset.picture_bytes()).zip(&items).try_for_each(read)?;
        } else {
            bytes.par_chunks_exact_mut(dataset.picture_bytes()).zip(&items).try_for_each(read)?;
        }
        let classes = dataset.labels().map(|labels| items.iter().map(|&(index, _)| labels.classes[index]).collect());
        Ok(Batch { pixels: bytes, classes })
    }
}
