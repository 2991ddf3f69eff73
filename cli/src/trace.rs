//! Traces: who did what when, as the JSON that Chrome's `about:tracing` and Perfetto read.
//!
//! One track per thread. The first thread is the caller's, so it also shows steps (a chunk of prompts, a step of
//! decoding, the head, sampling), and its part of every kernel lies within one of them.

use std::fmt::Write;

use bloomery_ir::Program;
use bloomery_runtime::profile::{Call, Event, Profile, Stage, StageKind};
use serde_json::{Value, json};

/// The text of a trace.
pub(crate) fn trace(program: &Program, profile: &Profile) -> String {
    let name = |tid: usize| {
        let name = if tid == 0 { "caller, worker 0".to_owned() } else { format!("worker {tid}") };
        json!({"name": "thread_name", "ph": "M", "pid": 1, "tid": tid, "args": {"name": name}})
    };
    let tracks = (0..profile.threads).map(name);
    let calls = profile.calls.iter().map(|call| step(program, call));
    let stages = profile.stages.iter().map(stage);
    let events = profile.events.iter().map(|event| part(program, event));
    let mut text = String::from("{\"displayTimeUnit\":\"ms\",\"traceEvents\":[");
    for (i, event) in tracks.chain(calls).chain(stages).chain(events).enumerate() {
        let _ = write!(text, "{}{event}", if i == 0 { "\n" } else { ",\n" });
    }
    text.push_str("\n]}\n");
    text
}

/// A span of time on a track; times are in microseconds.
fn complete(name: &str, category: &str, tid: usize, (begin, end): (u64, u64), args: Value) -> Value {
    let micro = |nanoseconds: u64| nanoseconds as f64 / 1e3;
    let (ts, dur) = (micro(begin), micro(end - begin));
    json!({"name": name, "cat": category, "ph": "X", "pid": 1, "tid": tid, "ts": ts, "dur": dur, "args": args})
}

fn step(program: &Program, call: &Call) -> Value {
    let entry = &program.entries[call.entry];
    let decodes = call.spans.iter().all(|span| span.tokens == 1 && span.first > 0);
    let name = match (entry.group.as_str(), decodes) {
        ("body", true) => "decode step",
        ("body", false) => "prefill chunk",
        (group, _) => group,
    };
    let rows = program.symbols.iter().position(|symbol| symbol.name == entry.rows).map(|i| call.dims[i]);
    let args = json!({"entry": entry.name, "rows": rows, "sequences": call.spans.len()});
    complete(name, "step", 0, (call.begin, call.end), args)
}

fn stage(stage: &Stage) -> Value {
    let name = match stage.kind {
        StageKind::Check => "check weights",
        StageKind::Sampling => "sampling",
    };
    complete(name, "step", 0, (stage.begin, stage.end), json!({}))
}

fn part(program: &Program, event: &Event) -> Value {
    let kernel = event.kernel.map_or("copy", |kernel| &program.kernels[kernel].name);
    let name = if event.prepare { format!("{kernel} (prepare)") } else { kernel.to_owned() };
    let mut args = json!({"tiles": event.tiles});
    if event.pages.seen > 0 {
        args["pages"] = event.pages.seen.into();
        args["pages_skipped"] = event.pages.skipped.into();
    }
    complete(&name, "kernel", event.worker, (event.begin, event.end), args)
}
