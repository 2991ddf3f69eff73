//! Values of options: what a word on the command line may be, and what it means.

use std::num::NonZeroUsize;
use std::str::FromStr;

use bloomery::Key;
use bloomery::targets::Target;
use bloomery_configs::{Strategy, StrategyError};
use bloomery_models::sizes::{self, UnknownSize};
use bloomery_passes::Stages;
use bloomery_runtime::GenerationConfig;

/// The name of a published size, as it was written.
pub(super) fn published(name: &str) -> Result<String, UnknownSize> {
    sizes::by_name(name).map(|_| name.to_owned())
}

/// `x86-64-v3` or `interpreter`. Targets are written cpu:CLASS elsewhere; here the prefix says nothing.
pub(super) fn class(text: &str) -> Result<String, String> {
    let name = text.strip_prefix("cpu:").unwrap_or(text);
    match format!("cpu:{name}").parse::<Target>() {
        Ok(Target::Cpu(_)) => Ok(name.to_owned()),
        _ if name == Target::Interpreter.name() => Ok(name.to_owned()),
        Ok(_) => Err(format!("`{name}` is several classes, name one")),
        Err(error) => Err(error.to_string()),
    }
}

/// A whole number from 0 on.
pub(super) fn whole<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("`{text}` is no whole number from 0 on"))
}

/// A whole number from 1 on.
pub(super) fn count(text: &str) -> Result<NonZeroUsize, String> {
    text.parse().map_err(|_| format!("`{text}` is no whole number from 1 on"))
}

pub(super) fn temperature(text: &str) -> Result<f32, String> {
    number(text, |temperature| GenerationConfig { do_sample: true, temperature, ..GenerationConfig::default() })
}

pub(super) fn top_p(text: &str) -> Result<f32, String> {
    number(text, |top_p| GenerationConfig { top_p, ..GenerationConfig::default() })
}

pub(super) fn min_p(text: &str) -> Result<f32, String> {
    number(text, |min_p| GenerationConfig { min_p, ..GenerationConfig::default() })
}

pub(super) fn repetition_penalty(text: &str) -> Result<f32, String> {
    number(text, |repetition_penalty| GenerationConfig { repetition_penalty, ..GenerationConfig::default() })
}

/// A number that generation takes.
fn number(text: &str, setting: fn(f32) -> GenerationConfig) -> Result<f32, String> {
    let number = text.parse().map_err(|error| format!("{error}"))?;
    setting(number).check().map_err(|error| error.to_string()).map(|()| number)
}

/// A key that opens an encrypted checkpoint: its bytes as they are.
pub(super) fn key(text: &str) -> Result<Key, String> {
    match text.len() {
        16 | 24 | 32 => Ok(Key::new(text)),
        bytes => Err(format!("a key has 16, 24 or 32 bytes, and this one has {bytes}")),
    }
}

/// `5GB`, `500MiB`, `1000000`
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
    let (number, unit) = text.split_at(digits);
    let unit = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        "kib" => 1024.0,
        "mib" => 1024.0 * 1024.0,
        "gib" => 1024.0 * 1024.0 * 1024.0,
        _ => return Err(format!("`{text}` is no size such as 5GB or 500MiB")),
    };
    let number: f64 = number.parse().map_err(|_| format!("`{text}` is no size such as 5GB or 500MiB"))?;
    match number * unit {
        size if (1.0..1e18).contains(&size) => Ok(size as u64),
        _ => Err(format!("`{text}` is no size from one byte on")),
    }
}

/// `dp=2,mp=4,pp=2`
pub(super) fn strategy(text: &str) -> Result<Strategy, String> {
    text.parse().map_err(|error: StrategyError| format!("{error}: {}", error.way_out()))
}

/// `heads=mp`
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("`{text}` is no NAME=NAME"))?;
    Ok((name.to_owned(), value.to_owned()))
}

/// `mp=2`
pub(super) fn ranks(text: &str) -> Result<(String, u64), String> {
    let (axis, size) = pair(text)?;
    match size.parse() {
        Ok(size) if (1..=1024).contains(&size) => Ok((axis, size)),
        _ => Err(format!("`{size}` is no number of ranks along {axis} (1 to 1024)")),
    }
}

/// `5,6,7`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ids(pub(crate) Vec<u32>);

impl FromStr for Ids {
    type Err = String;

    fn from_str(text: &str) -> Result<Ids, String> {
        let id = |part: &str| part.trim().parse().map_err(|_| format!("`{part}` is no token id (0 to {})", u32::MAX));
        text.split(',').map(id).collect::<Result<_, _>>().map(Ids)
    }
}

/// `2`, `2,3` or `none`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Eos(pub(super) Vec<u32>);

impl FromStr for Eos {
    type Err = String;

    fn from_str(text: &str) -> Result<Eos, String> {
        match text {
            "none" => Ok(Eos(Vec::new())),
            ids => ids.parse().map(|Ids(ids)| Eos(ids)).map_err(|error| format!("{error}, nor is it none")),
        }
    }
}

/// `balanced`, `12:12`
pub(super) fn stages(text: &str) -> Result<Stages, String> {
    let layers = || text.split(':').map(|layers| layers.parse().ok()).collect::<Option<_>>().map(Stages::Layers);
    let wrong = || format!("`{text}` is neither balanced nor layers of each stage, such as 12:12");
    if text == "balanced" { Ok(Stages::Balanced) } else { layers().ok_or_else(wrong) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_ids_are_read() {
        assert_eq!("5,6, 7".parse(), Ok(Ids(vec![5, 6, 7])));
        for wrong in ["", "5,", "a", "-1", "4294967296"] {
            assert!(wrong.parse::<Ids>().is_err(), "{wrong}");
        }
        let eos = ["2", "2,3", "none"].map(|text| text.parse());
        assert_eq!(eos, [Ok(Eos(vec![2])), Ok(Eos(vec![2, 3])), Ok(Eos(vec![]))]);
        assert!("2,none".parse::<Eos>().is_err());
    }
}
