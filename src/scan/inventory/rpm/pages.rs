//! The little of SQLite's file format that reading one table from beginning to end takes.
//!
//! The database engine itself is not asked: a file of somebody else's image may be made to
//! harm it, and it wants a file on the disk. Pages are visited at most once each.

/// The pages of a database.
pub(super) struct Database<'a> {
    bytes: &'a [u8],
    page: usize,
    /// What of a page is used.
    usable: usize,
}

type Damage = &'static str;

/// Kinds of pages of tables.
const INTERIOR: u8 = 5;
const LEAF: u8 = 13;

impl<'a> Database<'a> {
    /// Checks the header of the file.
    pub(super) fn open(bytes: &'a [u8]) -> Result<Self, Damage> {
        let header = bytes.get(..100).ok_or("it is too short")?;
        if !header.starts_with(b"SQLite format 3\0") {
            return Err("it does not begin like one");
        }
        let page = match u16::from_be_bytes([header[16], header[17]]) {
            1 => 65536,
            size if size >= 512 && size.is_power_of_two() => usize::from(size),
            _ => return Err("its pages have no size that can be one"),
        };
        let usable = page - usize::from(header[20]);
        if usable < 480 {
            return Err("its pages have no room");
        }
        Ok(Self {
            bytes,
            page,
            usable,
        })
    }

    /// The first page of a table.
    pub(super) fn table(&self, name: &str) -> Result<u32, Damage> {
        let mut root = None;
        self.walk(1, 1 << 20, |record| {
            // type, name, tbl_name, rootpage, sql
            let mut columns = Record::parse(record)?;
            let kind = columns.next()?;
            let own = columns.next()?;
            let page = columns.nth(1)?;
            if kind.is_text(b"table") && own.is_text(name.as_bytes()) {
                root = u32::try_from(page.number()?).ok();
            }
            Some(())
        })?;
        root.ok_or("the table of packages is not there")
    }

    /// Hands out the second column of every row of a table, which is a blob. Longer ones than
    /// `longest` count as damage.
    pub(super) fn rows(
        &self,
        root: u32,
        longest: usize,
        mut each: impl FnMut(&[u8]),
    ) -> Result<(), Damage> {
        self.walk(root, longest, |record| {
            if let Some(blob) = Record::parse(record).and_then(|mut columns| columns.nth(1)) {
                each(blob.bytes);
            }
            Some(())
        })
    }

    /// Hands out the records of all leaves below a page.
    fn walk(
        &self,
        root: u32,
        longest: usize,
        mut each: impl FnMut(&[u8]) -> Option<()>,
    ) -> Result<(), Damage> {
        let pages = self.bytes.len().div_ceil(self.page);
        let mut visited = vec![false; pages + 1];
        let mut open = vec![root];
        while let Some(number) = open.pop() {
            self.visit(number, &mut visited)?;
            let page = self.page(number)?;
            // The first page begins with the header of the file.
            let start = if number == 1 { 100 } else { 0 };
            let kind = *page.get(start).ok_or("a page is too short")?;
            let count = usize::from(short(page, start + 3)?);
            let cells = match kind {
                INTERIOR => start + 12,
                LEAF => start + 8,
                _ => return Err("a page is none of a table"),
            };
            if kind == INTERIOR {
                open.push(long(page, start + 8)?);
            }
            for index in 0..count {
                let at = usize::from(short(page, cells + 2 * index)?);
                if kind == INTERIOR {
                    open.push(long(page, at)?);
                } else {
                    let cell = page.get(at..).ok_or("a row lies outside of its page")?;
                    let _ = each(&self.record(cell, longest, &mut visited)?);
                }
            }
            // Hostile pages may name the same ones over and over.
            if open.len() > pages + 1 {
                return Err("its pages form no tree");
            }
        }
        Ok(())
    }

    /// The record of a leaf's cell, with what of it lies on further pages.
    fn record(&self, cell: &[u8], longest: usize, visited: &mut [bool]) -> Result<Vec<u8>, Damage> {
        let mut rest = cell;
        let size = varint(&mut rest).ok_or("a row is cut off")?;
        let _row = varint(&mut rest).ok_or("a row is cut off")?;
        let size = usize::try_from(size).map_err(|_| "a row is too long")?;
        if size > longest {
            return Err("a row is too long");
        }
        let here = self.local(size);
        let mut record = rest.get(..here).ok_or("a row is cut off")?.to_vec();
        if here < size {
            let mut next = long(rest, here)?;
            while record.len() < size {
                self.visit(next, visited)?;
                let page = self.page(next)?;
                let part = (size - record.len()).min(self.usable - 4);
                record.extend_from_slice(page.get(4..4 + part).ok_or("a row is cut off")?);
                next = long(page, 0)?;
            }
        }
        Ok(record)
    }

    /// How many bytes of a record of a size lie on its leaf.
    fn local(&self, size: usize) -> usize {
        let most = self.usable - 35;
        if size <= most {
            return size;
        }
        let least = (self.usable - 12) * 32 / 255 - 23;
        let ideal = least + (size - least) % (self.usable - 4);
        if ideal <= most { ideal } else { least }
    }

    fn visit(&self, number: u32, visited: &mut [bool]) -> Result<(), Damage> {
        let seen = usize::try_from(number)
            .ok()
            .filter(|number| *number > 0)
            .and_then(|number| visited.get_mut(number))
            .ok_or("it names a page that is not there")?;
        match std::mem::replace(seen, true) {
            true => Err("its pages form a circle"),
            false => Ok(()),
        }
    }

