//! Memory for programs on the interpreter where nobody else has any: every rank's own, as bytes, all of it zeros at first.
//!
//! Weights are given whole; each rank packs its pieces, layer by layer, as the program has them lie.

use crate::extent::Bindings;
use crate::program::{Buffer, Parameter, Place, Program, View};
use crate::run_program::{Memory, pack, unpack};
use crate::tensor::Tensor;
use crate::types::TensorType;

/// See the module.
pub struct OwnMemory<'a> {
    program: &'a Program,
    /// By parameter, and by the pieces there are of it.
    weights: Vec<Vec<Layers>>,
    ranks: Vec<OfRank>,
}

/// Bytes of each layer, or of all of it where there are no layers.
type Layers = Vec<Vec<u8>>;

/// A rank's memory, by place.
struct OfRank {
    arena: Vec<u8>,
    states: Vec<Layers>,
    ios: Vec<Vec<u8>>,
}

impl<'a> OwnMemory<'a> {
    /// For symbols of these values. `weight` gives the whole of each parameter, all layers first if it has them.
    ///
    /// # Panics
    /// When a weight is of another shape, or a name has no value.
    pub fn new(program: &'a Program, sizes: &Bindings, weight: impl Fn(&Parameter) -> Tensor) -> OwnMemory<'a> {
        let pieces = |parameter: &Parameter| {
            let whole = weight(parameter);
            (0..parameter.parts(&program.mesh)).map(|part| piece(program, parameter, &whole, part)).collect()
        };
        let of_rank = |_| OfRank {
            arena: vec![0; program.arena_bytes() as usize],
            states: program.states.iter().map(|state| zeros(state, sizes)).collect(),
            ios: program.ios.iter().map(|io| zeros(io, sizes).concat()).collect(),
        };
        let weights = program.parameters.iter().map(pieces).collect();
        OwnMemory { program, weights, ranks: (0..program.mesh.ranks()).map(of_rank).collect() }
    }

    /// Gives an input to all ranks.
    pub fn put(&mut self, io: usize, tensor: &Tensor) {
        let layout = &self.program.ios[io].layout;
        self.ranks.iter_mut().for_each(|rank| pack(layout, tensor, &mut rank.ios[io]));
    }

    /// What a rank has of an output of that shape.
    pub fn get(&self, rank: u64, io: usize, shape: &[usize]) -> Tensor {
        let Buffer { layout, ty, .. } = &self.program.ios[io];
        unpack(layout, shape, ty.dtype, &self.ranks[rank as usize].ios[io])
    }

    /// Fills a rank's state, layer by layer.
    pub fn put_state(&mut self, rank: u64, state: usize, tensor: &Tensor) {
        let layout = &self.program.states[state].layout;
        let layers = self.ranks[rank as usize].states[state].iter_mut().zip(0..tensor.shape[0]);
        layers.for_each(|(bytes, layer)| pack(layout, &tensor.layer(layer), bytes));
    }

    /// A rank's state: as many layers as the shape says, of that shape.
    pub fn state(&self, rank: u64, state: usize, shape: &[usize]) -> Tensor {
        let Buffer { layout, ty, .. } = &self.program.states[state];
        let layers = self.ranks[rank as usize].states[state][..shape[0]].iter();
        let data = layers.flat_map(|bytes| unpack(layout, &shape[1..], ty.dtype, bytes).data).collect();
        Tensor { dtype: ty.dtype, shape: shape.to_vec(), data }
    }
}

/// A piece of a weight.
fn piece(program: &Program, parameter: &Parameter, whole: &Tensor, part: u64) -> Layers {
    let mut piece = whole.clone();
    for (dim, range) in parameter.ranges(&program.mesh, part) {
        piece = piece.slice(dim, range.start as usize..range.end as usize);
    }
    let layers = if parameter.stacked { (0..piece.shape[0]).map(|i| piece.layer(i)).collect() } else { vec![piece] };
    let packed = |layer: Tensor| {
        let mut bytes = vec![0; parameter.layout.bytes(&layer.shape, layer.dtype) as usize];
        pack(&parameter.layout, &layer, &mut bytes);
        bytes
    };
    layers.into_iter().map(packed).collect()
}

fn zeros(buffer: &Buffer, sizes: &Bindings) -> Layers {
    let of = |ty: &TensorType| {
        let shape = ty.shape(sizes).expect("names have values");
        vec![0; buffer.layout.bytes(&shape, ty.dtype) as usize]
    };
    if !buffer.stacked {
        return vec![of(&buffer.ty)];
    }
    let layers = buffer.ty.dims[0].extent.as_number().expect("layers are counted");
    vec![of(&buffer.ty.inner()); layers as usize]
}

impl Memory for OwnMemory<'_> {
    fn read(&self, rank: u64, view: &View, layer: u64, bytes: usize) -> &[u8] {
        let own = &self.ranks[rank as usize];
        let layer = if view.per_layer { layer } else { 0 };
        match view.place {
            Place::Arena { offset, stride } => &own.arena[(offset + stride * layer) as usize..][..bytes],
            Place::Parameter(i) => {
                let first = if view.per_layer { self.program.first_layer(rank) } else { 0 };
                let part = self.program.parameters[i].part(&self.program.mesh, rank);
                &self.weights[i][part as usize][(first + layer) as usize][..bytes]
            }
            Place::State(i) => &own.states[i][layer as usize][..bytes],
            Place::Io(i) => &own.ios[i][..bytes],
            Place::Coordinate(_) => unreachable!("the interpreter knows them"),
        }
    }

    fn write(&mut self, rank: u64, view: &View, layer: u64, bytes: usize) -> &mut [u8] {
        let own = &mut self.ranks[rank as usize];
        let layer = if view.per_layer { layer } else { 0 };
        match view.place {
            Place::Arena { offset, stride } => &mut own.arena[(offset + stride * layer) as usize..][..bytes],
            Place::State(i) => &mut own.states[i][layer as usize][..bytes],
            Place::Io(i) => &mut own.ios[i][..bytes],
            Place::Parameter(_) | Place::Coordinate(_) => unreachable!("a checked program writes neither"),
        }
    }
}
