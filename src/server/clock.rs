//! The deadlines of one connection: how long it may be idle, and how long it may stay open once it is to end.
//!
//! Input: the activity on the connection. Output: the step that is due. Requests under way have deadlines of their own.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use h2::{Ping, PingPong};
use tokio::time::{Sleep, sleep_until};

use super::context::{GOAWAY_TIMEOUT, Limits};
use super::frames::IdleFrames;
use crate::gateway::Activity;

/// What is due on a connection.
#[derive(Debug)]
pub(super) enum Tick {
    /// The client is to make no further requests.
    ShutDown,
    /// The client was asked whether it is still there.
    Ping,
    /// The end, whatever is under way.
    End,
}

/// The one timer of a connection. It is set once a period, not once a request.
#[derive(Debug)]
pub(super) struct Clock {
    timer: Pin<Box<Sleep>>,
    idle_timeout: Duration,
    /// How long the answer to a PING may take.
    ping_timeout: Duration,
    ping: Option<PingPong>,
    /// Counted anew in each period: only many at once are a burden.
    frames: Option<IdleFrames>,
    pinged: Option<Instant>,
    /// Since when the connection is to end.
    ending: Option<Instant>,
}

impl Clock {
    /// `ping` and `frames` are those of an HTTP/2 connection.
    pub(super) fn new(limits: &Limits, frames: Option<IdleFrames>, ping: Option<PingPong>) -> Self {
        Self {
            timer: Box::pin(sleep_until(tokio::time::Instant::now() + limits.idle_timeout)),
            idle_timeout: limits.idle_timeout,
            ping_timeout: limits.header_timeout,
            ping,
            frames,
            pinged: None,
            ending: None,
        }
    }

    /// Whether the client has been told to make no further requests.
    pub(super) fn is_ending(&self) -> bool {
        self.ending.is_some()
    }

    /// Whether new requests come too late. One that was on its way when the client was told to make no more is served.
    pub(super) fn refuses(&self) -> bool {
        self.ending.is_some_and(|since| since.elapsed() >= GOAWAY_TIMEOUT)
    }

    pub(super) fn poll(
        &mut self,
        asked_to_end: bool,
        activity: &Activity,
        cx: &mut Context<'_>,
    ) -> Poll<Tick> {
        if asked_to_end {
            return Poll::Ready(self.shut_down());
        }
        loop {
            ready!(self.timer.as_mut().poll(cx));
            let now = Instant::now();
            let (tick, next) = self.tick(now, activity, cx);
            self.timer.as_mut().reset(next.into());
            if let Some(tick) = tick {
                return Poll::Ready(tick);
            }
        }
    }

    /// What is due at `now`, and when to look again.
    fn tick(&mut self, now: Instant, activity: &Activity, cx: &mut Context<'_>) -> (Option<Tick>, Instant) {
        let idle_since = activity.idle_since();
        if let Some(ending) = self.ending {
            // Requests under way have deadlines of their own.
            let end = idle_since.unwrap_or(now).max(ending) + GOAWAY_TIMEOUT;
            return if now >= end {
                (Some(Tick::End), now)
            } else {
                (None, end)
            };
        }
        if let Some(pinged) = self.pinged {
            let is_answered = self
                .ping
                .as_mut()
                .is_none_or(|ping| ping.poll_pong(cx).is_ready());
            if !is_answered && now >= pinged + self.ping_timeout {
                return (Some(Tick::End), now);
            }
            if !is_answered {
                return (None, pinged + self.ping_timeout);
            }
            self.pinged = None;
            if idle_since.is_none() {
                return (None, now + self.idle_timeout);
            }
        }
        if let Some(frames) = &self.frames {
            frames.reset();
        }
        match idle_since {
            Some(since) if now >= since + self.idle_timeout => {
                let tick = self.shut_down();
                (Some(tick), now + GOAWAY_TIMEOUT)
            }
            Some(since) => (None, since + self.idle_timeout),
            None if self
                .ping
                .as_mut()
                .is_some_and(|ping| ping.send_ping(Ping::opaque()).is_ok()) =>
            {
                self.pinged = Some(now);
                (Some(Tick::Ping), now + self.ping_timeout)
            }
            None => (None, now + self.idle_timeout),
        }
    }

    fn shut_down(&mut self) -> Tick {
        let now = Instant::now();
        self.ending = Some(now);
        self.timer.as_mut().reset((now + GOAWAY_TIMEOUT).into());
        Tick::ShutDown
    }
}
