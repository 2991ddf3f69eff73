//! A session: sequences of tokens, their pages of the cache, and logits.
//!
//! A step takes some tokens of some sequences, without padding, and runs the program's `body` over them, at most a
//! chunk at once, then its `head` over the rows that are asked for. What a sequence gets does not depend on the others
//! in the step, nor on how its tokens are cut into chunks: that is a property of the kernels, and nothing here mixes.
//!
//! Replicas, where a program has them, each have a cache of their own, and a sequence lives on one of them.
//!
//! `names` finds what a session needs in a program.

mod names;

use crate::error::RunError;
use crate::executor::{Executor, ExecutorOptions};
use crate::pages::PagePool;
use crate::profile::{Detail, Profile, StageKind};
use crate::weights::Pages;
use bloomery_artifact::Artifact;
use bloomery_ir::work::Span;
use names::Names;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How to make a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionOptions {
    /// A class of processors or `interpreter`; by default the best there is.
    pub class: Option<String>,
    /// How many threads; by default one per processor.
    pub threads: Option<usize>,
    /// On which pages weights are read.
    pub weights: Pages,
    /// Tokens at once; by default what the artifact was compiled for.
    pub chunk: Option<usize>,
    /// Pages of the cache, for all sequences together; see [`pages_needed`]. Every replica can have so many.
    pub pages: usize,
}

/// A sequence of one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceId(usize);

/// Of which rows logits are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// None.
    Nothing,
    /// The last.
    Last,
    /// From this one of the chunk on.
    From(usize),
    /// Every one.
    All,
}

/// The next tokens of a sequence.
#[derive(Clone, Copy, Debug)]
pub struct Chunk<'a> {
    /// Which sequence.
    pub sequence: SequenceId,
    /// Its next tokens.
    pub ids: &'a [u32],
    /// Of which of them logits are wanted.
    pub want: Want,
}

/// An artifact at work.
pub struct Session {
    executor: Executor,
    names: Names,
    /// By replica.
    pages: Vec<PagePool>,
    sequences: Vec<Option<Sequence>>,
    chunk: usize,
    context: u64,
    computed: u64,
}

struct Sequence {
    /// Where it lives.
    replica: usize,
    /// Tokens in the cache.
    length: usize,
    pages: Vec<i32>,
}

/// Some tokens of one chunk. Pieces that run together are of one replica.
struct Piece {
    chunk: usize,
    /// The first of them in the chunk.
    from: usize,
    count: usize,
}

impl Session {
    /// Takes memory and maps code.
    ///
    /// # Errors
    /// A class that does not run here, no memory, a program of another kind.
    pub fn new(artifact: Arc<Artifact>, options: &SessionOptions) -> Result<Session, RunError> {
        let names = Names::of(artifact.program())?;
        let fixed = vec![("C".to_owned(), options.pages.max(1) as u64)];
        let executor =
            ExecutorOptions { class: options.class.clone(), threads: options.threads, weights: options.weights, fixed };
        let chunk = options.chunk.unwrap_or(names.tokens_most).clamp(1, names.tokens_most);
        let context = context_of(&artifact, &names);
        let replicas = artifact.program().replicas;
        let executor = Executor::new(artifact, &executor)?;
        let pages = (0..replicas).map(|_| PagePool::new(options.pages.max(1))).collect();
        Ok(Session { executor, names, pages, sequences: Vec::new(), chunk, context, computed: 0 })
    }

    /// What runs the program.
    pub fn executor(&self) -> &Executor {
        &self.executor
    }

    /// Records what steps do from now on; a recording that runs is dropped.
    ///
    /// # Errors
    /// Times of kernels on the interpreter.
    pub fn record(&mut self, detail: Detail) -> Result<(), RunError> {
        self.executor.record(detail)
    }

    /// Ends a recording and returns it, if one runs.
    pub fn recorded(&mut self) -> Option<Profile> {
        self.executor.recorded()
    }

    /// How many calls of entries the recording that runs holds.
    pub fn calls(&self) -> usize {
        self.executor.calls()
    }

    /// Ids below this are known.
    pub fn vocabulary(&self) -> usize {
        self.names.vocabulary
    }

    /// Tokens a sequence may have.
    pub fn context(&self) -> usize {
        self.context as usize
    }

