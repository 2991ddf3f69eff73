//! bloomery-runtime
