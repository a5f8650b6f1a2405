//! Rules about the sources that the compiler does not hold: which module may use which, who may
//! print, write files or look at the clock, and how long a file may be.
//!
//! Each rule is a function from sources to complaints, and each has a test that shows it a source
//! it must complain about: a check that cannot fail checks nothing.

use std::ops::Range;
use std::path::{Path, PathBuf};

/// The order of DESIGN.md. Each module uses only what stands to its left.
const ORDER: &str = "error fsx seeds clock | config | source simulate | quality | panel | \
    features | tensors | nn | train tune baseline | eval explain campaign | bundle | \
    onnx torch mlflow | registry track | score serve | monitor | report | cli";

/// The modules of the first group hold the tools that all others use, and use each other.
const TOOLS: &str = "error fsx seeds clock";

const LINES_MAX: usize = 500;
const LINES_MEDIAN_BELOW: usize = 250;

/// One file of `src`.
struct Source {
    /// Relative to `src`, with slashes.
    path: String,
    lines: usize,
    /// The text with comments and literals blanked out; every line keeps its number.
    code: String,
    /// Byte ranges of `code` that only tests compile.
    tests: Vec<Range<usize>>,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        let code = mask(text);
        let tests = match path.ends_with("tests.rs") {
            true => std::iter::once(0..code.len()).collect(),
            false => test_ranges(&code),
        };
        Source { path: path.to_owned(), lines: text.lines().count(), code, tests }
    }

    /// `panel` for `panel/build.rs` and `panel.rs`.
    fn module(&self) -> &str {
        let first = self.path.split('/').next().unwrap_or_default();
        first.strip_suffix(".rs").unwrap_or(first)
    }

    fn in_tests(&self, at: usize) -> bool {
        self.tests.iter().any(|range| range.contains(&at))
    }

    fn complaint(&self, at: usize, what: &str) -> String {
        let line = self.code[..at].matches('\n').count() + 1;
        format!("src/{}:{line}: {what}", self.path)
    }

    /// Places where a path or a macro is named. Neither side may go on as a longer word.
    fn places<'a>(&'a self, word: &'a str) -> impl Iterator<Item = usize> + 'a {
        let is_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        self.code.match_indices(word).map(|(at, _)| at).filter(move |&at| {
            let (before, after) = (&self.code[..at], &self.code[at + word.len()..]);
            let longer_before = is_word(before.chars().next_back()) && is_word(word.chars().next());
            let longer_after = is_word(word.chars().next_back()) && is_word(after.chars().next());
            !longer_before && !longer_after
        })
    }
}

/// Blanks out comments, texts and characters.
fn mask(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let length = literal_or_comment(&text[at..], text[..at].chars().next_back());
        if length == 0 {
            let c = text[at..].chars().next().expect("at is before the end");
            code.push(c);
            at += c.len_utf8();
        } else {
            let blank = |c: char| if c == '\n' { '\n' } else { ' ' };
            code.extend(text[at..at + length].chars().map(blank));
            at += length;
        }
    }
    code
}

/// Bytes of the comment, text or character that begins here; 0 if none does.
fn literal_or_comment(text: &str, before: Option<char>) -> usize {
    let in_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if text.starts_with("//") {
        return text.find('\n').unwrap_or(text.len());
    }
    if text.starts_with("/*") {
        return text.find("*/").map_or(text.len(), |end| end + 2);
    }
    if !in_word && (text.starts_with("r\"") || text.starts_with("r#") || text.starts_with("br")) {
        let hashes = text.trim_start_matches(['b', 'r']);
        let count = hashes.len() - hashes.trim_start_matches('#').len();
        let start = text.len() - hashes.len() + count;
        if text[start..].starts_with('"') {
            let close = format!("\"{}", "#".repeat(count));
            let body = &text[start + 1..];
            return body.find(&close).map_or(text.len(), |end| start + 1 + end + close.len());
        }
    }
    if text.starts_with('"') {
        return quoted(text, '"');
    }
    if let Some(rest) = text.strip_prefix('\'') {
        // A lifetime has no second quote right behind its first character.
        let mut chars = rest.chars();
        return match (chars.next(), chars.next()) {
            (Some('\\'), _) => quoted(text, '\''),
            (Some(c), Some('\'')) => 2 + c.len_utf8(),
            _ => 0,
        };
    }
    0
}

fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The items behind `#[cfg(test)]`, to their closing brace or semicolon.
fn test_ranges(code: &str) -> Vec<Range<usize>> {
    let end = |from: usize| {
        let mut depth = 0;
        for (at, c) in code[from..].char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 1 => return from + at + 1,
                '}' => depth -= 1,
                ';' if depth == 0 => return from + at + 1,
                _ => {}
            }
        }
        code.len()
    };
    code.match_indices("#[cfg(test)]").map(|(at, _)| at..end(at)).collect()
}

/// The modules that a file names behind `crate::`, with their places. Both `crate::a::b` and
/// `crate::{a, b::{c, d}}`.
fn edges(source: &Source) -> Vec<(usize, String)> {
    let word = |text: &str| -> String {
        text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let mut found = Vec::new();
    for at in source.places("crate::") {
        let from = at + "crate::".len();
        let rest = &source.code[from..];
        if !rest.starts_with('{') {
            found.push((at, word(rest)));
            continue;
        }
        let (mut depth, mut expects_name) = (0, true);
        for (offset, c) in rest.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 1 => break,
                '}' => depth -= 1,
                ',' if depth == 1 => expects_name = true,
                c if depth == 1 && expects_name && !c.is_whitespace() => {
                    found.push((from + offset, word(&rest[offset..])));
                    expects_name = false;
                }
                _ => {}
            }
        }
    }
    found.into_iter().filter(|(_, name)| !name.is_empty() && name != "self").collect()
}

/// Chains of `super::` that reach the root of the crate, where an edge would hide.
fn climbs(source: &Source) -> Vec<usize> {
    let depth = source.path.trim_end_matches("/mod.rs").split('/').count();
    let chain = |at: usize| {
        let mut rest = &source.code[at..];
        let mut length = 0;
        while let Some(after) = rest.strip_prefix("super::") {
            (rest, length) = (after, length + 1);
        }
        length
    };
    let reaches_root = |&at: &usize| chain(at) >= depth + usize::from(source.in_tests(at));
    source.places("super::").filter(reaches_root).collect()
}

fn module_order(sources: &[Source]) -> Vec<String> {
    let order: Vec<&str> = ORDER.split([' ', '|']).filter(|name| !name.is_empty()).collect();
    let place = |name: &str| order.iter().position(|module| *module == name);
    let is_tool = |name: &str| TOOLS.split(' ').any(|tool| tool == name);
    let mut complaints = Vec::new();
    for source in sources {
        let module = source.module();
        if matches!(module, "lib" | "main") || source.path.ends_with("tests.rs") {
            continue;
        }
        let Some(from) = place(module) else {
            complaints.push(source.complaint(0, &format!("`{module}` has no place in the order")));
            continue;
        };
        for at in climbs(source) {
            complaints.push(source.complaint(at, "climbs to the root; write crate:: instead"));
        }
        for (at, name) in edges(source) {
            let allowed = name == module || (is_tool(module) && is_tool(&name));
            match place(&name) {
                Some(to) if allowed || to < from => {}
                Some(_) => complaints
                    .push(source.complaint(at, &format!("`{module}` may not use `{name}`"))),
                None => complaints.push(
                    source.complaint(at, &format!("crate::{name} is no module of the order")),
                ),
            }
        }
    }
    complaints
}

/// A word that only some modules may say.
struct Reserved {
    words: &'static [&'static str],
    modules: &'static [&'static str],
    /// Whether code that only tests compile is free of the rule.
    tests: Tests,
    why: &'static str,
}

