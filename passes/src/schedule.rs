//! Waves: launches that do not depend on each other run side by side; the next wave begins when all are done.
//!
//! Steps keep their order. A launch joins the wave before it unless it touches memory that a launch of that wave
//! writes, or writes memory that one touches. Loops, stages, copies and collectives are waves of their own.

use crate::lower::Draft;
use bloomery_ir::program::{Launch, Place, Step};

/// Name of the pass.
pub(crate) const NAME: &str = "schedule";

/// Numbers the waves of every list of steps.
pub(crate) fn schedule(mut draft: Draft) -> Draft {
    for entry in &mut draft.program.entries {
        number(&mut entry.steps);
    }
    draft
}

fn number(steps: &mut [Step]) {
    let mut wave = 0;
    let mut members: Vec<Launch> = vec![];
    for step in steps {
        match step {
            Step::Launch(launch) => {
                if members.iter().any(|earlier| depends(earlier, launch)) {
                    wave += 1;
                    members.clear();
                }
                launch.wave = wave;
                members.push(launch.clone());
            }
            Step::Loop { steps, .. } | Step::Stage { steps, .. } => {
                number(steps);
                wave += 1;
                members.clear();
            }
            Step::Copy { .. } | Step::Send { .. } | Step::Collective { .. } => {
                wave += 1;
                members.clear();
            }
        }
    }
}

/// Whether two launches must stay in order: one writes what the other touches.
fn depends(earlier: &Launch, later: &Launch) -> bool {
    let places = |launch: &Launch, outputs: bool| -> Vec<Place> {
        let views = if outputs { &launch.outputs } else { &launch.inputs };
        views.iter().map(|view| view.place).collect()
    };
    let writes = |a: &Launch, b: &Launch| {
        let written = places(a, true);
        places(b, false).iter().chain(&places(b, true)).any(|place| written.contains(place))
    };
    writes(earlier, later) || writes(later, earlier)
}
