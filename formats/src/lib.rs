//! bloomery-formats
