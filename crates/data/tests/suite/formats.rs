//! Round trips.

use super::*;
use data::{Damaged, Options, Resize, Split};

fn open(path: &Path) -> Dataset {
    let (set, skipped) = Dataset::open(path, &Options::default()).unwrap();
    assert!(skipped.is_empty());
    set
}

#[test]
fn cifar_10_and_100() {
    let folder = Folder::new("cifar");
    let pixels: Vec<Vec<u8>> = (0..5).map(|i| values(3072, i)).collect();
    let file = |range: std::ops::Range<usize>, labels: &dyn Fn(usize) -> Vec<u8>| -> Vec<u8> {
        range
            .flat_map(|i| [labels(i), planes(&pixels[i], 3)].concat())
            .collect()
    };
    let ten = |i: usize| vec![(9 - i) as u8];
    folder.file("ten/data_batch_1.bin", &file(0..2, &ten));
    let second = folder.file("ten/data_batch_2.bin", &file(2..4, &ten));
    folder.file("ten/test_batch.bin", &file(4..5, &ten));
    let train = Options {
        split: Some(Split::Train),
        ..Options::default()
    };
    let (set, _) = Dataset::open(&folder.0.join("ten"), &train).unwrap();
    assert_eq!((set.len(), set.shape()), (4, shape(32, 32, 3)));
    assert_eq!(labels(&set), [9, 8, 7, 6]);
    assert_eq!(set.classes()[9], "truck");
    assert_eq!(all_pixels(&set), pixels[..4].concat());
    assert_eq!(all_pixels(&open(&second)), pixels[2..4].concat());

    let hundred = |i: usize| vec![i as u8, 99 - i as u8];
    let path = folder.file("hundred/train.bin", &file(0..3, &hundred));
    assert_eq!(labels(&open(&path)), [99, 98, 97]);
    let coarse = Options {
        coarse: true,
        ..Options::default()
    };
    let (set, _) = Dataset::open(&path, &coarse).unwrap();
    assert_eq!((labels(&set), set.classes().len()), (vec![0, 1, 2], 20));
    let names: String = (0..100).map(|i| format!("name {i}\n")).collect();
    folder.file("hundred/fine_label_names.txt", names.as_bytes());
    let set = open(&path);
    assert_eq!(
        (set.classes()[97].as_str(), all_pixels(&set)),
        ("name 97", pixels[..3].concat())
    );
}

#[test]
fn idx_plain_and_gzipped() {
    let folder = Folder::new("idx");
    let (pixels, names) = (values(5 * 6 * 4, 1), [3u8, 0, 1, 2, 1]);
    let (images, classes) = (idx(&[5, 6, 4], &pixels), idx(&[5], &names));
    folder.file("train-images-idx3-ubyte.gz", &gzip(&images));
    folder.file("train-labels-idx1-ubyte.gz", &gzip(&classes));
    folder.file("t10k-images-idx3-ubyte", &idx(&[1, 6, 4], &pixels[..24]));
    folder.file("t10k-labels-idx1-ubyte", &idx(&[1], &[2]));
    for split in [Split::Train, Split::Test] {
        let options = Options {
            split: Some(split),
            classes: Some((0..4).map(|c| format!("c{c}")).collect()),
            ..Options::default()
        };
        let (set, _) = Dataset::open(&folder.0, &options).unwrap();
        let count = if split == Split::Train { 5 } else { 1 };
        assert_eq!((set.len(), set.shape()), (count, shape(6, 4, 1)));
        assert_eq!(all_pixels(&set), pixels[..24 * count]);
        assert_eq!(set.classes()[3], "c3");
    }
    let set = open(&folder.0.join("train-images-idx3-ubyte.gz"));
    assert_eq!(
        (labels(&set), set.classes().len()),
        (vec![3, 0, 1, 2, 1], 4)
    );
    // names with dots, colour
    let colour = values(2 * 2 * 2 * 3, 5);
    folder.file("b/x-images.idx4-ubyte", &idx(&[2, 2, 2, 3], &colour));
    folder.file("b/x-labels.idx1-ubyte", &idx(&[2], &[0, 1]));
    let set = open(&folder.0.join("b"));
    assert_eq!((set.shape(), all_pixels(&set)), (shape(2, 2, 3), colour));
}

