//! Programs on the processor: steps resolved to addresses, walked by every thread of a team.
//!
//! Launches of one wave run side by side: their tiles form one row of work from which threads claim pieces; the next
//! phase begins when all of them are done. Which thread computes a tile changes nothing about its result.
//!
//! Ranks go through the steps together: a step's launches are those of all ranks, side by side, and a collective is work
//! like any other, by the same threads. So nobody waits for anybody but at the ends of waves, two ranks on two threads
//! are as fast as one, and any number of them works on any number of threads. Stages of a pipeline come one after another,
//! each with all threads: none of them is idle while another works.

use crate::error::RunError;
use crate::launcher::{Call, Code, PhaseName, copy, sequence_lengths, sum, usable_image};
use crate::memory::{Block, Buffers, Found};
use crate::profile::{Log, PageCount, PageCounter, Watch, watched};
use crate::threads::{Team, Worker};
use bloomery_artifact::{Artifact, Tiles, WeightTable, sizes};
use bloomery_ir::program::{ALIGNMENT, Collective, Launch, Step, View};
use bloomery_ir::{Bindings, Layout, Program, TensorType};
use std::ops::Range;
use std::sync::{Arc, Mutex};

/// A program's code and its plan.
pub(crate) struct Native {
    plan: Arc<Plan>,
    team: Team,
    /// Scratch of launches.
    shared: Block,
    /// Scratch of workers, one after another.
    local: Block,
}

/// What workers share.
struct Plan {
    code: Code,
    /// By entry.
    entries: Vec<Vec<Item>>,
    /// Bytes of each worker's scratch.
    local: usize,
}

/// Elements that a thread sums at once.
const COLLECTIVE_PIECE: usize = 4096;

/// A step, resolved.
enum Item {
    Wave(Vec<Launched>),
    /// By rank.
    Copy {
        ranks: Vec<[Address; 2]>,
        ty: TensorType,
        layout: Layout,
    },
    Collective(Together),
    Loop {
        layers: Vec<u64>,
        items: Vec<Item>,
    },
}

struct Launched {
    /// Which launch of its entry.
    index: usize,
    kernel: usize,
    views: Vec<Address>,
}

/// What ranks do together.
struct Together {
    what: Collective,
    /// Ranks that do it together: what each has, and where each gets the result.
    groups: Vec<Vec<[Address; 2]>>,
    /// What each has.
    ty: TensorType,
}

/// `bases[base] + offset + layer * stride`
struct Address {
    base: usize,
    offset: u64,
    stride: u64,
}

/// One run of an entry: everything a worker needs besides the plan.
struct Run {
    plan: Arc<Plan>,
    entry: usize,
    dims: Vec<u32>,
    /// Tiles of both phases by launch, counted before the run: a worker that is late reads no memory of it.
    tiles: Vec<[u32; 2]>,
    bindings: Bindings,
    /// Addresses of arena, weights, states, inputs and outputs.
    bases: Vec<usize>,
    shared: usize,
    local: usize,
    /// What all workers came to of the cache.
    pages: Arc<PageCounter>,
    /// Where workers write how long things took, if somebody wants to know.
    log: Option<Arc<Log>>,
}

/// A phase of a wave's launches.
struct Phase<'a> {
    name: PhaseName,
    launches: &'a [Launched],
    /// Addresses, by launch.
    views: &'a [Vec<usize>],
}

impl Native {
    /// Maps the code of a class and resolves all steps for the given memory.
    pub(crate) fn new(
        artifact: &Artifact,
        class: &str,
        threads: usize,
        buffers: &Buffers,
        most: &[u32],
    ) -> Result<Native, RunError> {
        let image = usable_image(artifact, class)?;
        let code = Code::map(artifact, &image)?;
        let program = artifact.program();
        let resolver = Resolver { program, table: artifact.weight_table(), buffers };
        let entries: Vec<Vec<Item>> =
            program.entries.iter().map(|entry| resolver.items(&entry.steps, resolver.all(), &mut 0)).collect();
        let shared = entries.iter().map(|items| shared_most(&code, items, most)).max().unwrap_or(0);
        let local = code.kernels().iter().map(|kernel| kernel.code.local).max().unwrap_or(0);
        let local = local.next_multiple_of(4096);
        let team = Team::new(threads);
        let shared = Block::new("scratch", shared)?;
        let local_block = Block::new("scratch", local.saturating_mul(team.threads() as u64))?;
        let plan = Arc::new(Plan { code, entries, local: local as usize });
        Ok(Native { plan, team, shared, local: local_block })
    }

