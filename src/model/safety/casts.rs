//! Judges `unchecked_cast`, by which code says what type a value has without a check.
//!
//! Proves that the value can only be of that type or `None`: every value that its variable gets in the function is declared
//! so to libtorch's compiler, which compares. Whatever is assigned in a way that is not followed here is refused.

use std::collections::HashSet;

use super::lexer::{Token, TokenKind};
use super::text::CodeText;
use super::types::Type;

/// Functions of the language whose result is of the type that they are given.
const TYPED: [&str; 3] = ["annotate", "unchecked_cast", "uninitialized"];

impl<'a> CodeText<'a> {
    /// `unchecked_cast(T, x)` says that x is a T, and libtorch believes it. Numbers, texts and tensors know what they are;
    /// objects and tuples are read as T says, so x must have been declared as `Optional[T]`. Returns whether it was.
    pub(super) fn is_sound_cast(&self, at: usize) -> bool {
        let (kind, used) = Type::parse(&self.tokens[at + 2..]);
        let comma = at + 2 + used;
        self.is(comma, ",") && (kind.knows_itself() || self.is_declared(comma + 1, &kind))
    }

    /// Whether the variable at `at`, the whole of an argument, can only ever hold a value of this type or `None`.
    fn is_declared(&self, at: usize, kind: &Type) -> bool {
        let ends = self.is(at + 1, ")") || self.is(at + 1, ",") && self.is(at + 2, ")");
        let Some(start) = (0..at).rev().find(|&before| self.is(before, "def")).filter(|_| ends) else { return false };
        self.spend(at - start);
        let (tokens, assigned): (&'a [Token<'a>], _) = (self.tokens, self.assigned(start));
        tokens[at].kind == TokenKind::Name && self.holds_only(tokens[at].text, kind, start, &assigned)
    }

    /// Whether every value that a variable gets in the function at `start` is of this type or `None`, as the compiler sees to
    /// it: a parameter or an attribute of the object so declared, another such variable, a cast to the type.
    fn holds_only(&self, name: &'a str, kind: &Type, start: usize, assigned: &[usize]) -> bool {
        let fits = |found: &Type| match found {
            Type::None => true,
            Type::Optional(inner) => **inner == *kind,
            found => found == kind,
        };
        let body = (start + 1..self.tokens.len()).find(|&at| self.tokens[at].indent.is_some());
        let places = |name: &str| {
            self.spend(assigned.len());
            assigned.iter().copied().filter(|&at| self.is(at, name)).collect::<Vec<_>>()
        };
        // Variables that are assigned to each other hold what they get from elsewhere.
        let (mut seen, mut waiting) = (HashSet::from([name]), vec![name]);
        while let Some(name) = waiting.pop() {
            let of_name = places(name);
            if of_name.is_empty() || self.parameters(start, name) > 1 {
                return false;
            }
            for place in of_name {
                if body.is_none_or(|body| place < body) {
                    // A parameter: its type ends where the next one begins.
                    let (found, used) = Type::parse(&self.tokens[place + 2..]);
                    let is_whole = [",", ")", "="].iter().any(|sign| self.is(place + 2 + used, sign));
                    if self.is(place + 1, ":") && is_whole && fits(&found) {
                        continue;
                    }
                    return false;
                }
                let is_sound = match self.given(place, &fits) {
                    None => false,
                    Some([]) => true,
                    Some([none]) if none.is("None") => true,
                    Some([other]) => {
                        if other.kind == TokenKind::Name && seen.insert(other.text) {
                            waiting.push(other.text);
                        }
                        other.kind == TokenKind::Name
                    }
                    // The compiler makes sure of this type; a cast is judged by itself.
                    Some([word, open, rest @ .., _]) if TYPED.iter().any(|known| word.is(known)) && open.is("(") => {
                        let calls = rest.iter().filter(|token| token.is("(") || token.is(")")).count();
                        calls == 0 && fits(&Type::parse(rest).0)
                    }
                    Some([own, point, attribute]) if own.is("self") && point.is(".") => {
                        let class = self.class_around(start).filter(|_| places("self") == [start + 3]);
                        let class = class.and_then(|class| self.code.classes.get(&class));
                        class.is_some_and(|class| {
                            class.attributes.iter().any(|(own, found)| own == attribute.text && fits(found))
                        })
                    }
                    Some(_) => false,
                };
                if !is_sound {
                    return false;
                }
            }
        }
        true
    }

    /// Returns what an assignment gives to the name at `place`: the tokens of a value, or none of them where the name
    /// is annotated with a type that fits, which the compiler compares. None for lines other than `a = x` and
    /// `a, b = x, y`.
    fn given(&self, place: usize, fits: &dyn Fn(&Type) -> bool) -> Option<&'a [Token<'a>]> {
        let tokens: &'a [Token<'a>] = self.tokens;
        let first = (0..=place).rev().find(|&at| tokens[at].indent.is_some())?;
        let length = tokens[first + 1..].iter().take_while(|token| token.indent.is_none()).count();
        let line = first..first + 1 + length;
        self.spend(2 * length);
        if place == first && self.is(place + 1, ":") {
            let (found, used) = Type::parse(&tokens[place + 2..line.end]);
            return (self.is(place + 2 + used, "=") && fits(&found)).then_some(&[]);
        }
        let flat = self.at_depth(line.clone(), 0);
        let [equals] = flat.iter().copied().filter(|&at| self.is(at, "=")).collect::<Vec<_>>()[..] else { return None };
        let is_target = |(number, at): (usize, usize)| match number % 2 {
            0 => tokens[at].kind == TokenKind::Name,
            _ => self.is(at, ","),
        };
        let is_list = (equals - first) % 2 == 1 && (first..equals).enumerate().all(is_target);
        let commas: Vec<usize> = flat.into_iter().filter(|&at| at > equals && self.is(at, ",")).collect();
        if !is_list || place > equals || commas.len() != (equals - first) / 2 {
            return None;
        }
        let number = (place - first) / 2;
        let begin = number.checked_sub(1).map_or(equals + 1, |before| commas[before] + 1);
        let end = commas.get(number).copied().unwrap_or(line.end);
        tokens.get(begin..end).filter(|value| !value.is_empty())
    }

    /// Counts the parameters of this name; where there are two, libtorch takes the last.
    fn parameters(&self, start: usize, name: &str) -> usize {
        let body = (start + 1..self.tokens.len()).find(|&at| self.tokens[at].indent.is_some());
        let header = self.assigned(start).into_iter().filter(|&at| body.is_none_or(|body| at < body));
        header.filter(|&at| self.is(at, name)).count()
    }
}
