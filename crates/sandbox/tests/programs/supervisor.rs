//! The engine's supervisor as a program of its own, as the product's hidden verb calls it.

use std::{io, path::Path};

fn main() -> io::Result<()> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    match arguments.as_slice() {
        [verb, flag, dir] if verb == "__supervisor" && flag == "--dir" => {
            rclaude_sandbox::local::run_supervisor(Path::new(dir))
        }
        _ => Err(io::Error::other("usage: __supervisor --dir <engine directory>")),
    }
}
