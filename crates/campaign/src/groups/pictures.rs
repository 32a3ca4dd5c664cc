//! Pictures, rows and prompts: what reaches the network is what the file says, or it is refused.

use crate::attempt::{AT_MOST, Start, Try};
use crate::case::{Case, case, repeat, server_line};
use crate::fault::{Fault, Kind, Verdict};
use crate::foreign::{self, raw_png};
use crate::lab::{EMBEDDED, Lab, PIXELS, SIDE, side};
use image::{ColorType, ImageFormat};

groups! {
    beside "picture-kinds" 16 kinds "kinds of PNG and JPEG, compared with their pixels through encryption";
    beside "jpeg-cuts" 8 cuts "JPEGs and PNGs cut anywhere: refused";
    beside "resize" 4 resize "`--resize` of odd sizes";
    beside "wrong-data" 20 wrong_data "data that does not fit: refused with its name";
    beside "prompts" 16 prompts "prompts and texts for a network that takes them, and for one that does not";
    beside "values" 12 values "pictures within the intervals, through files: the clear network's answer";
    beside "outside" 10 outside "pictures outside of the intervals, through files: right, or said";
    alone "outside-embedded" 0 outside_embedded "the same with the demonstration's network and keys that protect";
    beside "outside-owner" 4 outside_owner "the same through `evaluate` and `demo`: left out or refused";
    beside "outside-check" 4 outside_check "the same through `run --check`: never called good";
}

/// Encrypts a picture, runs the identity on it, and gives what arrived as bytes (None: refused).
fn through(t: &mut Try<'_>, file: &str, more: &str) -> Verdict<Option<Vec<f64>>> {
    let line = format!("encrypt --key @id/A/client.key --image {file} -o x.input {more}");
    let done = t.polyveil(&line)?;
    if done.code != Some(0) {
        done.refused(&[])?;
        return Ok(None);
    }
    let said = done.stderr;
    t.polyveil(&format!(
        "{} --input x.input -o x.answer",
        server_line("id", "A")
    ))?
    .ok()?;
    let json = t
        .polyveil("decrypt --key @id/A/client.key x.answer --json")?
        .ok()?
        .json()?;
    let values: Vec<f64> = (json["values"].as_array().into_iter().flatten())
        .filter_map(|v| v["value"].as_f64())
        .collect();
    Kind::Other.unless(values.len() == PIXELS, format!("{} values", values.len()))?;
    // back from what networks take (channel by channel) to bytes (pixel by pixel)
    let unit = |byte: u8| t.lab.net("id").encode(&[byte; PIXELS]).values().to_vec();
    let (zero, full) = (unit(0), unit(255));
    let plane = SIDE * SIDE;
    let bytes = (0..PIXELS).map(|i| {
        let at = i % 3 * plane + i / 3;
        255.0 * (values[at] - zero[at]) / (full[at] - zero[at])
    });
    let bytes = bytes.collect();
    // what was said goes along, for tries that need a word
    t.said.push(format!("# {}", said.replace('\n', " ")));
    Ok(Some(bytes))
}

fn near(had: &[f64], right: &[u8], most: f64) -> Verdict {
    let off = (had.iter().zip(right)).map(|(h, r)| (h - f64::from(*r)).abs());
    let off = off.fold(0.0, f64::max);
    Kind::Silent.unless(off <= most, format!("pixels off by {off:.1} of 255"))
}

type Made = (Vec<u8>, Vec<u8>, f64);

/// The picture of a number, 8 × 8.
fn colours(n: usize) -> Vec<u8> {
    (0..PIXELS)
        .map(|i| ((i * 37 + n * 11) % 256) as u8)
        .collect()
}

fn write(pixels: &[u8], colour: ColorType, format: ImageFormat) -> Vec<u8> {
    let mut out = std::io::Cursor::new(Vec::new());
    image::write_buffer_with_format(&mut out, pixels, SIDE as u32, SIDE as u32, colour, format)
        .expect("a picture");
    out.into_inner()
}

/// Lines of a PNG, each after its filter's number (none).
fn lines(bytes: &[u8], each: usize) -> Vec<u8> {
    bytes
        .chunks(each)
        .flat_map(|l| [&[0], l].concat())
        .collect()
}

