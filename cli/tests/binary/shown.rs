//! What is printed: the forms of `--json`, texts, tables, and silence when nobody listens.

use std::io::Write;
use std::process::Stdio;

use bloomery_formats::Checkpoint;
use serde_json::Value;

use crate::{args, bloomery, call, compile, fixture, model, printed, stderr, trained};

/// The one JSON document a call prints.
pub(crate) fn json(arguments: &[&std::ffi::OsStr]) -> Value {
    let text = printed(arguments);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {text}"))
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn tokens_are_those_recorded() {
    let golden: Value =
        serde_json::from_slice(&std::fs::read(fixture("tokenizer").join("golden.json")).unwrap()).unwrap();
    let cases = golden["cases"].as_array().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("text");
    for case in cases.iter().step_by(10) {
        let text = case["text"].as_str().unwrap();
        std::fs::write(&file, text).unwrap();
        for tokenizer in [fixture("tokenizer"), trained().to_path_buf()] {
            let tokens = json(args!["tokenize", &tokenizer, "--file", &file, "--json"]);
            assert_eq!(keys(&tokens), ["ids", "pieces"]);
            assert_eq!(tokens["ids"], case["ids"], "{text:?}");
        }
    }
    assert_eq!(printed(args!["tokenize", &fixture("tokenizer"), "--text", "<s>In"]), "1\t<s>\n1721\tIn\n");
}

#[test]
fn a_run_is_one_document() {
    let run = json(args!["run", trained(), "--prompt", "<s>In the beginning", "--max-new-tokens", "6", "--json"]);
    assert_eq!(keys(&run), ["sequences", "timing"]);
    let sequence = &run["sequences"][0];
    assert_eq!(keys(sequence), ["prompt_ids", "ids", "text", "finish"]);
    assert_eq!(sequence["prompt_ids"], serde_json::json!([1, 1721, 276, 2755, 275, 2995]));
    assert_eq!(sequence["ids"], serde_json::json!([307, 276, 1931, 69, 1270, 15]));
    assert_eq!((sequence["text"].as_str(), sequence["finish"].as_str()), (Some(" of the firstborn,"), Some("length")));
    assert!(run["timing"]["load_ms"].as_f64().is_some_and(|ms| ms > 0.0));

    let batch = json(args![
        "run",
        trained(),
        "--input-ids",
        "1,1721,276",
        "--input-ids",
        "7",
        "--max-new-tokens",
        "3",
        "--logprobs",
        "--json",
        "--stream",
        "--eos-token-id",
        "none",
    ]);
    let sequences = batch["sequences"].as_array().unwrap();
    assert_eq!(sequences[1]["prompt_ids"], serde_json::json!([7]));
    for sequence in sequences {
        let logprobs = sequence["logprobs"].as_array().unwrap();
        assert!(logprobs.len() == 3 && logprobs.iter().all(|x| x.as_f64().unwrap() <= 0.0));
    }
}

#[test]
fn a_given_eos_ends_a_text() {
    let run = |eos: &str| {
        let ids = args!["--input-ids", "1,1721,276,2755,275,2995", "--eos-token-id", eos, "--json"];
        json(&[args!["run", trained(), "--max-new-tokens", "6"], ids].concat())["sequences"][0].clone()
    };
    assert_eq!(
        (run("1931")["ids"].clone(), run("1931")["finish"].clone()),
        (serde_json::json!([307, 276, 1931]), "eos".into())
    );
    assert_eq!(run("none")["ids"].as_array().unwrap().len(), 6);
}

/// What makers say counts where nothing else is asked, and what is asked is asked by the same names.
#[test]
fn makers_settings_count() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        std::fs::copy(model("trained-web").join(name), folder.path().join(name)).unwrap();
    }
    let artifact = folder.path().join("x.bloom");
    let said = |makers: &str, more: &[&str]| {
        std::fs::write(folder.path().join("generation_config.json"), makers).unwrap();
        crate::compile(folder.path(), &artifact, &["--max-context", "64"]);
        let more: Vec<&std::ffi::OsStr> = more.iter().map(std::ffi::OsStr::new).collect();
        json(&[args!["run", &artifact, "--prompt", "In the beginning", "--json"], &more].concat())["sequences"].clone()
    };
    let asked = |more: &[&str]| {
        let more: Vec<&std::ffi::OsStr> = more.iter().map(std::ffi::OsStr::new).collect();
        json(&[args!["run", trained(), "--prompt", "In the beginning", "--json"], &more].concat())["sequences"].clone()
    };
    let draws = r#"{"do_sample":true,"temperature":1.5,"top_k":9,"repetition_penalty":1.25,"max_new_tokens":12,"eos_token_id":5}"#;
    let same = ["--temperature", "1.5", "--top-k", "9", "--repetition-penalty", "1.25", "--max-new-tokens", "12"];
    let same = [&["--do-sample", "--eos-token-id", "5"], &same[..]].concat();
    assert_eq!(said(draws, &[]), asked(&same));
    assert_eq!(said(draws, &["--seed", "4"]), asked(&[&["--seed", "4"], &same[..]].concat()));
    assert_ne!(said(draws, &[]), asked(&[&["--seed", "4"], &same[..]].concat()));
    let likeliest = ["--repetition-penalty", "1.25", "--max-new-tokens", "12", "--eos-token-id", "5"];
    assert_eq!(said(draws, &["--greedy"]), asked(&likeliest));
    assert_eq!(
        said(r#"{"num_beams":3,"num_return_sequences":2,"max_new_tokens":6}"#, &[]),
        asked(&["--num-beams", "3", "--num-return-sequences", "2", "--max-new-tokens", "6"])
    );
    let streamed = printed(args!["run", &artifact, "--prompt", "In the beginning", "--stream"]);
    assert_eq!(streamed, printed(args!["run", &artifact, "--prompt", "In the beginning"]));
    let makers_word = |makers: &str, more: &[&str]| {
        std::fs::write(folder.path().join("generation_config.json"), makers).unwrap();
        crate::compile(folder.path(), &artifact, &["--max-context", "64"]);
        stderr(&bloomery().arg("run").arg(&artifact).args(["--prompt", "a"]).args(more).output().unwrap())
    };
    let cold = r#"{"do_sample":true,"temperature":0}"#;
    let message = makers_word(cold, &[]);
    assert!(message.contains("temperature is 0") && message.contains("generation_config.json says so"), "{message}");
    assert_eq!(makers_word(cold, &["--temperature", "0.5"]), "");
    makers_word(r#"{"num_beams":3,"num_return_sequences":2}"#, &[]);
    let shown = printed(args!["inspect", &artifact]);
    assert!(shown.contains("generates eos_token_id=[2] num_beams=3 num_return_sequences=2"), "{shown}");
}

#[test]
#[cfg(unix)]
fn a_folder_is_compiled_on_first_use_and_then_kept() {
    let cache = tempfile::tempdir().unwrap();
    // A folder of its own, that a link leads to; what is no part of a model changes none.
    let folder = tempfile::tempdir().unwrap();
    let [whole, link] = ["model", "link"].map(|name| folder.path().join(name));
    std::fs::create_dir(&whole).unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        std::fs::copy(model("trained-web").join(name), whole.join(name)).unwrap();
    }
    std::os::unix::fs::symlink(&whole, &link).unwrap();
    let run_from = |from: &std::path::Path, path: &str, more: &[&str]| {
        let mut command = bloomery();
        command.current_dir(from).arg("run").arg(path).args(["--prompt", "In the beginning", "--max-new-tokens", "8"]);
        let output = command.args(more).env("XDG_CACHE_HOME", cache.path()).output().unwrap();
        (output.status.code(), stderr(&output), String::from_utf8(output.stdout).unwrap())
    };
    let run = |more: &[&str]| run_from(folder.path(), "model", more);
    let (code, notes, first) = run(&[]);
    assert!(code == Some(0) && notes.contains("compiled on first use"), "{notes}");
    let (_, notes, again) = run(&[]);
    assert_eq!((again.as_str(), notes.as_str()), (first.as_str(), ""));
    std::fs::write(whole.join("README.md"), "about it").unwrap();
    for (from, path) in [(folder.path(), "./model"), (folder.path(), "link"), (&whole, ".")] {
        assert_eq!(run_from(from, path, &[]).1, "", "{path}");
    }
    let kept = std::fs::read_dir(cache.path().join("bloomery")).unwrap().next().unwrap().unwrap().path();
    let direct = printed(args!["run", &kept, "--prompt", "In the beginning", "--max-new-tokens", "8"]);
    assert_eq!(direct, first);
}

