//! A YAML file as keys, values and where they stand.
//!
//! Two parsers read it. `saphyr-parser` says where each key and value stands, and sees keys that are there twice;
//! `serde_yaml` says what the values are, and what is wrong with text that is no YAML. Here the two are put together, along
//! the keys of [`keys`](crate::keys): whatever else stands there is refused, so nothing is walked deeper than they go.

use std::collections::{BTreeMap, BTreeSet};

use saphyr_parser::{Event, Marker, Parser};
use serde_yaml::Value;

use crate::error::{Position, Problem};
use crate::keys::{self, Key, LISTED, Misfit};

/// What a file says of one key.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) key: &'static Key,
    pub(crate) at: Position,
    pub(crate) value: Value,
}

/// What is wrong, and where, and with which key.
#[derive(Debug)]
pub(crate) struct Wrong {
    pub(crate) problem: Box<Problem>,
    pub(crate) at: Option<Position>,
    pub(crate) path: String,
}

impl Wrong {
    /// Something wrong with a file as a whole.
    pub(crate) fn of_file(problem: Problem) -> Wrong {
        Wrong { problem: Box::new(problem), at: None, path: String::new() }
    }
}

/// Everything that a text says, in its order. What is `null` is not said.
pub(crate) fn read(text: &str) -> Result<Vec<Said>, Wrong> {
    // A mark of the byte order is no part of the text.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let marked = mark(text);
    let values = serde_yaml::from_str::<Value>(text);
    let (nodes, root) = match (marked, &values) {
        (Ok(marked), _) => marked,
        // Of two parsers that refuse a text, the one that reads values says why.
        (Err(wrong), Err(error)) if matches!(*wrong.problem, Problem::Yaml { .. }) => return Err(no_yaml(error)),
        (Err(wrong), _) => return Err(wrong),
    };
    let root = root.ok_or_else(|| Wrong::of_file(Problem::Empty))?;
    let mut walk = Walk { nodes: &nodes, found: Vec::new() };
    walk.section("", root, &[])?;
    let values = values.map_err(|error| no_yaml(&error))?;
    let found = walk.found;
    let said = found.into_iter().filter_map(|(key, at, steps)| said(key, at, value_at(&values, &steps)).transpose());
    said.collect()
}

fn said(key: &'static Key, at: Marks, value: Option<&Value>) -> Result<Option<Said>, Wrong> {
    let value = match value {
        // Only where the two parsers see two texts.
        None => return Err(wrong(Problem::TwoReadings, at.key, key.path)),
        Some(Value::Null) => return Ok(None),
        Some(value) => value,
    };
    check(key, value).map_err(|problem| wrong(problem, at.value, key.path))?;
    Ok(Some(Said { key, at: at.key, value: value.clone() }))
}

/// That a value is what its key takes.
pub(crate) fn check(key: &Key, value: &Value) -> Result<(), Problem> {
    let (found, expected) = (shown(value), key.kind.expected());
    match key.kind.check(value) {
        Ok(()) => Ok(()),
        Err(Misfit::Type) => Err(Problem::Type { path: key.path.to_owned(), found, expected, text: value.is_string() }),
        Err(Misfit::Range) => Err(Problem::Range { path: key.path, found, expected }),
    }
}

fn wrong(problem: Problem, at: Position, path: &str) -> Wrong {
    Wrong { problem: Box::new(problem), at: Some(at), path: path.to_owned() }
}

fn no_yaml(error: &serde_yaml::Error) -> Wrong {
    let at = error.location().map(|at| Position { line: at.line(), column: at.column() });
    let said = error.to_string();
    // The place is shown apart.
    let said =
        at.and_then(|at| said.strip_suffix(&format!(" at line {} column {}", at.line, at.column))).unwrap_or(&said);
    Wrong { at, ..Wrong::of_file(Problem::Yaml { said: said.to_owned() }) }
}

