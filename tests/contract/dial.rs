//! Heartbeats whose time a test sets, also back, and which it polls by hand.

use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use futures_pinger::{
    Clock, Config, ConfigBuilder, Instant, KeepAlive, PingerSet, Stats, Timer, pinger,
};

use crate::every_surface::build;
use crate::hooks::{PollsTo, unpoisoned};
use crate::socket::{Msg, Plain};
use crate::world::{Path, World};

/// Time that the test sets, also back.
#[derive(Clone)]
pub struct Dial {
    pub start: Instant,
    pub now: Arc<Mutex<Duration>>,
    pub armed: Arc<Mutex<Option<(Instant, Waker)>>>,
}

impl Dial {
    pub fn starting(start: Instant) -> Self {
        Self {
            start,
            now: Arc::default(),
            armed: Arc::default(),
        }
    }

    pub fn set(&self, now: Duration) {
        *unpoisoned(&self.now) = now;
        let rings = unpoisoned(&self.armed).take_if(|(at, _)| *at <= self.start + now);
        if let Some((_, waker)) = rings {
            waker.wake();
        }
    }
}

impl Timer for Dial {
    fn clock(&self) -> Clock {
        let (start, now) = (self.start, Arc::clone(&self.now));
        Clock::new(move || start + *unpoisoned(&now))
    }

    fn reset(self: Pin<&mut Self>, deadline: Instant) {
        *unpoisoned(&self.armed) = Some((deadline, Waker::noop().clone()));
    }

    fn poll_elapsed(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let now = self.now();
        let armed = &mut *unpoisoned(&self.armed);
        match armed {
            Some((deadline, waker)) if *deadline > now => {
                waker.clone_from(cx.waker());
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
    }
}

/// How it is told of a pong, and of data.
pub type Told = (Box<dyn Fn(Bytes)>, Option<Box<dyn Fn()>>);

/// A heartbeat whose time a test sets, and which it polls by hand.
pub struct Dialled {
    pub name: &'static str,
    pub dial: Dial,
    pub poll: PollsTo<String>,
    pub pong: Box<dyn Fn(Bytes)>,
    pub activity: Option<Box<dyn Fn()>>,
    pub stats: Box<dyn Fn() -> Stats>,
    pub payload: Box<dyn Fn(usize) -> Bytes>,
    pub pings: Box<dyn Fn() -> usize>,
    pub end: Option<String>,
    pub wakes: Arc<crate::socket::Woken>,
}

pub fn each_dialled(config: &ConfigBuilder, start: Instant) -> Vec<Dialled> {
    [Path::Slot, Path::Stream, Path::Set]
        .into_iter()
        .map(|path| Dialled::over(path, build(config.clone()), Dial::starting(start)))
        .chain([Dialled::keep_alive(
            build(config.clone()),
            Dial::starting(start),
        )])
        .collect()
}

impl Dialled {
    pub fn over(path: Path, config: Config, dial: Dial) -> Self {
        let world = World::new();
        let (outgoing, sink) = world.sink();
        let (name, poll, (pong, activity), stats): (
            _,
            PollsTo<String>,
            Told,
            Box<dyn Fn() -> Stats>,
        ) = match path {
            Path::Slot => {
                let (pongs, pinger) = pinger(outgoing, config);
                let mut pinger = pinger.with_timer(dial.clone());
                let controller = pinger.controller();
                let pongs = Arc::new(pongs);
                let told = Arc::clone(&pongs);
                (
                    "Slot",
                    Box::new(move |cx| pinger.poll_unpin(cx).map(|end| format!("{end:?}"))),
                    (
                        Box::new(move |payload| {
                            let _ = told.handle_pong(&payload);
                        }),
                        Some(Box::new(move || pongs.handle_activity())),
                    ),
                    Box::new(move || controller.stats()),
                )
            }
            Path::Stream => {
                let (stream, script) = world.pongs();
                let pinger = futures_pinger::Pinger::new(outgoing, stream, config);
                let mut pinger = pinger.with_timer(dial.clone());
                let controller = pinger.controller();
                (
                    "Stream",
                    Box::new(move |cx| pinger.poll_unpin(cx).map(|end| format!("{end:?}"))),
                    (Box::new(move |payload| script.push(payload)), None),
                    Box::new(move || controller.stats()),
                )
            }
            Path::Set => {
                let mut set = PingerSet::new(config).with_timer(dial.clone());
                let member = Arc::new(set.insert(outgoing));
                let (told, active) = (Arc::clone(&member), Arc::clone(&member));
                (
                    "Set",
                    Box::new(move |cx| set.poll_next_unpin(cx).map(|end| format!("{end:?}"))),
                    (
                        Box::new(move |payload| {
                            told.handle_pong(&payload);
                        }),
                        Some(Box::new(move || active.handle_activity())),
                    ),
                    Box::new(move || member.stats()),
                )
            }
        };
        let pings = sink.clone();
        Self {
            name,
            dial,
            poll,
            pong,
            activity,
            stats,
            payload: Box::new(move |ping| sink.payload(ping)),
            pings: Box::new(move || pings.pings().len()),
            end: None,
            wakes: Arc::default(),
        }
    }

    pub fn keep_alive(config: Config, dial: Dial) -> Self {
        let world = World::new();
        let (socket, script) = world.socket(Plain);
        let alive = KeepAlive::with_protocol(socket, Plain, config);
        let mut alive = alive.with_timer(dial.clone());
        let controller = alive.controller();
        let (told, data, pings) = (script.clone(), script.clone(), script.clone());
        let poll = move |cx: &mut Context<'_>| loop {
            match alive.poll_next_unpin(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(end) => return Poll::Ready(format!("{end:?}")),
                Poll::Pending => return Poll::Pending,
            }
        };
        Self {
            name: "KeepAlive",
            dial,
            poll: Box::new(poll),
            pong: Box::new(move |payload| told.receive(Msg::Pong(payload))),
            activity: Some(Box::new(move || data.receive(Msg::Data(0)))),
            stats: Box::new(move || controller.stats()),
            payload: Box::new(move |ping| {
                let sent = script.sent().into_iter();
                let mut pings = sent.filter_map(|(_, message)| match message {
                    Msg::Ping(payload) => Some(payload),
                    _ => None,
                });
                pings.nth(ping).expect("it was sent")
            }),
            pings: Box::new(move || pings.pings().len()),
            end: None,
            wakes: Arc::default(),
        }
    }

    /// It is polled at that time, until it does not wake itself.
    pub fn poll_at(&mut self, time: Duration) {
        self.dial.set(time);
        let waker = Waker::from(Arc::clone(&self.wakes));
        for polls in 0.. {
            assert!(polls < 100, "{}: a busy loop at {time:?}", self.name);
            if self.end.is_some() {
                return;
            }
            self.wakes.flag.store(false, Ordering::Relaxed);
            if let Poll::Ready(end) = (self.poll)(&mut Context::from_waker(&waker)) {
                self.end = Some(end);
            }
            if !self.wakes.flag.load(Ordering::Relaxed) {
                return;
            }
        }
    }
}
