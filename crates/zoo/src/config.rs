//! Reading `config.json` of Hugging Face: what is known is taken, what would change the network and isn't known is refused.

use crate::blocks::Sizes;
use approx::Activation;
use nn::Error;
use nn::format::Checkpoint;
use serde_json::Value;

/// More than any model has in one direction; keeps products of sizes far from overflow.
const MAX_SIZE: usize = 1 << 24;

pub(crate) struct Fields<'a>(pub(crate) &'a Value);

pub(crate) fn refuse(detail: impl Into<String>) -> Error {
    Error::malformed("config.json", detail)
}

/// What timm's `config.json` says of pictures.
pub(crate) fn about_pictures(json: &Value) -> &Value {
    match &json["pretrained_cfg"] {
        Value::Null => json,
        about => about,
    }
}

/// Three numbers of that, if it has them.
pub(crate) fn three(about: &Value, name: &str) -> nn::Result<Option<[f64; 3]>> {
    let list = match &about[name] {
        Value::Null => return Ok(None),
        list => list.as_array(),
    };
    let all: Option<Vec<f64>> = list.and_then(|l| l.iter().map(Value::as_f64).collect());
    let three = all.and_then(|l| <[f64; 3]>::try_from(l).ok());
    let three = three.ok_or_else(|| refuse(format!("{name} must have three numbers")))?;
    Ok(Some(three))
}

/// Height and width of pictures of three channels, where it names them.
pub(crate) fn picture_size(about: &Value) -> nn::Result<Option<(usize, usize)>> {
    let Some([channels, height, width]) = three(about, "input_size")? else {
        return Ok(None);
    };
    let whole = |v: f64| (1.0..=4096.0).contains(&v) && v.fract() == 0.0;
    if channels != 3.0 || !whole(height) || !whole(width) {
        return Err(refuse(format!(
            "input_size is {}, it must be three channels, height and width",
            about["input_size"]
        )));
    }
    Ok(Some((height as usize, width as usize)))
}

impl Sizes {
    pub(crate) fn check_layers(&self) -> nn::Result<()> {
        /// More blocks than any model has.
        const MAX_LAYERS: usize = 1024;
        match self.layers {
            layers if layers > MAX_LAYERS => Err(refuse(format!(
                "{layers} layers are more than {MAX_LAYERS}"
            ))),
            _ => Ok(()),
        }
    }

    /// These and other fields, as [`Fields::sizes`] reads them.
    pub(crate) fn write(&self, mut other: Value) -> Value {
        for (name, size) in [
            ("hidden_size", self.width),
            ("intermediate_size", self.hidden),
            ("num_hidden_layers", self.layers),
            ("num_attention_heads", self.heads),
            ("vocab_size", self.vocabulary),
            ("max_position_embeddings", self.max_length),
        ] {
            other[name] = size.into();
        }
        other
    }

    /// As wide as a token together, and the same for queries, keys and values.
    pub(crate) fn check_heads(&self) -> nn::Result<()> {
        let Self { heads, width, .. } = self;
        if self.head == 0 || heads * self.head != *width || self.kv_heads != *heads {
            let detail = format!("{heads} heads don't divide the width {width}");
            return Err(refuse(detail));
        }
        Ok(())
    }
}

/// The text of the checkpoint's `config.json`, if its `model_type` is one of these; why not, if it isn't.
pub(crate) fn claimed<'c>(checkpoint: &'c Checkpoint, types: &[&str]) -> Result<&'c str, String> {
    let config = checkpoint.config.as_deref();
    let config = config.ok_or("there is no config.json with it")?;
    let json = Fields::parse(config).map_err(|e| e.to_string())?;
    match json.get("model_type").and_then(Value::as_str) {
        Some(own) if types.contains(&own) => Ok(config),
        other => Err(format!(
            "model_type is {}, known are {}",
            other.unwrap_or("missing"),
            types.join(", ")
        )),
    }
}

