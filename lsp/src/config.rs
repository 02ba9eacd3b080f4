//! The settings: one struct, one table that names, bounds and describes each of them, and the way from an
//! editor's JSON to a checked [`Config`].
//!
//! `lacuna config schema` prints the table as JSON Schema; the editors' own setting lists are generated from it.

use std::hash::{Hash, Hasher};

use lacuna_inference::{Device, PageFormat};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// The section under which editors send Lacuna's settings.
pub const SECTION: &str = "lacuna";

/// Resolved settings. Field names are the wire's keys in camelCase.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    pub model: String,
    pub draft_model: String,
    pub prompt_style: PromptStyleSetting,
    pub device: String,
    pub threads: usize,
    pub unload_after_minutes: u64,
    pub gpu_cache: String,
    pub max_tokens: usize,
    pub max_characters: usize,
    pub deadline_ms: u64,
    pub debounce_ms: u64,
    pub prefix_tokens: usize,
    pub suffix_tokens: usize,
    pub context_tokens: usize,
    pub multi_line: MultiLine,
    pub alternatives: usize,
    /// 0 leaves it to the model's size.
    pub beams: usize,
    /// Percent. Measured by replaying files key by key: `evals/results/confidence.md`.
    pub least_confidence: usize,
    pub warm_up: bool,
    pub prefetch: bool,
    pub languages: Vec<String>,
    pub disabled_globs: Vec<String>,
    pub completion_fallback: CompletionFallback,
    pub status_notifications: bool,
    pub log_level: LogLevel,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PromptStyleSetting {
    Auto,
    Fim,
    Chat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MultiLine {
    Auto,
    Never,
    Always,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CompletionFallback {
    Auto,
    Never,
    Always,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    /// As a filter for `tracing`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            model: "embedded".into(),
            draft_model: String::new(),
            prompt_style: PromptStyleSetting::Auto,
            device: Device::Auto.to_string(),
            threads: 0,
            unload_after_minutes: 0,
            gpu_cache: PageFormat::default().to_string(),
            max_tokens: 96,
            max_characters: 2000,
            deadline_ms: 3000,
            debounce_ms: 0,
            prefix_tokens: 1024,
            suffix_tokens: 256,
            context_tokens: 512,
            multi_line: MultiLine::Auto,
            alternatives: 3,
            beams: 0,
            least_confidence: 40,
            warm_up: true,
            prefetch: true,
            languages: Vec::new(),
            disabled_globs: [
                ".env*",
                "*.pem",
                "*.key",
                "*.p12",
                "id_rsa*",
                "id_ed25519*",
                ".netrc",
                ".npmrc",
            ]
            .map(String::from)
            .to_vec(),
            completion_fallback: CompletionFallback::Auto,
            status_notifications: false,
            log_level: LogLevel::Info,
        }
    }
}

impl Config {
    /// What an engine is started with: when it changes, the engine is started anew.
    pub fn engine(&self) -> (&str, &str, &str, usize, u64, &str) {
        let minutes = self.unload_after_minutes;
        (&self.model, &self.draft_model, &self.device, self.threads, minutes, &self.gpu_cache)
    }

    /// Equal for settings that give equal completions; part of the result cache's key.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = rustc_hash::FxHasher::default();
        self.hash(&mut hasher);
        hasher.finish()
    }
}

enum Kind {
    Text,
    /// May be empty, which turns the thing off.
    OptionalText,
    /// As [`Device`] reads it.
    Device,
    Choice(&'static [&'static str]),
    Integer {
        min: u64,
        max: u64,
    },
    TextList,
    Flag,
}

struct Field {
    key: &'static str,
    kind: Kind,
    description: &'static str,
}

