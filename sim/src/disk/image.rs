//! What a file holds, in pages that images share until one of them writes.

use std::sync::Arc;

const PAGE: usize = 4096;

/// The bytes of a file. Pages never written are zeros and take no memory.
#[derive(Debug, Clone, Default)]
pub(super) struct Image {
    pages: Vec<Option<Arc<[u8; PAGE]>>>,
    length: u64,
}

impl Image {
    pub(super) fn len(&self) -> u64 {
        self.length
    }

    /// Fills `buffer` from `offset` on; false when the file ends before that.
    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) -> bool {
        if offset.checked_add(buffer.len() as u64).is_none_or(|end| end > self.length) {
            return false;
        }
        for (page, within, part) in pieces(offset, buffer.len()) {
            let target = &mut buffer[part];
            match &self.pages[page] {
                Some(bytes) => target.copy_from_slice(&bytes[within..within + target.len()]),
                None => target.fill(0),
            }
        }
        true
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        let end = offset + bytes.len() as u64;
        if end > self.length {
            self.set_len(end);
        }
        for (page, within, part) in pieces(offset, bytes.len()) {
            let source = &bytes[part];
            self.page_mut(page)[within..within + source.len()].copy_from_slice(source);
        }
    }

    pub(super) fn set_len(&mut self, length: u64) {
        self.pages.resize((length as usize).div_ceil(PAGE), None);
        let within = (length as usize) % PAGE;
        if length < self.length && within != 0 {
            let page = self.pages.len() - 1;
            self.page_mut(page)[within..].fill(0);
        }
        self.length = length;
    }

    /// Zeros a range within the file; whole pages of it take no memory any more.
    pub(super) fn punch(&mut self, offset: u64, length: u64) {
        let end = offset.saturating_add(length).min(self.length);
        let length = end.saturating_sub(offset) as usize;
        for (page, within, part) in pieces(offset, length) {
            if part.len() == PAGE {
                self.pages[page] = None;
            } else if self.pages[page].is_some() {
                self.page_mut(page)[within..within + part.len()].fill(0);
            }
        }
    }

    /// The pages that hold something, with their numbers.
    pub(super) fn pages(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let numbered = self.pages.iter().enumerate();
        numbered.filter_map(|(number, page)| Some((number as u64, &page.as_ref()?[..])))
    }

    /// Turns a bit; false when there is no such byte.
    pub(super) fn flip_bit(&mut self, byte: u64, bit: u8) -> bool {
        if byte >= self.length {
            return false;
        }
        self.page_mut(byte as usize / PAGE)[byte as usize % PAGE] ^= 1 << (bit % 8);
        true
    }

    fn page_mut(&mut self, page: usize) -> &mut [u8; PAGE] {
        Arc::make_mut(self.pages[page].get_or_insert_with(|| Arc::new([0; PAGE])))
    }
}

/// The pages that a range touches: page, place in it, and the range's part that lies there.
fn pieces(offset: u64, length: usize) -> impl Iterator<Item = (usize, usize, std::ops::Range<usize>)> {
    let start = offset as usize;
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == length {
            return None;
        }
        let at = start + done;
        let take = (PAGE - at % PAGE).min(length - done);
        let part = done..done + take;
        done += take;
        Some((at / PAGE, at % PAGE, part))
    })
}