#[test]
fn streamed_text_is_the_text() {
    let arguments = args!["run", trained(), "--prompt", "<s>In the beginning", "--max-new-tokens", "6"];
    assert_eq!(printed(arguments), " of the firstborn,\n");
    assert_eq!(printed(&[arguments, args!["--stream"]].concat()), " of the firstborn,\n");
    let whole = printed(&[arguments, args!["--logprobs"]].concat());
    assert!(whole.starts_with(" of the firstborn,\nlogprobs -"), "{whole}");
    assert_eq!(printed(&[arguments, args!["--logprobs", "--stream"]].concat()), whole);
}

#[test]
fn a_prompt_may_come_by_a_pipe() {
    let mut command = bloomery();
    command.arg("run").arg(trained()).args(["--prompt-file", "-", "--max-new-tokens", "6"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"<s>In the beginning").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), " of the firstborn,\n");
}

/// The trained model continues "<s>In the beginning" with " of the firstborn, the firstborn of the Lord, ..".
#[test]
fn a_stop_string_ends_a_text_and_is_cut_off_it() {
    let arguments = args!["run", trained(), "--prompt", "<s>In the beginning", "--max-new-tokens", "12"];
    let stop = args!["--stop", "born, the", "--stop", "nowhere"];
    let run = json(&[arguments, stop, args!["--json"]].concat())["sequences"][0].clone();
    assert_eq!((run["text"].as_str(), run["finish"].as_str()), (Some(" of the first"), Some("stop")));
    assert_eq!(run["ids"], serde_json::json!([307, 276, 1931, 69, 1270, 15, 276]));
    assert_eq!(printed(&[arguments, stop, args!["--stream"]].concat()), " of the first\n");
    let beams = json(&[arguments, stop, args!["--num-beams", "2", "--json"]].concat())["sequences"][0].clone();
    assert!(!beams["text"].as_str().unwrap().contains("born, the"), "{beams}");
}