    /// How many threads work.
    pub(crate) fn threads(&self) -> usize {
        self.team.threads()
    }

    /// Runs an entry, and returns which pages of the cache that took. The caller has checked the sizes.
    pub(crate) fn run(
        &mut self,
        weights: &[u8],
        entry: usize,
        dims: &[u32],
        bindings: Bindings,
        buffers: &mut Buffers,
        log: Option<Arc<Log>>,
    ) -> PageCount {
        let pages = Arc::<PageCounter>::default();
        let bases = buffers.bases(weights.as_ptr().expose_provenance());
        let mut run = Run {
            plan: Arc::clone(&self.plan),
            entry,
            dims: dims.to_vec(),
            tiles: vec![],
            bindings,
            bases,
            shared: self.shared.address(),
            local: self.local.address(),
            pages: Arc::clone(&pages),
            log,
        };
        run.tiles = run.count_tiles(&self.plan.entries[entry]);
        // `buffers` and scratch are borrowed for as long as this call takes, and all pieces are done when it returns.
        let watched = run.log.is_some();
        let job = Arc::new(move |worker: &Worker<'_>| run.items(&run.plan.entries[run.entry], 0, worker));
        if watched {
            self.team.run_together(job)
        } else {
            self.team.run(job)
        }
        pages.total()
    }

    /// Compares pieces of the weights with their hashes, all threads together.
    pub(crate) fn check_pieces(&mut self, artifact: &Arc<Artifact>, pieces: Vec<usize>) -> Result<(), RunError> {
        let error = Arc::new(Mutex::new(None));
        let (seen, artifact) = (Arc::clone(&error), Arc::clone(artifact));
        self.team.run(Arc::new(move |worker: &Worker<'_>| {
            worker.phase(pieces.len() as u32, |some| {
                for &piece in &pieces[some.start as usize..some.end as usize] {
                    if let Err(error) = artifact.check_piece(piece) {
                        seen.lock().expect("no panic while held").get_or_insert(error);
                    }
                }
            });
        }));
        let first = error.lock().expect("no panic while held").take();
        first.map_or(Ok(()), |error| Err(error.into()))
    }
}

/// Turns views into addresses.
struct Resolver<'a> {
    program: &'a Program,
    table: &'a WeightTable,
    buffers: &'a Buffers,
}

