//! Pickles without Python: the operations that a dict of tensors is built by, and nothing that could do harm.
//!
//! A pickle is a program for a stack machine with a memo (Lib/pickletools.py of CPython documents each operation). This
//! machine builds plain data and calls nothing: `REDUCE` makes a dict or a tensor's description (`globals`, `tensors`),
//! `BUILD` (torch hangs `_metadata` on the dict that way) drops the state. Whatever else comes up ends it with an error.
//!
//! Bytes that mean harm are met by limits. Lists and dicts live in one table and values are numbers in it, so depth costs
//! nothing, cycles leak nothing, and nothing here recurses; texts stay where they are in the file. What is left is to
//! count what is made.

use std::collections::HashMap;

use super::globals::{self, Global};
use super::{TorchProblem as Problem, tensors};
use crate::Dtype;

/// Values put on the stack in total, containers made, places of the memo: each a multiple of what a model of a hundred
/// thousand tensors needs, together some hundred megabytes.
const VALUES_MAX: usize = 1 << 24;
const CONTAINERS_MAX: usize = 1 << 20;
const MEMO_MAX: usize = 1 << 21;
/// Open brackets at once; a state dict has four.
const NESTING_MAX: usize = 64;
/// The newest version of the protocol.
const PROTOCOL_MAX: u8 = 5;

/// A value on the stack. What it refers to lies in [`Objects`], or in the pickle.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    /// An integer of any length, little-endian.
    Long(&'a [u8]),
    Float,
    Text(&'a str),
    /// A list or tuple.
    Sequence(usize),
    Dict(usize),
    Global(Global),
    Storage(usize),
    Tensor(usize),
}

impl Value<'_> {
    /// What it is, for messages.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Value::None => "None",
            Value::Bool(_) => "a truth value",
            Value::Int(_) | Value::Long(_) => "an integer",
            Value::Float => "a number",
            Value::Text(_) => "a text",
            Value::Sequence(_) => "a list",
            Value::Dict(_) => "a dict",
            Value::Global(_) => "a class",
            Value::Storage(_) => "a storage",
            Value::Tensor(_) => "a tensor",
        }
    }
}

/// A storage that the pickle refers to: `count` elements (bytes where it has no type) kept elsewhere under `key`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Storage<'a> {
    pub(super) key: &'a str,
    pub(super) dtype: Option<Dtype>,
    pub(super) count: usize,
}

/// A part of a storage, seen in a shape; nothing is checked yet.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TensorOf {
    pub(super) storage: usize,
    pub(super) dtype: Dtype,
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

/// What values refer to.
#[derive(Debug, Default)]
pub(super) struct Objects<'a> {
    pub(super) sequences: Vec<Vec<Value<'a>>>,
    pub(super) dicts: Vec<Vec<(Value<'a>, Value<'a>)>>,
    pub(super) storages: Vec<Storage<'a>>,
    pub(super) tensors: Vec<TensorOf>,
}

/// What a pickle built.
#[derive(Debug)]
pub(super) struct Built<'a> {
    pub(super) value: Value<'a>,
    pub(super) objects: Objects<'a>,
}

impl<'a> Built<'a> {
    /// The elements, if it is a list.
    pub(super) fn list(&self) -> Option<&[Value<'a>]> {
        self.objects.list(self.value)
    }

    /// The entries, if it is a dict.
    pub(super) fn dict(&self) -> Option<&[(Value<'a>, Value<'a>)]> {
        if let Value::Dict(dict) = self.value { Some(&self.objects.dicts[dict]) } else { None }
    }
}

impl<'a> Objects<'a> {
    pub(super) fn list(&self, value: Value<'a>) -> Option<&[Value<'a>]> {
        if let Value::Sequence(sequence) = value { Some(&self.sequences[sequence]) } else { None }
    }
}

