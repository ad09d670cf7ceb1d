//! The values in a pickle of a TorchScript file, and whether they are of the types that the code names.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use super::Refusal;
use super::code::Code;
use super::types::{Base, Type};

/// Deepest nesting of values.
pub const MOST_DEPTH: u32 = 200;
/// The most values in a pickle, where one that is used twice counts twice: libtorch visits it as often.
const MOST_VALUES: u64 = 4_000_000;

type Items = RefCell<Vec<Value>>;
type Entries = RefCell<Vec<(Value, Value)>>;
type Attributes = HashMap<Rc<str>, Value>;

/// A value of a pickle.
#[derive(Clone, Debug)]
pub enum Value {
    /// `None`.
    None,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number in floating point; which one does not matter here.
    Float,
    /// A text.
    Text(Rc<str>),
    /// A device; which one does not matter here.
    Device,
    /// A tensor, of which the shape is kept.
    Tensor(Rc<TensorView>),
    /// A tuple.
    Tuple(Rc<Node<Vec<Value>>>),
    /// A list, which may grow until another value holds it.
    List(Rc<Node<Items>>),
    /// A dictionary.
    Dict(Rc<Node<Entries>>),
    /// A module, or an object of another class of the file.
    Object(Rc<Node<Object>>),
    /// A constant of an Enum of the file, by the name of the Enum.
    Constant(Rc<str>),
    /// A class or function, by its name.
    Global(Rc<str>),
    /// A storage of the file: the number of its values, and their kind.
    Storage(Rc<(u64, &'static str)>),
}

/// A tensor as far as it is kept: its shape, and whether it is trained.
#[derive(Debug)]
pub struct TensorView {
    /// The shape of the tensor.
    pub size: Vec<i64>,
    /// Whether the values are trained.
    pub requires_grad: bool,
}

/// A value that holds others, and counts them so that neither their number nor their depth gets out of hand.
#[derive(Debug)]
pub struct Node<T> {
    /// The values that it holds.
    pub content: T,
    depth: Cell<u32>,
    values: Cell<u64>,
    /// Whether another value holds it. It does not change any more then, so that nothing can hold itself.
    placed: Cell<bool>,
    /// The type that a list or dictionary was taken for.
    taken: RefCell<Option<Taken>>,
}

/// The one type that a list or dictionary is taken for. Code that has it under two types could put in an item of the one and
/// read it as the other.
#[derive(Clone, Debug)]
struct Taken {
    kind: Type,
    /// Whether the pickle says the type, so that libtorch knows it, whatever else holds the value.
    is_tagged: bool,
}

impl<T> Node<T> {
    pub(super) fn new(content: T) -> Rc<Self> {
        Rc::new(Self {
            content,
            depth: Cell::new(1),
            values: Cell::new(1),
            placed: Cell::new(false),
            taken: RefCell::default(),
        })
    }

    /// Whether it can be taken for `kind`: it was before, or `fits` finds its items of that type now. They do not change any
    /// more.
    fn take_for(&self, kind: &Type, is_tagged: bool, fits: impl FnOnce() -> bool) -> bool {
        if let Some(taken) = &mut *self.taken.borrow_mut() {
            let is_same = taken.kind == *kind;
            taken.is_tagged |= is_same && is_tagged;
            return is_same;
        }
        let fits = fits();
        if fits {
            *self.taken.borrow_mut() = Some(Taken { kind: kind.clone(), is_tagged });
        }
        fits
    }

    /// Whether libtorch knows its type without being told by what holds it.
    fn is_tagged(&self) -> bool {
        self.taken.borrow().as_ref().is_some_and(|taken| taken.is_tagged)
    }

    /// Counts `item` as held by this value; refuses circles, too many values, and values too deep.
    pub(super) fn hold(&self, item: &Value) -> Result<(), Refusal> {
        let (depth, values) = item.extent();
        item.place();
        self.depth.set(self.depth.get().max(depth + 1));
        self.values.set(self.values.get().saturating_add(values));
        match self.depth.get() <= MOST_DEPTH && self.values.get() <= MOST_VALUES && !self.placed.get() {
            true => Ok(()),
            false => Err(Refusal::unusual(
                "its pickle holds values inside one another too deep, too many, or in a circle".into(),
            )),
        }
    }
}

/// An object of a class of the file.
#[derive(Debug)]
pub struct Object {
    /// The full name of its class.
    pub class: Rc<str>,
    /// The attributes by name, once they are set.
    pub attributes: RefCell<Option<Attributes>>,
}

impl Value {
    fn extent(&self) -> (u32, u64) {
        match self {
            Value::Tuple(node) => (node.depth.get(), node.values.get()),
            Value::List(node) => (node.depth.get(), node.values.get()),
            Value::Dict(node) => (node.depth.get(), node.values.get()),
            Value::Object(node) => (node.depth.get(), node.values.get()),
            _ => (1, 1),
        }
    }

    fn place(&self) {
        match self {
            Value::Tuple(node) => node.placed.set(true),
            Value::List(node) => node.placed.set(true),
            Value::Dict(node) => node.placed.set(true),
            Value::Object(node) => node.placed.set(true),
            _ => {}
        }
    }

    /// Whether the value is finished, so that another value may hold it.
    pub(super) fn is_finished(&self) -> bool {
        match self {
            Value::Object(object) => object.content.attributes.borrow().is_some(),
            Value::Global(_) | Value::Storage(_) => false,
            _ => true,
        }
    }

    /// Returns the value of an attribute, if this is an object that has it.
    pub fn attribute(&self, name: &str) -> Option<Value> {
        let Value::Object(object) = self else { return None };
        let attributes = object.content.attributes.borrow();
        attributes.as_ref()?.get(name).cloned()
    }

    /// Whether the value is of a type. Code is compiled for the types that classes name, and libtorch does not compare. A
    /// list or dictionary is of one type for ever after.
    pub(super) fn is_of(&self, kind: &Type, code: &Code) -> bool {
        match (kind, self) {
            (Type::Any, Value::List(list)) => {
                let all = || list.content.borrow().iter().all(|item| item.is_of(&Type::Any, code));
                list.is_tagged() || list.take_for(kind, false, all)
            }
            (Type::Any, Value::Dict(dict)) => {
                let all = || {
                    let entries = dict.content.borrow();
                    entries.iter().all(|(key, item)| key.is_of(&Type::Any, code) && item.is_of(&Type::Any, code))
                };
                dict.is_tagged() || dict.take_for(kind, false, all)
            }
            (Type::Any, Value::Tuple(items)) => items.content.iter().all(|item| item.is_of(&Type::Any, code)),
            (Type::Any, _) => true,
            (Type::Optional(_) | Type::None, Value::None) => true,
            (Type::Optional(inner), value) => value.is_of(inner, code),
            (Type::Tensor, Value::Tensor(_))
            | (Type::Int | Type::Number, Value::Int(_))
            | (Type::Float | Type::Number, Value::Float)
            | (Type::Bool, Value::Bool(_))
            | (Type::Text, Value::Text(_))
            | (Type::Device, Value::Device) => true,
            (Type::List(_), Value::List(_)) | (Type::Dict(..), Value::Dict(_)) => {
                self.is_container_of(kind, false, code)
            }
            (Type::Tuple(kinds), Value::Tuple(items)) => {
                let items = &items.content;
                items.len() == kinds.len() && items.iter().zip(kinds).all(|(item, kind)| item.is_of(kind, code))
            }
            (Type::Class(name), value) => match (code.classes.get(name).map(|class| class.base), value) {
                (Some(Base::Interface), Value::Object(object)) => code.has_methods_of(&object.content.class, name),
                (Some(Base::Object), Value::Object(object)) => *object.content.class == **name,
                (Some(Base::Enum), Value::Constant(class)) => **class == **name,
                (Some(Base::NamedTuple), Value::Tuple(items)) => {
                    let kinds = &code.classes[name].attributes;
                    let items = &items.content;
                    items.len() == kinds.len()
                        && items.iter().zip(kinds).all(|(item, (_, kind))| item.is_of(kind, code))
                }
                _ => false,
            },
            _ => false,
        }
    }

    /// Whether the pickle may say that this is a list or dictionary of a type; libtorch then takes it for that.
    pub(super) fn can_be_tagged(&self, kind: &Type, code: &Code) -> bool {
        self.is_container_of(kind, true, code)
    }

    fn is_container_of(&self, kind: &Type, is_tagged: bool, code: &Code) -> bool {
        match (kind, self) {
            (Type::List(inner), Value::List(list)) => {
                list.take_for(kind, is_tagged, || list.content.borrow().iter().all(|item| item.is_of(inner, code)))
            }
            (Type::Dict(key, value), Value::Dict(dict)) => dict.take_for(kind, is_tagged, || {
                dict.content.borrow().iter().all(|(own, item)| own.is_of(key, code) && item.is_of(value, code))
            }),
            _ => false,
        }
    }
}
