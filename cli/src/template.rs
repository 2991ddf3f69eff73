//! What instruction-tuned models were trained to see around a question.
//!
//! The texts are protocol, to the last space: Alpaca's as MindFormers wrote them into its datasets, with a line's end
//! after `### Response:` that Stanford's have not; there every record had the form with input, which often was empty.

/// What is put around a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Template {
    /// Nothing.
    #[default]
    None,
    /// Alpaca's form for an instruction with an input.
    Alpaca {
        /// The input, which may be empty.
        input: String,
    },
    /// Alpaca's form for an instruction alone.
    AlpacaNoInput,
    /// BELLE's.
    Belle,
}

impl Template {
    /// The text that the model sees.
    pub fn around(&self, text: &str) -> String {
        match self {
            Template::None => text.to_owned(),
            Template::Alpaca { input } => format!(
                "Below is an instruction that describes a task, paired with an input that provides further context. Write a \
                 response that appropriately completes the request.\n\n### Instruction:\n{text}\n\n### Input:\n{input}\n\n\
                 ### Response:\n"
            ),
            Template::AlpacaNoInput => format!(
                "Below is an instruction that describes a task. Write a response that appropriately completes the \
                 request.\n\n### Instruction:\n{text}\n\n### Response:\n"
            ),
            Template::Belle => format!("Human: {text} \n\nAssistant:"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_the_recorded_ones() {
        assert_eq!(Template::None.around("a"), "a");
        assert_eq!(Template::Belle.around("a"), "Human: a \n\nAssistant:");
        let alone = "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n### Instruction:\na\n\n### Response:\n";
        assert_eq!(Template::AlpacaNoInput.around("a"), alone);
        let both = "Below is an instruction that describes a task, paired with an input that provides further context. Write a response that appropriately completes the request.\n\n### Instruction:\na\n\n### Input:\nb\n\n### Response:\n";
        assert_eq!(Template::Alpaca { input: "b".into() }.around("a"), both);
    }
}