    /// Tokens that run at once.
    pub fn chunk(&self) -> usize {
        self.chunk
    }

    /// Tokens of a page of the cache.
    pub fn page_tokens(&self) -> usize {
        self.names.page_tokens
    }

    /// Tokens that went through the model so far, of all sequences.
    pub fn computed(&self) -> u64 {
        self.computed
    }

    /// Free pages of the cache, of all replicas.
    pub fn free_pages(&self) -> usize {
        self.pages.iter().map(PagePool::free).sum()
    }

    /// Copies of the model that sequences are dealt out to.
    pub fn replicas(&self) -> usize {
        self.pages.len()
    }

    /// A new, empty sequence, on the replica that has fewest.
    pub fn start(&mut self) -> SequenceId {
        let of = |replica: &usize| self.sequences.iter().flatten().filter(|held| held.replica == *replica).count();
        let replica = (0..self.replicas()).min_by_key(of).expect("there is a replica");
        self.start_on(replica)
    }

    /// A new, empty sequence on a replica.
    ///
    /// # Panics
    /// When there is none of this number.
    pub fn start_on(&mut self, replica: usize) -> SequenceId {
        assert!(replica < self.replicas(), "replica {replica} of {}", self.replicas());
        let free = self.sequences.iter().position(Option::is_none);
        let index = free.unwrap_or(self.sequences.len());
        if free.is_none() {
            self.sequences.push(None);
        }
        self.sequences[index] = Some(Sequence { replica, length: 0, pages: vec![] });
        SequenceId(index)
    }

    /// A new sequence that begins with another's first tokens, beside it. It shares their pages; the last one, if it is not full,
    /// is copied when either is continued.
    ///
    /// # Panics
    /// When the other was ended, or has fewer tokens.
    pub fn fork(&mut self, from: SequenceId, length: usize) -> SequenceId {
        let source = self.sequence(from);
        assert!(length <= source.length, "{length} tokens of a sequence of {}", source.length);
        let (replica, pages) = (source.replica, source.pages[..length.div_ceil(self.names.page_tokens)].to_vec());
        pages.iter().for_each(|&page| self.pages[replica].share(page));
        let forked = self.start_on(replica);
        *self.sequence_mut(forked) = Sequence { replica, length, pages };
        forked
    }

    /// Forgets a sequence's tokens after the first `length`.
    ///
    /// # Panics
    /// When it was ended, or has fewer tokens.
    pub fn truncate(&mut self, sequence: SequenceId, length: usize) {
        let kept = length.div_ceil(self.names.page_tokens);
        let held = self.sequence_mut(sequence);
        assert!(length <= held.length, "{length} tokens of a sequence of {}", held.length);
        held.length = length;
        let (replica, gone) = (held.replica, held.pages.split_off(kept));
        gone.into_iter().for_each(|page| self.pages[replica].release(page));
    }

    /// Tokens a sequence has in the cache.
    ///
    /// # Panics
    /// When it was ended.
    pub fn length(&self, sequence: SequenceId) -> usize {
        self.sequence(sequence).length
    }

    /// Ends a sequence; its pages are free again.
    ///
    /// # Panics
    /// When it was ended before.
    pub fn end(&mut self, sequence: SequenceId) {
        let ended = self.sequences[sequence.0].take().expect("a sequence is ended once");
        ended.pages.into_iter().for_each(|page| self.pages[ended.replica].release(page));
    }

