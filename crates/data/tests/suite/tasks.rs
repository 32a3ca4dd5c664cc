//! LAMBADA and PIQA as they are published, and every refusal.

use data::tasks::{Passage, Question, lambada, piqa};
use std::path::PathBuf;

/// A file of this content, removed in the end.
struct Made(PathBuf);

impl Made {
    fn new(name: &str, content: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("polyveil-tasks-{name}-{}", std::process::id()));
        std::fs::write(&path, content).expect("written");
        Self(path)
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn passages_end_before_their_last_word() {
    let file = Made::new(
        "passages",
        "{\"text\": \"I don't care about  signs\"}\n{\"text\": \"a\\n\\nb c.\", \"more\": 1}\n\n",
    );
    let passage = |context: &str, word: &str| Passage {
        context: context.into(),
        word: word.into(),
    };
    assert_eq!(
        lambada(&file.0).expect("reads"),
        [
            passage("I don't care about ", "signs"),
            passage("a\n\nb", "c.")
        ]
    );
}

#[test]
fn questions_have_their_labels() {
    let questions = Made::new(
        "questions",
        "{\"goal\": \"g\", \"sol1\": \"x\", \"sol2\": \"y\"}\n{\"goal\": \"h\", \"sol1\": \"u\", \"sol2\": \"v\"}\n",
    );
    let labels = Made::new("labels", "1\n0\n");
    let read = piqa(&questions.0, &labels.0).expect("reads");
    let first = Question {
        goal: "g".into(),
        answers: ["x".into(), "y".into()],
        right: 1,
    };
    assert_eq!((read.len(), &read[0], read[1].right), (2, &first, 0));

    for (content, words) in [
        ("1\n", ["1 labels", "2 questions"]),
        ("1\n\n", ["1 labels", "2 questions"]),
        ("1\n\n0\n", ["3 labels", "2 questions"]),
        ("\n0\n", ["line 1", "\"\""]),
        ("1\n2\n", ["line 2", "\"2\""]),
    ] {
        let labels = Made::new("wrong-labels", content);
        let e = piqa(&questions.0, &labels.0)
            .expect_err(content)
            .to_string();
        assert!(words.iter().all(|w| e.contains(w)), "{e}");
    }
    let unanswered = Made::new(
        "unanswered",
        "{\"goal\": \"g\", \"sol1\": \"x\", \"sol2\": \"\"}\n",
    );
    let one = Made::new("one", "0\n");
    let e = piqa(&unanswered.0, &one.0).expect_err("empty").to_string();
    assert!(e.contains("line 1 has an empty answer"), "{e}");
    let unsolved = Made::new("unsolved", "{\"goal\": \"g\", \"sol1\": \"x\"}\n");
    let e = piqa(&unsolved.0, &one.0).expect_err("missing").to_string();
    assert!(e.contains("line 1") && e.contains("sol2"), "{e}");
}

#[test]
fn passages_that_are_none() {
    for (content, words) in [
        (
            "{\"text\": \"a b\"}\n{\"text\": \"word\"}\n",
            "line 2 has no last word",
        ),
        ("{\"text\": \"a b \"}\n", "line 1 has no last word"),
        ("{\"text\": \" b\"}\n", "line 1 has no last word"),
        ("{\"text\": \"a b\"}\n\n{\"text\": \"a b\"}\n", "line 2"),
        ("{\"words\": \"a b\"}\n", "line 1"),
        ("\n", "no line"),
    ] {
        let file = Made::new("no-passages", content);
        let e = lambada(&file.0).expect_err(content).to_string();
        assert!(e.contains(words), "{e}");
    }
    let e = lambada(&std::env::temp_dir().join("polyveil-no-such-file")).expect_err("absent");
    assert!(e.to_string().contains("polyveil-no-such-file"), "{e}");
    let binary = Made::new("binary", "");
    std::fs::write(&binary.0, [0xff, 0xfe]).expect("written");
    assert!(lambada(&binary.0).is_err());
}
