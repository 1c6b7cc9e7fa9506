//! Appends to the log of one stage without slowing it down.
//!
//! Bytes are collected up to the size of a frame. A short log is compressed where it is flushed;
//! once a log fills a frame, a thread of its own compresses and writes while the caller goes on,
//! over a short channel of buffers that are used again: the memory is bounded, and a stage that
//! is faster than the disk waits for it. A stage that prints nothing leaves no file.
//!
//! What was written but not flushed is lost if the process is killed.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use super::error;
use super::frame::{self, HEADER, Header, LARGEST, Place};
use super::lock;
use crate::ports::store::{LogWriter, StoreError};

/// Frames on their way to the thread.
const QUEUED: usize = 8;

/// An index entry is written about so often, in bytes of the log or of its file.
const INDEX_EVERY: u64 = 1 << 20;

/// How much time is spent on making a frame small, by how many frames wait behind it.
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
    fn with(waiting: usize) -> Self {
        match waiting {
            0 => Self::Relaxed,
            _ if waiting <= QUEUED / 3 => Self::Hurried,
            _ => Self::None,
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
    sink: Sink,
}

enum Sink {
    Here(Appender),
    Thread(Thread),
    Failed(StoreError),
}

struct Thread {
    jobs: SyncSender<Job>,
    spare: Receiver<Vec<u8>>,
    shared: Arc<Shared>,
    handle: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    queued: AtomicUsize,
    failure: OnceLock<StoreError>,
}

enum Job {
    Frame(Vec<u8>),
    Flush(SyncSender<()>),
    End,
}

impl FrameWriter {
    /// A writer that appends to the log at `path` (without extension). Touches nothing yet.
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            buffer: Vec::new(),
            sink: Sink::Here(Appender::new(path)),
        }
    }

    /// Hands a full buffer to the thread, which is started if there is none.
    fn submit(&mut self) -> Result<(), StoreError> {
        let full = std::mem::take(&mut self.buffer);
        match &mut self.sink {
            Sink::Failed(error) => return Err(error.clone()),
            Sink::Thread(thread) => self.buffer = thread.send(full)?,
            Sink::Here(appender) => {
                let appender = std::mem::replace(appender, Appender::new(PathBuf::new()));
                let thread = Thread::start(appender).map_err(|error| self.fail(error))?;
                self.buffer = thread.send(full)?;
                self.sink = Sink::Thread(thread);
            }
        }
        Ok(())
    }

    fn fail(&mut self, error: StoreError) -> StoreError {
        self.sink = Sink::Failed(error.clone());
        error
    }
}

impl LogWriter for FrameWriter {
    fn write(&mut self, mut bytes: &[u8]) -> Result<(), StoreError> {
        match &self.sink {
            Sink::Failed(error) => return Err(error.clone()),
            Sink::Thread(thread) => thread.check()?,
            Sink::Here(_) => {}
        }
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

    fn flush(&mut self) -> Result<(), StoreError> {
        match &mut self.sink {
            Sink::Failed(error) => Err(error.clone()),
            Sink::Here(_) if self.buffer.is_empty() => Ok(()),
            Sink::Here(appender) => {
                let result = appender.append(&self.buffer, Effort::Relaxed);
                self.buffer.clear();
                result.map_err(|error| self.fail(error))
            }
            Sink::Thread(thread) => {
                if !self.buffer.is_empty() {
                    self.buffer = thread.send(std::mem::take(&mut self.buffer))?;
                }
                thread.flush()
            }
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
        let (give_back, spare) = sync_channel(QUEUED + 2);
        let seen = Arc::clone(&shared);
        let path = appender.path.clone();
        let work = move || {
            // Ends with the order to, or when the writer is gone.
            for job in inbox {
                match job {
                    Job::Frame(mut buffer) => {
                        let waiting = seen.queued.fetch_sub(1, Ordering::Relaxed) - 1;
                        let effort = Effort::with(waiting);
                        if seen.failure.get().is_none()
                            && let Err(error) = appender.append(&buffer, effort)
                        {
                            let _ = seen.failure.set(error);
                        }
                        buffer.clear();
                        let _ = give_back.try_send(buffer);
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
            spare,
            shared,
            handle: Some(handle),
        })
    }

    /// Passes a buffer on, waiting for room, and returns an empty one.
    fn send(&self, buffer: Vec<u8>) -> Result<Vec<u8>, StoreError> {
        self.check()?;
        self.shared.queued.fetch_add(1, Ordering::Relaxed);
        self.jobs
            .send(Job::Frame(buffer))
            .map_err(|_| self.gone())?;
        Ok(self
            .spare
            .try_recv()
            .unwrap_or_else(|_| Vec::with_capacity(LARGEST)))
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
    /// Header and compressed bytes, kept for its capacity.
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
        let room =
            HEADER + zstd::zstd_safe::compress_bound(plain.len()).max(frame::stored(plain.len()));
        if self.packed.len() < room {
            self.packed.resize(room, 0);
        }
        let target = &mut self.packed[HEADER..];
        let packed = if effort == Effort::None {
            frame::store(plain, target)
        } else {
            if open.level != effort.level() {
                open.compressor.set_compression_level(effort.level())?;
                open.level = effort.level();
            }
            open.compressor.compress_to_buffer(plain, target)?
        };
        let narrow = |number: usize| u32::try_from(number).map_err(io::Error::other);
        let header = Header {
            start: open.next.start,
            size: narrow(plain.len())?,
            packed: narrow(packed)?,
        };
        self.packed[..HEADER].copy_from_slice(&header.encode());
        let bytes = &self.packed[..HEADER + packed];
        if let Err(cause) = open.data.write_all_at(bytes, open.next.place) {
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

/// Whether a frame's bytes are what they were.
fn is_sound(data: &File, place: Place, header: Header) -> io::Result<bool> {
    let mut packed = vec![0; header.packed as usize];
    data.read_exact_at(&mut packed, place.place + HEADER as u64)?;
    Ok(zstd::bulk::decompress(&packed, LARGEST)
        .is_ok_and(|plain| plain.len() == header.size as usize))
}
