//! A conversation as the model sees it: an opening, then turns of a question and an answer, as ids.
//!
//! Opening, questions and answers are made into ids each on their own, so that a turn's are the same whatever stands
//! before it. When they no longer fit, whole turns are forgotten from the front; the opening stays.

use bloomery_models::tokenizer::Tokenizer;
use serde::Serialize;

use crate::Error;
use crate::stop::StopStrings;
use crate::template::Template;

/// What was said so far.
pub(super) struct Conversation {
    tokenizer: Tokenizer,
    template: Template,
    /// What stands before the first question.
    opening: Vec<u32>,
    turns: Vec<Turn>,
    /// How many of them the model no longer sees.
    forgotten: usize,
}

/// A question and its answer.
#[derive(Clone, Debug, Serialize)]
pub struct Turn {
    /// The question as it was typed.
    pub question: String,
    /// The answer as it was shown.
    pub answer: String,
    /// The answer's ids, as far as they are its text.
    pub answer_ids: Vec<u32>,
    /// `eos`, `length`, `stop`, or `interrupted`.
    pub finish: &'static str,
    /// The end of the answer's text within a token that a stop string has cut.
    #[serde(skip)]
    rest: String,
}

/// What the model is given for a question.
pub(super) struct Asked {
    /// The whole conversation up to where the answer begins.
    pub(super) ids: Vec<u32>,
    /// Turns that had to be forgotten for it, those forgotten before included.
    pub(super) forgotten: usize,
}

impl Conversation {
    pub(super) fn new(tokenizer: Tokenizer, template: Template, system: Option<&str>) -> Result<Self, Error> {
        let opening = tokenizer.encode(&template.opening(system))?;
        Ok(Conversation { tokenizer, template, opening, turns: Vec::new(), forgotten: 0 })
    }

    pub(super) fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    pub(super) fn template(&self) -> &Template {
        &self.template
    }

    /// Tokens of the opening.
    pub(super) fn opening(&self) -> usize {
        self.opening.len()
    }

    pub(super) fn turns(&self) -> &[Turn] {
        &self.turns
    }

    /// Turns that the model no longer sees.
    pub(super) fn forgotten(&self) -> usize {
        self.forgotten
    }

    /// Forgets all turns, and that there were any.
    pub(super) fn reset(&mut self) {
        (self.turns, self.forgotten) = (Vec::new(), 0);
    }

    /// What the model is given for a question: the latest turns that fit `limit` tokens beside it and an answer of
    /// `answer` tokens. Without any turn a shorter answer will do.
    pub(super) fn ask(&self, question: &str, limit: usize, answer: usize) -> Result<Asked, Error> {
        let mut forgotten = self.forgotten;
        loop {
            let ids = self.ids(forgotten, Some(question))?;
            if ids.len() + answer <= limit || (forgotten == self.turns.len() && ids.len() < limit) {
                return Ok(Asked { ids, forgotten });
            }
            if forgotten == self.turns.len() {
                return Err(Error::Refused(format!(
                    "the question has {} tokens with what stands around it, and an answer needs one more, where a \
                     conversation has room for {limit}: shorten it",
                    ids.len()
                )));
            }
            forgotten += 1;
        }
    }

    /// Takes a turn: what the model was asked, and the ids that it answered.
    pub(super) fn add(
        &mut self,
        question: &str,
        forgotten: usize,
        mut ids: Vec<u32>,
        stops: StopStrings<'_>,
        finish: &'static str,
    ) {
        let whole = self.tokenizer.decode(&ids, true);
        let answer = stops.cut(&whole).to_owned();
        let rest = if answer.len() < whole.len() { self.cut(&mut ids, &answer) } else { String::new() };
        self.forgotten = forgotten;
        self.turns.push(Turn { question: question.to_owned(), answer, answer_ids: ids, finish, rest });
    }

    /// Everything the model sees of it.
    pub(super) fn seen(&self) -> Result<Vec<u32>, Error> {
        self.ids(self.forgotten, None)
    }

    fn ids(&self, forgotten: usize, question: Option<&str>) -> Result<Vec<u32>, Error> {
        let mut ids = self.opening.clone();
        let mut rest = None;
        for turn in &self.turns[forgotten..] {
            ids.extend(self.question(rest, &turn.question)?);
            ids.extend(&turn.answer_ids);
            rest = Some(turn.rest.as_str());
        }
        match question {
            Some(question) => ids.extend(self.question(rest, question)?),
            None => ids.extend(self.tokenizer.encode(rest.unwrap_or_default())?),
        }
        Ok(ids)
    }

    /// A question's ids, with what the turn before it left over, if there is one.
    fn question(&self, rest: Option<&str>, question: &str) -> Result<Vec<u32>, Error> {
        let text = rest.unwrap_or_default().to_owned() + &self.template.question(question, rest.is_none());
        Ok(self.tokenizer.encode(&text)?)
    }

