//! Where the values of a part lie: the buffers of weights, cache, inputs, values and temporaries.

use super::{Part, Scope, key};
use crate::ascend::kernel::dtype_and_dims;
use crate::ascend::reach;
use bloomery_artifact::plan::{Arena, ArenaSize, Content, PlanBuffer, PlanPart, padded};
use bloomery_ir::ascend::{AclTensor, AclType, BLOCK_ROWS, Need, Step, Sum};
use bloomery_ir::program::{Place, View};
use bloomery_ir::target::Refusal;
use bloomery_ir::{Bindings, Program};
use std::collections::{BTreeMap, BTreeSet};

impl Part<'_> {
    /// Steps with memory for what they need; `first` is the number their first need has in them.
    pub(super) fn provided(
        &mut self,
        mut steps: Vec<Step>,
        needs: &[Need],
        first: usize,
        scope: &Scope<'_>,
    ) -> Result<Vec<Step>, Refusal> {
        let mut offset = 0;
        // The buffer of each, and where in it the storage begins.
        let mut found: Vec<(usize, Sum)> = vec![];
        for need in needs {
            let number = match need {
                Need::Temporary(dtype, dims) => {
                    let most = Sum::product(dims).eval(&scope.most).map_err(|error| Refusal(error.to_string()))?;
                    let bytes = most * dtype.bytes();
                    let name = format!("t{}", self.buffers.len());
                    self.buffers.push(PlanBuffer::new(&name, Arena::Temporaries, offset, bytes, 1, Content::Scratch));
                    offset += padded(bytes);
                    self.buffers.len() - 1
                }
                Need::Distances { slopes, rows, reach, dtype } => self.distances(slopes, *rows, *reach, *dtype)?,
                Need::Int8(weight) => {
                    found.push(self.narrowed(weight, AclType::I8)?);
                    continue;
                }
                Need::Factors(weight) => {
                    found.push(self.narrowed(weight, weight.dtype)?);
                    continue;
                }
            };
            found.push((number, Sum::default()));
        }
        let mut renumber = |tensor: &mut AclTensor| {
            if tensor.buffer >= first {
                let (buffer, base) = found[tensor.buffer - first].clone();
                tensor.base = tensor.base.plus(&base);
                tensor.buffer = buffer;
            }
        };
        steps.iter_mut().for_each(|step| step.change_tensors(&mut renumber));
        Ok(steps)
    }

    /// A weight in 8 bits, or of another type the factors of its columns; and the way from layer to layer.
    fn narrowed(&mut self, weight: &AclTensor, dtype: AclType) -> Result<(usize, Sum), Refusal> {
        let whole = &self.buffers[weight.buffer];
        let (of, layers) = (whole.name.clone(), whole.layers);
        let number = |sum: &Sum| sum.as_number().ok_or_else(|| Refusal(format!("%{of} has no number of columns")));
        let (rows, columns) = (number(&weight.dims[0])?, number(&weight.dims[1])?);
        let (name, bytes, content) = if dtype == AclType::I8 {
            (format!("{of}.int8"), rows * columns, Content::Int8 { of: of.clone(), columns })
        } else {
            (format!("{of}.factors"), columns * dtype.bytes(), Content::Factors { of: of.clone(), columns, dtype })
        };
        let buffer = self.buffer(&name, || PlanBuffer::new(&name, Arena::Weights, 0, bytes, layers, content));
        let pitch = Sum::number(if layers > 1 { self.buffers[buffer].pitch() } else { 0 });
        Ok((buffer, Sum::symbol("layer").times(&pitch)))
    }

    /// The table that ALiBi's slopes make.
    fn distances(&mut self, slopes: &AclTensor, rows: u64, reach: u64, dtype: AclType) -> Result<usize, Refusal> {
        let name = self.buffers[slopes.buffer].name.clone();
        let constant = self.program.parameters.iter().find(|parameter| parameter.name == name);
        let values = constant.and_then(|constant| constant.origin.literal());
        let values = values.ok_or_else(|| Refusal("slopes of attention are not known when compiling".into()))?;
        let heads = slopes.dims[0].as_number().ok_or_else(|| Refusal("heads have no number".into()))?;
        let over = slopes.offset.names().next().map(str::to_owned);
        let content = Content::Distances { slopes: values.to_vec(), over, heads, rows, reach, dtype };
        if let Some(known) = self.buffers.iter().position(|buffer| buffer.content == content) {
            return Ok(known);
        }
        let bytes = heads * rows * (reach + rows) * dtype.bytes();
        let name = format!("distances_{rows}");
        Ok(self.buffer(&name, || PlanBuffer::new(&name, Arena::Weights, 0, bytes, 1, content)))
    }

    /// Whether a tensor lies in what never changes.
    pub(super) fn is_fixed(&self, tensor: &AclTensor) -> bool {
        self.buffers[tensor.buffer].content == Content::Parameter
    }

    /// The tensor that a view of the program is, to be written: what was there before is no part of anything any more.
    pub(super) fn written(&mut self, view: &View, scope: &mut Scope<'_>) -> Result<AclTensor, Refusal> {
        if matches!(view.place, Place::Arena { .. }) {
            scope.views.remove(&key(view));
        }
        self.tensor(view, scope)
    }

    /// The tensor that a view of the program is.
    pub(super) fn tensor(&mut self, view: &View, scope: &Scope<'_>) -> Result<AclTensor, Refusal> {
        if let (Place::Arena { .. }, Some(known)) = (view.place, scope.views.get(&key(view))) {
            return Ok(known.clone());
        }
        let (dtype, dims) = dtype_and_dims(&view.ty)?;
        let bytes = Sum::product(&dims).eval(&scope.most).map_err(|error| Refusal(error.to_string()))? * dtype.bytes();
        let layer = Sum::symbol("layer");
        let (buffer, step) = match view.place {
            Place::Arena { offset, stride } => {
                let name = format!("{}.{offset}.{bytes}", scope.entry.name);
                let count = stride.checked_div(stride).map_or(1, |_| self.layers);
                let number = self.buffers.len();
                let new =
                    || PlanBuffer::new(&format!("v{number}"), Arena::Values, offset, bytes, count, Content::Scratch);
                (self.buffer(&name, new), stride)
            }
            Place::Parameter(i) => {
                let parameter = &self.program.parameters[i];
                self.kept(&parameter.name, parameter.stacked, view, Arena::Weights, Content::Parameter, scope)?
            }
            Place::State(i) => {
                let name = &self.program.states[i].name;
                self.kept(name, true, view, Arena::Cache, Content::State, scope)?
            }
            Place::Io(i) => {
                let name = &self.program.ios[i].name;
                self.kept(name, false, view, Arena::Io, Content::Io, scope)?
            }
            Place::Coordinate(_) => return Err(Refusal("a rank's place is a number, not a tensor".into())),
        };
        let base = if view.per_layer { layer.times(&step.into()) } else { Sum::default() };
        Ok(AclTensor::whole(buffer, base, dtype, dims))
    }

    /// Memory that is there for longer than a call, and the way from layer to layer.
    fn kept(
        &mut self,
        name: &str,
        stacked: bool,
        view: &View,
        arena: Arena,
        content: Content,
        scope: &Scope<'_>,
    ) -> Result<(usize, u64), Refusal> {
        if stacked && !view.per_layer {
            return Err(Refusal(format!("%{name} is used layer by layer, not as a whole")));
        }
        // Of all entries: the largest that any has.
        let most: Bindings = self.program.symbols.iter().map(|symbol| (symbol.name.clone(), symbol.most)).collect();
        let most = scope.most.iter().map(|(name, value)| (name.clone(), *value)).chain(most).collect();
        let elements = view.ty.elements(&most).map_err(|error| Refusal(error.to_string()))?;
        let (bytes, layers) = (view.ty.dtype.bytes(elements), if stacked { self.layers } else { 1 });
        let buffer = self.buffer(name, || PlanBuffer::new(name, arena, 0, bytes, layers, content));
        Ok((buffer, self.buffers[buffer].pitch()))
    }

    pub(super) fn buffer(&mut self, name: &str, new: impl FnOnce() -> PlanBuffer) -> usize {
        if let Some(known) = self.places.get(name) {
            return *known;
        }
        self.buffers.push(new());
        self.places.insert(name.to_owned(), self.buffers.len() - 1);
        self.buffers.len() - 1
    }
}

