//! Reads types as TorchScript writes them beside attributes, and describes the classes that the code of a file defines.

use std::collections::{HashMap, HashSet};

use super::lexer::{Token, TokenKind};

/// Deepest nesting of types.
const MOST_DEPTH: usize = 50;

/// The type of what an attribute holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Type {
    /// A tensor.
    Tensor,
    /// A whole number; types of tensors, layouts and numbers of devices are such, too.
    Int,
    /// A number in floating point.
    Float,
    /// A whole number or one in floating point.
    Number,
    /// True or false.
    Bool,
    /// A text.
    Text,
    /// A device.
    Device,
    /// `None`.
    None,
    /// A value of any type.
    Any,
    /// A list of one type.
    List(Box<Type>),
    /// A dictionary.
    Dict(Box<Type>, Box<Type>),
    /// A tuple, each item of its own type.
    Tuple(Vec<Type>),
    /// A type or `None`.
    Optional(Box<Type>),
    /// A constant that is kept in the code.
    Final,
    /// An object of a class of the file, by its full name.
    Class(String),
    /// A type that networks do not hold, or that is not understood: no value is of it.
    Other(String),
}

/// The kind of class that was declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// A module, or a class of the script.
    Object,
    /// A tuple whose items have names.
    NamedTuple,
    /// An enumeration of constants.
    Enum,
    /// An interface: what other classes have in common.
    Interface,
}

/// A class of the file, as its code declares it.
#[derive(Debug)]
pub struct Class {
    /// The kind of class.
    pub base: Base,
    /// The names and types of what its objects hold, in order.
    pub attributes: Vec<(String, Type)>,
    /// The place of each name in that list.
    pub places: HashMap<String, usize>,
    /// Its methods: name, and what stands between `def` and the colon, as in `forward(self, x: Tensor) -> Tensor`.
    pub methods: Vec<(String, String)>,
    /// The methods that do nothing but return an attribute or a text, and what they return.
    pub returned: HashMap<String, Returned>,
    /// The names of the attributes that are parameters.
    pub parameters: HashSet<String>,
}

/// The result of a method that does nothing but return it.
#[derive(Debug, PartialEq)]
pub enum Returned {
    /// The attribute of this name.
    Attribute(String),
    /// The text as it stands.
    Text(String),
}

impl Type {
    /// Whether values carry their own type, so that taking one for another is an error and not damage to memory.
    pub fn knows_itself(&self) -> bool {
        match self {
            Type::Tensor
            | Type::Int
            | Type::Float
            | Type::Number
            | Type::Bool
            | Type::Text
            | Type::Device
            | Type::None => true,
            Type::Optional(inner) => inner.knows_itself(),
            // Items of a list or dictionary are not compared with its type.
            Type::List(_) | Type::Dict(..) => false,
            Type::Any | Type::Tuple(_) | Type::Final | Type::Class(_) | Type::Other(_) => false,
        }
    }

    /// Returns the type that `tokens` begin with, and how many tokens it has.
    pub fn parse(tokens: &[Token]) -> (Self, usize) {
        parse(tokens, 0).unwrap_or_else(|| {
            let text: String = tokens.iter().take(20).map(|token| token.text).collect();
            (Type::Other(text), tokens.len())
        })
    }
}

fn parse(tokens: &[Token], depth: usize) -> Option<(Type, usize)> {
    let first = tokens.first()?;
    if first.kind != TokenKind::Name || depth > MOST_DEPTH {
        return None;
    }
    let simple = |found| Some((found, 1));
    match first.text {
        "Tensor" => simple(Type::Tensor),
        "int" => simple(Type::Int),
        "float" => simple(Type::Float),
        "number" | "Scalar" => simple(Type::Number),
        "bool" => simple(Type::Bool),
        "str" => simple(Type::Text),
        "Device" => simple(Type::Device),
        "NoneType" | "None" => simple(Type::None),
        "Any" => simple(Type::Any),
        "Final" => Some((Type::Final, tokens.len().min(1))),
        "List" | "Optional" | "Dict" | "Tuple" => {
            let (inner, used) = parameters(&tokens[1..], depth)?;
            let mut inner = inner.into_iter();
            let mut next = || inner.next().map(Box::new);
            let found = match first.text {
                "List" => Type::List(next()?),
                "Optional" => Type::Optional(next()?),
                "Dict" => Type::Dict(next()?, next()?),
                _ => Type::Tuple(inner.collect()),
            };
            Some((found, used + 1))
        }
        _ => {
            let (name, used) = chain(tokens);
            (first.text == "__torch__").then_some((Type::Class(name), used))
        }
    }
}

/// Reads parameters of a type: `[A, B]`, or `[()]` of the empty tuple.
fn parameters(tokens: &[Token], depth: usize) -> Option<(Vec<Type>, usize)> {
    if !tokens.first()?.is("[") {
        return None;
    }
    let (mut found, mut at) = (Vec::new(), 1);
    loop {
        match tokens.get(at)? {
            token if token.is("]") => return Some((found, at + 1)),
            token if token.is(",") => at += 1,
            token if token.is("(") && tokens.get(at + 1)?.is(")") => at += 2,
            _ => {
                let (inner, used) = parse(&tokens[at..], depth + 1)?;
                found.push(inner);
                at += used;
            }
        }
    }
}

/// Returns the names that begin the tokens, joined by points, and the number of tokens.
pub fn chain(tokens: &[Token]) -> (String, usize) {
    let mut name = String::new();
    let mut used = 0;
    while let Some(token) = tokens.get(used).filter(|token| token.kind == TokenKind::Name) {
        name.push_str(token.text);
        used += 1;
        let goes_on = tokens.get(used).is_some_and(|point| point.is("."))
            && tokens.get(used + 1).is_some_and(|next| next.kind == TokenKind::Name);
        if !goes_on {
            break;
        }
        name.push('.');
        used += 1;
    }
    (name, used)
}
