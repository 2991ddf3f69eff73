//! A record as ids: what the model is given, and what it is to answer.

use bloomery_models::template::Template;
use bloomery_models::tokenizer::Tokenizer;

use super::records::Record;
use crate::Error;

/// What is put around a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Alpaca's form with an input where the record has one, else that without.
    Alpaca,
    /// Alpaca's form without an input; one that is there stands below the instruction.
    AlpacaNoInput,
    /// BELLE's form.
    Belle,
    /// As MindFormers chooses: Alpaca's form with an input wherever the record has such a field, empty or not.
    MindFormers,
}

/// Ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sample {
    /// All that comes before the answer.
    pub(super) prompt: Vec<u32>,
    /// The answer, without the end.
    pub(super) answer: Vec<u32>,
}

impl Sample {
    /// How many ids there are.
    pub(super) fn len(&self) -> usize {
        self.prompt.len() + self.answer.len()
    }
}

/// The ids of a record. Both parts are turned to ids on their own, as they are when the model is asked. Where nothing is
/// said of the form, conversations have BELLE's and others Alpaca's.
pub(super) fn sample(record: &Record, form: Option<Form>, tokenizer: &Tokenizer) -> Result<Sample, Error> {
    let (prompt, answer) = texts(record, form);
    Ok(Sample { prompt: tokenizer.encode(&prompt)?, answer: tokenizer.encode(answer)? })
}

fn texts(record: &Record, form: Option<Form>) -> (String, &str) {
    match record {
        Record::Instruction { instruction, input, output } => {
            (asked(instruction, input.as_deref(), form.unwrap_or(Form::Alpaca)), output)
        }
        Record::Conversation(turns) => {
            (told(turns, form.unwrap_or(Form::Belle)), turns.last().map_or("", |turn| &turn.1))
        }
    }
}

fn asked(instruction: &str, input: Option<&str>, form: Form) -> String {
    let below = || match input {
        Some(input) if !input.is_empty() => format!("{instruction}\n{input}"),
        _ => instruction.to_owned(),
    };
    let with = |input: &str| Template::Alpaca { input: input.to_owned() }.around(instruction);
    match (form, input) {
        (Form::MindFormers, Some(input)) => with(input),
        (Form::Alpaca, Some(input)) if !input.is_empty() => with(input),
        (Form::MindFormers | Form::Alpaca, _) => Template::AlpacaNoInput.around(instruction),
        (Form::AlpacaNoInput, _) => Template::AlpacaNoInput.around(&below()),
        (Form::Belle, _) => Template::Belle.around(&below()),
    }
}

/// A conversation up to its last answer.
fn told(turns: &[(String, String)], form: Form) -> String {
    let template = if form == Form::Belle { Template::Belle } else { Template::AlpacaNoInput };
    let mut text = template.opening(None);
    for (i, (question, answer)) in turns.iter().enumerate() {
        text += &template.question(question, i == 0);
        if i + 1 < turns.len() {
            text += answer;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(input: Option<&str>, form: Option<Form>, expected: &str) {
        let (instruction, output) = ("do".to_owned(), "done".to_owned());
        let record = Record::Instruction { instruction, input: input.map(str::to_owned), output };
        let (prompt, answer) = texts(&record, form);
        assert!(prompt.ends_with(expected), "{prompt:?} does not end in {expected:?}");
        assert_eq!(prompt.contains("paired with an input"), expected.contains("### Input"), "{prompt:?}");
        assert_eq!(answer, "done");
    }

    #[test]
    fn a_form_is_chosen_by_the_input() {
        let (without, with) = (
            ".\n\n### Instruction:\ndo\n\n### Response:\n",
            "### Instruction:\ndo\n\n### Input:\nx\n\n### Response:\n",
        );
        let empty = "### Instruction:\ndo\n\n### Input:\n\n\n### Response:\n";
        check(None, None, without);
        check(Some(""), None, without);
        check(Some("x"), Some(Form::Alpaca), with);
        check(None, Some(Form::MindFormers), without);
        check(Some(""), Some(Form::MindFormers), empty);
        check(Some("x"), Some(Form::MindFormers), with);
        check(Some(""), Some(Form::AlpacaNoInput), without);
        check(Some("x"), Some(Form::AlpacaNoInput), "### Instruction:\ndo\nx\n\n### Response:\n");
        check(None, Some(Form::Belle), "Human: do \n\nAssistant:");
        check(Some("x"), Some(Form::Belle), "Human: do\nx \n\nAssistant:");
    }

    #[test]
    fn a_conversation_is_given_up_to_its_last_answer() {
        let turns = [("a", "b"), ("c", "d")].map(|(question, answer)| (question.to_owned(), answer.to_owned()));
        let record = Record::Conversation(turns.into());
        let (prompt, answer) = texts(&record, None);
        assert_eq!((&*prompt, answer), ("Human: a \n\nAssistant:b\n\nHuman: c \n\nAssistant:", "d"));
        assert!(texts(&record, Some(Form::Alpaca)).0.starts_with("Below is an instruction that describes a task. "));
    }
}
