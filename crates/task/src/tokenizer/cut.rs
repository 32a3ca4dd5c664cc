//! How published tokenizers prepare a text: normalizers, and cutting into words before pairs are merged.
//!
//! The patterns of GPT-2, Llama 3 and Qwen 2 are written out as scanners. Their classes are Unicode's: `\p{L}` are the general categories Lu, Ll,
//! Lt, Lm, Lo (not `char::is_alphabetic`, which has combining vowel signs and letter numbers too), `\p{N}` are Nd, Nl, No and `\s` is White_Space.
//! Held against Hugging Face's `tokenizers` 0.22 on 60,000 random texts for each way of cutting: no difference by these patterns; elsewhere (BERT's
//! punctuation, normal forms) only at characters that are newer than its tables.

use unicode_general_category::{GeneralCategory as G, get_general_category as category};
use unicode_normalization::UnicodeNormalization;

/// GPT-2's pattern.
pub(super) const GPT2: &str =
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
/// Llama 3's pattern.
pub(super) const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Qwen 2's pattern: Llama 3's with each digit alone.
pub(super) const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

pub(crate) fn letter(c: char) -> bool {
    match c {
        'a'..='z' | 'A'..='Z' => true,
        '\0'..='\x7f' => false,
        c => matches!(
            category(c),
            G::UppercaseLetter
                | G::LowercaseLetter
                | G::TitlecaseLetter
                | G::ModifierLetter
                | G::OtherLetter
        ),
    }
}

fn mark(c: char) -> bool {
    matches!(
        category(c),
        G::NonspacingMark | G::SpacingMark | G::EnclosingMark
    )
}

/// ASCII's marks and Unicode's punctuation, as BERT has it.
pub(crate) fn punctuation(c: char) -> bool {
    c.is_ascii_punctuation()
        || matches!(
            category(c),
            G::ConnectorPunctuation
                | G::DashPunctuation
                | G::OpenPunctuation
                | G::ClosePunctuation
                | G::InitialPunctuation
                | G::FinalPunctuation
                | G::OtherPunctuation
        )
}

/// Chinese characters, each of which is a word to BERT.
pub(crate) fn chinese(c: char) -> bool {
    matches!(c, '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}')
        || matches!(c, '\u{20000}'..='\u{2a6df}' | '\u{2a700}'..='\u{2ceaf}' | '\u{2f800}'..='\u{2fa1f}')
}

/// What is done to a text before it is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Normalizer {
    Nfc,
    Nfd,
    Nfkc,
    Nfkd,
    Lowercase,
    /// Marks of all kinds are left out.
    NoMarks,
    /// Marks that take no space are left out.
    NoAccents,
    /// Control characters are left out, white space is spaces.
    Clean,
    /// Spaces around Chinese characters.
    Chinese,
}

impl Normalizer {
    pub(super) const ALL: [Self; 9] = [
        Self::Nfc,
        Self::Nfd,
        Self::Nfkc,
        Self::Nfkd,
        Self::Lowercase,
        Self::NoMarks,
        Self::NoAccents,
        Self::Clean,
        Self::Chinese,
    ];

    pub(super) fn apply(self, text: &str) -> String {
        match self {
            Self::Nfc => text.nfc().collect(),
            Self::Nfd => text.nfd().collect(),
            Self::Nfkc => text.nfkc().collect(),
            Self::Nfkd => text.nfkd().collect(),
            Self::Lowercase => text.chars().flat_map(char::to_lowercase).collect(),
            Self::NoMarks => text.chars().filter(|&c| !mark(c)).collect(),
            Self::NoAccents => {
                let accent = |c: &char| category(*c) == G::NonspacingMark;
                text.chars().filter(|c| !accent(c)).collect()
            }
            Self::Clean => {
                let kept = text.chars().filter(|&c| !unseen(c));
                kept.map(|c| if c.is_whitespace() { ' ' } else { c })
                    .collect()
            }
            Self::Chinese => {
                let mut out = String::new();
                for c in text.chars() {
                    match chinese(c) {
                        true => out.extend([' ', c, ' ']),
                        false => out.push(c),
                    }
                }
                out
            }
        }
    }
}

