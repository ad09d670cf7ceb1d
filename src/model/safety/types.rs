//! Types as TorchScript writes them beside attributes, and what the code of a file defines.

use std::collections::{HashMap, HashSet};

use super::lexer::{Kind, Token};

/// Types inside one another, at most.
const MOST_DEPTH: usize = 50;

/// What an attribute holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Type {
    /// A tensor.
    Tensor,
    /// A whole number; types, layouts and devices' numbers are such.
    Int,
    /// A fraction.
    Float,
    /// A whole number or a fraction.
    Number,
    /// True or false.
    Bool,
    /// A text.
    Text,
    /// A device.
    Device,
    /// `None`.
    None,
    /// Anything.
    Any,
    /// A list of one type.
    List(Box<Type>),
    /// A dictionary.
    Dict(Box<Type>, Box<Type>),
    /// Each of its own type.
    Tuple(Vec<Type>),
    /// A type or `None`.
    Optional(Box<Type>),
    /// A constant that is kept in the code.
    Final,
    /// A class of the file.
    Class(String),
    /// Something that networks do not hold.
    Other(String),
}

/// How a class was declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// A module, or a class of the script.
    Object,
    /// A tuple with names.
    NamedTuple,
    /// A list of constants.
    Enum,
    /// What other classes have in common.
    Interface,
}

/// A class of the file.
#[derive(Debug)]
pub struct Class {
    /// How it was declared.
    pub base: Base,
    /// Names and types of what its objects hold, in order.
    pub attributes: Vec<(String, Type)>,
    /// Its methods, with what stands between `def` and the line's end: `forward(self, x: Tensor) -> Tensor`.
    pub methods: Vec<(String, String)>,
    /// Methods that do nothing but return an attribute or a text, and what they return.
    pub returned: HashMap<String, Returned>,
    /// Attributes that are parameters.
    pub parameters: HashSet<String>,
}

/// What a method returns that does nothing else.
#[derive(Debug, PartialEq)]
pub enum Returned {
    /// The attribute of this name.
    Attribute(String),
    /// This text.
    Text(String),
}

impl Type {
    /// Whether its values carry what they are, so that taking one for another is an error and no damage.
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
            Type::List(inner) | Type::Optional(inner) => inner.knows_itself(),
            Type::Dict(key, value) => key.knows_itself() && value.knows_itself(),
            Type::Any | Type::Tuple(_) | Type::Final | Type::Class(_) | Type::Other(_) => false,
        }
    }

    /// The type that `tokens` begin with, and how many tokens it has.
    pub fn parse(tokens: &[Token]) -> (Self, usize) {
        parse(tokens, 0).unwrap_or_else(|| {
            let text: String = tokens.iter().take(20).map(|token| token.text).collect();
            (Type::Other(text), tokens.len())
        })
    }
}

fn parse(tokens: &[Token], depth: usize) -> Option<(Type, usize)> {
    let first = tokens.first()?;
    if first.kind != Kind::Name || depth > MOST_DEPTH {
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

/// `[A, B]`, or `[()]` of the empty tuple.
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

/// The names that begin the tokens, joined by points, and the number of tokens.
pub fn chain(tokens: &[Token]) -> (String, usize) {
    let mut name = String::new();
    let mut used = 0;
    while let Some(token) = tokens.get(used).filter(|token| token.kind == Kind::Name) {
        name.push_str(token.text);
        used += 1;
        let goes_on = tokens.get(used).is_some_and(|point| point.is("."))
            && tokens.get(used + 1).is_some_and(|next| next.kind == Kind::Name);
        if !goes_on {
            break;
        }
        name.push('.');
        used += 1;
    }
    (name, used)
}
