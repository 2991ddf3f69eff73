//! What an operation must say about itself.
//!
//! Most operations are [`Elementwise`]: one scalar expression. Any other implements [`OpDef`]. Attributes are the
//! fields of the operation's struct; serde prints and parses them, so a new operation writes no text code.

use crate::ascend::Lowering;
use crate::expr::Expr;
use crate::extent::{Bindings, Extent};
use crate::graph::{Graph, SymbolBound};
use crate::sharding;
use crate::tensor::Tensor;
use crate::types::{DType, Dim, Mesh, TensorType};
use crate::work::Sizes;

/// Everything one operation says.
pub trait OpDef {
    /// The types of the results.
    ///
    /// # Errors
    /// Operands this operation does not take, with both types in the message.
    fn infer(&self, operands: &[TensorType], cx: &TypeContext<'_>) -> Result<Vec<TensorType>, TypeError>;

    /// The results on concrete operands, computed in f64; the interpreter rounds them to the results' types.
    fn reference(&self, operands: &[&Tensor], results: &[TensorType], cx: &RankContext<'_>) -> Vec<Tensor>;

    /// Whether operands that are indices point inside what they index; asked before [`OpDef::reference`].
    ///
    /// # Errors
    /// The index and what there is.
    fn check_indices(&self, _operands: &[&Tensor]) -> Result<(), String> {
        Ok(())
    }

    /// The operand whose first dimension is looked into by index: what no index points to is not read.
    fn indexed(&self) -> Option<usize> {
        None
    }

    /// How dimensions of operands and results relate, as letters: `m k, k n -> m n`. A letter in the operands alone
    /// is summed over. `None`: the operation takes no sharded operand.
    fn sharding(&self, _operands: &[TensorType]) -> Option<String> {
        None
    }

    /// Arithmetic operations for one evaluation, at most; moving data is none.
    fn flops(&self, _operands: &[TensorType], _results: &[TensorType]) -> Extent {
        Extent::number(0)
    }

    /// Arithmetic operations of a call of these sizes: fewer than [`OpDef::flops`] where lengths of sequences decide.
    ///
    /// # Panics
    /// When a name has no value.
    fn flops_in(&self, operands: &[TensorType], results: &[TensorType], sizes: &Sizes<'_>) -> u64 {
        sizes.of(&self.flops(operands, results))
    }

    /// Elements of operand `i` that a call reads, where that is not all of it.
    fn reads(&self, _i: usize, _operands: &[TensorType], _results: &[TensorType], _sizes: &Sizes<'_>) -> Option<u64> {
        None
    }

    /// Elements of the first result that a call writes, where that is not all of it.
    fn writes(&self, _operands: &[TensorType], _results: &[TensorType], _sizes: &Sizes<'_>) -> Option<u64> {
        None
    }

    /// The scalar expression, of an elementwise operation.
    fn expr(&self) -> Option<Expr> {
        None
    }

    /// The operand that the first result replaces in memory: its value must have no later use.
    fn consumes(&self) -> Option<usize> {
        None
    }

    /// Whether operand `i` may owe a sum: the result of a part is then a part of the result. What is not linear in an
    /// operand would take a part for the whole.
    fn takes_parts(&self, _operand: usize) -> bool {
        false
    }

    /// What a rank does instead, where extents are attributes, or its place matters ([`Op::localized`]); `None`: the same.
    ///
    /// [`Op::localized`]: crate::ops::Op::localized
    fn localized(&self, _operands: &[TensorType], _results: &[TensorType]) -> Option<(crate::ops::Op, Option<String>)> {
        None
    }

    /// For operations between ranks: the mesh axis they go over.
    fn collective(&self) -> Option<&str> {
        None
    }

    /// The calls that compute it on an Ascend chip; `None`: there is no entry for that chip, or not for these operands.
    fn ascend(&self, _: &mut Lowering<'_>) -> Option<()> {
        None
    }
}

/// An operation defined by one scalar expression, with trailing-dimension broadcast of shorter operands.
pub trait Elementwise {
    /// Number of operands.
    fn arity(&self) -> usize;

    /// The result's element from the operands' elements.
    fn expr(&self, x: &[Expr]) -> Expr;

    /// Whether the expression is linear, all operands together, so that owed sums pass through.
    fn linear(&self) -> bool {
        false
    }

    /// The result's element type; by default the operands' own, or f32 when they differ.
    fn dtype(&self, operands: &[DType]) -> DType {
        operands.iter().copied().reduce(DType::promote).expect("elementwise operations have operands")
    }

    /// See [`OpDef::ascend`].
    fn ascend(&self, _: &mut Lowering<'_>) -> Option<()> {
        None
    }
}

impl<T: Elementwise> OpDef for T {
    fn infer(&self, operands: &[TensorType], _: &TypeContext<'_>) -> Result<Vec<TensorType>, TypeError> {
        expect_count(self.arity(), operands)?;
        let whole = operands.iter().max_by_key(|ty| ty.rank()).expect("elementwise operations have operands").unnamed();
        for operand in operands {
            if !broadcasts(operand, &whole) {
                return Err(TypeError::new(format!("{operand} does not broadcast to {whole}")));
            }
            if operand.partial != whole.partial && operands.len() > 1 {
                return Err(TypeError::new(format!("{operand} and {whole} owe different sums")));
            }
        }
        let dtypes: Vec<DType> = operands.iter().map(|ty| ty.dtype).collect();
        Ok(vec![whole.with_dtype(self.dtype(&dtypes))])
    }

    fn reference(&self, operands: &[&Tensor], results: &[TensorType], cx: &RankContext<'_>) -> Vec<Tensor> {
        let expr = OpDef::expr(self).expect("elementwise operations have an expression");
        let mut result = Tensor::zeros(results[0].dtype, cx.shape(&results[0]));
        let mut x = vec![0.0; operands.len()];
        for i in 0..result.data.len() {
            for (value, operand) in x.iter_mut().zip(operands) {
                *value = operand.data[i % operand.data.len()];
            }
            result.data[i] = expr.eval(&x);
        }
        vec![result]
    }

    fn sharding(&self, operands: &[TensorType]) -> Option<String> {
        let rank = operands.iter().map(TensorType::rank).max()?;
        let letters = |ty: &TensorType| LETTERS[rank - ty.rank()..rank].join(" ");
        let from: Vec<String> = operands.iter().map(letters).collect();
        Some(format!("{} -> {}", from.join(", "), LETTERS[..rank].join(" ")))
    }

    fn flops(&self, _: &[TensorType], results: &[TensorType]) -> Extent {
        let cost = OpDef::expr(self).map_or(0, |expr| expr.cost());
        elements(&results[0]).times(&Extent::number(cost))
    }

    fn takes_parts(&self, _: usize) -> bool {
        self.linear()
    }

    fn ascend(&self, io: &mut Lowering<'_>) -> Option<()> {
        Elementwise::ascend(self, io)
    }

    fn expr(&self) -> Option<Expr> {
        let inputs: Vec<Expr> = (0..self.arity()).map(Expr::Input).collect();
        Some(Elementwise::expr(self, &inputs))
    }
}

/// Names of dimensions in sharding rules that have no better ones.
pub const LETTERS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

/// Whether `operand`'s dimensions are the last ones of `whole`.
fn broadcasts(operand: &TensorType, whole: &TensorType) -> bool {
    let skipped = whole.rank() - operand.rank();
    let same = |(a, b): (&Dim, &Dim)| a.extent == b.extent;
    operand.dims.iter().zip(&whole.dims[skipped..]).all(same)
}

/// Product of all extents.
pub fn elements(ty: &TensorType) -> Extent {
    ty.extents().fold(Extent::number(1), |product, extent| product.times(extent))
}

/// Refuses any other number of operands.
///
/// # Errors
/// Both numbers.
pub fn expect_count(expected: usize, operands: &[TensorType]) -> Result<(), TypeError> {
    if operands.len() == expected {
        return Ok(());
    }
    Err(TypeError::new(format!("takes {expected} operands, found {}", operands.len())))
}

/// Refuses any other number of dimensions of operand `which`.
///
/// # Errors
/// The operand's type and both numbers.
pub fn expect_rank(operands: &[TensorType], which: usize, rank: usize) -> Result<(), TypeError> {
    if operands[which].rank() == rank {
        return Ok(());
    }
    Err(TypeError::new(format!(
        "operand {which} has {} dimensions, expected {rank}: {}",
        operands[which].rank(),
        operands[which]
    )))
}

/// Refuses a type that is not the expected one, logical names aside.
///
/// # Errors
/// Both types.
pub fn expect_type(what: &str, found: &TensorType, expected: &TensorType) -> Result<(), TypeError> {
    if found.unnamed() == expected.unnamed() {
        return Ok(());
    }
    Err(TypeError::new(format!("{what} is {found}, expected {expected}")))
}

/// As [`expect_type`], of an operand: what is whole stands for its slices.
///
/// # Errors
/// Both types.
pub fn expect_operand(what: &str, found: &TensorType, expected: &TensorType) -> Result<(), TypeError> {
    if sharding::stands_for(found, expected) { Ok(()) } else { expect_type(what, found, expected) }
}

/// What inference may look at beside the operands.
pub struct TypeContext<'a> {
    /// Names with bounds.
    pub symbols: &'a [SymbolBound],
    /// The ranks.
    pub mesh: &'a Mesh,
    /// The graphs that repeats and calls may name.
    pub callees: &'a dyn Fn(&str) -> Option<&'a Graph>,
}

impl TypeContext<'_> {
    /// The graph of this name.
    ///
    /// # Errors
    /// There is none.
    pub fn callee(&self, name: &str) -> Result<&Graph, TypeError> {
        (self.callees)(name).ok_or_else(|| TypeError::new(format!("there is no graph @{name}")))
    }

