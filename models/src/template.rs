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
    /// The text that the model sees for one question.
    pub fn around(&self, text: &str) -> String {
        self.opening(None) + &self.question(text, true)
    }

    /// What stands before the first question of a conversation: a system text in place of the template's own words.
    pub fn opening(&self, system: Option<&str>) -> String {
        match (self, system) {
            (Template::None, system) => system.unwrap_or_default().to_owned(),
            (_, Some(system)) => format!("{system}\n\n"),
            (Template::Belle, None) => String::new(),
            (Template::Alpaca { .. }, None) => {
                "Below is an instruction that describes a task, paired with an input that provides further context. Write a \
                 response that appropriately completes the request.\n\n"
                    .to_owned()
            }
            (Template::AlpacaNoInput, None) => {
                "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
                    .to_owned()
            }
        }
    }

    /// A question up to where its answer begins. Later ones stand below the answer before them: of that the originals say
    /// nothing, so a blank line parts them, as it parts all else there.
    pub fn question(&self, text: &str, first: bool) -> String {
        let blank = if first { "" } else { "\n\n" };
        match self {
            Template::None => text.to_owned(),
            Template::Alpaca { input } => {
                format!("{blank}### Instruction:\n{text}\n\n### Input:\n{input}\n\n### Response:\n")
            }
            Template::AlpacaNoInput => format!("{blank}### Instruction:\n{text}\n\n### Response:\n"),
            Template::Belle => format!("{blank}Human: {text} \n\nAssistant:"),
        }
    }

    /// Texts that end an answer: a model that goes on would write the next question itself.
    pub fn stops(&self) -> &'static [&'static str] {
        match self {
            Template::None => &[],
            Template::Alpaca { .. } | Template::AlpacaNoInput => &["\n\n### Instruction:", "\n### Instruction:"],
            Template::Belle => &["\n\nHuman:", "\nHuman:"],
        }
    }

    /// Its name on the command line.
    pub fn name(&self) -> &'static str {
        match self {
            Template::None => "none",
            Template::Alpaca { .. } => "alpaca",
            Template::AlpacaNoInput => "alpaca-no-input",
            Template::Belle => "belle",
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

    #[test]
    fn a_conversation_opens_once() {
        let belle = Template::Belle.question("a", true) + " b" + &Template::Belle.question("c", false);
        assert_eq!(belle, "Human: a \n\nAssistant: b\n\nHuman: c \n\nAssistant:");
        assert_eq!(Template::Belle.opening(Some("Be kind.")), "Be kind.\n\n");
        let system = Template::AlpacaNoInput.opening(Some("Be kind.")) + &Template::AlpacaNoInput.question("a", true);
        assert_eq!(system, "Be kind.\n\n### Instruction:\na\n\n### Response:\n");
        assert_eq!(Template::None.opening(Some("a")) + &Template::None.question("b", false), "ab");
    }

    #[test]
    fn the_next_question_is_a_stop() {
        for template in [Template::Alpaca { input: String::new() }, Template::AlpacaNoInput, Template::Belle] {
            let next = template.question("a", false);
            assert!(template.stops().iter().any(|stop| next.starts_with(stop)), "{next:?}");
        }
    }
}
