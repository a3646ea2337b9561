//! A real WebSocket over a simulated network that is cut, in virtual time.

use std::cell::RefCell;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures::future::{self, Either};
use futures::{SinkExt, StreamExt};
use futures_pinger::{
    Config, Error, Frame, PongKind, Protocol, Rfc6455, Stopped, TimedOut, TimeoutPhase, TokioTimer,
    pinger,
};
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{accept_async, client_async};
use turmoil::Sim;
use turmoil::net::{TcpListener, TcpStream};

const APP: &str = "app";
const PEER: &str = "peer";

const INTERVAL: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(10);
const LATENCY: Duration = Duration::from_millis(50);
/// The network and the hosts move in steps of this.
const TICK: Duration = Duration::from_millis(10);
/// When the network is cut.
const CUT: Duration = Duration::from_secs(300);
const MINUTE: Duration = Duration::from_secs(60);

fn config() -> Config {
    Config::builder()
        .interval(INTERVAL)
        .timeout(TIMEOUT)
        .build()
        .expect("valid")
}

/// What a timer wake may add: the step of the heartbeat's grid and those of the simulation.
fn step(config: &Config) -> Duration {
    config.granularity() + 2 * TICK
}

/// What happened, and when after the start of the simulation.
#[derive(Debug, Default)]
struct Report {
    /// Frames of the heartbeat, as they went into the WebSocket.
    sent: Vec<(Duration, Frame)>,
    /// Pongs that answered the newest ping.
    proofs: Vec<Duration>,
    /// Pongs that came after their ping was given up.
    stale: usize,
    /// Messages that reached the peer.
    received: Vec<(Duration, Message)>,
    ended: Option<(Duration, Result<Stopped, Error<tungstenite::Error>>)>,
}

impl Report {
    fn ended(self) -> (Duration, Result<Stopped, Error<tungstenite::Error>>) {
        self.ended.expect("the heartbeat has ended")
    }

    fn verdict(&self) -> (Duration, TimedOut) {
        match &self.ended {
            Some((at, Err(Error::Timeout(verdict)))) => (*at, *verdict),
            other => panic!("no verdict: {other:?}"),
        }
    }

    fn last_ping(&self) -> Duration {
        let mut sent = self.sent.iter().rev();
        let ping = sent.find(|(_, frame)| matches!(frame, Frame::Ping(_)));
        ping.expect("a ping was sent").0
    }

    fn closes_sent(&self) -> usize {
        let is_close = |(_, frame): &&(_, Frame)| matches!(frame, Frame::Close(_));
        self.sent.iter().filter(is_close).count()
    }

    fn closes_received(&self) -> Vec<(Duration, &Message)> {
        let received = self.received.iter().map(|(at, message)| (*at, message));
        received.filter(|(_, message)| message.is_close()).collect()
    }
}

type Log = Rc<RefCell<Report>>;

fn now() -> Duration {
    turmoil::sim_elapsed().expect("in the simulation")
}

fn message(frame: Frame) -> Message {
    Rfc6455.encode(frame).expect("RFC 6455 has every frame")
}

/// Accepts and reads, for ever; tungstenite answers the pings.
async fn peer(log: Log) -> turmoil::Result {
    let listener = TcpListener::bind(("0.0.0.0", 80)).await?;
    loop {
        let (socket, _) = listener.accept().await?;
        let mut socket = accept_async(socket).await?;
        while let Some(Ok(message)) = socket.next().await {
            log.borrow_mut().received.push((now(), message));
        }
    }
}

/// Keeps a heartbeat until it ends or `until` has come, and the connection for a while longer.
async fn app(config: Config, until: Duration, log: Log) -> turmoil::Result {
    let socket = TcpStream::connect((PEER, 80)).await?;
    let (socket, _) = client_async("ws://peer/", socket).await?;
    let (write, mut read) = socket.split();
    let outgoing = write.with(|frame: Frame| {
        log.borrow_mut().sent.push((now(), frame.clone()));
        future::ready(Ok::<_, tungstenite::Error>(message(frame)))
    });
    let (pongs, pinger) = pinger(outgoing, config);
    let reader = async {
        // Owned: the heartbeat learns of the end of the connection by its drop.
        let pongs = pongs;
        while let Some(Ok(message)) = read.next().await {
            let Message::Pong(payload) = message else {
                continue;
            };
            match pongs.handle_pong(&payload) {
                Ok(PongKind::Matched { .. }) => log.borrow_mut().proofs.push(now()),
                Ok(PongKind::Stale) => log.borrow_mut().stale += 1,
                Ok(_) | Err(_) => {}
            }
        }
    };
    let heartbeat = async {
        let (pinger, reader) = (pin!(pinger.with_timer(TokioTimer::new())), pin!(reader));
        match future::select(pinger, reader).await {
            Either::Left((ended, _)) => ended,
            Either::Right(((), pinger)) => pinger.await,
        }
    };
    let left = until.saturating_sub(now());
    let ended = tokio::time::timeout(left, heartbeat).await;
    log.borrow_mut().ended = ended.ok().map(|ended| (now(), ended));
    tokio::time::sleep(100 * LATENCY).await;
    Ok(())
}

