//! MindSpore's parallel strategy files, `ckpt_strategy_rank_N.ckpt`: where the ranks of one stage hold which part of each
//! parameter, and in how many pieces its operators cut what they take.
//!
//! The file is one protobuf message ([`messages`]), or the same facts as JSON ([`json`]), which is written where a name
//! ends in `.json`. [`StrategyFile`] is what both say, with every layout checked on the way in and out; [`pieces`] says
//! what a layout means, rank by rank. Ranks of a stage write equal files; a merged file of several stages puts `STAGE-`
//! before parameters' names, and [`Stages`] is all of them together. What a parameter is for is not known here.

mod json;
mod messages;
mod pieces;
mod problem;
mod stages;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use prost::Message as _;

pub use pieces::Piece;
pub use problem::StrategyProblem;
pub use stages::{Opened, Stage, Stages, files};

use crate::{FormatError, Partial, map};
use messages::{LayoutItem, Layouts, Long, Map, OperatorItem, Signed, Strategies, Unsigned};

/// What a file says, in its order, which means nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StrategyFile {
    /// No pipeline stage: 1 by MindSpore 2.0 and in merged files, 2 by 2.10. Nobody reads it.
    pub current_stage: u32,
    /// Operators that have a parameter.
    pub operators: Vec<Operator>,
    /// Parameters, the optimizer's states among them.
    pub parameters: Vec<Parameter>,
    /// Whole parameters' extents by name, which only JSON says, and only that of MindSpore 2.10.
    pub shapes: BTreeMap<String, Vec<u64>>,
}

/// An operator with a parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// Its kind, `_`, and its parameter's name.
    pub name: String,
    /// The pipeline stage it runs on: the one place where that stands.
    pub stage: u32,
    /// Into how many pieces each dimension of each input is cut; none where that was said by layouts.
    pub inputs: Vec<Vec<u32>>,
}

/// A parameter and where it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its name, after `STAGE-` in a merged file.
    pub name: String,
    /// Where it lies.
    pub layout: Layout,
}

/// Where the ranks of a stage hold which part of a parameter; [`Layout::pieces`] says it of each.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Layout {
    /// The arrangement of the stage's ranks; they count along its last axis fastest.
    pub dev_matrix: Vec<u32>,
    /// Of each of the parameter's dimensions: the axes of `dev_matrix` that cut it, numbered from the right, the slowest
    /// first; none where it is whole.
    pub tensor_map: Vec<Vec<u32>>,
    /// Whether the optimizer's ranks cut the first dimension once more.
    pub optimizer_shard: Option<OptimizerShard>,
    /// For tables that are cut unevenly: nobody writes more than one empty list.
    pub param_split_shape: Vec<Vec<i64>>,
    /// The same.
    pub indices_offset: Vec<Vec<i64>>,
    /// The same, 0.
    pub field: i32,
}

/// How ranks that would hold equal pieces share them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OptimizerShard {
    /// From one rank of a group to the next.
    pub step: u32,
    /// Ranks of a group; all that would hold equal pieces where nothing is said.
    pub size: Option<u32>,
}

/// More ranks are not believed: whoever goes through all of them would never end.
const RANKS_MAX: u32 = 1 << 20;

impl Layout {
    /// A layout of whole or evenly cut dimensions.
    pub fn new(dev_matrix: Vec<u32>, tensor_map: Vec<Vec<u32>>, optimizer_shard: Option<OptimizerShard>) -> Layout {
        let empty = vec![Vec::new()];
        Layout {
            dev_matrix,
            tensor_map,
            optimizer_shard,
            param_split_shape: empty.clone(),
            indices_offset: empty,
            field: 0,
        }
    }

    /// What is wrong with it, if something is.
    fn check(&self) -> Option<String> {
        let devices = &self.dev_matrix;
        let product = devices.iter().try_fold(1u32, |product, axis| product.checked_mul(*axis));
        if devices.is_empty() || product.is_none_or(|product| product == 0 || product > RANKS_MAX) {
            return Some(format!("arranges ranks as {devices:?}"));
        }
        let mut axes: Vec<u32> = self.tensor_map.iter().flatten().copied().collect();
        if let Some(axis) = axes.iter().find(|axis| **axis as usize >= devices.len()) {
            return Some(format!("is cut along axis {axis} of {devices:?}, axes are 0 to {}", devices.len() - 1));
        }
        let cuts = axes.len();
        axes.sort_unstable();
        axes.dedup();
        if axes.len() != cuts {
            return Some(format!("is cut twice along one axis: {:?}", self.tensor_map));
        }
        let numbers = self.optimizer_shard.into_iter().flat_map(|shard| [shard.step, shard.size.unwrap_or(1)]);
        if let Some(number) = numbers.into_iter().find(|number| *number == 0 || i32::try_from(*number).is_err()) {
            return Some(format!("is shared by the optimizer's ranks in steps or groups of {number}"));
        }
        // MindSpore writes a list per dimension then, and one list reads as an axis per dimension.
        let is_ambiguous = self.tensor_map.len() == 1 && cuts > 1;
        let ambiguous = || format!("has one dimension, cut along {cuts} axes, which no file can say");
        if is_ambiguous { Some(ambiguous()) } else { self.check_group() }
    }
}

