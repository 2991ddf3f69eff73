//! bloomery-tests
