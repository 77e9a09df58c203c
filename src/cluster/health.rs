//! Whether a server answers: what each event makes of it.

use super::Event;

/// Whether a server answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Health {
    /// Not asked yet.
    #[default]
    Unknown,
    /// The last probe passed and nothing bad was heard since.
    Up,
    /// A connection was lost or refused since the last probe: no reads until one passes.
    Suspect,
    /// The last probe failed.
    Down,
}

impl Health {
    /// Does a primary in this health stay primary? One lost connection is not a dead server: clients that are cut off by
    /// `pg_terminate_backend` must not turn writes away.
    #[must_use]
    pub fn keeps_primary(self) -> bool {
        matches!(self, Self::Up | Self::Suspect)
    }

    /// The health after `event`.
    #[must_use]
    pub(super) fn after(self, event: &Event) -> Self {
        match event {
            Event::Probed(_) => Self::Up,
            Event::ProbeFailed(_) => Self::Down,
            Event::ConnectFailed(_) | Event::Lost(_) | Event::Doubted(_) => match self {
                Self::Up | Self::Suspect => Self::Suspect,
                // What clients run into says nothing new about a server that is down or was never asked.
                Self::Unknown | Self::Down => self,
            },
        }
    }
}

impl std::fmt::Display for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Suspect => "suspect",
            Self::Down => "down",
        })
    }
}
