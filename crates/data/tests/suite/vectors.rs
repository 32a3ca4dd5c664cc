//! Plain vectors: what is read, and what is refused with its row and column.

use super::{Folder, gzip, npy, zip};
use data::{Answers, Error, Heading, Known, VectorOptions, Vectors};
use std::path::Path;

fn open(path: &Path, answers: Answers) -> data::Result<Vectors> {
    let options = VectorOptions {
        answers,
        ..VectorOptions::default()
    };
    Vectors::open(path, &options)
}

fn says(result: data::Result<Vectors>, words: &[&str]) {
    let line = result.expect_err("is refused").to_string();
    for word in words {
        assert!(line.contains(word), "{word:?} is not in {line:?}");
    }
    assert!(!line.contains('\n'), "{line:?}");
}

fn classes(name: &str) -> Answers {
    Answers::Classes(Some(name.into()))
}

fn floats(values: &[f64], bytes: impl Fn(f64) -> Vec<u8>) -> Vec<u8> {
    values.iter().flat_map(|&v| bytes(v)).collect()
}

#[test]
fn tables() {
    let folder = Folder::new("tables");
    let rows = [[1.5, -2.0], [0.25, 3e-2]];
    let check = |text: &str, label: &str| {
        let set = open(&folder.file("a.csv", text.as_bytes()), classes(label)).unwrap();
        assert_eq!((set.len(), set.width()), (2, 2), "{text:?}");
        for (i, row) in rows.iter().enumerate() {
            assert_eq!(set.values(i), row, "{text:?}");
        }
        assert_eq!(set.classes(), ["cat", "dog"]);
        assert_eq!((set.label(0), set.label(1)), (Some(1), Some(0)));
        set
    };
    let set = check("a,kind,\"b, in m\"\n1.5,dog,-2\n\n0.25,cat,3e-2\n", "kind");
    assert_eq!(set.columns(), ["a", "b, in m"]);
    check(
        "\u{feff}a;kind;b\r\n 1.5 ;\"dog\"; -2 \r\n.25;cat;+0.03",
        "kind",
    );
    check("a\tb\tkind\n1.5\t-2.0\tdog\n0.25\t0.03\tcat\n\n", "kind");
    let quoted = check(
        "a,kind,\"b \"\"x\"\"\ny\"\n1.5,dog,-2\n.25,cat,.03\n",
        "kind",
    );
    assert_eq!(quoted.columns()[1], "b \"x\"\ny");
    // without a heading columns are numbers, and texts are no heading where that is said
    let path = folder.file("b.csv.gz", &gzip(b"1,2,0\n3,4,2\n"));
    let set = open(&path, classes("3")).unwrap();
    assert_eq!((set.len(), set.classes().len()), (2, 3));
    assert_eq!((set.label(1), set.columns().len()), (Some(2), 0));
    let path = folder.file("c.csv", b"1,2,dog\n3,4,cat\n");
    let options = VectorOptions {
        answers: classes("3"),
        heading: Heading::Absent,
        ..VectorOptions::default()
    };
    assert_eq!(Vectors::open(&path, &options).unwrap().len(), 2);
    // the usual names, columns that are left out, numbers to predict
    let path = folder.file("d.csv", b"id,x,Label,price\nA7,1,0,2.5\nB1,2,1,-1\n");
    let options = VectorOptions {
        answers: Answers::Classes(None),
        without: vec!["id".into(), "price".into()],
        ..VectorOptions::default()
    };
    let set = Vectors::open(&path, &options).unwrap();
    assert_eq!((set.values(1), set.label(1)), (&[2.0][..], Some(1)));
    let options = VectorOptions {
        answers: Answers::Numbers(vec!["price".into(), "Label".into()]),
        without: vec!["id".into()],
        limit: Some(1),
        ..VectorOptions::default()
    };
    let set = Vectors::open(&path, &options).unwrap();
    assert_eq!((set.len(), set.target(0)), (1, &[2.5, 0.0][..]));
    // labels by the names that are given
    let path = folder.file("e.csv", b"x,y\n1,-1\n2,1\n");
    let options = VectorOptions {
        answers: Answers::Classes(None),
        classes: Some(vec!["-1".into(), "1".into()]),
        ..VectorOptions::default()
    };
    let set = Vectors::open(&path, &options).unwrap();
    assert_eq!((set.label(0), set.label(1)), (Some(0), Some(1)));
}