fn grey(bytes: impl Iterator<Item = u8>) -> Vec<u8> {
    bytes.flat_map(|v| [v; 3]).collect()
}

/// File, pixels, and how far off they may be; by number of a kind.
fn made(kind: usize, n: usize) -> Option<(&'static str, Made)> {
    let rgb = colours(n);
    let one: Vec<u8> = (0..SIDE * SIDE)
        .map(|i| ((i * 4 + n) % 256) as u8)
        .collect();
    let smooth: Vec<u8> = (0..PIXELS)
        .map(|i| 90 + (i / 3 % SIDE * 6 + i / 24 * 4 + i % 3 * 8 + n) as u8)
        .collect();
    let png = |bytes: &[u8], colour| write(bytes, colour, ImageFormat::Png);
    let raw = |format, bytes: &[u8], each, before: &[(&[u8; 4], Vec<u8>)]| {
        raw_png(
            (SIDE as u32, SIDE as u32),
            format,
            &lines(bytes, each),
            before,
        )
    };
    let wide = |narrow: &[u8]| -> Vec<u8> {
        let wide = narrow.iter().map(|&v| u16::from_be_bytes([v, v]));
        wide.flat_map(u16::to_ne_bytes).collect()
    };
    let (name, bytes, right, most) = match kind {
        0 => ("rgb8", foreign::png(SIDE, SIDE, &rgb), rgb, 1.0),
        1 => (
            "grey8",
            png(&one, ColorType::L8),
            grey(one.into_iter()),
            1.0,
        ),
        2 => {
            let bytes = png(&wide(&one), ColorType::L16);
            ("grey16", bytes, grey(one.into_iter()), 1.0)
        }
        3 => ("rgb16", png(&wide(&rgb), ColorType::Rgb16), rgb, 1.0),
        4 => {
            let opaque: Vec<u8> = rgb.chunks(3).flat_map(|p| [p, &[255]].concat()).collect();
            ("rgba8 opaque", png(&opaque, ColorType::Rgba8), rgb, 1.0)
        }
        5..=7 => {
            let (depth, name) = [(1, "1 bit"), (2, "2 bits"), (4, "4 bits")][kind - 5];
            let bits: Vec<u8> = (0..depth * SIDE).map(|y| (y * 29 + n) as u8).collect();
            let most = (1u8 << depth) - 1;
            let level = |at: usize| bits[at / 8] >> (8 - depth - at % 8) & most;
            let right = grey((0..SIDE * SIDE).map(|i| level(i * depth) * (255 / most)));
            (name, raw((depth as u8, 0), &bits, depth, &[]), right, 1.0)
        }
        8 => {
            let palette: Vec<u8> = (0..192).map(|i| (i * 5 + n) as u8).collect();
            let indices: Vec<u8> = (0..64).map(|i| (i * 7 % 64) as u8).collect();
            let right = indices
                .iter()
                .flat_map(|&i| palette[3 * usize::from(i)..][..3].to_vec())
                .collect();
            let bytes = raw((8, 3), &indices, SIDE, &[(b"PLTE", palette)]);
            ("palette", bytes, right, 1.0)
        }
        // chunks that do not change bytes
        9 => {
            let gamma = (b"gAMA", 45455u32.to_be_bytes().to_vec());
            ("gamma", raw((8, 2), &rgb, 3 * SIDE, &[gamma]), rgb, 1.0)
        }
        10 => {
            let text = (b"tEXt", b"Comment\0\x1b[31mhello".to_vec());
            ("text chunk", raw((8, 2), &rgb, 3 * SIDE, &[text]), rgb, 1.0)
        }
        11 => {
            let level = 90 + n as u8;
            let bytes = write(&[level; 64], ColorType::L8, ImageFormat::Jpeg);
            ("jpeg grey", bytes, vec![level; PIXELS], 3.0)
        }
        12 => ("jpeg", foreign::jpeg(SIDE, SIDE, &smooth), smooth, 24.0),
        13 => {
            let flat = [60 + n as u8, 120, 180].repeat(64);
            ("jpeg flat", foreign::jpeg(SIDE, SIDE, &flat), flat, 4.0)
        }
        14..=21 => {
            // turned as cameras say: an upper half that is dark, and a left half that is reddish
            let orientation = (kind - 13) as u8;
            let pixel = |x: usize, y: usize| {
                [
                    if x < 4 { 200u8 } else { 60 },
                    if y < 4 { 40 } else { 190 },
                    110,
                ]
            };
            let stored: Vec<u8> = (0..64).flat_map(|i| pixel(i % 8, i / 8)).collect();
            let shown: Vec<u8> = (0..64)
                .flat_map(|i| {
                    let (x, y) = (i % 8, i / 8);
                    let (x, y) = match orientation {
                        1 => (x, y),
                        2 => (7 - x, y),
                        3 => (7 - x, 7 - y),
                        4 => (x, 7 - y),
                        5 => (y, x),
                        6 => (y, 7 - x),
                        7 => (7 - y, 7 - x),
                        _ => (7 - y, x),
                    };
                    pixel(x, y)
                })
                .collect();
            let bytes = foreign::turned(&foreign::jpeg(SIDE, SIDE, &stored), orientation);
            ("turned", bytes, shown, 60.0)
        }
        _ => return None,
    };
    Some((name, (bytes, right, most)))
}

