//! Classes of processors: what an image of code is made for, and the prelude it is made over.
//!
//! To add one: a variant here (the compiler tells what is missing), a prelude beside `prelude/plain.h` that defines
//! every function of it, and the processor's features in the runtime's launcher. The tests in `tests/kernels` do the rest.

use super::spec::Element;

/// A class of processor, for which an image of code is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// AVX2, FMA, F16C.
    V3,
    /// AVX-512 F, BW, CD, DQ, VL and VNNI.
    V4,
    /// V4 with AMX-TILE and AMX-BF16: products with bf16 weights run on matrix tiles.
    Amx,
    /// NEON of ARMv8.0: its FMA and its converters between f16 and f32 are all that is asked for.
    Aarch64,
    /// Plain C: any processor, slowly; what the others are tested against.
    Plain,
    /// Plain C with tiles in plain C: what AMX is tested against, whose products have bits of their own.
    PlainTiles,
}

/// Every class that artifacts hold code for, by architecture, better ones later.
pub const CLASSES: &[Class] = &[Class::V3, Class::V4, Class::Amx, Class::Aarch64];

/// What a compiler for the processors of another machine is called.
#[derive(Debug, PartialEq, Eq)]
pub struct Architecture {
    /// As Rust names it in `std::env::consts::ARCH`.
    pub name: &'static str,
    /// Of ELF files.
    pub(super) machine: u64,
    /// Its usual cross compiler.
    pub(super) compiler: &'static str,
    /// The package that brings it, in Debian, Ubuntu and Fedora.
    pub(super) package: &'static str,
    /// The variable that names another.
    pub(super) variable: &'static str,
}

const X86_64: Architecture = Architecture {
    name: "x86_64",
    machine: 62,
    compiler: "x86_64-linux-gnu-gcc",
    package: "gcc-x86-64-linux-gnu",
    variable: "CC_X86_64",
};

const AARCH64: Architecture = Architecture {
    name: "aarch64",
    machine: 183,
    compiler: "aarch64-linux-gnu-gcc",
    package: "gcc-aarch64-linux-gnu",
    variable: "CC_AARCH64",
};

impl Class {
    /// Its name on the command line and in artifacts.
    pub fn name(self) -> &'static str {
        match self {
            Class::V3 => "x86-64-v3",
            Class::V4 => "x86-64-v4",
            Class::Amx => "x86-64-amx",
            Class::Aarch64 => "aarch64",
            Class::Plain => "plain",
            Class::PlainTiles => "plain-tiles",
        }
    }

    /// The class of a name.
    pub fn by_name(name: &str) -> Option<Class> {
        CLASSES.iter().chain([&Class::Plain, &Class::PlainTiles]).find(|class| class.name() == name).copied()
    }

    /// Which processors it is of; plain C is of all.
    pub fn architecture(self) -> Option<&'static Architecture> {
        match self {
            Class::V3 | Class::V4 | Class::Amx => Some(&X86_64),
            Class::Aarch64 => Some(&AARCH64),
            Class::Plain | Class::PlainTiles => None,
        }
    }

    /// Whether its products with bf16 weights run on tiles, whatever the number of rows; then they have bits of their own.
    pub fn has_tiles(self) -> bool {
        matches!(self, Class::Amx | Class::PlainTiles)
    }

    /// How many panels of rows, and of columns, a product multiplies at once: PANELS_AT_ONCE of its prelude.
    pub(super) fn panels_at_once(self) -> usize {
        match self {
            Class::V4 | Class::Amx => 2,
            Class::V3 | Class::Aarch64 | Class::Plain | Class::PlainTiles => 1,
        }
    }

    /// Whether this machine's processor is of the class's architecture; it may lack features yet.
    pub fn is_native(self) -> bool {
        self.architecture().is_none_or(|architecture| architecture.name == std::env::consts::ARCH)
    }

    /// The compiler's options that choose it.
    pub fn flags(self) -> &'static [&'static str] {
        match self {
            Class::V3 => &["-march=x86-64-v3"],
            // Without the width, gcc keeps to half registers where it vectorises on its own.
            Class::V4 => &["-march=x86-64-v4", "-mavx512vnni", "-mprefer-vector-width=512"],
            Class::Amx => {
                &["-march=x86-64-v4", "-mavx512vnni", "-mprefer-vector-width=512", "-mamx-tile", "-mamx-bf16"]
            }
            Class::Aarch64 => &["-march=armv8-a"],
            // What nobody waits for when it runs: gcc takes fifteen times as long for it with -O3.
            Class::Plain | Class::PlainTiles => &["-DSMALL", "-O2"],
        }
    }

    /// Definitions of the vector primitives.
    fn vectors(self) -> &'static [&'static str] {
        const X86: &str = include_str!("prelude/x86.h");
        match self {
            Class::V3 => &[X86, include_str!("prelude/v3.h")],
            Class::V4 | Class::Amx => &[X86, include_str!("prelude/v4.h")],
            Class::Aarch64 => &[include_str!("prelude/aarch64.h")],
            Class::Plain | Class::PlainTiles => &[include_str!("prelude/plain.h")],
        }
    }

    /// Definitions of the tile primitives, and what is made of them.
    fn tiles(self) -> &'static [&'static str] {
        const PRODUCTS: &str = include_str!("prelude/tiles.h");
        match self {
            Class::Amx => &[include_str!("prelude/tiles_amx.h"), PRODUCTS],
            Class::PlainTiles => &[include_str!("prelude/tiles_plain.h"), PRODUCTS],
            Class::V3 | Class::V4 | Class::Aarch64 | Class::Plain => &[],
        }
    }

    /// The prelude: everything generated code stands on.
    pub fn prelude(self) -> String {
        let streams = |element: Element| {
            let (name, pair) = (element.c_name(), element.pair());
            format!("#define TYPE {name}\n#define PAIR {pair}\n{}", include_str!("prelude/streams.h"))
        };
        [
            &format!("#define PANELS_AT_ONCE {} /* see `weights.h` */", self.panels_at_once()),
            include_str!("prelude/base.h"),
            &self.vectors().join("\n"),
            include_str!("prelude/math.h"),
            include_str!("prelude/rows.h"),
            include_str!("prelude/weights.h"),
            &streams(Element::F32),
            &streams(Element::F16),
            &streams(Element::Bf16),
            include_str!("prelude/attention.h"),
            &self.tiles().join("\n"),
        ]
        .join("\n")
    }
}
