//! Tasks on tokio's threads, and threads of their own.
#![allow(clippy::disallowed_methods, reason = "this is the spawner that everybody else is handed")]

use tidemill_core::seams::{BoxFuture, Spawner};
use tokio::runtime::Handle;

/// Two sets of threads: one for what never blocks, one for guests, which use the processor as they like.
#[derive(Debug)]
pub struct Threads {
    tasks: Handle,
    guests: Handle,
}

impl Threads {
    /// A spawner on these runtimes.
    pub fn new(tasks: Handle, guests: Handle) -> Self {
        Threads { tasks, guests }
    }
}

impl Spawner for Threads {
    fn task(&self, _name: &'static str, future: BoxFuture<()>) {
        self.tasks.spawn(future);
    }

    fn thread(&self, name: String, future: BoxFuture<()>) {
        let tasks = self.tasks.clone();
        std::thread::Builder::new()
            .name(name)
            .spawn(move || tasks.block_on(future))
            .expect("the operating system gives a thread to a shard's writer");
    }

    fn guest(&self, _name: &'static str, future: BoxFuture<()>) {
        self.guests.spawn(future);
    }
}