/// Runs the pickle at the beginning of `bytes`, and says where it ends.
pub(super) fn unpickle(bytes: &[u8]) -> Result<(Built<'_>, usize), Problem> {
    let mut machine = Machine {
        bytes,
        at: 0,
        stack: vec![],
        marks: vec![],
        memo: HashMap::new(),
        values: 0,
        objects: Objects::default(),
    };
    loop {
        let at = machine.at;
        match machine.step() {
            Ok(None) => {}
            Ok(Some(value)) => return Ok((Built { value, objects: machine.objects }, machine.at)),
            Err(stop) => return Err(stop.at(at)),
        }
    }
}

/// Why the machine stops; the caller knows where.
#[derive(Debug)]
pub(super) enum Stop {
    Wrong(String),
    Bomb(&'static str, usize),
    Global(String, String),
}

impl Stop {
    pub(super) fn wrong<T>(what: impl Into<String>) -> Result<T, Stop> {
        Err(Stop::Wrong(what.into()))
    }

    fn at(self, at: usize) -> Problem {
        match self {
            Stop::Wrong(what) => Problem::Pickle { what, at },
            Stop::Bomb(what, limit) => Problem::Bomb { what, limit, at },
            Stop::Global(module, name) => Problem::Global { module, name, at },
        }
    }
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Value<'a>>,
    /// Heights of the stack at open brackets.
    marks: Vec<usize>,
    memo: HashMap<u32, Value<'a>>,
    values: usize,
    objects: Objects<'a>,
}

impl<'a> Machine<'a> {
    /// One operation; the result after the last.
    fn step(&mut self) -> Result<Option<Value<'a>>, Stop> {
        let operation = self.take(1)?[0];
        match operation {
            b'.' => return self.pop().map(Some),
            // PROTO, FRAME: how it is written, not what.
            0x80 => return self.protocol().map(|()| None),
            0x95 => self.take(8).map(|_| ()),
            b'(' => self.open(),
            b'0' => self.pop().map(|_| ()),
            b'N' => self.push(Value::None),
            0x88 => self.push(Value::Bool(true)),
            0x89 => self.push(Value::Bool(false)),
            b'K' | b'M' | b'J' | 0x8a | b'G' => self.number(operation),
            b'X' | 0x8c | 0x8d | b'U' | b'T' => self.text(operation),
            b']' | b')' => self.push_sequence(vec![]),
            0x85..=0x87 => self.tuple_of(usize::from(operation - 0x84)),
            b't' | b'l' => self.close().and_then(|values| self.push_sequence(values)),
            b'a' => self.pop().and_then(|value| self.extend(vec![value])),
            b'e' => self.close().and_then(|values| self.extend(values)),
            b'}' => self.push_dict(),
            b's' => self.pop_many(2).and_then(|pair| self.insert(pair)),
            b'u' => self.close().and_then(|pairs| self.insert(pairs)),
            b'q' | b'r' | 0x94 | b'h' | b'j' => self.memo(operation),
            b'c' | 0x93 => self.global(operation),
            b'Q' => self.persistent(),
            b'R' => self.reduce(),
            b'b' => self.build(),
            _ => Stop::wrong(format!("uses operation 0x{operation:02x}, which no state dict needs")),
        }?;
        Ok(None)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Stop> {
        match self.bytes[self.at..].get(..count) {
            Some(taken) => {
                self.at += count;
                Ok(taken)
            }
            None => Stop::wrong(format!("ends after {} bytes, inside an operation: it is cut short", self.bytes.len())),
        }
    }