fn kinds(_: &Lab) -> Vec<Case> {
    let mut all = Vec::new();
    for n in 0..6 {
        for kind in 0..22 {
            let Some((name, _)) = made(kind, n) else {
                continue;
            };
            all.push(case(format!("{name} {kind} {n}"), move |t| {
                let Some((_, (bytes, right, most))) = made(kind, n) else {
                    return Ok(());
                };
                // by the name's ending it is known as a picture; which kind, its bytes say
                t.file("picture.png", &bytes)?;
                match through(t, "picture.png", "")? {
                    None => Err(Fault::other("a picture is refused")),
                    Some(had) => near(&had, &right, most),
                }
            }));
        }
    }
    // of one colour, by hand: progressive, and four inks, which may be refused
    for n in 0..8u8 {
        for progressive in [false, true] {
            all.push(case(format!("jpeg by hand {progressive} {n}"), move |t| {
                let (y, cb, cr) = (70 + 12 * n, 118 + 3 * n, 138 - 2 * n);
                let (b, r) = (f64::from(cb) - 128.0, f64::from(cr) - 128.0);
                let rgb = [1.402 * r, -0.344_14 * b - 0.714_14 * r, 1.772 * b];
                let rgb = rgb.map(|c| (f64::from(y) + c).round().clamp(0.0, 255.0) as u8);
                t.file(
                    "picture.jpg",
                    &foreign::flat_jpeg(&[y, cb, cr], progressive),
                )?;
                match through(t, "picture.jpg", "")? {
                    None => Err(Fault::other("a picture is refused")),
                    Some(had) => near(&had, &rgb.repeat(64), 2.5),
                }
            }));
            all.push(case(format!("four inks {progressive} {n}"), move |t| {
                let inks = [40 + 20 * n, 250 - 25 * n, 128, 255 - 16 * n];
                let shown = |ink: u8| (u32::from(ink) * u32::from(inks[3]) / 255) as u8;
                let rgb = [shown(inks[0]), shown(inks[1]), shown(inks[2])];
                t.file("picture.jpg", &foreign::flat_jpeg(&inks, progressive))?;
                match through(t, "picture.jpg", "")? {
                    None => Ok(()),
                    Some(had) => near(&had, &rgb.repeat(64), 3.0),
                }
            }));
        }
    }
    // alpha is dropped: with a word
    for alpha in [0u8, 1, 128, 254] {
        for colour in ["rgba", "grey", "palette"] {
            all.push(case(format!("alpha {alpha} {colour}"), move |t| {
                let bytes = match colour {
                    "rgba" => write(
                        &[200, 100, 50, alpha].repeat(64),
                        ColorType::Rgba8,
                        ImageFormat::Png,
                    ),
                    "grey" => write(&[200, alpha].repeat(64), ColorType::La8, ImageFormat::Png),
                    _ => {
                        let before: [(&[u8; 4], Vec<u8>); 2] =
                            [(b"PLTE", vec![200, 100, 50]), (b"tRNS", vec![alpha])];
                        raw_png((8, 8), (8, 3), &lines(&[0; 64], SIDE), &before)
                    }
                };
                t.file("picture.png", &bytes)?;
                if through(t, "picture.png", "")?.is_some() {
                    let said = t.said.last().map(|s| s.to_lowercase()).unwrap_or_default();
                    if !["alpha", "transparen"].iter().any(|w| said.contains(w)) {
                        return Err(Fault::new(
                            Kind::Silent,
                            "transparency is dropped without a word",
                        ));
                    }
                }
                Ok(())
            }));
        }
    }
    // no pictures at all, or of another size
    type Made = fn() -> Vec<u8>;
    let foreign: [(&str, Made); 10] = [
        ("gif", || {
            b"GIF89a\x08\0\x08\0\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\x08\0\x08\0\0\x02\x01\x84\0;"
                .to_vec()
        }),
        ("bmp", || [b"BM", &[0; 52][..]].concat()),
        ("tiff", || b"II*\0\x08\0\0\0\0\0".to_vec()),
        ("webp", || {
            b"RIFF\x1a\0\0\0WEBPVP8L\x0d\0\0\0/\x07\xc0\x01\0\0\0\0\0\0\0\0".to_vec()
        }),
        ("svg", || {
            b"<svg xmlns='http://www.w3.org/2000/svg' width='8' height='8'/>".to_vec()
        }),
        ("pdf", || b"%PDF-1.4\n".to_vec()),
        ("empty", Vec::new),
        ("text", || b"a picture".to_vec()),
        ("1 x 1", || foreign::png(1, 1, &[1, 2, 3])),
        ("9 x 8", || foreign::png(9, 8, &[7; 216])),
    ];
    for (name, bytes) in foreign {
        all.push(case(format!("refused: {name}"), move |t| {
            t.file("picture.png", &bytes())?;
            let line = "encrypt --key @id/A/client.key --image picture.png -o x.input";
            t.polyveil(line)?.refused(&["picture.png"])?;
            t.leftovers(".", &["picture.png"])
        }));
    }
    all
}

