//! Call plans as text, read. Errors carry line and column; what they say of a plan is its form, not whether it can be run:
//! that is [`check`](super::check)'s. [`text`](super::text) shows the form.

use super::text::{EXCHANGES, STREAMS, TERMS_MOST, implied_strides, is_of_name, parameters};
use super::{Arena, ArenaSize, CallPlan, Communicator, Content, PlanBuffer, PlanEntry, PlanPart};
use bloomery_ir::Mesh;
use bloomery_ir::ascend::{
    AclTensor, AclType, Arg, Call, Event, Exchange, LOOPS_MOST, Over, Scalar, Step, Stream, Sum,
};
use bloomery_ir::scan::{Cursor, Parsed, Scan};
use std::collections::BTreeMap;
use std::ops::Range;

pub use bloomery_ir::ParseError;

/// Dimensions of a tensor, at most.
const DIMS_MOST: usize = 8;

/// Characters of a sum, at most.
const SUM_LONGEST: usize = 1024;

/// Ranks of a mesh, at most.
const RANKS_MOST: u64 = 1 << 20;

/// Parses a plan.
///
/// # Errors
/// The first thing that is wrong, with its place.
pub fn parse(text: &str) -> Result<CallPlan, ParseError> {
    Parser { cursor: Cursor::new(text), buffers: BTreeMap::new() }.plan()
}

struct Parser<'a> {
    cursor: Cursor<'a>,
    /// The first buffer of each name, in the part that is read.
    buffers: BTreeMap<String, usize>,
}

impl<'a> Scan<'a> for Parser<'a> {
    fn cursor(&mut self) -> &mut Cursor<'a> {
        &mut self.cursor
    }
}

impl<'a> Parser<'a> {
    fn plan(&mut self) -> Parsed<CallPlan> {
        self.keyword("plan")?;
        let model = self.string()?;
        self.keyword("for")?;
        let chip = self.spelled(str::parse)?;
        self.keyword("soc")?;
        let soc = self.strings()?;
        self.keyword("cann")?;
        let cann = self.string()?;
        let mesh = self.mesh()?;
        self.keyword("replicas")?;
        let replicas = self.number()?;
        let mut communicators = vec![];
        while self.word("communicator") {
            communicators.push(self.communicator()?);
        }
        self.keyword("symbols")?;
        let symbols = self.strings()?;
        let mut parts = vec![];
        while !self.at_end() {
            parts.push(self.part()?);
        }
        Ok(CallPlan { model, chip, soc, cann, symbols, mesh, replicas, communicators, parts })
    }

    fn mesh(&mut self) -> Parsed<Mesh> {
        self.keyword("mesh")?;
        let axes = self.sizes()?;
        let ranks = axes.iter().try_fold(1, |ranks: u64, (_, size)| ranks.checked_mul(*size));
        if axes.iter().any(|(_, size)| *size == 0) || ranks.is_none_or(|ranks| ranks > RANKS_MOST) {
            return Err(self.error("a mesh has 1 to 1048576 ranks"));
        }
        Ok(Mesh { axes })
    }

    /// `mp [0, 1] [2, 3]`
    fn communicator(&mut self) -> Parsed<Communicator> {
        let name = self.string()?;
        let mut groups = vec![];
        while self.eat("[") {
            groups.push(self.list("]", Parser::number)?);
        }
        Ok(Communicator { name, groups })
    }

    fn part(&mut self) -> Parsed<PlanPart> {
        self.keyword("part")?;
        self.keyword("stages")?;
        let stages = self.range()?;
        self.expect(",")?;
        self.keyword("layers")?;
        let layers = self.number()?;
        self.expect("{")?;
        let mut arenas = vec![];
        while self.word("arena") {
            let arena = self.arena()?;
            arenas.push(ArenaSize { arena, bytes: self.number()? });
        }
        self.buffers.clear();
        let mut buffers = vec![];
        while self.eat("%") {
            let buffer = self.buffer()?;
            self.buffers.entry(buffer.name.clone()).or_insert(buffers.len());
            buffers.push(buffer);
        }
        let mut entries = vec![];
        while !self.eat("}") {
            entries.push(self.entry()?);
        }
        Ok(PlanPart { stages, layers, arenas, buffers, entries })
    }

