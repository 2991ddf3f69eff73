//! Scalar expressions: what an elementwise operation does to one element.
//!
//! One tree says it all: the interpreter evaluates it, the CPU emitter vectorises it, autodiff differentiates it, and
//! fusion substitutes it.

use std::ops;

/// A scalar function of the operands' elements.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// The element of operand number so-and-so.
    Input(usize),
    /// A number.
    Const(f64),
    /// A function of one value.
    Unary(Unary, Box<Expr>),
    /// A function of two values.
    Binary(Binary, Box<Expr>, Box<Expr>),
}

/// Functions of one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unary {
    /// `-x`
    Neg,
    /// `e^x`
    Exp,
    /// natural logarithm
    Log,
    /// hyperbolic tangent
    Tanh,
    /// square root
    Sqrt,
}

/// Functions of two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    /// `a + b`
    Add,
    /// `a - b`
    Sub,
    /// `a * b`
    Mul,
    /// `a / b`
    Div,
    /// the larger
    Max,
    /// the smaller
    Min,
}

impl Expr {
    /// The value when operands have these elements, in f64.
    pub fn eval(&self, x: &[f64]) -> f64 {
        match self {
            Expr::Input(i) => x[*i],
            Expr::Const(value) => *value,
            Expr::Unary(f, a) => f.eval(a.eval(x)),
            Expr::Binary(f, a, b) => f.eval(a.eval(x), b.eval(x)),
        }
    }

    /// This expression with operands replaced.
    pub fn substitute(&self, inputs: &[Expr]) -> Expr {
        match self {
            Expr::Input(i) => inputs[*i].clone(),
            Expr::Const(_) => self.clone(),
            Expr::Unary(f, a) => Expr::Unary(*f, Box::new(a.substitute(inputs))),
            Expr::Binary(f, a, b) => Expr::Binary(*f, Box::new(a.substitute(inputs)), Box::new(b.substitute(inputs))),
        }
    }

    /// Arithmetic operations one element costs; transcendental functions count as ten.
    pub fn cost(&self) -> u64 {
        match self {
            Expr::Input(_) | Expr::Const(_) => 0,
            Expr::Unary(Unary::Neg, a) => 1 + a.cost(),
            Expr::Unary(_, a) => 10 + a.cost(),
            Expr::Binary(_, a, b) => 1 + a.cost() + b.cost(),
        }
    }

    /// `x * x * ..`, `power` times.
    pub fn powi(&self, power: u32) -> Expr {
        (1..power).fold(self.clone(), |product, _| product * self)
    }

    /// The larger of two.
    pub fn max(self, other: impl Into<Expr>) -> Expr {
        binary(Binary::Max, self, other)
    }
}

impl Unary {
    fn eval(self, a: f64) -> f64 {
        match self {
            Unary::Neg => -a,
            Unary::Exp => a.exp(),
            Unary::Log => a.ln(),
            Unary::Tanh => a.tanh(),
            Unary::Sqrt => a.sqrt(),
        }
    }
}

impl Binary {
    fn eval(self, a: f64, b: f64) -> f64 {
        match self {
            Binary::Add => a + b,
            Binary::Sub => a - b,
            Binary::Mul => a * b,
            Binary::Div => a / b,
            Binary::Max => a.max(b),
            Binary::Min => a.min(b),
        }
    }
}

/// Hyperbolic tangent.
pub fn tanh(x: impl Into<Expr>) -> Expr {
    Expr::Unary(Unary::Tanh, Box::new(x.into()))
}

/// `e^x`.
pub fn exp(x: impl Into<Expr>) -> Expr {
    Expr::Unary(Unary::Exp, Box::new(x.into()))
}

/// Natural logarithm.
pub fn log(x: impl Into<Expr>) -> Expr {
    Expr::Unary(Unary::Log, Box::new(x.into()))
}

/// Square root.
pub fn sqrt(x: impl Into<Expr>) -> Expr {
    Expr::Unary(Unary::Sqrt, Box::new(x.into()))
}

fn binary(f: Binary, a: impl Into<Expr>, b: impl Into<Expr>) -> Expr {
    Expr::Binary(f, Box::new(a.into()), Box::new(b.into()))
}

impl From<f64> for Expr {
    fn from(value: f64) -> Expr {
        Expr::Const(value)
    }
}

impl From<&Expr> for Expr {
    fn from(value: &Expr) -> Expr {
        value.clone()
    }
}

/// The four operators between expressions, references to them, and numbers.
macro_rules! operators {
    ($($trait:ident $method:ident $f:ident),*) => { $(
        impl<T: Into<Expr>> ops::$trait<T> for Expr {
            type Output = Expr;
            fn $method(self, other: T) -> Expr { binary(Binary::$f, self, other) }
        }
        impl<T: Into<Expr>> ops::$trait<T> for &Expr {
            type Output = Expr;
            fn $method(self, other: T) -> Expr { binary(Binary::$f, self, other) }
        }
        impl ops::$trait<Expr> for f64 {
            type Output = Expr;
            fn $method(self, other: Expr) -> Expr { binary(Binary::$f, self, other) }
        }
        impl ops::$trait<&Expr> for f64 {
            type Output = Expr;
            fn $method(self, other: &Expr) -> Expr { binary(Binary::$f, self, other) }
        }
    )* };
}
operators!(Add add Add, Sub sub Sub, Mul mul Mul, Div div Div);

impl ops::Neg for &Expr {
    type Output = Expr;
    fn neg(self) -> Expr {
        Expr::Unary(Unary::Neg, Box::new(self.clone()))
    }
}

impl ops::Neg for Expr {
    type Output = Expr;
    fn neg(self) -> Expr {
        Expr::Unary(Unary::Neg, Box::new(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_like_a_formula() {
        let x = &Expr::Input(0);
        let gelu = 0.5 * x * (1.0 + tanh(0.797_884_56 * (x + 0.044715 * x.powi(3))));
        assert!((gelu.eval(&[1.0]) - 0.841_192).abs() < 1e-6);
        assert_eq!(gelu.eval(&[0.0]), 0.0);
        let of_double = gelu.substitute(&[2.0 * x]);
        assert_eq!(of_double.eval(&[0.5]), gelu.eval(&[1.0]));
    }
}
