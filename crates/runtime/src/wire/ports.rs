//! How tensors lie in the slots of a plan's input and output.

use super::container::Reader;
use crate::plan::{Description, Port, Sequence};
use crate::{Error, Help, Remedy, Result};
use ckks::{Complex64, Parameters};
use std::io::Read;

/// Tag of the section with both ports' places.
pub(crate) const PLACES: [u8; 4] = *b"plcs";
/// Most bytes of places: a port of 16 million values.
const PLACES_LIMIT: u64 = 128 << 20;
/// Bytes of one place: ciphertext and slot, four each, little endian.
const PLACE: usize = 8;

/// The places of both ports, the input's first, then of a sequence's further inputs; how many there are follows from the shapes.
pub(crate) fn places_bytes(
    (input, output): (&Port, &Port),
    sequence: Option<&Sequence>,
) -> Vec<u8> {
    let more = sequence.into_iter().flat_map(|s| &s.more);
    let more = more.flat_map(|p| &p.places);
    let places = input.places.iter().chain(&output.places);
    places
        .chain(more)
        .flat_map(|(c, s)| [c.to_le_bytes(), s.to_le_bytes()])
        .flatten()
        .collect()
}

/// Reads the places of both ports, whose shapes are known; gives the section's bytes.
///
/// # Errors
/// [`Error::File`] where there are not as many as the shapes have elements.
pub(crate) fn read_places<R: Read>(
    file: &mut Reader<R>,
    (input, output): (&mut Port, &mut Port),
    sequence: Option<&mut Sequence>,
) -> Result<Vec<u8>> {
    let bytes = file.section(PLACES, PLACES_LIMIT)?;
    let (all, rest) = bytes.as_chunks::<PLACE>();
    // of one tensor of a batch, or of all
    let (mut inputs, mut outputs) = (input.elements(), output.elements());
    let mut more: Vec<&mut Port> = sequence.into_iter().flat_map(|s| &mut s.more).collect();
    // a sequence has no batch
    let beside = more.iter().map(|p| p.elements());
    let beside = beside.fold(0usize, usize::saturating_add);
    let own = all.len().saturating_sub(beside);
    if inputs.checked_add(outputs) != Some(own) {
        inputs = inputs.saturating_mul(input.batch);
        outputs = outputs.saturating_mul(output.batch);
    }
    let fits = inputs.checked_add(outputs) == Some(own) && beside <= all.len();
    if !rest.is_empty() || !fits {
        let problem = format!(
            "{} bytes of places for {inputs} and {outputs} elements of {PLACE} bytes each",
            bytes.len()
        );
        let remedy = "compile the plan again";
        return Err(Error::file(file.name(), "section `plcs`", problem, remedy));
    }
    let word = |b: &[u8]| b.iter().rev().fold(0, |sum, &b| sum << 8 | u32::from(b));
    let mut places = all.iter().map(|b| (word(&b[..4]), word(&b[4..])));
    input.places = places.by_ref().take(inputs).collect();
    output.places = places.by_ref().take(outputs).collect();
    for port in &mut more {
        port.places = places.by_ref().take(port.elements()).collect();
    }
    Ok(bytes)
}

/// Refuses a name with control characters or marks that turn the direction of text, which a terminal would obey.
pub(crate) fn check_name(what: &str, name: &str) -> std::result::Result<(), String> {
    let turns = |c| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    match name.chars().any(|c| c.is_control() || turns(c)) {
        true => Err(format!("{what} {name:?}: names have no control characters")),
        false => Ok(()),
    }
}

