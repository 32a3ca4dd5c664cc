//! Tasks of all kinds: what goes in, what comes out, bytes.

use nn::{Norm, NormKind, Parameter, Shape};
use std::sync::Arc;
use task::tokenizer::{Long, WordPiece};
use task::{
    Answer, Embedding, Error, Input, Normalization, Outputs, Picture, Pictures, Precision, Prompts,
    SentenceEmbedding, Sentences, Task, Tokenizer, Vectors,
};

fn names(all: &[&str]) -> Vec<String> {
    all.iter().map(|s| s.to_string()).collect()
}

fn table(rows: usize, width: usize) -> Embedding {
    let values: Vec<f32> = (0..rows * width).map(|i| i as f32 / 8.0 - 1.0).collect();
    Embedding::new(&Parameter::new("table", [rows, width], values).expect("finite")).expect("fits")
}

fn normalization() -> Normalization {
    Normalization::new(vec![1.0, -2.0], vec![0.5, 4.0])
}

fn vectors(outputs: Outputs) -> Task {
    Task::Vectors(
        Vectors::new(names(&["age", "height"]), Some(normalization()), outputs).expect("fits"),
    )
}

fn sentences() -> Task {
    let words = WordPiece::from_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\ngood\nfilm\n##s\n");
    let vector = |v: [f32; 2]| Parameter::new("vector", [2], v).expect("finite");
    let embedding = SentenceEmbedding {
        words: table(8, 2),
        positions: table(6, 2),
        norm: Norm {
            kind: NormKind::Layer,
            scale: vector([1.0, 2.0]),
            bias: Some(vector([0.5, 0.25])),
            epsilon: 1e-5,
        },
        padding: 0,
    };
    let tokenizer = words.expect("reads").into();
    let outputs = Outputs::Classes(names(&["bad", "good"]));
    Task::Sentences(
        Sentences::new(tokenizer, embedding, outputs, vec![vec![2, 5, 3]]).expect("fits"),
    )
}

fn all() -> Vec<Task> {
    let normal = Normalization::new(vec![0.5], vec![0.25]);
    let pictures = Pictures::new(Shape::image(1, 2, 3), normal, Outputs::Classes(Vec::new()));
    let tokenizer = Tokenizer::Characters(vec!['\n', 'a', 'b', 'ü']);
    let prompts = Prompts::new(tokenizer, table(4, 2), Some(0), vec![vec![0, 1, 2]; 2]);
    vec![
        vectors(Outputs::Values(names(&["price"]))),
        vectors(Outputs::Labels(Vec::new())),
        Task::Pictures(pictures.expect("fits")),
        Task::Prompts(prompts.expect("fits")),
        sentences(),
        vectors(Outputs::Probabilities(names(&["old", "tall"]))),
        vectors(Outputs::Tensor(Shape::image(3, 2, 2))),
        vectors(Outputs::Tensor(Shape::Vector(5))),
        signals(),
    ]
}

/// Two channels of three numbers.
fn signals() -> Task {
    let normal = Normalization::new(vec![1.0, 1.0, 1.0, -2.0, -2.0, -2.0], vec![0.5; 6]);
    let columns = (1..=6).map(|i| i.to_string()).collect();
    let outputs = Outputs::Classes(names(&["calm", "fast"]));
    let rows = Vectors::new(columns, Some(normal), outputs).expect("fits");
    Task::Vectors(rows.shaped(Shape::image(2, 1, 3)).expect("fits"))
}

#[test]
fn rows_of_a_shape_become_inputs_of_it() {
    let (task, shape) = (signals(), Shape::image(2, 1, 3));
    let x = task.encode(&Input::Row(&[1.0, 2.0, 3.0, -2.0, -2.5, 0.0]));
    let x = x.expect("fits");
    assert_eq!(x.shape(), shape);
    assert_eq!(x.values(), [0.0, 2.0, 4.0, 0.0, -1.0, 4.0]);
    assert_eq!(task.kind(), "rows");
    assert!(task.check(shape, Shape::Vector(2)).is_ok());
    for other in [Shape::Vector(6), Shape::image(1, 2, 3)] {
        assert!(task.check(other, Shape::Vector(2)).is_err());
    }
    let Task::Vectors(rows) = task else {
        panic!("made as rows")
    };
    assert!(rows.shaped(Shape::image(2, 1, 4)).is_err());
}

