//! A parallel strategy: how many ranks share a model, and what each of them holds.
//!
//! `dp` ranks hold copies and share the batch, `mp` ranks share every layer, `pp` stages share the layers. It comes from a
//! YAML's `parallel_config` (`resolve`) or from the short form `dp=2,mp=4,pp=2,vocab_emb_dp=true`, and is checked against a
//! model by [`Strategy::check`]. What a strategy does to a graph is the passes' subject.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Shape;

/// The most ranks that are believed.
pub const RANKS_MAX: u64 = 1 << 16;
/// The most micro-batches of a step, or parts of one, that are believed.
pub const MICRO_BATCHES_MAX: u64 = 1 << 16;

/// How a model is shared among ranks. The default is one rank.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Strategy {
    /// Copies of the model, each with a part of the batch.
    pub dp: u32,
    /// Ranks that share every layer.
    pub mp: u32,
    /// Stages that share the layers.
    pub pp: u32,
    /// Micro-batches of a training step: they keep the stages busy. 1 without stages.
    pub micro_batches: u32,
    /// Parts of a micro-batch whose communication hides behind each other's work.
    pub interleave: u32,
    /// Whether every rank has the whole embedding table, instead of a part of its rows by `mp`.
    pub vocab_emb_dp: bool,
    /// Whether `dp` ranks share the optimizer's states and the large matrices between them.
    pub optimizer_shard: bool,
    /// Whether norms and residuals are split by tokens among the ranks of `mp`.
    pub sequence_parallel: bool,
    /// Which stage has how many layers.
    pub stages: Stages,
}

impl Default for Strategy {
    fn default() -> Strategy {
        Strategy {
            dp: 1,
            mp: 1,
            pp: 1,
            micro_batches: 1,
            interleave: 1,
            vocab_emb_dp: false,
            optimizer_shard: false,
            sequence_parallel: false,
            stages: Stages::Balanced,
        }
    }
}

/// How layers are dealt out to stages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub enum Stages {
    /// By cost, the embedding and the head counted too.
    #[default]
    Balanced,
    /// As MindFormers deals them out: see [`mindformers_layers`].
    MindFormers,
    /// Layers of each stage, in order.
    Layers(Vec<u32>),
}

/// [`Stages`] in a YAML: a word, or layers of each stage.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Word(String),
    Layers(Vec<u32>),
}

impl TryFrom<Written> for Stages {
    type Error = String;

    fn try_from(written: Written) -> Result<Stages, String> {
        match written {
            Written::Word(word) => Stages::by_word(&word).ok_or(format!("{word} is neither balanced nor mindformers")),
            Written::Layers(layers) => Ok(Stages::Layers(layers)),
        }
    }
}

impl From<Stages> for Written {
    fn from(stages: Stages) -> Written {
        match stages {
            Stages::Balanced => Written::Word("balanced".to_owned()),
            Stages::MindFormers => Written::Word("mindformers".to_owned()),
            Stages::Layers(layers) => Written::Layers(layers),
        }
    }
}

impl Stages {
    fn by_word(word: &str) -> Option<Stages> {
        match word {
            "balanced" => Some(Stages::Balanced),
            "mindformers" => Some(Stages::MindFormers),
            _ => None,
        }
    }
}

impl fmt::Display for Stages {
    /// `balanced`, `mindformers`, or layers of each stage: `15:15`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stages::Balanced => f.write_str("balanced"),
            Stages::MindFormers => f.write_str("mindformers"),
            Stages::Layers(layers) => {
                let layers: Vec<String> = layers.iter().map(u32::to_string).collect();
                f.write_str(&layers.join(":"))
            }
        }
    }
}

/// Layers of each stage as MindFormers deals them out: all stages but the last have `(layers + 1) / stages` of them, the
/// head counted as one; the last has what is left, which may be much more or less. No more stages than layers.
pub fn mindformers_layers(layers: u32, stages: u32) -> Vec<u32> {
    let each = ((layers + 1) / stages).max(1);
    let last = layers - each * (stages - 1);
    let mut all = vec![each; stages as usize - 1];
    all.push(last);
    all
}