/// A value for a message: whole when short, else its beginning.
pub(crate) fn shown(value: &Value) -> String {
    let text = match value {
        Value::Null => "nothing".to_owned(),
        Value::Mapping(_) => "a section of keys".to_owned(),
        Value::Sequence(_) => "a list".to_owned(),
        Value::String(text) => format!("{text:?}"),
        other => serde_yaml::to_string(other).unwrap_or_default().trim().to_owned(),
    };
    shortened(&text)
}

/// A word of the file for a message: on one line, whole when short.
fn plain(word: &str) -> String {
    shortened(&word.escape_debug().to_string())
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}..", &text[..end]),
        None => text.to_owned(),
    }
}

/// A step from a value into it.
#[derive(Clone, Debug)]
enum Step {
    Key(String),
    Item(usize),
}

fn value_at<'v>(values: &'v Value, steps: &[Step]) -> Option<&'v Value> {
    steps.iter().try_fold(values, |value, step| match step {
        Step::Key(key) => value.get(key.as_str()),
        Step::Item(item) => value.get(*item),
    })
}

/// Where a key and its value begin.
#[derive(Clone, Copy, Debug)]
struct Marks {
    key: Position,
    value: Position,
}

/// A node of the text, and where it begins. Nodes are named by their number.
struct Marked {
    at: Position,
    node: Node,
}

enum Node {
    Scalar(String),
    List(Vec<usize>),
    /// Keys and values.
    Section(Vec<(usize, usize)>),
}

/// The nodes of a text and the number of the outermost, if there is one. What an alias stands for has one number.
fn mark(text: &str) -> Result<(Vec<Marked>, Option<usize>), Wrong> {
    let (mut nodes, mut anchors, mut root) = (Vec::new(), BTreeMap::new(), None);
    let mut open: Vec<(usize, Vec<usize>)> = Vec::new();
    for event in Parser::new_from_str(text) {
        let (event, span) = event
            .map_err(|error| wrong(Problem::Yaml { said: error.info().to_owned() }, position(error.marker()), ""))?;
        let at = position(&span.start);
        let (anchor, node) = match event {
            Event::Scalar(text, _, anchor, _) => (anchor, Node::Scalar(text.into_owned())),
            Event::SequenceStart(anchor, _) => (anchor, Node::List(Vec::new())),
            Event::MappingStart(anchor, _) => (anchor, Node::Section(Vec::new())),
            Event::Alias(anchor) => {
                let unknown = || wrong(Problem::Yaml { said: "an alias of nothing".to_owned() }, at, "");
                let node = anchors.get(&anchor).copied().ok_or_else(unknown)?;
                open.last_mut().map_or_else(|| root = Some(node), |(_, inside)| inside.push(node));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let (node, inside) = open.pop().expect("what ends has begun");
                close(&mut nodes, node, inside);
                continue;
            }
            Event::DocumentStart(_) if root.is_some() => return Err(wrong(Problem::SecondDocument, at, "")),
            _ => continue,
        };
        let number = nodes.len();
        let opens = !matches!(node, Node::Scalar(_));
        nodes.push(Marked { at, node });
        if anchor > 0 {
            anchors.insert(anchor, number);
        }
        open.last_mut().map_or_else(|| root = Some(number), |(_, inside)| inside.push(number));
        if opens {
            open.push((number, Vec::new()));
        }
    }
    let says_nothing = |node: &usize| matches!(&nodes[*node].node, Node::Scalar(text) if text.is_empty());
    let root = root.filter(|root| !says_nothing(root));
    Ok((nodes, root))
}

fn close(nodes: &mut [Marked], number: usize, inside: Vec<usize>) {
    match &mut nodes[number].node {
        Node::List(list) => *list = inside,
        Node::Section(pairs) => *pairs = inside.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect(),
        Node::Scalar(_) => unreachable!("a scalar is not opened"),
    }
}

/// Columns count from 1, as lines do.
fn position(marker: &Marker) -> Position {
    Position { line: marker.line(), column: marker.col() + 1 }
}

/// The walk along known keys.
struct Walk<'n> {
    nodes: &'n [Marked],
    found: Vec<(&'static Key, Marks, Vec<Step>)>,
}

