//! The JSON form: two objects by name, compact, with sorted keys, as MindSpore 2.10 writes it.
//!
//! It can say less than the protobuf form: an axis at most for each dimension. MindSpore flattens a dimension of several
//! into several dimensions, of which it makes nothing when it reads them; we refuse to write such. `tensor_shape`, the whole
//! parameter's, is there since 2.10.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    Layout, Operator, Parameter, Signed, StrategyFile, StrategyProblem, optimizer_shard, plain_map, tensor_map,
    written_shard,
};

#[derive(Serialize, Deserialize)]
struct Document {
    current_stage: u32,
    parallel_layout_item: BTreeMap<String, LayoutEntry>,
    parallel_strategy_item: BTreeMap<String, OperatorEntry>,
}

#[derive(Serialize, Deserialize)]
struct LayoutEntry {
    dev_matrix: Vec<u32>,
    field: i32,
    opt_weight_shard_size: i32,
    opt_weight_shard_step: i32,
    tensor_map: Vec<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tensor_shape: Option<Vec<u64>>,
}

#[derive(Serialize, Deserialize)]
struct OperatorEntry {
    #[serde(default)]
    parallel_strategy: Vec<Vec<u32>>,
    stage: u32,
}

impl StrategyFile {
    /// Reads the JSON form.
    ///
    /// # Errors
    /// Text that is no such JSON, or a layout that cannot be.
    pub fn from_json(bytes: &[u8]) -> Result<StrategyFile, StrategyProblem> {
        if bytes.is_empty() {
            return Err(StrategyProblem::Empty);
        }
        let read: Document = serde_json::from_slice(bytes).map_err(|error| StrategyProblem::Json(error.to_string()))?;
        let operator = |(name, OperatorEntry { parallel_strategy: inputs, stage })| Operator { name, stage, inputs };
        let shape = |(name, entry): (&String, &LayoutEntry)| Some((name.clone(), entry.tensor_shape.clone()?));
        let shapes = read.parallel_layout_item.iter().filter_map(shape).collect();
        let parameters = read.parallel_layout_item.into_iter().map(parameter).collect::<Result<_, _>>()?;
        let operators = read.parallel_strategy_item.into_iter().map(operator).collect();
        Ok(StrategyFile { current_stage: read.current_stage, operators, parameters, shapes })
    }

    /// The JSON form, in the order of names.
    ///
    /// # Errors
    /// A layout that cannot be, or that cuts a dimension along several axes.
    pub fn to_json(&self) -> Result<Vec<u8>, StrategyProblem> {
        self.check()?;
        let operator = |Operator { name, stage, inputs }: &Operator| {
            (name.clone(), OperatorEntry { parallel_strategy: inputs.clone(), stage: *stage })
        };
        let document = Document {
            current_stage: self.current_stage,
            parallel_layout_item: self
                .parameters
                .iter()
                .map(|one| entry(one, self.shapes.get(&one.name)))
                .collect::<Result<_, _>>()?,
            parallel_strategy_item: self.operators.iter().map(operator).collect(),
        };
        Ok(serde_json::to_vec(&document).expect("it is plain data"))
    }
}

fn parameter((name, entry): (String, LayoutEntry)) -> Result<Parameter, StrategyProblem> {
    let wrong = |what| StrategyProblem::Layout { parameter: name.clone(), what };
    let shard = optimizer_shard(entry.opt_weight_shard_step, entry.opt_weight_shard_size).map_err(wrong)?;
    let map = tensor_map(&[Signed { dim: entry.tensor_map }]).map_err(wrong)?;
    let layout = Layout { field: entry.field, ..Layout::new(entry.dev_matrix, map, shard) };
    let parameter = Parameter { name, layout };
    parameter.check()?;
    Ok(parameter)
}

fn entry(
    Parameter { name, layout }: &Parameter,
    shape: Option<&Vec<u64>>,
) -> Result<(String, LayoutEntry), StrategyProblem> {
    let tensor_map = plain_map(layout).ok_or_else(|| StrategyProblem::Layout {
        parameter: name.clone(),
        what: "has a dimension cut along several axes, which JSON cannot say: name a file that ends in .ckpt"
            .to_owned(),
    })?;
    let [opt_weight_shard_step, opt_weight_shard_size] = written_shard(layout);
    let (dev_matrix, field) = (layout.dev_matrix.clone(), layout.field);
    let tensor_shape = shape.cloned();
    let entry =
        LayoutEntry { dev_matrix, field, opt_weight_shard_size, opt_weight_shard_step, tensor_map, tensor_shape };
    Ok((name.clone(), entry))
}
