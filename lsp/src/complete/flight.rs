//! Generations on their way, one for each document. A generation belongs to no request: one that asks at a place where
//! the user has typed what is being generated waits for it, and it ends when nobody does.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ropey::Rope;
use rustc_hash::FxHashMap;
use tokio::sync::{oneshot, watch};

use super::{
    lines,
    reuse::{Cursor, head, tail},
};

/// How long a generation goes on without anybody waiting: the next key press asks again within this.
const GRACE: Duration = Duration::from_millis(150);
/// Text typed since a generation began, beyond which it is not followed. Bytes.
const MOST_TYPED: usize = 512;

/// All generations on their way. Each takes itself off the list when it ends.
#[derive(Debug, Clone, Default)]
pub struct Flights {
    list: Arc<Mutex<FxHashMap<String, Flight>>>,
    next: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Flight {
    number: u64,
    place: Place,
    /// What was generated so far, as it would stand at the cursor.
    text: watch::Receiver<String>,
    readers: watch::Sender<usize>,
    /// What was inserted at the place, as of the document's last edit.
    inserted: String,
    /// Dropping it ends the generation.
    _wanted: oneshot::Sender<()>,
}

/// Where a generation began.
#[derive(Debug)]
struct Place {
    offset: usize,
    prefix_tail: Box<str>,
    suffix_head: Box<str>,
    suffix_length: usize,
    config: u64,
    wanted: usize,
}

/// Held by the task that generates. Dropping it takes the generation off the list and wakes those who wait.
#[derive(Debug)]
pub struct Pilot {
    flights: Flights,
    path: String,
    number: u64,
    text: watch::Sender<String>,
}

/// Whether anybody wants the generation.
#[derive(Debug)]
pub struct Demand {
    readers: watch::Receiver<usize>,
    wanted: oneshot::Receiver<()>,
}

/// Somebody who waits for a generation.
#[derive(Debug)]
pub struct Reader {
    text: watch::Receiver<String>,
    typed: String,
    _hold: Hold,
}

/// Keeps a generation from ending for want of readers. Dropping it lets go.
#[derive(Debug)]
pub struct Hold(watch::Sender<usize>);

impl Flights {
    /// Enters a generation that begins at `cursor`, in place of the document's last one.
    pub fn start(&self, cursor: &Cursor<'_>) -> (Pilot, Demand, Reader) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (text, seen) = watch::channel(String::new());
        let (readers, counted) = watch::channel(0);
        let (keep, wanted) = oneshot::channel();
        let reader = Reader::new(seen.clone(), &readers, "");
        let place = Place {
            offset: cursor.prefix.len(),
            prefix_tail: tail(cursor.prefix).into(),
            suffix_head: head(cursor.suffix).into(),
            suffix_length: cursor.suffix.len(),
            config: cursor.config,
            wanted: cursor.wanted,
        };
        let inserted = String::new();
        let flight = Flight { number, place, text: seen, readers, inserted, _wanted: keep };
        self.lock().insert(cursor.path.to_string(), flight);
        let path = cursor.path.to_string();
        (Pilot { flights: self.clone(), path, number, text }, Demand { readers: counted, wanted }, reader)
    }

    /// Keeps the document's generation while somebody finds out whether he can follow it.
    pub fn hold(&self, path: &str) -> Option<Hold> {
        self.lock().get(path).map(|flight| Hold::new(&flight.readers))
    }

    /// The document's generation, if the user has typed what it says, or it has not yet said what he typed.
    pub fn follow(&self, cursor: &Cursor<'_>) -> Option<Reader> {
        let list = self.lock();
        let flight = list.get(cursor.path)?;
        let typed = flight.place.typed_at(cursor)?;
        agree(&flight.text.borrow(), typed).then(|| Reader::new(flight.text.clone(), &flight.readers, typed))
    }

    /// The document was edited: ends its generation if that is now of no use.
    pub fn edited(&self, path: &str, rope: &Rope) {
        let mut list = self.lock();
        let Some(flight) = list.get_mut(path) else { return };
        let inserted = flight.place.inserted(rope);
        match inserted.filter(|inserted| goes_on(&flight.text.borrow(), inserted)) {
            Some(inserted) => flight.inserted = inserted,
            None => {
                list.remove(path);
            }
        }
    }

    /// Ends the document's generation: it was closed.
    pub fn forget(&self, path: &str) {
        self.lock().remove(path);
    }

