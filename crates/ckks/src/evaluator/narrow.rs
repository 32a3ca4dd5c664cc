//! The change of rings on ciphertexts.

use super::Evaluator;
use super::switch::ModDown;
use crate::ring_switch::{RingSwitch, RingSwitchKeys, Small, missing};
use crate::typing::Info;
use crate::{Ciphertext, Coefficients, Context, Error, Level, SwitchingKey};
use ring::{Coeff, Ntt, RnsPoly};
use std::sync::Arc;

/// A small ring with its keys.
pub(super) struct SmallRing {
    pub(super) small: Small<Evaluator>,
    down: Arc<SwitchingKey>,
    up: Arc<SwitchingKey>,
}

impl SmallRing {
    pub(super) fn new(switch: &RingSwitch, keys: RingSwitchKeys) -> Self {
        let inner = Box::new(Evaluator::new(switch.small(), keys.small));
        Self {
            small: Small {
                switch: switch.clone(),
                inner,
            },
            down: keys.down,
            up: keys.up,
        }
    }
}

/// (c0, c1) under the secret that the key leads to, in the ring of `wide`.
fn switched(
    wide: &Context,
    key: &SwitchingKey,
    [c0, c1]: [RnsPoly<Ntt>; 2],
    level: Level,
) -> [RnsPoly<Ntt>; 2] {
    let end = ModDown {
        keep: wide.parameters().limbs(level),
        drop: wide.parameters().special(),
        add: [Some(&c0), None],
        automorphism: None,
    };
    let d = wide.decompose(c1, level);
    wide.switch(&d, None, key, &end)
}

impl Evaluator {
    pub(super) fn ring(&self) -> Result<&SmallRing, Error> {
        match &self.small {
            Some(ring) => Ok(ring),
            None => missing(self.context.parameters()),
        }
    }
    pub(super) fn narrowed(&self, x: &Ciphertext) -> Result<Vec<Coefficients>, Error> {
        let ring = self.ring()?;
        let switch = &ring.small.switch;
        let info = switch.narrowed(&x.info)?;
        let (wide, small) = (switch.wide(), switch.small().parameters());
        let indices = wide.parameters().limbs(info.level);
        let c = [0, 1].map(|i| x.polys[i].within(wide.parameters().ring(), indices));
        let [c0, c1] = switched(wide, &ring.down, c, info.level).map(|c| {
            let classes = c.into_coeff().classes(small.ring(), indices);
            classes.into_iter().map(RnsPoly::into_ntt)
        });
        let ciphertext = |(c0, c1)| Ciphertext {
            polys: vec![c0, c1],
            info,
        };
        c0.zip(c1)
            .map(|c| Coefficients::of(&*ring.small.inner, ciphertext(c)))
            .collect()
    }
    pub(super) fn widened(&self, classes: &[Option<Coefficients>]) -> Result<Ciphertext, Error> {
        let ring = self.ring()?;
        let (switch, inner) = (&ring.small.switch, &ring.small.inner);
        let info: Info = switch.widened(&**inner, classes)?;
        let (wide, small) = (switch.wide(), switch.small().parameters());
        let indices = wide.parameters().limbs(info.level);
        let zero = RnsPoly::<Coeff>::zero(small.ring(), indices.clone());
        let c = [0, 1].map(|i| {
            let classes: Vec<RnsPoly<Coeff>> = classes
                .iter()
                .map(|c| match c {
                    Some(c) => c.value().polys[i].to_coeff(),
                    None => zero.clone(),
                })
                .collect();
            RnsPoly::from_classes(wide.parameters().ring(), indices, &classes).into_ntt()
        });
        let own = self.context.parameters();
        let polys = switched(wide, &ring.up, c, info.level)
            .map(|c| c.within(own.ring(), own.limbs(info.level)));
        Ok(Ciphertext {
            polys: polys.into(),
            info,
        })
    }
}
