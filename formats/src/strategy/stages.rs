//! A strategy as a whole: the files of all stages together, by stage.
//!
//! It comes as one file of a strategy without stages, as one merged file (`STAGE-` stands before its parameters' names), or
//! as a folder with the files of ranks. In a folder, ranks of a stage say the same; files that differ, stages that are
//! missing and files that were merged before are told, where MindSpore takes whatever it finds first.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Layout, Parameter, RANKS_MAX, StrategyFile, StrategyProblem as Problem};
use crate::FormatError;

/// A strategy: its stages, in order. There is at least one, and all have the same number of ranks.
#[derive(Clone, Debug)]
pub struct Stages {
    stages: Vec<Stage>,
}

/// What the ranks of a stage hold.
#[derive(Clone, Debug)]
pub struct Stage {
    /// What its file says, without stages in names.
    pub file: StrategyFile,
    /// The place in the file of each parameter.
    index: BTreeMap<String, usize>,
}

impl Stage {
    fn new(file: StrategyFile) -> Stage {
        let names = file.parameters.iter().map(|parameter| parameter.name.clone());
        let index = names.zip(0..).collect();
        Stage { file, index }
    }

    /// The layout of a parameter, if its ranks hold it.
    pub fn layout(&self, name: &str) -> Option<&Layout> {
        self.index.get(name).map(|at| &self.file.parameters[*at].layout)
    }
}

/// A strategy that was read, and what to know of the reading.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The strategy.
    pub stages: Stages,
    /// Whether it was merged already.
    pub merged: bool,
    /// What was left out.
    pub notes: Vec<String>,
}

impl Stages {
    /// Reads a file or a folder of them.
    ///
    /// # Errors
    /// A file that cannot be read or is no sound strategy; stages that are missing, doubled or of other ranks.
    pub fn open(path: &Path) -> Result<Opened, FormatError> {
        if path.is_dir() {
            return Stages::in_folder(path, None);
        }
        let refused = |problem| FormatError::Strategy { path: path.to_path_buf(), problem };
        let file = StrategyFile::open(path)?;
        let (stages, merged) = Stages::of_file(file).map_err(refused)?;
        Ok(Opened { stages, merged, notes: Vec::new() })
    }

    /// What a file or a folder says by stage; a file may be of a single stage, whichever.
    ///
    /// # Errors
    /// As [`Stages::open`], but for stages that are missing in a file.
    pub fn read(path: &Path) -> Result<(BTreeMap<u32, StrategyFile>, Vec<String>), FormatError> {
        if path.is_dir() {
            let Opened { stages, notes, .. } = Stages::open(path)?;
            let files = stages.stages.into_iter().map(|stage| stage.file);
            return Ok(((0..).zip(files).collect(), notes));
        }
        let file = StrategyFile::open(path)?;
        let by_stage = || match is_merged(&file)? {
            None => Err(Problem::NoParameters),
            Some(true) => split(file),
            Some(false) => Ok(BTreeMap::from([(stage_of(&file)?.unwrap_or(0), file)])),
        };
        let counted = |stages: BTreeMap<u32, StrategyFile>| count(&stages).map(|()| stages);
        let stages = by_stage()
            .and_then(counted)
            .map_err(|problem| FormatError::Strategy { path: path.to_path_buf(), problem })?;
        Ok((stages, Vec::new()))
    }

    /// The stages of a file, and whether several were merged in it.
    ///
    /// # Errors
    /// Names that are partly those of a merged file, stages that are missing, a single later stage.
    pub fn of_file(file: StrategyFile) -> Result<(Stages, bool), Problem> {
        let Some(merged) = is_merged(&file)? else { return Err(Problem::NoParameters) };
        if merged {
            return Ok((Stages::checked(split(file)?)?, true));
        }
        match stage_of(&file)? {
            None | Some(0) => Ok((Stages::checked(BTreeMap::from([(0, file)]))?, false)),
            Some(stage) => Err(Problem::OneStage { stage }),
        }
    }

