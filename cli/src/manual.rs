//! The command line as shells and `man` want it: completions and manual pages, both made of `args`.

use std::path::Path;

use bloomery::Error;
use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::args::Cli;
use crate::print::Silent;

/// The script that makes a shell complete our commands and options.
pub(crate) fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "bloomery", &mut script);
    String::from_utf8(script).expect("scripts are text")
}

/// Writes a page for the program and one for each command and command of a command into a folder, and returns their names.
pub(crate) fn write_pages(folder: &Path) -> Result<Vec<String>, Error> {
    let refused = |source| Error::Io { action: "create", path: folder.to_path_buf(), source };
    std::fs::create_dir_all(folder).map_err(refused)?;
    let pages = pages();
    pages.iter().try_for_each(|(name, text)| bloomery::write_text(&folder.join(name), text, &Silent))?;
    Ok(pages.into_iter().map(|(name, _)| name).collect())
}

/// Names of files and what is in them.
fn pages() -> Vec<(String, String)> {
    let mut program = Cli::command().disable_help_subcommand(true);
    program.build();
    below(&program).map(page).collect()
}

/// A command and all commands below it.
fn below(command: &Command) -> Box<dyn Iterator<Item = Command> + '_> {
    Box::new(std::iter::once(command.clone()).chain(command.get_subcommands().flat_map(below)))
}

fn page(command: Command) -> (String, String) {
    let man = Man::new(command).source(concat!("bloomery ", env!("CARGO_PKG_VERSION")));
    let mut text = Vec::new();
    man.render(&mut text).expect("memory takes what is written to it");
    (man.get_filename(), String::from_utf8(text).expect("pages are text"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    /// Every command, `config-show` for one of a command, with its long options.
    fn commands() -> Vec<(String, Vec<String>)> {
        let options = |command: &Command| {
            command.get_arguments().filter_map(|argument| argument.get_long().map(str::to_owned)).collect()
        };
        let mut program = Cli::command().disable_help_subcommand(true);
        program.build();
        let name = |command: &Command| command.get_display_name().unwrap().trim_start_matches("bloomery-").to_owned();
        let commands: Vec<_> = below(&program).skip(1).map(|command| (name(&command), options(&command))).collect();
        assert!(commands.len() >= 14, "{commands:?}");
        commands
    }

    #[test]
    fn every_shell_completes_every_command_and_option() {
        for shell in Shell::value_variants() {
            let script = completions(*shell);
            for (command, options) in commands() {
                command.split('-').for_each(|word| assert!(script.contains(word), "{shell}: {command}"));
                options.iter().for_each(|option| assert!(script.contains(option), "{shell}: {command} --{option}"));
            }
        }
    }

    #[test]
    fn every_command_has_a_page_with_its_options() {
        let pages = pages();
        let page = |name: &str| &pages.iter().find(|(found, _)| found == name).unwrap_or_else(|| panic!("{name}")).1;
        for (command, options) in commands() {
            let top = command.split('-').next().unwrap();
            assert!(page("bloomery.1").contains(top), "{command}");
            let page = page(&format!("bloomery-{command}.1"));
            for option in options {
                assert!(page.contains(&option.replace('-', "\\-")), "{command} --{option}: {page}");
            }
        }
        assert_eq!(pages.len(), commands().len() + 1);
    }
}
