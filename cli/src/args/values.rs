//! Values of options: what a word on the command line may be, and what it means.

use std::str::FromStr;

use bloomery::targets::Target;
use bloomery_models::sizes::{self, UnknownSize};
use bloomery_runtime::Sampling;

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

pub(super) fn temperature(text: &str) -> Result<f32, String> {
    number(text, |temperature| Sampling { temperature, ..Sampling::default() })
}

pub(super) fn top_p(text: &str) -> Result<f32, String> {
    number(text, |top_p| Sampling { top_p, ..Sampling::default() })
}

/// A number that sampling takes.
fn number(text: &str, setting: fn(f32) -> Sampling) -> Result<f32, String> {
    let number = text.parse().map_err(|error| format!("{error}"))?;
    setting(number).check().map_err(|error| error.to_string()).map(|()| number)
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

/// `2` or `none`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Eos(pub(super) Option<u32>);

impl FromStr for Eos {
    type Err = String;

    fn from_str(text: &str) -> Result<Eos, String> {
        match text {
            "none" => Ok(Eos(None)),
            id => id.parse().map(|id| Eos(Some(id))).map_err(|_| format!("`{id}` is neither a token id nor none")),
        }
    }
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
        assert_eq!(["2", "none"].map(|text| text.parse()), [Ok(Eos(Some(2))), Ok(Eos(None))]);
    }
}