    /// `w = weights+128, 4096 bytes, 12 layers, parameter`
    fn buffer(&mut self) -> Parsed<PlanBuffer> {
        let name = self.string()?;
        self.expect("=")?;
        let arena = self.arena()?;
        self.expect("+")?;
        let offset = self.number()?;
        self.expect(",")?;
        let bytes = self.counted("bytes")?;
        self.expect(",")?;
        let mut layers = 1;
        if self.peek().is_some_and(|c| c.is_ascii_digit()) {
            layers = self.counted("layers")?;
            self.expect(",")?;
        }
        Ok(PlanBuffer { name, arena, offset, bytes, layers, content: self.content()? })
    }

    fn arena(&mut self) -> Parsed<Arena> {
        self.spelled(|name| Arena::by_name(name).ok_or_else(|| format!("`{name}` is no arena")))
    }

    fn content(&mut self) -> Parsed<Content> {
        Ok(match () {
            () if self.word("scratch") => Content::Scratch,
            () if self.word("parameter") => Content::Parameter,
            () if self.word("state") => Content::State,
            () if self.word("io") => Content::Io,
            () if self.word("int8") => {
                let (of, columns) = self.columns()?;
                Content::Int8 { of, columns }
            }
            () if self.word("factors") => {
                let dtype = self.dtype()?;
                let (of, columns) = self.columns()?;
                Content::Factors { of, columns, dtype }
            }
            () => self.distances()?,
        })
    }

    /// `of h.mlp.up.weight, 4096 columns`
    fn columns(&mut self) -> Parsed<(String, u64)> {
        self.keyword("of")?;
        let of = self.string()?;
        self.expect(",")?;
        Ok((of, self.counted("columns")?))
    }

    /// `distances f32, 4 heads over mp, 128 rows, reach 2048, slopes [0.5, 0.25]`
    fn distances(&mut self) -> Parsed<Content> {
        if !self.word("distances") {
            return Err(self.error("expected scratch, parameter, state, io, int8, factors, or distances"));
        }
        let dtype = self.dtype()?;
        self.expect(",")?;
        let heads = self.counted("heads")?;
        let over = if self.word("over") { Some(self.string()?) } else { None };
        self.expect(",")?;
        let rows = self.counted("rows")?;
        self.expect(",")?;
        self.keyword("reach")?;
        let reach = self.number()?;
        self.expect(",")?;
        self.keyword("slopes")?;
        self.expect("[")?;
        let slopes = self.list("]", |p| {
            let token = p.take(is_of_number, "a number")?;
            p.real(token)
        })?;
        Ok(Content::Distances { slopes, over, heads, rows, reach, dtype })
    }

    /// `entry body_2_512 of body, N 2..512, bounds [N=512] {`, steps, `}`
    fn entry(&mut self) -> Parsed<PlanEntry> {
        self.keyword("entry")?;
        let name = self.string()?;
        self.keyword("of")?;
        let group = self.string()?;
        self.expect(",")?;
        let rows = self.string()?;
        let Range { start: least, end: most } = self.range()?;
        self.expect(",")?;
        self.keyword("bounds")?;
        let bounds = self.sizes()?;
        self.expect("{")?;
        Ok(PlanEntry { name, group, rows, least, most, bounds, steps: self.steps(0)? })
    }

    /// Steps inside so many loops, up to the brace.
    fn steps(&mut self, depth: usize) -> Parsed<Vec<Step>> {
        let mut steps = vec![];
        while !self.eat("}") {
            steps.push(self.step(depth)?);
        }
        Ok(steps)
    }

    fn step(&mut self, depth: usize) -> Parsed<Step> {
        self.skip();
        let begin = self.cursor.at;
        let word = self.string()?;
        if self.eat(":") {
            return Ok(Step::Call(self.call(word)?));
        }
        if let Some((_, what)) = EXCHANGES.iter().find(|(name, _)| *name == word) {
            return self.exchange(*what);
        }
        Ok(match &word[..] {
            "for" => self.repeated(begin, depth)?,
            "copy" => {
                let from = self.tensor()?;
                self.expect("->")?;
                Step::Copy { from, to: self.tensor()? }
            }
            "from_host" => Step::FromHost { to: self.tensor()? },
            "to_host" => Step::ToHost { from: self.tensor()? },
            "record" => Step::Record(self.event()?, self.on_stream()?),
            "wait" => Step::Wait(self.event()?, self.on_stream()?),
            "fence" => Step::Fence(self.stream()?),
            _ => return Err(self.error_at(begin, "expected a step, or `}`")),
        })
    }

