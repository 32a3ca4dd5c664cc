//! BERT's tokenizer: by hand, trained, and refused.

use std::collections::BTreeMap;
use task::Error;
use task::tokenizer::WordPiece;
use task::tokenizer::wordpiece::words;

const SPECIAL: &str = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n";

#[test]
fn the_longest_piece_first() {
    let text = format!("{SPECIAL}un\n##aff\n##able\naffable\n,\nwant\n##ed\n");
    let v = WordPiece::from_text(&text).expect("reads");
    assert_eq!(v.to_text(), text);
    let shown = |text: &str| -> Vec<String> {
        let tokens = v.encode(text);
        tokens
            .iter()
            .map(|&t| v.piece(t).expect("known").into())
            .collect()
    };
    assert_eq!(
        shown("UNaffable, wanted!"),
        [
            "[CLS]", "un", "##aff", "##able", ",", "want", "##ed", "[UNK]", "[SEP]"
        ]
    );
    // a word of which only the beginning is known is unknown, and so is an endless one
    assert_eq!(
        shown("unaff!able"),
        ["[CLS]", "un", "##aff", "[UNK]", "[UNK]", "[SEP]"]
    );
    assert_eq!(shown("untrue"), ["[CLS]", "[UNK]", "[SEP]"]);
    assert_eq!(shown(&"un".repeat(60)), ["[CLS]", "[UNK]", "[SEP]"]);
    assert_eq!(shown(" \n"), ["[CLS]", "[SEP]"]);
    assert_eq!(
        (v.padding(), v.unknown(), v.mask(), v.piece(99)),
        (0, 1, 4, None)
    );
}

#[test]
fn words_are_cut_at_punctuation() {
    assert_eq!(
        words("It's Zoë—naïve 愛国"),
        ["it", "'", "s", "zoë", "—", "naïve", "愛", "国"]
    );
    assert_eq!(words("a\tb\u{0}c"), ["a", "b", "c"]);
}

#[test]
fn frequent_neighbours_join() {
    let mut counted = BTreeMap::new();
    for (word, n) in [("low", 5), ("lower", 2), ("newest", 6), ("widest", 3)] {
        counted.insert(word.to_string(), n);
    }
    let all = WordPiece::train(&counted, 1000).expect("fits");
    // everything that occurs twice is one piece in the end
    for word in counted.keys() {
        assert_eq!(all.encode(word).len(), 3, "{word}: {}", all.to_text());
    }
    assert_eq!(
        all.encode("slowest").len(),
        3,
        "[UNK]: no word begins with s"
    );
    let again = WordPiece::from_text(&all.to_text()).expect("its own");
    assert_eq!(again, all);
    let few = WordPiece::train(&counted, 24).expect("fits");
    assert_eq!(few.len(), 24);
    assert!(few.to_text().contains("##est\n"), "{}", few.to_text());
    assert!(matches!(
        WordPiece::train(&counted, 8),
        Err(Error::Count { had: 8, .. })
    ));
}

#[test]
fn broken_vocabularies() {
    for (text, why) in [
        ("a\nb\n".into(), "no [PAD]"),
        (format!("{SPECIAL}a\n\nb\n"), "line 7 is empty"),
        (format!("{SPECIAL}a\nb\na\n"), "lines 6 and 8"),
        (SPECIAL.replace("[MASK]\n", ""), "no [MASK]"),
        ("a\n".repeat((1 << 20) + 1), "at most 1048576"),
    ] {
        let e = WordPiece::from_text(&text).expect_err(why).to_string();
        assert!(e.contains(why), "{e}");
    }
}
