//! Every kind of kernel, run natively, by the plain definitions, and under the sanitizers: the same bits, close to
//! a reference in f64, whatever the rows, the tiles and the neighbours.

mod attention;
mod data;
mod image;
mod math;
mod products;
mod rows;
mod samples;

use bloomery_codegen::cpu::cc::Compiler;
use bloomery_codegen::cpu::hosted::{Launch, Program};
use bloomery_codegen::cpu::spec::Spec;
use bloomery_codegen::cpu::{Class, Kernel, emit};

/// Kernels by index, and what is to be launched.
#[derive(Default)]
pub(crate) struct Cases {
    kernels: Vec<Kernel>,
    launches: Vec<Launch>,
}

impl Cases {
    fn kernel(&mut self, spec: &Spec) -> usize {
        self.kernels.push(emit(&format!("kernel{}", self.kernels.len()), spec));
        self.kernels.len() - 1
    }

    fn launch(&mut self, kernel: usize, views: Vec<Vec<u8>>, dims: &[u32], tiles_at_once: u32) -> usize {
        self.launches.push(Launch { kernel, views, dims: dims.to_vec(), tiles_at_once });
        self.launches.len() - 1
    }

    /// The views of every launch afterwards, the same in all builds.
    fn run(&self) -> Vec<Vec<Vec<u8>>> {
        Builds::of(&self.kernels).run(&self.launches)
    }
}

/// The same kernels by the plain definitions and, where this machine can, natively and under the sanitizers.
pub(crate) struct Builds {
    plain: Program,
    native: Vec<Program>,
}

impl Builds {
    fn of(kernels: &[Kernel]) -> Builds {
        let cc = Compiler::find();
        let build = |class, extra: &[&str]| Program::build(&cc, class, kernels, extra).expect("the kernels compile");
        let sanitizers = ["-O1", "-DSMALL", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
        let native: &[&[&str]] = if cfg!(target_arch = "x86_64") { &[&["-O2"], &sanitizers] } else { &[] };
        let native = native.iter().map(|extra| build(Class::V3, extra)).collect();
        Builds { plain: build(Class::Plain, &["-O1"]), native }
    }

    /// The views of every launch afterwards; all builds must agree in every bit.
    fn run(&self, launches: &[Launch]) -> Vec<Vec<Vec<u8>>> {
        let plain = self.plain.run(launches).expect("the kernels run");
        for native in &self.native {
            let native = native.run(launches).expect("the kernels run");
            for (i, (native, plain)) in native.iter().zip(&plain).enumerate() {
                assert!(native == plain, "launch {i} of kernel {}: v3 and plain C differ", launches[i].kernel);
            }
        }
        plain
    }
}
