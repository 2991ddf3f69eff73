//! Recorded models and what Hugging Face made of them: folders, weights, goldens. See `fixtures/README.md`.

use std::path::{Path, PathBuf};

use bloomery_formats::{Checkpoint, Dtype};
use bloomery_ir::{DType, Tensor};
use bloomery_models::config::BloomConfig;
use bloomery_models::load::{Stored, parameter_tensor};
use bloomery_models::names::{Names, Resolved, resolve};
use serde_json::Value;

/// One model folder with its goldens.
pub(crate) struct Fixture {
    pub(crate) name: String,
    pub(crate) config: BloomConfig,
    pub(crate) resolved: Resolved,
    checkpoint: Checkpoint,
    /// `golden.json`.
    pub(crate) golden: Value,
    /// `golden.safetensors`, where there is one.
    tensors: Option<Checkpoint>,
}

/// The folder of recorded models.
pub(crate) fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/hf").join(name)
}

impl Fixture {
    pub(crate) fn open(name: &str) -> Fixture {
        let folder = folder(name);
        let config = BloomConfig::from_folder(&folder.join("model")).unwrap();
        let checkpoint = Checkpoint::open(&folder.join("model")).unwrap();
        let stored = checkpoint.tensors().map(|tensor| (tensor.name, tensor.dtype.name(), tensor.shape));
        let resolved = resolve(&config, Names::HuggingFace, stored).unwrap();
        let golden = serde_json::from_slice(&std::fs::read(folder.join("golden.json")).unwrap()).unwrap();
        let tensors = Some(folder.join("golden.safetensors")).filter(|path| path.exists());
        let tensors = tensors.map(|path| Checkpoint::open_file(&path).unwrap());
        Fixture { name: name.to_owned(), config, resolved, checkpoint, golden, tensors }
    }

    /// A parameter of the graph, over all layers, as `dtype`.
    pub(crate) fn parameter(&self, name: &str, dtype: DType) -> Tensor {
        parameter_tensor(&self.config, &self.resolved, name, dtype, |stored| self.stored(stored))
    }

    /// A parameter's stored type.
    pub(crate) fn dtype(&self, parameter: &str) -> DType {
        self.resolved.weight_type(parameter).into()
    }

    fn stored(&self, name: &str) -> Option<Stored<'_>> {
        let bloomery_formats::Tensor { bytes, dtype, strides, .. } = self.checkpoint.tensor(name)?;
        Some(Stored { bytes, dtype: DType::by_name(dtype.name())?, strides })
    }

    /// A tensor of `golden.safetensors`, if it is recorded.
    pub(crate) fn recorded(&self, name: &str) -> Option<Tensor> {
        let tensor = self.tensors.as_ref()?.tensor(name)?;
        assert_eq!(tensor.dtype, Dtype::F32, "{name} of {}", self.name);
        let value = |bytes: &[u8]| f64::from(f32::from_le_bytes(bytes.try_into().unwrap()));
        Some(Tensor {
            dtype: DType::F32,
            shape: tensor.shape.to_vec(),
            data: tensor.bytes.chunks_exact(4).map(value).collect(),
        })
    }

    /// Prompts of a recorded batch without their padding.
    pub(crate) fn unpadded(&self, batch: &str) -> Vec<Vec<u32>> {
        let batch = &self.golden[batch];
        let (ids, mask) = (ids_of_all(&batch["input_ids"]), ids_of_all(&batch["attention_mask"]));
        let real = |(ids, mask): (&Vec<u32>, &Vec<u32>)| {
            ids.iter().zip(mask).filter(|(_, mask)| **mask == 1).map(|(id, _)| *id).collect()
        };
        ids.iter().zip(&mask).map(real).collect()
    }

    /// The recorded prompts.
    pub(crate) fn prompts(&self) -> Vec<Vec<u32>> {
        ids_of_all(&self.golden["prompts"])
    }
}

/// A list of ids.
pub(crate) fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

/// Lists of ids.
pub(crate) fn ids_of_all(value: &Value) -> Vec<Vec<u32>> {
    serde_json::from_value(value.clone()).unwrap()
}

/// Asserts that logits are within `tolerance` of the largest recorded one.
pub(crate) fn assert_close(what: &str, found: &Tensor, recorded: &Tensor, tolerance: f64) {
    let largest = recorded.data.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
    let difference = found.difference(recorded);
    assert!(difference <= tolerance * largest, "{what}: off by {difference:e}, the largest is {largest}");
}

/// The index of the largest element of the last row.
pub(crate) fn argmax(logits: &Tensor) -> u32 {
    let width = *logits.shape.last().unwrap();
    let row = &logits.data[logits.data.len() - width..];
    (0..width).max_by(|&a, &b| row[a].total_cmp(&row[b]).then(b.cmp(&a))).unwrap() as u32
}
