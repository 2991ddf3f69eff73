//! The commands about other systems' files: `data`, `ranktable`.

use std::fmt::Write;

use bloomery::data::make::{self, Made};
use bloomery::data::show::{self, Shown};
use bloomery::rank_table::{self, Checked, Written};
use bloomery::{Error, terminal};

use crate::args::{DataCommand, RankTableCommand};
use crate::{Failure, interrupt, print, shown};

/// `data`
pub(crate) fn data(what: &DataCommand) -> Result<(), Failure> {
    match what {
        DataCommand::Make(args) => {
            interrupt::ask_first();
            let made = make::make(&args.options(), &mut shown())?;
            if args.json { Ok(print::json(&made)?) } else { Ok(print::out(&summary(&made))?) }
        }
        DataCommand::Show(args) => {
            let shown = show::show(&args.file, args.rows, args.tokenizer.as_deref())?;
            if args.json { Ok(print::json(&shown)?) } else { Ok(print::out(&print::harmless(&data_set(&shown)))?) }
        }
    }
}

fn summary(made: &Made) -> String {
    let grouped = |number: usize| print::grouped(number as u64);
    let mut text = String::new();
    let names = [made.files.first(), made.files.get(1..).and_then(<[_]>::last)];
    let names: Vec<String> = names.into_iter().flatten().map(|file| file.display().to_string()).collect();
    let _ = writeln!(
        text,
        "{}: {} of {} ids",
        names.join(" .. "),
        print::counted(made.rows, "row"),
        grouped(made.row_length)
    );
    let _ = writeln!(text, "samples   {}", grouped(made.samples));
    let _ = writeln!(text, "tokens    {}", print::grouped(made.tokens));
    let _ = writeln!(text, "padding   {:.1} %", 100.0 * made.padding);
    if made.cut > 0 {
        let _ = writeln!(
            text,
            "cut       {}, of which {} have no answer left",
            grouped(made.cut),
            grouped(made.unanswered)
        );
    }
    if made.skipped > 0 {
        let _ = writeln!(text, "left out  {}", print::counted(made.skipped, "bad row"));
    }
    for file in &made.removed {
        let _ = writeln!(text, "removed   {}", file.display());
    }
    text += "tokens of a sample\n";
    let most = made.lengths.iter().map(|bin| bin.samples).max().unwrap_or(1);
    for bin in &made.lengths {
        let bar = "#".repeat((40 * bin.samples).div_ceil(most));
        let _ = writeln!(text, "{:>8} to {:<8}{:>10}  {bar}", bin.from, bin.to, grouped(bin.samples));
    }
    text
}

fn data_set(shown: &Shown) -> String {
    let mut text = print::data_set(shown);
    for (number, row) in shown.rows.iter().enumerate() {
        let _ = writeln!(text, "row {number}");
        for (name, value) in row {
            let _ = writeln!(text, "  {name}  {value}");
        }
    }
    text
}

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
