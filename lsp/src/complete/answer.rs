//! What the engine wrote: read until the rest could not be shown.

use lacuna_inference::{Alternative, EngineError, Event, Generation, RequestStats};

use super::{
    explain::{Explain, Stop},
    flight::Pilot,
    postprocess::{self, Around, Step},
    prompt::Prompt,
};

pub struct Answer {
    /// As it would stand at the cursor.
    pub text: String,
    pub stop: Stop,
    pub stats: RequestStats,
    /// What a search found beside it, the likelier first.
    pub others: Vec<Other>,
}

/// An answer that is less likely as a whole.
pub struct Other {
    pub text: String,
    pub stop: Stop,
    pub confidence: f32,
}

/// An answer as it can be shown.
pub struct Fitted {
    pub text: String,
    pub steps: Vec<Step>,
    pub confidence: f32,
}

/// Less likely answers that are looked at: each is parsed.
const MOST_OTHERS: usize = 8;

impl Answer {
    /// Geometric mean of the probabilities of the generated tokens, from 0 to 1.
    pub fn confidence(&self) -> f32 {
        self.stats.mean_log_probability.map_or(0.0, f32::exp)
    }

    /// The likeliest of its texts with which nothing is wrong; the likeliest of all where none is left. `process` is the
    /// post-processing.
    pub fn fitted(&self, process: impl Fn(&str, Stop) -> (String, Vec<Step>)) -> Fitted {
        let (text, steps) = process(&self.text, self.stop);
        let first = Fitted { text, steps, confidence: self.confidence() };
        if postprocess::is_sound(&first.steps) {
            return first;
        }
        for other in self.others.iter().take(MOST_OTHERS) {
            let (text, mut steps) = process(&other.text, other.stop);
            if postprocess::is_sound(&steps) && !text.is_empty() {
                let why = "something was wrong with a likelier one";
                steps.insert(0, Step { step: "another answer", why, removed: self.text.clone() });
                return Fitted { text, steps, confidence: other.confidence };
            }
        }
        first
    }

    pub fn describe(&self, explain: &mut Explain) {
        let stats = &self.stats;
        explain.raw = self.text.clone();
        explain.generated_tokens = stats.generated_tokens;
        explain.stop_reason = Some(self.stop);
        explain.mean_log_probability = stats.mean_log_probability;
        explain.cached_tokens = Some(stats.cached_tokens);
        explain.beams = Some(stats.beams);
        explain.beams_given_up = Some(stats.beams_given_up);
        explain.drafted_tokens = Some(stats.drafted_tokens);
        explain.accepted_tokens = Some(stats.accepted_tokens);
        explain.milliseconds.queue = stats.queue_ms;
        explain.milliseconds.prefill = stats.prefill_ms;
        explain.milliseconds.decode = stats.decode_ms;
    }
}

/// Reads a generation to its end, or until the rest could not be shown; tells `pilot` about the text as it comes.
pub async fn read(
    mut generation: Generation,
    around: &Around<'_>,
    prompt: &Prompt,
    pilot: Option<&Pilot>,
) -> Result<Answer, EngineError> {
    let mut raw = String::new();
    let mut ended = None;
    while let Some(event) = generation.next().await {
        match event {
            Event::Token { .. } if ended.is_some() => {}
            Event::Token { text, .. } => {
                if text.is_empty() {
                    continue;
                }
                raw.push_str(&text);
                let Some(so_far) = prompt.join_part(&raw) else { continue };
                if let Some(pilot) = pilot {
                    pilot.tell(&so_far);
                }
                let end = if postprocess::is_over(&so_far, around) {
                    Stop::EndOfBlock
                } else if postprocess::is_looping(&so_far) {
                    Stop::Repetition
                } else {
                    continue;
                };
                // The engine goes on to the next request; what comes after is the statistics.
                generation.stop();
                ended.get_or_insert(end);
            }
            Event::Finished { reason, text, alternatives, stats } => {
                raw.push_str(&text);
                let other = |other: Alternative| Other {
                    text: prompt.join(&other.text),
                    stop: other.reason.into(),
                    confidence: other.mean_log_probability.map_or(0.0, f32::exp),
                };
                let others = alternatives.into_iter().map(other).collect();
                let stop = ended.unwrap_or(reason.into());
                return Ok(Answer { text: prompt.join(&raw), stop, stats, others });
            }
            Event::Failed(error) => return Err(error),
        }
    }
    Err(EngineError::Stopped("it went away before the answer was complete".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `+` marks an answer that a harmless step shortens, `-` one of which a step cuts what is wrong.
    fn process(text: &str, _: Stop) -> (String, Vec<Step>) {
        let step = |step| vec![Step { step, why: "", removed: String::new() }];
        match text.split_at_checked(1) {
            Some(("+", rest)) => (rest.to_string(), step("white space")),
            Some(("-", rest)) => (rest.to_string(), step("syntax")),
            _ => (text.to_string(), Vec::new()),
        }
    }

    #[test]
    fn the_likeliest_text_with_which_nothing_is_wrong_is_taken() {
        for (texts, expected, is_other) in [
            (&["a"][..], "a", false),
            (&["a", "b"], "a", false),
            (&["+a", "b"], "a", false),
            (&["-a"], "a", false),
            (&["-a", "-b", "+c", "d"], "c", true),
            (&["-a", "+", "d"], "d", true),
            (&["-a", "-b"], "a", false),
            (&["", "b"], "", false),
        ] {
            let other = |text: &&str| Other { text: (*text).into(), stop: Stop::StopToken, confidence: 0.5 };
            let answer = Answer {
                text: texts[0].into(),
                stop: Stop::StopToken,
                stats: RequestStats::default(),
                others: texts[1..].iter().map(other).collect(),
            };
            let fitted = answer.fitted(process);
            assert_eq!(fitted.text, expected, "{texts:?}");
            let first = fitted.steps.first().map(|step| step.step);
            assert_eq!(first == Some("another answer"), is_other, "{texts:?}");
            assert_eq!(fitted.confidence, if is_other { 0.5 } else { 0.0 });
        }
    }
}
