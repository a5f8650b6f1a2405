//! What a search varies: parameters by dotted path of the configuration, and their values.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use toml::Value;

use crate::config::{Config, ModelKind, ParameterSpec};

/// The values of one trial, by dotted path.
pub type Params = BTreeMap<String, Value>;

/// Digits that a drawn real number keeps: finer differences change no training that is judged by
/// a validation part, and a configuration should be readable.
const DIGITS: i32 = 4;

/// Where one parameter's values lie.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Domain {
    Real(f64, f64),
    /// Uniform in the logarithm.
    Log(f64, f64),
    /// Whole numbers, both bounds included.
    Int(u32, u32),
    LogInt(u32, u32),
    Choices(Vec<Value>),
}

/// All parameters of a search, by name.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Space(pub BTreeMap<String, Domain>);

impl Space {
    /// The declared space, or the default one. `config` has passed validation.
    pub fn of(config: &Config) -> Self {
        if config.tune.space.is_empty() {
            return Self::default_for(&config.models.kinds);
        }
        let domains = config.tune.space.iter();
        Space(domains.filter_map(|(name, spec)| Some((name.clone(), domain(spec)?))).collect())
    }

    /// Step size and regularisation over the range that published searches of such networks use
    /// (Gorishniy et al. 2021, arXiv:2106.11959, and 2024, arXiv:2410.24210), widths around the
    /// defaults, and which of the networks, where there are several: a trial then trains one.
    fn default_for(kinds: &[ModelKind]) -> Self {
        let has = |kind| kinds.contains(&kind);
        let hybrid = has(ModelKind::Hybrid);
        let mut domains = vec![
            ("train.learning_rate", Domain::Log(3e-4, 1e-2)),
            ("train.weight_decay", Domain::Log(1e-4, 1e-1)),
        ];
        if has(ModelKind::Static) || has(ModelKind::Mlp) || hybrid {
            domains.push(("models.mlp.width", Domain::LogInt(32, 512)));
            domains.push(("models.mlp.blocks", Domain::Int(1, 4)));
            domains.push(("models.mlp.dropout", Domain::Real(0.0, 0.5)));
        }
        if has(ModelKind::Gru) || hybrid {
            domains.push(("models.gru.hidden", Domain::LogInt(16, 128)));
            domains.push(("models.gru.dropout", Domain::Real(0.0, 0.5)));
        }
        if kinds.len() > 1 {
            let alone = |kind: &ModelKind| Value::Array(vec![kind.name().into()]);
            domains.push(("models.use", Domain::Choices(kinds.iter().map(alone).collect())));
        }
        Space(domains.into_iter().map(|(name, domain)| (name.to_owned(), domain)).collect())
    }

    /// The values as coordinates, in the order of the names; None if one is missing or lies
    /// outside its domain.
    pub fn coordinates(&self, params: &Params) -> Option<Vec<f64>> {
        self.0.iter().map(|(name, domain)| domain.coordinate(params.get(name)?)).collect()
    }

    /// The inverse of [`Space::coordinates`].
    pub fn params(&self, coordinates: &[f64]) -> Params {
        let pairs = self.0.iter().zip(coordinates);
        pairs.map(|((name, domain), &at)| (name.clone(), domain.value(at))).collect()
    }

    /// The smallest and the largest value of each parameter, or all of its choices: what must be
    /// accepted before a search begins.
    pub fn extremes(&self) -> Vec<(&str, Value)> {
        let mut found = Vec::new();
        for (name, domain) in &self.0 {
            let values = match domain {
                Domain::Real(low, high) | Domain::Log(low, high) => {
                    vec![Value::Float(*low), Value::Float(*high)]
                }
                Domain::Int(low, high) | Domain::LogInt(low, high) => {
                    vec![i64::from(*low).into(), i64::from(*high).into()]
                }
                Domain::Choices(choices) => choices.clone(),
            };
            found.extend(values.into_iter().map(|value| (name.as_str(), value)));
        }
        found
    }
}

