//! The terminal's side of `chat`: lines in, answers out, and what begins with a slash.
//!
//! On a terminal lines are edited and remembered (for as long as the program runs); elsewhere they are read as they are.
//! Answers go to stdout, everything else to stderr. `input` reads lines, `command` says what they mean.

mod command;
mod input;

use std::path::Path;

use bloomery::Error;
use bloomery::chat::{Answer, Chat, ChatOptions, Stats};
use bloomery::terminal;
use bloomery_runtime::Finish;

use crate::interrupt::Turns;
use crate::{Failure, args, kept, print};
use command::{HELP, Said};
use input::{Input, Next};

/// Talks until there are no more lines.
pub(crate) fn talk(args: &args::Chat) -> Result<(), Failure> {
    let options = args.options();
    let options = ChatOptions { artifact: kept(&options.artifact, &options.execution)?, ..options };
    let turns = Turns::new();
    let mut chat = Chat::open(&options)?;
    let mut input = Input::new()?;
    if input.is_edited() {
        let room = chat.stats()?.limit;
        print::notice(&format!("a conversation of {room} tokens; /help says what else there is, Ctrl-D ends it\n"));
    }
    loop {
        let line = match input.next()? {
            Next::Line(line) => line,
            Next::End => return Ok(()),
            // As a signal would end it, which the terminal made a key of.
            Next::Interrupted => std::process::exit(128 + signal_hook::consts::SIGINT),
        };
        let done = match Said::of(&line) {
            Said::Exit => return Ok(()),
            said => say(&mut chat, said, &turns),
        };
        match done {
            // Whoever types can say it otherwise; a program that writes the lines wants to know.
            Err(failure @ Failure::Refused(_)) if input.is_edited() => failure.print(),
            other => other?,
        }
    }
}

/// Does what a line says.
fn say(chat: &mut Chat, said: Said<'_>, turns: &Turns) -> Result<(), Failure> {
    match said {
        Said::Nothing | Said::Exit => {}
        Said::Question(text) => ask(chat, text, turns)?,
        Said::Reset => {
            chat.reset();
            terminal::note("the conversation begins anew");
        }
        Said::Save(path) => save(chat, path, turns)?,
        Said::Stats => print::notice(&stats(&chat.stats()?)),
        Said::Help => print::notice(HELP),
        Said::Unknown(command) => {
            return Err(Error::Refused(format!("there is no command /{command}: /help lists those there are")).into());
        }
        Said::Misused(usage) => return Err(Error::Refused(format!("that command is written {usage}")).into()),
    }
    Ok(())
}

fn ask(chat: &mut Chat, text: &str, turns: &Turns) -> Result<(), Failure> {
    let mut shown = Ok(());
    let mut show = |text: &str| {
        if shown.is_ok() {
            shown = print::out(text);
        }
    };
    let answer = turns.take(|stop| chat.ask(text, stop, &mut show))?;
    shown.and_then(|()| print::out("\n"))?;
    notes(&answer, &chat.stats()?, chat.max_new_tokens()).iter().for_each(|note| terminal::note(note));
    Ok(())
}

/// What to know of an answer.
fn notes(answer: &Answer, stats: &Stats, new_tokens: usize) -> Vec<String> {
    let mut notes = Vec::new();
    if answer.forgotten > 0 {
        notes.push(format!(
            "the conversation's {} tokens are full: the model no longer sees the first {} of {} turns",
            stats.limit, stats.forgotten, stats.turns
        ));
    }
    notes.extend(match answer.finish {
        Finish::Length if answer.new_tokens == new_tokens => {
            Some(format!("cut off after {new_tokens} tokens; --max-new-tokens allows more"))
        }
        Finish::Length => Some(format!(
            "cut off after {} tokens, as {} of the conversation's {} are taken",
            answer.new_tokens, stats.tokens, stats.limit
        )),
        _ if answer.interrupted && answer.new_tokens == 0 => {
            Some("interrupted before the answer began; the question is taken back".to_owned())
        }
        _ if answer.interrupted => Some("interrupted; what there is of the answer counts".to_owned()),
        _ => None,
    });
    notes
}

fn save(chat: &Chat, path: &Path, turns: &Turns) -> Result<(), Failure> {
    let transcript = chat.transcript()?;
    let text = serde_json::to_string_pretty(&transcript).expect("a transcript is plain data") + "\n";
    turns.take(|_| bloomery::write_text(path, &text, &print::Silent))?;
    terminal::note(&format!("{}: {} turn(s)", path.display(), transcript.turns.len()));
    Ok(())
}

fn stats(stats: &Stats) -> String {
    let Stats { turns, forgotten, tokens, limit, computed_tokens, new_tokens, threads, class, .. } = stats;
    format!(
        "turns       {turns}, of which the model sees {}\n\
         tokens      {tokens} of {limit}\n\
         computed    {computed_tokens}\n\
         answers     {new_tokens}, {:.1} tokens/s on {threads} thread(s), {class}\n",
        turns - forgotten,
        stats.decode_tokens_per_s,
    )
}
