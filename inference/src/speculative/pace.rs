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
    /// Draft length, at most `most`, after `matched` tokens that agreed, and what it takes, in tokens at the step's rate without
    /// it. What is taken is put to the step's account.
    pub(super) fn length(
        &self,
        matched: usize,
        most: usize,
        step: &mut StepCost,
        balance: &Balance,
    ) -> (usize, f32) {
        let chances = (0..most).scan(1.0, |chance, drafted| {
            *chance *= self.chances[class(matched + drafted)];
            Some(*chance)
        });
        step.take(chances, balance.credit)
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

/// What a step costs and yields, to decide how many more rows are worth computing: as many as give the most tokens for
/// the step's time as a whole.
#[derive(Debug, Clone)]
pub struct StepCost {
    times: RowTimes,
    rows: usize,
    /// Time of a guess itself, relative to a step with one row.
    guess: f32,
    /// Time of all guesses taken, in the same unit.
    guesses: f32,
    tokens: f32,
}

/// What the drafts of one request may lose, in tokens of its plain decoding: it begins with little, wins add to it, losses take
/// from it. Whatever others have learned, no request loses much more than it began with.
#[derive(Debug)]
pub struct Balance {
    credit: f32,
}

impl Default for Balance {
    fn default() -> Self {
        Self { credit: Self::FIRST }
    }
}

impl Balance {
    /// For guesses whose losses are kept small in another way.
    pub(super) const UNLIMITED: Self = Self { credit: f32::INFINITY };
    const FIRST: f32 = 1.8;
    /// Wins are forgotten beyond this, so that they do not pay for losses without end.
    const MOST: f32 = 5.0;
    /// Losses are forgiven by so much a step.
    const FORGIVEN: f32 = 0.004;
    /// Drafts cost more than the time of their rows tells: a request whose guesses were right as often as they had to be lost
    /// 3 % (measured on 2 cores with the embedded model).
    const DEARER: f32 = 1.2;

    /// A step gave `accepted` tokens beyond the first, for rows that took the time of `price` tokens.
    pub(super) fn add(&mut self, accepted: usize, price: f32) {
        self.credit = (self.credit + accepted as f32 - Self::DEARER * price).min(Self::MOST);
        if self.credit < Self::FIRST {
            self.credit = (self.credit + Self::FORGIVEN).min(Self::FIRST);
        }
    }
}

/// Drafts have to promise so much more than the step without them: chances and times are estimates.
const MARGIN: f32 = 1.03;

impl StepCost {
    /// A step with `rows` rows that yield a token each, before any draft.
    pub fn new(times: RowTimes, rows: usize) -> Self {
        let rows = rows.max(1);
        Self { times, rows, guess: 0.0, guesses: 0.0, tokens: rows as f32 }
    }

    /// Takes rows whose guesses cost so much each.
    pub(super) fn with_guess<T>(&mut self, guess: f32, take: impl FnOnce(&mut Self) -> T) -> T {
        self.guess = guess;
        let taken = take(self);
        self.guess = 0.0;
        taken
    }

    /// Adds the first of the rows that yield a token with these chances, as many as are worth it and take no more than
    /// `credit` tokens. Returns their number, and what they take.
    fn take(&mut self, chances: impl Iterator<Item = f32>, credit: f32) -> (usize, f32) {
        let before = self.times.relative(self.rows) + self.guesses;
        let (rate, mut tokens) = (self.tokens / before, self.tokens);
        let (mut best, mut best_rate) = ((0, tokens, 0.0), MARGIN * rate);
        for (index, chance) in chances.enumerate() {
            let taken = index + 1;
            tokens += chance;
            let time = self.times.relative(self.rows + taken) + self.guesses + taken as f32 * self.guess;
            let price = (time - before) * rate;
            if price <= credit && tokens / time > best_rate {
                (best, best_rate) = ((taken, tokens, price), tokens / time);
            }
        }
        self.rows += best.0;
        self.guesses += best.0 as f32 * self.guess;
        self.tokens = best.1;
        (best.0, best.2)
    }
}

/// Rows whose times are told apart; more are reckoned from these.
const MOST_ROWS: usize = LONGEST + 1;
/// Times relative to a step with one row before anything was measured: as small models take them on a CPU, where drafts win
/// least.
fn assumed(more: usize) -> f32 {
    match more {
        0..4 => 1.0 + 0.35 * more as f32,
        _ => 2.6 + 0.08 * (more - 4) as f32,
    }
}
/// A noisy clock must neither forbid nor force drafts: each row counts as between so much and so much of a step.
const LEAST_ROW: f32 = 0.01;
const MOST_ROW: f32 = 0.6;
/// Weight of a new time in the speed of the machine, and, after the first ones, in what a number of rows takes.
const SPEED_LEARNING: f32 = 0.1;
const ROWS_LEARNING: f32 = 0.05;
/// Steps that took so many times what was expected are left out: the machine was asleep or busy with something else.
const OUTLIER: f32 = 16.0;

/// The time of a decoding step by its rows. Kernels take one to four rows one by one and up to sixteen together, so that
/// it is no line: what each number of rows takes is measured, relative to one row, beside the speed that the machine has
/// at the moment. More rows never count as faster than fewer, so that a measured number tells of the others too.
#[derive(Debug, Clone, Copy)]
pub struct RowTimes {
    /// Milliseconds of a step with one row; zero before anything was measured.
    one: f32,
    /// By rows less one.
    relative: [f32; MOST_ROWS],
    /// How often each was measured, as far as it matters.
    measured: [u8; MOST_ROWS],
}

impl Default for RowTimes {
    fn default() -> Self {
        Self { one: 0.0, relative: std::array::from_fn(assumed), measured: [0; MOST_ROWS] }
    }
}

impl RowTimes {
    /// A step of so many rows, each a token of a decoding sequence or a draft, took `milliseconds`.
    pub fn record(&mut self, rows: usize, milliseconds: f64) {
        let Some(more) = rows.checked_sub(1).filter(|more| *more < MOST_ROWS) else { return };
        let one = milliseconds as f32 / self.relative[more];
        // Where the times before were so much longer, the weights were still on their way into memory.
        if self.one == 0.0 || self.one > OUTLIER * one {
            self.one = one;
        }
        if one > OUTLIER * self.one {
            return;
        }
        self.one += SPEED_LEARNING * (one - self.one);
        if more == 0 || self.one <= 0.0 {
            return;
        }
        let measured = &mut self.measured[more];
        *measured = measured.saturating_add(1);
        let learning = ROWS_LEARNING.max(1.0 / (1.0 + f32::from(*measured)));
        let new = self.relative[more] + learning * (milliseconds as f32 / self.one - self.relative[more]);
        let new = new.clamp(1.0 + LEAST_ROW * more as f32, 1.0 + MOST_ROW * more as f32);
        for (other, time) in self.relative.iter_mut().enumerate().skip(1) {
            *time = match other.cmp(&more) {
                std::cmp::Ordering::Less => time.min(new),
                std::cmp::Ordering::Equal => new,
                std::cmp::Ordering::Greater => time.max(new),
            };
        }
    }

    /// Time of a step with `rows` rows relative to one with one.
    fn relative(&self, rows: usize) -> f32 {
        let longest = self.relative[MOST_ROWS - 1];
        match self.relative.get(rows.saturating_sub(1)) {
            Some(time) => *time,
            None => longest + (longest - 1.0) / (MOST_ROWS - 1) as f32 * (rows - MOST_ROWS) as f32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Times as if each row more took this part of a step.
    fn line(row: f32) -> RowTimes {
        RowTimes { relative: std::array::from_fn(|more| 1.0 + row * more as f32), ..RowTimes::default() }
    }

    #[test]
    fn length_follows_acceptance_and_cost() {
        let length = |pace: &Pace, matched, row, rows| {
            pace.length(matched, LONGEST, &mut StepCost::new(line(row), rows), &Balance::UNLIMITED).0
        };
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
    fn a_step_up_is_taken_where_what_comes_behind_it_pays() {
        let relative = std::array::from_fn(|more| if more < 4 { 1.0 + 0.2 * more as f32 } else { 3.0 });
        let length = |chance: f32| {
            let mut step = StepCost::new(RowTimes { relative, ..RowTimes::default() }, 1);
            step.take((1..=LONGEST as i32).map(|drafted| chance.powi(drafted)), 4.0).0
        };
        assert_eq!([length(0.1), length(0.8), length(0.99)], [0, 3, LONGEST]);
    }

    #[test]
    fn a_request_that_loses_by_drafts_gets_fewer() {
        let (mut pace, mut balance) = (Pace::default(), Balance::default());
        (0..100).for_each(|_| pace.learn(40, &[7; LONGEST], &[7; LONGEST]));
        let length =
            |balance: &Balance| pace.length(40, LONGEST, &mut StepCost::new(line(0.25), 1), balance).0;
        let first = length(&balance);
        balance.add(0, 1.2);
        assert!(first > 1 && length(&balance) <= 1);
        (0..1000).for_each(|_| balance.add(0, 0.0));
        assert_eq!(length(&balance), first, "forgiven in time");
        (0..9).for_each(|_| balance.add(5, 1.0));
        assert!(length(&balance) > first, "wins pay for longer ones");
        balance.add(0, Balance::MOST);
        assert_eq!(length(&balance), 0, "but for so much only");
    }

    #[test]
    fn times_are_measured_and_the_speed_of_the_machine_is_not_mistaken_for_them() {
        let mut times = RowTimes::default();
        let truth = |rows: usize| if rows <= 4 { 0.8 + 0.2 * rows as f64 } else { 2.0 };
        for round in 0..4000 {
            let speed = if round / 500 % 2 == 0 { 1.0 } else { 1.4 };
            let rows = [1, 2, 4, 9, 16][round % 5];
            times.record(rows, truth(rows) * speed);
        }
        for rows in [1, 2, 4, 9, 16] {
            let (found, truth) = (times.relative(rows), truth(rows) as f32);
            assert!((found - truth).abs() < 0.1, "{rows} rows: {found} and {truth}");
        }
        // Never measured, and between two that were.
        assert!((1.2..=1.7).contains(&times.relative(3)) && (1.9..=2.1).contains(&times.relative(12)));
        let before = times;
        times.record(1, 1e6);
        assert_eq!((times.one, times.relative), (before.one, before.relative), "a machine that slept");
        let mut cold = RowTimes::default();
        [1000.0, 10.0, 10.0].into_iter().for_each(|time| cold.record(1, time));
        assert!(cold.one < 11.0, "a first step that waited for the weights");
    }
}