    fn lock(&self) -> MutexGuard<'_, FxHashMap<String, Flight>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// What was typed between this place and `cursor`, if nothing else was done.
    fn typed_at<'a>(&self, cursor: &Cursor<'a>) -> Option<&'a str> {
        let closed = cursor.suffix.len().checked_sub(self.suffix_length)?;
        let follows = cursor.config == self.config
            && cursor.wanted <= self.wanted
            && lines::is_closed(cursor.suffix.get(..closed)?)
            && head(cursor.suffix.get(closed..)?) == &*self.suffix_head
            && tail(cursor.prefix.get(..self.offset)?) == &*self.prefix_tail;
        cursor.prefix.get(self.offset..).filter(|typed| follows && typed.len() <= MOST_TYPED)
    }

    /// What was inserted into the document at the place, if nothing else was done.
    fn inserted(&self, rope: &Rope) -> Option<String> {
        let resumed = rope.len_bytes().checked_sub(self.suffix_length)?;
        if resumed.checked_sub(self.offset)? > MOST_TYPED {
            return None;
        }
        let holds = |start: usize, text: &str| {
            rope.get_byte_slice(start..start + text.len()).is_some_and(|slice| slice == text)
        };
        let same = holds(self.offset - self.prefix_tail.len(), &self.prefix_tail)
            && holds(resumed, &self.suffix_head);
        let inserted = rope.get_byte_slice(self.offset..resumed)?;
        same.then(|| inserted.to_string())
    }
}

impl Pilot {
    /// Tells those who wait what was generated so far. Ends the generation if the user has typed something else.
    pub fn tell(&self, text: &str) {
        self.text.send_if_modified(|known| {
            let changed = known != text;
            if changed {
                text.clone_into(known);
            }
            changed
        });
        let mut list = self.flights.lock();
        let contradicts = |flight: &Flight| flight.number == self.number && !goes_on(text, &flight.inserted);
        if list.get(&self.path).is_some_and(contradicts) {
            list.remove(&self.path);
        }
    }
}

impl Demand {
    /// Returns when nobody wants the generation any more.
    pub async fn ceased(self) {
        let Self { wanted, mut readers } = self;
        tokio::select! {
            _ = wanted => {}
            () = abandoned(&mut readers) => {}
        }
    }
}

impl Drop for Pilot {
    fn drop(&mut self) {
        let mut list = self.flights.lock();
        if list.get(&self.path).is_some_and(|flight| flight.number == self.number) {
            list.remove(&self.path);
        }
    }
}

/// Returns when there has been no reader for a while.
async fn abandoned(readers: &mut watch::Receiver<usize>) {
    loop {
        // An error says that the list and all readers are gone.
        if readers.wait_for(|&readers| readers == 0).await.is_err() {
            return;
        }
        match tokio::time::timeout(GRACE, readers.wait_for(|&readers| readers > 0)).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) => return,
        }
    }
}

impl Reader {
    fn new(text: watch::Receiver<String>, readers: &watch::Sender<usize>, typed: &str) -> Self {
        Self { text, typed: typed.to_string(), _hold: Hold::new(readers) }
    }

    /// Returns when the generation has ended or says something else than what was typed.
    pub async fn ended(mut self) {
        let typed = std::mem::take(&mut self.typed);
        // The error says that the generation has ended.
        let _ = self.text.wait_for(|text| !agree(text, &typed)).await;
    }
}

impl Hold {
    fn new(readers: &watch::Sender<usize>) -> Self {
        readers.send_modify(|readers| *readers += 1);
        Self(readers.clone())
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.send_modify(|readers| *readers = readers.saturating_sub(1));
    }
}

/// Whether one goes on where the other ends.
fn agree(generated: &str, typed: &str) -> bool {
    generated.starts_with(typed) || typed.starts_with(generated)
}

