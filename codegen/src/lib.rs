//! bloomery-codegen: from a Program to bytes for one target.

pub mod cpu;
