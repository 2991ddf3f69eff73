//! The code image: machine code without relocations or imports, and where each kernel starts in it.
//!
//! The compiler links one C file at address 0 by a five-line script. The link keeps its relocation entries, so that
//! this file can check that each was a distance within the image (nothing depends on where the image is mapped),
//! and the symbol table, from which the offsets come. Of the ELF file only the loaded bytes are kept.

use super::cc::{CcError, Compiler, FLAGS};
use super::{Class, Kernel, source};
use bloomery_artifact::code::{CodeImage, KernelCode, Phase};
use bloomery_ir::Program;
use bloomery_ir::target::Refusal;
use std::collections::BTreeMap;

const SCRIPT: &str = "SECTIONS {
    .code 0 : { *(.text .text.* .rodata .rodata.*) }
    .held : { *(.data .data.* .bss .bss.* .got .got.* COMMON) }
    ASSERT(SIZEOF(.held) == 0, \"kernels hold no data\")
    /DISCARD/ : { *(.comment .note* .eh_frame* .gnu* .llvm*) }
}
";

/// Loaded bytes and symbol offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// To be mapped read and execute, at a page's start.
    pub bytes: Vec<u8>,
    /// Offset of each kernel function.
    pub symbols: BTreeMap<String, u64>,
}

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The compiler.
    #[error(transparent)]
    Compiler(#[from] CcError),
    /// A kernel that has no emitter.
    #[error(transparent)]
    Kernel(#[from] Refusal),
    /// The linked file is not what the script asks for.
    #[error("the compiled code cannot be mapped anywhere: {0}")]
    Unusable(String),
}

/// Compiles kernels for a class.
pub fn image(compiler: &Compiler, class: Class, kernels: &[Kernel]) -> Result<Image, ImageError> {
    let own = ["-static", "-Wl,-T,image.ld", "-Wl,--build-id=none", "-Wl,--emit-relocs", "-Wl,-e,0"];
    let io = ["-o", "image.elf", "kernels.c"];
    let options: Vec<String> =
        FLAGS.iter().chain(class.flags()).chain(&own).chain(&io).map(|flag| flag.to_string()).collect();
    let text = source(class, kernels);
    let elf = compiler.build(&[("kernels.c", &text), ("image.ld", SCRIPT)], &options, "image.elf")?;
    let image = extract(class, &elf).map_err(ImageError::Unusable)?;
    let wanted = kernels.iter().flat_map(|kernel| kernel.phases());
    let mut symbols = BTreeMap::new();
    for phase in wanted {
        let offset = image.symbols.get(&phase.symbol);
        let offset = *offset.ok_or_else(|| ImageError::Unusable(format!("no symbol `{}`", phase.symbol)))?;
        symbols.insert(phase.symbol.clone(), offset);
    }
    Ok(Image { bytes: image.bytes, symbols })
}

/// A program's code for one class, as an artifact stores it.
///
/// # Errors
/// A kernel without an emitter (the passes' mistake), and what the compiler says.
pub fn code_image(compiler: &Compiler, class: Class, program: &Program) -> Result<CodeImage, ImageError> {
    let kernels = super::emit_program(class, program)?;
    let image = image(compiler, class, &kernels)?;
    let phase = |phase: &super::Phase| Phase { offset: image.symbols[&phase.symbol], tiles: phase.tiles };
    let code = |kernel: &Kernel| KernelCode {
        prepare: kernel.prepare.as_ref().map(phase),
        main: phase(&kernel.main),
        shared: kernel.shared,
        local: kernel.local as u64,
        tile_pieces: kernel.tile_pieces,
    };
    let kernels = kernels.iter().map(code).collect();
    Ok(CodeImage { class: class.name().to_owned(), bytes: image.bytes, kernels })
}

/// A section header of a 64-bit little-endian ELF file.
struct Section<'a> {
    kind: u32,
    flags: u64,
    address: u64,
    data: &'a [u8],
    link: usize,
}

