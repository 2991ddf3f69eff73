//! bloomery-ir
