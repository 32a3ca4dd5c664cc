//! A foreign network is given what it was trained on, or nothing: what is said of its pixels, what it says itself, and what is refused.

#[path = "support/onnx.rs"]
mod onnx;
mod support;

use image::{DynamicImage, ImageFormat, Rgb, RgbImage, RgbaImage};
use onnx::{means, means_of};
use std::io::Cursor;
use std::path::Path;
use support::{Folder, done, refused};

/// The name of an ONNX operator and the constants beside its input.
type Operator<'a> = (&'a str, &'a [&'a [f32]]);

const IMAGENET: [&[f32]; 2] = [&[0.485, 0.456, 0.406], &[0.229, 0.224, 0.225]];

fn encoded(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    picture.write_to(&mut out, format).expect("encodes");
    out.into_inner()
}

/// A picture of one colour in two sizes, beside noise that gives every value a range.
fn pictures(folder: &Folder) -> String {
    let one = RgbImage::from_pixel(8, 8, Rgb([128, 64, 32]));
    folder.file("one.png", &encoded(&one.into(), ImageFormat::Png));
    let noise = RgbImage::from_fn(8, 8, |x, y| {
        Rgb([(x * 30) as u8, (y * 30) as u8, (x * y * 5) as u8])
    });
    folder.file("noise.png", &encoded(&noise.into(), ImageFormat::Png));
    format!("{} {}", folder.path("one.png"), folder.path("noise.png"))
}

/// What the network computes of the picture of one colour, and what was said on the way.
fn calibrated(folder: &Folder, bytes: &[u8], options: &str) -> (Vec<f64>, String) {
    let (net, out) = (folder.file("net.onnx", bytes), folder.path("net.pvm"));
    let (_, notes) = done(
        &format!(
            "calibrate {net} --data {} {options} -o {out}",
            pictures(folder)
        ),
        &[],
    );
    let graph = nn::format::artefact::load(Path::new(&out), 1 << 20).expect("reads");
    let task = task::Task::of(graph.metadata())
        .expect("reads")
        .expect("there");
    let picture = task::Picture::load(Path::new(&folder.path("one.png"))).expect("reads");
    let x = task.encode(&task::Input::Picture(&picture)).expect("fits");
    (
        graph.evaluate(&x).expect("evaluates").output.into_values(),
        notes,
    )
}

fn near(had: &[f64], right: [f64; 3]) {
    let close = had
        .iter()
        .zip(right)
        .all(|(h, r)| (h - r).abs() < 1e-5 * r.abs().max(1.0));
    assert!(close && had.len() == 3, "{had:?}: {right:?}");
}

