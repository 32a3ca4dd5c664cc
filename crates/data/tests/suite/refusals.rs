//! Every refusal is one line that names the file and what to do.

use super::*;
use data::{Error, Options, Resize, Split};

fn open(path: &Path) -> String {
    refused(path, &Options::default())
}

#[track_caller]
fn says(line: &str, parts: &[&str]) {
    for part in parts {
        assert!(line.contains(part), "{part:?} is not in {line:?}");
    }
}

#[test]
fn cifar_files() {
    let folder = Folder::new("bad-cifar");
    let record = |label: u8| [vec![label], values(3072, 0)].concat();
    let path = folder.file("a.bin", &[record(3), record(10)].concat());
    says(
        &open(&path),
        &[
            "a.bin",
            "number 1",
            "\"10\"",
            "none of the 10 classes",
            "give the classes",
        ],
    );
    let path = folder.file("b.bin", &record(3)[..3000]);
    says(
        &open(&path),
        &[
            "b.bin",
            "truncated",
            "3000 bytes",
            "copy or download it again",
        ],
    );
    says(&open(&folder.file("c.bin", b"")), &["c.bin", "empty"]);
    let path = folder.file("d.bin", &record(3));
    let coarse = Options {
        coarse: true,
        ..Options::default()
    };
    says(&refused(&path, &coarse), &["d.bin", "only CIFAR-100"]);
    let small = Options {
        memory_limit: 3000,
        ..Options::default()
    };
    says(
        &refused(&path, &small),
        &["d.bin", "more than 3000 bytes", "split it"],
    );
    folder.file("two/train.bin", &record(3));
    folder.file("two/test.bin", &record(3));
    says(
        &open(&folder.0.join("two")),
        &["two", "no split", "test, train", "name one"],
    );
    let validation = Options {
        split: Some(Split::Validation),
        ..Options::default()
    };
    says(
        &refused(&folder.0.join("two"), &validation),
        &["split validation", "test, train"],
    );
    folder.file("both/a.bin", &record(3));
    folder.file("both/b.bin", &[vec![1], record(3)].concat());
    says(
        &open(&folder.0.join("both")),
        &["both/b.bin", "CIFAR-100", "name one file"],
    );
    folder.file("names/batches.meta.txt", b"cat\ndog\n");
    let path = folder.file("names/a.bin", &record(0));
    says(&open(&path), &["batches.meta.txt", "2 names, 10"]);
}

#[test]
fn idx_files() {
    let folder = Folder::new("bad-idx");
    let images = idx(&[2, 3, 3], &values(18, 0));
    let path = folder.file("a-images-idx3-ubyte", &images);
    says(
        &open(&path),
        &["a-images", "labels are missing", "a-labels-idx1-ubyte"],
    );
    let labels = folder.file("a-labels-idx1-ubyte", &idx(&[3], &[0, 1, 2]));
    says(&open(&path), &["a-labels", "[3] for 2 images"]);
    says(
        &open(&labels),
        &["a-labels", "give the file with the images"],
    );
    folder.file("a-images-idx3-ubyte", &images[..30]);
    says(
        &open(&path),
        &["a-images", "truncated", "[2, 3, 3]", "14 are there"],
    );
    folder.file("a-images-idx3-ubyte", &[images.clone(), vec![0]].concat());
    says(&open(&path), &["a-images", "19 are there"]);
    // a head that promises more than there is memory
    folder.file("a-images-idx3-ubyte", &idx(&[u32::MAX as usize; 3], &[]));
    says(&open(&path), &["a-images", "truncated"]);
    let mut floats = images.clone();
    floats[2] = 13;
    folder.file("a-images-idx3-ubyte", &floats);
    says(&open(&path), &["a-images", "type 0x0d", "convert"]);
    folder.file("a-images-idx3-ubyte", &idx(&[18], &values(18, 0)));
    says(&open(&path), &["a-images", "give the file with the images"]);
    folder.file("a-images-idx3-ubyte", &gzip(&images)[..20]);
    says(&open(&path), &["a-images", "truncated"]);
    let mut damaged = gzip(&images);
    let end = damaged.len();
    damaged[end - 6] ^= 1;
    folder.file("a-images-idx3-ubyte", &damaged);
    says(
        &open(&path),
        &["a-images", "can't be unpacked", "download it again"],
    );
    // gzip bombs stop at the limit
    folder.file(
        "a-images-idx3-ubyte",
        &gzip(&idx(&[1, 1 << 12, 1 << 12], &vec![0; 1 << 24])),
    );
    let small = Options {
        memory_limit: 1 << 20,
        ..Options::default()
    };
    says(
        &refused(&path, &small),
        &["a-images", "more than 1048576 bytes"],
    );
    // what is noted of a picture of one pixel is more than the pixel
    let count = 1 << 17;
    folder.file(
        "a-images-idx3-ubyte",
        &gzip(&idx(&[count, 1, 1], &vec![0; count])),
    );
    folder.file("a-labels-idx1-ubyte", &idx(&[count], &vec![0; count]));
    says(
        &refused(&path, &small),
        &["the set in size 1×1×1", "more than 1048576 bytes"],
    );
    let some = Options {
        limit: Some(5),
        ..small
    };
    assert_eq!(Dataset::open(&path, &some).unwrap().0.len(), 5);
    let path = folder.file("mystery", &images);
    says(&open(&path), &["mystery", "labels are found by name"]);
    // no pixels; pixels beyond every number, of no pictures
    for dims in [[2, 0, 3], [0, u32::MAX as usize, u32::MAX as usize]] {
        let path = folder.file("e-images-idx3-ubyte", &idx(&dims, &[]));
        let line = open(&path);
        assert!(
            line.contains("e-images") || line.contains("e-labels"),
            "{line}"
        );
    }
    let empty = folder.file("none-images-idx3-ubyte", &idx(&[0, 3, 3], &[]));
    folder.file("none-labels-idx1-ubyte", &idx(&[0], &[]));
    says(&open(&empty), &["none-images", "no picture in it"]);
}