fn cuts(_: &Lab) -> Vec<Case> {
    let mut all = Vec::new();
    for percent in [1, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 99, 100] {
        for (name, side) in [("jpg", 320usize), ("jpg", 160), ("jpg", 8), ("png", 160)] {
            all.push(case(format!("{name} {side} {percent} %"), move |t| {
                let pixels: Vec<u8> = (0..3 * side * side)
                    .map(|_| t.random.next() as u8)
                    .collect();
                let bytes = match name {
                    "jpg" => foreign::jpeg(side, side, &pixels),
                    _ => foreign::png(side, side, &pixels),
                };
                let mut cut = bytes[..bytes.len() * percent / 100].to_vec();
                // its end is put behind what is left of it, half of the times
                if name == "jpg" && (1..100).contains(&percent) && t.random.below(2) == 0 {
                    while cut.last() == Some(&0xff) {
                        cut.pop();
                    }
                    cut.extend([0xff, 0xd9]);
                }
                t.file("cut.jpg", &cut)?;
                let line = "encrypt --key @id/A/client.key --image cut.jpg --resize -o x.input";
                let done = t.polyveil(line)?;
                match (percent, done.code) {
                    (100, _) => done.ok().map(drop),
                    (_, Some(0)) => Err(Fault::new(Kind::Silent, "a cut picture is accepted")),
                    _ => done.refused(&["cut.jpg"]).map(drop),
                }
            }));
        }
    }
    // a progressive one that lacks its last scans
    for n in 0..8u8 {
        for scans in 1..=4 {
            all.push(case(format!("progressive {n}, {scans} scans"), move |t| {
                let whole = foreign::flat_jpeg(&[60 + 16 * n, 120, 140], true);
                let begins = |at: &usize| whole[*at..].starts_with(&[0xff, 0xda]);
                let next = (0..whole.len()).filter(begins).nth(scans);
                let bytes = match next {
                    Some(next) => [&whole[..next], &[0xff, 0xd9]].concat(),
                    None => whole,
                };
                t.file("cut.jpg", &bytes)?;
                let line = "encrypt --key @id/A/client.key --image cut.jpg -o x.input";
                let done = t.polyveil(line)?;
                match (next, done.code) {
                    (None, _) => done.ok().map(drop),
                    (_, Some(0)) => Err(Fault::new(Kind::Silent, "a cut picture is accepted")),
                    _ => done.refused(&["cut.jpg", "missing"]).map(drop),
                }
            }));
        }
    }
    all
}

