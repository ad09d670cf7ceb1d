//! Reads what the code of a TorchScript file defines: classes with their attributes and methods, and functions.
//!
//! Proves that every name is declared once, in the file where libtorch looks for it, and in the way of `torch.jit.save`;
//! whatever else is written is refused. What the code does is judged in `judge.rs`.

use std::collections::{HashMap, HashSet};

use super::Refusal;
use super::lexer::{Token, TokenKind, unquoted};
use super::types::{Base, Class, Returned, Type};

/// Letters of a declaration that are kept.
const MOST_DECLARATION: usize = 2000;
/// Spaces before the members of a class, as torch.jit.save writes them.
pub(super) const MEMBER_INDENT: usize = 2;
/// The names that the code of a file defines.
#[derive(Debug, Default)]
pub struct Code {
    /// The classes by their full names, as in `__torch__.networks.layers.FullyConnected`.
    pub classes: HashMap<String, Class>,
    /// The functions outside of classes, by their full names.
    functions: HashSet<String>,
    /// The last parts of the names of all methods and functions.
    pub(super) callable: HashSet<String>,
    /// The names of the attributes of all classes.
    pub(super) attributes: HashSet<String>,
}

impl Code {
    /// Reads the files below `code/`, which come by name as tokens.
    ///
    /// # Errors
    /// A file declares something in a way that `torch.jit.save` does not.
    pub fn read(files: &[(&str, Vec<Token>)]) -> Result<Self, Refusal> {
        let mut code = Self::default();
        for (name, tokens) in files {
            code.define(&module_of(name)?, tokens)?;
        }
        code.check_interfaces()?;
        Ok(code)
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
    pub(super) fn defines(&self, name: &str) -> bool {
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

/// The module of a file `code/__torch__/networks/layers.py`: libtorch looks for `__torch__.networks.layers` there alone.
pub(super) fn module_of(file: &str) -> Result<String, Refusal> {
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