    /// A number of so many bytes, little-endian.
    fn unsigned(&mut self, count: usize) -> Result<u64, Stop> {
        Ok(self.take(count)?.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    fn length(&mut self, count: usize) -> Result<usize, Stop> {
        self.unsigned(count).map(|length| usize::try_from(length).unwrap_or(usize::MAX))
    }

    /// A line of text, without its end.
    fn line(&mut self) -> Result<&'a str, Stop> {
        let length = self.bytes[self.at..].iter().position(|&byte| byte == b'\n');
        let line = self.take(length.map_or(usize::MAX, |length| length + 1))?;
        as_text(&line[..line.len() - 1])
    }

    fn push(&mut self, value: Value<'a>) -> Result<(), Stop> {
        self.values += 1;
        if self.values > VALUES_MAX {
            return Err(Stop::Bomb("values", VALUES_MAX));
        }
        self.stack.push(value);
        Ok(())
    }

    fn pop(&mut self) -> Result<Value<'a>, Stop> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.pop().filter(|_| self.stack.len() >= floor) {
            Some(value) => Ok(value),
            None => Stop::wrong("takes a value where there is none"),
        }
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<Value<'a>>, Stop> {
        let mut values = (0..count).map(|_| self.pop()).collect::<Result<Vec<_>, Stop>>()?;
        values.reverse();
        Ok(values)
    }

