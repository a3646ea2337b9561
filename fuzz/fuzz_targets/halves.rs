//! Scripts for both halves of a `KeepAlive`.

#![no_main]

use futures_pinger_fuzz::halves::{Script, run};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    run(&Script::decode(bytes));
});
