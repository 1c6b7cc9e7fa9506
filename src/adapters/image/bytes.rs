//! Where the bytes of an image come from, in pieces that can be looked at and passed over.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::error::{ImageError, through};
use super::limits::Shared;

/// Bytes that are read at a time.
const PIECE: usize = 128 << 10;
/// Largest window of zstd that is accepted, as a power of two. `zstd -19` uses 23.
const WINDOW: u32 = 26;

/// A source of bytes, some of which can pass over many without reading them.
pub(super) trait Skip: Read {
    /// Passes over at most `count` bytes and tells how many; none if it has to read them.
    fn skip(&mut self, count: u64) -> io::Result<u64>;
}

impl<R: Skip + ?Sized> Skip for &mut R {
    fn skip(&mut self, count: u64) -> io::Result<u64> {
        (**self).skip(count)
    }
}

/// A part of a file. Several may be read at the same time.
#[derive(Clone, Debug)]
pub(super) struct Section {
    file: Arc<File>,
    at: u64,
    end: u64,
}

impl Section {
    /// All of a file.
    pub(super) fn whole(file: Arc<File>, path: &Path) -> Result<Self, ImageError> {
        let facts = file
            .metadata()
            .map_err(|error| ImageError::io(path, error))?;
        if !facts.is_file() {
            return Err(ImageError::damaged(
                path.display().to_string(),
                "it is no file",
            ));
        }
        Ok(Self {
            file,
            at: 0,
            end: facts.len(),
        })
    }

    /// A part of this part; None if it is not within.
    pub(super) fn part(&self, offset: u64, length: u64) -> Option<Self> {
        let at = self.at.checked_add(offset)?;
        let end = at.checked_add(length).filter(|end| *end <= self.end)?;
        let file = self.file.clone();
        Some(Self { file, at, end })
    }

    pub(super) fn length(&self) -> u64 {
        self.end - self.at
    }
}

impl Read for Section {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.length()).unwrap_or(usize::MAX);
        let most = most.min(into.len());
        let count = self.file.read_at(&mut into[..most], self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Skip for Section {
    fn skip(&mut self, count: u64) -> io::Result<u64> {
        let count = count.min(self.length());
        self.at += count;
        Ok(count)
    }
}

/// The pieces of an export, as the engine sends them.
pub(super) struct Chunks {
    receiver: mpsc::Receiver<Bytes>,
    piece: Bytes,
}

impl Chunks {
    pub(super) fn new(receiver: mpsc::Receiver<Bytes>) -> Self {
        Self {
            receiver,
            piece: Bytes::new(),
        }
    }

    /// Waits for the next piece if there is nothing left of this one. False at the end.
    fn wait(&mut self) -> bool {
        while self.piece.is_empty() {
            match self.receiver.blocking_recv() {
                Some(piece) => self.piece = piece,
                None => return false,
            }
        }
        true
    }
}

impl Read for Chunks {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if !self.wait() {
            return Ok(0);
        }
        let count = into.len().min(self.piece.len());
        into[..count].copy_from_slice(&self.piece.split_to(count));
        Ok(count)
    }
}

impl Skip for Chunks {
    fn skip(&mut self, count: u64) -> io::Result<u64> {
        if !self.wait() {
            return Ok(0);
        }
        let here = usize::try_from(count)
            .unwrap_or(usize::MAX)
            .min(self.piece.len());
        let _ = self.piece.split_to(here);
        Ok(here as u64)
    }
}

/// A source with a buffer that can be looked into. Notices cancellation.
pub(super) struct Buffered<'a, R> {
    inner: R,
    buffer: Vec<u8>,
    at: usize,
    end: usize,
    shared: &'a Shared,
}

impl<'a, R: Skip> Buffered<'a, R> {
    pub(super) fn new(inner: R, shared: &'a Shared) -> Self {
        Self {
            inner,
            buffer: vec![0; PIECE],
            at: 0,
            end: 0,
            shared,
        }
    }

    /// The bytes at hand, more if there are none; empty at the end.
    pub(super) fn fill(&mut self) -> io::Result<&[u8]> {
        if self.at == self.end {
            (self.at, self.end) = (0, 0);
            self.more()?;
        }
        Ok(&self.buffer[self.at..self.end])
    }

    fn more(&mut self) -> io::Result<usize> {
        self.shared.cancelled().map_err(through)?;
        loop {
            match self.inner.read(&mut self.buffer[self.end..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(count) => {
                    self.end += count;
                    return Ok(count);
                }
            }
        }
    }

    /// At least `count` bytes without taking them; fewer only at the end.
    pub(super) fn peek(&mut self, count: usize) -> io::Result<&[u8]> {
        if self.end - self.at < count {
            self.buffer.copy_within(self.at..self.end, 0);
            (self.at, self.end) = (0, self.end - self.at);
            while self.end < count && self.more()? > 0 {}
        }
        Ok(&self.buffer[self.at..self.end])
    }

    /// Takes bytes that `fill` or `peek` showed.
    pub(super) fn consume(&mut self, count: usize) {
        self.at += count.min(self.end - self.at);
    }

    /// Passes over bytes; an error if there are not as many.
    pub(super) fn pass(&mut self, count: u64) -> io::Result<()> {
        let here = count.min((self.end - self.at) as u64);
        self.at += here as usize;
        let mut left = count - here;
        while left > 0 {
            self.shared.cancelled().map_err(through)?;
            let skipped = self.inner.skip(left)?;
            left -= skipped;
            if skipped == 0 {
                let here = (self.fill()?.len() as u64).min(left);
                if here == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                self.consume(here as usize);
                left -= here;
            }
        }
        Ok(())
    }

    /// Takes `count` bytes in pieces, at most as many as there are.
    pub(super) fn each(&mut self, count: u64, mut take: impl FnMut(&[u8])) -> io::Result<()> {
        let mut left = count;
        while left > 0 {
            let piece = self.fill()?;
            if piece.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let here = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
            take(&piece[..here]);
            self.consume(here);
            left -= here as u64;
        }
        Ok(())
    }
}

impl<R: Skip> Read for Buffered<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let piece = self.fill()?;
        let count = piece.len().min(into.len());
        into[..count].copy_from_slice(&piece[..count]);
        self.consume(count);
        Ok(count)
    }
}

