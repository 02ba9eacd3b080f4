//! A fork-join pool for the inside of one engine step.
//!
//! A small model's matrix product takes tens of microseconds, so handing work to a sleeping thread would cost
//! more than the work. Workers therefore spin for a moment after each job and sleep only when none follows:
//! within a step they stay hot, between requests they use no CPU.

use std::{
    cell::UnsafeCell,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
};

/// Spins before a worker sleeps: about 100 microseconds, longer than any gap inside a step.
const SPINS_BEFORE_SLEEP: u32 = 10_000;
/// Spins between checks whether another thread needs this core more.
const SPINS_BEFORE_YIELD: u32 = 20_000;

/// Chunks of a thread's part of a job.
const CHUNKS: usize = 16;

/// Where a thread's part of a job goes on. In a cache line of its own (or two, which are fetched together): passing a line
/// between cores takes as long as a chunk.
#[derive(Default)]
#[repr(align(128))]
struct Part {
    next: AtomicUsize,
}

type Job = *const (dyn Fn(usize) + Sync);

/// Low bits of `Shared::state`: workers inside the current job.
const INSIDE: u64 = 0xffff;
/// The current job still takes workers in. The bits above count jobs.
const OPEN: u64 = 1 << 16;

struct Shared {
    /// Number of the job, whether it is open, and how many workers are inside, changed together.
    state: AtomicU64,
    job: UnsafeCell<Option<Job>>,
    panicked: AtomicBool,
    stop: AtomicBool,
    sleeping: AtomicUsize,
    lock: Mutex<()>,
    wake: Condvar,
    /// By thread.
    parts: Box<[Part]>,
}

// SAFETY: `job` is written only by `run` while the last job is closed and nobody is inside, before the store that opens
// the next one; workers read it only after they have entered that open job by an atomic exchange of `state`.
unsafe impl Sync for Shared {}
// SAFETY: as above; the raw pointer inside is only used under that protocol.
unsafe impl Send for Shared {}

/// `threads - 1` workers and the calling thread.
pub struct ThreadPool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

impl ThreadPool {
    /// A pool of `threads` in all, the caller counted in.
    pub fn new(threads: usize) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            job: UnsafeCell::new(None),
            panicked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            sleeping: AtomicUsize::new(0),
            lock: Mutex::new(()),
            wake: Condvar::new(),
            parts: (0..threads.max(1)).map(|_| Part::default()).collect(),
        });
        let mut pool = Self { shared, workers: Vec::new() };
        for index in 1..threads.max(1) {
            let shared = pool.shared.clone();
            let worker = std::thread::Builder::new()
                .name(format!("lacuna-worker-{index}"))
                .spawn(move || work(&shared, index))?;
            pool.workers.push(worker);
        }
        Ok(pool)
    }

    /// How many threads share a job, the caller counted in.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `body(index)` on the calling thread and on every worker that comes before the caller is through; returns
    /// when all that came have finished. A worker that the system keeps waiting is not waited for: beside a build,
    /// the caller then does the work itself. A panic in any of them is raised here.
    fn run(&mut self, body: &(dyn Fn(usize) + Sync)) {
        if self.workers.is_empty() {
            return body(0);
        }
        let shared = &*self.shared;
        // SAFETY: only the lifetime is erased, and this function does not return (not even by a panic of `body`)
        // before every worker inside has finished with the pointer. `&mut self` keeps a second `run` away.
        let job: Job = unsafe { std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), Job>(body) };
        // SAFETY: the last job is closed and nobody is inside, so nobody else touches the cell (`Sync for Shared`).
        unsafe { *shared.job.get() = Some(job) };
        let number = job_number(shared.state.load(Ordering::Relaxed)) + 1;
        shared.state.store((number * (OPEN << 1)) | OPEN, Ordering::SeqCst);
        if shared.sleeping.load(Ordering::SeqCst) > 0 {
            let _guard = shared.lock.lock().unwrap_or_else(PoisonError::into_inner);
            shared.wake.notify_all();
        }
        let own = catch_unwind(AssertUnwindSafe(|| body(0)));
        shared.state.fetch_and(!OPEN, Ordering::AcqRel);
        let mut spins = 0u32;
        while shared.state.load(Ordering::Acquire) & INSIDE > 0 {
            relax(&mut spins);
        }
        // Both may have panicked: the next job must not be blamed for this one.
        let worker_panicked = shared.panicked.swap(false, Ordering::AcqRel);
        if let Err(payload) = own {
            std::panic::resume_unwind(payload);
        }
        if worker_panicked {
            panic!("a worker thread of the engine panicked; its message is in the log");
        }
    }

    /// Splits `0..items` among the threads: each has a part of its own, which it takes in chunks, and then helps with what
    /// is left of the others', so that one slow core does not hold up all. The same items go to the same thread each
    /// time, so what they read may still be in its cache.
    pub fn run_chunked(&mut self, items: usize, body: &(dyn Fn(std::ops::Range<usize>) + Sync)) {
        let threads = self.threads();
        if threads == 1 || items <= 1 {
            return body(0..items);
        }
        let shared = self.shared.clone();
        let parts = &shared.parts;
        let start_of = |thread: usize| items * thread / threads;
        for (thread, part) in parts.iter().enumerate() {
            part.next.store(start_of(thread), Ordering::Relaxed);
        }
        let chunk = items.div_ceil(threads * CHUNKS);
        self.run(&|me| {
            for part in (me..me + threads).map(|thread| thread % threads) {
                let end = start_of(part + 1);
                loop {
                    let start = parts[part].next.fetch_add(chunk, Ordering::Relaxed);
                    if start >= end {
                        break;
                    }
                    body(start..end.min(start + chunk));
                }
            }
        });
    }

    /// As [`Self::run_chunked`], one item at a time, for few, large or unequal items: `body(thread, item, next)`.
    /// `next` is the item that the thread takes then, where that is known, so that it can ask for its memory.
    pub fn run_each(&mut self, items: usize, body: &(dyn Fn(usize, usize, Option<usize>) + Sync)) {
        let threads = self.threads();
        if threads == 1 || items <= 1 {
            return (0..items).for_each(|item| body(0, item, Some(item + 1).filter(|next| *next < items)));
        }
        let cursor = AtomicUsize::new(0);
        let take = || Some(cursor.fetch_add(1, Ordering::Relaxed)).filter(|item| *item < items);
        self.run(&|thread| {
            let mut item = take();
            while let Some(now) = item {
                // The last ones are left to whoever is free first: not every thread need be awake.
                let is_enough = cursor.load(Ordering::Relaxed) + threads <= items;
                let next = is_enough.then(take).flatten();
                body(thread, now, next);
                item = next.or_else(take);
            }
        });
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        {
            let _guard = self.shared.lock.lock().unwrap_or_else(PoisonError::into_inner);
            self.shared.wake.notify_all();
        }
        for worker in self.workers.drain(..) {
            let _ = worker.join();
        }
    }
}

