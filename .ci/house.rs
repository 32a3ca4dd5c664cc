//! Counts what the house keeps small: lines, circles of imports, long functions, public boolean parameters, per crate.
//!
//! `house` compares with `.ci/house.txt` and fails where a number grew; `house --write` writes the numbers of now. It knows only as much
//! Rust as that takes and needs no package, so that a machine with nothing but Rust runs it (`.ci/check`). Tests are not counted.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Functions of more lines are long, unless a line `// long: REASON` stands above them.
const LONG: usize = 150;
const COUNTS: usize = 5;
const HEAD: &str = "# crate      lines  files in circles  long functions  public boolean parameters  texts of commands";
const NAMES: [&str; COUNTS] = [
    "lines",
    "files in circles",
    "long functions",
    "public boolean parameters",
    "texts that speak of commands",
];
/// Who may speak of commands and flags.
const DOORS: [&str; 5] = ["cli", "cli-train", "fuzz", "campaign", "serve"];

/// A word, a sign or a string, with the line it stands on.
#[derive(Debug, Clone, PartialEq)]
struct Token<'a> {
    text: &'a str,
    line: usize,
}

/// The tokens of a source without comments and characters.
fn tokens(source: &str) -> Vec<Token<'_>> {
    let bytes = source.as_bytes();
    let (mut out, mut at, mut line) = (Vec::new(), 0, 1);
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b >= 0x80;
    while at < bytes.len() {
        let from = at;
        match bytes[at] {
            b'/' if bytes.get(at + 1) == Some(&b'/') => {
                while at < bytes.len() && bytes[at] != b'\n' {
                    at += 1;
                }
            }
            b'/' if bytes.get(at + 1) == Some(&b'*') => {
                at = source[at..].find("*/").map_or(bytes.len(), |n| at + n + 2);
            }
            b'"' => {
                at = end_of_string(bytes, at + 1);
                out.push(Token {
                    text: &source[from..at],
                    line,
                });
            }
            b'\'' => at = end_of_quote(source, at),
            b'r' | b'b' if raw_string(&source[at..]).is_some() => {
                at += raw_string(&source[at..]).unwrap_or(1);
                out.push(Token {
                    text: &source[from..at],
                    line,
                });
            }
            b if word(b) => {
                while at < bytes.len() && word(bytes[at]) {
                    at += 1;
                }
                out.push(Token {
                    text: &source[from..at],
                    line,
                });
            }
            b if b.is_ascii_whitespace() => at += 1,
            b':' if bytes.get(at + 1) == Some(&b':') => {
                at += 2;
                out.push(Token { text: "::", line });
            }
            _ => {
                at += 1;
                out.push(Token {
                    text: &source[from..at],
                    line,
                });
            }
        }
        line += bytes[from..at].iter().filter(|&&b| b == b'\n').count();
    }
    out
}

fn end_of_string(bytes: &[u8], mut at: usize) -> usize {
    while at < bytes.len() && bytes[at] != b'"' {
        at += 1 + usize::from(bytes[at] == b'\\');
    }
    (at + 1).min(bytes.len())
}

/// Behind a character, or behind the sign of a lifetime.
fn end_of_quote(source: &str, at: usize) -> usize {
    let rest = &source[at + 1..];
    let mut characters = rest.char_indices();
    match (characters.next(), characters.next()) {
        (Some((_, '\\')), Some((second, c))) => {
            let behind = second + c.len_utf8();
            rest[behind..]
                .find('\'')
                .map_or(source.len(), |n| at + 2 + behind + n)
        }
        (Some(_), Some((second, '\''))) => at + 2 + second,
        _ => at + 1,
    }
}

