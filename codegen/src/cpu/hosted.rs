//! Kernels as an ordinary program: a generated `main` that reads launches from its input and writes what became
//! of their views. For tests, which so need neither mapped code nor `unsafe` and can run under the sanitizers.

use super::cc::{CcError, Compiler};
use super::{Class, Kernel, Tiles, source};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A compiled program and the folder it lives in.
#[derive(Debug)]
pub struct Program {
    folder: tempfile::TempDir,
    kernels: Vec<Kernel>,
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
        let folder = tempfile::tempdir()?;
        let table: String = kernels.iter().map(entry).collect();
        let text = format!(
            "{}\nconst struct entry entries[] = {{\n{table}}};\n",
            source(class, kernels) + "\nstruct entry { void (*phase[2])(const struct call *, u32, u32); };\n"
        );
        let quiet = ["-std=gnu11", "-ffp-contract=off", "-fno-math-errno", "-Wall", "-Wextra", "-Werror"];
        let io = ["-o", "kernels", "kernels.c", "main.c"];
        let options: Vec<String> =
            quiet.iter().chain(class.flags()).chain(extra).chain(&io).map(|s| s.to_string()).collect();
        let main = include_str!("hosted/main.c");
        compiler.build_in(folder.path(), &[("kernels.c", &text), ("main.c", main)], &options)?;
        Ok(Program { folder, kernels: kernels.to_vec() })
    }

    /// Runs launches one after another; returns their views afterwards.
    pub fn run(&self, launches: &[Launch]) -> Result<Vec<Vec<Vec<u8>>>, String> {
        let input: Vec<u8> = launches.iter().flat_map(|launch| self.encode(launch)).collect();
        let mut child = Command::new(self.path())
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
        Ok(launches.iter().map(|launch| launch.views.iter().map(|view| take(view.len())).collect()).collect())
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("kernels")
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

fn entry(kernel: &Kernel) -> String {
    let prepare = kernel.prepare.as_ref().map_or("0", |phase| &phase.symbol);
    format!("    {{{{{prepare}, {}}}}},\n", kernel.main.symbol)
}