fn relax(spins: &mut u32) {
    *spins += 1;
    if spins.is_multiple_of(SPINS_BEFORE_YIELD) {
        std::thread::yield_now();
    } else {
        std::hint::spin_loop();
    }
}

/// Lets the calling thread give way to others: the engine would otherwise take every core from the server's threads
/// and the editor while it computes. Only a little, or a build beside it would starve it.
#[cfg(target_os = "linux")]
pub fn give_way() {
    // SAFETY: no memory is involved. On Linux, 0 means the calling thread alone, whose niceness anybody may raise.
    unsafe {
        let niceness = libc::getpriority(libc::PRIO_PROCESS, 0);
        libc::setpriority(libc::PRIO_PROCESS, 0, niceness + 1);
    }
}

#[cfg(not(target_os = "linux"))]
pub fn give_way() {}

fn work(shared: &Shared, index: usize) {
    give_way();
    let mut seen = 0;
    loop {
        let mut spins = 0;
        let mut state = shared.state.load(Ordering::Acquire);
        while job_number(state) == seen {
            if shared.stop.load(Ordering::Relaxed) {
                return;
            }
            if spins >= SPINS_BEFORE_SLEEP {
                sleep(shared, seen);
                spins = 0;
            }
            relax(&mut spins);
            state = shared.state.load(Ordering::Acquire);
        }
        seen = job_number(state);
        if enter(shared, seen) {
            // SAFETY: we are inside, so `run` wrote the cell before and does not touch it until we leave.
            if let Some(job) = unsafe { *shared.job.get() } {
                // SAFETY: `run` keeps the closure alive until nobody is inside.
                let body = unsafe { &*job };
                if catch_unwind(AssertUnwindSafe(|| body(index))).is_err() {
                    shared.panicked.store(true, Ordering::Release);
                }
            }
            shared.state.fetch_sub(1, Ordering::Release);
        }
    }
}

fn job_number(state: u64) -> u64 {
    state / (OPEN << 1)
}

/// Joins a job, unless it has been closed meanwhile.
fn enter(shared: &Shared, number: u64) -> bool {
    let mut state = shared.state.load(Ordering::Acquire);
    while job_number(state) == number && state & OPEN > 0 {
        match shared.state.compare_exchange_weak(state, state + 1, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return true,
            Err(current) => state = current,
        }
    }
    false
}

fn sleep(shared: &Shared, seen: u64) {
    let mut guard = shared.lock.lock().unwrap_or_else(PoisonError::into_inner);
    shared.sleeping.fetch_add(1, Ordering::SeqCst);
    // `run` changes the number before it looks at `sleeping`, so either we see the new one here or it sees us.
    while job_number(shared.state.load(Ordering::SeqCst)) == seen && !shared.stop.load(Ordering::SeqCst) {
        guard = shared.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
    }
    shared.sleeping.fetch_sub(1, Ordering::SeqCst);
}