#[test]
fn npz_of_medmnist() {
    let folder = Folder::new("npz");
    let grey = values(3 * 8 * 8, 1);
    let colour = values(2 * 8 * 8 * 3, 2);
    let path = folder.file(
        "grey.npz",
        &zip(&[
            ("train_images.npy", npy("|u1", "(3, 8, 8)", &grey)),
            ("train_labels.npy", npy("|u1", "(3, 1)", &[0, 1, 4])),
            ("val_images.npy", npy("|u1", "(1, 8, 8)", &grey[64..128])),
            ("val_labels.npy", npy("|u1", "(1, 1)", &[1])),
        ]),
    );
    let of = |split| Options {
        split: Some(split),
        ..Options::default()
    };
    let (train, _) = Dataset::open(&path, &of(Split::Train)).unwrap();
    let (held, _) = Dataset::open(&path, &of(Split::Validation)).unwrap();
    assert_eq!(
        (train.shape(), labels(&train)),
        (shape(8, 8, 1), vec![0, 1, 4])
    );
    assert_eq!(all_pixels(&train), grey);
    assert_eq!(all_pixels(&held), grey[64..128]);
    // classes are those of the whole file
    assert_eq!(train.classes(), held.classes());
    assert_eq!(held.classes().len(), 5);
    // by content, whatever the name
    let unnamed = folder.file("grey", &std::fs::read(&path).unwrap());
    assert!(data::is_npz(&path) && data::is_npz(&unnamed));
    assert!(
        !data::is_npz(&folder.file("text.npz", b"no zip"))
            && !data::is_npz(&folder.0.join("nothing"))
    );
    let path = folder.file(
        "colour.npz",
        &zip(&[
            ("x_train.npy", npy("|u1", "(2, 8, 8, 3)", &colour)),
            (
                "y_train.npy",
                npy("<i8", "(2,)", &[[1, 0, 0, 0, 0, 0, 0, 0], [0; 8]].concat()),
            ),
        ]),
    );
    let set = open(&path);
    assert_eq!((set.shape(), all_pixels(&set)), (shape(8, 8, 3), colour));
}

#[test]
fn npz_of_floats_and_of_channels_first() {
    let folder = Folder::new("npz-floats");
    let pixels = values(2 * 4 * 5 * 3, 3);
    // (N, C, H, W), as torch's ToTensor makes it
    let place = |i: usize| {
        let (n, rest) = (i / 60, i % 60);
        (n * 20 + rest % 20) * 3 + rest / 20
    };
    let floats = (0..120).flat_map(|i| (f32::from(pixels[place(i)]) / 255.0).to_le_bytes());
    let floats: Vec<u8> = floats.collect();
    let longs: Vec<u8> = pixels
        .iter()
        .flat_map(|&v| i64::from(v).to_le_bytes())
        .collect();
    for (name, array, divided) in [
        ("floats.npz", npy("<f4", "(2, 3, 4, 5)", &floats), true),
        ("longs.npz", npy("<i8", "(2, 4, 5, 3)", &longs), false),
    ] {
        let entries = [
            ("images.npy", array),
            ("labels.npy", npy("<i4", "(2,)", &[0, 0, 0, 0, 1, 0, 0, 0])),
        ];
        let set = open(&folder.file(name, &zip(&entries)));
        assert_eq!(
            (set.shape(), all_pixels(&set)),
            (shape(4, 5, 3), pixels.clone())
        );
        assert_eq!(set.divided().is_some(), divided, "{name}");
    }
    // other numbers are no pictures, and have a way in
    let entries = [(
        "x.npy",
        npy("<f4", "(1, 1, 1, 1)", &(-2.5f32).to_le_bytes()),
    )];
    let path = folder.file("normalised.npz", &zip(&entries));
    let how = Options {
        labels: data::Labels::Optional,
        ..Options::default()
    };
    let e = Dataset::open(&path, &how)
        .expect_err("no pictures")
        .to_string();
    assert!(e.contains("-2.5") && e.contains("alone, as .npy"), "{e}");
}

