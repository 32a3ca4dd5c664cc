//! Sets of arrays of bytes.

/// Arrays of bytes with their shapes as `.npz`: in a zip, as they are.
pub(crate) fn npz(arrays: &[(&str, &str, &[u8])]) -> Vec<u8> {
    let short =
        |numbers: &[u16]| -> Vec<u8> { numbers.iter().flat_map(|n| n.to_le_bytes()).collect() };
    let long = |numbers: &[usize]| -> Vec<u8> {
        let bytes = numbers.iter().map(|&n| (n as u32).to_le_bytes());
        bytes.flatten().collect()
    };
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, shape, values) in arrays {
        let head = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}\n");
        let length = short(&[head.len() as u16]);
        let data = [b"\x93NUMPY\x01\0", &length[..], head.as_bytes(), values].concat();
        let mut crc = flate2::Crc::new();
        crc.update(&data);
        // version, flags, method, time and date; checksum and both lengths; those of the name and of nothing more
        let about = [
            short(&[20, 0, 0, 0, 0]),
            long(&[crc.sum() as usize, data.len(), data.len()]),
            short(&[name.len() as u16, 0]),
        ]
        .concat();
        directory.extend([&b"PK\x01\x02"[..], &short(&[20]), &about, &[0; 10]].concat());
        directory.extend([&long(&[out.len()]), name.as_bytes()].concat());
        out.extend([b"PK\x03\x04", &about[..], name.as_bytes(), &data].concat());
    }
    let count = arrays.len() as u16;
    let end = [
        short(&[0, 0, count, count]),
        long(&[directory.len(), out.len()]),
        short(&[0]),
    ];
    [&out, &directory, &b"PK\x05\x06"[..], &end.concat()].concat()
}
