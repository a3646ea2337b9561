//! Scripts for a `KeepAlive`.

#![no_main]

use futures_pinger_fuzz::Input;
use futures_pinger_fuzz::shells::{Kept, Run};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: Input| input.run::<Run<Kept>>());
