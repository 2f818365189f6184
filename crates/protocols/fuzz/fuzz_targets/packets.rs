#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ecapture_protocols_fuzz::packets(input));