    /// Shortens ids to those whose text an answer begins with, and returns what they lack of it.
    fn cut(&self, ids: &mut Vec<u32>, answer: &str) -> String {
        loop {
            let text = self.tokenizer.decode(ids, true);
            if let Some(rest) = answer.strip_prefix(text.as_str()) {
                return rest.to_owned();
            }
            ids.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn conversation(template: Template, system: Option<&str>) -> Conversation {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/hf/tokenizer");
        let tokenizer = Tokenizer::from_folder(&folder).unwrap().unwrap();
        Conversation::new(tokenizer, template, system).unwrap()
    }

    fn add(conversation: &mut Conversation, question: &str, answer: &str, stops: &[&str]) {
        let forgotten = conversation.ask(question, 1000, 10).unwrap().forgotten;
        let ids = conversation.tokenizer.encode(answer).unwrap();
        let stops: Vec<String> = stops.iter().map(ToString::to_string).collect();
        conversation.add(question, forgotten, ids, StopStrings(&stops), "stop");
    }

    /// The text that the model is given for a question.
    fn asked(conversation: &Conversation, question: &str, limit: usize) -> String {
        let asked = conversation.ask(question, limit, 10).unwrap();
        assert!(asked.ids.len() + 10 <= limit);
        conversation.tokenizer.decode(&asked.ids, false)
    }

    #[test]
    fn a_first_question_has_the_ids_it_has_alone() {
        for template in [Template::Alpaca { input: String::new() }, Template::AlpacaNoInput, Template::Belle] {
            let conversation = conversation(template.clone(), None);
            let alone = conversation.tokenizer.encode(&template.around("Who made the heavens?")).unwrap();
            assert_eq!(conversation.ask("Who made the heavens?", 1000, 10).unwrap().ids, alone, "{template:?}");
        }
    }

    #[test]
    fn turns_stand_below_each_other() {
        let mut conversation = conversation(Template::Belle, Some("Be kind."));
        add(&mut conversation, "a", " b", &[]);
        add(&mut conversation, "c", " d", &[]);
        let text = "Be kind.\n\nHuman: a \n\nAssistant: b\n\nHuman: c \n\nAssistant: d\n\nHuman: e \n\nAssistant:";
        assert_eq!(asked(&conversation, "e", 1000), text);
        let seen = conversation.tokenizer.decode(&conversation.seen().unwrap(), false);
        assert_eq!(seen + "\n\nHuman: e \n\nAssistant:", text);
    }

    #[test]
    fn the_latest_turns_that_fit_are_kept_and_the_opening_stays() {
        let mut conversation = conversation(Template::Belle, Some("Be kind."));
        ["one", "two", "three", "four"].iter().for_each(|question| add(&mut conversation, question, " yes", &[]));
        let whole = conversation.ask("five", 1000, 10).unwrap().ids.len();
        let least = conversation.opening() + conversation.question(None, "five").unwrap().len();
        let mut before = 0;
        for limit in (least + 10..=whole + 10).rev() {
            let Asked { ids, forgotten } = conversation.ask("five", limit, 10).unwrap();
            assert!(ids.len() + 10 <= limit && ids.starts_with(&conversation.opening) && forgotten >= before);
            let more = forgotten > 0 && conversation.ids(forgotten - 1, Some("five")).unwrap().len() + 10 <= limit;
            assert!(!more, "one turn more would fit {limit} tokens");
            // The first that is left opens the conversation: nothing parts it from what stands before.
            let text = conversation.tokenizer.decode(&ids, false);
            assert!(text.starts_with("Be kind.\n\nHuman: ") && text.ends_with("Human: five \n\nAssistant:"), "{text}");
            before = forgotten;
        }
        assert_eq!(before, 4);
        // Less room than was wanted for the answer will do where nothing else is left, none will not.
        assert_eq!(conversation.ask("five", least + 1, 10).unwrap().forgotten, 4);
        let error = conversation.ask("five", least, 10).err().unwrap().to_string();
        let parts = [format!("the question has {least} tokens"), format!("room for {least}")];
        parts.iter().for_each(|part| assert!(error.contains(part), "{error}"));
    }

    #[test]
    fn an_answer_ends_before_a_stop_string_wherever_tokens_end() {
        for stop in ["###", "# H", "ord. #", "Lord", "L", " The"] {
            let mut conversation = conversation(Template::None, None);
            let text = " The Lord. ### Human: and";
            add(&mut conversation, "a", text, &[stop]);
            let cut = &text[..text.find(stop).unwrap()];
            let turn = &conversation.turns()[0];
            assert_eq!(turn.answer, cut);
            assert_eq!(conversation.tokenizer.decode(&turn.answer_ids, true) + &turn.rest, cut);
            assert_eq!(asked(&conversation, "b", 1000), format!("a{cut}b"));
        }
    }

    #[test]
    fn a_reset_leaves_the_opening() {
        let mut conversation = conversation(Template::AlpacaNoInput, None);
        add(&mut conversation, "a", "b", &[]);
        conversation.reset();
        assert_eq!(conversation.seen().unwrap(), conversation.opening);
        assert_eq!((conversation.turns().len(), conversation.forgotten()), (0, 0));
    }
}
