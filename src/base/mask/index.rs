//! Finds every occurrence of thousands of byte strings at memory speed.
//!
//! An automaton over thousands of patterns misses the cache at almost every byte of a log. So
//! each pattern is represented by four neighbouring windows of four bytes, those least likely in
//! a log: of any four neighbours in a text one stands at a multiple of four, so only every fourth
//! window of the text has to be looked at. It goes through a bitmap that stays in the cache; the
//! few that pass are looked up and compared. Patterns too short for four windows have a table of
//! their own, and a third one of first windows tells what may be the beginning of a pattern.

use std::collections::{BTreeSet, HashMap};

/// Bytes of a window; no pattern is shorter.
const WINDOW: usize = 4;

/// Places from one window that is looked at to the next.
const STRIDE: usize = 4;

/// Bits of a window's hash; the bitmap has as many bits as there are hashes.
const HASH_BITS: u32 = 20;

/// Words of the bitmap.
const WORDS: usize = 1 << (HASH_BITS - 6);

/// How many windows of a pattern are considered as its representative.
const CONSIDERED: usize = 48;

/// Patterns, compiled for searching.
pub(super) struct Index {
    patterns: Vec<Box<[u8]>>,
    longest: usize,
    /// Four windows of every pattern that has so many; looked at in every fourth place.
    sparse: Table<STRIDE>,
    /// The rarest window of every shorter pattern, if there is any; looked at everywhere.
    dense: Option<Table<1>>,
    starts: Table<1>,
    /// Which bytes stand in any pattern.
    alphabet: Box<[bool; 256]>,
    /// Beginnings of one to three bytes, sorted; see [`packed`].
    short_starts: Vec<u32>,
}

impl Index {
    /// Compiles patterns of at least four bytes each.
    pub(super) fn new(patterns: BTreeSet<Vec<u8>>) -> Self {
        let patterns: Vec<Box<[u8]>> = patterns
            .into_iter()
            .filter(|pattern| pattern.len() >= WINDOW)
            .map(Vec::into_boxed_slice)
            .collect();
        let mut sparse = Vec::with_capacity(patterns.len() * STRIDE);
        let mut dense = Vec::new();
        let mut starts = Vec::with_capacity(patterns.len());
        let mut short_starts = BTreeSet::new();
        let mut alphabet = Box::new([false; 256]);
        let mut taken = HashMap::new();
        for (number, pattern) in (0u32..).zip(&patterns) {
            let entry = |offset: usize| Entry {
                key: window(pattern, offset),
                pattern: number,
                offset: offset as u32,
            };
            if pattern.len() >= WINDOW + STRIDE - 1 {
                let offset = rarest(pattern, STRIDE, &mut taken);
                sparse.extend((offset..offset + STRIDE).map(entry));
            } else {
                dense.push(entry(rarest(pattern, 1, &mut taken)));
            }
            for byte in pattern.iter() {
                alphabet[usize::from(*byte)] = true;
            }
            starts.push(entry(0));
            short_starts.extend((1..WINDOW).map(|length| packed(&pattern[..length])));
        }
        Self {
            longest: patterns
                .iter()
                .map(|pattern| pattern.len())
                .max()
                .unwrap_or(0),
            patterns,
            sparse: Table::new(sparse),
            dense: (!dense.is_empty()).then(|| Table::new(dense)),
            starts: Table::new(starts),
            alphabet,
            short_starts: short_starts.into_iter().collect(),
        }
    }

    /// How many patterns there are.
    pub(super) fn len(&self) -> usize {
        self.patterns.len()
    }

    /// Whether any pattern occurs.
    pub(super) fn finds(&self, text: &[u8]) -> bool {
        let mut found = false;
        self.occurrences(text, |_, _| {
            found = true;
            false
        });
        found
    }

    /// Appends start and end of every occurrence of every pattern, in no order.
    pub(super) fn find_all(&self, text: &[u8], found: &mut Vec<(usize, usize)>) {
        self.occurrences(text, |start, end| {
            found.push((start, end));
            true
        });
    }

    /// The first place from which on `text` is an incomplete beginning of a pattern; its length
    /// if there is none.
    pub(super) fn hold_from(&self, text: &[u8]) -> usize {
        let mut from = (text.len() + 1).saturating_sub(self.longest.max(1));
        // Mostly a newline, right at the end: then there is nothing to look for.
        let foreign = |byte: &u8| !self.alphabet[usize::from(*byte)];
        if let Some(at) = text[from..].iter().rposition(foreign) {
            from += at + 1;
        }
        let mut held = None;
        self.starts.scan(&text[from..], |at, key| {
            let rest = &text[from + at..];
            let begins = self.starts.with_key(key).any(|entry| {
                let pattern = &self.patterns[entry.pattern as usize];
                pattern.len() > rest.len() && pattern.starts_with(rest)
            });
            if begins {
                held = Some(from + at);
            }
            !begins
        });
        held.unwrap_or_else(|| {
            (text.len().saturating_sub(WINDOW - 1).max(from)..text.len())
                .find(|at| {
                    self.short_starts
                        .binary_search(&packed(&text[*at..]))
                        .is_ok()
                })
                .unwrap_or(text.len())
        })
    }

    /// Calls `each` with every occurrence until it says stop.
    fn occurrences(&self, text: &[u8], mut each: impl FnMut(usize, usize) -> bool) {
        if let Some(dense) = &self.dense {
            self.confirmed(dense, text, &mut each);
        }
        self.confirmed(&self.sparse, text, &mut each);
    }

