//! A heartbeat on the host's clock, timers and randomness: its peer answers a few pings and then no
//! more. Over a WebSocket of the host there is one in [`socket`].

mod socket;

use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

use futures::StreamExt;
use futures::channel::mpsc;
use futures_pinger::{Clock, Config, Error, Frame, FuturesTimer, TimeoutPhase, Timer, pinger};
use wasm_bindgen::prelude::wasm_bindgen;

const INTERVAL: Duration = Duration::from_millis(40);
const TIMEOUT: Duration = Duration::from_millis(90);
const ANSWERED: u64 = 5;
/// More than the 31 bits of milliseconds that the host's timers take.
const FAR: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// For a machine that has other things to do.
const SLACK: Duration = Duration::from_secs(5);

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = console)]
    fn error(text: &str);
}

fn show_panics() {
    std::panic::set_hook(Box::new(|panic| error(&panic.to_string())));
}

/// What happened, once it has happened as it should, and the payload of the first ping.
///
/// # Panics
///
/// If it did not.
#[wasm_bindgen]
pub async fn beat() -> String {
    show_panics();
    let config = Config::builder()
        .interval(INTERVAL)
        .timeout(TIMEOUT)
        .granularity(Duration::ZERO)
        .build()
        .expect("valid");
    let clock = Clock::system();
    let started = clock.now();
    let mut far = pin!(FuturesTimer::new());
    far.as_mut().reset(started + FAR);
    let (outgoing, mut frames) = mpsc::channel(0);
    let (pongs, pinger) = pinger(outgoing, config);

    let mut payloads = Vec::new();
    let mut closed = None;
    let peer = async {
        while let Some(frame) = frames.next().await {
            match frame {
                Frame::Ping(payload) => {
                    if (payloads.len() as u64) < ANSWERED {
                        pongs.handle_pong(&payload).expect("the heartbeat runs");
                    }
                    payloads.push(payload);
                }
                Frame::Close(reason) => closed = Some(reason),
                Frame::Pong(_) => panic!("a heartbeat sends no pongs"),
            }
        }
    };
    let (ended, ()) = futures::join!(pinger, peer);
    let elapsed = clock.now().saturating_duration_since(started);

    let Err(Error::Timeout(verdict)) = ended else {
        panic!("no verdict but {ended:?}");
    };
    assert_eq!(verdict.phase(), TimeoutPhase::Pong);
    assert_eq!(verdict.answered(), ANSWERED);
    assert!(verdict.close_sent());
    assert_eq!(closed.expect("a close frame").code(), 1011);
    assert_eq!(payloads.len() as u64, ANSWERED + 1);

    let pings = u32::try_from(payloads.len()).expect("a few");
    let due = INTERVAL * pings + TIMEOUT;
    assert!(elapsed >= due, "after {elapsed:?}, before {due:?}");
    assert!(elapsed < due + SLACK, "after {elapsed:?}");

    let far = futures::poll!(poll_fn(|cx| far.as_mut().poll_elapsed(cx)));
    assert!(far.is_pending(), "woken {FAR:?} early");

    let milliseconds = elapsed.as_millis();
    format!("{verdict}; {milliseconds} ms; first ping {:?}", payloads[0])
}
