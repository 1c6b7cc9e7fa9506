//! A package's header as rpm keeps it: an index of tags, then the data they point into.

/// A tag that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tag {
    Name = 1000,
    Version = 1001,
    Release = 1002,
    Epoch = 1003,
    License = 1014,
    Arch = 1022,
    SourceRpm = 1044,
    DirIndexes = 1116,
    BaseNames = 1117,
    DirNames = 1118,
}

/// Types of entries that are read.
const INT32: u32 = 4;
const TEXT: u32 = 6;
const TEXTS: u32 = 8;
const TEXT_BY_LANGUAGE: u32 = 9;
/// Longest text of a tag that is read.
const LONGEST: usize = 4096;

/// A header. Nothing of it is copied.
pub(super) struct Header<'a> {
    index: &'a [u8],
    data: &'a [u8],
}

/// Where the values of a tag are.
struct Entry<'a> {
    kind: u32,
    count: usize,
    data: &'a [u8],
}

impl<'a> Header<'a> {
    /// Takes the header apart: the number of tags, the length of the data, tags, data.
    pub(super) fn parse(blob: &'a [u8]) -> Option<Self> {
        let tags = usize::try_from(number(blob, 0)?).ok()?;
        let length = usize::try_from(number(blob, 4)?).ok()?;
        let (index, data) = blob[8..].split_at_checked(tags.checked_mul(16)?)?;
        Some(Self {
            index,
            data: data.get(..length)?,
        })
    }

    fn entry(&self, tag: Tag) -> Option<Entry<'a>> {
        let found = self
            .index
            .chunks_exact(16)
            .find(|entry| number(entry, 0) == Some(tag as u32))?;
        let offset = usize::try_from(number(found, 8)?).ok()?;
        Some(Entry {
            kind: number(found, 4)?,
            count: usize::try_from(number(found, 12)?).ok()?,
            data: self.data.get(offset..)?,
        })
    }

    /// The text of a tag.
    pub(super) fn text(&self, tag: Tag) -> Option<String> {
        let entry = self.entry(tag)?;
        if !matches!(entry.kind, TEXT | TEXTS | TEXT_BY_LANGUAGE) {
            return None;
        }
        let data = &entry.data[..entry.data.len().min(LONGEST)];
        let end = memchr::memchr(0, data)?;
        Some(String::from_utf8_lossy(&data[..end]).into_owned())
    }

    /// The texts of a tag.
    pub(super) fn texts(&self, tag: Tag) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let entry = self.entry(tag).filter(|entry| entry.kind == TEXTS);
        let (count, mut rest) = entry.map_or((0, &[][..]), |entry| (entry.count, entry.data));
        let mut left = count;
        std::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            let end = memchr::memchr(0, rest)?;
            let text = &rest[..end];
            rest = &rest[end + 1..];
            Some(text)
        })
    }

    /// The number of a tag.
    pub(super) fn number(&self, tag: Tag) -> Option<u32> {
        self.numbers(tag).next()
    }

    /// The numbers of a tag.
    pub(super) fn numbers(&self, tag: Tag) -> impl Iterator<Item = u32> + use<'a> {
        let entry = self.entry(tag).filter(|entry| entry.kind == INT32);
        let (count, data) = entry.map_or((0, &[][..]), |entry| (entry.count, entry.data));
        let numbers = data.chunks_exact(4).take(count);
        numbers.filter_map(|bytes| number(bytes, 0))
    }
}

/// The number at an offset.
fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    bytes.try_into().ok().map(u32::from_be_bytes)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The header of a package with two files.
    pub(in super::super) fn sample() -> Vec<u8> {
        let mut index = Vec::new();
        let mut data: Vec<u8> = Vec::new();
        let numbers = |numbers: &[u32]| {
            numbers
                .iter()
                .flat_map(|n| n.to_be_bytes())
                .collect::<Vec<u8>>()
        };
        for (tag, kind, count, bytes) in [
            (Tag::Name, TEXT, 1, b"bash\0".to_vec()),
            (Tag::Version, TEXT, 1, b"5.2\0".to_vec()),
            (Tag::Release, TEXT, 1, b"1\0".to_vec()),
            (Tag::Epoch, INT32, 1, numbers(&[2])),
            (Tag::License, TEXT_BY_LANGUAGE, 1, b"GPLv3+\0".to_vec()),
            (Tag::DirIndexes, INT32, 2, numbers(&[1, 0])),
            (Tag::BaseNames, TEXTS, 2, b"bash\0rc\0".to_vec()),
            (Tag::DirNames, TEXTS, 2, b"/etc/\0/bin/\0".to_vec()),
        ] {
            index.extend(numbers(&[tag as u32, kind, data.len() as u32, count]));
            data.extend(bytes);
        }
        let lengths = numbers(&[index.len() as u32 / 16, data.len() as u32]);
        [lengths, index, data].concat()
    }

    #[test]
    fn tags_point_into_the_data() {
        let blob = sample();
        let header = Header::parse(&blob).expect("it is one");
        assert_eq!(header.text(Tag::Name).as_deref(), Some("bash"));
        assert_eq!(header.number(Tag::Epoch), Some(2));
        assert_eq!(header.text(Tag::Epoch), None);
        assert_eq!(header.text(Tag::Arch), None);
        let names: Vec<&[u8]> = header.texts(Tag::DirNames).collect();
        assert_eq!(names, [&b"/etc/"[..], b"/bin/"]);
        assert!(Header::parse(&blob[..blob.len() - 1]).is_none());
        assert!(Header::parse(&[0xff; 100]).is_none());
        assert!(Header::parse(&[]).is_none());
    }
}
