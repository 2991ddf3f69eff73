//! What an operation writes its calls into.

use super::{AclTensor, AclType, Arg, Call, Chip, Over, Step, Sum};
use crate::extent::Bindings;

/// What an operation is given.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    /// A tensor.
    Tensor(AclTensor),
    /// The rank's place along an axis of the mesh, a number when the plan runs.
    Place(Sum),
}

/// Memory that calls want beside operands and results.
#[derive(Clone, Debug, PartialEq)]
pub enum Need {
    /// For the duration of the operation.
    Temporary(AclType, Vec<Sum>),
    /// A weight `[K, N]` in 8 bits, for each column times a factor; [`Need::Factors`] of it follow.
    Int8(AclTensor),
    /// The factors of a weight's columns, of its type.
    Factors(AclTensor),
    /// What ALiBi adds to scores, as a table of `[heads, rows, reach + rows]` that the host makes once: `slope * distance`
    /// at `[head, i, reach + i - distance]`, and a large negative number for what lies ahead of row `i`.
    Distances {
        /// The slopes, a tensor known when compiling.
        slopes: AclTensor,
        /// Rows of a block.
        rows: u64,
        /// Positions a sequence can have.
        reach: u64,
        /// The table's type.
        dtype: AclType,
    },
}

/// The calls of one operation in the making.
pub struct Lowering<'a> {
    chip: Chip,
    operands: Vec<Operand>,
    /// Which operands are weights that may be kept in 8 bits.
    narrow: Vec<bool>,
    results: Vec<AclTensor>,
    op: &'static str,
    /// Largest values of names.
    most: &'a Bindings,
    /// Number of the first buffer that there is none of yet.
    first: usize,
    needs: Vec<Need>,
    steps: Vec<Step>,
    /// Results that are views of operands.
    views: Vec<Option<AclTensor>>,
}

/// What came of it.
pub struct Lowered {
    /// Calls and loops.
    pub steps: Vec<Step>,
    /// Buffers they use beside operands and results, numbered from the one given.
    pub needs: Vec<Need>,
    /// For each result, the view it is, where nothing has to be computed.
    pub views: Vec<Option<AclTensor>>,
}

impl<'a> Lowering<'a> {
    /// For an operation of that name; `first` is the number of the first buffer that its needs get.
    pub fn new(
        chip: Chip,
        op: &'static str,
        operands: Vec<Operand>,
        results: Vec<AclTensor>,
        most: &'a Bindings,
        first: usize,
    ) -> Lowering<'a> {
        let (views, narrow) = (vec![None; results.len()], vec![false; operands.len()]);
        Lowering { chip, operands, narrow, results, op, most, first, needs: vec![], steps: vec![], views }
    }

    /// Some operands are weights that may be kept in 8 bits.
    #[must_use]
    pub fn narrowing(self, narrow: Vec<bool>) -> Lowering<'a> {
        Lowering { narrow, ..self }
    }

    /// Whether an operand is a weight that may be kept in 8 bits.
    pub fn may_narrow(&self, i: usize) -> bool {
        self.narrow[i]
    }

    /// A weight `[K, N]` in 8 bits, and the factors of its columns.
    pub fn int8(&mut self, weight: AclTensor) -> [AclTensor; 2] {
        let (dims, dtype) = (weight.dims.clone(), weight.dtype);
        self.needs.extend([Need::Int8(weight.clone()), Need::Factors(weight)]);
        let number = self.first + self.needs.len() - 2;
        let factors = dims[1..].to_vec();
        [
            AclTensor::whole(number, Sum::default(), AclType::I8, dims),
            AclTensor::whole(number + 1, Sum::default(), dtype, factors),
        ]
    }

    /// What was written.
    pub fn finish(self) -> Lowered {
        Lowered { steps: self.steps, needs: self.needs, views: self.views }
    }

    /// The chip.
    pub fn chip(&self) -> Chip {
        self.chip
    }

    /// How many operands.
    pub fn operands(&self) -> usize {
        self.operands.len()
    }

    /// An operand that is a tensor.
    ///
    /// # Panics
    /// When it is a place.
    pub fn x(&self, i: usize) -> AclTensor {
        match &self.operands[i] {
            Operand::Tensor(tensor) => tensor.clone(),
            Operand::Place(_) => panic!("operand {i} of {} is a tensor", self.op),
        }
    }

    /// An operand that is a rank's place.
    ///
    /// # Panics
    /// When it is a tensor.
    pub fn place(&self, i: usize) -> Sum {
        match &self.operands[i] {
            Operand::Place(place) => place.clone(),
            Operand::Tensor(_) => panic!("operand {i} of {} is a place", self.op),
        }
    }

    /// The first result.
    pub fn y(&self) -> AclTensor {
        self.results[0].clone()
    }

    /// The largest value of a sum.
    ///
    /// # Panics
    /// When a name has none.
    pub fn most(&self, sum: &Sum) -> u64 {
        sum.eval(self.most).expect("names have largest values")
    }

    /// The first result is this view of an operand.
    pub fn is_view(&mut self, view: AclTensor) {
        self.views[0] = Some(view);
    }

    /// A call.
    pub fn call(&mut self, name: &str, args: impl IntoIterator<Item = Arg>) {
        let (name, op, args) = (format!("aclnn{name}"), self.op.to_owned(), args.into_iter().collect());
        self.steps.push(Step::Call(Call { name, args, op }));
    }

    /// Memory for the duration of the operation.
    pub fn temporary(&mut self, dtype: AclType, dims: impl IntoIterator<Item = Sum>) -> AclTensor {
        let dims: Vec<Sum> = dims.into_iter().collect();
        self.needs.push(Need::Temporary(dtype, dims.clone()));
        AclTensor::whole(self.first + self.needs.len() - 1, Sum::default(), dtype, dims)
    }

    /// The table of what ALiBi adds; see [`Need::Distances`].
    pub fn distances(&mut self, slopes: AclTensor, rows: u64, reach: u64, dtype: AclType) -> AclTensor {
        let dims = vec![slopes.dims[0].clone(), rows.into(), (reach + rows).into()];
        self.needs.push(Need::Distances { slopes, rows, reach, dtype });
        AclTensor::whole(self.first + self.needs.len() - 1, Sum::default(), dtype, dims)
    }

    /// The same numbers, of this type: itself, or a temporary.
    pub fn cast(&mut self, x: AclTensor, dtype: AclType) -> AclTensor {
        if x.dtype == dtype {
            return x;
        }
        let to = self.temporary(dtype, x.dims.clone());
        self.call("Cast", [x.into(), Arg::Type(dtype), (&to).into()]);
        to
    }

    /// An operand, of the result's type: calls take operands of one type.
    pub fn alike(&mut self, i: usize) -> AclTensor {
        let (x, dtype) = (self.x(i), self.y().dtype);
        self.cast(x, dtype)
    }

    /// `from` in the place of `to`, whatever their strides and types.
    pub fn copy(&mut self, to: &AclTensor, from: &AclTensor) {
        self.steps.push(Step::Call(Call::copy(to, from, self.op)));
    }

    /// What `body` writes, again and again.
    pub fn each(&mut self, over: Over, body: impl FnOnce(&mut Self)) {
        let before = std::mem::take(&mut self.steps);
        body(self);
        let steps = std::mem::replace(&mut self.steps, before);
        self.steps.push(Step::Loop { over, steps });
    }
}
