//! Appends to the log of one stage without slowing it down.
//!
//! Bytes are collected up to the size of a frame. A short log is compressed where it is flushed;
//! once a log fills a frame, a thread of its own compresses and writes while the caller goes on,
//! over a short channel of buffers that are used again: the memory is bounded, and a stage that
//! is faster than the disk waits for it. Large pieces that may be kept become frames of their own
//! and are not copied. A stage that prints nothing leaves no file.
//!
//! What was written but not flushed is lost if the process is killed.

use std::borrow::Cow;
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Instant;

use bytes::Bytes;

use super::error;
use super::frame::{self, HEADER, Header, LARGEST, Place};
use super::lock;
use crate::adapters::buffers::Buffers;
use crate::ports::store::{LogWriter, StoreError};

/// Frames on their way to the thread.
const QUEUED: usize = 8;

/// A piece that may be kept and has so many bytes is a frame of its own.
const LARGE: usize = LARGEST / 2;

/// An index entry is written about so often, in bytes of the log or of its file.
const INDEX_EVERY: u64 = 1 << 20;

/// Bytes a stage may print in a second before its log is kept as it is: compressing would then take
/// a processor that the stage itself, or another one, has use for.
const FLOOD: u128 = 100_000_000;

/// How much time is spent on making a frame small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effort {
    /// The log leaves time.
    Relaxed,
    /// More is coming.
    Hurried,
    /// The log comes faster than it can be compressed: kept as it is, so that a stage that
    /// prints a gigabyte is not slowed below the speed of the disk.
    None,
}

impl Effort {
    /// By how many frames wait behind this one, and whether the log comes as a flood.
    fn with(waiting: usize, flood: bool) -> Self {
        match waiting {
            _ if flood || waiting > QUEUED / 3 => Self::None,
            0 => Self::Relaxed,
            _ => Self::Hurried,
        }
    }

    /// The level of zstd.
    fn level(self) -> i32 {
        match self {
            Self::Relaxed => 1,
            Self::Hurried | Self::None => -5,
        }
    }
}

/// The writer of one stage's log.
pub(super) struct FrameWriter {
    buffer: Vec<u8>,
    buffers: Buffers,
    sink: Sink,
}

enum Sink {
    Here(Appender),
    Thread(Thread),
    Failed(StoreError),
}

struct Thread {
    jobs: SyncSender<Job>,
    /// When the last frame was taken off the writer's hands.
    free_since: Option<Instant>,
    shared: Arc<Shared>,
    handle: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    queued: AtomicUsize,
    failure: OnceLock<StoreError>,
}

enum Job {
    Frame { bytes: Bytes, flood: bool },
    Flush(SyncSender<()>),
    End,
}

impl FrameWriter {
    /// A writer that appends to the log at `path` (without extension). Touches nothing yet.
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            buffer: Vec::new(),
            buffers: Buffers::new(LARGEST),
            sink: Sink::Here(Appender::new(path)),
        }
    }

    /// Hands what was collected to the thread.
    fn submit(&mut self) -> Result<(), StoreError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let full = std::mem::replace(&mut self.buffer, self.buffers.take());
        let full = self.buffers.share(full);
        self.send(full)
    }

    /// Hands a frame to the thread, which is started if there is none.
    fn send(&mut self, frame: Bytes) -> Result<(), StoreError> {
        if let Sink::Here(appender) = &mut self.sink {
            let appender = std::mem::replace(appender, Appender::new(PathBuf::new()));
            let thread = Thread::start(appender).map_err(|error| self.fail(error))?;
            self.sink = Sink::Thread(thread);
        }
        match &mut self.sink {
            Sink::Thread(thread) => thread.send(frame),
            Sink::Failed(error) => Err(error.clone()),
            Sink::Here(_) => unreachable!("the thread was just started"),
        }
    }

    fn check(&self) -> Result<(), StoreError> {
        match &self.sink {
            Sink::Failed(error) => Err(error.clone()),
            Sink::Thread(thread) => thread.check(),
            Sink::Here(_) => Ok(()),
        }
    }

    fn fail(&mut self, error: StoreError) -> StoreError {
        self.sink = Sink::Failed(error.clone());
        error
    }
}

impl LogWriter for FrameWriter {
    fn write(&mut self, mut bytes: &[u8]) -> Result<(), StoreError> {
        self.check()?;
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(LARGEST - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
            if self.buffer.len() == LARGEST {
                self.submit()?;
            }
        }
        Ok(())
    }