#[test]
fn npz_files() {
    let folder = Folder::new("bad-npz");
    let pictures = |kind: &str, values: &[u8]| {
        let count = values.len() / if kind == "<f4" { 4 } else { 1 };
        let entries = [
            ("images.npy", npy(kind, &format!("({count}, 1, 1)"), values)),
            (
                "labels.npy",
                npy("|u1", &format!("({count},)"), &vec![0; count]),
            ),
        ];
        open(&folder.file("p.npz", &zip(&entries)))
    };
    says(
        &pictures("|b1", &[0, 1]),
        &["p.npz", "images", "booleans", "0 and 255"],
    );
    let floats: Vec<u8> = [0.360_784_3f32, f32::INFINITY]
        .iter()
        .flat_map(|v| v.to_le_bytes())
        .collect();
    says(
        &pictures("<f4", &floats),
        &["images holds inf (value 1", "no finite number"],
    );
    let good = npy("|u1", "(2, 3, 3)", &values(18, 0));
    let labels = npy("|u1", "(2,)", &[0, 1]);
    let read = |images: &[u8], labels: &[u8]| {
        let entries = [
            ("images.npy", images.to_vec()),
            ("labels.npy", labels.to_vec()),
        ];
        open(&folder.file("a.npz", &zip(&entries)))
    };
    says(
        &read(&npy("<f4", "(2, 3, 3)", &values(72, 0)), &labels),
        &["a.npz", "images", "'<f4'", "astype('uint8')"],
    );
    says(
        &read(&good, &npy("<f8", "(2,)", &[0; 16])),
        &["labels", "'<f8'"],
    );
    says(
        &read(&npy("|u1", "(2, 3, 4)", &values(18, 0)), &labels),
        &["[2, 3, 4]", "18 are there"],
    );
    says(
        &read(
            &npy("|u1", "(4294967296, 4294967296, 4294967296)", &[]),
            &labels,
        ),
        &["promises"],
    );
    says(
        &read(&npy("|u1", "(2, 9)", &values(18, 0)), &labels),
        &["shape [2, 9]"],
    );
    says(
        &read(&npy("|u1", "(2, 2, 3, 4)", &values(48, 0)), &labels),
        &["shape [2, 2, 3, 4]"],
    );
    says(&read(&good, &npy("|u1", "(3,)", &[0; 3])), &["3 labels"]);
    says(
        &read(&good, &npy("|u1", "(2, 5)", &[0; 10])),
        &["shape [2, 5]", "one label"],
    );
    says(&read(b"no array", &labels), &["images is no NumPy array"]);
    says(
        &read(&npy("|u1", "(0, 3, 3)", &[]), &npy("|u1", "(0,)", &[])),
        &["a.npz", "no picture"],
    );
    let wide = "(0, 1099511627776, 1099511627776)";
    says(
        &read(&npy("|u1", wide, &[]), &npy("|u1", "(0,)", &[])),
        &["images has shape"],
    );
    says(
        &read(&npy("|u1", "(2, 0, 3)", &[]), &labels),
        &["shape [2, 0, 3]"],
    );
    let fortran =
        String::from_utf8_lossy(&npy("|u1", "(2, 1, 1)", &[1, 2])[10..]).replace("False", "True ");
    let fortran = [&npy("|u1", "(2, 1, 1)", &[])[..10], fortran.as_bytes()].concat();
    says(
        &read(&fortran, &labels),
        &["Fortran order", "ascontiguousarray"],
    );
    let whole = zip(&[("images.npy", good.clone()), ("labels.npy", labels.clone())]);
    for cut in [whole.len() - 1, whole.len() / 2, 30] {
        says(
            &open(&folder.file("a.npz", &whole[..cut])),
            &["a.npz", "truncated"],
        );
    }
    let mut damaged = whole.clone();
    damaged[45] ^= 0x10;
    let line = open(&folder.file("a.npz", &damaged));
    says(&line, &["a.npz", "download it again"]);
    let zeros = [
        (
            "images.npy",
            npy("|u1", "(1, 4096, 4096)", &vec![0; 1 << 24]),
        ),
        ("labels.npy", labels),
    ];
    let path = folder.file("bomb.npz", &zip(&zeros));
    let small = Options {
        memory_limit: 1 << 20,
        ..Options::default()
    };
    says(
        &refused(&path, &small),
        &["bomb.npz", "more than 1048576 bytes"],
    );
    let path = folder.file("other.npz", &zip(&[("weights.npy", good)]));
    says(
        &open(&path),
        &["other.npz", "weights", "train_images", "understood are"],
    );
}

