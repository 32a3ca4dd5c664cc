//! A pickle machine for state dicts and the modules of TorchScript archives, and nothing else: no imports, no calls but the few that rebuild tensors. A
//! module is what is set on it; its class has a name here and no code.
//!
//! Containers live in one arena and are referred to by number, so that hostile nesting can't overflow the stack and cycles are
//! harmless. Every opcode consumes at least one byte and copies no more than a few values, which bounds all memory by the input's size.

use super::element::Element;
use crate::Result;
use crate::error::Error;
use std::collections::HashMap;
use std::rc::Rc;

const FORMAT: &str = "torch";
/// Most axes of one tensor.
const MOST_AXES: usize = 8;
/// Most bytes of a tensor's or a storage's name. A pickle can use one object again and again for a few bytes, so whatever is copied
/// at each use must be small.
pub(super) const MOST_NAME: usize = 4096;

/// A reference to a storage kept outside of the pickle.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Storage {
    pub(crate) element: Element,
    pub(crate) key: Rc<str>,
    /// Number of elements.
    pub(crate) length: usize,
}

/// A strided view of a storage, in elements.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct View {
    pub(crate) storage: Storage,
    pub(crate) offset: usize,
    pub(crate) shape: Vec<usize>,
    pub(crate) stride: Vec<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    /// TorchScript's marks of a list's or a value's type: calls that give back what they are given.
    Typed,
    /// A class of a TorchScript archive.
    Module,
    Storage(Element),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Mark,
    None,
    Bool(bool),
    Int(i64),
    /// A long of more than 8 bytes, little endian.
    Long(Rc<[u8]>),
    Float(f64),
    Str(Rc<str>),
    Object(usize),
    Global(Global),
    Storage(Rc<Storage>),
    View(Rc<View>),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Object {
    Tuple(Vec<Value>),
    List(Vec<Value>),
    Dict(Vec<(Value, Value)>),
    /// An object of a TorchScript archive and what it was built of: a dict of its attributes.
    Module(Value),
}

/// The result of one pickle: its value and the containers that it refers to.
#[derive(Debug)]
pub(crate) struct Pickle {
    pub(crate) value: Value,
    pub(crate) objects: Vec<Object>,
    /// Bytes of the input that it took.
    pub(crate) length: usize,
}

impl Pickle {
    pub(crate) fn dict(&self, value: &Value) -> Option<&[(Value, Value)]> {
        match object(&self.objects, value)? {
            Object::Dict(d) => Some(d),
            _ => None,
        }
    }

    /// What a module was built of.
    pub(crate) fn module(&self, value: &Value) -> Option<&Value> {
        match object(&self.objects, value)? {
            Object::Module(state) => Some(state),
            _ => None,
        }
    }

    pub(crate) fn list(&self, value: &Value) -> Option<&[Value]> {
        list(&self.objects, value)
    }
}

/// The container that a value refers to.
fn object<'a>(objects: &'a [Object], value: &Value) -> Option<&'a Object> {
    match value {
        Value::Object(i) => objects.get(*i),
        _ => None,
    }
}

fn list<'a>(objects: &'a [Object], value: &Value) -> Option<&'a [Value]> {
    match object(objects, value)? {
        Object::List(l) | Object::Tuple(l) => Some(l),
        Object::Dict(_) | Object::Module(_) => None,
    }
}

fn malformed(detail: impl Into<String>) -> Error {
    Error::malformed(FORMAT, detail)
}

/// Reads one pickle from the start of `bytes`.
pub(crate) fn read(bytes: &[u8]) -> Result<Pickle> {
    let mut machine = Machine {
        bytes,
        at: 0,
        stack: Vec::new(),
        memo: HashMap::new(),
        objects: Vec::new(),
    };
    let value = machine.run()?;
    Ok(Pickle {
        value,
        objects: machine.objects,
        length: machine.at,
    })
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Value>,
    memo: HashMap<u32, Value>,
    objects: Vec<Object>,
}