impl Fields<'_> {
    pub(crate) fn parse(text: &str) -> nn::Result<Value> {
        let value: Value = serde_json::from_str(text).map_err(|e| refuse(e.to_string()))?;
        if value.is_object() {
            Ok(value)
        } else {
            Err(refuse("it is not an object"))
        }
    }

    fn present(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|v| !v.is_null())
    }

    /// A size from 1 to a limit.
    pub(crate) fn size(&self, name: &str) -> nn::Result<usize> {
        self.optional_size(name)?
            .ok_or_else(|| refuse(format!("{name} is missing")))
    }

    pub(crate) fn optional_size(&self, name: &str) -> nn::Result<Option<usize>> {
        let Some(value) = self.present(name) else {
            return Ok(None);
        };
        match value.as_u64().and_then(|v| usize::try_from(v).ok()) {
            Some(v @ 1..=MAX_SIZE) => Ok(Some(v)),
            _ => Err(refuse(format!(
                "{name} is {value}, it must be a whole number from 1 to {MAX_SIZE}"
            ))),
        }
    }

    /// The sizes that every language model says; heads of keys and values are those of the queries, and together as wide as a token.
    pub(crate) fn sizes(&self) -> nn::Result<Sizes> {
        let (width, heads) = (self.size("hidden_size")?, self.size("num_attention_heads")?);
        Ok(Sizes {
            layers: self.size("num_hidden_layers")?,
            width,
            hidden: self.size("intermediate_size")?,
            heads,
            kv_heads: heads,
            head: width / heads,
            vocabulary: self.size("vocab_size")?,
            max_length: self.size("max_position_embeddings")?,
        })
    }

    /// A positive number, or what is usual.
    pub(crate) fn number(&self, name: &str, usual: f64) -> nn::Result<f64> {
        match self.present(name) {
            None => Ok(usual),
            Some(v) => match v.as_f64() {
                Some(x) if x.is_finite() && x > 0.0 => Ok(x),
                _ => Err(refuse(format!("{name} is {v}, it must be above 0"))),
            },
        }
    }

    /// The activation of this field's name, or what is usual.
    pub(crate) fn activation(&self, name: &str, usual: Activation) -> nn::Result<Activation> {
        match self.present(name).map(|v| v.as_str().unwrap_or_default()) {
            None => Ok(usual),
            Some(own) => Activation::named(own).ok_or_else(|| {
                refuse(format!(
                    "{name} is {own}; known are {}",
                    Activation::names()
                ))
            }),
        }
    }

    /// The names of the classes: `id2label`, or as many as `num_labels` says under the names that Hugging Face's readers give them.
    pub(crate) fn labels(&self) -> nn::Result<Vec<String>> {
        let Some(names) = self.0["id2label"].as_object() else {
            let classes = self.optional_size("num_labels")?.unwrap_or(2);
            return Ok((0..classes).map(|i| format!("LABEL_{i}")).collect());
        };
        (0..names.len())
            .map(|i| {
                let name = names.get(&i.to_string()).and_then(Value::as_str);
                name.map(str::to_string)
                    .ok_or_else(|| refuse(format!("id2label has no name for class {i}")))
            })
            .collect()
    }

    pub(crate) fn flag(&self, name: &str, usual: bool) -> nn::Result<bool> {
        match self.present(name) {
            None => Ok(usual),
            Some(v) => v
                .as_bool()
                .ok_or_else(|| refuse(format!("{name} is {v}, it must be true or false"))),
        }
    }

    /// Refuses another value than the one that is built here; absent, it is that one.
    pub(crate) fn only(&self, name: &str, known: &Value) -> nn::Result<()> {
        match self.present(name) {
            Some(v) if v != known => Err(refuse(format!("{name} is {v}, only {known} is known"))),
            _ => Ok(()),
        }
    }

    /// Positions' base and the share of each head that turns, under the names of today's and yesterday's files.
    pub(crate) fn rotary(&self, base: &str, share: &str, usual: f64) -> nn::Result<(f64, f64)> {
        self.only("rope_scaling", &Value::Null)?;
        match self.present("rope_parameters") {
            Some(inner) => {
                let inner = Fields(inner);
                inner.only("rope_type", &"default".into())?;
                Ok((
                    inner.number("rope_theta", 10_000.0)?,
                    inner.number("partial_rotary_factor", usual)?,
                ))
            }
            None => Ok((self.number(base, 10_000.0)?, self.number(share, usual)?)),
        }
    }
}
