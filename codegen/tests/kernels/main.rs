//! Every kind of kernel, run natively, by the plain definitions, and under the sanitizers: the same bits, close to
//! a reference in f64, whatever the rows, the tiles and the neighbours.

mod attention;
mod data;
mod image;
mod math;
mod products;
mod rows;

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
        let cc = Compiler::find();
        let run = |class, extra: &[&str]| {
            let program = Program::build(&cc, class, &self.kernels, extra).expect("the kernels compile");
            program.run(&self.launches).expect("the kernels run")
        };
        let sanitizers = ["-O1", "-DSMALL", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
        let (native, plain) = std::thread::scope(|scope| {
            let native = scope.spawn(|| cfg!(target_arch = "x86_64").then(|| run(Class::V3, &["-O3"])));
            (native.join().expect("no panic"), run(Class::Plain, &["-O1"]))
        });
        let Some(native) = native else { return plain };
        for (i, (native, plain)) in native.iter().zip(&plain).enumerate() {
            assert!(native == plain, "launch {i} of kernel {}: v3 and plain C differ", self.launches[i].kernel);
        }
        assert!(native == run(Class::V3, &sanitizers), "the same bits without optimisation");
        native
    }
}
