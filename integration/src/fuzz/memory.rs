//! How much memory decoding takes: a length that lies must not be believed.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

/// What a byte of input may take while it is decoded, in bytes. A CBOR item of one byte becomes a
/// value of some fifty, in a list that is copied as it grows.
const PER_BYTE: usize = 128;
/// What may be taken whatever the input: the buffers of the YAML reader are the largest of it.
const AT_LEAST: usize = 256 << 10;

thread_local! {
    static LIVE: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, counting what each thread has. A program that is to be held to the bound
/// names it as its global allocator; in others nothing is measured.
pub struct Counting;

fn taken(bytes: usize) {
    let live = LIVE.get().saturating_add(bytes);
    LIVE.set(live);
    PEAK.set(PEAK.get().max(live));
}

fn given_back(bytes: usize) {
    LIVE.set(LIVE.get().saturating_sub(bytes));
}

// SAFETY: all is the system allocator's doing; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        taken(layout.size());
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        given_back(layout.size());
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Both at once, as where it has to be copied.
        taken(size);
        given_back(layout.size());
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Does something with an input of so many bytes, and checks that it took no more memory than that
/// may.
pub fn bounded<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    let before = LIVE.get();
    PEAK.set(before);
    let result = work();
    let took = PEAK.get().saturating_sub(before);
    let bound = AT_LEAST + PER_BYTE * bytes;
    assert!(took <= bound, "{bytes} bytes of input took {took} bytes of memory, more than {bound}");
    result
}
