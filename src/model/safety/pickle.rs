//! Runs the pickles of a TorchScript file without libtorch, and checks which classes they name, whether every tensor
//! lies inside its storage and every storage has the bytes that it claims, and whether objects hold what their classes
//! say. libtorch compares none of this, and would read or write memory that is not the tensor's.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::Refusal;
use super::archive::Archive;
use super::code::Code;
use super::lexer::tokens;
use super::types::{Base, Type};
use super::value::{MOST_DEPTH, Node, Object, TensorView, Value};

const MOST_TEXT_BYTES: usize = 64 << 20;
const MOST_TYPE_BYTES: usize = 4096;
const MOST_DIMENSIONS: usize = 25;

/// Runs `NAME.pkl` of the archive, with storages below `NAME/`. Where `code` is given, objects are compared with it.
///
/// # Errors
/// The pickle is damaged, could corrupt memory, or would run something.
pub fn run(archive: &Archive, name: &str, code: Option<&Code>) -> Result<Value, Refusal> {
    run_entry(archive, &format!("{name}.pkl"), name, code)
}

/// Runs a pickle that holds numbers and texts alone.
///
/// # Errors
/// The pickle names a class or a storage, or is damaged.
pub fn run_plain(archive: &Archive, entry: &str) -> Result<(), Refusal> {
    run_entry(archive, entry, "", None).map(|_| ())
}

fn run_entry(archive: &Archive, entry: &str, folder: &str, code: Option<&Code>) -> Result<Value, Refusal> {
    let data = archive.content(entry)?;
    let mut machine = Machine { archive, folder, code, data: &data, at: 0, stack: vec![], marks: vec![], memo: vec![] };
    machine.run().map_err(|refusal| refusal.in_entry(entry))
}

struct Machine<'a> {
    archive: &'a Archive<'a>,
    /// The folder of the storages; empty for a pickle that may name neither storages nor classes.
    folder: &'a str,
    code: Option<&'a Code>,
    data: &'a [u8],
    at: usize,
    stack: Vec<Value>,
    marks: Vec<usize>,
    memo: Vec<Value>,
}