/// Every setting, in the order in which editors show them.
const FIELDS: &[Field] = &[
    Field {
        key: "model",
        kind: Kind::Text,
        description: "The model that completes: `embedded` for the one inside the program, or the path of a GGUF file.",
    },
    Field {
        key: "draftModel",
        kind: Kind::OptionalText,
        description: "The path of a GGUF file with a smaller model of the same vocabulary, which guesses ahead for the model; \
            empty means none. Completions stay the same; they come sooner where the guesses are right.",
    },
    Field {
        key: "promptStyle",
        kind: Kind::Choice(&["auto", "fim", "chat"]),
        description: "How the model is asked. `fim` uses its fill-in-the-middle tokens, `chat` its chat template; `auto` \
            takes `chat` only for models that were tuned for chat and not for fill-in-the-middle.",
    },
    Field {
        key: "device",
        kind: Kind::Device,
        description: "Where the model runs: `auto`, `cpu`, `cuda` or `cuda:N`. `auto` takes a usable GPU if there is one, of \
            several the one with the most free memory; `cuda` is the first NVIDIA GPU, `cuda:1` the second.",
    },
    Field {
        key: "threads",
        kind: Kind::Integer { min: 0, max: 256 },
        description: "CPU threads for the model; 0 takes one for each core.",
    },
    Field {
        key: "unloadAfterMinutes",
        kind: Kind::Integer { min: 0, max: 10_080 },
        description: "Minutes without a completion after which the model leaves the GPU's memory; the next completion \
            loads it again. 0 keeps it.",
    },
    Field {
        key: "gpuCache",
        kind: Kind::Choice(&["bf16", "fp8"]),
        description: "How a GPU keeps what it has read of the text. `fp8` takes half the memory of `bf16` and costs a \
            little accuracy. The CPU ignores it.",
    },
    Field {
        key: "maxTokens",
        kind: Kind::Integer { min: 1, max: 2048 },
        description: "The most tokens the model generates for one completion.",
    },
    Field {
        key: "maxCharacters",
        kind: Kind::Integer { min: 1, max: 100_000 },
        description: "The most characters of a completion that are shown; longer ones are cut at the end of a line.",
    },
    Field {
        key: "deadlineMs",
        kind: Kind::Integer { min: 10, max: 600_000 },
        description: "Milliseconds after which generation stops; what is there by then is shown.",
    },
    Field {
        key: "debounceMs",
        kind: Kind::Integer { min: 0, max: 5000 },
        description: "Milliseconds to wait after a key press before the model is asked. Editors usually wait themselves.",
    },
    Field {
        key: "prefixTokens",
        kind: Kind::Integer { min: 16, max: 131_072 },
        description: "The most tokens of text before the cursor that are shown to the model.",
    },
    Field {
        key: "suffixTokens",
        kind: Kind::Integer { min: 0, max: 131_072 },
        description: "The most tokens of text after the cursor that are shown to the model.",
    },
    Field {
        key: "contextTokens",
        kind: Kind::Integer { min: 0, max: 131_072 },
        description: "The most tokens of definitions from other files that are shown to the model; 0 turns them off.",
    },
    Field {
        key: "multiLine",
        kind: Kind::Choice(&["auto", "never", "always"]),
        description: "Whether a completion may have several lines. `auto` decides by the syntax at the cursor: several \
            where a block opens, else one.",
    },
    Field {
        key: "alternatives",
        kind: Kind::Integer { min: 1, max: 8 },
        description: "How many different completions are offered when asked for explicitly.",
    },
    Field {
        key: "beams",
        kind: Kind::Integer { min: 0, max: 8 },
        description: "How many answers of one line are followed side by side to find the likeliest whole one that fits; 1 \
            takes the likeliest token at each place. 0 follows 4 with small models, such as the embedded one, and 1 with others.",
    },
    Field {
        key: "leastConfidence",
        kind: Kind::Integer { min: 0, max: 100 },
        description: "Completions that come by themselves are shown when the model gives their tokens at least this \
            probability, in percent, on the geometric mean; 0 shows all. One that is asked for is always shown.",
    },
    Field {
        key: "warmUp",
        kind: Kind::Flag,
        description: "Whether the model reads the text around the cursor ahead, when a file is opened or the cursor comes \
            to rest somewhere, so that the first completion there comes sooner.",
    },
    Field {
        key: "prefetch",
        kind: Kind::Flag,
        description: "Whether the completion that follows a shown one is made while that is still being read.",
    },
    Field {
        key: "languages",
        kind: Kind::TextList,
        description: "Language identifiers, such as `python`, in which Lacuna completes; empty means all.",
    },
    Field {
        key: "disabledGlobs",
        kind: Kind::TextList,
        description: "Files in which Lacuna does not complete, in the syntax of .gitignore.",
    },
    Field {
        key: "completionFallback",
        kind: Kind::Choice(&["auto", "never", "always"]),
        description: "Whether completions are also offered in the ordinary completion menu. `auto` does so only in \
            editors that cannot show inline completions.",
    },
    Field {
        key: "statusNotifications",
        kind: Kind::Flag,
        description: "Whether the server reports each change of its state by a `lacuna/status` notification.",
    },
    Field {
        key: "logLevel",
        kind: Kind::Choice(&["error", "warn", "info", "debug", "trace"]),
        description: "How much is logged to standard error; the LACUNA_LOG environment variable wins.",
    },
];

