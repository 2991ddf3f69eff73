//! The `bloomery` binary: parses arguments, prints, exits.
fn main() {}
