//! Conversations: each turn costs its new tokens alone, and its answer is the one that the whole conversation would get.

use std::cell::Cell;

use bloomery::Execution;
use bloomery::chat::{Answer, Chat, ChatOptions};
use bloomery::generation::Generation;
use bloomery::template::Template;
use bloomery_models::tokenizer::Tokenizer;
use bloomery_runtime::{Finish, GenerationConfig, generate};

use crate::compiled::{BEST, Compiled, standard};

/// What people might ask.
const QUESTIONS: [&str; 5] =
    ["Who made the heavens?", "And the earth?", "Say it again.", "<s>The king said to", "In the beginning"];

/// The trained model, which says something, and its tokenizer.
fn model() -> (std::sync::Arc<Compiled>, Tokenizer) {
    let model = standard("trained-web");
    let tokenizer = Tokenizer::from_bytes(model.artifact.tokenizer().unwrap().to_vec()).unwrap();
    (model, tokenizer)
}

fn options(model: &Compiled, template: Template, max_new_tokens: usize) -> ChatOptions {
    ChatOptions {
        artifact: model.path.clone(),
        generation: Generation { new_tokens: Some(max_new_tokens), template, ..Generation::default() },
        system: None,
        execution: Execution { threads: Some(1), ..Execution::default() },
    }
}

/// Asks, and returns what was shown with what came of it.
fn ask(chat: &mut Chat, question: &str) -> (String, Answer) {
    let mut shown = String::new();
    let answer = chat.ask(question, &|| false, &mut |text| shown.push_str(text)).unwrap();
    assert_eq!(shown, chat.transcript().unwrap().turns.last().unwrap().answer);
    (shown, answer)
}

/// Asserts that the newest answer, whose tokens are the last the model sees, is the one of a fresh generation.
fn check_fresh(model: &Compiled, chat: &Chat, eos: &[u32]) {
    let transcript = chat.transcript().unwrap();
    let answer = &transcript.turns.last().unwrap().answer_ids;
    let prompt = transcript.ids[..transcript.ids.len() - answer.len()].to_vec();
    assert!(transcript.ids.ends_with(answer));
    let config =
        GenerationConfig { max_new_tokens: answer.len(), eos_token_id: eos.to_vec(), ..GenerationConfig::default() };
    let mut session = model.session(BEST, config.lengths(std::slice::from_ref(&prompt)));
    let fresh = generate(&mut session, &[prompt], &config, &mut |_: usize, _| {}).unwrap();
    assert_eq!(&fresh[0].ids, answer, "{:?}", transcript.turns.last());
}

#[test]
fn fifty_turns_cost_their_new_tokens() {
    let (model, _) = model();
    let mut chat = Chat::open(&options(&model, Template::Belle, 8)).unwrap();
    for turn in 0..50 {
        let question = QUESTIONS[turn % QUESTIONS.len()];
        let (_, answer) = ask(&mut chat, question);
        assert!(answer.new_tokens > 0 && answer.forgotten == 0, "{answer:?}");
        check_fresh(&model, &chat, &[2]);
        let stats = chat.stats().unwrap();
        assert_eq!(stats.turns, turn + 1);
        assert_eq!(stats.computed_tokens, stats.tokens as u64 - 1, "every token once, the newest not yet");
    }
    assert!(chat.stats().unwrap().tokens > 800);
}

#[test]
fn a_full_conversation_keeps_its_latest_turns() {
    let (model, tokenizer) = model();
    let mut options = options(&model, Template::Belle, 8);
    options.generation.asked.max_length = Some(120);
    options.system = Some("Speak of the king.".to_owned());
    let opening = tokenizer.encode("Speak of the king.\n\n").unwrap();
    let mut chat = Chat::open(&options).unwrap();
    let mut forgotten = 0;
    for turn in 0..20 {
        let (before, had) = (chat.stats().unwrap(), chat.transcript().unwrap().ids);
        let (_, answer) = ask(&mut chat, QUESTIONS[turn % QUESTIONS.len()]);
        let (after, ids) = (chat.stats().unwrap(), chat.transcript().unwrap().ids);
        forgotten += answer.forgotten;
        assert_eq!(after.forgotten, forgotten);
        assert!(ids.len() <= 120 && ids.starts_with(&opening), "{} tokens", ids.len());
        check_fresh(&model, &chat, &[2]);
        // What it still begins with stays in the cache, the opening at least; what is left of the turns runs again.
        let common = had.iter().zip(&ids).take_while(|(had, has)| had == has).count();
        let cached = common.min(before.tokens - 1) as u64;
        assert!(answer.forgotten > 0 || common == before.tokens, "turn {turn}");
        if turn > 0 {
            assert_eq!(after.computed_tokens - before.computed_tokens, ids.len() as u64 - cached - 1, "turn {turn}");
        }
    }
    assert!((5..20).contains(&forgotten), "{forgotten}");
    let text = tokenizer.decode(&chat.transcript().unwrap().ids, false);
    assert!(text.starts_with("Speak of the king.\n\nHuman: "), "{text}");
}

