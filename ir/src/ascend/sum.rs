//! Sums of extents: where something lies when a plan runs, `start*192+from*192`, and how long it is, `rows*context`.

use crate::extent::{Bindings, Extent, ExtentError};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;
use std::str::FromStr;

/// A sum of products of names. Two that are equal whatever names stand for are equal as text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Sum(Vec<Extent>);

/// Products in a sum that is read at all: views have a few.
const TERMS_MOST: usize = 64;

impl<'de> Deserialize<'de> for Sum {
    /// Added up anew, so that equal sums are equal however they were written.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Sum, D::Error> {
        let terms = Vec::<Extent>::deserialize(deserializer)?;
        if terms.len() > TERMS_MOST {
            return Err(D::Error::custom(format!("a sum of {} products, {TERMS_MOST} at most", terms.len())));
        }
        Ok(terms.iter().fold(Sum::default(), |sum, term| sum.plus(&Sum::from(term))))
    }
}

impl Sum {
    /// A number.
    pub fn number(value: u64) -> Sum {
        Sum::from(&Extent::number(value))
    }

    /// A name on its own.
    pub fn symbol(name: &str) -> Sum {
        Sum::from(&Extent::symbol(name))
    }

    /// The number, when no name takes part.
    pub fn as_number(&self) -> Option<u64> {
        match &self.0[..] {
            [] => Some(0),
            [extent] => extent.as_number(),
            _ => None,
        }
    }

    /// `self + other`
    #[must_use]
    pub fn plus(&self, other: &Sum) -> Sum {
        let mut terms = self.0.clone();
        for term in &other.0 {
            match terms.iter_mut().find_map(|known| known.plus(term).map(|sum| (known, sum))) {
                Some((known, sum)) => *known = sum,
                None => terms.push(term.clone()),
            }
        }
        terms.retain(|term| !term.is_zero());
        // Names first, the number last: `start*8+64`.
        terms.sort_by_key(|term| (term.as_number().is_some(), term.clone()));
        Sum(terms)
    }

    /// `self * other`
    #[must_use]
    pub fn times(&self, other: &Sum) -> Sum {
        let pairs = self.0.iter().flat_map(|a| other.0.iter().map(move |b| Sum::from(&a.times(b))));
        pairs.fold(Sum::default(), |sum, term| sum.plus(&term))
    }

    /// The number it is when names have these values.
    ///
    /// # Errors
    /// A name without a value, more than 64 bits.
    pub fn eval(&self, bindings: &Bindings) -> Result<u64, ExtentError> {
        let mut sum: u64 = 0;
        for term in &self.0 {
            sum = sum.checked_add(term.eval(bindings)?).ok_or_else(|| ExtentError::Overflow(term.clone()))?;
        }
        Ok(sum)
    }

    /// How many products are added.
    pub fn terms(&self) -> usize {
        self.0.len()
    }

    /// The names that take part.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().flat_map(Extent::names)
    }

    /// The product of several.
    pub fn product<'a>(sums: impl IntoIterator<Item = &'a Sum>) -> Sum {
        sums.into_iter().fold(Sum::number(1), |product, sum| product.times(sum))
    }
}

impl From<&Extent> for Sum {
    fn from(extent: &Extent) -> Sum {
        Sum(if extent.is_zero() { vec![] } else { vec![extent.clone()] })
    }
}

impl From<u64> for Sum {
    fn from(value: u64) -> Sum {
        Sum::number(value)
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("0");
        }
        for (i, term) in self.0.iter().enumerate() {
            write!(f, "{}{term}", if i == 0 { "" } else { "+" })?;
        }
        Ok(())
    }
}

impl FromStr for Sum {
    type Err = ExtentError;

    fn from_str(text: &str) -> Result<Sum, ExtentError> {
        text.split('+').try_fold(Sum::default(), |sum, term| Ok(sum.plus(&Sum::from(&term.parse::<Extent>()?))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_sums_have_equal_text() {
        let sum = |text: &str| text.parse::<Sum>().unwrap();
        assert_eq!(sum("from+start+2").times(&sum("8")), sum("16+8*start+8*from"));
        assert_eq!(sum("start+from").times(&sum("rows")).to_string(), "from*rows+rows*start");
        assert_eq!(sum("3*N+N").to_string(), "4*N");
        assert_eq!((sum("0").to_string(), sum("0*N+0").as_number()), ("0".to_owned(), Some(0)));
        let bindings = Bindings::from([("start".to_owned(), 3), ("from".to_owned(), 4)]);
        assert_eq!(sum("8*start+from+1").eval(&bindings), Ok(29));
    }
}
