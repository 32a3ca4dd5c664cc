//! Torch checkpoints: seeds made by hand, pickles as lists of opcodes, zips as lists of entries.

use crate::bytes;
use crate::random::Random;
use crate::zip::{self, Entry};

/// A pickle as its opcodes, each with its argument.
pub type Opcodes = Vec<Vec<u8>>;

fn text(s: &str) -> Vec<u8> {
    let length = (s.len() as u32).to_le_bytes();
    [b"X", &length[..], s.as_bytes()].concat()
}

/// Opcodes without arguments of their own making.
fn ops<const N: usize>(all: [&[u8]; N]) -> [Vec<u8>; N] {
    all.map(<[u8]>::to_vec)
}

/// A tensor of the state dict: name, storage type, bytes per element, elements, shape, strides.
pub type Tensor<'a> = (&'a str, &'a str, usize, usize, &'a [u8], &'a [u8]);

fn numbers(all: &[u8]) -> Opcodes {
    let inside = all.iter().map(|&n| vec![b'K', n]);
    let all = [b"(".to_vec()].into_iter().chain(inside);
    all.chain([b"t".to_vec()]).collect()
}

/// What the outermost object of a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// The state dict.
    Plain,
    /// A dictionary with the state dict in it, as checkpoints of training have it.
    Wrapped,
    /// Modules within modules, as TorchScript archives have them.
    Modules,
}

