//! Lifetimes to arena offsets, with a byte-exact peak.
//!
//! A buffer lives from the first wave that touches it to the last; one that is touched inside a loop and outside of
//! it, or is collected by layers, lives through the whole loop. Two buffers that live at once do not overlap. The
//! largest are placed first, each at the lowest offset that is free for its whole life.

use crate::lower::Draft;
use bloomery_ir::program::{ALIGNMENT, Place, Program, Step, View};

/// Name of the pass.
pub(crate) const NAME: &str = "memory-plan";

/// Places the buffers of every entry.
pub(crate) fn plan(draft: Draft) -> Program {
    let Draft { mut program, buffers } = draft;
    for (entry, sizes) in program.entries.iter_mut().zip(&buffers) {
        let mut lives = vec![None; sizes.len()];
        live(&entry.steps, &mut 0, &mut lives);
        let offsets = place(sizes, &lives);
        entry.arena_bytes = sizes.iter().zip(&offsets).map(|(size, offset)| offset + size).max().unwrap_or(0);
        settle(&mut entry.steps, &offsets);
    }
    program
}

/// First and last moment of each buffer.
type Lives = Vec<Option<(u64, u64)>>;

/// Walks the steps, `now` counting waves; extends the lives of the buffers they touch.
fn live(steps: &[Step], now: &mut u64, lives: &mut Lives) {
    let mut wave = None;
    for step in steps {
        let own = if let Step::Launch(launch) = step { Some(launch.wave) } else { None };
        if own.is_none() || own != wave {
            *now += 1;
        }
        wave = own;
        step.reads().iter().chain(step.writes()).for_each(|view| touch(view, *now, *now, lives));
        let (before, first) = (matches!(step, Step::Loop { .. }).then(|| lives.clone()), *now);
        live(step.inside(), now, lives);
        if let Some(before) = before {
            *now += 1;
            let outside = |i: usize| before[i].is_some();
            stretch(step.inside(), first, *now, &outside, lives);
        }
    }
}

fn buffer(view: &View) -> Option<(usize, u64)> {
    match view.place {
        Place::Arena { offset, stride } => Some((offset as usize, stride)),
        _ => None,
    }
}

fn touch(view: &View, first: u64, last: u64, lives: &mut Lives) {
    if let Some((buffer, _)) = buffer(view) {
        let life = lives[buffer].get_or_insert((first, last));
        *life = (life.0.min(first), life.1.max(last));
    }
}

/// Buffers of a loop that were there before it, or are collected by it, live through all of it.
fn stretch(steps: &[Step], first: u64, last: u64, outside: &dyn Fn(usize) -> bool, lives: &mut Lives) {
    let mut each = |view: &View| {
        if buffer(view).is_some_and(|(buffer, stride)| outside(buffer) || stride > 0) {
            touch(view, first, last, lives);
        }
    };
    steps.iter().for_each(|step| step.reads().iter().chain(step.writes()).for_each(&mut each));
    steps.iter().for_each(|step| stretch(step.inside(), first, last, outside, lives));
}

/// Offsets by first fit, largest first; ties by number.
fn place(sizes: &[u64], lives: &Lives) -> Vec<u64> {
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by_key(|&i| (u64::MAX - sizes[i], i));
    let mut offsets = vec![0; sizes.len()];
    let mut placed: Vec<usize> = vec![];
    for i in order {
        let at_once = |j: &usize| match (lives[i], lives[*j]) {
            (Some(a), Some(b)) => a.0 <= b.1 && b.0 <= a.1,
            _ => false,
        };
        let mut taken: Vec<(u64, u64)> =
            placed.iter().filter(|j| at_once(j)).map(|&j| (offsets[j], offsets[j] + sizes[j])).collect();
        taken.sort_unstable();
        let mut offset = 0;
        for (start, end) in taken {
            if offset + sizes[i] <= start {
                break;
            }
            offset = offset.max(end.next_multiple_of(ALIGNMENT));
        }
        offsets[i] = offset;
        placed.push(i);
    }
    offsets
}

/// Replaces buffer numbers by offsets.
fn settle(steps: &mut [Step], offsets: &[u64]) {
    let mut put = |view: &mut View| {
        if let Place::Arena { offset, .. } = &mut view.place {
            *offset = offsets[*offset as usize];
        }
    };
    steps.iter_mut().for_each(|step| step.change_views(&mut put));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_that_live_at_once_do_not_overlap() {
        let sizes = [100, 64, 200, 64];
        let lives = vec![Some((0, 1)), Some((1, 2)), Some((2, 3)), Some((0, 3))];
        let offsets = place(&sizes, &lives);
        for i in 0..4 {
            for j in 0..i {
                let (a, b) = (lives[i].unwrap(), lives[j].unwrap());
                let apart = offsets[i] + sizes[i] <= offsets[j] || offsets[j] + sizes[j] <= offsets[i];
                assert!(apart || a.0 > b.1 || b.0 > a.1, "{i} and {j}: {offsets:?}");
            }
        }
    }
}
