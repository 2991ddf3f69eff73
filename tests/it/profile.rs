//! Recordings of compiled models: that nothing is missed or counted twice, and that work adds up.

use std::collections::BTreeMap;
use std::sync::Arc;

use bloomery_ir::Program;
use bloomery_ir::program::Step;
use bloomery_ir::work::{Sizes, Span, entry_work};
use bloomery_runtime::profile::{Detail, PageCount, Profile, StageKind};
use bloomery_runtime::{Chunk, SequenceId, Session, SessionOptions, Want, pages_needed};

use crate::compiled::{Compiled, compiled, standard};

/// Two prompts of 11 and 3 tokens in chunks of 8, then two steps of decoding.
fn session(compiled: &Compiled, class: Option<&str>, threads: usize) -> Session {
    let options = SessionOptions {
        class: class.map(str::to_owned),
        threads: Some(threads),
        chunk: Some(8),
        pages: pages_needed(&compiled.artifact, [16, 8]).unwrap(),
        ..SessionOptions::default()
    };
    Session::new(Arc::clone(&compiled.artifact), &options).unwrap()
}

fn recorded(session: &mut Session, detail: Detail) -> (Profile, Vec<Vec<f32>>) {
    let sequences: Vec<SequenceId> = (0..2).map(|_| session.start()).collect();
    let prompts: [Vec<u32>; 2] = [(1..12).collect(), vec![20, 21, 22]];
    let mut logits = Vec::new();
    let mut step = |session: &mut Session, ids: [&[u32]; 2]| {
        let chunk = |(&sequence, ids)| Chunk { sequence, ids, want: Want::Last };
        let chunks: Vec<Chunk<'_>> = sequences.iter().zip(ids).map(chunk).collect();
        session.step(&chunks, |_, _, row| logits.push(row.to_vec())).unwrap();
    };
    session.record(detail).unwrap();
    step(session, [&prompts[0], &prompts[1]]);
    step(session, [&[30], &[31]]);
    step(session, [&[32], &[33]]);
    (session.recorded().unwrap(), logits)
}

/// How often steps launch each kernel.
fn launches(steps: &[Step], times: u64, counts: &mut BTreeMap<usize, u64>) {
    for step in steps {
        match step {
            Step::Launch(launch) => *counts.entry(launch.kernel).or_default() += times,
            Step::Loop { from, to, steps, .. } => launches(steps, times * (to - from), counts),
            Step::Stage { stages, steps } => launches(steps, times * (stages.end - stages.start), counts),
            Step::Copy { .. } | Step::Send { .. } | Step::Collective { .. } => {}
        }
    }
}

fn expected(program: &Program, profile: &Profile) -> BTreeMap<usize, u64> {
    let mut counts = BTreeMap::new();
    profile.calls.iter().for_each(|call| launches(&program.entries[call.entry].steps, 1, &mut counts));
    counts
}

#[test]
#[cfg(target_arch = "x86_64")]
fn every_launch_of_the_program_is_timed_once() {
    let compiled = standard("tiny");
    let program = compiled.artifact.program();
    for threads in [1, 2, 3] {
        let mut session = session(&compiled, None, threads);
        let (profile, _) = recorded(&mut session, Detail::Events);
        let groups: Vec<&str> = profile.calls.iter().map(|call| program.entries[call.entry].group.as_str()).collect();
        // The first chunk of 8 holds no last token of a prompt, so nothing is asked of the head.
        assert_eq!(groups, ["body", "body", "head", "body", "head", "body", "head"]);
        let timed = profile.kernels.iter().take(program.kernels.len()).map(|kernel| kernel.launches).enumerate();
        assert_eq!(
            timed.filter(|(_, launches)| *launches > 0).collect::<BTreeMap<_, _>>(),
            expected(program, &profile)
        );
        events_fit(&profile, threads);
    }
}

/// Kernels take no more than their calls; a worker's events follow each other, the caller's within calls.
fn events_fit(profile: &Profile, threads: usize) {
    let calls: f64 = profile.calls.iter().map(|call| (call.end - call.begin) as f64).sum();
    let kernels: f64 = profile.kernels.iter().map(|kernel| kernel.time).sum();
    assert!(0.0 < kernels && kernels <= calls && calls <= profile.elapsed as f64, "{kernels} of {calls}");
    for pair in profile.events.windows(2).filter(|pair| pair[0].worker == pair[1].worker) {
        assert!(pair[0].begin <= pair[0].end && pair[0].end <= pair[1].begin, "{pair:?}");
    }
    let inside = |begin, end| profile.calls.iter().any(|call| call.begin <= begin && end <= call.end);
    assert!(profile.events.iter().all(|event| event.worker < threads && inside(event.begin, event.end)));
}

#[test]
#[cfg(target_arch = "x86_64")]
fn recording_changes_no_bit_and_ends() {
    let compiled = standard("tiny");
    let [plain, timed] = [Detail::Calls, Detail::Events].map(|detail| {
        let mut session = session(&compiled, None, 2);
        let recorded = recorded(&mut session, detail);
        assert!(session.recorded().is_none() && session.calls() == 0);
        recorded
    });
    assert_eq!(plain.1, timed.1);
    assert!(plain.0.kernels.is_empty() && plain.0.events.is_empty() && !timed.0.events.is_empty());
    assert_eq!(timed.0.stages.iter().filter(|stage| stage.kind == StageKind::Sampling).count(), 3);
}