/// The length of a raw string (or raw byte string) that begins here.
fn raw_string(source: &str) -> Option<usize> {
    let rest = source
        .strip_prefix("br")
        .or_else(|| source.strip_prefix('r'))?;
    let hashes = rest.bytes().take_while(|&b| b == b'#').count();
    let body = rest[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let head = source.len() - body.len();
    Some(
        body.find(&end)
            .map_or(source.len(), |n| head + n + end.len()),
    )
}

/// A source with the modules of tests emptied, and how many lines remain.
fn without_tests(source: &str) -> (String, usize) {
    let (mut out, mut count) = (String::new(), 0);
    let mut lines = source.lines().peekable();
    while let Some(line) = lines.next() {
        let module = |l: &str| l.trim_start().starts_with("mod ") || l.contains(" mod ");
        if line.trim() == "#[cfg(test)]" && lines.peek().is_some_and(|l| module(l)) {
            out.push('\n');
            let head = lines.next().unwrap_or_default();
            out.push('\n');
            let end = format!("{}}}", &line[..line.len() - line.trim_start().len()]);
            while !head.ends_with(';') {
                let Some(inner) = lines.next() else { break };
                out.push('\n');
                if inner == end {
                    break;
                }
            }
            continue;
        }
        count += 1;
        out.push_str(line);
        out.push('\n');
    }
    (out, count)
}

/// The index behind the bracket that closes the one at `open`.
fn behind(tokens: &[Token<'_>], open: usize) -> usize {
    let mut depth = 0usize;
    for (i, t) in tokens.iter().enumerate().skip(open) {
        match t.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return i + 1;
        }
    }
    tokens.len()
}

struct Function {
    name: String,
    line: usize,
    lines: usize,
    /// Names of boolean parameters, where the function is public.
    switches: Vec<String>,
}

fn functions(source: &str) -> Vec<Function> {
    let all = tokens(source);
    let lines: Vec<&str> = source.lines().collect();
    let mut out = Vec::new();
    // where public traits end: their functions are public
    let mut public_until = 0;
    for i in 0..all.len() {
        let text = |k: usize| all.get(k).map_or("", |t| t.text);
        if text(i) == "trait" && i > 0 && text(i - 1) == "pub" {
            let open = (i..all.len()).find(|&k| text(k) == "{").unwrap_or(i);
            public_until = behind(&all, open);
        }
        if text(i) != "fn" || text(i + 1) == "(" {
            continue;
        }
        let mut k = i + 2;
        let mut angle = 0i32;
        while k < all.len() && !(text(k) == "(" && angle == 0) {
            angle += match (text(k), text(k - 1)) {
                ("<", _) => 1,
                (">", before) if before != "-" => -1,
                _ => 0,
            };
            k += 1;
        }
        let end = behind(&all, k);
        let mut body = end;
        while body < all.len() && !matches!(text(body), "{" | ";") {
            body = if text(body) == "[" {
                behind(&all, body)
            } else {
                body + 1
            };
        }
        let last = if text(body) == "{" {
            behind(&all, body) - 1
        } else {
            body
        };
        let mut before = i;
        while before > 0 && matches!(text(before - 1), "const" | "unsafe" | "async" | "extern") {
            before -= 1;
        }
        let public = i < public_until || (before > 0 && text(before - 1) == "pub");
        let (mut depth, mut switches) = (0, Vec::new());
        for p in k..end.saturating_sub(2) {
            depth += match text(p) {
                "(" => 1,
                ")" => -1,
                _ => 0,
            };
            let ends = matches!(text(p + 3), "," | ")");
            if public && depth == 1 && text(p + 1) == ":" && text(p + 2) == "bool" && ends {
                switches.push(text(p).to_owned());
            }
        }
        let line = all[i].line;
        let mut above = line - 1;
        let mut reason = false;
        while above > 0 && lines[above - 1].trim_start().starts_with(['/', '#']) {
            reason |= lines[above - 1].trim_start().starts_with("// long: ");
            above -= 1;
        }
        let length = all.get(last).map_or(0, |t| t.line + 1 - line);
        out.push(Function {
            name: text(i + 1).into(),
            line,
            lines: if reason { 0 } else { length },
            switches,
        });
    }
    out
}

/// A hash's domain, no text: with another one, a key's record of what was shared would not be found.
const DOMAIN: &str = "\"polyveil releases.json: name of a secret key\"";

/// Whether a string tells its reader to run a command or to give a flag.
fn speaks_of_commands(text: &str) -> bool {
    let lower = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase());
    let behind = |mark: &str, is: &dyn Fn(&str) -> bool| {
        text.match_indices(mark)
            .any(|(i, m)| is(&text[i + m.len()..]))
    };
    text.contains('"')
        && text != DOMAIN
        && (behind("polyveil ", &|rest| lower(rest.chars().next()))
            || behind("polyveil-train ", &|rest| lower(rest.chars().next()))
            || behind("--", &|rest| lower(rest.chars().next())))
}

