//! Judges the names and calls in the code of a TorchScript file.
//!
//! Proves that nothing is called but allowed operators, functions of the language that compute or ask, and functions of the
//! file. libtorch finds what a name means by rules of its own, so everything is refused whose meaning is not plain from the
//! text: `torch` and `ops` without a name behind them, calls of what another call returned, calls of variables that
//! ever held something else than a function of the file, and methods whose name is an operator's.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap, HashSet};

use super::Refusal;
use super::code::{Code, MEMBER_INDENT};
use super::lexer::{Token, TokenKind, tokens, unquoted};
use super::operators::{ALLOWED, OTHERS};
use super::text::CodeText;
use super::types::chain;

/// Deepest nesting of blocks and expressions, and most branches of one condition: libtorch's compiler goes as deep, and
/// overflows the 2 MiB stack of a thread between 1,000 and 4,000.
const MOST_DEPTH: usize = 200;
/// How many tokens may be looked at again to know what names mean; networks need some ten times their own number.
const MOST_STEPS: usize = 30_000_000;
/// Functions of the language that compute or ask.
const BUILTINS: &[&str] = &[
    "abs",
    "all",
    "annotate",
    "any",
    "bool",
    "dict",
    "divmod",
    "enumerate",
    "float",
    "getattr",
    "hasattr",
    "int",
    "isinstance",
    "len",
    "list",
    "max",
    "min",
    "pow",
    "range",
    "round",
    "sorted",
    "str",
    "sum",
    "tuple",
    "unchecked_cast",
    "uninitialized",
    "zip",
];
/// The words behind which a bracket is no call.
const KEYWORDS: &[&str] =
    &["and", "assert", "elif", "else", "for", "if", "in", "is", "not", "or", "raise", "return", "while", "with"];
/// The words that start threads, write, or run text, whatever follows.
const REFUSED: &[&str] =
    &["awaitable", "eval", "exec", "fork", "import", "print", "__setstate__", "__getstate__", "__import__", "lambda"];

/// Something in the code that is not allowed, and its place.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The operator, as in `torch.save`, or a clause that says what was found.
    pub what: String,
    /// Whether it is an operator that is not on the list.
    pub is_operator: bool,
    /// The entry of the archive, and the line in it.
    pub place: String,
}

/// Reads the files below `code/`: what they define, and what they do beyond what is allowed.
///
/// # Errors
/// A file has text that `torch.jit.save` does not write.
pub fn read(files: &BTreeMap<String, String>) -> Result<(Code, Vec<Finding>), Refusal> {
    let read =
        files.iter().map(|(name, text)| Ok((name.as_str(), tokens(text)?))).collect::<Result<Vec<_>, Refusal>>()?;
    let code = Code::read(&read)?;
    let mut findings = Vec::new();
    for (file, tokens) in &read {
        let text = CodeText { code: &code, file, tokens, steps: Cell::new(0) };
        let mut judge = Judge { text, findings: &mut findings, outer: None, assigned_functions: HashSet::new() };
        // `names` walks along chains and blocks, so it only judges code that `depths` has found to be of bounded depth.
        if judge.depths() {
            judge.names();
        }
    }
    Ok((code, findings))
}

/// Whether an expression is written out: numbers, texts, and lists, tuples and dictionaries of such.
fn is_literal(tokens: &[Token]) -> bool {
    const WORDS: [&str; 17] = [
        "True", "False", "None", "inf", "nan", "annotate", "List", "Dict", "Tuple", "Optional", "int", "float", "bool",
        "str", "Tensor", "NoneType", "complex",
    ];
    let is_device = |at: usize| {
        let here =
            |offset: usize, text: &str| tokens.get((at + offset).wrapping_sub(2)).is_some_and(|token| token.is(text));
        // torch.device("cpu"): the word itself, or either part of it.
        here(2, "torch") && here(3, ".") && here(4, "device") || here(0, "torch") && here(1, ".") && here(2, "device")
    };
    tokens.iter().enumerate().all(|(at, token)| match token.kind {
        TokenKind::Number | TokenKind::Text => true,
        TokenKind::Sign => ["(", ")", "[", "]", "{", "}", ",", ":", "-", "+", "."].contains(&token.text),
        TokenKind::Name => WORDS.contains(&token.text) || is_device(at),
    })
}

/// The greatest depth that the tree of an expression between two brackets can have.
#[derive(Clone, Copy, Default)]
struct Depth {
    /// The number of operators since the last comma.
    links: usize,
    /// The depth of what stands in brackets since the last comma.
    inner: usize,
    /// The depth of what stands before the last comma.
    siblings: usize,
}

impl Depth {
    fn whole(self) -> usize {
        self.siblings.max(self.links + self.inner)
    }
}

struct Judge<'a> {
    text: CodeText<'a>,
    findings: &'a mut Vec<Finding>,
    /// The place of the last word without indentation.
    outer: Option<usize>,
    /// The variables that were assigned a function of the file so far in the present function.
    assigned_functions: HashSet<&'a str>,
}

