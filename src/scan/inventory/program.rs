//! Executables: finds out while one streams by whether it says what it was built from.
//!
//! Programs may be larger than what we want to hold. A small one is kept whole. Of a large one the
//! beginning and the end are kept, where the tables are, and the list that `cargo auditable` adds;
//! what Go writes lies in the middle and is looked for as the bytes pass.

use memchr::memmem;
use object::{BinaryFormat, Object as _, ObjectKind, ObjectSection as _, ReadRef};

use super::contents::Contents;
use super::{cargo, go};

/// Largest program that is kept whole, and most that is kept of the end of a larger one, in bytes.
const KEPT: usize = 16 << 20;
/// What is kept of the beginning of a larger one.
const HEAD: usize = 1 << 20;
/// What of Go's information may matter.
const WINDOW: usize = go::LONGEST + 1024;

/// What a program is called that tells nothing.
pub(super) const NAMELESS: &str = "programs that no package manager knows";

/// An executable that streams by.
#[derive(Debug)]
pub struct Program {
    length: u64,
    /// Bytes seen so far.
    seen: u64,
    /// The beginning, or all of it.
    head: Vec<u8>,
    /// The end of a large one, with more before it until it is cut.
    tail: Vec<u8>,
    /// From Go's magic on, of a large one.
    window: Vec<u8>,
    go: Option<go::Info>,
}

impl Program {
    /// A program of a length, if these first bytes of a file are those of one.
    pub fn begins(start: &[u8], length: u64) -> Option<Self> {
        let known = match start {
            [0x7f, b'E', b'L', b'F', ..] | [b'M', b'Z', ..] => true,
            [0xfe, 0xed, 0xfa, 0xce | 0xcf, ..] | [0xce | 0xcf, 0xfa, 0xed, 0xfe, ..] => true,
            // Several programs in one; class files of Java begin alike, but count higher.
            [0xca, 0xfe, 0xba, 0xbe, 0, 0, 0, count, ..] => *count < 20,
            _ => false,
        };
        known.then(|| Self {
            length,
            seen: 0,
            head: Vec::new(),
            tail: Vec::new(),
            window: Vec::new(),
            go: None,
        })
    }

    fn is_large(&self) -> bool {
        self.length > KEPT as u64
    }

    /// Takes the next bytes, from the first one on.
    pub fn take(&mut self, bytes: &[u8]) {
        self.seen += bytes.len() as u64;
        if !self.is_large() {
            self.head.extend_from_slice(bytes);
            return;
        }
        let room = HEAD.saturating_sub(self.head.len()).min(bytes.len());
        self.head.extend_from_slice(&bytes[..room]);
        self.look_for_go(bytes);
        self.tail.extend_from_slice(bytes);
        if self.tail.len() >= 2 * KEPT {
            self.tail.drain(..self.tail.len() - KEPT);
        }
    }

    fn look_for_go(&mut self, bytes: &[u8]) {
        if self.go.is_some() {
            return;
        }
        if self.window.is_empty() {
            // The magic may lie across two pieces.
            let before = &self.tail[self.tail.len().saturating_sub(go::MAGIC.len() - 1)..];
            let seam = [before, &bytes[..bytes.len().min(go::MAGIC.len() - 1)]].concat();
            if let Some(at) = memmem::find(&seam, go::MAGIC) {
                self.window.extend_from_slice(&before[at..]);
                self.window.extend_from_slice(bytes);
            } else if let Some(at) = memmem::find(bytes, go::MAGIC) {
                self.window.extend_from_slice(&bytes[at..]);
            }
        } else {
            self.window.extend_from_slice(bytes);
        }
        while self.window.len() >= WINDOW {
            self.try_window();
        }
    }

    /// Looks whether the window holds Go's information, else moves it on to the next magic.
    fn try_window(&mut self) {
        self.go = go::parse(&self.window);
        if self.go.is_some() {
            self.window = Vec::new();
            return;
        }
        let next = memmem::find(self.window.get(1..).unwrap_or_default(), go::MAGIC);
        match next {
            Some(at) => drop(self.window.drain(..=at)),
            None => {
                // The beginning of a magic may be at its end; the tail has it, too.
                self.window.clear();
            }
        }
    }