impl StrategyFile {
    /// Reads a file: JSON if it begins with a brace, as no such protobuf message does.
    ///
    /// # Errors
    /// It cannot be read, or is no sound strategy file.
    pub fn open(path: &Path) -> Result<StrategyFile, FormatError> {
        let bytes = map::read(path)?;
        let is_json = bytes.trim_ascii_start().starts_with(b"{");
        let read = if is_json { StrategyFile::from_json(&bytes) } else { StrategyFile::decode(&bytes) };
        read.map_err(|problem| FormatError::Strategy { path: path.to_path_buf(), problem })
    }

    /// Writes a file in the form that its name asks for; it is there when it is complete.
    ///
    /// # Errors
    /// A layout that cannot be, or that the form cannot say; the system's refusal.
    pub fn write(&self, path: &Path) -> Result<(), FormatError> {
        let made = if is_json(path) { self.to_json() } else { self.encode() };
        let bytes = made.map_err(|problem| FormatError::Strategy { path: path.to_path_buf(), problem })?;
        let failed = |source| FormatError::Io { action: "write", path: path.to_path_buf(), source };
        let mut partial = Partial::begin(path).map_err(failed)?;
        partial.write_all(&bytes).map_err(failed)?;
        partial.complete().map_err(failed)
    }

    /// Reads the protobuf form.
    ///
    /// # Errors
    /// Bytes that are no such message, or a layout that cannot be.
    pub fn decode(bytes: &[u8]) -> Result<StrategyFile, StrategyProblem> {
        if bytes.is_empty() {
            return Err(StrategyProblem::Empty);
        }
        let map = Map::decode(bytes).map_err(|error| StrategyProblem::Message(error.to_string()))?;
        let current_stage =
            map.current_stage.ok_or(StrategyProblem::Lacks { whose: "the file".to_owned(), field: "current_stage" })?;
        let operators = map.operators.into_iter().map(operator).collect::<Result<_, _>>()?;
        let parameters = map.layouts.into_iter().map(parameter).collect::<Result<_, _>>()?;
        Ok(StrategyFile { current_stage, operators, parameters, shapes: BTreeMap::new() })
    }

    /// The protobuf form.
    ///
    /// # Errors
    /// A layout that cannot be.
    pub fn encode(&self) -> Result<Vec<u8>, StrategyProblem> {
        self.check()?;
        let operators = self.operators.iter().map(OperatorItem::from).collect();
        let layouts = self.parameters.iter().map(LayoutItem::from).collect();
        Ok(Map { current_stage: Some(self.current_stage), operators, layouts }.encode_to_vec())
    }

    /// The layout of a parameter.
    pub fn layout(&self, name: &str) -> Option<&Layout> {
        self.parameters.iter().find(|parameter| parameter.name == name).map(|parameter| &parameter.layout)
    }

    fn check(&self) -> Result<(), StrategyProblem> {
        self.parameters.iter().try_for_each(Parameter::check)
    }
}

impl Parameter {
    fn check(&self) -> Result<(), StrategyProblem> {
        let wrong = |what| StrategyProblem::Layout { parameter: self.name.clone(), what };
        self.layout.check().map(wrong).map_or(Ok(()), Err)
    }
}

/// What JSON has of these, one or both.
pub(crate) const KEYS: [&str; 2] = ["parallel_layout_item", "parallel_strategy_item"];

/// Whether bytes begin as one of these does: with a number of a stage and an item, or as JSON that says what it is.
pub(crate) fn begins(first: &[u8]) -> bool {
    let text = String::from_utf8_lossy(first.trim_ascii_start());
    let is_json = text.starts_with('{') && KEYS.iter().any(|key| text.contains(&format!("\"{key}\"")));
    is_json || begins_as_message(first)
}

fn begins_as_message(bytes: &[u8]) -> bool {
    let item = bytes.strip_prefix(&[0x08]).and_then(|mut rest| {
        prost::encoding::decode_varint(&mut rest).ok()?;
        rest.first().copied()
    });
    matches!(item, Some(0x12 | 0x1a))
}

fn is_json(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "json")
}

fn operator(item: OperatorItem) -> Result<Operator, StrategyProblem> {
    let name = item.name.ok_or(StrategyProblem::Lacks { whose: "an operator".to_owned(), field: "node_name" })?;
    let lacks = |field| StrategyProblem::Lacks { whose: format!("operator {name}"), field };
    let strategies = item.strategies.ok_or_else(|| lacks("parallel_strategys"))?;
    let stage = strategies.stage.ok_or_else(|| lacks("stage"))?;
    Ok(Operator { name, stage, inputs: strategies.inputs.into_iter().map(|input| input.dim).collect() })
}

impl From<&Operator> for OperatorItem {
    fn from(operator: &Operator) -> OperatorItem {
        let inputs = operator.inputs.iter().map(|dim| Unsigned { dim: dim.clone() }).collect();
        let strategies = Strategies { stage: Some(operator.stage), inputs };
        OperatorItem { name: Some(operator.name.clone()), strategies: Some(strategies) }
    }
}

