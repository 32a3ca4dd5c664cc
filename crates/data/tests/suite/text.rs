//! Text as tokens, and windows of it.

use crate::Folder;
use data::{Error, Text, Windows};

fn drawn(w: &Windows, at: (u64, u64, u64)) -> (Vec<u32>, Vec<usize>) {
    let (mut tokens, mut next) = (Vec::new(), Vec::new());
    w.draw(at, &mut tokens, &mut next);
    (tokens, next)
}

#[test]
fn characters_are_numbered_by_their_code_points() {
    let folder = Folder::new("characters");
    let path = folder.0.join("text.txt");
    std::fs::write(&path, "née à la mer").unwrap();
    let (text, alphabet) = Text::characters(&path).unwrap();
    assert_eq!(alphabet, [' ', 'a', 'e', 'l', 'm', 'n', 'r', 'à', 'é']);
    assert_eq!(text.vocabulary(), 9);
    let back: String = text
        .tokens()
        .iter()
        .map(|&t| alphabet[t as usize])
        .collect();
    assert_eq!(back, "née à la mer");
    std::fs::write(&path, [0x61, 0xff]).unwrap();
    let e = Text::characters(&path).unwrap_err();
    assert!(matches!(e, Error::Content { .. }), "{e}");
}

#[test]
fn binary_tokens_are_checked() {
    let folder = Folder::new("binary");
    let path = folder.0.join("text.tokens");
    std::fs::write(&path, [1, 0, 255, 1, 3, 0]).unwrap();
    assert_eq!(Text::binary(&path, 512).unwrap().tokens(), [1, 511, 3]);
    let e = Text::binary(&path, 511).unwrap_err().to_string();
    assert!(e.contains("token 1 of the text is 511"), "{e}");
    std::fs::write(&path, [1, 0, 2]).unwrap();
    let e = Text::binary(&path, 512).unwrap_err();
    assert!(e.to_string().contains("truncated"), "{e}");
}

#[test]
fn large_vocabularies_have_tokens_of_four_bytes() {
    let folder = Folder::new("wide");
    let path = folder.0.join("text.tokens");
    let tokens = [1, 65_535, 65_536, 151_642];
    for (vocabulary, bytes) in [(151_643, 16), (65_537, 12), (65_536, 4)] {
        let own: Vec<u32> = tokens.into_iter().filter(|&t| t < vocabulary).collect();
        let made = Text::to_bytes(&own, vocabulary as usize);
        assert_eq!(made.len(), bytes, "{vocabulary}");
        std::fs::write(&path, &made).unwrap();
        let text = Text::binary(&path, vocabulary as usize).unwrap();
        assert_eq!(text.tokens(), own, "{vocabulary}");
    }
    std::fs::write(&path, [0, 0, 1, 0, 2, 0]).unwrap();
    let e = Text::binary(&path, 151_643).unwrap_err();
    assert!(e.to_string().contains("truncated"), "{e}");
    // a file of two bytes that is read for a larger vocabulary shows tokens that it doesn't have
    std::fs::write(&path, [7, 0, 8, 0]).unwrap();
    let e = Text::binary(&path, 151_643).unwrap_err().to_string();
    assert!(e.contains("token 0 of the text is 524295"), "{e}");
    // and one of four bytes that is read for a smaller one, every second token 0
    let wide: Vec<u8> = (0..8u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(&path, wide).unwrap();
    let e = Text::binary(&path, 512).unwrap_err().to_string();
    assert!(e.contains("every second token is 0"), "{e}");
    std::fs::write(&path, [0; 32]).unwrap();
    assert_eq!(Text::binary(&path, 512).unwrap().tokens(), [0; 16]);
}

#[test]
fn windows_are_pieces_of_their_part_with_what_follows() {
    let text = Text::new((0..1000).map(|i| i % 251).collect(), 251).unwrap();
    let (train, held_out) = text.split(101).unwrap();
    assert_eq!((train.tokens().len(), held_out.tokens().len()), (899, 101));
    assert_eq!(held_out.tokens()[0], 899 % 251);
    for refused in [0, 1000] {
        assert!(text.split(refused).is_err());
    }
    let w = Windows::new(held_out, 10, None).unwrap();
    assert_eq!(w.len(), 10);
    let (mut tokens, mut next) = (Vec::new(), Vec::new());
    w.window(9, &mut tokens, &mut next);
    assert_eq!(tokens[0], 989 % 251);
    assert_eq!(next[9], 999 % 251);

    let w = Windows::new(train.clone(), 10, None).unwrap();
    let mut starts = std::collections::HashSet::new();
    for k in 0..200 {
        let (tokens, next) = drawn(&w, (1, 0, k));
        for (t, n) in tokens.iter().zip(&next) {
            assert_eq!((*t as usize + 1) % 251, *n);
        }
        starts.insert(tokens[0]);
    }
    assert!(starts.len() > 100, "{} different beginnings", starts.len());
    assert_eq!(drawn(&w, (1, 2, 3)), drawn(&w, (1, 2, 3)));
    for other in [(2, 2, 3), (1, 3, 3), (1, 2, 4)] {
        assert_ne!(drawn(&w, (1, 2, 3)), drawn(&w, other));
    }
    assert!(
        Windows::new(train.clone(), 899, None).is_err(),
        "nothing follows"
    );
    assert!(Windows::new(train, 898, None).is_ok());
}

#[test]
fn windows_may_begin_with_one_token_only() {
    let text = Text::new(vec![1, 5, 6, 1, 7, 8, 9, 1, 2], 10).unwrap();
    let w = Windows::new(text.clone(), 3, Some(1)).unwrap();
    assert_eq!(w.len(), 2, "the third beginning has no room");
    let (mut tokens, mut next) = (Vec::new(), Vec::new());
    w.window(1, &mut tokens, &mut next);
    assert_eq!((tokens, next), (vec![1, 7, 8], vec![7, 8, 9]));
    for k in 0..20 {
        assert_eq!(drawn(&w, (3, 0, k)).0[0], 1);
    }
    let e = Windows::new(text, 3, Some(4)).unwrap_err().to_string();
    assert!(e.contains("begins with token 4"), "{e}");
}