/// A crate's modules by path ("a::b"; the root is "").
type Modules = BTreeMap<String, Module>;

#[derive(Default)]
struct Module {
    /// Paths from the crate's root that it names.
    paths: BTreeSet<Vec<String>>,
    /// What it passes on (`pub use`) under which name.
    passes: BTreeMap<String, Vec<String>>,
}

/// Reads a tree of imports from `at` on; the index behind it.
fn tree(
    all: &[Token<'_>],
    mut at: usize,
    prefix: &[String],
    out: &mut Vec<(String, Vec<String>)>,
) -> usize {
    let text = |k: usize| all.get(k).map_or("", |t| t.text);
    let mut path = prefix.to_vec();
    loop {
        if text(at) == "{" {
            let end = behind(all, at);
            at += 1;
            while at + 1 < end {
                at = tree(all, at, &path, out);
                at += usize::from(text(at) == ",");
            }
            return end;
        }
        path.push(text(at).to_owned());
        at += 1;
        if text(at) != "::" {
            break;
        }
        at += 1;
    }
    let mut name = path.last().cloned().unwrap_or_default();
    if name == "self" {
        path.pop();
        name = path.last().cloned().unwrap_or_default();
    }
    if text(at) == "as" {
        name = text(at + 1).to_owned();
        at += 2;
    }
    out.push((name, path));
    at
}

/// The path from the crate's root; None for one that leads out of the crate.
fn absolute(path: &[String], own: &str, children: &BTreeSet<String>) -> Option<Vec<String>> {
    let here: Vec<String> = own
        .split("::")
        .filter(|s| !s.is_empty())
        .map(str::to_owned)
        .collect();
    match path.first()?.as_str() {
        "crate" => Some(path[1..].to_vec()),
        "self" => Some([&here, &path[1..]].concat()),
        "super" => {
            let up = path.iter().take_while(|s| *s == "super").count();
            let base = &here[..here.len().saturating_sub(up)];
            Some([base, &path[up..]].concat())
        }
        first if children.contains(first) => Some([&here, path].concat()),
        _ => None,
    }
}

fn module(source: &str, own: &str) -> Module {
    let all = tokens(source);
    let text = |k: usize| all.get(k).map_or("", |t| t.text);
    let declared = (0..all.len()).filter(|&i| text(i) == "mod" && text(i + 2) == ";");
    let children: BTreeSet<String> = declared.map(|i| text(i + 1).to_owned()).collect();
    let mut out = Module::default();
    let mut i = 0;
    while i < all.len() {
        if text(i) == "use" && !matches!(text(i + 1), "<") {
            let mut found = Vec::new();
            let end = tree(&all, i + 1, &[], &mut found);
            let passed = i > 0 && matches!(text(i - 1), "pub" | ")");
            for (name, path) in found {
                let Some(path) = absolute(&path, own, &children) else {
                    continue;
                };
                if passed {
                    out.passes.insert(name, path);
                } else {
                    out.paths.insert(path);
                }
            }
            i = end.max(i + 1);
            continue;
        }
        let begins = i == 0 || !matches!(text(i - 1), "::" | ".");
        if begins
            && text(i + 1) == "::"
            && (matches!(text(i), "crate" | "super") || children.contains(text(i)))
        {
            let mut path = vec![text(i).to_owned()];
            let mut k = i + 1;
            while text(k) == "::" {
                path.push(text(k + 1).to_owned());
                k += 2;
            }
            out.paths.extend(absolute(&path, own, &children));
            i = k;
            continue;
        }
        i += 1;
    }
    out
}

/// The module that a path leads to, through what modules pass on.
fn leads_to(modules: &Modules, path: &[String], depth: usize) -> String {
    let mut at = String::new();
    for (i, part) in path.iter().enumerate() {
        let next = if at.is_empty() {
            part.clone()
        } else {
            format!("{at}::{part}")
        };
        if modules.contains_key(&next) {
            at = next;
            continue;
        }
        if let Some(target) = modules.get(&at).and_then(|m| m.passes.get(part))
            && depth < 8
        {
            return leads_to(modules, &[target, &path[i + 1..]].concat(), depth + 1);
        }
        break;
    }
    at
}

/// Groups of modules that reach each other.
fn circles(modules: &Modules) -> Vec<Vec<String>> {
    let edges: BTreeMap<&String, BTreeSet<String>> = modules
        .iter()
        .map(|(own, m)| {
            let reached = m.paths.iter().map(|p| leads_to(modules, p, 0));
            (own, reached.filter(|to| to != own).collect())
        })
        .collect();
    let reach = |from: &String| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from.clone()]);
        while let Some(at) = next.pop() {
            for to in edges.get(&at).into_iter().flatten() {
                if seen.insert(to.clone()) {
                    next.push(to.clone());
                }
            }
        }
        seen
    };
    let reached: BTreeMap<&String, BTreeSet<String>> =
        modules.keys().map(|m| (m, reach(m))).collect();
    let mut out: Vec<Vec<String>> = Vec::new();
    for (own, to) in &reached {
        if to.contains(*own) && !out.iter().any(|c| c.contains(own)) {
            let circle = to.iter().filter(|t| reached[*t].contains(*own));
            out.push(circle.cloned().collect());
        }
    }
    out
}