    fn confirmed<const EVERY: usize>(
        &self,
        table: &Table<EVERY>,
        text: &[u8],
        each: &mut impl FnMut(usize, usize) -> bool,
    ) {
        table.scan(text, |at, key| {
            for entry in table.with_key(key) {
                let pattern = &self.patterns[entry.pattern as usize];
                if let Some(start) = at.checked_sub(entry.offset as usize)
                    && text[start..].starts_with(pattern)
                    && !each(start, start + pattern.len())
                {
                    return false;
                }
            }
            true
        });
    }
}

/// Where a window stands in a pattern.
#[derive(Clone, Copy)]
struct Entry {
    key: u32,
    pattern: u32,
    offset: u32,
}

/// Windows with a bitmap before them, looked for at every multiple of `EVERY`.
struct Table<const EVERY: usize> {
    bitmap: Box<[u64; WORDS]>,
    /// Sorted by the hash of their keys.
    entries: Vec<Entry>,
    /// Where the entries of each bucket of hashes begin, and one end.
    buckets: Vec<u32>,
    shift: u32,
}

impl<const EVERY: usize> Table<EVERY> {
    fn new(mut entries: Vec<Entry>) -> Self {
        let mut bitmap = Box::new([0; WORDS]);
        for entry in &entries {
            let hash = hash(entry.key);
            bitmap[hash >> 6] |= 1 << (hash & 63);
        }
        entries.sort_unstable_by_key(|entry| (hash(entry.key), entry.key));
        // About one bucket per entry.
        let bits = (usize::BITS - entries.len().leading_zeros()).clamp(1, HASH_BITS);
        let shift = HASH_BITS - bits;
        let mut buckets = Vec::with_capacity((1 << bits) + 1);
        let mut at = 0;
        for bucket in 0..=1usize << bits {
            while at < entries.len() && hash(entries[at].key) >> shift < bucket {
                at += 1;
            }
            buckets.push(u32::try_from(at).unwrap_or(u32::MAX));
        }
        Self {
            bitmap,
            entries,
            buckets,
            shift,
        }
    }

    fn with_key(&self, key: u32) -> impl Iterator<Item = &Entry> {
        let bucket = hash(key) >> self.shift;
        let range = self.buckets[bucket] as usize..self.buckets[bucket + 1] as usize;
        self.entries[range]
            .iter()
            .filter(move |entry| entry.key == key)
    }

    fn may_have(&self, key: u32) -> u32 {
        let hash = hash(key);
        ((self.bitmap[hash >> 6] >> (hash & 63)) & 1) as u32
    }

    /// Calls `each` with the place and the window of everything that passes the bitmap, in
    /// order, until it says stop.
    fn scan(&self, text: &[u8], mut each: impl FnMut(usize, u32) -> bool) {
        /// Windows one branch decides about.
        const GROUP: usize = 8;
        let mut at = 0;
        while let Some(group) = text.get(at..at + (GROUP - 1) * EVERY + WINDOW) {
            let mut hits = 0;
            for k in 0..GROUP {
                hits |= self.may_have(window(group, k * EVERY)) << k;
            }
            while hits != 0 {
                let place = at + hits.trailing_zeros() as usize * EVERY;
                if !each(place, window(text, place)) {
                    return;
                }
                hits &= hits - 1;
            }
            at += GROUP * EVERY;
        }
        while at + WINDOW <= text.len() {
            let key = window(text, at);
            if self.may_have(key) != 0 && !each(at, key) {
                return;
            }
            at += EVERY;
        }
    }
}

fn hash(key: u32) -> usize {
    (key.wrapping_mul(0x9E37_79B1) >> (32 - HASH_BITS)) as usize
}

fn window(text: &[u8], at: usize) -> u32 {
    let bytes = text[at..at + WINDOW].try_into();
    u32::from_le_bytes(bytes.expect("the slice has four bytes"))
}

/// Up to three bytes and their number in one word.
fn packed(bytes: &[u8]) -> u32 {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX) << 24;
    bytes
        .iter()
        .rev()
        .fold(0, |word, byte| word << 8 | u32::from(*byte))
        | length
}

/// Where in a pattern the `count` neighbouring windows begin that are least likely in a log and
/// shared with the fewest other patterns; takes them.
fn rarest(pattern: &[u8], count: usize, taken: &mut HashMap<u32, u32>) -> usize {
    let costs: Vec<u32> = pattern
        .windows(WINDOW)
        .take(CONSIDERED)
        .map(|bytes| {
            let common: u32 = bytes.iter().map(|byte| commonness(*byte)).sum();
            // Runs of one character (rulers, zeros) are everywhere.
            let run = bytes.windows(2).filter(|pair| pair[0] == pair[1]).count() as u32;
            let shared = taken.get(&window(bytes, 0)).copied().unwrap_or(0);
            common + run * run * 8 + shared.min(64) * 8
        })
        .collect();
    let best = costs
        .windows(count)
        .enumerate()
        .min_by_key(|(_, costs)| costs.iter().sum::<u32>())
        .map_or(0, |(offset, _)| offset);
    for offset in best..best + count {
        *taken.entry(window(pattern, offset)).or_default() += 1;
    }
    best
}

/// How common a byte is in logs, roughly.
fn commonness(byte: u8) -> u32 {
    match byte {
        b' ' | b'e' | b't' | b'a' | b'o' | b'i' | b'n' | b's' | b'r' => 9,
        b'a'..=b'z' | b'0' | b'1' | b'\n' => 7,
        b'2'..=b'9' | b'/' | b'.' | b':' | b'-' | b'_' | b'=' | b'"' => 6,
        b'A'..=b'Z' => 4,
        b'\t' | b'!'..=b'~' => 3,
        _ => 1,
    }
}
