//! Signals: what was begun is gone, what was said stays, and a conversation goes on.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use bloomery_formats::Dtype;
use bloomery_formats::safetensors::{NewTensor, write};

use crate::{args, bloomery, printed, stderr, trained};

/// The signal comes once a file is begun, well before it would be complete; `code` is the exit code.
fn interrupted(mut command: Command, signal: &str, code: i32) {
    let folder = tempfile::tempdir().unwrap();
    let entries = || std::fs::read_dir(folder.path()).unwrap().count();
    let mut child = command.arg("-o").arg(folder.path().join("x")).stderr(Stdio::piped()).spawn().unwrap();
    while entries() == 0 {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it wrote");
        std::thread::yield_now();
    }
    send(signal, &child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
    assert_eq!(stderr(&output).matches("error: interrupted; no unfinished file is left\n").count(), 1);
    assert_eq!(entries(), 0);
}

fn send(signal: &str, child: &Child) {
    let kill = Command::new("kill").args([format!("-{signal}"), child.id().to_string()]).status().unwrap();
    assert!(kill.success());
}

#[test]
fn an_interrupted_compile_leaves_nothing_behind() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let mut command = bloomery();
        command.args(["compile", "--size", "560m", "--random-weights", "1", "--target", "interpreter"]);
        interrupted(command, signal, code);
    }
}

/// One long prompt and many of one token make much to write and little to compute.
#[test]
fn interrupted_logits_leave_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let artifact = wide(folder.path());
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let mut command = bloomery();
        command.arg("logits").arg(&artifact).args(["--input-ids", &["5"; 16].join(",")]);
        command.args(["--input-ids", "5"].repeat(15));
        interrupted(command, signal, code);
    }
}

/// An artifact of a model that is nothing but a vocabulary of 2^18.
fn wide(folder: &Path) -> PathBuf {
    let config = r#"{"model_type": "bloom", "hidden_size": 4, "n_layer": 1, "n_head": 1, "vocab_size": 262144}"#;
    std::fs::write(folder.join("config.json"), config).unwrap();
    let norms = ["word_embeddings_layernorm", "ln_f", "h.0.input_layernorm", "h.0.post_attention_layernorm"];
    let mut shapes = vec![("word_embeddings.weight".to_owned(), vec![1 << 18, 4])];
    shapes.extend(norms.iter().flat_map(|name| ["weight", "bias"].map(|part| (format!("{name}.{part}"), vec![4]))));
    let products = [
        ("self_attention.query_key_value", 12, 4),
        ("self_attention.dense", 4, 4),
        ("mlp.dense_h_to_4h", 16, 4),
        ("mlp.dense_4h_to_h", 4, 16),
    ];
    for (name, to, from) in products {
        shapes.push((format!("h.0.{name}.weight"), vec![to, from]));
        shapes.push((format!("h.0.{name}.bias"), vec![to]));
    }
    let zeros = vec![0; 4 << 20];
    let tensors = shapes.iter().map(|(name, shape)| {
        let bytes = &zeros[..4 * shape.iter().product::<usize>()];
        NewTensor { name, dtype: Dtype::F32, shape, bytes }
    });
    write(&folder.join("model.safetensors"), &tensors.collect::<Vec<_>>()).unwrap();
    let artifact = folder.join("wide.bloom");
    crate::compile(folder, &artifact, &[]);
    artifact
}

/// A call whose answer takes much longer than a signal, about to be made.
pub(crate) fn long_answer(command: &str, more: &[&str]) -> Command {
    let mut long = bloomery();
    long.arg(command).arg(trained()).args(["--max-new-tokens", "60", "--eos-token-id", "none"]).args(more);
    long.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    long
}

/// Reads as much of an answer as its first token has at least.
#[cfg(unix)]
fn hear(child: &mut Child) -> Vec<u8> {
    let mut said = vec![0; 3];
    child.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
    said
}

/// Asserts that the model was on its way to say more than this.
#[cfg(unix)]
fn cut_short(prompt: &str, said: &str) {
    let tokens = printed(args!["tokenize", trained(), "--text", said]).lines().count();
    let more = (tokens + 8).min(60).to_string();
    let run = args!["run", trained(), "--prompt", prompt, "--eos-token-id", "none", "--max-new-tokens", &more];
    let whole = printed(run);
    assert!(tokens < 60 && said.len() < whole.trim_end().len() && whole.starts_with(said), "{said:?} begins {whole:?}");
}

/// Nothing is written but the answer, so a signal ends the program as it ends any, after whole tokens.
#[test]
#[cfg(unix)]
fn an_interrupted_run_keeps_what_it_said() {
    use std::os::unix::process::ExitStatusExt;
    let mut child = long_answer("run", &["--prompt", "<s>In the", "--stream"]).spawn().unwrap();
    let mut said = hear(&mut child);
    send("INT", &child);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.signal(), stderr(&output).as_str()), (Some(2), ""));
    said.extend(output.stdout);
    cut_short("<s>In the", &String::from_utf8(said).unwrap());
}

#[test]
#[cfg(unix)]
fn an_interrupted_answer_leaves_the_conversation_going() {
    let mut child = long_answer("chat", &[]).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"<s>In the\n").unwrap();
    let mut said = hear(&mut child);
    send("INT", &child);
    // The second question is answered, as far as it is let.
    input.write_all(b" king\n").unwrap();
    let mut byte = [0];
    while !said.ends_with(b"\n") {
        child.stdout.as_mut().unwrap().read_exact(&mut byte).unwrap();
        said.extend(byte);
    }
    hear(&mut child);
    send("INT", &child);
    input.write_all(b"/stats\n").unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    let notes = stderr(&output);
    assert_eq!((output.status.code(), notes.matches("note: interrupted").count()), (Some(0), 2), "{notes}");
    assert!(notes.contains("turns       2, of which the model sees 2"), "{notes}");
    cut_short("<s>In the", String::from_utf8(said).unwrap().trim_end());
}

#[test]
#[cfg(unix)]
fn between_answers_a_signal_ends_the_conversation() {
    let mut child = long_answer("chat", &["--max-length", "8"]).spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(b"<s>In the\n").unwrap();
    // The end of the line comes after the end of the turn.
    let mut byte = [0];
    while byte != *b"\n" {
        child.stdout.as_mut().unwrap().read_exact(&mut byte).unwrap();
    }
    send("INT", &child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
}
