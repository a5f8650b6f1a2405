//! Many short texts in one piece of memory.

use std::ops::Index;

/// A column of texts, one behind the other: as values of their own, memory would be taken and given
/// back for every cell. An empty text is a missing one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Texts {
    joined: String,
    ends: Vec<usize>,
}

impl Texts {
    /// Texts of some lengths in bytes, one behind the other; None where they do not lie so.
    pub(super) fn cut(joined: String, lengths: &[u32]) -> Option<Self> {
        let mut end = 0;
        let mut ends = Vec::with_capacity(lengths.len());
        for &length in lengths {
            end += length as usize;
            ends.push(joined.is_char_boundary(end).then_some(end)?);
        }
        (end == joined.len()).then_some(Texts { joined, ends })
    }

    pub(super) fn joined(&self) -> &str {
        &self.joined
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub fn clear(&mut self) {
        self.joined.clear();
        self.ends.clear();
    }

    pub fn push(&mut self, text: &str) {
        self.joined.push_str(text);
        self.ends.push(self.joined.len());
    }

    /// None if it is missing.
    pub fn get(&self, row: usize) -> Option<&str> {
        Some(&self[row]).filter(|text| !text.is_empty())
    }

    pub fn iter(&self) -> impl Iterator<Item = &str> + Clone {
        (0..self.len()).map(|row| &self[row])
    }
}

impl Index<usize> for Texts {
    type Output = str;

    fn index(&self, row: usize) -> &str {
        let start = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.joined[start..self.ends[row]]
    }
}

impl<'t> Extend<&'t str> for Texts {
    fn extend<I: IntoIterator<Item = &'t str>>(&mut self, texts: I) {
        texts.into_iter().for_each(|text| self.push(text));
    }
}

impl<'t> FromIterator<&'t str> for Texts {
    fn from_iter<I: IntoIterator<Item = &'t str>>(texts: I) -> Self {
        let mut all = Texts::default();
        all.extend(texts);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_come_back_as_they_were_pushed() {
        let mut texts = Texts::from_iter(["é", "", "no"]);
        texts.push("more");
        assert_eq!(texts.iter().collect::<Vec<_>>(), ["é", "", "no", "more"]);
        assert_eq!((texts.get(0), texts.get(1), texts.len()), (Some("é"), None, 4));
        assert_eq!(Texts::cut("énomore".into(), &[2, 0, 2, 4]), Some(texts));
    }

    #[test]
    fn no_length_is_believed() {
        for lengths in [&[1, 1][..], &[3], &[1], &[2, u32::MAX], &[]] {
            assert_eq!(Texts::cut("é".into(), lengths), None, "{lengths:?}");
        }
        assert_eq!(Texts::cut(String::new(), &[]), Some(Texts::default()));
    }
}