#[test]
fn sequences_name_their_prompt_and_beams_their_score() {
    let arguments = args!["run", trained(), "--input-ids", "1,1721,276", "--input-ids", "7", "--max-new-tokens", "3"];
    let beams =
        args!["--num-beams", "3", "--num-return-sequences", "2", "--length-penalty", "0", "--logprobs", "--json"];
    let run = json(&[arguments, beams].concat());
    let sequences = run["sequences"].as_array().unwrap();
    assert_eq!(keys(&sequences[0]), ["prompt", "prompt_ids", "ids", "text", "finish", "logprobs", "score"]);
    let prompts: Vec<u64> = sequences.iter().map(|sequence| sequence["prompt"].as_u64().unwrap()).collect();
    assert_eq!(prompts, [0, 0, 1, 1]);
    for sequence in sequences {
        let sum: f64 = sequence["logprobs"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).sum();
        assert!((sum - sequence["score"].as_f64().unwrap()).abs() < 1e-5, "{sequence}");
    }
    let sampled = args!["--do-sample", "--seed", "3", "--num-return-sequences", "2", "--json"];
    let one = json(&[arguments, sampled].concat())["sequences"].clone();
    assert_eq!(one, json(&[arguments, sampled, args!["--threads", "2"]].concat())["sequences"]);
    assert!(one[0]["prompt"] == 0 && one[3]["prompt"] == 1 && one[0]["ids"] != one[1]["ids"]);
}

#[test]
fn a_template_is_put_around_a_prompt() {
    let run = |template: &str| {
        let arguments = args!["run", trained(), "--prompt", "Sing.", "--max-new-tokens", "1", "--json"];
        json(&[arguments, args!["--template", template]].concat())["sequences"][0]["prompt_ids"].clone()
    };
    let belle = json(args!["tokenize", trained(), "--text", "Human: Sing. \n\nAssistant:", "--json"])["ids"].clone();
    assert_eq!(run("belle"), belle);
    assert_eq!(run("none"), json(args!["tokenize", trained(), "--text", "Sing.", "--json"])["ids"]);
}

/// What a conversation prints on stdout and stderr, given these lines.
fn chat(lines: &str, more: &[&str]) -> (String, String) {
    let mut chat = bloomery();
    chat.arg("chat").arg(trained()).args(more).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = chat.spawn().unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(output.status.success(), "{stderr}");
    (stdout, stderr)
}

/// The trained model continues "<s>In the beginning" with " of the firstborn, the firstborn of the Lord, ..".
#[test]
fn a_conversation_is_answers_line_by_line_and_can_be_saved() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a talk.json");
    let lines = format!(
        "<s>In the beginning\r\n\n/save {}\n/reset\n<s>In the beginning\n/stats\n/help\n/exit\nnever\n",
        path.display()
    );
    let (answers, notes) = chat(&lines, &["--max-new-tokens", "3"]);
    assert_eq!(answers, " of the first\n of the first\n");
    let saved: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(keys(&saved), ["template", "system", "turns", "forgotten", "ids"]);
    let turn = serde_json::json!({
        "question": "<s>In the beginning", "answer": " of the first", "answer_ids": [307, 276, 1931], "finish": "length",
    });
    assert_eq!((&saved["turns"], &saved["template"]), (&serde_json::json!([turn]), &Value::from("none")));
    assert_eq!(saved["ids"], serde_json::json!([1, 1721, 276, 2755, 275, 2995, 307, 276, 1931]));
    for part in [
        "note: cut off after 3 tokens; --max-new-tokens",
        "a talk.json: 1 turn(s)",
        "turns       1, of",
        "tokens      9 of 64",
        "/save FILE",
    ] {
        assert!(notes.contains(part), "{notes} lacks {part}");
    }
}

#[test]
fn a_full_conversation_says_what_it_forgets() {
    let more = ["--max-new-tokens", "2", "--max-length", "14", "--eos-token-id", "none", "--system", "<s>"];
    let (answers, notes) = chat("In the beginning\nIn the beginning\n", &more);
    assert_eq!(answers, " of the\n of the\n", "the same, as the first turn is forgotten");
    let note = "note: the conversation's 14 tokens are full: the model no longer sees the first 1 of 2 turns\n";
    assert!(notes.contains(note), "{notes}");
}

#[test]
fn a_text_is_measured_in_one_document() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text");
    std::fs::write(&text, "<s>In the beginning God created the heavens and the earth.\n").unwrap();
    let tokens = json(args!["tokenize", trained(), "--file", &text, "--json"])["ids"].as_array().unwrap().len();
    let eval = args!["eval", trained(), "--file", &text, "--window", "8", "--stride", "4"];
    let figures = json(&[eval, args!["--json"]].concat());
    let number = |name: &str| figures[name].as_f64().unwrap_or_else(|| panic!("{name} in {figures}"));
    assert_eq!((number("tokens"), number("scored_tokens")), (tokens as f64, tokens as f64 - 1.0));
    assert_eq!(number("scored_bytes"), "In the beginning God created the heavens and the earth.\n".len() as f64);
    assert_eq!(number("windows"), ((tokens - 8).div_ceil(4) + 1) as f64);
    assert!((number("perplexity").ln() - number("mean_nll")).abs() < 1e-12);
    let bits = number("mean_nll") * number("scored_tokens") / std::f64::consts::LN_2 / number("scored_bytes");
    assert!((number("bits_per_byte") - bits).abs() < 1e-12);
    let table = printed(eval);
    for name in ["tokens", "windows", "mean_nll", "perplexity", "bits_per_byte"] {
        assert!(table.lines().any(|line| line.starts_with(name)), "{table}");
    }
    let whole = json(args!["eval", trained(), "--text", &text, "--json"]);
    assert_eq!(
        (whole["windows"].as_u64(), whole["window"].as_u64(), whole["stride"].as_u64()),
        (Some(1), Some(64), Some(32))
    );
}