/// The pickle of a state dict, its storages named by number.
pub fn state_dict(entries: &[Tensor<'_>], root: Root) -> Opcodes {
    let ordered: [&[u8]; 3] = [b"ccollections\nOrderedDict\n", b")", b"R"];
    let module: [&[u8]; 5] = [b"c__torch__.nn\nModule\n", b")", b"\x81", b"}", b"("];
    let mut out = ops([b"\x80\x02"]).to_vec();
    match root {
        Root::Plain => out.extend(ops([b"}", b"q\0", b"("])),
        Root::Wrapped => {
            out.extend(ops([b"}", b"q\0", &text("state_dict")]));
            out.extend(ops(ordered));
            out.push(b"(".to_vec());
        }
        Root::Modules => {
            out.extend(ops(module));
            out.extend([text("training"), b"\x89".to_vec(), text("sizes")]);
            out.extend(ops([
                b"ctorch.jit._pickle\nbuild_intlist\n",
                b"]",
                b"\x85",
                b"R",
            ]));
        }
    }
    for (i, (name, kind, _, length, shape, stride)) in entries.iter().enumerate() {
        let [low, high] = (*length as u16).to_le_bytes();
        let (within, own) = match (root, name.rsplit_once('.')) {
            (Root::Modules, Some(parts)) => parts,
            _ => ("", *name),
        };
        let modules: Vec<&str> = within.split('.').filter(|m| !m.is_empty()).collect();
        for name in &modules {
            out.push(text(name));
            out.extend(ops(module));
        }
        out.push(text(own));
        out.extend(ops([b"ctorch._utils\n_rebuild_tensor_v2\n", b"(", b"("]));
        let kind = format!("ctorch\n{kind}\n").into_bytes();
        out.extend([text("storage"), kind, text(&i.to_string()), text("cpu")]);
        out.extend(ops([&[b'M', low, high], b"t", b"Q", b"K\0"]));
        out.extend(numbers(shape));
        out.extend(numbers(stride));
        out.push(b"\x89".to_vec());
        out.extend(ops(ordered));
        out.extend(ops([b"t", b"R", &[b'q', i as u8 + 1]]));
        for _ in modules {
            out.extend(ops([b"u", b"b"]));
        }
    }
    out.push(b"u".to_vec());
    match root {
        Root::Plain => {}
        Root::Wrapped => out.push(b"s".to_vec()),
        Root::Modules => out.push(b"b".to_vec()),
    }
    out.push(b".".to_vec());
    out
}

/// An opcode to put in: small values, containers, the memo, what the machine must refuse.
fn opcode(r: &mut Random) -> Vec<u8> {
    const ALONE: &[u8] = b"()}]teusa0N.QRb\x81\x85\x86\x87\x88\x89\x94";
    const WITH_ARGUMENT: [&[u8]; 20] = [
        b"K\x07",
        b"M\xff\xff",
        b"J\xff\xff\xff\xff",
        b"J\0\0\0\x80",
        b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\x8a\x08\0\0\0\0\0\0\0\x80",
        b"\x8a\x0a\0\0\0\0\0\0\0\0\0\x01",
        b"\x8a\0",
        b"G\x7f\xf0\0\0\0\0\0\0",
        b"X\0\0\0\0",
        b"X\xff\xff\xff\xff",
        b"\x8c\x01w",
        b"U\x01w",
        b"q\x01",
        b"h\x01",
        b"r\0\0\0\x80",
        b"j\0\0\0\x80",
        b"cos\nsystem\n",
        b"c__torch__.nn\nModule\n",
        b"ctorch.jit._pickle\nbuild_tensorlist\n",
    ];
    match r.one_in(2) {
        true => vec![*r.pick(ALONE)],
        false => r.pick(&WITH_ARGUMENT).to_vec(),
    }
}

/// One mutation.
pub fn mutate(r: &mut Random, ops: &mut Opcodes) {
    let count = ops.len();
    if count == 0 {
        return ops.push(opcode(r));
    }
    let at = r.below(count);
    match r.below(10) {
        0 => drop(ops.remove(at)),
        1 => {
            let part = ops[r.span(count)].to_vec();
            let times = if r.one_in(8) { r.below(40) } else { 1 };
            if part.len() * times < 4096 {
                let all = std::iter::repeat_n(part, times).flatten();
                drop(ops.splice(at..at, all));
            }
        }
        2 => ops.swap(at, r.below(count)),
        3 => ops.insert(at, opcode(r)),
        4 => ops[at] = opcode(r),
        5 => drop(ops.drain(r.span(count))),
        6 => {
            // another number
            let numbers: Vec<usize> = (0..count)
                .filter(|&i| ops[i].first().is_some_and(|c| b"KMJ".contains(c)))
                .collect();
            if let Some(&at) = numbers.get(r.below(numbers.len())) {
                ops[at] = match r.below(3) {
                    0 => vec![b'K', r.below(20) as u8],
                    1 => [b"J".to_vec(), (r.boundary() as u32).to_le_bytes().to_vec()].concat(),
                    _ => [b"\x8a\x08".to_vec(), r.boundary().to_le_bytes().to_vec()].concat(),
                };
            }
        }
        7 => {
            const KINDS: &str = "Half BFloat16 Float Double Char Byte Bool Short Int Long";
            let kinds: Vec<usize> = (0..count)
                .filter(|&i| ops[i].starts_with(b"ctorch\n"))
                .collect();
            if let Some(&at) = kinds.get(r.below(kinds.len())) {
                ops[at] = [b"ctorch\n", &r.word(KINDS)[..], b"Storage\n"].concat();
            }
        }
        8 => ops[at] = ops[r.below(count)].clone(),
        _ => bytes::mutate(r, &mut ops[at]),
    }
}

/// The legacy file: magic, protocol, system, state dict, names of storages, storages.
#[derive(Clone)]
pub struct Legacy {
    pickles: Vec<Opcodes>,
    /// Stated number of elements and bytes of each.
    storages: Vec<(u64, Vec<u8>)>,
}

/// A legacy checkpoint of these tensors.
pub fn legacy(entries: &[Tensor<'_>], root: Root) -> Legacy {
    let begin = b"\x80\x02".to_vec();
    let mut keys = ops([&begin, b"]", b"("]).to_vec();
    keys.extend((0..entries.len()).map(|i| text(&i.to_string())));
    keys.extend(ops([b"e", b"."]));
    let order = text("little_endian");
    Legacy {
        pickles: vec![
            ops([&begin, b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19", b"."]).to_vec(),
            ops([&begin, b"M\xe9\x03", b"."]).to_vec(),
            ops([&begin, b"}", &order, b"\x88", b"s", b"."]).to_vec(),
            state_dict(entries, root),
            keys,
        ],
        storages: entries.iter().map(|e| (e.3 as u64, data(e))).collect(),
    }
}

/// Values that are 1.0 in f32 and harmless in every other type.
fn data(e: &Tensor<'_>) -> Vec<u8> {
    let one = [0u8, 0, 0x80, 0x3f].into_iter();
    one.cycle().take(e.2 * e.3).collect()
}

impl Legacy {
    /// As a file.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = self.pickles.concat().concat();
        for (length, data) in &self.storages {
            out.extend(length.to_le_bytes());
            out.extend(data);
        }
        out
    }
}

/// One mutant.
pub fn generate_legacy(r: &mut Random, seeds: &[Legacy]) -> Vec<u8> {
    let mut l = r.seed(seeds).clone();
    for _ in 0..r.few() {
        let at = r.below(l.storages.len());
        match r.below(10) {
            0 if !l.storages.is_empty() => l.storages[at].0 = r.boundary(),
            1 if !l.storages.is_empty() => bytes::mutate(r, &mut l.storages[at].1),
            2 => l.storages.truncate(at),
            3 => l.pickles[3] = r.seed(seeds).pickles[3].clone(),
            4 => {
                let at = r.below(5);
                mutate(r, &mut l.pickles[at]);
            }
            _ => mutate(r, &mut l.pickles[3]),
        }
    }
    bytes::finish(r, l.bytes())
}

/// A zip as its pickle and its entries, of which one stands for the pickle.
#[derive(Clone)]
pub struct Zip {
    pickle: Opcodes,
    entries: Vec<Entry>,
}

const PICKLE: &[u8] = b"m/data.pkl";

/// A zip checkpoint of these tensors.
pub fn zip(tensors: &[Tensor<'_>], root: Root) -> Zip {
    let entry = |name: &[u8], data: Vec<u8>| Entry {
        name: name.to_vec(),
        method: 0,
        data,
    };
    let mut entries = vec![
        entry(PICKLE, Vec::new()),
        entry(b"m/byteorder", b"little".to_vec()),
    ];
    if root == Root::Modules {
        entries.push(Entry {
            method: 8,
            ..entry(b"m/code/__torch__.py", b"pass".to_vec())
        });
    }
    for (i, t) in tensors.iter().enumerate() {
        entries.push(entry(format!("m/data/{i}").as_bytes(), data(t)));
    }
    Zip {
        pickle: state_dict(tensors, root),
        entries,
    }
}

impl Zip {
    fn entries(&self) -> Vec<Entry> {
        let mut all = self.entries.clone();
        for e in &mut all {
            if e.name == PICKLE && e.data.is_empty() {
                e.data = self.pickle.concat();
            }
        }
        all
    }
    /// As a file.
    pub fn bytes(&self) -> Vec<u8> {
        zip::file(&self.entries()).0
    }
}

/// One mutant.
pub fn generate_zip(r: &mut Random, seeds: &[Zip]) -> Vec<u8> {
    let mut z = r.seed(seeds).clone();
    for _ in 0..r.few() {
        if r.one_in(3) {
            zip::mutate(r, &mut z.entries);
        } else {
            mutate(r, &mut z.pickle);
        }
    }
    let out = zip::encode(r, &z.entries());
    bytes::finish(r, out)
}