/// Without a template the model continues "<s>In the beginning" with " of the firstborn, the firstborn of the Lord, ..".
#[test]
fn a_stop_string_across_tokens_ends_an_answer_and_the_conversation_goes_on_before_it() {
    let (model, tokenizer) = model();
    for (stop, said) in [("born, the", " of the first"), ("irstborn", " of the f"), (" of", "")] {
        let mut options = options(&model, Template::None, 12);
        options.generation.stop = vec!["nowhere".to_owned(), stop.to_owned()];
        let mut chat = Chat::open(&options).unwrap();
        let (shown, answer) = ask(&mut chat, "<s>In the beginning");
        assert_eq!((shown.as_str(), answer.finish), (said, Finish::Stop));
        ask(&mut chat, " and the king");
        let text = tokenizer.decode(&chat.transcript().unwrap().ids, false);
        assert!(text.starts_with(&format!("<s>In the beginning{said} and the king")), "{text}");
        if chat.transcript().unwrap().turns[1].finish == "length" {
            check_fresh(&model, &chat, &[2]);
        }
    }
}

#[test]
fn a_reset_begins_anew() {
    let (model, _) = model();
    let mut chat = Chat::open(&options(&model, Template::AlpacaNoInput, 10)).unwrap();
    let (first, _) = ask(&mut chat, "Who made the heavens?");
    let alone = chat.transcript().unwrap();
    ask(&mut chat, "And the earth?");
    chat.reset();
    assert!(chat.transcript().unwrap().turns.is_empty());
    assert_eq!(ask(&mut chat, "Who made the heavens?").0, first);
    assert_eq!(chat.transcript().unwrap().ids, alone.ids);
}

#[test]
fn an_interrupted_answer_counts_as_far_as_it_came() {
    let (model, _) = model();
    let mut chat = Chat::open(&options(&model, Template::Belle, 30)).unwrap();
    ask(&mut chat, "Who made the heavens?");
    let before = chat.transcript().unwrap();

    let never = chat.ask("And the earth?", &|| true, &mut |text| assert!(text.is_empty())).unwrap();
    assert_eq!((never.interrupted, never.new_tokens), (true, 0));
    assert_eq!(chat.transcript().unwrap().ids, before.ids);

    let patience = Cell::new(5);
    let enough = || patience.replace(patience.get() - 1) == 0;
    let answer = chat.ask("And the earth?", &enough, &mut |_| {}).unwrap();
    assert_eq!((answer.interrupted, answer.new_tokens), (true, 5));
    assert_eq!(chat.transcript().unwrap().turns[1].finish, "interrupted");
    check_fresh(&model, &chat, &[2]);
    ask(&mut chat, "Say it again.");
    check_fresh(&model, &chat, &[2]);
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let (model, _) = model();
    let mut options = options(&model, Template::Belle, 8);
    options.generation.asked.max_length = Some(60);
    let mut chat = Chat::open(&options).unwrap();
    ask(&mut chat, "Who made the heavens?");
    let before = chat.transcript().unwrap().ids;
    let long = "again and ".repeat(40);
    let error = chat.ask(&long, &|| false, &mut |_| panic!("nothing runs")).unwrap_err().to_string();
    assert!(error.contains("room for 60") && error.contains("shorten it"), "{error}");
    assert_eq!(chat.transcript().unwrap().ids, before);
    ask(&mut chat, "And the earth?");
    check_fresh(&model, &chat, &[2]);

    options.system = Some(long);
    let error = Chat::open(&options).err().unwrap().to_string();
    assert!(error.contains("room for 60") && error.contains("--system"), "{error}");
    options.artifact = standard("tiny").path.clone();
    assert!(Chat::open(&options).err().unwrap().to_string().contains("holds no tokenizer"));
}