/// The next bytes of a source as a source of their own.
pub(super) struct Within<'a, 'b, R> {
    outer: &'a mut Buffered<'b, R>,
    pub(super) left: u64,
}

impl<'a, 'b, R: Skip> Within<'a, 'b, R> {
    pub(super) fn new(outer: &'a mut Buffered<'b, R>, length: u64) -> Self {
        Self {
            outer,
            left: length,
        }
    }
}

impl<R: Skip> Read for Within<'_, '_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(into.len());
        let count = self.outer.read(&mut into[..most])?;
        self.left -= count as u64;
        Ok(count)
    }
}

impl<R: Skip> Skip for Within<'_, '_, R> {
    fn skip(&mut self, count: u64) -> io::Result<u64> {
        let count = count.min(self.left);
        self.outer.pass(count)?;
        self.left -= count;
        Ok(count)
    }
}

/// Whether bytes begin like something compressed.
pub(super) fn is_compressed(start: &[u8]) -> bool {
    is_gzip(start) || is_zstd(start)
}

fn is_gzip(start: &[u8]) -> bool {
    start.starts_with(&[0x1f, 0x8b])
}

fn is_zstd(start: &[u8]) -> bool {
    // A frame, or one of those that are passed over.
    start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd])
        || matches!(start, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
}

/// A source with its bytes counted.
type Source<'a, R> = Buffered<'a, Counted<'a, R>>;
type Gzip<'a, R> = flate2::read::MultiGzDecoder<Source<'a, R>>;
type Zstd<'a, R> = zstd::Decoder<'static, io::BufReader<Source<'a, R>>>;

/// A source as it is, or unpacked.
pub(super) enum Unpacked<'a, R: Skip> {
    Plain(Source<'a, R>),
    Gzip(Box<Bomb<'a, Gzip<'a, R>>>),
    Zstd(Box<Bomb<'a, Zstd<'a, R>>>),
}

/// Unpacks a source if it begins like something compressed.
pub(super) fn unpacked<'a, R: Skip>(source: R, shared: &'a Shared) -> io::Result<Unpacked<'a, R>> {
    let packed = Arc::default();
    let counted = Counted {
        inner: source,
        count: Arc::clone(&packed),
        shared,
    };
    let mut source = Buffered::new(counted, shared);
    let start = source.peek(4)?;
    if is_gzip(start) {
        let inner = flate2::read::MultiGzDecoder::new(source);
        return Ok(Unpacked::Gzip(Box::new(Bomb::new(inner, packed, shared))));
    }
    if is_zstd(start) {
        let mut inner = zstd::Decoder::new(source)?;
        inner.window_log_max(WINDOW)?;
        return Ok(Unpacked::Zstd(Box::new(Bomb::new(inner, packed, shared))));
    }
    Ok(Unpacked::Plain(source))
}

impl<R: Skip> Read for Unpacked<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(source) => source.read(into),
            Self::Gzip(source) => source.read(into),
            Self::Zstd(source) => source.read(into),
        }
    }
}

impl<R: Skip> Skip for Unpacked<'_, R> {
    fn skip(&mut self, count: u64) -> io::Result<u64> {
        match self {
            Self::Plain(source) => source.pass(count).map(|()| count),
            Self::Gzip(_) | Self::Zstd(_) => Ok(0),
        }
    }
}

/// Counts what is taken of a source.
pub(super) struct Counted<'a, R> {
    inner: R,
    count: Arc<std::sync::atomic::AtomicU64>,
    shared: &'a Shared,
}

impl<R> Counted<'_, R> {
    fn add(&self, count: u64) {
        self.count
            .fetch_add(count, std::sync::atomic::Ordering::Relaxed);
        self.shared.took(count);
    }
}

impl<R: Skip> Read for Counted<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(into)?;
        self.add(count as u64);
        Ok(count)
    }
}

impl<R: Skip> Skip for Counted<'_, R> {
    fn skip(&mut self, count: u64) -> io::Result<u64> {
        let count = self.inner.skip(count)?;
        self.add(count);
        Ok(count)
    }
}

/// What is unpacked, as long as it is not out of all proportion.
pub(super) struct Bomb<'a, R> {
    inner: R,
    packed: Arc<std::sync::atomic::AtomicU64>,
    unpacked: u64,
    shared: &'a Shared,
}

impl<'a, R> Bomb<'a, R> {
    fn new(inner: R, packed: Arc<std::sync::atomic::AtomicU64>, shared: &'a Shared) -> Self {
        Self {
            inner,
            packed,
            unpacked: 0,
            shared,
        }
    }
}

impl<R: Read> Read for Bomb<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(into)?;
        self.unpacked += count as u64;
        let limits = self.shared.limits;
        let packed = self
            .packed
            .load(std::sync::atomic::Ordering::Relaxed)
            .max(1);
        if self.unpacked > limits.bomb && self.unpacked / packed > limits.ratio {
            let message = format!(
                "a layer unpacks to more than {} times its size",
                limits.ratio
            );
            return Err(through(ImageError::TooLarge(message)));
        }
        Ok(count)
    }
}
