//! Stub.
use crate::pass::{Context, Pass, PassError};
use bloomery_ir::Module;
pub(crate) const PASS: Pass =
    Pass { name: "clean", run: |module, _: &Context<'_>| -> Result<Module, PassError> { Ok(module) } };