    /// A loop behind its keyword, which stands at `begin`.
    fn repeated(&mut self, begin: usize, depth: usize) -> Parsed<Step> {
        if depth == LOOPS_MOST {
            return Err(self.error_at(begin, &format!("loops inside loops, more than {LOOPS_MOST} deep")));
        }
        let over = self.over()?;
        self.expect("{")?;
        Ok(Step::Loop { over, steps: self.steps(depth + 1)? })
    }

    fn over(&mut self) -> Parsed<Over> {
        if self.word("layers") {
            let Range { start: from, end: to } = self.range()?;
            return Ok(Over::Layers { from, to });
        }
        if self.word("sequences") {
            return Ok(Over::Sequences);
        }
        if !self.word("blocks") {
            return Err(self.error("expected layers, sequences, or blocks"));
        }
        self.keyword("of")?;
        let rows = self.number()?;
        self.expect(",")?;
        self.keyword("reach")?;
        Ok(Over::Blocks { rows, reach: self.number()? })
    }

    /// `over mp %a:f32[N] -> %b:f32[N]`
    fn exchange(&mut self, what: Exchange) -> Parsed<Step> {
        self.keyword("over")?;
        let among = self.string()?;
        let from = self.tensor()?;
        let to = if self.eat("->") { Some(self.tensor()?) } else { None };
        Ok(Step::Exchange { what, among, from, to })
    }

    fn event(&mut self) -> Parsed<Event> {
        let number = self.number()?;
        u32::try_from(number).map(Event).map_err(|_| self.error(&format!("event {number} is larger than 32 bits hold")))
    }

    fn on_stream(&mut self) -> Parsed<Stream> {
        self.keyword("on")?;
        self.stream()
    }

    fn stream(&mut self) -> Parsed<Stream> {
        self.spelled(|name| {
            let known = STREAMS.iter().find(|(known, _)| *known == name);
            known.map(|(_, stream)| *stream).ok_or_else(|| format!("`{name}` is no stream"))
        })
    }

    /// A call behind its operation's name: `aclnnGelu(self=%a0:f32[N], out=%a1:f32[N])`
    fn call(&mut self, op: String) -> Parsed<Call> {
        let name = self.string()?;
        let parameters = parameters(&name);
        self.expect("(")?;
        let mut at = 0;
        let args = self.list(")", |p| {
            let expected = parameters.get(at).map(|parameter| parameter.name);
            at += 1;
            p.parameter_name(&name, at, expected)?;
            p.arg()
        })?;
        Ok(Call { name, args, op })
    }

    /// `self=`, which may be left out, of the parameter `at`, from 1.
    fn parameter_name(&mut self, call: &str, at: usize, expected: Option<&str>) -> Parsed<()> {
        self.skip();
        let begin = self.cursor.at;
        let name = self.name().ok();
        let Some(name) = name.filter(|_| self.eat("=")) else {
            self.cursor.at = begin;
            return Ok(());
        };
        match expected {
            Some(expected) if expected == name => Ok(()),
            Some(expected) => Err(self.error_at(begin, &format!("parameter {at} of {call} is `{expected}`"))),
            None => Err(self.error_at(begin, &format!("parameter {at} of {call} has no name"))),
        }
    }

    fn arg(&mut self) -> Parsed<Arg> {
        Ok(match self.peek() {
            Some('%' | '#') => Arg::Tensor(self.tensor()?),
            Some('[') => Arg::Ints(self.sums(usize::MAX)?),
            Some('"') => Arg::Text(self.string()?),
            Some('@') => {
                self.expect("@")?;
                Arg::Group(self.string()?)
            }
            Some('0'..='9' | '-' | '+') => self.int_or_real()?,
            _ if self.word("none") => Arg::Absent,
            _ if self.word("true") => Arg::Flag(true),
            _ if self.word("false") => Arg::Flag(false),
            _ if self.word("list") => {
                self.expect("(")?;
                Arg::Tensors(self.list(")", Parser::tensor)?)
            }
            _ => self.type_or_scalar()?,
        })
    }