impl<'a> Judge<'a> {
    fn find(&mut self, at: usize, what: impl Into<String>, is_operator: bool) {
        let line = self.text.tokens.get(at).map_or(0, |token| token.line);
        self.findings.push(Finding {
            what: what.into(),
            is_operator,
            place: format!("{}, line {line}", self.text.file),
        });
    }

    fn odd(&mut self, at: usize, what: impl Into<String>) {
        self.find(at, what, false);
    }

    /// Whether blocks and expressions are no deeper than those of networks; what is deeper becomes a finding.
    fn depths(&mut self) -> bool {
        let (mut open, mut here, mut branches) = (Vec::new(), Depth::default(), 0);
        for at in 0..self.text.tokens.len() {
            let token = &self.text.tokens[at];
            let text = if token.kind == TokenKind::Text { "" } else { token.text };
            if token.indent.is_some() && open.is_empty() {
                here = Depth::default();
            }
            match text {
                "(" | "[" | "{" => {
                    here.links += 1;
                    open.push(std::mem::take(&mut here));
                }
                ")" | "]" | "}" => {
                    let inner = here.whole() + 1;
                    here = open.pop().unwrap_or_default();
                    here.inner = here.inner.max(inner);
                }
                "," => here = Depth { siblings: here.whole(), ..Depth::default() },
                "if" | "else" | "not" | "and" | "or" | "in" | "is" => here.links += 1,
                "elif" => branches += 1,
                "def" => branches = 0,
                // Each operator or point in a row adds a level to the tree.
                _ if token.kind == TokenKind::Sign => here.links += 1,
                _ => {}
            }
            let is_deep_block = token.indent.is_some_and(|indent| indent > 2 * MOST_DEPTH);
            if is_deep_block || open.len() > MOST_DEPTH || here.whole() > MOST_DEPTH || branches > MOST_DEPTH {
                self.odd(at, "blocks or expressions inside one another too deep");
                return false;
            }
        }
        true
    }

