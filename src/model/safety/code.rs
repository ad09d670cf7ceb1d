//! Reads the code of a TorchScript file: what it defines, and whether it calls anything beyond the allowed operators.
//!
//! libtorch finds what a name means by rules of its own, so everything is refused whose meaning is not plain from the
//! text: `torch` and `ops` without a name behind them, calls of what another call returned, calls of variables that
//! ever held something else than a function of the file, and methods whose name is an operator's.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap, HashSet};

use super::Refusal;
use super::lexer::{Token, TokenKind, tokens, unquoted};
use super::operators::{ALLOWED, OTHERS};
use super::types::{Base, Class, Returned, Type, chain};

/// Deepest nesting of blocks and expressions, and most branches of one condition: libtorch's compiler goes as deep, and
/// overflows the 2 MiB stack of a thread between 1,000 and 4,000.
const MOST_DEPTH: usize = 200;
/// Functions of the language whose result is of the type that they are given.
const TYPED: [&str; 3] = ["annotate", "unchecked_cast", "uninitialized"];
/// How many tokens may be looked at again to know what names mean; networks need some ten times their own number.
const MOST_STEPS: usize = 30_000_000;
/// Letters of a declaration that are kept.
const MOST_DECLARATION: usize = 2000;
/// Spaces before the members of a class, as torch.jit.save writes them.
const MEMBER_INDENT: usize = 2;
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

/// The names that the code of a file defines.
#[derive(Debug, Default)]
pub struct Code {
    /// The classes by their full names, as in `__torch__.networks.layers.FullyConnected`.
    pub classes: HashMap<String, Class>,
    /// The functions outside of classes, by their full names.
    functions: HashSet<String>,
    /// The last parts of the names of all methods and functions.
    callable: HashSet<String>,
    /// The names of the attributes of all classes.
    attributes: HashSet<String>,
}

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

impl Code {
    /// Reads the files below `code/` and lists what they do beyond what is allowed.
    ///
    /// # Errors
    /// A file has text that `torch.jit.save` does not write.
    pub fn read(files: &BTreeMap<String, String>) -> Result<(Self, Vec<Finding>), Refusal> {
        let mut code = Self::default();
        let mut read = Vec::new();
        for (name, text) in files {
            let tokens = tokens(text)?;
            code.define(&module_of(name)?, &tokens)?;
            read.push((name, tokens));
        }
        code.check_interfaces()?;
        let mut findings = Vec::new();
        for (name, tokens) in &read {
            let mut judge = Judge {
                code: &code,
                file: name,
                tokens,
                findings: &mut findings,
                outer: None,
                given: HashSet::new(),
                steps: Cell::new(0),
            };
            // `names` walks along chains and blocks, so it only judges code that `depths` has found to be of bounded
            // depth.
            if judge.depths() {
                judge.names();
            }
        }
        Ok((code, findings))
    }

