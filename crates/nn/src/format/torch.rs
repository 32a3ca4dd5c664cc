//! Torch checkpoints: the legacy file (five pickles, then raw storages) and the zip (a pickle and one stored entry per storage), from `torch.save` or from
//! `torch.jit.save`, whose pickle is of modules within modules.

use super::element::{StateTensor, decode};
use super::pickle::{self, Pickle, Value, View};
use super::zip;
use crate::Result;
use crate::error::Error;
use crate::tensor::product;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

const FORMAT: &str = "torch";
/// Magic number of the legacy format, as a little-endian long.
const LEGACY_MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

fn malformed(detail: impl Into<String>) -> Error {
    Error::malformed(FORMAT, detail)
}

fn truncated(detail: impl Into<String>) -> Error {
    Error::truncated(FORMAT, detail)
}

/// The legacy format, from the file's first byte.
pub(crate) fn read_legacy(bytes: &[u8]) -> Result<BTreeMap<String, StateTensor>> {
    let mut at = 0;
    let mut next = || -> Result<Pickle> {
        let p = pickle::read(&bytes[at..])?;
        at += p.length;
        Ok(p)
    };
    let magic = next()?;
    if magic.value != Value::Long(Rc::from(LEGACY_MAGIC)) {
        return Err(malformed("a pickle, but not one that torch.save wrote"));
    }
    let protocol = next()?;
    if protocol.value != Value::Int(1001) {
        return Err(Error::Version {
            format: FORMAT,
            had: format!("{:?}", protocol.value),
            known: "1001",
        });
    }
    let system = next()?;
    let little = system.dict(&system.value).into_iter().flatten();
    for (key, value) in little {
        if matches!(key, Value::Str(s) if &**s == "little_endian") && *value != Value::Bool(true) {
            return Err(malformed("it was written on a big-endian machine"));
        }
    }
    let object = next()?;
    let keys = next()?;
    let mut elements = HashMap::new();
    let views = tensors(&object, bytes.len())?;
    for (_, view) in &views {
        let described = (view.storage.element, view.storage.length);
        let key = view.storage.key.clone();
        let before = *elements.entry(key).or_insert(described);
        if before != described {
            return Err(malformed(format!(
                "storage {} is described in two ways",
                view.storage.key
            )));
        }
    }
    let mut storages = HashMap::new();
    let list = keys.list(&keys.value);
    for key in list.ok_or_else(|| malformed("the list of storages is missing"))? {
        let Value::Str(key) = key else {
            return Err(malformed("a storage without a name"));
        };
        let head = bytes[at..].first_chunk();
        let head = head.ok_or_else(|| truncated(format!("storage {key} is missing")))?;
        let length = u64::from_le_bytes(*head);
        at += 8;
        // A storage that no tensor of the state dict refers to has no known element type.
        let &(element, expected) = elements
            .get(key)
            .ok_or_else(|| malformed(format!("storage {key} belongs to no tensor that is read")))?;
        if length != expected as u64 {
            return Err(malformed(format!(
                "storage {key} has {length} elements instead of {expected}"
            )));
        }
        let size = expected.checked_mul(element.size());
        let data = size.and_then(|size| bytes[at..].get(..size));
        let data = data.ok_or_else(|| truncated(format!("storage {key} is cut off")))?;
        storages.insert(key.clone(), data);
        at += data.len();
    }
    materialise(views, &storages, bytes.len())
}

/// The zip format, from the file's first byte.
pub(crate) fn read_zip(bytes: &[u8]) -> Result<BTreeMap<String, StateTensor>> {
    let mut entries = BTreeMap::new();
    for (name, entry) in zip::entries(bytes)? {
        // what TorchScript's modules compute, compressed: not read
        if name.split('/').nth(1) == Some("code") {
            continue;
        }
        if entry.method != zip::STORED || entry.bytes.len() != entry.size {
            return Err(malformed(format!(
                "entry {name} is compressed; torch.save stores entries plainly"
            )));
        }
        entry.expect(name, entry.bytes)?;
        entries.insert(name, entry.bytes);
    }
    let pickled = |(name, data): (&&'_ str, _)| match name.strip_suffix("data.pkl")? {
        prefix if prefix.is_empty() || prefix.ends_with('/') => Some((prefix.to_string(), data)),
        _ => None,
    };
    let (prefix, data) = (entries.iter().find_map(pickled))
        .ok_or_else(|| malformed("a zip without data.pkl, so not one that torch.save wrote; what torch.export.save wrote (.pt2) holds a program, which is not read: export the network as ONNX, torch.onnx.export(model, (input,), \"net.onnx\")"))?;
    if let Some(order) = entries.get(format!("{prefix}byteorder").as_str())
        && *order != b"little"
    {
        return Err(malformed("it was written on a big-endian machine"));
    }
    let object = pickle::read(data)?;
    let views = tensors(&object, bytes.len())?;
    let mut storages = HashMap::new();
    for (name, view) in &views {
        let key = &view.storage.key;
        let entry = match storages.get(key) {
            Some(known) => *known,
            None => *entries
                .get(format!("{prefix}data/{key}").as_str())
                .ok_or_else(|| truncated(format!("the data of tensor {name} is missing")))?,
        };
        if Some(entry.len()) != view.storage.length.checked_mul(view.storage.element.size()) {
            return Err(malformed(format!(
                "the data of tensor {name} has {} bytes",
                entry.len()
            )));
        }
        storages.insert(key.clone(), entry);
    }
    materialise(views, &storages, bytes.len())
}

