//! The tasks of one broker, which end together.
//!
//! Everything runs as a task on the simulation's one thread, what a broker would start as a thread too: the
//! simulated disk does not block. A panic in a task is kept, and ends the simulation where it is asked for
//! ([`SimSpawner::check`]); else it would go unnoticed.
#![allow(clippy::disallowed_methods, reason = "this is the spawner that everybody else is handed")]

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use parking_lot::Mutex;
use tidemill_core::seams::{BoxFuture, Spawner};
use tokio::task::JoinSet;

/// A broker's tasks. Cheap to clone; all clones are the same tasks.
#[derive(Debug, Clone, Default)]
pub struct SimSpawner {
    tasks: Arc<Mutex<Option<JoinSet<()>>>>,
    panics: Arc<Mutex<Vec<String>>>,
}

impl SimSpawner {
    /// No tasks yet. To be used within the simulation.
    pub fn new() -> SimSpawner {
        SimSpawner { tasks: Arc::new(Mutex::new(Some(JoinSet::new()))), panics: Arc::default() }
    }

    /// Ends all tasks where they wait; whatever is started later never runs.
    pub fn kill(&self) {
        // Dropped outside the lock: what ends may try to start something.
        let tasks = self.tasks.lock().take();
        drop(tasks);
    }

    /// Goes on panicking where a task did.
    ///
    /// # Panics
    /// When a task has.
    pub fn check(&self) {
        if let Some(panic) = self.panics.lock().first() {
            panic!("a task panicked: {panic}");
        }
    }

    fn start(&self, name: String, future: BoxFuture<()>) {
        let panics = self.panics.clone();
        let watched = async move {
            if let Err(panic) = AssertUnwindSafe(future).catch_unwind().await {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("?");
                panics.lock().push(format!("{name}: {text}"));
            }
        };
        if let Some(tasks) = &mut *self.tasks.lock() {
            while tasks.try_join_next().is_some() {}
            tasks.spawn(watched);
        }
    }
}

impl Spawner for SimSpawner {
    fn task(&self, name: &'static str, future: BoxFuture<()>) {
        self.start(name.to_owned(), future);
    }

    fn thread(&self, name: String, future: BoxFuture<()>) {
        self.start(name, future);
    }

    fn guest(&self, name: &'static str, future: BoxFuture<()>) {
        self.start(name.to_owned(), future);
    }
}