/// Largest values of all names: symbols, places along axes, and what loops give values to.
pub(super) fn most(program: &Program, bounds: &[(String, u64)], layers: u64) -> Bindings {
    let mut most: Bindings = bounds.iter().cloned().collect();
    most.extend(program.mesh.axes.iter().map(|(axis, size)| (axis.clone(), size - 1)));
    let rows = program.symbols.first().map_or(1, |symbol| most[&symbol.name] * program.mesh.ranks());
    let reach = program.states.first().and_then(|state| state.ty.dims.get(4)?.extent.as_number()).unwrap_or(1);
    let of_loops = [
        ("layer", layers),
        ("start", rows),
        ("length", rows),
        ("first", reach),
        ("page", most.get("C").copied().unwrap_or(1)),
        ("from", rows),
        ("rows", rows.min(BLOCK_ROWS)),
        ("context", reach),
        ("ahead", reach),
    ];
    most.extend(of_loops.map(|(name, value)| (name.to_owned(), value)));
    most
}

pub(super) fn layers(program: &Program) -> u64 {
    let stacked = program.parameters.iter().filter(|parameter| parameter.stacked);
    stacked.filter_map(|parameter| parameter.ty.dims[0].extent.as_number()).max().unwrap_or(1)
}

/// A part with the buffers that are used, each in its place.
pub(super) fn settle(buffers: Vec<PlanBuffer>, mut part: PlanPart) -> PlanPart {
    let mut used = BTreeSet::new();
    let steps = |part: &mut PlanPart, change: &mut dyn FnMut(&mut AclTensor)| {
        part.entries.iter_mut().flat_map(|entry| &mut entry.steps).for_each(|step| step.change_tensors(change));
    };
    steps(&mut part, &mut |tensor| _ = used.insert(tensor.buffer));
    let numbers: BTreeMap<usize, usize> = used.iter().enumerate().map(|(new, old)| (*old, new)).collect();
    steps(&mut part, &mut |tensor| tensor.buffer = numbers[&tensor.buffer]);
    let mut ends: BTreeMap<Arena, u64> = BTreeMap::new();
    for mut buffer in buffers.into_iter().enumerate().filter(|(i, _)| used.contains(i)).map(|(_, buffer)| buffer) {
        let end = ends.entry(buffer.arena).or_insert(0);
        if buffer.content != Content::Scratch {
            buffer.offset = *end;
        }
        *end = buffer.range().end.max(*end);
        part.buffers.push(buffer);
    }
    for (number, buffer) in part.buffers.iter_mut().enumerate().filter(|(_, buffer)| buffer.content == Content::Scratch)
    {
        let letter = if buffer.arena == Arena::Values { 'v' } else { 't' };
        buffer.name = format!("{letter}{number}");
    }
    ends.insert(Arena::Workspace, reach::workspace(&part));
    part.arenas = ends.into_iter().map(|(arena, bytes)| ArenaSize { arena, bytes }).collect();
    part
}