/// Where a rank stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its stage.
    pub stage: u32,
    /// Which copy of the model it belongs to.
    pub dp: u32,
    /// Which part of every layer it has.
    pub mp: u32,
}

impl Strategy {
    /// Ranks of all stages.
    pub fn ranks(&self) -> u64 {
        u64::from(self.dp) * u64::from(self.mp) * u64::from(self.pp)
    }

    /// Where a rank stands: stages are blocks of consecutive ranks, and `mp` counts fastest within.
    pub fn place(&self, rank: u64) -> Place {
        assert!(rank < self.ranks(), "there are {} ranks", self.ranks());
        let [dp, mp] = [self.dp, self.mp].map(u64::from);
        let [stage, copy, part] = [rank / (dp * mp), rank / mp % dp, rank % mp].map(|digit| digit as u32);
        Place { stage, dp: copy, mp: part }
    }

    /// The rank that stands there.
    pub fn rank(&self, place: Place) -> u64 {
        let [stage, copy, part, dp, mp] = [place.stage, place.dp, place.mp, self.dp, self.mp].map(u64::from);
        (stage * dp + copy) * mp + part
    }

    /// Layers of each stage, where the strategy says so; what is to be balanced depends on costs. The strategy must have
    /// been [checked](Strategy::check) against a model of so many layers.
    pub fn layers(&self, layers: u32) -> Option<Vec<u32>> {
        match &self.stages {
            Stages::Balanced => (self.pp == 1).then(|| vec![layers]),
            Stages::MindFormers => Some(mindformers_layers(layers, self.pp)),
            Stages::Layers(given) => Some(given.clone()),
        }
    }

    /// That a model can be shared so.
    ///
    /// # Errors
    /// The first of what contradicts the model, or itself.
    pub fn check(&self, shape: &Shape) -> Result<(), StrategyError> {
        let Strategy { mp, pp, .. } = *self;
        self.check_ranks()?;
        if shape.heads % u64::from(mp) != 0 {
            return Err(StrategyError::Heads { heads: shape.heads, mp });
        }
        if u64::from(pp) > shape.layers {
            return Err(StrategyError::TooManyStages { stages: pp, layers: shape.layers });
        }
        let Stages::Layers(given) = &self.stages else { return Ok(()) };
        if given.len() != pp as usize {
            return Err(StrategyError::StagesGiven { given: given.len(), stages: pp });
        }
        let sum: u64 = given.iter().copied().map(u64::from).sum();
        match given.iter().position(|layers| *layers == 0) {
            Some(stage) => Err(StrategyError::EmptyStage { stage }),
            None if sum != shape.layers => Err(StrategyError::LayersGiven { given: sum, layers: shape.layers }),
            None => Ok(()),
        }
    }

    /// That a training step has a micro-batch for every stage.
    ///
    /// # Errors
    /// It has fewer.
    pub fn check_training(&self) -> Result<(), StrategyError> {
        let Strategy { micro_batches, pp, .. } = *self;
        if micro_batches < pp {
            return Err(StrategyError::MicroBatches { micro_batches, stages: pp });
        }
        Ok(())
    }

    /// That it is a strategy for so many devices.
    ///
    /// # Errors
    /// It is for more or fewer.
    pub fn check_devices(&self, devices: u64) -> Result<(), StrategyError> {
        let Strategy { dp, mp, pp, .. } = *self;
        if self.ranks() != devices {
            return Err(StrategyError::Devices { dp, mp, pp, ranks: self.ranks(), devices });
        }
        Ok(())
    }

    fn check_ranks(&self) -> Result<(), StrategyError> {
        // Each is a u32, so the product of three may be more than a u64 holds.
        let [dp, mp, pp] = [self.dp, self.mp, self.pp].map(u128::from);
        let ranks = dp * mp * pp;
        if ranks > u128::from(RANKS_MAX) {
            return Err(StrategyError::TooManyRanks { ranks });
        }
        Ok(())
    }
}

