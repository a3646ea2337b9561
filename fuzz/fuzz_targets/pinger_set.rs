//! Scripts for a member of a `PingerSet`, in which others come and go.

#![no_main]

use futures_pinger_fuzz::Input;
use futures_pinger_fuzz::shells::{InSet, Run};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: Input| input.run::<Run<InSet>>());