#[derive(PartialEq)]
enum Tests {
    Free,
    Bound,
}

const RESERVED: [Reserved; 7] = [
    Reserved {
        words: &["polars::", "use polars", "polars_"],
        modules: &["source", "quality", "panel", "features", "score", "monitor"],
        tests: Tests::Bound,
        why: "polars is named by source quality panel features score monitor only",
    },
    Reserved {
        words: &["burn::", "use burn", "burn_"],
        modules: &["tensors", "nn", "train", "tune", "bundle", "score", "serve", "explain"],
        tests: Tests::Bound,
        why: "burn is named by tensors nn train tune bundle score serve explain only",
    },
    Reserved {
        words: &["axum::", "use axum", "tokio::", "use tokio"],
        modules: &["serve", "cli"],
        tests: Tests::Bound,
        why: "axum and tokio are named by serve and cli only",
    },
    Reserved {
        words: &[
            "fs::write",
            "fs::rename",
            "fs::copy",
            "fs::hard_link",
            "fs::set_permissions",
            "File::create",
            "File::create_new",
            "File::options",
            "OpenOptions",
            "create_dir",
            "create_dir_all",
            "remove_dir",
            "remove_dir_all",
            "remove_file",
        ],
        modules: &["fsx"],
        tests: Tests::Free,
        why: "only fsx writes, renames and removes files",
    },
    Reserved {
        words: &["println!", "print!", "eprintln!", "eprint!", "io::stdout", "io::stderr"],
        modules: &["cli"],
        tests: Tests::Free,
        why: "only cli prints",
    },
    Reserved {
        words: &[
            "std::env",
            "env::var",
            "env::vars",
            "env::args",
            "env::current_dir",
            "env::temp_dir",
            "SystemTime::now",
            "Instant::now",
        ],
        modules: &["cli", "clock"],
        tests: Tests::Free,
        why: "only cli and clock look at the environment and the time",
    },
    Reserved {
        words: &["todo!", "unimplemented!", "dbg!"],
        modules: &[],
        tests: Tests::Bound,
        why: "is not finished",
    },
];

fn reserved_words(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources {
        for rule in RESERVED.iter().filter(|rule| !rule.modules.contains(&source.module())) {
            for word in rule.words {
                // A prefix such as `burn_` may go on; `places` wants whole words.
                let places: Vec<usize> = match word.ends_with('_') {
                    true => prefixed_paths(source, word),
                    false => source.places(word).collect(),
                };
                let bound = |at: &usize| rule.tests == Tests::Bound || !source.in_tests(*at);
                let complain = |at| source.complaint(at, &format!("`{word}`: {}", rule.why));
                complaints.extend(places.into_iter().filter(bound).map(complain));
            }
        }
    }
    complaints
}

/// Places of `burn_ndarray::`, the crates that share a prefix.
fn prefixed_paths(source: &Source, prefix: &str) -> Vec<usize> {
    let code = &source.code;
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let starts = code.match_indices(prefix).map(|(at, _)| at);
    starts
        .filter(|&at| !code[..at].ends_with(is_word))
        // A path goes on with a name, `burn_rate::<f32>` does not.
        .filter(|&at| {
            let rest = code[at..].trim_start_matches(is_word).strip_prefix("::");
            rest.is_some_and(|rest| rest.starts_with(is_word))
        })
        .collect()
}

fn sizes(sources: &[Source]) -> Vec<String> {
    let mut lines: Vec<usize> = sources.iter().map(|source| source.lines).collect();
    lines.sort_unstable();
    let long = sources.iter().filter(|source| source.lines > LINES_MAX);
    let mut complaints: Vec<String> = long
        .map(|s| format!("src/{}:{LINES_MAX}: has {} lines, at most {LINES_MAX}", s.path, s.lines))
        .collect();
    let median = lines.get(lines.len() / 2).copied().unwrap_or(0);
    if median >= LINES_MEDIAN_BELOW {
        let middle = sources.iter().find(|source| source.lines == median);
        let path = middle.map_or("", |source| &source.path);
        complaints.push(format!("src/{path}:1: the median file has {median} lines, too many"));
    }
    complaints
}

