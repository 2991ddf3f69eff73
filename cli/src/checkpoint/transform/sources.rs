//! The files of ranks: `rank_N/*.ckpt` in a folder, one for each rank, opened when it is needed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bloomery_formats::mindspore::{Key, MindsporeCheckpoint, checkpoints_in};

use crate::Error;

/// Files of ranks.
#[derive(Debug)]
pub(super) struct Sources {
    folder: PathBuf,
    folders: BTreeMap<u32, PathBuf>,
    key: Option<Key>,
    opened: BTreeMap<u32, MindsporeCheckpoint>,
}

impl Sources {
    /// Looks for the folders of that many ranks; the checkpoint of one rank may be a file, or in no folder of its own.
    pub(super) fn find(folder: &Path, ranks: u32, key: Option<Key>) -> Result<Sources, Error> {
        let is_file = folder.is_file() && ranks == 1;
        let mut folders = if is_file { BTreeMap::new() } else { ranks_in(folder)? };
        if let Some(rank) = folders.keys().find(|rank| **rank >= ranks) {
            let folder = folder.display();
            let how = if ranks == 1 { "say --src-strategy" } else { "give the strategy that they were saved with" };
            return Err(Error::Refused(format!(
                "{folder} has a folder of rank {rank}, and the source's strategy {}: {how}",
                if ranks == 1 { "has one rank".to_owned() } else { format!("ranks 0 to {}", ranks - 1) }
            )));
        }
        if folders.is_empty() && ranks == 1 {
            folders.insert(0, folder.to_path_buf());
        }
        Ok(Sources { folder: folder.to_path_buf(), folders, key, opened: BTreeMap::new() })
    }

    /// Opens those of some ranks; `whose` says who needs them.
    pub(super) fn open(&mut self, ranks: &[u32], whose: &str) -> Result<(), Error> {
        for rank in ranks {
            if !self.opened.contains_key(rank) {
                let checkpoint = MindsporeCheckpoint::open(&self.file(*rank, whose)?, self.key.as_ref())?;
                self.opened.insert(*rank, checkpoint);
            }
        }
        Ok(())
    }

    /// The file of a rank.
    fn file(&self, rank: u32, whose: &str) -> Result<PathBuf, Error> {
        let missing = |what: &str| {
            Error::Refused(format!(
                "{} {what} of rank {rank}, which {whose} needs: expected {}, with one .ckpt in it",
                self.folder.display(),
                self.folder.join(format!("rank_{rank}")).display(),
            ))
        };
        let folder = self.folders.get(&rank).ok_or_else(|| missing("has no folder"))?;
        if folder.is_file() {
            return Ok(folder.clone());
        }
        let mut files: Vec<PathBuf> = Vec::new();
        for entry in fs::read_dir(folder).map_err(Error::io("read", folder))? {
            let path = entry.map_err(Error::io("read", folder))?.path();
            if path.extension().is_some_and(|extension| extension == "ckpt") && path.is_file() {
                files.push(path);
            }
        }
        if files.len() > 1 {
            // Strategies have the same name, and are told by what is in them.
            files = checkpoints_in(folder)?;
        }
        match &files[..] {
            [] => Err(missing("has no checkpoint")),
            [file] => Ok(file.clone()),
            [one, other, ..] => {
                let [one, other] = [one, other].map(|path| path.file_name().unwrap_or_default().to_string_lossy());
                Err(Error::Refused(format!(
                    "{} holds {} checkpoints of rank {rank}, such as {one} and {other}: leave one in it",
                    folder.display(),
                    files.len()
                )))
            }
        }
    }

    /// Those that are open, by rank.
    pub(super) fn opened(&self) -> impl Iterator<Item = (u32, &MindsporeCheckpoint)> {
        self.opened.iter().map(|(rank, checkpoint)| (*rank, checkpoint))
    }

    /// An opened one.
    pub(super) fn rank(&self, rank: u32) -> &MindsporeCheckpoint {
        &self.opened[&rank]
    }

    /// Whether nobody wrote into the files of these ranks since they were opened.
    pub(super) fn unchanged(&self, ranks: &[u32]) -> Result<(), Error> {
        ranks.iter().try_for_each(|rank| Ok(self.rank(*rank).file().unchanged()?))
    }
}

/// The folders of ranks in a folder, `rank_N`.
pub(crate) fn ranks_in(folder: &Path) -> Result<BTreeMap<u32, PathBuf>, Error> {
    let mut folders = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let path = entry.map_err(Error::io("read", folder))?.path();
        let digits = path.file_name().and_then(|name| name.to_str()?.strip_prefix("rank_"));
        let Some(rank) = digits.and_then(|digits| digits.parse::<u32>().ok()).filter(|_| path.is_dir()) else {
            continue;
        };
        if let Some(other) = folders.insert(rank, path.clone()) {
            let [one, other] = [other.display(), path.display()];
            return Err(Error::Refused(format!("{one} and {other} are both of rank {rank}: leave one")));
        }
    }
    Ok(folders)
}
