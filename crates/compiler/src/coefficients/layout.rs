//! Where quantities lie: phases of large pictures, then one spacing of places for all that strides do not part.

use super::kernel::{Kernel, phased};
use super::network::{Id, Kind, Quantity};
use crate::Error;
use crate::layout::narrow;
use ckks::Folded;
use ckks::coefficients::slot_of;
use runtime::Owners;
use runtime::folding::Folding;

/// How many channels a ciphertext is to hold at least: larger pictures lie in phases, whose strides cost nothing and whose rows need no power of two, but
/// whose layers have more outputs to pack. Whichever costs least is taken.
pub(super) const LEAST_CHANNELS: [usize; 3] = [16, 64, 256];

/// A network whose quantities lie somewhere.
pub(crate) struct Laid {
    /// Of each quantity.
    pub(crate) layouts: Vec<Folded>,
    /// Phases of each quantity, by rows and by columns.
    pub(crate) phases: Vec<usize>,
    /// Kernels between phases, of linear quantities.
    pub(crate) kernels: Vec<Vec<(Id, Kernel)>>,
}

/// Lays a network's quantities into rings of degree n, so many channels to a ciphertext at least.
pub(crate) fn lay(quantities: &[Quantity], n: usize, channels: usize) -> Result<Laid, Error> {
    let wanted = wanted_phases(quantities, n / channels.max(1));
    let laid = wanted.and_then(|phases| in_phases(quantities, phases));
    let (phases, kernels) = match laid {
        Some(laid) => laid,
        // where phases do not suit each other, all pictures lie as they are
        None => in_phases(quantities, vec![1; quantities.len()]).unwrap_or_default(),
    };
    let planes = planes(quantities, &phases, &kernels);
    let mut layouts = Vec::with_capacity(quantities.len());
    for (v, q) in quantities.iter().enumerate() {
        let shape = phased(q.shape, phases[v]);
        let Plane { pitch, places } = planes[v];
        let too_large = || Error::TooLarge {
            layer: q.layer.clone(),
            values: q.shape.iter().product(),
            needed: places.div_ceil(n),
            slots: n,
            most: 1,
        };
        let spacing = n
            .checked_div(places)
            .filter(|s| *s > 0)
            .ok_or_else(too_large)?;
        // a half bootstrap is of eight values at least
        let gap = (spacing / shape[0].next_power_of_two()).clamp(1, n / 8);
        layouts.push(Folded::new(n, spacing, gap, pitch, shape)?);
    }
    Ok(Laid {
        layouts,
        phases,
        kernels,
    })
}

/// Whose values lie in the slots of one part of a ciphertext ([`Parts`](ckks::coefficients::Parts)) where so many inputs are channels after each other
/// ([`Quantity`]). Channels beyond the last hold constants and count as the last input's.
pub(super) fn owners(layout: &Folded, (number, part): (usize, usize), inputs: usize) -> Owners {
    let (each, half) = (
        layout.channels_each(),
        Folding::from(layout).slots(layout.degree()),
    );
    let channels = (layout.shape()[0] / inputs).max(1);
    let owner = |c: usize| narrow(((number * each + c) / channels).min(inputs - 1));
    // the second half of the values is a part of its own, or lies behind the first
    let halves = match layout.gap() {
        1 => part..part + 1,
        _ => 0..2,
    };
    // channels lie in the high bits, reversed
    let width = each.min(half);
    let runs = halves.flat_map(|h| (0..width).map(move |k| h * half + slot_of(k, width)));
    Owners::new(half / width, runs.map(|v| owner(v % each)).collect())
}

/// How rows of a picture lie, and how many places a channel has.
#[derive(Clone, Copy, Debug)]
struct Plane {
    pitch: usize,
    places: usize,
}

/// Places of a picture with a row and a column of zeros, in rows of a power of two.
fn usual_places([_, h, w]: [usize; 3]) -> usize {
    let pitch = (w + 1).next_power_of_two();
    ((h - 1) * pitch + w + pitch + 1).next_power_of_two()
}

/// Phases in which pictures take at most so many places, where their sizes and the strides between them allow it.
fn wanted_phases(quantities: &[Quantity], most: usize) -> Option<Vec<usize>> {
    let mut phases: Vec<usize> = Vec::with_capacity(quantities.len());
    for q in quantities {
        let mut p = 1;
        match &q.kind {
            Kind::Activation { argument, .. } => p = phases[*argument],
            Kind::Sum { of } => p = phases[of[0]],
            Kind::Product { of } => {
                p = of.map(|id| phases[id])[0].max(phases[of[1]]);
                of.iter()
                    .for_each(|id| raise(quantities, &mut phases, *id, p));
            }
            _ if q.shape[1..] == [1, 1] => {}
            kind => {
                while usual_places(phased(q.shape, p)) > most
                    && q.shape[1..].iter().all(|l| l % (2 * p) == 0)
                {
                    p *= 2;
                }
                if let Kind::Linear { terms, .. } = kind {
                    for (id, k) in terms {
                        while (p * k.stride) % phases[*id] != 0 {
                            p *= 2;
                        }
                    }
                }
            }
        }
        phases.push(p);
    }
    Some(phases)
}

