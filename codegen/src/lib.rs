//! bloomery-codegen
