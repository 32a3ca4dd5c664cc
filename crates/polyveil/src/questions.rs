//! LAMBADA and PIQA as EleutherAI's lm-evaluation-harness asks them: what stands before, what is to be found, and who is right.

use crate::error::{Error, Result};
use data::tasks::{Passage, Question};
use std::path::Path;

/// What language models are asked.
pub(crate) enum Questions {
    /// Passages whose last word is to be found.
    Lambada(Vec<Passage>),
    /// Questions with two answers.
    Piqa(Vec<Question>),
}

/// Two texts as tokens: how many are before what is to be found.
pub(crate) struct Sequence {
    pub(crate) tokens: Vec<u32>,
    pub(crate) first: usize,
}

impl Questions {
    pub(crate) fn lambada(path: &Path) -> Result<Self> {
        Ok(Self::Lambada(data::tasks::lambada(path)?))
    }

    pub(crate) fn piqa(path: &Path, labels: &Path) -> Result<Self> {
        Ok(Self::Piqa(data::tasks::piqa(path, labels)?))
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Lambada(_) => "LAMBADA",
            Self::Piqa(_) => "PIQA",
        }
    }

    /// Passages or questions.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Lambada(all) => all.len(),
            Self::Piqa(all) => all.len(),
        }
    }

    /// Sequences of each.
    pub(crate) fn each(&self) -> usize {
        match self {
            Self::Lambada(_) => 1,
            Self::Piqa(_) => 2,
        }
    }

    /// The solution of one as a whole.
    fn solved(&self, item: usize) -> String {
        match self {
            Self::Lambada(all) => format!("{} {}", all[item].context, all[item].word),
            Self::Piqa(all) => all[item].prompt() + &all[item].continuation(all[item].right),
        }
    }

    /// A sequence as tokens, behind `shots` solved examples, those that follow it in its file; none where nothing is before what is to be
    /// found. Spaces at the context's end go to what follows, since tokens begin with their space.
    pub(crate) fn sequence(
        &self,
        index: usize,
        shots: usize,
        encode: impl Fn(&str) -> Result<Vec<u32>>,
    ) -> Result<Sequence> {
        let item = index / self.each();
        let (context, rest) = match self {
            Self::Lambada(all) => (all[item].context.clone(), all[item].continuation()),
            Self::Piqa(all) => (all[item].prompt(), all[item].continuation(index % 2)),
        };
        let before = (1..=shots).map(|k| self.solved((item + k) % self.len()) + "\n\n");
        let context = before.collect::<String>() + &context;
        let kept = context.trim_end();
        let place = |e| Error::In {
            place: format!("{}, line {}", self.name(), item + 1),
            source: Box::new(e),
        };
        let tokens = encode(&format!("{kept}{}{rest}", &context[kept.len()..])).map_err(place)?;
        let first = encode(kept).map_err(place)?.len();
        Ok(Sequence { tokens, first })
    }

    /// Refuses more examples than there are.
    #[cfg(feature = "train")]
    pub(crate) fn require(&self, shots: usize) -> Result<()> {
        if shots >= self.len() {
            let (name, had) = (self.name(), self.len());
            return Err(format!(
                "{shots} solved examples: {name} has {had} in all, one of which is asked"
            )
            .into());
        }
        Ok(())
    }

    /// Of questions with both answers' log-likelihoods: how many there are, of how many the better answer is the likelier one as a whole, and by
    /// character. The first of equals counts, as numpy's argmax has it.
    pub(crate) fn better(&self, likelihood: impl Fn(usize) -> Option<f64>) -> [usize; 3] {
        let mut out = [0; 3];
        if let Self::Piqa(all) = self {
            for (i, q) in all.iter().enumerate() {
                let (Some(a), Some(b)) = (likelihood(2 * i), likelihood(2 * i + 1)) else {
                    continue;
                };
                let [x, y] = [0, 1].map(|k| q.answers[k].chars().count() as f64);
                out[0] += 1;
                out[1] += usize::from(usize::from(b > a) == q.right);
                out[2] += usize::from(usize::from(b / y > a / x) == q.right);
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_better_answer_is_the_likelier_one_as_a_whole_or_by_character() {
        let question = |answers: [&str; 2], right| Question {
            goal: "open a jar".into(),
            answers: answers.map(String::from),
            right,
        };
        let questions = Questions::Piqa(vec![
            question(["turn the lid", "turn"], 0),
            question(["hit it", "wait"], 1),
            question(["twist it", "paint it"], 1),
        ]);
        // the first is likelier by character only, the second either way; of the third one answer is missing
        let all = [
            Some(-6.0),
            Some(-5.0),
            Some(-9.0),
            Some(-2.0),
            Some(-1.0),
            None,
        ];
        assert_eq!(questions.better(|i| all[i]), [2, 1, 2]);
        let clear = [
            Some(-6.0),
            Some(-7.0),
            Some(-9.0),
            Some(-2.0),
            Some(-1.0),
            None,
        ];
        assert_eq!(questions.better(|i| clear[i]), [2, 2, 2]);
    }
}
