//! pass@k by the unbiased estimator: 1 - C(n-c, k) / C(n, k), averaged over the tasks (Chen et al. 2021).

/// Samples of one task, and how many of them passed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    pub samples: usize,
    pub passed: usize,
}

/// The chance that at least one of `k` samples drawn without replacement passed.
pub fn estimate(tally: Tally, k: usize) -> f64 {
    let Tally { samples, passed } = tally;
    if samples.saturating_sub(passed) < k {
        return 1.0;
    }
    let product: f64 = (samples - passed + 1..=samples).map(|i| 1.0 - k as f64 / i as f64).product();
    1.0 - product
}

/// The mean over all tasks; `None` when there is no task or a task has fewer than `k` samples.
pub fn mean(tallies: &[Tally], k: usize) -> Option<f64> {
    if k == 0 || tallies.is_empty() || tallies.iter().any(|tally| tally.samples < k) {
        return None;
    }
    Some(tallies.iter().map(|&tally| estimate(tally, k)).sum::<f64>() / tallies.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates() {
        // Samples, passed, k, and 1 - C(n-c, k) / C(n, k) worked out by hand.
        for (samples, passed, k, expected) in [
            (1, 0, 1, 0.0),
            (1, 1, 1, 1.0),
            (10, 3, 1, 0.3),
            (10, 3, 5, 1.0 - 21.0 / 252.0),
            (10, 1, 10, 1.0),
            (10, 0, 10, 0.0),
            (100, 5, 10, 0.416_247_9),
            (5, 4, 2, 1.0),
        ] {
            let got = estimate(Tally { samples, passed }, k);
            assert!((got - expected).abs() < 1e-6, "{samples} {passed} {k}: {got} against {expected}");
        }
    }

    #[test]
    fn a_k_needs_as_many_samples_of_every_task() {
        let tallies = [Tally { samples: 10, passed: 5 }, Tally { samples: 2, passed: 2 }];
        assert_eq!(mean(&tallies, 1), Some(0.75));
        assert_eq!(mean(&tallies, 10), None);
        assert_eq!(mean(&[], 1), None);
    }
}