    /// `-1`, `1e-5`
    fn int_or_real(&mut self) -> Parsed<Arg> {
        let begin = self.cursor.at;
        let token = self.take(is_of_number, "a number")?;
        if !token.strip_prefix('-').unwrap_or(token).bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok(Arg::Real(self.real(token)?));
        }
        token
            .parse()
            .map(Arg::Int)
            .map_err(|_| self.error_at(begin, &format!("{} is no integer of 64 bits", cut(token))))
    }

    /// `f16`, `f32(1.0)`, `i64(2*N)`
    fn type_or_scalar(&mut self) -> Parsed<Arg> {
        let dtype = self.dtype()?;
        if !self.eat("(") {
            return Ok(Arg::Type(dtype));
        }
        let is_number = matches!(self.peek(), Some('-' | '+' | '0'..='9'));
        let begin = self.cursor.at;
        let token = self.take(is_of_number, "a number").unwrap_or_default();
        let whole = token.bytes().all(|byte| byte.is_ascii_digit());
        let scalar = match token.parse() {
            Ok(number) if is_number && !whole => Scalar::Number(number),
            _ => {
                self.cursor.at = begin;
                Scalar::Count(self.sum()?)
            }
        };
        self.expect(")")?;
        Ok(Arg::Scalar(scalar, dtype))
    }

    /// `%kv+64*layer:f16[4, length, 8] at 8*first strides [128, 8, 1] of [4, 16, 8]`
    fn tensor(&mut self) -> Parsed<AclTensor> {
        let buffer = self.buffer_of_tensor()?;
        let base = if self.eat("+") { self.sum()? } else { Sum::default() };
        self.expect(":")?;
        let dtype = self.dtype()?;
        let dims = self.sums(DIMS_MOST)?;
        let offset = if self.word("at") { self.sum()? } else { Sum::default() };
        let strides = if self.word("strides") { Some(self.sums(DIMS_MOST)?) } else { None };
        let storage = if self.word("of") { self.sums(DIMS_MOST)? } else { dims.clone() };
        let strides = strides.or_else(|| implied_strides(&dims, &storage));
        let strides = strides.ok_or_else(|| self.error("dims that are long sums need strides"))?;
        Ok(AclTensor { buffer, base, dtype, storage, offset, dims, strides })
    }

    fn buffer_of_tensor(&mut self) -> Parsed<usize> {
        self.skip();
        let begin = self.cursor.at;
        if self.eat("#") {
            return Ok(self.number()? as usize);
        }
        self.expect("%")?;
        let name = self.string()?;
        let known = self.buffers.get(&name).copied();
        known.ok_or_else(|| self.error_at(begin, &format!("the part has no buffer %{}", cut(&name))))
    }

    fn dtype(&mut self) -> Parsed<AclType> {
        self.spelled(|name| AclType::by_name(name).ok_or_else(|| format!("`{name}` is no element type")))
    }

    /// Sums in brackets, so many at most.
    fn sums(&mut self, most: usize) -> Parsed<Vec<Sum>> {
        self.expect("[")?;
        let sums = self.list("]", Parser::sum)?;
        if sums.len() > most { Err(self.error(&format!("a tensor has at most {most} dims"))) } else { Ok(sums) }
    }

    fn sum(&mut self) -> Parsed<Sum> {
        self.skip();
        let begin = self.cursor.at;
        let of_sum = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '*' | '/' | '+');
        let token = self.take(of_sum, "a sum such as 8*first+64")?;
        if token.len() > SUM_LONGEST || token.split('+').count() > TERMS_MOST {
            let message = format!("a sum of more than {TERMS_MOST} terms or {SUM_LONGEST} characters");
            return Err(self.error_at(begin, &message));
        }
        token.parse().map_err(|error| self.error_at(begin, &format!("{error}")))
    }

    fn real(&mut self, token: &str) -> Parsed<f64> {
        token.parse().map_err(|_| self.error(&format!("`{}` is no number", cut(token))))
    }

    /// `12 layers`
    fn counted(&mut self, what: &str) -> Parsed<u64> {
        let count = self.number()?;
        self.keyword(what)?;
        Ok(count)
    }

    /// `0..12`
    fn range(&mut self) -> Parsed<Range<u64>> {
        let start = self.number()?;
        self.expect("..")?;
        Ok(start..self.number()?)
    }

    /// `[pp=2, mp=4]`
    fn sizes(&mut self) -> Parsed<Vec<(String, u64)>> {
        self.expect("[")?;
        self.list("]", |p| {
            let name = p.string()?;
            p.expect("=")?;
            Ok((name, p.number()?))
        })
    }

    fn strings(&mut self) -> Parsed<Vec<String>> {
        self.expect("[")?;
        self.list("]", Parser::string)
    }

    /// A name of something there is a list of.
    fn spelled<T>(&mut self, known: impl FnOnce(&str) -> Result<T, String>) -> Parsed<T> {
        self.skip();
        let begin = self.cursor.at;
        let name = self.name()?;
        known(cut(name)).map_err(|message| self.error_at(begin, &message))
    }

    /// A name, or anything in quotes.
    fn string(&mut self) -> Parsed<String> {
        if self.peek() != Some('"') {
            return Ok(self.take(is_of_name, "a name")?.to_owned());
        }
        let begin = self.cursor.at;
        let mut text = String::new();
        let mut chars = self.rest()[1..].char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.cursor.at += 1 + at + 1;
                    return Ok(text);
                }
                '\\' => match chars.next() {
                    Some((_, 'n')) => text.push('\n'),
                    Some((_, c @ ('"' | '\\'))) => text.push(c),
                    _ => return Err(self.error_at(begin + 1 + at, "a backslash comes with n, \" or \\")),
                },
                c => text.push(c),
            }
        }
        Err(self.error_at(begin, "the text is not closed"))
    }
}