impl fmt::Display for Strategy {
    /// The short form, which reads as the same: sizes, and what is not the default.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let usual = Strategy::default();
        let mut text = format!("dp={},mp={},pp={}", self.dp, self.mp, self.pp);
        let mut more = |name: &str, value: &dyn fmt::Display, is_usual: bool| {
            if !is_usual {
                let _ = write!(text, ",{name}={value}");
            }
        };
        more("micro_batches", &self.micro_batches, self.micro_batches == usual.micro_batches);
        more("interleave", &self.interleave, self.interleave == usual.interleave);
        more("vocab_emb_dp", &self.vocab_emb_dp, self.vocab_emb_dp == usual.vocab_emb_dp);
        more("optimizer_shard", &self.optimizer_shard, self.optimizer_shard == usual.optimizer_shard);
        more("sequence_parallel", &self.sequence_parallel, self.sequence_parallel == usual.sequence_parallel);
        more("stages", &self.stages, self.stages == usual.stages);
        f.write_str(&text)
    }
}

/// Names in the short form: ours, and MindFormers' where it has another.
const NAMES: &[(&str, &str)] = &[
    ("dp", "data_parallel"),
    ("mp", "model_parallel"),
    ("pp", "pipeline_stage"),
    ("micro_batches", "micro_batch_num"),
    ("interleave", "micro_batch_interleave_num"),
    ("vocab_emb_dp", "vocab_emb_dp"),
    ("optimizer_shard", "optimizer_shard"),
    ("sequence_parallel", "use_seq_parallel"),
    ("stages", "stages"),
];

impl FromStr for Strategy {
    type Err = StrategyError;

    /// Reads the short form. What is not said is the default; the vocabulary is split by `mp` then.
    fn from_str(text: &str) -> Result<Strategy, StrategyError> {
        let mut strategy = Strategy::default();
        let mut said = Vec::new();
        for part in text.split(',').map(str::trim) {
            let (name, value) = part.split_once('=').ok_or_else(|| StrategyError::NoValue { part: part.to_owned() })?;
            let (name, value) = (name.trim(), value.trim());
            let known = NAMES.iter().find(|(ours, theirs)| name == *ours || name == *theirs);
            let Some(&(name, _)) = known else { return Err(StrategyError::Unknown { name: name.to_owned() }) };
            if said.contains(&name) {
                return Err(StrategyError::Twice { name });
            }
            said.push(name);
            strategy.set(name, value)?;
        }
        strategy.check_ranks()?;
        Ok(strategy)
    }
}

impl Strategy {
    fn set(&mut self, name: &'static str, value: &str) -> Result<(), StrategyError> {
        match name {
            "dp" => self.dp = count(name, value, RANKS_MAX)?,
            "mp" => self.mp = count(name, value, RANKS_MAX)?,
            "pp" => self.pp = count(name, value, RANKS_MAX)?,
            "micro_batches" => self.micro_batches = count(name, value, MICRO_BATCHES_MAX)?,
            "interleave" => self.interleave = count(name, value, MICRO_BATCHES_MAX)?,
            "vocab_emb_dp" => self.vocab_emb_dp = flag(name, value)?,
            "optimizer_shard" => self.optimizer_shard = flag(name, value)?,
            "sequence_parallel" => self.sequence_parallel = flag(name, value)?,
            "stages" => self.stages = stages(name, value)?,
            _ => unreachable!("all names are in the list"),
        }
        Ok(())
    }
}

fn wrong(name: &'static str, value: &str, expected: String) -> StrategyError {
    StrategyError::Value { name, value: value.to_owned(), expected }
}

fn count(name: &'static str, value: &str, most: u64) -> Result<u32, StrategyError> {
    let count = value.parse().ok().filter(|count| (1..=most).contains(&u64::from(*count)));
    count.ok_or_else(|| wrong(name, value, format!("a whole number from 1 to {most}")))
}

