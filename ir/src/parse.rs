//! The text form, read. Errors carry line and column; the verifier's are placed on the line of the node they blame.

use crate::extent::Extent;
use crate::graph::{Graph, Input, Module, Node, Part, Role, Stage, SymbolBound, ValueId};
use crate::ops::Op;
use crate::print::is_word;
use crate::scan::{Cursor, Parsed, Scan};
use crate::types::{DType, Dim, Mesh, TensorType};
use crate::verify::{VerifyError, verify};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

pub use crate::scan::ParseError;

/// Parses and verifies a module.
///
/// # Errors
/// The first thing that is wrong, with its place.
pub fn parse(text: &str) -> Result<Module, ParseError> {
    let mut parser = Parser { cursor: Cursor::new(text), places: BTreeMap::new() };
    let module = parser.module()?;
    verify(&module).map_err(|error| parser.blame(&error))?;
    Ok(module)
}

/// Parses one type, e.g. `f32[N, 8]`.
///
/// # Errors
/// As [`parse`].
pub fn parse_type(text: &str) -> Result<TensorType, ParseError> {
    let mut parser = Parser { cursor: Cursor::new(text), places: BTreeMap::new() };
    let ty = parser.ty()?;
    if parser.at_end() { Ok(ty) } else { Err(parser.error("expected the end of the type")) }
}

/// Ranks of a mesh, at most.
const RANKS_MOST: u64 = 1 << 20;

/// How deep lists in attributes may nest: operations take lists of lists at most.
const LISTS_MOST: usize = 64;

struct Parser<'a> {
    cursor: Cursor<'a>,
    /// Where graphs (no node) and nodes begin.
    places: BTreeMap<(String, Option<usize>), usize>,
}

/// Names of the values of the graph being read.
type Names = BTreeMap<String, ValueId>;

impl<'a> Scan<'a> for Parser<'a> {
    fn cursor(&mut self) -> &mut Cursor<'a> {
        &mut self.cursor
    }
}

impl<'a> Parser<'a> {
    fn module(&mut self) -> Parsed<Module> {
        let mut module = Module::default();
        if self.word("mesh") {
            module.mesh = self.mesh()?;
        }
        while self.word("stage") {
            module.stages.push(self.stage()?);
        }
        while !self.at_end() {
            let begin = self.cursor.at;
            if self.word("weight") {
                module.weights.push(self.graph(begin)?);
            } else {
                self.keyword("graph")?;
                module.graphs.push(self.graph(begin)?);
            }
        }
        if module.graphs.is_empty() {
            return Err(self.error("expected `graph`"));
        }
        Ok(module)
    }

    fn mesh(&mut self) -> Parsed<Mesh> {
        self.expect("@")?;
        self.name()?;
        self.expect("=")?;
        self.expect("[")?;
        let axes = self.list("]", |p| {
            let name = p.name()?.to_owned();
            p.expect("=")?;
            let size = p.number()?;
            if size == 0 || size > RANKS_MOST {
                Err(p.error("an axis has 1 to 1048576 ranks"))
            } else {
                Ok((name, size))
            }
        })?;
        let ranks = axes.iter().try_fold(1, |ranks: u64, (_, size)| ranks.checked_mul(*size));
        if ranks.is_none_or(|ranks| ranks > RANKS_MOST) {
            return Err(self.error("a mesh has at most 1048576 ranks"));
        }
        Ok(Mesh { axes })
    }

    /// `0..12 [@body = @body.0]`
    fn stage(&mut self) -> Parsed<Stage> {
        let from = self.number()?;
        self.expect("..")?;
        let to = self.number()?;
        self.expect("[")?;
        let parts = self.list("]", |p| {
            p.expect("@")?;
            let whole = p.path()?.to_owned();
            p.expect("=")?;
            p.expect("@")?;
            Ok(Part { whole, graph: p.path()?.to_owned() })
        })?;
        Ok(Stage { layers: from..to, parts })
    }

    /// A graph behind its keyword, which stands at `begin`.
    fn graph(&mut self, begin: usize) -> Parsed<Graph> {
        self.expect("@")?;
        let name = self.path()?.to_owned();
        self.places.insert((name.clone(), None), begin);
        let mut graph = Graph { name, symbols: vec![], inputs: vec![], nodes: vec![], outputs: vec![], types: vec![] };
        if self.eat("<") {
            graph.symbols = self.list(">", Parser::symbol)?;
        }
        let mut names = Names::new();
        self.expect("(")?;
        graph.inputs = self.list(")", Parser::input)?;
        for (i, input) in graph.inputs.iter().enumerate() {
            if names.insert(input.name.clone(), ValueId(i as u32)).is_some() {
                return Err(self.error(&format!("%{} is defined twice", input.name)));
            }
            graph.types.push(input.ty.clone());
        }
        self.expect("{")?;
        while !self.word("return") {
            self.node(&mut graph, &mut names)?;
        }
        graph.outputs = self.values("}", &names)?;
        Ok(graph)
    }