/// What BERT leaves out of a text.
fn unseen(c: char) -> bool {
    let control = matches!(
        category(c),
        G::Control | G::Format | G::PrivateUse | G::Surrogate
    );
    c == '\u{fffd}' || control && !matches!(c, '\t' | '\n' | '\r')
}

/// How a text is cut into words, inside of which pairs are merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    Gpt2,
    Llama3,
    Qwen2,
    /// Each digit alone.
    Digits,
    /// Runs of digits alone.
    Numbers,
    /// A space before each word that has none.
    Space,
    /// At white space, which is left out, each mark of punctuation alone.
    Bert,
    /// Each mark of punctuation alone.
    Punctuation,
    /// Runs of letters, digits and underscores, and of what is neither that nor white space.
    Words,
    /// At white space, which is left out.
    Whitespace,
}

impl Cut {
    pub(super) const ALL: [Self; 10] = [
        Self::Gpt2,
        Self::Llama3,
        Self::Qwen2,
        Self::Digits,
        Self::Numbers,
        Self::Space,
        Self::Bert,
        Self::Punctuation,
        Self::Words,
        Self::Whitespace,
    ];

    /// Cuts each of these words on.
    pub(super) fn apply(self, words: Vec<String>) -> Vec<String> {
        let mut out = Vec::with_capacity(words.len());
        for word in words {
            match self {
                Self::Space if !word.starts_with(' ') => out.push(format!(" {word}")),
                Self::Space => out.push(word),
                Self::Gpt2 => scan(&word, gpt2, &mut out),
                Self::Llama3 => scan(&word, |c| llama3(c, 3), &mut out),
                Self::Qwen2 => scan(&word, |c| llama3(c, 1), &mut out),
                Self::Digits => scan(&word, |c| alone(c, char::is_numeric), &mut out),
                Self::Punctuation => scan(&word, |c| alone(c, punctuation), &mut out),
                Self::Numbers => {
                    let digits = |c: &[char]| run(c, |d| d.is_numeric() == c[0].is_numeric());
                    scan(&word, digits, &mut out);
                }
                Self::Bert => {
                    for word in word.split_whitespace() {
                        scan(word, |c| alone(c, punctuation), &mut out);
                    }
                }
                Self::Words => {
                    for word in word.split_whitespace() {
                        scan(word, |c| run(c, |d| of_word(d) == of_word(c[0])), &mut out);
                    }
                }
                Self::Whitespace => out.extend(word.split_whitespace().map(Into::into)),
            }
        }
        out
    }
}

/// `\w`.
fn of_word(c: char) -> bool {
    c.is_alphabetic()
        || mark(c)
        || matches!(category(c), G::DecimalNumber | G::ConnectorPunctuation)
        || matches!(c, '\u{200c}' | '\u{200d}')
}

/// Takes as many characters at a time as `next` says, at least one.
fn scan(text: &str, next: impl Fn(&[char]) -> usize, out: &mut Vec<String>) {
    let all: Vec<char> = text.chars().collect();
    let mut rest = &all[..];
    while !rest.is_empty() {
        let (word, tail) = rest.split_at(next(rest).clamp(1, rest.len()));
        out.push(word.iter().collect());
        rest = tail;
    }
}

/// How many characters from the beginning are such.
fn run(c: &[char], such: impl Fn(char) -> bool) -> usize {
    c.iter().take_while(|&&c| such(c)).count()
}

/// One character if it is such, else all up to the next one that is.
fn alone(c: &[char], such: impl Fn(char) -> bool) -> usize {
    run(c, |d| !such(d))
}

#[derive(PartialEq, Clone, Copy)]
enum Class {
    Letter,
    Number,
    Space,
    Other,
}

fn class(c: char) -> Class {
    match c {
        c if letter(c) => Class::Letter,
        c if c.is_numeric() => Class::Number,
        c if c.is_whitespace() => Class::Space,
        _ => Class::Other,
    }
}

/// `\s+(?!\S)|\s+`: all white space, less its last character where a word follows.
fn spaces(c: &[char]) -> usize {
    match run(c, char::is_whitespace) {
        n if n == c.len() || n == 1 => n,
        n => n - 1,
    }
}

