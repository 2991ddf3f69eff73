//! Extents: how long a dimension is. A number, a bounded name, or a monomial of them: `64`, `N`, `256/mp`, `4*H`.
//!
//! Monomials are closed under what passes do to shapes (multiply when merging, divide when sharding), compare
//! structurally and print canonically, so a type is equal to another exactly when its text is.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Values of names (symbols such as `N`, mesh axes such as `mp`) in one run.
pub type Bindings = BTreeMap<String, u64>;

/// `factor` times the product of names raised to whole powers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Extent {
    factor: u64,
    powers: BTreeMap<String, i32>,
}

impl Extent {
    /// A plain number.
    pub fn number(factor: u64) -> Extent {
        Extent { factor, powers: BTreeMap::new() }
    }

    /// A name on its own.
    pub fn symbol(name: &str) -> Extent {
        Extent { factor: 1, powers: BTreeMap::from([(name.to_owned(), 1)]) }
    }

    /// The number, when no name takes part.
    pub fn as_number(&self) -> Option<u64> {
        self.powers.is_empty().then_some(self.factor)
    }

    /// The names that take part.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.powers.keys().map(String::as_str)
    }

    /// The names divided by: the mesh axes over which this extent is a slice.
    pub fn divisors(&self) -> impl Iterator<Item = &str> {
        self.powers.iter().filter(|(_, power)| **power < 0).map(|(name, _)| name.as_str())
    }

    /// `self * other`; a factor beyond 64 bits stays at the largest number, which no allocation accepts.
    pub fn times(&self, other: &Extent) -> Extent {
        let mut powers = self.powers.clone();
        for (name, power) in &other.powers {
            *powers.entry(name.clone()).or_insert(0) += power;
        }
        powers.retain(|_, power| *power != 0);
        Extent { factor: self.factor.saturating_mul(other.factor), powers }
    }

    /// `self + other`, when both are multiples of the same names.
    pub fn plus(&self, other: &Extent) -> Option<Extent> {
        let factor = self.factor.saturating_add(other.factor);
        (self.powers == other.powers).then(|| Extent { factor, powers: self.powers.clone() })
    }

    /// Whether it is zero, whatever names stand for.
    pub fn is_zero(&self) -> bool {
        self.factor == 0
    }

    /// `self / name`, as sharding over a mesh axis does.
    pub fn over(&self, name: &str) -> Extent {
        let mut powers = self.powers.clone();
        *powers.entry(name.to_owned()).or_insert(0) -= 1;
        powers.retain(|_, power| *power != 0);
        Extent { factor: self.factor, powers }
    }

    /// The same extent where a name stands for `factor` times itself: `N/mp` becomes `2*N/mp`.
    #[must_use]
    pub fn scaled(&self, name: &str, factor: u64) -> Extent {
        let power = self.powers.get(name).map_or(0, |power| (*power).max(0) as u32);
        Extent { factor: self.factor.saturating_mul(factor.saturating_pow(power)), powers: self.powers.clone() }
    }

    /// The one name without a value, and the value that makes this extent `value`, where there is exactly one such.
    pub fn solve(&self, value: u64, bindings: &Bindings) -> Option<(&str, u64)> {
        let mut open = self.powers.iter().filter(|(name, _)| !bindings.contains_key(*name));
        let (name, 1) = open.next()? else { return None };
        if open.next().is_some() {
            return None;
        }
        let mut rest = bindings.clone();
        rest.insert(name.clone(), 1);
        let flipped = self.powers.iter().map(|(name, power)| (name.clone(), -power)).collect();
        let inverse = Extent { factor: value, powers: flipped }.eval(&rest).ok()?;
        (inverse % self.factor.max(1) == 0).then_some((name, inverse / self.factor.max(1)))
    }

    /// The extent that is left when some names have these values.
    ///
    /// # Errors
    /// A division that leaves a remainder, or one by a number of what is none.
    pub fn bound(&self, bindings: &Bindings) -> Result<Extent, ExtentError> {
        let (known, open) = self.powers.clone().into_iter().partition(|(name, _)| bindings.contains_key(name));
        let factor = Extent { factor: self.factor, powers: known }.eval(bindings);
        Ok(Extent { factor: factor.map_err(|error| error.of(self))?, powers: open })
    }

    /// The number this extent is when names have these values.
    ///
    /// # Errors
    /// A name without a value, or a division that leaves a remainder.
    pub fn eval(&self, bindings: &Bindings) -> Result<u64, ExtentError> {
        let (mut above, mut below) = (self.factor, 1);
        for (name, &power) in &self.powers {
            let value = *bindings.get(name).ok_or_else(|| ExtentError::Unbound(name.clone()))?;
            let side = if power > 0 { &mut above } else { &mut below };
            for _ in 0..power.unsigned_abs() {
                *side = side.checked_mul(value).ok_or_else(|| ExtentError::Overflow(self.clone()))?;
            }
        }
        if below == 0 || above % below != 0 {
            return Err(ExtentError::Remainder { extent: self.clone(), above, below });
        }
        Ok(above / below)
    }
}

/// Why an extent has no value.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ExtentError {
    /// The name has no value in this run.
    #[error("extent `{0}` has no value here")]
    Unbound(String),
    /// Sharding that does not come out even.
    #[error("extent `{extent}` does not divide: {above} / {below}")]
    Remainder {
        /// The extent.
        extent: Extent,
        /// Its numerator.
        above: u64,
        /// Its denominator.
        below: u64,
    },
    /// More than 64 bits.
    #[error("extent `{0}` is larger than 64 bits hold")]
    Overflow(Extent),
    /// Not of the form `2*N/mp`.
    #[error("`{0}` is no extent (write a number, a name, or a product such as 2*N/mp)")]
    Text(String),
}