impl Machine<'_> {
    fn run(&mut self) -> Result<Value, Refusal> {
        if self.take(2)? != [0x80, 2] {
            return Err(odd("its pickle is of another protocol than 2"));
        }
        loop {
            match self.byte()? {
                b'.' => break,
                b'(' => self.mark()?,
                b')' => self.stack.push(Value::Tuple(Node::new(vec![]))),
                b']' => self.stack.push(Value::List(Node::new(RefCell::default()))),
                b'}' => self.stack.push(Value::Dict(Node::new(RefCell::default()))),
                b't' => {
                    let items = self.pop_to_mark()?;
                    self.tuple(items)?;
                }
                count @ 0x85..=0x87 => {
                    let items = self.last(usize::from(count - 0x84))?;
                    self.tuple(items)?;
                }
                b'N' => self.stack.push(Value::None),
                code @ (0x88 | 0x89) => self.stack.push(Value::Bool(code == 0x88)),
                b'J' => {
                    let number = i64::from(self.number(4)? as i32);
                    self.stack.push(Value::Int(number));
                }
                b'K' => {
                    let number = self.number(1)? as i64;
                    self.stack.push(Value::Int(number));
                }
                b'M' => {
                    let number = self.number(2)? as i64;
                    self.stack.push(Value::Int(number));
                }
                0x8a => self.long()?,
                b'G' => {
                    self.take(8)?;
                    self.stack.push(Value::Float);
                }
                b'X' => {
                    let length = self.number(4)? as usize;
                    let text = self.text(length)?;
                    self.stack.push(Value::Text(text));
                }
                b'c' => self.global()?,
                b'q' => {
                    let key = self.number(1)?;
                    self.put(key as usize)?;
                }
                b'r' => {
                    let key = self.number(4)?;
                    self.put(key as usize)?;
                }
                b'h' => {
                    let key = self.number(1)?;
                    self.get(key as usize)?;
                }
                b'j' => {
                    let key = self.number(4)?;
                    self.get(key as usize)?;
                }
                b'a' => {
                    let item = self.pop()?;
                    self.append(vec![item])?;
                }
                b'e' => {
                    let items = self.pop_to_mark()?;
                    self.append(items)?;
                }
                b's' => {
                    let items = self.last(2)?;
                    self.set_items(items)?;
                }
                b'u' => {
                    let items = self.pop_to_mark()?;
                    self.set_items(items)?;
                }
                b'Q' => self.storage()?,
                b'R' => self.reduce()?,
                0x81 => self.new_object()?,
                b'b' => self.build()?,
                other => return Err(odd(&format!("its pickle has the instruction {other:#04x}"))),
            }
        }
        match self.stack.pop() {
            Some(value) if self.stack.is_empty() && self.marks.is_empty() && value.is_finished() => Ok(value),
            _ => Err(odd("its pickle ends with unfinished values")),
        }
    }

    // The functions below read what follows an instruction.

    fn take(&mut self, length: usize) -> Result<&[u8], Refusal> {
        let end = self.at.checked_add(length).filter(|&end| end <= self.data.len());
        let end = end.ok_or_else(|| Refusal::damage("its pickle is cut short".into()))?;
        let start = std::mem::replace(&mut self.at, end);
        Ok(&self.data[start..end])
    }

    fn byte(&mut self) -> Result<u8, Refusal> {
        Ok(self.take(1)?[0])
    }

    fn number(&mut self, width: usize) -> Result<u64, Refusal> {
        Ok(self.take(width)?.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    fn text(&mut self, length: usize) -> Result<Rc<str>, Refusal> {
        if length > MOST_TEXT_BYTES {
            return Err(odd("its pickle has a text of more than 64 MiB"));
        }
        // libtorch takes any bytes for a text, so text that is no UTF-8 is not refused.
        Ok(String::from_utf8_lossy(self.take(length)?).into())
    }

    fn line(&mut self) -> Result<String, Refusal> {
        let rest = &self.data[self.at..];
        let length = rest.iter().take(1000).position(|&byte| byte == b'\n');
        let length = length.ok_or_else(|| odd("its pickle has a name of more than 1000 letters"))?;
        let line = self.take(length + 1)?;
        let name = std::str::from_utf8(&line[..length]).ok().filter(|name| name.bytes().all(|b| b.is_ascii_graphic()));
        name.map(str::to_owned).ok_or_else(|| odd("its pickle has a name of unusual letters"))
    }

    // The functions below change the stack, its marks and the memo.

    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<Value, Refusal> {
        match self.stack.len() > self.floor() {
            true => self.stack.pop().ok_or_else(missing),
            false => Err(missing()),
        }
    }

    fn last(&mut self, count: usize) -> Result<Vec<Value>, Refusal> {
        let start = self.stack.len().checked_sub(count).filter(|&start| start >= self.floor()).ok_or_else(missing)?;
        Ok(self.stack.split_off(start))
    }

    fn mark(&mut self) -> Result<(), Refusal> {
        if self.marks.len() > MOST_DEPTH as usize {
            return Err(odd("its pickle holds values inside one another too deep"));
        }
        self.marks.push(self.stack.len());
        Ok(())
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Value>, Refusal> {
        let start = self.marks.pop().ok_or_else(missing)?;
        Ok(self.stack.split_off(start))
    }

    fn top(&self) -> Result<&Value, Refusal> {
        self.stack.last().filter(|_| self.stack.len() > self.floor()).ok_or_else(missing)
    }

    fn put(&mut self, key: usize) -> Result<(), Refusal> {
        let value = self.top()?.clone();
        // libtorch keeps an object as a number while only its class is known.
        if matches!(value, Value::Object(_)) && !value.is_finished() {
            return Err(odd("its pickle keeps an unfinished object"));
        }
        let length = self.memo.len();
        match self.memo.get_mut(key) {
            Some(kept) => *kept = value,
            // libtorch makes room for all smaller numbers, so a gap would take memory.
            None if key == length => self.memo.push(value),
            None => return Err(odd("its pickle numbers its values with gaps")),
        }
        Ok(())
    }

    fn get(&mut self, key: usize) -> Result<(), Refusal> {
        let value = self.memo.get(key).cloned().ok_or_else(missing)?;
        self.stack.push(value);
        Ok(())
    }

    // The functions below make tuples and fill lists and dictionaries.

    fn tuple(&mut self, items: Vec<Value>) -> Result<(), Refusal> {
        let node = Node::new(items);
        // Classes and storages may be arguments of a call, which checks where they go.
        for item in node.content.iter().filter(|item| !matches!(item, Value::Global(_) | Value::Storage(_))) {
            finished(item)?;
            node.hold(item)?;
        }
        self.stack.push(Value::Tuple(node));
        Ok(())
    }

    fn append(&mut self, items: Vec<Value>) -> Result<(), Refusal> {
        let Value::List(list) = self.top()?.clone() else { return Err(odd("its pickle puts items into no list")) };
        for item in items {
            plain(&item)?;
            list.hold(&item)?;
            list.content.borrow_mut().push(item);
        }
        Ok(())
    }

    fn set_items(&mut self, items: Vec<Value>) -> Result<(), Refusal> {
        let Value::Dict(dict) = self.top()?.clone() else { return Err(odd("its pickle sets keys of no dictionary")) };
        if !items.len().is_multiple_of(2) {
            return Err(odd("its pickle sets a key without a value"));
        }
        let mut items = items.into_iter();
        while let (Some(key), Some(value)) = (items.next(), items.next()) {
            if !matches!(
                key,
                Value::Text(_) | Value::Int(_) | Value::Float | Value::Bool(_) | Value::Tensor(_) | Value::Device
            ) {
                return Err(odd("its pickle has a key that is neither text nor number"));
            }
            plain(&value)?;
            dict.hold(&value)?;
            dict.content.borrow_mut().push((key, value));
        }
        Ok(())
    }

    // The functions below make numbers, classes, storages, tensors and objects.

    fn long(&mut self) -> Result<(), Refusal> {
        let length = usize::from(self.byte()?);
        if length > 8 {
            return Err(odd("its pickle has a number of more than 64 bits"));
        }
        let raw = self.number(length)?;
        let shift = 64 - 8 * length as u32;
        let number = if length == 0 { 0 } else { ((raw << shift) as i64) >> shift };
        self.stack.push(Value::Int(number));
        Ok(())
    }

    fn global(&mut self) -> Result<(), Refusal> {
        let name = format!("{}.{}", self.line()?, self.line()?);
        let is_class = name.starts_with("__torch__.") && !name.starts_with("__torch__.torch.classes");
        let is_known = match self.code {
            Some(code) if is_class => code.classes.contains_key(&name),
            None if name.starts_with("__torch__.") => true,
            _ => FUNCTIONS.contains(&&*name) || bytes_of(&name).is_some(),
        };
        let is_plain = name == "torch.jit._pickle.build_intlist";
        if !is_known || self.folder.is_empty() && !is_plain {
            return Err(odd(&format!("its pickle names '{name}'")));
        }
        self.stack.push(Value::Global(name.into()));
        Ok(())
    }

    /// Takes a storage such as `('storage', torch.FloatStorage, '0', 'cpu', 1024)`, and compares it with its record.
    fn storage(&mut self) -> Result<(), Refusal> {
        let unknown = || odd("its pickle has a storage of another form");
        let Value::Tuple(claim) = self.pop()? else { return Err(unknown()) };
        let [Value::Text(word), Value::Global(class), Value::Text(key), Value::Text(place), Value::Int(count)] =
            claim.content.as_slice()
        else {
            return Err(unknown());
        };
        let (name, width) = bytes_of(class).ok_or_else(unknown)?;
        let is_place = &**place == "cpu" || place.strip_prefix("cuda").is_some_and(is_number_of_device);
        if &**word != "storage" || !is_place || self.folder.is_empty() {
            return Err(unknown());
        }
        let count = u64::try_from(*count).map_err(|_| unknown())?;
        let record = self.archive.length(&format!("{}/{key}", self.folder));
        // A storage without values has no record in some versions of the format.
        if count.checked_mul(width) != Some(record.unwrap_or(0) as u64) || record.is_none() && count > 0 {
            return Err(odd(&format!(
                "its storage {key} claims {count} values of {width} bytes, and its record has {} bytes",
                record.unwrap_or(0)
            )));
        }
        self.stack.push(Value::Storage(Rc::new((count, name))));
        Ok(())
    }

    fn reduce(&mut self) -> Result<(), Refusal> {
        let unknown = || odd("its pickle calls something in another form");
        let call = self.last(2)?;
        // A constant of an Enum has its value where others have a tuple of arguments.
        if let [Value::Global(class), value] = call.as_slice()
            && self.code.and_then(|code| code.classes.get(&**class)).is_some_and(|class| class.base == Base::Enum)
        {
            plain(value)?;
            self.stack.push(Value::Constant(class.clone()));
            return Ok(());
        }
        let [Value::Global(function), Value::Tuple(arguments)] = call.as_slice() else { return Err(unknown()) };
        let arguments = arguments.content.as_slice();
        let made = match (&**function, arguments) {
            ("torch._utils._rebuild_tensor_v2", arguments) => tensor(arguments)?,
            ("collections.OrderedDict", []) => Value::Dict(Node::new(RefCell::default())),
            ("torch.device", [Value::Text(_)]) => Value::Device,
            ("torch.jit._pickle.restore_type_tag", [value, Value::Text(kind)]) => {
                plain(value)?;
                self.check_tag(value, kind)?;
                value.clone()
            }
            (function, [list @ Value::List(_)]) => {
                let kind = match function {
                    "torch.jit._pickle.build_intlist" => Type::Int,
                    "torch.jit._pickle.build_doublelist" => Type::Float,
                    "torch.jit._pickle.build_boollist" => Type::Bool,
                    "torch.jit._pickle.build_tensorlist" => Type::Tensor,
                    _ => return Err(unknown()),
                };
                let nothing = Code::default();
                match list.can_be_tagged(&Type::List(Box::new(kind)), &nothing) {
                    true => list.clone(),
                    false => return Err(unknown()),
                }
            }
            _ => return Err(unknown()),
        };
        self.stack.push(made);
        Ok(())
    }

    /// Checks that a value is of the type that a text gives it: libtorch gives lists and dictionaries whatever type the
    /// text says.
    fn check_tag(&self, value: &Value, kind: &str) -> Result<(), Refusal> {
        let wrong = || odd("its pickle says a wrong type of a value");
        if kind.len() > MOST_TYPE_BYTES {
            return Err(wrong());
        }
        let Some(code) = self.code else { return Ok(()) };
        let tokens = tokens(kind)?;
        let (found, used) = Type::parse(&tokens);
        // torch.jit.save says the types of lists and dictionaries alone.
        match used == tokens.len() && value.can_be_tagged(&found, code) {
            true => Ok(()),
            false => Err(wrong()),
        }
    }

    fn new_object(&mut self) -> Result<(), Refusal> {
        let unknown = || odd("its pickle makes an object in another form");
        let call = self.last(2)?;
        let [Value::Global(class), Value::Tuple(arguments)] = call.as_slice() else { return Err(unknown()) };
        if !class.starts_with("__torch__.") || !arguments.content.is_empty() {
            return Err(unknown());
        }
        self.stack.push(Value::Object(Node::new(Object { class: class.clone(), attributes: RefCell::new(None) })));
        Ok(())
    }

    fn build(&mut self) -> Result<(), Refusal> {
        let unknown = || odd("its pickle fills an object in another form");
        let state = self.pop()?;
        let (Value::Object(object), Value::Dict(dict)) = (self.top()?.clone(), state) else { return Err(unknown()) };
        if object.content.attributes.borrow().is_some() {
            return Err(unknown());
        }
        let mut attributes = HashMap::new();
        for (key, value) in dict.content.borrow().iter() {
            let Value::Text(name) = key else { return Err(unknown()) };
            // Bytes that are no text were replaced, and libtorch would read them as they are.
            if name.contains(char::REPLACEMENT_CHARACTER) {
                return Err(odd("its pickle has an attribute whose name is no text"));
            }
            if attributes.insert(name.clone(), value.clone()).is_some() {
                return Err(odd(&format!("its pickle says '{name}' of one object twice")));
            }
        }
        object.hold(&Value::Dict(dict))?;
        if let Some(code) = self.code {
            let class = code.classes.get(&*object.content.class).ok_or_else(unknown)?;
            for (name, kind) in class.attributes.iter().filter(|(_, kind)| *kind != Type::Final) {
                let value = attributes.get(&**name);
                if !value.is_some_and(|value| value.is_of(kind, code)) {
                    let class = object.content.class.rsplit('.').next().unwrap_or_default();
                    return Err(odd(&format!("'{name}' of its {class} is missing, or not of its type")));
                }
            }
        }
        *object.content.attributes.borrow_mut() = Some(attributes);
        Ok(())
    }
}

const FUNCTIONS: [&str; 8] = [
    "torch._utils._rebuild_tensor_v2",
    "collections.OrderedDict",
    "torch.device",
    "torch.jit._pickle.restore_type_tag",
    "torch.jit._pickle.build_intlist",
    "torch.jit._pickle.build_doublelist",
    "torch.jit._pickle.build_boollist",
    "torch.jit._pickle.build_tensorlist",
];

/// Returns the kind of value in a storage class, and the bytes of each.
fn bytes_of(class: &str) -> Option<(&'static str, u64)> {
    const KINDS: [(&str, u64); 12] = [
        ("Float", 4),
        ("Half", 2),
        ("Double", 8),
        ("BFloat16", 2),
        ("Long", 8),
        ("Int", 4),
        ("Short", 2),
        ("Char", 1),
        ("Byte", 1),
        ("Bool", 1),
        ("ComplexFloat", 8),
        ("ComplexDouble", 16),
    ];
    let kind = class.strip_prefix("torch.")?.strip_suffix("Storage")?;
    KINDS.into_iter().find(|(name, _)| *name == kind)
}

fn is_number_of_device(rest: &str) -> bool {
    let digits = rest.strip_prefix(':').unwrap_or("0");
    (1..4).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
}

fn tensor(arguments: &[Value]) -> Result<Value, Refusal> {
    let unknown = || odd("its pickle has a tensor of another form");
    let [
        Value::Storage(storage),
        Value::Int(offset),
        Value::Tuple(size),
        Value::Tuple(stride),
        Value::Bool(requires_grad),
        _hooks,
        ..,
    ] = arguments
    else {
        return Err(unknown());
    };
    let [size, stride] = [size, stride].map(|numbers| {
        let counts = numbers.content.iter().map(|item| match item {
            Value::Int(number) if *number >= 0 => Some(*number),
            _ => None,
        });
        counts.collect::<Option<Vec<i64>>>()
    });
    let (size, stride) = size.zip(stride).ok_or_else(unknown)?;
    if size.len() != stride.len() || size.len() > MOST_DIMENSIONS || *offset < 0 {
        return Err(unknown());
    }
    let mut last = i128::from(*offset);
    let mut values = 1_i128;
    for (&size, &stride) in size.iter().zip(&stride) {
        last = last.saturating_add(i128::from(size.max(1) - 1).saturating_mul(i128::from(stride)));
        values = values.saturating_mul(i128::from(size));
    }
    let available = i128::from(storage.0);
    if values > 0 && last >= available
        || values > i128::from(i64::MAX)
        || values == 0 && i128::from(*offset) > available
    {
        return Err(odd(&format!(
            "its tensor of shape {size:?}, strides {stride:?} and offset {offset} leaves its storage of {available} values"
        )));
    }
    Ok(Value::Tensor(Rc::new(TensorView { size, requires_grad: *requires_grad })))
}

fn finished(value: &Value) -> Result<(), Refusal> {
    match value {
        Value::Object(_) if !value.is_finished() => Err(odd("its pickle uses an unfinished object")),
        _ => Ok(()),
    }
}

/// Refuses a class, a storage, and an object that is not finished.
fn plain(value: &Value) -> Result<(), Refusal> {
    match value.is_finished() {
        true => Ok(()),
        false => Err(odd("its pickle has a class or a storage where a value belongs")),
    }
}

fn missing() -> Refusal {
    Refusal::damage("its pickle takes a value that is not there".into())
}

fn odd(what: &str) -> Refusal {
    Refusal::unusual(what.into())
}
