//! Where the partitions of an affinity group lie: on the shards that hold the fewest, each on another as long
//! as there are enough. It is decided once, written down, and never computed again.

use std::collections::BTreeMap;

use crate::ids::ShardId;

/// A shard for each of `partitions` partitions; `loads` counts what each shard holds, and is moved on.
///
/// # Panics
/// When there is no shard.
pub fn place(loads: &mut BTreeMap<ShardId, usize>, partitions: u32) -> Vec<ShardId> {
    let mut least = || {
        let (shard, load) = loads.iter_mut().min_by_key(|(shard, load)| (**load, **shard))?;
        *load += 1;
        Some(*shard)
    };
    (0..partitions).map(|_| least().expect("a cluster has at least one shard")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_fill_the_shards_evenly() {
        let mut loads: BTreeMap<_, _> = (0..8).map(|shard| (ShardId(shard), 0)).collect();
        let first = place(&mut loads, 4);
        let second = place(&mut loads, 4);
        assert_eq!(first, [0, 1, 2, 3].map(ShardId));
        assert_eq!(second, [4, 5, 6, 7].map(ShardId), "the second group lies where the first does not");
        for _ in 0..100 {
            place(&mut loads, 3);
        }
        let (least, most) = (loads.values().min().unwrap(), loads.values().max().unwrap());
        assert!(most - least <= 1, "{loads:?}");
    }
}