    /// Runs tokens through the model. `row` gets the logits of each row that is wanted: chunk, row in it, logits; in
    /// order of chunks and rows, of one replica after another.
    ///
    /// # Errors
    /// Before anything runs: a chunk without tokens, ids outside the vocabulary, more tokens than the context, no free
    /// pages. Later: damaged weights.
    ///
    /// # Panics
    /// When a sequence was ended, or is there twice.
    pub fn step(&mut self, chunks: &[Chunk<'_>], mut row: impl FnMut(usize, usize, &[f32])) -> Result<(), RunError> {
        self.check(chunks)?;
        self.take_pages(chunks)?;
        for pieces in self.runs(chunks) {
            self.body(chunks, &pieces)?;
            self.head(chunks, &pieces, &mut row)?;
        }
        Ok(())
    }

    fn sequence(&self, id: SequenceId) -> &Sequence {
        self.sequences[id.0].as_ref().expect("the sequence was not ended")
    }

    fn sequence_mut(&mut self, id: SequenceId) -> &mut Sequence {
        self.sequences[id.0].as_mut().expect("the sequence was not ended")
    }

    fn check(&self, chunks: &[Chunk<'_>]) -> Result<(), RunError> {
        let distinct: BTreeSet<SequenceId> = chunks.iter().map(|chunk| chunk.sequence).collect();
        assert_eq!(distinct.len(), chunks.len(), "a sequence is in a step once");
        chunks.iter().try_for_each(|chunk| self.check_ids(chunk.ids, self.length(chunk.sequence)))
    }

    /// Refuses ids that cannot follow so many tokens of a sequence.
    pub(crate) fn check_ids(&self, ids: &[u32], before: usize) -> Result<(), RunError> {
        if ids.is_empty() {
            return Err(RunError::Empty);
        }
        check_ids(ids, self.names.vocabulary)?;
        let tokens = (before + ids.len()) as u64;
        if tokens > self.context {
            return Err(RunError::Context { tokens, context: self.context });
        }
        Ok(())
    }

    /// Takes the pages that chunks will be written to: new ones at their ends, and copies of unfinished ones that other
    /// sequences hold too.
    fn take_pages(&mut self, chunks: &[Chunk<'_>]) -> Result<(), RunError> {
        for replica in 0..self.replicas() {
            let of_replica: Vec<&Chunk<'_>> = self.on(replica, chunks).map(|(_, chunk)| chunk).collect();
            let new: usize = of_replica.iter().map(|chunk| self.missing(chunk)).sum();
            let (needed, free) = (new + self.copies(replica, &of_replica), self.pages[replica].free());
            if needed > free {
                return Err(RunError::Pages { needed, free });
            }
        }
        for chunk in chunks {
            self.own_last_page(chunk.sequence);
            let replica = self.sequence(chunk.sequence).replica;
            for _ in 0..self.missing(chunk) {
                let page = self.pages[replica].take().expect("free pages were counted");
                self.sequence_mut(chunk.sequence).pages.push(page);
            }
        }
        Ok(())
    }

    /// Chunks of a replica's sequences, with their numbers.
    fn on<'a, 'b>(&'a self, replica: usize, chunks: &'a [Chunk<'b>]) -> impl Iterator<Item = (usize, &'a Chunk<'b>)> {
        chunks.iter().enumerate().filter(move |(_, chunk)| self.sequence(chunk.sequence).replica == replica)
    }

    /// Pages that a chunk needs and its sequence does not have.
    fn missing(&self, chunk: &Chunk<'_>) -> usize {
        let sequence = self.sequence(chunk.sequence);
        let pages = (sequence.length + chunk.ids.len()).div_ceil(self.names.page_tokens);
        pages.saturating_sub(sequence.pages.len())
    }

    /// How many unfinished pages must be copied before chunks are written: of a page's holders the last one keeps it.
    fn copies(&self, replica: usize, chunks: &[&Chunk<'_>]) -> usize {
        let mut left: BTreeMap<i32, u32> = BTreeMap::new();
        let mut copies = 0;
        for page in chunks.iter().filter_map(|chunk| self.unfinished_page(chunk.sequence)) {
            let left = left.entry(page).or_insert_with(|| self.pages[replica].holders(page));
            if *left > 1 {
                *left -= 1;
                copies += 1;
            }
        }
        copies
    }

    /// The page a sequence's next token goes to, if it has one already.
    fn unfinished_page(&self, sequence: SequenceId) -> Option<i32> {
        let sequence = self.sequence(sequence);
        sequence.pages.get(sequence.length / self.names.page_tokens).copied()
    }

    /// Copies the page a sequence will write to if others hold it too.
    fn own_last_page(&mut self, id: SequenceId) {
        let (replica, page) = (self.sequence(id).replica, self.unfinished_page(id));
        let pool = &mut self.pages[replica];
        let Some(page) = page.filter(|&page| pool.is_shared(page)) else { return };
        let copy = pool.take().expect("free pages were counted");
        pool.release(page);
        let count = pool.len() as u64;
        *self.sequence_mut(id).pages.last_mut().expect("it has the page") = copy;
        for &state in &self.names.caches {
            for (stride, bytes) in self.executor.states_mut(replica, state) {
                let page_bytes = (stride / count) as usize;
                for layer in bytes.chunks_exact_mut(stride as usize) {
                    let from = page as usize * page_bytes;
                    layer.copy_within(from..from + page_bytes, copy as usize * page_bytes);
                }
            }
        }
    }

    /// Cuts chunks into runs of bounded numbers of tokens and sequences, in order, of one replica after another.
    fn runs(&self, chunks: &[Chunk<'_>]) -> Vec<Vec<Piece>> {
        let mut runs: Vec<Vec<Piece>> = Vec::new();
        for replica in 0..self.replicas() {
            let mut room = 0;
            for (i, chunk) in self.on(replica, chunks) {
                let mut from = 0;
                while from < chunk.ids.len() {
                    if room == 0 || runs.last().is_none_or(|run| run.len() == self.names.sequences_most) {
                        runs.push(Vec::new());
                        room = self.chunk;
                    }
                    let count = room.min(chunk.ids.len() - from);
                    if let Some(run) = runs.last_mut() {
                        run.push(Piece { chunk: i, from, count });
                    }
                    from += count;
                    room -= count;
                }
            }
        }
        runs
    }

    fn body(&mut self, chunks: &[Chunk<'_>], pieces: &[Piece]) -> Result<(), RunError> {
        let held = |piece: &Piece| self.sequence(chunks[piece.chunk].sequence);
        let ids = pieces.iter().flat_map(|p| &chunks[p.chunk].ids[p.from..p.from + p.count]).map(|&id| id as i32);
        let mut ids: Vec<i32> = ids.collect();
        let tokens = ids.len();
        // Rows of no sequence, whatever their id: caches and attention pass over them, and nobody reads what they become.
        ids.resize(tokens.next_multiple_of(self.names.tokens_multiple), 0);
        let width =
            pieces.iter().map(|p| (held(p).length + p.count).div_ceil(self.names.page_tokens)).max().unwrap_or(1);
        let (mut rows, mut pages, mut start) = (Vec::new(), Vec::new(), 0);
        for piece in pieces {
            let sequence = held(piece);
            rows.extend([start, piece.count as i32, sequence.length as i32]);
            start += piece.count as i32;
            // Pages beyond the last token are never read; entries of shorter sequences are filled up with 0.
            pages.extend((0..width).map(|i| sequence.pages.get(i).copied().unwrap_or(0)));
        }
        let shared = ids.len() / self.names.tokens_multiple;
        let sizes = [shared, pieces.len(), width, 1];
        let replica = held(&pieces[0]).replica;
        let span = |piece: &Piece| Span { first: held(piece).length as u64, tokens: piece.count as u64 };
        let spans: Vec<Span> = pieces.iter().map(span).collect();
        if let Some(recorder) = self.executor.recorder() {
            recorder.expect(spans);
        }
        for (io, values) in [(self.names.ids, &ids), (self.names.rows, &rows), (self.names.pages, &pages)] {
            put(self.executor.io_mut(replica, io), values);
        }
        self.run(replica, "body", shared, sizes)?;
        self.computed += tokens as u64;
        for piece in pieces {
            self.sequence_mut(chunks[piece.chunk].sequence).length += piece.count;
        }
        Ok(())
    }

    fn head(
        &mut self,
        chunks: &[Chunk<'_>],
        pieces: &[Piece],
        row: &mut impl FnMut(usize, usize, &[f32]),
    ) -> Result<(), RunError> {
        let tokens: usize = pieces.iter().map(|piece| piece.count).sum();
        let shared = tokens.div_ceil(self.names.tokens_multiple);
        let wanted = wanted(chunks, pieces);
        let mut logits = vec![0.0; self.names.vocabulary];
        let replica = self.sequence(chunks[pieces[0].chunk].sequence).replica;
        for part in wanted.chunks(self.names.picks_most) {
            let picks: Vec<i32> = part.iter().map(|(flat, ..)| *flat as i32).collect();
            put(self.executor.io_mut(replica, self.names.pick), &picks);
            self.run(replica, "head", part.len(), [shared, 1, 1, part.len()])?;
            let begin = self.executor.recorder().map_or(0, |recorder| recorder.now());
            let bytes = self.executor.io(replica, self.names.logits);
            for ((_, chunk, position), bytes) in part.iter().zip(bytes.chunks_exact(4 * logits.len())) {
                get(bytes, &mut logits);
                row(*chunk, *position, &logits);
            }
            if let Some(recorder) = self.executor.recorder() {
                recorder.stage(StageKind::Sampling, begin);
            }
        }
        Ok(())
    }

    /// Runs an entry on a replica for so many rows; sizes are those of N, of which ranks may share a multiple, S, P, R.
    fn run(&mut self, replica: usize, group: &str, rows: usize, sizes: [usize; 4]) -> Result<(), RunError> {
        let program = self.executor.artifact().program();
        let takes = |entry: &bloomery_ir::program::Entry| {
            entry.group == group && (entry.least..=entry.most).contains(&(rows as u64))
        };
        let entry = program.entries.iter().position(takes);
        let entry = entry.ok_or_else(|| RunError::Program(format!("has no entry `{group}` for {rows} rows")))?;
        let size = |name: &str| ["N", "S", "P", "R"].iter().position(|n| *n == name).map(|i| sizes[i]);
        let value = |symbol: &bloomery_ir::SymbolBound| match symbol.name.as_str() {
            "C" => self.pages[replica].len() as u32,
            name => size(name).map_or(symbol.least as u32, |size| size as u32),
        };
        let dims: Vec<u32> = program.symbols.iter().map(value).collect();
        self.executor.run(replica, entry, &dims)
    }
}

/// Rows whose logits are wanted: row of the run, chunk, row in the chunk.
fn wanted(chunks: &[Chunk<'_>], pieces: &[Piece]) -> Vec<(usize, usize, usize)> {
    let mut wanted = Vec::new();
    let mut start = 0;
    for piece in pieces {
        let (chunk, end) = (&chunks[piece.chunk], piece.from + piece.count);
        let first = match chunk.want {
            Want::Nothing => end,
            Want::Last => end.min(chunk.ids.len() - 1).max(piece.from),
            Want::From(first) => end.min(first).max(piece.from),
            Want::All => piece.from,
        };
        wanted.extend((first..end).map(|position| (start + position - piece.from, piece.chunk, position)));
        start += piece.count;
    }
    wanted
}

/// Refuses ids the model does not know.
///
/// # Errors
/// The first of them.
pub fn check_ids(ids: &[u32], vocabulary: usize) -> Result<(), RunError> {
    let outside = ids.iter().find(|id| **id as usize >= vocabulary);
    outside.map_or(Ok(()), |&id| Err(RunError::Id { id, vocabulary: vocabulary as u32 }))
}

/// Pages that sequences of these lengths take together.
///
/// # Errors
/// A program without a cache.
pub fn pages_needed(artifact: &Artifact, lengths: impl IntoIterator<Item = usize>) -> Result<usize, RunError> {
    let names = Names::of(artifact.program())?;
    let context = context_of(artifact, &names) as usize;
    Ok(lengths.into_iter().map(|length| length.min(context).div_ceil(names.page_tokens)).sum())
}

/// Tokens of a sequence: what the artifact says, as far as its page table is wide enough.
fn context_of(artifact: &Artifact, names: &Names) -> u64 {
    let reach = names.width_most as u64 * names.page_tokens as u64;
    match artifact.meta().max_context {
        0 => reach,
        stated => reach.min(u64::from(stated)),
    }
}

fn put(bytes: &mut [u8], values: &[i32]) {
    bytes.chunks_exact_mut(4).zip(values).for_each(|(bytes, value)| bytes.copy_from_slice(&value.to_le_bytes()));
}

fn get(bytes: &[u8], values: &mut [f32]) {
    let read = |bytes: &[u8]| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    bytes.chunks_exact(4).zip(values).for_each(|(bytes, value)| *value = read(bytes));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{CONTEXT, VOCABULARY, artifact};

    fn session(pages: usize, chunk: Option<usize>) -> Session {
        Session::new(artifact(), &SessionOptions { chunk, pages, ..SessionOptions::default() }).unwrap()
    }

    fn refused(chunk: &[u32]) -> String {
        let mut session = session(3, None);
        let sequence = session.start();
        let chunk = Chunk { sequence, ids: chunk, want: Want::Last };
        let error = session.step(&[chunk], |_, _, _| panic!("nothing runs")).unwrap_err();
        assert_eq!((session.length(sequence), session.free_pages()), (0, 3));
        error.to_string()
    }

    #[test]
    fn what_cannot_run_is_refused_before_it_does() {
        assert!(refused(&[1, VOCABULARY]).contains("token id 11 is outside the vocabulary of 11 (0 to 10)"));
        let long = vec![1; CONTEXT + 1];
        assert!(refused(&long).contains("15 tokens do not fit the context of 14"));
        assert!(refused(&[]).contains("no tokens are given"));
        assert!(refused(&[1; 13]).contains("3 free pages, 4 are needed"));
    }

    #[test]
    fn pages_come_back() {
        let mut session = session(4, None);
        let (one, two) = (session.start(), session.start());
        let chunk = |sequence, ids| Chunk { sequence, ids, want: Want::Nothing };
        session.step(&[chunk(one, &[1, 2, 3]), chunk(two, &[4, 5, 6, 7, 8])], |_, _, _| {}).unwrap();
        assert_eq!((session.length(two), session.free_pages()), (5, 1));
        session.end(two);
        assert_eq!((session.free_pages(), session.start()), (3, two));
    }

    /// Logits after a sequence's next tokens.
    fn after(session: &mut Session, sequence: SequenceId, ids: &[u32]) -> Vec<f32> {
        let mut logits = Vec::new();
        let chunk = Chunk { sequence, ids, want: Want::Last };
        session.step(&[chunk], |_, _, row| logits = row.to_vec()).unwrap();
        logits
    }

    #[test]
    fn forks_share_pages_until_they_are_continued() {
        let mut session = session(8, None);
        let whole = session.start();
        after(&mut session, whole, &[1, 2, 3, 4, 5, 6]);
        let fork = session.fork(whole, 6);
        assert_eq!((session.free_pages(), session.length(fork)), (6, 6));
        // Of the unfinished page one becomes two; the other page stays shared.
        let [one, two] = [(whole, 7), (fork, 8)].map(|(sequence, id)| after(&mut session, sequence, &[id]));
        assert_eq!(session.free_pages(), 5);
        for (id, found) in [(7, one), (8, two)] {
            let alone = session.start();
            assert_eq!(after(&mut session, alone, &[1, 2, 3, 4, 5, 6, id]), found);
            session.end(alone);
        }
        session.end(whole);
        assert_eq!(session.free_pages(), 6);
        session.end(fork);
        assert_eq!((session.free_pages(), session.computed()), (8, 6 + 2 + 14));
    }

    #[test]
    fn both_continue_in_one_step_with_one_free_page() {
        let mut session = session(2, None);
        let one = session.start();
        after(&mut session, one, &[1, 2]);
        let two = session.fork(one, 1);
        let chunk = |sequence, ids| Chunk { sequence, ids, want: Want::Nothing };
        session.step(&[chunk(one, &[3]), chunk(two, &[4])], |_, _, _| {}).unwrap();
        assert_eq!((session.free_pages(), session.length(one), session.length(two)), (0, 3, 2));
    }

    #[test]
    fn a_truncated_sequence_goes_on_from_there() {
        let mut session = session(4, None);
        let sequence = session.start();
        after(&mut session, sequence, &[1, 2, 3, 4, 5, 6]);
        session.truncate(sequence, 3);
        assert_eq!((session.free_pages(), session.length(sequence)), (3, 3));
        let found = after(&mut session, sequence, &[9, 8]);
        let alone = session.start();
        assert_eq!(after(&mut session, alone, &[1, 2, 3, 9, 8]), found);
    }

    #[test]
    fn logits_from_a_row_on_whatever_the_chunks() {
        for chunk in [1, 2, 4] {
            let mut session = session(4, Some(chunk));
            let sequence = session.start();
            let mut rows = Vec::new();
            let chunk = Chunk { sequence, ids: &[1, 2, 3, 4, 5], want: Want::From(3) };
            session.step(&[chunk], |_, row, _| rows.push(row)).unwrap();
            assert_eq!(rows, [3, 4]);
        }
    }

    #[test]
    fn classes_that_are_not_there_are_named() {
        let options = SessionOptions { class: Some("x86-64-v3".into()), pages: 1, ..SessionOptions::default() };
        let error = Session::new(artifact(), &options).err().unwrap().to_string();
        assert!(error.contains("no code for x86-64-v3; it has none"), "{error}");
    }
}