    fn write_shared(&mut self, bytes: &Bytes) -> Result<(), StoreError> {
        if bytes.len() < LARGE {
            return self.write(bytes);
        }
        self.check()?;
        self.submit()?;
        let mut rest = bytes.clone();
        while rest.len() >= LARGE {
            let frame = rest.split_to(rest.len().min(LARGEST));
            self.send(frame)?;
        }
        self.write(&rest)
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        match &self.sink {
            Sink::Failed(_) | Sink::Here(_) => {}
            Sink::Thread(_) => self.submit()?,
        }
        match &mut self.sink {
            Sink::Failed(error) => Err(error.clone()),
            Sink::Here(_) if self.buffer.is_empty() => Ok(()),
            Sink::Here(appender) => {
                let result = appender.append(&self.buffer, Effort::Relaxed);
                self.buffer.clear();
                result.map_err(|error| self.fail(error))
            }
            Sink::Thread(thread) => thread.flush(),
        }
    }
}

impl Drop for FrameWriter {
    fn drop(&mut self) {
        // The caller flushes if it wants to know; here it can only be tried.
        let _ = self.flush();
    }
}

impl Thread {
    fn start(mut appender: Appender) -> Result<Self, StoreError> {
        let shared = Arc::new(Shared::default());
        let (jobs, inbox) = sync_channel(QUEUED);
        let seen = Arc::clone(&shared);
        let path = appender.path.clone();
        let work = move || {
            // Ends with the order to, or when the writer is gone.
            for job in inbox {
                match job {
                    Job::Frame { bytes, flood } => {
                        let waiting = seen.queued.fetch_sub(1, Ordering::Relaxed) - 1;
                        let effort = Effort::with(waiting, flood);
                        if seen.failure.get().is_none()
                            && let Err(error) = appender.append(&bytes, effort)
                        {
                            let _ = seen.failure.set(error);
                        }
                    }
                    Job::Flush(done) => {
                        let _ = done.send(());
                    }
                    Job::End => break,
                }
            }
        };
        let handle = std::thread::Builder::new()
            .name("pipewright-log".to_owned())
            .spawn(work)
            .map_err(|cause| error::io(&path, &cause))?;
        Ok(Self {
            jobs,
            free_since: None,
            shared,
            handle: Some(handle),
        })
    }

    /// Passes a frame on, waiting for room.
    fn send(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.check()?;
        // Time spent waiting for room tells nothing about the stage and does not count.
        let flood = self.free_since.is_some_and(|since| {
            bytes.len() as u128 * 1_000_000_000 > FLOOD * since.elapsed().as_nanos()
        });
        self.shared.queued.fetch_add(1, Ordering::Relaxed);
        let sent = self.jobs.send(Job::Frame { bytes, flood });
        sent.map_err(|_| self.gone())?;
        self.free_since = Some(Instant::now());
        Ok(())
    }

    /// Waits until everything sent so far is in the file.
    fn flush(&self) -> Result<(), StoreError> {
        let (done, wait) = sync_channel(1);
        self.jobs.send(Job::Flush(done)).map_err(|_| self.gone())?;
        wait.recv().map_err(|_| self.gone())?;
        self.check()
    }

    fn check(&self) -> Result<(), StoreError> {
        self.shared.failure.get().cloned().map_or(Ok(()), Err)
    }

    fn gone(&self) -> StoreError {
        StoreError::Broken("the thread that writes a log is gone".to_owned())
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        let _ = self.jobs.send(Job::End);
        if let Some(handle) = self.handle.take() {
            let _ = handle.join();
        }
    }
}

/// Compresses frames and appends them to the file, which is made with the first one.
struct Appender {
    path: PathBuf,
    open: Option<Open>,
    /// Compressed bytes, kept for its capacity.
    packed: Vec<u8>,
}

struct Open {
    data: File,
    index: Option<File>,
    compressor: zstd::bulk::Compressor<'static>,
    level: i32,
    /// Where the next frame goes.
    next: Place,
    /// The last indexed place.
    indexed: Place,
}

impl Appender {
    fn new(path: PathBuf) -> Self {
        Self {
            path,
            open: None,
            packed: Vec::new(),
        }
    }

