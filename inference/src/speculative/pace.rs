//! How many tokens to guess: as many as measured acceptance and measured cost make worth their while.

/// Longest draft: with the token before it, the sixteen rows that CPU kernels compute together.
pub(super) const LONGEST: usize = 15;
/// Weight of a new observation.
const LEARNING: f32 = 0.08;
/// Weight of an assumption that comes back.
const RELAXING: f32 = 0.02;

/// Chances that a guess is right, given that those before it were, by how much agreed before it: 0 to 3 tokens,
/// then to 5, 7, 15, 31 and more. Measured over all requests; they start at what repetitions in code are worth.
#[derive(Debug, Clone)]
pub struct Pace {
    chances: [f32; 6],
}

impl Default for Pace {
    fn default() -> Self {
        Self { chances: [0.45, 0.55, 0.65, 0.75, 0.85, 0.93] }
    }
}

fn class(matched: usize) -> usize {
    match matched {
        0..=3 => 0,
        4..=5 => 1,
        6..=7 => 2,
        8..=15 => 3,
        16..=31 => 4,
        _ => 5,
    }
}

impl Pace {
    /// Draft length, at most `most`, after `matched` tokens that agreed. What is taken is put to the step's account.
    pub(super) fn length(&self, matched: usize, most: usize, step: &mut StepCost) -> usize {
        let mut chance = 1.0;
        (0..most)
            .take_while(|drafted| {
                chance *= self.chances[class(matched + drafted)];
                step.take(chance)
            })
            .count()
    }

    /// Goes back a little to what is assumed of what was never measured.
    pub(super) fn relax(&mut self) {
        for (chance, fresh) in self.chances.iter_mut().zip(Self::default().chances) {
            *chance += RELAXING * (fresh - *chance);
        }
    }

    /// Learns from what the model chose, whether the guesses were drafted or not: `guesses` after `matched` tokens
    /// that agreed.
    pub(super) fn learn(&mut self, matched: usize, guesses: &[u32], chosen: &[u32]) {
        for (at, (guess, chosen)) in guesses.iter().zip(chosen).enumerate() {
            let chance = &mut self.chances[class(matched + at)];
            let right = guess == chosen;
            *chance += LEARNING * (f32::from(u8::from(right)) - *chance);
            if !right {
                break;
            }
        }
    }
}

/// What a step costs and yields, to decide whether one more row is worth computing: it is, while it yields more
/// tokens for its time than the step as a whole.
#[derive(Debug, Clone)]
pub struct StepCost {
    /// Time of one more row, relative to that of a step with one row.
    row: f32,
    /// Time of a guess itself, in the same unit.
    guess: f32,
    time: f32,
    tokens: f32,
}

impl StepCost {
    /// A step with `rows` rows that yield a token each, before any draft.
    pub fn new(row: f32, rows: usize) -> Self {
        let rows = rows.max(1) as f32;
        Self { row, guess: 0.0, time: 1.0 + row * (rows - 1.0), tokens: rows }
    }

    /// Takes rows whose guesses cost so much each.
    pub(super) fn with_guess<T>(&mut self, guess: f32, take: impl FnOnce(&mut Self) -> T) -> T {
        self.guess = guess;
        let taken = take(self);
        self.guess = 0.0;
        taken
    }

    /// Adds a row that yields a token with this chance, if that is worth it.
    fn take(&mut self, chance: f32) -> bool {
        let cost = self.row + self.guess;
        let worth = chance * self.time > cost * self.tokens;
        if worth {
            self.tokens += chance;
            self.time += cost;
        }
        worth
    }
}

/// Cost of a row, relative to a step with one row, before anything was measured.
const ROW: f64 = 0.25;
/// Weight that older steps keep.
const KEEP: f64 = 0.98;
/// Steps that took so many times the mean are left out: the machine was asleep or busy with something else.
const OUTLIER: f64 = 16.0;

/// The time of a decoding step as a line over its rows: a running least-squares fit.
#[derive(Debug, Clone, Default)]
pub struct RowTimes {
    weight: f64,
    rows: f64,
    time: f64,
    rows_squared: f64,
    rows_time: f64,
}

impl RowTimes {
    /// A step of so many rows, each a token of a decoding sequence or a draft, took `milliseconds`.
    pub fn record(&mut self, rows: usize, milliseconds: f64) {
        if self.weight >= 8.0 && milliseconds > OUTLIER * self.time / self.weight {
            return;
        }
        let rows = rows as f64;
        for (sum, value) in [
            (&mut self.weight, 1.0),
            (&mut self.rows, rows),
            (&mut self.time, milliseconds),
            (&mut self.rows_squared, rows * rows),
            (&mut self.rows_time, rows * milliseconds),
        ] {
            *sum = *sum * KEEP + value;
        }
    }

    /// Time of one more row relative to a step with one row. Measured where steps of different sizes were seen.
    pub fn row(&self) -> f32 {
        let variance = self.rows_squared - self.rows * self.rows / self.weight.max(1.0);
        if self.weight < 8.0 || variance < 4.0 {
            return ROW as f32;
        }
        let slope = (self.rows_time - self.rows * self.time / self.weight) / variance;
        let single = (self.time - slope * self.rows) / self.weight + slope;
        // A noisy clock must neither forbid nor force drafts.
        (slope / single.max(f64::MIN_POSITIVE)).clamp(0.01, 0.6) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_follows_acceptance_and_cost() {
        let length =
            |pace: &Pace, matched, row, rows| pace.length(matched, LONGEST, &mut StepCost::new(row, rows));
        let fresh = Pace::default();
        assert!((1..LONGEST).contains(&length(&fresh, 4, 0.25, 1)));
        assert!(length(&fresh, 40, 0.25, 1) > length(&fresh, 4, 0.25, 1));
        assert!(length(&fresh, 4, 0.05, 1) > length(&fresh, 4, 0.25, 1), "cheap rows");
        assert!(length(&fresh, 8, 0.3, 16) < length(&fresh, 8, 0.3, 1), "a full batch");
        let (mut good, mut bad) = (fresh.clone(), fresh);
        for _ in 0..100 {
            good.learn(4, &[7; LONGEST], &[7; LONGEST]);
            bad.learn(4, &[7], &[8]);
        }
        assert_eq!(length(&good, 4, 0.25, 1), LONGEST);
        assert_eq!(length(&bad, 4, 0.25, 1), 0, "short repetitions are given up");
        assert!(length(&bad, 64, 0.25, 1) > 0, "long ones are still tried");
        for _ in 0..100 {
            bad.learn(4, &[7], &[7]);
        }
        assert!(length(&bad, 4, 0.25, 1) > 0, "and what is not drafted is learned from all the same");
    }

    #[test]
    fn the_cost_of_a_row_is_measured() {
        let mut times = RowTimes::default();
        assert_eq!(times.row(), ROW as f32);
        for _ in 0..50 {
            times.record(1, 10.0);
        }
        assert_eq!(times.row(), ROW as f32, "steps of one size tell nothing");
        for rows in (1..9).cycle().take(200) {
            times.record(rows, 9.0 + rows as f64);
        }
        assert!((times.row() - 0.1).abs() < 0.01, "{}", times.row());
    }
}
