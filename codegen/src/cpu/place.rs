//! Calculations place by place, as steps: what elementwise operations of a graph become.
//!
//! A place is a row and 16 columns. Operands are matrices as large as the result, vectors of one row, or numbers;
//! the scalar expressions of operations are put together, and equal steps are shared.

use super::recognise::{Reading, refuse};
use super::spec::{Binary, Count, Element, Matrix, Step, Store, Stored, Unary};
use bloomery_ir::target::Refusal;
use bloomery_ir::{Expr, ValueId, expr, op};
use std::collections::BTreeMap;

/// A calculation being put together over `[count, width]`.
pub(crate) struct Places<'a> {
    reading: &'a Reading<'a>,
    /// The value that the kernel itself computes.
    anchor: Option<ValueId>,
    count: Count,
    width: usize,
    store: Store,
    steps: BTreeMap<ValueId, usize>,
}

impl<'a> Places<'a> {
    pub(crate) fn new(reading: &'a Reading<'a>, anchor: Option<ValueId>, count: Count, width: usize) -> Places<'a> {
        Places { reading, anchor, count, width, store: Store::new(), steps: BTreeMap::new() }
    }

    /// The steps of all outputs of the graph.
    pub(crate) fn store(mut self) -> Result<Store, Refusal> {
        for (i, &output) in self.reading.graph.outputs.iter().enumerate() {
            let step = self.value(output)?;
            if !self.is_whole(output)? {
                return refuse("results of several sizes");
            }
            let element = self.reading.element(output)?;
            let to = Matrix { element, ..Matrix::whole(self.reading.output_view(i), self.width) };
            self.store.outputs.push((step, to));
        }
        Ok(self.store)
    }

    fn is_whole(&self, value: ValueId) -> Result<bool, Refusal> {
        let found = self.reading.count(&op::elements(self.reading.graph.ty(value)))?;
        Ok(found == Count { times: self.count.times * self.width, ..self.count })
    }

    fn value(&mut self, value: ValueId) -> Result<usize, Refusal> {
        let value = self.reading.source(value);
        if let Some(&step) = self.steps.get(&value) {
            return Ok(step);
        }
        let step = match self.reading.definition(value) {
            _ if self.anchor == Some(value) => {
                let step = self.shared(Step::Value);
                self.narrowed(value, step)?
            }
            None => {
                let operand = self.operand(value)?;
                self.shared(operand)
            }
            Some(node) => {
                let Some(expr) = node.op.def().expr() else {
                    return refuse(format!("`{}` is not calculated place by place", node.op.name()));
                };
                let operands =
                    node.operands.iter().map(|operand| self.value(*operand)).collect::<Result<Vec<_>, _>>()?;
                let step = self.expression(&expr, &operands)?;
                self.narrowed(value, step)?
            }
        };
        self.steps.insert(value, step);
        Ok(step)
    }

    /// Rounds a step to the type of the value it computes.
    fn narrowed(&mut self, value: ValueId, step: usize) -> Result<usize, Refusal> {
        Ok(match self.reading.element(value)? {
            Element::F32 => step,
            Element::F16 => self.shared(Step::Unary(Unary::RoundF16, step)),
            Element::Bf16 => self.shared(Step::Unary(Unary::RoundBf16, step)),
        })
    }

    fn operand(&self, value: ValueId) -> Result<Step, Refusal> {
        let (view, element) = (self.reading.row_major(value)?, self.reading.element(value)?);
        let stored = Stored { view, element };
        if self.is_whole(value)? {
            return Ok(Step::Matrix(Matrix { element, ..Matrix::whole(view, self.width) }));
        }
        let ty = self.reading.graph.ty(value);
        match op::elements(ty).as_number() {
            Some(1) => Ok(Step::Scalar(stored)),
            Some(n) if n as usize == self.width => Ok(Step::Column(stored)),
            _ => refuse(format!("{ty} over rows of {}", self.width)),
        }
    }

    fn expression(&mut self, expr: &Expr, operands: &[usize]) -> Result<usize, Refusal> {
        if let Some(a) = one_plus_tanh(expr) {
            let a = self.expression(a, operands)?;
            return Ok(self.shared(Step::Unary(Unary::OnePlusTanh, a)));
        }
        Ok(match expr {
            Expr::Input(i) => operands[*i],
            Expr::Const(x) => self.shared(Step::Number(*x as f32)),
            Expr::Unary(f, a) => {
                let a = self.expression(a, operands)?;
                self.shared(Step::Unary(unary(*f), a))
            }
            Expr::Binary(f, a, b) => {
                let (a, b) = (self.expression(a, operands)?, self.expression(b, operands)?);
                self.shared(Step::Binary(binary(*f), a, b))
            }
        })
    }

    fn shared(&mut self, step: Step) -> usize {
        let known = self.store.steps.iter().position(|other| *other == step);
        known.unwrap_or_else(|| self.store.step(step))
    }
}

/// x of 1 + tanh x, a gate such as GELU's: cheaper and closer in one piece.
fn one_plus_tanh(expr: &Expr) -> Option<&Expr> {
    match expr {
        Expr::Binary(expr::Binary::Add, one, tanh) if **one == Expr::Const(1.0) => match &**tanh {
            Expr::Unary(expr::Unary::Tanh, x) => Some(x),
            _ => None,
        },
        _ => None,
    }
}

fn unary(f: expr::Unary) -> Unary {
    match f {
        expr::Unary::Neg => Unary::Negative,
        expr::Unary::Exp => Unary::Exp,
        expr::Unary::Log => Unary::Log,
        expr::Unary::Tanh => Unary::Tanh,
        expr::Unary::Sqrt => Unary::Sqrt,
    }
}

fn binary(f: expr::Binary) -> Binary {
    match f {
        expr::Binary::Add => Binary::Add,
        expr::Binary::Sub => Binary::Sub,
        expr::Binary::Mul => Binary::Mul,
        expr::Binary::Div => Binary::Div,
        expr::Binary::Max => Binary::Max,
        expr::Binary::Min => Binary::Min,
    }
}