#[test]
fn folders_and_tars() {
    let folder = Folder::new("bad-folder");
    let at = |name: &str| folder.0.join(name);
    let picture = png(&values(60, 1), 5, 4, 3);
    std::fs::create_dir_all(at("empty")).unwrap();
    says(&open(&at("empty")), &["empty", "CLASS/*.jpg"]);
    folder.file("mixed/a/1.png", &picture);
    folder.file("mixed/a/2.png", &png(&values(60, 1), 4, 5, 3));
    says(&open(&at("mixed")), &["2.png", "4×5", "5×4", "resize"]);
    assert!(matches!(
        Dataset::open(&at("mixed"), &Options::default()),
        Err(Error::MixedSizes { .. })
    ));
    folder.file("damaged/a/1.png", &picture);
    folder.file("damaged/a/2.jpg", &picture[..40]);
    says(
        &open(&at("damaged")),
        &["2.jpg", "PNG or JPEG", "skip damaged"],
    );
    folder.file("broken/a/1.png", b"");
    let skip = Options {
        damaged: data::Damaged::Skip,
        ..Options::default()
    };
    says(
        &refused(&at("broken"), &skip),
        &["broken", "every picture in it is damaged"],
    );
    folder.file("hollow/a/1.png", &picture);
    folder.file("hollow/b/notes.txt", b"");
    says(&open(&at("hollow")), &["hollow/b", "no picture"]);
    folder.file("deep/a/b/1.png", &picture);
    says(
        &open(&at("deep")),
        &["deep/a/b", "only pictures are expected"],
    );
    let classes = Options {
        classes: Some(vec!["b".into()]),
        ..Options::default()
    };
    says(
        &refused(&at("mixed"), &classes),
        &["mixed", "\"a\"", "none of the 1 classes"],
    );
    let split = Options {
        split: Some(Split::Test),
        ..Options::default()
    };
    says(&refused(&at("mixed"), &split), &["mixed", "the split test"]);
    says(&open(&at("nowhere")), &["nowhere", "No such file"]);

    let whole = tar(&[("a/1.png", picture.clone())]);
    let read = |bytes: &[u8]| open(&folder.file("a.tar", bytes));
    // within a member, before the end mark
    for cut in [512, 512 + 100, whole.len() - 1024] {
        says(&read(&whole[..cut]), &["a.tar", "truncated"]);
    }
    says(&read(&gzip(&whole)[..60]), &["a.tar", "truncated"]);
    let mut damaged = whole.clone();
    damaged[0] ^= 1;
    says(&read(&damaged), &["a.tar", "checksum"]);
    says(
        &read(&tar(&[("a/readme.txt", vec![1; 10])])),
        &["a.tar", "CLASS/*.jpg"],
    );
    // a member that claims 8 GiB is refused before anything is allocated
    let mut huge = whole.clone();
    huge[124..136].copy_from_slice(b"77777777777\0");
    check(huge[..512].as_mut_array().unwrap());
    says(
        &read(&huge),
        &["a.tar", "a/1.png", "more than 67108864 bytes"],
    );
    let small = Options {
        memory_limit: 64,
        ..Options::default()
    };
    let path = folder.file("b.tar", &whole);
    says(
        &refused(&path, &small),
        &["b.tar", "a/1.png", "more than 64 bytes"],
    );
    // members without bytes are noted too
    let crowd: Vec<_> = (0..1000)
        .map(|i| (format!("a/{i}.png"), Vec::new()))
        .collect();
    let crowd: Vec<_> = crowd.iter().map(|(n, b)| (n.as_str(), b.clone())).collect();
    let path = folder.file("c.tar", &gzip(&tar(&crowd)));
    let small = Options {
        memory_limit: 1 << 18,
        ..Options::default()
    };
    says(
        &refused(&path, &small),
        &["c.tar", "more than 262144 bytes"],
    );
    let sparse = [member("a/1.png", b'S', &picture), vec![0; 1024]].concat();
    says(&read(&sparse), &["a.tar", "sparse"]);
    says(
        &read(&tar(&[
            ("train/a/1.png", picture.clone()),
            ("test/a/2.png", picture),
        ])),
        &["a.tar", "train, test"],
    );
}