/// Folders of `src` that neither README.md nor ARCHITECTURE.md names.
fn unnamed_folders(sources: &[Source], documents: &str) -> Vec<String> {
    let folder = |source: &Source| source.path.split_once('/').map(|(folder, _)| folder.to_owned());
    let mut folders: Vec<String> = sources.iter().filter_map(folder).collect();
    folders.dedup();
    let named = |folder: &String| {
        [format!("{folder}/"), format!("`{folder}`"), format!("src/{folder}")]
            .iter()
            .any(|name| documents.contains(name))
    };
    let unnamed = folders.into_iter().filter(|folder| !named(folder));
    unnamed.map(|f| format!("src/{f}/: not named in README.md or ARCHITECTURE.md")).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files of `src`, by path.
fn sources() -> Vec<Source> {
    let src = root().join("src");
    let mut folders = vec![src.clone()];
    let mut paths: Vec<PathBuf> = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of src") {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.extension().is_some_and(|e| e == "rs") => paths.push(path),
                false => {}
            }
        }
    }
    paths.sort();
    let read = |path: &PathBuf| {
        let name = path.strip_prefix(&src).expect("under src").to_str().expect("UTF-8");
        let text = std::fs::read_to_string(path).expect("a source in UTF-8");
        Source::new(&name.replace('\\', "/"), &text)
    };
    let sources: Vec<Source> = paths.iter().map(read).collect();
    assert!(sources.len() > 50, "only {} sources were found", sources.len());
    sources
}