#[test]
fn nobody_guesses_how_pixels_are_normalised() {
    let folder = Folder::new("unsaid");
    let data = pictures(&folder);
    for channels in [3, 1] {
        let net = folder.file("net.onnx", &means(channels, &[]));
        let calibrate = format!(
            "calibrate {net} --data {data} -o {}",
            folder.path("net.pvm")
        );
        let words = [
            "net.onnx",
            "normalised",
            "--normalization none|imagenet|cifar10|half",
            "--mean",
            "--deviation",
            "--range",
            "--channels",
        ];
        refused(&calibrate, &[], &words);
        // an order of channels is no normalisation
        refused(
            &format!("{calibrate} --channels bgr"),
            &[],
            &["--normalization"],
        );
    }
    let net = folder.file("grey.onnx", &means(1, &[]));
    let grey = |options: &str, words: &[&str]| {
        refused(
            &format!(
                "calibrate {net} --data {data} {options} -o {}",
                folder.path("net.pvm")
            ),
            &[],
            words,
        );
    };
    grey(
        "--normalization imagenet",
        &["grey.onnx", "3 channels", "half", "--mean"],
    );
    grey("--normalization none --channels bgr", &["3 channels"]);
    grey(
        "--normalization imagenet22k",
        &["none, imagenet, cifar10, half"],
    );
    grey("--mean 0.1,0.2", &["means", "1 needed, 2 given", "--mean"]);
    done(
        &format!(
            "calibrate {net} --data {data} --mean 0.1307 --deviation 0.3081 -o {}",
            folder.path("g.pvm")
        ),
        &[],
    );
    let (said, _) = done(&format!("inspect {}", folder.path("g.pvm")), &[]);
    assert!(
        said.contains("(v/255 − 0.1307)/0.3081 (v from 0 to 255)"),
        "{said}"
    );
    // rows neither
    let rows = folder.file("rows.csv", b"left,right\n0,1\n1,0\n");
    let xor = concat!(env!("CARGO_MANIFEST_DIR"), "/../polyveil/data/xor.onnx");
    let rows = format!(
        "calibrate {xor} --data {rows} -o {}",
        folder.path("xor.pvm")
    );
    refused(
        &rows,
        &[],
        &[
            "xor.onnx",
            "rows are normalised",
            "--normalization none|measured",
        ],
    );
    for (options, line) in [
        ("--normalization none", "rows         as they are"),
        (
            "--normalization measured",
            "right                (v − 0.5)/0.5\n",
        ),
        (
            "--mean 0.5,0.25 --deviation 0.5",
            "right                (v − 0.25)/0.5\n",
        ),
    ] {
        done(&format!("{rows} {options}"), &[]);
        let (said, _) = done(&format!("inspect {}", folder.path("xor.pvm")), &[]);
        assert!(said.contains(line), "{said}");
    }
    refused(&format!("{rows} --range 0..1"), &[], &["range"]);
    refused(
        &format!("{rows} --normalization none --channels bgr"),
        &[],
        &["order"],
    );
    // what the file says is not half replaced
    let again = format!(
        "calibrate {} --data {data} -o {}",
        folder.path("c.pvm"),
        folder.path("d.pvm")
    );
    calibrated(&folder, &means(3, &[]), "--normalization half");
    std::fs::rename(folder.path("net.pvm"), folder.path("c.pvm")).expect("moves");
    refused(&format!("{again} --channels bgr"), &[], &["c.pvm", "alone"]);
    let (_, notes) = done(&format!("{again} --normalization none"), &[]);
    assert!(
        notes.contains("warning") && notes.contains("0.5"),
        "{notes}"
    );
    done(&again, &[]);
    refused(
        &format!("{rows} --normalization imagenet"),
        &[],
        &["imagenet"],
    );
}

#[test]
fn pixels_become_what_is_said() {
    let folder = Folder::new("said");
    let plain = means(3, &[]);
    let v = [128.0, 64.0, 32.0];
    for (options, right) in [
        ("--normalization none", v.map(|v| v / 255.0)),
        ("--normalization half", v.map(|v| v / 127.5 - 1.0)),
        ("--range 0..255", v),
        ("--range -1..1", v.map(|v| v / 127.5 - 1.0)),
        (
            "--normalization none --channels bgr",
            [32.0 / 255.0, 64.0 / 255.0, 128.0 / 255.0],
        ),
        (
            "--mean 103.939,116.779,123.68 --range 0..255 --channels bgr",
            [32.0 - 103.939, 64.0 - 116.779, 128.0 - 123.68],
        ),
        (
            "--normalization imagenet",
            [0, 1, 2]
                .map(|c| (v[c] / 255.0 - f64::from(IMAGENET[0][c])) / f64::from(IMAGENET[1][c])),
        ),
    ] {
        let (had, notes) = calibrated(&folder, &plain, options);
        near(&had, right);
        assert!(notes.contains("pixels v become "), "{notes}");
        assert!(!notes.contains("warning"), "{notes}");
    }
    let (said, _) = done(&format!("inspect {} --json", folder.path("net.pvm")), &[]);
    let said: serde_json::Value = serde_json::from_str(&said).expect("JSON alone");
    assert_eq!(said["normalization"]["mean"][0], 0.485);
    assert_eq!(said["normalization"]["channels"], "rgb");
}

