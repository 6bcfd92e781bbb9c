//! The OpenAPI 3.1 document of the API, served as it is at `/api/v1/openapi.json`.
//!
//! Invariant: it says what the decoder does. The tests ask the decoder for every path, method, parameter, example and key of the document,
//! and the document for every route and every error of the decoder.

/// The document: JSON, UTF-8.
pub const TEXT: &str = include_str!("openapi.json");

#[cfg(test)]
mod tests {
    use super::super::{
        tests::{Asked, every_error, head},
        *,
    };
    use super::TEXT;
    use crate::base::limit::{
        DELIVERY_RETRIES, DELIVERY_TIMEOUT_MS, EVENT_NAME_BYTES_MAX, HISTORY_PAGE_MAX, PRESENCE_MEMBERS_MAX,
        SUBSCRIBE_ITEMS_MAX,
    };
    use serde_json::{Value, json};
    use std::collections::{BTreeMap, BTreeSet};

    fn document() -> Value {
        serde_json::from_str(TEXT).unwrap()
    }

    /// The value itself, or what its `$ref` names.
    fn resolve<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            Some(name) => {
                document.pointer(name.strip_prefix('#').unwrap()).unwrap_or_else(|| panic!("{name} is not there"))
            }
            None => value,
        }
    }

    fn operations(document: &Value) -> Vec<(&str, String, &Value)> {
        let paths = document["paths"].as_object().unwrap();
        paths
            .iter()
            .flat_map(|(path, methods)| {
                methods
                    .as_object()
                    .unwrap()
                    .iter()
                    .map(move |(method, operation)| (&**path, method.to_uppercase(), operation))
            })
            .collect()
    }

    fn access() -> Access {
        Access { api_keys: ApiKeys::parse(["key"]).unwrap(), ..Access::default() }
    }

    fn ask(method: &str, path: &str, query: &str, body: &[u8]) -> Result<Decoded, Error> {
        let target = format!("{path}?{query}");
        let asked =
            Asked { method, target: &target, body, content_type: Some("application/json"), bearer: Some("key") };
        read(&head(asked).unwrap(), body, &access(), UnixMs(0))
    }

    /// Path and query with the document's example for every parameter.
    fn filled(document: &Value, path: &str, operation: &Value) -> (String, String) {
        let (mut path, mut query) = (path.to_owned(), Vec::new());
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let parameter = resolve(document, parameter);
            let name = parameter["name"].as_str().unwrap();
            let example = match &parameter["example"] {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            match parameter["in"].as_str() {
                Some("path") => {
                    let before = path.clone();
                    path = path.replace(&format!("{{{name}}}"), &example);
                    assert_ne!(path, before, "{name} is in the path");
                }
                _ => query.push(format!("{name}={example}")),
            }
        }
        assert!(!path.contains('{'), "{path}: every parameter is described");
        (path, query.join("&"))
    }

    #[test]
    fn every_operation_and_every_example_is_accepted() {
        let document = document();
        let mut bodies = 0;
        for (path, method, operation) in operations(&document) {
            let (path, query) = filled(&document, path, operation);
            let examples =
                operation.pointer("/requestBody/content/application~1json/examples").and_then(Value::as_object);
            let examples: Vec<_> = match examples {
                Some(examples) => examples.values().map(|example| example["value"].to_string()).collect(),
                None => vec![String::new()],
            };
            for body in examples {
                bodies += usize::from(!body.is_empty());
                let answer = ask(&method, &path, &query, body.as_bytes());
                let status = match &answer {
                    Ok(_) => operation["responses"]
                        .as_object()
                        .unwrap()
                        .keys()
                        .find(|status| status.starts_with('2'))
                        .cloned(),
                    Err(Error::CacheUnavailable | Error::JobsUnavailable) => Some("503".to_owned()),
                    Err(error) => panic!("{method} {path}?{query} {body}: {error}"),
                };
                let status = status.unwrap_or_else(|| panic!("{method} {path} documents no success"));
                assert!(operation["responses"].get(&status).is_some(), "{method} {path} documents {status}");
            }
        }
        assert_eq!(bodies, 8, "the examples were found");
    }

    #[test]
    fn the_document_knows_exactly_the_routes_of_the_decoder() {
        let document = document();
        let written: BTreeSet<_> =
            operations(&document).into_iter().map(|(path, method, _)| (path.to_owned(), method)).collect();
        let own = ROUTES.iter().map(|route| {
            (format!("{PREFIX}tenants/{{tenant}}/{}", route.path), format!("{:?}", route.method).to_uppercase())
        });
        let own: BTreeSet<_> = own.chain([(format!("{PREFIX}openapi.json"), "GET".to_owned())]).collect();
        assert_eq!(written, own);
    }

    #[test]
    fn every_documented_error_exists_and_every_error_is_documented() {
        let document = document();
        let mut written = BTreeMap::<u16, BTreeSet<String>>::new();
        for (path, method, operation) in operations(&document) {
            for (status, response) in operation["responses"].as_object().unwrap() {
                if status.starts_with('2') {
                    continue;
                }
                let response = resolve(&document, response);
                let examples = response.pointer("/content/application~1json/examples").and_then(Value::as_object);
                for example in examples.unwrap_or_else(|| panic!("{method} {path} {status} has examples")).values() {
                    let code = example["value"]["code"].as_str().unwrap().to_owned();
                    written.entry(status.parse().unwrap()).or_default().insert(code);
                }
            }
        }
        let mut own = BTreeMap::<u16, BTreeSet<String>>::new();
        for error in every_error() {
            let (status, code) = error.row();
            own.entry(status).or_default().insert(code.to_owned());
        }
        assert_eq!(written, own);
    }

    /// An example of an answer has exactly the fields its schema describes, down to the leaves; required ones are all there.
    #[test]
    fn every_answer_has_the_shape_of_its_schema() {
        fn check(document: &Value, schema: &Value, example: &Value, at: &str) {
            let schema = resolve(document, schema);
            for name in schema["required"].as_array().into_iter().flatten() {
                assert!(example.get(name.as_str().unwrap()).is_some(), "{at} lacks {name}");
            }
            if let (Some(properties), Some(fields)) = (schema["properties"].as_object(), example.as_object()) {
                for (name, value) in fields {
                    let property = properties.get(name).unwrap_or_else(|| panic!("{at}/{name} is not described"));
                    check(document, property, value, &format!("{at}/{name}"));
                }
            }
            for (index, item) in example.as_array().into_iter().flatten().enumerate() {
                check(document, &schema["items"], item, &format!("{at}/{index}"));
            }
        }
        let document = document();
        let mut checked = 0;
        for (path, method, operation) in operations(&document) {
            for (status, response) in operation["responses"].as_object().unwrap() {
                let content = &resolve(&document, response)["content"]["application/json"];
                let examples =
                    content["examples"].as_object().into_iter().flatten().map(|(_, example)| &example["value"]);
                for example in examples.chain(content.get("example")) {
                    check(&document, &content["schema"], example, &format!("{method} {path} {status}"));
                    checked += 1;
                }
            }
        }
        assert!(checked > 50, "{checked} examples");
    }

    #[test]
    fn the_schema_of_an_event_is_what_the_decoder_takes() {
        let document = document();
        let schema = &document["components"]["schemas"]["Event"];
        assert_eq!(schema["additionalProperties"], false, "the decoder refuses unknown keys");
        let written: BTreeSet<_> = schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(written, EVENT_KEYS.iter().copied().collect());
        assert_eq!(schema["properties"]["type"]["not"]["enum"], json!(RESERVED_TYPES));

        let take = |event: &Value| ask("POST", "/api/v1/tenants/acme/events", "", event.to_string().as_bytes());
        // Keys that an event must have, found by leaving each out of a full one.
        let full = json!({ "id": "1", "type": "t", "room": "r", "entity": { "type": "task", "id": "7" }, "data": 1, "ephemeral": true,
            "to": { "roles": ["a"], "permissions": ["b"] } });
        take(&full).unwrap();
        for (place, schema) in [("", schema), ("/entity", &document["components"]["schemas"]["Entity"])] {
            let keys: Vec<_> = full.pointer(place).unwrap().as_object().unwrap().keys().cloned().collect();
            for key in keys {
                let mut less = full.clone();
                less.pointer_mut(place).unwrap().as_object_mut().unwrap().remove(&key);
                let required = schema["required"].as_array().unwrap().contains(&json!(key));
                assert_eq!(take(&less).is_err(), required, "without {place}/{key}");
            }
        }
        // Lengths: the longest and one more, the shortest and one less.
        let limited = [("/id", 256), ("/type", 256), ("/entity/type", 256), ("/entity/id", 256), ("/to/roles/0", 256)];
        for (place, max) in limited {
            for (length, fits) in [(0, false), (1, true), (max, true), (max + 1, false)] {
                let mut event = full.clone();
                *event.pointer_mut(place).unwrap() = json!("x".repeat(length));
                assert_eq!(take(&event).is_ok(), fits, "{place} of {length}");
            }
        }
        for excluded in schema["allOf"].as_array().unwrap() {
            let mut event = json!({ "type": "t" });
            for key in excluded["not"]["required"].as_array().unwrap() {
                let key = key.as_str().unwrap();
                event[key] = if key == "entity" { full[key].clone() } else { json!("x") };
            }
            assert!(take(&event).is_err(), "{event}");
        }
    }

    #[test]
    fn the_numbers_are_the_servers() {
        let document = document();
        for (pointer, number) in [
            (
                "/paths/~1api~1v1~1tenants~1{tenant}~1events/post/requestBody/content/application~1json/schema/oneOf/1/maxItems",
                PUBLISH_BATCH_MAX,
            ),
            ("/components/parameters/limit/schema/maximum", HISTORY_PAGE_MAX),
            ("/components/parameters/limit/schema/default", HISTORY_LIMIT_DEFAULT),
            ("/components/parameters/tenant/schema/maxLength", TENANT_BYTES_MAX),
            ("/components/parameters/user/schema/maxLength", TENANT_BYTES_MAX),
            ("/components/schemas/Event/properties/id/maxLength", EVENT_NAME_BYTES_MAX),
            ("/components/schemas/Event/properties/type/maxLength", EVENT_NAME_BYTES_MAX),
            ("/components/schemas/Event/properties/user/maxLength", TENANT_BYTES_MAX),
            ("/components/schemas/Ack/properties/timeoutMs/default", DELIVERY_TIMEOUT_MS.0 as usize),
            ("/components/schemas/Ack/properties/timeoutMs/minimum", DELIVERY_TIMEOUT_MS.1 as usize),
            ("/components/schemas/Ack/properties/timeoutMs/maximum", DELIVERY_TIMEOUT_MS.2 as usize),
            ("/components/schemas/Ack/properties/retries/default", DELIVERY_RETRIES.0 as usize),
            ("/components/schemas/Ack/properties/retries/maximum", DELIVERY_RETRIES.1 as usize),
            ("/components/schemas/Names/maxItems", SUBSCRIBE_ITEMS_MAX),
            ("/components/schemas/History/properties/events/maxItems", HISTORY_PAGE_MAX),
            ("/components/schemas/Presence/properties/members/maxItems", PRESENCE_MEMBERS_MAX),
        ] {
            assert_eq!(document.pointer(pointer), Some(&json!(number)), "{pointer}");
        }
    }
}