fn domain(spec: &ParameterSpec) -> Option<Domain> {
    fn pair<T: Copy>(bounds: &Option<Vec<T>>) -> Option<(T, T)> {
        let bounds = bounds.as_ref()?;
        Some((*bounds.first()?, *bounds.get(1)?))
    }
    let real = pair(&spec.real).map(|(low, high)| Domain::Real(low, high));
    let log = pair(&spec.log).map(|(low, high)| Domain::Log(low, high));
    let int = pair(&spec.int).map(|(low, high)| Domain::Int(low, high));
    let log_int = pair(&spec.log_int).map(|(low, high)| Domain::LogInt(low, high));
    real.or(log).or(int).or(log_int).or_else(|| spec.choices.clone().map(Domain::Choices))
}

impl Domain {
    /// What the densities are over: the number, its logarithm, or the place among the choices.
    pub fn coordinate(&self, value: &Value) -> Option<f64> {
        let number = match value {
            Value::Integer(n) => Some(*n as f64),
            Value::Float(x) => Some(*x),
            _ => None,
        };
        let whole = value.as_integer().map(|n| n as f64);
        match self {
            Domain::Real(low, high) => number.filter(|x| (*low..=*high).contains(x)),
            Domain::Log(low, high) => number.filter(|x| (*low..=*high).contains(x)).map(f64::ln),
            Domain::Int(low, high) => {
                whole.filter(|x| (f64::from(*low)..=f64::from(*high)).contains(x))
            }
            Domain::LogInt(low, high) => {
                whole.filter(|x| (f64::from(*low)..=f64::from(*high)).contains(x)).map(f64::ln)
            }
            Domain::Choices(choices) => {
                choices.iter().position(|choice| choice == value).map(|at| at as f64)
            }
        }
    }

    /// The value at a coordinate: whole numbers to the nearest, real ones to [`DIGITS`] digits,
    /// all inside their bounds.
    pub fn value(&self, at: f64) -> Value {
        let whole = |x: f64, low: u32, high: u32| {
            Value::Integer(x.round().clamp(f64::from(low), f64::from(high)) as i64)
        };
        match self {
            Domain::Real(low, high) => Value::Float(rounded(at).clamp(*low, *high)),
            Domain::Log(low, high) => Value::Float(rounded(at.exp()).clamp(*low, *high)),
            Domain::Int(low, high) => whole(at, *low, *high),
            Domain::LogInt(low, high) => whole(at.exp(), *low, *high),
            Domain::Choices(choices) => choices[(at as usize).min(choices.len() - 1)].clone(),
        }
    }

    /// Bounds of the coordinates; half a step wider for whole numbers, so that the outermost have
    /// as much room as the others. None for choices.
    pub fn bounds(&self) -> Option<(f64, f64)> {
        let whole = |low: u32, high: u32| (f64::from(low) - 0.5, f64::from(high) + 0.5);
        match self {
            Domain::Real(low, high) => Some((*low, *high)),
            Domain::Log(low, high) => Some((low.ln(), high.ln())),
            Domain::Int(low, high) => Some(whole(*low, *high)),
            Domain::LogInt(low, high) => {
                let (low, high) = whole(*low, *high);
                Some((low.ln(), high.ln()))
            }
            Domain::Choices(_) => None,
        }
    }

    /// The coordinates that belong to the whole number at `at`; None where every number counts.
    pub fn cell(&self, at: f64) -> Option<(f64, f64)> {
        match self {
            Domain::Int(..) => Some((at - 0.5, at + 0.5)),
            Domain::LogInt(..) => {
                let number = at.exp().round();
                Some(((number - 0.5).ln(), (number + 0.5).ln()))
            }
            _ => None,
        }
    }
}