    fn symbol(&mut self) -> Parsed<SymbolBound> {
        let name = self.name()?.to_owned();
        self.expect(":")?;
        let least = self.number()?;
        self.expect("..")?;
        Ok(SymbolBound { name, least, most: self.number()? })
    }

    fn input(&mut self) -> Parsed<Input> {
        let role = match () {
            () if self.word("param") => Role::Parameter,
            () if self.word("state") => Role::State,
            () => Role::Plain,
        };
        self.expect("%")?;
        let name = self.path()?.to_owned();
        // Results print as numbers, which an input of that name would clash with.
        if name.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(self.error(&format!("input %{name} needs a name, numbers are for results")));
        }
        self.expect(":")?;
        Ok(Input { name, role, ty: self.ty()? })
    }

    fn node(&mut self, graph: &mut Graph, names: &mut Names) -> Parsed<()> {
        self.skip();
        let begin = self.cursor.at;
        self.places.insert((graph.name.clone(), Some(graph.nodes.len())), begin);
        let mut results = vec![];
        loop {
            self.expect("%")?;
            results.push(self.path()?.to_owned());
            if !self.eat(",") {
                break;
            }
        }
        self.expect("=")?;
        let (op, operands) = self.operation(names)?;
        self.expect(":")?;
        let first = graph.types.len() as u32;
        for (i, name) in results.iter().enumerate() {
            if i > 0 {
                self.expect(",")?;
            }
            graph.types.push(self.ty()?);
            if names.insert(name.clone(), ValueId(first + i as u32)).is_some() {
                return Err(self.error(&format!("%{name} is defined twice")));
            }
        }
        let results = (first..graph.types.len() as u32).map(ValueId).collect();
        graph.nodes.push(Node { op, operands, results });
        Ok(())
    }

    fn operation(&mut self, names: &Names) -> Parsed<(Op, Vec<ValueId>)> {
        self.skip();
        let begin = self.cursor.at;
        let name = self.name()?;
        if name == "repeat" {
            return self.repeat(names);
        }
        let mut attributes = Map::new();
        if name == "call" {
            self.expect("@")?;
            attributes.insert("body".to_owned(), Value::String(self.path()?.to_owned()));
        }
        let mut operands = vec![];
        while self.peek() == Some('%') || !operands.is_empty() && self.eat(",") {
            operands.push(self.value(names)?);
        }
        if self.eat("{") {
            attributes.extend(self.list("}", Parser::field)?);
        }
        let op =
            Op::from_attributes(name, Value::Object(attributes)).map_err(|message| self.error_at(begin, &message))?;
        Ok((op, operands))
    }

    fn repeat(&mut self, names: &Names) -> Parsed<(Op, Vec<ValueId>)> {
        let reverse = self.word("reverse");
        self.expect("@")?;
        let body = self.path()?.to_owned();
        self.keyword("over")?;
        let over = self.name()?.to_owned();
        let from = self.number()?;
        self.expect("..")?;
        let to = self.number()?;
        let mut operands = vec![];
        let mut counts = [0; 4];
        for (count, group) in counts.iter_mut().zip(["carry", "slice", "state", "with"]) {
            if self.word(group) {
                self.expect("(")?;
                let values = self.values(")", names)?;
                *count = values.len();
                operands.extend(values);
            }
        }
        let mut collect = 0;
        if self.word("collect") {
            self.expect("(")?;
            collect = self.number()? as usize;
            self.expect(")")?;
        }
        let [carry, slice, state, with] = counts;
        let repeat = crate::ops::repeat::Repeat { body, over, from, to, reverse, carry, slice, state, with, collect };
        Ok((repeat.into(), operands))
    }

    fn field(&mut self) -> Parsed<(String, Value)> {
        let name = self.name()?.to_owned();
        self.expect("=")?;
        Ok((name, self.attribute(0)?))
    }

    /// A value inside `depth` lists.
    fn attribute(&mut self, depth: usize) -> Parsed<Value> {
        self.skip();
        let begin = self.cursor.at;
        if self.eat("[") {
            if depth == LISTS_MOST {
                return Err(self.error_at(begin, &format!("lists nest more than {LISTS_MOST} deep")));
            }
            return Ok(Value::Array(self.list("]", |p| p.attribute(depth + 1))?));
        }
        let rest = self.rest();
        let end = if let Some(quoted) = rest.strip_prefix('"') {
            quoted.find('"').ok_or_else(|| self.error("string is not closed"))? + 2
        } else {
            rest.find(|c: char| c.is_whitespace() || ",]}".contains(c)).unwrap_or(rest.len())
        };
        let token = &rest[..end];
        let read = match serde_json::from_str(token) {
            Ok(value) => Some(value),
            Err(_) if is_word(token) => Some(Value::String(token.to_owned())),
            Err(_) => None,
        };
        let shown = |token: &str| token.chars().take(40).collect::<String>();
        let value = read.ok_or_else(|| self.error(&format!("`{}` is no attribute value", shown(token))))?;
        self.cursor.at += end;
        Ok(value)
    }

    fn ty(&mut self) -> Parsed<TensorType> {
        self.skip();
        let begin = self.cursor.at;
        let name = self.name()?;
        let dtype = DType::by_name(name)
            .ok_or_else(|| self.error_at(begin, &format!("`{name}` is no element type (f32 f16 bf16 i32 i8 u4)")))?;
        self.expect("[")?;
        let dims = self.list("]", Parser::dim)?;
        let mut partial = vec![];
        if self.word("partial") {
            self.expect("(")?;
            partial = self.list(")", |p| p.name().map(str::to_owned))?;
        }
        Ok(TensorType { dtype, dims, partial })
    }

    fn dim(&mut self) -> Parsed<Dim> {
        let mut word = self.extent_text()?;
        let mut logical = None;
        if self.eat("=") {
            logical = Some(word.to_owned());
            word = self.extent_text()?;
        }
        let extent: Extent = word.parse().map_err(|error| self.error(&format!("{error}")))?;
        let split = if self.eat("@") { Some(self.name()?.to_owned()) } else { None };
        Ok(Dim { extent, logical, split })
    }

    fn extent_text(&mut self) -> Parsed<&'a str> {
        self.take(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '*' | '/'), "an extent")
    }

    fn value(&mut self, names: &Names) -> Parsed<ValueId> {
        self.skip();
        let begin = self.cursor.at;
        self.expect("%")?;
        let name = self.path()?;
        names.get(name).copied().ok_or_else(|| self.error_at(begin, &format!("%{name} is not defined before its use")))
    }

    fn values(&mut self, close: &str, names: &Names) -> Parsed<Vec<ValueId>> {
        self.list(close, |p| p.value(names))
    }

    /// The verifier's error at the text it blames.
    fn blame(&mut self, error: &VerifyError) -> ParseError {
        let (graph, node) = error.place();
        let at = self.places.get(&(graph.to_owned(), node)).copied().unwrap_or(0);
        self.error_at(at, &error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::print::print;

    /// The canonical text of `text`.
    fn check(text: &str, expect: &str) {
        let module = parse(text).unwrap();
        assert_eq!(print(&module), expect);
        assert_eq!(parse(expect).unwrap(), module);
    }

    fn refused(text: &str, expect: &str) {
        assert_eq!(parse(text).unwrap_err().to_string(), expect);
    }

    #[test]
    fn reads_what_it_prints() {
        check(
            "graph @mlp<N: 1..512>(%x: bf16[N, hidden=64], param %up: bf16[hidden=64, ffn=256],) { // an mlp\n\
             %h = matmul %x, %up : bf16[N, 256] %1 = gelu %h : bf16[N, 256] return %1 }",
            "graph @mlp<N: 1..512>(%x: bf16[N, hidden=64], param %up: bf16[hidden=64, ffn=256]) {\n  \
             %0 = matmul %x, %up : bf16[N, 256]\n  %1 = gelu %0 : bf16[N, 256]\n  return %1\n}\n",
        );
    }

    #[test]
    fn reads_a_mesh_and_owed_sums() {
        let text = "mesh @m = [mp=4]\n\ngraph @down(%x: f32[8, 256/mp], %w: f32[256/mp, 64]) {\n  \
                    %0 = matmul %x, %w : f32[8, 64] partial(mp)\n  %1 = all_reduce %0 {over = mp} : f32[8, 64]\n  \
                    return %1\n}\n";
        check(text, text);
    }

    #[test]
    fn numbers_keep_every_bit() {
        let text = "graph @a() {\n  %0 = constant {dtype = f32, shape = [2], values = [0.1767766922712326, -0.00001]} : f32[2]\n  \
                    return %0\n}\n";
        check(text, text);
    }

    #[test]
    fn says_where_it_stopped() {
        refused("graph @a(%x: f32[2]) { return %y }", "1:31: %y is not defined before its use");
        refused("graph @a(%x: f33[2]) { return %x }", "1:14: `f33` is no element type (f32 f16 bf16 i32 i8 u4)");
        refused("graph @a(%x: f32[2]) {\n  %0 = gelo %x : f32[2] return %0 }", "2:8: unknown operation `gelo`");
        refused(
            "graph @a(%x: f32[2]) {\n  %0 = gelu %x : f32[3]\n  return %0\n}",
            "2:3: @a, node 0 (gelu): result is f32[2], stated as f32[3]",
        );
        refused("graph @a(%x: f32[N]) { return %x }", "1:1: @a: extent N of value 0 uses a name that is not declared");
        refused("", "1:1: expected `graph`");
        refused("mesh @m = [a=1024, b=1025]", "1:27: a mesh has at most 1048576 ranks");
        refused(
            "graph @a(%x: f32[2]) { %y = cast %x {to = ((((((((((((((((((((((((((((((((((((((((((((} }",
            "1:43: `((((((((((((((((((((((((((((((((((((((((` is no attribute value",
        );
        let deep = format!("graph @a(%x: f32[2]) {{ %y = cast %x {{to = {}", "[".repeat(30_000));
        refused(&deep, "1:107: lists nest more than 64 deep");
    }
}
