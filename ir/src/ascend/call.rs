//! Calls, and the steps of a plan they are part of.

use super::{AclTensor, AclType, Sum};
use serde::{Deserialize, Deserializer, Serialize};
use std::cell::Cell;

/// A number given to a call as `aclScalar*`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Scalar {
    /// Known now.
    Number(f64),
    /// Known when the plan runs.
    Count(Sum),
}

/// An argument, by what the prototype asks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Arg {
    /// `aclTensor*`
    Tensor(AclTensor),
    /// What is optional and absent, of any kind of pointer.
    Absent,
    /// `aclScalar*`
    Scalar(Scalar, AclType),
    /// `aclIntArray*`
    Ints(Vec<Sum>),
    /// `aclTensorList*`
    Tensors(Vec<AclTensor>),
    /// An integer of any width.
    Int(i64),
    /// `double` or `float`
    Real(f64),
    /// `bool`
    Flag(bool),
    /// `char*`
    Text(String),
    /// `aclDataType`
    Type(AclType),
    /// `char*`: the name of a communicator.
    Group(String),
}

impl Stream {
    /// Its name in plans.
    pub fn name(self) -> &'static str {
        match self {
            Stream::Compute => "compute",
            Stream::Transfer => "transfer",
        }
    }
}

impl Arg {
    /// The tensors it holds.
    pub fn tensors(&self) -> &[AclTensor] {
        match self {
            Arg::Tensor(tensor) => std::slice::from_ref(tensor),
            Arg::Tensors(tensors) => tensors,
            _ => &[],
        }
    }

    /// The same, to be changed.
    pub fn tensors_mut(&mut self) -> &mut [AclTensor] {
        match self {
            Arg::Tensor(tensor) => std::slice::from_mut(tensor),
            Arg::Tensors(tensors) => tensors,
            _ => &mut [],
        }
    }
}

impl From<AclTensor> for Arg {
    fn from(tensor: AclTensor) -> Arg {
        Arg::Tensor(tensor)
    }
}

impl From<&AclTensor> for Arg {
    fn from(tensor: &AclTensor) -> Arg {
        Arg::Tensor(tensor.clone())
    }
}

/// A call in two phases: `<name>GetWorkspaceSize(args, ..)`, then `<name>(workspace, .., stream)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// Its name, e.g. `aclnnGelu`.
    pub name: String,
    /// What it is given, in the prototype's order.
    pub args: Vec<Arg>,
    /// The operation of the graph it is part of, e.g. `gelu`.
    pub op: String,
}

impl Call {
    /// The elements of one tensor in the place of another, whatever their strides and types.
    pub fn copy(to: &AclTensor, from: &AclTensor, op: &str) -> Call {
        Call { name: "aclnnInplaceCopy".to_owned(), args: vec![to.into(), from.into()], op: op.to_owned() }
    }
}

/// A queue of the device: what is in it runs in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Stream {
    /// Calls, exchanges between ranks, inputs.
    Compute,
    /// Outputs on their way to the host.
    Transfer,
}

/// An event, by number: what was in a stream when it was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Event(pub u32);

/// What a loop goes over, with the names it gives values to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Over {
    /// Layers of the stage: `layer`, from its first, which is 0.
    Layers {
        /// First layer.
        from: u64,
        /// First layer no more.
        to: u64,
    },
    /// Sequences of the call: `start`, its first row; `length`, its rows; `first`, the position of its first row; `page`,
    /// its page of the cache.
    Sequences,
    /// Rows of the sequence, at most so many at once: `from`, the block's first row; `rows`, how many; `context`, the
    /// positions its last row sees (`first+from+rows`); `ahead`, the positions left then, of `reach`.
    Blocks {
        /// Most rows of a block.
        rows: u64,
        /// Positions a sequence can have.
        reach: u64,
    },
}

