//! For which positions of a prompt a language model's logits are computed, sent and decrypted: a prompt's continuation needs those of the last alone.

use crate::error::{Error, Result};
use nn::{Metadata, PolyGraph};
use std::fmt;
use std::str::FromStr;
use task::{Prompts, Task};

/// Positions of a prompt of the full length, as [`task::Tokens::at`] counts them: from 0, a public first token's not counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Positions {
    /// All of them.
    #[default]
    All,
    /// The last one.
    Last,
    /// These, ascending.
    These(Vec<usize>),
}

/// The option that says it.
#[cfg(feature = "clap")]
#[derive(clap::Args, Clone, Debug)]
pub struct Answering {
    /// Language models: positions of a prompt whose logits are computed: `all`, `last` (a prompt of the full length is continued by these alone), or numbers from 0 on,
    /// separated by commas (a public first token is not counted).
    #[arg(long, value_name = "WHICH", default_value_t = Positions::All)]
    pub positions: Positions,
}

impl fmt::Display for Positions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Last => f.write_str("last"),
            Self::These(all) => f.write_str(&listed(all)),
        }
    }
}

/// Some positions, in words.
pub(crate) fn listed(positions: &[usize]) -> String {
    let all: Vec<String> = positions.iter().map(usize::to_string).collect();
    all.join(",")
}

impl FromStr for Positions {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let unknown = || {
            format!(
                "`{text}` names no positions; say all, last, or numbers from 0 on, separated by commas"
            )
        };
        match text {
            "all" => return Ok(Self::All),
            "last" => return Ok(Self::Last),
            _ => {}
        }
        let each = text.split(',').map(|n| n.trim().parse());
        let all: std::result::Result<Vec<usize>, _> = each.collect();
        let mut all = all.map_err(|_| unknown())?;
        all.sort_unstable();
        match all.windows(2).find(|w| w[0] == w[1]) {
            Some(twice) => Err(format!("position {} is named twice", twice[0])),
            None => Ok(Self::These(all)),
        }
    }
}

impl Positions {
    /// As a list, of so many; none where they are all.
    ///
    /// # Errors
    /// A position beyond these.
    pub fn of(&self, count: usize) -> Result<Option<Vec<usize>>> {
        let chosen = match self {
            Self::All => return Ok(None),
            Self::Last => vec![count.saturating_sub(1)],
            Self::These(all) => all.clone(),
        };
        match chosen.iter().find(|p| **p >= count) {
            Some(outside) => Err(format!(
                "position {outside} is outside of the sequence, whose positions are 0 to {}",
                count.saturating_sub(1)
            )
            .into()),
            None => Ok(Some(chosen).filter(|c| c.len() < count)),
        }
    }

    /// The network of a language model with these answers, which its task says, too.
    ///
    /// # Errors
    /// Another kind of network; a position outside of its prompts.
    pub fn cut(&self, graph: PolyGraph) -> Result<PolyGraph> {
        if *self == Self::All {
            return Ok(graph);
        }
        let prompts = match Task::of(graph.metadata())? {
            Some(Task::Prompts(prompts)) => prompts,
            Some(other) => return Err(no_language_model(other.kind())),
            None => return Err(no_language_model("inputs that its file does not describe")),
        };
        let Some(chosen) = self.of(prompts.count())? else {
            return Ok(graph);
        };
        let metadata = described(graph.metadata(), prompts, &chosen)?;
        Ok(graph.at_positions(&chosen)?.with_metadata(metadata))
    }
}

/// Why positions are refused.
pub(crate) fn no_language_model(takes: &str) -> Error {
    let what = "only a language model's answer has positions to choose from";
    format!("{what}, and this network takes {takes}").into()
}

fn described(of: &Metadata, prompts: Prompts, chosen: &[usize]) -> Result<Metadata> {
    let task = Task::Prompts(prompts.with_positions(Some(chosen.to_vec()))?);
    let mut metadata = of.clone();
    metadata
        .provenance
        .push(format!("logits of positions {} alone", listed(chosen)));
    metadata.task = Some(task.to_bytes());
    Ok(metadata)
}

/// What is said where an answer holds nothing of a prompt of so many tokens, or not what follows it; none where it holds that.
pub(crate) fn missing(prompts: &Prompts, tokens: usize) -> Option<Missing> {
    let chosen = prompts.positions()?;
    let last = tokens.checked_sub(1 + prompts.public())?;
    let within = chosen.partition_point(|p| *p <= last);
    let (listed, few) = (listed(chosen), tokens == 1);
    let said = format!(
        "answers hold what follows {} {listed} alone (from 0{}), and this prompt of {tokens} token{} ends at position {last}",
        ["position", "positions"][usize::from(chosen.len() > 1)],
        ["", ", the public first token not counted"][prompts.public()],
        ["s", ""][usize::from(few)],
    );
    match (within, chosen.binary_search(&last)) {
        (_, Ok(_)) => None,
        (0, _) => Some(Missing::All(said)),
        _ => Some(Missing::Last(said)),
    }
}

/// What an answer lacks of a prompt, in words.
pub(crate) enum Missing {
    /// All of it.
    All(String),
    /// What follows the prompt itself.
    Last(String),
}

/// Refuses a prompt of which an answer would hold nothing.
///
/// # Errors
/// As said.
pub(crate) fn require_some(prompts: &Prompts, tokens: usize) -> Result<Option<String>> {
    match missing(prompts, tokens) {
        Some(Missing::All(said)) => Err(format!(
            "{said}: nothing of it would be answered; take a longer prompt, or a plan for the positions of this one"
        )
        .into()),
        Some(Missing::Last(said)) => Ok(Some(said)),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_read_as_they_are_written() {
        for text in ["all", "last", "0", "3,7,12"] {
            let read: Positions = text.parse().expect("positions");
            assert_eq!(read.to_string(), text);
        }
        let sorted: Positions = "7, 3".parse().expect("positions");
        assert_eq!(sorted, Positions::These(vec![3, 7]));
        for (text, word) in [
            ("", "names no positions"),
            ("first", "names no positions"),
            ("-1", "names no positions"),
            ("1,,2", "names no positions"),
            ("4,1,4", "position 4 is named twice"),
        ] {
            let refused = text.parse::<Positions>().expect_err("no positions");
            assert!(refused.contains(word), "{refused}");
        }
        let of = |text: &str, count| text.parse::<Positions>().expect("positions").of(count);
        assert_eq!(of("last", 5).expect("within"), Some(vec![4]));
        assert_eq!(of("all", 5).expect("within"), None);
        assert_eq!(of("0,1", 2).expect("within"), None);
        let refused = of("1,5", 5).expect_err("outside").to_string();
        assert!(
            refused.contains("position 5") && refused.contains("0 to 4"),
            "{refused}"
        );
    }
}
