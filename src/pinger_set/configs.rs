//! The configurations in a set: all members of one chunk are under the same, so that a configuration costs no
//! bytes for each member.

use std::sync::Arc;

use super::chunk::CHUNK;
use crate::config::Config;
use crate::error::{InvalidConfig, SetConfigError};
use crate::machine::{Key, Terms};
use crate::time::Span;

/// How many configurations a set has at the most: the number of one fits into a byte.
const MAX_CONFIGS: usize = 256;

/// The number of the set's own configuration.
const OWN: u8 = 0;

/// Which configuration each chunk must be under, and which of its seats are vacant. The configuration that is in
/// force in a chunk is kept with its seats: the driver puts a new one in force by a sweep.
pub(super) struct Configs {
    /// By number.
    groups: Vec<Group>,
    /// By chunk: the number of its configuration.
    of_chunk: Vec<u8>,
}

/// The seats of the chunks that are under one configuration.
struct Group {
    terms: Arc<Terms>,
    vacant: Vec<u32>,
    /// How many seats are not vacant.
    taken: usize,
}

impl Group {
    const fn new(terms: Arc<Terms>) -> Self {
        Self {
            terms,
            vacant: Vec::new(),
            taken: 0,
        }
    }
}

/// Whether two configurations are equal.
fn same(one: &Config, other: &Config) -> bool {
    one.is_copy_of(other) || one == other
}

impl Configs {
    pub(super) fn new(config: Config) -> Self {
        Self {
            groups: vec![Group::new(Arc::new(Terms::new(config)))],
            of_chunk: Vec::new(),
        }
    }

    fn group(&self, number: u8) -> &Group {
        &self.groups[usize::from(number)]
    }

    fn group_mut(&mut self, number: u8) -> &mut Group {
        &mut self.groups[usize::from(number)]
    }

    /// The set's own configuration.
    pub(super) fn own(&self) -> &Config {
        &self.group(OWN).terms.config
    }

    /// The terms for a configuration, with the key of the whole set.
    fn terms(&self, config: Config) -> Arc<Terms> {
        let key: Key = self.group(OWN).terms.key;
        Arc::new(Terms::with_key(config, key))
    }

    /// Checks the granularity of a configuration, as all members of a set are looked at on one grid.
    pub(super) fn check(&self, config: &Config) -> Result<(), SetConfigError> {
        if config.granularity() == self.own().granularity() {
            return Ok(());
        }
        Err(SetConfigError::Invalid(InvalidConfig {
            option: "granularity",
            value: format!("{:?}", config.granularity()),
            rule: "must equal the granularity of the set",
        }))
    }

    /// The shortest interval of all configurations.
    pub(super) fn shortest_interval(&self) -> Span {
        let intervals = self.groups.iter();
        let intervals = intervals.map(|group| group.terms.config.spans().interval);
        intervals.min().unwrap_or(Span::NEVER)
    }

    /// The number of a configuration, and whether that was the number of another configuration, whose members
    /// are gone.
    pub(super) fn number(&mut self, config: &Config) -> Result<(u8, bool), SetConfigError> {
        self.check(config)?;
        let mut groups = self.groups.iter();
        if let Some(known) = groups.position(|group| same(&group.terms.config, config)) {
            return Ok((as_number(known), false));
        }
        let terms = self.terms(config.clone());
        if self.groups.len() < MAX_CONFIGS {
            self.groups.push(Group::new(terms));
            return Ok((as_number(self.groups.len() - 1), false));
        }
        let mut others = self.groups.iter().skip(1);
        let Some(free) = others.position(|group| group.taken == 0) else {
            return Err(SetConfigError::TooMany);
        };
        self.groups[free + 1].terms = terms;
        Ok((as_number(free + 1), true))
    }

    /// Takes a vacant seat under that configuration.
    pub(super) fn take_seat(&mut self, number: u8) -> Option<u32> {
        let group = self.group_mut(number);
        let seat = group.vacant.pop()?;
        group.taken += 1;
        Some(seat)
    }

    /// Adds a chunk, whose seats from `first` on are vacant. Returns the terms that are in force there.
    pub(super) fn add_chunk(&mut self, number: u8, first: u32) -> Arc<Terms> {
        self.of_chunk.push(number);
        let group = self.group_mut(number);
        group.vacant.extend((0..CHUNK).rev().map(|n| first + n));
        Arc::clone(&group.terms)
    }

    /// The seat is free. A new member may take it, unless it `is_spent`.
    pub(super) fn vacate(&mut self, seat: u32, is_spent: bool) {
        let number = self.of_chunk[(seat / CHUNK) as usize];
        let group = self.group_mut(number);
        group.taken -= 1;
        if !is_spent {
            group.vacant.push(seat);
        }
    }

    /// The terms that must be in force in a chunk.
    pub(super) fn of_chunk(&self, chunk: usize) -> &Arc<Terms> {
        &self.group(self.of_chunk[chunk]).terms
    }

    /// Puts all members under that configuration, and the members that come later.
    pub(super) fn replace_all(&mut self, config: Config) {
        let terms = self.terms(config);
        let mut all = Group::new(terms);
        for group in &mut self.groups {
            all.vacant.append(&mut group.vacant);
            all.taken += group.taken;
        }
        self.groups.clear();
        self.groups.push(all);
        self.of_chunk.fill(OWN);
    }

    /// Puts the members that are under `before` under `after`. Returns whether the set has the configuration
    /// `before`.
    pub(super) fn replace(&mut self, before: &Config, after: Config) -> bool {
        let terms = self.terms(after);
        let mut found = false;
        for group in &mut self.groups {
            if same(&group.terms.config, before) {
                group.terms = Arc::clone(&terms);
                found = true;
            }
        }
        found
    }
}

#[allow(clippy::cast_possible_truncation)] // There are 256 at the most.
const fn as_number(index: usize) -> u8 {
    index as u8
}
