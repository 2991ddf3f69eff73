//! What a kernel is told: plain descriptions, from which the emitters write C.
//!
//! Views are indices into the kernel's list of data pointers, symbols indices into the program's list of sizes.
//! Activations are row-major; strides and offsets count elements.

pub use bloomery_artifact::code::Count;

/// The type of stored elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// IEEE single.
    F32,
    /// IEEE half.
    F16,
    /// The upper half of an f32.
    Bf16,
}

impl Element {
    /// The name in generated C.
    pub fn c_name(self) -> &'static str {
        match self {
            Element::F32 => "f32",
            Element::F16 => "f16",
            Element::Bf16 => "bf16",
        }
    }

    /// How many k lie side by side in a weight panel.
    pub fn pair(self) -> usize {
        match self {
            Element::F32 => 1,
            Element::F16 | Element::Bf16 => 2,
        }
    }

    /// Bytes of one element.
    pub fn bytes(self) -> usize {
        4 / self.pair()
    }
}

/// A matrix of activations: element (row, column) at `offset + row * stride + column`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Matrix {
    /// Which data pointer.
    pub view: usize,
    /// Its elements; anything but f32 is for results and for operands of calculations place by place.
    pub element: Element,
    /// From one row to the next.
    pub stride: usize,
    /// Of the first element.
    pub offset: usize,
}

impl Matrix {
    /// A whole matrix of `width` columns of f32.
    pub fn whole(view: usize, width: usize) -> Matrix {
        Matrix { view, element: Element::F32, stride: width, offset: 0 }
    }
}

/// A vector or table of parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stored {
    /// Which data pointer.
    pub view: usize,
    /// Its elements.
    pub element: Element,
}

/// How many rows a product has to expect; decides the kind of kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// Exactly one.
    One,
    /// Several, seldom above `max`.
    Many {
        /// Decides how rows are cut into blocks; more rows are right too.
        max: usize,
    },
}

/// `layer_norm` applied to the rows of an input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Norm {
    /// The factor and the shift per column, unless what follows has taken them in.
    pub affine: Option<(Stored, Stored)>,
    /// Added to the variance.
    pub epsilon: f32,
}

/// One step of a calculation over 16 columns of a row. Steps refer to earlier steps by index.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// What the kernel computed for these columns (the product); not in an elementwise kernel.
    Value,
    /// A number.
    Number(f32),
    /// A parameter per column.
    Column(Stored),
    /// The same place of a matrix.
    Matrix(Matrix),
    /// One number per row: element `row` of a view of f32.
    PerRow(usize),
    /// One number for all: the first element of a view.
    Scalar(Stored),
    /// A function of one step.
    Unary(Unary, usize),
    /// A function of two.
    Binary(Binary, usize, usize),
    /// a * b + c, rounded once.
    Fma(usize, usize, usize),
}

/// Functions of one vector; the names are the prelude's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unary {
    /// -x
    Negative,
    /// |x|
    Absolute,
    /// The square root.
    Sqrt,
    /// e^x
    Exp,
    /// The natural logarithm.
    Log,
    /// The hyperbolic tangent.
    Tanh,
    /// 1 + tanh x, as a quotient.
    OnePlusTanh,
    /// Rounded to the nearest f16.
    RoundF16,
    /// Rounded to the nearest bf16.
    RoundBf16,
}

/// Functions of two vectors; the names are the prelude's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    /// a + b
    Add,
    /// a - b
    Sub,
    /// a * b
    Mul,
    /// a / b
    Div,
    /// The larger.
    Max,
    /// The smaller.
    Min,
}

/// What happens to 16 columns of a row before they are stored, and where they go.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Store {
    /// The calculation.
    pub steps: Vec<Step>,
    /// (step, destination).
    pub outputs: Vec<(usize, Matrix)>,
}

impl Store {
    /// A calculation to be built step by step.
    pub fn new() -> Store {
        Store::default()
    }

    /// Appends a step and returns its index.
    pub fn step(&mut self, step: Step) -> usize {
        self.steps.push(step);
        self.steps.len() - 1
    }

    /// Appends a step on two others.
    pub fn binary(&mut self, op: Binary, a: usize, b: usize) -> usize {
        self.step(Step::Binary(op, a, b))
    }

    /// Appends GELU of a step, tanh form: 0.5 x (1 + tanh(0.79788456 (x + 0.044715 x^3))).
    pub fn gelu(&mut self, x: usize) -> usize {
        use Binary::{Add, Mul};
        let number = |store: &mut Store, v| store.step(Step::Number(v));
        let half = number(self, 0.5);
        let (outer, inner) = (number(self, 0.797_884_6), number(self, 0.044_715));
        let square = self.binary(Mul, x, x);
        let cube = self.binary(Mul, square, x);
        let cube = self.binary(Mul, inner, cube);
        let sum = self.binary(Add, x, cube);
        let sum = self.binary(Mul, outer, sum);
        let gate = self.step(Step::Unary(Unary::OnePlusTanh, sum));
        let half = self.binary(Mul, half, x);
        self.binary(Mul, half, gate)
    }

    /// Ends the calculation by storing a step.
    pub fn to(mut self, step: usize, to: Matrix) -> Store {
        self.outputs.push((step, to));
        self
    }
}

/// `out[rows, n] = store(round(norm(x))[rows, k] @ w[k, n])`, w in packed panels.
#[derive(Clone, Debug, PartialEq)]
pub struct GemmSpec {
    /// How many rows.
    pub count: Count,
    /// What is known of it.
    pub rows: Rows,
    /// Contracted extent.
    pub k: usize,
    /// Output columns.
    pub n: usize,
    /// Left operand.
    pub x: Matrix,
    /// Packed right operand.
    pub w: Stored,
    /// Normalisation of the left operand.
    pub norm: Option<Norm>,
    /// Whether the left operand is rounded to bf16 before it is multiplied.
    pub rounded: bool,
    /// What is done with the product.
    pub store: Store,
}

