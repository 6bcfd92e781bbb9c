//! JSON Schema, compiled once: what a client's or a backend's JSON has to look like.

use super::refusal::Refusal;
use serde_json::Value;

/// Characters of a fault that is told.
const FAULT_CHARS_MAX: usize = 200;

pub struct Schema(Option<jsonschema::Validator>);

impl Schema {
    /// Of a schema that a profile's check has accepted. One it would not have accepted refuses everything.
    pub fn compile(schema: &Value) -> Schema {
        Schema(jsonschema::validator_for(schema).ok())
    }

    /// Checks validated JSON; the first fault names the place by its JSON pointer, below `at`.
    pub fn check(&self, raw: &str, at: &str) -> Result<(), Refusal> {
        let fault = |pointer: &str, why: &str| {
            let why: String = why.chars().take(FAULT_CHARS_MAX).collect();
            Refusal::InvalidData { pointer: format!("{at}{pointer}").into(), why: why.into() }
        };
        let Some(validator) = &self.0 else { return Err(fault("", "has no schema it could fit")) };
        let value: Value = serde_json::from_str(raw).map_err(|error| fault("", &error.to_string()))?;
        validator.validate(&value).map_err(|error| fault(error.instance_path().as_str(), &error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_first_fault_is_named() {
        let schema = Schema::compile(&json!({
            "type": "object",
            "required": ["id"],
            "properties": { "id": { "type": "string" }, "amount": { "type": "number", "minimum": 0 } },
        }));
        for (raw, fault) in [
            (r#"{"id":"a"}"#, None),
            (r#"{"id":"a","amount":1.5,"more":[]}"#, None),
            (r#"{"id":"a","amount":-1}"#, Some("/data/amount")),
            (r#"{"amount":1}"#, Some("/data")),
            ("7", Some("/data")),
        ] {
            let found = schema.check(raw, "/data").err().map(|refusal| match refusal {
                Refusal::InvalidData { pointer, .. } => pointer.to_string(),
                other => panic!("{other:?}"),
            });
            assert_eq!(found.as_deref(), fault, "{raw}");
        }
    }
}
