//! Ascend chips: from a program to a plan of aclnn, HCCL and runtime calls.

pub mod cpp;
pub mod header;
