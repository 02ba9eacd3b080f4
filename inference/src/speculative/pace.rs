//! How many tokens to guess: as many as measured acceptance makes worth their cost.

/// Longest draft: beyond it even a perfect guesser gains little a step.
const LONGEST: usize = 12;
/// A guess is worth making while the chance that it is reached and right exceeds this share, about what one more
/// row in a step costs compared with a step of its own.
const WORTH: f32 = 0.4;
/// Weight of a new observation.
const LEARNING: f32 = 0.15;

/// Running estimate of the chance that a guess is right, given that those before it were.
#[derive(Debug)]
pub(super) struct Pace {
    acceptance: f32,
}

impl Default for Pace {
    fn default() -> Self {
        Self { acceptance: 0.75 }
    }
}

impl Pace {
    /// Draft length after a repetition of `matched` tokens.
    pub(super) fn length(&self, matched: usize) -> usize {
        // A longer repetition is likelier to go on: half the remaining doubt for each doubling beyond four tokens.
        let doublings = (matched as f32 / 4.0).log2().max(0.0);
        let chance = 1.0 - (1.0 - self.acceptance) * 0.5f32.powf(doublings);
        if chance < WORTH {
            return 0;
        }
        let reach = WORTH.ln() / chance.min(0.97).ln();
        (reach as usize).clamp(1, LONGEST)
    }

    pub(super) fn record(&mut self, drafted: usize, agreed: usize) {
        for _ in 0..agreed {
            self.acceptance += LEARNING * (1.0 - self.acceptance);
        }
        if agreed < drafted {
            self.acceptance -= LEARNING * 2.0 * self.acceptance;
        }
        // Never so low that a long repetition is not tried again.
        self.acceptance = self.acceptance.max(0.05);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_follows_acceptance() {
        let mut pace = Pace::default();
        let fresh = pace.length(4);
        assert!((1..LONGEST).contains(&fresh));
        for _ in 0..30 {
            pace.record(4, 4);
        }
        assert_eq!(pace.length(4), LONGEST);
        for _ in 0..30 {
            pace.record(4, 0);
        }
        assert_eq!(pace.length(4), 0, "short repetitions are given up");
        assert!(pace.length(64) > 0, "long ones are still tried");
    }
}
