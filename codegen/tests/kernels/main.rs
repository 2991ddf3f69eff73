//! Every kind of kernel, by the plain definitions, by every class this machine has a way to run (see [`classes`]), and
//! under the sanitizers: the same bits, close to a reference in f64, whatever the rows, the tiles and the neighbours.

mod attention;
mod classes;
mod data;
mod image;
mod math;
mod primitives;
mod products;
mod rows;
mod samples;

use bloomery_codegen::cpu::hosted::{Launch, Program};
use bloomery_codegen::cpu::spec::Spec;
use bloomery_codegen::cpu::{Class, Kernel, emit};
use classes::{PLAIN, PLAIN_TILES, Way, ways};

/// How a class's kernel is written.
type Emit = Box<dyn Fn(Class) -> Kernel>;

/// Kernels by index, and what is to be launched.
pub(crate) struct Cases {
    /// Whose bits all builds must have.
    definition: Way,
    kernels: Vec<Emit>,
    launches: Vec<Launch>,
}

impl Default for Cases {
    fn default() -> Cases {
        Cases::of(PLAIN)
    }
}

impl Cases {
    /// `definition` is [`PLAIN`] or [`PLAIN_TILES`].
    fn of(definition: Way) -> Cases {
        Cases { definition, kernels: vec![], launches: vec![] }
    }

    fn kernel(&mut self, spec: &Spec) -> usize {
        let (name, spec) = (format!("kernel{}", self.kernels.len()), spec.clone());
        self.kernels.push(Box::new(move |class| emit(class, &name, &spec)));
        self.kernels.len() - 1
    }

    /// The kernels as a class has them: classes cut the same work into other pieces.
    fn of_class(&self, class: Class) -> Vec<Kernel> {
        self.kernels.iter().map(|emit| emit(class)).collect()
    }

    fn launch(&mut self, kernel: usize, views: Vec<Vec<u8>>, dims: &[u32], tiles_at_once: u32) -> usize {
        self.launches.push(Launch { kernel, views, dims: dims.to_vec(), tiles_at_once });
        self.launches.len() - 1
    }

    /// The views of every launch afterwards, the same in all builds.
    fn run(&self) -> Vec<Vec<Vec<u8>>> {
        Builds::of(self).run(&self.launches)
    }
}

/// The same kernels by the plain definitions and in every other way of classes that give the same bits.
pub(crate) struct Builds {
    plain: Program,
    others: Vec<(&'static str, Program)>,
}

impl Builds {
    fn of(cases: &Cases) -> Builds {
        let alike = ways().filter(|way| way.class.has_tiles() == cases.definition.class.has_tiles());
        let others = alike.map(|way| (way.name, way.build(&cases.of_class(way.class)))).collect();
        Builds { plain: cases.definition.build(&cases.of_class(cases.definition.class)), others }
    }

    /// The views of every launch afterwards; all builds must agree in every bit.
    fn run(&self, launches: &[Launch]) -> Vec<Vec<Vec<u8>>> {
        let plain = self.plain.run(launches).expect("the kernels run");
        for (name, other) in &self.others {
            let found = other.run(launches).unwrap_or_else(|error| panic!("{name}: {error}"));
            for (i, (found, plain)) in found.iter().zip(&plain).enumerate() {
                assert!(found == plain, "launch {i} of kernel {}: {name} and plain C differ", launches[i].kernel);
            }
        }
        plain
    }
}
