//! `inspect` for people: tables of at most 80 columns.

use std::fmt::Write;

use bloomery::inspect::{
    ArtifactView, DeviceView, FolderView, Inspection, IoView, LoweredView, ParameterView, TilesView,
};
use bloomery_formats::rank_table::{Problem, RankTable};
use bloomery_models::config::{BloomConfig, GenerationSettings};

use super::tensors::{tensors, types as types_of};
use super::wrap::{HELD, wrapped};
use super::{counted, data_set, grouped, harmless, size};

/// Everything about a file.
pub(crate) fn inspection(inspection: &Inspection) -> String {
    let text = match inspection {
        Inspection::Artifact(view) => artifact(view),
        Inspection::Folder(view) => folder(view),
        Inspection::Safetensors { tensors: held }
        | Inspection::Torch { tensors: held }
        | Inspection::Mindspore { tensors: held } => tensors(held),
        Inspection::Strategy(shown) => return super::strategy(shown),
        Inspection::Mindrecord(shown) => data_set(shown),
        Inspection::RankTable { table, problems } => rank_table(table, problems),
        Inspection::Config { config } => settings(config) + &notes(&config.notes),
    };
    harmless(&text).lines().map(wrapped).collect()
}

/// What the makers say of generation: `eos_token_id=[2] do_sample=true`.
fn generation(settings: &GenerationSettings) -> String {
    let settings = serde_json::to_value(settings).expect("settings are plain data");
    let said = settings.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    let said: Vec<String> = said.map(|(name, value)| format!("{name}={value}")).collect();
    if said.is_empty() { "by Hugging Face's defaults".to_owned() } else { said.join(" ") }
}

fn rank_table(table: &RankTable, problems: &[Problem]) -> String {
    let servers = counted(table.server_list.len(), "server");
    let mut text = format!("rank table, {servers}, {}\n", counted(table.ranks(), "rank"));
    for server in &table.server_list {
        let _ = writeln!(text, "{}", server.server_id);
        for device in &server.device {
            let ip = device.device_ip.as_deref().unwrap_or("-");
            let _ = writeln!(text, "  rank {:<6}device {:<6}{ip}", device.rank_id, device.device_id);
        }
    }
    for Problem { place, problem, fix } in problems {
        let _ = writeln!(text, "note: {place}: {problem}; {fix}");
    }
    text
}

fn notes(notes: &[String]) -> String {
    notes.iter().map(|note| format!("note: {note}\n")).collect()
}