/// The tensors of a TorchScript archive under the names of its state dict: the modules' attributes, dots between. Objects can be used again and again, and
/// within themselves: attributes and bytes of names are no more than the file's bytes, and a name's bytes bound its depth.
fn of_modules(p: &Pickle, bytes: usize) -> Result<Vec<(Rc<str>, Rc<View>)>> {
    let too_many = || malformed("modules of more attributes than the file has bytes");
    let (mut found, mut left) = (Vec::new(), bytes);
    let mut open = vec![(String::new(), &p.value)];
    while let Some((prefix, module)) = open.pop() {
        let state = p.module(module).and_then(|state| p.dict(state));
        let attributes = state.ok_or_else(|| {
            malformed(format!(
                "module {prefix:?} has a state of its own, as quantised layers have; save torch.jit.load(file).state_dict() by torch.save"
            ))
        })?;
        for (key, value) in attributes {
            let tensor = matches!(value, Value::View(_));
            if !tensor && p.module(value).is_none() {
                left = left.checked_sub(1).ok_or_else(too_many)?;
                continue;
            }
            let Value::Str(key) = key else {
                return Err(malformed("an attribute of a module without a name"));
            };
            let length = prefix.len() + key.len() + 1;
            if length > pickle::MOST_NAME {
                return Err(malformed(format!("a tensor's name of {length} bytes")));
            }
            left = left.checked_sub(length).ok_or_else(too_many)?;
            match value {
                Value::View(view) => found.push((Rc::from(format!("{prefix}{key}")), view.clone())),
                _ => open.push((format!("{prefix}{key}."), value)),
            }
        }
    }
    match found.is_empty() {
        true => Err(malformed("its modules hold no tensors")),
        false => Ok(found),
    }
}

/// The named tensors of the top-level dict, or of the first of its usual sub-dicts that has any, or of a TorchScript archive.
fn tensors(p: &Pickle, bytes: usize) -> Result<Vec<(Rc<str>, Rc<View>)>> {
    if p.module(&p.value).is_some() {
        return of_modules(p, bytes);
    }
    let none = || malformed("it holds no dict of tensors");
    let top = p.dict(&p.value).ok_or_else(none)?;
    let pick = |items: &[(Value, Value)]| -> Result<Vec<(Rc<str>, Rc<View>)>> {
        let tensor = |(k, v): &(Value, Value)| match (k, v) {
            (Value::Str(k), Value::View(_)) if k.len() > pickle::MOST_NAME => Some(Err(malformed(
                format!("a tensor's name of {} bytes", k.len()),
            ))),
            (Value::Str(k), Value::View(v)) => Some(Ok((k.clone(), v.clone()))),
            _ => None,
        };
        items.iter().filter_map(tensor).collect()
    };
    let direct = pick(top)?;
    if !direct.is_empty() {
        return Ok(direct);
    }
    for wanted in ["state_dict", "model_state_dict", "model", "net", "weights"] {
        for (key, value) in top {
            if matches!(key, Value::Str(s) if &**s == wanted)
                && let Some(items) = p.dict(value)
            {
                let found = pick(items)?;
                if !found.is_empty() {
                    return Ok(found);
                }
            }
        }
    }
    Err(none())
}

fn materialise(
    views: Vec<(Rc<str>, Rc<View>)>,
    storages: &HashMap<Rc<str>, &[u8]>,
    limit: usize,
) -> Result<BTreeMap<String, StateTensor>> {
    let mut out = BTreeMap::new();
    let mut total = 0usize;
    for (name, view) in views {
        let bytes = storages
            .get(&view.storage.key)
            .ok_or_else(|| truncated(format!("the data of tensor {name} is missing")))?;
        let bad = || malformed(format!("tensor {name} reaches outside of its data"));
        if view.shape.len() != view.stride.len() || view.shape.len() > 8 {
            return Err(bad());
        }
        let count = product(&view.shape).ok_or_else(bad)?;
        // Stride 0 can blow a few bytes up to anything: all values together must not outnumber the file's bytes.
        let sum = total.checked_add(count).filter(|&t| t <= limit);
        total = sum.ok_or_else(bad)?;
        let mut axes = view.shape.iter().zip(&view.stride);
        let last = axes.try_fold(view.offset, |sum, (&d, &s)| {
            sum.checked_add(d.saturating_sub(1).checked_mul(s)?)
        });
        if count > 0 && last.is_none_or(|l| l >= view.storage.length) {
            return Err(bad());
        }
        let size = view.storage.element.size();
        let mut index = vec![0; view.shape.len()];
        let mut values = Vec::with_capacity(count);
        for _ in 0..count {
            let steps = index.iter().zip(&view.stride).map(|(i, s)| i * s);
            let position = view.offset + steps.sum::<usize>();
            let raw = bytes.get(position * size..(position + 1) * size);
            values.push(decode(view.storage.element, raw.ok_or_else(bad)?));
            for axis in (0..index.len()).rev() {
                index[axis] += 1;
                if index[axis] < view.shape[axis] {
                    break;
                }
                index[axis] = 0;
            }
        }
        let shape = view.shape.clone();
        out.insert(name.to_string(), StateTensor { shape, values });
    }
    Ok(out)
}