/// Physical cores that this process may use: the right number of threads for memory-bound work.
pub fn default_threads() -> usize {
    let available = std::thread::available_parallelism().map_or(1, usize::from);
    physical_cores().map_or(available, |cores| cores.min(available)).max(1)
}

#[cfg(target_os = "linux")]
fn physical_cores() -> Option<usize> {
    let mut siblings = std::collections::HashSet::new();
    for entry in std::fs::read_dir("/sys/devices/system/cpu").ok()?.flatten() {
        let topology = entry.path().join("topology/thread_siblings_list");
        if let Ok(list) = std::fs::read_to_string(topology) {
            siblings.insert(list);
        }
    }
    (!siblings.is_empty()).then_some(siblings.len())
}

#[cfg(not(target_os = "linux"))]
fn physical_cores() -> Option<usize> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_runs_exactly_once() {
        for threads in [1, 2, 3, 5] {
            let mut pool = ThreadPool::new(threads).unwrap();
            for items in [0, 1, 2, 7, 64, 1000] {
                let hits: Vec<AtomicUsize> = (0..items).map(|_| AtomicUsize::new(0)).collect();
                pool.run_chunked(items, &|range| {
                    for item in range {
                        hits[item].fetch_add(1, Ordering::Relaxed);
                    }
                });
                assert!(
                    hits.iter().all(|hit| hit.load(Ordering::Relaxed) == 1),
                    "{threads} threads, {items} items"
                );
            }
        }
    }

    /// Waits until `condition` holds: workers come when the system lets them.
    fn wait_for(condition: impl Fn() -> bool) {
        let start = std::time::Instant::now();
        while !condition() {
            assert!(start.elapsed().as_secs() < 60, "a worker never came");
            std::thread::yield_now();
        }
    }

    #[test]
    fn workers_wake_after_sleeping() {
        let mut pool = ThreadPool::new(3).unwrap();
        for _ in 0..3 {
            std::thread::sleep(std::time::Duration::from_millis(20));
            let count = AtomicUsize::new(0);
            pool.run(&|index| {
                count.fetch_add(1, Ordering::Relaxed);
                if index == 0 {
                    wait_for(|| count.load(Ordering::Relaxed) == 3);
                }
            });
            assert_eq!(count.into_inner(), 3);
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_survives() {
        let mut pool = ThreadPool::new(2).unwrap();
        for culprit in [0, 1] {
            let came = AtomicUsize::new(0);
            let result = catch_unwind(AssertUnwindSafe(|| {
                pool.run(&|index| {
                    came.fetch_add(1, Ordering::Relaxed);
                    wait_for(|| came.load(Ordering::Relaxed) == 2);
                    assert_ne!(index, culprit);
                });
            }));
            assert!(result.is_err());
        }
        let result = catch_unwind(AssertUnwindSafe(|| pool.run_chunked(10, &|_| panic!("on purpose"))));
        assert!(result.is_err());
        let sum = AtomicUsize::new(0);
        pool.run_chunked(10, &|range| {
            sum.fetch_add(range.len(), Ordering::Relaxed);
        });
        assert_eq!(sum.into_inner(), 10);
    }

    /// Processor time that a thread has used.
    #[cfg(target_os = "linux")]
    fn processor_time(thread: &JoinHandle<()>) -> std::time::Duration {
        use std::os::unix::thread::JoinHandleExt;
        let (mut clock, mut time) = (0, libc::timespec { tv_sec: 0, tv_nsec: 0 });
        // SAFETY: the thread was not joined, so its handle is valid, and so is its clock; both results are local.
        let failed = unsafe {
            libc::pthread_getcpuclockid(thread.as_pthread_t(), &raw mut clock) != 0
                || libc::clock_gettime(clock, &raw mut time) != 0
        };
        assert!(!failed, "the thread has a clock");
        std::time::Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    }

    /// After jobs at any distance from one another. What is counted is the workers' own time: a busy machine adds none.
    #[test]
    #[cfg(target_os = "linux")]
    fn idle_workers_use_no_processor_time() {
        const IDLE: std::time::Duration = std::time::Duration::from_millis(40);
        let mut pool = ThreadPool::new(3).unwrap();
        let mut random = crate::weights::random::Random::new(3);
        for round in 0..50 {
            for _ in 0..random.bits() % 20 {
                pool.run_chunked(8, &|range| {
                    std::hint::black_box(range.len());
                });
                // Up to twice as long as a worker stays awake.
                let wait = std::time::Duration::from_nanos(random.bits() % 400_000);
                let start = std::time::Instant::now();
                while start.elapsed() < wait {
                    std::hint::spin_loop();
                }
            }
            std::thread::sleep(IDLE / 4);
            let before: Vec<_> = pool.workers.iter().map(processor_time).collect();
            std::thread::sleep(IDLE);
            for (worker, before) in pool.workers.iter().zip(before) {
                let used = processor_time(worker) - before;
                assert!(used < IDLE / 4, "round {round}: {used:?} of {IDLE:?}");
            }
        }
    }
}
