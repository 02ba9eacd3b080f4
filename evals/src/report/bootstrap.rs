//! Two runs compared case by case: the difference of means with a paired bootstrap confidence interval.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Case, Interval};

const RESAMPLES: usize = 10_000;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    pub metric: String,
    /// Cases that both runs have.
    pub cases: usize,
    pub a: f64,
    pub b: f64,
    /// b - a.
    pub difference: f64,
    #[serde(flatten)]
    pub interval: Interval,
}

/// Which cases of a run count, and whether the group tells cases apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of<'a> {
    /// All; a case of one group has its partner in the same group.
    AllGroups,
    /// Those of one group; partners are found by their ids alone.
    Group(&'a str),
}

/// One row for each metric that both runs measured on the same cases.
pub fn compare(a: (&[Case], Of<'_>), b: (&[Case], Of<'_>), seed: u64) -> Vec<Difference> {
    let (a, b) = (by_metric(a.0, a.1), by_metric(b.0, b.1));
    let mut rows = Vec::new();
    for (metric, of_a) in &a {
        let Some(of_b) = b.get(metric) else { continue };
        let pairs: Vec<(f64, f64)> =
            of_a.iter().filter_map(|(id, &value)| Some((value, *of_b.get(id)?))).collect();
        let differences: Vec<f64> = pairs.iter().map(|(a, b)| b - a).collect();
        let Some(interval) = interval(&differences, seed) else { continue };
        let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / pairs.len() as f64;
        let (a, b) = (mean(&mut pairs.iter().map(|pair| pair.0)), mean(&mut pairs.iter().map(|pair| pair.1)));
        rows.push(Difference {
            metric: metric.clone(),
            cases: pairs.len(),
            a,
            b,
            difference: b - a,
            interval,
        });
    }
    rows
}

/// The 2.5th and 97.5th percentile of the resampled means; `None` of nothing.
pub fn interval(values: &[f64], seed: u64) -> Option<Interval> {
    if values.is_empty() {
        return None;
    }
    let mut state = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut means: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let sum: f64 =
                (0..values.len()).map(|_| values[(random(&mut state) % values.len() as u64) as usize]).sum();
            sum / values.len() as f64
        })
        .collect();
    means.sort_by(f64::total_cmp);
    Some(Interval { low: means[RESAMPLES / 40], high: means[RESAMPLES - 1 - RESAMPLES / 40] })
}

/// One value for each case: the mean over its samples.
pub fn means_of_cases(cases: &[Case], metric: &str) -> Vec<f64> {
    by_metric(cases, Of::AllGroups).remove(metric).unwrap_or_default().into_values().collect()
}

/// SplitMix64: small, seeded, the same everywhere.
pub fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Metric to case to value; several samples of one case are averaged. Latency counts as a metric.
fn by_metric(cases: &[Case], of: Of<'_>) -> BTreeMap<String, BTreeMap<String, f64>> {
    let mut sums: BTreeMap<String, BTreeMap<String, (f64, f64)>> = BTreeMap::new();
    for case in cases {
        let id = match of {
            Of::AllGroups => format!("{}\u{1f}{}", case.group, case.id),
            Of::Group(group) if group == case.group => case.id.clone(),
            Of::Group(_) => continue,
        };
        let values = case.values.iter().map(|(name, value)| (name.clone(), *value));
        for (name, value) in values.chain([("milliseconds".to_owned(), case.milliseconds)]) {
            let sum = sums.entry(name).or_default().entry(id.clone()).or_default();
            sum.0 += value;
            sum.1 += 1.0;
        }
    }
    let mean = |(id, (sum, count)): (String, (f64, f64))| (id, sum / count);
    sums.into_iter().map(|(name, cases)| (name, cases.into_iter().map(mean).collect())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(id: usize, value: f64) -> Case {
        Case { id: id.to_string(), values: BTreeMap::from([("m".to_owned(), value)]), ..Case::default() }
    }

    #[test]
    fn differences() {
        let a: Vec<Case> = (0..100).map(|id| case(id, f64::from(id % 4 == 0))).collect();
        // B passes what A passes and a quarter more; case 100 has no partner.
        let b: Vec<Case> = (0..101).map(|id| case(id, f64::from(id % 2 == 0))).collect();
        let both = (Of::AllGroups, Of::AllGroups);
        let row = |seed| {
            let rows = compare((&a, both.0), (&b, both.1), seed);
            rows.into_iter().find(|row| row.metric == "m").unwrap()
        };
        let first = row(0);
        assert_eq!((first.cases, first.a, first.b, first.difference), (100, 0.25, 0.5, 0.25));
        let Interval { low, high } = first.interval;
        assert!(low > 0.15 && low < 0.22 && high > 0.28 && high < 0.36, "{first:?}");
        assert_eq!(row(0), row(0), "the same seed gives the same interval");
        assert_eq!(interval(&[0.5], 0), Some(Interval { low: 0.5, high: 0.5 }));
        assert_eq!(interval(&[], 0), None);
    }

    #[test]
    fn groups_of_one_run() {
        let in_group = |group: &str, id, value| Case { group: group.into(), ..case(id, value) };
        let run = [in_group("off", 0, 0.0), in_group("on", 0, 1.0), in_group("off", 1, 1.0)];
        let rows = compare((&run, Of::Group("off")), (&run, Of::Group("on")), 0);
        let row = rows.iter().find(|row| row.metric == "m").unwrap();
        assert_eq!((row.cases, row.a, row.b), (1, 0.0, 1.0));
        assert_eq!(means_of_cases(&run, "m").len(), 3);
    }
}
