//! A life, kept moment by moment.

use std::sync::Arc;

use parking_lot::Mutex;

use super::Story;
use crate::disk::{Moment, Operation, SimDisk};

/// A moment, and what was promised then.
pub(super) struct Point<P> {
    pub(super) moment: Moment,
    pub(super) promise: Arc<P>,
    /// How often the promise had changed.
    pub(super) epoch: u64,
    /// What was about to happen.
    pub(super) before: String,
}

/// What a story tells its promises.
pub struct Recorder<P> {
    life: Arc<Mutex<Life<P>>>,
}

struct Life<P> {
    points: Vec<Point<P>>,
    promise: Arc<P>,
    epoch: u64,
}

impl<P> Clone for Recorder<P> {
    fn clone(&self) -> Self {
        Recorder { life: self.life.clone() }
    }
}

impl<P: Clone + Send + Sync + 'static> Recorder<P> {
    /// Keeps every moment of a disk from now on.
    pub(super) fn promising(disk: &SimDisk, promise: Arc<P>) -> Recorder<P> {
        let life = Arc::new(Mutex::new(Life { points: Vec::new(), promise, epoch: 0 }));
        let (watched, kept) = (disk.clone(), life.clone());
        disk.watch(move |operation, path| {
            // Opening changes nothing but by creating a file, and the next moment shows that.
            if operation != Operation::Open {
                kept.lock().keep(&watched, || format!("{operation:?} of {}", path.display()));
            }
        });
        Recorder { life }
    }

    /// Changes what is promised from now on.
    pub fn promise<T>(&self, change: impl FnOnce(&mut P) -> T) -> T {
        let mut life = self.life.lock();
        life.epoch += 1;
        change(Arc::make_mut(&mut life.promise))
    }

    pub(super) fn end(self, disk: &SimDisk) -> Vec<Point<P>> {
        disk.unwatch();
        let mut life = self.life.lock();
        life.keep(disk, || "the end".to_owned());
        std::mem::take(&mut life.points)
    }
}

impl<P> Life<P> {
    fn keep(&mut self, disk: &SimDisk, before: impl FnOnce() -> String) {
        let (moment, promise) = (disk.moment(), self.promise.clone());
        self.points.push(Point { moment, promise, epoch: self.epoch, before: before() });
    }
}

/// Lives a story once.
pub(super) fn live<S: Story>(story: &S, seed: u64) -> Vec<Point<S::Promise>> {
    let disk = SimDisk::new();
    let recorder = Recorder::promising(&disk, Arc::new(S::Promise::default()));
    story.live(&disk, seed, &recorder);
    let points = recorder.end(&disk);
    disk.power_off();
    points
}
