//! Prompts: what a client makes of text, and descriptions that are none.

use nn::{Parameter, Shape};
use task::tokenizer::Scored;
use task::{Embedding, Error, Prompts, Task, Tokenizer};

const ALPHABET: [char; 4] = ['\n', 'a', 'b', 'ü'];

fn embedding(tokens: usize, width: usize) -> Embedding {
    let values: Vec<f32> = (0..tokens * width).map(|i| i as f32).collect();
    let table = Parameter::new("embedding", [tokens, width], values).expect("finite");
    Embedding::new(&table).expect("a table")
}

fn format(begin: Option<u32>, passages: Vec<Vec<u32>>) -> Result<Prompts, Error> {
    let tokenizer = Tokenizer::Characters(ALPHABET.to_vec());
    Prompts::new(tokenizer, embedding(4, 2), begin, passages)
}

#[test]
fn short_prompts_are_filled_up_and_the_public_token_is_left_out() {
    let f = format(Some(0), vec![vec![0, 3, 3, 3], vec![0, 1, 1, 1]]).expect("fits");
    assert_eq!((f.length(), f.public(), f.width()), (4, 1, 2));
    assert_eq!(f.begin(), Some(vec![0.0, 1.0]));
    let tokens = f.encode("ab").expect("known");
    assert_eq!(tokens, [0, 1, 2]);
    assert_eq!(f.padded(&tokens), [0, 1, 2, 3]);
    let x = f.input(&tokens).expect("fits");
    assert_eq!(x.shape(), Shape::image(2, 1, 3));
    // row by channel: tokens 1, 2, 3
    assert_eq!(x.values(), [2.0, 4.0, 6.0, 3.0, 5.0, 7.0]);
    let answer: Vec<f64> = (0..12).map(f64::from).collect();
    assert_eq!(f.logits_at(&answer, 1), Some(vec![1.0, 4.0, 7.0, 10.0]));
    assert_eq!(f.logits_at(&answer, 3), None);
    assert_eq!(f.logits_at(&answer[1..], 0), None);
    assert_eq!(f.tokenizer().decode(&[1, 3]).expect("known"), "aü");
    assert_eq!(f.tokenizer().show(0), "\"\\n\"");
    assert!(matches!(
        f.encode("abab"),
        Err(Error::TooLong { had: 5, limit: 4 })
    ));
    assert!(matches!(f.encode(""), Err(Error::Empty)));
    assert!(matches!(
        f.encode("ac"),
        Err(Error::Character {
            character: 'c',
            known: 4
        })
    ));
    assert!(matches!(f.input(&[1, 2]), Err(Error::Malformed { .. })));
    assert!(matches!(
        f.input(&[0, 9]),
        Err(Error::Token { token: 9, .. })
    ));
}

#[test]
fn descriptions_come_back_the_same_or_are_refused() {
    let mut bytes = 1i32.to_le_bytes().to_vec();
    for token in 0..4u8 {
        bytes.extend((0.5 + f32::from(token)).to_le_bytes());
        bytes.extend(1i32.to_le_bytes());
        bytes.push(b'a' + token);
    }
    let tokenizer = Scored::from_bytes(&bytes).expect("a tokenizer");
    assert_eq!(tokenizer.to_bytes(), bytes);
    let pieces = |begin, passage: Vec<u32>| {
        let tokenizer = Tokenizer::from(tokenizer.clone());
        Prompts::new(tokenizer, embedding(4, 2), begin, vec![passage])
    };
    for f in [
        pieces(Some(1), vec![1, 2, 3]),
        pieces(None, vec![3]),
        format(None, vec![vec![2; 5]; 3]),
    ] {
        let task = Task::Prompts(f.expect("fits"));
        assert_eq!(Task::from_bytes(&task.to_bytes()).expect("reads"), task);
    }
    assert!(
        matches!(pieces(Some(2), vec![2, 2]), Err(Error::Malformed { .. })),
        "not the tokenizer's"
    );
    assert!(matches!(
        format(Some(1), vec![vec![2, 2]]),
        Err(Error::Malformed { .. })
    ));
    assert!(
        matches!(format(Some(1), vec![vec![1]]), Err(Error::Malformed { .. })),
        "nothing after it"
    );
    assert!(matches!(
        format(None, vec![vec![1], vec![1, 2]]),
        Err(Error::Malformed { .. })
    ));
    assert!(matches!(format(None, vec![]), Err(Error::Malformed { .. })));
    assert!(matches!(
        format(None, vec![vec![4]]),
        Err(Error::Token { token: 4, .. })
    ));
    let few = Prompts::new(
        Tokenizer::Characters(vec!['a']),
        embedding(4, 2),
        None,
        vec![vec![0]],
    );
    assert!(matches!(
        few,
        Err(Error::Count {
            needed: 4,
            had: 1,
            ..
        })
    ));

    let good = Task::Prompts(format(None, vec![vec![2; 5]]).expect("fits"));
    let logits = Shape::image(4, 1, 5);
    assert!(good.check(Shape::image(2, 1, 5), logits).is_ok());
    assert!(good.check(Shape::image(2, 1, 4), logits).is_err());
}

