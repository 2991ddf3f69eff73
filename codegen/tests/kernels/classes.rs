//! Ways to run each class on this machine: by its own processor, by an emulator, by portable intrinsics; and which of
//! them there are, told on stderr.

use std::io::Write;
use std::sync::OnceLock;

use bloomery_codegen::cpu::cc::Compiler;
use bloomery_codegen::cpu::hosted::Program;
use bloomery_codegen::cpu::{CLASSES, Class, Kernel};

/// A way to compile and run a class.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    /// For messages.
    pub(crate) name: &'static str,
    pub(crate) class: Class,
    options: &'static [&'static str],
    /// What runs it, if not the processor.
    pub(crate) emulator: Option<&'static str>,
    /// Whether the machine code is the class's own, so that its image can be run in the same way.
    pub(crate) own_code: bool,
    /// What to install where it does not work; without it, it must.
    wants: Option<&'static str>,
}

const NATIVE: Way =
    Way { name: "", class: Class::Plain, options: &["-O2"], emulator: None, own_code: true, wants: None };

/// The definition of the others.
pub(crate) const PLAIN: Way = Way { name: "plain C", class: Class::Plain, options: &["-O1"], ..NATIVE };

/// The same for classes with tiles, whose products have bits of their own.
pub(crate) const PLAIN_TILES: Way = Way { name: "tiles in plain C", class: Class::PlainTiles, ..PLAIN };

/// Optimisers take long for what the sanitizers check, and leave out accesses that would have been found faulty.
const SANITIZERS: &[&str] = &["-O0", "-DSMALL", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"];

const V3: Way = Way { name: "x86-64-v3 natively", class: Class::V3, ..NATIVE };
const V3_CHECKED: Way = Way { name: "x86-64-v3 under the sanitizers", options: SANITIZERS, own_code: false, ..V3 };
const V3_EMULATED: Way = Way {
    name: "x86-64-v3 by qemu",
    options: &["-O1", "-DSMALL", "-static"],
    emulator: Some("qemu-x86_64"),
    wants: Some("gcc-x86-64-linux-gnu and qemu-user"),
    ..V3
};
const V4: Way = Way { name: "x86-64-v4 natively", class: Class::V4, ..NATIVE };
const V4_PORTABLE: Way = Way {
    name: "x86-64-v4 by SIMDe",
    options: &[
        "-Og",
        "-DSMALL",
        "-march=x86-64-v3",
        "-mno-avx512f",
        "-include",
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kernels/simde.h"),
    ],
    own_code: false,
    wants: Some("libsimde-dev"),
    ..V4
};
const AMX: Way = Way {
    name: "x86-64-amx natively",
    class: Class::Amx,
    options: &["-O2", "-include", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kernels/tiles_granted.h")],
    ..NATIVE
};
/// The vectors by SIMDe, the tiles' instructions by a signal handler.
const AMX_PORTABLE: Way = Way {
    name: "x86-64-amx by SIMDe and a handler of illegal instructions",
    options: &[
        "-O2",
        "-Wno-psabi",
        "-DSMALL",
        "-march=x86-64-v3",
        "-mno-avx512f",
        "-include",
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kernels/amx.h"),
        "-include",
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kernels/simde.h"),
    ],
    own_code: false,
    wants: Some("libsimde-dev, and gcc 12 or newer"),
    ..AMX
};
const AARCH64: Way = Way { name: "aarch64 natively", class: Class::Aarch64, ..NATIVE };
const AARCH64_EMULATED: Way = Way {
    name: "aarch64 by qemu",
    options: &["-O1", "-DSMALL", "-static"],
    emulator: Some("qemu-aarch64"),
    wants: Some("gcc-aarch64-linux-gnu and qemu-user"),
    ..AARCH64
};

impl Way {
    /// Compiles kernels; they run in this way.
    ///
    /// # Panics
    /// When the compiler refuses them.
    pub(crate) fn build(&self, kernels: &[Kernel]) -> Program {
        let built = Program::build(&Compiler::for_class(self.class), self.class, kernels, self.options);
        built.unwrap_or_else(|error| panic!("{}: {error}", self.name)).under(self.emulator)
    }

    /// The same over the image that an artifact would hold.
    pub(crate) fn build_of_image(&self, kernels: &[Kernel]) -> Program {
        let built = Program::build_of_image(&Compiler::for_class(self.class), self.class, kernels, self.options);
        built.unwrap_or_else(|error| panic!("{}: {error}", self.name)).under(self.emulator)
    }

    /// Whether a program without kernels can be compiled and run so.
    fn works(&self) -> bool {
        let compiler = Compiler::for_class(self.class);
        let built = Program::build(&compiler, self.class, &[], self.options);
        built.is_ok_and(|program| program.under(self.emulator).run(&[]).is_ok())
    }
}

/// For each class, the first way that could work here.
fn candidates() -> Vec<Way> {
    let here = |class: Class| bloomery_runtime::runs_here(class.name());
    let of = |class, native, other| if here(class) { native } else { other };
    let mut all = vec![
        of(Class::V3, V3, V3_EMULATED),
        of(Class::V4, V4, V4_PORTABLE),
        of(Class::Amx, AMX, AMX_PORTABLE),
        of(Class::Aarch64, AARCH64, AARCH64_EMULATED),
    ];
    if here(Class::V3) {
        all.push(V3_CHECKED);
    }
    all
}

/// Every way that works here besides [`PLAIN`] and [`PLAIN_TILES`].
pub(crate) fn ways() -> impl Iterator<Item = &'static Way> {
    probed().iter().filter(|(_, works)| *works).map(|(way, _)| way)
}

fn probed() -> &'static [(Way, bool)] {
    static PROBED: OnceLock<Vec<(Way, bool)>> = OnceLock::new();
    PROBED.get_or_init(|| candidates().into_iter().map(|way| (way, way.works())).collect())
}

/// Classes whose images a compiler on this machine can make, but nothing on it run.
pub(crate) fn only_compiled() -> impl Iterator<Item = Class> {
    let runs = |class: Class| ways().any(|way| way.class == class && way.own_code);
    let compiles = |class: &Class| {
        let options =
            ["-c", "-o", "prelude.o", "prelude.c"].iter().chain(class.flags()).map(|option| option.to_string());
        let options: Vec<String> = options.collect();
        Compiler::for_class(*class).build(&[("prelude.c", &class.prelude())], &options, "prelude.o").is_ok()
    };
    CLASSES.iter().copied().filter(move |class| !runs(*class)).filter(compiles)
}

/// Told past the test's captured output: whoever reads the log must see what was not run.
#[test]
fn classes_that_do_not_run_here_are_told() {
    let mut text = String::new();
    for (way, works) in probed() {
        let missing = way.wants.unwrap_or("nothing");
        text += &match works {
            true => format!("kernels run: {}\n", way.name),
            false => format!("kernels do not run: {}: install {missing}\n", way.name),
        };
        assert!(*works || way.wants.is_some(), "{}: the compiler refuses it, or it crashes", way.name);
    }
    only_compiled().for_each(|class| text += &format!("kernels are only compiled: {}\n", class.name()));
    std::io::stderr().write_all(text.as_bytes()).expect("stderr is open");
    let own = probed().iter().filter(|(way, works)| *works && way.own_code);
    assert!(own.count() > 0 || !cfg!(any(target_arch = "x86_64", target_arch = "aarch64")), "{text}");
}