impl ExtentError {
    /// The same error, about the whole of which it was found in a part.
    fn of(self, whole: &Extent) -> ExtentError {
        match self {
            ExtentError::Remainder { above, below, .. } => {
                ExtentError::Remainder { extent: whole.clone(), above, below }
            }
            other => other,
        }
    }
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let above = self.powers.iter().filter(|(_, power)| **power > 0);
        let mut separator = "";
        if self.factor != 1 || above.clone().next().is_none() {
            write!(f, "{}", self.factor)?;
            separator = "*";
        }
        for (name, power) in above {
            for _ in 0..*power {
                write!(f, "{separator}{name}")?;
                separator = "*";
            }
        }
        for (name, power) in self.powers.iter().filter(|(_, power)| **power < 0) {
            for _ in 0..power.unsigned_abs() {
                write!(f, "/{name}")?;
            }
        }
        Ok(())
    }
}

impl FromStr for Extent {
    type Err = ExtentError;

    fn from_str(text: &str) -> Result<Extent, ExtentError> {
        let wrong = || ExtentError::Text(text.to_owned());
        let mut extent = Extent::number(1);
        let mut divided = text.split('/');
        for factor in divided.next().ok_or_else(wrong)?.split('*') {
            match factor.parse::<u64>() {
                Ok(number) => extent.factor = extent.factor.checked_mul(number).ok_or_else(wrong)?,
                Err(_) if is_name(factor) => *extent.powers.entry(factor.to_owned()).or_insert(0) += 1,
                Err(_) => return Err(wrong()),
            }
        }
        for name in divided {
            if !is_name(name) {
                return Err(wrong());
            }
            *extent.powers.entry(name.to_owned()).or_insert(0) -= 1;
        }
        extent.powers.retain(|_, power| *power != 0);
        Ok(extent)
    }
}

/// Whether the text is a letter followed by letters, digits and underscores.
fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

impl From<u64> for Extent {
    fn from(number: u64) -> Extent {
        Extent::number(number)
    }
}

impl From<&str> for Extent {
    fn from(name: &str) -> Extent {
        Extent::symbol(name)
    }
}

/// A number where there is one to read, else the text form.
impl Serialize for Extent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.as_number() {
            Some(number) if serializer.is_human_readable() => serializer.serialize_u64(number),
            _ => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Extent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Extent, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(u64),
            Text(String),
        }
        let written = if deserializer.is_human_readable() {
            Written::deserialize(deserializer)?
        } else {
            Written::Text(String::deserialize(deserializer)?)
        };
        match written {
            Written::Number(number) => Ok(Extent::number(number)),
            Written::Text(text) => text.parse().map_err(D::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_what_it_parses() {
        for text in ["64", "N", "256/mp", "4*H", "2*N*N/dp/mp", "1/mp"] {
            assert_eq!(text.parse::<Extent>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn many_names_take_time_in_proportion() {
        let names: Vec<String> = (0..100_000).map(|i| format!("a{i}")).collect();
        assert_eq!(names.join("*").parse::<Extent>().unwrap().names().count(), 100_000);
        assert_eq!("2*N/N".parse::<Extent>().unwrap(), Extent::number(2));
    }

    #[test]
    fn refuses_other_sums() {
        for text in ["", "N+1", "2/3", "*N", "N/", "-1", "18446744073709551615*2"] {
            assert!(text.parse::<Extent>().is_err(), "{text}");
        }
    }

    #[test]
    fn solves_for_the_one_open_name() {
        let bindings = Bindings::from([("mp".to_owned(), 3)]);
        let solve = |text: &str, value| {
            let extent = text.parse::<Extent>().unwrap();
            extent.solve(value, &bindings).map(|(name, value)| (name.to_owned(), value))
        };
        assert_eq!(solve("2*N/mp", 4), Some(("N".to_owned(), 6)));
        assert_eq!(solve("N", 5), Some(("N".to_owned(), 5)));
        assert_eq!([solve("2*N", 3), solve("N*N", 4), solve("N*S", 4), solve("64/mp", 4)], [None, None, None, None]);
    }

    #[test]
    fn some_names_become_numbers() {
        let bindings = Bindings::from([("mp".to_owned(), 3), ("dp".to_owned(), 2)]);
        let bound = |text: &str| text.parse::<Extent>().unwrap().bound(&bindings).map(|extent| extent.to_string());
        assert_eq!(bound("6*N/mp"), Ok("2*N".to_owned()));
        assert_eq!(
            [bound("7*N"), bound("12/mp/dp"), bound("mp*N")],
            ["7*N", "2", "3*N"].map(|text| Ok(text.to_owned()))
        );
        assert!(bound("4*N/mp").unwrap_err().to_string().contains("`4*N/mp` does not divide: 4 / 3"));
    }

    #[test]
    fn names_can_stand_for_multiples() {
        let scaled = |text: &str| text.parse::<Extent>().unwrap().scaled("N", 3).to_string();
        assert_eq!(["N", "2*N*N/mp", "S", "4/N"].map(scaled), ["3*N", "18*N*N/mp", "S", "4/N"]);
    }

    #[test]
    fn evaluates_exactly_or_says_why() {
        let bindings = Bindings::from([("mp".to_owned(), 3), ("N".to_owned(), 6)]);
        let eval = |text: &str| text.parse::<Extent>().unwrap().eval(&bindings);
        assert_eq!(eval("2*N/mp"), Ok(4));
        assert!(matches!(eval("256/mp"), Err(ExtentError::Remainder { above: 256, below: 3, .. })));
        assert!(matches!(eval("S"), Err(ExtentError::Unbound(_))));
    }
}
