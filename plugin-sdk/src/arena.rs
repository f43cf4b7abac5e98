//! Where a guest's memory comes from: the front of an arena that every instance begins with.
//!
//! An instance serves one step and is discarded, with all that it allocated. So memory is handed out front to back,
//! and only what lies last is taken back. A step that needs more than the arena gets it from the standard allocator,
//! which has the linear memory grow. That has a price, which most steps need not pay: a broker that grows a memory
//! changes the protection of pages, stops its other threads for it, and does so again for the next instance.

/// How much an instance begins with. Most steps need less than a tenth of it; pages that are not written cost nothing.
pub const ARENA_BYTES: usize = 256 * 1024;

/// How far an arena is handed out. Places are in bytes from the arena's begin, which has the largest alignment that
/// is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Front(usize);

impl Front {
    /// Of an arena of which nothing is handed out.
    pub const fn new() -> Front {
        Front(0)
    }

    /// A place for `size` bytes; none when the arena has no room. `align` is a power of two.
    pub fn take(&mut self, size: usize, align: usize) -> Option<usize> {
        let place = self.0.checked_next_multiple_of(align)?;
        self.0 = place.checked_add(size).filter(|end| *end <= ARENA_BYTES)?;
        Some(place)
    }

    /// Makes room of the `size` bytes at `place`, if nothing lies behind them.
    pub fn give_back(&mut self, place: usize, size: usize) {
        if place + size == self.0 {
            self.0 = place;
        }
    }

    /// Has `to` bytes at `place` where there were `from`; whether there is room for that.
    pub fn resize(&mut self, place: usize, from: usize, to: usize) -> bool {
        if place + from != self.0 {
            return to <= from;
        }
        let end = place.checked_add(to).filter(|end| *end <= ARENA_BYTES);
        self.0 = end.unwrap_or(self.0);
        end.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_handed_out_lies_apart_and_aligned() {
        let mut front = Front::new();
        let mut end = 0;
        for (size, align) in [(3, 1), (8, 8), (0, 16), (1, 1), (16, 16)] {
            let place = front.take(size, align).unwrap();
            assert!(place >= end && place.is_multiple_of(align));
            end = place + size;
        }
    }

    #[test]
    fn the_last_is_taken_back_and_resized_in_place() {
        let mut front = Front::new();
        let (first, second) = (front.take(8, 8).unwrap(), front.take(8, 8).unwrap());
        assert!(!front.resize(first, 8, 9), "the second lies behind");
        assert!(front.resize(first, 8, 4), "less fits always");
        assert!(front.resize(second, 8, 100));
        front.give_back(first, 4);
        assert_eq!(front.take(1, 1), Some(108), "the first is not the last");
        front.give_back(108, 1);
        front.give_back(second, 100);
        assert_eq!(front.take(8, 8), Some(second));
    }

    #[test]
    fn an_arena_ends() {
        let mut front = Front::new();
        let all = front.take(ARENA_BYTES, 8).unwrap();
        assert_eq!(front.take(1, 1), None);
        assert!(!front.resize(all, ARENA_BYTES, ARENA_BYTES + 1));
        assert!(front.resize(all, ARENA_BYTES, ARENA_BYTES - 8));
        assert_eq!(front.take(usize::MAX, 1), None);
        assert!(!front.resize(all, ARENA_BYTES - 8, usize::MAX));
        assert_eq!(front.take(8, 8), Some(ARENA_BYTES - 8));
    }
}