fn flag(name: &'static str, value: &str) -> Result<bool, StrategyError> {
    match value {
        "true" | "True" => Ok(true),
        "false" | "False" => Ok(false),
        _ => Err(wrong(name, value, "true or false".to_owned())),
    }
}

fn stages(name: &'static str, value: &str) -> Result<Stages, StrategyError> {
    let layers = || value.split(':').map(|layers| layers.parse().ok()).collect::<Option<_>>().map(Stages::Layers);
    let expected = || wrong(name, value, "balanced, mindformers, or layers of each stage such as 15:15".to_owned());
    Stages::by_word(value).or_else(layers).ok_or_else(expected)
}

/// A strategy that cannot be. [`StrategyError::way_out`] says what could, [`StrategyError::key`] what is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StrategyError {
    /// Heads that cannot be dealt out evenly.
    #[error("{heads} heads cannot be split evenly among {mp} ranks of model_parallel")]
    Heads {
        /// Of the model.
        heads: u64,
        /// Ranks that share a layer.
        mp: u32,
    },
    /// More stages than layers.
    #[error("{stages} pipeline stages for {layers} layers")]
    TooManyStages {
        /// As asked for.
        stages: u32,
        /// Of the model.
        layers: u64,
    },
    /// Layers are given for another number of stages.
    #[error("layers are given for {given} stages, and pipeline_stage is {stages}")]
    StagesGiven {
        /// How many numbers.
        given: usize,
        /// Stages there are.
        stages: u32,
    },
    /// Layers are given that are not as many as the model has.
    #[error("the layers given for each stage are {given} in all, and the model has {layers}")]
    LayersGiven {
        /// Their sum.
        given: u64,
        /// Of the model.
        layers: u64,
    },
    /// A stage with nothing to do.
    #[error("stage {stage} is given 0 layers")]
    EmptyStage {
        /// Counted from 0.
        stage: usize,
    },
    /// Stages that would never be busy together.
    #[error("{micro_batches} micro-batches for {stages} pipeline stages")]
    MicroBatches {
        /// Of a step.
        micro_batches: u32,
        /// Stages there are.
        stages: u32,
    },
    /// A strategy for another number of devices.
    #[error("data_parallel {dp} x model_parallel {mp} x pipeline_stage {pp} = {ranks} ranks for {devices} devices")]
    Devices {
        /// Copies.
        dp: u32,
        /// Ranks that share a layer.
        mp: u32,
        /// Stages.
        pp: u32,
        /// Their product.
        ranks: u64,
        /// Devices there are.
        devices: u64,
    },
    /// More ranks than anybody has.
    #[error("a strategy of {ranks} ranks")]
    TooManyRanks {
        /// How many.
        ranks: u128,
    },
    /// A part of the short form that is no setting.
    #[error("`{part}` is no setting of a strategy")]
    NoValue {
        /// As written.
        part: String,
    },
    /// A name that no setting has.
    #[error("there is no setting `{name}` of a strategy")]
    Unknown {
        /// As written.
        name: String,
    },
    /// A setting that is said twice.
    #[error("{name} is said twice")]
    Twice {
        /// Which.
        name: &'static str,
    },
    /// A value of another kind.
    #[error("{name} is `{value}`, expected {expected}")]
    Value {
        /// Of the setting.
        name: &'static str,
        /// As written.
        value: String,
        /// What belongs there.
        expected: String,
    },
}

