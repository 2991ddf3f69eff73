//! bloomery-codegen: from a Program to bytes for one target.
//!
//! Here lives what a target is: for CPUs the C emitter, the compiler's door and the code image ([`cpu`]), and the
//! packing of weights ([`pack`]), for Ascend chips the call plan ([`ascend`]). Absent: the model, passes, and the launching of what is made here. Start at [`cpu`].

pub mod ascend;
pub mod cpu;
pub mod pack;
