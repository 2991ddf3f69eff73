//! The messages of the protobuf form: proto2, package `mindspore.straspb`, numbers as MindSpore gives them.
//!
//! What the format requires is optional here, so that what lacks is told instead of read as 0. Lists are written unpacked,
//! and read either way.

use prost::Message;

/// The whole file.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Map {
    #[prost(uint32, optional, tag = "1")]
    pub(super) current_stage: Option<u32>,
    #[prost(message, repeated, tag = "2")]
    pub(super) operators: Vec<OperatorItem>,
    #[prost(message, repeated, tag = "3")]
    pub(super) layouts: Vec<LayoutItem>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct OperatorItem {
    #[prost(string, optional, tag = "1")]
    pub(super) name: Option<String>,
    #[prost(message, optional, tag = "2")]
    pub(super) strategies: Option<Strategies>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Strategies {
    #[prost(uint32, optional, tag = "1")]
    pub(super) stage: Option<u32>,
    #[prost(message, repeated, tag = "2")]
    pub(super) inputs: Vec<Unsigned>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct LayoutItem {
    #[prost(string, optional, tag = "1")]
    pub(super) name: Option<String>,
    #[prost(message, optional, tag = "2")]
    pub(super) layouts: Option<Layouts>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Layouts {
    #[prost(message, repeated, tag = "1")]
    pub(super) dev_matrix: Vec<Unsigned>,
    #[prost(message, repeated, tag = "2")]
    pub(super) tensor_map: Vec<Signed>,
    #[prost(message, repeated, tag = "3")]
    pub(super) param_split_shape: Vec<Long>,
    #[prost(message, repeated, tag = "4")]
    pub(super) indices_offset: Vec<Long>,
    #[prost(int32, optional, tag = "5")]
    pub(super) field: Option<i32>,
    #[prost(int32, optional, tag = "6")]
    pub(super) opt_weight_shard_step: Option<i32>,
    #[prost(int32, optional, tag = "7")]
    pub(super) opt_weight_shard_size: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Unsigned {
    #[prost(uint32, repeated, packed = "false", tag = "1")]
    pub(super) dim: Vec<u32>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Signed {
    #[prost(int32, repeated, packed = "false", tag = "1")]
    pub(super) dim: Vec<i32>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Long {
    #[prost(int64, repeated, packed = "false", tag = "1")]
    pub(super) dim: Vec<i64>,
}
