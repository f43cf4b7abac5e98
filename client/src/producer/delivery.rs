//! How a sender learns what became of a record.
//!
//! One [`Fate`] for each batch: the records of a batch share it, and each sender's [`Delivery`] looks at it. A
//! delivery that is dropped is only no longer looked at.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tidemill_protocol::ids::{Offset, Partition};

use super::sequence::End;
use crate::error::Error;

/// Where a record was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: Partition,
    /// The record's offset. `None` where nobody knows: with [`Acks::None`](super::Acks::None), and when the broker
    /// remembered the batch but not its place.
    pub offset: Option<Offset>,
    /// The record's time, in milliseconds since 1970.
    pub timestamp_ms: i64,
}

/// Why a record has no receipt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// It was not written, and will not be.
    #[error("refused: {0}")]
    Refused(Error),
    /// Nobody knows whether it was written, or will be: its time was over before an answer came.
    #[error("expired: {0}")]
    Expired(Error),
    /// The producer cannot go on and must be made anew; the error's outcome says what is known of this record.
    #[error("fatal: {0}")]
    Fatal(Error),
}

impl SendError {
    /// What happened.
    pub fn error(&self) -> &Error {
        match self {
            SendError::Refused(error) | SendError::Expired(error) | SendError::Fatal(error) => error,
        }
    }
}

/// What becomes of a batch.
#[derive(Debug, Default)]
pub(super) struct Fate {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    records: u32,
    end: Option<Ended>,
    wakers: Vec<Waker>,
}

/// How a batch ended, and whether it was ever sent.
#[derive(Debug, Clone)]
pub(super) struct Ended {
    pub end: End,
    pub was_sent: bool,
}

impl Fate {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more record shares it: the record's place in the batch.
    pub fn join(&self) -> u32 {
        let mut state = self.lock();
        state.records += 1;
        state.records - 1
    }

    /// How many records share it.
    pub fn records(&self) -> u32 {
        self.lock().records
    }

    /// Tells everybody.
    pub fn end(&self, ended: Ended) {
        let mut state = self.lock();
        debug_assert!(state.end.is_none(), "a batch ends once");
        state.end = Some(ended);
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    pub fn has_ended(&self) -> bool {
        self.lock().end.is_some()
    }

    /// How it ended, once it has. `place` is where this task's waker is kept.
    fn poll(&self, place: &mut Option<usize>, context: &Context<'_>) -> Poll<Ended> {
        let mut state = self.lock();
        if let Some(ended) = &state.end {
            return Poll::Ready(ended.clone());
        }
        match *place {
            Some(place) => state.wakers[place].clone_from(context.waker()),
            None => {
                *place = Some(state.wakers.len());
                state.wakers.push(context.waker().clone());
            }
        }
        Poll::Pending
    }

    /// Waits for the end.
    pub async fn ended(&self) -> Ended {
        let mut place = None;
        std::future::poll_fn(|context| self.poll(&mut place, context)).await
    }
}

/// What became of a record, once it is known. Dropping it cancels nothing.
#[derive(Debug)]
#[must_use = "it says what became of the record; drop it if nobody needs to know"]
pub struct Delivery {
    receipt: Receipt,
    state: Waiting,
}

#[derive(Debug)]
enum Waiting {
    For { fate: Arc<Fate>, record: u32, place: Option<usize> },
    Never(SendError),
}

impl Delivery {
    pub(super) fn of(fate: Arc<Fate>, record: u32, receipt: Receipt) -> Delivery {
        Delivery { receipt, state: Waiting::For { fate, record, place: None } }
    }

    /// Of a record that was not accepted.
    pub(super) fn failed(topic: Arc<str>, error: SendError) -> Delivery {
        let receipt = Receipt { topic, partition: Partition(0), offset: None, timestamp_ms: 0 };
        Delivery { receipt, state: Waiting::Never(error) }
    }
}

impl Future for Delivery {
    type Output = Result<Receipt, SendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let (ended, record) = match &mut this.state {
            Waiting::Never(error) => return Poll::Ready(Err(error.clone())),
            Waiting::For { fate, record, place } => match fate.poll(place, context) {
                Poll::Ready(ended) => (ended, *record),
                Poll::Pending => return Poll::Pending,
            },
        };
        Poll::Ready(match ended.end {
            End::Delivered(base) => {
                let offset = base.map(|base| base.plus(u64::from(record)));
                Ok(Receipt { offset, ..this.receipt.clone() })
            }
            End::Refused(error) => Err(SendError::Refused(error)),
            End::Expired(error) => Err(SendError::Expired(error)),
            End::Fatal(error) => Err(SendError::Fatal(error)),
        })
    }
}