impl<'a> Machine<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let slice = self.bytes[self.at..].get(..count).ok_or_else(|| {
            let detail = format!("the pickle ends at byte {}", self.bytes.len());
            Error::truncated(FORMAT, detail)
        })?;
        self.at += count;
        Ok(slice)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    fn byte(&mut self) -> Result<u32> {
        Ok(u32::from(self.array::<1>()?[0]))
    }

    fn word(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn integer(&mut self, v: impl Into<i64>) {
        self.stack.push(Value::Int(v.into()));
    }

    fn line(&mut self) -> Result<String> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().take(1000).position(|&b| b == b'\n');
        let end = end.ok_or_else(|| malformed("a name in the pickle has no end"))?;
        let line = String::from_utf8_lossy(&rest[..end]).into_owned();
        self.at += end + 1;
        Ok(line)
    }

    fn text(&mut self, length: u32) -> Result<()> {
        let text = std::str::from_utf8(self.take(length as usize)?);
        let text = text.map_err(|_| malformed("a string in the pickle is not UTF-8"))?;
        self.stack.push(Value::Str(text.into()));
        Ok(())
    }

    fn pop(&mut self) -> Result<Value> {
        match self.stack.pop() {
            None | Some(Value::Mark) => Err(malformed(
                "the pickle's stack is empty where a value is needed",
            )),
            Some(v) => Ok(v),
        }
    }

    fn top(&self) -> Result<Value> {
        let top = self.stack.last().cloned();
        top.ok_or_else(|| malformed("the pickle's stack is empty"))
    }

    fn above_mark(&mut self) -> Result<Vec<Value>> {
        let mark = self.stack.iter().rposition(|v| *v == Value::Mark);
        let mark = mark.ok_or_else(|| malformed("a mark is missing in the pickle"))?;
        let values = self.stack.split_off(mark + 1);
        self.stack.pop();
        Ok(values)
    }

    fn push_object(&mut self, object: Object) {
        self.stack.push(Value::Object(self.objects.len()));
        self.objects.push(object);
    }

    fn tuple(&mut self, length: usize) -> Result<()> {
        let values: Result<Vec<_>> = (0..length).map(|_| self.pop()).collect();
        let mut values = values?;
        values.reverse();
        self.push_object(Object::Tuple(values));
        Ok(())
    }

    /// The container on top of the stack.
    fn top_object(&mut self) -> Result<Option<&mut Object>> {
        match self.top()? {
            Value::Object(i) => Ok(self.objects.get_mut(i)),
            _ => Ok(None),
        }
    }

    fn set_items(&mut self, values: Vec<Value>) -> Result<()> {
        if !values.len().is_multiple_of(2) {
            return Err(malformed("a dict in the pickle has a key without a value"));
        }
        let Some(Object::Dict(d)) = self.top_object()? else {
            return Err(malformed("items are set on something that is no dict"));
        };
        let mut values = values.into_iter();
        while let (Some(k), Some(v)) = (values.next(), values.next()) {
            d.push((k, v));
        }
        Ok(())
    }

    fn append(&mut self, values: Vec<Value>) -> Result<()> {
        let Some(Object::List(l)) = self.top_object()? else {
            return Err(malformed(
                "values are appended to something that is no list",
            ));
        };
        l.extend(values);
        Ok(())
    }

    fn run(&mut self) -> Result<Value> {
        loop {
            let [code] = self.array()?;
            match code {
                0x80 => {
                    let [version] = self.array()?;
                    if !(2..=5).contains(&version) {
                        return Err(malformed(format!(
                            "pickle protocol {version}; 2 to 5 are read"
                        )));
                    }
                }
                0x95 => drop(self.take(8)?),                 // FRAME
                b'.' => return self.pop(),                   // STOP
                b'(' => self.stack.push(Value::Mark),        // MARK
                b'0' => drop(self.pop()?),                   // POP
                b'N' => self.stack.push(Value::None),        // NONE
                0x88 => self.stack.push(Value::Bool(true)),  // NEWTRUE
                0x89 => self.stack.push(Value::Bool(false)), // NEWFALSE
                b'K' => {
                    let v = self.byte()?;
                    self.integer(v);
                }
                b'M' => {
                    let v = u16::from_le_bytes(self.array()?);
                    self.integer(v);
                }
                b'J' => {
                    let v = i32::from_le_bytes(self.array()?);
                    self.integer(v);
                }
                0x8a => self.long()?, // LONG1
                b'G' => {
                    let v = f64::from_be_bytes(self.array()?);
                    self.stack.push(Value::Float(v));
                }
                b'X' => {
                    let n = self.word()?;
                    self.text(n)?;
                }
                0x8c | b'U' => {
                    let n = self.byte()?;
                    self.text(n)?;
                }
                b')' => self.push_object(Object::Tuple(Vec::new())),
                b'}' => self.push_object(Object::Dict(Vec::new())),
                b']' => self.push_object(Object::List(Vec::new())),
                b't' => {
                    let values = self.above_mark()?;
                    self.push_object(Object::Tuple(values));
                }
                0x85 => self.tuple(1)?,
                0x86 => self.tuple(2)?,
                0x87 => self.tuple(3)?,
                b's' => {
                    let v = self.pop()?;
                    let k = self.pop()?;
                    self.set_items(vec![k, v])?;
                }
                b'u' => {
                    let values = self.above_mark()?;
                    self.set_items(values)?;
                }
                b'a' => {
                    let v = self.pop()?;
                    self.append(vec![v])?;
                }
                b'e' => {
                    let values = self.above_mark()?;
                    self.append(values)?;
                }
                b'q' | b'r' | 0x94 => {
                    let i = match code {
                        b'q' => self.byte()?,
                        b'r' => self.word()?,
                        _ => u32::try_from(self.memo.len()).unwrap_or(u32::MAX),
                    };
                    let v = self.top()?;
                    self.memo.insert(i, v);
                }
                b'h' | b'j' => {
                    let i = match code {
                        b'h' => self.byte()?,
                        _ => self.word()?,
                    };
                    self.recall(i)?;
                }
                b'c' => {
                    let module = self.line()?;
                    let name = self.line()?;
                    self.stack.push(global(&module, &name)?);
                }
                0x93 => {
                    let (name, module) = (self.pop()?, self.pop()?);
                    let (Value::Str(module), Value::Str(name)) = (module, name) else {
                        return Err(malformed("a global has no name"));
                    };
                    self.stack.push(global(&module, &name)?);
                }
                b'Q' => {
                    let id = self.pop()?;
                    let s = self.storage(&id)?;
                    self.stack.push(s);
                }
                b'R' => {
                    let arguments = self.pop()?;
                    let callee = self.pop()?;
                    self.reduce(&callee, &arguments)?;
                }
                0x81 => {
                    let arguments = self.pop()?;
                    let class = self.pop()?;
                    self.new_module(&class, &arguments)?;
                }
                b'b' => {
                    let state = self.pop()?;
                    // of a dict, attributes such as _metadata are not needed
                    if let Some(Object::Module(old)) = self.top_object()? {
                        *old = state;
                    }
                }
                other => {
                    return Err(malformed(format!(
                        "pickle opcode {other:#04x} at byte {} is not used by state dicts",
                        self.at - 1
                    )));
                }
            }
        }
    }

    fn long(&mut self) -> Result<()> {
        let [n] = self.array()?;
        let bytes = self.take(usize::from(n))?;
        self.stack.push(if bytes.len() <= 8 {
            let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
            let mut full = [if negative { 0xff } else { 0 }; 8];
            full[..bytes.len()].copy_from_slice(bytes);
            Value::Int(i64::from_le_bytes(full))
        } else {
            Value::Long(bytes.into())
        });
        Ok(())
    }

    fn recall(&mut self, index: u32) -> Result<()> {
        let v = self.memo.get(&index).cloned();
        let v = v.ok_or_else(|| malformed(format!("pickle memo {index} is empty")))?;
        self.stack.push(v);
        Ok(())
    }

    fn items(&self, value: &Value) -> Result<&[Value]> {
        let items = list(&self.objects, value);
        items.ok_or_else(|| malformed("something else where a tuple is needed"))
    }

    fn sizes(&self, value: &Value) -> Result<Vec<usize>> {
        let items = self.items(value)?;
        if items.len() > MOST_AXES {
            return Err(malformed(format!(
                "a tensor of {} axes; {MOST_AXES} are read",
                items.len()
            )));
        }
        items.iter().map(size).collect()
    }

    /// `("storage", type, key, location, length, …)`.
    fn storage(&self, id: &Value) -> Result<Value> {
        match self.items(id)? {
            [
                Value::Str(kind),
                Value::Global(Global::Storage(element)),
                Value::Str(key),
                _,
                length,
                rest @ ..,
            ] if &**kind == "storage" && matches!(rest, [] | [Value::None]) => {
                if key.len() > MOST_NAME {
                    return Err(malformed(format!(
                        "a storage's name of {} bytes",
                        key.len()
                    )));
                }
                Ok(Value::Storage(Rc::new(Storage {
                    element: *element,
                    key: key.clone(),
                    length: size(length)?,
                })))
            }
            _ => Err(malformed("a storage reference of an unknown form")),
        }
    }

    fn new_module(&mut self, class: &Value, arguments: &Value) -> Result<()> {
        if *class != Value::Global(Global::Module) || !self.items(arguments)?.is_empty() {
            return Err(malformed("a new object that is no module of TorchScript's"));
        }
        self.push_object(Object::Module(Value::None));
        Ok(())
    }

    fn reduce(&mut self, callee: &Value, arguments: &Value) -> Result<()> {
        let Value::Global(callee) = callee else {
            return Err(malformed("a call of something that is no function"));
        };
        match callee {
            Global::OrderedDict => {
                if !self.items(arguments)?.is_empty() {
                    return Err(malformed("an OrderedDict with arguments"));
                }
                self.push_object(Object::Dict(Vec::new()));
            }
            Global::RebuildTensor => {
                let [Value::Storage(storage), offset, shape, stride, ..] = self.items(arguments)?
                else {
                    return Err(malformed("a tensor of an unknown form"));
                };
                let view = View {
                    storage: (**storage).clone(),
                    offset: size(offset)?,
                    shape: self.sizes(shape)?,
                    stride: self.sizes(stride)?,
                };
                self.stack.push(Value::View(Rc::new(view)));
            }
            Global::RebuildParameter => {
                let [tensor @ Value::View(_), ..] = self.items(arguments)? else {
                    return Err(malformed("a parameter of an unknown form"));
                };
                let tensor = tensor.clone();
                self.stack.push(tensor);
            }
            Global::Typed => {
                let [value, ..] = self.items(arguments)? else {
                    return Err(malformed("a typed value that is missing"));
                };
                let value = value.clone();
                self.stack.push(value);
            }
            Global::Module => return Err(malformed("a call of a class")),
            Global::Storage(_) => return Err(malformed("a call of a storage type")),
        }
        Ok(())
    }
}