/// What must hold for every port.
pub(crate) fn check_port(port: &Port, parameters: &Parameters) -> std::result::Result<(), String> {
    check_name("the name", &port.name)?;
    let elements = port.elements();
    let listed = match port.in_coefficients(parameters.spec()) {
        true => elements.saturating_mul(port.batch),
        false => elements,
    };
    if port.places.len() != listed || elements == 0 {
        let places = port.places.len();
        return Err(format!("{places} places for {listed} elements"));
    }
    let (slots, most) = (port.slots, parameters.max_slots());
    if !slots.is_power_of_two() || slots > most {
        return Err(format!(
            "{slots} slots (a power of two of at most {most} is needed)"
        ));
    }
    let ciphertexts = port.registers.len();
    if !(1..=listed).contains(&ciphertexts) {
        return Err(format!("{ciphertexts} ciphertexts for {listed} elements"));
    }
    let (batch, values) = (port.batch, port.values(parameters.spec()));
    if !batch.is_power_of_two() || batch > values {
        return Err(format!(
            "a batch of {batch} in {values} places (a power of two of at most as many is needed)"
        ));
    }
    let each = values / port.side_by_side();
    let beyond = |(c, s): &&(u32, u32)| *c as usize >= ciphertexts || *s as usize >= each;
    if let Some((c, s)) = port.places.iter().find(beyond) {
        return Err(format!("a place (ciphertext {c}, slot {s}) does not exist"));
    }
    let (level, levels) = (port.level, parameters.residual().index());
    if level > levels {
        return Err(format!("level {level}, but {levels} exist"));
    }
    let (floor, products) = (parameters.floor().index(), parameters.products().index());
    if level < floor && level > products {
        return Err(format!(
            "level {level}, but slots lie at level {floor} and above, coefficients at {products} and below"
        ));
    }
    if !(port.unit.is_finite() && port.unit != 0.0) {
        return Err(format!("unit {}", port.unit));
    }
    Ok(())
}

/// What must hold for a sequence: further inputs, and what is kept in slots, as many ciphertexts before as after.
pub(crate) fn check_sequence(
    (input, output): (&Port, &Port),
    sequence: &Sequence,
    parameters: &Parameters,
) -> std::result::Result<(), String> {
    let most = parameters.max_slots();
    let levels = parameters.floor().index()..=parameters.residual().index();
    if sequence.runs == 0 || sequence.kept.is_empty() {
        return Err(format!(
            "{} runs that keep {} tensors",
            sequence.runs,
            sequence.kept.len()
        ));
    }
    for port in &sequence.more {
        check_port(port, parameters)?;
    }
    let all = [input, output].into_iter().chain(&sequence.more);
    if let Some(port) = all.into_iter().find(|p| p.batch != 1) {
        return Err(format!("a batch of {} at `{}`", port.batch, port.name));
    }
    for kept in &sequence.kept {
        check_name("the name", &kept.name)?;
        let slots = kept.slots.is_power_of_two() && kept.slots <= most;
        let count = kept.before.len() == kept.after.len() && !kept.before.is_empty();
        let unit = kept.unit.is_finite() && kept.unit != 0.0;
        if !(slots && count && unit && levels.contains(&kept.level)) {
            return Err(format!(
                "{} ciphertexts before and {} after, of {} slots at level {}, unit {}",
                kept.before.len(),
                kept.after.len(),
                kept.slots,
                kept.level,
                kept.unit
            ));
        }
    }
    Ok(())
}

/// All inputs of a client laid into slots: the tensors of a step's ports one after another.
pub(crate) fn place_all<'p>(
    ports: impl Iterator<Item = &'p Port>,
    parameters: &Parameters,
    description: &Description,
    tensor: &[f64],
) -> Result<Vec<Vec<Complex64>>> {
    let ports: Vec<&Port> = ports.collect();
    let [first, more @ ..] = &ports[..] else {
        return Ok(Vec::new());
    };
    if more.is_empty() {
        return place((first, parameters), description, tensor);
    }
    let needed: usize = ports.iter().map(|p| p.elements()).sum();
    if needed != tensor.len() {
        let shapes: Vec<&[usize]> = ports.iter().map(|p| &p.shape[..]).collect();
        return Err(Error::Input {
            reason: format!(
                "{} values, but a step takes {needed} (shapes {shapes:?}, one after another)",
                tensor.len()
            ),
            remedy: "give a token's embedding, angles and place".into(),
        });
    }
    let (own, mut rest) = tensor.split_at(first.elements());
    let mut slots = place((first, parameters), description, own)?;
    for port in more {
        let (own, after) = rest.split_at(port.elements());
        // plan values are at most 1
        let within = Description {
            input_bound: port.unit.abs() * (1.0 + 1e-9),
            ..Description::default()
        };
        slots.extend(place((port, parameters), &within, own)?);
        rest = after;
    }
    Ok(slots)
}