impl Over {
    /// Names that loops give values to.
    pub const NAMES: [&'static str; 9] =
        ["layer", "start", "length", "first", "page", "from", "rows", "context", "ahead"];
}

/// What ranks tell each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exchange {
    /// `HcclAllReduce`, a sum.
    AllReduce,
    /// `HcclAllGather`: what ranks have, one after another.
    AllGather,
    /// `HcclReduceScatter`, a sum; each rank gets its slice.
    ReduceScatter,
    /// `HcclSend`, to the rank in this one's place of the next stage.
    Send,
    /// `HcclRecv`, from the one in the stage before.
    Receive,
}

/// One step of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Step {
    /// A call, on the compute stream.
    Call(Call),
    /// Steps again and again.
    Loop {
        /// Over what.
        over: Over,
        /// What is done each time.
        #[serde(deserialize_with = "steps_of_loop")]
        steps: Vec<Step>,
    },
    /// Ranks tell each other, on the compute stream.
    Exchange {
        /// What.
        what: Exchange,
        /// The communicator's name.
        among: String,
        /// What a rank gives, row major without gaps; of [`Exchange::Receive`], what it gets.
        from: AclTensor,
        /// What it gets; absent of [`Exchange::Send`] and [`Exchange::Receive`].
        to: Option<AclTensor>,
    },
    /// `aclrtMemcpyAsync` on the device, of as many bytes as the tensors have, on the compute stream.
    Copy {
        /// From here.
        from: AclTensor,
        /// To here.
        to: AclTensor,
    },
    /// `aclrtMemcpyAsync` from the host's memory, on the compute stream: what an earlier call still reads is not written over.
    FromHost {
        /// Where to; the host's memory has its buffer's name.
        to: AclTensor,
    },
    /// `aclrtMemcpyAsync` to the host's memory, on the transfer stream: what follows on the other need not wait for it.
    ToHost {
        /// What.
        from: AclTensor,
    },
    /// `aclrtRecordEvent`
    Record(Event, Stream),
    /// `aclrtStreamWaitEvent`
    Wait(Event, Stream),
    /// `aclrtSynchronizeStream`: the host waits.
    Fence(Stream),
    /// `aclrtSynchronizeEvent`: the host waits for what was in the stream when the event was recorded.
    Await(Event),
}

/// Loops inside loops that are read at all: layers, sequences, blocks.
pub const LOOPS_MOST: usize = 4;

/// Reads the steps of a loop. Loops are read by recursion, and a file of nothing else would take the whole stack.
fn steps_of_loop<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Step>, D::Error> {
    thread_local!(static DEPTH: Cell<usize> = const { Cell::new(0) });
    let depth = DEPTH.get();
    if depth == LOOPS_MOST {
        return Err(serde::de::Error::custom(format!("loops inside loops, more than {LOOPS_MOST} deep")));
    }
    DEPTH.set(depth + 1);
    let steps = Vec::deserialize(deserializer);
    DEPTH.set(depth);
    steps
}

impl Step {
    /// The steps inside of it.
    pub fn inside(&self) -> &[Step] {
        match self {
            Step::Loop { steps, .. } => steps,
            _ => &[],
        }
    }

    /// Visits it, and the steps inside.
    pub fn visit<'a>(&'a self, see: &mut dyn FnMut(&'a Step)) {
        see(self);
        self.inside().iter().for_each(|step| step.visit(see));
    }

    /// Visits every tensor of it and of the steps inside.
    pub fn change_tensors(&mut self, change: &mut dyn FnMut(&mut AclTensor)) {
        match self {
            Step::Call(call) => call.args.iter_mut().flat_map(Arg::tensors_mut).for_each(change),
            Step::Loop { steps, .. } => steps.iter_mut().for_each(|step| step.change_tensors(change)),
            Step::Exchange { from, to, .. } => std::iter::once(from).chain(to).for_each(change),
            Step::Copy { from, to } => [from, to].into_iter().for_each(change),
            Step::FromHost { to: tensor } | Step::ToHost { from: tensor } => change(tensor),
            Step::Record(..) | Step::Wait(..) | Step::Fence(_) | Step::Await(_) => {}
        }
    }
}
