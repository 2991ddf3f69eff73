//! What can be wrong inside a strategy file, and with several of them.

use std::path::PathBuf;

/// Why bytes are no sound strategy file, or files no whole strategy.
#[derive(Debug, thiserror::Error)]
pub enum StrategyProblem {
    /// Nothing.
    #[error("it is empty: its writer was interrupted, save the strategy again")]
    Empty,
    /// Bytes of something else.
    #[error("it is no such protobuf message ({0})")]
    Message(String),
    /// Text of something else.
    #[error("it is no such JSON ({0})")]
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
    /// No layouts.
    #[error("it has no parameters: save the strategy again")]
    NoParameters,
    /// A parameter that stands there twice.
    #[error("stage {stage} has parameter {parameter} twice")]
    Doubled {
        /// The stage.
        stage: u32,
        /// The parameter.
        parameter: String,
    },
    /// Parameters of one strategy on unequally many ranks.
    #[error(
        "parameter {parameter} of stage {stage} is on {found} ranks, and {other} in stage 0 is on {expected}: all stages have \
         the same number"
    )]
    Devices {
        /// The stage.
        stage: u32,
        /// The parameter.
        parameter: String,
        /// Its ranks.
        found: u32,
        /// Another parameter.
        other: String,
        /// And its ranks.
        expected: u32,
    },
    /// More ranks than anybody has.
    #[error(
        "parameter {parameter} of stage {stage} is on {devices} ranks of the stage, which makes {ranks} in all: nobody has so many"
    )]
    TooManyRanks {
        /// The stage.
        stage: u32,
        /// A parameter of it.
        parameter: String,
        /// Ranks of the stage.
        devices: u32,
        /// Ranks up to it.
        ranks: u64,
    },
    /// Stages that no file is of.
    #[error(
        "stage {} missing, stages are 0 to {last}: give the folder with the files of all ranks, or what they were merged into",
        listed(missing)
    )]
    StagesMissing {
        /// Those stages, or some of them.
        missing: Vec<u32>,
        /// The last one that is there.
        last: u32,
    },
    /// The file of a rank of a later stage.
    #[error("it is of stage {stage} alone: give the folder with the files of all ranks, or what they were merged into")]
    OneStage {
        /// The stage.
        stage: u32,
    },
    /// A folder without any.
    #[error("it holds no strategy files: names end in .ckpt, or in .json")]
    NoFiles,
    /// A folder with protobuf and JSON.
    #[error("it holds {protobuf} file{} of protobuf and {json} of JSON: leave those of one form", if *protobuf == 1 { "" } else { "s" })]
    BothForms {
        /// Names that end in `.ckpt`.
        protobuf: usize,
        /// Names that end in `.json`.
        json: usize,
    },
    /// A file among others that does not say which stage it is of.
    #[error("it has no operators, and only those say of which stage it is: save the strategy again")]
    NoStage,
    /// Operators of one file that are of different stages.
    #[error("operator {} is of stage {}, and {} of stage {}: a file of a rank is of one", one.0, one.1, other.0, other.1)]
    TwoStages {
        /// An operator and its stage.
        one: (String, u32),
        /// Another.
        other: (String, u32),
    },
    /// Two files of a stage that differ.
    #[error(
        "it is of stage {stage}, and {} says otherwise of that: {what}; they are of different trainings, leave one's files",
        other.display()
    )]
    StageTwice {
        /// The stage.
        stage: u32,
        /// The other file.
        other: PathBuf,
        /// What differs first.
        what: String,
    },
    /// A file that is named after a rank of another stage.
    #[error(
        "{} is of stage {stage}, and rank {rank} of {devices} in a stage is in stage {}: it is of another training",
        path.display(),
        rank / devices
    )]
    OtherStage {
        /// The file.
        path: PathBuf,
        /// The rank in its name.
        rank: u32,
        /// The stage that it says.
        stage: u32,
        /// Ranks of a stage.
        devices: u32,
    },
    /// A name with and one without a stage before it.
    #[error(
        "it has parameters {one} and {other}: either all have their stage and - before their names, or none has a -"
    )]
    PartlyMerged {
        /// A name.
        one: String,
        /// A name of the other kind.
        other: String,
    },
    /// A merged file that was merged again.
    #[error(
        "parameter {parameter} should be called STAGE-NAME with one -: it was merged twice, merge the files of ranks again"
    )]
    MergedTwice {
        /// Its name.
        parameter: String,
    },
    /// An operator of a stage without parameters.
    #[error("operator {operator} is of stage {stage}, which has no parameters: merge the files of ranks again")]
    NoSuchStage {
        /// The operator.
        operator: String,
        /// Its stage.
        stage: u32,
    },
}

/// `0 is`, `1, 2 are`.
fn listed(stages: &[u32]) -> String {
    let all: Vec<String> = stages.iter().map(u32::to_string).collect();
    format!("{} {}", all.join(", "), if stages.len() == 1 { "is" } else { "are" })
}