/// That they hold every command and option is a test of the binary's own.
#[test]
fn shells_and_man_take_what_is_made_for_them() {
    let folder = tempfile::tempdir().unwrap();
    let (pages, script) = (folder.path().join("man/man1"), folder.path().join("bloomery.bash"));
    let said = printed(args!["man", &pages]);
    assert!(said.contains("bloomery.1") && said.contains("bloomery-chat.1"), "{said}");
    let page = std::fs::read_to_string(pages.join("bloomery-eval.1")).unwrap();
    assert!(page.contains(".TH bloomery-eval 1") && page.contains("perplexity"), "{page}");
    std::fs::write(&script, printed(args!["completions", "bash"])).unwrap();
    let bash = std::process::Command::new("bash").arg("-n").arg(&script).output();
    assert!(bash.is_ok_and(|output| output.status.success()) || cfg!(not(unix)));
}

#[test]
fn a_prompt_that_fills_the_context_is_noted() {
    let ids = vec!["5"; 64].join(",");
    let output =
        call(args!["run", trained(), "--input-ids", "7", "--input-ids", &ids, "--max-new-tokens", "1", "--json"]);
    let run: Value = serde_json::from_slice(&output.stdout).unwrap();
    let new: Vec<usize> = (0..2).map(|i| run["sequences"][i]["ids"].as_array().unwrap().len()).collect();
    assert_eq!(new, [1, 0]);
    let notes = String::from_utf8(output.stderr).unwrap();
    assert!(notes.starts_with("note: prompt 1 (counted from 0) has 64 tokens and fills the context of 64"), "{notes}");
    assert!(notes.ends_with("--max-context 65 or more\n") && notes.lines().count() == 1, "{notes}");
}

#[test]
fn ids_without_a_tokenizer_have_no_text() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.bloom");
    compile(&model("tiny"), &path, &[]);
    let run = json(args!["run", &path, "--input-ids", "5,6,7", "--max-new-tokens", "2", "--json"]);
    assert_eq!(run["sequences"][0]["text"], Value::Null);
    assert_eq!(run["sequences"][0]["ids"].as_array().unwrap().len(), 2);
}

#[test]
fn logits_have_a_row_for_every_token_and_zeros_after() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("logits.safetensors");
    printed(args![
        "logits",
        trained(),
        "--input-ids",
        "5,6,7",
        "--input-ids",
        "8",
        "-o",
        &path,
        "--cpu",
        "interpreter"
    ]);
    let file = Checkpoint::open_file(&path).unwrap();
    let logits = file.tensor("logits").unwrap();
    assert_eq!((logits.shape, logits.dtype.name()), (&[2, 3, 4096][..], "f32"));
    let (held, rest) = logits.bytes.split_at(4 * 4096 * 4);
    assert!(held.chunks(4096 * 4).all(|row| row.iter().any(|byte| *byte != 0)) && rest.iter().all(|byte| *byte == 0));
}

#[test]
fn a_measurement_is_one_flat_document() {
    let bench = json(args![
        "bench",
        trained(),
        "--prompt-tokens",
        "4",
        "--new-tokens",
        "3",
        "--batch",
        "2",
        "--context",
        "6",
        "--repeats",
        "2",
        "--json",
    ]);
    for figure in ["load_ms", "first_token_ms", "prefill_tokens_per_s", "decode_tokens_per_s", "peak_rss_bytes"] {
        let number = |suffix: &str| bench[format!("{figure}{suffix}")].as_f64().unwrap();
        assert!(number("_min") <= number("") && number("") <= number("_max"), "{bench}");
    }
    assert!(bench["weights_bytes"].as_u64().unwrap() > 2_000_000);
    assert_eq!((bench["threads"].as_u64(), bench["class"].as_str()), (Some(1), Some("interpreter")));
}

/// With one repeat a median is the figure itself, so that figures can be compared with each other.
#[test]
fn a_measurement_says_how_near_the_machine_it_comes() {
    let lengths = args!["--prompt-tokens", "6", "--new-tokens", "3", "--batch", "2", "--repeats", "1", "--json"];
    let bench = json(&[args!["bench", trained()], lengths].concat());
    let number = |name: &str| bench[name].as_f64().unwrap_or_else(|| panic!("{name} in {bench}"));
    for phase in ["prefill", "decode"] {
        let of = |figure: &str| number(&format!("{phase}_{figure}"));
        let (rate, bound, fraction) = (of("tokens_per_s"), of("bound_tokens_per_s"), of("fraction_of_bound"));
        assert!(rate > 0.0 && bound > 0.0 && (fraction - rate / bound).abs() < 1e-9 * fraction, "{bench}");
        assert!(of("gflops") > 0.0 && of("gb_per_s") > 0.0 && of("gb") > 0.0, "{bench}");
    }
    let seconds = 2.0 * 6.0 / number("prefill_tokens_per_s");
    let gflop = number("prefill_matmul_gflop") + number("prefill_attention_gflop");
    assert!((number("prefill_gflops") - gflop / seconds).abs() < 1e-6 * number("prefill_gflops"), "{bench}");
    if number("limit_fma_gflops") > 0.0 {
        let peak = number("prefill_gflops") / number("limit_fma_gflops");
        assert!((number("prefill_fraction_of_fma_peak") - peak).abs() < 1e-9 * peak, "{bench}");
    }
    assert!(number("limit_read_gb_per_s") > 0.0);
    assert_eq!(bench["pages"], "mapped");

    // Four layers of hidden 128 and a vocabulary of 4096: 12 rows through the layers, 2 through the head and what the last
    // layer does after its attention, which is three quarters of it; two operations a weight. Two steps of decoding read
    // layers and head once each, and the cache besides.
    let (layer, head) = (12.0 * 128.0 * 128.0, 4096.0 * 128.0);
    let matmul = 2.0 * (12.0 * 3.25 * layer + 2.0 * (0.75 * layer + head)) / 1e9;
    assert!((number("prefill_matmul_gflop") - matmul).abs() < 1e-9, "{matmul} in {bench}");
    let (least, most) = (2.0 * 2.0 * (4.0 * layer + head) / 1e9, 2.1 * 2.0 * (4.0 * layer + head) / 1e9);
    assert!((least..most).contains(&number("decode_gb")), "{least} to {most} in {bench}");
}

