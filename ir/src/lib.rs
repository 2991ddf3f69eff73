//! The intermediate representation: what a model is between its description and its machine code.
//!
//! Here live tensor types and their extents and layouts, the operations (one file each), graphs, their text form
//! (prints *and* parses), the verifier, the interpreter that is the truth every kernel is tested against, and
//! [`Program`], what passes make of a graph, and the [`work`] it is. Absent: files, devices, strategies, names of models.
//!
//! Start at [`graph`], then one operation (`ops/gelu.rs`), then [`interpret`].

pub mod extent;
pub mod types;

pub mod expr;
pub mod op;
pub mod ops;

pub mod graph;
pub mod verify;

pub mod parse;
pub mod print;
pub mod scan;

pub mod interpret;
pub mod pieces;
pub mod strided;
pub mod tensor;

pub mod ascend;
pub mod layout;
pub mod owned;
pub mod program;
pub mod run_program;
pub mod sharding;
pub mod target;
pub mod work;

pub use expr::Expr;
pub use extent::{Bindings, Extent};
pub use graph::{Builder, Graph, Input, Module, Node, Part, Role, Stage, SymbolBound, ValueId};
pub use interpret::{Interpreter, Precision};
pub use layout::Layout;
pub use op::{Elementwise, OpDef, Sample, TypeError};
pub use ops::Op;
pub use owned::OwnMemory;
pub use parse::{ParseError, parse};
pub use program::{Interface, Program};
pub use strided::Strided;
pub use target::Target;
pub use tensor::Tensor;
pub use types::{DType, Dim, Mesh, TensorType};
pub use verify::{VerifyError, verify};
