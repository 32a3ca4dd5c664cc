//! No argument passes without another one that it needs; both programs have this test.

use clap::{Arg, CommandFactory};

/// The arguments that one can't do without, which clap shows in its debugging text alone.
fn needs(argument: &Arg) -> Vec<String> {
    let text = format!("{argument:?}");
    let list = text.split_once("requires: [").expect("shown").1;
    let list = list.split_once(']').expect("a list").0;
    list.split('"')
        .skip(1)
        .step_by(2)
        .map(String::from)
        .collect()
}

/// clap asks for no argument that can't stand beside one that is there: whoever needs it must be refused beside that one too.
#[test]
fn nobody_passes_without_what_he_needs() {
    let mut command = crate::Cli::command();
    command.build();
    let mut commands = vec![&command];
    let (mut seen, mut holes) = (0, Vec::new());
    while let Some(c) = commands.pop() {
        commands.extend(c.get_subcommands());
        let conflict = |a: &Arg, b: &Arg| {
            let of = |a, b: &Arg| {
                c.get_arg_conflicts_with(a)
                    .iter()
                    .any(|o| o.get_id() == b.get_id())
            };
            of(a, b) || of(b, a)
        };
        for argument in c.get_arguments() {
            for name in needs(argument) {
                let needed = c.get_arguments().find(|a| a.get_id() == name.as_str());
                let needed = needed.expect("one of the command's");
                seen += 1;
                let others = c.get_arguments().filter(|o| conflict(needed, o));
                for other in others.filter(|o| !conflict(argument, o)) {
                    let of = c.get_name();
                    holes.push(format!("{of}: {argument} beside {other}, without {name}"));
                }
            }
        }
    }
    assert!(holes.is_empty(), "{holes:#?}");
    assert!(seen > 4, "{seen}");
}
