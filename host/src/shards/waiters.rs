//! Who waits for committed records of a partition: long polls. (Tasks do not wait for the commit: see
//! [`super::ahead`].)

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tidemill_protocol::ids::TopicPartition;
use tokio::sync::Notify;

type Places = BTreeMap<TopicPartition, BTreeMap<u64, Arc<Notify>>>;

/// All who wait in one shard.
#[derive(Debug, Default)]
pub struct Waiters {
    places: Mutex<(u64, Places)>,
}

/// One who waits, for as long as this lives. It misses nothing that comes after it was made.
#[derive(Debug)]
pub struct Watch {
    waiters: Arc<Waiters>,
    number: u64,
    places: Vec<TopicPartition>,
    notify: Arc<Notify>,
}

impl Waiters {
    /// Starts to wait at these partitions; `notify` is told when any of them has more.
    pub fn watch(self: &Arc<Self>, places: &[TopicPartition], notify: Arc<Notify>) -> Watch {
        let mut waiting = self.places.lock();
        waiting.0 += 1;
        let number = waiting.0;
        for place in places {
            waiting.1.entry(*place).or_default().insert(number, notify.clone());
        }
        Watch { waiters: self.clone(), number, places: places.to_vec(), notify }
    }

    /// Tells all who wait at a partition.
    pub fn wake(&self, place: TopicPartition) {
        if let Some(waiting) = self.places.lock().1.get(&place) {
            waiting.values().for_each(|notify| notify.notify_one());
        }
    }
}

impl Watch {
    /// Ready once there may be more, or was since the last call.
    pub async fn more(&self) {
        self.notify.notified().await;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut waiting = self.waiters.places.lock();
        for place in &self.places {
            if let Some(here) = waiting.1.get_mut(place) {
                here.remove(&self.number);
                if here.is_empty() {
                    waiting.1.remove(place);
                }
            }
        }
    }
}