    /// What it says about itself. None if it is no program after all.
    pub fn finish(mut self) -> Option<Contents> {
        while self.is_large() && self.go.is_none() && !self.window.is_empty() {
            self.try_window();
        }
        if self.is_large() {
            self.tail.drain(..self.tail.len().saturating_sub(KEPT));
        }
        let start = self.seen - self.tail.len() as u64;
        let parts = Parts {
            length: self.seen,
            head: &self.head,
            tail: &self.tail,
            start,
        };
        if self.head.starts_with(&[0xca, 0xfe, 0xba, 0xbe]) {
            return Some(Contents::unread(
                "programs for several processors in one file",
                "they are not read by this scanner",
            ));
        }
        let file = object::File::parse(&parts).ok();
        if !self.is_large() {
            let mut at = 0;
            while let (None, Some(found)) = (&self.go, memmem::find(&self.head[at..], go::MAGIC)) {
                self.go = go::parse(&self.head[at + found..]);
                at += found + 1;
            }
        }
        let go = self.go.take().map(|info| match (info, &file) {
            (go::Info::Inline(version, modules), _) => go::packages(&version, &modules),
            (
                go::Info::Pointers {
                    version,
                    modules,
                    wide,
                    big,
                },
                Some(file),
            ) => match go::follow(file, (version, modules), wide, big) {
                Some((version, modules)) => go::packages(&version, &modules),
                None => Contents::unread(
                    "Go modules",
                    "the program is damaged or too large to follow",
                ),
            },
            _ => Contents::default(),
        });
        if let Some(contents) = go.filter(|contents| !contents.is_empty()) {
            return Some(contents);
        }
        let Some(file) = file else {
            // Whose symbols reach further back than what is kept of it must not pass for empty.
            return self
                .is_large()
                .then(|| Contents::unread(NAMELESS, "the program is too large to find its parts"));
        };
        if let Some(section) = file.section_by_name(".dep-v0") {
            return Some(match section.data() {
                Ok(data) => cargo::read_section(data),
                Err(_) => Contents::unread(
                    "Rust crates",
                    "the program is damaged or too large to find their list",
                ),
            });
        }
        if file.section_by_name(".gopclntab").is_some()
            || file.section_by_name(".note.go.buildid").is_some()
        {
            return Some(Contents::unread(
                "Go modules",
                "the program was stripped of what it was built from",
            ));
        }
        let runs = match file.format() {
            BinaryFormat::Elf => file.kind() == ObjectKind::Executable || has_interpreter(&file),
            _ => false,
        };
        runs.then(|| Contents::unread(NAMELESS, "they do not say what they were built from"))
    }
}

/// Position-independent programs look like libraries, but name the loader that starts them.
fn has_interpreter<'data, R: ReadRef<'data>>(file: &object::File<'data, R>) -> bool {
    file.section_by_name(".interp").is_some()
}

/// Beginning and end of a file.
#[derive(Clone, Copy, Debug)]
struct Parts<'a> {
    length: u64,
    head: &'a [u8],
    tail: &'a [u8],
    /// Where the tail begins.
    start: u64,
}

