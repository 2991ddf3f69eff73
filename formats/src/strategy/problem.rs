//! What can be wrong inside a strategy file.

/// Why bytes are no sound strategy file.
#[derive(Debug, thiserror::Error)]
pub enum StrategyProblem {
    /// Nothing.
    #[error("it is empty: its writer was interrupted, save the strategy again")]
    Empty,
    /// Bytes of something else.
    #[error("it is no such protobuf message ({0}); was it saved as JSON? Then its name has to end in .json")]
    Message(String),
    /// Text of something else.
    #[error("it is no such JSON ({0}); was it saved as protobuf? Then its name must not end in .json")]
    Json(String),
    /// A field that the format requires.
    #[error("{whose} lacks {field}: save the strategy again")]
    Lacks {
        /// What lacks it.
        whose: String,
        /// Its name in the format.
        field: &'static str,
    },
    /// A layout that no parameter can have.
    #[error("parameter {parameter} {what}")]
    Layout {
        /// The parameter.
        parameter: String,
        /// What is wrong with it.
        what: String,
    },
}