fn size(value: &Value) -> Result<usize> {
    match value {
        Value::Int(v) => {
            usize::try_from(*v).map_err(|_| malformed(format!("size or stride {v} is negative")))
        }
        _ => Err(malformed("a size that is no number")),
    }
}

fn global(module: &str, name: &str) -> Result<Value> {
    let g = match (module, name) {
        ("collections", "OrderedDict") => Global::OrderedDict,
        ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Global::RebuildTensor,
        ("torch._utils", "_rebuild_parameter") => Global::RebuildParameter,
        (
            "torch.jit._pickle",
            "build_boollist" | "build_doublelist" | "build_intlist" | "build_tensorlist"
            | "restore_type_tag",
        ) => Global::Typed,
        ("__torch__", _) => Global::Module,
        (module, _) if module.starts_with("__torch__.") => Global::Module,
        ("torch", "FloatStorage") => Global::Storage(Element::F32),
        ("torch", "DoubleStorage") => Global::Storage(Element::F64),
        ("torch", "HalfStorage") => Global::Storage(Element::F16),
        ("torch", "BFloat16Storage") => Global::Storage(Element::Bf16),
        ("torch", "CharStorage") => Global::Storage(Element::I8),
        ("torch", "ByteStorage") => Global::Storage(Element::U8),
        ("torch", "BoolStorage") => Global::Storage(Element::Bool),
        ("torch", "ShortStorage") => Global::Storage(Element::I16),
        ("torch", "IntStorage") => Global::Storage(Element::I32),
        ("torch", "LongStorage") => Global::Storage(Element::I64),
        _ => {
            return Err(Error::PickleGlobal(format!("{module}.{name}")));
        }
    };
    Ok(Value::Global(g))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_values() {
        let p = read(
            b"\x80\x02}q\x00(X\x01\x00\x00\x00aK\x07X\x01\x00\x00\x00bG\x3f\xf8\0\0\0\0\0\0u.rest",
        )
        .expect("reads");
        let d = p.dict(&p.value).expect("a dict");
        assert_eq!(d[0].1, Value::Int(7));
        assert_eq!(d[1].1, Value::Float(1.5));
        assert_eq!(p.length, 31);
    }

    #[test]
    fn memo_refers_to_the_same_container() {
        // l = []; memo; l.append(1) after being stored in a tuple with its memo.
        let p = read(b"\x80\x02]q\x00h\x00\x86q\x010h\x00K\x01a.").expect("reads");
        assert_eq!(p.list(&p.value).expect("a list"), &[Value::Int(1)]);
    }

    #[test]
    fn refuses_foreign_globals_calls_and_opcodes() {
        assert!(
            matches!(read(b"\x80\x02cos\nsystem\n."), Err(Error::PickleGlobal(global)) if global == "os.system")
        );
        assert!(matches!(
            read(b"\x80\x02K\x01)R."),
            Err(Error::Malformed { .. })
        ));
        assert!(matches!(
            read(b"\x80\x02ios\nsystem\n."),
            Err(Error::Malformed { .. })
        ));
        assert!(matches!(read(b"\x80\x09."), Err(Error::Malformed { .. })));
        assert!(matches!(
            read(b"\x80\x02X\xff\xff\xff\xffa"),
            Err(Error::Truncated { .. })
        ));
        assert!(matches!(read(b"\x80\x02."), Err(Error::Malformed { .. })));
        assert!(matches!(
            read(b"\x80\x02h\x05."),
            Err(Error::Malformed { .. })
        ));
    }

    #[test]
    fn modules_are_what_is_set_on_them() {
        let p =
            read(b"\x80\x02c__torch__.a\nNet\n)\x81}X\x01\x00\x00\x00aK\x07sb.").expect("reads");
        let d = p.module(&p.value).and_then(|state| p.dict(state));
        assert_eq!(d.expect("a dict")[0].1, Value::Int(7));
        for refused in [
            // a class is not called, nothing else is made anew, and no class has arguments
            &b"\x80\x02c__torch__\nNet\n)R."[..],
            b"\x80\x02ccollections\nOrderedDict\n)\x81.",
            b"\x80\x02c__torch__\nNet\nK\x01\x85\x81.",
            b"\x80\x02c__torch__x\nNet\n)\x81.",
            b"\x80\x02c__builtin__\neval\n)\x81.",
            b"\x80\x02ctorch.jit._pickle\nbuild_intlist\n)R.",
        ] {
            assert!(read(refused).is_err());
        }
    }

    #[test]
    fn deep_nesting_does_not_overflow_the_stack() {
        let mut bytes = b"\x80\x02N".to_vec();
        bytes.extend(std::iter::repeat_n(0x85, 1_000_000));
        bytes.push(b'.');
        assert!(read(&bytes).is_ok());
    }
}