/// Attention with ALiBi over a paged cache.
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionSpec {
    /// Heads.
    pub heads: usize,
    /// Columns of a head.
    pub d: usize,
    /// Queries [N, heads, d].
    pub q: Matrix,
    /// Cache of this layer, [pages, 2, heads, 64, d] in panels.
    pub kv: Stored,
    /// The table of sequences, i32[S, 3].
    pub rows: usize,
    /// The table of pages, i32[S, P].
    pub pages: usize,
    /// Slopes, `f32[heads]`.
    pub slopes: usize,
    /// Result [N, heads, d].
    pub out: Matrix,
    /// Factor of q . k.
    pub scale: f32,
    /// How many rows.
    pub count: Count,
    /// How many sequences.
    pub sequences: Count,
    /// How wide the table of pages is.
    pub pages_width: Count,
    /// Tokens of a page: 16, 32, 48 or 64.
    pub page_tokens: usize,
}

/// Writes new keys and values into the cache, in place.
#[derive(Clone, Debug, PartialEq)]
pub struct CacheAppendSpec {
    /// Heads.
    pub heads: usize,
    /// Columns of a head.
    pub d: usize,
    /// Keys [N, heads, d].
    pub k: Matrix,
    /// Values [N, heads, d].
    pub v: Matrix,
    /// The cache, written.
    pub kv: Stored,
    /// The table of sequences.
    pub rows: usize,
    /// The table of pages.
    pub pages: usize,
    /// How many rows.
    pub count: Count,
    /// How many sequences.
    pub sequences: Count,
    /// How wide the table of pages is.
    pub pages_width: Count,
    /// Tokens of a page: 16, 32, 48 or 64.
    pub page_tokens: usize,
}

/// A function of whole rows: `out[rows, width] = f(x[rows, width])`.
#[derive(Clone, Debug, PartialEq)]
pub struct RowSpec {
    /// How many rows.
    pub count: Count,
    /// Columns.
    pub width: usize,
    /// Which function.
    pub function: RowFunction,
    /// Input.
    pub x: Matrix,
    /// Output; may be the input.
    pub out: Matrix,
}

/// Functions of whole rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RowFunction {
    /// Layer normalisation.
    LayerNorm(Norm),
    /// Softmax.
    Softmax,
}

/// `out[row] = norm(table[ids[row]])` as f32.
#[derive(Clone, Debug, PartialEq)]
pub struct GatherSpec {
    /// How many ids.
    pub count: Count,
    /// Rows of the table; ids beyond it read the last one.
    pub table_rows: Count,
    /// Columns of the table.
    pub width: usize,
    /// The table.
    pub table: Stored,
    /// The table lies in panels, as the head's weight [width, vocabulary].
    pub panels: bool,
    /// `i32[rows]`.
    pub ids: usize,
    /// Where ranks share the table: the number of this one's part of the rows, `i32[1]`. Rows that it has not are zeros.
    pub place: Option<usize>,
    /// Normalisation of the gathered row.
    pub norm: Option<Norm>,
    /// Output [rows, width].
    pub out: Matrix,
}

/// Any calculation place by place over `[rows, width]`.
#[derive(Clone, Debug, PartialEq)]
pub struct ElementwiseSpec {
    /// How many rows.
    pub count: Count,
    /// Columns.
    pub width: usize,
    /// The calculation; it has no `Step::Value`.
    pub store: Store,
}

/// Plain nested loops over elements, for what no other kernel takes: movement, sums over any dimensions, products
/// of activations. `out[i..] = fold over j.. of operand(i.., j..)`.
#[derive(Clone, Debug, PartialEq)]
pub struct LoopsSpec {
    /// Pieces of the result, one after another; all have the same first extent, which counts the tiles.
    pub pieces: Vec<Nest>,
}

/// One nest of loops.
#[derive(Clone, Debug, PartialEq)]
pub struct Nest {
    /// Extents of the result's loops, then of the loops folded away.
    pub extents: Vec<Count>,
    /// How many of them are the result's; at least one.
    pub kept: usize,
    /// What is read: one operand, or two that are multiplied.
    pub operands: Vec<Strided>,
    /// What is written, with strides for the result's loops.
    pub out: Strided,
    /// How elements are folded.
    pub fold: Fold,
}

/// Elements at `offset + place + sum of index * stride`.
#[derive(Clone, Debug, PartialEq)]
pub struct Strided {
    /// Which data pointer.
    pub view: usize,
    /// Their type.
    pub element: Element,
    /// Of the first.
    pub offset: usize,
    /// Where the first depends on data: the data pointer of a whole number, and elements for each one of it.
    pub place: Option<(usize, Count)>,
    /// One for each loop.
    pub strides: Vec<usize>,
}

/// How the elements that one element of the result comes from are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fold {
    /// There is one.
    Copy,
    /// Their sum, in order.
    Sum,
    /// The largest.
    Max,
    /// The sum of products, a chain of FMA.
    Product,
}

/// A kernel to be written.
#[derive(Clone, Debug, PartialEq)]
pub enum Spec {
    /// A product with packed weights.
    Gemm(GemmSpec),
    /// Attention over the cache.
    Attention(AttentionSpec),
    /// The cache's writer.
    CacheAppend(CacheAppendSpec),
    /// Functions of rows.
    Row(RowSpec),
    /// Rows of a table.
    Gather(GatherSpec),
    /// Place by place.
    Elementwise(ElementwiseSpec),
    /// Plain loops.
    Loops(LoopsSpec),
}