    /// Appends one frame. After an error the file ends where it ended before.
    fn append(&mut self, plain: &[u8], effort: Effort) -> Result<(), StoreError> {
        for plain in plain.chunks(LARGEST) {
            let data_path = frame::data_path(&self.path);
            if self.open.is_none()
                && let Some(dir) = self.path.parent()
            {
                lock::private_dir(dir)?;
            }
            self.append_frame(plain, effort)
                .map_err(|cause| error::io(&data_path, &cause))?;
        }
        Ok(())
    }

    fn append_frame(&mut self, plain: &[u8], effort: Effort) -> io::Result<()> {
        let open = match &mut self.open {
            Some(open) => open,
            none => none.insert(Open::at(&self.path)?),
        };
        let narrow = |number: usize| u32::try_from(number).map_err(io::Error::other);
        let mut header = Header {
            start: open.next.start,
            size: narrow(plain.len())?,
            packed: 0,
        };
        let pieces = if effort == Effort::None {
            frame::store(plain)
        } else {
            let room = zstd::zstd_safe::compress_bound(plain.len());
            if self.packed.len() < room {
                self.packed.resize(room, 0);
            }
            if open.level != effort.level() {
                open.compressor.set_compression_level(effort.level())?;
                open.level = effort.level();
            }
            let packed = open
                .compressor
                .compress_to_buffer(plain, &mut self.packed[..])?;
            vec![Cow::Borrowed(&self.packed[..packed])]
        };
        header.packed = narrow(pieces.iter().map(|piece| piece.len()).sum())?;
        if let Err(cause) = write_pieces(&mut open.data, open.next.place, header, &pieces) {
            // Nothing of a failed write is kept.
            let _ = open.data.set_len(open.next.place);
            return Err(cause);
        }
        open.remember(&self.path);
        open.next = Place {
            start: header.end(),
            place: open.next.place + header.whole(),
        };
        Ok(())
    }
}

impl Open {
    /// Opens a log for appending and drops the torn end that a crash may have left.
    fn at(log: &Path) -> io::Result<Self> {
        let data = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(frame::data_path(log))?;
        let length = data.metadata()?.len();
        let indexed = frame::nearest(log, &data, length, u64::MAX);
        let mut next = indexed;
        let mut last = None;
        while let Some(header) = Header::at(&data, next.place, length)? {
            if header.start != next.start {
                break;
            }
            last = Some((next, header));
            next = Place {
                start: header.end(),
                place: next.place + header.whole(),
            };
        }
        if let Some((place, header)) = last
            && !is_sound(&data, place, header)?
        {
            // After a loss of power a file may have its length but not its bytes.
            next = place;
        }
        if next.place != length {
            data.set_len(next.place)?;
        }
        let level = Effort::Relaxed.level();
        let mut compressor = zstd::bulk::Compressor::new(level)?;
        compressor.include_checksum(true)?;
        Ok(Self {
            data,
            index: None,
            compressor,
            level,
            next,
            indexed,
        })
    }

    /// Notes the frame that was just written in the index if it is time to. The index is a hint:
    /// a failure to write it costs readers time, nothing else.
    fn remember(&mut self, log: &Path) {
        let now = self.next;
        if now.start - self.indexed.start < INDEX_EVERY
            && now.place - self.indexed.place < INDEX_EVERY
        {
            return;
        }
        if self.index.is_none() {
            self.index = frame::open_index(log, self.indexed).ok();
        }
        self.indexed = now;
        if let Some(index) = &mut self.index
            && index.write_all(&now.encode()).is_err()
        {
            self.index = None;
        }
    }
}

/// Writes a frame behind its header, in as few calls as the system needs.
fn write_pieces(
    data: &mut File,
    place: u64,
    header: Header,
    pieces: &[Cow<'_, [u8]>],
) -> io::Result<()> {
    let header = header.encode();
    let mut slices: Vec<IoSlice<'_>> = std::iter::once(&header[..])
        .chain(pieces.iter().map(|piece| &**piece))
        .map(IoSlice::new)
        .collect();
    let mut rest = &mut slices[..];
    data.seek(SeekFrom::Start(place))?;
    while !rest.is_empty() {
        match data.write_vectored(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut rest, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether a frame's bytes are what they were.
fn is_sound(data: &File, place: Place, header: Header) -> io::Result<bool> {
    let mut packed = vec![0; header.packed as usize];
    data.read_exact_at(&mut packed, place.place + HEADER as u64)?;
    Ok(zstd::bulk::decompress(&packed, LARGEST)
        .is_ok_and(|plain| plain.len() == header.size as usize))
}