#[test]
fn networks_that_begin_with_a_normalisation_say_it_themselves() {
    let folder = Folder::new("own");
    let v = [128.0, 64.0, 32.0];
    let imagenet =
        [0, 1, 2].map(|c| (v[c] / 255.0 - f64::from(IMAGENET[0][c])) / f64::from(IMAGENET[1][c]));
    let blue_first: [&[f32]; 2] = [&[0.406, 0.456, 0.485], &[0.225, 0.224, 0.229]];
    let statistics: [&[f32]; 4] = [&[1.0; 3], &[0.0; 3], &[120.0, 115.0, 100.0], &[4000.0; 3]];
    let norm = |c: usize| (v[c] - f64::from(statistics[2][c])) / (4000.0f64 + 1e-5).sqrt();
    let variances = IMAGENET[1].iter().map(|d| d * d - 1e-5);
    let variances: Vec<f32> = variances.collect();
    let known: [&[f32]; 4] = [&[1.0; 3], &[0.0; 3], IMAGENET[0], &variances];
    let of: [(&[Operator<'_>], [f64; 3]); 8] = [
        (
            &[("Sub", &IMAGENET[..1]), ("Div", &IMAGENET[1..])],
            imagenet,
        ),
        (
            &[("Identity", &[]), ("Mul", &[&[2.0]]), ("Sub", &[&[1.0]])],
            v.map(|v| v / 127.5 - 1.0),
        ),
        (
            &[("Sub", &[&[127.5]]), ("Div", &[&[127.5]])],
            v.map(|v| v / 127.5 - 1.0),
        ),
        (&[("Mul", &[&[1.0 / 255.0]])], v.map(|v| v / 255.0)),
        (
            &[
                ("Div", &[&[255.0]]),
                ("Sub", &IMAGENET[..1]),
                ("Div", &IMAGENET[1..]),
            ],
            imagenet,
        ),
        (
            &[("Sub", &blue_first[..1]), ("Div", &blue_first[1..])],
            [imagenet[2], imagenet[1], imagenet[0]],
        ),
        (
            &[("BatchNormalization", &statistics)],
            [norm(0), norm(1), norm(2)],
        ),
        // as a batch normalisation, but with the numbers of the set
        (&[("BatchNormalization", &known)], imagenet),
    ];
    for (operators, right) in of {
        let (had, notes) = calibrated(&folder, &means(3, operators), "");
        assert!(notes.contains("normalises pixels itself"), "{notes}");
        near(&had, right);
    }
    // what is said besides is done, and warned of
    let own: &[Operator<'_>] = &[("Sub", &IMAGENET[..1]), ("Div", &IMAGENET[1..])];
    let (_, notes) = calibrated(&folder, &means(3, own), "--normalization imagenet");
    assert!(
        notes.contains("warning") && notes.contains("of its own"),
        "{notes}"
    );
    let (_, notes) = calibrated(&folder, &means(3, own), "--normalization none");
    assert!(!notes.contains("warning"), "{notes}");
    // statistics of v/255 could be of others, scales alone say nothing
    let unsure: [&[f32]; 4] = [&[1.0; 3], &[0.0; 3], &[0.45; 3], &[0.06; 3]];
    let others: [&[Operator<'_>]; 4] = [
        &[("BatchNormalization", &unsure)],
        &[("Mul", &[&[2.0]])],
        &[("Add", &[&[0.5]])],
        &[("Sub", &[&[0.0]])],
    ];
    for operators in others {
        let net = folder.file("unsure.onnx", &means(3, operators));
        let data = pictures(&folder);
        refused(
            &format!("calibrate {net} --data {data} -o {}", folder.path("u.pvm")),
            &[],
            &["--normalization"],
        );
    }
}

/// Numbers of 64 bits as numpy saves them.
fn array(dims: &[usize], values: &[f64]) -> Vec<u8> {
    polyveil::data::array_bytes(dims, values)
}

#[test]
fn signals_are_numbers_and_go_all_the_way() {
    let folder = Folder::new("signals");
    let path = |name: &str| folder.path(name);
    let net = folder.file("net.onnx", &means_of(&[1, 2, 3], &[]));
    let values: Vec<f64> = (0..24).map(|i| f64::from(i % 7) - 2.0).collect();
    let x = folder.file("x.npy", &array(&[4, 2, 3], &values));
    let (pvm, plan, answer) = (path("net.pvm"), path("net.plan"), path("x.answer"));
    let calibrate = format!("calibrate {net} --data {x} -o {pvm} --force");
    refused(&calibrate, &[], &["--normalization none|measured"]);
    let wrong = folder.file("wrong.npy", &array(&[4, 3, 2], &values));
    refused(
        &format!("calibrate {net} --data {wrong} --normalization none -o {pvm}"),
        &[],
        &["wrong.npy", "[4, 3, 2]", "(2, 1, 3)", "transpose"],
    );
    let (_, notes) = done(&format!("{calibrate} --normalization none"), &[]);
    let says = "inputs are 6 numbers of shape (2, 3), as they are";
    assert!(notes.contains(says), "{notes}");
    for (options, line) in [
        ("--normalization measured", "channel 1            (v − "),
        (
            "--mean 1,-2 --deviation 4",
            "channel 1            (v − -2)/4",
        ),
    ] {
        done(&format!("{calibrate} {options}"), &[]);
        let (said, _) = done(&format!("inspect {pvm}"), &[]);
        assert!(said.contains(line), "{said}");
    }
    // three channels of two values, or three time steps of two channels
    let last = folder.file("last.onnx", &means_of(&[1, 3, 2], &[]));
    let calibrated = |net: &str, x: &str| {
        let calibrate = format!("calibrate {net} --data {x} --normalization measured");
        done(&format!("{calibrate} -o {} --force", path("last.pvm")), &[]).1
    };
    let warned = "for each of 3 channels, over 2 values";
    let notes = calibrated(&last, &wrong);
    assert!(notes.contains(warned), "{notes}");
    assert!(!calibrated(&net, &x).contains("warning"));
    // answers of an array are arrays of their own, which nothing replaces
    let y = folder.file("y.npy", &array(&[4, 2], &[0.5; 8]));
    let force = format!("calibrate {net} --data {x} --value-columns {y} --normalization none");
    refused(&format!("{force} -o {y} --force"), &[], &["y.npy", "needs"]);
    let means = |i: usize, c: usize| {
        let all = &values[i * 6 + c * 3..][..3];
        let mean = all.iter().sum::<f64>() / 3.0;
        [(mean - 1.0) / 4.0, (mean + 2.0) / 4.0][c]
    };
    done(
        &format!("compile {pvm} -o {plan} --machine shipped --no-probe"),
        &[],
    );
    let (client, keys) = (path("net.client"), path("keys"));
    done(&format!("keygen {client} -o {keys}"), &[]);
    // as an array, and as a table whose columns are one channel behind the other
    let rows: Vec<String> = values[6..12].iter().map(f64::to_string).collect();
    let table = folder.file("x.csv", rows.join(",").as_bytes());
    for (data, index) in [(&x, 1), (&table, 0)] {
        let (key, input) = (path("keys/client.key"), path("x.input"));
        done(
            &format!("encrypt --key {key} --data {data} --index {index} -o {input}"),
            &[],
        );
        done(
            &format!("run --plan {plan} --keys {keys}/evaluation.keys --input {input} -o {answer}"),
            &[],
        );
        let npy = path("y.npy");
        let decrypt = format!("decrypt --key {key} {answer} --npy {npy}");
        done(&format!("{decrypt} --force"), &[]);
        // what may be somebody's data stays
        refused(&decrypt, &[], &["y.npy", "--force"]);
        let (dims, had) = polyveil::data::read_numbers(Path::new(&npy), 1 << 10).expect("reads");
        assert_eq!(dims, [1, 2]);
        let off = (0..2).map(|c| (had[c] - means(1, c)).abs());
        assert!(off.fold(0.0, f64::max) < 1e-3, "{had:?}");
    }
}

#[test]
fn six_channels_go_all_the_way() {
    let folder = Folder::new("six");
    let path = |name: &str| folder.path(name);
    let offset: &[f32] = &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0];
    let net = folder.file("net.onnx", &means_of(&[1, 6, 8, 8], &[("Sub", &[offset])]));
    let values: Vec<f64> = (0..4 * 384).map(|i| f64::from(i * 5 % 13) / 6.0).collect();
    let x = folder.file("x.npy", &array(&[4, 6, 8, 8], &values));
    let (pvm, plan, answer) = (path("net.pvm"), path("net.plan"), path("x.answer"));
    let calibrate = format!("calibrate {net} --data {x} -o {pvm} --force");
    refused(&calibrate, &[], &["--normalization none|measured"]);
    // a picture file has no six channels
    let data = pictures(&folder);
    refused(
        &format!("calibrate {net} --data {data} --normalization none -o {pvm}"),
        &[],
        &["one.png", "(6, 8, 8)", "no picture with 1 or 3 channels"],
    );
    let (_, notes) = done(&format!("{calibrate} --normalization none"), &[]);
    let says = "inputs are 384 numbers of shape (6, 8, 8), as they are";
    assert!(notes.contains(says), "{notes}");
    done(
        &format!("compile {pvm} -o {plan} --machine shipped --no-probe"),
        &[],
    );
    let (client, keys, input) = (path("net.client"), path("keys"), path("x.input"));
    done(&format!("keygen {client} -o {keys}"), &[]);
    let key = path("keys/client.key");
    done(
        &format!("encrypt --key {key} --data {x} --index 2 -o {input}"),
        &[],
    );
    done(
        &format!("run --plan {plan} --keys {keys}/evaluation.keys --input {input} -o {answer}"),
        &[],
    );
    let npy = path("y.npy");
    done(&format!("decrypt --key {key} {answer} --npy {npy}"), &[]);
    let (dims, had) = polyveil::data::read_numbers(Path::new(&npy), 1 << 10).expect("reads");
    assert_eq!(dims, [1, 6]);
    for (c, had) in had.iter().enumerate() {
        let all = &values[2 * 384 + c * 64..][..64];
        let mean = all.iter().sum::<f64>() / 64.0 - f64::from(offset[c]);
        assert!((had - mean).abs() < 1e-3, "channel {c}: {had}, not {mean}");
    }
}

#[test]
fn sizes_transparency_and_damage_are_named() {
    let folder = Folder::new("pictures");
    let net = folder.file("net.onnx", &means(3, &[]));
    let calibrate = |data: &str| {
        format!(
            "calibrate {net} --data {data} --normalization none -o {}",
            folder.path("net.pvm")
        )
    };
    let wide = RgbImage::from_fn(16, 12, |x, y| Rgb([(x * 9) as u8, (y * 9) as u8, 7]));
    let wide = folder.file("wide.png", &encoded(&wide.into(), ImageFormat::Png));
    refused(&calibrate(&wide), &[], &["wide.png", "16×12", "--resize"]);
    done(&format!("{} --resize", calibrate(&wide)), &[]);
    let clear = RgbaImage::from_fn(8, 8, |x, y| {
        image::Rgba([(x * 9) as u8, (y * 9) as u8, 7, 100])
    });
    let clear = folder.file("clear.png", &encoded(&clear.into(), ImageFormat::Png));
    let (_, notes) = done(&calibrate(&clear), &[]);
    assert!(
        notes.contains("clear.png") && notes.contains("transparen"),
        "{notes}"
    );
    let jpeg = RgbImage::from_fn(8, 8, |x, y| {
        Rgb([(x * 29) as u8, (y * 31) as u8, (x * y) as u8])
    });
    let jpeg = encoded(&jpeg.into(), ImageFormat::Jpeg);
    let cut = folder.file("cut.jpg", &jpeg[..jpeg.len() * 9 / 10]);
    refused(&calibrate(&cut), &[], &["cut.jpg", "truncated"]);
}

#[test]
fn sets_have_the_networks_channels_and_its_classes() {
    let folder = Folder::new("sets");
    let noise = |seed: u32| {
        RgbImage::from_fn(8, 8, |x, y| {
            let v = |c: u32| (x * 29 + y * 31 + c * seed) as u8;
            Rgb([v(1), v(2), v(3)])
        })
    };
    for (seed, name) in (1..).zip([
        "grey/one/a",
        "grey/two/a",
        "all/cow/a",
        "all/ant/a",
        "all/zebra/a",
    ]) {
        let path = folder.path(name);
        std::fs::create_dir_all(Path::new(&path).with_file_name("")).expect("a folder");
        let picture = DynamicImage::from(noise(seed));
        let picture: DynamicImage = match name.starts_with("grey") {
            true => picture.to_luma8().into(),
            false => picture,
        };
        folder.file(&format!("{name}.png"), &encoded(&picture, ImageFormat::Png));
    }
    let calibrate = |channels: i64, data: &str, more: &str| {
        let net = folder.file("net.onnx", &means(channels, &[]));
        let (data, out) = (folder.path(data), folder.path("net.pvm"));
        format!("calibrate {net} --data {data} --normalization none {more} -o {out} --force")
    };
    let (_, notes) = done(&calibrate(1, "grey", ""), &[]);
    assert!(!notes.contains("turned grey"), "{notes}");
    let (_, notes) = done(&calibrate(1, "all", ""), &[]);
    assert!(
        notes.contains("3 pictures of") && notes.contains("turned grey"),
        "{notes}"
    );
    let (_, notes) = done(&calibrate(3, "all", ""), &[]);
    assert!(
        notes.contains("output 0 = ant, 1 = cow, 2 = zebra (alphabetical"),
        "{notes}"
    );
    done(&calibrate(3, "all", "--labels zebra,ant,cow"), &[]);
    refused(
        &calibrate(3, "all", "--labels lion,ant,cow"),
        &[],
        &["ant, cow, zebra", "lion, ant, cow"],
    );
}

#[test]
fn the_client_sees_how_pixels_become_inputs() {
    let folder = Folder::new("client");
    let caffe = "--mean 103.939,116.779,123.68 --range 0..255 --channels bgr";
    calibrated(&folder, &means(3, &[]), caffe);
    let graph =
        nn::format::artefact::load(Path::new(&folder.path("net.pvm")), 1 << 20).expect("reads");
    let target = compiler::Target {
        parameters: Some(ckks::ParametersSpec::toy_levelled(9, 6)),
        ..compiler::Target::default()
    };
    let plan = compiler::compile(&graph, &target).expect("compiles");
    let client = plan.client_file(graph.metadata().task.clone().expect("a task"));
    let client = client
        .expect("its task")
        .write(Vec::new(), "x")
        .expect("writes");
    let client = folder.file("net.client", &client);
    let keys = folder.path("keys");
    done(&format!("keygen {client} -o {keys} --insecure-toy"), &[]);
    for file in [client, format!("{keys}/client.key")] {
        let (said, _) = done(&format!("inspect {file}"), &[]);
        assert!(
            said.contains("pixels       v − [103.939, 116.779, 123.68], channels blue, green, red"),
            "{said}"
        );
    }
    let plan_file = plan.plan().write(Vec::new(), "x").expect("writes");
    let plan_file = folder.file("net.plan", &plan_file);
    // what is encrypted is warned of, too
    let clear = RgbaImage::from_pixel(8, 8, image::Rgba([9, 9, 7, 100]));
    let clear = folder.file("clear.png", &encoded(&clear.into(), ImageFormat::Png));
    let encrypt = format!(
        "encrypt --key {keys}/client.key --image {clear} -o {}",
        folder.path("x.input")
    );
    let (_, notes) = done(&encrypt, &[]);
    assert!(
        notes.contains("clear.png") && notes.contains("transparen"),
        "{notes}"
    );
    // and what is evaluated
    let evaluate = format!(
        "evaluate --model {} --plan {plan_file} --data {clear} --no-probe -o {}",
        folder.path("net.pvm"),
        folder.path("results.jsonl")
    );
    let (_, notes) = done(&evaluate, &[]);
    assert!(notes.contains("picture 0 is partly transparent"), "{notes}");
}