fn parameter(item: LayoutItem) -> Result<Parameter, StrategyProblem> {
    let name = item.name.ok_or(StrategyProblem::Lacks { whose: "a parameter".to_owned(), field: "param_name" })?;
    let lacks = |field| StrategyProblem::Lacks { whose: format!("parameter {name}"), field };
    let layouts = item.layouts.ok_or_else(|| lacks("parallel_layouts"))?;
    let field = layouts.field.ok_or_else(|| lacks("field"))?;
    let step = layouts.opt_weight_shard_step.ok_or_else(|| lacks("opt_weight_shard_step"))?;
    let size = layouts.opt_weight_shard_size.ok_or_else(|| lacks("opt_weight_shard_size"))?;
    let wrong = |what| StrategyProblem::Layout { parameter: name.clone(), what };
    let [dev_matrix] = &layouts.dev_matrix[..] else {
        return Err(wrong(format!("has {} arrangements of ranks, expected one", layouts.dev_matrix.len())));
    };
    let layout = Layout {
        dev_matrix: dev_matrix.dim.clone(),
        tensor_map: tensor_map(&layouts.tensor_map).map_err(wrong)?,
        optimizer_shard: optimizer_shard(step, size).map_err(wrong)?,
        param_split_shape: layouts.param_split_shape.into_iter().map(|list| list.dim).collect(),
        indices_offset: layouts.indices_offset.into_iter().map(|list| list.dim).collect(),
        field,
    };
    let parameter = Parameter { name, layout };
    parameter.check()?;
    Ok(parameter)
}

/// One list has an axis for each dimension, several have all axes of a dimension each; -1 stands for none.
fn tensor_map(lists: &[Signed]) -> Result<Vec<Vec<u32>>, String> {
    match lists {
        [] => Err("has no tensor_map".to_owned()),
        [plain] => plain.dim.iter().map(|axis| axes(&[*axis])).collect(),
        several => several.iter().map(|list| axes(&list.dim)).collect(),
    }
}

fn axes(list: &[i32]) -> Result<Vec<u32>, String> {
    match list {
        [-1] => Ok(Vec::new()),
        list => list.iter().map(|axis| u32::try_from(*axis).map_err(|_| format!("is cut along axis {axis}"))).collect(),
    }
}

fn optimizer_shard(step: i32, size: i32) -> Result<Option<OptimizerShard>, String> {
    match (u32::try_from(step), u32::try_from(size)) {
        (Ok(0), Ok(0)) => Ok(None),
        (Ok(step), Ok(size)) if step > 0 && size > 0 => Ok(Some(OptimizerShard { step, size: Some(size) })),
        (Ok(step), Err(_)) if step > 0 && size == -1 => Ok(Some(OptimizerShard { step, size: None })),
        _ => Err(format!("is shared by the optimizer's ranks in steps of {step} and groups of {size}")),
    }
}

impl From<&Parameter> for LayoutItem {
    fn from(parameter: &Parameter) -> LayoutItem {
        let layout = &parameter.layout;
        let long = |lists: &[Vec<i64>]| lists.iter().map(|dim| Long { dim: dim.clone() }).collect();
        let [step, size] = written_shard(layout);
        let layouts = Layouts {
            dev_matrix: vec![Unsigned { dim: layout.dev_matrix.clone() }],
            tensor_map: written_map(layout),
            param_split_shape: long(&layout.param_split_shape),
            indices_offset: long(&layout.indices_offset),
            field: Some(layout.field),
            opt_weight_shard_step: Some(step),
            opt_weight_shard_size: Some(size),
        };
        LayoutItem { name: Some(parameter.name.clone()), layouts: Some(layouts) }
    }
}

fn written_map(layout: &Layout) -> Vec<Signed> {
    match plain_map(layout) {
        Some(dim) => vec![Signed { dim }],
        None => layout.tensor_map.iter().map(|axes| Signed { dim: written_axes(axes) }).collect(),
    }
}

/// An axis for each dimension, -1 for none; nothing where a dimension is cut along several.
fn plain_map(layout: &Layout) -> Option<Vec<i32>> {
    let is_plain = layout.tensor_map.iter().all(|axes| axes.len() < 2);
    is_plain.then(|| layout.tensor_map.iter().flat_map(|axes| written_axes(axes)).collect())
}

/// The axes, which [`Layout::check`] has seen to be few.
fn written_axes(axes: &[u32]) -> Vec<i32> {
    if axes.is_empty() { vec![-1] } else { axes.iter().map(|axis| *axis as i32).collect() }
}

/// Step and size: 0 for no sharing, a size of -1 for all.
fn written_shard(layout: &Layout) -> [i32; 2] {
    let written = |number| i32::try_from(number).expect("layouts are checked before they are written");
    match layout.optimizer_shard {
        None => [0, 0],
        Some(OptimizerShard { step, size }) => [written(step), size.map_or(-1, written)],
    }
}

#[cfg(test)]
mod tests;