#[test]
fn npz_without_classes() {
    let folder = Folder::new("npz-unlabelled");
    let images = || npy("|u1", "(2, 4, 5)", &values(40, 3));
    let several = npy("<i8", "(2, 3)", &[0; 48]);
    let numbers = npy("<f4", "(2,)", &[0; 8]);
    let how = Options {
        labels: data::Labels::Optional,
        ..Options::default()
    };
    for (name, beside) in [
        ("alone.npz", None),
        ("several.npz", Some(several)),
        ("numbers.npz", Some(numbers)),
    ] {
        let mut entries = vec![("x.npy", images())];
        entries.extend(beside.map(|array| ("y.npy", array)));
        let path = folder.file(name, &zip(&entries));
        let (set, _) = Dataset::open(&path, &how).expect("needs no classes");
        assert_eq!((set.len(), set.classes().len()), (2, 0));
        assert_eq!(all_pixels(&set), values(40, 3));
        assert!(Dataset::open(&path, &Options::default()).is_err());
    }
    let labels = npy(
        "<i8",
        "(2,)",
        &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    );
    let path = folder.file("both.npz", &zip(&[("x.npy", images()), ("y.npy", labels)]));
    let (set, _) = Dataset::open(&path, &how).expect("has classes");
    assert_eq!((set.label(0), set.classes().len()), (1, 2));
}

#[test]
fn pictures_of_other_formats_are_named() {
    let folder = Folder::new("other-pictures");
    for (name, head) in [
        ("BMP", &b"BM\x36\x30\0\0\0\0\0\0\x36\0"[..]),
        ("WebP", b"RIFF\x24\0\0\0WEBPVP8 "),
        ("TIFF", b"II*\0\x08\0\0\0"),
        ("GIF", b"GIF89a\x01\0"),
    ] {
        let said = Dataset::open(&folder.file("a", head), &Options::default());
        let said = said.expect_err("is not read").to_string();
        assert!(said.contains(name) && said.contains("PNG"), "{said}");
    }
}

/// Six pictures of 5×4 pixels in two classes; names out of order.
fn pictures() -> Vec<(String, Vec<u8>, Vec<u8>)> {
    (0..6)
        .map(|i| {
            let pixels = values(5 * 4 * 3, i);
            let class = if i % 2 == 0 { "owl" } else { "cat" };
            (
                format!("{class}/{}.png", 9 - i),
                png(&pixels, 5, 4, 3),
                pixels,
            )
        })
        .collect()
}

/// What sorted classes and names give of [`pictures`].
fn sorted() -> Vec<u8> {
    [5, 3, 1, 4, 2, 0]
        .iter()
        .flat_map(|&i| values(5 * 4 * 3, i))
        .collect()
}

#[test]
fn folders_and_tars_are_the_same() {
    let folder = Folder::new("folder");
    let mut members = Vec::new();
    for (name, bytes, _) in pictures() {
        folder.file(&format!("root/{name}"), &bytes);
        members.push((format!("train/{name}"), bytes));
    }
    folder.file("root/cat/notes.txt", b"no picture");
    folder.file("root/cat/._9.png", b"a hidden file");
    folder.file("root/readme.txt", b"no class");
    let set = open(&folder.0.join("root"));
    assert_eq!(set.classes(), ["cat", "owl"]);
    assert_eq!(labels(&set), [0, 0, 0, 1, 1, 1]);
    assert_eq!((set.shape(), all_pixels(&set)), (shape(4, 5, 3), sorted()));

    let mut plain: Vec<(&str, Vec<u8>)> = members
        .iter()
        .map(|(n, b)| (n.as_str(), b.clone()))
        .collect();
    plain.push(("train/cat/readme.txt", vec![7; 700]));
    for bytes in [tar(&plain), gzip(&tar(&plain))] {
        let set = open(&folder.file("set.tar", &bytes));
        assert_eq!(
            (set.classes(), labels(&set)),
            (
                &["cat".to_owned(), "owl".to_owned()][..],
                vec![0, 0, 0, 1, 1, 1]
            )
        );
        assert_eq!(all_pixels(&set), sorted());
    }
    // a name that begins as a picture does
    let own = tar(&[("BM/a.png", pictures()[0].1.clone())]);
    let set = open(&folder.file("own.tar", &own));
    assert_eq!(set.classes(), ["BM"]);
    // long names, in GNU's and in POSIX's way
    let long = format!("{}/owl/a.png", "x".repeat(120));
    let bytes = &pictures()[0].1;
    let record = |length: usize| format!("{length} path={long}\n");
    let length = record(100).len();
    for (kind, data) in [(b'L', format!("{long}\0")), (b'x', record(length))] {
        let mut out = [
            member("@", kind, data.as_bytes()),
            member("cut", b'0', bytes),
        ]
        .concat();
        out.resize(out.len() + 1024, 0);
        let set = open(&folder.file("long.tar", &out));
        assert_eq!(
            (set.classes(), all_pixels(&set)),
            (&["owl".to_owned()][..], values(60, 0))
        );
    }
    // splits below the root
    for (name, bytes, _) in pictures() {
        folder.file(&format!("split/train/{name}"), &bytes);
    }
    folder.file("split/val/cat/a.png", &pictures()[1].1);
    let options = Options {
        split: Some(Split::Validation),
        classes: Some(vec!["owl".into(), "cat".into()]),
        ..Options::default()
    };
    let (set, _) = Dataset::open(&folder.0.join("split"), &options).unwrap();
    assert_eq!(
        (set.len(), set.label(0)),
        (1, 1),
        "the order of classes is the given one"
    );
}