    /// Judges every name, and every call.
    fn names(&mut self) {
        let mut scope = self.scope(0);
        let mut assigned = HashSet::new();
        for at in 0..self.text.tokens.len() {
            if self.text.steps.get() > MOST_STEPS {
                self.odd(at, "more code than can be judged");
                return;
            }
            let token = self.text.tokens[at];
            match token.indent {
                Some(0) => self.outer = Some(at),
                Some(MEMBER_INDENT)
                    if !token.is("def") && self.outer.is_some_and(|outer| self.text.is(outer, "class")) =>
                {
                    self.constant(at);
                }
                _ => {}
            }
            let before = at.checked_sub(1).and_then(|before| self.text.tokens.get(before));
            if self.text.is(at + 1, "=") && self.text.is(at + 2, "__torch__") {
                let tokens: &'a [Token<'a>] = self.text.tokens;
                self.assigned_functions.insert(tokens[at].text);
            }
            if token.is("def") {
                self.assigned_functions.clear();
                self.defaults(at);
                scope = self.scope(at + 1);
                let tokens: &'a [Token<'a>] = self.text.tokens;
                assigned = self.text.assigned(at).into_iter().map(|place| tokens[place].text).collect();
            }
            if token.is("(")
                && before.is_some_and(|before| before.is(")") || before.is("]") || before.kind == TokenKind::Text)
            {
                self.odd(at, "a call of something without a name");
            }
            if token.kind != TokenKind::Name {
                continue;
            }
            if REFUSED.contains(&token.text) {
                self.odd(at, format!("'{}'", token.text));
                continue;
            }
            match before {
                Some(point) if point.is(".") => self.member(at),
                Some(word) if word.is("def") => self.definition(at),
                // The name of a class stands among types; it is no operator.
                Some(word) if word.is("class") => {}
                _ => self.head(at, &scope, &assigned),
            }
        }
    }

    fn definition(&mut self, at: usize) {
        let name = self.text.tokens[at].text;
        if OTHERS.contains(name) {
            self.odd(at, format!("a method '{name}', which is an operator's name"));
        }
        let is_placed = match self.text.tokens[at - 1].indent {
            Some(0) => true,
            Some(MEMBER_INDENT) => self.outer.is_some_and(|outer| self.text.is(outer, "class")),
            _ => false,
        };
        if !is_placed {
            self.odd(at, format!("a function '{name}' inside another"));
        }
    }

    /// Judges the values of arguments that are left out: libtorch computes them while it loads the file.
    fn defaults(&mut self, def: usize) {
        let header = self.text.header(def);
        let flat = self.text.at_depth(header.clone(), 1);
        let equals: Vec<usize> = flat.iter().copied().filter(|&at| self.text.is(at, "=")).collect();
        for equals in equals {
            let end = flat.iter().copied().find(|&at| at > equals && self.text.is(at, ",")).unwrap_or(header.end - 1);
            if !is_literal(&self.text.tokens[equals + 1..end.max(equals + 1)]) {
                self.odd(equals, "an argument whose value is computed while loading");
            }
        }
    }

    /// Judges the value of a constant of a class, which libtorch computes while it loads the file.
    fn constant(&mut self, first: usize) {
        let length = self.text.tokens[first + 1..].iter().take_while(|token| token.indent.is_none()).count();
        let line = first..first + 1 + length;
        // What follows is a type.
        if self.text.is(first, "__annotations__") {
            return;
        }
        let equals = self.text.at_depth(line.clone(), 0).into_iter().find(|&at| self.text.is(at, "="));
        if equals.is_some_and(|equals| !is_literal(&self.text.tokens[equals + 1..line.end])) {
            self.odd(first, "a constant whose value is computed while loading");
        }
    }

    /// Returns the variables of a function that only ever hold functions of the file.
    fn scope(&self, start: usize) -> HashSet<&'a str> {
        let mut held = HashMap::new();
        let tokens: &'a [Token<'a>] = self.text.tokens;
        for (at, token) in tokens.iter().enumerate().skip(start) {
            if at > start && (token.is("def") || token.is("class")) {
                break;
            }
            self.text.spend(1);
            if token.kind != TokenKind::Name || at > 0 && self.text.is(at - 1, ".") {
                continue;
            }
            let is_function = self.text.is(at + 1, "(")
                || self.text.is(at + 1, "=")
                    && self.text.is(at + 2, "__torch__")
                    && !self.text.is(at + 3, "=")
                    && self.ends_with_name(at + 2);
            *held.entry(token.text).or_insert(true) &= is_function;
        }
        held.into_iter().filter_map(|(name, only)| only.then_some(name)).collect()
    }

    /// Whether the chain of names from `at` on is the whole expression of its line, and names something of the file.
    fn ends_with_name(&self, at: usize) -> bool {
        let (name, used) = chain(&self.text.tokens[at..]);
        let ends = self.text.tokens.get(at + used).is_none_or(|next| next.indent.is_some());
        ends && self.text.code.defines(&name)
    }

    /// Judges a name behind a point, unless its chain begins with torch, ops or __torch__: that is judged by `head`.
    fn member(&mut self, at: usize) {
        let mut start = at;
        while start >= 2 && self.text.is(start - 1, ".") && self.text.tokens[start - 2].kind == TokenKind::Name {
            start -= 2;
        }
        let head = &self.text.tokens[start];
        if !self.text.is(start.wrapping_sub(1), ".") && ["torch", "ops", "__torch__"].iter().any(|name| head.is(name)) {
            return; // judged at its head
        }
        let name = self.text.tokens[at].text;
        let is_called = self.text.is(at + 1, "(");
        // A tensor's own `data` has the numbers without the counter by which autograd knows that they were changed.
        let is_of_self = head.is("self") && start + 2 == at;
        let is_allowed = match is_called {
            false if name == "data" => is_of_self && self.text.code.attributes.contains(name),
            true => ALLOWED.contains(name) || self.text.code.callable.contains(name) && !OTHERS.contains(name),
            false => !OTHERS.contains(name) || self.text.code.attributes.contains(name),
        };
        if !is_allowed {
            let is_operator = OTHERS.contains(name);
            self.find(
                at,
                if is_operator { format!("torch.{name}") } else { format!("the method '{name}'") },
                is_operator,
            );
        }
    }

    /// Judges the chain of names that begins at `at`, and its call if it is called.
    fn head(&mut self, at: usize, functions: &HashSet<&str>, assigned: &HashSet<&str>) {
        let (name, used) = chain(&self.text.tokens[at..]);
        let parts: Vec<&str> = name.split('.').collect();
        match parts.as_slice() {
            ["torch", operator] if ALLOWED.contains(operator) => {}
            ["ops", "prim" | "aten", operator] if ALLOWED.contains(operator) => {}
            ["torch" | "ops"] => self.odd(at, format!("'{name}' without an operator")),
            ["torch" | "ops", ..] => self.find(at, name.clone(), true),
            ["__torch__", "torch", "classes", ..] => self.find(at, name.clone(), true),
            ["__torch__", ..] if self.text.code.defines(&name) => {}
            ["__torch__", ..] => self.odd(at, format!("'{name}', which the file does not define")),
            [called] if self.text.is(at + used, "(") => {
                let is_known = BUILTINS.contains(called) && !assigned.contains(called)
                    || KEYWORDS.contains(called)
                    || functions.contains(called) && self.assigned_functions.contains(called);
                if !is_known {
                    self.odd(at, format!("a call of '{called}', which may be anything"));
                }
                match *called {
                    "getattr" => self.getattr(at),
                    "unchecked_cast" if !self.text.is_sound_cast(at) => {
                        self.odd(at, "an unchecked_cast to a type that its value was not declared with");
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }

    /// Judges `getattr(x, "name")`, which reads an attribute.
    fn getattr(&mut self, at: usize) {
        let mut depth = 0;
        let end = (at + 1..self.text.tokens.len()).find(|&end| {
            depth += i32::from(self.text.is(end, "(")) - i32::from(self.text.is(end, ")"));
            depth == 0
        });
        let name = end.and_then(|end| unquoted(self.text.tokens[end - 1].text).filter(|_| self.text.is(end - 2, ",")));
        match name {
            Some(name) if self.text.code.attributes.contains(&name) || !OTHERS.contains(&*name) => {}
            _ => self.odd(at, "getattr of something that is no attribute"),
        }
    }
}