impl Walk<'_> {
    /// What stands in a section of this path; `steps` lead there in the values.
    fn section(&mut self, path: &str, node: usize, steps: &[Step]) -> Result<(), Wrong> {
        let nodes = self.nodes;
        let pairs = match &nodes[node].node {
            Node::Section(pairs) => pairs,
            // A section that is begun and says nothing.
            Node::Scalar(text) if !path.is_empty() && matches!(text.as_str(), "" | "~" | "null") => return Ok(()),
            Node::List(items) if path == LISTED => return self.items(items, steps),
            other => return Err(wrong(no_section(path, other), nodes[node].at, path)),
        };
        let mut seen = BTreeMap::new();
        for (key, value) in pairs {
            let at = nodes[*key].at;
            let Node::Scalar(name) = &nodes[*key].node else { return Err(wrong(Problem::KeyIsNoWord, at, path)) };
            if let Some(first) = seen.insert(name.as_str(), at) {
                let path = keys::join(path, &plain(name));
                return Err(wrong(Problem::Twice { path: path.clone(), first: first.line }, at, &path));
            }
            let steps = [steps, &[Step::Key(name.clone())]].concat();
            self.entry(&keys::join(path, name), Marks { key: at, value: nodes[*value].at }, *value, &steps)?;
        }
        Ok(())
    }

    fn entry(&mut self, path: &str, marks: Marks, value: usize, steps: &[Step]) -> Result<(), Wrong> {
        if let Some(key) = keys::find(path) {
            self.found.push((key, marks, steps.to_vec()));
            return Ok(());
        }
        if !keys::is_section(path) {
            return Err(wrong(unknown(path), marks.key, &plain(path)));
        }
        self.section(path, value, steps)
    }

    /// Items of a list, each a section by its `type`.
    fn items(&mut self, items: &[usize], steps: &[Step]) -> Result<(), Wrong> {
        let mut seen = BTreeSet::new();
        for (item, node) in items.iter().enumerate() {
            let at = self.nodes[*node].at;
            let Some((name, name_at)) = self.type_of(*node) else {
                return Err(wrong(Problem::NoType { item }, at, &format!("{LISTED}[{item}]")));
            };
            let path = keys::join(LISTED, &name);
            if !keys::is_section(&path) {
                return Err(wrong(unknown(&path), name_at, &format!("{LISTED}[{item}].type")));
            }
            if !seen.insert(name) {
                return Err(wrong(Problem::ItemTwice { path: path.clone() }, name_at, &path));
            }
            self.section(&path, *node, &[steps, &[Step::Item(item)]].concat())?;
        }
        Ok(())
    }

    /// What an item's `type` says, and where.
    fn type_of(&self, node: usize) -> Option<(String, Position)> {
        let Node::Section(pairs) = &self.nodes[node].node else { return None };
        let scalar = |node: usize| match &self.nodes[node].node {
            Node::Scalar(text) => Some(text.as_str()),
            _ => None,
        };
        let (_, value) = pairs.iter().find(|(key, _)| scalar(*key) == Some("type"))?;
        Some((scalar(*value)?.to_owned(), self.nodes[*value].at))
    }
}

fn no_section(path: &str, node: &Node) -> Problem {
    let (found, text) = match node {
        Node::Scalar(text) => (plain(text), true),
        Node::List(_) => ("a list".to_owned(), false),
        Node::Section(_) => unreachable!("it is one"),
    };
    let path = if path.is_empty() { "the file" } else { path };
    let expected = if path == LISTED { "a list of sections" } else { "a section of keys" };
    Problem::Type { path: path.to_owned(), found, expected: expected.to_owned(), text }
}

/// A key that is not known, with what may have been meant.
pub(crate) fn unknown(path: &str) -> Problem {
    let (section, _) = keys::split(path);
    // Where the section is unknown too, its names would be none.
    let section = if keys::is_section(section) { section } else { "" };
    Problem::Unknown { path: plain(path), nearest: keys::nearest(path), section: section.to_owned() }
}
