//! Which source file of a crate imports which, and the cycles among them. A file may use its own parent modules: those
//! imports do not count.

use std::collections::{BTreeMap, BTreeSet};

/// Texts of a crate's files by their module path; the root's path is empty.
pub(super) type Files = BTreeMap<String, String>;
type Edges = BTreeMap<String, BTreeSet<String>>;

/// Groups of files that import each other, directly or through others.
pub(super) fn cycles(files: &Files) -> Vec<Vec<String>> {
    let edges: Edges = files.iter().map(|(module, text)| (module.clone(), imports(files, module, text))).collect();
    let reached: Edges = edges.keys().map(|module| (module.clone(), reachable(&edges, module))).collect();
    let mut groups = BTreeSet::new();
    for (module, others) in &reached {
        if others.contains(module) {
            let group = others.iter().filter(|other| reached[*other].contains(module));
            groups.insert(group.cloned().collect::<Vec<_>>());
        }
    }
    groups.into_iter().collect()
}

fn reachable(edges: &Edges, from: &str) -> BTreeSet<String> {
    let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(module) = open.pop() {
        open.extend(edges[module].iter().filter(|next| seen.insert((*next).clone())).map(String::as_str));
    }
    seen
}

/// The files that a file imports or names in a path.
fn imports(files: &Files, module: &str, text: &str) -> BTreeSet<String> {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let tokens = tokens(text);
    let current: Vec<&str> = module.split("::").filter(|part| !part.is_empty()).collect();
    let (mut uses, mut inline) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at] == "use" {
            at += 1;
            use_tree(&tokens, &mut at, &[], &mut uses);
        } else if is_word(&tokens[at]) {
            inline.push(path(&tokens, &mut at));
        } else {
            at += 1;
        }
    }
    let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut targets = Vec::new();
    for (path, name) in uses {
        if let Some(path) = absolute(files, &current, &path) {
            names.insert(name, path.clone());
            targets.push(path);
        }
    }
    for path in inline.iter().filter(|path| path.len() > 1) {
        match names.get(&path[0]) {
            Some(start) => targets.push([start.as_slice(), &path[1..]].concat()),
            None => targets.extend(absolute(files, &current, path)),
        }
    }
    let is_parent = |found: &String| module == found || module.starts_with(&format!("{found}::"));
    targets.iter().filter_map(|path| file_of(files, path)).filter(|found| !is_parent(found)).collect()
}

/// The path from the root of the crate; nothing for a path into another crate.
fn absolute(files: &Files, current: &[&str], path: &[String]) -> Option<Vec<String>> {
    let supers = path.iter().take_while(|part| *part == "super").count();
    let (start, rest) = match path.first()?.as_str() {
        "crate" => (&current[..0], &path[1..]),
        "self" => (current, &path[1..]),
        "super" => (&current[..current.len().saturating_sub(supers)], &path[supers..]),
        child if files.contains_key(&[current, &[child]].concat().join("::")) => (current, path),
        _ => return None,
    };
    Some(start.iter().map(|part| (*part).to_owned()).chain(rest.iter().cloned()).collect())
}

/// The file that defines what a path names; nothing for the root.
fn file_of(files: &Files, path: &[String]) -> Option<String> {
    (1..=path.len()).rev().map(|length| path[..length].join("::")).find(|module| files.contains_key(module))
}

/// Reads a tree of a `use` item: each path with the name that it gets here.
fn use_tree(tokens: &[String], at: &mut usize, prefix: &[String], uses: &mut Vec<(Vec<String>, String)>) {
    let mut whole = prefix.to_vec();
    whole.extend(path(tokens, at));
    match tokens.get(*at).map(String::as_str) {
        Some("{") => {
            while tokens.get(*at).is_some_and(|token| token == "{" || token == ",") {
                *at += 1;
                if tokens.get(*at).is_some_and(|token| token != "}") {
                    use_tree(tokens, at, &whole, uses);
                }
            }
            *at += 1;
        }
        _ => {
            whole.retain(|part| part != "self" || prefix.is_empty());
            let mut name = whole.last().cloned().unwrap_or_default();
            if tokens.get(*at).is_some_and(|token| token == "as") {
                name.clone_from(&tokens[*at + 1]);
                *at += 2;
            } else if tokens.get(*at).is_some_and(|token| token == "*") {
                *at += 1;
            }
            uses.push((whole, name));
        }
    }
}

/// Reads words joined by `::`; a `::` at the end is read too.
fn path(tokens: &[String], at: &mut usize) -> Vec<String> {
    let mut path = Vec::new();
    while let Some(word) = tokens.get(*at).filter(|token| is_word(token)) {
        path.push(word.clone());
        *at += 1;
        if tokens.get(*at).is_none_or(|token| token != "::") {
            break;
        }
        *at += 1;
    }
    path
}

fn is_word(token: &str) -> bool {
    token.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// Words, `::` and single characters of a source text, without comments, spaces and literals.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if let Some(length) = literal(rest) {
            length
        } else if is_word(rest) {
            rest.find(|next: char| !next.is_alphanumeric() && next != '_').unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        let (token, after) = rest.split_at(length);
        if is_word(token) && !token.contains('"') || matches!(token, "::" | "{" | "}" | "," | ";" | "*") {
            tokens.push(token.to_owned());
        }
        rest = after;
    }
    tokens
}

/// Length of the string or character literal that a text begins with.
fn literal(text: &str) -> Option<usize> {
    let raw = text.trim_start_matches('b').strip_prefix('r').map(|raw| raw.trim_start_matches('#'));
    if let Some(inside) = raw.and_then(|raw| raw.strip_prefix('"')) {
        let start = text.len() - inside.len();
        let end = format!("\"{}", "#".repeat(text[..start].matches('#').count()));
        return Some(start + inside.find(&end)? + end.len());
    }
    let quote = text.chars().next().filter(|first| matches!(first, '"' | '\''))?;
    let mut escaped = false;
    for (at, next) in text.char_indices().skip(1) {
        match next {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if next == quote => return Some(at + 1),
            // A lifetime.
            _ if quote == '\'' && at > 1 && !text[1..].starts_with('\\') => return None,
            _ => {}
        }
    }
    None
}

#[test]
fn cycles_are_found_through_every_form_of_import() {
    let check = |files: &[(&str, &str)], expected: &[&[&str]]| {
        let files = files.iter().map(|(module, text)| ((*module).to_owned(), (*text).to_owned())).collect();
        assert_eq!(cycles(&files), expected, "{files:#?}");
    };
    check(&[("", "mod a; mod b;"), ("a", "use crate::b::{self, B};"), ("b", "// use crate::a::A;")], &[]);
    check(&[("a", "use crate::{x::Y, b::{self as c, B}};"), ("b", "fn f() { crate::a::g(\"{\") }")], &[&["a", "b"]]);
    check(
        &[("a", "use crate::b; fn f<'a>() { b::c::g('{') }"), ("b", ""), ("b::c", "use super::super::a::A;")],
        &[&["a", "b::c"]],
    );
    check(&[("a", "mod b; use b::B;"), ("a::b", "use super::A;")], &[]);
    check(
        &[("a", "mod b; use b::B;"), ("a::b", "use crate::c::C;"), ("c", "use crate::a::A;")],
        &[&["a", "a::b", "c"]],
    );
}
