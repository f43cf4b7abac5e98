//! The sealer: gives a segment that takes no more entries its index, and closes it.
//!
//! A thread of its own, so that a turn never waits for an index to be written. It touches a segment only once all in
//! it is committed; from then on nothing can cut it any more, so it and the writer never meet in one file.

use std::sync::Arc;

use tidemill_core::fault::Fault;
use tidemill_core::ids::LogIndex;

use super::descents;
use super::directory::{Held, Listed};
use super::entry::LogId;
use super::line::Line;
use super::sealed;
use super::segment::{Seal, Segment};
use super::shared::Shared;

/// A segment to be sealed.
struct Job {
    line: u32,
    segment: Arc<Segment>,
    chunks: Vec<LogIndex>,
    last: LogId,
    turn: u64,
}

/// Works until the log is closed.
pub(super) async fn run(shared: Arc<Shared>) {
    loop {
        let is_over = {
            let memory = shared.memory();
            memory.fault.is_some() || (memory.is_closing && memory.queue.is_empty())
        };
        if is_over {
            break;
        }
        match next(&shared) {
            Some(job) => {
                if let Err(fault) = seal(&shared, &job) {
                    shared.fail(&fault);
                }
            }
            None => shared.sealing.notified().await,
        }
    }
    shared.sealer_ended.send_replace(true);
}

/// The oldest segment that can be sealed.
fn next(shared: &Shared) -> Option<Job> {
    let memory = shared.memory();
    let committed = memory.committed;
    let job = |line: &Line, is_committed: &dyn Fn(LogId) -> bool| {
        let (open, last) = line.oldest_rolled().filter(|(_, last)| is_committed(*last))?;
        let (segment, chunks) = (open.segment.clone(), open.chunks.clone());
        Some(Job { line: line.number, segment, chunks, last, turn: open.turn })
    };
    let of_log = job(&memory.line, &|last| committed.is_some_and(|committed| last.index <= committed.index));
    // What a snapshot brings is committed.
    of_log.or_else(|| job(memory.incoming.as_ref()?, &|_| true))
}

fn seal(shared: &Shared, job: &Job) -> Result<(), Fault> {
    let rows = shared.memory().line_mut(job.line).map(|line| {
        let (index, last) = (&line.index, job.last.index);
        (index.spans(&job.chunks, last), index.descents.upto(last))
    });
    let Some((spans, descents)) = rows else { return Ok(()) };
    let descents = descents.sorted();
    let max_timestamp_ms = spans.iter().map(|(_, span)| span.max_timestamp_ms).max().unwrap_or(i64::MIN);
    let seal = Seal { last: job.last, turn: job.turn, max_timestamp_ms, is_rest: false };
    job.segment.seal(seal, &spans, &descents)?;
    let birth = &job.segment.birth;
    let listed = Listed { number: birth.number, line: birth.line, first: birth.first, seal };
    job.segment.file.close_and(|| {
        let number = birth.number;
        if !shared.memory().line_mut(job.line).is_some_and(|line| line.is_oldest(number)) {
            return Ok(());
        }
        let (spans, reaches) = (sealed::summarize(&spans, number), descents::reaches(&descents));
        let held = Held { listed, spans, reaches };
        shared.directory.add(&held)?;
        let is_sealed = shared.memory().line_mut(job.line).is_some_and(|line| line.sealed(listed));
        // What a snapshot had brought may have been given up meanwhile, and its file with it.
        if is_sealed { Ok(()) } else { shared.directory.exchange(&held, None) }
    })
}