impl Resolver<'_> {
    fn all(&self) -> Range<u64> {
        0..self.program.mesh.ranks()
    }

    /// What these ranks do. Neighbouring launches of one wave become one item; `launches` counts them.
    fn items(&self, steps: &[Step], ranks: Range<u64>, launches: &mut usize) -> Vec<Item> {
        let mut items = Vec::new();
        let mut wave = None;
        for step in steps {
            let now = if let Step::Launch(launch) = step { Some(launch.wave) } else { None };
            match (step, items.last_mut()) {
                (Step::Launch(launch), Some(Item::Wave(beside))) if now == wave => {
                    beside.extend(self.launch(launch, ranks.clone(), launches));
                }
                (Step::Launch(launch), _) => items.push(Item::Wave(self.launch(launch, ranks.clone(), launches))),
                (Step::Copy { from, to }, _) => items.push(self.copy(from, to, ranks.clone(), 0)),
                (Step::Send { what }, _) => items.push(self.copy(what, what, ranks.clone(), ranks.end - ranks.start)),
                (Step::Collective { what, over, from, to }, _) => {
                    items.push(Item::Collective(self.collective(*what, over, [from, to], ranks.clone())));
                }
                (Step::Stage { stages, steps }, _) => {
                    let of = |stage| self.items(steps, self.program.ranks_of(stage), launches);
                    items.extend(stages.clone().flat_map(of));
                }
                (Step::Loop { from, to, reverse, steps }, _) => {
                    let layers = if *reverse { (*from..*to).rev().collect() } else { (*from..*to).collect() };
                    items.push(Item::Loop { layers, items: self.items(steps, ranks.clone(), launches) });
                }
            }
            wave = now;
        }
        items
    }

    /// A copy on every rank, to a rank so much further on.
    fn copy(&self, from: &View, to: &View, ranks: Range<u64>, further: u64) -> Item {
        let of = |rank| [self.address(rank, from), self.address(rank + further, to)];
        Item::Copy { ranks: ranks.map(of).collect(), ty: from.ty.clone(), layout: from.layout.clone() }
    }

    /// A launch on every rank.
    fn launch(&self, launch: &Launch, ranks: Range<u64>, launches: &mut usize) -> Vec<Launched> {
        let of = |rank| {
            let views = launch.inputs.iter().chain(&launch.outputs);
            let views = views.map(|view| self.address(rank, view)).collect();
            *launches += 1;
            Launched { index: *launches - 1, kernel: launch.kernel, views }
        };
        ranks.map(of).collect()
    }

    fn collective(&self, what: Collective, over: &str, [from, to]: [&View; 2], ranks: Range<u64>) -> Together {
        let group = |rank| self.program.mesh.group(rank, over);
        let firsts = ranks.filter(|rank| group(*rank)[0] == *rank);
        let addresses = |rank| [from, to].map(|view| self.address(rank, view));
        let groups = firsts.map(|first| group(first).into_iter().map(addresses).collect()).collect();
        Together { what, groups, ty: from.ty.clone() }
    }

    fn address(&self, rank: u64, view: &View) -> Address {
        let Found { base, offset, stride } = self.buffers.find(self.program, self.table, rank, view.place);
        Address { base, offset, stride: if view.per_layer { stride } else { 0 } }
    }
}

/// The largest scratch that any wave's launches take together.
fn shared_most(code: &Code, items: &[Item], most: &[u32]) -> u64 {
    let of = |item: &Item| match item {
        Item::Wave(launches) => {
            launches.iter().map(|launch| shared_bytes(code, launch.kernel, most)).fold(0, u64::saturating_add)
        }
        Item::Copy { .. } | Item::Collective(_) => 0,
        Item::Loop { items, .. } => shared_most(code, items, most),
    };
    items.iter().map(of).max().unwrap_or(0)
}

fn shared_bytes(code: &Code, kernel: usize, dims: &[u32]) -> u64 {
    let shared = &code.kernel(kernel).code.shared;
    let rows = shared.per_row.saturating_mul(shared.count.value(dims) as u64);
    shared.fixed.saturating_add(rows).checked_next_multiple_of(ALIGNMENT).unwrap_or(u64::MAX)
}

impl Run {
    fn items(&self, items: &[Item], layer: u64, worker: &Worker<'_>) {
        for item in items {
            match item {
                Item::Wave(launches) => self.wave(launches, layer, worker),
                Item::Copy { ranks, ty, layout } => self.copy(ranks, ty, layout, layer, worker),
                Item::Collective(collective) => self.collective(collective, layer, worker),
                Item::Loop { layers, items } => layers.iter().for_each(|&layer| self.items(items, layer, worker)),
            }
        }
    }

    fn wave(&self, launches: &[Launched], layer: u64, worker: &Worker<'_>) {
        let views: Vec<Vec<usize>> = launches.iter().map(|launch| self.addresses(&launch.views, layer)).collect();
        for name in [PhaseName::Prepare, PhaseName::Main] {
            let total = launches.iter().map(|launch| self.tiles[launch.index][name as usize]).sum();
            if total > 0 {
                self.phase(&Phase { name, launches, views: &views }, total, worker);
            }
        }
    }

    fn phase(&self, phase: &Phase<'_>, total: u32, worker: &Worker<'_>) {
        let kernels = || phase.launches.iter().map(|launch| Some(launch.kernel));
        let mut watch = self.log.as_deref().map(|log| Watch::begin(log, worker.index, phase.name, kernels()));
        worker.phase(total, |piece| self.piece(phase, piece, worker.index, &mut watch));
        if let Some(watch) = watch {
            watch.end();
        }
    }