#[test]
fn bytes_keep_every_kind_and_what_is_cut_or_changed_is_refused_or_another_task() {
    for task in all() {
        let bytes = task.to_bytes();
        let back = Task::from_bytes(&bytes).expect("its own");
        assert_eq!(back, task);
        assert_eq!(back.digest(), task.digest());
        for length in 0..bytes.len() {
            let cut: Arc<[u8]> = bytes[..length].into();
            assert!(
                Task::from_bytes(&cut).is_err(),
                "{} cut at {length}",
                task.kind()
            );
        }
        for at in 0..bytes.len() {
            let mut changed = bytes.to_vec();
            changed[at] ^= 0x80;
            // never a panic, never the same
            assert_ne!(Task::from_bytes(&changed.into()).ok(), Some(task.clone()));
        }
        let longer: Arc<[u8]> = [&bytes[..], &[0]].concat().into();
        assert!(Task::from_bytes(&longer).is_err());
    }
    let mut later = all()[0].to_bytes().to_vec();
    later[6] = 2;
    let e = Task::from_bytes(&later.into()).expect_err("a later version");
    assert!(
        matches!(
            e,
            Error::Version {
                had: 2,
                known: 1,
                ..
            }
        ),
        "{e}"
    );
}

#[test]
fn names_that_a_terminal_would_obey_are_refused_and_say_where() {
    let hostile = || names(&["plain", "\u{1b}[2J"]);
    let e = Vectors::new(hostile(), None, Outputs::Values(Vec::new())).expect_err("refused");
    assert!(e.to_string().contains("column 2") && !e.to_string().contains('\u{1b}'));
    for (outputs, word) in [
        (Outputs::Classes(hostile()), "class 2"),
        (Outputs::Labels(hostile()), "label 2"),
        (Outputs::Values(hostile()), "output 2"),
    ] {
        let e = Vectors::new(names(&["a"]), None, outputs.clone()).expect_err("refused");
        assert!(e.to_string().contains(word), "{e}");
        let shape = Shape::image(3, 4, 4);
        assert!(Pictures::new(shape, normalization(), outputs).is_err());
    }
}

#[test]
fn rows_are_normalised_by_column_and_checked() {
    let task = vectors(Outputs::Classes(names(&["no", "yes"])));
    let x = task.encode(&Input::Row(&[2.0, 2.0])).expect("fits");
    assert_eq!((x.shape(), x.values()), (Shape::Vector(2), &[2.0, 1.0][..]));
    let e = task.encode(&Input::Row(&[1.0])).expect_err("short");
    assert!(
        matches!(
            e,
            Error::Count {
                needed: 2,
                had: 1,
                ..
            }
        ),
        "{e}"
    );
    let e = task.encode(&Input::Row(&[1.0, f64::NAN])).expect_err("NaN");
    assert!(e.to_string().contains("height"), "{e}");
    let e = task.encode(&Input::Text("a")).expect_err("no row");
    assert_eq!(e.to_string(), "the network takes rows, a text was given");
    assert!(task.check(Shape::Vector(2), Shape::Vector(2)).is_ok());
    for (input, output) in [
        (Shape::Vector(3), Shape::Vector(2)),
        (Shape::image(2, 1, 1), Shape::Vector(2)),
        (Shape::Vector(2), Shape::Vector(3)),
    ] {
        assert!(task.check(input, output).is_err(), "{input} {output}");
    }
    let bare = Vectors::new(names(&["a"]), None, Outputs::Values(Vec::new())).expect("fits");
    assert_eq!(bare.input(&[1e9]).expect("fits").values(), [1e9]);
    assert!(Vectors::new(Vec::new(), None, Outputs::Values(Vec::new())).is_err());
    for (mean, deviation) in [
        (vec![0.0; 2], vec![1.0; 2]),
        (vec![f64::NAN], vec![1.0]),
        (vec![0.0], vec![0.0]),
        (vec![0.0], vec![f64::INFINITY]),
    ] {
        let n = Normalization::new(mean, deviation);
        let made = Vectors::new(names(&["a"]), Some(n), Outputs::Values(Vec::new()));
        assert!(made.is_err());
    }
}