/// Puts what a product reads into so many phases, with what it is made of in slots.
fn raise(quantities: &[Quantity], phases: &mut [usize], id: Id, p: usize) {
    phases[id] = p;
    match &quantities[id].kind {
        Kind::Activation { argument, .. } => phases[*argument] = p,
        Kind::Product { of } => (of.iter()).for_each(|id| raise(quantities, phases, *id, p)),
        _ => {}
    }
}

type Phased = (Vec<usize>, Vec<Vec<(Id, Kernel)>>);

fn in_phases(quantities: &[Quantity], phases: Vec<usize>) -> Option<Phased> {
    let kernels: Option<Vec<Vec<(Id, Kernel)>>> = (quantities.iter().enumerate())
        .map(|(v, q)| match &q.kind {
            Kind::Linear { terms, .. } => (terms.iter())
                .map(|(id, k)| Some((*id, k.in_phases(phases[*id], phases[v])?)))
                .collect(),
            Kind::Sum { of } if of.iter().any(|id| phases[*id] != phases[v]) => None,
            Kind::Product { of } if of.iter().any(|id| phases[*id] != phases[v]) => None,
            Kind::Activation { argument, .. } if phases[*argument] != phases[v] => None,
            _ => Some(Vec::new()),
        })
        .collect();
    let divides = |(q, p): (&Quantity, &usize)| q.shape[1..].iter().all(|l| l % p == 0);
    let all = quantities.iter().zip(&phases).all(divides);
    kernels.filter(|_| all).map(|k| (phases, k))
}

/// One plane for all quantities that kernels of stride 1 join: they then lie at the same places, and nothing moves.
fn planes(quantities: &[Quantity], phases: &[usize], kernels: &[Vec<(Id, Kernel)>]) -> Vec<Plane> {
    let count = quantities.len();
    let mut class: Vec<usize> = (0..count).collect();
    fn find(class: &mut [usize], mut v: usize) -> usize {
        while class[v] != v {
            class[v] = class[class[v]];
            v = class[v];
        }
        v
    }
    let size = |v: usize| {
        let [_, h, w] = phased(quantities[v].shape, phases[v]);
        [h, w]
    };
    let joins = |from: usize, to: usize| {
        let ([h, w], [oh, ow]) = (size(from), size(to));
        // a much smaller picture lies denser by itself
        4 * oh * ow > 2 * h * w
    };
    for (v, q) in quantities.iter().enumerate() {
        let sources: Vec<Id> = match &q.kind {
            Kind::Input => Vec::new(),
            Kind::Activation { argument, .. } => vec![*argument],
            Kind::Sum { of } => of.clone(),
            Kind::Product { of } => of.to_vec(),
            Kind::Linear { .. } => (kernels[v].iter())
                .filter(|(id, k)| k.stride == 1 && joins(*id, v))
                .map(|(id, _)| *id)
                .collect(),
        };
        for s in sources {
            let (a, b) = (find(&mut class, s), find(&mut class, v));
            class[a.max(b)] = a.min(b);
        }
    }
    let roots: Vec<usize> = (0..count).map(|v| find(&mut class, v)).collect();
    let mut pitch = vec![1; count];
    let mut strided = vec![false; count];
    let reach = |v: usize| kernels[v].iter().map(|(id, k)| (*id, k.beyond(), k.stride));
    for v in 0..count {
        let [_, w] = size(v);
        pitch[roots[v]] = pitch[roots[v]].max(w);
        for (id, [_, left, _, right], stride) in reach(v) {
            let needed = size(id)[1] + left.max(right);
            let (from, to) = (roots[id], roots[v]);
            pitch[from] = pitch[from].max(needed);
            if stride > 1 {
                (strided[from], strided[to]) = (true, true);
            }
        }
    }
    let places = |pitch: &[usize]| {
        let mut places = vec![1; count];
        for v in 0..count {
            let used = |v: usize| (size(v)[0] - 1) * pitch[roots[v]] + size(v)[1];
            places[roots[v]] = places[roots[v]].max(used(v));
            for (id, [above, left, below, right], _) in reach(v) {
                let pitch = pitch[roots[id]];
                let beyond = (above * pitch + left).max(below * pitch + right);
                places[roots[id]] = places[roots[id]].max(used(id) + beyond);
            }
        }
        places
            .into_iter()
            .map(usize::next_power_of_two)
            .collect::<Vec<_>>()
    };
    let powers: Vec<usize> = pitch.iter().map(|p| p.next_power_of_two()).collect();
    let (tight, power) = (places(&pitch), places(&powers));
    (roots.into_iter())
        .map(|r| {
            // rows a power of two apart are for strides, whose outputs then move by whole rows
            if strided[r] || power[r] <= tight[r] {
                Plane {
                    pitch: powers[r],
                    places: power[r],
                }
            } else {
                Plane {
                    pitch: pitch[r],
                    places: tight[r],
                }
            }
        })
        .collect()
}