    /// Tiles of the wave counted through all its launches.
    fn piece(&self, phase: &Phase<'_>, piece: std::ops::Range<u32>, worker: usize, watch: &mut Option<Watch<'_>>) {
        let (mut first, mut shared) = (0, self.shared);
        let local = self.local + worker * self.plan.local;
        for (i, launch) in phase.launches.iter().enumerate() {
            let count = self.tiles[launch.index][phase.name as usize];
            let (begin, end) = (piece.start.max(first), piece.end.min(first + count));
            if begin < end {
                let mut pages = PageCount::default();
                let call = Call::new(&phase.views[i], &self.dims, shared, local, &mut pages);
                let kernel = self.plan.code.kernel(launch.kernel);
                watched(watch.as_mut(), i, end - begin, || {
                    #[allow(unsafe_code, reason = "runs a kernel on the memory it was resolved for")]
                    // SAFETY: the addresses are those of the checked program's views in buffers sized for the symbols'
                    // bounds, which the executor compared with `dims`; scratch is sized by `shared_most` and `local`.
                    // The caller of `Native::run` lends all of it until every piece is done.
                    unsafe {
                        kernel.run(phase.name, &call, begin - first..end - first);
                    }
                });
                if pages.seen > 0 {
                    self.pages.add(pages);
                    watch.iter_mut().for_each(|watch| watch.pages(i, pages));
                }
            }
            first += count;
            shared += shared_bytes(&self.plan.code, launch.kernel, &self.dims) as usize;
        }
    }

    /// Tiles of both phases of every launch, in their order.
    fn count_tiles(&self, items: &[Item]) -> Vec<[u32; 2]> {
        let of = |item: &Item| match item {
            Item::Wave(launches) => launches.iter().map(|launch| self.tiles_of(launch)).collect(),
            Item::Copy { .. } | Item::Collective(_) => vec![],
            Item::Loop { items, .. } => self.count_tiles(items),
        };
        items.iter().flat_map(of).collect()
    }

    fn tiles_of(&self, launch: &Launched) -> [u32; 2] {
        let code = &self.plan.code.kernel(launch.kernel).code;
        [code.prepare.as_ref(), Some(&code.main)].map(|phase| {
            let Some(phase) = phase else { return 0 };
            let sequences = match phase.tiles {
                Tiles::Blocks { count, .. } => count.value(&self.dims),
                Tiles::Rows { .. } => 0,
            };
            #[allow(unsafe_code, reason = "reads the table of sequences")]
            // SAFETY: the artifact checked that this view is an `i32[S, 3]` with the S that `sequences` is, and an
            // input of the program, the same for all layers; no job runs yet that could write it.
            phase.tiles.count(&self.dims, |table| unsafe {
                sequence_lengths(self.resolve(&launch.views[table], 0), sequences)
            })
        })
    }

    fn copy(&self, ranks: &[[Address; 2]], ty: &TensorType, layout: &Layout, layer: u64, worker: &Worker<'_>) {
        let bytes = sizes::bytes_of(ty, layout, &self.bindings).expect("sizes were checked");
        self.moved(ranks.len() as u32, worker, |rank| {
            let [from, to] = ranks[rank as usize].each_ref().map(|address| self.resolve(address, layer));
            #[allow(unsafe_code, reason = "copies between two views")]
            // SAFETY: both views were checked to hold this type; a rank's are written by this piece of the phase alone.
            unsafe {
                copy(from, to, bytes as usize);
            }
        });
    }

