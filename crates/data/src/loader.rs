//! Batches: order, augmentation, a second set mixed in, a few batches ahead.

use crate::augment::{self, Augmentation, Table};
use crate::error::Error;
use crate::random::Random;
use crate::{Dataset, Result};
use rayon::prelude::*;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use task::Normalization;

/// In which order an epoch goes through the set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// For training: another random order each epoch; an incomplete last batch is left out.
    #[default]
    Shuffled,
    /// For evaluation: the set's own; the last batch may be smaller.
    Sequential,
}

/// How batches are made.
#[derive(Debug, Clone, PartialEq)]
pub struct LoaderOptions {
    /// Pictures in a batch.
    pub batch: usize,
    /// The order of pictures.
    pub order: Order,
    /// Everything random follows from it.
    pub seed: u64,
    /// Random changes; for training.
    pub augmentation: Augmentation,
    /// How bytes become inputs; one mean and deviation for each channel.
    pub normalization: Normalization,
    /// How many batches are made ahead, at least 1.
    pub prefetch: usize,
}

impl Default for LoaderOptions {
    fn default() -> Self {
        Self {
            batch: 128,
            order: Order::Shuffled,
            seed: 1,
            augmentation: Augmentation::default(),
            normalization: task::Normalization::imagenet(),
            prefetch: 3,
        }
    }
}

/// Pictures to compute with.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// `(B, H, W, C)`: `(v/255 − mean[c])/deviation[c]`.
    pub images: Vec<f32>,
    /// Classes, `(B)`.
    pub labels: Vec<usize>,
    /// Which pictures, by their numbers in their set.
    pub indices: Vec<usize>,
    /// How many of them, the last ones, are from the second set.
    pub mixed: usize,
    /// The epoch.
    pub epoch: u64,
    /// The batch's number in the epoch: the next one is where to resume.
    pub number: usize,
}

/// Makes the batches of a set: batch `number` of `epoch` is always the same bytes.
#[derive(Debug, Clone)]
pub struct Loader {
    set: Dataset,
    /// The second set, and how many of a batch are from it.
    second: Option<(Dataset, usize)>,
    options: LoaderOptions,
    table: Arc<Table>,
    orders: Arc<Mutex<Vec<Pass>>>,
}

/// An order that was used last: which set, which pass through it.
type Pass = (u64, u64, Arc<Vec<usize>>);

// what a stream of random numbers is for
const ORDER: u64 = 0;
const CHANGES: u64 = 2;

impl Loader {
    /// # Errors
    /// [`Error::Option`] for a batch of none or of more pictures than a shuffled set has, for a normalisation or augmentation that
    /// does not fit.
    pub fn new(set: Dataset, options: LoaderOptions) -> Result<Self> {
        Self::of(set, None, options)
    }

    /// As [`Self::new`], but `fraction` of each batch (rounded) comes from `second`. An epoch is one pass through the first set;
    /// the second one is gone through again and again, each time in another order.
    ///
    /// # Errors
    /// Those of [`Self::new`]; [`Error::Option`] when the sets differ; [`Error::Option`] for an empty second
    /// set or a fraction that leaves no picture of either.
    pub fn mixed(
        set: Dataset,
        second: Dataset,
        fraction: f64,
        options: LoaderOptions,
    ) -> Result<Self> {
        set.check_like(&second)?;
        let count = (fraction * options.batch as f64).round();
        if second.is_empty() || !(count >= 1.0 && count < options.batch as f64) {
            return Err(Error::option(format!(
                "{fraction} of a batch of {} from a second set of {} pictures: both sets need at least one picture in a batch; choose another fraction or a larger batch",
                options.batch,
                second.len()
            )));
        }
        Self::of(set, Some((second, count as usize)), options)
    }

    fn of(set: Dataset, second: Option<(Dataset, usize)>, options: LoaderOptions) -> Result<Self> {
        options.augmentation.check()?;
        let table = Table::of(&options.normalization, set.shape().channels)?;
        let loader = Self {
            set,
            second,
            options,
            table: Arc::new(table),
            orders: Arc::default(),
        };
        if loader.options.batch == 0 || loader.batches() == 0 {
            return Err(Error::option(format!(
                "batches of {} from a set of {} pictures; choose a batch from 1 to the size of the set",
                loader.options.batch,
                loader.set.len()
            )));
        }
        Ok(loader)
    }