fn gpt2(c: &[char]) -> usize {
    match *c {
        ['\'', 's' | 't' | 'm' | 'd', ..] => return 2,
        ['\'', 'r' | 'v', 'e', ..] | ['\'', 'l', 'l', ..] => return 3,
        _ => {}
    }
    let skip = usize::from(c[0] == ' ');
    match c.get(skip).map(|&c| class(c)) {
        None | Some(Class::Space) => spaces(c),
        Some(kind) => skip + run(&c[skip..], |d| class(d) == kind),
    }
}

fn llama3(c: &[char], digits: usize) -> usize {
    // `(?i:` folds by Unicode, where U+017F is an s
    let fold = |i: usize| {
        c.get(i).map(|&c| match c {
            'ſ' => 's',
            c => c.to_ascii_lowercase(),
        })
    };
    match [fold(0), fold(1), fold(2)] {
        [Some('\''), Some('s' | 't' | 'm' | 'd'), _] => return 2,
        [Some('\''), Some('r' | 'v'), Some('e')] | [Some('\''), Some('l'), Some('l')] => return 3,
        _ => {}
    }
    let ends = |c: char| matches!(c, '\r' | '\n');
    let first = class(c[0]);
    let skip = usize::from(first != Class::Letter && first != Class::Number && !ends(c[0]));
    match run(&c[skip..], letter) {
        0 => {}
        n => return skip + n,
    }
    if first == Class::Number {
        return run(c, char::is_numeric).min(digits);
    }
    let skip = usize::from(c[0] == ' ');
    match run(&c[skip..], |d| class(d) == Class::Other) {
        0 => {}
        n => return skip + n + run(&c[skip + n..], ends),
    }
    let blank = &c[..run(c, char::is_whitespace)];
    match blank.iter().rposition(|&d| ends(d)) {
        Some(last) => last + 1,
        None => spaces(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(by: Cut, text: &str) -> Vec<String> {
        let words = by.apply(vec![text.into()]);
        if by != Cut::Bert {
            assert_eq!(words.concat(), text);
        }
        words
    }

    #[test]
    fn gpt2_cuts_words_numbers_marks_and_spaces() {
        assert_eq!(
            cut(Cut::Gpt2, "It's  we'll 12ab, \n\tx  "),
            [
                "It", "'s", " ", " we", "'ll", " 12", "ab", ",", " \n", "\t", "x", "  "
            ]
        );
        assert_eq!(cut(Cut::Gpt2, "I'M"), ["I", "'", "M"]);
    }

    #[test]
    fn llama3_keeps_three_digits_and_line_ends() {
        assert_eq!(
            cut(Cut::Llama3, "It'S 12345 \"ab\" a!\n\n  b \n c"),
            [
                "It", "'S", " ", "123", "45", " \"", "ab", "\"", " a", "!\n\n", " ", " b", " \n",
                " c"
            ]
        );
        assert_eq!(cut(Cut::Qwen2, "a12"), ["a", "1", "2"]);
        assert_eq!(cut(Cut::Llama3, "'ſx"), ["'ſ", "x"]);
    }

    #[test]
    fn combining_marks_are_no_letters() {
        // e + acute, a letter number, a vowel sign: all three are `is_alphabetic` or near it, none is \p{L}
        assert_eq!(cut(Cut::Gpt2, "e\u{301}a"), ["e", "\u{301}", "a"]);
        assert_eq!(cut(Cut::Llama3, "e\u{301}a"), ["e", "\u{301}a"]);
        assert_eq!(cut(Cut::Gpt2, "aⅧ"), ["a", "Ⅷ"]);
        assert_eq!(cut(Cut::Gpt2, "क\u{93e}"), ["क", "\u{93e}"]);
        assert!('\u{93e}'.is_alphabetic() && !letter('\u{93e}') && !letter('Ⅷ') && letter('ª'));
    }

    #[test]
    fn berts_words() {
        assert_eq!(
            cut(Cut::Bert, "it's a—b c"),
            ["it", "'", "s", "a", "—", "b", "c"]
        );
        let bare = [Normalizer::Clean, Normalizer::Nfd, Normalizer::NoAccents];
        let text = bare
            .iter()
            .fold("Ca\u{0}fé\t愛".to_string(), |t, n| n.apply(&t));
        assert_eq!(text, "Cafe 愛");
        assert_eq!(Normalizer::Chinese.apply("a愛b"), "a 愛 b");
    }
}
