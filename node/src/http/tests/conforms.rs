//! Whether answers are those that an OpenAPI document describes. Part of this crate's own tests, and of those of running nodes.
use serde_json::Value;

/// What is wrong with an answer to this method and path (its status, content type, and body if that is JSON), if anything:
/// the document has to know the status, the type and the form.
pub(crate) fn fault(
    document: &Value,
    (method, path): (&str, &str),
    (status, kind, json): (u16, &str, &Value),
) -> Option<String> {
    let response = &document["paths"][path][method]["responses"][status.to_string()];
    if !response.is_object() {
        return Some(format!("{status} is not in the document"));
    }
    let schema = &response["content"][kind]["schema"];
    if !schema.is_object() && !schema.is_boolean() {
        return Some(format!("{kind:?} is not in the document"));
    }
    // Errors have members of their own besides those that all have.
    let is_error = status >= 400;
    let has_form = kind.ends_with("json") && schema["type"] != "string" && !is_error;
    if has_form { conforms(document, schema, json, "").err() } else { None }
}

/// Whether a value has the form of a schema, as far as ours use JSON Schema: types, members, references, alternatives.
/// What the schema does not name is a fault, too.
fn conforms(document: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    if schema.as_bool() == Some(true) || schema.as_object().is_some_and(serde_json::Map::is_empty) {
        return Ok(());
    }
    if let Some(name) = schema["$ref"].as_str() {
        let target = document.pointer(name.strip_prefix('#').unwrap()).ok_or_else(|| format!("{at}: no {name}"))?;
        return conforms(document, target, value, at);
    }
    if let Some(all) = schema["anyOf"].as_array().or_else(|| schema["oneOf"].as_array()) {
        let faults: Vec<String> = all.iter().filter_map(|one| conforms(document, one, value, at).err()).collect();
        return if faults.len() < all.len() { Ok(()) } else { Err(faults.join("; ")) };
    }
    let is = |name: &str| match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    };
    let fits = match &schema["type"] {
        Value::String(name) => is(name),
        Value::Array(names) => names.iter().filter_map(Value::as_str).any(is),
        _ => true,
    };
    if !fits {
        return Err(format!("{at}: {value} is not of type {}", schema["type"]));
    }
    if let (Some(items), Some(all)) = (schema.get("items"), value.as_array()) {
        for (i, one) in all.iter().enumerate() {
            conforms(document, items, one, &format!("{at}/{i}"))?;
        }
    }
    let Some(members) = value.as_object() else { return Ok(()) };
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !members.contains_key(name) {
            return Err(format!("{at}: {name} is missing"));
        }
    }
    for (name, member) in members {
        let more = schema.get("additionalProperties");
        let of = schema["properties"].get(name).or(more);
        let of = of.ok_or_else(|| format!("{at}: {name} is in no schema"))?;
        conforms(document, of, member, &format!("{at}/{name}"))?;
    }
    Ok(())
}
