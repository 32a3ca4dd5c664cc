//! Labelled sentences: read, split, masked, and refused with their line.

use data::order;
use data::sentences::{HeldOut, Masking, Sentences};
use std::path::PathBuf;

fn file(name: &str, text: &[u8]) -> PathBuf {
    let path = std::env::temp_dir().join(format!("polyveil-{}-{name}.tsv", std::process::id()));
    std::fs::write(&path, text).expect("a scratch folder");
    path
}

#[test]
fn lines_with_and_without_heading() {
    let path = file(
        "heading",
        b"label\tsentence\n1\ta fine film \n0\tnot\tso fine\n",
    );
    let set = Sentences::open(&path, None).expect("reads");
    assert_eq!(
        set.lines(),
        [("a fine film".into(), 1), ("not\tso fine".into(), 0)]
    );
    assert_eq!((set.len(), set.classes(), set.is_empty()), (2, 2, false));
    let path = file("bare", b"2\ta\n0\tb\n");
    assert_eq!(Sentences::open(&path, None).expect("reads").classes(), 3);
    assert_eq!(Sentences::open(&path, Some(4)).expect("reads").classes(), 4);
}

#[test]
fn what_is_wrong_is_named_with_its_line() {
    for (name, text, why) in [
        (
            "tab",
            "label\tsentence\n1\ta\nno tab\n",
            "line 3 has no tab",
        ),
        ("missing", "0\ta\n\tb\n", "line 2 has the label \"\""),
        (
            "word",
            "0\ta\npositive\tb\n",
            "line 2 has the label \"positive\"; labels are numbers from 0 to 1",
        ),
        ("large", "0\ta\n1\tb\n2\tc\n", "line 3 has the label \"2\""),
        ("negative", "-1\ta\n", "line 1 has the label \"-1\""),
        ("nothing", "0\ta\n1\t \n", "line 2 has no sentence"),
        ("empty", "", "no sentences"),
        ("heading-alone", "label\tsentence\n", "no sentences"),
    ] {
        let e = Sentences::open(&file(name, text.as_bytes()), Some(2))
            .expect_err(why)
            .to_string();
        assert!(e.contains(why), "{e}");
    }
    let e = Sentences::open(&file("latin", b"0\tcaf\xe9\n"), None).expect_err("no UTF-8");
    assert!(e.to_string().contains("UTF-8"), "{e}");
    assert!(Sentences::open(&PathBuf::from("nowhere.tsv"), None).is_err());
}

#[test]
fn sentences_at_hand_are_checked() {
    let of = |all: &[(&str, usize)], classes| {
        let all = all.iter().map(|(text, class)| (text.to_string(), *class));
        Sentences::new(all.collect(), classes)
    };
    let fine = [("fine", 1), ("not so", 0)];
    let path = file("fine", b"1\tfine\n0\tnot so\n");
    let read = Sentences::open(&path, None).expect("reads");
    assert_eq!(of(&fine, None).expect("fits"), read);
    assert_eq!(of(&[("a", 2)], None).expect("fits").classes(), 3);
    for (lines, why) in [
        (&fine[..0], "no sentences"),
        (&[("fine", 1), (" ", 0)], "sentence 1"),
        (&[("fine", 2)], "class 2"),
    ] {
        let e = of(lines, Some(2)).expect_err(why).to_string();
        assert!(e.contains(why), "{e}");
    }
}

#[test]
fn relatives_of_held_out_sentences_are_left_out() {
    let long = "one two three four five six seven eight";
    let text = format!(
        "0\t{long}\n1\ttwo three four\n1\ttwo three\n0\tzero two three four five six seven end\n1\tnine ten eleven twelve thirteen\n"
    );
    let set = Sentences::open(&file("relatives", text.as_bytes()), None).expect("reads");
    let all = HeldOut {
        sentences: 1,
        words: 8,
    };
    let (train, held) = set.split(all).expect("splits");
    assert_eq!(held.lines(), [(long.to_string(), 0)]);
    let left: Vec<&str> = train.lines().iter().map(|(s, _)| s.as_str()).collect();
    assert_eq!(left, ["two three", "nine ten eleven twelve thirteen"]);
    for (sentences, words) in [(0, 1), (6, 1), (3, 8), (5, 1)] {
        assert!(
            set.split(HeldOut { sentences, words }).is_err(),
            "{sentences} {words}"
        );
    }
}

#[test]
fn orders_and_masks_are_functions_of_their_names() {
    let (a, b) = (order(100, 1, 0), order(100, 1, 1));
    assert_eq!(a, order(100, 1, 0));
    assert_ne!(a, b);
    let masking = Masking {
        share: 0.15,
        mask: 4,
        vocabulary: 50,
    };
    let tokens: Vec<u32> = std::iter::once(2).chain(10..30).chain([3]).collect();
    let (mut chosen, mut masks, mut kept) = (0u32, 0u32, 0u32);
    for k in 0..500 {
        let (hidden, labels) = masking.apply(&tokens, (1, 0, k));
        assert_eq!(
            (hidden.clone(), labels.clone()),
            masking.apply(&tokens, (1, 0, k))
        );
        assert_eq!(
            (hidden[0], hidden[21], labels[0], labels[21]),
            (2, 3, None, None)
        );
        for i in 1..21 {
            match labels[i] {
                None => assert_eq!(hidden[i], tokens[i]),
                Some(t) => {
                    assert_eq!(t, tokens[i]);
                    chosen += 1;
                    masks += u32::from(hidden[i] == 4);
                    kept += u32::from(hidden[i] == tokens[i]);
                }
            }
        }
        assert!(labels.iter().any(Option::is_some));
    }
    // 20 tokens, 500 times: 0.15 of them and one that is sure
    assert!((1800..2200).contains(&chosen), "{chosen}");
    assert!(
        (0.75..0.85).contains(&(f64::from(masks) / f64::from(chosen))),
        "{masks} of {chosen}"
    );
    assert!(
        (0.07..0.15).contains(&(f64::from(kept) / f64::from(chosen))),
        "{kept} of {chosen}"
    );
    assert_eq!(
        masking.apply(&[2, 3], (1, 0, 0)),
        (vec![2, 3], vec![None; 2])
    );
}
