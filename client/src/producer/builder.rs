//! Describing a producer.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tidemill_protocol::codec::Codec;
use tidemill_protocol::ids::WINDOW_WIDE;

use super::accumulator::Gathering;
use super::identity;
use super::partitioner::{KeyedOrSticky, Partitioner};
use super::shared::{Acks, Settings, Shared};
use super::{Handle, Producer};
use crate::client::Core;
use crate::error::Error;
use crate::limits::{DOUBT_PATIENCE, MIB};

/// The default of [`ProducerBuilder::batch_limit_bytes`].
const BATCH_LIMIT_BYTES: usize = MIB + 32 * 1024;

/// How a producer is to work. The defaults suit most.
#[must_use = "it describes a producer; build makes one"]
pub struct ProducerBuilder {
    core: Arc<Core>,
    settings: Settings,
    partitioner: Box<dyn Partitioner>,
}

impl ProducerBuilder {
    pub(crate) fn new(core: Arc<Core>) -> ProducerBuilder {
        let gathering = Gathering {
            linger: Duration::from_millis(1),
            target_bytes: 64 * 1024,
            limit_bytes: BATCH_LIMIT_BYTES,
            lifetime: Duration::from_secs(120),
            codec: Codec::None,
        };
        let settings = Settings {
            gathering,
            acks: Acks::All,
            in_flight: WINDOW_WIDE,
            buffer_bytes: 64 * MIB,
            patience: DOUBT_PATIENCE,
        };
        ProducerBuilder { core, settings, partitioner: Box::new(KeyedOrSticky) }
    }

    /// How long a batch that is small waits for more records. Default: 1 ms, which is less than a broker needs to
    /// write a batch to its disk, and makes batches out of single sends.
    pub fn linger(mut self, linger: Duration) -> ProducerBuilder {
        self.settings.gathering.linger = linger;
        self
    }

    /// Bytes, before compression, at which a batch waits no longer. Default: 64 KiB, from where on what a request
    /// costs hardly counts beside its bytes.
    pub fn batch_target_bytes(mut self, bytes: usize) -> ProducerBuilder {
        self.settings.gathering.target_bytes = bytes;
        self
    }

    /// Bytes, before compression, that no batch exceeds: so large a batch grows while it cannot be sent, and so large
    /// may a record be. Default: 1 MiB and 32 KiB, into which a thousand records of 1 KiB fit, and which every topic
    /// takes by default even where a codec makes it a little larger.
    pub fn batch_limit_bytes(mut self, bytes: usize) -> ProducerBuilder {
        self.settings.gathering.limit_bytes = bytes;
        self
    }

    /// How batches are compressed. Default: not at all.
    pub fn codec(mut self, codec: Codec) -> ProducerBuilder {
        self.settings.gathering.codec = codec;
        self
    }

    /// When a record counts as delivered. Default: [`Acks::All`].
    pub fn acks(mut self, acks: Acks) -> ProducerBuilder {
        self.settings.acks = acks;
        self
    }

    /// Batches of one partition that may be under way at once; order is kept with any number. Default, and most:
    /// 1,024, or as many as the broker recognises.
    pub fn in_flight(mut self, batches: u32) -> ProducerBuilder {
        self.settings.in_flight = batches.clamp(1, WINDOW_WIDE);
        self
    }

    /// Bytes of all records that have not ended, at most, some for their keeping included. Beyond it
    /// [`Producer::send`] waits and [`Producer::try_send`] refuses. All partitions share it: one that gets nothing
    /// through can fill it, until its records expire. Default: 64 MiB.
    pub fn buffer_bytes(mut self, bytes: usize) -> ProducerBuilder {
        self.settings.buffer_bytes = bytes.min(u32::MAX as usize);
        self
    }

    /// Time from the acceptance of a record to its end, whatever happens. Default: 120 s, as Kafka's
    /// `delivery.timeout.ms`.
    pub fn delivery_deadline(mut self, deadline: Duration) -> ProducerBuilder {
        self.settings.gathering.lifetime = deadline;
        self
    }

    /// Who chooses partitions. Default: [`KeyedOrSticky`].
    pub fn partitioner(mut self, partitioner: impl Partitioner) -> ProducerBuilder {
        self.partitioner = Box::new(partitioner);
        self
    }

    /// How long to doubt a broker that contradicts what is not known. For tests.
    #[doc(hidden)]
    pub fn doubt_patience(mut self, patience: Duration) -> ProducerBuilder {
        self.settings.patience = patience;
        self
    }

    /// Makes the producer, and gets it its id.
    ///
    /// # Errors
    /// When no broker gives one, or records would linger for longer than they live.
    pub async fn build(self) -> Result<Producer, Error> {
        let ProducerBuilder { core, settings, partitioner } = self;
        let (linger, deadline) = (settings.gathering.linger, settings.gathering.lifetime);
        if linger >= deadline {
            let why = format!("records that linger for {linger:?} are never sent within {deadline:?}");
            return Err(Error::impossible(why));
        }
        let identity = match settings.acks {
            Acks::All => Some(identity::obtain(&core).await?),
            Acks::None => None,
        };
        let shared = Shared::new(core, settings, identity, partitioner);
        Ok(Producer { handle: Arc::new(Handle(Arc::new(shared))) })
    }
}

impl fmt::Debug for ProducerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProducerBuilder").field("settings", &self.settings).finish_non_exhaustive()
    }
}