const SYMBOLS: u32 = 2;
const RELOCATIONS: u32 = 4;
const NO_BITS: u32 = 8;
const RELOCATIONS_IMPLICIT: u32 = 9;
const ALLOCATED: u64 = 2;

fn extract(class: Class, elf: &[u8]) -> Result<Image, String> {
    let sections = sections(elf).ok_or("the ELF file is damaged")?;
    let machine = number(elf, 18, 2).ok_or("the ELF file is damaged")?;
    match class.architecture() {
        Some(wanted) if wanted.machine != machine => {
            return Err(format!(
                "the compiler made code for ELF machine {machine}, {} is {}",
                wanted.name, wanted.machine
            ));
        }
        _ => {}
    }
    let loaded: Vec<&Section> = sections.iter().filter(|s| s.flags & ALLOCATED != 0 && !s.data.is_empty()).collect();
    let [code] = loaded[..] else { return Err(format!("{} loaded sections instead of 1", loaded.len())) };
    if code.address != 0 || code.kind == NO_BITS {
        return Err(format!("the code lies at {:#x} instead of 0", code.address));
    }
    sections.iter().filter(|s| s.kind == RELOCATIONS).try_for_each(|s| check_relocations(machine, s.data))?;
    if sections.iter().any(|s| s.kind == RELOCATIONS_IMPLICIT) {
        return Err("relocations without addends".into());
    }
    let symbols = symbols(&sections).ok_or("the symbol table is damaged")??;
    Ok(Image { bytes: code.data.to_vec(), symbols })
}

/// Only distances within the image may have been filled in by the linker.
fn check_relocations(machine: u64, entries: &[u8]) -> Result<(), String> {
    for entry in entries.chunks_exact(24) {
        let kind = number(entry, 8, 4).expect("24 bytes");
        let relative = match machine {
            62 => matches!(kind, 0 | 2 | 4 | 24), // x86-64: none, PC32, PLT32, PC64
            183 => matches!(kind, 0 | 256 | 260..=262 | 273..=275 | 277..=286 | 299), // aarch64: pages, offsets, calls
            _ => false,
        };
        if !relative {
            return Err(format!("relocation of type {kind} for machine {machine}"));
        }
    }
    Ok(())
}

fn symbols(sections: &[Section]) -> Option<Result<BTreeMap<String, u64>, String>> {
    let table = sections.iter().find(|s| s.kind == SYMBOLS)?;
    let names = sections.get(table.link)?.data;
    let mut found = BTreeMap::new();
    for entry in table.data.chunks_exact(24).skip(1) {
        let name = names.get(number(entry, 0, 4)? as usize..)?;
        let name = String::from_utf8_lossy(name.split(|b| *b == 0).next()?).into_owned();
        let (kind, section) = (entry[4] & 15, number(entry, 6, 2)?);
        if section == 0 {
            return Some(Err(format!("`{name}` is not defined")));
        }
        if kind == 2 {
            found.insert(name, number(entry, 8, 8)?);
        }
    }
    Some(Ok(found))
}

fn sections(elf: &[u8]) -> Option<Vec<Section<'_>>> {
    if elf.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let (at, count) = (number(elf, 40, 8)? as usize, number(elf, 60, 2)? as usize);
    let section = |i: usize| {
        let header = elf.get(at + i * 64..at + (i + 1) * 64)?;
        let kind = number(header, 4, 4)? as u32;
        let (start, size) = (number(header, 24, 8)? as usize, number(header, 32, 8)? as usize);
        let data = if kind == NO_BITS { &[0][..size.min(1)] } else { elf.get(start..start.checked_add(size)?)? };
        let (flags, address) = (number(header, 8, 8)?, number(header, 16, 8)?);
        Some(Section { kind, flags, address, data, link: number(header, 40, 4)? as usize })
    };
    (0..count).map(section).collect()
}

/// A little-endian number of `size` bytes.
fn number(bytes: &[u8], at: usize, size: usize) -> Option<u64> {
    Some(bytes.get(at..at + size)?.iter().rev().fold(0, |sum, b| sum << 8 | u64::from(*b)))
}
