//! Scripts for a `Pinger` whose pongs come by a slot or by a stream.

#![no_main]

use futures_pinger_fuzz::Input;
use futures_pinger_fuzz::shells::{BySlot, ByStream, Run};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (bool, Input)| match input {
    (true, input) => input.run::<Run<BySlot>>(),
    (false, input) => input.run::<Run<ByStream>>(),
});
