//! BLOOM, as graphs: a `@body` from token ids to hidden states, and a `@head` from chosen rows of them to logits.
//!
//! Tokens of all sequences lie on one axis `N`; `%rows` and `%pages` say which sequence and position each is, and only the
//! cache and attention read them. [`block`] is one transformer layer and reads from top to bottom as the papers draw it.

use bloomery_ir as ir;
use ir::program::Interface;
use ir::{DType, Graph, Module, SymbolBound};

use crate::config::{BloomConfig, Gate};
use crate::dsl::{Block, Scope, Value, Weights};

/// What a graph fixes beyond the model: element types and the bounds of what may vary by call.
pub struct BloomOptions<'a> {
    /// The element type of activations.
    pub activation: DType,
    /// The element type of each parameter, by name; of the widest layer where layers differ.
    pub weights: &'a dyn Fn(&str) -> DType,
    /// What products with weights round their left operands to, if to anything.
    pub left: Option<DType>,
    /// The element type of cached keys and values.
    pub kv_dtype: DType,
    /// Tokens in one page of the cache.
    pub page_tokens: u64,
    /// The most tokens in one call of `@body`.
    pub chunk: u64,
    /// The most rows in one call of `@head`.
    pub head_rows: u64,
    /// The most sequences in one call.
    pub sequences: u64,
    /// The most pages of one sequence: the longest context over `page_tokens`.
    pub pages: u64,
    /// The most pages in the cache.
    pub pool: u64,
}

impl Default for BloomOptions<'_> {
    /// Everything f32, chunks of 512, contexts up to 8192.
    fn default() -> Self {
        BloomOptions {
            activation: DType::F32,
            weights: &|_| DType::F32,
            left: None,
            kv_dtype: DType::F32,
            page_tokens: 64,
            chunk: 512,
            head_rows: 32,
            sequences: 256,
            pages: 128,
            pool: 65_536,
        }
    }
}

/// A model as the passes take it.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// The graphs: `@body`, which repeats `@block`, and `@head`.
    pub module: Module,
    /// The graphs that callers enter.
    pub interfaces: Vec<Interface>,
}

/// The graphs of `config`'s model.
///
/// `@body(ids: i32[N], rows: i32[S, 3], pages: i32[S, P], kv: [layers, C, 2, heads, T, d]) -> hidden: f32[N, hidden], kv`
/// and `@head(hidden: f32[N, hidden], pick: i32[R]) -> logits: f32[R, vocab]`, parameters aside.
pub fn bloom(config: &BloomConfig, options: &BloomOptions<'_>) -> Model {
    let weights = Weights::new(config, options.weights);
    let cx = Description { config, options, weights: &weights };
    let block = block(&cx);
    let body = body(&cx, &block);
    let module =
        Module { mesh: ir::Mesh::default(), graphs: vec![body, block.into_graph(), head(&cx)], ..Module::default() };
    ir::verify(&module).expect("the description of BLOOM verifies");
    Model { module, interfaces: vec![interface("body", "N", &["hidden", "kv"]), interface("head", "R", &["logits"])] }
}

fn interface(graph: &str, rows: &str, outputs: &[&str]) -> Interface {
    let outputs = outputs.iter().map(|&name| name.to_owned()).collect();
    Interface { graph: graph.to_owned(), rows: rows.to_owned(), outputs }
}

/// What every graph of a model is written from.
struct Description<'a> {
    config: &'a BloomConfig,
    options: &'a BloomOptions<'a>,
    weights: &'a Weights,
}

/// Token ids to hidden states: embedding, blocks.
fn body(cx: &Description<'_>, block: &Block) -> Graph {
    let s = Scope::new("body", &cx.body_symbols(), cx.weights);
    let ids = s.input("ids", "i32[tokens=N]");
    let (rows, pages) = (s.input("rows", "i32[S, 3]"), s.input("pages", "i32[S, P]"));
    let kv = s.state("kv", &cx.cache(Some(cx.config.layers)));
    let slopes = s.constant(DType::F32, alibi_slopes(cx.config.heads));

    let embedded = s.param("word_embeddings.weight").gather(ids).to(cx.options.activation);
    let x = cx.norm(&s, embedded, "word_embeddings_layernorm").to(cx.options.activation);
    let [x, kv] = s.repeat(block, &[x], &[kv], &[rows, pages, slopes]);
    s.graph(&[x.to(DType::F32), kv])
}