    /// Sums, or slices of sums, or joins slices. What lies together and is treated alike is a run; a piece is some of one.
    fn collective(&self, together: &Together, layer: u64, worker: &Worker<'_>) {
        let Together { what, groups, ty } = together;
        let members = groups.first().map_or(1, Vec::len);
        let shape = ty.shape(&self.bindings).expect("sizes were checked");
        let from_dim = |dim: usize| shape[dim..].iter().product::<usize>();
        let (run, runs) = match *what {
            Collective::Sum => (from_dim(0), 1),
            Collective::Join { dim } => (from_dim(dim), shape[..dim].iter().product()),
            Collective::Scatter { dim } => (from_dim(dim) / members, shape[..dim].iter().product()),
        };
        let pieces = run.div_ceil(COLLECTIVE_PIECE);
        let bytes = |elements: usize| ty.dtype.bytes(elements as u64) as usize;
        self.moved((groups.len() * runs * pieces) as u32, worker, |piece| {
            let (piece, i) = (piece as usize / pieces, piece as usize % pieces);
            let (group, at) = (&groups[piece / runs], piece % runs);
            let of = |side: usize, run_of: usize| -> Vec<usize> {
                group.iter().map(|pair| self.resolve(&pair[side], layer) + bytes(run_of * run)).collect()
            };
            let (start, end) = (i * COLLECTIVE_PIECE, ((i + 1) * COLLECTIVE_PIECE).min(run));
            #[allow(unsafe_code, reason = "sums and copies between views of ranks")]
            // SAFETY: all views were checked to hold their types; what is read was written in phases before this one, and
            // of what is written each piece has places of its own.
            unsafe {
                match what {
                    Collective::Sum => sum(&of(0, at), &of(1, at), start..end),
                    Collective::Join { .. } => {
                        for (member, from) in of(0, at).iter().enumerate() {
                            for to in of(1, at * members + member) {
                                copy(from + bytes(start), to + bytes(start), bytes(end - start));
                            }
                        }
                    }
                    Collective::Scatter { .. } => {
                        for (member, to) in of(1, at).into_iter().enumerate() {
                            sum(&of(0, at * members + member), &[to], start..end);
                        }
                    }
                }
            }
        });
    }

    /// A phase that moves numbers: so many pieces.
    fn moved(&self, pieces: u32, worker: &Worker<'_>, move_piece: impl Fn(u32)) {
        let begin = |log| Watch::begin(log, worker.index, PhaseName::Main, [None]);
        let mut watch = self.log.as_deref().map(begin);
        worker.phase(pieces, |some| {
            let count = some.end - some.start;
            watched(watch.as_mut(), 0, count, || some.for_each(&move_piece));
        });
        if let Some(watch) = watch {
            watch.end();
        }
    }

    fn addresses(&self, views: &[Address], layer: u64) -> Vec<usize> {
        views.iter().map(|view| self.resolve(view, layer)).collect()
    }

    fn resolve(&self, address: &Address, layer: u64) -> usize {
        self.bases[address.base] + (address.offset + layer * address.stride) as usize
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use crate::fixture::native_artifact;
    use crate::logits::{AllLogits, all_logits};
    use crate::session::{Session, SessionOptions};
    use bloomery_artifact::Artifact;
    use std::sync::Arc;

    fn run(artifact: &Arc<Artifact>, class: Option<&str>, threads: usize, chunk: usize) -> AllLogits {
        let (class, threads, chunk) = (class.map(str::to_owned), Some(threads), Some(chunk));
        let options = SessionOptions { class, threads, chunk, pages: 16, ..SessionOptions::default() };
        let mut session = Session::new(Arc::clone(artifact), &options).unwrap();
        let prompts: Vec<Vec<u32>> = vec![vec![1, 2, 3, 4, 5, 6, 7], vec![3], vec![9, 8, 9, 1, 0], vec![5, 5]];
        all_logits(&mut session, &prompts).unwrap()
    }

    /// Kernels sum in f64 as the interpreter does; their own exponential differs in the last bits of f32.
    #[test]
    fn machine_code_computes_what_the_interpreter_does() {
        let artifact = native_artifact();
        let native = run(&artifact, None, 1, 4);
        let truth = run(&artifact, Some("interpreter"), 1, 4);
        let difference = native.data.iter().zip(&truth.data).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(difference < 1e-5 && truth.data.iter().any(|x| x.abs() > 0.1), "{difference}");
    }

    #[test]
    fn threads_and_chunks_change_no_bit() {
        let artifact = native_artifact();
        let one = run(&artifact, None, 1, 4);
        for (threads, chunk) in [(2, 4), (3, 3), (5, 1)] {
            assert_eq!(run(&artifact, Some("plain"), threads, chunk), one, "{threads} threads, chunks of {chunk}");
        }
    }
}
