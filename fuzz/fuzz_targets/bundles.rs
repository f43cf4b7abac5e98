#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidemill_hostile::run("bundles", bytes));