/// One layer: attention over the cache, then the MLP, each behind a layer norm and added to the stream.
fn block(cx: &Description<'_>) -> Block {
    let s = Scope::new("block", &cx.body_symbols(), cx.weights);
    let (x, kv) = (s.input("x", &cx.stream()), s.state("kv", &cx.cache(None)));
    let (rows, pages) = (s.with("rows", "i32[S, 3]"), s.with("pages", "i32[S, P]"));
    let slopes = s.with("slopes", &format!("f32[{}]", cx.config.heads));

    let normed = cx.norm(&s, x, "h.input_layernorm");
    let left = cx.rounded(normed);
    let [query, key, value] =
        ["query", "key", "value"].map(|name| linear(&s, left, "n h, h a d -> n a d", &format!("h.attention.{name}")));
    let kv = kv.cache_append(key, value, rows, pages);
    let read = query.alibi_attention(kv, rows, pages, slopes, 1.0 / (cx.config.head_dim() as f64).sqrt());
    let attended = linear(&s, cx.rounded(read), "n a d, a d h -> n h", "h.attention.dense");
    let x = attended + cx.residual(x, normed);

    let normed = cx.norm(&s, x, "h.post_attention_layernorm");
    let up = cx.gate(linear(&s, cx.rounded(normed), "n h, h f -> n f", "h.mlp.up"));
    let down = linear(&s, cx.rounded(up), "n f, f h -> n h", "h.mlp.down");
    let x = (down + cx.residual(x, normed)).to(cx.options.activation);
    s.block(&[x], &[kv])
}

/// The rows `pick` of the hidden states to logits.
fn head(cx: &Description<'_>) -> Graph {
    let symbols = [SymbolBound::new("R", 1, cx.options.head_rows), SymbolBound::new("N", 1, cx.options.chunk)];
    let s = Scope::new("head", &symbols, cx.weights);
    let hidden = s.input("hidden", &format!("f32[tokens=N, {}]", cx.config.hidden));
    let pick = s.input("pick", "i32[R]");
    let normed = cx.norm(&s, hidden.gather(pick), "ln_f");
    let table = s.param(if cx.config.tied_head { "word_embeddings.weight" } else { "lm_head.weight" });
    let logits = cx.rounded(normed).matmul("r h, v h -> r v", table).to(DType::F32);
    s.graph(&[logits])
}

/// The product with the weight of `name`, and its bias.
fn linear<'s>(s: &'s Scope<'s>, x: Value<'s>, spec: &str, name: &str) -> Value<'s> {
    x.matmul(spec, s.param(&format!("{name}.weight"))) + s.param(&format!("{name}.bias"))
}

impl Description<'_> {
    /// The layer norm of `name`.
    fn norm<'s>(&self, s: &'s Scope<'s>, x: Value<'s>, name: &str) -> Value<'s> {
        let [gamma, beta] = ["weight", "bias"].map(|part| s.param(&format!("{name}.{part}")));
        x.layer_norm(gamma, beta, self.config.layer_norm_epsilon)
    }

    /// What the MLP's width goes through.
    fn gate<'s>(&self, x: Value<'s>) -> Value<'s> {
        match self.config.gate {
            Gate::Gelu => x.gelu(),
            Gate::FastGelu => x.fast_gelu(),
        }
    }

    /// The left operand of products: the same numbers, or rounded to fewer digits where the options say so.
    fn rounded<'s>(&self, x: Value<'s>) -> Value<'s> {
        self.options.left.map_or(x, |left| x.to(left).to(self.options.activation))
    }

    /// What a sublayer's result is added to: its input, or its input after the norm.
    fn residual<'s>(&self, x: Value<'s>, normed: Value<'s>) -> Value<'s> {
        if self.config.residual_post_layernorm { normed } else { x }
    }

    fn body_symbols(&self) -> [SymbolBound; 4] {
        let options = self.options;
        let most = [("N", options.chunk), ("S", options.sequences), ("P", options.pages), ("C", options.pool)];
        most.map(|(name, most)| SymbolBound::new(name, 1, most))
    }

    /// The type of the stream between blocks.
    fn stream(&self) -> String {
        format!("{}[N, {}]", self.options.activation, self.config.hidden)
    }

    /// The type of the cache of all layers, or of one.
    fn cache(&self, layers: Option<usize>) -> String {
        let layers = layers.map_or(String::new(), |layers| format!("{layers}, "));
        let (dtype, tokens) = (self.options.kv_dtype, self.options.page_tokens);
        format!("{dtype}[{layers}C, 2, heads={}, {tokens}, {}]", self.config.heads, self.config.head_dim())
    }
}

