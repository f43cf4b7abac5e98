//! The allocator of a guest: the arithmetic of [`arena`](crate::arena) over memory that is the guest's own. The one
//! place of this crate where unsafe code is written by hand.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, UnsafeCell};
use std::ptr;

use crate::arena::{ARENA_BYTES, Front};

#[global_allocator]
static ALLOCATOR: Allocator =
    Allocator { memory: UnsafeCell::new([0; ARENA_BYTES / ALIGN_MAX]), front: Cell::new(Front::new()) };

/// Larger alignments are left to the standard allocator.
const ALIGN_MAX: usize = size_of::<u128>();
const _: () = assert!(align_of::<u128>() == ALIGN_MAX);

struct Allocator {
    memory: UnsafeCell<[u128; ARENA_BYTES / ALIGN_MAX]>,
    front: Cell<Front>,
}

// SAFETY: a guest has one thread.
unsafe impl Sync for Allocator {}

impl Allocator {
    /// Where in the arena `block` lies, if it does.
    fn place(&self, block: *mut u8) -> Option<usize> {
        let place = block.addr().checked_sub(self.memory.get().addr())?;
        (place < ARENA_BYTES).then_some(place)
    }

    fn front<T>(&self, change: impl FnOnce(&mut Front) -> T) -> T {
        let mut front = self.front.get();
        let changed = change(&mut front);
        self.front.set(front);
        changed
    }
}

// SAFETY: blocks of the arena lie apart, in memory that is nobody else's, as aligned as was asked for; all others are
// the standard allocator's, and go back to it.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let fits = layout.align() <= ALIGN_MAX;
        let place = fits.then(|| self.front(|front| front.take(layout.size(), layout.align()))).flatten();
        // SAFETY: the place lies in the arena; the layout is the caller's.
        unsafe {
            match place {
                Some(place) => self.memory.get().cast::<u8>().add(place),
                None => System.alloc(layout),
            }
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match self.place(block) {
            Some(place) => self.front(|front| front.give_back(place, layout.size())),
            // SAFETY: a block outside of the arena came from the standard allocator, with this layout.
            None => unsafe { System.dealloc(block, layout) },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above. Of the two blocks, which lie apart, each has the bytes that are copied.
        unsafe {
            let Some(place) = self.place(block) else { return System.realloc(block, layout, size) };
            if self.front(|front| front.resize(place, layout.size(), size)) {
                return block;
            }
            let larger = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !larger.is_null() {
                ptr::copy_nonoverlapping(block, larger, layout.size());
                self.dealloc(block, layout);
            }
            larger
        }
    }
}
