//! Looks things up in the tokens of one file: where a function has its parameters, where a name gets a value, which class
//! is around.
//!
//! Proves nothing by itself. It counts the tokens that are looked at again, so that no file takes time without end.

use std::cell::Cell;

use super::code::{Code, module_of};
use super::lexer::{Token, TokenKind};

/// The code of one file as tokens.
pub(super) struct CodeText<'a> {
    /// What all files define.
    pub code: &'a Code,
    /// The name of the file in the archive.
    pub file: &'a str,
    /// All tokens of the file.
    pub tokens: &'a [Token<'a>],
    /// The tokens that were looked at again, to know what a name means.
    pub steps: Cell<usize>,
}

impl CodeText<'_> {
    /// Whether the token at `at` is this sign, word or name.
    pub(super) fn is(&self, at: usize, text: &str) -> bool {
        self.tokens.get(at).is_some_and(|token| token.is(text))
    }

    /// Notes that so many tokens are looked at again.
    pub(super) fn spend(&self, count: usize) {
        self.steps.set(self.steps.get().saturating_add(count));
    }

    /// Returns the place of the parameters of a `def`, with their brackets.
    pub(super) fn header(&self, def: usize) -> std::ops::Range<usize> {
        let mut depth = 0_i32;
        let closes = |&at: &usize| {
            depth += i32::from(self.is(at, "(")) - i32::from(self.is(at, ")"));
            depth == 0 && self.is(at, ")")
        };
        let end = (def..self.tokens.len()).find(closes).map_or(self.tokens.len(), |end| end + 1);
        def..end
    }

    /// Returns the full name of the class whose member is at `at`.
    pub(super) fn class_around(&self, at: usize) -> Option<String> {
        let outer = (0..at).rev().find(|&before| self.tokens[before].indent == Some(0))?;
        self.spend(at - outer);
        let name = self.tokens.get(outer + 1).filter(|_| self.is(outer, "class"))?;
        Some(format!("{}.{}", module_of(self.file).ok()?, name.text))
    }

    /// Lists the places in the function whose `def` is at `start` where a name gets a value.
    pub(super) fn assigned(&self, start: usize) -> Vec<usize> {
        let ends = |at: &usize| *at > start && (self.is(*at, "def") || self.is(*at, "class"));
        let end = (start..self.tokens.len()).find(ends).unwrap_or(self.tokens.len());
        self.spend(4 * (end - start));
        let is_name = |at: &usize| self.tokens[*at].kind == TokenKind::Name && !self.is(at.wrapping_sub(1), ".");
        let mut places = Vec::new();
        let begins: Vec<usize> = (start..end).filter(|&at| at == start || self.tokens[at].indent.is_some()).collect();
        for (number, &first) in begins.iter().enumerate() {
            let line = first..begins.get(number + 1).copied().unwrap_or(end);
            if first == start {
                let is_parameter = |at: &usize| ["(", ",", "*"].iter().any(|sign| self.is(at - 1, sign));
                places.extend(self.at_depth(self.header(start), 1).into_iter().filter(is_name).filter(is_parameter));
                continue;
            }
            let flat = self.at_depth(line.clone(), 0);
            let is_comparison = |at: usize| {
                self.is(at + 1, "=") || ["=", "<", ">", "!"].iter().any(|sign| self.is(at.wrapping_sub(1), sign))
            };
            let equals: Vec<usize> =
                flat.iter().copied().filter(|&at| self.is(at, "=") && !is_comparison(at)).collect();
            let begins_block = ["if", "elif", "else", "while", "for", "with"].iter().any(|word| self.is(first, word));
            let colon = flat.iter().copied().find(|&at| self.is(at, ":") && !begins_block);
            let colon = colon.filter(|&colon| equals.first().is_none_or(|&first| colon < first));
            if let Some(targets) = colon.or(equals.last().copied()) {
                places.extend((first..targets).filter(is_name));
            }
            // Loops, in lists too, and `as` of `with` give values to names.
            for at in line.clone().filter(|&at| self.is(at, "for") || self.is(at, "as")) {
                let stop = |after: &usize| self.is(*after, "in") || self.is(*after, ":");
                let end = (at + 1..line.end).find(stop).unwrap_or(line.end);
                places.extend((at + 1..end).filter(is_name));
            }
        }
        places
    }

    /// Lists the places between as many brackets, which do not count themselves.
    pub(super) fn at_depth(&self, range: std::ops::Range<usize>, wanted: usize) -> Vec<usize> {
        let (mut depth, mut found) = (0_usize, Vec::new());
        for at in range {
            let token = &self.tokens[at];
            let is_bracket = |signs: [&str; 3]| signs.iter().any(|sign| token.is(sign));
            if is_bracket([")", "]", "}"]) {
                depth = depth.saturating_sub(1);
            } else if is_bracket(["(", "[", "{"]) {
                depth += 1;
            } else if depth == wanted {
                found.push(at);
            }
        }
        found
    }
}