    fn page(&self, number: u32) -> Result<&'a [u8], Damage> {
        let index = usize::try_from(number)
            .ok()
            .and_then(|number| number.checked_sub(1));
        let start = index.and_then(|index| index.checked_mul(self.page));
        start
            .and_then(|start| self.bytes.get(start..start + self.page))
            .ok_or("it names a page that is not there")
    }
}

/// The columns of a record.
struct Record<'a> {
    types: &'a [u8],
    values: &'a [u8],
}

/// One column: its type and its bytes.
struct Column<'a> {
    kind: u64,
    bytes: &'a [u8],
}

impl<'a> Record<'a> {
    fn parse(record: &'a [u8]) -> Option<Self> {
        let mut rest = record;
        let length = usize::try_from(varint(&mut rest)?).ok()?;
        let begin = record.len() - rest.len();
        Some(Self {
            types: record.get(begin..length)?,
            values: &record[length..],
        })
    }
}

impl<'a> Iterator for Record<'a> {
    type Item = Column<'a>;

    fn next(&mut self) -> Option<Column<'a>> {
        let kind = varint(&mut self.types)?;
        let length = match kind {
            0 | 8 | 9 => 0,
            1..=4 => kind,
            5 => 6,
            6 | 7 => 8,
            10 | 11 => return None,
            kind => (kind - 12) / 2,
        };
        let (bytes, rest) = self
            .values
            .split_at_checked(usize::try_from(length).ok()?)?;
        self.values = rest;
        Some(Column { kind, bytes })
    }
}

impl Column<'_> {
    fn is_text(&self, text: &[u8]) -> bool {
        self.kind >= 13 && self.kind % 2 == 1 && self.bytes == text
    }

    fn number(&self) -> Option<u64> {
        match self.kind {
            1..=6 => Some(
                self.bytes
                    .iter()
                    .fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
            ),
            8 => Some(0),
            9 => Some(1),
            _ => None,
        }
    }
}

/// A number of up to nine bytes, seven bits each, the last one with eight.
fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for index in 0..9 {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        if index == 8 {
            return Some(number << 8 | u64::from(*byte));
        }
        number = number << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn short(bytes: &[u8], at: usize) -> Result<u16, Damage> {
    let bytes = bytes.get(at..at + 2).ok_or("a page is cut off")?;
    Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
}

fn long(bytes: &[u8], at: usize) -> Result<u32, Damage> {
    let bytes = bytes.get(at..at + 4).ok_or("a page is cut off")?;
    Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A database of SQLite's own making, with these blobs.
    #[expect(clippy::disallowed_methods, reason = "SQLite writes into a file")]
    pub(in super::super) fn database(page: u32, blobs: &[Vec<u8>]) -> Vec<u8> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let sqlite = rusqlite::Connection::open(file.path()).expect("it opens");
        sqlite
            .execute_batch(&format!(
                "PRAGMA page_size = {page}; PRAGMA synchronous = off; CREATE TABLE other (a TEXT); \
                 CREATE TABLE 'Packages' (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL); \
                 CREATE INDEX names ON other (a); BEGIN;"
            ))
            .expect("it takes the tables");
        for blob in blobs {
            sqlite
                .execute("INSERT INTO Packages (blob) VALUES (?1)", [blob])
                .expect("it takes a row");
        }
        sqlite.execute_batch("COMMIT").expect("it keeps them");
        drop(sqlite);
        std::fs::read(file.path()).expect("it can be read")
    }

    fn sized(page: u32, lengths: &[usize]) -> Vec<u8> {
        let blob = |length: &usize| (0..*length).map(|at| (at % 251) as u8).collect();
        let blobs: Vec<Vec<u8>> = lengths.iter().map(blob).collect();
        database(page, &blobs)
    }

    fn lengths(bytes: &[u8]) -> Result<Vec<usize>, Damage> {
        let database = Database::open(bytes)?;
        let table = database.table("Packages")?;
        let mut found = Vec::new();
        database.rows(table, 1 << 20, |blob| {
            let valid = |(at, byte): (usize, &u8)| *byte == (at % 251) as u8;
            assert!(blob.iter().enumerate().all(valid));
            found.push(blob.len());
        })?;
        found.sort_unstable();
        Ok(found)
    }

    #[test]
    fn rows_of_all_lengths_are_those_sqlite_wrote() {
        for page in [512, 4096, 65536] {
            let mut expected: Vec<usize> = (0..300).map(|at| at * 7).collect();
            expected.extend([4061, 4062, 5000, 70_000, 300_000]);
            let bytes = sized(page, &expected);
            expected.sort_unstable();
            assert_eq!(lengths(&bytes), Ok(expected));
        }
    }

    #[test]
    fn damage_is_told() {
        let whole = sized(512, &[100; 200]);
        assert!(lengths(&whole[..whole.len() / 2]).is_err());
        assert_eq!(lengths(&sized(512, &[2 << 20])), Err("a row is too long"));
        // The root of the tree leads to itself.
        let mut circle = whole;
        let root = Database::open(&circle).and_then(|db| db.table("Packages"));
        let root = root.expect("it has one");
        let at = (root as usize - 1) * 512 + 8;
        circle[at..at + 4].copy_from_slice(&root.to_be_bytes());
        assert_eq!(lengths(&circle), Err("its pages form a circle"));
    }
}
