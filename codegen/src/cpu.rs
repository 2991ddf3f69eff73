//! Kernels for CPUs: from specifications to C, from C to a relocation-free image of machine code.
//!
//! The C is freestanding and written once, over a small prelude of 16-lane vectors (`prelude/`) that every class
//! of processor defines for itself and plain C defines for all: results agree bit for bit. `kernels/` holds the
//! templates, one file a kind; the emitters beside this file fill them. Start at `spec`, then `gemm` (and `tiles`, where a
//! class has those); `class` says which processors there is code for.
//!
//! Not here: which kernels a model needs (passes), how they are launched (runtime).

mod append;
mod attention;
pub mod cc;
mod class;
mod elementwise;
mod gather;
mod gemm;
pub mod hosted;
pub mod image;
mod kernel;
pub mod layouts;
mod loops;
mod norm;
mod place;
pub mod recognise;
mod row;
pub mod spec;
mod store;
mod target;
mod text;
mod tiles;

pub use class::{CLASSES, Class};
pub use kernel::{Kernel, Phase, SharedScratch, Tiles};
pub use target::Cpu;

use bloomery_ir::Program;
use bloomery_ir::target::Refusal;
use spec::{Element, Spec};
use std::collections::BTreeMap;

/// Writes all kernels of a program for a class, in its order. What comes to the same specification is one kernel under the
/// name of the first: only products differ by the range of rows they are for.
///
/// # Errors
/// A kernel that [`Cpu`] refuses, with its name: a mistake of the passes.
pub fn emit_program(class: Class, program: &Program) -> Result<Vec<Kernel>, Refusal> {
    let mut emitted: BTreeMap<String, Kernel> = BTreeMap::new();
    let one = |kernel: &bloomery_ir::program::Kernel| {
        let spec = recognise::recognise(&kernel.graph, &kernel.inputs, &program.symbols);
        let spec = spec.map_err(|refusal| Refusal(format!("`{}`: {}", kernel.name, refusal.0)))?;
        // As text, in which numbers are apart that compare equal, such as zeros of two signs.
        let known = emitted.entry(format!("{spec:?}"));
        Ok(known.or_insert_with(|| emit(class, &kernel.name, &spec)).clone())
    };
    program.kernels.iter().map(one).collect()
}

/// Writes one kernel. `name` becomes its symbol. Classes differ in whether they have tiles, and in how products are cut into blocks.
pub fn emit(class: Class, name: &str, spec: &Spec) -> Kernel {
    match spec {
        Spec::Gemm(spec) if class.has_tiles() && spec.w.element == Element::Bf16 => tiles::emit(name, spec),
        Spec::Gemm(spec) => gemm::emit(class, name, spec),
        Spec::Attention(spec) => attention::emit(name, spec),
        Spec::CacheAppend(spec) => append::emit(name, spec),
        Spec::Row(spec) => row::emit(name, spec),
        Spec::Gather(spec) => gather::emit(name, spec),
        Spec::Elementwise(spec) => elementwise::emit(name, spec),
        Spec::Loops(spec) => loops::emit(name, spec),
    }
}

/// One C file of all kernels, for one class; of one that is there more than once, once.
pub fn source(class: Class, kernels: &[Kernel]) -> String {
    let mut text = class.prelude();
    let is_first =
        |(i, kernel): &(usize, &Kernel)| !kernels[..*i].iter().any(|other| other.main.symbol == kernel.main.symbol);
    let kernels: Vec<&Kernel> = kernels.iter().enumerate().filter(is_first).map(|(_, kernel)| kernel).collect();
    for kernel in &kernels {
        for phase in kernel.phases() {
            text += &format!("void {}(const struct call *c, u32 begin, u32 end);\n", phase.symbol);
        }
    }
    for kernel in kernels {
        text.push('\n');
        text += &kernel.text;
    }
    text
}