/// Tensors laid into slots, in plan units: as many as the port's batch, or fewer, which then are repeated, since other values in
/// the rest could leave the intervals of polynomials, or a bootstrap's, and spoil every slot.
pub(crate) fn place(
    (port, parameters): (&Port, &Parameters),
    description: &Description,
    tensor: &[f64],
) -> Result<Vec<Vec<Complex64>>> {
    let refuse = |reason: String, remedy: Remedy| Err(Error::Input { reason, remedy });
    let (each, had, most) = (port.elements(), tensor.len(), description.input_bound);
    if had == 0 || !had.is_multiple_of(each) {
        let shape = &port.shape;
        let reason = format!("{had} values, but the network takes {each} (shape {shape:?})");
        return refuse(reason, "give inputs of that shape".into());
    }
    let count = had / each;
    if count > port.batch {
        let reason = format!("{count} inputs, the plan takes {} at a time", port.batch);
        return refuse(
            reason,
            Help::Batch.with("run them in turns, or compile for more"),
        );
    }
    if let Some((i, v)) = tensor.iter().enumerate().find(|(_, v)| !v.is_finite()) {
        let remedy = "all values must be finite: look at the input and how it is normalised";
        return refuse(format!("value {i} is {v}"), remedy.into());
    }
    if !(most.is_finite() && most > 0.0) {
        let reason = "the plan has no calibrated bound on its input".into();
        let remedy = Help::Calibrate.with("calibrate the network and compile it again");
        return refuse(reason, remedy);
    }
    let largest = tensor.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    if largest > most {
        let reason =
            format!("a value of magnitude {largest:.4} exceeds the calibrated bound {most:.4}");
        let remedy = "check how inputs are normalised, or calibrate on data that covers such inputs and compile again";
        return refuse(reason, Help::Calibrate.with(remedy));
    }
    let mut slots = vec![vec![Complex64::new(0.0, 0.0); port.slots]; port.registers.len()];
    for b in 0..port.batch {
        let one = &tensor[b % count * each..][..each];
        for ((c, at), &v) in port.places_of(b).zip(one) {
            let ciphertext = &mut slots[c];
            // of coefficients, the second half are imaginary parts
            match at.checked_sub(port.slots) {
                None => ciphertext[at].re = v / port.unit,
                Some(at) => ciphertext[at].im = v / port.unit,
            }
        }
    }
    if port.in_coefficients(parameters.spec()) {
        let encoder = ckks::Encoder::new(parameters.max_slots());
        for v in &mut slots {
            encoder.to_slots(v)?;
        }
    }
    Ok(slots)
}

/// The tensors of a batch read from slots, one after another, in network units.
pub(crate) fn gather(
    (port, parameters): (&Port, &Parameters),
    slots: &[Vec<Complex64>],
) -> Result<Vec<f64>> {
    if port.in_coefficients(parameters.spec()) {
        let mut values = Vec::with_capacity(slots.len());
        for v in slots {
            values.push(coefficients(parameters, v)?);
        }
        let places = (0..port.batch).flat_map(|b| port.places_of(b));
        return Ok(places.map(|(c, j)| values[c][j] * port.unit).collect());
    }
    Ok(in_slots(port, slots))
}

/// What the coefficients of a value hold, from its slots.
pub(crate) fn coefficients(parameters: &Parameters, slots: &[Complex64]) -> Result<Vec<f64>> {
    let mut w = slots.to_vec();
    ckks::Encoder::new(parameters.max_slots()).to_coefficients(&mut w)?;
    let values = w.iter().map(|z| z.re).chain(w.iter().map(|z| z.im));
    let values = values.collect();
    ckks::encoder::wipe(&mut w);
    Ok(values)
}

fn in_slots(port: &Port, slots: &[Vec<Complex64>]) -> Vec<f64> {
    let places = (0..port.batch).flat_map(|b| port.places_of(b));
    places
        .map(|(c, s)| slots[c][s % slots[c].len()].re * port.unit)
        .collect()
}