    /// Reads the files of ranks in a folder; `except` is left out, and so are files that were merged before, unless there
    /// is nothing else.
    ///
    /// # Errors
    /// As [`Stages::open`]; files of both forms.
    pub fn in_folder(folder: &Path, except: Option<&Path>) -> Result<Opened, FormatError> {
        let refused = |problem| FormatError::Strategy { path: folder.to_path_buf(), problem };
        let mut found = Found::default();
        for path in files_in(folder, except)? {
            found.add(StrategyFile::open(&path)?, path)?;
        }
        let Found { mut merged, stages, mut notes } = found;
        if stages.is_empty() {
            let only = merged.pop().filter(|_| merged.is_empty());
            let (path, file) = only.ok_or_else(|| refused(Problem::NoFiles))?;
            let (stages, merged) = Stages::of_file(file).map_err(|problem| FormatError::Strategy { path, problem })?;
            return Ok(Opened { stages, merged, notes });
        }
        notes.extend(merged.iter().map(|(path, _)| {
            format!("{} is left out: it is merged already, and the files of ranks are here too", path.display())
        }));
        check_ranks(&stages).map_err(refused)?;
        let files = stages.into_iter().map(|(stage, (_, file))| (stage, file)).collect();
        Ok(Opened { stages: Stages::checked(files).map_err(refused)?, merged: false, notes })
    }

    /// The strategy that files of stages say together.
    fn checked(files: BTreeMap<u32, StrategyFile>) -> Result<Stages, Problem> {
        let last = *files.keys().last().ok_or(Problem::NoParameters)?;
        let missing: Vec<u32> = (0..last).filter(|stage| !files.contains_key(stage)).take(8).collect();
        if !missing.is_empty() {
            return Err(Problem::StagesMissing { missing, last });
        }
        count(&files)?;
        let stages: Vec<Stage> = files.into_values().map(Stage::new).collect();
        let found = Stages { stages };
        found.check()?;
        Ok(found)
    }

    /// Every stage has parameters, each once, on as many ranks as all others.
    fn check(&self) -> Result<(), Problem> {
        let mut first: Option<(u32, &Parameter)> = None;
        for (stage, said) in (0..).zip(&self.stages) {
            if said.file.parameters.is_empty() {
                return Err(Problem::NoParameters);
            }
            if said.index.len() != said.file.parameters.len() {
                let doubled = (0..).zip(&said.file.parameters).find(|(at, one)| said.index[&one.name] != *at);
                let parameter = doubled.map(|(_, one)| one.name.clone()).unwrap_or_default();
                return Err(Problem::Doubled { stage, parameter });
            }
            for parameter in &said.file.parameters {
                let (expected, other) = *first.get_or_insert((parameter.layout.devices(), parameter));
                let found = parameter.layout.devices();
                if found != expected {
                    let (parameter, other) = (parameter.name.clone(), other.name.clone());
                    return Err(Problem::Devices { stage, parameter, found, other, expected });
                }
            }
        }
        Ok(())
    }

    /// All stages, in order.
    pub fn stages(&self) -> &[Stage] {
        &self.stages
    }

    /// Ranks of a stage.
    pub fn devices(&self) -> u32 {
        self.stages[0].file.parameters[0].layout.devices()
    }

    /// Ranks of all stages.
    pub fn ranks(&self) -> u32 {
        self.devices() * self.stages.len() as u32
    }

    /// The stage of a rank, and the rank's number in it.
    pub fn place(&self, rank: u32) -> (usize, u32) {
        ((rank / self.devices()) as usize, rank % self.devices())
    }

    /// The first stage that has a parameter, and its layout there.
    pub fn first_with(&self, name: &str) -> Option<(usize, &Layout)> {
        self.stages.iter().enumerate().find_map(|(stage, said)| Some((stage, said.layout(name)?)))
    }

    /// One file of all stages, as `merge_pipeline_strategys` writes it, stages in order.
    pub fn merged(&self) -> StrategyFile {
        let mut file = StrategyFile { current_stage: 1, ..StrategyFile::default() };
        for (stage, said) in self.stages.iter().enumerate() {
            let named = |name: &str| format!("{stage}-{name}");
            file.operators.extend(said.file.operators.iter().cloned());
            let parameters = said.file.parameters.iter();
            file.parameters
                .extend(parameters.map(|one| Parameter { name: named(&one.name), layout: one.layout.clone() }));
            file.shapes.extend(said.file.shapes.iter().map(|(name, shape)| (named(name), shape.clone())));
        }
        file
    }
}