/// Structure alone: what the figures are is the machine's affair.
#[test]
fn limits_of_the_machine_are_figures_for_one_thread_and_for_all() {
    let measured = json(args!["bench", "--limits", trained(), "--threads", "2", "--repeats", "1", "--json"]);
    assert_eq!(keys(&measured), ["limits", "huge_pages_share", "notes"]);
    let limits = measured["limits"].as_array().unwrap();
    for limit in limits {
        assert_eq!(keys(limit), ["name", "threads", "best", "median", "unit"]);
        let [best, median] = ["best", "median"].map(|figure| limit[figure].as_f64().unwrap());
        assert!(0.0 < median && median <= best, "{limit}");
    }
    for name in ["read_small_pages", "read_huge_pages", "read_mapped_file"] {
        let threads: Vec<_> = limits.iter().filter(|limit| limit["name"] == name).map(|l| &l["threads"]).collect();
        assert_eq!(threads, [1, 2], "{name}");
    }
}

/// An artifact of the tiny model with machine code, for this processor.
#[cfg(target_arch = "x86_64")]
fn native(folder: &std::path::Path) -> std::path::PathBuf {
    let path = folder.join("native.bloom");
    let target = args!["--target", "cpu:x86-64-v3"];
    printed(&[args!["compile", &model("tiny"), "--max-context", "64", "--chunk", "8", "-o", &path], target].concat());
    path
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_profile_has_every_kernel_and_a_trace_every_thread() {
    let folder = tempfile::tempdir().unwrap();
    let (path, trace) = (native(folder.path()), folder.path().join("trace.json"));
    let prompt = args!["--input-ids", "5,6,7,8,9,10,11,12,13,14,15", "--max-new-tokens", "4", "--threads", "2"];
    let run = args!["run", &path, "--profile", "--limits", "--trace", &trace, "--eos-token-id", "none"];
    let profile = json(&[run, prompt, args!["--json"]].concat())["profile"].clone();
    assert_eq!(keys(&profile), ["total_ms", "threads", "limits", "kernels", "outside"]);
    let kernels = profile["kernels"].as_array().unwrap();
    let sum = |of: &Value, name: &str| of[name].as_f64().unwrap_or_else(|| panic!("{name} in {of}"));
    let (total, outside) = (sum(&profile, "total_ms"), &profile["outside"]);
    let all: f64 = kernels.iter().map(|kernel| sum(kernel, "ms")).sum::<f64>()
        + ["calls_ms", "check_ms", "sampling_ms", "host_ms"].map(|name| sum(outside, name)).iter().sum::<f64>();
    assert!((all - total).abs() < 1e-6 * total, "{all} of {total}");
    for kernel in kernels.iter().filter(|kernel| kernel["name"].as_str().unwrap().contains("matmul")) {
        let bound = sum(kernel, "fraction_of_bound");
        assert!(bound > 0.0 && sum(kernel, "flop") > 0.0 && sum(kernel, "weight_bytes") > 0.0, "{kernel}");
    }

    // Eleven tokens and four more fit a page: none is skipped, and only attention says so.
    let attention = kernels.iter().filter(|kernel| kernel["name"].as_str().unwrap().contains("attention"));
    assert!(attention.clone().count() > 0);
    for kernel in attention {
        assert!(sum(kernel, "pages") > 0.0 && sum(kernel, "pages_skipped_share") == 0.0, "{kernel}");
    }
    assert!(kernels.iter().any(|kernel| kernel.get("pages").is_none()));

    let trace: Value = serde_json::from_slice(&std::fs::read(&trace).unwrap()).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let named = |name: &str| events.iter().filter(|event| event["name"] == name).count();
    // Chunks of 8 and 3 tokens; three steps after the first new token; logits four times.
    let steps = ["prefill chunk", "decode step", "head", "sampling", "thread_name"].map(named);
    assert_eq!(steps, [2, 3, 4, 4, 2]);
    for tid in [0, 1] {
        let spans = events.iter().filter(|event| event["ph"] == "X" && event["tid"] == tid);
        nested(spans.map(|event| (sum(event, "ts"), sum(event, "dur"))).collect());
    }
    let tiles = events.iter().filter(|event| event["cat"] == "kernel").map(|event| sum(&event["args"], "tiles"));
    assert!(tiles.fold(f64::INFINITY, f64::min) >= 1.0);
    assert!(events.iter().any(|event| event["args"]["pages"].as_u64().is_some_and(|pages| pages > 0)));

    let shown = call(&[args!["run", &path, "--profile"], prompt].concat());
    let table = String::from_utf8(shown.stderr).unwrap();
    assert!(shown.status.success() && table.starts_with("kernel ") && table.contains("sampling"), "{table}");
    assert!(table.contains("pages skipped 0.0%"), "{table}");
    let benched = json(args!["bench", &path, "--prompt-tokens", "9", "--repeats", "1", "--profile", "--json"]);
    assert_eq!(keys(&benched["profile"]), keys(&profile));
    assert_eq!(benched["decode_pages_skipped_fraction"], 0);
}

/// Of two spans of a thread one holds the other, or one ends before the other begins.
#[cfg(target_arch = "x86_64")]
fn nested(spans: Vec<(f64, f64)>) {
    let nanoseconds = |micro: f64| (micro * 1e3).round() as u64;
    let mut spans: Vec<(u64, u64)> =
        spans.into_iter().map(|(ts, dur)| (nanoseconds(ts), nanoseconds(ts) + nanoseconds(dur))).collect();
    spans.sort_by_key(|(begin, end)| (*begin, std::cmp::Reverse(*end)));
    let mut open: Vec<u64> = Vec::new();
    for (begin, end) in spans {
        while open.last().is_some_and(|outer| *outer <= begin) {
            open.pop();
        }
        assert!(open.last().is_none_or(|outer| end <= *outer), "{begin} to {end} leaves {open:?}");
        open.push(end);
    }
}

#[test]
fn what_is_in_a_file() {
    let artifact = json(args!["inspect", trained(), "--json"]);
    assert_eq!((artifact["kind"].as_str(), artifact["max_context"].as_u64()), (Some("artifact"), Some(64)));
    assert_eq!(artifact["model"]["hidden"], 128);
    let inputs = artifact["provenance"]["inputs"].as_array().unwrap();
    let names: Vec<&str> = inputs.iter().map(|input| input["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["config.json", "generation_config.json", "tokenizer.json", "model.safetensors"]);
    for (path, part) in [
        (trained().to_path_buf(), "sections"),
        (model("tiny"), "word_embeddings.weight"),
        (model("tiny").join("config.json"), "2 layers, 64 hidden"),
        (model("tiny").join("config.json"), "epsilon 1e-5, trained on 2,048 tokens"),
        (trained().to_path_buf(), "weights   f16 2.6 MB, f32 "),
        (model("trained-web"), "tokenizer 4,096 ids"),
        (model("trained-web"), "h.0..3.self_attention.query_key_value.weight  f16  [384, 128]"),
        (model("tiny").join("model.safetensors"), "word_embeddings.weight"),
    ] {
        let table = printed(args!["inspect", &path]);
        assert!(table.contains(part), "{table}");
        let wide: Vec<&str> = table.lines().filter(|line| line.chars().count() > 80).collect();
        assert!(wide.is_empty(), "{wide:#?}");
    }
    let memory = &artifact["memory"];
    let ios: Vec<u64> = memory["ios"].as_array().unwrap().iter().map(|io| io["bytes"].as_u64().unwrap()).collect();
    assert_eq!((ios.len(), memory["ios_bytes"].as_u64()), (6, Some(ios.iter().sum())));
    assert!(printed(args!["verify", trained()]).contains("sound"));
}

#[test]
fn ranks_that_share_a_model_say_what_one_says_and_are_proven() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shared.bloom");
    compile(&model("trained-web"), &path, &["--strategy", "dp=2,mp=2,pp=2", "--max-context", "64"]);
    let seen = json(args!["inspect", &path, "--json"]);
    assert_eq!((&seen["ranks"], &seen["strategy"]), (&Value::from(8), &Value::from("dp=2,mp=2,pp=2")));
    // Replicas do the same; the ranks of one are proven.
    let proof = &seen["certificate"];
    assert!(proof["ranks"] == 4 && proof["compared"].as_u64() > Some(1000), "{proof}");
    assert!(proof["difference"].as_f64().unwrap() < 1e-12, "{proof}");
    let verified = printed(args!["verify", &path]);
    assert!(verified.contains("4 ranks differ from one by"), "{verified}");
    for more in [args!["--num-beams", "3"], args!["--do-sample", "--seed", "3"], args!["--prompt", "And he said"]] {
        let run = |path: &std::path::Path| {
            let run = args!["run", path, "--prompt", "<s>In the beginning", "--max-new-tokens", "8"];
            printed(&[run, more].concat())
        };
        assert_eq!(run(&path), run(trained()));
    }
    let table = printed(args!["strategy", "show", &path]);
    for part in ["2 replicas of 4 ranks (pp=2,mp=2)", "send over pp", "all, ranks 0..2", "all, ranks 2..4"] {
        assert!(table.contains(part), "{table} lacks {part}");
    }
    let drawn = printed(args!["strategy", "draw", &path]);
    assert!(drawn.contains("rank 3: 3..4 of dimension 0, 256..512 of dimension "), "{drawn}");
}

#[test]
fn who_has_what_is_a_table_and_a_picture() {
    let folder = tempfile::tempdir().unwrap();
    let [path, picture] = ["shared.bloom", "shared.svg"].map(|name| folder.path().join(name));
    compile(&model("trained-web"), &path, &["--strategy", "mp=4"]);
    let table = printed(args!["strategy", "show", &path]);
    for part in ["4 ranks (mp=4)", "1/4 of dim 0 (4096)", "all_reduce over mp", "9 times"] {
        assert!(table.contains(part), "{table} lacks {part}");
    }
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    let shares = json(args!["strategy", "show", &path, "--json"]);
    let weights = shares["weights"].as_array().unwrap();
    let embedding = weights.iter().find(|weight| weight["name"] == "word_embeddings.weight").unwrap();
    assert_eq!(embedding["slices"][3]["0"], serde_json::json!({"start": 3072, "end": 4096}));
    let written = printed(args!["strategy", "draw", &path, "-o", &picture]);
    assert!(written.contains("shared.svg: a picture of ") && written.ends_with("parameters on 4 ranks\n"), "{written}");
    crate::refused::refused(args!["strategy", "draw", &path, "-o", &picture], &["is there already", "--force"]);
    let table = json(args!["strategy", "draw", &path, "-o", &picture, "--force", "--json"]);
    assert_eq!(table["output"], picture.to_str().unwrap());
    assert_eq!(
        table["parameters"]["word_embeddings.weight"]["ranks"]["3"],
        serde_json::json!([[3072, 4096], [0, 128]])
    );
    let drawn = std::fs::read_to_string(&picture).unwrap();
    assert_eq!(printed(args!["strategy", "draw", &path]), drawn);
    assert!(drawn.starts_with("<svg") && drawn.contains("rank 3: 3072..4096 of dimension 0 of"), "{drawn}");
    assert!(drawn.contains(">dim 0 in 4 parts<") && drawn.contains(">whole on every rank<"), "{drawn}");
    assert!(printed(args!["strategy", "show", trained()]).starts_with("1 rank\n"));
}

#[test]
fn code_is_added_to_an_artifact() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.bloom");
    compile(&model("tiny"), &path, &[]);
    let target = bloomery::targets::Target::default_here();
    let target = if target.name() == "cpu:all-x86" { "cpu:x86-64-v3".to_owned() } else { target.name() };
    let class = target.strip_prefix("cpu:").expect("tests run where there is code");
    let said = printed(args!["retarget", &path, "--target", &target]);
    assert!(said.contains(&format!("runs on {class}")), "{said}");
    let seen = json(args!["inspect", &path, "--json"]);
    assert_eq!((&seen["classes"], &seen["best_class"]), (&serde_json::json!([class]), &serde_json::json!(class)));
    assert_eq!(seen["options"]["target"], target);
    assert!(!seen["provenance"]["images"][class]["compiler"].as_str().unwrap().is_empty(), "{seen}");
    assert!(printed(args!["inspect", &path]).contains(&format!("code for  {class}; {class} runs here")));
    let run =
        |cpu: &str| json(args!["run", &path, "--input-ids", "5,6,7", "--cpu", cpu, "--json"])["sequences"].clone();
    assert_eq!(run(&target), run("interpreter"));
}

#[cfg(all(target_arch = "x86_64", unix))]
#[test]
fn native_code_is_of_the_best_class_that_the_compiler_knows() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let (cc, path) = (folder.path().join("old-cc"), folder.path().join("tiny.bloom"));
    let knows_no = "case \"$*\" in *-v4*) echo unknown >&2; exit 1;; esac; exec cc \"$@\"";
    std::fs::write(&cc, format!("#!/bin/sh\n{knows_no}\n")).unwrap();
    std::fs::set_permissions(&cc, std::fs::Permissions::from_mode(0o755)).unwrap();
    let output = bloomery()
        .arg("compile")
        .arg(model("tiny"))
        .arg("-o")
        .arg(&path)
        .args(["--target", "cpu:native"])
        .env("CC", &cc)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(json(args!["inspect", &path, "--json"])["classes"], serde_json::json!(["x86-64-v3"]));
    // What was left out is what runs here and is better.
    let left_out = bloomery_runtime::runs_here("x86-64-v4");
    assert_eq!(stderr(&output).contains("no code for x86-64-v4: "), left_out, "{}", stderr(&output));
}