#[test]
fn large_folders_are_decoded_at_each_access() {
    let folder = Folder::new("large");
    for (name, bytes, _) in pictures() {
        folder.file(&format!("root/{name}"), &bytes);
    }
    let path = folder.0.join("root");
    let bytes = tar(&pictures()
        .iter()
        .map(|(n, b, _)| (n.as_str(), b.clone()))
        .collect::<Vec<_>>());
    let archive = folder.file("a.tar", &bytes);
    for options in [
        Options {
            memory_limit: 100,
            ..Options::default()
        },
        Options {
            keep_originals: true,
            ..Options::default()
        },
    ] {
        let (set, _) = Dataset::open(&path, &options).unwrap();
        assert_eq!(all_pixels(&set), sorted());
        assert_eq!(
            set.channel_statistics().unwrap(),
            open(&path).channel_statistics().unwrap()
        );
    }
    let (set, _) = Dataset::open(
        &archive,
        &Options {
            keep_originals: true,
            ..Options::default()
        },
    )
    .unwrap();
    assert_eq!(all_pixels(&set), sorted());
    // a file that is damaged later is an error then, not other pixels
    let (set, _) = Dataset::open(
        &path,
        &Options {
            keep_originals: true,
            ..Options::default()
        },
    )
    .unwrap();
    folder.file("root/cat/4.png", b"not any more");
    let error = set.pixels(0).expect_err("is damaged").to_string();
    assert!(error.contains("4.png"), "{error}");
}

#[test]
fn damaged_pictures_are_skipped_and_listed() {
    let folder = Folder::new("damaged");
    for (name, bytes, _) in pictures() {
        folder.file(&name, &bytes);
    }
    let cut = &pictures()[3].1;
    folder.file("cat/6.png", &cut[..cut.len() / 2]);
    folder.file("owl/zero.jpg", b"");
    for keep_originals in [false, true] {
        let options = Options {
            damaged: Damaged::Skip,
            keep_originals,
            ..Options::default()
        };
        let (set, skipped) = Dataset::open(&folder.0, &options).unwrap();
        assert_eq!(labels(&set), [0, 0, 1, 1, 1]);
        let kept: Vec<u8> = [5, 1, 4, 2, 0]
            .iter()
            .flat_map(|&i| values(60, i))
            .collect();
        assert_eq!(all_pixels(&set), kept);
        assert_eq!(skipped.len(), 2);
        assert!(skipped[0].picture.ends_with("6.png") && skipped[1].picture.ends_with("zero.jpg"));
        assert!(skipped.iter().all(|s| !s.reason.is_empty()));
    }
}