    /// Whether every name of the extent is declared.
    pub fn knows(&self, extent: &Extent) -> bool {
        extent
            .names()
            .all(|name| self.symbols.iter().any(|symbol| symbol.name == name) || self.mesh.size(name).is_some())
    }
}

/// Where one evaluation runs.
pub struct RankContext<'a> {
    /// Values of all names.
    pub bindings: &'a Bindings,
    /// The ranks.
    pub mesh: &'a Mesh,
    /// This rank's number.
    pub rank: u64,
}

impl RankContext<'_> {
    /// The numbers a type's extents stand for.
    ///
    /// # Panics
    /// When the verifier has not seen the graph.
    pub fn shape(&self, ty: &TensorType) -> Vec<usize> {
        ty.shape(self.bindings).expect("extents were checked before evaluation")
    }
}

/// Operands an operation does not take.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct TypeError {
    message: String,
}

impl TypeError {
    /// With this message.
    pub fn new(message: impl Into<String>) -> TypeError {
        TypeError { message: message.into() }
    }
}

/// One operation with operand types that whole-list tests run through every property.
pub struct Sample {
    /// The operation.
    pub op: crate::ops::Op,
    /// Types of the operands, in the text form.
    pub operands: Vec<&'static str>,
    /// Range of random real operands.
    pub reals: (f64, f64),
    /// Inclusive range of random integer operands: indices must be valid.
    pub integers: (i64, i64),
    /// Literal contents of operands that random numbers cannot stand for (tables of sequences), by operand number.
    pub fixed: Vec<(usize, Vec<f64>)>,
}

/// A sample with random operands.
pub fn sample(op: impl Into<crate::ops::Op>, operands: &[&'static str]) -> Sample {
    Sample { op: op.into(), operands: operands.to_vec(), reals: (-1.0, 1.0), integers: (0, 1), fixed: Vec::new() }
}
