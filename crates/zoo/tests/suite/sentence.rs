//! The client's half of an encoder: the same inputs as the model's own, kept in files, and refused.

use crate::Stream;
use crate::oracle::encoder::Oracle;
use nn::Shape;
use task::tokenizer::{Long, Tokenizer, WordPiece};
use task::{Error, Sentences, Task};
use zoo::bert::{Config, Family, Head};
use zoo::blocks::Sizes;
use zoo::encoder::{Encoder, Start};

fn encoder(family: Family, padding: u32) -> Encoder {
    let first = match family {
        Family::Roberta => padding as usize + 1,
        _ => 0,
    };
    let config = Config {
        family,
        sizes: Sizes {
            width: 6,
            hidden: 8,
            layers: 1,
            heads: 2,
            kv_heads: 2,
            head: 3,
            vocabulary: 8,
            max_length: 9 - first,
        },
        types: 2,
        epsilon: 1e-5,
        padding,
        activation: approx::Activation::Gelu,
        head: Head::Classification {
            labels: vec!["no".into(), "yes".into()],
        },
    };
    let mut s = Stream::new(81);
    Encoder::new(config, |_, shape| s.parameter(shape).values().to_vec()).expect("fits")
}

const VOCABULARY: &str = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\ngood\nfilm\n##s\n";

fn vocabulary() -> Tokenizer {
    WordPiece::from_text(VOCABULARY).expect("reads").into()
}

fn format() -> Sentences {
    let examples = vec![vec![2, 5, 3]];
    encoder(Family::Bert, 0)
        .sentences(vocabulary(), 6, examples)
        .expect("fits")
}

#[test]
fn inputs_are_the_models_own() {
    let (model, format) = (encoder(Family::Bert, 0), format());
    let tokens = format.encode("Good films", Long::Refuse).expect("known").0;
    assert_eq!(tokens, [2, 5, 6, 7, 3]);
    let own = format.input(&tokens).expect("fits");
    let needed = model
        .input(&tokens, &[], 6, Start::Normalized)
        .expect("fits");
    assert_eq!(own.shape(), Shape::image(7, 1, 6));
    for (a, b) in own.values().iter().zip(needed.values()) {
        // positions and token types were added in single precision
        assert!((a - b).abs() < 1e-5, "{a} {b}");
        assert!(a.abs() <= format.bound());
    }
    assert_eq!(own.values()[36..], [1.0, 1.0, 1.0, 1.0, 1.0, 0.0]);
    // unknown words have a token of their own
    let (tokens, _) = format.encode("bad film", Long::Refuse).expect("known");
    assert_eq!(tokens, [2, 1, 6, 3]);
    let labels = format.outputs().names().to_vec();
    assert_eq!(labels, ["no", "yes"]);
    assert_eq!(
        (format.length(), format.width(), format.examples().len()),
        (6, 6, 1)
    );
}

#[test]
fn long_sentences_are_refused_or_cut() {
    let format = format();
    let e = format
        .encode("good good good films", Long::Refuse)
        .expect_err("seven tokens");
    assert!(matches!(e, Error::TooLong { had: 7, limit: 6 }), "{e}");
    let (tokens, cut) = format
        .encode("good good good films", Long::Cut)
        .expect("cut");
    assert_eq!((tokens, cut), (vec![2, 5, 5, 5, 6, 3], true));
    assert_eq!(
        format.encode("good", Long::Cut).expect("short"),
        (vec![2, 5, 3], false)
    );
    for text in ["", " \n"] {
        for long in [Long::Refuse, Long::Cut] {
            assert!(matches!(format.encode(text, long), Err(Error::Empty)));
        }
    }
    assert!(matches!(
        format.input(&[8]),
        Err(Error::Token { token: 8, .. })
    ));
    assert!(matches!(format.input(&[1; 7]), Err(Error::TooLong { .. })));
    assert!(matches!(format.input(&[]), Err(Error::Empty)));
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let model = encoder(Family::Bert, 0);
    let of = |model: &Encoder, vocabulary, length, examples| {
        model
            .sentences(vocabulary, length, examples)
            .expect_err("refused")
    };
    let longer = WordPiece::from_text(&format!("{VOCABULARY}more\n")).expect("reads");
    let e = of(&model, longer.into(), 6, Vec::new());
    assert!(
        matches!(
            e,
            Error::Count {
                needed: 8,
                had: 9,
                ..
            }
        ),
        "{e}"
    );
    let e = of(&model, vocabulary(), 10, Vec::new());
    assert!(matches!(e, Error::TooLong { had: 10, limit: 9 }), "{e}");
    let e = of(&model, vocabulary(), 6, vec![vec![9]]);
    assert!(matches!(e, Error::Token { token: 9, .. }), "{e}");
    assert!(
        of(&model, vocabulary(), 2, Vec::new())
            .to_string()
            .contains("3 to")
    );
    let task = Task::Sentences(format());
    let (input, output) = (Shape::image(7, 1, 6), Shape::image(2, 1, 1));
    assert!(task.check(input, output).is_ok());
    assert!(task.check(Shape::image(6, 1, 6), output).is_err());
    assert!(task.check(input, Shape::image(3, 1, 1)).is_err());
}

/// RoBERTa's positions begin behind its padding's.
#[test]
fn robertas_inputs_are_the_models_own() {
    let model = encoder(Family::Roberta, 1);
    let format = model.sentences(vocabulary(), 6, Vec::new()).expect("fits");
    let tokens = [2, 5, 6, 7, 3];
    let own = format.input(&tokens).expect("fits");
    let needed = model.input(&tokens, &[], 6, Start::Normalized);
    let needed = needed.expect("fits");
    for (i, (a, b)) in own.values().iter().zip(needed.values()).enumerate() {
        // what is padded has marks of 0 and only has to be tame
        assert!(i % 6 == 5 || (a - b).abs() < 1e-5, "{i}: {a} {b}");
    }
}