#[test]
fn arrays_have_the_shape_that_is_asked_for() {
    let folder = Folder::new("shapes");
    let numbers: Vec<f64> = (0..12).map(f64::from).collect();
    let bytes = floats(&numbers, |v| v.to_le_bytes().to_vec());
    let array = |dims: &str| folder.file("x.npy", &npy("<f8", dims, &bytes));
    let read = |path: &Path, shape| {
        let options = VectorOptions {
            shape: Some(shape),
            ..VectorOptions::default()
        };
        Vectors::open(path, &options)
    };
    let signal = nn::Shape::image(2, 1, 3);
    for dims in ["(2, 2, 3)", "(2, 2, 1, 3)", "(2, 6)"] {
        let set = read(&array(dims), signal).expect("of this shape");
        assert_eq!(set.values(1), [6.0, 7.0, 8.0, 9.0, 10.0, 11.0]);
        let n = set.channel_statistics(2);
        assert_eq!(n.mean, [4.0, 7.0]);
        let deviation = (29.0f64 / 3.0).sqrt();
        assert!((n.deviation[0] - deviation).abs() < 1e-12, "{n:?}");
    }
    let transposed = read(&array("(2, 3, 2)"), signal);
    says(transposed, &["[2, 3, 2]", "(2, 1, 3)", "numpy.transpose"]);
    // signals may be whole numbers, pictures' are pixels
    let whole = |dims: &str| folder.file("i.npy", &npy("|u1", dims, &[7; 12]));
    assert!(read(&whole("(2, 2, 3)"), signal).is_ok());
    let picture = read(&whole("(2, 1, 2, 3)"), nn::Shape::image(1, 2, 3));
    says(picture, &["|u1", "pixels", ".npz"]);
    assert!(data::is_table(&array("(12,)")) && !data::is_npz(&array("(12,)")));
    assert!(!data::is_table(&folder.file("x.bin", b"\x00")));
    assert!(data::is_table(&folder.file("x.csv.gz", &gzip(b"1,2\n"))));
    let written = data::array_bytes(&[2, 2, 3], &numbers);
    let (dims, back) = data::read_numbers(&folder.file("w.npy", &written), 1 << 10).unwrap();
    assert_eq!((dims, back), (vec![2, 2, 3], numbers));
}

#[test]
fn columns_are_found_by_name() {
    let folder = Folder::new("columns");
    let read = |text: &str, columns: &[&str]| {
        let set = open(&folder.file("t.csv", text.as_bytes()), Answers::None)?;
        set.ordered(&columns.iter().map(|c| c.to_string()).collect::<Vec<_>>())
    };
    let set = read("b,c,a\n2,3,1\n20,30,10\n", &["a", "b", "c"]).unwrap();
    assert_eq!(set.values(1), [10.0, 20.0, 30.0]);
    assert_eq!(set.columns(), ["a", "b", "c"]);
    says(
        read("b,d\n2,3\n", &["a", "b"]),
        &["are not there: \"a\"", "not needed are there: \"d\""],
    );
    says(read("b,a,a\n2,3,4\n", &["a", "b"]), &["\"a\" comes twice"]);
    // places where one has no names
    for (text, columns) in [
        ("2,3\n", ["a", "b"]),
        ("b,a\n2,3\n", ["1", "2"]),
        ("b,a\n2,3\n", ["component 0", "component 1"]),
    ] {
        assert_eq!(read(text, &columns).unwrap().values(0), [2.0, 3.0]);
    }
}

