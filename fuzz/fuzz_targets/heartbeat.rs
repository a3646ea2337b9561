//! Scripts for the state machine without I/O.

#![no_main]

use futures_pinger_fuzz::Input;
use futures_pinger_fuzz::bare::Bare;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: Input| input.run::<Bare>());