/// Ranks are as few as can be believed, so that their numbers can be counted with.
fn count(stages: &BTreeMap<u32, StrategyFile>) -> Result<(), Problem> {
    for (stage, file) in stages {
        for parameter in &file.parameters {
            let devices = parameter.layout.devices();
            let ranks = (u64::from(*stage) + 1) * u64::from(devices);
            if ranks > u64::from(RANKS_MAX) {
                let parameter = parameter.name.clone();
                return Err(Problem::TooManyRanks { stage: *stage, parameter, devices, ranks });
            }
        }
    }
    Ok(())
}

/// What was found in a folder.
#[derive(Default)]
struct Found {
    merged: Vec<(PathBuf, StrategyFile)>,
    stages: BTreeMap<u32, (Vec<PathBuf>, StrategyFile)>,
    notes: Vec<String>,
}

impl Found {
    fn add(&mut self, file: StrategyFile, path: PathBuf) -> Result<(), FormatError> {
        let refused = |problem| FormatError::Strategy { path: path.clone(), problem };
        let merged = is_merged(&file).map_err(refused)?.ok_or_else(|| refused(Problem::NoParameters))?;
        if merged {
            self.merged.push((path, file));
            return Ok(());
        }
        let stage = stage_of(&file).map_err(refused)?.ok_or_else(|| refused(Problem::NoStage))?;
        match self.stages.get_mut(&stage) {
            None => {
                self.stages.insert(stage, (vec![path], file));
            }
            Some((paths, known)) => {
                if let Some(what) = difference(known, &file) {
                    return Err(refused(Problem::StageTwice { stage, other: paths[0].clone(), what }));
                }
                paths.push(path);
            }
        }
        Ok(())
    }
}

/// The files that [`Stages::open`] reads: itself, or those of a folder.
///
/// # Errors
/// The folder cannot be read, or holds files of both forms.
pub fn files(path: &Path) -> Result<Vec<PathBuf>, FormatError> {
    if path.is_dir() { files_in(path, None) } else { Ok(vec![path.to_path_buf()]) }
}

/// Files in the folder that may be strategies, in the order of their names.
fn files_in(folder: &Path, except: Option<&Path>) -> Result<Vec<PathBuf>, FormatError> {
    let failed = |source| FormatError::Io { action: "read", path: folder.to_path_buf(), source };
    let except = except.and_then(|path| path.canonicalize().ok());
    let mut found: [Vec<PathBuf>; 2] = [Vec::new(), Vec::new()];
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let left_out = except.is_some() && path.canonicalize().ok() == except;
        let form = ["ckpt", "json"].iter().position(|end| path.extension().is_some_and(|extension| extension == *end));
        if let Some(form) = form.filter(|_| path.is_file() && !left_out) {
            found[form].push(path);
        }
    }
    match found {
        [protobuf, json] if !protobuf.is_empty() && !json.is_empty() => Err(FormatError::Strategy {
            path: folder.to_path_buf(),
            problem: Problem::BothForms { protobuf: protobuf.len(), json: json.len() },
        }),
        [protobuf, json] => {
            let mut files = [protobuf, json].concat();
            files.sort();
            Ok(files)
        }
    }
}

/// The stage and the name that a merged file has as one.
fn parts(name: &str) -> Option<(u32, &str)> {
    let (stage, name) = name.split_once('-')?;
    Some((stage.parse().ok()?, name))
}

/// Whether names have their stages before them; nothing where there are no names.
fn is_merged(file: &StrategyFile) -> Result<Option<bool>, Problem> {
    let with: Vec<bool> = file.parameters.iter().map(|parameter| parameter.name.contains('-')).collect();
    let Some(first) = with.first() else { return Ok(None) };
    if let Some(other) = with.iter().position(|one| one != first) {
        let [one, other] = [0, other].map(|at| file.parameters[at].name.clone());
        return Err(Problem::PartlyMerged { one, other });
    }
    Ok(Some(*first))
}

