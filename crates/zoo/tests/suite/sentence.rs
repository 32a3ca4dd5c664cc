//! The client's half of an encoder: the same inputs as the model's own, kept in files, and refused.

use crate::Stream;
use nn::wordpiece::WordPiece;
use nn::{Error, SentenceFormat, Shape};
use zoo::bert::{Config, Family, Head};
use zoo::encoder::{Encoder, Start};

fn encoder(family: Family, padding: u32) -> Encoder {
    let config = Config {
        family,
        width: 6,
        hidden: 8,
        layers: 1,
        heads: 2,
        vocabulary: 8,
        positions: 9,
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

fn vocabulary() -> WordPiece {
    WordPiece::from_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\ngood\nfilm\n##s\n").expect("reads")
}

fn format() -> SentenceFormat {
    let examples = vec![vec![2, 5, 3]];
    encoder(Family::Bert, 0)
        .sentences(vocabulary(), 6, examples)
        .expect("fits")
}

#[test]
fn inputs_are_the_models_own() {
    let (model, format) = (encoder(Family::Bert, 0), format());
    let tokens = format.encode("Good films").expect("known");
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
    assert_eq!(format.encode("bad film").expect("known"), [2, 1, 6, 3]);
    let again = SentenceFormat::from_json(&format.to_json()).expect("its own");
    assert_eq!(again, format);
    assert!(SentenceFormat::described_by(&format.to_json()));
    assert_eq!(
        (format.length(), format.width(), format.examples().len()),
        (6, 6, 1)
    );
}

#[test]
fn long_sentences_are_refused_or_cut() {
    let format = format();
    let e = format
        .encode("good good good films")
        .expect_err("seven tokens");
    assert!(matches!(e, Error::TooLong { had: 7, limit: 6 }), "{e}");
    let (tokens, cut) = format.encode_cut("good good good films").expect("cut");
    assert_eq!((tokens, cut), (vec![2, 5, 5, 5, 6, 3], true));
    assert_eq!(
        format.encode_cut("good").expect("short"),
        (vec![2, 5, 3], false)
    );
    for text in ["", " \n"] {
        assert!(matches!(format.encode(text), Err(Error::NoPrompt)));
        assert!(matches!(format.encode_cut(text), Err(Error::NoPrompt)));
    }
    assert!(matches!(
        format.input(&[8]),
        Err(Error::Token { token: 8, .. })
    ));
    assert!(matches!(format.input(&[1; 7]), Err(Error::TooLong { .. })));
    assert!(matches!(format.input(&[]), Err(Error::NoPrompt)));
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let model = encoder(Family::Bert, 0);
    let of = |model: &Encoder, vocabulary, length, examples| {
        model
            .sentences(vocabulary, length, examples)
            .expect_err("refused")
    };
    let longer = WordPiece::from_text(&format!("{}more\n", vocabulary().to_text())).expect("reads");
    let e = of(&model, longer, 6, Vec::new());
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
    let e = of(&encoder(Family::Roberta, 1), vocabulary(), 6, Vec::new());
    assert!(e.to_string().contains("RoBERTa"), "{e}");

    let json = format().to_json();
    for (field, value) in [
        ("kind", "prompts".into()),
        ("version", 2.into()),
        ("width", 0.into()),
        ("width", 5.into()),
        ("words", "0".into()),
        ("words", "zz".into()),
        ("positions", "00000000".into()),
        ("scale", "00".into()),
        ("bias", "".into()),
        ("epsilon", (-1.0).into()),
        ("vocabulary", "a\n".into()),
        ("examples", serde_json::json!([[1, 2, 3, 4, 5, 6, 7]])),
        ("more", 1.into()),
    ] {
        let mut other = json.clone();
        other[field] = value;
        assert!(SentenceFormat::from_json(&other).is_err(), "{field}");
    }
    assert!(format().check_network(Shape::image(7, 1, 6)).is_ok());
    assert!(format().check_network(Shape::image(6, 1, 6)).is_err());
}