fn resize(_: &Lab) -> Vec<Case> {
    let sizes: [(usize, usize); 12] = table![
        (1, 1); (1, 3000); (3000, 1); (160, 160); (8, 8); (7, 9); (2, 5000); (13_000, 13_000); (16_384, 2); (16_385, 2); (20_000, 20_000); (100, 3)
    ];
    (sizes.into_iter())
        .map(|(width, height)| {
            case(format!("{width} x {height}"), move |t| {
                let mut lines = vec![0x55; height * (1 + width.div_ceil(8))];
                // filters are none
                lines
                    .iter_mut()
                    .step_by(1 + width.div_ceil(8))
                    .for_each(|f| *f = 0);
                let bytes = raw_png((width as u32, height as u32), (1, 0), &lines, &[]);
                t.file("picture.png", &bytes)?;
                let line = "encrypt --key @id/A/client.key --image picture.png --resize -o x.input";
                let done = t.polyveil(line)?;
                match width.max(height) > 16_384 {
                    true => done.refused(&["picture.png"]).map(drop),
                    false => done.either().map(drop),
                }
            })
        })
        .collect()
}

fn wrong_data(_: &Lab) -> Vec<Case> {
    let e = "encrypt --key @lev/A/client.key -o x.input";
    let c = "calibrate @lev/trained.pvm -o x.pvm";
    let lines = [
        format!("{e} --data @pictures.npz --index 0"),
        format!("{e} --data small.npz --split validation --index 0"),
        format!("{e} --data @pictures.npz --split test --index 80"),
        format!("{e} --data @pictures.npz --split test --index 18446744073709551615"),
        format!("{e} --data @pictures.npz --split test"),
        format!("{e} --data @rows.csv --index 0"),
        format!("{e} --data missing.npz --index 0"),
        format!("{e} --data cifar.bin --index 0"),
        format!("{e} --data two.npz --split test --index 0"),
        format!("{e} --data small.npz --split test --index 0"),
        format!("{e} --data odd.bin --index 0"),
        format!("{e} --image @0.png --image @1.png"),
        format!("{e} --image grey.png --image missing.png"),
        format!("{e} --image large.png"),
        format!("{e} --text hello"),
        format!("{e} --data empty --index 0"),
        format!("{e} --data text.txt --index 0"),
        format!("{e} --image @pictures.npz"),
        format!("{c} --data @rows.csv --degree 4"),
        format!("{c} --data large.png --degree 4"),
        format!("{c} --data missing --degree 4"),
        format!("{c} --data cifar.bin --degree 4"),
        format!("{c} --data text.txt --degree 4"),
        format!("{c} --data empty --degree 4"),
        format!("{c} --text text.txt"),
        format!("{c} --tokens text.txt"),
        format!("{c} --sentences text.txt"),
        format!("{c} --data @pictures.npz --degree 100000"),
        format!("{c} --data @pictures.npz --margin nan"),
        format!("{c} --data @pictures.npz --margin -1"),
        format!("{c} --data @pictures.npz --limit 0"),
        format!("{c} --data @pictures.npz --labels a,b"),
        "calibrate @toy.onnx --data @pictures.npz -o x.pvm".into(),
        "calibrate @toy.onnx --data bad.csv -o x.pvm".into(),
        "calibrate @toy.onnx --data @rows.csv --class-column none -o x.pvm".into(),
        "calibrate @toy.onnx --data @rows.csv --without a --class-column label -o x.pvm".into(),
        "calibrate nan.onnx --data @rows.csv --class-column label -o x.pvm".into(),
    ];
    (lines.into_iter())
        .map(|line| {
            case(line.clone(), move |t| {
                t.file("cifar.bin", &foreign::cifar(2))?;
                t.file("odd.bin", &foreign::cifar(2)[..3000])?;
                t.file("text.txt", b"once upon a time")?;
                t.file("bad.csv", b"a,b,c,d\n1,2,three,4\n")?;
                t.file("large.png", &foreign::png(16, 16, &[9; 768]))?;
                t.file(
                    "grey.png",
                    &write(&[9; 64], ColorType::L8, ImageFormat::Png),
                )?;
                t.file(
                    "two.npz",
                    &foreign::npz(&[
                        ("test_images", &[2, 8, 8, 2], &[7; 256]),
                        ("test_labels", &[2], &[0, 1]),
                    ]),
                )?;
                t.file(
                    "small.npz",
                    &foreign::npz(&[
                        ("test_images", &[2, 4, 4, 3], &[7; 96]),
                        ("test_labels", &[2], &[0, 1]),
                    ]),
                )?;
                let mut onnx = foreign::onnx(4, 6, 3);
                let at = onnx.len() - 60;
                onnx[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
                t.file("nan.onnx", &onnx)?;
                t.folder("empty")?;
                t.polyveil(&line)?.turned_down()?;
                let known = [
                    "cifar.bin",
                    "odd.bin",
                    "text.txt",
                    "bad.csv",
                    "large.png",
                    "grey.png",
                    "two.npz",
                    "small.npz",
                    "nan.onnx",
                    "empty",
                ];
                t.leftovers(".", &known)
            })
        })
        .collect()
}

fn prompts(_: &Lab) -> Vec<Case> {
    let texts: Vec<Vec<u8>> = vec![
        b"".to_vec(),
        b" ".to_vec(),
        b"a".to_vec(),
        b"ab cd".to_vec(),
        b"abcdabcd".to_vec(),
        b"a b c d a b c d a b c d a b c d".to_vec(),
        "\u{1f600}".as_bytes().to_vec(),
        "e\u{301}".as_bytes().to_vec(),
        b"\x01\x02\x03".to_vec(),
        b"\x1b[31m".to_vec(),
        b"\xff\xfe".to_vec(),
        b"a\xc3".to_vec(),
        b"\n\n".to_vec(),
        b"\t".to_vec(),
        b"<s>".to_vec(),
        b"</s>".to_vec(),
        b"<unk>".to_vec(),
        b"--help".to_vec(),
        b"-".to_vec(),
        b"'; rm -rf x".to_vec(),
        "a".repeat(100_000).into_bytes(),
        "\u{200d}".repeat(50).into_bytes(),
        b"A".to_vec(),
        b"1234567890".to_vec(),
        b"%s%s%s".to_vec(),
        "\u{202e}abc".as_bytes().to_vec(),
        b"ab".to_vec(),
        b"d c b a".to_vec(),
        b"  a  ".to_vec(),
        b"a\rb".to_vec(),
    ];
    let mut all = Vec::new();
    for net in ["lm", "lev"] {
        for (i, text) in texts.iter().enumerate() {
            let text = text.clone();
            all.push(case(format!("{net} prompt {i}"), move |t| {
                let made = net != "lm" || t.exists("@lm/A/client.key");
                Kind::Skipped.unless(made, "no language model could be made")?;
                let key = t.path(&format!("@{net}/A/client.key")).into_os_string();
                let words = [
                    "encrypt".into(),
                    "--key".into(),
                    key,
                    "-o".into(),
                    "x.input".into(),
                ];
                // a text that begins with a dash needs the sign of equality
                let mut last = std::ffi::OsString::from("--text=");
                last.push(crate::attempt::raw(&text));
                let words: Vec<_> = words.into_iter().chain([last]).collect();
                let program = t.lab.polyveil.clone();
                let done = t.spawn(&program, &words, &Default::default())?.end()?;
                if net == "lev" {
                    return done.turned_down().map(drop);
                }
                match done.code {
                    Some(0) => Ok(()),
                    _ => done.turned_down().map(drop),
                }?;
                match t.exists("x.input") {
                    true => t.polyveil("inspect x.input")?.ok().map(drop),
                    false => Ok(()),
                }
            }));
        }
    }
    all
}

/// How far a picture came.
#[derive(PartialEq)]
enum End {
    /// `encrypt` did not take it.
    NoInput,
    /// `decrypt` did not give the answer out.
    NoAnswer,
    /// The clear network's answer.
    Right,
}

/// Encrypts pixels, runs, decrypts: right, or refused.
fn whole(t: &mut Try<'_>, net: &str, pixels: &[u8]) -> Verdict<End> {
    let side = side(pixels);
    t.file("p.png", &foreign::png(side, side, pixels))?;
    let key = format!("@{net}/A/client.key");
    let done = t.polyveil(&format!("encrypt --key {key} --image p.png -o p.input"))?;
    if done.code != Some(0) {
        done.refused(&["p.png"])?;
        return Ok(End::NoInput);
    }
    let threads = if net == EMBEDDED { 2 } else { 1 };
    let server = server_line(net, "A");
    let line = format!("{server} --input p.input -o p.answer --threads {threads}");
    let running = t.start(&line, &[], &Start::default())?;
    running.end_within(AT_MOST)?.ok()?;
    match t.refused_or_right(net, &key, "p.answer", pixels)? {
        true => Ok(End::NoAnswer),
        false => Ok(End::Right),
    }
}

/// A picture of the laboratory's kind that leaves no interval.
fn inside(t: &mut Try<'_>, net: &str) -> Vec<u8> {
    loop {
        let mut pixels = t.lab.pictures[t.random.below(t.lab.pictures.len())].clone();
        for p in &mut pixels {
            *p = (f64::from(*p) + 8.0 * t.random.centred()) as u8;
        }
        if !t.lab.net(net).clear(&pixels).1 {
            return pixels;
        }
    }
}

fn values(_: &Lab) -> Vec<Case> {
    let each = |net: &'static str, count: usize| {
        repeat(count, move |t| {
            let pixels = inside(t, net);
            Kind::Other.unless(
                whole(t, net, &pixels)? == End::Right,
                "what is within all intervals is refused",
            )
        })
    };
    // the cheap ones first, then alternating
    let mut columns = [
        each("lev", 900),
        each("other", 200),
        each("boot", 250),
        each("deep", 150),
    ]
    .map(Vec::into_iter);
    let mut out = Vec::new();
    while columns.iter().any(|c| c.len() > 0) {
        for column in &mut columns {
            out.extend(column.next());
        }
    }
    out
}