    /// The batches of an epoch from number `from` on (0, or where an interrupted epoch goes on), made ahead by a thread.
    #[must_use]
    pub fn epoch(&self, epoch: u64, from: usize) -> Epoch {
        let loader = self.clone();
        // the channel holds all but the one that waits to enter it
        let (send, receive) = sync_channel(self.options.prefetch.max(1) - 1);
        let thread = std::thread::Builder::new().spawn(move || {
            for number in from..loader.batches() {
                let batch = loader.batch(epoch, number);
                let failed = batch.is_err();
                // nobody listens any more, or nothing can follow
                if send.send(batch).is_err() || failed {
                    return;
                }
            }
        });
        let (thread, receive) = match thread {
            Ok(thread) => (Some(thread), receive),
            // the only batch is the refusal
            Err(source) => {
                let (send, receive) = sync_channel(1);
                let path = "a thread that makes batches ahead".into();
                let _ = send.send(Err(Error::Io { path, source }));
                (None, receive)
            }
        };
        Epoch {
            receive: Some(receive),
            thread,
        }
    }

    /// Batches in an epoch.
    #[must_use]
    pub fn batches(&self) -> usize {
        let own = self.options.batch - self.second.as_ref().map_or(0, |s| s.1);
        match self.options.order {
            Order::Shuffled => self.set.len() / own.max(1),
            Order::Sequential => self.set.len().div_ceil(own.max(1)),
        }
    }

    /// The order of set 0 or 1 in its n-th pass.
    fn order(&self, which: u64, pass: u64, count: usize) -> Arc<Vec<usize>> {
        // what a panicked thread left is whole: entries are pushed when they are complete
        let mut orders = self.orders.lock().unwrap_or_else(|e| e.into_inner());
        if let Some((_, _, order)) = orders.iter().find(|o| (o.0, o.1) == (which, pass)) {
            return Arc::clone(order);
        }
        let order = match self.options.order {
            Order::Shuffled => {
                Random::of([self.options.seed, ORDER + which, pass, 0]).permutation(count)
            }
            Order::Sequential => (0..count).collect(),
        };
        let order = Arc::new(order);
        if orders.len() >= 4 {
            orders.remove(0);
        }
        orders.push((which, pass, Arc::clone(&order)));
        order
    }

    /// One batch, made now, on all threads of the current pool.
    ///
    /// # Errors
    /// [`Error::Index`] beyond the epoch; [`Error::Damaged`] when a picture that is decoded at each access has become unreadable.
    pub fn batch(&self, epoch: u64, number: usize) -> Result<Batch> {
        let batches = self.batches();
        if number >= batches {
            return Err(Error::Index {
                index: number.saturating_mul(self.options.batch),
                count: self.set.len(),
            });
        }
        let from_second = self.second.as_ref().map_or(0, |s| s.1);
        let own = self.options.batch - from_second;
        let order = self.order(0, epoch, self.set.len());
        let last = self.set.len().min((number + 1) * own);
        // set, which of the two, pass, picture
        let mut pictures: Vec<(&Dataset, u64, u64, usize)> = order[number * own..last]
            .iter()
            .map(|&i| (&self.set, 0, epoch, i))
            .collect();
        if let Some((second, count)) = &self.second {
            let count = *count as u64;
            let begin = (u128::from(epoch) * batches as u128 + number as u128) * u128::from(count);
            for place in begin..begin + u128::from(count) {
                let pass = (place / second.len() as u128) as u64;
                let order = self.order(1, pass, second.len());
                let at = (place % second.len() as u128) as usize;
                pictures.push((second, 1, pass, order[at]));
            }
        }
        let size = self.set.shape().len();
        let mut images = vec![0.0; pictures.len() * size];
        images
            .par_chunks_exact_mut(size)
            .zip(&pictures)
            .with_min_len(8)
            .try_for_each(|(out, &(set, which, pass, i))| {
                let name = [self.options.seed, CHANGES + which, pass, i as u64];
                let how = &self.options.augmentation;
                augment::write(out, set, i, &self.table, how, Random::of(name))
            })?;
        Ok(Batch {
            images,
            labels: pictures.iter().map(|p| p.0.label(p.3)).collect(),
            indices: pictures.iter().map(|p| p.3).collect(),
            mixed: from_second,
            epoch,
            number,
        })
    }
}

/// The batches of one epoch in order; after an error nothing follows.
#[derive(Debug)]
pub struct Epoch {
    receive: Option<Receiver<Result<Batch>>>,
    thread: Option<JoinHandle<()>>,
}

impl Iterator for Epoch {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Ok(batch) = self.receive.as_ref()?.recv() {
            return Some(batch);
        }
        self.receive = None;
        // an epoch that ends because its thread panicked must not look complete
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join) {
            std::panic::resume_unwind(panic);
        }
        None
    }
}

impl Drop for Epoch {
    fn drop(&mut self) {
        // the thread ends when it finds nobody listening
        self.receive = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