fn artifact(view: &ArtifactView) -> String {
    let mut text = format!("artifact, {}\n", size(view.bytes));
    if let Ok(config) = serde_json::from_value(view.model.clone()) {
        text += &settings(&config);
    }
    let classes = match (&view.best_class, view.classes.is_empty()) {
        _ if view.device.is_some() => "none: calls of a device".to_owned(),
        (_, true) => "none: the interpreter".to_owned(),
        (Some(best), false) => format!("{}; {best} runs here", view.classes.join(", ")),
        (None, false) => format!("{}; none runs here", view.classes.join(", ")),
    };
    let types = view.plan.parameters.iter().map(|parameter| (parameter.dtype(), parameter.bytes));
    let types: Vec<String> =
        types_of(types).into_iter().map(|(dtype, bytes)| format!("{dtype} {}", size(bytes))).collect();
    let _ = writeln!(text, "weights   {}", types.join(", "));
    let _ = writeln!(text, "context   {} tokens", grouped(view.max_context.into()));
    let _ = writeln!(text, "generates {}", generation(&view.generation));
    if view.ranks > 1 {
        let proof = view.certificate.map_or("alike, with nothing to prove".to_owned(), |proof| {
            format!("proven by {} numbers that differ by {:.1e}", grouped(proof.compared as u64), proof.difference)
        });
        let _ = writeln!(text, "ranks     {}, {}, {proof}", view.ranks, view.strategy);
    }
    let _ = writeln!(text, "code for  {classes}");
    for (class, TilesView { kernels, pieces }) in &view.tiles {
        let _ = writeln!(
            text,
            "tiles     {class}: {kernels} products, activations in {} of bf16",
            counted(*pieces as usize, "piece")
        );
    }
    text += "\nsections\n";
    for section in &view.sections {
        let hash = section.sha256.as_ref().map_or("by piece", |hash| &hash[..16]);
        let _ = writeln!(text, "  {:<24}{:>14}{:>12}  {hash}", section.name, section.offset, size(section.bytes));
    }
    let plan = &view.plan;
    let kernels: Vec<String> = plan.kernels.iter().map(|(kind, count)| format!("{count}{HELD}{kind}")).collect();
    let parameters = counted(plan.parameters.len(), "parameter");
    let _ = writeln!(text, "\nplan: {parameters}; kernels: {}", kernels.join(", "));
    for entry in &plan.entries {
        let rows = format!("{} {}..{}", entry.rows, entry.least, entry.most);
        let _ = writeln!(
            text,
            "  {:<24}{rows:<16}{:>4} steps {:>12} of arena",
            entry.name,
            entry.steps,
            size(entry.arena_bytes)
        );
    }
    text += &view.device.as_ref().map_or(String::new(), device);
    let computed: Vec<&ParameterView> = plan.parameters.iter().filter(|p| !p.computed_from.is_empty()).collect();
    if !computed.is_empty() {
        text += "\nweights computed beforehand\n";
    }
    for ParameterView { name, ty, computed_from, .. } in computed {
        let _ = writeln!(text, "  {name}: {ty} from {}", computed_from.join(", "));
    }
    let memory = &view.memory;
    let (page, tokens) = (size(memory.cache_page_bytes), memory.cache_page_tokens);
    let _ = writeln!(text, "\nmemory");
    let _ = writeln!(text, "  weights {:>12}, mapped and shared", size(memory.weights_bytes));
    let _ = writeln!(text, "  arena   {:>12}", size(memory.arena_bytes));
    let io = |io: &IoView| format!("{} {}", io.name, size(io.bytes)).replace(' ', &HELD.to_string());
    let ios: Vec<String> = memory.ios.iter().map(io).collect();
    let _ = writeln!(text, "  in, out {:>12}: {}", size(memory.ios_bytes), ios.join(", "));
    let _ = writeln!(text, "  cache   {page:>12} for {tokens} tokens of a sequence");
    text += "\noptions\n";
    for (name, value) in &view.options {
        let _ = writeln!(text, "  {name:<16}{value}");
    }
    let _ = writeln!(text, "\nmade by bloomery {}", view.provenance.version);
    for (class, maker) in &view.provenance.images {
        let _ = writeln!(text, "  {class:<16}bloomery {}, {}", maker.version, maker.compiler);
    }
    for source in &view.provenance.inputs {
        let (name, hash) = (&source.name, source.sha256.get(..16).unwrap_or(&source.sha256));
        let _ = writeln!(text, "  {name:<40}{:>14}  {hash}", size(source.bytes));
    }
    text + &notes(&view.notes)
}

/// How operations are computed on a device, and where that is known from.
fn device(view: &DeviceView) -> String {
    let mut text = format!("\ncalls of ascend:{}, CANN {} or later, {} symbols\n", view.chip, view.cann, view.symbols);
    let _ = writeln!(text, "  for {}", view.soc.join(", "));
    let _ = writeln!(text, "  {:<16}{:<29}{:>5}  {:<9}{:<5}kernel", "operation", "call", "times", "header", "docs");
    let mut last = "";
    for LoweredView { op, call, times, header, documented, kernel } in &view.lowered {
        let shown = if op == last { "" } else { op };
        last = op;
        let (docs, kernel) = (if *documented { "yes" } else { "no" }, kernel.split(':').next().unwrap_or_default());
        let line = format!("  {shown:<16}{call:<29}{times:>5}  {header:<9}{docs:<5}{kernel}");
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

fn settings(config: &BloomConfig) -> String {
    let BloomConfig { hidden, layers, heads, vocab, special, .. } = config;
    let vocab = grouped(*vocab as u64);
    let mut text = format!("model     {layers} layers, {hidden} hidden, {heads} heads, vocabulary {vocab}\n");
    let head = if config.tied_head { "tied to the embedding" } else { "its own" };
    let _ = writeln!(text, "          {} parameters, head {head}", grouped(config.parameters()));
    let norm = if config.residual_post_layernorm { "residuals after layer norms, " } else { "" };
    let epsilon = config.layer_norm_epsilon;
    let _ = writeln!(
        text,
        "          {norm}epsilon {epsilon:e}, trained on {} tokens",
        grouped(config.trained_length as u64)
    );
    let said = config.dtype.map_or("not said".to_owned(), |dtype| format!("{dtype} as its config says"));
    let _ = writeln!(text, "          type {said}; bos {}, eos {:?}, pad {}", special.bos, special.eos, special.pad);
    text
}

/// A model's folder.
fn folder(view: &FolderView) -> String {
    let tokenizer = view.tokenizer.map_or("none".to_owned(), |ids| format!("{} ids", grouped(ids as u64)));
    let mut text = settings(&view.config);
    let _ = writeln!(text, "tokenizer {tokenizer}");
    let _ = writeln!(text, "generates {}", generation(&view.generation));
    text + &notes(&view.config.notes) + &tensors(&view.tensors)
}