#[test]
fn unknown_formats_and_options() {
    let folder = Folder::new("unknown");
    for bytes in [&b"SQLite format 3"[..], b"", &gzip(b"text")] {
        let line = open(&folder.file("set.db", bytes));
        says(
            &line,
            &[
                "set.db",
                "understood are",
                "CIFAR-10",
                ".tar.gz",
                "IDX",
                ".npz",
            ],
        );
    }
    let path = folder.file(
        "a.npz",
        &zip(&[
            ("images.npy", npy("|u1", "(1, 2, 2)", &[0; 4])),
            ("labels.npy", npy("|u1", "(1,)", &[3])),
        ]),
    );
    let with = |change: &dyn Fn(&mut Options)| {
        let mut options = Options::default();
        change(&mut options);
        refused(&path, &options)
    };
    says(
        &with(&|o| o.classes = Some(vec!["a".into(), "b".into()])),
        &["a.npz", "\"3\"", "2 classes"],
    );
    says(
        &with(&|o| o.classes = Some(vec!["a".into(), "a".into()])),
        &["\"a\" is named twice"],
    );
    says(&with(&|o| o.channels = Some(4)), &["channels: 4"]);
    says(&with(&|o| o.limit = Some(0)), &["limit: 0"]);
    says(&with(&|o| o.coarse = true), &["a.npz", "only CIFAR-100"]);
    for (height, shorter) in [(8, 7), (0, 8), (5000, 5000)] {
        let resize = Resize {
            height,
            width: 4,
            shorter,
        };
        says(
            &with(&|o| o.resize = Some(resize)),
            &["resize", "shorter side"],
        );
    }
    says(
        &with(&|o| {
            o.resize = Some(square(4096));
            o.memory_limit = 1 << 20;
        }),
        &["a.npz", "4096×4096×1", "smaller size"],
    );
}

#[test]
fn sets_that_do_not_fit_together() {
    let set = toy(4, shape(2, 2, 1), 3);
    let line = |other: &Dataset| data::twins(&set, other).err().unwrap().to_string();
    says(
        &line(&toy(4, shape(2, 2, 1), 2)),
        &["number 2", "\"class 2\"", "same classes"],
    );
    says(&line(&toy(4, shape(2, 2, 3), 3)), &["2×2×1 and 2×2×3"]);
    let pixels = |count: usize, labels: &[usize]| {
        Dataset::from_pixels(shape(2, 2, 1), vec!["a".into()], vec![0; count], labels)
    };
    assert!(pixels(4, &[0]).is_ok());
    says(
        &pixels(5, &[0]).err().unwrap().to_string(),
        &["4 values for each"],
    );
    says(&pixels(0, &[]).err().unwrap().to_string(), &["0 labels"]);
    says(
        &pixels(4, &[1]).err().unwrap().to_string(),
        &["label \"1\""],
    );
    says(
        &set.pixels(4).err().unwrap().to_string(),
        &["number 4", "has 4"],
    );
}
