//! The syntax of java.util.Properties: comments, continued lines, escapes, and `=`, `:` or blanks between key and value.

use std::iter::Peekable;
use std::str::Chars;

/// The file's pairs in their order; a key may come twice (the last counts, as in Java).
pub fn parse(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut pairs = Vec::new();
    let text = text.replace("\r\n", "\n");
    let mut lines = text.split(['\n', '\r']);
    while let Some(line) = lines.next() {
        let mut line = line.trim_start_matches(is_blank).to_owned();
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        while ends_with_odd_backslashes(&line) {
            line.pop();
            let Some(next) = lines.next() else { break };
            line.push_str(next.trim_start_matches(is_blank));
        }
        pairs.push(split_pair(&line)?);
    }
    Ok(pairs)
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\x0c')
}

fn ends_with_odd_backslashes(line: &str) -> bool {
    line.bytes().rev().take_while(|&b| b == b'\\').count() % 2 == 1
}

fn split_pair(line: &str) -> Result<(String, String), String> {
    let mut chars = line.chars().peekable();
    let mut key = String::new();
    while let Some(c) = chars.next_if(|&c| !is_blank(c) && c != '=' && c != ':') {
        push_unescaped(&mut key, c, &mut chars)?;
    }
    while chars.next_if(|&c| is_blank(c)).is_some() {}
    if chars.next_if(|&c| c == '=' || c == ':').is_some() {
        while chars.next_if(|&c| is_blank(c)).is_some() {}
    }
    let mut value = String::new();
    while let Some(c) = chars.next() {
        push_unescaped(&mut value, c, &mut chars)?;
    }
    Ok((key, value))
}

fn push_unescaped(out: &mut String, c: char, chars: &mut Peekable<Chars>) -> Result<(), String> {
    if c != '\\' {
        out.push(c);
        return Ok(());
    }
    match chars.next() {
        None => {}
        Some('t') => out.push('\t'),
        Some('n') => out.push('\n'),
        Some('r') => out.push('\r'),
        Some('f') => out.push('\x0c'),
        Some('u') => out.push(unicode_escape(chars)?),
        Some(other) => out.push(other),
    }
    Ok(())
}

/// The four digits after `\u`; a surrogate takes its other half from the escape that must follow.
fn unicode_escape(chars: &mut Peekable<Chars>) -> Result<char, String> {
    let malformed = || "a malformed \\uxxxx escape".to_owned();
    let unit = |chars: &mut Peekable<Chars>| {
        let digits: String = chars.take(4).collect();
        let all_hex = digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_hexdigit());
        all_hex.then(|| u16::from_str_radix(&digits, 16).expect("four hex digits")).ok_or_else(malformed)
    };
    let mut units = vec![unit(chars)?];
    if (0xD800..0xDC00).contains(&units[0]) {
        if (chars.next(), chars.next()) != (Some('\\'), Some('u')) {
            return Err(malformed());
        }
        units.push(unit(chars)?);
    }
    char::decode_utf16(units).next().and_then(Result::ok).ok_or_else(malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        parse(text).unwrap()
    }
    fn pair(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    #[test]
    fn keys_and_values_are_separated_by_equals_colon_or_blanks() {
        let expected = vec![pair("a", "1")];
        for text in ["a=1", "a:1", "a 1", "  a = 1", "a\t:\t1", "a  1"] {
            assert_eq!(pairs(text), expected, "{text:?}");
        }
        assert_eq!(pairs("a=b=c:d e"), [pair("a", "b=c:d e")]);
        assert_eq!(pairs("alone\nempty=\n"), [pair("alone", ""), pair("empty", "")]);
        assert_eq!(pairs("a=1 "), [pair("a", "1 ")], "blanks at the end belong to the value");
    }

    #[test]
    fn comments_and_blank_lines_are_skipped() {
        assert_eq!(pairs("# a=1\n! b=2\n\n   \n  # c=3\nd=4 # not a comment"), [pair("d", "4 # not a comment")]);
    }

    #[test]
    fn a_backslash_at_the_end_continues_the_line() {
        assert_eq!(pairs("a=1,\\\n    2,\\\n    3\nb=4"), [pair("a", "1,2,3"), pair("b", "4")]);
        assert_eq!(pairs("a=1,\\\r\n  2\r\nb=3\r\n"), [pair("a", "1,2"), pair("b", "3")]);
        assert_eq!(pairs("a=C:\\\\\nb=1"), [pair("a", "C:\\"), pair("b", "1")]);
        assert_eq!(pairs("a=1\\"), [pair("a", "1")]);
    }

    #[test]
    fn escapes_are_resolved() {
        assert_eq!(pairs(r"a\ b\=c=\t\n\u0041\q"), [pair("a b=c", "\t\nAq")]);
        assert_eq!(pairs(r"a=\ud83d\ude00"), [pair("a", "\u{1F600}")]);
        assert!(parse(r"a=\u12").is_err());
        assert!(parse(r"a=\ud83dx").is_err());
    }
}
