//! Tasks: what clients encode and read, as `.pvm` and client files carry it.

use crate::decoder::{Decoder, Law, again, law, same};
use crate::models::parameter;
use nn::{Norm, NormKind, Shape};
use std::sync::Arc;
use task::tokenizer::{Published, Scored, WordPiece};
use task::{
    Embedding, Normalization, Outputs, Pictures, Prompts, SentenceEmbedding, Sentences, Task,
    Tokenizer, Vectors,
};

fn embedding(rows: usize) -> Embedding {
    Embedding::new(&parameter(&[rows, 2])).expect("a valid seed")
}

fn prompts(tokenizer: impl Into<Tokenizer>) -> Task {
    let passages = vec![vec![1, 2, 3], vec![1, 3, 3]];
    Task::Prompts(
        Prompts::new(tokenizer.into(), embedding(4), Some(1), passages).expect("a valid seed"),
    )
}

/// Whose answers hold the last position alone.
fn at_the_last(task: Task) -> Task {
    match task {
        Task::Prompts(p) => {
            let last = Some(vec![p.count() - 1]);
            Task::Prompts(p.with_positions(last).expect("a valid seed"))
        }
        other => other,
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let names = |names: [&str; 2]| names.map(String::from).to_vec();
    let n = || Normalization::new(vec![0.5, 0.25], vec![0.25, 0.1]);
    let labels = Outputs::Labels(names(["cat", "dog"]));
    let rows = |outputs| Vectors::new(names(["age", "height"]), Some(n()), outputs);
    let vectors = rows(labels.clone());
    let ended = rows(Outputs::Probabilities(names(["old", "tall"])));
    let map = rows(Outputs::Tensor(Shape::image(2, 3, 4)));
    let signal = rows(labels.clone()).and_then(|rows| rows.shaped(Shape::image(2, 1, 1)));
    let classes = Outputs::Classes(names(["cat", "dog"]));
    let pictures = Pictures::new(Shape::image(2, 3, 4), n(), classes.clone());
    let mut scored = 1i32.to_le_bytes().to_vec();
    for token in 0..4u8 {
        scored.extend(f32::from(token).to_le_bytes());
        scored.extend(1i32.to_le_bytes());
        scored.push(b'a' + token);
    }
    let tokens = ["<|end|>", "a", "b", "ab"].map(String::from).to_vec();
    let pairs = Published::byte_level("smollm", tokens, &["a b".into()], &[0]);
    let words = WordPiece::from_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nfilm\n##s\n");
    let embedding = SentenceEmbedding {
        words: embedding(7),
        positions: embedding(4),
        norm: Norm {
            kind: NormKind::Layer,
            scale: parameter(&[2]),
            bias: Some(parameter(&[2])),
            epsilon: 1e-5,
        },
        padding: 0,
    };
    let tokenizer = words.expect("a valid seed").into();
    let sentences = Sentences::new(tokenizer, embedding, classes, vec![vec![2, 5, 3]]);
    let all = [
        Task::Vectors(vectors.expect("a valid seed")),
        Task::Vectors(ended.expect("a valid seed")),
        Task::Vectors(map.expect("a valid seed")),
        Task::Vectors(signal.expect("a valid seed")),
        Task::Pictures(pictures.expect("a valid seed")),
        prompts(Tokenizer::Characters(vec!['a', 'b', 'c', 'ü'])),
        prompts(Scored::from_bytes(&scored).expect("a valid seed")),
        at_the_last(prompts(Tokenizer::Characters(vec!['a', 'b', 'c', 'ü']))),
        prompts(pairs.expect("a valid seed")),
        Task::Sentences(sentences.expect("a valid seed")),
    ];
    all.iter().map(|t| t.to_bytes().to_vec()).collect()
}

fn check(task: Task) -> Law {
    let written = task.to_bytes();
    let back = again(Task::from_bytes(&written))?;
    law(back.to_bytes() == written, "a task is written in one way")?;
    same(&task, Ok::<_, String>(back))?;
    let bound = task.bound().unwrap_or(f64::INFINITY);
    law(bound >= 0.0, "bounds are magnitudes")?;
    for x in again(task.examples())? {
        let output = task.outputs().map_or(1, |o| o.names().len().max(1));
        // one kind's output is more than names
        let _ = task.check(x.shape(), Shape::Vector(output));
        let keeps = |v: &f64| v.abs() <= bound * (1.0 + 1e-9);
        law(x.values().iter().all(keeps), "examples keep the bound")?;
    }
    Ok(())
}

pub(super) fn all() -> Vec<Decoder> {
    vec![Decoder::new("task", seeds()).reads(|b| Task::from_bytes(&Arc::from(b)), check)]
}