#[test]
fn calls_carry_the_sequences_they_were_for() {
    let compiled = compiled("tiny", |options| options.targets.clear());
    let mut session = session(&compiled, Some("interpreter"), 1);
    assert!(session.record(Detail::Kernels).is_err());
    let (profile, _) = recorded(&mut session, Detail::Calls);
    let spans: Vec<Vec<(u64, u64)>> = profile.calls.iter().map(|call| pairs(&call.spans)).collect();
    let (chunk, rest, head) = (vec![(0, 8)], vec![(8, 3), (0, 3)], vec![]);
    assert_eq!(spans[..3], [chunk, rest, head.clone()]);
    assert_eq!(spans[3..], [vec![(11, 1), (3, 1)], head.clone(), vec![(12, 1), (4, 1)], head]);
}

/// Tiles of attention are each head of a block of rows of a sequence, in both layers; one row or two go one by one.
fn pages_seen(profile: &Profile) -> u64 {
    let pages = |end: u64| end.div_ceil(64);
    let of = |span: &Span| match span.tokens {
        0..=2 => (1..=span.tokens).map(|row| pages(span.first + row)).sum(),
        _ => pages(span.first + span.tokens),
    };
    2 * 4 * profile.calls.iter().flat_map(|call| &call.spans).map(of).sum::<u64>()
}

#[test]
#[cfg(target_arch = "x86_64")]
fn pages_of_the_cache_are_counted_by_call_and_by_kernel() {
    let compiled = standard("tiny");
    for threads in [1, 3] {
        let mut session = session(&compiled, None, threads);
        let (profile, _) = recorded(&mut session, Detail::Events);
        let sum = |counts: &mut dyn Iterator<Item = PageCount>| {
            let mut all = PageCount::default();
            counts.for_each(|count| all += count);
            all
        };
        let expect = PageCount { seen: pages_seen(&profile), skipped: 0 };
        assert_eq!(sum(&mut profile.calls.iter().map(|call| call.pages)), expect);
        assert_eq!(sum(&mut profile.kernels.iter().map(|kernel| kernel.pages)), expect);
        assert_eq!(sum(&mut profile.events.iter().map(|event| event.pages)), expect);
    }
}

/// Slopes of the four heads are 1/4 to 1/256. Scores of this model stay within a few of ALiBi's, so that the first head
/// leaves out what lies 88 * 4 tokens and some back, and the second, 88 * 16, nothing.
#[test]
#[cfg(target_arch = "x86_64")]
fn pages_far_back_are_skipped() {
    let compiled = compiled("tiny", |options| options.max_context = 832);
    let options =
        SessionOptions { pages: pages_needed(&compiled.artifact, [832]).unwrap(), ..SessionOptions::default() };
    let mut session = Session::new(Arc::clone(&compiled.artifact), &options).unwrap();
    let sequence = session.start();
    let step = |session: &mut Session, ids: &[u32]| {
        session.step(&[Chunk { sequence, ids, want: Want::Nothing }], |_, _, _| {}).unwrap();
    };
    step(&mut session, &(0..831).map(|i| 1 + i % 90).collect::<Vec<u32>>());
    session.record(Detail::Calls).unwrap();
    step(&mut session, &[7]);
    let profile = session.recorded().unwrap();
    let pages = profile.calls[0].pages;
    // 13 pages; those that end more than 352 tokens back are the first 7.
    assert_eq!(pages.seen, pages_seen(&profile));
    assert!((2 * 5..=2 * 7).contains(&pages.skipped), "{pages:?}");
}

fn pairs(spans: &[Span]) -> Vec<(u64, u64)> {
    spans.iter().map(|span| (span.first, span.tokens)).collect()
}

/// The tiny model reads every weight of its two layers once, the slopes in both, of the table in the body the rows asked for.
/// What the last layer does after its attention is the head's, with all of the table and the last norm; norms in layers have no
/// weights of their own in f32.
#[test]
fn a_call_touches_each_weight_once() {
    let compiled = compiled("tiny", |options| options.targets.clear());
    let (artifact, program) = (&compiled.artifact, compiled.artifact.program());
    let bindings = [("N", 1), ("S", 1), ("P", 1), ("C", 4), ("R", 1)].map(|(name, value)| (name.to_owned(), value));
    let bindings = bindings.into_iter().collect();
    let sizes = Sizes { bindings: &bindings, spans: &[Span { first: 9, tokens: 1 }] };
    let weights = |group| -> u64 {
        let entry = program.entry(group, 1).unwrap();
        entry_work(program, entry, &sizes).values().map(|work| work.weight_bytes).sum()
    };
    let placements = artifact.weight_table().placements.iter();
    let all: u64 = placements.map(|placement| placement.all_bytes()).sum();
    let table = artifact.weight_table().placements[0].bytes;
    let (row, norm, slopes) = (64 * 4, 2 * 64 * 4, 4 * 4);
    let (dense, mlp) = ((64 * 64 + 64) * 4, (2 * 64 * 256 + 256 + 64) * 4);
    let head = table + norm + dense + mlp;
    assert_eq!(weights("head"), head);
    assert_eq!(weights("body"), all - head + row + slopes);
}
