//! Splits the text of a TorchScript file, as `torch.jit.save` writes it, into tokens. Comments, tabs, backslashes
//! between tokens and triple quotes are refused: libtorch would read them, and they could hide something from this
//! reader.

use super::Refusal;

/// The kind of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// A name or a keyword.
    Name,
    /// A number, as in `1e-08` or `2.j`.
    Number,
    /// A text with its quotes.
    Text,
    /// Everything else, one token for each character.
    Sign,
}

/// One token of a text, and its place.
#[derive(Clone, Copy, Debug)]
pub struct Token<'a> {
    /// The token as it is written.
    pub text: &'a str,
    /// Whether it is a name, a number, a text or a sign.
    pub kind: TokenKind,
    /// The line that it is in, counted from 1.
    pub line: usize,
    /// The number of spaces before it, where it is the first of its line.
    pub indent: Option<usize>,
}

impl Token<'_> {
    /// Whether the token is this sign or word; a text in quotes never is.
    pub fn is(&self, text: &str) -> bool {
        self.kind != TokenKind::Text && self.text == text
    }
}

const SIGNS: &[u8] = b"()[]{}=+-*/%<>!,:~&|^@.";

/// Returns all tokens of a text.
///
/// # Errors
/// The text has a character that `torch.jit.save` does not write there; its line is given.
pub fn tokens(text: &str) -> Result<Vec<Token<'_>>, Refusal> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let (mut at, mut line, mut line_start, mut depth) = (0, 1, 0, 0_usize);
    while let Some(&byte) = bytes.get(at) {
        let end = match byte {
            b'\n' => {
                (at, line) = (at + 1, line + 1);
                line_start = at;
                continue;
            }
            b' ' => {
                at += 1;
                continue;
            }
            b'"' | b'\'' => end_of_text(bytes, at),
            b'0'..=b'9' => end_of_number(bytes, at),
            b'_' | b'a'..=b'z' | b'A'..=b'Z' => {
                let end = end_of(bytes, at, is_part_of_name);
                // A quote right behind makes the name a prefix, as in r"...".
                (!matches!(bytes.get(end), Some(b'"' | b'\''))).then_some(end)
            }
            _ => SIGNS.contains(&byte).then_some(at + 1),
        };
        let end = end.ok_or_else(|| {
            let shown: String = text[at..].chars().take(1).flat_map(char::escape_debug).collect();
            Refusal::unusual(format!("its code has '{shown}' in line {line}, where torch.jit.save writes none"))
        })?;
        let kind = match byte {
            b'"' | b'\'' => TokenKind::Text,
            b'0'..=b'9' => TokenKind::Number,
            _ if is_part_of_name(byte) => TokenKind::Name,
            _ => TokenKind::Sign,
        };
        // A line that goes on within brackets begins nothing.
        let is_first = depth == 0 && found.last().is_none_or(|last: &Token| last.line != line);
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        found.push(Token { text: &text[at..end], kind, line, indent: is_first.then_some(at - line_start) });
        at = end;
    }
    Ok(found)
}

fn is_part_of_name(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphanumeric()
}

fn end_of(bytes: &[u8], at: usize, belongs: impl Fn(u8) -> bool) -> usize {
    bytes[at..].iter().position(|&byte| !belongs(byte)).map_or(bytes.len(), |length| at + length)
}

/// Returns the place behind the closing quote of a text that stands in one line; another quote must not follow.
fn end_of_text(bytes: &[u8], at: usize) -> Option<usize> {
    let mut end = at + 1;
    loop {
        match bytes.get(end)? {
            b'\\' => end += 2,
            b'\n' => return None,
            &byte if byte == bytes[at] => {
                let follows = bytes.get(end + 1);
                return (!matches!(follows, Some(b'"' | b'\''))).then_some(end + 1);
            }
            _ => end += 1,
        }
    }
}

/// Returns the place behind a number such as `12`, `1.`, `0.5`, `1e-08` or `2.j`; a name or a further point must not
/// follow, which libtorch could take for the name of an operator.
fn end_of_number(bytes: &[u8], at: usize) -> Option<usize> {
    let digit = |byte: u8| byte.is_ascii_digit();
    let mut end = end_of(bytes, at, digit);
    if bytes.get(end) == Some(&b'.') {
        end = end_of(bytes, end + 1, digit);
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        let digits = end + 1 + sign;
        let after = end_of(bytes, digits.min(bytes.len()), digit);
        if after == digits {
            return None;
        }
        end = after;
    }
    if bytes.get(end) == Some(&b'j') {
        end += 1;
    }
    (!bytes.get(end).is_some_and(|&byte| byte == b'.' || is_part_of_name(byte))).then_some(end)
}

/// Returns what a text token says; None where it has escapes beyond quotes, backslashes and breaks of lines.
pub fn unquoted(text: &str) -> Option<String> {
    let inner = text.get(1..text.len().checked_sub(1)?)?;
    let mut said = String::new();
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next()? {
                plain @ ('\\' | '\'' | '"') => said.push(plain),
                'n' => said.push('\n'),
                _ => return None,
            },
            other => said.push(other),
        }
    }
    Some(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_torch_writes_is_read() {
        let text = "x = torch.add(a, 1e-08, 2.)\n  return [-1, \"a\\\"b\", 1.5j, 0.20000000000000001]\n";
        let found: Vec<_> = tokens(text).unwrap().iter().map(|token| token.text).collect();
        let expected = "x = torch . add ( a , 1e-08 , 2. ) return [ - 1 , \"a\\\"b\" , 1.5j , 0.20000000000000001 ]";
        assert_eq!(found.join(" "), expected);
        assert_eq!(tokens(text).unwrap()[12].indent, Some(2));
    }

    #[test]
    fn what_could_hide_something_is_refused() {
        for text in [
            "# x",
            "x \\\n y",
            "\t",
            "\"\"\"a\"\"\"",
            "'a",
            "r'a'",
            "3..save",
            "3.save",
            "0x1p3",
            "1e",
            "a;b",
            "\u{a0}",
            "\"a\n\"",
            "''''",
            "`",
            "1_000",
            "?",
        ] {
            assert!(tokens(text).is_err(), "{text:?}");
        }
    }
}