impl StrategyError {
    /// What could be done instead, as a sentence without its end.
    pub fn way_out(&self) -> String {
        match self {
            StrategyError::Heads { heads, .. } => format!("model_parallel can be {}", divisors(*heads)),
            StrategyError::TooManyStages { layers, .. } => format!("use at most {layers} stages"),
            StrategyError::StagesGiven { given, stages } => {
                format!("give {stages} numbers, or set pipeline_stage to {given}")
            }
            StrategyError::LayersGiven { layers, .. } => format!("give numbers whose sum is {layers}"),
            StrategyError::EmptyStage { .. } => "give each stage one layer at least, or use fewer stages".to_owned(),
            StrategyError::MicroBatches { stages, .. } => {
                format!("use at least {stages} micro-batches, or fewer stages")
            }
            StrategyError::Devices { mp, pp, devices, .. } => devices_way_out(*mp, *pp, *devices),
            StrategyError::TooManyRanks { .. } => format!("use at most {RANKS_MAX}"),
            StrategyError::NoValue { .. } => "settings are written as dp=2,mp=4,pp=2".to_owned(),
            StrategyError::Unknown { .. } => {
                format!("there are {}", NAMES.iter().map(|(ours, _)| *ours).collect::<Vec<_>>().join(", "))
            }
            StrategyError::Twice { .. } => "leave one of both out".to_owned(),
            StrategyError::Value { name, expected, .. } => format!("give {name} as {expected}"),
        }
    }

    /// The YAML's key that is at fault.
    pub fn key(&self) -> &'static str {
        match self {
            StrategyError::Heads { .. } => "parallel_config.model_parallel",
            StrategyError::TooManyStages { .. } => "parallel_config.pipeline_stage",
            StrategyError::MicroBatches { .. } => "parallel_config.micro_batch_num",
            StrategyError::StagesGiven { .. }
            | StrategyError::LayersGiven { .. }
            | StrategyError::EmptyStage { .. } => "parallel_config.stages",
            _ => "parallel_config.data_parallel",
        }
    }
}

fn devices_way_out(mp: u32, pp: u32, devices: u64) -> String {
    let others = u64::from(mp) * u64::from(pp);
    match devices / others {
        dp if dp > 0 && devices % others == 0 => format!("set data_parallel to {dp}"),
        _ => format!("{others} x data_parallel must be {devices}: change model_parallel or pipeline_stage"),
    }
}