fn rounded(x: f64) -> f64 {
    if x == 0.0 || !x.is_finite() {
        return x;
    }
    // Through the text: scaling by powers of ten would leave 0.0029999999999999996.
    format!("{x:.*e}", (DIGITS - 1) as usize).parse().unwrap_or(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Space {
        let choices = vec![Value::Array(vec!["mlp".into()]), Value::Array(vec!["gru".into()])];
        let domains = [
            ("a", Domain::Real(-1.0, 2.0)),
            ("b", Domain::Log(1e-4, 1e-1)),
            ("c", Domain::Int(2, 5)),
            ("d", Domain::LogInt(1, 300)),
            ("e", Domain::Choices(choices)),
        ];
        Space(domains.into_iter().map(|(name, domain)| (name.to_owned(), domain)).collect())
    }

    #[test]
    fn values_and_coordinates_are_inverse() {
        let space = all();
        for coordinates in [
            [-1.0, 1e-4f64.ln(), 2.0, 0.0, 0.0],
            [2.0, 1e-1f64.ln(), 5.0, 300f64.ln(), 1.0],
            [0.1234, 0.003f64.ln(), 3.0, 17f64.ln(), 1.0],
        ] {
            let params = space.params(&coordinates);
            let back = space.coordinates(&params).expect("inside");
            // One rounding of exp and one of ln.
            let off = back.iter().zip(coordinates).map(|(a, b)| (a - b).abs());
            assert!(off.fold(0.0, f64::max) < 1e-12, "{coordinates:?}: {back:?}");
        }
    }

    #[test]
    fn values_stay_inside() {
        let space = all();
        let low: Vec<f64> = space.0.values().map(|d| d.bounds().map_or(0.0, |b| b.0)).collect();
        let high: Vec<f64> = space.0.values().map(|d| d.bounds().map_or(1.9, |b| b.1)).collect();
        let text = |at: &[f64]| -> Vec<String> {
            space.params(at).values().map(ToString::to_string).collect()
        };
        assert_eq!(text(&low), ["-1.0", "0.0001", "2", "1", "[\"mlp\"]"]);
        assert_eq!(text(&high), ["2.0", "0.1", "5", "300", "[\"gru\"]"]);
        assert_eq!(text(&[0.123_456_7, -6.0, 2.5, 3.0, 0.0])[..2], ["0.1235", "0.002479"]);
    }

    #[test]
    fn what_lies_outside_has_no_coordinates() {
        let space = all();
        let inside = space.params(&[0.0, -4.0, 3.0, 2.0, 0.0]);
        assert!(space.coordinates(&inside).is_some());
        for (name, value) in [
            ("a", Value::Float(2.1)),
            ("a", Value::String("x".into())),
            ("b", Value::Float(f64::NAN)),
            ("c", Value::Float(3.5)),
            ("d", Value::Integer(301)),
            ("e", Value::Array(vec!["hybrid".into()])),
        ] {
            let mut params = inside.clone();
            params.insert(name.into(), value);
            assert_eq!(space.coordinates(&params), None, "{name}");
        }
        assert_eq!(space.coordinates(&Params::new()), None);
    }

    #[test]
    fn the_default_space_follows_the_networks() {
        let names = |kinds: &[ModelKind]| -> Vec<String> {
            Space::default_for(kinds).0.into_keys().collect()
        };
        let always = ["train.learning_rate", "train.weight_decay"];
        assert!(names(&[ModelKind::Mlp]).iter().all(|name| !name.contains("gru")));
        assert!(names(&[ModelKind::Gru]).iter().all(|name| !name.contains("mlp")));
        let hybrid = names(&[ModelKind::Hybrid]);
        assert!(always.iter().all(|name| hybrid.iter().any(|other| other == name)));
        assert!(!hybrid.contains(&"models.use".to_owned()));
        assert!(names(&[ModelKind::Mlp, ModelKind::Gru]).contains(&"models.use".to_owned()));
    }
}
