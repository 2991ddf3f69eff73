//! What tests of the whole share with fuzzing: [`foreign`], the readers of foreign bytes.

pub mod foreign;