#[test]
fn tables_are_refused_with_line_and_column() {
    let folder = Folder::new("bad-tables");
    let read = |text: &str, answers: Answers| open(&folder.file("t.csv", text.as_bytes()), answers);
    let plain = |text: &str| read(text, Answers::None);
    for missing in ["", "NA", "nan", "?", "\"\""] {
        says(
            plain(&format!("age,height\n1,2\n3,{missing}\n")),
            &[
                "t.csv: line 3, column 2 (\"height\") has no value",
                "leave its row or column out",
            ],
        );
    }
    says(plain("1.5,2\n3,\n"), &["line 2, column 2 has no value"]);
    says(
        plain("age,height\n1,tall\n"),
        &["line 2, column 2 (\"height\") is \"tall\", which is no number"],
    );
    // a whole column of words, not a value that is missing
    let words = |text| matches!(plain(text), Err(Error::Words { .. }));
    assert!(words("age,height\n1,tall\n") && !words("age,height\n1,\n") && !words("a,b\n1,inf\n"));
    says(plain("a;b\n1,5;2\n"), &["line 2, column 1", "\"1,5\""]);
    says(
        plain("a,b\n1,inf\n"),
        &["line 2, column 2", "no finite number"],
    );
    says(plain("a,b\n1,1e999\n"), &["line 2", "no finite number"]);
    says(plain("a,b\n1,2\n3\n"), &["line 3 has 1 fields", "have 2"]);
    says(plain("a,b\n\"1,2\n"), &["line 2", "never closed"]);
    says(
        plain("a,b\n\"1\"x,2\n"),
        &["line 2", "behind a closing quotation mark"],
    );
    says(plain("a,b\n\"1\n\",2\n3,x\n"), &["line 4, column 2"]);
    says(plain(""), &["t.csv", "no row"]);
    says(plain("a,b\n"), &["t.csv", "no row below its heading"]);
    says(
        open(&folder.file("t.csv", b"a\n\xff\n"), Answers::None),
        &["t.csv", "UTF-8"],
    );
    says(
        read("a,b\n1,2\n", classes("c")),
        &["t.csv: there is no c; there are: a, b"],
    );
    says(
        read("a,b\n1,2\n", Answers::Classes(None)),
        &["no label", "a, b"],
    );
    says(
        read("a,y\n1,\n", Answers::Classes(None)),
        &["line 2, column 2 (\"y\") has no label"],
    );
    says(
        read("y\n1\n", Answers::Classes(None)),
        &["no column is left"],
    );
    says(
        read("a,y\n1,x\n", Answers::Numbers(vec!["y".into()])),
        &["line 2, column 2 (\"y\") is \"x\""],
    );
    let with = |change: &dyn Fn(&mut VectorOptions)| {
        let mut options = VectorOptions {
            answers: Answers::Classes(None),
            ..VectorOptions::default()
        };
        change(&mut options);
        Vectors::open(&folder.file("t.csv", b"a,y\n1,0\n2,1\n3,2\n"), &options)
    };
    says(
        with(&|o| o.classes = Some(vec!["no".into(), "yes".into()])),
        &["number 2", "\"2\"", "2 classes"],
    );
    says(with(&|o| o.without = vec!["b".into()]), &["no b"]);
    says(with(&|o| o.limit = Some(0)), &["limit"]);
    says(with(&|o| o.memory_limit = 8), &["t.csv", "8 bytes"]);
    says(
        with(&|o| o.split = Some(data::Split::Test)),
        &["the split test"],
    );
}