fn sources(folder: &Path, out: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_dir() && name != "tests" {
            sources(&path, out)?;
        } else if name.ends_with(".rs") && name != "tests.rs" && !name.ends_with("_tests.rs") {
            out.push(path);
        }
    }
    out.sort();
    Ok(())
}

/// The module's path of a file below `src`.
fn name_of(file: &Path) -> String {
    let mut parts: Vec<String> = file
        .with_extension("")
        .iter()
        .map(|p| p.to_string_lossy().into_owned())
        .collect();
    if parts
        .last()
        .is_some_and(|l| l == "mod" || l == "lib" || l == "main")
    {
        parts.pop();
    }
    parts.join("::")
}

/// A crate's numbers; `say` is told what they are made of.
fn count(name: &str, src: &Path, say: &mut dyn FnMut(String)) -> std::io::Result<[usize; COUNTS]> {
    let mut files = Vec::new();
    sources(src, &mut files)?;
    let mut modules = Modules::new();
    let [mut lines, mut long, mut switches, mut commands] = [0; 4];
    for file in &files {
        let (source, count) = without_tests(&fs::read_to_string(file)?);
        lines += count;
        for f in functions(&source) {
            let place = format!("{}:{} {}", file.display(), f.line, f.name);
            if f.lines > LONG {
                long += 1;
                say(format!("{place}: {} lines", f.lines));
            }
            switches += f.switches.len();
            if !f.switches.is_empty() {
                say(format!("{place}: {} (bool)", f.switches.join(", ")));
            }
        }
        for t in tokens(&source)
            .iter()
            .filter(|t| !DOORS.contains(&name) && speaks_of_commands(t.text))
        {
            commands += 1;
            say(format!(
                "{}:{}: speaks of commands: {}",
                file.display(),
                t.line,
                t.text
            ));
        }
        let own = name_of(file.strip_prefix(src).unwrap_or(file));
        let (Module { paths, passes }, into) =
            (module(&source, &own), modules.entry(own).or_default());
        into.paths.extend(paths);
        into.passes.extend(passes);
    }
    let circles = circles(&modules);
    for circle in &circles {
        say(format!(
            "{name}: a circle of {}: {}",
            circle.len(),
            circle.join(", ")
        ));
    }
    Ok([
        lines,
        circles.iter().map(Vec::len).sum(),
        long,
        switches,
        commands,
    ])
}