/// Whether what was inserted agrees with `generated`, but for what the editor may have closed behind the cursor.
fn goes_on(generated: &str, inserted: &str) -> bool {
    (0..=inserted.len())
        .rev()
        .filter_map(|at| Some((inserted.get(..at)?, inserted.get(at..)?)))
        .take_while(|(_, closed)| lines::is_closed(closed))
        .any(|(typed, _)| agree(generated, typed))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFIX: &str = "a = 1\nb = ";
    const SUFFIX: &str = "\nc = 3\n";

    fn cursor<'a>(prefix: &'a str, suffix: &'a str) -> Cursor<'a> {
        Cursor { path: "a.py", prefix, suffix, config: 1, wanted: 1 }
    }

    #[test]
    fn a_generation_is_followed_while_it_agrees_with_what_was_typed() {
        // generated so far, prefix, suffix, whether a request there waits, and whether such an edit lets it go on
        let cases = [
            ("", "a = 1\nb = ", SUFFIX, true, true),
            ("", "a = 1\nb = f(", SUFFIX, true, true),
            ("f(x)", "a = 1\nb = f(", SUFFIX, true, true),
            ("f(x)", "a = 1\nb = f(", ")\nc = 3\n", true, true),
            ("f(x)", "a = 1\nb = f(", "))\nc = 3\n", true, true),
            ("f", "a = 1\nb = f(x", SUFFIX, true, true),
            ("f(x)", "a = 1\nb = g", SUFFIX, false, false),
            ("f(x)", "a = 1\nb =", SUFFIX, false, false),
            ("f(x)", "a = 2\nb = f", SUFFIX, false, false),
            ("f(x)", "a = 1\nb = f", "\nc = 4\n", false, false),
            ("f(x)", "a = 1\nb = f", "\nc = 3\nd", false, false),
            ("f(x)", "a = 1\nb = f", "+\nc = 3\n", false, false),
        ];
        for (generated, prefix, suffix, follows, goes_on) in cases {
            let flights = Flights::default();
            let (pilot, _demand, _reader) = flights.start(&cursor(PREFIX, SUFFIX));
            pilot.tell(generated);
            let name = format!("{generated:?} at {prefix:?}|{suffix:?}");
            assert_eq!(flights.follow(&cursor(prefix, suffix)).is_some(), follows, "{name}");
            flights.edited("a.py", &Rope::from_str(&format!("{prefix}{suffix}")));
            assert_eq!(flights.lock().len() == 1, goes_on, "{name}");
        }
    }

    #[tokio::test]
    async fn a_generation_that_turns_out_to_say_something_else_ends() {
        for (typed, goes_on) in [("f(", true), ("f()", true), ("f()y", false), ("g", false)] {
            let flights = Flights::default();
            let (pilot, _demand, _reader) = flights.start(&cursor(PREFIX, SUFFIX));
            flights.edited("a.py", &Rope::from_str(&format!("{PREFIX}{typed}{SUFFIX}")));
            assert_eq!(flights.lock().len(), 1, "nothing is generated yet");
            pilot.tell("f(x)");
            assert_eq!(flights.lock().len() == 1, goes_on, "{typed}");
        }
    }

    #[test]
    fn other_settings_and_more_alternatives_are_not_served() {
        let flights = Flights::default();
        let (_pilot, _demand, _reader) = flights.start(&cursor(PREFIX, SUFFIX));
        let at = cursor(PREFIX, SUFFIX);
        assert!(flights.follow(&Cursor { config: 2, ..at }).is_none());
        assert!(flights.follow(&Cursor { wanted: 2, ..at }).is_none());
        assert!(flights.follow(&Cursor { path: "b.py", ..at }).is_none());
        assert!(flights.follow(&at).is_some());
    }

    #[tokio::test]
    async fn a_generation_ends_when_nobody_waits_for_long() {
        let flights = Flights::default();
        let (pilot, demand, reader) = flights.start(&cursor(PREFIX, SUFFIX));
        let ended = tokio::spawn(async move {
            demand.ceased().await;
            drop(pilot);
        });
        drop(reader);
        let again = flights.follow(&cursor(PREFIX, SUFFIX)).expect("still there");
        tokio::time::sleep(GRACE * 10).await;
        assert_eq!(flights.lock().len(), 1, "somebody waits");
        drop(again);
        ended.await.expect("no panic");
        assert!(flights.lock().is_empty());
    }

    #[tokio::test]
    async fn a_new_generation_ends_the_last_one_of_its_document() {
        let flights = Flights::default();
        let (first, demand, reader) = flights.start(&cursor(PREFIX, SUFFIX));
        let (_second, _still, _other) = flights.start(&cursor("x = ", SUFFIX));
        demand.ceased().await;
        drop(first);
        reader.ended().await;
        assert_eq!(flights.lock().len(), 1, "the second one stays");
    }

    #[tokio::test]
    async fn readers_wake_when_the_text_turns_elsewhere() {
        let flights = Flights::default();
        let (pilot, _demand, _reader) = flights.start(&cursor(PREFIX, SUFFIX));
        let reader = flights.follow(&cursor("a = 1\nb = fo", SUFFIX)).expect("nothing is generated yet");
        let waiting = tokio::spawn(reader.ended());
        for text in ["f", "fo", "fob"] {
            pilot.tell(text);
            tokio::task::yield_now().await;
            assert!(!waiting.is_finished(), "{text}");
        }
        pilot.tell("fi");
        waiting.await.expect("no panic");
    }
}
