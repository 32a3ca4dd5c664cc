//! The change of rings on ciphertexts.

use super::Evaluator;
use super::switch::ModDown;
use crate::keys::KeyName;
use crate::ring_switch::Small;
use crate::{Ciphertext, Coefficients, Context, Error, Level, SwitchingKey, typing};
use ring::{Coeff, Ntt, RnsPoly};

/// (c0, c1) under the secret that the key leads to, in the ring of `wide`.
fn switched(
    wide: &Context,
    key: &SwitchingKey,
    [c0, c1]: [RnsPoly<Ntt>; 2],
    level: Level,
) -> [RnsPoly<Ntt>; 2] {
    let end = ModDown {
        keep: wide.parameters().limbs(level),
        drop: wide.parameters().special_at(level),
        add: [Some(&c0), None],
        automorphism: None,
    };
    let d = wide.decompose(c1, level);
    wide.switch(&d, None, key, &end)
}

impl Evaluator {
    fn ring(&self) -> Result<&Small<Self>, Error> {
        typing::small_ring(self.context.parameters(), self.small.as_deref())
    }
    pub(super) fn narrowed(&self, x: &Ciphertext) -> Result<Vec<Coefficients>, Error> {
        let ring = self.ring()?;
        let switch = &ring.switch;
        let info = switch.narrowed(&x.info)?;
        let (wide, small) = (switch.wide(), switch.small().parameters());
        let indices = wide.parameters().limbs(info.level);
        let key = self.key(KeyName::RingDown, info.level)?;
        let c = [0, 1].map(|i| x.polys[i].within(wide.parameters().ring(), indices));
        let [c0, c1] = switched(wide, &key, c, info.level).map(|c| {
            let classes = c.into_coeff().classes(small.ring(), indices);
            classes.into_iter().map(RnsPoly::into_ntt)
        });
        let ciphertext = |(c0, c1)| Ciphertext {
            polys: vec![c0, c1],
            info,
        };
        c0.zip(c1)
            .map(|c| Coefficients::of(&*ring.inner, ciphertext(c)))
            .collect()
    }
    pub(super) fn widened(&self, classes: &[Option<Coefficients>]) -> Result<Ciphertext, Error> {
        let ring = self.ring()?;
        let switch = &ring.switch;
        let info = |c: &Coefficients| c.value().info;
        let info = switch.widened(classes.iter().map(|c| c.as_ref().map(info)))?;
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
        let key = self.key(KeyName::RingUp, info.level)?;
        let polys = switched(wide, &key, c, info.level)
            .map(|c| c.within(own.ring(), own.limbs(info.level)));
        Ok(Ciphertext {
            polys: polys.into(),
            info,
        })
    }
}