/// Runs both, and `fault` when `at` has come.
fn simulate(
    config: &Config,
    at: Duration,
    until: Duration,
    fault: impl FnOnce(&mut Sim),
) -> Report {
    let log = Log::default();
    let mut sim = turmoil::Builder::new()
        .simulation_duration(until + 2 * MINUTE)
        .tick_duration(TICK)
        .min_message_latency(LATENCY)
        .max_message_latency(LATENCY)
        .rng_seed(82)
        .build();
    sim.host(PEER, {
        let log = Rc::clone(&log);
        move || peer(Rc::clone(&log))
    });
    sim.client(APP, app(config.clone(), until, Rc::clone(&log)));
    while sim.elapsed() < at {
        let finished = sim.step().expect("neither host fails");
        assert!(!finished, "over before the fault");
    }
    fault(&mut sim);
    sim.run().expect("neither host fails");
    drop(sim);
    Rc::into_inner(log)
        .expect("the hosts are gone")
        .into_inner()
}

/// The verdict fell for want of a pong, within the bound of the docs, and not too early.
fn assert_in_time(config: &Config, report: &Report) {
    let (at, verdict) = report.verdict();
    assert_eq!(verdict.phase(), TimeoutPhase::Pong);
    assert_eq!(verdict.missed(), config.max_missed());
    assert_eq!(verdict.answered(), report.proofs.len() as u64);

    let timeout = config.timeout().expect("a fixed one");
    let silence = at.saturating_sub(report.last_ping());
    assert!(silence >= timeout, "early: {silence:?} after the last ping");
    // A step for the look that comes before each deadline, and one for the deadline.
    let latest = timeout + 2 * step(config);
    assert!(silence <= latest, "late: {silence:?} after the last ping");

    let proof = *report.proofs.last().expect("it was alive");
    let wakes = 2 * config.max_missed() + 2;
    let bound = config.interval()
        + config.max_missed() * (config.write_timeout() + timeout)
        + wakes * step(config);
    let close = config.close_timeout() + step(config);
    let found = at.saturating_sub(proof);
    assert!(
        found <= bound + close,
        "{found:?} after the last proof of life"
    );
}

// contract: N82
#[test]
fn a_partition_is_found_in_time_and_close_sent_does_not_mean_delivered() {
    let config = config();
    let until = 2 * CUT;
    let report = simulate(&config, CUT, until, |sim| sim.partition(APP, PEER));

    assert_in_time(&config, &report);
    let (at, verdict) = report.verdict();
    // It falls due between the cut and the next 10 s, and is waited for as long.
    assert!(at >= CUT + TIMEOUT, "{at:?}");
    assert!(at <= CUT + INTERVAL + TIMEOUT + 3 * step(&config), "{at:?}");
    assert_eq!(verdict.answered(), 29);

    // The frame was flushed, and nobody has seen it.
    assert_eq!(report.closes_sent(), 1);
    assert!(verdict.close_sent(), "{verdict}");
    assert_eq!(report.closes_received(), []);
    // Nothing at all came through: it is the cut, not the frame.
    let (last, _) = report.received.last().expect("pings did before");
    assert!(*last <= CUT + LATENCY + TICK, "{last:?}");
}

// contract: N82
#[test]
fn a_partition_is_found_in_time_wherever_in_the_cycle_it_falls() {
    let config = config();
    // The handshake takes 0.2 s, so each ping leaves as long after full 10 s, and its pong comes
    // 0.1 s later.
    for millis in [
        0, 150, 190, 210, 230, 250, 270, 290, 310, 330, 1_000, 5_000, 9_990,
    ] {
        let cut = 3 * INTERVAL + Duration::from_millis(millis);
        let report = simulate(&config, cut, 2 * MINUTE, |sim| sim.partition(APP, PEER));
        assert_in_time(&config, &report);
        let (at, verdict) = report.verdict();
        // A pong that was on its way at the cut belongs to a ping from before.
        assert!(
            at + 2 * LATENCY + 2 * TICK >= cut + TIMEOUT,
            "{cut:?}: {at:?}"
        );
        assert!(verdict.close_sent(), "{verdict}");
        assert_eq!(report.closes_received(), [], "cut at {cut:?}");
    }
}

// contract: N82
#[test]
fn with_a_second_chance_a_partition_is_found_two_timeouts_later() {
    let builder = Config::builder().interval(INTERVAL).timeout(TIMEOUT);
    let config = builder.max_missed(2).build().expect("valid");
    let report = simulate(&config, CUT, 2 * CUT, |sim| sim.partition(APP, PEER));
    assert_in_time(&config, &report);
    let (at, verdict) = report.verdict();
    assert!(at >= CUT + 2 * TIMEOUT, "{at:?}");
    assert!(verdict.close_sent(), "{verdict}");
    assert_eq!(report.closes_received(), []);
}