#[test]
fn answers_are_what_they_are() {
    let task = vectors(Outputs::Classes(names(&["no", "yes"])));
    let logits = [0.0, 3f64.ln()];
    let Ok(Answer::Classes(scores)) = task.decode(&logits) else {
        panic!("no classes")
    };
    let best = &scores.top(5)[0];
    assert_eq!(
        (best.index, best.name.as_str(), scores.best()),
        (1, "yes", 1)
    );
    assert!((best.probability - 0.75).abs() < 1e-12);
    let task = vectors(Outputs::Labels(names(&["old", "tall"])));
    let Ok(Answer::Labels(labels)) = task.decode(&[0.0, -1.0]) else {
        panic!("no labels")
    };
    assert_eq!(
        (labels[0].name.as_str(), labels[0].probability),
        ("old", 0.5)
    );
    let task = vectors(Outputs::Values(Vec::new()));
    let Ok(Answer::Values(values)) = task.decode(&[0.5, 7.0]) else {
        panic!("no values")
    };
    assert_eq!(
        (values[1].name.as_str(), values[1].value),
        ("output 1", 7.0)
    );
    assert!(task.decode(&[]).is_err());
    let named = vectors(Outputs::Values(names(&["price"])));
    assert!(matches!(
        named.decode(&[1.0, 2.0]),
        Err(Error::Count { .. })
    ));
    // what a sigmoid gave is taken as it is
    let ended = vectors(Outputs::Probabilities(names(&["old", "tall"])));
    let Ok(Answer::Probabilities(values)) = ended.decode(&[0.25, 1.01]) else {
        panic!("no probabilities")
    };
    assert_eq!((values[1].name.as_str(), values[1].value), ("tall", 1.01));
    let shape = Shape::image(1, 2, 2);
    let map = vectors(Outputs::Tensor(shape));
    let values = [1.0, 2.0, 3.0, 4.0];
    assert_eq!(
        map.decode(&values).expect("fits"),
        Answer::Tensor(shape, values.to_vec())
    );
    assert!(map.decode(&values[1..]).is_err());
    // nobody says: numbers
    for (shape, kind) in [
        (shape, "tensor"),
        (Shape::image(9, 1, 1), "values"),
        (Shape::Vector(9), "values"),
    ] {
        let outputs = Outputs::unsaid(shape);
        assert_eq!((outputs.kind(), outputs.classes()), (kind, None));
        outputs.check(shape).expect("its own");
    }
    let map = Outputs::Tensor(shape);
    assert!(map.check(Shape::Vector(4)).is_ok() && map.check(Shape::Vector(5)).is_err());
    // tokens: after "\na" comes the second position's best
    let prompts = &all()[3];
    let logits = [0.0, 0.0, 0.0, 1.0, 5.0, 0.0, 0.0, 2.0];
    let Ok(Answer::Tokens(tokens)) = prompts.decode(&logits) else {
        panic!("no tokens")
    };
    let after = tokens.after(2).expect("a position");
    assert_eq!(
        (after.values(), after.best()),
        (&[0.0, 0.0, 5.0, 0.0][..], 2)
    );
    assert_eq!(after.top(1)[0].name, "\"b\"");
    let last = tokens.after(3).expect("a position");
    assert_eq!((last.best(), last.name(3).as_str()), (3, "\"ü\""));
    assert!(tokens.after(1).is_none() && tokens.after(4).is_none());
    assert!(prompts.decode(&logits[1..]).is_err());
}

#[test]
fn pictures_and_sentences_keep_their_bounds() {
    for task in all() {
        let Some(bound) = task.bound() else { continue };
        let mut inputs = task.examples().expect("its own");
        if let Task::Pictures(_) = task {
            for byte in [0, 255] {
                let picture = Picture::from_pixels(3, 2, 1, vec![byte; 6]).expect("fits");
                inputs.push(task.encode(&Input::Picture(&picture)).expect("fits"));
            }
        }
        assert!(!inputs.is_empty());
        for x in inputs {
            assert!(
                x.values().iter().all(|v| v.abs() <= bound),
                "{}",
                task.kind()
            );
        }
    }
    let Task::Sentences(format) = sentences() else {
        panic!("no sentences")
    };
    let long = "good film good film good";
    let e = format.encode(long, Long::Refuse).expect_err("seven tokens");
    assert!(matches!(e, Error::TooLong { had: 7, limit: 6 }), "{e}");
    let (tokens, cut) = format.encode(long, Long::Cut).expect("cut");
    assert_eq!((tokens, cut), (vec![2, 5, 6, 5, 6, 3], true));
}

/// Pythia-70M's embedding, of 25.8 million numbers in half precision: kept in two bytes a number, in one place.
#[test]
fn a_published_embedding_goes_through_bytes() {
    let (rows, width) = (50_304, 512);
    let half = |i: usize| ((i * 2_654_435_761) >> 20) as u16 & 0x3bff;
    let stored: Vec<u8> = (0..rows * width)
        .flat_map(|i| half(i).to_le_bytes())
        .collect();
    let part = 0..stored.len();
    let embedding = Embedding::stored_in(rows, width, Precision::F16, stored.into(), part);
    let embedding = embedding.expect("finite");
    let alphabet = (0..rows as u32).map(|i| char::from_u32(0x1_0000 + i));
    let tokenizer = Tokenizer::Characters(alphabet.map(|c| c.expect("a character")).collect());
    let prompts = Prompts::new(tokenizer, embedding, None, vec![vec![7; 16]]).expect("fits");
    let task = Task::Prompts(prompts);
    let bytes = task.to_bytes();
    assert!(bytes.len() < 2 * rows * width + 4 * rows + (1 << 10));
    let before = Arc::strong_count(&bytes);
    let back = Task::from_bytes(&bytes).expect("its own");
    // the numbers stay in the bytes
    assert_eq!(Arc::strong_count(&bytes), before + 1);
    assert_eq!(back, task);
    let x = back.encode(&Input::Tokens(&[50_303, 1])).expect("known");
    let (Task::Prompts(own), Shape::Image { width: length, .. }) = (&task, x.shape()) else {
        panic!("no prompts")
    };
    let row: Vec<f64> = own.embedding().row(50_303).expect("known").collect();
    let column: Vec<f64> = x.values().iter().step_by(length).copied().collect();
    assert_eq!(row, column);
}
