//! Which fault a connection gets, and when.

use std::time::Duration;

use crate::random::Random;

/// What travels between a client and a server, each in its own direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// From the client to the server.
    Request,
    /// From the server to the client; the batches that READ and TAIL are answered with belong to it.
    Answer,
}

/// Where a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// None of the message gets through.
    Before,
    /// Half of it does; of an answer with batches, all but half of the last batch.
    Middle,
    /// All of it does, and nothing after it.
    After,
}

/// What goes wrong with one request, or with its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The connection ends in both directions.
    Cut(Side, Place),
    /// One direction ends, the other goes on. Requests end after the request, answers before the answer.
    HalfClose(Side),
    /// The message comes later, by [`FaultPlan::delay`].
    Delay(Side),
    /// The message comes byte by byte, for its first [`Fault::DRIP_BYTES`].
    Drip(Side),
}

impl Fault {
    /// How many bytes of a message drip; the rest follows at once.
    pub const DRIP_BYTES: usize = 256;
    /// The pause before each byte that drips, so that they do not arrive together.
    pub const DRIP_PAUSE: Duration = Duration::from_micros(200);

    /// Every fault.
    pub const ALL: &[Self] = &[
        Self::Cut(Side::Request, Place::Before),
        Self::Cut(Side::Request, Place::Middle),
        Self::Cut(Side::Request, Place::After),
        Self::Cut(Side::Answer, Place::Before),
        Self::Cut(Side::Answer, Place::Middle),
        Self::Cut(Side::Answer, Place::After),
        Self::HalfClose(Side::Request),
        Self::HalfClose(Side::Answer),
        Self::Delay(Side::Request),
        Self::Delay(Side::Answer),
        Self::Drip(Side::Request),
        Self::Drip(Side::Answer),
    ];

    /// The direction in which it happens.
    pub const fn side(self) -> Side {
        match self {
            Self::Cut(side, _) | Self::HalfClose(side) | Self::Delay(side) | Self::Drip(side) => side,
        }
    }
}

/// Which connections get which fault.
#[derive(Debug, Clone)]
pub struct FaultPlan {
    schedule: Schedule,
    delay: Duration,
}

#[derive(Debug, Clone)]
enum Schedule {
    Never,
    Once { planned: Planned, done: bool },
    Seeded { random: Random, percent: u8, first: bool },
}

/// The fault of one connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Planned {
    pub(super) fault: Fault,
    /// How many requests, or answers, of the connection pass first.
    pub(super) at_request: usize,
}

impl FaultPlan {
    /// How long a delayed message waits unless the plan says otherwise.
    pub const DELAY_DEFAULT: Duration = Duration::from_millis(20);
    /// How many connections after the first get a fault unless the plan says otherwise, in percent.
    pub const PERCENT_DEFAULT: u8 = 50;
    /// A seeded fault comes after fewer requests of its connection than this.
    pub const REQUESTS_MAX: usize = 12;

    /// Everything passes as it is.
    pub const fn none() -> Self {
        Self::of(Schedule::Never)
    }

    /// `fault`, once: on the first connection that has had `at_request` requests and comes to the next, or to the
    /// answer to it. A client of `logd-client` begins each connection with CONFIG, which is request 0.
    pub const fn once(fault: Fault, at_request: usize) -> Self {
        Self::of(Schedule::Once { planned: Planned { fault, at_request }, done: false })
    }

    /// Random faults, the same for the same seed and order of connections: one on the first connection, and one on
    /// each of the others with a chance of [`FaultPlan::PERCENT_DEFAULT`].
    pub const fn seeded(seed: u64) -> Self {
        Self::of(Schedule::Seeded { random: Random::new(seed), percent: Self::PERCENT_DEFAULT, first: true })
    }

    const fn of(schedule: Schedule) -> Self {
        Self { schedule, delay: Self::DELAY_DEFAULT }
    }

    /// Sets how many connections after the first get a fault, in percent. Only of use to a seeded plan.
    #[must_use]
    pub const fn percent(mut self, chance: u8) -> Self {
        if let Schedule::Seeded { percent, .. } = &mut self.schedule {
            *percent = chance;
        }
        self
    }

    /// Sets how long a delayed message waits. Default: [`FaultPlan::DELAY_DEFAULT`].
    #[must_use]
    pub const fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    pub(super) const fn message_delay(&self) -> Duration {
        self.delay
    }

    /// What a new connection gets.
    pub(super) fn draw(&mut self) -> Option<Planned> {
        match &mut self.schedule {
            Schedule::Never => None,
            Schedule::Once { planned, done } => (!*done).then_some(*planned),
            Schedule::Seeded { random, percent, first } => {
                // Drawn in any case, so that the chance changes which connections have faults and not which faults.
                let (chance, fault) = (random.below(100), random.below(Fault::ALL.len()));
                let at_request = random.below(Self::REQUESTS_MAX);
                let drawn = std::mem::take(first) || chance < usize::from(*percent);
                let fault = Fault::ALL.get(fault).copied().filter(|_| drawn)?;
                Some(Planned { fault, at_request })
            }
        }
    }

    /// Whether what was drawn is to happen, now that a connection has come to it.
    pub(super) const fn fire(&mut self) -> bool {
        match &mut self.schedule {
            Schedule::Never => false,
            Schedule::Once { done, .. } => !std::mem::replace(done, true),
            Schedule::Seeded { .. } => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Fault, FaultPlan};

    #[test]
    fn a_seed_gives_the_same_faults_again_and_all_of_them() {
        let draws = |mut plan: FaultPlan| -> Vec<_> {
            (0..300).map(|_| plan.draw().map(|planned| (planned.fault, planned.at_request))).collect()
        };
        let faults = draws(FaultPlan::seeded(7));
        assert_eq!(draws(FaultPlan::seeded(7)), faults);
        assert_ne!(draws(FaultPlan::seeded(8)), faults);
        assert!(faults.contains(&None));
        for fault in Fault::ALL {
            assert!(faults.iter().flatten().any(|(drawn, _)| drawn == fault), "{fault:?} never came");
        }
        assert!(draws(FaultPlan::seeded(7).percent(100)).iter().all(Option::is_some));
        let first = draws(FaultPlan::seeded(7).percent(0));
        assert_eq!((first[0], first[1..].iter().all(Option::is_none)), (faults[0], true));
    }
}