/// Settings read from an editor's JSON, with what was wrong with it in words for people.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    pub config: Config,
    pub problems: Vec<String>,
}

/// Reads `{"lacuna": {...}}` or the bare object. Unknown keys and bad values are reported and left at their default;
/// `null` means all defaults.
pub fn resolve(wire: &Value) -> Resolved {
    let section = wire.get(SECTION).unwrap_or(wire);
    let mut problems = Vec::new();
    let mut settings = defaults();
    match section {
        Value::Null => {}
        Value::Object(given) => {
            for (key, value) in given {
                match FIELDS.iter().find(|field| field.key == key) {
                    None => problems.push(unknown(key)),
                    Some(_) if value.is_null() => {}
                    Some(field) => match field.kind.check(value) {
                        Ok(()) => {
                            settings.insert(key.clone(), value.clone());
                        }
                        Err(wanted) => problems.push(format!(
                            "the setting `{SECTION}.{key}` is {value} but must be {wanted}; {} is used",
                            settings.get(key).unwrap_or(&Value::Null)
                        )),
                    },
                }
            }
        }
        other => problems.push(format!("the settings must be an object, not {other}; the defaults are used")),
    }
    match serde_json::from_value(Value::Object(settings)) {
        Ok(config) => Resolved { config, problems },
        Err(error) => {
            problems.push(format!("the settings were not understood ({error}); the defaults are used"));
            Resolved { config: Config::default(), problems }
        }
    }
}

/// The settings as JSON Schema.
pub fn schema() -> Value {
    let defaults = defaults();
    let properties: Map<String, Value> = FIELDS
        .iter()
        .map(|field| {
            let mut property = match field.kind {
                Kind::Text | Kind::OptionalText => json!({ "type": "string" }),
                Kind::Device => json!({ "type": "string", "pattern": "^(auto|cpu|cuda(:[0-9]+)?)$" }),
                Kind::Choice(choices) => json!({ "type": "string", "enum": choices }),
                Kind::Integer { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
                Kind::TextList => json!({ "type": "array", "items": { "type": "string" } }),
                Kind::Flag => json!({ "type": "boolean" }),
            };
            property["description"] = field.description.into();
            property["default"] = defaults.get(field.key).cloned().unwrap_or(Value::Null);
            (field.key.to_string(), property)
        })
        .collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Lacuna settings",
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
    })
}

impl Kind {
    /// `Err` says in words what the value must be.
    fn check(&self, value: &Value) -> Result<(), String> {
        let (fits, wanted) = match self {
            Kind::Text => (value.as_str().is_some_and(|text| !text.is_empty()), "a text".to_string()),
            Kind::OptionalText => (value.is_string(), "a text".to_string()),
            Kind::Device => (
                value.as_str().is_some_and(|text| text.parse::<Device>().is_ok()),
                "auto, cpu, cuda or cuda:N".to_string(),
            ),
            Kind::Choice(choices) => (
                value.as_str().is_some_and(|text| choices.contains(&text)),
                format!(
                    "one of {}",
                    choices.iter().map(|choice| format!("\"{choice}\"")).collect::<Vec<_>>().join(", ")
                ),
            ),
            Kind::Integer { min, max } => (
                value.as_u64().is_some_and(|number| (*min..=*max).contains(&number)),
                format!("a whole number from {min} to {max}"),
            ),
            Kind::TextList => (
                value.as_array().is_some_and(|list| list.iter().all(Value::is_string)),
                "a list of texts".to_string(),
            ),
            Kind::Flag => (value.is_boolean(), "true or false".to_string()),
        };
        if fits { Ok(()) } else { Err(wanted) }
    }
}

