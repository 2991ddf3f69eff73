//! bloomery-passes