    fn define(&mut self, module: &str, tokens: &[Token]) -> Result<(), Refusal> {
        let mut class: Option<String> = None;
        let mut is_first_member = false;
        let starts = tokens.iter().enumerate().filter_map(|(at, token)| Some((at, token.indent?)));
        for (at, indent) in starts {
            let rest = &tokens[at..];
            let name = || rest.get(1).map_or_else(String::new, |name| name.text.to_owned());
            match (indent, rest[0].text) {
                (0, "class") => {
                    let full = format!("{module}.{}", name());
                    let unusual =
                        || Refusal::unusual(format!("its code declares the class '{full}' in an unusual way"));
                    let base = base_of(rest).ok_or_else(unusual)?;
                    let empty = Class {
                        base,
                        attributes: Vec::new(),
                        places: HashMap::new(),
                        methods: Vec::new(),
                        returned: HashMap::new(),
                        parameters: HashSet::new(),
                    };
                    if self.classes.insert(full.clone(), empty).is_some() {
                        return Err(Refusal::unusual(format!("its code defines '{full}' twice")));
                    }
                    (class, is_first_member) = (Some(full), true);
                }
                (0, "def") => {
                    self.functions.insert(format!("{module}.{}", name()));
                    self.callable.insert(name());
                    class = None;
                }
                (0, _) => class = None,
                (_, _) => {
                    // This indent tells members from what stands in their bodies.
                    if std::mem::take(&mut is_first_member) && indent != MEMBER_INDENT {
                        return Err(Refusal::unusual("its code is indented as torch.jit.save does not".into()));
                    }
                    if let Some(full) = &class {
                        self.define_member(full, indent, rest)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn define_member(&mut self, class: &str, indent: usize, rest: &[Token]) -> Result<(), Refusal> {
        let Some(found) = self.classes.get_mut(class) else { return Ok(()) };
        if rest[0].is("def") && rest.len() > 1 {
            let name = rest[1].text.to_owned();
            let (declaration, body) = declaration(&rest[1..]);
            if let Some(returned) = returned(body, indent) {
                found.returned.insert(name.clone(), returned);
            }
            self.callable.insert(name.clone());
            found.methods.push((name, declaration));
            return Ok(());
        }
        if indent != MEMBER_INDENT || rest.len() < 3 {
            return Ok(());
        }
        if rest[0].is("__parameters__") {
            let line = rest[0].line;
            let texts =
                rest.iter().take_while(|token| token.line == line).filter(|token| token.kind == TokenKind::Text);
            found.parameters = texts.filter_map(|token| unquoted(token.text)).collect();
            return Ok(());
        }
        let (name, type_at) = match rest {
            [name, colon, ..] if name.kind == TokenKind::Name && colon.is(":") => (name.text.to_owned(), 2),
            // Names that are no identifiers are written as __annotations__["0"] = ...
            [first, open, name, close, equals, ..]
                if first.is("__annotations__") && open.is("[") && close.is("]") && equals.is("=") =>
            {
                let named = unquoted(name.text).ok_or_else(|| {
                    Refusal::unusual(format!("its code has an attribute of an unusual name, {}", name.text))
                })?;
                (named, 5)
            }
            _ => return Ok(()),
        };
        let line = rest[0].line;
        let length = rest.iter().take_while(|token| token.line == line).count();
        let (kind, used) = Type::parse(&rest[type_at.min(length)..length]);
        let kind = match kind {
            // Something that is not understood follows the type.
            kind if kind != Type::Final && type_at + used != length => Type::Other(name.clone()),
            kind => kind,
        };
        self.attributes.insert(name.clone());
        // Said twice, neither is believed.
        match found.places.get(&name) {
            Some(&place) => found.attributes[place].1 = Type::Other(name),
            None => {
                found.places.insert(name.clone(), found.attributes.len());
                found.attributes.push((name, kind));
            }
        }
        Ok(())
    }

    /// Refuses interfaces that are none to libtorch, or that anything would fit.
    fn check_interfaces(&self) -> Result<(), Refusal> {
        let is_odd =
            |class: &Class| class.base == Base::Interface && (class.methods.is_empty() || !class.attributes.is_empty());
        match self.classes.iter().find(|(_, class)| is_odd(class)) {
            Some((name, _)) => {
                Err(Refusal::unusual(format!("its code declares the interface '{name}' in an unusual way")))
            }
            None => Ok(()),
        }
    }

    /// Whether a class has every method of an interface, with the same arguments and result: libtorch calls them by name and
    /// does not compare.
    pub(super) fn has_methods_of(&self, class: &str, interface: &str) -> bool {
        let (Some(class), Some(interface)) = (self.classes.get(class), self.classes.get(interface)) else {
            return false;
        };
        let wanted = interface.methods.iter().map(|(name, declaration)| (name, behind_self(declaration)));
        let is_whole = |methods: &[(String, String)]| methods.iter().all(|(_, text)| text.len() <= MOST_DECLARATION);
        class.base == Base::Object
            && is_whole(&class.methods)
            && is_whole(&interface.methods)
            && wanted.clone().all(|(name, declaration)| {
                let own = class.methods.iter().find(|(own, _)| own == name);
                declaration.is_some() && own.and_then(|(_, own)| behind_self(own)) == declaration
            })
    }

    /// Whether a name that begins with `__torch__` is a class or function of the file, or a member of a class.
    fn defines(&self, name: &str) -> bool {
        let owner = name.rsplit_once('.').map_or("", |(owner, _)| owner);
        self.classes.contains_key(name) || self.functions.contains(name) || self.classes.contains_key(owner)
    }
}

/// Returns what a class is declared as: `class NAME(BASE):` or `class NAME:`, and nothing else.
fn base_of(tokens: &[Token]) -> Option<Base> {
    if tokens.get(1).is_none_or(|name| name.kind != TokenKind::Name) {
        return None;
    }
    if tokens.get(2).is_some_and(|colon| colon.is(":")) {
        return Some(Base::Object);
    }
    let ends = |at: usize, sign: &str| tokens.get(at).is_some_and(|token| token.is(sign));
    if !(ends(2, "(") && ends(4, ")") && ends(5, ":")) {
        return None;
    }
    match tokens[3].text {
        "NamedTuple" => Some(Base::NamedTuple),
        "Enum" => Some(Base::Enum),
        "Interface" | "ModuleInterface" => Some(Base::Interface),
        "Module" => Some(Base::Object),
        _ => None,
    }
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

/// The module of a file `code/__torch__/networks/layers.py`: libtorch looks for `__torch__.networks.layers` there alone.
fn module_of(file: &str) -> Result<String, Refusal> {
    let path = file.strip_prefix("code/").and_then(|rest| rest.strip_suffix(".py"));
    let is_usual =
        |path: &&str| path.split('/').next() == Some("__torch__") && !path.contains('.') && !path.contains("//");
    let path = path.filter(is_usual);
    let unusual = || Refusal::unusual(format!("its code has a file of an unusual name, '{file}'"));
    path.map(|path| path.replace('/', ".")).ok_or_else(unusual)
}

/// Returns what follows `self` and its type in a declaration: `, x: Tensor) -> Tensor`.
fn behind_self(declaration: &str) -> Option<&str> {
    let at = declaration.find("(self")?;
    let rest = &declaration[at + "(self".len()..];
    rest.find([',', ')']).map(|end| &rest[end..])
}

/// Returns the text of a declaration up to its colon, and the tokens that follow.
fn declaration<'a, 'b>(tokens: &'b [Token<'a>]) -> (String, &'b [Token<'a>]) {
    let (mut text, mut depth) = (String::new(), 0_i32);
    for (at, token) in tokens.iter().enumerate() {
        match token.text {
            "(" | "[" => depth += 1,
            ")" | "]" => depth -= 1,
            ":" if depth == 0 => return (text, &tokens[at + 1..]),
            _ => {}
        }
        text.push_str(match token.text {
            "," => ", ",
            ":" => ": ",
            "-" if tokens.get(at + 1).is_some_and(|next| next.is(">")) => " -",
            ">" => "> ",
            other => other,
        });
        if text.len() > MOST_DECLARATION {
            break;
        }
    }
    (text, &[])
}

/// Returns the text or attribute that a body returns, if it does nothing else.
fn returned(body: &[Token], indent: usize) -> Option<Returned> {
    let end = body.iter().position(|token| token.indent.is_some_and(|own| own <= indent)).unwrap_or(body.len());
    match &body[..end] {
        [word, text] if word.is("return") && text.kind == TokenKind::Text => Some(Returned::Text(unquoted(text.text)?)),
        [word, owner, point, name] if word.is("return") && owner.is("self") && point.is(".") => {
            Some(Returned::Attribute(name.text.to_owned()))
        }
        _ => None,
    }
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
    code: &'a Code,
    file: &'a str,
    tokens: &'a [Token<'a>],
    findings: &'a mut Vec<Finding>,
    /// The place of the last word without indentation.
    outer: Option<usize>,
    /// The variables that were assigned a function of the file so far in the present function.
    given: HashSet<&'a str>,
    /// The tokens that were looked at again, to know what a name means.
    steps: Cell<usize>,
}

impl<'a> Judge<'a> {
    fn find(&mut self, at: usize, what: impl Into<String>, is_operator: bool) {
        let line = self.tokens.get(at).map_or(0, |token| token.line);
        self.findings.push(Finding { what: what.into(), is_operator, place: format!("{}, line {line}", self.file) });
    }

    fn odd(&mut self, at: usize, what: impl Into<String>) {
        self.find(at, what, false);
    }

    fn is(&self, at: usize, text: &str) -> bool {
        self.tokens.get(at).is_some_and(|token| token.is(text))
    }

    /// Whether blocks and expressions are no deeper than those of networks; what is deeper becomes a finding.
    fn depths(&mut self) -> bool {
        let (mut open, mut here, mut branches) = (Vec::new(), Depth::default(), 0);
        for at in 0..self.tokens.len() {
            let token = &self.tokens[at];
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
        for at in 0..self.tokens.len() {
            if self.steps.get() > MOST_STEPS {
                self.odd(at, "more code than can be judged");
                return;
            }
            let token = self.tokens[at];
            match token.indent {
                Some(0) => self.outer = Some(at),
                Some(MEMBER_INDENT) if !token.is("def") && self.outer.is_some_and(|outer| self.is(outer, "class")) => {
                    self.constant(at);
                }
                _ => {}
            }
            let before = at.checked_sub(1).and_then(|before| self.tokens.get(before));
            if self.is(at + 1, "=") && self.is(at + 2, "__torch__") {
                let tokens: &'a [Token<'a>] = self.tokens;
                self.given.insert(tokens[at].text);
            }
            if token.is("def") {
                self.given.clear();
                self.defaults(at);
                scope = self.scope(at + 1);
                let tokens: &'a [Token<'a>] = self.tokens;
                assigned = self.assigned(at).into_iter().map(|place| tokens[place].text).collect();
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
        let name = self.tokens[at].text;
        if OTHERS.contains(name) {
            self.odd(at, format!("a method '{name}', which is an operator's name"));
        }
        let is_placed = match self.tokens[at - 1].indent {
            Some(0) => true,
            Some(MEMBER_INDENT) => self.outer.is_some_and(|outer| self.is(outer, "class")),
            _ => false,
        };
        if !is_placed {
            self.odd(at, format!("a function '{name}' inside another"));
        }
    }

    /// Notes that so many tokens are looked at again.
    fn spend(&self, count: usize) {
        self.steps.set(self.steps.get().saturating_add(count));
    }

    /// Judges the values of arguments that are left out: libtorch computes them while it loads the file.
    fn defaults(&mut self, def: usize) {
        let header = self.header(def);
        let flat = self.at_depth(header.clone(), 1);
        let equals: Vec<usize> = flat.iter().copied().filter(|&at| self.is(at, "=")).collect();
        for equals in equals {
            let end = flat.iter().copied().find(|&at| at > equals && self.is(at, ",")).unwrap_or(header.end - 1);
            if !is_literal(&self.tokens[equals + 1..end.max(equals + 1)]) {
                self.odd(equals, "an argument whose value is computed while loading");
            }
        }
    }

    /// Judges the value of a constant of a class, which libtorch computes while it loads the file.
    fn constant(&mut self, first: usize) {
        let length = self.tokens[first + 1..].iter().take_while(|token| token.indent.is_none()).count();
        let line = first..first + 1 + length;
        // What follows is a type.
        if self.is(first, "__annotations__") {
            return;
        }
        let equals = self.at_depth(line.clone(), 0).into_iter().find(|&at| self.is(at, "="));
        if equals.is_some_and(|equals| !is_literal(&self.tokens[equals + 1..line.end])) {
            self.odd(first, "a constant whose value is computed while loading");
        }
    }

    /// Returns the place of the parameters of a `def`, with their brackets.
    fn header(&self, def: usize) -> std::ops::Range<usize> {
        let mut depth = 0_i32;
        let closes = |&at: &usize| {
            depth += i32::from(self.is(at, "(")) - i32::from(self.is(at, ")"));
            depth == 0 && self.is(at, ")")
        };
        let end = (def..self.tokens.len()).find(closes).map_or(self.tokens.len(), |end| end + 1);
        def..end
    }

    /// Returns the full name of the class whose member is at `at`.
    fn class_around(&self, at: usize) -> Option<String> {
        let outer = (0..at).rev().find(|&before| self.tokens[before].indent == Some(0))?;
        self.spend(at - outer);
        let name = self.tokens.get(outer + 1).filter(|_| self.is(outer, "class"))?;
        Some(format!("{}.{}", module_of(self.file).ok()?, name.text))
    }

    /// Lists the places in the function whose `def` is at `start` where a name gets a value.
    fn assigned(&self, start: usize) -> Vec<usize> {
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
    fn at_depth(&self, range: std::ops::Range<usize>, wanted: usize) -> Vec<usize> {
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

    /// Returns the variables of a function that only ever hold functions of the file.
    fn scope(&self, start: usize) -> HashSet<&'a str> {
        let mut held = HashMap::new();
        let tokens: &'a [Token<'a>] = self.tokens;
        for (at, token) in tokens.iter().enumerate().skip(start) {
            if at > start && (token.is("def") || token.is("class")) {
                break;
            }
            self.spend(1);
            if token.kind != TokenKind::Name || at > 0 && self.is(at - 1, ".") {
                continue;
            }
            let is_function = self.is(at + 1, "(")
                || self.is(at + 1, "=")
                    && self.is(at + 2, "__torch__")
                    && !self.is(at + 3, "=")
                    && self.ends_with_name(at + 2);
            *held.entry(token.text).or_insert(true) &= is_function;
        }
        held.into_iter().filter_map(|(name, only)| only.then_some(name)).collect()
    }

    /// Whether the chain of names from `at` on is the whole expression of its line, and names something of the file.
    fn ends_with_name(&self, at: usize) -> bool {
        let (name, used) = chain(&self.tokens[at..]);
        let ends = self.tokens.get(at + used).is_none_or(|next| next.indent.is_some());
        ends && self.code.defines(&name)
    }

    /// Judges a name behind a point, unless its chain begins with torch, ops or __torch__: that is judged by `head`.
    fn member(&mut self, at: usize) {
        let mut start = at;
        while start >= 2 && self.is(start - 1, ".") && self.tokens[start - 2].kind == TokenKind::Name {
            start -= 2;
        }
        let head = &self.tokens[start];
        if !self.is(start.wrapping_sub(1), ".") && ["torch", "ops", "__torch__"].iter().any(|name| head.is(name)) {
            return; // judged at its head
        }
        let name = self.tokens[at].text;
        let is_called = self.is(at + 1, "(");
        // A tensor's own `data` has the numbers without the counter by which autograd knows that they were changed.
        let is_of_self = head.is("self") && start + 2 == at;
        let is_allowed = match is_called {
            false if name == "data" => is_of_self && self.code.attributes.contains(name),
            true => ALLOWED.contains(name) || self.code.callable.contains(name) && !OTHERS.contains(name),
            false => !OTHERS.contains(name) || self.code.attributes.contains(name),
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
        let (name, used) = chain(&self.tokens[at..]);
        let parts: Vec<&str> = name.split('.').collect();
        match parts.as_slice() {
            ["torch", operator] if ALLOWED.contains(operator) => {}
            ["ops", "prim" | "aten", operator] if ALLOWED.contains(operator) => {}
            ["torch" | "ops"] => self.odd(at, format!("'{name}' without an operator")),
            ["torch" | "ops", ..] => self.find(at, name.clone(), true),
            ["__torch__", "torch", "classes", ..] => self.find(at, name.clone(), true),
            ["__torch__", ..] if self.code.defines(&name) => {}
            ["__torch__", ..] => self.odd(at, format!("'{name}', which the file does not define")),
            [called] if self.is(at + used, "(") => {
                let is_known = BUILTINS.contains(called) && !assigned.contains(called)
                    || KEYWORDS.contains(called)
                    || functions.contains(called) && self.given.contains(called);
                if !is_known {
                    self.odd(at, format!("a call of '{called}', which may be anything"));
                }
                match *called {
                    "getattr" => self.getattr(at),
                    "unchecked_cast" => self.cast(at),
                    _ => {}
                }
            }
            _ => {}
        }
    }

    /// `unchecked_cast(T, x)` says that x is a T, and libtorch believes it. Numbers, texts and tensors know what they are;
    /// objects and tuples are read as T says, so x must have been declared as `Optional[T]`.
    fn cast(&mut self, at: usize) {
        let (kind, used) = Type::parse(&self.tokens[at + 2..]);
        let comma = at + 2 + used;
        let is_sound = self.is(comma, ",") && (kind.knows_itself() || self.is_declared(comma + 1, &kind));
        if !is_sound {
            self.odd(at, "an unchecked_cast to a type that its value was not declared with");
        }
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

    /// Judges `getattr(x, "name")`, which reads an attribute.
    fn getattr(&mut self, at: usize) {
        let mut depth = 0;
        let end = (at + 1..self.tokens.len()).find(|&end| {
            depth += i32::from(self.is(end, "(")) - i32::from(self.is(end, ")"));
            depth == 0
        });
        let name = end.and_then(|end| unquoted(self.tokens[end - 1].text).filter(|_| self.is(end - 2, ",")));
        match name {
            Some(name) if self.code.attributes.contains(&name) || !OTHERS.contains(&*name) => {}
            _ => self.odd(at, "getattr of something that is no attribute"),
        }
    }
}