#[test]
fn ir_goes_through_passes_and_the_interpreter() {
    let folder = tempfile::tempdir().unwrap();
    let (path, snapshot) = (folder.path().join("a.bir"), folder.path().join("a.snap"));
    std::fs::write(&path, "graph @a<N: 1..4>(%x: f32[N, 2]) { %0 = scale %x {by = 2.0} : f32[N, 2]\n return %0 }")
        .unwrap();
    let shown = printed(args!["ir", &path, "--pass", "clean"]);
    assert!(shown.starts_with("graph @a<N: 1..4>(%x: f32[N, 2]) {\n"), "{shown}");
    std::fs::write(&snapshot, format!("---\nsource: here\n---\n{shown}")).unwrap();
    assert_eq!(printed(args!["ir", &path, "--check", &snapshot]), "as expected\n");

    let inputs = folder.path().join("inputs.safetensors");
    let bytes: Vec<u8> = [1.0f32, 2.0, 3.5, 4.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    let tensor = bloomery_formats::safetensors::NewTensor {
        name: "x",
        dtype: bloomery_formats::Dtype::F32,
        shape: &[2, 2],
        bytes: &bytes,
    };
    bloomery_formats::safetensors::write(&inputs, &[tensor]).unwrap();
    assert_eq!(printed(args!["ir", &path, "--run", &inputs]), "@a output 0: f32[2, 2]\n  2 4\n  7 8\n");
}

#[test]
fn stages_are_printed_and_dumped() {
    let folder = tempfile::tempdir().unwrap();
    let tiny = model("tiny");
    let ir = printed(args!["compile", &tiny, "--emit", "ir"]);
    assert!(ir.starts_with("graph @body<N: 1..512"), "{ir}");
    let cleaned = printed(args!["compile", &tiny, "--stop-after", "clean", "--dump-ir", folder.path()]);
    assert_eq!(std::fs::read_to_string(folder.path().join("01-clean.bir")).unwrap(), cleaned);
    assert!(printed(args!["compile", &tiny, "--emit", "program"]).contains("\nentry body_1_1 N: 1..1"));
    let c = folder.path().join("kernels.c");
    printed(args!["compile", &tiny, "--emit", "c", "--target", "cpu:x86-64-v3", "-o", &c]);
    assert!(std::fs::read_to_string(&c).unwrap().contains("struct call"));
}

#[test]
fn equal_inputs_give_equal_artifacts() {
    let folder = tempfile::tempdir().unwrap();
    let [one, two, three] = ["one", "two", "three"].map(|name| folder.path().join(name));
    compile(&model("tiny"), &one, &[]);
    // Where a model lies must not show, nor what the artifact is called.
    let moved = folder.path().join("moved");
    std::fs::create_dir(&moved).unwrap();
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(model("tiny").join(name), moved.join(name)).unwrap();
    }
    compile(&moved, &two, &[]);
    assert!(std::fs::read(&one).unwrap() == std::fs::read(&two).unwrap());
    compile(&model("tiny"), &three, &["--chunk", "16"]);
    assert!(std::fs::read(&one).unwrap() != std::fs::read(&three).unwrap());
}

