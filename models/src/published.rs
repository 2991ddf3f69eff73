//! What published models are called: by the Hugging Face hub, and by MindFormers before it dropped BLOOM.

/// MindFormers' names and the repositories their weights came from: the two that could be downloaded were instruction-tuned
/// models under the names of plain ones. Nobody published weights of 65B.
const MINDFORMERS: &[(&str, Option<&str>)] = &[
    ("bloom_560m", Some("bigscience/bloomz-560m")),
    ("bloom_7.1b", Some("bigscience/bloomz-7b1-mt")),
    ("bloom_65b", None),
    ("bloom_176b", Some("bigscience/bloom")),
];

/// Whose the models are that are called by one word.
const AUTHORS: &str = "bigscience";

/// What a model's name means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The repository on the hub with its weights, such as `bigscience/bloomz-560m`, if there is one.
    pub repository: Option<String>,
}

/// The model of that name, if it can be one: `bloom_7.1b`, `bloomz-560m`, or anyone's `BelleGroup/BELLE-7B-2M`.
pub fn by_name(name: &str) -> Option<Published> {
    if let Some((_, repository)) = MINDFORMERS.iter().find(|(known, _)| *known == name) {
        return Some(Published { repository: repository.map(str::to_owned) });
    }
    let repository = match name.split_once('/') {
        Some((author, model)) if is_word(author) && is_word(model) => name.to_owned(),
        None if is_word(name) && is_bloom(name) => format!("{AUTHORS}/{name}"),
        _ => return None,
    };
    Some(Published { repository: Some(repository) })
}

/// Whether the hub would take it as an author's or a model's name.
fn is_word(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !name.is_empty() && !name.starts_with(['-', '.']) && !name.contains("..") && name.chars().all(plain)
}

/// `bloom`, `bloomz`, and either with a size and more after a dash.
fn is_bloom(name: &str) -> bool {
    let rest = name.strip_prefix("bloom").map(|rest| rest.strip_prefix('z').unwrap_or(rest));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_mean_repositories() {
        for (name, repository) in [
            ("bloom_560m", "bigscience/bloomz-560m"),
            ("bloom_7.1b", "bigscience/bloomz-7b1-mt"),
            ("bigscience/bloomz-560m", "bigscience/bloomz-560m"),
            ("BelleGroup/BELLE-7B-2M", "BelleGroup/BELLE-7B-2M"),
            ("bloomz-7b1-mt", "bigscience/bloomz-7b1-mt"),
            ("bloom", "bigscience/bloom"),
        ] {
            assert_eq!(by_name(name).unwrap().repository.as_deref(), Some(repository), "{name}");
        }
        assert_eq!(by_name("bloom_65b"), Some(Published { repository: None }));
    }

    #[test]
    fn paths_are_no_names() {
        for path in
            ["", "folder", "no/such/folder", "/folder", "../bloom", "./bloom", "a/..", "a/", "bloomery", "bloom.x"]
        {
            assert_eq!(by_name(path), None, "{path}");
        }
    }
}