#[test]
fn arrays_of_all_types() {
    let folder = Folder::new("arrays");
    let values = [1.5, -2.0, 0.25, 4.0, -0.5, 8.0];
    let kinds: [(&str, Vec<u8>); 6] = [
        ("<f8", floats(&values, |v| v.to_le_bytes().into())),
        (">f8", floats(&values, |v| v.to_be_bytes().into())),
        ("<f4", floats(&values, |v| (v as f32).to_le_bytes().into())),
        (">f4", floats(&values, |v| (v as f32).to_be_bytes().into())),
        // 1.5, −2, 1/4, 4, −1/2, 8 in half precision
        (
            "<f2",
            [0x3e00u16, 0xc000, 0x3400, 0x4400, 0xb800, 0x4800]
                .map(u16::to_le_bytes)
                .concat(),
        ),
        (
            ">f2",
            [0x3e00u16, 0xc000, 0x3400, 0x4400, 0xb800, 0x4800]
                .map(u16::to_be_bytes)
                .concat(),
        ),
    ];
    for (kind, bytes) in kinds {
        let path = folder.file("x.npy", &npy(kind, "(3, 2)", &bytes));
        let set = open(&path, Answers::None).unwrap();
        let all: Vec<f64> = (0..3).flat_map(|i| set.values(i).to_vec()).collect();
        assert_eq!(all, values, "{kind}");
        assert_eq!(set.known(), &Known::Nothing);
    }
    let bytes = floats(&values, |v| v.to_le_bytes().into());
    // columns one after the other, more axes than two, a single vector
    let mut fortran = npy("<f8", "(3, 2)", &bytes);
    let at = fortran.windows(5).position(|w| w == b"False").unwrap();
    fortran.splice(at..at + 5, *b"True ");
    let set = open(&folder.file("f.npy", &fortran), Answers::None).unwrap();
    assert_eq!(
        (set.values(0), set.values(2)),
        (&[1.5, 4.0][..], &[0.25, 8.0][..])
    );
    let path = folder.file("c.npy", &npy("<f8", "(1, 2, 3)", &bytes));
    assert_eq!(open(&path, Answers::None).unwrap().values(0), values);
    let path = folder.file("v.npy", &npy("<f8", "(6,)", &bytes));
    assert_eq!(open(&path, Answers::None).unwrap().values(0), values);
    // labels of every type of integers, beside the vectors or in one file
    let x = npy("<f8", "(3, 2)", &bytes);
    let labels: [(&str, Vec<u8>); 9] = [
        ("|b1", vec![1, 0, 1]),
        ("|i1", vec![1, 0, 1]),
        ("|u1", vec![1, 0, 1]),
        ("<i2", [1i16, 0, 1].map(i16::to_le_bytes).concat()),
        (">u2", [1u16, 0, 1].map(u16::to_be_bytes).concat()),
        ("<i4", [1i32, 0, 1].map(i32::to_le_bytes).concat()),
        (">u4", [1u32, 0, 1].map(u32::to_be_bytes).concat()),
        (">i8", [1i64, 0, 1].map(i64::to_be_bytes).concat()),
        ("<u8", [1u64, 0, 1].map(u64::to_le_bytes).concat()),
    ];
    for (kind, bytes) in labels {
        let y = npy(kind, "(3, 1)", &bytes);
        let beside = folder.file("y.npy", &y);
        let set = open(
            &folder.file("x.npy", &x),
            classes(&beside.display().to_string()),
        )
        .unwrap();
        let names = [
            ("x_train", x.clone()),
            ("y_train", y.clone()),
            ("x_test", x.clone()),
        ];
        let names = names.map(|(n, b)| (format!("{n}.npy"), b));
        let entries: Vec<(&str, Vec<u8>)> =
            names.iter().map(|(n, b)| (n.as_str(), b.clone())).collect();
        let options = VectorOptions {
            answers: Answers::Classes(None),
            split: Some(data::Split::Train),
            ..VectorOptions::default()
        };
        let packed = Vectors::open(&folder.file("a.npz", &zip(&entries)), &options).unwrap();
        for set in [&set, &packed] {
            let labels: Vec<_> = (0..3).filter_map(|i| set.label(i)).collect();
            assert_eq!((labels, set.classes().len()), (vec![1, 0, 1], 2), "{kind}");
        }
    }
    let y = npy(
        "<f8",
        "(3,)",
        &floats(&[5.0, 6.0, 7.0], |v| v.to_le_bytes().into()),
    );
    let path = folder.file("r.npz", &zip(&[("data.npy", x), ("target.npy", y)]));
    let set = open(&path, Answers::Numbers(vec!["target".into()])).unwrap();
    assert_eq!((set.target(2), set.width()), (&[7.0][..], 2));
}

