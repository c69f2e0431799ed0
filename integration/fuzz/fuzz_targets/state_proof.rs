#![no_main]

use minidlt_integration::fuzz::{memory::Counting, run};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| run("state_proof", bytes));