/// Square pictures that are not like the training's; kinds 11 and 12 are made of one of these.
fn odd(t: &mut Try<'_>, n: usize, side: usize) -> Vec<u8> {
    let at = |i: usize| (i % 3, i / 3 % side, i / 3 / side);
    let class = t.lab.pictures[n % 8].clone();
    let strength = 40.0 + 215.0 * t.random.uniform();
    (0..3 * side * side)
        .map(|i| {
            let (c, x, y) = at(i);
            let on = |yes: bool| {
                if yes {
                    127.5 + strength / 2.0
                } else {
                    127.5 - strength / 2.0
                }
            };
            (match n % 14 {
                0 => 0.0,
                1 => 255.0,
                2 => on((x + y) % 2 == 0),
                3 => on((x / 2 + y / 2) % 2 == 0),
                4 => on(x % 2 == 0),
                5 => on(y % 4 < 2),
                6 => on(t.random.below(2) == 0),
                7 => 255.0 * t.random.uniform(),
                8 => on(x < 4),
                9 => on(c == 0),
                10 => on(c == 2),
                11 => 255.0 - f64::from(class[i]),
                12 => 127.5 + 3.0 * (f64::from(class[i]) - 127.5),
                _ => on(y < 4),
            }) as u8
        })
        .collect()
}