/// ALiBi's slope of every head (Press et al. 2022, section 3 and its code).
///
/// `base^i` with `base = 2^(-8 / n)` for `i = 1..=n` when `n` is a power of two. Else the slopes of the next lower power
/// `c`, then every other one of those of `2 c`. The base is rounded to f32 before the power is taken, as Hugging Face does.
pub fn alibi_slopes(heads: usize) -> Vec<f64> {
    let whole = 1 << heads.ilog2();
    let base = |n: usize| f64::from(2_f64.powf(-8.0 / n as f64) as f32);
    let slope = |i: usize, n: usize| f64::from(base(n).powi(i as i32) as f32);
    let more = (0..heads - whole).map(|i| slope(2 * i + 1, 2 * whole));
    (1..=whole).map(|i| slope(i, whole)).chain(more).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sizes;
    use std::path::Path;

    #[test]
    fn slopes_are_the_recorded_ones() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/hf/alibi_slopes.json");
        let json: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let recorded = json["slopes"].as_object().unwrap();
        assert_eq!(recorded.len(), 24);
        for (heads, slopes) in recorded {
            let found = alibi_slopes(heads.parse().unwrap());
            let slopes: Vec<f64> = serde_json::from_value(slopes.clone()).unwrap();
            assert_eq!(found.len(), slopes.len(), "{heads} heads");
            // One unit in the last place: the powers are rounded by another library.
            let far = |(a, b): (&f64, &f64)| (a - b).abs() > 1.2e-7 * b;
            assert!(!found.iter().zip(&slopes).any(far), "{heads} heads: {found:?}");
        }
    }

    #[test]
    fn every_size_prints_and_parses() {
        for name in sizes::names() {
            for (tied_head, residual_post_layernorm) in [(true, false), (false, true)] {
                let config = BloomConfig { tied_head, residual_post_layernorm, ..sizes::by_name(name).unwrap() };
                let model = bloom(&config, &BloomOptions { weights: &|_| DType::F16, ..BloomOptions::default() });
                assert!(ir::parse(&ir::print::print(&model.module)).unwrap() == model.module, "{name}");
            }
        }
    }

    #[test]
    fn narrow_activations_and_mixed_weights_have_types_that_fit() {
        let config = sizes::by_name("560m").unwrap();
        for activation in [DType::F32, DType::F16, DType::BF16] {
            let mixed = |name: &str| if name.ends_with("bias") { DType::F32 } else { DType::BF16 };
            let options = BloomOptions { activation, weights: &mixed, kv_dtype: DType::F16, ..BloomOptions::default() };
            let body = &bloom(&config, &options).module.graphs[0];
            assert_eq!(body.ty(body.outputs[0]).to_string(), "f32[N, 1024]");
        }
    }

    #[test]
    fn products_round_their_left_operands_where_that_is_asked_for() {
        let config = sizes::by_name("560m").unwrap();
        let options = BloomOptions { left: Some(DType::BF16), weights: &|_| DType::BF16, ..BloomOptions::default() };
        let text = ir::print::print(&bloom(&config, &options).module);
        // Before query, key and value, dense, up, down; before the head.
        assert_eq!(text.matches("cast").count(), 2 * 5 + 1, "{text}");
        assert_eq!(text.matches("{to = bf16} : bf16").count(), 5, "{text}");
    }
}
