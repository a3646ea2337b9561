//! Two network namespaces with a cable between them.

use std::fs;
use std::path::Path;
use std::process::{self, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// The names of all namespaces made here begin so; the number of the process follows.
const PREFIX: &str = "pinger-faults-";
const INTERFACE: &str = "cable";
const RTO_MAX: &str = "/proc/sys/net/ipv4/tcp_rto_max_ms";

#[derive(Debug, Clone, Copy)]
pub(crate) enum Side {
    App,
    Peers,
}

impl Side {
    const BOTH: [Self; 2] = [Self::App, Self::Peers];

    pub(crate) fn address(self) -> &'static str {
        match self {
            Self::App => "10.91.0.1",
            Self::Peers => "10.91.0.2",
        }
    }
}

/// It is removed with this, also where a test panics.
pub(crate) struct Network(String);

impl Network {
    /// Whether there can be any; why not.
    pub(crate) fn missing() -> Result<(), String> {
        let id = Command::new("id").arg("-u").output();
        if !id.is_ok_and(|id| id.stdout == *b"0\n") {
            return Err("needs root".into());
        }
        for (command, package) in [("ip", "iproute2"), ("nft", "nftables")] {
            let version = Command::new(command)
                .arg("-V")
                .stdout(Stdio::null())
                .status();
            if !version.is_ok_and(|status| status.success()) {
                return Err(format!("needs `{command}`, of Debian's package {package}"));
            }
        }
        Self::remove_those_of_the_dead();
        let probe = Self(format!("{PREFIX}{}-probe", process::id()));
        match probe.try_build() {
            Ok(()) => Ok(()),
            Err(why) => Err(format!("needs namespaces, links and filters: {why}")),
        }
    }

    pub(crate) fn new() -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);

        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let network = Self(format!("{PREFIX}{}-{number}", process::id()));
        network.try_build().expect("as for the probe");
        network
    }

    fn try_build(&self) -> Result<(), String> {
        for side in Side::BOTH {
            run(&["ip", "netns", "add", &self.name(side)])?;
        }
        let (app, peers) = (self.name(Side::App), self.name(Side::Peers));
        run(&[
            "ip", "link", "add", INTERFACE, "netns", &app, "type", "veth", "peer", INTERFACE,
            "netns", &peers,
        ])?;
        for side in Side::BOTH {
            let address = format!("{}/24", side.address());
            self.try_run(side, &["ip", "addr", "add", &address, "dev", INTERFACE])?;
            self.try_run(side, &["ip", "link", "set", INTERFACE, "up"])?;
            self.try_run(side, &["nft", "add", "table", "inet", "faults"])?;
            let hook = "{ type filter hook input priority 0; }";
            self.try_run(side, &["nft", "add", "chain", "inet", "faults", "in", hook])?;
        }
        Ok(())
    }

    /// What a killed run has left.
    fn remove_those_of_the_dead() {
        for left in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
            let name = left.file_name();
            let name = name.to_string_lossy();
            let owner = name
                .strip_prefix(PREFIX)
                .and_then(|rest| rest.split('-').next());
            if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                let _ = run(&["ip", "netns", "del", &name]);
            }
        }
    }

    fn name(&self, side: Side) -> String {
        format!("{}-{side:?}", self.0)
    }

    /// The beginning of a command line that runs on this side.
    pub(crate) fn inside(&self, side: Side) -> [String; 4] {
        ["ip".into(), "netns".into(), "exec".into(), self.name(side)]
    }

    fn try_run(&self, side: Side, command: &[&str]) -> Result<(), String> {
        let inside = self.inside(side);
        let command = inside
            .iter()
            .map(String::as_str)
            .chain(command.iter().copied());
        run(&command.collect::<Vec<_>>())
    }

    fn run(&self, side: Side, command: &[&str]) {
        self.try_run(side, command).expect("as for the probe");
    }

    pub(crate) fn link_down(&self, side: Side) {
        self.run(side, &["ip", "link", "set", INTERFACE, "down"]);
    }

    pub(crate) fn drop_incoming(&self, side: Side) {
        self.run(
            side,
            &["nft", "add", "rule", "inet", "faults", "in", "drop"],
        );
    }

    /// So many of 100 packets, at random.
    pub(crate) fn drop_some_incoming(&self, side: Side, percent: u32) {
        let percent = percent.to_string();
        let rule = ["nft", "add", "rule", "inet", "faults", "in"];
        let lottery = ["numgen", "random", "mod", "100", "<", &percent, "drop"];
        self.run(side, &[&rule[..], &lottery].concat());
    }

    /// No more than a second from one retransmission to the next; whether the system can be told.
    pub(crate) fn retransmit_each_second(&self) -> bool {
        let command = format!("echo 1000 >{RTO_MAX}");
        Side::BOTH
            .into_iter()
            .all(|side| self.try_run(side, &["sh", "-c", &command]).is_ok())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for side in Side::BOTH {
            // It may never have been made; and while panicking there is nobody left to tell.
            let _ = run(&["ip", "netns", "del", &self.name(side)]);
        }
    }
}

fn run(command: &[&str]) -> Result<(), String> {
    let output = Command::new(command[0]).args(&command[1..]).output();
    let output = output.map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?}: {}: {said}", output.status))
}
