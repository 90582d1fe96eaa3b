//! The command line of `logd check`.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::check::{Action, CheckRequest, Format};

/// The name of the command.
pub(super) const NAME: &str = "check";

/// The command.
pub(super) fn command() -> Command {
    let dir = Arg::new("dir")
        .value_name("DIRECTORY")
        .required(true)
        .value_parser(clap::value_parser!(PathBuf))
        .help("The work directory, as --workdir names it. No server can use it meanwhile.");
    let repair = Arg::new("repair").long("repair").action(ArgAction::SetTrue).help(
        "Repairs what can be repaired, and removes nothing: what is no batch behind the end of a topic is cut off and \
         kept in a file beside, indexes are made anew, and files that belong to nothing get names that end in .aside. \
         Damaged bytes stay where they are, and the index says so, so that all that follows keeps its offset.",
    );
    let json = Arg::new("json")
        .long("json")
        .action(ArgAction::SetTrue)
        .help("Prints a JSON object on a line of its own for each finding, and one for the summary.");
    Command::new(NAME)
        .about("Checks a work directory that no server uses: every batch, and every index.")
        .long_about(
            "Checks a work directory that no server uses: every batch of every topic is read and every index held \
             against it. Each finding is a line: what is damaged and what has been lost with it, what is to be \
             repaired, and what is only worth a note. The last line is a summary. Without --repair nothing is changed.",
        )
        .after_help(
            "Exit codes: 0 nothing was found, or only notes; 1 something is damaged or to be repaired, or was; 2 \
             impossible options; 3 something could not be checked or repaired, or a server uses the directory.",
        )
        .args([dir, repair, json])
}

/// What was asked for.
pub(super) fn request(matches: &ArgMatches) -> CheckRequest {
    CheckRequest {
        dir: matches.get_one::<PathBuf>("dir").cloned().unwrap_or_default(),
        action: if matches.get_flag("repair") { Action::Repair } else { Action::Look },
        format: if matches.get_flag("json") { Format::Json } else { Format::Text },
    }
}
