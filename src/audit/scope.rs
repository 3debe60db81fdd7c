//! The acts of one request: noted while its work on the state runs, written before it is answered.
//!
//! Work on the state runs on one thread from its beginning to its end, so that the thread knows whose work it is. Invariant:
//! what is noted is written, also where the work fails or panics.

use std::cell::RefCell;

use super::{Audit, Event, Origin};

thread_local! {
    static SCOPE: RefCell<Option<Vec<Event>>> = const { RefCell::new(None) };
}

/// Acts that are done, and are not in the audit log.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unrecorded {
    /// The sessions that were opened, which must end.
    pub(crate) opened: Vec<String>,
}

/// Notes `events` for the work that this thread runs; gives them back where it runs none.
pub(super) fn note(events: Vec<Event>) -> Option<Vec<Event>> {
    SCOPE.with_borrow_mut(|scope| match scope {
        Some(noted) => {
            noted.extend(events);
            None
        }
        None => Some(events),
    })
}

/// Takes the scope away from the thread, whatever happens.
struct Guard<'a> {
    audit: &'a Audit,
    origin: &'a Origin,
}

impl Guard<'_> {
    fn finish(&self) -> Result<(), Unrecorded> {
        let noted = SCOPE.take().unwrap_or_default();
        self.audit.record(self.origin, &noted).map_err(|_| {
            let opened = noted.into_iter().filter_map(|event| match event {
                Event::SignedIn { session, .. } => Some(session),
                _ => None,
            });
            Unrecorded {
                opened: opened.collect(),
            }
        })
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        // Of work that panicked. The thread that writes has said why it cannot.
        let _ = self.finish();
    }
}

impl Audit {
    /// Runs `work`, and writes what it did. Blocks.
    ///
    /// # Errors
    /// It is done, and could not be written.
    pub(crate) fn scoped<T>(&self, origin: &Origin, work: impl FnOnce() -> T) -> Result<T, Unrecorded> {
        if !self.is_on() {
            return Ok(work());
        }
        SCOPE.set(Some(Vec::new()));
        let guard = Guard { audit: self, origin };
        let done = work();
        guard.finish().map(|()| done)
    }
}