#[track_caller]
fn holds(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// The complaints about one small source, each behind its line.
#[track_caller]
fn check(rule: fn(&[Source]) -> Vec<String>, path: &str, text: &str, expected: &[&str]) {
    let found = rule(&[Source::new(path, text)]);
    let all = found.join("\n");
    assert_eq!(found.len(), expected.len(), "{path}: {text}\n{all}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(&format!("src/{path}:{expected}")), "{path}: {text}\n{all}");
    }
}

#[test]
fn modules_use_what_stands_to_their_left() {
    holds(module_order(&sources()));
}

#[test]
fn an_edge_to_the_right_is_seen() {
    let check = |path, text, expected: &[&str]| check(module_order, path, text, expected);
    check("panel/a.rs", "\nuse crate::features::fit;\n", &["2: `panel` may not use `features`"]);
    check(
        "nn.rs",
        "use crate::{error::Kind, cli::{x, y},\n train};",
        &["1: `nn` may", "2: `nn` may"],
    );
    check("config/a.rs", "fn f() { crate::panel::build() }", &["1: `config` may not use `panel`"]);
    check("train/a.rs", "use crate::baseline;", &["1: `train` may not use `baseline`"]);
    check("eval/a.rs", "#[cfg(test)]\nmod tests { use crate::cli; }", &["2: `eval` may not"]);
    check("odd/a.rs", "", &["1: `odd` has no place"]);
    check("panel/a.rs", "\nuse super::super::cli;", &["2: climbs to the root"]);
    check("panel/mod.rs", "use super::cli;", &["1: climbs to the root"]);
    check("panel/a.rs", "use super::b;\n#[cfg(test)]\nmod tests { use super::super::b; }", &[]);
    check("panel/a.rs", "use crate::Panel;", &["1: crate::Panel is no module"]);
    // What is allowed: to the left, oneself, the tools among each other, words that are no code.
    check("panel/a.rs", "use crate::source; use crate::panel::b; use crate::fsx;", &[]);
    check("fsx.rs", "use crate::clock; use crate::error;", &[]);
    check("panel/a.rs", "//! [`crate::cli`]\n/// crate::cli\nconst A: &str = \"crate::cli\";", &[]);
    check("panel/tests.rs", "use crate::cli;", &[]);
}

#[test]
fn words_are_said_where_they_belong() {
    holds(reserved_words(&sources()));
}

#[test]
fn a_word_out_of_place_is_seen() {
    let check = |path, text, expected: &[&str]| check(reserved_words, path, text, expected);
    check("eval/a.rs", "\nuse polars::prelude::*;", &["2: `polars::`", "2: `use polars`"]);
    check("eval/a.rs", "fn f(d: polars_core::X) {}", &["1: `polars_`"]);
    check("panel/a.rs", "fn f(t: burn::tensor::Tensor) {}\n", &["1: `burn::`"]);
    check("panel/a.rs", "fn f(t: burn_ndarray::NdArray) {}\n", &["1: `burn_`"]);
    check("score/a.rs", "fn f() { tokio::spawn(g()) }", &["1: `tokio::`"]);
    check("score/a.rs", "fn f() {\n std::fs::write(p, b).ok(); }", &["2: `fs::write`"]);
    check("score/a.rs", "fn f() { fs::remove_dir_all(p) }", &["1: `remove_dir_all`"]);
    check("score/a.rs", "fn f() { File::create(p) }", &["1: `File::create`"]);
    check(
        "score/a.rs",
        "fn f() {\n\n println!(\"a\"); eprint!(\"b\") }",
        &["3: `println!`", "3: `eprint!`"],
    );
    check("score/a.rs", "fn f() { std::env::var(\"A\") }", &["1: `std::env`", "1: `env::var`"]);
    check("track/a.rs", "fn f() { Instant::now() }", &["1: `Instant::now`"]);
    check("clock.rs", "fn f() { todo!() }", &["1: `todo!`"]);
    check("cli/a.rs", "#[cfg(test)]\nmod tests { fn f() { dbg!(1); } }", &["2: `dbg!`"]);
    // Behind the end of a test module the rules hold again.
    let behind = "#[cfg(test)]\nmod tests { fn f() { g('}'); } }\nfn g() { fs::write(p, b) }";
    check("score/a.rs", behind, &["3: `fs::write`"]);
    // What is allowed.
    check("score/a.rs", "#[cfg(test)]\nmod tests { fn f() { std::fs::write(p, b); } }", &[]);
    check("score/a.rs", "/// println!(\"{}\", std::env::args())\nfn f() { env!(\"A\") }", &[]);
    check("fsx.rs", "fn f() { fs::rename(a, b) }", &[]);
    check("cli/a.rs", "fn f() { println!(\"{}\", std::env::args().len()) }", &[]);
    check("eval/a.rs", "let a = r#\"say \"dbg!()\" \"#; let b = burn_rate::<f32>;", &[]);
}

#[test]
fn files_are_short() {
    holds(sizes(&sources()));
}

#[test]
fn a_long_file_is_seen() {
    let long = "\n".repeat(LINES_MAX + 1);
    let of = |text: &str| Source::new("eval/a.rs", text);
    assert_eq!(sizes(&[of(""), of(""), of(&long)]).len(), 1);
    let middling = "\n".repeat(LINES_MEDIAN_BELOW);
    assert_eq!(sizes(&[of(""), of(&middling), of(&middling)]).len(), 1);
    assert!(sizes(&[of(""), of(""), of(&middling)]).is_empty());
}

#[test]
fn folders_stand_in_the_map() {
    let read = |name| std::fs::read_to_string(root().join(name)).unwrap_or_default();
    let documents = read("README.md") + &read("ARCHITECTURE.md");
    holds(unnamed_folders(&sources(), &documents));
}

#[test]
fn a_folder_that_no_map_shows_is_seen() {
    let sources = [Source::new("panel/a.rs", ""), Source::new("zoo/a.rs", "")];
    assert_eq!(unnamed_folders(&sources, "src/\n  panel/   customers x months\n").len(), 1);
    assert!(unnamed_folders(&sources, "`zoo` and `panel`").is_empty());
}
