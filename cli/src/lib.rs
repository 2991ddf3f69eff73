//! bloomery
