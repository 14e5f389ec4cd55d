//! Java's properties format, as far as one-line entries go: comments, separators, escapes.

use std::collections::BTreeMap;

/// Entries in the given order. Values are escaped as Java's writer does it.
pub(super) fn to_text(entries: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, value) in entries {
        text.push_str(name);
        text.push('=');
        for (i, character) in value.chars().enumerate() {
            if matches!(character, '=' | ':' | '#' | '!' | '\\') || (character == ' ' && i == 0) {
                text.push('\\');
            }
            text.push(character);
        }
        text.push('\n');
    }
    text
}

pub(super) fn from_text(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().map(str::trim_start);
    lines.filter(|line| !line.is_empty() && !line.starts_with(['#', '!'])).map(entry).collect()
}

/// The name ends at the first '=', ':' or white space that is not escaped.
fn entry(line: &str) -> (String, String) {
    let mut escaped = false;
    let end = line.find(|character: char| {
        let ends = !escaped && (matches!(character, '=' | ':') || character.is_whitespace());
        escaped = !escaped && character == '\\';
        ends
    });
    let (name, rest) = line.split_at(end.unwrap_or(line.len()));
    let rest = rest.trim_start();
    let value = rest.strip_prefix(['=', ':']).unwrap_or(rest).trim_start();
    (unescape(name), unescape(value))
}

fn unescape(text: &str) -> String {
    let mut escaped = false;
    text.chars()
        .filter(|character| {
            escaped = !escaped && *character == '\\';
            !escaped
        })
        .collect()
}