// contract: D26 N82
#[test]
fn with_a_second_chance_a_hold_up_that_ends_before_the_verdict_gives_none() {
    let builder = Config::builder().interval(INTERVAL).timeout(TIMEOUT);
    let config = builder.max_missed(2).build().expect("valid");
    let report = simulate(&config, CUT, 2 * CUT, |sim| {
        // What is sent meanwhile arrives after it: one ping is missed by then, the next is out.
        sim.hold(APP, PEER);
        while sim.elapsed() < CUT + TIMEOUT + Duration::from_secs(5) {
            sim.step().expect("neither host fails");
        }
        sim.release(APP, PEER);
    });
    assert!(report.ended.is_none(), "{:?}", report.ended);
    assert_eq!(report.stale, 1);
    assert_eq!(report.closes_sent(), 0);
}

// contract: N82
#[test]
fn pings_that_do_not_arrive_are_found_and_neither_does_the_close_frame() {
    let config = config();
    let report = simulate(&config, CUT, 2 * CUT, |sim| {
        sim.partition_oneway(APP, PEER);
    });
    assert_in_time(&config, &report);
    assert!(report.verdict().1.close_sent());
    assert_eq!(report.closes_sent(), 1);
    assert_eq!(report.closes_received(), []);
}

// contract: N82 E29
#[test]
fn pongs_that_do_not_arrive_are_found_and_the_close_frame_gets_through() {
    let config = config();
    let report = simulate(&config, CUT, 2 * CUT, |sim| {
        sim.partition_oneway(PEER, APP);
    });
    assert_in_time(&config, &report);
    let (at, verdict) = report.verdict();
    assert!(verdict.close_sent(), "{verdict}");
    let closes = report.closes_received();
    let [(arrived, Message::Close(Some(close)))] = closes[..] else {
        panic!("not one close frame: {closes:?}");
    };
    assert_eq!(
        (u16::from(close.code), &*close.reason),
        (1011, "Ping timeout")
    );
    assert!(
        arrived <= at + LATENCY + 2 * TICK,
        "{arrived:?} after {at:?}"
    );
    // The last ping was seen as well: what is missing is its pong.
    let pings = report.received.iter().filter(|(_, m)| m.is_ping());
    assert_eq!(pings.count(), report.proofs.len() + 1);
}

// contract: N82
#[test]
fn a_host_that_loses_power_is_found_like_a_partition() {
    let config = config();
    let report = simulate(&config, CUT, 2 * CUT, |sim| {
        // No kernel is left to say goodbye.
        sim.partition(APP, PEER);
        sim.crash(PEER);
    });
    assert_in_time(&config, &report);
    assert!(report.verdict().1.close_sent());
    assert_eq!(report.closes_received(), []);
}

// contract: N84
#[test]
fn a_process_that_crashes_ends_it_at_once_and_not_by_a_timeout() {
    let report = simulate(&config(), CUT, 2 * CUT, |sim| sim.crash(PEER));
    assert_eq!(report.closes_sent(), 0);
    let (at, ended) = report.ended();
    assert!(
        matches!(ended, Ok(Stopped::PongsEnded) | Err(Error::Transport(_))),
        "{ended:?}"
    );
    assert!(at <= CUT + LATENCY + 3 * TICK, "{at:?}");
}

// contract: N84
#[test]
fn a_host_that_comes_back_without_its_connections_ends_it_at_the_next_ping() {
    let config = config();
    let report = simulate(&config, CUT, 2 * CUT, |sim| {
        sim.partition(APP, PEER);
        sim.crash(PEER);
        sim.bounce(PEER);
        sim.repair(APP, PEER);
    });
    assert_eq!(report.closes_sent(), 0);
    let ping = report.last_ping();
    assert!(ping >= CUT, "{ping:?}");
    let (at, ended) = report.ended();
    assert!(
        matches!(ended, Ok(Stopped::PongsEnded) | Err(Error::Transport(_))),
        "{ended:?}"
    );
    assert!(at <= ping + 2 * LATENCY + 3 * TICK, "{at:?}");
}

// contract: N82
#[test]
fn without_a_partition_there_is_no_verdict_in_half_an_hour() {
    let config = config();
    let until = 30 * MINUTE;
    let report = simulate(&config, CUT, until, |_| {});
    assert!(report.ended.is_none(), "{:?}", report.ended);
    // The first is due an interval after the handshake.
    assert_eq!(report.sent.len(), 179);
    assert_eq!(report.proofs.len(), 179);
    assert_eq!(report.received.len(), 179);
    let mut rtts = report.sent.iter().zip(&report.proofs);
    assert!(rtts.all(|((sent, _), proof)| *proof <= *sent + 2 * LATENCY + 4 * TICK));
}