fn outside(_: &Lab) -> Vec<Case> {
    let mut all = Vec::new();
    for n in 0..42 {
        for net in ["lev", "boot", "deep"] {
            all.push(case(format!("{net} {n}"), move |t| {
                let pixels = odd(t, n, SIDE);
                // a refusal is right for whatever is not like the calibration's pictures
                whole(t, net, &pixels).map(drop)
            }));
        }
    }
    all
}

fn outside_embedded(lab: &Lab) -> Vec<Case> {
    let made = lab.full_size(EMBEDDED).map(drop);
    let each = |n: usize| {
        let made = made.clone();
        case(format!("{n}"), move |t| {
            made.clone()?;
            let mut pixels = odd(t, n, 32);
            if n < 7 {
                // black and white
                pixels
                    .iter_mut()
                    .for_each(|p| *p = if *p > 127 { 255 } else { 0 });
            }
            let (end, outside) = (
                whole(t, EMBEDDED, &pixels)?,
                t.lab.net(EMBEDDED).clear(&pixels).1,
            );
            let text = "what is within all intervals is refused";
            Kind::Other.unless(outside || end == End::Right, text)
        })
    };
    [0, 1, 2, 4, 6, 7].map(each).into()
}

fn outside_owner(_: &Lab) -> Vec<Case> {
    let mut all = Vec::new();
    for n in 0..14 {
        for net in ["lev", "boot"] {
            all.push(case(format!("evaluate {net} {n}"), move |t| {
                let pixels = odd(t, n, SIDE);
                let outside = t.lab.net(net).clear(&pixels).1;
                let npz = foreign::npz(&[("test_images", &[1, SIDE, SIDE, 3], &pixels), ("test_labels", &[1], &[0])]);
                t.file("odd.npz", &npz)?;
                let line = format!(
                    "evaluate --model @{net}/net.pvm --plan @{net}/net.plan --data odd.npz --split test --count 1 --machine shipped --no-probe -o r.jsonl"
                );
                let done = t.polyveil(&line)?;
                if done.code != Some(0) {
                    return done.refused(&[]).map(drop);
                }
                let all = String::from_utf8_lossy(&t.bytes("r.jsonl")?).into_owned();
                match outside && !all.contains("leaves") && !all.contains("outside") && !all.contains("refused") && !all.contains("left") {
                    true => Err(Fault::new(Kind::Silent, format!("outside of an interval, without a word: {all:.200}"))),
                    false => Ok(()),
                }
            }));
        }
    }
    for n in [2, 6] {
        all.push(case(format!("demo {n}"), move |t| {
            let pixels = odd(t, n, SIDE);
            let outside = t.lab.net("lev").clear(&pixels).1;
            t.file("odd.png", &foreign::png(SIDE, SIDE, &pixels))?;
            let done = t.polyveil("demo --model @lev/net.pvm --image odd.png --no-precision --machine shipped --no-probe")?;
            match (outside, done.code) {
                (true, Some(0)) => Err(Fault::new(Kind::Silent, "the demo goes on outside of an interval")),
                (true, _) => done.refused(&["calibrat"]).map(drop),
                (false, _) => done.either().map(drop),
            }
        }));
    }
    all
}

fn outside_check(_: &Lab) -> Vec<Case> {
    let mut all = Vec::new();
    for n in 0..14 {
        for net in ["lev", "boot"] {
            all.push(case(format!("{net} {n}"), move |t| {
                let pixels = odd(t, n, SIDE);
                let outside = t.lab.net(net).clear(&pixels).1;
                t.file("p.png", &foreign::png(SIDE, SIDE, &pixels))?;
                let encrypt = format!("encrypt --key @{net}/A/client.key --image p.png -o p.input");
                let done = t.polyveil(&encrypt)?;
                if done.code != Some(0) {
                    return done.refused(&["p.png"]).map(drop);
                }
                let line = format!(
                    "{} --input p.input -o p.answer --check --key @{net}/A/client.key",
                    server_line(net, "A")
                );
                let done = t.polyveil(&line)?;
                let good = done.code == Some(0)
                    && (done.stderr.contains("every layer stayed")
                        || done.stdout.contains("every layer stayed"));
                done.either()?;
                // whatever its answer is: the plan has the intervals
                match good && outside {
                    true => Err(Fault::new(
                        Kind::Silent,
                        "a value left its interval, and it is called good",
                    )),
                    false => Ok(()),
                }
            }));
        }
    }
    all
}