#[test]
fn a_closed_pipe_is_no_error() {
    let mut child = bloomery()
        .args(["compile", "--emit", "program"])
        .arg(model("tiny"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_one() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = bloomery().args(["compile", "--emit", "ir"]).arg(model("tiny")).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("error: cannot write to standard output"));
}

#[test]
fn the_demonstration_speaks() {
    let output = call(args!["demo"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.starts_with("In the beginning of the firstborn"), "{text}");
}

#[test]
fn torch_files_are_shown() {
    let file = model("tiny-bin").join("pytorch_model.bin");
    let seen = json(args!["inspect", &file, "--json"]);
    assert_eq!(keys(&seen), ["kind", "files", "bytes", "tensors"]);
    assert_eq!((seen["kind"].as_str(), seen["tensors"].as_array().unwrap().len()), (Some("torch"), 29));
    let table = printed(args!["inspect", &file]);
    assert!(table.contains("  word_embeddings.weight") && table.contains("f32  [160, 32]"), "{table}");
    let folder = printed(args!["inspect", &model("tiny-sharded")]);
    assert!(folder.starts_with("model     2 layers") && folder.contains("tensors   29 in 3 files"), "{folder}");
}

/// In Hugging Face's cache, under the name that MindFormers has for it.
#[test]
#[cfg(unix)]
fn models_are_found_by_name() {
    let home = tempfile::tempdir().unwrap();
    let repository = home.path().join("hub/models--bigscience--bloomz-560m");
    std::fs::create_dir_all(repository.join("refs")).unwrap();
    std::fs::create_dir_all(repository.join("snapshots")).unwrap();
    std::fs::write(repository.join("refs/main"), "0123abcd").unwrap();
    std::os::unix::fs::symlink(model("tiny-bin").canonicalize().unwrap(), repository.join("snapshots/0123abcd"))
        .unwrap();
    let named = |arguments: &[&std::ffi::OsStr]| {
        let mut command = bloomery();
        let command = command.args(arguments).env("HF_HOME", home.path()).env_remove("HF_HUB_CACHE");
        let output = command.env_remove("CHECKPOINT_DOWNLOAD_FOLDER").output().unwrap();
        assert!(output.status.success(), "{}", crate::stderr(&output));
        output
    };
    let shown = String::from_utf8(named(args!["inspect", "bloom_560m"]).stdout).unwrap();
    assert!(shown.starts_with("model     2 layers") && shown.contains("tensors   29 in 1 file"), "{shown}");
    let artifact = home.path().join("model.bloom");
    let compiled = named(args!["compile", "bloom_560m", "--target", "interpreter", "-o", &artifact]);
    let notes = crate::stderr(&compiled);
    assert!(notes.contains("note: bloom_560m is ") && notes.contains("snapshots/0123abcd"), "{notes}");
    assert!(printed(args!["inspect", &artifact]).contains("pytorch_model.bin"));
}

/// Names mislead: what a file holds is told by its content.
#[test]
fn files_are_known_by_content_whatever_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let fixtures = model("tiny").ancestors().nth(3).unwrap().join("mindspore");
    let files = [
        (model("tiny").join("model.safetensors"), "safetensors", "word_embeddings.weight"),
        (model("tiny-bin").join("pytorch_model.bin"), "torch", "word_embeddings.weight"),
        (fixtures.join("ckpt/dtypes.ckpt"), "mindspore", ""),
        (fixtures.join("transform/strategies/mp2-pp2.ckpt"), "strategy", "strategy show"),
        (fixtures.join("compiler/mp2-pp2-json/merged.json"), "strategy", "strategy show"),
        (model("tiny").join("config.json"), "config", "a document of JSON"),
    ];
    for (file, kind, part) in files {
        for name in ["a", "a.ckpt", "a.bin", "st.json", "cfg.x", "a.safetensors"] {
            let path = folder.path().join(name);
            std::fs::copy(&file, &path).unwrap();
            assert_eq!(json(args!["inspect", &path, "--json"])["kind"], kind, "{} as {name}", file.display());
            match kind {
                "strategy" | "config" => crate::refused::refused(args!["checkpoint", "show", &path], &[name, part]),
                _ => {
                    assert!(printed(args!["checkpoint", "show", &path]).contains(part), "{kind} as {name}");
                    let same = printed(args!["checkpoint", "diff", &path, &file]);
                    assert!(same.starts_with("equal: "), "{kind} as {name}: {same}");
                }
            }
        }
    }
    let strategies = tempfile::tempdir().unwrap();
    for name in ["ckpt_strategy_rank_0.ckpt", "ckpt_strategy_rank_4.ckpt"] {
        std::fs::copy(fixtures.join("mindformers/mp4-pp2").join(name), strategies.path().join(name)).unwrap();
    }
    let seen = json(args!["inspect", strategies.path(), "--json"]);
    assert!(seen["kind"] == "strategy" && seen["stages"]["1"].is_object(), "{seen}");
    let index = fixtures.join("mindrecord/one-int32/dataset.mindrecord.db");
    crate::refused::refused(args!["inspect", &index], &["index of a data file", "without .db"]);
}