fn defaults() -> Map<String, Value> {
    match serde_json::to_value(Config::default()) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

fn unknown(key: &str) -> String {
    let nearest = FIELDS
        .iter()
        .map(|field| (field.key, distance(&field.key.to_lowercase(), &key.replace('_', "").to_lowercase())))
        .min_by_key(|&(_, distance)| distance)
        .filter(|&(_, distance)| distance <= 3);
    match nearest {
        Some((meant, _)) => format!("unknown setting `{SECTION}.{key}`; did you mean `{SECTION}.{meant}`?"),
        None => format!("unknown setting `{SECTION}.{key}`; `lacuna config schema` lists the known ones"),
    }
}

/// Levenshtein distance in characters.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, &b) in right.iter().enumerate() {
            let substituted = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(wire: Value, expected: Expect) {
        let resolved = resolve(&wire);
        let defaults = defaults();
        let Ok(Value::Object(config)) = serde_json::to_value(&resolved.config) else {
            panic!("a config is an object")
        };
        let changed: Map<String, Value> =
            config.into_iter().filter(|(key, value)| defaults.get(key) != Some(value)).collect();
        let mut lines = vec![Value::Object(changed).to_string()];
        lines.extend(resolved.problems);
        expected.assert_eq(&lines.join("\n"));
    }

    #[test]
    fn settings_are_resolved_and_problems_named() {
        check(json!(null), expect!["{}"]);
        check(json!({}), expect!["{}"]);
        check(json!({ "maxTokens": 12 }), expect![[r#"{"maxTokens":12}"#]]);
        check(json!({ "lacuna": { "maxTokens": 12, "model": null } }), expect![[r#"{"maxTokens":12}"#]]);
        check(
            json!({ "max_tokens": 12 }),
            expect![[r#"
                {}
                unknown setting `lacuna.max_tokens`; did you mean `lacuna.maxTokens`?"#]],
        );
        check(
            json!({ "colour": "red", "multiLine": "never" }),
            expect![[r#"
                {"multiLine":"never"}
                unknown setting `lacuna.colour`; `lacuna config schema` lists the known ones"#]],
        );
        check(
            json!({ "maxTokens": -1, "promptStyle": "FIM", "languages": ["python", 3], "statusNotifications": 1 }),
            expect![[r#"
                {}
                the setting `lacuna.languages` is ["python",3] but must be a list of texts; [] is used
                the setting `lacuna.maxTokens` is -1 but must be a whole number from 1 to 2048; 96 is used
                the setting `lacuna.promptStyle` is "FIM" but must be one of "auto", "fim", "chat"; "auto" is used
                the setting `lacuna.statusNotifications` is 1 but must be true or false; false is used"#]],
        );
        check(
            json!({ "device": "cuda:1", "draftModel": "small.gguf", "unloadAfterMinutes": 10 }),
            expect![[r#"{"device":"cuda:1","draftModel":"small.gguf","unloadAfterMinutes":10}"#]],
        );
        check(
            json!({ "device": "gpu", "draftModel": null }),
            expect![[r#"
                {}
                the setting `lacuna.device` is "gpu" but must be auto, cpu, cuda or cuda:N; "auto" is used"#]],
        );
        check(
            json!([1]),
            expect![[r#"
                {}
                the settings must be an object, not [1]; the defaults are used"#]],
        );
    }

    #[test]
    fn the_table_names_every_setting_once_and_its_default_is_allowed() {
        let defaults = defaults();
        let mut table: Vec<&str> = FIELDS.iter().map(|field| field.key).collect();
        table.sort_unstable();
        let mut settings: Vec<&str> = defaults.keys().map(String::as_str).collect();
        settings.sort_unstable();
        assert_eq!(table, settings);
        for field in FIELDS {
            assert_eq!(field.kind.check(&defaults[field.key]), Ok(()), "{}", field.key);
        }
    }
}