#[test]
fn answers_at_some_positions_are_read_where_they_are() {
    let all = || format(Some(0), vec![vec![0, 3, 3, 3, 3]]).expect("fits");
    let f = all().with_positions(Some(vec![1, 3])).expect("within");
    assert_eq!((f.positions(), f.count()), (Some(&[1, 3][..]), 4));
    // four tokens, two positions
    let answer: Vec<f64> = (0..8).map(f64::from).collect();
    assert_eq!(f.logits_at(&answer, 1), Some(vec![0.0, 2.0, 4.0, 6.0]));
    assert_eq!(f.logits_at(&answer, 3), Some(vec![1.0, 3.0, 5.0, 7.0]));
    for absent in [0, 2, 4] {
        assert_eq!(f.logits_at(&answer, absent), None);
    }
    let task = Task::Prompts(f);
    let Ok(task::Answer::Tokens(tokens)) = task.decode(&answer) else {
        panic!("tokens are what follows");
    };
    assert_eq!(tokens.at(3).map(|s| s.best()), Some(3));
    assert_eq!(tokens.at(2), None);
    assert!(tokens.after(3).is_some(), "a prompt of three tokens");
    assert_eq!(tokens.after(4), None);
    let logits = |columns| Shape::image(4, 1, columns);
    assert!(task.check(Shape::image(2, 1, 4), logits(2)).is_ok());
    assert!(task.check(Shape::image(2, 1, 4), logits(4)).is_err());
    assert!(task.decode(&[0.0; 16]).is_err(), "of all positions");

    let bytes = task.to_bytes();
    assert_eq!(Task::from_bytes(&bytes).expect("reads"), task);
    assert_eq!(task.kind(), "prompts");
    // all of them are no choice
    let every = all()
        .with_positions(Some(vec![0, 1, 2, 3]))
        .expect("within");
    assert_eq!(every, all());
    for wrong in [vec![], vec![4], vec![1, 1], vec![2, 0]] {
        let refused = all().with_positions(Some(wrong.clone()));
        assert!(matches!(refused, Err(Error::Malformed { .. })), "{wrong:?}");
        // and in bytes: the list is what a description ends with
        let end = bytes.len() - 24;
        let mut other = bytes[..end].to_vec();
        let numbers = std::iter::once(wrong.len()).chain(wrong);
        numbers.for_each(|n| other.extend((n as u64).to_le_bytes()));
        assert!(Task::from_bytes(&other.into()).is_err());
    }
    let mut every = bytes[..bytes.len() - 24].to_vec();
    [4u64, 0, 1, 2, 3]
        .iter()
        .for_each(|n| every.extend(n.to_le_bytes()));
    assert!(
        Task::from_bytes(&every.into()).is_err(),
        "one way to say it"
    );
}
