//! The list of operations. Adding one touches its file and one line here.

use crate::op::{OpDef, Sample, TypeContext, TypeError};
use crate::sharding;
use crate::types::TensorType;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Declares the files, the enum over all operations, and the lookups by name.
macro_rules! operations {
    ($($name:literal => $module:ident::$ty:ident),* $(,)?) => {
        $(pub mod $module;)*

        /// An operation with its attributes.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        pub enum Op { $(
            #[doc = concat!("`", $name, "`")]
            $ty($module::$ty),
        )* }

        impl Op {
            /// Names of all operations, in order of the list.
            pub const NAMES: &'static [&'static str] = &[$($name),*];

            /// Its name in the text form.
            pub fn name(&self) -> &'static str {
                match self { $(Op::$ty(_) => $name,)* }
            }

            /// What it says about itself.
            pub fn def(&self) -> &dyn OpDef {
                match self { $(Op::$ty(op) => op,)* }
            }

            /// The types of its results.
            ///
            /// # Errors
            /// What the operation's own inference refuses, and operands that owe a sum it is not linear in.
            pub fn infer(&self, operands: &[TensorType], cx: &TypeContext<'_>) -> Result<Vec<TensorType>, TypeError> {
                let parts = |(i, ty): &(usize, &TensorType)| !ty.partial.is_empty() && !self.def().takes_parts(*i);
                match operands.iter().enumerate().find(parts) {
                    Some((i, ty)) => Err(TypeError::new(format!("operand {i} owes a sum, reduce it first: {ty}"))),
                    None if !self.places() && operands.iter().any(sharding::is_split) => sharding::infer(self.def(), operands, cx),
                    None => self.def().infer(operands, cx),
                }
            }

            /// Whether it says itself where its results lie: between ranks, and where another graph is entered.
            fn places(&self) -> bool {
                self.def().collective().is_some() || matches!(self, Op::Repeat(_) | Op::Call(_))
            }

            /// What a rank does instead when values lie as these types say; with it, the mesh axis along which the rank's
            /// place is a further operand.
            pub fn localized(&self, operands: &[TensorType], results: &[TensorType]) -> (Op, Option<String>) {
                self.def().localized(operands, results).unwrap_or_else(|| (self.clone(), None))
            }

            /// Its attributes as named values; absent ones are null.
            pub fn attributes(&self) -> Value {
                let value = match self { $(Op::$ty(op) => serde_json::to_value(op),)* };
                value.expect("attributes are plain data")
            }

            /// The operation of this name with these attributes.
            ///
            /// # Errors
            /// An unknown name, attributes the operation does not have or lacks.
            pub fn from_attributes(name: &str, attributes: Value) -> Result<Op, String> {
                match name {
                    $($name => read(attributes).map(Op::$ty),)*
                    _ => Err(format!("unknown operation `{name}`")),
                }
            }

            /// Every operation's samples.
            pub fn samples() -> Vec<Sample> {
                let mut samples = Vec::new();
                $(samples.extend($module::samples());)*
                samples
            }
        }

        $(impl From<$module::$ty> for Op {
            fn from(op: $module::$ty) -> Op { Op::$ty(op) }
        })*
    };
}

// In artifacts an operation is its place in this list: new ones go to its end.
operations! {
    "add" => add::Add,
    "sub" => sub::Sub,
    "mul" => mul::Mul,
    "div" => div::Div,
    "neg" => neg::Neg,
    "exp" => exp::Exp,
    "tanh" => tanh::Tanh,
    "sqrt" => sqrt::Sqrt,
    "scale" => scale::Scale,
    "cast" => cast::Cast,
    "gelu" => gelu::Gelu,
    "constant" => constant::Constant,
    "matmul" => matmul::MatMul,
    "reduce" => reduce::Reduce,
    "broadcast" => broadcast::Broadcast,
    "reshape" => reshape::Reshape,
    "transpose" => transpose::Transpose,
    "slice" => slice::Slice,
    "concat" => concat::Concat,
    "gather" => gather::Gather,
    "layer_norm" => layer_norm::LayerNorm,
    "softmax" => softmax::Softmax,
    "cache_append" => cache_append::CacheAppend,
    "alibi_attention" => alibi_attention::AlibiAttention,
    "all_reduce" => all_reduce::AllReduce,
    "all_gather" => all_gather::AllGather,
    "reduce_scatter" => reduce_scatter::ReduceScatter,
    "axis_index" => axis_index::AxisIndex,
    "repeat" => repeat::Repeat,
    "call" => call::Call,
    "piece" => piece::Piece,
    "gather_part" => gather_part::GatherPart,
    "scatter" => scatter::Scatter,
    "fast_gelu" => fast_gelu::FastGelu,
}

/// Attributes by serde; an operation without any is written without braces.
fn read<T: for<'de> Deserialize<'de>>(attributes: Value) -> Result<T, String> {
    let empty = attributes.as_object().is_some_and(serde_json::Map::is_empty);
    serde_json::from_value(if empty { Value::Null } else { attributes.clone() })
        .or_else(|_| serde_json::from_value(attributes))
        .map_err(|error| error.to_string())
}
