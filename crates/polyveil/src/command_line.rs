//! How programs with these options read their command lines.

use clap::{Arg, ArgMatches, Command, CommandFactory, FromArgMatches};
use std::fmt::Display;
use std::path::PathBuf;

/// What the command line says; ends the program where it is no usage. `-` where no stream is meant, and one stream for two things, are refused before
/// any work, so that no file of that name is made, and nothing gets mixed.
pub fn parse<C: CommandFactory + FromArgMatches>(refuse: fn(&dyn Display)) -> C {
    let mut command = C::command();
    let matches = command.get_matches_mut();
    if let Some(what) = clash(&command, &matches) {
        refuse(&what);
        std::process::exit(2);
    }
    C::from_arg_matches(&matches).unwrap_or_else(|e| e.format(&mut command).exit())
}

/// The first file that is called `-` where that is no stream, or a stream that two would read or write; JSON goes to standard output.
fn clash(command: &Command, matches: &ArgMatches) -> Option<String> {
    if let Some((name, inner)) = matches.subcommand() {
        return clash(command.find_subcommand(name)?, inner);
    }
    let mut taken: Vec<(&str, &Arg)> = Vec::new();
    let mut arguments: Vec<&Arg> = command.get_arguments().collect();
    arguments.sort_by_key(|a| a.get_id() != "json");
    for argument in arguments {
        let name = argument.get_id().as_str();
        let json = name == "json" && matches.get_flag(name);
        let paths = matches.try_get_many::<PathBuf>(name).ok().flatten();
        let paths = paths.into_iter().flatten().filter_map(|path| path.to_str());
        for path in paths.chain(json.then_some("/dev/stdout")) {
            if path == "-" {
                return Some(format!(
                    "{argument}: it takes no `-`; name a file, ./- where that is its name"
                ));
            }
            if !matches!(path, "/dev/stdin" | "/dev/stdout") {
                continue;
            }
            if let Some((_, other)) = taken.iter().find(|t| t.0 == path) {
                return Some(format!(
                    "{other} and {argument}: both would have {path}; name a file for one, or leave one out"
                ));
            }
            taken.push((path, argument));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    #[allow(dead_code, reason = "read by clap")]
    struct Both {
        #[arg(long, value_name = "FILE")]
        input: Vec<PathBuf>,
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        #[arg(long)]
        json: bool,
        #[arg(long)]
        text: Option<String>,
    }

    #[test]
    fn a_stream_is_for_one_thing_and_no_file_is_called_so() {
        let of = |line: &str| {
            let mut command = Both::command();
            let matches = command.try_get_matches_from_mut(line.split(' '));
            clash(&command, &matches.expect("usage"))
        };
        for fine in [
            "x --input a --json --output b",
            "x --input /dev/stdin -o /dev/stdout --text -",
            "x --input ./- -o /dev/null --json",
        ] {
            assert_eq!(of(fine), None, "{fine}");
        }
        for (line, words) in [
            ("x --input a --input -", ["--input <FILE>", "name a file"]),
            ("x -o -", ["--output <FILE>", "name a file"]),
            (
                "x -o /dev/stdout --json",
                ["--json and --output", "/dev/stdout"],
            ),
            (
                "x --input /dev/stdin --input /dev/stdin",
                ["--input <FILE> and --input <FILE>", "/dev/stdin"],
            ),
        ] {
            let said = of(line).expect(line);
            assert!(words.iter().all(|w| said.contains(w)), "{said}");
        }
    }
}