/// What divides a number evenly: `1, 2, 4, 8 or 16`.
fn divisors(number: u64) -> String {
    let all: Vec<String> = (1..=number).filter(|divisor| number % divisor == 0).map(|d| d.to_string()).collect();
    match all.split_last() {
        Some((last, others)) if !others.is_empty() => format!("{} or {last}", others.join(", ")),
        _ => all.concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Strategy {
        text.parse().unwrap()
    }

    fn shape(layers: u64, heads: u64) -> Shape {
        Shape { hidden: heads * 8, layers, heads, vocab: 100, expand_ratio: 4 }
    }

    fn refused(result: Result<impl fmt::Debug, StrategyError>, problem: &str, way_out: &str) {
        let error = result.expect_err("should be refused");
        assert_eq!(error.to_string(), problem);
        assert!(error.way_out().contains(way_out), "{:?} lacks {way_out:?}", error.way_out());
    }

    #[test]
    fn the_short_form_reads_and_prints() {
        let strategy = read("dp=2, mp=4,pp=2,vocab_emb_dp=true");
        assert_eq!(strategy, Strategy { dp: 2, mp: 4, pp: 2, vocab_emb_dp: true, ..Strategy::default() });
        assert_eq!(strategy.ranks(), 16);
        let all = "dp=2,mp=4,pp=2,micro_batches=8,interleave=2,vocab_emb_dp=true,optimizer_shard=true,sequence_parallel=true,stages=15:15";
        for text in ["dp=1,mp=1,pp=1", "dp=3,mp=1,pp=1,stages=mindformers", all] {
            assert_eq!(read(text).to_string(), text);
        }
        assert_eq!(read("mp=2"), Strategy { mp: 2, ..Strategy::default() });
        let theirs = "data_parallel=2,model_parallel=4,pipeline_stage=2,micro_batch_num=8,micro_batch_interleave_num=2,\
                      vocab_emb_dp=True,optimizer_shard=True,use_seq_parallel=True,stages=15:15";
        assert_eq!(read(theirs), read(all));
    }

    #[test]
    fn what_the_short_form_refuses() {
        let refused = |text: &str, problem: &str, way_out: &str| refused(text.parse::<Strategy>(), problem, way_out);
        refused("", "`` is no setting of a strategy", "dp=2,mp=4");
        refused("dp", "`dp` is no setting of a strategy", "dp=2,mp=4");
        refused("tp=2", "there is no setting `tp` of a strategy", "dp, mp, pp, micro_batches");
        refused("mp=2,model_parallel=2", "mp is said twice", "leave one");
        for value in ["0", "-1", "x", "65537", "99999999999", ""] {
            refused(
                &format!("mp={value}"),
                &format!("mp is `{value}`, expected a whole number from 1 to 65536"),
                "give mp",
            );
        }
        refused("vocab_emb_dp=1", "vocab_emb_dp is `1`, expected true or false", "true or false");
        refused("stages=15,15", "`15` is no setting of a strategy", "dp=2");
        refused(
            "stages=even",
            "stages is `even`, expected balanced, mindformers, or layers of each stage such as 15:15",
            "",
        );
        refused("dp=65536,mp=65536,pp=65536", "a strategy of 281474976710656 ranks", "at most 65536");
    }

    #[test]
    fn ranks_are_numbered_as_mindspore_numbers_them() {
        let strategy = read("dp=2,mp=4,pp=3");
        assert_eq!(strategy.place(0), Place { stage: 0, dp: 0, mp: 0 });
        assert_eq!(strategy.place(5), Place { stage: 0, dp: 1, mp: 1 });
        assert_eq!(strategy.place(8), Place { stage: 1, dp: 0, mp: 0 });
        assert!((0..24).all(|rank| strategy.rank(strategy.place(rank)) == rank));
    }

    #[test]
    fn layers_are_dealt_out_as_mindformers_does() {
        assert_eq!(mindformers_layers(30, 2), [15, 15]);
        assert_eq!(mindformers_layers(80, 12), [&[6; 11][..], &[14]].concat());
        assert_eq!(mindformers_layers(70, 16), [&[4; 15][..], &[10]].concat());
        for layers in 1..40 {
            for stages in 1..=layers {
                let split = mindformers_layers(layers, stages);
                assert!(split.len() == stages as usize && split.iter().all(|stage| *stage > 0), "{layers} {stages}");
                assert_eq!(split.iter().sum::<u32>(), layers);
            }
        }
        assert_eq!(read("pp=2").layers(30), None);
        assert_eq!(read("pp=1").layers(30), Some(vec![30]));
        assert_eq!(read("pp=2,stages=mindformers").layers(3), Some(vec![2, 1]));
        assert_eq!(read("pp=2,stages=10:20").layers(30), Some(vec![10, 20]));
    }

    #[test]
    fn strategies_must_fit_the_model() {
        let check = |text: &str| read(text).check(&shape(24, 16));
        for text in ["mp=16,pp=24,dp=3", "pp=2,stages=20:4", "pp=3,stages=mindformers"] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
        refused(check("mp=3"), "16 heads cannot be split evenly among 3 ranks of model_parallel", "1, 2, 4, 8 or 16");
        refused(check("pp=32"), "32 pipeline stages for 24 layers", "at most 24");
        refused(check("pp=2,stages=24"), "layers are given for 1 stages, and pipeline_stage is 2", "2 numbers");
        refused(
            check("pp=2,stages=12:11"),
            "the layers given for each stage are 23 in all, and the model has 24",
            "24",
        );
        refused(check("pp=2,stages=24:0"), "stage 1 is given 0 layers", "fewer stages");
        refused(read("pp=4,micro_batches=3").check_training(), "3 micro-batches for 4 pipeline stages", "at least 4");
        assert_eq!(read("pp=4,micro_batches=4").check_training(), Ok(()));
        let devices = |text: &str, devices| read(text).check_devices(devices);
        assert_eq!(devices("dp=2,mp=4,pp=1", 8), Ok(()));
        let eight = "data_parallel 1 x model_parallel 4 x pipeline_stage 1 = 4 ranks for 8 devices";
        refused(devices("mp=4", 8), eight, "set data_parallel to 2");
        refused(devices("mp=4", 6), &eight.replace('8', "6"), "4 x data_parallel must be 6");
    }
}
