//! What the engine wrote: read until the rest could not be shown.

use std::time::{Duration, Instant};

use lacuna_inference::{EngineError, Event, Generation, RequestStats, milliseconds};

use super::{
    explain::{Explain, Stop},
    flight::Pilot,
    postprocess::{self, Around},
    prompt::Prompt,
};

pub struct Answer {
    /// As it would stand at the cursor.
    pub text: String,
    pub stop: Stop,
    pub stats: Option<RequestStats>,
    generated: usize,
    log_probability_sum: f32,
    first_token: Option<Duration>,
    total: Duration,
}

impl Answer {
    /// Mean natural-log probability of a generated token.
    pub fn mean_log_probability(&self) -> Option<f32> {
        (self.generated > 0).then(|| self.log_probability_sum / self.generated as f32)
    }

    pub fn describe(&self, explain: &mut Explain) {
        explain.raw = self.text.clone();
        explain.generated_tokens = self.generated;
        explain.stop_reason = Some(self.stop);
        explain.mean_log_probability = self.mean_log_probability();
        match &self.stats {
            Some(stats) => {
                explain.cached_tokens = Some(stats.cached_tokens);
                explain.drafted_tokens = Some(stats.drafted_tokens);
                explain.accepted_tokens = Some(stats.accepted_tokens);
                explain.milliseconds.queue = stats.queue_ms;
                explain.milliseconds.prefill = stats.prefill_ms;
                explain.milliseconds.decode = stats.decode_ms;
            }
            None => {
                let first = self.first_token.unwrap_or(self.total);
                explain.milliseconds.prefill = milliseconds(first);
                explain.milliseconds.decode = milliseconds(self.total.saturating_sub(first));
            }
        }
    }
}

/// Reads a generation to its end, or until the rest could not be shown; tells `pilot` about the text as it comes.
pub async fn read(
    mut generation: Generation,
    around: &Around<'_>,
    prompt: &Prompt,
    pilot: Option<&Pilot>,
    submitted: Instant,
) -> Result<Answer, EngineError> {
    let mut answer = Answer {
        text: String::new(),
        stop: Stop::Cancelled,
        stats: None,
        generated: 0,
        log_probability_sum: 0.0,
        first_token: None,
        total: Duration::ZERO,
    };
    let mut raw = String::new();
    let mut ended = None;
    while let Some(event) = generation.next().await {
        match event {
            Event::Token { .. } if ended.is_some() => {}
            Event::Token { text, log_probability, .. } => {
                answer.first_token.get_or_insert_with(|| submitted.elapsed());
                answer.generated += 1;
                answer.log_probability_sum += log_probability;
                if text.is_empty() {
                    continue;
                }
                raw.push_str(&text);
                answer.text = prompt.join(&raw);
                if let Some(pilot) = pilot {
                    pilot.tell(&answer.text);
                }
                let end = if postprocess::is_over(&answer.text, around) {
                    Stop::EndOfBlock
                } else if postprocess::is_looping(&answer.text) {
                    Stop::Repetition
                } else {
                    continue;
                };
                // The engine goes on to the next request; what comes after is the statistics.
                generation.stop();
                ended.get_or_insert(end);
            }
            Event::Finished { reason, text, stats } => {
                raw.push_str(&text);
                answer.text = prompt.join(&raw);
                answer.stop = ended.unwrap_or(reason.into());
                answer.stats = Some(stats);
                answer.total = submitted.elapsed();
                return Ok(answer);
            }
            Event::Failed(error) => return Err(error),
        }
    }
    Err(EngineError::Stopped("it went away before the answer was complete".into()))
}
