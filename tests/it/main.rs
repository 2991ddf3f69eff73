//! Whole-workspace tests, one binary.