impl<'a> ReadRef<'a> for &Parts<'a> {
    fn len(self) -> Result<u64, ()> {
        Ok(self.length)
    }

    fn read_bytes_at(self, offset: u64, size: u64) -> Result<&'a [u8], ()> {
        let within = |part: &'a [u8], start: u64| {
            let from = usize::try_from(offset.checked_sub(start)?).ok()?;
            let size = usize::try_from(size).ok()?;
            part.get(from..from.checked_add(size)?)
        };
        within(self.head, 0)
            .or_else(|| within(self.tail, self.start))
            .ok_or(())
    }

    fn read_bytes_at_until(
        self,
        range: std::ops::Range<u64>,
        delimiter: u8,
    ) -> Result<&'a [u8], ()> {
        let size = range.end.checked_sub(range.start).ok_or(())?;
        // Names are short; the range may reach beyond what is kept.
        let longest = size.min(4096);
        let bytes = (0..=12)
            .map(|half| longest >> half)
            .find_map(|size| self.read_bytes_at(range.start, size).ok())
            .ok_or(())?;
        let end = memchr::memchr(delimiter, bytes).ok_or(())?;
        Ok(&bytes[..end])
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::scan::inventory::go::tests::inline;

    /// A program of 64 bits with one section of its own.
    pub(in crate::scan::inventory) fn elf(name: &str, content: &[u8]) -> Vec<u8> {
        let names = [b"\0.shstrtab\0", name.as_bytes(), b"\0"].concat();
        let (at, names_at) = (64, 64 + content.len());
        let sections = names_at + names.len();
        let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
        bytes.resize(16, 0);
        for half in [2_u16, 62] {
            bytes.extend(half.to_le_bytes());
        }
        bytes.extend(1_u32.to_le_bytes());
        for word in [0, 0, sections as u64] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(0_u32.to_le_bytes());
        for half in [64_u16, 0, 0, 64, 3, 1] {
            bytes.extend(half.to_le_bytes());
        }
        bytes.extend_from_slice(content);
        bytes.extend_from_slice(&names);
        for (name, kind, offset, size) in [
            (0, 0, 0, 0),
            (1, 3, names_at, names.len()),
            (11, 1, at, content.len()),
        ] {
            bytes.extend(u32::to_le_bytes(name));
            bytes.extend(u32::to_le_bytes(kind));
            for word in [0, 0, offset as u64, size as u64, 0, 1, 0] {
                bytes.extend(word.to_le_bytes());
            }
        }
        bytes
    }

    fn names(contents: &Contents) -> Vec<&str> {
        contents
            .items
            .iter()
            .map(|item| item.name.as_str())
            .collect()
    }

    fn pass(bytes: &[u8], piece: usize) -> Option<Contents> {
        let mut program = Program::begins(bytes, bytes.len() as u64)?;
        for piece in bytes.chunks(piece) {
            program.take(piece);
        }
        program.finish()
    }

    #[test]
    fn go_is_found_in_small_and_large_programs() {
        let info = inline("go1.22.1", "path\tx\nmod\texample.com/x\tv1.0.0\n");
        for (before, after) in [
            (0, 0),
            (1000, 50),
            (20 << 20, 17 << 20),
            ((20 << 20) + 7, 100),
        ] {
            let mut bytes = b"\x7fELF".to_vec();
            bytes.resize(4 + before, 0);
            // A program that looks for the magic has it as text, too.
            bytes.extend_from_slice(go::MAGIC);
            bytes.extend_from_slice(b"not this one");
            bytes.extend_from_slice(&info);
            bytes.resize(bytes.len() + after, 0);
            for piece in [1009, 64 << 10] {
                let contents = pass(&bytes, piece).expect("it is a program");
                assert_eq!(
                    names(&contents),
                    ["example.com/x", "stdlib"],
                    "{before} {after}"
                );
            }
        }
    }

    #[test]
    fn scripts_and_classes_are_no_programs() {
        assert!(Program::begins(b"#!/bin/sh\n", 100).is_none());
        assert!(Program::begins(&[0xca, 0xfe, 0xba, 0xbe, 0, 0, 0, 61], 100).is_none());
        assert!(Program::begins(b"", 0).is_none());
        assert_eq!(pass(b"\x7fELF and nothing of the kind", 10), None);
    }

    #[test]
    fn a_list_of_crates_is_found_in_small_and_large_programs() {
        let list = cargo::tests::section(br#"{"packages":[{"name":"a","version":"1.0.0"}]}"#);
        let small = elf(".dep-v0", &list);
        let contents = pass(&small, 100).expect("it is a program");
        assert_eq!(names(&contents), ["a"]);
        // The same, with much between the beginning and the section.
        let mut large = small[..64].to_vec();
        large.resize(64 + (40 << 20), 1);
        large.extend_from_slice(&small[64..]);
        let moved = (40 << 20) as u64;
        let table = u64::from_le_bytes(small[40..48].try_into().expect("eight")) + moved;
        large[40..48].copy_from_slice(&table.to_le_bytes());
        for section in 1..3 {
            let field = table as usize + section * 64 + 24;
            let offset = u64::from_le_bytes(large[field..field + 8].try_into().expect("eight"));
            large[field..field + 8].copy_from_slice(&(offset + moved).to_le_bytes());
        }
        let contents = pass(&large, 64 << 10).expect("it is a program");
        assert_eq!(names(&contents), ["a"]);
    }

    #[test]
    fn what_was_stripped_is_told() {
        let contents = pass(&elf(".gopclntab", b"x"), 100).expect("it is a program");
        assert_eq!(contents.unread[0].what, "Go modules");
        let contents = pass(&elf(".dep-v0", b"x"), 100).expect("it is a program");
        assert_eq!(contents.unread[0].what, "Rust crates");
    }

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "it reads the program that runs it"
    )]
    fn our_own_tests_say_nothing_about_themselves() {
        let path = std::env::current_exe().expect("tests are a program");
        let bytes = std::fs::read(path).expect("it can be read");
        let contents = pass(&bytes, 1 << 20).expect("it is a program");
        assert_eq!(contents.unread[0].what, NAMELESS);
    }
}