    fn top(&self) -> Value<'a> {
        self.stack.last().copied().unwrap_or(Value::None)
    }

    fn open(&mut self) -> Result<(), Stop> {
        if self.marks.len() == NESTING_MAX {
            return Err(Stop::Bomb("levels of brackets", NESTING_MAX));
        }
        self.marks.push(self.stack.len());
        Ok(())
    }

    /// Everything since the last open bracket.
    fn close(&mut self) -> Result<Vec<Value<'a>>, Stop> {
        match self.marks.pop() {
            Some(mark) => Ok(self.stack.split_off(mark)),
            None => Stop::wrong("closes a bracket that it never opened"),
        }
    }

    fn protocol(&mut self) -> Result<(), Stop> {
        match self.take(1)?[0] {
            0..=PROTOCOL_MAX => Ok(()),
            newer => Stop::wrong(format!("is of protocol {newer}; up to {PROTOCOL_MAX} is known")),
        }
    }

    fn number(&mut self, operation: u8) -> Result<(), Stop> {
        let value = match operation {
            b'K' => Value::Int(self.unsigned(1)? as i64),
            b'M' => Value::Int(self.unsigned(2)? as i64),
            b'J' => Value::Int(i64::from(self.unsigned(4)? as u32 as i32)),
            b'G' => self.take(8).map(|_| Value::Float)?,
            _ => {
                let length = self.length(1)?;
                long(self.take(length)?)
            }
        };
        self.push(value)
    }

    fn text(&mut self, operation: u8) -> Result<(), Stop> {
        let length = match operation {
            0x8c | b'U' => self.length(1)?,
            0x8d => self.length(8)?,
            _ => self.length(4)?,
        };
        let text = as_text(self.take(length)?)?;
        self.push(Value::Text(text))
    }

    fn check_containers(&self) -> Result<(), Stop> {
        let Objects { sequences, dicts, storages, tensors } = &self.objects;
        let made = sequences.len() + dicts.len() + storages.len() + tensors.len();
        if made < CONTAINERS_MAX { Ok(()) } else { Err(Stop::Bomb("lists, dicts and tensors", CONTAINERS_MAX)) }
    }

    fn push_sequence(&mut self, values: Vec<Value<'a>>) -> Result<(), Stop> {
        self.check_containers()?;
        self.objects.sequences.push(values);
        self.push(Value::Sequence(self.objects.sequences.len() - 1))
    }

    fn tuple_of(&mut self, count: usize) -> Result<(), Stop> {
        let values = self.pop_many(count)?;
        self.push_sequence(values)
    }

    fn push_dict(&mut self) -> Result<(), Stop> {
        self.check_containers()?;
        self.objects.dicts.push(vec![]);
        self.push(Value::Dict(self.objects.dicts.len() - 1))
    }

    fn extend(&mut self, values: Vec<Value<'a>>) -> Result<(), Stop> {
        match self.top() {
            Value::Sequence(list) => {
                self.objects.sequences[list].extend(values);
                Ok(())
            }
            other => Stop::wrong(format!("appends to {}", other.kind())),
        }
    }

    fn insert(&mut self, pairs: Vec<Value<'a>>) -> Result<(), Stop> {
        match self.top() {
            Value::Dict(dict) if pairs.len() % 2 == 0 => {
                self.objects.dicts[dict].extend(pairs.chunks_exact(2).map(|pair| (pair[0], pair[1])));
                Ok(())
            }
            Value::Dict(_) => Stop::wrong("puts a key without a value into a dict"),
            other => Stop::wrong(format!("puts entries into {}", other.kind())),
        }
    }

    fn memo(&mut self, operation: u8) -> Result<(), Stop> {
        let place = match operation {
            b'q' | b'h' => self.unsigned(1)? as u32,
            0x94 => self.memo.len() as u32,
            _ => self.unsigned(4)? as u32,
        };
        if matches!(operation, b'h' | b'j') {
            return match self.memo.get(&place) {
                Some(&value) => self.push(value),
                None => Stop::wrong(format!("recalls value {place}, which it never kept")),
            };
        }
        if self.memo.len() == MEMO_MAX {
            return Err(Stop::Bomb("kept values", MEMO_MAX));
        }
        if self.stack.is_empty() {
            return Stop::wrong("keeps a value where there is none");
        }
        self.memo.insert(place, self.top());
        Ok(())
    }

    fn global(&mut self, operation: u8) -> Result<(), Stop> {
        let (module, name) = if operation == b'c' {
            (self.line()?, self.line()?)
        } else {
            match self.pop_many(2)?[..] {
                [Value::Text(module), Value::Text(name)] => (module, name),
                _ => return Stop::wrong("names a class by something else than texts"),
            }
        };
        match globals::find(module, name) {
            Some(global) => self.push(Value::Global(global)),
            None => Err(Stop::Global(shortened(module), shortened(name))),
        }
    }

    fn persistent(&mut self) -> Result<(), Stop> {
        let id = self.pop()?;
        let storage = tensors::storage(&self.objects, id)?;
        self.check_containers()?;
        self.objects.storages.push(storage);
        self.push(Value::Storage(self.objects.storages.len() - 1))
    }

    fn reduce(&mut self) -> Result<(), Stop> {
        let arguments = self.pop()?;
        let function = self.pop()?;
        let (Value::Global(global), Some(values)) = (function, self.objects.list(arguments)) else {
            return Stop::wrong(format!("calls {} with {}", function.kind(), arguments.kind()));
        };
        match (global, values) {
            (Global::OrderedDict, []) => self.push_dict(),
            (Global::RebuildParameter, [data @ Value::Tensor(_), ..]) => self.push(*data),
            (Global::RebuildTensor | Global::RebuildTyped, values) => {
                let tensor = tensors::rebuild(&self.objects, global, values)?;
                self.check_containers()?;
                self.objects.tensors.push(tensor);
                self.push(Value::Tensor(self.objects.tensors.len() - 1))
            }
            _ => Stop::wrong(format!("calls {global:?} with {} values that do not fit", values.len())),
        }
    }

    /// Attributes of a dict, such as `_metadata`, say nothing about the tensors in it.
    fn build(&mut self) -> Result<(), Stop> {
        self.pop()?;
        match self.top() {
            Value::Dict(_) => Ok(()),
            other => Stop::wrong(format!("gives attributes to {}", other.kind())),
        }
    }
}

/// An integer of any length: those of 64 bits as such.
fn long(bytes: &[u8]) -> Value<'_> {
    if bytes.len() > 8 {
        return Value::Long(bytes);
    }
    let sign = if bytes.last().is_some_and(|last| last & 0x80 != 0) { u64::MAX } else { 0 };
    let wide = bytes.iter().rev().fold(sign, |number, &byte| number << 8 | u64::from(byte));
    Value::Int(wide as i64)
}

fn as_text(bytes: &[u8]) -> Result<&str, Stop> {
    std::str::from_utf8(bytes).or_else(|_| Stop::wrong("holds a text that is not UTF-8"))
}

/// A name for a message: a file may hold one of any length and with any characters.
fn shortened(name: &str) -> String {
    let plain: String = name.chars().take(80).flat_map(char::escape_debug).collect();
    if name.chars().nth(80).is_some() { plain + ".." } else { plain }
}