#[test]
fn sizes_and_channels_are_converted_on_request() {
    let folder = Folder::new("resize");
    // left half black, right half white; then the same upright and larger
    let half = |w: usize, h: usize| -> Vec<u8> {
        (0..w * h)
            .flat_map(|i| [if i % w < w / 2 { 0 } else { 255 }; 3])
            .collect()
    };
    folder.file("a/1.png", &png(&half(16, 8), 16, 8, 3));
    folder.file("a/2.png", &png(&half(8, 24), 8, 24, 3));
    let options = |size, shorter| Options {
        resize: Some(Resize {
            height: size,
            width: size,
            shorter,
        }),
        ..Options::default()
    };
    let (set, _) = Dataset::open(&folder.0, &options(4, 8)).unwrap();
    assert_eq!(set.shape(), shape(4, 4, 3));
    // at the original scale the middle is cut out without any interpolation
    let expected: Vec<u8> = half(4, 4);
    assert_eq!(all_pixels(&set), [expected.clone(), expected].concat());
    let (set, _) = Dataset::open(&folder.0, &options(4, 4)).unwrap();
    for i in 0..2 {
        let row = &set.pixels(i).unwrap()[..12];
        assert!(row[0] < 64 && row[11] > 192, "{row:?}");
    }
    // grey files become colour unless grey is asked for
    let folder = Folder::new("channels");
    folder.file("a/1.png", &png(&values(20, 1), 5, 4, 1));
    let path = &folder.0;
    assert_eq!(open(path).shape().channels, 3);
    let grey = Options {
        channels: Some(1),
        ..Options::default()
    };
    assert_eq!(
        all_pixels(&Dataset::open(path, &grey).unwrap().0),
        values(20, 1)
    );
    // arrays too
    let path = folder.file(
        "x.npz",
        &zip(&[
            ("images.npy", npy("|u1", "(2, 4, 4)", &values(32, 1))),
            ("labels.npy", npy("|u1", "(2,)", &[0, 1])),
        ]),
    );
    let colour = Options {
        channels: Some(3),
        resize: Some(square(8)),
        ..Options::default()
    };
    let (set, _) = Dataset::open(&path, &colour).unwrap();
    assert_eq!(set.shape(), shape(8, 8, 3));
    assert!(
        set.pixels(1)
            .unwrap()
            .chunks(3)
            .all(|p| p[0] == p[1] && p[1] == p[2])
    );
}

#[test]
fn a_limit_spreads_over_the_set() {
    let folder = Folder::new("limit");
    let pixels = values(10 * 4, 1);
    folder.file("images-idx3-ubyte", &idx(&[10, 2, 2], &pixels));
    folder.file(
        "labels-idx1-ubyte",
        &idx(&[10], &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
    );
    for (limit, expected) in [
        (3, vec![0, 3, 6]),
        (10, (0..10).collect()),
        (99, (0..10).collect()),
    ] {
        let options = Options {
            limit: Some(limit),
            ..Options::default()
        };
        let (set, _) = Dataset::open(&folder.0, &options).unwrap();
        assert_eq!((labels(&set), set.classes().len()), (expected.clone(), 10));
        assert_eq!(set.pixels(1).unwrap()[..], pixels[4 * expected[1]..][..4]);
    }
    for (name, bytes, _) in pictures() {
        folder.file(&format!("p/{name}"), &bytes);
    }
    let options = Options {
        limit: Some(2),
        ..Options::default()
    };
    assert_eq!(
        labels(&Dataset::open(&folder.0.join("p"), &options).unwrap().0),
        [0, 1]
    );
}

#[test]
fn parts_of_sets() {
    let set = toy(10, shape(2, 3, 1), 4);
    let (head, tail, _) = set.hold_out(3).unwrap();
    assert_eq!((head.len(), tail.len()), (7, 3));
    assert_eq!(
        [all_pixels(&head), all_pixels(&tail)].concat(),
        all_pixels(&set)
    );
    assert_eq!(tail.pixels(0).unwrap(), set.pixels(7).unwrap());
    let some = set.subset(&[9, 2, 2]).unwrap();
    assert_eq!(labels(&some), [set.label(9), set.label(2), set.label(2)]);
    let rest = set.without(&[0, 9, 0]).unwrap();
    assert_eq!(all_pixels(&rest), all_pixels(&set)[6..54]);
    assert!((0..10).all(|i| set.label(i) < set.classes().len()));
    assert!(set.subset(&[10]).is_err() && set.without(&[10]).is_err());
    // of subsets of parts
    let some = tail.subset(&[1, 0]).unwrap();
    assert_eq!(some.pixels(0).unwrap(), set.pixels(8).unwrap());
}

#[test]
fn pixels_at_hand_may_come_without_classes() {
    let of = |labels: &[usize]| {
        Dataset::from_pixels(shape(1, 2, 1), Vec::new(), vec![7, 7, 8, 8], labels)
    };
    let set = of(&[0, 0]).unwrap();
    assert!(set.classes().is_empty());
    assert_eq!(&*set.pixels(1).unwrap(), [8, 8]);
    of(&[0]).expect_err("one for each all the same");
}

#[test]
fn statistics_are_mean_and_deviation() {
    // two pictures, two pixels each: red 0 51 102 153, green 255 0 255 0, blue 10 20 30 40
    let pixels = vec![0, 255, 10, 51, 0, 20, 102, 255, 30, 153, 0, 40];
    let set = Dataset::from_pixels(shape(1, 2, 3), vec!["a".into()], pixels, &[0, 0]).unwrap();
    let n = set.channel_statistics().unwrap();
    let close = |a: &[f64], b: [f64; 3]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12);
    assert!(close(&n.mean, [0.3, 0.5, 25.0 / 255.0]), "{n:?}");
    assert!(
        close(&n.deviation, [0.05f64.sqrt(), 0.5, 125f64.sqrt() / 255.0]),
        "{n:?}"
    );
    let flat = Dataset::from_pixels(shape(1, 2, 1), vec!["a".into()], vec![7, 7], &[0]).unwrap();
    assert!(flat.channel_statistics().is_err());
}

