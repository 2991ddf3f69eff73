//! bloomery-artifact
