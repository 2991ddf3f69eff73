//! bloomery-configs
