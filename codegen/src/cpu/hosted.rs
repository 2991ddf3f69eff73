//! Kernels as an ordinary program: a generated `main` that reads launches from its input and writes what became
//! of their views. For tests, which so need neither mapped code nor `unsafe`, can run under the sanitizers, and under an
//! emulator what another machine would run.

use super::cc::{CcError, Compiler};
use super::image::{ImageError, image};
use super::{Class, Kernel, Tiles, source};
use std::io::Write;
use std::process::{Command, Stdio};

/// A compiled program and the folder it lives in.
#[derive(Debug)]
pub struct Program {
    folder: tempfile::TempDir,
    kernels: Vec<Kernel>,
    /// What runs it, if not the processor itself.
    emulator: Option<String>,
}

/// One launch: kernel index, contents of its views, sizes.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Which kernel.
    pub kernel: usize,
    /// Contents of every view, outputs included.
    pub views: Vec<Vec<u8>>,
    /// Values of the symbols.
    pub dims: Vec<u32>,
    /// Tiles handed to one call; 0 means all.
    pub tiles_at_once: u32,
}

impl Program {
    /// Compiles kernels of a class into a program, with extra options (`-fsanitize=..`).
    pub fn build(compiler: &Compiler, class: Class, kernels: &[Kernel], extra: &[&str]) -> Result<Program, CcError> {
        let text = format!("{}\n{}", source(class, kernels), table(kernels, |symbol| symbol.to_owned()));
        let folder = tempfile::tempdir()?;
        Program::finish(folder, compiler, class, kernels, &text, extra)
    }

    /// The same with the code that an artifact would hold, at the start of some page of the program.
    pub fn build_of_image(
        compiler: &Compiler,
        class: Class,
        kernels: &[Kernel],
        extra: &[&str],
    ) -> Result<Program, ImageError> {
        let image = image(compiler, class, kernels)?;
        let folder = tempfile::tempdir().map_err(CcError::from)?;
        std::fs::write(folder.path().join("image.bin"), &image.bytes).map_err(CcError::from)?;
        let head = "typedef unsigned int u32;\nstruct call;\nextern const char image[];\n\
                    __asm__(\".pushsection .text\\n.balign 4096\\nimage: .incbin \\\"image.bin\\\"\\n.popsection\");\n";
        let place =
            |symbol: &str| format!("(void (*)(const struct call *, u32, u32))(image + {})", image.symbols[symbol]);
        let text = head.to_owned() + &table(kernels, place);
        Ok(Program::finish(folder, compiler, class, kernels, &text, extra)?)
    }

    fn finish(
        folder: tempfile::TempDir,
        compiler: &Compiler,
        class: Class,
        kernels: &[Kernel],
        text: &str,
        extra: &[&str],
    ) -> Result<Program, CcError> {
        let quiet = ["-std=gnu11", "-ffp-contract=off", "-fno-math-errno", "-Wall", "-Wextra", "-Werror"];
        let io = ["-o", "kernels", "kernels.c", "main.c"];
        let options: Vec<String> =
            quiet.iter().chain(class.flags()).chain(extra).chain(&io).map(|s| s.to_string()).collect();
        let main = include_str!("hosted/main.c");
        compiler.build_in(folder.path(), &[("kernels.c", text), ("main.c", main)], &options)?;
        Ok(Program { folder, kernels: kernels.to_vec(), emulator: None })
    }

    /// Runs it by an emulator of another processor, such as `qemu-aarch64`.
    pub fn under(self, emulator: Option<&str>) -> Program {
        Program { emulator: emulator.map(str::to_owned), ..self }
    }

    /// Runs launches one after another; returns their views afterwards, and behind them the pages of the cache they
    /// saw and skipped, each a `u64`.
    pub fn run(&self, launches: &[Launch]) -> Result<Vec<Vec<Vec<u8>>>, String> {
        let input: Vec<u8> = launches.iter().flat_map(|launch| self.encode(launch)).collect();
        let mut child = self
            .command()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| error.to_string())?;
        let mut stdin = child.stdin.take().expect("it is piped");
        let writer = std::thread::spawn(move || stdin.write_all(&input));
        let output = child.wait_with_output().map_err(|error| error.to_string())?;
        let written = writer.join().expect("the writer does not panic");
        if !output.status.success() || !output.stderr.is_empty() || written.is_err() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned() + &output.status.to_string());
        }
        let mut rest = &output.stdout[..];
        let mut take = |size: usize| {
            let (head, tail) = rest.split_at(size);
            rest = tail;
            head.to_vec()
        };
        Ok(launches
            .iter()
            .map(|launch| launch.views.iter().map(Vec::len).chain([16]).map(&mut take).collect())
            .collect())
    }

    fn command(&self) -> Command {
        let program = self.folder.path().join("kernels");
        let Some(emulator) = &self.emulator else { return Command::new(program) };
        let mut command = Command::new(emulator);
        command.arg(program);
        command
    }

    fn encode(&self, launch: &Launch) -> Vec<u8> {
        let kernel = &self.kernels[launch.kernel];
        let tiles = |tiles: &Tiles| {
            tiles.count(&launch.dims, |view| {
                let bytes = &launch.views[view];
                let lengths = bytes.chunks_exact(12).map(|row| u32::from_le_bytes(row[4..8].try_into().expect("4")));
                lengths.collect::<Vec<u32>>()
            })
        };
        let shared = kernel.shared.bytes(&launch.dims);
        let prepare = kernel.prepare.as_ref().map_or(0, |phase| tiles(&phase.tiles));
        let head = [
            launch.kernel as u32,
            prepare,
            tiles(&kernel.main.tiles),
            launch.tiles_at_once,
            shared as u32,
            kernel.local as u32,
            launch.dims.len() as u32,
            launch.views.len() as u32,
        ];
        let sizes = launch.views.iter().map(|view| view.len() as u32);
        let words = head.into_iter().chain(launch.dims.iter().copied()).chain(sizes);
        let mut out: Vec<u8> = words.flat_map(u32::to_le_bytes).collect();
        launch.views.iter().for_each(|view| out.extend(view));
        out
    }
}

/// The table that `main.c` reads; `place` writes a function's address from its symbol.
fn table(kernels: &[Kernel], place: impl Fn(&str) -> String) -> String {
    let entry = |kernel: &Kernel| {
        let prepare = kernel.prepare.as_ref().map_or("0".to_owned(), |phase| place(&phase.symbol));
        format!("    {{{{{prepare}, {}}}}},\n", place(&kernel.main.symbol))
    };
    let entries: String = kernels.iter().map(entry).collect();
    format!(
        "struct entry {{ void (*phase[2])(const struct call *, u32, u32); }};\n\
         const struct entry entries[] = {{\n{entries}}};\n"
    )
}