fn is_of_number(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '+' | '-')
}

/// As much of a text as a message shows.
fn cut(text: &str) -> &str {
    text.char_indices().nth(40).map_or(text, |(at, _)| &text[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "plan m for 910a soc [] cann 8 mesh [] replicas 1 symbols []\n";

    fn refused(steps: &str, message: &str) {
        let text = format!(
            "{HEAD}part stages 0..1, layers 1 {{ %a = io+0, 8 bytes, io entry e of e, N 1..1, bounds [] {{\n{steps}"
        );
        assert_eq!(parse(&text).unwrap_err().to_string(), message, "{steps}");
    }

    #[test]
    fn says_where_it_stopped() {
        refused("x: aclnnGelu(out=%a:f32[N])", "3:14: parameter 1 of aclnnGelu is `self`");
        refused("x: aclnnGelu(self=%a:f32[N], out=%b:f32[N])", "3:34: the part has no buffer %b");
        refused("x: aclnnX(x=%a:f32[N])", "3:11: parameter 1 of aclnnX has no name");
        refused("x: aclnnX(%a:f34[N])", "3:14: `f34` is no element type");
        refused("x: aclnnX(%a:f32[N-1])", "3:19: expected `]`");
        refused(
            "x: aclnnX(%a:f32[N+*2])",
            "3:18: `*2` is no extent (write a number, a name, or a product such as 2*N/mp)",
        );
        refused("x: aclnnX(%a:f32[1, 1, 1, 1, 1, 1, 1, 1, 1])", "3:44: a tensor has at most 8 dims");
        refused("x: aclnnX(9223372036854775808)", "3:11: 9223372036854775808 is no integer of 64 bits");
        refused("x: aclnnX(1.2.3)", "3:16: `1.2.3` is no number");
        refused("x: aclnnX(\"a\\b\")", "3:13: a backslash comes with n, \" or \\");
        refused("x: aclnnX(\"a", "3:11: the text is not closed");
        refused("record 4294967296 on compute", "3:18: event 4294967296 is larger than 32 bits hold");
        refused("fence host", "3:7: `host` is no stream");
        refused("for rows {", "3:5: expected layers, sequences, or blocks");
        refused("jump", "3:1: expected a step, or `}`");
        refused("", "3:1: expected a name");
        assert_eq!(parse("").unwrap_err().to_string(), "1:1: expected `plan`");
        let mesh = HEAD.replace("mesh []", "mesh [a=1024, b=1025]");
        assert_eq!(parse(&mesh).unwrap_err().to_string(), "1:52: a mesh has 1 to 1048576 ranks");
    }

    #[test]
    fn nothing_takes_long_or_all_of_the_stack() {
        refused(&"for sequences {".repeat(100_000), "3:61: loops inside loops, more than 4 deep");
        let long = format!("from_host %a:f32[{}]", ["N"; 65].join("+"));
        refused(&long, "3:18: a sum of more than 64 terms or 1024 characters");
        let wide = |name: &str| (0..64).map(|i| format!("{name}{i}")).collect::<Vec<String>>().join("+");
        let dims: Vec<String> = ["a", "b", "c", "d", "e", "f", "g", "h"].map(wide).to_vec();
        let message = format!("3:{}: dims that are long sums need strides", 18 + dims.join(", ").len() + 1);
        refused(&format!("from_host %a:f32[{}]", dims.join(", ")), &message);
    }
}