/// The stage that a file of one is of, which only its operators say.
fn stage_of(file: &StrategyFile) -> Result<Option<u32>, Problem> {
    let Some(first) = file.operators.first() else { return Ok(None) };
    match file.operators.iter().find(|operator| operator.stage != first.stage) {
        None => Ok(Some(first.stage)),
        Some(other) => {
            Err(Problem::TwoStages { one: (first.name.clone(), first.stage), other: (other.name.clone(), other.stage) })
        }
    }
}

/// A merged file's stages.
fn split(file: StrategyFile) -> Result<BTreeMap<u32, StrategyFile>, Problem> {
    let mut stages: BTreeMap<u32, StrategyFile> = BTreeMap::new();
    let current_stage = file.current_stage;
    for parameter in file.parameters {
        let parts = parts(&parameter.name).filter(|(_, name)| !name.contains('-') && !name.is_empty());
        let (stage, name) = parts.ok_or_else(|| Problem::MergedTwice { parameter: parameter.name.clone() })?;
        let name = name.to_owned();
        let of = stages.entry(stage).or_default();
        of.current_stage = current_stage;
        of.shapes.extend(file.shapes.get(&parameter.name).map(|shape| (name.clone(), shape.clone())));
        of.parameters.push(Parameter { name, layout: parameter.layout });
    }
    for operator in file.operators {
        let Some(of) = stages.get_mut(&operator.stage) else {
            return Err(Problem::NoSuchStage { operator: operator.name, stage: operator.stage });
        };
        of.operators.push(operator);
    }
    Ok(stages)
}

/// The first thing that two files of a stage say differently; their orders mean nothing.
fn difference(one: &StrategyFile, other: &StrategyFile) -> Option<String> {
    let layouts = |file: &StrategyFile| -> BTreeMap<String, Layout> {
        file.parameters.iter().map(|parameter| (parameter.name.clone(), parameter.layout.clone())).collect()
    };
    let (one, other) = (layouts(one), layouts(other));
    let lacks = |has: &BTreeMap<String, Layout>, lacks: &BTreeMap<String, Layout>| {
        has.keys().find(|name| !lacks.contains_key(*name)).cloned()
    };
    if let Some(name) = lacks(&one, &other).or_else(|| lacks(&other, &one)) {
        return Some(format!("one has parameter {name} and the other has not"));
    }
    let (name, theirs) = other.iter().find(|(name, layout)| one[*name] != **layout)?;
    Some(format!("parameter {name} is {} and {}", one[name].said(), theirs.said()))
}

/// Of files that are named after ranks, each is of the stage that its rank is in.
fn check_ranks(stages: &BTreeMap<u32, (Vec<PathBuf>, StrategyFile)>) -> Result<(), Problem> {
    for (stage, (paths, file)) in stages {
        let devices = file.parameters[0].layout.devices();
        for path in paths {
            let rank = path.file_stem().and_then(|stem| stem.to_str()?.rsplit_once("_rank_")?.1.parse::<u32>().ok());
            if let Some(rank) = rank.filter(|rank| rank / devices != *stage) {
                return Err(Problem::OtherStage { path: path.clone(), rank, stage: *stage, devices });
            }
        }
    }
    Ok(())
}

impl Layout {
    /// In a few words, for messages: `[2, 2] cut as [0, -1], shared by all of the optimizer's ranks in steps of 2`.
    pub fn said(&self) -> String {
        let axes = |axes: &Vec<u32>| match &axes[..] {
            [] => "-1".to_owned(),
            [axis] => axis.to_string(),
            several => format!("{several:?}"),
        };
        let map: Vec<String> = self.tensor_map.iter().map(axes).collect();
        let shard = self.optimizer_shard.map(|shard| {
            let size = shard.size.map_or("all".to_owned(), |size| size.to_string());
            format!(", shared by {size} of the optimizer's ranks in steps of {}", shard.step)
        });
        format!("{:?} cut as [{}]{}", self.dev_matrix, map.join(", "), shard.unwrap_or_default())
    }
}
