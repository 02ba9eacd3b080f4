//! Turns a row of logits into a token.

use crate::{
    Sampling,
    cpu::ops::{maximum, sum_of_exponentials},
};

/// Draws tokens for one request. Deterministic: the n-th draw depends on the seed, n and the logits only.
#[derive(Debug, Clone)]
pub struct Sampler {
    sampling: Sampling,
    state: u64,
    candidates: Vec<(u32, f32)>,
}

/// A chosen token with its natural-log probability under the model (temperature 1, no truncation).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    pub token: u32,
    pub log_probability: f32,
}

impl Choice {
    /// The greedy one.
    pub fn likeliest(logits: &[f32]) -> Self {
        let token = argmax(logits);
        Self { token, log_probability: log_probability(logits, token) }
    }
}

impl Sampler {
    pub fn new(sampling: Sampling) -> Self {
        let state = sampling.seed;
        Self { sampling, state, candidates: Vec::new() }
    }

    pub fn is_greedy(&self) -> bool {
        self.sampling.temperature <= 0.0
    }

    pub fn choose(&mut self, logits: &[f32]) -> Choice {
        let token = if self.is_greedy() { argmax(logits) } else { self.draw(logits) };
        Choice { token, log_probability: log_probability(logits, token) }
    }

    fn draw(&mut self, logits: &[f32]) -> u32 {
        let Sampling { temperature, top_k, top_p, min_p, .. } = self.sampling;
        let maximum = maximum(logits);
        let weight = |logit: f32| ((logit - maximum) / temperature).exp();
        self.candidates.clear();
        self.candidates.extend(
            logits
                .iter()
                .enumerate()
                .map(|(id, logit)| (id as u32, weight(*logit)))
                .filter(|(_, w)| *w >= min_p.max(1e-9)),
        );
        // Ties by id, so that the order does not depend on the sort.
        self.candidates.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        if top_k > 0 {
            self.candidates.truncate(top_k);
        }
        if top_p < 1.0 {
            let total: f32 = self.candidates.iter().map(|(_, w)| w).sum();
            let mut cumulative = 0.0;
            let enough = self.candidates.iter().position(|(_, w)| {
                cumulative += w;
                cumulative >= top_p * total
            });
            self.candidates.truncate(enough.map_or(self.candidates.len(), |index| index + 1));
        }
        let total: f32 = self.candidates.iter().map(|(_, w)| w).sum();
        let mut rest = self.uniform() * total;
        for (id, weight) in &self.candidates {
            rest -= weight;
            if rest < 0.0 {
                return *id;
            }
        }
        self.candidates.last().map_or_else(|| argmax(logits), |(id, _)| *id)
    }

    /// SplitMix64 (Steele, Lea and Flood 2014), the top 24 bits as a number in [0, 1).
    fn uniform(&mut self) -> f32 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 24) as f32
    }
}

/// The most likely token; the lowest id among equals.
pub fn argmax(logits: &[f32]) -> u32 {
    let maximum = maximum(logits);
    logits.iter().position(|logit| *logit == maximum).unwrap_or(0) as u32
}

/// The `count` most likely tokens, the likeliest first; among equals the lower id.
pub fn top(logits: &[f32], count: usize) -> Vec<Choice> {
    let mut best: Vec<(u32, f32)> = Vec::with_capacity(count + 1);
    let mut least = f32::NEG_INFINITY;
    for (id, &logit) in (0u32..).zip(logits) {
        if logit > least {
            let at = best.partition_point(|(_, other)| *other >= logit);
            best.insert(at, (id, logit));
            if best.len() > count {
                best.pop();
            }
            if best.len() == count {
                least = best.last().map_or(least, |(_, logit)| *logit);
            }
        }
    }
    let maximum = maximum(logits);
    let normalizer = sum_of_exponentials(logits, maximum).ln();
    let choice = |(token, logit)| Choice { token, log_probability: logit - maximum - normalizer };
    best.into_iter().map(choice).collect()
}

/// Natural-log softmax of one token.
pub fn log_probability(logits: &[f32], token: u32) -> f32 {
    let maximum = maximum(logits);
    logits[token as usize] - maximum - sum_of_exponentials(logits, maximum).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(sampling: Sampling, logits: &[f32], count: usize) -> Vec<usize> {
        let mut sampler = Sampler::new(sampling);
        let mut counts = vec![0; logits.len()];
        for _ in 0..count {
            counts[sampler.choose(logits).token as usize] += 1;
        }
        counts
    }

    #[test]
    fn settings_choose_what_they_say() {
        let logits = [1.0f32, 3.0, 2.0, 3.0, -1.0];
        let warm = Sampling { temperature: 1.0, seed: 42, ..Sampling::GREEDY };
        let cases: &[(&str, Sampling, &[bool])] = &[
            ("greedy takes the first of equals", Sampling::GREEDY, &[false, true, false, false, false]),
            ("everything is possible", warm.clone(), &[true; 5]),
            ("top_k 2", Sampling { top_k: 2, ..warm.clone() }, &[false, true, false, true, false]),
            ("top_p 0.5", Sampling { top_p: 0.5, ..warm.clone() }, &[false, true, false, true, false]),
            ("min_p 0.3", Sampling { min_p: 0.3, ..warm.clone() }, &[false, true, true, true, false]),
            (
                "cold is greedy",
                Sampling { temperature: 1e-3, top_k: 1, ..warm },
                &[false, true, false, false, false],
            ),
        ];
        for (name, sampling, possible) in cases {
            let counts = draws(sampling.clone(), &logits, 4000);
            let seen: Vec<bool> = counts.iter().map(|count| *count > 0).collect();
            assert_eq!(&seen, possible, "{name}: {counts:?}");
        }
    }

    #[test]
    fn the_top_is_the_head_of_the_sorted_logits() {
        let logits: Vec<f32> = (0..500).map(|i| ((i * 37 % 101) as f32 * 0.7).sin()).collect();
        let mut sorted: Vec<u32> = (0..500).collect();
        sorted.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]));
        for count in [1, 4, 16, 600] {
            let top = top(&logits, count);
            let tokens: Vec<u32> = top.iter().map(|choice| choice.token).collect();
            assert_eq!(tokens, sorted[..count.min(500)]);
            for choice in top {
                assert_eq!(choice.log_probability, log_probability(&logits, choice.token));
            }
        }
        assert_eq!(top(&[1.0, f32::NEG_INFINITY, 2.0], 3).len(), 2, "what a mask forbids is no choice");
    }

    /// Chi-squared test against the softmax: 4 degrees of freedom, 0.1% critical value 18.5.
    #[test]
    fn draws_follow_the_distribution() {
        let logits = [0.0f32, 1.0, 0.5, -1.0, 2.0];
        let total: f32 = logits.iter().map(|l| l.exp()).sum();
        let count = 20_000;
        let counts = draws(Sampling { temperature: 1.0, seed: 7, ..Sampling::GREEDY }, &logits, count);
        let statistic: f32 = counts
            .iter()
            .zip(&logits)
            .map(|(seen, logit)| {
                let expected = logit.exp() / total * count as f32;
                (*seen as f32 - expected).powi(2) / expected
            })
            .sum();
        assert!(statistic < 18.5, "chi-squared {statistic}");
    }

    #[test]
    fn same_seed_same_tokens() {
        let logits: Vec<f32> = (0..50).map(|i| (i as f32 * 0.7).sin()).collect();
        let sampling = Sampling { temperature: 0.8, seed: 3, ..Sampling::GREEDY };
        assert_eq!(draws(sampling.clone(), &logits, 100), draws(sampling, &logits, 100));
    }
}
