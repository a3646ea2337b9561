//! usage: bindgen MODULE DIRECTORY

use std::env::args_os;

fn main() {
    let mut args = args_os().skip(1);
    let (module, directory) = (args.next().unwrap(), args.next().unwrap());
    wasm_bindgen_cli_support::Bindgen::new()
        .input_path(module)
        .nodejs(true)
        .unwrap()
        .typescript(false)
        .generate(directory)
        .unwrap();
}