#[test]
fn npz_of_several_labels() {
    let folder = Folder::new("npz-several");
    let pixels = values(3 * 20, 3);
    let of = |name: &str, kind: &str, shape: &str, labels: &[u8]| {
        let images = npy("|u1", "(3, 4, 5)", &pixels);
        let entries = [("x.npy", images), ("y.npy", npy(kind, shape, labels))];
        folder.file(name, &zip(&entries))
    };
    let how = |limit| Options {
        labels: data::Labels::Several,
        limit,
        ..Options::default()
    };
    let holding = |set: &Dataset| -> Vec<Vec<bool>> {
        (0..set.len()).map(|i| set.holding(i).to_vec()).collect()
    };
    let open = |path: &Path, limit| -> Vec<Vec<bool>> {
        let (set, _) = Dataset::open(path, &how(limit)).expect("labels");
        assert!(set.classes().is_empty());
        holding(&set)
    };
    let (yes, no) = (true, false);
    let right = [vec![yes, no], vec![no, no], vec![yes, yes]];
    let bytes = of("bytes.npz", "|u1", "(3, 2)", &[1, 0, 0, 0, 1, 1]);
    assert_eq!(open(&bytes, None), right);
    // every second of three, rounded down
    assert_eq!(open(&bytes, Some(2)), right[..2]);
    let floats = [1.0f32, 0.0, 0.0, 0.0, 1.0, 1.0].map(f32::to_le_bytes);
    let floats = of("floats.npz", "<f4", "(3, 2)", &floats.concat());
    assert_eq!(open(&floats, None), right);
    let (set, _) = Dataset::open(&bytes, &how(None)).expect("labels");
    let turned = set.subset(&[2, 0]).expect("both");
    assert_eq!(holding(&turned), [right[2].clone(), right[0].clone()]);
    // a class each is as it was
    let classes = of("classes.npz", "|u1", "(3,)", &[0, 1, 4]);
    let (set, _) = Dataset::open(&classes, &how(None)).expect("classes");
    assert_eq!((labels(&set), set.holding(0).len()), (vec![0, 1, 4], 0));
    for (name, shape, numbers, words) in [
        (
            "two.npz",
            "(3, 2)",
            &[1, 0, 2, 0, 1, 1][..],
            "row 1, column 0",
        ),
        (
            "few.npz",
            "(2, 2)",
            &[1, 0, 0, 0],
            "2 labels for the images",
        ),
    ] {
        let path = of(name, "|u1", shape, numbers);
        let refused = Dataset::open(&path, &how(None)).map(drop);
        let refused = refused.expect_err("no labels").to_string();
        assert!(refused.contains(words), "{refused}");
    }
    // who asks for classes is told what there is
    let refused = Dataset::open(&bytes, &Options::default()).map(drop);
    let refused = refused.expect_err("no classes").to_string();
    assert!(refused.contains("several labels"), "{refused}");
}
