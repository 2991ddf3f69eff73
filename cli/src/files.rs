//! The commands about other systems' files: `ranktable`.

use std::fmt::Write;

use bloomery::rank_table::{self, Checked, Written};
use bloomery::{Error, terminal};

use crate::args::RankTableCommand;
use crate::{Failure, interrupt, print};

/// `ranktable`
pub(crate) fn rank_table(what: &RankTableCommand) -> Result<(), Failure> {
    match what {
        RankTableCommand::Make(args) => {
            interrupt::ask_first();
            written(&rank_table::make(&args.options())?, args.json())
        }
        RankTableCommand::Merge(args) => {
            interrupt::ask_first();
            written(&rank_table::merge(&args.inputs, args.output(), args.force())?, args.json())
        }
        RankTableCommand::Check(args) => {
            let checked = rank_table::check(&args.file)?;
            if args.json {
                print::json(&checked)?
            } else {
                print::out(&print::harmless(&text(&checked)))?
            }
            match checked.problems.len() {
                0 => Ok(()),
                one => {
                    Err(Error::Refused(format!("{}: {}", args.file.display(), print::counted(one, "problem"))).into())
                }
            }
        }
    }
}

fn written(table: &Written, json: bool) -> Result<(), Failure> {
    if json {
        return Ok(print::json(table)?);
    }
    table.notes.iter().for_each(|note| terminal::note(note));
    let (path, servers) = (table.output.display(), print::counted(table.servers, "server"));
    Ok(print::out(&format!("{path}: {servers}, {}\n", print::counted(table.ranks, "rank")))?)
}

fn text(checked: &Checked) -> String {
    let mut text = String::new();
    for problem in &checked.problems {
        let _ = writeln!(text, "{}: {}\n  fix: {}", problem.place, problem.problem, problem.fix);
    }
    checked.notes.iter().for_each(|note| text.push_str(&format!("note: {note}\n")));
    if checked.sound {
        let servers = print::counted(checked.servers, "server");
        let _ = writeln!(text, "sound: {servers}, {}", print::counted(checked.ranks, "rank"));
    }
    text
}
