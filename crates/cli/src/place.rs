//! Where this machine's cost table lies.

use polyveil::machine::Machine;
use polyveil::{Listener, Result};
use std::path::{Path, PathBuf};

/// Where the table lies.
#[derive(Debug, PartialEq)]
enum Place {
    Shipped,
    /// Asked for: it must be there.
    Asked(PathBuf),
    /// The user's own, if there is one.
    Usual(PathBuf),
}

/// From the option and the environment; a relative configuration folder is none, by the XDG base directory specification.
fn place(option: Option<&Path>, variable: impl Fn(&str) -> Option<std::ffi::OsString>) -> Place {
    let set = |name: &str| variable(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    if let Some(asked) = option
        .map(Path::to_path_buf)
        .or_else(|| set("POLYVEIL_MACHINE"))
    {
        return if asked.as_os_str() == "shipped" {
            Place::Shipped
        } else {
            Place::Asked(asked)
        };
    }
    let absolute = |p: PathBuf| p.is_absolute().then_some(p);
    set("XDG_CONFIG_HOME")
        .and_then(absolute)
        .or_else(|| set("HOME").and_then(absolute).map(|h| h.join(".config")))
        .map_or(Place::Shipped, |folder| {
            Place::Usual(folder.join("polyveil").join("machine.json"))
        })
}

/// The table that this option or the environment names, or the usual one where there is one.
pub(crate) fn machine(option: Option<&Path>, tell: Listener<'_>) -> Result<Machine> {
    match place(option, |v| std::env::var_os(v)) {
        Place::Usual(path) if path.exists() => Machine::open(&path, tell),
        Place::Asked(path) => Machine::open(&path, tell),
        _ => Ok(Machine::default()),
    }
}

/// Where a measured table goes.
pub(crate) fn destination(option: Option<&Path>) -> Result<PathBuf> {
    match place(option, |v| std::env::var_os(v)) {
        Place::Asked(path) | Place::Usual(path) => Ok(path),
        Place::Shipped => Err("the cost table has no place: neither XDG_CONFIG_HOME nor HOME is set; say where with --machine FILE".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_looked_for_where_the_user_says() {
        let from = |option: Option<&str>, set: &[(&str, &str)]| {
            place(option.map(Path::new), |name| {
                let found = set.iter().find(|(n, _)| *n == name)?;
                Some(found.1.into())
            })
        };
        let home = ("HOME", "/home/ada");
        assert_eq!(
            from(None, &[home]),
            Place::Usual("/home/ada/.config/polyveil/machine.json".into())
        );
        assert_eq!(
            from(None, &[home, ("XDG_CONFIG_HOME", "/etc/ada")]),
            Place::Usual("/etc/ada/polyveil/machine.json".into())
        );
        for none in ["", "relative"] {
            assert_eq!(
                from(None, &[home, ("XDG_CONFIG_HOME", none)]),
                from(None, &[home])
            );
        }
        let variable = ("POLYVEIL_MACHINE", "here.json");
        assert_eq!(
            from(None, &[home, variable]),
            Place::Asked("here.json".into())
        );
        assert_eq!(
            from(Some("there.json"), &[home, variable]),
            Place::Asked("there.json".into())
        );
        assert_eq!(from(Some("shipped"), &[home, variable]), Place::Shipped);
        assert_eq!(from(None, &[]), Place::Shipped);
    }
}