fn row(name: &str, n: &[usize; COUNTS]) -> String {
    format!(
        "{name:10} {:7} {:17} {:15} {:26} {:18}\n",
        n[0], n[1], n[2], n[3], n[4]
    )
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let write = std::env::args().any(|a| a == "--write");
    let mut crates = Vec::new();
    for entry in fs::read_dir("crates")? {
        crates.push(entry?.path());
    }
    crates.sort();
    let mut table = format!("{HEAD}\n");
    let mut now = Vec::new();
    let mut sum = [0; COUNTS];
    for path in crates.iter().filter(|p| p.join("src").is_dir()) {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let numbers = count(&name, &path.join("src"), &mut |line| println!("{line}"))?;
        for (s, n) in sum.iter_mut().zip(numbers) {
            *s += n;
        }
        table += &row(&name, &numbers);
        now.push((name, numbers));
    }
    print!("{table}{}", row("total", &sum));
    let committed = Path::new(".ci/house.txt");
    if write {
        return Ok(fs::write(committed, table)?);
    }
    let before = fs::read_to_string(committed)?;
    let mut worse = Vec::new();
    for (name, numbers) in &now {
        let known = before
            .lines()
            .find(|l| l.split_whitespace().next() == Some(name));
        let known: Vec<usize> = known
            .into_iter()
            .flat_map(|l| l.split_whitespace().skip(1))
            .flat_map(str::parse)
            .collect();
        for (i, what) in NAMES.iter().enumerate() {
            // a crate's lines, the first number, may grow by a mend or two before the file is written anew
            let room = |k: usize| if i == 0 { k / 200 + 20 } else { 0 };
            match known.get(i) {
                Some(k) if numbers[i] <= k + room(*k) => {}
                Some(k) => worse.push(format!("{name}: {} {what}, {k} were committed", numbers[i])),
                None => worse.push(format!("{name}: no {what} in .ci/house.txt")),
            }
        }
    }
    if worse.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{}\nmend it, or, where there is a reason, commit what `.ci/check --write` writes",
        worse.join("\n")
    )
    .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_comments_and_lifetimes_are_no_code() {
        let source =
            "fn a<'a>(x: &'a str) -> char { /* } */ let _ = r#\"}\"\"#; \"}\\\"\"; '}' } // }";
        let found = functions(source);
        assert_eq!(
            (found.len(), found[0].name.as_str(), found[0].lines),
            (1, "a", 1)
        );
        let braces = tokens(source).iter().filter(|t| t.text == "}").count();
        assert_eq!(braces, 1);
    }

    #[test]
    fn public_switches_and_long_functions_are_found() {
        let body = "    work();\n".repeat(150);
        let source = format!(
            "pub fn a(x: bool, f: impl Fn(u8) -> bool) {{\n{body}}}\nfn b(y: bool) {{}}\npub trait T {{ fn c(&self, z: bool); }}\n// long: a table\npub fn d() {{\n{body}}}\n"
        );
        let found = functions(&source);
        let switches: Vec<_> = found.iter().flat_map(|f| f.switches.clone()).collect();
        assert_eq!(switches, ["x", "z"]);
        let long: Vec<_> = found
            .iter()
            .filter(|f| f.lines > LONG)
            .map(|f| f.name.as_str())
            .collect();
        assert_eq!(long, ["a"]);
    }

    #[test]
    fn circles_go_through_what_is_passed_on() {
        let source = |s: &str, own: &str| (own.to_owned(), module(s, own));
        let modules: Modules = [
            source("mod a; mod b; mod c; pub use b::B;", ""),
            source("use crate::B;", "a"),
            source("use super::a::{self, A}; pub struct B;", "b"),
            source("use crate::{a::A, B};", "c"),
        ]
        .into();
        assert_eq!(circles(&modules), [["a", "b"]]);
    }

    #[test]
    fn texts_of_commands_are_told_from_others() {
        let speaks = |t: &str| speaks_of_commands(t);
        assert!(speaks("\"give `--data`\"") && speaks("\"run polyveil keygen\""));
        assert!(!speaks("\"polyveil-train {}\"") && !speaks("\"a -- b, polyveil\""));
    }

    #[test]
    fn tests_are_not_counted() {
        let source = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\nfn c() {}\n";
        let (kept, count) = without_tests(source);
        assert_eq!((count, functions(&kept).len()), (2, 2));
    }
}