#[test]
fn arrays_are_refused_by_name() {
    let folder = Folder::new("bad-arrays");
    let x = npy(
        "<f8",
        "(2, 1)",
        &floats(&[1.0, 2.0], |v| v.to_le_bytes().into()),
    );
    let packed = |x: &[u8], y: &[u8]| {
        let path = folder.file(
            "a.npz",
            &zip(&[("x.npy", x.to_vec()), ("y.npy", y.to_vec())]),
        );
        open(&path, Answers::Classes(None))
    };
    let nan = npy(
        "<f8",
        "(2, 1)",
        &floats(&[1.0, f64::NAN], |v| v.to_le_bytes().into()),
    );
    says(
        packed(&nan, &npy("|u1", "(2,)", &[0, 1])),
        &["a.npz: row 1, column 0 of x", "is NaN"],
    );
    says(
        packed(&x, &npy("|i1", "(2,)", &[0, 255])),
        &["y has the label -1 in row 1"],
    );
    says(
        packed(
            &x,
            &npy(
                "<i8",
                "(2,)",
                &floats(&[0.0, 1e6], |v| (v as i64).to_le_bytes().into()),
            ),
        ),
        &["the label 1000000", "65,535"],
    );
    says(
        packed(&x, &npy("<f4", "(2,)", &[0; 8])),
        &["y holds values of type '<f4'", "numbers to predict"],
    );
    says(
        packed(&x, &npy("|u1", "(3,)", &[0; 3])),
        &["y has 3 rows for 2 vectors"],
    );
    says(
        packed(&x, &npy("|u1", "(2, 2)", &[0; 4])),
        &["y has shape [2, 2]"],
    );
    says(
        packed(&npy("<c16", "(1, 1)", &[0; 16]), &x),
        &["x holds values of type '<c16'"],
    );
    says(
        packed(&npy("<f8", "(3, 1)", &[0; 16]), &x),
        &["x promises [3, 1] values, 2"],
    );
    let wide = "(0, 1099511627776, 1099511627776)";
    says(packed(&npy("<f8", wide, &[]), &x), &["x has shape"]);
    says(
        packed(&npy("<f8", "(2, 0)", &[]), &x),
        &["x has shape [2, 0]"],
    );
    says(
        packed(&npy("<f8", "()", &[0; 8]), &x),
        &["x is a single number"],
    );
    says(packed(b"no array", &x), &["x is no NumPy array"]);
    let path = folder.file("w.npz", &zip(&[("w.npy", x.clone()), ("v.npy", x.clone())]));
    says(
        open(&path, Answers::None),
        &["w.npz: there is no vectors", "v, w"],
    );
    let path = folder.file("x.npy", &x);
    says(
        open(&path, Answers::Classes(None)),
        &["x.npy", "labels", "name the array or file"],
    );
    says(open(&path, classes("/nowhere/y.npy")), &["/nowhere/y.npy"]);
    let small = VectorOptions {
        memory_limit: 50,
        ..VectorOptions::default()
    };
    says(
        Vectors::open(&path, &small),
        &["x.npy", "more than 50 bytes"],
    );
}

