//! A value that is given, or derived from the data's size.

use std::fmt::{self, Display};
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, IntoDeserializer, Visitor};
use serde::{Serialize, Serializer};

/// What a derived value is called in a file.
const WORD: &str = "auto";

/// `"auto"`, or a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Auto<T> {
    #[default]
    Derived,
    Given(T),
}

impl<T: Copy> Auto<T> {
    pub fn given(self) -> Option<T> {
        match self {
            Auto::Derived => None,
            Auto::Given(value) => Some(value),
        }
    }

    pub fn or(self, derived: T) -> T {
        self.given().unwrap_or(derived)
    }
}

impl<T: Serialize> Serialize for Auto<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Auto::Derived => serializer.serialize_str(WORD),
            Auto::Given(value) => value.serialize(serializer),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Auto<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WordOrNumber(PhantomData))
    }
}

struct WordOrNumber<T>(PhantomData<T>);

impl<T> WordOrNumber<T> {
    fn number<'de, N, E: Error>(number: N) -> Result<Auto<T>, E>
    where
        T: Deserialize<'de>,
        N: IntoDeserializer<'de, E>,
    {
        T::deserialize(number.into_deserializer()).map(Auto::Given)
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for WordOrNumber<T> {
    type Value = Auto<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "a number or \"{WORD}\"")
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<Auto<T>, E> {
        match word {
            WORD => Ok(Auto::Derived),
            _ => Err(E::invalid_value(serde::de::Unexpected::Str(word), &self)),
        }
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Auto<T>, E> {
        Self::number(number)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Auto<T>, E> {
        Self::number(number)
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Auto<T>, E> {
        Self::number(number)
    }
}

impl<T: Display> Display for Auto<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Auto::Derived => formatter.write_str(WORD),
            Auto::Given(value) => value.fmt(formatter),
        }
    }
}

impl<T: JsonSchema> JsonSchema for Auto<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("Auto_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let number = T::json_schema(generator);
        json_schema!({ "anyOf": [{ "type": "string", "const": WORD }, number] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Both {
        whole: Auto<usize>,
        real: Auto<f64>,
    }

    #[track_caller]
    fn check(text: &str, expected: Option<Both>) {
        let found = toml::from_str::<Both>(text).ok();
        assert_eq!(found, expected, "{text}");
        if let Some(both) = found {
            let written = toml::to_string(&both).expect("plain values");
            assert_eq!(toml::from_str::<Both>(&written).ok(), Some(both), "{written}");
        }
    }

    #[test]
    fn words_and_numbers() {
        let both = |whole, real| Some(Both { whole, real });
        check("whole = 3\nreal = 0.5", both(Auto::Given(3), Auto::Given(0.5)));
        check("whole = \"auto\"\nreal = \"auto\"", both(Auto::Derived, Auto::Derived));
        check("whole = 3\nreal = 2", both(Auto::Given(3), Auto::Given(2.0)));
        check("whole = -3\nreal = 2", None);
        check("whole = 0.5\nreal = 2", None);
        check("whole = \"otto\"\nreal = 2", None);
        check("whole = true\nreal = 2", None);
    }
}
