//! Tasks and threads, from outside.

use super::BoxFuture;

/// Starts what runs beside the caller. Nobody waits for what was started: whoever needs to know of an end
/// sends word of it.
pub trait Spawner: Send + Sync {
    /// Starts a task among the broker's many. It must not block.
    fn task(&self, name: &'static str, future: BoxFuture<()>);

    /// Starts a thread of its own for work that blocks between its awaits, such as a shard's writer.
    /// (A simulation runs it among its tasks: its disk does not block.)
    fn thread(&self, name: String, future: BoxFuture<()>);

    /// Starts a task on the threads that guests run on: it may use the processor for a while between awaits.
    fn guest(&self, name: &'static str, future: BoxFuture<()>);
}