#[test]
fn statistics_and_splits() {
    let values = vec![1.0, 7.0, 3.0, 7.0, 5.0, 7.0];
    let set = Vectors::new(2, values, Known::Nothing).unwrap();
    let n = set.statistics();
    assert_eq!(n.mean, [3.0, 7.0]);
    assert!((n.deviation[0] - (8.0f64 / 3.0).sqrt()).abs() < 1e-12 && n.deviation[1] == 1.0);
    let x = set.tensor(2, Some(&n)).unwrap();
    assert!((x.values()[0] - 2.0 / n.deviation[0]).abs() < 1e-12 && x.values()[1] == 0.0);
    let (train, held_out) = set.split(1).unwrap();
    assert_eq!((train.len(), held_out.values(0)), (2, &[1.0, 7.0][..]));
    assert!(set.split(0).is_err() && set.split(3).is_err() && set.tensor(3, None).is_err());
    assert!(Vectors::new(2, vec![1.0], Known::Nothing).is_err());
    assert!(Vectors::new(1, vec![f64::NAN], Known::Nothing).is_err());
}

/// A pipe's first bytes are gone when its format is known: what is left must not be taken for the table.
#[cfg(unix)]
#[test]
fn what_is_no_regular_file_is_refused() {
    let options = VectorOptions::default();
    let refused = Vectors::open(std::path::Path::new("/dev/null"), &options).err();
    let refused = refused.expect("no file").to_string();
    assert!(refused.contains("no regular file"), "{refused}");
}

#[test]
fn a_first_line_that_counts_is_a_heading_or_a_row_as_is_said() {
    let folder = Folder::new("counts");
    let read = |text: &str, heading| {
        let options = VectorOptions {
            heading,
            ..VectorOptions::default()
        };
        Vectors::open(&folder.file("t.csv", text.as_bytes()), &options)
    };
    for first in [
        "0,1,2",
        "1,2,3",
        "0;1;2",
        "\"0\",\"1\",\"2\"",
        " 0, 1 ,2",
        "0.0,1.0,2.0",
        "0",
        ",0,1",
    ] {
        let text = format!(
            "{first}\n{}\n",
            first.replace('0', "7").replace(['1', '2'], "8")
        );
        let words = ["t.csv: line 1 counts from", "say which it is"];
        says(read(&text, Heading::Told), &words);
        if first.starts_with(',') {
            continue;
        }
        assert_eq!(
            read(&text, Heading::Present).expect("reads").len(),
            1,
            "{first}"
        );
        assert_eq!(
            read(&text, Heading::Absent).expect("reads").len(),
            2,
            "{first}"
        );
    }
    // whatever does not count is told as before, and rows that nobody called so are known for that
    for (text, headless) in [
        ("0,1,3\n4,5,6\n", true),
        ("2,3\n4,5\n", true),
        ("a,b\n0,1\n", false),
    ] {
        assert_eq!(
            read(text, Heading::Told).expect("reads").headless(),
            headless,
            "{text}"
        );
    }
    assert!(
        !read("2,3\n4,5\n", Heading::Absent)
            .expect("reads")
            .headless()
    );
    assert_eq!("yes".parse(), Ok(Heading::Present));
    assert!("maybe".parse::<Heading>().is_err());
}

#[test]
fn tables_of_other_customs_are_refused_by_what_they_are() {
    let folder = Folder::new("customs");
    let plain = |text: &str| open(&folder.file("t.csv", text.as_bytes()), Answers::None);
    says(
        plain("1,2\r3,4\r"),
        &["carriage return alone", "line feeds"],
    );
    says(plain("a,b\r3,4\r5,6"), &["carriage return alone"]);
    assert_eq!(plain("7,2\r\n3,4\r\n").expect("reads").len(), 2);
    let comma = ["with a decimal comma", "as 1.5"];
    for text in [
        "1,5;2,5\n",
        "1,5;2,5\n3,5;4,5\n",
        "1,5\t2\n3,5\t4\n",
        "7;1,5\n2;3\n",
        "a;b\n1,5;2\n",
    ] {
        says(plain(text), &comma);
    }
    // semicolons within quoted names do no harm
    assert_eq!(plain("\"a;b\",c\n1,2\n").expect("reads").len(), 1);
    says(plain("a,b\n"), &["no row below its heading"]);
}
