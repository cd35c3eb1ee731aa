//! The architecture, held to its word: imports point down, siblings do not meet, one file reads the clock, every file says what it is.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A file of `src`, and what counts of it.
struct Source {
    /// From `src/` on, with slashes.
    name: String,
    text: String,
    /// Without comments, without what stands in text literals, and without its unit tests.
    code: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    walk(&root, &mut files);
    files.sort();
    let sources: Vec<_> = files
        .into_iter()
        .map(|file| {
            let text = fs::read_to_string(&file).expect("source files are text");
            let name =
                file.strip_prefix(&root).expect("it was found there").to_str().expect("plain names").replace('\\', "/");
            let code = code_of(&text);
            Source { name, text, code }
        })
        .collect();
    assert!(sources.len() > 20, "the sources were found");
    sources
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("src is there") {
        let path = entry.expect("it can be read").path();
        if path.is_dir() {
            walk(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The code in `text`: unit tests stand at the bottom, literals keep their quotes only.
fn code_of(text: &str) -> String {
    let body = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or(text);
    let mut code = String::with_capacity(body.len());
    for line in body.lines() {
        let mut literal = false;
        let mut before = ' ';
        let mut letters = line.chars().peekable();
        while let Some(letter) = letters.next() {
            if letter == '"' && before != '\\' && before != '\'' {
                literal = !literal;
                code.push(letter);
            } else if !literal {
                if letter == '/' && letters.peek() == Some(&'/') {
                    break;
                }
                code.push(letter);
            }
            before = if before == '\\' && letter == '\\' { ' ' } else { letter };
        }
        code.push('\n');
    }
    code
}

/// Whether `word` stands in `code` as a word of its own.
fn names(code: &str, word: &str) -> bool {
    let part = |letter: char| letter.is_alphanumeric() || letter == '_';
    code.match_indices(word).any(|(at, _)| !code[..at].ends_with(part) && !code[at + word.len()..].starts_with(part))
}

/// The module on the top that a file belongs to: `wire`, `config`, `lib`, …
fn part_of(name: &str) -> &str {
    name.split_once('/').map_or(name.trim_end_matches(".rs"), |(folder, _)| folder)
}

/// What each part may import. `config` and `logging` stand beside the floors for `drive` and `main`.
fn may_import(part: &str) -> Option<&'static [&'static str]> {
    Some(match part {
        "wire" => &["wire"],
        "engine" => &["wire", "engine"],
        "audio" => &["wire", "audio"],
        "config" => &["wire", "engine", "config", "logging"],
        "logging" => &["wire", "engine", "logging"],
        "drive" | "main" | "lib" => &["wire", "engine", "audio", "config", "logging", "drive"],
        _ => return None,
    })
}

/// The parts that `code` names after `root` (`crate` or `voxcast`), braces unfolded.
fn imports(code: &str, root: &str) -> BTreeSet<String> {
    let mut parts = BTreeSet::new();
    for (at, _) in code.match_indices(&format!("{root}::")) {
        let before = &code[..at];
        if before.ends_with(|letter: char| letter.is_alphanumeric() || letter == '_' || letter == ':') {
            continue;
        }
        let rest = &code[at + root.len() + 2..];
        if let Some(inside) = rest.strip_prefix('{') {
            let mut depth = 1;
            let mut word = String::new();
            let mut first = true;
            for letter in inside.chars() {
                match letter {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    _ => {}
                }
                if letter.is_alphanumeric() || letter == '_' {
                    if depth == 1 && first {
                        word.push(letter);
                    }
                } else if !word.is_empty() {
                    parts.insert(std::mem::take(&mut word));
                    first = false;
                }
                first |= letter == ',' && depth == 1;
                if depth == 0 {
                    break;
                }
            }
        } else {
            parts.insert(rest.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect());
        }
    }
    parts
}

#[test]
fn imports_are_found_in_every_shape() {
    let parts = |code: &str| imports(code, "crate").into_iter().collect::<Vec<_>>().join(" ");
    assert_eq!(parts("use crate::wire::ids::SessionKey;"), "wire");
    assert_eq!(parts("pub(crate) fn f(x: &crate::drive::X) -> crate::audio::Y {}"), "audio drive");
    assert_eq!(
        parts("use crate::{\n    wire::{ids, media::A},\n    engine,\n    drive::x as y,\n};"),
        "drive engine wire"
    );
    assert_eq!(parts("use my_crate::wire; use other::crate::wire;"), "");
    assert_eq!(parts(&code_of("// use crate::drive;\nlet x = \"crate::drive\"; use crate::wire;")), "wire");
    assert_eq!(parts(&code_of("use crate::wire;\n#[cfg(test)]\nmod tests {\n    use crate::drive;\n}\n")), "wire");
}

#[test]
fn imports_point_down_and_siblings_do_not_meet() {
    let mut wrong = Vec::new();
    for Source { name, code, .. } in sources() {
        let part = part_of(&name);
        if part == "tests" {
            continue;
        }
        let Some(allowed) = may_import(part) else {
            wrong.push(format!("{name} stands on no floor"));
            continue;
        };
        for import in imports(&code, "crate").into_iter().chain(imports(&code, "voxcast")) {
            // What stands in lib.rs itself belongs to no floor, and nothing does but the modules.
            if !allowed.contains(&import.as_str()) {
                wrong.push(format!("{name} imports {import}"));
            }
        }
        // From the top of a floor, `super` would lead out of it.
        let depth = name.matches('/').count() + usize::from(!name.ends_with("/mod.rs"));
        let way_out = "super::".repeat(depth);
        if depth > 0 && part != "main" && part != "lib" && code.contains(&way_out) {
            wrong.push(format!("{name} climbs out of its floor by `super`"));
        }
    }
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn nothing_below_drive_names_an_actor_a_runtime_or_a_socket() {
    let mut wrong = Vec::new();
    for Source { name, code, .. } in sources() {
        if !matches!(part_of(&name), "wire" | "engine" | "audio") {
            continue;
        }
        for word in [
            "actix",
            "actix_rt",
            "actix_web",
            "actix_http",
            "actix_web_actors",
            "tokio",
            "socket2",
            "nix",
            "UdpSocket",
            "TcpStream",
            "TcpListener",
            "UnixStream",
            "thread",
            "reqwest",
            "tracing",
            "anyhow",
        ] {
            if names(&code, word) {
                wrong.push(format!("{name} names {word}"));
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn one_file_reads_the_clock() {
    let mut readers = BTreeSet::new();
    for Source { name, text, code } in sources() {
        // Unit tests too: they count from `tests::net::zero`. This file must name what it looks for.
        let whole = if name == "tests/floors.rs" { &code } else { &text };
        if ["Instant::now", "SystemTime::now", "Utc::now", "Local::now"].iter().any(|clock| whole.contains(clock)) {
            readers.insert(name);
        }
    }
    readers.remove("drive/clock.rs");
    assert_eq!(readers, BTreeSet::from(["tests/net.rs".to_owned()]));
}

#[test]
fn every_file_says_what_it_is_and_forbids_itself_nothing_unsafe() {
    let mut wrong = Vec::new();
    for Source { name, text, code } in sources() {
        if !text.starts_with("//! ") {
            wrong.push(format!("{name} does not open with its purpose"));
        }
        if names(&code, "unsafe") {
            wrong.push(format!("{name} is unsafe"));
        }
        if code.contains("#[allow(") || code.contains("#![allow(") {
            wrong.push(format!("{name} allows instead of expecting, with a reason"));
        }
    }
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn the_deprecated_crate_has_one_door() {
    let doors: Vec<String> = sources()
        .into_iter()
        .filter(|source| names(&source.code, "actix_web_actors"))
        .map(|source| source.name)
        .collect();
    assert!(doors.iter().all(|name| name.starts_with("drive/ws/")), "{doors:?}");
}

#[test]
fn the_architecture_page_names_the_folders_that_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let page = fs::read_to_string(root.join("lib.rs")).expect("it is there");
    let named: BTreeSet<String> = page
        .lines()
        .filter_map(|line| line.strip_prefix("//! | `"))
        .filter_map(|row| row.split(" | ").next())
        .flat_map(|cell| {
            cell.split('`').filter(|word| word.chars().any(char::is_alphabetic)).map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    let there: BTreeSet<String> = fs::read_dir(&root)
        .expect("src is there")
        .map(|entry| entry.expect("it can be read").file_name().into_string().expect("plain names"))
        .filter(|name| name != "lib.rs" && name != "tests")
        .collect();
    assert_eq!(named, there, "the table of floors in lib.rs");
}
