//! bloomery-models
